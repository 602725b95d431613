"""A formula and the values of its parameters come in; a panel that was drawn from them goes out, ready to be fitted."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hierpanel import spec as specs
from hierpanel.compiler.predictor import linear_predictor
from hierpanel.data.design import GroupDesign
from hierpanel.errors import DataError, FormulaError, HierpanelError, PriorError, did_you_mean
from hierpanel.formula import Formula, parse, syntax, words
from hierpanel.model import Model, caller_scope
from hierpanel.spec import Family, Rows
from hierpanel.spec.priors import is_number

Array = np.ndarray
Random = np.random.Generator

BURN_IN = 100  # periods before the first, from which a lagged outcome starts
DEFAULTS = {"beta": 0.0, "sd": 1.0, "sigma": 1.0, "nu": 5.0, "alpha": 2.0}
LEVELS = (
    "a number of levels (each row gets one), ('units', number of levels) (each unit belongs to one), an array of "
    "values or a function of (rng, units, periods)"
)
KINDS = f"'normal', ('normal', mean, sd), 'binary', 'constant', 'trend', {LEVELS}"


def simulate(
    formula: str,
    n_units: int,
    n_periods: int,
    params: Mapping[str, Any] | None = None,
    *,
    family: str | Family = "gaussian",
    unit: str | None = None,
    time: str = "period",
    regressors: Mapping[str, Any] | None = None,
    seed: int | Random | None = None,
    missing: float = 0.0,
) -> pd.DataFrame:
    """Simulate a panel from the formula that is then fitted to it, for teaching and for power.

    Parameters
    ----------
    formula : str
        As for a fit. The response is a column, or ``prop(successes, trials)``.
    n_units, n_periods : int
        Every unit has a row in every period 0, 1, …, before some go `missing`.
    params : mapping, optional
        Parameters as the posterior names them, on the original scale: ``"beta[x]"`` (0 unless given, the Intercept
        too), ``"sd_g[x]"`` (1; those of ``fe(g)`` have mean 0 over the rows, as in a fit), ``"cor_g"`` (0; a number or
        a matrix), ``"sigma"`` (1), ``"nu"`` (5), ``"alpha"`` (2). ``"beta"`` and ``"sd_g"`` stand for all not named.
    family : str or Family
    unit, time : str, optional
        Columns of units and periods. The unit is the first grouping factor unless given, ``"unit"`` without one.
    regressors : mapping, optional
        Column → how it is made. ``"normal"`` (unless given): standard normal, half of its variance between units;
        ``("normal", mean, sd)``; ``"binary"``: 1 where such a normal is positive; ``"constant"``: a standard normal for
        each unit; ``"trend"``: a start (Poisson, mean 5) plus one each period; a whole number: each row gets one of so
        many levels; ``("units", m)``: each unit belongs to one of m, of about equal size; an array of values, unit by
        unit; a function ``f(rng, units, periods)`` that returns one. Grouping factors beside unit and time must be
        given. Trials are 10, another whole number, an array or a function.
    seed : int or numpy Generator, optional
    missing : float
        Share of the rows that is dropped, at random.

    Returns
    -------
    DataFrame
        Columns: unit, time, other grouping factors, outcome, trials, regressors. ``attrs["params"]`` holds all
        parameters, ``attrs["effects"]`` the true group effects: factor → DataFrame (levels, columns). Call
        ``df.attrs.clear()`` before ``df.to_parquet``, which writes no tables among attrs.

    Raises
    ------
    HierpanelError
        For parameters and columns that the formula has not, values that they cannot take, and whatever a fit refuses.

    Notes
    -----
    ``lag(x)``, ``lead(x)`` and ``diff(x)`` see periods around the panel, where arrays and functions keep their nearest
    value. Unit means (and knots of splines) are those of the rows that are returned; beside a lagged outcome, before
    rows go missing. In a function a name is a column, unless it is the caller's number: ``I(x / SCALE)``.

    With the terms ``lag(y)`` or ``lag(y, k)`` the outcome is drawn period by period, after a burn-in of 100 periods.
    Each of those has the unit's regressors of a random period, less what that period has in common for all units, at
    the level of the first. So first outcomes depend on unit effects, as they do in data; to fit, add ``initial(y)``.

    Examples
    --------
    >>> from hierpanel.simulate import simulate
    >>> true = {"beta[Intercept]": 1.5, "beta[experience]": 0.05, "sd_worker[Intercept]": 0.4,
    ...         "sd_worker[experience]": 0.02, "cor_worker": -0.3, "sigma": 0.3}
    >>> df = simulate("log_wage ~ experience + (1 + experience | worker)", n_units=200, n_periods=8, params=true,
    ...               regressors={"experience": "trend"}, seed=1)
    >>> df.columns.to_list(), len(df), df.attrs["effects"]["worker"].shape
    (['worker', 'period', 'log_wage', 'experience'], 1600, (200, 2))

    Power: how often is an effect of 0.6 found, when half of 20 schools are treated?

    >>> import hierpanel as hp
    >>> def is_found(seed):
    ...     df = simulate("score ~ treated + (1 | school)", 20, 30, {"beta[treated]": 0.6, "sd_school": 0.3},
    ...                   regressors={"treated": ("units", 2)}, seed=seed)
    ...     fit = hp.fit("score ~ treated + (1 | school)", df, draws=250, seed=1, progress=False)
    ...     return fit.fixef().loc["treated", "lower"] > 0
    >>> power = sum(is_found(seed) for seed in range(3)) / 3  # take 200 seeds or more
    """
    parsed, chosen, scope = parse(formula), specs.family(family), caller_scope()
    if not _is_whole(n_units, 1) or not _is_whole(n_periods, 1) or not is_number(missing) or not 0 <= missing < 1:
        raise DataError("n_units and n_periods are whole numbers of at least 1, missing is a share from 0 to below 1")
    params, regressors = {} if params is None else params, {} if regressors is None else regressors
    if not isinstance(params, Mapping) or not isinstance(regressors, Mapping):
        raise DataError("params and regressors are mappings, as in params={'beta[x]': 1}, regressors={'x': 'binary'}")
    try:
        of_columns, of_effects, of_outcomes, of_rows = np.random.default_rng(seed).spawn(4)
    except (TypeError, ValueError) as error:
        raise DataError(f"seed is a whole number of 0 or more, or a numpy Generator, not {seed!r}") from error
    unit = unit or next((name for group in parsed.groups for name in group.factor if name != time), "unit")
    outcome, trials, stand_in = _response(parsed, chosen)
    lags, found = _lags(parsed, outcome), [words.words_in(text) for text in parsed.column_expressions()]
    kinds = _kinds(parsed, (unit, time, outcome, trials), regressors, scope)
    before = max(sum(word.k for word in inner if word.kind in ("lag", "diff")) for inner in found)
    after = max(sum(word.k for word in inner if word.kind == "lead") for inner in found)
    units = np.repeat(np.arange(n_units), before + n_periods + after)
    periods = np.tile(np.arange(-before, n_periods + after), n_units)
    inside = (periods >= 0) & (periods < n_periods)
    columns = {name: _column(name, kind, units, periods, inside, of_columns) for name, kind in kinds.items()}
    table = pd.DataFrame({unit: units, time: periods} | columns)
    kept = inside.copy()
    kept[of_rows.choice(np.flatnonzero(inside), round(missing * n_units * n_periods), replace=False)] = False

    # 0 and 1 are responses that every family takes; only lags and leads look at rows without a response
    used = inside if lags else kept
    response = pd.Series(np.where(used, np.cumsum(used) % 2, np.nan), name="the response")
    panel = (unit, time) if any(found) else None
    model = Model(replace(parsed, response=stand_in), table.join(response), family=chosen, panel=panel, env=scope)
    design, values = model.design, _parameters(model, params)
    effects = Effects({group.name: _effects(of_effects, group, values) for group in design.groups})
    beta = np.array([0.0 if coef in lags else values[f"beta[{coef}]"] for coef in design.coefs])
    varying = [(g.Z[:, j], effects[g.name].values[:, j], g.codes) for g in design.groups for j in range(len(g.coefs))]
    own = linear_predictor(design.X, beta, varying, design.offset, np.dot)

    def draw(eta: Array) -> Array:
        with np.errstate(all="ignore"):
            y = chosen.draw(of_outcomes, chosen.link, eta, values, Rows(eta, trials=design.trials))
        if not np.abs(y).max() < 1e15:
            raise HierpanelError(f"the outcome grows to {np.abs(y).max():.2g}: make parameters or regressors smaller")
        return y if chosen.location else y.astype(np.int64)

    rho = {k: values[f"beta[{text}]"] for text, k in lags.items()}
    roots = np.roots([1, *(-rho.get(k, 0.0) for k in range(1, max(rho, default=0) + 1))])
    if chosen.location and np.abs(roots).max(initial=0) >= 1:
        raise PriorError(f"with beta of {rho} on its lags the outcome never settles; make them smaller")
    y = _recursion(own.reshape(n_units, -1), rho, draw, of_outcomes) if lags else draw(own)
    df = table[kept].assign(**{outcome: pd.Series(y, design.index)}).reset_index(drop=True)
    df.attrs["params"], df.attrs["effects"] = values, effects
    return df


class Effects(dict[str, pd.DataFrame]):
    """Group effects by factor, as `attrs` need them: pandas compares and copies attrs wherever tables are joined."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Effects) and [*self] == [*other] and all(self[g].equals(other[g]) for g in self)

    __ne__ = object.__ne__

    def __deepcopy__(self, memo: Any) -> "Effects":
        return self


def _response(formula: Formula, family: Family) -> tuple[str, str, str]:
    """Return the columns of outcome and trials ("" without), and a response that stands in for the outcome."""
    tree, trials, stand_in = syntax.parse_tree(formula.response), "", "`the response`"
    if type(tree).__name__ == "Call" and syntax.call_name(tree) == "prop" and len(tree.args) == 2:
        tree, n = tree.args
        trials, stand_in = syntax.named(n) or "", f"prop({stand_in}, {syntax.unparse(n)})"
    is_column = type(tree).__name__ in ("Variable", "QuotedName") and getattr(tree, "level", None) is None
    if not is_column or family.counts_trials != stand_in.startswith("prop"):
        message = "simulated are prop(y, n) for family='binomial', and a column y for the others"
        raise FormulaError(message, formula.response, 0, len(formula.response))
    return str(syntax.named(tree)), trials, stand_in


def _lags(formula: Formula, outcome: str) -> dict[str, int]:
    """Return the lagged outcomes, spelling → periods; on the right the outcome can stand in no other way."""
    blocks = [term for group in formula.groups for block in group.blocks for term in block.terms]
    lags = {}
    for term in (*formula.terms, *((*term, "") for term in blocks), *((text, "") for text in formula.offsets)):
        for text in filter(None, term):
            if outcome in words.columns_of(text)[1]:
                word = next(reversed(words.words_in(text)), None)
                if word is None or (word.text, word.kind, word.inner, len(term)) != (text, "lag", formula.response, 1):
                    message = (
                        "of an outcome y only the terms lag(y) and lag(y, k) are simulated, and none of prop(y, n)"
                    )
                    raise FormulaError(f"{message}; initial(y) is added to fit", text, 0, len(text))
                lags[text] = word.k
    return lags


def _kinds(
    formula: Formula, roles: tuple[str, str, str, str], regressors: Mapping[str, Any], scope: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how each column but unit and time is made, in their order."""
    from formulae.categorical import ENCODINGS

    (unit, time, outcome, trials), texts = roles, formula.column_expressions()
    factors = [name for group in formula.groups for name in group.factor]
    factors += [word.by for text in texts for word in words.words_in(text) if word.by is not None]
    names = [*factors, outcome, *filter(None, [trials])]
    for text in texts[1:]:
        nodes = syntax.walk(syntax.parse_tree(text))
        mine = [str(syntax.named(node)) for node in nodes if type(node).__name__ in ("Variable", "QuotedName")]
        held = {n for n in mine if n in ENCODINGS or isinstance(scope.get(n), (int, float, list))} - set(regressors)
        names += [name for name in mine if name not in held] or mine
    if not all(isinstance(name, str) and name for name in (unit, time)):
        raise DataError(f"unit and time are names of columns, not {unit!r} and {time!r}")
    if len({unit, time, outcome}) < 3:
        raise DataError(f"unit ({unit}), time ({time}) and outcome ({outcome}) need columns of their own")
    kinds = {name: regressors.get(name, 10 if name == trials else "normal") for name in names if name not in roles[:2]}
    made = [name for name in kinds if name != outcome]
    for name in regressors:
        if name not in made:
            listed, hint = ", ".join(made) or "none", did_you_mean(name, made, repr)
            raise DataError(f"regressors= names {name!r}{hint}; the columns of this formula: {listed}")
    for name in factors:
        if isinstance(kinds.get(name), str):
            raise DataError(
                f"the grouping factor {name!r} is not the unit ({unit}): give regressors= {LEVELS}; or unit={name!r}"
            )
    if trials and _is_whole(kinds[trials], 1):
        kinds[trials] = lambda rng, units, periods, size=kinds[trials]: np.full(len(units), size)
    return kinds


def _column(name: str, kind: Any, units: Array, periods: Array, inside: Array, rng: Random) -> Any:
    """Make one column (m,)."""
    n_units, m, n = int(units[-1]) + 1, len(units), int(inside.sum())
    if callable(kind) or not (isinstance(kind, (str, float, tuple)) or _is_whole(kind, -np.inf)):
        try:
            values = kind(rng, units[inside], periods[inside]) if callable(kind) else kind
        except TypeError as error:
            raise DataError(f"regressors[{name!r}] is called as f(rng, units, periods): {error}") from error
        if np.shape(values) != (n,) or (column := pd.Series(values)).isna().any():
            what = f"shape {np.shape(values)}" if np.shape(values) != (n,) else "missing values"
            raise DataError(f"regressors[{name!r}] has {what}; it needs {n} values, unit by unit; or it is {KINDS}")
        n_periods = n // n_units
        return column.array.take(units * n_periods + np.clip(periods, 0, n_periods - 1))
    between = rng.normal(size=n_units)[units]
    normal, start = np.sqrt(0.5) * (between + rng.normal(size=m)), rng.poisson(5, n_units)[units]
    match kind:
        case "normal" | "binary" | "constant" | "trend":
            return {"normal": normal, "binary": 1 * (normal > 0), "constant": between, "trend": start + periods}[kind]
        case ("normal", mean, sd) if is_number(mean) and is_number(sd) and sd >= 0:
            return mean + sd * normal
        case ("units", levels) if _is_whole(levels, 2) and levels <= n_units:
            return (rng.permutation(n_units) % levels)[units]
        case _ if _is_whole(kind, 2):
            return rng.integers(kind, size=m)
    raise DataError(f"regressors[{name!r}] cannot be {kind!r}; it is {KINDS}")


def _parameters(model: Model, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every parameter of the model, under its name in the posterior."""
    design, known = model.design, list(model.spec.priors())
    whole = {f"beta[{coef}]": "beta" for coef in design.coefs}
    whole |= {f"sd_{group.name}[{coef}]": f"sd_{group.name}" for group in design.groups for coef in group.coefs}
    for key in params:
        if key not in (*known, *whole.values()):
            near = did_you_mean(key, [*known, *whole.values()], repr)
            raise PriorError(f"there is no parameter {key!r} in this model{near}; those are: {', '.join(known)}")
    values: dict[str, Any] = {}
    for key in known:
        vector = whole.get(key, key)
        value = params.get(key, params.get(vector, DEFAULTS.get(vector.split("_")[0], 0.0)))
        least, rule = {"beta": (-np.inf, "a number"), key: (1e-300, "positive")}.get(vector, (0.0, "0 or more"))
        if key.startswith("cor_"):
            value = _correlations(design.group(key[4:]), value).tolist()
            value = value[0][1] if len(value) == 2 else value
        elif not is_number(value) or not np.isfinite(value) or value < least:
            raise PriorError(f"{key} must be {rule}, not {value!r}")
        values[key] = value if isinstance(value, list) else float(value)
    return values


def _correlations(group: GroupDesign, value: Any) -> Array:
    """Return the correlations (q, q) of a factor's columns, given one number for all that vary together or a matrix."""
    q, given, why = len(group.coefs), np.array(None), ""
    with contextlib.suppress(ValueError):  # of rows that differ in length
        given = np.asarray(value)
    free = np.zeros((q, q), dtype=bool)
    for block in group.blocks:
        free[block.columns, block.columns] = block.correlated
    if given.dtype.kind in "iuf" and given.shape in ((), (q, q)):
        found = np.where(np.eye(q), 1.0, given * free)
        is_whole = not given.shape or np.allclose(given, found)
        if is_whole and np.allclose(found, found.T) and np.abs(found).max() <= 1:
            if np.linalg.eigvalsh(found).min() > -1e-8:
                return found
            together = max(block.columns.stop - block.columns.start for block in group.blocks if block.correlated)
            bound = f"; a correlation of all {together} columns is {-1 / (together - 1):.4g} or more"
            why = f": that is no correlation matrix, not being positive definite{'' if given.shape else bound}"
    columns = ", ".join(group.coefs)
    said = f"a correlation or the correlation matrix of {columns}, not {value!r}"
    raise PriorError(f"cor_{group.name} must be {said}{why}")


def _effects(rng: Random, group: GroupDesign, values: Mapping[str, Any]) -> pd.DataFrame:
    """Draw a factor's effects (levels, columns); those of fe() have mean 0 over the rows."""
    q = len(group.coefs)
    root = np.linalg.cholesky(_correlations(group, values.get(f"cor_{group.name}", 0.0)) + 1e-12 * np.eye(q))
    sd = np.array([values[f"sd_{group.name}[{coef}]"] for coef in group.coefs])
    drawn = sd * (rng.normal(size=(len(group.levels), q)) @ root.T)
    for block in group.blocks:
        drawn[:, block.columns] -= block.fixed * np.average(drawn[:, block.columns], 0, group.rows)
    return pd.DataFrame(drawn, pd.Index(group.levels, name=group.name), list(group.coefs))


def _recursion(own: Array, rho: Mapping[int, float], draw: Callable[[Array], Array], rng: Random) -> Array:
    """Draw responses (n,) period by period, given the rest of their predictor (units, periods), and rho by lag."""
    n_units, n_periods = own.shape
    steady = own - own.mean(axis=0) + own[:, 0].mean()
    y, units = [np.zeros(n_units)] * max(rho), np.arange(n_units)
    for period in range(-BURN_IN, n_periods):
        rest = steady[units, rng.integers(n_periods, size=n_units)] if period < 0 else own[:, period]
        y.append(draw(rest + sum(slope * y[-k] for k, slope in rho.items())))
    return np.stack(y[-n_periods:], axis=1).ravel()


def _is_whole(value: Any, least: float) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)
