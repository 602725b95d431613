"""Panel estimators of linearmodels, its three R², first differences by hand -> tests/reference/panel_linearmodels.json

Run from the repo root, after panel_tables.py: python tests/reference/panel_linearmodels.py
"""

import json
import sys
from pathlib import Path
from typing import Any

import linearmodels
import numpy as np
import pandas as pd
from linearmodels.panel import BetweenOLS, FirstDifferenceOLS, PanelOLS, PooledOLS, RandomEffects

stacked = pd.read_csv("tests/reference/panel_data.csv")


def rows(name: str) -> pd.DataFrame:
    return stacked[stacked["table"] == name].set_index(["unit", "year"])


wage = pd.read_csv("hierpanel/data_files/wage_panel.csv.gz").set_index(["worker", "year"])
# data, response, regressors, a regressor that is constant within units, coefficients at which to evaluate the R² of the
# pooled model: Intercept, then the regressors.
TABLES: dict[str, tuple[pd.DataFrame, str, list[str], str | None, list[list[float]]]] = {
    "wage": (wage, "log_wage", ["union", "married", "hours"], "education", [[1.5, 0.2, 0.1, -5e-5], [1.7, -0.3, 1, 0]]),
    "unbalanced": (rows("unbalanced"), "y", ["x", "z", "d"], "c", [[2, 0.5, -0.5, 0.25], [-1, 1.5, 0.25, -1]]),
    "gaps": (rows("gaps"), "y", ["x", "z", "d"], "c", []),
    "tiny": (rows("tiny"), "y", ["x"], None, []),
}


def named(values: pd.Series) -> dict[str, float | None]:
    return {str(k): None if np.isnan(v) else float(v) for k, v in values.items()}


def estimates(model: Any, **options: Any) -> dict[str, Any]:
    """`model`'s fit; of random effects the variances too and theta, by unit unless the same for all."""
    fit = model.fit(**options)
    out = {
        "params": named(fit.params),
        "std_errors": named(fit.std_errors),
        "rsquared_within": float(fit.rsquared_within),
        "rsquared_between": float(fit.rsquared_between),
        "rsquared_overall": float(fit.rsquared_overall),
        "s2": float(fit.s2),
        "df_resid": int(fit.df_resid),
        "nobs": int(fit.nobs),
    }
    if isinstance(model, RandomEffects):
        theta = fit.theta["theta"]
        out["sigma2"] = {"effects": float(fit.variance_decomposition["Effects"])}
        out["sigma2"]["residual"] = float(fit.variance_decomposition["Residual"])
        out["theta"] = float(theta.iloc[0]) if np.ptp(theta) == 0 else named(theta)
    return out


def rsquared(model: Any, params: list[float]) -> dict[str, Any]:
    overall, within, between = model._rsquared(np.array(params, dtype=float)[:, None])
    named_params = dict(zip(model.exog.vars, map(float, params), strict=True))
    return {"params": named_params, "within": within, "between": between, "overall": overall}


def by_hand(data: pd.DataFrame, y: str, x: list[str], intercept: bool) -> dict[str, Any]:
    """OLS of the differences between rows of a unit whose years differ by exactly one."""
    d = data.reset_index(names=["unit", "year"]).sort_values(["unit", "year"])
    step = d.groupby("unit")["year"].diff() == 1
    diffs = d[[y, *x]].diff()[step].assign(Intercept=1.0)
    names = ["Intercept"] * intercept + x
    X, Y = diffs[names].to_numpy(), diffs[y].to_numpy()
    params = np.linalg.lstsq(X, Y, rcond=None)[0]
    df = len(Y) - len(names)
    s2 = float(np.sum((Y - X @ params) ** 2)) / df if df else np.nan
    se = np.sqrt(s2 * np.diag(np.linalg.inv(X.T @ X)))
    return {
        "params": named(pd.Series(params, names)),
        "std_errors": named(pd.Series(se, names)),
        "s2": s2 if df else None,
        "df_resid": df,
        "nobs": len(Y),
    }


def main() -> None:
    result: dict[str, Any] = {
        "made_with": {
            "python": sys.version.split()[0],
            "linearmodels": linearmodels.__version__,
            "numpy": np.__version__,
        }
    }
    for name, (data, y, x, invariant, vectors) in TABLES.items():
        Y, X = data[y], data[x].astype(float)
        X1 = X.assign(Intercept=1.0)[["Intercept", *x]]
        out: dict[str, Any] = {}
        out["fd_by_hand"] = by_hand(data, y, x, intercept=True)
        out["fd_no_intercept_by_hand"] = by_hand(data, y, x, intercept=False)
        fit = estimates(FirstDifferenceOLS(Y, X))
        wrong = fit["nobs"] != out["fd_no_intercept_by_hand"]["nobs"]
        out["fd_no_intercept" + "_wrong_across_gaps" * wrong] = fit
        if invariant:
            X2 = X1.assign(**{invariant: data[invariant].astype(float)})
            pooled = PooledOLS(Y, X1)
            out["entity"] = estimates(PanelOLS(Y, X1, entity_effects=True))
            out["entity_time"] = estimates(PanelOLS(Y, X1, entity_effects=True, time_effects=True))
            out["between"] = estimates(BetweenOLS(Y, X1))
            out["pooled"] = estimates(pooled)
            if vectors:
                out["pooled"]["rsquared_at"] = [rsquared(pooled, v) for v in vectors]
            out["random"] = estimates(RandomEffects(Y, X1))
            out["random_invariant"] = estimates(RandomEffects(Y, X2))
            if name != "wage":  # the option does nothing in a balanced panel
                out["random_small_sample"] = estimates(RandomEffects(Y, X1), small_sample=True)
                out["random_invariant_small_sample"] = estimates(RandomEffects(Y, X2), small_sample=True)
        if name == "unbalanced":
            w = data["w"]
            pooled = PooledOLS(Y, X1, weights=w)
            out["entity_weighted"] = estimates(PanelOLS(Y, X1, weights=w, entity_effects=True))
            out["entity_time_weighted"] = estimates(PanelOLS(Y, X1, weights=w, entity_effects=True, time_effects=True))
            out["between_weighted"] = estimates(BetweenOLS(Y, X1, weights=w))
            out["pooled_weighted"] = estimates(pooled) | {"rsquared_at": [rsquared(pooled, v) for v in vectors]}
        result[name] = out

    Path("tests/reference/panel_linearmodels.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
