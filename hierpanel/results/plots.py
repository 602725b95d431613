"""A `Fit` comes in, matplotlib axes go out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hierpanel.errors import FitError
from hierpanel.results import unpooled

INK, RAW, POOLED, LINE = "#222222", "#d9822b", "#2b6ca3", "#b03a2e"


@dataclass(frozen=True)
class Plots:
    """Plots of one fit, each drawn on matplotlib axes that are returned."""

    fit: Any

    def shrinkage(self, group: str, coef: str | None = None, ax: Any = None, max_units: int = 60) -> Any:
        """Show how far partial pooling moves each unit: an arrow from its own estimate to its posterior mean.

        A unit's own estimate is least squares on its rows alone, with what the model says of everything else taken off;
        for a varying intercept alone that is the mean of its rows. Circles grow with the unit's rows. Units whose rows
        cannot tell (too few for a slope, all 0 or all 1) are left out.

        Parameters
        ----------
        group : grouping factor
        coef : column that varies by it; its first unless given
        ax : matplotlib axes to draw on; new ones unless given
        max_units : units shown; above that, evenly spaced ones in the order of their own estimates

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        FitError
            For a column that does not vary by the factor, and where no unit has an estimate of its own.
        """
        if not isinstance(max_units, int) or max_units < 1:
            raise FitError(f"max_units must be a whole number of at least 1, not {max_units!r}")
        import matplotlib.pyplot as plt

        coef = self.fit.design.group(group).coefs[0] if coef is None else coef
        table = unpooled.shrinkage(self.fit, group, coef).sort_values("own")
        estimated = int(table["own"].notna().sum())
        if estimated == 0:
            raise FitError(f"no {group} has rows enough for an estimate of {coef} of its own: there is nothing to show")
        shown = table.iloc[
            np.unique(np.linspace(0, max(estimated - 1, 0), min(max_units, estimated)).round().astype(int))
        ]
        if ax is None:
            _, ax = plt.subplots(figsize=(7.5, max(2.8, 1.2 + 0.17 * len(shown))), layout="constrained")
        place = np.arange(len(shown))
        own, pooled = shown["own"].to_numpy(), shown["pooled"].to_numpy()
        rows = shown["rows"].to_numpy(dtype=float)
        span = np.ptp([own, pooled]) + abs(shown.attrs["population"] - own.mean())
        for y, start, end in zip(place, own, pooled, strict=True):
            # the head of a short arrow would be wider than its length, and show on the wrong side of the markers
            style = "->" if abs(end - start) > 0.02 * span else "-"
            arrow = {"arrowstyle": style, "color": "0.6", "lw": 0.9}
            ax.annotate("", xy=(end, y), xytext=(start, y), arrowprops=arrow, zorder=2)
        size = 14 + 56 * rows / rows.max()
        ax.scatter(own, place, s=size, color=RAW, alpha=0.85, lw=0, zorder=3, label="own estimate (size: rows)")
        ax.scatter(pooled, place, s=26, color=POOLED, marker="s", lw=0, zorder=4, label="posterior mean")
        ax.axvline(shown.attrs["population"], color=LINE, lw=1.2, ls="--", zorder=1, label="population")
        labels = [text if len(text) <= 28 else f"{text[:14]}…{text[-13:]}" for text in map(str, shown.index)]
        ax.set_yticks(place, labels, fontsize=7 if len(shown) > 25 else 9)
        ax.set_ylim(-0.8, len(shown) - 0.2)
        ax.margins(x=0.04)
        count = f"{len(shown)} of {len(table):,}" if len(shown) < len(table) else f"{len(table):,}"
        ax.set_ylabel(f"{group} ({count})")
        ax.set_xlabel(shown.attrs["xlabel"])
        ax.set_title(f"Shrinkage of {coef} by {group}", fontsize=11, loc="left", pad=22)
        # above the axes, where no unit can be
        place_above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": 3}
        ax.legend(**place_above, frameon=False, fontsize=8, borderpad=0, handletextpad=0.3, columnspacing=1.2)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
        return ax
