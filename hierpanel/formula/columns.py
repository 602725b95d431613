"""Terms and a table come in; a matrix of columns goes out, with an `Encoder` that codes new rows the same way.

formulae evaluates each column expression (transforms with a memory, splines, contrasts). Which factors of a term get
all their levels and which get contrasts follows R's rule, so that X and Z equal lme4's.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import DataError
from hierpanel.formula.evaluate import Mask, code, columns_of, evaluate, evaluate_again
from hierpanel.formula.rank import dependencies
from hierpanel.formula.terms import Term


@dataclass(frozen=True)
class Encoder:
    """Codes the columns of one set of terms for any table, as they were coded for the first.

    labels : (p,) column names, in formulae's words ("Intercept", "x", "h[b]", "x:h[b]").
    aliased : names of columns that the coding made redundant and that were left out, as R's `lm` does.
    terms : (p,) the place of each column's term among the terms, -1 for the intercept.
    relation : (p, aliased) what the columns left out are of the others, in every row of the first table.
    """

    labels: tuple[str, ...]
    aliased: tuple[str, ...]
    terms: tuple[int, ...]
    intercept: bool
    kept: tuple[int, ...]
    parts: tuple[tuple[Any, ...], ...]
    relation: np.ndarray | None = None

    def matrix(self, table: pd.DataFrame, objects: Mapping[str, Any]) -> np.ndarray:
        """Return the (n, p) columns for new rows.

        Raises
        ------
        DataError
            For a level that the first table did not have, and levels that it did not have together.
        """
        mask = Mask(table, objects)
        values = [[evaluate_again(part, mask) for part in parts] for parts in self.parts]
        found = _stack(self.intercept, values, len(table))
        if self.relation is not None:
            self._check_cells(found, table.index)
        return found[:, list(self.kept)]

    def _check_cells(self, matrix: np.ndarray, index: pd.Index) -> None:
        """Refuse rows in which the columns left out are not what they were in all rows of the fit."""
        left_out = [k for k in range(matrix.shape[1]) if k not in self.kept]
        apart = np.abs(matrix[:, left_out] - matrix[:, list(self.kept)] @ self.relation)
        new = apart > 1e-6 * (1 + np.abs(matrix).max(axis=1, keepdims=True))
        if new.any():
            rows = ", ".join(map(str, index[new.any(axis=1)][:5])) + (", …" if new.any(axis=1).sum() > 5 else "")
            cells = ", ".join(label for label, is_new in zip(self.aliased, new.any(axis=0), strict=True) if is_new)
            raise DataError(
                f"{int(new.any(axis=1).sum())} rows (rows {rows}) combine levels that no row of the fit has together "
                f"({cells}), of which nothing is known; leave those rows out"
            )


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
            code(part, full.get(text, False))
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
    relation = np.linalg.lstsq(matrix[:, list(kept)], matrix[:, aliased], rcond=None)[0] if aliased else None
    encoder = Encoder(
        labels=tuple(labels[k] for k in kept),
        aliased=tuple(labels[k] for k in aliased),
        terms=tuple(numbers[k] for k in kept),
        intercept=intercept,
        kept=kept,
        parts=tuple(parts),
        relation=relation,
    )
    return encoder, matrix[:, list(kept)] if aliased else matrix


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
