"""A `Fit` and rows come in; predictions, comparisons and slopes go out, for each row or averaged, as posteriors.

The words are those of marginaleffects (Arel-Bundock, Greifer and Heiss, 2024, Journal of Statistical Software 111(9)).
With a link the expected response at a typical unit, whose effects are 0, is not the average over units; both are there.
"""

import numbers
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpanel.errors import DataError, FitError
from hierpanel.results import tables
from hierpanel.results.expected import ExpectedRows, Units, finite

Array = np.ndarray

# Share of a column's spread over which a slope is taken.
STEP = 1e-4

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "difference": lambda high, low: high - low,
    "ratio": lambda high, low: high / low,
    "lnratio": lambda high, low: np.log(high / low),
    "lift": lambda high, low: (high - low) / low,
    "lnor": lambda high, low: np.log(high / (1 - high)) - np.log(low / (1 - low)),
}
SLOPES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "dydx": lambda slope, x, y: slope,
    "eyex": lambda slope, x, y: slope * x / y,
    "eydx": lambda slope, x, y: slope / y,
    "dyex": lambda slope, x, y: slope * x,
}


def predictions(
    fit: Any,
    data: Any = None,
    *,
    by: str | Sequence[str] | bool | None = None,
    units: Units = "own",
    kind: Literal["mean", "linear"] = "mean",
    prob: float = 0.95,
) -> pd.DataFrame:
    """Predict the expected response of rows, or its average over them.

    Parameters
    ----------
    fit : Fit
    data : table
        Such as `datagrid`'s; the rows of the fit unless given.
    by : str, sequence or True
        Columns: one row for each combination of their values, an average over its rows. True: over all rows.
    units : str
        ``"own"``: with each unit's own effects, which must be known, but for the typical units of `datagrid`;
        ``"typical"``: at a unit whose effects are 0; ``"average"``: averaged over the distribution of units (with a
        link the two differ).
    kind : ``"mean"``, or ``"linear"`` for the linear predictor
    prob : probability of the equal-tailed intervals

    Returns
    -------
    DataFrame with the rows' columns (or those of ``by``), and ``mean``, ``sd``, ``lower``, ``upper``

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("wage_panel")
    >>> fit = hp.fit("log_wage ~ union + experience + (1 | worker)", df, draws=200, seed=1)
    >>> hp.predictions(fit, hp.datagrid(fit, union=[0, 1]))["union"].tolist()
    [0, 1]
    """
    if kind not in ("mean", "linear"):
        raise FitError(f"kind is 'mean' or 'linear', not {kind!r}; responses with their residual are fit.predict()'s")
    tables.check_prob(prob)
    rows = ExpectedRows.of(fit, data, units, kind)
    return rows.result(lambda places: rows.values(None, places), by, prob, {})


def comparisons(
    fit: Any,
    variables: str | Sequence[str] | Mapping[str, Any],
    data: Any = None,
    *,
    comparison: str | Callable[[Array, Array], Array] = "difference",
    by: str | Sequence[str] | bool | None = True,
    units: Units = "own",
    prob: float = 0.95,
) -> pd.DataFrame:
    """Compare expected responses at two values of a regressor, everything else as it is.

    Parameters
    ----------
    fit : Fit
    variables : str, sequence or mapping
        Columns of the table; a mapping also says how each changes: a number is a step up, ``[low, high]`` two values,
        ``"sd"`` one sd around the value, ``"minmax"``, ``"iqr"``. Unless said, numbers go up by 1, columns of 0 and 1
        from 0 to 1, truth values from False to True, text and categories from their first level to each other.
    data : table
        The rows at which to compare; those of the fit unless given.
    comparison : str or function
        ``"difference"``, ``"ratio"``, ``"lnratio"``, ``"lift"``, ``"lnor"`` (log odds ratio), of the averages that
        `by` asks for, as marginaleffects has it; or a function of arrays (high, low), of each row and draw, whose
        values are averaged.
    by : see `predictions`; True, the average over all rows, unless given, and None for each row
    units, prob : see `predictions`

    Returns
    -------
    DataFrame with ``term``, ``contrast``, the columns of ``by``, and ``mean``, ``sd``, ``lower``, ``upper``, ``p_pos``

    Notes
    -----
    Lags, leads and unit means keep the values that they have: a comparison is of the row's own regressor.

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("wage_panel")
    >>> fit = hp.fit("log_wage ~ union * experience + (1 | worker)", df, draws=200, seed=1)
    >>> hp.comparisons(fit, "union")[["term", "contrast"]].iloc[0].tolist()
    ['union', '1 - 0']
    """
    tables.check_prob(prob)
    compare = _comparison(comparison)
    of_rows = callable(comparison) or comparison == "difference" or by is None or by is False
    of_averages = not of_rows or (isinstance(comparison, str) and comparison.endswith("avg"))
    of_odds = comparison in ("lnor", "lnoravg")
    rows = ExpectedRows.of(fit, data, units, "probability" if of_odds else "mean")
    if of_odds and fit.spec.family.link.latent_variance is None:
        raise FitError(f"'lnor' compares odds, and family {fit.spec.family.name} has none; 'lnratio' compares means")
    parts = []
    for name, spec in _variables(variables).items():
        for label, low, high in _contrasts(rows.column(name), rows.known(name), spec):
            below, above = (partial(rows.values, _changed(rows, name, values, spec)) for values in (low, high))
            head = {"term": name, "contrast": label}
            if of_averages:
                parts.append(rows.result_of_averages(above, below, compare, by, prob, head))
            else:
                parts.append(rows.result(partial(_compared, compare, above, below), by, prob, head))
    return _joined(parts, by)


def slopes(
    fit: Any,
    variables: str | Sequence[str],
    data: Any = None,
    *,
    slope: str = "dydx",
    by: str | Sequence[str] | bool | None = True,
    units: Units = "own",
    prob: float = 0.95,
) -> pd.DataFrame:
    """Differentiate expected responses with respect to a regressor, everything else as it is.

    Parameters
    ----------
    fit : Fit
    variables : numeric columns of the table
    data, by, units, prob : see `comparisons`
    slope : str
        ``"dydx"``; elasticity ``"eyex"``; semi-elasticities ``"eydx"`` (relative change of y for a unit of x) and
        ``"dyex"``.

    Returns
    -------
    DataFrame with ``term``, ``contrast``, the columns of ``by``, and ``mean``, ``sd``, ``lower``, ``upper``, ``p_pos``

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("wage_panel")
    >>> fit = hp.fit("log_wage ~ experience + I(experience**2) + (1 | worker)", df, draws=200, seed=1)
    >>> bool(hp.slopes(fit, "experience")["mean"].iloc[0] > 0)
    True
    """
    tables.check_prob(prob)
    if slope not in SLOPES:
        raise FitError(f"slope is one of {', '.join(map(repr, SLOPES))}, not {slope!r}")
    rows = ExpectedRows.of(fit, data, units, "mean")
    parts = []
    for name in _variables(variables):
        column = rows.column(name)
        if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
            raise FitError(f"{name} is no number, and has no slope; comparisons(fit, {name!r}) compares its levels")
        x = column.to_numpy(dtype=float)
        known = rows.known(name).to_numpy(dtype=float)
        ends, step = _around(rows, name, x, float(np.nanstd(known)) or float(np.nanmax(np.abs(known))) or 1.0)

        def change(places: Array, ends: Any = ends, x: Array = x, step: Array = step) -> Array:
            below, above = (rows.values(changed, places) for changed in ends)
            with np.errstate(all="ignore"):
                found = SLOPES[slope]((above - below) / step[places, None], x[places, None], (above + below) / 2)
            return finite(found, slope)

        parts.append(rows.result(change, by, prob, {"term": name, "contrast": slope}))
    return _joined(parts, by)


def _changed(rows: ExpectedRows, name: str, values: Any, spec: Any) -> Any:
    try:
        return rows.changed(name, values)
    except DataError as error:
        if spec is not None or "has levels that the fit has not seen" not in str(error):
            raise
        raise DataError(f"{error}; compare two of its levels, as in {{{name!r}: [a, b]}}") from error


def _around(rows: ExpectedRows, name: str, x: Array, spread: float) -> tuple[list[Any], Array]:
    """Return the rows with a little less and a little more of a column, and the steps (n,) between.

    Steps shrink where x is nearer to 0 than its spread, for logarithms; and to a share of x where less than 0 would be
    asked of one.
    """

    def ends(half: Array) -> list[Any]:
        with warnings.catch_warnings():  # half a step beyond a spline's last knot is no extrapolation
            warnings.filterwarnings("ignore", message=".*is asked for.*", category=UserWarning)
            return [rows.changed(name, x - half), rows.changed(name, x + half)]

    half = STEP / 2 * np.clip(np.abs(x), 1e-4 * spread, spread)
    try:
        return ends(half), 2 * half
    except DataError as error:
        half = np.where(x == 0, half, STEP / 2 * np.minimum(np.abs(x), spread))
        try:
            return ends(half), 2 * half
        except DataError:
            hint = f"; where {name} stands for levels, comparisons(fit, {{{name!r}: [a, b]}}) compares two of them"
            raise FitError(f"no slope of {name}: {error}{hint}") from error


def _variables(variables: Any) -> dict[str, Any]:
    if isinstance(variables, str):
        return {variables: None}
    if isinstance(variables, Mapping):
        return dict(variables)
    if not isinstance(variables, (list, tuple, set, pd.Index)):
        raise FitError(
            f"variables names columns, as in 'union', ['union', 'hours'] or {{'hours': 10}}, not {variables!r}"
        )
    return dict.fromkeys(variables)


def _compared(
    compare: Callable[[Array, Array], Array],
    above: Callable[[Array], Array],
    below: Callable[[Array], Array],
    places: Array,
) -> Array:
    return compare(above(places), below(places))


def _comparison(comparison: Any) -> Callable[[Array, Array], Array]:
    """Return a function of (high, low) whose values are checked; "ratioavg" is "ratio" of averages."""
    comparison = comparison.removesuffix("avg") if isinstance(comparison, str) else comparison
    if not callable(comparison) and comparison not in COMPARISONS:
        known = ", ".join(map(repr, COMPARISONS))
        raise FitError(f"comparison is a function of (high, low) or one of {known}, not {comparison!r}")
    of_ends = comparison if callable(comparison) else COMPARISONS[comparison]
    what = "comparison=" + (getattr(comparison, "__name__", "its function") if callable(comparison) else comparison)

    def compare(high: Array, low: Array) -> Array:
        with np.errstate(all="ignore"):
            found = np.asarray(of_ends(high, low))
        if found.shape != high.shape or found.dtype.kind not in "fiu":
            raise FitError(f"{what} must give a number for each element of (high, low), as high - low does")
        return finite(found.astype(float), f"{what}, of expected responses that may be 0 or negative,")

    return compare


def _contrasts(column: pd.Series, fitted: pd.Series, spec: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (label, low, high) of each contrast of a column; levels and spreads are those of the fit's rows."""
    known = fitted.dropna()
    is_number = pd.api.types.is_numeric_dtype(known.dtype) and not pd.api.types.is_bool_dtype(known.dtype)
    if isinstance(spec, (list, tuple)):
        if len(spec) != 2:
            raise FitError(f"{column.name} is compared between two values, [low, high], not {len(spec)}")
        if not all(np.ndim(end) == 0 for end in spec):
            raise FitError(f"{column.name} is compared between two single values, [low, high], not {spec!r}")
        yield f"{spec[1]} - {spec[0]}", spec[0], spec[1]
    elif is_number and spec is None and set(known.unique()) <= {0, 1}:
        yield "1 - 0", 0, 1
    elif is_number:
        yield _of_number(column, known.to_numpy(dtype=float), 1 if spec is None else spec)
    elif spec is not None:
        raise FitError(f"{column.name} is no number; compare two of its levels, as in {{{column.name!r}: ['a', 'b']}}")
    elif pd.api.types.is_bool_dtype(known.dtype):
        yield "True - False", False, True
    else:
        used = set(known.unique())
        is_category = isinstance(known.dtype, pd.CategoricalDtype)
        levels = [level for level in known.cat.categories if level in used] if is_category else sorted(used)
        for level in levels[1:]:
            yield f"{level} - {levels[0]}", levels[0], level


def _of_number(column: pd.Series, known: Array, spec: Any) -> tuple[str, Any, Any]:
    x = column.to_numpy(dtype=float, na_value=np.nan)
    if isinstance(spec, str) and spec == "sd":
        half = float(np.std(known, ddof=1)) / 2
        return "(x + sd/2) - (x - sd/2)", x - half, x + half
    if isinstance(spec, str) and spec == "minmax":
        return "max - min", float(known.min()), float(known.max())
    if isinstance(spec, str) and spec == "iqr":
        return "Q3 - Q1", float(np.quantile(known, 0.25)), float(np.quantile(known, 0.75))
    if isinstance(spec, numbers.Real) and not isinstance(spec, bool):
        return f"+{float(spec):g}", x, x + float(spec)
    raise FitError(f"{column.name} changes by a number, [low, high], 'sd', 'minmax' or 'iqr', not by {spec!r}")


def _joined(parts: list[pd.DataFrame], by: Any) -> pd.DataFrame:
    """Put results one below the other; those of rows keep the rows' labels."""
    if not parts:
        raise FitError("there is nothing to compare; name a column, as in comparisons(fit, 'union')")
    found = tables.Table(pd.concat(parts, ignore_index=by is not None and by is not False))
    found.columns.name, found.attrs = parts[0].columns.name, parts[0].attrs
    return found
