"""A `ModelSpec`, its `Design` and the posterior come in; a `Fit` answers what a person asks of them."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data import reading
from hierpanel.data.design import Design
from hierpanel.data.reading import Coder, Source
from hierpanel.errors import FitError, FormulaError
from hierpanel.formula import Formula, namespace
from hierpanel.formula.update import changed
from hierpanel.results import evidence, loo, store, tables
from hierpanel.results.effects import GroupEffects
from hierpanel.results.health import Diagnostics, diagnostics
from hierpanel.results.maketables import Protocol
from hierpanel.results.panel_answers import PanelAnswers
from hierpanel.results.plots import Plots
from hierpanel.results.predictions import Predictions
from hierpanel.results.statsmodels_words import StatsmodelsWords
from hierpanel.results.summary import Summary
from hierpanel.results.variance import variances
from hierpanel.spec import ModelSpec


@dataclass(frozen=True, repr=False, eq=False)
class Fit(StatsmodelsWords, PanelAnswers, Predictions, Protocol):
    """The posterior of a model.

    Attributes
    ----------
    spec : ModelSpec
    design : Design
    idata : arviz DataTree
        Groups ``posterior``, ``sample_stats``, ``observed_data``, ``constant_data``.
    method : ``"marginal"`` or ``"nuts"``; `reason` says why ``"auto"`` took NUTS.
    seconds : wall time of the fit; `timing` splits it up.
    source : what it was read from; coder : what codes other rows; env : the caller's functions, of a fit from a file.
    options : of the model and of the fit, as they were given; refit : what `update` calls.
    """

    spec: ModelSpec
    design: Design
    idata: Any
    method: str
    timing: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    source: Source | None = None
    coder: Coder | None = None
    env: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    refit: Callable[..., Any] | None = None

    @property
    def seconds(self) -> float:
        """Wall time of the fit, in seconds."""
        return float(sum(self.timing.values()))

    @property
    def plot(self) -> Plots:
        """Plots of this fit, such as ``fit.plot.shrinkage("worker")``."""
        return Plots(self)

    def __repr__(self) -> str:
        return f"<Fit of {self.spec.formula}, {self.spec.family.name}, by {self.method}; print(fit.summary()) shows it>"

    def _repr_html_(self) -> str:
        return self.summary().as_html()

    def draws(self, name: str) -> np.ndarray:
        """Return draws (chain, draw, …) of one variable of the posterior, such as ``"beta"`` or ``"sd_worker"``."""
        posterior = self.idata["posterior"]
        unstored = next((g.name for g in self.spec.groups if name == f"b_{g.name}"), None)
        if name not in posterior.data_vars and unstored is not None:
            return self.group_draws(unstored)
        if name not in posterior.data_vars:
            raise FitError(
                f"there is no {name!r} in the posterior; it holds: {', '.join(map(str, posterior.data_vars))}"
            )
        return np.asarray(posterior[name].values)

    # Tables ------------------------------------------------------------------------------------------------------

    def summary(self, prob: float = 0.95) -> Summary:
        """Summarise the fit in a table that prints as text and shows as HTML in a notebook.

        Parameters
        ----------
        prob : probability of the equal-tailed intervals
        """
        from hierpanel.results.overview import summarise

        return summarise(self, prob)

    def fixef(self, prob: float = 0.95) -> pd.DataFrame:
        """Return the coefficients beta: mean, sd, interval, P(> 0), ESS and R̂, a row each."""
        return tables.fixef(self.spec, self.stored_draws(), prob)

    def ranef(self, group: str, prob: float = 0.95) -> pd.DataFrame:
        """Return the effects of a grouping factor: by how much each unit departs from the coefficients.

        Returns
        -------
        DataFrame with a row for each (level, coefficient)
        """
        self.design.group(group)
        return self.effects.table(group, prob)

    def coef(self, group: str, prob: float = 0.95) -> pd.DataFrame:
        """Return each unit's own coefficients, beta + b, for the columns that vary by the factor.

        Returns
        -------
        DataFrame with a row for each (level, coefficient); columns that do not vary are in `fixef()`
        """
        data = self.design.group(group)
        added = np.zeros((*self.effects.lead, len(data.coefs)))
        for k, coef in enumerate(data.coefs):
            if coef in self.spec.coefs:
                added[..., k] = self.draws("beta")[..., self.spec.coefs.index(coef)]
        return self.effects.table(group, prob, added)

    def group_draws(self, group: str, levels: Any = None) -> np.ndarray:
        """Return draws of a factor's effects, stored or made now; the same ones every time.

        A fit by the marginal route stores effects as draws up to `effects_memory` megabytes; beyond, tables use their
        exact distribution given each draw of the other parameters, and this makes the draws of the units that are asked
        for.

        Parameters
        ----------
        levels : one label or several, in the order wanted; all of them unless given

        Returns
        -------
        (chain, draw, levels, columns of the factor)

        Examples
        --------
        >>> import hierpanel as hp
        >>> fit = hp.fit("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"), draws=100, chains=2, seed=1)
        >>> fit.group_draws("batch", ["A", "C"]).shape
        (2, 100, 2, 1)
        """
        self.design.group(group)
        return self.effects.draws(group, levels)

    def group_moments(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the posterior means (levels, q) and covariances (levels, q, q) of a factor's effects."""
        self.design.group(group)
        return self.effects.moments(group)

    @cached_property
    def effects(self) -> GroupEffects:
        """The group effects, whether their draws are stored or not."""
        return GroupEffects(self.spec, self.design, self.idata)

    @cached_property
    def coding(self) -> Coder:
        """What codes other rows as those of the fit were coded; made anew from `source` for a fit from a file."""
        if self.coder is not None:
            return self.coder
        if self.source is None:
            raise FitError("this fit does not hold the table that it was read from, so other rows cannot be coded")
        try:
            names = namespace.resolve(self.spec.formula, list(self.source.table.columns), self.env or {})
        except FormulaError as error:
            raise FitError(
                f"the formula names something that a file does not hold; give it to hp.load(path, env=...). {error}"
            ) from error
        coder = reading.read(self.spec.formula, self.source, names).coder
        return replace(coder, levels=tuple(group.levels for group in self.design.groups))

    @property
    def log_evidence(self) -> tuple[float, float]:
        """The log of the marginal likelihood p(y), and its standard error.

        It depends on the priors far more than the posterior does, and default priors are scaled by the response: give
        explicit ``priors=`` where models are compared by it. See ``hp.compare(fits, by="evidence")``.

        Raises
        ------
        FitError
            Where the model has none (``fe()``, flat priors), or NUTS sampled it.
        """
        return evidence.log_evidence(self)

    def varcorr(self, prob: float = 0.95) -> pd.DataFrame:
        """Return the sds and correlations of every grouping factor, then sigma and the family's other parameters."""
        return tables.varcorr(self.spec, self.stored_draws(), prob)

    def icc(self, prob: float = 0.95) -> pd.DataFrame:
        """Return each factor's share of the variance that the coefficients leave unexplained.

        With varying slopes, the factor's variance is averaged over the rows (Johnson, 2014). For bernoulli and binomial
        the residual variance is the link's latent one.

        Raises
        ------
        FitError
            Without random grouping factors, or for counts, where no residual variance is defined on the link scale.
        """
        shares = variances(self.spec, self.design, self.stored_draws()).icc()
        if not shares:
            why = (
                "there is no random grouping factor"
                if not any(len(g.coefs) > g.is_fixed for g in self.spec.groups)
                else f"family {self.spec.family.name} has no residual variance on the link scale"
            )
            raise FitError(f"no ICC: {why}")
        return tables.named(shares, "group", prob)

    def r2(self, prob: float = 0.95) -> pd.DataFrame:
        """Return R²: marginal (of the coefficients) and conditional (of the coefficients and the group effects)."""
        shares = variances(self.spec, self.design, self.stored_draws()).r2()
        if not shares:
            raise FitError(f"no R²: family {self.spec.family.name} has no residual variance on the link scale")
        return tables.named(shares, "r2", prob)

    # Beyond the fit ----------------------------------------------------------------------------------------------

    def loo(self) -> Any:
        """Return the leave-one-out ELPD (a new row of a known unit): arviz's ELPDData with ``elpd_i``, ``pareto_k``.

        Of Gaussian responses each row's density without itself is in closed form given the sds, correlations and sigma,
        and only these are importance-sampled, so that Pareto k is low even for units with few rows.
        """
        return self._loo

    @cached_property
    def _loo(self) -> Any:
        return loo.of_fit(self)

    def means(self) -> dict[str, np.ndarray]:
        """Return the posterior mean of every variable, as one draw of one chain: (1, 1, …)."""
        found = {name: values.mean(axis=(0, 1), keepdims=True) for name, values in self.stored_draws().items()}
        return found | {f"b_{g.name}": self.effects.mean(g.name)[None, None] for g in self.spec.groups}

    def update(self, formula: str | None = None, data: Any = None, **options: Any) -> Any:
        """Fit a changed model: another formula, other data, other priors, the rest as before.

        Parameters
        ----------
        formula : str, optional
            ``"~ . + union"`` adds to this fit's formula, ``"~ . - hours - (1 | worker) + fe(worker)"`` takes away.
        data : table, optional
            Unless given, the table that this fit was given; of a fit from a file, the columns that it used.
        **options
            Those of `fit`; what is not stated stays. ``priors=`` are put over the earlier ones, key by key; with
            another response, which has another unit, they take their place.

        Returns
        -------
        Fit

        Examples
        --------
        >>> import hierpanel as hp
        >>> df = hp.datasets.load("wage_panel")
        >>> fit = hp.fit("log_wage ~ union + (1 | worker)", df, draws=100, seed=1)
        >>> list(fit.update("~ . + hours").params.index)
        ['Intercept', 'union', 'hours']
        """
        if self.refit is None:
            raise FitError("this fit was not made by hp.fit or Model.fit; fit the changed model by hp.fit")
        new = self.spec.formula if formula is None else changed(self.spec.formula, formula)
        env = self.coder.names.objects if self.coder is not None else self.env or {}
        data = self._table_for(new, env) if data is None else data
        inherited = self.options.get("priors") or {}
        if inherited and new.response != self.spec.formula.response:
            if "priors" not in options:
                raise FitError(
                    f"the priors of this fit are in the unit of {self.spec.formula.response}; state those of "
                    f"{new.response} by priors=, or take the defaults by priors={{}}"
                )
            inherited = {}
        return self.refit(new, data, env, inherited, **(dict(self.options) | {"priors": None} | options))

    def _table_for(self, formula: Formula, env: Mapping[str, Any]) -> Any:
        """The table that this fit was given, or what a file holds of it, which must do for the formula."""
        if self.source is None:
            raise FitError("this fit does not hold the table that it was read from; give data=")
        if self.source.given is not None:
            return self.source.given
        try:
            namespace.resolve(formula, list(self.source.table.columns), env)
        except FormulaError as error:
            reason = str(error).splitlines()[0]
            raise FitError(f"{reason}. A file holds the columns that the fit used; give data= for others") from error
        return self.source.table

    def save(self, path: Any) -> None:
        """Write the fit to one netCDF file that ``hp.load(path)`` reads back; nothing in it is executable."""
        store.save(self, path)

    def equation(self, priors: bool = True) -> Any:
        """Return the model in LaTeX, with its priors; see `Model.equation`."""
        from hierpanel.results.equation import equation

        return equation(self.spec, priors)

    def report(self, path: Any) -> None:
        """Write one self-contained HTML page: summary, shrinkage plots, priors and sampler diagnostics."""
        from hierpanel.results.report import write

        write(self, path)

    def diagnostics(self) -> Diagnostics:
        """Say how far the draws are to be trusted: divergences, R̂, effective sample size, Pareto k̂, and what they mean.

        Of coefficients, sds, correlations and the family's parameters, the worst one each.

        Returns
        -------
        dict
            ``divergences``, ``max_r_hat``, ``min_ess``, ``chains``, ``draws``, by the marginal route ``pareto_k``; it
            prints as a table, with what is good, what each means, and ``problems`` in words.

        Examples
        --------
        >>> import hierpanel as hp
        >>> fit = hp.fit("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"), draws=500, seed=1)
        >>> fit.diagnostics()["divergences"], fit.diagnostics().problems
        (0, ())
        """
        return diagnostics(self)

    def __getstate__(self) -> dict[str, Any]:
        groups = {name: node.to_dataset() for name, node in self.idata.children.items()}
        # a coder holds the caller's functions, which may not pickle; it is made anew from the source
        source = None if self.source is None else replace(self.source, given=None)
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        env = dict(self.env or {})
        if self.coder is not None:
            env |= {name: self.coder.names.objects[name] for name in self.coder.names.foreign}
        env = {name: value for name, value in env.items() if _pickles(value)}
        return kept | {"idata": groups, "coder": None, "source": source, "env": env}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import xarray as xr

        for name, value in (state | {"idata": xr.DataTree.from_dict(state["idata"])}).items():
            object.__setattr__(self, name, value)

    def stored_draws(self) -> dict[str, np.ndarray]:
        """Stored draws by name; of `fe()` effects that are not stored, what their variance needs."""
        found = {str(name): np.asarray(values.values) for name, values in self.idata["posterior"].data_vars.items()}
        stats = self.idata["sample_stats"]
        squares = [name for name in map(str, stats.data_vars) if name.startswith(("mean_", "square_"))]
        return found | {name: np.asarray(stats[name].values) for name in squares}


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # of whatever kind: a lambda, an open file
        return False
    return True


def with_idata(fit: Fit, idata: Any) -> Fit:
    """Return the fit with another DataTree."""
    return replace(fit, idata=idata)
