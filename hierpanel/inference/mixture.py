"""Points come in; a mixture of multivariate t distributions that resembles them goes out.

Source: Cappé, Douc, Guillin, Marin and Robert (2008), "Adaptive importance sampling in general mixture classes".
"""

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Degrees of freedom: tails heavier than normal ones, a centre close to normal; and of the wide component.
NU, NU_WIDE = 12.0, 3.0
# Steps of the EM algorithm in each fit.
STEPS = 12
# The share of the wide components together.
WIDE = 0.1


@dataclass(frozen=True)
class Mixture:
    """A mixture of K multivariate t distributions.

    weights : (K,); means : (K, d); factors : (K, d, d) lower Cholesky factors of the scale matrices.
    nu : (K,) degrees of freedom.
    """

    weights: Array
    means: Array
    factors: Array
    nu: Array

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """Return (size, d) draws."""
        which = rng.choice(len(self.weights), size=size, p=self.weights)
        z = rng.standard_normal((size, self.means.shape[1]))
        stretch = np.sqrt(self.nu[which] / rng.chisquare(self.nu[which]))
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
        constant = [math.lgamma((n + d) / 2) - math.lgamma(n / 2) - 0.5 * d * math.log(n * math.pi) for n in self.nu]
        log_det = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        with np.errstate(divide="ignore"):  # a component may have weight 0
            heights = np.log(self.weights) + constant - log_det
        nu = self.nu[:, None]
        return heights[:, None] - (nu + d) / 2 * np.log1p(distance / nu), distance


def around(mean: Array, covariance: Array, reach: Array) -> Mixture:
    """Return a t distribution with that mean and scale, and the wide components of `fit`."""
    return _with_wide(np.ones(1), mean[None], np.linalg.cholesky(covariance)[None], mean, covariance, reach)


def fit(x: Array, components: int, reach: Array, rng: np.random.Generator) -> Mixture:
    """Fit a mixture to points x (n, d), and add components that keep weights bounded.

    Parameters
    ----------
    components : at most so many t distributions
    reach : (d,) scale that a wide component has at least, in each coordinate at a time
    """
    n, d = x.shape
    mean = x.mean(axis=0)
    whole = _scatter(x, np.full(n, 1 / n), mean)
    whole += 1e-10 * np.diag(np.diagonal(whole)) + 1e-14 * np.eye(d)
    starts = x[rng.choice(n, size=components, replace=False)]
    factors = np.repeat(np.linalg.cholesky(whole)[None], components, axis=0)
    found = Mixture(np.full(components, 1 / components), starts, factors, np.full(components, NU))
    for _ in range(STEPS):
        log_parts, distance = found._log_parts(x)
        share = np.exp(log_parts - np.logaddexp.reduce(log_parts, axis=0)) / n
        total = share.sum(axis=1)
        kept = total * n > 4 * d
        if not kept.any():
            break
        pull = share * (NU + d) / (NU + distance)
        means = (pull[kept] @ x) / pull[kept].sum(axis=1)[:, None]
        parts = zip(pull[kept] / total[kept, None], means, strict=True)
        scales = [_scatter(x, part, centre) for part, centre in parts]
        factors = np.linalg.cholesky(np.stack(scales) + 1e-6 * whole)
        found = Mixture(total[kept] / total[kept].sum(), means, factors, np.full(kept.sum(), NU))
    return _with_wide(found.weights, found.means, found.factors, mean, whole, reach)


def _with_wide(weights: Array, means: Array, factors: Array, mean: Array, whole: Array, reach: Array) -> Mixture:
    """Add one component twice as wide as the whole, and for each coordinate one that reaches further along it."""
    longer = [np.maximum(size**2 - whole[k, k], 0.0) for k, size in enumerate(reach)]
    wide = [4 * whole] + [whole + np.diag(np.eye(len(mean))[k] * more) for k, more in enumerate(longer) if more > 0]
    return Mixture(
        np.concatenate([weights * (1 - WIDE), np.full(len(wide), WIDE / len(wide))]),
        np.concatenate([means, np.repeat(mean[None], len(wide), axis=0)]),
        np.concatenate([factors, np.linalg.cholesky(np.stack(wide))]),
        np.concatenate([np.full(len(weights), NU), np.full(len(wide), NU_WIDE)]),
    )


def _scatter(x: Array, w: Array, centre: Array) -> Array:
    away = x - centre
    return np.asarray((away * w[:, None]).T @ away)
