"""Group effects of a fit: the factors of their covariance."""

import numpy as np
import pytest

from hierpanel.results.effects import covariance_factors


@pytest.mark.parametrize("correlation", [-1.0, -0.3, 0.0, 0.999, 1.0])
def test_a_factor_times_itself_is_the_covariance(correlation: float) -> None:
    sd = np.array([[0.5, 2.0], [1.0, 0.0]])
    cor = np.broadcast_to([[1, correlation], [correlation, 1]], (2, 2, 2))
    F = covariance_factors(sd, cor)
    np.testing.assert_allclose(F @ F.swapaxes(1, 2), sd[:, :, None] * cor * sd[:, None], atol=1e-15)
    assert (F[:, 0, 1] == 0).all()


def test_without_correlations_it_is_diagonal() -> None:
    np.testing.assert_array_equal(covariance_factors(np.array([[0.5, 2.0]]), None), [np.diag([0.5, 2.0])])
