"""Random tables, extreme ψ and priors come in; marginal densities go out: numbers, right ones, in any order of rows."""

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytensor import function
from pytensor.compile.mode import Mode
from scipy import stats

import hierpanel as hp
from hierpanel.compiler.marginal import Marginal, marginal
from hierpanel.data.design import Design
from hierpanel.data.moments import moments
from hierpanel.errors import FitError, HierpanelError
from hierpanel.spec import priors as prior_module

Array = np.ndarray
P = hp.Prior
LOG_2PI = Decimal("1.837877066409345483560659472811235279722794947275566825634303")
FORMULAS = [
    "y ~ x",
    "y ~ x + (1 | g)",
    "y ~ 0 + z + (x | g)",
    "y ~ x + (x + z || g)",
    "y ~ x + z + (x + z | g)",
    "y ~ x + (x | g) + (z | h)",
    "y ~ z + (0 + x | g) + (1 | h) + (1 | g:h)",
    "y ~ z + (x + I(x**2) + I(x**3) | g)",
    "y ~ x + fe(g)",
    "y ~ 0 + x + fe(g) + (1 | h)",
]
# z is 0 in two units of three, x in two, and both far from their means there
ZEROS = pd.DataFrame({"y": 0.0, "x": 0.0, "z": 0.0, "g": [0, 0, 0, 4, 1, 0, 0, 0, 0], "h": 0, "w": 1.0})
ZEROS.loc[8, "y"], ZEROS.loc[4, "x"], ZEROS.loc[3, "z"] = 2.5e-9, 0.25, 2.5e7
SCALES = st.sampled_from([1e-8, 1.0, 1e8])


@st.composite
def tables(draw: Any) -> pd.DataFrame:
    """Levels of one row and of many, x and z that are constant in some units, columns of very unlike sizes."""
    n = draw(st.integers(4, 14))
    levels, quarters = st.integers(0, 4), st.integers(-8, 8)
    g, h, x, y = (
        np.array(draw(st.lists(kind, min_size=n, max_size=n))) for kind in (levels, levels, quarters, quarters)
    )
    z = np.array(draw(st.lists(quarters, min_size=5, max_size=5)))[g] + np.where(draw(st.booleans()), h, 0)
    x, y, z = (column / 4 * draw(SCALES) for column in (x, y, z))
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "h": h, "w": 1 + h / 4})


def compiled(formula: str, df: pd.DataFrame) -> tuple[hp.Model, Marginal] | None:
    """The model, or None where it is refused in words."""
    try:
        model = hp.Model(formula, df, weights="w")
        return model, marginal(model.spec, moments(model.design))
    except HierpanelError:
        return None


exact = np.frompyfunc(lambda value: Decimal(float(value)), 1, 1)


def dense(model: hp.Model, M: Marginal, psi: Array) -> tuple[float, float]:
    """log p(y | ψ) from the Gaussian of the rows, in 60 digits, and how far rounding may lead away from it."""
    design, spec = model.design, model.spec
    noise = exact(M.parameters.sigma(psi[None]))[0] ** 2 / exact(design.weights)
    X = exact(design.X) - exact(spec.center)
    y = exact(design.y) - X @ exact([prior.values["mu"] for prior in spec.beta])
    B = X * exact([prior.values["sigma"] for prior in spec.beta])
    V, condition = np.diag(noise) + B @ B.T, 0.0
    for data, group, rows in zip(design.groups, spec.groups, M.parameters.factors(psi[None]), strict=True):
        F, Z = exact([[np.ravel(entry)[0] for entry in row] for row in rows]), exact(data.Z) - exact(group.center)
        V = V + np.where(data.codes[:, None] == data.codes, Z @ F @ (Z @ F).T, Decimal(0))
        size = Z**2 @ (F**2).sum(axis=1) / noise
        condition = max(condition, np.bincount(data.codes, size.astype(float)).max())
    terms = [-len(y) * LOG_2PI / 2]
    for j in range(len(y)):  # pivot by pivot
        terms += [-V[j, j].ln() / 2, -(y[j] ** 2) / V[j, j] / 2]
        ratio = V[j + 1 :, j] / V[j, j]
        y[j + 1 :] -= ratio * y[j]
        V[j + 1 :, j + 1 :] -= ratio[:, None] * V[j, j + 1 :]
    allowed = 1e-10 * float(max(abs(term) for term in terms)) + 10 * np.finfo(float).eps * condition
    return float(sum(terms)), allowed


def psi_near(M: Marginal, seed: int) -> Array:
    return M.start + np.random.default_rng(seed).uniform(-1, 1, (3, len(M.start)))


@given(tables(), st.sampled_from(FORMULAS), st.integers(0, 9))
@example(ZEROS, "y ~ x + (x + z || g)", 0)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_densities_of_random_tables_are_dense_ones_or_refused_in_words(
    df: pd.DataFrame, formula: str, seed: int
) -> None:
    found = compiled(formula, df)
    if found is None:
        return
    psi = psi_near(found[1], seed)
    for point, value in zip(psi, found[1].log_likelihood(psi), strict=True):
        with localcontext(prec=60):
            expected, allowed = dense(*found, point)
        assert value == pytest.approx(expected, abs=allowed, rel=0)


@pytest.mark.parametrize("origin", [0.0, 2000.0, 45_000.0, 2_400_000.0])
@pytest.mark.parametrize("factor", ["(t | u)", "(t || u)"])
@pytest.mark.parametrize("center", [True, False])
def test_units_that_differ_little_beside_the_origin_are_told_apart(origin: float, factor: str, center: bool) -> None:
    """Years, spreadsheets' days and astronomers' days: every second unit is seen at intervals twice as long."""
    rng, u = np.random.default_rng(0), np.repeat(np.arange(8), 3)
    dt = np.tile([-1, 0, 1], 8) * np.where(u % 2, 1.0, 2.0)
    df = pd.DataFrame({"u": u, "t": origin + dt, "y": 0.1 * rng.normal(size=24) + dt * rng.normal(size=8)[u], "w": 1.0})
    model = hp.Model(f"y ~ t + {factor}", df, weights="w", center=center)
    M = marginal(model.spec, moments(model.design))
    likely = {"sd_u[Intercept]": np.log(1 + origin), "sd_u[t]": 0.0, "pcor_u[0]": -14.0, "sigma": np.log(0.1)}
    psi = np.array([[likely[name] for name in M.parameters.names]])
    with localcontext(prec=60):
        expected, allowed = dense(model, M, psi[0])
    assert M.log_likelihood(psi)[0] == pytest.approx(expected, abs=allowed, rel=0)


def twelve(numbers: Any) -> Any:
    return st.lists(numbers, min_size=12, max_size=12).map(np.array)


@given(tables(), st.sampled_from(FORMULAS), twelve(st.floats()), twelve(st.sampled_from([-29, -15, -5, 0, 5, 15, 29])))
@settings(deadline=None, max_examples=150, derandomize=True)
def test_the_density_is_a_number_or_minus_infinity_at_any_psi(
    df: pd.DataFrame, formula: str, anywhere: Array, far: Array
) -> None:
    found = compiled(formula, df)
    if found is None:
        return
    M = found[1]
    psi = np.stack([anywhere[: len(M.start)], M.start + far[: len(M.start)]])
    for value in (*M.log_density(psi), *M.log_likelihood(psi)):
        assert np.isfinite(value) or value == -np.inf


def part(design: Design, rows: Array) -> Design:
    """The design of some of the rows."""
    groups = []
    for group in design.groups:
        seen, codes = np.unique(group.codes[rows], return_inverse=True)
        groups.append(replace(group, levels=group.levels[seen], codes=codes, Z=group.Z[rows]))
    columns = {name: getattr(design, name)[rows] for name in ("y", "X", "offset", "weights", "index")}
    return replace(design, groups=tuple(groups), **columns)


@given(tables(), st.sampled_from(FORMULAS), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_rows_count_in_any_order_and_in_any_parts(df: pd.DataFrame, formula: str, random: Any) -> None:
    found = compiled(formula, df)
    if found is None:
        return
    model, M = found
    order = np.array(random.sample(range(model.design.n), model.design.n))
    cut = random.randrange(1, model.design.n)
    psi = psi_near(M, 1)
    expected = M.log_likelihood(psi)
    shuffled = marginal(model.spec, moments(part(model.design, order)))
    added = moments(part(model.design, order[:cut])) + moments(part(model.design, order[cut:]))
    for other in (shuffled, marginal(model.spec, added)):
        np.testing.assert_allclose(other.log_likelihood(psi), expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    reread = compiled(formula, df.iloc[order])
    assert reread is not None
    np.testing.assert_allclose(reread[1].log_density(psi), M.log_density(psi), rtol=1e-9)


# --- priors -----------------------------------------------------------------------------------------------------------

PRIORS: dict[str, tuple[dict[str, float], Any]] = {
    "Normal": ({"mu": 0.4, "sigma": 1.3}, stats.norm(0.4, 1.3)),
    "HalfNormal": ({"sigma": 1.3}, stats.halfnorm(scale=1.3)),
    "StudentT": ({"nu": 4, "mu": 0.4, "sigma": 1.3}, stats.t(4, 0.4, 1.3)),
    "HalfStudentT": ({"nu": 4, "sigma": 1.3}, None),
    "Cauchy": ({"alpha": 0.4, "beta": 1.3}, stats.cauchy(0.4, 1.3)),
    "HalfCauchy": ({"beta": 1.3}, stats.halfcauchy(scale=1.3)),
    "Exponential": ({"lam": 1.3}, stats.expon(scale=1 / 1.3)),
    "Gamma": ({"alpha": 2.5, "beta": 1.3}, stats.gamma(2.5, scale=1 / 1.3)),
    "InverseGamma": ({"alpha": 2.5, "beta": 1.3}, stats.invgamma(2.5, scale=1.3)),
    "LogNormal": ({"mu": 0.4, "sigma": 1.3}, stats.lognorm(1.3, scale=np.exp(0.4))),
    "Flat": ({}, None),
    "HalfFlat": ({}, None),
    "Uniform": ({"lower": 0.2, "upper": 2.5}, stats.uniform(0.2, 2.3)),
}


@pytest.mark.parametrize("name", [*prior_module._COMMON, "Weibull"])
def test_the_log_density_of_a_prior_is_pymcs_and_scipys(name: str) -> None:
    values, reference = PRIORS.get(name, ({"alpha": 2, "beta": 1.3}, stats.weibull_min(2, scale=1.3)))
    x = np.array([-2.0, -0.5, 0.0, 1e-9, 0.3, 1.0, 2.4, 40.0, 1e9])
    found = P(name, **values).log_density(x)
    typed = {key: np.float64(value) for key, value in values.items()}
    theirs = function([], pm.logp(getattr(pm, name).dist(**typed), x), mode=Mode(linker="py", optimizer=None))()
    np.testing.assert_allclose(found, theirs, rtol=1e-12, atol=1e-8)  # their half-t holds log 2 in single precision
    if reference is not None:
        np.testing.assert_allclose(found, reference.logpdf(x), rtol=1e-12, atol=1e-12)
    grid = np.array([[0.3, 1.0], [2.4, -1.0]])
    np.testing.assert_array_equal(
        P(name, **values).log_density(grid).ravel(), P(name, **values).log_density(grid.ravel())
    )


def test_there_is_no_density_beyond_the_support_of_a_prior() -> None:
    df = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0, 0.5, 2.5], "g": [0, 0, 1, 1, 2, 2]})
    model = hp.Model("y ~ (1 | g)", df, priors={"sd_g": P("Uniform", lower=0.5, upper=2)})
    M = marginal(model.spec, moments(model.design))
    psi = np.log([[0.49, 1.0], [0.51, 1.0], [1.99, 1.0], [2.01, 1.0]])
    np.testing.assert_array_equal(np.isfinite(M.log_density(psi)), [False, True, True, False])
    assert np.isfinite(M.log_likelihood(psi)).all()
    assert M.log_density(psi[:0]).shape == (0,)


def test_a_normal_prior_may_be_given_by_its_precision() -> None:
    df = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0, 0.5, 2.5], "x": [0.0, 1.0, 0.0, 2.0, 3.0, 1.0]})
    priors = [{"beta[x]": P("Normal", mu=1, **spread)} for spread in ({"sigma": 0.5}, {"tau": 4})]
    models = [hp.Model("y ~ x", df, priors=given) for given in priors]
    by_sd, by_precision = (marginal(model.spec, moments(model.design)) for model in models)
    psi = np.array([[0.0], [1.0]])
    np.testing.assert_allclose(by_precision.log_likelihood(psi), by_sd.log_likelihood(psi), rtol=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "student_t"}, "student_t response has no closed form"),
        ({"priors": {"beta[x]": P("StudentT", nu=4, mu=0, sigma=1)}}, r"beta\[x\]"),
    ],
)
def test_models_without_a_closed_form_are_refused(options: dict[str, Any], message: str) -> None:
    df = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0, 0.5], "x": [0.0, 1.0, 0.0, 2.0, 3.0]})
    model = hp.Model("y ~ x", df, **options)
    with pytest.raises(FitError, match=message):
        marginal(model.spec, moments(model.design))
