"""A column expression and a table come in; its values go out, checked row by row, and again for other rows.

formulae evaluates; what its transforms, splines and contrasts remember of the first table stays in the component.
"""

import contextlib
import io
import operator
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import DataError
from hierpanel.formula import syntax, words

# Rows of the fit on which it is checked that an expression needs no others.
SAMPLE = 5


class Mask:
    """The table's columns, then the caller's constants, under one roof, as formulae looks names up."""

    def __init__(self, table: pd.DataFrame, objects: Mapping[str, Any]):
        self.table, self.objects, self.index = table, objects, table.index
        self.shape = table.shape

    def __getitem__(self, name: str) -> Any:
        return self.table[name] if name in self.table.columns else self.objects[name]


def evaluate(text: str, mask: Mask | pd.DataFrame) -> Any:
    """Evaluate one column expression; return formulae's component, whose `.kind` tells what it is.

    Raises
    ------
    DataError
        Where the expression cannot be computed on this table, does not give one number or level (or several
        columns of them) for each row, or gives missing or infinite values.
    """
    from formulae.environment import Environment
    from formulae.resolver import Resolver

    mask = mask if isinstance(mask, Mask) else Mask(mask, {})
    component = Resolver(words.replaced(syntax.parse_tree(text))).resolve().components[0]
    if type(component).__name__ == "Call":
        component.name = text
        _compute_as_r(component.call)
    try:
        # formulae prints while it raises; what it has to say is in the error.
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            if type(component).__name__ == "Call":
                component.set_type(mask, Environment([dict(mask.objects)]))
            else:
                _refuse_dates(text, mask[component.name])
                component.set_type(mask)
    except DataError:
        raise
    except Exception as error:
        if "unrecognized type" in str(error):
            dates = "a difference of dates is a number when it is divided by np.timedelta64(1, 'D')"
            raise DataError(f"{text} gives neither numbers nor levels; {dates}") from error
        raise DataError(f"{text} cannot be computed: {type(error).__name__}: {error}") from error
    if component.kind == "numeric":
        _check_numbers(text, np.asarray(component._intermediate_data), mask.table)
    elif component.kind == "categoric":
        _check_levels(text, uncoded(component._intermediate_data), mask.table)
    if type(component).__name__ == "Call" and component.kind in ("numeric", "categoric"):
        rows = np.unique(np.linspace(len(mask.table) - 1, 0, SAMPLE).astype(int))[::-1]
        component.sample = mask.table.iloc[rows], np.asarray(uncoded(component._intermediate_data))[rows]
    return component


def code(part: Any, full: bool) -> None:
    """Make the columns of an evaluated expression: a factor's with all of its levels (`full`), or with contrasts.

    Raises
    ------
    DataError
        Where the contrasts do not fit the levels.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            part.set_data(full)
    except Exception as error:
        levels = ", ".join(map(str, part.levels[:6])) if part.kind == "categoric" else ""
        known = f"; its levels are: {levels}" if levels else ""
        raise DataError(f"{part.name} cannot be coded: {error}{known}") from error


def values_of(text: str, table: pd.DataFrame, objects: Mapping[str, Any]) -> pd.Series:
    """Evaluate a column expression on rows in which values may be missing; they stay missing.

    Raises
    ------
    DataError
        Where the expression cannot be computed, or does not give one value for each row.
    """
    from formulae.environment import Environment
    from formulae.resolver import Resolver
    from formulae.transforms import TRANSFORMS

    tree = words.replaced(syntax.parse_tree(text))
    if (name := syntax.named(tree)) is not None and type(tree).__name__ != "Call":
        return table[name]
    component = Resolver(tree).resolve().components[0]
    _compute_as_r(component.call)
    used = [name for name in syntax.names_used(tree)[0] if name in table.columns]
    mask = Mask(pd.DataFrame({name: _with_nan(table[name]) for name in used}, index=table.index), objects)
    try:
        with np.errstate(all="ignore"):
            values = component.call.eval(mask, Environment([TRANSFORMS, dict(objects)]))
    except Exception as error:
        raise DataError(f"{text} cannot be computed: {type(error).__name__}: {error}") from error
    _check_rows(text, values, table)
    nothing = np.asarray(pd.isna(values)) & ~mask.table.isna().any(axis=1).to_numpy()
    if nothing.any():
        rows = ", ".join(map(str, table.index[nothing][:5])) + (", …" if nothing.sum() > 5 else "")
        raise DataError(
            f"{text} gives NaN in {int(nothing.sum())} of {len(table)} rows where nothing is missing (rows {rows})"
        )
    return pd.Series(np.asarray(values) if np.ndim(values) == 1 else values, index=table.index, name=text)


def evaluate_again(part: Any, mask: Mask) -> np.ndarray:
    """Code new rows with a remembered component; new levels are an error, rows outside a spline's knots a warning."""
    if type(part).__name__ == "Call":
        environment = _new_rows_environment(mask.objects)
        _refuse_what_looks_at_other_rows(part, mask.objects, environment)
        try:
            _warn_outside_knots(part.call, mask, environment)
            with np.errstate(all="ignore"):
                values = part.call.eval(mask, environment)
        except UserWarning:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise DataError(f"{part.name} cannot be computed on these rows: {why}") from error
    else:
        values = mask[part.name]
    if part.kind == "numeric":
        _check_numbers(part.name, np.asarray(values), mask.table)
        return columns_of(values)
    _check_levels(part.name, values, mask.table)
    codes, found = pd.factorize(np.asarray(values))
    levels = [_named_level(level) for level in found]
    place = {_named_level(level): k for k, level in enumerate(part.levels)}  # by value: 2000.0 is the level 2000
    unknown = sorted(str(level) for level in levels if level not in place)
    if unknown:
        known = ", ".join(map(str, part.levels[:12])) + (", …" if len(part.levels) > 12 else "")
        raise DataError(f"{part.name} has levels that the fit has not seen: {', '.join(unknown[:5])}; it knows {known}")
    return np.asarray(part.contrast_matrix.matrix[[place[level] for level in levels]][codes], dtype=float)


def _refuse_what_looks_at_other_rows(part: Any, objects: Mapping[str, Any], environment: Any) -> None:
    """Raise where some rows of the fit get other values by themselves than they got among all of them."""
    table, known = part.sample
    singles = [slice(k, k + 1) for k in range(len(table))]
    for rows in (*singles, slice(None)):
        try:
            with np.errstate(all="ignore"):
                found = np.asarray(part.call.eval(Mask(table[rows], objects), environment))
            if part.kind == "numeric":
                same = np.allclose(found.astype(float), known[rows].astype(float), rtol=1e-9, atol=1e-12)
            else:
                same = bool((found.astype(str) == known[rows].astype(str)).all())
        except Exception:  # of whatever kind: a function that needs many rows
            same = False
        if not same:
            raise DataError(
                f"{part.name} depends on rows beside the row itself, so it has no value in other rows: make it a "
                "column of the table, or take center(), scale() or standardize(), which remember the rows of the fit"
            )


def columns_of(values: np.ndarray) -> np.ndarray:
    """Return values as (n, k) columns of floats."""
    values = np.asarray(values, dtype=float)
    return values[:, None] if values.ndim == 1 else values


def _with_nan(column: pd.Series) -> pd.Series:
    """Numbers as floats, in which NaN is what is missing."""
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return pd.Series(column.to_numpy(dtype=float, na_value=np.nan), index=column.index)
    return column


def _compute_as_r(call: Any) -> None:
    """Let a call's operators treat numbers as R's do: whole numbers do not overflow, truth values add up to counts."""
    for argument in (*call.args, *getattr(call, "kwargs", {}).values()):
        if hasattr(argument, "args"):
            _compute_as_r(argument)
    if type(call).__name__ == "LazyOperator":
        call.op = _OPERATORS.get(call.op, call.op)


def _cast(value: Any, kinds: str, dtype: type) -> Any:
    return value.astype(dtype) if getattr(getattr(value, "dtype", None), "kind", " ") in kinds else value


def _pow(a: Any, b: Any) -> Any:
    return _cast(a, "iub", float) ** _cast(b, "iub", float)


def _mul(a: Any, b: Any) -> Any:
    return _cast(a, "iub", float) * _cast(b, "iub", float)


def _add(a: Any, b: Any) -> Any:
    return _cast(a, "b", int) + _cast(b, "b", int)


def _sub(a: Any, b: Any) -> Any:
    return _cast(a, "b", int) - _cast(b, "b", int)


def _neg(a: Any) -> Any:
    return -_cast(a, "b", int)


_OPERATORS = {operator.pow: _pow, operator.mul: _mul, operator.add: _add, operator.sub: _sub, operator.neg: _neg}


def _check_numbers(text: str, values: np.ndarray, table: pd.DataFrame) -> None:
    _check_rows(text, values, table)
    if values.dtype.kind not in "iufb":
        raise DataError(f"{text} gives values of type {values.dtype}, not numbers")
    values = values.astype(float)
    bad = ~np.isfinite(values)
    bad = bad.any(axis=1) if bad.ndim == 2 else bad
    if bad.any():
        rows = ", ".join(map(str, table.index[bad][:5]))
        kinds = {"NaN": np.isnan(values), "infinite values": np.isinf(values)}
        what = " and ".join(kind for kind, found in kinds.items() if found.any())
        raise DataError(
            f"{text} gives {what} in {int(bad.sum())} of {len(table)} rows (rows {rows}"
            f"{', …' if bad.sum() > 5 else ''}); drop those rows or change the expression"
        )


def _check_levels(text: str, values: Any, table: pd.DataFrame) -> None:
    _check_rows(text, values, table)
    missing = np.asarray(pd.isna(values))
    if missing.any():  # its code would be -1, which numpy takes for the last level
        rows = ", ".join(map(str, table.index[missing][:5]))
        raise DataError(
            f"{text} gives no level in {int(missing.sum())} of {len(table)} rows (rows {rows}"
            f"{', …' if missing.sum() > 5 else ''}); drop those rows or change the expression"
        )


def _check_rows(text: str, values: Any, table: pd.DataFrame) -> None:
    shape = np.shape(values)
    if len(shape) not in (1, 2) or shape[0] != len(table):
        gives = "one value" if not shape else f"values of shape {shape}"
        raise DataError(f"{text} gives {gives} for {len(table)} rows; a column has one value for each row")
    if 0 in shape[1:]:
        raise DataError(f"{text} gives no column; leave it out")


def uncoded(values: Any) -> Any:
    """Return levels row by row, without what C(), S() and T() say of their coding."""
    return values.data if type(values).__name__ == "CategoricalBox" else values


def _refuse_dates(text: str, column: Any) -> None:
    if getattr(getattr(column, "dtype", None), "kind", "") in "mM" or isinstance(
        getattr(column, "dtype", None), (pd.PeriodDtype, pd.DatetimeTZDtype, pd.IntervalDtype)
    ):
        raise DataError(
            f"{text} is a column of {column.dtype}, which has no unit as a regressor; make a number of it "
            f"(for example the year, or days since a date), or a category with {text}.astype(str)"
        )


def _named_level(level: Any) -> Any:
    return str(level) if isinstance(level, pd.Interval) else level


def _new_rows_environment(objects: Mapping[str, Any]) -> Any:
    """What calls look names up in; C(), S() and T() let their data pass, since levels and contrasts are remembered."""
    from formulae.categorical import ENCODINGS
    from formulae.environment import Environment
    from formulae.transforms import TRANSFORMS

    remembered = dict.fromkeys(("C", "S", "T"), lambda data, *_, **__: data)
    return Environment([remembered, TRANSFORMS, ENCODINGS, objects])


def _warn_outside_knots(call: Any, mask: Mask, environment: Any) -> None:
    arguments = (*getattr(call, "args", ()), *getattr(call, "kwargs", {}).values())
    for argument in arguments:
        _warn_outside_knots(argument, mask, environment)
    knots = getattr(getattr(call, "stateful_transform", None), "_knots", None)
    if knots is not None:
        column = call.args[0] if call.args else call.kwargs["x"]
        x = np.asarray(column.eval(mask, environment), dtype=float)
        outside = int(((x < knots[0]) | (x > knots[-1])).sum())
        if outside:
            warnings.warn(
                f"{call} is asked for {outside} of {len(x)} rows outside {knots[0]:g} … {knots[-1]:g}, the range that "
                "it was fitted on; a spline explodes there",
                stacklevel=2,
            )
