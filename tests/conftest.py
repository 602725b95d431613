"""What tests share: a table, fits that are sampled once, and `made`, which dresses invented draws as a `Fit`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hierpanel as hp
from hierpanel.compiler import noncentered, scales
from hierpanel.inference.posterior import to_datatree
from hierpanel.results.fit import Fit

mpl.use("Agg")


@pytest.fixture(scope="session")
def made() -> Callable[..., Fit]:
    """A function (formula, data, **options) → Fit whose draws are invented: right names, dims and relations."""
    return _made


@pytest.fixture(scope="module")
def readable(made: Callable[..., Fit]) -> Callable[..., Fit]:
    """As `made`, but with the table that it was read from, so that other rows can be coded."""

    known: dict[Any, tuple[Any, Fit]] = {}

    def readable(formula: str, data: Any, **options: Any) -> Fit:
        key = formula, id(data), repr(options)  # the table is kept beside the fit, so that no other has its id
        if key not in known:
            of_model = {name: value for name, value in options.items() if name not in ("seed", "chains", "draws")}
            model = hp.Model(formula, data, **{"env": {}, **of_model})
            fit = made(formula, data, **options)
            known[key] = data, replace(fit, source=model.source, coder=model.coder)
        return known[key][1]

    return readable


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Sixty rows of six units g, crossed with five of h: x, z and weights w, and outcomes y, hit and count."""
    rng = np.random.default_rng(2)
    n = 60
    df = pd.DataFrame({"x": rng.normal(3, 1, n), "z": rng.normal(size=n), "g": np.repeat(list("abcdef"), 10)})
    df["h"] = np.tile(np.arange(5), 12)
    df["y"] = 1 + df["x"] + rng.normal(size=n)
    df["hit"] = rng.integers(0, 2, n)
    df["count"] = rng.poisson(3, n)
    df["w"] = rng.uniform(0.5, 2, n)
    return df


@pytest.fixture
def closed() -> Iterator[None]:
    """Close the figures that a test leaves open."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="session")
def slopes() -> Fit:
    """Reaction times with correlated intercepts and slopes, sampled by NUTS."""
    formula = "reaction ~ days + (days | subject)"
    return hp.fit(formula, hp.datasets.load("sleepstudy"), method="nuts", draws=500, tune=500, seed=1, progress=False)


@pytest.fixture(scope="session")
def herds() -> Fit:
    """A binomial response with an intercept for each herd, sampled."""
    formula, df = "prop(incidence, size) ~ C(period) + (1 | herd)", hp.datasets.load("cbpp")
    return hp.fit(formula, df, family="binomial", draws=500, tune=500, seed=1, progress=False)


@pytest.fixture(scope="session")
def workers() -> Fit:
    """The simulated wage panel with an intercept for each worker, sampled."""
    df = hp.datasets.load("wage_sim")
    return hp.fit("log_wage ~ experience + (1 | worker)", df, draws=500, tune=500, seed=1, progress=False)


@pytest.fixture(scope="session")
def pooled() -> Fit:
    """The same rows as `workers` without groups, sampled."""
    df = hp.datasets.load("wage_sim")
    return hp.fit("log_wage ~ experience", df, draws=500, tune=500, seed=1, progress=False)


def _made(
    formula: str,
    data: Any,
    *,
    seed: int = 1,
    chains: int = 4,
    draws: int = 250,
    diverging: int = 0,
    **options: Any,
) -> Fit:
    model = hp.Model(formula, data, **{"env": {}, **options})
    spec, rng, lead = model.spec, np.random.default_rng(seed), (chains, draws)
    found: dict[str, np.ndarray] = {}

    def positive(prior: Any) -> np.ndarray:
        size = getattr(prior, "values", {}).get("sigma", 2.0)
        return np.full(lead, prior) if isinstance(prior, float) else size * np.exp(0.1 * rng.normal(size=lead))

    if spec.coefs:
        mu = np.array([prior.values.get("mu", 0.0) for prior in spec.beta])
        sd = np.array([prior.values.get("sigma", 1.0) for prior in spec.beta])
        beta_c = mu + 0.05 * sd * rng.normal(size=(*lead, len(mu)))
        beta = beta_c.copy()
        beta[..., 0] -= beta_c @ spec.center
        found |= {scales.prior_name("beta", spec): beta_c, "beta": beta}
    for group in spec.groups:
        q = len(group.coefs)
        sd_c = 0.5 * np.stack([positive(prior) for prior in group.sd], axis=-1)
        for k, prior in enumerate(group.sd):
            sd_c[..., k] = prior if isinstance(prior, float) else sd_c[..., k]
        cor_c = np.broadcast_to(np.eye(q), (*lead, q, q)).copy()
        A = np.eye(q)
        for block in group.blocks:
            at = np.arange(block.columns.start, block.columns.stop)
            A[at[0], at] -= group.center[at]
            if block.correlated:
                T = np.linalg.qr(rng.normal(size=(*lead, len(at), len(at))) + 3 * np.eye(len(at)))[1]
                S = T @ T.swapaxes(-1, -2)
                size = np.sqrt(np.diagonal(S, axis1=-2, axis2=-1))
                cor_c[..., at[:, None], at] = S / size[..., :, None] / size[..., None, :]
        Sigma = A @ (sd_c[..., :, None] * cor_c * sd_c[..., None, :]) @ A.T
        sd = np.sqrt(np.diagonal(Sigma, axis1=-2, axis2=-1))
        u = rng.normal(size=(group.levels, q)) + 0.3 * rng.normal(size=(*lead, group.levels, q))
        found |= {
            scales.prior_name("sd", group): sd_c,
            f"sd_{group.name}": sd,
            f"b_{group.name}": 0.3 * sd[..., None, :] * u,
        }
        if group.is_correlated:
            found |= {
                scales.prior_name("cor", group): cor_c,
                f"cor_{group.name}": Sigma / sd[..., :, None] / sd[..., None, :],
            }
    found |= {name: positive(prior) for name, prior in spec.parameters.items()}
    dims = scales.dims_of(spec)
    flags = np.arange(chains * draws).reshape(lead) < diverging
    stats = xr.Dataset({"diverging": (("chain", "draw"), flags)}, {}, {"chain": range(chains), "draw": range(draws)})
    posterior = {name: found[name] for name in dims}
    idata = to_datatree(posterior, dims, noncentered.coords_of(spec, model.design), stats, model.design)
    return Fit(spec, model.design, idata, "nuts", {"compiling": 1.0, "sampling": 2.0})
