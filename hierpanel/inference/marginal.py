"""A `Marginal` comes in; draws of the canonical variables go out, with the evidence and how good the proposals were."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierpanel.compiler import scales
from hierpanel.compiler.marginal import Marginal
from hierpanel.data.design import Design
from hierpanel.errors import RouteError
from hierpanel.inference import effects, independence
from hierpanel.inference.coordinates import Coordinates
from hierpanel.inference.diagnostics import diagnose
from hierpanel.inference.effects import State
from hierpanel.inference.progress import Progress
from hierpanel.spec import ModelSpec, Prior

Array = np.ndarray

# Numbers that are worked on in a round of adaptation, and over all proposals.
ROUND, PROPOSALS = 40_000_000, 200_000_000
MOST_POINTS, MOST_THINNING = 1000, 12
# Models that take more numbers for each point draw effects along with proposals, not once more afterwards.
LARGE_MODEL = 200_000
# Above this Pareto k̂ the weights of proposals cannot be trusted (Vehtari et al., 2024).
UNTRUSTED = 0.7
# Proposals that are tried: each is fitted to the points of the one before.
ATTEMPTS = 5
# Chains with fewer effective draws than this share are stuck.
STUCK = 0.05
# Proposals that k̂ and the evidence are taken from, at least.
FEWEST = 400
# fe() effects × draws above which their mean and variance over the rows are drawn without them.
MANY = 20_000_000
# A residual sd below this share of the response's sd is lost in the rounding of squares.
EXPLAINED = 1e-5


@dataclass(frozen=True)
class Sampled:
    """What the marginal route gives back.

    canonical : name → (chain, draw, …) draws; factors above the memory bound have no b_g.
    stats : name → (chain, draw, …) statistics, ψ among them; attributes : single numbers.
    by : "independence", or "nuts" where the proposals were not good enough.
    seconds : wall time.
    """

    canonical: dict[str, Array]
    stats: dict[str, Array]
    attributes: dict[str, float]
    by: str
    seconds: float


@dataclass(frozen=True)
class _Run:
    """Draws of ψ (chains, draws, d), statistics, and the effects drawn along with them, or None."""

    psi: Array
    stats: dict[str, Array]
    attributes: dict[str, float]
    by: str
    drawn: State | None


def sample(
    marginal: Marginal,
    spec: ModelSpec,
    design: Design,
    *,
    draws: int,
    chains: int,
    tune: int,
    seed: int,
    effects_memory: float,
    progress: bool,
) -> Sampled:
    """Sample ψ by independence Metropolis chains, then coefficients and effects exactly, given ψ.

    Parameters
    ----------
    draws, chains, tune : as for NUTS, which samples ψ where Pareto k̂ is above 0.7; only it is tuned
    seed : the same seed gives the same draws
    effects_memory : megabytes of group effects that are stored as draws
    progress : whether to say how far a long fit has come

    Raises
    ------
    RouteError
        Where the columns explain the response to the last digit, so that cross-products do not hold what is left.
    """
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    stored = effects.stored(marginal, spec, draws * chains, effects_memory)
    with Progress(progress) as told:
        best = independence.best_start(marginal.log_density, _starts(marginal, rng))
        mode = independence.maximise(marginal.log_density, best, gain=0.5)[0]
        if math.exp(mode[-1]) < EXPLAINED * spec.scale:
            raise RouteError(
                f"sigma is below {EXPLAINED:g} of the response's sd: the model explains the response to the last "
                "digit, and cross-products do not hold what is left"
            )
        coordinates = _coordinates(marginal, mode)
        run = _independence(marginal, coordinates, mode, draws, chains, rng, stored, told)
        if run.attributes["pareto_k"] > UNTRUSTED or _mixes_badly(run.psi):
            run = _nuts(marginal, coordinates, mode, draws, chains, tune, seed, run.attributes, progress)
        flat = run.psi.reshape(-1, run.psi.shape[2])
        state = run.drawn or _draw(marginal, flat, rng, stored, told)[1]
        state = State(state.psi, state.beta_c, state.effects, seed)
        canonical, means = _canonical(marginal, spec, design, state, (chains, draws))
    return Sampled(
        canonical=canonical,
        stats=run.stats | means | {"psi": run.psi},
        attributes=run.attributes | {"effects_seed": seed},
        by=run.by,
        seconds=time.perf_counter() - began,
    )


def _starts(marginal: Marginal, rng: np.random.Generator) -> Array:
    """Return a few points around the start, and as many in which some coordinates are drawn from their priors."""
    count = int(np.clip(ROUND // (20 * max(marginal.plan.work, 1)), 2, 32))
    around = marginal.start + rng.normal(0, 1.5, (count, len(marginal.start)))
    prior = marginal.parameters.prior_draws(rng, around)
    mixed = np.where(rng.random(prior.shape) < 0.7, prior, around)
    return np.concatenate([marginal.start[None], around, mixed, prior])


def _mixes_badly(psi: Array) -> bool:
    """Whether chains of independence proposals stuck at a few points, though the weights looked well."""
    total = psi.shape[0] * psi.shape[1]
    if total < FEWEST or psi.shape[1] < 4:  # chains of fewer draws have no effective sample size
        return False
    return bool(np.nanmin(diagnose(psi)[:2], initial=total) < STUCK * total)


def _coordinates(marginal: Marginal, mode: Array) -> Coordinates:
    kinds = [
        "correlation" if not isinstance(prior, Prior) else "sigma" if name == "sigma" else "sd"
        for name, prior in zip(marginal.parameters.names, marginal.parameters.priors, strict=True)
    ]
    return Coordinates(np.array([k == "sd" for k in kinds]), np.array([k == "correlation" for k in kinds]), mode)


def _independence(
    marginal: Marginal,
    coordinates: Coordinates,
    mode: Array,
    draws: int,
    chains: int,
    rng: np.random.Generator,
    stored: Sequence[str],
    told: Progress,
) -> _Run:
    """Adapt a proposal, and run chains from it; more proposals than draws where they cost little."""

    def watched(what: str) -> independence.LogDensity:
        return coordinates.of(lambda psi: marginal.log_density(psi, lambda chunks: told.steps(chunks, what)))

    density = watched("adapting")
    work, total = max(marginal.plan.work, 1), draws * chains
    points = int(np.clip(ROUND // work, 25 * len(mode), MOST_POINTS))
    reach = np.where(coordinates.is_sd | coordinates.is_correlation, 1.0, 0.0)
    proposal = independence.adapt(density, coordinates.start(mode), reach, points, chains, rng)
    for attempt in range(ATTEMPTS):
        wanted = min(math.ceil(2.5 / proposal.efficiency), MOST_THINNING, PROPOSALS // (work * total))
        thin = max(1, wanted)
        extra = max(FEWEST - total * thin, 0)
        x = np.concatenate(
            [proposal.mixture.draw(rng, total * thin), proposal.starts, proposal.mixture.draw(rng, extra)]
        )
        psi, log_jacobian = coordinates.to_psi(x)
        drawn = None
        if thin == 1 and work > LARGE_MODEL:
            log_likelihood, drawn = _draw(marginal, psi, rng, stored, told)
            log_p = log_likelihood + marginal.parameters.log_prior(psi) + log_jacobian
        else:
            log_p = watched("sampling")(x)
        log_w = log_p - proposal.mixture.log_density(x)
        starts = slice(total * thin, total * thin + chains)
        chain = independence.chains_of(log_w[: total * thin].reshape(chains, -1), log_w[starts], rng)
        log_w = np.delete(log_w, starts)  # the starts are no draws of the proposal
        choice = chain.choice[:, thin - 1 :: thin].ravel()
        pareto_k = independence.pareto_k(log_w)
        sampled = psi[choice].reshape(chains, draws, -1)
        if attempt + 1 == ATTEMPTS or (pareto_k <= UNTRUSTED and not _mixes_badly(sampled)):
            break
        proposal = independence.refined(np.delete(x, starts, axis=0), log_w, reach, chains, rng)
    value, error = independence.evidence(log_w)
    return _Run(
        psi=sampled,
        stats={
            "lp": (log_p - log_jacobian)[choice].reshape(chains, draws),
            "accepted": chain.accepted.reshape(chains, draws, thin).any(axis=2),
        },
        attributes={"pareto_k": pareto_k, "log_evidence": value, "log_evidence_se": error},
        by="independence",
        drawn=None
        if drawn is None
        else State(drawn.psi[choice], drawn.beta_c[choice], {n: b[choice] for n, b in drawn.effects.items()}, 0),
    )


def _draw(
    marginal: Marginal, psi: Array, rng: np.random.Generator, stored: Sequence[str], told: Progress
) -> tuple[Array, State]:
    """Return log p(y | ψ) (S,), and coefficients and stored effects drawn given each ψ (S, d)."""
    sizes = {name: marginal.plan.sizes[place] for place, name in enumerate(marginal.names)}
    log_likelihood = np.empty(len(psi))
    beta_c = np.empty((len(psi), len(marginal.mean)))
    b = {name: np.empty((len(psi), *sizes[name])) for name in stored}
    for points in told.steps(marginal.chunks(len(psi)), "sampling"):
        drawn = marginal.draw(psi[points], lambda *place: rng.standard_normal(place[2]), stored)
        log_likelihood[points], beta_c[points] = drawn.log_likelihood, drawn.beta_c
        for name in stored:
            b[name][points] = drawn.effects[name]
    return log_likelihood, State(psi, beta_c, b, 0)


def _canonical(
    marginal: Marginal, spec: ModelSpec, design: Design, state: State, lead: tuple[int, int]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return draws of the canonical variables, and of what `fe()` factors' means took from their effects."""
    F = marginal.parameters.factors(state.psi)
    factors = {
        group.name: [[entry if isinstance(entry, float) else entry.reshape(lead) for entry in row] for row in matrix]
        for group, matrix in zip(spec.groups, F, strict=True)
    }
    b_c = {name: [b[:, :, k].reshape(*lead, -1) for k in range(b.shape[2])] for name, b in state.effects.items()}
    beta_c = [state.beta_c[:, k].reshape(lead) for k in range(len(spec.coefs))]
    sigma = {"sigma": marginal.parameters.sigma(state.psi).reshape(lead)}
    sums = {} if len(b_c) == len(spec.groups) else _fixed_sums(marginal, spec, design, state, lead)
    assembled = scales.on_original_scale(spec, design, beta_c, factors, b_c, sigma, sums)
    return {name: scales.stack(np, value, lead) for name, value in assembled.items()}, sums


def _fixed_sums(
    marginal: Marginal, spec: ModelSpec, design: Design, state: State, lead: tuple[int, int]
) -> dict[str, Array]:
    """Return the row-weighted means of `fe()` effects and of their squares.

    They are those of the effects' draws; of more than `MANY` numbers they are drawn from their own distribution given ψ
    and β.
    """
    found: dict[str, Array] = {}
    for group, data in zip(spec.groups, design.groups, strict=True):
        if group.is_fixed:
            column, share = scales.fixed_column(group), data.rows / design.n
            many = group.name not in state.effects and group.levels * len(state.psi) > MANY
            summed = effects.totals_of(marginal, state, group.name, share) if many else None
            if summed is not None:
                means, squares = summed
                found |= {f"mean_{group.name}": means.reshape(lead), f"square_{group.name}": squares.reshape(lead)}
                continue
            mean, square = np.zeros(len(state.psi)), np.zeros(len(state.psi))
            for start in range(0, group.levels, effects.LEVELS):
                levels = slice(start, min(start + effects.LEVELS, group.levels))
                stored = state.effects.get(group.name)
                b = effects.draw(marginal, state, group.name, levels) if stored is None else stored[:, levels]
                mean += b[:, :, column] @ share[levels]
                square += b[:, :, column] ** 2 @ share[levels]
            found |= {f"mean_{group.name}": mean.reshape(lead), f"square_{group.name}": square.reshape(lead)}
    return found


def _nuts(
    marginal: Marginal,
    coordinates: Coordinates,
    mode: Array,
    draws: int,
    chains: int,
    tune: int,
    seed: int,
    attributes: dict[str, float],
    progress: bool,
) -> _Run:
    """Sample ψ by nutpie's NUTS, with differences of the density as its gradient."""
    from hierpanel.inference import nuts

    density = coordinates.of(marginal.log_density)
    found = nuts.sample_density(
        density, coordinates.start(mode), draws=draws, chains=chains, tune=tune, seed=seed, progress=progress
    )
    psi, log_jacobian = coordinates.to_psi(found.x.reshape(-1, len(mode)))
    stats = found.stats | {"lp": found.stats["lp"] - log_jacobian.reshape(found.x.shape[:2])}  # of ψ, not of x
    return _Run(psi.reshape(found.x.shape), stats, {"pareto_k": attributes["pareto_k"]}, "nuts", None)
