"""Spec and design of 100,000 rows × 5,000 workers: seconds and peak memory, ours and formulae's (Bambi's formula step).

Each is a process of its own; memory is the growth of the peak resident size beyond the imports and the data.
"""

import subprocess
import sys

PROLOGUE = """
import resource, time
import numpy as np, pandas as pd
import hierpanel as hp, formulae, scipy.sparse
rng = np.random.default_rng(1)
n, workers = 100_000, 5_000
df = pd.DataFrame({"worker": rng.integers(0, workers, n), "x": rng.normal(size=n), "y": rng.normal(size=n)})
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
hp.Model("y ~ x + (1 + x | worker)", df.head(200)); formulae.design_matrices("y ~ x + (1 + x | worker)", df.head(200))
before, start = peak(), time.perf_counter()
"""
EPILOGUE = """
print(f"{time.perf_counter() - start:.2f} s, {peak() - before:.0f} MB")
"""
CASES = {
    "hierpanel.Model": 'hp.Model("y ~ x + (1 + x | worker)", df)',
    "formulae (Bambi)": 'formulae.design_matrices("y ~ x + (1 + x | worker)", df)',
}


def main() -> None:
    for name, code in CASES.items():
        done = subprocess.run(
            [sys.executable, "-c", PROLOGUE + code + EPILOGUE], check=True, capture_output=True, text=True
        )
        print(f"{name:<18} {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
