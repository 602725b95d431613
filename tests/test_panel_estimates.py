"""Panel estimates against plm and linearmodels, most of them at given variance components, where nothing is sampled.

tests/reference/README.panel.md says what the reference numbers are. Under flat priors on the coefficients
E[beta | y, psi] is generalised least squares at psi (the sds and sigma): classical estimates are compared to rounding.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.compiler.marginal import Marginal, marginal
from hierpanel.data.moments import moments
from hierpanel.results.fit import Fit
from hierpanel.results.variance import panel_r2

Array = np.ndarray
Made = Callable[..., Fit]
REFERENCE = Path(__file__).parent / "reference"
PLM = json.loads((REFERENCE / "panel_plm.json").read_text(encoding="utf-8"))
LINEARMODELS = json.loads((REFERENCE / "panel_linearmodels.json").read_text(encoding="utf-8"))
STACKED = pd.read_csv(REFERENCE / "panel_data.csv")
# Least squares in another order of sums.
ROUNDING = 1e-9
# Beside fe() unit effects have an sd of 1000 s, which shrinks them by less than (sigma / 1000 s)² = 1e-6.
UNSHRUNK = 5e-6


@dataclass(frozen=True)
class Table:
    """A panel, its response, regressors that vary within units and one that does not."""

    data: pd.DataFrame
    y: str
    x: tuple[str, ...]
    invariant: str
    unit: str = "unit"
    time: str = "year"

    @property
    def panel(self) -> tuple[str, str]:
        return self.unit, self.time

    def sum_of(self, word: str = "{}") -> str:
        """Every regressor inside a word, added up."""
        return " + ".join(word.format(x) for x in self.x)


def rows(name: str) -> pd.DataFrame:
    return STACKED[STACKED["table"] == name].drop(columns="table").reset_index(drop=True)


TABLES = {
    "wage": Table(
        hp.datasets.load("wage_panel"), "log_wage", ("union", "married", "hours"), "education", unit="worker"
    ),
    "unbalanced": Table(rows("unbalanced"), "y", ("x", "z", "d"), "c"),
    "gaps": Table(rows("gaps"), "y", ("x", "z", "d"), "c"),
    "tiny": Table(rows("tiny"), "y", ("x",), ""),
}
WHOLE = ["wage", "unbalanced", "gaps"]
# table, and the weights that linearmodels was given
WEIGHTED = [*((name, None) for name in WHOLE), ("unbalanced", "w")]


@cache
def compiled(formula: str, name: str, weights: str | None) -> tuple[hp.Model, Marginal]:
    """A model with flat priors on its coefficients."""
    table = TABLES[name]
    options: dict[str, Any] = {"panel": table.panel, "weights": weights, "env": {}}
    model = hp.Model(formula, table.data, priors={"beta": hp.Prior("Flat")}, **options)
    return model, marginal(model.spec, moments(model.design))


def given(
    formula: str, name: str, sds: tuple[float, ...] = (), sigma: float = 1.0, weights: str | None = None
) -> tuple[pd.DataFrame, hp.Model]:
    """Mean and sd of each coefficient given the sds and sigma; beside fe() without the intercept."""
    model, density = compiled(formula, name, weights)
    p = len(model.spec.coefs)
    psi = np.tile(np.log([*sds, sigma]), (p + 1, 1))
    # The first point is drawn with zeros, the mean; each other one with a 1 in the place of one normal number.
    numbers = np.vstack([np.zeros(p), np.eye(p)])
    beta = density.draw(psi, lambda factor, levels, shape: numbers if factor == -1 else np.zeros(shape)).beta_c
    beta = beta - np.outer(beta @ model.spec.center, np.arange(p) == 0)
    found = pd.DataFrame({"mean": beta[0], "sd": np.sqrt(((beta[1:] - beta[0]) ** 2).sum(axis=0))}, model.spec.coefs)
    return found.drop(index="Intercept") if any(group.is_fixed for group in model.spec.groups) else found, model


def assert_equal(found: Mapping[str, float], expected: Mapping[str, float], word: str, rtol: float) -> None:
    """Compare coefficients with estimates under the regressors' own names."""
    assert expected
    for name, value in expected.items():
        key = name if name == "Intercept" else word.format(name)
        np.testing.assert_allclose(found[key], value, rtol=rtol, err_msg=key)


def without_intercept(estimates: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in estimates.items() if name != "Intercept"}


@cache
def fitted(formula: str, name: str, weights: str | None = None, draws: int = 1000) -> Fit:
    table = TABLES[name]
    options: dict[str, Any] = {"panel": table.panel, "weights": weights, "env": {}, "seed": 1, "progress": False}
    return hp.fit(formula, table.data, draws=draws, **options)


# Fixed effects --------------------------------------------------------------------------------------------------------


EFFECTS = {"entity": ("within", "fe({0})"), "entity_time": ("within_twoways", "fe({0}) + fe({1})")}


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize(("name", "weights"), WEIGHTED)
def test_fe_gives_the_fixed_effects_estimate(name: str, weights: str | None, effects: str, share: float) -> None:
    """One-way and two-way, balanced and not, whatever sigma is."""
    table, (by_plm, words) = TABLES[name], EFFECTS[effects]
    expected = LINEARMODELS[name][effects + ("_weighted" if weights else "")]["params"]
    formula = f"{table.y} ~ {table.sum_of()} + {words.format(*table.panel)}"
    s = compiled(formula, name, weights)[0].spec.scale
    found, _ = given(formula, name, sigma=share * s, weights=weights)
    assert_equal(found["mean"], without_intercept(expected), "{}", UNSHRUNK)
    if weights is None:
        assert_equal(found["mean"], PLM[name][by_plm]["coef"], "{}", UNSHRUNK)
        assert_equal(found["sd"] / (share * s), of_unit_sigma(PLM[name][by_plm]), "{}", UNSHRUNK)


def of_unit_sigma(estimate: Mapping[str, Any]) -> dict[str, float]:
    """Standard errors over the residual sd that they use."""
    return {name: value / estimate["sigma"] for name, value in estimate["se"].items()}


@pytest.mark.parametrize("words", ["fe(year) + fe(unit)", "C(year) + fe(unit)"])
def test_two_ways_in_another_order_or_by_dummies_are_the_same(words: str) -> None:
    found, _ = given(f"y ~ {TABLES['unbalanced'].sum_of()} + {words}", "unbalanced", sigma=0.5)
    assert_equal(found["mean"], PLM["unbalanced"]["within_twoways"]["coef"], "{}", UNSHRUNK)


# Within and between ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sd", "sigma"), [(0.01, 1.0), (0.1, 1.0), (1.0, 0.3), (3.0, 0.1)])
@pytest.mark.parametrize(("name", "weights"), WEIGHTED)
def test_within_coefficients_are_the_fixed_effects_estimate(
    name: str, weights: str | None, sd: float, sigma: float
) -> None:
    """Whatever the sds are, since deviations from unit means are orthogonal to whatever is constant within units."""
    table = TABLES[name]
    expected = without_intercept(LINEARMODELS[name]["entity" + ("_weighted" if weights else "")]["params"])
    parts = f"{table.sum_of('within({})')} + {table.sum_of('between({})')}"
    for regressors in (parts, f"mundlak({table.sum_of()})", f"{parts} + {table.invariant}"):
        found, _ = given(f"{table.y} ~ {regressors} + (1 | {table.unit})", name, (sd,), sigma, weights)
        assert_equal(found["mean"], expected, "within({})", ROUNDING)
    beside = f"{table.sum_of()} + {table.sum_of('between({})')}"
    found, _ = given(f"{table.y} ~ {beside} + (1 | {table.unit})", name, (sd,), sigma, weights)
    assert_equal(found["mean"], expected, "{}", ROUNDING)


@pytest.mark.parametrize(("name", "weights"), WEIGHTED)
def test_a_regressor_that_is_left_whole_moves_the_others(name: str, weights: str | None) -> None:
    """Its coefficient mixes within and between, and what that leaves within units goes with the others' deviations."""
    table = TABLES[name]
    first, *others = table.x
    expected = LINEARMODELS[name]["entity" + ("_weighted" if weights else "")]["params"]
    formula = f"{table.y} ~ mundlak({first}) + {' + '.join(others)} + (1 | {table.unit})"
    found, _ = given(formula, name, (0.5,), 0.5, weights=weights)
    assert abs(found["mean"][f"within({first})"] / expected[first] - 1) > 1e-4
    # varying slopes weigh units by more than their rows, so there too the within coefficient is another
    formula = f"{table.y} ~ mundlak({table.sum_of()}) + (1 + {first} || {table.unit})"
    found, _ = given(formula, name, (0.5, 0.5), 0.5, weights=weights)
    assert abs(found["mean"][f"within({first})"] / expected[first] - 1) > 1e-4


@pytest.mark.parametrize(("name", "weights"), WEIGHTED)
def test_a_between_response_gives_the_between_estimate(name: str, weights: str | None) -> None:
    table = TABLES[name]
    expected = LINEARMODELS[name]["between" + ("_weighted" if weights else "")]
    found, model = given(f"between({table.y}) ~ {table.sum_of('between({})')}", name, weights=weights)
    assert (model.spec.n, model.spec.n + model.spec.joined) == (expected["nobs"], len(table.data))
    assert_equal(found["mean"], expected["params"], "between({})", ROUNDING)
    # linearmodels rescales the weights, which moves all standard errors alike
    size = found["sd"]["Intercept"] / expected["std_errors"]["Intercept"]
    assert_equal(found["sd"] / size, expected["std_errors"], "between({})", ROUNDING)
    if weights is None:
        assert_equal(found["mean"], PLM[name]["between"]["coef"], "between({})", ROUNDING)
        assert_equal(found["sd"], of_unit_sigma(PLM[name]["between"]), "between({})", ROUNDING)


# First differences, pooled and random effects -------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "key"), [("", "fd"), ("0 + ", "fd_no_intercept")])
@pytest.mark.parametrize("name", TABLES)
def test_differences_give_the_first_difference_estimate(name: str, start: str, key: str) -> None:
    """Between consecutive periods alone: with gaps the estimates of successive rows, plm's, are others."""
    table = TABLES[name]
    found, model = given(f"diff({table.y}) ~ {start}{table.sum_of('diff({})')}", name)
    by_hand = PLM[name][f"{key}_by_hand"]
    assert model.spec.n == by_hand["nobs"] == LINEARMODELS[name][f"{key}_by_hand"]["nobs"]
    assert_equal(found["mean"], by_hand["coef"], "diff({})", ROUNDING)
    assert_equal(found["mean"], LINEARMODELS[name][f"{key}_by_hand"]["params"], "diff({})", ROUNDING)
    if by_hand["df"]:
        assert_equal(found["sd"], of_unit_sigma(by_hand), "diff({})", ROUNDING)
    for estimates, kind in ((PLM[name], "coef"), (LINEARMODELS[name], "params")):
        if key in estimates:
            assert_equal(found["mean"], estimates[key][kind], "diff({})", ROUNDING)
        if f"{key}_wrong_across_gaps" in estimates:
            wrong = estimates[f"{key}_wrong_across_gaps"]
            assert wrong["nobs"] > model.spec.n
            assert abs(found["mean"]["diff(x)"] / wrong[kind]["x"] - 1) > 0.01


def test_wrong_first_differences_are_stored() -> None:
    """Otherwise the test above would compare with nothing."""
    stored = [key for tool in (PLM, LINEARMODELS) for name in TABLES for key in tool[name] if "wrong_across" in key]
    assert len(stored) == 5


def test_years_of_another_unit_do_not_close_a_gap() -> None:
    """linearmodels differences successive years of the table, so that a unit in 2002 opens what was closed."""
    tiny = TABLES["tiny"].data
    more = pd.concat([tiny, pd.DataFrame({"unit": [3], "year": [2002], "y": [9.0], "x": [1.0]})], ignore_index=True)
    for table in (tiny, more, more.iloc[::-1]):
        model = hp.Model("diff(y) ~ 0 + diff(x)", table, panel=("unit", "year"), env={})
        assert sorted(model.design.y.round(12)) == [0.7, 1.3]


@pytest.mark.parametrize(("name", "weights"), WEIGHTED)
def test_without_groups_it_is_pooled_least_squares(name: str, weights: str | None) -> None:
    table = TABLES[name]
    found, _ = given(f"{table.y} ~ {table.sum_of()}", name, weights=weights)
    expected = LINEARMODELS[name]["pooled" + ("_weighted" if weights else "")]
    assert_equal(found["mean"], expected["params"], "{}", ROUNDING)
    size = found["sd"]["Intercept"] / expected["std_errors"]["Intercept"]
    assert_equal(found["sd"] / size, expected["std_errors"], "{}", ROUNDING)
    if weights is None:
        assert_equal(found["mean"], PLM[name]["pooling"]["coef"], "{}", ROUNDING)
        assert_equal(found["sd"], of_unit_sigma(PLM[name]["pooling"]), "{}", ROUNDING)


# estimator of plm, its regressors, how they are called in the formula
RANDOM = {"random": ("{x}", "{}"), "random_invariant": ("{x} + {c}", "{}"), "mundlak": ("mundlak({x})", "{1}({0})")}


@pytest.mark.parametrize("key", RANDOM)
@pytest.mark.parametrize("name", WHOLE)
def test_at_plms_variances_a_varying_intercept_gives_its_random_effects_estimate(name: str, key: str) -> None:
    table, expected, (regressors, called) = TABLES[name], PLM[name][key], RANDOM[key]
    variance, text = expected["sigma2"], regressors.format(x=table.sum_of(), c=table.invariant)
    sds = (variance["id"] ** 0.5,)
    found, _ = given(f"{table.y} ~ {text} + (1 | {table.unit})", name, sds, variance["idios"] ** 0.5)
    names = {
        name: name if name == "Intercept" or called == "{}" else called.format(*name.rsplit("_", 1))
        for name in expected["coef"]
    }
    # plm's standard errors take the residual sd of the regression on quasi-demeaned columns
    size = expected["sigma"] / variance["idios"] ** 0.5
    for plm_name, own in names.items():
        np.testing.assert_allclose(found["mean"][own], expected["coef"][plm_name], rtol=ROUNDING, err_msg=own)
        np.testing.assert_allclose(size * found["sd"][own], expected["se"][plm_name], rtol=ROUNDING, err_msg=own)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in WHOLE for key in LINEARMODELS[name] if key.startswith("random")]
)
def test_at_linearmodels_variances_too(name: str, key: str) -> None:
    """Where the panel is not balanced its variance of effects is another than plm's, unless in small samples."""
    table, expected = TABLES[name], LINEARMODELS[name][key]
    regressors = table.sum_of() + (f" + {table.invariant}" if "invariant" in key else "")
    variance = expected["sigma2"]
    sds = (variance["effects"] ** 0.5,)
    found, _ = given(f"{table.y} ~ {regressors} + (1 | {table.unit})", name, sds, variance["residual"] ** 0.5)
    assert_equal(found["mean"], expected["params"], "{}", ROUNDING)


# Whole fits with default priors ---------------------------------------------------------------------------------------


# formula, estimator of linearmodels, how a regressor is called, whether the intercept is the same quantity
DEFAULTS = {
    "entity": ("{y} ~ {x} + fe({u})", "entity", "{}", True),
    "entity_time": ("{y} ~ {x} + fe({u}) + fe({t})", "entity_time", "{}", True),
    "mundlak": ("{y} ~ mundlak({x}) + (1 | {u})", "entity", "within({})", False),
    "between": ("between({y}) ~ {between}", "between", "between({})", True),
    "pooled": ("{y} ~ {x}", "pooled", "{}", True),
    "fd": ("diff({y}) ~ {diff}", "fd_by_hand", "diff({})", True),
    "fd_no_intercept": ("diff({y}) ~ 0 + {diff}", "fd_no_intercept_by_hand", "diff({})", True),
}


def by_default(key: str, name: str, weights: str | None) -> tuple[Fit, dict[str, Any], str, bool]:
    """A fit with default priors, and what it is compared with."""
    table, (text, estimator, called, has_intercept) = TABLES[name], DEFAULTS[key]
    formula = text.format(
        y=table.y, x=table.sum_of(), u=table.unit, t=table.time,
        between=table.sum_of("between({})"), diff=table.sum_of("diff({})"),
    )  # fmt: skip
    expected = LINEARMODELS[name][estimator + ("_weighted" if weights else "")]
    return fitted(formula, name, weights), expected, called, has_intercept


# linearmodels' first differences were not weighted
@pytest.mark.parametrize(
    ("name", "weights", "key"), [(*one, key) for one in WEIGHTED for key in DEFAULTS if not (one[1] and "fd" in key)]
)
def test_default_fits_lie_near_the_classical_estimates(name: str, weights: str | None, key: str) -> None:
    """Means within a tenth of a standard error, sds within 5 %, Monte Carlo error of the means apart."""
    fit, expected, called, has_intercept = by_default(key, name, weights)
    # beside fe() the intercept is the mean of the unit effects over the rows, linearmodels' over the weights
    compared = has_intercept and not (weights and key.startswith("entity"))
    table = fit.fixef()
    # with a prior of sigma that is flat where the data are, coefficients are t with df - 1 degrees of freedom
    wider = np.sqrt(expected["df_resid"] / (expected["df_resid"] - 3))
    for coef, estimate in expected["params"].items():
        if coef == "Intercept" and not compared:
            continue
        row = table.loc[coef if coef == "Intercept" else called.format(coef)]
        se = expected["std_errors"][coef]
        assert abs(row["mean"] - estimate) < 0.1 * se + 4 * row["sd"] / np.sqrt(row["ess_bulk"]), coef
        assert row["sd"] == pytest.approx(wider * se, rel=0.05), coef


@pytest.mark.parametrize("key", ["entity", "entity_time", "pooled", "between"])
@pytest.mark.parametrize("name", WHOLE)
def test_the_residual_variance_is_the_classical_one(name: str, key: str) -> None:
    """Beside fe() as well, where the unit effects count as parameters."""
    fit, expected, _, _ = by_default(key, name, None)
    variance = fit.draws("sigma") ** 2
    df = expected["df_resid"]
    error = 4 * variance.std() / np.sqrt(variance.size / 2)
    assert abs(variance.mean() - expected["s2"] * df / (df - 3)) < 0.02 * expected["s2"] + error


# R² -------------------------------------------------------------------------------------------------------------------


R2 = [(name, weights) for name, weights in WEIGHTED if name != "gaps"]


@pytest.mark.parametrize(("name", "weights"), R2)
def test_panel_r2_is_linearmodels_at_stated_coefficients(name: str, weights: str | None) -> None:
    table = TABLES[name]
    model = hp.Model(f"{table.y} ~ {table.sum_of()}", table.data, panel=table.panel, weights=weights, env={})
    suffix = "_weighted" if weights else ""
    stated = LINEARMODELS[name]["pooled" + suffix]["rsquared_at"]
    estimated = [
        {"params": LINEARMODELS[name][key + suffix]["params"]}
        | {part: LINEARMODELS[name][key + suffix][f"rsquared_{part}"] for part in ("within", "between", "overall")}
        for key in ("entity", "entity_time", "between", "pooled")
    ]
    points = stated + estimated
    assert len(stated) == 2
    beta = np.array([[list(map(point["params"].__getitem__, model.spec.coefs)) for point in points]])
    found = panel_r2(model.design, model.design.units, beta)
    for part, values in found.items():
        assert values.shape == (1, len(points))
        np.testing.assert_allclose(values[0], [point[part] for point in points], rtol=0, atol=1e-10, err_msg=part)


def test_panel_r2_does_not_depend_on_where_columns_start() -> None:
    """Only the intercept makes up for a far origin, so digits are lost if columns are not centred first."""
    table = TABLES["unbalanced"]
    near = hp.Model("y ~ x + z", table.data, panel=table.panel, env={})
    far = hp.Model("y ~ x + z", table.data.assign(x=table.data["x"] + 1e6), panel=table.panel, env={})
    beta = np.random.default_rng(1).normal(size=(2, 5, 3))
    moved = beta - 1e6 * beta[..., 1:2] * np.array([1.0, 0, 0])
    for part, values in panel_r2(near.design, near.design.units, beta).items():
        np.testing.assert_allclose(panel_r2(far.design, far.design.units, moved)[part], values, rtol=1e-8)


@pytest.mark.parametrize("start", ["", "0 + "])
@pytest.mark.parametrize("weights", [None, "w"])
def test_panel_r2_with_an_offset_or_without_an_intercept_is_what_it_says(weights: str | None, start: str) -> None:
    """1 - Σwe²/Σw(y - ȳ)², a row at a time; without an intercept y is not centred."""
    data = TABLES["unbalanced"].data
    model = hp.Model(f"y ~ {start}x + z + offset(c)", data, panel=("unit", "year"), weights=weights, env={})
    beta = np.array([0.3, 0.5, -0.4])[-len(model.spec.coefs) :]
    y = (data["y"] - data["c"]).to_numpy()
    frame = pd.DataFrame({"y": y, "e": y - model.design.X @ beta, "w": data["w"] if weights else 1.0})
    total = frame.groupby(data["unit"])["w"].sum()
    means = frame.mul(frame["w"], axis=0).groupby(data["unit"]).sum().div(total, axis=0)
    away = frame - means.loc[data["unit"]].to_numpy()

    def share(part: pd.DataFrame, weight: Any, centred: bool) -> float:
        middle = np.average(part["y"], weights=weight) if centred else 0.0
        return float(1 - (weight * part["e"] ** 2).sum() / (weight * (part["y"] - middle) ** 2).sum())

    once = total if weights else total / total
    expected = {
        "within": share(away, frame["w"], False),
        "between": share(means, once, not start),
        "overall": share(frame, frame["w"], not start),
    }
    found = panel_r2(model.design, model.design.units, beta[None, None])
    assert {part: float(value[0, 0]) for part, value in found.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "weights"), WEIGHTED)
def test_the_posterior_of_panel_r2_lies_around_the_classical_ones(name: str, weights: str | None) -> None:
    fit, expected, _, _ = by_default("pooled", name, weights)
    table = fit.r2_panel()
    for part in ("within", "between"):
        assert table.loc[part, "lower"] < expected[f"rsquared_{part}"] < table.loc[part, "upper"]
        assert abs(table.loc[part, "mean"] - expected[f"rsquared_{part}"]) < 0.2 * table.loc[part, "sd"] + 0.005
    # Least squares have the largest overall R²; draws are below it by σ²/Σw(y - ȳ)² times a χ² of as many degrees of
    # freedom as there are coefficients.
    y, w = fit.design.y, np.ones(fit.nobs) if weights is None else fit.design.weights
    lost = len(fit.spec.coefs) * (fit.draws("sigma") ** 2).mean() / (w @ (y - np.average(y, weights=w)) ** 2)
    row = table.loc["overall"]
    assert row["upper"] < expected["rsquared_overall"]
    assert (
        abs(row["mean"] + lost - expected["rsquared_overall"]) < 4 * row["sd"] / np.sqrt(row["ess_bulk"]) + 0.02 * lost
    )


# Hausman's test -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["mundlak({x})", "{x} + {between}"])
@pytest.mark.parametrize("key", ["phtest", "phtest_invariant"])
@pytest.mark.parametrize("name", WHOLE)
def test_wald_at_plms_variances_is_the_auxiliary_regressions(made: Made, name: str, key: str, form: str) -> None:
    """Where all variances are stated the draws do not matter, so they are invented."""
    table, expected = TABLES[name], PLM[name][key]
    variance = PLM[name]["random_invariant" if "invariant" in key else "random"]["sigma2"]
    regressors = form.format(x=table.sum_of(), between=table.sum_of("between({})"))
    regressors += f" + {table.invariant}" if "invariant" in key else ""
    formula = f"{table.y} ~ {regressors} + (1 | {table.unit})"
    at = {f"sd_{table.unit}": variance["id"] ** 0.5, "sigma": variance["idios"] ** 0.5}
    by_hand = expected["aux_by_hand"]["transformed_intercept"]
    found = made(formula, table.data, panel=table.panel, draws=20).fe_vs_re(at=at)
    assert found.at == {f"sd_{table.unit}[Intercept]": at[f"sd_{table.unit}"], "sigma": at["sigma"]}
    assert list(found.table.index) == list(by_hand["coef"]) == list(table.x)
    assert (found.statistic, found.df) == (pytest.approx(by_hand["statistic"], rel=1e-8), by_hand["df"])
    assert found.p == pytest.approx(by_hand["p"], rel=1e-6)
    # the coefficient of x - x̄ beside x is within less between
    means, _ = given(formula, name, (at[f"sd_{table.unit}"],), at["sigma"])
    for x, value in by_hand["coef"].items():
        inside = "within({})" if form.startswith("mundlak") else ""
        between = means["mean"][f"between({x})"] - (means["mean"][inside.format(x)] if inside else 0.0)
        np.testing.assert_allclose(between, -value, rtol=ROUNDING)
    if name == "wage" and key == "phtest":
        assert found.statistic == pytest.approx(expected["aux"]["statistic"], rel=1e-8)
        assert found.p == pytest.approx(expected["aux"]["p"], rel=1e-6)
    else:
        # phtest leaves the intercept at 1 where the other columns are quasi-demeaned by different thetas, which is
        # another regression; and with a time-invariant regressor it tests other coefficients.
        own = expected["aux_wrong_coefficients" if "invariant" in key else "aux"]["statistic"]
        assert abs(own / found.statistic - 1) > 0.01


def covariance(fit: Fit, values: Mapping[str, float]) -> Array:
    """The (n, n) covariance of y given the coefficients, from sds and (of two columns) a correlation."""
    design = fit.design
    V = np.diag(values["sigma"] ** 2 / (np.ones(fit.nobs) if design.weights is None else design.weights))
    for spec, data in zip(fit.spec.groups, design.groups, strict=True):
        sd = np.array([values[f"sd_{spec.name}[{coef}]"] for coef in spec.coefs])
        R = np.eye(len(sd))
        R[~np.eye(len(sd), dtype=bool)] = values.get(f"pcor_{spec.name}[0]", 0.0)
        Z = data.Z - spec.center
        V += (Z @ (sd[:, None] * R * sd) @ Z.T) * (data.codes[:, None] == data.codes)
    return V


DENSE = {
    "slopes": ("y ~ mundlak(x + z) + d + (1 + x | unit)", {"sd_unit[x]": 0.4, "pcor_unit[0]": 0.6}),
    "uncorrelated slopes": ("y ~ mundlak(x + z) + d + (1 + z || unit)", {"sd_unit[z]": 0.2}),
    "crossed": ("y ~ mundlak(x + z) + d + (1 | unit) + (1 | year)", {"sd_year[Intercept]": 0.5}),
    "offset": ("y ~ x + z + between(x) + between(z) + offset(d) + (1 | unit)", {}),
    "no intercept": ("y ~ 0 + mundlak(x + z) + (1 | unit)", {}),
}


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("name", DENSE)
def test_wald_is_that_of_generalised_least_squares(made: Made, name: str, weights: str | None) -> None:
    """With the dense covariance of all rows, and the residual variance of that regression."""
    formula, more = DENSE[name]
    table = TABLES["unbalanced"]
    fit = made(formula, table.data, panel=table.panel, weights=weights, draws=20)
    values = {"sd_unit[Intercept]": 0.7, "sigma": 0.5, **more}
    found = fit.fe_vs_re(at=values)
    assert found.at == values
    X, y, V = fit.design.X, fit.design.y - fit.design.offset, covariance(fit, values)
    precision = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(precision, X.T @ np.linalg.solve(V, y))
    e = y - X @ beta
    coefs = list(fit.spec.coefs)
    C = np.zeros((2, len(coefs)))
    for row, x in enumerate(("x", "z")):
        C[row, coefs.index(f"between({x})")] = 1
        if f"within({x})" in coefs:
            C[row, coefs.index(f"within({x})")] = -1
    scale = e @ np.linalg.solve(V, e) / (fit.nobs - len(coefs))
    expected = C @ beta @ np.linalg.solve(scale * C @ np.linalg.solve(precision, C.T), C @ beta)
    assert (found.statistic, found.df) == (pytest.approx(expected, rel=1e-8), 2)


def test_wald_is_taken_at_posterior_means_unless_stated() -> None:
    formula, _ = DENSE["slopes"]
    fit = fitted(formula, "unbalanced", draws=50)
    found = fit.fe_vs_re()
    sd, cor = fit.draws("sd_c_unit").mean(axis=(0, 1)), fit.draws("cor_c_unit")[..., 0, 1].mean()
    expected = {"sd_unit[Intercept]": sd[0], "sd_unit[x]": sd[1], "pcor_unit[0]": cor}
    assert found.at == pytest.approx(expected | {"sigma": fit.draws("sigma").mean()}, rel=1e-12)
    one = fit.fe_vs_re(at={"sigma": 0.4})
    assert one.at == pytest.approx(expected | {"sigma": 0.4}, rel=1e-12)


def test_year_effects_cost_degrees_of_freedom_by_fe_as_by_dummies(made: Made) -> None:
    """fe(year) and C(year) are one model, so that the test is one too."""
    at = {"sd_unit": 0.3, "sigma": 0.5}
    table = TABLES["unbalanced"]
    by_fe, by_dummies = (
        made(f"y ~ mundlak(x + z) + {year} + (1 | unit)", table.data, panel=table.panel, draws=20).fe_vs_re(at=at)
        for year in ("fe(year)", "C(year)")
    )
    assert by_fe.statistic == pytest.approx(by_dummies.statistic, rel=1e-4)
