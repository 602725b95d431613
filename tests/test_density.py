"""Densities without sampling: each model equals one written by hand in PyMC, and plain SciPy, at random points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pymc.model.transform.conditioning import remove_value_transforms
from pytensor import function
from pytensor.compile.mode import Mode
from pytensor.scalar.basic import autocast_float_as
from scipy import special, stats

import hierpanel as hp
from hierpanel.compiler import noncentered, scales
from hierpanel.spec import Rows

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
            "neighbourhood": rng.integers(0, 5, n),
            "worker": np.arange(n) // 4,
            "experience": np.arange(n) % 4 + rng.poisson(5, n // 4)[np.arange(n) // 4],
            "log_wage": rng.normal(2.5, 0.4, n),
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
    "experience": DATA["experience"].to_numpy(float),
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


def correlation(partial: Array) -> Array:
    """Correlations (q, q) from partial correlations 2 p - 1 of i > j given the columns before j, row by row.

    Source: Lewandowski, Kurowicka and Joe (2009), section 2.1: one conditioning column is taken away after another.
    """
    q = int(1 + np.sqrt(1 + 8 * len(partial))) // 2
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
        R[np.ix_(at, at)] = correlation(point.partial[key])
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
    "Normal": lambda v, sigma, mu=0.0: stats.norm(mu, sigma).logpdf(v),
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
        for key in factor.partial:
            total += lkj(correlation(point.partial[key]), case.all_priors[f"cor_{name}"].values["eta"])
        total += stats.multivariate_normal(cov=at.Sigma[name]).logpdf(at.b[name]).sum()
    return total + case.likelihood(linear_predictor(case, at), point.parameters).sum()


# --- what the package samples -----------------------------------------------------------------------------------------


class Compiled:
    """log density, rows' log-likelihood and named quantities of a PyMC model, as functions of untransformed values."""

    def __init__(self, model: Any):
        model = remove_value_transforms(model)
        self.names = [value.name for value in model.value_vars]
        self.deterministics = [variable.name for variable in model.deterministics]
        outputs = model.logp(jacobian=False, sum=False)  # of the observed variable last
        self.terms = len(outputs)
        outputs += model.replace_rvs_by_values(model.deterministics)
        # the graph as it stands, interpreted: nothing is compiled
        self.call = function(model.value_vars, outputs, mode=Mode(linker="py", optimizer=None))

    def __call__(self, values: Mapping[str, Any]) -> tuple[float, Array, dict[str, Array]]:
        found = self.call(*(values[name] for name in self.names))
        terms, named = found[: self.terms], found[self.terms :]
        return sum(term.sum() for term in terms), terms[-1], dict(zip(self.deterministics, named, strict=True))


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
        for key in factor.partial:
            total += log_jacobian(lambda p: lower(correlation(p)), point.partial[key])
        if not factor.free:
            continue
        effects = point.effects[name][:, factor.free]
        Sigma = np.diag(point.sd[name]) @ correlations(case, point, name) @ np.diag(point.sd[name])
        F = np.linalg.cholesky(Sigma[np.ix_(factor.free, factor.free)])
        u = np.linalg.solve(F, effects.T)
        mean, idle = u.mean(axis=1), 0.1 * np.arange(1, len(u) + 1)
        values |= {f"effects_{name}": effects, f"u_{name}": u}
        values |= {f"mean_u_{name}": mean, f"v_{name}": u - mean[:, None] + idle[:, None]}
        values[f"spread_{name}"] = effects.std(axis=0)
        if f"spread_{name}" in names:  # sd = spread / (spread of the unit effects)
            total += np.log(point.sd[name] / effects.std(axis=0)).sum()
        if f"effects_{name}" not in names:
            total += J * np.log(np.diag(F)).sum()
        if f"mean_u_{name}" in names:
            total += stats.norm(0, 1 / np.sqrt(J)).logpdf(idle).sum()  # the mean of v, which touches nothing
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
    values["beta_level"] = [
        level[coef] if coef in normal else beta for coef, beta in zip(case.columns, point.beta, strict=True)
    ]
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


def weighted(eta: Array, parameters: Mapping[str, float]) -> Array:
    return stats.norm(eta, parameters["sigma"] / np.sqrt(DATA["w"])).logpdf(DATA["y"])


def shifted(eta: Array, parameters: Mapping[str, float]) -> Array:
    return gaussian(eta + np.log(DATA["exposure"]), parameters)


INTERCEPT, IX, IXZ = ("Intercept",), ("Intercept", "x"), ("Intercept", "x", "z")
SLOPES = Factor(IX, {"pcor_g": (0, 1)})
FE = Factor(INTERCEPT, fe=True)
SOME_KINDS = {"beta[x]": P("StudentT", nu=5, mu=0.2, sigma=1.1), "sd_g[x]": P("Exponential", lam=1.4)}
CASES = [
    Case("y ~ 1", INTERCEPT),
    Case("y ~ x + z", IXZ),
    Case("y ~ x + z + h + experience", (*IXZ, "h[v]", "h[w]", "experience")),
    Case("y ~ 0 + x", ("x",)),
    Case("y ~ 0 + (1 | g)", (), {"g": one()}),
    Case("y ~ x + (1 | g)", IX, {"g": one()}),
    Case("y ~ 1 + (0 + x | g)", INTERCEPT, {"g": Factor(("x",))}),
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
    Case("y ~ 0 + x + fe(g) + fe(year)", ("x",), {"g": FE, "year": FE}),
    Case("y ~ x + fe(g) + fe(year)", IX, {"g": FE, "year": FE}),
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
    Case("y ~ x + (1 | g)", IX, {"g": one()}, {"beta": P("StudentT", nu=5, mu=0.2, sigma=1.1)}),
    Case("y ~ x + (1 | g)", IX, {"g": one()}, {"beta": P("Normal", sigma=1.1)}),
    Case("y ~ x + (1 | g)", IX, {"g": one()}, {}, weighted, options={"weights": "w"}),
    Case("y ~ x + offset(log(exposure)) + (1 | g)", IX, {"g": one()}, {}, shifted),
]
# (parameterization, location, center); models written by hand, below, have the first without centring
FORMS: list[tuple[Any, Any, bool]] = [
    ("noncentered", "coefficients", True),
    ("noncentered", "levels", True),
    ("centered", "coefficients", False),
]


@pytest.mark.parametrize("case", CASES, ids=[", ".join([case.formula, *case.priors, *case.options]) for case in CASES])
def test_structures(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form that is sampled has the reference's density, and reports its quantities in PyMC and in NumPy."""
    monkeypatch.setattr(scales, "UNITS_WITH_SPREAD", 2)  # the factors here are small
    for parameterization, location, center in FORMS:
        model = case.model(center)
        dims = scales.dims_of(model.spec)
        compiled = Compiled(noncentered.to_pymc(model.spec, model.design, parameterization, location))
        for seed in (1, 2, 3):
            point = random_point(case, seed)
            values, jacobian = free_values(case, point, center, compiled.names)
            log_density, by_row, named = compiled(values)
            np.testing.assert_allclose(log_density - jacobian, reference(case, point, center), **CLOSE)
            eta = linear_predictor(case, natural(case, point, center))
            np.testing.assert_allclose(by_row, case.likelihood(eta, point.parameters), **CLOSE)
            expected = canonical(case, point, center)
            one_draw = {key: value[None, None] for key, value in values.items()}
            draws = noncentered.canonical_draws(model.spec, model.design, one_draw)
            assert list(draws) == list(dims)
            for key in dims:
                np.testing.assert_allclose(named.get(key, values.get(key)), expected[key], err_msg=key, **CLOSE)
                np.testing.assert_allclose(draws[key][0, 0], expected[key], err_msg=key, **CLOSE)


# --- models written by hand -------------------------------------------------------------------------------------------

y, x, z = (DATA[name].to_numpy() for name in ("y", "x", "z"))
X = np.stack([x, z], axis=1)
groups, schools, workers, neighbourhoods = (codes(name) for name in ("g", "school", "worker", "neighbourhood"))
classrooms = codes("school", "room")
n_groups, n_schools, n_workers, n_neighbourhoods, n_classrooms = (
    int(level.max()) + 1 for level in (groups, schools, workers, neighbourhoods, classrooms)
)
school_of_classroom = np.array([schools[classrooms == classroom][0] for classroom in range(n_classrooms)])


def complete_pooling() -> None:
    alpha = pm.Normal("alpha", mu=0.0, sigma=10.0)
    beta = pm.Normal("beta", mu=0.0, sigma=2.5)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha + beta * x, sigma=sigma, observed=y)


def no_pooling() -> None:
    alpha = pm.Normal("alpha", mu=0.0, sigma=10.0, shape=n_groups)
    beta = pm.Normal("beta", mu=0.0, sigma=2.5)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha[groups] + beta * x, sigma=sigma, observed=y)


def no_pooling_of_slopes() -> None:
    alpha = pm.Normal("alpha", mu=0.0, sigma=10.0)
    beta = pm.Normal("beta", mu=0.0, sigma=2.5, shape=n_groups)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha + beta[groups] * x, sigma=sigma, observed=y)


def partial_pooling() -> None:
    mu_alpha = pm.Normal("mu_alpha", mu=0.0, sigma=10.0)
    sigma_alpha = pm.HalfNormal("sigma_alpha", sigma=2.0)
    alpha = pm.Normal("alpha", mu=mu_alpha, sigma=sigma_alpha, shape=n_groups)
    beta = pm.Normal("beta", mu=0.0, sigma=2.5)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha[groups] + beta * x, sigma=sigma, observed=y)


def partial_pooling_of_slopes() -> None:
    alpha = pm.Normal("alpha", mu=0.0, sigma=10.0)
    mu_beta = pm.Normal("mu_beta", mu=0.0, sigma=2.5)
    sigma_beta = pm.HalfNormal("sigma_beta", sigma=1.0)
    beta = pm.Normal("beta", mu=mu_beta, sigma=sigma_beta, shape=n_groups)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha + beta[groups] * x, sigma=sigma, observed=y)


def varying_intercepts() -> None:
    mu_alpha = pm.Normal("mu_alpha", mu=0.0, sigma=10.0)
    sigma_alpha = pm.HalfNormal("sigma_alpha", sigma=2.0)
    alpha_offset = pm.Normal("alpha_offset", mu=0.0, sigma=1.0, shape=n_groups)
    alpha = mu_alpha + sigma_alpha * alpha_offset
    beta = pm.Normal("beta", mu=0.0, sigma=2.5, shape=2)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha[groups] + pm.math.dot(X, beta), sigma=sigma, observed=y)


def varying_intercepts_and_slopes() -> None:
    mu_alpha = pm.Normal("mu_alpha", mu=0.0, sigma=10.0)
    sigma_alpha = pm.HalfNormal("sigma_alpha", sigma=2.0)
    mu_beta = pm.Normal("mu_beta", mu=0.0, sigma=2.5)
    sigma_beta = pm.HalfNormal("sigma_beta", sigma=1.0)
    alpha_offset = pm.Normal("alpha_offset", mu=0.0, sigma=1.0, shape=n_groups)
    beta_offset = pm.Normal("beta_offset", mu=0.0, sigma=1.0, shape=n_groups)
    alpha, beta = mu_alpha + sigma_alpha * alpha_offset, mu_beta + sigma_beta * beta_offset
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha[groups] + beta[groups] * x, sigma=sigma, observed=y)


def correlated_intercepts_and_slopes() -> None:
    mu = pm.Normal("mu", mu=0.0, sigma=2.5, shape=2)
    chol, _, _ = pm.LKJCholeskyCov("chol_cov", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(sigma=2.0, shape=2))
    effects = pm.MvNormal("effects", mu=mu, chol=chol, shape=(n_groups, 2))
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=effects[groups, 0] + effects[groups, 1] * x, sigma=sigma, observed=y)


def fixed_effects() -> None:
    alpha = pm.Normal("alpha", mu=0.0, sigma=100.0, shape=n_workers)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha[workers], sigma=sigma, observed=y)


def random_effects() -> None:
    mu_alpha = pm.Normal("mu_alpha", mu=0.0, sigma=10.0)
    sigma_alpha = pm.HalfNormal("sigma_alpha", sigma=2.0)
    alpha = pm.Normal("alpha", mu=mu_alpha, sigma=sigma_alpha, shape=n_workers)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha[workers], sigma=sigma, observed=y)


def random_effects_of_known_sd() -> None:
    mu_alpha = pm.Normal("mu_alpha", mu=0.0, sigma=10.0)
    alpha = pm.Normal("alpha", mu=mu_alpha, sigma=0.5, shape=n_workers)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=alpha[workers], sigma=sigma, observed=y)


def cross_classified() -> None:
    alpha = pm.Normal("alpha", mu=0.0, sigma=2.0)
    sigma_school = pm.HalfNormal("sigma_school", sigma=1.0)
    school_effect = pm.Normal("school_effect", mu=0.0, sigma=sigma_school, shape=n_schools)
    sigma_neighbourhood = pm.HalfNormal("sigma_neighbourhood", sigma=1.0)
    neighbourhood_effect = pm.Normal("neighbourhood_effect", mu=0.0, sigma=sigma_neighbourhood, shape=n_neighbourhoods)
    beta = pm.Normal("beta", mu=0.0, sigma=2.5, shape=2)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    mu = alpha + school_effect[schools] + neighbourhood_effect[neighbourhoods] + pm.math.dot(X, beta)
    pm.Normal("y", mu=mu, sigma=sigma, observed=y)


def three_levels() -> None:
    mu_school = pm.Normal("mu_school", mu=0.0, sigma=5.0)
    sigma_school = pm.HalfNormal("sigma_school", sigma=2.0)
    school_effect = pm.Normal("school_effect", mu=mu_school, sigma=sigma_school, shape=n_schools)
    sigma_classroom = pm.HalfNormal("sigma_classroom", sigma=1.0)
    classroom_effect = pm.Normal("classroom_effect", mu=school_effect[school_of_classroom], sigma=sigma_classroom)
    beta = pm.Normal("beta", mu=0.0, sigma=2.5, shape=2)
    sigma = pm.HalfNormal("sigma", sigma=1.0)
    pm.Normal("y", mu=classroom_effect[classrooms] + pm.math.dot(X, beta), sigma=sigma, observed=y)


def wage_panel() -> None:
    mu_worker = pm.Normal("mu_worker", mu=0.0, sigma=5.0)
    sigma_worker = pm.HalfNormal("sigma_worker", sigma=1.0)
    worker_offset = pm.Normal("worker_offset", mu=0.0, sigma=1.0, shape=n_workers)
    worker_effect = mu_worker + sigma_worker * worker_offset
    beta_exp = pm.Normal("beta_exp", mu=0.0, sigma=0.1)
    sigma = pm.HalfNormal("sigma", sigma=0.5)
    mu = worker_effect[workers] + beta_exp * COLUMNS["experience"]
    pm.Normal("log_wage", mu=mu, sigma=sigma, observed=DATA["log_wage"])


def wages(eta: Array, parameters: Mapping[str, float]) -> Array:
    return stats.norm(eta, parameters["sigma"]).logpdf(DATA["log_wage"])


@dataclass(frozen=True)
class V:
    """A point in the words of a model written by hand: beta, and for one factor b (J, q), sd (q,) and correlations."""

    beta: Array
    b: Mapping[str, Array]
    sd: Mapping[str, Array]
    R: Mapping[str, Array]


def packed(sd_and_correlation: Array) -> Array:
    """The lower triangle of the Cholesky factor of a covariance (2, 2)."""
    first, second, r = sd_and_correlation
    return np.array([first, r * second, np.sqrt(1 - r**2) * second])


def sd_and_correlation(v: V) -> Array:
    return np.array([*v.sd["g"], v.R["g"][0, 1]])


def normal(sigma: float, mu: float = 0.0) -> hp.Prior:
    return P("Normal", mu=mu, sigma=sigma)


def half(sigma: float) -> hp.Prior:
    return P("HalfNormal", sigma=sigma)


@dataclass(frozen=True)
class Hand:
    """A model by hand beside its formula; its values, and log |det d (beta, sds, correlations, b) / d values|."""

    write: Callable[[], None]
    case: Case
    values: Callable[[V], dict[str, Any]]
    log_jacobian: Callable[[V], float] = lambda v: 0.0


ONE = {"sigma": half(1)}
WIDE = {"beta": normal(2.5), "beta[Intercept]": normal(10), "sd_g": half(2), **ONE}
BY_HAND = [
    Hand(
        complete_pooling,
        Case("y ~ x", IX, {}, {"beta": normal(2.5), "beta[Intercept]": normal(10), **ONE}),
        lambda v: {"alpha": v.beta[0], "beta": v.beta[1]},
    ),
    Hand(
        no_pooling,
        Case("y ~ 0 + x + fe(g)", ("x",), {"g": FE}, {"beta": normal(2.5), "sd_g": 10.0, **ONE}),
        lambda v: {"alpha": v.b["g"][:, 0], "beta": v.beta[0]},
    ),
    Hand(
        no_pooling_of_slopes,
        Case("y ~ 1 + (0 + x | g)", INTERCEPT, {"g": Factor(("x",))}, {"beta": normal(10), "sd_g": 2.5, **ONE}),
        lambda v: {"alpha": v.beta[0], "beta": v.b["g"][:, 0]},
    ),
    Hand(
        partial_pooling,
        Case("y ~ x + (1 | g)", IX, {"g": one()}, WIDE),
        lambda v: {
            "mu_alpha": v.beta[0],
            "sigma_alpha": v.sd["g"][0],
            "alpha": v.beta[0] + v.b["g"][:, 0],
            "beta": v.beta[1],
        },
    ),
    Hand(
        partial_pooling_of_slopes,
        Case("y ~ x + (0 + x | g)", IX, {"g": Factor(("x",))}, {**WIDE, "sd_g": half(1)}),
        lambda v: {
            "alpha": v.beta[0],
            "mu_beta": v.beta[1],
            "sigma_beta": v.sd["g"][0],
            "beta": v.beta[1] + v.b["g"][:, 0],
        },
    ),
    Hand(
        varying_intercepts,
        Case("y ~ x + z + (1 | g)", IXZ, {"g": one()}, WIDE),
        lambda v: {
            "mu_alpha": v.beta[0],
            "sigma_alpha": v.sd["g"][0],
            "alpha_offset": v.b["g"][:, 0] / v.sd["g"][0],
            "beta": v.beta[1:],
        },
        lambda v: n_groups * np.log(v.sd["g"][0]),
    ),
    Hand(
        varying_intercepts_and_slopes,
        Case("y ~ x + (x || g)", IX, {"g": one("x")}, {**WIDE, "sd_g[x]": half(1)}),
        lambda v: {
            "mu_alpha": v.beta[0],
            "mu_beta": v.beta[1],
            "sigma_alpha": v.sd["g"][0],
            "sigma_beta": v.sd["g"][1],
            "alpha_offset": v.b["g"][:, 0] / v.sd["g"][0],
            "beta_offset": v.b["g"][:, 1] / v.sd["g"][1],
        },
        lambda v: n_groups * np.log(v.sd["g"]).sum(),
    ),
    Hand(
        correlated_intercepts_and_slopes,
        Case(
            "y ~ x + (x | g)",
            IX,
            {"g": SLOPES},
            {"beta": normal(2.5), "sd_g": half(2), "cor_g": P("LKJ", eta=2), **ONE},
        ),
        lambda v: {"mu": v.beta, "chol_cov": packed(sd_and_correlation(v)), "effects": v.beta + v.b["g"]},
        lambda v: -log_jacobian(packed, sd_and_correlation(v)),
    ),
    Hand(
        fixed_effects,
        Case("y ~ 0 + fe(worker)", (), {"worker": FE}, {"sd_worker": 100.0, **ONE}),
        lambda v: {"alpha": v.b["worker"][:, 0]},
    ),
    Hand(
        random_effects,
        Case("y ~ (1 | worker)", INTERCEPT, {"worker": one()}, {"beta": normal(10), "sd_worker": half(2), **ONE}),
        lambda v: {
            "mu_alpha": v.beta[0],
            "sigma_alpha": v.sd["worker"][0],
            "alpha": v.beta[0] + v.b["worker"][:, 0],
        },
    ),
    Hand(
        random_effects_of_known_sd,
        Case("y ~ (1 | worker)", INTERCEPT, {"worker": one()}, {"beta": normal(10), "sd_worker": 0.5, **ONE}),
        lambda v: {"mu_alpha": v.beta[0], "alpha": v.beta[0] + v.b["worker"][:, 0]},
    ),
    Hand(
        cross_classified,
        Case(
            "y ~ x + z + (1 | school) + (1 | neighbourhood)",
            IXZ,
            {"school": one(), "neighbourhood": one()},
            {
                "beta": normal(2.5),
                "beta[Intercept]": normal(2),
                "sd_school": half(1),
                "sd_neighbourhood": half(1),
                **ONE,
            },
        ),
        lambda v: {
            "alpha": v.beta[0],
            "beta": v.beta[1:],
            "sigma_school": v.sd["school"][0],
            "school_effect": v.b["school"][:, 0],
            "sigma_neighbourhood": v.sd["neighbourhood"][0],
            "neighbourhood_effect": v.b["neighbourhood"][:, 0],
        },
    ),
    Hand(
        three_levels,
        Case(
            "y ~ x + z + (1 | school/room)",
            IXZ,
            {"school": one(), "school:room": one()},
            {
                "beta": normal(2.5),
                "beta[Intercept]": normal(5),
                "sd_school": half(2),
                "sd_school:room": half(1),
                **ONE,
            },
        ),
        lambda v: {
            "mu_school": v.beta[0],
            "beta": v.beta[1:],
            "sigma_school": v.sd["school"][0],
            "school_effect": v.beta[0] + v.b["school"][:, 0],
            "sigma_classroom": v.sd["school:room"][0],
            "classroom_effect": v.beta[0] + v.b["school"][school_of_classroom, 0] + v.b["school:room"][:, 0],
        },
    ),
    Hand(
        wage_panel,
        Case(
            "log_wage ~ experience + (1 | worker)",
            ("Intercept", "experience"),
            {"worker": one()},
            {"beta": normal(0.1), "beta[Intercept]": normal(5), "sd_worker": half(1), "sigma": half(0.5)},
            wages,
            options={"panel": ("worker", "experience")},
        ),
        lambda v: {
            "mu_worker": v.beta[0],
            "beta_exp": v.beta[1],
            "sigma_worker": v.sd["worker"][0],
            "worker_offset": v.b["worker"][:, 0] / v.sd["worker"][0],
        },
        lambda v: n_workers * np.log(v.sd["worker"][0]),
    ),
]


@pytest.mark.parametrize("hand", BY_HAND, ids=[hand.write.__name__ for hand in BY_HAND])
def test_models_written_by_hand(hand: Hand) -> None:
    # without this PyTensor takes 10.0 for a float32, and its logarithm has 7 digits
    with autocast_float_as("float64"), pm.Model() as model:
        hand.write()
        theirs = Compiled(model)
    case = hand.case
    ours = Compiled(case.model(center=False).to_pymc())
    for seed in (1, 2, 3):
        point = random_point(case, seed)
        v = V(point.beta, point.effects, point.sd, {name: correlations(case, point, name) for name in case.factors})
        values, jacobian = free_values(case, point, False, ours.names)
        log_density = ours(values)[0] - jacobian
        by_hand = theirs({**hand.values(v), **point.parameters})[0] - hand.log_jacobian(v)
        np.testing.assert_allclose(log_density, by_hand, **CLOSE)
        np.testing.assert_allclose(log_density, reference(case, point, False), **CLOSE)


# --- families ---------------------------------------------------------------------------------------------------------


def student_t(eta: Array, parameters: Mapping[str, float]) -> Array:
    return stats.t(parameters["nu"], eta, parameters["sigma"] / np.sqrt(DATA["w"])).logpdf(DATA["y"])


def bernoulli(inverse: Callable[[Array], Array]) -> Callable[[Array, Mapping[str, float]], Array]:
    return lambda eta, _: stats.bernoulli(inverse(eta)).logpmf(DATA["yes"])


def binomial(inverse: Callable[[Array], Array]) -> Callable[[Array, Mapping[str, float]], Array]:
    return lambda eta, _: stats.binom(DATA["trials"], inverse(eta)).logpmf(DATA["successes"])


def poisson(eta: Array, _: Mapping[str, float]) -> Array:
    return stats.poisson(np.exp(eta) * DATA["exposure"]).logpmf(DATA["count"])


def negative_binomial(eta: Array, parameters: Mapping[str, float]) -> Array:
    alpha = parameters["alpha"]
    return stats.nbinom(alpha, alpha / (alpha + np.exp(eta))).logpmf(DATA["count"])


INVERSES = {"logit": special.expit, "probit": stats.norm.cdf, "cloglog": lambda eta: 1 - np.exp(-np.exp(eta))}
GAMMA = P("Gamma", alpha=2, beta=0.1)
# (family, response, offset, parameters and their priors, options, log-likelihood of each row)
FAMILIES: list[tuple[str, str, str, dict[str, Any], dict[str, Any], Any]] = [
    ("gaussian", "y", "", {"sigma": half(1)}, {"weights": "w"}, weighted),
    ("student_t", "y", "", {"sigma": half(1), "nu": GAMMA}, {"weights": "w"}, student_t),
    *((f"bernoulli({link})", "yes", "", {}, {}, bernoulli(inverse)) for link, inverse in INVERSES.items()),
    *(
        (f"binomial({link})", "prop(successes, trials)", "", {}, {}, binomial(inverse))
        for link, inverse in INVERSES.items()
    ),
    ("poisson", "count", " + offset(log(exposure))", {}, {}, poisson),
    ("negative_binomial", "count", "", {"alpha": P("InverseGamma", alpha=0.4, beta=0.3)}, {}, negative_binomial),
]


@pytest.mark.parametrize(
    ("family", "response", "offset", "priors", "options", "likelihood"), FAMILIES, ids=[row[0] for row in FAMILIES]
)
def test_families(
    family: str, response: str, offset: str, priors: dict[str, Any], options: dict[str, Any], likelihood: Any
) -> None:
    options = {"family": family, **options}
    formula = f"{response} ~ x{offset} + (1 | g)"
    case = Case(formula, IX, {"g": one()}, priors, likelihood, tuple(priors), options)
    model = case.model(center=True)
    compiled = Compiled(model.to_pymc())
    for seed in (1, 2, 3):
        point = random_point(case, seed)
        point = replace(point, beta=0.3 * point.beta, effects={"g": 0.3 * point.effects["g"]})
        values, jacobian = free_values(case, point, True, compiled.names)
        log_density, by_row, _ = compiled(values)
        np.testing.assert_allclose(log_density - jacobian, reference(case, point, True), **CLOSE)
        eta = linear_predictor(case, natural(case, point, True))
        expected = likelihood(eta, point.parameters)
        np.testing.assert_allclose(by_row, expected, **CLOSE)
        design, chosen = model.design, model.spec.family
        rows = Rows(design.y, design.weights, design.trials)
        in_numpy = chosen.log_density(chosen.link, eta + design.offset, point.parameters, rows)
        np.testing.assert_allclose(in_numpy, expected, **CLOSE)


# (family, linear predictor, response, log density): far out, from SciPy's functions of logarithms and the series at 0
FAR_OUT = [
    ("bernoulli(logit)", -800.0, 1, -800.0),
    ("bernoulli(logit)", 800.0, 1, 0.0),
    ("bernoulli(probit)", -40.0, 1, stats.norm.logcdf(-40)),
    ("bernoulli(probit)", 40.0, 0, stats.norm.logsf(40)),
    ("bernoulli(cloglog)", -40.0, 1, -40 - np.exp(-40) / 2),
    ("bernoulli(cloglog)", 5.0, 0, -np.exp(5)),
    ("poisson", -700.0, 0, -np.exp(-700)),
    ("negative_binomial", 600.0, 0, 2 * (np.log(2) - 600)),
]


@pytest.mark.parametrize(("family", "eta", "response", "expected"), FAR_OUT)
def test_log_densities_far_out(family: str, eta: float, response: int, expected: float) -> None:
    chosen = hp.family(family)
    rows = Rows(np.array([float(response)]))
    found = chosen.log_density(chosen.link, np.array([eta]), {"alpha": np.array(2.0)}, rows)
    np.testing.assert_allclose(found, [expected], rtol=1e-12)


@pytest.mark.parametrize(("family", "inverse"), [(f"bernoulli({link})", f) for link, f in INVERSES.items()])
def test_links(family: str, inverse: Callable[[Array], Array]) -> None:
    link = hp.family(family).link
    eta = np.linspace(-3, 2, 9)
    np.testing.assert_allclose(link.inverse(eta), inverse(eta), rtol=1e-12)
    np.testing.assert_allclose(link.forward(link.inverse(eta)), eta, rtol=1e-10, atol=1e-10)


# --- LKJ --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [1.0, 2.0, 4.5])
@pytest.mark.parametrize("q", [2, 3, 4, 5])
def test_beta_partial_correlations_are_lkj(q: int, eta: float) -> None:
    def matrix(p: Array) -> Array:
        L = np.array(scales.correlation_cholesky(list(2 * p - 1), q))
        return L @ L.T

    concentration = scales.lkj_concentration(q, eta)
    p = np.random.default_rng(q).uniform(0.1, 0.9, len(concentration))
    np.testing.assert_allclose(matrix(p), correlation(p), **CLOSE)
    np.testing.assert_allclose(
        scales.correlation_cholesky(list(2 * p - 1), q), np.linalg.cholesky(correlation(p)), **CLOSE
    )
    log_density = stats.beta(concentration, concentration).logpdf(p).sum()
    np.testing.assert_allclose(log_density, lkj(matrix(p), eta) + log_jacobian(lambda p: lower(matrix(p)), p), **CLOSE)


def test_the_reference_of_lkj_is_a_density() -> None:
    r = np.linspace(-1, 1, 20_001)
    two = [np.exp(lkj(np.array([[1, v], [v, 1]]), 2.5)) for v in r[1:-1]]
    np.testing.assert_allclose(np.sum(two) * (r[1] - r[0]), 1, rtol=1e-6)
