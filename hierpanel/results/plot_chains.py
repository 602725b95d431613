"""A `Fit` comes in; axes go out with its parameters: prior beside posterior, and chain beside chain."""

import textwrap
from functools import cache
from typing import Any

import numpy as np

from hierpanel.errors import FitError
from hierpanel.inference.diagnostics import diagnose
from hierpanel.results import plot_marks as marks
from hierpanel.results import plot_style as style
from hierpanel.results import plot_ticks as ticks
from hierpanel.results.explain import prior_summary
from hierpanel.results.plot_parameters import Parameter, parameters
from hierpanel.results.plot_style import INK, LEGEND, LINE, POOLED, QUIET, TICK
from hierpanel.results.plot_text import fitted, plain, wrapped

Array = np.ndarray

# Places at which ranks are compared, and simulations of the envelope.
PLACES, SIMULATIONS = 100, 1000
# How far the upper end of a positive parameter is from its median, as a factor, before its axis is logarithmic.
HEAVY = 100


def prior_posterior(fit: Any, names: tuple[str, ...], axes: Any) -> Array:
    """Draw each parameter's prior and posterior density; see `Plots.prior_posterior`."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown, total = parameters(fit, names, "prior")
    refers = prior_summary(fit.spec, fit.design).table["refers_to"]
    panels = style.new_panels(axes, len(shown), 2.05)
    for ax, one in zip(panels, shown, strict=True):
        x, density = _posterior_density(one)
        low, high = _window(one, x)
        places = np.geomspace(low, high, 400) if _is_log(one) else np.linspace(low, high, 400)
        prior = prior_density(one, places)
        if _is_log(one):
            _log_axis(ax.xaxis)
            # of the logarithm, whose densities the posterior's is one of
            prior = None if prior is None else prior * places
        ax.fill_between(x, density, color=POOLED, alpha=0.25, lw=0, zorder=2)
        ax.plot(x, density, color=POOLED, lw=1.6, zorder=3)
        if prior is not None:
            ax.plot(places, prior, color=INK, lw=1.3, ls="--", zorder=4)
        ax.set_xlim(low, high)
        if not _is_log(one):
            ticks.few_ticks(ax)
        ax.set_ylim(0, 1.08 * max(density.max(), 0 if prior is None else min(prior.max(), 2 * density.max())))
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
    _name(panels, shown, [_described(one, refers) for one in shown])
    for ax, one in zip(panels, shown, strict=True):
        unit = f"{one.unit}, log scale" if _is_log(one) else one.unit
        ax.set_xlabel(plain(wrapped(unit, style.size_of(ax)[0], LEGEND)), fontsize=LEGEND)
    entries = [
        (Line2D([], [], color=INK, lw=1.3, ls="--"), "prior"),
        (Patch(facecolor=POOLED, alpha=0.4, edgecolor=POOLED), "posterior"),
    ]
    centred = fit.spec.is_centered or any(group.is_centered for group in fit.spec.groups)
    style.finish_panels(
        panels,
        axes,
        _title("Prior and posterior", shown, total),
        entries,
        "of centred columns, to which priors refer" if centred else "",
    )
    return panels


def trace(fit: Any, names: tuple[str, ...], axes: Any) -> Array:
    """Draw each parameter's chains, draw by draw; see `Plots.trace`."""
    from matplotlib.lines import Line2D

    shown, total = parameters(fit, names, "report")
    chains, length = fit.effects.lead
    stats = fit.idata["sample_stats"]
    diverging = (
        np.asarray(stats["diverging"].values) if "diverging" in stats.data_vars else np.zeros((chains, length), bool)
    )
    places = np.flatnonzero(diverging.any(axis=0))
    panels = style.new_panels(axes, len(shown), 1.65, columns=2, width=11.25)
    colors = style.colors(chains, False)
    for ax, one in zip(panels, shown, strict=True):
        for chain in range(chains):
            ax.plot(np.arange(length), one.draws[chain], color=colors[chain], lw=0.5, alpha=0.75, zorder=2)
        if len(places):
            ax.plot(
                places,
                np.zeros(len(places)),
                "|",
                color=LINE,
                ms=8,
                mew=1.1,
                transform=ax.get_xaxis_transform(),
                clip_on=False,
                zorder=4,
            )
        ax.set_xlim(0, max(length - 1, 1))
        if _is_log(one):
            _log_axis(ax.yaxis)
    _name(panels, shown, [f"{one.unit}; {_diagnosed(one)}".rstrip("; ") for one in shown])
    for ax in panels[-2:]:
        ax.set_xlabel("draw", fontsize=LEGEND)
    entries: list[tuple[Any, str]] = [
        (Line2D([], [], color=colors[k], lw=1.6), f"chain {k + 1}") for k in range(min(chains, 8))
    ]
    if len(places):
        entries.append(
            (Line2D([], [], ls="", marker="|", ms=8, mew=1.1, color=LINE), f"divergence ({int(diverging.sum())})")
        )
    style.finish_panels(panels, axes, _title("Chains", shown, total), entries)
    return panels


def rank(fit: Any, names: tuple[str, ...], axes: Any) -> Array:
    """Draw how far each chain's ranks are from even; see `Plots.rank`."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown, total = parameters(fit, names, "report")
    chains = fit.effects.lead[0]
    if chains < 2:
        raise FitError("ranks compare chains, and this fit has one; chains=4 gives four")
    panels = style.new_panels(axes, len(shown), 2.05)
    colors = style.colors(chains, False)
    for ax, one in zip(panels, shown, strict=True):
        draws = one.draws[:, :: _step(one.draws)]
        z, difference = rank_differences(draws)
        half = envelope(*draws.shape)
        ax.fill_between(z, -half, half, color="0.88", lw=0, zorder=1)
        for chain in range(chains):
            ax.plot(z, difference[chain], color=colors[chain], lw=1.2, zorder=2)
        reach = 1.15 * max(half.max(), np.abs(difference).max())
        ax.set_xlim(0, 1)
        ax.set_ylim(-reach, reach)
        ax.locator_params(axis="y", nbins=5)
    for ax in panels[-3:]:
        ax.set_xlabel("rank among all draws, as a share", fontsize=LEGEND)
    panels[0].set_ylabel("ECDF − uniform", fontsize=LEGEND)
    _name(panels, shown, [_diagnosed(one) for one in shown])
    entries: list[tuple[Any, str]] = [
        (Line2D([], [], color=colors[k], lw=1.4), f"chain {k + 1}") for k in range(min(chains, 8))
    ]
    entries.append((Patch(color="0.88", lw=0), "95 % band of chains that agree"))
    style.finish_panels(panels, axes, _title("Ranks of the chains", shown, total), entries)
    return panels


def rank_differences(draws: Array) -> tuple[Array, Array]:
    """Return places z (m,) in (0, 1) and, for each chain, the share of its draws of rank at most z, less z.

    Source: Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity, Statistics and Computing 32.
    """
    chains, length = draws.shape
    order = np.argsort(draws.ravel(), kind="stable")
    owner = np.repeat(np.arange(chains), length)[order]
    z, at = _places(chains * length)
    found = np.stack([np.cumsum(owner == chain)[at] / length - z for chain in range(chains)])
    return z, found


@cache
def envelope(chains: int, length: int) -> Array:
    """Return half the width (m,) of the band that holds all chains everywhere with probability 0.95, if they agree.

    A chain's count of the lowest ranks is hypergeometric; the band is a multiple of its sd, by simulation.
    """
    size = chains * length
    z, at = _places(size)
    sd = np.sqrt(z * (1 - z) / length * (size - length) / max(size - 1, 1))
    rng = np.random.default_rng(1)
    largest = np.empty(SIMULATIONS)
    owner = np.repeat(np.arange(chains, dtype=np.int16), length)
    for k in range(SIMULATIONS):
        mixed = rng.permutation(owner)
        ends = np.stack([np.cumsum(mixed == chain)[at] for chain in range(chains)]) / length - z
        largest[k] = np.abs(ends / sd).max()
    return np.asarray(np.quantile(largest, 0.95) * sd)


def _places(size: int) -> tuple[Array, Array]:
    at = np.unique(np.linspace(0, size - 1, min(size, PLACES + 1)).astype(int))[:-1]
    return (at + 1) / size, at


def _step(draws: Array) -> int:
    """By how much draws are thinned so that they are nearly independent."""
    bulk = float(diagnose(draws[..., None])[0][0])
    wanted = round(draws.size / max(bulk, 1.0)) if np.isfinite(bulk) else 1
    return int(np.clip(wanted, 1, max(draws.shape[1] // 20, 1)))


def _bounds(one: Parameter) -> tuple[float, float]:
    return {"beta": (-np.inf, np.inf), "b": (-np.inf, np.inf), "cor": (-1.0, 1.0)}.get(one.kind, (0.0, np.inf))


def _is_log(one: Parameter) -> bool:
    """Whether a parameter is positive, and its upper tail orders of magnitude long."""
    middle, upper = np.quantile(one.draws, [0.5, 0.995])
    return _bounds(one) == (0.0, np.inf) and bool(upper > HEAVY * middle > 0)


def _log_axis(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(numticks=4))
    axis.set_minor_locator(NullLocator())


def _posterior_density(one: Parameter) -> tuple[Array, Array]:
    """Return places and the density there, but for the far ends of heavy tails; of the logarithm on a log axis."""
    draws = one.draws.ravel()
    if _is_log(one):
        x, density = marks.density(np.log(np.maximum(draws, np.finfo(float).tiny)))
        return np.exp(x), density
    lower, upper = np.quantile(draws, [0.01, 0.99])
    return marks.density(draws, *_bounds(one), window=(2 * lower - upper, 2 * upper - lower))


def _window(one: Parameter, x: Array) -> tuple[float, float]:
    """Show the posterior, and as much around it that the prior's slope is seen."""
    low, high = x[0], x[-1]
    if _is_log(one):
        room = (high / low) ** 0.25
        return low / room, high * room
    width = high - low
    bound_low, bound_high = _bounds(one)
    return max(low - 0.75 * width, bound_low), min(high + 0.75 * width, bound_high)


def prior_density(one: Parameter, places: Array) -> Array | None:
    if one.prior is None or one.prior.name in ("Flat", "HalfFlat"):
        return None
    if one.kind == "cor":
        from scipy import special

        # of one entry of LKJ: (r + 1)/2 ~ Beta(a, a), a = eta - 1 + q/2 (Lewandowski et al., 2009)
        a = one.prior.values["eta"] - 1 + one.size / 2
        return np.asarray((1 - places**2) ** (a - 1) / 4 ** (a - 1) / (2 * special.beta(a, a)))
    return np.exp(one.prior.log_density(places))


def _described(one: Parameter, refers: Any) -> str:
    """Name a parameter's prior and the scale that it refers to."""
    where = str(refers.get(one.key, refers.get(one.key.split("[")[0], "")))
    if one.prior is None:
        return where
    where = textwrap.shorten(where, 60, placeholder=" …")
    flat = ", improper and not drawn" if one.prior.name in ("Flat", "HalfFlat") else ""
    return f"{one.prior}{flat}" + (f", {where}" if where else "")


def _diagnosed(one: Parameter) -> str:
    bulk, _, r_hat = (float(values[0]) for values in diagnose(one.draws[..., None]))
    known = [f"R̂ {r_hat:.3f}"] if np.isfinite(r_hat) else []
    return ", ".join(known + ([f"ESS {bulk:,.0f}"] if np.isfinite(bulk) else []))


def _name(panels: Array, shown: list[Parameter], says: list[str]) -> None:
    """Title panels, in at most two lines, with a line or two in grey below."""
    style.width_of(panels[0])  # the layout of all of them
    room = min(style.size_of(ax)[0] for ax in panels)
    keys = fitted([one.key for one in shown], 1.8 * room, TICK, longest=60)
    for ax, key, text in zip(panels, keys, says, strict=True):
        style.bare(ax, LEGEND)
        text = wrapped(text, room, LEGEND)
        lines = text.count("\n") + 1 if text else 0
        ax.set_title(plain(wrapped(key, room, TICK)), fontsize=TICK, loc="left", pad=4 + 11 * lines)
        if text:
            at = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
            ax.annotate(
                plain(text), xytext=(0, 3), **at, fontsize=LEGEND, color=QUIET, va="bottom", annotation_clip=False
            )


def _title(what: str, shown: list[Parameter], total: int) -> str:
    return what if len(shown) == total else f"{what}, {len(shown)} of {total} parameters"
