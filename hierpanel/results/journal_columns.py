"""A fit comes in, hierpanel's or one of statsmodels, linearmodels or pyfixest; its `Column` of a table goes out.

Results of other packages are told by the module of their class and read by their attributes; none is imported here.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results.coefficient_names import CONSTANT, alike, canonical
from hierpanel.results.fit import Fit

STATS = ("sd", "icc", "r2", "r2_panel", "effects", "n", "units", "method")
# Rows of the family's parameters, which stand below those of groups.
PARAMETERS = ("sd(residual)", "sigma", "nu", "alpha")


class Entry(NamedTuple):
    """A number and what stands under it; p is a p-value, or 2 min(P(> 0), P(< 0))."""

    mean: float
    sd: float = math.nan
    lower: float = math.nan
    upper: float = math.nan
    p: float = math.nan


Cells = dict[str, Any]  # label of a row → Entry, or text, or a count (int), or a share (float)


@dataclass(frozen=True)
class Column:
    """What a table takes from one fit.

    response : the dependent variable; coefs : by name; facts : by the keys of `STATS`.
    errors : which standard errors they are; None for posterior sds.
    notes : (coefficient or key of `STATS`, sentence that it needs where it is shown).
    problems : sentences on what is wrong with the numbers, whichever are shown.
    """

    response: str
    coefs: Cells
    facts: Mapping[str, Cells]
    errors: str | None = None
    notes: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def read(fit: Any, prob: float, stats: Sequence[str]) -> Column:
    package = type(fit).__module__.partition(".")[0]
    if isinstance(fit, Fit):
        return _posterior(fit, prob, stats)
    if package == "statsmodels" and hasattr(fit, "conf_int") and np.ndim(getattr(fit, "params", 0)) == 1:
        return _statsmodels(fit, prob)
    if package == "linearmodels" and hasattr(fit, "std_errors") and hasattr(fit.model, "dependent"):
        return _linearmodels(fit, prob)
    if all(hasattr(fit, name) for name in ("coef", "se", "confint", "pvalue", "_N")):
        return _pyfixest(fit, prob)
    raise FitError(
        "a column is a fit of hierpanel, or a fitted result, of one equation, of statsmodels, linearmodels or "
        f"pyfixest; not a {type(fit).__module__}.{type(fit).__qualname__}"
    )


def _posterior(fit: Fit, prob: float, stats: Sequence[str]) -> Column:
    spec, family, notes = fit.spec, fit.spec.family, []
    coefs: Cells = {}
    if spec.coefs:
        found = fit.fixef(prob)
        p = 2 * np.minimum(found["p_pos"], 1 - found["p_pos"])
        coefs = _entries(found.index, found["mean"], found["sd"], found["lower"], found["upper"], p)
    facts = {key: FACTS[key](fit, prob) for key in stats}
    if spec.has_intercept and any(group.is_fixed for group in spec.groups):
        notes.append((CONSTANT, "Beside fixed effects the constant is the row-weighted mean of the unit effects."))
    if any("Intercept" in group.coefs and len(group.coefs) > 1 for group in spec.groups):
        said = "Beside varying slopes the sd of the constants, and its correlations, are at 0 of the regressors."
        notes.append(("sd", said))
    if spec.weighted:
        notes.append(("sd", "Rows have precision weights; sd(residual) is that of a row of weight 1."))
    if not family.residual_variance and (facts.get("icc") or facts.get("r2")):
        said = f"ICC and R² of a {family.name} response are on the latent scale of the {family.link.name} link."
        notes += [("icc", said), ("r2", said)]
    problems = list(fit.diagnostics().problems)
    if "elpd" in facts and (bad := int((fit.loo().pareto_k > fit.loo().good_k).sum())):
        problems.append(f"The ELPD is rough: Pareto k̂ of {bad:,} row{'s' * (bad > 1)} is above {fit.loo().good_k:.2f}.")
    return Column(spec.formula.response, coefs, facts, None, tuple(notes), tuple(problems))


def _entries(names: Iterable[Any], *columns: Any) -> Cells:
    """Coefficients by name; columns are those of `Entry`."""
    found: Cells = {}
    values = zip(*(np.asarray(column, dtype=float) for column in columns), strict=True)
    for name, row in zip(map(str, names), values, strict=False):
        free = (label for label in (canonical(name), name, f"{name} (column)") if label not in found)
        found[next(free, name)] = Entry(*map(float, row))
    return found


def _sds(fit: Fit, prob: float) -> Cells:
    spec = fit.spec
    if not (spec.groups or spec.parameters):
        return {}
    table, found = fit.varcorr(prob), {}
    fixed = {(g.name, g.coefs[block.columns.start], "") for g in spec.groups for block in g.blocks if block.fixed}
    of_groups = len(table) - len(spec.parameters)
    for k, (_, row) in enumerate(table.iterrows()):
        entry, key = Entry(*map(float, row[["mean", "sd", "lower", "upper"]])), table.index[k]
        if k >= of_groups:
            is_sd = key[1] == "sigma" and "nu" not in spec.parameters and "sd(residual)" not in found
            found["sd(residual)" if is_sd else key[1]] = entry
        elif key not in fixed:
            found[_sd_label(*key)] = entry
    return found


def _sd_label(group: str, coef: str, other: str = "") -> str:
    """Name a row: ``sd(worker)``, ``sd(worker: x)``, ``cor(worker: constant, x)``."""
    first = "constant" if coef == "Intercept" else coef
    if other:
        return f"cor({group}: {first}, {'constant' if other == 'Intercept' else other})"
    return f"sd({group})" if coef == "Intercept" else f"sd({group}: {first})"


def _shares(ask: Callable[[], pd.DataFrame], kind: str) -> Cells:
    """Posterior means of shares of variance; none where the fit says that it has none."""
    try:
        return {f"{kind} {name}": float(mean) for name, mean in ask()["mean"].items()}
    except FitError:
        return {}


def _r2(fit: Fit, prob: float) -> Cells:
    found = _shares(fit.r2, "R²")
    said = {"R² marginal": _has_regressors(fit), "R² conditional": bool(fit.spec.groups)}
    return {label: value for label, value in found.items() if said[label]}


def _r2_panel(fit: Fit, prob: float) -> Cells:
    return _shares(fit.r2_panel, "R²") if _has_regressors(fit) and not fit.spec.joined else {}


def _has_regressors(fit: Fit) -> bool:
    return fit.spec.coefs not in ((), ("Intercept",))


def _effects(fit: Fit, prob: float) -> Cells:
    groups = fit.spec.groups
    random = [group.name for group in groups if not all(block.fixed for block in group.blocks)]
    found = {f"{group.name} fixed effects": "yes" for group in groups if group.is_fixed}
    return found | {f"{name} random effects": "yes" for name in random}


def _units(fit: Fit, prob: float) -> Cells:
    panel = fit.spec.panel
    found = {} if panel is None else {f"Units ({panel.unit})": panel.units}
    return found | {f"Units ({group.name})": group.levels for group in fit.spec.groups}


def _method(fit: Fit, prob: float) -> Cells:
    family = fit.spec.family
    found = {} if family.name == "gaussian" else {"Family": f"{family.name} ({family.link.name})"}
    return {"Method": "NUTS" if fit.method == "nuts" else fit.method} | found


def _elpd(fit: Fit, prob: float) -> Cells:
    found = fit.loo()
    return {"ELPD, LOO (s.e.)": f"{found.elpd:,.1f} ({found.se:,.1f})"}


# Key of `stats` → (fit, prob) → rows.
FACTS: Mapping[str, Callable[[Fit, float], Cells]] = {
    "sd": _sds,
    "icc": lambda fit, prob: _shares(fit.icc, "ICC"),
    "r2": _r2,
    "r2_panel": _r2_panel,
    "effects": _effects,
    "n": lambda fit, prob: {"Observations": fit.nobs},
    "units": _units,
    "method": _method,
    "elpd": _elpd,
}


def _statsmodels(fit: Any, prob: float) -> Column:
    model, method = fit.model, type(fit.model).__name__
    names, (lower, upper) = getattr(fit.params, "index", model.exog_names), np.asarray(fit.conf_int(alpha=1 - prob)).T
    coefs = _entries(names, fit.params, fit.bse, lower, upper, fit.pvalues)
    facts: dict[str, Cells] = {"method": {"Method": method}}
    if hasattr(fit, "nobs"):
        facts["n"] = {"Observations": int(fit.nobs)}
    if method == "QuantReg":
        facts["method"] = {"Method": f"{method}, quantile {fit.q:g}"}
    if method == "GLM":
        family = model.family
        facts["method"]["Family"] = f"{type(family).__name__.lower()} ({type(family.link).__name__.lower()})"
    if method in ("OLS", "WLS", "GLS"):
        facts |= {"r2": {"R²": float(fit.rsquared)}, "sd": {"sd(residual)": Entry(fit.scale**0.5)}}
    if method == "MixedLM":
        coefs = dict(list(coefs.items())[: fit.k_fe])
        facts |= {"method": {"Method": f"{method}, {fit.method}"}, **_mixed(fit)}
    response = model.endog_names if isinstance(model.endog_names, str) else ", ".join(map(str, model.endog_names))
    settled = getattr(fit, "converged", True) and (getattr(fit, "mle_retvals", None) or {}).get("converged", True)
    problems = () if settled else ("The estimation did not converge, so the numbers are not to be trusted.",)
    return Column(response, coefs, facts, getattr(fit, "cov_type", ""), problems=problems)


def _mixed(fit: Any) -> dict[str, Cells]:
    """Facts of a MixedLM; it calls the intercept of the groups by the name of the groups."""
    model, S = fit.model, np.asarray(fit.cov_re)
    columns = list(model.data.exog_re_names) if model.k_re else []
    group = next((name for name in columns if name not in model.exog_names), "Group")
    names = ["Intercept" if name == group else key for name, key in alike(columns).items()]
    sds = {_sd_label(group, name): Entry(S[k, k] ** 0.5) for k, name in enumerate(names)}
    for i, j in zip(*np.tril_indices(len(names), -1), strict=True):
        sds[_sd_label(group, names[j], names[i])] = Entry(S[i, j] / (S[i, i] * S[j, j]) ** 0.5)
    components = zip(model.exog_vc.names, fit.vcomp, strict=True)
    sds |= {_sd_label(str(name), "Intercept"): Entry(value**0.5) for name, value in components}
    return _random(group, sds, float(fit.scale), int(model.n_groups))


def _random(group: str, sds: Cells, residual: float, units: int) -> dict[str, Cells]:
    """Facts of an estimate of random effects, from sds of the effects and the residual variance."""
    found: dict[str, Cells] = {
        "sd": sds | {"sd(residual)": Entry(residual**0.5)},
        "effects": {f"{group} random effects": "yes"},
        "units": {f"Units ({group})": units},
    }
    if list(sds) == [f"sd({group})"]:
        variance = float(sds[f"sd({group})"].mean ** 2)
        found["icc"] = {f"ICC {group}": variance / (variance + residual)}
    return found


def _linearmodels(fit: Any, prob: float) -> Column:
    response, method = fit.model.dependent, type(fit.model).__name__
    lower, upper = fit.conf_int(level=prob).to_numpy().T
    coefs = _entries(fit.params.index, fit.params, fit.std_errors, lower, upper, fit.pvalues)
    facts: dict[str, Cells] = {"n": {"Observations": int(fit.nobs)}, "method": {"Method": method}}
    if not hasattr(fit, "entity_info"):  # instrumental variables
        facts["r2"] = {"R²": float(fit.rsquared)}
        return Column(str(response.cols[0]), coefs, facts, str(fit.cov_type))
    unit, time = map(str, response.index.names)
    called = {"Entity": unit, "Time": time}
    included = getattr(fit, "included_effects", None)
    effects = [called.get(name) or name.removeprefix("Other Effect (")[:-1] for name in included or ()]
    # s2 of clustered errors does not count the unit effects as parameters; Fama-MacBeth's df_resid counts periods
    residual = float(fit.s2 if included is None else fit.resid_ss / fit.df_resid)
    centred = ("within", "between", "overall") if fit.model.has_constant else ("within",)
    units = int(fit.entity_info["total"])
    facts |= {
        "sd": {"sd(residual)": Entry(residual**0.5)},
        "r2_panel": {f"R² {name}": float(getattr(fit, f"rsquared_{name}")) for name in centred},
        "effects": {f"{name} fixed effects": "yes" for name in effects},
        "units": {f"Units ({unit})": units},
    }
    if hasattr(fit, "theta"):  # random effects
        of_units, of_rows = (float(fit.variance_decomposition[name]) for name in ("Effects", "Residual"))
        facts |= _random(unit, {f"sd({unit})": Entry(of_units**0.5)}, of_rows, units)
    said = "Without a constant R² between and overall are about 0, not about the mean, and left out."
    notes = () if fit.model.has_constant else (("r2_panel", said),)
    errors = re.sub("( Standard)? Cov$", "", str(fit._cov_type))
    return Column(str(response.vars[0]), coefs, facts, errors if "-" in errors else errors.lower(), notes)


def _pyfixest(fit: Any, prob: float) -> Column:
    lower, upper = np.asarray(fit.confint(alpha=1 - prob)).T
    coefs = _entries(fit.coef().index, fit.coef(), fit.se(), lower, upper, fit.pvalue())
    factors = re.split(r"\s*\+\s*", str(getattr(fit, "_fixef", None) or "0").replace("^", ":"))
    within = "R² within" if len(factors) == 1 else f"R² within ({', '.join(factors)})"
    shares = {"R²": ("r2", "_r2"), within: ("r2_panel", "_r2_within")}
    facts: dict[str, Cells] = {
        "effects": {f"{name} fixed effects": "yes" for name in factors if name != "0"},
        "n": {"Observations": int(fit._N)},
        "method": {"Method": str(getattr(fit, "_method", type(fit).__name__))},
    }
    for label, (key, name) in shares.items():
        if math.isfinite(value := float(getattr(fit, name, math.nan))):
            facts[key] = {label: value}
    return Column(str(getattr(fit, "_depvar", "")), coefs, facts, str(getattr(fit, "_vcov_type_detail", "")))
