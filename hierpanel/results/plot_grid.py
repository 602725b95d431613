"""A `Fit` and the names of its regressors come in; the rows of a grid go out, and where they stand on an axis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.formula import words
from hierpanel.results import expected
from hierpanel.results.datagrid import datagrid
from hierpanel.results.plot_style import number
from hierpanel.results.thinning import evenly

Array = np.ndarray

# Points of a line, categories that an axis holds, and values that are told apart by colour.
POINTS, CATEGORIES, VALUES = 60, 40, 6


@dataclass(frozen=True)
class Axis:
    """A regressor as one direction of a grid.

    name : its column; values : in order; is_line : whether it is drawn as a line.
    is_number : whether it enters as a number, so that what lies between two values means something.
    """

    name: str
    values: tuple[Any, ...]
    is_line: bool
    is_number: bool

    def places(self, column: pd.Series) -> Array:
        """Return where the values of a column stand: numbers as they are, categories at 0, 1, …"""
        if self.is_line:
            return np.asarray(column) if column.dtype.kind == "M" else column.to_numpy(dtype=float)
        return np.asarray(pd.Index(self.values).get_indexer(pd.Index(column)), dtype=float)


@dataclass(frozen=True)
class Grid:
    """Rows of all combinations of x and by, everything else typical.

    rows : by varies slowest; x, by : their directions (by is None without one).
    held : what the other columns are held at, in words; trials : (rows,) of binomial responses, else 1.
    """

    rows: pd.DataFrame
    x: Axis
    by: Axis | None
    held: str
    trials: Array

    def parts(self) -> list[tuple[Any, slice]]:
        """Return each value of by with its rows."""
        size = len(self.x.values)
        values = (None,) if self.by is None else self.by.values
        return [(value, slice(k * size, (k + 1) * size)) for k, value in enumerate(values)]


def grid(fit: Any, x: str, by: str | None, at: Mapping[str, Any] | None, units: str, inset: float = 0.0) -> Grid:
    """Make the rows; a line ends short of the ends of x by a share `inset` of its length.

    Raises
    ------
    FitError
        For columns that the model has not, grouping factors where units are typical, too many values of a category,
        and formulas with lags.
    """
    if not (at is None or isinstance(at, Mapping)):
        raise FitError(f"at= has values of other columns, as in at={{'union': 1}}, not {at!r}")
    at = dict(at or {})
    if units not in ("own", "typical", "average"):
        raise FitError(f"units is 'typical', 'average' or 'own', not {units!r}")
    if by == x:
        raise FitError(f"by= is another column than {x!r}")
    refuse_lags(fit)
    fitted = rows_of(fit)
    along = axis(fit, x, fitted, at.pop(x, None), CATEGORIES, inset=inset)
    across = None
    if by is not None:
        across = axis(fit, by, fitted, at.pop(by, None), VALUES, units == "own")
    for name, value in at.items():
        if not isinstance(value, str) and np.iterable(value):
            raise FitError(f"at= holds {name!r} at one value; several are for the regressor itself and for by=")
    stated: dict[str, Any] = {} if across is None else {across.name: list(across.values)}
    rows = datagrid(fit, **at, **stated, **{along.name: list(along.values)})
    _check_units(fit, rows, units, {*at, *stated, along.name})
    return Grid(rows, along, across, _held(fit, rows, {along.name, *stated}, units, at), trials_of(fit, rows))


def axis(
    fit: Any, name: str, fitted: pd.DataFrame, values: Any, most: int, factors: bool = False, inset: float = 0.0
) -> Axis:
    """Return a regressor's values: evenly spaced numbers, or categories.

    Parameters
    ----------
    fitted : rows of the fit; values : those that were stated, or None
    most : categories, or numbers where fewer than a line's are wanted
    factors : whether grouping factors count
    inset : share of the range that a line leaves out at either end
    """
    check_regressor(fit, name, factors)
    if name not in regressors(fit) and values is None:
        raise FitError(f"say which units of {name} are meant, as in at={{{name!r}: [{fitted[name].iloc[0]}, …]}}")
    column = fitted[name]
    is_number = name in regressors(fit) and is_continuous(fit, name, column)
    is_line = most > VALUES and is_number
    if values is not None:
        values = [values] if isinstance(values, str) or not np.iterable(values) else list(values)
        is_line = is_line and len(set(values)) > 1
        values = sorted(set(values)) if is_line else values
        if not values:
            raise FitError(f"at= has no value of {name}")
        if len(values) > most and not is_line:
            raise FitError(f"at= has {len(values)} values of {name}; there is room for {most}")
        return Axis(name, tuple(values), is_line, is_number)
    if is_line:
        return Axis(name, _between(column, inset), True, True)
    found = levels_of(column)
    if len(found) > most and is_number:
        quantiles = np.unique(np.quantile(column.to_numpy(dtype=float), [0.1, 0.5, 0.9]))
        return Axis(name, tuple(quantiles.tolist()), False, True)
    if len(found) > most:
        raise FitError(f"{name} has {len(found)} values; choose up to {most}, as in at={{{name!r}: [{found[0]}, …]}}")
    return Axis(name, tuple(found), False, is_number)


def check_regressor(fit: Any, name: str, factors: bool = False) -> None:
    """Raise `FitError` unless a column is a regressor, or a grouping factor where those count."""
    known = fit.coding.columns()
    if name not in known:
        raise FitError(f"the model has no column {name!r}; its columns are: {', '.join(known) or 'none'}")
    if name not in regressors(fit) and not factors:
        raise FitError(
            f"{name} is a grouping factor, and units are typical ones here; fit.plot.caterpillar({name!r}) and "
            f"fit.plot.spaghetti({name!r}) show them"
        )


def is_continuous(fit: Any, name: str, column: pd.Series) -> bool:
    """Whether a column of numbers or dates enters as such, with more than two values."""
    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "O"
    return kind in "iufM" and column.nunique() > 2 and not enters_by_levels(fit, name)


def enters_by_levels(fit: Any, name: str) -> bool:
    """Whether some term takes a column by its levels, as ``C(x)`` does."""
    encoders = [fit.coding.encoders.common, *(e for blocks in fit.coding.encoders.blocks for e in blocks)]
    parts = [part for encoder in encoders for term in encoder.parts for part in term]
    return any(part.kind == "categoric" and name in names_in(part.name) for part in parts)


def names_in(expression: str) -> set[str]:
    """Return the columns that an expression reads, its own row's and others'."""
    return set().union(*words.columns_of(expression))


def regressors(fit: Any) -> set[str]:
    """Return the columns that enter the coefficients, the factors' columns or an offset."""
    return {name for text in fit.coding.formula.column_expressions()[1:] for name in names_in(text)}


def refuse_lags(fit: Any) -> None:
    """Raise `FitError` where the formula looks at other periods."""
    if fit.coding.operators.shifts:
        raise FitError(
            f"{fit.coding.operators.shifts[0].text} looks at other periods, which a grid does not have; "
            "hp.predictions(fit, rows) and hp.slopes(fit, …) work on rows of the data"
        )


def rows_of(fit: Any) -> pd.DataFrame:
    """Return the rows that were fitted (n,), in the order of the design, with every column that was read.

    Raises
    ------
    FitError
        Where the fit does not hold them, or rows became unit means.
    """
    if fit.spec.joined:
        raise FitError(
            f"the rows of {fit.spec.formula} are unit means, which no table holds; hp.predictions works on them"
        )
    return expected.fitted_rows(fit)


def trials_of(fit: Any, rows: pd.DataFrame) -> Array:
    """Return the trials of each row, 1 for responses that are not out of trials."""
    if not fit.spec.family.counts_trials:
        return np.ones(len(rows))
    trials = fit.coding.code(rows, trials=True).trials
    return np.asarray(trials, dtype=float)


def _between(column: pd.Series, inset: float) -> tuple[Any, ...]:
    if column.dtype.kind == "M":
        seen = np.sort(column.unique())
        return tuple(seen[evenly(len(seen), POINTS)])
    values = column.to_numpy(dtype=float)
    room = inset * float(np.ptp(values))
    return tuple(np.linspace(values.min() + room, values.max() - room, POINTS).tolist())


def levels_of(column: pd.Series) -> list[Any]:
    """Return the values of a column in order: that of its categories, where it has such."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        seen = set(column.unique())
        return [level for level in column.cat.categories if level in seen]
    return sorted(column.unique().tolist())


def _check_units(fit: Any, rows: pd.DataFrame, units: str, stated: set[str]) -> None:
    """With units="own" some factor's units are stated, and the fit has seen them."""
    groups = fit.coding.formula.groups
    named = [k for k, group in enumerate(groups) if set(group.factor) <= stated]
    if units != "own":
        factors = {name for group in groups for name in group.factor} - regressors(fit)
        if used := sorted(factors & stated):
            raise FitError(f"units are {units} ones, so {used[0]} makes no difference; units='own' shows its units")
        return
    if not named:
        example = next((f"at={{{g.factor[0]!r}: …}}" for g in groups), "a model with a grouping factor")
        raise FitError(f"units='own' shows the units that are stated, as in {example}; units='typical' needs none")
    coded = fit.coding.code(rows).groups
    for k in named:
        if len(coded[k].new):
            unknown = ", ".join(map(str, coded[k].new[:5]))
            raise FitError(f"{groups[k].name} has no unit {unknown}; new units are shown by units='typical'")


def _held(fit: Any, rows: pd.DataFrame, shown: set[str], units: str, at: Mapping[str, Any]) -> str:
    """Say what the columns that are not shown are held at."""
    factors = {name for group in fit.coding.formula.groups for name in group.factor} - regressors(fit)
    names = " and ".join(group.name for group in fit.design.groups)
    kinds = {"typical": f"typical {names}", "average": f"averaged over {names}", "own": ""}
    parts = [kinds[units]] if names and kinds[units] else []
    rest = [name for name in fit.coding.columns() if name not in shown and (name not in factors or name in at)]
    return ", ".join(parts + said(rows, rest))


def said(rows: pd.DataFrame, names: list[str]) -> list[str]:
    """Write at what columns stand in the first of some rows; of more than five the first ones."""
    values = {name: rows[name].iloc[0] for name in names[:5]}
    found = [
        f"{name} = {number(float(value)) if isinstance(value, (float, np.floating)) else value}"
        for name, value in values.items()
    ]
    return found + ([f"{len(names) - 5} more at typical values"] if len(names) > 5 else [])
