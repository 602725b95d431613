"""Log sds and inverse hyperbolic tangents of partial correlations come in; coordinates with normal tails go out.

An sd that the data do not tell from 0 has a density that is flat there, so its logarithm has an exponential tail, which
proposals cover badly; likewise a correlation near ±1. With Φ the normal distribution function,

    sd = -c log Φ(-x)        cor = 2 Φ(x) - 1

turn an exponential sd of mean c and a uniform correlation into standard normal x. Log sigma stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
# Where sd = c: Φ⁻¹(1 - 1/e).
AT_SCALE = 0.33747496376420244


@dataclass(frozen=True)
class Coordinates:
    """Which coordinates are sds and which are correlations, (d,) truth values; log_c : (d,) log c of the sds."""

    is_sd: Array
    is_correlation: Array
    log_c: Array

    def to_psi(self, x: Array) -> tuple[Array, Array]:
        """Return ψ (n, d), and the log Jacobian of this map (n,), of x (n, d)."""
        from scipy.special import log_ndtr

        psi, log_jacobian = x.copy(), np.zeros(len(x))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # far out: minus infinity, or no number
            sd, correlation = x[:, self.is_sd], x[:, self.is_correlation]
            log_above = log_ndtr(-sd)
            psi[:, self.is_sd] = self.log_c[self.is_sd] + np.log(-log_above)
            log_jacobian += (_log_normal(sd) - log_above - np.log(-log_above)).sum(axis=1)
            below, above = log_ndtr(correlation), log_ndtr(-correlation)
            psi[:, self.is_correlation] = (below - above) / 2
            log_jacobian += (_log_normal(correlation) - np.log(2) - below - above).sum(axis=1)
        return psi, log_jacobian

    def of(self, log_density: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Return the density of x that a density of ψ implies."""

        def of_x(x: Array) -> Array:
            psi, log_jacobian = self.to_psi(x)
            found = np.full(len(x), -np.inf)
            possible = np.isfinite(psi).all(axis=1) & np.isfinite(log_jacobian)
            found[possible] = log_density(psi[possible]) + log_jacobian[possible]
            return found

        return of_x

    def start(self, psi: Array) -> Array:
        """Return the x (d,) of a ψ at which every sd is c."""
        from scipy.special import ndtri

        return np.where(self.is_sd, AT_SCALE, np.where(self.is_correlation, ndtri((1 + np.tanh(psi)) / 2), psi))


def _log_normal(x: Array) -> Array:
    return np.asarray(-0.5 * x**2 - 0.5 * np.log(2 * np.pi))
