"""A `Fit` comes in; axes go out with its responses beside responses that its posterior predicts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError, check_whole
from hierpanel.results import plot_grid as grids
from hierpanel.results import plot_marks as marks
from hierpanel.results import plot_style as style
from hierpanel.results import plot_ticks as ticks
from hierpanel.results.plot_style import INK, LEGEND, POOLED
from hierpanel.results.plot_text import fitted, plain, wrapped
from hierpanel.results.predict import Predictor, of_design
from hierpanel.results.thinning import evenly
from hierpanel.spec import Rows

Array = np.ndarray

# Replicated data sets that are drawn, and of which a statistic or a count is taken.
LINES, SETS = 50, 500
# Panels, bars, and points of a distribution function.
PANELS, BARS, POINTS = 12, 40, 400
# Numbers (rows × draws) at which statistics and counts make do with fewer draws.
MOST = 20_000_000
# Of rows (S, n), one number for each of S.
STATISTICS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda y: y.mean(axis=1),
    "sd": lambda y: y.std(axis=1, ddof=1) if y.shape[1] > 1 else np.full(len(y), np.nan),
    "median": lambda y: np.median(y, axis=1),
    "min": lambda y: y.min(axis=1),
    "max": lambda y: y.max(axis=1),
    "zeros": lambda y: (y == 0).mean(axis=1),
}


def ppc(fit: Any, kind: str | None, draws: int | None, stat: Any, by: str | None, ax: Any) -> Any:
    """Draw a posterior predictive check; see `Plots.ppc`."""
    discrete = not fit.spec.family.location
    kind = kind or ("bars" if discrete else "density")
    if kind not in ("density", "ecdf", "bars", "stat"):
        raise FitError(f"kind is 'density', 'ecdf', 'bars' or 'stat', not {kind!r}")
    if kind == "density" and discrete:
        raise FitError(f"a {fit.spec.family.name} response has no density; kind='bars' or kind='ecdf' shows it")
    if kind == "bars" and not discrete:
        raise FitError(f"a {fit.spec.family.name} response is no count; kind='density' or kind='ecdf' shows it")
    if draws is not None:
        check_whole("draws", draws, 1)
    name, statistic = _statistic(stat)
    codes, levels = _parts(fit, by)
    if kind != "stat" and len(levels) > PANELS:
        raise FitError(f"{by} has {len(levels)} values, and there is room for {PANELS}; kind='stat' shows them all")
    y = fit.design.y
    sets = LINES if kind in ("density", "ecdf") else int(np.clip(MOST // len(y), LINES, SETS))
    replicated = replicates(fit, draws or sets)
    if kind == "stat":
        if by is None:
            return _statistic_of_all(fit, y, replicated, name, statistic, ax)
        return _statistic_by(fit, y, replicated, codes, levels, name, statistic, by, ax)
    response = style.response_of(fit)
    title, ylabel = f"Posterior predictive check: {response}", _ylabel(fit, kind)
    if by is None:
        ax = style.new_axes(ax, 6.0, 3.8)
        style.finish(ax, title, response, ylabel, _panel(ax, kind, fit, y, replicated))
        return ax
    axes = style.new_panels(ax, len(levels), 1.8)
    titles = fitted([f"{by} = {level}" for level in levels], 0.8 * style.cell_of(axes[0]), style.TICK)
    for k, one in enumerate(axes):
        entries = _panel(one, kind, fit, y[codes == k], replicated[:, codes == k])
        _limits(one, y, replicated)
        one.set_title(plain(titles[k]), fontsize=style.TICK, loc="left")
        style.bare(one, LEGEND)
        if ax is not None or k >= len(levels) - min(3, len(levels)):
            one.set_xlabel(plain(wrapped(response, style.size_of(one)[0], LEGEND)), fontsize=LEGEND)
    axes[0].set_ylabel(ylabel, fontsize=LEGEND)
    style.finish_panels(axes, ax, f"{title}, by {by}", entries)
    return axes


def replicates(fit: Any, draws: int) -> Array:
    """Return responses (draws, n) that the posterior predicts for the rows of the fit, from evenly spaced draws.

    They are those of ``fit.predict(kind="response")`` in distribution; drawn for many rows at once, they are faster
    than those, each row of which has a stream of its own.
    """
    some = thinned(fit, draws)
    family, rows = some.spec.family, of_design(some.design)
    predictor, rng = Predictor(some, rows, "error"), np.random.default_rng(0)
    parameters = {name: some.draws(name).reshape(-1) for name in some.spec.parameters}
    found = np.empty((predictor.size, len(rows.X)))
    for places, eta in predictor.chunks():
        weights, trials = (None if v is None else v[places, None] for v in (rows.weights, rows.trials))
        found[:, places] = family.draw(rng, family.link, eta, parameters, Rows(np.empty(0), weights, trials)).T
    kept: Array = found[evenly(len(found), draws)]
    return kept


def thinned(fit: Any, draws: int) -> Any:
    """Return the fit with at least so many of its draws, evenly spaced in every chain."""
    import xarray as xr

    chains, length = fit.effects.lead
    keep = evenly(length, -(-draws // chains))
    groups = {name: node.to_dataset() for name, node in fit.idata.children.items()}
    found = {name: part.isel(draw=keep) if "draw" in part.dims else part for name, part in groups.items()}
    return replace(fit, idata=xr.DataTree.from_dict(found))


def _statistic(stat: Any) -> tuple[str, Callable[[Array], Array]]:
    """Return a statistic's name, and what gives it for rows (S, n)."""
    if isinstance(stat, str) and stat in STATISTICS:
        return stat, STATISTICS[stat]
    if not callable(stat):
        raise FitError(
            f"stat is a function of the responses, or one of {', '.join(map(repr, STATISTICS))}, not {stat!r}"
        )

    def one_by_one(rows: Array) -> Array:
        try:
            return np.array([float(stat(row)) for row in rows])
        except (TypeError, ValueError) as error:
            raise FitError(f"stat= must give one number for the responses: {error}") from error

    return str(getattr(stat, "__name__", "statistic")).replace("<lambda>", "statistic"), one_by_one


def _parts(fit: Any, by: str | None) -> tuple[Array, list[Any]]:
    """Return which part each row belongs to, and the parts' names."""
    if by is None:
        return np.zeros(fit.design.n, dtype=int), [None]
    for group in fit.design.groups:
        if group.name == by:
            return group.codes, list(group.levels)
    table = grids.rows_of(fit)
    if by not in table.columns:
        raise FitError(
            f"by= is a grouping factor or a column of the model, not {by!r}; there are: {', '.join(table.columns)}"
        )
    codes, levels = pd.factorize(table[by], sort=True)
    return codes, list(levels)


def _panel(ax: Any, kind: str, fit: Any, y: Array, replicated: Array) -> list[tuple[Any, str]]:
    """Draw one kind of check; return the legend's entries."""
    if kind == "density":
        return _density(ax, y, replicated)
    if kind == "ecdf":
        return _ecdf(ax, y, replicated, not fit.spec.family.location)
    return _bars(ax, y, replicated, fit.spec.family.link.name == "log")


def _density(ax: Any, y: Array, replicated: Array) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    alpha = float(np.clip(12 / len(replicated), 0.08, 0.6))
    _limits(ax, y, replicated)
    for row in replicated:
        ax.plot(*marks.density(row, window=ax.get_xlim()), color=POOLED, lw=0.8, alpha=alpha, zorder=2)
    ax.plot(*marks.density(y), color=INK, lw=1.8, zorder=3)
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    return _line_entries(len(replicated), Line2D)


def _ecdf(ax: Any, y: Array, replicated: Array, discrete: bool) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    everything = np.concatenate([y, replicated.ravel()])
    places = np.unique(everything) if discrete else np.empty(0)
    if not 0 < len(places) <= POINTS:
        places = np.unique(np.quantile(everything, np.linspace(0, 1, POINTS)))
    alpha = float(np.clip(12 / len(replicated), 0.08, 0.6))
    # from 0 up to the first share, and on beyond the last
    ends = np.array([places[0] - 1, *places, places[-1] + 1]) if discrete else places
    for row in replicated:
        ax.step(ends, _share(row, ends), where="post", color=POOLED, lw=0.8, alpha=alpha, zorder=2)
    ax.step(ends, _share(y, ends), where="post", color=INK, lw=1.8, zorder=3)
    _limits(ax, y, replicated)
    ticks.axis_ticks(ax.xaxis, y.astype(int) if discrete else y)
    ax.set_ylim(-0.02, 1.02)
    return _line_entries(len(replicated), Line2D)


def _share(values: Array, places: Array) -> Array:
    return np.searchsorted(np.sort(values), places, side="right") / len(values)


def _line_entries(number: int, line: Any) -> list[tuple[Any, str]]:
    return [
        (line([], [], color=INK, lw=1.8), "observed"),
        (line([], [], color=POOLED, lw=1.0, alpha=0.6), f"predicted ({number} draws)"),
    ]


def _limits(ax: Any, y: Array, replicated: Array) -> None:
    """Show all observations, and predictions but for the last thousandth on either side."""
    low, high = np.quantile(replicated, [0.001, 0.999])
    low, high = min(low, y.min()), max(high, y.max())
    room = max(0.03 * (high - low), 0.6 if np.all(y == np.floor(y)) else 0)
    ax.set_xlim(low - room, high + room)


def _bars(ax: Any, y: Array, replicated: Array, is_rooted: bool) -> list[tuple[Any, str]]:
    """Draw how many rows have each count; on a square-root scale where counts have no bound.

    Source of the scale: Kleiber and Zeileis (2016), Visualizing count data regressions using rootograms, The American
    Statistician 70(3).
    """
    low = int(min(y.min(), np.quantile(replicated, 0.001)))
    top = int(max(y.max(), np.quantile(replicated, 0.999)))
    width = -(-(top - low + 1) // BARS)
    edges = np.arange(low, top + width + 1, width) - 0.5
    place = (edges[1:] + edges[:-1]) / 2
    seen = np.histogram(y, edges)[0]
    counts = np.stack([np.histogram(row, edges)[0] for row in replicated])
    lower, upper = np.quantile(counts, [0.025, 0.975], axis=0)
    bars = ax.bar(place, seen, width=0.8 * width, color=INK, alpha=0.25, lw=0, zorder=1)
    lines = ax.vlines(place, lower, upper, color=POOLED, lw=1.6, zorder=2)
    dots = ax.scatter(place, counts.mean(axis=0), s=16, color=POOLED, edgecolor="white", lw=0.5, zorder=3)
    highest = float(max(seen.max(), upper.max()))
    if is_rooted:
        ax.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
        ax.set_yticks(square_ticks(highest, 1.5 * LEGEND / style.size_of(ax)[1]))
        ax.minorticks_off()
    ax.set_ylim(0, (1.12 if is_rooted else 1.06) * highest)
    _limits(ax, y, replicated)
    ticks.axis_ticks(ax.xaxis, y.astype(int))
    return [(bars, "observed"), (dots, "predicted mean"), (lines, "95 % interval")]


def square_ticks(highest: float, apart: float) -> list[float]:
    """Return round numbers about evenly spaced on a square-root scale, from 0; `apart`: a share of it, at the least."""
    wanted = np.linspace(0, np.sqrt(highest), 6)[1:] ** 2
    size = 10 ** np.floor(np.log10(np.maximum(wanted, 1)))
    found = [0.0]
    for tick in np.unique(np.maximum(np.floor(wanted / size), 1) * size).tolist():
        if np.sqrt(tick) - np.sqrt(found[-1]) >= apart * np.sqrt(highest):
            found.append(tick)
    return found


def _statistic_of_all(fit: Any, y: Array, replicated: Array, name: str, statistic: Any, ax: Any) -> Any:
    """Draw the distribution of a statistic that is predicted, and the one observed."""
    values, seen = statistic(replicated), float(statistic(y[None])[0])
    values = values[np.isfinite(values)]
    if not len(values) or not np.isfinite(seen):
        raise FitError(f"{name} gives no number for these responses")
    ax = style.new_axes(ax, 6.0, 3.8)
    if len(np.unique(values)) <= 30:
        places, counts = np.unique(values, return_counts=True)
        wide = 0.8 * (np.diff(places).min() if len(places) > 1 else 1.0)
        bars = ax.bar(places, counts, width=wide, color=POOLED, alpha=0.5, lw=0)
    else:
        bars = ax.hist(values, bins=min(30, int(np.sqrt(len(values)) * 1.5)), color=POOLED, alpha=0.5, lw=0)[2]
    line = ax.axvline(seen, color=INK, lw=1.8)
    ax.set_yticks([])
    share = float((values >= seen).mean())
    entries = [(line, f"observed, {style.number(seen)}"), (bars, f"predicted; {share:.2f} of them at or above")]
    what = _called(fit, name)
    style.finish(ax, f"Posterior predictive check: {what}", what, "draws", entries)
    return ax


def _statistic_by(
    fit: Any, y: Array, replicated: Array, codes: Array, levels: list[Any], name: str, statistic: Any, by: str, ax: Any
) -> Any:
    """Draw a statistic of each part, sorted, beside the interval that is predicted for it."""
    from matplotlib.lines import Line2D

    by_level = np.argsort(codes, kind="stable")
    parts = np.split(by_level, np.searchsorted(codes[by_level], np.arange(len(levels) + 1)))[1:-1]
    seen = np.array([statistic(y[None, rows])[0] for rows in parts])
    values = np.stack([statistic(replicated[:, rows]) for rows in parts])
    order = np.argsort(seen, kind="stable")
    order = order[np.isfinite(seen[order]) & np.isfinite(values[order]).all(axis=1)]
    if not len(order):
        raise FitError(f"{name} gives no number for any {by}: there is nothing to show")
    seen, values = seen[order], values[order]
    table, half = (marks.summary(values.T, prob) for prob in (0.95, 0.5))
    number = len(order)
    ax = style.new_axes(ax, 6.0, marks.height_of_rows(number))
    room = marks.row_height(ax, number)
    marks.intervals(ax, np.arange(number), table, half, POOLED, room=room)
    size = np.clip(0.4 * room, 1.5, 5) ** 2
    ax.scatter(seen, np.arange(number), s=size, color=INK, marker="D", lw=0, zorder=5)
    named = ticks.level_ticks(ax, [levels[k] for k in order])
    ax.margins(x=0.04)
    mean, *spread = marks.interval_entries(0.95, POOLED, room=room)
    observed = Line2D([], [], ls="", marker="D", ms=4.5, color=INK)
    entries = [(observed, "observed"), (mean[0], "predicted mean"), *spread]
    count = f"{by} ({number:,}{'' if named else ', sorted'})"
    what = _called(fit, name)
    style.finish(ax, f"Posterior predictive check: {what}, by {by}", what, count, entries)
    ticks.few_ticks(ax, most=9, size=style.TICK)
    return ax


def _called(fit: Any, name: str) -> str:
    return f"{'share of zeros' if name == 'zeros' else name} of {style.response_of(fit)}"


def _ylabel(fit: Any, kind: str) -> str:
    rooted = ", square-root scale" if fit.spec.family.link.name == "log" else ""
    return {"density": "density", "ecdf": "share of rows at or below", "bars": f"rows{rooted}"}[kind]
