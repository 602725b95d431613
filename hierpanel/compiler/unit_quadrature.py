"""Units and the log density of rows given η come in; log densities of whole units go out, effects integrated out.

For a family without a closed form, the effects that lie within single units are integrated out at given values of all
else, by quadrature about their mode.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from hierpanel.compiler.unit_density import Units

Array = np.ndarray

# (n, P) linear predictors → (n, P) log densities of the rows
LogDensity = Callable[[Array], Array]

# Newton's steps to a mode: at most so many, the last one shorter than this in conditional sds.
STEPS, SHORTEST = 60, 1e-5


def integrated(
    units: Units,
    log_density: LogDensity,
    eta: Array,
    columns: Sequence[Array],
    levels: Sequence[int],
    step: Array,
    nodes: int,
) -> Array:
    """Return log ∫ Π p(y_i | η_i + Σ_c d_ic u_c) N(u; 0, I) du of each unit, (J, P), by quadrature, column by column.

    With u = mode + s sinh x and s² the inverse curvature given the columns after, the rule of equal steps in x is about
    as good as Gauss–Hermite's where the integrand is nearly Gaussian, and far better where its tails are heavy.

    Parameters
    ----------
    log_density : (n, P) linear predictors → log densities of the rows, in the units' order as all that follows
    eta : (n, P) what units share
    columns, levels : (n, P) d of each column, the finest factor's first; the place of its factor in the chain, from 1
    step : (P,) for differences of log densities
    nodes : for each column; 1 is exact for a Gaussian integrand
    """
    mode = _mode(units, log_density, eta, columns, levels, step)
    x, top = math.log(nodes) * np.linspace(-1.05, 1.05, nodes), len(units.starts)
    log_weights = np.log((x[1] - x[0]) * np.cosh(x)) - 0.5 * math.log(2 * math.pi) if nodes > 1 else np.zeros(1)

    def value(c: int, eta: Array, away: list[Array]) -> Array:
        """Integrate columns 0 … c, given how far those after them are from their modes."""
        if c < 0:
            return units.up(log_density(eta), 0, levels[0] if levels else top)
        best, _, pivot, *row = mode[c]
        moved = sum(
            (r * units.down(d, k, levels[c]) for r, d, k in zip(row, away, levels[c + 1 :], strict=True)), 0 * best
        )
        total = np.array(-np.inf)
        for point, log_weight in zip(np.sinh(x), log_weights, strict=True):
            u = best - moved / pivot + point / np.sqrt(pivot)
            at = eta + columns[c] * units.down(u, levels[c], 0)
            inner = units.up(value(c - 1, at, [u - best, *away]), levels[max(c - 1, 0)], levels[c])
            total = np.logaddexp(total, inner - u**2 / 2 + log_weight)
        return np.asarray(total - 0.5 * np.log(pivot))

    return units.up(value(len(columns) - 1, eta, []), levels[-1] if levels else top, top)


def _mode(
    units: Units, log_density: LogDensity, eta: Array, columns: Sequence[Array], levels: Sequence[int], step: Array
) -> list[list[Array]]:
    """Return for each column the mode of its u, Newton's next step, the pivot of its curvature, and the pivot's row."""
    top, shape = len(units.starts), (len(units.starts[-1]), eta.shape[1])
    size, highest = np.ones(shape), np.full(shape, -np.inf)
    state: list[list[Array]] = [[np.zeros((len(units.starts[k - 1]), shape[1]))] * 2 for k in levels]
    for number in range(STEPS if columns else 0):
        u = [one[0] + units.down(size, top, k) * one[1] for one, k in zip(state, levels, strict=True)]
        at = eta + sum(D * units.down(one, k, 0) for D, one, k in zip(columns, u, levels, strict=True))
        low, middle, high = (log_density(at + shift * step) for shift in (-1, 0, 1))
        curvature = np.maximum(2 * middle - low - high, 0) / step**2
        new = _newton(units, columns, levels, curvature, (high - low) / (2 * step), u)
        height = units.up(middle, 0, top) - sum(units.up(one**2, k, top) / 2 for one, k in zip(u, levels, strict=True))
        better = height >= highest if number else np.full(shape, True)
        for c, k in enumerate(levels):
            kept = units.down(better, top, k)
            state[c] = [np.where(kept, a, b) for a, b in zip(new[c], state[c], strict=True)] if number else new[c]
        size, highest = np.where(better, 1.0, size / 2), np.where(better, height, highest)
        left = [
            units.down(size, top, k) * np.abs(one[1]) * np.sqrt(one[2]) for one, k in zip(state, levels, strict=True)
        ]
        if max(one.max() for one in left) < SHORTEST:
            break
    return state


def _newton(
    units: Units, columns: Sequence[Array], levels: Sequence[int], weights: Array, slope: Array, u: Sequence[Array]
) -> list[list[Array]]:
    """Return for each column u, its step, the pivot of I + D'WD, eliminated from the finest up, and the pivot's row."""
    m, level = len(columns), 0
    H = {(c, d): weights * columns[c] * columns[d] for c in range(m) for d in range(c, m)}
    b = [D * slope for D in columns]
    for c, k in enumerate(levels):
        for d in range(c, m):
            b[d] = units.up(b[d], level, k)
            for e in range(d, m):
                H[d, e] = units.up(H[d, e], level, k)
        level, b[c], H[c, c] = k, b[c] - u[c], H[c, c] + 1
        for d in range(c + 1, m):
            b[d] = b[d] - H[c, d] * b[c] / H[c, c]
            for e in range(d, m):
                H[d, e] = H[d, e] - H[c, d] * H[c, e] / H[c, c]
    steps: list[Array] = []
    for c in reversed(range(m)):
        known = (H[c, c + 1 + d] * units.down(one, levels[c + 1 + d], levels[c]) for d, one in enumerate(steps))
        steps = [(b[c] - sum(known)) / H[c, c], *steps]
    return [[u[c], steps[c], H[c, c], *(H[c, d] for d in range(c + 1, m))] for c in range(m)]
