"""A `Fit` and values of some columns come in; rows of all combinations go out, the other columns at typical values."""

import itertools
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.frame import as_read
from hierpanel.errors import FitError
from hierpanel.results.expected import TYPICAL, check_fit, fitted_rows


def datagrid(fit: Any, /, **values: Any) -> pd.DataFrame:
    """Return rows of all combinations of stated values, every other column at a typical value.

    Parameters
    ----------
    fit : Fit
    **values : column = value, values, or a function of the column
        Columns that are not named are at their mean (whole numbers at the value nearest to it), text, categories and
        truth values at the most frequent one, trials at 1, and grouping factors that are no regressors at a unit that
        the fit has not seen, which `predictions` takes for a typical one.

    Returns
    -------
    DataFrame with a row for each combination, the last one stated varying fastest

    Raises
    ------
    FitError
        For columns that the model does not use, and for formulas with lags, whose rows cannot be made up.

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("wage_panel")
    >>> fit = hp.fit("log_wage ~ union + experience + (1 | worker)", df, draws=200, seed=1)
    >>> len(hp.datagrid(fit, union=[0, 1], experience=range(10)))
    20
    """
    check_fit(fit)
    coder = fit.coding
    if coder.operators.shifts:
        raise FitError(
            f"{coder.operators.shifts[0].text} looks at other periods, which a grid does not have; give rows of the "
            "data, such as df[df.year == 1987]"
        )
    fitted = fitted_rows(fit)
    trials = coder.columns_of_trials() if fit.spec.family.counts_trials else ()
    columns = [*coder.columns(), *(name for name in trials if name not in coder.columns())]
    unknown = sorted(set(values) - set(columns))
    if unknown:
        raise FitError(f"the model has no column {unknown[0]!r}; its columns are: {', '.join(columns)}")
    factors = {name for group in coder.formula.groups for name in group.factor}
    units = (factors | {means.by for means in coder.operators.means.values()}) - coder.regressors()
    if not fit.spec.has_intercept and any(g.is_fixed and set(g.name.split(":")) - set(values) for g in fit.spec.groups):
        raise FitError("without an intercept the effects of fe() hold the level, and no unit is typical; state units")
    chosen = {
        name: _stated(values[name], fitted[name])
        if name in values
        else [1]
        if name in trials
        else [_typical(as_read(fitted[name]), name in units)]
        for name in columns
    }
    order = [name for name in columns if name not in values] + list(values)
    rows = list(itertools.product(*(chosen[name] for name in order)))
    grid = pd.DataFrame({name: [row[k] for row in rows] for k, name in enumerate(order)}, index=range(len(rows)))[
        columns
    ]
    grid.attrs[TYPICAL] = tuple(name for name in columns if name in units and name not in values)
    return grid


def _stated(value: Any, column: pd.Series) -> list[Any]:
    value = value(column) if callable(value) else value
    return [value] if isinstance(value, str) or not np.iterable(value) else list(value)


def _typical(column: pd.Series, is_unit: bool) -> Any:
    known = column.dropna()
    is_number = pd.api.types.is_numeric_dtype(known.dtype) and not pd.api.types.is_bool_dtype(known.dtype)
    if is_unit:
        return int(known.max()) + 1 if is_number else "(typical)"
    if is_number:
        mean = float(known.mean())
        return known.iloc[int((known - mean).abs().argmin())] if pd.api.types.is_integer_dtype(known.dtype) else mean
    if column.dtype.kind == "M" or isinstance(column.dtype, pd.PeriodDtype):
        return known.sort_values().iloc[len(known) // 2]
    return known.mode().iloc[0]
