"""The marginal route on large simulated panels, 4 × 1000 draws: seconds, against lme4::lmer's point estimate; memory.

x is continuous, so no two workers share their cross-products; workers have 8 to 12 rows, in no order. Each fit is timed
from data frame to fit, in a process of its own that has fitted a small table before, so that everything is imported.
Memory is the peak resident size after the fit less the resident size before it, which holds the data frame.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from common import by_r

CASES = {
    "slopes-1e5": ("y ~ x + (1 + x | worker)", 10_000),
    "slopes-1e6": ("y ~ x + (1 + x | worker)", 100_000),
    "intercept-1e6": ("y ~ x + (1 | worker)", 100_000),
}
FIT = """
import json, resource, sys, time
from pathlib import Path
import hierpanel as hp
from common import smallest_ess_of
from marginal_large import CASES, panel

formula, workers = CASES[sys.argv[1]]
df = panel(workers)
hp.fit(formula, df.head(500), draws=100, progress=False).summary()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
before, start = int(status["VmRSS"].split()[0]), time.perf_counter()
fit = hp.fit(formula, df, seed=1, progress=False)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": fit.nobs, "seconds": seconds, "timing": dict(fit.timing), "ess": smallest_ess_of(fit),
                  "megabytes": (peak - before) / 1024, "before": before / 1024,
                  "by": fit.idata["sample_stats"].attrs["sampled_by"]}))
"""


def panel(workers: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = 10 + rng.permutation(np.resize([-2, -1, 0, 1, 2], workers))
    worker = rng.permutation(np.repeat(np.arange(workers), rows))
    n = len(worker)
    x = rng.normal(size=n)
    intercept, slope = rng.multivariate_normal([1.0, 0.5], [[0.25, 0.06], [0.06, 0.09]], workers).T
    y = intercept[worker] + slope[worker] * x + rng.normal(0, 0.7, n)
    return pd.DataFrame({"worker": worker, "x": x, "y": y})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; may be repeated")
    parser.add_argument("--skip-lmer", action="store_true")
    options = parser.parse_args()
    cases = options.case or list(CASES)
    seconds = {}
    for case in cases:  # ours first, while this process is small: a child's peak starts from its parent's
        done = subprocess.run(
            [sys.executable, "-c", FIT, case], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        seconds[case] = found["seconds"]
        parts = ", ".join(f"{name} {value:.2f} s" for name, value in found["timing"].items())
        print(
            f"{case:<14} {found['rows']:>9,} rows  hp.fit {found['seconds']:7.2f} s ({parts})\n"
            f"{'':<14} min ESS {found['ess']:.0f}, sampled by {found['by']}, peak memory {found['megabytes']:,.0f} MB "
            f"beyond the {found['before']:,.0f} MB before",
            flush=True,
        )
    for case in () if options.skip_lmer else cases:
        formula, workers = CASES[case]
        if r := by_r("lmer.R", panel(workers), formula):
            print(f"{case:<14} lmer {r['seconds'][0]:.2f} s; hp.fit / lmer {seconds[case] / r['seconds'][0]:.2f} x")


if __name__ == "__main__":
    main()
