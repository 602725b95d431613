"""A `Fit` and its regressors come in; axes go out with expected responses, or their slopes, over a grid."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results import contrasts, tables
from hierpanel.results import plot_grid as grids
from hierpanel.results import plot_marks as marks
from hierpanel.results import plot_style as style
from hierpanel.results import plot_ticks as ticks
from hierpanel.results.expected import Units
from hierpanel.results.plot_grid import Grid
from hierpanel.results.plot_style import INK, MARKERS

Array = np.ndarray

# Rows of the data that are drawn behind a line.
POINTS = 1500

SLOPES = {
    "dydx": ("Slope of {y} in {x}", "d {d} / d {x}"),
    "eyex": ("Elasticity of {y} in {x}", "% change of {y} for 1 % of {x}"),
    "eydx": ("Semi-elasticity of {y} in {x}", "relative change of {y} per unit of {x}"),
    "dyex": ("Semi-elasticity of {y} in {x}", "change of {y} for 100 % of {x}"),
}


def predictions(
    fit: Any,
    variable: str,
    by: str | None,
    data: bool | None,
    units: Units,
    at: Mapping[str, Any] | None,
    prob: float,
    ax: Any,
) -> Any:
    """Draw expected responses; see `Plots.predictions`."""
    tables.check_prob(prob)
    if not isinstance(data, bool | None):
        raise FitError("data=True draws the rows of the fit; hp.predictions(fit, rows) works on other rows")
    grid = grids.grid(fit, variable, by, at, units)
    table = _scaled(contrasts.predictions(fit, grid.rows, units=units, prob=prob), 1 / grid.trials)
    behind = _observed(fit, grid) if data else None
    ax = style.new_axes(ax, 6.5, 4.2)
    entries = _drawn(ax, grid, table, prob)
    if behind is not None:
        points, total = behind
        many = f"data ({len(points):,} of {total:,} rows)" if len(points) < total else "data"
        entries.append((_points(ax, fit, grid, points), many))
    name = expected(fit)
    over = variable if by is None else f"{variable} and {by}"
    _finished(ax, fit, grid, f"{name[:1].upper()}{name[1:]} by {over}", name, entries)
    return ax


def slopes(
    fit: Any,
    variable: str,
    over: str | None,
    by: str | None,
    slope: str,
    units: Units,
    at: Mapping[str, Any] | None,
    prob: float,
    ax: Any,
) -> Any:
    """Draw slopes of expected responses; see `Plots.slopes`."""
    tables.check_prob(prob)
    # a slope is a difference about its place, and a spline explodes beyond its ends
    grid = grids.grid(fit, variable if over is None else over, by, at, units, inset=0.002)
    grids.check_regressor(fit, variable)
    if grids.enters_by_levels(fit, variable):
        raise FitError(
            f"{variable} enters by levels and has no slope; fit.plot.predictions({variable!r}) compares them"
        )
    found = contrasts.slopes(fit, variable, grid.rows, slope=slope, by=None, units=units, prob=prob)
    table = _scaled(found, 1 / grid.trials if slope.startswith("dy") else np.ones(len(found)))
    ax = style.new_axes(ax, 6.5, 4.2)
    line = ax.axhline(0, color=INK, lw=0.9, ls="--", zorder=1)
    entries = [*_drawn(ax, grid, table, prob), (line, "no effect")]
    title, label = (text.format(y=_sloped(fit), d=_sloped(fit, "E[{}]"), x=variable) for text in SLOPES[slope])
    is_constant = grid.x.name == variable and np.ptp(table["mean"]) < 1e-6 * table["mean"].abs().max()
    along = [*([] if is_constant else [grid.x.name]), *([] if by is None else [by])]
    _finished(ax, fit, grid, f"{title}, by {' and '.join(along)}" if along else title, label, entries)
    return ax


def expected(fit: Any) -> str:
    """Name the expected response."""
    found = outcome(fit)
    return found if found != style.response_of(fit) else f"expected {found}"


def outcome(fit: Any) -> str:
    """Name what is expected: the response, or its probability."""
    family = fit.spec.family
    chance = family.counts_trials or family.name == "bernoulli"
    return f"probability of {style.response_of(fit)}" if chance else style.response_of(fit)


def _sloped(fit: Any, expectation: str = "expected {}") -> str:
    """Name what a slope is of: with a link, the expected response is said to be such."""
    found = outcome(fit)
    is_said = found != style.response_of(fit) or fit.spec.family.link.name == "identity"
    return found if is_said else expectation.format(found)


def of_rows(fit: Any) -> Array:
    """Return the response of the rows that were fitted (n,), as shares of the trials where there are any."""
    return np.asarray(fit.design.y if fit.design.trials is None else fit.design.y / fit.design.trials)


def _scaled(table: pd.DataFrame, factor: Array) -> pd.DataFrame:
    return table.assign(**{name: table[name] * factor for name in ("mean", "lower", "upper")})


def _drawn(ax: Any, grid: Grid, table: pd.DataFrame, prob: float) -> list[tuple[Any, str]]:
    """Draw a line with its band, or points with intervals, for each value of by; return the legend's entries."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    parts = grid.parts()
    colors = _colors(grid)
    entries: list[tuple[Any, str]] = []
    for k, (value, rows) in enumerate(parts):
        part, color, marker = table.iloc[rows], colors[k], MARKERS[k % len(MARKERS)]
        place = grid.x.places(grid.rows[grid.x.name].iloc[rows])
        if grid.x.is_line:
            ax.fill_between(place, part["lower"], part["upper"], color=color, alpha=0.18, lw=0, zorder=2)
            ax.plot(place, part["mean"], color=color, lw=1.8, zorder=4)
            handle = Line2D([], [], color=color, lw=1.8)
        else:
            place = place + _dodge(grid)[k]
            ax.vlines(place, part["lower"], part["upper"], color=color, lw=1.4, zorder=3)
            for end in ("lower", "upper"):  # wider than the marker, which may hide the line
                ax.plot(place, part[end], ls="", marker="_", ms=9, mew=1.4, color=color, zorder=4.5)
            ax.scatter(place, part["mean"], s=26, color=color, marker=marker, edgecolor="white", lw=0.7, zorder=4)
            handle = Line2D([], [], color=color, lw=1.4, marker=marker, ms=5.5)
        if grid.by is not None:
            entries.append((handle, f"{grid.by.name} = {_written(value)}"))
    color = style.QUIET if grid.by is not None else colors[0]
    if grid.x.is_line:
        band: Any = Patch(color=color, alpha=0.3, lw=0)
        head = [] if grid.by is not None else [(Line2D([], [], color=color, lw=1.8), "posterior mean")]
    else:
        band = Line2D([], [], color=color, lw=1.4)
        head = (
            [] if grid.by is not None else [(Line2D([], [], color=color, ls="", marker="o", ms=5.5), "posterior mean")]
        )
    return [*entries, *head, (band, f"{100 * prob:g} % interval")]


def _colors(grid: Grid) -> list[str]:
    return style.colors(1, False) if grid.by is None else style.colors(len(grid.by.values), grid.by.is_number)


def _written(value: Any) -> str:
    return style.number(float(value)) if isinstance(value, (float, np.floating)) else str(value)


def _observed(fit: Any, grid: Grid) -> tuple[pd.DataFrame, int]:
    """Return at most `POINTS` of the rows that the axes show, and how many those are.

    ``x``: their place; ``y``: their response; ``by``: which value of by they have. Beside quantiles of by they are all
    shown (by -1), beside categories those that have one of them.
    """
    rows = grids.rows_of(fit)
    x = pd.Series(grid.x.places(rows[grid.x.name]))
    ends = grid.x.places(pd.Series(list(grid.x.values)))
    seen = ((x >= ends.min()) & (x <= ends.max())).to_numpy()
    which = np.full(len(rows), -1)
    if grid.by is not None and not grid.by.is_number:
        which = pd.Index(grid.by.values).get_indexer(pd.Index(rows[grid.by.name]))
        seen = seen & (which >= 0)
    found = pd.DataFrame({"x": x, "y": of_rows(fit), "by": which})[seen]
    return found.iloc[np.sort(np.random.default_rng(0).permutation(len(found))[:POINTS])], len(found)


def _points(ax: Any, fit: Any, grid: Grid, observed: pd.DataFrame) -> Any:
    """Draw rows of the data; what would lie on one another is moved a little. Return the legend's handle."""
    rng = np.random.default_rng(1)
    x, y, which = observed["x"], observed["y"], observed["by"].to_numpy()
    if not grid.x.is_line:
        x = x + rng.uniform(-0.04, 0.04, len(x)) + np.where(which < 0, 0.0, _dodge(grid)[which])
    if fit.spec.family.name == "bernoulli":
        y = y + rng.uniform(-0.02, 0.02, len(y))
    colors = np.array([*_colors(grid), INK])
    ax.scatter(x, y, s=11, c=colors[which], alpha=marks.faint(len(x)), lw=0, zorder=1.5)
    return marks.data_entry()


def _dodge(grid: Grid) -> Array:
    """How far categories of by stand from the place of x."""
    number = 1 if grid.by is None else len(grid.by.values)
    return np.asarray(0.13 * (np.arange(number) - (number - 1) / 2))


def _finished(ax: Any, fit: Any, grid: Grid, title: str, ylabel: str, entries: list[tuple[Any, str]]) -> None:
    if grid.x.is_line:
        ax.margins(x=0.02)
        ticks.axis_ticks(ax.xaxis, grids.rows_of(fit)[grid.x.name])
    else:
        ticks.category_ticks(ax, [_written(value) for value in grid.x.values])
    style.finish(ax, title, grid.x.name, ylabel, entries, grid.held)
