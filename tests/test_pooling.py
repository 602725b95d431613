"""Fixed against random effects, shrinkage of units, the three poolings and sums of effects, against draws by hand."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.compiler import totals as sums
from hierpanel.errors import DataError, FitError, FormulaError, HierpanelError
from hierpanel.inference import effects
from hierpanel.results import loo
from hierpanel.results.fit import Fit

Array = np.ndarray
Made = Callable[..., Fit]
PANEL = ("unit", "year")
STACKED = pd.read_csv(Path(__file__).parent / "reference/panel_data.csv")


def panel() -> pd.DataFrame:
    """40 units of 2 to 9 years: x, z, d and two factors vary within units, c and region do not."""
    df = STACKED[STACKED["table"] == "unbalanced"].drop(columns="table").reset_index(drop=True)
    rng = np.random.default_rng(1)
    df["job"] = rng.choice(["clerk", "driver", "cook"], len(df))
    df["place"] = np.where(rng.random(len(df)) < 0.5, "home", "office (shared)")
    df["count"] = rng.poisson(np.exp(0.3 * df["d"] + 0.2))
    df["region"] = df["unit"] % 7
    df["x squared"] = df["x"] ** 2
    df["few"] = np.minimum(df["unit"], 6)  # the last has most of the rows
    return df


DATA = panel()


@cache
def fitted(
    formula: str,
    weights: str | None = None,
    memory: float = 256,
    draws: int = 250,
    flat: bool = False,
    given: Any = None,
) -> Fit:
    """A fit of `DATA` by the marginal route."""
    return hp.fit(
        formula,
        DATA,
        panel=PANEL,
        weights=weights,
        priors={"beta": hp.Prior("Flat")} if flat else dict(given or ()),
        effects_memory=memory,
        draws=draws,
        method="marginal",
        seed=1,
        progress=False,
        env={},
    )


def draws_of(fit: Fit, coef: str) -> Array:
    """Draws (S,) of one coefficient."""
    return fit.draws("beta")[..., fit.spec.coefs.index(coef)].ravel()


class Text(HTMLParser):
    """The text of a page, and the tags that are open at its end."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.tags, self.open = "", set[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# Fixed or random effects ----------------------------------------------------------------------------------------------


SPLIT = "y ~ mundlak(x + z + d) + c + (1 | unit)"


def test_the_table_is_that_of_the_draws() -> None:
    fit = fitted(SPLIT)
    found = fit.fe_vs_re(prob=0.9)
    assert list(found.table.index) == ["x", "z", "d"]
    columns = ["within", "between", "mean", "sd", "lower", "upper", "p_pos", "rope", "p_rope"]
    assert (list(found.table.columns), found.table.columns.name) == (columns, "90 % equal-tailed")
    for x, row in found.table.iterrows():
        within, between = draws_of(fit, f"within({x})"), draws_of(fit, f"between({x})")
        difference = between - within
        # a tenth of the response's sd for one sd of the regressor
        rope = 0.1 * DATA["y"].std() / DATA[x].std(ddof=0)
        expected = [
            within.mean(),
            between.mean(),
            difference.mean(),
            difference.std(ddof=1),
            *np.quantile(difference, [0.05, 0.95]),
            (difference > 0).mean(),
            rope,
            (np.abs(difference) < rope).mean(),
        ]
        np.testing.assert_allclose(row.to_numpy(float), expected, rtol=1e-10, atol=1e-12, err_msg=x)
    assert (found.df, found.table.shape[0]) == (3, 3)
    assert "95 %" in str(fit.fe_vs_re())


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        (0.25, {"x": 0.25, "z": 0.25, "d": 0.25}),
        (1, {"x": 1.0, "z": 1.0, "d": 1.0}),
        (np.float64(0.5), {"x": 0.5, "z": 0.5, "d": 0.5}),
        ({"z": 0.2}, {"z": 0.2}),
        ({"x": 0.1, "z": 0.2, "d": 3}, {"x": 0.1, "z": 0.2, "d": 3.0}),
        ({}, {}),
    ],
)
def test_ropes_are_those_stated_and_defaults_elsewhere(rope: Any, expected: Mapping[str, float]) -> None:
    fit = fitted(SPLIT)
    default, table = fit.fe_vs_re().table, fit.fe_vs_re(rope).table
    assert table["rope"].to_dict() == default["rope"].to_dict() | dict(expected)
    for x, row in table.iterrows():
        difference = draws_of(fit, f"between({x})") - draws_of(fit, f"within({x})")
        assert row["p_rope"] == (np.abs(difference) < row["rope"]).mean()
    pd.testing.assert_frame_equal(table.drop(columns=["rope", "p_rope"]), default.drop(columns=["rope", "p_rope"]))


@pytest.mark.parametrize("rope", [np.int64(1), np.float32(0.5)])
def test_a_rope_may_be_a_number_of_numpy(rope: Any) -> None:
    assert (fitted(SPLIT).fe_vs_re(rope).table["rope"] == float(rope)).all()


def test_beside_x_itself_the_unit_mean_has_the_difference() -> None:
    """Two ways to write one model (under flat priors, which are the same for both)."""
    apart, beside = (
        fitted(f"y ~ {regressors} + (1 | unit)", draws=1000, flat=True)
        for regressors in ("mundlak(x + z)", "x + between(x) + between(z) + z")
    )
    a, b = apart.fe_vs_re().table, beside.fe_vs_re().table
    assert list(a.index) == list(b.index) == ["x", "z"]
    for column in ("within", "between", "mean", "lower", "upper"):
        assert ((a[column] - b[column]).abs() < 0.15 * a["sd"]).all(), column
    np.testing.assert_allclose(b["sd"], a["sd"], rtol=0.08)
    np.testing.assert_allclose(b["rope"], a["rope"], rtol=1e-12)
    np.testing.assert_allclose(b["within"] + b["mean"], b["between"], rtol=1e-12)
    at = {"sd_unit": 0.4, "sigma": 0.6}
    assert apart.fe_vs_re(at=at).statistic == pytest.approx(beside.fe_vs_re(at=at).statistic, rel=1e-10)


# regressors, and those that are compared
PAIRS = {
    "y ~ mundlak(x + job) + (1 | unit)": ["x", "job[cook]", "job[driver]"],
    "y ~ job + between(job) + (1 | unit)": ["job[cook]", "job[driver]"],
    "y ~ mundlak(place) + (1 | unit)": ["place[office (shared)]"],
    "y ~ place + between(place) + (1 | unit)": ["place[office (shared)]"],
    "y ~ mundlak(I(x ** 2) + exp(d)) + (1 | unit)": ["I(x ** 2)", "exp(d)"],
    "y ~ mundlak(lag(x)) + (1 | unit)": ["lag(x)"],
    "y ~ mundlak(`x squared`) + (1 | unit)": ["x squared"],
    "y ~ `x squared` + between(`x squared`) + (1 | unit)": ["x squared"],
    "y ~ within(x, by=unit) + between(x, by=unit) + (1 | unit)": ["x"],
    "y ~ mundlak(x) + z + between(d) + (1 | unit)": ["x"],
    "y ~ mundlak(x) + within(x):c + between(x):c + (1 | unit)": ["x", "x:c"],
    "y ~ x + between(x) + z + between(z) + between(x):between(z) + (1 | unit)": ["x", "z"],
    "y ~ mundlak(x)": ["x"],
}


@pytest.mark.parametrize("formula", PAIRS)
def test_regressors_with_both_parts_are_compared(formula: str) -> None:
    fit = fitted(formula, draws=50)
    found = fit.fe_vs_re().table
    assert sorted(found.index) == sorted(PAIRS[formula])
    tail = ", by=unit" if "by=" in formula else ""
    for name, row in found.iterrows():
        # the name of a level or an interaction comes after the word
        inner = re.match(r"I\(.*\)|exp\(d\)|lag\(x\)|x squared|\w+", name).group()
        between, within = (f"{word}({inner}{tail}){name[len(inner) :]}" for word in ("between", "within"))
        expected = draws_of(fit, between) - (draws_of(fit, within) if within in fit.spec.coefs else 0.0)
        assert row["mean"] == pytest.approx(expected.mean(), rel=1e-10, abs=1e-12), name


def test_unit_means_by_two_factors_are_not_mixed_up() -> None:
    """The school's mean beside the class's mean: each is compared, or it is an error, but none is passed over."""
    formula = "y ~ x + between(x, by=unit) + between(x, by=region) + (1 | region/unit)"
    fit = fitted(formula, draws=50)
    try:
        found = fit.fe_vs_re().table
    except FitError:
        return
    means = [draws_of(fit, f"between(x, by={by})").mean() for by in ("unit", "region")]
    assert sorted(found["mean"]) == pytest.approx(sorted(means))


# Verdicts -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alike() -> Fit:
    """Between and within coefficients are the same."""
    rng = np.random.default_rng(3)
    unit = np.repeat(np.arange(60), 6)
    x = rng.normal(size=60)[unit] + rng.normal(size=360)
    y = 0.5 * x + 0.3 * rng.normal(size=60)[unit] + 0.5 * rng.normal(size=360)
    df = pd.DataFrame({"unit": unit, "year": np.tile(np.arange(6), 60), "x": x, "y": y})
    return hp.fit("y ~ mundlak(x) + (1 | unit)", df, panel=PANEL, draws=500, seed=1, progress=False)


def test_where_coefficients_differ_the_verdict_is_the_within_ones() -> None:
    found = fitted(SPLIT).fe_vs_re()
    assert found.p < 0.05
    far = found.table["p_rope"].idxmin()
    assert "report the within coefficients" in found.verdict
    assert f"largest for {far}: {found.table.loc[far, 'mean']:.3g}" in found.verdict
    assert f"p = {found.p:.2g}" in found.verdict


@pytest.mark.parametrize(
    ("rope", "said", "unsaid"),
    [
        (1.0, "lose nothing that matters", "keep the unit means"),
        (1e-4, "keep the unit means in the model", "lose nothing"),
    ],
)
def test_otherwise_it_depends_on_the_rope(alike: Fit, rope: float, said: str, unsaid: str) -> None:
    found = alike.fe_vs_re(rope)
    assert found.p > 0.05
    assert (found.table["p_rope"] > 0.95).all() == (rope == 1.0)
    assert said in found.verdict
    assert unsaid not in found.verdict
    assert "within coefficients, which" not in found.verdict
    assert "causal" in found.limits


def test_the_probability_is_that_of_a_chi_squared(alike: Fit) -> None:
    from scipy import stats

    for found in (alike.fe_vs_re(), fitted(SPLIT).fe_vs_re()):
        assert found.p == pytest.approx(stats.chi2.sf(found.statistic, found.df), rel=1e-12)


# formula, panel or not, and what the error says is the remedy
REMEDIES = [
    ("y ~ x + z + c + (1 | unit)", True, ["write mundlak(x + z) for x + z"]),
    ("y ~ x + z + c + (1 | unit)", False, ["write mundlak(x + z) for x + z", "panel=('unit', time)"]),
    ("y ~ job + x + (1 | unit)", True, ["write mundlak(job + x) for job + x"]),
    ("y ~ x * z + (1 | unit)", True, ["write mundlak(x + z)"]),
    ("y ~ c + (1 | unit)", True, ["write mundlak(x) for x"]),
    ("y ~ within(x) + (1 | unit)", True, ["write mundlak(x) for x"]),
    ("y ~ between(x) + (1 | unit)", True, ["write mundlak(x) for x"]),
    ("between(y) ~ between(x)", True, ["write mundlak(x) for x"]),
    ("y ~ x", False, ["write mundlak(x) for x", "panel=("]),
    ("y ~ 1 + (1 | unit)", True, ["add one as mundlak(x)"]),
]


@pytest.mark.parametrize(("formula", "is_panel", "said"), REMEDIES)
def test_without_both_parts_the_error_names_the_remedy(
    made: Made, formula: str, is_panel: bool, said: list[str]
) -> None:
    fit = made(formula, DATA, panel=PANEL if is_panel else None)
    with pytest.raises(FitError, match="this model has no regressor with both") as error:
        fit.fe_vs_re()
    for text in said:
        assert text in str(error.value)
    assert ("panel=" in str(error.value)) == (not is_panel)


def test_the_remedy_works(made: Made) -> None:
    with pytest.raises(FitError) as error:
        made("y ~ x + z + c + (1 | unit)", DATA).fe_vs_re()
    remedy = re.search(r"write (\S.*) for (\S.*), and", str(error.value))
    formula = "y ~ x + z + c + (1 | unit)".replace(remedy.group(2), remedy.group(1))
    assert made(formula, DATA, panel=PANEL).fe_vs_re().df == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rope": 0}, "positive number, not 0"),
        ({"rope": -0.1}, "positive number, not -0.1"),
        ({"rope": True}, "positive number, not True"),
        ({"rope": "small"}, "positive number, not 'small'"),
        ({"rope": {"x": 0.0}}, "positive number, not 0.0"),
        ({"rope": {"c": 0.1}}, "'c', which is not compared; compared are: x, z, d"),
        ({"at": {"sd_worker": 0.1}}, "'sd_worker'.* it has: sd_unit\\[Intercept\\], sigma"),
        ({"at": {"sigma": 0}}, "sigma at a positive number, not 0"),
        ({"at": {"sd_unit": "wide"}}, "sd_unit\\[Intercept\\] at a positive number, not 'wide'"),
        ({"prob": 95}, "prob is the probability"),
    ],
)
def test_what_is_asked_wrongly_is_an_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(FitError, match=said):
        fitted(SPLIT).fe_vs_re(**options)


def test_an_sd_without_its_column_is_the_intercepts() -> None:
    """A factor's bare name means the one component it has, or else its intercept; never one of its slopes."""
    fit = fitted("y ~ mundlak(x + z) + (1 + x | unit)", draws=50)
    try:
        found = fit.fe_vs_re(at={"sd_unit": 0.5})
    except FitError:
        return
    assert found.at == fit.fe_vs_re(at={"sd_unit[Intercept]": 0.5}).at


def test_correlations_may_be_negative() -> None:
    fit = fitted("y ~ mundlak(x + z) + (1 + x | unit)", draws=50)
    assert fit.fe_vs_re(at={"pcor_unit[0]": -0.3}).at["pcor_unit[0]"] == -0.3


@pytest.mark.parametrize("value", [1, 1.5])
def test_correlations_are_below_one(value: float) -> None:
    with pytest.raises(FitError, match="pcor_unit"):
        fitted("y ~ mundlak(x + z) + (1 + x | unit)", draws=50).fe_vs_re(at={"pcor_unit[0]": value})


def test_a_fixed_sd_stays_where_it_is() -> None:
    fit = fitted(SPLIT, given=(("sd_unit", 0.4),))
    free = fitted(SPLIT).fe_vs_re(at={"sd_unit": 0.4, "sigma": 0.6})
    found = fit.fe_vs_re(at={"sigma": 0.6})
    assert (found.at, found.statistic) == ({"sigma": 0.6}, pytest.approx(free.statistic, rel=1e-10))
    with pytest.raises(FitError, match="it has: sigma"):
        fit.fe_vs_re(at={"sd_unit": 0.4})


def test_priors_of_the_coefficients_do_not_move_the_test() -> None:
    at = {"sd_unit": 0.4, "sigma": 0.6}
    flat = fitted(SPLIT, flat=True).fe_vs_re(at=at)
    tight = fitted(SPLIT, given=(("beta", hp.Prior("Normal", mu=0, sigma=0.1)),)).fe_vs_re(at=at)
    assert tight.statistic == pytest.approx(flat.statistic, rel=1e-10)
    assert abs(tight.table.loc["d", "mean"]) < 0.7 * abs(flat.table.loc["d", "mean"])  # the table is of the posterior


@pytest.mark.parametrize(
    ("family", "response"),
    [("poisson", "count"), ("student_t", "y"), ("bernoulli", "d"), ("negative_binomial", "count")],
)
def test_outside_gaussian_responses_the_test_is_of_the_posterior(made: Made, family: str, response: str) -> None:
    fit = made(f"{response} ~ mundlak(x + z) + (1 | unit)", DATA, family=family, panel=PANEL)
    found = fit.fe_vs_re()
    d = np.array([draws_of(fit, f"between({x})") - draws_of(fit, f"within({x})") for x in ("x", "z")])
    mean = d.mean(axis=1)
    assert found.statistic == pytest.approx(mean @ np.linalg.solve(np.cov(d), mean), rel=1e-10)
    assert (found.at, found.df) == ({}, 2)
    assert ", at " not in str(found)
    with pytest.raises(FitError, match="gaussian"):
        fit.fe_vs_re(at={"sigma": 1.0})
    one = made(f"{response} ~ mundlak(x) + (1 | unit)", DATA, family=family, panel=PANEL)
    d = draws_of(one, "between(x)") - draws_of(one, "within(x)")
    assert one.fe_vs_re().statistic == pytest.approx((d.mean() / d.std(ddof=1)) ** 2, rel=1e-10)


@pytest.mark.parametrize("prior", ["Normal", "Laplace"])
def test_a_gaussian_response_sampled_by_nuts_has_the_same_test(made: Made, prior: str) -> None:
    """Also with priors of coefficients for which the marginal route does not hold."""
    values = {"mu": 0, "sigma": 1} if prior == "Normal" else {"mu": 0, "b": 1}
    fit = made(SPLIT, DATA, panel=PANEL, priors={"beta": hp.Prior(prior, **values)} if prior == "Laplace" else None)
    assert fit.method == "nuts"
    found = fit.fe_vs_re()
    means = {"sd_unit[Intercept]": fit.draws("sd_unit").mean(), "sigma": fit.draws("sigma").mean()}
    assert found.at == pytest.approx(means, rel=1e-12)
    assert found.statistic == pytest.approx(fitted(SPLIT).fe_vs_re(at=found.at).statistic, rel=1e-10)


def test_a_fit_that_was_saved_answers_the_same(tmp_path: Path) -> None:
    fit = fitted(SPLIT)
    fit.save(tmp_path / "fit.nc")
    loaded = hp.load(tmp_path / "fit.nc")
    assert str(loaded.fe_vs_re()) == str(fit.fe_vs_re())
    pd.testing.assert_frame_equal(loaded.shrinkage("unit"), fit.shrinkage("unit"))
    pd.testing.assert_frame_equal(loaded.r2_panel(), fit.r2_panel())


@pytest.mark.parametrize(
    "formula", [SPLIT, "y ~ mundlak(x + job) + (1 | unit)", "y ~ mundlak(x + z) + (1 + x | unit) + (1 | year)"]
)
def test_the_text_fits_the_page(formula: str) -> None:
    found = fitted(formula, draws=50).fe_vs_re()
    text = str(found)
    assert repr(found) == text
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(rf"Wald χ²\({found.df}\) = [\d.]+, p = [\d.e-]+", text)
    flowing = " ".join(text.split())
    for sentence in (found.verdict, found.limits):
        assert " ".join(sentence.split()) in flowing


def test_it_shows_in_a_notebook() -> None:
    found = fitted(SPLIT).fe_vs_re()
    page = Text(found._repr_html_())
    assert not page.open
    assert {"h4", "table", "p"} <= page.tags
    for said in (found.verdict, found.limits, "Wald χ²(3)", f"{found.table.loc['x', 'mean']:.3g}"):
        assert said in page.text


# Shrinkage of units ---------------------------------------------------------------------------------------------------


def weights_of(fit: Fit) -> Array:
    return np.ones(fit.nobs) if fit.design.weights is None else fit.design.weights


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("group", ["unit", "year"])
def test_a_varying_intercept_is_a_unit_mean_and_its_reliability_a_ratio(weights: str | None, group: str) -> None:
    fit = fitted(f"y ~ x + z + offset(c) + (1 | {group})", weights)
    found = fit.shrinkage(group)
    labels, w = DATA[group].to_numpy(), weights_of(fit)
    residual = DATA["y"] - DATA["c"] - DATA[["x", "z"]] @ fit.params[["x", "z"]].to_numpy()
    sd, sigma = fit.draws(f"sd_{group}").ravel(), fit.draws("sigma").ravel()
    assert (list(found.index), found.index.name) == (sorted(set(labels)), group)
    assert (found["pooled"] == fit.params["Intercept"]).all()
    for unit, row in found.iterrows():
        mine = labels == unit
        assert row["rows"] == mine.sum()
        assert row["own"] == pytest.approx(np.average(residual[mine], weights=w[mine]), rel=1e-10)
        reliability = (sd**2 / (sd**2 + sigma**2 / w[mine].sum())).mean()
        assert row["reliability"] == pytest.approx(reliability, rel=1e-12)
    posterior = fit.coef(group).xs("Intercept", level="coef")[["mean", "sd", "lower", "upper"]]
    np.testing.assert_array_equal(found[posterior.columns], posterior)


def test_the_posterior_mean_lies_between_by_the_reliability() -> None:
    """mean = reliability × own + (1 - reliability) × pooled, but for what is averaged over the posterior."""
    found = fitted("y ~ x + (1 | unit)", draws=1000).shrinkage("unit")
    expected = found["reliability"] * found["own"] + (1 - found["reliability"]) * found["pooled"]
    assert ((found["mean"] - expected).abs() < 0.15 * found["sd"]).all()


def test_rows_that_say_nothing_of_a_unit_have_no_share_in_its_posterior() -> None:
    none = DATA["unit"] == DATA["unit"].iloc[0]
    df = DATA.assign(x=DATA["x"].where(~none, 0.0))
    fit = hp.fit("y ~ z + (0 + x | unit)", df, draws=50, seed=1, progress=False, env={})
    found = fit.shrinkage("unit", "x")
    row = found.loc[DATA["unit"].iloc[0]]
    assert row["reliability"] == 0
    assert np.isnan(row["own"])
    assert (found["reliability"].drop(DATA["unit"].iloc[0]) > 0).all()


def dense_reliability(fit: Fit, group: str, k: int) -> Array:
    """1 - var(b | rows)/var(b) of each level, with each level's covariance of rows written out."""
    data, w = fit.design.group(group), weights_of(fit)
    size, q = fit.draws("sigma").size, len(data.coefs)
    sd, sigma = fit.draws(f"sd_{group}").reshape(size, q), fit.draws("sigma").ravel()
    correlated = f"cor_{group}" in fit.idata["posterior"]
    cor = fit.draws(f"cor_{group}").reshape(size, q, q) if correlated else np.tile(np.eye(q), (size, 1, 1))
    Sigma = sd[:, :, None] * cor * sd[:, None, :]
    found = []
    for level in range(len(data.levels)):
        Z, own = data.Z[data.codes == level], w[data.codes == level]
        V = Z @ Sigma @ Z.T + (sigma**2)[:, None, None] * np.diag(1 / own)
        explained = Sigma @ Z.T @ np.linalg.solve(V, Z @ Sigma)
        found.append((explained[:, k, k] / Sigma[:, k, k]).mean())
    return np.array(found)


def own_by_hand(fit: Fit, group: str, k: int) -> Array:
    """Weighted least squares on the rows of each level, NaN where they cannot tell."""
    data, w = fit.design.group(group), weights_of(fit)
    eta = loo.linear_draws(fit.spec, fit.design, fit.means(), slice(None))[0, 0]
    left = fit.design.y - eta + (data.Z * fit.effects.mean(group)[data.codes]).sum(axis=1)
    found = []
    for level in range(len(data.levels)):
        mine = data.codes == level
        A, b = data.Z[mine] * np.sqrt(w[mine])[:, None], left[mine] * np.sqrt(w[mine])
        whole = np.linalg.matrix_rank(A) == A.shape[1]
        found.append(np.linalg.lstsq(A, b, rcond=None)[0][k] if whole else np.nan)
    return np.array(found) + fit.params.get(data.coefs[k], 0.0)


@pytest.mark.parametrize(
    ("formula", "weights", "unknown"),
    [
        ("y ~ x + (x | unit)", None, 0),
        ("y ~ x + (x | unit)", "w", 0),
        ("y ~ x + (x || unit)", "w", 0),
        ("y ~ x + (0 + x | unit)", "w", 0),
        ("y ~ x + year + (year | unit)", None, 0),  # calendar years, far from their origin
        ("y ~ x + (x + z || unit)", None, 5),  # units of two rows do not know three coefficients
        ("y ~ x + z + fe(unit) + (0 + x + z | unit)", None, 5),
    ],
)
def test_slopes_have_the_reliability_of_the_dense_formula(formula: str, weights: str | None, unknown: int) -> None:
    # 200 draws, as many as a reliability is averaged over
    fit = fitted(formula, weights, draws=50)
    coefs = fit.design.group("unit").coefs
    for k, coef in enumerate(coefs):
        found = fit.shrinkage("unit", coef)
        np.testing.assert_allclose(found["reliability"], dense_reliability(fit, "unit", k), rtol=1e-6, err_msg=coef)
        np.testing.assert_allclose(found["own"], own_by_hand(fit, "unit", k), rtol=1e-8, atol=1e-9, err_msg=coef)
        assert found["own"].isna().sum() == unknown
        assert found["reliability"].between(0, 1).all()
        assert found.columns.name.startswith(f"{coef}; ")
    first = fit.shrinkage("unit")
    pd.testing.assert_frame_equal(first, fit.shrinkage("unit", coefs[0]))


@pytest.mark.parametrize("top", [1, 4, 40, None])
@pytest.mark.parametrize(("formula", "coef"), [("y ~ x + (1 | unit)", "Intercept"), ("y ~ x + (x | unit)", "x")])
def test_ranks_are_those_of_every_draw(formula: str, coef: str, top: int | None) -> None:
    fit = fitted(formula)
    found = fit.shrinkage("unit", coef, top=top, prob=0.8)
    draws = fit.draws("b_unit")[..., fit.design.group("unit").coefs.index(coef)].reshape(-1, 40)
    ranks = np.array([[1 + (row > value).sum() for value in row] for row in draws])
    np.testing.assert_allclose(found["rank"], ranks.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found["p_top"], (ranks <= (top or 4)).mean(axis=0))
    assert found["p_top"].sum() == pytest.approx(top or 4, rel=1e-12)
    assert found["rank"].sum() == pytest.approx(40 * 41 / 2, rel=1e-12)
    lower, upper = np.quantile(ranks, [0.1, 0.9], axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(found[["rank_lower", "rank_upper"]], np.column_stack([lower, upper]))
    assert found["rank_lower"].dtype.kind == found["rank_upper"].dtype.kind == "i"
    assert found["rank"].between(found["rank_lower"], found["rank_upper"]).all()
    assert found.columns.name == f"{coef}; 80 % equal-tailed; top {top or 4}"
    # who is larger is ranked before
    assert np.corrcoef(found["mean"], -found["rank"])[0, 1] > 0.95
    assert found["p_top"].idxmax() in found["rank"].nsmallest(3).index or top == 40


def test_the_table_prints_every_column_on_a_line() -> None:
    text = repr(fitted("y ~ x + (1 | unit)").shrinkage("unit"))
    assert "…" not in text.splitlines()[1]
    assert len(text.splitlines()) == 3 + 40  # what the table is, its columns, the name of its rows


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize(
    ("formula", "coef"),
    [("y ~ x + (1 | unit)", "Intercept"), ("y ~ x + (x | unit)", "x"), ("y ~ x + fe(unit) + fe(year)", "Intercept")],
)
def test_units_that_are_not_stored_have_the_same_table(formula: str, coef: str, weights: str | None) -> None:
    """To the Monte Carlo error of the 400 draws that their mixture of normals takes."""
    stored, unstored = (fitted(formula, weights, memory, draws=1000) for memory in (256, 0))
    assert "b_unit" not in unstored.idata["posterior"]
    a, b = (fit.shrinkage("unit", coef) for fit in (stored, unstored))
    assert list(a.columns) == list(b.columns)
    np.testing.assert_array_equal(a["rows"], b["rows"])
    noise = 4.5 / np.sqrt(400)
    for column in ("own", "mean"):
        assert ((a[column] - b[column]).abs() < noise * a["sd"]).all(), column
    np.testing.assert_allclose(b["sd"], a["sd"], rtol=noise)
    np.testing.assert_allclose(b["reliability"], a["reliability"], rtol=1e-12)
    np.testing.assert_allclose(b["p_top"], a["p_top"], atol=noise / 2)
    draws = stored.draws("b_unit")[..., stored.design.group("unit").coefs.index(coef)].reshape(-1, 40)
    spread = draws.argsort(axis=1).argsort(axis=1).std(axis=0)
    assert ((a["rank"] - b["rank"]).abs() < noise * np.maximum(spread, 0.2)).all()
    assert b["p_top"].sum() == pytest.approx(4, rel=1e-12)


@pytest.mark.parametrize("memory", [256, 0])
@pytest.mark.parametrize("weights", [None, "w"])
def test_unit_effects_that_are_not_shrunk_are_their_own_estimates(weights: str | None, memory: float) -> None:
    fit = fitted("y ~ x + fe(unit)", weights, memory, draws=1000)
    found = fit.shrinkage("unit")
    assert (found["reliability"] > 1 - 1e-5).all()
    assert ((found["mean"] - found["own"]).abs() < 0.25 * found["sd"]).all()


@pytest.mark.parametrize(
    ("family", "response"),
    [("poisson", "count"), ("student_t", "y"), ("bernoulli", "d"), ("negative_binomial", "count")],
)
def test_of_other_families_reliability_compares_variances(made: Made, family: str, response: str) -> None:
    fit = made(f"{response} ~ x + (1 | few)", DATA, family=family)
    found = fit.shrinkage("few")
    b, sd = fit.draws("b_few")[..., 0].reshape(-1, 6), fit.draws("sd_few").ravel()
    np.testing.assert_allclose(found["reliability"], 1 - b.var(axis=0, ddof=1) / (sd**2).mean(), rtol=1e-10)
    if family != "student_t":
        # a unit's own intercept gives it as many as it has
        inverse = fit.spec.family.link.inverse
        eta = found["own"].loc[DATA["few"]].to_numpy() + fit.params["x"] * DATA["x"].to_numpy()
        summed = pd.DataFrame({"seen": DATA[response], "expected": inverse(eta)}).groupby(DATA["few"]).sum()
        np.testing.assert_allclose(summed["expected"], summed["seen"], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        (("worker",), {}, DataError, "no grouping factor 'worker'.*unit"),
        (("unit", "z"), {}, FitError, "'z' does not vary by unit; what does: Intercept, x"),
        (("unit",), {"top": 0}, FitError, "from 1 to 40, not 0"),
        (("unit",), {"top": 41}, FitError, "from 1 to 40, not 41"),
        (("unit",), {"top": 2.0}, FitError, "from 1 to 40, not 2.0"),
        (("unit",), {"top": True}, FitError, "from 1 to 40, not True"),
        (("unit",), {"prob": 1}, FitError, "prob is the probability"),
    ],
)
def test_what_there_is_no_table_of_is_an_error(
    arguments: tuple[str, ...], options: dict[str, Any], error: type[HierpanelError], said: str
) -> None:
    with pytest.raises(error, match=said):
        fitted("y ~ x + (x | unit)").shrinkage(*arguments, **options)


def test_the_top_may_be_a_number_of_numpy() -> None:
    fit = fitted("y ~ x + (x | unit)")
    pd.testing.assert_frame_equal(fit.shrinkage("unit", top=np.int64(3)), fit.shrinkage("unit", top=3))


def test_with_a_link_slopes_have_no_estimates_of_their_own(made: Made) -> None:
    with pytest.raises(FitError, match=r"a varying intercept alone, \(1 \| few\)"):
        made("count ~ x + (x | few)", DATA, family="poisson").shrinkage("few")


# Complete, no and partial pooling -------------------------------------------------------------------------------------


def double(column: Array) -> Array:
    return 2 * column


@pytest.fixture(scope="module")
def found() -> hp.Pooling:
    options: dict[str, Any] = {"weights": "w", "draws": 200, "chains": 3, "seed": 4, "progress": False}
    return hp.pooling("y ~ x + z + c + double(x):z", DATA, group="unit", **options)


def test_there_are_three_fits(found: hp.Pooling) -> None:
    formulas = {name: str(fit.spec.formula) for name, fit in found.fits.items()}
    assert formulas == {
        "complete": "y ~ 1 + x + z + c + double(x):z",
        "none": "y ~ 1 + x + z + double(x):z + fe(unit)",
        "partial": "y ~ 1 + x + z + c + double(x):z + (1 | unit)",
    }
    assert found.group == "unit"
    for fit in found.fits.values():
        assert fit.draws("beta").shape[:2] == (3, 200)
        np.testing.assert_array_equal(fit.design.weights, DATA["w"])
        np.testing.assert_allclose(fit.design.X[:, fit.spec.coefs.index("double(x):z")], 2 * DATA["x"] * DATA["z"])
    again = hp.fit(
        "y ~ x + z + c + double(x):z + (1 | unit)", DATA, weights="w", draws=200, chains=3, seed=4, progress=False
    )
    np.testing.assert_array_equal(found.fits["partial"].draws("beta"), again.draws("beta"))


def test_the_table_is_that_of_the_fits(found: hp.Pooling) -> None:
    rows = ["Intercept", "x", "z", "c", "double(x):z", "sd_unit", "sigma"]
    assert list(found.table.index) == rows
    assert list(found.table.columns) == [(p, s) for p in ("complete", "none", "partial") for s in ("mean", "sd")]
    for name, fit in found.fits.items():
        for coef, row in fit.fixef().iterrows():
            assert tuple(found.table.loc[coef, name]) == (row["mean"], row["sd"])
        sigma = fit.draws("sigma").ravel()
        assert tuple(found.table.loc["sigma", name]) == pytest.approx((sigma.mean(), sigma.std(ddof=1)))
    sd = found.fits["partial"].draws("sd_unit").ravel()
    assert tuple(found.table.loc["sd_unit", "partial"]) == pytest.approx((sd.mean(), sd.std(ddof=1)))
    missing = {(row, name) for row in rows for name in found.fits if found.table.loc[row, name].isna().any()}
    assert missing == {("sd_unit", "complete"), ("sd_unit", "none"), ("c", "none")}


def test_a_regressor_that_does_not_vary_within_units_is_noted(found: hp.Pooling) -> None:
    assert found.notes == ("Without pooling c cannot be told from the intercepts of unit, and is left out.",)
    assert found.notes[0] in str(found)


def test_leave_one_out_orders_them(found: hp.Pooling) -> None:
    assert sorted(found.loo.index) == ["complete", "none", "partial"]
    assert found.loo["elpd"].is_monotonic_decreasing
    assert found.loo.index[-1] == "complete"
    pd.testing.assert_frame_equal(found.loo, hp.compare(found.fits))


def test_it_prints(found: hp.Pooling) -> None:
    text = str(found)
    assert repr(found) == text
    assert max(map(len, text.splitlines())) <= 100
    for said in ("Complete, no and partial pooling by unit", "partial:  y ~ 1 + x", "elpd_diff", "new row of a known"):
        assert said in text
    # a cell is a mean and an sd, or nothing
    cells = next(line for line in text.splitlines() if line.startswith("c  "))
    assert re.fullmatch(r"c\s+-?[\d.]+ \([\d.]+\)\s+-?[\d.]+ \([\d.]+\)", cells)


def test_it_shows_as_a_page(found: hp.Pooling) -> None:
    page = Text(found._repr_html_())
    assert not page.open
    assert {"h4", "table", "p"} <= page.tags
    assert found.notes[0] in page.text
    assert "Pooling by unit" in page.text


def test_it_plots(found: hp.Pooling) -> None:
    assert found.plot() is not None
    plt.close("all")


# formula, its no-pooling fit, and what is left out
LEFT_OUT = {
    "y ~ x": ("y ~ 1 + x + fe(unit)", ""),
    "y ~ c": ("y ~ 1 + fe(unit)", "c"),
    "y ~ 0 + x": ("y ~ 1 + x + fe(unit)", ""),
    "y ~ x * c": ("y ~ 1 + x + x:c + fe(unit)", "c"),
    "y ~ c + x + C(region)": ("y ~ 1 + x + fe(unit)", "c, C(region)"),
    "y ~ c * C(region) + x": ("y ~ 1 + x + fe(unit)", "c, C(region), c:C(region)"),
    "y ~ mundlak(x) + c": ("y ~ 1 + within(x) + fe(unit)", "between(x), c"),
    "y ~ x + C(year)": ("y ~ 1 + x + C(year) + fe(unit)", ""),
    "y ~ x + offset(d) + (1 | year)": ("y ~ 1 + x + offset(d) + (1 | year) + fe(unit)", ""),
    "y ~ x + fe(year)": ("y ~ 1 + x + fe(year) + fe(unit)", ""),
}


@pytest.mark.parametrize("formula", LEFT_OUT)
def test_the_fit_without_pooling_leaves_out_what_does_not_vary(formula: str) -> None:
    none, gone = LEFT_OUT[formula]
    result = hp.pooling(formula, DATA, "unit", panel=PANEL, draws=30, chains=2, seed=1, progress=False)
    assert hp.parse(str(result.fits["none"].spec.formula)) == hp.parse(none)
    assert re.findall("Without pooling (.*) cannot", "\n".join(result.notes)) == [gone] * bool(gone)
    assert len({fit.nobs for fit in result.fits.values()}) == 1


def test_a_factor_that_varies_in_part_is_not_left_out_in_silence() -> None:
    """Of kind, one level never changes: without its other levels that fit would answer another question."""
    df = DATA.assign(kind=np.where(DATA["unit"] < 10, "fixed", DATA["job"]))
    with pytest.raises(DataError, match=r"'kind\[fixed\]' does not vary within the units of fe\(unit\)"):
        hp.pooling("y ~ x + kind", df, "unit", progress=False)


def test_local_functions_are_found() -> None:
    def halved(column: Array) -> Array:
        return column / 2

    options: dict[str, Any] = {"draws": 30, "chains": 2, "seed": 1, "progress": False}
    result = hp.pooling("y ~ halved(x)", DATA, "unit", **options)
    assert "halved(x)" in result.table.index
    stated = hp.pooling("y ~ other(x)", DATA, "unit", env={"other": halved}, **options)
    np.testing.assert_array_equal(stated.table.loc["other(x)"], result.table.loc["halved(x)"])


@pytest.mark.parametrize("bar", ["(1 | unit)", "(x | unit)", "fe(unit)", "(1 | region/unit)", "(1 | unit:year)"])
def test_a_bar_by_the_group_is_refused(bar: str) -> None:
    with pytest.raises(FormulaError, match="leave out the bar by unit") as error:
        hp.pooling(f"y ~ x + {bar}", DATA, "unit")
    assert f"y ~ x + {bar}" in str(error.value)


@pytest.mark.parametrize(
    ("formula", "group", "options", "error", "said"),
    [
        ("y ~ x", "worker", {}, FormulaError, "no column 'worker'"),
        ("y ~ x | z", "unit", {}, FormulaError, "parentheses"),
        ("y ~ x", "unit", {"drawz": 3}, FitError, "no option 'drawz'"),
        ("y ~ x", "unit", {"draws": 5, "chains": 2}, FitError, "leave-one-out needs at least 25 draws"),
        ("y ~ x + nothing(z)", "unit", {}, FormulaError, "nothing"),
    ],
)
def test_what_cannot_be_fitted_is_an_error(
    formula: str, group: str, options: dict[str, Any], error: type[HierpanelError], said: str
) -> None:
    with pytest.raises(error, match=said):
        hp.pooling(formula, DATA, group, **{"seed": 1, "progress": False, **options})


def test_other_factors_may_have_slopes() -> None:
    """Their sds need names of their own beside the coefficients'."""
    options: dict[str, Any] = {"draws": 30, "chains": 2, "seed": 1, "progress": False}
    result = hp.pooling("y ~ x + (1 + x | year)", DATA, "unit", **options)
    assert result.table.index.is_unique
    assert result.table.loc["x", ("partial", "mean")] == result.fits["partial"].params["x"]


@pytest.mark.parametrize("column", ["unit", "c"])
def test_the_three_fits_take_the_same_rows(column: str) -> None:
    """Where the unit is missing, or a regressor that the fit without pooling leaves out."""
    holes = DATA.astype({column: float})
    holes.loc[DATA["unit"] == 3, column] = np.nan
    result = hp.pooling("y ~ x + c", holes, "unit", draws=30, chains=2, seed=1, progress=False)
    assert {fit.nobs for fit in result.fits.values()} == {int(holes[column].notna().sum())}


@pytest.mark.parametrize(
    ("family", "response", "own"),
    [
        ("poisson", "count", []),
        ("bernoulli", "d", []),
        ("negative_binomial", "count", ["alpha"]),
        ("student_t", "y", ["nu", "sigma"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*[Pp]areto:UserWarning")
def test_other_families_are_pooled_too(
    made: Made, monkeypatch: pytest.MonkeyPatch, family: str, response: str, own: list[str]
) -> None:
    """Of invented draws; complete pooling of a poisson response has coefficients alone."""
    monkeypatch.setattr(hp.Model, "fit", lambda model, **_: made(model.spec.formula, DATA, family=family))
    result = hp.pooling(f"{response} ~ x + c", DATA, "unit", family=family)
    assert set(result.table.index) == {"Intercept", "x", "c", "sd_unit", *own}
    for name, fit in result.fits.items():
        assert result.table.loc["x", (name, "mean")] == fit.params["x"]
    assert "Posterior mean (sd)" in str(result)


# R² within and between ------------------------------------------------------------------------------------------------


def test_the_units_are_the_panels_or_those_of_the_factor(made: Made) -> None:
    of_panel = made("y ~ x + (1 | region)", DATA, panel=PANEL)
    of_factor = made("y ~ x + (1 | unit)", DATA)
    table = of_panel.r2_panel(prob=0.8)
    assert (list(table.index), table.index.name) == (["within", "between", "overall"], "r2")
    assert table.columns.name == "80 % equal-tailed"
    assert not table.equals(of_panel.r2_panel("region", prob=0.8))
    np.testing.assert_allclose(of_panel.r2_panel().loc["overall"], of_panel.r2_panel("region").loc["overall"])
    pd.testing.assert_frame_equal(of_factor.r2_panel(), of_factor.r2_panel("unit"))
    both = made("y ~ x + (1 | unit) + (1 | year)", DATA)
    assert both.r2_panel("unit").loc["within", "mean"] != both.r2_panel("year").loc["within", "mean"]


@pytest.mark.parametrize(
    ("formula", "options", "by", "error", "said"),
    [
        ("y ~ x", {}, None, FitError, r"give panel=\(unit, time\)"),
        ("y ~ x + (1 | unit) + (1 | year)", {}, None, FitError, "by= a factor"),
        ("y ~ x + (1 | unit)", {}, "year", DataError, "no grouping factor 'year'.*unit"),
        ("y ~ 0 + (1 | unit)", {"panel": PANEL}, None, FitError, "of the coefficients"),
        ("count ~ x + (1 | unit)", {"family": "poisson"}, None, FitError, "gaussian or student_t"),
        ("d ~ x + (1 | unit)", {"family": "bernoulli"}, None, FitError, "gaussian or student_t"),
    ],
)
def test_without_units_or_coefficients_there_is_no_r2(
    made: Made, formula: str, options: dict[str, Any], by: str | None, error: type[HierpanelError], said: str
) -> None:
    with pytest.raises(error, match=said):
        made(formula, DATA, **options).r2_panel(by)


def test_a_student_t_response_has_one(made: Made) -> None:
    assert made("y ~ x", DATA, family="student_t", panel=PANEL).r2_panel()["mean"].notna().all()


@pytest.mark.parametrize("formula", ["between(y) ~ between(x)", "c ~ between(x) + region"])
def test_where_nothing_varies_within_units_there_is_no_r2_within(made: Made, formula: str) -> None:
    """0/0, or rounding over rounding, is no share; those between units and of rows are."""
    table = made(formula, DATA, panel=PANEL).r2_panel()
    assert np.isnan(table.loc["within", "mean"])
    assert np.isfinite(table.loc["between", "mean"])


# Sums of effects that are not stored ----------------------------------------------------------------------------------


def exact(mean: Array, variance: Array, share: Array) -> tuple[Array, Array, Array, Array]:
    """Mean and variance of Σ share b and of Σ share (b - Σ share b)² for independent normals, (S,) each.

    The second is b'Ab: its mean is m'Am + tr AV, its variance 2 tr AVAV + 4 m'AVAm.
    """
    A = np.diag(share) - np.outer(share, share)
    AV, Am = A * variance[:, None, :], mean @ A
    spread = np.einsum("sj,sj->s", mean, Am) + np.einsum("sjj->s", AV)
    of_spread = 2 * np.einsum("sij,sji->s", AV, AV) + 4 * (Am**2 * variance).sum(axis=1)
    return mean @ share, variance @ share**2, spread, of_spread


def parts_of(fit: Fit) -> tuple[sums.Totals | None, effects.State, Array]:
    """The sums of the factor that is eliminated first, draws with its later factors' effects, and its shares."""
    M, state = fit.effects.marginal, fit.effects._state
    name = M.names[0]
    share = fit.design.group(name).rows / fit.nobs
    known = dict(state.effects)
    for other in reversed(M.later(name)):
        if other not in known:
            levels = slice(0, len(fit.design.group(other).levels))
            known[other] = effects.draw(M, effects.State(state.psi, state.beta_c, known, 1), other, levels)
    return sums.totals(M, name, share), effects.State(state.psi, state.beta_c, known, 1), share


TOTALS = [
    ("y ~ x + fe(unit)", None),
    ("y ~ x + fe(unit)", "w"),
    ("y ~ x + fe(unit) + fe(year)", None),
    ("y ~ x + fe(unit) + fe(year)", "w"),
    ("y ~ x + fe(unit) + (1 | year)", "w"),
    ("y ~ x + fe(unit) + (1 + z | year)", "w"),
    ("y ~ x + fe(unit) + (z || year)", None),
    ("y ~ x + fe(unit) + (1 | region)", None),
    ("y ~ x + fe(few) + fe(year)", "w"),
    ("y ~ 0 + x + fe(unit)", "w"),
    ("y ~ x + offset(d) + fe(unit) + fe(year)", None),
    ("y ~ x + (1 | unit)", "w"),
]


@pytest.mark.parametrize(("formula", "weights"), TOTALS)
def test_sums_of_effects_have_the_moments_of_the_effects(formula: str, weights: str | None) -> None:
    fit = fitted(formula, weights, memory=0, draws=5)
    found, state, share = parts_of(fit)
    M = fit.effects.marginal
    got = found.moments(state.psi, state.beta_c, {other: state.effects[other] for other in M.later(M.names[0])})
    mean, covariance = effects.moments(M, state, M.names[0], slice(0, len(share)))
    expected = exact(mean[..., 0], covariance[..., 0, 0], share)
    for a, b in zip(got[:3], expected[:3], strict=True):
        assert a.shape == (20,)
        np.testing.assert_allclose(a, b, rtol=1e-8)
    # the last to leading order, in the share of the largest level
    np.testing.assert_allclose(got[3], expected[3], rtol=4 * share.max())
    assert found.counts.sum() == len(share)
    assert found.share @ found.counts == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("formula", "weights"), [TOTALS[1], TOTALS[3], TOTALS[4]])
def test_sums_of_effects_have_the_distribution_of_drawn_effects(formula: str, weights: str | None) -> None:
    """At one ψ and β, against effects drawn 4000 times."""
    fit = fitted(formula, weights, memory=0, draws=5)
    _, state, share = parts_of(fit)
    M = fit.effects.marginal
    many = effects.State(
        np.tile(state.psi[:1], (4000, 1)),
        np.tile(state.beta_c[:1], (4000, 1)),
        {other: np.tile(b[:1], (4000, 1, 1)) for other, b in state.effects.items()},
        5,
    )
    drawn = effects.draw(M, many, M.names[0], slice(0, len(share)))[..., 0]
    mean, square = effects.totals_of(M, many, M.names[0], share)
    for a, b in ((mean, drawn @ share), (square - mean**2, (drawn**2) @ share - (drawn @ share) ** 2)):
        error = b.std() / np.sqrt(4000)
        assert abs(a.mean() - b.mean()) < 4.5 * np.sqrt(2) * error
        assert a.std() == pytest.approx(b.std(), rel=4.5 / np.sqrt(4000))
        np.testing.assert_allclose(np.quantile(a, [0.05, 0.95]), np.quantile(b, [0.05, 0.95]), atol=0.15 * b.std())


def test_equal_units_share_a_pattern() -> None:
    """545 workers of eight rows are one sum, so that nothing grows with the units."""
    df = hp.datasets.load("wage_panel")
    fit = hp.fit(
        "log_wage ~ union + fe(worker) + fe(year)", df, draws=5, chains=2, seed=1, effects_memory=0, progress=False
    )
    found, *_ = parts_of(fit)
    assert (found.N.shape, found.counts.tolist(), found.second.shape[0]) == ((1,), [545], 1)
    assert len(parts_of(fitted("y ~ x + fe(unit)", memory=0, draws=5))[0].N) == DATA["unit"].value_counts().nunique()


@pytest.mark.parametrize(("formula", "weights"), [TOTALS[0], TOTALS[1], TOTALS[2], TOTALS[3], ("y ~ x + fe(few)", "w")])
def test_what_is_kept_of_effects_agrees_whether_they_are_stored(formula: str, weights: str | None) -> None:
    """Means and mean squares of unit effects, and so the intercept and R², to Monte Carlo error."""
    stored, unstored = (fitted(formula, weights, memory, draws=1000) for memory in (256, 0))
    name = unstored.effects.marginal.names[0]
    share = stored.design.group(name).rows / stored.nobs
    # stored effects are reported less their mean, which is in the intercept
    shift = stored.draws("beta")[..., 0] + stored.draws("beta")[..., 1] * stored.design.X[:, 1].mean()
    mean = shift - stored.draws("beta_c")[..., 0]
    square = (stored.draws(f"b_{name}")[..., 0] ** 2 @ share) + mean**2
    stats = unstored.idata["sample_stats"]
    if formula.count("fe(") == 1:  # else the mean of the other factor is in the intercept as well
        compare(stats[f"mean_{name}"].values, mean)
    compare((stats[f"square_{name}"] - stats[f"mean_{name}"] ** 2).values, square - mean**2)
    compare(unstored.draws("beta")[..., 0], stored.draws("beta")[..., 0])
    a, b = stored.r2(), unstored.r2()
    assert ((a["mean"] - b["mean"]).abs() < 6.5 * a["sd"] / np.sqrt(a["ess_bulk"])).all()
    np.testing.assert_allclose(b["sd"], a["sd"], rtol=0.1)


def compare(a: Array, b: Array) -> None:
    """Whether two sets of 4000 draws have the same mean and sd, to Monte Carlo error."""
    error = np.sqrt(a.var() / a.size + b.var() / b.size)
    assert abs(a.mean() - b.mean()) < 5 * error
    assert a.std() == pytest.approx(b.std(), rel=0.1)


@pytest.mark.parametrize(("formula", "weights"), [("y ~ x + fe(unit)", None), ("y ~ x + fe(unit) + fe(year)", "w")])
def test_unstored_unit_effects_still_sum_to_zero(formula: str, weights: str | None) -> None:
    """Beside fe() the intercept is the row-weighted mean of the units, in every draw."""
    fit = fitted(formula, weights, memory=0)
    share = fit.design.group("unit").rows / fit.nobs
    np.testing.assert_allclose(fit.group_draws("unit")[..., 0] @ share, 0, atol=1e-8)


@pytest.mark.parametrize("table", ["ranef", "group_draws"])
def test_unstored_effects_of_a_large_unit_have_the_same_sd(table: str) -> None:
    """Its effect all but is the mean that is taken off, and their draws go together."""
    stored, unstored = (fitted("y ~ x + fe(few)", None, memory, draws=1000) for memory in (256, 0))
    if table == "ranef":
        a, b = (fit.ranef("few")["sd"].to_numpy() for fit in (stored, unstored))
    else:
        a, b = (fit.group_draws("few")[..., 0].std(axis=(0, 1)) for fit in (stored, unstored))
    np.testing.assert_allclose(b, a, rtol=0.15)


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ("y ~ x + fe(unit) + fe(year)", "year"),  # not the first to go
        ("y ~ x + z + fe(unit) + (0 + x | unit)", "unit"),  # two columns
        ("y ~ x + fe(unit) + (1 | year)", "year"),
    ],
)
def test_there_are_no_sums_of_other_factors(formula: str, name: str) -> None:
    fit = fitted(formula, memory=0, draws=5)
    share = fit.design.group(name).rows / fit.nobs
    assert sums.totals(fit.effects.marginal, name, share) is None
    assert effects.totals_of(fit.effects.marginal, fit.effects._state, name, share) is None


@pytest.mark.parametrize(("most", "formula"), [(300, "y ~ x + fe(unit) + fe(year)"), (20, "y ~ x + fe(unit)")])
def test_there_are_none_where_they_would_be_dearer(monkeypatch: pytest.MonkeyPatch, most: int, formula: str) -> None:
    fit = fitted(formula, memory=0, draws=5)
    M, share = fit.effects.marginal, fit.design.group("unit").rows / fit.nobs
    assert sums.totals(M, "unit", share) is not None
    monkeypatch.setattr(sums, "MOST", most)
    assert sums.totals(M, "unit", share) is None


def test_without_sums_the_effects_are_drawn_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    by_sums = fitted("y ~ x + fe(unit) + fe(year)", memory=0, draws=1000)
    monkeypatch.setattr(sums, "MOST", 1)
    options: dict[str, Any] = {"draws": 1000, "seed": 1, "effects_memory": 0, "progress": False}
    by_draws = hp.fit("y ~ x + fe(unit) + fe(year)", DATA, **options)
    for name in ("mean_unit", "square_unit"):
        compare(by_sums.idata["sample_stats"][name].values, by_draws.idata["sample_stats"][name].values)


def test_there_are_none_without_the_other_factors_effects() -> None:
    """They are drawn from the last factor on, so a factor whose later ones are not stored waits for them."""
    fit = fitted("y ~ x + fe(unit) + fe(year)", memory=0, draws=5)
    M, state = fit.effects.marginal, fit.effects._state
    share = fit.design.group("unit").rows / fit.nobs
    alone = effects.State(state.psi, state.beta_c, {}, state.seed)
    assert effects.totals_of(M, state, "unit", share) is not None
    assert effects.totals_of(M, alone, "unit", share) is None


def test_pooling_says_which_chains_are_rough() -> None:
    found = hp.pooling("y ~ x", panel(), "unit", method="nuts", draws=20, tune=20, chains=2, seed=1, progress=False)
    assert [note for note in found.notes if note.startswith("none: The smallest effective sample size is")]
    assert "partial: " in str(found)
