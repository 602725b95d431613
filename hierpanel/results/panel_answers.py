"""What a `Fit` answers of a panel: R² within and between, the units' shrinkage, fixed against random effects."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results import tables
from hierpanel.results.variance import panel_r2


class PanelAnswers:
    """Methods of `Fit`."""

    def r2_panel(self: Any, by: str | None = None, prob: float = 0.95) -> pd.DataFrame:
        """Return R² within, between and overall of the coefficients, by linearmodels' definitions, as posteriors.

        Each is 1 - Σe²/Σ(y - ȳ)² of e = y - Xβ: of deviations from unit means, of unit means, and of rows. They measure
        the coefficients alone, group effects left out, and can be negative; `r2` counts the effects too.

        Parameters
        ----------
        by : grouping factor; the panel's unit unless given, or the only factor of the model

        Raises
        ------
        FitError
            Without units, without coefficients, or for a family with a link.

        Examples
        --------
        >>> import hierpanel as hp
        >>> df = hp.datasets.load("wage_panel")
        >>> fit = hp.fit("log_wage ~ union + (1 | worker)", df, panel=("worker", "year"), draws=100, seed=1)
        >>> list(fit.r2_panel().index)
        ['within', 'between', 'overall']
        """
        if not self.spec.family.location or not self.spec.coefs:
            raise FitError("R² within, between and overall are of the coefficients of a gaussian or student_t response")
        is_panel = self.spec.panel is not None and by in (None, self.spec.panel.unit)
        if is_panel and self.design.units is not None:
            codes = self.design.units
        elif by is None and len(self.design.groups) == 1:
            codes = self.design.groups[0].codes
        elif by is None:
            raise FitError(
                "R² within and between are by unit: give panel=(unit, time) to the model, or by= a factor here"
            )
        else:
            codes = self.design.group(by).codes
        return tables.named(panel_r2(self.design, codes, self.draws("beta")), "r2", prob)

    def shrinkage(
        self: Any, group: str, coef: str | None = None, *, top: int | None = None, prob: float = 0.95
    ) -> pd.DataFrame:
        """Return each unit's own estimate beside what partial pooling makes of it, with its rank.

        Parameters
        ----------
        group : grouping factor
        coef : column that varies by it; its first unless given
        top : units that count as the top, for ``p_top``; a tenth of them unless given
        prob : probability of the intervals

        Returns
        -------
        DataFrame by level
            ``rows``; ``own``: least squares on the unit's rows alone, what the rest of the model says of them taken off
            (NaN where they cannot tell); ``pooled``: the population's coefficient; ``reliability``: the share of the
            unit's own estimate in its posterior mean, sd²/(sd² + sigma²/rows) for a varying intercept; ``mean``,
            ``sd``, ``lower``, ``upper`` of the posterior of beta + b; ``rank``: posterior mean rank, 1 for the largest,
            with ``rank_lower`` and ``rank_upper``; ``p_top``: probability of being among the ``top`` largest.

        Examples
        --------
        >>> import hierpanel as hp
        >>> fit = hp.fit("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"), draws=200, seed=1)
        >>> fit.shrinkage("batch", top=1)["rows"].tolist()
        [5, 5, 5, 5, 5, 5]
        """
        from hierpanel.results import shrinkage

        self.design.group(group)
        tables.check_prob(prob)
        return shrinkage.table(self, group, coef, top, prob)

    def fe_vs_re(
        self: Any,
        rope: float | Mapping[str, float] | None = None,
        *,
        at: Mapping[str, float] | None = None,
        prob: float = 0.95,
    ) -> Any:
        """Answer "fixed or random effects?" from this one fit, whose regressors are split into within and between.

        Parameters
        ----------
        rope : the largest difference between - within that counts as none, for all regressors or by regressor; unless
            given, a tenth of an sd of the response for one sd of the regressor
        at : values of the variance components, such as ``{"sd_worker": 0.33, "sigma": 0.35}``, at which Wald's test is
            taken; their posterior means unless given
        prob : probability of the intervals

        Returns
        -------
        FixedOrRandom
            with ``table``, ``statistic``, ``df``, ``p``, ``verdict`` and ``limits``; it prints itself. At the same
            variance components the statistic is that of plm's ``phtest(method="aux")`` in a balanced panel.

        Raises
        ------
        FitError
            Where no regressor has both a within and a between column; the message says what to write.

        Examples
        --------
        >>> import hierpanel as hp
        >>> df = hp.datasets.load("wage_panel")
        >>> formula = "log_wage ~ mundlak(union + married) + (1 | worker)"
        >>> fit = hp.fit(formula, df, panel=("worker", "year"), draws=200, seed=1)
        >>> fit.fe_vs_re().df
        2
        """
        from hierpanel.results.hausman import fixed_or_random

        return fixed_or_random(self, rope, at, prob)
