"""A `ModelSpec` comes in; the unconstrained parameters ψ of a marginal density go out, with their log prior.

ψ = (log sd of every sd that is estimated, tanh⁻¹ of every partial correlation, log sigma), factor by factor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hierpanel.compiler import scales
from hierpanel.compiler.scales import Matrix, prior_name
from hierpanel.spec import GroupSpec, ModelSpec, Prior

Array = np.ndarray

# Of a partial correlation, so that it has a coordinate.
LARGEST = 1 - 1e-13


@dataclass(frozen=True)
class VarianceParameters:
    """The coordinates of ψ.

    names : (d,) of the sds ("sd_g[x]", on the prior's scale), partial correlations ("pcor_g[k]") and "sigma"; not of
        sds that are fixed at a number.
    priors : (d,) the prior of each sd and of sigma, or the concentration a of 2 Beta(a, a) - 1.
    """

    spec: ModelSpec
    names: tuple[str, ...]
    priors: tuple[Prior | float, ...]

    def factors(self, psi: Array) -> list[Matrix]:
        """Return F (q, q) of every grouping factor, nested lists of (P,) arrays; psi (P, d)."""
        free = self._free(psi)
        return [scales.covariance_factor(group, free) for group in self.spec.groups]

    def sigma(self, psi: Array) -> Array:
        """Return (P,) residual sds."""
        return np.asarray(np.exp(psi[:, -1]))

    def coordinates(self, draws: Mapping[str, Array]) -> Array:
        """Return ψ (S, d) of draws of sds and correlations (on the prior's scale) and sigma: undo the two above.

        Parameters
        ----------
        draws : ``prior_name("sd", group)`` → (S, q), ``prior_name("cor", group)`` → (S, q, q), ``"sigma"`` → (S,)
        """
        found = []
        for group in self.spec.groups:
            sds = draws[prior_name("sd", group)]
            found += [np.log(sds[:, k]) for k, sd in enumerate(group.sd) if isinstance(sd, Prior)]
            for block in (block for block in group.blocks if block.correlated):
                R = draws[prior_name("cor", group)][:, block.columns, block.columns]
                L = np.linalg.cholesky(R + (1 - LARGEST) * np.eye(block.size))
                partial = scales.partial_correlations(np.moveaxis(L, 0, 2))
                found += [np.arctanh(np.clip(r, -LARGEST, LARGEST)) for r in partial]
        return np.stack([*found, np.log(draws["sigma"])], axis=1)

    def log_prior(self, psi: Array) -> Array:
        """Return the log prior density of psi (P, d), its Jacobian included, (P,)."""
        total = np.zeros(len(psi))
        for value, prior in zip(psi.T, self.priors, strict=True):
            if isinstance(prior, Prior):
                with np.errstate(over="ignore", invalid="ignore"):  # at infinity
                    total += prior.log_density(np.exp(value)) + value
            else:  # x = (1 + tanh ψ)/2 ~ Beta(a, a), whose Jacobian is 2 x (1 - x)
                log_x_1_x = -2 * (np.abs(value) + np.log1p(np.exp(-2 * np.abs(value))))
                total += prior * log_x_1_x + math.log(2) - 2 * math.lgamma(prior) + math.lgamma(2 * prior)
        return np.where(np.isnan(total), -np.inf, total)

    def prior_draws(self, rng: np.random.Generator, otherwise: Array) -> Array:
        """Return points from the prior, in the place of `otherwise` (P, d), which flat priors leave as they are."""
        found = otherwise.copy()
        for k, prior in enumerate(self.priors):
            if not isinstance(prior, Prior):  # arctanh(2 x - 1), finite also where x is 1 to the last digit
                x = np.clip(rng.beta(prior, prior, len(found)), 1e-300, np.nextafter(1, 0))
                found[:, k] = 0.5 * (np.log(x) - np.log1p(-x))
            elif prior.name not in ("Flat", "HalfFlat"):
                with np.errstate(divide="ignore", over="ignore"):  # a vague prior reaches 0 and infinity
                    found[:, k] = np.log(prior.draw(rng, len(found)))
        return found

    def _free(self, psi: Array) -> Mapping[str, Array]:
        """Return the variables that `scales.covariance_factor` takes, sds one by one."""
        free: dict[str, Array] = {}
        place = 0
        for group in self.spec.groups:
            for k, sd in enumerate(group.sd):
                if isinstance(sd, Prior):
                    free[f"{prior_name('sd', group)}_{k}"] = np.exp(psi[:, place])
                    place += 1
            for number, size in _correlated(group):
                entries = size * (size - 1) // 2
                free[scales.partial_name(group, number)] = (1 + np.tanh(psi[:, place : place + entries])) / 2
                place += entries
        return free


def variance_parameters(spec: ModelSpec) -> VarianceParameters:
    """List the coordinates of ψ."""
    names: list[str] = []
    priors: list[Prior | float] = []
    for group in spec.groups:
        for coef, sd in zip(group.coefs, group.sd, strict=True):
            if isinstance(sd, Prior):
                names.append(f"sd_{group.name}[{coef}]")
                priors.append(sd)
        for number, size in _correlated(group):
            a = scales.lkj_concentration(size, group.eta)
            names += [f"{scales.partial_name(group, number)}[{k}]" for k in range(len(a))]
            priors += [float(value) for value in a]
    return VarianceParameters(spec, (*names, "sigma"), (*priors, spec.parameters["sigma"]))


def _correlated(group: GroupSpec) -> list[tuple[int, int]]:
    """Return (number, size) of each correlated block."""
    return [(number, block.size) for number, block in enumerate(group.blocks) if block.correlated]
