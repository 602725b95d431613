"""A table and ``panel=(unit, time)`` come in; a `Panel` goes out: for each row its unit and its place on the time axis.

Periods are whole numbers in steps of a stated frequency, so that "the period before" means the same in every unit, and
a gap stays a gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.clock import Clock, clock_of
from hierpanel.data.frame import column_names, to_table
from hierpanel.errors import DataError

Array = np.ndarray


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
    clock = clock_of(times, step)
    all_codes, all_periods = np.full(len(data), -1), np.zeros(len(data), dtype=np.int64)
    all_codes[known], all_periods[known] = codes, clock.periods(times)
    result = Panel(unit, time, all_codes, pd.Index(levels), all_periods, clock)
    result.check(pd.DataFrame(columns))
    return result


def _column(data: pd.DataFrame, name: str) -> pd.Series:
    if name in data.columns:
        return data[name]
    return pd.Series(data.index.get_level_values(name), index=data.index, name=name)
