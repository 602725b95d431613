"""Posterior draws and a `Design` come in; shares of variance go out: ICC and R².

Source: Johnson (2014), "Extension of Nakagawa and Schielzeth's R²GLMM to random slopes models": the variance that a
factor contributes is z'Σz averaged over the rows. Outside location families the residual variance is the latent one of
the link (π²/3 for logit, 1 for probit, π²/6 for cloglog).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hierpanel.compiler.scales import prior_name
from hierpanel.data.design import Design
from hierpanel.spec import GroupSpec, ModelSpec

Array = np.ndarray


@dataclass(frozen=True)
class Variances:
    """Draws of the variance of each part of the linear predictor, (chain, draw) each.

    common : of X beta over the rows.
    fixed : of the unit effects of `fe()` over the rows (0 without one).
    groups : factor → mean of z'Σz over the rows.
    residual : of the response given the linear predictor; None where the family and link define none.
    """

    common: Array
    fixed: Array
    groups: dict[str, Array]
    residual: Array | None

    def icc(self) -> dict[str, Array]:
        """Return each factor's share of the variance that X does not explain."""
        if self.residual is None or not self.groups:
            return {}
        total = sum(self.groups.values(), self.residual)
        return {name: _share(variance, total) for name, variance in self.groups.items()}

    def r2(self) -> dict[str, Array]:
        """Return the shares of X (marginal), and of X and all group effects (conditional)."""
        if self.residual is None:
            return {}
        effects = sum(self.groups.values(), self.fixed)
        total = self.common + effects + self.residual
        return {"marginal": _share(self.common, total), "conditional": _share(self.common + effects, total)}


def panel_r2(design: Design, codes: Array, beta: Array) -> dict[str, Array]:
    """Return R² within, between and overall of the coefficients alone, (chain, draw) each.

    Each is 1 - Σ w e²/Σ w (y - ȳ)², of the residuals e = y - Xβ: within, of deviations from unit means; between, of
    unit means, each unit once (with weights: with its sum of them); overall, of rows. Without an intercept y is not
    centred. They can be negative.
    Source: linearmodels' ``rsquared_within``, ``rsquared_between`` and ``rsquared_overall``.

    Parameters
    ----------
    codes : (n,) unit of each row, 0 … N - 1
    beta : (chain, draw, p)
    """
    W = np.column_stack([design.X, design.y - design.offset])
    w = np.ones(design.n) if design.weights is None else design.weights
    total = np.bincount(codes, w)
    centre = w @ W / w.sum() if design.has_intercept else np.zeros(W.shape[1])
    means = np.stack([np.bincount(codes, w * (column - c)) for column, c in zip(W.T, centre, strict=True)], axis=1)
    means /= total[:, None]
    of_unit = total if design.weights is not None else np.ones(len(total))
    v = np.concatenate([-beta, np.ones((*beta.shape[:2], 1))], axis=2)

    offset = centre[-1] if design.has_intercept else 0.0

    def share(columns: Array, weight: Array, away: Array | None) -> Array:
        """1 less the residual over the total sum of squares; `away` is the mean that columns were centred on."""
        middle = weight @ columns / weight.sum() if away is not None and design.has_intercept else np.zeros(len(centre))
        G = (columns - middle).T @ (weight[:, None] * (columns - middle))
        if not G[-1, -1] > 1e-20 * (weight @ (columns[:, -1] - middle[-1] + offset) ** 2):
            return np.full(beta.shape[:2], np.nan)  # the response does not vary
        residual = np.einsum("...i,ij,...j->...", v, G, v)
        if away is not None:
            residual = residual + weight.sum() * (v @ (middle + away)) ** 2
        return np.asarray(1 - residual / G[-1, -1])

    away = centre if design.has_intercept else np.zeros(len(centre))
    return {
        "within": share(W - centre - means[codes], w, None),
        "between": share(means, of_unit, away),
        "overall": share(W - centre, w, away),
    }


def variances(spec: ModelSpec, design: Design, draws: Mapping[str, Array]) -> Variances:
    """Compute the variance of every part.

    Parameters
    ----------
    draws : name → (…, dims) draws of beta, of sd_g and cor_g on the prior's scale, of b_g where there is `fe()` (or
        of mean_g and square_g, over the rows), and of the family's parameters
    """
    lead = next(iter(draws.values())).shape[:2]
    fixed = np.zeros(lead)
    groups = {}
    for group, data in zip(spec.groups, design.groups, strict=True):
        if group.is_fixed:
            column = next(block.columns.start for block in group.blocks if block.fixed)
            if f"square_{group.name}" in draws:
                fixed = fixed + draws[f"square_{group.name}"] - draws[f"mean_{group.name}"] ** 2
            else:
                b, share = draws[f"b_{group.name}"][..., column], data.rows / design.n
                fixed = fixed + (b**2 @ share) - (b @ share) ** 2
        free = [k for block in group.blocks if not block.fixed for k in range(block.columns.start, block.columns.stop)]
        if free:
            z = (data.Z - group.center)[:, free]
            Sigma = _covariance(group, draws)[..., free, :][..., free]
            groups[group.name] = np.einsum("...ij,ij->...", Sigma, z.T @ z / design.n)
    common = np.zeros(lead)
    if spec.coefs:
        X = design.X - design.X.mean(axis=0)
        common = np.einsum("...i,ij,...j->...", draws["beta"], X.T @ X / design.n, draws["beta"])
    return Variances(common, fixed, groups, _residual(spec, design, draws, lead))


def _covariance(group: GroupSpec, draws: Mapping[str, Array]) -> Array:
    sd = draws[prior_name("sd", group)]
    cor = draws[prior_name("cor", group)] if group.is_correlated else np.eye(sd.shape[-1])
    return np.asarray(sd[..., :, None] * cor * sd[..., None, :])


def _residual(spec: ModelSpec, design: Design, draws: Mapping[str, Array], lead: tuple[int, ...]) -> Array | None:
    family = spec.family
    if family.residual_variance is not None:
        weight = 1.0 if design.weights is None else float(np.mean(1 / design.weights))
        return family.residual_variance(draws) * weight
    if family.link.latent_variance is not None:
        return np.full(lead, family.link.latent_variance)
    return None


def _share(part: Array, total: Array) -> Array:
    """part / total, which is 0 where the residual variance is infinite."""
    return np.where(np.isfinite(total), part / np.where(np.isfinite(total), total, 1.0), 0.0)
