"""Cross-products of a Gaussian model come in; an `Elimination` goes out, which integrates group effects exactly.

Effects are b = σ λ u, u ~ N(0, I), and W = [X, y]. For each level of the factor f, with N the cross-products,

    M = I + λ'N_ff λ     C = chol M     A = λ M⁻¹ λ'     N_gh ← N_gh - N_gf A N_fh

for all that it meets, other factors and W alike; log|C| adds up. Then the next factor, until what is left is dense.
Only λ enters, so this works as λ → 0; no row of the data is touched.

* Levels of the first factor with equal N_ff share C, and N_gf ⊗ N_fh is summed over them beforehand: the update is a
  linear map of A. A balanced panel costs O(1) for each λ, however many units it has.
* A factor whose levels each meet one level of every other factor (nested) leaves the others as sparse as they were;
  after a crossed factor, the factors that are left fill in and are eliminated together, as one dense matrix.

Arrays carry the P points at which λ is given in their last axis, so that every operation is one long vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hierpanel.compiler import blocks as small
from hierpanel.errors import RouteError

Array = np.ndarray
Key = tuple[int, int]

# Columns of the dense part: beyond, one matrix takes 128 MB and each evaluation a second.
MOST_DENSE = 4000
# Products of blocks in the elimination of one factor: beyond, their places alone take a gigabyte.
MOST_PRODUCTS = 30_000_000
# Numbers in the sums that levels of equal cross-products share; beyond, products are made anew at every point.
MOST_SHARED = 40_000_000
# Digits to which cross-products are equal: differences beyond are rounding.
EQUAL_DIGITS = 12
# Levels × points that are worked on at a time: they stay in the processor's cache.
CELLS = 16_384


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
class Products:
    """Which blocks (f, g) and (f, h) of one level of f multiply to which block (g, h).

    first, second : (n,) places among the blocks of (f, g) and of (f, h), ordered by target.
    targets : (t,) the places of the blocks (g, h); starts : (t,) where the products of each begin.
    """

    first: Array
    second: Array
    targets: Array
    starts: Array


@dataclass(frozen=True)
class Stage:
    """The elimination of one factor by blocks: the factors (and W) it meets, and what is multiplied for each two."""

    factor: int
    met: tuple[int, ...]
    products: Mapping[Key, Products]


@dataclass(frozen=True)
class Shared:
    """The first stage's sums over levels that share C.

    pattern : (J,) the pattern of each level; ZZ : (K, q, q, 1) of each pattern; counts : (K,) its levels.
    maps : (g, h) → the linear map from A, (K q(q+1)/2, P), to the blocks of (g, h); dense, or sparse.
    """

    pattern: Array
    ZZ: Array
    counts: Array
    maps: Mapping[Key, Any]

    @property
    def is_dense(self) -> bool:
        """Whether W alone is left after this stage, so that a few sums for each pattern are all there is."""
        return len(self.maps) == 1

    @property
    def size(self) -> int:
        """Numbers in A, roughly."""
        return int(self.ZZ.size)


@dataclass(frozen=True)
class Eliminated:
    """What is left at P points.

    log_det : (P,) Σ log|C|.
    blocks : (g, h) → (n, q_g, q_h, P) of the factors that stay, and W.
    own : for each stage its factor's blocks before it went, by the other factor (the factor itself: N_ff).
    """

    log_det: Array
    blocks: dict[Key, Array]
    own: list[dict[int, Array]]


@dataclass(frozen=True)
class Elimination:
    """The plan: which factor goes when, with everything that does not depend on λ worked out.

    order : the factors' places before they were ordered.
    sizes : (J, q) of each factor in this order, and last (1, m) of W.
    pairs : (g, h) → (left, right) levels of the blocks, those that fill in included.
    start : (g, h) → (n, q_g, q_h, 1) cross-products.
    stages : by blocks, one for each of the first factors; the others are dense.
    places : (g, h) → where the entries of the blocks stand in the dense matrix of (dense factors, W), row by row.
    """

    order: tuple[int, ...]
    sizes: tuple[Key, ...]
    pairs: Mapping[Key, tuple[Array, Array]]
    start: Mapping[Key, Array]
    stages: tuple[Stage, ...]
    shared: Shared | None
    places: Mapping[Key, Array]

    @property
    def W(self) -> int:
        """The place of W, after the factors."""
        return len(self.sizes) - 1

    @property
    def dense(self) -> range:
        """The factors that are left to the end."""
        return range(len(self.stages), self.W)

    @property
    def width(self) -> int:
        """Columns of the dense matrix, W's included."""
        return sum(self.sizes[g][0] * self.sizes[g][1] for g in (*self.dense, self.W))

    @property
    def held(self) -> int:
        """About how many numbers are held for each point."""
        count = self.width**2 + sum(array.size for (g, _), array in self.start.items() if g > 0)
        if self.shared is not None and not self.shared.is_dense:
            count += self.shared.size
        for stage in self.stages[self.shared is not None :]:
            for (g, h), products in stage.products.items():
                count += len(products.first) * self.sizes[g][1] * self.sizes[h][1]
        return count

    @property
    def work(self) -> int:
        """About how many numbers an evaluation goes through."""
        return self.held + (self.shared.size if self.shared is not None and self.shared.is_dense else 0)

    def eliminate(self, factors: Sequence[Array]) -> Eliminated:
        """Eliminate every factor that goes by blocks.

        Parameters
        ----------
        factors : for each factor, in this order, λ (q, q, P), lower triangular
        """
        points = factors[0].shape[-1] if factors else 1
        log_det, blocks, owns = np.zeros(points), dict(self.start), []
        for stage in self.stages:
            f, factor = stage.factor, factors[stage.factor]
            own = {h: blocks.pop((f, h)) for h in (f, *stage.met)}
            owns.append(own)
            if f == 0 and self.shared is not None:
                updates, log_c = _shared_updates(self.shared, factor)
                for target, update in updates.items():
                    blocks[target] = blocks[target] - update.reshape(*blocks[target].shape[:3], points)
            else:
                C = small.cholesky(small.with_identity(own[f], factor))
                log_c = sum((np.log(C[a][a]).sum(axis=0) for a in range(len(C))), np.zeros(points))
                V = {h: _whitened(C, factor, own[h], self.pairs[f, h][0]) for h in stage.met}
                for target, products in stage.products.items():
                    blocks[target] = _updated(blocks[target], V[target[0]], V[target[1]], products)
            log_det = log_det + log_c
        return Eliminated(log_det, blocks, owns)

    def own_blocks(self) -> Eliminated:
        """Return what `effects` of the first stage needs, which no elimination precedes."""
        own = [{h: self.start[0, h] for h in (0, *stage.met)} for stage in self.stages[:1]]
        return Eliminated(np.zeros(0), {}, own)

    def dense_matrix(self, eliminated: Eliminated, factors: Sequence[Array], sigma: Array) -> Array:
        """Return I + λ'Nλ of the dense factors, bordered by W's rows N_W λ / σ and N_WW / σ², (width², P).

        Only the lower triangle is meant.
        """
        matrix = np.zeros((self.width**2, len(sigma)))
        for (g, h), places in self.places.items():
            values = eliminated.blocks[g, h]
            rows = [values[:, a] for a in range(values.shape[1])]
            rows = [row / sigma for row in rows] if g == self.W else small.transposed_times(factors[g], rows)
            columns = [np.stack(rows, axis=1)[:, :, b] for b in range(values.shape[2])]
            columns = [c / sigma for c in columns] if h == self.W else small.transposed_times(factors[h], columns)
            matrix[places.ravel()] = np.stack(columns, axis=2).reshape(-1, len(sigma))
        inner = self.width - self.sizes[self.W][1]
        matrix[np.arange(inner) * (self.width + 1)] += 1.0
        return matrix

    def effects(
        self,
        number: int,
        eliminated: Eliminated,
        factor: Array,
        omega: Array,
        known: Mapping[int, Array],
        sigma: Array,
        levels: slice,
    ) -> tuple[list[Array], small.Rows]:
        """Return the conditional distribution of a stage's effects, given all that went after it.

        Parameters
        ----------
        number : which stage
        factor : λ (q, q, P)
        omega : (m, P) with W omega = y - X beta
        known : factor → its effects (J, q, P), for the factors that went later
        levels : which levels of this stage's factor

        Returns
        -------
        C'u's mean, q arrays (levels, P), and C: u = C'⁻¹(mean + z) with z ~ N(0, I)
        """
        own, f = eliminated.own[number], self.stages[number].factor
        if number == 0 and self.shared is not None:
            used, place = np.unique(self.shared.pattern[levels], return_inverse=True)
            C = small.cholesky(small.with_identity(self.shared.ZZ[used], factor))
            C = [[entry[place] for entry in row] for row in C]
        else:
            C = small.cholesky(small.with_identity(own[f][levels], factor))
        N = own[self.W][levels]
        if N.shape[-1] == 1:
            target = [N[:, a, :, 0] @ omega for a in range(N.shape[1])]
        else:
            target = [np.einsum("jmp,mp->jp", N[:, a], omega) for a in range(N.shape[1])]
        for h in self.stages[number].met[:-1]:
            left, right = self.pairs[f, h]
            mine = slice(*np.searchsorted(left, [levels.start, levels.stop]))
            starts = np.searchsorted(left[mine], np.arange(levels.start, levels.stop))
            for a in range(len(target)):
                moved = sum(own[h][mine, a, b] * known[h][right[mine], b] for b in range(own[h].shape[2]))
                target[a] = target[a] - np.add.reduceat(moved, starts, axis=0)
        return [row / sigma for row in small.solve(C, small.transposed_times(factor, target))], C


def plan(
    sizes: Sequence[Key], squares: Sequence[Array], crosses: Mapping[Key, Cross], with_W: Sequence[Array], WW: Array
) -> Elimination:
    """Decide the order of elimination, and work out everything that does not depend on λ.

    Parameters
    ----------
    sizes : (J, q) of each factor
    squares : for each factor (J, q, q) cross-products of its columns by level
    crosses : (g, h), g < h, → cross-products of two factors' columns
    with_W : for each factor (J, q, m) cross-products with W
    WW : (m, m)

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
        shared=_share(stages[0], ordered, new_sizes) if stages else None,
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


def _share(stage: Stage, crosses: Mapping[Key, Cross], sizes: Sequence[Key]) -> Shared | None:
    """Sum the first stage's products over levels with equal cross-products; None where that would not be smaller."""
    f, q = stage.factor, sizes[stage.factor][1]
    features = small.triangle(q)
    pattern, first_of = _patterns(crosses[f, f].values)
    K = len(first_of)
    entries = {
        (g, h): min(len(products.first), K * len(products.targets)) * sizes[g][1] * sizes[h][1] * len(features)
        for (g, h), products in stage.products.items()
    }
    if sum(entries.values()) > MOST_SHARED:
        return None
    maps: dict[Key, Any] = {}
    for (g, h), products in stage.products.items():
        left, right = crosses[f, g].values, crosses[f, h].values
        level = crosses[f, g].left[products.first]
        q1, q2 = sizes[g][1], sizes[h][1]
        rows = len(crosses[g, h].left) * q1 * q2
        if rows <= q1 * q2:  # W with W: a few sums for each pattern
            maps[g, h] = _dense_map(left, right, pattern, K, features)
        else:
            target = np.repeat(products.targets, np.diff(np.append(products.starts, len(products.first))))
            maps[g, h] = _sparse_map(
                left[products.first],
                right[products.second],
                pattern[level],
                target,
                (rows, K * len(features)),
                features,
            )
    return Shared(pattern, crosses[f, f].values[first_of][..., None], np.bincount(pattern).astype(float), maps)


def _patterns(ZZ: Array) -> tuple[Array, Array]:
    """Group levels whose cross-products differ by rounding alone: (J,) patterns, and the first level of each."""
    size = np.sqrt(np.maximum(ZZ.diagonal(axis1=1, axis2=2), np.finfo(float).tiny))
    mantissa, exponent = np.frexp(size)
    relative = ZZ / size[:, :, None] / size[:, None, :]
    parts = [np.round(mantissa, EQUAL_DIGITS), exponent.astype(float)]
    parts += [np.round(relative[:, a, b], EQUAL_DIGITS)[:, None] for a, b in small.triangle(ZZ.shape[1]) if a < b]
    keys = np.ascontiguousarray(np.concatenate(parts, axis=1)) + 0.0
    _, first, pattern = np.unique(
        keys.view([("", keys.dtype)] * keys.shape[1]).ravel(), return_index=True, return_inverse=True
    )
    return pattern, first


def _symmetric(left: Array, right: Array, a: int, b: int) -> Array:
    """Return the (n, q_g, q_h) coefficients of A_ab, a <= b, in left' A right."""
    found = left[:, a, :, None] * right[:, b, None, :]
    return np.asarray(found if a == b else found + left[:, b, :, None] * right[:, a, None, :])


def _dense_map(left: Array, right: Array, pattern: Array, K: int, features: list[Key]) -> Array:
    """Sum left'A right over the levels of each pattern: (q_g q_h, K × features)."""
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


def _shared_updates(shared: Shared, factor: Array) -> tuple[dict[Key, Array], Array]:
    """Return what is taken from each target, (entries, P), and Σ log|C| (P,) over the levels."""
    K, q, points = len(shared.ZZ), len(factor), factor.shape[-1]
    inverse = small.inverse_by_minors if q <= 2 else small.inverse_by_cholesky
    features = len(small.triangle(q))
    # A dense map is applied to A in parts, while they are in the cache; a sparse one to the whole of it.
    size = max(1, CELLS // points) if shared.is_dense else K
    updates: dict[Key, Array] = {}
    log_det = np.zeros(points)
    for start in range(0, K, size):
        rows = slice(start, min(start + size, K))
        A = np.empty((rows.stop - start, features, points))
        log_det += shared.counts[rows] @ np.log(inverse(shared.ZZ[rows], factor, A)) / 2
        for target, linear in shared.maps.items():
            part = linear[:, start * features : rows.stop * features] if shared.is_dense else linear
            made = part @ A.reshape(-1, points)
            updates[target] = updates[target] + made if target in updates else made
    return updates, log_det


def _whitened(C: small.Rows, factor: Array, N: Array, level: Array) -> Array:
    """Return V = C⁻¹λ'N for the blocks of each level, (n, q, q_h, P)."""
    rows = small.transposed_times(factor, [N[:, a] for a in range(N.shape[1])])
    return np.stack(small.solve([[entry[level][:, None] for entry in row] for row in C], rows), axis=1)


def _updated(block: Array, left: Array, right: Array, products: Products) -> Array:
    """Return the blocks (g, h) less V_g'V_h, summed over the levels that meet both."""
    points = left.shape[-1]
    updated = np.broadcast_to(block, (*block.shape[:3], points)).copy()
    if len(products.targets) == 1 and len(products.first) == len(left):  # every level, to one block
        for point in range(points):
            V, U = (np.ascontiguousarray(side[..., point]).reshape(-1, side.shape[2]) for side in (left, right))
            updated[products.targets[0], ..., point] -= V.T @ U
        return updated
    for a in range(left.shape[2]):
        for b in range(right.shape[2]):
            made = sum(left[products.first, c, a] * right[products.second, c, b] for c in range(left.shape[1]))
            updated[products.targets, a, b] -= np.add.reduceat(made, products.starts, axis=0)
    return updated


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
