"""What several benchmarks share: the smallest effective sample size, and R's scripts on a table."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from hierpanel.inference.diagnostics import diagnose
from hierpanel.results.fit import Fit


def smallest_ess(arrays: list[np.ndarray]) -> float:
    """The smallest bulk ESS of draws (chain, draw, …); what does not vary does not count."""
    draws = np.concatenate([a.reshape(*a.shape[:2], -1) for a in arrays], axis=2)
    return float(np.nanmin(diagnose(draws)[0]))


def smallest_ess_of(fit: Fit) -> float:
    """The same of coefficients, sds, correlations and sigma."""
    return smallest_ess([fit.draws(n) for n in fit.idata["posterior"].data_vars if not n.startswith("b_")])


def by_r(script: str, df: pd.DataFrame, formula: str, repeats: int = 1) -> dict | None:
    """Run one of the R scripts here on a table and return what it prints; None, and why, where R cannot run it."""
    if shutil.which("Rscript") is None:
        print(f"{script}: there is no Rscript", flush=True)
        return None
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        df.to_csv(table, index=False)
        command = ["Rscript", str(Path(__file__).parent / script), str(table), formula, str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{script}: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])
