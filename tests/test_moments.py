"""Moments against dense cross-products, and their addition against the moments of the whole table."""

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.data import moments as module
from hierpanel.data.moments import moments
from hierpanel.errors import DataError


def table(n=400, seed=0, year=0.0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(5, 2, n),
            "x": rng.normal(3, 1, n) + year,
            "z": rng.integers(0, 4, n).astype(float),
            "w": rng.uniform(0.5, 2, n),
            "g": rng.integers(0, 23, n),
            "h": rng.choice(list("abcdefg"), n),
        }
    )


def design(formula, df, **options):
    return hp.Model(formula, df, **options).design


def dense(d, m):
    """Rows of W and Z₁ as the records describe them, about the stored pivots."""
    start = int(d.has_intercept)
    W = np.column_stack([np.ones(d.n), d.X[:, start:], d.y - d.offset]) - m.pivot
    Z = [np.column_stack([np.ones(d.n), g.Z]) - gm.pivot for g, gm in zip(d.groups, m.groups, strict=True)]
    return W, Z, np.ones(d.n) if d.weights is None else d.weights


@pytest.mark.parametrize("rows", [37, 100_000])
@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ x + z", {}),
        ("y ~ 0 + x", {}),
        ("y ~ x + (1 + x | g)", {}),
        ("y ~ x + offset(z) + (1 + x | g) + (1 | h)", {"weights": "w"}),
        ("y ~ x + (0 + x | g) + (1 | h) + (1 | g:h)", {}),
    ],
)
def test_equal_dense_cross_products(formula, options, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", rows)
    d = design(formula, table(), **options)
    m = moments(d)
    W, Z, w = dense(d, m)
    np.testing.assert_allclose(m.WW, (W * w[:, None]).T @ W, rtol=1e-12, atol=1e-9)
    for g, gm, z in zip(d.groups, m.groups, Z, strict=True):
        for level in range(len(g.levels)):
            mine = g.codes == level
            np.testing.assert_allclose(gm.ZZ[level], (z[mine] * w[mine, None]).T @ z[mine], rtol=1e-12, atol=1e-10)
            np.testing.assert_allclose(gm.ZW[level], (z[mine] * w[mine, None]).T @ W[mine], rtol=1e-12, atol=1e-10)
    names = [g.name for g in d.groups]
    for pair in m.pairs:
        i, j = (names.index(name) for name in pair.names)
        total = sum(len(np.unique(d.groups[j].codes[d.groups[i].codes == a])) for a in range(len(d.groups[i].levels)))
        assert len(pair.left) == total
        for a, b, ZZ in zip(pair.left, pair.right, pair.ZZ, strict=True):
            mine = (d.groups[i].codes == a) & (d.groups[j].codes == b)
            np.testing.assert_allclose(ZZ, (Z[i][mine] * w[mine, None]).T @ Z[j][mine], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("year", [0.0, 1990.0])
def test_parts_add_up_to_the_whole_in_any_order(year):
    """Units and pairs that are in one part only are joined; calendar years keep their digits."""
    formula = "y ~ x + z + (1 + x | g) + (1 | h)"
    df = table(year=year)
    shuffled = df.sample(frac=1, random_state=1)
    first, second = shuffled[shuffled.z < 2], shuffled[shuffled.z >= 2]
    first = first[first.g != 7]
    whole = moments(design(formula, pd.concat([first, second])))
    parts = moments(design(formula, first)) + moments(design(formula, second))
    parts = parts.about(whole.pivot, tuple(group.pivot for group in whole.groups))
    assert parts.n == whole.n
    scale = np.abs(whole.WW).max()
    np.testing.assert_allclose(parts.WW, whole.WW, atol=1e-12 * scale)
    for a, b in zip(parts.groups, whole.groups, strict=True):
        assert list(a.levels) == list(b.levels)
        np.testing.assert_allclose(a.ZZ, b.ZZ, atol=1e-12 * np.abs(b.ZZ).max())
        np.testing.assert_allclose(a.ZW, b.ZW, atol=1e-12 * np.abs(b.ZW).max())
    for a, b in zip(parts.pairs, whole.pairs, strict=True):
        np.testing.assert_array_equal(np.column_stack([a.left, a.right]), np.column_stack([b.left, b.right]))
        np.testing.assert_allclose(a.ZZ, b.ZZ, atol=1e-12 * np.abs(b.ZZ).max())


def test_a_calendar_year_keeps_its_digits():
    """The spread of a column about 2000 is exact to rounding, where raw cross-products would lose 6 digits."""
    df = table(year=2000.0)
    m = moments(design("y ~ x + (1 + x | g)", df))
    assert m.WW[1, 1] == pytest.approx(((df.x - df.x.mean()) ** 2).sum(), rel=1e-13)


def test_moments_of_different_formulas_do_not_add():
    df = table()
    with pytest.raises(DataError, match="same formula"):
        moments(design("y ~ x + (1 | g)", df)) + moments(design("y ~ z + (1 | g)", df))
