"""A `Fit` comes in; a table of its units goes out: own estimate, pooled estimate, reliability, posterior, rank."""

import numbers
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.design import GroupDesign
from hierpanel.errors import FitError
from hierpanel.results import tables, unpooled
from hierpanel.results.effects import covariance_factors
from hierpanel.results.thinning import evenly

Array = np.ndarray

# Most numbers (draws × units) that ranks are taken of, and draws over which a reliability is averaged.
RANKED, AVERAGED = 8_000_000, 200


def table(fit: Any, group: str, coef: str | None, top: int | None, prob: float) -> pd.DataFrame:
    """Put each unit's own estimate of a coefficient beside what partial pooling makes of it; see `Fit.shrinkage`."""
    data = fit.design.group(group)
    coef = data.coefs[0] if coef is None else coef
    own = unpooled.shrinkage(fit, group, coef)
    J, k = len(data.levels), data.coefs.index(coef)
    top = max(1, round(J / 10)) if top is None else top
    if not isinstance(top, numbers.Integral) or isinstance(top, bool) or not 1 <= top <= J:
        raise FitError(f"top is a number of units from 1 to {J}, not {top!r}")
    posterior = fit.coef(group, prob).xs(coef, level="coef")[["mean", "sd", "lower", "upper"]]
    ranks = _ranks(fit.effects.of_column(group, k, RANKED))
    lower, upper = np.quantile(ranks, [(1 - prob) / 2, (1 + prob) / 2], axis=0, method="inverted_cdf")
    found = tables.Table(
        {
            "rows": own["rows"].to_numpy(),
            "own": own["own"].to_numpy(),
            "pooled": own.attrs["population"],
            "reliability": _reliability(fit, data, k),
            **{name: posterior[name].to_numpy() for name in posterior},
            "rank": ranks.mean(axis=0),
            "rank_lower": lower.astype(int),
            "rank_upper": upper.astype(int),
            "p_top": (ranks <= top).mean(axis=0),
        },
        index=own.index,
    )
    found.columns.name = f"{coef}; {100 * prob:g} % equal-tailed; top {top}"
    found.attrs = {"interval": "equal-tailed", "prob": prob, "coef": coef, "top": top}
    return found


def _ranks(draws: Array) -> Array:
    """Ranks (S, J) in each draw, 1 for the largest."""
    order = np.argsort(-draws, axis=1)
    ranks = np.empty(draws.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, np.arange(1, draws.shape[1] + 1, dtype=np.int32)[None], axis=1)
    return ranks


def _reliability(fit: Any, data: GroupDesign, k: int) -> Array:
    """The share (J,) of a unit's own estimate in its posterior mean: 1 - var(b | its rows) / var(b).

    Given the sds and sigma that is var/(var + sigma²/rows) for a varying intercept (Raudenbush and Bryk, 2002, p. 46),
    averaged here over the posterior; effects of other factors and coefficients count as known. For other families it is
    1 less the posterior over the prior variance.
    """
    name, size = data.name, fit.effects.lead[0] * fit.effects.lead[1]
    keep = evenly(size, AVERAGED)
    sd = fit.draws(f"sd_{name}").reshape(size, -1)
    if fit.spec.family.name != "gaussian":
        variance = fit.group_moments(name)[1][:, k, k]
        return np.asarray(np.clip(1 - variance / (sd[:, k] ** 2).mean(), 0, 1))
    sigma = fit.draws("sigma").reshape(size)
    w = np.ones(fit.design.n) if fit.design.weights is None else fit.design.weights
    if len(data.coefs) == 1:
        total, place = np.unique(np.bincount(data.codes, w * data.Z[:, 0] ** 2), return_inverse=True)
        keep = keep if len(total) * size > RANKED else np.arange(size)
        own = sd[keep, 0] ** 2 * total[:, None]  # 0 for a unit whose column is 0 in all rows
        return np.asarray((own / (own + sigma[keep] ** 2)).mean(axis=1)[place])
    q = len(data.coefs)
    ZZ = np.array(
        [[np.bincount(data.codes, w * data.Z[:, i] * data.Z[:, j]) for i in range(q)] for j in range(q)]
    ).transpose(2, 0, 1)
    correlated = f"cor_{name}" in fit.idata["posterior"].data_vars
    cor = fit.draws(f"cor_{name}").reshape(size, q, q)[keep] if correlated else None
    found = np.zeros(len(data.levels))
    for s, L in zip(keep, covariance_factors(sd[keep], cor), strict=True):
        # Σ - V = Σ Z'(Z Σ Z' + σ²)⁻¹ Z Σ, with Σ = LL': V = L (I + L'Z'ZL/σ²)⁻¹ L'
        V = L @ np.linalg.solve(np.eye(q) + L.T @ ZZ @ L / sigma[s] ** 2, np.broadcast_to(L.T, ZZ.shape))
        found += 1 - V[:, k, k] / (L @ L.T)[k, k]
    return found / len(keep)
