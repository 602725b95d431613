"""Predictions, comparisons, slopes of marginaleffects at statsmodels' estimates -> tests/reference/marginaleffects.json

Run from the repo root, with -P since the script has the package's name: python -P tests/reference/marginaleffects.py
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FILE = Path("tests/reference/marginaleffects.json")
# name → (formula, statsmodels' function); x, z, d and h are in each of them.
MODELS = {
    "ols": ("y ~ x * h + I(x**2) + z * d", "ols"),
    "ols_logs": ("log_y ~ np.log(z) + x * d + h", "ols"),
    "logit": ("hit ~ x * h + z * d", "logit"),
    "probit": ("hit ~ x * d + I(z**2) + h", "probit"),
    "poisson": ("count ~ np.log(z) + x * h + d", "poisson"),
}
# Comparisons of d; log_y has predictions below 0, and y and count are no probabilities.
COMPARED = {name: ["difference", "ratio", "lnratio", "lift"] for name in MODELS} | {"ols_logs": ["difference"]}
COMPARED |= {name: [*COMPARED[name], "lnor"] for name in ("logit", "probit")}


def table() -> pd.DataFrame:
    """72 rows: x and z numbers, z positive, d of 0 and 1, h and part text; outcomes y, log_y, hit and count."""
    rng = np.random.default_rng(20)
    n = 72
    x, z, d = rng.normal(0.3, 1, n).round(2), rng.uniform(0.5, 3, n).round(2), rng.integers(0, 2, n)
    h, part = rng.choice(list("pqr"), n), rng.choice(["east", "west"], n)
    level = pd.Series(h).map({"p": 0.0, "q": 0.5, "r": -0.4}).to_numpy()
    eta = 0.3 + 0.4 * x + level * (1 + x / 2) + 0.3 * z * (1 - d)
    y = 3 + eta + rng.normal(0, 0.7, n)
    columns = {"x": x, "z": z, "d": d, "h": h, "part": part, "y": y.round(3), "log_y": (eta / 2 + 0.2 * y).round(3)}
    hit, count = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int), rng.poisson(np.exp(eta))
    return pd.DataFrame(columns | {"hit": hit, "count": count})


def rows_of(found: Any, *keys: str) -> list[list[Any]]:
    """The rows of a result: its keys, then the estimate."""
    return [list(row) for row in found.select([*keys, "estimate"]).rows()]


def of_model(name: str, data: pd.DataFrame) -> dict[str, dict[str, Any]]:
    import marginaleffects as mfx
    import polars as pl
    import statsmodels.formula.api as smf

    formula, function = MODELS[name]
    data = data.astype({"h": "category", "part": "category"})  # it takes no text
    options = {} if function == "ols" else {"disp": 0, "maxiter": 200, "method": "newton", "tol": 1e-12}
    model = getattr(smf, function)(formula, data).fit(**options)
    at: dict[str, Any] = {"newdata": pl.from_pandas(data), "vcov": False}
    means: dict[str, Any] = {"newdata": mfx.datagrid(model=model), "vcov": False}
    grid: dict[str, Any] = {"newdata": mfx.datagrid(model=model, x=[-1.0, 0.5], h=["p", "r"]), "vcov": False}
    both = ["x", "z"]

    def up(column: Any) -> Any:
        """From x to x + 1; a number would go from x - 1/2 to x + 1/2."""
        return pl.DataFrame({"low": column, "high": column + 1})

    changes = {
        "x +1": {"x": up}, "x [-1, 2]": {"x": [-1.0, 2.0]}, "x sd": {"x": "sd"}, "x iqr": {"x": "iqr"},
        "z minmax": {"z": "minmax"}, "h": "h", "d": "d",
    }  # fmt: skip
    comparisons = {}
    for label, variables in changes.items():
        found = mfx.avg_comparisons(model, variables=variables, **at)
        comparisons[label] = rows_of(found)
        comparisons[f"{label} by part"] = rows_of(
            mfx.avg_comparisons(model, variables=variables, by="part", **at), "part"
        )
    for word in COMPARED[name]:
        comparisons[f"{word} of rows"] = rows_of(mfx.comparisons(model, variables="d", comparison=word, **at))
        comparisons[f"{word} of averages"] = rows_of(mfx.avg_comparisons(model, variables="d", comparison=word, **at))
    slopes = {}
    for slope in ("dydx", "eyex", "eydx", "dyex"):
        slopes[slope] = rows_of(mfx.avg_slopes(model, variables=both, slope=slope, **at), "term")
        slopes[f"{slope} at means"] = rows_of(mfx.slopes(model, variables=both, slope=slope, **means), "term")
        slopes[f"{slope} by part"] = rows_of(
            mfx.avg_slopes(model, variables=both, slope=slope, by="part", **at), "term", "part"
        )
    slopes["dydx at grid"] = rows_of(mfx.slopes(model, variables="z", **grid), "x", "h")
    return {
        "model": {"formula": formula, "params": {str(k): float(v) for k, v in model.params.items()}},
        "means": {key: means["newdata"][key][0] for key in ("x", "z", "d", "h")},
        "predictions": {
            "rows": rows_of(mfx.predictions(model, **at)),
            "average": rows_of(mfx.avg_predictions(model, **at)),
            "by part": rows_of(mfx.avg_predictions(model, by="part", **at), "part"),
            "by part and h": rows_of(mfx.avg_predictions(model, by=["part", "h"], **at), "part", "h"),
            "at means": rows_of(mfx.predictions(model, **means)),
            "at grid": rows_of(mfx.predictions(model, **grid), "x", "h"),
        },
        "comparisons": comparisons,
        "slopes": slopes,
    }


def main() -> None:
    data = table()
    packages = ("marginaleffects", "statsmodels", "numpy", "pandas", "polars")
    lines = {
        "made_with": {"python": sys.version.split()[0]} | {name: version(name) for name in packages},
        "data": {name: data[name].tolist() for name in data},
    }
    for name in MODELS:
        lines |= {f"{name}.{part}": values for part, values in of_model(name, data).items()}
    text = ",\n".join(
        f" {json.dumps(key)}: {{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in values.items())
        + "\n }"
        for key, values in lines.items()
    )
    FILE.write_text(f"{{\n{text}\n}}\n")


if __name__ == "__main__":
    main()
