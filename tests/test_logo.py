"""Whole units left out: against dense Gaussians, refits without each unit, brute-force integrals, and row by row."""

import itertools
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import hierpanel as hp
from hierpanel.compiler import leverage, unit_density
from hierpanel.compiler import marginal as route
from hierpanel.compiler.unit_density import arrange, left_out
from hierpanel.compiler.unit_quadrature import integrated
from hierpanel.data.moments import moments
from hierpanel.results import logo as module
from hierpanel.results import loo
from hierpanel.results.fit import Fit
from hierpanel.results.logo import compare, logo
from hierpanel.spec import Rows, family

Array = np.ndarray
P = hp.Prior


@pytest.fixture(scope="module")
def df() -> pd.DataFrame:
    """150 rows: a, b and c crossed; e and h in a, f in e; every unit of `one` has one row."""
    rng, n = np.random.default_rng(3), 150
    table = pd.DataFrame({"x": rng.normal(5, 3, n), "z": rng.normal(size=n), "w": rng.gamma(2, 1, n) + 0.1})
    for name, levels in {"a": 5, "b": 7, "c": 12}.items():
        table[name] = rng.integers(0, levels, n)
    table["e"] = table.a.astype(str) + "e" + rng.integers(0, 3, n).astype(str)
    table["h"] = table.a.astype(str) + "h" + rng.integers(0, 4, n).astype(str)
    table["f"] = table.e + "f" + rng.integers(0, 3, n).astype(str)
    table["one"] = rng.permutation(n)
    table["y"] = 3 + 0.4 * table.x + rng.normal(size=5)[table.a] + rng.normal(size=12)[table.c] + rng.normal(size=n)
    table["hit"] = rng.binomial(1, 1 / (1 + np.exp(-rng.normal(size=12)[table.c])))
    table["count"] = rng.poisson(np.exp(0.5 + 0.5 * rng.normal(size=12)[table.c]))
    table["size"] = rng.integers(3, 12, n)
    table["hits"] = rng.binomial(table["size"], 0.4)
    return table


# Closed form -------------------------------------------------------------------------------------------------------

BY: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("y ~ x", "c", {}),
    ("y ~ 0 + (1 | c)", "c", {}),
    ("y ~ x + (1 | c)", "c", {}),
    ("y ~ x + (x | c)", "c", {}),
    ("y ~ x + (x || c) + offset(z)", "c", {}),
    ("y ~ x + (x | c)", "c", {"center": False}),
    ("y ~ x + z + (1 | c)", "c", {"priors": {"beta": P("Normal", mu=1, sigma=0.5), "beta[Intercept]": P("Flat")}}),
    ("y ~ x + (1 | a/e/f)", "a", {}),
    ("y ~ x + (1 | a/e/f)", "e", {}),
    ("y ~ x + (1 | a/e/f)", "f", {}),
    ("y ~ x + (x | a) + (z | e) + (1 | f)", "a", {}),
    ("y ~ x + (1 | a) + (1 | e) + (x | h)", "a", {}),
    ("y ~ x + (1 | e)", "a", {}),
    ("y ~ x + (1 | a) + (1 | b) + (1 | c)", "c", {}),
    ("y ~ x + (x | a) + (z | b) + (x + z | c)", "b", {}),
    ("y ~ x + (1 | a:b) + (1 | a) + (1 | b)", "a", {}),
    ("y ~ x + fe(b) + (1 | c)", "c", {"priors": {"sd_b": 5.0}}),
    ("y ~ x + (1 | c) + (1 | one)", "c", {}),
)


def closed(model: hp.Model, codes: Array, psi: Array) -> tuple[Array, Array]:
    """The closed form at some ψ."""
    M = route.marginal(model.spec, moments(model.design))
    one = left_out(M, model.spec, model.design, arrange(codes, [group.codes for group in model.design.groups]))
    return one.log_densities(factors(M, psi), M.parameters.sigma(psi))


def factors(M: route.Marginal, psi: Array) -> list[Array]:
    """F (q, q, P) of each factor."""
    given = M.parameters.factors(psi)
    return [np.array([[np.broadcast_to(entry, len(psi)) for entry in row] for row in F], dtype=float) for F in given]


def some_psi(model: hp.Model, points: int) -> Array:
    M = route.marginal(model.spec, moments(model.design))
    return np.asarray(M.start + 0.7 * np.random.default_rng(1).standard_normal((points, len(M.start))))


def dense(model: hp.Model, psi: Array, *, copied: Array | None = None) -> tuple[Array, Array]:
    """y less its prior mean, and its covariance with β and effects integrated out, at one ψ.

    copied : rows that occur twice, the second time as those of a new unit, which shares what crosses the units
    """
    M = route.marginal(model.spec, moments(model.design))
    wide = [(p.values["mu"], p.values["sigma"] ** 2) if p.name == "Normal" else (0.0, 1e6) for p in model.spec.beta]
    rows = np.arange(model.design.n) if copied is None else np.concatenate([np.arange(model.design.n), copied])
    new = np.arange(len(rows)) >= model.design.n
    X = (model.design.X - model.spec.center)[rows]
    V = X @ np.diag([variance for _, variance in wide]) @ X.T
    for group, data, F in zip(model.spec.groups, model.design.groups, factors(M, psi[None]), strict=True):
        Z, codes = (data.Z - group.center)[rows], data.codes[rows]
        same = codes[:, None] == codes
        if copied is not None and not set(data.codes[copied]) & set(np.delete(data.codes, copied)):
            same = same & (new[:, None] == new)
        V = V + (Z @ F[..., 0] @ F[..., 0].T @ Z.T) * same
    weights = np.ones(model.design.n) if model.design.weights is None else model.design.weights
    V = V + np.diag(M.parameters.sigma(psi[None])[0] ** 2 / weights[rows])
    return (model.design.y - model.design.offset)[rows] - X @ [mean for mean, _ in wide], V


def conditional(y: Array, V: Array, units: Sequence[Array]) -> list[float]:
    """log p(y of some rows | y of the others): with their block of V⁻¹ as precision, times the residual (V⁻¹y)."""
    precision, found = np.linalg.inv(V), []
    for rows in units:
        block, moved = precision[np.ix_(rows, rows)], (precision @ y)[rows]
        square = moved @ np.linalg.solve(block, moved)
        found.append(0.5 * (np.linalg.slogdet(block)[1] - square - rows.sum() * np.log(2 * np.pi)))
    return found


@pytest.mark.parametrize(("few", "numbers"), [(24, 500_000), (0, 2000)])
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize(("formula", "group", "options"), BY)
def test_each_unit_is_predicted_from_the_others_as_a_dense_gaussian_predicts_it(
    formula: str,
    group: str,
    options: dict[str, Any],
    weights: str | None,
    few: int,
    numbers: int,
    df: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unit_density, "FEW", few)
    monkeypatch.setattr(unit_density, "NUMBERS", numbers)
    model = hp.Model(formula, df, weights=weights, **options)
    codes = pd.factorize(df[group], sort=True)[0].astype(np.int64)
    psi = some_psi(model, 2)
    found, _ = closed(model, codes, psi)
    # a flat prior has no dense covariance: one of sd 1000 stands for it
    tolerance = 1e-5 if "Flat" in str(options) else 1e-8
    for k in range(2):
        y, V = dense(model, psi[k])
        expected = conditional(y, V, [codes == j for j in range(codes.max() + 1)])
        np.testing.assert_allclose(found[k], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("few", [24, 0])
@pytest.mark.parametrize(
    ("formula", "group"), [("y ~ x + (x | c)", "c"), ("y ~ x + (1 | a/e)", "a"), ("y ~ x + (1 | a) + (x | b)", "b")]
)
def test_a_unit_left_in_is_predicted_as_a_new_unit_with_the_same_rows(
    formula: str, group: str, few: int, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_density, "FEW", few)
    model = hp.Model(formula, df, weights="w")
    codes = pd.factorize(df[group], sort=True)[0].astype(np.int64)
    psi = some_psi(model, 1)
    found = closed(model, codes, psi)[1][0]
    for j in range(codes.max() + 1):
        y, V = dense(model, psi[0], copied=np.flatnonzero(codes == j))
        assert found[j] == pytest.approx(conditional(y, V, [np.arange(len(y)) >= len(df)])[0], rel=1e-8)


def test_units_sum_to_the_evidence_when_they_are_added_one_by_one(df: pd.DataFrame) -> None:
    """log p(y) = Σ log p(y_j | y_1 … y_j-1): each of them is of the last unit of a smaller table."""
    options: dict[str, Any] = {"center": False, "priors": {"beta": P("Normal", mu=0, sigma=2)}}
    psi, total = np.log([[0.8, 1.1]]), 0.0
    df = df.sort_values("c")
    for last in range(2, 12):
        model = hp.Model("y ~ x + (1 | c)", df[df.c <= last], **options)
        total += closed(model, model.design.groups[0].codes.astype(np.int64), psi)[0][0, -1]
    first = hp.Model("y ~ x + (1 | c)", df[df.c <= 1], **options)
    begin, end = (route.marginal(m.spec, moments(m.design)).log_likelihood(psi)[0] for m in (first, model))
    assert total == pytest.approx(end - begin, rel=1e-10)


@pytest.mark.parametrize("few", [24, 0])
def test_sds_of_zero_take_the_effects_away(few: int, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_density, "FEW", few)
    codes = df["c"].to_numpy(np.int64)
    full, bare = (hp.Model(formula, df) for formula in ("y ~ x + (x | c) + (x | a) + (1 | c:b)", "y ~ x"))
    M = route.marginal(full.spec, moments(full.design))
    one = left_out(M, full.spec, full.design, arrange(codes, [group.codes for group in full.design.groups]))
    found = one.log_densities([np.zeros((len(g.coefs), len(g.coefs), 1)) for g in full.spec.groups], np.array([1.3]))
    np.testing.assert_allclose(found, closed(bare, codes, np.log([[1.3]])), rtol=1e-9)


def test_units_of_one_row_are_left_out_as_rows_are(df: pd.DataFrame) -> None:
    model = hp.Model("y ~ x + (1 | c) + (x | a)", df, weights="w")
    M = route.marginal(model.spec, moments(model.design))
    psi = some_psi(model, 1)
    rows = leverage.rows_of(M, model.spec, model.design, slice(None))
    mean, variance = leverage.predictor_moments(M, M.solve(psi), rows)
    tau = M.parameters.sigma(psi)[0] ** 2 / rows.weights
    share = 1 - variance / tau
    expected = stats.norm.logpdf(rows.y - mean, 0, np.sqrt(tau * share)) + np.log(share)
    found = closed(model, df["one"].to_numpy(np.int64), psi)[0][0]
    np.testing.assert_allclose(found[df["one"]], expected, rtol=1e-9)


def test_units_with_one_row_score_as_loo_scores_that_row(df: pd.DataFrame) -> None:
    """Of a fit with effects of every row: leaving out the unit is leaving out the row."""
    fit = hp.fit("y ~ x + (1 | one) + (1 | c)", df, priors={"sd_one": 0.5}, draws=150, seed=1)
    rows, units = fit.loo(), logo(fit, "one")
    np.testing.assert_allclose(units.elpd_i.values[df["one"]], rows.elpd_i.values, atol=1e-3)
    assert units.elpd == pytest.approx(rows.elpd, abs=0.01)
    assert units.se == pytest.approx(rows.se, rel=1e-3)


# Against refits ----------------------------------------------------------------------------------------------------

SLEEP: dict[str, Any] = {
    "center": False,
    "priors": {
        "beta[Intercept]": P("Normal", mu=250, sigma=100),
        "beta[days]": P("Normal", mu=0, sigma=30),
        "sd_subject[Intercept]": P("HalfNormal", sigma=50),
        "sd_subject[days]": P("HalfNormal", sigma=15),
        "sigma": P("HalfNormal", sigma=50),
    },
}


def refitted(fit: Fit, df: pd.DataFrame, group: str, level: Any, options: dict[str, Any]) -> tuple[float, float]:
    """log p(y_j | y_-j) by a refit without the unit: the mean of densities over its ψ, and the ratio of evidences."""
    without = hp.fit(str(fit.spec.formula), df[df[group] != level], seed=2, draws=500, **options)
    psi = without.idata["sample_stats"]["psi"].values.reshape(2000, -1)
    M, groups = fit.effects.marginal, fit.design.groups
    units = arrange(fit.design.group(group).codes.astype(np.int64), [g.codes for g in groups])
    values = left_out(M, fit.spec, fit.design, units).log_densities(factors(M, psi), M.parameters.sigma(psi))[0]
    place = fit.design.group(group).levels.get_loc(level)
    mean = float(np.logaddexp.reduce(values[:, place]) - np.log(len(psi)))
    return mean, fit.log_evidence[0] - without.log_evidence[0]


def test_sleepstudy_scores_as_refits_without_each_subject() -> None:
    df = hp.datasets.load("sleepstudy")
    fit = hp.fit("reaction ~ days + (days | subject)", df, seed=1, **SLEEP)
    scores = logo(fit, "subject")
    levels = list(fit.design.group("subject").levels)
    means, ratios = np.array([refitted(fit, df, "subject", level, SLEEP) for level in levels]).T
    k = scores.pareto_k.values
    assert levels[int(k.argmax())] == 332  # whose reaction times leap up and down: sigma needs this subject
    np.testing.assert_allclose(scores.elpd_i[k < 0.5], ratios[k < 0.5], atol=0.05)
    np.testing.assert_allclose(scores.elpd_i[k < 0.7], ratios[k < 0.7], atol=0.15)
    np.testing.assert_allclose(scores.elpd_i[k > 0.7], ratios[k > 0.7], atol=1.0)
    np.testing.assert_allclose(means[k < 0.7], ratios[k < 0.7], atol=0.05)


def test_a_crossed_and_nested_panel_scores_as_refits_without_each_unit() -> None:
    rng = np.random.default_rng(5)
    df = pd.DataFrame(list(itertools.product(range(10), range(2), range(4))), columns=["school", "room", "year"])
    df = df[rng.random(len(df)) < 0.85].reset_index(drop=True)
    df["x"] = rng.normal(size=len(df))
    effects = rng.normal(size=10)[df.school] + 0.7 * rng.normal(size=20)[2 * df.school + df.room]
    df["y"] = df.x + effects + 0.5 * rng.normal(size=4)[df.year] + rng.normal(size=len(df))
    sds = {name: P("HalfNormal", sigma=1) for name in ("sd_school", "sd_school:room", "sd_year", "sigma")}
    options: dict[str, Any] = {"center": False, "priors": {"beta": P("Normal", mu=0, sigma=3), **sds}}
    fit = hp.fit("y ~ x + (1 | school/room) + (1 | year)", df, seed=1, **options)
    for group in ("school", "year"):
        scores = logo(fit, group)
        for level in fit.design.group(group).levels:
            mean, ratio = refitted(fit, df, group, level, options)
            k = float(scores.pareto_k.sel({group: level}))
            assert float(scores.elpd_i.sel({group: level})) == pytest.approx(ratio, abs=0.1 if k < 0.5 else 0.2)
            assert mean == pytest.approx(ratio, abs=0.08)


def test_draws_of_what_units_share_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = hp.fit("diameter ~ (1 | plate) + (1 | sample)", hp.datasets.load("penicillin"), seed=1)
    closed_form = logo(fit, "plate")
    monkeypatch.setattr(unit_density, "MOST_WORK", 0)
    drawn = logo(fit, "plate")
    assert (closed_form.n_samples, drawn.n_samples) == (1000, 500)
    assert drawn.elpd == pytest.approx(closed_form.elpd, abs=1)
    assert drawn.p == pytest.approx(closed_form.p, abs=1)
    good = drawn.pareto_k.values < 0.5
    assert good.sum() > 15
    np.testing.assert_allclose(drawn.elpd_i[good], closed_form.elpd_i[good], atol=0.15)


def test_nuts_and_marginal_draws_give_the_same_scores(slopes: Fit) -> None:
    exact = hp.fit("reaction ~ days + (days | subject)", hp.datasets.load("sleepstudy"), seed=1)
    a, b = logo(slopes, "subject"), logo(exact, "subject")
    good = np.maximum(a.pareto_k, b.pareto_k).values < 0.6
    assert good.sum() > 12
    np.testing.assert_allclose(a.elpd_i[good], b.elpd_i[good], atol=0.15)


# Quadrature --------------------------------------------------------------------------------------------------------

FAMILIES: tuple[tuple[str, dict[str, float]], ...] = (
    ("gaussian", {"sigma": 0.8}),
    ("bernoulli", {}),
    ("bernoulli(probit)", {}),
    ("bernoulli(cloglog)", {}),
    ("binomial", {}),
    ("poisson", {}),
    ("negative_binomial", {"alpha": 1.5}),
    ("student_t", {"sigma": 0.8, "nu": 4.0}),
)


def responses(name: str, eta: Array, rng: np.random.Generator) -> Rows:
    """Something that each family can have produced."""
    n = len(eta)
    trials = rng.integers(1, 20, n).astype(float) if name == "binomial" else None
    if name.startswith(("bernoulli", "binomial")):
        mean = family(name).link.inverse(eta)
        return Rows(rng.binomial(1 if trials is None else trials.astype(int), mean).astype(float), None, trials)
    if family(name).link.name == "log":
        return Rows(rng.poisson(np.exp(eta)).astype(float))
    return Rows(eta + rng.standard_t(3, n), rng.uniform(0.5, 2, n))


def density_of(name: str, parameters: dict[str, Any], rows: Rows, order: Any) -> Callable[[Array], Array]:
    chosen = family(name)
    weights, trials = (None if a is None else a[order, None] for a in (rows.weights, rows.trials))
    return lambda eta: chosen.log_density(chosen.link, eta, parameters, Rows(rows.y[order, None], weights, trials))


@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("name", "parameters"), FAMILIES)
def test_one_column_is_integrated_as_scipy_integrates_it(name: str, parameters: dict[str, float], sd: float) -> None:
    rng = np.random.default_rng(2)
    codes = np.sort(np.concatenate([np.arange(8), rng.integers(0, 8, 32)]))
    eta, z = rng.normal(size=(40, 2)), rng.uniform(0.5, 1.5, 40)
    rows = responses(name, eta[:, 0] + sd * rng.normal(size=8)[codes], rng)
    shuffled = rng.permutation(40)
    back = np.argsort(shuffled)
    rows = Rows(*(None if a is None else a[back] for a in (rows.y, rows.weights, rows.trials)))  # type: ignore[arg-type]
    codes, eta, z = codes[back], eta[back], z[back]
    units = arrange(codes, [codes])
    nodes = 1 if name == "gaussian" else module.NODES[1]
    column = np.broadcast_to(sd * z[:, None], eta.shape)[units.order]
    step = np.full(2, 0.01 * parameters.get("sigma", 1.0))
    found = integrated(
        units, density_of(name, parameters, rows, units.order), eta[units.order], [column], [1], step, nodes
    )
    for j, k in itertools.product(range(8), range(2)):
        density = density_of(name, parameters, rows, codes == j)

        def joint(u: float, j: int = j, k: int = k, density: Any = density) -> float:
            at = (eta[:, k] + sd * z * u)[codes == j, None]
            return float(density(at).sum() + stats.norm.logpdf(u))

        grid = np.linspace(-9, 9, 181)
        heights = [joint(u) for u in grid]
        top, peak = max(heights), grid[int(np.argmax(heights))]
        total = sum(
            integrate.quad(lambda u, top=top: np.exp(joint(u) - top), a, b, epsabs=1e-12, limit=200)[0]
            for a, b in itertools.pairwise([-10, *sorted({peak - 1, peak - 0.2, peak, peak + 0.2, peak + 1}), 10])
        )
        hard = sd == 3 and name == "student_t"
        assert found[j, k] == pytest.approx(np.log(total) + top, abs=1e-9 if nodes == 1 else 5e-3 if hard else 1e-4)


def by_grid(density: Callable[[Array], Array], eta: Array, columns: Sequence[Array]) -> float:
    """log ∫ Π p(y_i | η_i + Σ d_i u) N(u; 0, I) du by a fine grid; eta and columns (rows, 1)."""
    u = np.linspace(-8, 8, {1: 801, 2: 321, 3: 97}[len(columns)])
    grid = np.stack(np.meshgrid(*[u] * len(columns), indexing="ij")).reshape(len(columns), -1)
    at = eta + sum(d * x for d, x in zip(columns, grid, strict=True))
    heights = density(at).sum(axis=0) + stats.norm.logpdf(grid).sum(axis=0)
    return float(np.logaddexp.reduce(heights) + len(columns) * np.log(u[1] - u[0]))


@pytest.mark.parametrize(("name", "parameters"), [FAMILIES[k] for k in (0, 1, 5, 6, 7)])
@pytest.mark.parametrize("columns", [2, 3])
def test_more_columns_are_integrated_as_on_a_grid(name: str, parameters: dict[str, float], columns: int) -> None:
    rng = np.random.default_rng(4)
    codes, eta = np.repeat(np.arange(3), [1, 4, 9]), rng.normal(size=(14, 1))
    D = rng.normal(size=(columns, 14)) * 0.8
    rows = responses(name, eta[:, 0] + (D * rng.normal(size=(columns, 3))[:, codes]).sum(axis=0), rng)
    units, step = arrange(codes, [codes]), np.full(1, 0.01 * parameters.get("sigma", 1.0))
    nodes = 1 if name == "gaussian" else module.NODES[columns]
    density = density_of(name, parameters, rows, units.order)
    found = integrated(units, density, eta, [d[:, None] for d in D], [1] * columns, step, nodes)
    for j in range(3):
        mine = codes == j
        own = density_of(name, parameters, rows, mine)
        expected = by_grid(own, eta[mine], [d[mine, None] for d in D])
        assert found[j, 0] == pytest.approx(expected, abs=1e-9 if nodes == 1 else 2e-3)


@pytest.mark.parametrize(("name", "parameters"), [FAMILIES[k] for k in (0, 1, 5, 7)])
def test_classes_in_schools_are_integrated_as_on_a_grid(name: str, parameters: dict[str, float]) -> None:
    """For each effect of the school, one-dimensional integrals over its classes."""
    rng = np.random.default_rng(6)
    school = np.repeat(np.arange(4), [2, 5, 9, 14])
    room = 3 * school + rng.integers(0, 3, 30)
    room = np.unique(room, return_inverse=True)[1]
    eta = rng.normal(size=(30, 2))
    rows = responses(name, eta[:, 0] + rng.normal(size=4)[school] + 0.7 * rng.normal(size=room.max() + 1)[room], rng)
    units = arrange(school, [school, room])
    assert units.chain == (1, 0)
    nodes = 1 if name == "gaussian" else module.NODES[2]
    density = density_of(name, parameters, rows, units.order)
    columns = [np.full((30, 2), 0.7), np.full((30, 2), 1.1)]
    step = np.full(2, 0.01 * parameters.get("sigma", 1.0))
    found = integrated(units, density, eta[units.order], columns, [1, 2], step, nodes)
    u = np.linspace(-8, 8, 321)
    log_du = np.log(u[1] - u[0])
    for j, k in itertools.product(range(4), range(2)):
        total = stats.norm.logpdf(u)
        for c in np.unique(room[school == j]):
            own = density_of(name, parameters, rows, room == c)
            at = eta[room == c, k][:, None, None] + 1.1 * u[:, None] + 0.7 * u  # (rows, school's u, class's u)
            heights = own(at.reshape(len(at), -1)).sum(axis=0).reshape(len(u), len(u)) + stats.norm.logpdf(u)
            total = total + np.logaddexp.reduce(heights, axis=1) + log_du
        assert found[j, k] == pytest.approx(np.logaddexp.reduce(total) + log_du, abs=1e-9 if nodes == 1 else 1e-3)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """Densities (S, J) of units at each draw, as they are smoothed."""
    found: list[Array] = []
    smoothed = loo.smoothed
    monkeypatch.setattr(loo, "smoothed", lambda values, *rest: found.append(values[0]) or smoothed(values, *rest))
    return found


def test_gaussian_units_given_what_they_share_are_dense_gaussians(
    df: pd.DataFrame, made: Callable[..., Fit], caught: list[Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slopes, classes within, crossed effects, weights and an offset, at each draw; priors that are not Normal."""
    formula = "y ~ x + offset(z) + (x | a) + (z || e) + (1 | b)"
    fit = made(formula, df, weights="w", priors={"beta[x]": P("StudentT", nu=4, mu=0, sigma=1)}, draws=15, chains=2)
    monkeypatch.setattr(module, "CELLS", 7 * len(df))
    scores = logo(fit, "a")
    (values,) = caught
    design, draws = fit.design, {name: fit.draws(name) for name in ("beta", "sigma", "b_b", "sd_a", "cor_a", "sd_e")}
    flat = {name: value.reshape(30, *value.shape[2:]) for name, value in draws.items()}
    for s in (0, 11, 29):
        a, e, b = (design.group(name) for name in "aeb")
        mean = design.X @ flat["beta"][s] + design.offset + flat["b_b"][s][b.codes, 0]
        Sigma = flat["sd_a"][s][:, None] * flat["cor_a"][s] * flat["sd_a"][s]
        V = (a.Z @ Sigma @ a.Z.T) * (a.codes[:, None] == a.codes)
        V += (e.Z * flat["sd_e"][s] ** 2 @ e.Z.T) * (e.codes[:, None] == e.codes)
        V += np.diag(flat["sigma"][s] ** 2 / df["w"])
        for j in range(5):
            mine = a.codes == j
            expected = stats.multivariate_normal(mean[mine], V[np.ix_(mine, mine)]).logpdf(design.y[mine])
            assert values[s, j] == pytest.approx(expected, rel=1e-8)
    assert scores.n_data_points == 5


# Scores ------------------------------------------------------------------------------------------------------------

RESPONSES = {"student_t": "y", "bernoulli": "hit", "binomial": "prop(hits, size)", "poisson": "count"}


@pytest.mark.parametrize("name", RESPONSES)
def test_units_of_other_families_given_what_they_share_are_integrals(
    name: str, df: pd.DataFrame, made: Callable[..., Fit], caught: list[Array]
) -> None:
    """At each draw and for each unit, by a grid."""
    fit = made(f"{RESPONSES[name]} ~ z + (1 | c) + (1 | b)", df, family=name, draws=10, chains=3)
    scores, design = logo(fit, "c"), fit.design
    (values,) = caught
    draws = {str(key): fit.draws(key).reshape(30, -1) for key in fit.idata["posterior"].data_vars}
    rows = Rows(design.y, design.weights, design.trials)
    for s, j in itertools.product((0, 7, 29), range(12)):
        mine = design.group("c").codes == j
        eta = design.X @ draws["beta"][s] + draws["b_b"][s][design.group("b").codes]
        own = density_of(name, {key: draws[key][s] for key in fit.spec.parameters}, rows, mine)
        expected = by_grid(own, eta[mine, None], [np.full((mine.sum(), 1), draws["sd_c"][s, 0])])
        assert values[s, j] == pytest.approx(expected, abs=2e-3 if name == "student_t" else 1e-5)
    predicted = np.logaddexp.reduce(values, axis=0) - np.log(30)
    assert scores.p == pytest.approx(float(predicted.sum()) - scores.elpd)


def test_without_effects_of_its_own_a_unit_is_the_sum_of_its_rows(
    df: pd.DataFrame, made: Callable[..., Fit], caught: list[Array]
) -> None:
    fit = made("hit ~ x + (1 | b)", df, family="bernoulli", draws=10, chains=3)
    logo(fit, df["c"])
    draws = {str(name): fit.draws(name) for name in fit.idata["posterior"].data_vars}
    rows = loo.log_likelihood(fit.spec, fit.design, draws, slice(None)).reshape(30, -1)
    expected = np.stack([rows[:, df["c"] == c].sum(axis=1) for c in range(12)], axis=1)
    np.testing.assert_allclose(caught[0], expected, rtol=1e-12)


def test_a_loaded_fit_scores_as_the_one_that_was_saved(tmp_path: Path) -> None:
    df = hp.datasets.load("dyestuff")
    fit = hp.fit("yield_ ~ (1 | batch)", df, draws=200, seed=1)
    fit.save(tmp_path / "fit.nc")
    before, after = logo(fit, "batch"), logo(hp.load(tmp_path / "fit.nc"), "batch")
    np.testing.assert_allclose(after.elpd_i, before.elpd_i)
    assert list(after.elpd_i.coords["batch"].values) == list("ABCDEF")


@pytest.mark.parametrize("formula", ["y ~ x + (x | a/e) + (1 | b)", "count ~ x + (1 | a/e) + (1 | b)"])
def test_the_order_of_rows_changes_nothing(formula: str, df: pd.DataFrame, made: Callable[..., Fit]) -> None:
    chosen = "gaussian" if formula.startswith("y") else "poisson"
    a, b = (made(formula, table, family=chosen, draws=20) for table in (df, df.sample(frac=1, random_state=1)))
    for group in ("a", "a:e"):
        one, other = logo(a, group), logo(b, group)
        np.testing.assert_allclose(one.elpd_i, other.elpd_i, rtol=1e-8)
        np.testing.assert_allclose(one.pareto_k, other.pareto_k, rtol=1e-4, atol=1e-6)


def test_scores_are_what_loo_returns_by_unit() -> None:
    fit = hp.fit("reaction ~ days + (days | subject)", hp.datasets.load("sleepstudy"), seed=1)
    scores, rows = logo(fit, "subject"), fit.loo()
    assert type(scores) is type(rows)
    assert (scores.kind, scores.scale, scores.n_data_points, scores.n_samples) == ("logo", "log", 18, 1000)
    assert scores.elpd == pytest.approx(float(scores.elpd_i.sum()))
    assert scores.se == pytest.approx(np.sqrt(18) * scores.elpd_i.values.std(ddof=1))
    assert scores.good_k == pytest.approx(min(1 - 1 / np.log10(1000), 0.7))
    assert scores.warning == bool((scores.pareto_k > scores.good_k).any())
    assert list(scores.elpd_i.coords["subject"]) == list(fit.design.group("subject").levels)
    assert scores.pareto_k.dims == ("subject",)
    assert 1 < scores.p < 15  # two coefficients and four variance parameters, beside which one subject weighs a lot
    assert scores.elpd < rows.elpd  # a new unit is harder to predict
    assert "elpd_logo" in repr(scores)
    assert pickle.loads(pickle.dumps(scores)).kind == "logo"


def test_few_draws_are_taken_where_each_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = hp.fit("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"), seed=1)
    many = logo(fit, "batch")
    monkeypatch.setattr(module, "WORK", 1)
    few = logo(fit, "batch")
    assert (many.n_samples, few.n_samples) == (1000, 100)
    assert few.elpd == pytest.approx(many.elpd, abs=0.3)


def test_effects_that_are_not_stored_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    df = hp.datasets.load("penicillin")
    fits = [hp.fit("diameter ~ (1 | plate) + (1 | sample)", df, seed=1, effects_memory=size) for size in (0, 256)]
    assert "b_plate" not in fits[0].idata["posterior"]
    monkeypatch.setattr(unit_density, "MOST_WORK", 0)
    np.testing.assert_allclose(logo(fits[0], "sample").elpd_i, logo(fits[1], "sample").elpd_i, atol=3)


# Units and comparisons ---------------------------------------------------------------------------------------------


def test_units_may_be_labels_of_the_rows(df: pd.DataFrame, made: Callable[..., Fit]) -> None:
    fit = made("y ~ x + (1 | c)", df)
    expected = logo(fit, "c")
    shuffled = df["c"].sample(frac=1, random_state=2)
    for labels in (df["c"], shuffled, df["c"].to_numpy(), list(df["c"].astype(str).str.zfill(2))):
        np.testing.assert_allclose(logo(fit, labels).elpd_i, expected.elpd_i, rtol=1e-10)
    assert logo(fit, shuffled).elpd_i.dims == ("c",)
    assert logo(fit, df["c"].to_numpy()).elpd_i.dims == ("unit",)
    dropped = made("y ~ x + (1 | c)", df.assign(x=df["x"].where(df.index > 9)))
    assert logo(dropped, df["c"]).n_data_points == 12


def test_a_model_without_the_units_takes_them_from_its_panel() -> None:
    df = hp.datasets.load("wage_panel").query("worker < 600")
    fits = {
        "complete": hp.fit("log_wage ~ experience", df, panel=("worker", "year"), seed=1),
        "partial": hp.fit("log_wage ~ experience + (1 | worker)", df, panel=("worker", "year"), seed=1),
    }
    complete = logo(fits["complete"], "worker")
    np.testing.assert_allclose(complete.elpd_i, logo(fits["complete"], df["worker"]).elpd_i)
    table = compare(fits)
    assert list(table.index) == ["partial", "complete"]
    assert table.columns.name == "LOGO: a new worker"
    assert list(table.columns) == ["elpd", "se", "elpd_diff", "se_diff", "p_logo", "weight", "bad_k"]
    assert table.loc["complete", "elpd"] == pytest.approx(complete.elpd)
    difference = (complete.elpd_i.values - logo(fits["partial"], "worker").elpd_i.values).sum()
    assert table.loc["complete", "elpd_diff"] == pytest.approx(difference)
    assert table["weight"].sum() == pytest.approx(1)
    assert table.loc["partial", "weight"] > 0.9


def test_units_of_so_many_rows_that_densities_underflow_are_compared() -> None:
    rng = np.random.default_rng(1)
    df = pd.DataFrame({"g": np.repeat(np.arange(6), 1500), "x": rng.normal(size=9000)})
    df["y"] = rng.normal(size=6)[df.g] + 0.05 * df.x + rng.normal(size=9000)
    table = compare({"with": hp.fit("y ~ x + (1 | g)", df, seed=1), "without": hp.fit("y ~ 1 + (1 | g)", df, seed=1)})
    assert table["elpd"].max() < -6 * 1500
    assert table.index[0] == "with"
    assert np.isfinite(table.to_numpy(float)).all()


def test_compare_refuses_other_units(df: pd.DataFrame, made: Callable[..., Fit]) -> None:
    a, b = made("y ~ x + (1 | c)", df), made("y ~ x + (1 | c)", df.assign(c=(df["c"] + 1) % 12))
    with pytest.raises(hp.FitError, match="a and b have different units: c is not the same in their rows"):
        compare({"a": a, "b": b})
    renamed = made("y ~ x + (1 | c)", df.assign(c=df["c"] + 100))
    with pytest.raises(hp.FitError, match="different units"):
        compare({"a": a, "b": renamed}, "c")
    both = made("y ~ x + (1 | c) + (1 | b)", df)
    with pytest.raises(hp.FitError, match="say which units are left out, as in group='worker'; the factors are: b, c"):
        compare({"a": a, "b": both})
    assert sorted(compare({"a": a, "b": both}, "c").index) == ["a", "b"]
    with pytest.raises(hp.FitError, match="the factors are: none"):
        compare({"a": made("y ~ x", df), "b": made("y ~ z", df)})


FLAT: dict[str, Any] = {"priors": {"beta[only]": P("Flat")}, "center": False}
REFUSED: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "unknown": ("y ~ x + (1 | c)", "d", {}, r"no grouping factor 'd' in this model \(it has: c\); .* fit.logo\(df"),
    "none at all": ("y ~ x", "d", {}, r"\(it has: none\)"),
    "fe": ("y ~ x + fe(c)", "c", {}, r"the effects of fe\(c\) belong to one c each; .* use \(1 \| c\), or fit.loo\(\)"),
    "fe and slopes": ("y ~ x + fe(c) + (0 + x | c)", "c", {}, r"fe\(c\) belong to one c each"),
    "fe within": ("y ~ x + (1 | a) + fe(e)", "a", {}, r"the effects of fe\(e\) belong to one a each"),
    "fe in part": (
        "y ~ x + (1 | c) + fe(k)", "c", {}, r"the effects of fe\(k\) of 1 levels \(rare, …\) belong to one c each"
    ),
    "four columns": (
        "hit ~ x + (x + z + w | c)", "c", {"family": "bernoulli"},
        r"of 4 columns \(Intercept of c, x of c, z of c, w of c\); for a bernoulli response at most 3",
    ),
    "four with those within": ("hit ~ x + (x | a) + (z | e)", "a", {"family": "bernoulli"}, "of 4 columns"),
    "crossed within": (
        "hit ~ x + (1 | a) + (1 | e) + (1 | h)", "a", {"family": "bernoulli"},
        "the effects of h within it out, but they are crossed with those of e",
    ),
    "flat": ("y ~ x + only + (1 | c)", "c", FLAT, r"without c 3 the other rows do not .* flat \(beta\[only\]\)"),
    "too few labels": ("y ~ x", np.arange(3), {}, "there are 3 labels of units for 150 rows"),
    "missing labels": ("y ~ x", pd.Series(["a", "b"], [0, 1]), {}, "the unit of 148 of the 150 rows is missing"),
    "one unit": ("y ~ x", np.ones(150), {}, "unit has one unit"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str, df: pd.DataFrame, made: Callable[..., Fit]) -> None:
    formula, group, options, message = REFUSED[what]
    rare = np.where(df["c"] == 3, np.where(df.index < df.index[df["c"] == 3][2], "rare", "often"), "often")
    df = df.assign(k=np.where(df["c"] % 2 == 0, "even", rare), only=(df["c"] == 3).astype(float))
    with pytest.raises(hp.FitError, match=message):
        logo(made(formula, df, draws=20, **options), group)


def test_another_factors_fixed_effects_are_fine(df: pd.DataFrame, made: Callable[..., Fit]) -> None:
    assert np.isfinite(logo(made("y ~ x + (1 | c) + fe(b)", df), "c").elpd)
    assert np.isfinite(logo(made("hit ~ x + (1 | c) + fe(b)", df, family="bernoulli"), "c").elpd)


def test_too_few_draws_are_refused(df: pd.DataFrame, made: Callable[..., Fit]) -> None:
    with pytest.raises(hp.FitError, match="at least 25 draws; this fit has 24: use draws=1000"):
        logo(made("y ~ x + (1 | c)", df, draws=12, chains=2), "c")


def test_densities_that_are_not_finite_are_refused(df: pd.DataFrame, made: Callable[..., Fit]) -> None:
    fit = made(
        "count ~ x + offset(o) + (1 | c)", df.assign(o=np.where(df.c == 4, 1e3, 0.0)), family="poisson", draws=10
    )
    with pytest.raises(hp.FitError, match=re.escape("log p(y) of c 4 is not finite at some draws")):
        logo(fit, "c")


def test_units_of_the_panel_that_are_in_no_bar_keep_their_names() -> None:
    rng = np.random.default_rng(2)
    df = pd.DataFrame({"g": np.repeat(["w", "u", "v"], 6), "t": np.tile(range(6), 3), "x": rng.normal(size=18)})
    df["y"] = df["x"] + rng.normal(size=18)
    fit = hp.fit("y ~ x", df, panel=("g", "t"), draws=100, seed=1, progress=False)
    assert list(fit.logo("g").elpd_i["g"].values) == ["u", "v", "w"]


@pytest.mark.parametrize("group", [pd.DataFrame({"k": [1] * 18}), [[1]] * 18, 5])
def test_units_that_are_no_labels_are_refused(group: Any, workers: Fit) -> None:
    with pytest.raises(hp.FitError, match="units are a grouping factor, the panel's unit, or one label for each row"):
        workers.logo(group)
