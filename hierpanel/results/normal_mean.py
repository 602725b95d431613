"""A function and normal distributions come in; the function's mean over each of them goes out."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


def mean_over_normal(
    function: Callable[[Array], Any], center: Array, sd: Array, nodes: Array, masses: Array
) -> np.ndarray:
    """Return E[function(N(center, sd²))], element by element.

    Parameters
    ----------
    center, sd : of one shape
    nodes, masses : places of N(0, 1) and their shares, as of `gauss` or `even`
    """
    total = np.zeros_like(center)
    for node, mass in zip(nodes, masses, strict=True):
        total += mass * function(center + node * sd)
    return total


def gauss(count: int) -> tuple[Array, Array]:
    """Return the nodes and masses of Gauss and Hermite: exact for polynomials of degree 2 count - 1."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(count)
    return nodes, masses / masses.sum()


def even(reach: float, count: int) -> tuple[Array, Array]:
    """Return evenly spaced nodes within `reach` sds: the trapezoid rule, which forgives kinks."""
    nodes = np.linspace(-reach, reach, count)
    masses = np.exp(-0.5 * nodes**2)
    return nodes, masses / masses.sum()
