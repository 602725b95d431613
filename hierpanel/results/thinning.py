"""How many draws, or units, there are comes in; the places of some of them, evenly spaced, go out."""

import numpy as np


def evenly(number: int, most: int) -> np.ndarray:
    """Return at most `most` of the places 0 … number - 1, evenly spaced, both ends included."""
    return np.unique(np.linspace(0, max(number - 1, 0), min(most, number)).round().astype(int))
