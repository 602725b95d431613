"""Shifts (`lag`, `lead`, `diff`) and a panel come in; the columns that they stand for go out, by the time index.

They look at the whole table, before rows are dropped, and for new rows at the new ones and at those of the fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.frame import Derived
from hierpanel.data.panel import Panel
from hierpanel.errors import DataError
from hierpanel.formula.evaluate import values_of
from hierpanel.formula.words import Word

Array = np.ndarray


def shift(
    shifts: Sequence[Word], panel: Panel | None, table: pd.DataFrame, objects: Mapping[str, Any]
) -> list[Derived]:
    """Work out `lag`, `lead` and `diff` by the time index within the unit; missing across a gap.

    Parameters
    ----------
    shifts : inner ones first
    table : all n rows, with missing values
    """
    found: dict[str, Derived] = {}
    if panel is None or not shifts:
        return []
    first, last = panel.ends()
    for word in shifts:
        columns = {name: column.values for name, column in found.items()}
        inner = values_of(word.inner, table.assign(**columns) if columns else table, objects)
        by = word.k if word.kind == "lead" else -word.k
        there = panel.periods + by
        place = panel.rows_at(panel.codes, there)
        outside = (there < first[panel.codes]) | (there > last[panel.codes])
        end = "after a unit's last period" if word.kind == "lead" else "before a unit's first period"
        values = _difference(word, inner, place) if word.kind == "diff" else _taken(inner, place)
        nothing = values.isna().to_numpy()
        causes = (
            (f"{word.text} {end}", (place < 0) & outside),
            (f"{word.text} across a gap", (place < 0) & ~outside),
            (f"{word.text} of a missing {word.inner}", (place >= 0) & nothing),
        )
        found[word.text] = Derived(word.text, values, causes)
    return list(found.values())


def shifted_among(
    shifts: Sequence[Word],
    panel: Panel,
    raw: pd.DataFrame,
    table: pd.DataFrame,
    objects: Mapping[str, Any],
    others: pd.DataFrame | None,
) -> list[Derived]:
    """Work out shifts for new rows, which look at the new rows (as `others` has them), then at the rows of the fit."""
    tables = [table] if others is None else [others, table]  # first those that are seen, last those that are asked for
    found = [panel.match(tables[0])]
    found += [found[0].match(table)] if others is not None else []
    parts = [
        pd.DataFrame({n: _as_numbers(rows[n]) if _is_number(raw[n]) else rows[n] for n in raw}, index=rows.index)
        for rows in tables
    ]
    replaced_by = found[0].rows_at(panel.codes, panel.periods) >= 0
    hidden = [replaced_by, np.zeros(len(tables[0]), bool), *(np.ones(len(rows), bool) for rows in tables[1:])]
    joint = replace(
        found[-1],
        codes=np.concatenate([panel.codes, *(one.codes for one in found)]),
        periods=np.concatenate([panel.periods, *(one.periods for one in found)]),
        hidden=np.concatenate(hidden),
    )
    rows = slice(len(joint.codes) - len(table), None)
    shifted = []
    for column in shift(shifts, joint, pd.concat([raw, *parts]), objects):
        values = pd.Series(column.values.array[rows], index=table.index, name=column.name)
        shifted.append(Derived(column.name, values, tuple((why, missing[rows]) for why, missing in column.missing)))
    return shifted


def _taken(values: pd.Series, place: Array) -> pd.Series:
    taken = pd.api.extensions.take(
        values.array if values.dtype.kind not in "iuf" else values.to_numpy(), place, allow_fill=True
    )
    return pd.Series(taken, index=values.index)


def _difference(word: Word, values: pd.Series, place: Array) -> pd.Series:
    if not pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        raise DataError(f"{word.text} takes differences of numbers, and {word.inner} holds {values.dtype}")
    now = values.to_numpy(dtype=float, na_value=np.nan)
    return pd.Series(now - _taken(pd.Series(now), place).to_numpy(), index=values.index)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def _as_numbers(column: pd.Series) -> pd.Series:
    """Numbers of which some, or all, are None."""
    if column.dtype != object:
        return column
    missing = column.isna()
    if not all(isinstance(value, (int, float, np.number)) for value in column[~missing]):
        return column
    return column.where(~missing, np.nan).astype(float)
