"""Whole fits on real data against lme4's estimates (tests/reference/estimates.R made them) and known truths."""

import json
from pathlib import Path

import numpy as np
import pytest

import hierpanel as hp

LME4 = {case["name"]: case for case in json.loads((Path(__file__).parent / "reference/estimates.json").read_text())}
OPTIONS = {"draws": 1500, "tune": 1000, "chains": 4, "seed": 1, "progress": False}
# lme4 names factors' levels after R; the coefficient of C(period)[2] is its period2.
FAMILY = {"cbpp": "binomial"}
# wage_intercepts has 545 units of 8 rows, pastes 10 batches: each is one structure of the compiler.
CASES = [
    "sleepstudy_correlated",
    "penicillin_crossed",
    "pastes_nested",
    "radon_slopes",
    "wage_intercepts",
    "wage_slopes",
    "cbpp",
]


def coefficient_name(r_name: str) -> str:
    return {"(Intercept)": "Intercept"}.get(r_name, r_name.replace("period", "C(period)[") + "]" * ("period" in r_name))


def group_name(r_name: str) -> str:
    return ":".join(reversed(r_name.split(":")))


@pytest.mark.parametrize("name", CASES)
def test_posterior_agrees_with_lme4(name):
    """Means of coefficients within 0.2 standard errors, sds and correlations within one posterior sd."""
    case = LME4[name]
    fit = hp.fit(case["python"], hp.datasets.load(case["data"]), family=FAMILY.get(name, "gaussian"), **OPTIONS)
    assert fit.nobs == case["nobs"]
    health = fit.diagnostics()
    assert health["divergences"] <= 5
    assert health["max_r_hat"] < 1.03
    fixef, varcorr = fit.fixef(), fit.varcorr()
    for r_name, (estimate, se) in case["fixef"].items():
        row = fixef.loc[coefficient_name(r_name)]
        noise = 3 * row["sd"] / np.sqrt(row["ess_bulk"])
        assert abs(row["mean"] - estimate) < 0.2 * se + noise, r_name
    for r_group, sds in case["sd"].items():
        for r_name, sd in sds.items():
            row = varcorr.loc[(group_name(r_group), coefficient_name(r_name), "")]
            assert abs(row["mean"] - sd) < row["sd"], (r_group, r_name)
    for r_group, correlation in case["cor"].items():
        row = varcorr.loc[group_name(r_group)].query("coef2 != ''").iloc[0]
        assert abs(row["mean"] - correlation) < row["sd"]
    if case["sigma"] is not None:
        row = varcorr.loc[("Residual", "sigma", "")]
        assert abs(row["mean"] - case["sigma"]) < row["sd"]


def test_dyestuff2_has_its_mode_at_zero():
    """REML puts the batch sd at 0; the posterior is highest there, and is sampled without divergences."""
    fit = hp.fit(LME4["dyestuff2"]["python"], hp.datasets.load("dyestuff2"), **OPTIONS)
    assert fit.diagnostics()["divergences"] == 0
    sd = fit.draws("sd_batch").ravel()
    counts, _ = np.histogram(sd, bins=np.linspace(0, 3, 7))
    assert counts.argmax() == 0
    assert (np.diff(counts) < 0).all()


@pytest.mark.parametrize(
    ("formula", "truth"),
    [
        ("log_wage ~ experience + (1 | worker)", {"Intercept": 2.5, "experience": 0.02}),
        ("log_wage ~ experience + (1 + experience | worker)", {"Intercept": 2.5, "experience": 0.02}),
    ],
)
def test_the_simulated_wage_panel_returns_its_truth(formula, truth):
    fit = hp.fit(formula, hp.datasets.load("wage_sim"), **OPTIONS)
    intervals = fit.conf_int()
    for name, value in truth.items():
        assert intervals.loc[name, "lower"] < value < intervals.loc[name, "upper"]
    varcorr = fit.varcorr()
    for key, value in {("worker", "Intercept", ""): 0.3, ("Residual", "sigma", ""): 0.2}.items():
        assert varcorr.loc[key, "lower"] < value < varcorr.loc[key, "upper"]
    assert fit.diagnostics()["divergences"] == 0
