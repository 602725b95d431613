"""A `Fit` and its units come in; the log predictive density of each whole unit given all others goes out (by ArviZ).

Where the response is Gaussian and β has Normal priors, that density is in closed form given ψ, and importance sampling
runs over ψ alone. Otherwise it runs over draws of everything that units share, and a unit's own effects are integrated
out at each draw, by adaptive quadrature.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.compiler import marginal as route
from hierpanel.compiler import scales, unit_density, unit_quadrature
from hierpanel.compiler.unit_density import Units
from hierpanel.data.design import factorize
from hierpanel.errors import FitError, RouteError
from hierpanel.results import health, loo
from hierpanel.results.effects import covariance_factors
from hierpanel.results.expected import fitted_rows
from hierpanel.results.tables import Table
from hierpanel.results.thinning import evenly
from hierpanel.spec import Family, Rows

Array = np.ndarray

# Draws that densities are averaged over, at most and at least: in closed form given ψ, and integrated at each draw.
CLOSED_FORM, INTEGRATED = (1000, 100), (500, 100)
# Operations in closed form and evaluations of rows by quadrature, over all draws, beyond which draws are fewer.
WORK, EVALUATIONS = 5e8, 2e8
# Nodes of quadrature for each of so many columns (with more they would be too many); a Gaussian integrand needs one.
NODES = {0: 1, 1: 31, 2: 15, 3: 11}
# Rows × draws that are worked on together: they stay in the processor's cache.
CELLS = 100_000
# Differences of log densities are taken over this share of sigma, or of the link's scale.
DIFFERENCE = 0.01
# Share of a column's squares that is left when those of the other units do not determine its coefficient.
UNDETERMINED = 1e-10


@dataclass(frozen=True)
class Labels:
    """The unit of each row: name, codes (n,), and levels (J,)."""

    name: str
    codes: Array
    levels: pd.Index


def logo(fit: Any, group: Any) -> Any:
    """Return the leave-one-unit-out ELPD (all rows of a new unit): arviz's ELPDData with ``elpd_i``, ``pareto_k``.

    For each unit j it is log p(y_j | y_-j), the log density of all its rows jointly given all other rows, with the
    unit's own effects integrated out. `Fit.loo` answers "how well is a new row of a known unit predicted?", this "how
    well are the rows of a new unit predicted?": the marginal, not the conditional likelihood is what counts there.

    Parameters
    ----------
    fit : Fit
    group : a grouping factor, the panel's unit, or the label of each row used (a Series is matched by its index), for a
        partition that is not in the model

    Returns
    -------
    ELPDDataLOO
        Of kind ``"logo"``: ``elpd``, its ``se`` over the units, ``p`` (effective parameters of what units share),
        ``elpd_i`` and ``pareto_k`` by unit.

    Raises
    ------
    FitError
        For ``fe(group)``, and effects of another ``fe()`` that one unit alone has: nothing is known of those of a new
        unit; and for other families where more than three columns would have to be integrated out.

    Notes
    -----
    Factors within units, such as classes in schools, are new with the unit and integrated out with it; those that cross
    the units are not. Priors stay as they are, centred on the columns of all rows. Source: Vehtari, Gelman and Gabry
    (2017) for the importance sampling; Merkle, Furr and Rabe-Hesketh (2019) on conditional and marginal likelihoods.

    Examples
    --------
    >>> import hierpanel as hp
    >>> from hierpanel.results.logo import logo
    >>> fit = hp.fit("reaction ~ days + (days | subject)", hp.datasets.load("sleepstudy"), draws=500, seed=1)
    >>> logo(fit, "subject").n_data_points
    18
    """
    return _scores(fit, _labels(fit, group))


def compare(fits: Mapping[str, Any], group: Any = None) -> Table:
    """Compare fits of the same rows by leaving out the same units, best first.

    Parameters
    ----------
    fits : name → `Fit`, of the same rows of the same response
    group : as in `logo`; unless given, the panel's unit or the only factor of the models. A model without it is scored
        by the units of one that has it

    Returns
    -------
    DataFrame
        ``elpd``, ``se``, ``elpd_diff``, ``se_diff``, ``p_logo``, stacking ``weight``, ``bad_k``, as by ``"loo"``.

    Raises
    ------
    FitError
        For fits whose units differ.
    """
    units = _common_labels(fits, group)
    scores = {name: _scores(fit, units) for name, fit in fits.items()}
    return loo.ranked(scores, "p_logo", f"LOGO: a new {units.name}")


# Units -------------------------------------------------------------------------------------------------------------


def _labels(fit: Any, group: Any) -> Labels:
    """Return the units that a grouping factor, the panel, or a label for each row make."""
    design, panel = fit.design, fit.spec.panel
    if isinstance(group, str):
        for factor in design.groups:
            if factor.name == group:
                return Labels(group, factor.codes.astype(np.int64), factor.levels)
        if panel is not None and panel.unit == group:
            known = fit.source is not None
            levels = factorize((group,), fitted_rows(fit))[1] if known else pd.RangeIndex(design.units.max() + 1)
            return Labels(group, design.units.astype(np.int64), levels)
        factors = ", ".join([factor.name for factor in design.groups] or ["none"])
        raise FitError(
            f"there is no grouping factor {group!r} in this model (it has: {factors}); units that are not in it are "
            f"given by a label for each row, as in fit.logo(df[{group!r}])"
        )
    if np.ndim(group) != 1:
        raise FitError("units are a grouping factor, the panel's unit, or one label for each row, as in df['worker']")
    labels = group if isinstance(group, pd.Series) else pd.Series(list(group), name="unit")
    if isinstance(group, pd.Series) and not labels.index.equals(design.index) and labels.index.is_unique:
        labels = labels.reindex(design.index)
    if len(labels) != design.n:
        raise FitError(f"there are {len(labels):,} labels of units for {design.n:,} rows; one for each row is needed")
    if labels.isna().any():
        raise FitError(f"the unit of {int(labels.isna().sum()):,} of the {design.n:,} rows is missing")
    codes, levels = pd.factorize(labels, sort=True)
    return Labels("unit" if labels.name is None else str(labels.name), codes.astype(np.int64), pd.Index(levels))


def _common_labels(fits: Mapping[str, Any], group: Any) -> Labels:
    """Return the units by which fits are compared, the same for all of them."""
    if group is None:
        panels = {fit.spec.panel.unit for fit in fits.values() if fit.spec.panel is not None}
        names = panels or {factor.name for fit in fits.values() for factor in fit.design.groups}
        if len(names) != 1:
            listed = ", ".join(sorted(names)) or "none"
            raise FitError(f"say which units are left out, as in group='worker'; the factors are: {listed}")
        group = next(iter(names))
    having = [
        name
        for name, fit in fits.items()
        if isinstance(group, str) and any(factor.name == group for factor in fit.design.groups)
    ]
    units = {name: _labels(fits[name], group) for name in having or list(fits)[:1]}
    (first, a), *others = units.items()
    for name, b in others:
        if not (np.array_equal(a.codes, b.codes) and a.levels.equals(b.levels)):
            raise FitError(f"{first} and {name} have different units: {a.name} is not the same in their rows")
    return a


# Scores ------------------------------------------------------------------------------------------------------------


def _scores(fit: Any, labels: Labels) -> Any:
    """Return ArviZ's ELPDData of leaving out each unit."""
    chains, length = fit.effects.lead
    if (size := chains * length) < loo.FEWEST:
        raise FitError(f"leave-one-unit-out needs at least {loo.FEWEST} draws; this fit has {size}: use draws=1000")
    if len(labels.levels) < 2:
        raise FitError(f"{labels.name} has one unit; leaving it out leaves nothing")
    _refuse(fit, labels)
    units = unit_density.arrange(labels.codes, [group.codes for group in fit.design.groups])
    with np.errstate(all="ignore"):  # what overflows is found below
        values, fitted = _in_closed_form(fit, units) or _integrated(fit, units, labels.name)
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=0))
        raise FitError(f"log p(y) of {labels.name} {labels.levels[bad[0]]} is not finite at some draws")
    scalars = health.scalars(fit.spec, fit.stored_draws())
    return _by_unit(loo.smoothed(values[None], loo.efficiency_of(scalars, len(values)), fitted), labels)


def _refuse(fit: Any, labels: Labels) -> None:
    """Refuse units whose density given the others does not exist."""
    for group, data in zip(fit.spec.groups, fit.design.groups, strict=True):
        pairs = np.unique(np.stack([data.codes, labels.codes]), axis=1)
        alone = np.flatnonzero(np.bincount(pairs[0]) == 1)
        if group.is_fixed and len(alone):
            which = "" if len(alone) == group.levels else f" of {len(alone):,} levels ({data.levels[alone[0]]}, …)"
            raise FitError(
                f"the effects of fe({group.name}){which} belong to one {labels.name} each; where it is left out, "
                f"nothing says what they are, as fixed effects have no distribution: use (1 | {group.name}), or "
                f"fit.loo() for new rows of a known {labels.name}"
            )
    flat = [k for k, prior in enumerate(fit.spec.beta) if prior.name == "Flat"]
    X = fit.design.X[:, flat] - fit.spec.center[flat]
    if fit.spec.has_intercept and 0 in flat:
        X[:, 1:] -= X[:, 1:].mean(axis=0)
    X = X / np.linalg.norm(X, axis=0)
    shape = (len(flat), len(flat), len(labels.levels))
    squares = np.array([np.bincount(labels.codes, a * b, shape[2]) for a in X.T for b in X.T]).reshape(shape)
    least = np.linalg.eigvalsh((squares.sum(axis=2, keepdims=True) - squares).transpose(2, 0, 1)).min(axis=1, initial=1)
    if len(lost := np.flatnonzero(least < UNDETERMINED)):
        names = ", ".join(f"beta[{fit.spec.coefs[k]}]" for k in flat)
        raise FitError(
            f"without {labels.name} {labels.levels[lost[0]]} the other rows do not determine the coefficients whose "
            f"priors are flat ({names}); give them Normal priors"
        )


def _in_closed_form(fit: Any, units: Units) -> tuple[Array, Array] | None:
    """Return log p(y_j | y_-j, ψ) (S, J), and (J,) the same with unit j left in; None where there is no closed form."""
    if route.refuses(fit.spec):
        return None
    try:
        one = unit_density.left_out(fit.effects.marginal, fit.spec, fit.design, units)
    except RouteError:
        return None
    keep = _thinned(fit, CLOSED_FORM, WORK / one.work)
    left_out, predicted = one.log_densities(_factors(fit, keep), fit.draws("sigma").ravel()[keep])
    return left_out, np.logaddexp.reduce(predicted, axis=0) - math.log(len(keep))


def _integrated(fit: Any, units: Units, name: str) -> tuple[Array, Array]:
    """Return log p(y_j | what units share) (S, J) at draws of it, and (J,) the log of its mean."""
    spec, design = fit.spec, fit.design
    own = [design.groups[f] for f in units.chain]
    m, exact = sum(len(group.coefs) for group in own), spec.family.name == "gaussian"
    if m > max(NODES) and not exact:
        listed = ", ".join(f"{coef} of {group.name}" for group in own for coef in group.coefs)
        raise FitError(
            f"leaving out a {name} integrates its effects out, of {m} columns ({listed}); for a {spec.family.name} "
            f"response at most {max(NODES)} can be: fit.loo() scores new rows of known units"
        )
    for f in units.shared:
        if unit_density.is_nested(design.groups[f].codes, units.codes):
            raise FitError(
                f"leaving out a {name} integrates the effects of {design.groups[f].name} within it out, but they are "
                f"crossed with those of {own[0].name} within it, which has no closed form here"
            )
    nodes = 1 if exact else NODES[m]
    keep = _thinned(fit, INTEGRATED, EVALUATIONS / (design.n * nodes**m))
    factors, order = _factors(fit, keep), units.order
    shared = replace(design, groups=tuple(design.groups[f] for f in units.shared))
    draws = {f"b_{group.name}": _effects(fit, group.name, keep) for group in shared.groups}
    draws |= {"beta": fit.draws("beta").reshape(-1, len(spec.coefs))[None, keep]} if spec.coefs else {}
    parameters = {parameter: fit.draws(parameter).ravel()[keep] for parameter in spec.parameters}
    weights, trials = (None if a is None else a[order, None] for a in (design.weights, design.trials))
    rows = Rows(design.y[order, None], weights, trials)
    Z = [(design.groups[f].Z - spec.groups[f].center)[order] for f in units.chain]
    places = [(k, a) for k, group in enumerate(own) for a in range(len(group.coefs))]
    values = np.empty((len(keep), len(units.starts[-1])))
    size = max(1, CELLS // design.n)
    for start in range(0, len(keep), size):
        at = slice(start, start + size)
        here = {key: value[at] for key, value in parameters.items()}
        eta = np.zeros((design.n, len(keep[at])))
        if spec.coefs or shared.groups or spec.formula.offsets:
            eta += loo.linear_draws(spec, shared, {k: v[:, at] for k, v in draws.items()}, slice(None))[0].T[order]
        log_density = partial(_log_density, spec.family, here, rows)
        columns = [Z[k] @ factors[units.chain[k]][:, a, at] for k, a in places]
        step = DIFFERENCE * here.get("sigma", np.ones(1))
        found = unit_quadrature.integrated(units, log_density, eta, columns, [k + 1 for k, _ in places], step, nodes)
        values[at] = found.T
    return values, np.logaddexp.reduce(values, axis=0) - math.log(len(keep))


def _log_density(family: Family, parameters: Mapping[str, Array], rows: Rows, eta: Array) -> Array:
    return family.log_density(family.link, eta, parameters, rows)


def _thinned(fit: Any, bounds: tuple[int, int], affordable: float) -> Array:
    """Return the places of evenly spaced draws."""
    most, fewest = bounds
    size = fit.effects.lead[0] * fit.effects.lead[1]
    return evenly(size, int(np.clip(affordable, fewest, most)))


def _factors(fit: Any, keep: Array) -> list[Array]:
    """Return F (q, q, S) of every factor at some draws: the effects' covariance on the prior's scale is F F'."""
    found = []
    for group in fit.spec.groups:
        q = len(group.coefs)
        sd = fit.draws(scales.prior_name("sd", group)).reshape(-1, q)[keep]
        cor = fit.draws(scales.prior_name("cor", group)).reshape(-1, q, q)[keep] if group.is_correlated else None
        found.append(np.moveaxis(covariance_factors(sd, cor), 0, 2))
    return found


def _effects(fit: Any, name: str, keep: Array) -> Array:
    """Return draws (1, S, J, q) of a factor's effects, some levels at a time where they have to be made."""
    levels = fit.design.group(name).levels
    size = len(levels) if fit.effects.is_stored(name) else 512
    parts = [fit.group_draws(name, levels[start : start + size]) for start in range(0, len(levels), size)]
    return np.concatenate([part.reshape(-1, *part.shape[2:])[None, keep] for part in parts], axis=2)


def _by_unit(scores: Any, labels: Labels) -> Any:
    """Return ArviZ's scores with the labels of units."""
    import xarray as xr

    J = len(labels.levels)
    scores.n_data_points, scores.se = J, float(np.sqrt(J * scores.elpd_i.var(ddof=1)))
    for part in ("elpd_i", "pareto_k"):
        scores[part] = xr.DataArray(scores[part].values, {labels.name: labels.levels}, (labels.name,), part)
    scores._kind = "logo"
    return scores
