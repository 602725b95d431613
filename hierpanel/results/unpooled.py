"""A `Fit` comes in; each unit's own estimate goes out beside its posterior mean."""

from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.design import Design, GroupDesign
from hierpanel.results import loo


def shrinkage(fit: Any, group: str, coef: str) -> pd.DataFrame:
    """Compare each unit's own estimate of one varying coefficient with its posterior mean.

    The own estimate is least squares of the unit's rows on the factor's columns alone, after taking off what the other
    columns and factors contribute at their posterior means. It is on the scale of unit totals, beta + b; with a link, on
    the link scale of the unit's mean response, and only for a single varying intercept.

    Returns
    -------
    DataFrame by level: ``rows``, ``own`` (NaN where the unit's rows cannot tell), ``pooled``; attrs ``population`` (the
    coefficient) and ``xlabel``
    """
    data = fit.design.group(group)
    k = data.coefs.index(coef)
    beta = fit.params.get(coef, 0.0) if fit.spec.coefs else 0.0
    b = fit.draws(f"b_{group}").mean(axis=(0, 1))
    link = fit.spec.family.link
    if link.name == "identity":
        own = _least_squares(data, fit.design.y - _others(fit, data, b), fit.design.weights)[:, k] + beta
        xlabel = f"{coef}: beta + b"
    else:
        own = _of_mean_response(fit.design, data, link) if data.coefs == ("Intercept",) else np.full(len(b), np.nan)
        xlabel = f"{coef}: beta + b, on the {link.name} scale"
    table = pd.DataFrame(
        {"rows": data.rows, "own": own, "pooled": b[:, k] + beta}, index=pd.Index(data.levels, name=group)
    )
    table.attrs = {"population": float(beta), "xlabel": xlabel}
    return table


def _others(fit: Any, data: GroupDesign, b: np.ndarray) -> np.ndarray:
    """Posterior mean of the linear predictor without this factor's effects, (n,)."""
    means = {name: values.mean(axis=(0, 1), keepdims=True) for name, values in fit._draws().items()}
    eta = loo.linear_draws(fit.spec, fit.design, means, slice(None))[0, 0]
    return eta - (data.Z * b[data.codes]).sum(axis=1)


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


def _of_mean_response(design: Design, data: GroupDesign, link: Any) -> np.ndarray:
    """The link of each unit's mean response; NaN where that is infinite (all 0, or all 1)."""
    J = len(data.levels)
    total = np.bincount(data.codes, np.ones(design.n) if design.trials is None else design.trials, J)
    with np.errstate(divide="ignore"):
        own = np.asarray(link.forward(np.bincount(data.codes, design.y, J) / total))
    return np.where(np.isfinite(own), own, np.nan)
