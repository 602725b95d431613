"""A changed model: what "~ . + x" means, and what of the earlier fit stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.errors import FitError, FormulaError
from hierpanel.formula import parse
from hierpanel.formula.update import changed
from hierpanel.results.fit import Fit

SIGMA = hp.Prior("Exponential", lam=0.5)
CHANGES = [
    ("y ~ x", "~ . + z", "y ~ x + z"),
    ("y ~ x", "~.+z", "y ~ x + z"),
    ("y ~ x", ". ~ . + I(x**2)", "y ~ x + I(x**2)"),
    ("y ~ x", "log(y) ~ .", "log(y) ~ x"),
    ("prop(s, n) ~ x", "~ . + z", "prop(s, n) ~ x + z"),
    ("y ~ x", "~ z", "y ~ z"),
    ("y ~ x", "~ . - x", "y ~ 1"),
    ("y ~ x", "~ . - 1", "y ~ 0 + x"),
    ("y ~ 0 + x", "~ .", "y ~ 0 + x"),
    ("y ~ 0 + x", "~ . + 1", "y ~ x"),
    ("y ~ x * z", "~ . - x:z", "y ~ x + z"),
    ("y ~ x * z", "~ . - x * z", "y ~ 1"),
    ("y ~ bs(x, df=4) + z", "~ . - bs(x, df=4)", "y ~ z"),
    ("y ~ mundlak(x) + (1 | g)", "~ . - between(x)", "y ~ within(x) + (1 | g)"),
    ("y ~ mundlak(x) + (1 | g)", "~ . - mundlak(x)", "y ~ (1 | g)"),
    ("y ~ x + (x | g)", "~ . - (1 + x | g)", "y ~ x"),
    ("y ~ x + (x || g)", "~ . - (x || g) + (x | g)", "y ~ x + (x | g)"),
    ("y ~ x + (1 | g)", "~ . - (1 | g) + fe(g)", "y ~ x + fe(g)"),
    ("y ~ x + fe(g)", "~ . - fe(g) + (1 | g)", "y ~ x + (1 | g)"),
    ("y ~ x + (1 | g)", "~ . - (1 | g) - x", "y ~ 1"),
    ("y ~ x + (1 | g/h)", "~ . - (1 | g/h)", "y ~ x"),
    ("y ~ x + (1 | g/h)", "~ . - (1 | g)", "y ~ x + (1 | g:h)"),
    ("y ~ x + (1 | g/h)", "~ . - (1 | g:h)", "y ~ x + (1 | g)"),
    ("y ~ (bs(x, df=3) | g)", "~ . - (bs(x, df=3) | g)", "y ~ 1"),
    ("y ~ x + offset(log(z))", "~ . - offset(log(z))", "y ~ x"),
    ("y ~ x + offset(log(z))", "~ . + w", "y ~ x + w + offset(log(z))"),
    ("y ~ x + z", "~ . - x - 1", "y ~ 0 + z"),
    ("y ~ 0 + x", "~ . + 1 + x:z", "y ~ 1 + x + x:z"),
    ("y ~ x + (x | g)", "~ . - (x|g) + (1 | g)", "y ~ 1 + x + (1 | g)"),
    ("y ~ x + (1 | g) + fe(h)", "~ . - (1 | g) + z - fe(h)", "y ~ 1 + x + z"),
    ("y ~ (1 | a) + (1 | b)", "~ . - (1 | a) + (1 | c)", "y ~ 1 + (1 | b) + (1 | c)"),
    ("y ~ x + (1 | g) + (0 + x | g)", "~ . - (0 + x | g)", "y ~ 1 + x + (1 | g)"),
    ("y ~ x + (log(I(x + 1)) | g)", "~ . - (log(I(x+1)) | g)", "y ~ 1 + x"),
    ("y ~ x + (1 | g)", "~ . - ((1 | g))", "y ~ 1 + x"),
    ("y ~ x + (1 | `g(`)", "~ . - (1 | `g(`)", "y ~ 1 + x"),
    ("y ~ x + offset(log(I(n + 1)))", "~ . - offset(log(I(n+1)))", "y ~ 1 + x"),
]


@pytest.mark.parametrize(("before", "change", "after"), CHANGES)
def test_the_dot_stands_for_what_was_there(before: str, change: str, after: str) -> None:
    found = changed(parse(before), change)
    assert (str(found), found) == (str(parse(after)), parse(after))


@pytest.mark.parametrize(
    ("before", "change", "says"),
    [
        ("y ~ x", "~ . - z", "'- z' takes away a term that is not there"),
        ("y ~ x + (1 | g)", "~ . - (1 | k)", r"no \(1 \| k\) to take away; there is: \(1 \| g\)"),
        ("y ~ x + (1 | g)", "~ . - (1 | g/h)", r"no \(1 \| g:h\) to take away"),
        ("y ~ x", "~ . - fe(g)", r"no fe\(g\) to take away; there is: none"),
        ("y ~ x", "~ .:z", r"after '.' come terms"),
        ("y ~ x", "~ z + .", r"stands once, first"),
        ("y ~ x", "~ . + .", r"stands once, first"),
        ("y ~ x", ". + z", "one '~'"),
        ("y ~ x", 3, "one '~'"),
        ("y ~ x + (1 | g)", "~ . + (x | g)", "the intercept varies by g twice"),
        ("y ~ (1 | g/h)", "~ . - (1 | g) - (1 | g)", r"no \(1 \| g\) to take away; there is: \(1 \| g:h\)"),
        ("y ~ offset(n)", "~ . - offset(n", r"this '\(' is not closed"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(before: str, change: Any, says: str) -> None:
    with pytest.raises(FormulaError, match=says):
        changed(parse(before), change)


@pytest.fixture(scope="module")
def df() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"g": np.repeat(np.arange(12), 6), "t": np.tile(np.arange(6), 12)})
    table["x"], table["z"], table["w"] = rng.normal(size=72), rng.normal(size=72), rng.uniform(1, 3, size=72)
    table["y"] = 1 + table.x + rng.normal(size=12)[table.g] + rng.normal(size=72)
    return table


@pytest.fixture(scope="module")
def fit(df: pd.DataFrame) -> Fit:
    priors = {"beta[x]": hp.Prior("Normal", mu=0, sigma=0.5), "sd_g": 1.5, "sigma": SIGMA}
    options: dict[str, Any] = {"panel": ("g", "t"), "weights": "w", "center": False}
    return hp.fit("y ~ twice(x) + x + (1 | g)", df, env={"twice": lambda v: v**2}, priors=priors, **options, draws=60)


def test_everything_that_is_not_stated_stays(fit: Fit) -> None:
    new = fit.update("~ . + within(z)")
    assert list(new.params.index) == ["Intercept", "twice(x)", "x", "within(z)"]
    assert new.spec.groups[0].sd == (1.5,)
    assert new.spec.priors()["sigma"] == SIGMA
    assert new.options["panel"] == ("g", "t")
    assert new.options["draws"] == 60
    assert not new.spec.center.any()
    np.testing.assert_array_equal(new.design.weights, fit.design.weights)


def test_the_updated_fit_is_the_fit_of_the_changed_formula(fit: Fit, df: pd.DataFrame) -> None:
    options = {**fit.options, "seed": 7, "env": {"twice": lambda v: v**2}}
    new, direct = fit.update("~ . + z", seed=7), hp.fit("y ~ twice(x) + x + z + (1 | g)", df, **options)
    pd.testing.assert_frame_equal(new.fixef(), direct.fixef())


def test_priors_are_put_over_the_earlier_ones(fit: Fit) -> None:
    new = fit.update(priors={"sigma": hp.Prior("HalfNormal", sigma=2)})
    assert new.spec.priors()["sigma"] == hp.Prior("HalfNormal", sigma=2)
    assert new.spec.groups[0].sd == (1.5,)


@pytest.mark.parametrize("change", ["~ . - x", "~ . - (1 | g)", "~ . - (1 | g) + fe(g)", "~ . - x - (1 | g)"])
def test_priors_of_what_is_gone_go_too(fit: Fit, change: str) -> None:
    new = fit.update(change)
    assert new.spec.priors()["sigma"] == SIGMA
    assert str(new.spec.formula) == str(changed(fit.spec.formula, change))


def test_a_prior_that_is_stated_anew_must_have_a_place(fit: Fit) -> None:
    with pytest.raises(hp.errors.PriorError, match="sd_g"):
        fit.update("~ . - (1 | g)", priors={"sd_g": 1.0})


def test_another_response_has_another_unit(fit: Fit) -> None:
    with pytest.raises(FitError, match=r"in the unit of y; state those of z by priors=, or take the defaults"):
        fit.update("z ~ .")
    assert fit.update("z ~ .", priors={}).spec.priors()["sigma"] != SIGMA
    assert fit.update("z ~ .", priors={"sigma": SIGMA}).spec.priors()["sigma"] == SIGMA


def test_a_changed_formula_is_shown_in_its_canonical_form(fit: Fit) -> None:
    new = fit.update("~ . + z").update("~ . - z - x")
    assert (new.spec.formula.source or str(new.spec.formula)) == "y ~ 1 + twice(x) + (1 | g)"


def test_other_rows(fit: Fit, df: pd.DataFrame) -> None:
    assert fit.update(data=df[df.g < 6]).nobs == 36


def test_columns_that_the_formula_did_not_use_are_there(fit: Fit) -> None:
    assert "z" in fit.update("~ . - x + z").params.index


def test_a_fit_from_a_file_has_the_columns_that_it_used(fit: Fit, df: pd.DataFrame, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.nc")
    loaded = hp.load(tmp_path / "fit.nc", env={"twice": lambda v: v**2})
    assert list(loaded.update("~ . - twice(x)").params.index) == ["Intercept", "x"]
    with pytest.raises(FitError, match=r"'z'.* A file holds the columns that the fit used; give data="):
        loaded.update("~ . + z")
    assert "z" in loaded.update("~ . + z", data=df).params.index


def test_an_option_that_is_not_there_is_named(fit: Fit) -> None:
    with pytest.raises(FitError, match="no option 'drows'"):
        fit.update("~ . + z", drows=10)


def test_a_fit_put_together_by_hand_cannot_be_updated(made: Any, df: pd.DataFrame) -> None:
    with pytest.raises(FitError, match=r"fit the changed model by hp\.fit"):
        made("y ~ x + (1 | g)", df).update("~ . + z")
