"""Tables and draws come in; marks on axes go out: rows of intervals, kernel densities, points of the data."""

from typing import Any

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results.plot_style import INK, size_of

Array = np.ndarray

# Points on paper below which a row of a horizontal plot holds no marker of its own.
DENSE = 9
# Inches of a figure below which words above and below the axes take further lines.
NARROW = 5
# Points of a cell of a grid that words in several lines take above and below the axes.
AROUND = 125


def height_of_rows(rows: int, named: int = 60) -> float:
    """Return the inches that a horizontal plot of some rows wants; rows without names are narrower."""
    return max(2.4, 1.2 + (0.17 if rows <= 30 else 0.14) * rows) if rows <= named else 7.0


def row_height(ax: Any, rows: int) -> float:
    """Return the points on paper that each of some rows of a horizontal plot has."""
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    (across, height), own = figure.get_size_inches(), size_of(ax)[1]
    if len(figure.axes) > 1 and spec is not None:
        # a layout gives each cell its share, whichever plots are drawn already
        ratios = spec.get_gridspec().get_height_ratios()
        share = sum(ratios[row] for row in spec.rowspan) / sum(ratios)
        cell = 72 * share * ax.figure.bbox.height / ax.figure.dpi
        own = min(own, max(cell - AROUND, 0.3 * cell))
    elif len(figure.axes) == 1 and figure.get_layout_engine() is not None:
        # an inch goes to the title, the legend and the label of the x axis; more where these take further lines
        own = 72 * (height - (1.0 if across >= NARROW else 1.5))
    return float(own / (rows + 0.6))


def summary(draws: Array, prob: float, index: Any = None) -> pd.DataFrame:
    """Return ``mean``, ``lower`` and ``upper`` of draws (S, K), a row for each column."""
    lower, upper = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2], axis=0)
    return pd.DataFrame({"mean": draws.mean(axis=0), "lower": lower, "upper": upper}, index=index)


def intervals(
    ax: Any, place: Array, table: pd.DataFrame, half: pd.DataFrame, color: str, marker: str = "o", room: float = 16
) -> None:
    """Draw rows of a table: a thin line for each interval, a thick one for its middle half, a marker at the mean.

    Parameters
    ----------
    place : where on the y axis each row stands
    table, half : with ``lower`` and ``upper`` of the interval, and of that of probability 0.5; ``mean`` of the first
    room : points that a row has on paper, to which lines and markers are fitted
    """
    dense = room < DENSE
    thin, thick = np.clip(0.12 * room, 0.5, 1.2), np.clip(0.34 * room, 0.9, 3.4)
    ax.hlines(place, table["lower"], table["upper"], color=lighter(color) if dense else color, lw=thin, zorder=2)
    ax.hlines(place, half["lower"], half["upper"], color=color, lw=thick, zorder=3)
    size = (np.clip(0.32 * room, 0.9, 2.4) if dense else np.clip(0.4 * room, 3.6, 5.6)) ** 2
    edge = {"facecolor": "white", "lw": 0} if dense else {"facecolor": color, "edgecolor": "white", "lw": size / 45}
    ax.scatter(table["mean"], place, s=size, marker=marker, **edge, zorder=4)


def interval_entries(prob: float, color: str, marker: str | None = "o", room: float = 16) -> list[tuple[Any, str]]:
    """Return the legend's entries of `intervals`."""
    from matplotlib.lines import Line2D

    dense = room < DENSE
    dot = Line2D([], [], ls="", marker=marker, ms=4 if dense else 5, mec=color, mfc="white" if dense else color)
    return [
        *([(dot, "posterior mean")] if marker else []),
        (Line2D([], [], lw=3.2, color=color, solid_capstyle="butt"), "50 % interval"),
        (Line2D([], [], lw=1.2, color=lighter(color) if dense else color), f"{100 * prob:g} % interval"),
    ]


def lighter(color: str) -> str:
    """Return a colour halfway to white."""
    parts = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
    return "#" + "".join(f"{(part + 255) // 2:02x}" for part in parts)


def faint(points: int) -> float:
    """Return how opaque so many points of the data are drawn."""
    return float(np.clip(60 / max(points, 1), 0.12, 0.5))


def data_entry() -> Any:
    """Return the legend's handle of points of the data."""
    from matplotlib.lines import Line2D

    return Line2D([], [], ls="", marker="o", ms=3.5, color=INK, alpha=0.4, mew=0)


def density(
    x: Array, low: float = -np.inf, high: float = np.inf, window: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[Array, Array]:
    """Return places (m,) within a window and a kernel density there, reflected at bounds that the draws come near.

    Draws are counted in bins a quarter of the bandwidth wide, and the counts smoothed by a normal kernel (Silverman's
    rule, 1986, equation 3.31).

    Raises
    ------
    FitError
        For draws that are all the same.
    """
    spread = min(x.std(), float(np.subtract(*np.quantile(x, [0.75, 0.25]))) / 1.34) or x.std()
    if not spread > 0:
        raise FitError("values that are all the same have no density")
    h = 1.06 * spread * len(x) ** -0.2
    ends = max(x.min() - 3 * h, low, window[0] - 4 * h), min(x.max() + 3 * h, high, window[1] + 4 * h)
    counts, edges = np.histogram(x, bins=int(np.clip(4 * (ends[1] - ends[0]) / h, 64, 4096)), range=ends)
    step = edges[1] - edges[0]
    reach = max(int(np.ceil(4 * h / step)), 1)
    padded = counts.astype(float)
    for side, bound in enumerate((low, high)):
        width = (reach, 0) if side == 0 else (0, reach)
        padded = np.pad(padded, width, mode="symmetric") if ends[side] == bound else np.pad(padded, width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / h) ** 2)
    return (edges[1:] + edges[:-1]) / 2, np.convolve(padded, kernel / kernel.sum(), "valid") / (len(x) * step)
