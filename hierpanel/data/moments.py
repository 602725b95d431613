"""A `Design` comes in; `Moments` go out: every cross-product that a Gaussian likelihood needs, and no row any more.

Columns are taken about a stored pivot, so that calendar years keep their digits. With 1 among the columns, moving the
pivot is a linear map of the cross-products, so moments of two parts of a table add up to those of the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierpanel.data.design import Design, GroupDesign
from hierpanel.errors import DataError

Array = np.ndarray
# Few enough that sums over them keep their last digits, many enough for long vectors.
ROWS_AT_A_TIME = 16_384


@dataclass(frozen=True)
class GroupMoments:
    """Cross-products by level of one grouping factor, with W = [1, X less its intercept, y - offset] and Z₁ = [1, Z].

    name, coefs : the factor and its q columns.
    levels : (J,) labels, sorted.
    pivot : (1 + q,) what is taken off each column of Z₁ (0 for its leading 1).
    ZZ : (J, 1 + q, 1 + q) Z₁'Z₁ of each level's rows, weighted; ZZ[:, 0, 0] is its weight.
    ZW : (J, 1 + q, m) Z₁'W of each level's rows.
    """

    name: str
    coefs: tuple[str, ...]
    levels: pd.Index
    pivot: Array
    ZZ: Array
    ZW: Array


@dataclass(frozen=True)
class PairMoments:
    """Cross-products of two factors' columns over the pairs of levels that share rows.

    names : the two factors; left, right : (P,) the levels' places; ZZ : (P, 1 + q_left, 1 + q_right).
    """

    names: tuple[str, str]
    left: Array
    right: Array
    ZZ: Array


@dataclass(frozen=True)
class Moments:
    """Sums over rows of products of columns; `a + b` are the moments of both tables together.

    n : rows; log_weights : Σ log w (0 without precision weights).
    columns : (m,) names of W = [1, X less its intercept, y - offset].
    pivot : (m,) what is taken off each column (0 for the leading 1).
    WW : (m, m) W'W, weighted; WW[0, 0] is the total weight.
    groups, pairs : by factor, and by each two factors.
    """

    n: int
    log_weights: float
    columns: tuple[str, ...]
    pivot: Array
    WW: Array
    groups: tuple[GroupMoments, ...]
    pairs: tuple[PairMoments, ...]

    def __add__(self, other: "Moments") -> "Moments":
        """Add the moments of another part of the same table."""
        mine = [(group.name, group.coefs) for group in self.groups]
        if self.columns != other.columns or mine != [(group.name, group.coefs) for group in other.groups]:
            raise DataError("only moments of the same formula can be added")
        moved = other.about(self.pivot, tuple(group.pivot for group in self.groups))
        joined = [a.levels.union(b.levels) for a, b in zip(self.groups, moved.groups, strict=True)]
        left, right = self._spread(joined), moved._spread(joined)
        return Moments(
            n=self.n + other.n,
            log_weights=self.log_weights + other.log_weights,
            columns=self.columns,
            pivot=self.pivot,
            WW=self.WW + moved.WW,
            groups=tuple(
                GroupMoments(a.name, a.coefs, a.levels, a.pivot, a.ZZ + b.ZZ, a.ZW + b.ZW)
                for a, b in zip(left.groups, right.groups, strict=True)
            ),
            pairs=tuple(_add_pairs(a, b) for a, b in zip(left.pairs, right.pairs, strict=True)),
        )

    def about(self, pivot: Array, group_pivots: tuple[Array, ...]) -> "Moments":
        """Return the same moments about other pivots."""
        T = _shift(self.pivot, pivot)
        S = [_shift(group.pivot, new) for group, new in zip(self.groups, group_pivots, strict=True)]
        names = [group.name for group in self.groups]
        return Moments(
            n=self.n,
            log_weights=self.log_weights,
            columns=self.columns,
            pivot=pivot,
            WW=T.T @ self.WW @ T,
            groups=tuple(
                GroupMoments(g.name, g.coefs, g.levels, new, s.T @ g.ZZ @ s, s.T @ g.ZW @ T)
                for g, s, new in zip(self.groups, S, group_pivots, strict=True)
            ),
            pairs=tuple(
                PairMoments(p.names, p.left, p.right, S[names.index(p.names[0])].T @ p.ZZ @ S[names.index(p.names[1])])
                for p in self.pairs
            ),
        )

    def _spread(self, levels: list[pd.Index]) -> "Moments":
        """Give every factor the levels of a longer list, with zeros for those it does not have."""
        groups, places = [], {}
        for group, joined in zip(self.groups, levels, strict=True):
            place = joined.get_indexer(group.levels)
            places[group.name] = place
            ZZ, ZW = np.zeros((len(joined), *group.ZZ.shape[1:])), np.zeros((len(joined), *group.ZW.shape[1:]))
            ZZ[place], ZW[place] = group.ZZ, group.ZW
            groups.append(GroupMoments(group.name, group.coefs, joined, group.pivot, ZZ, ZW))
        pairs = tuple(
            PairMoments(p.names, places[p.names[0]][p.left], places[p.names[1]][p.right], p.ZZ) for p in self.pairs
        )
        return Moments(self.n, self.log_weights, self.columns, self.pivot, self.WW, tuple(groups), pairs)


def moments(design: Design) -> Moments:
    """Compute the moments of a design in chunks of rows, in memory that does not grow with them.

    Parameters
    ----------
    design : of a model with an identity link (the offset is taken off the response)
    """
    start = int(design.has_intercept)
    columns = ("1", *design.coefs[start:], "y")
    pivot = np.array([0.0, *design.X[:, start:].mean(axis=0), (design.y - design.offset).mean()])
    pivots = [np.concatenate([[0.0], _z_pivot(group)]) for group in design.groups]
    WW = np.zeros((len(columns), len(columns)))
    ZZ = [np.zeros((len(g.levels), 1 + len(g.coefs), 1 + len(g.coefs))) for g in design.groups]
    ZW = [np.zeros((len(g.levels), 1 + len(g.coefs), len(columns))) for g in design.groups]
    pairs = _pair_places(design)
    crossed = {
        (i, j): np.zeros((len(left), 1 + len(design.groups[i].coefs), 1 + len(design.groups[j].coefs)))
        for (i, j), (left, _, _) in pairs.items()
    }
    for rows in _chunks(design.n):
        w = np.ones(rows.stop - rows.start) if design.weights is None else design.weights[rows]
        W = np.column_stack([np.ones(len(w)), design.X[rows, start:], design.y[rows] - design.offset[rows]]) - pivot
        Z = [np.column_stack([np.ones(len(w)), g.Z[rows]]) - c for g, c in zip(design.groups, pivots, strict=True)]
        WW += (W * w[:, None]).T @ W
        for k, group in enumerate(design.groups):
            ZZ[k] += _by_level(group.codes[rows], len(group.levels), Z[k] * w[:, None], Z[k])
            ZW[k] += _by_level(group.codes[rows], len(group.levels), Z[k] * w[:, None], W)
        for (i, j), (left, _, place) in pairs.items():
            crossed[i, j] += _by_level(place[rows], len(left), Z[i] * w[:, None], Z[j])
    return Moments(
        n=design.n,
        log_weights=0.0 if design.weights is None else float(np.log(design.weights).sum()),
        columns=columns,
        pivot=pivot,
        WW=WW,
        groups=tuple(
            GroupMoments(g.name, g.coefs, g.levels, pivots[k], ZZ[k], ZW[k]) for k, g in enumerate(design.groups)
        ),
        pairs=tuple(
            PairMoments((design.groups[i].name, design.groups[j].name), left, right, crossed[i, j])
            for (i, j), (left, right, _) in pairs.items()
        ),
    )


def _z_pivot(group: GroupDesign) -> Array:
    """Column means of Z, 0 for the intercept."""
    means = group.Z.mean(axis=0)
    return np.array([0.0 if coef == "Intercept" else mean for coef, mean in zip(group.coefs, means, strict=True)])


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, ROWS_AT_A_TIME):
        yield slice(start, min(start + ROWS_AT_A_TIME, n))


def _by_level(codes: Array, levels: int, left: Array, right: Array) -> Array:
    """Return Σ over the rows of each level of left' right, (levels, a, b)."""
    found = np.empty((levels, left.shape[1], right.shape[1]))
    for a in range(left.shape[1]):
        for b in range(right.shape[1]):
            found[:, a, b] = np.bincount(codes, left[:, a] * right[:, b], levels)
    return found


def _pair_places(design: Design) -> dict[tuple[int, int], tuple[Array, Array, Array]]:
    """For each two factors: the pairs of levels that occur (left, right), and which of them each row is."""
    found = {}
    for i, a in enumerate(design.groups):
        for j in range(i + 1, len(design.groups)):
            b = design.groups[j]
            joint = a.codes.astype(np.int64) * len(b.levels) + b.codes
            seen, place = np.unique(joint, return_inverse=True)
            found[i, j] = (seen // len(b.levels), seen % len(b.levels), place)
    return found


def _shift(old: Array, new: Array) -> Array:
    """T with (columns less new pivot) = (columns less old pivot) T, where the first column is 1."""
    T = np.eye(len(old))
    T[0] += old - new
    return T


def _add_pairs(a: PairMoments, b: PairMoments) -> PairMoments:
    keys = np.concatenate([np.column_stack([a.left, a.right]), np.column_stack([b.left, b.right])])
    seen, place = np.unique(keys, axis=0, return_inverse=True)
    ZZ = np.zeros((len(seen), *a.ZZ.shape[1:]))
    np.add.at(ZZ, place.ravel(), np.concatenate([a.ZZ, b.ZZ]))
    return PairMoments(a.names, seen[:, 0], seen[:, 1], ZZ)
