"""A `ModelSpec` and its `Design` come in; words and a table of priors go out, before anything is fitted."""

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierpanel.compiler import marginal
from hierpanel.compiler.scales import correlation_cholesky, lkj_concentration, prior_name
from hierpanel.data.design import Design
from hierpanel.data.moments import moments
from hierpanel.errors import PriorError, RouteError
from hierpanel.results.variance import variances
from hierpanel.spec import GroupSpec, ModelSpec, Prior

PRIOR_DRAWS = 4000


@dataclass(frozen=True)
class PriorSummary:
    """Priors as a table, and what they imply together.

    table : DataFrame, a row for each prior key, with columns ``prior`` and ``refers_to``.
    implied : DataFrame of prior quantiles (5 %, 50 %, 95 %) of the ICC and R²; empty where they are not defined.
    """

    table: pd.DataFrame
    implied: pd.DataFrame

    def __str__(self) -> str:
        width = max(map(len, self.table.index))
        prior_width = max(map(len, self.table["prior"]))
        lines = ["Priors"]
        for key, row in self.table.iterrows():
            lines.append(f"  {key:<{width}}  {row['prior']:<{prior_width}}  {row['refers_to']}".rstrip())
        if len(self.implied):
            lines.append("Implied before the data")
            lines += ["  " + line for line in self.implied.round(2).to_string().splitlines()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<h4>Priors</h4>{self.table_html()}{self.implied_html()}"

    def table_html(self) -> str:
        """Return the table as HTML, with nothing cut off."""
        with pd.option_context("display.max_colwidth", None):
            return str(self.table.to_html(border=0, index_names=False, justify="left"))

    def implied_html(self) -> str:
        """Return the implied quantiles as HTML; nothing where there are none."""
        return str(self.implied.round(2).to_html(border=0)) if len(self.implied) else ""


def prior_summary(spec: ModelSpec, design: Design) -> PriorSummary:
    """List every prior with the scale it refers to, and simulate what they imply."""
    rows = {
        key: (str(prior) if isinstance(prior, Prior) else f"fixed at {prior:.4g}")
        for key, prior in spec.priors().items()
    }
    table = pd.DataFrame({"prior": rows, "refers_to": {key: _refers_to(key, spec) for key in rows}}).loc[list(rows)]
    table.index.name = "key"
    return PriorSummary(table, _implied(spec, design))


def explain(spec: ModelSpec, design: Design) -> str:
    """Say what will be estimated, in lines of at most 90 columns."""
    return "\n".join("\n".join(textwrap.wrap(text, 90, subsequent_indent="  ")) for text in paragraphs(spec, design))


def paragraphs(spec: ModelSpec, design: Design) -> list[str]:
    """Say what will be estimated, a paragraph for each part; the formula comes first."""
    found = [
        f"{spec.formula}",
        f"{spec.formula.response} is {spec.family}; of {spec.n_total:,} rows: {spec.rows_used}.",
    ]
    if spec.panel is not None:
        found.append(f"Panel: {spec.panel}.")
    if spec.coefs:
        found.append(f"{_count(len(spec.coefs), 'coefficient')}: {', '.join(spec.coefs)}.")
    for group, data in zip(spec.groups, design.groups, strict=True):
        for block in group.blocks:
            names = group.coefs[block.columns]
            found.append(f"{group.levels:,} {group.name}: {_describe(names, block.correlated, block.fixed)}.")
        if data.rows.min() == 1:
            found.append(f"{int((data.rows == 1).sum()):,} of the {group.name} have a single row.")
    if spec.formula.offsets:
        found.append(f"Known part of the linear predictor: {' + '.join(spec.formula.offsets)}.")
    effects = sum(group.levels * len(group.coefs) for group in spec.groups)
    variances_ = sum(
        sum(isinstance(sd, Prior) for sd in group.sd)
        + sum(block.size * (block.size - 1) // 2 for block in group.blocks if block.correlated)
        for group in spec.groups
    )
    found.append(
        f"Parameters: {_count(len(spec.coefs), 'coefficient')}, {variances_} sds and correlations, "
        f"{effects:,} group effects, {_count(len(spec.parameters), 'parameter')} of the family."
    )
    reason = refused(spec, design)
    found.append(
        f"method='auto' takes NUTS: {reason}."
        if reason
        else "method='auto' takes the marginal route: coefficients and group effects are integrated out exactly."
    )
    return found + [f"Note: {note}." for note in spec.notes]


def refused(spec: ModelSpec, design: Design) -> str | None:
    """Return why the marginal route cannot fit a model, or None."""
    reason = marginal.refuses(spec)
    if reason is None and len(spec.groups) > 1:  # crossed factors may leave too large a matrix
        try:
            marginal.marginal(spec, moments(design))
        except RouteError as error:
            return str(error)
    return reason


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _describe(names: tuple[str, ...], correlated: bool, fixed: bool) -> str:
    if fixed:
        return "an intercept for each, not shrunk (fixed effects)"
    listed = ", ".join(names)
    if len(names) == 1:
        return f"a varying {'intercept' if listed == 'Intercept' else f'slope of {listed}'} for each"
    return f"varying {listed} for each, {'correlated' if correlated else 'independent of each other'}"


def _refers_to(key: str, spec: ModelSpec) -> str:
    """Say where a prior sits: at which values of the columns."""
    if key == "beta[Intercept]":
        where = ["at " + _at(spec.coefs, spec.center)] if spec.is_centered else []
        fixed = [group.name for group in spec.groups if group.is_fixed]
        return ", ".join(where + [f"less the mean effect of fe({name})" for name in fixed])
    for group in spec.groups:
        if not group.is_centered:
            continue
        if key == f"sd_{group.name}[Intercept]":
            return f"{group.name} sd at " + _at(group.coefs, group.center)
        if key == f"cor_{group.name}":
            return "with the intercept at " + _at(group.coefs, group.center)
    return ""


def _at(names: tuple[str, ...], means: np.ndarray) -> str:
    places = [f"{name} = {mean:.3g}" for name, mean in zip(names, means, strict=True) if mean != 0]
    return ", ".join(places[:4]) + (f" and {len(places) - 4} more means" if len(places) > 4 else "")


def _implied(spec: ModelSpec, design: Design) -> pd.DataFrame:
    if any(group.is_fixed for group in spec.groups):
        return pd.DataFrame()  # unit effects that are not shrunk explain all, whatever the other priors say
    rng = np.random.default_rng(1)
    try:
        draws = prior_draws(spec, design, rng, PRIOR_DRAWS)
    except PriorError:  # a flat prior implies nothing that can be drawn
        return pd.DataFrame()
    parts = variances(spec, design, draws)
    named = {f"ICC {name}": values for name, values in parts.icc().items()}
    named |= {f"R² {name}": values for name, values in parts.r2().items()} if spec.coefs or spec.groups else {}
    quantiles = {name: np.quantile(values, [0.05, 0.5, 0.95]) for name, values in named.items()}
    return pd.DataFrame(quantiles, index=["5 %", "50 %", "95 %"]).T


def prior_draws(spec: ModelSpec, design: Design, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Draw coefficients, sds, correlations and the family's parameters from the priors, on their scale, as one chain.

    Effects of `fe()` are left at 0.

    Raises
    ------
    PriorError
        For priors that have no draws.
    """

    def draw(prior: Prior | float) -> np.ndarray:
        return np.full(size, prior) if isinstance(prior, float) else prior.draw(rng, size)

    found = {}
    if spec.coefs:
        found["beta"] = np.stack([draw(prior) for prior in spec.beta], axis=-1)[None]
    for group, data in zip(spec.groups, design.groups, strict=True):
        found[prior_name("sd", group)] = np.stack([draw(sd) for sd in group.sd], axis=-1)[None]
        if group.is_correlated:
            found[prior_name("cor", group)] = _correlation_draws(group, rng, size)[None]
        if group.is_fixed:
            found[f"b_{group.name}"] = np.zeros((1, size, len(data.levels), len(group.coefs)))
    return found | {name: draw(prior)[None] for name, prior in spec.parameters.items()}


def _correlation_draws(group: GroupSpec, rng: np.random.Generator, size: int) -> np.ndarray:
    q = len(group.coefs)
    L = np.broadcast_to(np.eye(q), (size, q, q)).copy()
    for block in group.blocks:
        if block.correlated:
            a = lkj_concentration(block.size, group.eta)
            partial = 2 * rng.beta(a, a, (size, len(a))) - 1
            rows = correlation_cholesky([partial[:, k] for k in range(len(a))], block.size)
            start = block.columns.start
            for i in range(block.size):
                for j in range(i + 1):
                    L[:, start + i, start + j] = rows[i][j]
    return np.asarray(L @ L.transpose(0, 2, 1))
