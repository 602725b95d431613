"""`Fit.predict` against loops over rows and draws, closed forms and moments, for rows of the fit and for others."""

import datetime
import decimal
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from scipy.interpolate import BSpline

import hierpanel as hp
from hierpanel.results import predict, stored_table
from hierpanel.results.fit import Fit
from tests.helpers import summary, with_draws

Array = np.ndarray
Made = Callable[..., Fit]
Readable = Callable[..., Fit]

NUMBERS = ["mean", "sd", "lower", "upper"]
KINDS = ["mean", "linear", "response"]
PANEL = ("g", "t")


@pytest.fixture(scope="module")
def readable(readable: Readable) -> Readable:
    """Of few draws, unless stated: loops run over them."""
    return lambda formula, data, **options: readable(formula, data, **{"chains": 2, "draws": 6, **options})


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Six units g of ten rows, whole numbers u beside them, h within and across them, numbers and outcomes."""
    rng = np.random.default_rng(2)
    n = 60
    unit = np.repeat(np.arange(6), 10)
    return pd.DataFrame(
        {
            "g": np.array(list("abcdef"))[unit],
            "u": unit + 8,
            "t": np.tile(np.arange(2000, 2010), 6),
            "x": rng.normal(0.5, 1, n),
            "z": rng.uniform(0.5, 3, n),
            "h": rng.choice(list("pqr"), n),
            "o": pd.Categorical(rng.choice(["low", "mid", "high"], n), categories=["low", "mid", "high"], ordered=True),
            "d": rng.random(n) < 0.5,
            "w": rng.uniform(0.5, 2, n),
            "y": rng.normal(5, 1, n),
            "hit": rng.integers(0, 2, n),
            "count": rng.poisson(3, n),
            "wins": rng.integers(0, 5, n),
            "size": rng.integers(4, 9, n),
        }
    )


def flat(fit: Fit, name: str) -> Array:
    draws = fit.draws(name)
    return draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])


INVERSE: dict[str, Callable[[float], float]] = {
    "identity": lambda e: e,
    "log": math.exp,
    "logit": lambda e: 1 / (1 + math.exp(-e)),
    "probit": NormalDist().cdf,
    "cloglog": lambda e: 1 - math.exp(-math.exp(e)),
}


def dumb(fit: Fit, kind: str = "linear") -> Array:
    """The rows of the fit (rows, draws), a number at a time."""
    design, size = fit.design, math.prod(fit.effects.lead)
    beta = flat(fit, "beta") if fit.spec.coefs else np.empty((size, 0))
    effects = [flat(fit, f"b_{group.name}") for group in design.groups]
    found = np.empty((design.n, size))
    for i in range(design.n):
        for s in range(size):
            eta = design.offset[i] + sum(design.X[i, k] * beta[s, k] for k in range(design.X.shape[1]))
            for group, b in zip(design.groups, effects, strict=True):
                eta += sum(group.Z[i, k] * b[s, group.codes[i], k] for k in range(len(group.coefs)))
            mean = INVERSE[fit.spec.family.link.name](eta) * (1 if design.trials is None else design.trials[i])
            found[i, s] = eta if kind == "linear" else mean
    return found


# --- rows of the fit --------------------------------------------------------------------------------------------------

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "pooled": ("y ~ x + d", {}),
    "no coefficients": ("y ~ 0 + (1 | g)", {}),
    "correlated slopes": ("y ~ x + (1 + x | g)", {}),
    "independent slopes": ("y ~ x + (x || g)", {}),
    "two blocks": ("y ~ x + (1 + x | g) + (0 + z | g)", {}),
    "crossed": ("y ~ x + (x | g) + (1 | h)", {}),
    "nested": ("y ~ x + (1 | g/h)", {}),
    "combinations": ("y ~ x + (0 + x | g:o:h)", {}),
    "fixed effects": ("y ~ x + fe(g)", {}),
    "fixed effects without an intercept": ("y ~ 0 + x + fe(g) + fe(h)", {}),
    "priors on the columns as they are": ("y ~ x + (1 + x | g)", {"center": False}),
    "splines": ("y ~ bs(x, df=5) + (1 | g)", {}),
    "polynomials": ("y ~ poly(x, 3) + (poly(z, 2) | g)", {}),
    "scaled": ("y ~ scale(x) * center(z) + (scale(x) | g)", {}),
    "contrasts": ("y ~ C(h, Sum) * x + C(u) + (o | h)", {}),
    "interactions": ("y ~ h * o * d + h:x + (0 + h | g)", {}),
    "powers and truth values": ("y ~ I(x**2) + I(z > 1) + np.log(z) + (d | g)", {}),
    "offsets": ("count ~ x + offset(log(z)) + offset(w) + (1 | g)", {"family": "poisson"}),
    "weights": ("y ~ x + (1 | g)", {"weights": "w"}),
    "student_t": ("y ~ x + (1 | g)", {"family": "student_t"}),
    "logit": ("hit ~ x + (x | g)", {"family": "bernoulli"}),
    "probit": ("hit ~ x + (1 | g)", {"family": "bernoulli(probit)"}),
    "cloglog": ("hit ~ x + (1 | g)", {"family": "bernoulli(cloglog)"}),
    "trials": ("prop(wins, size) ~ x + (1 | g)", {"family": "binomial(probit)"}),
    "negative_binomial": ("count ~ x + (x | g)", {"family": "negative_binomial"}),
    "lags": ("y ~ lag(x) + diff(z) + lead(w, 2) + (1 | g)", {"panel": PANEL}),
    "unit means": ("y ~ mundlak(x + h) + z + (1 + within(x) | g)", {"panel": PANEL}),
    "a dynamic panel": ("y ~ lag(y) + initial(y) + x + (1 | g)", {"panel": PANEL}),
}


@pytest.mark.parametrize("model", MODELS)
def test_rows_of_the_fit_are_a_loop_over_rows_and_draws(model: str, readable: Readable, table: pd.DataFrame) -> None:
    formula, options = MODELS[model]
    data = table.assign(x=table["x"].where(table.index != 13)).set_axis(table.index + 100)
    fit = readable(formula, data, **options)
    for kind in ("linear", "mean"):
        found = fit.predict(kind=kind, prob=0.8)
        np.testing.assert_allclose(
            found[NUMBERS], [summary(row, 0.8) for row in dumb(fit, kind)], rtol=1e-10, atol=1e-12
        )
        assert found.index.equals(fit.design.index)
    np.testing.assert_allclose(found["mean"], fit.fittedvalues, rtol=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_rows_of_the_fit_given_once_more_are_the_same_in_any_order_and_alone(
    model: str, readable: Readable, table: pd.DataFrame
) -> None:
    """Lags of a row that stands alone are looked up among the rows of the fit."""
    formula, options = MODELS[model]
    fit = readable(formula, table, **options)
    order = np.random.default_rng(1).permutation(len(table))
    for kind in KINDS:
        whole = fit.predict(table, kind=kind)
        assert whole.index.equals(table.index)
        complete = whole.dropna()
        assert complete.index.equals(fit.design.index)
        pd.testing.assert_frame_equal(complete, fit.predict(kind=kind), rtol=1e-10)
        pd.testing.assert_frame_equal(fit.predict(table.iloc[order], kind=kind), whole.iloc[order], rtol=1e-10)
        alone = fit.predict(table.iloc[[44]], kind=kind)
        pd.testing.assert_frame_equal(alone, whole.iloc[[44]], rtol=1e-10)


# --- other rows, by hand ----------------------------------------------------------------------------------------------


def test_other_rows_by_hand(readable: Readable, table: pd.DataFrame) -> None:
    """Every kind of term, a known unit beside a new one, and an offset, in a loop over rows and draws."""
    formula = "count ~ x * h + d + offset(log(z)) + (1 + x | g) + (1 | u:h)"
    fit = readable(formula, table, family="poisson")
    rows = pd.DataFrame(
        {
            "x": [0.0, -1.5, 4.0, 2.0],
            "h": ["r", "p", "q", "p"],
            "d": [True, False, True, True],
            "z": [1.0, 2.5, 0.1, 3.0],
            "g": ["b", "a", "new", "f"],
            "u": [9, 77, 8, 13],
        }
    )
    names, beta, b, c = fit.spec.coefs, flat(fit, "beta"), flat(fit, "b_g"), flat(fit, "b_u:h")
    levels = list(fit.design.group("u:h").levels)
    wanted = np.empty((4, len(beta)))
    for i, row in enumerate(rows.to_dict("records")):
        value = {"Intercept": 1, "x": row["x"], "h[q]": row["h"] == "q", "h[r]": row["h"] == "r", "d": row["d"]}
        value |= {f"x:h[{level}]": row["x"] * (row["h"] == level) for level in "qr"}
        for s in range(len(beta)):
            eta = math.log(row["z"]) + sum(beta[s, names.index(name)] * v for name, v in value.items())
            if row["g"] != "new":
                effect = b[s, "abcdef".index(row["g"])]
                eta += effect[0] + effect[1] * row["x"]
            if f"{row['u']}:{row['h']}" in levels:
                eta += c[s, levels.index(f"{row['u']}:{row['h']}"), 0]
            wanted[i, s] = math.exp(eta)
    found = fit.predict(rows, new_groups="population")
    np.testing.assert_allclose(found[NUMBERS], [summary(row) for row in wanted], rtol=1e-10)


# formula → the columns that it gives for x (n,), those of the fit being x0
FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "scale(x)": lambda x, x0: ((x - x0.mean()) / x0.std())[:, None],
    "center(x)": lambda x, x0: (x - x0.mean())[:, None],
    "I(x**2)": lambda x, x0: (x**2)[:, None],
    "np.exp(x)": lambda x, x0: np.exp(x)[:, None],
    "poly(x, 3)": lambda x, x0: orthogonal(x, x0, 3),
    "bs(x, df=6)": lambda x, x0: spline(x, x0, 3),
    "bs(x, df=4, degree=1)": lambda x, x0: spline(x, x0, 3, 1),
}


def orthogonal(x: Array, x0: Array, degree: int) -> Array:
    """Polynomials that are orthonormal over x0, positive at the far right."""
    R = np.linalg.qr(np.vander(x0, degree + 1, increasing=True))[1]
    return (np.vander(x, degree + 1, increasing=True) @ np.linalg.inv(R) * np.sign(np.diag(R)))[:, 1:]


def spline(x: Array, x0: Array, inner: int, degree: int = 3) -> Array:
    """B-splines with knots at quantiles of x0, the first one left out."""
    knots = np.quantile(x0, np.linspace(0, 1, inner + 2))
    t = np.concatenate([[knots[0]] * degree, knots, [knots[-1]] * degree])
    return BSpline.design_matrix(x, t, degree).toarray()[:, 1:]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_remember_the_rows_of_the_fit(function: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = readable(f"y ~ {function} + (0 + {function} | g)", table)
    x0 = table["x"].to_numpy()
    x = np.linspace(x0.min(), x0.max(), 7)
    columns = FUNCTIONS[function](x, x0)
    beta, b = flat(fit, "beta"), flat(fit, "b_g")[:, 2]
    wanted = beta[:, :1] + (beta[:, 1:] + b) @ columns.T
    found = fit.predict({"x": x, "g": ["c"] * 7})
    np.testing.assert_allclose(found[NUMBERS], [summary(row) for row in wanted.T], rtol=1e-8, atol=1e-8)


def test_rows_outside_the_knots_warn(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ bs(x, df=5) + (1 | g)", table)
    with pytest.warns(UserWarning, match="1 of 2 rows outside"):
        fit.predict({"x": [0.5, 50.0], "g": ["a", "a"]})


def test_levels_of_a_factor_are_coded_by_value(readable: Readable, table: pd.DataFrame) -> None:
    """One level alone, a category with other levels, and numbers written as floats."""
    fit = readable("y ~ C(u) + h + o + (1 | g)", table)
    whole = fit.predict(table)["mean"]
    row = table.iloc[[7]]
    for other in (
        row.assign(h=row["h"].astype("category"), o=row["o"].astype(str), u=row["u"].astype(float)),
        row.assign(
            h=pd.Categorical(row["h"], categories=list("zrqp")),
            o=row["o"].cat.reorder_categories(["mid", "high", "low"]),
        ),
    ):
        assert fit.predict(other)["mean"].iloc[0] == pytest.approx(whole.iloc[7], rel=1e-12)


def test_known_units_keep_their_effects_in_new_periods(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ t + (1 + t | g)", table)
    beta, b = flat(fit, "beta"), flat(fit, "b_g")
    years = np.arange(2010, 2014)
    found = fit.predict({"t": years, "g": ["d"] * 4})
    wanted = [summary(beta[:, 0] + b[:, 3, 0] + (beta[:, 1] + b[:, 3, 1]) * year) for year in years]
    np.testing.assert_allclose(found[NUMBERS], wanted, rtol=1e-10)
    lagged = readable("y ~ lag(z) + x + (1 | g)", table, panel=PANEL)
    last = table[table["t"] == 2009]
    found = lagged.predict(last.assign(t=2010, z=np.nan)[["g", "t", "x", "z"]])["mean"]
    beta, b = lagged.draws("beta").mean(axis=(0, 1)), lagged.draws("b_g").mean(axis=(0, 1))[:, 0]
    at = {name: beta[lagged.spec.coefs.index(name)] for name in ("Intercept", "lag(z)", "x")}
    wanted = at["Intercept"] + at["lag(z)"] * last["z"] + at["x"] * last["x"] + b
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


# --- responses --------------------------------------------------------------------------------------------------------

ETA = 0.4
SIGMA, NU, ALPHA, TRIALS, WEIGHT = 0.7, 6.0, 2.5, 7, 4.0
P = 1 / (1 + math.exp(-ETA))
# family → response, mean and variance of a new response at η = ETA
RESPONSES: dict[str, tuple[str, float, float]] = {
    "gaussian": ("y", ETA, SIGMA**2 / WEIGHT),
    "student_t": ("y", ETA, SIGMA**2 / WEIGHT * NU / (NU - 2)),
    "bernoulli": ("hit", P, P * (1 - P)),
    "bernoulli(probit)": ("hit", NormalDist().cdf(ETA), NormalDist().cdf(ETA) * NormalDist().cdf(-ETA)),
    "binomial": ("prop(wins, size)", TRIALS * P, TRIALS * P * (1 - P)),
    "poisson": ("count", math.exp(ETA), math.exp(ETA)),
    "negative_binomial": ("count", math.exp(ETA), math.exp(ETA) + math.exp(2 * ETA) / ALPHA),
}


@pytest.mark.parametrize("family", RESPONSES)
def test_responses_have_the_mean_and_the_variance_of_their_family(
    family: str, readable: Readable, table: pd.DataFrame
) -> None:
    response, mean, variance = RESPONSES[family]
    options = {"weights": "w"} if response == "y" else {}
    fit = readable(f"{response} ~ x + (1 | g)", table, family=family, chains=2, draws=2000, **options)
    known = {"sigma": SIGMA, "nu": NU, "alpha": ALPHA}
    at = {name: known[name] for name in fit.spec.parameters}
    fit = with_draws(fit, beta=[ETA - 1, 1.0], b_g=0.0, **at)
    rows = table.iloc[:2].assign(x=1.0, w=WEIGHT, size=TRIALS)
    drawn = fit.predict(rows, kind="response", draws=True).to_numpy().reshape(-1, 2)
    for values in drawn.T:
        se = math.sqrt(variance / len(values))
        assert abs(values.mean() - mean) < 5 * se
        fourth = stats.kurtosis(values, fisher=False)
        assert abs(values.var() - variance) < 6 * variance * math.sqrt(max(fourth - 1, 1) / len(values))
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 5 / math.sqrt(len(drawn))
    if response != "y":
        assert (drawn == drawn.round()).all()
        assert drawn.min() >= 0
    np.testing.assert_allclose(fit.predict(rows)["mean"], mean, rtol=1e-10)
    # the table is that of the draws
    np.testing.assert_allclose(fit.predict(rows, kind="response")[NUMBERS], [summary(v) for v in drawn.T], rtol=1e-10)


def test_responses_use_their_own_draw_of_the_parameters(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table, chains=2, draws=4)
    sigma = np.array([[1e-9] * 4, [1e3] * 4])
    fit = with_draws(fit, sigma=sigma)
    away = fit.predict(table, kind="response", draws=True) - fit.predict(table, kind="linear", draws=True)
    assert abs(away.sel(chain=0)).max() < 1e-7
    assert abs(away.sel(chain=1)).max() > 1e2


def test_the_seed_decides_what_is_drawn(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 + x | g)", table)
    rows = table.iloc[:5].assign(g=["a", "new", "new", "other", "b"])

    def ask(seed: int) -> Array:
        return fit.predict(rows, kind="response", new_groups="sample", seed=seed, draws=True).to_numpy()

    np.testing.assert_array_equal(ask(3), ask(3))
    assert (ask(3) != ask(4)).all()
    effects = [fit.predict(rows, kind="linear", new_groups="sample", seed=s, draws=True).to_numpy() for s in (0, 1)]
    assert (effects[0] != effects[1]).any(axis=(0, 1)).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None])
def test_a_seed_that_is_none_is_told(seed: Any, readable: Readable, table: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match="seed"):
        readable("y ~ x", table).predict(table, kind="response", seed=seed)


# --- missing values and labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x", "z", "h", "g", "u"])
def test_rows_with_something_missing_keep_their_place(
    name: str, kind: str, readable: Readable, table: pd.DataFrame
) -> None:
    """A missing unit is not a new one: it is no error, and nothing is drawn for it."""
    fit = readable("y ~ x + h + offset(z) + (1 | g) + (1 | u)", table)
    holes = table.assign(**{name: table[name].where(~table.index.isin([0, 3, 59]))})
    found = fit.predict(holes, kind=kind, new_groups="error")
    assert found.index.equals(table.index)
    assert np.flatnonzero(found["mean"].isna()).tolist() == [0, 3, 59]
    pd.testing.assert_frame_equal(found.dropna(), fit.predict(table, kind=kind).drop(index=[0, 3, 59]), rtol=1e-10)
    drawn = fit.predict(holes, kind=kind, draws=True)
    assert np.flatnonzero(np.isnan(drawn.to_numpy()).any(axis=(0, 1))).tolist() == [0, 3, 59]


def test_a_missing_unit_is_not_a_new_one(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table)
    rows = {"x": [1.0, 1.0, 1.0], "g": ["a", None, "zoe"]}
    with pytest.raises(hp.DataError, match=r"g has 1 level \(zoe\) that the fit has not seen"):
        fit.predict(rows)
    for new_groups in ("sample", "population"):
        assert fit.predict(rows, new_groups=new_groups)["mean"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_all_incomplete_are_missing(kind: str, readable: Readable, table: pd.DataFrame) -> None:
    for formula, options in (MODELS["crossed"], MODELS["trials"], MODELS["weights"], MODELS["lags"]):
        fit = readable(formula, table, **options)
        found = fit.predict(table[:3].assign(x=np.nan, z=np.nan, g=None), kind=kind)
        assert found.shape == (3, 4)
        assert found.isna().to_numpy().all()
        assert fit.predict(table[:3].assign(g=None), kind=kind, draws=True).isnull().all()


def test_a_table_without_rows_is_an_error(readable: Readable, table: pd.DataFrame) -> None:
    with pytest.raises(hp.DataError, match="the table has no rows"):
        readable("y ~ x + (1 | g)", table).predict(table[:0])


INDICES: dict[str, Callable[[int], pd.Index]] = {
    "text": lambda n: pd.Index([f"row {k}" for k in range(n)]),
    "with a name": lambda n: pd.Index(range(n), name="id"),
    "named after a factor": lambda n: pd.Index(range(n), name="g"),
    "named after a dim": lambda n: pd.Index(range(n), name="draw"),
    "a whole number for a name": lambda n: pd.Index(range(n), name=7),
    "doubles": lambda n: pd.Index(np.arange(n) // 3),
    "all the same": lambda n: pd.Index([1] * n),
    "missing labels": lambda n: pd.Index([np.nan, 1.0] * (n // 2)),
    "times": lambda n: pd.date_range("2020-01-01", periods=n, tz="Europe/Berlin"),
    "periods": lambda n: pd.period_range("2020-01", periods=n, freq="M"),
    "categories": lambda n: pd.CategoricalIndex(["v", "w"] * (n // 2)),
    "two levels": lambda n: pd.MultiIndex.from_arrays([np.arange(n) // 4, np.arange(n) % 4], names=["unit", "when"]),
    "two levels without names": lambda n: pd.MultiIndex.from_arrays([np.arange(n) // 4, np.arange(n) % 4]),
    "two levels with doubles": lambda n: pd.MultiIndex.from_arrays([np.arange(n) // 8, np.arange(n) % 2]),
    "two levels named after dims": lambda n: pd.MultiIndex.from_arrays([range(n), range(n)], names=["row", "chain"]),
}


@pytest.mark.parametrize("index", INDICES)
def test_predictions_stand_under_the_index_of_the_rows(index: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table)
    rows = table.iloc[:16].set_axis(INDICES[index](16))
    for kind in ("mean", "linear"):
        found = fit.predict(rows, kind=kind)
        pd.testing.assert_index_equal(found.index, rows.index)
        np.testing.assert_array_equal(found, fit.predict(table.iloc[:16], kind=kind))
    found = fit.predict(rows, kind="response")
    pd.testing.assert_index_equal(found.index, rows.index)
    assert found["mean"].is_unique  # rows of one label have residuals of their own


@pytest.mark.parametrize("index", INDICES)
def test_draws_stand_under_the_index_of_the_rows(index: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table, chains=3, draws=5)
    rows = table.iloc[:16].set_axis(INDICES[index](16))
    found = fit.predict(rows, draws=True)
    assert found.dims == ("chain", "draw", "row")
    assert found.shape == (3, 5, 16)
    assert found["chain"].values.tolist() == [0, 1, 2]
    assert found["draw"].values.tolist() == [0, 1, 2, 3, 4]
    labels = found.indexes["row"]
    assert list(map(str, labels)) == list(map(str, rows.index))
    np.testing.assert_array_equal(found.to_numpy(), fit.predict(table.iloc[:16], draws=True).to_numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_that_of_the_draws(kind: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 + x | g)", table, chains=3, draws=20)
    rows = table.iloc[:4].assign(g=["a", "new", "f", "new"], x=[1.0, 2.0, np.nan, 3.0])
    drawn = fit.predict(rows, kind=kind, new_groups="sample", draws=True)
    found = fit.predict(rows, kind=kind, new_groups="sample", prob=0.5)
    assert drawn.name == kind
    assert found.columns.name == "50 % equal-tailed"
    assert found.attrs == {"interval": "equal-tailed", "prob": 0.5, "kind": kind}
    assert list(found.columns) == NUMBERS
    for place in (0, 1, 3):
        np.testing.assert_allclose(found.iloc[place], summary(drawn[:, :, place], 0.5))
    # the draws are those of the posterior, in its order
    if kind == "linear":
        own = fit.draws("beta")[..., 0] + fit.draws("b_g")[..., 0, 0]
        own = own + fit.draws("beta")[..., 1] + fit.draws("b_g")[..., 0, 1]
        np.testing.assert_allclose(drawn[:, :, 0], own)


def test_one_draw_has_no_spread(readable: Readable, table: pd.DataFrame) -> None:
    found = readable("y ~ x + (1 | g)", table, chains=1, draws=1).predict(table)
    np.testing.assert_array_equal(found["sd"], 0)


def test_other_kinds_of_tables(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("prop(wins, size) ~ x + h + (1 | g) + (1 | u)", table, family="binomial")
    rows = table[["x", "h", "g", "u", "size"]].iloc[:5].reset_index(drop=True)
    holes = rows.assign(g=rows["g"].where(rows.index != 2), u=rows["u"].astype("Int64").where(rows.index != 4))
    for kind in KINDS:
        for data in (rows, holes):
            wanted = fit.predict(data, kind=kind)
            frame = pl.from_pandas(data)
            for other in (frame, frame.to_arrow(), data.to_dict("list"), data.to_dict("series")):
                pd.testing.assert_frame_equal(fit.predict(other, kind=kind), wanted)
    indexed = rows.set_index(["g", "u"])
    np.testing.assert_array_equal(fit.predict(indexed), fit.predict(rows))


# --- names of units ---------------------------------------------------------------------------------------------------

DAYS = pd.Timestamp("2020-01-30") + pd.to_timedelta(np.repeat(np.arange(6), 10), unit="D")
HOURS = pd.Timestamp("2020-01-30") + pd.to_timedelta(np.repeat(np.arange(6), 10), unit="h")
# units of the fit, the same units as other rows have them
IDS: dict[str, tuple[Callable[[pd.Series], Any], Callable[[pd.Series], Any]]] = {
    "whole numbers, then floats with NaN": (lambda u: u, lambda u: u.where(u.index != 3)),
    "whole numbers, then nullable ones": (lambda u: u, lambda u: u.astype("Int64").where(u.index != 3)),
    "whole numbers, then objects": (lambda u: u, lambda u: u.astype(object).where(u.index != 3, None)),
    "whole numbers, then small ones": (lambda u: u, lambda u: u.astype("uint8")),
    "whole numbers, then categories": (lambda u: u, lambda u: u.astype("category")),
    "categories of numbers, then numbers": (lambda u: u.astype("category"), lambda u: u),
    "nullable numbers with NA, then numbers": (lambda u: u.astype("Int64").where(u.index != 3), lambda u: u),
    "floats with NaN, then whole numbers": (lambda u: u.where(u.index != 3), lambda u: u),
    "text, then categories": (lambda u: u.astype(str), lambda u: u.astype(str).astype("category")),
    "text, then strings": (lambda u: u.astype(str), lambda u: u.astype(str).astype("string").where(u.index != 3)),
    "text, then objects with None": (
        lambda u: u.astype(str), lambda u: u.astype(str).astype(object).where(u.index != 3, None)
    ),
    "categories, then text": (lambda u: u.astype(str).astype("category"), lambda u: u.astype(str)),
    "times, then dates": (lambda u: DAYS, lambda u: pd.Series([day.date() for day in DAYS], dtype=object)),
    "dates, then times": (lambda u: pd.Series([day.date() for day in DAYS], dtype=object), lambda u: DAYS),
    "times, then coarse times": (lambda u: DAYS, lambda u: pd.Series(DAYS.as_unit("s")).where(u.index != 3)),
    "hours": (lambda u: HOURS, lambda u: HOURS),
    "categories of hours": (lambda u: pd.Categorical(HOURS), lambda u: pd.Categorical(HOURS)),
    "days in Berlin": (lambda u: DAYS.tz_localize("Europe/Berlin"), lambda u: DAYS.tz_localize("Europe/Berlin")),
    "hours in Berlin": (lambda u: HOURS.tz_localize("Europe/Berlin"), lambda u: HOURS.tz_localize("Europe/Berlin")),
    "months": (
        lambda u: pd.period_range("2020-01", periods=6, freq="M")[u - 8],
        lambda u: pd.Series(pd.period_range("2020-01", periods=6, freq="M")[u - 8]).where(u.index != 3),
    ),
    "truth values, then objects": (lambda u: u > 10, lambda u: (u > 10).astype(object).where(u.index != 3, None)),
    "truth values, then nullable ones": (lambda u: u > 10, lambda u: (u > 10).astype("boolean").where(u.index != 3)),
}  # fmt: skip


@pytest.mark.parametrize("factor", ["k", "k:h"])
@pytest.mark.parametrize("ids", IDS)
def test_units_are_known_by_value(ids: str, factor: str, readable: Readable, table: pd.DataFrame) -> None:
    """Whatever the column's type is; in every batch, also alone."""
    of_fit, of_rows = (kind(table["u"]) for kind in IDS[ids])
    data, rows = table.assign(k=of_fit), table.assign(k=of_rows)
    fit = readable(f"y ~ x + (1 | {factor})", data)
    wanted = pd.Series(np.nan, index=table.index)
    wanted[fit.design.index] = fit.predict()["mean"]
    complete = rows["k"].notna().to_numpy()
    found = fit.predict(rows)["mean"]
    both = complete & wanted.notna().to_numpy()
    np.testing.assert_allclose(found[both], wanted[both], rtol=1e-10)
    assert found[~complete].isna().all()
    for place in (2, 31):
        np.testing.assert_allclose(fit.predict(rows.iloc[[place]])["mean"], wanted[place], rtol=1e-10)


def test_a_new_time_of_day_does_not_rename_the_days(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | k)", table.assign(k=DAYS))
    rows = table.assign(k=DAYS).iloc[:3]
    later = pd.concat([rows, rows.iloc[[0]].assign(k=pd.Timestamp("2020-03-01 12:00"))])
    pd.testing.assert_frame_equal(fit.predict(later, new_groups="population").iloc[:3], fit.predict(rows))


def test_colons_in_labels_do_not_mix_units_up(readable: Readable, table: pd.DataFrame) -> None:
    data = table.assign(p=np.where(table["d"], "a:b", "a"), q=np.where(table["d"], "c", "b:c"))
    fit = readable("y ~ x + (1 | p:q)", data)
    assert len(fit.design.groups[0].levels) == 2
    pd.testing.assert_frame_equal(fit.predict(data), fit.predict(), rtol=1e-10)


# --- new units --------------------------------------------------------------------------------------------------------


def many(readable: Readable, table: pd.DataFrame, formula: str, **values: Any) -> Fit:
    """A fit of 8,000 draws, in which some variables have stated values."""
    return with_draws(readable(formula, table, chains=4, draws=2000), **values)


def effects(fit: Fit, rows: pd.DataFrame, **options: Any) -> Array:
    """Draws (rows, S) of the linear predictor with sampled units, less that of typical ones."""
    sampled, typical = (
        fit.predict(rows, kind="linear", new_groups=word, draws=True, **options).to_numpy().reshape(-1, len(rows))
        for word in ("sample", "population")
    )
    return (sampled - typical).T


RHO = -0.6


def test_new_units_are_drawn_from_the_distribution_of_units(readable: Readable, table: pd.DataFrame) -> None:
    """Two rows of a unit, at x of 0 and of 1, tell its intercept and its slope."""
    fit = many(readable, table, "y ~ x + (1 + x | g)", sd_g=[0.8, 0.3], cor_g=[[1.0, RHO], [RHO, 1.0]])
    rows = pd.DataFrame({"x": [0.0, 1.0, 0.0, 1.0], "g": ["new", "new", "other", "other"]})
    found = effects(fit, rows)
    S = found.shape[1]
    units = [(found[0], found[1] - found[0]), (found[2], found[3] - found[2])]
    for intercept, slope in units:
        for values, sd in ((intercept, 0.8), (slope, 0.3)):
            assert stats.kstest(values / sd, "norm").pvalue > 1e-4
            assert abs(values.var() / sd**2 - 1) < 5 * math.sqrt(2 / S)
        assert abs(np.corrcoef(intercept, slope)[0, 1] - RHO) < 5 * (1 - RHO**2) / math.sqrt(S)
    for one in units[0]:
        for other in units[1]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(S)


def test_new_units_follow_each_draw_of_the_sds(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (x || g)", table, chains=4, draws=2000)
    sd = np.random.default_rng(3).uniform(0.1, 3, fit.draws("sd_g").shape)
    fit = with_draws(fit, sd_g=sd)
    found = effects(fit, pd.DataFrame({"x": [0.0, 1.0], "g": ["new", "new"]}))
    flat_sd = sd.reshape(-1, 2)
    z = found[0] / flat_sd[:, 0], (found[1] - found[0]) / flat_sd[:, 1]
    for values in z:
        assert stats.kstest(values, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(*z)[0, 1]) < 5 / math.sqrt(len(flat_sd))


def test_two_rows_of_one_new_unit_share_its_effects(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g) + (1 | h)", table)
    rows = pd.DataFrame({"x": [1.0, 5.0, 1.0, 1.0], "g": ["new", "new", "other", "a"], "h": ["p", "p", "p", "new"]})
    found = effects(fit, rows)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10)
    assert (found[0] != found[2]).all()
    assert np.abs(np.corrcoef(found[0], found[3])[0, 1]) < 0.99  # a level of the same name in another factor


def test_a_new_unit_has_its_own_stream(readable: Readable, table: pd.DataFrame) -> None:
    """Whatever other new units there are, and in which order."""
    fit = readable("y ~ x + (1 + x | g)", table)
    rows = table.iloc[:6].assign(g=["new", "other", "a", "third", "new", "b"])
    for kind in KINDS:
        whole = fit.predict(rows, kind=kind, new_groups="sample")
        order = [4, 1, 5, 0, 2, 3]
        found = fit.predict(rows.iloc[order], kind=kind, new_groups="sample")
        pd.testing.assert_frame_equal(found, whole.iloc[order], rtol=1e-10)
        for place in range(6):
            alone = fit.predict(rows.iloc[[place]], kind=kind, new_groups="sample")
            pd.testing.assert_frame_equal(alone, whole.iloc[[place]], rtol=1e-10)


def test_a_new_room_of_a_known_school_keeps_the_schools_effect(readable: Readable, table: pd.DataFrame) -> None:
    fit = many(readable, table, "y ~ 1 + (1 | g/h)", **{"sd_g": [2.0], "sd_g:h": [0.5]})
    rows = pd.DataFrame({"g": ["a", "a", "b", "new", "new"], "h": ["s", "s", "s", "p", "q"]})
    found = effects(fit, rows)
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)  # the population keeps the school's effect too
    assert found[0].var() == pytest.approx(0.25, rel=0.1)
    assert abs(np.corrcoef(found[0], found[2])[0, 1]) < 0.06  # rooms of one name in two schools are two rooms
    assert found[3].var() == pytest.approx(4.25, rel=0.1)
    assert np.corrcoef(found[3], found[4])[0, 1] == pytest.approx(4 / 4.25, abs=0.02)


def test_new_units_widen_the_interval_and_population_does_not(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table, draws=500)
    rows = {"x": [1.0], "g": ["new"]}
    sampled, typical = (fit.predict(rows, new_groups=word) for word in ("sample", "population"))
    at_zero = flat(fit, "beta").sum(axis=1)
    np.testing.assert_allclose(typical[NUMBERS], [summary(at_zero)], rtol=1e-10)
    assert sampled["sd"][0] > 1.1 * typical["sd"][0]


def test_unknown_units_are_named(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g) + (1 | u)", table)
    rows = table.iloc[:7].assign(g=["a", *"uvwxyz"])
    with pytest.raises(
        hp.DataError, match=r"g has 6 levels \(u, v, w, x, y, …\) that the fit has not seen; new_groups="
    ):
        fit.predict(rows)
    with pytest.raises(hp.DataError, match=r"u has 1 level \(99\)"):
        fit.predict(table.assign(u=99))


def test_text_is_not_taken_for_a_number(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | u)", table)
    with pytest.raises(hp.DataError, match="that the fit has not seen"):
        fit.predict(table.assign(u=table["u"].astype(str)))


@pytest.mark.parametrize("new_groups", ["sample", "population", "error"])
def test_fixed_effects_know_no_new_unit(new_groups: Any, readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + fe(g) + (1 | h)", table)
    with pytest.raises(hp.DataError, match=r"g has 1 level \(new\).*fe\(g\) says nothing of new ones; \(1 \| g\) does"):
        fit.predict(table.assign(g="new"), new_groups=new_groups)
    assert fit.predict(table.assign(h="new"), new_groups="sample").notna().all(axis=None)


# --- effects that are not stored --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unstored(table: pd.DataFrame) -> dict[str, Fit]:
    """The same draws of the variance parameters, with the effects stored and without."""
    data = table.assign(y=table["y"] + table["u"] / 4)
    options: dict[str, Any] = {"draws": 400, "chains": 2, "seed": 1, "progress": False}
    return {
        name: hp.fit("y ~ x + (1 + x | g) + (1 | h)", data, effects_memory=memory, env={}, **options)
        for name, memory in (("stored", 256), ("unstored", 0))
    }


def test_unstored_effects_are_those_of_group_draws(unstored: dict[str, Fit], table: pd.DataFrame) -> None:
    fit = unstored["unstored"]
    assert not fit.effects.is_stored("g")
    assert unstored["stored"].effects.is_stored("g")
    b, beta = fit.group_draws("g"), fit.draws("beta")
    c = fit.group_draws("h")[..., 0]
    x, g, h = table["x"].to_numpy(), table["u"].to_numpy() - 8, table["h"].map(dict(p=0, q=1, r=2)).to_numpy()
    wanted = beta[..., :1] + b[..., g, 0] + (beta[..., 1:] + b[..., g, 1]) * x + c[..., h]
    for rows in (None, table):
        found = fit.predict(rows, kind="linear", draws=True)
        np.testing.assert_allclose(found.to_numpy(), wanted, rtol=1e-8)
    alone = fit.predict(table.iloc[[33]], kind="linear", draws=True)
    np.testing.assert_allclose(alone.to_numpy()[..., 0], wanted[..., 33], rtol=1e-8)


def test_unstored_effects_predict_as_stored_ones_do(unstored: dict[str, Fit], table: pd.DataFrame) -> None:
    rows = table.assign(g=table["g"].where(table.index != 5, "new"))
    one, other = (fit.predict(rows, new_groups="sample") for fit in (unstored["stored"], unstored["unstored"]))
    error = np.hypot(one["sd"], other["sd"]) / math.sqrt(800)
    assert (np.abs(one["mean"] - other["mean"]) < 6 * error).all()
    np.testing.assert_allclose(one["sd"], other["sd"], rtol=0.25)


# --- a few rows at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 13, 12 * 7, 12 * 59])
def test_rows_may_come_a_few_at_a_time(
    chunk: int, readable: Readable, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 draws: a row, a row, 7 rows and 59 rows at a time."""
    fit = readable("prop(wins, size) ~ x + (1 + x | g) + (1 | h)", table, family="binomial")
    rows = table.sample(frac=1, random_state=1)
    rows["g"] = np.where(rows["u"] == 9, "new", rows["g"])
    rows.loc[rows.index[5], "x"] = np.nan

    def everything() -> list[Any]:
        tables = [fit.predict(rows, kind=kind, new_groups="sample") for kind in KINDS]
        return [*tables, fit.predict(), fit.predict(rows, new_groups="sample", draws=True).to_series()]

    whole = everything()
    monkeypatch.setattr(predict, "CHUNK", chunk)
    for found, wanted in zip(everything(), whole, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_unstored_effects_a_few_rows_at_a_time(
    unstored: dict[str, Fit], table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = unstored["unstored"].predict(table.iloc[::3])
    monkeypatch.setattr(predict, "CHUNK", 800 * 4)
    pd.testing.assert_frame_equal(unstored["unstored"].predict(table.iloc[::3]), whole, rtol=1e-10)


# --- transformed responses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "w"])
def test_the_mean_of_exp_has_a_closed_form(weights: str | None, readable: Readable, table: pd.DataFrame) -> None:
    """E exp(y) = exp(η + σ²/2w), and not exp(E y)."""
    fit = readable("y ~ x + (1 | g)", table, weights=weights)
    fit = with_draws(fit, sigma=np.linspace(0.2, 1.6, 12).reshape(2, 6))
    w = 1.0 if weights is None else table["w"].to_numpy()[:, None]
    wanted = np.exp(dumb(fit) + flat(fit, "sigma") ** 2 / w / 2)
    for rows in (None, table):
        found = fit.predict(rows, transform=np.exp)
        np.testing.assert_allclose(found[NUMBERS], [summary(row) for row in wanted], rtol=1e-8)


TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "square": np.square,
    "a probability": lambda y: 1 / (1 + np.exp(-y)),
    "absolute": np.abs,
    "no less than 0": lambda y: np.maximum(y, 0),
    "above 0": lambda y: (y > 0).astype(float),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_mean_of_a_transformed_response_is_that_of_many_responses(
    transform: str, readable: Readable, table: pd.DataFrame
) -> None:
    function = TRANSFORMS[transform]
    fit = readable("y ~ x + (1 | g)", table, chains=4, draws=5000)
    fit = with_draws(fit, beta=[-0.3, 0.4], b_g=0.0, sigma=0.8)
    rows = table.iloc[:5]
    drawn = fit.predict(rows, kind="response", transform=function, draws=True).to_numpy().reshape(-1, 5)
    plain = fit.predict(rows, kind="response", draws=True).to_numpy().reshape(-1, 5)
    np.testing.assert_array_equal(drawn, function(plain))
    found = fit.predict(rows, transform=function)
    np.testing.assert_array_less(np.abs(found["mean"] - drawn.mean(axis=0)), 5 * drawn.std(axis=0) / math.sqrt(20_000))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transformed_row_alone_is_what_it_is_in_a_batch(
    transform: str, readable: Readable, table: pd.DataFrame
) -> None:
    """Also where all rows before it are far from a kink."""
    fit = with_draws(readable("y ~ x + (1 | g)", table), beta=[0.3, 10.0], b_g=0.0, sigma=1.0)
    rows = table.iloc[:30].assign(x=[-10.0] * 29 + [0.0])
    whole = fit.predict(rows, transform=TRANSFORMS[transform])
    for part in (rows.iloc[[29]], rows.iloc[::-1]):
        found = fit.predict(part, transform=TRANSFORMS[transform])
        pd.testing.assert_frame_equal(found, whole.loc[part.index], rtol=1e-10)


def test_transformed_responses_of_other_families(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("count ~ x + (1 | g)", table, family="poisson")
    found = fit.predict(table, kind="response", transform=np.sqrt, draws=True)
    np.testing.assert_allclose(found**2, fit.predict(table, kind="response", draws=True), rtol=1e-12)
    with pytest.raises(hp.FitError, match="the mean of a transformed poisson response has no simple form"):
        fit.predict(table, transform=np.sqrt)


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[Fit, pd.DataFrame], Any], str]] = {
    "kind": (lambda f, t: f.predict(kind="median"), "kind is 'mean', 'linear' or 'response', not 'median'"),
    "new_groups": (lambda f, t: f.predict(t, new_groups="zero"), "'sample', 'population' or 'error', not 'zero'"),
    "prob": (lambda f, t: f.predict(prob=95), "prob"),
    "transform of a linear predictor": (
        lambda f, t: f.predict(kind="linear", transform=np.exp), "transform= applies to the response"
    ),
    "transform to NaN": (
        lambda f, t: f.predict(transform=lambda y: np.log(y - 1e6)), "one finite number for each response, as np.exp"
    ),
    "transform to infinity": (lambda f, t: f.predict(transform=lambda y: np.exp(1e6 * y)), "one finite number"),
    "transform to one number": (lambda f, t: f.predict(kind="response", transform=np.mean), "one finite number"),
    "a column": (lambda f, t: f.predict(t.drop(columns="x")), "the table has no column 'x'; the columns are: g, u"),
    "a factor's column": (lambda f, t: f.predict(t.drop(columns="g")), "the table has no column 'g'"),
    "a level": (
        lambda f, t: f.predict(t.assign(h="s")), "h has levels that the fit has not seen: s; it knows p, q, r"
    ),
    "text for a number": (lambda f, t: f.predict(t.assign(x="1")), "x"),
    "an infinite number": (lambda f, t: f.predict(t.assign(x=np.inf)), "the column 'x' is infinite in 60 of 60 rows"),
    "log of a negative number": (lambda f, t: f.predict(t.assign(z=-1.0)), r"log\(z\) gives NaN in 60 of 60 rows"),
    "no table": (lambda f, t: f.predict(3), "data is of type int"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_would_work(case: str, readable: Readable, table: pd.DataFrame) -> None:
    ask, message = ERRORS[case]
    with pytest.raises(hp.HierpanelError, match=message):
        ask(readable("y ~ x + h + log(z) + (1 | g)", table), table)


def test_trials_are_asked_for_where_they_are_needed(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("prop(wins, size) ~ x + (1 | g)", table, family="binomial")
    rows = table[["x", "g"]]
    for kind in ("mean", "response"):
        with pytest.raises(hp.DataError, match="the table has no column 'size'"):
            fit.predict(rows, kind=kind)
    pd.testing.assert_frame_equal(fit.predict(rows, kind="linear"), fit.predict(kind="linear"), rtol=1e-10)


# response → trials of each row
TRIALS_OF: dict[str, Callable[[pd.DataFrame], Any]] = {
    "prop(wins, size)": lambda t: t["size"],
    "prop(wins, 6)": lambda t: 6,
    "prop(wins, most)": lambda t: 6,
    "prop(wins, size + 1)": lambda t: t["size"] + 1,
    "prop(wins, wins + size)": lambda t: t["wins"] + t["size"],
    "proportion(wins, size)": lambda t: t["size"],
}


@pytest.mark.parametrize("response", TRIALS_OF)
def test_trials_may_be_any_expression(response: str, readable: Readable, table: pd.DataFrame) -> None:
    """Whatever the model takes, other rows take."""
    try:
        fit = readable(f"{response} ~ x + (1 | g)", table, family="binomial", env={"most": 6})
    except hp.HierpanelError:
        return
    np.testing.assert_allclose(fit.design.trials, np.broadcast_to(TRIALS_OF[response](table), len(table)))
    pd.testing.assert_frame_equal(fit.predict(table), fit.predict(), rtol=1e-10)


@pytest.mark.parametrize("bad", [-1.0, 2.5, 0.0])
def test_trials_and_weights_that_cannot_be_are_told(bad: float, readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("prop(wins, size) ~ x + (1 | g)", table, family="binomial")
    with pytest.raises(hp.DataError):
        fit.predict(table.assign(size=bad), kind="response")
    if bad <= 0:
        weighted = readable("y ~ x + (1 | g)", table, weights="w")
        with pytest.raises(hp.DataError, match="weights"):
            weighted.predict(table.assign(w=bad), kind="response")


def test_a_fit_without_its_table_predicts_its_own_rows_alone(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | g)", table, chains=1, draws=4)
    assert len(fit.predict()) == 60
    with pytest.raises(hp.FitError, match="does not hold the table that it was read from"):
        fit.predict(table)


# --- from a file ------------------------------------------------------------------------------------------------------


def unit(values: Any) -> Callable[[pd.Series], Any]:
    """A column with one value for each of the six units."""
    return lambda u: pd.Series(np.array(list(values), dtype=object)[u - 8])


SIX = range(6)
HOLE = 3
# kind of a column → its values, from the column u of units
COLUMNS: dict[str, Callable[[pd.Series], Any]] = {
    "int64": lambda u: u,
    "uint8": lambda u: u.astype("uint8"),
    "float64": lambda u: u / 3,
    "float64 with NaN": lambda u: (u / 3).where(u.index != HOLE),
    "float32": lambda u: (u / 3).astype("float32"),
    "big": lambda u: u + 2**60,
    "bool": lambda u: u > 10,
    "text": lambda u: u.map(dict(zip(range(8, 14), ["a", "", " ", "é:b", "nan", "None"], strict=True))),
    "text with None": lambda u: u.astype(str).astype(object).where(u.index != HOLE, None),
    "category": lambda u: pd.Categorical(u.astype(str), categories=["9", "8", "13", "12", "10", "11", "unused"]),
    "ordered": lambda u: pd.Categorical(u.astype(str), categories=["9", "8", "13", "12", "10", "11"], ordered=True),
    "category with NaN": lambda u: pd.Categorical(u.astype(str).where(u.index != HOLE)),
    "category of numbers": lambda u: pd.Categorical(u, categories=[13, 12, 8, 9, 10, 11]),
    "category of truth values": lambda u: pd.Categorical(u > 10),
    "category of times": lambda u: pd.Categorical(DAYS),
    "category of intervals": lambda u: pd.cut(u, [0, 8, 9, 10, 20]),
    "Int64": lambda u: u.astype("Int64"),
    "big Int64 with NA": lambda u: (u.astype("Int64") + 2**60).where(u.index != HOLE),
    "Int64 with NA": lambda u: u.astype("Int64").where(u.index != HOLE),
    "Float64 with NA": lambda u: (u / 3).astype("Float64").where(u.index != HOLE),
    "boolean with NA": lambda u: (u > 10).astype("boolean").where(u.index != HOLE),
    "string with NA": lambda u: u.astype(str).astype("string").where(u.index != HOLE),
    "arrow numbers": lambda u: u.astype("int64[pyarrow]").where(u.index != HOLE),
    "days": lambda u: DAYS,
    "days with NaT": lambda u: pd.Series(DAYS).where(u.index != HOLE),
    "hours": lambda u: HOURS,
    "hours in Berlin": lambda u: HOURS.tz_localize("Europe/Berlin"),
    "hours at the end of summer time": lambda u: (
        (HOURS - HOURS[0] + pd.Timestamp("2020-10-24 22:00")).tz_localize("UTC").tz_convert("Europe/Berlin")
    ),
    "hours of an offset": lambda u: HOURS.tz_localize("+05:30"),
    "quarters": lambda u: pd.period_range("2020Q1", periods=6, freq="Q")[u - 8],
    "periods of two months with NaT": lambda u: pd.Series(
        pd.period_range("2020-01", periods=6, freq="2M")[u - 8]
    ).where(u.index != HOLE),
    "durations": lambda u: pd.to_timedelta(u, unit="D"),
    "intervals": lambda u: pd.arrays.IntervalArray.from_breaks(range(8, 15))[u - 8],
    "date objects": unit([datetime.date(2020, 1, 1 + k) for k in SIX]),
    "date objects with None": lambda u: unit([datetime.date(2020, 1, 1 + k) for k in SIX])(u).where(
        u.index != HOLE, None
    ),
    "hour objects": lambda u: pd.Series(list(HOURS), dtype=object),
    "datetime objects": unit([datetime.datetime(2020, 1, 1 + k) for k in SIX]),
    "int objects": unit([8, 9, 10, 11, 12, 13]),
    "float objects": unit([8.5, 9.5, 10.5, 11.5, 12.5, 13.5]),
    "truth values and None": lambda u: (u > 10).astype(object).where(u.index != HOLE, None),
    "decimals": unit([decimal.Decimal(k + 8) for k in SIX]),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_units_that_were_stored_are_the_same(column: str, readable: Readable, table: pd.DataFrame) -> None:
    """As a factor, and as a part of one, whose labels are text."""
    data = table.assign(k=COLUMNS[column](table["u"]))
    check_same(readable("y ~ x + (1 + x | k) + (1 | k:h)", data), [data.iloc[::-2], data.iloc[[20]]])


@pytest.mark.parametrize("column", COLUMNS)
def test_regressors_that_were_stored_are_the_same(column: str, readable: Readable, table: pd.DataFrame) -> None:
    data = table.assign(k=COLUMNS[column](table["u"]))
    try:
        fit = readable("y ~ x + k + (1 | h)", data)
    except hp.DataError:  # dates are no regressors
        return
    check_same(fit, [data.iloc[::-2], data.iloc[[20]]])


def check_same(fit: Fit, tables: list[Any], folder: Path | None = None, **options: Any) -> None:
    """Unpickled, and stored in a file (or in what a file would hold: files are slow), it gives the last digit."""
    if folder is None:
        dataset, record = stored_table.to_dataset(fit.source)
        stored = replace(fit, source=stored_table.from_dataset(dataset, json.loads(json.dumps(record))), coder=None)
    else:
        fit.save(folder / "fit.nc")
        stored = hp.load(folder / "fit.nc")
    for other in (pickle.loads(pickle.dumps(fit)), stored):
        for levels, group in zip(other.coding.levels, other.design.groups, strict=True):
            assert list(levels) == list(group.levels)  # effects go by a level's place
        for rows in tables:
            found, wanted = other.predict(rows, **options), fit.predict(rows, **options)
            pd.testing.assert_frame_equal(found, wanted, check_exact=True)
        pd.testing.assert_frame_equal(other.predict(), fit.predict(), check_exact=True)


# Those in which columns are coded by what the rows of the fit were.
REMEMBERING = (
    "splines", "polynomials", "scaled", "contrasts", "interactions", "powers and truth values", "weights", "trials",
    "lags", "unit means", "a dynamic panel",
)  # fmt: skip
STORED: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: MODELS[name] for name in REMEMBERING},
    "an array of weights": ("y ~ scale(x) + (1 | g)", {"weights": np.linspace(1, 2, 60)}),
    "means by another column": ("y ~ within(x, by=h) + between(x, by=h) + (1 | h)", {}),
    "weighted unit means": ("y ~ mundlak(x) + (1 | g)", {"panel": PANEL, "weights": "w"}),
}
# Those that go through a real file.
FILES = ("contrasts", "a dynamic panel", "weighted unit means", "an array of weights", "trials")


@pytest.mark.parametrize("model", STORED)
def test_models_that_were_stored_predict_the_same(
    model: str, readable: Readable, table: pd.DataFrame, tmp_path: Path
) -> None:
    formula, options = STORED[model]
    data = table.assign(x=table["x"].where(table.index != 13)) if "array" not in model else table
    fit = readable(formula, data, **options)
    kind = "mean" if "array" in model else "response"  # which needs weights of the new rows
    check_same(fit, [data.iloc[24:4:-1]], tmp_path if model in FILES else None, kind=kind)


@pytest.mark.parametrize(
    ("weights", "remedy"), [("w", "the weights 'w', which the table does not have"), (None, "array")]
)
def test_residuals_of_new_rows_need_their_weights(
    weights: str | None, remedy: str, readable: Readable, table: pd.DataFrame
) -> None:
    given = weights if weights is not None else table["w"].to_numpy()
    fit = readable("y ~ x + (1 | g)", table, weights=given, chains=2, draws=10)
    rows = table.drop(columns="w")
    pd.testing.assert_frame_equal(fit.predict(rows), fit.predict())
    for options in ({"kind": "response"}, {"transform": np.exp}, {"kind": "response", "draws": True}):
        with pytest.raises(hp.DataError, match=remedy):
            fit.predict(rows, **options)
        if weights is not None:
            assert np.isfinite(fit.predict(rows.assign(w=1), **options).to_numpy()).all()
    assert fit.predict(kind="response")["sd"].notna().all()


def test_trials_that_are_no_numbers_are_named(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("prop(wins, size) ~ x + (1 | g)", table, family="binomial", chains=1, draws=4)
    with pytest.raises(hp.DataError, match="the number of trials size is no number in these rows"):
        fit.predict(table.assign(size="a"))


@pytest.mark.parametrize("transform", ["exp", 3, math.exp])
def test_a_transform_that_is_no_function_of_arrays_is_refused(
    transform: Any, readable: Readable, table: pd.DataFrame
) -> None:
    fit = readable("y ~ x + (1 | g)", table, chains=1, draws=4)
    with pytest.raises(hp.FitError, match=r"function of an array, such as np\.exp|does not take an array of responses"):
        fit.predict(transform=transform)


PLAIN = [
    "uint8", "text with None", "category", "category of times", "Int64", "boolean with NA", "hours of an offset",
    "periods of two months with NaT", "date objects with None",
]  # fmt: skip


def test_columns_of_many_types_from_one_file(readable: Readable, table: pd.DataFrame, tmp_path: Path) -> None:
    columns = {f"k{number}": COLUMNS[name](table["u"]) for number, name in enumerate(PLAIN)}
    data = table.assign(**columns)
    formula = "y ~ x + scale(k0) + " + " + ".join(f"(1 | {name})" for name in columns)
    check_same(readable(formula, data), [data.iloc[::-2], data.iloc[[20]]], tmp_path)


@pytest.mark.parametrize("step", [2, np.int64(2)])
def test_a_panel_with_a_step_that_was_stored_predicts_the_same(
    step: Any, readable: Readable, table: pd.DataFrame
) -> None:
    data = table.assign(t=2 * table["t"])
    fit = readable("y ~ lag(x) + (1 | g)", data, panel=("g", "t", step))
    check_same(fit, [data, data.iloc[[4]].assign(t=data["t"].max() + 2)])


def test_a_panel_of_an_index_from_a_file_predicts_the_same(
    readable: Readable, table: pd.DataFrame, tmp_path: Path
) -> None:
    data = table.assign(t=pd.period_range("2000", periods=10, freq="Y")[table["t"] - 2000]).set_index(["g", "t"])
    fit = readable("y ~ lag(x) + within(z) + (1 | g)", data)
    check_same(fit, [data, data.iloc[7:12]], tmp_path)


def twice(x: Any) -> Any:
    return 2 * x


def test_functions_of_the_caller_are_given_to_load(readable: Readable, table: pd.DataFrame, tmp_path: Path) -> None:
    half = 0.5
    env = {"twice": twice, "half": half}
    fit = readable("y ~ twice(x) + I(z + half) + np.log(z) + (twice(x) | g)", table, env=env)
    fit.save(tmp_path / "fit.nc")
    loaded = hp.load(tmp_path / "fit.nc", env=env)
    pd.testing.assert_frame_equal(loaded.predict(table), fit.predict(table), check_exact=True)
    without = hp.load(tmp_path / "fit.nc")
    pd.testing.assert_frame_equal(without.predict(), fit.predict(), check_exact=True)  # its own rows need none
    for given in (None, {"twice": twice}):
        with pytest.raises(hp.FitError, match=r"give it to hp\.load\(path, env=\.\.\.\)"):
            hp.load(tmp_path / "fit.nc", env=given).predict(table)


def test_functions_of_the_caller_go_into_a_pickle_where_they_can(
    readable: Readable, table: pd.DataFrame, tmp_path: Path
) -> None:
    """`pickle.loads` takes no env=. A function without a name of its own is no reason why a fit should not pickle."""
    fit = readable("y ~ twice(x) + (1 | g)", table, env={"twice": np.negative})
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(fit)).predict(table), fit.predict(table))
    fit.save(tmp_path / "fit.nc")
    loaded = hp.load(tmp_path / "fit.nc", env={"twice": lambda x: -x})
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(loaded)).predict(), fit.predict())
