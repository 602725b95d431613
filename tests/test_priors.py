"""Priors: the defaults as a table, what they do not depend on, the user's own, families, and what is said of them."""

import math
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import hierpanel as hp
from hierpanel.errors import DataError, FamilyError, HierpanelError, PriorError

P = hp.Prior


def rows(n: int = 24) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    x = rng.normal(3.0, 2.0, n)
    trials = rng.integers(2, 9, n)
    return pd.DataFrame(
        {
            "y": 10 + x + rng.normal(size=n),
            "x": x,
            "z": rng.normal(-1.0, 0.5, n),
            "h": np.array(list("uvw"))[np.arange(n) % 3],
            "g": np.repeat(list("abcd"), n // 4),
            "yes": (rng.random(n) < 0.3).astype(int),
            "never": 0,
            "always": 1,
            "trials": trials,
            "successes": rng.binomial(trials, 0.4),
            "none": 0,
            "count": rng.poisson(4.0, n),
            "log_exposure": rng.normal(1.0, 0.2, n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )


DATA = rows()


def model(formula: str, data: pd.DataFrame = DATA, **options: Any) -> hp.Model:
    return hp.Model(formula, data, env={}, **options)


def priors(formula: str, data: pd.DataFrame = DATA, **options: Any) -> dict[str, Any]:
    return model(formula, data, **options).spec.priors()


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The same keys, in the same order, with the same distributions; their numbers up to rounding."""
    assert list(found) == list(expected)
    for key, prior in expected.items():
        if isinstance(prior, float):
            assert found[key] == pytest.approx(prior, rel=1e-12), key
        else:
            assert found[key].name == prior.name, key
            assert found[key].values == pytest.approx(prior.values, rel=1e-9, abs=1e-12), key


# --- the defaults -----------------------------------------------------------------------------------------------------


def sd(name: str) -> float:
    return float(DATA[name].std())


def rms(name: str) -> float:
    return float(np.sqrt(np.mean(DATA[name] ** 2)))


def normal(mu: float, sigma: float) -> hp.Prior:
    return P("Normal", mu=mu, sigma=sigma)


def half_t(sigma: float) -> hp.Prior:
    return P("HalfStudentT", nu=3, sigma=sigma)


LKJ = P("LKJ", eta=2)
NU, ALPHA = P("Gamma", alpha=2, beta=0.1), P("InverseGamma", alpha=0.4, beta=0.3)
S, R = sd("y"), rms("y")
N = len(DATA)
INTERCEPT = {"beta[Intercept]": normal(float(DATA["y"].mean()), 2.5 * S)}
SLOPE = {"beta[x]": normal(0, 2.5 * S / sd("x"))}
SIGMA = {"sigma": half_t(S)}
LINK_SLOPE = {"beta[x]": normal(0, 2.5 / sd("x"))}
DUMMY = math.sqrt((1 / 3) * (2 / 3) * N / (N - 1))  # the sd of a column that is 1 in a third of the rows
LESS = DATA["y"] - DATA["log_exposure"]


def at(mu: float) -> dict[str, hp.Prior]:
    """The prior of the intercept where the mean response is mu on the scale of a link."""
    return {"beta[Intercept]": normal(float(mu), 2.5)}


# (formula, options, priors by their keys)
DEFAULTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("y ~ 1", {}, INTERCEPT | SIGMA),
    ("y ~ x", {}, INTERCEPT | SLOPE | SIGMA),
    ("y ~ x", {"center": False}, INTERCEPT | SLOPE | SIGMA),
    ("y ~ x", {"weights": "w"}, INTERCEPT | SLOPE | SIGMA),
    (
        "y ~ h",
        {},
        INTERCEPT | {"beta[h[v]]": normal(0, 2.5 * S / DUMMY), "beta[h[w]]": normal(0, 2.5 * S / DUMMY)} | SIGMA,
    ),
    ("y ~ 0 + x", {}, {"beta[x]": normal(0, 2.5 * R / rms("x")), "sigma": half_t(R)}),
    ("y ~ x + (1 | g)", {}, INTERCEPT | SLOPE | {"sd_g[Intercept]": half_t(S)} | SIGMA),
    (
        "y ~ 0 + x + (1 | g)",
        {},
        {"beta[x]": normal(0, 2.5 * R / rms("x")), "sd_g[Intercept]": half_t(R), "sigma": half_t(R)},
    ),
    (
        "y ~ x + (x | g)",
        {},
        INTERCEPT | SLOPE | {"sd_g[Intercept]": half_t(S), "sd_g[x]": half_t(S / sd("x")), "cor_g": LKJ} | SIGMA,
    ),
    (
        "y ~ x + (x || g)",
        {},
        INTERCEPT | SLOPE | {"sd_g[Intercept]": half_t(S), "sd_g[x]": half_t(S / sd("x"))} | SIGMA,
    ),
    ("y ~ 1 + (0 + x | g)", {}, INTERCEPT | {"sd_g[x]": half_t(S / rms("x"))} | SIGMA),
    (
        "y ~ 1 + (1 | g) + (0 + x + z | g)",
        {},
        INTERCEPT
        | {"sd_g[Intercept]": half_t(S), "sd_g[x]": half_t(S / sd("x")), "sd_g[z]": half_t(S / sd("z")), "cor_g": LKJ}
        | SIGMA,
    ),
    (
        "y ~ 1 + (1 | g) + (x | h)",
        {},
        INTERCEPT
        | {"sd_g[Intercept]": half_t(S), "sd_h[Intercept]": half_t(S), "sd_h[x]": half_t(S / sd("x")), "cor_h": LKJ}
        | SIGMA,
    ),
    ("y ~ x + fe(g)", {}, INTERCEPT | SLOPE | {"sd_g[Intercept]": 1000 * S} | SIGMA),
    (
        "y ~ 1 + offset(log_exposure)",
        {},
        {"beta[Intercept]": normal(LESS.mean(), 2.5 * LESS.std()), "sigma": half_t(LESS.std())},
    ),
    ("y ~ x", {"family": "student_t"}, INTERCEPT | SLOPE | SIGMA | {"nu": NU}),
    (
        "yes ~ x + (x | g)",
        {"family": "bernoulli"},
        at(special.logit(DATA["yes"].mean()))
        | LINK_SLOPE
        | {"sd_g[Intercept]": half_t(1), "sd_g[x]": half_t(1 / sd("x")), "cor_g": LKJ},
    ),
    ("yes ~ x", {"family": "bernoulli(probit)"}, at(stats.norm.ppf(DATA["yes"].mean())) | LINK_SLOPE),
    ("yes ~ 1", {"family": "bernoulli(cloglog)"}, at(np.log(-np.log(1 - DATA["yes"].mean())))),
    ("never ~ x", {"family": "bernoulli"}, at(special.logit(0.5 / (N + 1))) | LINK_SLOPE),
    ("always ~ x", {"family": "bernoulli"}, at(special.logit((N + 0.5) / (N + 1))) | LINK_SLOPE),
    (
        "yes ~ x + fe(g)",
        {"family": "bernoulli"},
        at(special.logit(DATA["yes"].mean())) | LINK_SLOPE | {"sd_g[Intercept]": 10.0},
    ),
    (
        "prop(successes, trials) ~ 1",
        {"family": "binomial"},
        at(special.logit(DATA["successes"].sum() / DATA["trials"].sum())),
    ),
    ("prop(none, trials) ~ 1", {"family": "binomial"}, at(special.logit(0.5 / (DATA["trials"].sum() + 1)))),
    (
        "prop(trials, trials) ~ 1",
        {"family": "binomial"},
        at(special.logit((DATA["trials"].sum() + 0.5) / (DATA["trials"].sum() + 1))),
    ),
    ("count ~ x", {"family": "poisson"}, at(np.log(DATA["count"].mean())) | LINK_SLOPE),
    (
        "count ~ 1 + offset(log_exposure)",
        {"family": "poisson"},
        at(np.log(DATA["count"].mean()) - DATA["log_exposure"].mean()),
    ),
    ("never ~ 1", {"family": "poisson"}, at(np.log(0.5 / (N + 1)))),
    ("always ~ 1", {"family": "poisson"}, at(0)),
    ("count ~ 0 + x", {"family": "poisson"}, {"beta[x]": normal(0, 2.5 / rms("x"))}),
    ("count ~ 1", {"family": "negative_binomial"}, at(np.log(DATA["count"].mean())) | {"alpha": ALPHA}),
]


@pytest.mark.parametrize(("formula", "options", "expected"), DEFAULTS)
def test_defaults(formula: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert_same(priors(formula, **options), expected)


def test_an_fe_on_a_link_scale_warns_of_incidental_parameters() -> None:
    assert "incidental parameters" in " ".join(model("yes ~ x + fe(g)", family="bernoulli").spec.notes)
    assert model("y ~ x + fe(g)").spec.notes == ()


# --- what the defaults do not depend on -------------------------------------------------------------------------------

WITH_INTERCEPTS = ["y ~ x + z", "y ~ x + (x | g)", "y ~ x + (x || g) + (1 | h)", "y ~ x + fe(g)", "y ~ x + (z + x | g)"]


def scaled(prior: Any, factor: float) -> Any:
    """The prior of factor times the quantity."""
    if isinstance(prior, float):
        return abs(factor) * prior
    change = {"mu": factor, "sigma": abs(factor)}
    return P(prior.name, **{key: value * change.get(key, 1.0) for key, value in prior.values.items()})


@pytest.mark.parametrize("shift", [-5.0, 1990.0, 1e6])
@pytest.mark.parametrize("formula", WITH_INTERCEPTS)
def test_the_origin_of_x_does_not_matter(formula: str, shift: float) -> None:
    before = model(formula).spec
    after = model(formula, DATA.assign(x=DATA["x"] + shift)).spec
    assert_same(after.priors(), before.priors())
    k = before.coefs.index("x")
    assert after.center[k] - before.center[k] == pytest.approx(shift)


@pytest.mark.parametrize("factor", [1000.0, -0.01])
@pytest.mark.parametrize("formula", [*WITH_INTERCEPTS, "y ~ 0 + x", "y ~ 0 + (0 + x | g)", "y ~ 0 + x + (x | g)"])
def test_the_unit_of_x_rescales_its_slopes_and_nothing_else(formula: str, factor: float) -> None:
    before = priors(formula)
    expected = {key: scaled(prior, 1 / factor) if key.endswith("[x]") else prior for key, prior in before.items()}
    assert_same(priors(formula, DATA.assign(x=factor * DATA["x"])), expected)


@pytest.mark.parametrize("factor", [1000.0, -0.01])
@pytest.mark.parametrize("formula", [*WITH_INTERCEPTS, "y ~ 0 + x + (x | g)"])
@pytest.mark.parametrize("family", ["gaussian", "student_t"])
def test_the_unit_of_y_rescales_everything(formula: str, factor: float, family: str) -> None:
    before = priors(formula, family=family)
    expected = {key: prior if key[:3] in ("cor", "nu") else scaled(prior, factor) for key, prior in before.items()}
    assert_same(priors(formula, DATA.assign(y=factor * DATA["y"]), family=family), expected)


@pytest.mark.parametrize("formula", WITH_INTERCEPTS)
def test_the_origin_of_y_moves_the_intercept_and_nothing_else(formula: str) -> None:
    before, after = priors(formula), priors(formula, DATA.assign(y=DATA["y"] + 7))
    moved = before["beta[Intercept]"]
    assert_same(after, before | {"beta[Intercept]": normal(moved.values["mu"] + 7, moved.values["sigma"])})


def test_without_an_intercept_the_origin_matters() -> None:
    shifted = DATA.assign(x=DATA["x"] + 100)
    assert priors("y ~ 0 + x", shifted)["beta[x]"].values["sigma"] < priors("y ~ 0 + x")["beta[x]"].values["sigma"] / 10


# --- what a prior refers to -------------------------------------------------------------------------------------------

# (formula, center, variables that carry the priors)
CARRIERS = [
    ("y ~ x + (x | g)", True, ["beta_c", "sd_c_g", "pcor_g", "u_g", "sigma"]),
    ("y ~ x + (x | g)", False, ["beta", "sd_g", "pcor_g", "u_g", "sigma"]),
    ("y ~ x + (x || g)", True, ["beta_c", "sd_g", "u_g", "sigma"]),
    ("y ~ 1 + (0 + x + z | g)", True, ["beta", "sd_g", "pcor_g", "u_g", "sigma"]),
    ("y ~ 0 + x + (1 | g)", True, ["beta", "sd_g", "u_g", "sigma"]),
    ("y ~ 1 + fe(g)", True, ["beta_c", "total_g", "sigma"]),
    ("y ~ 0 + x + fe(g)", True, ["beta", "total_g", "sigma"]),
]


@pytest.mark.parametrize(("formula", "center", "names"), CARRIERS)
def test_a_prior_that_differs_from_the_reported_quantity_has_a_name_of_its_own(
    formula: str, center: bool, names: list[str]
) -> None:
    graph = model(formula, center=center).to_pymc()
    assert {variable.name for variable in graph.free_RVs} == set(names)
    reported = {name.replace("_c", "") for name in names if name.split("_")[0] in ("beta", "sd", "sigma")}
    assert reported <= {variable.name for variable in [*graph.free_RVs, *graph.deterministics]}


# --- the user's priors ------------------------------------------------------------------------------------------------

A, B, C = normal(0.5, 2), P("StudentT", nu=4, mu=1, sigma=3), P("Gamma", alpha=2, beta=3)
SLOPES = "y ~ x + h + (x | g)"
# (formula, priors, what they give), beside the defaults
GIVEN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (SLOPES, {"beta": A}, {f"beta[{coef}]": A for coef in ("Intercept", "x", "h[v]", "h[w]")}),
    (SLOPES, {"beta": A, "beta[x]": B}, {"beta[Intercept]": A, "beta[x]": B, "beta[h[v]]": A, "beta[h[w]]": A}),
    (SLOPES, {"beta[x]": B, "beta": A}, {"beta[Intercept]": A, "beta[x]": B, "beta[h[v]]": A, "beta[h[w]]": A}),
    (SLOPES, {"beta[h[v]]": B}, {"beta[h[v]]": B}),
    (SLOPES, {"sd_g": C}, {"sd_g[Intercept]": C, "sd_g[x]": C}),
    (SLOPES, {"sd_g[x]": C}, {"sd_g[x]": C}),
    (SLOPES, {"sd_g": 2}, {"sd_g[Intercept]": 2.0, "sd_g[x]": 2.0}),
    (SLOPES, {"sd_g": C, "sd_g[x]": np.float32(0.25)}, {"sd_g[Intercept]": C, "sd_g[x]": 0.25}),
    (SLOPES, {"cor_g": P("LKJ", eta=5)}, {"cor_g": P("LKJ", eta=5)}),
    (SLOPES, {"cor_g": P("LKJCholeskyCov", n=2, eta=5)}, {"cor_g": P("LKJ", eta=5)}),
    (SLOPES, {"sigma": C}, {"sigma": C}),
    ("y ~ (1 | g:h)", {"sd_g:h": C}, {"sd_g:h[Intercept]": C}),
    ("y ~ (1 | g/h)", {"sd_g": C, "sd_g:h": 1.0}, {"sd_g[Intercept]": C, "sd_g:h[Intercept]": 1.0}),
    ("y ~ fe(g)", {"sd_g": np.int64(100)}, {"sd_g[Intercept]": 100.0}),
    ("y ~ fe(g)", {"sd_g[Intercept]": np.float32(0.5)}, {"sd_g[Intercept]": 0.5}),
    ("y ~ fe(g) + (0 + x | g)", {"sd_g": C}, {"sd_g[x]": C}),
    ("y ~ fe(g) + (0 + x | g)", {"sd_g": 5}, {"sd_g[Intercept]": 5.0, "sd_g[x]": 5.0}),
    ("y ~ 0 + x", {"beta": P("Flat"), "sigma": P("HalfFlat")}, {"beta[x]": P("Flat"), "sigma": P("HalfFlat")}),
]


@pytest.mark.parametrize(("formula", "given", "expected"), GIVEN)
def test_given_priors(formula: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert_same(priors(formula, priors=given), priors(formula) | expected)


def test_parameters_of_a_family() -> None:
    assert priors("y ~ x", family="student_t", priors={"nu": C})["nu"] == C
    assert priors("count ~ x", family="negative_binomial", priors={"alpha": C})["alpha"] == C


def test_columns_with_brackets_in_their_names() -> None:
    data = DATA.rename(columns={"x": "x[1]", "g": "g[1]"})
    found = priors("y ~ `x[1]` + (1 | `g[1]`)", data, priors={"beta[x[1]]": A, "sd_g[1]": C})
    assert (found["beta[x[1]]"], found["sd_g[1][Intercept]"]) == (A, C)


# Distributions that only PyMC knows: (prior, whether it lives on the positive numbers)
ANY = [
    (P("TruncatedNormal", mu=0, sigma=1, lower=0), True),
    (P("TruncatedNormal", mu=0, sigma=1, lower=-1), False),
    (P("Weibull", alpha=2, beta=1), True),
    (P("Pareto", alpha=2, m=0.1), True),
    (P("Gamma", mu=1, sigma=3), True),
    (P("Exponential", scale=2), True),
    (P("HalfNormal", tau=4), True),
    (P("SkewNormal", mu=0, sigma=1, alpha=3), False),
    (P("Laplace", mu=0, b=1), False),
    (P("Gumbel", mu=100, beta=1), False),
    (P("Normal", sigma=1), False),
    (P("Normal", mu=100, tau=1), False),
]


@pytest.mark.parametrize(("prior", "positive"), ANY, ids=[str(prior) for prior, _ in ANY])
def test_any_distribution_of_pymc(prior: hp.Prior, positive: bool) -> None:
    assert priors("y ~ x", priors={"beta[x]": prior})["beta[x]"] == prior
    if positive:
        assert priors("y ~ x", priors={"sigma": prior})["sigma"] == prior
    else:
        with pytest.raises(PriorError, match="must live on the positive numbers"):
            priors("y ~ x", priors={"sigma": prior})


def test_bambi_priors() -> None:
    import bambi

    given = {"beta": bambi.Prior("Normal", mu=0.5, sigma=2), "sd_g": bambi.Prior("Gamma", alpha=2, beta=3)}
    assert_same(priors(SLOPES, priors=given), priors(SLOPES, priors={"beta": A, "sd_g": C}))
    nested = bambi.Prior("Normal", mu=0, sigma=bambi.Prior("HalfNormal", sigma=1))
    with pytest.raises(PriorError, match=r"holds a prior in its sigma; .* priors={'sd_<factor>': Prior\('HalfNormal'"):
        priors(SLOPES, priors={"beta": nested})
    with pytest.raises(PriorError, match="the parameter mu of Normal must be a finite number"):
        priors(SLOPES, priors={"beta": bambi.Prior("Normal", mu=[0, 1], sigma=1)})


KNOWN = "the keys are: beta, sd_g, cor_g, sigma, beta\\[Intercept\\], beta\\[x\\], .*sd_g\\[x\\]"
# (formula, priors, message)
REFUSED: list[tuple[str, Any, str]] = [
    (SLOPES, {"sgma": C}, rf"no prior for 'sgma' in this model \(did you mean 'sigma'\?\); {KNOWN}"),
    (SLOPES, {"beta[X]": A}, r"no prior for 'beta\[X\]' in this model \(did you mean 'beta\[x\]'\?\)"),
    (SLOPES, {"beta[h": A}, r"no prior for 'beta\[h' in this model"),
    (SLOPES, {"sd_h": C}, "no prior for 'sd_h'"),
    (SLOPES, {3: C}, "no prior for 3 in this model"),
    ("y ~ x + (x || g)", {"cor_g": LKJ}, "no prior for 'cor_g'"),
    ("y ~ 0 + (1 | g)", {"beta": A}, "no prior for 'beta'"),
    (SLOPES, {"nu": C}, "no prior for 'nu'"),
    (
        SLOPES,
        {"b_g": normal(1, 1)},
        r"group effects have mean 0 by construction: their mean is a coefficient \(beta\[…\]\)",
    ),
    (SLOPES, [("beta", A)], "priors is a mapping"),
    (SLOPES, {"sigma": 2}, r"the prior of sigma must be an hp.Prior, as in hp.Prior\('Normal', mu=0, sigma=1\), not 2"),
    (SLOPES, {"beta[x]": 0}, r"the prior of beta\[x\] must be an hp.Prior"),
    (SLOPES, {"sd_g": True}, r"the prior of sd_g\[Intercept\] must be an hp.Prior"),
    (SLOPES, {"sigma": "HalfNormal"}, "must be an hp.Prior"),
    (SLOPES, {"sd_g": 0}, r"sd_g\[Intercept\] can be fixed at a positive number, not at 0"),
    (SLOPES, {"sd_g[x]": -1.0}, r"sd_g\[x\] can be fixed at a positive number, not at -1.0"),
    (SLOPES, {"sd_g": np.nan}, "not at nan"),
    (SLOPES, {"sigma": normal(0, 1)}, r"sigma must live on the positive numbers, and Normal\(mu=0, sigma=1\) does not"),
    (SLOPES, {"sd_g": B}, r"the prior of sd_g\[Intercept\] must live on the positive numbers"),
    (SLOPES, {"sd_g": P("Uniform", lower=-1, upper=1)}, "must live on the positive numbers"),
    (SLOPES, {"sd_g": P("Flat")}, "must live on the positive numbers"),
    (SLOPES, {"sd_g": LKJ}, "LKJ is a prior of correlations"),
    (SLOPES, {"beta": LKJ}, "LKJ is a prior of correlations"),
    (SLOPES, {"cor_g": normal(0, 1)}, r"the prior of cor_g is hp.Prior\('LKJ', eta=…\)"),
    (SLOPES, {"cor_g": P("LKJ")}, r"the prior of cor_g is hp.Prior\('LKJ', eta=…\)"),
    (SLOPES, {"cor_g": 0.5}, "the prior of cor_g must be an hp.Prior"),
    (SLOPES, {"beta": P("Normall", mu=0, sigma=1)}, "PyMC has no distribution 'Normall'; did you mean 'Normal'?"),
    (SLOPES, {"beta": P("normal", mu=0, sigma=1)}, "PyMC has no distribution 'normal'; did you mean 'Normal'?"),
    (SLOPES, {"beta": P("Model")}, "PyMC has no distribution 'Model'"),
    (SLOPES, {"beta": P("Normal", mu=0, sd=3)}, "Normal has no parameter 'sd'; it has: mu, sigma, tau"),
    (SLOPES, {"sigma": P("HalfNormal", mu=1)}, "HalfNormal has no parameter 'mu'; it has: sigma, tau"),
    (SLOPES, {"beta": P("Normal", mu=0, sigma=1, tau=1)}, r"the prior of beta\[Intercept\], .* is refused by PyMC"),
    (SLOPES, {"beta": P("Poisson", mu=2)}, "must be a continuous distribution of one number; Poisson is not"),
    (SLOPES, {"beta": P("MvNormal", mu=0, cov=1)}, "must be a continuous distribution of one number|refused by PyMC"),
    (SLOPES, {"beta": P("Dirichlet", a=1)}, "must be a continuous distribution of one number|refused by PyMC"),
    ("y ~ x + fe(g)", {"sd_g": C}, r"sd_g\[Intercept\] belongs to fe\(\): its sd is a number, not a prior"),
    ("y ~ x + fe(g)", {"sd_g[Intercept]": C}, r"for an sd that is estimated write \(1 \| factor\)"),
    ("y ~ fe(g) + (0 + x | g)", {"sd_g[Intercept]": C}, r"sd_g\[Intercept\] belongs to fe\(\)"),
]


@pytest.mark.parametrize(("formula", "given", "message"), REFUSED)
def test_refused_priors(formula: str, given: Any, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        priors(formula, priors=given)


# --- Prior, a value ---------------------------------------------------------------------------------------------------


def test_equal_priors() -> None:
    assert P("Normal", mu=0, sigma=1) == P("Normal", sigma=1.0, mu=np.float64(0))
    assert P("Normal", mu=0, sigma=1) != P("Normal", mu=0, sigma=2)
    assert P("Normal", mu=0, sigma=1) != P("Laplace", mu=0, sigma=1)
    assert P("Normal", mu=0, sigma=1) != "Normal(mu=0, sigma=1)"
    assert len({P("Normal", mu=0, sigma=1), P("Normal", sigma=1, mu=0), P("Flat")}) == 2


@pytest.mark.parametrize("prior", [A, B, C, P("Flat"), P("Normal", mu=1 / 3, sigma=1e-300), P("LKJ", eta=2)])
def test_a_prior_reads_back(prior: hp.Prior) -> None:
    assert eval(repr(prior), {"Prior": P}) == prior
    assert pickle.loads(pickle.dumps(prior)) == prior


def test_a_prior_prints() -> None:
    assert str(P("HalfStudentT", sigma=1 / 3, nu=3)) == "HalfStudentT(nu=3, sigma=0.3333)"
    assert repr(P("Normal", mu=0, sigma=2)) == "Prior('Normal', mu=0.0, sigma=2.0)"
    assert repr(P("Flat")) == "Prior('Flat')"
    with pytest.raises(AttributeError):
        A.name = "Laplace"  # type: ignore[misc]


# (name, parameters, message)
NOT_PRIORS: list[tuple[Any, dict[str, Any], str]] = [
    ("Normal", {"mu": np.nan}, "the parameter mu of Normal must be a finite number, not nan"),
    ("Normal", {"mu": np.inf}, "must be a finite number, not inf"),
    ("Normal", {"mu": "0"}, "must be a finite number, not '0'"),
    ("Normal", {"mu": None}, "must be a finite number, not None"),
    ("Normal", {"mu": 1j}, "must be a finite number, not 1j"),
    ("Normal", {"mu": True}, "must be a finite number, not True"),
    ("Normal", {"mu": [0, 1]}, "must be a finite number"),
    ("Normal", {"mu": np.zeros(2)}, "must be a finite number"),
    ("Normal", {"mu": A}, "must be a finite number"),
    ("Normal", {"sigma": 0}, "the parameter sigma of Normal must be positive, not 0"),
    ("Normal", {"sigma": -1}, "must be positive"),
    ("StudentT", {"nu": -1}, "the parameter nu of StudentT must be positive"),
    ("LKJ", {"eta": 0}, "the parameter eta of LKJ must be positive"),
    ("Gamma", {"alpha": -1, "beta": 1}, "the parameter alpha of Gamma must be positive"),
    ("Gamma", {"alpha": 1, "beta": 0}, "the parameter beta of Gamma must be positive"),
    ("InverseGamma", {"alpha": 1, "beta": -1}, "the parameter beta of InverseGamma must be positive"),
    ("HalfCauchy", {"beta": -1}, "the parameter beta of HalfCauchy must be positive"),
    ("Cauchy", {"alpha": -1, "beta": -1}, "the parameter beta of Cauchy must be positive"),
    ("Exponential", {"lam": 0}, "the parameter lam of Exponential must be positive"),
    ("Uniform", {"lower": 1, "upper": 1}, "the parameter lower of Uniform must lie below its upper"),
    (3, {"mu": 0}, r"a prior starts with a name, as in hp.Prior\('Normal', mu=0, sigma=1\), not with 3"),
]


@pytest.mark.parametrize(("name", "parameters", "message"), NOT_PRIORS)
def test_what_is_not_a_prior(name: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(PriorError, match=message):
        P(name, **parameters)


# (prior, the same in SciPy)
DRAWN: list[tuple[hp.Prior, Any]] = [
    (P("Normal", mu=1, sigma=2), stats.norm(1, 2)),
    (P("HalfNormal", sigma=2), stats.halfnorm(scale=2)),
    (P("StudentT", nu=4, mu=1, sigma=2), stats.t(4, 1, 2)),
    (P("Cauchy", alpha=1, beta=2), stats.cauchy(1, 2)),
    (P("HalfCauchy", beta=2), stats.halfcauchy(scale=2)),
    (P("Exponential", lam=3), stats.expon(scale=1 / 3)),
    (P("Gamma", alpha=2, beta=3), stats.gamma(2, scale=1 / 3)),
    (P("InverseGamma", alpha=2, beta=3), stats.invgamma(2, scale=3)),
    (P("LogNormal", mu=1, sigma=0.5), stats.lognorm(0.5, scale=np.e)),
    (P("Uniform", lower=-1, upper=3), stats.uniform(-1, 4)),
    (P("TruncatedNormal", mu=1, sigma=2, lower=0), stats.truncnorm(-0.5, np.inf, 1, 2)),
    (P("Weibull", alpha=2, beta=3), stats.weibull_min(2, scale=3)),
    (P("Normal", mu=1, tau=0.25), stats.norm(1, 2)),
]


@pytest.mark.parametrize(("prior", "same"), DRAWN, ids=[str(prior) for prior, _ in DRAWN])
def test_draws(prior: hp.Prior, same: Any) -> None:
    draws = prior.draw(np.random.default_rng(3), 4000)
    assert draws.shape == (4000,)
    assert stats.kstest(draws, same.cdf).pvalue > 1e-3
    np.testing.assert_array_equal(draws, prior.draw(np.random.default_rng(3), 4000))


def test_draws_of_a_half_student_t() -> None:
    draws = P("HalfStudentT", nu=4, sigma=2).draw(np.random.default_rng(3), 4000)
    assert stats.kstest(draws, lambda v: 2 * stats.t(4, scale=2).cdf(v) - 1).pvalue > 1e-3


@pytest.mark.parametrize("name", ["Flat", "HalfFlat"])
def test_a_flat_prior_cannot_be_drawn_from(name: str) -> None:
    with pytest.raises(PriorError, match="improper"):
        P(name).draw(np.random.default_rng(1), 10)


# --- what is said -----------------------------------------------------------------------------------------------------

WAGES = pd.DataFrame(
    {
        "log_wage": [1.0, 2.0, 1.5, 3.0, 2.5, 4.0, 3.5, np.nan],
        "experience": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        "worker": ["a", "a", "a", "b", "b", "b", "c", "c"],
        "firm": ["p", "q", "p", "q", "p", "q", "p", "q"],
        "employed": [0, 1, 0, 1, 1, 1, 0, 1],
    }
)
PANEL = "log_wage ~ experience + (1 + experience | worker)"


def test_the_prior_summary_says_where_a_prior_sits() -> None:
    given = {"sd_worker[experience]": 0.1, "sigma": P("HalfNormal", sigma=0.5)}
    lines = str(model(PANEL, WAGES, priors=given).prior_summary()).splitlines()
    s, slope = WAGES["log_wage"].std(), 2.5 * WAGES["log_wage"].std() / WAGES["experience"][:7].std()
    assert [re.split("  +", line) for line in lines[:9]] == [
        ["Priors"],
        ["", "beta[Intercept]", f"Normal(mu=2.5, sigma={2.5 * s:.4g})", "at experience = 4"],
        ["", "beta[experience]", f"Normal(mu=0, sigma={slope:.4g})"],
        ["", "sd_worker[Intercept]", f"HalfStudentT(nu=3, sigma={s:.4g})", "worker sd at experience = 4"],
        ["", "sd_worker[experience]", "fixed at 0.1"],
        ["", "cor_worker", "LKJ(eta=2)", "with the intercept at experience = 4"],
        ["", "sigma", "HalfNormal(sigma=0.5)"],
        ["Implied before the data"],
        ["", "5 %", "50 %", "95 %"],
    ]
    assert lines[1].index("at experience") == lines[5].index("with the intercept")  # in columns


@pytest.mark.parametrize(
    ("formula", "center"),
    [
        (PANEL, False),
        ("log_wage ~ 1 + (experience || worker)", True),
        ("log_wage ~ 0 + experience + (1 | worker)", True),
    ],
)
def test_priors_of_raw_columns_sit_nowhere_else(formula: str, center: bool) -> None:
    assert set(model(formula, WAGES, center=center).prior_summary().table["refers_to"]) == {""}


def test_the_prior_summary_is_a_table() -> None:
    summary = model(PANEL, WAGES).prior_summary()
    assert summary.table.loc["cor_worker", "prior"] == "LKJ(eta=2)"
    assert summary.table.index.name == "key"
    assert list(summary.implied.index) == ["ICC worker", "R² marginal", "R² conditional"]
    assert "LKJ(eta=2)" in summary._repr_html_()
    assert str(summary) == repr(summary)


def test_implied_shares_of_variance() -> None:
    """With half normal sds of one scale the share of one variance is Beta(½, ½), with three of them Beta(½, 1)."""
    same = P("HalfNormal", sigma=2)
    implied = model("log_wage ~ (1 | worker)", WAGES, priors={"sd_worker": same, "sigma": same}).prior_summary().implied
    quantiles = stats.beta(0.5, 0.5).ppf([0.05, 0.5, 0.95])
    np.testing.assert_allclose(implied.loc["ICC worker"], quantiles, atol=0.03)
    np.testing.assert_allclose(implied.loc["R² conditional"], quantiles, atol=0.03)
    assert (implied.loc["R² marginal"] == 0).all()
    crossed = model(
        "log_wage ~ (1 | worker) + (1 | firm)", WAGES, priors={"sd_worker": same, "sd_firm": same, "sigma": same}
    )
    implied = crossed.prior_summary().implied
    np.testing.assert_allclose(implied.loc["ICC firm"], stats.beta(0.5, 1).ppf([0.05, 0.5, 0.95]), atol=0.03)


def test_implied_shares_on_a_latent_scale() -> None:
    """The sd fixed at the latent residual's: half of the variance."""
    for link, latent in (("logit", np.pi / np.sqrt(3)), ("probit", 1.0), ("cloglog", np.pi / np.sqrt(6))):
        family = f"bernoulli({link})"
        fixed = model("employed ~ (1 | worker)", WAGES, family=family, priors={"sd_worker": latent})
        np.testing.assert_allclose(fixed.prior_summary().implied.loc["ICC worker"], 0.5)


# (formula, options): what cannot be drawn, or has no residual variance, implies nothing
WITHOUT_IMPLIED: list[tuple[str, dict[str, Any]]] = [
    (PANEL, {"priors": {"beta": P("Flat")}}),
    ("employed ~ experience + (1 | worker)", {"family": "poisson"}),
    ("employed ~ 1", {"family": "negative_binomial"}),
]


@pytest.mark.parametrize(("formula", "options"), WITHOUT_IMPLIED)
def test_nothing_is_implied_where_nothing_can_be(formula: str, options: dict[str, Any]) -> None:
    summary = model(formula, WAGES, **options).prior_summary()
    assert len(summary.implied) == 0
    assert "Implied" not in str(summary)
    assert "Flat()" in str(summary) or "Normal" in str(summary)


# (formula, options, sentences)
EXPLAINED: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        PANEL,
        {},
        [
            "log_wage ~ 1 + experience + (1 + experience | worker)",
            "log_wage is gaussian (identity link); of 8 rows: 7 used, 1 dropped (missing: log_wage in 1).",
            "2 coefficients: Intercept, experience.",
            "3 worker: varying Intercept, experience for each, correlated.",
            "1 of the worker have a single row.",
            "Parameters: 2 coefficients, 3 sds and correlations, 6 group effects, 1 parameter of the family.",
        ],
    ),
    (
        "log_wage ~ 0 + (experience || worker) + (0 + experience | firm)",
        {"family": "student_t"},
        [
            "3 worker: varying Intercept, experience for each, independent of each other.",
            "2 firm: a varying slope of experience for each.",
            "Parameters: 0 coefficients, 3 sds and correlations, 8 group effects, 2 parameters of the family.",
        ],
    ),
    (
        "employed ~ experience + offset(log(experience)) + fe(firm) + (1 | worker)",
        {"family": "bernoulli(probit)"},
        [
            "employed is bernoulli (probit link); of 8 rows: 8 used, 0 dropped.",
            "2 firm: an intercept for each, not shrunk (fixed effects).",
            "3 worker: a varying intercept for each.",
            "Known part of the linear predictor: log(experience).",
            "Parameters: 2 coefficients, 1 sds and correlations, 5 group effects, 0 parameters of the family.",
            "Note: fe(firm) with a bernoulli response: with few rows per unit the coefficients are biased",
        ],
    ),
    ("log_wage ~ (1 | experience)", {}, ["Note: every experience has one row, so its sd and sigma are told apart by"]),
]


@pytest.mark.parametrize(("formula", "options", "sentences"), EXPLAINED)
def test_a_model_explains_itself(formula: str, options: dict[str, Any], sentences: list[str]) -> None:
    text = model(formula, WAGES, **options).explain()
    assert max(map(len, text.splitlines())) <= 90
    flat = " ".join(text.split())
    for sentence in sentences:
        assert sentence in flat


def test_a_spec_prints_its_priors() -> None:
    assert str(model("log_wage ~ (1 | worker)", WAGES, priors={"sd_worker": 2}).spec).splitlines() == [
        "log_wage ~ 1 + (1 | worker)",
        "gaussian (identity link), 7 rows",
        f"  beta[Intercept] ~ Normal(mu=2.5, sigma={2.5 * WAGES['log_wage'].std():.4g})",
        "  sd_worker[Intercept] ~ 2.0",
        f"  sigma ~ HalfStudentT(nu=3, sigma={WAGES['log_wage'].std():.4g})",
    ]


# --- families ---------------------------------------------------------------------------------------------------------

# (what is written, link option, family)
NAMES: list[tuple[str, str | None, str]] = [
    ("gaussian", None, "gaussian (identity link)"),
    (" Gaussian ", None, "gaussian (identity link)"),
    ("student_t", None, "student_t (identity link)"),
    ("bernoulli", None, "bernoulli (logit link)"),
    ("bernoulli", "probit", "bernoulli (probit link)"),
    ("bernoulli(probit)", None, "bernoulli (probit link)"),
    ("bernoulli( link = 'cloglog' )", None, "bernoulli (cloglog link)"),
    ('binomial("cloglog")', None, "binomial (cloglog link)"),
    ("bernoulli(logit)", "probit", "bernoulli (probit link)"),
    ("poisson", None, "poisson (log link)"),
    ("negative_binomial(log)", None, "negative_binomial (log link)"),
]


@pytest.mark.parametrize(("name", "link", "text"), NAMES)
def test_family_names(name: str, link: str | None, text: str) -> None:
    chosen = hp.family(name, link)
    assert str(chosen) == text
    assert str(hp.family(chosen)) == text
    assert str(pickle.loads(pickle.dumps(chosen))) == text


FAMILIES = "the families are: gaussian, student_t, bernoulli, binomial, poisson, negative_binomial$"
# (what is written, link option, message)
UNKNOWN: list[tuple[Any, str | None, str]] = [
    ("normal", None, rf"there is no family 'normal' yet \(did you mean 'gaussian'\?\); {FAMILIES}"),
    ("logistic", None, "did you mean 'bernoulli'"),
    ("probit", None, r"did you mean 'bernoulli\(probit\)'"),
    ("negative-binomial", None, "did you mean 'negative_binomial'"),
    ("student-t", None, "did you mean 'student_t'"),
    ("poison", None, "did you mean 'poisson'"),
    ("gamma", None, rf"there is no family 'gamma' yet; {FAMILIES}"),
    ("gaussian(log", None, r"there is no family 'gaussian\(log' yet"),
    ("", None, "there is no family ''"),
    (3, None, "family is a name such as 'gaussian', not int"),
    (None, None, "family is a name such as 'gaussian', not NoneType"),
    ("gaussian", "log", "the family gaussian has no link 'log'; its links are: identity"),
    ("bernoulli(log)", None, "the family bernoulli has no link 'log'; its links are: logit, probit, cloglog"),
]


@pytest.mark.parametrize(("name", "link", "message"), UNKNOWN)
def test_unknown_families(name: Any, link: str | None, message: str) -> None:
    with pytest.raises(FamilyError, match=message):
        hp.family(name, link)


PROP = r"prop\(successes, trials\)"
# (formula, family, options, error, message)
UNSUITABLE: list[tuple[str, str, dict[str, Any], type[HierpanelError], str]] = [
    ("never ~ x", "gaussian", {}, FamilyError, "never does not suit family='gaussian': the response is constant"),
    ("z ~ 1 + offset(z)", "gaussian", {}, DataError, "z less its offset is constant: nothing is left to explain"),
    ("count ~ x", "bernoulli", {}, FamilyError, r"its values must be 0 or 1 .* use prop\(y, n\) and family='binomial'"),
    ("y ~ x", "poisson", {}, FamilyError, r"must be counts 0, 1, 2, …, but 24 rows hold others \(.*, …\)"),
    ("z ~ x", "negative_binomial", {}, FamilyError, "must be counts"),
    ("yes ~ x", "binomial", {}, FamilyError, rf"must be {PROP}; for 0/1 outcomes use family='bernoulli'"),
    *(
        ("prop(successes, trials) ~ x", name, {}, FamilyError, rf"{PROP} is a response for family='binomial'")
        for name in ("gaussian", "student_t", "bernoulli", "poisson", "negative_binomial")
    ),
    *(
        (f"{response} ~ x", name, {"weights": "w"}, FamilyError, "weights are precision weights .* not offered")
        for response, name in (("yes", "bernoulli"), ("count", "poisson"), ("count", "negative_binomial"))
    ),
]


@pytest.mark.parametrize(("formula", "family", "options", "error", "message"), UNSUITABLE)
def test_unsuitable_responses(
    formula: str, family: str, options: dict[str, Any], error: type[HierpanelError], message: str
) -> None:
    with pytest.raises(error, match=message):
        model(formula, family=family, **options)
