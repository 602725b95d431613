"""Formula strings: what each one means (its canonical form), and what is said of those that mean nothing."""

import inspect
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierpanel import errors
from hierpanel.errors import FormulaError, HierpanelError
from hierpanel.formula import Block, Group, parse

# (formula, canonical form); the terms of the common part are those of R's terms(), the bars are lme4's
GOOD = [
    # the common part: +, -, the intercept
    ("y ~ 1", "y ~ 1"),
    ("y ~ x", "y ~ 1 + x"),
    ("y ~ x + z", "y ~ 1 + x + z"),
    ("y ~ +x", "y ~ 1 + x"),
    ("y ~ x + x", "y ~ 1 + x"),
    ("y ~ 0 + x", "y ~ 0 + x"),
    ("y ~ x + 0", "y ~ 0 + x"),
    ("y ~ x - 1", "y ~ 0 + x"),
    ("y ~ -1 + x", "y ~ 0 + x"),
    ("y ~ -0 + x", "y ~ 1 + x"),
    ("y ~ x - 0", "y ~ 1 + x"),
    ("y ~ x + 0 + 1", "y ~ 1 + x"),
    ("y ~ 1 + x - 1", "y ~ 0 + x"),
    ("y ~ (x - 1) + z", "y ~ 0 + x + z"),
    ("y ~ x + z - x", "y ~ 1 + z"),
    ("y ~ (x + z) - (x)", "y ~ 1 + z"),
    ("y ~ 0 + (1 | g)", "y ~ 0 + (1 | g)"),
    ("y ~ 0 + offset(n)", "y ~ 0 + offset(n)"),
    ("y ~ 0 + offset(I(2*n))", "y ~ 0 + offset(I(2 * n))"),
    ("y ~ ((x))", "y ~ 1 + x"),
    # * : / **
    ("y ~ x:z", "y ~ 1 + x:z"),
    ("y ~ x:z + z:x", "y ~ 1 + x:z"),
    ("y ~ x:x", "y ~ 1 + x"),
    ("y ~ x*z", "y ~ 1 + x + z + x:z"),
    ("y ~ x*z - x", "y ~ 1 + z + x:z"),
    ("y ~ x*z - x:z", "y ~ 1 + x + z"),
    ("y ~ x*z*h", "y ~ 1 + x + z + h + x:z + x:h + z:h + x:z:h"),
    ("y ~ (x + z)*h", "y ~ 1 + x + z + h + x:h + z:h"),
    ("y ~ x*z:h", "y ~ 1 + x + z:h + x:z:h"),
    ("y ~ x:(z + h)", "y ~ 1 + x:z + x:h"),
    ("y ~ x:z + h", "y ~ 1 + h + x:z"),
    ("y ~ (x + z)**2", "y ~ 1 + x + z + x:z"),
    ("y ~ (x + z + h)**2", "y ~ 1 + x + z + h + x:z + x:h + z:h"),
    ("y ~ (x + z + h)**3", "y ~ 1 + x + z + h + x:z + x:h + z:h + x:z:h"),
    ("y ~ (x + z)**999999999", "y ~ 1 + x + z + x:z"),
    ("y ~ (x*z)**2", "y ~ 1 + x + z + x:z"),
    ("y ~ (x)**2", "y ~ 1 + x"),
    ("y ~ x/z", "y ~ 1 + x + x:z"),
    ("y ~ a/b/c", "y ~ 1 + a + a:b + a:b:c"),
    ("y ~ (a + b)/c", "y ~ 1 + a + b + a:b:c"),
    ("y ~ a/(b + c)", "y ~ 1 + a + a:b + a:c"),
    # calls, keywords, braces, literals, backquotes
    ("y ~ log(x)", "y ~ 1 + log(x)"),
    ("y ~ np.log(x + 1)", "y ~ 1 + np.log(x + 1)"),
    ("y ~ f()", "y ~ 1 + f()"),
    ("y ~ f(g(h(x)))", "y ~ 1 + f(g(h(x)))"),
    ("y ~ I(x**2) + I( x ** 2 )", "y ~ 1 + I(x ** 2)"),
    ("y ~ {x + 1}", "y ~ 1 + I(x + 1)"),
    ("y ~ { x/z } + I(x / z)", "y ~ 1 + I(x / z)"),
    ("y ~ I(-x**2)", "y ~ 1 + I(-x ** 2)"),
    ("y ~ I((-x)**2)", "y ~ 1 + I((-x) ** 2)"),
    ("y ~ I(x == 0)", "y ~ 1 + I(x == 0)"),
    ("y ~ I((0 < x) * (x < 1))", "y ~ 1 + I((0 < x) * (x < 1))"),
    ("y ~ bs(x, df=4, degree = 3)", "y ~ 1 + bs(x, df=4, degree=3)"),
    ("y ~ f(x, up=x > 0, on=True, of=None)", "y ~ 1 + f(x, up=x > 0, on=True, of=None)"),
    ("y ~ f(x, a=1e-3, b=.5, c=2., d=1e3)", "y ~ 1 + f(x, a=0.001, b=0.5, c=2.0, d=1000.0)"),
    ('y ~ T(h, ref="b")', "y ~ 1 + T(h, ref='b')"),
    ('y ~ f(x, "it\'s")', 'y ~ 1 + f(x, "it\'s")'),
    ("y ~ f(x, 'say \"so\"')", "y ~ 1 + f(x, 'say \"so\"')"),
    ("y ~ bs(x, 4):h", "y ~ 1 + bs(x, 4):h"),
    ("y ~ scale(log(x))*h", "y ~ 1 + scale(log(x)) + h + scale(log(x)):h"),
    ("y ~ `my col` + `x`", "y ~ 1 + `my col` + x"),
    ("y ~ `my col`:z + log(`my col`)", "y ~ 1 + log(`my col`) + `my col`:z"),
    ("y ~ `1` + `None`", "y ~ 1 + `1` + `None`"),
    ("y ~ _x + x_1 + a.b + größe", "y ~ 1 + _x + x_1 + a.b + größe"),
    # responses
    ("log(y) ~ x", "log(y) ~ 1 + x"),
    ("np.log(y + 1) ~ x", "np.log(y + 1) ~ 1 + x"),
    ("I(y / n) ~ x", "I(y / n) ~ 1 + x"),
    ("{y / n} ~ x", "I(y / n) ~ 1 + x"),
    ("`my y` ~ x", "`my y` ~ 1 + x"),
    ("prop(y, n) ~ x", "prop(y, n) ~ 1 + x"),
    ("prop(y, 10) ~ x", "prop(y, 10) ~ 1 + x"),
    ("y['yes'] ~ x", "y['yes'] ~ 1 + x"),
    ('y["yes"] ~ x', "y['yes'] ~ 1 + x"),
    ("y[yes] ~ x", "y['yes'] ~ 1 + x"),
    # the left of a bar
    ("y ~ x + (1 | g)", "y ~ 1 + x + (1 | g)"),
    ("y ~ (x | g)", "y ~ 1 + (1 + x | g)"),
    ("y ~ (1 + x | g)", "y ~ 1 + (1 + x | g)"),
    ("y ~ (x + 1 | g)", "y ~ 1 + (1 + x | g)"),
    ("y ~ (0 + x | g)", "y ~ 1 + (0 + x | g)"),
    ("y ~ (x + 0 | g)", "y ~ 1 + (0 + x | g)"),
    ("y ~ (x - 1 | g)", "y ~ 1 + (0 + x | g)"),
    ("y ~ (-1 + x | g)", "y ~ 1 + (0 + x | g)"),
    ("y ~ (x + z + 0 | g)", "y ~ 1 + (0 + x + z | g)"),
    ("y ~ (x + 0 + z | g)", "y ~ 1 + (0 + x + z | g)"),
    ("y ~ (0 + x + 1 | g)", "y ~ 1 + (1 + x | g)"),
    ("y ~ (0 + h | g)", "y ~ 1 + (0 + h | g)"),
    ("y ~ (x*z | g)", "y ~ 1 + (1 + x + z + x:z | g)"),
    ("y ~ (x:h | g)", "y ~ 1 + (1 + x:h | g)"),
    ("y ~ (h/x | g)", "y ~ 1 + (1 + h + h:x | g)"),
    ("y ~ ((x + z)**2 | g)", "y ~ 1 + (1 + x + z + x:z | g)"),
    ("y ~ (bs(x, 4) + `my col` | g)", "y ~ 1 + (1 + bs(x, 4) + `my col` | g)"),
    ("y ~ ((x | g))", "y ~ 1 + (1 + x | g)"),
    ("y ~ (x + (1 | g))", "y ~ 1 + x + (1 | g)"),
    # ||
    ("y ~ (x || g)", "y ~ 1 + (1 + x || g)"),
    ("y ~ (0 + x || g)", "y ~ 1 + (0 + x || g)"),
    ("y ~ (1 || g)", "y ~ 1 + (1 | g)"),
    ("y ~ (h || g)", "y ~ 1 + (1 + h || g)"),
    ("y ~ (x + z || g)", "y ~ 1 + (1 + x + z || g)"),
    ("y ~ (x || a/b)", "y ~ 1 + (1 + x || a) + (1 + x || a:b)"),
    # the right of a bar
    ("y ~ (1 | g:h)", "y ~ 1 + (1 | g:h)"),
    ("y ~ (1 | g:g)", "y ~ 1 + (1 | g)"),
    ("y ~ (1 | a:b:c)", "y ~ 1 + (1 | a:b:c)"),
    ("y ~ (x | g/h)", "y ~ 1 + (1 + x | g) + (1 + x | g:h)"),
    ("y ~ (1 | a/b/c)", "y ~ 1 + (1 | a) + (1 | a:b) + (1 | a:b:c)"),
    ("y ~ (1 | a/(b:c))", "y ~ 1 + (1 | a) + (1 | a:b:c)"),
    ("y ~ (1 | (a:b)/c)", "y ~ 1 + (1 | a:b) + (1 | a:b:c)"),
    ("y ~ (1 | a/b:c)", "y ~ 1 + (1 | a) + (1 | a:b:c)"),
    ("y ~ (x | (g))", "y ~ 1 + (1 + x | g)"),
    ("y ~ (1 | `my group`/h)", "y ~ 1 + (1 | `my group`) + (1 | `my group`:h)"),
    # several bars
    ("y ~ (1 | g) + (1 | h)", "y ~ 1 + (1 | g) + (1 | h)"),
    ("y ~ (x | g) + (1 | h) + z", "y ~ 1 + z + (1 + x | g) + (1 | h)"),
    ("y ~ (1 | g) + (0 + x | g)", "y ~ 1 + (1 | g) + (0 + x | g)"),
    ("y ~ (1 | g) + (1 | h) + (0 + x | g)", "y ~ 1 + (1 | g) + (0 + x | g) + (1 | h)"),
    ("y ~ (x | g) + (0 + z | g) + (0 + h || g)", "y ~ 1 + (1 + x | g) + (0 + z | g) + (0 + h || g)"),
    ("y ~ (1 | g:h) + (0 + x | h:g)", "y ~ 1 + (1 | g:h) + (0 + x | g:h)"),
    ("y ~ (1 | g) + (1 | g:h)", "y ~ 1 + (1 | g) + (1 | g:h)"),
    # fe() and offset()
    ("y ~ fe(worker)", "y ~ 1 + fe(worker)"),
    ("y ~ x + fe(firm:year)", "y ~ 1 + x + fe(firm:year)"),
    ("y ~ fe(worker) + fe(year)", "y ~ 1 + fe(worker) + fe(year)"),
    ("y ~ fe(g) + (0 + x | g)", "y ~ 1 + fe(g) + (0 + x | g)"),
    ("y ~ fe(`my group`)", "y ~ 1 + fe(`my group`)"),
    ("y ~ fe((g))", "y ~ 1 + fe(g)"),
    ("y ~ offset(n)", "y ~ 1 + offset(n)"),
    ("y ~ x + offset(log(n)) + offset(`my col`)", "y ~ 1 + x + offset(log(n)) + offset(`my col`)"),
    ("y ~ (1 | g) + offset(n) + x", "y ~ 1 + x + offset(n) + (1 | g)"),
    (
        "y ~ x + (1 + x | worker) + fe(firm) + offset(log(n)) - 1",
        "y ~ 0 + x + offset(log(n)) + (1 + x | worker) + fe(firm)",
    ),
    # white space
    ("y~x+(1|g)", "y ~ 1 + x + (1 | g)"),
    ("  y  ~  x+ ( 1|g ) ", "y ~ 1 + x + (1 | g)"),
    ("y ~ x +\n    z +\n\t(1 | g)\n", "y ~ 1 + x + z + (1 | g)"),
    ("y\xa0~ x\xa0+ z", "y ~ 1 + x + z"),
]

# (formula with « » around the text under the caret, a part of the message)
BAD = [
    # what formulae drops in silence
    ("y ~ x «z»", "unexpected 'z': terms are joined by '+'"),
    ("y ~ x«,» z", "unexpected ',': terms are joined by '+'"),
    ("y ~ x«)»", "there is no '(' that it closes"),
    ("y ~ x«|»g", "a bar needs parentheses, as in (x | g)"),
    ("y ~ x «%»in% h", "nesting is written g/h"),
    ("y ~ x «>» 0", "written I(x > 0)"),
    ("y ~ («x|p|g»)", "one bar in a pair of parentheses"),
    ("y ~ («x||p||g»)", "one bar in a pair of parentheses"),
    ("y ~ («x + (1|g) | h»)", "one bar in a pair of parentheses"),
    ("y ~ log(«x[a]»)", "name[level] cannot stand inside log(); write x == 'a'"),
    # unfinished
    ("«»", "the formula is empty; write for example"),
    ("« » ", "the formula is empty"),
    ("«y»", "there is no '~': write 'response ~ terms'"),
    ("«x + z»", "there is no '~'"),
    ("«y = x»", "there is no '~'"),
    ("«~» x", "the response is missing"),
    ("y «~»", "a column is missing after '~'"),
    ("y ~ x «+»", "a column is missing after '+'"),
    ("y ~ x «+»\n\n", "a column is missing after '+'"),
    ("y ~ «(»x", "this '(' is not closed"),
    ("y ~ log«(»x + (1 | g)", "this '(' is not closed"),
    ("y ~ x + (1 | g) + «(»1 | h", "this '(' is not closed"),
    ("y ~ «{»x + 1", "this '{' is not closed"),
    ("y['a' «~» x", "']' or an operator is missing before '~'"),
    ('y ~ x + «"»a', "this string is not closed"),
    ("y ~ x + «`»a", "this backquote is not closed"),
    ("y ~ x + «*» z", "a column is missing before '*'"),
    ("y ~ «:»x", "a column is missing before ':'"),
    ("y ~ («)»", "a column is missing before ')'"),
    ("y ~ f(x, «)»", "a column is missing before ')'"),
    ("y ~ (x |«)»", "a column is missing before ')'"),
    ("y ~ («|» g)", "a column is missing before '|'"),
    ("y ~ (x| «|»g)", "a column is missing before '|'"),
    ("y ~ (1|g)«(»1|h)", "a function's name or '+' is missing before it"),
    ("y ~ f(x)«(»z)", "a function's name or '+' is missing before it"),
    ("y ~ x\n  + z «w»\n  + (1 | g)", "terms are joined by '+'"),
    # another language's signs
    ("y ~ x «~» z", "a formula has one '~'"),
    ("y ~ log('~') «~» z", "a formula has one '~'"),
    ("y ~ x «=» z", "'=' belongs inside a function call"),
    ("y ~ («a=b»)", "'=' belongs inside a function call"),
    ("y ~ f((«a=b»))", "'=' belongs inside a function call"),
    ("y ~ «.»", "'.' is not a column; name the columns"),
    ("y ~ x«^»2", "powers of terms with '**', as in (a + b)**2"),
    ("y ~ x «==» 0", "written I(x == 0)"),
    ("y ~ «!»x", "'not' is written I(x == 0)"),
    ("y ~ I(x > 0 «and» z > 0)", "I((x > 0) * (z > 0))"),
    ("y ~ I(0 < x «<» 1)", "comparisons cannot be chained: write (a < x) * (x < b)"),
    ("y ~ I(x «//» 2)", "np.floor_divide(x, 2)"),
    ("y ~ I(x «%» 2)", "np.mod(x, 2)"),
    ("y ~ f(«[»1, 2])", "give it a name before"),
    ("y ~ df«$»x", "without the table"),
    ("y ~ x «#» z", "no comments"),
    ("y ~ f(x «for» x in z)", "')' or an operator is missing before 'for'"),
    ("y «∼» x", "not the '~' of the keyboard"),
    ("y ~ x «–» z", "not the '-' of the keyboard"),
    ("y ~ C(h, «“»a”)", "of the keyboard"),
    ("y ~ x²y + «²»", "unexpected '²'"),
    # terms
    ("y ~ «0»", "nothing on the right of '~' to estimate"),
    ("y ~ «y»", "the response y stands on both sides"),
    ("y ~ «x*y»", "the response y stands on both sides"),
    ("y ~ x - «z»", "'- z' takes away a term that is not there"),
    ("y ~ «-x»", "the negative of a column is I(-x)"),
    ("y ~ x + «2»", "2 is not a column; only 0 and 1"),
    ("y ~ «'a'»", "'a' is not a column"),
    ("y ~ «True»", "True is not a column"),
    ("y ~ «1/x»", "'/' needs a column on both sides; arithmetic is written I(1 / x)"),
    ("y ~ «x:0»", "':' needs a column on both sides"),
    ("y ~ («x > 0»)", "written I(x > 0)"),
    ("y ~ «x**2»", "a power of one column is I(x ** 2)"),
    ("y ~ «(x + z)**1.5»", "'**' takes terms and a whole number"),
    ("y ~ «(x + z)**0»", "'**' takes terms and a whole number"),
    ("y ~ «x[a]»", "name[level] can only be the response"),
    ("y ~ I(a«:»b)", "':' has no meaning inside I()"),
    ("y ~ log(f(x«|»g))", "'|' has no meaning inside f()"),
    ("y ~ «prop(a, b)»", "prop() can only be the response"),
    # responses
    ("«a + b» ~ x", "as in I(a + b)"),
    ("«1» ~ x", "the response must be one column"),
    ("«y | trials(n)» ~ x", "trials as prop(y, n)"),
    ("«cbind(a, b)» ~ x", "prop(successes, trials)"),
    ("«fe(y)» ~ x", "fe() cannot be the response"),
    ("log(«offset(y)») ~ x", "offset() cannot stand inside another function"),
    ("y[«1»] ~ x", "a level is text or a name, as in y['yes']"),
    # bars
    ("y ~ x + 1 «|» g", "a bar needs parentheses"),
    ("y ~ («0» | g)", "a varying intercept is (1 | g)"),
    ("y ~ (x | «1»)", "a grouping factor is a column"),
    ("y ~ (x | «g + h»)", "(... | g) + (... | h)"),
    ("y ~ (x | «g*h»)", "(... | g) + (... | h) + (... | g:h)"),
    ("y ~ (x | «f(g)»)", "make a column of this first"),
    ("y ~ (x | «g[a]»)", "a grouping factor is a column"),
    ("y ~ x + («1 | y»)", "the response y cannot be a grouping factor"),
    ("`y` ~ x + («1 | y»)", "the response y cannot be a grouping factor"),
    ("y ~ (1|g) + («1|g»)", "the intercept varies by g twice; leave one of them out"),
    ("y ~ (1|g) + («x|g»)", "the intercept varies by g twice; write (0 + ... | g)"),
    ("y ~ (x|g:h) + («0 + x|h:g»)", "x varies by g:h twice"),
    ("y ~ x - «(1 | g)»", "a bar can only be added"),
    ("y ~ x * «(1 | g)»", "a bar can only be added"),
    # fe() and offset()
    ("y ~ fe(g) + («1|g»)", "the intercept varies by g twice"),
    ("y ~ «fe(g, h)»", "fe() takes one grouping factor"),
    ("y ~ «fe()»", "fe() takes one grouping factor"),
    ("y ~ «fe(g/h)»", "as in fe(worker) or fe(firm:year)"),
    ("y ~ x*«fe(g)»", "fe() can only be added as a term of its own"),
    ("y ~ log(«fe(g)»)", "fe() cannot stand inside another function"),
    ("y ~ «offset(a, b)»", "offset() takes one column"),
    ("y ~ «offset(a=b)»", "offset() takes one column"),
    ("y ~ offset(«2*n»)", "arithmetic is written offset(I(2 * n))"),
    ("y ~ offset(«-n»)", "arithmetic is written offset(I(-n))"),
    ("y ~ offset((«n + 1»))", "arithmetic is written offset(I(n + 1))"),
    ("y ~ offset(«n > 1»)", "arithmetic is written offset(I(n > 1))"),
    ("y ~ offset(«1»)", "offset() takes one column, and this is a constant"),
    ("y ~ offset(«'n'»)", "offset() takes one column, and this is a constant"),
    ("y ~ («offset(n)» | g)", "offset() can only be added"),
    ("y ~ x - «offset(n)»", "offset() can only be added"),
]


@pytest.mark.parametrize(("formula", "canonical"), GOOD)
def test_canonical_form(formula: str, canonical: str) -> None:
    assert str(parse(formula)) == canonical
    assert parse(canonical) == parse(formula)
    assert hash(parse(canonical)) == hash(parse(formula))
    assert parse(formula).source == formula


def test_records() -> None:
    formula = parse("y ~ x:h + (x || g/h) + fe(worker) + offset(n)")
    diagonal = Block(True, (("x",),), correlated=False)
    assert (formula.response, formula.intercept, formula.terms, formula.offsets) == ("y", True, (("x", "h"),), ("n",))
    assert formula.groups == (
        Group(("g",), (diagonal,)),
        Group(("g", "h"), (diagonal,)),
        Group(("worker",), (Block(True, (), fixed=True),)),
    )
    assert [group.name for group in formula.groups] == ["g", "g:h", "worker"]
    assert parse("y ~ log(x):h + (x | g)").column_expressions() == ("y", "log(x)", "h", "x")
    assert parse(formula) is formula


def test_different_models_are_not_equal() -> None:
    same_columns = ["(x | g)", "(x || g)", "(1 | g) + (0 + x | g)", "(1 | g) + (x | h)", "x + (1 | g)"]
    assert len({parse(f"y ~ {right}") for right in same_columns}) == len(same_columns)


@pytest.mark.parametrize(("marked", "message"), BAD)
def test_error_shows_the_place(marked: str, message: str) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    formula = marked.replace("«", "").replace("»", "")
    with pytest.raises(FormulaError) as caught:
        parse(formula)
    error = caught.value
    assert message in error.problem
    assert (error.start, min(error.end, len(formula))) == (start, end)
    before, shown, carets = str(error).rsplit("\n", 2)
    assert before == error.problem + "\n"
    line_start = formula.rfind("\n", 0, start) + 1
    assert shown == "    " + (formula or " ")[line_start:].split("\n")[0]
    assert carets == "    " + " " * (start - line_start) + "^" * max(1, end - start)


def test_long_and_deep_formulas() -> None:
    names = [f"x{k}" for k in range(3000)]
    assert len(parse("y ~ " + " + ".join(names)).terms) == 3000
    assert len(parse("y ~ " + " + ".join(names) + " - " + " - ".join(names[1:])).terms) == 1
    with pytest.raises(FormulaError, match="nested too deeply"):
        parse("y ~ " + "(" * 2000 + "x" + ")" * 2000)


def test_only_a_string_is_a_formula() -> None:
    with pytest.raises(FormulaError, match="a formula is a string, not list"):
        parse(["y ~ x"])  # type: ignore[arg-type]


REPRODUCIBLE = settings(deadline=None, derandomize=True)

columns = st.sampled_from(
    ["x", "z", "h", "`my col`", "log(x)", "I(-x**2)", "{x/z}", "bs(z, df=4)", "f(x, s='a b', t=.5)"]
)


def joined(parts: st.SearchStrategy[str], sign: str, most: int = 3) -> st.SearchStrategy[str]:
    return st.lists(parts, min_size=1, max_size=most).map(sign.join)


sums = joined(columns, " + ")
terms = st.one_of(
    columns,
    joined(columns, " : "),
    joined(columns, " * "),
    joined(columns, " / "),
    st.builds("( {} ) ** {}".format, sums, st.integers(1, 3)),
    st.builds("( {} ) {} {}".format, sums, st.sampled_from([":", "*", "/"]), columns),
    st.builds("( {} - 1 )".format, sums),
)
lefts = st.one_of(
    st.just("1"),
    joined(terms, " + "),
    st.builds("{} {}".format, terms, st.sampled_from(["+ 0", "- 1", "+ 1", "+ 0 + x"])),
)
factors = st.one_of(joined(st.sampled_from("abc"), " : "), st.just("a / b"), st.just("( a : b ) / c"))


@st.composite
def formulas(draw: st.DrawFn) -> str:
    """Tokens with a space between any two; each bar has grouping factors of its own."""
    parts = [draw(joined(terms, " + "))]
    for k in range(draw(st.integers(0, 3))):
        factor = draw(factors).translate({ord(letter): f"{letter}{k}" for letter in "abc"})
        parts.append(f"( {draw(lefts)} {draw(st.sampled_from(['|', '||']))} {factor} )")
    parts += draw(st.lists(st.sampled_from(["0", "1", "fe( worker )", "offset( log(n) )"]), unique=True, max_size=3))
    response = draw(st.sampled_from(["y", "log(y)", "prop(y, n)", "y['yes']", "`my y`"]))
    return f"{response} ~ {' + '.join(draw(st.permutations(parts)))}"


@REPRODUCIBLE
@given(formulas())
def test_canonical_form_parses_back(formula: str) -> None:
    assert parse(str(parse(formula))) == parse(formula)
    assert str(parse(str(parse(formula)))) == str(parse(formula))


@REPRODUCIBLE
@given(formulas(), st.lists(st.sampled_from(["", " ", "  ", "\n", "\t ", "\u00a0"]), min_size=1))
def test_spaces_do_not_matter(formula: str, spaces: list[str]) -> None:
    quoted = {"`my col`": "`my\0col`", "`my y`": "`my\0y`", "'a b'": "'a\0b'"}
    for text, kept in quoted.items():
        formula = formula.replace(text, kept)
    tokens = formula.split(" ")
    spaced = "".join(token + spaces[k % len(spaces)] for k, token in enumerate(tokens)).replace("\0", " ")
    assert parse(spaced) == parse(formula.replace("\0", " "))


@REPRODUCIBLE
@given(st.text(alphabet="xyzg01 ~+-*/:()|[]{}`'\",.=<>!%^", max_size=30))
def test_any_text_is_a_formula_or_a_formula_error(text: str) -> None:
    try:
        formula = parse("y ~ " + text)
    except FormulaError:
        return
    assert parse(str(formula)) == formula


def test_errors_pickle() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("y ~ x\n + z w")
    back = pickle.loads(pickle.dumps(caught.value))
    assert (str(back), back.problem, back.formula) == (str(caught.value), caught.value.problem, caught.value.formula)
    assert (back.start, back.end) == (caught.value.start, caught.value.end)


@pytest.mark.parametrize("kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass)])
def test_every_error_pickles_and_is_ours(kind: type[HierpanelError]) -> None:
    error = FormulaError("why", "y ~ x z", 6, 7) if kind is FormulaError else kind("why")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert issubclass(kind, HierpanelError)
    assert issubclass(kind, ValueError)
