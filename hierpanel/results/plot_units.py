"""A `Fit` and a grouping factor come in; axes go out on which its units stand in a row: effects, shrinkage."""

from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError, check_whole
from hierpanel.results import plot_marks as marks
from hierpanel.results import plot_style as style
from hierpanel.results import plot_ticks as ticks
from hierpanel.results import tables, unpooled
from hierpanel.results.plot_style import LINE, POOLED, RAW
from hierpanel.results.thinning import evenly

Array = np.ndarray

# Units whose names can be read; more are drawn without.
NAMED = 60
# Interquartile ranges from the middle half at which an own estimate is far away, and units of which few can be far.
FAR, FEW = 3, 8
# Share of the axis that stays free at its ends.
MARGIN = 0.04
# Points of a row in which markers have their full size.
ROW = 12


def shrinkage(fit: Any, group: str, coef: str | None, ax: Any, max_units: int) -> Any:
    """Draw an arrow from each unit's own estimate to its posterior mean; see `Plots.shrinkage`."""
    check_whole("max_units", max_units, 1)
    coef = fit.design.group(group).coefs[0] if coef is None else coef
    table = unpooled.shrinkage(fit, group, coef)
    table = table.iloc[np.argsort(table["own"].to_numpy(), kind="stable")]  # those without one come last
    estimated = int(table["own"].notna().sum())
    if estimated == 0:
        raise FitError(f"no {group} has rows enough for an estimate of {coef} of its own: there is nothing to show")
    shown = table.iloc[evenly(estimated, max_units)]
    ax = style.new_axes(ax, 7.5, marks.height_of_rows(len(shown), NAMED))
    place = np.arange(len(shown))
    own, pooled = shown["own"].to_numpy(), shown["pooled"].to_numpy()
    rows = shown["rows"].to_numpy(dtype=float)
    low, high = _window(own, pooled)
    span = high - low + abs(shown.attrs["population"] - np.clip(own, low, high).mean())
    room = np.clip(marks.row_height(ax, len(shown)) / ROW, 0.4, 1)
    pad = MARGIN * (high - low)
    for y, start, end in zip(place, np.clip(own, low - pad, high + pad), pooled, strict=True):
        # the head of a short arrow would be wider than its length, and show on the wrong side of the markers
        head = "->" if abs(end - start) > 0.02 * span else "-"
        arrow = {"arrowstyle": head, "color": "0.6", "lw": 0.9 * room, "mutation_scale": 10 * room}
        ax.annotate("", xy=(end, y), xytext=(start, y), arrowprops=arrow, zorder=2)
    size = room**2 * (14 + 56 * rows / rows.max())
    circles = ax.scatter(own, place, s=size, color=RAW, alpha=0.85, lw=0, zorder=3)
    squares = ax.scatter(pooled, place, s=26 * room**2, color=POOLED, marker="s", lw=0, zorder=4)
    line = ax.axvline(shown.attrs["population"], color=LINE, lw=1.2, ls="--", zorder=1)
    entries = [(circles, "own estimate (size: rows)"), (squares, "posterior mean"), (line, "population")]
    if ((own < low) | (own > high)).any():
        ax.set_xlim(low - pad, high + pad)
        entries.append(_beyond(ax, own, low, high))
    named = ticks.level_ticks(ax, list(shown.index), NAMED)
    ax.margins(x=MARGIN)
    style.finish(
        ax,
        f"Shrinkage of {coef} by {group}",
        f"{coef}: beta + b ({style.unit_of(fit, coef)})",
        _counted(group, len(shown), len(table), named),
        entries,
    )
    ticks.few_ticks(ax, most=9, size=style.TICK)
    return ax


def _window(own: Array, pooled: Array) -> tuple[float, float]:
    """Return the ends of the axis: those of all estimates, unless a few own ones would make the others a strip."""
    low, high = min(own.min(), pooled.min()), max(own.max(), pooled.max())
    q1, q3 = np.quantile(own, [0.25, 0.75])
    near = own[(own >= q1 - FAR * (q3 - q1)) & (own <= q3 + FAR * (q3 - q1))]
    inner = min(near.min(), pooled.min()), max(near.max(), pooled.max())
    is_strip = len(own) >= FEW and 2 * (inner[1] - inner[0]) < high - low
    return inner if is_strip else (low, high)


def _beyond(ax: Any, own: Array, low: float, high: float) -> tuple[Any, str]:
    """Put an arrowhead at the axis' end for each own estimate beyond it; return the legend's entry."""
    for rows, share, marker in ((own < low, 0.01, "<"), (own > high, 0.99, ">")):
        at = np.flatnonzero(rows)
        heads = {"ls": "", "marker": marker, "ms": 5, "mew": 0, "color": RAW, "clip_on": False, "zorder": 5}
        (handle,) = ax.plot(np.full(len(at), share), at, transform=ax.get_yaxis_transform(), **heads)
    return handle, f"own estimate beyond the axis ({((own < low) | (own > high)).sum()})"


def caterpillar(fit: Any, group: str, coef: str | None, total: bool, prob: float, max_units: int, ax: Any) -> Any:
    """Draw each unit's effect with its intervals, sorted; see `Plots.caterpillar`."""
    check_whole("max_units", max_units, 1)
    tables.check_prob(prob)
    data = fit.design.group(group)
    coef = data.coefs[0] if coef is None else coef
    if coef not in data.coefs:
        raise FitError(f"{coef!r} does not vary by {group}; what does: {', '.join(data.coefs)}")
    shown, half = _of_units(fit, group, coef, total, prob, max_units)
    number, J = len(shown), len(data.levels)
    ax = style.new_axes(ax, 6.0, marks.height_of_rows(number, NAMED))
    room = marks.row_height(ax, number)
    population = float(fit.params.get(coef, 0.0)) if total and fit.spec.coefs else 0.0
    # a line behind hundreds of intervals would be lost
    line = ax.axvline(population, color=LINE, lw=1.2, ls="--", zorder=1 if number <= NAMED else 5)
    marks.intervals(ax, np.arange(number), shown, half, POOLED, room=room)
    named = ticks.level_ticks(ax, list(shown.index), NAMED)
    ax.margins(x=MARGIN)
    what, letters = (
        ("totals of", "unit total, beta + b") if total else ("effects on", "departure from the population, b")
    )
    style.finish(
        ax,
        f"Unit {what} {coef} by {group}",
        f"{letters} ({style.unit_of(fit, coef)})",
        _counted(group, number, J, named),
        [
            *marks.interval_entries(prob, POOLED, room=room),
            (line, f"population, {style.number(population)}" if total else "population"),
        ],
    )
    ticks.few_ticks(ax, most=9, size=style.TICK)
    return ax


def _counted(group: str, shown: int, total: int, named: bool) -> str:
    """Say what rows are, how many of them are shown, and in what order, where no names tell."""
    count = f"{shown:,} of {total:,}" if shown < total else f"{total:,}"
    return f"{group} ({count}{'' if named else ', sorted'})"


def _of_units(
    fit: Any, group: str, coef: str, total: bool, prob: float, most: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return means and intervals of the units that are shown, sorted, and their 50 % intervals."""
    data = fit.design.group(group)
    k = data.coefs.index(coef)
    mean = fit.effects.mean(group)[:, k]
    order = np.argsort(mean, kind="stable")[evenly(len(mean), most)]
    draws = fit.effects.at(group, order)[..., k]
    if total and coef in fit.spec.coefs:
        draws = draws + fit.draws("beta")[..., fit.spec.coefs.index(coef), None]
    flat, index = draws.reshape(-1, len(order)), pd.Index(data.levels[order], name=group)
    return marks.summary(flat, prob, index), marks.summary(flat, 0.5, index)
