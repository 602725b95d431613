"""What several tests do with the draws of a fit."""

from typing import Any

import numpy as np
import xarray as xr

from hierpanel.results.fit import Fit, with_idata


def with_draws(fit: Fit, **values: Any) -> Fit:
    """Replace draws of some variables."""
    posterior = fit.idata["posterior"].to_dataset()
    for name, value in values.items():
        posterior[name] = (posterior[name].dims, np.broadcast_to(value, posterior[name].shape))
    groups = {name: node.to_dataset() for name, node in fit.idata.children.items()} | {"posterior": posterior}
    return with_idata(fit, xr.DataTree.from_dict(groups))


def summary(draws: Any, prob: float = 0.95) -> list[float]:
    """Mean, sd, lower and upper of the draws of one number."""
    values = np.asarray(draws, dtype=float).ravel()
    half = (1 - prob) / 2
    return [values.mean(), values.std(ddof=1), *np.quantile(values, [half, 1 - half])]
