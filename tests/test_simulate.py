"""Simulated panels: what comes out is the formula, its parameters are found again, and mistakes are named."""

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hierpanel as hp
from hierpanel.results.fit import Fit
from hierpanel.simulate import simulate
from hierpanel.spec import Rows, family

Array = np.ndarray
SCALE = 4.0
EXACT = 1e-9  # a sigma so small that the outcome is its linear predictor


def effect(df: pd.DataFrame, factor: str, column: str = "Intercept") -> Array:
    """Each row's true effect."""
    labels = df[factor.split(":")].astype(str).agg(":".join, axis=1) if ":" in factor else df[factor]
    return np.asarray(df.attrs["effects"][factor][column].loc[labels])


# What comes out is the formula ----------------------------------------------------------------------------------------

WAGES = {
    "beta[Intercept]": 1.5, "beta[experience]": 0.05, "sd_worker[Intercept]": 0.4, "sd_worker[experience]": 0.02,
    "cor_worker": -0.3, "sigma": 0.3,
}  # fmt: skip


def test_the_outcome_is_the_formula_with_correlated_slopes() -> None:
    formula = "log_wage ~ experience + (1 + experience | worker)"
    df = simulate(formula, 40, 6, {**WAGES, "sigma": EXACT}, regressors={"experience": "trend"}, seed=1)
    x = df["experience"]
    expected = 1.5 + 0.05 * x + effect(df, "worker") + effect(df, "worker", "experience") * x
    np.testing.assert_allclose(df["log_wage"], expected, atol=1e-7)
    assert df.columns.to_list() == ["worker", "period", "log_wage", "experience"]
    assert [str(dtype) for dtype in df.dtypes] == ["int64", "int64", "float64", "int64"]
    assert df.index.equals(pd.RangeIndex(240))
    assert df["worker"].to_list() == [unit for unit in range(40) for _ in range(6)]
    assert df["period"].to_list() == list(range(6)) * 40
    assert df.attrs["params"] == {**WAGES, "sigma": EXACT}
    table = df.attrs["effects"]["worker"]
    assert (table.index.name, table.columns.to_list(), table.shape) == ("worker", ["Intercept", "experience"], (40, 2))


def test_crossed_nested_and_fixed_effects_offset_and_functions() -> None:
    formula = "y ~ C(h) + I(x / SCALE) + offset(w) + (1 | g) + (0 + x | firm) + (1 | region/g) + fe(period)"
    params = {"beta[Intercept]": 2, "beta[C(h)[1]]": -1, "beta[I(x / SCALE)]": 3, "sd_g": 0.5, "sigma": EXACT}
    regressors = {"h": 2, "firm": 7, "region": ("units", 4)}
    df = simulate(formula, 30, 5, params, regressors=regressors, seed=2, missing=0.2)
    groups = effect(df, "g") + effect(df, "firm", "x") * df["x"] + effect(df, "region") + effect(df, "region:g")
    expected = 2 - df["h"] + 3 * df["x"] / 4 + df["w"] + groups + effect(df, "period")
    np.testing.assert_allclose(df["y"], expected, atol=1e-7)
    assert df.columns.to_list() == ["g", "period", "firm", "region", "y", "h", "x", "w"]
    assert len(df) == 120
    assert effect(df, "period").mean() == pytest.approx(0, abs=1e-12)
    assert (df.groupby("g")["region"].nunique() == 1).all()
    assert df.groupby("g")["firm"].nunique().max() > 1
    design = hp.Model(formula, df).design
    assert list(df.attrs["effects"]) == [group.name for group in design.groups]
    for group in design.groups:
        assert list(df.attrs["effects"][group.name].index) == list(group.levels)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_unit_means_are_those_of_the_rows_that_come_out(missing: float) -> None:
    params = {"beta[within(x)]": 1, "beta[between(x)]": -2, "beta[between(h, by=s)]": 0.5, "sd_g": 0, "sigma": EXACT}
    formula = "y ~ mundlak(x) + between(h, by=s) + (1 | g)"
    df = simulate(formula, 50, 4, params, regressors={"h": "binary", "s": 3}, seed=1, missing=missing)
    mean = df.groupby("g")["x"].transform("mean")
    np.testing.assert_allclose(
        df["y"], df["x"] - mean - 2 * mean + 0.5 * df.groupby("s")["h"].transform("mean"), atol=1e-7
    )


def test_shifts_look_beyond_the_ends_of_the_panel() -> None:
    k = np.arange(40.0)
    params = {"beta[lag(x, 2)]": 1, "beta[lead(k)]": 0.1, "beta[diff(z)]": 5, "sd_g": 0, "sigma": EXACT}
    df = simulate("y ~ lag(x, 2) + lead(k) + diff(z) + (1 | g)", 8, 5, params, regressors={"k": k}, seed=1)
    np.testing.assert_array_equal(df["k"], k)
    following = np.where(df["period"] < 4, k + 1, k)  # an array keeps its last value
    groups, inner = df.groupby("g"), df["period"] >= 2
    expected = groups["x"].shift(2) + 0.1 * following + 5 * groups["z"].diff()
    np.testing.assert_allclose(df["y"][inner], expected[inner], atol=1e-7)
    early = (df["y"] - 0.1 * following)[~inner]
    assert early.notna().all()
    assert early.std() > 2
    assert hp.Model("y ~ lag(x, 2) + (1 | g)", df, panel=("g", "period")).spec.n == 24


def test_responses_of_a_lagged_outcome_follow_the_recursion() -> None:
    formula = "y ~ lag(y) + lag(y, 2) + x + fe(g) + fe(period)"
    params = {"beta[lag(y)]": 0.5, "beta[lag(y, 2)]": -0.3, "beta[x]": 2, "beta[Intercept]": 1, "sigma": EXACT}
    df = simulate(formula, 20, 6, params, seed=1)
    one, two = df.groupby("g")["y"].shift(1), df.groupby("g")["y"].shift(2)
    expected = 1 + 0.5 * one - 0.3 * two + 2 * df["x"] + effect(df, "g") + effect(df, "period")
    inner = df["period"] >= 2
    np.testing.assert_allclose(df["y"][inner], expected[inner], atol=1e-7)
    fewer = simulate(formula, 20, 6, params, seed=1, missing=0.25)
    both = fewer.merge(df, on=["g", "period"])
    assert len(both) == 90
    np.testing.assert_array_equal(both["y_x"], both["y_y"])  # rows go missing afterwards


def test_first_outcomes_are_as_spread_as_later_ones_and_depend_on_the_units_effects() -> None:
    df = simulate("y ~ lag(y) + x + (1 | g)", 10_000, 10, {"beta[lag(y)]": 0.6, "beta[x]": 1, "sd_g": 0.5}, seed=1)
    y = df["y"].to_numpy().reshape(-1, 10)
    between, within = (0.5 + 0.25) / 0.4**2, (1 + 0.5) / (1 - 0.6**2)  # the halves of x, the effects and the noise
    assert y.var(axis=0) == pytest.approx(np.full(10, between + within), rel=0.07)
    effects = df.attrs["effects"]["g"]["Intercept"]
    assert np.cov(y[:, 0], effects)[0, 1] == pytest.approx(0.25 / 0.4, rel=0.1)


def test_a_trend_goes_on_from_where_it_starts() -> None:
    params, regressors = {"beta[lag(y)]": 0.7, "beta[t]": 0.5}, {"t": "trend"}
    df = simulate("y ~ lag(y) + t + (1 | g)", 3000, 12, params, regressors=regressors, seed=1)
    assert (df.groupby("period")["y"].mean().diff().dropna() > 0).all()


# Parameters are found again -------------------------------------------------------------------------------------------

STRUCTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "slopes": (
        "y ~ x + (1 + x | g)",
        {"params": {"beta[Intercept]": 2, "beta[x]": -0.5, "sd_g": 0.8, "sd_g[x]": 0.4, "cor_g": -0.5, "sigma": 0.7}},
    ),
    "independent slopes, unbalanced": (
        "y ~ x + b + (x || g)",
        {"params": {"beta[b]": 1, "sd_g[x]": 0.5}, "regressors": {"b": "binary"}, "missing": 0.3},
    ),
    "crossed": (
        "y ~ x + (1 | g) + (1 | firm)",
        {"params": {"beta[x]": 0.5, "sd_g": 0.5, "sd_firm": 0.7}, "regressors": {"firm": 40}},
    ),
    "three levels": (
        "y ~ x + (1 | school/room)",
        {
            "params": {"beta[x]": 0.5, "sd_school": 0.6, "sd_school:room": 0.8, "sigma": 2},
            "unit": "room",
            "regressors": {"school": ("units", 40)},
        },
    ),
    "mundlak": (
        "y ~ mundlak(x) + (1 | g)",
        {"params": {"beta[within(x)]": 0.5, "beta[between(x)]": 1.5}, "missing": 0.4},
    ),
    "two-way fixed effects": (
        "y ~ x + fe(g) + fe(period)",
        {"params": {"beta[Intercept]": 1, "beta[x]": 0.5, "sd_g": 3}},
    ),
    "lagged regressors": (
        "y ~ x + lag(x) + diff(z) + (1 | g)",
        {"params": {"beta[x]": 0.3, "beta[lag(x)]": 0.5, "beta[diff(z)]": -0.5}},
    ),
}  # fmt: skip


def fitted(formula: str, df: pd.DataFrame, **options: Any) -> Fit:
    return hp.fit(formula, df, draws=300, seed=1, progress=False, panel=(df.columns[0], "period"), **options)


def distances(fit: Fit, params: Mapping[str, Any]) -> dict[str, float]:
    """How many posterior sds lie between each parameter and its posterior mean."""
    found = {}
    for key, value in params.items():
        name, _, coef = key.removesuffix("]").partition("[")
        if key.startswith("sd_") and any(group.is_fixed and f"sd_{group.name}" == name for group in fit.spec.groups):
            continue
        draws = fit.idata["posterior"][name]
        if coef:
            draws = draws.sel({draws.dims[-1]: coef})
        if key.startswith("cor_"):
            draws = draws[..., 0, 1]
        found[key] = abs(float((draws.mean() - value) / draws.std()))
    return found


@pytest.mark.parametrize("name", STRUCTURES)
def test_parameters_are_found_again(name: str) -> None:
    formula, options = STRUCTURES[name]
    df = simulate(formula, 300, 8, seed=11, **options)
    fit = fitted(formula, df)
    assert fit.method == "marginal"
    found = distances(fit, df.attrs["params"])
    assert len(found) >= 3
    assert max(found.values()) < 4, found
    assert {*df.attrs["params"]} == {*fit.spec.priors()}


def test_a_dynamic_panel_is_found_again_with_the_first_outcome() -> None:
    params = {"beta[lag(y)]": 0.5, "beta[x]": 0.3, "sd_g": 0.7}
    df = simulate("y ~ lag(y) + x + (1 | g)", 500, 8, params, seed=1)
    fit = fitted("y ~ lag(y) + x + initial(y) + (1 | g)", df)
    kept = ("beta[lag(y)]", "beta[x]", "sigma")
    assert max(distances(fit, {key: df.attrs["params"][key] for key in kept}).values()) < 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        biased = fitted("y ~ lag(y) + x + (1 | g)", df)
    assert distances(biased, {"beta[lag(y)]": 0.5})["beta[lag(y)]"] > 4  # the simulated first outcomes are endogenous


# Columns --------------------------------------------------------------------------------------------------------------


def test_regressors_are_made_as_they_are_described() -> None:
    kinds = {
        "b": "binary", "c": "constant", "t": "trend", "z": ("normal", 10, 2), "h": 5, "r": ("units", 8),
        "a": np.arange(20_000.0), "f": lambda rng, units, periods: 100 * units + periods,
    }  # fmt: skip
    df = simulate(f"y ~ x + {' + '.join(kinds)} + (1 | g)", 4000, 5, regressors=kinds, seed=3)
    groups = df.groupby("g")
    for name, mean, sd in (("x", 0, 1), ("z", 10, 2)):
        assert df[name].mean() == pytest.approx(mean, abs=0.06)
        assert df[name].std() == pytest.approx(sd, rel=0.05)
        assert groups[name].var().mean() == pytest.approx(sd**2 / 2, rel=0.05)
    assert set(df["b"]) == {0, 1}
    assert df["b"].mean() == pytest.approx(0.5, abs=0.03)
    assert 0 < groups["b"].mean().var() < 0.25
    assert groups["c"].nunique().max() == 1
    assert groups["c"].first().std() == pytest.approx(1, rel=0.05)
    assert (groups["t"].diff().dropna() == 1).all()
    assert groups["t"].first().mean() == pytest.approx(5, abs=0.2)
    assert sorted(df["h"].unique()) == [0, 1, 2, 3, 4]
    assert groups["r"].nunique().max() == 1
    assert (groups["r"].first().value_counts() == 500).all()
    np.testing.assert_array_equal(df["a"], np.arange(20_000))
    np.testing.assert_array_equal(df["f"], 100 * df["g"] + df["period"])
    integers = ["b", "t", "h", "r", "f"]
    whole = ["g", "period", *integers]
    assert df.dtypes.astype(str).to_dict() == {name: "int64" if name in whole else "float64" for name in df}


@pytest.mark.parametrize(
    "kind", [list, np.array, pd.Categorical, pl.Series, lambda values: pd.Series(values, range(5, 35))]
)
def test_values_of_any_kind_are_taken_in_their_order(kind: Callable[[list[str]], Any]) -> None:
    values = list("abc") * 10
    df = simulate("y ~ h", 10, 3, {"beta[h[b]]": 10, "sigma": EXACT}, regressors={"h": kind(values)}, seed=1)
    assert df["h"].to_list() == values
    np.testing.assert_allclose(df["y"], np.where(df["h"] == "b", 10, 0), atol=1e-7)


def test_names_in_functions_are_columns_unless_the_caller_holds_a_number() -> None:
    x, knots = 3.0, [-0.5, 0.5]
    df = simulate("y ~ I(x**2) + bs(z / SCALE, knots=knots) + C(h, Sum)", 20, 5, regressors={"h": 3}, seed=1)
    assert (x, knots) == (3.0, [-0.5, 0.5])
    assert df.columns.to_list() == ["unit", "period", "y", "x", "z", "h"]
    df = simulate("y ~ I(w / x)", 10, 5, seed=1)
    assert "x" not in df
    df = simulate("y ~ I(w / x)", 10, 5, seed=1, regressors={"x": ("normal", 9, 1)})
    assert df["x"].mean() == pytest.approx(9, abs=1)


def test_the_unit_and_the_time_can_be_named_and_are_regressors_too() -> None:
    params = {"beta[year]": 2, "sd_g": 0, "sigma": EXACT}
    df = simulate("y ~ year + (1 | g)", 10, 3, params, time="year", seed=1)
    np.testing.assert_allclose(df["y"], 2 * df["year"], atol=1e-7)
    assert simulate("y ~ fe(year) + (1 | g)", 10, 3, time="year", seed=1).columns[:2].to_list() == ["g", "year"]
    assert simulate("y ~ x", 10, 3, unit="firm", seed=1).columns.to_list() == ["firm", "period", "y", "x"]
    assert simulate("y ~ `a b` + (1 | `g h`)", 10, 3, seed=1).columns.to_list() == ["g h", "period", "y", "a b"]


# Parameters and effects -----------------------------------------------------------------------------------------------


def test_what_is_not_given_has_defaults() -> None:
    df = simulate("y ~ x + (x | g) + fe(h)", 30, 4, family="student_t", regressors={"h": 3}, seed=1)
    assert df.attrs["params"] == {
        "beta[Intercept]": 0, "beta[x]": 0, "sd_g[Intercept]": 1, "sd_g[x]": 1, "cor_g": 0, "sd_h[Intercept]": 1,
        "sigma": 1, "nu": 5,
    }  # fmt: skip
    assert simulate("y ~ 1", 9, 4, family="negative_binomial", seed=1).attrs["params"]["alpha"] == 2
    params = simulate("y ~ x + z + (x | g)", 9, 4, {"beta": 3, "beta[x]": 1, "sd_g": 2, "sd_g[x]": 4}, seed=1).attrs[
        "params"
    ]
    assert list(params.values()) == [3, 1, 3, 2, 4, 0, 1]


def test_the_parameters_that_are_kept_simulate_the_same_panel() -> None:
    formula, cor = "y ~ x + z + (x + z | g)", [[1, 0.5, 0], [0.5, 1, -0.3], [0, -0.3, 1]]
    df = simulate(formula, 20, 4, {"beta[x]": 0.5, "sd_g": 2, "cor_g": cor, "sigma": 3}, seed=5)
    again = simulate(formula, 20, 4, df.attrs["params"], seed=5)
    pd.testing.assert_frame_equal(again, df)
    assert again.attrs == df.attrs
    assert df.attrs["params"]["cor_g"] == cor


def test_effects_have_the_moments_that_were_asked_for() -> None:
    cor = np.array([[1, 0.5, 0], [0.5, 1, -0.3], [0, -0.3, 1]])
    sd = np.array([2, 0.5, 1])
    params = {"sd_g": 1, "sd_g[Intercept]": 2, "sd_g[x]": 0.5, "cor_g": cor, "sd_s": 3}
    df = simulate("y ~ (x + z | g) + (x || s)", 20_000, 2, params, seed=1, regressors={"s": 20_000})
    effects = df.attrs["effects"]["g"]
    assert np.cov(effects.T) == pytest.approx(cor * np.outer(sd, sd), abs=0.15)
    assert effects.mean().to_numpy() == pytest.approx(np.zeros(3), abs=0.05)
    others = df.attrs["effects"]["s"]
    assert np.cov(others.T) == pytest.approx(9 * np.eye(2), abs=0.3)
    assert np.corrcoef(effects["x"].loc[df["g"]], others["x"].loc[df["s"]])[0, 1] == pytest.approx(0, abs=0.03)
    extreme = simulate("y ~ (x | g)", 500, 2, {"cor_g": -1, "sd_g[x]": 3}, seed=1).attrs["effects"]["g"]
    np.testing.assert_allclose(extreme["x"], -3 * extreme["Intercept"], atol=1e-4)
    zero = simulate("y ~ (x | g)", 50, 2, {"sd_g": 0}, seed=1).attrs["effects"]["g"]
    assert (zero == 0).all(axis=None)


def test_attributes_survive_what_pandas_does_with_them() -> None:
    one, two = (simulate("y ~ x + (1 | g)", 5, 3, seed=seed) for seed in (1, 2))
    assert pd.concat([one, one.copy()]).attrs == one.attrs
    assert pd.concat([one, two]).attrs == {}
    assert one.merge(two, on=["g", "period"]).shape == (15, 6)
    assert one[one["x"] > 0].attrs == one.attrs
    assert one.attrs["effects"] == simulate("y ~ x + (1 | g)", 5, 3, seed=1).attrs["effects"]
    assert one.attrs["effects"] != two.attrs["effects"]
    assert one.attrs["effects"] != 1


# Families -------------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, dict[str, float]] = {
    "gaussian": {"sigma": 0.5},
    "student_t": {"sigma": 0.5, "nu": 8},
    "bernoulli": {},
    "bernoulli(probit)": {},
    "bernoulli(cloglog)": {},
    "binomial": {},
    "poisson": {},
    "negative_binomial": {"alpha": 1.5},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_responses_have_the_familys_distribution(name: str) -> None:
    params, eta = {"beta[Intercept]": 0.4, **FAMILIES[name]}, 0.4
    formula = "prop(y, n) ~ 1" if name == "binomial" else "y ~ 1"
    df = simulate(formula, 20_000, 2, params, family=name, seed=1)
    chosen, y = family(name), df["y"].to_numpy()
    assert df["y"].dtype == (float if chosen.location else np.int64)
    ends = {"bernoulli": 1, "binomial": 10}.get(chosen.name, 60)
    grid = np.linspace(-20, 20, 4001) if chosen.location else np.arange(ends + 1.0)
    trials = np.full(len(grid), 10.0) if chosen.counts_trials else None
    density = np.exp(chosen.log_density(chosen.link, np.full(len(grid), eta), params, Rows(grid, trials=trials)))
    density /= density.sum()
    mean = density @ grid
    assert y.mean() == pytest.approx(mean, abs=0.04)
    assert y.var() == pytest.approx(density @ (grid - mean) ** 2, rel=0.06)


def test_trials_are_ten_or_those_given() -> None:
    formula = "prop(y, n) ~ x + (1 | g)"
    df = simulate(formula, 20, 3, family="binomial", seed=1)
    assert df.columns.to_list() == ["g", "period", "y", "n", "x"]
    assert set(df["n"]) == {10}
    assert df["y"].between(0, 10).all()
    assert df[["y", "n"]].dtypes.to_list() == [np.int64, np.int64]
    df = simulate(formula, 20, 3, family="binomial", regressors={"n": 40}, seed=1)
    assert set(df["n"]) == {40}
    assert df["y"].max() > 20
    df = simulate(
        formula, 20, 3, family="binomial", regressors={"n": lambda rng, u, p: rng.integers(1, 4, len(u))}, seed=1
    )
    assert set(df["n"]) == {1, 2, 3}
    assert (df["y"] <= df["n"]).all()
    assert hp.Model(formula, df, family="binomial").spec.n == 60
    assert simulate("prop(y, 7) ~ x", 20, 3, family="binomial", seed=1).columns.to_list() == [
        "unit",
        "period",
        "y",
        "x",
    ]


def test_counts_and_choices_can_depend_on_the_last_ones() -> None:
    df = simulate("y ~ lag(y) + (1 | g)", 4000, 4, {"beta[lag(y)]": 2, "sd_g": 0}, family="bernoulli", seed=1)
    df["before"] = df.groupby("g")["y"].shift(1)
    shares = df.groupby("before")["y"].mean()
    assert shares.to_numpy() == pytest.approx([0.5, 1 / (1 + np.exp(-2))], abs=0.03)
    df = simulate("y ~ lag(y)", 4000, 4, {"beta[lag(y)]": -0.5, "beta[Intercept]": 1}, family="poisson", seed=1)
    before = df.groupby("unit")["y"].shift(1)
    assert df["y"][before == 2].mean() == pytest.approx(1, abs=0.1)
    assert df["y"].dtype == np.int64


# Seeds, rows and speed ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_panel() -> None:
    formula = "y ~ x + (1 | g) + (1 | f)"
    options: dict[str, Any] = {"regressors": {"f": 4}, "missing": 0.3}
    one, two = (simulate(formula, 20, 5, seed=7, **options) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert one.attrs == two.attrs
    assert not simulate(formula, 20, 5, seed=8, **options).equals(one)
    assert not simulate(formula, 20, 5, **options).equals(simulate(formula, 20, 5, **options))
    rng = np.random.default_rng(7)
    assert simulate(formula, 20, 5, seed=rng, **options).equals(one)
    assert not simulate(formula, 20, 5, seed=rng, **options).equals(one)


def test_regressors_and_effects_do_not_depend_on_coefficients() -> None:
    one, two = (simulate("y ~ x + (1 | g)", 20, 5, {"beta[x]": beta}, seed=1) for beta in (0, 2))
    np.testing.assert_array_equal(one["x"], two["x"])
    assert one.attrs["effects"] == two.attrs["effects"]
    np.testing.assert_allclose(two["y"] - one["y"], 2 * one["x"])


@pytest.mark.parametrize(("missing", "rows"), [(0, 100), (0.25, 75), (0.999, 0), (0.98, 2)])
def test_missing_drops_a_share_of_the_rows(missing: float, rows: int) -> None:
    if rows == 0:
        with pytest.raises(hp.DataError, match="no row is complete"):
            simulate("y ~ 1", 20, 5, seed=1, missing=missing)
        return
    df = simulate("y ~ 1", 20, 5, seed=1, missing=missing)
    assert len(df) == rows
    assert not df.duplicated(["unit", "period"]).any()
    assert df.index.equals(pd.RangeIndex(rows))


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ lag(y) + x + (1 | g)"])
def test_time_goes_with_the_number_of_rows(formula: str) -> None:
    def seconds(n_units: int) -> float:
        start = time.perf_counter()
        simulate(formula, n_units, 5, seed=1)
        return time.perf_counter() - start

    seconds(100)
    small, large = min(seconds(4_000) for _ in range(2)), min(seconds(64_000) for _ in range(2))
    assert large < 50 * small  # 16 times the rows
    assert large < 8


# Mistakes -------------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    (
        "y ~ wage + (1 | g)", {"params": {"beta[wages]": 1}},
        hp.PriorError, r"'beta\[wages\]' in this model \(did you mean 'beta\[wage\]'\?\); those are: .*, sigma$",
    ),
    ("y ~ x", {"params": {"nu": 3}}, hp.PriorError, "no parameter 'nu'"),
    ("y ~ x + (x || g)", {"params": {"cor_g": 0.3}}, hp.PriorError, "no parameter 'cor_g'"),
    ("y ~ x", {"params": {"sigma": 0}}, hp.PriorError, "sigma must be positive, not 0"),
    ("y ~ x + (1 | g)", {"params": {"sd_g": -1}}, hp.PriorError, r"sd_g\[Intercept\] must be 0 or more, not -1"),
    ("y ~ x", {"params": {"beta[x]": np.inf}}, hp.PriorError, r"beta\[x\] must be a number, not inf"),
    ("y ~ x", {"params": {"beta[x]": "1"}}, hp.PriorError, "must be a number, not '1'"),
    ("y ~ x", {"params": [1]}, hp.DataError, "params and regressors are mappings"),
    (
        "y ~ (x | g)", {"params": {"cor_g": 1.1}},
        hp.PriorError, "a correlation or the correlation matrix of Intercept, x, not 1.1",
    ),
    ("y ~ (x | g)", {"params": {"cor_g": [[1, 2], [2, 4]]}}, hp.PriorError, "cor_g must be"),
    ("y ~ (x | g)", {"params": {"cor_g": [[1, 0.5], [0.5]]}}, hp.PriorError, "cor_g must be"),
    ("y ~ (x | g)", {"params": {"cor_g": "high"}}, hp.PriorError, "cor_g must be"),
    ("y ~ (x + z | g)", {"params": {"cor_g": -0.6}}, hp.PriorError, "cor_g must be .* of Intercept, x, z"),
    (
        "y ~ (x + z | g)", {"params": {"cor_g": -0.9}}, hp.PriorError,
        "not -0.9: that is no correlation matrix, not being positive definite; a correlation of all 3 columns is -0.5 "
        "or more$",
    ),
    (
        "y ~ (x + z | g) + (0 + w + v + u + s | g)", {"params": {"cor_g": -0.45}}, hp.PriorError,
        "of all 4 columns is -0.3333 or more$",
    ),
    (
        "y ~ (x + z | g)", {"params": {"cor_g": np.where(np.eye(3), 1, -0.9)}}, hp.PriorError,
        "that is no correlation matrix, not being positive definite$",
    ),
    ("y ~ (x | g) + (0 + z | g)", {"params": {"cor_g": 0.1 + 0.9 * np.eye(3)}}, hp.PriorError, "cor_g must be"),
    (
        "y ~ wage", {"regressors": {"wages": "binary"}},
        hp.DataError, r"'wages' \(did you mean 'wage'\?\); the columns of .*: wage$",
    ),
    ("y ~ x + (1 | g)", {"regressors": {"g": 3}}, hp.DataError, "names 'g'; the columns of this formula: x$"),
    ("y ~ 1", {"regressors": {"y": "binary"}}, hp.DataError, "names 'y'; the columns of this formula: none$"),
    ("y ~ x", {"regressors": {"x": "binry"}}, hp.DataError, "cannot be 'binry'; it is 'normal', "),
    ("y ~ x", {"regressors": {"x": ("normal", 1)}}, hp.DataError, r"cannot be \('normal', 1\)"),
    ("y ~ x", {"regressors": {"x": ("units", 21)}}, hp.DataError, r"cannot be \('units', 21\)"),
    ("y ~ x", {"regressors": {"x": 1}}, hp.DataError, "cannot be 1;"),
    ("y ~ x", {"regressors": {"x": True}}, hp.DataError, "has shape"),
    ("y ~ x", {"regressors": {"x": [1, 2]}}, hp.DataError, r"has shape \(2,\); it needs 80 values, unit by unit"),
    ("y ~ x", {"regressors": {"x": lambda rng, units, periods: 1.0}}, hp.DataError, r"has shape \(\)"),
    (
        "y ~ x", {"regressors": {"x": lambda: 1}}, hp.DataError,
        r"regressors\['x'\] is called as f\(rng, units, periods\): .*takes 0 positional arguments but 3 were given",
    ),
    ("y ~ x", {"regressors": {"x": np.full(80, np.nan)}}, hp.DataError, "has missing values"),
    ("prop(y, n) ~ x", {"regressors": {"n": 0}, "family": "binomial"}, hp.DataError, "'n'.*cannot be 0"),
    ("y ~ (1 | g) + (1 | firm)", {}, hp.DataError, r"'firm' is not the unit \(g\): .* or unit='firm'$"),
    ("y ~ (1 | g) + (1 | firm)", {"regressors": {"firm": "normal"}}, hp.DataError, "'firm' is not the unit"),
    ("y ~ (1 | school/room)", {}, hp.DataError, "'room' is not the unit"),
    ("y ~ between(x, by=s) + (1 | g)", {}, hp.DataError, "'s' is not the unit"),
    ("y ~ x + (1 | g)", {"time": "g", "unit": "g"}, hp.DataError, "need columns of their own"),
    ("y ~ x", {"unit": 3}, hp.DataError, "unit and time are names of columns, not 3 and 'period'"),
    ("y ~ x", {"time": None}, hp.DataError, "unit and time are names of columns, not 'unit' and None"),
    ("y ~ x", {"unit": "y"}, hp.DataError, "need columns of their own"),
    ("y ~ log(x)", {}, hp.DataError, r"log\(x\) gives NaN"),
    ("y ~ x + z", {"regressors": {"x": "constant", "z": "constant"}, "n_units": 2}, hp.DataError, "collinear"),
    ("y ~ x + fe(g)", {"regressors": {"x": "constant"}}, hp.DataError, "does not vary within the units"),
    ("y ~ x", {"n_units": 0}, hp.DataError, "whole numbers of at least 1"),
    ("y ~ x", {"n_periods": 2.0}, hp.DataError, "whole numbers of at least 1"),
    *(
        ("y ~ x", {"seed": seed}, hp.DataError, f"seed is a whole number of 0 or more, .*, not {seed!r}$")
        for seed in (-1, "a", 1.5)
    ),
    ("y ~ x", {"missing": 1}, hp.DataError, "missing is a share from 0 to below 1"),
    ("y ~ x", {"family": "normal"}, hp.FamilyError, "did you mean 'gaussian'"),
    ("y ~ x", {"family": "binomial"}, hp.FormulaError, "simulated are prop"),
    ("prop(y, n) ~ x", {}, hp.FormulaError, "simulated are prop"),
    ("log(y) ~ x", {}, hp.FormulaError, "simulated are prop"),
    ("diff(y) ~ diff(x)", {}, hp.FormulaError, "simulated are prop"),
    ("y ~ lag(y) + initial(y) + (1 | g)", {}, hp.FormulaError, r"initial\(y\) is added to fit"),
    ("y ~ lead(y)", {}, hp.FormulaError, r"only the terms lag\(y\)"),
    ("y ~ lag(y):x", {}, hp.FormulaError, r"only the terms lag\(y\)"),
    ("y ~ I(lag(y)**2)", {}, hp.FormulaError, r"only the terms lag\(y\)"),
    ("y ~ (lag(y) | g)", {}, hp.FormulaError, r"only the terms lag\(y\)"),
    ("y ~ x + offset(lag(y))", {}, hp.FormulaError, r"only the terms lag\(y\)"),
    ("prop(y, n) ~ lag(y)", {"family": "binomial"}, hp.FormulaError, r"none of prop\(y, n\)"),
    ("y ~ lag(y)", {"params": {"beta[lag(y)]": 1}}, hp.PriorError, "never settles"),
    ("y ~ lag(y) + lag(y, 2)", {"params": {"beta": 0.5}}, hp.PriorError, "never settles"),
    ("y ~ x", {"params": {"beta[x]": 100}, "family": "poisson"}, hp.HierpanelError, "the outcome grows to"),
    ("y ~ lag(y)", {"params": {"beta[lag(y)]": 3}, "family": "poisson"}, hp.HierpanelError, "the outcome grows to"),
    ("y ~ x + ", {}, hp.FormulaError, "a column is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "options", "error", "message"), MISTAKES)
def test_mistakes_are_named(formula: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        simulate(**{"formula": formula, "n_units": 20, "n_periods": 4, "seed": 1, **options})
