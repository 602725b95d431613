"""Leave-one-out in closed form: against dense conditional Gaussians, against evidences, and against draws."""

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.compiler import dense
from hierpanel.compiler import marginal as route
from hierpanel.compiler.leverage import predictor_moments, rows_of
from hierpanel.data.moments import moments
from hierpanel.results import loo

FORMULAS = (
    "y ~ x",
    "y ~ 0 + x + z",
    "y ~ 0 + (1 | a)",
    "y ~ x + (1 | c)",
    "y ~ x + (x | c)",
    "y ~ x + (x || c) + offset(z)",
    "y ~ x + (1 | a/e/f)",
    "y ~ x + (x | a) + (z | e) + (1 | f)",
    "y ~ x + (1 | a) + (1 | b) + (1 | c)",
    "y ~ x + (x | a) + (z | b) + (x + z | c)",
    "y ~ x + (1 | a) + (1 | e) + (x | f) + (1 | b)",
    "y ~ x + (1 | a:b) + (1 | a) + (1 | b)",
    "y ~ x + fe(c)",
)


@pytest.fixture(scope="module")
def df() -> pd.DataFrame:
    """150 rows with crossed factors a, b, c, and e in a, f in e."""
    rng, n = np.random.default_rng(3), 150
    table = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(5, 3, n), "z": rng.normal(size=n)})
    table["w"] = rng.gamma(2, 1, n) + 0.1
    for name, levels in {"a": 5, "b": 7, "c": 12}.items():
        table[name] = rng.integers(0, levels, n)
    table["e"] = table.a.astype(str) + "e" + rng.integers(0, 3, n).astype(str)
    table["f"] = table.e + "f" + rng.integers(0, 3, n).astype(str)
    return table


def covariance(model: hp.Model, M: route.Marginal, psi: np.ndarray) -> np.ndarray:
    """The prior covariance of the rows' linear predictor given ψ."""
    X = model.design.X - model.spec.center
    V = X @ np.diag([prior.values["sigma"] ** 2 for prior in model.spec.beta]) @ X.T
    for group, data, F in zip(model.spec.groups, model.design.groups, M.parameters.factors(psi), strict=True):
        dense = np.array([[float(np.ravel(entry)[0]) for entry in row] for row in F])
        Z = data.Z - group.center
        V = V + (Z @ dense @ dense.T @ Z.T) * (data.codes[:, None] == data.codes)
    return V


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("large", [100, 2])
@pytest.mark.parametrize("formula", FORMULAS)
def test_each_row_is_predicted_from_the_others_as_a_dense_gaussian_predicts_it(
    formula, large, weights, df, monkeypatch
):
    monkeypatch.setattr(dense, "LARGE", large)
    model = hp.Model(formula, df, weights=weights)
    M = route.marginal(model.spec, moments(model.design))
    psi = M.start + 0.7 * np.random.default_rng(1).standard_normal((1, len(M.start)))
    rows = rows_of(M, model.spec, model.design, slice(None))
    mean, variance = predictor_moments(M, M.solve(psi), rows)
    tau = M.parameters.sigma(psi)[0] ** 2 / rows.weights
    prior_mean = (model.design.X - model.spec.center) @ [prior.values["mu"] for prior in model.spec.beta]
    precision = np.linalg.inv(covariance(model, M, psi) + np.diag(tau))
    centred = model.design.y - model.design.offset - prior_mean
    # y_i - E[y_i | y_-i] = (V⁻¹y)_i / (V⁻¹)_ii, and the variance is 1 / (V⁻¹)_ii; fe()'s V has a condition of 10⁸
    tolerance = 1e-6 if "fe(" in formula else 1e-9
    left_out = (precision @ centred) / np.diag(precision)
    share = 1 - variance / tau
    np.testing.assert_allclose((rows.y - mean) / share, left_out, rtol=tolerance, atol=tolerance * np.ptp(left_out))
    np.testing.assert_allclose(tau / share, 1 / np.diag(precision), rtol=tolerance)


@pytest.mark.parametrize("formula", ["y ~ x + (x | c)", "y ~ x + (1 | a) + (1 | b)"])
def test_rows_in_parts_are_the_same_rows(formula, df):
    model = hp.Model(formula, df)
    M = route.marginal(model.spec, moments(model.design))
    solved = M.solve(M.start[None])
    whole = predictor_moments(M, solved, rows_of(M, model.spec, model.design, slice(None)))
    parts = [predictor_moments(M, solved, rows_of(M, model.spec, model.design, slice(k, k + 50))) for k in (0, 50, 100)]
    for k in range(2):
        np.testing.assert_allclose(np.concatenate([part[k] for part in parts]), whole[k], rtol=1e-10)


def test_the_scores_are_those_of_draws_with_lower_pareto_k():
    """Both estimate the same elpd and effective parameters; ψ alone is easier to reweight."""
    fit = hp.fit("diameter ~ (1 | plate) + (1 | sample)", hp.datasets.load("penicillin"), seed=1)
    closed, drawn = fit.loo(), loo.loo(fit.spec, fit.design, fit.stored_draws(), 1.0)
    assert closed.elpd == pytest.approx(drawn.elpd, abs=1.0)
    assert closed.p == pytest.approx(drawn.p, abs=1.0)
    np.testing.assert_allclose(closed.elpd_i.values, drawn.elpd_i.values, atol=0.15)
    assert float(closed.pareto_k.max()) < 0.5 < float(drawn.pareto_k.max())


def test_the_score_of_a_row_is_the_evidence_with_it_over_that_without_it():
    """p(y_i | y_-i) = p(y) / p(y_-i), each by its own fit, with priors that do not depend on the data."""
    df = hp.datasets.load("dyestuff")
    priors = {
        "beta": hp.Prior("Normal", mu=1500, sigma=100),
        "sd_batch": hp.Prior("HalfNormal", sigma=50),
        "sigma": hp.Prior("HalfNormal", sigma=50),
    }
    whole = hp.fit("yield_ ~ (1 | batch)", df, priors=priors, seed=1)
    scores = whole.loo().elpd_i.values
    for row in (0, 13, 29):
        without = hp.fit("yield_ ~ (1 | batch)", df.drop(index=df.index[row]), priors=priors, seed=2)
        assert scores[row] == pytest.approx(whole.log_evidence[0] - without.log_evidence[0], abs=0.04)


def test_the_scores_do_not_need_stored_effects():
    df = hp.datasets.load("sleepstudy")
    fits = [hp.fit("reaction ~ days + (days | subject)", df, seed=1, effects_memory=size) for size in (0, 256)]
    np.testing.assert_allclose(fits[0].loo().elpd_i.values, fits[1].loo().elpd_i.values, atol=0.2)
    assert hp.compare({"a": fits[0], "b": fits[1]}).shape == (2, 7)
