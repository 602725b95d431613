"""Tables: every kind gives the same Frame, every dropped row is counted, and what cannot be used is named."""

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from hierpanel.data.frame import Frame, column_names, complete, to_table
from hierpanel.errors import DataError

NA = pd.NA
DAY = datetime.date(2020, 1, 1)
COLUMNS = {
    "wage": [1.5, 2.0, None, 4.0, 5.0, 6.0],
    "years": [1, 2, 3, 4, 5, 6],
    "union": [True, False, True, None, False, True],
    "firm": ["b", "a", "b", "c", None, "a"],
    "day": [DAY + datetime.timedelta(days=k) for k in range(6)],
}
KINDS: dict[str, Any] = {
    "pandas": pd.DataFrame(COLUMNS),
    "pandas, nullable": pd.DataFrame(COLUMNS).convert_dtypes(),
    "pandas, of Arrow's types": pd.DataFrame(COLUMNS).convert_dtypes(dtype_backend="pyarrow"),
    "pandas, of objects": pd.DataFrame(COLUMNS, dtype=object),
    "polars": pl.DataFrame(COLUMNS),
    "pyarrow": pa.table(COLUMNS),
    "a dict of lists": COLUMNS,
    "a dict of arrays": {name: np.array(values, dtype=object) for name, values in COLUMNS.items()},
}


def read(data: Any, columns: list[str]) -> Frame:
    return complete(to_table(data, columns), columns)


def one(values: Any, **options: Any) -> pd.Series:
    """The one column of a table of one column, as a Frame holds it."""
    return read(pd.DataFrame({"a": values}, **options), ["a"]).table["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_frame(kind: str) -> None:
    frame = read(KINDS[kind], list(COLUMNS))
    assert column_names(KINDS[kind]) == list(COLUMNS)
    assert (frame.n, frame.n_total, frame.dropped) == (3, 6, (("wage", 1), ("union", 1), ("firm", 1)))
    assert list(frame.table) == list(COLUMNS)
    assert frame.table.index.tolist() == [0, 1, 5]
    assert frame.table["wage"].tolist() == [1.5, 2.0, 6.0]
    assert frame.table["years"].tolist() == [1, 2, 6]
    assert frame.table["union"].tolist() == [True, False, True]
    assert frame.table["firm"].tolist() == ["b", "a", "a"]
    assert frame.table["firm"].cat.categories.tolist() == ["a", "b"]
    assert frame.table["day"].dt.day.tolist() == [1, 2, 6]
    dtypes = [dtype.kind if isinstance(dtype, np.dtype) else str(dtype) for dtype in frame.table.dtypes]
    assert dtypes == ["f", "i", "b", "category", "M"]


def test_only_the_columns_asked_for_count_and_in_their_order() -> None:
    frame = read(KINDS["pandas"], ["firm", "wage"])
    assert list(frame.table) == ["firm", "wage"]
    assert (frame.n, frame.dropped) == (4, (("firm", 1), ("wage", 1)))


def test_a_row_is_counted_at_its_first_missing_column() -> None:
    data = pd.DataFrame({"a": [np.nan, np.nan, 1, 1], "b": [np.nan, 2, np.nan, 2]})
    assert read(data, ["a", "b"]).dropped == (("a", 2), ("b", 1))
    assert read(data, ["b", "a"]).dropped == (("b", 2), ("a", 1))
    assert read(data[3:], ["a", "b"]).dropped == ()


# --- dtypes ---------------------------------------------------------------------------------------------------------

# (column, dtype in the Frame, values in the Frame)
DTYPES = [
    (pd.array([1, NA, 3], "Int64"), "int64", [1, 3]),
    (pd.array([2**53 + 1, NA], "Int64"), "int64", [2**53 + 1]),
    (pd.array([1.5, NA, 3], "Float64"), "float64", [1.5, 3.0]),
    (pd.array([True, NA, False], "boolean"), "bool", [True, False]),
    (pd.array(["v", NA, "u"], "string"), "category", ["v", "u"]),
    (pd.Series([0.0, 1.0], dtype="Float64") / pd.Series([0.0, 1.0], dtype="Float64"), "float64", [1.0]),
    (pd.Series([1.5, None], dtype="double[pyarrow]"), "float64", [1.5]),
    (np.array([1, 255], dtype=np.uint8), "int64", [1, 255]),
    (np.array([1, 2], dtype=np.float32), "float64", [1.0, 2.0]),
    (pd.arrays.SparseArray([0.0, 2.0]), "float64", [0.0, 2.0]),
    (pd.Series([True, None, np.False_], dtype=object), "bool", [True, False]),
    (pd.Series([1, None, np.int64(2)], dtype=object), "int64", [1, 2]),
    (pd.Series([2**53 + 1, None], dtype=object), "int64", [2**53 + 1]),
    (pd.Series([1, 2.5, decimal.Decimal("0.5")], dtype=object), "float64", [1.0, 2.5, 0.5]),
    (pd.Series([True, 2.5], dtype=object), "float64", [1.0, 2.5]),
    (pd.Series(["10", NA, "9"], dtype=object), "category", ["10", "9"]),
    (pd.Series([("t", 1), ("t", 2)], dtype=object), "category", ["('t', 1)", "('t', 2)"]),
    (pd.Categorical([3, 1, None]), "category", [3, 1]),
    (pd.Series([DAY, None], dtype=object), "datetime64[s]", [pd.Timestamp(DAY)]),
    (pd.to_datetime(["2020-01-01", None]), "datetime64[us]", [pd.Timestamp(DAY)]),
    (pd.to_datetime(["2020-01-01"]).tz_localize("UTC"), "datetime64[us, UTC]", [pd.Timestamp(DAY, tz="UTC")]),
    (pd.PeriodIndex(["2020Q1", None], freq="Q"), "period[Q-DEC]", [pd.Period("2020Q1")]),
    (pd.to_timedelta([1, None], unit="D"), "timedelta64[us]", [pd.Timedelta(days=1)]),
]


@pytest.mark.parametrize(("column", "dtype", "values"), DTYPES)
def test_dtypes(column: Any, dtype: str, values: list[Any]) -> None:
    given = one(column)
    assert given.dtype == dtype
    assert given.tolist() == values


def test_categories_keep_their_order_without_the_unused() -> None:
    column = pd.Categorical(["b", "c", None, "b"], categories=["c", "zz", "b"])
    for given in (one(column), one(column.as_ordered())):
        assert given.cat.ordered
        assert given.cat.categories.tolist() == ["c", "b"]
    levels = pl.DataFrame({"a": pl.Series(["b", "c", "b"], dtype=pl.Enum(["c", "zz", "b"]))})
    assert read(levels, ["a"]).table["a"].cat.categories.tolist() == ["c", "b"]


def test_text_is_sorted() -> None:
    assert one(["b", "a", "10", "9"]).cat.categories.tolist() == ["10", "9", "a", "b"]


def test_infinity_in_a_dropped_row_does_not_matter() -> None:
    frame = read(pd.DataFrame({"a": [1.0, np.inf], "b": [1.0, np.nan]}), ["a", "b"])
    assert (frame.n, frame.dropped) == (1, (("b", 1),))


# --- the index ------------------------------------------------------------------------------------------------------


def test_order_and_index_are_kept() -> None:
    data = pd.DataFrame({"a": [3.0, np.nan, 1.0, 2.0]}, index=["r", "q", "p", "r"])
    table = read(data, ["a"]).table
    assert list(zip(table.index, table["a"], strict=True)) == [("r", 3.0), ("p", 1.0), ("r", 2.0)]


def test_levels_of_an_index_are_columns() -> None:
    index = pd.MultiIndex.from_tuples([("u", 2001), ("v", 2001), (None, 2002), ("u", 2003)], names=["worker", "year"])
    data = pd.DataFrame({"a": [1.0, 2.0, 3.0, np.nan]}, index=index)
    assert column_names(data) == ["a", "worker", "year"]
    frame = read(data, ["a", "worker", "year"])
    assert frame.dropped == (("a", 1), ("worker", 1))
    assert frame.table["worker"].tolist() == ["u", "v"]
    assert frame.table["year"].tolist() == [2001, 2001]
    assert frame.table.index.equals(index[:2])


def test_a_column_goes_before_an_index_level_and_nameless_levels_are_none() -> None:
    data = pd.DataFrame({"g": [1, 2]}, index=pd.Index(["p", "q"], name="g"))
    assert read(data, ["g"]).table["g"].tolist() == [1, 2]
    assert column_names(pd.DataFrame({"a": [1]})) == ["a"]


def test_names_that_are_not_text() -> None:
    data = pd.DataFrame({2001: [1, 2]})
    assert column_names(data) == ["2001"]
    assert read(data, ["2001"]).table["2001"].tolist() == [1, 2]


def test_the_table_given_is_not_changed() -> None:
    data = pd.DataFrame({"a": [1, None], "b": ["x", "y"]}, dtype=object)
    before = data.copy(deep=True)
    table = read(data, ["a", "b"]).table
    table.loc[0, "a"] = 99
    pd.testing.assert_frame_equal(data, before)


# --- errors ---------------------------------------------------------------------------------------------------------

ONE = ["a"]
ERRORS: list[tuple[str, Any, list[str], str]] = [
    ("infinite", {"a": [1.0, np.inf, -np.inf]}, ONE, r"'a' is infinite in 2 of 3 rows \(rows 1, 2\); drop those rows"),
    ("infinite, long", {"a": [np.inf] * 7}, ONE, r"infinite in 7 of 7 rows \(rows 0, 1, 2, 3, 4, …\)"),
    ("infinite, nullable", {"a": pd.array([1.0, np.inf], "Float64")}, ONE, r"infinite in 1 of 2 rows"),
    ("infinite, objects", {"a": np.array([1, np.inf], dtype=object)}, ONE, r"infinite in 1 of 2 rows"),
    ("infinite, polars", pl.DataFrame({"a": [1.0, float("inf")]}), ONE, r"infinite in 1 of 2 rows \(rows 1\)"),
    ("empty", pd.DataFrame({"a": []}), ONE, "the table has no rows"),
    ("empty, polars", pl.DataFrame({"a": []}), ONE, "the table has no rows"),
    ("empty dict", {}, [], "the table has no rows"),
    ("all missing", {"a": [1.0, None], "b": [None, 2.0]}, ["a", "b"], r"of 2 rows, missing are a \(1\), b \(1\)$"),
    ("one all missing", {"a": [1, 2], "b": [None, None]}, ["a", "b"], r"no row is complete: .* missing are b \(2\)$"),
    ("two names", pd.DataFrame([[1, 2]], columns=["a", "a"]), ONE, "has 2 columns called 'a'; rename all but one"),
    ("two names as text", pd.DataFrame([[1, 2]], columns=[1, "1"]), ["1"], "2 columns called '1'"),
    ("two names, Arrow", pa.table([[1], [2]], names=["a", "a"]), ONE, "several columns of one name; rename"),
    ("mixed", {"a": [1, "x"]}, ONE, r"'a' mixes int, str; make it one type, for example with \.astype\(str\)"),
    ("mixed truth", {"a": [True, "x"]}, ONE, "mixes bool, str"),
    ("mixed dates", {"a": [DAY, "x"]}, ONE, "mixes date, str"),
    ("mixed date and number", {"a": [DAY, 1]}, ONE, "mixes date, int"),
    ("complex", {"a": [1 + 1j, 2]}, ONE, "the column 'a' holds complex numbers"),
    ("complex, objects", pd.DataFrame({"a": [1 + 1j, 2]}, dtype=object), ONE, "the column 'a' holds complex numbers"),
    ("too large", {"a": np.array([2**64 - 1, 2**64 - 2], dtype=np.uint64)}, ONE, r"beyond 2\*\*63.*\.astype\(str\)"),
    ("too large, objects", {"a": [2**70, 2**70 + 1]}, ONE, r"whole numbers beyond 2\*\*63"),
    ("lazy", pl.DataFrame({"a": [1]}).lazy(), ONE, r"of type LazyFrame; .*\(a lazy one must be collected\)"),
    ("a number", 3, ONE, "data is of type int; give a pandas, polars or pyarrow table"),
    ("a path", "table.csv", ONE, "data is of type str"),
    ("nothing", None, ONE, "data is of type NoneType"),
    ("an array", np.ones((2, 2)), ONE, "data is of type ndarray"),
    ("a column", pd.Series([1, 2], name="a"), ONE, "data is of type Series"),
    ("rows", [{"a": 1}], ONE, "data is of type list"),
    ("unequal", {"a": [1], "b": [1, 2]}, ["a", "b"], "do not make a table: All arrays must be of the same length"),
    ("two dimensions", {"a": np.ones((2, 2))}, ONE, "the columns do not make a table"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "columns", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_errors(data: Any, columns: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(data, columns)


def test_a_mapping_of_single_values_is_a_row() -> None:
    pd.testing.assert_frame_equal(to_table({"a": 1, "b": "x"}, ["a", "b"]), pd.DataFrame({"a": [1], "b": ["x"]}))


@pytest.mark.parametrize("data", [3, None, pl.DataFrame({"a": [1]}).lazy(), pa.table([[1], [2]], names=["a", "a"])])
def test_names_are_refused_where_rows_are(data: Any) -> None:
    with pytest.raises(DataError):
        column_names(data)


def test_a_frame_is_a_value() -> None:
    frame = read({"a": [1, 2]}, ["a"])
    assert isinstance(frame, Frame)
    with pytest.raises(AttributeError):
        frame.n_total = 3  # type: ignore[misc]
