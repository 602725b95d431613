"""A `Fit` and a grouping factor come in; axes go out with each unit's own line beside the population's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError, check_whole
from hierpanel.results import contrasts
from hierpanel.results import plot_grid as grids
from hierpanel.results import plot_marks as marks
from hierpanel.results import plot_style as style
from hierpanel.results import plot_ticks as ticks
from hierpanel.results.datagrid import datagrid
from hierpanel.results.plot_predictions import expected, of_rows
from hierpanel.results.plot_style import INK, LINE, POOLED
from hierpanel.results.thinning import evenly

Array = np.ndarray

PROB = 0.95
# Places of x at which a unit's line is worked out.
PLACES = 25


def spaghetti(fit: Any, group: str, x: str | None, units: int | Sequence[Any], data: bool, ax: Any) -> Any:
    """Draw the lines; see `Plots.spaghetti`."""
    design = fit.design.group(group)
    table = grids.rows_of(fit)
    x = _column(fit, group, table) if x is None else x
    if x not in _candidates(fit, table):
        known = ", ".join(_candidates(fit, table)) or "none"
        raise FitError(f"x= is a regressor or the time of panel=, not {x!r}; there are: {known}")
    chosen = _chosen(fit, group, units)
    is_line = _is_line(fit, x, table[x])
    along = grids.Axis(x, tuple(grids.levels_of(table[x])), is_line, is_line)
    place = along.places(table[x])
    if x in grids.regressors(fit) and not fit.coding.operators.shifts:
        lines, population = _over_grid(fit, group, along, table, design.codes, chosen), _typical(fit, along)
        rest = [name for name in fit.coding.columns() if name in grids.regressors(fit) and name != x]
        held = ", ".join(grids.said(datagrid(fit), rest)) if rest else ""
    else:
        lines, population = _through_rows(fit, design.codes, chosen, place), _average_rows(fit, along)
        held = f"fitted values of each row; population: typical {group}, averaged over rows"
    ax = style.new_axes(ax, 6.5, 4.4)
    is_named = np.iterable(units) and len(chosen) <= len(style.PALETTE)
    names = [f"{group} {design.levels[code]}" for code in chosen] if is_named else []
    entries = _drawn(ax, group, lines, population, names)
    rows = np.isin(design.codes, chosen)
    if data:
        seen = place[rows] if is_line else place[rows] + np.random.default_rng(1).uniform(-0.03, 0.03, rows.sum())
        alpha = 0.7 * marks.faint(int(rows.sum()))
        ax.scatter(seen, of_rows(fit)[rows], s=10, color=INK, alpha=alpha, lw=0, zorder=1.5)
        entries.append((marks.data_entry(), "data"))
    if is_line:
        ax.margins(x=0.02)
        ticks.axis_ticks(ax.xaxis, table[x])
    else:
        ticks.category_ticks(ax, along.values)
    name, J = expected(fit), len(design.levels)
    count = f"{len(chosen)} of {J:,}" if len(chosen) < J else f"{J:,}"
    style.finish(ax, f"{name[:1].upper()}{name[1:]} by {x}, by {group} ({count})", x, name, entries, held)
    return ax


def _drawn(
    ax: Any, group: str, lines: list[tuple[Array, Array]], population: pd.DataFrame, names: list[str]
) -> list[tuple[Any, str]]:
    """Draw the units' lines, in colours of their own where they are named, and the population's; return the entries."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    width, alpha = float(np.clip(24 / len(lines), 0.5, 1.2)), float(np.clip(24 / len(lines), 0.2, 0.75))
    markers = ["o" if len(np.unique(at)) == 1 else "" for at, _ in lines]
    colors = style.colors(len(lines), False) if names else [POOLED] * len(lines)
    for (at, mean), marker, color in zip(lines, markers, colors, strict=True):
        ax.plot(at, mean, color=color, lw=width, alpha=alpha, marker=marker, ms=4.5, mew=0, zorder=3)
    unit: dict[str, Any] = {"ls": "", "marker": "o", "ms": 4.5} if all(markers) else {"lw": max(width, 0.8)}
    units = zip(colors, names, strict=True) if names else [(POOLED, f"each {group}")]
    ax.fill_between(population["x"], population["lower"], population["upper"], color=LINE, alpha=0.2, lw=0, zorder=2)
    ax.plot(population["x"], population["mean"], color=LINE, lw=2.2, zorder=5)
    return [
        *((Line2D([], [], color=color, alpha=0.75, **unit), name) for color, name in units),
        (Line2D([], [], color=LINE, lw=2.2), "population"),
        (Patch(color=LINE, alpha=0.3, lw=0), f"{100 * PROB:g} % interval"),
    ]


def _column(fit: Any, group: str, table: pd.DataFrame) -> str:
    """Return a column that varies by the factor, else the panel's time, else a regressor, numbers first."""
    formula = next(g for g in fit.coding.formula.groups if g.name == group)
    varying = [sorted(grids.names_in(text)) for block in formula.blocks for term in block.terms for text in term]
    known = _candidates(fit, table)
    time = [] if fit.source.panel is None else [fit.source.panel[1]]
    numbers = [name for name in known if _is_line(fit, name, table[name])]
    for name in [*(name for names in varying for name in names), *time, *numbers, *known]:
        if name in known:
            return str(name)
    raise FitError(f"there is no column over which lines of {group} could go: the model has no regressor and no panel=")


def _candidates(fit: Any, table: pd.DataFrame) -> list[str]:
    """Return the columns that x can be; with lags the time alone, since other rows would change along with x."""
    known = {*((fit.source.panel or ())[1:2]), *(() if fit.coding.operators.shifts else grids.regressors(fit))}
    return [name for name in table.columns if name in known and name != fit.design.response]


def _is_line(fit: Any, name: str, column: pd.Series) -> bool:
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    in_model = name in grids.regressors(fit)
    return (numeric or column.dtype.kind == "M") and (not in_model or grids.is_continuous(fit, name, column))


def _chosen(fit: Any, group: str, units: Any) -> Array:
    """Return the places of the units: those that were named, or evenly spaced ones by their mean effect."""
    design = fit.design.group(group)
    if not np.iterable(units) or isinstance(units, str):
        if not isinstance(units, str):
            check_whole("units", units, 1)
            effect = (design.Z * fit.effects.mean(group)[design.codes]).sum(axis=1)
            mean = np.bincount(design.codes, effect, len(design.levels)) / design.rows
            return np.asarray(np.argsort(mean, kind="stable")[evenly(len(mean), units)])
        units = [units]
    wanted = list(units)
    places = design.levels.get_indexer(pd.Index(wanted))
    if not wanted or (places < 0).any():
        unknown = [str(level) for level, place in zip(wanted, places, strict=True) if place < 0]
        some = ", ".join(map(str, design.levels[:6])) + (", …" if len(design.levels) > 6 else "")
        raise FitError(f"{group} has no unit {', '.join(unknown[:5]) or 'in an empty list'}; its units are: {some}")
    return np.asarray(places)


def _over_grid(
    fit: Any, group: str, along: grids.Axis, table: pd.DataFrame, codes: Array, chosen: Array
) -> list[tuple[Array, Array]]:
    """Return (x, posterior mean) of each unit over the values that it has, everything else typical."""
    factor = next(list(g.factor) for g in fit.coding.formula.groups if g.name == group)
    base = datagrid(fit)
    parts = []
    for code in chosen:
        rows = table[codes == code]
        seen = np.sort(rows[along.name].unique())
        if along.is_line and len(seen) > 2 and rows[along.name].dtype.kind != "M":
            seen = np.linspace(seen[0], seen[-1], PLACES)
        own = base.loc[[0] * len(seen)].assign(**{name: rows[name].iloc[0] for name in factor})
        parts.append(own.assign(**{along.name: seen}))
    grid = pd.concat(parts, ignore_index=True)
    mean = contrasts.predictions(fit, grid, units="own")["mean"].to_numpy() / grids.trials_of(fit, grid)
    place = along.places(grid[along.name])
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return list(zip(np.split(place, ends), np.split(mean, ends), strict=True))


def _through_rows(fit: Any, codes: Array, chosen: Array, place: Array) -> list[tuple[Array, Array]]:
    """Return (x, fitted value) of each unit's own rows."""
    fitted = fit.fittedvalues.to_numpy() / (1 if fit.design.trials is None else fit.design.trials)
    found = []
    for code in chosen:
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(place[rows], kind="stable")]
        found.append((place[rows], fitted[rows]))
    return found


def _typical(fit: Any, along: grids.Axis) -> pd.DataFrame:
    """Return the expected response of a typical unit: ``x``, ``mean``, ``lower``, ``upper``."""
    values = list(along.values)
    if along.is_line and not isinstance(values[0], pd.Timestamp) and len(values) > 2:
        values = np.linspace(values[0], values[-1], grids.POINTS).tolist()
    grid = datagrid(fit, **{along.name: values})
    return _summary(contrasts.predictions(fit, grid, units="typical", prob=PROB), along, grids.trials_of(fit, grid))


def _average_rows(fit: Any, along: grids.Axis) -> pd.DataFrame:
    """Return the same, an average over the rows at each value of x."""
    table = contrasts.predictions(fit, by=along.name, units="typical", prob=PROB)
    rows = grids.rows_of(fit)[along.name]
    trials = np.ones(len(rows)) if fit.design.trials is None else fit.design.trials
    mean = pd.Series(trials).groupby(rows.to_numpy(), sort=True).mean().to_numpy()
    return _summary(table, along, mean)


def _summary(table: pd.DataFrame, along: grids.Axis, trials: Array) -> pd.DataFrame:
    found = {name: table[name].to_numpy() / trials for name in ("mean", "lower", "upper")}
    return pd.DataFrame({"x": along.places(table[along.name]), **found})
