"""Prior distributions, as values, by their PyMC names; the common ones also draw and support themselves in NumPy."""

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hierpanel.errors import PriorError


@dataclass(frozen=True, init=False)
class Prior:
    """A prior distribution by its PyMC name and parameters.

    Parameters
    ----------
    name : str
        ``"Normal"``, ``"HalfNormal"``, ``"HalfStudentT"``, ``"LKJ"`` (for correlations), or any other univariate
        distribution of PyMC.
    **parameters : float
        The distribution's parameters by PyMC's names.

    Raises
    ------
    PriorError
        For a parameter that is not a finite number; an unknown name is an error where the prior is used.

    Examples
    --------
    >>> print(Prior("Normal", mu=0, sigma=0.1))
    Normal(mu=0, sigma=0.1)
    """

    name: str
    parameters: tuple[tuple[str, float], ...]

    def __init__(self, name: str, **parameters: float):
        if not isinstance(name, str):
            raise PriorError(f"a prior starts with a name, as in hp.Prior('Normal', mu=0, sigma=1), not with {name!r}")
        for key, value in parameters.items():
            if not is_number(value) or not np.isfinite(value):
                raise PriorError(f"the parameter {key} of {name} must be a finite number, not {value!r}")
            if key in ("sigma", "tau", "nu", "eta", "lam", *_POSITIVE.get(name, ())) and value <= 0:
                raise PriorError(f"the parameter {key} of {name} must be positive, not {value!r}")
        if name == "Uniform" and parameters.get("lower", 0) >= parameters.get("upper", 1):
            raise PriorError("the parameter lower of Uniform must lie below its upper")
        object.__setattr__(self, "name", name)
        # sorted, so that equal priors are equal in whichever order their parameters were written
        object.__setattr__(self, "parameters", tuple(sorted((key, float(value)) for key, value in parameters.items())))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value:.4g}' for key, value in self.parameters)})"

    def __repr__(self) -> str:
        return f"Prior({', '.join([repr(self.name), *(f'{key}={value!r}' for key, value in self.parameters)])})"

    @property
    def values(self) -> dict[str, float]:
        """The parameters as a dict."""
        return dict(self.parameters)

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return (size,) draws."""
        known = _COMMON.get(self.name)
        if known is not None and set(self.values) == set(known.parameters):
            return np.asarray(known.draw(rng, size, **self.values))
        import pymc as pm

        variable = distribution(self.name, pm).dist(**self.values, shape=size)
        # drawn once: the default mode would compile for seconds, and warns of distributions that Numba does not know
        return np.asarray(pm.draw(variable, random_seed=rng, mode="FAST_COMPILE"), dtype=float)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Return the log density at each x, minus infinity outside the support; flat priors have density 1."""
        known = _COMMON.get(self.name)
        if known is not None and set(self.values) == set(known.parameters):
            with np.errstate(all="ignore"):  # outside the support roots and logarithms have no value
                value = known.log_density(x, **self.values)
                return np.where((x >= known.lowest(**self.values)) & ~np.isnan(value), value, -np.inf)
        return np.asarray(_pymc_log_density(self)(np.asarray(x, dtype=float)))

    def check(self, key: str, positive: bool) -> None:
        """Raise `PriorError` unless the distribution exists and has the support that `key` needs."""
        known = _COMMON.get(self.name)
        if known is not None and set(self.values) == set(known.parameters):
            lowest = known.lowest(**self.values)
        else:
            lowest = self._ask_pymc(key)
        if positive and lowest < 0:
            raise PriorError(
                f"the prior of {key} must live on the positive numbers, and {self} does not; use for example "
                "HalfNormal(sigma=…), HalfStudentT(nu=3, sigma=…), Exponential(lam=…) or Gamma(alpha=…, beta=…)"
            )

    def _ask_pymc(self, key: str) -> float:
        """Return the lowest number of a distribution that only PyMC knows; minus infinity where it reaches below 0."""
        import pymc as pm

        kind = distribution(self.name, pm)
        arguments = inspect.signature(kind.dist).parameters.values()
        named = [argument.name for argument in arguments if not argument.kind.name.startswith("VAR_")]
        unknown = [name for name in self.values if name not in named]
        if unknown:  # PyMC would ignore it: its Normal(mu=0, sd=3) has a sigma of 1
            listed = ", ".join(named) or "none"
            raise PriorError(f"the prior of {key}: {self.name} has no parameter {unknown[0]!r}; it has: {listed}")
        try:
            variable = kind.dist(**self.values)
            if variable.ndim != 0 or issubclass(kind, pm.Discrete):
                kinds = "a continuous distribution of one number"
                raise PriorError(f"the prior of {key} must be {kinds}; {self.name} is not")
            draws = self.draw(np.random.default_rng(1), 1000)
            just_below = pm.logp(variable, -1e-6 * np.median(np.abs(draws))).eval(mode="FAST_COMPILE")
        except PriorError:
            raise
        except Exception as error:
            raise PriorError(f"the prior of {key}, {self}, is refused by PyMC: {error}") from error
        return -np.inf if np.isfinite(just_below) else float(draws.min())


def distribution(name: str, pm: Any) -> Any:
    """Return PyMC's distribution class of that name, or raise `PriorError` with the nearest one."""
    kind = getattr(pm, name, None)
    if not (isinstance(kind, type) and hasattr(kind, "dist")):
        names = [n for n in dir(pm) if isinstance(getattr(pm, n), type) and hasattr(getattr(pm, n), "dist")]
        near = difflib.get_close_matches(name, names, n=1)
        raise PriorError(f"PyMC has no distribution {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return kind


def is_number(value: Any) -> bool:
    """Whether a value is a real number, truth values not counted."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def as_prior(value: Any, key: str) -> Prior:
    """Take a `Prior` or a `bambi.Prior` and return a `Prior`."""
    if isinstance(value, Prior):
        return value
    if type(value).__module__.split(".")[0] == "bambi" and hasattr(value, "args"):
        nested = [name for name, arg in value.args.items() if type(arg) is type(value)]
        if nested:
            raise PriorError(
                f"the prior of {key} holds a prior in its {nested[0]}; in hierpanel the sd of a group's effects has a "
                "name of its own: give it as priors={'sd_<factor>': Prior('HalfNormal', sigma=…)}"
            )
        # Bambi keeps numbers as arrays without dimensions; Prior refuses longer ones
        arguments: dict[str, Any] = {name: np.asarray(arg)[()] for name, arg in value.args.items()}
        return Prior(value.name, **arguments)
    raise PriorError(f"the prior of {key} must be an hp.Prior, as in hp.Prior('Normal', mu=0, sigma=1), not {value!r}")


@cache
def _pymc_log_density(prior: Prior) -> Callable[[np.ndarray], Any]:
    """Compile the log density of a distribution that only PyMC knows."""
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt

    x = pt.dvector("x")
    values: Any = {name: np.float64(value) for name, value in prior.values.items()}
    density = pm.logp(distribution(prior.name, pm).dist(**values), x)
    compiled = pytensor.function([x], density, mode="FAST_COMPILE")
    return lambda at: compiled(at.ravel()).reshape(at.shape)


@dataclass(frozen=True)
class _Common:
    parameters: tuple[str, ...]
    draw: Callable[..., Any]
    lowest: Callable[..., float]
    log_density: Callable[..., Any]


# Parameters that must be positive, beside those that must be in every distribution.
_POSITIVE = {
    "Cauchy": ("beta",),
    "HalfCauchy": ("beta",),
    "Gamma": ("alpha", "beta"),
    "InverseGamma": ("alpha", "beta"),
}


def _zero(**_: float) -> float:
    return 0.0


def _minus_infinity(**_: float) -> float:
    return -np.inf


def _improper(_rng: np.random.Generator, _size: int) -> np.ndarray:
    raise PriorError("a flat prior is improper: nothing can be drawn from it")


def _log_t(x: np.ndarray, nu: float) -> np.ndarray:
    constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
    return np.asarray(constant - (nu + 1) / 2 * np.log1p(x**2 / nu))


def _log_normal(x: np.ndarray) -> np.ndarray:
    return np.asarray(-0.5 * x**2 - 0.5 * math.log(2 * math.pi))


def _log_gamma(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    powers = (alpha - 1) * np.log(x) if alpha != 1 else 0.0
    return np.asarray(alpha * math.log(beta) - math.lgamma(alpha) + powers - beta * x)


_COMMON: Mapping[str, _Common] = {
    "Normal": _Common(
        ("mu", "sigma"),
        lambda r, n, mu, sigma: r.normal(mu, sigma, n),
        _minus_infinity,
        lambda x, mu, sigma: _log_normal((x - mu) / sigma) - math.log(sigma),
    ),
    "HalfNormal": _Common(
        ("sigma",),
        lambda r, n, sigma: np.abs(r.normal(0, sigma, n)),
        _zero,
        lambda x, sigma: _log_normal(x / sigma) - math.log(sigma / 2),
    ),
    "StudentT": _Common(
        ("nu", "mu", "sigma"),
        lambda r, n, nu, mu, sigma: mu + sigma * r.standard_t(nu, n),
        _minus_infinity,
        lambda x, nu, mu, sigma: _log_t((x - mu) / sigma, nu) - math.log(sigma),
    ),
    "HalfStudentT": _Common(
        ("nu", "sigma"),
        lambda r, n, nu, sigma: sigma * np.abs(r.standard_t(nu, n)),
        _zero,
        lambda x, nu, sigma: _log_t(x / sigma, nu) - math.log(sigma / 2),
    ),
    "Cauchy": _Common(
        ("alpha", "beta"),
        lambda r, n, alpha, beta: alpha + beta * r.standard_cauchy(n),
        _minus_infinity,
        lambda x, alpha, beta: _log_t((x - alpha) / beta, 1) - math.log(beta),
    ),
    "HalfCauchy": _Common(
        ("beta",),
        lambda r, n, beta: beta * np.abs(r.standard_cauchy(n)),
        _zero,
        lambda x, beta: _log_t(x / beta, 1) - math.log(beta / 2),
    ),
    "Exponential": _Common(
        ("lam",), lambda r, n, lam: r.exponential(1 / lam, n), _zero, lambda x, lam: math.log(lam) - lam * x
    ),
    "Gamma": _Common(("alpha", "beta"), lambda r, n, alpha, beta: r.gamma(alpha, 1 / beta, n), _zero, _log_gamma),
    "InverseGamma": _Common(
        ("alpha", "beta"),
        lambda r, n, alpha, beta: beta / r.gamma(alpha, 1, n),
        _zero,
        lambda x, alpha, beta: _log_gamma(1 / x, alpha, beta) - 2 * np.log(x),
    ),
    "LogNormal": _Common(
        ("mu", "sigma"),
        lambda r, n, mu, sigma: r.lognormal(mu, sigma, n),
        _zero,
        lambda x, mu, sigma: _log_normal((np.log(x) - mu) / sigma) - math.log(sigma) - np.log(x),
    ),
    "Flat": _Common((), _improper, _minus_infinity, lambda x: np.zeros_like(x)),
    "HalfFlat": _Common((), _improper, _zero, lambda x: np.zeros_like(x)),
    "Uniform": _Common(
        ("lower", "upper"),
        lambda r, n, lower, upper: r.uniform(lower, upper, n),
        lambda lower, upper: lower,
        lambda x, lower, upper: np.where(x <= upper, -math.log(upper - lower), -np.inf),
    ),
}
