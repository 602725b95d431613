"""A `ModelSpec` comes in; the model goes out as LaTeX: likelihood, linear predictor, group effects and priors.

The second place of Normal is an sd, as in Normal(0, τ), and of a vector its covariance matrix Σ; parameters of priors
are written with their names.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from hierpanel.data.design import BlockDesign
from hierpanel.spec import GroupSpec, ModelSpec, Prior

_NAMES = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi"
_CAPITALS = "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
# Greek letter → its LaTeX command, in math mode.
GREEK = {
    letter: f"\\{name}"
    for letter, name in zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ", f"{_NAMES} omega {_CAPITALS}".split(), strict=True)
}
# Characters of a name that stand outside \text{}: MathJax reads no commands inside of it.
_SPECIAL = GREEK | {
    "\\": r"\backslash", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "^": r"{\wedge}", "~": r"{\sim}", "<": "{<}", ">": "{>}", "|": r"\vert",
}  # fmt: skip
# Family → the symbol of its mean, and the likelihood; precision weights are taken out where there are none.
_LIKELIHOODS = {
    "gaussian": (r"\mu_i", r"\operatorname{Normal}(\mu_i,\ \sigma/\sqrt{w_i})"),
    "student_t": (r"\mu_i", r"\operatorname{StudentT}(\nu,\ \mu_i,\ \sigma/\sqrt{w_i})"),
    "bernoulli": ("p_i", r"\operatorname{Bernoulli}(p_i)"),
    "binomial": ("p_i", r"\operatorname{Binomial}(n_i,\ p_i)"),
    "poisson": (r"\mu_i", r"\operatorname{Poisson}(\mu_i)"),
    "negative_binomial": (
        r"\mu_i",
        r"\operatorname{NegativeBinomial}(\mu_i,\ \alpha), \quad \operatorname{Var} = \mu_i + \mu_i^2/\alpha",
    ),
}
_LINKS = {
    "identity": "{}",
    "log": r"\log {}",
    "logit": r"\operatorname{{logit}} {}",
    "probit": r"\Phi^{{-1}}({})",
    "cloglog": r"\log(-\log(1 - {}))",
}
_AT_MEANS = r"\text{(the intercept at the columns' means)}"
_INDICES = "jklmnqrst"
# Characters of a line, as it is read, before a sum goes on in the next one.
_LINE = 70


class Equation(str):
    """LaTeX of a model, an ``aligned`` environment of amsmath; a notebook shows it set."""

    __slots__ = ()

    def _repr_latex_(self) -> str:
        return f"$$\n{self}\n$$"

    def _repr_markdown_(self) -> str:
        return self._repr_latex_()


def equation(spec: ModelSpec, priors: bool = True) -> Equation:
    r"""Write a model as LaTeX.

    Parameters
    ----------
    spec : the model, with every choice made
    priors : whether the priors of all parameters follow, with their numbers to three digits

    Returns
    -------
    str
        An ``aligned`` environment, to be put between ``\[`` and ``\]``; it needs amsmath. Where priors refer to centred
        columns, the intercept (of the coefficients, of a unit) that they sit on is written out.

    Examples
    --------
    >>> import hierpanel as hp
    >>> model = hp.Model("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"))
    >>> print(equation(model.spec, priors=False))
    \begin{aligned}
    {\text{yield}\_}_i &\sim \operatorname{Normal}(\mu_i,\ \sigma) \\
    \mu_i &= \beta_0 + b^{\text{batch}}_{j[i]} \\
    j[i] &= \text{batch}_i \in \{1, \dots, 6\} \\
    b^{\text{batch}}_{j} &\sim \operatorname{Normal}(0,\ \tau_{\text{batch}})
    \end{aligned}
    """
    lines = [*_likelihood(spec), *_predictor(spec)]
    for group, index in zip(spec.groups, _indices(spec), strict=True):
        lines += _group(group, index)
    if priors:
        lines[-1] += r" \\[1ex]"
        lines += _priors(spec)
    text = "\n".join(f"{line} \\\\" if not line.endswith("[1ex]") else line for line in lines).removesuffix(r" \\")
    return Equation(f"\\begin{{aligned}}\n{text}\n\\end{{aligned}}")


# The model ------------------------------------------------------------------------------------------------------------


def _likelihood(spec: ModelSpec) -> list[str]:
    family = spec.family
    _, likelihood = _LIKELIHOODS.get(family.name, ("", rf"\operatorname{{{_name(family.name)}}}(\mu_i)"))
    if not spec.weighted:
        likelihood = likelihood.replace(r"/\sqrt{w_i}", "")
    response = f"{_name(spec.formula.response)}_i"
    if family.counts_trials:
        return [f"(y_i,\\ n_i) &= {response}", f"y_i &\\sim {likelihood}"]
    weights = [r"w_i &= \text{precision weight of row } i"] if spec.weighted else []
    return [f"{response} &\\sim {likelihood}", *weights]


def _predictor(spec: ModelSpec) -> list[str]:
    """The linear predictor, on the original scale of every column, and what its indices mean."""
    terms = [_beta(coef) + _column(coef) for coef in spec.coefs]
    terms += [f"{_name(offset)}_i" for offset in spec.formula.offsets]
    indices = _indices(spec)
    for group, index in zip(spec.groups, indices, strict=True):
        terms += [_effect(group, coef, f"{index}[i]") + _column(coef) for coef in group.coefs]
    mean, _ = _LIKELIHOODS.get(spec.family.name, (r"\mu_i", ""))
    left = _LINKS.get(spec.family.link.name, "g({})").format(mean)
    meanings = [
        rf"{index}[i] &= {_name(group.name)}_i \in \{{1, \dots, {_thousands(group.levels)}\}}"
        for group, index in zip(spec.groups, indices, strict=True)
    ]
    return [*_sum(left, terms), *meanings]


def _group(group: GroupSpec, index: str) -> list[str]:
    """The distribution of one factor's effects."""
    lines = []
    for block, label in _blocks(group):
        if label:
            lines += _correlated(group, block, label, index)
            continue
        for k in range(block.columns.start, block.columns.stop):
            sd, coef = group.sd[k], group.coefs[k]
            size = _tau(group, coef) if isinstance(sd, Prior) else _number(sd)
            said = r" \quad \text{(fixed effects, not shrunk)}" if block.fixed else ""
            lines.append(rf"{_effect(group, coef, index)} &\sim \operatorname{{Normal}}(0,\ {size}){said}")
    return lines


def _correlated(group: GroupSpec, block: BlockDesign, label: str, index: str) -> list[str]:
    """Effects that vary together: the first is taken at the means of the others' columns where these are centred."""
    coefs, means = group.coefs[block.columns], group.center[block.columns]
    effects = [_effect(group, coef, index) for coef in coefs]
    shifts = [_signed(mean, effect) for mean, effect in zip(means, effects, strict=True) if mean != 0]
    taus = [_tau(group, coef) for coef in coefs]
    fixed = [
        f"{tau} &= {_number(sd)}"
        for tau, sd in zip(taus, group.sd[block.columns], strict=True)
        if not isinstance(sd, Prior)
    ]
    vector, Sigma, R = rf"\mathbf{{b}}^{{{label}}}_{{{index}}}", rf"\Sigma_{{{label}}}", rf"R_{{{label}}}"
    drawn = rf"\sim \operatorname{{Normal}}(0,\ {Sigma})"
    if len(coefs) > 3 or max(_width([effects[0], *shifts]), _width(taus)) > _LINE:
        D = rf"D_{{{label}}}"
        return [
            *_broken(vector, [r"\bigl(", *_listed([[effects[0], *shifts], *([one] for one in effects[1:])])]),
            rf"&\quad {drawn}" + (rf" \quad {_AT_MEANS}" if shifts else ""),
            rf"{Sigma} &= {D}\,{R}\,{D}",
            *_broken(D, [r"\operatorname{diag}\bigl(", *_listed([[tau] for tau in taus])]),
            *fixed,
        ]
    D = rf"\operatorname{{diag}}(\tau_{{{label}}})"
    column = r" \\ ".join([" ".join([effects[0], *shifts]), *effects[1:]])
    said = rf" \quad {_AT_MEANS}" if shifts else ""
    return [
        rf"{vector} &= \begin{{pmatrix}} {column} \end{{pmatrix}} {drawn}{said}",
        rf"{Sigma} &= {D}\,{R}\,{D}, \quad \tau_{{{label}}} = ({r',\ '.join(taus)})",
        *fixed,
    ]


def _listed(entries: Sequence[Sequence[str]]) -> list[str]:
    """The terms of every entry of a list, a comma after each entry, and the bracket that closes it."""
    ends = [","] * (len(entries) - 1) + [r"\bigr)"]
    return [part for entry, end in zip(entries, ends, strict=True) for part in [*entry[:-1], entry[-1] + end]]


# Priors ---------------------------------------------------------------------------------------------------------------


def _priors(spec: ModelSpec) -> list[str]:
    lines = []
    for coef, prior in zip(spec.coefs, spec.beta, strict=True):
        if coef == "Intercept" and spec.is_centered:
            terms = [r"\beta_0"]
            for mean, other in zip(spec.center, spec.coefs, strict=True):
                terms += [_signed(mean, _beta(other))] if mean != 0 else []
            lines += [*_sum(r"\beta_0^{c}", terms), rf"&\quad {_AT_MEANS}"]
            lines.append(rf"\beta_0^{{c}} &\sim {_distribution(prior)}")
        else:
            lines.append(rf"{_beta(coef)} &\sim {_distribution(prior)}")
    for group in spec.groups:
        drawn = [(coef, sd) for coef, sd in zip(group.coefs, group.sd, strict=True) if isinstance(sd, Prior)]
        lines += [rf"{_tau(group, coef)} &\sim {_distribution(sd)}" for coef, sd in drawn]
        labels = [label for _, label in _blocks(group) if label]
        lines += [rf"R_{{{label}}} &\sim \operatorname{{LKJ}}(\eta = {_number(group.eta)})" for label in labels]
    lines += [rf"{_symbol(name)} &\sim {_distribution(prior)}" for name, prior in spec.parameters.items()]
    fixed = [rf"b^{{{_name(group.name)}}}" for group in spec.groups if group.is_fixed]
    if fixed and spec.has_intercept:
        what = r"\text{ and of }".join(fixed)
        lines.append(
            rf"&\quad \text{{(the reported intercept is }}\beta_0\text{{ plus the mean over rows of }}{what}\text{{)}}"
        )
    return lines


def _distribution(prior: Prior) -> str:
    values = r",\ ".join(f"{_symbol(name)} = {_number(value)}" for name, value in prior.parameters)
    return rf"\operatorname{{{prior.name}}}({values})"


# Words ----------------------------------------------------------------------------------------------------------------


def _indices(spec: ModelSpec) -> list[str]:
    """One letter for each factor."""
    few = len(spec.groups) <= len(_INDICES)
    return [_INDICES[k] if few else f"j_{{{k + 1}}}" for k in range(len(spec.groups))]


def _blocks(group: GroupSpec) -> list[tuple[BlockDesign, str]]:
    """Each block with the subscript of its covariance matrix; "" where its columns do not vary together."""
    several = sum(block.correlated for block in group.blocks) > 1
    return [
        (block, "" if not block.correlated else _name(group.name) + (rf",\,{number}" if several else ""))
        for number, block in enumerate(group.blocks, 1)
    ]


def _beta(coef: str) -> str:
    return r"\beta_0" if coef == "Intercept" else rf"\beta_{{{_name(coef)}}}"


def _effect(group: GroupSpec, coef: str, index: str) -> str:
    of = "" if group.coefs == ("Intercept",) else "0,\\," if coef == "Intercept" else f"{_name(coef)},\\,"
    return rf"b^{{{_name(group.name)}}}_{{{of}{index}}}"


def _tau(group: GroupSpec, coef: str) -> str:
    of = "" if group.coefs == ("Intercept",) else ",\\,0" if coef == "Intercept" else f",\\,{_name(coef)}"
    return rf"\tau_{{{_name(group.name)}{of}}}"


def _column(coef: str) -> str:
    return "" if coef == "Intercept" else rf"\,{_name(coef)}_i"


def _name(text: str) -> str:
    """A name as math: letters in \\text{}, special characters beside it."""
    special = "".join(map(re.escape, _SPECIAL))
    parts = [part for part in re.split(f"([{special}])", text) if part]
    found = "".join(_SPECIAL.get(part, rf"\text{{{part}}}") for part in parts)
    return found if len(parts) == 1 else f"{{{found}}}"


def _symbol(name: str) -> str:
    name = "lambda" if name == "lam" else name
    return f"\\{name}" if f"\\{name}" in GREEK.values() else _name(name)


def _number(value: float, digits: int = 3) -> str:
    """A number to so many digits; very large and small ones as powers of ten."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if value == 0 or -5 < int(exponent) < 6:
        return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")
    return rf"{np.format_float_positional(float(mantissa), trim='-')} \times 10^{{{int(exponent)}}}"


def _signed(mean: float, symbol: str) -> str:
    return rf"{'-' if mean < 0 else '+'} {_number(abs(mean), 4)}\,{symbol}"


def _thousands(count: int) -> str:
    return f"{count:,}".replace(",", "{,}")


def _sum(left: str, terms: Sequence[str]) -> list[str]:
    """A sum over as many lines as it needs."""
    return _broken(left, [terms[0], *(term if term.startswith(("+ ", "- ")) else f"+ {term}" for term in terms[1:])])


def _broken(left: str, parts: Sequence[str]) -> list[str]:
    """What is equal to the left side, over as many lines as its parts need."""
    lines, width = [f"{left} &= {parts[0]}"], _width([left, parts[0]])
    for part in parts[1:]:
        width += _width([part])
        if width > _LINE:
            lines, width = [*lines, rf"&\quad {part}"], _width([part])
        else:
            lines[-1] += f" {part}"
    return lines


def _width(parts: Iterable[str]) -> int:
    """Characters as they are read: commands and braces take no room."""
    return sum(len(re.sub(r"\\[A-Za-z]+|[\\{}^_]", "", part)) for part in parts)
