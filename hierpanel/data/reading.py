"""A formula and a table come in; a `Reading` goes out: the design, and a `Coder` that codes other rows the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data import design as designs
from hierpanel.data import operators
from hierpanel.data.design import Design, Encoders, factorize
from hierpanel.data.frame import Frame, column_names, complete, to_table
from hierpanel.data.panel import Panel, named, panel_of
from hierpanel.data.shifts import shift
from hierpanel.errors import DataError, FormulaError
from hierpanel.formula import Formula, syntax, words
from hierpanel.formula.evaluate import Mask, evaluate_again, values_of
from hierpanel.formula.namespace import Names
from hierpanel.formula.words import Word

Array = np.ndarray


@dataclass(frozen=True)
class Source:
    """What a model was read from: all rows of the columns that it uses, the panel and the weights as they were given.

    table : DataFrame; panel : (unit, time, step) or None; weights : a column's name, an array, or None.
    given : the whole table as it was given, for another model of it; None in a fit from a file.
    """

    table: pd.DataFrame
    panel: tuple[str, str, Any] | None
    weights: Any
    given: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class NewGroup:
    """One factor's part of other rows.

    codes : (m,) level of each row; those from `known` on are new ones, whose labels are `new`.
    Z : (m, q) columns.
    """

    codes: Array
    known: int
    new: pd.Index
    Z: Array


@dataclass(frozen=True)
class NewRows:
    """Other rows, coded as those of the fit.

    index : (n,) labels of all rows that were given; complete : (n,) whether nothing is missing in a row.
    The rest is of the m complete rows: X (m, p), groups, offset (m,), trials and weights (m,) or None.
    """

    index: pd.Index
    complete: Array
    X: Array
    groups: tuple[NewGroup, ...]
    offset: Array
    trials: Array | None
    weights: Array | None


@dataclass(frozen=True)
class Coder:
    """What codes other rows: how the columns were coded, what the panel's words remember, and the factors' levels.

    kinds : column → what units are named by, as NumPy has it: "i" whole numbers, "f" floats, "O" the rest.
    is_weighted : whether rows have weights; weights : their column, where they have one.
    kept : (n_total,) rows of the table that are rows of the fit.
    """

    formula: Formula
    names: Names
    encoders: Encoders
    operators: operators.Operators
    levels: tuple[pd.Index, ...]
    kinds: Mapping[str, str]
    is_weighted: bool
    weights: str | None
    kept: Array

    def columns(self) -> tuple[str, ...]:
        """Names of the columns that other rows must have."""
        return tuple(dict.fromkeys([*self._own(), *self.operators.columns()]))

    def _own(self) -> list[str]:
        """Those of which a row needs its own value."""
        expressions = self.formula.column_expressions()
        used = [name for text in expressions[1:] for name in sorted(words.columns_of(text)[0])]
        factors = [name for group in self.formula.groups for name in group.factor]
        known = {*self.names.columns, *self.names.shifted}  # what else is named is the caller's, or a contrast
        return [*(name for name in dict.fromkeys([*used, *factors]) if name in known), *self.operators.own()]

    def moving(self) -> set[str]:
        """Names of the columns whose value in a row moves that row's prediction."""
        return self.regressors() | {name for group in self.formula.groups for name in group.factor}

    def regressors(self) -> set[str]:
        """Those of them that stand in expressions, not only as factors."""
        return {name for text in self.formula.column_expressions()[1:] for name in words.moving(text)}

    def code(
        self, data: Any, trials: bool = False, others: pd.DataFrame | None = None, weighted: bool = False
    ) -> NewRows:
        """Code other rows.

        Parameters
        ----------
        data : table
        trials : whether the number of trials of ``prop(successes, trials)`` is wanted
        others : the same rows with the values that lags and leads of one another see; their own unless given
        weighted : whether the weights are wanted, on which residuals depend

        Raises
        ------
        DataError
            For a missing column, and a level of a common factor that the fit has not seen.
        """
        available = column_names(data)
        trials = trials and bool(self._trials())
        wanted = [*self.columns(), *(self.columns_of_trials() if trials else ())]
        for name in wanted:
            if name not in available:
                raise DataError(f"the table has no column {name!r}; the columns are: {', '.join(available)}")
        weights = self._weights_of_new(available) if weighted else None
        table = to_table(data, list(dict.fromkeys([*wanted, *([weights] if weights else [])])))
        only_looked_at = set(self.operators.raw.columns) - set(self._own())
        needed = [name for name in table.columns if name not in only_looked_at]
        frame = self.operators.of_new(table, needed, self.names.objects, others)
        rows, objects = frame.table, self.names.objects
        if not frame.n:
            return self._nothing(table)
        offset = np.zeros(len(rows))
        for part in self.encoders.offsets:
            offset = offset + evaluate_again(part, Mask(rows, objects))[:, 0]
        return NewRows(
            index=table.index,
            complete=frame.kept,
            X=self.encoders.common.matrix(rows, objects),
            groups=tuple(self._group(k, rows) for k in range(len(self.formula.groups))),
            offset=offset,
            trials=self._number_of_trials(rows) if trials else None,
            weights=_weights(weights, frame) if weights else None,
        )

    def _weights_of_new(self, available: list[str]) -> str | None:
        if not self.is_weighted:
            return None
        if self.weights is None:
            raise DataError(
                "the fit's weights were an array, and new rows have none; fit with weights= as the name of a column, "
                "which new rows then have too"
            )
        if self.weights not in available:
            raise DataError(
                f"the residuals of this fit depend on the weights {self.weights!r}, which the table does not have; "
                "give each row its weight, 1 for a residual sd of sigma"
            )
        return self.weights

    def _nothing(self, table: pd.DataFrame) -> NewRows:
        """The rows of a table in each of which something is missing."""
        groups = [
            NewGroup(
                np.empty(0, dtype=int), len(levels), pd.Index([]), np.empty((0, sum(len(e.labels) for e in blocks)))
            )
            for levels, blocks in zip(self.levels, self.encoders.blocks, strict=True)
        ]
        X, none = np.empty((0, len(self.encoders.common.labels))), np.empty(0)
        return NewRows(table.index, np.zeros(len(table), dtype=bool), X, tuple(groups), none, None, None)

    def _group(self, number: int, rows: pd.DataFrame) -> NewGroup:
        factor, known = self.formula.groups[number].factor, self.levels[number]
        codes, labels = factorize(factor, rows.assign(**{name: self._as_in_fit(rows[name]) for name in factor}))
        place = known.get_indexer(labels)
        new = labels[place < 0]
        place[place < 0] = len(known) + np.arange(len(new))
        objects = self.names.objects
        Z = [encoder.matrix(rows, objects) for encoder in self.encoders.blocks[number]]
        return NewGroup(place[codes], len(known), new, np.concatenate(Z, axis=1))

    def _as_in_fit(self, values: pd.Series) -> pd.Series:
        """Units that are written as those of the fit: 2 and 2.0 are one."""
        kind, is_float = self.kinds.get(str(values.name), ""), values.dtype.kind == "f"
        if kind == "i" and is_float and bool((values == values.round()).all()):
            return values.astype(np.int64)
        if kind == "f" and values.dtype.kind == "i":
            return values.astype(float)
        return values

    def _trials(self) -> str:
        tree = syntax.parse_tree(self.formula.response)
        return syntax.unparse(tree.args[1]) if type(tree).__name__ == "Call" and len(tree.args) == 2 else ""

    def columns_of_trials(self) -> tuple[str, ...]:
        """Columns that the number of trials is worked out from."""
        text = self._trials()
        used = sorted(syntax.names_used(syntax.parse_tree(text))[0]) if text else []
        return tuple(name for name in used if name not in self.names.objects)

    def _number_of_trials(self, rows: pd.DataFrame) -> Array:
        text = self._trials()
        tree = syntax.parse_tree(text)
        if type(tree).__name__ == "Literal":
            found = np.full(len(rows), float(tree.value))
        elif text in self.names.objects:
            found = np.full(len(rows), float(self.names.objects[text]))
        else:
            is_arithmetic = type(tree).__name__ in ("Binary", "Unary", "Grouping")
            values = values_of(f"I({text})" if is_arithmetic else text, rows, self.names.objects)
            if not pd.api.types.is_numeric_dtype(values.dtype):
                raise DataError(f"the number of trials {text} is no number in these rows")
            found = values.to_numpy(dtype=float)
        bad = ~((found >= 1) & (found == np.round(found)))
        if bad.any():
            listed = ", ".join(map(str, rows.index[bad][:5]))
            raise DataError(f"trials are whole numbers of 1 or more; {int(bad.sum())} are not (rows {listed})")
        return found


@dataclass(frozen=True)
class Reading:
    """A formula's numbers.

    frame : the rows used, words worked out.
    panel : its index, of the whole table, or None.
    term_of : (p,) the place of each coefficient's term in the formula, -1 for the intercept.
    notes : sentences that the reader of a summary must see; lagged : the one on a lagged outcome, or "".
    """

    source: Source
    frame: Frame
    panel: Panel | None
    design: Design
    coder: Coder
    term_of: tuple[int, ...]
    notes: tuple[str, ...]
    lagged: str


def source(formula: Formula, names: Names, data: Any, panel: Any, weights: Any) -> Source:
    """Take the columns that a model uses out of a table.

    Raises
    ------
    DataError
        For a panel or weights that the table has not.
    """
    available = column_names(data)
    is_asked = panel is not None or bool(words.words_of(formula.column_expressions()))
    where = named(panel, data) if is_asked else None
    wanted = [*names.columns, *(where or ())[:2], *_weights_column(weights, available), *names.shifted]
    return Source(to_table(data, list(dict.fromkeys(wanted))), where, weights, data)


def read(formula: Formula, given: Source, names: Names) -> Reading:
    """Evaluate a formula on a table.

    Raises
    ------
    DataError, FormulaError
        For whatever is wrong with the rows, the panel or the weights.
    """
    used, table, where = words.words_of(formula.column_expressions()), given.table, given.panel
    index = panel_of(table, where) if where is not None else None
    shifts = [word for word in used if word.kind in words.SHIFTS]
    if shifts and index is None:
        raise words.error_at(
            shifts[0],
            f"{shifts[0].text} follows time within a unit: give panel=(unit, time), as in panel=('worker', 'year')",
            formula.source or str(formula),
        )
    for word in used:
        if word.text in table:
            raise DataError(
                f"the table has a column called {word.text!r}, and the formula's {word.text} would have the same name; "
                "rename the column"
            )
    weights = [given.weights] if isinstance(given.weights, str) else []
    wanted = list(dict.fromkeys([*names.columns, *(where or ())[:2], *weights]))
    needed = {name for text in formula.column_expressions() for name in words.needed(text)}
    shifted = shift(shifts, index, table, names.objects)
    frame = complete(table, wanted, [column for column in shifted if column.name in needed])
    derived = operators.derive(formula, frame, index, table, _weights(given.weights, frame), names.objects)
    unit = None if index is None else index.unit
    design, encoders = designs.build(derived.formula, derived.frame, names.objects, derived.weights, unit)
    lagged = _lagged_outcome(formula, used, index)
    coder = Coder(
        formula=formula,
        names=names,
        encoders=encoders,
        operators=derived.operators,
        levels=tuple(group.levels for group in design.groups),
        kinds={name: derived.frame.table[name].dtype.kind for group in formula.groups for name in group.factor},
        is_weighted=given.weights is not None,
        weights=given.weights if isinstance(given.weights, str) else None,
        kept=frame.kept,
    )
    return Reading(
        source=given,
        frame=derived.frame,
        panel=index,
        design=design,
        coder=coder,
        term_of=tuple(-1 if k < 0 else derived.sources[k] for k in encoders.common.terms),
        notes=(*derived.notes, *([lagged] if lagged else [])),
        lagged=lagged,
    )


def refuse_words(formula: Formula, scope: Mapping[str, Any]) -> None:
    """Raise `FormulaError` where a word of the formula is also a function of the caller."""
    text = formula.source or str(formula)
    for node in syntax.walk(syntax.parse_tree(text)):
        name = syntax.call_name(node) if type(node).__name__ == "Call" else ""
        if name in words.WORDS and callable(scope.get(name)):
            message = f"{name}() is a word of formulas, and a function of that name is in scope"
            start, _ = syntax.span(node)
            raise FormulaError(f"{message}; give the function another name", text, start, start + len(name))


def _weights_column(weights: Any, available: list[str]) -> list[str]:
    if not isinstance(weights, str):
        return []
    if weights not in available:
        raise DataError(
            f"weights= names the column {weights!r}, which is not there; the columns are: {', '.join(available)}"
        )
    return [weights]


def _lagged_outcome(parsed: Formula, used: Sequence[Word], index: Panel | None) -> str:
    """Say what is wrong where a lagged outcome stands beside intercepts of the units, or nothing."""
    outcome = words.columns_of(parsed.response)[1]
    lagged = [word.text for word in used if word.kind == "lag" and words.columns_of(word.text)[1] & outcome]
    blocks = [block for group in parsed.groups if index and group.factor == (index.unit,) for block in group.blocks]
    varying = [block for block in blocks if block.intercept]
    if index is None or not lagged or not varying or any(word.kind == words.INITIAL for word in used):
        return ""
    own = f"lag({parsed.response})"
    beside = "" if own in lagged else f"{own} and "
    remedy = f"add {beside}initial({parsed.response}), each unit's first outcome with the unit means (Wooldridge 2005)"
    if varying[0].fixed:
        bias = f"fe({index.unit}) biases its coefficient downwards, by about 1/periods (Nickell 1981)"
        remedy = f"take (1 | {index.unit}) and {remedy}"
    else:
        bias = f"the first outcome depends on the intercept of its {index.unit}, so its coefficient is biased upwards"
    return f"{lagged[0]} is a lagged outcome: {bias}; {remedy}"


def _weights(weights: Any, frame: Frame) -> Array | None:
    if weights is None:
        return None
    if isinstance(weights, str):
        values = frame.table[weights]
        if not pd.api.types.is_numeric_dtype(values):
            raise DataError(f"the weights {weights!r} are not numbers")
        found = values.to_numpy(dtype=float)
    else:
        try:
            found = np.asarray(weights, dtype=float)
        except (TypeError, ValueError) as error:
            what = f"this {type(weights).__name__} is neither"
            raise DataError(f"weights is the name of a column or an array of numbers, and {what}") from error
        if found.shape != (frame.n_total,):
            raise DataError(f"weights has shape {found.shape}, but the table has {frame.n_total} rows")
        if frame.n != frame.n_total:
            raise DataError(
                f"{frame.n_total - frame.n} rows with missing values are dropped, so weights must be a column of the "
                "table, given by its name"
            )
        if isinstance(weights, pd.Series) and not weights.index.equals(frame.table.index):
            raise DataError(
                "weights has another index than the table, so its rows may be others; make it a column of the table, "
                "or give weights.to_numpy() where the rows are the same"
            )
    bad = ~(np.isfinite(found) & (found > 0))
    if bad.any():
        rows = ", ".join(map(str, frame.table.index[bad][:5])) + (", …" if bad.sum() > 5 else "")
        raise DataError(f"precision weights must be positive and finite; {int(bad.sum())} are not (rows {rows})")
    return found
