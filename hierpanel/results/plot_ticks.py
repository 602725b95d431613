"""Axes, and what stands along them, come in; ticks that can be read go out: names, numbers, dates."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hierpanel.results.plot_style import CHARACTER, LEGEND, TICK, plain, shorten, size_of, width_of, written

Array = np.ndarray


def level_ticks(ax: Any, labels: Sequence[Any], most: int = 60) -> None:
    """Name the rows of a horizontal plot, from below; more than `most` names could not be read and are left out."""
    number = len(labels)
    if number <= most:
        size = TICK if number <= 25 else 7
        ax.set_yticks(np.arange(number), [plain(shorten(str(label))) for label in labels], fontsize=size)
    else:
        ax.set_yticks([])
    ax.set_ylim(-0.8, number - 0.2)
    ax.tick_params(axis="y", length=0)


def category_ticks(ax: Any, labels: Sequence[Any]) -> None:
    """Name places 0, 1, … on the x axis, slanted where they would touch."""
    texts = [plain(shorten(str(label))) for label in labels]
    room = width_of(ax) / max(len(texts), 1)
    slanted = max(map(len, texts), default=0) * CHARACTER * TICK > room
    style: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    ax.set_xticks(np.arange(len(texts)), texts, **style)
    ax.set_xlim(-0.6, len(texts) - 0.4)


def few_ticks(ax: Any, low: float, high: float) -> None:
    """Put so many ticks on the x axis of a small panel that their labels cannot touch."""
    from matplotlib.ticker import MaxNLocator

    room = size_of(ax)[0]
    for bins in (5, 4, 3, 2):
        locator = MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10])
        places = np.asarray(locator.tick_values(low, high))
        widest = max(map(len, written(places, places)))
        if (widest + 2) * CHARACTER * LEGEND * len(places) < room:
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
