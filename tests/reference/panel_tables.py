"""Simulated panels, without gaps, with gaps and a tiny one, stacked -> tests/reference/panel_data.csv

Run from the repo root: python tests/reference/panel_tables.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

FIRST, LAST = 2000, 2008
UNITS = 40
# Years of the first units of "gaps": the two of "tiny", one without two years in a row, one with two gaps.
SPECIAL = [[2000, 2001, 2003], [2000, 2001], [2000, 2002, 2005, 2008], [2001, 2002, 2004, 2005, 2008]]


def unbroken(rng: np.random.Generator) -> list[list[int]]:
    """Two to nine years in a row for each unit."""
    lengths = rng.integers(2, LAST - FIRST + 2, UNITS)
    starts = [int(rng.integers(FIRST, LAST - n + 2)) for n in lengths]
    return [list(range(start, start + int(n))) for start, n in zip(starts, lengths, strict=True)]


def broken(rng: np.random.Generator) -> list[list[int]]:
    """As `unbroken`, but most units of four or more years lack one or two years between their first and last."""
    units = []
    for years in unbroken(rng):
        inner = years[1:-1]
        lost = set(rng.choice(inner, int(rng.integers(0, 3)), replace=False).tolist()) if len(inner) > 1 else set()
        units.append([year for year in years if year not in lost])
    return SPECIAL + units[len(SPECIAL) :]


def simulated(seed: int, years: list[list[int]]) -> pd.DataFrame:
    """y = 1 + x/2 - z/4 + d/3 + c/5 + u + v + ε; unit effect u, which x and z go with; year effect v; sd(ε) ~ 1/√w."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(len(years)), [len(own) for own in years])
    year = np.concatenate(years)
    n, units = len(unit), len(years)
    u, v = rng.normal(0, 0.8, units), rng.normal(0, 0.3, LAST - FIRST + 1)
    c = rng.normal(2, 1, units)
    x = 0.7 * u[unit] + 0.3 * c[unit] + rng.normal(0, 1, n)
    z = 5 - 1.5 * u[unit] + 0.2 * (year - FIRST) + rng.normal(0, 2, n)
    d = (rng.normal(0, 1, n) + 0.5 * u[unit] > 0.2).astype(int)
    w = rng.gamma(4, 0.5, n) + 0.1
    y = 1 + x / 2 - z / 4 + d / 3 + c[unit] / 5 + u[unit] + v[year - FIRST] + rng.normal(0, 0.6, n) / np.sqrt(w)
    return pd.DataFrame({"unit": unit + 1, "year": year, "y": y, "x": x, "z": z, "d": d, "c": c[unit], "w": w})


def main() -> None:
    tiny = pd.DataFrame(
        {
            "unit": [1, 1, 1, 2, 2],
            "year": [2000, 2001, 2003, 2000, 2001],
            "y": [1.2, 1.9, 4.6, 0.3, 1.6],
            "x": [0.5, 1.0, 3.5, -0.2, 1.1],
        }
    )
    tables = {
        "unbalanced": simulated(2, unbroken(np.random.default_rng(1))),
        "gaps": simulated(4, broken(np.random.default_rng(3))),
        "tiny": tiny,
    }
    # Six significant digits, so that whatever reads the file reads the same numbers.
    data = pd.concat([table.assign(table=name) for name, table in tables.items()], ignore_index=True)
    columns = ["table", "unit", "year", "y", "x", "z", "d", "c", "w"]
    data[columns].astype({"d": "Int64"}).to_csv(
        Path("tests/reference/panel_data.csv"), index=False, float_format="%.6g", lineterminator="\n"
    )


if __name__ == "__main__":
    main()
