"""Columns and grouping codes come in; the columns less the groups' means go out (the within transformation)."""

from collections.abc import Sequence

import numpy as np

from hierpanel.formula.rank import COLLINEAR

# Sweeps over several factors end when a sweep moves a column by less than this share of its length.
SETTLED = 1e-11


def demean(columns: np.ndarray, codes: Sequence[np.ndarray], sweeps: int = 1000) -> np.ndarray:
    """Project columns off the indicators of one or several factors.

    Parameters
    ----------
    columns : (n, p)
    codes : for each factor (n,) levels 0 … J - 1
    sweeps : most sweeps over the factors; one is exact for a single factor

    Returns
    -------
    (n, p); with several factors by alternating projections (Halperin, 1962), until nothing is left to take off
    """
    left = columns - columns.mean(axis=0)
    rows = [np.bincount(code) for code in codes]
    length = np.linalg.norm(left, axis=0)
    for _ in range(sweeps):
        before = left.copy()
        for code, count in zip(codes, rows, strict=True):
            for k in range(left.shape[1]):
                left[:, k] -= (np.bincount(code, left[:, k]) / count)[code]
        if len(codes) == 1 or (np.linalg.norm(left - before, axis=0) <= SETTLED * length).all():
            break
    return left


def constant_within(columns: np.ndarray, codes: Sequence[np.ndarray]) -> np.ndarray:
    """Return (p,) whether nothing but rounding is left of each column (n, p) by the within transformation."""
    total = np.linalg.norm(columns - columns.mean(axis=0), axis=0)
    return np.asarray(np.linalg.norm(demean(columns, codes), axis=0) <= COLLINEAR * total)
