"""What goes wrong, which error says so, and that its message names the thing and what would work."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.results.fit import Fit

Made = Callable[..., Fit]


@pytest.fixture(scope="module")
def df() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 40
    return pd.DataFrame(
        {
            "wage": rng.normal(10, 2, n),
            "age": rng.integers(20, 60, n),
            "worker": np.repeat(np.arange(8), 5),
            "year": np.tile(np.arange(2000, 2005), 8),
            "sex": np.tile(["f", "m"], 20),
            "union": rng.integers(0, 2, n),
            "days": rng.poisson(3, n),
            "country": "NL",
            "one": 1.0,
            "zero": 0.0,
            "months": 0.0,
            "start": pd.date_range("2020-01-01", periods=n),
        }
    ).assign(months=lambda table: 12.0 * table["age"])


class Row(NamedTuple):
    """What is wrong, the call that does it, the class of the error and what its message must hold."""

    what: str
    call: Callable[[Any, Made], Any]
    error: type[hp.HierpanelError]
    fragments: tuple[str, ...]


def model(formula: str, **options: Any) -> Callable[[Any, Made], Any]:
    return lambda df, made: hp.Model(formula, df, **options)


def changed(formula: str, change: Callable[[pd.DataFrame], Any], **options: Any) -> Callable[[Any, Made], Any]:
    return lambda df, made: hp.Model(formula, change(df), **options)


def fitted(formula: str, ask: Callable[[Fit], Any], **options: Any) -> Callable[[Any, Made], Any]:
    return lambda df, made: ask(made(formula, df, **options))


def sampled(**options: Any) -> Callable[[Any, Made], Any]:
    return lambda df, made: hp.Model("wage ~ age", df).fit(progress=False, **options)


def where(column: str, rows: Any, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(df: pd.DataFrame) -> pd.DataFrame:
        values = df[column].astype(float).to_numpy(copy=True)
        values[rows] = value
        return df.assign(**{column: values})

    return change


P = hp.Prior
ROWS = [
    # formulas
    Row(
        "a column that is not there", model("wage ~ agge"),
        hp.FormulaError, ("no column 'agge'", "did you mean age", "^^^^"),
    ),
    Row(
        "a factor that is not there", model("wage ~ (1 | firm)"),
        hp.FormulaError, ("no column 'firm'", "worker", "^^^^"),
    ),
    Row(
        "a function that is not there", model("wage ~ loog(age)", env={}),
        hp.FormulaError, ("no function loog", "mean log", "env="),
    ),
    Row("no response", model("~ age"), hp.FormulaError, ("response is missing", "response ~ terms", "^")),
    Row("no terms", model("wage ~"), hp.FormulaError, ("missing", "^")),
    Row("an empty formula", model(""), hp.FormulaError, ("empty", "y ~ x + (1 | g)")),
    Row("not a formula", model(5), hp.FormulaError, ("formula",)),  # type: ignore[arg-type]
    Row("a bracket too few", model("wage ~ (1 | worker"), hp.FormulaError, ("'('", "not closed", "^")),
    Row("a bracket too many", model("wage ~ age)"), hp.FormulaError, ("unexpected ')'", "no '(' that it closes", "^")),
    Row("a bare bar", model("wage ~ age | worker"), hp.FormulaError, ("bar", "(x | g)", "^")),
    Row("two bars", model("wage ~ (1 | p | worker)"), hp.FormulaError, ("one bar", "(x | g) + (x | h)", "^")),
    Row("terms without a plus", model("wage ~ age sex"), hp.FormulaError, ("unexpected 'sex'", "joined by '+'", "^^^")),
    Row("a comma", model("wage ~ age, sex"), hp.FormulaError, ("unexpected ','", "joined by '+'")),
    Row("a caret", model("wage ~ age^2"), hp.FormulaError, ("'^'", "I(x**2)")),
    Row("a power without I()", model("wage ~ age**2"), hp.FormulaError, ("I(age ** 2)",)),
    Row("a comparison", model("wage ~ age > 30"), hp.FormulaError, ("I(x > 0)",)),
    Row("nothing to estimate", model("wage ~ 0"), hp.FormulaError, ("nothing", "to estimate")),
    Row(
        "an offset alone", model("days ~ 0 + offset(age)", family="poisson"), hp.FormulaError,
        ("nothing to estimate", "family='poisson'", "add a term"),
    ),
    Row(
        "the same effect twice", model("wage ~ (1 | worker) + (1 | worker)"),
        hp.FormulaError, ("intercept varies by worker twice",),
    ),
    Row(
        "the response as a factor", model("wage ~ (1 | wage)"),
        hp.FormulaError, ("response wage cannot be a grouping factor",),
    ),
    Row("cbind", model("cbind(union, days) ~ age"), hp.FormulaError, ("prop(successes, trials)",)),
    # tables
    Row("no table", lambda df, made: hp.Model("y ~ x", None), hp.DataError, ("NoneType", "pandas, polars or pyarrow")),
    Row("an empty table", changed("wage ~ age", lambda df: df[:0]), hp.DataError, ("no rows",)),
    Row(
        "two columns of one name", changed("wage ~ age", lambda df: pd.concat([df, df["age"]], axis=1)),
        hp.DataError, ("2 columns called 'age'", "rename"),
    ),
    Row(
        "columns of different lengths", lambda df, made: hp.Model("y ~ x", {"y": [1, 2], "x": [1]}),
        hp.DataError, ("do not make a table",),
    ),
    Row(
        "everything missing", changed("wage ~ age", where("age", slice(None), np.nan)),
        hp.DataError, ("no row is complete", "age (40)"),
    ),
    Row(
        "infinity", changed("wage ~ age", where("age", [3, 5], np.inf)),
        hp.DataError, ("'age'", "infinite in 2 of 40 rows", "rows 3, 5", "drop"),
    ),
    Row("complex numbers", changed("wage ~ age", lambda df: df.assign(age=1j)), hp.DataError, ("'age'", "complex")),
    Row(
        "mixed types", changed("wage ~ sex", lambda df: df.assign(sex=["f", 1] * 20)),
        hp.DataError, ("'sex'", "mixes int, str", "astype(str)"),
    ),
    Row(
        "the log of a negative", model("wage ~ np.log(age - 30)"),
        hp.DataError, ("np.log(age - 30)", "NaN", "rows", "of 40 rows"),
    ),
    Row("the log of zero", model("wage ~ log(zero)"), hp.DataError, ("log(zero)", "infinite", "40 of 40 rows")),
    Row(
        "a function that fails", model("wage ~ f(age)", env={"f": lambda x: x.no_such_method()}),
        hp.DataError, ("f(age) cannot be computed", "no_such_method"),
    ),
    Row(
        "a function that gives one number", model("wage ~ np.mean(age)"),
        hp.DataError, ("np.mean(age)", "one value for 40 rows"),
    ),
    Row("a column of dates", model("wage ~ start"), hp.DataError, ("start", "datetime64", "year")),
    Row("a constant column", model("wage ~ one"), hp.DataError, ("'one'", "constant (1 in every row)", "leave it out")),
    Row(
        "a column of zeros", model("wage ~ 0 + zero + age"),
        hp.DataError, ("'zero'", "0 in every row", "leave it out"),
    ),
    Row(
        "collinear columns", model("wage ~ age + months"),
        hp.DataError, ("collinear", "'months'", "'age'", "leave one of them out"),
    ),
    Row(
        "a factor of one level", model("wage ~ (1 | country)"),
        hp.DataError, ("country has one level (NL)", "40 rows", "at least two"),
    ),
    Row(
        "a factor of a reserved name", changed("wage ~ (1 | sigma)", lambda df: df.rename(columns={"worker": "sigma"})),
        hp.DataError, ("'sigma'", "rename"),
    ),
    Row(
        "a factor with a slash", changed("wage ~ (1 | `a/b`)", lambda df: df.rename(columns={"worker": "a/b"})),
        hp.DataError, ("'a/b'", "rename"),
    ),
    Row(
        "a column constant within fe()",
        changed("wage ~ older + fe(worker)", lambda df: df.assign(older=df["worker"] > 3)),
        hp.DataError, ("older", "does not vary within", "(1 | worker)"),
    ),
    Row("a text response", model("sex ~ age"), hp.DataError, ("sex", "levels f, m", "\"sex['f'] ~ ...\"", "bernoulli")),
    Row(
        "a response level that is not there", model("sex['x'] ~ age", family="bernoulli"),
        hp.DataError, ("sex has no level 'x'", "f, m"),
    ),
    Row(
        "no trials", model("prop(zero, zero) ~ age", family="binomial"),
        hp.DataError, ("trials of prop(zero, zero)", "below 1 in 40 rows", "drop"),
    ),
    Row(
        "more successes than trials", model("prop(days, union) ~ age", family="binomial"),
        hp.DataError, ("prop(days, union)", "greater than 'trials'"),
    ),
    # panels and weights
    Row(
        "a unit and time twice", changed("wage ~ age", lambda df: pd.concat([df, df[:1]]), panel=("worker", "year")),
        hp.DataError, ("(worker, year) must occur once", "2 rows", "worker 0, year 2000", "rows 0, 0"),
    ),
    Row(
        "a panel of one column", model("wage ~ age", panel="worker"),
        hp.DataError, ("(unit, time)", "panel=('worker', 'year')"),
    ),
    Row("a panel that is a number", model("wage ~ age", panel=3), hp.DataError, ("(unit, time)",)),
    Row(
        "a panel column that is not there", model("wage ~ age", panel=("worker", "month")),
        hp.DataError, ("panel=", "'month'", "year"),
    ),
    Row("a weight that is not there", model("wage ~ age", weights="w"), hp.DataError, ("weights=", "'w'", "year")),
    Row("a weight that is text", model("wage ~ age", weights="sex"), hp.DataError, ("'sex'", "not numbers")),
    Row("weights of another length", model("wage ~ age", weights=[1, 2]), hp.DataError, ("(2,)", "40 rows")),
    Row(
        "weights that are text", model("wage ~ age", weights=["a"] * 40),
        hp.DataError, ("array of numbers", "this list is neither"),
    ),
    Row(
        "a weight of zero", model("wage ~ age", weights="zero"),
        hp.DataError, ("positive", "40 are not", "rows 0, 1, 2"),
    ),
    Row(
        "a weight of infinity", model("wage ~ age", weights=np.r_[np.inf, np.ones(39)]),
        hp.DataError, ("positive and finite", "1 are not (rows 0)"),
    ),
    Row(
        "weights for counts", model("days ~ age", weights="one", family="poisson"),
        hp.FamilyError, ("'poisson'", "gaussian and student_t", "prop(successes, trials)"),
    ),
    # families
    Row(
        "an unknown family", model("wage ~ age", family="gausian"),
        hp.FamilyError, ("'gausian'", "did you mean 'gaussian'", "poisson"),
    ),
    Row(
        "a family by another name", model("wage ~ age", family="normal"),
        hp.FamilyError, ("'normal'", "did you mean 'gaussian'"),
    ),
    Row("no family", model("wage ~ age", family=None), hp.FamilyError, ("'gaussian'", "NoneType")),
    Row(
        "an unknown link", model("union ~ age", family="bernoulli(log)"),
        hp.FamilyError, ("'log'", "logit, probit, cloglog"),
    ),
    Row(
        "a link of another family", model("days ~ age", family="poisson(identity)"),
        hp.FamilyError, ("poisson", "'identity'", "log"),
    ),
    Row("gaussian: a constant response", model("one ~ age"), hp.FamilyError, ("one", "constant")),
    Row("gaussian: trials", model("prop(union, one) ~ age"), hp.FamilyError, ("prop(union, one)", "family='binomial'")),
    Row(
        "student_t: trials", model("prop(union, one) ~ age", family="student_t"),
        hp.FamilyError, ("family='binomial'",),
    ),
    Row(
        "bernoulli: not 0 and 1", model("days ~ age", family="bernoulli"),
        hp.FamilyError, ("days", "must be 0 or 1", "rows hold others (2, 3", "prop(y, n)"),
    ),
    Row(
        "binomial: no trials", model("union ~ age", family="binomial"),
        hp.FamilyError, ("prop(successes, trials)", "family='bernoulli'"),
    ),
    Row(
        "poisson: not whole", model("wage ~ age", family="poisson"),
        hp.FamilyError, ("wage", "must be counts 0, 1, 2", "40 rows"),
    ),
    Row(
        "poisson: negative", model("I(days - 9) ~ age", family="poisson"),
        hp.FamilyError, ("I(days - 9)", "must be counts"),
    ),
    Row(
        "negative_binomial: not whole", model("wage ~ age", family="negative_binomial"),
        hp.FamilyError, ("negative_binomial", "must be counts"),
    ),
    # priors
    Row(
        "an unknown prior key", model("wage ~ (1 | worker)", priors={"sd_wroker": 1}),
        hp.PriorError, ("'sd_wroker'", "did you mean 'sd_worker'", "sigma"),
    ),
    Row(
        "a prior of effects", model("wage ~ (1 | worker)", priors={"b_worker": P("Normal", mu=0, sigma=1)}),
        hp.PriorError, ("b_worker", "their sd is sd_"),
    ),
    Row(
        "a prior of another family",
        model("union ~ age", family="bernoulli", priors={"sigma": P("HalfNormal", sigma=1)}),
        hp.PriorError, ("'sigma'", "beta[age]"),
    ),
    Row(
        "priors in a list", model("wage ~ age", priors=[P("Normal", mu=0, sigma=1)]),
        hp.PriorError, ("mapping", "priors={"),
    ),
    Row(
        "a number for a coefficient", model("wage ~ age", priors={"beta[age]": 0}),
        hp.PriorError, ("beta[age]", "hp.Prior('Normal', mu=0, sigma=1)"),
    ),
    Row(
        "an sd of zero", model("wage ~ (1 | worker)", priors={"sd_worker": 0}),
        hp.PriorError, ("sd_worker[Intercept]", "positive", "0"),
    ),
    Row(
        "an sd that can be negative", model("wage ~ age", priors={"sigma": P("Normal", mu=0, sigma=1)}),
        hp.PriorError, ("sigma", "positive numbers", "HalfNormal"),
    ),
    Row(
        "an unknown distribution", model("wage ~ age", priors={"sigma": P("HalfNormall", sigma=1)}),
        hp.PriorError, ("'HalfNormall'", "did you mean 'HalfNormal'"),
    ),
    Row(
        "an unknown parameter", model("wage ~ age", priors={"sigma": P("HalfNormal", sd=1)}),
        hp.PriorError, ("sigma", "HalfNormal", "sd"),
    ),
    Row(
        "a discrete prior", model("wage ~ age", priors={"beta": P("Poisson", mu=2)}),
        hp.PriorError, ("Poisson", "continuous"),
    ),
    Row(
        "a prior of correlations", model("wage ~ (age | worker)", priors={"cor_worker": P("Normal", mu=0, sigma=1)}),
        hp.PriorError, ("cor_worker", "hp.Prior('LKJ', eta="),
    ),
    Row(
        "a parameter that is text", lambda df, made: P("Normal", mu="a", sigma=1),  # type: ignore[arg-type]
        hp.PriorError, ("mu of Normal", "'a'", "finite number"),
    ),
    Row(
        "a negative sigma", lambda df, made: P("Normal", mu=0, sigma=-1),
        hp.PriorError, ("sigma of Normal", "positive", "-1"),
    ),
    Row(
        "a prior for fe()", model("wage ~ fe(worker)", priors={"sd_worker[Intercept]": P("HalfNormal", sigma=1)}),
        hp.PriorError, ("fe()", "(1 | factor)"),
    ),
    # options
    Row("no draws", sampled(draws=0), hp.FitError, ("draws", "at least 1", "not 0")),
    Row("chains as text", sampled(chains="4"), hp.FitError, ("chains", "whole number", "'4'")),
    Row("no cores", sampled(cores=0), hp.FitError, ("cores", "at least 1")),
    Row("a negative seed", sampled(seed=-1), hp.FitError, ("seed", "at least 0", "-1")),
    Row("a target above 1", sampled(target_accept=2), hp.FitError, ("target_accept", "between 0 and 1", "2")),
    Row(
        "an unknown parameterization", sampled(parameterization="both"),
        hp.FitError, ("'noncentered' or 'centered'", "'both'"),
    ),
    Row(
        "a route that the model does not have",
        lambda df, made: hp.fit("wage ~ age", df, family="student_t", method="marginal"),
        hp.RouteError, ("student_t", "'nuts'"),
    ),
    Row("an unknown method", sampled(method="mle"), hp.FitError, ("'nuts'", "'mle'")),
    Row("an unknown option", lambda df, made: hp.fit("wage ~ age", df, iter=9), hp.FitError, ("'iter'", "draws")),
    # questions to a fit
    Row(
        "effects of an unknown factor", fitted("wage ~ (1 | worker)", lambda fit: fit.ranef("firm")),
        hp.DataError, ("'firm'", "worker"),
    ),
    Row(
        "coefficients of a factor, without one", fitted("wage ~ age", lambda fit: fit.coef("worker")),
        hp.DataError, ("'worker'", "none"),
    ),
    Row("a probability of 95", fitted("wage ~ age", lambda fit: fit.fixef(prob=95)), hp.FitError, ("prob=0.95", "95")),
    Row("an alpha of 95", fitted("wage ~ age", lambda fit: fit.conf_int(95)), hp.FitError, ("alpha=0.05", "95")),
    Row("unknown draws", fitted("wage ~ age", lambda fit: fit.draws("b")), hp.FitError, ("'b'", "beta", "sigma")),
    Row(
        "no coefficients", fitted("wage ~ 0 + (1 | worker)", lambda fit: fit.params),
        hp.FitError, ("no coefficients", "ranef()"),
    ),
    Row(
        "no ICC of counts", fitted("days ~ (1 | worker)", lambda fit: fit.icc(), family="poisson"),
        hp.FitError, ("no ICC", "poisson"),
    ),
    Row(
        "no R² of counts", fitted("days ~ age", lambda fit: fit.r2(), family="poisson"),
        hp.FitError, ("no R²", "poisson"),
    ),
    Row(
        "a plot of another column", fitted("wage ~ (1 | worker)", lambda fit: fit.plot.shrinkage("worker", "age")),
        hp.FitError, ("'age'", "worker", "Intercept"),
    ),
    Row(
        "one fit to compare", lambda df, made: hp.compare({"a": made("wage ~ age", df)}),
        hp.FitError, ("two fits", "hp.compare({"),
    ),
    Row(
        "fits of other rows",
        lambda df, made: hp.compare({"a": made("wage ~ age", df), "b": made("wage ~ age", df[1:])}),
        hp.FitError, ("different rows (40 and 39)", "dropna"),
    ),
    Row("a file that is not there", lambda df, made: hp.load("nowhere.nc"), hp.FileError, ("no file nowhere.nc",)),
    Row(
        "a folder that is not there", fitted("wage ~ age", lambda fit: fit.save("no/such/folder/fit.nc")),
        hp.FileError, ("no/such/folder does not exist",),
    ),
    Row("an unknown data set", lambda df, made: hp.datasets.load("wages"), hp.DataError, ("'wages'", "wage_panel")),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
def test_the_error_names_the_thing_and_what_would_work(row: Row, df: pd.DataFrame, made: Made) -> None:
    with pytest.raises(hp.HierpanelError) as raised:
        row.call(df, made)
    assert type(raised.value) is row.error
    for fragment in row.fragments:
        assert fragment in str(raised.value), str(raised.value)
    assert len(str(raised.value).splitlines()[0]) < 400


def test_every_class_of_error_occurs() -> None:
    classes = {value for value in vars(hp).values() if isinstance(value, type) and issubclass(value, hp.HierpanelError)}
    assert {row.error for row in ROWS} == classes - {hp.HierpanelError}
    assert len({row.what for row in ROWS}) == len(ROWS) > 90


def test_a_caret_stands_under_the_place(df: pd.DataFrame) -> None:
    with pytest.raises(hp.FormulaError) as raised:
        hp.Model("wage ~ age + (1 | firm)", df)
    _, _, line, carets = str(raised.value).splitlines()
    assert line[carets.index("^") : carets.rindex("^") + 1] == "firm"
