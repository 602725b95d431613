"""A `Fit` comes in; how far its draws are to be trusted goes out: numbers, what they mean, what to try.

Source of the limits: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2); of Pareto k̂:
Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25.
"""

import html
import itertools
import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from hierpanel.compiler import scales
from hierpanel.inference.diagnostics import diagnose
from hierpanel.results.summary import marks
from hierpanel.spec import ModelSpec

# What draws must reach to go without a warning.
R_HAT, ESS_PER_CHAIN, PARETO_K = 1.01, 100, 0.7
# Columns of text after a diagnostic's name, value and limit.
WIDTH = 62


class Diagnostics(dict[str, Any]):
    """Numbers by name, as a dict; printed with what each of them means, and with what is wrong.

    divergences, max_r_hat, min_ess, chains, draws; pareto_k by the marginal route.
    least_mixed : the quantity whose R̂ is largest; least_known : the one with the fewest effective draws.
    """

    least_mixed: str = ""
    least_known: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """One plain sentence for each thing that is wrong with the draws, and what to try."""
        total = self["chains"] * self["draws"]
        sentences = []
        if self["divergences"]:
            sentences.append(
                f"{self['divergences']:,} of {total:,} draws diverged, so parts of the posterior may be missing: try "
                "target_accept=0.99, a tighter prior on the sds, or parameterization='centered' where units have many "
                "rows."
            )
        if self["max_r_hat"] > R_HAT:
            sentences.append(
                f"The chains do not agree yet (largest R̂ {self['max_r_hat']:.3f}, above {R_HAT}), so the numbers "
                "are not to be trusted: try more tune= and draws=."
            )
        if self["min_ess"] < ESS_PER_CHAIN * self["chains"]:
            sentences.append(
                f"The smallest effective sample size is {self['min_ess']:,.0f}, below {ESS_PER_CHAIN} per chain: "
                "means and intervals are rough; try more draws=."
            )
        if self["draws"] < 4:
            sentences.append("With fewer than 4 draws in a chain nothing tells how good they are; use draws=1000.")
        if self["chains"] == 1:
            sentences.append("With one chain R̂ cannot be computed; use chains=4 to see whether chains agree.")
        return tuple(sentences)

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """Name, value, what is good, and meaning of each number."""
        found = [
            (
                "largest R̂",
                _shown(self["max_r_hat"], ".3f"),
                f"≤ {R_HAT}",
                "spread of all chains together relative to the spread within each; near 1, chains agree"
                + (f" (here: {self.least_mixed})" if self.least_mixed else ""),
            ),
            (
                "smallest ESS",
                _shown(self["min_ess"], ",.0f"),
                f"≥ {ESS_PER_CHAIN * self['chains']:,}",
                "independent draws that would say as much about a mean or a tail"
                + (f" (here: {self.least_known})" if self.least_known else ""),
            ),
        ]
        if self["divergences"] or "pareto_k" not in self:
            meaning = "steps of NUTS that lost their way; the posterior may have parts that they could not enter"
            found.insert(0, ("divergences", f"{self['divergences']:,}", "0", meaning))
        if "pareto_k" in self:
            meaning = "how well the proposals of the marginal route cover the posterior; beyond the limit it takes NUTS"
            found.append(("Pareto k̂", f"{self['pareto_k']:.2f}", f"≤ {PARETO_K}", meaning))
        return found

    def __str__(self) -> str:
        title = f"{self['chains']} chains of {self['draws']:,} draws"
        lines = [title, f"{'':<14}{'value':>9}  {'good':<8}meaning"]
        for name, value, good, meaning in self.rows:
            first, *rest = textwrap.wrap(meaning, WIDTH)
            lines += [f"{name:<{14 + marks(name)}}{value:>9}  {good:<8}{first}", *(" " * 33 + line for line in rest)]
        said = [f"! {problem}" for problem in self.problems] or ["Nothing is wrong with these draws."]
        return "\n".join([*lines, *(line for one in said for line in textwrap.wrap(one, 33 + WIDTH))])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        head = "<tr><th></th><th>value</th><th>good</th><th>meaning</th></tr>"
        said = "".join(f"<p>{html.escape(problem)}</p>" for problem in self.problems)
        return f"<p>{self['chains']} chains of {self['draws']:,} draws</p><table>{head}{rows}</table>{said}"


def diagnostics(fit: Any) -> Diagnostics:
    """Diagnose coefficients, sds, correlations and the family's parameters; see `Fit.diagnostics`."""
    draws, labels = scalars(fit.spec, fit.stored_draws()), names(fit)
    bulk, tail, r_hat = diagnose(draws)
    stats = fit.idata["sample_stats"]
    found = Diagnostics(
        divergences=int(stats["diverging"].sum()) if "diverging" in stats.data_vars else 0,
        max_r_hat=float(np.nanmax(r_hat)) if np.isfinite(r_hat).any() else math.nan,
        min_ess=float(np.nanmin([bulk, tail])) if np.isfinite(bulk).any() else math.nan,
        chains=draws.shape[0],
        draws=draws.shape[1],
    )
    if "pareto_k" in stats.attrs:
        found["pareto_k"] = float(stats.attrs["pareto_k"])
    if np.isfinite(r_hat).any():
        found.least_mixed = labels[int(np.nanargmax(r_hat))]
    if np.isfinite(bulk).any():
        found.least_known = labels[int(np.nanargmin(np.fmin(bulk, tail)))]
    return found


def scalars(spec: ModelSpec, draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return draws (chain, draw, K) of everything but the group effects."""
    lead = next(iter(draws.values())).shape[:2]
    return np.concatenate([draws[name].reshape(*lead, -1) for name in _variables(spec, draws)], axis=2)


def names(fit: Any) -> list[str]:
    """Return the names (K,) of `scalars`, such as "beta[experience]"."""
    found = []
    for name in _variables(fit.spec, fit.stored_draws()):
        values = fit.idata["posterior"][name]
        labels = [[str(label) for label in values[dim].values] for dim in values.dims[2:]]
        found += [f"{name}[{', '.join(place)}]" if place else name for place in itertools.product(*labels)]
    return found


def _variables(spec: ModelSpec, draws: Mapping[str, np.ndarray]) -> list[str]:
    effects = {f"b_{group.name}" for group in spec.groups}
    return [name for name in scales.dims_of(spec) if name in draws and name not in effects]


def _shown(value: float, form: str) -> str:
    return "" if math.isnan(value) else f"{value:{form}}"
