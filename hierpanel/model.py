"""The front door: `Model` wires formula, data, spec, compiler and inference; `fit` is `Model(...).fit(...)`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpanel import spec as specs
from hierpanel.data import design as designs
from hierpanel.data import frame as frames
from hierpanel.data import reading
from hierpanel.errors import FitError, FormulaError, warn
from hierpanel.formula import Formula, namespace, parse
from hierpanel.results import store
from hierpanel.results.explain import PriorSummary, explain, prior_summary
from hierpanel.results.fit import Fit
from hierpanel.routes import Method, Sampling, sample
from hierpanel.spec import Family, ModelSpec

MODEL_OPTIONS = {"family", "priors", "center", "panel", "weights", "env"}
FIT_OPTIONS = {"method"} | {option.name for option in fields(Sampling)}


class Model:
    """A multilevel regression, read and checked, ready to fit.

    Parameters
    ----------
    formula : str
        In lme4's notation, such as ``"log_wage ~ experience + (1 + experience | worker)"``.
    data : table
        pandas, polars, pyarrow, anything that narwhals reads, or a mapping of columns. Named levels of a pandas index
        count as columns. Rows with a missing value in a used column are dropped, and counted in every summary.
    family : str or Family
        ``"gaussian"``, ``"student_t"``, ``"bernoulli"``, ``"binomial"`` (with ``prop(successes, trials) ~ …``),
        ``"poisson"`` or ``"negative_binomial"``; a link in parentheses, as in ``"bernoulli(probit)"``.
    priors : mapping, optional
        Key → `Prior` (or a number that fixes an sd): ``"beta"``, ``"beta[experience]"``, ``"sd_worker"``,
        ``"sd_worker[experience]"``, ``"cor_worker"``, ``"sigma"``. See `prior_summary`.
    center : bool
        Whether priors refer to centred columns (reports never do). False: to the columns as they are.
    panel : (unit, time) or (unit, time, step), optional
        Columns of units and times, for ``lag``, ``lead``, ``diff``, ``within``, ``between``, ``mundlak`` and
        ``initial``; a pandas MultiIndex of two named levels serves without. Times are whole numbers, dates, periods or
        ordered categories; ``step`` states the step of numbers (1) or the frequency of dates (``"Q"``). A (unit, time)
        that occurs twice is an error.
    weights : str or array, optional
        Precision weights: the residual sd of a row is sigma / √w. Gaussian and Student-t only.
    env : mapping, optional
        Functions and constants that the formula names; the caller's own scope unless given.

    Raises
    ------
    HierpanelError
        For whatever is wrong with the formula, the data, the family or the priors.

    Examples
    --------
    >>> import hierpanel as hp
    >>> model = hp.Model("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"))
    >>> model.spec.groups[0].name
    'batch'
    """

    spec: ModelSpec
    design: designs.Design

    def __init__(
        self,
        formula: str | Formula,
        data: Any,
        *,
        family: str | Family = "gaussian",
        priors: Mapping[str, Any] | None = None,
        center: bool = True,
        panel: Sequence[str] | None = None,
        weights: str | Any | None = None,
        env: Mapping[str, Any] | None = None,
    ):
        parsed = formula if isinstance(formula, Formula) else parse(formula)
        chosen = specs.family(family)
        scope = env if env is not None else caller_scope()
        self.names = namespace.resolve(parsed, frames.column_names(data), scope)
        reading.refuse_words(parsed, scope)
        found = reading.read(parsed, reading.source(parsed, self.names, data, panel, weights), self.names)
        self.source, self.coder, self.design, self.term_of = found.source, found.coder, found.design, found.term_of
        self.kept = found.frame.kept
        self.options = {"family": chosen, "priors": priors, "center": center, "panel": panel, "weights": weights}
        self.spec = specs.build(
            parsed, found.frame, found.design, chosen, priors, center, panel=_panel_facts(found), notes=found.notes
        )
        if found.lagged:
            warn(found.lagged)
        if not self.spec.priors():
            what = f"an offset is known, and family={chosen.name!r} has no parameter of its own; add a term"
            raise FormulaError(f"there is nothing to estimate: {what}", parsed.source or str(parsed))

    def __repr__(self) -> str:
        return f"<Model {self.spec.formula}, {self.spec.family}, {self.spec.n} rows>"

    def fit(
        self,
        method: Method = "auto",
        *,
        draws: int = 1000,
        chains: int = 4,
        tune: int = 1000,
        seed: int | None = None,
        cores: int | None = None,
        target_accept: float | None = None,
        parameterization: Literal["noncentered", "centered"] = "noncentered",
        effects_memory: float = 256,
        progress: bool = True,
    ) -> Fit:
        """Sample the posterior.

        Parameters
        ----------
        method : str
            ``"marginal"``: coefficients and group effects are integrated out exactly, only sds, correlations and sigma
            are sampled, which takes well under a second; for Gaussian responses with Normal priors on the coefficients.
            ``"nuts"``: nutpie's No-U-Turn sampler, for every model. ``"auto"`` takes the first where it can.
        draws, chains, tune : int
            Draws kept in each chain, chains, and warm-up draws in each chain (of NUTS).
        seed : int, optional
            The same seed gives the same draws.
        cores : int, optional
            Chains of NUTS run at a time; as many as the machine has unless given.
        target_accept : float, optional
            Mean acceptance that the step size of NUTS is tuned to; 0.9 unless given. Raise it where draws diverge.
        parameterization : str
            Of NUTS: ``"noncentered"``, or ``"centered"``, which mixes better where every unit has very many rows.
        effects_memory : float
            Megabytes of group effects that the marginal route stores as draws. Beyond, tables use the effects' exact
            distribution given each draw of the other parameters, and `Fit.group_draws` makes draws when asked.
        progress : bool
            Whether to show how far a long fit has come.

        Returns
        -------
        Fit

        Examples
        --------
        >>> import hierpanel as hp
        >>> model = hp.Model("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"))
        >>> fit = model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)
        >>> list(fit.fixef().index)
        ['Intercept']
        """
        how = Sampling(draws, chains, tune, seed, cores, target_accept, parameterization, effects_memory, progress)
        found = sample(self.spec, self.design, method, how)
        return Fit(
            self.spec,
            self.design,
            found.idata,
            found.method,
            found.timing,
            found.reason,
            self.source,
            self.coder,
            options=self.options | {"method": method} | asdict(how),
            refit=_refit,
        )

    def to_pymc(self, parameterization: Literal["noncentered", "centered"] = "noncentered") -> Any:
        """Return the model as a plain ``pm.Model``, which ``pm.sample`` accepts.

        Its named variables are the canonical ones on the original scale (``beta``, ``sd_g``, ``cor_g``, ``b_g``,
        ``sigma``); the free ones beside them (``u_g``, and ``beta_c`` where columns are centred) carry the priors.
        """
        from hierpanel.compiler.noncentered import to_pymc

        return to_pymc(self.spec, self.design, parameterization)

    def design_matrix(self, data: Any = None) -> pd.DataFrame:
        """Return the columns of the coefficients, for the rows that were used or for other rows.

        Other rows are coded as the fit's rows were: `lag` and its kin look for the other period among the new rows and
        then among the fit's; `within` and `between` keep the unit means of the fit, and put a unit that is new at the
        mean over all rows of the fit. A row in which something is missing has NaN in every column.

        Parameters
        ----------
        data : table, optional

        Returns
        -------
        DataFrame (rows, coefficients) under the data's index

        Examples
        --------
        >>> import hierpanel as hp
        >>> df = hp.datasets.load("wage_panel")
        >>> model = hp.Model("log_wage ~ within(hours) + lag(union) + (1 | worker)", df, panel=("worker", "year"))
        >>> model.design_matrix(df[1:2])
           Intercept  within(hours)  lag(union)
        1        1.0         -507.0         0.0
        """
        if data is None:
            return pd.DataFrame(self.design.X, index=self.design.index, columns=list(self.spec.coefs))
        rows = self.coder.code(data)
        matrix = np.full((len(rows.complete), len(self.spec.coefs)), np.nan)
        matrix[rows.complete] = rows.X
        return pd.DataFrame(matrix, index=rows.index, columns=list(self.spec.coefs))

    def prior_summary(self) -> PriorSummary:
        """Return every prior, the scale that it refers to, and what all of them imply for the ICC and R²."""
        return prior_summary(self.spec, self.design)

    def prior_predictive(self, draws: int = 200, seed: int = 0) -> Any:
        """Draw responses of the rows from the priors alone: what the model expects before it sees the response.

        Parameters
        ----------
        draws : how many

        Returns
        -------
        DataArray (chain, draw, row), with one chain

        Raises
        ------
        PriorError
            For flat priors, of which nothing can be drawn.
        """
        from hierpanel.results.checks import prior_predictive

        return prior_predictive(self.spec, self.design, draws, seed)

    def equation(self, priors: bool = True) -> Any:
        """Return the model in LaTeX, with its priors; a string that shows itself as mathematics in a notebook.

        Parameters
        ----------
        priors : whether to state them
        """
        from hierpanel.results.equation import equation

        return equation(self.spec, priors)

    def explain(self) -> str:
        """Say in words what will be estimated, from which rows, with how many parameters, and by which route."""
        return explain(self.spec, self.design)


def fit(formula: str | Formula, data: Any, **options: Any) -> Fit:
    """Fit a multilevel regression in one line.

    Parameters
    ----------
    formula : str
        Such as ``"log_wage ~ experience + (1 + experience | worker)"``.
    data : table
    **options
        Those of `Model` (family, priors, center, panel, weights, env) and of `Model.fit` (draws, chains, seed, …).

    Returns
    -------
    Fit

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("dyestuff")
    >>> fit = hp.fit("yield_ ~ (1 | batch)", df, draws=100, tune=200, chains=2, seed=1, progress=False)
    >>> fit.nobs
    30
    """
    of_model, of_fit = split_options(options)
    of_model.setdefault("env", caller_scope())
    return Model(formula, data, **of_model).fit(**of_fit)


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of `fit` as those of `Model` and those of `Model.fit`."""
    unknown = sorted(set(options) - MODEL_OPTIONS - FIT_OPTIONS)
    if unknown:
        known = ", ".join(sorted(MODEL_OPTIONS | FIT_OPTIONS))
        raise FitError(f"fit() has no option {unknown[0]!r}; its options are: {known}")
    of_model = {
        name: value for name, value in options.items() if name in MODEL_OPTIONS and (name, value) != ("env", None)
    }
    return of_model, {name: value for name, value in options.items() if name in FIT_OPTIONS}


def load(path: Any, env: Mapping[str, Any] | None = None) -> Fit:
    """Read a fit that `Fit.save` wrote; nothing in the file is run.

    Parameters
    ----------
    path : str or path
    env : mapping, optional
        Functions and constants that the formula names, other than NumPy's; a file does not hold them, and predictions
        of other rows need them.

    Raises
    ------
    FileError
        If there is no such file, or it is not a hierpanel fit.
    """
    found: Fit = store.load(path, env)
    return replace(found, refit=_refit)


def with_inherited(
    formula: str | Formula, data: Any, options: Mapping[str, Any], inherited: Mapping[str, Any] | None
) -> Model:
    """Build a model with those of the inherited priors that it has a place for, below its own.

    Parameters
    ----------
    options : those of `Model`; its priors are put over the inherited ones, key by key
    """
    if not inherited:
        return Model(formula, data, **options)
    spec = Model(formula, data, **{**options, "priors": None}).spec
    fixed = {f"sd_{group.name}" for group in spec.groups if group.is_fixed}
    known = {key for key in spec.priors() if key.split("[")[0] not in fixed}
    known |= {key.split("[")[0] for key in known}
    kept = {key: prior for key, prior in inherited.items() if key in known}
    return Model(formula, data, **{**options, "priors": kept | dict(options.get("priors") or {})})


def _refit(formula: Formula, data: Any, env: Mapping[str, Any], inherited: Mapping[str, Any], **options: Any) -> Fit:
    """Fit a changed model; priors of what it no longer has are left out."""
    of_model, of_fit = split_options(options)
    of_model["env"] = dict(env) | caller_scope()
    return with_inherited(formula, data, of_model, inherited).fit(**of_fit)


def caller_scope() -> dict[str, Any]:
    """Return the names that are visible where the user called; only those that the formula names are kept."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("hierpanel."):
        frame = frame.f_back
    return {**frame.f_globals, **frame.f_locals}


def _panel_facts(found: reading.Reading) -> specs.PanelSpec | None:
    """Count the panel of the rows that are used."""
    if found.panel is None:
        return None
    index, kept = found.panel, found.frame.kept
    units, periods = (len(np.unique(values[kept])) for values in (index.codes, index.periods))
    return specs.PanelSpec(index.unit, index.time, index.frequency, units, periods, int(kept.sum()) == units * periods)
