"""A `Formula` and a `Frame` come in; a `Design` goes out: y, X, and for each grouping factor its levels, codes and Z.

No N×G array is made: a grouping factor is `levels` and integer `codes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.frame import Frame
from hierpanel.data.within import demean
from hierpanel.errors import DataError
from hierpanel.formula import Formula, Group, syntax
from hierpanel.formula.columns import Encoder, encode
from hierpanel.formula.evaluate import Mask, evaluate, uncoded
from hierpanel.formula.rank import COLLINEAR, dependencies

# Names of the posterior and of arviz, which a grouping factor cannot take.
RESERVED = ("beta", "beta_c", "beta_level", "sigma", "nu", "alpha", "coef", "chain", "draw", "obs", "y", "X", "offset")
# Every grouping factor g gives these names to variables and dims, of the posterior and of the PyMC model.
_NAMES_OF_FACTOR = (
    "{g}", "coef_{g}", "coef_{g}_bis", "sd_{g}", "sd_c_{g}", "cor_{g}", "cor_c_{g}", "b_{g}", "u_{g}", "pcor_{g}",
    "mean_u_{g}", "v_{g}", "spread_{g}", "effects_{g}", "total_{g}", "location_{g}", "deviation_{g}",
)  # fmt: skip


@dataclass(frozen=True)
class BlockDesign:
    """Columns of Z that share one covariance matrix.

    columns : slice of the factor's q columns.
    correlated : whether they vary together (LKJ), or each by itself.
    fixed : an `fe()` block, whose sd is set and not estimated.
    """

    columns: slice
    correlated: bool
    fixed: bool

    @property
    def size(self) -> int:
        """Number of columns."""
        return int(self.columns.stop - self.columns.start)


@dataclass(frozen=True)
class GroupDesign:
    """One grouping factor.

    name : as in the posterior ("worker", "school:room").
    levels : (J,) labels of the levels that occur.
    codes : (n,) the level of each row, 0 … J - 1.
    Z : (n, q) columns of all blocks, side by side.
    coefs : (q,) their names.
    blocks : which columns vary together.
    """

    name: str
    levels: pd.Index
    codes: np.ndarray
    Z: np.ndarray
    coefs: tuple[str, ...]
    blocks: tuple[BlockDesign, ...]

    @property
    def rows(self) -> np.ndarray:
        """(J,) rows of each level."""
        return np.bincount(self.codes, minlength=len(self.levels))

    @property
    def has_intercept(self) -> bool:
        """Whether some block of the factor holds the intercept."""
        return "Intercept" in self.coefs


@dataclass(frozen=True)
class Design:
    """The numbers of a model.

    y : (n,) response; successes for `prop()`.
    trials : (n,) trials for `prop()`, else None.
    X : (n, p) common columns; coefs : (p,) their names.
    offset : (n,) known part of the linear predictor (0 without one).
    weights : (n,) precision weights, or None.
    groups : one entry for each grouping factor.
    index : the rows' labels in the data.
    aliased : columns of empty or surplus cells that were left out, as R leaves them out.
    units : (n,) unit of the panel of each row, 0 … N - 1, or None without a panel.
    """

    response: str
    y: np.ndarray
    trials: np.ndarray | None
    X: np.ndarray
    coefs: tuple[str, ...]
    offset: np.ndarray
    weights: np.ndarray | None
    groups: tuple[GroupDesign, ...]
    index: pd.Index
    aliased: tuple[str, ...]
    units: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def has_intercept(self) -> bool:
        """Whether X starts with the intercept."""
        return self.coefs[:1] == ("Intercept",)

    def group(self, name: str) -> GroupDesign:
        """Return one grouping factor by its name."""
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(group.name for group in self.groups) or "none"
        raise DataError(f"there is no grouping factor {name!r} in this model; it has: {known}")


@dataclass(frozen=True)
class Encoders:
    """How the columns of a design were coded, for coding new rows: X's, each factor's block by block, and offsets."""

    common: Encoder
    blocks: tuple[tuple[Encoder, ...], ...]
    offsets: tuple[Any, ...] = ()


def build(
    formula: Formula,
    frame: Frame,
    objects: Mapping[str, Any],
    weights: np.ndarray | None = None,
    unit: str | None = None,
) -> tuple[Design, Encoders]:
    """Evaluate a formula on the kept rows of a table.

    Parameters
    ----------
    formula, frame
        See `formula.parse` and `data.frame.complete`.
    objects
        Functions and constants that the formula names.
    weights : (n,) array of precision weights, or None
    unit : the column of the panel's units, or None

    Raises
    ------
    DataError
        For columns that are not finite, constant or collinear, factors of one level, names that are taken.
    """
    y, trials = _response(formula.response, frame.table, objects)
    common, X = encode(formula.intercept, formula.terms, frame.table, objects, "the coefficients")
    _refuse_intercept_column(formula.intercept, common)
    groups, encoders = [], []
    for group in formula.groups:
        design, blocks = _group(group, frame.table, objects)
        groups.append(design)
        encoders.append(blocks)
    offset, offsets = np.zeros(frame.n), []
    for expression in formula.offsets:
        values, part = _offset(expression, frame.table, objects)
        offset = offset + values
        offsets.append(part)
    taken = [name for name, values in (("weights", weights), ("trials", trials), ("units", unit)) if values is not None]
    _refuse_shared_names(groups, taken)
    _refuse_collinear_with_fe(X, common.labels, groups)
    aliased = [*common.aliased, *(label for blocks in encoders for block in blocks for label in block.aliased)]
    return (
        Design(
            response=formula.response,
            y=y,
            trials=trials,
            X=X,
            coefs=common.labels,
            offset=offset,
            weights=weights,
            groups=tuple(groups),
            index=frame.table.index,
            aliased=tuple(dict.fromkeys(aliased)),
            units=None if unit is None else factorize((unit,), frame.table)[0],
        ),
        Encoders(common, tuple(encoders), tuple(offsets)),
    )


def factorize(columns: tuple[str, ...], table: pd.DataFrame) -> tuple[np.ndarray, pd.Index]:
    """Return (codes, levels) of a grouping factor: of one column, or of the combinations of several that occur.

    Labels of combinations join the parts by ':'; a ':' or backslash within a part is escaped, so that they stay unique.
    """
    parts = [pd.factorize(table[column], sort=True) for column in columns]
    codes, levels = parts[0]
    if len(parts) == 1:
        return codes.astype(np.int32), _plain_labels(levels)
    widths = [len(labels) for _, labels in parts]
    joint = np.ravel_multi_index([code for code, _ in parts], widths)
    seen, codes = np.unique(joint, return_inverse=True)
    texts = [[str(label) for label in _plain_labels(labels)] for _, labels in parts]
    escaped = [[text.replace("\\", "\\\\").replace(":", "\\:") for text in column] for column in texts]
    places = np.unravel_index(seen, widths)
    labels = [
        ":".join(names[k] for names, k in zip(escaped, place, strict=True)) for place in zip(*places, strict=True)
    ]
    return codes.astype(np.int32), pd.Index(np.array(labels, dtype=object))


def _plain_labels(levels: Any) -> "pd.Index[Any]":
    """Labels that arviz and netCDF can hold: numbers stay numbers; dates, periods and the rest become their text."""
    index: pd.Index[Any] = pd.Index(levels)
    if isinstance(index, pd.CategoricalIndex):
        index = pd.Index(np.asarray(index))
    if pd.api.types.is_integer_dtype(index.dtype) or pd.api.types.is_float_dtype(index.dtype):
        return index
    texts = [str(level) for level in index]
    if isinstance(index, pd.DatetimeIndex) and index.tz is None:
        # label by label: other rows hold other times of day, and a unit keeps its name
        texts = [text.removesuffix(" 00:00:00") for text in texts]
    index = pd.Index(np.array(texts, dtype=object))
    return index


def _group(group: Group, table: pd.DataFrame, objects: Mapping[str, Any]) -> tuple[GroupDesign, tuple[Encoder, ...]]:
    name = group.name
    if name in RESERVED or "/" in name:
        why = "it holds '/'" if "/" in name else "the posterior uses that name itself"
        raise DataError(f"a grouping factor cannot be called {name!r}: {why}; rename the column")
    codes, levels = factorize(group.factor, table)
    if len(levels) < 2:
        raise DataError(
            f"the grouping factor {name} has one level ({levels[0]}) in the {len(table)} rows that are used; "
            + (
                f"fe({name}) would be the intercept: leave it out"
                if all(block.fixed for block in group.blocks)
                else "a variance between units needs at least two"
            )
        )
    blocks, encoders, columns = [], [], []
    labels: list[str] = []
    for block in group.blocks:
        bar = f"({block} {'|' if block.correlated else '||'} {name})"
        encoder, Z = encode(block.intercept, block.terms, table, objects, bar)
        _refuse_intercept_column(block.intercept, encoder)
        start = len(labels)
        labels += encoder.labels
        blocks.append(BlockDesign(slice(start, len(labels)), block.correlated and Z.shape[1] > 1, block.fixed))
        columns.append(Z)
        encoders.append(encoder)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"the column {twice} varies by {name} twice")
    design = GroupDesign(name, levels, codes, np.concatenate(columns, axis=1), tuple(labels), tuple(blocks))
    return design, tuple(encoders)


def _response(text: str, table: pd.DataFrame, objects: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    level = None
    if text.endswith("]"):  # y['yes']: formulae's notation for a success
        text, level = text[:-1].split("[", 1)
    part = evaluate(text, Mask(table, objects))
    values = part._intermediate_data
    if part.kind == "proportion":
        successes, trials = values.eval().T.astype(float)
        if (trials <= 0).any():
            raise DataError(f"the trials of {text} are below 1 in {int((trials <= 0).sum())} rows; drop those rows")
        return successes, trials
    if part.kind == "categoric":
        values = np.asarray(uncoded(values))
        levels = [str(value) for value in pd.unique(pd.Series(values))]
        if level is None:
            raise DataError(
                f"the response {text} is text with the levels {', '.join(levels[:6])}; say which one counts as a "
                f'success, as in "{_success(text, levels[0])} ~ ..." with family="bernoulli"'
            )
        wanted = level[1:-1] if level[0] in "'\"" else level
        if wanted not in levels:
            raise DataError(f"the response {text} has no level {wanted!r}; it has {', '.join(levels[:6])}")
        return (values.astype(str) == wanted).astype(float), None
    if part.kind != "numeric" or np.ndim(values) != 1:
        raise DataError(f"the response {text} is not one column of numbers")
    if level is not None:
        raise DataError(f"the response {text} holds numbers and has no levels; write {text}, or I({text} == 1)")
    return np.asarray(values, dtype=float), None


def _success(text: str, level: str) -> str:
    """How a formula says which level of its response counts: a level in brackets follows a column's name alone."""
    tree = syntax.parse_tree(text)
    if type(tree).__name__ != "Call":
        return f"{text}['{level}']"
    coded = syntax.call_name(tree) in ("C", "S", "T") and tree.args
    return f"I({syntax.unparse(tree.args[0]) if coded else text} == '{level}')"


def _offset(text: str, table: pd.DataFrame, objects: Mapping[str, Any]) -> tuple[np.ndarray, Any]:
    part = evaluate(text, Mask(table, objects))
    if part.kind != "numeric" or np.ndim(part._intermediate_data) != 1:
        raise DataError(f"offset({text}) is not one column of numbers")
    values = np.asarray(part._intermediate_data, dtype=float)
    part.value = part._intermediate_data = part.env = None
    return values, part


def _refuse_intercept_column(intercept: bool, encoder: Encoder) -> None:
    """From here on the name stands for a column of ones, so a column of the table cannot have it."""
    if not intercept and "Intercept" in encoder.labels:
        raise DataError("a column cannot be called 'Intercept', the name of what 1 + … adds; rename the column")


def _refuse_shared_names(groups: list[GroupDesign], taken: list[str]) -> None:
    for group in groups:
        if group.name in taken:
            raise DataError(
                f"a grouping factor cannot be called {group.name!r} beside the model's own; rename the column"
            )
    owners: dict[str, str] = {}
    for group in groups:
        for name in (pattern.format(g=group.name) for pattern in _NAMES_OF_FACTOR):
            if name in owners:
                raise DataError(
                    f"the grouping factors {owners[name]} and {group.name} would share the name {name!r} in the "
                    "posterior; rename one of the columns"
                )
            owners[name] = group.name


def _refuse_collinear_with_fe(X: np.ndarray, coefs: tuple[str, ...], groups: list[GroupDesign]) -> None:
    """A column that does not vary within the units of `fe()` is a combination of the unit effects."""
    fixed = [group for group in groups if any(block.fixed for block in group.blocks)]
    slopes = [k for k, name in enumerate(coefs) if name != "Intercept"]
    if not fixed or not slopes:
        return
    total = np.linalg.norm(X[:, slopes] - X[:, slopes].mean(axis=0), axis=0)
    for factors in [[group] for group in fixed] + ([fixed] if len(fixed) > 1 else []):
        within = demean(X[:, slopes], [group.codes for group in factors])
        names = " and ".join(f"fe({group.name})" for group in factors)
        for k, gone in zip(slopes, np.linalg.norm(within, axis=0) <= COLLINEAR * total, strict=True):
            if gone:
                what = "does not vary within the units of" if len(factors) == 1 else "is a sum of unit effects of"
                raise DataError(
                    f"the column {coefs[k]!r} {what} {names}, so it is collinear with the unit effects; leave it out, "
                    f"or use (1 | {factors[-1].name})"
                )
    for k, on in dependencies(within):
        others = " and ".join(repr(coefs[slopes[j]]) for j in on)
        raise DataError(
            f"within the units of {names} the column {coefs[slopes[k]]!r} is a linear combination of {others}; leave "
            "one of them out"
        )
