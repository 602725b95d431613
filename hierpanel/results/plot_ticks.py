"""Axes, and what stands along them, come in; ticks that can be read go out: names, numbers, dates."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hierpanel.results.plot_marks import row_height
from hierpanel.results.plot_style import LEGEND, TICK, cell_of, size_of, width_of, written
from hierpanel.results.plot_text import LINE_HEIGHT, fitted, plain, shortened, width, wrapped

Array = np.ndarray

# Size of the smallest letters that can be read, and the share of a plot's width that its rows' names may take.
SMALLEST, NAMES = 5, 0.4


def level_ticks(ax: Any, labels: Sequence[Any], most: int = 60) -> bool:
    """Name the rows of a horizontal plot, from below, and return whether they could be.

    More than `most` names could not be read and are left out, and so are those for which rows are too low.
    """
    number = len(labels)
    size = min(TICK if number <= 25 else 7, row_height(ax, number) / LINE_HEIGHT)
    named = number <= most and size >= SMALLEST
    names = fitted([str(label) for label in labels], NAMES * cell_of(ax), size) if named else []
    ax.set_yticks(np.arange(len(names)), [plain(name) for name in names])
    ax.set_ylim(-0.8, number - 0.2)
    ax.tick_params(axis="y", length=0, labelsize=size)
    return named


def category_ticks(ax: Any, labels: Sequence[Any]) -> None:
    """Name places 0, 1, … on the x axis: in lines, slanted or upright where they would touch."""
    texts = shortened([str(label) for label in labels])
    pitch = width_of(ax) / max(len(texts) + 0.2, 1)
    room, size = pitch - TICK, float(TICK)
    style: dict[str, Any] = {}
    if max((width(text, size) for text in texts), default=0) > room:
        longest = max(width(word, size) for text in texts for word in text.split())
        lines = [wrapped(text, room, size) for text in texts] if longest <= room else []
        if lines and max(text.count("\n") for text in lines) < 2:
            texts = lines
        else:
            is_dense = pitch * np.sin(np.deg2rad(35)) < LINE_HEIGHT * size
            size = float(np.clip(pitch / LINE_HEIGHT, SMALLEST, size)) if is_dense else size
            style = {"rotation": 90 if is_dense else 35, "rotation_mode": "anchor", "ha": "right"}
            style |= {"va": "center"} if is_dense else {}
    ax.set_xticks(np.arange(len(texts)), [plain(text) for text in texts], **style)
    ax.tick_params(axis="x", labelsize=size)
    ax.set_xlim(-0.6, len(texts) - 0.4)


def few_ticks(ax: Any, most: int = 5, size: float = LEGEND) -> None:
    """Put so many ticks on the x axis, at most `most` steps, that their labels cannot touch."""
    from matplotlib.ticker import MaxNLocator

    room, (low, high) = size_of(ax)[0], ax.get_xlim()
    for bins in range(most, 1, -1):
        locator = MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10])
        places = np.asarray(locator.tick_values(low, high))
        widest = max(width(text, size) for text in written(places, places))
        if widest + size < room * (places[1] - places[0]) / (high - low):
            break
    ax.xaxis.set_major_locator(locator)


def axis_ticks(axis: Any, values: Any) -> None:
    """Put ticks at whole numbers only, where the values are such, and write dates without repeating themselves."""
    from matplotlib import dates
    from matplotlib.ticker import MaxNLocator

    kind = np.asarray(values).dtype.kind
    if kind in "iub":
        axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))
    if kind == "M":
        untyped: Any = dates
        locator = untyped.AutoDateLocator(maxticks=8)
        axis.set_major_locator(locator)
        axis.set_major_formatter(untyped.ConciseDateFormatter(locator))
