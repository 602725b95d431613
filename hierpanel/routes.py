"""A `ModelSpec` and its `Design` come in; one of the two routes samples them, and the posterior goes out."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hierpanel.data.design import Design
from hierpanel.errors import FitError, RouteError
from hierpanel.spec import ModelSpec

Method = Literal["auto", "marginal", "nuts"]


@dataclass(frozen=True)
class Sampling:
    """How to sample; the fields are explained in `Model.fit`."""

    draws: int
    chains: int
    tune: int
    seed: int | None
    cores: int | None
    target_accept: float | None
    parameterization: Literal["noncentered", "centered"]
    effects_memory: float
    progress: bool

    def check(self, method: Method) -> None:
        """Raise `FitError` for what no route can do."""
        from hierpanel.inference import nuts

        if method not in ("auto", "marginal", "nuts"):
            raise FitError(f"method is 'auto', 'marginal' or 'nuts', not {method!r}")
        nuts.check(self.draws, self.chains, self.tune, self.seed, self.cores, self.target_accept)
        memory: Any = self.effects_memory
        if not isinstance(memory, (int, float)) or isinstance(memory, bool) or not memory >= 0:
            raise FitError(f"effects_memory is a number of megabytes, 0 or more, not {memory!r}")
        if self.parameterization not in ("noncentered", "centered"):
            raise FitError(f"parameterization is 'noncentered' or 'centered', not {self.parameterization!r}")
        if method == "marginal" and (self.target_accept is not None or self.parameterization != "noncentered"):
            raise FitError("target_accept and parameterization are options of method='nuts'")


@dataclass(frozen=True)
class Posterior:
    """Draws, by which route, in how many seconds, and why not by the marginal one.

    idata : arviz DataTree.
    """

    idata: Any
    method: Literal["marginal", "nuts"]
    timing: Mapping[str, float]
    reason: str = ""


def sample(spec: ModelSpec, design: Design, method: Method, how: Sampling) -> Posterior:
    """Sample by the route that is asked for; "auto" is the marginal one where it can."""
    how.check(method)
    if method == "nuts":
        return by_nuts(spec, design, how)
    try:
        return by_marginal(spec, design, how)
    except RouteError as refused:
        if method == "marginal":
            raise RouteError(f"no marginal route: {refused}; method='nuts' fits this model") from refused
        return by_nuts(spec, design, how, reason=str(refused))


def by_marginal(spec: ModelSpec, design: Design, how: Sampling) -> Posterior:
    """Sample sds, correlations and sigma; coefficients and group effects are exact given these."""
    from hierpanel.compiler import marginal, scales
    from hierpanel.compiler.noncentered import coords_of
    from hierpanel.data.moments import moments
    from hierpanel.inference.marginal import sample
    from hierpanel.inference.posterior import statistics, to_datatree

    start = time.perf_counter()
    if refused := marginal.refuses(spec):
        raise RouteError(refused)
    compiled = marginal.marginal(spec, moments(design))
    built = time.perf_counter()
    found = sample(
        compiled,
        spec,
        design,
        draws=how.draws,
        chains=how.chains,
        tune=how.tune,
        seed=how.seed if how.seed is not None else int.from_bytes(os.urandom(4)),
        effects_memory=how.effects_memory,
        progress=how.progress,
    )
    stats = statistics(found.stats, compiled.parameters.names, found.attributes | {"sampled_by": found.by})
    idata = to_datatree(found.canonical, scales.dims_of(spec), coords_of(spec, design), stats, design)
    return Posterior(idata, "marginal", {"preparing": built - start, "sampling": found.seconds})


def by_nuts(spec: ModelSpec, design: Design, how: Sampling, reason: str = "") -> Posterior:
    """Sample everything by the No-U-Turn sampler; `reason` says why the other route could not."""
    from hierpanel.compiler import noncentered, scales
    from hierpanel.inference import nuts
    from hierpanel.inference.posterior import to_datatree

    start = time.perf_counter()
    model = noncentered.to_pymc(spec, design, how.parameterization, location="levels")
    built = time.perf_counter()
    result = nuts.sample(
        model,
        draws=how.draws,
        chains=how.chains,
        tune=how.tune,
        seed=how.seed,
        cores=how.cores,
        target_accept=how.target_accept,
        progress=how.progress,
    )
    canonical = noncentered.canonical_draws(spec, design, result.free)
    coords = noncentered.coords_of(spec, design)
    idata = to_datatree(canonical, scales.dims_of(spec), coords, result.sample_stats, design)
    timing = {"compiling": built - start + result.seconds_compile, "sampling": result.seconds_sample}
    return Posterior(idata, "nuts", timing, reason)
