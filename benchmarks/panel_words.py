"""lag() and within() on 10⁷ rows: seconds, against pandas' groupby, which does not see gaps; and a whole model of them.

Units are in order, then the rows are shuffled, which is the hard case for lags. pandas' ``groupby().shift()`` takes the
row before, whichever period that is, and needs rows in order of time.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import hierpanel as hp
from hierpanel.data import panel, shifts
from hierpanel.formula import words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=1e7)
    options = parser.parse_args()
    units, periods = int(options.rows) // 10, 10
    rng = np.random.default_rng(1)
    df = pd.DataFrame({"unit": np.repeat(np.arange(units), periods), "year": np.tile(np.arange(periods), units)})
    df["x"] = rng.normal(size=len(df))
    df["y"] = df["x"] + rng.normal(size=len(df))
    lag = words.words_in("lag(x)")
    hp.Model("y ~ lag(x) + within(x)", df[:1000], panel=("unit", "year"))
    for title, table in (("in order", df), ("shuffled", df.sample(frac=1, random_state=1))):
        index, of_index = timed(lambda table=table: panel.panel_of(table, ("unit", "year")))
        shifted, of_lag = timed(lambda table=table, index=index: shifts.shift(lag, index, table, {}))
        theirs, of_shift = timed(lambda table=table: table.sort_values(["unit", "year"]).groupby("unit")["x"].shift())
        pd.testing.assert_series_equal(shifted[0].values, theirs.reindex(table.index), check_names=False)
        _, of_means = timed(lambda table=table: table["x"] - table.groupby("unit")["x"].transform("mean"))
        model, of_model = timed(lambda table=table: hp.Model("y ~ lag(x) + within(x)", table, panel=("unit", "year")))
        print(
            f"{title}, {len(table):,} rows: time index {of_index:.2f} s, lag {of_lag:.2f} s; pandas sort and shift "
            f"{of_shift:.2f} s ({(of_index + of_lag) / of_shift:.2f} x), demean {of_means:.2f} s\n"
            f"  Model('y ~ lag(x) + within(x)') with all its checks: {of_model:.2f} s, {model.spec.n:,} rows used",
            flush=True,
        )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


if __name__ == "__main__":
    main()
