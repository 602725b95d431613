"""Fits come in; axes go out on which their coefficients stand side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results import plot_marks as marks
from hierpanel.results import plot_style as style
from hierpanel.results import plot_ticks as ticks
from hierpanel.results import tables
from hierpanel.results.coefficient_names import alike
from hierpanel.results.plot_style import INK, MARKERS

# Coefficients whose names can be read on one page.
NAMED = 100


def coefficients(
    fit: Any,
    others: Sequence[Any],
    names: Sequence[str] | None,
    keep: str | Sequence[str] | None,
    drop_intercept: bool,
    per: str,
    prob: float,
    ax: Any,
) -> Any:
    """Draw a forest of coefficients; see `Plots.coefficients`."""
    tables.check_prob(prob)
    if per not in ("unit", "sd"):
        raise FitError(f"per is 'unit' or 'sd' of each regressor, not {per!r}")
    fits = _named(fit, others, names)
    if len(fits) > len(style.PALETTE):
        raise FitError(f"{len(fits)} fits side by side cannot be told apart; give at most {len(style.PALETTE)}")
    found = {name: tuple(_scaled(one, one.fixef(p), per) for p in (prob, 0.5)) for name, one in fits.items()}
    found = _lined_up(found)
    shown = _shown(found, keep, drop_intercept)
    alone, scales = len(fits) == 1, {style.scale_of(one) for one in fits.values()}
    scale = next(iter(scales)) if len(scales) == 1 else ""
    # formulas as names take a row of the legend each
    legend = 0.18 * len(fits) if sum(map(len, fits)) > 60 else 0.0
    row = min(0.26 if alone else 0.15 + 0.11 * len(fits), 12 / len(shown))
    ax = style.new_axes(ax, 6.5, max(1.8, 1.2 + legend + row * len(shown)))
    room = min(marks.row_height(ax, len(shown)) / len(fits), 16)
    line = ax.axvline(0, color=INK, lw=0.9, ls="--", zorder=1)
    # a row uses 0.72 of its height; what is left keeps coefficients apart
    dodge = 0.72 / len(fits) * (np.arange(len(fits))[::-1] - (len(fits) - 1) / 2)
    place = pd.Series(np.arange(len(shown))[::-1], index=shown)
    colors = style.colors(len(fits), False)
    entries = marks.interval_entries(prob, colors[0], room=room) if alone else []
    for k, (name, (table, half)) in enumerate(found.items()):
        own = [coef for coef in shown if coef in table.index]
        marks.intervals(ax, place[own] + dodge[k], table.loc[own], half.loc[own], colors[k], MARKERS[k], room)
        entries += [] if alone else [_entry(colors[k], MARKERS[k], name)]
    ticks.level_ticks(ax, shown[::-1], NAMED)
    ax.margins(x=0.04)
    said = [f"{scale} per {per}"] if scale else []
    said += [] if alone else [f"50 % and {100 * prob:g} % intervals"]
    title = f"Coefficients of {scale}" if scale else "Coefficients"
    xlabel = f"coefficient ({'; '.join(said)})" if said else "coefficient"
    style.finish(ax, title, xlabel, "", [*entries, (line, "no effect")])
    ticks.few_ticks(ax, most=9, size=style.TICK)
    return ax


def _named(fit: Any, others: Sequence[Any], names: Sequence[str] | None) -> dict[str, Any]:
    """Return every fit under its name, this one first unless a mapping holds it."""
    found: list[tuple[str | None, Any]] = []
    for other in others:
        found += list(other.items()) if isinstance(other, Mapping) else [(None, other)]
    for _, one in found:
        if not hasattr(one, "design"):
            raise FitError(f"coefficients() takes fits, or a mapping of them by name, not a {type(one).__name__}")
    if not any(one is fit for _, one in found):
        found = [(None, fit), *found]
    if names is not None:
        if isinstance(names, str) or len(names) != len(found):
            raise FitError(f"names= has a name for each fit, this one included: {len(found)} of them")
        found = [(name, one) for name, (_, one) in zip(names, found, strict=True)]
    labels = [str(one.spec.formula) if name is None else str(name) for name, one in found]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise FitError(f"two fits would both be called {twice!r}; tell them apart by names=[…]")
    return dict(zip(labels, (one for _, one in found), strict=True))


def _scaled(fit: Any, table: pd.DataFrame, per: str) -> pd.DataFrame:
    """Return coefficients for one sd of each column, where that is wanted; the intercept stays as it is."""
    if per == "unit":
        return table
    sd = np.where(np.array(fit.spec.coefs) == "Intercept", 1.0, fit.design.X.std(axis=0, ddof=1))
    return table.assign(**{name: table[name] * sd for name in ("mean", "lower", "upper")})


def _lined_up(found: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is the same in several fits, such as x:z and z:x, the name that the first of them has for it."""
    labels: dict[str, str] = {}
    renamed = {}
    for fit, tables_of in found.items():
        keys = alike(tables_of[0].index)
        own = {name: labels.setdefault(key, name) for name, key in keys.items()}
        renamed[fit] = tuple(table.rename(index=own) for table in tables_of)
    return renamed


def _shown(found: Mapping[str, Any], keep: Any, drop_intercept: bool) -> list[str]:
    every = list(dict.fromkeys(coef for table, _ in found.values() for coef in table.index))
    if keep is None:
        shown = [coef for coef in every if coef != "Intercept" or not drop_intercept]
    else:
        shown = list(dict.fromkeys([keep] if isinstance(keep, str) else keep))
        unknown = [coef for coef in shown if coef not in every]
        if unknown:
            raise FitError(f"there is no coefficient {unknown[0]!r}; there are: {', '.join(every)}")
    if not shown:
        raise FitError("there is no coefficient but the intercept; drop_intercept=False shows it")
    return shown


def _entry(color: str, marker: str, name: str) -> tuple[Any, str]:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, marker=marker, ms=5, lw=1.6), name
