"""Lecture ratings with three crossed factors (lme4's InstEval, 73,421 rows): the marginal route, lmer and NUTS.

y ~ 1 + (1 | s) + (1 | d) + (1 | dept), or with --service y ~ 1 + service + …. Of the marginal route: milliseconds for
one evaluation of the density, one point at a time; seconds from data frame to fit, of 4 × 250 draws; the smallest bulk
ESS of coefficients, sds and sigma. Then lmer's seconds, and the non-centred PyMC graph under nutpie, 2 × 500 draws.
"""

import argparse
import statistics
import time

import numpy as np
from common import by_r, smallest_ess_of

import hierpanel as hp
from hierpanel.compiler.marginal import marginal
from hierpanel.data.moments import moments

POINTS = 15


def milliseconds(formula: str, df) -> float:
    model = hp.Model(formula, df)
    density = marginal(model.spec, moments(model.design))
    points = density.start + np.random.default_rng(1).normal(0, 0.2, (POINTS + 1, len(density.start)))
    seconds = []
    for psi in points:
        start = time.perf_counter()
        density.log_density(psi[None])
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--service", action="store_true", help="with the coefficient of service")
    parser.add_argument("--skip-lmer", action="store_true")
    parser.add_argument("--skip-nuts", action="store_true")
    options = parser.parse_args()
    df = hp.datasets.load("insteval")
    formula = f"y ~ 1 {'+ service ' if options.service else ''}+ (1 | s) + (1 | d) + (1 | dept)"
    print(f"{formula}, {len(df):,} rows")
    print(f"density     {milliseconds(formula, df):.0f} ms for one evaluation (median of {POINTS})", flush=True)

    start = time.perf_counter()
    fit = hp.fit(formula, df, draws=250, seed=1, progress=False)
    seconds = time.perf_counter() - start
    ess = smallest_ess_of(fit)
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in fit.timing.items())
    by = fit.idata["sample_stats"].attrs["sampled_by"]
    print(f"marginal    {seconds:.1f} s ({parts}), min ESS {ess:.0f}, {ess / seconds:.2f} ESS/s, by {by}", flush=True)

    if not options.skip_lmer and (r := by_r("lmer.R", df, formula)):
        print(f"lmer        {r['seconds'][0]:.1f} s; marginal / lmer {seconds / r['seconds'][0]:.2f} x", flush=True)

    if not options.skip_nuts:
        fit = hp.fit(formula, df, method="nuts", draws=500, chains=2, tune=500, seed=1, progress=False)
        theirs, sampling = smallest_ess_of(fit), fit.timing["sampling"]
        print(
            f"NUTS        {fit.timing['compiling']:.1f} s compiling, {sampling:.1f} s sampling, min ESS {theirs:.0f}, "
            f"{theirs / sampling:.2f} ESS/s of sampling\n"
            f"marginal / NUTS: {ess / seconds / (theirs / sampling):.1f} x the ESS/s of sampling alone, "
            f"{ess / seconds / (theirs / fit.seconds):.1f} x with compiling"
        )


if __name__ == "__main__":
    main()
