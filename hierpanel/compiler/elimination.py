"""Cross-products of a Gaussian model come in; an `Elimination` goes out, which integrates group effects exactly.

Effects are b = σ λ u, u ~ N(0, I), and W = [X, y]. For each level of the factor f, with N the cross-products,

    M = I + λ'N_ff λ     C = chol M     A = λ M⁻¹ λ'     N_gh ← N_gh - N_gf A N_fh

for all that it meets, other factors and W alike; log|C| adds up. Then the next factor, until what is left is dense.
Only λ enters, so this works as λ → 0; no row of the data is touched.

* Levels of the first factor with equal N_ff share C, and N_gf ⊗ N_fh is summed over them beforehand: the update is a
  linear map of q(q+1)/2 numbers for each. A balanced panel costs O(1) for each λ, however many units it has.
* A factor whose levels each meet one level of every other factor (nested) leaves the others as sparse as they were;
  after a crossed factor, the factors that are left fill in and are eliminated together, as one dense matrix.

Arrays carry the P points at which λ is given in their last axis, so that every operation is one long vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierpanel.compiler import blocks as small

Array = np.ndarray
Key = tuple[int, int]

# Levels × points that are worked on at a time: they stay in the processor's cache.
CELLS = 16_384


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
    R : (K, q, q) with R'R = ZZ, from sums about the columns' means, which keeps what a far origin would swallow.
    maps : (g, h) → the linear map from B (K q(q+1)/2, P) to the blocks of (g, h); dense, or sparse. With N_fg = R'Q_g,
        N_gf A N_fh = Q_g' B Q_h, where B = I - (I + Rλλ'R')⁻¹ is at most 1, while A grows like λ².
    """

    pattern: Array
    ZZ: Array
    R: Array
    counts: Array
    maps: Mapping[Key, Any]

    @property
    def is_dense(self) -> bool:
        """Whether W alone is left after this stage, so that a few sums for each pattern are all there is."""
        return len(self.maps) == 1

    @property
    def size(self) -> int:
        """Numbers in B, roughly."""
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


def _shared_updates(shared: Shared, factor: Array) -> tuple[dict[Key, Array], Array]:
    """Return what is taken from each target, (entries, P), and Σ log|C| (P,) over the levels."""
    K, q, points = len(shared.ZZ), len(factor), factor.shape[-1]
    shrinkage = small.shrinkage_by_minors if q <= 2 else small.shrinkage_by_cholesky
    features = len(small.triangle(q))
    # A dense map is applied to B in parts, while they are in the cache; a sparse one to the whole of it.
    size = max(1, CELLS // points) if shared.is_dense else K
    updates: dict[Key, Array] = {}
    log_det = np.zeros(points)
    for start in range(0, K, size):
        rows = slice(start, min(start + size, K))
        B = np.empty((rows.stop - start, features, points))
        log_det += shared.counts[rows] @ np.log(shrinkage(shared.R[rows], factor, B)) / 2
        for target, linear in shared.maps.items():
            part = linear[:, start * features : rows.stop * features] if shared.is_dense else linear
            made = part @ B.reshape(-1, points)
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
