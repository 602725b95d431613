"""The front door: `Model` wires formula, data, spec, compiler and inference; `fit` is `Model(...).fit(...)`."""

import importlib
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpanel import spec as specs
from hierpanel.data import design as designs
from hierpanel.data import frame as frames
from hierpanel.data import operators as operate
from hierpanel.data import panel as panels
from hierpanel.errors import DataError, FitError, FormulaError, RouteError
from hierpanel.formula import Formula, namespace, parse, words
from hierpanel.results.explain import PriorSummary, explain, prior_summary
from hierpanel.results.fit import Fit
from hierpanel.spec import Family, ModelSpec

Method = Literal["auto", "marginal", "nuts"]


MODEL_OPTIONS = {"family", "priors", "center", "panel", "weights", "env"}
FIT_OPTIONS = {
    "method", "draws", "chains", "tune", "seed", "cores", "target_accept", "parameterization", "effects_memory",
    "progress",
}  # fmt: skip


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
        available = frames.column_names(data)
        scope = env if env is not None else caller_scope()
        self.names = names = namespace.resolve(parsed, available, scope)
        _refuse_words(scope, used := [word for text in parsed.column_expressions() for word in words.words_in(text)])
        where = panels.named(panel, data) if panel is not None or used else None
        wanted = list(dict.fromkeys([*names.columns, *(where or ())[:2], *_weights_column(weights, available)]))
        table = frames.to_table(data, [*wanted, *(name for name in names.shifted if name not in wanted)])
        index = panels.panel_of(table, where) if where is not None else None
        shifts = _unique(word for word in used if word.kind in words.SHIFTS)
        raw = table[sorted({name for word in shifts for name in words.columns_of(word.text)[1] if name in table})]
        frame = frames.complete(
            table, wanted, operate.shift(shifts, _needed(index, shifts, parsed), table, names.objects)
        )
        derived = operate.derive(parsed, frame, index, raw, _weights(weights, frame), names.objects)
        self.operators = derived.operators
        self.design, self.encoders = designs.build(
            derived.formula, derived.frame, names.objects, derived.weights, None if index is None else index.unit
        )
        self.term_of = tuple(-1 if k < 0 else derived.sources[k] for k in self.encoders.common.terms)
        notes = (*derived.notes, *_lagged_outcome(parsed, used, index))
        self.spec = specs.build(
            parsed, derived.frame, self.design, chosen, priors, center, panel=_panel_facts(frame, index), notes=notes
        )
        if not self.spec.priors():
            what = f"an offset is known, and family={chosen.name!r} has no parameter of its own; add a term"
            raise FormulaError(f"there is nothing to estimate: {what}", parsed.source or str(parsed))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle modules that the formula names (``np``) by their names; a lambda of the caller cannot be pickled."""
        objects = {
            name: _Module(value.__name__) if isinstance(value, ModuleType) else value
            for name, value in self.names.objects.items()
        }
        return self.__dict__ | {"names": replace(self.names, objects=objects)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        names = state["names"]
        objects = {
            name: importlib.import_module(value.name) if isinstance(value, _Module) else value
            for name, value in names.objects.items()
        }
        self.__dict__.update(state | {"names": replace(names, objects=objects)})

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
        if method not in ("auto", "marginal", "nuts"):
            raise FitError(f"method is 'auto', 'marginal' or 'nuts', not {method!r}")
        from hierpanel.inference import nuts

        nuts.check(draws, chains, tune, seed, cores, target_accept)
        _check_memory(effects_memory)
        if parameterization not in ("noncentered", "centered"):
            raise FitError(f"parameterization is 'noncentered' or 'centered', not {parameterization!r}")
        reason = ""
        if method != "nuts":
            if method == "marginal" and (target_accept is not None or parameterization != "noncentered"):
                raise FitError("target_accept and parameterization are options of method='nuts'")
            try:
                return self._fit_marginal(draws, chains, tune, seed, effects_memory, progress)
            except RouteError as refused:
                if method == "marginal":
                    raise RouteError(f"no marginal route: {refused}; method='nuts' fits this model") from refused
                reason = str(refused)
        return self._fit_nuts(draws, chains, tune, seed, cores, target_accept, parameterization, progress, reason)

    def _fit_marginal(
        self, draws: int, chains: int, tune: int, seed: int | None, effects_memory: float, progress: bool
    ) -> Fit:
        from hierpanel.compiler import marginal, scales
        from hierpanel.compiler.noncentered import coords_of
        from hierpanel.data.moments import moments
        from hierpanel.inference.marginal import sample
        from hierpanel.inference.posterior import statistics, to_datatree

        start = time.perf_counter()
        if refused := marginal.refuses(self.spec):
            raise RouteError(refused)
        compiled = marginal.marginal(self.spec, moments(self.design))
        built = time.perf_counter()
        found = sample(
            compiled,
            self.spec,
            self.design,
            draws=draws,
            chains=chains,
            tune=tune,
            seed=seed if seed is not None else int.from_bytes(os.urandom(4)),
            effects_memory=effects_memory,
            progress=progress,
        )
        stats = statistics(found.stats, compiled.parameters.names, found.attributes | {"sampled_by": found.by})
        idata = to_datatree(
            found.canonical, scales.dims_of(self.spec), coords_of(self.spec, self.design), stats, self.design
        )
        return Fit(self.spec, self.design, idata, "marginal", {"preparing": built - start, "sampling": found.seconds})

    def _fit_nuts(
        self,
        draws: int,
        chains: int,
        tune: int,
        seed: int | None,
        cores: int | None,
        target_accept: float | None,
        parameterization: Literal["noncentered", "centered"],
        progress: bool,
        reason: str,
    ) -> Fit:
        from hierpanel.compiler import noncentered, scales
        from hierpanel.inference import nuts
        from hierpanel.inference.posterior import to_datatree

        start = time.perf_counter()
        model = noncentered.to_pymc(self.spec, self.design, parameterization, location="levels")
        built = time.perf_counter()
        result = nuts.sample(
            model,
            draws=draws,
            chains=chains,
            tune=tune,
            seed=seed,
            cores=cores,
            target_accept=target_accept,
            progress=progress,
        )
        canonical = noncentered.canonical_draws(self.spec, self.design, result.free)
        idata = to_datatree(
            canonical,
            scales.dims_of(self.spec),
            noncentered.coords_of(self.spec, self.design),
            result.sample_stats,
            self.design,
        )
        timing = {"compiling": built - start + result.seconds_compile, "sampling": result.seconds_sample}
        return Fit(self.spec, self.design, idata, "nuts", timing, reason)

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
        parsed, available = self.spec.formula, frames.column_names(data)
        regressors = replace(parsed, response="1", offsets=(), groups=())
        objects = self.names.objects
        names = namespace.resolve(regressors, [*available, *self.names.columns, *self.names.shifted], objects)
        columns = list(dict.fromkeys([*names.columns, *self.operators.columns()]))
        for name in columns:
            if name not in available:
                raise DataError(f"the table has no column {name!r}; the columns are: {', '.join(available)}")
        table = frames.to_table(data, columns)
        own = [name for name in columns if name not in self.operators.raw or name in names.columns]
        frame = self.operators.of_new(table, own, objects)
        matrix = np.full((len(table), len(self.spec.coefs)), np.nan)
        matrix[frame.kept] = self.encoders.common.matrix(frame.table, objects)
        return pd.DataFrame(matrix, index=table.index, columns=list(self.spec.coefs))

    def prior_summary(self) -> PriorSummary:
        """Return every prior, the scale that it refers to, and what all of them imply for the ICC and R²."""
        return prior_summary(self.spec, self.design)

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


@dataclass(frozen=True)
class _Module:
    """Stands for a module in a pickle."""

    name: str


def caller_scope() -> dict[str, Any]:
    """Return the names that are visible where the user called; only those that the formula names are kept."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("hierpanel."):
        frame = frame.f_back
    return {**frame.f_globals, **frame.f_locals}


def _refuse_words(scope: Mapping[str, Any], used: Sequence[words.Word]) -> None:
    for word in used:
        if callable(scope.get(word.kind)):
            message = f"{word.kind}() is a word of formulas, and a function of that name is in scope"
            raise FormulaError(f"{message}; give the function another name", word.text)


def _weights_column(weights: Any, available: list[str]) -> list[str]:
    if not isinstance(weights, str):
        return []
    if weights not in available:
        raise DataError(
            f"weights= names the column {weights!r}, which is not there; the columns are: {', '.join(available)}"
        )
    return [weights]


def _unique(found: Iterable[words.Word]) -> list[words.Word]:
    return list({word.text: word for word in found}.values())


def _needed(index: panels.Panel | None, shifts: Sequence[words.Word], parsed: Formula) -> panels.Panel | None:
    """The panel that shifts need."""
    if shifts and index is None:
        raise FormulaError(
            f"{shifts[0].text} follows time within a unit: give panel=(unit, time), as in panel=('worker', 'year')",
            parsed.source or str(parsed),
        )
    return index


def _panel_facts(frame: frames.Frame, index: panels.Panel | None) -> specs.PanelSpec | None:
    """Count the panel of the rows that are used."""
    if index is None:
        return None
    units = frame.table[index.unit].nunique()
    periods = frame.table[index.time].nunique()
    return specs.PanelSpec(index.unit, index.time, index.frequency, units, periods, frame.n == units * periods)


def _lagged_outcome(parsed: Formula, used: Sequence[words.Word], index: panels.Panel | None) -> list[str]:
    """Warn of the initial condition where a lagged outcome stands beside intercepts of the units."""
    outcome = words.columns_of(parsed.response)[1]
    lagged = [word.text for word in used if word.kind == "lag" and words.columns_of(word.text)[1] & outcome]
    blocks = [block for group in parsed.groups if index and group.factor == (index.unit,) for block in group.blocks]
    varying = [block for block in blocks if block.intercept]
    if index is None or not lagged or not varying or any(word.kind == words.INITIAL for word in used):
        return []
    remedy = f"add initial({parsed.response}), each unit's first outcome with the unit means (Wooldridge 2005)"
    if varying[0].fixed:
        bias = f"fe({index.unit}) biases its coefficient downwards, by about 1/periods (Nickell 1981)"
        remedy = f"take (1 | {index.unit}) and {remedy}"
    else:
        bias = f"the first outcome depends on the intercept of its {index.unit}, so its coefficient is biased upwards"
    note = f"{lagged[0]} is a lagged outcome: {bias}; {remedy}"
    warnings.warn(note, UserWarning, stacklevel=_outside())
    return [note]


def _outside() -> int:
    """How far up the caller's own code is, for warnings."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("hierpanel."):
        frame, level = frame.f_back, level + 1
    return level


def _weights(weights: Any, frame: frames.Frame) -> np.ndarray | None:
    if weights is None:
        return None
    if isinstance(weights, str):
        values = frame.table[weights]
        if not pd.api.types.is_numeric_dtype(values):
            raise DataError(f"the weights {weights!r} are not numbers")
        found = values.to_numpy(dtype=float)
    else:
        try:
            found = np.asarray(weights, dtype=float)
        except (TypeError, ValueError) as error:
            what = f"this {type(weights).__name__} is neither"
            raise DataError(f"weights is the name of a column or an array of numbers, and {what}") from error
        if found.shape != (frame.n_total,):
            raise DataError(f"weights has shape {found.shape}, but the table has {frame.n_total} rows")
        if frame.n != frame.n_total:
            raise DataError(
                f"{frame.n_total - frame.n} rows with missing values are dropped, so weights must be a column of the "
                "table, given by its name"
            )
        if isinstance(weights, pd.Series) and not weights.index.equals(frame.table.index):
            raise DataError(
                "weights has another index than the table, so its rows may be others; make it a column of the table, "
                "or give weights.to_numpy() where the rows are the same"
            )
    bad = ~(np.isfinite(found) & (found > 0))
    if bad.any():
        rows = ", ".join(map(str, frame.table.index[bad][:5])) + (", …" if bad.sum() > 5 else "")
        raise DataError(f"precision weights must be positive and finite; {int(bad.sum())} are not (rows {rows})")
    return found


def _check_memory(megabytes: Any) -> None:
    if not isinstance(megabytes, (int, float)) or isinstance(megabytes, bool) or not megabytes >= 0:
        raise FitError(f"effects_memory is a number of megabytes, 0 or more, not {megabytes!r}")
