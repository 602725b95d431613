"""A formula without bars comes in; its complete, no and partial pooling go out side by side."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from hierpanel.data.frame import column_names, to_table
from hierpanel.data.within import constant_within
from hierpanel.errors import FormulaError
from hierpanel.formula import Formula, parse
from hierpanel.formula.terms import Block, Group
from hierpanel.model import Model, caller_scope, split_options, with_inherited
from hierpanel.results.fit import Fit
from hierpanel.results.loo import compare
from hierpanel.results.summary import number


@dataclass(frozen=True)
class Pooling:
    """Three answers to "how much do units share?"; `print` it.

    fits : ``"complete"``, ``"none"`` and ``"partial"`` → `Fit`.
    table : a row for each coefficient and sd, columns (pooling, ``mean`` or ``sd``).
    loo : `compare` of the three, best first.
    group : the factor; notes : what had to be left out, and why.
    """

    group: str
    fits: Mapping[str, Fit]
    table: pd.DataFrame
    loo: pd.DataFrame
    notes: tuple[str, ...]

    def plot(self, **options: Any) -> Any:
        """Show how partial pooling moves each unit's own estimate towards the rest; see ``fit.plot.shrinkage``."""
        return self.fits["partial"].plot.shrinkage(self.group, **options)

    def __str__(self) -> str:
        formulas = [f"{name + ':':<9} {fit.spec.formula}" for name, fit in self.fits.items()]
        parts = [
            f"Complete, no and partial pooling by {self.group}",
            "\n".join(formulas),
            "Posterior mean (sd)\n" + self._shown().to_string(),
            "Leave-one-out: how well a new row of a known unit is predicted, best first\n"
            + self.loo[["elpd", "elpd_diff", "se_diff", "p_loo", "weight"]].round(2).to_string(),
            "\n".join(self.notes),
        ]
        return "\n\n".join(part for part in parts if part)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        title = f"<h4>Pooling by {html.escape(self.group)}</h4>"
        return f"{title}{self._shown().to_html()}{self.loo.round(2).to_html()}{notes}"

    def _shown(self) -> pd.DataFrame:
        def cell(mean: float, sd: float) -> str:
            return "" if pd.isna(mean) else f"{number(mean, sd)} ({number(sd, sd)})"

        shown = {
            name: [cell(*pair) for pair in zip(self.table[name, "mean"], self.table[name, "sd"], strict=True)]
            for name in self.fits
        }
        return pd.DataFrame(shown, index=self.table.index)


def pooling(formula: str | Formula, data: Any, group: str, **options: Any) -> Pooling:
    """Fit a regression with complete, no and partial pooling of the units' intercepts, and compare them.

    Complete pooling gives all units one intercept: the formula as it is. No pooling gives each its own, unrelated to
    the others: ``+ fe(group)``. Partial pooling lets the data say how alike they are: ``+ (1 | group)``.

    Parameters
    ----------
    formula : str
        Without a bar by the group, such as ``"log_wage ~ experience + union"``.
    data : table
    group : the column of units
    **options
        Those of `fit`.

    Returns
    -------
    Pooling

    Raises
    ------
    HierpanelError
        For what is wrong with formula or data, and where the formula already has a bar by the group.

    Notes
    -----
    Without pooling a regressor that does not vary within units cannot be told from their intercepts. It is left out of
    that fit, and a note says so. Source: Gelman and Hill (2007), section 12.2.

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("radon")
    >>> found = hp.pooling("log_radon ~ floor", df, group="county", draws=200, seed=1)
    >>> found.loo.index[0]
    'partial'
    """
    parsed = formula if isinstance(formula, Formula) else parse(formula)
    if any(group == column for old in parsed.groups for column in old.factor):
        raise FormulaError(
            f"pooling() adds the intercepts of {group} itself; leave out the bar by {group}",
            parsed.source or str(parsed),
        )
    of_model, of_fit = split_options(options)
    of_model.setdefault("env", caller_scope())
    partial = Model(_with(parsed, group, Block(True, ())), data, **of_model)
    if partial.spec.n < partial.spec.n_total - partial.spec.joined:
        data = _rows_of(partial, data)  # the rows of all three, those without a unit left out too
        partial = Model(_with(parsed, group, Block(True, ())), data, **of_model)
    priors = of_model.pop("priors", None)
    lost = _without_variation(partial, group)
    unpooled = replace(
        parsed, terms=tuple(term for k, term in enumerate(parsed.terms) if k not in lost), intercept=True
    )
    models = {
        "complete": with_inherited(parsed, data, of_model, priors),
        "none": with_inherited(_with(unpooled, group, Block(True, (), fixed=True)), data, of_model, priors),
        "partial": partial,
    }
    fits = {name: models[name].fit(**of_fit) for name in ("complete", "none", "partial")}
    left_out = ", ".join(":".join(parsed.terms[k]) for k in lost)
    notes = (
        [f"Without pooling {left_out} cannot be told from the intercepts of {group}, and is left out."] if lost else []
    )
    notes += [f"{name}: {problem}" for name, fit in fits.items() for problem in fit.diagnostics().problems]
    return Pooling(group, fits, _table(fits), compare(fits), tuple(notes))


def _with(formula: Formula, group: str, block: Block) -> Formula:
    return replace(formula, groups=(*formula.groups, Group((group,), (block,))), source="")


def _without_variation(model: Model, group: str) -> list[int]:
    """The terms of the formula all of whose columns are constant within every unit."""
    gone = constant_within(model.design.X, [model.design.group(group).codes])
    places = sorted({place for place in model.term_of if place >= 0})
    return [place for place in places if all(g for g, own in zip(gone, model.term_of, strict=True) if own == place)]


def _rows_of(model: Model, data: Any) -> Any:
    """The rows that a model uses; all of them where lags look at the others."""
    if model.coder.operators.shifts:
        return data
    return to_table(data, column_names(data)).loc[model.kept]


def _table(fits: Mapping[str, Fit]) -> pd.DataFrame:
    columns = {}
    for name, fit in fits.items():
        rows = [pd.DataFrame(fit.fixef())] if fit.spec.coefs else []
        if fit.spec.groups or fit.spec.parameters:
            sds = fit.varcorr()
            sds = sds[sds["sd"] > 0]
            rows.append(pd.DataFrame(sds).set_axis([_label(*key) for key in sds.index]))
        columns[name] = pd.concat(rows)[["mean", "sd"]]
    table = pd.concat(columns, axis=1)
    table = table.loc[sorted(table.index, key=lambda name: (name == "sigma", name.startswith(("sd_", "cor_"))))]
    table.index.name = "parameter"
    return table


def _label(group: str, coef: str, other: str) -> str:
    if group in ("Residual", "Family"):
        return coef
    if other:
        return f"cor_{group}[{coef}, {other}]"
    return f"sd_{group}" if coef == "Intercept" else f"sd_{group}[{coef}]"
