"""Panels: the words of a formula, the time index and the columns that they make, against dictionaries and groupby."""

import datetime
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hierpanel as hp
from hierpanel.compiler.marginal import marginal
from hierpanel.data.moments import moments
from hierpanel.data.panel import named, panel_of
from hierpanel.data.shifts import shift
from hierpanel.errors import DataError, FormulaError, HierpanelError
from hierpanel.formula import parse
from hierpanel.formula.words import Word, columns_of, words_in
from hierpanel.results.fit import Fit

Array = np.ndarray
NA = pd.NA
PANEL = ("unit", "year")
REPRODUCIBLE = settings(deadline=None, derandomize=True, max_examples=20)


def rows() -> pd.DataFrame:
    """Eight units in six years: x, z, n, b and h vary within units, c and k do not; g joins units, half cuts them."""
    rng = np.random.default_rng(7)
    unit, year = np.repeat(np.arange(8), 6), np.tile(np.arange(2000, 2006), 8)
    effect = rng.normal(size=8)[unit]
    n = len(unit)
    return pd.DataFrame(
        {
            "unit": unit,
            "year": year,
            "y": effect + rng.normal(size=n),
            "x": 3 + 0.2 * effect + rng.uniform(-1, 1, n),
            "z": effect + rng.normal(size=n),
            "n": rng.integers(0, 9, n),
            "b": rng.random(n) < 0.5,
            "h": rng.choice(list("pqr"), n),
            "c": np.array([0.1, 0.2, 0.3, 1 / 3, 0.7, 1.1, 0.1, 0.9])[unit],  # their means round
            "k": np.array(list("uvwuvwuv"))[unit],
            "g": np.array(["east", "west", "south"])[unit % 3],
            "half": unit * 2 + (year > 2002),
            "w": rng.uniform(0.5, 2, n),
        }
    )


BALANCED = rows()
# Units of one to six rows, with gaps, in no order, under labels of their own.
TABLE = BALANCED.drop([1, 2, 8, 17, 18, 19, 20, 21, 22, 28, 33, 34, 35, 40, 41]).sample(frac=1, random_state=1)
TABLE.index = pd.Index([f"row {k}" for k in TABLE.index])


def model(formula: str, data: Any = TABLE, panel: Any = PANEL, **options: Any) -> hp.Model:
    return hp.Model(formula, data, panel=panel, env={}, **options)


def column(formula: str, name: str, data: Any = TABLE, **options: Any) -> Array:
    found = model(formula, data, **options).design
    return found.X[:, found.coefs.index(name)]


def marked_place(marked: str) -> tuple[str, int, int]:
    """The formula without « », and the place between them."""
    return marked.replace("«", "").replace("»", ""), marked.index("«"), marked.index("»") - 1


# --- words ------------------------------------------------------------------------------------------------------------

# (formula, canonical form)
GOOD = [
    ("y ~ lag(x)", "y ~ 1 + lag(x)"),
    ("y ~ lag(x, 1) + lag( x,k = 1 ) + lag(x)", "y ~ 1 + lag(x)"),
    ("y ~ lag(x, 2) + lag(x, k=2)", "y ~ 1 + lag(x, 2)"),
    ("y ~ lead(x, k=3) + diff(x, k=1)", "y ~ 1 + lead(x, 3) + diff(x)"),
    ("y ~ lag(`my x`, k=2)", "y ~ 1 + lag(`my x`, 2)"),
    ("y ~ within(x) + between(x, by=g)", "y ~ 1 + within(x) + between(x, by=g)"),
    ("y ~ within( `x` , by = `my g` )", "y ~ 1 + within(x, by=`my g`)"),
    ("y ~ within(lag(x, k=1))", "y ~ 1 + within(lag(x))"),
    ("y ~ log(lag(x, k=1))", "y ~ 1 + log(lag(x))"),
    ("y ~ diff(log(x), 2)", "y ~ 1 + diff(log(x), 2)"),
    ("y ~ lag(diff(x, 1), k=2)", "y ~ 1 + lag(diff(x), 2)"),
    ("y ~ lag(I(x + z), k=1)", "y ~ 1 + lag(I(x + z))"),
    ("y ~ within(bs(x, df=4)) + within(C(h))", "y ~ 1 + within(bs(x, df=4)) + within(C(h))"),
    ("y ~ lag(x, 1):z + z:lag(x)", "y ~ 1 + lag(x):z"),
    ("y ~ lag(x, 1)*h", "y ~ 1 + lag(x) + h + lag(x):h"),
    ("y ~ (lag(x, 1) | g)", "y ~ 1 + (1 + lag(x) | g)"),
    ("y ~ x + offset(lag(n, k=1))", "y ~ 1 + x + offset(lag(n))"),
    ("diff(y, k=1) ~ diff(x)", "diff(y) ~ 1 + diff(x)"),
    ("I(lag(y, 1) > 0) ~ x", "I(lag(y) > 0) ~ 1 + x"),
    ("between(y) ~ between(x)", "between(y) ~ 1 + between(x)"),
    ("y ~ lag(y) + initial(y) + log(initial(y))", "y ~ 1 + lag(y) + initial(y) + log(initial(y))"),
    ("y ~ lag + within", "y ~ 1 + lag + within"),  # a column may have the name of a word
    # mundlak
    ("y ~ mundlak(x)", "y ~ 1 + within(x) + between(x)"),
    ("y ~ mundlak(a + b)", "y ~ 1 + within(a) + within(b) + between(a) + between(b)"),
    ("y ~ mundlak((a + b) - a)", "y ~ 1 + within(b) + between(b)"),
    ("y ~ mundlak(a + b, by=g)", "y ~ 1 + within(a, by=g) + within(b, by=g) + between(a, by=g) + between(b, by=g)"),
    ("y ~ mundlak(`my x`, by = `my g`)", "y ~ 1 + within(`my x`, by=`my g`) + between(`my x`, by=`my g`)"),
    ("y ~ mundlak(lag(x, k=1) + f(z))", "y ~ 1 + within(lag(x)) + within(f(z)) + between(lag(x)) + between(f(z))"),
    ("y ~ mundlak(x) + within(x)", "y ~ 1 + within(x) + between(x)"),
    ("y ~ mundlak(a + b) - between(b)", "y ~ 1 + within(a) + within(b) + between(a)"),
    ("y ~ (mundlak(x) | g)", "y ~ 1 + (1 + within(x) + between(x) | g)"),
    ("y ~ mundlak(I(x*z))", "y ~ 1 + within(I(x * z)) + between(I(x * z))"),
]  # fmt: skip

ONE_COLUMN = "takes one column, as in"
PERIODS = "goes by a whole number of periods, 1 or more"
COLUMNS = "mundlak() takes columns, as in mundlak(a + b)"
# (formula with « » around the text under the caret, a part of the message)
BAD = [
    # arguments
    ("y ~ «lag()»", f"lag() {ONE_COLUMN} lag(x, 2)"),
    ("y ~ z + «lag(k=2)»", f"lag() {ONE_COLUMN} lag(x, 2)"),
    ("y ~ «lag(x, 2, 3)»", f"lag() {ONE_COLUMN} lag(x, 2)"),
    ("y ~ «lag(x, 2, k=3)»", f"lag() {ONE_COLUMN} lag(x, 2)"),
    ("y ~ «lead(x, by=g)»", f"lead() {ONE_COLUMN} lead(x, 2)"),
    ("y ~ «diff(x, n=2)»", f"diff() {ONE_COLUMN} diff(x, 2)"),
    ("y ~ «within(x, g)»", f"within() {ONE_COLUMN} within(x, by=unit)"),
    ("y ~ «between(x, k=2)»", f"between() {ONE_COLUMN} between(x, by=unit)"),
    ("y ~ «within(by=g)»", f"within() {ONE_COLUMN}"),
    ("y ~ «initial()»", "initial() takes one column, as in initial(y)"),
    ("y ~ «initial(y, 2)»", "as in initial(y)"),
    ("y ~ «initial(y, by=g)»", "as in initial(y)"),
    ("«diff(y, z, x)» ~ x", f"diff() {ONE_COLUMN}"),
    ("y ~ log(«lag()»)", f"lag() {ONE_COLUMN}"),
    ("y ~ (z + «lag(x, n=2)» | g)", f"lag() {ONE_COLUMN}"),
    ("y ~ offset(«lag()»)", f"lag() {ONE_COLUMN}"),
    # the column
    ("y ~ lag(«x + z»)", "arithmetic is written lag(I(a + b)); for both, lag(a) + lag(b)"),
    ("y ~ within(«a + b», by=g)", "arithmetic is written within(I(a + b)); for both, within(a) + within(b)"),
    ("y ~ between(«-x»)", "arithmetic is written between(I(a + b))"),
    ("y ~ diff(«(x)»)", "arithmetic is written diff(I(a + b))"),
    ("y ~ lead(«1»)", "lead() takes one column"),
    ("y ~ within(«'x'»)", "within() takes one column"),
    # periods
    ("y ~ lag(x, «0»)", f"lag() {PERIODS}, as in lag(x, 2); later periods are lead(x, 1)"),
    ("y ~ lag(x, «-1»)", f"lag() {PERIODS}, as in lag(x, 2); later periods are lead(x, 1)"),
    ("y ~ lead(x, «-1»)", f"lead() {PERIODS}, as in lead(x, 2); earlier periods are lag(x, 1)"),
    ("y ~ diff(x, «0»)", f"diff() {PERIODS}, as in diff(x, 2)"),
    ("y ~ lag(x, k=«1.5»)", PERIODS),
    ("y ~ lag(x, «2.0»)", PERIODS),
    ("y ~ lag(x, «True»)", PERIODS),
    ("y ~ lag(x, «n»)", PERIODS),
    ("y ~ lag(x, «'2'»)", PERIODS),
    ("y ~ z*log(lag(x, k=«1 + 1»))", PERIODS),
    # by
    ("y ~ within(x, by=«1»)", "by= names the column of units, as in within(x, by=school)"),
    ("y ~ between(x, by=«'g'»)", "by= names the column of units, as in between(x, by=school)"),
    ("y ~ within(x, by=«g + h»)", "by= names the column of units"),
    # words inside words
    ("y ~ lag(«within(x)»)", "is taken on the rows that are used, which depend on lag(); write within(lag(x))"),
    ("y ~ diff(log(«between(x)»))", "write between(diff(x))"),
    ("y ~ lead(«initial(y)»)", "write initial(lead(x))"),
    ("y ~ lag(«bs(x, df=4)»)", "bs() cannot stand inside lag(); write bs(lag(x))"),
    ("y ~ diff(log(«scale(x)»))", "scale() cannot stand inside diff(); write scale(diff(x))"),
    ("y ~ lag(«C(h)»)", "C() cannot stand inside lag()"),
    ("y ~ within(«between(x)»)", "between() cannot stand inside within(): it is already split up by unit"),
    ("y ~ between(log(«within(x)»))", "within() cannot stand inside between()"),
    ("y ~ within(«initial(y)»)", "initial() cannot stand inside within()"),
    ("y ~ x +\n  lag(«within(x)»)", "write within(lag(x))"),
    ("y ~ within(«offset(x)»)", "offset() cannot stand inside another function"),
    # mundlak
    ("y ~ «mundlak()»", COLUMNS),
    ("y ~ «mundlak(a, b)»", "as in mundlak(a + b) or mundlak(a + b, by=school)"),
    ("y ~ «mundlak(by=g)»", COLUMNS),
    ("y ~ «mundlak(x, k=2)»", COLUMNS),
    ("y ~ «mundlak(x, by=g, by=h)»", COLUMNS),
    ("y ~ mundlak(«x + 1»)", COLUMNS),
    ("y ~ mundlak(«0»)", COLUMNS),
    ("y ~ mundlak(«x - x»)", COLUMNS),
    ("y ~ mundlak(«x*z»)", "mundlak() splits columns; a product is one column as I(x * z)"),
    ("y ~ mundlak(«(a + b)**2»)", "a product is one column as I(a * b)"),
    ("y ~ mundlak(x«:»z)", "':' has no meaning inside mundlak()"),
    ("y ~ mundlak((1 «|» g))", "'|' has no meaning inside mundlak()"),
    ("y ~ mundlak(x + «fe(g)»)", "fe() can only be added as a term of its own"),
    ("y ~ «mundlak(x)»*z", "mundlak() is a sum of terms, and can only be added; in products use within(x)"),
    ("y ~ log(«mundlak(x)»)", "mundlak() cannot stand inside another function"),
    ("y ~ within(«mundlak(x)»)", "mundlak() cannot stand inside another function"),
    ("y ~ lag(«mundlak(x)»)", "mundlak() cannot stand inside another function"),
    ("«mundlak(y)» ~ x", "mundlak() cannot be the response"),
    ("«initial(y)» ~ x", "initial() cannot be the response"),
    ("y ~ mundlak(lag(x, «0»))", PERIODS),
    ("y ~ mundlak(lag(«within(x)»))", "write within(lag(x))"),
    # the words that mundlak() writes are not in the formula: the caret stands under what is
    ("y ~ mundlak(«within(x)»)", "within() cannot stand inside"),
    ("y ~ mundlak(x + «between(z)»)", "between() cannot stand inside"),
    ("y ~ z + mundlak(x + «initial(y)»)", "initial() cannot stand inside"),
    ("y ~ mundlak(x, by=«1»)", "by= names the column of units"),
    ("y ~ mundlak(x + z, by=«log(g)»)", "by= names the column of units"),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "canonical"), GOOD)
def test_canonical_form(formula: str, canonical: str) -> None:
    assert str(parse(formula)) == canonical
    assert parse(canonical) == parse(formula)


@pytest.mark.parametrize(("marked", "message"), BAD)
def test_error_shows_the_place(marked: str, message: str) -> None:
    formula, start, end = marked_place(marked)
    with pytest.raises(FormulaError) as caught:
        parse(formula)
    assert message in caught.value.problem
    assert formula[caught.value.start : caught.value.end] == formula[start:end]
    assert (caught.value.start, caught.value.end) == (start, end)
    line = formula.rfind("\n", 0, start) + 1
    assert str(caught.value).split("\n")[-1] == "    " + " " * (start - line) + "^" * (end - start)


def test_words_of_an_expression_the_inner_ones_first() -> None:
    assert words_in("log(x)") == []
    assert words_in("within(diff(log(x), k=2), by=`my g`)") == [
        Word("diff(log(x), 2)", "diff", "log(x)", k=2),
        Word("within(diff(log(x), 2), by=`my g`)", "within", "diff(log(x), 2)", by="my g"),
    ]
    assert [word.text for word in words_in("I(lag(x, k=1) * lead(lag(z)))")] == ["lag(z)", "lead(lag(z))", "lag(x)"]


@pytest.mark.parametrize(
    ("expression", "own", "everything"),
    [
        ("log(x)", "x", "x"),
        ("lag(x)", "", "x"),
        ("I(lag(x) * z)", "z", "xz"),
        ("diff(log(I(x + z)))", "", "xz"),
        ("within(lag(x), by=g)", "g", "gx"),
        ("I(lag(x) + x)", "x", "x"),
    ],
)
def test_only_a_shift_looks_at_other_rows(expression: str, own: str, everything: str) -> None:
    assert columns_of(expression) == (set(own), set(everything))


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(FormulaError, match=r"there is no column 'q'") as caught:
        model("y ~ x + lag(q)")
    assert str(caught.value).endswith("    y ~ x + lag(q)\n                ^")
    with pytest.raises(FormulaError, match=r"there is no function lagg \(did you mean lag\?\)"):
        model("y ~ lagg(x)")


# --- the time index ---------------------------------------------------------------------------------------------------


def index_of(times: Any, step: Any = None, units: Any = 1) -> Any:
    return panel_of(pd.DataFrame({"unit": units, "time": times}), ("unit", "time", step))


def dates(*texts: str, zone: str | None = None) -> pd.DatetimeIndex:
    return pd.to_datetime(list(texts), format="ISO8601").tz_localize(zone)


DATE, BERLIN = datetime.date, "Europe/Berlin"
YEARS, QUARTERS, FAR = ["2003", "2000"], ["2001Q1", "2000Q2"], ["9999", "0001"]
WEEKS, DAYS = ["2000-01-17/2000-01-23", "2000-01-03/2000-01-09"], ["2020-03-28", "2020-03-30"]
HOURS, MINUTES = ["2000-02-28 22:00", "2000-02-29 01:00"], ["2000-02-28 22:30", "2000-02-28 22:33"]
SECONDS = ["2000-02-28 22:30:01", "2000-02-28 22:31:02"]
HALVES, IN_ORDER = ["2001Q1", "2000Q3"], "in the order of the categories"
ORDERED = pd.Categorical(["low", "high"], ["none", "low", "middle", "high"], ordered=True)
# times → (step, periods, frequency, labels)
TIMES: dict[str, tuple[Any, Any, list[int], str, list[str]]] = {
    "whole numbers": ([2003, 2000, 2001], None, [3, 0, 1], "in steps of 1", ["2003", "2000", "2001"]),
    "small ones": (np.array([3, 250], np.uint8), None, [0, 247], "in steps of 1", ["3", "250"]),
    "negative ones": ([-2, 0, -5], None, [3, 5, 0], "in steps of 1", ["-2", "0", "-5"]),
    "whole numbers as floats": ([2003.0, 2000.0], None, [3, 0], "in steps of 1", YEARS),
    "nullable ones": (pd.array([2003, 2000], "Int64"), None, [3, 0], "in steps of 1", YEARS),
    "of Arrow": (pd.array([2003, 2000], "int64[pyarrow]"), None, [3, 0], "in steps of 1", YEARS),
    "as objects": (np.array([2003, 2000], object), None, [3, 0], "in steps of 1", YEARS),
    "as a category": (pd.Categorical([2003, 2000]), None, [3, 0], "in steps of 1", YEARS),
    "in steps": ([1980, 1990, 1970], 5, [2, 4, 0], "in steps of 5", ["1980", "1990", "1970"]),
    "in steps of numpy": ([1980, 1990, 1970], np.int64(5), [2, 4, 0], "in steps of 5", ["1980", "1990", "1970"]),
    "first days of years": (dates("2003-01-01", "2000-01-01"), None, [3, 0], "yearly", YEARS),
    "days of leap years": (dates("2000-02-29", "2001-02-28"), None, [0, 1], "yearly", ["2000", "2001"]),
    "one date": (dates("2003-05-01 12:30"), None, [0], "yearly", ["2003"]),
    "first days of quarters": (dates("2000-04-01", "2001-01-01"), None, [0, 3], "quarterly", ["2000Q2", "2001Q1"]),
    "last days of quarters": (dates("2000-06-30", "2000-12-31"), None, [0, 2], "quarterly", ["2000Q2", "2000Q4"]),
    "days of months": (dates("2000-01-15", "2000-12-15"), None, [0, 11], "monthly", ["2000-01", "2000-12"]),
    "last days of months": (dates("2000-01-31", "2000-02-29"), None, [0, 1], "monthly", ["2000-01", "2000-02"]),
    "Mondays": (dates("2000-01-17", "2000-01-03"), None, [2, 0], "weekly", WEEKS),
    "days": (dates("2000-02-28", "2000-03-01"), None, [0, 2], "daily", ["2000-02-28", "2000-03-01"]),
    "hours": (dates("2000-02-28T22:30", "2000-02-29T01:30"), None, [0, 3], "hourly", HOURS),
    "minutes": (dates("2000-02-28T22:30", "2000-02-28T22:33"), None, [0, 3], "by the minute", MINUTES),
    "seconds": (dates(*SECONDS), None, [0, 61], "by the second", SECONDS),
    "years somewhere": (dates("2003-01-01", "2000-01-01", zone=BERLIN), None, [3, 0], "yearly", YEARS),
    "days through summer time": (dates(*DAYS, zone=BERLIN), None, [0, 2], "daily", DAYS),
    "Python's dates": (np.array([DATE(2003, 1, 1), DATE(2000, 1, 1)]), None, [3, 0], "yearly", YEARS),
    "dates as a category": (pd.Categorical(dates("2003-01-01", "2000-01-01")), None, [3, 0], "yearly", YEARS),
    "dates beyond nanoseconds": (np.array([DATE(9999, 1, 1), DATE(1, 1, 1)]), None, [9998, 0], "yearly", FAR),
    "any dates of quarters": (dates("2000-01-15", "2000-05-20"), "Q", [0, 1], "quarterly", ["2000Q1", "2000Q2"]),
    "quarters of another year": (dates("2000-06-30", "2000-07-01"), "Q-NOV", [0, 0], "quarterly", ["2000Q3", "2000Q3"]),
    "two months each": (dates("2000-01-15", "2000-09-02"), "2M", [0, 4], "monthly, every 2", ["2000-01", "2000-09"]),
    "years": (pd.PeriodIndex(YEARS, freq="Y"), None, [3, 0], "yearly", YEARS),
    "quarters": (pd.PeriodIndex(QUARTERS, freq="Q"), None, [3, 0], "quarterly", QUARTERS),
    "quarters of fiscal years": (pd.PeriodIndex(QUARTERS, freq="Q-JUN"), None, [3, 0], "quarterly", QUARTERS),
    "quarters as objects": (np.array([pd.Period("2001Q1"), pd.Period("2000Q2")]), None, [3, 0], "quarterly", QUARTERS),
    "half years": (pd.PeriodIndex(HALVES, freq="2Q"), None, [1, 0], "quarterly, every 2", HALVES),
    "quarters taken yearly": (pd.PeriodIndex(["2001Q1", "2003Q2"], freq="Q"), "Y", [0, 2], "yearly", ["2001", "2003"]),
    "an ordered category": (ORDERED, None, [1, 3], IN_ORDER, ["low", "high"]),
    "an ordered category of years": (pd.Categorical([2003, 2000], ordered=True), None, [1, 0], IN_ORDER, YEARS),
}  # fmt: skip


@pytest.mark.parametrize("kind", TIMES)
def test_periods(kind: str) -> None:
    times, step, periods, frequency, labels = TIMES[kind]
    found = index_of(times, step, units=range(len(times)))
    assert found.periods.tolist() == periods
    assert found.frequency == frequency
    assert found.labels(found.periods) == labels
    assert found.codes.tolist() == list(range(len(times)))
    again = found.match(pd.DataFrame({"unit": range(len(times)), "time": times})[1:])
    assert again.periods.tolist() == periods[1:]


# a whole number k, written as a time
AXES: dict[str, Callable[[Array], Any]] = {
    "numbers": lambda k: k,
    "floats": lambda k: k.astype(float),
    "Int64": lambda k: pd.array(k, "Int64"),
    "years": lambda k: pd.PeriodIndex.from_ordinals(k, freq="Y"),
    "quarters": lambda k: pd.PeriodIndex.from_ordinals(k, freq="Q"),
    "three quarters": lambda k: pd.PeriodIndex.from_ordinals(3 * k, freq="3Q"),
    "dates of years": lambda k: pd.PeriodIndex.from_ordinals(k, freq="Y").to_timestamp(),
    "dates of quarters": lambda k: pd.PeriodIndex.from_ordinals(k, freq="Q").to_timestamp(),
    "last days of months": lambda k: pd.PeriodIndex.from_ordinals(k, freq="M").to_timestamp("D", "E").normalize(),
    "weeks": lambda k: pd.Timestamp("2000-01-05") + pd.to_timedelta(7 * k, unit="D"),
    "days": lambda k: pd.Timestamp("2000-01-05") + pd.to_timedelta(k, unit="D"),
    "days somewhere": lambda k: (pd.Timestamp("2000-01-05") + pd.to_timedelta(k, unit="D")).tz_localize("Asia/Tokyo"),
    "Python's dates": lambda k: pd.PeriodIndex.from_ordinals(k, freq="Q").to_timestamp().date,
    "an ordered category": lambda k: pd.Categorical(k.astype(str), [str(j) for j in range(2010)], ordered=True),
}


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_gives_the_same_columns(axis: str) -> None:
    """Of shifts, of first outcomes, and of new rows."""
    formula = "y ~ lag(x) + lead(z, 2) + within(n) + lag(y) + initial(y)"
    data = TABLE.assign(year=AXES[axis](TABLE["year"].to_numpy()))
    found, wanted = model(formula, data), model(formula)
    np.testing.assert_array_equal(found.design.X, wanted.design.X)
    assert found.spec.dropped == wanted.spec.dropped
    np.testing.assert_array_equal(found.design_matrix(data[5:25]), wanted.design_matrix(TABLE[5:25]))


def test_hours_through_summer_time_are_one_after_the_other() -> None:
    """02:00 occurs twice on the last day of summer time, and not at all on its first."""
    for day in ("2020-10-24 20:00", "2020-03-28 20:00"):
        times = pd.date_range(day, periods=12, freq="h", tz="Europe/Berlin")
        assert index_of(times).periods.tolist() == list(range(12))


WRITE_ORDERED = r"pd\.Categorical\(df\['time'\], categories=\[\.\.\.\], ordered=True\)"
# times, step, message
REFUSED: list[tuple[Any, Any, str]] = [
    (["1999", "2000"], None, f"the time time holds str; it must be a whole number, a date.*{WRITE_ORDERED}"),
    ([True, False], None, "the time time holds bool; it must be a whole number"),
    (pd.to_timedelta([1, 2], unit="D"), None, "the time time holds timedelta64"),
    (np.array([DATE(2000, 1, 1), "2001"], object), None, "the time time holds object; it must be a whole number"),
    (pd.Categorical(["a", "b"]), None, f"is a category without an order; make it ordered, as in {WRITE_ORDERED}"),
    ([2000.5, 2001], None, r"must be a whole number, and 1 rows are not \(rows 0\), such as 2000\.5"),
    ([2000.0, np.inf], None, r"must be a whole number, and 1 rows are not \(rows 1\), such as inf"),
    ([1980, 1983, 1987, 1990], 5, r"in steps of 5 from 1980, but 2 rows lie between two of them \(rows 1, 2\)"),
    ([1980, 1983], "Q", "is a number, so its step is a whole number of 1 or more, not 'Q'"),
    ([1980, 1983], 0, "is a number, so its step is a whole number of 1 or more, not 0"),
    ([1980, 1983], 2.5, "is a number, so its step is a whole number of 1 or more, not 2.5"),
    ([1980, 1983], True, "is a number, so its step is a whole number of 1 or more, not True"),
    (dates("2000-01-01", "2001-01-01"), 2, "is a date, so its frequency is text such as 'Y', 'Q' or 'M', not 2"),
    (dates("2000-01-01", "2001-01-01"), "decade", "'decade' is not a frequency of dates; examples are 'Y', 'Q'"),
    (ORDERED, 2, "is an ordered category, whose periods are its categories; give no step"),
    ([None, None], None, "no row has both unit and time"),
    ([pd.Period("2000", "Y"), pd.Period("2001-02", "M")], None, "the time time holds periods of several lengths"),
    ([pd.Timestamp("2000"), pd.Timestamp("2001", tz="UTC")], None, "holds object, not dates: .*[Tt]z-aware"),
    ([0, 2**62], 1, "goes in steps of 1 over too many periods; state a coarser step or frequency"),
    ([1e20, 2e20], None, "the time time"),  # beyond whole numbers of 64 bits
    (np.array([0, 2**64 - 1], np.uint64), None, "the time time"),
]  # fmt: skip


@pytest.mark.parametrize(("times", "step", "message"), REFUSED)
def test_times_that_are_refused(times: Any, step: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        index_of(times, step, units=range(len(times)))


def test_a_step_of_numpy_is_kept_as_a_plain_number() -> None:
    _, _, step = named(("unit", "year", np.int64(2)), TABLE) or ("", "", None)
    assert type(step) is int


# units, times, step, message
TWICE: list[tuple[list[Any], Any, Any, str]] = [
    (
        [1, 2, 1, 2, 2], [2000, 2000, 2000, 2001, 2001], None,
        r"\(unit, time\) must occur once, but 4 rows share theirs with another, the first: unit 1, time 2000 in rows "
        r"r0, r2$",
    ),
    (["a", "b", "a"], [5.0, 5.0, 5.0], None, "2 rows share theirs with another, the first: unit a, time 5 in rows"),
    (
        [1, 1, 2], dates("2000-01-31", "2000-01-05", "2000-01-05"), "M",
        r"unit 1, time 2000-01 in rows r0, r1 \(times are taken monthly; panel=\(unit, time, frequency\) states",
    ),
    ([1, 1, 1], pd.PeriodIndex(["2000Q1", "2000Q2", "2000Q3"], freq="2Q"), None, "unit 1, time 2000Q1 in rows r0, r1 "),
    ([1, 1], pd.Categorical(["b", "b"], ["a", "b"], ordered=True), None, "unit 1, time b in rows r0, r1$"),
    ([3] * 9, [7] * 9, None, "9 rows share theirs with another, the first: unit 3, time 7 in rows r0, r1, r2, r3, r4$"),
]  # fmt: skip


@pytest.mark.parametrize(("units", "times", "step", "message"), TWICE)
def test_a_unit_and_period_that_occur_twice(units: Any, times: Any, step: Any, message: str) -> None:
    data = pd.DataFrame({"unit": units, "time": times}).rename("r{}".format)
    with pytest.raises(DataError, match=message):
        panel_of(data, ("unit", "time", step))


def test_rows_without_unit_or_time_stand_nowhere() -> None:
    missing = TABLE.assign(unit=TABLE["unit"].astype("Int64"), year=TABLE["year"].astype(float))
    missing.iloc[3, 0], missing.iloc[[5, 6], 1] = NA, np.nan
    found = panel_of(missing, PANEL)
    assert np.flatnonzero(found.codes < 0).tolist() == [3, 5, 6]
    left = missing.drop(missing.index[[3, 5, 6]])
    with_them, without = model("y ~ lag(x) + within(z)", missing), model("y ~ lag(x) + within(z)", left)
    np.testing.assert_array_equal(with_them.design.X, without.design.X)
    assert with_them.spec.dropped == (("unit", 1), ("year", 2), *without.spec.dropped)


def test_two_levels_of_an_index_are_a_panel() -> None:
    wanted = model("y ~ lag(x) + within(z)")
    indexed = TABLE.set_index(["unit", "year"])
    for found in (model("y ~ lag(x) + within(z)", indexed, None), model("y ~ lag(x) + within(z)", indexed)):
        np.testing.assert_array_equal(found.design.X, wanted.design.X)
        assert found.spec.panel == wanted.spec.panel
        assert found.design_matrix(indexed[4:9]).index.equals(indexed.index[4:9])
    assert model("y ~ x", indexed, None).spec.panel is None
    for names in (["unit", None], [None, None]):
        with pytest.raises(FormulaError, match=r"give panel=\(unit, time\)"):
            model("y ~ lag(x)", indexed.rename_axis(names), None)
    with pytest.raises(FormulaError, match=r"give panel=\(unit, time\)"):
        model("y ~ lag(x)", TABLE.set_index(["unit", "year", "n"]), None)


def test_any_table_is_a_panel() -> None:
    wanted = model("y ~ lag(x) + within(z)")
    for data in (pl.from_pandas(TABLE), TABLE.to_dict("list"), pl.from_pandas(TABLE).to_arrow()):
        found = model("y ~ lag(x) + within(z)", data)
        np.testing.assert_array_equal(found.design.X, wanted.design.X)
        assert found.spec.panel == wanted.spec.panel


def test_facts_are_those_of_the_rows_that_are_used() -> None:
    balanced = model("y ~ lag(x)", BALANCED).spec.panel
    assert balanced is not None
    assert (balanced.unit, balanced.time, balanced.frequency) == (*PANEL, "in steps of 1")
    assert (balanced.units, balanced.periods, balanced.balanced) == (8, 5, True)
    found = model("y ~ lag(x)")
    used = TABLE.loc[found.design.index]
    assert found.spec.panel is not None
    assert (found.spec.panel.units, found.spec.panel.periods) == (used["unit"].nunique(), used["year"].nunique())
    assert not found.spec.panel.balanced
    assert found.design.units is not None
    assert found.design.units.tolist() == pd.factorize(used["unit"], sort=True)[0].tolist()


def test_facts_count_periods_of_the_stated_frequency() -> None:
    """Two units, in two quarters each, on four different days."""
    day = dates("2000-01-15", "2000-05-20", "2000-02-02", "2000-06-01")
    data = pd.DataFrame({"unit": [1, 1, 2, 2], "day": day, "y": [1.0, 2, 4, 3], "x": [1.0, 0, 1, 5]})
    facts = model("y ~ x", data, ("unit", "day", "Q")).spec.panel
    assert facts is not None
    assert (facts.frequency, facts.units, facts.periods, facts.balanced) == ("quarterly", 2, 2, True)


places = st.tuples(st.integers(0, 3), st.integers(-4, 6))


@REPRODUCIBLE
@given(
    st.lists(places, min_size=1, max_size=12, unique=True), st.lists(st.tuples(st.integers(-1, 6), st.integers(-9, 20)))
)
def test_rows_at_is_a_dictionary(there: list[tuple[int, int]], wanted: list[tuple[int, int]]) -> None:
    """Also of units and periods that are beyond the table."""
    found = panel_of(pd.DataFrame(there, columns=["unit", "time"]), ("unit", "time"))
    row = {place: k for k, place in enumerate(zip(found.codes, found.periods, strict=True))}
    asked = np.array(wanted, dtype=int).reshape(-1, 2)
    assert found.rows_at(asked[:, 0], asked[:, 1]).tolist() == [row.get(place, -1) for place in wanted]
    first, last = found.ends()
    for code in range(len(found.levels)):
        periods = [period for unit, period in row if unit == code]
        assert (first[code], last[code]) == (min(periods), max(periods))


@REPRODUCIBLE
@given(st.lists(places, min_size=1, max_size=8, unique=True), st.lists(places, min_size=1, max_size=8, unique=True))
def test_match_numbers_other_rows_alike(old: list[tuple[int, int]], new: list[tuple[int, int]]) -> None:
    index = panel_of(pd.DataFrame(old, columns=["unit", "time"]), ("unit", "time"))
    found = index.match(pd.DataFrame(new, columns=["unit", "time"]))
    assert [int(found.levels[code]) for code in found.codes] == [unit for unit, _ in new]
    assert found.levels[: len(index.levels)].equals(index.levels)
    assert found.labels(found.periods) == [str(time) for _, time in new]
    assert found.rows_at(found.codes, found.periods).tolist() == list(range(len(new)))
    first, last = found.ends()
    for code in np.unique(found.codes):
        periods = found.periods[found.codes == code]
        assert (first[code], last[code]) == (periods.min(), periods.max())


YEARLY = pd.date_range("2000-12-31", periods=2, freq="YE")


@pytest.mark.parametrize(
    ("of_fit", "new", "message"),
    [
        (YEARLY, [2000], "holds numbers, and the times of this panel are dates"),
        (YEARLY, [2000.0], "holds numbers, and the times of this panel are dates"),
        (YEARLY, np.array([2000], dtype=object), "holds numbers, and the times of this panel are dates"),
        (pd.period_range("2000", periods=2, freq="Y"), [2000], "holds numbers, and the times of this panel are dates"),
        ([2000, 2001], YEARLY[:1], "and the times of this panel are whole numbers"),
        ([2000, 2001], YEARLY[:1].tz_localize("UTC"), "and the times of this panel are whole numbers"),
        ([2000, 2001], pd.period_range("2000", periods=1, freq="Y"), "and the times of this panel are whole numbers"),
        ([2000, 2001], ["late"], "holds str, and the times of this panel are whole numbers"),
    ],
)
def test_match_refuses_times_of_another_kind(of_fit: Any, new: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        index_of(of_fit).match(pd.DataFrame({"unit": [1], "time": new}))


def test_match_reads_times_that_are_written_as_text() -> None:
    for times, text in ((YEARLY, "2001"), (YEARLY, "2001-12-31"), ([2000, 2001], "2001")):
        assert index_of(times).match(pd.DataFrame({"unit": [1], "time": [text]})).periods.tolist() == [1]


def test_match_refuses_what_the_axis_does_not_have() -> None:
    with pytest.raises(DataError, match="the time time has no such category as huge"):
        index_of(ORDERED, units=[1, 2]).match(pd.DataFrame({"unit": [1], "time": ["huge"]}))
    with pytest.raises(DataError, match="goes in steps of 5 from 1980, but 1 rows lie between"):
        index_of([1980, 1985], 5).match(pd.DataFrame({"unit": [1], "time": [1991]}))
    with pytest.raises(DataError, match=r"\(unit, time\) must occur once"):
        index_of([1980, 1985]).match(pd.DataFrame({"unit": [7, 7], "time": [1991, 1991]}))


# --- shifts -----------------------------------------------------------------------------------------------------------

Column = Mapping[tuple[int, int], float | None]


def dumb(text: str, x: Column) -> Column:
    """A shift by a dictionary of (unit, time) → value."""
    word = words_in(text)[-1]
    inner = dumb(word.inner, x) if words_in(word.inner) else x
    sign = 1 if word.kind == "lead" else -1
    found = {}
    for unit, time in x:
        other, own = inner.get((unit, time + sign * word.k)), inner[unit, time]
        missing = other is None or (word.kind == "diff" and own is None)
        found[unit, time] = None if missing else own - other if word.kind == "diff" else other
    return found


SHIFTS = [f"{word}(x, {k})" for word in ("lag", "lead", "diff") for k in (1, 2, 3)]
NESTED = ["lag(diff(x))", "diff(lag(x))", "lead(lag(x))", "lag(lag(x), 2)", "diff(diff(x))"]
panels = st.dictionaries(places, st.one_of(st.none(), st.integers(-99, 99).map(float)), min_size=1, max_size=16)


def as_table(x: Column) -> pd.DataFrame:
    values = np.array([np.nan if value is None else value for value in x.values()])
    return pd.DataFrame({"unit": [u for u, _ in x], "time": [t for _, t in x], "x": values})


@pytest.mark.parametrize("text", [*SHIFTS, *NESTED])
@REPRODUCIBLE
@given(x=panels)
def test_shifts_are_those_of_a_dictionary(text: str, x: Column) -> None:
    """Whatever the order of the rows; every missing value has one cause."""
    data = as_table(x)
    found = shift(words_in(text), panel_of(data, ("unit", "time")), data, {})[-1]
    assert [None if np.isnan(value) else value for value in found.values] == list(dumb(text, x).values())
    assert sum(rows.astype(int) for _, rows in found.missing).tolist() == found.values.isna().tolist()


@REPRODUCIBLE
@given(x=panels, k=st.integers(1, 3))
def test_causes_of_missing_values(x: Column, k: int) -> None:
    data = as_table(x)
    for kind, by in (("lag", -k), ("lead", k)):
        (found,) = shift([Word("s", kind, "x", k)], panel_of(data, ("unit", "time")), data, {})
        for row, (unit, time) in enumerate(x):
            times = [other for u, other in x if u == unit]
            causes = [
                not min(times) <= time + by <= max(times),
                min(times) <= time + by <= max(times) and time + by not in times,
                time + by in times and x[unit, time + by] is None,
            ]
            assert [bool(rows[row]) for _, rows in found.missing] == causes


@pytest.mark.parametrize("more", [[], [(3, 2002)], [(3, 2001), (3, 2002), (3, 2003)]])
def test_differences_do_not_cross_gaps_and_units(more: list[tuple[int, int]]) -> None:
    """plm differences 2003 and 2001; linearmodels does once another unit has no 2002."""
    there = [(1, 2000), (1, 2001), (1, 2003), (2, 2000), (2, 2001), *more]
    data = pd.DataFrame(there, columns=list(PANEL)).assign(y=[1.2, 1.9, 4.6, 0.3, 1.6, 5.0, 7.0, 9.5][: len(there)])
    found = model("diff(y) ~ 1", data[::-1]).design
    own = data["unit"].loc[found.index].to_numpy() < 3
    np.testing.assert_allclose(sorted(found.y[own]), [0.7, 1.3])
    assert found.n == 2 + sum(unit == 3 and (3, year - 1) in more for unit, year in more)


def shifted(word: str, name: str, k: int = 1, data: pd.DataFrame = TABLE) -> pd.Series:
    """A shifted column of the table by a dictionary, NaN where there is none."""
    there = dict(zip(zip(data["unit"], data["year"], strict=True), data[name], strict=True))
    sign = 1 if word == "lead" else -1
    other = [there.get((u, t + sign * k), np.nan) for u, t in zip(data["unit"], data["year"], strict=True)]
    values = pd.Series(other, index=data.index)
    return data[name] - values if word == "diff" else values


@pytest.mark.parametrize("word", ["lag", "lead", "diff"])
@pytest.mark.parametrize(
    ("formula", "of", "k"),
    [
        ("y ~ {}(x)", lambda v: v, 1),
        ("y ~ {}(n, 2)", lambda v: v, 2),
        ("y ~ exp({}(x, 1))", np.exp, 1),
        ("y ~ I({}(x, k=3)**2)", lambda v: v**2, 3),
    ],
)
def test_columns_of_shifts(word: str, formula: str, of: Callable[[Any], Any], k: int) -> None:
    name = "n" if "(n" in formula else "x"
    wanted = of(shifted(word, name, k)).dropna()
    found = model(formula.format(word)).design
    assert found.index.tolist() == wanted.index.tolist()
    np.testing.assert_allclose(found.X[:, 1], wanted, rtol=1e-14)


LAGGED = shifted("lag", "h").dropna()
B = pd.Series(TABLE["b"], dtype=object)
BEFORE = shifted("lag", "b", data=TABLE.assign(b=B)).dropna().astype(float)
# (values of h, columns of lag(h), levels of those columns)
DTYPES: dict[str, tuple[Any, list[str]]] = {
    "text": (TABLE["h"], ["q", "r"]),
    "objects": (TABLE["h"].astype(object), ["q", "r"]),
    "strings": (TABLE["h"].astype("string"), ["q", "r"]),
    "a category": (TABLE["h"].astype("category"), ["q", "r"]),
    "an ordered category": (pd.Categorical(TABLE["h"], ["unused", "r", "q", "p"], ordered=True), ["q", "p"]),
}


@pytest.mark.parametrize("kind", DTYPES)
def test_lags_of_levels(kind: str) -> None:
    values, levels = DTYPES[kind]
    found = model("y ~ lag(h)", TABLE.assign(h=values)).design
    assert found.coefs == ("Intercept", *(f"lag(h)[{level}]" for level in levels))
    assert found.index.tolist() == LAGGED.index.tolist()
    np.testing.assert_array_equal(found.X[:, 1:], np.stack([LAGGED.eq(level) for level in levels], axis=1))


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object", "bool[pyarrow]"])
def test_lags_and_differences_of_truth_values(dtype: str) -> None:
    data = TABLE.assign(b=TABLE["b"].astype(dtype))
    np.testing.assert_array_equal(column("y ~ lag(b)", "lag(b)", data), BEFORE)
    if dtype != "object":
        now = TABLE["b"][BEFORE.index].astype(float)
        np.testing.assert_array_equal(column("y ~ diff(b)", "diff(b)", data), now - BEFORE)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "Int64", "float32", "Float64", "int64[pyarrow]"])
def test_shifts_of_numbers_of_any_type(dtype: str) -> None:
    """Differences of unsigned numbers too, which would wrap."""
    data = TABLE.assign(n=TABLE["n"].astype(dtype))
    for text in ("lag(n)", "diff(n)", "lag(I(n * 100))"):
        np.testing.assert_array_equal(column(f"y ~ {text}", text, data), column(f"y ~ {text}", text))


@pytest.mark.parametrize(
    "values", [dates(*["2000-01-01"] * len(TABLE)), pd.PeriodIndex(TABLE["year"].astype(str), freq="Y")]
)
def test_dates_are_no_regressors(values: Any) -> None:
    data = TABLE.assign(d=values)
    with pytest.raises(DataError, match=r"lag\(d\) is a column of .* which has no unit as a regressor"):
        model("y ~ lag(d)", data)
    with pytest.raises(DataError, match=r"diff\(d\) takes differences of numbers, and d holds"):
        model("y ~ diff(d)", data)
    with pytest.raises(DataError, match=r"diff\(h\) takes differences of numbers, and h holds"):
        model("y ~ diff(h)")


def test_only_the_other_period_of_a_shift_must_be_there() -> None:
    """A row whose own x is missing is used where only lag(x) is."""
    data = BALANCED.assign(x=BALANCED["x"].where(BALANCED.index != 3))
    found = model("y ~ lag(x)", data)
    assert 3 in found.design.index
    assert 4 not in found.design.index
    assert found.spec.dropped == (("lag(x) before a unit's first period", 8), ("lag(x) of a missing x", 1))
    assert 3 not in model("y ~ lag(x) + x", data).design.index
    assert 3 not in model("y ~ I(lag(x) + x)", data).design.index


@pytest.mark.parametrize("text", ["lag(diff(x))", "lag(lag(x))", "lead(lag(x))", "log(lag(lag(x)))"])
def test_of_nested_shifts_only_the_outer_one_must_be_there(text: str) -> None:
    places = zip(BALANCED["unit"], BALANCED["year"], strict=True)
    x: dict[tuple[int, int], float | None] = dict(zip(places, BALANCED["x"], strict=True))
    x[0, 2003] = None
    data = BALANCED.assign(x=np.array(list(x.values()), dtype=float))
    wanted = dumb(text.removeprefix("log(").rstrip(")") + "))", x).values()
    assert model(f"y ~ {text}", data).design.index.tolist() == [
        k for k, value in enumerate(wanted) if value is not None
    ]


COUNTED = [
    "y ~ lag(x)", "y ~ lag(x, 2) + lead(z)", "diff(y) ~ diff(x) + h", "y ~ lag(diff(x)) + within(z)",
    "y ~ lag(y) + initial(y) + x", "between(y) ~ between(lag(x))", "y ~ x + offset(lag(z)) + (1 | unit)",
    "y ~ z + (0 + lag(x) | g)",
]  # fmt: skip


@pytest.mark.parametrize("formula", COUNTED)
def test_every_dropped_row_is_counted_once(formula: str, made: Callable[..., Fit]) -> None:
    data = TABLE.assign(x=TABLE["x"].where(TABLE["n"] != 3), z=TABLE["z"].where(TABLE["n"] != 5))
    fit = made(formula, data, draws=50, panel=PANEL)
    spec = fit.spec
    assert sum(count for _, count in spec.dropped) == spec.n_total - spec.n - spec.joined > 0
    why = ", ".join(f"{cause} in {count}" for cause, count in spec.dropped)
    assert spec.rows_used.endswith(f"{spec.n_total - spec.n - spec.joined} dropped (missing: {why})")
    for text in (
        str(fit.summary()),
        fit.summary()._repr_html_().replace("&#x27;", "'"),
        model(formula, data).explain(),
    ):
        assert "".join(spec.rows_used.split()) in "".join(text.split())


def test_a_table_without_any_lag_says_why() -> None:
    with pytest.raises(DataError, match=r"of 33 rows, missing are lag\(x, 6\) before a unit's first period \(33\)"):
        model("y ~ lag(x, 6)")
    with pytest.raises(HierpanelError):
        model("y ~ lag(x, 99999999999999999999)")  # more than a whole number of 64 bits holds


# --- within and between -----------------------------------------------------------------------------------------------


def mean_of_units(columns: Array, units: Any, w: Array | None = None) -> Array:
    w = np.ones(len(columns)) if w is None else w
    units = np.asarray(units)
    return np.stack([np.average(columns[units == unit], axis=0, weights=w[units == unit]) for unit in units])


INNER = [
    "x", "n", "b", "h", "log(x)", "I(x * z)", "scale(x)", "bs(x, df=4)", "poly(x, 2)", "C(n)", "C(h, Sum)", "I(x > 3)",
    "lag(x)", "lag(h)", "diff(log(x))", "C(lag(h))", "bs(lag(x), df=4)",
]  # fmt: skip


@pytest.mark.parametrize(("by", "weights"), [("", None), ("", "w"), (", by=half", "w")])
@pytest.mark.parametrize("inner", INNER)
def test_parts_add_up_to_the_column_and_are_those_of_groupby(inner: str, by: str, weights: str | None) -> None:
    """Of every column that x is coded as, on the rows that are used."""
    whole = model(f"y ~ {inner}", weights=weights).design
    used = TABLE.loc[whole.index]
    means = mean_of_units(whole.X[:, 1:], used["half" if by else "unit"], whole.weights)
    for word, wanted in (("within", whole.X[:, 1:] - means), ("between", means)):
        found = model(f"y ~ {word}({inner}{by})", weights=weights).design
        names = [label.replace(inner, f"{word}({inner}{by})", 1) for label in whole.coefs[1:]]
        assert found.coefs == ("Intercept", *names)
        assert found.index.tolist() == whole.index.tolist()
        np.testing.assert_allclose(found.X[:, 1:], wanted, atol=1e-13)


def test_parts_are_taken_on_the_rows_that_are_used() -> None:
    data = TABLE.assign(z=TABLE["z"].where(TABLE["n"] != 3))
    found = model("y ~ within(x) + between(x) + lag(z)", data).design
    used = data.loc[found.index]
    assert len(used) < len(data) - (data["n"] == 3).sum()
    means = used.groupby("unit")["x"].transform("mean")
    np.testing.assert_allclose(found.X[:, 1], used["x"] - means, atol=1e-14)
    np.testing.assert_allclose(found.X[:, 2], means, atol=1e-14)


def test_parts_inside_terms_and_functions() -> None:
    w, m = column("y ~ within(x)", "within(x)"), column("y ~ between(x)", "between(x)")
    hw = model("y ~ within(h)").design.X[:, 1:]
    z, n = TABLE["z"].to_numpy(), TABLE["n"].to_numpy()
    wanted: dict[str, Any] = {
        "within(x):z": w * z,
        "within(x):between(z)": w * column("y ~ between(z)", "between(z)"),
        "exp(within(x))": np.exp(w),
        "I(within(x)**2 + between(x) * n)": w**2 + m * n,
        "log(between(x))": np.log(m),
    }
    for text, values in wanted.items():
        np.testing.assert_allclose(model(f"y ~ {text}").design.X[:, 1], values, rtol=1e-12, atol=1e-15)
    found = model("y ~ within(h):z").design
    assert found.coefs == ("Intercept", "within(h)[q]:z", "within(h)[r]:z")
    np.testing.assert_allclose(found.X[:, 1:], hw * z[:, None], atol=1e-15)
    assert model("y ~ within(x)*h").design.coefs[1:] == (
        "within(x)", "h[q]", "h[r]", "within(x):h[q]", "within(x):h[r]",
    )  # fmt: skip


def test_parts_in_bars_and_offsets() -> None:
    w, m = column("y ~ within(x)", "within(x)"), column("y ~ between(x)", "between(x)")
    (group,) = model("y ~ z + (1 + within(x) | g)").design.groups
    assert group.coefs == ("Intercept", "within(x)")
    np.testing.assert_array_equal(group.Z[:, 1], w)
    (group,) = model("y ~ z + (0 + mundlak(x) || g)").design.groups
    assert group.coefs == ("within(x)", "between(x)")
    np.testing.assert_array_equal(group.Z, np.stack([w, m], axis=1))
    np.testing.assert_array_equal(model("y ~ z + offset(within(x))").design.offset, w)


def test_the_order_of_rows_does_not_matter() -> None:
    formula = "y ~ lag(x) + diff(z) + mundlak(n + h) + within(x, by=g) + lag(y) + initial(y)"
    found = model(formula, weights="w")
    other = model(formula, TABLE.sort_values(["year", "unit"]), weights="w")
    assert (other.spec.coefs, other.spec.dropped) == (found.spec.coefs, found.spec.dropped)
    pd.testing.assert_frame_equal(other.design_matrix().loc[found.design.index], found.design_matrix(), rtol=1e-13)


# (columns of BALANCED and formula → coefficients, notes)
LEFT_OUT: list[tuple[str, list[str], list[str]]] = [
    ("within(c)", [], ["c does not vary within unit: no within(c)"]),
    ("mundlak(c)", ["between(c)"], ["c does not vary within unit: no within(c)"]),
    ("mundlak(year)", ["within(year)"], ["year has the same mean in every unit: no between(year)"]),
    (
        "mundlak(k)", ["between(k)[v]", "between(k)[w]"],
        ["k[v] does not vary within unit: no within(k)[v]", "k[w] does not vary within unit: no within(k)[w]"],
    ),
    ("within(c):z", [], ["c does not vary within unit: no within(c)"]),
    ("within(lag(c))", [], ["lag(c) does not vary within unit: no within(lag(c))"]),
    ("within(log(c))", [], ["log(c) does not vary within unit: no within(log(c))"]),
    ("within(I((c + c) * 2))", [], ["I((c + c) * 2) does not vary within unit: no within(I((c + c) * 2))"]),
    ("between(g, by=g)", ["between(g, by=g)[south]", "between(g, by=g)[west]"], []),
    ("mundlak(x)", ["within(x)", "between(x)"], []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "coefs", "notes"), LEFT_OUT)
def test_columns_that_say_nothing_are_left_out(text: str, coefs: list[str], notes: list[str]) -> None:
    found = model(f"y ~ z + {text}", BALANCED)
    assert found.spec.coefs == ("Intercept", "z", *coefs)
    assert list(found.spec.notes) == notes
    explained = "".join(found.explain().split())
    assert all("".join(f"Note: {note}.".split()) in explained for note in notes)


def test_a_note_says_by_which_unit() -> None:
    spec = model("y ~ z + within(g, by=g) + within(c, by=unit)", BALANCED).spec
    assert spec.coefs == ("Intercept", "z")
    assert [note.split(":")[0] for note in spec.notes] == [
        "g[south] does not vary within g", "g[west] does not vary within g", "c does not vary within unit",
    ]  # fmt: skip


@pytest.mark.parametrize("weights", [None, "w"])
def test_rounding_is_no_variation_and_small_variation_is(weights: str | None) -> None:
    rng = np.random.default_rng(5)
    noise, levels = rng.normal(size=len(BALANCED)), rng.normal(size=8)[BALANCED["unit"]]
    columns = {
        # x, whether it varies within and between
        "constant, far from 0, but for the last digits": (1e6 + 1e-10 * noise, False, False),
        "constant within, but for the last digits": (1e6 + levels + 1e-10 * noise, False, True),
        "constant within, of numbers without an exact mean": (1e6 + 0.1 * levels, False, True),
        "small variation far from 0": (1e6 + 1e-3 * noise, True, True),
        "small variation beside that between": (1e6 + levels + 1e-6 * noise, True, True),
        "small numbers": (1e-12 * noise, True, True),
        "the same mean": (1e6 + BALANCED["year"], True, weights is not None),
    }
    for x, inside, across in columns.values():
        spec = model("y ~ z + mundlak(x)", BALANCED.assign(x=x), weights=weights).spec
        assert spec.coefs[2:] == ("within(x)",) * inside + ("between(x)",) * across


@pytest.mark.parametrize("text", ["scale(within(c))", "I(within(c) * z)", "I(2 * within(c))", "exp(within(c))"])
def test_what_rounding_leaves_is_no_regressor(text: str) -> None:
    """c does not vary within: scaled to 1, the last digits of its means would pass for a column."""
    with pytest.raises(HierpanelError):
        model(f"y ~ x + {text}", BALANCED)


def test_a_bar_in_which_no_column_is_left_is_refused() -> None:
    with pytest.raises(HierpanelError):
        model("y ~ x + (0 + within(c) | g)", BALANCED)


def test_a_column_of_one_level_is_refused() -> None:
    with pytest.raises(DataError, match="h"):
        model("y ~ x + within(h)", TABLE.assign(h="p"))


def test_inside_a_function_a_part_is_one_column() -> None:
    message = r"within\(h\) has 2 columns \(within\(h\)\[q\], within\(h\)\[r\]\), so it cannot stand inside I\("
    with pytest.raises(DataError, match=message):
        model("y ~ I(within(h) * 2)")


QUOTED = ["within(`my x`)", "between(`my h`)", "within(lag(`my x`))", "log(between(`my x`))", "within(x, by=`my g`)"]


@pytest.mark.parametrize("text", [*QUOTED, "lag(`my h`)", "within(x):lag(`my x`)", "within(tick)"])
def test_names_in_backquotes(text: str) -> None:
    """Also levels that hold a backquote."""
    data = TABLE.assign(**{"my x": TABLE["x"], "my h": TABLE["h"], "my g": TABLE["g"], "tick": "`" + TABLE["h"]})
    plain = text.replace("`my x`", "x").replace("`my h`", "h").replace("`my g`", "g").replace("tick", "h")
    found, wanted = model(f"y ~ {text}", data), model(f"y ~ {plain}")
    np.testing.assert_array_equal(found.design.X, wanted.design.X)
    np.testing.assert_array_equal(found.design_matrix(data[3:9]), wanted.design_matrix(TABLE[3:9]))


def test_by_may_name_the_unit_of_the_panel() -> None:
    wanted = model("y ~ within(x) + I(between(x)**2)").design.X
    for text in ("within(x, by=unit) + I(between(x, by=unit)**2)", "within(x) + I(between(x, by=unit)**2)"):
        np.testing.assert_array_equal(model(f"y ~ {text}").design.X, wanted)
    np.testing.assert_array_equal(model("y ~ within(x, by=unit)", panel=None).design.X[:, 1], wanted[:, 1])


# --- the fixed-effects estimate ---------------------------------------------------------------------------------------


def conditional_means(fitted: hp.Model) -> Array:
    """E[β | y, ψ] of the slopes, which are the same on centred columns, (P, p - 1), at several ψ."""
    M = marginal(fitted.spec, moments(fitted.design))
    psi = M.start + np.array([[0.0, 0.0], [-3.0, 0.0], [2.0, -1.0], [-1.0, 3.0]])  # log sds of units and residuals
    return M.draw(psi, lambda factor, levels, shape: np.zeros(shape)).beta_c[:, 1:]


def fixed_effects(plain: hp.Model, data: pd.DataFrame) -> Array:
    """Least squares of y on the columns of a model and on dummies of the units."""
    design = plain.design
    dummies = pd.get_dummies(data.loc[design.index, "unit"]).to_numpy(float)
    root = np.ones((design.n, 1)) if design.weights is None else np.sqrt(design.weights)[:, None]
    A = np.concatenate([design.X[:, 1:], dummies], axis=1)
    return np.linalg.lstsq(root * A, root[:, 0] * design.y, rcond=None)[0][: len(design.coefs) - 1]


# (right side, whose first slopes are the fixed-effects estimates; the right side that these are of)
SPLIT = [
    ("within(x) + within(n)", "x + n"),
    ("mundlak(x + n)", "x + n"),
    ("mundlak(x + n) + c + k", "x + n"),
    ("x + n + between(x) + between(n)", "x + n"),
    ("mundlak(x + h + b)", "x + h + b"),
    ("mundlak(bs(x, df=4))", "bs(x, df=4)"),
    ("mundlak(lag(x) + lag(h) + n)", "lag(x) + lag(h) + n"),
    ("mundlak(diff(x))", "diff(x)"),
    ("mundlak(x + n + C(year))", "x + n + C(year)"),
]


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("data", [BALANCED, TABLE], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize(("split", "plain"), SPLIT)
def test_within_has_the_fixed_effects_estimate(split: str, plain: str, data: Any, weights: str | None) -> None:
    """Whatever the sds are: the unit effects, and all columns that do not vary within, are orthogonal to it."""
    fitted = model(f"y ~ {split} + (1 | unit)", data, priors={"beta": hp.Prior("Flat")}, weights=weights)
    wanted = fixed_effects(model(f"y ~ {plain}", data, weights=weights), data)
    for slopes in conditional_means(fitted):
        np.testing.assert_allclose(slopes[: len(wanted)], wanted, rtol=1e-6)


@pytest.mark.parametrize("data", [BALANCED, TABLE], ids=["balanced", "unbalanced"])
def test_years_must_be_split_too_unless_the_panel_is_balanced(data: pd.DataFrame) -> None:
    """The unit means of year dummies are those of all units only in a balanced panel."""
    fitted = model("y ~ mundlak(x + n) + C(year) + (1 | unit)", data, priors={"beta": hp.Prior("Flat")})
    wanted = fixed_effects(model("y ~ x + n + C(year)", data), data)[:2]
    for slopes in conditional_means(fitted):
        assert np.allclose(slopes[:2], wanted, rtol=1e-6, atol=0) == (data is BALANCED)


# --- new rows ---------------------------------------------------------------------------------------------------------

AGAIN = [
    "y ~ lag(x) + lead(z, 2)", "y ~ lag(diff(x)) + n", "diff(y) ~ diff(x)", "y ~ lag(y)*x", "exp(y) ~ lag(exp(y))",
    "y ~ lag(h)*within(x)", "y ~ C(lag(h), Sum) + lag(b)", "y ~ scale(lag(x)) + scale(within(z))",
    "y ~ mundlak(x + h + b)", "y ~ within(x, by=g) + between(h, by=g)", "y ~ mundlak(bs(x, df=4))",
    "y ~ mundlak(poly(x, 2))", "y ~ within(C(h, Sum))", "y ~ within(lag(h)):x", "y ~ I(within(x)**2) + log(between(x))",
    "y ~ mundlak(c + x)", "y ~ lag(year) + x", "y ~ lag(y) + initial(y) + x + (1 | unit)",
    "y ~ lag(y) + log(initial(y) + 9) + h", "within(y) ~ within(x)", "between(y) ~ between(x) + c",
    "y ~ x + offset(lag(z)) + (0 + lag(n) | g)", "y ~ mundlak(x + n) + (1 | unit) + (1 | year)",
    # only a bar or an offset splits z
    "y ~ x + (0 + within(z) | g)", "y ~ x + (0 + within(z, by=unit) | g)", "y ~ x + offset(within(z))",
]  # fmt: skip


@pytest.mark.parametrize("formula", AGAIN)
def test_the_rows_of_the_fit_are_coded_as_they_were(formula: str) -> None:
    """In any order, and one by one."""
    found = model(formula, weights="w")
    whole = found.design_matrix(TABLE)
    assert whole.index.equals(TABLE.index)
    used = whole.loc[found.design.index]
    np.testing.assert_array_equal(used, found.design.X)
    if not found.spec.joined:
        assert whole.isna().all(axis=1).sum() == whole.isna().any(axis=1).sum() == found.spec.n_total - found.spec.n
    order = np.random.default_rng(2).permutation(len(TABLE))
    pd.testing.assert_frame_equal(found.design_matrix(TABLE.iloc[order]), whole.iloc[order])
    for label in found.design.index[:3]:
        pd.testing.assert_frame_equal(found.design_matrix(TABLE.loc[[label]]), whole.loc[[label]])


@pytest.mark.parametrize(
    "kind", [lambda u: u, lambda u: "u" + u.astype(str), lambda u: ("u" + u.astype(str)).astype("category")]
)
def test_rows_of_known_and_unknown_units(kind: Callable[[pd.Series], Any]) -> None:
    """Another period is one of the fit's rows or a new one; an unknown unit stands at the grand mean."""
    data = BALANCED.assign(unit=kind(BALANCED["unit"]))
    found = model("y ~ lag(x) + mundlak(z) + lag(y) + initial(y) + between(lag(x))", data, weights="w")
    new = pd.DataFrame(
        {
            "unit": [0, 0, 0, 99, 99, 1],
            "year": [2006, 2007, 2009, 2005, 2006, 2006],
            "x": [1.0, 2, 3, 4, 5, 6],
            "z": [1.0, 2, 3, 4, 5, np.nan],
            "y": [7.0, 8, 9, 10, 11, 12],
        },
        index=["a", "b", "c", "d", "e", "f"],
    )
    matrix = found.design_matrix(new.assign(unit=kind(new["unit"])))
    assert list(matrix)[:-1] == ["Intercept", "lag(x)", "within(z)", "between(z)", "lag(y)", "initial(y)"]
    assert matrix.index.tolist() == list("abcdef")
    assert matrix.isna().all(axis=1).tolist() == [False, False, True, True, False, True]
    last, used = BALANCED[5:6].iloc[0], BALANCED[BALANCED["year"] > 2000]
    own = used[used["unit"] == 0]
    mean, grand = np.average(own["z"], weights=own["w"]), np.average(used["z"], weights=used["w"])
    first = BALANCED["y"][0]
    wanted = [
        [1, last["x"], 1 - mean, mean, last["y"], first],
        [1, 1.0, 2 - mean, mean, 7, first],
        [1, 4.0, 5 - grand, grand, 10, 10],  # its own first outcome
    ]
    np.testing.assert_allclose(matrix.loc[["a", "b", "e"]].to_numpy()[:, :6], wanted, rtol=1e-13)
    assert matrix.loc["a"].equals(found.design_matrix(new.assign(unit=kind(new["unit"]))[:1]).loc["a"])


def test_new_rows_need_no_units_where_means_are_of_others() -> None:
    found = model("y ~ mundlak(x, by=h)")
    assert set(found.coder.columns()) == {"x", "h"}
    new = TABLE.drop(columns=list(PANEL))
    np.testing.assert_array_equal(found.design_matrix(new), found.design_matrix(TABLE))


def test_an_error_in_new_rows_names_them_once() -> None:
    new = BALANCED[:3].assign(n=[1, -9, 2]).set_axis(["a", "b", "c"])
    with pytest.raises(DataError, match=r"log1p\(n\) gives NaN in 1 of .* where nothing is missing \(rows b\)"):
        model("y ~ lag(log1p(n))", BALANCED).design_matrix(new)


def test_new_rows_come_before_those_of_the_fit() -> None:
    found = model("y ~ lag(x) + lead(x)", BALANCED)
    changed = BALANCED[1:4].assign(x=[10.0, 20.0, 30.0])
    np.testing.assert_array_equal(
        found.design_matrix(changed).to_numpy()[:, 1:],
        [[BALANCED["x"][0], 20], [10, 30], [20, BALANCED["x"][4]]],
    )


def test_rows_before_the_first_period_of_the_fit() -> None:
    new = pd.DataFrame({"unit": [0, 0, 5], "year": [1990, 1991, 1999], "x": [1.0, 2, 3], "z": [1.0, 2, 3]})
    found = model("y ~ lag(x) + z", BALANCED).design_matrix(new)
    assert found["lag(x)"].fillna(-1).tolist() == [-1, 1, -1]
    found = model("y ~ lead(x) + z", BALANCED).design_matrix(new)
    assert found["lead(x)"].fillna(-1).tolist() == [2, -1, BALANCED["x"][30]]


@settings(REPRODUCIBLE, max_examples=15)
@given(old=panels, new=panels, k=st.integers(1, 2))
def test_shifts_of_new_rows_are_those_of_a_dictionary(old: Column, new: Column, k: int) -> None:
    fixed = {(8, t): float(t * t) for t in range(6)} | {(9, t): float(t) for t in range(6)}  # so that there is a model
    table = as_table({**old, **fixed}).assign(y=lambda d: np.cos(np.arange(len(d))))
    found = hp.Model(f"y ~ lag(x, {k}) + lead(x, {k})", table, panel=("unit", "time"), env={})
    asked = {**new, (8, 3): 7.0}  # a row that has both
    wanted = {**old, **fixed, **asked}
    matrix = found.design_matrix(as_table(asked)).to_numpy()[:, 1:]
    before, after = dumb(f"lag(x, {k})", wanted), dumb(f"lead(x, {k})", wanted)
    for place, row in zip(asked, matrix, strict=True):
        both = [before[place], after[place]]
        assert row.tolist() == both if None not in both else np.isnan(row).all()


def test_rows_with_something_missing_keep_their_place() -> None:
    found = model("y ~ lag(x) + within(z) + h", BALANCED)
    new = BALANCED[6:18].assign(unit=lambda d: d["unit"].astype("Int64"), year=lambda d: d["year"].astype(float))
    new.iloc[1, 0], new.iloc[2, 1], new.iloc[4, 4], new.iloc[5, 7] = NA, np.nan, np.nan, None
    matrix = found.design_matrix(new)
    assert matrix.index.equals(new.index)
    assert np.flatnonzero(matrix.isna().all(axis=1)).tolist() == [0, 1, 2, 4, 5, 6]
    left = matrix.isna().any(axis=1)
    np.testing.assert_array_equal(matrix[~left], found.design_matrix(BALANCED)[6:18][~left])


@pytest.mark.parametrize("place", [slice(0, 1), [0, 6, 12]])
def test_rows_that_all_miss_something_are_all_nan(place: Any) -> None:
    """The first period of a unit, alone as in a batch."""
    matrix = model("y ~ lag(x) + within(z)", BALANCED).design_matrix(BALANCED.iloc[place])
    assert matrix.shape == (len(BALANCED.iloc[place]), 3)
    assert matrix.isna().all(axis=None)


@pytest.mark.parametrize("y", [np.nan, None, NA])
@pytest.mark.parametrize("text", ["lag(y)", "lag(log(y + 9))", "lag(diff(y))"])
def test_an_outcome_to_come_is_missing_in_any_way(text: str, y: Any) -> None:
    found = model(f"x ~ {text}", BALANCED)
    new = pd.DataFrame({"unit": [0, 3], "year": 2006, "x": 1.0, "y": y})
    wanted = found.design_matrix(BALANCED.assign(year=BALANCED["year"] + 0).loc[[5, 23]].assign(year=2006))
    np.testing.assert_array_equal(found.design_matrix(new), wanted)


def test_an_index_that_repeats_is_kept() -> None:
    found = model("y ~ lag(x) + within(z)", BALANCED)
    new = BALANCED[1:5].set_axis([7, 7, 0, 7])
    np.testing.assert_array_equal(found.design_matrix(new), found.design_matrix(BALANCED)[1:5])
    assert found.design_matrix(new).index.tolist() == [7, 7, 0, 7]
    repeated = model("y ~ lag(x) + within(z)", BALANCED.set_axis(np.zeros(len(BALANCED), int)))
    np.testing.assert_array_equal(repeated.design.X, found.design.X)


# formula, what changes, message
NOT_NEW_ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("y ~ within(h)", {"h": "s"}, "h has levels that the fit has not seen: s; it knows p, q, r"),
    ("y ~ lag(h)", {"h": "s"}, r"lag\(h\) has levels that the fit has not seen: s; it knows p, q, r"),
    ("y ~ lag(x)", {"year": 2001}, r"\(unit, year\) must occur once"),
    ("y ~ lag(x)", {"year": 2001.5}, "the time year must be a whole number"),
    ("y ~ lag(x)", {"year": None}, "the table has no column 'year'; the columns are: unit, "),
    ("y ~ within(x)", {"unit": None}, "the table has no column 'unit'; the columns are: year, "),
    ("y ~ within(x)", {"x": np.inf}, "'x' is infinite in 3 of 3 rows"),
    ("y ~ lag(y)", {"y": None}, "the table has no column 'y'"),
]


@pytest.mark.parametrize(("formula", "change", "message"), NOT_NEW_ROWS)
def test_new_rows_that_are_refused(formula: str, change: dict[str, Any], message: str) -> None:
    gone = [name for name, value in change.items() if value is None]
    with pytest.raises(DataError, match=message):
        model(formula, BALANCED).design_matrix(BALANCED[1:4].assign(**change).drop(columns=gone))


def test_new_rows_need_only_what_the_columns_look_at() -> None:
    found = model("y ~ within(x)", BALANCED)
    np.testing.assert_array_equal(found.design_matrix(BALANCED[["unit", "x"]]), found.design.X)
    found = model("diff(y) ~ x", BALANCED)
    np.testing.assert_array_equal(found.design_matrix(BALANCED[["x"]])["x"], BALANCED["x"])
    found = model("y ~ lag(x)", BALANCED)
    matrix = found.design_matrix(pl.from_pandas(BALANCED[["unit", "year", "x"]]))
    np.testing.assert_array_equal(matrix.dropna(), found.design.X)


# --- a regression of unit means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "w"])
def test_a_between_response_has_one_row_for_each_unit(weights: str | None) -> None:
    data = TABLE.assign(x=TABLE["x"].where(TABLE["n"] != 3))
    found = model("between(y) ~ between(x) + c + k + (1 | g)", data, weights=weights)
    used = data.dropna()
    w = used["w"] if weights else pd.Series(1.0, used.index)
    design, spec = found.design, found.spec
    units = data.loc[design.index, "unit"].tolist()
    assert sorted(units) == sorted(used["unit"].unique())
    for name, values in (("y", design.y), ("x", design.X[:, 1])):
        wanted = [np.average(used[name][used["unit"] == u], weights=w[used["unit"] == u]) for u in units]
        np.testing.assert_allclose(values, wanted, rtol=1e-13)
    np.testing.assert_array_equal(design.X[:, 2], [used["c"][used["unit"] == u].iloc[0] for u in units])
    if weights:
        np.testing.assert_allclose(design.weights, [w[used["unit"] == u].sum() for u in units], rtol=1e-14)
    else:
        assert design.weights is None
    assert (spec.n, spec.joined, spec.n_total) == (len(units), len(used) - len(units), len(data))
    dropped = len(data) - len(used)
    assert spec.rows_used == f"{len(units)} unit means of {len(used)}, {dropped} dropped (missing: x in {dropped})"


def test_a_between_response_by_another_unit() -> None:
    found = model("between(y, by=g) ~ between(x, by=g)", panel=None).design
    means = TABLE.groupby("g")[["y", "x"]].mean().loc[TABLE.loc[found.index, "g"]]
    np.testing.assert_allclose(np.stack([found.y, found.X[:, 1]], axis=1), means, rtol=1e-13)


@pytest.mark.parametrize(
    ("right", "name"),
    [("x", "x"), ("between(x) + h", "h"), ("log(x)", "x"), ("c + (1 | year)", "year"), ("c + offset(z)", "z"),
     ("c + (0 + x | g)", "x"), ("lag(x)", r"lag\(x\)"), ("between(x):z", "z")],
)  # fmt: skip
def test_beside_unit_means_nothing_varies_within(right: str, name: str) -> None:
    message = (
        rf"{name} varies within unit, and a between\(y\) response has one row for each unit; write between\({name}\)"
    )
    with pytest.raises(DataError, match=message):
        model(f"between(y) ~ {right}")


# --- the first outcome ------------------------------------------------------------------------------------------------


def test_initial_is_the_outcome_before_the_first_row_that_is_used() -> None:
    data = TABLE.assign(x=TABLE["x"].where(TABLE["n"] != 3))
    found = model("y ~ lag(y) + initial(y) + x", data)
    used = data.loc[found.design.index].assign(lagged=column("y ~ lag(y) + x", "lag(y)", data))
    first = used.sort_values("year").groupby("unit")["lagged"].first()
    np.testing.assert_array_equal(found.design.X[:, 2], first.loc[used["unit"]])


# regressors beside lag(y) and initial(y) → unit means that are added
ADDED = {
    "x": ["between(x)"],
    "x + n": ["between(x)", "between(n)"],
    "h": ["between(h)[q]", "between(h)[r]"],
    "x + c + k": ["between(x)"],
    "x + year": ["between(x)"],
    "x + C(year)": ["between(x)"],
    "x + I(year**2)": ["between(x)"],
    "lag(x)": ["between(lag(x))"],
    "log(x)": ["between(log(x))"],
    "lag(y, 2) + x": ["between(x)"],
    "log(lag(y) + 9) + x": ["between(x)"],
    "x + between(x)": [],
    "x + between(x, by=unit)": [],
    "mundlak(x)": [],
    "within(x)": [],
    "x:z": [],
    "x*z": ["between(x)", "between(z)"],
}


@pytest.mark.parametrize("right", ADDED)
def test_initial_adds_the_unit_means_of_what_varies(right: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model(f"y ~ lag(y) + initial(y) + {right} + (1 | unit)")
    without = model(f"y ~ lag(y) + {right}").design.coefs
    assert [name for name in found.spec.coefs if name not in (*without, "initial(y)")] == ADDED[right]
    assert found.spec.notes == ()
    for name in ADDED[right]:
        values = found.design_matrix()[name]
        assert values.groupby(TABLE.loc[values.index, "unit"]).nunique().eq(1).all()


def test_initial_of_a_transformed_response() -> None:
    for response in ("log(y + 9)", "diff(y)"):
        found = model(f"{response} ~ lag({response}) + initial({response}) + (1 | unit)", BALANCED).design
        first = pd.Series(found.X[:, 1]).groupby(BALANCED.loc[found.index, "unit"].to_numpy()).transform("first")
        np.testing.assert_array_equal(found.X[:, 2], first)


def test_initial_where_units_are_true_and_false() -> None:
    data = BALANCED[:12].assign(unit=BALANCED["unit"][:12] > 0)
    found = column("y ~ lag(y) + initial(y)", "initial(y)", data)
    np.testing.assert_array_equal(found, np.repeat(BALANCED["y"][[0, 6]], 5))


# formula, message
NOT_INITIAL = [
    ("y ~ lag(y) + initial(x)", r"initial\(\) takes the response, initial\(y\)"),
    ("log(y + 9) ~ lag(log(y + 9)) + initial(y)", r"initial\(\) takes the response, initial\(log\(y \+ 9\)\)"),
    ("y ~ initial(y)", r"initial\(y\) is the remedy for a lagged outcome: it belongs beside lag\(y\), with panel="),
    ("y ~ lag(x) + initial(y)", r"it belongs beside lag\(y\)"),
]


@pytest.mark.parametrize(("formula", "message"), NOT_INITIAL)
def test_initial_belongs_beside_the_lagged_response(formula: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        model(formula)


def test_initial_is_collinear_with_fixed_effects() -> None:
    with pytest.raises(DataError, match=r"'initial\(y\)' does not vary within the units of fe\(unit\)"):
        model("y ~ lag(y) + initial(y) + fe(unit)", BALANCED)


UPWARDS = (
    r"lag\({}\) is a lagged outcome: the first outcome depends on the intercept of its unit, .* biased upwards; add "
)
DOWNWARDS = (
    r"lag\(y\) is a lagged outcome: fe\(unit\) biases its coefficient downwards, .*; take \(1 \| unit\) and add "
)
# formula, warning
WARNED = [
    ("y ~ lag(y) + (1 | unit)", UPWARDS.format("y") + r"initial\(y\)"),
    ("y ~ x + lag(y) + (x | unit) + (1 | g)", UPWARDS.format("y") + r"initial\(y\)"),
    ("y ~ log(lag(y) + 9) + (1 | unit)", UPWARDS.format("y") + r"initial\(y\)"),
    ("y ~ x + (1 + lag(y) | unit)", UPWARDS.format("y") + r"initial\(y\)"),
    ("diff(y) ~ lag(diff(y)) + (1 | unit)", UPWARDS.format(r"diff\(y\)") + r"initial\(diff\(y\)\)"),
    ("y ~ lag(y) + fe(unit)", DOWNWARDS + r"initial\(y\)"),
]
QUIET = [
    "y ~ lag(y) + initial(y) + (1 | unit)", "y ~ lag(y) + x", "y ~ lag(y) + (1 | g)", "y ~ lag(y) + (0 + x | unit)",
    "y ~ lag(x) + (1 | unit)", "y ~ x + fe(unit)", "y ~ lead(y) + (1 | unit)",
]  # fmt: skip


@pytest.mark.parametrize(("formula", "message"), WARNED)
def test_a_lagged_outcome_beside_unit_intercepts_is_warned_of(formula: str, message: str) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        found = model(formula, BALANCED)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    assert found.spec.notes == (str(caught[0].message),)


@pytest.mark.parametrize("formula", QUIET)
def test_no_warning_where_there_is_no_need(formula: str) -> None:
    assert model(formula, BALANCED).spec.notes == ()  # a warning is an error here


@pytest.mark.parametrize("right", ["lag(y)", "lag(y, 2)", "log(lag(y) + 9)"])
def test_the_remedy_of_the_warning_is_accepted(right: str) -> None:
    with pytest.warns(UserWarning, match="is a lagged outcome") as caught:
        model(f"y ~ {right} + (1 | unit)", BALANCED)
    if "add initial(y)" in str(caught[0].message):
        model(f"y ~ {right} + initial(y) + (1 | unit)", BALANCED)


# --- without a panel --------------------------------------------------------------------------------------------------

FOLLOWS = r"follows time within a unit: give panel=\(unit, time\), as in panel=\('worker', 'year'\)"
NEEDS = r"needs the column of units: give panel=\(unit, time\), or write "
# formula with « » around the word, message
WITHOUT = [
    ("y ~ x + «lag(z, k=2)»", rf"lag\(z, 2\) {FOLLOWS}"),
    ("y ~ x + (1 + «lead(z)» | g)", rf"lead\(z\) {FOLLOWS}"),
    ("«diff(y)» ~ x", rf"diff\(y\) {FOLLOWS}"),
    ("y ~ x + «within(z)»", rf"within\(z\) {NEEDS}within\(z, by=unit\)"),
    ("y ~ x + log(«between(z)»)", rf"between\(z\) {NEEDS}between\(z, by=unit\)"),
    ("«between(y)» ~ c", rf"between\(y\) {NEEDS}between\(y, by=unit\)"),
    ("y ~ x + «initial(y)»", r"it belongs beside lag\(y\), with panel=\(unit, time\)"),
]


@pytest.mark.parametrize(("marked", "message"), WITHOUT)
def test_words_say_that_they_need_a_panel(marked: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        model(marked_place(marked)[0], panel=None)


@pytest.mark.parametrize(("marked", "message"), WITHOUT)
def test_the_caret_stands_under_the_word(marked: str, message: str) -> None:
    formula, start, end = marked_place(marked)
    with pytest.raises(FormulaError, match=message) as caught:
        model(formula, panel=None)
    assert formula[caught.value.start : caught.value.end] == formula[start:end]


@pytest.mark.parametrize("word", ["lag", "lead", "diff", "within", "between", "initial", "mundlak"])
def test_a_word_cannot_be_a_function_of_the_caller(word: str) -> None:
    formula = f"y ~ lag(y) + {word}({'y' if word == 'initial' else 'x'})"
    with pytest.raises(
        FormulaError, match=rf"{word}\(\) is a word of formulas, and a function of that name is in scope"
    ) as caught:
        hp.Model(formula, TABLE, panel=PANEL, env={word: np.log})
    assert (caught.value.formula, formula[caught.value.start : caught.value.end]) == (formula, word)
    assert hp.Model("y ~ log(x)", TABLE, panel=PANEL, env={word: np.log}).spec.n == len(TABLE)
    assert hp.Model(formula, TABLE, panel=PANEL, env={word: 3.0}).spec.n < len(TABLE)  # no function


def test_a_function_of_the_same_name_in_scope_is_refused() -> None:
    def lag(x: Any) -> Any:
        return x

    assert lag(1) == 1
    with pytest.raises(FormulaError, match=r"lag\(\) is a word of formulas"):
        hp.Model("y ~ lag(x)", TABLE, panel=PANEL)


def test_by_needs_no_panel() -> None:
    found = model("y ~ mundlak(x, by=g)", panel=None)
    assert found.spec.panel is None
    means = TABLE.groupby("g")["x"].transform("mean")
    np.testing.assert_allclose(found.design.X[:, 1:], np.stack([TABLE["x"] - means, means], axis=1), atol=1e-14)


# --- kept -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", AGAIN[::3])
def test_a_pickled_model_codes_new_rows_alike(formula: str) -> None:
    found = model(formula)
    back = pickle.loads(pickle.dumps(found))
    assert back.spec.panel == found.spec.panel
    assert (back.spec.notes, back.spec.rows_used) == (found.spec.notes, found.spec.rows_used)
    pd.testing.assert_frame_equal(back.design_matrix(TABLE), found.design_matrix(TABLE))


KEPT = [
    "y ~ lag(x) + mundlak(z + c) + (1 | unit)", "between(y) ~ between(x)", "y ~ lag(y) + initial(y) + x + (1 | unit)",
    "y ~ x + (1 | g)",
]  # fmt: skip


@pytest.mark.parametrize("formula", KEPT)
def test_a_saved_fit_keeps_the_panel(formula: str, made: Callable[..., Fit], tmp_path: Path) -> None:
    fit = made(formula, TABLE.set_index(["unit", "year"]), draws=50, panel=PANEL)
    fit.save(tmp_path / "fit.nc")
    for back in (hp.load(tmp_path / "fit.nc"), pickle.loads(pickle.dumps(fit))):
        assert back.spec.panel == fit.spec.panel is not None
        assert (back.spec.joined, back.spec.notes, back.spec.dropped) == (
            fit.spec.joined,
            fit.spec.notes,
            fit.spec.dropped,
        )
        np.testing.assert_array_equal(back.design.units, fit.design.units)
        assert back.design.index.equals(fit.design.index)
        assert str(back.summary()) == str(fit.summary())


def test_a_summary_tells_of_the_panel() -> None:
    with pytest.warns(UserWarning, match="lagged outcome") as caught:
        fit = hp.fit(
            "y ~ lag(y) + mundlak(x + c) + (1 | unit)",
            BALANCED,
            panel=PANEL,
            draws=50,
            chains=2,
            seed=1,
            progress=False,
        )
    assert Path(caught[0].filename) == Path(__file__)
    assert fit.method == "marginal"
    text = " ".join(str(fit.summary()).split())
    assert "8 unit × 5 year (in steps of 1), balanced" in text
    assert "40 used, 8 dropped (missing: lag(y) before a unit's first period in 8)" in text
    for note in fit.spec.notes:
        assert "".join(note.split()) in "".join(text.split())
    assert [note.split(" ")[0] for note in fit.spec.notes] == ["c", "lag(y)"]
    assert model("y ~ x", BALANCED, ("unit", "year")).spec.panel is not None
    assert model("y ~ x", BALANCED, None).spec.panel is None
