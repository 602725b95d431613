"""Cross-products of a model's factors come in; an `Elimination` goes out, with all that does not depend on λ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hierpanel.compiler.blocks import root, root_solve, triangle
from hierpanel.compiler.elimination import Elimination, Key, Products, Shared, Stage
from hierpanel.errors import RouteError

Array = np.ndarray

# Columns of the dense part: beyond, one matrix takes 128 MB and each evaluation a second.
MOST_DENSE = 4000
# Products of blocks in the elimination of one factor: beyond, their places alone take a gigabyte.
MOST_PRODUCTS = 30_000_000
# Numbers in the sums that levels of equal cross-products share; beyond, products are made anew at every point.
MOST_SHARED = 40_000_000
# Digits to which cross-products are equal: differences beyond are rounding.
EQUAL_DIGITS = 12


@dataclass(frozen=True)
class Cross:
    """Cross-products of the columns of two factors (or of a factor and W) over the pairs of levels that meet.

    left, right : (n,) the levels; values : (n, q_left, q_right).
    """

    left: Array
    right: Array
    values: Array

    def transposed(self) -> "Cross":
        """Return the same with the factors exchanged."""
        order = np.lexsort((self.left, self.right))
        return Cross(self.right[order], self.left[order], self.values[order].swapaxes(1, 2))


@dataclass(frozen=True)
class AboutMeans:
    """A factor's cross-products about its columns' means, Z_m, where Z = Z_m A.

    A : (q, q); alike : (J, …) whatever levels must have in common to share their work.
    squares : (J, q, q); crosses : other factor → `Cross`, this factor on the left; with_W : (J, q, m).
    """

    A: Array
    alike: Array
    squares: Array
    crosses: Mapping[int, Cross]
    with_W: Array


def plan(
    sizes: Sequence[Key],
    squares: Sequence[Array],
    crosses: Mapping[Key, Cross],
    with_W: Sequence[Array],
    WW: Array,
    about_means: Callable[[int], AboutMeans],
) -> Elimination:
    """Decide the order of elimination, and work out everything that does not depend on λ.

    Parameters
    ----------
    sizes : (J, q) of each factor
    squares : for each factor (J, q, q) cross-products of its columns by level
    crosses : (g, h), g < h, → cross-products of two factors' columns
    with_W : for each factor (J, q, m) cross-products with W
    WW : (m, m)
    about_means : factor → its cross-products about means, for the one that goes first

    Raises
    ------
    RouteError
        Where the dense part would not fit in memory.
    """
    order, by_blocks = _order(sizes, crosses)
    W = len(order)
    dense = sum(sizes[g][0] * sizes[g][1] for g in order[by_blocks:])
    if dense > MOST_DENSE:
        raise RouteError(
            f"its crossed factors leave a dense matrix of {dense:,} columns ({dense**2 * 8 / 1e9:.1f} GB) to factorise "
            f"at every evaluation, and {MOST_DENSE:,} is the most"
        )
    ordered: dict[Key, Cross] = {}
    for i, g in enumerate(order):
        level = np.arange(sizes[g][0])
        ordered[i, i] = Cross(level, level, squares[g])
        ordered[i, W] = Cross(level, np.zeros_like(level), with_W[g])
        for j in range(i + 1, W):
            h = order[j]
            ordered[i, j] = crosses[g, h] if g < h else crosses[h, g].transposed()
    ordered[W, W] = Cross(np.zeros(1, int), np.zeros(1, int), WW[None])
    new_sizes = (*(sizes[g] for g in order), (1, len(WW)))
    stages = []
    for f in range(by_blocks):
        met = tuple(range(f + 1, W + 1))
        stages.append(Stage(f, met, _fill(f, met, ordered, new_sizes)))
    stages = [_placed(stage, ordered, new_sizes) for stage in stages]  # now that nothing fills in any more
    return Elimination(
        order=tuple(order),
        sizes=new_sizes,
        pairs={key: (cross.left, cross.right) for key, cross in ordered.items()},
        start={key: cross.values[..., None] for key, cross in ordered.items()},
        stages=tuple(stages),
        shared=_share(stages[0], ordered, new_sizes, about_means(order[0]), order) if stages else None,
        places=_places(range(by_blocks, W + 1), ordered, new_sizes),
    )


def _order(sizes: Sequence[Key], crosses: Mapping[Key, Cross]) -> tuple[list[int], int]:
    """Return the factors in the order of elimination, and how many of them go by blocks.

    Nested ones first, the largest first; of crossed ones the largest, as long as some are block diagonal.
    """
    met = {key: (cross.left, cross.right) for key, cross in crosses.items()}
    met |= {(h, g): (right, left) for (g, h), (left, right) in met.items()}
    left_over, diagonal, order = set(range(len(sizes))), set(range(len(sizes))), []
    while left_over & diagonal:
        choices = sorted(left_over & diagonal, key=lambda g: (-sizes[g][0] * sizes[g][1], g))
        nested = [g for g in choices if all(len(met[g, h][0]) == sizes[g][0] for h in left_over - {g})]
        f = (nested or choices)[0]
        others = sorted(left_over - {f})
        degree = {h: np.bincount(met[f, h][0], minlength=sizes[f][0]).astype(float) for h in others}
        if sum((degree[g] @ degree[h]) / (1 + (g == h)) for g in others for h in others if g <= h) > MOST_PRODUCTS:
            break
        order.append(f)
        left_over.remove(f)
        if f in nested:
            continue  # nothing fills in
        sorted_by_level = {h: [side[np.argsort(met[f, h][0], kind="stable")] for side in met[f, h]] for h in others}
        for g in others:
            for h in others:
                if g <= h:
                    first, second = _multiplied(sorted_by_level[g][0], sorted_by_level[h][0], sizes[f][0])
                    a, b = sorted_by_level[g][1][first], sorted_by_level[h][1][second]
                    if g == h:
                        diagonal -= {g} if (a != b).any() else set()
                    else:
                        joint = np.unique(
                            np.concatenate([a * sizes[h][0] + b, met[g, h][0] * sizes[h][0] + met[g, h][1]])
                        )
                        met[g, h] = (joint // sizes[h][0], joint % sizes[h][0])
                        met[h, g] = met[g, h][::-1]
    return order + sorted(left_over, key=lambda g: -sizes[g][0] * sizes[g][1]), len(order)


def _multiplied(first: Array, second: Array, J: int) -> tuple[Array, Array]:
    """Return the places of every two entries, one of each list of sorted levels 0 … J - 1, that share a level."""
    n1, n2 = np.bincount(first, minlength=J), np.bincount(second, minlength=J)
    start1, start2 = np.cumsum(n1) - n1, np.cumsum(n2) - n2
    count = n1 * n2
    level = np.repeat(np.arange(J), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return start1[level] + within // n2[level], start2[level] + within % n2[level]


def _fill(f: int, met: tuple[int, ...], crosses: dict[Key, Cross], sizes: Sequence[Key]) -> dict[Key, Products]:
    """List the products that eliminating f makes, and put the blocks that fill in into `crosses`, as zeros.

    Targets are left × levels of h + right, until `_placed`.
    """
    found = {}
    for g in met:
        for h in met:
            if g > h:
                continue
            first, second = _multiplied(crosses[f, g].left, crosses[f, h].left, sizes[f][0])
            a, b = crosses[f, g].right[first], crosses[f, h].right[second]
            if g == h:
                lower = a >= b
                first, second, a, b = first[lower], second[lower], a[lower], b[lower]
            key = a.astype(np.int64) * sizes[h][0] + b
            order = np.argsort(key, kind="stable")
            made, starts = np.unique(key[order], return_index=True)
            old = crosses[g, h]
            old_key = old.left.astype(np.int64) * sizes[h][0] + old.right
            joint = np.union1d(old_key, made)
            values = np.zeros((len(joint), *old.values.shape[1:]))
            values[np.searchsorted(joint, old_key)] = old.values
            crosses[g, h] = Cross(joint // sizes[h][0], joint % sizes[h][0], values)
            found[g, h] = Products(first[order], second[order], made, starts)
    return found


def _placed(stage: Stage, crosses: Mapping[Key, Cross], sizes: Sequence[Key]) -> Stage:
    """Turn the targets of products into places among the blocks."""
    products = {
        (g, h): replace(
            made, targets=np.searchsorted(crosses[g, h].left * sizes[h][0] + crosses[g, h].right, made.targets)
        )
        for (g, h), made in stage.products.items()
    }
    return replace(stage, products=products)


def _share(
    stage: Stage, crosses: Mapping[Key, Cross], sizes: Sequence[Key], own: AboutMeans, order: Sequence[int]
) -> Shared | None:
    """Sum the first stage's products over levels with equal cross-products; None where that would not be smaller."""
    f, q = stage.factor, sizes[stage.factor][1]
    features = triangle(q)
    pattern, first_of = _patterns(own.alike)
    K = len(first_of)
    entries = {
        (g, h): min(len(products.first), K * len(products.targets)) * sizes[g][1] * sizes[h][1] * len(features)
        for (g, h), products in stage.products.items()
    }
    if sum(entries.values()) > MOST_SHARED:
        return None
    R = root(own.squares[first_of])
    Q = {len(order): root_solve(R[pattern], own.with_W)}
    for h in range(1, len(order)):
        cross = own.crosses[order[h]]
        Q[h] = root_solve(R[pattern[cross.left]], cross.values)
    maps: dict[Key, Any] = {}
    for (g, h), products in stage.products.items():
        level = crosses[f, g].left[products.first]
        rows = len(crosses[g, h].left) * sizes[g][1] * sizes[h][1]
        if g == len(order):  # W with W: a few sums for each pattern
            maps[g, h] = _dense_map(Q[g], Q[h], pattern, K, features)
        else:
            target = np.repeat(products.targets, np.diff(np.append(products.starts, len(products.first))))
            shape = (rows, K * len(features))
            left, right = Q[g][products.first], Q[h][products.second]
            maps[g, h] = _sparse_map(left, right, pattern[level], target, shape, features)
    ZZ = crosses[f, f].values[first_of][..., None]
    return Shared(pattern, ZZ, R @ own.A, np.bincount(pattern).astype(float), maps)


def _patterns(ZZ: Array) -> tuple[Array, Array]:
    """Group levels whose cross-products differ by rounding alone: (J,) patterns, and the first level of each."""
    size = np.sqrt(ZZ.diagonal(axis1=1, axis2=2))
    size = np.where(
        size > 1e-13 * size.max(axis=0), size, np.inf
    )  # a column that is 0 in these levels, but for rounding
    mantissa, exponent = np.frexp(np.where(np.isfinite(size), size, 0.0))
    relative = ZZ / size[:, :, None] / size[:, None, :]
    parts = [np.round(mantissa, EQUAL_DIGITS), exponent.astype(float)]
    parts += [np.round(relative[:, a, b], EQUAL_DIGITS)[:, None] for a, b in triangle(ZZ.shape[1]) if a < b]
    keys = np.ascontiguousarray(np.concatenate(parts, axis=1)) + 0.0
    _, first, pattern = np.unique(
        keys.view([("", keys.dtype)] * keys.shape[1]).ravel(), return_index=True, return_inverse=True
    )
    return pattern, first


def _symmetric(left: Array, right: Array, a: int, b: int) -> Array:
    """Return the (n, q_g, q_h) coefficients of B_ab, a <= b, in left' B right."""
    found = left[:, a, :, None] * right[:, b, None, :]
    return np.asarray(found if a == b else found + left[:, b, :, None] * right[:, a, None, :])


def _dense_map(left: Array, right: Array, pattern: Array, K: int, features: list[Key]) -> Array:
    """Sum left'B right over the levels of each pattern: (q_g q_h, K × features)."""
    entries = left.shape[2] * right.shape[2]
    found = np.empty((entries, K, len(features)))
    for k, (a, b) in enumerate(features):
        made = _symmetric(left, right, a, b).reshape(len(left), entries)
        for entry in range(entries):
            found[entry, :, k] = np.bincount(pattern, made[:, entry], K)
    return found.reshape(entries, -1)


def _sparse_map(left: Array, right: Array, pattern: Array, target: Array, shape: Key, features: list[Key]) -> Any:
    """The same for blocks with many targets, as a sparse matrix."""
    from scipy import sparse

    q1, q2 = left.shape[2], right.shape[2]
    entry = np.arange(q1 * q2)
    rows = (target[:, None] * (q1 * q2) + entry).ravel()
    total = sparse.csr_array(shape)
    for k, (a, b) in enumerate(features):
        columns = np.repeat(pattern * len(features) + k, q1 * q2)
        values = _symmetric(left, right, a, b).ravel()
        total = total + sparse.coo_array((values, (rows, columns)), shape=shape).tocsr()
    return total


def _places(kept: range, crosses: Mapping[Key, Cross], sizes: Sequence[Key]) -> dict[Key, Array]:
    """Return where each entry of the blocks that stay stands in the lower triangle of the dense matrix."""
    widths = [sizes[g][0] * sizes[g][1] for g in kept]
    offset = dict(zip(kept, np.cumsum(widths) - widths, strict=True))
    width = sum(widths)
    found = {}
    for g in kept:
        for h in range(g, kept.stop):
            cross = crosses[g, h]
            i = (offset[g] + cross.left * sizes[g][1])[:, None, None] + np.arange(sizes[g][1])[None, :, None]
            j = (offset[h] + cross.right * sizes[h][1])[:, None, None] + np.arange(sizes[h][1])[None, None, :]
            found[g, h] = i * width + j if g == h else j * width + i
    return found
