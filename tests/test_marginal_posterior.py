"""Fits by the marginal route, against NUTS, integrals over a grid, formulas written out, and themselves."""

import json
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from scipy import stats

import hierpanel as hp
from hierpanel.compiler import plan
from hierpanel.compiler.marginal import marginal
from hierpanel.data.moments import moments
from hierpanel.inference import effects, independence, mixture, nuts
from hierpanel.inference import marginal as route
from hierpanel.inference.coordinates import Coordinates
from hierpanel.inference.diagnostics import diagnose
from hierpanel.inference.mixture import Mixture
from hierpanel.results import loo, unpooled
from hierpanel.results.fit import Fit

Array = np.ndarray
P = hp.Prior
NUTS = json.loads((Path(__file__).parent / "reference/nuts_posteriors.json").read_text(encoding="utf-8"))
# Differences are allowed so many Monte Carlo standard errors.
MOST = 4.5
# Draws of which the tables of effects that are not stored are mixtures; of fewer draws they take all.
COMPONENTS = 400
# Further models on the tables of that file, for effects that are drawn given other factors' stored ones.
OTHERS = {
    "slopes of years": {"formula": "y ~ I(x + 3) + (1 | unit) + (I(x + 3) | year)", "data": NUTS["weighted"]["data"]},
    "fe of years": {"formula": "y ~ x + (1 | unit) + fe(year)", "data": NUTS["weighted"]["data"], "weights": "w"},
    "fe of uneven units": {"formula": "y ~ x + fe(unit) + (0 + x | unit)", "data": NUTS["weighted"]["data"]},
}


def model_of(name: str) -> hp.Model:
    case = (NUTS | OTHERS)[name]
    df = hp.datasets.load(case["data"]) if isinstance(case["data"], str) else pd.DataFrame(case["data"])
    df = df.query(case["query"]) if "query" in case else df
    priors = {key: P(**prior) for key, prior in case.get("priors", {}).items()}
    return hp.Model(case["formula"], df, priors=priors, center=case.get("center", True), weights=case.get("weights"))


@cache
def fitted(name: str, seed: int = 1, draws: int = 2000, effects_memory: float = 256) -> Fit:
    """A case by the marginal route."""
    options: dict[str, Any] = {"draws": draws, "seed": seed, "effects_memory": effects_memory, "progress": False}
    return model_of(name).fit("marginal", **options)


def by_marginal(formula: str, df: Any, **options: Any) -> Fit:
    return hp.fit(formula, df, **{"method": "marginal", "seed": 1, "progress": False, "env": {}, **options})


def numbers(draws: Array) -> dict[str, tuple[float, float]]:
    """Mean, sd and quantiles of draws (chain, draw), each with its Monte Carlo standard error."""
    found = {
        "mean": (draws.mean(), array_stats.mcse(draws)),
        "sd": (draws.std(ddof=1), array_stats.mcse(draws, method="sd")),
    }
    for key, prob in {"5 %": 0.05, "95 %": 0.95}.items():
        found[key] = (np.quantile(draws, prob), array_stats.mcse(draws, method="quantile", prob=prob))
    return {key: (float(value), float(se)) for key, (value, se) in found.items()}


def assert_agree(found: Array, expected: Array) -> None:
    """Whether two fits' draws (chain, draw, …) have the same means, sds and quantiles, to Monte Carlo error."""
    one, other = (draws.reshape(*draws.shape[:2], -1) for draws in (found, expected))
    for k in range(one.shape[2]):
        b = numbers(other[:, :, k])
        for key, (value, se) in numbers(one[:, :, k]).items():
            assert abs(value - b[key][0]) < MOST * math.hypot(se, b[key][1]), (k, key)


@pytest.fixture
def no_nuts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """NUTS invents the draws of its free variables, between 0 and 1; the list holds the options of each call."""
    seen: list[Any] = []

    def sample(model: Any, **options: Any) -> nuts.Draws:
        seen.append(options)
        lead, rng = (options["chains"], options["draws"]), np.random.default_rng(1)
        shapes = model.eval_rv_shapes()
        free = {one.name: rng.uniform(0.2, 0.8, (*lead, *shapes[one.name])) for one in model.free_RVs}
        return nuts.Draws(free, xr.Dataset({"diverging": (("chain", "draw"), np.zeros(lead, bool))}), 0.0, 0.0)

    monkeypatch.setattr(nuts, "sample", sample)
    return seen


# Against NUTS ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NUTS)
def test_the_posterior_is_that_of_long_nuts_runs(name: str) -> None:
    run, fit = NUTS[name]["nuts"], fitted(name)
    assert run["max_r_hat"] < 1.01
    assert run["divergences"] == 0
    assert (fit.method, fit.idata["sample_stats"].attrs["sampled_by"]) == ("marginal", "independence")
    for row in NUTS[name]["posterior"]:
        variable = fit.idata["posterior"][row["variable"]]
        labels = [str(variable[dim].values[k]) for dim, k in zip(variable.dims[2:], row["place"], strict=True)]
        assert labels == row["labels"]
        for key, (value, se) in numbers(variable.values[(..., *row["place"])]).items():
            expected, expected_se = row[key]
            assert abs(value - expected) < MOST * math.hypot(se, expected_se), (row["variable"], labels, key)


@pytest.mark.parametrize("name", ["sleepstudy", "wage_sim_independent", "wage_sim_fe", "pastes", "weighted"])
def test_names_dims_and_coordinates_are_those_of_a_nuts_fit(name: str, no_nuts: list[Any]) -> None:
    found = fitted(name).idata
    expected = model_of(name).fit("nuts", draws=2000, progress=False).idata
    assert len(no_nuts) == 1
    assert list(found.children) == list(expected.children)
    a, b = found["posterior"], expected["posterior"]
    assert list(a.data_vars) == list(b.data_vars)
    assert a.attrs == b.attrs
    for variable in b.data_vars:
        assert (a[variable].dims, a[variable].shape, a[variable].dtype) == (
            b[variable].dims,
            b[variable].shape,
            b[variable].dtype,
        )
    xr.testing.assert_identical(a.to_dataset().coords.to_dataset(), b.to_dataset().coords.to_dataset())
    for group in ("observed_data", "constant_data"):
        xr.testing.assert_identical(found[group].to_dataset(), expected[group].to_dataset())


# Draws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, 256])
def test_the_same_seed_gives_the_same_draws(memory: float) -> None:
    model = model_of("pastes")
    options: dict[str, Any] = {"draws": 200, "effects_memory": memory, "progress": False}
    one, again, other, free, freer = (
        model.fit("marginal", seed=seed, **options) for seed in (1, np.int64(1), 2, None, None)
    )
    names = [*one.idata["posterior"].data_vars, "b_batch", "b_batch:cask"]
    for name in names:
        np.testing.assert_array_equal(again.draws(name), one.draws(name))
        for a, b in ((one, other), (free, freer)):
            assert not np.isclose(a.draws(name), b.draws(name), rtol=1e-6, atol=0).all()
    assert again.idata["sample_stats"].attrs == one.idata["sample_stats"].attrs


@pytest.mark.parametrize(("chains", "draws"), [(1, 1), (1, 5), (2, 4), (3, 70), (200, 2)])
def test_draws_and_chains_are_those_asked_for(chains: int, draws: int) -> None:
    fit = by_marginal("reaction ~ days + (days | subject)", hp.datasets.load("sleepstudy"), chains=chains, draws=draws)
    assert fit.draws("beta").shape == (chains, draws, 2)
    assert fit.draws("b_subject").shape == (chains, draws, 18, 2)
    assert fit.idata["sample_stats"]["lp"].shape == (chains, draws)
    found = fit.diagnostics()
    assert (found["chains"], found["draws"], found["divergences"]) == (chains, draws, 0)
    assert fit.log_evidence[1] < 0.1
    assert f"{chains} × {draws} draws" in str(fit.summary())


def test_chains_agree_and_draws_are_all_but_independent() -> None:
    fit = by_marginal("log_wage ~ experience + (1 + experience | worker)", hp.datasets.load("wage_sim"))
    assert fit.draws("beta").shape[:2] == (4, 1000)
    assert fit.diagnostics()["max_r_hat"] < 1.01
    assert fit.diagnostics()["min_ess"] >= 1500
    bulk, tail, r_hat = diagnose(fit.draws("b_worker").reshape(4, 1000, -1))
    assert min(bulk.min(), tail.min()) >= 1500
    assert r_hat.max() < 1.01


def test_the_first_draws_of_chains_are_of_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large models take each proposal in turn, so what a chain starts with is seen."""
    monkeypatch.setattr(route, "MOST_THINNING", 1)
    first = model_of("dyestuff").fit("marginal", draws=4, chains=300, seed=1, progress=False)
    shares = np.array([0.01, 0.09, 0.4, 0.4, 0.09, 0.01])
    for name in ("sd_batch", "sigma"):
        edges = np.quantile(fitted("dyestuff").draws(name), np.cumsum(shares)[:-1])
        counts = np.bincount(np.searchsorted(edges, first.draws(name)[:, 0].ravel()), minlength=6)
        assert stats.chisquare(counts, 300 * shares).pvalue > 1e-4
    priors = {"sd_batch": P("Uniform", lower=0, upper=30)}
    bounded = by_marginal("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"), priors=priors, draws=4, chains=300)
    assert bounded.draws("sd_batch").max() < 30
    assert np.isfinite(bounded.idata["sample_stats"]["lp"].values).all()


def test_statistics_of_the_sampling_are_told() -> None:
    fit = fitted("sleepstudy")
    stat = fit.idata["sample_stats"]
    assert {name: stat[name].dims[2:] for name in stat.data_vars} == {"lp": (), "accepted": (), "psi": ("psi_dim",)}
    assert set(stat.attrs) == {"pareto_k", "log_evidence", "log_evidence_se", "effects_seed", "sampled_by"}
    assert stat.attrs["pareto_k"] == fit.diagnostics()["pareto_k"] < 0.7
    assert list(fit.timing) == ["preparing", "sampling"]
    assert "Method:     marginal, 4 × 2,000 draws" in str(fit.summary())
    psi, lp = stat["psi"].values, stat["lp"].values
    M = marginal(fit.spec, moments(fit.design))
    np.testing.assert_allclose(M.log_density(psi.reshape(-1, 4)).reshape(lp.shape), lp, rtol=1e-9)
    logs = {"sd_subject[Intercept]": fit.draws("sd_c_subject")[..., 0], "sigma": fit.draws("sigma")}
    for name, values in logs.items():
        np.testing.assert_allclose(np.exp(stat["psi"].sel(psi_dim=name).values), values, rtol=1e-12)
    correlation = np.tanh(stat["psi"].sel(psi_dim="pcor_subject[0]").values)
    np.testing.assert_allclose(correlation, fit.draws("cor_c_subject")[..., 1, 0], rtol=1e-9, atol=1e-12)
    moved = (np.diff(psi, axis=1) != 0).any(axis=2)
    np.testing.assert_array_equal(moved, stat["accepted"].values[:, 1:])
    assert stat["accepted"].values[:, 0].all()
    assert stat["accepted"].values.mean() > 0.8


# Effects that are not stored ------------------------------------------------------------------------------------------


def conditional(fit: Fit, name: str, others: Sequence[str] = ()) -> tuple[Array, Array]:
    """Means (S, J, q) and covariances (S, J, q, q) of a factor's effects given each draw of everything else.

    With Σ of the original scale, σ² and the rows of a unit, V = (I + Σ Z'WZ/σ²)⁻¹ Σ and m = V Z'W(y - Xβ - …)/σ².
    """
    design, data = fit.design, fit.design.group(name)
    S, q = math.prod(fit.draws("sigma").shape), len(data.coefs)
    sigma, sd = fit.draws("sigma").reshape(S), fit.draws(f"sd_{name}").reshape(S, q)
    cor = fit.draws(f"cor_{name}").reshape(S, q, q) if f"cor_{name}" in fit.idata["posterior"] else np.eye(q)
    Sigma = sd[:, :, None] * cor * sd[:, None, :]
    residual = design.y - design.offset - fit.draws("beta").reshape(S, -1) @ design.X.T
    for other in others:
        b, that = fit.group_draws(other).reshape(S, -1, len(design.group(other).coefs)), design.group(other)
        residual = residual - (b[:, that.codes] * that.Z).sum(axis=2)
    w = np.ones(design.n) if design.weights is None else design.weights
    ZZ, Zr = np.zeros((len(data.levels), q, q)), np.zeros((S, len(data.levels), q))
    np.add.at(ZZ, data.codes, w[:, None, None] * data.Z[:, :, None] * data.Z[:, None, :])
    np.add.at(Zr, (slice(None), data.codes), (w * residual)[:, :, None] * data.Z)
    variance = sigma[:, None, None, None] ** 2
    V = np.linalg.solve(np.eye(q) + Sigma[:, None] @ ZZ / variance, np.broadcast_to(Sigma[:, None], (S, *ZZ.shape)))
    return (V @ Zr[..., None] / variance)[..., 0], V


# factor, and the factors that its effects are conditional on
ALONE: dict[str, tuple[str, Sequence[str]]] = {
    "sleepstudy": ("subject", ()),
    "sleepstudy_priors": ("subject", ()),
    "wage_sim_independent": ("worker", ()),
    "dyestuff": ("batch", ()),
    "dyestuff2": ("batch", ()),
    "pastes": ("batch:cask", ["batch"]),
    "penicillin": ("plate", ["sample"]),
    "no_slopes": ("unit", ()),
    "weighted": ("unit", ["year"]),
    "slopes of years": ("unit", ["year"]),
    "fe of years": ("unit", ["year"]),
}


@pytest.mark.parametrize("name", ALONE)
def test_tables_are_exact_mixtures_over_the_draws_of_everything_else(name: str) -> None:
    factor, others = ALONE[name]
    fit = fitted(name, draws=COMPONENTS // 4, effects_memory=0)
    assert f"b_{factor}" not in fit.idata["posterior"]
    mean, V = conditional(fit, factor, others)
    (S, J, q), coefs = mean.shape, fit.design.group(factor).coefs
    beta = np.zeros((S, q))
    for k, coef in enumerate(coefs):
        if coef in fit.spec.coefs:
            beta[:, k] = fit.draws("beta").reshape(S, -1)[:, fit.spec.coefs.index(coef)]
    sd = np.sqrt(np.diagonal(V, axis1=2, axis2=3)).reshape(S, -1)
    for table, shift in ((fit.ranef(factor, 0.9), 0 * beta), (fit.coef(factor, 0.9), beta)):
        assert list(table.index) == [(level, coef) for level in fit.design.group(factor).levels for coef in coefs]
        m = (mean + shift[:, None]).reshape(S, -1)
        size = np.sqrt(m.var(axis=0) + (sd**2).mean(axis=0))
        np.testing.assert_allclose((table["mean"] - m.mean(axis=0)) / size, 0, atol=1e-7)
        np.testing.assert_allclose(table["sd"], size, rtol=1e-7)
        for column, prob in (("lower", 0.05), ("upper", 0.95)):
            below = stats.norm.cdf((table[column].to_numpy() - m) / sd).mean(axis=0)
            np.testing.assert_allclose(below, prob, atol=1e-6)
        np.testing.assert_allclose(table["p_pos"], stats.norm.cdf(m / sd).mean(axis=0), atol=1e-6)
        assert table[["ess_bulk", "ess_tail", "r_hat"]].isna().all(axis=None)
    found, covariance = fit.group_moments(factor)
    away = mean - mean.mean(axis=0)
    expected = V.mean(axis=0) + np.einsum("sji,sjk->jik", away, away) / S
    size = np.sqrt(np.diagonal(expected, axis1=1, axis2=2))
    np.testing.assert_allclose((found - mean.mean(axis=0)) / size, 0, atol=1e-7)
    np.testing.assert_allclose((covariance - expected) / size[:, :, None] / size[:, None, :], 0, atol=1e-7)
    assert found.shape == (J, q)


@pytest.mark.parametrize("name", ALONE)
def test_draws_of_effects_are_normal_given_the_draws_of_everything_else(name: str) -> None:
    """Whitened by the conditional distribution, they are standard normal, and uncorrelated with its mean."""
    factor, others = ALONE[name]
    fit = fitted(name, draws=250, effects_memory=0)
    mean, V = conditional(fit, factor, others)
    away = fit.group_draws(factor).reshape(mean.shape) - mean
    z = np.linalg.solve(np.linalg.cholesky(V), away[..., None])[..., 0]
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    J, q = z.shape[1:]
    C = np.corrcoef(np.concatenate([z.reshape(len(z), -1), mean.reshape(len(z), -1)], axis=1).T)[: J * q]
    assert np.abs(C[~np.eye(*C.shape, dtype=bool)]).max() < 6 / math.sqrt(len(z))


@cache
def joint(name: str, seed: int, memory: float) -> dict[str, Array]:
    """Draws of effects, of some of their sums and products with other variables, and of the linear predictor."""
    fit = fitted(name, seed=seed, effects_memory=memory)
    names = [group.name for group in fit.spec.groups]
    b = {f"b_{name}": fit.group_draws(name) for name in names}
    found = {name: draws[:, :, :3] for name, draws in b.items()}
    for group in names:
        found[f"{group} and beta"] = b[f"b_{group}"][:, :, :3, 0] + fit.draws("beta")[:, :, :1]
        found[f"{group} and sigma"] = b[f"b_{group}"][:, :, :3, 0] * np.log(fit.draws("sigma"))[:, :, None]
    every = {str(name): values.values for name, values in fit.idata["posterior"].data_vars.items()} | b
    return found | {"rows": loo.linear_draws(fit.spec, fit.design, every, slice(None, None, fit.design.n // 8))}


STORED_OR_NOT = ["wage_sim", "pastes", "penicillin", "wage_sim_fe", "weighted", "correlation_0.98"]


@pytest.mark.parametrize("name", STORED_OR_NOT)
def test_draws_of_effects_are_the_same_in_distribution_stored_or_not(name: str) -> None:
    stored, made = joint(name, 1, 256), joint(name, 2, 0)
    for key, draws in made.items():
        assert_agree(draws, stored[key])


@pytest.mark.parametrize("name", STORED_OR_NOT)
def test_tables_are_the_same_stored_or_not(name: str) -> None:
    stored, made = fitted(name), fitted(name, seed=2, effects_memory=0)
    factors = [group.name for group in stored.spec.groups]
    assert all(stored.effects.is_stored(factor) for factor in factors)
    assert not all(made.effects.is_stored(factor) for factor in factors)
    for factor in factors:
        found, expected = made.ranef(factor), stored.ranef(factor)
        assert list(found.index) == list(expected.index)
        assert list(found.columns) == list(expected.columns)
        for a, b in ((found, expected), (made.coef(factor), stored.coef(factor))):
            # means over so many components err at most as means over so many draws
            se = b["sd"] / math.sqrt(COMPONENTS) * math.sqrt(1 + COMPONENTS / b["ess_bulk"].min())
            assert (abs(a["mean"] - b["mean"]) < MOST * se).all()
            # quantiles of 2.5 %: √(p(1 - p))/density, for a normal density 2.7 sds
            assert (abs(a[["lower", "upper"]] - b[["lower", "upper"]]).max(axis=1) < MOST * 3 * se).all()
            assert (abs(a["sd"] - b["sd"]) < MOST * 1.5 * se).all()
            assert (abs(a["p_pos"] - b["p_pos"]) < MOST * 0.5 * se / b["sd"]).all()
        mean, covariance = made.group_moments(factor)
        expected_mean, expected_covariance = stored.group_moments(factor)
        sd = np.sqrt(np.diagonal(expected_covariance, axis1=1, axis2=2))
        np.testing.assert_allclose((mean - expected_mean) / sd, 0, atol=MOST * 0.06)
        scale = sd[:, :, None] * sd[:, None, :]
        np.testing.assert_allclose(covariance / scale, expected_covariance / scale, atol=MOST * 0.12)
        for coef in stored.design.group(factor).coefs:
            a, b = (unpooled.shrinkage(fit, factor, coef) for fit in (made, stored))
            k = stored.design.group(factor).coefs.index(coef)
            assert list(a["rows"]) == list(b["rows"])
            for column in ("own", "pooled"):
                assert (abs(a[column] - b[column]).dropna() < MOST * 0.08 * sd[:, k].max()).all()
    rows = joint(name, 1, 256)["rows"].std(axis=(0, 1)).max()
    for attribute in ("fittedvalues", "resid"):
        a, b = getattr(made, attribute), getattr(stored, attribute)
        assert a.index.equals(b.index)
        assert abs(a - b).max() < MOST * 0.06 * rows
    for table in ("fixef", "varcorr", "r2", *(["icc"] if name != "wage_sim_fe" else [])):
        a, b = getattr(made, table)(), getattr(stored, table)()
        assert list(a.index) == list(b.index)
        varies = b["sd"] > 0
        se = np.hypot(a["sd"] / np.sqrt(a["ess_bulk"]), b["sd"] / np.sqrt(b["ess_bulk"]))
        assert (abs(a["mean"] - b["mean"])[varies] < MOST * se[varies]).all()
        np.testing.assert_allclose(a["sd"], b["sd"], rtol=0.2)
    a, b = (re.sub(r"[-+\d.,]+|\s+", " ", str(fit.summary())) for fit in (made, stored))
    assert re.sub(r"\s+", " ", a) == re.sub(r"\s+", " ", b)


def assert_same_draws(fit: Fit, others: Sequence[Fit], factor: str) -> None:
    """Whether any levels, in any order, in any of the fits and however often, have the draws that all levels have."""
    levels, every = list(fit.design.group(factor).levels), fit.group_draws(factor)
    order = np.random.default_rng(1).permutation(len(levels))
    for one in (fit, *others, fit):
        for places in (order, order[: len(order) // 3], order[:1], np.repeat(order[:2], 2)):
            found = one.group_draws(factor, [levels[place] for place in places])
            np.testing.assert_array_equal(found, every[:, :, places])
        np.testing.assert_array_equal(one.group_draws(factor, levels[-1]), every[:, :, -1:])
    np.testing.assert_array_equal(fit.draws(f"b_{factor}"), every)


@pytest.mark.parametrize("name", ["pastes", "penicillin", "wage_sim_fe", "weighted"])
def test_draws_of_effects_are_the_same_ones_every_time(name: str, tmp_path: Path) -> None:
    fit = fitted(name, draws=150, effects_memory=0)
    fit.save(tmp_path / "fit.nc")
    others = [hp.load(tmp_path / "fit.nc"), pickle.loads(pickle.dumps(fit))]
    for group in fit.spec.groups:
        assert_same_draws(fit, others, group.name)
        for other in others:
            pd.testing.assert_frame_equal(other.ranef(group.name), fit.ranef(group.name))
            pd.testing.assert_frame_equal(other.coef(group.name), fit.coef(group.name))
    for other in others:
        pd.testing.assert_series_equal(other.fittedvalues, fit.fittedvalues)
        assert other.idata["sample_stats"].attrs == fit.idata["sample_stats"].attrs
        assert str(other.summary()) == str(fit.summary())


def test_draws_of_effects_do_not_depend_on_the_blocks_that_share_a_seed() -> None:
    """545 workers and 1,200 draws: two blocks of levels, three of draws."""
    df = hp.datasets.load("wage_panel")
    fit = by_marginal("log_wage ~ experience + (experience | worker)", df, draws=300, effects_memory=1)
    assert_same_draws(fit, [], "worker")
    mean, V = conditional(fit, "worker")
    z = np.linalg.solve(np.linalg.cholesky(V), (fit.group_draws("worker").reshape(mean.shape) - mean)[..., None])
    assert stats.kstest(z.ravel()[::7], "norm").pvalue > 1e-4
    blocks = [z[500:1000, :512], z[500:1000, 512:], z[:500, :512], z[:500, 512:], z[1000:, :512]]
    for k, block in enumerate(blocks):
        for other in blocks[:k]:
            pair = (b[:200, :33].ravel() for b in (block, other))
            assert abs(np.corrcoef(*pair)[0, 1]) < 0.05


def test_any_slice_of_levels_is_drawn_as_the_whole_is() -> None:
    df = hp.datasets.load("wage_panel")
    one = by_marginal("log_wage ~ 1 + (1 | worker)", df, draws=20)
    M = marginal(one.spec, moments(one.design))
    psi, beta_c = one.idata["sample_stats"]["psi"].values.reshape(80, -1), one.draws("beta").reshape(80, -1)
    every = effects.draw(M, effects.State(psi, beta_c, {}, 1), "worker", slice(0, 545))
    for start, stop in ((0, 1), (3, 40), (500, 530), (512, 545), (544, 545)):
        found = effects.draw(M, effects.State(psi, beta_c, {}, 1), "worker", slice(start, stop))
        np.testing.assert_array_equal(found, every[:, start:stop])
    mean, V = conditional(one, "worker")
    noise = [every, effects.draw(M, effects.State(psi, beta_c, {}, 2), "worker", slice(0, 545))]
    z, another = ((b - mean).ravel() / np.sqrt(V.ravel()) for b in noise)
    assert abs(np.corrcoef(z, another)[0, 1]) < 5 / math.sqrt(len(z))


@pytest.mark.parametrize("memory", [0, 256])
def test_fixed_effects_have_a_row_weighted_mean_of_0(memory: float) -> None:
    """Beside fe() the intercept is the row-weighted mean of the units: that of the response less the slopes."""
    fit = fitted("fe of uneven units", draws=300, effects_memory=memory)
    assert fit.effects.is_stored("unit") == (memory > 0)
    data, b = fit.design.group("unit"), fit.group_draws("unit")
    assert data.rows.min() < data.rows.max()
    np.testing.assert_allclose(b[..., 0] @ data.rows / fit.nobs, 0, atol=1e-9)
    rest = fit.draws("beta")[..., 1:] * fit.design.X[:, 1] + b[..., data.codes, 1] * data.Z[:, 1]
    left = fit.draws("beta")[..., 0] + rest.mean(axis=2) - fit.design.y.mean()
    assert abs(left.mean()) < MOST * left.std() / math.sqrt(left.size / 2)
    np.testing.assert_allclose(left.std(), fit.draws("sigma").mean() / math.sqrt(fit.nobs), rtol=0.15)


def test_memory_is_for_the_effects_that_fit_into_it() -> None:
    """8 bytes × 8,000 draws: 0.384 MB for 6 samples, 1.536 MB for 24 plates, which are eliminated first."""
    for memory, stored in ((0, ["sample"]), (1.9, ["sample"]), (1.93, ["plate", "sample"])):
        fit = fitted("penicillin", effects_memory=memory)
        assert [g.name for g in fit.spec.groups if fit.effects.is_stored(g.name)] == stored


def test_unknown_levels_and_factors_are_named() -> None:
    for memory in (0, 256):
        fit = fitted("dyestuff", draws=100, effects_memory=memory)
        with pytest.raises(hp.DataError, match=r"^batch has no level Z, 3; its levels are: A, B, C, D, E, F$"):
            fit.group_draws("batch", ["A", "Z", 3])
        with pytest.raises(hp.DataError, match="there is no grouping factor 'cask' in this model; it has: batch"):
            fit.group_draws("cask")
        with pytest.raises(hp.DataError, match="no grouping factor 'cask'"):
            fit.group_moments("cask")
    with pytest.raises(
        hp.DataError, match=r"subject has no level 308; its levels are: 308, 309, 310, 330, 331, 332, …"
    ):
        fitted("sleepstudy").group_draws("subject", "308")


# Evidence -------------------------------------------------------------------------------------------------------------

# 12 rows: a and b cross
ROWS = np.arange(12)
SMALL = pd.DataFrame({"a": ROWS // 3, "b": ROWS % 3, "x": np.round(np.sin(ROWS + 1.0), 2)})
SMALL["y"] = np.round(1 + SMALL["x"] + 0.6 * np.cos(2 * SMALL["a"]) - 0.4 * SMALL["b"] + 0.5 * np.sin(7 * ROWS), 2)
SMALL["w"] = 0.5 + ROWS % 4
BETA = {"beta[Intercept]": P("Normal", mu=0.5, sigma=2), "beta[x]": P("Normal", mu=0.3, sigma=1.5)}
SAME_A, SAME_B = (np.equal.outer(codes, codes).astype(float) for codes in (ROWS // 3, ROWS % 3))
X_C = SMALL["x"].to_numpy() - SMALL["x"].mean()
# what the coefficients' priors give to the covariance of y
OF_INTERCEPT, OF_BOTH = np.full((12, 12), 4.0), 4 + 2.25 * np.outer(X_C, X_C)


@dataclass(frozen=True)
class Small:
    """A model with its integral: axes of (density, panel ends), and the mean and covariance (P, 12, 12) of y."""

    formula: str
    options: dict[str, Any]
    mean: Array
    axes: list[tuple[Any, list[float]]]
    covariance: Callable[..., Array]


def lkj(values: Array) -> Array:
    """The covariance of (1, x) b for an intercept sd of 0.8, a slope sd of 0.5 and correlations (P, 1, 1)."""
    one, x = np.ones(12), X_C
    cross = np.outer(one, x) + np.outer(x, one)
    return SAME_A * (0.64 * np.outer(one, one) + 0.25 * np.outer(x, x) + 0.4 * values * cross)


INTEGRALS = {
    "no group": Small(
        "y ~ x",
        {"priors": BETA | {"sigma": P("Exponential", lam=0.7)}},
        0.5 + 0.3 * X_C,
        [(stats.expon(scale=1 / 0.7), [0.01, 0.2, 0.4, 0.8, 1.4, 3, 8, 30])],
        lambda s: OF_BOTH + s**2 * np.eye(12),
    ),
    "an intercept": Small(
        "y ~ x + (1 | a)",
        {"priors": BETA | {"sd_a": P("HalfNormal", sigma=1.3), "sigma": P("Uniform", lower=0, upper=0.8)}},
        0.5 + 0.3 * X_C,
        [(stats.halfnorm(scale=1.3), [0, 0.5, 1, 2, 4, 8]), (stats.uniform(0, 0.8), [0.01, 0.1, 0.2, 0.4, 0.8])],
        lambda t, s: OF_BOTH + t**2 * SAME_A + s**2 * np.eye(12),
    ),
    "two intercepts": Small(
        "y ~ 1 + (1 | a) + (1 | b)",
        {
            "priors": {
                "beta": BETA["beta[Intercept]"],
                "sd_a": P("Exponential", lam=1.5),
                "sd_b": P("Uniform", lower=0, upper=2),
                "sigma": P("HalfNormal", sigma=0.9),
            }
        },
        np.full(12, 0.5),
        [
            (stats.expon(scale=1 / 1.5), [0, 0.6, 1.5, 4, 12]),
            (stats.uniform(0, 2), [0, 0.5, 2]),
            (stats.halfnorm(scale=0.9), [0.01, 0.1, 0.2, 0.4, 0.8, 2, 5]),
        ],
        lambda t, u, s: OF_INTERCEPT + t**2 * SAME_A + u**2 * SAME_B + s**2 * np.eye(12),
    ),
    "weights and slopes": Small(
        "y ~ x + (x || a)",
        {
            "priors": BETA
            | {
                "sd_a": P("HalfNormal", sigma=0.7),
                "sd_a[x]": P("Exponential", lam=2),
                "sigma": P("HalfNormal", sigma=1),
            },
            "weights": "w",
        },
        0.5 + 0.3 * X_C,
        [
            (stats.halfnorm(scale=0.7), [0, 0.4, 1, 4]),
            (stats.expon(scale=0.5), [0, 0.5, 1.5, 4, 10]),
            (stats.halfnorm(scale=1), [0.01, 0.1, 0.2, 0.4, 0.8, 2, 5]),
        ],
        lambda t, u, s: (
            OF_BOTH
            + SAME_A * (t**2 + u**2 * np.outer(SMALL["x"], SMALL["x"]))
            + s**2 * np.diag(1 / SMALL["w"].to_numpy())
        ),
    ),
    "a correlation": Small(
        "y ~ x + (x | a)",
        {
            "priors": BETA
            | {"sd_a": 0.8, "sd_a[x]": 0.5, "cor_a": P("LKJ", eta=1.5), "sigma": P("HalfCauchy", beta=0.6)}
        },
        0.5 + 0.3 * X_C,
        [
            (stats.beta(1.5, 1.5, loc=-1, scale=2), [-1, -0.99, -0.9, 0, 0.9, 0.99, 1]),
            (stats.halfcauchy(scale=0.6), [0.01, 0.1, 0.2, 0.4, 0.8, 2, 6, 20]),
        ],
        lambda r, s: OF_BOTH + lkj(r) + s**2 * np.eye(12),
    ),
}


def log_integral(small: Small, nodes: int) -> float:
    """log ∫ N(y | mean, covariance) p(sds) by Gauss-Legendre quadrature, so many nodes to a panel."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    grids, logs = [], []
    for prior, ends in small.axes:
        low, half = np.array(ends[:-1])[:, None], np.diff(ends)[:, None] / 2
        places = (low + half * (1 + x)).ravel()
        grids.append(places)
        logs.append(prior.logpdf(places) + np.log((half * w).ravel()))
    values = [grid.ravel()[:, None, None] for grid in np.meshgrid(*grids, indexing="ij")]
    total = sum(grid.ravel() for grid in np.meshgrid(*logs, indexing="ij"))
    found = []
    for start in range(0, len(total), 20_000):
        part = slice(start, start + 20_000)
        L = np.linalg.cholesky(small.covariance(*(value[part] for value in values)))
        z = np.linalg.solve(L, (SMALL["y"].to_numpy() - small.mean)[None, :, None])[..., 0]
        log_det = np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
        found.append(total[part] - 6 * math.log(2 * math.pi) - log_det - 0.5 * (z**2).sum(axis=1))
    return float(np.logaddexp.reduce(np.concatenate(found)))


@pytest.mark.parametrize("name", INTEGRALS)
def test_the_evidence_is_the_integral_over_a_grid(name: str) -> None:
    small = INTEGRALS[name]
    expected = log_integral(small, 8)
    assert expected == pytest.approx(log_integral(small, 6), abs=2e-4)
    found, se = by_marginal(small.formula, SMALL, draws=2000, **small.options).log_evidence
    assert 0 < se < 0.02
    assert abs(found - expected) < 4 * se + 2e-4


def test_the_error_of_the_evidence_is_the_one_it_has() -> None:
    small = INTEGRALS["an intercept"]
    expected, model = log_integral(small, 8), hp.Model(small.formula, SMALL, **small.options)
    found = [model.fit("marginal", draws=500, seed=seed, progress=False).log_evidence for seed in range(30)]
    z = np.array([(value - expected) / se for value, se in found])
    assert abs(z.mean()) < 4 / math.sqrt(30)
    assert 0.6 < math.sqrt((z**2).mean()) < 1.45  # all but 0.2 % of √(χ²₃₀/30) lie in here


def test_a_bayes_factor_is_the_posterior_over_the_prior_density() -> None:
    """Savage and Dickey: of a coefficient, at 0, where the model without it has the same priors."""
    rng = np.random.default_rng(5)
    df = pd.DataFrame({"g": np.arange(60) // 6, "x": rng.normal(size=60), "z": rng.normal(size=60)})
    df["y"] = 1 + 0.15 * df["x"] + 0.4 * df["z"] + rng.normal(0, 0.7, 10)[df["g"]] + rng.normal(0, 0.6, 60)
    priors = {
        "beta[Intercept]": P("Normal", mu=1, sigma=2),
        "beta[z]": P("Normal", mu=0, sigma=1),
        "sd_g": P("HalfNormal", sigma=1),
        "sigma": P("Exponential", lam=1),
    }
    small = by_marginal("y ~ z + (1 | g)", df, priors=priors, draws=2000)
    large = by_marginal(
        "y ~ z + x + (1 | g)", df, priors=priors | {"beta[x]": P("Normal", mu=0, sigma=0.5)}, draws=2000
    )
    X = np.column_stack([np.ones(60), df["z"] - df["z"].mean(), df["x"] - df["x"].mean()])
    precision, shift = np.diag([0.25, 1, 4]), np.array([0.25, 0, 0])
    density = []
    for tau, sigma in zip(large.draws("sd_g").ravel()[::4], large.draws("sigma").ravel()[::4], strict=True):
        V = sigma**2 * np.eye(60) + tau**2 * np.equal.outer(np.arange(60) // 6, np.arange(60) // 6)
        covariance = np.linalg.inv(precision + X.T @ np.linalg.solve(V, X))
        mean = covariance @ (shift + X.T @ np.linalg.solve(V, df["y"]))
        density.append(stats.norm.pdf(0, mean[2], math.sqrt(covariance[2, 2])))
    log_ratio = math.log(np.mean(density)) - stats.norm.logpdf(0, 0, 0.5)
    rounds = np.std(density) / np.mean(density) / math.sqrt(len(density)) * 1.5  # draws are not quite independent
    (a, a_se), (b, b_se) = small.log_evidence, large.log_evidence
    assert abs(a - b - log_ratio) < 4 * math.sqrt(a_se**2 + b_se**2 + rounds**2)
    assert math.sqrt(a_se**2 + b_se**2 + rounds**2) < 0.02


def test_where_there_is_no_evidence_the_reason_is_told(made: Callable[..., Fit]) -> None:
    df = hp.datasets.load("dyestuff")
    with pytest.raises(hp.FitError, match=r"no evidence: fe\(worker\) has a prior so wide \(sd 388\).*by='loo'"):
        _ = fitted("wage_sim_fe").log_evidence
    flat = by_marginal("yield_ ~ (1 | batch)", df, priors={"beta": P("Flat")}, draws=100)
    with pytest.raises(hp.FitError, match=r"the prior of beta\[Intercept\] is Flat, which has no normalising constant"):
        _ = flat.log_evidence
    flat = by_marginal("yield_ ~ (1 | batch)", df, priors={"sd_batch": P("HalfFlat")}, draws=100)
    with pytest.raises(hp.FitError, match=r"the prior of sd_batch\[Intercept\] is HalfFlat"):
        _ = flat.log_evidence
    with pytest.raises(
        hp.FitError, match=r"the marginal route gives it, and this fit is by NUTS; fit.loo\(\) compares"
    ):
        _ = made("yield_ ~ (1 | batch)", df).log_evidence


def test_fits_are_compared_by_evidence() -> None:
    df = hp.datasets.load("sleepstudy")
    fits = {
        "pooled": by_marginal("reaction ~ days", df),
        "slopes": fitted("sleepstudy"),
        "intercepts": by_marginal("reaction ~ days + (1 | subject)", df),
    }
    table = hp.compare(fits, by="evidence")
    assert list(table.columns) == ["log_evidence", "se", "log_bayes_factor", "se_diff", "probability"]
    assert list(table.index) == ["slopes", "intercepts", "pooled"]
    assert list(zip(table["log_evidence"], table["se"], strict=True)) == [fits[n].log_evidence for n in table.index]
    np.testing.assert_allclose(table["log_bayes_factor"], table["log_evidence"] - table["log_evidence"].iloc[0])
    assert table["probability"].sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(np.log(table["probability"]).diff(), table["log_evidence"].diff(), atol=1e-9)
    assert table["se_diff"].iloc[0] == 0
    np.testing.assert_allclose(table["se_diff"].iloc[1:], np.hypot(table["se"].iloc[1:], table["se"].iloc[0]))
    assert "slopes" in str(table)


def test_only_fits_of_the_same_rows_are_compared_by_evidence() -> None:
    df = hp.datasets.load("sleepstudy")
    fits = {"all": fitted("sleepstudy"), "some": by_marginal("reaction ~ days", df[df["days"] > 1], draws=50)}
    with pytest.raises(hp.FitError, match="all and some were fitted to different rows"):
        hp.compare(fits, by="evidence")
    logged = by_marginal("np.log(reaction) ~ days", df, draws=50, env={"np": np})
    with pytest.raises(hp.FitError, match="different responses"):
        hp.compare({"all": fits["all"], "log": logged}, by="evidence")
    fe = {"all": fitted("wage_sim"), "fe": fitted("wage_sim_fe")}
    with pytest.raises(hp.FitError, match=r"no evidence: fe\(worker\)"):
        hp.compare(fe, by="evidence")


# Routes ---------------------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"g": ROWS // 4, "x": X_C, "y": SMALL["y"], "count": ROWS % 5, "hits": ROWS % 3, "size": 4})
OF_NUTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "poisson": ("count ~ x + (1 | g)", {"family": "poisson"}, "a poisson response has no closed form"),
    "binomial": ("prop(hits, size) ~ x", {"family": "binomial"}, "a binomial response has no closed form"),
    "student_t": ("y ~ x + (1 | g)", {"family": "student_t"}, "a student_t response has no closed form"),
    "a t prior": (
        "y ~ x + (1 | g)",
        {"priors": {"beta[x]": P("StudentT", nu=3, mu=0, sigma=1)}},
        "the prior of beta[x] is StudentT(mu=0, nu=3, sigma=1), and only Normal and Flat ones integrate to a closed "
        "form",
    ),
}


@pytest.mark.parametrize("name", OF_NUTS)
def test_what_has_no_closed_form_is_for_nuts(name: str, no_nuts: list[Any]) -> None:
    formula, options, reason = OF_NUTS[name]
    model = hp.Model(formula, TABLE, **options)
    with pytest.raises(hp.FitError, match=f"{re.escape(reason)}; method='nuts' fits this model$"):
        model.fit("marginal", draws=10, progress=False)
    assert no_nuts == []
    fit = model.fit(draws=10, chains=2, tune=7, seed=3, progress=False)
    assert (fit.method, fit.reason) == ("nuts", reason)
    assert (no_nuts[0]["draws"], no_nuts[0]["tune"], no_nuts[0]["seed"]) == (10, 7, 3)
    assert f"method='auto' takes NUTS: {reason}." in " ".join(model.explain().split())
    assert model.fit("nuts", draws=10, progress=False).reason == ""


def test_auto_takes_the_marginal_route_where_it_can(no_nuts: list[Any]) -> None:
    model = hp.Model("y ~ x + (1 | g)", TABLE)
    fit = model.fit(draws=10, seed=1, progress=False)
    assert (fit.method, fit.reason, no_nuts) == ("marginal", "", [])
    assert "method='auto' takes the marginal route" in " ".join(model.explain().split())
    again = model.fit("marginal", draws=10, seed=1, progress=False)
    np.testing.assert_array_equal(again.draws("beta"), fit.draws("beta"))
    assert model.fit("nuts", draws=10, seed=1, progress=False).method == "nuts"
    assert len(no_nuts) == 1


def test_a_dense_part_too_large_is_for_nuts(monkeypatch: pytest.MonkeyPatch, no_nuts: list[Any]) -> None:
    monkeypatch.setattr(plan, "MOST_DENSE", 5)
    model = model_of("penicillin")
    reason = "its crossed factors leave a dense matrix of 6 columns (0.0 GB) to factorise at every evaluation, and 5 is"
    fit = model.fit(draws=10, progress=False)
    assert fit.method == "nuts"
    assert fit.reason.startswith(reason)
    assert f"method='auto' takes NUTS: {reason}" in " ".join(model.explain().split())
    assert re.search(r"Why NUTS:\s+its crossed factors leave", str(fit.summary()))
    with pytest.raises(hp.FitError, match=re.escape(reason)):
        model.fit("marginal", draws=10, progress=False)


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)"])
def test_a_response_that_the_columns_explain_exactly_is_refused(formula: str, no_nuts: list[Any]) -> None:
    df = TABLE.assign(y=1 + 2 * TABLE["x"] + 3 * TABLE["g"])
    model = hp.Model(formula + " + C(g)" if formula == "y ~ x" else formula, df)
    with pytest.raises(hp.FitError, match=r"explains the response to the last digit.*method='nuts' fits this model"):
        model.fit("marginal", draws=10, progress=False)
    assert "explains the response to the last digit" in model.fit(draws=10, progress=False).reason


def test_proposals_that_are_not_trusted_give_way_to_nuts_on_the_same_density(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "UNTRUSTED", -10)
    model = model_of("dyestuff")
    fit = model.fit("marginal", draws=400, tune=300, chains=2, seed=1, progress=False)
    stat = fit.idata["sample_stats"]
    assert (fit.method, stat.attrs["sampled_by"]) == ("marginal", "nuts")
    assert set(stat.data_vars) == {"lp", "diverging", "psi"}
    assert fit.diagnostics()["divergences"] <= 4
    lp = marginal(fit.spec, moments(fit.design)).log_density(stat["psi"].values.reshape(-1, 2))
    np.testing.assert_allclose(stat["lp"].values.ravel(), lp, rtol=1e-9)
    monkeypatch.undo()
    for name in ("beta", "sd_batch", "sigma", "b_batch"):
        assert_agree(fit.draws(name), fitted("dyestuff").draws(name))
    with pytest.raises(hp.FitError, match=r"no evidence: Pareto k̂ is -?\d\.\d\d, so the weights .* cannot be trusted"):
        _ = fit.log_evidence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effects_memory": -1}, "effects_memory is a number of megabytes, 0 or more, not -1"),
        ({"effects_memory": "1"}, "effects_memory is a number of megabytes, 0 or more, not '1'"),
        ({"effects_memory": True}, "effects_memory is a number of megabytes, 0 or more, not True"),
        ({"effects_memory": math.nan}, "effects_memory is a number of megabytes, 0 or more, not nan"),
        ({"target_accept": 0.95}, "target_accept and parameterization are options of method='nuts'"),
        ({"parameterization": "centered"}, "target_accept and parameterization are options of method='nuts'"),
        ({"draws": 0}, "draws must be a whole number of at least 1, not 0"),
        ({"chains": 0}, "chains must be a whole number of at least 1, not 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
    ],
)
def test_options_of_the_route_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(hp.FitError, match=re.escape(message)):
        by_marginal("y ~ x + (1 | g)", TABLE, **options)


def test_no_sampler_is_loaded() -> None:
    code = (
        "import hierpanel as hp, sys\n"
        "df = hp.datasets.load('sleepstudy')\n"
        "fit = hp.fit('reaction ~ days + (days | subject)', df, seed=1, progress=False)\n"
        "print(fit.summary(), fit.ranef('subject'), fit, fit.coef('subject'), fit.varcorr(), fit.log_evidence)\n"
        "fit = hp.fit('reaction ~ days + (1 | subject)', df, method='marginal', seed=1, effects_memory=0)\n"
        "print(fit.ranef('subject'), fit.group_draws('subject', 308).mean(), fit.summary()._repr_html_())\n"
        "print('modules', *sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split("modules ")[1].split()}
    assert "hierpanel" in loaded
    samplers = "pymc pytensor numba bambi arviz arviz_stats arviz_base arviz_plots nutpie matplotlib"
    assert loaded.isdisjoint(samplers.split())


# Chains of proposals --------------------------------------------------------------------------------------------------


def heavy(shape: float, n: int, seed: int) -> Array:
    """Logs of generalised Pareto numbers above 1."""
    return np.log(1 + stats.genpareto(shape).rvs(n, random_state=seed))


WEIGHTS = {
    **{f"shape {shape}, {n}": heavy(shape, n, 1) for shape in (-0.5, 0.1, 0.5, 0.7, 1.5) for n in (100, 400, 5000)},
    "normal": np.random.default_rng(1).normal(size=2000),
    "wide": 30 * np.random.default_rng(2).normal(size=2000),
    "even": 1e-5 * np.random.default_rng(3).normal(size=1000),
    "far from 1": heavy(0.5, 1000, 4) - 5000,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_pareto_k_is_arvizs(name: str) -> None:
    """The same formula: they differ by rounding alone."""
    expected = float(array_stats.psislw(-WEIGHTS[name])[1])
    assert independence.pareto_k(WEIGHTS[name]) == pytest.approx(expected, abs=1e-8)


def test_pareto_k_of_equal_weights_or_of_none_in_the_support() -> None:
    assert independence.pareto_k(np.zeros(1000)) == -math.inf
    some = np.where(np.arange(1000) % 2, WEIGHTS["normal"][:1000], -np.inf)
    assert independence.pareto_k(some) == pytest.approx(float(array_stats.psislw(-some)[1]), abs=1e-8)


def test_the_evidence_of_a_known_normal() -> None:
    """A density 7 times N(0, 1), proposals N(0.3, 1.3²): errors are as large as told."""
    z = []
    for seed in range(300):
        x = stats.norm(0.3, 1.3).rvs(400, random_state=seed)
        weights = math.log(7) + stats.norm.logpdf(x) - stats.norm.logpdf(x, 0.3, 1.3)
        value, error = independence.evidence(weights - 1000)
        z.append((value + 1000 - math.log(7)) / error)
    assert abs(np.mean(z)) < 4 / math.sqrt(300)
    assert np.std(z) == pytest.approx(1, abs=0.15)
    assert independence.effective_share(np.zeros(50)) == pytest.approx(1)
    assert independence.effective_share(np.log([1.0, 1, 0, 0] + 1e-300 * np.ones(4))) == pytest.approx(0.5)


@pytest.mark.parametrize(("length", "from_the_density"), [(40, False), (1, True), (2, True)])
def test_chains_have_the_density_they_are_given(length: int, from_the_density: bool) -> None:
    """Two humps from one wide normal: after a while from anywhere, and at once where chains start from the density."""
    rng, chains = np.random.default_rng(1), 20_000
    humps = [(0.7, stats.norm(-1, 0.6)), (0.3, stats.norm(2, 0.9))]
    x = rng.normal(0, 2.5, (chains, length))
    start = np.where(rng.random(chains) < 0.7, rng.normal(-1, 0.6, chains), rng.normal(2, 0.9, chains))
    start = start if from_the_density else rng.normal(0, 2.5, chains)

    def log_weight(x: Array) -> Array:
        return np.logaddexp(*(math.log(w) + hump.logpdf(x) for w, hump in humps)) - stats.norm.logpdf(x, 0, 2.5)

    found = independence.chains_of(log_weight(x), log_weight(start), rng)
    last = np.concatenate([x.ravel(), start])[found.choice[:, -1]]
    edges = np.linspace(-2.8, 4.2, 30)
    counts = np.bincount(np.searchsorted(edges, last), minlength=31)
    below = np.concatenate([[0], sum(w * hump.cdf(edges) for w, hump in humps), [1]])
    assert stats.chisquare(counts, chains * np.diff(below)).pvalue > 1e-4
    # places are each chain's own, its start's after all proposals'; what is not new is the draw before
    started = found.choice >= chains * length
    owner = np.where(started, found.choice - chains * length, found.choice // length)
    assert (owner == np.arange(chains)[:, None]).all()
    np.testing.assert_array_equal(started[:, 0], ~found.accepted[:, 0])
    moved = np.diff(found.choice, axis=1) != 0
    np.testing.assert_array_equal(moved, found.accepted[:, 1:])
    assert (found.choice[:, 1:][moved] % length == (np.nonzero(moved)[1] + 1)).all()


def test_chains_never_take_what_is_impossible() -> None:
    rng = np.random.default_rng(1)
    log_w = np.where(rng.random((5, 300)) < 0.5, -np.inf, 0.0)
    found = independence.chains_of(log_w, np.zeros(5), rng)
    assert np.isfinite(np.append(log_w, np.zeros(5))[found.choice]).all()
    np.testing.assert_array_equal(found.accepted, np.isfinite(log_w))


def mixture_of_three() -> tuple[Mixture, Array, Array, Array]:
    rng = np.random.default_rng(2)
    factors = np.stack([np.tril(rng.normal(size=(3, 3))) + 2 * np.eye(3) for _ in range(3)])
    means, weights = 3 * rng.normal(size=(3, 3)), np.array([0.6, 0.3, 0.1])
    return Mixture(weights, means, factors, np.array([12.0, 5.0, 3.0])), weights, means, factors


def test_the_density_of_a_mixture_is_scipys() -> None:
    found, weights, means, factors = mixture_of_three()
    x = 10 * np.random.default_rng(3).normal(size=(200, 3))
    parts = [
        stats.multivariate_t(mean, factor @ factor.T, df).logpdf(x)
        for mean, factor, df in zip(means, factors, found.nu, strict=True)
    ]
    expected = np.logaddexp.reduce(np.log(weights)[:, None] + np.stack(parts), axis=0)
    np.testing.assert_allclose(found.log_density(x), expected, rtol=1e-10)


def test_draws_of_a_mixture_have_its_density() -> None:
    """Along any line they are a mixture of t distributions of one dimension."""
    found, weights, means, factors = mixture_of_three()
    x = found.draw(np.random.default_rng(4), 20_000)
    for line in np.random.default_rng(5).normal(size=(3, 3)):
        sizes = np.linalg.norm(line @ factors, axis=1)

        def cdf(at: Array, line: Array = line, sizes: Array = sizes) -> Array:
            parts = zip(weights, means @ line, sizes, found.nu, strict=True)
            return sum(w * stats.t(df).cdf((at - mean) / size) for w, mean, size, df in parts)

        assert stats.kstest(x @ line, cdf).pvalue > 1e-4


def test_a_fitted_mixture_resembles_the_points() -> None:
    rng = np.random.default_rng(6)
    truth = Mixture(
        np.array([0.5, 0.5]),
        np.array([[-4.0, 0], [4, 1]]),
        np.stack([np.eye(2), np.array([[0.5, 0], [1, 0.3]])]),
        np.full(2, mixture.NU),
    )
    found = mixture.fit(truth.draw(rng, 4000), 4, np.ones(2), rng)
    assert found.weights.sum() == pytest.approx(1)
    x = truth.draw(rng, 4000)
    log_w = truth.log_density(x) - found.log_density(x)
    assert 0 < log_w.mean() < 0.2  # Kullback-Leibler, of which the wide components take -log 0.9
    assert log_w.max() < 2


def test_proposals_adapt_to_a_density_far_from_normal() -> None:
    """A banana: curved, correlated, 100 times as wide in one coordinate as in the other."""
    scale = np.array([1.0, 0.01])

    def log_density(x: Array) -> Array:
        a, b = (x / scale).T
        return np.asarray(stats.norm.logpdf(a) + stats.norm.logpdf(b, 0.5 * a**2, 0.5))

    rng = np.random.default_rng(7)
    proposal = independence.adapt(log_density, np.array([0.5, 0.002]), np.zeros(2), 1000, 4, rng)
    assert proposal.efficiency > 0.5
    assert proposal.starts.shape == (4, 2)
    x = proposal.mixture.draw(rng, 20_000)
    log_w = log_density(x) - proposal.mixture.log_density(x)
    value, error = independence.evidence(log_w)
    assert abs(value - math.log(0.01)) < 4 * error
    assert error < 0.02
    assert independence.effective_share(log_w) == pytest.approx(proposal.efficiency, abs=0.1)


# Coordinates and the mode ---------------------------------------------------------------------------------------------

KINDS = Coordinates(
    np.array([True, True, False, False]), np.array([False, False, True, False]), np.array([0.3, -20.0, 9.0, 9.0])
)


def test_coordinates_have_the_jacobian_of_their_map() -> None:
    x = np.concatenate([np.random.default_rng(1).normal(0, 2, (50, 4)), [[-8.0, 8, 7, 0], [-30, 30, -5, 3]]])
    step, total = 1e-5, np.zeros(len(x))
    for k, moved in enumerate(step * np.eye(4)):
        slopes = (KINDS.to_psi(x + moved)[0] - KINDS.to_psi(x - moved)[0]) / (2 * step)
        assert (np.delete(slopes, k, axis=1) == 0).all()  # each coordinate by itself
        total += np.log(slopes[:, k])
    np.testing.assert_allclose(KINDS.to_psi(x)[1], total, atol=1e-5)


def test_coordinates_turn_priors_into_normal_ones() -> None:
    """An exponential sd of mean c, and a uniform correlation."""
    x = np.random.default_rng(2).normal(size=(20_000, 4))
    psi = KINDS.to_psi(x)[0]
    for k in (0, 1):
        assert stats.kstest(np.exp(psi[:, k]), stats.expon(scale=math.exp(KINDS.log_c[k])).cdf).pvalue > 1e-4
    assert stats.kstest(np.tanh(psi[:, 2]), stats.uniform(-1, 2).cdf).pvalue > 1e-4
    np.testing.assert_array_equal(psi[:, 3], x[:, 3])


def test_coordinates_start_where_sds_are_at_their_scale() -> None:
    psi = np.array([0.3, -20.0, -1.7, 2.5])
    np.testing.assert_allclose(KINDS.to_psi(KINDS.start(psi)[None])[0][0], psi, rtol=1e-12)


def test_densities_of_coordinates_integrate_to_the_same() -> None:
    """An exponential sd of mean 2 in log sd: with its Jacobian its integral over x is 1 wherever c lies."""
    for log_c in (-1.0, 0.0, 4.0):
        one = Coordinates(np.array([True]), np.array([False]), np.array([log_c]))
        density = one.of(lambda psi: stats.expon(scale=2).logpdf(np.exp(psi[:, 0])) + psi[:, 0])
        x = np.linspace(-12, 12, 20_001)
        assert np.trapezoid(np.exp(density(x[:, None])), x) == pytest.approx(1, abs=1e-4)
    far = KINDS.of(lambda psi: np.zeros(len(psi)))(np.array([[50.0, 0, 0, 0], [0, 0, 0, 0], [-1e9, 0, 0, 0]]))
    assert np.isfinite(far[1])
    assert not np.isnan(far).any()


@pytest.mark.parametrize("dimensions", [1, 2, 5, 12])
def test_the_mode_of_a_badly_scaled_quadratic_is_found(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    sds = 10.0 ** rng.uniform(-4, 0.5, dimensions)
    Q = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0]
    correlations = Q @ np.diag(rng.uniform(0.05, 2, dimensions)) @ Q.T
    precision = correlations / sds[:, None] / sds
    mode = rng.normal(size=dimensions)

    def log_density(x: Array) -> Array:
        return -0.5 * np.einsum("ni,ij,nj->n", x - mode, precision, x - mode)

    found, size = independence.maximise(log_density, mode + rng.normal(0, 2, dimensions))
    assert log_density(found[None])[0] > -0.05
    np.testing.assert_allclose(size, np.minimum(1 / np.sqrt(np.diagonal(precision)), 10**0.5), rtol=0.05)


@pytest.mark.parametrize("bounds", [(5, 5), (0.2, 5), (0.2, -0.3), (-1, -1)])
def test_the_mode_is_found_where_the_support_ends(bounds: tuple[float, float]) -> None:
    """A normal density, mean 1, that is cut off at bounds above or below it; the start lies outside."""

    def log_density(x: Array) -> Array:
        inside = (x < bounds).all(axis=1)
        return np.where(inside, -0.5 * ((x - 1) ** 2).sum(axis=1) / 0.3**2, -np.inf)

    start = independence.best_start(
        log_density, np.array(bounds) + 1 + np.random.default_rng(1).normal(0, 1.5, (32, 2))
    )
    found, _ = independence.maximise(log_density, start)
    best = log_density(np.minimum(1.0, np.array(bounds) - 1e-9)[None])[0]
    assert log_density(found[None])[0] > best - 0.5


def test_a_density_of_0_wherever_it_is_tried_is_an_error() -> None:
    with pytest.raises(hp.FitError, match="the posterior density is 0 wherever it was tried"):
        independence.best_start(lambda x: np.full(len(x), -np.inf), np.zeros((5, 3)))


# Data and priors at the edge ------------------------------------------------------------------------------------------


def panel(units: int, rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(units), rows)
    df = pd.DataFrame({"g": g, "year": 2000 + np.tile(np.arange(rows), units)})
    for k in range(5):
        df[f"x{k}"] = rng.normal(size=len(g))
    df["y"] = 2 + df["x0"] + rng.normal(size=units)[g] + 0.5 * rng.normal(size=units)[g] * df["x0"]
    df["y"] += 0.3 * (df["year"] - 2000) + 0.4 * rng.normal(size=len(g))
    return df


UNIFORM = {
    key: P("Uniform", lower=low, upper=high)
    for key, low, high in [("wide", 0, 2), ("low", 0, 0.1), ("some", 0, 0.3), ("high", 3, 9)]
}
EDGES: dict[str, tuple[str, pd.DataFrame, dict[str, Any]]] = {
    "units with one row": ("y ~ x0 + (1 | g)", panel(40, 1), {}),
    "two units": ("y ~ x0 + (1 + x0 | g)", panel(2, 10), {}),
    "3 rows": ("y ~ 1 + (1 | g)", pd.DataFrame({"y": [1.0, 2, 4], "g": [0, 0, 1]}), {}),
    "3 rows and a slope": ("y ~ x + (1 | g)", pd.DataFrame({"y": [1.0, 2, 4], "x": [0.0, 1, 5], "g": [0, 0, 1]}), {}),
    "an sd within bounds": ("y ~ x0 + (1 | g)", panel(10, 6), {"sd_g": UNIFORM["wide"]}),
    "an sd held down": ("y ~ x0 + (1 | g)", panel(10, 6), {"sd_g": UNIFORM["low"]}),
    "an sd held up": ("y ~ x0 + (1 | g)", panel(10, 6), {"sd_g": UNIFORM["high"]}),
    "two sds held down": ("y ~ x0 + (x0 || g)", panel(10, 6), {"sd_g": UNIFORM["low"]}),
    "every sd held down": ("y ~ x0 + (x0 || g)", panel(10, 6), {"sd_g": UNIFORM["low"], "sigma": UNIFORM["some"]}),
    "a vague prior": ("y ~ x0 + (1 | g)", panel(10, 6), {"sd_g": P("InverseGamma", alpha=0.001, beta=0.001)}),
    "a prior at both ends": ("y ~ x0 + (x0 | g)", panel(10, 6), {"cor_g": P("LKJ", eta=0.05)}),
    "fifteen correlations": ("y ~ x0 + (x0 + x1 + x2 + x3 + x4 | g)", panel(8, 9), {}),
}


@pytest.mark.parametrize("name", EDGES)
def test_draws_are_finite_and_chains_agree_at_the_edge(name: str) -> None:
    formula, df, priors = EDGES[name]
    fit = by_marginal(formula, df, priors=priors)
    for variable in fit.idata["posterior"].data_vars:
        assert np.isfinite(fit.draws(variable)).all(), variable
    found = fit.diagnostics()
    assert found["max_r_hat"] < 1.02
    assert found["min_ess"] > 100 * found["chains"]
    for key, draws in {"sd_g": fit.draws("sd_g"), "sigma": fit.draws("sigma")}.items():
        values = priors[key].values if key in priors else {"lower": 0, "upper": np.inf}
        assert values.get("lower", 0) < draws.min() <= draws.max() < values.get("upper", np.inf)


@pytest.mark.parametrize("name", ["units with one row", "two units", "3 rows", "3 rows and a slope", "an sd held up"])
def test_few_rows_do_not_need_nuts_whatever_the_seed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("NUTS was asked")

    monkeypatch.setattr(nuts, "sample_density", asked)
    formula, df, priors = EDGES[name]
    model = hp.Model(formula, df, priors=priors)
    for seed in range(6):
        assert model.fit("marginal", seed=seed, draws=500, progress=False).diagnostics()["max_r_hat"] < 1.02


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_posterior_scales_with_the_response(scale: float) -> None:
    df, formula = panel(12, 5), "y ~ x0 + (x0 | g)"
    one, other = (by_marginal(formula, df.assign(y=df["y"] * factor), draws=300) for factor in (1, scale))
    for name in one.idata["posterior"].data_vars:
        factor = 1.0 if name.startswith("cor_") else scale
        np.testing.assert_allclose(other.draws(name) / factor, one.draws(name), rtol=1e-5, atol=1e-6)
    expected = one.log_evidence[0] - one.spec.n * math.log(scale)
    assert other.log_evidence[0] == pytest.approx(expected, abs=1e-4)


def test_slopes_of_calendar_years_are_those_of_years_from_2000() -> None:
    df, formula = panel(12, 5), "y ~ year + (year | g)"
    late, early = (by_marginal(formula, df.assign(year=df["year"] - start), draws=300) for start in (0, 2000))
    assert late.log_evidence[0] == pytest.approx(early.log_evidence[0], abs=1e-6)
    for name in ("beta_c", "sd_c_g", "cor_c_g", "sigma"):
        np.testing.assert_allclose(late.draws(name), early.draws(name), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(late.draws("beta")[..., 1], early.draws("beta")[..., 1], rtol=1e-6, atol=1e-8)
    b, b_early = late.draws("b_g"), early.draws("b_g")
    np.testing.assert_allclose(b[..., 1], b_early[..., 1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(b[..., 0] + 2000 * b[..., 1], b_early[..., 0], rtol=1e-5, atol=1e-5)
    total = late.draws("beta") @ [1, 2000]
    np.testing.assert_allclose(total, early.draws("beta")[..., 0], rtol=1e-6, atol=1e-6)
