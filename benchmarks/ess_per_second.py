"""Effective draws per second of NUTS on `wage_sim` with random slopes: ours against Bambi, same draws and chains.

The smallest bulk ESS over the coefficients, the group sds, sigma and the correlation (ours alone: Bambi's effects are
independent). Compilation is not counted on either side; each is run twice and the second run is timed.
"""

import logging
import time
import warnings

from common import smallest_ess, smallest_ess_of

import hierpanel as hp

DRAWS = {"draws": 1000, "tune": 1000, "chains": 4}


def ours(formula: str, df) -> tuple[float, float, int]:
    fit = hp.Model(formula, df).fit("nuts", **DRAWS, seed=1, progress=False)
    return smallest_ess_of(fit), fit.timing["sampling"], fit.diagnostics()["divergences"]


def bambi(formula: str, df) -> tuple[float, float, int]:
    import bambi as bmb

    model = bmb.Model(formula, df)
    model.build()
    start = time.perf_counter()
    idata = model.fit(draws=1000, tune=1000, chains=4, random_seed=1, progressbar=False)
    seconds = time.perf_counter() - start
    reported = idata["posterior"].attrs.get("sampling_time")
    posterior = idata["posterior"]
    groups = ("1|worker", "experience|worker", "1|worker_offset", "experience|worker_offset")
    names = [n for n in posterior.data_vars if n not in groups and posterior[n].ndim == 2]
    diverging = int(idata["sample_stats"]["diverging"].sum())
    return smallest_ess([posterior[n].values for n in names]), float(reported or seconds), diverging


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    df = hp.datasets.load("wage_sim")
    rows = {}
    for name, run, formula in (
        ("hierpanel, correlated", ours, "log_wage ~ experience + (1 + experience | worker)"),
        ("hierpanel, independent", ours, "log_wage ~ experience + (1 + experience || worker)"),
        ("Bambi, independent", bambi, "log_wage ~ experience + (1 + experience | worker)"),
    ):
        run(formula, df)  # compiles
        ess, seconds, divergences = run(formula, df)
        rows[name] = ess / seconds
        print(
            f"{name:<24} min ESS {ess:7.0f}  {seconds:6.2f} s  {ess / seconds:8.1f} ESS/s  {divergences} divergences",
            flush=True,
        )
    ratio = rows["hierpanel, correlated"] / rows["Bambi, independent"]
    print(f"hierpanel (correlated) / Bambi: {ratio:.1f} x")


if __name__ == "__main__":
    main()
