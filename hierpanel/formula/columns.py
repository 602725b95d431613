"""Terms and a table come in; a matrix of columns goes out, with an `Encoder` that codes new rows the same way.

formulae evaluates each column expression (transforms with a memory, splines, contrasts). Which factors of a term get
all their levels and which get contrasts follows R's rule, so that X and Z equal lme4's.
"""

import contextlib
import io
import itertools
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import DataError
from hierpanel.formula import syntax, words
from hierpanel.formula.rank import dependencies
from hierpanel.formula.terms import Term


@dataclass(frozen=True)
class Encoder:
    """Codes the columns of one set of terms for any table, as they were coded for the first.

    labels : (p,) column names, in formulae's words ("Intercept", "x", "h[b]", "x:h[b]").
    aliased : names of columns that the coding made redundant and that were left out, as R's `lm` does.
    terms : (p,) the place of each column's term among the terms, -1 for the intercept.
    """

    labels: tuple[str, ...]
    aliased: tuple[str, ...]
    terms: tuple[int, ...]
    intercept: bool
    kept: tuple[int, ...]
    parts: tuple[tuple[Any, ...], ...]

    def matrix(self, table: pd.DataFrame, objects: Mapping[str, Any]) -> np.ndarray:
        """Return the (n, p) columns for new rows.

        Raises
        ------
        DataError
            For a level that the first table did not have.
        """
        mask = Mask(table, objects)
        values = [[evaluate_again(part, mask) for part in parts] for parts in self.parts]
        return _stack(self.intercept, values, len(table))[:, list(self.kept)]


def encode(
    intercept: bool, terms: Sequence[Term], table: pd.DataFrame, objects: Mapping[str, Any], where: str
) -> tuple[Encoder, np.ndarray]:
    """Evaluate the terms on a table without missing values.

    Parameters
    ----------
    intercept, terms
        The columns to make; an intercept comes first.
    table : DataFrame of n rows
    objects
        Functions and constants that the expressions name (see `namespace.resolve`).
    where : str
        What the columns belong to, for error messages ("the coefficients", "(1 + x | g)").

    Returns
    -------
    Encoder and the (n, p) float matrix.

    Raises
    ------
    DataError
        For missing or infinite values, for a constant column and for exactly collinear columns, with their names.
    """
    mask = Mask(table, objects)
    kinds = {text: evaluate(text, mask).kind for term in terms for text in term}
    codings, forced = _contrasts(terms, intercept, {text for text, kind in kinds.items() if kind == "categoric"})
    parts, labels, values, redundant = [], ["Intercept"] * intercept, [], [False] * intercept
    numbers = [-1] * intercept
    for number, (term, full) in enumerate(zip(terms, codings, strict=True)):
        evaluated = [evaluate(text, mask) for text in term]
        for text, part in zip(term, evaluated, strict=True):
            part.set_data(full.get(text, False))
            if part.kind == "categoric" and len(part.levels) < 2:
                raise DataError(
                    f"{text} of {where} has one level ({part.levels[0]}) in the {len(table)} rows that are used, so it "
                    "cannot explain anything; leave it out"
                )
        term_labels = [":".join(names) for names in _first_fastest([part.labels for part in evaluated])]
        labels += term_labels
        numbers += [number] * len(term_labels)
        values.append([columns_of(part.value) for part in evaluated])
        cells = len(term) > 1 and (len(full) == len(term) or sum(full.values()) > 1 or term in forced)
        redundant += [cells] * len(term_labels)
        for part in evaluated:
            # neither the training rows nor the caller's objects are kept, so an encoder is small and pickles
            part.value = part._intermediate_data = part.env = None
        parts.append(tuple(evaluated))
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"two columns of {where} would both be called {twice!r}; rename a level or a column")
    matrix = _stack(intercept, values, len(table))
    aliased = _check_rank(matrix, labels, redundant, intercept, where)
    kept = tuple(k for k in range(len(labels)) if k not in aliased)
    encoder = Encoder(
        labels=tuple(labels[k] for k in kept),
        aliased=tuple(labels[k] for k in aliased),
        terms=tuple(numbers[k] for k in kept),
        intercept=intercept,
        kept=kept,
        parts=tuple(parts),
    )
    return encoder, matrix[:, list(kept)] if aliased else matrix


def evaluate(text: str, mask: "Mask | pd.DataFrame") -> Any:
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
        _check_levels(text, _uncoded(component._intermediate_data), mask.table)
    return component


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


def _contrasts(terms: Sequence[Term], intercept: bool, factors: set[str]) -> tuple[list[dict[str, bool]], set[Term]]:
    """R's rule: a factor of a term gets contrasts where a term before it holds all of its other parts, else all levels.

    Main effects get contrasts; without an intercept the first factor gets all its levels (`forced` names its term).
    Source: Chambers and Hastie (1992), Statistical Models in S, p. 38, as R's `terms.formula` carries it out.
    """
    codings = []
    for k, term in enumerate(terms):
        rest = {part: frozenset(term) - {part} for part in term if part in factors}
        before = [frozenset(other) for other in terms[:k]]
        codings.append({part: bool(r) and not any(r <= other for other in before) for part, r in rest.items()})
    forced: set[Term] = set()
    if not intercept:
        for term, full in zip(terms, codings, strict=True):
            if full:
                first = next(part for part in term if part in full)
                forced = {term} if not full[first] else set()
                full[first] = True
                break
    return codings, forced


def _first_fastest(labels: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """All combinations with the first one varying fastest, R's order."""
    return [combination[::-1] for combination in itertools.product(*reversed(labels))]


def columns_of(values: np.ndarray) -> np.ndarray:
    """Return values as (n, k) columns of floats."""
    values = np.asarray(values, dtype=float)
    return values[:, None] if values.ndim == 1 else values


def _stack(intercept: bool, values: Sequence[Sequence[np.ndarray]], n: int) -> np.ndarray:
    blocks = [np.ones((n, 1))] if intercept else []
    for parts in values:
        product = parts[0]
        for part in parts[1:]:  # column (a, b) of the product stands at a + b * (number of a)
            product = (part[:, :, None] * product[:, None, :]).reshape(n, -1)
        blocks.append(product)
    return np.concatenate(blocks, axis=1) if blocks else np.empty((n, 0))


def _check_rank(
    matrix: np.ndarray, labels: Sequence[str], redundant: Sequence[bool], intercept: bool, where: str
) -> list[int]:
    """Return the columns that the coding made redundant (empty or surplus cells of interactions); raise for others."""
    aliased = []
    for k, on in dependencies(matrix):
        if redundant[k]:
            aliased.append(k)
        elif not on:
            raise DataError(f"the column {labels[k]!r} of {where} is 0 in every row; leave it out")
        elif intercept and list(on) == [0]:
            raise DataError(
                f"the column {labels[k]!r} of {where} is constant ({matrix[0, k]:g} in every row), so it cannot be "
                "told apart from the intercept; leave it out"
            )
        else:
            names = " and ".join(repr(labels[j]) for j in on)
            raise DataError(
                f"the columns of {where} are exactly collinear: {labels[k]!r} is a linear combination of {names}; "
                "leave one of them out"
            )
    return aliased


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


def _uncoded(values: Any) -> Any:
    """The levels row by row, without what C(), S() and T() say of their coding."""
    return values.data if type(values).__name__ == "CategoricalBox" else values


def _refuse_dates(text: str, column: Any) -> None:
    if getattr(getattr(column, "dtype", None), "kind", "") in "mM" or isinstance(
        getattr(column, "dtype", None), (pd.PeriodDtype, pd.DatetimeTZDtype, pd.IntervalDtype)
    ):
        raise DataError(
            f"{text} is a column of {column.dtype}, which has no unit as a regressor; make a number of it "
            f"(for example the year, or days since a date), or a category with {text}.astype(str)"
        )


def evaluate_again(part: Any, mask: "Mask") -> np.ndarray:
    """Code new rows with a remembered component; new levels are an error, rows outside a spline's knots a warning."""
    if type(part).__name__ == "Call":
        environment = _new_rows_environment(mask.objects)
        _warn_outside_knots(part.call, mask, environment)
        with np.errstate(all="ignore"):
            values = part.call.eval(mask, environment)
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


def _named_level(level: Any) -> Any:
    return str(level) if isinstance(level, pd.Interval) else level


def _new_rows_environment(objects: Mapping[str, Any]) -> Any:
    """What calls look names up in; C(), S() and T() let their data pass, since levels and contrasts are remembered."""
    from formulae.categorical import ENCODINGS
    from formulae.environment import Environment
    from formulae.transforms import TRANSFORMS

    remembered = dict.fromkeys(("C", "S", "T"), lambda data, *_, **__: data)
    return Environment([remembered, TRANSFORMS, ENCODINGS, objects])


def _warn_outside_knots(call: Any, mask: "Mask", environment: Any) -> None:
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


class Mask:
    """The table's columns, then the caller's constants, under one roof, as formulae looks names up."""

    def __init__(self, table: pd.DataFrame, objects: Mapping[str, Any]):
        self.table, self.objects, self.index = table, objects, table.index
        self.shape = table.shape

    def __getitem__(self, name: str) -> Any:
        return self.table[name] if name in self.table.columns else self.objects[name]
