"""A `Fit` comes in; its group effects go out: their draws, means and summaries, whether draws are stored or not.

Without stored draws, the effects given each draw of (ψ, β) are normal with known mean and covariance. Means, sds and
quantiles are those of that mixture of normals; draws are made when asked for, and are the same ones every time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.compiler import marginal as route
from hierpanel.compiler.blocks import root
from hierpanel.compiler.marginal import Marginal
from hierpanel.compiler.scales import fixed_column, prior_name, uncentre
from hierpanel.data.design import Design
from hierpanel.data.moments import moments
from hierpanel.errors import DataError, FitError
from hierpanel.inference import effects
from hierpanel.results import tables
from hierpanel.results.thinning import evenly
from hierpanel.spec import GroupSpec, ModelSpec

Array = np.ndarray

# Components of the mixture of normals: so many draws of (ψ, β), evenly spaced.
COMPONENTS = 400
# Levels that are worked on together.
LEVELS = 2048


def covariance_factors(sd: Array, cor: Array | None) -> Array:
    """Return F (S, q, q), lower triangular, with F F' the covariance of a unit's effects.

    Parameters
    ----------
    sd : (S, q); cor : (S, q, q) correlations, or None where the effects are independent
    """
    if cor is None:
        return np.asarray(sd[:, :, None] * np.eye(sd.shape[1]))
    return np.asarray(sd[:, :, None] * root(cor).swapaxes(1, 2))


@dataclass(frozen=True)
class GroupEffects:
    """The effects of a fit's grouping factors, on the original scale."""

    spec: ModelSpec
    design: Design
    idata: Any

    def is_stored(self, name: str) -> bool:
        """Whether the posterior holds draws of a factor's effects."""
        return f"b_{name}" in self.idata["posterior"].data_vars

    def draws(self, name: str, levels: Any = None) -> Array:
        """Return draws (chain, draw, levels, q) of a factor's effects.

        Parameters
        ----------
        levels : labels, in the order wanted; all of them unless given
        """
        data = self.design.group(name)
        return self.at(name, np.arange(len(data.levels)) if levels is None else self._places(name, levels))

    def at(self, name: str, places: Array) -> Array:
        """Return draws (chain, draw, levels, q) of the effects of the levels at these places."""
        data = self.design.group(name)
        if self.is_stored(name):
            return np.asarray(self.idata["posterior"][f"b_{name}"].values[:, :, places])
        state, lead = self._state, self.lead
        blocks = {place // effects.LEVELS: None for place in places}
        found = np.empty((len(state.psi), len(places), len(data.coefs)))
        for block in blocks:
            span = slice(block * effects.LEVELS, min((block + 1) * effects.LEVELS, len(data.levels)))
            mine = np.flatnonzero(places // effects.LEVELS == block)
            found[:, mine] = effects.draw(self.marginal, state, name, span)[:, places[mine] - span.start]
        return self._on_original_scale(name, found).reshape(*lead, *found.shape[1:])

    def mean(self, name: str) -> Array:
        """Return posterior means (J, q)."""
        if self.is_stored(name):
            return np.asarray(self.idata["posterior"][f"b_{name}"].values.mean(axis=(0, 1)))
        return np.concatenate([mean.mean(axis=0) for mean, _ in self._components(name)])

    def moments(self, name: str) -> tuple[Array, Array]:
        """Return posterior means (J, q) and covariances (J, q, q)."""
        if self.is_stored(name):
            b = self.draws(name)
            b = b.reshape(-1, *b.shape[2:])
            away = b - b.mean(axis=0)
            return b.mean(axis=0), np.einsum("sji,sjk->jik", away, away) / max(len(b) - 1, 1)
        means, covariances = [], []
        for mean, covariance in self._components(name):
            away = mean - mean.mean(axis=0)
            means.append(mean.mean(axis=0))
            covariances.append(covariance.mean(axis=0) + np.einsum("sji,sjk->jik", away, away) / len(mean))
        return np.concatenate(means), np.concatenate(covariances)

    def of_column(self, name: str, column: int, most: int) -> Array:
        """Return joint draws (S, J) of one column of a factor's effects, of evenly spaced draws of the fit.

        Parameters
        ----------
        most : numbers that are taken at most of stored draws; without them, `COMPONENTS` draws are made
        """
        J = len(self.design.group(name).levels)
        if self.is_stored(name):
            b = self.idata["posterior"][f"b_{name}"].values[..., column].reshape(-1, J)
            return np.asarray(b[evenly(len(b), max(most // J, 2))])
        rng = np.random.default_rng(self._state.seed)
        parts = []
        for mean, covariance in self._components(name):
            sd = np.sqrt(covariance[:, :, column, column])
            parts.append(mean[:, :, column] + sd * rng.standard_normal(sd.shape))
        return np.concatenate(parts, axis=1)

    def table(self, name: str, prob: float, added: Array | None = None) -> tables.Table:
        """Summarise a factor's effects, a row for each (level, coefficient).

        Parameters
        ----------
        added : (chain, draw, q) draws of what is added to every unit's effects, such as the coefficients
        """
        data = self.design.group(name)
        if self.is_stored(name):
            b = self.draws(name)
            return tables.ranef(name, data.levels, data.coefs, b if added is None else b + added[:, :, None], prob)
        shift = np.zeros((1, 1)) if added is None else added.reshape(-1, len(data.coefs))[self._thinned][:, None]
        parts = []
        for mean, covariance in self._components(name):
            sd = np.sqrt(np.einsum("sjii->sji", covariance))
            parts.append(tables.mixture_columns((mean + shift).reshape(len(mean), -1), sd.reshape(len(sd), -1), prob))
        index = pd.MultiIndex.from_product([data.levels, data.coefs], names=[name, "coef"])
        return tables.table_of({c: np.concatenate([part[c] for part in parts]) for c in parts[0]}, index, prob)

    @cached_property
    def marginal(self) -> Marginal:
        """The marginal density of the model."""
        return route.marginal(self.spec, moments(self.design))

    @cached_property
    def _state(self) -> effects.State:
        """The joint draws that effects are conditional on, on the prior's scale, chains one after the other."""
        posterior, stats = self.idata["posterior"], self.idata["sample_stats"]
        if "psi" not in stats.data_vars:
            missing = ", ".join(f"b_{g.name}" for g in self.spec.groups if not self.is_stored(g.name))
            raise FitError(f"the posterior holds no draws of {missing}, and nothing from which to make them")
        psi = np.asarray(stats["psi"].values)
        size = psi.shape[0] * psi.shape[1]
        beta_c = posterior[prior_name("beta", self.spec)].values if self.spec.coefs else np.empty((size, 0))
        known = {}
        for group in self.spec.groups:
            if self.is_stored(group.name):
                b = posterior[f"b_{group.name}"].values.reshape(size, group.levels, -1)
                known[group.name] = self._on_prior_scale(group, b)
        return effects.State(
            psi.reshape(size, -1), np.reshape(beta_c, (size, -1)), known, int(stats.attrs["effects_seed"])
        )

    @property
    def lead(self) -> tuple[int, int]:
        """Chains and draws of each."""
        sizes = self.idata["posterior"].sizes
        return int(sizes["chain"]), int(sizes["draw"])

    @property
    def _thinned(self) -> Array:
        return evenly(len(self._state.psi), COMPONENTS)

    def _components(self, name: str) -> Any:
        """Yield means (S, levels, q) and covariances (S, levels, q, q) of the mixture, some levels at a time."""
        state, keep = self._state, self._thinned
        thin = effects.State(
            state.psi[keep], state.beta_c[keep], {other: b[keep] for other, b in state.effects.items()}, state.seed
        )
        group = next(group for group in self.spec.groups if group.name == name)
        A = np.stack(uncentre(group, list(np.eye(len(group.coefs)))))
        blocks = [slice(start, min(start + LEVELS, group.levels)) for start in range(0, group.levels, LEVELS)]
        M = self._fixed_mean(group)
        given_mean = None if M is None else self._given_mean(group, M[keep], thin, blocks)
        for levels in blocks:
            mean, covariance = effects.moments(self.marginal, thin, name, levels)
            if given_mean is not None:
                mean, covariance = given_mean(mean, covariance, levels)
            yield self._on_original_scale(name, mean, keep), A @ covariance @ A.T

    def _given_mean(self, group: GroupSpec, M: Array, thin: effects.State, blocks: list[slice]) -> Any:
        """Return what conditions means and covariances of effects on the row-weighted mean M (S,) of `fe()` effects."""
        k, data = fixed_column(group), self.design.group(group.name)
        share = data.rows / self.design.n
        expected, variance = np.zeros(len(M)), np.zeros(len(M))
        for levels in blocks:
            mean, covariance = effects.moments(self.marginal, thin, group.name, levels)
            expected += mean[:, :, k] @ share[levels]
            variance += covariance[:, :, k, k] @ share[levels] ** 2

        def given(mean: Array, covariance: Array, levels: slice) -> tuple[Array, Array]:
            with_mean = covariance[..., k] * share[levels, None]  # covariance (S, levels, q) with M
            gain = with_mean / variance[:, None, None]
            moved = mean + gain * (M - expected)[:, None, None]
            return moved, covariance - gain[..., :, None] * with_mean[..., None, :]

        return given

    def _places(self, name: str, levels: Any) -> Array:
        data = self.design.group(name)
        wanted = [levels] if isinstance(levels, str) or not np.iterable(levels) else list(levels)
        places = data.levels.get_indexer(pd.Index(wanted))
        if (places < 0).any():
            unknown = [str(level) for level, place in zip(wanted, places, strict=True) if place < 0]
            some = ", ".join(map(str, data.levels[:6])) + (", …" if len(data.levels) > 6 else "")
            raise DataError(f"{name} has no level {', '.join(unknown[:5])}; its levels are: {some}")
        return np.asarray(places)

    def _on_original_scale(self, name: str, b: Array, keep: Array | slice = slice(None)) -> Array:
        group = next(group for group in self.spec.groups if group.name == name)
        columns = uncentre(group, [b[:, :, k] for k in range(b.shape[2])])
        if (mean := self._fixed_mean(group)) is not None:
            columns[fixed_column(group)] = columns[fixed_column(group)] - mean[keep, None]
        return np.stack(columns, axis=2)

    def _on_prior_scale(self, group: GroupSpec, b: Array) -> Array:
        found = b.copy()
        for block in group.blocks:
            rest = slice(block.columns.start + 1, block.columns.stop)
            found[:, :, block.columns.start] += b[:, :, rest] @ group.center[rest]
        if (mean := self._fixed_mean(group)) is not None:
            found[:, :, fixed_column(group)] += mean[:, None]
        return found

    def _fixed_mean(self, group: GroupSpec) -> Array | None:
        """Draws of the mean that `fe()` effects are reported without, (S,)."""
        if not (group.is_fixed and self.spec.has_intercept):
            return None
        return np.asarray(self.idata["sample_stats"][f"mean_{group.name}"].values).reshape(-1)
