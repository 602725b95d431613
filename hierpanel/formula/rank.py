"""A matrix of columns comes in; the exact linear dependencies among them go out."""

import numpy as np

# Relative size of what is left of a column, after regression on the others, below which it is called collinear.
COLLINEAR = 1e-9


def dependencies(matrix: np.ndarray) -> list[tuple[int, list[int]]]:
    """Find the columns that are exact linear combinations of columns to their left.

    Parameters
    ----------
    matrix : (n, p)

    Returns
    -------
    list of (column, columns that it is made of); an all-zero column is made of none.
    """
    triangle, scale = _triangle(matrix)
    basis: list[np.ndarray] = []
    kept: list[int] = []
    found = []
    for k in range(matrix.shape[1]):
        column = triangle[:, k]
        rest = column.copy()
        for _ in range(2):  # twice is enough (Kahan): the second pass removes what rounding left
            for q in basis:
                rest = rest - (q @ rest) * q
        size = np.linalg.norm(rest)
        # about its mean each column has length 1; a mean far from 0 adds nothing but rounding
        rounding = 8 * np.finfo(float).eps * np.linalg.norm(column)
        if scale[k] == 0 or size <= COLLINEAR + rounding:
            weights = np.linalg.lstsq(triangle[:, kept], column, rcond=None)[0] if kept and scale[k] else np.empty(0)
            found.append((k, [j for j, w in zip(kept, weights, strict=False) if abs(w) > 1e-6]))
        else:
            basis.append(rest / size)
            kept.append(k)
    return found


def _triangle(matrix: np.ndarray, rows: int = 65_536) -> tuple[np.ndarray, np.ndarray]:
    """R of the QR decomposition with columns scaled to length 1; by chunks, so memory does not grow with n.

    Where there is a constant column the others are first centred, so that calendar years keep their digits.
    """
    p = matrix.shape[1]
    constant = [k for k in range(p) if len(matrix) and np.ptp(matrix[:, k]) == 0 and matrix[0, k] != 0]
    centre = matrix.mean(axis=0) if constant else np.zeros(p)
    for k in constant[:1]:
        centre[k] = 0.0
    scale = np.sqrt(sum(((chunk - centre) ** 2).sum(axis=0) for chunk in _chunks(matrix, rows)))
    # a further constant column has nothing left but rounding
    small = scale <= 1e-14 * np.abs(centre) * np.sqrt(len(matrix))
    scale = np.where(small, 0.0, scale)
    triangle = np.zeros((0, p))
    for chunk in _chunks(matrix, rows):
        scaled = (chunk - centre) / np.where(scale > 0, scale, 1.0)
        triangle = np.linalg.qr(np.vstack([triangle, np.where(scale > 0, scaled, 0.0)]), mode="r")
    if constant:  # put the mean back where it was: centring is only exact with the constant in the span
        first = constant[0]
        unit = triangle[:, first] / max(np.linalg.norm(triangle[:, first]), 1e-300)
        shift = np.where(np.arange(p) == first, 0.0, centre * np.sqrt(len(matrix)) / np.where(scale > 0, scale, 1.0))
        triangle = triangle + np.outer(unit, np.where(small, np.sign(centre), shift))
        scale = np.where(small & (centre != 0), 1.0, scale)
    return triangle, scale


def _chunks(matrix: np.ndarray, rows: int) -> list[np.ndarray]:
    return [matrix[start : start + rows] for start in range(0, max(len(matrix), 1), rows)]
