"""Labels come in; the visual language of the plots goes out: colours, axes, titles, legends, ticks.

Observations are ink, own estimates orange, posteriors blue, the population red. Where several things of one kind stand
side by side they take `PALETTE` in its order, which stays apart for colour-blind readers and in print, and `MARKERS`.
Titles and legends stand above the axes, where no data can be.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from hierpanel.errors import FitError
from hierpanel.formula import syntax
from hierpanel.results.plot_text import LINE_HEIGHT, fitted, plain, width, wrapped

Array = np.ndarray

INK, RAW, POOLED, LINE = "#222222", "#d9822b", "#2b6ca3", "#b03a2e"
PALETTE = (POOLED, RAW, "#35b597", "#9b2d5e", "#4a2d12", "#a3d0f0")
MARKERS = ("o", "s", "^", "D", "v", "P")
# Of what has an order, from little to much.
ORDERED = ("#a9cce8", "#7eb0d8", "#4f90c2", "#2b6ca3", "#17497a", "#0a2a4d")
QUIET = "0.45"

LABEL, TICK, LEGEND, TITLE = 10, 9, 8, 11
# Of every legend that stands above.
PLAIN: dict[str, Any] = {"frameon": False, "fontsize": LEGEND, "borderpad": 0, "handletextpad": 0.5}
# Points that words have along axes of any size, and those of a legend's entry beside its label.
LEAST_ROOM, HANDLE = 100, 30
# Points below axes for their numbers and label, so far as a label beside them may reach.
BELOW = 25
# Inches above panels that a new figure has for its title and legend.
HEADING = 0.7
# Powers of ten between which numbers are written out.
POWERS = (-4, 6)


def new_axes(ax: Any, width: float, height: float) -> Any:
    """Return the axes that were given, or those of a new figure of a width and height in inches."""
    import matplotlib.pyplot as plt

    if ax is not None:
        if not hasattr(ax, "plot"):
            raise FitError(f"ax= is a matplotlib Axes, as plt.subplots() gives, not a {type(ax).__name__}")
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def new_panels(axes: Any, number: int, height: float, columns: int = 3, width: float = 7.5) -> Array:
    """Return axes (number,): those that were given, or panels in rows of a new figure.

    Raises
    ------
    FitError
        For another number of axes than there are panels.
    """
    import matplotlib.pyplot as plt

    if axes is not None:
        given = np.ravel(np.asarray(axes, dtype=object))
        if len(given) != number:
            raise FitError(f"there are {number} panels and {len(given)} axes; give as many, or none")
        return given
    columns = min(columns, number)
    rows = -(-number // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(max(width * columns / 3, 4.0), height * rows + HEADING),
        squeeze=False,
        layout="constrained",
    )
    engine: Any = figure.get_layout_engine()
    engine.set(h_pad=0.08, w_pad=0.08)
    for spare in grid.flat[number:]:
        spare.remove()
    return np.asarray(grid.flat[:number], dtype=object)


def finish(
    ax: Any,
    title: str,
    xlabel: str,
    ylabel: str,
    entries: Sequence[tuple[Any, str]] = (),
    subtitle: str = "",
) -> None:
    """Label axes: title, subtitle and legend stand above them in that order, frames are taken away.

    Parameters
    ----------
    entries : (handle, label) of the legend
    """
    ax.set_ylabel(plain(ylabel), fontsize=LABEL)
    room = max(width_of(ax), LEAST_ROOM)
    above = 8.0
    if entries:
        above += 13 * legend_above(ax, entries, room)
    if subtitle:
        lines = wrapped(subtitle, room, LEGEND)
        at = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
        ax.annotate(
            plain(lines), xytext=(0, above - 3), **at, fontsize=LEGEND, color=QUIET, va="bottom", annotation_clip=False
        )
        above += 12 * (lines.count("\n") + 1)
    title, xlabel = wrapped(title, room, TITLE), wrapped(xlabel, room, LABEL)
    ax.set_title(plain(title), fontsize=TITLE, loc="left", pad=above)
    ax.set_xlabel(plain(xlabel), fontsize=LABEL)
    # a layout that is kept takes the room of all this from the axes
    taken = above + LINE_HEIGHT * (TITLE * (title.count("\n") + 1) + LABEL * (xlabel.count("\n") + 1))
    height = size_of(ax)[1] - (taken if ax.get_figure(root=True).get_layout_engine() is not None else 0)
    ax.set_ylabel(plain(wrapped(ylabel, max(height + 2 * BELOW, LEAST_ROOM), LABEL)), fontsize=LABEL)
    bare(ax)


def width_of(ax: Any) -> float:
    """Return the points on paper that axes are wide, once the figure's layout is done."""
    figure = ax.get_figure(root=True)
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        return size_of(ax)[0]
    # names of ticks that stand out of a cell take room from its axes when tight_layout() is called
    names = ax.yaxis.get_tightbbox()
    beside = 0.0 if names is None else (ax.bbox.x0 - names.x0) * 72 / ax.figure.dpi
    return min(size_of(ax)[0], cell_of(ax) - beside)


def cell_of(ax: Any) -> float:
    """Return about how many points on paper a figure has for axes and what stands beside them."""
    spec = ax.get_subplotspec()
    if spec is None:
        return size_of(ax)[0]
    return float(spec.get_position(ax.figure).width / 0.8 * ax.figure.bbox.width * 72 / ax.figure.dpi)


def size_of(ax: Any) -> tuple[float, float]:
    """Return the width and height of axes in points on paper, as they stand now."""
    points = 72 / ax.figure.dpi
    return float(ax.bbox.width * points), float(ax.bbox.height * points)


def bare(ax: Any, size: int = TICK) -> None:
    """Take the frame's upper and right side away, and write powers of ten beside numbers, not at the axes' ends."""
    from matplotlib.ticker import FuncFormatter, ScalarFormatter

    ax.spines[["top", "right"]].set_visible(False)
    for axis in (ax.xaxis, ax.yaxis):
        # names have the size that fits them
        if not isinstance(axis.get_major_formatter(), FuncFormatter):
            axis.set_tick_params(labelsize=size)
        if type(axis.get_major_formatter()) is ScalarFormatter:
            axis.set_major_formatter(_number_format()())


@cache
def _number_format() -> Any:
    """Return a class that formats numbers such as 2.5e7 in full; matplotlib puts the power where titles stand."""
    from matplotlib.ticker import Formatter

    class NumberFormat(Formatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:.4g}"

        def format_ticks(self, values: Any) -> list[str]:
            return written(np.asarray(values), np.asarray(values)) if len(values) else []

    return NumberFormat


def number(value: float) -> str:
    """Write one number in few digits, years and the like in full."""
    text = f"{value:g}"
    if len(text) > 6:
        text = f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
    return text


def written(numbers: Array, ticks: Array) -> list[str]:
    """Write numbers with so many digits as some ticks need, and with a power of ten where those are large or small."""
    largest = np.abs(ticks).max()
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    power = 0 if POWERS[0] <= power < POWERS[1] else power
    ticks = np.unique(ticks) / 10.0**power
    step = np.diff(ticks).min() if len(ticks) > 1 else 1.0
    digits = next(d for d in range(20) if np.abs(ticks - ticks.round(d)).max() < 1e-3 * step)
    texts = [f"{number / 10.0**power:.{digits}f}".replace("-", "−") for number in numbers]
    return [f"{text}e{power}" if power and number else text for text, number in zip(texts, numbers, strict=True)]


def legend_above(ax: Any, entries: Sequence[tuple[Any, str]], room: float) -> int:
    """Put a legend above the axes, in as many columns as fit into `room` points; return its rows."""
    labels = fitted([label for _, label in entries], room - HANDLE, LEGEND, longest=60)
    columns = columns_of(labels, room)
    ax.legend(
        [handle for handle, _ in entries],
        [plain(label) for label in labels],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        ncols=columns,
        columnspacing=1.2,
        **PLAIN,
    )
    return -(-len(labels) // columns)


def columns_of(labels: Sequence[str], room: float) -> int:
    """Return in how many columns a legend's labels, which fill one after the other, fit into `room` points."""
    widths = np.array([width(label, LEGEND) + HANDLE for label in labels])
    fits = (k for k in range(len(widths), 1, -1) if sum(part.max() for part in np.array_split(widths, k)) <= room)
    return next(fits, 1)


def finish_panels(axes: Array, given: Any, title: str, entries: Sequence[tuple[Any, str]], subtitle: str = "") -> None:
    """Title panels and give them one legend: above all of a new figure, beside the last of axes that were given."""
    handles, labels = [handle for handle, _ in entries], [plain(label) for _, label in entries]
    if given is not None:
        if entries:
            beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1), "borderaxespad": 0.3}
            axes[-1].legend(handles, labels, **beside, frameon=False, fontsize=LEGEND, handletextpad=0.5)
        return
    figure = axes[0].figure
    across, height = figure.get_size_inches()
    left, room = 0.1 / across, 72 * (across - 0.2)
    title, subtitle = wrapped(title, room, TITLE), wrapped(subtitle, room, LEGEND)
    columns = columns_of([label for _, label in entries], room)
    below_title = 0.06 + 0.2 * (title.count("\n") + 1)
    above_legend = below_title + (0.15 * (subtitle.count("\n") + 1) if subtitle else 0)
    heading = above_legend + 0.18 * -(-len(labels) // columns) + 0.04
    # what does not fit above the panels is added to the figure
    height += max(heading - HEADING, 0)
    figure.set_size_inches(across, height)
    words = {"va": "top", "in_layout": False}
    figure.text(left, 1 - 0.06 / height, plain(title), fontsize=TITLE, **words)
    if subtitle:
        figure.text(left, 1 - below_title / height, plain(subtitle), fontsize=LEGEND, color=QUIET, **words)
    if entries:
        legend = figure.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(left, 1 - (above_legend + 0.02) / height),
            borderaxespad=0,
            ncols=columns,
            columnspacing=1.4,
            **PLAIN,
        )
        legend.set_in_layout(False)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - heading / height))


def colors(number: int, is_ordered: bool) -> list[str]:
    """Return a colour for each of some things: shades of one where they have an order."""
    if is_ordered:
        return [ORDERED[k] for k in np.linspace(len(ORDERED) - 1 if number == 1 else 1, 5, number).round().astype(int)]
    return [PALETTE[k % len(PALETTE)] for k in range(number)]


def response_of(fit: Any) -> str:
    """Name the response: of ``prop(successes, trials)`` the successes."""
    if not fit.spec.family.counts_trials:
        return str(fit.design.response)
    tree = syntax.parse_tree(fit.spec.formula.response)
    return syntax.unparse(tree.args[0]) if type(tree).__name__ == "Call" and tree.args else str(fit.design.response)


def scale_of(fit: Any) -> str:
    """Name the scale on which coefficients act: the response, or its link."""
    link = fit.spec.family.link.name
    return response_of(fit) if link == "identity" else f"{link} of {response_of(fit)}"


def unit_of(fit: Any, coef: str) -> str:
    """Say what a coefficient is measured in, such as "log_wage per unit of experience"; of a level, the response's."""
    return scale_of(fit) if coef == "Intercept" or coef.endswith("]") else f"{scale_of(fit)} per unit of {coef}"
