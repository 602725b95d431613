"""A lagged outcome beside unit intercepts: the bias of ignoring the first outcome, and what `initial(y)` mends.

y_it = 0.5 y_i,t-1 + 0.3 x_it + a_i + e_it with a_i ~ N(0, 1), e ~ N(0, 1), x correlated with a_i; units have been going
for long before they are seen. T = 5 outcomes after the first one are modelled. Each simulated panel gets three models:
naive, (1 | unit) alone; Nickell's, fe(unit); repaired, (1 | unit) with initial(y) (Wooldridge, 2005). Writes
initial_condition.csv: mean estimates of the coefficients, their bias, and how often 95 % intervals hold the truth.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import hierpanel as hp

RHO, SLOPE = 0.5, 0.3
FORMULAS = {
    "naive": "y ~ lag(y) + x + (1 | unit)",
    "fixed effects": "y ~ lag(y) + x + fe(unit)",
    "initial(y)": "y ~ lag(y) + x + initial(y) + (1 | unit)",
}


def panel(seed: int, units: int, periods: int = 5, before: int = 50) -> pd.DataFrame:
    """Simulate units, of which a first outcome and `periods` further ones are seen."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=units)
    y, rows = a / (1 - RHO), []
    for t in range(-before, periods + 1):
        x = 0.5 * a + rng.normal(size=units)
        y = RHO * y + SLOPE * x + a + rng.normal(size=units)
        if t >= 0:
            rows.append(pd.DataFrame({"unit": np.arange(units), "period": t, "x": x, "y": y}))
    return pd.concat(rows, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panels", type=int, default=200)
    parser.add_argument("--units", type=int, default=200)
    options = parser.parse_args()
    found = {name: [] for name in FORMULAS}
    for seed in range(options.panels):
        df = panel(seed, options.units)
        for name, formula in FORMULAS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the warning that this script explains
                fit = hp.fit(formula, df, panel=("unit", "period"), draws=500, seed=seed, progress=False)
            table = fit.fixef().loc[["lag(y)", "x"], ["mean", "sd", "lower", "upper"]]
            found[name].append(table.stack())
    rows = []
    for name, fits in found.items():
        table = pd.DataFrame(fits)
        for coef, truth in (("lag(y)", RHO), ("x", SLOPE)):
            one = table[coef]
            inside = (one["lower"] < truth) & (truth < one["upper"])
            share = inside.mean()
            rows.append(
                {
                    "model": name, "coef": coef, "truth": truth, "mean": one["mean"].mean(),
                    "bias": one["mean"].mean() - truth, "se_of_bias": one["mean"].std() / len(one) ** 0.5,
                    "coverage": share, "se_of_coverage": (0.95 * 0.05 / len(one)) ** 0.5,
                }
            )  # fmt: skip
    result = pd.DataFrame(rows)
    print(f"{options.panels} panels of {options.units} units, T = 5\n{result.round(4).to_string(index=False)}")
    result.round(5).to_csv(Path(__file__).parent / "initial_condition.csv", index=False)


if __name__ == "__main__":
    main()
