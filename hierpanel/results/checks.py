"""A `Fit` or a spec comes in; what the model expects to see, before and after, and how priors matter, go out."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.compiler.scales import prior_name
from hierpanel.data.design import Design
from hierpanel.errors import FitError, PriorError, check_whole
from hierpanel.inference.diagnostics import varies
from hierpanel.results.effects import covariance_factors
from hierpanel.results.explain import prior_draws
from hierpanel.results.plot_parameters import every_parameter
from hierpanel.results.predict import CHUNK, Predictor, of_design, row_coordinates
from hierpanel.results.thinning import evenly
from hierpanel.spec import ModelSpec, Prior, Rows

Array = np.ndarray


def posterior_predictive(fit: Any, draws: int | None, seed: int) -> Any:
    """Draw responses of the fit's rows; see `Fit.posterior_predictive`."""
    check_whole("seed", seed, 0)
    keep = None
    if draws is not None:
        check_whole("draws", draws, 1)
        chains, length = fit.effects.lead
        keep = evenly(length, -(-draws // chains))
    found = Predictor(fit, of_design(fit.design), "error", seed).draws("response", None, keep)
    return found.rename(fit.spec.formula.response)


def prior_predictive(spec: ModelSpec, design: Design, draws: int, seed: int) -> Any:
    """Draw responses of the rows from the priors; see `Model.prior_predictive`."""
    check_whole("draws", draws, 1)
    check_whole("seed", seed, 0)
    import xarray as xr

    rng = np.random.default_rng(seed)
    try:
        found = prior_draws(spec, design, rng, draws)
    except PriorError as error:
        raise PriorError(f"nothing can be drawn from the priors: {error}") from error
    eta = np.repeat(design.offset[:, None], draws, axis=1)
    if spec.coefs:
        eta += (design.X - spec.center) @ found["beta"][0].T
    for group, data in zip(spec.groups, design.groups, strict=True):
        sd, q = found[prior_name("sd", group)][0], len(group.coefs)
        F = covariance_factors(sd, found[prior_name("cor", group)][0] if group.is_correlated else None)
        b = np.einsum("sij,jls->ils", F, rng.standard_normal((q, group.levels, draws)))
        for k in range(q):
            eta += (data.Z[:, k] - group.center[k])[:, None] * b[k][data.codes]
    parameters = {name: found[name][0] for name in spec.parameters}
    values, size = np.empty_like(eta), max(1, CHUNK // draws)
    for start in range(0, design.n, size):
        some = slice(start, start + size)
        values[some] = spec.family.draw(rng, spec.family.link, eta[some], parameters, _rows(design, some))
    array = xr.DataArray(values.T[None], dims=("chain", "draw", "row"), name=spec.formula.response)
    return array.assign_coords(chain=[0], draw=np.arange(draws)).assign_coords(row_coordinates(design.index))


def sensitivity(fit: Any) -> pd.DataFrame:
    """Say how far the posterior moves when priors, or the likelihood, are raised to a power; see `Fit.sensitivity`."""
    import arviz_stats
    import xarray as xr

    chains, length = fit.effects.lead
    if length < 25:
        raise FitError(f"sensitivity() smooths weights of draws, and {length} in a chain are too few; use draws=1000")
    moving = {one.key: one.draws for one in every_parameter(fit, "report") if varies(one.draws, None)}
    if not moving:
        raise FitError("nothing was sampled: every parameter is fixed")
    dims = ("chain", "draw")
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({name: (dims, draws) for name, draws in moving.items()}),
            "log_prior": xr.Dataset({"priors": (dims, _log_prior(fit).reshape(chains, length))}),
            "log_likelihood": xr.Dataset({"y": (dims, _log_likelihood(fit).reshape(chains, length))}),
        }
    )
    log = logging.getLogger("arviz_stats")
    level = log.level
    log.setLevel(logging.ERROR)  # its hint on diagnoses is in the table
    try:
        found: pd.DataFrame = arviz_stats.psense_summary(tree)
    finally:
        log.setLevel(level)
    found.index.name = "parameter"
    return found.loc[:, ["prior", "likelihood", "diagnosis"]]


def _log_prior(fit: Any) -> Array:
    """Log density (S,) of the draws under the priors of coefficients, sds, correlations and the family's parameters."""
    spec, size = fit.spec, int(np.prod(fit.effects.lead))
    total = np.zeros(size)
    if spec.coefs:
        beta = fit.draws(prior_name("beta", spec)).reshape(size, -1)
        total += sum(_density(prior, beta[:, k]) for k, prior in enumerate(spec.beta))
    for group in spec.groups:
        sd = fit.draws(prior_name("sd", group)).reshape(size, -1)
        total += sum(_density(prior, sd[:, k]) for k, prior in enumerate(group.sd) if isinstance(prior, Prior))
        if group.is_correlated:
            cor = fit.draws(prior_name("cor", group)).reshape(size, len(group.coefs), -1)
            total += (group.eta - 1) * np.linalg.slogdet(cor)[1]
    return total + sum(_density(prior, fit.draws(name).reshape(size)) for name, prior in spec.parameters.items())


def _density(prior: Prior, values: Array) -> Array:
    return np.zeros(len(values)) if prior.name in ("Flat", "HalfFlat") else np.asarray(prior.log_density(values))


def _log_likelihood(fit: Any) -> Array:
    """Log likelihood (S,) of all rows, given coefficients and group effects."""
    spec, design = fit.spec, fit.design
    predictor = Predictor(fit, of_design(design), "error")
    parameters = {name: fit.draws(name).reshape(-1) for name in spec.parameters}
    total = np.zeros(predictor.size)
    for places, eta in predictor.chunks():
        total += spec.family.log_density(spec.family.link, eta, parameters, _rows(design, places)).sum(axis=0)
    return total


def _rows(design: Design, places: slice | Array) -> Rows:
    """The rows at some places, as columns (m, 1) beside draws (m, S)."""
    weights, trials = (None if a is None else a[places, None] for a in (design.weights, design.trials))
    return Rows(design.y[places, None], weights, trials)
