"""What a `Fit` says of other rows, of rows like its own, and of how much its priors matter."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd


class Predictions:
    """Methods of `Fit`."""

    def predict(
        self: Any,
        data: Any = None,
        *,
        kind: Literal["mean", "linear", "response"] = "mean",
        new_groups: Literal["sample", "population", "error"] = "error",
        prob: float = 0.95,
        draws: bool = False,
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        seed: int = 0,
    ) -> Any:
        """Predict the rows of the fit, or other rows.

        Parameters
        ----------
        data : table
            Other rows; unless given, those of the fit. Known units keep their effects in new periods too. Rows in which
            something is missing, the unit's name included, keep their place and get NaN.
        kind : str
            ``"mean"``: the expected response given the parameters, group effects included; ``"linear"``: the linear
            predictor; ``"response"``: a new response, residual included.
        new_groups : str
            Units that the fit has not seen: ``"error"``; ``"sample"``: their effects are drawn from the distribution of
            units, once for each unit, with their correlations; ``"population"``: their effects are 0.
        prob : probability of the equal-tailed intervals
        draws : bool
            Return draws, not a table.
        transform : function, optional
            Of the response, such as ``np.exp`` for wages in a model of log wages: with ``kind="mean"`` the expected
            transformed response (gaussian), with ``"response"`` transformed responses. Never of a mean.
        seed : of what is drawn here; the same seed gives the same predictions

        Returns
        -------
        DataFrame
            ``mean``, ``sd``, ``lower``, ``upper`` under the data's index; or, with ``draws=True``, a DataArray
            (chain, draw, row).

        Raises
        ------
        DataError
            For a missing column, units that the fit has not seen, and levels of a common factor that it has not seen.

        Examples
        --------
        >>> import hierpanel as hp
        >>> df = hp.datasets.load("sleepstudy")
        >>> fit = hp.fit("reaction ~ days + (days | subject)", df, draws=200, seed=1)
        >>> table = fit.predict({"days": [10, 10], "subject": [308, 999]}, new_groups="sample")
        >>> bool(table["sd"][1] > table["sd"][0])
        True
        """
        from hierpanel.results.predict import predict

        return predict(self, data, kind, new_groups, prob, draws, transform, seed)

    def posterior_predictive(self: Any, draws: int | None = None, seed: int = 0) -> Any:
        """Draw new responses of the fit's rows: what the model would expect to see again.

        Parameters
        ----------
        draws : about how many, evenly spaced over the chains; all of them unless given

        Returns
        -------
        DataArray (chain, draw, row)
        """
        from hierpanel.results.checks import posterior_predictive

        return posterior_predictive(self, draws, seed)

    def logo(self: Any, group: str) -> Any:
        """Return the leave-one-unit-out ELPD (all rows of a new unit): arviz's ELPDData with ``elpd_i``, ``pareto_k``.

        Each unit's rows are scored jointly given all other rows, its own effects integrated out. `loo` asks how well a
        new row of a known unit is predicted, this how well a new unit is. By the marginal route it is in closed form
        given the sds, correlations and sigma.

        Parameters
        ----------
        group : a grouping factor, or the panel's unit

        Raises
        ------
        FitError
            For ``fe(group)``, which says nothing of a new unit.
        """
        from hierpanel.results.logo import logo

        return logo(self, group)

    def sensitivity(self: Any) -> pd.DataFrame:
        """Say whether priors matter, by power-scaling (Kallioinen et al., 2024; ArviZ's psense).

        The posterior is reweighted as if the priors of coefficients, sds, correlations and residual, or the likelihood,
        were raised to powers near 1. What moves with the priors depends on them; with ``prior`` above 0.05 and
        ``likelihood`` above it too, prior and data may disagree.

        Returns
        -------
        DataFrame by parameter: ``prior``, ``likelihood`` (sensitivities), ``diagnosis``
        """
        from hierpanel.results.checks import sensitivity

        return sensitivity(self)
