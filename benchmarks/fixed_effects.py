"""Two-way fixed effects of 10⁵ units × 10 periods: seconds and memory, beside pyfixest and linearmodels' PanelOLS.

hierpanel gives 4 × 1000 posterior draws, the peers a point estimate with standard errors. Each runs in a process of its
own that has fitted a small table before, so that everything is imported and compiled. Memory is the peak resident size
after the fit less the resident size before it, which holds the data frame. `pip install pyfixest` for that peer.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PEERS = ("hierpanel", "pyfixest", "linearmodels")
MEASURE = """
import json, resource, sys, time
from pathlib import Path
import fixed_effects

name, units, share = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
fixed_effects.fit(name, fixed_effects.panel(200, share))
df = fixed_effects.panel(units, share)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
before, start = int(status["VmRSS"].split()[0]), time.perf_counter()
mean, sd = fixed_effects.fit(name, df)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": len(df), "seconds": seconds, "megabytes": (peak - before) / 1024, "mean": mean, "sd": sd}))
"""


def panel(units: int, share: float, periods: int = 10) -> pd.DataFrame:
    """Simulate y = 0.5 x - 0.2 z + unit + year + noise, and keep a share of the rows at random."""
    rng = np.random.default_rng(1)
    unit, year = np.repeat(np.arange(units), periods), np.tile(np.arange(2000, 2000 + periods), units)
    of_unit, of_year = rng.normal(size=units)[unit], rng.normal(size=periods)[year - 2000]
    x = rng.normal(size=len(unit)) + 0.5 * of_unit
    z = rng.normal(size=len(unit)) + 0.3 * of_year
    y = 0.5 * x - 0.2 * z + of_unit + of_year + rng.normal(size=len(unit))
    df = pd.DataFrame({"unit": unit, "year": year, "x": x, "z": z, "y": y})
    return df if share == 1 else df[rng.random(len(df)) < share].reset_index(drop=True)


def fit(name: str, df: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Return estimates and standard errors of x and z."""
    found: tuple[Any, Any]
    if name == "hierpanel":
        import hierpanel as hp

        ours = hp.fit("y ~ x + z + fe(unit) + fe(year)", df, seed=1, progress=False)
        ours.summary()
        found = ours.params[["x", "z"]], ours.bse[["x", "z"]]
    elif name == "pyfixest":
        import pyfixest

        theirs = pyfixest.feols("y ~ x + z | unit + year", df, vcov="iid")
        found = theirs.coef()[["x", "z"]], theirs.se()[["x", "z"]]
    else:
        from linearmodels import PanelOLS

        indexed = df.set_index(["unit", "year"])
        theirs = PanelOLS(indexed["y"], indexed[["x", "z"]], entity_effects=True, time_effects=True).fit()
        found = theirs.params[["x", "z"]], theirs.std_errors[["x", "z"]]
    return found[0].tolist(), found[1].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--skip", action="append", default=[], choices=PEERS[1:], help="leave this peer out")
    options = parser.parse_args()
    for title, share in (("balanced", 1.0), ("80 % of the rows", 0.8)):
        seconds = {}
        for name in PEERS:
            if name in options.skip or (name == "pyfixest" and importlib.util.find_spec(name) is None):
                continue
            command = [sys.executable, "-c", MEASURE, name, str(options.units), str(share)]
            done = subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            seconds[name] = found["seconds"]
            estimates = ", ".join(f"{m:.6f} ({s:.6f})" for m, s in zip(found["mean"], found["sd"], strict=True))
            print(
                f"{title:<16} {found['rows']:>9,} rows  {name:<12} {found['seconds']:6.2f} s "
                f"{found['megabytes']:7,.0f} MB  x, z: {estimates}"
                f"  hierpanel / it: {seconds['hierpanel'] / found['seconds']:.2f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
