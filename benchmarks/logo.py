"""Leave-one-worker-out on the wage panel, 545 workers: seconds of `fit.logo`, beside refits without a worker.

A refit leaves out a worker's rows and scores them with the worker's effects integrated out, at each draw. A few workers
are refitted; all of them would take 545 times as long as one. The scores of the two are compared for these workers.
"""

import argparse
import time

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import hierpanel as hp

FORMULA = "log_wage ~ experience + (1 + experience | worker)"


def refitted(df: pd.DataFrame, worker: object, priors: dict[str, hp.Prior]) -> float:
    """Return log p(rows of a worker | all other rows) from a fit without them."""
    mine = df["worker"] == worker
    fit = hp.fit(FORMULA, df[~mine], priors=priors, center=False, seed=1, progress=False)
    y, Z = df.loc[mine, "log_wage"].to_numpy(), np.stack([np.ones(mine.sum()), df.loc[mine, "experience"]], axis=1)
    beta, sd, sigma = (fit.draws(name).reshape(4000, -1) for name in ("beta", "sd_worker", "sigma"))
    covariance = fit.draws("cor_worker").reshape(4000, 2, 2) * sd[:, :, None] * sd[:, None, :]
    logs = [
        multivariate_normal.logpdf(y, Z @ beta[s], Z @ covariance[s] @ Z.T + sigma[s] ** 2 * np.eye(len(y)))
        for s in range(4000)
    ]
    return float(logsumexp(logs) - np.log(len(logs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refits", type=int, default=5)
    options = parser.parse_args()
    df = hp.datasets.load("wage_panel")
    normal, half = hp.Prior("Normal", mu=0, sigma=2), hp.Prior("HalfNormal", sigma=1)
    priors = {"beta": normal, "sd_worker": half, "sigma": half}  # stated, so that refits have the same ones
    fit = hp.fit(FORMULA, df, priors=priors, center=False, seed=1, progress=False)
    start = time.perf_counter()
    elpd = fit.logo("worker")
    seconds = time.perf_counter() - start
    print(f"logo: {seconds:.2f} s, elpd {elpd.elpd:.1f}, largest Pareto k {float(elpd.pareto_k.max()):.2f}", flush=True)
    scores = pd.Series(np.asarray(elpd.elpd_i), index=fit.design.group("worker").levels)
    workers = np.random.default_rng(1).choice(df["worker"].unique(), size=options.refits, replace=False)
    start = time.perf_counter()
    again = np.array([refitted(df, worker, priors) for worker in workers])
    each = (time.perf_counter() - start) / options.refits
    apart = np.abs(again - scores[workers].to_numpy()).max()
    print(f"a refit: {each:.2f} s; 545 of them would take {545 * each / seconds:.0f} times as long as logo")
    print(f"the scores of {options.refits} workers differ by {apart:.4f} at most")


if __name__ == "__main__":
    main()
