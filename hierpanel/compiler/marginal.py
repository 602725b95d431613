"""A `ModelSpec` and `Moments` come in; a `Marginal` goes out: log p(y | ψ) with coefficients and group effects gone.

    y = X β + Σ_k Z_k b_k + ε     β ~ N(m, Q⁻¹)     b_k ~ N(0, F_k F_k') for each level     ε ~ N(0, σ²/w)

With effects b = F u eliminated (`elimination.py`), λ = F/σ, what is left is a Gaussian in θ = (u of dense factors, β),
whose precision is bordered by the row of y. The Cholesky factor L of that matrix holds everything: its first pivots the
determinant, its last row l the mean (L'θ = l), and s_yy - l'l the residual quadratic form.

    log p(y | ψ) = const - n log σ - Σ log|C| - log|L| + ½ log|Q| - ½ (s_yy - l'l)

Source: Bates, Mächler, Bolker and Walker (2015), section 3, with a prior on β in the place of a profile.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hierpanel.compiler import blocks as small
from hierpanel.compiler import dense
from hierpanel.compiler import plan as plans
from hierpanel.compiler.elimination import Eliminated, Elimination
from hierpanel.compiler.plan import AboutMeans, Cross
from hierpanel.compiler.variance_parameters import VarianceParameters, variance_parameters
from hierpanel.data.moments import Moments
from hierpanel.errors import RouteError
from hierpanel.spec import ModelSpec, Prior

Array = np.ndarray
# (factor, levels, shape) → standard normal numbers of that shape
Normals = Callable[[int, slice, tuple[int, ...]], Array]

# How the chunks of a computation are gone through, for whoever wants to see how far it is.
Steps = Callable[[Sequence[slice]], Iterable[slice]]

# ψ further from its start than this (a factor of 10¹³ for an sd) has no mass, and squares would overflow.
FURTHEST = 30.0
# Numbers that are worked on together: 16 MB in each array.
NUMBERS = 2_000_000
# Points that are worked on together at most: beyond, vectors get longer than the cache.
POINTS = 512
# Levels × points whose effects are worked on together: they stay in the processor's cache.
CELLS = 32_768


def refuses(spec: ModelSpec) -> str | None:
    """Return why a model has no marginal density here, or None."""
    if spec.family.name != "gaussian":
        return f"a {spec.family.name} response has no closed form"
    for coef, prior in zip(spec.coefs, spec.beta, strict=True):
        if prior.name not in ("Normal", "Flat"):
            return f"the prior of beta[{coef}] is {prior}, and only Normal and Flat ones integrate to a closed form"
    return None


@dataclass(frozen=True)
class Draw:
    """Draws at P points.

    log_likelihood : (P,); beta_c : (P, p); effects : factor → b on the prior's scale, (P, J, q), where asked for.
    """

    log_likelihood: Array
    beta_c: Array
    effects: dict[str, Array]


@dataclass(frozen=True)
class Conditional:
    """Independent normal distributions of the effects of some levels, at P points: b = σ λ C'⁻¹(mean + z).

    mean : q arrays (levels, P); C : lower triangle of (levels, P) arrays; factor : λ (q, q, P); sigma : (P,).
    """

    mean: list[Array]
    C: small.Rows
    factor: Array
    sigma: Array

    def draw(self, z: Array) -> Array:
        """Return effects (q, levels, P) for standard normal z (q, levels, P); their means for zeros."""
        u = small.solve_transposed(self.C, [row + noise for row, noise in zip(self.mean, z, strict=True)])
        return np.asarray(self.sigma * np.stack(small.times(self.factor, u)))

    def covariance(self) -> Array:
        """Return covariances (q, q, levels, P)."""
        Y, q = small.inverse_times(self.C, self.factor), len(self.C)
        gram = np.stack([np.stack([small.gram(Y, a, b) for b in range(q)]) for a in range(q)])
        return np.asarray(gram * self.sigma**2)


@dataclass(frozen=True)
class Solved:
    """The dense matrix's factor at P points: L (P, k, k) of (u, β, y), s_yy (P,), and the elimination before it."""

    L: Array
    s_yy: Array
    eliminated: Eliminated
    factors: list[Array]
    sigma: Array
    log_likelihood: Array


@dataclass(frozen=True)
class Marginal:
    """The density of ψ, and the distribution of coefficients and effects given ψ.

    parameters : the coordinates of ψ; start : (d,) a sensible ψ.
    plan : the elimination, of factors `names` (in its order).
    n : rows.
    precision, mean : (p, p), (p,) of the prior of γ, the coefficients on the pivoted columns.
    to_beta_c : (p, p + 1) takes (γ, 1) to the coefficients that priors refer to.
    constant : what does not depend on ψ.
    """

    parameters: VarianceParameters
    start: Array
    names: tuple[str, ...]
    plan: Elimination
    n: int
    precision: Array
    mean: Array
    to_beta_c: Array
    constant: float

    def log_density(self, psi: Array, steps: Steps = iter) -> Array:
        """Return log p(y | ψ) + log p(ψ), (P,), of psi (P, d); `steps` may watch the work."""
        prior = self.parameters.log_prior(psi)
        found = np.full(len(psi), -np.inf)
        possible = np.isfinite(prior)
        found[possible] = prior[possible] + self.log_likelihood(psi[possible], steps)
        return found

    def log_likelihood(self, psi: Array, steps: Steps = iter) -> Array:
        """Return log p(y | ψ), (P,), of psi (P, d); minus infinity where the numbers do not reach."""
        found = np.full(len(psi), -np.inf)
        near = np.flatnonzero((np.abs(psi - self.start) < FURTHEST).all(axis=1))
        with np.errstate(all="ignore"):  # numbers that overflow far out end as minus infinity
            for points in steps(self.chunks(len(near))):
                found[near[points]] = self.solve(psi[near[points]]).log_likelihood
        return found

    def chunks(self, count: int) -> list[slice]:
        """Return slices of points that are worked on together."""
        size = max(1, min(NUMBERS // max(self.plan.held, 1), POINTS))
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def draw(self, psi: Array, normals: Normals, effects: Sequence[str] = ()) -> Draw:
        """Draw coefficients and effects given each ψ.

        Parameters
        ----------
        psi : (P, d), few enough to be worked on together; see `chunks`
        normals : (factor, levels, shape) → standard normal numbers; the factor is -1 for the coefficients
        effects : names of the factors whose effects are returned
        """
        solved = self.solve(psi)
        inner, p = self.inner, len(self.mean)
        z = normals(-1, slice(0, p), (len(psi), p))
        last = solved.L[:, -1, :-1]
        gamma = dense.backward(solved.L[:, inner : inner + p, inner : inner + p], last[:, inner:] + z)
        known = self._effects(solved, gamma, normals, effects, {})
        beta_c = gamma @ self.to_beta_c[:, :-1].T + self.to_beta_c[:, -1]
        return Draw(
            solved.log_likelihood, beta_c, {name: np.moveaxis(known[self.names.index(name)], 2, 0) for name in effects}
        )

    def conditional(
        self, psi: Array, beta_c: Array, known: Mapping[str, Array], name: str, levels: slice
    ) -> "Conditional":
        """Return the distribution of a factor's effects given ψ, β and the effects eliminated after them.

        Parameters
        ----------
        psi, beta_c : (P, d), (P, p)
        known : factor → effects on the prior's scale (P, J, q), for each of `later(name)`
        levels : of the factor
        """
        number = self.names.index(name)
        factors, sigma, omega = self.given(psi, beta_c)
        eliminated = self.plan.own_blocks() if number == 0 else self.plan.eliminate(factors)
        effects = {self.names.index(other): np.moveaxis(b, 0, 2) for other, b in known.items()}
        mean, C = self.plan.effects(number, eliminated, factors[number], omega, effects, sigma, levels)
        return Conditional(mean, C, factors[number], sigma)

    def given(self, psi: Array, beta_c: Array) -> tuple[list[Array], Array, Array]:
        """Return λ of each factor in the order of elimination (q, q, P), σ (P,), and ω (m, P) with W ω = y - X β."""
        return *self._relative(psi), self._omega(self._gamma(beta_c))

    def later(self, name: str) -> tuple[str, ...]:
        """Return the factors whose effects a block-eliminated factor's distribution is conditional on."""
        return self.names[self.names.index(name) + 1 :]

    def is_by_blocks(self, name: str) -> bool:
        """Whether a factor is eliminated by blocks, so that `conditional` knows it."""
        return self.names.index(name) < len(self.plan.stages)

    @property
    def inner(self) -> int:
        """Columns of the dense factors."""
        return self.plan.width - self.plan.sizes[self.plan.W][1]

    def _relative(self, psi: Array) -> tuple[list[Array], Array]:
        """Return λ = F/σ (q, q, P) of each factor in the order of elimination, and σ."""
        sigma, F = self.parameters.sigma(psi), self.parameters.factors(psi)
        points = len(psi)
        made = [
            np.array([[np.broadcast_to(np.asarray(entry, dtype=float), points) for entry in row] for row in F[g]])
            / sigma
            for g in self.plan.order
        ]
        return made, sigma

    def _omega(self, gamma: Array) -> Array:
        """ω (m, P) with W ω = y - X γ."""
        return np.concatenate([-gamma.T, np.ones((1, len(gamma)))])

    def _gamma(self, beta_c: Array) -> Array:
        p = len(self.mean)
        return np.asarray(np.linalg.solve(self.to_beta_c[:, :p], (beta_c - self.to_beta_c[:, p]).T).T)

    def solve(self, psi: Array) -> Solved:
        """Eliminate the effects and factorise what is left, at points psi (P, d)."""
        factors, sigma = self._relative(psi)
        eliminated = self.plan.eliminate(factors)
        k, p, inner = self.plan.width, len(self.mean), self.inner
        matrix = self.plan.dense_matrix(eliminated, factors, sigma)
        bordered = np.ascontiguousarray(np.moveaxis(matrix.reshape(k, k, -1), 2, 0))
        right = self.precision @ self.mean
        bordered[:, inner : inner + p, inner : inner + p] += self.precision
        bordered[:, -1, inner : inner + p] += right
        s_yy = bordered[:, -1, -1] + self.mean @ right
        bordered[:, -1, -1] = 2 * np.abs(s_yy) + 1  # any number that keeps the matrix positive definite
        L = dense.cholesky(bordered)
        diagonal = np.diagonal(L, axis1=1, axis2=2)[:, :-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            residual = s_yy - np.einsum("pi,pi->p", L[:, -1, :-1], L[:, -1, :-1])
            value = (
                self.constant
                - self.n * np.log(sigma)
                - eliminated.log_det
                - np.log(diagonal).sum(axis=1)
                - 0.5 * residual
            )
        value = np.where(np.isfinite(value) & (residual > 0), value, -np.inf)
        return Solved(L, s_yy, eliminated, factors, sigma, value)

    def _effects(
        self, solved: Solved, gamma: Array, normals: Normals, wanted: Sequence[str], known: dict[int, Array]
    ) -> dict[int, Array]:
        """Draw effects (J, q, P) factor by factor, the last eliminated first, as far as they are wanted."""
        if not wanted:
            return {}
        points, omega, last = len(gamma), self._omega(gamma), min(self.names.index(name) for name in wanted)
        inner, p, L = self.inner, len(self.mean), solved.L
        if inner:
            z = normals(len(self.names), slice(0, inner), (points, inner))
            moved = np.einsum("pij,pi->pj", L[:, inner : inner + p, :inner], gamma)
            u = dense.backward(L[:, :inner, :inner], L[:, -1, :inner] + z - moved)
            start = 0
            for f in self.plan.dense:
                J, q = self.plan.sizes[f]
                rows = u[:, start : start + J * q].reshape(points, J, q).transpose(2, 1, 0)
                known[f] = np.stack([solved.sigma * row for row in small.times(solved.factors[f], list(rows))], axis=1)
                start += J * q
        for f in reversed(range(last, len(self.plan.stages))):
            J, q = self.plan.sizes[f]
            known[f] = np.empty((J, q, points))
            size = max(1, CELLS // points)
            for start in range(0, J, size):
                levels = slice(start, min(start + size, J))
                mean, C = self.plan.effects(f, solved.eliminated, solved.factors[f], omega, known, solved.sigma, levels)
                z = normals(f, levels, (q, levels.stop - levels.start, points))
                drawn = Conditional(mean, C, solved.factors[f], solved.sigma).draw(z)
                known[f][levels] = np.moveaxis(drawn, 0, 1)
        return known


def marginal(spec: ModelSpec, moments: Moments) -> Marginal:
    """Compile a Gaussian model with Normal (or flat) priors on its coefficients to its marginal density.

    Raises
    ------
    RouteError
        For a model that `refuses` names, or whose crossed factors leave a matrix that would not fit in memory.
    """
    if reason := refuses(spec):
        raise RouteError(reason)
    first = 0 if spec.has_intercept else 1
    pivot = moments.pivot if spec.has_intercept else np.zeros(len(moments.pivot))
    moved = moments.about(pivot, tuple(np.concatenate([[0.0], group.center]) for group in spec.groups))
    names = [group.name for group in spec.groups]
    crosses = {
        (names.index(pair.names[0]), names.index(pair.names[1])): Cross(pair.left, pair.right, pair.ZZ[:, 1:, 1:])
        for pair in moved.pairs
    }
    plan = plans.plan(
        [(len(group.levels), len(group.coefs)) for group in moved.groups],
        [group.ZZ[:, 1:, 1:] for group in moved.groups],
        crosses,
        [group.ZW[:, 1:, first:] for group in moved.groups],
        moved.WW[first:, first:],
        lambda g: _about_means(moments, spec, pivot, first, g),
    )
    p = len(spec.coefs)
    to_beta_c = np.eye(p, p + 1)
    if spec.has_intercept:
        to_beta_c[0, 1:p] = spec.center[1:] - pivot[1:-1]
        to_beta_c[0, p] = pivot[-1]
    normal = np.array([prior.name == "Normal" for prior in spec.beta], dtype=bool)
    values = [prior.values if prior.name == "Normal" else {"tau": 0.0} for prior in spec.beta]
    inverse = np.array([value.get("tau", value.get("sigma", 1.0) ** -2.0) for value in values], dtype=float)
    T = to_beta_c[:, :p]
    mean = np.linalg.solve(T, np.array([value.get("mu", 0.0) for value in values], dtype=float) - to_beta_c[:, p])
    constant = 0.5 * (
        moments.log_weights - (moments.n - (p - normal.sum())) * math.log(2 * math.pi) + np.log(inverse[normal]).sum()
    )
    return Marginal(
        parameters=variance_parameters(spec),
        start=_start(spec, moved),
        names=tuple(names[g] for g in plan.order),
        plan=plan,
        n=moments.n,
        precision=T.T @ (inverse[:, None] * T),
        mean=mean,
        to_beta_c=to_beta_c,
        constant=float(constant),
    )


def _about_means(moments: Moments, spec: ModelSpec, pivot: Array, first: int, g: int) -> AboutMeans:
    """Return one factor's sums about its columns' means, where an intercept among them takes up the shift."""
    group, q = spec.groups[g], len(spec.groups[g].coefs)
    centers = [np.concatenate([[0.0], other.center]) for other in spec.groups]
    A = np.eye(q)
    if "Intercept" in group.coefs:
        intercept = group.coefs.index("Intercept")
        A[intercept] += np.where(np.arange(q) == intercept, 0.0, moments.groups[g].pivot[1:] - group.center)
        centers[g] = moments.groups[g].pivot
    moved = moments.about(pivot, tuple(centers))
    crosses = {}
    for pair in moved.pairs:
        if group.name in pair.names:
            cross = Cross(pair.left, pair.right, pair.ZZ[:, 1:, 1:])
            mine = pair.names[0] == group.name
            other = next(k for k, one in enumerate(spec.groups) if one.name == pair.names[1 if mine else 0])
            crosses[other] = cross if mine else cross.transposed()
    own = moved.groups[g]
    return AboutMeans(A, moments.groups[g].ZZ, own.ZZ[:, 1:, 1:], crosses, own.ZW[:, 1:, first:])


def _start(spec: ModelSpec, moments: Moments) -> Array:
    """A ψ of the right magnitudes: sds a third of s, over the root mean square of their columns."""
    found = []
    for group, sums in zip(spec.groups, moments.groups, strict=True):
        total = sums.ZZ.sum(axis=0)
        size = np.sqrt(total.diagonal()[1:] / total[0, 0])
        for k, sd in enumerate(group.sd):
            if isinstance(sd, Prior):
                found.append(math.log(0.3 * spec.scale / size[k]))
        found += [0.0] * sum(block.size * (block.size - 1) // 2 for block in group.blocks if block.correlated)
    return np.array([*found, math.log(0.7 * spec.scale)])
