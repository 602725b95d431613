"""Wall time of `import hierpanel` against `import pandas`: whole processes in turn, medians, and what is imported."""

import statistics
import subprocess
import sys
import time

RUNS = 5
HEAVY = ("pymc", "pytensor", "arviz", "arviz_stats", "bambi", "numba", "matplotlib", "formulae", "xarray", "nutpie")


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    pandas, ours = [], []
    seconds("import hierpanel")  # fills the bytecode cache
    for _ in range(RUNS):
        pandas.append(seconds("import pandas"))
        ours.append(seconds("import hierpanel"))
    ratio = statistics.median(ours) / statistics.median(pandas)
    print(f"import pandas     {statistics.median(pandas):.3f} s (median of {RUNS})")
    print(f"import hierpanel  {statistics.median(ours):.3f} s, {ratio:.2f} x")
    code = f"import hierpanel, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    print(
        "heavy modules that it imports:",
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip(),
    )


if __name__ == "__main__":
    main()
