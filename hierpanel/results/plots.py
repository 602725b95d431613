"""A `Fit` comes in, matplotlib axes go out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hierpanel.results import (
    plot_chains,
    plot_coefficients,
    plot_ppc,
    plot_predictions,
    plot_spaghetti,
    plot_units,
)


@dataclass(frozen=True)
class Plots:
    """Plots of one fit, each drawn on matplotlib axes that are returned."""

    fit: Any

    def shrinkage(self, group: str, coef: str | None = None, ax: Any = None, max_units: int = 60) -> Any:
        """Show how far partial pooling moves each unit: an arrow from its own estimate to its posterior mean.

        A unit's own estimate is least squares on its rows alone, with what the model says of everything else taken off;
        for a varying intercept alone that is the mean of its rows. Circles grow with the unit's rows. Units whose rows
        cannot tell (too few for a slope, all 0 or all 1) are left out.

        Parameters
        ----------
        group : grouping factor
        coef : column that varies by it; its first unless given
        ax : matplotlib axes to draw on; new ones unless given
        max_units : units shown; above that, evenly spaced ones in the order of their own estimates

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        FitError
            For a column that does not vary by the factor, and where no unit has an estimate of its own.
        """
        return plot_units.shrinkage(self.fit, group, coef, ax, max_units)

    def caterpillar(
        self,
        group: str,
        coef: str | None = None,
        total: bool = False,
        prob: float = 0.95,
        max_units: int = 600,
        ax: Any = None,
    ) -> Any:
        """Show each unit's effect, sorted, with its 50 % (thick) and `prob` (thin) intervals.

        Parameters
        ----------
        group : grouping factor
        coef : column that varies by it; its first unless given
        total : beta + b, the unit's own coefficient, beside the population's; b, its departure from 0, unless True
        prob : probability of the thin interval
        max_units : units shown; above that, evenly spaced ones in the order of their effects. Up to 60 are named.
        ax : matplotlib axes to draw on; new ones unless given

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        FitError
            For a column that does not vary by the factor.
        """
        return plot_units.caterpillar(self.fit, group, coef, total, prob, max_units, ax)

    def coefficients(
        self,
        *others: Any,
        names: Sequence[str] | None = None,
        keep: str | Sequence[str] | None = None,
        drop_intercept: bool = True,
        per: Literal["unit", "sd"] = "unit",
        prob: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """Show the coefficients with their 50 % (thick) and `prob` (thin) intervals, those of other fits beside them.

        Up to 100 coefficients are named.

        Parameters
        ----------
        *others : fits, or mappings name → fit; this fit comes first, unless it is in a mapping itself
        names : a name for each fit, this one included; mappings' names and formulas unless given
        keep : coefficients in the order wanted; all of them unless given
        drop_intercept : whether the intercept is left out, where `keep` does not say
        per : for one unit of each regressor, or for one ``"sd"`` of it, where units are of very different size
        prob : probability of the thin interval
        ax : matplotlib axes to draw on; new ones unless given

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        FitError
            For coefficients that no fit has, more than six fits, and fits of one name.
        """
        return plot_coefficients.coefficients(self.fit, others, names, keep, drop_intercept, per, prob, ax)

    def predictions(
        self,
        variable: str,
        by: str | None = None,
        data: bool | None = None,
        units: Literal["typical", "average", "own"] = "typical",
        at: Mapping[str, Any] | None = None,
        prob: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """Show the expected response over the values of a regressor, everything else at typical values.

        Parameters
        ----------
        variable : column of the table; numbers give a line with a band, categories points with intervals
        by : second column, told apart by colour: up to six categories, or the 10, 50 and 90 % quantiles of numbers
        data : whether the rows of the fit are drawn behind (at most 1,500 of them)
        units : ``"typical"``: at a unit whose effects are 0; ``"average"``: averaged over units (with a link the two
            differ); ``"own"``: of the units that `at` states
        at : values of columns: of `variable` and `by` those to show, of any other one at which it is held
        prob : probability of the intervals
        ax : matplotlib axes to draw on; new ones unless given

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        FitError
            For columns that the model has not, categories of too many values, and formulas with lags.

        Examples
        --------
        >>> import hierpanel as hp
        >>> df = hp.datasets.load("wage_panel")
        >>> fit = hp.fit("log_wage ~ union * experience + (1 | worker)", df, draws=100, seed=1)
        >>> ax = fit.plot.predictions("experience", by="union", at={"experience": range(15)})
        >>> ax.get_ylabel()
        'expected log_wage'
        """
        return plot_predictions.predictions(self.fit, variable, by, data, units, at, prob, ax)

    def slopes(
        self,
        variable: str,
        over: str | None = None,
        by: str | None = None,
        slope: Literal["dydx", "eyex", "eydx", "dyex"] = "dydx",
        units: Literal["typical", "average", "own"] = "typical",
        at: Mapping[str, Any] | None = None,
        prob: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """Show the slope of the expected response in a regressor, over the values of another one.

        Parameters
        ----------
        variable : numeric column whose slope is taken
        over : column on the x axis; the variable itself unless given
        by, units, at, prob, ax : see `predictions`
        slope : ``"dydx"``; elasticity ``"eyex"``; semi-elasticities ``"eydx"`` and ``"dyex"``

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        FitError
            For columns that are no numbers, or not in the model.
        """
        return plot_predictions.slopes(self.fit, variable, over, by, slope, units, at, prob, ax)

    def spaghetti(
        self, group: str, x: str | None = None, units: int | Sequence[Any] = 30, data: bool = True, ax: Any = None
    ) -> Any:
        """Show each unit's own line, over the values that it has, beside the population's with its 95 % band.

        Lines are posterior means of the expected response, everything but x at typical values. Over a time that is no
        regressor, and for formulas with lags, they join the fitted values of the unit's rows, and the population's is
        that of a typical unit, averaged over the rows of each time.

        Parameters
        ----------
        group : grouping factor
        x : column of the model or the panel's time; unless given a column that varies by the factor, else the time
        units : how many, evenly spaced in the order of their effects, or labels
        data : whether the units' rows are drawn behind
        ax : matplotlib axes to draw on; new ones unless given

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        FitError
            For units and columns that are not there.
        """
        return plot_spaghetti.spaghetti(self.fit, group, x, units, data, ax)

    def ppc(
        self,
        kind: Literal["density", "ecdf", "bars", "stat"] | None = None,
        draws: int | None = None,
        stat: str | Callable[[Any], float] = "sd",
        by: str | None = None,
        ax: Any = None,
    ) -> Any:
        """Check the posterior predictive distribution: the responses beside some that the fit predicts for its rows.

        Parameters
        ----------
        kind : str
            ``"density"`` and ``"ecdf"``: one line for each replicated data set; ``"bars"``: how many rows have each
            count, on a square-root scale where counts have no bound, as in a rootogram; ``"stat"``: a statistic of each
            replicated data set. Density for gaussian and student_t, bars for the others, unless given.
        draws : replicated data sets; 50 for lines, 500 for bars and statistics unless given
        stat : ``"mean"``, ``"sd"``, ``"median"``, ``"min"``, ``"max"``, ``"zeros"`` (their share), or a function
        by : grouping factor or column: a panel for each value (at most 12); with ``kind="stat"`` a row for each
        ax : matplotlib axes to draw on, one for each panel; new ones unless given

        Returns
        -------
        matplotlib Axes, or an array of them, one for each panel

        Raises
        ------
        FitError
            For kinds that do not suit the family, and columns that are not there.
        """
        return plot_ppc.ppc(self.fit, kind, draws, stat, by, ax)

    def prior_posterior(self, *names: str, axes: Any = None) -> Any:
        """Show prior and posterior densities side by side, on the scale where priors sit (of centred columns).

        Parameters
        ----------
        *names : keys of priors, such as ``"beta[x]"``, ``"sd_worker"``, ``"cor_worker"``; the coefficients, sds and the
            family's parameters unless given, at most 12
        axes : matplotlib axes, one for each parameter; new ones unless given

        Returns
        -------
        array of matplotlib Axes

        Raises
        ------
        FitError
            For names that the model has not, and sds that are fixed.
        """
        return plot_chains.prior_posterior(self.fit, names, axes)

    def trace(self, *names: str, axes: Any = None) -> Any:
        """Show chains draw by draw, with divergences as ticks below, R̂ and the effective sample size.

        Parameters
        ----------
        *names : parameters, such as ``"beta[x]"``, ``"sd_worker"``, ``"sigma"``, or effects of a unit,
            ``"b_worker[13]"``; at most 12 unless named
        axes : matplotlib axes, one for each parameter; new ones unless given

        Returns
        -------
        array of matplotlib Axes

        Raises
        ------
        FitError
            For names that the model has not.
        """
        return plot_chains.trace(self.fit, names, axes)

    def rank(self, *names: str, axes: Any = None) -> Any:
        """Show whether chains agree: each one's distribution of ranks among all draws, less the uniform one.

        Lines of chains that agree stay within the band, all of them everywhere, with probability 0.95 (Säilynoja,
        Bürkner and Vehtari, 2022). Draws are thinned to be nearly independent.

        Parameters
        ----------
        *names, axes : see `trace`

        Returns
        -------
        array of matplotlib Axes

        Raises
        ------
        FitError
            For names that the model has not, and a fit of one chain.
        """
        return plot_chains.rank(self.fit, names, axes)
