"""The marginal density under flat coefficients against lme4's criteria at stated θ (tests/reference/objective.R)."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import hierpanel as hp
from hierpanel.compiler.marginal import FURTHEST, marginal
from hierpanel.data.moments import moments

CASES = json.loads((Path(__file__).parent / "reference/objective.json").read_text())
NAMES = [f"{case['data']}, {case['formula']}" for case in CASES]
# Both sides sum the same n terms in different orders, which may differ by n 2⁻⁵³ of the sum: 8e-12 for 73,421 rows.
RTOL = 1e-11

each_case = pytest.mark.parametrize("number", range(len(CASES)), ids=NAMES)
each_center = pytest.mark.parametrize("center", [False, True], ids=["columns as they are", "centred columns"])


@cache
def compiled(number, center):
    case = CASES[number]
    df = hp.datasets.load(case["data"])
    model = hp.Model(case["formula"], df, priors={"beta": hp.Prior("Flat")}, center=center)
    assert model.spec.n == case["nobs"]
    return model.spec, marginal(model.spec, moments(model.design))


def relative_factor(theta):
    """Return lme4's Λ of one factor: θ runs down the columns of its lower triangle."""
    q = {1: 1, 3: 2}[len(theta)]
    factor = np.zeros((q, q))
    factor.T[np.triu_indices(q)] = theta
    return factor


def psi_of(case, spec, M, theta, sigma):
    """Return ψ (d,) of lme4's θ and σ, on the priors' scale."""
    values, rest = {"sigma": np.log(sigma)}, list(theta)
    groups = {group.name: group for group in spec.groups}
    for r_name, coefs in case["factors"].items():
        group = groups[":".join(reversed(r_name.split(":")))]  # lme4's cask:batch is batch:cask
        entries = len(coefs) * (len(coefs) + 1) // 2
        factor, rest = relative_factor(rest[:entries]), rest[entries:]
        factor[0] += group.center[1:] @ factor[1:]  # the priors' intercept is that at the mean of the slope's column
        size = np.linalg.norm(factor, axis=1)
        with np.errstate(divide="ignore"):  # an sd of 0 is -inf here, a correlation of ±1 ±inf
            values |= {f"sd_{group.name}[{c}]": np.log(s * sigma) for c, s in zip(group.coefs, size, strict=True)}
            if len(coefs) == 2:
                cor = factor[0] @ factor[1] / (size[0] * size[1]) if size.all() else 0.0
                values[f"pcor_{group.name}[0]"] = np.arctanh(np.clip(cor, -1, 1))
    assert not rest
    # An sd of e⁻²⁹ of its start adds 1e-25 to a variance, and tanh 29 is 1: both are the limit to the last digit.
    return np.clip([values[name] for name in M.parameters.names], M.start - FURTHEST + 1, M.start + FURTHEST - 1)


def criteria(number, center, shift=0.0):
    """Return -2 log of the density at every θ of a case, at lme4's profiled σ times e^shift."""
    case, (spec, M) = CASES[number], compiled(number, center)
    sigmas = [np.sqrt(point["sigma2"]) * np.exp(shift) for point in case["points"]]
    psi = [psi_of(case, spec, M, point["theta"], s) for point, s in zip(case["points"], sigmas, strict=True)]
    return -2 * M.log_likelihood(np.array(psi))


@each_center
@each_case
def test_the_density_is_lme4s_reml_criterion(number, center):
    wanted = [point["REML"] for point in CASES[number]["points"]]
    np.testing.assert_allclose(criteria(number, center), wanted, rtol=RTOL)


@pytest.mark.parametrize("shift", [-0.3, 0.3])
@each_case
def test_given_theta_the_density_is_highest_at_lme4s_sigma(number, shift):
    """Away from σ̂ the criterion rises by exactly (n - p) (log(σ²/σ̂²) + σ̂²/σ² - 1), which is positive."""
    points = CASES[number]["points"]
    rise = (CASES[number]["nobs"] - len(points[0]["beta"])) * (2 * shift + np.expm1(-2 * shift))
    assert rise > 0
    wanted = [point["REML"] + rise for point in points]
    np.testing.assert_allclose(criteria(number, False, shift), wanted, rtol=RTOL)


@each_case
def test_coefficients_given_theta_are_lme4s_and_leave_its_ml_deviance(number):
    """The density is that of y at the coefficients' mean m times |2πV|^½; the former is what ML takes, at its σ̂."""
    case, (spec, M) = CASES[number], compiled(number, False)
    p = len(spec.coefs)
    for point in case["points"]:
        sigma = np.sqrt(point["sigma2"] * (case["nobs"] - p) / case["nobs"])
        psi = np.tile(psi_of(case, spec, M, point["theta"], sigma), (p + 1, 1))
        unit = np.eye(p + 1, p, k=-1)  # no noise, then one unit of each coefficient's
        drawn = M.draw(psi, lambda factor, levels, shape, unit=unit: unit)
        m, root = drawn.beta_c[0], drawn.beta_c[1:] - drawn.beta_c[0]
        np.testing.assert_allclose(m, point["beta"], rtol=1e-10)
        deviance = -2 * drawn.log_likelihood[0] + p * np.log(2 * np.pi) + 2 * np.linalg.slogdet(root)[1]
        np.testing.assert_allclose(deviance, point["ML"], rtol=RTOL)
