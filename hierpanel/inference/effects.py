"""A `Marginal` and draws of ψ and β come in; draws and exact moments of the group effects go out, as far as asked for.

Effects that are not stored are drawn again whenever they are wanted: every block of levels and of draws has a seed of
its own, so the same draws come back, whichever levels are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hierpanel.compiler.marginal import Conditional, Marginal
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
