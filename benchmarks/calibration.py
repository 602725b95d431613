"""Simulation-based calibration of the marginal route: do its posteriors hold the truth as often as they say?

For each structure, many times: draw parameters from their priors, a small panel given them, fit it, and take the rank
of each true value among 199 thinned draws. If the posterior is exact, ranks are uniform (Talts, Betancourt, Simpson,
Vehtari and Gelman, 2018). The log likelihood is ranked too, which depends on all parameters at once.

Uniformity is tested by chi-squared over 20 bins, and by whether the ranks' ECDF leaves simultaneous bands (Säilynoja,
Bürkner and Vehtari, 2022), both by Holm's method over all parameters. Panels and parameters are drawn by NumPy alone.
Writes calibration.csv and calibration.png beside this file, or where --out says.
"""

import argparse
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import hierpanel as hp

Array = np.ndarray

UNITS, CHAINS, DRAWS, THIN = 12, 4, 250, 5
VALUES = CHAINS * DRAWS // THIN  # a rank among 199 draws is one of 0 … 199
BINS, GRID, SIMULATIONS = 20, 100, 100_000
FIXED_SD = 2.0
KINDS = {"beta": "C0", "sd": "C1", "cor": "C2", "sigma": "C3", "b": "C4", "log likelihood": "black"}


@dataclass(frozen=True)
class Group:
    """A factor's effects: its columns, whether they are correlated (LKJ(2)), or not shrunk (sd `FIXED_SD`)."""

    factor: str
    columns: tuple[str, ...] = ("Intercept",)
    correlated: bool = False
    fixed: bool = False


@dataclass(frozen=True)
class Structure:
    """A model: its formula, the same in columns and groups, and options of `hp.fit`."""

    formula: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    center: bool = True
    weights: str | None = None


STRUCTURES = {
    "no groups": Structure("y ~ x + z", ("Intercept", "x", "z"), ()),
    "random intercept": Structure("y ~ x + (1 | g)", ("Intercept", "x"), (Group("g"),)),
    "correlated slopes in time": Structure(
        "y ~ t + (1 + t | g)", ("Intercept", "t"), (Group("g", ("Intercept", "t"), correlated=True),)
    ),
    "independent slopes": Structure(
        "y ~ x + (1 + x || g)", ("Intercept", "x"), (Group("g", ("Intercept", "x")),), center=False
    ),
    "three correlated columns": Structure(
        "y ~ x + z + (1 + x + z | g)",
        ("Intercept", "x", "z"),
        (Group("g", ("Intercept", "x", "z"), correlated=True),),
    ),
    "nested": Structure("y ~ x + (1 | a/b)", ("Intercept", "x"), (Group("a"), Group("a:b"))),
    "crossed": Structure("y ~ x + (1 | g) + (1 | h)", ("Intercept", "x"), (Group("g"), Group("h"))),
    "crossed, with slopes": Structure(
        "y ~ x + (1 + x | g) + (1 | h)",
        ("Intercept", "x"),
        (Group("g", ("Intercept", "x"), correlated=True), Group("h")),
    ),
    "fixed effects": Structure("y ~ x + fe(g)", ("Intercept", "x"), (Group("g", fixed=True),)),
    "weights, with slopes": Structure(
        "y ~ x + (1 + x | g)",
        ("Intercept", "x"),
        (Group("g", ("Intercept", "x"), correlated=True),),
        center=False,
        weights="w",
    ),
}


def priors(structure: Structure) -> dict[str, hp.Prior | float]:
    found: dict[str, hp.Prior | float] = {
        "beta": hp.Prior("Normal", mu=0.5, sigma=1),
        "sigma": hp.Prior("LogNormal", mu=-0.5, sigma=0.5),
    }
    for group in structure.groups:
        found[f"sd_{group.factor}"] = FIXED_SD if group.fixed else hp.Prior("HalfNormal", sigma=1)
        if group.correlated:
            found[f"cor_{group.factor}"] = hp.Prior("LKJ", eta=2)
    return found


def panel(rng: np.random.Generator) -> pd.DataFrame:
    """12 units g of 4 to 6 rows, two of them in each a; h is crossed with g; x has a mean of 1."""
    rows = rng.integers(4, 7, UNITS)
    g = np.repeat(np.arange(UNITS), rows)
    n = len(g)
    return pd.DataFrame(
        {
            "g": g,
            "a": g // 2,
            "b": g % 2,
            "a:b": [f"{unit // 2}:{unit % 2}" for unit in g],
            "h": rng.permutation(np.arange(n) % 8),
            "t": np.arange(n) - np.repeat(np.cumsum(rows) - rows, rows),
            "x": 1 + 0.5 * rng.normal(size=UNITS)[g] + rng.normal(size=n),
            "z": rng.normal(size=n),
            "w": rng.uniform(0.3, 3, n),
        }
    )


def matrix(table: pd.DataFrame, columns: tuple[str, ...]) -> Array:
    return np.column_stack([np.ones(len(table)) if c == "Intercept" else table[c].to_numpy(float) for c in columns])


def means(columns: Array, wanted: bool) -> Array:
    """Means that priors refer to, of all columns but the intercept."""
    return np.append(0.0, columns[:, 1:].mean(axis=0)) if wanted else np.zeros(columns.shape[1])


def lkj(q: int, rng: np.random.Generator) -> Array:
    """A correlation matrix with density proportional to its determinant, by rejection."""
    while True:
        R = np.eye(q)
        R[np.tril_indices(q, -1)] = rng.uniform(-1, 1, q * (q - 1) // 2)
        R = np.tril(R) + np.tril(R, -1).T
        if np.linalg.eigvalsh(R)[0] > 0 and rng.random() < np.linalg.det(R):
            return R


def simulate(structure: Structure, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, Array]]:
    """Draw a panel and its parameters; they come back as reported: on the original scale, each as one draw (1, …)."""
    table = panel(rng)
    X = matrix(table, structure.columns)
    center = means(X, structure.center)
    beta, sigma = rng.normal(0.5, 1, X.shape[1]), rng.lognormal(-0.5, 0.5)
    mu = (X - center) @ beta
    beta[0] -= center @ beta
    truth: dict[str, Array] = {"beta": beta, "sigma": np.array(sigma)}
    for group in structure.groups:
        Z, q = matrix(table, group.columns), len(group.columns)
        center = means(Z, structure.center and group.correlated)
        labels, codes = np.unique(table[group.factor], return_inverse=True)
        sd = np.full(q, FIXED_SD) if group.fixed else np.abs(rng.normal(size=q))
        covariance = (lkj(q, rng) if group.correlated else np.eye(q)) * np.outer(sd, sd)
        b = rng.normal(size=(len(labels), q)) @ np.linalg.cholesky(covariance).T
        mu += ((Z - center) * b[codes]).sum(axis=1)
        A = np.eye(q)
        A[0] -= center
        b, covariance = b @ A.T, A @ covariance @ A.T
        if group.fixed:  # the intercept is the mean of unit effects
            mean = b[codes].mean(axis=0)
            b = b - mean
            beta[:1] += mean
        sd = np.sqrt(covariance.diagonal())
        truth |= {f"sd_{group.factor}": sd, f"cor_{group.factor}": covariance / np.outer(sd, sd)}
        truth[f"b_{group.factor}"] = b
    w = table[structure.weights] if structure.weights else 1.0
    table["y"] = mu + rng.normal(size=len(table)) * sigma / np.sqrt(w)
    return table, {name: np.asarray(value)[None] for name, value in truth.items()}


def log_likelihood(structure: Structure, table: pd.DataFrame, values: Mapping[str, Array]) -> Array:
    """Log density of y at each draw (S,)."""
    mu = values["beta"] @ matrix(table, structure.columns).T
    for group in structure.groups:
        codes = np.unique(table[group.factor], return_inverse=True)[1]
        mu = mu + (values[f"b_{group.factor}"][:, codes] * matrix(table, group.columns)).sum(axis=2)
    sd = values["sigma"][:, None] / np.sqrt(table[structure.weights].to_numpy() if structure.weights else 1.0)
    y = table["y"].to_numpy()
    return np.asarray((-0.5 * ((y - mu) / sd) ** 2 - np.log(sd) * np.ones_like(y)).sum(axis=1))


def posterior(structure: Structure, table: pd.DataFrame, fit: hp.Fit) -> dict[str, Array]:
    """Thinned draws (S, …) by name, effects in the order of `np.unique`."""
    found = {}
    for name, variable in fit.idata["posterior"].data_vars.items():
        draws = variable.values[:, THIN - 1 :: THIN]
        found[str(name)] = draws.reshape(-1, *draws.shape[2:])[: VALUES - 1]
    for group in structure.groups:
        levels = pd.Index(fit.idata["posterior"].coords[group.factor].values)
        order = levels.get_indexer(np.unique(table[group.factor]))
        found[f"b_{group.factor}"] = found[f"b_{group.factor}"][:, order]
    return found


def scalars(structure: Structure, table: pd.DataFrame, values: Mapping[str, Array]) -> dict[str, Array]:
    """What is ranked, by name: coefficients, sds, correlations, sigma, effects of two units and the log likelihood."""
    found = {f"beta[{c}]": values["beta"][:, k] for k, c in enumerate(structure.columns)}
    for group in structure.groups:
        g = group.factor
        for k, c in enumerate(group.columns):
            if not group.fixed:
                found[f"sd_{g}[{c}]"] = values[f"sd_{g}"][:, k]
            if group.correlated:
                found |= {f"cor_{g}[{c}, {group.columns[j]}]": values[f"cor_{g}"][:, k, j] for j in range(k)}
    found["sigma"] = values["sigma"]
    for group in structure.groups:
        for k, c in enumerate(group.columns):
            found |= {f"b_{group.factor}[{name}, {c}]": values[f"b_{group.factor}"][:, place, k]
                      for name, place in (("first", 0), ("last", -1))}  # fmt: skip
    return found | {"log likelihood": log_likelihood(structure, table, values)}


def replicate(task: tuple[int, str, int]) -> tuple[str, str, dict[str, int]]:
    """Simulate and fit once: the structure, which sampler it was, and each parameter's rank."""
    seed, name, number = task
    structure = STRUCTURES[name]
    rng = np.random.default_rng([seed, list(STRUCTURES).index(name), number])
    table, truth = simulate(structure, rng)
    fit = hp.fit(
        structure.formula,
        table.drop(columns="a:b"),
        priors=priors(structure),
        center=structure.center,
        weights=structure.weights,
        draws=DRAWS,
        chains=CHAINS,
        tune=300,  # of NUTS, where proposals are poor
        seed=int(rng.integers(2**32)),
        progress=False,
    )
    draws = scalars(structure, table, posterior(structure, table, fit))
    true = scalars(structure, table, truth)
    by = fit.idata["sample_stats"].attrs["sampled_by"] if fit.method == "marginal" else "nuts, not marginal"
    return name, by, {key: int((draws[key] < true[key]).sum()) for key in true}


class Bands:
    """Simultaneous bands of the ECDF of `size` uniform ranks at 0.01, 0.02, …, 0.99, and p-values from them."""

    def __init__(self, size: int):
        from scipy import stats

        self.size, self.z = size, np.arange(1, GRID) / GRID
        count = np.arange(size + 1)
        below, above = stats.binom.cdf(count, size, self.z[:, None]), stats.binom.sf(count - 1, size, self.z[:, None])
        self.tail = 2 * np.minimum(below, above)  # (point, count)
        made = np.random.default_rng(1).multinomial(size, np.full(GRID, 1 / GRID), SIMULATIONS).cumsum(axis=1)[:, :-1]
        self.simulated = np.sort(self._gamma(made))

    def counts(self, ranks: Array) -> Array:
        return np.searchsorted(np.sort(ranks), self.z * VALUES)

    def p_value(self, ranks: Array) -> float:
        gamma = self._gamma(self.counts(ranks)[None])[0]
        return float((1 + np.searchsorted(self.simulated, gamma * (1 + 1e-9))) / (1 + SIMULATIONS))

    def limits(self, alpha: float) -> tuple[Array, Array]:
        """Lower and upper difference from uniform that the ECDF stays between with probability 1 - alpha."""
        from scipy import stats

        gamma = np.quantile(self.simulated, alpha)
        return tuple(stats.binom.ppf(q, self.size, self.z) / self.size - self.z for q in (gamma / 2, 1 - gamma / 2))

    def _gamma(self, counts: Array) -> Array:
        return self.tail[np.arange(len(self.z)), counts].min(axis=1)


def holm(p: Array) -> Array:
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted


def tested(ranks: Mapping[tuple[str, str], Array], bands: Bands) -> pd.DataFrame:
    """A row for each structure and parameter."""
    from scipy import stats

    rows = []
    for (structure, parameter), found in ranks.items():
        rows.append(
            {
                "structure": structure,
                "parameter": parameter,
                "replicates": len(found),
                "p_chi2": stats.chisquare(np.bincount(found * BINS // VALUES, minlength=BINS)).pvalue,
                "p_ecdf": bands.p_value(found),
                "largest_ecdf_difference": np.abs(bands.counts(found) / bands.size - bands.z).max(),
                "mean_rank": found.mean() / (VALUES - 1),  # of 0 … 1
            }
        )
    table = pd.DataFrame(rows)
    for test in ("chi2", "ecdf"):
        table.insert(table.columns.get_loc(f"p_{test}") + 1, f"p_{test}_holm", holm(table[f"p_{test}"].to_numpy()))
    return table


def draw(ranks: Mapping[tuple[str, str], Array], bands: Bands, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(structure for structure, _ in ranks))
    across = min(5, len(names))
    down = -(-len(names) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(2.7 * across, 2.4 * down + 0.8), sharex=True, sharey=True, squeeze=False
    )
    for place, name in enumerate(names):
        axis = axes.flat[place]
        for alpha, colour in ((0.05 / len(ranks), "0.94"), (0.05, "0.84")):
            axis.fill_between(bands.z, *bands.limits(alpha), color=colour, linewidth=0, zorder=0)
        for (structure, parameter), found in ranks.items():
            if structure == name:
                kind = parameter.split("[")[0].split("_")[0]
                axis.plot(bands.z, bands.counts(found) / bands.size - bands.z, color=KINDS[kind], lw=0.9, alpha=0.85)
        axis.set_title(name, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    handles = [plt.Line2D([], [], color=colour, label=kind) for kind, colour in KINDS.items()]
    handles += [plt.Rectangle((0, 0), 1, 1, color="0.84", label="95 % band"),
                plt.Rectangle((0, 0), 1, 1, color="0.94", label="95 % band of all lines together")]  # fmt: skip
    figure.supxlabel("rank of the true value, as a share", fontsize=10, y=0.5 / figure.get_figheight())
    figure.supylabel("ECDF less uniform", fontsize=10)
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.55 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=300, help="of each structure")
    parser.add_argument("--structure", action="append", choices=STRUCTURES, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the processes to come
    ranks: dict[tuple[str, str], list[int]] = {}
    begun = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for name in options.structure or STRUCTURES:
            start, samplers = time.perf_counter(), Counter[str]()
            tasks = [(options.seed, name, number) for number in range(options.replicates)]
            for _, by, found in pool.imap(replicate, tasks, chunksize=5):
                samplers[by] += 1
                for parameter, rank in found.items():
                    ranks.setdefault((name, parameter), []).append(rank)
            sampled = ", ".join(f"{count} by {by}" for by, count in samplers.items())
            print(f"{name:<26} {time.perf_counter() - start:6.1f} s   {sampled}", flush=True)
    arrays = {key: np.array(found) for key, found in ranks.items()}
    bands = Bands(options.replicates)
    table = tested(arrays, bands)
    table.to_csv(options.out / "calibration.csv", index=False, float_format="%.4g")
    draw(arrays, bands, options.out / "calibration.png")
    print(table.drop(columns="replicates").to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    worst = {test: table[f"p_{test}_holm"].min() for test in ("chi2", "ecdf")}
    print(
        f"{len(table)} parameters, {options.replicates} replicates, {time.perf_counter() - begun:.0f} s; smallest "
        f"p-value after Holm: chi-squared {worst['chi2']:.3f}, ECDF {worst['ecdf']:.3f}"
    )


if __name__ == "__main__":
    main()
