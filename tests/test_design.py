"""Designs: levels and codes of grouping factors, responses, weights, offsets, and what a design refuses."""

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.data.design import RESERVED, Design, GroupDesign
from hierpanel.data.within import constant_within, demean
from hierpanel.errors import DataError, FormulaError

NA = pd.NA


def rows(n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "g": np.repeat(list("cab"), n // 3),
            "h": np.array(list("uv"))[np.arange(n) % 2],
            "answer": np.array(["yes", "no", "don't know"])[np.arange(n) % 3],
            "yes": np.arange(n) % 3 == 0,
            "hits": np.arange(n) % 4,
            "tries": np.arange(n) % 4 + 1 + np.arange(n) % 2,
            "w": rng.uniform(1, 2, n),
            "exposure": rng.uniform(1, 2, n),
        }
    )


DATA = rows()


def design(formula: str, data: Any = DATA, **options: Any) -> Design:
    return hp.Model(formula, data, env={}, **options).design


def only_group(formula: str, data: Any = DATA) -> GroupDesign:
    (group,) = design(formula, data).groups
    return group


# --- levels of one column ---------------------------------------------------------------------------------------------

DAYS = pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-02", "2020-01-03"])
# (column of four rows, levels, codes)
LEVELS: list[tuple[Any, list[Any], list[int]]] = [
    ([7, 5, 7, 10], [5, 7, 10], [1, 0, 1, 2]),
    ([-1, 5, 7, 5], [-1, 5, 7], [0, 1, 2, 1]),
    (pd.array([7, 5, NA, 10], "Int64"), [5, 7, 10], [1, 0, 2]),
    (np.array([7, 5, 7, 255], np.uint8), [5, 7, 255], [1, 0, 1, 2]),
    (np.array([2**53 + 1, 2**53, 1, 2]), [1, 2, 2**53, 2**53 + 1], [3, 2, 0, 1]),
    ([0.5, 1.5, -1.0, 0.5], [-1.0, 0.5, 1.5], [1, 2, 0, 1]),
    ([2.0, 1.0, None, 2.0], [1.0, 2.0], [1, 0, 1]),
    ([True, False, True, True], ["False", "True"], [1, 0, 1, 1]),
    (["b", "10", "9", "b"], ["10", "9", "b"], [2, 0, 1, 2]),
    (pd.array(["b", "a", NA, "b"], "string"), ["a", "b"], [1, 0, 1]),
    (pd.Categorical(["b", "c", "b", "c"], ["c", "unused", "b"]), ["c", "b"], [1, 0, 1, 0]),
    (pd.Categorical([3, 1, 3, 2], [3, 2, 1]), [3, 2, 1], [0, 2, 0, 1]),
    (pd.Categorical(DAYS), ["2020-01-01", "2020-01-02", "2020-01-03"], [1, 0, 1, 2]),
    (DAYS, ["2020-01-01", "2020-01-02", "2020-01-03"], [1, 0, 1, 2]),
    (DAYS + pd.Timedelta(hours=6), [f"2020-01-0{day} 06:00:00" for day in (1, 2, 3)], [1, 0, 1, 2]),
    (DAYS.tz_localize("UTC"), [f"2020-01-0{day} 00:00:00+00:00" for day in (1, 2, 3)], [1, 0, 1, 2]),
    (pd.PeriodIndex(["2020-02", "2020-01", "2020-02", "2020-02"], freq="M"), ["2020-01", "2020-02"], [1, 0, 1, 1]),
    ([("t", 2), ("t", 1), ("t", 2), ("t", 1)], ["('t', 1)", "('t', 2)"], [1, 0, 1, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "levels", "codes"), LEVELS)
def test_levels_of_a_column(column: Any, levels: list[Any], codes: list[int]) -> None:
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "g": pd.Series(column)})
    group = only_group("y ~ (1 | g)", data)
    assert group.levels.tolist() == levels
    assert [type(level) for level in group.levels.tolist()] == [type(level) for level in levels]
    assert group.codes.tolist() == codes
    assert group.codes.dtype == np.int32
    assert group.rows.tolist() == [codes.count(code) for code in range(len(levels))]


def test_levels_of_an_index() -> None:
    data = DATA.set_index(["g", "h"])
    assert only_group("y ~ (1 | g)", data).levels.tolist() == ["a", "b", "c"]
    assert only_group("y ~ (1 | g:h)", data).levels.tolist() == ["a:u", "a:v", "b:u", "b:v", "c:u", "c:v"]


# --- levels of combinations -------------------------------------------------------------------------------------------


def test_only_combinations_that_occur_are_levels() -> None:
    """12 classes in 6 schools are 12 levels, not 72, also where every school numbers its own."""
    school = np.repeat(np.arange(6), 4)
    for names in (np.repeat(np.arange(12), 2), np.tile(np.repeat([1, 2], 2), 6)):
        data = pd.DataFrame({"y": np.sin(np.arange(24.0)), "school": school, "room": names})
        schools, rooms = design("y ~ (1 | school/room)", data).groups
        assert (schools.name, len(schools.levels)) == ("school", 6)
        assert (rooms.name, len(rooms.levels)) == ("school:room", 12)
        assert rooms.rows.tolist() == [2] * 12
        assert rooms.codes.tolist() == np.repeat(np.arange(12), 2).tolist()
        assert rooms.levels.tolist() == [f"{s}:{r}" for s, r in zip(school[::2], names[::2], strict=True)]


def test_combinations_are_labelled_by_their_parts() -> None:
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "year": [2001, 2000, 2000, 2001], "day": DAYS, "x": [1.5, 2, 2, 2]})
    group = only_group("y ~ (1 | day:year:x)", data)
    assert group.levels.tolist() == [
        "2020-01-01:2000:2.0",
        "2020-01-02:2000:2.0",
        "2020-01-02:2001:1.5",
        "2020-01-03:2001:2.0",
    ]
    assert group.codes.tolist() == [2, 0, 1, 3]


def test_labels_of_combinations_are_unique_whatever_the_parts_hold() -> None:
    parts = ["".join(letters) for length in (1, 2, 3) for letters in itertools.product(":\\a", repeat=length)]
    pairs = pd.DataFrame(itertools.product(parts, parts), columns=["g", "h"])
    group = only_group("y ~ (1 | g:h)", pairs.assign(y=np.arange(len(pairs), dtype=float)))
    assert len(set(group.levels)) == len(group.levels) == len(parts) ** 2
    assert sorted(group.codes) == list(range(len(pairs)))


def test_the_order_of_parts_is_the_order_of_the_name() -> None:
    for formula, first in (("y ~ (1 | g:h)", "a:u"), ("y ~ (1 | h:g)", "u:a")):
        group = only_group(formula)
        assert (group.name, group.levels[0]) == (formula[-4:-1], first)


# --- columns and blocks -----------------------------------------------------------------------------------------------

# (formula, names of Z's columns, (start, stop, correlated, fixed) of each block)
BLOCKS: list[tuple[str, list[str], list[tuple[int, int, bool, bool]]]] = [
    ("y ~ (1 | g)", ["Intercept"], [(0, 1, False, False)]),
    ("y ~ (0 + x | g)", ["x"], [(0, 1, False, False)]),
    ("y ~ (x | g)", ["Intercept", "x"], [(0, 2, True, False)]),
    ("y ~ (x || g)", ["Intercept", "x"], [(0, 2, False, False)]),
    ("y ~ (1 | g) + (0 + x | g)", ["Intercept", "x"], [(0, 1, False, False), (1, 2, False, False)]),
    ("y ~ (0 + z | g) + (x | g)", ["z", "Intercept", "x"], [(0, 1, False, False), (1, 3, True, False)]),
    ("y ~ (h | g)", ["Intercept", "h[v]"], [(0, 2, True, False)]),
    ("y ~ (0 + h | g)", ["h[u]", "h[v]"], [(0, 2, True, False)]),
    ("y ~ fe(g)", ["Intercept"], [(0, 1, False, True)]),
    ("y ~ fe(g) + (0 + x + z | g)", ["Intercept", "x", "z"], [(0, 1, False, True), (1, 3, True, False)]),
]


@pytest.mark.parametrize(("formula", "coefs", "blocks"), BLOCKS)
def test_blocks(formula: str, coefs: list[str], blocks: list[tuple[int, int, bool, bool]]) -> None:
    group = only_group(formula)
    assert list(group.coefs) == coefs
    found = [(block.columns.start, block.columns.stop, block.correlated, block.fixed) for block in group.blocks]
    assert found == blocks
    columns = {"Intercept": np.ones(len(DATA)), "x": DATA["x"], "z": DATA["z"]}
    columns |= {f"h[{level}]": DATA["h"] == level for level in "uv"}
    np.testing.assert_array_equal(group.Z, np.stack([np.asarray(columns[coef], float) for coef in coefs], axis=1))
    assert group.has_intercept == ("Intercept" in coefs)


def test_a_factor_is_found_by_its_name() -> None:
    found = design("y ~ x + (1 | g) + (1 | h)")
    assert found.group("h").levels.tolist() == ["u", "v"]
    with pytest.raises(DataError, match="there is no grouping factor 'firm' in this model; it has: g, h"):
        found.group("firm")
    with pytest.raises(DataError, match="it has: none"):
        design("y ~ x").group("g")


def test_empty_cells_are_named() -> None:
    model = hp.Model("y ~ g * k", DATA.assign(k=np.where((DATA["g"] != "c") & (DATA["h"] == "u"), "p", "q")))
    assert model.design.aliased == ("g[c]:k[q]",)
    assert model.spec.notes == ("left out as empty or surplus cells: g[c]:k[q]",)


# --- responses --------------------------------------------------------------------------------------------------------

IS_YES = (DATA["answer"] == "yes").to_numpy(float)
QUOTES = DATA.assign(answer=np.where(DATA["answer"] == "yes", "'yes'", "no"))
# (response, data, y, trials)
RESPONSES: list[tuple[str, pd.DataFrame, Any, Any]] = [
    ("y", DATA, DATA["y"], None),
    ("np.exp(y)", DATA, np.exp(DATA["y"]), None),
    ("I(y > 0)", DATA, DATA["y"] > 0, None),
    ("yes", DATA, IS_YES, None),
    ("hits", DATA, DATA["hits"], None),
    ("answer['yes']", DATA, IS_YES, None),
    ('answer["yes"]', DATA, IS_YES, None),
    ("answer[yes]", DATA, IS_YES, None),
    ('answer["don\'t know"]', DATA, DATA["answer"] == "don't know", None),
    ("answer[\"'yes'\"]", QUOTES, IS_YES, None),
    ("answer['yes']", DATA.assign(answer=DATA["answer"].astype("category")), IS_YES, None),
    ("prop(hits, tries)", DATA, DATA["hits"], DATA["tries"]),
    ("prop(hits, 5)", DATA, DATA["hits"], np.full(len(DATA), 5)),
]


@pytest.mark.parametrize(("response", "data", "y", "trials"), RESPONSES)
def test_responses(response: str, data: pd.DataFrame, y: Any, trials: Any) -> None:
    found = design(f"{response} ~ 1", data, family="gaussian" if trials is None else "binomial")
    np.testing.assert_array_equal(found.y, np.asarray(y, dtype=float))
    assert found.y.dtype == np.float64
    if trials is None:
        assert found.trials is None
    else:
        np.testing.assert_array_equal(found.trials, np.asarray(trials, dtype=float))


# (response, message)
NOT_RESPONSES = [
    ("answer", r"the response answer is text with the levels yes, no, don't know; say .* \"answer\['yes'\] ~ ...\""),
    ("C(answer)", r"is text with the levels yes, no, don't know; say .* \"I\(answer == 'yes'\) ~ ...\""),
    ("np.array(answer)", r"the response .* is text with .* \"I\(np.array\(answer\) == 'yes'\) ~ ...\""),
    ("answer['maybe']", "the response answer has no level 'maybe'; it has yes, no, don't know"),
    ("answer['ye']", "has no level 'ye'"),
    ("hits['1']", r"the response hits holds numbers and has no levels; write hits, or I\(hits == 1\)"),
    ("yes['False']", "the response yes holds numbers and has no levels"),
    ("prop(hits, hits)", r"the trials of prop\(hits, hits\) are below 1 in 3 rows"),
    ("prop(tries, hits)", r"prop\(tries, hits\) cannot be computed: .*cannot be greater than"),
    ("prop(hits, w)", r"prop\(hits, w\) cannot be computed: .*integer"),
    ("bs(y, df=4)", "is not one column of numbers"),
    ("np.log(y)", r"np.log\(y\) gives NaN in"),
]


@pytest.mark.parametrize(("response", "message"), NOT_RESPONSES)
def test_responses_that_are_refused(response: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        design(f"{response} ~ 1", family="binomial" if "prop" in response else "gaussian")


def test_levels_of_a_call_count_as_the_error_says() -> None:
    np.testing.assert_array_equal(design("I(answer == 'yes') ~ 1").y, design("answer['yes'] ~ 1").y)
    np.testing.assert_array_equal(design("I(np.array(answer) == 'yes') ~ 1").y, design("answer['yes'] ~ 1").y)


# --- offsets and weights ----------------------------------------------------------------------------------------------


def test_offsets_add_up() -> None:
    assert (design("y ~ x").offset == 0).all()
    found = design("y ~ x + offset(np.log(exposure)) + offset(z)")
    np.testing.assert_allclose(found.offset, np.log(DATA["exposure"]) + DATA["z"])
    assert found.coefs == ("Intercept", "x")
    with pytest.raises(DataError, match=r"offset\(answer\) is not one column of numbers"):
        design("y ~ x + offset(answer)")


def test_weights_are_a_column_or_an_array() -> None:
    assert design("y ~ x").weights is None
    for weights in ("w", DATA["w"].to_numpy(), DATA["w"], DATA["w"].tolist()):
        np.testing.assert_array_equal(design("y ~ x", weights=weights).weights, DATA["w"])
    assert design("y ~ x", weights="hits", data=DATA.assign(hits=2)).weights.tolist() == [2.0] * len(DATA)


GAP = DATA.assign(x=DATA["x"].where(DATA.index != 4))
# (data, weights, message)
NOT_WEIGHTS: list[tuple[pd.DataFrame, Any, str]] = [
    (DATA, "weight", "weights= names the column 'weight', which is not there; the columns are: y, x"),
    (DATA, "answer", "the weights 'answer' are not numbers"),
    (DATA, "hits", "precision weights must be positive.*; 3 are not"),
    (DATA, np.ones(3), r"weights has shape \(3,\), but the table has 12 rows"),
    (DATA, np.ones((12, 1)), r"weights has shape \(12, 1\)"),
    (DATA, np.full(12, np.nan), "precision weights must be positive.*; 12 are not"),
    (GAP, np.ones(12), "1 rows with missing values are dropped, so weights must be a column"),
]


@pytest.mark.parametrize(("data", "weights", "message"), NOT_WEIGHTS)
def test_weights_that_are_refused(data: pd.DataFrame, weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        design("y ~ x", data, weights=weights)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_dropped_rows() -> None:
    data = DATA.assign(
        y=DATA["y"].where(DATA.index != 0),
        g=DATA["g"].where(DATA["g"] != "c"),
        w=DATA["w"].where(DATA.index != 5),
        exposure=DATA["exposure"].where(DATA.index != 6),
        z=np.nan,
        t=DATA.index,
    ).set_axis([f"row {k}" for k in DATA.index])
    model = hp.Model("y ~ x + offset(exposure) + (1 | g)", data, weights="w", panel=("g", "t"))
    assert (model.spec.n, model.spec.n_total) == (6, 12)
    assert model.spec.dropped == (("y", 1), ("exposure", 1), ("g", 3), ("w", 1))
    assert model.design.index.tolist() == [f"row {k}" for k in (4, 7, 8, 9, 10, 11)]
    assert model.design.groups[0].levels.tolist() == ["a", "b"]
    np.testing.assert_array_equal(model.design.y, DATA["y"][[4, 7, 8, 9, 10, 11]])
    np.testing.assert_array_equal(model.design.weights, DATA["w"][[4, 7, 8, 9, 10, 11]])


PANEL = pd.DataFrame(
    {"wage": [1.0, 2.0, 4.0, 3.0, 5.0], "worker": ["a", "a", "b", "b", "b"], "year": [2000, 2001, 2000, 2002, 2003]},
    index=[10, 11, 12, 13, 14],
)


def test_a_panel_holds_each_unit_and_time_once() -> None:
    assert design("wage ~ 1", PANEL, panel=("worker", "year")).n == 5
    assert design("wage ~ 1", PANEL.set_index(["worker", "year"]), panel=("worker", "year")).n == 5
    twice = PANEL.assign(year=[2000, 2001, 2003, 2002, 2003])
    message = r"\(worker, year\) must occur once, but 2 rows share .* worker b, year 2003 in rows 12, 14$"
    with pytest.raises(DataError, match=message):
        design("wage ~ 1", twice, panel=("worker", "year"))
    missing = twice.assign(wage=PANEL["wage"].where(PANEL.index != 12))
    with pytest.raises(DataError, match=message):  # its lags would be ambiguous, whether or not the row is used
        design("wage ~ 1", missing, panel=("worker", "year"))


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        ("worker", r"panel names two columns, \(unit, time\)"),
        (("worker",), "panel names two columns"),
        (
            ("worker", "month"),
            "panel= names the column 'month', which is not there; the columns are: wage, worker, year",
        ),
    ],
)
def test_panels_that_are_refused(panel: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        design("wage ~ 1", PANEL, panel=panel)


# --- what is refused --------------------------------------------------------------------------------------------------


def named(name: str) -> pd.DataFrame:
    """The table, with g under another name."""
    return DATA.rename(columns={"g": name, "y": "wage"})


TAKEN = "a grouping factor cannot be called"
# (formula, data, message)
REFUSED: list[tuple[str, pd.DataFrame, str]] = [
    (
        "y ~ (1 | g)",
        DATA.assign(g="only"),
        r"the grouping factor g has one level \(only\) in the 12 rows that are used",
    ),
    ("y ~ fe(g)", DATA.assign(g=7), r"the grouping factor g has one level \(7\)"),
    ("y ~ x + (1 | h)", DATA.assign(x=DATA["x"].where(DATA["h"] == "u")), r"h has one level \(u\) in the 6 rows"),
    *((f"wage ~ (1 | {name})", named(name), f"{TAKEN} '{name}': the posterior uses that name") for name in RESERVED),
    *((f"wage ~ fe({name})", named(name), f"{TAKEN} '{name}'") for name in ("beta", "sigma", "coef", "chain", "draw")),
    ("wage ~ (1 | `a/b`)", named("a/b"), f"{TAKEN} 'a/b': it holds '/'"),
    ("wage ~ (1 | h:`a/b`)", named("a/b"), f"{TAKEN} 'h:a/b': it holds '/'"),
    ("wage ~ (1 | c_h) + (1 | h)", named("c_h"), "factors c_h and h would share the name 'sd_c_h'"),
    ("wage ~ (1 | h) + (1 | coef_h)", named("coef_h"), "factors h and coef_h would share the name 'coef_h'"),
    ("wage ~ (1 | h) + (1 | sd_h)", named("sd_h"), "factors h and sd_h would share the name 'sd_h'"),
    ("wage ~ (1 | h) + (1 | b_h)", named("b_h"), "would share the name 'b_h' in the posterior; rename"),
    ("y ~ 0 + Intercept", DATA.rename(columns={"x": "Intercept"}), "a column cannot be called 'Intercept'"),
    ("y ~ (0 + Intercept | g)", DATA.rename(columns={"x": "Intercept"}), "a column cannot be called 'Intercept'"),
    ("y ~ Intercept", DATA.rename(columns={"x": "Intercept"}), "two columns of the coefficients would both be called"),
    ("y ~ (0 + x | g) + (x:x | g)", DATA, "varies by g twice"),
    ("y ~ (0 + x | g) + (1 + I(2 * x) + x | g)", DATA, "varies by g twice"),
    ("y ~ (x + I(2 * x) | g)", DATA, r"the columns of \(1 \+ x \+ I\(2 \* x\) \| g\) are exactly collinear"),
    ("y ~ x + c", DATA.assign(c=3.0), r"the column 'c' of the coefficients is constant \(3 in every row\)"),
]


@pytest.mark.parametrize(("formula", "data", "message"), REFUSED)
def test_refused_designs(formula: str, data: pd.DataFrame, message: str) -> None:
    with pytest.raises((DataError, FormulaError), match=message):
        design(formula, data)


def test_names_that_only_look_taken() -> None:
    for name in ("level", "sample", "coef_x", "sd_x", "worker_2", "mean"):
        model = hp.Model(f"wage ~ (1 | {name}) + (1 | h)", named(name))
        assert model.to_pymc().coords[name] == ("a", "b", "c")


BY_UNIT = DATA["g"].map({"a": 0.1, "b": 0.3, "c": 0.7})
UNITS = DATA.assign(
    education=BY_UNIT,
    rounded=BY_UNIT * 3 + np.where(DATA["h"] == "u", 0, 1e-14),
    region=np.where(DATA["g"] == "a", "north", "south"),
    period=DATA["h"].map({"u": 1.0, "v": 2.0}),
)
# (formula, the column and the factor that are named)
CONSTANT_WITHIN = [
    ("y ~ x + education + fe(g)", "education", "g"),
    ("y ~ 0 + x + education + fe(g)", "education", "g"),
    ("y ~ x + rounded + fe(g)", "rounded", "g"),
    ("y ~ x + region + fe(g)", r"region\[south\]", "g"),
    ("y ~ x + I(education**2) + fe(g)", r"I\(education \*\* 2\)", "g"),
    ("y ~ x + period + fe(g) + fe(h)", "period", "h"),
    ("y ~ education + fe(g:h)", "education", "g:h"),
]


@pytest.mark.parametrize(("formula", "column", "factor"), CONSTANT_WITHIN)
def test_a_column_that_is_constant_within_units_cannot_stand_beside_their_fixed_effects(
    formula: str, column: str, factor: str
) -> None:
    message = rf"the column '{column}' does not vary within the units of fe\({factor}\), .* or use \(1 \| {factor}\)$"
    with pytest.raises(DataError, match=message):
        design(formula, UNITS)


def test_a_column_that_varies_within_units_can() -> None:
    assert design("y ~ x + period + education:period + fe(g)", UNITS).coefs[1:] == ("x", "period", "education:period")
    assert design("y ~ education + (1 | g) + fe(h)", UNITS).coefs == ("Intercept", "education")


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def peak() -> Callable[[Callable[[], Any]], tuple[Any, float]]:
    """A function that runs another and returns its result and the most memory that it held, in megabytes."""

    def run(make: Callable[[], Any]) -> tuple[Any, float]:
        tracemalloc.start()
        try:
            return make(), tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()

    return run


def test_memory_grows_with_rows_and_not_with_rows_times_levels(peak: Any) -> None:
    n, G = 100_000, 5_000
    rng = np.random.default_rng(1)
    worker = rng.permutation(np.arange(n) % G)
    data = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n), "worker": worker, "year": np.arange(n) % 20})
    model, megabytes = peak(lambda: hp.Model("y ~ x + (1 + x | worker) + (1 | worker:year)", data))
    workers, years = model.design.groups
    assert (len(workers.levels), workers.Z.shape) == (G, (n, 2))
    assert len(years.levels) == len(data.drop_duplicates(["worker", "year"]))
    assert megabytes < 300  # one array of rows × workers takes 4000


def test_a_column_that_is_a_sum_of_effects_of_two_factors_is_named() -> None:
    """Experience = year + a constant of each worker: no two-way fixed effects model can tell it from them."""
    df = hp.datasets.load("wage_sim")
    with pytest.raises(DataError, match=r"'experience' is a sum of unit effects of fe\(worker\) and fe\(year\)"):
        hp.Model("log_wage ~ experience + fe(worker) + fe(year)", df)


def test_columns_that_are_collinear_within_units_are_named() -> None:
    df = hp.datasets.load("wage_sim").assign(other=lambda d: 2 * d.experience + d.worker % 7)
    with pytest.raises(DataError, match=r"within the units of fe\(worker\) the column 'other' .* of 'experience'"):
        hp.Model("log_wage ~ experience + other + fe(worker)", df)


def test_demeaning_by_two_factors_is_regression_on_their_dummies() -> None:
    rng = np.random.default_rng(3)
    a, b, x = rng.integers(0, 6, 80), rng.integers(0, 4, 80), rng.normal(size=(80, 2))
    dummies = np.column_stack([np.eye(6)[a], np.eye(4)[b]])
    left = x - dummies @ np.linalg.lstsq(dummies, x, rcond=None)[0]
    np.testing.assert_allclose(demean(x, [a, b]), left, atol=1e-9)
    np.testing.assert_allclose(demean(x, [a]), x - np.eye(6)[a] @ np.linalg.lstsq(np.eye(6)[a], x, rcond=None)[0])


def test_columns_constant_within_units_are_told_from_others_up_to_rounding() -> None:
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(6), 5)
    of_unit = rng.normal(size=6)[codes]
    columns = np.stack([of_unit, np.full(30, 0.1), of_unit * (1 + 1e-15), rng.normal(size=30), of_unit], axis=1)
    columns[3, 4] += 1e-3
    assert constant_within(columns, [codes]).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ (1 | X)", {}),
        ("y ~ (1 | offset)", {}),
        ("y ~ (1 | weights)", {"weights": "w"}),
        ("prop(k, n) ~ (1 | trials)", {"family": "binomial"}),
    ],
)
def test_a_factor_cannot_have_the_name_of_what_is_stored_beside_it(formula: str, options: dict[str, Any]) -> None:
    columns = {name: ["a", "b", "a", "b"] for name in ("X", "offset", "weights", "trials")}
    df = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "w": 1.0, "k": [1, 2, 0, 1], "n": 3, **columns})
    with pytest.raises(DataError, match="cannot be called"):
        hp.Model(formula, df, **options)


def test_a_category_of_one_level_is_an_error() -> None:
    df = hp.datasets.load("dyestuff").assign(country="NL")
    with pytest.raises(DataError, match=r"country of the coefficients has one level \(NL\) in the 30 rows"):
        hp.Model("yield_ ~ country + (1 | batch)", df)
