"""Posterior draws come in; pandas tables go out, one row per quantity, with the columns of `COLUMNS`.

Intervals are equal-tailed; the table's corner names their probability.
"""

import html
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.inference.diagnostics import diagnose, varies
from hierpanel.results.summary import number
from hierpanel.spec import ModelSpec

COLUMNS = ("mean", "sd", "lower", "upper", "p_pos", "ess_bulk", "ess_tail", "r_hat")

# Characters that fit in a table's corner; more stand above it.
CORNER = 24
# Every column on one line and every name in full; of more than 60 rows the first and last 12.
_WHOLE = (
    "display.width", 1000, "display.max_columns", None, "display.max_colwidth", None,
    "display.max_rows", 60, "display.min_rows", 24,
)  # fmt: skip


class Table(pd.DataFrame):
    """A DataFrame of posterior summaries that prints all its columns, to three digits of each row's sd."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return Table

    def rounded(self) -> pd.DataFrame:
        """Return the cells as they are printed."""
        if tuple(self.columns) != COLUMNS:
            return self._partly_rounded()
        found = pd.DataFrame(
            {
                **{
                    name: [number(value, sd) for value, sd in zip(self[name], self["sd"], strict=True)]
                    for name in COLUMNS[:4]
                },
                "p_pos": [f"{value:.3f}" for value in self["p_pos"]],
                **{name: ["" if np.isnan(v) else f"{v:,.0f}" for v in self[name]] for name in COLUMNS[5:7]},
                "r_hat": ["" if np.isnan(value) else f"{value:.3f}" for value in self["r_hat"]],
            },
            index=self.index,
        )
        found.columns.name = self.columns.name
        return found

    def _partly_rounded(self) -> pd.DataFrame:
        """Round the columns of a summary that are there; long tables are left as they are."""
        found = pd.DataFrame(self)
        for score, decimals in (("elpd", 1), ("log_evidence", 3)):
            if score in found:
                return found.map(lambda value, digits=decimals: _score(value, digits))
        if "sd" not in found or len(found) > 200:
            return found
        for name in (name for name in COLUMNS[:4] if name in found):
            found[name] = [number(value, sd) for value, sd in zip(self[name], self["sd"], strict=True)]
        if "p_pos" in found:
            found["p_pos"] = [f"{value:.3f}" for value in self["p_pos"]]
        return found

    def __repr__(self) -> str:
        above, shown = self._captioned()
        with pd.option_context(*_WHOLE):
            return above + "\n" * bool(above) + repr(shown)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        above, shown = self._captioned()
        show: Any = shown  # the stubs do not know _repr_html_
        with pd.option_context(*_WHOLE):
            return f"<p>{html.escape(above)}</p>" * bool(above) + str(show._repr_html_())

    def _captioned(self) -> tuple[str, pd.DataFrame]:
        """What is too long for the table's corner, and the cells as they are printed."""
        shown = self.rounded()
        name = str(shown.columns.name or "")
        return (name, shown.rename_axis(columns=None)) if len(name) > CORNER else ("", shown)


def _score(value: Any, decimals: int) -> Any:
    """A weight, a score or a count, as it is printed."""
    if not isinstance(value, float):
        return value
    return f"{value:.3g}" if 0 < abs(value) < 0.0005 else f"{value:,.{decimals if abs(value) > 1 or not value else 3}f}"


def summarise(draws: np.ndarray, index: pd.Index, prob: float = 0.95) -> Table:
    """Summarise draws (chain, draw, K) in K rows.

    Parameters
    ----------
    draws : (chain, draw, K)
    index : (K,) names of the rows
    prob : probability of the equal-tailed interval

    Returns
    -------
    DataFrame with mean, sd, lower, upper, p_pos (P(> 0)), ess_bulk, ess_tail, r_hat. What is constant (a fixed sd) has
    sd 0 and no diagnostics.
    """
    check_prob(prob)
    flat = draws.reshape(-1, draws.shape[-1])
    lower, upper = np.quantile(flat, [(1 - prob) / 2, (1 + prob) / 2], axis=0)
    constant = ~varies(flat, 0)
    bulk, tail, r_hat = diagnose(draws)
    return table_of(
        {
            "mean": flat.mean(axis=0),
            "sd": np.where(constant, 0.0, flat.std(axis=0, ddof=1) if len(flat) > 1 else 0.0),
            "lower": lower,
            "upper": upper,
            "p_pos": (flat > 0).mean(axis=0),
            "ess_bulk": bulk,
            "ess_tail": tail,
            "r_hat": r_hat,
        },
        index,
        prob,
    )


def of_rows(draws: np.ndarray, prob: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, sd and the ends of the equal-tailed interval of each row of draws (m, S): four times (m,)."""
    lower, upper = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2], axis=1)
    sd = draws.std(axis=1, ddof=1) if draws.shape[1] > 1 else np.zeros(len(draws))
    return draws.mean(axis=1), sd, lower, upper


def table_of(columns: Mapping[str, np.ndarray], index: pd.Index, prob: float) -> Table:
    """Return a table of `COLUMNS` that names its interval."""
    table = Table(dict(columns), index=index)
    table.columns.name = f"{100 * prob:g} % equal-tailed"
    table.attrs = {"interval": "equal-tailed", "prob": prob}
    return table


def mixture_columns(means: np.ndarray, sds: np.ndarray, prob: float) -> dict[str, np.ndarray]:
    """Summarise even mixtures of normals, K of them with S components each: the columns of `COLUMNS`.

    Parameters
    ----------
    means, sds : (S, K)

    Returns
    -------
    name → (K,). Nothing is drawn, so there is no effective sample size and no R̂ (NaN).
    """
    check_prob(prob)
    from scipy.special import ndtr

    mean, sd = means.mean(axis=0), np.sqrt((sds**2).mean(axis=0) + means.var(axis=0))
    spread = np.maximum(sds, 1e-9 * np.maximum(sd, np.finfo(float).tiny))
    none = np.full(len(mean), np.nan)
    return {
        "mean": mean,
        "sd": sd,
        "lower": _mixture_quantile(means, spread, (1 - prob) / 2),
        "upper": _mixture_quantile(means, spread, (1 + prob) / 2),
        "p_pos": ndtr(means / spread).mean(axis=0),
        "ess_bulk": none,
        "ess_tail": none,
        "r_hat": none,
    }


def _mixture_quantile(means: np.ndarray, sds: np.ndarray, p: float) -> np.ndarray:
    """Return the quantiles (K,), by bisection that Newton's method finishes."""
    from scipy.special import ndtr, ndtri

    low, high = (means + ndtri(p) * sds).min(axis=0), (means + ndtri(p) * sds).max(axis=0)
    x = (means + ndtri(p) * sds).mean(axis=0)
    for _ in range(60):
        z = (x - means) / sds
        excess = ndtr(z).mean(axis=0) - p
        found = np.abs(excess) < 1e-9
        if found.all():
            break
        low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
        density = (np.exp(-0.5 * z**2) / sds).mean(axis=0) / np.sqrt(2 * np.pi)
        step = x - excess / np.maximum(density, np.finfo(float).tiny)
        x = np.where(found, x, np.where((step > low) & (step < high), step, (low + high) / 2))
    return x


def check_prob(prob: Any) -> None:
    """Raise `FitError` unless prob is a probability."""
    if not isinstance(prob, numbers.Real) or not 0 < float(prob) < 1:
        raise FitError(f"prob is the probability of the interval, between 0 and 1, as in prob=0.95, not {prob!r}")


def fixef(spec: ModelSpec, draws: Mapping[str, np.ndarray], prob: float) -> pd.DataFrame:
    """Return the coefficients, a row each."""
    if not spec.coefs:
        raise FitError("this model has no coefficients; its group effects are in ranef()")
    return summarise(draws["beta"], pd.Index(spec.coefs, name="coef"), prob)


def ranef(name: str, levels: pd.Index, coefs: Sequence[str], draws: np.ndarray, prob: float) -> Table:
    """Return a factor's effects, a row for each (level, coefficient); draws (chain, draw, J, q)."""
    index = pd.MultiIndex.from_product([levels, coefs], names=[name, "coef"])
    return summarise(draws.reshape(*draws.shape[:2], -1), index, prob)


def varcorr(spec: ModelSpec, draws: Mapping[str, np.ndarray], prob: float) -> pd.DataFrame:
    """Return sds and correlations of every factor, then the family's parameters.

    Rows are (group, coef, coef2): an sd has coef2 "", a correlation names both columns. Correlations that the model
    sets to 0 are left out.
    """
    index: list[tuple[str, str, str]] = []
    columns = []
    for group in spec.groups:
        for k, coef in enumerate(group.coefs):
            index.append((group.name, coef, ""))
            columns.append(draws[f"sd_{group.name}"][..., k])
        for block in group.blocks:
            places = range(block.columns.start, block.columns.stop) if block.correlated else ()
            for i in places:
                for j in range(block.columns.start, i):
                    index.append((group.name, group.coefs[j], group.coefs[i]))
                    columns.append(draws[f"cor_{group.name}"][..., i, j])
    for name in spec.parameters:
        index.append(("Residual" if name == "sigma" else "Family", name, ""))
        columns.append(draws[name])
    if not index:
        raise FitError("this model has no variance parameters")
    labels = pd.MultiIndex.from_tuples(index, names=["group", "coef", "coef2"])
    return summarise(np.stack(columns, axis=-1), labels, prob)


def named(draws: Mapping[str, Any], name: str, prob: float) -> pd.DataFrame:
    """Return a row for each entry of a mapping of (chain, draw) draws."""
    return summarise(np.stack(list(draws.values()), axis=-1), pd.Index(list(draws), name=name), prob)
