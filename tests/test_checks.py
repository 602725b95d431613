"""What a model expects to see, before and after: responses drawn from the priors, against closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

import hierpanel as hp
from hierpanel.results import checks
from hierpanel.results.fit import Fit

Made = Callable[..., Fit]
DRAWS = 20_000


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    n = 6
    return pd.DataFrame(
        {
            "x": np.linspace(-1, 1, n),
            "y": rng.normal(size=n),
            "count": rng.poisson(2, n),
            "hit": [0, 1, 0, 1, 1, 0],
            "size": [1, 2, 3, 5, 8, 13],
            "w": [0.25, 0.5, 1, 2, 4, 8],
            "g": list("aabbcc"),
        }
    )


def stated(slope: float, **others: float) -> dict[str, hp.Prior]:
    """Priors that put the intercept at 0.5 and the slope at `slope`, to nine digits, and other parameters too."""
    beta = {"Intercept": 0.5, "x": slope}
    priors = {f"beta[{coef}]": hp.Prior("Normal", mu=mu, sigma=1e-9) for coef, mu in beta.items()}
    return priors | {name: hp.Prior("Gamma", alpha=1e12, beta=1e12 / value) for name, value in others.items()}


CASES: dict[str, tuple[str, dict[str, float], Any, Any]] = {
    # the response, other parameters, and its mean and variance given η and the table
    "gaussian": ("y", {"sigma": 2.0}, lambda e, t: e, lambda e, t: 4 / t["w"]),
    "student_t": ("y", {"sigma": 2.0, "nu": 12.0}, lambda e, t: e, lambda e, t: 1.2 * 4 / t["w"]),
    "bernoulli": ("hit", {}, lambda e, t: special.expit(e), lambda e, t: special.expit(e) * special.expit(-e)),
    "binomial": (
        "prop(hit, size)",
        {},
        lambda e, t: t["size"] * special.expit(e),
        lambda e, t: t["size"] * special.expit(e) * special.expit(-e),
    ),
    "poisson": ("count", {}, lambda e, t: np.exp(e), lambda e, t: np.exp(e)),
    "negative_binomial": (
        "count",
        {"alpha": 3.0},
        lambda e, t: np.exp(e),
        lambda e, t: np.exp(e) + np.exp(2 * e) / 3,
    ),
}


@pytest.mark.parametrize("rows_at_a_time", [1, 4, 6])
@pytest.mark.parametrize("family", CASES)
def test_responses_have_the_family_s_mean_and_variance(
    family: str, rows_at_a_time: int, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    response, others, mean, variance = CASES[family]
    weights = "w" if family in ("gaussian", "student_t") else None
    model = hp.Model(f"{response} ~ x", table, family=family, weights=weights, priors=stated(0.4, **others), env={})
    monkeypatch.setattr(checks, "CHUNK", rows_at_a_time * DRAWS)
    y = model.prior_predictive(draws=DRAWS, seed=3)[0].to_numpy()
    eta = 0.5 + 0.4 * table["x"].to_numpy()  # x has mean 0, so that priors on centred columns say the same
    m, v = np.asarray(mean(eta, table)), np.asarray(variance(eta, table))
    assert (np.abs(y.mean(axis=0) - m) < 5 * np.sqrt(v / DRAWS)).all()
    np.testing.assert_allclose(y.var(axis=0), v, rtol=0.15)
    together = np.corrcoef(y.T)[np.triu_indices(6, 1)]
    assert (np.abs(together) < 5 / np.sqrt(DRAWS)).all()


def test_rows_of_a_unit_share_its_effects(table: pd.DataFrame) -> None:
    one = hp.Prior("Gamma", alpha=1e12, beta=1e12)
    priors = {"beta[Intercept]": hp.Prior("Normal", mu=0.0, sigma=1e-9), "sd_g": one, "sigma": one}
    y = hp.Model("y ~ 1 + (1 | g)", table, priors=priors, env={}).prior_predictive(draws=DRAWS, seed=3)
    assert (y.dims, y.shape, y.name) == (("chain", "draw", "row"), (1, DRAWS, 6), "y")
    expected = np.eye(6) + np.kron(np.eye(3), np.ones((2, 2)))
    np.testing.assert_allclose(np.cov(y[0].to_numpy().T), expected, atol=0.1)


def test_sensitivity_is_of_each_parameter_whatever_the_factor_is_called(made: Made, table: pd.DataFrame) -> None:
    df = pd.concat([table] * 4, ignore_index=True).rename(columns={"g": "county"})
    found = made("y ~ x + (x | county)", df, draws=100).sensitivity()
    sds = ["sd_county[Intercept]", "sd_county[x]"]
    assert list(found.index) == ["beta[Intercept]", "beta[x]", *sds, "cor_county[Intercept, x]", "sigma"]
    assert list(found.columns) == ["prior", "likelihood", "diagnosis"]


def test_where_all_is_fixed_there_is_no_sensitivity(made: Made, table: pd.DataFrame) -> None:
    with pytest.raises(hp.FitError, match="every parameter is fixed"):
        made("count ~ 0 + fe(g)", table, family="poisson", draws=50).sensitivity()
