"""Predictions of 10⁵ rows from 4 × 1000 draws: seconds and peak memory; of 10⁴ rows beside Bambi's predict.

Both predict the same rows of the same 50 workers from random intercepts and slopes. Ours is a table of means, sds and
intervals, made some rows at a time. Bambi's is the draws, all of them at once: 10⁴ rows take it about 10 GB, so that it
is not asked for more. "Summed up" is its time until the same table is there, with NumPy. Each runs in a process of its
own that has predicted a few rows before. Memory is the peak resident size less that before the prediction.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import hierpanel as hp

FORMULA = "log_wage ~ experience + (1 + experience | worker)"
MEASURE = """
import json, resource, sys
from pathlib import Path
import predict

peer, kind, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
work = {"hierpanel": predict.ours, "bambi": predict.bambi}[peer](kind)
work(predict.rows(100))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
before, new = int(status["VmRSS"].split()[0]), predict.rows(rows)
found = work(new)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"megabytes": (peak - before) / 1024, **found}))
"""


def rows(count: int) -> pd.DataFrame:
    """Return rows of the panel's workers in years to come."""
    rng, df = np.random.default_rng(1), hp.datasets.load("wage_sim")
    workers = rng.choice(df["worker"].unique(), size=count)
    return pd.DataFrame({"worker": workers, "experience": rng.uniform(0, 40, size=count)})


def ours(kind: str) -> Callable[[pd.DataFrame], dict[str, float]]:
    """Fit, and return what predicts and times it."""
    fit = hp.fit(FORMULA, hp.datasets.load("wage_sim"), seed=1, progress=False)

    def work(new: pd.DataFrame) -> dict[str, float]:
        start = time.perf_counter()
        table = fit.predict(new, kind=kind)
        return {"seconds": time.perf_counter() - start, "mean": float(table["mean"].mean())}

    return work


def bambi(kind: str) -> Callable[[pd.DataFrame], dict[str, float]]:
    """Fit, and return what predicts and times it."""
    import bambi as bmb

    df = hp.datasets.load("wage_sim")
    df["worker"] = df["worker"].astype(str)
    model = bmb.Model(FORMULA, df)
    idata = model.fit(draws=1000, tune=1000, chains=4, random_seed=1, progressbar=False)

    def work(new: pd.DataFrame) -> dict[str, float]:
        new = new.assign(worker=new["worker"].astype(str))
        start = time.perf_counter()
        words = {"mean": ("response_params", "posterior", "mu"), "response": ("response", "posterior_predictive", None)}
        asked, group, name = words[kind]
        found = model.predict(idata, kind=asked, data=new, inplace=False)
        seconds = time.perf_counter() - start
        draws = found[group][name or "log_wage"].values.reshape(-1, len(new))
        np.quantile(draws, [0.025, 0.975], axis=0), draws.std(axis=0, ddof=1)
        mean = float(draws.mean(axis=0).mean())
        return {"seconds": seconds, "summed_up": time.perf_counter() - start, "mean": mean}

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--bambi-rows", type=int, default=10_000, help="0 leaves Bambi out")
    options = parser.parse_args()
    for kind in ("mean", "response"):
        measure("hierpanel", kind, options.rows)
        if options.bambi_rows:
            one, theirs = (measure(peer, kind, options.bambi_rows) for peer in ("hierpanel", "bambi"))
            times, memory = theirs["summed_up"] / one["seconds"], theirs["megabytes"] / one["megabytes"]
            print(f"{kind:<9} Bambi takes {times:.1f} times the seconds, {memory:.0f} times the memory", flush=True)


def measure(peer: str, kind: str, count: int) -> dict[str, float]:
    """Run a peer in a process of its own, print and return what it measured."""
    command = [sys.executable, "-c", MEASURE, peer, kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    if done.returncode:
        raise SystemExit(f"{peer}, {kind}: {done.stderr or f'ended by signal {-done.returncode}'}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    more = f", {found['summed_up']:.1f} s summed up" if "summed_up" in found else ""
    what = f"{found['seconds']:6.1f} s{more}, {found['megabytes']:,.0f} MB, average {found['mean']:.4f}"
    print(f"{kind:<9} {peer:<10} {count:,} rows {what}", flush=True)
    return found


if __name__ == "__main__":
    main()
