"""Dense matrices come in, one for each point; their Cholesky factors and solutions go out.

Large matrices are worked on one by one, others together. Those of a few rows have `blocks`.
"""

from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

Array = np.ndarray

# From this width on each matrix is factorised by itself, in place.
LARGE = 100


def cholesky(matrices: Array) -> Array:
    """Return lower Cholesky factors of (P, k, k), NaN where it is not positive definite. Large ones are overwritten."""
    if matrices.shape[1] >= LARGE:
        from scipy.linalg import lapack

        # One thread is nearly as fast as two, and many times faster where another process uses the cores: OpenBLAS's
        # threads spin while they wait for each other.
        with _threads().limit(limits=1, user_api="blas"):
            for k, matrix in enumerate(matrices):
                _, failed = lapack.dpotrf(matrix.T, lower=0, clean=0, overwrite_a=1)  # in place: matrix.T is Fortran's
                if failed:
                    matrices[k] = np.nan
        return matrices
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        found = np.full_like(matrices, np.nan)
        for k, matrix in enumerate(matrices):
            try:
                found[k] = np.linalg.cholesky(matrix)
            except np.linalg.LinAlgError:
                continue  # stays NaN
        return found


def backward(L: Array, right: Array) -> Array:
    """Solve L'x = right for (P, k, k) and (P, k)."""
    if L.shape[1] >= LARGE:
        from scipy.linalg import solve_triangular

        pairs = zip(L, right, strict=True)
        return np.stack([solve_triangular(matrix, r, trans="T", lower=True, check_finite=False) for matrix, r in pairs])
    return np.asarray(np.linalg.solve(np.tril(L).transpose(0, 2, 1), right[..., None])[..., 0])


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()
