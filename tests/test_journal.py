"""Tables across fits: their cells against the fits' own numbers, other packages, what is printed, and maketables."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.results import journal
from hierpanel.results.coefficient_names import alike
from hierpanel.results.fit import Fit
from hierpanel.results.journal_table import JournalTable
from hierpanel.results.summary import number

Made = Callable[..., Fit]
PANEL = ("worker", "year")
REGRESSORS = "union + married + experience"


@pytest.fixture(scope="module")
def wages() -> pd.DataFrame:
    return hp.datasets.load("wage_panel")


@pytest.fixture(scope="module")
def fits(wages: pd.DataFrame) -> dict[str, Fit]:
    """Pooled, fixed effects, random effects and Mundlak's model of the wage panel."""
    formulas = {
        "Pooled": f"log_wage ~ {REGRESSORS}",
        "FE": f"log_wage ~ {REGRESSORS} + fe(worker)",
        "RE": f"log_wage ~ {REGRESSORS} + (1 | worker)",
        "Mundlak": f"log_wage ~ mundlak({REGRESSORS}) + (1 | worker)",
    }
    return {name: hp.fit(text, wages, panel=PANEL, draws=500, seed=1) for name, text in formulas.items()}


@pytest.fixture(scope="module")
def classical(wages: pd.DataFrame) -> dict[str, Any]:
    """The same regressions by statsmodels and linearmodels."""
    import statsmodels.formula.api as smf
    from linearmodels.panel import PanelOLS, RandomEffects

    panel = wages.set_index(list(PANEL))
    fixed = f"log_wage ~ {REGRESSORS} + EntityEffects"
    return {
        "OLS": smf.ols(f"log_wage ~ {REGRESSORS}", wages).fit(cov_type="HC1"),
        "Within": PanelOLS.from_formula(fixed, panel).fit(cov_type="clustered", cluster_entity=True),
        "GLS": RandomEffects.from_formula(f"log_wage ~ 1 + {REGRESSORS}", panel).fit(),
        "ML": smf.mixedlm(f"log_wage ~ {REGRESSORS}", wages, groups="worker").fit(reml=False),
    }


class FakePyfixest:
    """What is read of a fitted model of pyfixest 0.60."""

    _N, _fixef, _depvar, _method = 4360, "worker + year", "log_wage", "feols"
    _vcov_type_detail, _r2, _r2_within = "CRV1", 0.6155, 0.0076

    def coef(self) -> pd.Series:
        return pd.Series({"union": 0.0834, "married": 0.0583}).rename_axis("Coefficient")

    def se(self) -> pd.Series:
        return pd.Series({"union": 0.0231, "married": 0.0213}).rename_axis("Coefficient")

    def pvalue(self) -> pd.Series:
        return pd.Series({"union": 0.0003, "married": 0.06}).rename_axis("Coefficient")

    def confint(self, alpha: float = 0.05) -> pd.DataFrame:
        assert alpha == pytest.approx(0.05)
        return pd.DataFrame({"2.5%": [0.0381, 0.0164], "97.5%": [0.1287, 0.1003]}, index=self.coef().index)


def cell(found: JournalTable, label: str, column: int) -> str:
    return str(found.frame.loc[label].iloc[column])


def under(found: JournalTable, label: str, column: int) -> str:
    """The cell under a number."""
    frame = found.frame
    at = list(frame.index).index(label) + 1
    assert frame.index[at] == ""
    return str(frame.iloc[at, column])


# Rows -----------------------------------------------------------------------------------------------------------------


def test_rows_stand_in_the_order_that_economists_expect(fits: dict[str, Fit]) -> None:
    found = journal.table(fits)
    assert [label for label in found.frame.index if label] == [
        "union", "married", "experience", "within(union)", "within(married)", "within(experience)",
        "between(union)", "between(married)", "between(experience)", "Constant",
        "sd(worker)", "sd(residual)",
        "ICC worker", "R² marginal", "R² conditional", "R² within", "R² between", "R² overall",
        "worker fixed effects", "worker random effects", "Observations", "Units (worker)", "Method",
        "ELPD, LOO (s.e.)",
    ]  # fmt: skip
    assert list(found.frame.columns) == ["Pooled", "FE", "RE", "Mundlak"]
    assert [len(block) for block in found.blocks] == [20, 4, 12]


def test_cells_are_the_fits_own_numbers(fits: dict[str, Fit]) -> None:
    found = journal.table(fits)
    for k, fit in enumerate(fits.values()):
        for coef, row in fit.fixef().iterrows():
            label = "Constant" if coef == "Intercept" else coef
            in_row = [other.fixef()["sd"].get(coef, np.inf) for other in fits.values()]
            assert cell(found, label, k) == number(row["mean"], min(in_row))
            assert under(found, label, k) == f"({number(row['sd'], min(in_row))})"
        assert cell(found, "Observations", k) == "4,360"
        assert cell(found, "Units (worker)", k) == "545"
        assert cell(found, "Method", k) == "marginal"
        for label, value in fit.r2_panel()["mean"].items():
            assert cell(found, f"R² {label}", k) == f"{value:.3f}"
    sigma = fits["RE"].varcorr().loc[("Residual", "sigma", "")]
    assert float(cell(found, "sd(residual)", 2)) == pytest.approx(sigma["mean"], abs=6e-6)
    assert cell(found, "ICC worker", 2) == f"{fits['RE'].icc().loc['worker', 'mean']:.3f}"
    assert [cell(found, "R² conditional", k) for k in range(2)] == ["", f"{fits['FE'].r2()['mean'].iloc[1]:.3f}"]


def test_cells_that_a_fit_does_not_have_are_empty(fits: dict[str, Fit]) -> None:
    frame = journal.table(fits).frame
    assert list(frame.loc["worker fixed effects"]) == ["", "yes", "", ""]
    assert list(frame.loc["worker random effects"]) == ["", "", "yes", "yes"]
    assert list(frame.loc["within(union)"])[:3] == ["", "", ""]
    assert list(frame.loc["sd(worker)"])[:2] == ["", ""]  # an sd that is 1000 times that of wages is not shown
    assert list(frame.loc["ICC worker"])[:2] == ["", ""]


def test_decimals_are_those_of_the_smallest_sd_of_the_row(made: Made, table: pd.DataFrame) -> None:
    one = made("y ~ x", table)
    wide = made("y ~ x", table, priors={"beta[x]": hp.Prior("Normal", mu=0, sigma=1000)})
    sds = [fit.fixef().loc["x", "sd"] for fit in (one, wide)]
    assert sds[1] > 100 * sds[0]
    found = journal.table([one, wide])
    decimals = {
        len(text.strip("()").split(".")[1]) for k in range(2) for text in (cell(found, "x", k), under(found, "x", k))
    }
    assert decimals == {2 - int(np.floor(np.log10(sds[0])))}


def test_decimals_of_one_dependent_variable_do_not_depend_on_another(made: Made, table: pd.DataFrame) -> None:
    fits = [made("y ~ x", table), made("tiny ~ x", table.assign(tiny=table["y"] / 1e4)), made("y ~ x + z", table)]
    found, alone = journal.table(fits, stats=["sd"]), journal.table(fits[::2], stats=["sd"])
    for label in ("x", "Constant", "sd(residual)"):
        assert [cell(found, label, k) for k in (0, 2)] == list(alone.frame.loc[label])


def test_digits_are_decimals(fits: dict[str, Fit]) -> None:
    found = journal.table(fits, digits=2)
    mean, sd = fits["RE"].fixef().loc["union", ["mean", "sd"]]
    assert (cell(found, "union", 2), under(found, "union", 2)) == (f"{mean:.2f}", f"({sd:.2f})")
    assert re.fullmatch(r"0\.\d\d", cell(found, "ICC worker", 2))
    numbers = [text for text in found.frame.drop("ELPD, LOO (s.e.)").to_numpy().ravel() if "." in text]
    assert all(re.fullmatch(r"\(?-?\d+\.\d\d\)?", text) for text in numbers)
    assert "-0.00" not in numbers


def test_no_minus_before_zero(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ 0 + x", table, priors={"beta[x]": hp.Prior("Normal", mu=-1e-4, sigma=1e-6)})
    assert cell(journal.table(fit, digits=3), "x", 0) == "0.000"
    assert cell(journal.table(fit, digits=4), "x", 0) == "-0.0001"


def test_intervals_stand_in_brackets(fits: dict[str, Fit]) -> None:
    found = journal.table(fits, statistic="interval", prob=0.9, digits=4)
    low, high = fits["RE"].fixef(0.9).loc["union", ["lower", "upper"]]
    assert under(found, "union", 2) == f"[{low:.4f}, {high:.4f}]"
    low, high = fits["RE"].varcorr(0.9).loc[("worker", "Intercept", ""), ["lower", "upper"]]
    assert under(found, "sd(worker)", 2) == f"[{low:.4f}, {high:.4f}]"
    assert found.notes[0] == "Posterior means, with 90 % equal-tailed posterior intervals in brackets."


def test_slopes_correlations_and_fixed_sds_have_rows(made: Made, table: pd.DataFrame) -> None:
    first = made("y ~ x + (x | g) + (0 + z | h)", table)
    second = made("y ~ x + (1 | g) + fe(h)", table, priors={"sd_g": 0.25})
    third = made("y ~ x + fe(h) + (0 + z | h)", table, family="student_t")
    found = journal.table([first, second, third])
    labels = [label for label, _ in found.blocks[1] if label]
    assert labels == ["sd(g)", "sd(g: x)", "cor(g: constant, x)", "sd(h: z)", "sd(residual)", "sigma", "nu"]
    assert (cell(found, "sd(g)", 1), under(found, "sd(g)", 1)) == (
        number(0.25, first.draws("sd_g")[..., 0].std()),
        "(fixed)",
    )
    assert under(found, "cor(g: constant, x)", 0).startswith("(0.")
    assert list(found.frame.loc["h fixed effects"]) == ["", "yes", "yes"]
    assert list(found.frame.loc["h random effects"]) == ["yes", "", "yes"]
    assert list(found.frame.loc["Family"]) == ["", "", "student_t (identity)"]
    assert any("at 0 of the regressors" in note for note in found.notes)
    assert any("row-weighted mean" in note for note in found.notes)
    some = journal.table([first, second], keep="x", stats=["n"]).notes
    assert not any("at 0 of" in note or "row-weighted" in note for note in some)


def test_other_families_say_which_and_on_which_scale(made: Made, table: pd.DataFrame) -> None:
    logit, counts = made("hit ~ x + (1 | g)", table, family="bernoulli"), made("count ~ x", table, family="poisson")
    found = journal.table([logit, counts])
    assert list(found.frame.loc["Family"]) == ["bernoulli (logit)", "poisson (log)"]
    assert found.responses == ("hit", "count")
    assert "ICC and R² of a bernoulli response are on the latent scale of the logit link." in found.notes
    assert list(found.frame.loc["R² marginal"])[1] == ""
    assert "sd(residual)" not in found.frame.index
    assert "Dependent variable" not in str(found)
    assert str(found).splitlines()[2].split() == ["hit", "count"]


def test_columns_that_are_not_to_be_trusted_are_named(made: Made, table: pd.DataFrame) -> None:
    good, bad = made("y ~ x", table), made("y ~ x", table, diverging=3)
    bad.idata["posterior"]["beta"][0] += 10.0  # one chain is somewhere else
    found, problems = journal.table([good, bad, good], stats=["sd", "n"]), bad.diagnostics().problems
    assert any("The chains do not agree yet (largest R̂" in problem for problem in problems)
    assert [note for note in found.notes if note.startswith("(2)")] == [f"(2): {' '.join(problems)}"]
    assert not any(note.startswith(("(1)", "(3)")) for note in found.notes)
    assert f"(2): {' '.join(problems)}" in journal.table([good, bad], keep="x", stats=[]).notes
    for text in (found.as_text(), found.as_html(), found.as_latex(), found.as_markdown()):
        assert "(2): 3 of 1,000 draws diverged" in " ".join(text.split())
    assert r"(largest $\hat{R}$ " in found.as_latex()
    assert "\N{COMBINING CIRCUMFLEX ACCENT}" not in found.as_latex()


def test_columns_and_groups_that_are_called_like_rows_keep_their_own(made: Made, table: pd.DataFrame) -> None:
    df = table.rename(columns={"x": "Constant", "z": "const", "g": "residual", "h": "Observations"})
    fit = made("y ~ Constant + const + Observations + (1 | residual)", df)
    found, beta, sds = journal.table(fit), fit.fixef(), fit.varcorr()
    rows = {"Constant": "Intercept", "Constant (column)": "Constant", "const": "const"}
    for label, name in rows.items():
        assert cell(found, label, 0) == number(beta.loc[name, "mean"], beta.loc[name, "sd"])
    for label, row in (("sd(residual)", sds.iloc[0]), ("sigma", sds.iloc[1])):
        assert cell(found, label, 0) == number(row["mean"], row["sd"])
    assert list(found.frame.loc["Observations"].iloc[:, 0])[-1] == "60"


def test_weights_are_said(made: Made, table: pd.DataFrame) -> None:
    weighted = made("y ~ x", table, weights=np.linspace(0.5, 2, 60))
    assert any("precision weights" in note for note in journal.table(weighted).notes)
    assert not any("weight" in note for note in journal.table(weighted, stats=["n"]).notes)


def test_a_fit_without_coefficients_and_one_without_groups(made: Made, table: pd.DataFrame) -> None:
    found = journal.table([made("y ~ 0 + (1 | g)", table), made("hit ~ 1", table, family="bernoulli")])
    assert found.frame.loc["Constant"].iloc[0] == ""
    assert journal.table(made("y ~ 0 + (1 | g)", table), stats=["sd"]).blocks[0][0][0] == "sd(g)"
    assert journal.table(made("hit ~ 1", table, family="bernoulli"), stats=["sd"]).frame.shape == (2, 1)


def test_r2_of_a_regression_of_unit_means_and_by_two_factors(
    wages: pd.DataFrame, made: Made, table: pd.DataFrame
) -> None:
    between = made("between(log_wage) ~ between(union)", wages, panel=PANEL)
    assert not any("within" in label for label in journal.table(between).frame.index)
    crossed = made("y ~ x + (1 | g) + (1 | h)", table)
    assert not any("R² within" in label for label in journal.table(crossed).frame.index)
    assert [label for label in journal.table(crossed).frame.index if "ICC" in label] == ["ICC g", "ICC h"]


ELPD = "ELPD, LOO (s.e.)"
ELPD_IS = "ELPD: log density of a new row of a known unit, by leave-one-out, higher is better"


def test_elpd_stands_last_or_where_it_is_asked_for() -> None:
    fit = hp.fit("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"), draws=100, seed=1)
    loo = fit.loo()
    for stats, labels in ((None, ["Method", ELPD]), (["elpd", "n"], [ELPD, "Observations"]), (journal.STATS, None)):
        found = journal.table([fit], stats=stats)
        assert labels is None or [label for label, _ in found.blocks[-1]][-2:] == labels
        assert (ELPD in found.frame.index) == (f"{ELPD_IS}." in found.notes) == (labels is not None)
        if labels:
            assert cell(found, ELPD, 0) == f"{loo.elpd:,.1f} ({loo.se:.1f})"


def test_elpds_of_other_rows_or_responses_are_said_not_to_be_comparable(made: Made, table: pd.DataFrame) -> None:
    import statsmodels.formula.api as smf

    fit, other = made("y ~ x", table), made("y ~ z", table)
    apart = f"{ELPD_IS}; comparable only between columns of the same rows and response."
    assert f"{ELPD_IS}." in journal.table([fit, smf.ols("z ~ x", table).fit(), other]).notes
    for different in (made("z ~ x", table), made("y ~ x", table[1:]), made("y ~ x", table.assign(y=table["y"] + 1))):
        assert apart in journal.table([fit, other, different]).notes
        assert apart not in journal.table([fit, different], stats=["n"]).notes


def test_elpd_is_left_out_where_it_takes_long_or_is_not_defined(made: Made, table: pd.DataFrame) -> None:
    import statsmodels.formula.api as smf

    fit, few, ols = made("y ~ x", table), made("y ~ x", table, chains=4, draws=6), smf.ols("y ~ x", table).fit()
    many = made("y ~ x", pd.concat([table] * 167, ignore_index=True), draws=25)
    for columns, reason in (([fit, many], "more than 5,000 rows; stats=[…, 'elpd'] adds it"),
                            ([few, fit], "fewer than 25 draws")):  # fmt: skip
        found = journal.table(columns)
        assert f"ELPD left out: {reason}." in found.notes
        assert ELPD not in found.frame.index
        assert not any("ELPD" in note for note in journal.table(columns, stats=["n"]).notes)
    assert not any("ELPD" in note for note in journal.table(ols).notes)


def test_an_elpd_that_importance_sampling_does_not_reach_is_said_to_be_rough(made: Made, table: pd.DataFrame) -> None:
    heavy = {"beta[x]": hp.Prior("StudentT", nu=3, mu=0, sigma=1)}  # of Normal priors the scores are in closed form
    fit = made("y ~ x", table, priors=heavy)
    fit.idata["posterior"]["sigma"][:] = 0.1
    scores = fit.loo()
    bad = int((scores.pareto_k > scores.good_k).sum())
    assert bad > 1
    said = f"The ELPD is rough: Pareto k̂ of {bad} rows is above {scores.good_k:.2f}."
    assert any(note.startswith("(1): ") and note.endswith(said) for note in journal.table(fit).notes)
    assert r"Pareto $\hat{k}$ of" in journal.table(fit).as_latex()
    assert not any("rough: Pareto" in note for note in journal.table(fit, stats=["n"]).notes)


def test_stats_choose_and_order(fits: dict[str, Fit]) -> None:
    found = journal.table(fits, stats=["n", "effects", "sd"])
    assert [label for label, _ in found.blocks[1] if label] == ["sd(worker)", "sd(residual)"]
    assert [label for label, _ in found.blocks[2]] == ["Observations", "worker fixed effects", "worker random effects"]
    assert len(journal.table(fits, stats=[]).blocks) == 1
    assert journal.table(fits, stats=[]).notes == (
        "Posterior means, with posterior sds in parentheses.",
        "Beside fixed effects the constant is the row-weighted mean of the unit effects.",
    )


# keep, rename, stars --------------------------------------------------------------------------------------------------


def test_keep_takes_names_and_patterns_in_order(fits: dict[str, Fit]) -> None:
    def kept(keep: Any) -> list[str]:
        return [label for label, _ in journal.table(fits, keep=keep, stats=[]).blocks[0] if label]

    assert kept(["experience", "union"]) == ["experience", "union"]
    assert kept("union") == ["union"]  # a name, though it would match within(union)
    assert kept(["Intercept", "^between"]) == [
        "Constant", "between(union)", "between(married)", "between(experience)",
    ]  # fmt: skip
    assert kept(["const", "union", "."])[:3] == ["Constant", "union", "married"]
    assert kept(r"within\(.*\)") == ["within(union)", "within(married)", "within(experience)"]
    with pytest.raises(hp.FitError, match="keep='tenure'; there are: Constant, union, married, "):
        kept(["union", "tenure"])
    with pytest.raises(hp.FitError, match=r"keep='\(' is neither a coefficient nor a regular expression"):
        kept("(")


def test_rename_names_any_row_and_joins_rows(fits: dict[str, Fit]) -> None:
    rename = {"union": "Union", "within(union)": "Union", "Intercept": "(Intercept)", "sd(worker)": "Workers"}
    found = journal.table(fits, rename=rename | {"log_wage": "Log wage", "Observations": "N"})
    assert "within(union)" not in found.frame.index
    assert all(found.frame.loc["Union"] != "")
    assert {"(Intercept)", "Workers", "N"} <= set(found.frame.index)
    assert "Dependent variable: Log wage" in str(found)
    with pytest.raises(hp.FitError, match=r"two rows of column \(4\) the name 'u'"):
        journal.table(fits, rename={"within(union)": "u", "between(union)": "u"})


def test_stars_of_posteriors_are_of_p_pos(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ 0 + x + z", table, draws=1000)
    assert journal.table(fit, stars=False).notes == journal.table(fit).notes
    for shift, marks in ((-3.0, "***"), (-2.1, "**"), (-1.8, "*"), (-1.2, ""), (1.8, "*"), (3.2, "***")):
        draws = fit.draws("beta")[..., 0]
        fit.idata["posterior"]["beta"][..., 0] = (draws - draws.mean()) / draws.std() + shift
        p = fit.fixef().loc["x", "p_pos"]
        assert (max(p, 1 - p) > 0.95, max(p, 1 - p) > 0.975, max(p, 1 - p) > 0.995) == tuple(
            len(marks) > k for k in range(3)
        )
        found = journal.table(fit, stars=True)
        assert cell(found, "x", 0) == cell(journal.table(fit), "x", 0) + marks
    assert "*" not in cell(found, "sd(residual)", 0)
    assert found.notes[-1] == (
        "Posterior means: P(> 0), or P(< 0), is above 0.95 (*), 0.975 (**), 0.995 (***): two-sided 0.9, 0.95, 0.99; "
        "no test."
    )


# Other packages -------------------------------------------------------------------------------------------------------


def test_columns_of_statsmodels_and_linearmodels(classical: dict[str, Any], fits: dict[str, Fit]) -> None:
    found = journal.table({**classical, "RE": fits["RE"]}, digits=4)
    ols, within, gls, ml = classical.values()
    for k, fit in enumerate((ols, within, gls)):
        errors = getattr(fit, "bse", None) if k == 0 else fit.std_errors
        for name in ("union", "married", "experience"):
            assert cell(found, name, k) == f"{fit.params[name]:.4f}"
            assert under(found, name, k) == f"({errors[name]:.4f})"
    assert (cell(found, "union", 3), under(found, "union", 3)) == (
        f"{ml.fe_params['union']:.4f}", f"({ml.bse_fe['union']:.4f})",
    )  # fmt: skip
    assert list(found.frame.loc["Constant"])[1] == ""
    assert all(found.frame.loc["Constant"].iloc[[0, 2, 3, 4]] != "")  # Intercept of all, on one row
    assert list(found.frame.loc["worker fixed effects"]) == ["", "yes", "", "", ""]
    assert list(found.frame.loc["worker random effects"]) == ["", "", "yes", "yes", "yes"]
    assert list(found.frame.loc["Units (worker)"]) == ["", "545", "545", "545", "545"]
    assert list(found.frame.loc["Observations"]) == ["4,360"] * 5
    assert list(found.frame.loc["Method"]) == ["OLS", "PanelOLS", "RandomEffects", "MixedLM, ML", "marginal"]
    assert list(found.frame.loc["R²"]) == [f"{ols.rsquared:.4f}", "", "", "", ""]
    assert cell(found, "R² within", 1) == f"{within.rsquared_within:.4f}"
    assert list(found.frame.loc["R² between"])[:3] == ["", "", f"{gls.rsquared_between:.4f}"]
    assert list(found.frame.loc["R² overall"])[:3] == ["", "", f"{gls.rsquared_overall:.4f}"]
    assert found.frame.loc["sd(worker)"].iloc[2] == f"{gls.variance_decomposition['Effects'] ** 0.5:.4f}"
    assert found.frame.loc["sd(worker)"].iloc[3] == f"{float(ml.cov_re.iloc[0, 0]) ** 0.5:.4f}"
    share = ml.cov_re.iloc[0, 0] / (ml.cov_re.iloc[0, 0] + ml.scale)
    assert found.frame.loc["ICC worker"].iloc[3] == f"{share:.4f}"
    # the unit effects count as parameters, whichever standard errors are asked for
    assert float(cell(found, "sd(residual)", 1)) == pytest.approx((within.resid_ss / (4360 - 545 - 3)) ** 0.5, abs=6e-5)
    assert float(cell(found, "sd(residual)", 1)) == pytest.approx(fits["FE"].draws("sigma").mean(), rel=0.01)
    assert found.notes[:5] == (
        "(1): estimates, with HC1 standard errors in parentheses.",
        "(2): estimates, with clustered standard errors in parentheses.",
        "(3): estimates, with unadjusted standard errors in parentheses.",
        "(4): estimates, with standard errors in parentheses.",
        "(5): posterior means, with posterior sds in parentheses.",
    )
    assert "Without a constant R² between and overall are about 0, not about the mean, and left out." in found.notes


def test_intervals_and_stars_of_other_packages(classical: dict[str, Any], fits: dict[str, Fit]) -> None:
    everyone = {**classical, "RE": fits["RE"]}
    found = journal.table(everyone, statistic="interval", stars=True, prob=0.9, digits=4, keep="union", stats=[])
    intervals = [
        classical["OLS"].conf_int(alpha=0.1).loc["union"], classical["Within"].conf_int(level=0.9).loc["union"],
        classical["GLS"].conf_int(level=0.9).loc["union"], classical["ML"].conf_int(alpha=0.1).loc["union"],
    ]  # fmt: skip
    assert [under(found, "union", k) for k in range(4)] == [f"[{low:.4f}, {high:.4f}]" for low, high in intervals]
    assert all(text.endswith("***") for text in found.frame.loc["union"])
    assert found.notes[0] == "(1): estimates, with 90 % confidence intervals from HC1 standard errors in brackets."
    assert found.notes[-2] == "Estimates: * p < 0.1, ** p < 0.05, *** p < 0.01."
    assert found.notes[-1].startswith("Posterior means: P(> 0), or P(< 0)")


def test_stars_of_other_packages_are_of_p(table: pd.DataFrame) -> None:
    import statsmodels.api as sm

    for scale in (0.02, 0.3, 0.45, 0.6, 3.0):
        y = scale * table["x"] + np.random.default_rng(3).normal(0, 1.5, 60)
        fit = sm.OLS(y.rename("y"), sm.add_constant(table[["x"]])).fit()
        marks = sum(fit.pvalues["x"] < level for level in (0.1, 0.05, 0.01))
        assert cell(journal.table(fit, stars=True), "x", 0).count("*") == marks


def test_results_without_names(table: pd.DataFrame) -> None:
    import statsmodels.api as sm

    fit = sm.OLS(table["y"].to_numpy(), sm.add_constant(table[["x"]].to_numpy())).fit()
    found = journal.table([fit])
    assert [label for label, _ in found.blocks[0] if label] == ["x1", "Constant"]
    mixed = sm.MixedLM(table["y"].to_numpy(), sm.add_constant(table[["x"]].to_numpy()), table["g"].to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a group variance of 0
        fit = mixed.fit()
    assert [label for label, _ in journal.table(fit).blocks[0] if label] == ["x1", "Constant"]


def test_mixedlm_with_slopes_and_with_variance_components(table: pd.DataFrame, made: Made) -> None:
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(4)
    df = pd.DataFrame({"g": np.repeat(np.arange(40), 10), "x": rng.normal(size=400)})
    b = rng.normal(size=(40, 2)) @ [[1, 0.4], [0, 0.8]]
    df["y"] = df["x"] + b[df["g"], 0] + b[df["g"], 1] * df["x"] + rng.normal(size=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slopes = smf.mixedlm("y ~ x", df, groups="g", re_formula="~x").fit()
        parts = smf.mixedlm("y ~ x", df, groups="g", re_formula="1", vc_formula={"by_x": "0 + x"}).fit()
    found = journal.table([slopes, parts, made("y ~ x + (x | g)", df)], digits=4)
    S = slopes.cov_re.to_numpy()
    cor = S[0, 1] / np.sqrt(S[0, 0] * S[1, 1])
    assert cell(found, "cor(g: constant, x)", 0) == f"{cor:.4f}"
    assert cell(found, "sd(g: x)", 0) == f"{S[1, 1] ** 0.5:.4f}"
    assert cell(found, "sd(by_x)", 1) == f"{parts.vcomp[0] ** 0.5:.4f}"
    assert cell(found, "sd(g)", 2) != ""
    assert list(found.frame.loc["ICC g"])[:2] == ["", ""]


def test_other_effects_instruments_and_levels_of_factors(wages: pd.DataFrame, made: Made) -> None:
    import statsmodels.formula.api as smf
    from linearmodels.iv import IV2SLS
    from linearmodels.panel import PanelOLS

    df = wages[wages["worker"] < 2000]
    panel = df.set_index(list(PANEL))
    effects = PanelOLS(panel["log_wage"], panel[["union"]], entity_effects=True, other_effects=panel[["occupation"]])
    both = PanelOLS(panel["log_wage"], panel[["union"]], entity_effects=True, time_effects=True)
    instrument = IV2SLS.from_formula("log_wage ~ 1 + married + [union ~ hours]", df)
    years = smf.ols("log_wage ~ C(year)", df).fit()
    logit = smf.logit("union ~ married", df).fit(disp=0)
    found = journal.table([effects.fit(), both.fit(), instrument.fit(), years, made("log_wage ~ C(year)", df), logit])
    assert list(found.frame.loc["worker fixed effects"])[:2] == ["yes", "yes"]
    assert list(found.frame.loc["occupation fixed effects"])[:2] == ["yes", ""]
    assert list(found.frame.loc["year fixed effects"])[:2] == ["", "yes"]
    assert cell(found, "Method", 2) == "IV2SLS"
    assert all(found.frame.loc["C(year)[1981]"].iloc[3:5] != "")
    assert cell(found, "Method", 5) == "Logit"
    assert found.responses[-1] == "union"


def test_statsmodels_says_family_quantile_and_that_it_did_not_converge(table: pd.DataFrame) -> None:
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    df = table.assign(miss=1 - table["hit"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stopped = smf.logit("hit ~ x", df).fit(disp=0, maxiter=1)
        cut = smf.glm("hit ~ x", df, family=sm.families.Binomial()).fit(maxiter=1)
    counts = smf.glm("count ~ x", df, family=sm.families.Poisson()).fit()
    shares = smf.glm("hit + miss ~ x", df, family=sm.families.Binomial()).fit()
    quantile, hazard = smf.quantreg("y ~ x", df).fit(q=0.3), smf.phreg("h ~ x", df).fit()
    found = journal.table([stopped, cut, counts, shares, quantile, hazard])
    assert list(found.frame.loc["Family"]) == ["", "binomial (logit)", "poisson (log)", "binomial (logit)", "", ""]
    assert list(found.frame.loc["Method"]) == ["Logit", "GLM", "GLM", "GLM", "QuantReg, quantile 0.3", "PHReg"]
    assert list(found.frame.loc["Observations"])[3:] == ["60", "60", ""]
    assert found.responses[3] == "hit, miss"
    said = "The estimation did not converge, so the numbers are not to be trusted."
    assert [note for note in found.notes if "converge" in note] == [f"({k}): {said}" for k in (1, 2)]
    with pytest.raises(hp.FitError, match="ContrastResults"):
        journal.table(quantile.t_test("x = 0"))


def test_slopes_of_bools_and_errors_of_linearmodels_have_their_names(made: Made, table: pd.DataFrame) -> None:
    import statsmodels.formula.api as smf
    from linearmodels.panel import FamaMacBeth, PanelOLS

    df = table.assign(u=table["hit"] == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixed = smf.mixedlm("y ~ u", df, groups="g", re_formula="~u").fit()
    frame = journal.table([made("y ~ u + (u | g)", df), mixed], stats=["sd"]).frame
    for label in ("sd(g)", "sd(g: u)", "cor(g: constant, u)"):
        assert all(frame.loc[label] != "")
    panel = df.assign(g=df["g"].map(ord), t=np.tile(np.arange(10), 6)).set_index(["g", "t"])
    within = PanelOLS.from_formula("y ~ x + EntityEffects", panel)
    periods = FamaMacBeth.from_formula("y ~ 1 + x", panel)
    fits = [within.fit(cov_type="driscoll-kraay"), within.fit(cov_type="robust"), periods.fit()]
    errors = ["Driscoll-Kraay", "robust", "Fama-MacBeth"]
    assert journal.table(fits).notes[:3] == tuple(
        f"({k}): estimates, with {name} standard errors in parentheses." for k, name in enumerate(errors, 1)
    )


def test_columns_of_pyfixest() -> None:
    found = journal.table([FakePyfixest()], stars=True, statistic="interval")
    assert cell(found, "union", 0) == "0.0834***"
    assert under(found, "married", 0) == "[0.0164, 0.1003]"
    assert cell(found, "married", 0) == "0.0583*"
    rows = dict(found.blocks[-1])
    assert rows == {
        "R²": ("0.616",), "R² within (worker, year)": ("0.008",), "worker fixed effects": ("yes",),
        "year fixed effects": ("yes",), "Observations": ("4,360",), "Method": ("feols",),
    }  # fmt: skip
    assert found.notes[0] == "Estimates, with 95 % confidence intervals from CRV1 standard errors in brackets."
    pooled = type("Pooled", (FakePyfixest,), {"_fixef": None, "_r2": np.nan})()
    assert list(dict(journal.table(pooled).blocks[-1])) == ["R² within", "Observations", "Method"]
    crossed = type("Crossed", (FakePyfixest,), {"_fixef": "worker^year"})()
    assert "worker:year fixed effects" in dict(journal.table(crossed).blocks[-1])


def test_interactions_and_bools_line_up(made: Made, table: pd.DataFrame) -> None:
    import statsmodels.formula.api as smf

    df = table.assign(u=table["hit"] == 1, f=np.where(table["h"] > 2, "a:b", "c"))
    columns = [
        made("y ~ x * z", df), made("y ~ z * x", df), smf.ols("y ~ z * x", df).fit(),
        made("y ~ u * x", df), smf.ols("y ~ x * u", df).fit(), made("y ~ x * C(u)", df),
        made("y ~ x * C(f)", df), smf.ols("y ~ C(f) * x", df).fit(),
    ]  # fmt: skip
    found = journal.table(columns, stats=[])
    shown = {label: [bool(text) for text in row] for label, *row in found.frame.itertuples() if label}
    here = {label: "".join("-x"[has] for has in row) for label, row in shown.items()}
    assert here == {
        "x": "xxxxxxxx", "z": "xxx-----", "x:z": "xxx-----", "u": "---xx---", "u:x": "---xx---",
        "C(u)[True]": "-----x--", "x:C(u)[True]": "-----x--", "C(f)[c]": "------xx",
        "x:C(f)[c]": "------xx", "Constant": "xxxxxxxx",
    }  # fmt: skip
    assert cell(found, "u:x", 4) == number(columns[4].params["x:u[T.True]"], columns[3].fixef().loc["u:x", "sd"])
    assert [label for label, _ in journal.table(columns[4:6] + columns[3:4], stats=[]).blocks[0] if label] == [
        "u[True]", "x", "x:u[True]", "C(u)[True]", "x:C(u)[True]", "Constant",
    ]  # fmt: skip
    for name in ("u:x", "x:u", "x:u[T.True]", "u[True]:x"):
        some = journal.table(columns[3:5], keep=name, rename={name: "both"}, stats=[])
        assert [label for label, _ in some.blocks[0]] == ["both", ""]


def test_a_bool_with_a_coefficient_for_each_value_is_not_the_difference() -> None:
    assert alike(["u[False]", "u[True]", "x:u[True]"]) == {
        "u[False]": "u[False]", "u[True]": "u[True]", "x:u[True]": "u[True]:x",
    }  # fmt: skip
    names = ["g(b:a)", "f[q:p]:e", "year::1981:d", "b:a", "a:b", "u", "u[T.True]"]
    assert list(alike(names).values()) == ["g(b:a)", "e:f[q:p]", ":1981:d:year", "a:b", "a:b", "u", "u[T.True]"]


# What cannot be shown -------------------------------------------------------------------------------------------------


def test_what_is_no_fit_is_named(table: pd.DataFrame) -> None:
    import statsmodels.formula.api as smf

    unfitted = smf.ols("y ~ x", table)
    several = smf.mnlogit("h ~ x", table).fit(disp=0)
    model = hp.Model("y ~ x", table)
    for thing, name in (
        (table, "DataFrame"),
        (model, "Model"),
        (unfitted, "OLS"),
        (several, "Wrapper"),
        (1, "builtins.int"),
    ):
        with pytest.raises(hp.FitError, match=rf"a fitted result, of one equation, of statsmodels, .* not a .*{name}"):
            journal.table([thing])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a", "b"]}, "as many names as fits: 1 fits"),
        ({"stats": ["n", "aic"]}, "stats is a list of names out of sd, icc, .*elpd; not 'aic'"),
        ({"stats": "n"}, "stats is a list"),
        ({"statistic": "se"}, "statistic is 'sd' or 'interval', not 'se'"),
        ({"digits": -1}, "digits is a number of decimals"),
        ({"digits": 2.5}, "digits is a number of decimals"),
        ({"prob": 95}, "prob is the probability"),
        ({"names": "a"}, "as many names as fits: 1 fits, names='a'"),
        ({"names": 3}, "as many names as fits: 1 fits, names=3"),
        ({"digits": True}, "digits is a number of decimals"),
        ({"stats": 3}, "stats is a list of names out of .* not 3"),
        ({"stars": "yes"}, "stars is True or False, not 'yes'"),
        ({"keep": 3}, "keep is a coefficient, a regular expression, or a list of these, not 3"),
        ({"rename": ["a"]}, r"rename is a mapping, as in rename=\{'union': .*, not \['a'\]"),
        ({"rename": {"x": 3}}, "rename is a mapping"),
        ({"rename": {"typo": "a"}}, r"'typo', which no row is called; the rows are: Constant, x, sd\(residual\), "),
        ({"title": 3}, "title is a text, not 3"),
        ({"notes": 3}, "notes is a sentence, or a list of sentences, not 3"),
        ({"notes": [3]}, "notes is a sentence"),
        ({"label": 3}, r"label is what \\ref refers to, such as 'tab:wages', .*; not 3"),
        ({"label": "tab{1}"}, "label is what"),
    ],
)
def test_options_that_do_not_suit(options: Any, message: str, made: Made, table: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match=message):
        journal.table(made("y ~ x", table), **options)


def test_one_note_is_one_sentence(made: Made, table: pd.DataFrame) -> None:
    assert journal.table(made("y ~ x", table), notes="One note.", stats=["n"]).notes[-1] == "One note."


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(hp.FitError, match="one fit or more"):
        journal.table([])


# What is printed ------------------------------------------------------------------------------------------------------


def test_text_reads_like_a_table(fits: dict[str, Fit]) -> None:
    chosen = {name: fits[name] for name in ("Pooled", "RE")}
    found = journal.table(
        chosen, title="Wages", digits=3, stars=True, stats=["sd", "icc", "effects", "n"], notes=["Men only."]
    )
    estimates = [journal.table(chosen, digits=3, stars=True).frame.loc[name] for name in ("union", "Constant")]
    text = str(found)
    lines = text.splitlines()
    width = len(lines[2])
    assert lines[0].strip() == "Wages"
    assert lines[1].strip() == "Dependent variable: log_wage"
    assert lines[2] == "=" * width
    assert [line.split() for line in lines[3:5]] == [["(1)", "(2)"], ["Pooled", "RE"]]
    assert lines[5] == "-" * width
    assert lines[6].split() == ["union", *estimates[0]]
    assert lines[12].split() == ["Constant", *estimates[1]]
    assert max(map(len, lines[:-4])) == width
    assert " ".join(lines).endswith("no test. Men only.")
    points = [{line.index(".", 22, 36) for line in lines[6:14]}, {line.rindex(".") for line in lines[6:14]}]
    assert [len(places) for places in points] == [1, 1]  # decimal points under each other, stars or not


def test_html_is_well_formed_and_escaped(made: Made, table: pd.DataFrame) -> None:
    found = nasty(made, table)
    root = ElementTree.fromstring(f"<body>{found.as_html()}</body>")
    text = "".join(root.itertext())
    assert '<b> & "c"' in text
    assert "<b>" not in found.as_html()
    assert found._repr_html_() == found.as_html()
    assert found.title is not None
    assert found.title in text
    widths = {sum(int(c.get("colspan", 1)) for c in row) for row in root.iter("tr")}
    assert widths == {3}


NASTY = "a <b> & \"c\" _d% 'e' #f$ {g} ~^\\|"


def nasty(made: Made, table: pd.DataFrame) -> JournalTable:
    df = table.assign(f=np.where(table["h"] > 2, NASTY, "0")).rename(columns={"x": "x & <y>_%", "z": "β"})
    fit = made("y ~ `x & <y>_%` + f + β + (f | g)", df)
    rename = {"β": "[β]", "Observations": "*N"}
    return journal.table({NASTY: fit, "b_": fit}, title=f"T {NASTY}", rename=rename, stars=True, notes=[NASTY])


def test_latex_is_balanced_and_escaped(made: Made, table: pd.DataFrame) -> None:
    latex = nasty(made, table).as_latex()
    lines = latex.splitlines()
    assert lines[:2] == [r"\begin{table}[htbp]", r"\centering"]
    assert lines[-1] == r"\end{table}"
    for environment in ("table", "tabular", "minipage"):
        assert latex.count(rf"\begin{{{environment}}}") == latex.count(rf"\end{{{environment}}}") == 1
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", *[r"\midrule"] * 3, r"\bottomrule"]
    rows = [line for line in lines if line.endswith(r"\\")]
    assert r"\multicolumn{2}{c}{Dependent variable: y}" in rows[0]
    for line in lines:
        plain = re.sub(r"\\textbackslash\{\}|\\[\^~]\{\}|\\[_%&#${}]", "", line.removesuffix(r"\\"))  # what is escaped
        assert plain.count("{") == plain.count("}")
        assert plain.count("$") % 2 == 0
        if line in rows[1:]:
            assert plain.count("&") == 2
            assert not re.search(r"[_%#~^<>|]", re.sub(r"\$[^$]*\$", "", plain)), line
            assert not line.startswith(("[", "*"))
    assert any(line.startswith(r"{}[$\beta$] & ") for line in rows)
    assert any(line.startswith("{}*N & ") for line in rows)
    assert "R$^2$ marginal" in latex


def test_latex_cells_have_a_minus_and_stars_without_width(fits: dict[str, Fit], classical: dict[str, Any]) -> None:
    latex = journal.table(fits, stars=True, digits=3, rename={"union": "Union"}).as_latex()
    assert r" & $-$0.032\rlap{$^{***}$} \\" in latex
    assert re.search(r"Union & 0\.\d{3}\\rlap\{\$\^\{\*\*\*\}\$\} & ", latex)
    assert not re.search(r"(?<![\w$])-\d", latex.split(r"\bottomrule")[0].split(r"\midrule", 1)[1])
    words = JournalTable(None, (), ("y",), ((("IV-2SLS", ("IV-2SLS",)), ("", ("[-1, ∞]",))),), ())
    assert r"IV-2SLS & IV-2SLS \\" in words.as_latex()
    assert r" & [$-$1, $\infty$] \\" in words.as_latex()


def test_very_small_and_large_numbers_are_powers_of_ten() -> None:
    cells = ("4.381e-06***", "-1.18e-04", "(9.999e-07)", "[-1.2e-105, 3.00e+12]")
    row = ("x", (*cells, "a2e-05", "1.5 (0.3)"))
    found = JournalTable(None, (), ("y",) * 6, ((row,),), ())
    assert found.as_latex().splitlines()[8] == (
        r"x & $4.38\times10^{-6}$\rlap{$^{***}$} & $-1.18\times10^{-4}$ & ($1.00\times10^{-6}$) & "
        r"[$-1.2\times10^{-105}$, $3.00\times10^{12}$] & a2e-05 & 1.5 (0.3) \\"
    )
    root = ElementTree.fromstring(found.as_html())
    assert [cell.text for cell in root.iter("td")] == [
        "4.38 × 10⁻⁶***", "-1.18 × 10⁻⁴", "(1.00 × 10⁻⁶)", "[-1.2 × 10⁻¹⁰⁵, 3.00 × 10¹²]", "a2e-05", "1.5 (0.3)",
    ]  # fmt: skip
    for text in (found.as_text(), found.as_markdown().replace("\\", "")):
        assert all(cell in text for cell in cells)


def test_a_table_can_be_referred_to(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x", table)
    lines = journal.table(fit, stats=["n"], title="Wages", label="tab:wages_1").as_latex().splitlines()
    assert lines[2:4] == [r"\caption{Wages}", r"\label{tab:wages_1}"]
    assert "label" not in journal.table(fit, stats=["n"], title="Wages").as_latex()


def test_markdown_has_a_head_a_rule_and_escapes(fits: dict[str, Fit], made: Made, table: pd.DataFrame) -> None:
    found = journal.table(fits, title="Wages", stats=["n"]).as_markdown().split("\n\n")
    assert found[:2] == ["**Wages**", "Dependent variable: log_wage"]
    rows = found[2].splitlines()
    assert rows[0] == "|  | (1) Pooled | (2) FE | (3) RE | (4) Mundlak |"
    assert rows[1] == "| :-- | :-: | :-: | :-: | :-: |"
    assert {row.count("|") for row in rows} == {6}
    assert found[3].startswith("*Notes:* Posterior means")
    for row in nasty(made, table).as_markdown().split("\n\n")[2].splitlines():
        assert len(re.findall(r"(?<!\\)\|", row)) == 4
        assert "<b>" not in row.replace(r"\<b>", "")
    assert r"0.95 (\*)" in nasty(made, table).as_markdown()


def test_frames_hold_strings(fits: dict[str, Fit]) -> None:
    frame = journal.table(list(fits.values())).frame
    assert list(frame.columns) == ["(1)", "(2)", "(3)", "(4)"]
    assert all(isinstance(text, str) for text in frame.to_numpy().ravel())
    assert journal.table(list(fits.values()), names=[1, 2, 3, 4]).names == ("1", "2", "3", "4")


@pytest.mark.parametrize("suffix", ["txt", "html", "tex", "md", "TEX"])
def test_save_goes_by_the_ending(suffix: str, tmp_path: Path, made: Made, table: pd.DataFrame) -> None:
    found = journal.table(made("y ~ x", table))
    found.save(tmp_path / f"t.{suffix}")
    writers = {"txt": found.as_text, "html": found.as_html, "tex": found.as_latex, "md": found.as_markdown}
    text = (tmp_path / f"t.{suffix}").read_text(encoding="utf-8")
    assert text.endswith(f"{writers[suffix.lower()]()}\n")
    assert text.startswith("<!doctype html>") == (suffix == "html")


def test_save_refuses_other_endings_and_folders(tmp_path: Path, made: Made, table: pd.DataFrame) -> None:
    found = journal.table(made("y ~ x", table))
    for name in ("t.docx", "t"):
        with pytest.raises(hp.FileError, match=r"one of \.txt, \.html, \.tex, \.md"):
            found.save(tmp_path / name)
    with pytest.raises(hp.FileError, match="does not exist"):
        found.save(tmp_path / "none" / "t.tex")


def test_a_table_is_frozen_and_shows_itself(made: Made, table: pd.DataFrame) -> None:
    found = journal.table(made("y ~ x", table))
    with pytest.raises(AttributeError):
        found.title = "other"  # type: ignore[misc]
    assert repr(found) == str(found) == found.as_text()


# maketables -----------------------------------------------------------------------------------------------------------
# Source: the plug-in format of maketables 0.2, PLUGIN_EXTRACTOR_FORMAT.md.


def test_coefficients_for_maketables(fits: dict[str, Fit]) -> None:
    found, fit = journal.maketables_coef_table(fits["RE"]), fits["RE"]
    assert type(found) is pd.DataFrame
    assert found.index.name == "Coefficient"
    assert list(found.index) == ["Intercept", "union", "married", "experience"]
    assert {"b", "se", "p"} <= set(found.columns)
    np.testing.assert_array_equal(found["b"], fit.params)
    np.testing.assert_array_equal(found["se"], fit.bse)
    np.testing.assert_array_equal(found[["ci95l", "ci95u"]], fit.conf_int(0.05))
    np.testing.assert_array_equal(found[["ci90l", "ci90u"]], fit.conf_int(0.1))
    assert found["p"].isna().all()  # so that no stars are printed
    assert all(dtype.kind == "f" for dtype in found.dtypes)


def test_statistics_for_maketables(fits: dict[str, Fit]) -> None:
    pooled, fe, re_ = fits["Pooled"], fits["FE"], fits["RE"]
    assert journal.maketables_stat(re_, "N") == 4360
    assert journal.maketables_stat(re_, "Units (worker)") == journal.maketables_stat(pooled, "Units (worker)") == 545
    assert journal.maketables_stat(re_, "ICC worker") == pytest.approx(re_.icc().loc["worker", "mean"])
    assert journal.maketables_stat(fe, "ICC worker") is None
    assert journal.maketables_stat(re_, "r2_within") == pytest.approx(re_.r2_panel().loc["within", "mean"])
    assert journal.maketables_stat(pooled, "r2") == pytest.approx(pooled.r2().loc["marginal", "mean"])
    assert journal.maketables_stat(re_, "r2") is None  # marginal or conditional?
    assert journal.maketables_stat(re_, "se_type") == "posterior sd"
    assert journal.maketables_stat(re_, "Method") == "marginal"
    assert journal.maketables_stat(re_, "aic") is None
    for fit in fits.values():
        labels, keys = journal.maketables_stat_labels(fit), journal.maketables_default_stat_keys(fit)
        assert set(keys) <= set(labels)
        assert all(isinstance(journal.maketables_stat(fit, key), (int, float, str)) for key in keys)
    assert journal.maketables_stat_labels(re_)["ICC worker"] == "ICC worker"


def test_statistics_that_the_first_model_has_not_are_readable(fits: dict[str, Fit]) -> None:
    shared = {"N", "r2_within", "r2_between", "r2_overall"}  # keys of other packages, which maketables labels
    for fit in fits.values():
        labels = journal.maketables_stat_labels(fit)
        assert {key for key, label in labels.items() if key != label} == shared
        assert {"Units (worker)", "R² marginal", "Method"} <= set(journal.maketables_default_stat_keys(fit))


def test_words_for_maketables(fits: dict[str, Fit], made: Made, table: pd.DataFrame) -> None:
    assert journal.maketables_depvar(fits["RE"]) == "log_wage"
    assert journal.maketables_fixef_string(fits["RE"]) is None
    assert journal.maketables_fixef_string(made("y ~ x + fe(g) + fe(h)", table)) == "g+h"
    assert journal.maketables_vcov_info(fits["RE"]) == {"vcov_type": "posterior sd", "clustervar": None}
