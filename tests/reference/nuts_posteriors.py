"""Long NUTS runs of Gaussian models, boundary cases among them -> tests/reference/nuts_posteriors.json

Run from the repo root: python tests/reference/nuts_posteriors.py [case …]; with names only those cases are made anew.
"""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats

import hierpanel as hp

FILE = Path("tests/reference/nuts_posteriors.json")
RUN = {"chains": 4, "draws": 10000, "tune": 2000, "target_accept": 0.98, "seed": 1}
# Of each grouping factor, the effects of so many levels.
LEVELS = 2
QUANTILES = {"5 %": 0.05, "95 %": 0.95}


def simulated(seed: int, units: int, rows: int, F: Any, sigma: float) -> dict[str, list[float]]:
    """y = 2 + x/2 + (1, x) F u + ε for each unit, u ~ N(0, I), in three decimals."""
    rng = np.random.default_rng(seed)
    unit, x = np.repeat(np.arange(units), rows), rng.normal(size=units * rows)
    intercept, slope = (rng.normal(size=(units, 2)) @ np.transpose(F))[unit].T
    y = 2 + intercept + (0.5 + slope) * x + sigma * rng.normal(size=len(x))
    return {"unit": unit.tolist(), "x": x.round(3).tolist(), "y": y.round(3).tolist()}


def weighted(seed: int) -> dict[str, list[float]]:
    """A panel with units of one to eleven rows, eight years that shift every unit, and rows of unlike precision."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(16), rng.integers(1, 12, 16))
    year, x, w = (rng.integers(0, 8, len(unit)), rng.normal(size=len(unit)), rng.uniform(0.2, 5, len(unit)))
    effects = rng.normal(0, 0.6, 16)[unit] + rng.normal(0, 0.4, 16)[unit] * x + rng.normal(0, 0.5, 8)[year]
    y = 1 + x + effects + 0.7 * rng.normal(size=len(unit)) / np.sqrt(w)
    columns = {"unit": unit, "year": year, "x": x.round(3), "w": w.round(3), "y": y.round(3)}
    return {name: values.tolist() for name, values in columns.items()}


# formula; data: a packaged data set, or columns; query: which of its rows; options of the model, priors by their names.
CASES: dict[str, dict[str, Any]] = {
    "sleepstudy": {"formula": "reaction ~ days + (days | subject)", "data": "sleepstudy"},
    "sleepstudy_priors": {
        "formula": "reaction ~ days + (days | subject)",
        "data": "sleepstudy",
        "center": False,
        "priors": {
            "beta": {"name": "Normal", "mu": 0, "sigma": 200},
            "sd_subject": {"name": "Exponential", "lam": 0.05},
            "sd_subject[days]": {"name": "Uniform", "lower": 0, "upper": 8},
            "cor_subject": {"name": "LKJ", "eta": 1},
            "sigma": {"name": "HalfNormal", "sigma": 40},
        },
    },
    "wage_sim": {"formula": "log_wage ~ experience + (1 + experience | worker)", "data": "wage_sim"},
    "wage_sim_independent": {"formula": "log_wage ~ experience + (1 + experience || worker)", "data": "wage_sim"},
    "wage_sim_fe": {"formula": "log_wage ~ experience + fe(worker)", "data": "wage_sim"},
    "wage_panel": {
        "formula": "log_wage ~ experience + union + (experience | worker)",
        "data": "wage_panel",
        "query": "worker < 1000",
    },
    "radon": {"formula": "log_radon ~ floor + (floor | county)", "data": "radon"},
    "dyestuff": {"formula": "yield_ ~ (1 | batch)", "data": "dyestuff"},
    "dyestuff2": {"formula": "yield_ ~ (1 | batch)", "data": "dyestuff2"},
    "pastes": {"formula": "strength ~ (1 | batch/cask)", "data": "pastes"},
    "penicillin": {"formula": "diameter ~ (1 | plate) + (1 | sample)", "data": "penicillin"},
    "no_slopes": {
        "formula": "y ~ x + (x | unit)",
        "data": simulated(1, 25, 5, [[0.8, 0], [0, 0]], 0.6),
    },
    "correlation_0.98": {
        "formula": "y ~ x + (x | unit)",
        "data": simulated(2, 25, 6, [[1, 0], [0.98, np.sqrt(1 - 0.98**2)]], 0.5),
    },
    "weighted": {"formula": "y ~ x + (x || unit) + (1 | year)", "data": weighted(3), "weights": "w"},
}


def model(case: dict[str, Any]) -> hp.Model:
    """Return the model of a case."""
    data = case["data"]
    df = hp.datasets.load(data) if isinstance(data, str) else pd.DataFrame(data)
    df = df.query(case["query"]) if "query" in case else df
    priors = {key: hp.Prior(**prior) for key, prior in case.get("priors", {}).items()}
    return hp.Model(case["formula"], df, priors=priors, center=case.get("center", True), weights=case.get("weights"))


def entries(fit: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Return variables and places in them: all coefficients, sds, correlations and sigma, and effects of some levels.

    A number is left out: a correlation of 1, a fixed sd.
    """
    found = []
    for name, values in fit.idata["posterior"].data_vars.items():
        shape = values.shape[2:]
        shape = (min(LEVELS, shape[0]), *shape[1:]) if name.startswith("b_") else shape
        for place in product(*map(range, shape)):
            upper = name.startswith("cor_") and place[0] <= place[1]
            if not upper and np.ptp(values.values[(..., *place)]) > 0:
                found.append((name, place))
    return found


def described(fit: Any, name: str, place: tuple[int, ...]) -> dict[str, Any]:
    """Return [value, Monte Carlo standard error] of the mean, the sd and quantiles of one number."""
    variable = fit.idata["posterior"][name]
    draws = variable.values[(..., *place)]
    labels = [str(variable[dim].values[k]) for dim, k in zip(variable.dims[2:], place, strict=True)]
    numbers = {
        "mean": (draws.mean(), array_stats.mcse(draws)),
        "sd": (draws.std(ddof=1), array_stats.mcse(draws, method="sd")),
    } | {
        key: (np.quantile(draws, p), array_stats.mcse(draws, method="quantile", prob=p)) for key, p in QUANTILES.items()
    }
    rounded = {key: [float(f"{value:.6g}"), float(f"{se:.2g}")] for key, (value, se) in numbers.items()}
    return {"variable": name, "place": list(place), "labels": labels} | rounded


def posterior(case: dict[str, Any]) -> dict[str, Any]:
    """Return the case with what was run, how well it went, and the posterior."""
    fit = model(case).fit("nuts", progress=False, **RUN)
    health = fit.diagnostics()
    run = RUN | {key: round(health[key], 5) for key in ("divergences", "max_r_hat", "min_ess")}
    return case | {"nuts": run, "posterior": [described(fit, name, place) for name, place in entries(fit)]}


def main(names: list[str]) -> None:
    """Make the named cases, or all of them; the others stay as they are in the file."""
    found = json.loads(FILE.read_text(encoding="utf-8")) if names else {}
    for name in names or CASES:
        found[name] = posterior(CASES[name])
        print(name, found[name]["nuts"], flush=True)
    lines = [f" {json.dumps(name)}: {as_text(found[name])}" for name in CASES if name in found]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def as_text(case: dict[str, Any]) -> str:
    """Write a key in each line, and a number of the posterior in each."""
    rows = ",\n".join(f"   {json.dumps(row)}" for row in case["posterior"])
    keys = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in case.items() if key != "posterior"]
    return "{\n" + ",\n".join([*keys, f'  "posterior": [\n{rows}\n  ]']) + "\n }"


if __name__ == "__main__":
    main(sys.argv[1:])
