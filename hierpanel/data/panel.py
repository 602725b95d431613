"""A table and ``panel=(unit, time)`` come in; a `Panel` goes out: for each row its unit and its place on the time axis.

Periods are whole numbers in steps of a stated frequency, so that "the period before" means the same in every unit, and
a gap stays a gap.
"""

import datetime
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.frame import column_names, to_table
from hierpanel.errors import DataError

Array = np.ndarray

_WORDS = {
    "Y": "yearly", "Q": "quarterly", "M": "monthly", "W": "weekly", "D": "daily", "h": "hourly", "min": "by the minute",
    "s": "by the second",
}  # fmt: skip


@dataclass(frozen=True)
class Clock:
    """How times become whole numbers.

    kind : "number", "period" (dates too) or "category".
    step : periods are this many units (of the number, or of the frequency) long.
    origin : the unit where period 0 starts.
    frequency : of dates, as pandas writes it ("Q-DEC"); categories : of an ordered category.
    """

    kind: str
    step: int
    origin: int
    frequency: str = ""
    categories: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.kind == "category":
            return "in the order of the categories"
        if self.kind == "number":
            return f"in steps of {self.step}"
        word = _WORDS.get(self.frequency.split("-")[0], f"by {self.frequency}")
        return word if self.step == 1 else f"{word}, every {self.step}"

    def periods(self, time: pd.Series) -> Array:
        """Return the period (n,) of each time, which is not missing.

        Raises
        ------
        DataError
            For times that lie between two periods, or of another kind than the clock's.
        """
        if self.kind == "category":
            codes = pd.Index(list(self.categories)).get_indexer(pd.Index(np.asarray(time))).astype(np.int64)
            if (codes < 0).any():
                unknown = ", ".join(map(str, time[codes < 0].unique()[:5]))
                raise DataError(f"the time {time.name} has no such category as {unknown}")
            return np.asarray(codes)
        if self.kind == "number":
            moved = _whole(time) - self.origin
            between = moved % self.step != 0
            if between.any():
                rows = ", ".join(map(str, time.index[between][:5]))
                raise DataError(
                    f"the time {time.name} goes in steps of {self.step} from {self.origin}, but {int(between.sum())} "
                    f"rows lie between two of them (rows {rows}); state another step in panel=(unit, time, step)"
                )
            return np.asarray(moved // self.step, dtype=np.int64)
        return np.asarray((_ordinals(time, self.frequency) - self.origin) // self.step, dtype=np.int64)

    def labels(self, periods: Array) -> list[str]:
        """Return how periods are written, such as "1987" or "1987Q3"."""
        places = np.asarray(periods, dtype=np.int64) * self.step + self.origin
        if self.kind == "category":
            return [str(self.categories[k]) for k in places]
        if self.kind == "number":
            return [str(k) for k in places]
        return [str(pd.Period(ordinal=int(k), freq=self.frequency)) for k in places]


@dataclass(frozen=True)
class Panel:
    """Where each row of a table stands.

    unit, time : names of the columns.
    codes : (n,) unit of each row, 0 … N - 1, or -1 where unit or time is missing.
    levels : (N,) labels of the units.
    periods : (n,) place on the time axis, in steps of the frequency (0 where missing).
    clock : how times became periods.
    hidden : (n,) rows that no other row looks at, or None.
    """

    unit: str
    time: str
    codes: Array
    levels: pd.Index
    periods: Array
    clock: Clock = field(repr=False)
    hidden: Array | None = field(default=None, repr=False)

    @property
    def frequency(self) -> str:
        """The distance from one period to the next, in words."""
        return str(self.clock)

    def labels(self, periods: Array) -> list[str]:
        """Return how periods are written, such as "1987" or "1987Q3"."""
        return self.clock.labels(periods)

    def rows_at(self, codes: Array, periods: Array) -> Array:
        """Return the row of each (unit, period), or -1 where there is none."""
        if not len(self._sorted):
            return np.full(len(codes), -1)
        wanted = self._key(codes, periods)
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        # a period beyond the axis would be taken for one of another unit
        reachable = (codes >= 0) & (codes < len(self.levels)) & (periods >= self._first) & (periods <= self._last)
        return np.asarray(np.where(reachable & (self._sorted[place] == wanted), self._order[place], -1))

    def ends(self) -> tuple[Array, Array]:
        """Return the first and last period (N,) of every unit."""
        known = self.codes >= 0
        far = np.iinfo(np.int64)
        first, last = np.full(len(self.levels), far.max), np.full(len(self.levels), far.min)
        np.minimum.at(first, self.codes[known], self.periods[known])
        np.maximum.at(last, self.codes[known], self.periods[known])
        return first, last

    def match(self, table: pd.DataFrame) -> "Panel":
        """Return the panel of other rows, in which units and periods have the same numbers; new units come after."""
        known = table[[self.unit, self.time]].notna().all(axis=1).to_numpy()
        labels: pd.Index = pd.Index(table.loc[known, self.unit])
        new = labels[~labels.isin(self.levels)].unique()
        levels = self.levels.append(new)
        codes = np.full(len(table), -1)
        codes[known] = levels.get_indexer(labels)
        periods = np.zeros(len(table), dtype=np.int64)
        periods[known] = self.clock.periods(table.loc[known, self.time])
        found = Panel(self.unit, self.time, codes, levels, periods, self.clock)
        found.check(table)
        return found

    def check(self, table: pd.DataFrame) -> None:
        """Raise `DataError` where a (unit, period) occurs twice, with the rows."""
        same = np.flatnonzero(np.diff(self._sorted) == 0)
        if not len(same):
            return
        place = np.isin(self._sorted, self._sorted[same])
        first = self._order[self._sorted == self._sorted[same[0]]]
        rows = ", ".join(map(str, table.index[np.sort(first)][:5]))
        when = self.labels(self.periods[first[:1]])[0]
        exact = table[self.time].iloc[first].nunique() == 1
        dates = "" if exact else f" (times are taken {self.frequency}; panel=(unit, time, frequency) states another)"
        raise DataError(
            f"({self.unit}, {self.time}) must occur once, but {int(place.sum())} rows share theirs with another, the "
            f"first: {self.unit} {table[self.unit].iloc[first[0]]}, {self.time} {when} in rows {rows}{dates}"
        )

    def _key(self, codes: Array, periods: Array) -> Array:
        length = self._last - self._first + 1
        return np.asarray(np.asarray(codes, dtype=np.int64) * length + (periods - self._first), dtype=np.int64)

    @cached_property
    def _first(self) -> int:
        return int(self.periods.min(initial=0))

    @cached_property
    def _last(self) -> int:
        return int(self.periods.max(initial=0))

    @cached_property
    def _order(self) -> Array:
        """Rows with unit and time, by unit and then by time."""
        known = np.flatnonzero(self.codes >= 0 if self.hidden is None else (self.codes >= 0) & ~self.hidden)
        if (self._last - self._first + 1) * max(len(self.levels), 1) > 2**62:
            raise DataError(
                f"the time {self.time} goes {self.frequency} over too many periods; state a coarser step or frequency "
                "in panel=(unit, time, step)"
            )
        key = self._key(self.codes[known], self.periods[known])
        in_order = bool((key[1:] >= key[:-1]).all())
        return known if in_order else known[np.argsort(key, kind="stable")]

    @cached_property
    def _sorted(self) -> Array:
        return self._key(self.codes[self._order], self.periods[self._order])


def named(panel: Any, data: Any) -> tuple[str, str, Any] | None:
    """Return (unit, time, step or frequency or None) that ``panel=`` names, or the two levels of a MultiIndex.

    Raises
    ------
    DataError
        For what is not two or three names, and columns that the table has not.
    """
    if panel is None:
        index = getattr(data, "index", None)
        two = isinstance(index, pd.MultiIndex) and index.nlevels == 2 and None not in index.names
        return (str(index.names[0]), str(index.names[1]), None) if two and index is not None else None
    if isinstance(panel, str) or not isinstance(panel, Sequence) or len(panel) not in (2, 3):
        raise DataError(
            "panel names two columns, (unit, time), as in panel=('worker', 'year'); a third entry states the step of "
            "numbers or the frequency of dates, as in panel=('firm', 'date', 'Q')"
        )
    available = column_names(data)
    for name in panel[:2]:
        if name not in available:
            raise DataError(
                f"panel= names the column {name!r}, which is not there; the columns are: {', '.join(available)}"
            )
    if panel[0] == panel[1]:
        raise DataError(f"panel= names {panel[0]!r} twice; it takes a column of units and one of times")
    step = panel[2] if len(panel) == 3 else None
    return panel[0], panel[1], step.item() if isinstance(step, np.generic) else step


def as_table(data: Any, panel: Any) -> pd.DataFrame:
    """Return any table as pandas, with the panel's two columns (also levels of an index) among its columns."""
    found = named(panel, data)
    columns = column_names(data)
    return to_table(data, list(dict.fromkeys([*columns, *(found[:2] if found else ())])))


def panel_of(data: pd.DataFrame, panel: Any) -> Panel:
    """Find each row's unit and period.

    Parameters
    ----------
    data : DataFrame that holds the columns
    panel : (unit, time) or (unit, time, step), or None to take a MultiIndex of two named levels

        Times are whole numbers (in steps of 1 unless stated), dates (the coarsest of yearly, quarterly, monthly, weekly
        and daily at which they all stand at the same place of their period, unless stated), periods (their own
        frequency) or ordered categories.

    Raises
    ------
    DataError
        Where a (unit, time) occurs twice, with the rows; for times of another kind.
    """
    found = named(panel, data)
    if found is None:
        raise DataError("panel=(unit, time) is missing: name the column of units and the column of times")
    unit, time, step = found
    columns = {name: _column(data, name) for name in (unit, time)}
    known = (columns[unit].notna() & columns[time].notna()).to_numpy()
    if not known.any():
        raise DataError(f"no row has both {unit} and {time}")
    codes, levels = pd.factorize(columns[unit][known] if not known.all() else columns[unit], sort=True)
    times = columns[time][known] if not known.all() else columns[time]
    clock = _clock(times, step)
    all_codes, all_periods = np.full(len(data), -1), np.zeros(len(data), dtype=np.int64)
    all_codes[known], all_periods[known] = codes, clock.periods(times)
    result = Panel(unit, time, all_codes, pd.Index(levels), all_periods, clock)
    result.check(pd.DataFrame(columns))
    return result


def _column(data: pd.DataFrame, name: str) -> pd.Series:
    if name in data.columns:
        return data[name]
    return pd.Series(data.index.get_level_values(name), index=data.index, name=name)


def _clock(time: pd.Series, step: Any) -> Clock:
    """Choose how times become periods."""
    dtype, name = time.dtype, time.name
    if isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered and dtype.categories.dtype.kind in "iuM":
        return _clock(pd.Series(time.astype(dtype.categories.dtype), name=name), step)
    if isinstance(dtype, pd.CategoricalDtype):
        if not dtype.ordered:
            raise DataError(
                f"the time {name} is a category without an order; make it ordered, as in "
                f"pd.Categorical(df[{name!r}], categories=[...], ordered=True)"
            )
        if step is not None:
            raise DataError(f"the time {name} is an ordered category, whose periods are its categories; give no step")
        return Clock("category", 1, 0, categories=tuple(dtype.categories))
    if (
        isinstance(dtype, pd.PeriodDtype)
        or dtype.kind == "M"
        or isinstance(dtype, pd.DatetimeTZDtype)
        or _holds_dates(time)
    ):
        return _clock_of_dates(time, step)
    if _holds_numbers(time) or (pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)):
        if step is None:
            step = 1
        if not isinstance(step, int) or isinstance(step, bool) or step < 1:
            raise DataError(f"the time {name} is a number, so its step is a whole number of 1 or more, not {step!r}")
        return Clock("number", step, int(_whole(time).min()))
    raise DataError(
        f"the time {name} holds {dtype}; it must be a whole number, a date, a period or an ordered category "
        f"(pd.Categorical(df[{name!r}], categories=[...], ordered=True))"
    )


def _holds_dates(time: pd.Series) -> bool:
    return time.dtype == object and all(isinstance(value, (datetime.date, pd.Period)) for value in time)


def _holds_numbers(time: pd.Series) -> bool:
    return time.dtype == object and all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in time)


def _clock_of_dates(time: pd.Series, step: Any) -> Clock:
    if step is not None and not isinstance(step, str):
        raise DataError(
            f"the time {time.name} is a date, so its frequency is text such as 'Y', 'Q' or 'M', not {step!r}"
        )
    own = time.dtype.freq if isinstance(time.dtype, pd.PeriodDtype) else None
    if own is None and len(time) and isinstance(time.iloc[0], pd.Period):
        own = time.iloc[0].freq
    if step is None:
        offset = own if own is not None else pd.Period("2000", _frequency_of(_dates(time).tz_localize(None))).freq
    else:
        try:
            offset = pd.Period("2000", step).freq
        except ValueError as error:
            raise DataError(
                f"{step!r} is not a frequency of dates; examples are 'Y', 'Q', 'M', 'W', 'D' and '2M'"
            ) from error
    base: Any = offset.base
    frequency = pd.Period("2000", base).freqstr  # "Q-DEC" where the offset says "QE-DEC"
    return Clock("period", int(offset.n), int(_ordinals(time, frequency).min()), frequency)


def _dates(time: pd.Series) -> pd.DatetimeIndex:
    """Read dates, in the zone that they are in.

    Raises
    ------
    DataError
        For numbers, text that is no date, and dates of which some have a zone.
    """
    if pd.api.types.is_numeric_dtype(time.dtype) or (len(time) and _holds_numbers(time)):
        raise DataError(  # pandas would count them from 1970
            f"the time {time.name} holds numbers, and the times of this panel are dates; years become dates by "
            f"pd.to_datetime(df[{time.name!r}].astype(str), format='%Y')"
        )
    try:
        return pd.DatetimeIndex(time)
    except (TypeError, ValueError) as error:
        raise DataError(f"the time {time.name} holds {time.dtype}, not dates: {error}") from error


def _ordinals(time: pd.Series, frequency: str) -> Array:
    is_period = isinstance(time.dtype, pd.PeriodDtype) or (len(time) > 0 and isinstance(time.iloc[0], pd.Period))
    if is_period:
        try:
            periods = pd.PeriodIndex(time)
        except (TypeError, ValueError) as error:
            raise DataError(f"the time {time.name} holds periods of several lengths: {error}") from error
        return np.asarray((periods if periods.freqstr == frequency else periods.asfreq(frequency, how="S")).asi8)
    found = _dates(time)
    if found.tz is not None:  # hours are counted through summer time, days and longer ones are those of the place
        found = found.tz_localize(None) if frequency[0] in "YQMWDB" else found.tz_convert(None)
    return np.asarray(found.to_period(frequency).asi8)


def _frequency_of(dates: pd.DatetimeIndex) -> str:
    """The coarsest frequency at which all dates stand at the same place of their period."""
    dates = dates.unique()

    def same(values: Any) -> bool:
        return len(np.unique(np.asarray(values))) == 1

    if same(dates - dates.normalize()):
        if same(dates.day) or bool(dates.is_month_end.all()):
            return "Y" if same(dates.month) else "Q" if same(dates.month % 3) else "M"
        return "W" if same(dates.day_of_week) else "D"
    return "h" if same(dates.minute) and same(dates.second) else "min" if same(dates.second) else "s"


def _whole(time: pd.Series) -> Array:
    """Whole numbers, also written as floats."""
    values = time.to_numpy()
    if values.dtype.kind in "iuf" and (np.abs(values[np.isfinite(values)].astype(float)) > 2.0**62).any():
        raise DataError(f"the time {time.name} holds numbers beyond 2**62, too large to count periods")
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    try:
        values = values if values.dtype.kind == "f" else time.to_numpy(dtype=object).astype(float)
    except (TypeError, ValueError) as error:
        what = f"the time {time.name} holds {time.dtype}, and the times of this panel are whole numbers"
        raise DataError(what) from error
    bad = ~np.isfinite(values) | (values != np.round(values))
    if bad.any():
        rows = ", ".join(map(str, time.index[bad][:5]))
        raise DataError(
            f"the time {time.name} must be a whole number, and {int(bad.sum())} rows are not (rows {rows}), such as "
            f"{values[bad][0]:g}; number the periods, or give dates"
        )
    return values.astype(np.int64)
