"""The front door: options, the caller's names, any kind of table, and what comes out under which names."""

import pickle
from collections.abc import Callable
from typing import Any

import arviz
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hierpanel as hp
from hierpanel.results.fit import Fit

SCALE = 10.0
FORMULA = "reaction ~ days + (days | subject)"


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return hp.datasets.load("sleepstudy")


def doubled(x: Any) -> Any:
    return 2 * x


# Tables and scope -----------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "polars": pl.from_pandas,
    "pyarrow": pa.Table.from_pandas,
    "a dict": lambda df: {name: df[name].to_numpy() for name in df},
    "named levels of the index": lambda df: df.set_index(["subject", "days"]),
    "columns in another order": lambda df: df[df.columns[::-1]],
    "nullable columns": lambda df: df.convert_dtypes(),
    "Arrow's columns": lambda df: df.convert_dtypes(dtype_backend="pyarrow"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_design(kind: str, sleep: pd.DataFrame) -> None:
    formula = "reaction ~ days + I(days**2) + (days | subject)"
    one, other = hp.Model(formula, sleep).design, hp.Model(formula, KINDS[kind](sleep)).design
    for name in ("y", "X", "offset"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
    assert (other.coefs, other.response) == (one.coefs, one.response)
    (a,), (b,) = one.groups, other.groups
    np.testing.assert_array_equal(b.Z, a.Z)
    np.testing.assert_array_equal(b.codes, a.codes)
    assert list(b.levels) == list(a.levels)


def test_names_of_the_caller_are_found(sleep: pd.DataFrame) -> None:
    factor = 3.0

    def tripled(x: Any) -> Any:
        return factor * x

    model = hp.Model("reaction ~ doubled(days) + tripled(days**2) + I(days**3 / SCALE * factor) + (1 | subject)", sleep)
    days = sleep["days"].to_numpy()
    expected = np.column_stack([np.ones(180), 2 * days, 3 * days**2, days**3 / 10 * 3])
    np.testing.assert_allclose(model.design.X, expected)
    assert model.names.foreign == ("SCALE", "doubled", "factor", "tripled")


def test_names_are_taken_from_where_the_call_stands(sleep: pd.DataFrame) -> None:
    def inner() -> hp.Model:
        def halved(x: Any) -> Any:
            return x / 2

        assert halved(2) == 1
        return hp.Model("reaction ~ halved(days)", sleep)

    np.testing.assert_allclose(inner().design.X[:, 1], sleep["days"] / 2)


def test_env_takes_the_place_of_the_callers_names(sleep: pd.DataFrame) -> None:
    model = hp.Model("reaction ~ f(days) + I(days * k)", sleep, env={"f": np.sqrt, "k": 5.0})
    np.testing.assert_allclose(model.design.X[:, 1:], np.column_stack([np.sqrt(sleep["days"]), 5 * sleep["days"]]))
    with pytest.raises(hp.FormulaError, match=r"there is no function doubled.*define it, or give it as env="):
        hp.Model("reaction ~ doubled(days)", sleep, env={})
    assert hp.Model("reaction ~ np.log(days + 1) + bs(days, df=4)", sleep, env={}).design.X.shape == (180, 6)


def test_fit_finds_the_callers_names_too(sleep: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(hp.Model, "fit", lambda self, **options: seen.append((self, options)))

    def halved(x: Any) -> Any:
        return x / 2

    assert halved(2) == 1
    hp.fit("reaction ~ halved(days) + (1 | subject)", sleep, family="student_t", draws=7, seed=3)
    ((model, options),) = seen
    np.testing.assert_allclose(model.design.X[:, 1], sleep["days"] / 2)
    assert (model.spec.family.name, options) == ("student_t", {"draws": 7, "seed": 3})


def test_a_formula_that_has_been_read_is_taken_as_it_is(sleep: pd.DataFrame) -> None:
    parsed = hp.parse(FORMULA)
    assert hp.Model(parsed, sleep).spec.formula is parsed
    assert repr(hp.Model(parsed, sleep)) == (
        "<Model reaction ~ 1 + days + (1 + days | subject), gaussian (identity link), 180 rows>"
    )


# Weights and panel ----------------------------------------------------------------------------------------------------


def test_weights_by_name_and_by_array_are_the_same(sleep: pd.DataFrame) -> None:
    w = np.random.default_rng(1).uniform(0.5, 2, 180)
    for given in (w, list(w), pd.Series(w), pl.Series(w)):
        np.testing.assert_array_equal(hp.Model(FORMULA, sleep, weights=given).design.weights, w)
    model = hp.Model(FORMULA, sleep.assign(w=w), weights="w")
    np.testing.assert_array_equal(model.design.weights, w)
    assert model.spec.weighted
    assert hp.Model(FORMULA, sleep).design.weights is None


def test_rows_without_a_weight_are_dropped_and_counted(sleep: pd.DataFrame) -> None:
    model = hp.Model(FORMULA, sleep.assign(w=np.where(sleep.index < 4, np.nan, 2.0)), weights="w")
    assert (model.spec.n, model.spec.dropped) == (176, (("w", 4),))
    assert (model.design.weights == 2).all()


def test_weights_of_other_rows_are_refused(sleep: pd.DataFrame) -> None:
    w = pd.Series(1.0, index=sleep.index[::-1])
    with pytest.raises(hp.DataError, match=r"weights has another index than the table.*weights.to_numpy\(\)"):
        hp.Model(FORMULA, sleep, weights=w)
    with pytest.raises(hp.DataError, match="2 rows with missing values are dropped, so weights must be a column"):
        hp.Model(FORMULA, sleep.assign(days=sleep["days"].where(sleep.index > 1)), weights=np.ones(180))


def test_a_panel_has_each_unit_and_time_once(sleep: pd.DataFrame) -> None:
    assert hp.Model(FORMULA, sleep, panel=("subject", "days")).spec.n == 180
    twice = pd.concat([sleep, sleep.iloc[[3]]], ignore_index=True)
    message = r"\(subject, days\) must occur once, but 2 rows share theirs .*: subject 308, days 3 in rows 3, 180$"
    with pytest.raises(hp.DataError, match=message):
        hp.Model(FORMULA, twice, panel=("subject", "days"))
    assert hp.Model(FORMULA, twice).spec.n == 181
    indexed = sleep.set_index(["subject", "days"])
    assert hp.Model("reaction ~ 1 + (1 | subject)", indexed, panel=["subject", "days"]).spec.n == 180


# What comes out -------------------------------------------------------------------------------------------------------


def test_the_pymc_model_has_the_canonical_names_and_dims(sleep: pd.DataFrame) -> None:
    model = hp.Model(FORMULA, sleep).to_pymc()
    dims = {name: tuple(model.named_vars_to_dims.get(name) or ()) for name in model.named_vars}
    assert dims["beta"] == ("coef",)
    assert dims["sd_subject"] == ("coef_subject",)
    assert dims["cor_subject"] == ("coef_subject", "coef_subject_bis")
    assert dims["b_subject"] == ("subject", "coef_subject")
    assert dims["sigma"] == ()
    assert dims["y"] == ("obs",)
    assert list(model.coords["coef"]) == list(model.coords["coef_subject"]) == ["Intercept", "days"]
    assert list(model.coords["subject"])[:2] == [308, 309]
    assert [variable.name for variable in model.observed_RVs] == ["y"]
    with pytest.raises(hp.FitError, match="'noncentered' or 'centered', not 'wide'"):
        hp.Model(FORMULA, sleep).to_pymc("wide")  # type: ignore[arg-type]


def test_the_idata_has_arvizs_groups_with_named_dims(slopes: Fit, sleep: pd.DataFrame) -> None:
    idata = slopes.idata
    assert list(idata.children) == ["posterior", "sample_stats", "observed_data", "constant_data"]
    posterior = idata["posterior"]
    assert list(posterior.data_vars) == [
        "beta", "beta_c", "sd_subject", "sd_c_subject", "cor_subject", "cor_c_subject", "b_subject", "sigma",
    ]  # fmt: skip
    assert posterior["b_subject"].dims == ("chain", "draw", "subject", "coef_subject")
    assert posterior["cor_subject"].dims == ("chain", "draw", "coef_subject", "coef_subject_bis")
    assert posterior["sigma"].dims == ("chain", "draw")
    assert posterior["beta"].sel(coef="days").shape == (4, 500)
    assert posterior["b_subject"].sel(subject=308, coef_subject="days").shape == (4, 500)
    np.testing.assert_array_equal(idata["observed_data"]["y"], sleep["reaction"])
    np.testing.assert_array_equal(idata["constant_data"]["X"].sel(coef="days"), sleep["days"])
    codes = idata["constant_data"]["codes_subject"].to_numpy()
    np.testing.assert_array_equal(posterior["subject"].to_numpy()[codes], sleep["subject"])
    assert idata["sample_stats"]["diverging"].dims == ("chain", "draw")
    assert arviz.summary(idata, var_names=["beta"]).shape[0] == 2


def test_the_posterior_is_on_the_original_scale(slopes: Fit) -> None:
    """lme4 (REML): 251.4 and 10.47, sd of the slopes 5.9, of the intercepts at the mean of days 37.5, sigma 25.6."""
    assert slopes.params["Intercept"] == pytest.approx(251.4, abs=3)
    assert slopes.params["days"] == pytest.approx(10.47, abs=0.6)
    sd = slopes.varcorr()["mean"]
    assert slopes.draws("sd_c_subject")[..., 0].mean() == pytest.approx(39, abs=4)
    assert sd[("subject", "days", "")] == pytest.approx(6.4, abs=1)
    assert sd[("Residual", "sigma", "")] == pytest.approx(25.8, abs=1)
    assert (slopes.method, sorted(slopes.timing)) == ("nuts", ["compiling", "sampling"])
    assert slopes.seconds == sum(slopes.timing.values())


def test_the_same_seed_gives_the_same_draws(pooled: Fit) -> None:
    df = hp.datasets.load("wage_sim")
    again = hp.fit("log_wage ~ experience", df, draws=500, tune=500, seed=1, progress=False, cores=1)
    for name in pooled.idata["posterior"].data_vars:
        np.testing.assert_array_equal(again.draws(name), pooled.draws(name))
    other = hp.fit("log_wage ~ experience", df, draws=500, tune=500, seed=2, progress=False)
    assert not np.array_equal(other.draws("beta"), pooled.draws("beta"))


def test_draws_and_chains_are_those_asked_for() -> None:
    df = hp.datasets.load("wage_sim")
    fit = hp.fit("log_wage ~ experience", df, draws=7, tune=20, chains=3, progress=False)
    assert fit.draws("beta").shape == (3, 7, 2)
    assert fit.diagnostics()["chains"] == 3
    assert fit.diagnostics()["draws"] == 7


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("draws", 0, "draws must be a whole number of at least 1, not 0"),
        ("draws", 1.5, "draws must be a whole number of at least 1, not 1.5"),
        ("draws", True, "draws must be a whole number of at least 1, not True"),
        ("chains", "4", "chains must be a whole number of at least 1, not '4'"),
        ("tune", -1, "tune must be a whole number of at least 1, not -1"),
        ("cores", 0, "cores must be a whole number of at least 1, not 0"),
        ("seed", -1, "seed must be a whole number of at least 0, not -1"),
        ("seed", 2**64, r"seed must be below 2\*\*64"),
        ("target_accept", 2, "target_accept must be a number between 0 and 1, not 2"),
        ("target_accept", "0.9", "target_accept must be a number between 0 and 1, not '0.9'"),
        ("parameterization", "wide", "parameterization is 'noncentered' or 'centered', not 'wide'"),
        ("method", "vi", "method is 'auto', 'marginal' or 'nuts', not 'vi'"),
    ],
)
def test_options_are_checked(option: str, value: Any, message: str, sleep: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match=message):
        hp.Model(FORMULA, sleep).fit(**{option: value})


def test_an_option_that_is_not_there_lists_those_that_are(sleep: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match=r"fit\(\) has no option 'iter'; its options are: center, chains, .*weights"):
        hp.fit(FORMULA, sleep, iter=2000)


def test_explain_and_prior_summary_say_what_will_be_estimated(sleep: pd.DataFrame) -> None:
    model = hp.Model(FORMULA + " + offset(days)", sleep.assign(days=sleep["days"].where(sleep.index > 0)))
    text = model.explain()
    for said in (
        "of 180 rows: 179 used, 1 dropped (missing: days in 1)", "2 coefficients: Intercept, days",
        "18 subject: varying Intercept, days for each, correlated", "linear predictor: days",
        "3 sds and correlations, 36",
    ):  # fmt: skip
        assert said in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 90
    summary = model.prior_summary()
    assert list(summary.table.index) == list(model.spec.priors())
    assert "subject sd at days = 4.5" in str(summary)
    assert repr(summary) == str(summary)
    assert "<table" in summary._repr_html_()
    assert list(summary.implied.columns) == ["5 %", "50 %", "95 %"]


def test_a_model_pickles(sleep: pd.DataFrame) -> None:
    model = hp.Model("reaction ~ np.log(days + 1) + bs(days, df=4) + doubled(np.sqrt(days)) + (days | subject)", sleep)
    back = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(back.design.X, model.design.X)
    assert back.names.objects["np"] is np
    assert repr(back) == repr(model)
    np.testing.assert_array_equal(back.coder.encoders.common.matrix(sleep, back.names.objects), model.design.X)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(hp.Model("reaction ~ f(days)", sleep, env={"f": lambda x: x + 1}))


def test_data_sets_are_listed_and_whole() -> None:
    for name, (description, source) in hp.datasets.DATASETS.items():
        assert len(hp.datasets.load(name)) >= 30
        assert description
        assert source
    with pytest.raises(hp.DataError, match="no data set 'wages'; there are: wage_panel, "):
        hp.datasets.load("wages")
