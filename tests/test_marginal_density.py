"""Tables and ψ come in; marginal densities and draws go out, as of dense Gaussians in 60 digits and of PyMC's graph."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymc.model.transform.conditioning import remove_value_transforms
from pytensor import function
from pytensor.compile.mode import Mode

import hierpanel as hp
from hierpanel.compiler import noncentered, scales
from hierpanel.compiler.marginal import Marginal, marginal
from hierpanel.data.moments import moments

Array = np.ndarray
P = hp.Prior
# a flat prior is a Normal one of this sd, but for its constant
FLAT = Decimal(10) ** 15
LOG_2PI = Decimal("1.837877066409345483560659472811235279722794947275566825634303")

exact = np.frompyfunc(lambda value: Decimal(float(value)), 1, 1)


@pytest.fixture(autouse=True, scope="module")
def digits() -> Iterator[None]:
    """Double precision has too few for a reference: fe() and calendar years lose ten of them."""
    with localcontext(prec=60):
        yield


def table(layout: str) -> pd.DataFrame:
    """36 rows: e is nested in a, and f in e; b, c, u and t cross them; x is the same for every t."""
    i, rng = np.arange(36), np.random.default_rng(3)
    if layout == "balanced":
        a, e, f, b, c, u, t = i // 12, i // 6, i // 2, i % 3, i // 3 % 4, i // 4, i % 4
    else:
        f = np.concatenate([i[:10], rng.integers(0, 10, 26)])
        e = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4, 5])[f]
        a = np.array([0, 0, 1, 1, 1, 2])[e]
        b, u = np.concatenate([i[:3], rng.integers(0, 3, 33)]), np.concatenate([i[:9], rng.integers(0, 9, 27)])
        c, t = np.concatenate([[3, 0, 1, 2], rng.choice(4, 32, p=[0.6, 0.2, 0.15, 0.05])]), rng.permutation(i % 4)
    x, year = np.array([1.8, 0.3, 3.5, 2.2])[t], 2000.0 + t
    more = {f"s{k}": rng.normal(k, 1, 36) for k in range(5)} | {"w": rng.uniform(0.5, 3, 36)}
    y = 4 + x + 0.5 * a - 0.7 * b + 0.4 * c + 1.3 * rng.normal(size=36)
    return pd.DataFrame({"y": y, "x": x, "year": year, **more} | dict(a=a, b=b, c=c, e=e, f=f, u=u, t=t))


LAYOUTS = {"balanced": {}, "unbalanced": {}, "weighted": {"weights": "w"}}
MORE = ["x", "x + s0", "x + s0 + s1", "x + s0 + s1 + s2", "x + s0 + s1 + s2 + s3"]
SOME = {
    "sd_c[Intercept]": P("Exponential", lam=0.7), "sd_c[x]": P("Gamma", alpha=2.5, beta=1.3),
    "sd_c[s0]": P("InverseGamma", alpha=3, beta=2), "sd_c[s1]": P("LogNormal", mu=0.2, sigma=0.8),
    "cor_c": P("LKJ", eta=1.7), "sigma": P("HalfNormal", sigma=1.4),
}  # fmt: skip
OTHER = {
    "sd_c[Intercept]": P("Uniform", lower=0, upper=50), "sd_c[x]": P("HalfCauchy", beta=1.1), "sd_c[s0]": P("HalfFlat"),
    "cor_c": P("LKJ", eta=0.6), "sd_u": P("Weibull", alpha=2, beta=1), "sigma": P("HalfStudentT", nu=4, sigma=1.2),
}  # fmt: skip
STRUCTURES: dict[str, dict[str, Any]] = {
    "y ~ 1": {},
    "y ~ x + s0": {},
    "y ~ 0 + x": {},
    "y ~ 0 + (1 | a)": {},
    "y ~ 0 + x + (x | a)": {},
    "y ~ x + (1 | c)": {},
    "y ~ x + offset(s1) + (0 + x | c)": {},
    **{f"y ~ x + ({more} {bar} c)": {} for more in MORE for bar in ("|", "||")},
    "y ~ x + (1 | c) + (0 + x | c)": {},
    "y ~ x + (0 + s0 | c) + (x | c)": {},
    "y ~ x + (x | u)": {"center": False},
    "y ~ x + (1 | a) + (1 | e)": {},
    "y ~ x + s0 + (x | a) + (x | e)": {},
    "y ~ x + (1 | a) + (1 | e) + (x | f)": {},
    "y ~ x + (1 | b) + (1 | c)": {},
    "y ~ x + (x | u) + (1 | t)": {},
    "y ~ x + (x | a) + (1 | b) + (s0 | c)": {},
    "y ~ x + offset(s1) + (1 | a) + (1 | e) + (x | f) + (1 | b)": {},
    "y ~ x + (1 | a:b) + (1 | a) + (1 | b)": {},
    "y ~ x + (1 | u) + (x | c)": {"priors": {"sd_u": 0.7, "sd_c[x]": 0.4}},
    "y ~ x + s0 + (x | c)": {"priors": {"beta": P("Flat"), "beta[x]": P("Normal", mu=1, sigma=0.3)}},
    "y ~ s0 + (1 | c)": {"priors": {"beta": P("Normal", mu=1.5), "beta[s0]": P("Normal", sigma=0.5)}},
    "y ~ x + (x + s0 + s1 | c) + (1 | b)": {"priors": SOME},
    "y ~ x + s0 + (x + s0 | c) + (1 | u)": {"priors": OTHER},
    "y ~ s0 + fe(u)": {},
    "y ~ 0 + s0 + fe(u)": {},
    "y ~ s0 + fe(u) + fe(t)": {},
    "y ~ s0 + s1 + fe(u) + (0 + s0 | u)": {},
    "y ~ s0 + fe(u) + fe(b) + (0 + s0 + s1 | u) + (1 | c)": {},
}
GROUPED = [formula for formula in STRUCTURES if "(" in formula.replace("offset(", "")]
# every way through the code, by the numbers that decide: nothing shared, all dense, by LAPACK, piecemeal
PATHS: list[dict[str, int]] = [
    {},
    {"plan.MOST_PRODUCTS": -1},
    {"dense.LARGE": 1},
    {"dense.LARGE": 2, "plan.MOST_PRODUCTS": -1},
    {"marginal.NUMBERS": 1, "marginal.CELLS": 1, "elimination.CELLS": 1},
    {"marginal.NUMBERS": 1, "marginal.CELLS": 1, "plan.MOST_SHARED": -1},
]


def by_every_path(model: hp.Model) -> Iterator[Marginal]:
    """The marginal model by every path, which stays open until the next."""
    sums = moments(model.design)
    for changes in PATHS:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in changes.items():
                patch.setattr(f"hierpanel.compiler.{name}", value)
            yield marginal(model.spec, sums)


def points(M: Marginal) -> Array:
    """Start, three about it, no variance between units, correlations near ±1, and at ±1."""
    rng, names = np.random.default_rng(1), M.parameters.names
    sd, cor = (np.array([name.startswith(kind) for name in names]) for kind in ("sd_", "pcor_"))
    signs = rng.choice([-1, 1], len(names)) * cor
    some = M.start + rng.normal(size=(3, len(names)))
    return np.stack([M.start, *some, M.start - 25 * sd, some[0] + 8 * signs, M.start + 20 * signs])


# --- dense Gaussians in 60 digits -------------------------------------------------------------------------------------


@dataclass
class Part:
    """Effects mean + F v for each of J levels, v ~ N(0, I), on columns Z; the coefficients are those of one level."""

    Z: Array
    codes: Array
    J: int
    F: Array
    mean: Array

    def G(self) -> Array:
        """(n, J q): what v is multiplied by."""
        spread = np.full((len(self.Z), self.J, len(self.F)), Decimal(0))
        spread[np.arange(len(self.Z)), self.codes] = self.Z @ self.F
        return spread.reshape(len(self.Z), -1)


class Dense:
    """y - offset = Σ Z (mean + F v) + ε on the scale of the priors, given ψ (d,); known effects are taken off y."""

    def __init__(self, model: hp.Model, M: Marginal, psi: Array, known: dict[str, Array] | None = None):
        design, spec = model.design, model.spec
        self.parts, self.flat, n = {}, sum(prior.name == "Flat" for prior in spec.beta), design.n
        if spec.coefs:
            mean = exact([prior.values.get("mu", 0.0) for prior in spec.beta])
            sds = [FLAT if prior.name == "Flat" else Decimal(prior.values.get("sigma", 1.0)) for prior in spec.beta]
            F = np.diag(sds)
            self.parts[""] = Part(exact(design.X) - exact(spec.center), np.zeros(n, int), 1, F, mean)
        for data, group, rows in zip(design.groups, spec.groups, M.parameters.factors(psi[None]), strict=True):
            F = exact([[np.ravel(entry)[0] for entry in row] for row in rows])
            Z = exact(data.Z) - exact(group.center)
            self.parts[data.name] = Part(Z, data.codes, len(data.levels), F, 0 * F[0])
        self.residual = exact(design.y) - exact(design.offset)
        for part, value in [
            (self.parts.pop(name), value) for name, value in (known or {}).items() if name in self.parts
        ]:
            self.residual = self.residual - (part.Z * exact(value)[part.codes]).sum(axis=1)
        for part in self.parts.values():
            self.residual = self.residual - part.Z @ part.mean
        weights = np.ones(n) if design.weights is None else design.weights
        self.noise = exact(M.parameters.sigma(psi[None]))[0] ** 2 / exact(weights)

    @cached_property
    def condition(self) -> float:
        """The largest λ²N of a level and column: by as many ε does 1 + λ²N round, and log determinants with it."""
        factors = [part for name, part in self.parts.items() if name]
        sizes = [(part.Z**2 @ (part.F**2).sum(axis=1) / self.noise).astype(float) for part in factors]
        return max(
            (np.bincount(part.codes, size).max() for part, size in zip(factors, sizes, strict=True)), default=0.0
        )

    @cached_property
    def terms(self) -> list[Decimal]:
        """Whose sum is log p(y | ψ)."""
        V = np.diag(self.noise)
        for part in self.parts.values():
            U = part.Z @ part.F
            V = V + np.where(part.codes[:, None] == part.codes, U @ U.T, Decimal(0))
        L = cholesky(V)
        z = solve(L, self.residual)
        return [-len(z) * LOG_2PI / 2, -np.prod(np.diag(L)).ln(), -z @ z / 2, self.flat * (FLAT.ln() + LOG_2PI / 2)]

    def posterior(self) -> tuple[Array, Array]:
        """The mean of v, and the Cholesky factor of its precision."""
        G = np.concatenate([part.G() for part in self.parts.values()], axis=1)
        weighted = G.T / self.noise
        C = cholesky(weighted @ G + exact(np.eye(G.shape[1])))
        half = solve(C, weighted @ self.residual)
        return solve(C[::-1, ::-1].T, half[::-1])[::-1], C

    def effects(self, name: str | None = None) -> tuple[Array, Array]:
        """The mean and covariance of the effects, part by part and level by level, or of one part's."""
        mean, C = self.posterior()
        half = solve(C, exact(np.eye(len(C))))
        covariance, start, places = (half.T @ half).astype(float), 0, {}
        S, shift = np.zeros(C.shape), np.zeros(len(C))
        for key, part in self.parts.items():
            at = places[key] = slice(start, start + part.J * len(part.F))
            S[at, at], shift[at] = np.kron(np.eye(part.J), part.F.astype(float)), np.tile(part.mean, part.J)
            start = at.stop
        at = slice(None) if name is None else places[name]
        return (S @ mean.astype(float) + shift)[at], (S @ covariance @ S.T)[at, at]


def cholesky(V: Array) -> Array:
    L = 0 * V
    for j in range(len(V)):
        L[j, j] = (V[j, j] - L[j, :j] @ L[j, :j]).sqrt()
        L[j + 1 :, j] = (V[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    return L


def solve(L: Array, right: Array) -> Array:
    """L⁻¹ right, for L lower triangular."""
    found = 0 * right
    for i in range(len(L)):
        found[i] = (right[i] - L[i, :i] @ found[:i]) / L[i, i]
    return found


def check(found: float, dense: Dense, terms: Sequence[Decimal]) -> None:
    """Whether a log density is the sum of terms, to rounding."""
    allowed = 1e-12 * float(max(abs(term) for term in terms)) + 10 * np.finfo(float).eps * dense.condition
    assert abs(Decimal(float(found)) - sum(terms)) <= allowed


# --- the density ------------------------------------------------------------------------------------------------------


def assert_dense(model: hp.Model, psi_of: Callable[[Marginal], Array]) -> None:
    dense: list[Dense] = []
    for M in by_every_path(model):
        psi = psi_of(M)
        dense = dense or [Dense(model, M, point) for point in psi]
        for found, expected in zip(M.log_likelihood(psi), dense, strict=True):
            check(found, expected, expected.terms)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("formula", STRUCTURES)
def test_the_density_is_a_dense_gaussian_by_every_path(formula: str, layout: str) -> None:
    assert_dense(hp.Model(formula, table(layout), **LAYOUTS[layout], **STRUCTURES[formula]), points)


@pytest.mark.parametrize("formula", [formula for formula in STRUCTURES if "|" in formula])
def test_the_density_with_sds_of_up_to_a_million_times_their_start(formula: str) -> None:
    def wide(M: Marginal) -> Array:
        sd = np.array([name.startswith("sd_") for name in M.parameters.names])
        return M.start + np.log([[10], [100], [1e3], [1e4], [1e6]]) * sd

    assert_dense(hp.Model(formula, table("weighted"), weights="w", **STRUCTURES[formula]), wide)


@pytest.mark.parametrize("factor", ["fe(u)", "(year | u)", "(year || u)", "(1 | u) + (1 | b)"])
@pytest.mark.parametrize("formula", ["y ~ year + s0", "y ~ 0 + year + s0"])
def test_calendar_years_that_are_not_centred_keep_their_digits(formula: str, factor: str) -> None:
    def likely(M: Marginal) -> Array:
        """Intercepts at year 0 and slopes that all but cancel at year 2000, and otherwise as at the start."""
        values = {"sd_u[Intercept]": math.log(1000), "sd_u[year]": math.log(0.5), "pcor_u[0]": -7.0}
        return np.stack([M.start, [values.get(n, start) for n, start in zip(M.parameters.names, M.start, strict=True)]])

    for layout in LAYOUTS:
        model = hp.Model(f"{formula} + {factor}", table(layout), center=False, **LAYOUTS[layout])
        assert_dense(model, likely)


# --- draws ------------------------------------------------------------------------------------------------------------


class UnitNormals:
    """Zeros for the first point, and for every further one a single 1."""

    def __init__(self, M: Marginal, numbers: int):
        self.points, self.factors, self.used = 1 + numbers, len(M.names), 0

    def __call__(self, factor: int, levels: slice, shape: tuple[int, ...]) -> Array:
        points_first = factor in (-1, self.factors)
        inner = shape[1:] if points_first else shape[:-1]
        numbers = math.prod(inner)
        z = np.zeros((self.points, numbers))
        z[1 + self.used + np.arange(numbers), np.arange(numbers)] = 1
        self.used += numbers
        z = z.reshape(self.points, *inner)
        return z if points_first else np.moveaxis(z, 0, -1)


def assert_covariances_equal(found: Array, expected: Array) -> None:
    """Entry by entry, relative to the two sds."""
    sd = np.sqrt(np.diagonal(expected))
    np.testing.assert_allclose(found / np.outer(sd, sd), expected / np.outer(sd, sd), rtol=0, atol=1e-8)


@pytest.mark.parametrize("layout", ["balanced", "weighted"])
@pytest.mark.parametrize("formula", STRUCTURES)
def test_draws_have_the_dense_mean_and_covariance_by_every_path(formula: str, layout: str) -> None:
    """A draw is an affine map of the normals: feeding 0 and unit vectors shows it whole."""
    model = hp.Model(formula, table(layout), **LAYOUTS[layout], **STRUCTURES[formula])
    names = [group.name for group in model.spec.groups]
    dense: list[tuple[Array, Array]] = []
    for M in by_every_path(model):
        psi = points(M)[[1, 4, 6]]
        dense = dense or [Dense(model, M, point).effects() for point in psi]
        for point, (mean, covariance) in zip(psi, dense, strict=True):
            normals = UnitNormals(M, len(mean))
            draw = M.draw(np.tile(point, (normals.points, 1)), normals, names)
            assert normals.used == len(mean)
            found = np.concatenate([draw.beta_c, *(draw.effects[g].reshape(normals.points, -1) for g in names)], axis=1)
            np.testing.assert_allclose(found[0], mean, rtol=0, atol=1e-9 * np.sqrt(covariance.diagonal().max()))
            assert_covariances_equal((found[1:] - found[0]).T @ (found[1:] - found[0]), covariance)
            np.testing.assert_allclose(draw.log_likelihood, M.log_likelihood(point[None])[0], rtol=1e-9)


@pytest.mark.parametrize("formula", GROUPED)
def test_a_factor_drawn_alone_is_as_beside_the_others(formula: str) -> None:
    def normals(factor: int, levels: slice, shape: tuple[int, ...]) -> Array:
        return np.cos(3 * factor + levels.start + np.arange(math.prod(shape))).reshape(shape)

    model = hp.Model(formula, table("unbalanced"), **STRUCTURES[formula])
    for M in by_every_path(model):
        psi = points(M)[1:4]
        every = M.draw(psi, normals, M.names)
        for name in M.names:
            np.testing.assert_array_equal(M.draw(psi, normals, [name]).effects[name], every.effects[name])
        np.testing.assert_array_equal(M.draw(psi, normals).beta_c, every.beta_c)


@pytest.mark.parametrize("formula", GROUPED)
def test_conditional_distributions_are_dense_ones_given_the_later_effects(formula: str) -> None:
    model, rng = hp.Model(formula, table("weighted"), weights="w", **STRUCTURES[formula]), np.random.default_rng(4)
    beta_c = rng.normal(size=(2, len(model.spec.coefs)))
    effects = {g.name: rng.normal(size=(2, len(g.levels), len(g.coefs))) for g in model.design.groups}
    dense: dict[str, list[tuple[Array, Array]]] = {}
    for M in by_every_path(model):
        psi = points(M)[[2, 4]]
        for name in filter(M.is_by_blocks, M.names):
            known = {other: effects[other] for other in M.later(name)}
            dense[name] = dense.get(name) or [
                Dense(model, M, psi[k], {g: v[k] for g, v in known.items()} | {"": beta_c[k][None]}).effects(name)
                for k in range(2)
            ]
            J, q = effects[name].shape[1:]
            for levels in (slice(0, J), slice(1, 3)):
                given = M.conditional(psi, beta_c, known, name, levels)
                shape = (q, levels.stop - levels.start, 2)
                b = np.stack([given.draw(np.broadcast_to(z[:, None, None], shape)) for z in np.eye(q + 1)[:, 1:]])
                made = np.einsum("zajp,zbjp->abjp", b[1:] - b[0], b[1:] - b[0])
                for k, (mean, covariance) in enumerate(dense[name]):
                    sd = np.sqrt(covariance.diagonal().max())
                    np.testing.assert_allclose(b[0, ..., k].T, mean.reshape(J, q)[levels], rtol=0, atol=1e-9 * sd)
                    by_level = covariance.reshape(J, q, J, q)
                    for found in (made, given.covariance()):
                        for row, j in enumerate(range(J)[levels]):
                            assert_covariances_equal(found[:, :, row, k], by_level[j, :, j])


# --- PyMC's graph -----------------------------------------------------------------------------------------------------


class Graph:
    """Log densities of the variables of a model's PyMC graph, by name, as functions of untransformed values."""

    def __init__(self, model: hp.Model):
        graph = remove_value_transforms(noncentered.to_pymc(model.spec, model.design, location="coefficients"))
        self.values = [value.name for value in graph.value_vars]
        self.names = [variable.name for variable in graph.basic_RVs]
        outputs = graph.logp(jacobian=False, sum=False)
        # the graph as it stands, interpreted: nothing is compiled
        self.call = function(graph.value_vars, outputs, mode=Mode(linker="py", optimizer=None))

    def __call__(self, values: dict[str, Array]) -> dict[str, float]:
        for name, value in list(values.items()):  # a vector with priors of several kinds is several variables
            values |= {f"{name}_{k}": entry for k, entry in enumerate(value)} if np.ndim(value) == 1 else {}
        found = self.call(*(np.asarray(values[name]) for name in self.values))
        return {name: float(np.sum(term)) for name, term in zip(self.names, found, strict=True)}


def variance_values(model: hp.Model, M: Marginal, psi: Array) -> tuple[dict[str, Array], float]:
    """ψ in the graph's variables, and log |d them / d ψ|."""
    at = dict(zip(M.parameters.names, psi, strict=True))
    found, jacobian = {"sigma": np.exp(at["sigma"])}, at["sigma"]
    partial = {name: (1 + np.tanh(value)) / 2 for name, value in at.items() if name.startswith("pcor_")}
    for key in dict.fromkeys(name.split("[")[0] for name in partial):
        found[key] = np.array([p for name, p in partial.items() if name.startswith(f"{key}[")])
        jacobian += np.log(2 * found[key] * (1 - found[key])).sum()
    for group in model.spec.groups:
        logs = [at.get(f"sd_{group.name}[{coef}]") for coef in group.coefs]
        found[scales.prior_name("sd", group)] = np.array([np.nan if log is None else np.exp(log) for log in logs])
        jacobian += sum(log for log in logs if log is not None)
    return found, jacobian


def effect_values(model: hp.Model, dense: Dense, draw: Any) -> tuple[dict[str, Array], Array, float]:
    """Coefficients and effects in the graph's variables, and as v; and log |d v / d them|."""
    fixed = [group.name for group in model.spec.groups if group.is_fixed]
    values, v, jacobian, total = {}, [], Decimal(0), 0.0
    for name, part in dense.parts.items():
        b = draw.effects[name][0] if name else draw.beta_c
        u = np.stack([solve(part.F, exact(row) - part.mean) for row in b])
        if not name:
            values[scales.prior_name("beta", model.spec)] = b[0]
            jacobian -= np.prod(part.F.diagonal()).ln()
            total += b[0, 0] if model.spec.has_intercept else 0.0
        elif name not in fixed:
            values[f"u_{name}"] = u.T.astype(float)
        else:
            place = scales.fixed_column(next(group for group in model.spec.groups if group.name == name))
            values[f"u_{name}"] = np.delete(u, place, axis=1).T.astype(float)
            jacobian -= len(b) * part.F[place, place].ln()
            if name != fixed[0]:  # a mean and deviations, which sum to 0: a rotation but for the mean's scale
                location = b[:, place].mean()
                values |= {f"location_{name}": location, f"deviation_{name}": b[:, place] - location}
                jacobian += Decimal(len(b)).ln() / 2
                total += location
        v.append(u.ravel())
    for name in fixed[:1]:
        values[f"total_{name}"] = draw.effects[name][0][:, 0] + total
    return values, np.concatenate(v), jacobian


@pytest.mark.parametrize("formula", STRUCTURES)
def test_the_density_is_the_joint_of_pymcs_graph_over_the_conditional(formula: str) -> None:
    """log p(y | ψ) = log p(y, θ | ψ) - log p(θ | y, ψ) for any θ = (coefficients, effects); and log p(ψ) is PyMC's."""
    model = hp.Model(formula, table("weighted"), weights="w", **STRUCTURES[formula])
    M, graph, rng = marginal(model.spec, moments(model.design)), Graph(model), np.random.default_rng(5)
    for psi in points(M)[[0, 1, 5]]:
        dense = Dense(model, M, psi)
        draw = M.draw(psi[None], lambda factor, levels, shape: rng.standard_normal(shape), M.names)
        values, v, jacobian = effect_values(model, dense, draw)
        of_variance, jacobian_of_variance = variance_values(model, M, psi)
        found = graph(values | of_variance)
        mean, C = dense.posterior()
        away = C.T @ (v - mean)
        conditional = [-len(v) * LOG_2PI / 2, np.prod(C.diagonal()).ln(), -away @ away / 2, jacobian]
        names = [name for name in found if name.startswith(("sd_", "pcor_", "sigma"))]
        log_prior = jacobian_of_variance + sum(found.pop(name) for name in names)
        check(M.log_likelihood(psi[None])[0], dense, [*map(Decimal, found.values()), *(-term for term in conditional)])
        # PyMC's half-t holds log 2 in single precision
        np.testing.assert_allclose(M.log_density(psi[None]) - M.log_likelihood(psi[None]), log_prior, atol=1e-7)
