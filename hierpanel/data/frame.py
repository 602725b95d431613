"""A table of any kind comes in; a `Frame` goes out: the columns used, the rows kept, and why the others went."""

import datetime
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import DataError


@dataclass(frozen=True)
class Frame:
    """Rows without missing values, in plain dtypes.

    table : DataFrame of the n kept rows and the used columns, with the data's own index. Numbers are float64 or int64,
        truth values bool, text and categories ordered categoricals of the levels that occur.
    n_total : rows of the table that was given.
    dropped : (column, rows dropped because it was missing there), each row counted at its first missing column.
    kept : (n_total,) whether each row was kept.
    joined : rows kept that became part of another: with a `between()` response each unit is one row.
    """

    table: pd.DataFrame
    n_total: int
    dropped: tuple[tuple[str, int], ...]
    kept: np.ndarray
    joined: int = 0

    @property
    def n(self) -> int:
        """Rows kept."""
        return len(self.table)


def column_names(data: Any) -> list[str]:
    """Return the names a formula may use: the table's columns, then the named levels of a pandas index."""
    if isinstance(data, Mapping):
        return [str(name) for name in data]
    if isinstance(data, pd.DataFrame):
        return [*map(str, data.columns), *(str(name) for name in data.index.names if name is not None)]
    return list(_narwhals(data).columns)


@dataclass(frozen=True)
class Derived:
    """A column that is worked out from other rows of the table, before any is dropped.

    missing : (why, (n,) rows), disjoint.
    """

    name: str
    values: pd.Series
    missing: tuple[tuple[str, np.ndarray], ...]


def complete(
    table: pd.DataFrame, columns: Sequence[str], derived: Sequence[Derived] = (), may_be_empty: bool = False
) -> Frame:
    """Drop the rows of a table where a column, or one that is derived from other rows, is missing.

    Raises
    ------
    DataError
        For infinite, complex or too large values, mixed types, or, unless it `may_be_empty`, when every row has
        something missing.
    """
    keep = np.ones(len(table), dtype=bool)
    missing = [(name, table[name].isna().to_numpy()) for name in columns]
    missing += [cause for column in derived for cause in column.missing]
    dropped = []
    for why, rows in missing:
        here = int((rows & keep).sum())
        if here:
            dropped.append((why, here))
            keep &= ~rows
    if not keep.any() and may_be_empty:
        return Frame(table[keep], len(table), tuple(dropped), keep)
    if not keep.any():
        counts = ", ".join(f"{why} ({int(rows.sum())})" for why, rows in missing if rows.any())
        raise DataError(f"no row is complete: of {len(table)} rows, missing are {counts}")
    everything = {name: table[name] for name in columns} | {column.name: column.values for column in derived}
    plain = {name: _plain(name, values if keep.all() else values[keep]) for name, values in everything.items()}
    return Frame(pd.DataFrame(plain, index=table.index[keep]), len(table), tuple(dropped), keep)


def _narwhals(data: Any) -> Any:
    import narwhals as nw

    try:
        return nw.from_native(data, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError("the table has several columns of one name; rename all but one") from error
    except TypeError as error:
        what = "a pandas, polars or pyarrow table (a lazy one must be collected)"
        raise DataError(f"data is of type {type(data).__name__}; give {what}") from error


def to_table(data: Any, columns: Sequence[str]) -> pd.DataFrame:
    """Return the named columns of any table, as they are, in pandas.

    Parameters
    ----------
    data
        A pandas, polars or pyarrow table, anything else that narwhals reads, or a mapping of columns.
        Named levels of a pandas index count as columns.

    Raises
    ------
    DataError
        For data that are no table, an empty one, or two columns of one name.
    """
    table = _to_pandas(data, columns)
    if not len(table):
        raise DataError("the table has no rows")
    return table


def _to_pandas(data: Any, columns: Sequence[str]) -> pd.DataFrame:
    if isinstance(data, Mapping):
        try:
            is_row = len(data) > 0 and all(np.ndim(value) == 0 for value in data.values())
            data = pd.DataFrame([dict(data)]) if is_row else pd.DataFrame(dict(data))
        except ValueError as error:
            raise DataError(f"the columns do not make a table: {error}") from error
    if not isinstance(data, pd.DataFrame):
        frame = _narwhals(data)
        return pd.DataFrame({name: frame.get_column(name).to_pandas() for name in columns}, index=range(len(frame)))
    found = {}
    for name in columns:
        where = [k for k, column in enumerate(data.columns) if str(column) == name]
        if len(where) > 1:
            raise DataError(f"the table has {len(where)} columns called {name!r}; rename all but one")
        if where:
            found[name] = data.iloc[:, where[0]]
        else:
            level = [str(n) for n in data.index.names].index(name)
            found[name] = pd.Series(data.index.get_level_values(level), index=data.index)
    return pd.DataFrame(found, index=data.index)


def as_read(column: pd.Series) -> pd.Series:
    """Return a column without missing values as the fit reads it: numbers among objects are numbers."""
    return pd.Series(_plain(str(column.name), column), index=column.index, name=column.name)


def _plain(name: str, column: pd.Series) -> Any:
    """Return the column's values in one of the few dtypes that the rest of the package meets."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        return pd.Categorical(used, ordered=True)
    if pd.api.types.is_bool_dtype(dtype):
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_complex_dtype(dtype):
        raise DataError(f"the column {name!r} holds complex numbers")
    if pd.api.types.is_integer_dtype(dtype):
        return _whole(name, column)
    if pd.api.types.is_float_dtype(dtype):
        return _finite(name, column, column.to_numpy(dtype=np.float64))
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return pd.DatetimeIndex(column).array  # also of Arrow's dates
    if pd.api.types.is_timedelta64_dtype(dtype) or isinstance(dtype, (pd.PeriodDtype, pd.IntervalDtype)):
        return column.array
    kinds = {type(value) for value in column}
    if all(issubclass(kind, datetime.date) for kind in kinds):
        return pd.DatetimeIndex(column).array
    if all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return column.to_numpy(dtype=bool)
    if any(issubclass(kind, complex) for kind in kinds):
        raise DataError(f"the column {name!r} holds complex numbers")
    if all(issubclass(kind, numbers.Integral) for kind in kinds):
        return _whole(name, column)
    if all(issubclass(kind, numbers.Number) or kind.__name__ == "Decimal" for kind in kinds):
        return _finite(name, column, column.to_numpy(dtype=np.float64))
    if all(issubclass(kind, str) for kind in kinds):
        return pd.Categorical(column, categories=sorted(column.unique()), ordered=True)
    if any(issubclass(kind, (str, numbers.Number)) for kind in kinds):
        listed = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"the column {name!r} mixes {listed}; make it one type, for example with .astype(str)")
    return pd.Categorical(column.astype(str), ordered=True)  # other objects: their text names them


def _whole(name: str, column: pd.Series) -> np.ndarray:
    if not np.iinfo(np.int64).min <= column.min() <= column.max() <= np.iinfo(np.int64).max:
        raise DataError(
            f"the column {name!r} holds whole numbers beyond 2**63, too large to be told apart; where they name "
            "something make them text with .astype(str), otherwise .astype(float)"
        )
    return column.to_numpy(dtype=np.int64)


def _finite(name: str, column: pd.Series, values: np.ndarray) -> np.ndarray:
    bad = np.isinf(values)
    if bad.any():
        rows = ", ".join(map(str, column.index[bad][:5]))
        raise DataError(
            f"the column {name!r} is infinite in {int(bad.sum())} of {len(column)} rows (rows {rows}"
            f"{', …' if bad.sum() > 5 else ''}); drop those rows or mend them"
        )
    return values
