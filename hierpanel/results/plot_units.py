"""A `Fit` and a grouping factor come in; axes go out on which its units stand in a row: effects, shrinkage."""

from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results import plot_marks as marks
from hierpanel.results import plot_style as style
from hierpanel.results import plot_ticks as ticks
from hierpanel.results import tables, unpooled
from hierpanel.results.plot_style import LINE, POOLED, RAW
from hierpanel.results.thinning import evenly

# Units whose names can be read; more are drawn without.
NAMED = 60


def shrinkage(fit: Any, group: str, coef: str | None, ax: Any, max_units: int) -> Any:
    """Draw an arrow from each unit's own estimate to its posterior mean; see `Plots.shrinkage`."""
    style.check_count(max_units, "max_units")
    coef = fit.design.group(group).coefs[0] if coef is None else coef
    table = unpooled.shrinkage(fit, group, coef)
    table = table.iloc[np.argsort(table["own"].to_numpy(), kind="stable")]  # those without one come last
    estimated = int(table["own"].notna().sum())
    if estimated == 0:
        raise FitError(f"no {group} has rows enough for an estimate of {coef} of its own: there is nothing to show")
    shown = table.iloc[evenly(estimated, max_units)]
    ax = style.new_axes(ax, 7.5, max(2.8, 1.2 + 0.17 * len(shown)))
    place = np.arange(len(shown))
    own, pooled = shown["own"].to_numpy(), shown["pooled"].to_numpy()
    rows = shown["rows"].to_numpy(dtype=float)
    span = np.ptp([own, pooled]) + abs(shown.attrs["population"] - own.mean())
    for y, start, end in zip(place, own, pooled, strict=True):
        # the head of a short arrow would be wider than its length, and show on the wrong side of the markers
        head = "->" if abs(end - start) > 0.02 * span else "-"
        arrow = {"arrowstyle": head, "color": "0.6", "lw": 0.9}
        ax.annotate("", xy=(end, y), xytext=(start, y), arrowprops=arrow, zorder=2)
    size = 14 + 56 * rows / rows.max()
    ax.scatter(own, place, s=size, color=RAW, alpha=0.85, lw=0, zorder=3, label="own estimate (size: rows)")
    ax.scatter(pooled, place, s=26, color=POOLED, marker="s", lw=0, zorder=4, label="posterior mean")
    ax.axvline(shown.attrs["population"], color=LINE, lw=1.2, ls="--", zorder=1, label="population")
    ticks.level_ticks(ax, list(shown.index), len(shown))
    ax.margins(x=0.04)
    count = f"{len(shown)} of {len(table):,}" if len(shown) < len(table) else f"{len(table):,}"
    ax.set_ylabel(style.plain(f"{group} ({count})"))
    ax.set_xlabel(style.plain(shown.attrs["xlabel"]))
    ax.set_title(style.plain(f"Shrinkage of {coef} by {group}"), fontsize=11, loc="left", pad=22)
    # above the axes, where no unit can be
    place_above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": 3}
    ax.legend(**place_above, frameon=False, fontsize=8, borderpad=0, handletextpad=0.3, columnspacing=1.2)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def caterpillar(fit: Any, group: str, coef: str | None, total: bool, prob: float, max_units: int, ax: Any) -> Any:
    """Draw each unit's effect with its intervals, sorted; see `Plots.caterpillar`."""
    style.check_count(max_units, "max_units")
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
    ticks.level_ticks(ax, list(shown.index), NAMED)
    ax.margins(x=0.04)
    count = f"{number:,} of {J:,}" if number < J else f"{J:,}"
    what, letters = (
        ("totals of", "unit total, beta + b") if total else ("effects on", "departure from the population, b")
    )
    style.finish(
        ax,
        f"Unit {what} {coef} by {group}",
        f"{letters} ({style.unit_of(fit, coef)})",
        f"{group} ({count}{'' if number <= NAMED else ', sorted'})",
        [
            *marks.interval_entries(prob, POOLED, room=room),
            (line, f"population, {style.number(population)}" if total else "population"),
        ],
    )
    return ax


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
