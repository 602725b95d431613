"""A `Fit` with within and between columns comes in; a verdict on fixed against random effects goes out.

In a model with `within(x)` and `between(x)` a random-effects estimate without the unit means would mix the two
coefficients. It is unbiased where they are equal, which is what the Hausman test asks. Sources: Mundlak (1978),
Econometrica 46, 69-85; Hausman and Taylor (1981), Econometrica 49, 1377-1398; Wooldridge (2010), section 10.7.3.
"""

import html
import numbers
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hierpanel.compiler import marginal as route
from hierpanel.compiler.scales import partial_correlations, partial_name, prior_name
from hierpanel.data.moments import moments
from hierpanel.data.within import constant_within
from hierpanel.errors import FitError
from hierpanel.formula import words
from hierpanel.results import tables
from hierpanel.spec import ModelSpec, Prior

Array = np.ndarray

# A difference below this many sds of the response for one sd of the regressor counts as none, unless stated.
ROPE = 0.1


class Pair(NamedTuple):
    """Places of a regressor's coefficients: of between(x), and of within(x) or of x itself (``beside``).

    Beside x itself, the coefficient of between(x) is the difference already.
    """

    between: int
    own: int
    beside: bool


@dataclass(frozen=True)
class FixedOrRandom:
    """What one fit says on fixed against random effects; `print` it.

    table : a row for each regressor: posterior means ``within`` and ``between``; of between - within ``mean``, ``sd``,
        ``lower``, ``upper``, ``p_pos``; ``rope`` and ``p_rope``, the probability that |between - within| < rope.
    statistic, df, p : Wald's test that all differences are 0, at the variance components `at`.
    at : name → value of the variance components; empty where the test is of the posterior's means and covariances.
    verdict : one sentence; limits : what it does not show.
    """

    table: pd.DataFrame
    statistic: float
    df: int
    p: float
    at: Mapping[str, float]
    verdict: str
    limits: str

    def __str__(self) -> str:
        shown = self.table.map(lambda value: f"{value:.3g}")
        return "\n".join(
            [
                "Fixed or random effects: between less within",
                shown.to_string(),
                *textwrap.wrap(f"{self._test}.", 90),
                *textwrap.wrap(self.verdict, 90),
                *textwrap.wrap(self.limits, 90),
            ]
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        shown = self.table.map(lambda value: f"{value:.3g}").to_html()
        lines = [f"{self._test}.", self.verdict, self.limits]
        return f"<h4>Fixed or random effects: between less within</h4>{shown}" + "".join(
            f"<p>{html.escape(line)}</p>" for line in lines
        )

    @property
    def _test(self) -> str:
        where = ", ".join(f"{name} = {value:.4g}" for name, value in self.at.items())
        return f"Wald χ²({self.df}) = {self.statistic:.4g}, p = {self.p:.3g}" + (f", at {where}" if where else "")


def fixed_or_random(
    fit: Any, rope: float | Mapping[str, float] | None, at: Mapping[str, float] | None, prob: float
) -> FixedOrRandom:
    """Compare the between and within coefficients of a fit; see `Fit.fe_vs_re`."""
    tables.check_prob(prob)
    found = _pairs(fit.spec)
    if not found:
        raise FitError(_remedy(fit))
    names = list(found)
    C = np.zeros((len(found), len(fit.spec.coefs)))
    for row, pair in enumerate(found.values()):
        C[row, pair.own] = 0.0 if pair.beside else -1.0
        C[row, pair.between] = 1.0
    beta = fit.draws("beta")
    difference = beta @ C.T
    ropes = _ropes(fit, found, rope)
    mean = beta.mean(axis=(0, 1))
    plain = tables.summarise(difference, pd.Index(names, name="regressor"), prob)
    table = pd.DataFrame(
        {
            "within": [mean[pair.own] for pair in found.values()],
            "between": [mean[pair.between] + pair.beside * mean[pair.own] for pair in found.values()],
            **{column: plain[column] for column in ("mean", "sd", "lower", "upper", "p_pos")},
            "rope": ropes,
            "p_rope": (np.abs(difference) < ropes).mean(axis=(0, 1)),
        },
        index=plain.index,
    )
    table.columns.name = f"{100 * prob:g} % equal-tailed"
    statistic, values = _wald(fit, C, at)
    from scipy import stats

    p = float(stats.chi2.sf(statistic, len(found)))
    verdict, limits = _sentences(fit, table, p)
    return FixedOrRandom(table, statistic, len(found), p, values, verdict, limits)


def _pairs(spec: ModelSpec) -> dict[str, Pair]:
    """Regressor → its pair, for those with both a within and a between coefficient."""
    texts = spec.formula.column_expressions()[1:]
    used = [word for text in texts for word in words.words_in(text) if word.kind == "between"]
    if any(word.kind == words.INITIAL for text in texts for word in words.words_in(text)):  # it adds unit means
        plain = [term[0] for term in spec.formula.terms if len(term) == 1 and not words.words_in(term[0])]
        used += [word for text in plain for word in words.words_in(f"between({text})")]
    several = len({word.by for word in used}) > 1
    found: dict[str, Pair] = {}
    for place, name in enumerate(spec.coefs):
        word = max(
            (w for w in used if name.startswith(words.column(w))), key=lambda w: len(words.column(w)), default=None
        )
        if word is None:
            continue
        tail, inner = name[len(words.column(word)) :], word.inner.replace("`", "")
        label = f"{inner}, by={word.by}{tail}" if several and word.by is not None else inner + tail
        within = "within" + name.removeprefix("between")
        own = next((other for other in (within, inner + tail) if other in spec.coefs), None)
        if own is not None:
            found[label] = Pair(place, spec.coefs.index(own), own != within)
    return found


def _ropes(fit: Any, found: Mapping[str, Pair], rope: Any) -> Array:
    if isinstance(rope, Mapping):
        unknown = sorted(set(rope) - set(found))
        if unknown:
            raise FitError(f"rope= names {unknown[0]!r}, which is not compared; compared are: {', '.join(found)}")
    X, ropes = fit.design.X, []
    for name, pair in found.items():
        given = rope.get(name) if isinstance(rope, Mapping) else rope
        if given is None:
            x = X[:, pair.own] + (0.0 if pair.beside else X[:, pair.between])
            given = ROPE * fit.spec.scale / x.std()
        if not isinstance(given, numbers.Real) or isinstance(given, bool) or not float(given) > 0:
            raise FitError(f"rope is the largest difference that counts as none, a positive number, not {given!r}")
        ropes.append(float(given))
    return np.array(ropes)


def _wald(fit: Any, C: Array, at: Mapping[str, float] | None) -> tuple[float, dict[str, float]]:
    """Wald's statistic of Cβ = 0, and the variance components at which it is taken.

    By generalised least squares at those components (flat priors on the coefficients), with the residual variance of
    that regression, which is the auxiliary regression of plm's ``phtest(method="aux")`` on quasi-demeaned columns.
    Where the marginal route does not hold, of the posterior's means and covariances.
    """
    flat = replace(fit.spec, beta=tuple(Prior("Flat") for _ in fit.spec.coefs))
    if route.refuses(flat):
        if at:
            raise FitError("at= needs a gaussian response, whose coefficients are known given the variance components")
        draws = (fit.draws("beta") @ C.T).reshape(-1, len(C))
        d, V = draws.mean(axis=0), np.cov(draws.T).reshape(len(C), len(C))
        return float(d @ np.linalg.solve(V, d)), {}
    compiled = route.marginal(flat, moments(fit.design))
    values = _components(fit, compiled.parameters.names, at or {})
    psi = np.array([[_coordinate(name, values[name]) for name in compiled.parameters.names]])
    solved, p = compiled.solve(psi), len(compiled.mean)
    first = compiled.inner
    L = solved.L[0, first : first + p, first : first + p]
    gamma = np.linalg.solve(np.tril(L).T, solved.L[0, -1, first : first + p])
    half = np.linalg.solve(np.tril(L), (C @ compiled.to_beta_c[:, :p]).T)
    d = C @ (compiled.to_beta_c[:, :p] @ gamma + compiled.to_beta_c[:, p])
    last = solved.L[0, -1, :-1]
    # unit effects of fe() cost degrees of freedom as dummies do
    dummies = sum(group.levels - fit.spec.has_intercept for group in fit.spec.groups if group.is_fixed)
    variance = (solved.s_yy[0] - last @ last) / (fit.spec.n - p - dummies)  # in units of sigma², as half is
    return float(d @ np.linalg.solve(half.T @ half, d) / variance), values


def _components(fit: Any, names: tuple[str, ...], at: Mapping[str, float]) -> dict[str, float]:
    """Each variance component's value: the one stated, or its posterior mean."""
    stated: dict[str, float] = {}
    for key, value in at.items():
        name = next((one for one in (key, f"{key}[Intercept]", f"{key}[0]") if one in names), None)
        if name is None:
            raise FitError(
                f"at= names {key!r}, which is no variance component of this model; it has: {', '.join(names)}"
            )
        is_sd = not name.startswith("pcor_")
        low, high = (0.0, np.inf) if is_sd else (-1.0, 1.0)
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not low < float(value) < high:
            where = "a positive number" if is_sd else "a number between -1 and 1"
            raise FitError(f"at= puts {name} at {where}, not {value!r}")
        stated[name] = float(value)
    middle = _posterior_means(fit)
    return {name: stated.get(name, middle[name]) for name in names}


def _posterior_means(fit: Any) -> dict[str, float]:
    """Posterior means of the sds and sigma on the prior's scale, and the partial correlations of mean correlations."""
    found = {"sigma": float(fit.draws("sigma").mean())}
    for group in fit.spec.groups:
        sd = fit.draws(prior_name("sd", group)).mean(axis=(0, 1))
        found |= {f"sd_{group.name}[{coef}]": float(value) for coef, value in zip(group.coefs, sd, strict=True)}
        for number, block in enumerate(group.blocks):
            if block.correlated:
                R = fit.draws(prior_name("cor", group)).mean(axis=(0, 1))[block.columns, block.columns]
                partial = partial_correlations(np.linalg.cholesky(R))
                found |= {f"{partial_name(group, number)}[{k}]": float(value) for k, value in enumerate(partial)}
    return found


def _coordinate(name: str, value: float) -> float:
    return float(np.log(value)) if name.startswith("sd_") or name == "sigma" else float(np.arctanh(value))


def _sentences(fit: Any, table: pd.DataFrame, p: float) -> tuple[str, str]:
    far = str(table["p_rope"].idxmin())
    one = table.loc[far]
    most = f"largest for {far}: {one['mean']:.3g}, P(|difference| < {one['rope']:.3g}) = {one['p_rope']:.2f}"
    if p < 0.05:
        verdict = (
            f"Between and within coefficients differ (p = {p:.2g}; {most}), so random effects without the unit means "
            "would mix them: report the within coefficients, which are the fixed-effects ones"
        )
    elif (table["p_rope"] > 0.95).all():
        verdict = (
            "Between and within coefficients agree: each difference is below its rope with probability above 0.95 "
            f"({most}), so random effects without the unit means lose nothing that matters"
        )
    else:
        verdict = (
            f"The data do not tell between and within coefficients apart (p = {p:.2g}), and do not show that they are "
            f"equal either ({most}): keep the unit means in the model"
        )
    limits = (
        "This compares the listed regressors alone. It does not show that the within coefficients are causal: what is "
        "left out and changes over time, measurement error and feedback from the outcome bias them too."
    )
    return verdict + ".", limits


def _remedy(fit: Any) -> str:
    """Say which formula answers the question."""
    spec = fit.spec
    unit = spec.panel.unit if spec.panel is not None else next((group.name for group in spec.groups), "unit")
    plain = [term[0] for term in spec.formula.terms if len(term) == 1]
    varying = [text for text in plain if not words.words_in(text) and _varies(fit, text, unit)]
    split = f"mundlak({' + '.join(varying) or 'x'})"
    panel = "" if spec.panel is not None else f", and give panel=({unit!r}, time)"
    remedy = f"write {split} for {' + '.join(varying) or 'x'}" if spec.formula.terms else "add one as mundlak(x)"
    return f"fe_vs_re() compares within(x) with between(x), and this model has no regressor with both; {remedy}{panel}"


def _varies(fit: Any, text: str, unit: str) -> bool:
    codes = fit.design.units if fit.spec.panel is not None else None
    if codes is None:
        codes = next((group.codes for group in fit.design.groups if group.name == unit), None)
    columns = [k for k, name in enumerate(fit.spec.coefs) if name == text or name.startswith(f"{text}[")]
    return codes is not None and bool(columns) and not constant_within(fit.design.X[:, columns], [codes]).all()
