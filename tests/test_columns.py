"""Columns: equal to R's and lme4's, the same for new rows, and refused by name where they carry no information."""

import json
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.data.frame import Frame, column_names, complete, to_table
from hierpanel.errors import DataError, FormulaError
from hierpanel.formula import parse
from hierpanel.formula.columns import Encoder, encode
from hierpanel.formula.namespace import resolve

REFERENCE = json.loads((Path(__file__).parent / "reference" / "matrices.json").read_text())
DATA = pd.read_csv(Path(__file__).parent / "reference" / "matrices_data.csv")


def read(data: pd.DataFrame, columns: Sequence[str]) -> Frame:
    return complete(to_table(data, columns), columns)


@dataclass
class Coded:
    encoder: Encoder
    X: np.ndarray
    table: pd.DataFrame
    objects: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.encoder.labels

    def new(self, data: pd.DataFrame) -> np.ndarray:
        return self.encoder.matrix(read(data, list(self.table)).table, self.objects)


def code(right: str, data: pd.DataFrame = DATA, scope: Mapping[str, Any] | None = None) -> Coded:
    """The common columns of `y ~ right`."""
    formula = parse(f"y ~ {right}")
    names = resolve(formula, column_names(data), scope or {})
    table = read(data, names.columns).table
    encoder, X = encode(formula.intercept, formula.terms, table, names.objects, "the coefficients")
    return Coded(encoder, X, table, names.objects)


def small(**columns: Any) -> pd.DataFrame:
    """A table of 8 rows with y and x, and the columns given."""
    return pd.DataFrame({"y": np.arange(8) % 3 + 0.5, "x": np.sqrt(np.arange(8) + 1.0), **columns})


# --- R and lme4 -----------------------------------------------------------------------------------------------------


def assert_same_columns(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    ours, theirs = (
        np.array(sorted(M.T.tolist(), key=lambda column: np.round(column, 9).tolist())) for M in (ours, theirs)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def assert_labelled(encoder: Encoder, matrix: np.ndarray) -> None:
    assert len(encoder.labels) == matrix.shape[1]
    assert len(set(encoder.labels)) == len(encoder.labels)


def blocks_beside_lme4(entry: dict[str, Any]) -> list[tuple[Encoder, np.ndarray, np.ndarray]]:
    """(encoder, our Z, lme4's Z) of each block; `||` is one block here and one term for each column in lme4."""
    formula = parse(entry["python"])
    names = resolve(formula, list(DATA), {})
    table = read(DATA, names.columns).table
    found = []
    for group in formula.groups:
        theirs = [term["Z"] for term in entry["terms"] if set(re.findall(r"\w+", term["factor"])) == set(group.factor)]
        for block in group.blocks:
            encoder, Z = encode(block.intercept, block.terms, table, names.objects, str(group))
            count = 1 if block.correlated else Z.shape[1]
            found.append((encoder, Z, np.hstack([np.reshape(theirs.pop(0), (len(DATA), -1)) for _ in range(count)])))
        assert not theirs
    return found


# a column that R drops is an error here: nobody means x + z + I(x + z)
COLLINEAR = ["y ~ x + z + I(x + z)"]
# lme4 keeps all 10 columns of the redundant coding, so its 10 × 10 covariance has no unique value
REDUNDANT = ["y ~ (h:k | g)"]
ENTRIES = {entry["python"]: entry for entry in REFERENCE}
SAME_X = [text for text in ENTRIES if text not in COLLINEAR]
SAME_Z = [text for text, entry in ENTRIES.items() if entry["terms"] and text not in REDUNDANT]


@pytest.mark.parametrize("text", SAME_X)
def test_common_columns_are_those_of_r(text: str) -> None:
    entry = ENTRIES[text]
    coded = code(text.removeprefix("y ~ "))
    assert_same_columns(coded.X, np.reshape(entry["X"], (len(DATA), -1)))
    assert_labelled(coded.encoder, coded.X)
    assert len(coded.encoder.aliased) == len(entry["dropped"])


@pytest.mark.parametrize("text", SAME_Z)
def test_columns_left_of_a_bar_are_those_of_lme4(text: str) -> None:
    for encoder, Z, theirs in blocks_beside_lme4(ENTRIES[text]):
        assert_same_columns(Z, theirs)
        assert_labelled(encoder, Z)


@pytest.mark.parametrize("text", COLLINEAR)
def test_collinear_columns_are_an_error_where_r_drops_one(text: str) -> None:
    with pytest.raises(DataError, match=r"exactly collinear: 'I\(x \+ z\)' is a linear combination of 'x' and 'z'"):
        code(text.removeprefix("y ~ "))


@pytest.mark.parametrize("text", REDUNDANT)
def test_redundant_columns_left_of_a_bar(text: str) -> None:
    [(encoder, Z, theirs)] = blocks_beside_lme4(ENTRIES[text])
    assert (Z.shape[1], theirs.shape[1]) == (9, 10)
    assert [np.linalg.matrix_rank(M) for M in (Z, theirs, np.hstack([Z, theirs]))] == [9, 9, 9]
    assert_labelled(encoder, Z)
    assert encoder.aliased == ("h[c]:k[r]",)


def test_surplus_cells_without_an_intercept_are_left_out_as_r_does() -> None:
    # R 4.2: model.matrix(~ 0 + x + x:h) has x, x:ha, x:hb, x:hc, and lm() gives the last one NA
    encoder = code("0 + x + x:h").encoder
    assert (encoder.labels, encoder.aliased) == (("x", "x:h[a]", "x:h[b]"), ("x:h[c]",))


# --- labels ---------------------------------------------------------------------------------------------------------

LABELS = [
    ("1", "Intercept"),
    ("0 + x", "x"),
    ("x*h", "Intercept x h[b] h[c] x:h[b] x:h[c]"),
    ("0 + h", "h[a] h[b] h[c]"),
    ("h/x", "Intercept h[b] h[c] h[a]:x h[b]:x h[c]:x"),
    ("h:f2", "Intercept h[a]:f2[u] h[b]:f2[u] h[c]:f2[u] h[a]:f2[v] h[b]:f2[v]"),
    ("np.log(w)*f2", "Intercept np.log(w) f2[v] np.log(w):f2[v]"),
    ("poly(x, 2):f2", "Intercept poly(x, 2)[0]:f2[u] poly(x, 2)[1]:f2[u] poly(x, 2)[0]:f2[v] poly(x, 2)[1]:f2[v]"),
    ("poly(x, 1)", "Intercept poly(x, 1)"),
    ("C(year)", "Intercept " + " ".join(f"C(year)[{year}]" for year in range(2001, 2008))),
    ("C(h, Sum)", "Intercept C(h, Sum)[a] C(h, Sum)[b]"),
    ("C(h, Treatment('b'))", "Intercept C(h, Treatment('b'))[a] C(h, Treatment('b'))[c]"),
    ("T(h, ref='c')", "Intercept T(h, ref='c')[a] T(h, ref='c')[b]"),
    ("I(x > 3)", "Intercept I(x > 3)"),
]


@pytest.mark.parametrize(("right", "labels"), LABELS)
def test_labels(right: str, labels: str) -> None:
    given = " ".join(code(right).labels)
    assert given == labels


def test_labels_that_would_collide_are_an_error() -> None:
    data = small(h=list("abab") * 2, **{"h[b]": np.arange(8) ** 2.0})
    with pytest.raises(DataError, match=r"would both be called 'h\[b\]'"):
        code("h + `h[b]`", data)


# --- new rows -------------------------------------------------------------------------------------------------------


def halved(v: Any) -> Any:
    return v / 2


def powers(v: Any) -> np.ndarray:
    return np.column_stack([v, v**2])


def size(v: Any) -> np.ndarray:
    return np.where(v > 3, "large", "small")


SCOPE = {
    "halved": halved, "powers": powers, "size": size, "half": lambda v: v / 2,
    "order": ["c", "a", "b"], "knots": (2.5, 3.0, 3.5), "p": 2, "T": 3.0, "C": 0.5, "k3": np.int64(3),
}  # fmt: skip
NEW_ROWS = [
    "x + z", "0 + x", "1", "h", "0 + h", "h*k", "h:k", "x*h", "h/x", "h:x + k:x", "f2/h/x", "year + I(year**2)",
    "log(w)", "np.log(w):h", "x + I(x**2)", "{x / w}", "I(x > 3)*h", "I(h == 'b')", "where(x > 3, x, z)",
    "scale(x)", "center(x)*h", "standardize(log(w))", "poly(x, 3)", "poly(x, 2, raw=True)",
    "bs(x, 4)", "bs(x, df=5, degree=2)", "bs(x, knots=knots)", "bs(x=x, df=4)", "bs(log(w), 4)", "bs(scale(x), 4):h",
    "C(h)", "C(h, Sum)", "0 + C(h, Sum)", "C(h, Treatment('b'))", "C(h, levels=order)", "S(h)", "S(h):x",
    "T(h, ref='c')",
    "C(year)", "C(year):x", "C(x > 3)", "C(C(h))",
    "halved(x)", "half(x)", "powers(x)*h", "size(x)", "size(x):z", "halved(powers(center(x)))",
    "I(x**p)", "I(x*T + C)", "I(x**k3)", "halved(x*p)",
]  # fmt: skip


@pytest.mark.parametrize("right", NEW_ROWS)
def test_new_rows_are_coded_as_they_were(right: str) -> None:
    coded = code(right, scope=SCOPE)
    assert_labelled(coded.encoder, coded.X)
    for rows in ([3], [7, 2, 2], np.arange(len(DATA))[::-1]):
        np.testing.assert_array_equal(coded.new(DATA.iloc[rows]), coded.X[rows])
        np.testing.assert_array_equal(coded.encoder.matrix(coded.table.iloc[rows], coded.objects), coded.X[rows])


@pytest.mark.parametrize("right", NEW_ROWS)
def test_encoders_pickle(right: str) -> None:
    coded = code(right, scope=SCOPE)
    again = pickle.loads(pickle.dumps(coded.encoder))
    np.testing.assert_array_equal(again.matrix(coded.table[:5], coded.objects), coded.X[:5])


def test_an_encoder_keeps_no_training_rows() -> None:
    one, many = (pd.concat([DATA] * times, ignore_index=True) for times in (1, 100))
    right = "bs(x, 4)*h + poly(z, 2) + C(year) + log(w)"
    sizes = [len(pickle.dumps(code(right, data).encoder)) for data in (one, many)]
    assert abs(sizes[1] - sizes[0]) < 100


@pytest.mark.parametrize("right", ["h", "C(h)", "C(h, Sum)", "C(h, levels=order)", "x*h", "h:k"])
def test_a_new_level_is_an_error_that_lists_the_levels(right: str) -> None:
    new = DATA[:3].assign(h=["a", "zz", "b"])
    known = "c, a, b" if "order" in right else "a, b, c"
    with pytest.raises(DataError, match=rf"levels that the fit has not seen: zz; it knows {known}$"):
        code(right, scope=SCOPE).new(new)


def test_a_missing_level_in_new_rows_is_not_a_new_level() -> None:
    coded = code("h")
    with pytest.raises(DataError, match=r"h gives no level in 1 of 3 rows \(rows 1\)"):
        coded.encoder.matrix(pd.DataFrame({"y": [1.0] * 3, "h": ["a", None, "b"]}), {})


def test_levels_are_compared_by_value() -> None:
    coded = code("C(year)")
    as_floats = DATA[:4].assign(year=DATA["year"][:4].astype(float))
    np.testing.assert_array_equal(coded.new(as_floats), coded.X[:4])


def test_text_where_the_fit_had_numbers() -> None:
    with pytest.raises(DataError, match="x gives values of type object, not numbers"):
        code("x").new(DATA[:2].assign(x=["a", "b"]))


@pytest.mark.parametrize("right", ["bs(x, 4)", "bs(x=x, df=4)", "x + bs(log(w), 4)", "halved(bs(x, 4))"])
def test_a_spline_warns_outside_its_knots(right: str) -> None:
    coded = code(right, scope=SCOPE)
    new = DATA[:3].assign(x=[3.0, 99.0, -99.0], w=[1.0, 1e6, 1e-6])
    with pytest.warns(UserWarning, match=r"2 of 3 rows outside .*a spline explodes there"):
        coded.new(new)


def test_missing_numbers_in_new_rows_are_an_error() -> None:
    coded = code("log(w)")
    with pytest.raises(DataError, match=r"log\(w\) gives NaN in 1 of 3 rows \(rows 2\)"):
        coded.new(DATA[:3].assign(w=[1.0, 2.0, -1.0]))


# --- what a value means ---------------------------------------------------------------------------------------------

POPULATION = small(
    n=[2_000_000, 3_000_000, 3_500_000, 4_000_000, 5_000_000, 1, 2, 3], a=[True, False] * 4, b=[True] * 3 + [False] * 5
)
VALUES = [
    # operators are R's: floats do not overflow, truth values count, and powers come before signs, from the right
    ("I(n**3)", lambda d: d.n.astype(float) ** 3),
    ("I(n*n*n)", lambda d: d.n.astype(float) ** 3),
    ("I(n**-1)", lambda d: 1 / d.n),
    ("I(a + b)", lambda d: d.a.astype(float) + d.b),
    ("I(a - b)", lambda d: d.a.astype(float) - d.b),
    ("I(-a)", lambda d: -d.a.astype(float)),
    ("I(a * b)", lambda d: d.a & d.b),
    ("I((x > 1.5) * (x < 2.5))", lambda d: (d.x > 1.5) & (d.x < 2.5)),
    ("I(-x**2)", lambda d: -(d.x**2)),
    ("I((-x)**2)", lambda d: d.x**2),
    ("I(2**-x)", lambda d: 2**-d.x),
    ("I(x**3**0.5)", lambda d: d.x ** (3**0.5)),
    ("I(x - -1)", lambda d: d.x + 1),
    ("a", lambda d: d.a),
    ("n", lambda d: d.n),
]  # fmt: skip


@pytest.mark.parametrize(("right", "expected"), VALUES)
def test_values(right: str, expected: Any) -> None:
    np.testing.assert_allclose(code(f"0 + {right}", POPULATION).X[:, 0], expected(POPULATION).astype(float), rtol=1e-14)


def test_truth_values_are_one_column_of_0_and_1() -> None:
    coded = code("a", POPULATION)
    assert coded.labels == ("Intercept", "a")
    assert coded.X[:, 1].tolist() == [1.0, 0.0] * 4


def test_categories_keep_their_order_and_unused_ones_give_no_column() -> None:
    h = pd.Categorical(["b", "c", "a", "b"] * 2, categories=["c", "zz", "b", "a"])
    for right in ("h", "C(h)"):
        assert code(right, small(h=h)).labels == ("Intercept", f"{right}[b]", f"{right}[a]")
    assert code("h", small(h=h.as_ordered())).labels == ("Intercept", "h[b]", "h[a]")
    assert code("h", small(h=h.astype(str))).labels == ("Intercept", "h[b]", "h[c]")
    assert code("0 + h", small(h=h)).labels == ("h[c]", "h[b]", "h[a]")


def test_levels_that_only_dropped_rows_have_give_no_column() -> None:
    data = small(h=list("abcabcab"), z=[1.0, 2.0, np.nan, 1.0, 3.0, np.nan, 5.0, 8.0])
    assert code("h + z", data).labels == ("Intercept", "h[b]", "z")


def test_quoted_factors_are_coded_like_others() -> None:
    data = DATA.assign(**{"my h": DATA["h"]})
    for right in ("0 + h", "h*x", "0 + h:x", "h/x"):
        np.testing.assert_array_equal(code(right.replace("h", "`my h`"), data).X, code(right).X)


# --- columns that carry no information ------------------------------------------------------------------------------

DAYS = pd.date_range("2020-01-01", periods=8)
NOTHING = small(
    zero=0.0, one=1.0, h=list("aabbccaa"), minus=[-1.0, 2.0] * 4, day=DAYS, zoned=DAYS.tz_localize("UTC"),
    month=DAYS.to_period("M"), lasting=DAYS - DAYS[0], date=DAYS.date,
)  # fmt: skip
NOTHING.index = pd.Index(list("pqrstuvw"))
SHORT = {
    "first_five": lambda v: v[:5],
    "mean": np.mean,
    "roots": lambda v: np.sqrt(v + 0j),
    "cut": lambda v: pd.cut(v, [0, 1, 2]),
}
ERRORS = [
    # transforms: how many rows, and which
    ("np.log(minus)", r"np\.log\(minus\) gives NaN in 4 of 8 rows \(rows p, r, t, v\)"),
    ("log(0*x - 1)", r"gives NaN in 8 of 8 rows \(rows p, q, r, s, t, …\)"),
    ("I(1/zero)", r"I\(1 / zero\) gives infinite values in 8 of 8 rows"),
    ("x:log(minus + 1)", r"log\(minus \+ 1\) gives infinite values in 4 of 8 rows"),
    ("I((x - 1) / zero)", r"gives NaN and infinite values in 8 of 8 rows"),
    ("scale(one)", r"scale\(one\) gives NaN in 8 of 8 rows"),
    ("cut(x)", r"cut\(x\) gives no level in 4 of 8 rows \(rows t, u, v, w\)"),
    ("first_five(x)", r"first_five\(x\) gives values of shape \(5,\) for 8 rows; a column has one value for each row"),
    ("mean(x)", r"mean\(x\) gives one value for 8 rows"),
    ("roots(minus)", r"roots\(minus\) gives values of type complex128, not numbers"),
    ("np.lg(x)", r"np\.lg\(x\) cannot be computed: AttributeError"),
    ("bs(x, df=2)", r"bs\(x, df=2\) cannot be computed: ValueError: df=2 is too small"),
    ("poly(x, 0)", r"poly\(x, 0\) gives no column; leave it out"),
    ("T(h, 'z')", r"T\(h, 'z'\) cannot be coded: reference not in levels; its levels are: a, b, c"),
    ("C(h, Treatment('z'))", r"C\(h, Treatment\('z'\)\) cannot be coded: .*; its levels are: a, b, c"),
    # dates
    ("day", r"day is a column of datetime64\[us\], .*for example the year, or days since a date.*day\.astype\(str\)"),
    ("date", r"date is a column of datetime64"),
    ("zoned", r"zoned is a column of datetime64\[us, UTC\]"),
    ("month", r"month is a column of period\[M\]"),
    ("lasting", r"lasting is a column of timedelta64"),
    ("I(day - day)", r"gives neither numbers nor levels; a difference of dates is a number when it is divided by np"),
    # constant, zero, collinear
    ("one", r"the column 'one' of the coefficients is constant \(1 in every row\).*told apart from the intercept"),
    ("I(one*1e12)", r"'I\(one \* 1000000000000\.0\)' of the coefficients is constant"),
    ("zero", r"the column 'zero' of the coefficients is 0 in every row; leave it out"),
    ("0 + x + zero", r"the column 'zero' of the coefficients is 0 in every row"),
    ("I(h == 'q')", r"is 0 in every row"),
    ("I(x > 0)", r"'I\(x > 0\)' of the coefficients is constant \(1 in every row\)"),
    ("x + I(2*x)", r"'I\(2 \* x\)' is a linear combination of 'x'; leave one"),
    ("x + I(x + 1e6)", r"'I\(x \+ 1000000\.0\)' is a linear combination of 'Intercept' and 'x'"),
    ("h + I(h == 'a')", r"is a linear combination of 'Intercept' and 'h\[b\]' and 'h\[c\]'"),
    ("0 + h + one", r"'one' is a linear combination of 'h\[a\]' and 'h\[b\]' and 'h\[c\]'"),
    ("x + minus + I(x - 3*minus)", r"is a linear combination of 'x' and 'minus'"),
    ("x + I(1e8*x)", r"is a linear combination of 'x'"),
    ("x + I(1e-8*x)", r"is a linear combination of 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "message"), ERRORS)
def test_columns_that_say_nothing_are_errors(right: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=message):
        code(right, NOTHING, SHORT)
    assert capsys.readouterr().out == ""


def test_dates_work_as_the_error_says() -> None:
    as_year = NOTHING.assign(year=NOTHING["day"].dt.day)
    assert code("year", as_year).labels == ("Intercept", "year")
    assert code("C(day)", NOTHING[:3]).X.shape == (3, 3)
    days = code("I((day - start) / np.timedelta64(1, 'D'))", NOTHING, {"start": DAYS[0]})
    np.testing.assert_array_equal(days.new(NOTHING[5:]), days.X[5:])
    assert days.X[:, 1].tolist() == list(range(8))


def test_columns_of_a_block_are_named_in_errors() -> None:
    formula = parse("y ~ (zero | h)")
    with pytest.raises(DataError, match=r"the column 'zero' of \(1 \+ zero \| h\) is 0 in every row"):
        encode(True, formula.groups[0].blocks[0].terms, NOTHING, {}, "(1 + zero | h)")


@pytest.mark.parametrize(("first", "last"), [(1980, 1987), (2010, 2013)])
def test_calendar_years_are_not_collinear(first: int, last: int) -> None:
    data = pd.DataFrame({"y": np.arange(80.0), "year": np.resize(np.arange(first, last + 1), 80)})
    cubic = code("year + I(year**2) + I(year**3)", data)
    assert cubic.labels == ("Intercept", "year", "I(year ** 2)", "I(year ** 3)")
    with pytest.raises(DataError, match=r"'I\(year - 1980\)' is a linear combination of 'Intercept' and 'year'"):
        code("year + I(year**2) + I(year - 1980)", data)


@pytest.mark.parametrize("scale", [1e8, 1.0, 1e-8])
@pytest.mark.parametrize("origin", [0.0, 1e4])
def test_neither_unit_nor_origin_matters(scale: float, origin: float) -> None:
    data = DATA.assign(x=scale * (DATA["x"] + origin))
    assert code("x + z + h", data).labels == code("x + z + h").labels
    assert code("x*h + I(x**2)", data).labels == code("x*h + I(x**2)").labels
    with pytest.raises(DataError, match="exactly collinear"):
        code("x + z + I(x / 7 + z)", data)


def test_collinear_columns_are_found_far_from_the_origin() -> None:
    seconds = DATA.assign(t=1e10 + 7.0 * np.arange(len(DATA)))
    assert code("t + x", seconds).labels == ("Intercept", "t", "x")
    for right in ("t + I(t + 0.1)", "t + x + I(t / 3 + x)"):
        with pytest.raises(DataError, match="exactly collinear"):
            code(right, seconds)


def test_nearly_collinear_is_not_collinear() -> None:
    noise = np.random.default_rng(1).normal(size=len(DATA))
    assert code("x + w", DATA.assign(w=DATA["x"] + 1e-6 * noise)).X.shape[1] == 3
    with pytest.raises(DataError, match="exactly collinear"):
        code("x + w", DATA.assign(w=DATA["x"] + 1e-12 * noise))


# --- names ----------------------------------------------------------------------------------------------------------

# (formula with « » around the text under the caret, a part of the message)
UNKNOWN = [
    ("y ~ «expr»", "there is no column 'expr' (did you mean exper?); the columns are: y, exper, worker, my col"),
    ("«yy» ~ exper", "there is no column 'yy'"),
    ("y ~ exper + log(«expr»)", "did you mean exper?"),
    ("y ~ bs(exper, df=4) + «df»", "there is no column 'df'"),
    ("y ~ exper + (1 | «wrker»)", "there is no column 'wrker' (did you mean worker?)"),
    ("y ~ exper + (1 | worker:«frm»)", "there is no column 'frm'"),
    ("y ~ fe(«wrker»)", "did you mean worker?"),
    ("y ~ exper + offset(log(«expo»))", "there is no column 'expo'"),
    ("y ~ («expr» || worker)", "did you mean exper?"),
    ("y ~ «`my cool`»", "did you mean my col?"),
    ("«z»['yes'] ~ exper", "there is no column 'z'"),
    ("y ~ «lgo»(exper)", "there is no function lgo (did you mean log?); define it, or give it as env="),
    ("y ~ exper + I(«sqr»(exper) + 1)", "there is no function sqr (did you mean sqrt?)"),
    ("y ~ «tools.halved»(exper)", "there is no function tools.halved"),
    ("y ~ exper + «constant»", "there is no column 'constant'"),
]


@pytest.mark.parametrize(("marked", "message"), UNKNOWN)
def test_names_that_are_found_nowhere(marked: str, message: str) -> None:
    text = marked.replace("«", "").replace("»", "")
    with pytest.raises(FormulaError) as caught:
        resolve(parse(text), ["y", "exper", "worker", "my col"], {"constant": 2.0})
    assert message in caught.value.problem
    assert (caught.value.start, caught.value.end) == (marked.index("«"), marked.index("»") - 1)


def test_what_a_formula_names() -> None:
    formula = parse("log(y) ~ bs(x, df) + np.sqrt(z) + half(x) + I(x**p) + C(h, Sum) + (x | g:k) + offset(n)")
    scope = {"half": SCOPE["half"], "p": 2, "df": 4, "unused": 1, "x": "the column wins", "np": np}
    names = resolve(formula, ["y", "x", "z", "h", "g", "k", "n", "other"], scope)
    assert set(names.columns) == {"y", "x", "z", "h", "g", "k", "n"}
    assert names.columns[0] == "y"
    assert set(names.objects) == {"log", "np", "half", "p", "df"}
    assert names.foreign == ("df", "half", "p")


def test_the_callers_functions_and_constants() -> None:
    x = DATA["x"].to_numpy()
    np.testing.assert_array_equal(code("half(x)", scope=SCOPE).X[:, 1], x / 2)
    np.testing.assert_array_equal(code("I(x**p + T)", scope=SCOPE).X[:, 1], x**2 + 3)
    np.testing.assert_array_equal(code("half(I(x * C))", scope=SCOPE).X[:, 1], x / 4)


def test_columns_may_have_the_names_of_functions() -> None:
    names = ["p", "T", "C", "I", "np", "log", "scale", "bs"]
    data = DATA.rename(columns=dict(zip(["x", "z", "w", "year"], names, strict=False)))
    np.testing.assert_array_equal(code("p + T + C", data).X, code("x + z + w").X)
    np.testing.assert_array_equal(code("scale(p) + I(T*C) + log(C)", data).X, code("scale(x) + I(z*w) + log(w)").X)


def test_cells_that_no_row_had_are_refused() -> None:
    """Their column was left out, so a new row in them would silently get another cell's value."""
    rng = np.random.default_rng(5)
    df = pd.DataFrame({"x": rng.normal(size=60), "k": np.tile(list("abc"), 20), "h": np.repeat(list("pqrs"), 15)})
    seen = df[~((df["k"] == "c") & (df["h"] == "s"))].assign(y=rng.normal(size=55))
    model = hp.Model("y ~ k * h + x", seen)
    assert model.design.aliased == ("k[c]:h[s]",)
    pd.testing.assert_frame_equal(model.design_matrix(seen), model.design_matrix())
    with pytest.raises(hp.DataError, match=r"5 rows \(rows .*\) combine levels that no row of the fit"):
        model.design_matrix(df)
    hp.Model("y ~ k + h + x", seen).design_matrix(df)  # nothing was left out
