"""Small matrices, one for each level and point, come in; products, Cholesky factors and solutions go out.

Arrays carry the points in their last axis. A matrix is a list of rows of (levels, points) arrays, written out entry by
entry: for the few columns that vary by a factor that is several times as fast as a call for each matrix.
"""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
Rows = list[list[Array]]


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


def inverse_by_cholesky(N: Array, factor: Array, A: Array) -> Array:
    """Put the distinct entries of λ (I + λ'Nλ)⁻¹ λ' into A (n, features, P), and return the determinants (n, P)."""
    C = cholesky(with_identity(N, factor))
    Y, q = inverse_times(C, factor), len(factor)
    for k, (a, b) in enumerate(triangle(q)):
        A[:, k] = gram(Y, a, b)
    root = C[0][0]
    for a in range(1, q):
        root = root * C[a][a]
    return root**2


def inverse_by_minors(N: Array, factor: Array, A: Array) -> Array:
    """Do the same for one or two columns and fixed N, (n, q, q, 1): with S = λλ', in a third of the operations.

    |I + NS| = 1 + tr NS + |N||S|     S (I + NS)⁻¹ = (S + |S| adj N) / |I + NS|
    """
    if len(factor) == 1:
        S = factor[0, 0] ** 2
        det = N[:, 0, 0] * S + 1
        np.divide(S, det, out=A[:, 0])
        return np.asarray(det)
    S = [factor[0, 0] ** 2, factor[0, 0] * factor[1, 0], factor[1, 0] ** 2 + factor[1, 1] ** 2]
    product = N[:, 0, 0, 0] * N[:, 1, 1, 0]
    minor = product - N[:, 0, 1, 0] ** 2
    minor[minor < 8 * np.finfo(float).eps * product] = 0.0  # rounding: the columns are proportional in these levels
    det_S = (factor[0, 0] * factor[1, 1]) ** 2
    packed = np.stack([N[:, 0, 0, 0], 2 * N[:, 0, 1, 0], N[:, 1, 1, 0], minor], axis=1)
    det = packed @ np.stack([*S, det_S])
    det += 1
    for k, (s, adjugate) in enumerate(zip(S, (N[:, 1, 1], -N[:, 0, 1], N[:, 0, 0]), strict=True)):
        np.multiply(adjugate, det_S, out=A[:, k])
        A[:, k] += s
        A[:, k] /= det
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
