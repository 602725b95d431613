"""Draws of many quantities at once come in; their R̂ and effective sample sizes go out.

Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), "Rank-normalization, folding, and localization".
These are ArviZ's numbers, for thousands of quantities in one pass where ArviZ takes milliseconds for each.
"""

import numpy as np

Array = np.ndarray


def diagnose(draws: Array, size: int = 128) -> tuple[Array, Array, Array]:
    """Return (bulk ESS, tail ESS, R̂) of each quantity.

    The tail ESS is the smaller one of the 5 % and 95 % quantiles; R̂ is rank-normalised and split.

    Parameters
    ----------
    draws : (chain, draw, K)
    size : quantities worked on at a time, so that memory stays bounded

    Returns
    -------
    three (K,) arrays; NaN for a constant or fewer than 4 draws, and R̂ also with a single chain
    """
    chains, length, total = draws.shape
    found = np.full((3, total), np.nan)
    for start in range(0, total if length >= 4 else 0, size):
        x = np.ascontiguousarray(np.moveaxis(draws[:, :, start : start + size], 2, 0), dtype=float)
        moving = varies(x, (1, 2))
        if moving.any():
            x = x[moving]
            scores = _normal_scores(_split(x))
            found[0, start : start + size][moving] = _ess(scores)
            found[1, start : start + size][moving] = _ess_tail(x)
            if chains > 1:
                found[2, start : start + size][moving] = _r_hat(x, scores)
    return found[0], found[1], found[2]


def varies(draws: Array, axis: int | tuple[int, ...] | None) -> Array:
    """Return whether draws differ by more than rounding: what is fixed may be a product of what is not."""
    return np.asarray(np.ptp(draws, axis=axis) > 16 * np.finfo(float).eps * np.abs(draws).max(axis=axis))


def _split(x: Array) -> Array:
    half = x.shape[2] // 2
    return np.concatenate([x[:, :, :half], x[:, :, -half:]], axis=1)


def _normal_scores(x: Array) -> Array:
    """Φ⁻¹((rank - 3/8)/(S + 1/4)), with average ranks for ties."""
    from scipy import special

    flat = x.reshape(len(x), -1)
    size = flat.shape[1]
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    place = np.arange(size)
    new = np.concatenate([np.ones((len(x), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    last_of = np.concatenate([new[:, 1:], np.ones((len(x), 1), bool)], axis=1)
    last = np.minimum.accumulate(np.where(last_of, place, size)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty_like(flat)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return np.asarray(special.ndtri((ranks - 0.375) / (size + 0.25))).reshape(x.shape)


def _r_hat(x: Array, scores: Array) -> Array:
    split = _split(x)
    folded = np.abs(split - np.median(split, axis=(1, 2), keepdims=True))
    plain, tail = _plain_r_hat(scores), _plain_r_hat(_normal_scores(folded))
    return np.asarray(np.fmax(plain, tail))  # two values may become one when they are folded: no R̂ of their own


def _plain_r_hat(x: Array) -> Array:
    n = x.shape[2]
    between = n * x.mean(axis=2).var(axis=1, ddof=1)
    within = x.var(axis=2, ddof=1).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # chains that never moved, each at its own value: infinity
        return np.asarray(np.sqrt((between / within + n - 1) / n))


def _ess_tail(x: Array) -> Array:
    lower, upper = np.quantile(x, [0.05, 0.95], axis=(1, 2))
    below = [(x <= q[:, None, None]).astype(float) for q in (lower, upper)]
    return np.asarray(np.minimum(_ess(_split(below[0])), _ess(_split(below[1]))))


def _ess(x: Array) -> Array:
    """Effective sample size of the mean, by Geyer's initial positive and monotone sequences of pair sums."""
    _, chains, n = x.shape
    covariance = _autocovariance(x).mean(axis=1)  # (k, n)
    mean_variance = covariance[:, 0] * n / (n - 1)
    total = covariance[:, 0] + (x.mean(axis=2).var(axis=1, ddof=1) if chains > 1 else 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1 - (mean_variance[:, None] - covariance) / total[:, None]
    rho[:, 0] = 1.0
    pairs = max((n - 1) // 2, 1)
    even, odd = rho[:, 0 : 2 * pairs : 2], rho[:, 1 : 2 * pairs : 2]
    sums = even[:, : odd.shape[1]] + odd
    stopped = sums <= 0
    stop = np.where(stopped.any(axis=1), stopped.argmax(axis=1), sums.shape[1] - 1)
    rows = np.arange(len(x))
    monotone = np.minimum.accumulate(sums, axis=1)
    before = np.concatenate([np.zeros((len(x), 1)), np.cumsum(monotone, axis=1)], axis=1)[rows, stop]
    last = even[rows, stop]
    tau = -1 + 2 * before + np.where(stopped.any(axis=1), np.maximum(last, 0), last)
    size = chains * n
    # what does not vary (an indicator that all draws lie below the quantile) counts in full, as in ArviZ
    return np.asarray(np.where(total > 0, size / np.maximum(tau, 1 / np.log10(size)), size))


def _autocovariance(x: Array) -> Array:
    from scipy import fft

    n = x.shape[2]
    length = fft.next_fast_len(2 * n, real=True)
    spectrum = fft.rfft(x - x.mean(axis=2, keepdims=True), n=length, axis=2)
    return np.asarray(fft.irfft(np.abs(spectrum) ** 2, n=length, axis=2)[:, :, :n] / n)
