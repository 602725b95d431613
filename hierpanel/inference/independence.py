"""A log density of a few dimensions comes in; Markov chains from it go out, with the evidence and Pareto k̂.

The mode and curvature give a first proposal; a mixture of t distributions is adapted to importance-weighted points
until the weights are even; from then on it is fixed, and independence Metropolis chains propose from it. The
proposals' weights also give the normalising constant and its standard error.

Sources: Tierney (1994) for the chains; Cornuet, Marin, Mira and Robert (2012) for weights over all rounds; Vehtari,
Simpson, Gelman, Yao and Gabry (2024) for k̂.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hierpanel.errors import FitError
from hierpanel.inference import mixture
from hierpanel.inference.mixture import Mixture

Array = np.ndarray
LogDensity = Callable[[Array], Array]

# Adaptation ends when a round's effective share of its points reaches this, or after so many rounds, each so much
# larger than the one before.
EVEN, ROUNDS, GROWTH = 0.85, 8, 1.5
COMPONENTS = 4
# Points, drawn by their weights, that a mixture is fitted to.
RESAMPLED = 5000
# Weights are raised to this power for it: the mixture comes out a little wider than the density.
TEMPER = 0.8


@dataclass(frozen=True)
class Proposal:
    """A fixed proposal, and points to start chains from, drawn by their weights.

    efficiency : effective share of the last round's points.
    """

    mixture: Mixture
    starts: Array
    efficiency: float


@dataclass(frozen=True)
class Chains:
    """Which proposal each draw is.

    choice : (chains, draws) places among the proposals; accepted : (chains, draws) whether it was new.
    """

    choice: Array
    accepted: Array


def adapt(
    log_density: LogDensity, start: Array, reach: Array, points: int, chains: int, rng: np.random.Generator
) -> Proposal:
    """Find a proposal that resembles the density.

    Parameters
    ----------
    log_density : (n, d) → (n,), minus infinity outside the support
    start : (d,) a point near the mode
    reach : (d,) how far tails may go that the bulk does not show, in each coordinate
    points : evaluated in each round of adaptation
    """
    proposal = mixture.around(*_curvature(log_density, *maximise(log_density, start)), reach)
    best: tuple[float, Mixture] = (0.0, proposal)
    used: list[tuple[int, Mixture]] = []
    x, log_p = np.empty((0, len(start))), np.empty(0)
    for number in range(ROUNDS):
        size = int(points * GROWTH**number)
        fresh = proposal.draw(rng, size)
        value = log_density(fresh)
        used.append((size, proposal))
        x, log_p = np.concatenate([x, fresh]), np.concatenate([log_p, value])
        best = max(best, (effective_share(value - proposal.log_density(fresh)), proposal), key=lambda pair: pair[0])
        log_q = np.logaddexp.reduce([one.log_density(x) + math.log(count / len(x)) for count, one in used], axis=0)
        if best[0] >= EVEN:
            break
        proposal = _fitted(x, log_p - log_q, COMPONENTS, reach, rng)
    return Proposal(best[1], x[rng.choice(len(x), size=chains, p=_normalised(log_p - log_q))], best[0])


def refined(x: Array, log_weights: Array, reach: Array, chains: int, rng: np.random.Generator) -> Proposal:
    """Fit a proposal to the points of a fixed one, which show tails that adaptation had too few points to see."""
    starts = x[rng.choice(len(x), size=chains, p=_normalised(log_weights))]
    return Proposal(_fitted(x, log_weights, 2 * COMPONENTS, reach, rng), starts, effective_share(log_weights))


def _fitted(x: Array, log_weights: Array, components: int, reach: Array, rng: np.random.Generator) -> Mixture:
    # weights of early rounds may sit on a few points: cut at √n times their mean (Ionides, 2008)
    tempered = np.minimum(_normalised(TEMPER * log_weights), len(x) ** -0.5)
    chosen = x[rng.choice(len(x), size=min(len(x), RESAMPLED), p=tempered / tempered.sum())]
    return mixture.fit(chosen, components if len(x) > 100 * x.shape[1] else 1, reach, rng)


def effective_share(log_weights: Array) -> float:
    """Return the effective number of weighted points, as a share of their number."""
    return float(1 / (_normalised(log_weights) ** 2).sum() / len(log_weights))


def chains_of(log_weights: Array, start: Array, rng: np.random.Generator) -> Chains:
    """Run independence Metropolis chains over proposals.

    Parameters
    ----------
    log_weights : (chains, draws) log density less log proposal density, of each chain's proposals
    start : (chains,) the same of where the chains start; their places come after those of all proposals
    """
    count, length = log_weights.shape
    choice, accepted = np.empty((count, length), dtype=int), np.zeros((count, length), dtype=bool)
    thresholds = np.log(rng.random((count, length)))
    for chain in range(count):
        here, at = float(start[chain]), count * length + chain
        pairs = zip(log_weights[chain].tolist(), thresholds[chain].tolist(), strict=True)
        for draw, (there, threshold) in enumerate(pairs):
            if threshold < there - here:
                here, at = there, chain * length + draw
                accepted[chain, draw] = True
            choice[chain, draw] = at
    return Chains(choice, accepted)


def evidence(log_weights: Array) -> tuple[float, float]:
    """Return the log of the mean weight and its standard error."""
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    mean = weights.mean()
    return float(top + math.log(mean)), float(weights.std(ddof=1) / mean / math.sqrt(len(weights)))


def pareto_k(log_weights: Array) -> float:
    """Return the shape of a generalised Pareto distribution fitted to the largest weights (Zhang and Stephens, 2009).

    Below 0.7 averages over the weights can be trusted; minus infinity where the weights are all but equal.
    """
    n = len(log_weights)
    tail = int(min(n / 5, 3 * math.sqrt(n)))
    ordered = np.sort(np.exp(log_weights - log_weights.max()))
    x = ordered[-tail:] - ordered[-tail - 1]
    x = x[x > 0]
    if len(x) < 5 or x[-1] < 1e-12:
        return -math.inf
    m = 30 + int(math.sqrt(len(x)))
    b = 1 / x[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * x[int(len(x) / 4 + 0.5) - 1])
    shape = np.log1p(-b[:, None] * x).mean(axis=1)
    log_likelihood = len(x) * (np.log(-b / shape) - shape - 1)
    with np.errstate(over="ignore"):  # a weight of 0
        weights = 1 / np.exp(log_likelihood - log_likelihood[:, None]).sum(axis=1)
    k = float(np.log1p(-(b @ weights / weights.sum()) * x).mean())
    return (k * len(x) + 5) / (len(x) + 10)  # a weak prior at 0.5, as in Vehtari et al.


def _normalised(log_weights: Array) -> Array:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())


def best_start(log_density: LogDensity, points: Array) -> Array:
    """Return the best of some points."""
    value = log_density(points)
    if not np.isfinite(value).any():
        raise FitError(
            "the posterior density is 0 wherever it was tried: the priors of the sds or of sigma exclude every value "
            "of the magnitude of the response; see prior_summary()"
        )
    return np.asarray(points[value.argmax()])


def maximise(log_density: LogDensity, x: Array, gain: float = 0.01) -> tuple[Array, Array]:
    """Return the mode and (d,) rough posterior sds, by BFGS with differences as gradients.

    A gradient's 2d + 1 points are one batch; they also give the diagonal of the Hessian, which scales the first step.

    Parameters
    ----------
    gain : in the log density, that a further step must promise
    """
    d = len(x)
    step = np.full(d, 1e-2)
    inverse, before = np.eye(d), None
    for _ in range(200):
        value, gradient, curvature = _differences(log_density, x, step)
        scale = 1 / np.sqrt(np.clip(curvature, 0.1, 1e14))
        step = np.clip(0.1 * scale, 1e-6, 1e-2)
        if before is None:
            inverse = np.diag(scale**2)
        else:
            s, y = x - before[0], before[1] - gradient
            if s @ y > 1e-12 * np.linalg.norm(s) * np.linalg.norm(y):
                left = np.eye(d) - np.outer(s, y) / (s @ y)
                inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
        direction = inverse @ gradient
        if gradient @ direction < 2 * gain:
            break
        direction *= min(1.0, 3.0 / np.abs(direction).max())
        tried = x + np.array([1.0, 0.4, 0.1, 0.01])[:, None] * direction
        values = log_density(tried)
        if not values.max() > value:  # where the support ends, one coordinate may go on when all together cannot
            alone = np.diag(np.sign(gradient) * scale)
            tried = x + np.concatenate([length * alone for length in (1.0, 0.3, 0.1, 0.03, 0.01)])
            values = log_density(tried)
            if not values.max() > value + gain / 10:
                break
            before = None  # start again from the diagonal
            x = tried[values.argmax()]
            continue
        before = (x, gradient)
        x = tried[values.argmax()]
    return x, scale


def _differences(log_density: LogDensity, x: Array, step: Array) -> tuple[float, Array, Array]:
    """Return the value, gradient and negative second derivatives; one-sided where the support ends."""
    moves = np.diag(step)
    values = log_density(np.concatenate([[x], x + moves, x - moves]))
    value, up, down = values[0], values[1 : 1 + len(x)], values[1 + len(x) :]
    up, down = np.where(np.isfinite(up), up, 2 * value - down), np.where(np.isfinite(down), down, 2 * value - up)
    up, down = np.where(np.isfinite(up), up, value), np.where(np.isfinite(down), down, value)
    return float(value), (up - down) / (2 * step), (2 * value - up - down) / step**2


def _curvature(log_density: LogDensity, mode: Array, sds: Array) -> tuple[Array, Array]:
    """Return the mode and the covariance of the normal distribution with the density's curvature there."""
    d = len(mode)
    step = np.minimum(0.5 * sds, 0.5)
    moves = np.diag(step)
    i, j = np.triu_indices(d, 1)
    both = moves[i] + moves[j]
    values = log_density(mode + np.concatenate([np.zeros((1, d)), moves, -moves, both, -both]))
    values = np.where(np.isfinite(values), values, values[0] - 10.0)
    value, up, down = values[0], values[1 : 1 + d], values[1 + d : 1 + 2 * d]
    plus, minus = values[1 + 2 * d :].reshape(2, -1)
    precision = np.diag((2 * value - up - down) / step**2)
    cross = (plus + minus - up[i] - down[i] - up[j] - down[j] + 2 * value) / (2 * step[i] * step[j])
    precision[i, j] = precision[j, i] = -cross
    size = np.sqrt(np.maximum(np.diagonal(precision), 0.1))
    values, vectors = np.linalg.eigh(precision / size[:, None] / size)
    covariance = (vectors / np.maximum(values, 0.05)) @ vectors.T
    return mode, covariance / size[:, None] / size
