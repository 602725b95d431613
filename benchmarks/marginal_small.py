"""The marginal route on `wage_sim`, 4 × 1000 draws, against Bambi and rstanarm::stan_lmer: seconds and ESS per second.

Ours is seconds from data frame to fit in a warm process, the median of 20. Bambi's are of the second run, from data
frame to draws: it builds and compiles anew each time, as it does for its users; beside it, sampling alone. stan_lmer's
are the second run's too: warm-up and the start of two R workers count, and nothing is compiled. ESS is the smallest
bulk ESS of coefficients, sds, correlations and sigma; Bambi's effects have no correlation.
"""

import argparse
import logging
import statistics
import time
import warnings

import pandas as pd
from common import by_r, smallest_ess, smallest_ess_of

import hierpanel as hp

RUNS = 20
CASES = {
    "random intercept": "log_wage ~ experience + (1 | worker)",
    "random slopes": "log_wage ~ experience + (1 + experience | worker)",
}


def ours(formula: str, df: pd.DataFrame) -> tuple[float, float]:
    hp.fit(formula, df, seed=0, progress=False)  # imports
    seconds, ess = [], []
    for seed in range(RUNS):
        start = time.perf_counter()
        fit = hp.fit(formula, df, seed=seed, progress=False)
        seconds.append(time.perf_counter() - start)
        ess.append(smallest_ess_of(fit))
    return statistics.median(ess), statistics.median(seconds)


def bambi(formula: str, df: pd.DataFrame) -> tuple[float, float, float, int]:
    import bambi as bmb

    for _ in range(2):
        start = time.perf_counter()
        idata = bmb.Model(formula, df).fit(draws=1000, tune=1000, chains=4, random_seed=1, progressbar=False)
        seconds = time.perf_counter() - start
    posterior = idata["posterior"]
    parameters = [posterior[name].values for name in posterior.data_vars if posterior[name].ndim == 2]
    sampling = float(posterior.attrs.get("sampling_time", float("nan")))
    return smallest_ess(parameters), seconds, sampling, int(idata["sample_stats"]["diverging"].sum())


def show(name: str, ess: float, seconds: float, beside: str = "") -> float:
    print(f"  {name:<20} min ESS {ess:7.0f}  {seconds:8.3f} s  {ess / seconds:10.1f} ESS/s  {beside}", flush=True)
    return ess / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip-bambi", action="store_true")
    parser.add_argument("--skip-rstanarm", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # divergences are counted below
    df = hp.datasets.load("wage_sim")
    for case, formula in CASES.items():
        print(f"{case}: {formula}", flush=True)
        ess, seconds = ours(formula, df)
        rate = show("hierpanel", ess, seconds)
        peers = []
        if not options.skip_bambi:
            found, took, sampling, divergences = bambi(formula, df)
            beside = f"sampling alone {sampling:.3f} s, {found / sampling:.1f} ESS/s; {divergences} divergences"
            peers.append(("Bambi", took, show("Bambi", found, took, beside)))
            peers.append(("Bambi's sampling", sampling, found / sampling))
        if not options.skip_rstanarm and (r := by_r("stan_lmer.R", df, formula, 2)):
            found, took = r["smallest_n_eff_without_effects"], r["seconds"][-1]
            beside = f"{r['divergences']} divergences"
            peers.append(("rstanarm", took, show("rstanarm::stan_lmer", found, took, beside)))
        for peer, took, theirs in peers:
            print(f"  hierpanel / {peer}: {rate / theirs:.1f} x the ESS/s, {took / seconds:.1f} x sooner", flush=True)


if __name__ == "__main__":
    main()
