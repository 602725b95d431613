"""Tables against a few lines of plain arithmetic on the draws, and the summary as text, HTML and LaTeX."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hierpanel as hp
from hierpanel.results import health
from hierpanel.results.fit import Fit, with_idata
from hierpanel.results.summary import number
from hierpanel.results.tables import COLUMNS, Table

Made = Callable[..., Fit]


@pytest.fixture(scope="module")
def fit(made: Made, table: pd.DataFrame) -> Fit:
    return made("y ~ x + z + (x | g) + (0 + z | h) + (1 | h)", table)


def dumb_row(draws: np.ndarray, prob: float = 0.95) -> list[float]:
    """Mean, sd, lower, upper, P(> 0) of (chain, draw) draws."""
    flat = sorted(draws.ravel())
    lower, upper = np.quantile(flat, (1 - prob) / 2), np.quantile(flat, 1 - (1 - prob) / 2)
    return [np.mean(flat), np.std(flat, ddof=1), lower, upper, np.mean([value > 0 for value in flat])]


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prob", [0.5, 0.89, 0.95, 0.99])
def test_fixef_is_plain_arithmetic_on_the_draws(fit: Fit, prob: float) -> None:
    found = fit.fixef(prob)
    assert tuple(found.columns) == COLUMNS
    assert (found.index.name, list(found.index)) == ("coef", ["Intercept", "x", "z"])
    for k, coef in enumerate(found.index):
        np.testing.assert_allclose(found.loc[coef][:5].astype(float), dumb_row(fit.draws("beta")[..., k], prob))


def test_every_table_names_its_interval(fit: Fit) -> None:
    tables = [fit.fixef(0.9), fit.ranef("g", 0.9), fit.coef("g", 0.9), fit.varcorr(0.9), fit.icc(0.9), fit.r2(0.9)]
    for found in tables:
        assert found.columns.name == "90 % equal-tailed"
        assert found.attrs == {"interval": "equal-tailed", "prob": 0.9}
        assert "90 % equal-tailed" in repr(found)
        assert "90 % equal-tailed" in found._repr_html_()
    assert fit.fixef().columns.name == "95 % equal-tailed"


def test_ranef_has_a_row_for_each_level_and_column(fit: Fit) -> None:
    found = fit.ranef("g")
    assert found.index.names == ["g", "coef"]
    assert list(found.index) == [(level, coef) for level in "abcdef" for coef in ("Intercept", "x")]
    for j, level in enumerate("abcdef"):
        for k, coef in enumerate(["Intercept", "x"]):
            np.testing.assert_allclose(
                found.loc[(level, coef)][:5].astype(float), dumb_row(fit.draws("b_g")[..., j, k])
            )
    assert list(fit.ranef("h").index[:4]) == [(0, "z"), (0, "Intercept"), (1, "z"), (1, "Intercept")]


def test_coef_is_beta_plus_b_and_b_alone_where_there_is_no_beta(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (x + z | g)", table)
    found = fit.coef("g")
    assert list(found.index[:3]) == [("a", "Intercept"), ("a", "x"), ("a", "z")]
    beta, b = fit.draws("beta"), fit.draws("b_g")
    for j, level in enumerate("abcdef"):
        np.testing.assert_allclose(found.loc[(level, "x")][:5].astype(float), dumb_row(beta[..., 1] + b[..., j, 1]))
        np.testing.assert_allclose(found.loc[(level, "z")][:5].astype(float), dumb_row(b[..., j, 2]))
    np.testing.assert_array_equal(fit.draws("b_g"), b)  # the draws themselves are left alone


def test_varcorr_lists_sds_then_correlations_then_the_familys_parameters(fit: Fit) -> None:
    found = fit.varcorr()
    assert found.index.names == ["group", "coef", "coef2"]
    assert list(found.index) == [
        ("g", "Intercept", ""), ("g", "x", ""), ("g", "Intercept", "x"),
        ("h", "z", ""), ("h", "Intercept", ""), ("Residual", "sigma", ""),
    ]  # fmt: skip
    expected = {
        ("g", "Intercept", ""): fit.draws("sd_g")[..., 0],
        ("g", "Intercept", "x"): fit.draws("cor_g")[..., 1, 0],
        ("h", "Intercept", ""): fit.draws("sd_h")[..., 1],
        ("Residual", "sigma", ""): fit.draws("sigma"),
    }
    for key, draws in expected.items():
        np.testing.assert_allclose(found.loc[key][:5].astype(float), dumb_row(draws))


def test_varcorr_of_three_correlated_columns_and_of_other_families(made: Made, table: pd.DataFrame) -> None:
    found = made("y ~ x + (x + z | g)", table, family="student_t").varcorr()
    assert [key[1:] for key in found.index if key[2]] == [("Intercept", "x"), ("Intercept", "z"), ("x", "z")]
    assert list(found.index[-2:]) == [("Residual", "sigma", ""), ("Family", "nu", "")]
    found = made("count ~ x + (1 | g)", table, family="negative_binomial").varcorr()
    assert list(found.index) == [("g", "Intercept", ""), ("Family", "alpha", "")]


def test_diagnostics_columns_are_those_of_the_draws(slopes: Fit) -> None:
    from arviz_stats.base import array_stats

    draws = slopes.draws("beta")[..., 1]
    row = slopes.fixef().loc["days"]
    assert row["r_hat"] == pytest.approx(array_stats.rhat(draws, chain_axis=0, draw_axis=1))
    assert row["ess_bulk"] == pytest.approx(array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk"))
    tail = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))
    assert row["ess_tail"] == pytest.approx(tail)


def test_a_table_prints_every_column_and_name_in_full(made: Made, table: pd.DataFrame) -> None:
    name = "a_column_whose_name_goes_on_for_more_than_fifty_characters_in_all"
    fit = made(f"y ~ {name} + ({name} | g)", table.rename(columns={"x": name}))
    for found in (fit.fixef(), fit.ranef("g"), fit.varcorr()):
        text = repr(found)
        assert name in text
        assert "..." not in text
        assert "\\" not in text
        assert text.splitlines()[0].split()[-8:] == list(COLUMNS)
        assert str(found) == text


def test_a_long_table_shows_its_first_and_last_rows(made: Made) -> None:
    df = hp.datasets.load("radon").rename(columns={"county": "g"})
    found = made("log_radon ~ (1 | g)", df).ranef("g")
    assert len(found) == 85
    assert "85 rows" in repr(found)
    assert len(repr(found).splitlines()) < 35


def test_what_is_cut_out_of_a_table_prints_too(fit: Fit) -> None:
    found = fit.fixef()
    assert type(found) is Table
    assert found.loc["x", "mean"] == pytest.approx(fit.draws("beta")[..., 1].mean())
    assert len(repr(found.loc[["x", "z"]]).splitlines()) == 4
    for part in (found[["mean", "sd"]], found.T, found.reset_index(), found.iloc[:0]):
        assert "mean" in repr(part)
        assert "mean" in part._repr_html_()


# statsmodels' words ---------------------------------------------------------------------------------------------------


def test_params_bse_and_conf_int(fit: Fit) -> None:
    beta = fit.draws("beta").reshape(-1, 3)
    np.testing.assert_allclose(fit.params, beta.mean(0))
    np.testing.assert_allclose(fit.bse, beta.std(0, ddof=1))
    assert list(fit.params.index) == list(fit.bse.index) == ["Intercept", "x", "z"]
    assert (fit.params.name, fit.bse.name) == ("params", "bse")
    np.testing.assert_allclose(fit.conf_int(0.1), np.quantile(beta, [0.05, 0.95], axis=0).T)
    assert list(fit.conf_int().columns) == ["lower", "upper"]
    pd.testing.assert_frame_equal(pd.DataFrame(fit.conf_int()), pd.DataFrame(fit.fixef()[["lower", "upper"]]))


INVERSE = {"gaussian": lambda e: e, "bernoulli": lambda e: 1 / (1 + np.exp(-e)), "poisson": np.exp}


@pytest.mark.parametrize(("family", "response"), [("gaussian", "y"), ("bernoulli", "hit"), ("poisson", "count")])
def test_fitted_values_are_means_over_draws(family: str, response: str, made: Made, table: pd.DataFrame) -> None:
    labelled = table.set_axis([f"row {k}" for k in range(60)])
    fit = made(f"{response} ~ x + offset(w) + (z | g) + (1 | h)", labelled, family=family, draws=20)
    values = []
    for i, row in enumerate(labelled.itertuples()):
        j, k = "abcdef".index(row.g), row.h
        b = fit.draws("b_g")[..., j, :]
        eta = fit.draws("beta") @ [1, row.x] + row.w + b[..., 0] + row.z * b[..., 1] + fit.draws("b_h")[..., k, 0]
        values.append(INVERSE[family](eta).mean())
        assert fit.fittedvalues.index[i] == row.Index
    np.testing.assert_allclose(fit.fittedvalues, values)
    np.testing.assert_allclose(fit.resid, labelled[response] - values)
    assert (fit.fittedvalues.name, fit.resid.name, fit.nobs) == ("fittedvalues", "resid", 60)
    assert fit.resid.index.equals(labelled.index)


def test_fitted_values_of_trials_are_counts(herds: Fit) -> None:
    df = hp.datasets.load("cbpp")
    eta = herds.draws("beta") @ herds.design.X.T + herds.draws("b_herd")[..., herds.design.group("herd").codes, 0]
    np.testing.assert_allclose(herds.fittedvalues, df["size"] * (1 / (1 + np.exp(-eta))).mean((0, 1)))
    np.testing.assert_allclose(herds.resid, df["incidence"] - herds.fittedvalues)


def test_rows_that_were_dropped_have_no_fitted_value(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | g)", table.assign(x=table["x"].where(table.index % 7 > 0)))
    assert list(fit.fittedvalues.index) == [k for k in range(60) if k % 7]
    assert fit.nobs == 51


def test_a_sampled_fit_has_seen_its_data(slopes: Fit) -> None:
    df = hp.datasets.load("sleepstudy")
    assert np.corrcoef(slopes.fittedvalues, df["reaction"])[0, 1] > 0.9
    assert abs(slopes.resid.mean()) < 1
    assert slopes.draws("b_subject").shape == (4, 500, 18, 2)


# Shares of variance ---------------------------------------------------------------------------------------------------


def brute_variances(fit: Fit) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Variance of X beta over rows, and each factor's z'Σz averaged over rows, on the original scale."""
    eta = fit.draws("beta") @ fit.design.X.T
    groups = {}
    for group in fit.design.groups:
        sd = fit.draws(f"sd_{group.name}")
        has_cor = f"cor_{group.name}" in fit.idata["posterior"]
        cor = fit.draws(f"cor_{group.name}") if has_cor else np.eye(len(group.coefs))
        Sigma = sd[..., :, None] * cor * sd[..., None, :]
        groups[group.name] = np.mean([np.einsum("...ij,i,j->...", Sigma, z, z) for z in group.Z], axis=0)
    return eta.var(axis=-1), groups


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ x + z + (1 | g)", {}),
        ("y ~ x + z + (x | g) + (0 + z | h) + (1 | h)", {}),
        ("y ~ x + (x || g)", {"center": False}),
        ("y ~ x + (x + z | g)", {"weights": "w"}),
        ("hit ~ x + (x | g)", {"family": "bernoulli"}),
        ("hit ~ x + (1 | g)", {"family": "bernoulli(probit)"}),
        ("hit ~ x + (1 | g)", {"family": "bernoulli(cloglog)"}),
        ("prop(count, 20) ~ x + (1 | g)", {"family": "binomial"}),
    ],
)
def test_icc_and_r2_are_averages_over_rows(formula: str, options: Any, made: Made, table: pd.DataFrame) -> None:
    fit = made(formula, table, **options)
    latent = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}
    if "family" in options:
        residual = latent[fit.spec.family.link.name]
    else:
        residual = fit.draws("sigma") ** 2 * (np.mean(1 / table["w"]) if "weights" in options else 1)
    common, groups = brute_variances(fit)
    unexplained = sum(groups.values()) + residual
    assert list(fit.icc().index) == list(groups)
    for name, variance in groups.items():
        np.testing.assert_allclose(fit.icc().loc[name][:5].astype(float), dumb_row(variance / unexplained))
    total = common + unexplained
    found = fit.r2()
    assert list(found.index) == ["marginal", "conditional"]
    np.testing.assert_allclose(found.loc["marginal"][:5].astype(float), dumb_row(common / total))
    np.testing.assert_allclose(found.loc["conditional"][:5].astype(float), dumb_row(1 - residual / total))


def test_a_student_t_response_has_the_variance_of_its_t(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | g)", table, family="student_t")
    nu, sigma, sd = fit.draws("nu"), fit.draws("sigma"), fit.draws("sd_g")[..., 0]
    assert (nu < 2).any()
    share = np.where(nu > 2, sd**2 / (sd**2 + sigma**2 * nu / np.where(nu > 2, nu - 2, 1)), 0)
    np.testing.assert_allclose(fit.icc().loc["g"][:5].astype(float), dumb_row(share))


def test_unit_effects_of_fe_count_as_explained(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + fe(g) + (1 | h)", table)
    assert list(fit.icc().index) == ["h"]
    common, groups = brute_variances(fit)
    effects = fit.draws("b_g")[..., 0][..., fit.design.group("g").codes].var(axis=-1)
    total = common + effects + groups["h"] + fit.draws("sigma") ** 2
    conditional = (common + effects + groups["h"]) / total
    np.testing.assert_allclose(fit.r2().loc["conditional"][:5].astype(float), dumb_row(conditional))


def test_shares_say_why_there_are_none(made: Made, table: pd.DataFrame) -> None:
    for family in ("poisson", "negative_binomial"):
        fit = made("count ~ x + (1 | g)", table, family=family)
        with pytest.raises(hp.FitError, match=f"no ICC: family {family} has no residual variance on the link scale"):
            fit.icc()
        with pytest.raises(hp.FitError, match=f"no R²: family {family}"):
            fit.r2()
    with pytest.raises(hp.FitError, match="no ICC: there is no random grouping factor"):
        made("y ~ x + fe(g)", table).icc()
    with pytest.raises(hp.FitError, match="no ICC: there is no random grouping factor"):
        made("y ~ x", table).icc()


# Fits without this or that --------------------------------------------------------------------------------------------


def test_a_fit_without_coefficients(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ 0 + (1 | g)", table)
    for ask in (fit.fixef, fit.conf_int, lambda: fit.params, lambda: fit.bse):
        with pytest.raises(hp.FitError, match=r"no coefficients; its group effects are in ranef\(\)"):
            ask()
    text = str(fit.summary())
    assert "Coefficients" not in text
    assert text.count("P(>0)    ESS") == 1
    assert "sd(Intercept)" in text
    pd.testing.assert_frame_equal(pd.DataFrame(fit.coef("g")), pd.DataFrame(fit.ranef("g")))
    assert np.isfinite(fit.fittedvalues).all()


def test_a_fit_without_groups(made: Made, table: pd.DataFrame) -> None:
    text = str(made("y ~ x", table).summary())
    assert text.splitlines()[0].strip() == "Bayesian regression"
    assert "ICC" not in text
    assert "conditional" not in text
    assert "R² marginal" in text
    assert "residual sd (sigma)" in text
    text = str(made("hit ~ 1", table, family="bernoulli").summary())
    assert "Residual" not in text
    assert "R²" not in text
    with pytest.raises(hp.FitError, match="no variance parameters"):
        made("hit ~ x", table, family="bernoulli").varcorr()


@pytest.mark.parametrize("ask", ["ranef", "coef"])
def test_an_unknown_group_lists_those_that_are_there(fit: Fit, ask: str, made: Made, table: pd.DataFrame) -> None:
    with pytest.raises(hp.DataError, match="no grouping factor 'firm' in this model; it has: g, h"):
        getattr(fit, ask)("firm")
    with pytest.raises(hp.DataError, match="it has: none"):
        getattr(made("y ~ x", table), ask)("g")


def test_unknown_draws_list_those_that_are_there(fit: Fit) -> None:
    with pytest.raises(hp.FitError, match=r"no 'sd_firm' in the posterior; it holds: beta, .*sd_g, .*sigma"):
        fit.draws("sd_firm")


@pytest.mark.parametrize("prob", [0, 1, 95, -0.1, float("nan"), "0.95", None])
def test_prob_must_be_a_probability(fit: Fit, prob: Any) -> None:
    for ask in (fit.fixef, fit.varcorr, fit.icc, fit.r2, fit.summary, lambda prob: fit.ranef("g", prob)):
        with pytest.raises(hp.FitError, match=r"between 0 and 1, as in prob=0\.95, not"):
            ask(prob)
    with pytest.raises(hp.FitError, match=r"alpha=0\.05, not"):
        fit.conf_int(prob)


# Summary --------------------------------------------------------------------------------------------------------------


def width(line: str) -> int:
    return sum(unicodedata.combining(character) == 0 for character in line)


def test_the_summary_says_what_was_done(made: Made, table: pd.DataFrame) -> None:
    holes = table.assign(x=table["x"].where(table.index > 2), g=table["g"].where(table.index < 58))
    text = str(made("y ~ x + (x | g) + (1 | h)", holes).summary())
    for said in (
        "y ~ x + (x | g) + (1 | h)",
        "gaussian (identity link)",
        "55 used, 5 dropped (missing: x in 3, g in 2)",
        "NUTS, 4 × 250 draws",
        "1.0 compiling, 2.0 sampling",
        "6 g, rows 7–10, mean 9.2",
        "5 h, rows 11–11, mean 11.0",
        "Intervals are 95 % equal-tailed posterior intervals",
        "2.5 %    97.5 %",
    ):
        assert said in text
    assert "precision" not in text
    assert re.search(r"Weights: +precision", str(made("y ~ x", table, weights="w").summary()))


@pytest.mark.parametrize(("prob", "heads"), [(0.9, "5 % 95 %"), (0.5, "25 % 75 %"), (0.999, "0.05 % 99.95 %")])
def test_the_summary_heads_its_interval(fit: Fit, prob: float, heads: str) -> None:
    text = str(fit.summary(prob))
    assert heads in " ".join(text.split())
    assert f"Intervals are {100 * prob:g} % equal-tailed" in text


def test_the_summary_holds_the_tables_numbers(slopes: Fit) -> None:
    lines = {line[:30].strip(): line[30:].split() for line in str(slopes.summary()).splitlines()}
    row = slopes.fixef().loc["days"]
    assert lines["days"][:4] == [f"{row[name]:.2f}" for name in ("mean", "sd", "lower", "upper")]
    assert lines["days"][5:] == [f"{min(row['ess_bulk'], row['ess_tail']):,.0f}", f"{row['r_hat']:.2f}"]
    assert lines["cor(Intercept, days)"][0] == f"{slopes.varcorr().loc[('subject', 'Intercept', 'days'), 'mean']:.3f}"
    assert lines["ICC subject"][0] == f"{slopes.icc().loc['subject', 'mean']:.4f}"


LONG = "a_column_whose_name_goes_on_and_on_for_much_more_than_the_ninety_characters_that_a_line_of_the_summary_has"
WIDE: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], dict[str, Any]]] = {
    "long names": (
        f"y ~ {LONG} * z + ({LONG} | {LONG}_too)",
        lambda df: df.rename(columns={"x": LONG, "g": f"{LONG}_too"}),
        {},
    ),
    "many columns": (
        "y ~ " + " + ".join(f"x{k}" for k in range(30)) + " + (1 | g) + (1 | h)",
        lambda df: df.join(pd.DataFrame(np.random.default_rng(1).normal(size=(60, 30))).add_prefix("x")),
        {},
    ),
    "a tiny response": ("y ~ x + (x | g)", lambda df: df.assign(y=df["y"] * 1e-40), {}),
    "a huge response": ("y ~ x + (x | g)", lambda df: df.assign(y=df["y"] * 1e40), {}),
    "a huge mean": ("y ~ x + (x | g)", lambda df: df.assign(y=df["y"] * 1e-3 + 123456789), {}),
    "a negative huge mean": ("y ~ x + (x | g)", lambda df: df.assign(y=df["y"] - 9876543.21), {}),
    "a tiny column": ("y ~ x + (x | g)", lambda df: df.assign(x=df["x"] * 1e-12), {}),
    "a huge column": ("y ~ x + (x | g)", lambda df: df.assign(x=df["x"] * 1e12), {}),
    "every warning": ("y ~ x + (x | g)", lambda df: df, {"diverging": 30, "chains": 2, "draws": 20}),
    "fixed sds": ("y ~ x + (x || g)", lambda df: df, {"priors": {"sd_g": 123456.789}}),
    "counts": ("count ~ x + fe(g)", lambda df: df, {"family": "negative_binomial"}),
}


@pytest.mark.parametrize("case", WIDE)
def test_no_line_is_wider_than_ninety_columns_and_no_cells_touch(case: str, made: Made, table: pd.DataFrame) -> None:
    formula, change, options = WIDE[case]
    summary = made(formula, change(table), **options).summary()
    for prob in (0.95, 0.999):
        summary = made(formula, change(table), **options).summary(prob)
        for line in str(summary).splitlines():
            assert width(line) <= 90, line
    lines = str(summary).splitlines()
    for section in summary.sections:
        for label, cells in section.rows:
            shown = [
                line
                for line in lines
                if cells and line.split()[-len(" ".join(cells).split()) :] == " ".join(cells).split()
            ]
            assert shown or not cells, (label, cells)


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (1.23456, 0.1, "1.235"), (1.23456, 0.0123, "1.2346"), (123.456, 12.3, "123.5"), (-0.0001, 1.0, "0.00"),
        (1234.5678, 0.0001, "1,234.568"), (12345678.0, 1e3, "1.235e+07"), (-12345678.0, 1e3, "-1.23e+07"),
        (1234567.0, 1e6, "1,234,567"), (-1234567.0, 1e6, "-1.23e+06"), (2.1e-5, 3e-6, "2.100e-05"), (0.0, 1e-9, "0"),
        (-2.1e-5, 3e-6, "-2.10e-05"), (-2.1e-105, 3e-106, "-2.1e-105"), (0.999989, 2e-6, "0.999989"),
        (3.0, 1e-10, "3.000000"), (0.25, 0.0, "0.25"), (-1234567.8, 0.0, "-1.23e+06"),
        (np.inf, 1.0, "∞"), (-np.inf, 1.0, "-∞"), (np.nan, 1.0, "NaN"), (2.5, np.nan, "2.5"),
    ],
)  # fmt: skip
def test_numbers_keep_three_digits_of_the_sd_where_there_is_room(value: float, scale: float, text: str) -> None:
    assert number(value, scale) == text
    assert len(text) <= 9


def test_columns_stand_under_their_heads(fit: Fit) -> None:
    lines = str(fit.summary()).splitlines()
    head = next(line for line in lines if line.startswith("Coefficients"))
    row = next(line for line in lines if line.startswith("Intercept"))
    assert width(head) == width(row) == 90


def test_healthy_draws_have_no_warnings_and_unhealthy_ones_have_them_on_top(made: Made, table: pd.DataFrame) -> None:
    healthy = made("y ~ x + (1 | g)", table)
    assert healthy.summary().warnings == ()
    assert "!" not in str(healthy.summary())
    diverged = str(made("y ~ x + (1 | g)", table, diverging=7).summary()).splitlines()
    assert diverged[2].startswith("! 7 of 1,000 draws diverged")
    assert "target_accept=0.99" in " ".join(diverged[2:6])


def changed(fit: Fit, change: Callable[[np.ndarray], np.ndarray]) -> Fit:
    """The fit with another beta, whose draws are (chain, draw, coef)."""
    posterior = fit.idata["posterior"].to_dataset()
    posterior["beta"] = (("chain", "draw", "coef"), change(posterior["beta"].to_numpy()))
    groups = {name: node.to_dataset() for name, node in fit.idata.children.items()}
    return with_idata(fit, xr.DataTree.from_dict(groups | {"posterior": posterior}))


def test_chains_that_disagree_are_told(made: Made, table: pd.DataFrame) -> None:
    fit = changed(made("y ~ x + (1 | g)", table), lambda beta: beta + np.arange(4)[:, None, None])
    assert fit.diagnostics()["max_r_hat"] > 1.05
    assert fit.diagnostics().least_mixed in ("beta[Intercept]", "beta[x]")
    assert "! The chains do not agree yet" in str(fit.diagnostics())
    lines = str(fit.summary()).splitlines()
    assert lines[2].startswith("! The chains do not agree yet (largest R̂ ")
    assert "effective sample size" in " ".join(lines)


def test_diagnostics_say_what_they_mean(made: Made, table: pd.DataFrame) -> None:
    found = made("y ~ x + (x | g)", table, diverging=3).diagnostics()
    shown = str(found).splitlines()
    assert shown[0] == "4 chains of 250 draws"
    assert [row[0] for row in found.rows] == ["divergences", "largest R̂", "smallest ESS"]
    assert all(any(line.startswith(row[0]) for line in shown) for row in found.rows)
    assert "3 of 1,000 draws diverged" in " ".join(shown)
    assert "<td>largest R̂</td>" in found._repr_html_()


def test_quantities_are_named_in_the_order_of_their_draws(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (x | g)", table)
    names, draws = health.names(fit), health.scalars(fit.spec, fit.stored_draws())
    assert len(names) == draws.shape[2]
    np.testing.assert_array_equal(draws[..., names.index("beta[x]")], fit.draws("beta")[..., 1])
    np.testing.assert_array_equal(draws[..., names.index("sd_g[x]")], fit.draws("sd_g")[..., 1])
    np.testing.assert_array_equal(draws[..., names.index("cor_g[x, Intercept]")], fit.draws("cor_g")[..., 1, 0])


def test_sluggish_chains_are_told(made: Made, table: pd.DataFrame) -> None:
    fit = changed(made("y ~ x + (1 | g)", table, draws=1000), lambda beta: np.repeat(beta[:, ::20], 20, axis=1))
    lines = str(fit.summary()).splitlines()
    assert fit.diagnostics()["min_ess"] < 400
    assert any(line.startswith("! The smallest effective sample size is ") for line in lines)


def test_one_chain_is_told(made: Made, table: pd.DataFrame) -> None:
    found = made("y ~ x + (1 | g)", table, chains=1)
    assert np.isnan(found.diagnostics()["max_r_hat"])
    assert any("use chains=4" in warning for warning in found.summary().warnings)
    assert found.summary().sections[0].rows[0][1][-1] == ""  # no R̂


def test_too_few_draws_are_told(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | g)", table, draws=3)
    assert any("fewer than 4 draws" in warning for warning in fit.summary().warnings)
    assert "nan" not in str(fit.summary())


def test_notes_of_the_model_are_told_on_top(made: Made, table: pd.DataFrame) -> None:
    fit = made("hit ~ x + fe(g)", table, family="bernoulli")
    assert any("incidental" in warning for warning in fit.summary().warnings)


def test_fixed_sds_are_shown_as_fixed(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | g)", table, priors={"sd_g": 0.25})
    assert re.search(r"sd\(Intercept\) +0\.25 +fixed$", str(fit.summary()), re.MULTILINE)
    row = fit.varcorr().loc[("g", "Intercept", "")]
    assert row[["mean", "sd", "lower", "upper"]].tolist() == [0.25, 0, 0.25, 0.25]
    assert row[["ess_bulk", "ess_tail", "r_hat"]].isna().all()


def test_factors_may_be_called_residual_or_family(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | Family) + (1 | Residual)", table.rename(columns={"g": "Family", "h": "Residual"}))
    labels = [label for section in fit.summary().sections for label, _ in section.rows]
    assert labels[2:7] == ["Family", "  sd(Intercept)", "Residual", "  sd(Intercept)", "residual sd (sigma)"]


def test_the_latent_scale_is_named(made: Made, table: pd.DataFrame) -> None:
    for link in ("logit", "probit", "cloglog"):
        text = str(made("hit ~ x + (1 | g)", table, family=f"bernoulli({link})").summary())
        assert f"latent scale of the {link} link" in " ".join(text.split())
    assert "latent" not in str(made("y ~ x + (1 | g)", table).summary())
    assert "ICC" not in str(made("count ~ x + (1 | g)", table, family="poisson").summary())


def test_what_the_reported_intercept_means_is_said(made: Made, table: pd.DataFrame) -> None:
    assert "at 0 of the varying columns" in str(made("y ~ x + (x | g)", table).summary())
    assert "at 0 of the varying columns" not in str(made("y ~ x + (1 | g)", table).summary())
    assert "row-weighted mean of the unit effects" in str(made("y ~ x + fe(g)", table).summary())


# HTML and LaTeX -------------------------------------------------------------------------------------------------------

NASTY = "a <b> & \"c\" _d% 'e' #f$ {g} ~^\\|"


def nasty(made: Made, table: pd.DataFrame, **options: Any) -> Fit:
    df = table.assign(f=np.where(table["h"] > 2, NASTY, "0"), g=table["g"] + NASTY).rename(columns={"x": "x & <y>_%"})
    return made("y ~ `x & <y>_%` + f + (f | g)", df, **options)


def test_html_is_well_formed_and_escaped(made: Made, table: pd.DataFrame) -> None:
    fit = nasty(made, table, diverging=3)
    fragments = [fit.summary().as_html(), fit._repr_html_(), fit.ranef("g")._repr_html_(), fit.fixef()._repr_html_()]
    for fragment in fragments:
        body = re.sub(r"<style.*?</style>", "", fragment, flags=re.DOTALL)
        root = ElementTree.fromstring(f"<body>{body}</body>")
        text = "".join(root.itertext())
        assert '<b> & "c"' in text
        assert "<b>" not in fragment
    assert fit.summary()._repr_html_() == fit.summary().as_html() == fit._repr_html_()
    assert "3 of 1,000 draws diverged" in fragments[0]


def test_latex_has_commands_for_greek_letters_and_no_brackets_after_a_line_break(
    made: Made, table: pd.DataFrame
) -> None:
    named = table.rename(columns={"x": "β", "z": "[z]"})
    latex = made("y ~ `β` + `[z]` + (`β` | g)", named, draws=20).summary().as_latex()
    assert not re.search(r"\\\\\n\[", latex)
    assert "\n{}[z] & " in latex
    assert "\n$\\beta$ & " in latex
    assert "sd($\\beta$) & " in latex


def test_latex_is_balanced_and_escaped(made: Made, table: pd.DataFrame) -> None:
    latex = nasty(made, table, diverging=3).summary().as_latex()
    lines = latex.splitlines()
    body = [line for line in lines if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lrrrrrrr}"
    assert body[-1] == r"\end{tabular}"
    rows = [line for line in body if line.endswith(r"\\")]
    assert len(rows) > 8
    for line in body:
        plain = re.sub(r"\\textbackslash\{\}|\\\^\{\}|\\[_%&#${}]", "", line.removesuffix(r"\\"))  # what is escaped
        assert plain.count("{") == plain.count("}")
        assert plain.count("$") % 2 == 0
        if line in rows:
            assert plain.count("&") == 7
        assert not re.search(r"[_%#~^<>|]", re.sub(r"\$[^$]*\$", "", plain)), line
    assert r"a $<$b$>$ \& " in latex
    assert r"97.5 \%" in latex
    assert r"$\hat{R}$" in latex
    assert all(line.startswith(("%", "\\")) or line.endswith(r"\\") for line in lines)
    assert any(line.startswith("% 3 of 1,000 draws diverged") for line in lines)


def test_repr_tells_where_to_look(fit: Fit) -> None:
    assert repr(fit) == (
        "<Fit of y ~ 1 + x + z + (1 + x | g) + (0 + z | h) + (1 | h), gaussian, by nuts; print(fit.summary()) shows it>"
    )
    assert repr(fit.summary()) == str(fit.summary()) == fit.summary().as_text()
    assert fit.seconds == 3.0
