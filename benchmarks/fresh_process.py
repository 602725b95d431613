"""Wall time of a script that imports, fits and prints a summary, against `import pandas`: whole processes in turn.

Medians; then where the script's time goes: what each import adds to those before it, the fit, and the summary.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 9
SCRIPT = """
import hierpanel as hp

df = hp.datasets.load("wage_sim")
fit = hp.fit("log_wage ~ experience + (1 + experience | worker)", df, seed=1)
print(fit.summary())
"""
STEPS = {
    "Python itself": "",
    "import numpy": "import numpy",
    "import pandas": "import pandas",
    "import hierpanel": "import hierpanel as hp; df = hp.datasets.load('wage_sim')",
    "import formulae": "import formulae",
    "import xarray": "import xarray",
    "import scipy.special": "import scipy.special",
    "fit": "fit = hp.fit('log_wage ~ experience + (1 + experience | worker)', df, seed=1)",
    "summary": "str(fit.summary())",
}


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def breakdown() -> dict[str, float]:
    """Seconds of each step in one fresh process; the first is what the others leave of its wall time."""
    steps = list(STEPS.values())[1:]
    code = (
        "import json, time\nclock, taken = time.perf_counter, []\n"
        + "".join(f"start = clock()\n{step}\ntaken.append(clock() - start)\n" for step in steps)
        + "print(json.dumps(taken))"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    whole = time.perf_counter() - start
    taken = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(STEPS, [whole - sum(taken), *taken], strict=True))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(SCRIPT)
        seconds(str(script))  # fills the bytecode cache
        pandas, ours, parts = [], [], []
        for _ in range(RUNS):
            pandas.append(seconds("-c", "import pandas"))
            ours.append(seconds(str(script)))
            parts.append(breakdown())
    ratio = statistics.median(ours) / statistics.median(pandas)
    print(f"import pandas                  {statistics.median(pandas):6.3f} s (median of {RUNS})")
    print(f"import, fit, print the summary {statistics.median(ours):6.3f} s, {ratio:.2f} x")
    print("of which, each after those above it:")
    for name in STEPS:
        print(f"  {name:<22} {1000 * statistics.median(part[name] for part in parts):6.0f} ms")


if __name__ == "__main__":
    main()
