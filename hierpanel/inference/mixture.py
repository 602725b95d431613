"""Weighted points come in; a mixture of multivariate t distributions that resembles them goes out.

Source: Cappé, Douc, Guillin, Marin and Robert (2008), "Adaptive importance sampling in general mixture classes".
"""

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Degrees of freedom: tails heavier than normal ones, a centre close to normal.
NU = 12.0
# Steps of the EM algorithm in each fit.
STEPS = 12
# The share of one component four times as wide as the whole, which keeps weights bounded.
WIDE = 0.1


@dataclass(frozen=True)
class Mixture:
    """A mixture of K multivariate t distributions with `NU` degrees of freedom.

    weights : (K,); means : (K, d); factors : (K, d, d) lower Cholesky factors of the scale matrices.
    """

    weights: Array
    means: Array
    factors: Array

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """Return (size, d) draws."""
        which = rng.choice(len(self.weights), size=size, p=self.weights)
        z = rng.standard_normal((size, self.means.shape[1]))
        stretch = np.sqrt(NU / rng.chisquare(NU, size))
        return np.asarray(self.means[which] + np.einsum("nij,nj->ni", self.factors[which], z) * stretch[:, None])

    def log_density(self, x: Array) -> Array:
        """Return (n,) log densities of x (n, d)."""
        return np.asarray(np.logaddexp.reduce(self._log_parts(x)[0], axis=0))

    def _log_parts(self, x: Array) -> tuple[Array, Array]:
        """Return the weighted log density of each component, and the squared distances from it, (K, n)."""
        d = x.shape[1]
        distance = np.stack(
            [
                (np.linalg.solve(factor, (x - mean).T) ** 2).sum(axis=0)
                for mean, factor in zip(self.means, self.factors, strict=True)
            ]
        )
        constant = math.lgamma((NU + d) / 2) - math.lgamma(NU / 2) - 0.5 * d * math.log(NU * math.pi)
        log_det = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        with np.errstate(divide="ignore"):  # a component may have weight 0
            heights = np.log(self.weights) + constant - log_det
        return heights[:, None] - (NU + d) / 2 * np.log1p(distance / NU), distance


def around(mean: Array, covariance: Array) -> Mixture:
    """Return a t distribution with that mean and scale, and a wide one."""
    factor = np.linalg.cholesky(covariance)
    return Mixture(np.array([1 - WIDE, WIDE]), np.stack([mean, mean]), np.stack([factor, 2 * factor]))


def fit(x: Array, w: Array, components: int, rng: np.random.Generator) -> Mixture:
    """Fit a mixture to points x (n, d) of weights w (n,) that add up to 1, plus a wide component."""
    d = x.shape[1]
    mean, whole = w @ x, _scatter(x, w, w @ x)
    whole += 1e-10 * np.diag(np.diagonal(whole)) + 1e-14 * np.eye(d)
    starts = x[rng.choice(len(x), size=components, p=w)]
    found = Mixture(
        np.full(components, 1 / components), starts, np.repeat(np.linalg.cholesky(whole)[None], components, axis=0)
    )
    for _ in range(STEPS):
        log_parts, distance = found._log_parts(x)
        share = np.exp(log_parts - np.logaddexp.reduce(log_parts, axis=0)) * w
        total = share.sum(axis=1)
        kept = (total > 1 / len(x)) & (1 / np.maximum((share**2).sum(axis=1), 1e-300) * total**2 > 4 * d)
        if not kept.any():
            break
        pull = share * (NU + d) / (NU + distance)
        means = (pull[kept] @ x) / pull[kept].sum(axis=1)[:, None]
        scales = [
            _scatter(x, part / size, centre) for part, size, centre in zip(pull[kept], total[kept], means, strict=True)
        ]
        factors = np.linalg.cholesky(np.stack(scales) + 1e-6 * whole)
        found = Mixture(total[kept] / total[kept].sum(), means, factors)
    return Mixture(
        np.append(found.weights * (1 - WIDE), WIDE),
        np.concatenate([found.means, mean[None]]),
        np.concatenate([found.factors, 2 * np.linalg.cholesky(whole)[None]]),
    )


def _scatter(x: Array, w: Array, centre: Array) -> Array:
    away = x - centre
    return np.asarray((away * w[:, None]).T @ away)
