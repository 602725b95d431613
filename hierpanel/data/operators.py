"""The words of a panel come in; the columns that they stand for go out, and a memory that codes new rows alike.

`shifts` have been worked out on the whole table before. Unit means (`within`, `between`) and first outcomes (`initial`)
are taken on the rows that are left, since only then does the coefficient of `within(x)` equal the fixed-effects
estimate. Sources: Mundlak (1978), Econometrica 46, 69-85; Wooldridge (2005), Journal of Applied
Econometrics 20, 39-54.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.frame import Derived, Frame, complete
from hierpanel.data.panel import Panel
from hierpanel.data.shifts import shifted_among
from hierpanel.errors import DataError
from hierpanel.formula import Formula, syntax, words
from hierpanel.formula.evaluate import Mask, code, columns_of, evaluate, evaluate_again
from hierpanel.formula.rank import COLLINEAR
from hierpanel.formula.syntax import quoted
from hierpanel.formula.terms import Group, Term
from hierpanel.formula.words import Word

Array = np.ndarray


@dataclass(frozen=True)
class UnitMeans:
    """What `within(x)` and `between(x)` remember.

    part : how x is coded; names : its columns' names after the word, such as "(occupation)[clerk]".
    by : the column of units; levels, means : (J,), (J, k) of the rows used; grand : (k,) mean over those rows.
    constant, same : (k,) whether a column is constant within every unit, and whether all units have its mean.
    """

    part: Any
    names: tuple[str, ...]
    by: str
    levels: pd.Index
    means: Array
    grand: Array
    constant: Array
    same: Array

    def of(self, units: pd.Series) -> Array:
        """Return the mean (n, k) of each row's unit; of a unit that was not there, the mean over all rows."""
        place = self.levels.get_indexer(pd.Index(units))
        return np.where(place[:, None] >= 0, self.means[place], self.grand)

    def columns(self, kind: str, table: pd.DataFrame, objects: Mapping[str, Any]) -> dict[str, Array]:
        """Return the columns (n,) of `within(x)` or `between(x)` for the rows of a table."""
        x, m = evaluate_again(self.part, Mask(table, objects)), self.of(table[self.by])
        values = x - m if kind == "within" else m
        return {f"{kind}{name}": values[:, k] for k, name in enumerate(self.names)}


@dataclass(frozen=True)
class Operators:
    """The words of one formula, and what they need to remember for new rows.

    panel : of the table that was given; raw : the columns of that table at which shifts look.
    shifts, parts, initials : the words, inner ones first; means : spelling of x (and by) → its unit means; first : by
        spelling, the first outcome of each unit.
    needed : the shifts whose own value a row needs; used : names of the fit's columns.
    """

    panel: Panel | None
    raw: pd.DataFrame
    shifts: tuple[Word, ...]
    parts: tuple[Word, ...]
    initials: tuple[Word, ...]
    means: Mapping[tuple[str, str | None], UnitMeans]
    first: Mapping[str, pd.Series]
    needed: frozenset[str]
    used: frozenset[str]

    def columns(self) -> tuple[str, ...]:
        """Columns of a new table that the words look at beside those that the formula names."""
        return tuple(dict.fromkeys([*self.own(), *self.raw.columns]))

    def own(self) -> tuple[str, ...]:
        """Columns of which a new row needs its own value."""
        units: list[str] = []
        if self.panel is not None and self.shifts:
            units = [self.panel.unit, self.panel.time]
        elif self.panel is not None and any(word.by is None for word in self.parts):
            units = [self.panel.unit]
        split = [name for word in self.parts for name in sorted(words.columns_of(word.text)[0])]
        return tuple(dict.fromkeys([*units, *(name for name in split if name in self.used)]))

    def of_new(
        self,
        table: pd.DataFrame,
        columns: Sequence[str],
        objects: Mapping[str, Any],
        others: pd.DataFrame | None = None,
    ) -> Frame:
        """Work the words out for the rows of another table.

        Another period of a unit is looked for among the new rows, then among those of the fit. A unit keeps the mean
        and the first outcome that it had in the fit. A unit that is new stands at the mean over all rows of the fit, so
        that its `within()` is its distance from there; its first outcome is `lag(y)` of its own first row.

        Parameters
        ----------
        others : the same rows as others see them; themselves unless given
        """
        derived: list[Derived] = []
        if self.shifts and self.panel is not None:
            shifted = shifted_among(self.shifts, self.panel, self.raw, table, objects, others)
            derived = [column for column in shifted if column.name in self.needed]
        frame = complete(table, columns, derived, may_be_empty=True)
        if not frame.n:
            return frame
        found: dict[str, Array] = {}
        for word in self.parts:
            found |= self.means[word.inner, word.by].columns(word.kind, frame.table, objects)
        for word in self.initials:
            assert self.panel is not None
            units = frame.table[self.panel.unit]
            own = _of_units(_first_outcomes(word, frame.table, self.panel), units)
            known = _of_units(self.first[word.text], units)
            found[word.text] = np.where(np.isnan(known), own, known)
        return replace(frame, table=frame.table.assign(**found))


@dataclass(frozen=True)
class Derivation:
    """What the words of a formula became.

    formula : with a term for each column that a word gave; sources : the place of each in the formula that was read.
    frame : with those columns; weights : of its rows, or None.
    operators : the memory for new rows; notes : sentences on what was left out.
    """

    formula: Formula
    sources: tuple[int, ...]
    frame: Frame
    weights: Array | None
    operators: Operators
    notes: tuple[str, ...]


def derive(
    formula: Formula,
    frame: Frame,
    panel: Panel | None,
    whole: pd.DataFrame,
    weights: Array | None,
    objects: Mapping[str, Any],
) -> Derivation:
    """Work out the words that are taken on the rows that are used.

    Parameters
    ----------
    formula : as it was read
    frame : the rows that are used, shifts among its columns
    panel : of the whole table, before rows were dropped
    weights : (n,) by which means are weighted, or None
    """
    used = words.words_of(formula.column_expressions())
    initials = [word for word in used if word.kind == words.INITIAL]
    table, first = frame.table, {}
    for word in initials:
        column, first[word.text] = _initial(word, formula, table, panel)
        table = table.assign(**{word.text: column})
    asked = {word.text for word in used}
    if initials:
        formula = _with_unit_means(formula, panel)
        used = words.words_of(formula.column_expressions())
    means: dict[tuple[str, str | None], UnitMeans] = {}
    columns: dict[str, Array] = {}
    given: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for word in used:
        if word.kind not in words.PARTS:
            continue
        by = word.by or _unit(word, formula, panel)
        if (word.inner, word.by) not in means:
            means[word.inner, word.by] = _unit_means(word, by, table, weights, objects)
        found = means[word.inner, word.by]
        left_out = found.constant if word.kind == "within" else found.same
        if word.text not in asked:  # beside x itself, the unit mean of an x that does not vary within says nothing new
            left_out = left_out | found.constant
        made = found.columns(word.kind, table, objects)
        columns |= made
        given[word.text] = tuple(name for name, gone in zip(made, left_out, strict=True) if not gone)
        why = f"does not vary within {by}" if word.kind == "within" else f"has the same mean in every {by}"
        start = len(words.column(word))
        notes += [
            f"{word.inner}{name[start:]} {why}: no {name}"
            for name, gone in zip(made, left_out, strict=True)
            if gone and word.text in asked
        ]
        for text in formula.column_expressions() if left_out.any() else ():
            if text != word.text and word in words.words_in(text):
                raise DataError(f"{word.inner} {why}, so that {text} of {word.text} would be rounding; leave it out")
    table = pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1) if columns else table
    memory = _memory(formula, panel, whole, means, first, list(frame.table.columns))
    expanded, sources = _expand(formula, given)
    _refuse_several_inside(expanded, given)
    joined, weights = _joined(formula, replace(frame, table=table), panel, weights)
    return Derivation(expanded, sources, joined, weights, memory, tuple(dict.fromkeys(notes)))


def _memory(
    formula: Formula,
    panel: Panel | None,
    whole: pd.DataFrame,
    means: Mapping[tuple[str, str | None], UnitMeans],
    first: Mapping[str, pd.Series],
    table_names: Sequence[str],
) -> Operators:
    """Keep what the regressors need; a response is not worked out for new rows."""
    expressions = formula.column_expressions()[1:]
    used = words.words_of(expressions)
    shifts = tuple(word for word in used if word.kind in words.SHIFTS)
    looked_at = {name for word in shifts for name in words.columns_of(word.text)[1]}
    return Operators(
        panel=panel,
        raw=whole[sorted(looked_at & set(whole.columns))],
        shifts=shifts,
        parts=tuple(word for word in used if word.kind in words.PARTS),
        initials=tuple(word for word in used if word.kind == words.INITIAL),
        means=means,
        first=first,
        needed=frozenset(name for text in expressions for name in words.needed(text)),
        used=frozenset(table_names),
    )


def _unit(word: Word, formula: Formula, panel: Panel | None) -> str:
    if panel is None:
        raise words.error_at(
            word,
            f"{word.text} needs the column of units: give panel=(unit, time), or write "
            f"{word.kind}({word.inner}, by=unit)",
            formula.source or str(formula),
        )
    return panel.unit


def _unit_means(
    word: Word, by: str, table: pd.DataFrame, weights: Array | None, objects: Mapping[str, Any]
) -> UnitMeans:
    part = evaluate(word.inner, Mask(table, objects))
    code(part, False)
    if part.kind == "categoric" and len(part.levels) < 2:
        raise DataError(
            f"{word.inner} has one level ({part.levels[0]}) in the rows that are used; leave {word.text} out"
        )
    labels, x = list(part.labels), columns_of(part.value)
    part.value = part._intermediate_data = part.env = None  # new rows are coded without the old ones
    codes, levels = pd.factorize(table[by], sort=True)
    w = np.ones(len(x)) if weights is None else weights
    total = np.bincount(codes, w)
    grand = w @ x / w.sum()
    centred = x - grand
    sums = np.stack([np.bincount(codes, w * column) for column in centred.T], axis=1)
    means = sums / total[:, None]
    size = np.sqrt(w @ centred**2)
    rounding = 8 * np.finfo(float).eps * np.abs(grand) * np.sqrt(w.sum())
    tail = "" if word.by is None else f", by={quoted(word.by)}"
    names = tuple(f"({word.inner}{tail}){label[len(part.name) :]}".replace("`", "") for label in labels)
    left = np.sqrt(w @ (centred - means[codes]) ** 2)
    between = np.sqrt(total @ means**2)
    return UnitMeans(
        part=part,
        names=names,
        by=by,
        levels=pd.Index(levels),
        means=means + grand,
        grand=grand,
        constant=left <= COLLINEAR * size + rounding,
        same=between <= COLLINEAR * size + rounding,
    )


def _initial(word: Word, formula: Formula, table: pd.DataFrame, panel: Panel | None) -> tuple[Array, pd.Series]:
    """Return first outcomes, those before the first of a unit's rows that are used: of each row's unit, and by unit."""
    source = formula.source or str(formula)
    lagged = f"lag({word.inner})"
    if word.inner != formula.response:
        raise words.error_at(word, f"initial() takes the response, initial({formula.response})", source)
    if panel is None or lagged not in table:
        raise words.error_at(
            word,
            f"initial({word.inner}) is the remedy for a lagged outcome: it belongs beside {lagged}, with "
            "panel=(unit, time)",
            source,
        )
    first = _first_outcomes(word, table, panel)
    return _of_units(first, table[panel.unit]), first


def _first_outcomes(word: Word, table: pd.DataFrame, panel: Panel) -> pd.Series:
    """Return `lag(y)` of each unit's first row in a table, by unit."""
    order = np.argsort(panel.match(table).periods, kind="stable")
    units = table[panel.unit].to_numpy()
    return table[f"lag({word.inner})"].iloc[order].groupby(units[order], sort=True).first()


def _of_units(values: pd.Series, units: pd.Series) -> Array:
    """Return (n,) the value of each row's unit, missing where the unit has none."""
    return pd.Series(units.to_numpy()).map(values).to_numpy(dtype=float)


def _with_unit_means(formula: Formula, panel: Panel | None) -> Formula:
    """Beside a unit's first outcome stand the unit means of the regressors that vary within it (Wooldridge, 2005)."""
    time = "" if panel is None else panel.time
    taken = {part for term in formula.terms for part in term}
    added = []
    for term in formula.terms:
        inner = words.words_in(term[0])
        of_outcome = any(word.kind in words.SHIFTS and word.inner == formula.response for word in inner)
        only_time = words.columns_of(term[0])[1] <= {time}
        if len(term) == 1 and not of_outcome and not only_time and not any(w.kind not in words.SHIFTS for w in inner):
            spellings = {f"between({term[0]})", f"between({term[0]}, by={quoted(panel.unit)})"} if panel else set()
            added += [(f"between({term[0]})",)] if not spellings & taken else []
    return replace(formula, terms=(*formula.terms, *added))


def _expand(formula: Formula, given: Mapping[str, tuple[str, ...]]) -> tuple[Formula, tuple[int, ...]]:
    """Put a term for each column in the place of `within(x)` and `between(x)`; say where each term came from."""

    def terms(old: tuple[Term, ...]) -> tuple[tuple[Term, int], ...]:
        choices = [[map(quoted, given[part]) if part in given else (part,) for part in term] for term in old]
        return tuple((tuple(parts), place) for place, choice in enumerate(choices) for parts in product(*choice))

    for group in formula.groups:
        for block in group.blocks:
            if not block.intercept and not terms(block.terms):
                raise DataError(f"({block} | {group.name}) has no column that varies; leave it out")
    groups = tuple(
        Group(
            group.factor,
            tuple(replace(block, terms=tuple(term for term, _ in terms(block.terms))) for block in group.blocks),
        )
        for group in formula.groups
    )
    common = terms(formula.terms)
    new = replace(formula, terms=tuple(term for term, _ in common), groups=groups)
    return new, tuple(place for _, place in common)


def _refuse_several_inside(formula: Formula, given: Mapping[str, tuple[str, ...]]) -> None:
    """Inside another function a word is one column."""
    for text in formula.column_expressions():
        for word in words.words_in(text):
            if word.text in given and given[word.text] not in ((words.column(word),), ()):
                listed = ", ".join(given[word.text][:4])
                raise DataError(
                    f"{word.text} has {len(given[word.text])} columns ({listed}), so it cannot stand inside {text}"
                )


def _joined(formula: Formula, frame: Frame, panel: Panel | None, weights: Array | None) -> tuple[Frame, Array | None]:
    """With a `between()` response keep one row of each unit, with its sum of weights: a regression of unit means."""
    found = [
        word for word in words.words_in(formula.response) if word.text == formula.response and word.kind == "between"
    ]
    if not found:
        return frame, weights
    by = found[0].by or _unit(found[0], formula, panel)
    codes, levels = pd.factorize(frame.table[by], sort=True)
    first = np.full(len(levels), len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    used = {name for text in _regressors(formula) for name in _outside_between(text)}
    for name in sorted(used & set(frame.table.columns)):
        column = pd.factorize(frame.table[name])[0]
        if (column != column[first][codes]).any():
            instead = f"between{name[len('within') :]}" if name.startswith("within(") else f"between({name})"
            raise DataError(
                f"{name} varies within {by}, and a {formula.response} response has one row for each {by}; "
                f"write {instead}"
            )
    total = None if weights is None else np.bincount(codes, weights)
    return replace(frame, table=frame.table.iloc[first], joined=frame.n - len(first)), total


def _regressors(formula: Formula) -> list[str]:
    columns = [text for text in formula.column_expressions() if text != formula.response]
    return [*columns, *(quoted(name) for group in formula.groups for name in group.factor)]


def _outside_between(text: str) -> set[str]:
    """The columns that an expression reads, of which `between()` columns are some."""
    return syntax.names_used(words.replaced(syntax.parse_tree(text)))[0]
