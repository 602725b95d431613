"""Free variables come in, the canonical ones on the original scale go out; written once, for PyTensor and for NumPy.

With F = diag(sd_c) L and centred columns' means z̄, the effects are b_c = F u on the prior's scale and b = A b_c on the
original one, where A takes z̄'b out of the block's intercept; sd and cor there are those of G G', G = A F.

Matrices are nested lists of scalars (0-d variables, or (chain, draw) arrays), because they are small and because
elementwise expressions compile far faster than matrix products. Scalars index as `x[..., k]` in both worlds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from hierpanel.data.design import Design
from hierpanel.spec import GroupSpec, ModelSpec, Prior

Matrix = list[list[Any]]


@dataclass(frozen=True)
class Assembled:
    """beta_c (p scalars), b_c (for each factor q columns (…, J)), and all canonical variables by name."""

    beta_c: list[Any]
    b_c: dict[str, list[Any]]
    canonical: dict[str, Any]


def prior_name(kind: str, spec: ModelSpec | GroupSpec) -> str:
    """Name the variable that a prior refers to: ``beta_c`` beside a ``beta`` that differs, else ``beta``."""
    if isinstance(spec, ModelSpec):
        return "beta_c" if spec.moves_beta else "beta"
    return f"{kind}_c_{spec.name}" if spec.is_centered else f"{kind}_{spec.name}"


def dims_of(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Return the canonical variables in order, with their dims."""
    found: dict[str, tuple[str, ...]] = {}
    if spec.coefs:
        found |= dict.fromkeys(["beta", prior_name("beta", spec)], ("coef",))
    for group in spec.groups:
        g = group.name
        found |= dict.fromkeys([f"sd_{g}", prior_name("sd", group)], (f"coef_{g}",))
        if group.is_correlated:
            found |= dict.fromkeys([f"cor_{g}", prior_name("cor", group)], (f"coef_{g}", f"coef_{g}_bis"))
        found[f"b_{g}"] = (g, f"coef_{g}")
    return found | {name: () for name in spec.parameters}


def assemble(spec: ModelSpec, design: Design, free: Mapping[str, Any]) -> Assembled:
    """Compute every canonical variable from the free ones.

    Parameters
    ----------
    free : name → PyTensor variable, or (chain, draw, …) array
    """
    beta_c = coefficients(spec, free)
    fixed = fixed_effects(spec, free, beta_c)
    factors = {group.name: covariance_factor(group, free) for group in spec.groups}
    b_c = {group.name: effects(group, free, fixed) for group in spec.groups}
    parameters = {name: free[name] for name in spec.parameters}
    return Assembled(beta_c, b_c, on_original_scale(spec, design, beta_c, factors, b_c, parameters))


def on_original_scale(
    spec: ModelSpec,
    design: Design,
    beta_c: Sequence[Any],
    factors: Mapping[str, Matrix],
    b_c: Mapping[str, list[Any]],
    parameters: Mapping[str, Any],
    fixed_means: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the canonical variables by name, in the order of `dims_of`.

    Parameters
    ----------
    beta_c : p scalars
    factors : for each grouping factor F (q, q)
    b_c : for each grouping factor q columns (…, J) of effects on the prior's scale; one that is left out has no b_g
    parameters : the family's
    fixed_means : "mean_g" → row-weighted mean of the effects of an `fe()` factor that b_c leaves out
    """
    canonical: dict[str, Any] = {prior_name("beta", spec): list(beta_c)} if beta_c else {}
    shift = sum(-mean * beta for mean, beta in zip(spec.center, beta_c, strict=True) if mean != 0)
    for group, data in zip(spec.groups, design.groups, strict=True):
        F = factors[group.name]
        for factor, name in ((F, prior_name("sd", group)), (uncentre_factor(group, F), f"sd_{group.name}")):
            sd, cor = sds_and_correlations(factor)
            canonical[name] = sd
            if group.is_correlated:
                canonical[name.replace("sd_", "cor_", 1)] = cor
        if group.name not in b_c:
            shift = shift + fixed_means.get(f"mean_{group.name}", 0.0)
            continue
        b = uncentre(group, b_c[group.name])
        if group.is_fixed and spec.has_intercept:  # beside fe() the intercept is the row-weighted mean of unit effects
            column = fixed_column(group)
            mean = (b[column] * (data.rows / design.n)).sum(-1)
            b[column] = b[column] - mean[..., None]
            shift = shift + mean
        canonical[f"b_{group.name}"] = b
    if spec.moves_beta:
        canonical["beta"] = [beta_c[0] + shift, *beta_c[1:]]
    canonical |= parameters
    return {name: canonical[name] for name in dims_of(spec) if name in canonical}


def vector(free: Mapping[str, Any], name: str, priors: Sequence[Prior | float]) -> list[Any]:
    """Return a vector's scalars: one variable holds them all, or each has its own, or is a fixed number."""
    if name in free:
        return [free[name][..., k] for k in range(len(priors))]
    return [free[f"{name}_{k}"] if isinstance(prior, Prior) else prior for k, prior in enumerate(priors)]


def coefficients(spec: ModelSpec, free: Mapping[str, Any]) -> list[Any]:
    """Return beta_c: free variables themselves, or the sampled levels less the mean effects that they hold.

    A coefficient and the mean over the units of its group effects are told apart by their priors alone, while the data
    fix their sum, the level. Sampling the level in the coefficient's place takes that ridge away: given the mean effect
    F ū a Normal prior is only shifted. With ū ~ Normal(0, 1/√J) a variable of its own and the deviations u - ū those of
    some v ~ Normal(0, 1) from its mean, u is standard normal as before (v's own mean touches nothing).
    """
    if "beta_level" not in free and "beta_level_0" not in free:
        return vector(free, prior_name("beta", spec), spec.beta)
    level, means = vector(free, "beta_level", spec.beta), mean_effects(spec, free)
    return [value if mean is None else value - mean for value, mean in zip(level, means, strict=True)]


def mean_effects(spec: ModelSpec, free: Mapping[str, Any]) -> list[Any]:
    """Return for each coefficient the mean effect of its column over the units, F ū, summed over the factors.

    None where no factor has the column, or the coefficient's prior is not Normal, so that its mean cannot take a shift.
    """
    found: dict[str, Any] = {}
    for group in spec.groups:
        if f"mean_u_{group.name}" in free:
            F, places, mean_u = covariance_factor(group, free), free_columns(group), free[f"mean_u_{group.name}"]
            for i in places:
                terms = [F[i][j] * mean_u[..., row] for row, j in enumerate(places) if not _is_zero(F[i][j])]
                mean = sum(terms[1:], terms[0])
                found[group.coefs[i]] = found[group.coefs[i]] + mean if group.coefs[i] in found else mean
    return [found.get(c) if p.name == "Normal" else None for c, p in zip(spec.coefs, spec.beta, strict=True)]


def partial_name(group: GroupSpec, number: int) -> str:
    """Name the partial correlations of a factor's block."""
    return f"pcor_{group.name}" if len(group.blocks) == 1 else f"pcor_{group.name}_{number}"


def lkj_concentration(q: int, eta: float) -> np.ndarray:
    """Return a (q(q-1)/2,): the partial correlation of columns i > j given those before j is 2 Beta(a, a) - 1.

    Row by row. Source: Lewandowski, Kurowicka and Joe (2009), section 2.4: a = eta + (q - 2 - j)/2 gives LKJ(eta).
    """
    return np.array([eta + (q - 2 - j) / 2 for i in range(q) for j in range(i)])


def partial_correlations(L: Any) -> list[Any]:
    """Return the partial correlations, row by row, of a correlation matrix with the Cholesky factor L (q, q, …)."""
    left = [[1 - sum(L[i][k] ** 2 for k in range(j)) for j in range(i)] for i in range(len(L))]
    return [L[i][j] / left[i][j] ** 0.5 for i in range(len(L)) for j in range(i)]


def correlation_cholesky(partial: Sequence[Any], q: int) -> Matrix:
    """Return L (q, q), lower triangular, of the correlation matrix with these partial correlations, row by row."""
    L: Matrix = [[0.0] * q for _ in range(q)]
    remaining = iter(partial)
    for i in range(q):
        rest: Any = 1.0
        for j in range(i):
            r = next(remaining)
            L[i][j] = r * rest**0.5
            rest = rest * (1 - r**2)
        L[i][i] = rest**0.5
    return L


def covariance_factor(group: GroupSpec, free: Mapping[str, Any]) -> Matrix:
    """Return F (q, q), lower triangular: the effects' covariance on the prior's scale is F F'."""
    sd, L = standard_deviations(group, free), correlation_factor(group, free)
    return [[entry if _is_zero(entry) else sd[i] * entry for entry in row] for i, row in enumerate(L)]


def correlation_factor(group: GroupSpec, free: Mapping[str, Any]) -> Matrix:
    """Return L (q, q), lower triangular: the effects' correlations on the prior's scale are L L'."""
    q = len(group.coefs)
    L: Matrix = [[1.0 if i == j else 0.0 for j in range(q)] for i in range(q)]
    for number, block in enumerate(group.blocks):
        if block.correlated:
            partial = 2 * free[partial_name(group, number)] - 1
            entries = block.size * (block.size - 1) // 2
            inner = correlation_cholesky([partial[..., k] for k in range(entries)], block.size)
            for i in range(block.size):
                L[block.columns.start + i][block.columns] = inner[i]
    return L


def standard_deviations(group: GroupSpec, free: Mapping[str, Any]) -> list[Any]:
    """Return the q sds on the prior's scale: free variables themselves, or spreads over those of the unit effects."""
    if f"spread_{group.name}" not in free:
        return vector(free, prior_name("sd", group), group.sd)
    spread, unit = vector(free, f"spread_{group.name}", group.sd), unit_spreads(group, free)
    return [a / b for a, b in zip(spread, unit, strict=True)]


# Priors of an sd that are closed under scaling: the parameter that scales, and whether as the sd (1) or inversely (-1).
SCALE_OF = {
    "HalfNormal": ("sigma", 1),
    "HalfStudentT": ("sigma", 1),
    "HalfCauchy": ("beta", 1),
    "Exponential": ("lam", -1),
    "Gamma": ("beta", -1),
}
# With fewer units their spread can come near 0, and the sd, spread over that, grow without bound.
UNITS_WITH_SPREAD = 5


def samples_spreads(group: GroupSpec) -> bool:
    """Whether `spread_g` can stand in for the sds: priors of one kind that scale, units enough to have a spread."""
    kinds = {(sd.name, tuple(sd.values)) if isinstance(sd, Prior) else ("", ()) for sd in group.sd}
    name, parameters = next(iter(kinds))
    scales = name in SCALE_OF and SCALE_OF[name][0] in parameters
    return group.levels >= UNITS_WITH_SPREAD and len(kinds) == 1 and scales


def unit_spreads(group: GroupSpec, free: Mapping[str, Any]) -> list[Any]:
    """Return the q root mean squares over the units of L d, the deviations of unit scale, which is near 1.

    An sd and the scale of its unit effects are told apart by their priors alone, while the data fix their product, the
    spread of the effects. Sampling the spread in the sd's place straightens that curved ridge; given the unit effects a
    prior that scales is only rescaled.
    """
    L, d = correlation_factor(group, free), deviations(group, free)
    found = []
    for row in L:
        terms = [d[j] * _column(entry) for j, entry in enumerate(row) if not _is_zero(entry)]
        found.append((sum(terms[1:], terms[0]) ** 2).mean(-1) ** 0.5)
    return found


def deviations(group: GroupSpec, free: Mapping[str, Any]) -> list[Any]:
    """Return the rows (…, J) of u less its mean: those of v from v's own mean, which touches nothing."""
    v = free[f"v_{group.name}"]
    rows = [v[..., row, :] for row in range(len(free_columns(group)))]
    return [row - row.mean(-1)[..., None] for row in rows]


def fixed_column(group: GroupSpec) -> int:
    """Return which column is the `fe()` intercept."""
    return int(next(block.columns.start for block in group.blocks if block.fixed))


def fixed_mean(spec: ModelSpec, free: Mapping[str, Any], beta_c: Sequence[Any]) -> Any:
    """Return the mean of the first `fe()` factor's unit totals: the intercept, plus further factors' locations."""
    names = [f"location_{group.name}" for group in spec.groups if group.is_fixed][1:]
    return sum((free[name] for name in names), beta_c[0] if spec.has_intercept else 0.0)


def fixed_effects(spec: ModelSpec, free: Mapping[str, Any], beta_c: Sequence[Any]) -> dict[str, Any]:
    """Return the unit effects (…, J) of every `fe()` factor.

    b_j ~ Normal(0, τ) with a wide τ is all but unidentified beside an intercept. So the first factor is sampled as unit
    totals, mean + b_j, and every further one as deviations that sum to 0 and their location, which moves the totals.
    Each is a linear map with a constant Jacobian (a rotation in the second case): the prior stays Normal(0, τ) exactly.
    """
    names = [group.name for group in spec.groups if group.is_fixed]
    found = {name: free[f"deviation_{name}"] + free[f"location_{name}"][..., None] for name in names[1:]}
    for first in names[:1]:
        mean = fixed_mean(spec, free, beta_c)
        found[first] = free[f"total_{first}"] - (mean if isinstance(mean, float) else mean[..., None])
    return found


def free_columns(group: GroupSpec) -> list[int]:
    """Return the columns that are not an `fe()` intercept."""
    return [k for block in group.blocks if not block.fixed for k in range(block.columns.start, block.columns.stop)]


def spherical(group: GroupSpec, free: Mapping[str, Any]) -> list[Any]:
    """Return the rows (…, J) of u, standard normal: one variable, or deviations from a mean, and that mean."""
    if f"u_{group.name}" in free:
        return [free[f"u_{group.name}"][..., row, :] for row in range(len(free_columns(group)))]
    mean = free[f"mean_u_{group.name}"]
    return [d + mean[..., row, None] for row, d in enumerate(deviations(group, free))]


def random_effects(group: GroupSpec, free: Mapping[str, Any]) -> dict[int, Any]:
    """Return the columns (…, J) of the effects on the prior's scale that are not fixed effects, by their place."""
    places = free_columns(group)
    if f"effects_{group.name}" in free:
        return {k: free[f"effects_{group.name}"][..., row] for row, k in enumerate(places)}
    if not places:
        return {}
    u, F = spherical(group, free), covariance_factor(group, free)
    columns = {}
    for i in places:  # non-centred: b_c = F u
        terms = [_column(F[i][j]) * u[row] for row, j in enumerate(places) if not _is_zero(F[i][j])]
        columns[i] = sum(terms[1:], terms[0])
    return columns


def effects(group: GroupSpec, free: Mapping[str, Any], fixed: Mapping[str, Any]) -> list[Any]:
    """Return the q columns (…, J) of the effects on the prior's scale."""
    columns = random_effects(group, free)
    if group.is_fixed:
        columns[fixed_column(group)] = fixed[group.name]
    return [columns[k] for k in range(len(group.coefs))]


def uncentre(group: GroupSpec, rows: Sequence[Any]) -> list[Any]:
    """Return A rows: take each centred block's means, times its other rows, out of the block's intercept."""
    moved = list(rows)
    for block in group.blocks:
        for k in range(block.columns.start + 1, block.columns.stop):
            if group.center[k] != 0 and not _is_zero(rows[k]):
                moved[block.columns.start] = moved[block.columns.start] - group.center[k] * rows[k]
    return moved


def uncentre_factor(group: GroupSpec, F: Matrix) -> Matrix:
    """Return G = A F."""
    columns = [uncentre(group, [row[j] for row in F]) for j in range(len(F))]
    return [list(row) for row in zip(*columns, strict=True)]


def sds_and_correlations(G: Matrix) -> tuple[list[Any], Matrix]:
    """Return the sds (q) and correlations (q, q) of the covariance G G'."""
    q = len(G)
    sd = [_only(row) if _only(row) is not None else _dot(row, row) ** 0.5 for row in G]
    cor: Matrix = [[1.0 if i == j else 0.0 for j in range(q)] for i in range(q)]
    for i in range(q):
        for j in range(i):
            product = _dot(G[i], G[j])
            cor[i][j] = cor[j][i] = product if _is_zero(product) else product / (sd[i] * sd[j])
    return sd, cor


def _only(row: Sequence[Any]) -> Any:
    """Return a row's one entry that is not 0 (an sd: the root of its square would only add rounding), or None."""
    entries = [x for x in row if not _is_zero(x)]
    return entries[0] if len(entries) == 1 else None


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    terms = [x * y for x, y in zip(a, b, strict=True) if not (_is_zero(x) or _is_zero(y))]
    return sum(terms[1:], terms[0]) if terms else 0.0


def _column(scalar: Any) -> Any:
    return scalar if isinstance(scalar, float) else scalar[..., None]


def _is_zero(value: Any) -> bool:
    return isinstance(value, float) and value == 0.0


def stack(xp: Any, value: Any, lead: tuple[int, ...] = ()) -> Any:
    """Join scalars to a vector, rows of scalars to a matrix, or columns (…, J) to (…, J, q)."""
    if not isinstance(value, list):
        return value
    if isinstance(value[0], list):
        return xp.stack([stack(xp, row, lead) for row in value], axis=-2)
    if xp is np:
        value = [np.broadcast_to(part, lead) if np.ndim(part) == 0 else part for part in value]
    return xp.stack(value, axis=-1)
