"""Predictions, comparisons and slopes against loops, finite differences, integrals, and marginaleffects' numbers."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import integrate, special, stats

import hierpanel as hp
from hierpanel.errors import DataError, FitError
from hierpanel.results import contrasts, predict
from hierpanel.results.expected import TYPICAL
from hierpanel.results.fit import Fit
from tests.helpers import summary, with_draws

Array = np.ndarray
Made = Callable[..., Fit]
Readable = Callable[..., Fit]

REFERENCE = json.loads((Path(__file__).parent / "reference/marginaleffects.json").read_text())
NUMBERS = ["mean", "sd", "lower", "upper"]
PANEL = ("g", "t")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Six units of ten rows: x, z > 0 and k numbers, d of 0 and 1, b of truth values, h text, o categories."""
    rng = np.random.default_rng(4)
    n = 60
    return pd.DataFrame(
        {
            "g": np.repeat(list("abcdef"), 10),
            "t": np.tile(np.arange(2000, 2010), 6),
            "x": rng.normal(0.5, 1, n),
            "z": rng.uniform(0.5, 3, n),
            "k": rng.integers(2, 9, n),
            "d": rng.integers(0, 2, n),
            "b": rng.random(n) < 0.6,
            "h": rng.choice(list("pqr"), n),
            "o": pd.Categorical(rng.choice(["low", "high"], n), categories=["low", "high"]),
            "y": rng.normal(5, 1, n),
            "hit": rng.integers(0, 2, n),
            "count": rng.poisson(3, n),
            "size": rng.integers(4, 9, n),
        }
    )


INVERSE: dict[str, Callable[[Array], Array]] = {
    "identity": lambda e: e,
    "log": np.exp,
    "logit": lambda e: 1 / (1 + np.exp(-e)),
    "probit": stats.norm.cdf,
    "cloglog": lambda e: 1 - np.exp(-np.exp(e)),
}


# A model whose linear predictor is written down here once more: y ~ x * d + h + log(z) + (1 + x | g)
FORMULA = " ~ x * d + h + log(z) + (1 + x | g)"
LINKS = {
    "gaussian": ("y", "identity"),
    "bernoulli": ("hit", "logit"),
    "bernoulli(probit)": ("hit", "probit"),
    "bernoulli(cloglog)": ("hit", "cloglog"),
    "poisson": ("count", "log"),
    "binomial": ("prop(hit, size)", "logit"),
}


def fitted(readable: Readable, table: pd.DataFrame, family: str, draws: int = 8) -> Fit:
    fit = readable(LINKS[family][0] + FORMULA, table, family=family, chains=2, draws=draws)
    rng, b = np.random.default_rng(5), fit.draws("b_g")
    beta, sd = rng.normal(0.2, 0.3, fit.draws("beta").shape), rng.uniform(0.3, 0.6, fit.draws("sd_g").shape)
    return with_draws(fit, beta=beta, b_g=0.3 * b / b.std(), sd_g=sd)


def linear(fit: Fit, rows: pd.DataFrame, own: bool = True) -> Array:
    """The linear predictor (rows, draws), a number at a time."""
    names = fit.spec.coefs
    beta = fit.draws("beta").reshape(-1, len(names))
    b = fit.draws("b_g").reshape(len(beta), -1, 2)
    found = np.empty((len(rows), len(beta)))
    for i, row in enumerate(rows.to_dict("records")):
        value = {
            "Intercept": 1.0, "x": row["x"], "d": row["d"], "x:d": row["x"] * row["d"], "log(z)": np.log(row["z"]),
            "h[q]": row["h"] == "q", "h[r]": row["h"] == "r",
        }  # fmt: skip
        for s in range(len(beta)):
            found[i, s] = sum(beta[s, names.index(name)] * value[name] for name in names)
            if own and row["g"] in "abcdef":
                unit = b[s, "abcdef".index(row["g"])]
                found[i, s] += unit[0] + unit[1] * row["x"]
    return found


def expected(fit: Fit, rows: pd.DataFrame, family: str, own: bool = True) -> Array:
    mean = INVERSE[LINKS[family][1]](linear(fit, rows, own))
    return mean * rows["size"].to_numpy()[:, None] if family == "binomial" else mean


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", LINKS)
def test_predictions_are_a_loop_over_rows_and_draws(family: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, family)
    rows = table.iloc[[3, 50, 17, 28]].assign(g=["a", "f", "new", "c"])
    rows.attrs[TYPICAL] = ("g",)
    for own, units in ((True, "own"), (False, "typical")):
        for data, given in ((table, None), (rows, rows)):
            values = expected(fit, data, family, own)
            found = hp.predictions(fit, given, units=units, prob=0.8)
            np.testing.assert_allclose(found[NUMBERS], [summary(row, 0.8) for row in values], rtol=1e-10)
            assert found.index.equals(data.index)
            assert found.columns.name == "80 % equal-tailed"
            assert found.attrs == {"interval": "equal-tailed", "prob": 0.8, "units": units}
    found = hp.predictions(fit, rows, kind="linear")
    np.testing.assert_allclose(found[NUMBERS], [summary(row) for row in linear(fit, rows)], rtol=1e-10)
    assert list(found.columns) == [*rows.columns, *NUMBERS]


BY: dict[str, Any] = {"one": "h", "two": ["d", "h"], "truth values": "b", "categories": "o", "units": "g"}


@pytest.mark.parametrize("by", BY)
def test_averages_are_over_the_rows_of_each_group(by: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "poisson")
    columns = [BY[by]] if isinstance(BY[by], str) else BY[by]
    values = expected(fit, table, "poisson")
    found = hp.predictions(fit, table, by=BY[by])
    groups = table.groupby(columns, observed=True).indices
    assert list(found.columns) == [*columns, *NUMBERS]
    assert len(found) == len(groups)
    for _, row in found.iterrows():
        key = tuple(row[columns]) if len(columns) > 1 else row[columns[0]]
        np.testing.assert_allclose(row[NUMBERS].astype(float), summary(values[groups[key]].mean(axis=0)))
    keys = [tuple(key) for key in found[columns].to_numpy()]
    assert keys == [key if isinstance(key, tuple) else (key,) for key in sorted(groups, key=_order(table, columns))]


def _order(table: pd.DataFrame, columns: list[str]) -> Callable[[Any], Any]:
    """Groups stand in the order of their values, categories in their own order."""

    def of(key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        return tuple(
            list(table[name].cat.categories).index(k) if name == "o" else k
            for name, k in zip(columns, key, strict=True)
        )

    return of


def test_an_average_over_all_rows(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "bernoulli")
    found = hp.predictions(fit, by=True)
    np.testing.assert_allclose(found[NUMBERS], [summary(expected(fit, table, "bernoulli").mean(axis=0))])
    assert list(found.columns) == NUMBERS
    pd.testing.assert_frame_equal(hp.predictions(fit, by=False), hp.predictions(fit))


def test_rows_with_something_missing_are_left_out(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "poisson")
    holes = table.assign(x=table["x"].where(table.index != 4), g=table["g"].where(table.index != 31))
    left = table.drop(index=[4, 31])
    for work in (
        lambda rows: hp.predictions(fit, rows)[NUMBERS],
        lambda rows: hp.predictions(fit, rows, by="h"),
        lambda rows: hp.comparisons(fit, "h", rows, by="d"),
        lambda rows: hp.slopes(fit, "z", rows),
    ):
        with pytest.warns(UserWarning, match="2 of 60 rows, in which something is missing, are left out"):
            found = work(holes)
        pd.testing.assert_frame_equal(found, work(left))


@pytest.mark.parametrize("chunk", [1, 37, 200])
def test_rows_may_come_a_few_at_a_time(
    chunk: int, readable: Readable, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fitted(readable, table, "bernoulli")

    def everything() -> list[pd.DataFrame]:
        return [
            hp.predictions(fit, by="h"),
            hp.predictions(fit, units="average"),
            hp.comparisons(fit, ["x", "h"], comparison="ratioavg", by="d"),
            hp.comparisons(fit, "x", by=None),
            hp.slopes(fit, ["x", "z"], slope="eyex"),
        ]

    whole = everything()
    monkeypatch.setattr(predict, "CHUNK", chunk)
    for found, wanted in zip(everything(), whole, strict=True):
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-10)


def test_other_tables_are_read_too(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "gaussian")
    rows = table[["g", "x", "d", "h", "z"]].iloc[4:9].reset_index(drop=True)
    wanted = hp.comparisons(fit, "d", rows, by="h")
    for other in (pl.from_pandas(rows), rows.to_dict("list")):
        pd.testing.assert_frame_equal(hp.comparisons(fit, "d", other, by="h"), wanted)
        np.testing.assert_array_equal(hp.predictions(fit, other)[NUMBERS], hp.predictions(fit, rows)[NUMBERS])


# --- units ------------------------------------------------------------------------------------------------------------


def one_point(readable: Readable, table: pd.DataFrame, formula: str, family: str, **values: Any) -> Fit:
    return with_draws(readable(formula, table, family=family, chains=1, draws=1), **values)


CROSSED = "hit ~ x + (1 + x | g) + (1 | h)"
SDS = {"sd_g": [0.8, 0.5], "cor_g": [[1.0, -0.4], [-0.4, 1.0]], "sd_h": [0.6]}


def spread(x: Array) -> Array:
    """The sd over units of the linear predictor of `CROSSED`."""
    return np.sqrt(0.8**2 + 2 * x * -0.4 * 0.8 * 0.5 + (0.5 * x) ** 2 + 0.6**2)


@pytest.mark.parametrize("family", ["bernoulli", "bernoulli(probit)", "bernoulli(cloglog)", "poisson"])
def test_average_units_are_an_integral_over_their_effects(family: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = one_point(readable, table, CROSSED, family, beta=[-0.3, 0.7], **SDS)
    found = hp.predictions(fit, units="average")["mean"].to_numpy()
    inverse, x = INVERSE[fit.spec.family.link.name], table["x"].to_numpy()
    for k in (0, 7, 33):
        eta, s = -0.3 + 0.7 * x[k], spread(x[k])
        whole = integrate.quad(lambda u: inverse(eta + s * u) * stats.norm.pdf(u), -12, 12, epsabs=1e-12)[0]  # noqa: B023
        # 24 nodes are good to this at an sd of 1
        np.testing.assert_allclose(found[k], whole, rtol=3e-6)
    eta = -0.3 + 0.7 * x
    closed = {"probit": special.ndtr(eta / np.sqrt(1 + spread(x) ** 2)), "log": np.exp(eta + spread(x) ** 2 / 2)}
    if fit.spec.family.link.name in closed:
        np.testing.assert_allclose(found, closed[fit.spec.family.link.name], rtol=1e-6)


def test_average_units_are_a_mean_over_many_drawn_units(readable: Readable, table: pd.DataFrame) -> None:
    fit = one_point(readable, table, CROSSED, "bernoulli", beta=[-0.3, 0.7], **SDS)
    rng = np.random.default_rng(1)
    Sigma = np.outer(SDS["sd_g"], SDS["sd_g"]) * np.array(SDS["cor_g"])
    b, c = rng.multivariate_normal([0, 0], Sigma, 200_000), 0.6 * rng.standard_normal(200_000)
    rows = table.iloc[:4]
    found = hp.predictions(fit, rows, units="average")["mean"]
    for x, mean in zip(rows["x"], found, strict=True):
        drawn = INVERSE["logit"](-0.3 + 0.7 * x + b[:, 0] + b[:, 1] * x + c)
        assert abs(mean - drawn.mean()) < 5 * drawn.std() / np.sqrt(len(drawn))


@pytest.mark.parametrize("sd", [0.1, 1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("family", ["bernoulli", "bernoulli(probit)"])
def test_average_units_of_any_spread(family: str, sd: float, readable: Readable, table: pd.DataFrame) -> None:
    """A spread of several logits is what a posterior of few units, or of near-perfect prediction, holds."""
    fit = one_point(readable, table, "hit ~ x + (1 | g)", family, beta=[0.4, 0.0], sd_g=[sd])
    inverse = INVERSE[fit.spec.family.link.name]
    whole = integrate.quad(
        lambda u: inverse(0.4 + sd * u) * stats.norm.pdf(u), -12, 12, epsabs=1e-12, limit=500, points=[-0.4 / sd]
    )[0]
    assert hp.predictions(fit, by=True, units="average")["mean"][0] == pytest.approx(whole, abs=2e-5)


def test_with_an_identity_link_average_and_typical_units_are_the_same(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "gaussian")
    typical, average = (hp.predictions(fit, units=units)[NUMBERS] for units in ("typical", "average"))
    pd.testing.assert_frame_equal(typical, average)


def test_trials_multiply_the_average_over_units(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "binomial")
    once = hp.predictions(fit, table.assign(size=1), units="average")["mean"]
    many = hp.predictions(fit, table, units="average")["mean"]
    np.testing.assert_allclose(many, once * table["size"])


@pytest.mark.parametrize("units", ["typical", "average"])
def test_units_that_are_new_are_never_taken_for_typical_ones_unasked(
    units: str, readable: Readable, table: pd.DataFrame
) -> None:
    fit = fitted(readable, table, "poisson")
    new = table.assign(g=table["g"].where(table.index > 3, "new"))
    for work in (hp.predictions, partial(hp.comparisons, variables="x"), partial(hp.slopes, variables="x")):
        with pytest.raises(DataError, match=r"g has 1 level \(new\) that the fit has not seen; units='typical'"):
            work(fit, data=new)
        pd.testing.assert_frame_equal(work(fit, data=new, units=units)[NUMBERS], work(fit, units=units)[NUMBERS])


def test_the_typical_unit_of_a_grid_is_asked_for(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "poisson")
    grid = hp.datagrid(fit, x=[0, 1])
    pd.testing.assert_frame_equal(hp.predictions(fit, grid), hp.predictions(fit, grid, units="typical"))
    with pytest.raises(DataError, match="that the fit has not seen"):
        hp.predictions(fit, hp.datagrid(fit, g=["a", "typo"]))


def test_varying_slopes_beside_fixed_effects_are_averaged_too(readable: Readable, table: pd.DataFrame) -> None:
    """`fe(g)` says nothing of other units' intercepts, but (0 + x | g) has a distribution of slopes."""
    fit = one_point(readable, table, "hit ~ x + fe(g) + (0 + x | g)", "bernoulli", beta=[0.2, 0.5], sd_g=[10.0, 0.9])
    row = table.iloc[:1].assign(x=2.0)
    whole = integrate.quad(lambda u: INVERSE["logit"](0.2 + 2 * (0.5 + 0.9 * u)) * stats.norm.pdf(u), -12, 12)[0]
    found = hp.predictions(fit, row, units="average")["mean"]
    np.testing.assert_allclose(found, whole, rtol=1e-4)


# --- comparisons ------------------------------------------------------------------------------------------------------

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "difference": lambda high, low: high - low,
    "ratio": lambda high, low: high / low,
    "lnratio": lambda high, low: np.log(high) - np.log(low),
    "lift": lambda high, low: high / low - 1,
    "lnor": lambda high, low: special.logit(high) - special.logit(low),
}


@pytest.mark.parametrize("units", ["own", "typical"])
@pytest.mark.parametrize("word", COMPARISONS)
def test_comparisons_are_of_predictions_at_two_values(
    word: str, units: str, readable: Readable, table: pd.DataFrame
) -> None:
    fit = fitted(readable, table, "bernoulli")
    high, low = (expected(fit, table.assign(x=table["x"] + step), "bernoulli", units == "own") for step in (1, 0))
    of_rows, of_averages = COMPARISONS[word](high, low), COMPARISONS[word](high.mean(axis=0), low.mean(axis=0))
    found = hp.comparisons(fit, "x", comparison=word, by=None, units=units)
    np.testing.assert_allclose(found[NUMBERS], [summary(row) for row in of_rows], rtol=1e-9)
    np.testing.assert_allclose(found["p_pos"], (of_rows > 0).mean(axis=1))
    found = hp.comparisons(fit, "x", comparison=word, units=units)
    np.testing.assert_allclose(found[NUMBERS], [summary(of_averages)], rtol=1e-9)
    assert list(found.columns) == ["term", "contrast", *NUMBERS, "p_pos"]
    assert found[["term", "contrast"]].to_numpy().tolist() == [["x", "+1"]]
    found = hp.comparisons(fit, "x", comparison=f"{word}avg", units=units)
    np.testing.assert_allclose(found[NUMBERS], [summary(of_averages)], rtol=1e-9)
    mine = hp.comparisons(fit, "x", comparison=COMPARISONS[word], by=None, units=units)
    np.testing.assert_allclose(mine[NUMBERS], [summary(row) for row in of_rows], rtol=1e-9)
    mine = hp.comparisons(fit, "x", comparison=COMPARISONS[word], units=units)
    np.testing.assert_allclose(mine[NUMBERS], [summary(of_rows.mean(axis=0))], rtol=1e-9)


@pytest.mark.parametrize("word", ["ratioavg", "lnratioavg", "liftavg"])
def test_comparisons_of_averages_by_group(word: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "poisson")
    high, low = (expected(fit, table.assign(d=d), "poisson") for d in (1, 0))
    found = hp.comparisons(fit, "d", comparison=word, by="h")
    for level, row in found.set_index("h").iterrows():
        at = (table["h"] == level).to_numpy()
        wanted = summary(COMPARISONS[word.removesuffix("avg")](high[at].mean(axis=0), low[at].mean(axis=0)))
        np.testing.assert_allclose(row[NUMBERS].astype(float), wanted, rtol=1e-10)


ALL = "y ~ x + I(x**2) + k + d + b + C(k) : z + h + o + (1 | g)"
# column, how it changes → label, function of the table that gives (low, high)
SPECS: dict[str, tuple[str, Any, str, Callable[[pd.Series], tuple[Any, Any]]]] = {
    "one up": ("x", None, "+1", lambda x: (x, x + 1)),
    "a step": ("x", 2.5, "+2.5", lambda x: (x, x + 2.5)),
    "a step down": ("x", -1, "+-1", lambda x: (x, x - 1)),
    "two values": ("x", [0, 2], "2 - 0", lambda x: (0, 2)),
    "a pair": ("x", (2, 0), "0 - 2", lambda x: (2, 0)),
    "sd": ("x", "sd", "(x + sd/2) - (x - sd/2)", lambda x: (x - x.std() / 2, x + x.std() / 2)),
    "minmax": ("x", "minmax", "max - min", lambda x: (x.min(), x.max())),
    "iqr": ("x", "iqr", "Q3 - Q1", lambda x: (x.quantile(0.25), x.quantile(0.75))),
    "0 and 1": ("d", None, "1 - 0", lambda x: (0, 1)),
    "truth values": ("b", None, "True - False", lambda x: (False, True)),
    "whole numbers": ("k", "minmax", "8 - 2", lambda x: (2, 8)),
    "text": ("h", ["r", "q"], "q - r", lambda x: ("r", "q")),
    "categories": ("o", None, "high - low", lambda x: ("low", "high")),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_column_changes_as_said(case: str, readable: Readable, table: pd.DataFrame) -> None:
    name, spec, label, ends = SPECS[case]
    fit = readable(ALL, table, chains=2, draws=10)
    low, high = (fit.predict(table.assign(**{name: v}), draws=True).to_numpy() for v in ends(table[name]))
    found = hp.comparisons(fit, name if spec is None else {name: spec}, by=None)
    wanted = [summary((high - low)[:, :, i]) for i in range(len(table))]
    np.testing.assert_allclose(found[NUMBERS], wanted, rtol=1e-8, atol=1e-10)
    if case != "whole numbers":  # written "max - min"
        assert set(found["contrast"]) == {label}
    assert set(found["term"]) == {name}
    assert found.index.equals(table.index)


def test_every_level_is_compared_with_the_first(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "bernoulli")
    found = hp.comparisons(fit, "h")
    assert found["contrast"].tolist() == ["q - p", "r - p"]
    p, q, r = (expected(fit, table.assign(h=level), "bernoulli") for level in "pqr")
    np.testing.assert_allclose(found[NUMBERS], [summary((v - p).mean(axis=0)) for v in (q, r)], rtol=1e-10)


def test_several_columns_stand_below_each_other(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "poisson")
    found = hp.comparisons(fit, {"x": "sd", "h": None, "d": None}, by="d")
    assert found["term"].tolist() == ["x", "x", "h", "h", "h", "h", "d", "d"]
    assert found["d"].tolist() == [0, 1] * 4
    assert found.index.tolist() == list(range(8))
    for name in ("x", "h", "d"):
        alone = hp.comparisons(fit, {"x": "sd"} if name == "x" else name, by="d")
        pd.testing.assert_frame_equal(found[found["term"] == name].reset_index(drop=True), alone)


def test_effects_of_units_stay_those_of_the_row(readable: Readable, table: pd.DataFrame) -> None:
    """With own units the slope of x is that of the row's unit."""
    fit = readable("y ~ x + (1 + x | g)", table, chains=2, draws=10)
    slope = fit.draws("beta")[..., 1, None] + fit.draws("b_g")[..., 1]
    found = hp.comparisons(fit, "x", by="g").set_index("g")
    for k, unit in enumerate("abcdef"):
        np.testing.assert_allclose(found.loc[unit, NUMBERS].astype(float), summary(slope[..., k]))
    found = hp.comparisons(fit, "x", units="typical")
    np.testing.assert_allclose(found[NUMBERS], [summary(fit.draws("beta")[..., 1])])


# --- words of a panel -------------------------------------------------------------------------------------------------

# formula → how much the linear predictor moves when x goes up by 1 in the row, in terms of the coefficients
WORDS: dict[str, list[str]] = {
    "y ~ x + lag(x) + (1 | g)": ["x"],
    "y ~ diff(x) + (1 | g)": ["diff(x)"],
    "y ~ within(x) + between(x) + (1 | g)": ["within(x)"],
    "y ~ mundlak(x) + lag(x, 2) + (1 | g)": ["within(x)"],
    "y ~ lag(y) + initial(y) + x + (1 | g)": ["x"],
}


@pytest.mark.filterwarnings("ignore:.*in which something is missing")
@pytest.mark.parametrize("formula", WORDS)
def test_lags_and_unit_means_keep_their_values(formula: str, readable: Readable, table: pd.DataFrame) -> None:
    fit = readable(formula, table, panel=PANEL, chains=2, draws=10)
    moved = sum((fit.draws("beta")[..., fit.spec.coefs.index(name)] for name in WORDS[formula]), np.zeros((2, 10)))
    for rows in (None, table.iloc[20:30], table.sample(frac=1, random_state=1)):
        found = hp.comparisons(fit, "x", rows, by=None)
        assert len(found) > 5
        np.testing.assert_allclose(found[NUMBERS], [summary(moved)] * len(found), rtol=1e-8, atol=1e-12)
        slopes = hp.slopes(fit, "x", rows, by=None)
        np.testing.assert_allclose(slopes[NUMBERS], [summary(moved)] * len(slopes), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "formula", ["y ~ lag(x) + (1 | g)", "y ~ lead(x, 2) + d", "y ~ between(x) + d", "y ~ initial(x)"]
)
def test_a_regressor_whose_own_value_moves_nothing_is_refused(
    formula: str, readable: Readable, table: pd.DataFrame
) -> None:
    """An effect of exactly 0 would look like a finding."""
    fit = readable(formula.replace("initial(x)", "lag(y) + initial(y)"), table, panel=PANEL, chains=1, draws=4)
    name = "y" if "initial" in formula else "x"
    for ask in (hp.comparisons, hp.slopes):
        with pytest.raises(
            FitError, match=f"{name} enters this model by lags, leads, unit means or first outcomes alone"
        ):
            ask(fit, name)


def test_a_whole_column_that_is_set_does_not_move_lags_of_other_rows(readable: Readable, table: pd.DataFrame) -> None:
    """With [low, high] every row's x is the same, and still its lag is what it was."""
    fit = readable("y ~ x + lag(x) + (1 | g)", table, panel=PANEL, chains=2, draws=10)
    found = hp.comparisons(fit, {"x": [-1, 3]}, by=None)
    np.testing.assert_allclose(found[NUMBERS], [summary(4 * fit.draws("beta")[..., 1])] * 54, rtol=1e-8)


# --- slopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", ["own", "typical", "average"])
@pytest.mark.parametrize("family", ["gaussian", "bernoulli", "bernoulli(probit)", "poisson", "binomial"])
def test_slopes_are_derivatives(family: str, units: str, readable: Readable, table: pd.DataFrame) -> None:
    """Against a wider difference of fourth order, of predictions."""
    fit = fitted(readable, table, family, draws=4)

    def at(step: float) -> Array:
        moved = table.assign(x=table["x"] + step)
        if units != "average":
            return expected(fit, moved, family, units == "own")
        return average(fit, moved, family)

    h = 0.01
    slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    x, y = table["x"].to_numpy()[:, None], at(0.0)
    wanted = {"dydx": slope, "eyex": slope * x / y, "eydx": slope / y, "dyex": slope * x}
    for word, values in wanted.items():
        found = hp.slopes(fit, "x", slope=word, by=None, units=units)
        np.testing.assert_allclose(found[NUMBERS], [summary(row) for row in values], rtol=2e-6, atol=1e-7)
        found = hp.slopes(fit, "x", slope=word, by="h", units=units)
        groups = [values[(table["h"] == level).to_numpy()].mean(axis=0) for level in "pqr"]
        np.testing.assert_allclose(found[NUMBERS], [summary(row) for row in groups], rtol=2e-6, atol=1e-7)
        assert found["contrast"].tolist() == [word] * 3
        assert found["h"].tolist() == list("pqr")


def average(fit: Fit, rows: pd.DataFrame, family: str) -> Array:
    """The mean over units by a sum over a fine grid of standard normal values."""
    eta = linear(fit, rows, own=False)
    sd, cor = fit.draws("sd_g").reshape(-1, 2), fit.draws("cor_g").reshape(-1, 2, 2)[:, 0, 1]
    x = rows["x"].to_numpy()[:, None]
    s = np.sqrt(sd[:, 0] ** 2 + 2 * x * cor * sd[:, 0] * sd[:, 1] + (x * sd[:, 1]) ** 2)
    u = np.linspace(-8, 8, 401)
    mass = stats.norm.pdf(u) / stats.norm.pdf(u).sum()
    inverse = INVERSE[LINKS[family][1]]
    mean = sum(m * inverse(eta + s * node) for node, m in zip(u, mass, strict=True))
    return mean * rows["size"].to_numpy()[:, None] if family == "binomial" else np.asarray(mean)


def test_elasticities_of_log_log_models_are_coefficients(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("count ~ log(z) + x + (1 | g)", table, family="poisson", chains=2, draws=10)
    beta = fit.draws("beta")
    for word, name, column in (("eyex", "z", "log(z)"), ("eydx", "x", "x")):
        found = hp.slopes(fit, name, slope=word, by=None)
        wanted = summary(beta[..., fit.spec.coefs.index(column)])
        np.testing.assert_allclose(found[NUMBERS], [wanted] * len(table), rtol=1e-6)
    logs = readable("np.log(y) ~ np.log(z) + (1 | g)", table, chains=2, draws=10)
    found = hp.slopes(logs, "z", slope="dyex")  # d log(y) / d log(z)
    np.testing.assert_allclose(found[NUMBERS], [summary(logs.draws("beta")[..., 1])], rtol=1e-6)


def test_slopes_of_columns_far_from_0_keep_their_digits(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ t + I((t - 2000)**2) + (1 | g)", table, chains=2, draws=10)
    beta, t = fit.draws("beta"), table["t"].to_numpy()
    wanted = [summary(beta[..., 1] + 2 * (year - 2000) * beta[..., 2]) for year in t]
    np.testing.assert_allclose(hp.slopes(fit, "t", by=None)[NUMBERS], wanted, rtol=1e-6, atol=1e-9)


def test_slopes_of_several_columns(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "poisson")
    found = hp.slopes(fit, ["x", "z"], by="d")
    assert found["term"].tolist() == ["x", "x", "z", "z"]
    for name in ("x", "z"):
        alone = hp.slopes(fit, name, by="d")
        pd.testing.assert_frame_equal(found[found["term"] == name].reset_index(drop=True), alone)


# --- datagrid ---------------------------------------------------------------------------------------------------------


def test_a_grid_has_every_combination_the_last_one_fastest(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "gaussian")
    grid = hp.datagrid(fit, h=["r", "p"], x=[0, 1, 2])
    assert grid["h"].tolist() == ["r"] * 3 + ["p"] * 3
    assert grid["x"].tolist() == [0, 1, 2] * 2
    assert sorted(grid.columns) == ["d", "g", "h", "x", "z"]
    assert set(grid["z"]) == {table["z"].mean()}


def test_other_columns_stand_at_typical_values(readable: Readable, table: pd.DataFrame) -> None:
    date = pd.Timestamp("2020-01-01") + pd.to_timedelta(table["t"] - 2000, unit="D")
    data = table.assign(
        date=date, month=pd.PeriodIndex(date, freq="D"), n=pd.array(table["k"], dtype="Int64"),
        f=pd.array(table["b"], dtype="boolean"), unit=np.repeat(np.arange(100, 106), 10),
    )  # fmt: skip
    formula = "y ~ x + k + d + b + h + o + n : f + (1 | g) + (1 | unit) + (1 | date) + (1 | month)"
    fit = readable(formula, data, chains=1, draws=4)
    row = hp.datagrid(fit).iloc[0]
    assert row["x"] == pytest.approx(table["x"].mean())
    assert row["k"] == row["n"] == min(table["k"], key=lambda k: abs(k - table["k"].mean()))
    assert row["d"] == table["d"].mode()[0]
    assert [row[name] for name in "bhof"] == [table[name].mode()[0] for name in "bho"] + [table["b"].mode()[0]]
    assert row["unit"] == 106
    found = hp.predictions(fit, hp.datagrid(fit))[NUMBERS]
    typical = hp.predictions(fit, hp.datagrid(fit), units="typical")[NUMBERS]
    pd.testing.assert_frame_equal(found, typical)


def test_values_of_a_grid_are_stated_in_many_ways(readable: Readable, table: pd.DataFrame) -> None:
    fit = fitted(readable, table, "gaussian")
    grid = hp.datagrid(fit, x=np.median, h="q", d=range(2), z=np.array([1.0, 2.0]), g=pd.Series(["a", "new"]))
    assert len(grid) == 8
    assert set(grid["x"]) == {table["x"].median()}
    assert set(grid["h"]) == {"q"}
    found = hp.datagrid(fit, x=lambda x: [x.min(), x.max()])
    assert found["x"].tolist() == [table["x"].min(), table["x"].max()]
    own = hp.predictions(fit, hp.datagrid(fit, g=["a", "f"], x=0.5))
    values = expected(fit, own[["g", "x", "d", "h", "z"]], "gaussian")
    np.testing.assert_allclose(own[NUMBERS], [summary(row) for row in values], rtol=1e-10)


def test_a_nested_factor_is_typical_where_its_parts_are_not_stated(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g/h)", table, chains=1, draws=6)
    grid = hp.datagrid(fit, g="a")
    found = hp.predictions(fit, grid)[NUMBERS]
    b = fit.draws("b_g")[..., 0, 0]
    beta = fit.draws("beta")
    np.testing.assert_allclose(found, [summary(beta[..., 0] + beta[..., 1] * table["x"].mean() + b)])


def test_a_grid_of_unit_means_stands_at_the_grand_mean(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ mundlak(x) + (1 | g)", table, panel=PANEL, chains=1, draws=6)
    beta, mean = fit.draws("beta"), table["x"].mean()
    found = hp.predictions(fit, hp.datagrid(fit, x=[mean, mean + 1]))
    at = {"Intercept": 1.0, "within(x)": 0.0, "between(x)": mean}
    eta = sum(beta[..., fit.spec.coefs.index(name)] * value for name, value in at.items())
    step = beta[..., fit.spec.coefs.index("within(x)")]
    np.testing.assert_allclose(found[NUMBERS], [summary(eta), summary(eta + step)], rtol=1e-9)


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[Fit, pd.DataFrame], Any], str]] = {
    "kind": (lambda f, t: hp.predictions(f, kind="response"), "kind is 'mean' or 'linear', not 'response'"),
    "units": (lambda f, t: hp.predictions(f, units="mean"), "units is 'own', 'typical' or 'average', not 'mean'"),
    "prob": (lambda f, t: hp.predictions(f, prob=95), "prob"),
    "by": (lambda f, t: hp.predictions(f, by="firm"), "by= names 'firm', which is no column; the columns are: "),
    "a column": (lambda f, t: hp.comparisons(f, "w"), "the model has no column 'w'; its columns are: x, d, h, z, g"),
    "a comparison": (lambda f, t: hp.comparisons(f, "x", comparison="odds"), "one of 'difference', 'ratio'"),
    "averages of rows": (
        lambda f, t: hp.comparisons(f, "x", comparison="ratioavg", by=None), "needs by=True, or columns"
    ),
    "three values": (lambda f, t: hp.comparisons(f, {"x": [0, 1, 2]}), r"between two values, \[low, high\], not 3"),
    "a word": (lambda f, t: hp.comparisons(f, {"x": "range"}), "'sd', 'minmax' or 'iqr', not by 'range'"),
    "a step of text": (lambda f, t: hp.comparisons(f, {"h": 1}), r"h is no number; compare two of its levels"),
    "a truth value": (lambda f, t: hp.comparisons(f, {"x": True}), "x changes by a number"),
    "a level": (lambda f, t: hp.comparisons(f, {"h": ["p", "s"]}), "h has levels that the fit has not seen: s"),
    "a slope": (lambda f, t: hp.slopes(f, "x", slope="exey"), "slope is one of 'dydx', 'eyex', 'eydx', 'dyex'"),
    "slope of text": (lambda f, t: hp.slopes(f, "h"), r"h is no number, and has no slope; comparisons\(fit, 'h'\)"),
    "a grid's column": (lambda f, t: hp.datagrid(f, w=1), "the model has no column 'w'; its columns are: "),
    "a missing column": (lambda f, t: hp.predictions(f, t.drop(columns="z")), "the table has no column 'z'"),
    "missing everywhere": (lambda f, t: hp.predictions(f, t.assign(x=np.nan)), "in every row something is missing"),
    "no rows": (lambda f, t: hp.predictions(f, t[:0]), "the table has no rows"),
    "no fit": (lambda f, t: hp.predictions("f"), r"a fit is what hp\.fit, Model\.fit or hp\.load returns, not a str"),
    "no fit's slope": (lambda f, t: hp.slopes(hp.Model("y ~ x", t), "x"), "not a Model"),
    "no fit's grid": (lambda f, t: hp.datagrid(t), "not a DataFrame"),
    "variables": (lambda f, t: hp.comparisons(f, 5), r"variables names columns, as in .*, not 5"),
    "no variables": (lambda f, t: hp.slopes(f, None), r"variables names columns, as in .*, not None"),
    "by of a number": (lambda f, t: hp.predictions(f, by=5), "by is True, None, a column or a list of columns, not 5"),
    "a missing end": (lambda f, t: hp.comparisons(f, {"x": [np.nan, 1]}), "with x changed something is missing"),
    "a missing step": (lambda f, t: hp.comparisons(f, {"x": np.nan}), "with x changed something is missing in 60 rows"),
    "a missing level": (lambda f, t: hp.comparisons(f, {"h": ["p", None]}), "with h changed something is missing"),
    "nested ends": (lambda f, t: hp.comparisons(f, {"x": [[1, 2], [3, 4]]}), "between two single values"),
    "a function of all": (
        lambda f, t: hp.comparisons(f, "x", comparison=lambda high, low: high.mean()), "a number for each element"
    ),
    "a function to text": (
        lambda f, t: hp.comparisons(f, "x", comparison=lambda high, low: high.astype(str)), "a number for each element"
    ),
    "odds of numbers": (lambda f, t: hp.comparisons(f, "x", comparison="lnor"), "'lnor' compares odds, and family"),
    "logs of negatives": (
        lambda f, t: hp.comparisons(f, "x", comparison="lnratio", by=None),
        "comparison=lnratio, of expected responses that may be 0 or negative, is no finite number in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_would_work(case: str, readable: Readable, table: pd.DataFrame) -> None:
    ask, message = ERRORS[case]
    with pytest.raises(hp.HierpanelError, match=message):
        ask(fitted(readable, table, "gaussian"), table)


def test_a_grid_of_lags_is_refused(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + lag(x) + (1 | g)", table, panel=PANEL, chains=1, draws=4)
    with pytest.raises(hp.FitError, match=r"lag\(x\) looks at other periods, which a grid does not have"):
        hp.datagrid(fit)


def test_a_fit_without_its_table_says_so(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | g)", table, chains=1, draws=4)
    for ask in (hp.predictions, hp.datagrid, lambda f: hp.slopes(f, "x")):
        with pytest.raises(hp.FitError, match="does not hold the table that it was read from"):
            ask(fit)


# --- what surrounds a fit must not change its answers -----------------------------------------------------------------


def test_averages_are_over_the_rows_of_the_fit_alone(readable: Readable, table: pd.DataFrame) -> None:
    """A row whose outcome is missing is no row of the fit."""
    holes = table.assign(y=table["y"].where(table.index >= 20))
    fit = readable("y ~ x * d + (1 | h)", holes, chains=2, draws=10)
    assert len(hp.predictions(fit)) == fit.nobs == 40
    pd.testing.assert_frame_equal(hp.comparisons(fit, "d"), hp.comparisons(fit, "d", table.iloc[20:]))
    assert hp.datagrid(fit)["x"][0] == pytest.approx(table["x"].iloc[20:].mean())


@pytest.mark.parametrize("name", ["d", "h", "b"])
def test_a_missing_value_of_the_column_that_changes(name: str, readable: Readable, table: pd.DataFrame) -> None:
    """A row is left out where the column is missing, though both ends of the comparison are known there."""
    fit = readable("y ~ (d + h + b) * x + (1 + x | g)", table, chains=2, draws=10)
    holes = table.assign(**{name: table[name].astype(object).where(table.index != 3, None)})
    if name == "d":
        holes = holes.astype({"d": float})
    wanted = hp.comparisons(fit, name, table.drop(index=3), by=None)
    with pytest.warns(UserWarning, match="1 of 60 rows, in which"):
        found = hp.comparisons(fit, name, holes, by=None)
    pd.testing.assert_frame_equal(found[NUMBERS], wanted[NUMBERS])


def test_levels_and_spreads_are_those_of_the_fit(readable: Readable, table: pd.DataFrame) -> None:
    """At one row of a grid there is one level, and no spread."""
    fit = readable("hit ~ h * x + (1 | g)", table, family="bernoulli", chains=2, draws=10)
    grid, x = hp.datagrid(fit), table["x"]
    assert hp.comparisons(fit, "h", grid)["contrast"].tolist() == ["q - p", "r - p"]
    half = x.std() / 2
    ends = {
        "sd": [x.mean() - half, x.mean() + half],
        "minmax": [x.min(), x.max()],
        "iqr": list(x.quantile([0.25, 0.75])),
    }
    for word, low_and_high in ends.items():
        found, wanted = (hp.comparisons(fit, {"x": spec}, grid)[NUMBERS] for spec in (word, low_and_high))
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_number_that_is_1_in_the_rows_asked_for_is_no_0_or_1(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("count ~ z + (1 | g)", table, family="poisson", chains=2, draws=10)
    found = hp.comparisons(fit, "z", hp.datagrid(fit, z=1))
    assert found["contrast"].tolist() == ["+1"]


def test_categories_that_do_not_occur_are_not_compared(readable: Readable, table: pd.DataFrame) -> None:
    data = table.assign(h=pd.Categorical(table["h"], categories=list("opqr")))
    fit = readable("y ~ h + (1 | g)", data, chains=2, draws=10)
    assert hp.comparisons(fit, "h")["contrast"].tolist() == ["q - p", "r - p"]


def test_by_may_name_a_level_of_the_index(readable: Readable, table: pd.DataFrame) -> None:
    indexed = table.set_index(["g", "t"])
    fit = readable("y ~ x + lag(x) + (1 | g)", indexed, chains=2, draws=10)
    plain = readable("y ~ x + lag(x) + (1 | g)", table, panel=PANEL, chains=2, draws=10)
    pd.testing.assert_frame_equal(hp.predictions(fit, by="g"), hp.predictions(plain, by="g"))
    pd.testing.assert_frame_equal(hp.slopes(fit, "x", by=["g"]), hp.slopes(plain, "x", by=["g"]))


def test_binomial_grids_can_be_predicted(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("prop(hit, size) ~ x + h + (1 | g)", table, family="binomial", chains=2, draws=10)
    found = hp.predictions(fit, hp.datagrid(fit, h=["p", "q"]))
    assert found["h"].tolist() == ["p", "q"]
    assert len(hp.comparisons(fit, "x", hp.datagrid(fit))) == 1


def test_slopes_of_a_spline_do_not_warn_of_the_step_outside_its_knots(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ bs(x, df=5) + (1 | g)", table, chains=2, draws=10)
    assert np.isfinite(hp.slopes(fit, "x", by=None)["mean"]).all()


def test_a_typical_unit_of_fixed_effects_has_their_mean(readable: Readable, table: pd.DataFrame) -> None:
    """Without an intercept the effects of `fe()` hold the level, and 0 is no unit's; a refusal would do as well."""
    fit = readable("y ~ 0 + x + fe(g)", table, chains=2, draws=10)
    fit = with_draws(fit, b_g=5 + fit.draws("b_g"))
    wanted = fit.draws("beta")[..., 0] + fit.draws("b_g")[..., 0].mean(axis=-1)
    try:
        found = hp.predictions(fit, hp.datagrid(fit, x=1.0))
    except hp.HierpanelError:
        return
    np.testing.assert_allclose(found[NUMBERS], [summary(wanted)])


def test_steps_may_be_numbers_of_numpy(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table, chains=2, draws=10)
    for two in (np.int64(2), np.float32(2)):
        pd.testing.assert_frame_equal(hp.comparisons(fit, {"x": two}), hp.comparisons(fit, {"x": 2}))


@pytest.mark.parametrize("rows", [[7], [7, 3], list(range(60))])
def test_comparisons_of_rows_keep_their_labels(rows: list[int], readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + d + (1 | g)", table, chains=2, draws=10)
    found = hp.comparisons(fit, ["x", "d"], table.loc[rows], by=None)
    assert found.index.tolist() == rows * 2
    assert hp.slopes(fit, "x", table.loc[rows], by=None).index.tolist() == rows


def test_columns_that_have_the_name_of_a_result(readable: Readable, table: pd.DataFrame) -> None:
    """Two columns of one name would make found["mean"] a table."""
    fit = readable("y ~ mean + (1 | g)", table.rename(columns={"x": "mean"}), chains=2, draws=10)
    try:
        found = hp.predictions(fit)
    except hp.HierpanelError:
        return
    assert found.columns.is_unique


def test_other_columns_may_have_any_name(readable: Readable, table: pd.DataFrame) -> None:
    """Those that do not stand in the result."""
    fit = readable("y ~ x + h + (1 | g)", table, chains=2, draws=10)
    rows = table.assign(mean=1, term=2)
    pd.testing.assert_frame_equal(hp.predictions(fit, rows, by="h"), hp.predictions(fit, table, by="h"))
    pd.testing.assert_frame_equal(hp.comparisons(fit, "x", rows), hp.comparisons(fit, "x", table))


def test_nothing_to_compare_is_an_error(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table, chains=2, draws=10)
    for ask in (hp.comparisons, hp.slopes):
        with pytest.raises(hp.HierpanelError):
            ask(fit, [])


def test_rows_that_are_given_need_no_rows_of_the_fit(made: Made, readable: Readable, table: pd.DataFrame) -> None:
    """The message of a fit without its table is to give data=."""
    coder = readable("y ~ x + (1 | g)", table).coder
    fit = replace(made("y ~ x + (1 | g)", table), coder=coder)
    assert len(hp.predictions(fit, table)) == len(table)


def test_a_loaded_fit_gives_the_same_tables(readable: Readable, table: pd.DataFrame, tmp_path: Path) -> None:
    data = table.set_axis([f"row {k}" for k in table.index])
    fit = readable("hit ~ x * o + log(z) + b + (1 + x | g)", data, family="bernoulli", chains=2, draws=10)
    fit.save(tmp_path / "fit.nc")
    loaded = hp.load(tmp_path / "fit.nc")
    for ask in (
        lambda f: hp.comparisons(f, ["x", "o", "b"], by="o"),
        lambda f: hp.slopes(f, "z", units="average"),
        lambda f: hp.predictions(f, hp.datagrid(f, x=[0, 1])),
        lambda f: hp.predictions(f, by=["o", "b"]),
        lambda f: hp.predictions(f),
    ):
        pd.testing.assert_frame_equal(ask(loaded), ask(fit))


# --- marginaleffects --------------------------------------------------------------------------------------------------

FAMILIES = {
    "ols": "gaussian", "ols_logs": "gaussian", "logit": "bernoulli", "probit": "bernoulli(probit)", "poisson": "poisson"
}  # fmt: skip
DATA = pd.DataFrame(REFERENCE["data"])


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, readable: Readable) -> tuple[str, Fit]:
    """A model and a fit whose posterior is one point, statsmodels' estimate."""
    name = request.param
    stored = REFERENCE[f"{name}.model"]
    fit = readable(stored["formula"], DATA, family=FAMILIES[name], chains=1, draws=1)
    params = {plain(key): value for key, value in stored["params"].items()}
    assert set(map(plain, fit.spec.coefs)) == set(params)
    return name, with_draws(fit, beta=[params[plain(coef)] for coef in fit.spec.coefs])


def plain(coef: str) -> str:
    """A coefficient's name without what the two write differently."""
    return re.sub(r"\[T\.", "[", coef).replace(" ", "")


def check(found: pd.DataFrame, stored: list[list[Any]], keys: list[str], rtol: float = 1e-8) -> None:
    wanted = {tuple(row[:-1]): row[-1] for row in stored} if keys else {}
    if keys:
        got = {tuple(key): mean for key, mean in zip(found[keys].to_numpy().tolist(), found["mean"], strict=True)}
        assert set(got) == set(wanted)
        np.testing.assert_allclose([got[key] for key in wanted], list(wanted.values()), rtol=rtol, atol=1e-9)
    else:
        np.testing.assert_allclose(found["mean"], [row[-1] for row in stored], rtol=rtol, atol=1e-9)
    np.testing.assert_array_equal(found["sd"], 0)


def test_predictions_are_those_of_marginaleffects(case: tuple[str, Fit]) -> None:
    name, fit = case
    stored, means = REFERENCE[f"{name}.predictions"], REFERENCE[f"{name}.means"]
    check(hp.predictions(fit), stored["rows"], [])
    check(hp.predictions(fit, by=True), stored["average"], [])
    check(hp.predictions(fit, DATA, by="part"), stored["by part"], ["part"])
    check(hp.predictions(fit, DATA, by=["part", "h"]), stored["by part and h"], ["part", "h"])
    grid = hp.datagrid(fit)
    assert {key: grid[key][0] for key in means} == pytest.approx(means)
    check(hp.predictions(fit, grid), stored["at means"], [])
    check(hp.predictions(fit, hp.datagrid(fit, x=[-1.0, 0.5], h=["p", "r"])), stored["at grid"], ["x", "h"])


CHANGES: dict[str, Any] = {
    "x +1": "x",
    "x [-1, 2]": {"x": [-1.0, 2.0]},
    "x sd": {"x": "sd"},
    "x iqr": {"x": "iqr"},
    "z minmax": {"z": "minmax"},
    "h": "h",
    "d": "d",
}


@pytest.mark.parametrize("change", CHANGES)
def test_comparisons_are_those_of_marginaleffects(case: tuple[str, Fit], change: str) -> None:
    name, fit = case
    stored = REFERENCE[f"{name}.comparisons"]
    found = hp.comparisons(fit, CHANGES[change], DATA)
    check(found, stored[change], [])
    by = hp.comparisons(fit, CHANGES[change], DATA, by="part")
    for k, contrast in enumerate(found["contrast"]):  # its rows go by contrast, then by part
        rows = by[by["contrast"] == contrast]
        check(rows, stored[f"{change} by part"][2 * k : 2 * k + 2], ["part"])


def test_functions_of_two_predictions_are_those_of_marginaleffects(case: tuple[str, Fit]) -> None:
    name, fit = case
    stored = REFERENCE[f"{name}.comparisons"]
    words = [label.removesuffix(" of rows") for label in stored if label.endswith(" of rows")]
    assert words[0] == "difference"
    for word in words:
        check(hp.comparisons(fit, "d", comparison=word, by=None), stored[f"{word} of rows"], [])
        check(hp.comparisons(fit, "d", comparison=f"{word}avg"), stored[f"{word} of averages"], [])


@pytest.mark.parametrize("slope", contrasts.SLOPES)
def test_slopes_are_those_of_marginaleffects(case: tuple[str, Fit], slope: str) -> None:
    name, fit = case
    stored = REFERENCE[f"{name}.slopes"]
    check(hp.slopes(fit, ["x", "z"], slope=slope), stored[slope], ["term"], rtol=1e-6)
    check(hp.slopes(fit, ["x", "z"], hp.datagrid(fit), slope=slope), stored[f"{slope} at means"], ["term"], rtol=1e-6)
    found = hp.slopes(fit, ["x", "z"], DATA, slope=slope, by="part")
    check(found, stored[f"{slope} by part"], ["term", "part"], rtol=1e-6)
    if slope == "dydx":
        grid = hp.datagrid(fit, x=[-1.0, 0.5], h=["p", "r"])
        check(hp.slopes(fit, "z", grid, by=["x", "h"]), stored["dydx at grid"], ["x", "h"], rtol=1e-6)


# --- what once went wrong ---------------------------------------------------------------------------------------------


def test_log_odds_ratios_of_counts_out_of_trials_are_of_probabilities(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("prop(hit, size) ~ x + (1 | g)", table, family="binomial", chains=2, draws=10)
    beta = fit.draws("beta")[..., 1]
    found = hp.comparisons(fit, "x", comparison="lnor", by=None)
    np.testing.assert_allclose(found[NUMBERS], [summary(beta)] * 60, rtol=1e-8)


def test_numbers_among_objects_are_numbers(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ x + (1 | g)", table, chains=2, draws=10)
    same = readable("y ~ x + (1 | g)", table.assign(x=table["x"].astype(object)), chains=2, draws=10)
    pd.testing.assert_frame_equal(hp.comparisons(same, "x"), hp.comparisons(fit, "x"))
    pd.testing.assert_frame_equal(hp.slopes(same, "x"), hp.slopes(fit, "x"))
    assert hp.datagrid(same)["x"][0] == hp.datagrid(fit)["x"][0]


@pytest.mark.parametrize(("term", "slope"), [("log(h)", lambda h: 1 / h), ("I(h**0.5)", lambda h: 0.5 / h**0.5)])
def test_slopes_of_a_heavy_tailed_regressor(
    term: str, slope: Callable[[Array], Array], readable: Readable, table: pd.DataFrame
) -> None:
    """Its sd is far from most of its values, and a share of it would step below 0."""
    h = np.exp(np.random.default_rng(2).normal(0, 3, len(table)))
    fit = readable(f"y ~ {term} + d", table.assign(h=h), chains=1, draws=5)
    found = hp.slopes(fit, "h", by=None)["mean"]
    np.testing.assert_allclose(found, fit.params[fit.spec.coefs[1]] * slope(h), rtol=1e-5)


def test_slopes_of_levels_say_what_would_work(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ C(d) + x", table, chains=1, draws=5)
    with pytest.raises(FitError, match=r"no slope of d: .* comparisons\(fit, \{'d': \[a, b\]\}\) compares two of them"):
        hp.slopes(fit, "d")


def test_predictions_of_unit_means_are_of_the_rows_of_the_fit(readable: Readable, table: pd.DataFrame) -> None:
    rows = table.iloc[::-1].iloc[3:]  # another order, and units of several sizes
    fit = readable("between(y) ~ between(x)", rows, panel=PANEL, chains=2, draws=20)
    found, wanted = hp.predictions(fit), fit.predict()
    assert found.index.equals(wanted.index)
    np.testing.assert_allclose(found[NUMBERS], wanted[NUMBERS])
    assert hp.predictions(fit, by=True)["mean"][0] == pytest.approx(wanted["mean"].mean())


def standardized(values: Any) -> Any:
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize(
    "term", ["standardized(x)", "I(x - np.mean(x))", "np.cumsum(x)", "np.sort(x)", "I(x / np.max(x))", "binary(h)"]
)
def test_what_looks_at_other_rows_has_no_value_in_new_ones(term: str, made: Made, table: pd.DataFrame) -> None:
    env = {"standardized": standardized, "np": np}
    model = hp.Model(f"y ~ {term} + (1 | g)", table, env=env)
    with pytest.raises(DataError, match=r"depends on rows beside the row itself, so it has no value in other rows"):
        model.design_matrix(table)


@pytest.mark.parametrize(
    "term", ["center(x)", "scale(x)", "standardize(x)", "bs(x, df=4)", "poly(x, 2)", "C(h)", "np.log(z)", "I(x > 1)"]
)
def test_what_remembers_the_fit_has_a_value_in_every_row(term: str, table: pd.DataFrame) -> None:
    model = hp.Model(f"y ~ {term} + (1 | g)", table, env={"np": np})
    pd.testing.assert_frame_equal(model.design_matrix(table[7:8]), model.design_matrix()[7:8])


def test_a_column_of_another_kind_is_named(readable: Readable, table: pd.DataFrame) -> None:
    fit = readable("y ~ log(z) + (1 | g)", table, chains=1, draws=4)
    with pytest.raises(DataError, match=r"log\(z\) cannot be computed on these rows"):
        fit.predict(table.assign(z="a"))
