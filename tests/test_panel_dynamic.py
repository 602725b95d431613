"""A lagged outcome: ignoring the first outcome biases its coefficient, initial(y) mends it, and the gap warns."""

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp

RHO = 0.5


def panel(units: int = 2000, periods: int = 5) -> pd.DataFrame:
    """Units that have been going for long: a first outcome and T = 5 further ones."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=units)
    y, rows = a / (1 - RHO), []
    for period in range(-50, periods + 1):
        x = 0.5 * a + rng.normal(size=units)
        y = RHO * y + 0.3 * x + a + rng.normal(size=units)
        if period >= 0:
            rows.append(pd.DataFrame({"unit": np.arange(units), "period": period, "x": x, "y": y}))
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(
    ("formula", "warned", "bias"),
    [
        ("y ~ lag(y) + x + (1 | unit)", "biased upwards; add initial", 0.3),
        ("y ~ lag(y) + x + fe(unit)", r"biases its coefficient downwards.*take \(1 \| unit\) and add initial", -0.3),
    ],
)
def test_without_the_first_outcome_the_lag_is_biased(formula: str, warned: str, bias: float) -> None:
    with pytest.warns(UserWarning, match=warned):
        fit = hp.fit(formula, panel(), panel=("unit", "period"), draws=250, seed=1)
    assert fit.params["lag(y)"] - RHO == pytest.approx(bias, abs=0.04)
    assert any("lag(y) is a lagged outcome" in note for note in fit.spec.notes)


def test_the_first_outcome_and_unit_means_mend_it() -> None:
    fit = hp.fit("y ~ lag(y) + x + initial(y) + (1 | unit)", panel(), panel=("unit", "period"), draws=500, seed=1)
    assert fit.spec.coefs == ("Intercept", "lag(y)", "x", "initial(y)", "between(x)")
    assert abs(fit.params["lag(y)"] - RHO) < 3 * fit.bse["lag(y)"]
    assert fit.bse["lag(y)"] < 0.02  # which would tell a bias of 0.06
    assert abs(fit.params["x"] - 0.3) < 3 * fit.bse["x"]
