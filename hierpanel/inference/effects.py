"""A `Marginal` and draws of ψ and β come in; draws and exact moments of the group effects go out, as far as asked for.

Effects that are not stored are drawn again whenever they are wanted: every block of levels and of draws has a seed of
its own, so the same draws come back, whichever levels are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hierpanel.compiler.marginal import Conditional, Marginal
from hierpanel.compiler.totals import totals
from hierpanel.spec import ModelSpec

Array = np.ndarray

# Draws and levels that share a seed.
DRAWS, LEVELS = 500, 512


@dataclass(frozen=True)
class State:
    """Joint draws that effects are conditional on.

    psi : (S, d); beta_c : (S, p); effects : factor → (S, J, q) on the prior's scale, of the factors that are stored.
    seed : of the effects that are not.
    """

    psi: Array
    beta_c: Array
    effects: Mapping[str, Array]
    seed: int


def stored(marginal: Marginal, spec: ModelSpec, draws: int, megabytes: float) -> tuple[str, ...]:
    """Return the factors whose effects fit in memory as draws, those that are eliminated last first."""
    left, found = megabytes * 1e6, []
    sizes = {group.name: group.levels * len(group.coefs) for group in spec.groups}
    for name in reversed(marginal.names):
        left -= 8.0 * draws * sizes[name]
        if left < 0 and marginal.is_by_blocks(name):
            break
        found.append(name)
    return tuple(reversed(found))


def draw(marginal: Marginal, state: State, name: str, levels: slice) -> Array:
    """Draw a factor's effects (S, levels, q) on the prior's scale."""
    chunks = range(-(-len(state.psi) // DRAWS))
    return np.concatenate([_draw_chunk(marginal, state, name, levels, number) for number in chunks])


def moments(marginal: Marginal, state: State, name: str, levels: slice) -> tuple[Array, Array]:
    """Return the means (S, levels, q) and covariances (S, levels, q, q) of a factor's effects given each draw."""
    means, covariances = [], []
    for number in range(-(-len(state.psi) // DRAWS)):
        given = _conditional(marginal, state, name, levels, number)
        means.append(given.draw(np.zeros((len(given.mean), *given.mean[0].shape))).transpose(2, 1, 0))
        covariances.append(given.covariance().transpose(3, 2, 0, 1))
    return np.concatenate(means), np.concatenate(covariances)


def totals_of(marginal: Marginal, state: State, name: str, share: Array) -> tuple[Array, Array] | None:
    """Return draws (S,) of Σ share b and of Σ share b², without the effects b; None where that is dearer.

    The first is exact given ψ and β. The variance over the rows, Σ share b² - (Σ share b)², is drawn from the normal
    distribution that it has where levels are many.

    Parameters
    ----------
    share : (J,) the share of each level in the rows
    """
    later = marginal.later(name)
    found = totals(marginal, name, share) if all(other in state.effects for other in later) else None
    if found is None:
        return None
    parts = []
    for start in range(0, len(state.psi), DRAWS):
        points = slice(start, start + DRAWS)
        known = {other: state.effects[other][points] for other in later}
        parts.append(found.moments(state.psi[points], state.beta_c[points], known))
    mean, of_mean, spread, of_spread = (np.concatenate(part) for part in zip(*parts, strict=True))
    z = np.random.default_rng([state.seed, marginal.names.index(name)]).standard_normal((2, len(mean)))
    drawn = mean + np.sqrt(of_mean) * z[0]
    return drawn, drawn**2 + np.maximum(spread + np.sqrt(of_spread) * z[1], 0.0)


def _draw_chunk(marginal: Marginal, state: State, name: str, levels: slice, number: int) -> Array:
    """Draw effects (≤ DRAWS, levels, q) of one chunk of draws, in blocks of levels that have their own seeds."""
    place = marginal.names.index(name)
    J = marginal.plan.sizes[place][0]
    parts = []
    for block in range(levels.start // LEVELS, -(-levels.stop // LEVELS)):
        here = slice(block * LEVELS, min((block + 1) * LEVELS, J))
        given = _conditional(marginal, state, name, here, number)
        rng = np.random.default_rng([state.seed, place, block, number])
        b = given.draw(rng.standard_normal((len(given.mean), *given.mean[0].shape)))
        parts.append(b[:, max(levels.start - here.start, 0) : levels.stop - here.start].transpose(2, 1, 0))
    return np.concatenate(parts, axis=1)


def _conditional(marginal: Marginal, state: State, name: str, levels: slice, number: int) -> Conditional:
    points = slice(number * DRAWS, (number + 1) * DRAWS)
    known = {
        other: state.effects[other][points]
        if other in state.effects
        else _draw_chunk(marginal, state, other, slice(0, marginal.plan.sizes[marginal.names.index(other)][0]), number)
        for other in marginal.later(name)
    }
    return marginal.conditional(state.psi[points], state.beta_c[points], known, name, levels)
