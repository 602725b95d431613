"""What a `Fit` answers in the words of statsmodels' results."""

from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results import loo


class StatsmodelsWords:
    """Attributes of `Fit`."""

    @property
    def params(self: Any) -> pd.Series:
        """Posterior means of the coefficients."""
        return _of_coefficients(self, np.mean, "params")

    @property
    def bse(self: Any) -> pd.Series:
        """Posterior sds of the coefficients."""
        return _of_coefficients(self, lambda draws, axis: draws.std(axis=axis, ddof=1), "bse")

    def conf_int(self: Any, alpha: float = 0.05) -> pd.DataFrame:
        """Return equal-tailed intervals of the coefficients, of probability 1 - alpha, in columns lower and upper."""
        if not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
            raise FitError(f"alpha is 1 less the probability of the interval, as in alpha=0.05, not {alpha!r}")
        table: pd.DataFrame = self.fixef(prob=1 - alpha)
        return table[["lower", "upper"]]

    @property
    def nobs(self: Any) -> int:
        """Rows used."""
        return int(self.spec.n)

    @property
    def fittedvalues(self: Any) -> pd.Series:
        """Posterior mean of each row's expected response, group effects included, under the data's index."""
        if self.spec.family.link.name == "identity":
            values = loo.linear_draws(self.spec, self.design, self.means(), slice(None))[0, 0]
        else:
            draws, parts = self.stored_draws(), []
            for rows in loo.chunks(self.design, draws):
                mean = self.spec.family.link.inverse(loo.linear_draws(self.spec, self.design, draws, rows))
                parts.append(mean.mean(axis=(0, 1)))
            values = np.concatenate(parts)
        if self.design.trials is not None:
            values = values * self.design.trials
        return pd.Series(values, index=self.design.index, name="fittedvalues")

    @property
    def resid(self: Any) -> pd.Series:
        """Response less `fittedvalues`."""
        fitted = self.fittedvalues
        return pd.Series(self.design.y - fitted.to_numpy(), index=fitted.index, name="resid")


def _of_coefficients(fit: Any, statistic: Any, name: str) -> pd.Series:
    if not fit.spec.coefs:
        raise FitError("this model has no coefficients; its group effects are in ranef()")
    draws = fit.draws("beta").reshape(-1, len(fit.spec.coefs))
    return pd.Series(statistic(draws, axis=0), index=pd.Index(fit.spec.coefs, name="coef"), name=name)
