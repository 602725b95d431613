"""Descriptions of panels against numbers by hand, loops over units, and what is printed."""

import datetime
import decimal
from html.parser import HTMLParser
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings

import hierpanel as hp
from hierpanel.errors import DataError
from hierpanel.results.describe import LONGEST_PATTERN, ROUNDING, PanelDescription, describe_panel

PANEL = ("firm", "year")
# a: all four years; b: 2000, 2001, 2003; c: 2001, 2002; d: 2003; e: as c
HAND = pd.DataFrame(
    {
        "firm": list("aaaabbbccdee"),
        "year": [2000, 2001, 2002, 2003, 2000, 2001, 2003, 2001, 2002, 2003, 2001, 2002],
        "x": [1.0, 2, 3, 4, 5, 5, 5, 0, 2, 7, 1, 1],
    }
)


def rows(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(frame.itertuples(index=False, name=None))


def described(x: Any, firm: Any, **options: Any) -> pd.Series:
    """The line of one column x whose units are numbered by year within each firm."""
    firms = pd.Series(list(firm))
    table = pd.DataFrame({"firm": firms, "year": firms.groupby(firms).cumcount(), "x": x}, **options)
    return describe_panel(table, PANEL).variation.loc["x"]


# Who is there and when ----------------------------------------------------------------------------------------------


def test_counts_by_hand() -> None:
    found = describe_panel(HAND, PANEL)
    assert (found.unit, found.time, found.n_units, found.n_periods, found.span) == ("firm", "year", 5, 4, 4)
    assert (found.n_rows, found.n_left_out, found.balanced, found.gaps) == (12, 0, False, (1, 1))


def test_patterns_by_hand() -> None:
    found = describe_panel(HAND, PANEL).patterns
    assert found is not None
    assert list(found) == ["units", "share", "cumulative", "pattern"]
    assert list(found["pattern"]) == [".11.", "1111", "11.1", "...1"]
    assert list(found["units"]) == [2, 1, 1, 1]
    np.testing.assert_allclose(found["share"], [0.4, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(found["cumulative"], [0.4, 0.6, 0.8, 1])


def test_attrition_by_hand() -> None:
    found = describe_panel(HAND, PANEL).attrition
    assert (found.index.name, list(found.index)) == ("year", ["2000", "2001", "2002", "2003"])
    assert rows(found) == [(2, 2, 0, 1.0), (4, 2, 0, 1.0), (3, 0, 2, 0.5), (3, 1, 0, 1.0)]


# Stata's percentiles: the mean of two neighbours where the share of units is met exactly.
@pytest.mark.parametrize(
    ("rows_of", "quantiles"),
    [
        ([4, 3, 2, 1, 2], [1, 1, 2, 2, 3, 4, 4]),
        ([1, 2, 3, 4], [1, 1, 1.5, 2.5, 3.5, 4, 4]),
        ([1] * 19 + [9], [1, 1, 1, 1, 1, 5, 9]),
        ([7], [7] * 7),
    ],
)
def test_rows_per_unit_have_the_percentiles_of_xtdescribe(rows_of: list[int], quantiles: list[float]) -> None:
    table = pd.DataFrame(
        {"firm": np.repeat(np.arange(len(rows_of)), rows_of), "year": np.concatenate([np.arange(k) for k in rows_of])}
    )
    found = describe_panel(table, PANEL).rows_per_unit
    assert list(found.index) == ["min", "5 %", "25 %", "median", "75 %", "95 %", "max"]
    assert found.tolist() == quantiles


def test_nine_patterns_and_the_rest() -> None:
    # Unit k has k periods in a row from the first; pattern of k periods belongs to k units.
    lengths = np.repeat(np.arange(1, 13), np.arange(1, 13))
    table = pd.DataFrame(
        {"firm": np.repeat(np.arange(len(lengths)), lengths), "year": np.concatenate([np.arange(k) for k in lengths])}
    )
    found = describe_panel(table, PANEL).patterns
    assert found is not None
    assert found["units"].tolist() == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3 + 2 + 1]
    assert found["pattern"].tolist() == ["1" * k + "." * (12 - k) for k in range(12, 3, -1)] + ["(other)"]
    assert found["share"].sum() == pytest.approx(1)
    assert found["cumulative"].iloc[-1] == 1
    few = describe_panel(table[np.repeat(lengths, lengths) > 3], PANEL).patterns
    assert few is not None
    assert "(other)" not in few["pattern"].tolist()


@pytest.mark.parametrize("length", [LONGEST_PATTERN, LONGEST_PATTERN + 1])
def test_long_axes_have_no_patterns_and_say_so(length: int) -> None:
    table = pd.DataFrame({"firm": [1, 1, 2], "year": [1900, 1900 + length - 1, 1901]})
    found = describe_panel(table, PANEL)
    said = any("at most 60 periods" in note for note in found.notes)
    assert found.span == length
    if length <= LONGEST_PATTERN:
        assert found.patterns is not None
        assert found.patterns["pattern"].tolist() == ["1" + "." * (length - 2) + "1", ".1" + "." * (length - 2)]
        assert not said
    else:
        assert found.patterns is None
        assert said
        assert "at most 60 periods" in str(found)
        assert "Participation" not in str(found)


def test_a_wide_axis_costs_nothing() -> None:
    table = pd.DataFrame({"firm": [1, 1, 2], "year": [0, 10**12, 5]})
    found = describe_panel(table, PANEL)
    assert (found.span, found.n_periods, len(found.attrition)) == (10**12 + 1, 3, 3)
    assert found.gaps == (1, 10**12 - 1)


def test_periods_without_rows_are_gaps_unless_the_step_says_otherwise() -> None:
    table = pd.DataFrame({"firm": [1, 1, 1, 2, 2], "year": [1994, 1996, 1998, 1994, 1998]})
    found = describe_panel(table, PANEL)
    assert (found.n_periods, found.span, found.gaps) == (3, 5, (2, 5))
    assert found.patterns is not None
    assert found.patterns["pattern"].tolist() == ["1.1.1", "1...1"]
    assert "2 steps of the axis apart" in found.notes[0]
    assert "panel=('firm', 'year', step)" in found.notes[0]
    assert "3 of 5 (1994 … 1998" in str(found)
    stated = describe_panel(table, (*PANEL, 2))
    assert (stated.n_periods, stated.span, stated.gaps, stated.notes) == (3, 3, (1, 1), ())


def test_balanced_is_about_periods_that_occur() -> None:
    table = pd.DataFrame({"firm": [1, 1, 1, 2, 2, 2], "year": [1, 2, 4, 1, 2, 4]})
    found = describe_panel(table, PANEL)
    assert found.balanced
    assert found.gaps == (2, 2)
    assert not describe_panel(table[1:], PANEL).balanced


def test_rows_without_unit_or_time_count_nowhere() -> None:
    table = pd.DataFrame(
        {"firm": ["a", "a", None, "b", "b"], "year": [1, 2, 1, 1, None], "x": [1.0, 2, 99, 3, 99], "s": list("uuvuv")}
    )
    found = describe_panel(table, PANEL)
    assert (found.n_rows, found.n_left_out, found.n_units, found.n_periods) == (5, 2, 2, 2)
    assert "5, of which 2 without firm or year are left out" in str(found)
    assert (found.variation.loc["x", "n"], found.variation.loc["x", "max"]) == (3, 3)
    assert rows(found.categories) == [(1, 0, 0.0, 3, 2)]


def test_frequencies_are_stated() -> None:
    quarters = pd.period_range("1999Q3", periods=4, freq="Q")
    table = pd.DataFrame({"firm": list("aaabb"), "quarter": [*quarters[:3], quarters[0], quarters[3]]})
    found = describe_panel(table, ("firm", "quarter"))
    assert found.frequency == "quarterly"
    assert found.attrition.index.tolist() == ["1999Q3", "1999Q4", "2000Q1", "2000Q2"]
    assert found.patterns is not None
    assert found.patterns["pattern"].tolist() == ["111.", "1..1"]
    assert "4 (1999Q3 … 2000Q2, quarterly)" in str(found)


def test_one_unit_one_period_one_row() -> None:
    one = describe_panel(HAND[:1], PANEL)
    assert (one.n_units, one.n_periods, one.span, one.balanced, one.gaps) == (1, 1, 1, True, (0, 0))
    line = one.variation.loc["x"]
    assert (line["mean"], line["n"], line["N"], line["T_bar"], line["varies"]) == (1, 1, 1, 1, "nowhere")
    assert line[["sd", "sd_between", "sd_within"]].isna().all()
    assert "1 (2000, " in str(one)
    unit = describe_panel(HAND[:4], PANEL).variation.loc["x"]
    assert unit["sd"] == unit["sd_within"] == pytest.approx(np.sqrt(5 / 3))
    assert np.isnan(unit["sd_between"])
    assert unit["varies"] == "only within"
    period = describe_panel(HAND[HAND["year"] == 2001], PANEL)
    assert period.balanced
    assert period.variation.loc["x", "sd_within"] == 0
    assert period.variation.loc["x", "varies"] == "only between"


# Variation ----------------------------------------------------------------------------------------------------------


def test_variation_by_hand() -> None:
    line = describe_panel(HAND, PANEL).variation.loc["x"]
    # means of units 2.5, 5, 1, 7, 1; deviations ±1.5, ±0.5 and ±1
    assert line["mean"] == 3
    assert line["sd"] == pytest.approx(np.sqrt((4 + 1 + 0 + 1 + 3 * 4 + 9 + 1 + 16 + 2 * 4) / 11))
    assert line["sd_between"] == pytest.approx(np.std([2.5, 5, 1, 7, 1], ddof=1))
    assert line["sd_within"] == pytest.approx(np.sqrt((2 * 2.25 + 2 * 0.25 + 2 * 1) / 11))
    assert (line["min"], line["max"], line["n"], line["N"], line["T_bar"]) == (0, 7, 12, 5, 2.4)
    assert line["varies"] == "within and between"


# Three students with two scores each: Stata's xtsum prints 70, 14.14214 overall, 0 between, 14.14214 within
# (S. R. Porter, Understanding xtsum output).
def test_variation_as_xtsum_prints_it() -> None:
    line = described([70, 70, 60, 80, 90, 50], [1, 1, 2, 2, 3, 3])
    assert (line["mean"], line["n"], line["N"], line["T_bar"]) == (70, 6, 3, 2)
    np.testing.assert_allclose(line[["sd", "sd_within"]].astype(float), 14.14214, rtol=1e-6)
    assert (line["sd_between"], line["min"], line["max"], line["varies"]) == (0, 50, 90, "only within")


NOISE = [0.1 + 0.2, 0.3, 0.7 + 0.1 + 0.3, 1.1]  # pairs that are equal but for the last digit


@pytest.mark.parametrize(
    ("x", "firm", "varies"),
    [
        ([1, 2, 3, 4], "aabb", "within and between"),
        ([1, 1, 3, 3], "aabb", "only between"),
        ([1, 3, 3, 1], "aabb", "only within"),
        ([2, 2, 2, 2], "aabb", "nowhere"),
        ([0, 0, 0, 0], "aabb", "nowhere"),
        ([np.nan] * 4, "aabb", "no values"),
        ([1, np.nan, np.nan, 3], "aabb", "only between"),
        ([1, np.nan, 1, 3], "aabb", "within and between"),
        ([True, True, False, False], "aabb", "only between"),
        (NOISE, "aabb", "only between"),
        ([*NOISE[:2], NOISE[0], 0.3], "aabb", "nowhere"),
        ([0.1, 0.7, 0.3, 0.5], "aabb", "only within"),
        ([1e9 + 0.1, 1e9 + 0.1, 1e9 + 0.3, 1e9 + 0.3], "aabb", "only between"),
        ([1e9, 1e9 + 1, 1e9, 1e9 + 2], "aabb", "within and between"),
        ([1e9, 1e9 + 1, 1e9 + 1, 1e9], "aabb", "only within"),
        ([1e-100, 2e-100, 5e-100, 5e-100], "aabb", "within and between"),
        ([0.1] * 7 + [0.7] * 5 + [1 / 3] * 3, "a" * 7 + "b" * 5 + "c" * 3, "only between"),
        ([1, 1 + 1e-6, 2, 2], "aabb", "within and between"),
    ],
)
def test_varies(x: list[Any], firm: str, varies: str) -> None:
    line = described(x, firm)
    assert line["varies"] == varies
    assert (line["sd_within"] == 0) == (varies in ("only between", "nowhere"))
    assert (line["sd_between"] == 0) == (varies in ("only within", "nowhere"))


def test_what_the_within_transformation_leaves_varies_only_within() -> None:
    df = hp.datasets.load("wage_panel")
    values, names = df[["log_wage", "hours", "union"]], df[["worker", "year"]]
    means = values.groupby(df["worker"]).transform("mean")
    for table, varies in ((values - means, "only within"), (means, "only between")):
        found = describe_panel(names.join(table), ("worker", "year")).variation
        assert set(found["varies"]) == {varies}


def test_noise_is_a_share_of_the_largest_value() -> None:
    for size in (1e-100, 1.0, 1e100):
        base = np.array([1, 1, 2, 2]) * size
        noise = np.array([0, 1, 0, 0]) * ROUNDING * 2 * size
        assert described(base + 0.9 * noise, "aabb")["varies"] == "only between"
        assert described(base + 1.1 * noise, "aabb")["varies"] == "within and between"


def test_far_from_zero_digits_are_kept() -> None:
    x = np.array([1.0, 2, 4, 3, 9, 5])
    near, far = described(x, "aabbcc"), described(x + 2.0**40, "aabbcc")
    names = ["sd", "sd_between", "sd_within"]
    np.testing.assert_allclose(near[names].astype(float), far[names].astype(float), rtol=1e-12)


def dumb_variation(table: pd.DataFrame) -> tuple[float, ...]:
    """A line of x by loops: mean, sd, sd between, sd within, min, max, n, N, T-bar."""
    table = table.dropna()
    means = [part["x"].mean() for _, part in table.groupby("firm")]
    within = [x - part["x"].mean() + table["x"].mean() for _, part in table.groupby("firm") for x in part["x"]]
    sds = [float(pd.Series(values).std()) for values in (table["x"], means, within)]
    ends = (table["x"].min(), table["x"].max()) if len(table) else (np.nan, np.nan)
    return (table["x"].mean(), *sds, *ends, len(table), len(means), len(table) / len(means) if means else np.nan)


def dumb_presence(table: pd.DataFrame) -> tuple[dict[str, int], list[tuple[Any, ...]], tuple[int, int]]:
    """Patterns with their units, rows of attrition, and gaps, by loops."""
    years = {firm: sorted(part["year"]) for firm, part in table.groupby("firm")}
    start, end = min(table["year"]), max(table["year"])
    patterns: dict[str, int] = {}
    for own in years.values():
        text = "".join("1" if year in own else "." for year in range(start, end + 1))
        patterns[text] = patterns.get(text, 0) + 1
    old = [firm for firm, own in years.items() if start in own]
    attrition = [
        (
            sum(year in own for own in years.values()),
            sum(own[0] == year for own in years.values()),
            sum(own[-1] == year for own in years.values()) if year < end else 0,
            sum(year in years[firm] for firm in old) / len(old),
        )
        for year in sorted(set(table["year"]))
    ]
    missed = [own[-1] - own[0] + 1 - len(own) for own in years.values()]
    return patterns, attrition, (sum(k > 0 for k in missed), sum(missed))


VALUES = st.one_of(st.none(), st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3)))
PANELS = st.dictionaries(st.tuples(st.integers(-3, 6), st.integers(1990, 2001)), VALUES, min_size=1, max_size=40)


def table_of(cells: dict[tuple[int, int], float | None]) -> pd.DataFrame:
    firms, years = zip(*cells, strict=True)
    return pd.DataFrame({"firm": firms, "year": years, "x": np.array(list(cells.values()), dtype=float)})


@settings(max_examples=60, deadline=None)
@given(PANELS)
def test_any_panel_equals_loops(cells: dict[tuple[int, int], float | None]) -> None:
    table = table_of(cells)
    found = describe_panel(table, PANEL)
    line = found.variation.loc["x"]
    np.testing.assert_allclose(line.iloc[:9].astype(float), dumb_variation(table), rtol=1e-9, atol=1e-6)
    patterns, attrition, gaps = dumb_presence(table)
    assert found.patterns is not None
    shown = dict(zip(found.patterns["pattern"], found.patterns["units"], strict=True))
    rest = shown.pop("(other)", 0)
    assert shown.items() <= patterns.items()
    assert sum(shown.values()) + rest == found.n_units == len(set(table["firm"]))
    assert (rest > 0) == (len(patterns) > 9)
    assert sorted(shown.values(), reverse=True) == sorted(patterns.values(), reverse=True)[:9]
    np.testing.assert_allclose(rows(found.attrition), attrition)
    assert found.gaps == gaps
    assert found.balanced == all(present == found.n_units for present, *_ in attrition)
    assert all(len(text) <= 90 for text in str(found).splitlines())


@settings(max_examples=20, deadline=None)
@given(PANELS, st.integers(0, 99))
def test_the_order_of_rows_and_the_names_of_units_do_not_matter(
    cells: dict[tuple[int, int], float | None], seed: int
) -> None:
    table = table_of(cells)
    other = table.sample(frac=1, random_state=seed).assign(firm=lambda t: t["firm"].map(lambda k: f"unit {-k}"))
    a, b = describe_panel(table, PANEL), describe_panel(other, PANEL)
    pd.testing.assert_frame_equal(a.attrition, b.attrition)
    pd.testing.assert_frame_equal(a.variation, b.variation, rtol=1e-9, atol=1e-6)
    assert a.patterns is not None
    assert b.patterns is not None
    pd.testing.assert_frame_equal(a.patterns, b.patterns)
    assert (a.gaps, a.balanced, a.n_units) == (b.gaps, b.balanced, b.n_units)


def test_missing_values_are_left_out_column_by_column() -> None:
    table = HAND.assign(z=[np.nan, 1, np.nan, 3, np.nan, np.nan, np.nan, 4, 4, 5, 0, np.nan])
    found = describe_panel(table, PANEL).variation
    assert found.loc["x", ["n", "N"]].tolist() == [12, 5]
    assert found.loc["z", ["n", "N"]].tolist() == [6, 4]
    assert found.loc["z", "T_bar"] == 1.5
    np.testing.assert_allclose(
        found.loc["z"].iloc[:9].astype(float), dumb_variation(table[["firm", "year", "z"]].rename(columns={"z": "x"}))
    )


def test_infinite_values_are_left_out_and_told() -> None:
    found = describe_panel(HAND.assign(z=[np.inf, -np.inf, *range(10)]), PANEL)
    assert (found.variation.loc["z", "n"], found.variation.loc["z", "max"]) == (10, 9)
    assert [note for note in found.notes if "infinite" in note] == [
        "z is infinite in 2 rows, which its line leaves out."
    ]


# Kinds of columns and tables ----------------------------------------------------------------------------------------

NUMERIC = [
    [1, 2, 3, 5],
    np.array([1, 2, 3, 5], dtype=np.uint8),
    np.array([1, 2, 3, 5], dtype=np.float32),
    pd.array([1, 2, 3, 5], "Int64"),
    pd.array([1, 2, 3, 5], "Float64"),
    pd.Series([1, 2, 3, 5], dtype="int64[pyarrow]"),
    pd.Series([decimal.Decimal(k) for k in (1, 2, 3, 5)]),
    pd.Series([decimal.Decimal(k) for k in (1, 2, 3, 5)], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
    pd.Series([1, 2.0, 3, 5], dtype=object),
    pd.arrays.SparseArray([1.0, 2.0, 3.0, 5.0]),
]


@pytest.mark.parametrize("x", NUMERIC)
def test_numbers_of_every_kind(x: Any) -> None:
    line = described(x, "aabb")
    assert line.iloc[:9].tolist() == pytest.approx(described([1.0, 2, 3, 5], "aabb").iloc[:9].tolist())


@pytest.mark.parametrize(
    "x",
    [
        pd.array([True, None, False, True], "boolean"),
        pd.Series([True, None, False, True], dtype=object),
        pd.Series([True, None, False, True], dtype="bool[pyarrow]"),
        pd.Series([1, pd.NA, 0, 1], dtype="Int8"),
        [1, np.nan, 0, 1],
    ],
)
def test_truth_values_count_as_0_and_1(x: Any) -> None:
    line = described(x, "aabb")
    assert line[["mean", "sd_between", "n", "N", "min", "max"]].tolist() == pytest.approx(
        [2 / 3, np.std([1, 0.5], ddof=1), 3, 2, 0, 1]
    )


DAY = datetime.date(2020, 1, 1)
# name → (values of firms a, a, b, b, c; levels, units that change, rows and units with a value)
CATEGORIES: dict[str, tuple[Any, tuple[int, int, int, int]]] = {
    "text": (["u", "u", "v", "w", None], (3, 1, 4, 2)),
    "category": (pd.Categorical([3, 3, 1, 1, 3], categories=[3, 2, 1]), (2, 0, 5, 3)),
    "ordered": (pd.Categorical(["s", None, "m", "s", "m"], categories=["s", "m", "l"], ordered=True), (2, 1, 4, 3)),
    "dates": (pd.to_datetime(["2020-01-01", "2020-01-02", None, None, "2020-01-01"]), (2, 1, 3, 2)),
    "days": ([DAY] * 5, (1, 0, 5, 3)),
    "periods": (pd.PeriodIndex(["2020Q1", "2020Q1", "2020Q2", "2020Q1", "2020Q1"], freq="Q"), (2, 1, 5, 3)),
    "intervals": (pd.IntervalIndex.from_breaks([0, 1, 2, 3, 4, 5]), (5, 2, 5, 3)),
    "categories of truth": (pd.Categorical([True, True, False, True, None]), (2, 1, 4, 2)),
    "mixed": (pd.Series([1, 1, "1", ("t", 1), None], dtype=object), (2, 1, 4, 2)),
    "lists": (pd.Series([[1], [1], [2], [2], [2]], dtype=object), (2, 0, 5, 3)),
    "nothing": (pd.Series([None] * 5, dtype=object), (0, 0, 0, 0)),
    "complex": (np.array([1j, 1j, 2, 3, 1j]), (3, 1, 5, 3)),
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_categories(kind: str) -> None:
    values, (levels, changes, n, N) = CATEGORIES[kind]
    table = pd.DataFrame({"firm": list("aabbc"), "year": [1, 2, 1, 2, 1], "s": values, "x": 1.0})
    found = describe_panel(table, PANEL)
    assert list(found.variation.index) == ["x"]
    assert list(found.categories.index) == ["s"]
    assert rows(found.categories) == [(levels, changes, pytest.approx(changes / max(N, 1)), n, N)]
    told = any("leaves nothing of it: s." in note for note in found.notes)
    assert told == (levels > 1 and not changes)


KINDS: dict[str, Any] = {
    "nullable": HAND.convert_dtypes(),
    "of Arrow's types": HAND.convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.DataFrame(HAND.to_dict("list")),
    "pyarrow": pa.table(HAND.to_dict("list")),
    "a dict": HAND.to_dict("list"),
    "any index": HAND.set_index(np.arange(100, 112)),
    "an index of one label": HAND.set_index(np.zeros(12, dtype=int)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table(kind: str) -> None:
    assert str(describe_panel(KINDS[kind], PANEL)) == str(describe_panel(HAND, PANEL))


def test_an_index_of_unit_and_time() -> None:
    indexed = HAND.set_index(["firm", "year"])
    assert str(describe_panel(indexed)) == str(describe_panel(indexed, PANEL)) == str(describe_panel(HAND, PANEL))


def test_the_table_is_left_as_it_was() -> None:
    table = HAND.assign(s="u", z=None)
    before = table.copy(deep=True)
    describe_panel(table, PANEL)
    pd.testing.assert_frame_equal(table, before)


# Columns asked for, and errors ----------------------------------------------------------------------------------------


def test_columns_in_the_order_asked_for() -> None:
    table = HAND.assign(s="u", z=1.0, y=2.0)
    assert list(describe_panel(table, PANEL).variation.index) == ["x", "z", "y"]
    found = describe_panel(table, PANEL, columns=["y", "s", "x", "y"])
    assert (list(found.variation.index), list(found.categories.index)) == (["y", "x"], ["s"])
    assert list(describe_panel(table, PANEL, columns="z").variation.index) == ["z"]
    time = describe_panel(table, PANEL, columns=["year"])
    assert time.variation.loc["year", "mean"] == HAND["year"].mean()
    none = describe_panel(table, PANEL, columns=[])
    assert len(none.variation) == len(none.categories) == 0
    assert list(none.variation) == list(found.variation)
    assert "Variation" not in str(none)


@pytest.mark.parametrize(
    ("panel", "columns", "said"),
    [
        (PANEL, ["x", "z"], "there is no column 'z'"),
        (PANEL, "yeer", r"there is no column 'yeer' \(did you mean year\?\); the columns are: firm, year, x"),
        (("worker", "year"), None, "worker"),
        (("firm", "date"), None, "date"),
        (None, None, "panel"),
        ("firm", None, "panel"),
    ],
)
def test_what_is_not_there_is_named(panel: Any, columns: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        describe_panel(HAND, panel, columns=columns)


def test_two_rows_of_a_unit_in_a_period_are_an_error() -> None:
    with pytest.raises(DataError, match=r"a.*2001"):
        describe_panel(HAND.replace({"year": {2002: 2001}}), PANEL)


def test_no_row_with_unit_and_time_is_an_error() -> None:
    with pytest.raises(DataError, match="no row"):
        describe_panel(HAND[:0], PANEL)
    with pytest.raises(DataError, match="firm"):
        describe_panel(pd.DataFrame({"firm": [None, "a"], "year": [1.0, np.nan]}), PANEL)


# What is printed ------------------------------------------------------------------------------------------------------


class Text(HTMLParser):
    """The text of an HTML fragment, and whether its tags close one another."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def html_words(found: PanelDescription) -> list[str]:
    page = Text()
    page.feed(found._repr_html_())
    assert not page.open
    return page.words


def test_the_wage_panel() -> None:
    found = describe_panel(hp.datasets.load("wage_panel"), ("worker", "year"))
    text = str(found)
    assert repr(found) == text
    assert "Panel: worker × year" in text.splitlines()[0]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Units: 545" in lines
    assert "Balanced: yes" in lines
    assert "Gaps: none" in lines
    assert "Rows per unit 8 8 8 8 8 8 8" in lines
    assert "11111111 545 100.0 % 100.0 %" in lines
    assert "log_wage 1.649 0.533 0.391 0.362 -3.579 4.052 4,360 545" in lines
    assert "education 11.77 1.75 1.75 0 3 16 4,360 545" in lines
    assert "entering" not in text
    assert found.notes == (
        "Constant within every worker, so fe(worker) leaves nothing of it: education, black, hispanic.",
    )


@pytest.fixture(scope="module")
def messy() -> pd.DataFrame:
    """A quarterly panel, unbalanced with gaps, with long names and awkward sizes."""
    rng = np.random.default_rng(3)
    firm, quarter = np.repeat(np.arange(70), 40), np.tile(np.arange(40), 70)
    table = pd.DataFrame({"firm <&>": firm, "quarter": pd.PeriodIndex.from_ordinals(quarter + 100, freq="Q")})
    table["a_name_as_long_as_it_gets_when_one_joins_all_words"] = firm * 1e9
    table["sales"] = np.exp(rng.normal(5, 9, len(table)))
    table["far"] = 1e12 + rng.normal(size=len(table))
    table["tiny"] = -1e-12 * rng.random(len(table))
    table["empty"] = np.nan
    table["sector"] = firm % 7
    table["sector"] = table["sector"].astype(str)
    table["owner <b>"] = rng.choice(["state", "family"], len(table))
    keep = (quarter >= firm % 11) & (quarter < 25 + firm % 16) & (rng.random(len(table)) < 0.98)
    return table[keep]


def test_text_keeps_to_90_columns(messy: pd.DataFrame) -> None:
    found = describe_panel(messy, ("firm <&>", "quarter"))
    lines = str(found).splitlines()
    assert max(map(len, lines)) == 90
    assert all(line == line.rstrip() for line in lines)
    shown = [line.split() for line in lines]
    quarters = found.attrition.index.tolist()
    assert [cells[0] for cells in shown if cells[0] in quarters] == quarters[:6] + quarters[-6:]
    assert sum(cells == ["…"] * 5 for cells in shown) == 1
    pattern = [cells for cells in shown if set(cells[0]) == {"1", "."}]
    assert len(pattern) == 9
    assert sum(cells[0] == "(other)" for cells in shown) == 1


def test_html_says_what_the_text_says(messy: pd.DataFrame) -> None:
    for found in (describe_panel(messy, ("firm <&>", "quarter")), describe_panel(HAND.assign(s="u"), PANEL)):
        words = html_words(found)
        for line in str(found).splitlines():
            assert set(line.split()) <= {*words, *(f"{w}:" for w in words)} | {"=" * 90, "-" * 90}, line


def test_the_description_has_its_docstring() -> None:
    names = {line.split(" : ")[0].strip() for line in (PanelDescription.__doc__ or "").splitlines() if " : " in line}
    documented = {name for entry in names for name in entry.split(", ")}
    assert documented == set(PanelDescription.__dataclass_fields__)
