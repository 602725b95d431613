"""Densities without sampling: each model equals one written by hand in PyMC, and plain SciPy, at random points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pymc.model.transform.conditioning import remove_value_transforms
from pytensor import function
from pytensor.compile.mode import Mode
from scipy import special, stats

import hierpanel as hp
from hierpanel.compiler import noncentered, scales

Array = np.ndarray
P = hp.Prior
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def rows(n: int = 36) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    x, z = rng.normal(2.0, 1.0, n), rng.normal(-1.0, 2.0, n)
    school = rng.integers(0, 3, n)
    trials = rng.integers(1, 9, n)
    return pd.DataFrame(
        {
            "y": 1 + x + rng.normal(size=n),
            "x": x,
            "z": z,
            "g": np.array(list("abcd"))[np.arange(n) * 4 // n],
            "h": np.array(list("uvw"))[rng.permutation(np.arange(n) % 3)],
            "year": 2000 + np.arange(n) % 5,
            "school": np.array(["s1", "s2", "s3"])[school],
            "room": np.array(["r1", "r2"])[rng.integers(0, 2, n)],
            "w": rng.uniform(0.5, 3.0, n),
            "yes": rng.integers(0, 2, n),
            "trials": trials,
            "successes": rng.binomial(trials, 0.4),
            "count": rng.poisson(3.0, n),
            "exposure": rng.uniform(1.0, 4.0, n),
        }
    )


DATA = rows()
COLUMNS = {
    "Intercept": np.ones(len(DATA)),
    "x": DATA["x"].to_numpy(),
    "z": DATA["z"].to_numpy(),
    "h[v]": (DATA["h"] == "v").to_numpy(float),
    "h[w]": (DATA["h"] == "w").to_numpy(float),
}


def codes(*columns: str) -> Array:
    """The level of each row, among the combinations that occur, in sorted order."""
    return DATA.groupby(list(columns)).ngroup().to_numpy()


# --- what a model is, written down a second time ----------------------------------------------------------------------


@dataclass(frozen=True)
class Factor:
    """A factor's columns; `partial` names the partial correlations of those that vary together; `fe` fixed effects."""

    columns: tuple[str, ...]
    partial: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fe: bool = False

    @property
    def free(self) -> list[int]:
        return list(range(int(self.fe), len(self.columns)))


def one(*columns: str) -> Factor:
    return Factor(("Intercept", *columns))


def gaussian(eta: Array, parameters: Mapping[str, float]) -> Array:
    return stats.norm(eta, parameters["sigma"]).logpdf(DATA["y"])


@dataclass(frozen=True)
class Case:
    """A formula, its columns by name, its factors by the names of their columns, and priors beside `PRIORS`."""

    formula: str
    columns: tuple[str, ...]
    factors: Mapping[str, Factor] = field(default_factory=dict)
    priors: Mapping[str, Any] = field(default_factory=dict)
    likelihood: Callable[[Array, Mapping[str, float]], Array] = gaussian
    parameters: tuple[str, ...] = ("sigma",)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_priors(self) -> dict[str, Any]:
        found: dict[str, Any] = {"beta": P("Normal", mu=0.3, sigma=1.7)} if self.columns else {}
        for name, factor in self.factors.items():
            found[f"sd_{name}"] = 3.0 if factor.fe else P("Gamma", alpha=2.5, beta=1.3)
            found |= {f"cor_{name}": P("LKJ", eta=3)} if factor.partial else {}
        found |= {name: P("HalfStudentT", nu=4, sigma=1.2) for name in self.parameters}
        return found | dict(self.priors)

    def prior(self, name: str, coef: str) -> Any:
        return self.all_priors.get(f"{name}[{coef}]", self.all_priors.get(name))

    def sds(self, name: str) -> list[Any]:
        """The prior, or the number, of each sd of a factor; a number for fe() leaves its slopes as they are."""
        return [self.prior(f"sd_{name}", coef) for coef in self.factors[name].columns]

    def model(self, center: bool) -> hp.Model:
        return hp.Model(self.formula, DATA, priors=self.all_priors, center=center, **self.options)


@dataclass(frozen=True)
class Point:
    """Values on the scale of the priors: beta, and for each factor sd, partial correlations and effects (J, q)."""

    beta: Array
    sd: Mapping[str, Array]
    partial: Mapping[str, Array]
    effects: Mapping[str, Array]
    parameters: Mapping[str, float]


def random_point(case: Case, seed: int) -> Point:
    rng = np.random.default_rng(seed)
    sd, partial, effects = {}, {}, {}
    for name, factor in case.factors.items():
        q, J = len(factor.columns), codes(*name.split(":")).max() + 1
        fixed = [prior if isinstance(prior, float) else np.nan for prior in case.sds(name)]
        sd[name] = np.where(np.isnan(fixed), rng.uniform(0.5, 2.0, q), fixed)
        partial |= {key: rng.uniform(0.15, 0.85, len(at) * (len(at) - 1) // 2) for key, at in factor.partial.items()}
        effects[name] = rng.normal(size=(J, q))
    parameters = {name: rng.uniform(0.7, 3.0) for name in case.parameters}
    return Point(rng.normal(size=len(case.columns)), sd, partial, effects, parameters)


def correlation(partial: Array, q: int) -> Array:
    """Correlations (q, q) from partial correlations 2 p - 1 of i > j given the columns before j, row by row.

    Source: Lewandowski, Kurowicka and Joe (2009), section 2.1: one conditioning column is taken away after another.
    """
    conditional = np.eye(q, dtype=partial.dtype)
    conditional[np.tril_indices(q, -1)] = 2 * partial - 1
    R = np.eye(q, dtype=partial.dtype)
    for i in range(q):
        for j in range(i):
            r = conditional[i, j]
            for k in reversed(range(j)):
                a, b = conditional[i, k], conditional[j, k]
                r = a * b + r * np.sqrt((1 - a**2) * (1 - b**2))
            R[i, j] = R[j, i] = r
    return R


def lower(R: Array) -> Array:
    return R[np.tril_indices(len(R), -1)]


def log_jacobian(map_: Callable[[Array], Array], at: Array) -> float:
    """log |det d map / d at|, by complex steps, which have no rounding error."""
    steps = [map_(at + 1e-30j * np.eye(len(at))[k]).imag / 1e-30 for k in range(len(at))]
    return float(np.linalg.slogdet(np.array(steps))[1])


def lkj(R: Array, eta: float) -> float:
    """log density of the correlations; its constant from Lewandowski, Kurowicka and Joe (2009), equation (16)."""
    d = len(R)
    k = np.arange(1, d)
    constant = special.gammaln(eta + (d - 1) / 2) - k / 2 * np.log(np.pi) - special.gammaln(eta + (d - 1 - k) / 2)
    return float(constant.sum() + (eta - 1) * np.linalg.slogdet(R)[1])


def correlations(case: Case, point: Point, name: str) -> Array:
    R = np.eye(len(case.factors[name].columns))
    for key, at in case.factors[name].partial.items():
        R[np.ix_(at, at)] = correlation(point.partial[key], len(at))
    return R


def centering(case: Case, center: bool, name: str) -> Array:
    """A, (q, q): effects on the original scale are A times those on the prior's; means move into the intercept."""
    columns = case.factors[name].columns
    A = np.eye(len(columns))
    for at in case.factors[name].partial.values():
        if center and columns[at[0]] == "Intercept":
            A[at[0], at[1:]] = [-COLUMNS[columns[k]].mean() for k in at[1:]]
    return A


@dataclass(frozen=True)
class Natural:
    """The same point on the original scale; Sigma (q, q) is the covariance of a factor's effects b (J, q)."""

    beta: Array
    b: Mapping[str, Array]
    Sigma: Mapping[str, Array]


def natural(case: Case, point: Point, center: bool) -> Natural:
    beta = point.beta.copy()
    if center and case.columns[:1] == ("Intercept",):
        beta[0] -= sum(COLUMNS[coef].mean() * beta[k] for k, coef in enumerate(case.columns) if k > 0)
    b, Sigma = {}, {}
    for name in case.factors:
        A = centering(case, center, name)
        D = np.diag(point.sd[name])
        b[name] = point.effects[name] @ A.T
        Sigma[name] = A @ D @ correlations(case, point, name) @ D @ A.T
    return Natural(beta, b, Sigma)


DENSITIES: dict[str, Callable[..., Any]] = {
    "Normal": lambda v, mu, sigma: stats.norm(mu, sigma).logpdf(v),
    "StudentT": lambda v, nu, mu, sigma: stats.t(nu, mu, sigma).logpdf(v),
    "HalfNormal": lambda v, sigma: stats.halfnorm(scale=sigma).logpdf(v),
    "HalfStudentT": lambda v, nu, sigma: np.log(2) + stats.t(nu, scale=sigma).logpdf(v),
    "Exponential": lambda v, lam: stats.expon(scale=1 / lam).logpdf(v),
    "Gamma": lambda v, alpha, beta: stats.gamma(alpha, scale=1 / beta).logpdf(v),
    "InverseGamma": lambda v, alpha, beta: stats.invgamma(alpha, scale=beta).logpdf(v),
}


def prior_density(prior: Any, value: float) -> float:
    return 0.0 if isinstance(prior, float) else float(DENSITIES[prior.name](value, **prior.values))


def linear_predictor(case: Case, at: Natural) -> Array:
    eta = np.zeros(len(DATA))
    for coef, value in zip(case.columns, at.beta, strict=True):
        eta += value * COLUMNS[coef]
    for name, factor in case.factors.items():
        for k, coef in enumerate(factor.columns):
            eta += at.b[name][codes(*name.split(":")), k] * COLUMNS[coef]
    return eta


def reference(case: Case, point: Point, center: bool) -> float:
    """log density of beta, the sds and correlations that priors refer to, b, the family's parameters, and y."""
    at = natural(case, point, center)
    total = sum(prior_density(case.prior("beta", coef), v) for coef, v in zip(case.columns, point.beta, strict=True))
    total += sum(prior_density(case.all_priors[name], value) for name, value in point.parameters.items())
    for name, factor in case.factors.items():
        total += sum(prior_density(prior, v) for prior, v in zip(case.sds(name), point.sd[name], strict=True))
        for key, columns in factor.partial.items():
            total += lkj(correlation(point.partial[key], len(columns)), case.all_priors[f"cor_{name}"].values["eta"])
        total += stats.multivariate_normal(cov=at.Sigma[name]).logpdf(at.b[name]).sum()
    return total + case.likelihood(linear_predictor(case, at), point.parameters).sum()


# --- what the package samples -----------------------------------------------------------------------------------------


class Compiled:
    """log density, rows' log-likelihood and named quantities of a PyMC model, as functions of untransformed values."""

    def __init__(self, model: Any):
        model = remove_value_transforms(model)
        self.names = [value.name for value in model.value_vars]
        self.deterministics = [variable.name for variable in model.deterministics]
        outputs = [
            model.logp(jacobian=False),
            model.logp(vars=model.observed_RVs, jacobian=False, sum=False)[0],
            *model.replace_rvs_by_values(model.deterministics),
        ]
        # the graph as it stands, interpreted: nothing is compiled
        self.call = function(model.value_vars, outputs, mode=Mode(linker="py", optimizer=None), on_unused_input="ignore")

    def __call__(self, values: Mapping[str, Any]) -> tuple[float, Array, dict[str, Array]]:
        log_density, by_row, *named = self.call(*(values[name] for name in self.names))
        return float(log_density), by_row, dict(zip(self.deterministics, named, strict=True))


def free_values(case: Case, point: Point, center: bool, names: list[str]) -> tuple[dict[str, Array], float]:
    """The point in the variables that are sampled, and log |det d (beta, sd, correlations, b, …) / d (them)|."""
    has_intercept = case.columns[:1] == ("Intercept",)
    fixed = [name for name, factor in case.factors.items() if factor.fe]
    moved = has_intercept and bool((center and len(case.columns) > 1) or fixed)
    values: dict[str, Any] = {"beta_c" if moved else "beta": point.beta, **point.partial, **point.parameters}
    total, level = 0.0, dict(zip(case.columns, point.beta, strict=True))
    for name, factor in case.factors.items():
        J = len(point.effects[name])
        A = centering(case, center, name)
        values[f"sd_{name}" if np.array_equal(A, np.eye(len(A))) else f"sd_c_{name}"] = point.sd[name]
        for key, at in factor.partial.items():
            total += log_jacobian(lambda p, q=len(at): lower(correlation(p, q)), point.partial[key])
        if not factor.free:
            continue
        effects = point.effects[name][:, factor.free]
        Sigma = np.diag(point.sd[name]) @ correlations(case, point, name) @ np.diag(point.sd[name])
        F = np.linalg.cholesky(Sigma[np.ix_(factor.free, factor.free)])
        u = np.linalg.solve(F, effects.T)
        mean = u.mean(axis=1)
        values |= {f"effects_{name}": effects, f"u_{name}": u}
        values |= {f"mean_u_{name}": mean, f"deviation_u_{name}": u - mean[:, None]}
        if f"effects_{name}" not in names:
            total += J * np.log(np.diag(F)).sum()
        if f"mean_u_{name}" in names:
            total += len(u) / 2 * np.log(J)  # u's coordinates along (1, …, 1) / √J are mean √J
            for k, mean_effect in zip(factor.free, F @ mean, strict=True):
                if factor.columns[k] in level:
                    level[factor.columns[k]] += mean_effect
    for name in fixed[1:]:
        effects = point.effects[name][:, 0]
        values |= {f"location_{name}": effects.mean(), f"deviation_{name}": effects - effects.mean()}
        total += np.log(len(effects)) / 2
    for name in fixed[:1]:
        mean = sum(values[f"location_{other}"] for other in fixed[1:])
        values[f"total_{name}"] = point.effects[name][:, 0] + mean + (point.beta[0] if has_intercept else 0.0)
    normal = [coef for coef in case.columns if case.prior("beta", coef).name == "Normal"]
    values["level"] = [level[coef] if coef in normal else beta for coef, beta in zip(case.columns, point.beta, strict=True)]
    for name, value in list(values.items()):  # a vector with priors of several kinds is several variables
        values |= {f"{name}_{k}": entry for k, entry in enumerate(value)} if np.ndim(value) == 1 else {}
    return {name: np.asarray(values[name]) for name in names}, total


def canonical(case: Case, point: Point, center: bool) -> dict[str, Array]:
    """Every reported quantity."""
    at = natural(case, point, center)
    found: dict[str, Array] = {"beta": at.beta.copy(), "beta_c": point.beta, **point.parameters}
    for name, factor in case.factors.items():
        sd = np.sqrt(np.diag(at.Sigma[name]))
        found |= {f"sd_{name}": sd, f"cor_{name}": at.Sigma[name] / np.outer(sd, sd), f"b_{name}": at.b[name].copy()}
        found |= {f"sd_c_{name}": point.sd[name], f"cor_c_{name}": correlations(case, point, name)}
        if factor.fe and case.columns[:1] == ("Intercept",):
            mean = at.b[name][codes(*name.split(":")), 0].mean()
            found[f"b_{name}"][:, 0] -= mean
            found["beta"][0] += mean
    return found


# --- structures -------------------------------------------------------------------------------------------------------

WEIGHTS = DATA["w"].to_numpy()


def weighted(eta: Array, parameters: Mapping[str, float]) -> Array:
    return stats.norm(eta, parameters["sigma"] / np.sqrt(WEIGHTS)).logpdf(DATA["y"])


def shifted(eta: Array, parameters: Mapping[str, float]) -> Array:
    return gaussian(eta + np.log(DATA["exposure"].to_numpy()), parameters)


I, IX, IXZ = ("Intercept",), ("Intercept", "x"), ("Intercept", "x", "z")
SLOPES = Factor(IX, {"pcor_g": (0, 1)})
FE = Factor(I, fe=True)
SOME_KINDS = {"beta[x]": P("StudentT", nu=5, mu=0.2, sigma=1.1), "sd_g[x]": P("Exponential", lam=1.4)}
CASES = {
    case.formula if not case.priors and not case.options else f"{case.formula}, {[*case.priors, *case.options]}": case
    for case in (
        Case("y ~ 1", I),
        Case("y ~ x + z", IXZ),
        Case("y ~ 0 + x", ("x",)),
        Case("y ~ 0 + (1 | g)", (), {"g": one()}),
        Case("y ~ x + (1 | g)", IX, {"g": one()}),
        Case("y ~ x + (0 + x | g)", IX, {"g": Factor(("x",))}),
        Case("y ~ 1 + (0 + x | g)", I, {"g": Factor(("x",))}),
        Case("y ~ x + (1 + x || g)", IX, {"g": one("x")}),
        Case("y ~ x + (x | g)", IX, {"g": SLOPES}),
        Case("y ~ x + z + (x + z | g)", IXZ, {"g": Factor(IXZ, {"pcor_g": (0, 1, 2)})}),
        Case("y ~ x + (0 + x + z | g)", IX, {"g": Factor(("x", "z"), {"pcor_g": (0, 1)})}),
        Case("y ~ x + (1 | g) + (0 + x + z | g)", IX, {"g": Factor(IXZ, {"pcor_g_1": (1, 2)})}),
        Case("y ~ x + (0 + z | g) + (x | g)", IX, {"g": Factor(("z", *IX), {"pcor_g_1": (1, 2)})}),
        Case("y ~ x + (h | g)", IX, {"g": Factor(("Intercept", "h[v]", "h[w]"), {"pcor_g": (0, 1, 2)})}),
        Case("y ~ x + (h || g)", IX, {"g": one("h[v]", "h[w]")}),
        Case("y ~ x + (x | g) + (1 | h)", IX, {"g": SLOPES, "h": one()}),
        Case(
            "y ~ x + (x | school/room)",
            IX,
            {"school": Factor(IX, {"pcor_school": (0, 1)}), "school:room": Factor(IX, {"pcor_school:room": (0, 1)})},
        ),
        Case("y ~ x + fe(g)", IX, {"g": FE}),
        Case("y ~ 0 + x + fe(g)", ("x",), {"g": FE}),
        Case("y ~ x + fe(g) + fe(year)", IX, {"g": FE, "year": FE}),
        Case("y ~ 0 + x + fe(g) + fe(year)", ("x",), {"g": FE, "year": FE}),
        Case("y ~ x + fe(g) + fe(year) + fe(h)", IX, {"g": FE, "year": FE, "h": FE}),
        Case(
            "y ~ x + fe(g) + (0 + x + z | g) + (1 | h)",
            IX,
            {"g": Factor(IXZ, {"pcor_g_1": (1, 2)}, fe=True), "h": one()},
            {"sd_g": P("HalfNormal", sigma=1.5), "sd_g[Intercept]": 2.0},
        ),
        Case("y ~ x + (x | g)", IX, {"g": SLOPES}, {"sd_g[x]": 0.4}),
        Case("y ~ x + (x | g)", IX, {"g": SLOPES}, {"sd_g": 0.7}),
        Case("y ~ x + (1 | g)", IX, {"g": one()}, {"sd_g": 0.7}),
        Case("y ~ x + (x | g)", IX, {"g": SLOPES}, SOME_KINDS),
        Case("y ~ x + (x | g)", IX, {"g": SLOPES}, {"beta": P("StudentT", nu=5, mu=0.2, sigma=1.1)}),
        Case("y ~ x + (1 | g)", IX, {"g": one()}, {}, weighted, options={"weights": "w"}),
        Case("y ~ x + offset(log(exposure)) + (1 | g)", IX, {"g": one()}, {}, shifted),
    )
}
FORMS = [("noncentered", "coefficients"), ("noncentered", "levels"), ("centered", "coefficients")]


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_structures(name: str, center: bool) -> None:
    """Every form that can be sampled has the reference's density and reports its quantities, in PyMC and in NumPy."""
    case = CASES[name]
    model = case.model(center)
    dims = scales.dims_of(model.spec)
    for parameterization, location in FORMS:
        compiled = Compiled(noncentered.to_pymc(model.spec, model.design, parameterization, location))
        for seed in (1, 2):
            point = random_point(case, seed)
            values, jacobian = free_values(case, point, center, compiled.names)
            log_density, by_row, named = compiled(values)
            np.testing.assert_allclose(log_density - jacobian, reference(case, point, center), **CLOSE)
            expected = canonical(case, point, center)
            draws = noncentered.canonical_draws(
                model.spec, model.design, {key: value[None, None] for key, value in values.items()}
            )
            assert list(draws) == list(dims)
            for key in dims:
                shown = named[key] if key in named else values[key]
                np.testing.assert_allclose(shown, expected[key], err_msg=key, **CLOSE)
                np.testing.assert_allclose(draws[key][0, 0], expected[key], err_msg=key, **CLOSE)
            eta = linear_predictor(case, natural(case, point, center))
            np.testing.assert_allclose(by_row, case.likelihood(eta, point.parameters), **CLOSE)
