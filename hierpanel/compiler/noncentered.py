"""A `ModelSpec` and a `Design` come in; a plain `pm.Model` goes out, whose named variables are the canonical ones.

    eta = (X - x̄) beta_c + Σ_g Σ_k (z_gk - z̄_gk) b_c_gk[codes_g] + offset      b_c_g = F_g u_g,  u_g ~ Normal(0, 1)
    F_g = diag(sd_c_g) L_g                                                     L_g L_g' = cor_c_g ~ LKJ(eta)

`scales.py` takes these back to the original scale. Without centring `beta` and `sd_g` are free variables themselves.

Effects are written column by column, as sums and products of scalars and vectors: PyTensor's Numba backend needs
tens of seconds more for a matrix product, or `pm.LKJCholeskyCov`, in whose place correlations are built from partial
correlations; and a gather of vectors samples three times as fast as a gather of rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from hierpanel.compiler import scales
from hierpanel.compiler.predictor import linear_predictor
from hierpanel.compiler.scales import dims_of, prior_name, stack
from hierpanel.data.design import Design
from hierpanel.errors import FitError
from hierpanel.spec import GroupSpec, ModelSpec, Prior, Rows
from hierpanel.spec.priors import distribution

# Up to so many columns X beta is written out; beyond, the graph would grow too large.
FEW_COLUMNS = 5
Parameterization = Literal["noncentered", "centered"]
# What is sampled: coefficients and sds; or what data fix, levels (`scales.coefficients`) and spreads (`unit_spreads`).
Location = Literal["coefficients", "levels"]


def to_pymc(
    spec: ModelSpec,
    design: Design,
    parameterization: Parameterization = "noncentered",
    location: Location = "coefficients",
) -> Any:
    """Build the PyMC model.

    Parameters
    ----------
    spec, design
        What is assumed, and the numbers.
    parameterization
        ``"noncentered"`` samples standardised effects u; ``"centered"`` samples the effects themselves, which mixes
        better when every unit has very many rows.
    location
        ``"levels"`` samples the same posterior with better mixing; ``"coefficients"`` has the plainer graph.

    Returns
    -------
    pymc.Model with coords ``obs``, ``coef``, and for each factor g ``g``, ``coef_g``, ``coef_g_bis``.
    """
    if parameterization not in ("noncentered", "centered"):
        raise FitError(f"parameterization is 'noncentered' or 'centered', not {parameterization!r}")
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model(coords=coords_of(spec, design)) as model:
        free = _free_variables(pm, spec, parameterization, location)
        assembled = scales.assemble(spec, design, free)
        effects = []
        for group, data in zip(spec.groups, design.groups, strict=True):
            codes = pt.constant(data.codes)
            for k, coef in enumerate(group.coefs):
                z = None if coef == "Intercept" else pt.constant(data.Z[:, k] - group.center[k])
                effects.append((z, assembled.b_c[group.name][k], codes))
        X = design.X - spec.center if spec.coefs else None
        beta_c = stack(pt, assembled.beta_c) if spec.coefs else None
        offset = pt.constant(design.offset) if spec.formula.offsets else None
        eta = linear_predictor(X, beta_c, effects, offset, _dot)
        for name, dims in dims_of(spec).items():
            if name not in model.named_vars:
                pm.Deterministic(name, stack(pt, assembled.canonical[name]), dims=dims)
        parameters = {name: free[name] for name in spec.parameters}
        y = design.y if spec.family.location else design.y.astype(int)
        rows = Rows(y, design.weights, design.trials)
        distribution_of_y, values = spec.family.likelihood(pm, spec.family.link, eta, parameters, rows)
        distribution_of_y("y", **values, observed=y, dims="obs")
    return model


def canonical_draws(spec: ModelSpec, design: Design, free: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn draws of the free variables of `to_pymc`'s model into draws of the canonical ones.

    Parameters
    ----------
    free : name → (chain, draw, …) draws

    Returns
    -------
    name → (chain, draw, …) draws, in the order of `dims_of`
    """
    lead = next(iter(free.values())).shape[:2]
    assembled = scales.assemble(spec, design, free)
    return {name: stack(np, value, lead) for name, value in assembled.canonical.items()}


def coords_of(spec: ModelSpec, design: Design) -> dict[str, Any]:
    """Return the coordinates of every dim of the posterior, and of the rows (``obs``)."""
    coords: dict[str, Any] = {"obs": np.arange(design.n)}
    if spec.coefs:
        coords["coef"] = list(spec.coefs)
    for group, data in zip(spec.groups, design.groups, strict=True):
        coords[group.name] = data.levels.to_numpy()
        coords[f"coef_{group.name}"] = coords[f"coef_{group.name}_bis"] = list(group.coefs)
    return coords


def _free_variables(pm: Any, spec: ModelSpec, parameterization: Parameterization, location: Location) -> dict[str, Any]:
    """Declare every free variable, with its prior; name → variable."""
    free: dict[str, Any] = {}
    for group in spec.groups:
        for number, block in enumerate(group.blocks):
            if block.correlated:
                a = scales.lkj_concentration(block.size, group.eta)
                name = scales.partial_name(group, number)
                free[name] = pm.Beta(name, a, a, shape=len(a))
        if parameterization == "noncentered" and location == "levels" and scales.free_columns(group):
            free |= _deviations(pm, group)
        if f"v_{group.name}" in free and scales.samples_spreads(group):
            free |= _spreads(pm, group, scales.unit_spreads(group, free))
        else:
            free |= _vector(pm, prior_name("sd", group), group.sd, f"coef_{group.name}")
        if f"v_{group.name}" not in free:
            free |= _effects(pm, group, free, parameterization)
    means = scales.mean_effects(spec, free)
    if any(mean is not None for mean in means):
        free |= _vector(pm, "beta_level", spec.beta, "coef", means)
    elif spec.coefs:
        free |= _vector(pm, prior_name("beta", spec), spec.beta, "coef")
    free |= _fixed_effects(pm, spec, free, scales.coefficients(spec, free))
    return free | {name: _variable(pm, name, prior) for name, prior in spec.parameters.items()}


def _variable(pm: Any, name: str, prior: Prior, shift: Any = None) -> Any:
    # PyTensor takes a Python float such as 3.0 for a float32, and then its logarithm has 7 digits
    values: dict[str, Any] = {key: np.float64(value) for key, value in prior.values.items()}
    if shift is not None:
        values["mu"] = values.get("mu", 0.0) + shift
    return distribution(prior.name, pm)(name, **values)


def _vector(
    pm: Any, name: str, priors: Sequence[Prior | float], dim: str, shifts: Sequence[Any] = ()
) -> dict[str, Any]:
    """Declare a vector: one variable where the priors are of one kind, else one each; `shifts` move their means."""
    drawn = [prior for prior in priors if isinstance(prior, Prior)]
    shifts = shifts or [None] * len(priors)
    kinds = {(prior.name, tuple(prior.values)) for prior in drawn}
    if len(kinds) == 1 and len(drawn) == len(priors):
        values: dict[str, Any] = {key: np.array([prior.values[key] for prior in drawn]) for key in drawn[0].values}
        if any(shift is not None for shift in shifts):
            import pytensor.tensor as pt

            values["mu"] = values.get("mu", 0.0) + pt.stack([0.0 if shift is None else shift for shift in shifts])
        return {name: distribution(drawn[0].name, pm)(name, **values, dims=dim)}
    return {
        f"{name}_{k}": _variable(pm, f"{name}_{k}", prior, shift)
        for k, (prior, shift) in enumerate(zip(priors, shifts, strict=True))
        if isinstance(prior, Prior)
    }


def _fixed_effects(pm: Any, spec: ModelSpec, free: Mapping[str, Any], beta_c: Sequence[Any]) -> dict[str, Any]:
    """Declare the variables of `scales.fixed_effects`."""
    groups = [group for group in spec.groups if group.is_fixed]
    taus = [np.array(group.sd[scales.fixed_column(group)], dtype=float) for group in groups]
    found: dict[str, Any] = {}
    for group, tau in zip(groups[1:], taus[1:], strict=True):
        location, deviation = f"location_{group.name}", f"deviation_{group.name}"
        found[location] = pm.Normal(location, 0, tau / np.sqrt(group.levels))
        found[deviation] = pm.ZeroSumNormal(deviation, tau, dims=group.name)
    for group, tau in zip(groups[:1], taus[:1], strict=True):
        mean = scales.fixed_mean(spec, {**free, **found}, beta_c)
        found[f"total_{group.name}"] = pm.Normal(f"total_{group.name}", mean, tau, dims=group.name)
    return found


def _deviations(pm: Any, group: GroupSpec) -> dict[str, Any]:
    """Declare v (q, J) and mean_u (q,), of which `scales.spherical` makes u."""
    q, J = len(scales.free_columns(group)), group.levels
    mean, v = f"mean_u_{group.name}", f"v_{group.name}"
    return {mean: pm.Normal(mean, 0, 1 / np.sqrt(J), shape=q), v: pm.Normal(v, 0, 1, shape=(q, J))}


def _spreads(pm: Any, group: GroupSpec, unit: Sequence[Any]) -> dict[str, Any]:
    """Declare the spreads, sd times the unit effects' own spread, with the sds' prior rescaled."""
    import pytensor.tensor as pt

    priors = [sd for sd in group.sd if isinstance(sd, Prior)]
    values: dict[str, Any] = {key: np.array([prior.values[key] for prior in priors]) for key in priors[0].values}
    key, power = scales.SCALE_OF[priors[0].name]
    values[key] = stack(pt, [prior.values[key] * size**power for prior, size in zip(priors, unit, strict=True)])
    name = f"spread_{group.name}"
    return {name: distribution(priors[0].name, pm)(name, **values, shape=len(priors))}


def _effects(pm: Any, group: GroupSpec, free: Mapping[str, Any], parameterization: Parameterization) -> dict[str, Any]:
    """Declare u (q, J), standard normal, or the effects (J, q) themselves."""
    places = scales.free_columns(group)
    q, J = len(places), group.levels
    if not places:
        return {}
    if parameterization == "noncentered":
        return {f"u_{group.name}": pm.Normal(f"u_{group.name}", 0, 1, shape=(q, J))}
    import pytensor.tensor as pt

    name = f"effects_{group.name}"
    F = scales.covariance_factor(group, free)
    if group.is_correlated:
        chol = pt.stack([stack(pt, [F[i][j] for j in places]) for i in places])
        return {name: pm.MvNormal(name, mu=np.zeros(q), chol=chol, shape=(J, q))}
    return {name: pm.Normal(name, 0, stack(pt, [F[i][i] for i in places]), shape=(J, q))}


def _dot(X: np.ndarray, beta: Any) -> Any:
    """X beta without a matrix product: by columns where they are few, which compiles and samples fastest."""
    import pytensor.tensor as pt

    if X.shape[1] > FEW_COLUMNS:
        return (pt.constant(X) * beta).sum(-1)
    columns = [1.0 if np.ptp(x) == 0 and x[0] == 1 else pt.constant(x.copy()) for x in X.T]
    return sum(x * beta[k] for k, x in enumerate(columns))
