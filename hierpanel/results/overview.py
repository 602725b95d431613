"""A `Fit` comes in, its `Summary` goes out: health of the draws, facts, coefficients, sds, shares of variance."""

import numpy as np
import pandas as pd

from hierpanel.compiler.scales import prior_name
from hierpanel.results import tables
from hierpanel.results.fit import Fit
from hierpanel.results.summary import Section, Summary, cells
from hierpanel.results.variance import panel_r2, variances


def summarise(fit: Fit, prob: float) -> Summary:
    """Build the summary of a fit."""
    tables.check_prob(prob)
    spec = fit.spec
    percent = f"{100 * prob:g} %"
    lower, upper = f"{50 * (1 - prob):.6g} %", f"{50 * (1 + prob):.6g} %"
    sections = []
    if spec.coefs:
        rows = tuple((str(name), cells(row)) for name, row in fit.fixef(prob).iterrows())
        sections.append(Section("Coefficients", rows))
    sections.append(Section("Sds and correlations" if spec.groups else "Residual", _variance_rows(fit, prob)))
    shares = _share_rows(fit, prob)
    if shares:
        sections.append(Section("Shares of variance", shares))
    return Summary(
        title="Bayesian multilevel regression" if spec.groups else "Bayesian regression",
        warnings=(*fit.diagnostics().problems, *spec.notes),
        facts=_facts(fit),
        columns=("mean", "sd", lower, upper, "P(>0)", "ESS", "R̂"),
        sections=tuple(section for section in sections if section.rows),
        footnotes=_footnotes(fit, percent, [name for name, _ in shares]),
    )


def _facts(fit: Fit) -> tuple[tuple[str, str], ...]:
    spec = fit.spec
    chains, draws = fit.diagnostics()["chains"], fit.diagnostics()["draws"]
    facts = [
        ("Formula", " ".join((spec.formula.source or str(spec.formula)).split())),
        ("Response", spec.formula.response),
        ("Family", str(spec.family)),
        ("Rows", spec.rows_used),
        ("Method", f"{_method(fit)}, {chains} × {draws:,} draws"),
        ("Seconds", ", ".join(f"{value:.{1 if value >= 1 else 2}f} {name}" for name, value in fit.timing.items())),
    ]
    if spec.panel is not None:
        facts.append(("Panel", str(spec.panel)))
    for group in fit.design.groups:
        rows_of = group.rows
        facts.append(
            (
                "Units",
                f"{len(group.levels):,} {group.name}, rows {rows_of.min()}–{rows_of.max()}, mean {rows_of.mean():.1f}",
            )
        )
    if spec.weighted:
        facts.append(("Weights", "precision"))
    if fit.reason and spec.family.name == "gaussian":
        facts.append(("Why NUTS", fit.reason))
    return tuple(facts)


def _method(fit: Fit) -> str:
    """Name the route; NUTS may stand in for the independence chains of the marginal one."""
    if fit.method == "nuts":
        return "NUTS"
    return "marginal (by NUTS)" if fit.idata["sample_stats"].attrs.get("sampled_by") == "nuts" else "marginal"


def _variance_rows(fit: Fit, prob: float) -> tuple[tuple[str, tuple[str, ...]], ...]:
    rows: list[tuple[str, tuple[str, ...]]] = []
    if not (fit.spec.groups or fit.spec.parameters):
        return ()
    table, last = fit.varcorr(prob), None
    of_groups = len(table) - len(fit.spec.parameters)
    for k, (group, coef, other) in enumerate(table.index):
        if k >= of_groups:
            label = "residual sd (sigma)" if coef == "sigma" else str(coef)
        else:
            rows += [(str(group), ())] if group != last else []
            label = f"  cor({coef}, {other})" if other else f"  sd({coef})"
        last = group
        rows.append((label, cells(table.iloc[k])))
    return tuple(rows)


def _share_rows(fit: Fit, prob: float) -> tuple[tuple[str, tuple[str, ...]], ...]:
    parts = variances(fit.spec, fit.design, fit.stored_draws())
    rows = [(f"ICC {name}", draws) for name, draws in parts.icc().items()]
    said = {"marginal": fit.spec.coefs not in ((), ("Intercept",)), "conditional": bool(fit.spec.groups)}
    rows += [(f"R² {name}", draws) for name, draws in parts.r2().items() if said[name]]
    panel = fit.spec.panel
    if panel is not None and fit.design.units is not None and _has_panel_r2(fit):
        shares = panel_r2(fit.design, fit.design.units, fit.draws("beta"))
        rows += [(f"R² {name}" + f" {panel.unit}" * (name != "overall"), draws) for name, draws in shares.items()]
    if not rows:
        return ()
    table = tables.summarise(
        np.stack([draws for _, draws in rows], axis=-1), pd.Index([name for name, _ in rows]), prob
    )
    found = []
    for k, label in enumerate(table.index):
        mean, sd, low, high, _, ess, r_hat = cells(table.iloc[k])  # a share is never negative
        found.append((str(label), (mean, sd, low, high, "", ess, r_hat)))
    return tuple(found)


def _has_panel_r2(fit: Fit) -> bool:
    """Whether there are regressors, and rows within units."""
    return fit.spec.family.location and fit.spec.coefs not in ((), ("Intercept",)) and not fit.spec.joined


def _footnotes(fit: Fit, percent: str, shares: list[str]) -> tuple[str, ...]:
    notes = [
        f"Intervals are {percent} equal-tailed posterior intervals. P(>0): posterior probability of a positive value. "
        "ESS: effective draws, the smaller of bulk and tail."
    ]
    meanings = {
        ("ICC",): "ICC: share of the variance left by the coefficients",
        ("R² marginal", "R² conditional"): "R² of Johnson (2014)",
        ("R² within",): "R² within, between, overall: of the coefficients alone, as in linearmodels",
    }
    if shares:
        family = fit.spec.family
        said = [text for starts, text in meanings.items() if any(name.startswith(starts) for name in shares)]
        scale = "" if family.residual_variance else f", on the latent scale of the {family.link.name} link"
        notes.append(f"{'. '.join(said)}{scale}.")
    if any(group.is_fixed for group in fit.spec.groups) and fit.spec.has_intercept:
        notes.append("Beside fe() the intercept is the row-weighted mean of the unit effects.")
    if any(prior_name("sd", group) != f"sd_{group.name}" for group in fit.spec.groups):
        notes.append("sd(Intercept) and its correlations are at 0 of the varying columns; priors sit at their means.")
    return tuple(notes)
