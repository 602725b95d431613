"""A design and the units of its rows come in; Gaussian log densities of units that are left out go out.

Factors whose levels lie within single units go with them. Those that are nested in each other and in the units (the
chain) are integrated out one by one, the finest first. What crosses the units is θ = (effects of other factors, β). For
a Gaussian response θ goes too: with V_j the covariance of unit j's rows given θ, A_j = X_j'V_j⁻¹X_j of θ's columns,
P = Σ A_j + prior precision, m the mean of θ, e_j = y_j - X_j m and g_j = X_j'V_j⁻¹e_j,

    -2 log p(y_j | y_-j, ψ) = n_j log 2π + log|V_j| + log|P| - log|P - A_j| + e_j'V_j⁻¹e_j + g_j'(P - A_j)⁻¹g_j

Other families have `unit_quadrature`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from hierpanel.compiler import blocks as small
from hierpanel.compiler import leverage
from hierpanel.compiler.marginal import Marginal
from hierpanel.data.design import Design
from hierpanel.errors import RouteError
from hierpanel.spec import ModelSpec

Array = np.ndarray

# Numbers that are worked on together.
NUMBERS = 500_000
# With as many coefficients at most, and nothing else that is shared, matrices are factorised entry by entry.
FEW = 24
# Operations for each ψ beyond which units are not left out in closed form: a second or so.
MOST_WORK = 1e10


@dataclass(frozen=True)
class Units:
    """Units that are left out whole, and how the factors of a model stand to them.

    codes : (n,) the unit of each row, 0 … J - 1.
    chain : places of the factors that are integrated out one by one, each nested in the next, the last in the units;
    shared : places of the others.
    order : (n,) rows by unit, then by level of the chain's factors from the coarsest to the finest.
    starts : where each level begins among those of the one before it: the chain's first among ordered rows, …, units.
    """

    codes: Array
    chain: tuple[int, ...]
    shared: tuple[int, ...]
    order: Array
    starts: tuple[Array, ...]

    def up(self, values: Array, level: int, to: int) -> Array:
        """Sum values of a level, its axis first, to those of a coarser one; 0 are the rows."""
        for starts in self.starts[level:to]:
            values = values if len(starts) == len(values) else np.add.reduceat(values, starts, axis=0)
        return values

    def down(self, values: Array, level: int, to: int) -> Array:
        """Repeat values of a level, its axis first, for each of a finer one."""
        for k in reversed(range(to, level)):
            size = len(self.starts[k - 1]) if k else len(self.order)
            if size != len(values):
                values = np.repeat(values, np.diff(np.append(self.starts[k], size)), axis=0)
        return values


def is_nested(fine: Array, coarse: Array) -> bool:
    """Whether each level of one factor lies within a single level of another."""
    parent = np.zeros(fine.max() + 1, dtype=np.int64)
    parent[fine] = coarse
    return bool((parent[fine] == coarse).all())


def arrange(codes: Array, factors: Sequence[Array]) -> Units:
    """Sort a model's factors into those that are left out with a unit, one by one, and the others.

    Parameters
    ----------
    codes : (n,) the unit of each row; every one from 0 on occurs
    factors : (n,) levels of the rows, for each factor
    """
    chain: list[int] = []
    coarse = codes
    for f in sorted(range(len(factors)), key=lambda f: (factors[f].max(), f)):
        if is_nested(factors[f], coarse):
            chain, coarse = [f, *chain], factors[f]
    levels = [*(factors[f] for f in chain), codes]
    order = np.lexsort(levels)
    shared = tuple(f for f in range(len(factors)) if f not in chain)
    return Units(codes, tuple(chain), shared, order, _starts([level[order] for level in levels]))


def _starts(levels: Sequence[Array]) -> tuple[Array, ...]:
    """Return where each level begins among those of the one before it, for rows in order."""
    found, first = [], np.arange(len(levels[0]))
    for codes in levels:
        here = codes[first]
        found.append(np.flatnonzero(np.concatenate([[True], here[1:] != here[:-1]])))
        first = first[found[-1]]
    return tuple(found)


@dataclass(frozen=True)
class Part:
    """Units that are worked on together.

    units : (u,) their places; touched : (u, t) the columns of θ that their rows have (and some more, all 0 in them).
    counts : levels of each shared factor among them.
    products : (c, c, L, 1) cross-products of (columns of the chain, touched ones, y) by level of the finest factor.
    starts : as of `Units`, from the finest factor's levels on.
    """

    units: Array
    touched: Array
    counts: tuple[int, ...]
    products: Array
    starts: tuple[Array, ...]


@dataclass(frozen=True)
class LeftOut:
    """A Gaussian model whose units are left out one at a time, in closed form given ψ.

    chain, shared : places of factors; width : columns of θ = (u of the shared ones, with b = F u, and β).
    precision, right : (p, p), (p,) of the prior of β, and that times its mean.
    rows, log_weights : (J,) of each unit.
    work : about how many operations each ψ takes.
    """

    chain: tuple[int, ...]
    shared: tuple[int, ...]
    width: int
    parts: tuple[Part, ...]
    precision: Array
    right: Array
    rows: Array
    log_weights: Array
    work: float

    def log_densities(self, factors: Sequence[Array], sigma: Array) -> tuple[Array, Array]:
        """Return log p(y_j | y_-j, ψ), and the same with unit j among the rows that are given, (P, J) each.

        Parameters
        ----------
        factors : F (q, q, P) of each factor of the model, lower triangular, on the prior's scale
        sigma : (P,)
        """
        found = np.empty((2, len(sigma), len(self.rows)))
        size = max(1, NUMBERS // max(*(part.products.size for part in self.parts), (self.width + 1) ** 2))
        with threadpool_limits(1, "blas"):  # threads that wait for each other take longer, where the cores are shared
            for start in range(0, len(sigma), size):
                points = slice(start, start + size)
                found[:, points] = self._at([factor[..., points] for factor in factors], sigma[points])
        return found[0], found[1]

    def _at(self, F: Sequence[Array], sigma: Array) -> Array:
        """Return both, (2, P, J), at few enough points."""
        w, p, points = self.width, len(self.right), len(sigma)
        kept = self._sums(self.parts[0], F, sigma)
        total = np.zeros((w + 1, w + 1, points))
        for part in self.parts:
            S = (kept if len(self.parts) == 1 else self._sums(part, F, sigma))[0]
            if w <= FEW:
                total += S.sum(axis=2)
                continue
            columns = np.concatenate([part.touched, np.full((len(part.units), 1), w)], axis=1).T
            place = (columns[:, None] * (w + 1) + columns[None]).ravel()
            for k in range(points):
                total[..., k] += np.bincount(place, S[..., k].ravel(), (w + 1) ** 2).reshape(w + 1, w + 1)
        total[np.arange(w - p), np.arange(w - p)] += 1
        total[w - p : w, w - p : w] += self.precision[:, :, None]
        total[w - p : w, w] += self.right[:, None]
        matrices = np.moveaxis(total, 2, 0)
        K = np.stack([_inverse(matrix[:w, :w]) for matrix in matrices])
        m = (K @ matrices[:, :w, w:])[..., 0].T
        change = _change_of_few if w <= FEW else _change_of_many
        found = np.empty((2, points, len(self.rows)))
        for part in self.parts:
            S, log_v = kept if len(self.parts) == 1 else self._sums(part, F, sigma)
            t, T = part.touched.shape[1], part.touched
            A, m_T = S[:t, :t], m[T.T]
            g = S[:t, t] - np.einsum("ab...,b...->a...", A, m_T)
            square = S[t, t] - (m_T * (S[:t, t] + g)).sum(axis=0)
            K_T = K[:, T[:, :, None], T[:, None, :]] if w > FEW else K
            for k, sign in enumerate((-1, 1)):
                log_det, moved = change(total[:w, :w], K_T, sign * A, g)
                found[k][:, part.units] = -0.5 * (log_v + sign * log_det + square - sign * moved).T
        return found

    def _sums(self, part: Part, F: Sequence[Array], sigma: Array) -> tuple[Array, Array]:
        """Return A_j bordered by y, (t + 1, t + 1, u, P), and n_j log 2π + log|V_j|, (u, P), of one part's units."""
        N, log_det = _integrated(part.products, [F[f] / sigma for f in self.chain], part.starts)
        S, start = N / sigma**2, 0
        for f, count in zip(self.shared, part.counts, strict=True):
            q = len(F[f])
            for _ in range(2):  # rows, then columns
                rows = S[start : start + count * q].reshape(count, q, *S.shape[1:])
                made = np.stack([sum(F[f][a, b] * rows[:, a] for a in range(b, q)) for b in range(q)], axis=1)
                S = np.concatenate([S[:start], made.reshape(-1, *S.shape[1:]), S[start + count * q :]]).swapaxes(0, 1)
            start += count * q
        known = self.rows[part.units, None] * np.log(2 * math.pi * sigma**2) - self.log_weights[part.units, None]
        return S, known + log_det


def left_out(marginal: Marginal, spec: ModelSpec, design: Design, units: Units) -> LeftOut:
    """Take the cross-products from which units are left out.

    Raises
    ------
    RouteError
        Where units share so many effects that it would take too long.
    """
    one = leverage.rows_of(marginal, spec, design, slice(None))
    z = [one.z[marginal.plan.order.index(g)] for g in range(len(design.groups))]
    codes = [group.codes.astype(np.int64) for group in design.groups]
    J, p, chained = len(units.starts[-1]), one.x.shape[1], sum(z[f].shape[1] for f in units.chain)
    sizes = [(len(design.groups[f].levels), z[f].shape[1]) for f in units.shared]
    width = sum(levels * q for levels, q in sizes) + p
    met = [_met(units.codes, codes[f], J, n, width <= FEW) for f, (n, _) in zip(units.shared, sizes, strict=True)]
    columns = chained + p + 1 + sum((one[0] * q for one, (_, q) in zip(met, sizes, strict=True)), np.zeros(J, int))
    finest = np.bincount(units.codes[units.order[units.starts[0]]], minlength=J)
    held = finest * columns.astype(float) ** 2
    work = float((held + columns**3.0).sum() if width <= FEW else 5 * ((held + columns**3.0).sum() + width**3.0))
    if work > MOST_WORK or held.max() > 100 * NUMBERS:
        raise RouteError(f"units share {width:,} effects and coefficients, too many to leave each unit out of them")
    by_size = np.argsort(columns, kind="stable")
    held = np.cumsum(held[by_size])
    parts = []
    for piece in np.split(by_size, np.flatnonzero(np.diff(held // NUMBERS)) + 1):
        chosen = np.zeros(J, dtype=bool)
        chosen[piece] = True
        piece, rows = np.flatnonzero(chosen), units.order[chosen[units.codes[units.order]]]
        D, touched, counts, start = [z[f][rows] for f in units.chain], [], [], 0
        for f, (levels, q), (count, first, level, local) in zip(units.shared, sizes, met, strict=True):
            counts.append(int(count[piece].max()))
            D.append(np.zeros((len(rows), counts[-1] * q)))
            np.put_along_axis(D[-1], local[rows, None] * q + np.arange(q), z[f][rows], axis=1)
            places = level[first[piece, None] + np.arange(counts[-1])][:, :, None] * q + np.arange(q)
            touched.append(start + places.reshape(len(piece), -1))
            start += levels * q
        touched.append(np.broadcast_to(start + np.arange(p), (len(piece), p)))
        starts = _starts([*(codes[f][rows] for f in units.chain), units.codes[rows]])
        products = _products(np.column_stack([*D, one.x[rows], one.y[rows]]), one.weights[rows], starts[0])
        parts.append(Part(piece, np.concatenate(touched, axis=1), tuple(counts), products, starts[1:]))
    return LeftOut(
        chain=units.chain,
        shared=units.shared,
        width=width,
        parts=tuple(parts),
        precision=marginal.precision,
        right=marginal.precision @ marginal.mean,
        rows=np.bincount(units.codes, minlength=J),
        log_weights=np.bincount(units.codes, np.log(one.weights), J),
        work=work,
    )


def _met(units: Array, codes: Array, J: int, levels: int, all_of_them: bool) -> tuple[Array, Array, Array, Array]:
    """Return the levels of a factor that units meet: how many, where they begin in a list, it, and each row's place."""
    if all_of_them:
        return np.full(J, levels), np.zeros(J, int), np.arange(levels), codes
    pairs, place = np.unique(units * levels + codes, return_inverse=True)
    count = np.bincount(pairs // levels, minlength=J)
    first = np.cumsum(count) - count
    return count, first, np.append(pairs % levels, np.zeros(count.max(), int)), place - first[units]


def _products(D: Array, weights: Array, starts: Array) -> Array:
    """Return D'WD by level, (c, c, L, 1)."""
    found = np.empty((len(starts), D.shape[1], D.shape[1]))
    for level, (start, end) in enumerate(zip(starts, [*starts[1:], len(D)], strict=True)):
        found[level] = (D[start:end].T * weights[start:end]) @ D[start:end]
    return np.ascontiguousarray(np.moveaxis(found, 0, 2))[..., None]


def _integrated(N: Array, factors: Sequence[Array], starts: Sequence[Array]) -> tuple[Array, Array]:
    """Eliminate a chain of factors from cross-products (c, c, L, …) by level of the first, and sum to the units.

    Parameters
    ----------
    factors : λ (q, q, P) of each; its columns come first in N
    starts : where the next factor's levels, and last the units, begin
    """
    log_det = np.zeros((N.shape[2], 1))
    for factor, start in zip(factors, starts, strict=True):
        q = len(factor)
        C = small.cholesky(small.with_identity(np.moveaxis(N[:q, :q], (0, 1), (1, 2)), factor))
        V = small.solve(C, small.transposed_times(factor, [N[a, q:] for a in range(q)]))
        N = N[q:, q:] - sum(v[:, None] * v for v in V)
        log_det = log_det + sum(2 * np.log(C[a][a]) for a in range(q))
        if len(start) < N.shape[2]:
            N, log_det = np.add.reduceat(N, start, axis=2), np.add.reduceat(log_det, start, axis=0)
    return N, log_det


def _inverse(P: Array) -> Array:
    """Return P⁻¹ of positive definite P; NaN where it is not."""
    from scipy.linalg import lapack

    if not len(P):
        return P
    root, failed = lapack.dpotrf(P, lower=1)
    lower = np.tril(lapack.dpotri(root, lower=1)[0])
    return np.full_like(P, np.nan) if failed else lower + np.tril(lower, -1).T


def _change_of_few(P: Array, _: Array, A: Array, g: Array) -> tuple[Array, Array]:
    """Return log|P + A| - log|P| and g'(P + A)⁻¹g, (u, points), of P (t, t, points), A (t, t, u, points) and g."""
    before, after = (
        small.cholesky([[M[a, b].copy() for b in range(a + 1)] for a in range(len(g))]) for M in (P, P[:, :, None] + A)
    )
    change = sum((2 * np.log(after[a][a] / before[a][a]) for a in range(len(g))), np.zeros(A.shape[2:]))
    return change, sum((z**2 for z in small.solve(after, list(g))), np.zeros(A.shape[2:]))


def _change_of_many(_: Array, K: Array, A: Array, g: Array) -> tuple[Array, Array]:
    """Return the same by matrices, with K = P⁻¹ (points, u, t, t) on the touched columns: (P + A)⁻¹ = (I + KA)⁻¹K."""
    matrices, right = np.moveaxis(A, (2, 3), (1, 0)), np.moveaxis(g, (1, 2), (1, 0))
    B = np.eye(len(g)) + K @ matrices
    moved = np.linalg.solve(B, K @ right[..., None])[..., 0]
    return np.linalg.slogdet(B)[1].T, (right * moved).sum(axis=2).T
