"""The shrinkage plot's numbers and marks, and the report as one page that needs nothing else."""

import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation

import hierpanel as hp
from hierpanel.results import unpooled
from hierpanel.results.fit import Fit

Made = Callable[..., Fit]
pytestmark = pytest.mark.usefixtures("closed")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 72
    df = pd.DataFrame({"x": rng.normal(size=n), "t": rng.normal(5, 1, n), "g": np.repeat(list("abcdefgh"), 9)})
    df["h"] = np.tile(np.arange(6), 12)
    df["y"] = 1 + df["x"] + rng.normal(size=n) + np.repeat(rng.normal(size=8), 9)
    df["hit"] = rng.integers(0, 2, n)
    df["count"] = rng.poisson(3, n)
    df["w"] = rng.uniform(0.5, 2, n)
    return df


def arrows(ax: Any) -> list[Annotation]:
    return [child for child in ax.texts if isinstance(child, Annotation)]


# Own estimates --------------------------------------------------------------------------------------------------------


def test_own_intercepts_are_the_units_means(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ (1 | g)", table)
    found = unpooled.shrinkage(fit, "g", "Intercept")
    np.testing.assert_allclose(found["own"], table.groupby("g")["y"].mean())
    np.testing.assert_allclose(found["pooled"], fit.coef("g")["mean"])
    assert found.attrs["population"] == pytest.approx(fit.params["Intercept"])
    assert found["rows"].tolist() == [9] * 8


def others(fit: Fit, group: str) -> np.ndarray:
    """Posterior mean of the linear predictor but for one factor's effects, row by row."""
    eta = fit.design.offset + fit.design.X @ fit.draws("beta").mean((0, 1))
    for design in fit.design.groups:
        if design.name != group:
            b = fit.draws(f"b_{design.name}").mean((0, 1))
            eta = eta + [z @ b[code] for z, code in zip(design.Z, design.codes, strict=True)]
    return np.asarray(eta)


@pytest.mark.parametrize(
    "formula",
    ["y ~ x + (x | g)", "y ~ x + t + (x + t | g) + (1 | h)", "y ~ (0 + x | g)", "y ~ t + (0 + x | g) + (1 | g)"],
)
@pytest.mark.parametrize("weights", [None, "w"])
def test_own_slopes_are_least_squares_unit_by_unit(
    formula: str, weights: str | None, made: Made, table: pd.DataFrame
) -> None:
    fit = made(formula, table, weights=weights)
    design = fit.design.group("g")
    left = fit.design.y - others(fit, "g")
    w = np.ones(72) if weights is None else table[weights].to_numpy()
    for k, coef in enumerate(design.coefs):
        found = unpooled.shrinkage(fit, "g", coef)
        beta = fit.params.get(coef, 0.0)
        for j in range(8):
            rows = design.codes == j
            own = np.linalg.lstsq(design.Z[rows] * w[rows, None] ** 0.5, left[rows] * w[rows] ** 0.5)[0]
            assert found["own"].iloc[j] == pytest.approx(own[k] + beta)
        np.testing.assert_allclose(found["pooled"], beta + fit.draws("b_g")[..., k].mean((0, 1)))


def test_slopes_on_calendar_years_keep_their_digits(made: Made, table: pd.DataFrame) -> None:
    shifted = table.assign(t=table["t"] + 2000)
    own, far = (unpooled.shrinkage(made("y ~ (t | g)", df), "g", "t")["own"] for df in (table, shifted))
    np.testing.assert_allclose(far, own, rtol=1e-8)


def test_units_whose_rows_cannot_tell_are_left_out(made: Made, table: pd.DataFrame) -> None:
    few = table.assign(x=table["x"].where(table["g"] != "c", 0.5))  # c: x does not vary
    few = few[(few["g"] != "b") | (few["h"] == 0)].iloc[1:]  # b has one or two rows
    few = few[(few["g"] != "b") | ~few["g"].duplicated()]
    fit = made("y ~ x + (x | g)", few)
    found = unpooled.shrinkage(fit, "g", "x")["own"]
    assert found.index[found.isna()].tolist() == ["b", "c"]
    ax = fit.plot.shrinkage("g", "x")
    assert len(arrows(ax)) == 6
    assert ax.get_ylabel() == "g (6 of 8)"
    assert not {"b", "c"} & {label.get_text() for label in ax.get_yticklabels()}


FAMILIES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "bernoulli": ("hit", lambda e: 1 / (1 + np.exp(-e))),
    "bernoulli(cloglog)": ("hit", lambda e: 1 - np.exp(-np.exp(e))),
    "poisson": ("count", np.exp),
    "binomial": ("prop(count, 30)", lambda e: 30 / (1 + np.exp(-e))),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_with_a_link_own_totals_are_the_observed_ones(family: str, made: Made, table: pd.DataFrame) -> None:
    response, expected = FAMILIES[family]
    fit = made(f"{response} ~ x + offset(w) + (1 | g) + (x | h)", table, family=family)
    own = unpooled.shrinkage(fit, "g", "Intercept")["own"]
    shift = own.to_numpy()[fit.design.group("g").codes] - fit.params["Intercept"]
    totals = pd.Series(expected(others(fit, "g") + shift)).groupby(table["g"]).sum()
    np.testing.assert_allclose(totals, pd.Series(fit.design.y).groupby(table["g"]).sum())
    assert fit.spec.family.link.name in fit.plot.shrinkage("g").get_xlabel()


def test_without_covariates_it_is_the_link_of_the_units_mean(made: Made, table: pd.DataFrame) -> None:
    table = table.assign(hit=table["hit"].where(table["g"] != "c", 0).where(table["g"] != "d", 1))
    own = unpooled.shrinkage(made("hit ~ (1 | g)", table, family="bernoulli"), "g", "Intercept")["own"]
    assert own.index[own.isna()].tolist() == ["c", "d"]
    share = table.groupby("g")["hit"].mean().drop(["c", "d"])
    np.testing.assert_allclose(own.dropna(), np.log(share / (1 - share)))
    counts = table.assign(count=table["count"].where(table["g"] != "c", 0))
    own = unpooled.shrinkage(made("count ~ (1 | g)", counts, family="poisson"), "g", "Intercept")["own"]
    np.testing.assert_allclose(own.drop("c"), np.log(counts.groupby("g")["count"].mean().drop("c")))
    assert np.isnan(own["c"])


# Marks ----------------------------------------------------------------------------------------------------------------


def test_an_arrow_for_each_unit_from_its_own_estimate_to_its_posterior_mean(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (x | g)", table)
    ax = fit.plot.shrinkage("g", "x")
    numbers = unpooled.shrinkage(fit, "g", "x").sort_values("own")
    assert [label.get_text() for label in ax.get_yticklabels()] == list(numbers.index)
    np.testing.assert_allclose([arrow.xyann[0] for arrow in arrows(ax)], numbers["own"])
    np.testing.assert_allclose([arrow.xy[0] for arrow in arrows(ax)], numbers["pooled"])
    assert [arrow.xy[1] for arrow in arrows(ax)] == list(range(8))
    own, pooled = (np.asarray(marks.get_offsets()) for marks in ax.collections)
    np.testing.assert_allclose(own[:, 0], numbers["own"])
    np.testing.assert_allclose(pooled[:, 0], numbers["pooled"])
    assert ax.lines[0].get_xdata()[0] == pytest.approx(fit.params["x"])
    assert ax.get_title(loc="left") == "Shrinkage of x by g"
    assert ax.get_xlabel() == "x: beta + b (y per unit of x)"


def test_it_takes_the_first_column_and_draws_where_it_is_told(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (x | g)", table)
    figure, axes = plt.subplots(1, 2)
    assert fit.plot.shrinkage("g", ax=axes[1]) is axes[1]
    assert axes[1].get_xlabel().startswith("Intercept")
    assert len(arrows(axes[1])) == 8
    assert not axes[0].has_data()
    assert plt.get_fignums() == [figure.number]


def test_many_units_are_thinned_evenly_ends_included(made: Made) -> None:
    df = hp.datasets.load("wage_panel")
    fit = made("log_wage ~ experience + (1 + experience | worker)", df, draws=20, chains=2)
    ax = fit.plot.shrinkage("worker")
    numbers = unpooled.shrinkage(fit, "worker", "Intercept")["own"].sort_values()
    shown = [int(label.get_text()) for label in ax.get_yticklabels()]
    assert len(shown) == len(arrows(ax)) == 60
    assert (shown[0], shown[-1]) == (numbers.index[0], numbers.index[-1])
    assert ax.get_ylabel() == "worker (60 of 545)"
    assert len(arrows(fit.plot.shrinkage("worker", max_units=7))) == 7


def test_dollars_in_names_are_no_mathematics(made: Made, table: pd.DataFrame) -> None:
    of_income = table.assign(g="$" + table["g"] + "^$").rename(columns={"g": "$g", "x": "$x^"})
    ax = made("y ~ `$x^` + (`$x^` | `$g`)", of_income, draws=20).plot.shrinkage("$g", "$x^")
    ax.figure.canvas.draw()
    texts = [ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left"), *(t.get_text() for t in ax.get_yticklabels())]
    assert all(r"\$" in text and not re.search(r"(?<!\\)\$", text) for text in texts)


def test_a_factor_may_have_the_name_of_a_column_of_the_table(made: Made, table: pd.DataFrame) -> None:
    ax = made("y ~ (1 | own)", table.rename(columns={"g": "own"}), draws=20).plot.shrinkage("own")
    own = ax.collections[0].get_offsets()[:, 0]
    assert (np.diff(own) > 0).all()


@pytest.mark.parametrize("units", [2, 6, 18, 50])
def test_labels_stay_apart_and_inside(units: int, made: Made) -> None:
    rng = np.random.default_rng(units)
    long = [f"the county of a rather long name, number {k}" for k in range(units)]
    df = pd.DataFrame({"y": rng.normal(size=units * 4), "g": np.repeat(long, 4)})
    ax = made("y ~ (1 | g)", df, draws=20).plot.shrinkage("g")
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(low.y1 <= high.y0 + 0.5 for low, high in itertools.pairwise(boxes))
    assert all(box.x0 >= 0 for box in boxes)
    legend, title = ax.get_legend().get_window_extent(), ax._left_title.get_window_extent()
    assert legend.y0 >= ax.get_window_extent().y1 - 1
    assert title.y0 >= legend.y1 - 1
    assert title.y1 <= ax.figure.bbox.y1
    assert len({label.get_text() for label in ax.get_yticklabels()}) == units


def test_what_cannot_be_shown_is_told(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x + (x | g)", table)
    with pytest.raises(hp.FitError, match="'t' does not vary by g; what does: Intercept, x"):
        fit.plot.shrinkage("g", "t")
    with pytest.raises(hp.DataError, match="no grouping factor 'firm' in this model; it has: g"):
        fit.plot.shrinkage("firm")
    for units in (0, -3, 2.5, "all"):
        with pytest.raises(hp.FitError, match="max_units must be a whole number of at least 1"):
            fit.plot.shrinkage("g", max_units=units)
    with pytest.raises(hp.FitError, match=r"family poisson.*varying intercept alone, \(1 \| g\); coef\('g'\) holds"):
        made("count ~ (x | g)", table, family="poisson").plot.shrinkage("g")
    single = made("y ~ x + (x | row)", table.assign(row=np.arange(72)))
    with pytest.raises(hp.FitError, match="no row has rows enough for an estimate of x"):
        single.plot.shrinkage("row", "x")
    assert plt.get_fignums() == []


# Report ---------------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Tags in order, and that each that is opened is closed."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def written(fit: Fit, folder: Path) -> str:
    fit.report(folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_page_that_needs_nothing_else(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    page = written(made("y ~ x + (x | g) + (1 | h)", table.assign(x=table["x"].where(table.index > 1))), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "http" not in page
    assert "<script" not in page
    tags = Tags(page)
    sources = [value for _, name, value in tags.attributes if name in ("src", "href")]
    assert len(sources) == 10
    assert all((source or "").startswith("data:image/png;base64,") for source in sources)
    assert ("meta", "content", "width=device-width, initial-scale=1") in tags.attributes
    text = " ".join(" ".join(tags.text).split())
    for said in (
        "70 used, 2 dropped (missing: x in 2)", "What was estimated", "8 g: varying Intercept, x for each, correlated",
        "beta[Intercept]", "What they imply before the data", "ICC g",
        "4 chains of 250 draws, 0 divergences, largest R̂ 1.0",
    ):  # fmt: skip
        assert said in text
    assert plt.get_fignums() == []


def test_the_report_escapes_names(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    nasty = "<img src=x onerror='alert(1)'> & \"co\""
    df = table.assign(g=table["g"] + nasty, f=np.where(table["h"] > 2, nasty, "0")).rename(columns={"x": nasty})
    page = written(made(f"y ~ `{nasty}` + f + (f | g)", df), tmp_path)
    tags = Tags(page)
    assert "onerror" not in {name for _, name, _ in tags.attributes}
    assert {(value or "")[:5] for tag, name, value in tags.attributes if tag == "img" and name == "src"} == {"data:"}
    assert nasty in "".join(tags.text)


def test_the_report_is_legible_on_a_phone(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    page = written(made("y ~ x + (x | g)", table), tmp_path)
    images = re.findall(r'<p class="scroll"><img [^>]*style="min-width:(\d+)px"', page)
    assert len(images) == page.count("<img ")
    # of 6 to 7.5 inches with letters of 8 points; on a page that is narrower they scroll
    assert all(400 <= int(width) <= 510 for width in images)
    assert '<div class="scroll priors"><table' in page
    assert (
        page.index('class="scroll priors"') < page.index("What they imply") < page.index('<div class="scroll"><table')
    )
    assert "nth-child(3)" not in page


def test_nothing_is_cut_off_in_the_reports_priors(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    fit = made("y ~ x + t + w + (x + t + w | g)", table)
    text = " ".join("".join(Tags(written(fit, tmp_path)).text).split())
    assert "..." not in text
    mean = table[["x", "t", "w"]].mean()
    assert f"g sd at x = {mean['x']:.3g}, t = {mean['t']:.3g}, w = {mean['w']:.3g}" in text


@pytest.mark.parametrize(
    ("formula", "options", "says"),
    [
        ("y ~ x", {}, ""),
        ("y ~ 0 + (1 | g)", {}, ""),
        ("y ~ x + fe(g)", {}, ""),
        ("hit ~ 1", {"family": "bernoulli"}, ""),
        ("hit ~ x + (x + t | g)", {"family": "bernoulli"}, "With family bernoulli, units' own estimates"),
        ("y ~ x + (x | row)", {}, "No row has rows enough for an estimate of x of its own"),
        ("y ~ x + (1 | g)", {"chains": 1}, "With one chain R̂ cannot be computed"),
        ("y ~ x + (1 | g)", {"draws": 3}, "4 chains of 3 draws, 0 divergences; 1.00 s compiling"),
        ("y ~ x + (1 | g)", {"priors": {"beta": hp.Prior("Flat")}}, ""),
    ],
)
def test_every_model_has_a_report(
    formula: str, options: Any, says: str, made: Made, table: pd.DataFrame, tmp_path: Path
) -> None:
    page = written(made(formula, table.assign(row=np.arange(72)), **{"draws": 20, **options}), tmp_path)
    text = " ".join("".join(Tags(page).text).split())
    assert says in text
    assert text.count("units' own estimates") <= 1
    assert "nan" not in re.sub(r"[^ ]*\d[^ ]*", "", text).lower().split()


def test_the_report_of_a_sampled_fit_opens_with_its_formula(slopes: Fit, tmp_path: Path) -> None:
    page = written(slopes, tmp_path)
    assert "<h1>reaction ~ days + (days | subject)</h1>" in page
    # coefficients, predictions, two of each of two columns by unit, predictive check, priors, ranks
    assert page.count("<img ") == 9
    assert len(page) < 1_000_000
