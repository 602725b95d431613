"""Posterior draws and a `Design` come in; pointwise leave-one-out scores and comparisons of fits go out (by ArviZ)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.compiler import leverage
from hierpanel.compiler import marginal as route
from hierpanel.compiler.dense import LARGE
from hierpanel.compiler.marginal import Marginal
from hierpanel.compiler.predictor import linear_predictor
from hierpanel.compiler.scales import prior_name
from hierpanel.data.design import Design
from hierpanel.errors import FitError, RouteError
from hierpanel.inference.diagnostics import diagnose
from hierpanel.results import evidence, health
from hierpanel.results.tables import Table
from hierpanel.results.thinning import evenly
from hierpanel.spec import ModelSpec, Rows

# Draws × rows that are held at a time: 64 MB of doubles.
CHUNK = 8_000_000

# Draws of ψ that leave-one-out in closed form is averaged over: densities given ψ differ little from draw to draw. Many
# where rows are few, few where there are many, or where each takes the inverse of a large matrix.
MOST_DRAWS, FEW_DRAWS, LARGE_DRAWS, PREDICTIONS = 1000, 200, 100, 20_000_000

# Pareto smoothing takes the largest fifth of the weights, and at least 5 of them.
FEWEST = 25


def linear_draws(spec: ModelSpec, design: Design, draws: Mapping[str, np.ndarray], rows: slice) -> np.ndarray:
    """Return draws (chain, draw, rows) of the linear predictor, on the original scale."""
    effects = []
    for group in design.groups:
        b = draws[f"b_{group.name}"]
        for k, coef in enumerate(group.coefs):
            z = None if coef == "Intercept" else group.Z[rows, k]
            effects.append((z, b[..., k], group.codes[rows]))
    X = design.X[rows] if spec.coefs else None
    offset = design.offset[rows] if spec.formula.offsets else None
    return np.asarray(linear_predictor(X, draws.get("beta"), effects, offset, lambda X, beta: beta @ X.T))


def chunks(design: Design, draws: Mapping[str, np.ndarray]) -> list[slice]:
    """Return slices of rows that keep draws × rows below `CHUNK`."""
    chain, draw = next(iter(draws.values())).shape[:2]
    size = max(1, CHUNK // (chain * draw))
    return [slice(start, min(start + size, design.n)) for start in range(0, design.n, size)]


def log_likelihood(spec: ModelSpec, design: Design, draws: Mapping[str, np.ndarray], rows: slice) -> np.ndarray:
    """Return draws (chain, draw, rows) of log p(y_i | linear predictor, parameters)."""
    eta = linear_draws(spec, design, draws, rows)
    parameters = {name: draws[name][..., None] for name in spec.parameters}
    weights = None if design.weights is None else design.weights[rows]
    trials = None if design.trials is None else design.trials[rows]
    return spec.family.log_density(spec.family.link, eta, parameters, Rows(design.y[rows], weights, trials))


def of_fit(fit: Any) -> Any:
    """Return ArviZ's ELPDData of a fit: in closed form given ψ where there is one, whichever route sampled it."""
    draws = fit.stored_draws()
    scalars = health.scalars(fit.spec, draws)
    efficiency = efficiency_of(scalars, scalars.shape[0] * scalars.shape[1])
    psi = _psi(fit)
    if psi is None:
        return loo(fit.spec, fit.design, draws, efficiency)
    return loo_given_psi(fit.effects.marginal, fit.spec, fit.design, psi, efficiency)


def _psi(fit: Any) -> np.ndarray | None:
    """Draws (S, d) of ψ, or None where the model has no marginal density."""
    stats = fit.idata["sample_stats"]
    size = int(np.prod(fit.effects.lead))
    if "psi" in stats.data_vars:
        return np.asarray(stats["psi"].values.reshape(size, -1))
    if route.refuses(fit.spec):
        return None
    try:
        parameters = fit.effects.marginal.parameters
    except RouteError:
        return None
    names = ["sigma"]
    for group in fit.spec.groups:
        names += [prior_name("sd", group), *([prior_name("cor", group)] if group.is_correlated else [])]
    draws = {name: fit.draws(name) for name in names}
    return np.asarray(parameters.coordinates({name: d.reshape(size, *d.shape[2:]) for name, d in draws.items()}))


def loo(spec: ModelSpec, design: Design, draws: Mapping[str, np.ndarray], efficiency: float) -> Any:
    """Return ArviZ's ELPDData of leaving out one row at a time (a new row of a known unit).

    Parameters
    ----------
    efficiency : effective draws as a share of all draws, for the Pareto smoothing

    Raises
    ------
    FitError
        With fewer draws than the smoothing needs.
    """
    chain, draw = next(iter(draws.values())).shape[:2]
    _check_draws(chain * draw)
    parts = [smoothed(log_likelihood(spec, design, draws, rows), efficiency, None) for rows in chunks(design, draws)]
    return _joined(parts, design.n)


def loo_given_psi(marginal: Marginal, spec: ModelSpec, design: Design, psi: np.ndarray, efficiency: float) -> Any:
    """Return the same by the marginal route: in closed form given ψ, importance sampling over ψ alone.

    Parameters
    ----------
    psi : (S, d) draws; some of them, evenly spaced, are used
    """
    _check_draws(len(psi))
    wanted = (
        LARGE_DRAWS if marginal.plan.width >= LARGE else int(np.clip(PREDICTIONS // design.n, FEW_DRAWS, MOST_DRAWS))
    )
    psi = psi[evenly(len(psi), wanted)]
    size = max(1, CHUNK // len(psi))
    parts = []
    for start in range(0, design.n, size):
        rows = leverage.rows_of(marginal, spec, design, slice(start, min(start + size, design.n)))
        left_out, predicted = np.empty((len(psi), len(rows.y))), np.empty((len(psi), len(rows.y)))
        for k in range(len(psi)):
            solved = marginal.solve(psi[k : k + 1])
            mean, variance = leverage.predictor_moments(marginal, solved, rows)
            tau = solved.sigma[0] ** 2 / rows.weights
            share = 1 - variance / tau  # of the row's own weight in its mean, what is left
            residual = rows.y - mean
            left_out[k] = _log_normal(residual / share, tau / share)
            predicted[k] = _log_normal(residual, tau + variance)
        fitted = np.logaddexp.reduce(predicted, axis=0) - np.log(len(psi))
        parts.append(smoothed(left_out[None], efficiency, fitted))
    return _joined(parts, design.n)


def _log_normal(residual: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.asarray(-0.5 * residual**2 / variance - 0.5 * np.log(2 * np.pi * variance))


def _check_draws(total: int) -> None:
    if total < FEWEST:
        raise FitError(f"leave-one-out needs at least {FEWEST} draws; this fit has {total}: use draws=1000")


def efficiency_of(scalars: np.ndarray, used: int) -> float:
    """Return the effective draws as a share of those used, at most 1, from draws (chain, draw, K) of K numbers."""
    bulk = diagnose(scalars)[0] if scalars.shape[2] else np.full(1, np.nan)
    return 1.0 if np.isnan(bulk).all() else float(min(np.nanmean(bulk) / used, 1.0))


def smoothed(values: np.ndarray, efficiency: float, fitted: np.ndarray | None) -> Any:
    """Return ArviZ's scores of rows, or of units, from values (chain, draw, rows).

    Parameters
    ----------
    values : log p(y_i | parameters), or log p(y_i | the other rows, parameters): both have the same harmonic mean
    fitted : (rows,) log predictive density with the row left in, where the values do not give it
    """
    import arviz_stats
    import xarray as xr

    likelihood = xr.Dataset({"y": (("chain", "draw", "obs"), values)})
    tree = xr.DataTree.from_dict({"posterior": likelihood.isel(obs=0), "log_likelihood": likelihood})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warning on Pareto k is told in the result, with counts
        scores = arviz_stats.loo(tree, pointwise=True, reff=efficiency)
    if fitted is not None:
        scores.p = float(fitted.sum() - scores.elpd_i.sum())
    return scores


def _joined(parts: list[Any], n: int) -> Any:
    import xarray as xr
    from arviz_stats.utils import ELPDDataLOO

    elpd_i = xr.concat([part.elpd_i for part in parts], dim="obs")
    pareto_k = xr.concat([part.pareto_k for part in parts], dim="obs")
    return ELPDDataLOO(
        elpd=float(elpd_i.sum()),
        se=float(np.sqrt(n * elpd_i.var(ddof=1))),
        p=float(sum(part.p for part in parts)),
        n_samples=parts[0].n_samples,
        n_data_points=n,
        scale="log",
        warning=bool((pareto_k > parts[0].good_k).any()),
        good_k=parts[0].good_k,
        elpd_i=elpd_i,
        pareto_k=pareto_k,
    )


def compare(fits: Mapping[str, Any] | Sequence[Any], by: str = "loo", group: str | None = None) -> pd.DataFrame:
    """Compare fits of the same rows, by cross-validation or by evidence (higher is better in all).

    Parameters
    ----------
    fits : mapping or sequence
        Name → `Fit`, or fits, which are called (1), (2) and so on; at least two, of the same rows and response.
    by : str
        ``"loo"``: how well a new row of a known unit is predicted, by Pareto-smoothed importance sampling.
        ``"logo"``: how well all rows of a new unit are predicted, jointly, its effects integrated out.
        ``"evidence"``: the marginal likelihood p(y) of each model. It depends on the priors, which should be explicit
        and the same in all fits; by default they are scaled by the response.
    group : str, optional
        The units of ``"logo"``: a factor; the panel's unit, or the only factor of the models, unless given.

    Returns
    -------
    DataFrame
        Best first: ``elpd``, ``se``, ``elpd_diff`` (elpd less that of the best: 0 for the best, negative for the
        others), its standard error ``se_diff``, ``p_loo`` (effective parameters), stacking ``weight``, and ``bad_k``,
        the rows (units) whose Pareto k is too high to be trusted. By evidence: ``log_evidence``, ``se``,
        ``log_bayes_factor`` against the best, its ``se_diff``, and ``probability``, of each model where all were
        equally probable before.

    Raises
    ------
    FitError
        For fits of different rows or responses, and by evidence for a model that has none (`Fit.log_evidence`).

    Notes
    -----
    Source: Vehtari, Gelman and Gabry (2017); Yao, Vehtari, Simpson and Gelman (2018) for the weights.

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("dyestuff")
    >>> options = dict(draws=200, tune=200, chains=2, seed=1, progress=False)
    >>> complete = hp.fit("yield_ ~ 1", df, **options)
    >>> partial = hp.fit("yield_ ~ (1 | batch)", df, **options)
    >>> list(hp.compare({"complete": complete, "partial": partial}).index)
    ['partial', 'complete']
    """
    if by not in ("loo", "logo", "evidence"):
        raise FitError(f"fits are compared by='loo', by='logo' or by='evidence', not by={by!r}")
    if isinstance(fits, (list, tuple)):
        fits = {f"({place})": fit for place, fit in enumerate(fits, start=1)}
    if not isinstance(fits, Mapping) or len(fits) < 2:
        raise FitError("compare() takes at least two fits, as in hp.compare({'a': fit_a, 'b': fit_b})")
    for name, fit in fits.items():
        if not hasattr(fit, "idata"):
            what = f"{name} is a {type(fit).__name__}, not a fit"
            raise FitError(f"{what}; compare() takes what hp.fit, Model.fit or hp.load returns")
    _check_same_rows(fits)
    if by == "evidence":
        return evidence.compare(fits)
    if by == "logo":
        from hierpanel.results import logo

        return logo.compare(fits, group)
    return ranked({name: fit.loo() for name, fit in fits.items()}, "p_loo", "LOO: a new row of a known unit")


def ranked(scores: Mapping[str, Any], p: str, corner: str) -> Table:
    """Return a table of ArviZ's scores of the same rows, or units, best first; `p` names its effective parameters."""
    import arviz_stats

    best = np.max([score.elpd_i.values for score in scores.values()], axis=0)  # densities of many rows underflow
    moved = {
        name: replace(score, elpd=score.elpd - best.sum(), elpd_i=score.elpd_i - best) for name, score in scores.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = arviz_stats.compare(moved, method="stacking", round_to="none")
    found = Table(
        {
            "elpd": [scores[name].elpd for name in table.index],
            "se": [scores[name].se for name in table.index],
            "elpd_diff": table["elpd_diff"].to_numpy(float),
            "se_diff": table["dse"].to_numpy(float),
            p: [scores[name].p for name in table.index],
            "weight": table["weight"].to_numpy(float),
            "bad_k": [int((scores[name].pareto_k > scores[name].good_k).sum()) for name in table.index],
        },
        index=np.array(table.index, dtype=object),
    )
    found.columns.name = corner
    return found


def _check_same_rows(fits: Mapping[str, Any]) -> None:
    (first, a), *others = fits.items()
    for name, b in others:
        if a.design.response != b.design.response:
            raise FitError(
                f"{first} and {name} have different responses ({a.design.response}, {b.design.response}); "
                "densities of different quantities cannot be compared"
            )
        same = a.design.n == b.design.n and a.design.index.equals(b.design.index)
        if not same or not np.array_equal(a.design.y, b.design.y):
            n, m = a.design.n, b.design.n
            counts = f"{n} and {m}" if n != m else f"{n} each, but others, or in another order"
            raise FitError(
                f"{first} and {name} were fitted to different rows ({counts}); fit both to the "
                "rows where every column of either is present, for example df.dropna(subset=[...])"
            )
        if a.spec.family.location != b.spec.family.location:
            raise FitError(
                f"{first} gives densities of the response ({a.spec.family.name}) and {name} probabilities or the other "
                f"way round ({b.spec.family.name}); the two cannot be compared"
            )
        if (a.design.trials is None) != (b.design.trials is None) or (
            a.design.trials is not None and not np.array_equal(a.design.trials, b.design.trials)
        ):
            raise FitError(f"{first} and {name} have different trials; their densities cannot be compared")
