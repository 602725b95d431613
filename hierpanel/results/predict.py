"""A `Fit` and other rows come in; draws of their linear predictor, mean or response go out, some rows at a time.

What is random about a row has a stream of its own, named by the row's label, and so has every new unit: a row predicted
alone equals itself in a batch, in any order, and two rows of one new unit share its effects.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpanel.data.design import Design
from hierpanel.data.reading import Coder, NewGroup, NewRows
from hierpanel.errors import DataError, FitError, check_whole
from hierpanel.results import tables
from hierpanel.results.effects import covariance_factors
from hierpanel.results.normal_mean import even, gauss, mean_over_normal
from hierpanel.spec import Rows

Array = np.ndarray
Kind = Literal["mean", "linear", "response"]
NewGroups = Literal["sample", "population", "error"]

# Draws × rows that are held at a time (16 MB of doubles).
CHUNK = 2_000_000
# Nodes of Gauss and Hermite, with which a transformation's mean over the residual is taken.
NODES = 16
# Evenly spaced ones for a transformation with kinks or steps.
KINKED = 801


def predict(
    fit: Any,
    data: Any,
    kind: Kind,
    new_groups: NewGroups,
    prob: float,
    draws: bool,
    transform: Callable[[Array], Array] | None,
    seed: int,
) -> Any:
    """Predict rows; see `Fit.predict`."""
    if kind not in ("mean", "linear", "response"):
        raise FitError(f"kind is 'mean', 'linear' or 'response', not {kind!r}")
    if transform is not None and kind == "linear":
        raise FitError("transform= applies to the response: use it with kind='mean' or kind='response'")
    if transform is not None and not callable(transform):
        raise FitError(f"transform= is a function of an array, such as np.exp, not {transform!r}")
    check_whole("seed", seed, 0)
    tables.check_prob(prob)
    rows = rows_of(fit, data, trials=kind != "linear", weighted=kind == "response" or transform is not None)
    check_new(fit, rows, new_groups)
    predictor = Predictor(fit, rows, new_groups, seed)
    return predictor.draws(kind, transform) if draws else predictor.table(kind, transform, prob)


def check_new(fit: Any, rows: NewRows, new_groups: str) -> None:
    """Raise for units that the fit has not seen, unless it is said what becomes of them."""
    if new_groups not in ("sample", "population", "error"):
        raise FitError(f"new_groups is 'sample', 'population' or 'error', not {new_groups!r}")
    for spec, group in zip(fit.spec.groups, rows.groups, strict=True):
        if not len(group.new):
            continue
        what = f"{spec.name} has {listed(group.new)} that the fit has not seen"
        if spec.is_fixed:
            raise DataError(f"{what}, and fe({spec.name}) says nothing of new ones; (1 | {spec.name}) does")
        if new_groups == "error":
            raise DataError(
                f"{what}; new_groups='sample' draws their effects from the distribution of {spec.name}, "
                "'population' puts them at 0"
            )


def rows_of(fit: Any, data: Any, trials: bool, weighted: bool) -> NewRows:
    """Return the rows of the fit, or other rows, coded as those of the fit, with trials and weights where wanted."""
    if data is None:
        return of_design(fit.design)
    coder: Coder = fit.coding
    return coder.code(data, trials=trials and fit.spec.family.counts_trials, weighted=weighted)


def of_design(design: Design) -> NewRows:
    """Return the rows that were fitted."""
    groups = tuple(NewGroup(g.codes, len(g.levels), pd.Index([]), g.Z) for g in design.groups)
    everything = np.ones(design.n, dtype=bool)
    return NewRows(design.index, everything, design.X, groups, design.offset, design.trials, design.weights)


@dataclass(frozen=True)
class Predictor:
    """Predictions of coded rows; effects of units that the fit has not seen are drawn by "sample", otherwise 0."""

    fit: Any
    rows: NewRows
    new_groups: str
    seed: int = 0

    def places(self) -> Iterator[Array]:
        """Yield places of complete rows that are worked on together: those of a unit, whose effects are made once."""
        n, size = len(self.rows.X), self.rows_at_a_time
        largest = max(self.rows.groups, key=lambda group: group.known, default=None)
        order = np.arange(n) if largest is None else np.argsort(largest.codes, kind="stable")
        for start in range(0, n, size):
            yield order[start : start + size]

    def chunks(self) -> Iterator[tuple[Array, Array]]:
        """Yield (places among the complete rows, draws (m, S) of their linear predictor)."""
        for places in self.places():
            yield places, self.linear(places)

    def without_effects(self, places: Array) -> Array:
        """Return draws (m, S) of the linear predictor of some rows at a typical unit, whose effects are 0."""
        eta = np.repeat(self.rows.offset[places][:, None], self.size, axis=1)
        return eta + self.rows.X[places] @ self._beta if self.fit.spec.coefs else eta

    def linear(self, places: Array) -> Array:
        """Return draws (m, S) of the linear predictor of some rows."""
        eta = self.without_effects(places)
        for number, group in enumerate(self.rows.groups):
            used, place = np.unique(group.codes[places], return_inverse=True)
            b = self._effects(number, used)
            for k in range(group.Z.shape[1]):
                eta += group.Z[places, k][:, None] * b[:, k][place]
        return eta

    def values(self, kind: Kind, places: Array, eta: Array, transform: Callable[[Array], Array] | None) -> Array:
        """Return draws (m, S) of what is wanted of some rows."""
        family = self.fit.spec.family
        if kind == "linear":
            return eta
        if kind == "response":
            drawn = self._responses(places, eta)
            return drawn if transform is None else _transformed(transform, drawn)
        if transform is not None:
            return self._transformed_mean(places, eta, transform)
        mean = family.link.inverse(eta)
        return np.asarray(mean if self.rows.trials is None else mean * self.rows.trials[places][:, None])

    def table(self, kind: Kind, transform: Callable[[Array], Array] | None, prob: float) -> pd.DataFrame:
        """Summarise every row: mean, sd and an equal-tailed interval."""
        found = np.full((len(self.rows.complete), 4), np.nan)
        where = np.flatnonzero(self.rows.complete)
        for places, eta in self.chunks():
            values = self.values(kind, places, eta, transform)
            found[where[places]] = np.stack(tables.of_rows(values, prob), axis=1)
        table = pd.DataFrame(found, index=self.rows.index, columns=["mean", "sd", "lower", "upper"])
        table.columns.name = f"{100 * prob:g} % equal-tailed"
        table.attrs = {"interval": "equal-tailed", "prob": prob, "kind": kind}
        return table

    def draws(
        self, kind: Kind, transform: Callable[[Array], Array] | None, keep: Sequence[int] | Array | None = None
    ) -> Any:
        """Return draws as a DataArray (chain, draw, row); rows in which something is missing are NaN.

        Parameters
        ----------
        keep : places of the draws of each chain; all of them unless given
        """
        import xarray as xr

        chains, length = self.fit.effects.lead
        kept = np.arange(length) if keep is None else np.asarray(keep)
        found = np.full((len(self.rows.complete), chains, len(kept)), np.nan)
        where = np.flatnonzero(self.rows.complete)
        for places, eta in self.chunks():
            values = self.values(kind, places, eta, transform)
            found[where[places]] = values.reshape(-1, chains, length)[:, :, kept]
        array = xr.DataArray(np.moveaxis(found, 0, 2), dims=("chain", "draw", "row"), name=kind)
        array = array.assign_coords(chain=np.arange(chains), draw=kept)
        return array.assign_coords(row_coordinates(self.rows.index))

    @property
    def rows_at_a_time(self) -> int:
        """Rows whose draws are held at a time."""
        return max(1, CHUNK // self.size)

    @property
    def size(self) -> int:
        """Draws of all chains."""
        chains, length = self.fit.effects.lead
        return int(chains * length)

    @cached_property
    def _beta(self) -> Array:
        return np.ascontiguousarray(self.fit.draws("beta").reshape(self.size, -1).T)

    @cached_property
    def _parameters(self) -> dict[str, Array]:
        return {name: self.fit.draws(name).reshape(self.size) for name in self.fit.spec.parameters}

    def _effects(self, number: int, codes: Array) -> Array:
        """Return draws (levels, q, S) of the effects of some levels, new ones among them."""
        spec, group = self.fit.spec.groups[number], self.rows.groups[number]
        found = np.zeros((len(codes), len(spec.coefs), self.size))
        known = codes < group.known
        if known.any():
            b = self.fit.effects.at(spec.name, codes[known])
            found[known] = b.reshape(self.size, -1, len(spec.coefs)).transpose(1, 2, 0)
        if self.new_groups == "sample":
            for place in np.flatnonzero(~known):
                label = group.new[codes[place] - group.known]
                found[place] = self._new_unit(number, label)
        return found

    def _new_unit(self, number: int, label: Any) -> Array:
        """Return draws (q, S) of the effects of a unit that the fit has not seen: N(0, Σ) of each draw."""
        spec = self.fit.spec.groups[number]
        rng = np.random.default_rng([self.seed, _hash(spec.name), _hash(label)])
        z = rng.standard_normal((len(spec.coefs), self.size))
        return np.asarray(np.einsum("sij,js->is", self._factors[number], z))

    @cached_property
    def _factors(self) -> list[Array]:
        """Of each factor F (S, q, q) with FF' the covariance of a unit's effects."""
        found = []
        for spec in self.fit.spec.groups:
            sd = self.fit.draws(f"sd_{spec.name}").reshape(self.size, -1)
            q = sd.shape[1]
            cor = self.fit.draws(f"cor_{spec.name}").reshape(self.size, q, q) if spec.is_correlated else None
            found.append(covariance_factors(sd, cor))
        return found

    def _responses(self, places: Array, eta: Array) -> Array:
        family = self.fit.spec.family
        found = np.empty_like(eta)
        for k, place in enumerate(places):
            rng = np.random.default_rng([self.seed, self._streams[place]])
            weights = None if self.rows.weights is None else self.rows.weights[place]
            trials = None if self.rows.trials is None else self.rows.trials[place]
            row = Rows(np.empty(0), weights, trials)
            found[k] = family.draw(rng, family.link, eta[k], self._parameters, row)
        return found

    @cached_property
    def _streams(self) -> list[int]:
        """A number for each complete row, by its label, and by its place among the rows of the same label."""
        index = self.rows.index[self.rows.complete]
        texts = pd.Series([str(label) for label in index], dtype=object)
        again = texts.groupby(texts).cumcount()
        return [_hash(label) + int(repeat) for label, repeat in zip(index, again, strict=True)]

    def _transformed_mean(self, places: Array, eta: Array, transform: Callable[[Array], Array]) -> Array:
        """The mean of transform(y) over the residual, given the parameters of each draw."""
        family = self.fit.spec.family
        if family.name != "gaussian":
            raise FitError(
                f"the mean of a transformed {family.name} response has no simple form; use kind='response', whose "
                "table has its mean too"
            )
        sigma = self._parameters["sigma"][None]
        if self.rows.weights is not None:
            sigma = sigma / np.sqrt(self.rows.weights[places])[:, None]
        sigma = np.broadcast_to(sigma, eta.shape)
        # row by row, so that a row's mean does not depend on the rows beside it
        some = slice(None, None, max(1, self.size // 50))
        function = partial(_transformed, transform)
        few, many = (
            mean_over_normal(function, eta[:, some], sigma[:, some], *gauss(count)) for count in (NODES, 4 * NODES)
        )
        close = np.abs(few - many) <= 1e-6 * np.abs(many) + 1e-9 * np.abs(many).max(axis=1, keepdims=True)
        smooth, found = close.all(axis=1), np.empty_like(eta)
        for rows, nodes in ((smooth, gauss(NODES)), (~smooth, even(8, KINKED))):
            if rows.any():
                found[rows] = mean_over_normal(function, eta[rows], sigma[rows], *nodes)
        return found


def _transformed(transform: Callable[[Array], Array], values: Array) -> Array:
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(transform(values), dtype=float)
    except (TypeError, ValueError) as error:
        name = getattr(transform, "__name__", "transform=")
        raise FitError(f"{name} does not take an array of responses, as np.exp does: {error}") from error
    if found.shape != values.shape or not np.isfinite(found).all():
        raise FitError("transform= must give one finite number for each response, as np.exp does")
    return found


def row_coordinates(index: Any) -> Any:
    """Return xarray's coordinates of a dimension "row" under an index of one or several levels."""
    import xarray as xr

    if isinstance(index, pd.MultiIndex):
        taken = (None, "row", "chain", "draw")
        names = [f"row_{k}" if name in taken else str(name) for k, name in enumerate(index.names)]
        return xr.Coordinates.from_pandas_multiindex(index.set_names(names), "row")
    return {"row": ("row", index.rename(None))}


def _hash(label: Any) -> int:
    return int.from_bytes(hashlib.blake2b(str(label).encode(), digest_size=7).digest())


def listed(labels: pd.Index) -> str:
    """Count labels and name the first of them."""
    shown = ", ".join(map(str, labels[:5])) + (", …" if len(labels) > 5 else "")
    return f"{len(labels)} level{'s' if len(labels) > 1 else ''} ({shown})"
