"""R̂ and effective sample sizes of many quantities at once equal ArviZ's, one by one."""

import warnings

import numpy as np
import pytest
from arviz_stats.base import array_stats

from hierpanel.inference.diagnostics import diagnose


def autoregressive(rho: float, chains: int, draws: int, seed: int) -> np.ndarray:
    """Three quantities with autocorrelation rho, (chain, draw, 3)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(chains, draws, 3))
    for t in range(1, draws):
        x[:, t] += rho * x[:, t - 1]
    return x


def arviz(x: np.ndarray) -> np.ndarray:
    """(bulk ESS, tail ESS, R̂) × quantities, by ArviZ."""
    axes = {"chain_axis": 0, "draw_axis": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it divides by the variance of chains that do not move
        return np.array(
            [
                [
                    array_stats.ess(x[..., k], method="bulk", **axes),
                    array_stats.ess(x[..., k], method="tail", prob=(0.05, 0.95), **axes),
                    array_stats.rhat(x[..., k], **axes),
                ]
                for k in range(x.shape[2])
            ],
            dtype=float,
        ).T


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.5, 0.95])
@pytest.mark.parametrize(("chains", "draws"), [(1, 100), (2, 5), (3, 38), (4, 99), (4, 500), (5, 19), (7, 4)])
def test_equals_arviz_for_autoregressions_of_any_length(rho: float, chains: int, draws: int) -> None:
    x = autoregressive(rho, chains, draws, seed=draws)
    np.testing.assert_allclose(diagnose(x), arviz(x), rtol=1e-9)


SHAPES = {
    "chains that disagree": lambda x: x + np.arange(4)[:, None, None],
    "one chain that is stuck": lambda x: np.where(np.arange(4)[:, None, None] == 2, 1.5, x),
    "every chain stuck at a value of its own": lambda x: 0 * x + np.arange(4)[:, None, None],
    "ties": lambda x: np.round(x),
    "two values": lambda x: (x > 1).astype(float),
    "two values, each for half of the draws": lambda x: (x > np.median(x, axis=(0, 1))).astype(float),
    "a rare value": lambda x: (x > 3).astype(float),
    "a trend": lambda x: x + np.arange(x.shape[1])[:, None] / 50,
    "a heavy tail": lambda x: x**5,
    "a huge mean": lambda x: x + 1e9,
    "a tiny scale": lambda x: x * 1e-200,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("draws", [120, 121])
def test_equals_arviz_for_draws_of_any_shape(shape: str, draws: int) -> None:
    x = SHAPES[shape](autoregressive(0.3, 4, draws, seed=5))
    np.testing.assert_allclose(diagnose(x), arviz(x), rtol=1e-9)


def test_draws_that_ended_above_the_last_lag_equal_arviz() -> None:
    """Short chains whose autocorrelation has not come down: the last lag's correlation counts with its sign."""
    for seed in range(40):
        x = autoregressive(0.9, 5, 19, seed)
        np.testing.assert_allclose(diagnose(x), arviz(x), rtol=1e-9)


def test_a_constant_has_no_diagnostics_and_does_not_disturb_its_neighbours() -> None:
    x = autoregressive(0.3, 4, 50, seed=1)
    alone = np.array(diagnose(x))
    x[..., 1] = 0.7
    found = np.array(diagnose(x))
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_array_equal(found[:, [0, 2]], alone[:, [0, 2]])


def test_one_chain_has_no_r_hat_and_three_draws_have_nothing() -> None:
    bulk, tail, r_hat = diagnose(autoregressive(0.3, 1, 50, seed=1))
    assert np.isfinite(bulk).all()
    assert np.isfinite(tail).all()
    assert np.isnan(r_hat).all()
    assert np.isnan(diagnose(autoregressive(0.3, 4, 3, seed=1))).all()


def test_nan_draws_have_no_diagnostics() -> None:
    x = autoregressive(0.3, 4, 50, seed=1)
    x[0, 0, 0] = np.nan
    assert np.isnan(np.array(diagnose(x))[:, 0]).all()
    assert np.isfinite(np.array(diagnose(x))[:, 1:]).all()


def test_the_pieces_that_are_worked_on_at_a_time_do_not_matter() -> None:
    x = np.random.default_rng(1).normal(size=(4, 60, 7))
    np.testing.assert_array_equal(diagnose(x, size=3), diagnose(x))
