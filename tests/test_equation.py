"""The model as LaTeX: whole equations of a few models, then what each choice changes, and names that need escaping."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.results.equation import GREEK, Equation, equation
from hierpanel.results.fit import Fit
from hierpanel.spec import ModelSpec


@pytest.fixture(scope="module")
def table(table: pd.DataFrame) -> pd.DataFrame:
    """The mean of z is negative."""
    return table.assign(z=table["z"] - 2)


def spec_of(formula: str, data: pd.DataFrame, **options: Any) -> ModelSpec:
    return hp.Model(formula, data, **{"env": {}, **options}).spec


def lines(formula: str, data: pd.DataFrame, *, with_priors: bool = True, **options: Any) -> list[str]:
    """The lines of the environment, without the breaks between them."""
    first, *inner, last = equation(spec_of(formula, data, **options), with_priors).splitlines()
    assert (first, last) == (r"\begin{aligned}", r"\end{aligned}")
    assert all(line.endswith((r" \\", r" \\[1ex]")) for line in inner[:-1])
    assert not inner[-1].endswith("\\")
    return [re.sub(r" \\\\(\[1ex\])?$", "", line) for line in inner]


# Whole equations ------------------------------------------------------------------------------------------------------


def test_an_intercept_for_each_unit(table: pd.DataFrame) -> None:
    priors = {"beta[x]": hp.Prior("Normal", mu=0, sigma=0.1), "sigma": hp.Prior("Exponential", lam=2)}
    assert lines("y ~ x + (1 | g)", table, center=False, priors={**priors, "beta[Intercept]": hp.Prior("Flat")}) == [
        r"\text{y}_i &\sim \operatorname{Normal}(\mu_i,\ \sigma)",
        r"\mu_i &= \beta_0 + \beta_{\text{x}}\,\text{x}_i + b^{\text{g}}_{j[i]}",
        r"j[i] &= \text{g}_i \in \{1, \dots, 6\}",
        r"b^{\text{g}}_{j} &\sim \operatorname{Normal}(0,\ \tau_{\text{g}})",
        r"\beta_0 &\sim \operatorname{Flat}()",
        r"\beta_{\text{x}} &\sim \operatorname{Normal}(\mu = 0,\ \sigma = 0.1)",
        r"\tau_{\text{g}} &\sim \operatorname{HalfStudentT}(\nu = 3,\ \sigma = " + f"{table['y'].std():.3g})",
        r"\sigma &\sim \operatorname{Exponential}(\lambda = 2)",
    ]


def test_correlated_slopes_at_the_means_of_their_columns(table: pd.DataFrame) -> None:
    found = lines("y ~ x + (x + z | g)", table)
    x, z = f"{table['x'].mean():.4g}", f"{-table['z'].mean():.4g}"
    assert found[3:6] == [
        rf"\mathbf{{b}}^{{\text{{g}}}}_{{j}} &= \begin{{pmatrix}} b^{{\text{{g}}}}_{{0,\,j}} + "
        rf"{x}\,b^{{\text{{g}}}}_{{\text{{x}},\,j}} - {z}\,b^{{\text{{g}}}}_{{\text{{z}},\,j}} \\ "
        r"b^{\text{g}}_{\text{x},\,j} \\ b^{\text{g}}_{\text{z},\,j} \end{pmatrix} "
        r"\sim \operatorname{Normal}(0,\ \Sigma_{\text{g}}) \quad \text{(the intercept at the columns' means)}",
        r"\Sigma_{\text{g}} &= \operatorname{diag}(\tau_{\text{g}})\,R_{\text{g}}\,\operatorname{diag}(\tau_{\text{g}})"
        r", \quad \tau_{\text{g}} = (\tau_{\text{g},\,0},\ \tau_{\text{g},\,\text{x}},\ \tau_{\text{g},\,\text{z}})",
        rf"\beta_0^{{c}} &= \beta_0 + {x}\,\beta_{{\text{{x}}}}",
    ]
    assert r"R_{\text{g}} &\sim \operatorname{LKJ}(\eta = 2)" in found
    assert r"&\quad \text{(the intercept at the columns' means)}" in found


def test_independent_slopes_are_left_where_they_are(table: pd.DataFrame) -> None:
    found = lines("y ~ 0 + x + (x || g)", table, with_priors=False)
    assert found[-2:] == [
        r"b^{\text{g}}_{0,\,j} &\sim \operatorname{Normal}(0,\ \tau_{\text{g},\,0})",
        r"b^{\text{g}}_{\text{x},\,j} &\sim \operatorname{Normal}(0,\ \tau_{\text{g},\,\text{x}})",
    ]
    assert "means" not in " ".join(found)


def test_fixed_effects_have_a_wide_sd_and_a_word(table: pd.DataFrame) -> None:
    found = lines("y ~ x + fe(g) + fe(h)", table)
    size = f"{float(f'{1000 * table["y"].std():.3g}'):g}"
    said = r"\quad \text{(fixed effects, not shrunk)}"
    assert rf"b^{{\text{{g}}}}_{{j}} &\sim \operatorname{{Normal}}(0,\ {size}) {said}" in found
    assert rf"b^{{\text{{h}}}}_{{k}} &\sim \operatorname{{Normal}}(0,\ {size}) {said}" in found
    assert found[-1] == (
        r"&\quad \text{(the reported intercept is }\beta_0\text{ plus the mean over rows of }"
        r"b^{\text{g}}\text{ and of }b^{\text{h}}\text{)}"
    )
    assert not any(line.startswith(r"\tau") for line in found)
    assert "reported" not in equation(spec_of("y ~ 0 + x + fe(g)", table))


def test_sds_that_are_set_are_numbers(table: pd.DataFrame) -> None:
    text = equation(spec_of("y ~ x + (1 | g) + (x | h)", table, priors={"sd_g": 2.5e-7, "sd_h[x]": 0.25}))
    assert r"\operatorname{Normal}(0,\ 2.5 \times 10^{-7})" in text
    assert r"\tau_{\text{h},\,\text{x}} &= 0.25 \\" in text
    assert r"\tau_{\text{h},\,\text{x}} &\sim" not in text


def test_two_correlated_blocks_of_a_factor_are_told_apart(table: pd.DataFrame) -> None:
    text = equation(spec_of("y ~ (x | g) + (0 + z + w | g) + (1 | h)", table))
    for number in (1, 2):
        assert rf"\sim \operatorname{{Normal}}(0,\ \Sigma_{{\text{{g}},\,{number}}})" in text
        assert rf"R_{{\text{{g}},\,{number}}} &\sim \operatorname{{LKJ}}(\eta = 2)" in text
    assert r"b^{\text{h}}_{k[i]}" in text
    assert r"k[i] &= \text{h}_i \in \{1, \dots, 5\}" in text


# Likelihoods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "options", "expected"),
    [
        ("y ~ x", {"weights": "w"}, [
            r"\text{y}_i &\sim \operatorname{Normal}(\mu_i,\ \sigma/\sqrt{w_i})",
            r"w_i &= \text{precision weight of row } i",
            r"\mu_i &= \beta_0 + \beta_{\text{x}}\,\text{x}_i",
        ]),
        ("y ~ 1", {"family": "student_t"}, [
            r"\text{y}_i &\sim \operatorname{StudentT}(\nu,\ \mu_i,\ \sigma)", r"\mu_i &= \beta_0",
        ]),
        ("y ~ 1", {"family": "student_t", "weights": "w"}, [
            r"\text{y}_i &\sim \operatorname{StudentT}(\nu,\ \mu_i,\ \sigma/\sqrt{w_i})",
            r"w_i &= \text{precision weight of row } i", r"\mu_i &= \beta_0",
        ]),
        ("hit ~ 1", {"family": "bernoulli"}, [
            r"\text{hit}_i &\sim \operatorname{Bernoulli}(p_i)", r"\operatorname{logit} p_i &= \beta_0",
        ]),
        ("hit ~ 1", {"family": "bernoulli(probit)"}, [
            r"\text{hit}_i &\sim \operatorname{Bernoulli}(p_i)", r"\Phi^{-1}(p_i) &= \beta_0",
        ]),
        ("hit ~ 1", {"family": "bernoulli(cloglog)"}, [
            r"\text{hit}_i &\sim \operatorname{Bernoulli}(p_i)", r"\log(-\log(1 - p_i)) &= \beta_0",
        ]),
        ("prop(hit, 3) ~ 1", {"family": "binomial"}, [
            r"(y_i,\ n_i) &= \text{prop(hit, 3)}_i", r"y_i &\sim \operatorname{Binomial}(n_i,\ p_i)",
            r"\operatorname{logit} p_i &= \beta_0",
        ]),
        ("count ~ 1 + offset(log(w))", {"family": "poisson"}, [
            r"\text{count}_i &\sim \operatorname{Poisson}(\mu_i)", r"\log \mu_i &= \beta_0 + \text{log(w)}_i",
        ]),
        ("count ~ 1", {"family": "negative_binomial"}, [
            r"\text{count}_i &\sim \operatorname{NegativeBinomial}(\mu_i,\ \alpha), "
            r"\quad \operatorname{Var} = \mu_i + \mu_i^2/\alpha",
            r"\log \mu_i &= \beta_0",
        ]),
        ("y ~ 0 + offset(w)", {}, [
            r"\text{y}_i &\sim \operatorname{Normal}(\mu_i,\ \sigma)", r"\mu_i &= \text{w}_i",
        ]),
    ],
)  # fmt: skip
def test_likelihood_and_link(formula: str, options: Any, expected: list[str], table: pd.DataFrame) -> None:
    assert lines(formula, table, with_priors=False, **options) == expected


def test_every_family_and_link_is_written() -> None:
    from hierpanel.results import equation as module
    from hierpanel.spec.families import FAMILIES

    assert set(module._LIKELIHOODS) == set(FAMILIES)
    assert set(module._LINKS) == {link.name for family in FAMILIES.values() for link in family.links}


def test_the_familys_parameters_have_priors(table: pd.DataFrame) -> None:
    assert lines("y ~ 1", table, family="student_t")[-1] == r"\nu &\sim \operatorname{Gamma}(\alpha = 2,\ \beta = 0.1)"
    found = lines("count ~ 1", table, family="negative_binomial")
    assert found[-1] == r"\alpha &\sim \operatorname{InverseGamma}(\alpha = 0.4,\ \beta = 0.3)"


# Priors ---------------------------------------------------------------------------------------------------------------


def test_every_prior_is_there_and_none_without_priors(table: pd.DataFrame) -> None:
    formula = "y ~ x * z + (x | g) + (1 | h)"
    with_priors, without = lines(formula, table), lines(formula, table, with_priors=False)
    assert with_priors[: len(without)] == without
    relations = [line.split(r" &\sim ")[0] for line in with_priors[len(without) :] if r"&\sim" in line]
    g, h = r"\text{g}", r"\text{h}"
    assert relations == [
        r"\beta_0^{c}", r"\beta_{\text{x}}", r"\beta_{\text{z}}", r"\beta_{\text{x:z}}",
        rf"\tau_{{{g},\,0}}", rf"\tau_{{{g},\,\text{{x}}}}", rf"R_{{{g}}}", rf"\tau_{{{h}}}", r"\sigma",
    ]  # fmt: skip


def test_the_intercept_of_the_priors_is_that_of_the_posterior(made: Callable[..., Fit], table: pd.DataFrame) -> None:
    fit = made("y ~ x + z + (1 | g)", table)
    found = next(line for line in equation(fit.spec).splitlines() if line.startswith(r"\beta_0^{c} &= "))
    weights = [float(sign + size) for sign, size in re.findall(r"([+-]) ([\d.]+)\\,\\beta", found)]
    np.testing.assert_allclose(weights, table[["x", "z"]].mean(), rtol=1e-3)
    centred = fit.draws("beta") @ [1, *table[["x", "z"]].mean()]
    np.testing.assert_allclose(centred, fit.draws("beta_c")[..., 0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (1234.0, "1230"), (0.00012345, "0.000123"), (-0.5, "-0.5"), (999.6, "1000"),
        (123456.0, "123000"), (1234567.0, r"1.23 \times 10^{6}"), (1e-5, r"1 \times 10^{-5}"),
        (-2.345e-8, r"-2.35 \times 10^{-8}"), (2.5, "2.5"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str, table: pd.DataFrame) -> None:
    prior = hp.Prior("Normal", mu=value, sigma=1)
    found = lines("y ~ 0 + x", table, priors={"beta[x]": prior})
    assert rf"\beta_{{\text{{x}}}} &\sim \operatorname{{Normal}}(\mu = {text},\ \sigma = 1)" in found


def test_any_distribution_of_pymc_is_named(table: pd.DataFrame) -> None:
    found = lines("y ~ 0 + x", table, priors={"beta[x]": hp.Prior("Uniform", lower=-1, upper=3)})
    assert r"\beta_{\text{x}} &\sim \operatorname{Uniform}(\text{lower} = -1,\ \text{upper} = 3)" in found


# Long sums, many factors ----------------------------------------------------------------------------------------------


def test_long_predictors_go_on_in_new_lines(table: pd.DataFrame) -> None:
    names = [f"regressor_number_{k}" for k in range(12)]
    rng = np.random.default_rng(1)
    df = table.assign(**{name: rng.normal(1, 1, 60) for name in names})
    found = lines(f"y ~ {' + '.join(names)}", df)
    for start in (r"\mu_i &= ", r"\beta_0^{c} &= "):
        first = next(k for k, line in enumerate(found) if line.startswith(start))
        following = 0
        while found[first + 1 + following].startswith(r"&\quad +"):
            following += 1
        assert 3 <= following <= 12
    assert max(map(len, found)) < 160
    assert sum(line.count(r"\beta_{{\text{regressor}\_") for line in found if r"&\sim" not in line) == 2 * len(names)


def test_many_slopes_go_over_several_lines(table: pd.DataFrame) -> None:
    df = table.assign(f=np.tile(["north_east", "south & west", "50% mid", "#4"], 15))
    found = lines("y ~ x + (f * x | g)", df)
    first = next(k for k, line in enumerate(found) if line.startswith(r"\mathbf{b}"))
    last = next(k for k, line in enumerate(found) if line.startswith(r"D_{\text{g}}"))
    end = next(k for k in range(last + 1, len(found)) if not found[k].startswith(r"&\quad"))
    wide = [re.sub(r"\\[A-Za-z]+|[\\{}^_&]", "", line) for line in found]
    assert max(map(len, wide)) < 110
    assert all(line.startswith(r"&\quad") for line in found[first + 1 : last - 1] + found[last + 1 : end])
    assert found[first].startswith(r"\mathbf{b}^{\text{g}}_{j} &= \bigl( b^{\text{g}}_{0,\,j} + 0.25\,b")
    assert found[last - 2] == (
        r"&\quad \sim \operatorname{Normal}(0,\ \Sigma_{\text{g}}) \quad \text{(the intercept at the columns' means)}"
    )
    assert found[last - 1] == r"\Sigma_{\text{g}} &= D_{\text{g}}\,R_{\text{g}}\,D_{\text{g}}"
    vector, diagonal = " ".join(found[first : last - 2]), " ".join(found[last:end])
    assert (vector.count(r",\,j}"), vector.count(r",\,j},"), diagonal.count(r"\tau")) == (8 + 7, 7, 8)
    for text in (vector, diagonal):
        assert text.count(r"\bigl(") == text.count(r"\bigr)") == 1
        assert text.endswith(r"\bigr)")


def test_one_long_slope_goes_over_several_lines_too(table: pd.DataFrame) -> None:
    name = "a_very_long_name_of_a_regressor_that_nobody_would_want_to_read_twice"
    found = lines(f"y ~ ({name} | g)", table.assign(**{name: table["x"]}), with_priors=False)
    assert not any("pmatrix" in line for line in found)


def test_more_factors_than_letters(table: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    df = table.assign(**{f"f{k}": rng.integers(0, 4, 60) for k in range(10)})
    text = equation(spec_of("y ~ " + " + ".join(f"(1 | f{k})" for k in range(10)), df))
    assert r"b^{\text{f9}}_{j_{10}[i]}" in text
    assert r"j_{10}[i] &= \text{f9}_i" in text


def test_thousands_of_levels_are_readable(table: pd.DataFrame) -> None:
    df = pd.DataFrame({"y": np.random.default_rng(1).normal(size=2400), "g": np.arange(2400) // 2})
    assert r"\{1, \dots, 1{,}200\}" in equation(spec_of("y ~ (1 | g)", df))


# Names, and what the object is ----------------------------------------------------------------------------------------

NASTY = "a <b> & \"c\" _d% 'e' #f$ {g} ~^\\|"


def test_names_are_escaped_and_braces_balance(table: pd.DataFrame) -> None:
    df = table.assign(f=np.where(table["h"] > 2, NASTY, "0")).rename(columns={"x": "x & <y>_%", "z": "β"})
    text = equation(spec_of("y ~ `x & <y>_%` + f + β + (f | g)", df))
    assert r"\beta_{\beta}" in text
    assert r"\beta_{{\text{x }\&\text{ }{<}\text{y}{>}\_\%}}" in text
    for inside in re.findall(r"\\text\{([^}]*)\}", text):  # MathJax shows a command inside of \text as it is written
        assert not re.search(r"[\\{}_%&#$^~<>|]", inside)
    for line in text.splitlines():
        plain = re.sub(r"\\[\\{}_%&#$]", "", line.removesuffix(r" \\"))
        assert plain.count("{") == plain.count("}")
        assert plain.count("&") == ("aligned" not in line)
        assert "%" not in plain
        assert "#" not in plain
        assert "$" not in plain


def test_greek_letters_are_their_commands() -> None:
    import unicodedata

    for letter, command in GREEK.items():
        name = command[1:]
        size = "CAPITAL" if name[0].isupper() else "SMALL"
        spoken = {"LAMBDA": "LAMDA"}.get(name.upper(), name.upper())
        assert unicodedata.name(letter) == f"GREEK {size} LETTER {spoken}"


def test_an_equation_is_a_string_that_notebooks_set(table: pd.DataFrame) -> None:
    found = equation(spec_of("y ~ x", table))
    assert isinstance(found, Equation)
    assert isinstance(found, str)
    assert found._repr_latex_() == found._repr_markdown_() == f"$$\n{found}\n$$"
    assert "$" not in found
