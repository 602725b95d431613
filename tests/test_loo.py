"""Pointwise log densities against scipy, leave-one-out in chunks against ArviZ at one go, and who may be compared."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import special, stats

import hierpanel as hp
from hierpanel.results import loo
from hierpanel.results.fit import Fit, with_idata

EVERY_ROW = slice(None)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 48
    df = pd.DataFrame({"x": rng.normal(size=n), "g": np.repeat(list("abcdef"), 8), "size": rng.integers(3, 9, n)})
    df["y"] = 2 + df["x"] + rng.normal(size=n)
    df["count"] = rng.poisson(4, n)
    df["hit"] = rng.integers(0, 2, n)
    df["hits"] = rng.binomial(df["size"], 0.4)
    df["w"] = rng.uniform(0.5, 2, n)
    return df


def eta_of(fit: Fit) -> np.ndarray:
    """The linear predictor, draw by draw and row by row."""
    design, draws = fit.design, {name: fit.draws(name) for name in fit.idata["posterior"].data_vars}
    eta = np.zeros((*next(iter(draws.values())).shape[:2], design.n)) + design.offset
    for i in range(design.n):
        eta[..., i] += draws["beta"] @ design.X[i]
        for group in design.groups:
            eta[..., i] += draws[f"b_{group.name}"][..., group.codes[i], :] @ group.Z[i]
    return eta


CDF = {"logit": special.expit, "probit": stats.norm.cdf, "cloglog": lambda e: 1 - np.exp(-np.exp(e))}
CASES: dict[str, tuple[str, dict[str, Any], Callable[..., np.ndarray]]] = {
    "gaussian": ("y", {"weights": "w"}, lambda df, e, p: stats.norm.logpdf(df["y"], e, p("sigma") * df["w"] ** -0.5)),
    "student_t": (
        "y", {"weights": "w"}, lambda df, e, p: stats.t.logpdf(df["y"], p("nu"), e, p("sigma") * df["w"] ** -0.5)
    ),
    "poisson": ("count", {}, lambda df, e, p: stats.poisson.logpmf(df["count"], np.exp(e))),
    "negative_binomial": (
        "count", {}, lambda df, e, p: stats.nbinom.logpmf(df["count"], p("alpha"), 1 / (1 + np.exp(e) / p("alpha")))
    ),
    **{
        f"bernoulli({link})": ("hit", {}, lambda df, e, p, f=cdf: stats.bernoulli.logpmf(df["hit"], f(e)))
        for link, cdf in CDF.items()
    },
    **{
        f"binomial({link})": (
            "prop(hits, size)", {}, lambda df, e, p, f=cdf: stats.binom.logpmf(df["hits"], df["size"], f(e))
        )
        for link, cdf in CDF.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("family", CASES)
def test_the_log_density_of_each_row_is_scipys(family: str, made: Callable[..., Fit], table: pd.DataFrame) -> None:
    response, options, density = CASES[family]
    fit = made(f"{response} ~ x + offset(w) + (x | g)", table, family=family, draws=20, **options)
    draws = {str(name): fit.draws(name) for name in fit.idata["posterior"].data_vars}
    found = loo.log_likelihood(fit.spec, fit.design, draws, EVERY_ROW)
    columns = {name: table[name].to_numpy() for name in table}
    expected = density(columns, eta_of(fit), lambda name: fit.draws(name)[..., None])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def whole(fit: Fit) -> xr.DataTree:
    """ArviZ's input with every row at once."""
    draws = {str(name): fit.draws(name) for name in fit.idata["posterior"].data_vars}
    values = loo.log_likelihood(fit.spec, fit.design, draws, EVERY_ROW)
    likelihood = xr.Dataset({"y": (("chain", "draw", "obs"), values)})
    return xr.DataTree.from_dict({"posterior": likelihood, "log_likelihood": likelihood})


def test_leave_one_out_in_chunks_equals_arviz_at_one_go(workers: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    bulk = workers.idata["posterior"]["beta"]
    assert bulk.sizes == {"chain": 4, "draw": 500, "coef": 2}
    draws = {str(name): workers.draws(name) for name in workers.idata["posterior"].data_vars}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = arviz_stats.loo(whole(workers), pointwise=True, reff=0.8)
    monkeypatch.setattr(loo, "CHUNK", 2000 * 7)  # 7 rows at a time of 500: 72 chunks, the last of 3
    assert [s.stop - s.start for s in loo.chunks(workers.design, draws)] == [7] * 71 + [3]
    found = loo.loo(workers.spec, workers.design, draws, 0.8)
    for name in ("elpd", "se", "p", "n_samples", "n_data_points", "good_k", "warning"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-10), name
    np.testing.assert_allclose(found.elpd_i, expected.elpd_i, rtol=1e-10)
    np.testing.assert_allclose(found.pareto_k, expected.pareto_k, rtol=1e-8)


def test_fitted_values_do_not_depend_on_the_chunks(workers: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = workers.fittedvalues
    monkeypatch.setattr(loo, "CHUNK", 2000 * 7)
    pd.testing.assert_series_equal(workers.fittedvalues, expected)


def test_fit_loo_is_finite_and_between_its_bounds(workers: Fit) -> None:
    found = workers.loo()
    assert found.n_data_points == 500
    assert 30 < found.p < 60  # 50 workers, a slope and the residual sd
    assert "elpd_loo" in repr(found)


def test_too_few_draws_are_refused(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    assert np.isfinite(made("y ~ x", table, draws=25, chains=1).loo().elpd)
    with pytest.raises(hp.FitError, match="at least 25 draws; this fit has 24: use draws=1000"):
        made("y ~ x", table, draws=12, chains=2).loo()


def test_compare_puts_the_best_first(workers: Fit, pooled: Fit) -> None:
    table = hp.compare({"pooled": pooled, "partial": workers})
    assert list(table.index) == ["partial", "pooled"]
    assert list(table.columns) == ["elpd", "se", "elpd_diff", "se_diff", "p_loo", "weight", "bad_k"]
    assert table.columns.name == "LOO: a new row of a known unit"
    scores = {"partial": workers.loo(), "pooled": pooled.loo()}
    for name, score in scores.items():
        assert table.loc[name, "elpd"] == pytest.approx(score.elpd)
        assert table.loc[name, "se"] == pytest.approx(score.se)
        assert table.loc[name, "p_loo"] == pytest.approx(score.p)
        assert table.loc[name, "bad_k"] == (score.pareto_k > score.good_k).sum()
    difference = scores["pooled"].elpd_i - scores["partial"].elpd_i
    assert table.loc["partial", ["elpd_diff", "se_diff"]].tolist() == [0, 0]
    assert table.loc["pooled", "elpd_diff"] == pytest.approx(float(difference.sum()))
    assert table.loc["pooled", "elpd_diff"] < -100
    assert table.loc["pooled", "se_diff"] == pytest.approx(float(np.sqrt(500) * difference.std()))
    assert table["weight"].sum() == pytest.approx(1)
    assert table.loc["partial", "weight"] > 0.9
    assert "negative for the" in " ".join((hp.compare.__doc__ or "").split())


def test_stacking_weights_sum_to_one_for_several_fits(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    fits = {f"seed {seed}": made("y ~ x + (1 | g)", table, seed=seed) for seed in range(4)}
    weights = hp.compare(fits)["weight"]
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "fewer rows": (lambda made, df: made("y ~ x", df[3:]), r"different rows \(48 and 45\).*dropna"),
    "as many rows, but others": (lambda made, df: made("y ~ x", df.set_axis(df.index + 1)), "different rows"),
    "other values": (lambda made, df: made("y ~ x", df.assign(y=df["y"] + 1)), "different rows"),
    "dropped rows": (lambda made, df: made("y ~ x", df.assign(x=df["x"].where(df.index > 1))), r"\(48 and 46\)"),
    "another response": (lambda made, df: made("I(2 * y) ~ x", df), r"different responses \(y, I\(2 \* y\)\)"),
    "trials": (
        lambda made, df: made("prop(count, 20) ~ x", df, family="binomial"), r"different responses \(y, prop\(count"
    ),
    "no fit": (lambda made, df: df, "b is a DataFrame, not a fit"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_compare_refuses(what: str, made: Callable[..., Fit], table: pd.DataFrame) -> None:
    build, message = REFUSED[what]
    with pytest.raises(hp.FitError, match=message):
        hp.compare({"a": made("y ~ x + (1 | g)", table), "b": build(made, table)})


def test_compare_refuses_other_trials_of_the_same_successes(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    one = made("prop(hits, size) ~ x", table, family="binomial")
    other = made("prop(hits, size) ~ x", table.assign(size=table["size"] + 1), family="binomial")
    with pytest.raises(hp.FitError, match="a and b have different trials"):
        hp.compare({"a": one, "b": other})


def test_compare_takes_fits_with_different_columns_and_groups(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    table = hp.compare({"a": made("y ~ x", table), "b": made("y ~ count + (x | g)", table, weights="w")})
    assert sorted(table.index) == ["a", "b"]


def test_fits_without_names_are_numbered(workers: Fit, pooled: Fit) -> None:
    named, numbered = hp.compare({"(1)": pooled, "(2)": workers}), hp.compare([pooled, workers])
    pd.testing.assert_frame_equal(named, numbered)


@pytest.mark.parametrize("fits", [{}, [], 1, None, "ab"])
def test_compare_needs_a_mapping_of_two(fits: Any) -> None:
    with pytest.raises(hp.FitError, match=r"at least two fits, as in hp.compare\(\{'a': fit_a, 'b': fit_b\}\)"):
        hp.compare(fits)


def test_compare_knows_what_it_goes_by(pooled: Fit, workers: Fit) -> None:
    with pytest.raises(hp.FitError, match="by='loo', by='logo' or by='evidence', not by='waic'"):
        hp.compare({"a": pooled, "b": workers}, by="waic")
    with pytest.raises(hp.FitError, match="at least two fits"):
        hp.compare({"a": pooled})


@pytest.mark.parametrize("formula", ["y ~ x + (x + size | g)", "y ~ x + (0 + x || g)", "y ~ x", "y ~ x + fe(g)"])
def test_closed_form_needs_no_coordinates_of_the_marginal_route(formula: str, table: pd.DataFrame) -> None:
    """Draws of sds, correlations and sigma say the same as ψ does, so fits by NUTS are scored alike."""
    fit = hp.fit(formula, table, draws=50, seed=1, progress=False)
    groups = {name: node.to_dataset() for name, node in fit.idata.children.items()}
    groups["sample_stats"] = groups["sample_stats"].drop_vars("psi")
    stripped = with_idata(fit, xr.DataTree.from_dict(groups))
    np.testing.assert_allclose(stripped.loo().elpd_i, fit.loo().elpd_i, rtol=1e-8)


def test_scores_are_printed_to_what_matters(workers: Fit, pooled: Fit) -> None:
    shown = str(hp.compare({"pooled": pooled, "partial": workers})).splitlines()
    assert shown[0] == "LOO: a new row of a known unit"
    assert shown[2].split()[0] == "partial"
    assert all(re.fullmatch(r"-?[\d,]+\.\d|[\d.]+|[\d.e-]+|0\.\d{3}", cell) for cell in shown[3].split()[1:])
    assert shown[2].split()[3:5] == ["0.0", "0.0"]


def test_the_same_rows_in_another_order_are_told(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match=r"different rows \(48 each, but others, or in another order\)"):
        hp.compare([made("y ~ x", table), made("y ~ x", table[::-1])])


def test_densities_are_not_compared_with_probabilities(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    says = r"\(1\) gives densities of the response \(gaussian\) and \(2\) probabilities"
    with pytest.raises(hp.FitError, match=says):
        hp.compare([made("count ~ x", table), made("count ~ x", table, family="poisson")])


def test_what_is_no_fit_is_named(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match="b is a Model, not a fit"):
        hp.compare({"a": made("y ~ x", table), "b": hp.Model("y ~ x", table)})
