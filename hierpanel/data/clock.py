"""A column of times comes in; a `Clock` goes out, which makes whole numbers of times: periods of a stated frequency."""

import datetime
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

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


def clock_of(time: pd.Series, step: Any) -> Clock:
    """Choose how times become periods."""
    dtype, name = time.dtype, time.name
    if isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered and dtype.categories.dtype.kind in "iuM":
        return clock_of(pd.Series(time.astype(dtype.categories.dtype), name=name), step)
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
