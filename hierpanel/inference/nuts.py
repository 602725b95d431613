"""A `pm.Model` comes in, draws of its free variables go out; nutpie's NUTS does the sampling."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierpanel.errors import FitError, check_whole


@dataclass(frozen=True)
class Draws:
    """What a sampler gives back.

    free : name → (chain, draw, …) draws of the model's free variables.
    sample_stats : xarray Dataset with dims (chain, draw).
    seconds_compile, seconds_sample : wall time of building the compiled density, and of warm-up and sampling.
    """

    free: dict[str, np.ndarray]
    sample_stats: Any
    seconds_compile: float
    seconds_sample: float


def sample(
    model: Any,
    *,
    draws: int,
    chains: int,
    tune: int,
    seed: int | None,
    cores: int | None,
    target_accept: float | None,
    progress: bool,
) -> Draws:
    """Sample a PyMC model by NUTS.

    Parameters
    ----------
    model : pymc.Model
    draws, chains, tune : draws kept in each chain, chains, and warm-up draws in each chain
    seed : the same seed gives the same draws; None takes one from the system
    cores : chains run at a time; all that are there unless given
    target_accept : mean acceptance that the step size is tuned to, in (0, 1); 0.9 unless given
    progress : whether to show nutpie's progress bar
    """
    check(draws, chains, tune, seed, cores, target_accept)
    import nutpie
    import pytensor

    start = time.perf_counter()
    # Without fast-math a density has the same bits whether its code was just compiled or came from the cache on disk,
    # so the same seed gives the same draws in every process; sampling is up to 1.4 times slower for it.
    with pytensor.config.change_flags(numba__fastmath=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's notes on caching concern its authors
        compiled = nutpie.compile_pymc_model(model, var_names=[variable.name for variable in model.free_RVs])
    compiled_at = time.perf_counter()
    seed = seed if seed is not None else int.from_bytes(os.urandom(4))
    tree = nutpie.sample(
        compiled,
        draws=draws,
        tune=tune,
        chains=chains,
        cores=cores if cores is not None else min(chains, os.cpu_count() or 1),
        seed=seed,
        save_warmup=False,
        progress_bar=progress,
        target_accept=0.9 if target_accept is None else target_accept,
    )
    done = time.perf_counter()
    return Draws(
        free={variable.name: tree["posterior"][variable.name].to_numpy() for variable in model.free_RVs},
        sample_stats=tree["sample_stats"].to_dataset(),
        seconds_compile=compiled_at - start,
        seconds_sample=done - compiled_at,
    )


@dataclass(frozen=True)
class DensityDraws:
    """x : (chain, draw, d); stats : name → (chain, draw) statistics."""

    x: np.ndarray
    stats: dict[str, np.ndarray]


def sample_density(
    log_density: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    *,
    draws: int,
    chains: int,
    tune: int,
    seed: int,
    progress: bool,
) -> DensityDraws:
    """Sample a density of a few dimensions by NUTS.

    Its gradients are central differences, whose 2d + 1 points are evaluated together.

    Parameters
    ----------
    log_density : (n, d) → (n,)
    start : (d,) near which the chains start
    """
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    d = len(start)
    step = 1e-4

    def value_and_gradient(x: np.ndarray, **_: Any) -> tuple[float, np.ndarray]:
        moves = step * np.eye(d)
        values = log_density(np.concatenate([[x], x + moves, x - moves]))
        with np.errstate(invalid="ignore"):  # outside the support: the point is rejected, whatever its gradient
            gradient = (values[1 : 1 + d] - values[1 + d :]) / (2 * step)
        return float(values[0]), np.where(np.isfinite(gradient), gradient, 0.0)

    model = from_pyfunc(
        d,
        lambda: value_and_gradient,
        lambda *_: lambda x, **__: {"x": x},
        [np.dtype("float64")],
        [(d,)],
        ["x"],
        make_initial_point_fn=lambda chain_seed: start + 0.1 * np.random.default_rng(chain_seed).standard_normal(d),
    )
    tree = nutpie.sample(
        model, draws=draws, tune=tune, chains=chains, cores=1, seed=seed, save_warmup=False, progress_bar=progress
    )
    stats = tree["sample_stats"].to_dataset()
    return DensityDraws(
        tree["posterior"]["x"].to_numpy(),
        {"lp": stats["logp"].to_numpy(), "diverging": stats["diverging"].to_numpy()},
    )


def check(draws: Any, chains: Any, tune: Any, seed: Any, cores: Any, target_accept: Any) -> None:
    """Refuse what the sampler would fail on, or (without a core) wait for without end."""
    least = {"draws": 1, "chains": 1, "tune": 1, "cores": 1, "seed": 0}
    given = {"draws": draws, "chains": chains, "tune": tune} | {
        name: value for name, value in (("cores", cores), ("seed", seed)) if value is not None
    }
    for name, value in given.items():
        check_whole(name, value, least[name])
    if seed is not None and seed >= 2**64:
        raise FitError(f"seed must be below 2**64, not {seed!r}")
    if target_accept is not None and not (isinstance(target_accept, (int, float)) and 0 < target_accept < 1):
        raise FitError(f"target_accept must be a number between 0 and 1, not {target_accept!r}")
