"""The linear predictor, written once, for PyTensor's variables and for NumPy's draws alike."""

from collections.abc import Callable, Iterable
from typing import Any


def linear_predictor(
    X: Any, beta: Any, effects: Iterable[tuple[Any, Any, Any]], offset: Any, dot: Callable[[Any, Any], Any]
) -> Any:
    """Return X beta + Σ z · b[codes] + offset, the sum over the columns of every grouping factor.

    Parameters
    ----------
    X : (n, p), or None without coefficients
    beta : (…, p)
    effects : for each column that varies by a factor: z (n,) or None for a column of ones, b (…, J), codes (n,)
    offset : (n,) or None
    dot : how X and beta are multiplied; (n, p) and (…, p) give (…, n)

    Returns
    -------
    (…, n); leading dimensions are those of the draws.
    """
    terms = [] if X is None else [dot(X, beta)]
    terms += [b[..., codes] if z is None else z * b[..., codes] for z, b, codes in effects]
    terms += [] if offset is None else [offset]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
