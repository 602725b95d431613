"""Small matrices, one for each level and point, come in; products, Cholesky factors and solutions go out.

Arrays carry the points in their last axis. A matrix is a list of rows of (levels, points) arrays, written out entry by
entry: for the few columns that vary by a factor that is several times as fast as a call for each matrix.
"""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
Rows = list[list[Array]]

# Share of a column's squares that is left when it depends on others, by rounding.
DEPENDENT = 1e-13


def triangle(q: int) -> list[tuple[int, int]]:
    """Return the places (a, b), a <= b, of a symmetric matrix's distinct entries."""
    return [(a, b) for a in range(q) for b in range(a, q)]


def with_identity(N: Array, factor: Array) -> Rows:
    """Return the lower triangle of I + λ'Nλ.

    Parameters
    ----------
    N : (n, q, q, P), symmetric, or (n, q, q, 1) where it is the same at every point
    factor : λ (q, q, P), lower triangular
    """
    q = len(factor)
    if N.shape[-1] == 1:  # linear in N: a matrix product
        places = triangle(q)
        packed = np.stack([N[:, a, b, 0] for a, b in places], axis=1)

        def entry(c: int, d: int) -> Array:
            weights = [
                factor[a, c] * factor[b, d] + (factor[b, c] * factor[a, d] if a != b else 0.0) for a, b in places
            ]
            return np.asarray(packed @ np.stack(weights))
    else:
        half = [[_sum([N[:, a, b] * factor[b, d] for b in range(d, q)]) for d in range(q)] for a in range(q)]

        def entry(c: int, d: int) -> Array:
            return _sum([factor[a, c] * half[a][d] for a in range(c, q)])

    M = [[entry(c, d) for d in range(c + 1)] for c in range(q)]
    for c in range(q):
        M[c][c] += 1.0
    return M


def cholesky(M: Rows) -> Rows:
    """Return the lower triangular C with C C' = M, in M's place."""
    for i in range(len(M)):
        for j in range(i + 1):
            for k in range(j):
                M[i][j] -= M[i][k] * M[j][k]
            if i == j:
                np.sqrt(M[i][i], out=M[i][i])
            else:
                M[i][j] /= M[j][j]
    return M


def inverse_times(C: Rows, factor: Array) -> Rows:
    """Return Y = C⁻¹λ', so that Y'Y = λ (C C')⁻¹ λ'."""
    q = len(C)
    Y: Rows = [[] for _ in range(q)]
    for c in range(q):
        for a in range(q):
            known = [C[c][k] * Y[k][a] for k in range(c)]
            if a >= c:
                Y[c].append((factor[a, c] - _sum(known) if known else factor[a, c]) / C[c][c])
            else:
                Y[c].append(-_sum(known) / C[c][c])
    return Y


def gram(Y: Rows, a: int, b: int) -> Array:
    """Return entry (a, b) of Y'Y."""
    return _sum([row[a] * row[b] for row in Y])


def root(N: Array) -> Array:
    """Return upper triangular R (n, q, q) with R'R = N; a row is 0 where its column depends on those before."""
    R = np.zeros_like(N)
    for i in range(N.shape[1]):
        pivot = N[:, i, i] - (R[:, :i, i] ** 2).sum(axis=1)
        kept = pivot > DEPENDENT * N[:, i, i]
        size = np.sqrt(np.where(kept, pivot, 1.0))
        R[:, i, i] = np.where(kept, size, 0.0)
        for j in range(i + 1, N.shape[2]):
            rest = N[:, i, j] - (R[:, :i, i] * R[:, :i, j]).sum(axis=1)
            R[:, i, j] = np.where(kept, rest / size, 0.0)
    return R


def root_solve(R: Array, N: Array) -> Array:
    """Return Q (n, q, k) with R'Q = N (n, q, k), for R of `root` and N whose columns it spans."""
    Q = np.zeros_like(N)
    for i in range(R.shape[1]):
        kept = R[:, i, i] > 0
        rest = N[:, i] - (R[:, :i, i, None] * Q[:, :i]).sum(axis=1)
        Q[:, i] = np.where(kept[:, None], rest / np.where(kept, R[:, i, i], 1.0)[:, None], 0.0)
    return Q


def shrinkage_by_cholesky(R: Array, factor: Array, B: Array) -> Array:
    """Put the distinct entries of B = I - (I + RSR')⁻¹, S = λλ', into B (n, features, P); return |I + RSR'| (n, P).

    B = Rλ(I + λ'R'Rλ)⁻¹λ'R' is at most 1, however large λ is.
    """
    q = len(factor)
    G = [[_sum([R[:, a, k, None] * factor[k, c] for k in range(c, q)]) for c in range(q)] for a in range(q)]
    K = [[_sum([x * y for x, y in zip(G[a], G[b], strict=True)]) for b in range(a + 1)] for a in range(q)]
    for a in range(q):
        K[a][a] += 1.0
    C = cholesky(K)
    Y = inverse_times(C, np.eye(q)[:, :, None])
    for k, (a, b) in enumerate(triangle(q)):
        np.subtract(float(a == b), gram(Y, a, b), out=B[:, k])
    size = C[0][0]
    for a in range(1, q):
        size = size * C[a][a]
    return np.asarray(size**2)


def shrinkage_by_minors(R: Array, factor: Array, B: Array) -> Array:
    """Do the same for one or two columns, in a third of the operations.

    With RSR' = [[a, b], [b, c]] and its determinant d, |I + RSR'| = 1 + a + c + d, and B's entries are (a + d, b,
    c + d) over that: sums of positive numbers, without the cancellation of an inverse.
    """
    if len(factor) == 1:
        B[:, 0] = R[:, 0] ** 2 * factor[0, 0] ** 2
        det = B[:, 0] + 1
        B[:, 0] /= det
        return np.asarray(det)
    S = np.stack([factor[0, 0] ** 2, factor[0, 0] * factor[1, 0], factor[1, 0] ** 2 + factor[1, 1] ** 2])
    (r, s), (t, u) = R[:, 0].T, R[:, 1].T
    minor = np.outer((r * u - s * t) ** 2, (factor[0, 0] * factor[1, 1]) ** 2)
    for k, columns in enumerate(([r**2, 2 * r * s, s**2], [r * t, r * u + s * t, s * u], [t**2, 2 * t * u, u**2])):
        B[:, k] = np.stack(columns, axis=1) @ S
    B[:, 0] += minor
    det = B[:, 0] + B[:, 2] + 1
    B[:, 2] += minor
    B /= det[:, None]
    return np.asarray(det)


def transposed_times(factor: Array, B: Sequence[Array]) -> list[Array]:
    """Return the rows of λ'B; B's rows are (n, …, P)."""
    q = len(factor)
    return [_sum([factor[a, c] * B[a] for a in range(c, q)]) for c in range(q)]


def times(factor: Array, B: Sequence[Array]) -> list[Array]:
    """Return the rows of λB."""
    return [_sum([factor[a, c] * B[c] for c in range(a + 1)]) for a in range(len(factor))]


def solve(C: Rows, B: Sequence[Array]) -> list[Array]:
    """Return the rows of C⁻¹B, where C's entries broadcast with B's rows."""
    found: list[Array] = []
    for i, row in enumerate(B):
        known = [C[i][k] * found[k] for k in range(i)]
        found.append(((row - _sum(known)) if known else row) / C[i][i])
    return found


def solve_transposed(C: Rows, B: Sequence[Array]) -> list[Array]:
    """Return the rows of C'⁻¹B."""
    q = len(C)
    found: list[Array] = [np.empty(0)] * q
    for i in reversed(range(q)):
        known = [C[k][i] * found[k] for k in range(i + 1, q)]
        found[i] = ((B[i] - _sum(known)) if known else B[i]) / C[i][i]
    return found


def _sum(terms: list[Array]) -> Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
