"""A `Fit` comes in; each unit's own estimate goes out beside its posterior mean."""

from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.design import Design, GroupDesign
from hierpanel.errors import FitError
from hierpanel.results import loo


def shrinkage(fit: Any, group: str, coef: str) -> pd.DataFrame:
    """Compare each unit's own estimate of one varying coefficient with its posterior mean.

    The own estimate is least squares of the unit's rows on the factor's columns alone, after taking off what the other
    columns and factors contribute at their posterior means. It is on the scale of unit totals, beta + b. With a link it
    is the intercept at which the unit's expected responses add up to the observed ones.

    Returns
    -------
    DataFrame by level: ``rows``, ``own`` (NaN where the unit's rows cannot tell), ``pooled``; attrs ``population``, the
    coefficient

    Raises
    ------
    FitError
        For a column that does not vary by the factor, and with a link for factors with slopes.
    """
    data = fit.design.group(group)
    if coef not in data.coefs:
        raise FitError(f"{coef!r} does not vary by {group}; what does: {', '.join(data.coefs)}")
    k = data.coefs.index(coef)
    beta = fit.params.get(coef, 0.0) if fit.spec.coefs else 0.0
    b = fit.effects.mean(group)
    link, others = fit.spec.family.link, _others(fit, data, b)
    if link.name == "identity":
        own = _least_squares(data, fit.design.y - others, fit.design.weights)[:, k] + beta
    elif data.coefs == ("Intercept",):
        own = _of_totals(fit.design, data, link, others) + beta
    else:
        raise FitError(
            f"with family {fit.spec.family.name}, units' own estimates are worked out for a varying intercept alone, "
            f"(1 | {group}); coef({group!r}) holds the posterior means"
        )
    table = pd.DataFrame(
        {"rows": data.rows, "own": own, "pooled": b[:, k] + beta}, index=pd.Index(data.levels, name=group)
    )
    table.attrs = {"population": float(beta)}
    return table


def _others(fit: Any, data: GroupDesign, b: np.ndarray) -> np.ndarray:
    """Posterior mean of the linear predictor without this factor's effects, (n,)."""
    eta = loo.linear_draws(fit.spec, fit.design, fit.means(), slice(None))[0, 0]
    return np.asarray(eta - (data.Z * b[data.codes]).sum(axis=1))


def _least_squares(data: GroupDesign, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Least squares of each unit by itself, (J, q); NaN for units whose rows do not identify it."""
    J, q = len(data.levels), len(data.coefs)
    w = np.ones(len(y)) if weights is None else weights
    centre = data.Z.mean(axis=0) if data.coefs[0] == "Intercept" else np.zeros(q)
    centre[:1] = 0.0 if data.coefs[0] == "Intercept" else centre[:1]
    Z = data.Z - centre
    ZZ, Zy = np.zeros((J, q, q)), np.zeros((J, q))
    for i in range(q):
        Zy[:, i] = np.bincount(data.codes, w * Z[:, i] * y, J)
        for j in range(q):
            ZZ[:, i, j] = np.bincount(data.codes, w * Z[:, i] * Z[:, j], J)
    found = np.full((J, q), np.nan)
    scale = np.sqrt(np.maximum(ZZ.diagonal(axis1=1, axis2=2), 1e-300))
    scaled = ZZ / scale[:, :, None] / scale[:, None, :]
    identified = np.linalg.eigvalsh(scaled)[:, 0] > 1e-8
    found[identified] = np.linalg.solve(ZZ[identified], Zy[identified][..., None])[..., 0]
    found[:, 0] -= found[:, 1:] @ centre[1:]
    return found


def _of_totals(design: Design, data: GroupDesign, link: Any, others: np.ndarray) -> np.ndarray:
    """The shift (J,) of each unit's linear predictor at which its expected responses add up to the observed ones.

    For the canonical links that is its maximum likelihood. NaN where it is infinite (all 0, or all 1).
    """
    J = len(data.levels)
    trials = np.ones(design.n) if design.trials is None else design.trials
    observed = np.bincount(data.codes, design.y, J)

    def expected(shift: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.bincount(data.codes, trials * link.inverse(others + shift[data.codes]), J)

    # at ±40 a probability is 0 or 1 to double precision, and counts are beyond any that occur
    low, high = np.full(J, -40.0 - others.max()), np.full(J, 40.0 - others.min())
    finite = (expected(low) < observed) & (observed < expected(high))
    for _ in range(60):
        middle = (low + high) / 2
        below = expected(middle) < observed
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(finite, (low + high) / 2, np.nan)
