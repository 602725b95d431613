"""A `Marginal` and draws of ψ and β come in; row-weighted sums of a factor's many effects go out, without them.

Given ψ, β and the effects of the other factors, the effects of the first factor to be eliminated are independent
normals, of mean λ² s_j / C_j² and variance σ² λ² / C_j², with s_j = Z_j'(y - X β - …) and C_j² = 1 + λ² N_j. A sum of
them over the levels needs Σ s_j over levels of equal N_j alone, and a sum of their squares Σ s_j s_j'. Both are taken
once, not for every draw.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hierpanel.compiler.marginal import Marginal

Array = np.ndarray

# Most numbers in the sums: (levels with N_j of their own) × (columns that meet the factor)².
MOST = 4_000_000


@dataclass(frozen=True)
class Totals:
    """Sums over the levels of the first factor, which has one column.

    N : (K,) cross-products of the K patterns; counts, share : (K,) levels of each, and the share of each in the rows.
    first, second : (K, D), (K, D, D) sums of s_j and s_j s_j' over the levels, in terms of (ω, effects of the others).
    """

    marginal: Marginal
    N: Array
    counts: Array
    share: Array
    first: Array
    second: Array

    def moments(self, psi: Array, beta_c: Array, known: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
        """Return mean and variance of Σ share b, then mean and variance of Σ share (b - Σ share b)², (P,) each.

        The last two are to the leading order in 1/levels.

        Parameters
        ----------
        psi, beta_c : (P, d), (P, p)
        known : factor → its effects (P, J, q), for each of `marginal.later(name)`
        """
        one = self.marginal
        factors, sigma, omega = one.given(psi, beta_c)
        others = [known[name].reshape(len(psi), -1).T for name in one.names[1:]]
        state = np.concatenate([omega, *(-b for b in others)])
        scale = factors[0][0, 0] ** 2
        gain = scale / (1 + scale * self.N[:, None])  # λ²/C² (K, P)
        variance, share, counts = sigma**2 * gain, self.share[:, None], self.counts[:, None]
        sums = gain * (self.first @ state)
        squares = gain**2 * np.stack([((quadratic @ state) * state).sum(axis=0) for quadratic in self.second])
        mean = (share * sums).sum(axis=0)
        away = squares - 2 * mean * sums + counts * mean**2  # Σ (m - mean)² over the levels of a pattern
        of_mean = (share**2 * counts * variance).sum(axis=0)
        spread = (share * (away + counts * variance)).sum(axis=0) - of_mean
        of_spread = (share**2 * (2 * counts * variance**2 + 4 * away * variance)).sum(axis=0)
        return mean, of_mean, spread, of_spread


def totals(marginal: Marginal, name: str, share: Array) -> Totals | None:
    """Take the sums of a factor, or None where that is not the cheaper way.

    Parameters
    ----------
    share : (J,) the share of each level in the rows
    """
    plan = marginal.plan
    if marginal.names[0] != name or not plan.stages or plan.sizes[0][1] != 1:
        return None
    J = plan.sizes[0][0]
    own = plan.own_blocks().own[0]
    N = own[0][:, 0, 0, 0]
    pairs, pattern = np.unique(np.stack([N, share], axis=1), axis=0, return_inverse=True)
    width = plan.sizes[plan.W][1] + sum(plan.sizes[h][0] * plan.sizes[h][1] for h in range(1, plan.W))
    if len(pairs) * width**2 > MOST or J * width > 5 * MOST:
        return None
    s = np.zeros((J, width))
    s[:, : plan.sizes[plan.W][1]] = own[plan.W][:, 0, :, 0]
    start = plan.sizes[plan.W][1]
    for h in range(1, plan.W):
        levels, q = plan.sizes[h]
        if (0, h) in plan.pairs and h in own:
            left, right = plan.pairs[0, h]
            for b in range(q):
                s[left, start + right * q + b] = own[h][:, 0, b, 0]
        start += levels * q
    order = np.argsort(pattern.ravel(), kind="stable")
    counts = np.bincount(pattern.ravel())
    parts = np.split(s[order], np.cumsum(counts)[:-1])
    return Totals(
        marginal=marginal,
        N=pairs[:, 0],
        counts=counts,
        share=pairs[:, 1],
        first=np.stack([part.sum(axis=0) for part in parts]),
        second=np.stack([part.T @ part for part in parts]),
    )
