"""Words fit where plots are small and names are long, names stay apart, and axes show what most units have."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.results import plot_chains, plot_ppc, plot_text
from hierpanel.results.fit import Fit

Made = Callable[..., Fit]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def schools() -> pd.DataFrame:
    rng, n = np.random.default_rng(0), 240
    names = [f"Lycée international de Saint-Germain-en-Laye, section britannique no. {k}" for k in range(12)]
    df = pd.DataFrame({"school": np.repeat(names, 20), "year": np.tile(range(2000, 2020), 12)})
    df["x"], df["treated"] = rng.normal(50, 10, n), rng.random(n) < 0.5
    df["region"] = rng.choice(["north_east", "south & west", "50% mid", "#4"], n)
    sectors = ["manufacturing of steel goods", "wholesale of foods and meats", "public administration etc."]
    df["sector"] = rng.choice(sectors, n)
    df["y"] = 0.3 * df["x"] + rng.normal(0, 3, n) + rng.normal(0, 2, 12).repeat(20)
    df["won"] = rng.integers(0, 2, n)
    df["count"] = rng.poisson(3, n)
    return df


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """Sixty units of plain names."""
    rng = np.random.default_rng(3)
    return pd.DataFrame({"y": rng.normal(size=240), "worker": np.repeat(np.arange(1001, 1061), 4)})


def of(formula: str, df: pd.DataFrame, family: str = "gaussian") -> Fit:
    """A short fit that knows its table."""
    return hp.fit(formula, df, family=family, draws=50, tune=200, chains=2, seed=1, progress=False)


def box(text: Any) -> Any:
    return text.get_window_extent()


def on_paper(ax: Any) -> bool:
    """Draw; whether titles, labels and the legend lie within the figure."""
    figure = ax.get_figure(root=True)
    figure.canvas.draw()
    words = [text for text in (ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.texts) if text.get_text()]
    words += [ax.get_legend()] if ax.get_legend() else []
    page = figure.bbox
    return all(
        page.x0 - 1 <= one.x0 and one.x1 <= page.x1 + 1 and page.y0 - 1 <= one.y0 and one.y1 <= page.y1 + 1
        for one in map(box, words)
    )


def gaps(axis: Any) -> list[float]:
    """Points between neighbours' tick labels along an axis, those outside it aside."""
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    pairs = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
    boxes = [box(text) for text, at in pairs if low <= at <= high and text.get_text()]
    letter = axis.axis_name
    ordered = sorted(boxes, key=lambda one: getattr(one, f"{letter}0"))
    found = [getattr(b, f"{letter}0") - getattr(a, f"{letter}1") for a, b in itertools.pairwise(ordered)]
    return [gap * 72 / axis.figure.dpi for gap in found]


# Small axes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", ["shrinkage", "caterpillar"])
@pytest.mark.parametrize("units", [12, 60])
def test_units_fit_into_small_axes(plot: str, units: int, made: Made, many: pd.DataFrame) -> None:
    figure, ax = plt.subplots(figsize=(3.3, 2.6), layout="constrained")
    getattr(made("y ~ (1 | worker)", many).plot, plot)("worker", ax=ax, max_units=units)
    assert on_paper(ax)
    assert ax.bbox.width > 0.6 * figure.bbox.width
    assert ax.bbox.height > 0.3 * figure.bbox.height
    assert (len(ax.get_yticks()) == 12) == (units == 12)
    assert all(gap >= 0 for gap in gaps(ax.yaxis))


def test_in_a_grid_nothing_runs_into_the_neighbour(made: Made, schools: pd.DataFrame) -> None:
    fit = made("y ~ (1 | school)", schools)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7))
    for ax in axes.flat:
        fit.plot.shrinkage("school", ax=ax)
    figure.tight_layout()
    figure.canvas.draw()
    for left, right in axes:
        assert left.get_tightbbox().x1 <= min(box(text).x0 for text in right.get_yticklabels())
        assert left.bbox.width > 0.2 * figure.bbox.width


@pytest.mark.parametrize("layout", ["constrained", "tight"])
def test_names_of_rows_fit_what_a_layout_leaves(layout: Any, made: Made, schools: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 + x | school)", schools)
    axes = plt.subplots(2, 2, figsize=(8, 6), layout=layout)[1]
    for ax in axes.flat:
        fit.plot.caterpillar("school", "x", ax=ax)
    for ax in axes.flat:
        assert on_paper(ax)
        assert all(gap >= -0.5 for gap in gaps(ax.yaxis))


@pytest.mark.parametrize("plot", ["rank", "prior_posterior", "trace"])
def test_titles_of_panels_stay_in_their_panels(plot: str, made: Made, schools: pd.DataFrame) -> None:
    panels = getattr(made("y ~ x + treated + (1 + region | school)", schools).plot, plot)()
    panels[0].figure.canvas.draw()
    titles = [ax._left_title for ax in panels]
    for title, ax in zip(titles, panels, strict=True):
        assert box(title).x1 <= ax.bbox.x1 + 4
        assert title.get_text().count("\n") <= 1
    assert len({title.get_text() for title in titles}) == len(panels)
    assert all(on_paper(ax) for ax in panels)


def test_a_figure_grows_with_the_rows_of_its_legend(made: Made, schools: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | school)", schools, chains=8)
    (ax,) = fit.plot.rank("x")
    ax.figure.canvas.draw()
    assert ax.bbox.height / ax.figure.dpi > 1.1
    assert box(ax.figure.legends[0]).y0 >= box(ax._left_title).y1
    assert box(ax.figure.legends[0]).x1 <= ax.figure.bbox.x1


# Labels and ticks -----------------------------------------------------------------------------------------------------


def test_labels_of_axes_stay_on_paper(made: Made, schools: pd.DataFrame) -> None:
    renamed = schools.rename(columns={"x": "AVERAGE_MONTHLY_INCOME_OF_HOUSEHOLDS", "won": "PARTICIPATES_IN_PROGRAMME"})
    formula = "PARTICIPATES_IN_PROGRAMME ~ AVERAGE_MONTHLY_INCOME_OF_HOUSEHOLDS + (1 + {} | school)"
    fit = made(formula.format("AVERAGE_MONTHLY_INCOME_OF_HOUSEHOLDS"), renamed, family="bernoulli")
    assert on_paper(fit.plot.caterpillar("school", "AVERAGE_MONTHLY_INCOME_OF_HOUSEHOLDS"))
    assert on_paper(fit.plot.coefficients())
    assert on_paper(made("won ~ x + (1 + x | school)", schools, family="bernoulli").plot.caterpillar("school", "x"))


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e5])
def test_numbers_below_rows_stay_apart(size: float, made: Made, schools: pd.DataFrame) -> None:
    fit = made("y ~ x * treated + (1 + x * treated | school)", schools.assign(y=size * schools["y"]))
    for ax in (
        fit.plot.caterpillar("school", "x", total=True),
        fit.plot.shrinkage("school", "x"),
        fit.plot.coefficients(),
    ):
        assert len(gaps(ax.xaxis)) >= 1
        assert min(gaps(ax.xaxis)) >= 4


def test_names_below_categories_stay_apart(schools: pd.DataFrame) -> None:
    years = of("y ~ C(year) + (1 | school)", schools).plot.predictions("year")
    years.figure.canvas.draw()
    assert all(label.get_rotation() == 35 for label in years.get_xticklabels())
    sectors = of("y ~ sector + (1 | school)", schools).plot.predictions("sector")
    assert min(gaps(sectors.xaxis)) >= 4
    assert [label.get_text().replace("\n", " ") for label in sectors.get_xticklabels()] == sorted(set(schools.sector))


@pytest.mark.parametrize("highest", [3.0, 9.5, 10.6, 11.0, 25.0, 99.0, 105.0, 1e4])
def test_square_root_ticks_stay_apart(highest: float) -> None:
    found = np.sqrt(plot_ppc.square_ticks(highest, 0.15)) / np.sqrt(highest)
    assert np.diff(found).min() >= 0.15
    assert found[0] == 0
    assert found[-1] >= 0.7


# Axes that show what there is -----------------------------------------------------------------------------------------


def test_a_few_far_estimates_do_not_flatten_the_others(made: Made) -> None:
    rng = np.random.default_rng(2)
    df = pd.DataFrame({"g": np.repeat(np.arange(30), 4), "y": rng.normal(size=120)})
    plain = made("y ~ (1 | g)", df).plot.shrinkage("g")
    assert len(plain.get_legend().get_texts()) == 3
    df.loc[df["g"] == 7, "y"] += 500
    df.loc[df["g"] == 8, "y"] -= 900
    fit = made("y ~ (1 | g)", df)
    ax = fit.plot.shrinkage("g")
    low, high = ax.get_xlim()
    pooled = fit.coef("g")["mean"]
    assert high - low < 20 + np.ptp(pooled)
    assert low < pooled.min() < pooled.max() < high
    assert ax.get_legend().get_texts()[-1].get_text() == "own estimate beyond the axis (2)"
    heads = {line.get_marker(): line.get_ydata().tolist() for line in ax.lines[1:]}
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert heads == {"<": [names.index("8")], ">": [names.index("7")]}


def test_positive_parameters_of_heavy_tails_have_a_log_axis(made: Made, schools: pd.DataFrame) -> None:
    fit = made("count ~ x + (1 | school)", schools, family="negative_binomial")
    rng = np.random.default_rng(1)
    fit.idata["posterior"]["alpha"].values[:] = np.exp(rng.normal(3, 4, fit.draws("alpha").shape))
    (ax,) = fit.plot.prior_posterior("alpha")
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "alpha, log scale"
    posterior, prior = ax.lines
    x, y = posterior.get_data()
    assert np.trapezoid(y, np.log(x)) == pytest.approx(1, abs=0.01)
    assert np.log(x[np.argmax(y)]) == pytest.approx(3, abs=2)
    places = prior.get_xdata()
    np.testing.assert_allclose(prior.get_ydata(), np.exp(fit.spec.priors()["alpha"].log_density(places)) * places)
    assert fit.plot.trace("alpha")[0].get_yscale() == "log"
    assert fit.plot.trace("x")[0].get_yscale() == "linear"


def test_heavy_tails_on_both_sides_do_not_empty_a_panel(made: Made, schools: pd.DataFrame) -> None:
    fit = made("y ~ x + (1 | school)", schools)
    name = plot_chains.parameters(fit, ["x"], "prior")[0][0]
    draws = np.random.default_rng(1).standard_cauchy(fit.draws("beta").shape[:2])
    source = next(
        k for k, v in fit.idata["posterior"].data_vars.items() if np.array_equal(v.values[..., 1], name.draws)
    )
    fit.idata["posterior"][source].values[..., 1] = draws
    low, high = fit.plot.prior_posterior("x")[0].get_xlim()
    assert high - low < 5 * np.subtract(*np.quantile(draws, [0.99, 0.01]))


# Names ----------------------------------------------------------------------------------------------------------------


def test_shortened_names_stay_apart() -> None:
    names = [f"Department of {what}, University of California, Berkeley" for what in ("Economics", "Law")]
    assert plot_text.shortened(names) == ["…Economics, University of C…", "…Law, University of Califor…"]
    inner = [f"a long beginning {k} and a long end" for k in ("x" * 20 + "1" + "x" * 20, "x" * 20 + "2" + "x" * 20)]
    assert len(set(plot_text.shortened(inner))) == 2
    assert plot_text.shortened(["a" * 40, "a" * 40, "b"]) == [f"{'a' * 14}…{'a' * 13}"] * 2 + ["b"]
    assert plot_text.shortened(["short", "names"]) == ["short", "names"]


def test_both_parts_of_an_interaction_stay() -> None:
    (name,) = plot_text.shortened(["experience_of_the_teacher:share_of_pupils_from_abroad"])
    assert name == "experi…eacher:share_o…abroad"
    assert plot_text.shortened(["x:share_of_pupils_from_abroad_at_large"]) == ["x:share_of_pupi…oad_at_large"]


def test_units_of_one_plot_have_names_of_their_own(made: Made, schools: pd.DataFrame) -> None:
    subjects = ["Economics", "Law", "Statistics", "Physics", "Music", "Art", "History", "Biology", "Logic", "Latin"]
    df = schools.iloc[:200].assign(
        school=np.repeat([f"Department of {what}, University of California, Berkeley" for what in subjects], 20)
    )
    fit = made("y ~ (1 | school)", df)
    for ax in (fit.plot.caterpillar("school"), fit.plot.shrinkage("school")):
        assert len({label.get_text() for label in ax.get_yticklabels()}) == 10


def test_lines_are_as_long_as_their_room() -> None:
    text = "AVERAGE_MONTHLY_INCOME_OF_HOUSEHOLDS per unit of Participation"
    lines = plot_text.wrapped(text, 120, 10).split("\n")
    assert all(plot_text.width(line, 10) <= 120 for line in lines)
    assert lines[0].endswith("_")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert plot_text.wrapped("", 120, 10) == ""


# Marks that do not hide one another -----------------------------------------------------------------------------------


def test_an_ecdf_of_hits_jumps_at_0_and_at_1(made: Made, schools: pd.DataFrame) -> None:
    ax = made("won ~ x + (1 | school)", schools, family="bernoulli").plot.ppc("ecdf")
    x, y = ax.lines[-1].get_data()
    np.testing.assert_allclose(x, [-1, 0, 1, 2])
    np.testing.assert_allclose(y, [0, (schools["won"] == 0).mean(), 1, 1])
    assert all(tick == int(tick) for tick in ax.get_xticks())


def test_bars_stay_below_the_upper_edge(made: Made, schools: pd.DataFrame) -> None:
    ax = made("count ~ 1", schools, family="poisson").plot.ppc()
    top = max(path.vertices[:, 1].max() for path in ax.collections[0].get_paths())
    top = max(top, *(bar.get_height() for bar in ax.patches))
    ends = ax.transData.transform([(0, top), (0, ax.get_ylim()[1])])[:, 1]
    assert ends[1] - ends[0] > 0.04 * ax.bbox.height


def test_intervals_of_categories_show_beside_their_markers(schools: pd.DataFrame) -> None:
    ax = of("y ~ sector + (1 | school)", schools).plot.predictions("sector", data=True)
    ends = np.sort([line.get_ydata() for line in ax.lines if line.get_marker() == "_"], axis=0)
    np.testing.assert_allclose(ends.T, [path.vertices[:, 1] for path in ax.collections[0].get_paths()])


def test_units_that_are_chosen_are_named(schools: pd.DataFrame) -> None:
    fit = of("y ~ x + (1 + x | school)", schools.assign(school=schools["school"].str[-2:].str.strip()))
    ax = fit.plot.spaghetti("school", units=["3", "11"])
    assert [text.get_text() for text in ax.get_legend().get_texts()][:3] == ["school 3", "school 11", "population"]
    assert ax.lines[0].get_color() != ax.lines[1].get_color()
    assert fit.plot.spaghetti("school", units=2).get_legend().get_texts()[0].get_text() == "each school"


# Words ----------------------------------------------------------------------------------------------------------------


def test_slopes_say_what_they_are_of(schools: pd.DataFrame) -> None:
    counts = of("count ~ x + (1 | school)", schools, "poisson").plot.slopes("x")
    assert counts.get_ylabel() == "d E[count] / d x"
    assert counts.get_title(loc="left") == "Slope of expected count in x, by x"
    constant = of("y ~ x + treated + (1 | school)", schools)
    assert constant.plot.slopes("x").get_title(loc="left") == "Slope of y in x"
    assert constant.plot.slopes("x", by="treated").get_title(loc="left") == "Slope of y in x, by treated"
    assert constant.plot.slopes("x", over="treated").get_title(loc="left") == "Slope of y in x, by treated"
    bent = of("y ~ x + I(x ** 2) + (1 | school)", schools)
    assert bent.plot.slopes("x").get_title(loc="left") == "Slope of y in x, by x"


def test_shrinkage_says_its_unit(made: Made, schools: pd.DataFrame) -> None:
    assert made("y ~ (1 | school)", schools).plot.shrinkage("school").get_xlabel() == "Intercept: beta + b (y)"
    hits = made("won ~ (1 | school)", schools, family="bernoulli")
    assert hits.plot.shrinkage("school").get_xlabel() == "Intercept: beta + b (logit of won)"
