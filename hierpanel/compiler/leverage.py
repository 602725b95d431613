"""A `Marginal` at one ψ and rows of the design come in; mean and variance of each row's linear predictor go out.

They are those of a'θ, with a row's a = (z of its levels, x) and θ the effects and coefficients given y and ψ. Factor by
factor, as in `elimination.py`: with s = A z, the factor adds σ² z's to the variance and s'N_fy to the mean, and what is
left of the row is a - N_f's. A row meets one level of every factor that goes by blocks; of dense factors all those that
its levels meet, so these take the covariance matrix K of what is left. Rows then leave themselves out in closed form:

    y_i | y_-i, ψ ~ N(y_i - e_i/(1 - h_i/τ_i), τ_i/(1 - h_i/τ_i))     e = y - mean     h = variance     τ = σ²/w
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hierpanel.compiler import blocks as small
from hierpanel.compiler import dense
from hierpanel.compiler.marginal import Marginal, Solved
from hierpanel.data.design import Design
from hierpanel.spec import ModelSpec

Array = np.ndarray


@dataclass(frozen=True)
class Rows:
    """Rows of a design on the scale of the marginal density.

    y : (n,) less offset and pivot; x : (n, p); weights : (n,).
    z, codes : for each factor, in the order of elimination, (n, q) columns and (n,) levels.
    """

    y: Array
    x: Array
    z: tuple[Array, ...]
    codes: tuple[Array, ...]
    weights: Array


def rows_of(marginal: Marginal, spec: ModelSpec, design: Design, rows: slice) -> Rows:
    """Take some rows of a design."""
    X = design.X[rows] - spec.center
    places = marginal.plan.order
    return Rows(
        y=design.y[rows] - design.offset[rows] - X @ marginal.to_beta_c[:, -1],
        x=X @ marginal.to_beta_c[:, :-1],
        z=tuple(design.groups[g].Z[rows] - spec.groups[g].center for g in places),
        codes=tuple(design.groups[g].codes[rows] for g in places),
        weights=np.ones(len(X)) if design.weights is None else design.weights[rows],
    )


def predictor_moments(marginal: Marginal, solved: Solved, rows: Rows) -> tuple[Array, Array]:
    """Return the mean and variance (n,) of each row's linear predictor, given y and one ψ."""
    plan, sigma = marginal.plan, float(solved.sigma[0])
    mean, variance = np.zeros(len(rows.y)), np.zeros(len(rows.y))
    z, r_x, moved = list(rows.z), rows.x, []
    for number, stage in enumerate(plan.stages):
        f, own = stage.factor, {h: block[..., 0] for h, block in solved.eliminated.own[number].items()}
        s = _shrunken(marginal, solved, number, rows.codes[f], z[f])
        mean += np.einsum("na,na->n", s, own[plan.W][rows.codes[f], :, -1])
        variance += sigma**2 * np.einsum("na,na->n", z[f], s)
        r_x = r_x - np.einsum("na,nap->np", s, own[plan.W][rows.codes[f], :, :-1])
        for g in stage.met:
            if g < len(plan.stages):  # one level of g for each of f: blocks in the order of f's levels
                z[g] = z[g] - np.einsum("na,nab->nb", s, own[g][rows.codes[f]])
        moved.append(s)
    inner, p, L = marginal.inner, len(marginal.mean), solved.L[0]
    theta, K = _inverse(L[: inner + p, : inner + p], L[-1, : inner + p])
    mean += r_x @ theta[inner:]
    variance += np.einsum("np,pq,nq->n", r_x, K[inner:, inner:], r_x)
    if inner:
        dense_mean, dense_variance = _dense(marginal, solved, rows, r_x, moved, theta, K)
        mean, variance = mean + dense_mean, variance + dense_variance
    return mean, variance


def _shrunken(marginal: Marginal, solved: Solved, number: int, codes: Array, z: Array) -> Array:
    """Return s = A z (n, q) for rows of the given levels."""
    plan, factor = marginal.plan, solved.factors[number]
    if number == 0 and plan.shared is not None:
        N, codes = plan.shared.ZZ, plan.shared.pattern[codes]
    else:
        N = solved.eliminated.own[number][number]
    Y = small.inverse_times(small.cholesky(small.with_identity(N, factor)), factor)
    q = len(Y)
    A = np.stack([np.stack([small.gram(Y, a, b)[:, 0] for b in range(q)], axis=1) for a in range(q)], axis=1)
    return np.asarray(np.einsum("nab,nb->na", A[codes], z))


def _inverse(L: Array, last: Array) -> tuple[Array, Array]:
    """Return L'⁻¹ last, the mean of θ, and (L L')⁻¹, its covariance."""
    if len(L) >= dense.LARGE:
        from scipy.linalg import cho_solve

        K = np.asarray(cho_solve((L, True), np.eye(len(L)), check_finite=False))
        return K @ (np.tril(L) @ last), K
    root = np.linalg.inv(np.tril(L))
    return root.T @ last, root.T @ root


def _dense(
    marginal: Marginal, solved: Solved, rows: Rows, r_x: Array, moved: list[Array], theta: Array, K: Array
) -> tuple[Array, Array]:
    """Return what the dense factors add to means and variances, in the scale of their u.

    A row's part is its own few entries less, for each factor f that went before, s_f times the blocks of its level.
    """
    inner = marginal.inner
    place, own = _own_entries(marginal, solved, rows)
    K_u, K_ux = K[:inner, :inner], K[:inner, inner:]
    mean = (own * theta[place]).sum(axis=1)
    cross = np.einsum("nc,ncp->np", own, K_ux[place])
    variance = np.einsum("na,nb,nab->n", own, own, K_u[place[:, :, None], place[:, None, :]])
    reached: list[tuple[Any, Array, Array]] = []
    for number, s in enumerate(moved):
        G = _blocks(marginal, solved, number)  # (J q, inner), sparse
        T, q = np.asarray(G @ K_u), s.shape[1]
        at = rows.codes[number][:, None] * q + np.arange(q)
        mean -= (s * (G @ theta[:inner])[at]).sum(axis=1)
        cross -= np.einsum("na,nap->np", s, np.asarray(G @ K_ux)[at])
        variance -= 2 * np.einsum("na,nc,nac->n", s, own, T[at[:, :, None], place[:, None, :]])
        for other, (G_other, at_other, s_other) in enumerate([*reached, (G, at, s)]):
            # levels of an earlier factor meet one level of this one, so pairs of rows of G are few
            pairs, where = np.unique(np.stack([at_other[:, 0], at[:, 0]]), axis=1, return_inverse=True)
            for a in range(s_other.shape[1]):
                for b in range(q):
                    product = _row_products(G_other, T, pairs[0] + a, pairs[1] + b)
                    twice = 1.0 if other == len(reached) else 2.0
                    variance += twice * s_other[:, a] * s[:, b] * product[where.ravel()]
        reached.append((G, at, s))
    return mean, variance + 2 * np.einsum("np,np->n", r_x, cross)


def _own_entries(marginal: Marginal, solved: Solved, rows: Rows) -> tuple[Array, Array]:
    """Return where each row's own levels of the dense factors stand, (n, c), and its entries there."""
    places, entries, start = [], [], 0
    for h in marginal.plan.dense:
        J, q = marginal.plan.sizes[h]
        places.append(start + rows.codes[h][:, None] * q + np.arange(q))
        entries.append(rows.z[h] @ (solved.factors[h][..., 0] * solved.sigma[0]))
        start += J * q
    return np.concatenate(places, axis=1), np.concatenate(entries, axis=1)


def _blocks(marginal: Marginal, solved: Solved, number: int) -> Any:
    """Return the blocks of a factor with the dense ones, in the scale of their u, as a sparse matrix."""
    from scipy import sparse

    plan = marginal.plan
    J, q = plan.sizes[number]
    rows, columns, values, start = [], [], [], 0
    for h in plan.dense:
        J_h, q_h = plan.sizes[h]
        left, right = plan.pairs[number, h]
        block = solved.eliminated.own[number][h][..., 0] @ (solved.factors[h][..., 0] * solved.sigma[0])
        rows.append(np.broadcast_to((left[:, None] * q + np.arange(q))[:, :, None], block.shape).ravel())
        columns.append(
            np.broadcast_to((start + right[:, None] * q_h + np.arange(q_h))[:, None, :], block.shape).ravel()
        )
        values.append(block.ravel())
        start += J_h * q_h
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.coo_array(entries, shape=(J * q, start)).tocsr()


def _row_products(G: Any, T: Array, left: Array, right: Array) -> Array:
    """Return Σ_c G[left, c] T[right, c] for pairs of rows."""
    picked = G[left]
    owner = np.repeat(np.arange(len(left)), np.diff(picked.indptr))
    return np.bincount(owner, picked.data * T[right[owner], picked.indices], minlength=len(left))
