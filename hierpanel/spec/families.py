"""Families of the response, as values: a link, extra parameters, a density, and the support that the data must have.

A new family is one `Family(...)` in this file. PyMC is passed in as `pm`, so nothing here imports it.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierpanel.errors import FamilyError
from hierpanel.spec.priors import Prior

Array = NDArray[Any]

# Means of counts above which NumPy cannot draw them.
MOST_COUNTS = 1e18
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """The observed rows: y (n,), precision weights (n,) or None, trials (n,) or None."""

    y: Array
    weights: Array | None = None
    trials: Array | None = None


@dataclass(frozen=True)
class Link:
    """A link function: the linear predictor is `forward(mean)`, the mean is `inverse(linear predictor)`.

    latent_variance : variance of the latent residual that the link implies (π²/3 for logit), or None.
    pymc : (pm, linear predictor) → mean, as a PyTensor expression.
    """

    name: str
    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    pymc: Callable[[Any, Any], Any]
    latent_variance: float | None = None


@dataclass(frozen=True)
class Family:
    """The distribution of the response given the linear predictor.

    links : those that are allowed, the default first; `link` is the chosen one.
    parameters : further parameters by their PyMC names; default priors as functions of the response's scale s.
    location : whether the response has a unit of measurement, so that priors scale with its sd.
    weighted : whether precision weights make sense (sd sigma / sqrt(w)).
    counts_trials : whether the response is prop(successes, trials).
    problem : (y, trials) → what is wrong with the data's support, or None.
    likelihood : (pm, link, linear predictor, parameters, rows) → PyMC's distribution and its parameters.
    log_density : (link, linear predictor, parameters, rows) → log density of each row, in NumPy.
    draw : (random generator, link, linear predictor, parameters, rows) → responses, in NumPy; rows without y.
    residual_variance : parameters → residual variance at weight 1, or None where the link's latent variance counts.
    """

    name: str
    links: tuple[Link, ...]
    parameters: Mapping[str, Callable[[float], Prior]]
    problem: Callable[[Array, Array | None], str | None]
    likelihood: Callable[[Any, Link, Any, Parameters, Rows], tuple[Any, dict[str, Any]]]
    log_density: Callable[[Link, Array, Parameters, Rows], Array]
    draw: Callable[[np.random.Generator, Link, Array, Parameters, Rows], Array]
    location: bool = False
    weighted: bool = False
    counts_trials: bool = False
    residual_variance: Callable[[Parameters], Array] | None = None
    chosen: str = ""

    @property
    def link(self) -> Link:
        """The chosen link."""
        return next((link for link in self.links if link.name == self.chosen), self.links[0])

    def __str__(self) -> str:
        return f"{self.name} ({self.link.name} link)"

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return family, (self.name, self.link.name)


def _special() -> Any:
    """scipy.special, which takes a third of the time of importing pandas and is not needed before a fit."""
    from scipy import special

    return special


IDENTITY = Link("identity", lambda m: m, lambda e: e, lambda pm, e: e)
LOG = Link("log", np.log, np.exp, lambda pm, e: pm.math.exp(e))
LOGIT = Link(
    "logit",
    lambda m: _special().logit(m),
    lambda e: _special().expit(e),
    lambda pm, e: pm.math.sigmoid(e),
    np.pi**2 / 3,
)
PROBIT = Link(
    "probit",
    lambda m: _special().ndtri(m),
    lambda e: _special().ndtr(e),
    # pm.math.invprobit takes the root of 2 in single precision
    lambda pm, e: _open(pm, pm.math.erfc(-e / np.sqrt(2)) / 2),
    1.0,
)
CLOGLOG = Link(
    "cloglog",
    lambda m: np.log(-np.log1p(-m)),
    lambda e: -np.expm1(-np.exp(e)),
    lambda pm, e: _open(pm, 1 - pm.math.exp(-pm.math.exp(e))),
    np.pi**2 / 6,
)


def _open(pm: Any, p: Any) -> Any:
    """Keep a probability inside (0, 1) where the link saturates in double precision."""
    return pm.math.clip(p, 1e-15, 1 - 1e-15)


def _real(y: Array, trials: Array | None) -> str | None:
    if trials is not None:
        return "prop(successes, trials) is a response for family='binomial'"
    return "the response is constant" if np.ptp(y) == 0 else None


def _binary(y: Array, trials: Array | None) -> str | None:
    if trials is not None:
        return "prop(successes, trials) is a response for family='binomial'"
    return _support(
        ~np.isin(y, (0, 1)), y, "must be 0 or 1 (for counts out of trials use prop(y, n) and family='binomial')"
    )


def _out_of_trials(y: Array, trials: Array | None) -> str | None:
    if trials is None:
        return "the response must be prop(successes, trials); for 0/1 outcomes use family='bernoulli'"
    return _support(y < 0, y, "must not be negative")


def _count(y: Array, trials: Array | None) -> str | None:
    if trials is not None:
        return "prop(successes, trials) is a response for family='binomial'"
    return _support((y < 0) | (y != np.floor(y)), y, "must be counts 0, 1, 2, …")


def _support(bad: Array, y: Array, rule: str) -> str | None:
    if not bad.any():
        return None
    others = np.unique(y[bad])
    listed = ", ".join(f"{value:g}" for value in others[:5]) + (", …" if len(others) > 5 else "")
    return f"its values {rule}, but {int(bad.sum())} rows hold others ({listed})"


def _spread(sigma: Any, weights: Any) -> Any:
    # a product: of the quotient PyTensor's rewrites of the Student-t density report bugs of their own
    return sigma if weights is None else sigma * weights**-0.5


def _normal(pm: Any, _: Link, eta: Any, parameters: Parameters, rows: Rows) -> tuple[Any, dict[str, Any]]:
    return pm.Normal, {"mu": eta, "sigma": _spread(parameters["sigma"], rows.weights)}


def _normal_density(_: Link, eta: Array, parameters: Parameters, rows: Rows) -> Array:
    sigma = _spread(parameters["sigma"], rows.weights)
    return np.asarray(-0.5 * ((rows.y - eta) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi))


def _student_t(pm: Any, _: Link, eta: Any, parameters: Parameters, rows: Rows) -> tuple[Any, dict[str, Any]]:
    return pm.StudentT, {"mu": eta, "sigma": _spread(parameters["sigma"], rows.weights), "nu": parameters["nu"]}


def _student_t_density(_: Link, eta: Array, parameters: Parameters, rows: Rows) -> Array:
    gammaln = _special().gammaln
    sigma, nu = _spread(parameters["sigma"], rows.weights), parameters["nu"]
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
    return np.asarray(constant - np.log(sigma) - (nu + 1) / 2 * np.log1p(((rows.y - eta) / sigma) ** 2 / nu))


def _student_t_variance(parameters: Parameters) -> Array:
    nu = parameters["nu"]
    variance = parameters["sigma"] ** 2 * nu / np.where(nu > 2, nu - 2, 1.0)
    return np.where(nu > 2, variance, np.inf)


def _probability(pm: Any, link: Link, eta: Any) -> dict[str, Any]:
    return {"logit_p": eta} if link is LOGIT else {"p": link.pymc(pm, eta)}


def _bernoulli(pm: Any, link: Link, eta: Any, _: Parameters, __: Rows) -> tuple[Any, dict[str, Any]]:
    return pm.Bernoulli, _probability(pm, link, eta)


def _binomial(pm: Any, link: Link, eta: Any, _: Parameters, rows: Rows) -> tuple[Any, dict[str, Any]]:
    assert rows.trials is not None
    return pm.Binomial, {"n": rows.trials.astype(int), **_probability(pm, link, eta)}


def _binomial_density(link: Link, eta: Array, _: Parameters, rows: Rows) -> Array:
    gammaln, y = _special().gammaln, rows.y
    n = np.ones_like(y) if rows.trials is None else rows.trials
    log_p, log_q = _log_probabilities(link, eta)
    choose = gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)
    return np.asarray(choose + np.where(y > 0, y * log_p, 0.0) + np.where(n > y, (n - y) * log_q, 0.0))


def _log_probabilities(link: Link, eta: Array) -> tuple[Array, Array]:
    """Return log p and log(1 - p), without the rounding of 1 - p."""
    special = _special()
    if link is LOGIT:
        return special.log_expit(eta), special.log_expit(-eta)
    if link is PROBIT:
        return special.log_ndtr(eta), special.log_ndtr(-eta)
    hazard = np.exp(np.clip(eta, -700, 700))  # cloglog
    return np.log(-np.expm1(-hazard)), -hazard


def _poisson(pm: Any, link: Link, eta: Any, _: Parameters, __: Rows) -> tuple[Any, dict[str, Any]]:
    return pm.Poisson, {"mu": link.pymc(pm, eta)}


def _poisson_density(_: Link, eta: Array, __: Parameters, rows: Rows) -> Array:
    return np.asarray(rows.y * eta - np.exp(eta) - _special().gammaln(rows.y + 1))


def _negative_binomial(pm: Any, link: Link, eta: Any, parameters: Parameters, _: Rows) -> tuple[Any, dict[str, Any]]:
    return pm.NegativeBinomial, {"mu": link.pymc(pm, eta), "alpha": parameters["alpha"]}


def _negative_binomial_density(_: Link, eta: Array, parameters: Parameters, rows: Rows) -> Array:
    gammaln, alpha, y = _special().gammaln, parameters["alpha"], rows.y
    log_total = np.logaddexp(np.log(alpha), eta)
    choose = gammaln(y + alpha) - gammaln(alpha) - gammaln(y + 1)
    return np.asarray(choose + alpha * (np.log(alpha) - log_total) + y * (eta - log_total))


def _draw_normal(rng: np.random.Generator, _: Link, eta: Array, parameters: Parameters, rows: Rows) -> Array:
    return np.asarray(eta + _spread(parameters["sigma"], rows.weights) * rng.standard_normal(np.shape(eta)))


def _draw_student_t(rng: np.random.Generator, _: Link, eta: Array, parameters: Parameters, rows: Rows) -> Array:
    noise = rng.standard_t(np.broadcast_to(parameters["nu"], np.shape(eta)))
    return np.asarray(eta + _spread(parameters["sigma"], rows.weights) * noise)


def _draw_binomial(rng: np.random.Generator, link: Link, eta: Array, _: Parameters, rows: Rows) -> Array:
    trials = 1 if rows.trials is None else rows.trials.astype(int)
    return np.asarray(rng.binomial(trials, np.clip(link.inverse(eta), 0.0, 1.0)), dtype=float)


def _draw_poisson(rng: np.random.Generator, link: Link, eta: Array, _: Parameters, __: Rows) -> Array:
    return np.asarray(rng.poisson(np.minimum(link.inverse(eta), MOST_COUNTS)), dtype=float)


def _draw_negative_binomial(rng: np.random.Generator, link: Link, eta: Array, parameters: Parameters, _: Rows) -> Array:
    alpha = np.broadcast_to(parameters["alpha"], np.shape(eta))
    rate = rng.gamma(alpha, link.inverse(eta) / alpha)
    return np.asarray(rng.poisson(np.minimum(rate, MOST_COUNTS)), dtype=float)


def _sigma(s: float) -> Prior:
    return Prior("HalfStudentT", nu=3, sigma=s)


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "gaussian",
            (IDENTITY,),
            {"sigma": _sigma},
            _real,
            _normal,
            _normal_density,
            _draw_normal,
            location=True,
            weighted=True,
            residual_variance=lambda parameters: parameters["sigma"] ** 2,
        ),
        Family(
            "student_t",
            (IDENTITY,),
            {"sigma": _sigma, "nu": lambda s: Prior("Gamma", alpha=2, beta=0.1)},
            _real,
            _student_t,
            _student_t_density,
            _draw_student_t,
            location=True,
            weighted=True,
            residual_variance=_student_t_variance,
        ),
        Family("bernoulli", (LOGIT, PROBIT, CLOGLOG), {}, _binary, _bernoulli, _binomial_density, _draw_binomial),
        Family(
            "binomial",
            (LOGIT, PROBIT, CLOGLOG),
            {},
            _out_of_trials,
            _binomial,
            _binomial_density,
            _draw_binomial,
            counts_trials=True,
        ),
        Family("poisson", (LOG,), {}, _count, _poisson, _poisson_density, _draw_poisson),
        Family(
            "negative_binomial",
            (LOG,),
            {"alpha": lambda s: Prior("InverseGamma", alpha=0.4, beta=0.3)},
            _count,
            _negative_binomial,
            _negative_binomial_density,
            _draw_negative_binomial,
        ),
    )
}
_OTHER_WORDS = {
    "normal": "gaussian",
    "t": "student_t",
    "studentt": "student_t",
    "logit": "bernoulli",
    "logistic": "bernoulli",
    "binary": "bernoulli",
    "probit": "bernoulli(probit)",
    "negativebinomial": "negative_binomial",
    "negbin": "negative_binomial",
    "count": "poisson",
}


def family(name: "str | Family", link: str | None = None) -> Family:
    """Return a family by name.

    Parameters
    ----------
    name : str
        ``"gaussian"``, ``"student_t"``, ``"bernoulli"``, ``"binomial"``, ``"poisson"`` or ``"negative_binomial"``; a
        link may stand in parentheses, as in ``"bernoulli(probit)"``.
    link : str, optional
        ``"logit"``, ``"probit"`` or ``"cloglog"`` for bernoulli and binomial.

    Raises
    ------
    FamilyError
        For a family or link that is not there, with those that are.

    Examples
    --------
    >>> print(family("bernoulli", link="probit"))
    bernoulli (probit link)
    """
    if isinstance(name, Family):
        return name if link is None else family(name.name, link)
    if not isinstance(name, str):
        raise FamilyError(f"family is a name such as 'gaussian', not {type(name).__name__}")
    found = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*(?:link\s*=\s*)?['\"]?(\w+)['\"]?\s*\))?\s*", name)
    base = found.group(1).lower() if found else name
    link = link or (found.group(2) if found else None)
    if base not in FAMILIES:
        plain = base.replace("_", "").replace("-", "")
        near = _OTHER_WORDS.get(plain) or next(iter(difflib.get_close_matches(base, FAMILIES, n=1)), None)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise FamilyError(f"there is no family {name!r} yet{hint}; the families are: {', '.join(FAMILIES)}")
    chosen = FAMILIES[base]
    if link is not None and link not in [known.name for known in chosen.links]:
        links = ", ".join(known.name for known in chosen.links)
        raise FamilyError(f"the family {base} has no link {link!r}; its links are: {links}")
    return replace(chosen, chosen=link or chosen.links[0].name)
