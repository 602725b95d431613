"""Seconds to compile the correlated wage model with empty and with filled caches, ours and pm.LKJCholeskyCov's.

Each measurement is a process of its own with its own PyTensor and Numba cache folders; imports are not counted.
"""

import os
import subprocess
import sys
import tempfile

PROLOGUE = """
import time
import nutpie, numpy as np, pymc as pm, pytensor
import hierpanel as hp
df = hp.datasets.load("wage_panel")
"""
OURS = """
from hierpanel.compiler.noncentered import to_pymc
model = hp.Model("log_wage ~ experience + (1 + experience | worker)", df)
start = time.perf_counter()
with pytensor.config.change_flags(numba__fastmath=False):
    graph = to_pymc(model.spec, model.design, location="levels")
    nutpie.compile_pymc_model(graph, var_names=[v.name for v in graph.free_RVs])
print(time.perf_counter() - start)
"""
PEER = """
codes = df["worker"].astype("category").cat.codes.to_numpy()
x = df["experience"].to_numpy(float)
start = time.perf_counter()
with pm.Model() as graph:
    beta = pm.Normal("beta", 0, 2.5, shape=2)
    chol, cor, sd = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(2), compute_corr=True)
    z = pm.Normal("z", 0, 1, shape=(codes.max() + 1, 2))
    b = pm.Deterministic("b", z @ chol.T)
    sigma = pm.HalfNormal("sigma", 1)
    pm.Normal("y", beta[0] + b[codes, 0] + (beta[1] + b[codes, 1]) * x, sigma, observed=df["log_wage"].to_numpy())
nutpie.compile_pymc_model(graph)
print(time.perf_counter() - start)
"""


def seconds(code: str, caches: str) -> float:
    environment = os.environ | {
        "PYTENSOR_FLAGS": f"base_compiledir={caches}/pytensor",
        "NUMBA_CACHE_DIR": f"{caches}/numba",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    for name, code in (("hierpanel", OURS), ("pm.LKJCholeskyCov", PEER)):
        with tempfile.TemporaryDirectory() as caches:
            cold, warm = seconds(code, caches), seconds(code, caches)
        print(f"{name:<18} cold {cold:6.1f} s   warm {warm:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
