"""A `Fit` and rows come in; draws of their expected response go out, one by one or averaged over groups of rows.

A row's unit is its own, a typical one (effects 0), or an average one: with a link these are three different numbers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpanel.data.frame import as_read, column_names, to_table
from hierpanel.data.reading import NewRows
from hierpanel.errors import DataError, FitError, warn
from hierpanel.results import tables
from hierpanel.results.normal_mean import even, mean_over_normal
from hierpanel.results.predict import Predictor, listed

Array = np.ndarray
Units = Literal["own", "typical", "average"]

# Attribute of a table: columns that hold a typical unit, as in those of `datagrid`.
TYPICAL = "typical units"
# Effects of units are integrated out over this many sds to both sides.
REACH = 8.5


@dataclass(frozen=True)
class ExpectedRows:
    """Rows at which something is worked out.

    table : those in which nothing is missing; coded : as the fit codes them; others : all that were given, at which
    lags look.
    """

    fit: Any
    table: pd.DataFrame
    coded: NewRows
    others: pd.DataFrame
    units: str
    kind: str

    @classmethod
    def of(cls, fit: Any, data: Any, units: str, kind: str) -> "ExpectedRows":
        check_fit(fit)
        if units not in ("own", "typical", "average"):
            raise FitError(f"units is 'own', 'typical' or 'average', not {units!r}")
        table = fitted_rows(fit) if data is None else to_table(data, column_names(data))
        rows = fit.coding.code(table, trials=_needs_trials(fit, kind))
        if not rows.complete.any():
            raise DataError("in every row something is missing")
        if units == "own":
            _refuse_new(fit, rows, getattr(data, "attrs", {}).get(TYPICAL, ()))
        if lost := int((~rows.complete).sum()):
            warn(f"{lost} of {len(table)} rows, in which something is missing, are left out")
        return cls(fit, table.loc[rows.complete], rows, table, units, kind)

    @cached_property
    def fitted(self) -> pd.DataFrame:
        """Rows of the fit, of which levels and spreads are taken."""
        return fitted_rows(self.fit)

    def known(self, name: str) -> pd.Series:
        """A column of the fit's rows."""
        return as_read(self.fitted[name])

    def column(self, name: str) -> pd.Series:
        known = self.fit.coding.columns()
        if name not in known:
            raise FitError(f"the model has no column {name!r}; its columns are: {', '.join(known)}")
        if name not in self.fit.coding.moving():
            raise FitError(
                f"{name} enters this model by lags, leads, unit means or first outcomes alone, which keep their values "
                f"when a row's own {name} changes; their coefficients are in fixef()"
            )
        return as_read(self.table[name])

    def changed(self, name: str, values: Any) -> "_Predictor":
        """Return the rows with another value of one column; what looks at other rows sees the old ones."""
        table = self.table.assign(**{name: values})
        rows = self.fit.coding.code(table, trials=_needs_trials(self.fit, self.kind), others=self.others)
        if not rows.complete.all():
            raise DataError(f"with {name} changed something is missing in {int((~rows.complete).sum())} rows")
        return self._predictor(rows)

    def values(self, changed: "_Predictor | None", places: Array) -> Array:
        """Return draws (m, S) of the expected response of complete rows."""
        one = self._unchanged if changed is None else changed
        with np.errstate(over="ignore"):
            return finite(one.expected(places, self.kind), "the expected response")

    @cached_property
    def _unchanged(self) -> "_Predictor":
        return self._predictor(self.coded)

    def _predictor(self, rows: NewRows) -> "_Predictor":
        return _Predictor(self.fit, rows, "typical", units=self.units)

    def result(self, work: Callable[[Array], Array], by: Any, prob: float, head: Mapping[str, Any]) -> pd.DataFrame:
        """Summarise each row, or averages over rows."""
        if by is None or by is False:
            parts = [_summary(work(places), prob).set_axis(places) for places in self._chunks()]
            return self._framed(self.table, pd.concat(parts).sort_index(), prob, head)
        totals, keys, counts = self._averaged(work, by)
        return self._framed(keys, _summary(totals / counts[:, None], prob), prob, head)

    def result_of_averages(
        self,
        above: Callable[[Array], Array],
        below: Callable[[Array], Array],
        compare: Callable[[Array, Array], Array],
        by: Any,
        prob: float,
        head: Mapping[str, Any],
    ) -> pd.DataFrame:
        """Summarise a comparison of averages over rows."""
        if by is None or by is False:
            raise FitError("a comparison of averages needs by=True, or columns")
        high, keys, counts = self._averaged(above, by)
        low = self._averaged(below, by)[0]
        return self._framed(keys, _summary(compare(high / counts[:, None], low / counts[:, None]), prob), prob, head)

    def _averaged(self, work: Callable[[Array], Array], by: Any) -> tuple[Array, pd.DataFrame, Array]:
        """Return sums over rows (groups, S), the groups' keys, and their rows."""
        columns = _columns_of(by)
        rows = self.table.reset_index(drop=True)
        for name in columns:
            if name not in rows.columns:
                raise DataError(f"by= names {name!r}, which is no column; the columns are: {', '.join(rows.columns)}")
        if columns:
            codes = rows.groupby(columns, sort=True, observed=True, dropna=False).ngroup().to_numpy()
            keys = rows.iloc[np.unique(codes, return_index=True)[1]][columns].reset_index(drop=True)
        else:
            codes, keys = np.zeros(len(rows), dtype=int), pd.DataFrame(index=[0])
        totals: Array | None = None
        for places in self._chunks():
            values = work(places)
            if totals is None:
                totals = np.zeros((len(keys), values.shape[1]))
            np.add.at(totals, codes[places], values)
        assert totals is not None
        return totals, keys, np.bincount(codes)

    def _chunks(self) -> Iterator[Array]:
        return self._unchanged.places()

    def _framed(self, keys: pd.DataFrame, summary: pd.DataFrame, prob: float, head: Mapping[str, Any]) -> pd.DataFrame:
        summary = summary.set_axis(keys.index)
        if not head:
            summary = summary.drop(columns="p_pos")
        taken = [name for name in keys.columns if name in head or name in summary.columns]
        if taken:
            raise DataError(f"the table has a column called {taken[0]!r}, as the result would have; rename it")
        found = tables.Table(pd.concat([pd.DataFrame(dict(head), index=keys.index), keys, summary], axis=1))
        found.columns.name = f"{100 * prob:g} % equal-tailed"
        found.attrs = {"interval": "equal-tailed", "prob": prob, "units": self.units}
        return found


@dataclass(frozen=True)
class _Predictor(Predictor):
    """Predictions in which units that the fit has not seen are typical ones, or all of them, or none."""

    units: str = "own"

    def expected(self, places: Array, kind: str) -> Array:
        """Return draws (m, S) of the expected response."""
        eta = self.linear(places) if self.units == "own" else self.without_effects(places)
        inverse = self.fit.spec.family.link.inverse
        if kind == "linear":
            return eta
        link = self.fit.spec.family.link.name
        if self.units != "average" or link == "identity":
            mean = np.asarray(inverse(eta))
        else:
            mean = _averaged(link, inverse, eta, self._variance(places))
        return mean if self.rows.trials is None else mean * self.rows.trials[places][:, None]

    def _variance(self, places: Array) -> Array:
        """The variance (m, S) over units of the linear predictor: Σ z'Σz."""
        total = np.zeros((len(places), self.size))
        for number, group in enumerate(self.rows.groups):
            blocks = [block.columns for block in self.fit.spec.groups[number].blocks if not block.fixed]
            free = [k for columns in blocks for k in range(columns.start, columns.stop)]
            half = np.einsum("mi,sij->msj", group.Z[places][:, free], self._factors[number][:, free])
            total += (half**2).sum(axis=2)
        return total


def _averaged(link: str, inverse: Callable[[Array], Array], eta: Array, variance: Array) -> Array:
    """The mean of inverse(eta + N(0, variance)), element by element."""
    if link == "log":
        return np.asarray(np.exp(eta + variance / 2))
    if link == "probit":
        return np.asarray(inverse(eta / np.sqrt(1 + variance)))
    spread = np.sqrt(variance)
    # the trapezoid rule's error falls like exp(-c / step) for functions that are smooth over one unit of the predictor
    step = max(0.5 / max(1.0, float(spread.max())), 0.01)
    return mean_over_normal(inverse, eta, spread, *even(REACH, int(np.ceil(2 * REACH / step)) + 1))


def check_fit(fit: Any) -> None:
    """Raise unless it is a fit."""
    if not hasattr(type(fit), "coding"):
        raise FitError(f"a fit is what hp.fit, Model.fit or hp.load returns, not a {type(fit).__name__}")


def finite(values: Array, what: str) -> Array:
    """Return draws (m, S) as they are, if all are numbers."""
    bad = ~np.isfinite(values)
    if bad.any():
        raise FitError(f"{what} is no finite number in {int(bad.sum())} draws of {int(bad.any(axis=1).sum())} rows")
    return values


def _columns_of(by: Any) -> list[str]:
    if by is True:
        return []
    if isinstance(by, str):
        return [by]
    if not isinstance(by, Iterable) or not all(isinstance(name, str) for name in by):
        raise FitError(f"by is True, None, a column or a list of columns, not {by!r}")
    return list(dict.fromkeys(by))


def _refuse_new(fit: Any, rows: NewRows, typical: Sequence[str]) -> None:
    """An unknown unit is never taken for a typical one unasked; columns of `typical` are asked for."""
    for spec, group in zip(fit.spec.groups, rows.groups, strict=True):
        if len(group.new) and not set(spec.name.split(":")) & set(typical):
            some = listed(group.new)
            raise DataError(
                f"{spec.name} has {some} that the fit has not seen; units='typical' puts effects at 0, "
                "units='average' averages over units"
            )


def _needs_trials(fit: Any, kind: str) -> bool:
    return bool(fit.spec.family.counts_trials and kind == "mean")


def fitted_rows(fit: Any) -> pd.DataFrame:
    """The rows of the fit, as they were given."""
    if fit.source is None:
        raise FitError("this fit does not hold the table that it was read from; give data=")
    rows: pd.DataFrame = fit.source.table.loc[fit.coding.kept]
    if fit.spec.joined:  # a row for each unit: what differs within it is of its first row
        rows = rows[~rows.duplicated(fit.spec.panel.unit)].sort_values(fit.spec.panel.unit)
    return rows.set_index(fit.design.index)


def _summary(values: Array, prob: float) -> pd.DataFrame:
    columns = dict(zip(("mean", "sd", "lower", "upper"), tables.of_rows(values, prob), strict=True))
    return pd.DataFrame(columns | {"p_pos": (values > 0).mean(axis=1)})
