"""Plots hold the numbers of the tables, stay legible, say what they cannot show, and look as they did.

Images are compared with tests/baseline/*.png, which were drawn from invented draws; this draws them anew:

    HIERPANEL_BASELINE=write python -m pytest tests/test_plots_more.py -k image
"""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.testing.compare import compare_images
from PIL import Image

import hierpanel as hp
from hierpanel.results import plot_chains, plot_marks, plot_ppc, plot_style
from hierpanel.results.fit import Fit
from hierpanel.results.thinning import evenly

Made = Callable[..., Fit]
pytestmark = pytest.mark.usefixtures("closed")
BASELINE = Path(__file__).parent / "baseline"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    df = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 9), "t": np.tile(np.arange(9), 8)})
    df["x"], df["z"] = rng.normal(size=(2, 72))
    df["kind"] = np.tile(["low", "middle", "high"], 24)
    df["size"] = rng.integers(5, 12, 72)
    df["y"] = 1 + df["x"] + rng.normal(size=72) + np.repeat(rng.normal(size=8), 9)
    df["count"] = rng.poisson(3, 72)
    df["hit"] = rng.integers(0, 2, 72)
    return df


@pytest.fixture(scope="module")
def wages() -> Fit:
    df = hp.datasets.load("wage_panel")
    formula = "log_wage ~ union * experience + married + (1 + experience | worker)"
    return hp.fit(formula, df, panel=("worker", "year"), draws=200, seed=1, progress=False)


@pytest.fixture(scope="module")
def days() -> Fit:
    df = hp.datasets.load("sleepstudy")
    return hp.fit("reaction ~ days + (days | subject)", df, draws=200, seed=1, progress=False)


def with_source(made: Made, formula: str, df: pd.DataFrame, **options: Any) -> Fit:
    """Dress invented draws as a fit that knows the table that it was read from."""
    model = hp.Model(formula, df, **options)
    return replace(made(formula, df, **options), source=model.source, coder=model.coder)


def segments(lines: Any) -> np.ndarray:
    """Both ends of every line of a collection (rows, 2), along the axis on which they lie."""
    ends = np.array([path.vertices for path in lines.get_paths()])
    along = int(np.ptp(ends, axis=1)[:, 1].sum() > np.ptp(ends, axis=1)[:, 0].sum())
    return ends[:, :, along]


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def in_legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Rows of intervals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [False, True])
def test_caterpillar_shows_the_table(total: bool, days: Fit) -> None:
    ax = days.plot.caterpillar("subject", "days", total=total, prob=0.8)
    of = days.coef if total else days.ranef
    numbers = of("subject", 0.8).xs("days", level="coef").sort_values("mean")
    half = of("subject", 0.5).xs("days", level="coef").loc[numbers.index]
    thin, thick, dots = ax.collections
    np.testing.assert_allclose(segments(thin), numbers[["lower", "upper"]])
    np.testing.assert_allclose(segments(thick), half[["lower", "upper"]])
    np.testing.assert_allclose(dots.get_offsets()[:, 0], numbers["mean"])
    assert labels(ax.yaxis) == [str(level) for level in numbers.index]
    assert ax.lines[0].get_xdata()[0] == pytest.approx(days.params["days"] if total else 0)
    assert ax.get_xlabel().endswith("(reaction per unit of days)")
    assert in_legend(ax)[:3] == ["posterior mean", "50 % interval", "80 % interval"]


def test_caterpillar_of_hundreds_of_units_has_them_all_without_names(wages: Fit) -> None:
    ax = wages.plot.caterpillar("worker")
    assert len(ax.collections[0].get_paths()) == 545
    assert labels(ax.yaxis) == []
    assert ax.get_ylabel() == "worker (545, sorted)"
    few = wages.plot.caterpillar("worker", max_units=7)
    numbers = wages.ranef("worker").xs("Intercept", level="coef")["mean"].sort_values()
    assert (labels(few.yaxis)[0], labels(few.yaxis)[-1]) == (str(numbers.index[0]), str(numbers.index[-1]))
    assert few.get_ylabel() == "worker (7 of 545)"


def test_caterpillar_needs_no_stored_effects(table: pd.DataFrame) -> None:
    fit = hp.fit("y ~ x + (1 | g)", table, draws=500, seed=1, effects_memory=0, progress=False)
    assert not fit.effects.is_stored("g")
    found = segments(fit.plot.caterpillar("g").collections[0])
    numbers = fit.ranef("g").sort_values("mean")
    np.testing.assert_allclose(found, numbers[["lower", "upper"]], atol=0.12)


def test_coefficients_show_the_table(wages: Fit) -> None:
    ax = wages.plot.coefficients(prob=0.9)
    numbers = wages.fixef(0.9).drop("Intercept")
    np.testing.assert_allclose(segments(ax.collections[0]), numbers[["lower", "upper"]])
    np.testing.assert_allclose(segments(ax.collections[1]), wages.fixef(0.5).drop("Intercept")[["lower", "upper"]])
    assert labels(ax.yaxis) == list(numbers.index)[::-1]
    assert ax.collections[2].get_offsets()[:, 1].tolist() == [3, 2, 1, 0]
    whole = wages.plot.coefficients(drop_intercept=False)
    assert labels(whole.yaxis) == list(wages.spec.coefs)[::-1]
    assert labels(wages.plot.coefficients(keep=["married", "union"]).yaxis) == ["union", "married"]


def test_coefficients_for_one_sd(wages: Fit) -> None:
    ax = wages.plot.coefficients(per="sd", drop_intercept=False)
    sd = np.r_[1, wages.design.X[:, 1:].std(axis=0, ddof=1)]
    np.testing.assert_allclose(ax.collections[2].get_offsets()[:, 0], wages.params * sd)
    assert "per sd" in ax.get_xlabel()


def test_fits_stand_side_by_side(made: Made, table: pd.DataFrame) -> None:
    first, second = made("y ~ x + (1 | g)", table), made("y ~ z + x + (1 | g)", table, seed=2)
    ax = first.plot.coefficients(second)
    assert in_legend(ax) == [str(first.spec.formula), str(second.spec.formula), "no effect"]
    one, two = ax.collections[2].get_offsets(), ax.collections[5].get_offsets()
    assert labels(ax.yaxis) == ["z", "x"]
    np.testing.assert_allclose(one[:, 0], first.params[["x"]])
    np.testing.assert_allclose(two[:, 0], second.params[["x", "z"]])
    assert one[0, 1] > two[0, 1]
    assert abs(one[0, 1] - two[0, 1]) < 0.5
    named = first.plot.coefficients({"two": second, "one": first})
    assert in_legend(named)[:2] == ["two", "one"]
    assert in_legend(first.plot.coefficients(second, names=["a", "b"]))[:2] == ["a", "b"]


# Expected responses ---------------------------------------------------------------------------------------------------


def test_a_line_of_predictions_is_that_of_the_grid(wages: Fit) -> None:
    ax = wages.plot.predictions("experience", by="union", prob=0.9)
    x = ax.lines[0].get_xdata()
    for union, line, band in zip((0, 1), ax.lines, ax.collections, strict=True):
        grid = hp.datagrid(wages, union=union, experience=x)
        numbers = hp.predictions(wages, grid, units="typical", prob=0.9)
        np.testing.assert_allclose(line.get_ydata(), numbers["mean"])
        outline = band.get_paths()[0].vertices
        assert outline[:, 1].min() == pytest.approx(numbers["lower"].min())
        assert outline[:, 1].max() == pytest.approx(numbers["upper"].max())
    assert (x[0], x[-1]) == (0, 18)
    assert in_legend(ax) == ["union = 0", "union = 1", "90 % interval"]
    assert [text.get_text() for text in ax.texts] == ["typical worker, married = 0"]


def test_categories_are_points_in_their_order(made: Made, table: pd.DataFrame) -> None:
    ordered = table.assign(kind=pd.Categorical(table["kind"], ["low", "middle", "high"]))
    fit = with_source(made, "y ~ kind * x + (1 | g)", ordered)
    ax = fit.plot.predictions("kind", data=True)
    assert labels(ax.xaxis) == ["low", "middle", "high"]
    numbers = hp.predictions(fit, hp.datagrid(fit, kind=["low", "middle", "high"]), units="typical")
    bars, dots, points = ax.collections
    np.testing.assert_allclose(segments(bars), numbers[["lower", "upper"]])
    np.testing.assert_allclose(dots.get_offsets(), np.c_[[0, 1, 2], numbers["mean"]])
    np.testing.assert_allclose(points.get_offsets()[:, 1], table["y"])
    codes = ordered["kind"].cat.codes.to_numpy()
    assert np.abs(points.get_offsets()[:, 0] - codes).max() <= 0.04


def test_numbers_beside_numbers_are_quantiles_in_shades(made: Made, table: pd.DataFrame) -> None:
    fit = with_source(made, "y ~ x * z + (1 | g)", table)
    ax = fit.plot.predictions("x", by="z", data=True)
    said = [f"z = {value:.3g}" for value in np.quantile(table["z"], [0.1, 0.5, 0.9])]
    assert in_legend(ax) == [*said, "95 % interval", "data"]
    assert [line.get_color() for line in ax.lines] == plot_style.colors(3, True)
    stated = fit.plot.predictions("x", by="z", at={"z": [-1, 1], "x": [0, 2]})
    assert in_legend(stated)[:2] == ["z = -1", "z = 1"]
    assert stated.lines[0].get_xdata().tolist() == [0, 2]
    with_one = fit.plot.predictions("x", at={"z": 2.0, "x": [0.5]})
    assert [text.get_text() for text in with_one.texts] == ["typical g, z = 2"]
    assert labels(with_one.xaxis) == ["0.5"]


@pytest.mark.parametrize("units", ["typical", "average"])
def test_binomial_responses_are_probabilities(units: str, herds: Fit) -> None:
    ax = herds.plot.predictions("period", units=units, data=True)
    draws = herds.draws("beta").reshape(-1, 4)
    eta = draws[:, :1] + np.c_[np.zeros(len(draws)), draws[:, 1:]]
    z, weight = np.polynomial.hermite_e.hermegauss(30)
    spread = herds.draws("sd_herd").reshape(-1, 1, 1) * (z if units == "average" else 0 * z)
    p = (weight / weight.sum() / (1 + np.exp(-(eta[..., None] + spread)))).sum(axis=-1)
    dots = ax.collections[1].get_offsets()
    np.testing.assert_allclose(dots[:, 1], p.mean(axis=0), rtol=1e-3)
    assert ax.get_ylabel() == "probability of incidence"
    np.testing.assert_allclose(ax.collections[2].get_offsets()[:, 1], herds.design.y / herds.design.trials)


def test_units_of_their_own(wages: Fit) -> None:
    ax = wages.plot.predictions("experience", by="worker", units="own", at={"worker": [17, 45]}, data=True)
    x = ax.lines[0].get_xdata()
    for worker, line in zip((17, 45), ax.lines, strict=True):
        rows = hp.datagrid(wages, experience=x).assign(worker=worker)
        np.testing.assert_allclose(line.get_ydata(), wages.predict(rows)["mean"])
    points = ax.collections[2].get_offsets()
    assert len(points) == 16
    df = hp.datasets.load("wage_panel")
    np.testing.assert_allclose(points[:, 1], df[df["worker"].isin([17, 45])]["log_wage"])


def test_points_of_many_rows_are_thinned(wages: Fit) -> None:
    ax = wages.plot.predictions("experience", data=True)
    assert len(ax.collections[1].get_offsets()) == 1500
    assert in_legend(ax)[-1] == "data (1,500 of 4,360 rows)"


def test_slopes_are_those_of_the_grid(wages: Fit) -> None:
    ax = wages.plot.slopes("experience", over="union")
    numbers = hp.slopes(wages, "experience", hp.datagrid(wages, union=[0, 1]), by=None, units="typical")
    np.testing.assert_allclose(segments(ax.collections[0]), numbers[["lower", "upper"]])
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 1], numbers["mean"])
    assert ax.lines[0].get_ydata()[0] == 0
    assert ax.get_ylabel() == "d log_wage / d experience"
    elastic = wages.plot.slopes("experience", slope="eyex")
    assert elastic.get_ylabel() == "% change of log_wage for 1 % of experience"
    x = elastic.lines[1].get_xdata()
    grid = hp.datagrid(wages, experience=x)
    expected = hp.slopes(wages, "experience", grid, slope="eyex", by=None, units="typical")["mean"]
    np.testing.assert_allclose(elastic.lines[1].get_ydata(), expected)


def test_slopes_of_a_spline_stay_within_its_ends(table: pd.DataFrame) -> None:
    fit = hp.fit("y ~ bs(x, df=5) + (1 | g)", table, draws=50, seed=1, progress=False)
    x = fit.plot.slopes("x").lines[1].get_xdata()
    assert table["x"].min() < x[0] < x[-1] < table["x"].max()


def test_slopes_of_probabilities_are_for_one_trial(made: Made, table: pd.DataFrame) -> None:
    df = table.assign(count=np.minimum(table["count"], 5), trials=10)
    fit = with_source(made, "prop(count, trials) ~ x + (1 | g)", df, family="binomial")
    line = fit.plot.slopes("x", at={"x": [0.0, 1.0]}).lines[1]
    beta = fit.draws("beta").reshape(-1, 2)
    p = 1 / (1 + np.exp(-(beta[:, :1] + beta[:, 1:] * [0, 1])))
    np.testing.assert_allclose(line.get_ydata(), (beta[:, 1:] * p * (1 - p)).mean(axis=0), rtol=1e-4)


# Units' lines ---------------------------------------------------------------------------------------------------------


def test_each_unit_has_its_own_line(days: Fit) -> None:
    ax = days.plot.spaghetti("subject")
    totals = days.coef("subject")["mean"].unstack()
    drawn = {(round(line.get_ydata()[0], 8), round(line.get_ydata()[-1], 8)) for line in ax.lines[:-1]}
    ends = np.c_[totals["Intercept"], totals["Intercept"] + 9 * totals["days"]]
    assert drawn == {tuple(row) for row in ends.round(8).tolist()}
    population = ax.lines[-1]
    np.testing.assert_allclose(
        population.get_ydata(), days.params["Intercept"] + days.params["days"] * population.get_xdata()
    )
    assert len(ax.collections[1].get_offsets()) == 180
    assert ax.get_title(loc="left") == "Expected reaction by days, by subject (18)"


def test_units_are_spread_over_the_range_and_lines_over_their_own_rows(wages: Fit) -> None:
    ax = wages.plot.spaghetti("worker", units=5)
    assert len(ax.lines) == 6
    df = hp.datasets.load("wage_panel")
    ranges = {(low, high) for low, high in df.groupby("worker")["experience"].agg(["min", "max"]).to_numpy()}
    assert all((line.get_xdata()[0], line.get_xdata()[-1]) in ranges for line in ax.lines[:-1])
    assert ax.lines[-1].get_xdata()[-1] == 18
    assert ax.get_title(loc="left").endswith("by worker (5 of 545)")
    named = wages.plot.spaghetti("worker", units=[13, 17], data=False)
    assert len(named.lines) == 3
    assert len(named.collections) == 1


def test_over_a_time_that_is_no_regressor_lines_join_fitted_values(wages: Fit) -> None:
    ax = wages.plot.spaghetti("worker", x="year", units=[13])
    df = hp.datasets.load("wage_panel")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), wages.fittedvalues[df["worker"] == 13])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(1980, 1988))
    numbers = hp.predictions(wages, by="year", units="typical")
    np.testing.assert_allclose(ax.lines[1].get_ydata(), numbers["mean"])


def test_with_lags_lines_go_over_time(table: pd.DataFrame) -> None:
    fit = hp.fit("y ~ lag(x) + (1 | g)", table, panel=("g", "t"), draws=50, seed=1, progress=False)
    ax = fit.plot.spaghetti("g")
    assert ax.get_xlabel() == "t"
    assert ax.lines[0].get_xdata().tolist() == list(range(1, 9))
    with pytest.raises(hp.FitError, match="x= is a regressor or the time of panel=, not 'x'; there are: t"):
        fit.plot.spaghetti("g", x="x")
    with pytest.raises(hp.FitError, match=r"lag\(x\) looks at other periods"):
        fit.plot.predictions("x")


def test_rows_are_found_where_labels_occur_twice(table: pd.DataFrame) -> None:
    df = table.assign(y=table["y"].where(table.index > 3), x=table["x"].where(table.index < 70))
    fit = hp.fit("y ~ x + (1 | g)", df.set_index(pd.Index([0] * 72)), draws=50, seed=1, progress=False)
    points = fit.plot.predictions("x", data=True).collections[1].get_offsets()
    np.testing.assert_allclose(points, df[["x", "y"]].dropna())


# Posterior predictive checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [256, 0])
def test_replicates_are_the_responses_that_predict_draws(memory: float, table: pd.DataFrame) -> None:
    df = table.assign(w=np.linspace(0.5, 2, 72))
    fit = hp.fit("y ~ x + (x | g)", df, weights="w", draws=250, chains=4, seed=1, effects_memory=memory, progress=False)
    some = plot_ppc.replicates(fit, 1000)
    every = fit.predict(kind="response", draws=True).values.reshape(1000, 72)
    np.testing.assert_allclose(some.mean(axis=0), every.mean(axis=0), atol=0.25)
    np.testing.assert_allclose(some.std(axis=0), every.std(axis=0), rtol=0.15)
    assert plot_ppc.replicates(fit, 7).shape == (7, 72)
    small = plot_ppc.thinned(fit, 50)
    assert small.effects.lead == (4, 13)
    np.testing.assert_array_equal(small.draws("beta"), fit.draws("beta")[:, evenly(250, 13)])


@pytest.mark.parametrize("family", ["gaussian", "student_t", "bernoulli", "binomial", "poisson", "negative_binomial"])
def test_every_family_has_a_check(family: str, made: Made, table: pd.DataFrame) -> None:
    response = {"gaussian": "y", "student_t": "y", "bernoulli": "hit", "binomial": "prop(count, 12)"}
    fit = made(f"{response.get(family, 'count')} ~ x + (1 | g)", table, family=family)
    ax, y = fit.plot.ppc(), fit.design.y
    low, high = ax.get_xlim()
    assert low <= y.min() <= y.max() <= high
    if fit.spec.family.location:
        assert len(ax.lines) == 51
    else:
        edges = np.arange(y.min(), y.max() + 2) - 0.5
        assert [bar.get_height() for bar in ax.patches][: len(edges) - 1] == np.histogram(y, edges)[0].tolist()
    rooted = family in ("poisson", "negative_binomial")
    assert (ax.get_yscale() == "function") is rooted
    steps = fit.plot.ppc("ecdf", draws=5)
    assert len(steps.lines) == 6
    observed = steps.lines[-1]
    at = np.searchsorted(np.sort(y), observed.get_xdata(), side="right") / len(y)
    np.testing.assert_allclose(observed.get_ydata(), at)


def test_bars_hold_the_predicted_counts(made: Made, table: pd.DataFrame) -> None:
    fit = made("hit ~ x + (1 | g)", table, family="bernoulli")
    ax = fit.plot.ppc()
    counts = np.stack([(plot_ppc.replicates(fit, 500) == k).sum(axis=1) for k in (0, 1)])
    np.testing.assert_allclose(segments(ax.collections[0]), np.quantile(counts, [0.025, 0.975], axis=1).T)
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 1], counts.mean(axis=1))


def test_a_statistic_beside_those_predicted(made: Made, table: pd.DataFrame) -> None:
    fit = made("count ~ x + (1 | g)", table, family="poisson")
    ax = fit.plot.ppc("stat", stat="zeros")
    share = (table["count"] == 0).mean()
    assert ax.lines[0].get_xdata()[0] == pytest.approx(share)
    above = ((plot_ppc.replicates(fit, 500) == 0).mean(axis=1) >= share).mean()
    assert in_legend(ax) == [f"observed, {share:.3g}", f"predicted; {above:.2f} of them at or above"]
    own = fit.plot.ppc("stat", stat=lambda y: float(np.quantile(y, 0.9)), draws=20)
    assert own.lines[0].get_xdata()[0] == np.quantile(table["count"], 0.9)


def test_a_statistic_of_each_unit(days: Fit) -> None:
    ax = days.plot.ppc("stat", stat="mean", by="subject", draws=100)
    numbers = hp.datasets.load("sleepstudy").groupby("subject")["reaction"].mean().sort_values()
    assert labels(ax.yaxis) == [str(subject) for subject in numbers.index]
    np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 0], numbers)
    replicated = plot_ppc.replicates(days, 100)
    rows = days.design.group("subject").codes
    first = replicated[:, rows == list(days.design.group("subject").levels).index(numbers.index[0])].mean(axis=1)
    np.testing.assert_allclose(segments(ax.collections[0])[0], np.quantile(first, [0.025, 0.975]))


def test_checks_by_a_column_are_panels_of_one_scale(wages: Fit) -> None:
    axes = wages.plot.ppc(by="year", draws=5)
    assert [ax.get_title(loc="left") for ax in axes] == [f"year = {year}" for year in range(1980, 1988)]
    assert len({ax.get_xlim() for ax in axes}) == 1
    assert [len(ax.lines) for ax in axes] == [6] * 8


# Parameters -----------------------------------------------------------------------------------------------------------


def test_priors_and_posteriors_stand_on_the_priors_scale(days: Fit) -> None:
    names = ("beta[days]", "sd_subject[Intercept]", "sigma")
    for ax, name in zip(days.plot.prior_posterior(*names), names, strict=True):
        posterior, prior = ax.lines
        density = np.exp(days.spec.priors()[name].log_density(prior.get_xdata()))
        np.testing.assert_allclose(prior.get_ydata(), density)
        assert np.trapezoid(posterior.get_ydata(), posterior.get_xdata()) == pytest.approx(1, abs=0.01)
    ax = days.plot.prior_posterior("sd_subject[Intercept]")[0]
    x, y = ax.lines[0].get_data()
    assert x[np.argmax(y)] == pytest.approx(np.median(days.draws("sd_c_subject")[..., 0]), rel=0.15)
    assert [text.get_text().replace("\n", " ") for text in ax.texts] == [
        "HalfStudentT(nu=3, sigma=56.33), subject sd at days = 4.5"
    ]


def test_all_parameters_unless_named_and_twelve_at_most(days: Fit, made: Made, table: pd.DataFrame) -> None:
    titles = [ax.get_title(loc="left") for ax in days.plot.prior_posterior()]
    sds = ["sd_subject[Intercept]", "sd_subject[days]"]
    assert titles == ["beta[Intercept]", "beta[days]", *sds, "sigma"]
    assert [ax.get_title(loc="left") for ax in days.plot.trace()] == [
        *titles[:4],
        "cor_subject[Intercept, days]",
        "sigma",
    ]
    fit = made("y ~ C(t) * x + (1 | g)", table)
    axes = fit.plot.trace()
    assert len(axes) == 12
    assert [ax.get_title(loc="left") for ax in axes[-2:]] == ["sd_g[Intercept]", "sigma"]
    assert axes[0].figure.texts[0].get_text() == "Chains, 12 of 20 parameters"
    assert len(fit.plot.trace("beta", "sigma")) == 19


@pytest.mark.parametrize(("eta", "q"), [(1.0, 2), (2.0, 2), (2.0, 3), (4.0, 4)])
def test_a_correlations_prior_is_one_entry_of_lkj(eta: float, q: int) -> None:
    one = plot_chains.Parameter("cor_g[a, b]", "cor", np.zeros((1, 1)), "", hp.Prior("LKJ", eta=eta), q)
    r = np.linspace(-1, 1, 4001)
    density = plot_chains.prior_density(one, r)
    assert density is not None
    assert np.trapezoid(density, r) == pytest.approx(1, abs=1e-3)
    a = eta - 1 + q / 2  # the variance of 2 Beta(a, a) - 1
    assert np.trapezoid(density * r**2, r) == pytest.approx(1 / (2 * a + 1), abs=1e-3)


def test_traces_are_the_draws(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (x | g)", table, diverging=3)
    one, effect = fit.plot.trace("x", "b_g[c, x]")
    for chain in range(4):
        np.testing.assert_array_equal(one.lines[chain].get_ydata(), fit.draws("beta")[chain, :, 1])
        np.testing.assert_array_equal(effect.lines[chain].get_ydata(), fit.draws("b_g")[chain, :, 2, 1])
    assert one.lines[4].get_xdata().tolist() == [0, 1, 2]
    said = [text.get_text() for text in one.figure.legends[0].get_texts()]
    assert said == ["chain 1", "chain 2", "chain 3", "chain 4", "divergence (3)"]
    assert [ax.get_title(loc="left") for ax in fit.plot.trace("b_g[c]")] == ["b_g[c, Intercept]", "b_g[c, x]"]


def test_ranks_of_chains_that_agree_stay_in_the_band_and_of_others_leave_it() -> None:
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(40):
        z, difference = plot_chains.rank_differences(rng.normal(size=(4, 100)))
        inside.append(bool((np.abs(difference) <= plot_chains.envelope(4, 100)).all()))
        np.testing.assert_allclose(difference.sum(axis=0), 0, atol=1e-12)
    assert np.mean(inside) > 0.8
    z, difference = plot_chains.rank_differences(rng.normal(size=(4, 100)) + np.array([[0], [0], [0], [0.7]]))
    band = plot_chains.envelope(4, 100)
    assert (np.abs(difference[3]) > band).any()
    draws = rng.normal(size=(2, 5))
    z, difference = plot_chains.rank_differences(draws)
    below = np.sort(draws.ravel())[(z * 10).round().astype(int) - 1]
    np.testing.assert_allclose(difference[0], (draws[0][None] <= below[:, None]).mean(axis=1) - z)


def test_a_density_is_that_of_its_draws() -> None:
    rng = np.random.default_rng(1)
    x, y = plot_marks.density(rng.normal(3, 2, 100_000))
    np.testing.assert_allclose(y, np.exp(-0.5 * ((x - 3) / 2) ** 2) / np.sqrt(8 * np.pi), atol=0.004)
    x, y = plot_marks.density(rng.exponential(size=100_000), 0)
    near = (x > 0.02) & (x < 3)
    np.testing.assert_allclose(y[near], np.exp(-x[near]), atol=0.06)
    x, y = plot_marks.density(rng.standard_cauchy(100_000), window=(-3, 3))
    inner = np.abs(x) < 2.5
    np.testing.assert_allclose(y[inner], 1 / np.pi / (1 + x[inner] ** 2), atol=0.02)
    with pytest.raises(hp.FitError, match="all the same"):
        plot_marks.density(np.ones(9))


# Legibility -----------------------------------------------------------------------------------------------------------


def panels(found: Any) -> list[Any]:
    return list(np.ravel(np.asarray(found, dtype=object)))


def apart(boxes: list[Any], axis: str) -> bool:
    ordered = sorted(boxes, key=lambda box: getattr(box, f"{axis}0"))
    return all(getattr(a, f"{axis}1") <= getattr(b, f"{axis}0") + 0.5 for a, b in itertools.pairwise(ordered))


def check_legible(found: Any) -> None:
    """Tick labels stay apart, words above the axes too, and all of it stays on the paper."""
    axes = panels(found)
    figure = axes[0].figure
    figure.canvas.draw()
    page = figure.bbox
    for ax in axes:
        for axis, letter in ((ax.xaxis, "x"), (ax.yaxis, "y")):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            ticks = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
            shown = [text for text, at in ticks if text.get_text() and low - slack <= at <= high + slack]
            boxes = [text.get_window_extent() for text in shown]
            slanted = any(text.get_rotation() for text in shown)
            assert slanted or apart(boxes, letter), [text.get_text() for text in shown]
            assert all(box.x0 >= -1 and box.x1 <= page.x1 + 1 and box.y0 >= -1 for box in boxes)
        words = [text.get_window_extent() for text in [*ax.texts, ax._left_title] if text.get_text()]
        words += [ax.get_legend().get_window_extent()] if ax.get_legend() else []
        assert apart(words, "y")
        assert all(box.y0 >= ax.get_window_extent().y1 - 1 for box in words)
        assert all(box.y1 <= page.y1 + 1 and box.x1 <= page.x1 + 1 for box in words)
        for label in (ax.xaxis.label, ax.yaxis.label):
            box = label.get_window_extent()
            assert not label.get_text() or (box.x0 >= -1 and box.x1 <= page.x1 + 1 and box.y0 >= -1)
    if not axes[0].get_legend():
        above = [text.get_window_extent() for text in figure.texts] + [
            legend.get_window_extent() for legend in figure.legends
        ]
        assert apart(above, "y")
        titles = [text.get_window_extent() for ax in axes for text in [*ax.texts, ax._left_title]]
        assert min(box.y0 for box in above) >= max(box.y1 for box in titles) - 1


EVERYTHING: dict[str, Callable[[Fit], Any]] = {
    "caterpillar": lambda fit: fit.plot.caterpillar("g"),
    "totals": lambda fit: fit.plot.caterpillar("g", "x", total=True),
    "coefficients": lambda fit: fit.plot.coefficients(),
    "several": lambda fit: fit.plot.coefficients(
        {"one": fit, "another of them": fit, "a third fit of a long name": fit}
    ),
    "predictions": lambda fit: fit.plot.predictions("x", by="kind", data=True),
    "categories": lambda fit: fit.plot.predictions("kind", by="z"),
    "slopes": lambda fit: fit.plot.slopes("x", by="kind"),
    "spaghetti": lambda fit: fit.plot.spaghetti("g", "x"),
    "ppc": lambda fit: fit.plot.ppc(),
    "ppc by": lambda fit: fit.plot.ppc(by="kind"),
    "ppc stat": lambda fit: fit.plot.ppc("stat", by="g"),
    "prior_posterior": lambda fit: fit.plot.prior_posterior(),
    "trace": lambda fit: fit.plot.trace(),
    "rank": lambda fit: fit.plot.rank(),
}


@pytest.fixture(scope="module")
def sized(made: Made) -> Callable[[int, float], Fit]:
    """A function (units, size) → a fit of so many units, whose numbers are of that size."""
    fits: dict[tuple[int, float], Fit] = {}

    def of(units: int, size: float) -> Fit:
        if (units, size) not in fits:
            rng = np.random.default_rng(units)
            name = "a rather long name of a unit, number {}" if units < 10 else "{}"
            df = pd.DataFrame({"g": np.repeat([name.format(k) for k in range(units)], 6)})
            df["x"], df["z"], df["y"] = rng.normal(size=(3, len(df))) * [[1 / size], [1], [size]]
            df["kind"] = np.resize(["first", "a second category of things", "third"], len(df))
            fits[units, size] = with_source(made, "y ~ x * kind + z + (x | g)", df)
        return fits[units, size]

    return of


@pytest.mark.parametrize("size", [1.0, 1e-5, 1e7])
@pytest.mark.parametrize("plot", EVERYTHING)
def test_words_stay_apart_and_on_the_page(plot: str, size: float, sized: Callable[[int, float], Fit]) -> None:
    check_legible(EVERYTHING[plot](sized(5, size)))


@pytest.mark.parametrize("plot", ["caterpillar", "spaghetti", "ppc stat"])
@pytest.mark.parametrize("units", [50, 500])
def test_so_they_do_for_many_units(plot: str, units: int, sized: Callable[[int, float], Fit]) -> None:
    check_legible(EVERYTHING[plot](sized(units, 1.0)))


def test_names_with_dollars_and_underscores_are_only_names(made: Made, table: pd.DataFrame) -> None:
    df = table.assign(g="$" + table["g"] + "$").rename(columns={"x": "$p$", "kind": "_kind"})
    fit = with_source(made, "y ~ `$p$` + _kind + (1 | g)", df)
    ax = fit.plot.predictions("$p$", by="_kind")
    ax.figure.canvas.draw()
    assert ax.xaxis.label.get_text() == r"\$p\$"
    assert in_legend(ax)[0] == "_kind = high"
    fit.plot.caterpillar("g").figure.canvas.draw()
    fit.plot.prior_posterior()[0].figure.canvas.draw()


# Colours as they are seen without one kind of cone (Machado, Oliveira and Fernandes, 2009, severity 1).
SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(color: str, seen: Any) -> np.ndarray:
    rgb = np.array(mpl.colors.to_rgb(color))
    linear = np.clip(np.array(seen) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / [0.9505, 1, 1.089] + 1e-4)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(
    ("colors", "least"),
    [(plot_style.PALETTE, 20), (plot_style.ORDERED, 11), ((plot_style.INK, plot_style.POOLED, plot_style.LINE), 25)],
)
def test_colours_differ_for_every_eye(colors: tuple[str, ...], least: float, seen: str) -> None:
    places = [lab(color, SEEN[seen]) for color in colors]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) > least


# Axes that were given, and what cannot be shown -----------------------------------------------------------------------


def test_they_draw_where_they_are_told(made: Made, table: pd.DataFrame) -> None:
    fit = with_source(made, "y ~ x * kind + z + (x | g)", table)
    for name, draw in {
        "caterpillar": lambda ax: fit.plot.caterpillar("g", ax=ax),
        "coefficients": lambda ax: fit.plot.coefficients(ax=ax),
        "predictions": lambda ax: fit.plot.predictions("x", ax=ax),
        "slopes": lambda ax: fit.plot.slopes("x", ax=ax),
        "spaghetti": lambda ax: fit.plot.spaghetti("g", ax=ax),
        "ppc": lambda ax: fit.plot.ppc(ax=ax),
    }.items():
        figure, axes = plt.subplots(1, 2, layout="constrained")
        assert draw(axes[1]) is axes[1], name
        assert not axes[0].has_data()
        assert plt.get_fignums() == [figure.number]
        plt.close(figure)
    figure, axes = plt.subplots(1, 3)
    for found in (
        fit.plot.ppc(by="kind", ax=axes, draws=5),
        fit.plot.prior_posterior("x", "z", "sigma", axes=axes),
        fit.plot.trace("x", "z", "sigma", axes=axes),
        fit.plot.rank("x", "z", "sigma", axes=axes),
    ):
        assert list(found) == list(axes)
    assert plt.get_fignums() == [figure.number]


def test_they_draw_on_part_of_a_figure(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + z + (x | g)", table)
    figure = plt.figure(figsize=(9, 8), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    rows, panels_ = upper.subplots(1, 2), lower.subplots(1, 3)
    fit.plot.caterpillar("g", ax=rows[0])
    fit.plot.coefficients(ax=rows[1])
    fit.plot.prior_posterior("x", "z", "sigma", axes=panels_)
    figure.canvas.draw()
    beside = panels_[2].get_legend().get_window_extent()
    assert beside.x0 >= panels_[2].get_window_extent().x1 - 1
    assert beside.x1 <= figure.bbox.x1 + 1
    for ax in rows:
        legend, title = ax.get_legend().get_window_extent(), ax._left_title.get_window_extent()
        assert ax.get_window_extent().y1 - 1 <= legend.y0 <= legend.y1 <= title.y0 + 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.123"), (-0.5, "-0.5"), (1980.0, "1980"), (12345.6, "12,346"), (2.5e7, "2.5e+07"), (1e-7, "1e-07")],
)
def test_numbers_are_short_and_years_whole(value: float, text: str) -> None:
    assert plot_style.number(value) == text


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0, 0.5, 1], ["0.0", "0.5", "1.0"]),
        ([-0.25, 0, 0.25], ["−0.25", "0.00", "0.25"]),
        ([0, 2e7, 4e7], ["0", "2e7", "4e7"]),
        ([-2.5e-10, 0], ["−2.5e-10", "0.0"]),
        ([1980, 1985], ["1980", "1985"]),
        ([100000, 200000], ["100000", "200000"]),
    ],
)
def test_ticks_hold_their_power_of_ten(ticks: list[float], texts: list[str]) -> None:
    assert plot_style.written(np.array(ticks, dtype=float), np.array(ticks, dtype=float)) == texts


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: p.caterpillar("firm"), "no grouping factor 'firm' in this model; it has: g"),
        (lambda p: p.caterpillar("g", "z"), "'z' does not vary by g; what does: Intercept, x"),
        (lambda p: p.caterpillar("g", max_units=0), "max_units must be a whole number of at least 1"),
        (lambda p: p.caterpillar("g", prob=95), "prob is the probability"),
        (lambda p: p.caterpillar("g", ax=3), "ax= is a matplotlib Axes"),
        (lambda p: p.coefficients(keep="w"), "no coefficient 'w'; there are: Intercept, x, "),
        (lambda p: p.coefficients(3), "takes fits, or a mapping of them by name, not a int"),
        (lambda p: p.coefficients(p.fit, p.fit), "would both be called"),
        (lambda p: p.coefficients(names=["a", "b"]), "names= has a name for each fit, this one included: 1 of them"),
        (lambda p: p.coefficients({str(k): p.fit for k in range(7)}), "7 fits side by side cannot be told apart"),
        (lambda p: p.coefficients(per="year"), "per is 'unit' or 'sd'"),
        (lambda p: p.predictions("w"), "no column 'w'; its columns are: x, kind, z, g"),
        (lambda p: p.predictions("x", by="w"), "no column 'w'"),
        (lambda p: p.predictions("x", by="x"), "by= is another column than 'x'"),
        (lambda p: p.predictions("g"), r"g is a grouping factor.*fit.plot.caterpillar\('g'\)"),
        (lambda p: p.predictions("x", units="mine"), "units is 'typical', 'average' or 'own'"),
        (lambda p: p.predictions("x", units="own"), "units='own' shows the units that are stated"),
        (lambda p: p.predictions("x", units="own", by="g"), r"say which units of g are meant, as in at=\{'g'"),
        (lambda p: p.predictions("x", units="own", at={"g": "zz"}), "g has no unit zz"),
        (lambda p: p.predictions("x", at={"g": "a"}), "units are typical ones, so g makes no difference"),
        (lambda p: p.predictions("x", at={"z": [1, 2]}), "at= holds 'z' at one value"),
        (lambda p: p.predictions("x", at={"w": 1}), "no column 'w'"),
        (lambda p: p.predictions("x", at={"x": []}), "at= has no value of x"),
        (lambda p: p.predictions("x", by="z", at={"z": range(9)}), "9 values of z; there is room for 6"),
        (lambda p: p.predictions("x", data=p.fit.source.table), "data=True draws the rows of the fit"),
        (lambda p: p.slopes("kind"), "kind enters by levels and has no slope"),
        (lambda p: p.slopes("g"), "g is a grouping factor"),
        (lambda p: p.slopes("x", slope="dy"), "slope is one of"),
        (lambda p: p.spaghetti("g", "w"), "not 'w'; there are: x, kind, z"),
        (lambda p: p.spaghetti("g", "y"), "not 'y'; there are: x, kind, z"),
        (lambda p: p.spaghetti("g", units=["a", "zz"]), "g has no unit zz; its units are: a, b, c, d, e, f, …"),
        (lambda p: p.spaghetti("g", units=0), "units must be a whole number"),
        (lambda p: p.ppc("violin"), "kind is 'density', 'ecdf', 'bars' or 'stat', not 'violin'"),
        (lambda p: p.ppc("bars"), "a gaussian response is no count; kind='density'"),
        (lambda p: p.ppc(draws=0), "draws must be a whole number"),
        (lambda p: p.ppc("stat", stat="mode"), "stat is a function of the responses, or one of 'mean', 'sd'"),
        (lambda p: p.ppc("stat", stat=lambda y: y), "stat= must give one number"),
        (lambda p: p.ppc("stat", stat=lambda y: np.nan), "gives no number for these responses"),
        (lambda p: p.ppc(by="w"), "by= is a grouping factor or a column of the model, not 'w'"),
        (lambda p: p.ppc(by="x"), "x has 72 values, and there is room for 12; kind='stat' shows them all"),
        (lambda p: p.prior_posterior("w"), r"no parameter 'w'; there are: beta\[Intercept\], beta\[x\]"),
        (lambda p: p.prior_posterior("b_g[a]"), "no parameter"),
        (lambda p: p.trace("b_g"), r"names no effect of g; write 'b_g\[a\]' or 'b_g\[a, Intercept\]'"),
        (lambda p: p.trace("b_g[zz]"), "names no effect of g"),
        (lambda p: p.trace(3), "parameters are named by text"),
        (lambda p: p.rank("w"), "no parameter 'w'"),
        (lambda p: p.trace("x", axes=[1, 2]), "there are 1 panels and 2 axes"),
    ],
)
def test_what_cannot_be_shown_is_told(call: Callable[[Any], Any], says: str, made: Made, table: pd.DataFrame) -> None:
    fit = with_source(made, "y ~ x * kind + z + (x | g)", table)
    with pytest.raises((hp.FitError, hp.DataError), match=says):
        call(fit.plot)
    assert plt.get_fignums() == []


def test_of_other_models_too(made: Made, table: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match="a poisson response has no density; kind='bars'"):
        made("count ~ x", table, family="poisson").plot.ppc("density")
    with pytest.raises(hp.FitError, match="this model has no coefficients"):
        made("y ~ 0 + (1 | g)", table).plot.coefficients()
    with pytest.raises(hp.FitError, match="no coefficient but the intercept; drop_intercept=False"):
        made("y ~ 1", table).plot.coefficients()
    with pytest.raises(hp.FitError, match=r"sd_g\[Intercept\] is fixed at"):
        made("y ~ x + fe(g)", table).plot.prior_posterior("sd_g")
    with pytest.raises(hp.FitError, match="ranks compare chains, and this fit has one"):
        made("y ~ x", table, chains=1).plot.rank()
    with pytest.raises(hp.FitError, match="does not hold the table"):
        made("y ~ x + (1 | g)", table).plot.predictions("x")
    by_levels = with_source(made, "y ~ C(t) + (1 | g)", table)
    with pytest.raises(hp.FitError, match=r"t enters by levels.*fit.plot.predictions\('t'\) compares them"):
        by_levels.plot.slopes("t")
    with pytest.raises(hp.FitError, match="t has 9 values; choose up to 6, as in at="):
        with_source(made, "y ~ C(t) * x + (1 | g)", table).plot.predictions("x", by="t")
    with pytest.raises(hp.FitError, match="no column over which lines of g could go"):
        with_source(made, "y ~ (1 | g)", table).plot.spaghetti("g")
    assert plt.get_fignums() == []


def test_flat_priors_are_told_and_not_drawn(made: Made, table: pd.DataFrame) -> None:
    ax = made("y ~ x + (1 | g)", table, priors={"beta[x]": hp.Prior("Flat")}).plot.prior_posterior("x")[0]
    assert len(ax.lines) == 1
    assert ax.texts[0].get_text() == "Flat(), improper and not drawn"


# Images ---------------------------------------------------------------------------------------------------------------

IMAGES: dict[str, Callable[[Fit], Any]] = {
    "caterpillar": lambda fit: fit.plot.caterpillar("subject", "days", total=True),
    "coefficients": lambda fit: fit.plot.coefficients({"one": fit, "two": fit}, drop_intercept=False),
    "predictions": lambda fit: fit.plot.predictions("days", by="late", data=True),
    "slopes": lambda fit: fit.plot.slopes("days", over="late"),
    "spaghetti": lambda fit: fit.plot.spaghetti("subject"),
    "ppc": lambda fit: fit.plot.ppc(),
    "ppc_stat": lambda fit: fit.plot.ppc("stat", by="subject"),
    "prior_posterior": lambda fit: fit.plot.prior_posterior(),
    "trace": lambda fit: fit.plot.trace("beta", "sigma"),
    "rank": lambda fit: fit.plot.rank("beta", "sigma"),
    "shrinkage": lambda fit: fit.plot.shrinkage("subject", "days"),
}
# Root mean square of differences of pixels, of 255, up to which two images count as equal.
TOLERANCE = 1.5


@pytest.fixture(scope="module")
def invented(made: Made) -> Fit:
    df = hp.datasets.load("sleepstudy")
    df["late"] = np.where(df["subject"] > 340, "late", "early")
    return with_source(made, "reaction ~ days * late + (days | subject)", df)


@pytest.mark.parametrize("plot", IMAGES)
def test_image(plot: str, invented: Fit, tmp_path: Path) -> None:
    baseline, drawn = BASELINE / f"{plot}.png", tmp_path / f"{plot}.png"
    write = os.environ.get("HIERPANEL_BASELINE") == "write"
    if not write:
        with Image.open(baseline) as image:
            drawn_by = image.info["Software"].split(",")[0].removeprefix("Matplotlib version")
        if drawn_by != mpl.__version__:
            pytest.skip(f"the baseline was drawn by matplotlib {drawn_by}, and this is {mpl.__version__}")
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.family": "DejaVu Sans", "text.hinting": "none"})
        figure = panels(IMAGES[plot](invented))[0].figure
        figure.savefig(baseline if write else drawn, dpi=50, format="png")
    if not write:
        assert compare_images(str(baseline), str(drawn), TOLERANCE) is None


def test_one_interaction_has_one_row_whichever_way_it_is_spelled(made: Made, table: pd.DataFrame) -> None:
    one, two = made("y ~ x * z", table), made("y ~ z * x", table, seed=2)
    ax = one.plot.coefficients(two, names=["one", "two"])
    assert [text.get_text() for text in ax.get_yticklabels()].count("x:z") == 1
    assert "z:x" not in [text.get_text() for text in ax.get_yticklabels()]
