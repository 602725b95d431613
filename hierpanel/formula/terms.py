"""A formula string comes in, a `Formula` goes out: response, common terms, offsets and grouping factors with blocks.

The bars are read here because formulae cannot tell `(x | g)` from `(1 | g) + (0 + x | g)`. Terms are tuples of
column expressions in their canonical spelling, so a `Formula` is made of strings alone: it compares, hashes and prints.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hierpanel.errors import FormulaError
from hierpanel.formula import syntax
from hierpanel.formula.syntax import quoted, unparse

# A term is the tuple of column expressions that it multiplies; the intercept is a flag, not a term.
Term = tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """The columns of one bar: they vary together (`correlated`), each by itself, or with a fixed wide sd (`fixed`).

    `(1 + x | g)` is Block(True, (("x",),)); `fe(g)` is Block(True, (), fixed=True).
    """

    intercept: bool
    terms: tuple[Term, ...]
    correlated: bool = True
    fixed: bool = False

    def __str__(self) -> str:
        columns = [str(int(self.intercept)), *(":".join(term) for term in self.terms)]
        return " + ".join(columns)


@dataclass(frozen=True)
class Group:
    """One grouping factor and its blocks; `factor` holds the columns whose observed combinations are the levels."""

    factor: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        """The factor's name in tables and in the posterior: the columns joined by ':'."""
        return ":".join(self.factor)

    def __str__(self) -> str:
        factor = ":".join(quoted(column) for column in self.factor)
        bars = [
            f"fe({factor})" if block.fixed else f"({block} {'|' if block.correlated else '||'} {factor})"
            for block in self.blocks
        ]
        return " + ".join(bars)


@dataclass(frozen=True)
class Formula:
    """A formula that has been read; `str()` is its canonical form, which parses back to an equal `Formula`.

    Examples
    --------
    >>> print(parse("y ~ x*z + (x | school/room)"))
    y ~ 1 + x + z + x:z + (1 + x | school) + (1 + x | school:room)
    """

    response: str
    intercept: bool
    terms: tuple[Term, ...]
    offsets: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    source: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        parts = [str(Block(self.intercept, self.terms))]
        parts += [f"offset({offset})" for offset in self.offsets]
        parts += [str(group) for group in self.groups]
        return f"{self.response} ~ {' + '.join(parts)}"

    def column_expressions(self) -> tuple[str, ...]:
        """Every column expression that must be evaluated, response first, each once, in order of appearance."""
        terms = [self.terms, *(block.terms for group in self.groups for block in group.blocks)]
        found = [self.response, *(part for group in terms for term in group for part in term), *self.offsets]
        return tuple(dict.fromkeys(found))


def parse(text: str) -> Formula:
    """Read a formula in lme4's notation.

    Parameters
    ----------
    text : str
        For example ``"log_wage ~ experience + (1 + experience | worker)"``.

    Raises
    ------
    FormulaError
        Where the formula cannot be read, with a caret under the place.

    Examples
    --------
    >>> parse("y ~ x + (x || g)").groups[0].blocks[0].correlated
    False
    """
    if isinstance(text, Formula):
        return text
    if not isinstance(text, str):
        raise FormulaError(f"a formula is a string, not {type(text).__name__}", "y ~ x + (1 | g)")
    return _Reader(text).formula()


class _Terms:
    """Terms in order of first appearance, and what was said of the intercept (None: nothing)."""

    def __init__(self, terms: Iterable[Term] = (), intercept: bool | None = None):
        self.terms: dict[frozenset[str], Term] = {}
        for term in terms:
            self.terms.setdefault(frozenset(term), term)
        self.intercept = intercept

    def __iter__(self) -> Any:
        return iter(self.terms.values())

    def by_order(self) -> tuple[Term, ...]:
        """Main effects first, then the interactions of two, and so on (R's order)."""
        return tuple(sorted(self.terms.values(), key=len))


def _product(*terms: Term) -> Term:
    return tuple(dict.fromkeys(part for term in terms for part in term))


class _Reader:
    """Walks the syntax tree of one string; it holds the string so that errors can show the place."""

    def __init__(self, text: str):
        self.text = text
        self.offsets: list[str] = []
        self.groups: dict[frozenset[str], tuple[tuple[str, ...], list[Block]]] = {}

    def formula(self) -> Formula:
        tree = syntax.parse_tree(self.text)
        if type(tree).__name__ != "Binary" or tree.operator.kind != "TILDE":
            raise FormulaError("there is no '~': write 'response ~ terms'", self.text, 0, len(self.text))
        response = self.response(tree.left)
        common = self.sum(tree.right, top=True)
        for term in common:
            if response in term:
                raise self.error(f"the response {response} stands on both sides of '~'", tree.right)
        if common.intercept is False and not common.terms and not self.groups and not self.offsets:
            raise self.error("there is nothing on the right of '~' to estimate", tree.right)
        return Formula(
            response=response,
            intercept=common.intercept is not False,
            terms=common.by_order(),
            offsets=tuple(self.offsets),
            groups=tuple(Group(factor, tuple(blocks)) for factor, blocks in self.groups.values()),
            source=self.text,
        )

    def error(self, message: str, node: Any) -> FormulaError:
        place = syntax.span(node)
        if place is None:
            tilde = self.text.find("~") + 1
            place = (tilde, len(self.text)) if tilde else (0, len(self.text))
        return FormulaError(message, self.text, *place)

    def response(self, node: Any) -> str:
        match type(node).__name__:
            case "Variable" | "QuotedName":
                return unparse(node)
            case "Call" if syntax.call_name(node) == "cbind":
                raise self.error("write successes out of trials as prop(successes, trials)", node)
            case "Call" if syntax.call_name(node) in ("fe", "offset"):
                raise self.error(f"{syntax.call_name(node)}() cannot be the response", node)
            case "Call":
                return unparse(node)
            case "Binary" if node.operator.kind == "PIPE":
                raise self.error("a response has no bar; precision weights are given as weights=, trials as prop(y, n)", node)
        raise self.error("the response must be one column or one function call, as in I(a + b)", node)

    def sum(self, node: Any, top: bool = False) -> _Terms:
        """Read terms joined by + and -; bars, fe() and offset() may stand only at the `top`."""
        match type(node).__name__:
            case "Binary" if node.operator.kind == "PLUS":
                left, right = self.sum(node.left, top), self.sum(node.right, top)
                return _Terms([*left, *right], left.intercept if right.intercept is None else right.intercept)
            case "Binary" if node.operator.kind == "MINUS":
                left, right = self.sum(node.left, top), self.sum(node.right)
                gone = set(right.terms)
                kept = [term for key, term in left.terms.items() if key not in gone]
                unknown = [":".join(term) for key, term in right.terms.items() if key not in left.terms]
                if unknown:
                    raise self.error(f"'- {unknown[0]}' takes away a term that is not there", node.right)
                return _Terms(kept, left.intercept if right.intercept is None else not right.intercept)
            case "Unary":
                inner = self.sum(node.right, top and node.operator.kind == "PLUS")
                if node.operator.kind == "PLUS":
                    return inner
                if inner.terms or inner.intercept is None:
                    raise self.error("'-' at the start can only take away the intercept, as in '-1 + x'", node)
                return _Terms((), not inner.intercept)
            case "Grouping" if (bar := _bar_inside(node)) is not None:
                if not top:
                    raise self.error("a bar can only be added: write '+ (x | g)'", node)
                self.bar(bar)
                return _Terms()
            case "Grouping":
                return self.sum(node.expression, top)
            case "Call" if syntax.call_name(node) in ("fe", "offset"):
                if not top:
                    raise self.error(f"{syntax.call_name(node)}() can only be added as a term of its own", node)
                self.fe(node) if syntax.call_name(node) == "fe" else self.offset(node)
                return _Terms()
        return self.interaction(node)

    def interaction(self, node: Any) -> _Terms:
        """Read one term, or the terms that '*', ':', '/' and '**' stand for."""
        match type(node).__name__:
            case "Variable" if node.level is not None:
                raise self.error("name[level] can only be the response; use I(name == 'level')", node)
            case "Call" if syntax.call_name(node) in ("fe", "offset"):
                raise self.error(f"{syntax.call_name(node)}() can only be added as a term of its own", node)
            case "Variable" | "QuotedName" | "Call":
                return _Terms([(unparse(node),)])
            case "Literal" if node.value in (0, 1) and not isinstance(node.value, (bool, float)):
                return _Terms((), bool(node.value))
            case "Literal":
                raise self.error(f"{unparse(node)} is not a column; only 0 and 1 (the intercept) can stand by themselves", node)
            case "Binary":
                return self.operator(node)
        return self.sum(node)

    def operator(self, node: Any) -> _Terms:
        kind = node.operator.kind
        if kind == "PIPE":
            raise self.error("a bar needs parentheses of its own, as in (x | g)", node)
        if kind in ("PLUS", "MINUS"):
            return self.sum(node)
        if kind == "STAR_STAR":
            return self.power(node)
        if kind not in ("STAR", "COLON", "SLASH"):
            raise self.error(f"a comparison is a column when it is written I({unparse(node)})", node)
        left, right = self.interaction(node.left), self.interaction(node.right)
        if not left.terms or not right.terms:
            raise self.error(f"'{node.operator.lexeme}' needs a column on both sides", node)
        intercept = left.intercept if right.intercept is None else right.intercept
        if kind == "SLASH":
            return _Terms([*left, *(_product(*left, term) for term in right)], intercept)
        crossed = [_product(a, b) for a in left for b in right]
        return _Terms([*left, *right, *crossed] if kind == "STAR" else crossed, intercept)

    def power(self, node: Any) -> _Terms:
        base = self.interaction(node.left)
        exponent = getattr(node.right, "value", None)
        if not isinstance(exponent, int) or isinstance(exponent, bool) or exponent < 1 or not base.terms:
            raise self.error("'**' takes terms and a whole number, as in (a + b)**2; powers of a column are I(x**2)", node)
        terms = list(base)
        for _ in range(exponent - 1):
            terms = list(_Terms([*terms, *(_product(a, b) for a in terms for b in base)]))
        return _Terms(terms, base.intercept)

    def offset(self, node: Any) -> None:
        if len(node.args) != 1:
            raise self.error("offset() takes one column, as in offset(log(n))", node)
        self.offsets.append(unparse(node.args[0]))

    def fe(self, node: Any) -> None:
        factors = self.factors(node.args[0]) if len(node.args) == 1 else []
        if len(factors) != 1:
            raise self.error("fe() takes one grouping factor, as in fe(worker) or fe(firm:year)", node)
        self.add(factors[0], Block(True, (), fixed=True), node)

    def bar(self, node: Any) -> None:
        """Read `columns | factors`; every factor that '/' stands for gets the block."""
        if any(type(child).__name__ == "Binary" and child.operator.kind == "PIPE" for child in syntax.walk(node)[1:]):
            raise self.error("one bar in a pair of parentheses: write (x | g) + (x | h)", node)
        columns = self.sum(node.left)
        intercept = columns.intercept is not False
        terms = columns.by_order()
        if not intercept and not terms:
            raise self.error("there is no column on the left of the bar; a varying intercept is (1 | g)", node.left)
        block = Block(intercept, terms, correlated=node.operator.lexeme == "|" or not terms)
        for factor in self.factors(node.right):
            self.add(factor, block, node)

    def factors(self, node: Any) -> list[tuple[str, ...]]:
        """Read the right side of a bar: columns joined by ':' (combinations) and '/' (nesting)."""
        match type(node).__name__:
            case "Variable" if node.level is None:
                return [(node.name.lexeme,)]
            case "QuotedName":
                return [(node.expression.lexeme[1:-1],)]
            case "Grouping":
                return self.factors(node.expression)
            case "Binary" if node.operator.kind in ("COLON", "SLASH"):
                left, right = self.factors(node.left), self.factors(node.right)
                if node.operator.kind == "COLON":
                    return [_product(a, b) for a in left for b in right]
                return [*left, *(_product(*left, b) for b in right)]
            case "Binary" if node.operator.kind in ("PLUS", "STAR"):
                a, b = unparse(node.left), unparse(node.right)
                crossed = f" + (... | {a}:{b})" if node.operator.kind == "STAR" else ""
                raise self.error(f"write one bar for each factor: (... | {a}) + (... | {b}){crossed}", node)
            case "Call":
                raise self.error("a grouping factor is a column, or columns joined by ':' or '/'; make a column of this first", node)
        raise self.error("a grouping factor is a column, or columns joined by ':' or '/'", node)

    def add(self, factor: tuple[str, ...], block: Block, node: Any) -> None:
        """Put the block with its factor; `g:h` and `h:g` are one factor."""
        for column in factor:
            if quoted(column) == self.text.split("~")[0].strip():
                raise self.error(f"the response {column} cannot be a grouping factor", node)
        name, blocks = self.groups.setdefault(frozenset(factor), (factor, []))
        for other in blocks:
            twice = [":".join(term) for term in block.terms if frozenset(term) in map(frozenset, other.terms)]
            if block.intercept and other.intercept:
                twice.insert(0, "the intercept")
            if twice:
                without = "; write (0 + ... | g) for a block without an intercept" if block.intercept else ""
                raise self.error(f"{twice[0]} varies by {':'.join(name)} twice{without}", node)
        blocks.append(block)


def _bar_inside(node: Any) -> Any:
    """Return the bar that a pair (or several pairs) of parentheses holds, or None."""
    while type(node).__name__ == "Grouping":
        node = node.expression
    return node if type(node).__name__ == "Binary" and node.operator.kind == "PIPE" else None
