"""A formula string comes in, a `Formula` goes out: response, common terms, offsets and grouping factors with blocks.

The bars are read here because formulae cannot tell `(x | g)` from `(1 | g) + (0 + x | g)`. Terms are tuples of
column expressions in their canonical spelling, so a `Formula` is made of strings alone: it compares, hashes and prints.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hierpanel.errors import FormulaError
from hierpanel.formula import syntax, words
from hierpanel.formula.syntax import quoted, unparse

# What formulae calls successes out of trials.
_PROPORTIONS = ("prop", "proportion", "p")
# Calls that are terms, and no columns.
_ALONE = ("fe", "offset", "mundlak", *_PROPORTIONS)

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
        self.name = ""
        self.offsets: list[str] = []
        self.groups: dict[frozenset[str], tuple[tuple[str, ...], list[Block]]] = {}

    def formula(self) -> Formula:
        tree = syntax.parse_tree(self.text)
        if type(tree).__name__ != "Binary" or tree.operator.kind != "TILDE":
            raise FormulaError("there is no '~': write 'response ~ terms'", self.text, 0, len(self.text))
        response = self.name = self.response(tree.left)
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
        return FormulaError(message, self.text, *syntax.span(node))

    def response(self, node: Any) -> str:
        match type(node).__name__:
            case "Variable" | "QuotedName":
                return unparse(node)
            case "Call" if syntax.call_name(node) == "cbind":
                raise self.error("write successes out of trials as prop(successes, trials)", node)
            case "Call" if syntax.call_name(node) in ("fe", "offset", "mundlak", "initial"):
                raise self.error(f"{syntax.call_name(node)}() cannot be the response", node)
            case "Call":
                return self.expression(node)
            case "Binary" if node.operator.kind == "PIPE":
                message = "a response has no bar; precision weights are given as weights=, trials as prop(y, n)"
                raise self.error(message, node)
        raise self.error("the response must be one column or one function call, as in I(a + b)", node)

    def sum(self, node: Any, top: bool = False) -> _Terms:
        """Read terms joined by + and -; bars, fe() and offset() may stand only at the `top`."""
        chain: list[Any] = []
        while type(node).__name__ == "Binary" and node.operator.kind in ("PLUS", "MINUS"):
            chain.append(node)  # by a loop: long sums would pass Python's limit of recursion
            node = node.left
        total = self.summand(node, top)
        for node in reversed(chain):
            added = node.operator.kind == "PLUS"
            part = self.summand(node.right, top and added)
            if part.intercept is not None:
                total.intercept = part.intercept == added
            for key, term in part.terms.items():
                if added:
                    total.terms.setdefault(key, term)
                elif total.terms.pop(key, None) is None:
                    raise self.error(f"'- {':'.join(term)}' takes away a term that is not there", node.right)
        return total

    def summand(self, node: Any, top: bool) -> _Terms:
        """Read what stands between two signs."""
        match type(node).__name__:
            case "Unary":
                inner = self.sum(node.right, top and node.operator.kind == "PLUS")
                if node.operator.kind == "PLUS":
                    return inner
                if inner.terms or inner.intercept is None:
                    raise self.error("'-' takes away a term or the intercept; the negative of a column is I(-x)", node)
                return _Terms((), not inner.intercept)
            case "Grouping" if (bar := syntax.bar_inside(node)) is not None:
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
            case "Call" if syntax.call_name(node) == "mundlak":
                return self.mundlak(node)
        return self.interaction(node)

    def interaction(self, node: Any) -> _Terms:
        """Read one term, or the terms that '*', ':', '/' and '**' stand for."""
        match type(node).__name__:
            case "Variable" if node.level is not None:
                raise self.error("name[level] can only be the response; use I(name == 'level')", node)
            case "Call" if syntax.call_name(node) in ("fe", "offset"):
                raise self.error(f"{syntax.call_name(node)}() can only be added as a term of its own", node)
            case "Call" if syntax.call_name(node) == "mundlak":
                raise self.error("mundlak() is a sum of terms, and can only be added; in products use within(x)", node)
            case "Call" if syntax.call_name(node) in _PROPORTIONS:
                raise self.error(f"{syntax.call_name(node)}() can only be the response", node)
            case "Variable" | "QuotedName":
                return _Terms([(unparse(node),)])
            case "Call":
                return _Terms([(self.expression(node),)])
            case "Literal" if node.value in (0, 1) and not isinstance(node.value, (bool, float)):
                return _Terms((), bool(node.value))
            case "Literal":
                message = f"{unparse(node)} is not a column; only 0 and 1 (the intercept) can stand by themselves"
                raise self.error(message, node)
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
            arithmetic = f"; arithmetic is written I({unparse(node)})" if kind != "COLON" else ""
            raise self.error(f"'{node.operator.lexeme}' needs a column on both sides{arithmetic}", node)
        intercept = left.intercept if right.intercept is None else right.intercept
        if kind == "SLASH":
            return _Terms([*left, *(_product(*left, term) for term in right)], intercept)
        crossed = [_product(a, b) for a in left for b in right]
        return _Terms([*left, *right, *crossed] if kind == "STAR" else crossed, intercept)

    def power(self, node: Any) -> _Terms:
        if type(node.left).__name__ in ("Variable", "QuotedName", "Call"):
            message = f"'**' crosses the terms of (a + b)**2; a power of one column is I({unparse(node)})"
            raise self.error(message, node)
        base = self.interaction(node.left)
        exponent = getattr(node.right, "value", None)
        if not isinstance(exponent, int) or isinstance(exponent, bool) or exponent < 1 or not base.terms:
            message = "'**' takes terms and a whole number, as in (a + b)**2; a power of a column is I(x**2)"
            raise self.error(message, node)
        terms = list(base)
        for _ in range(min(exponent, len(terms)) - 1):  # further powers add nothing
            terms = list(_Terms([*terms, *(_product(a, b) for a in terms for b in base)]))
        return _Terms(terms, base.intercept)

    def expression(self, call: Any) -> str:
        """Return the spelling of a call, inside which none of the words may stand that have a meaning as a term."""
        for node in syntax.walk(call)[1:]:
            if type(node).__name__ == "Call" and (name := syntax.call_name(node)) in _ALONE:
                raise self.error(f"{name}() cannot stand inside another function", node)
        for node in reversed(syntax.walk(call)):
            if words.is_word(node):
                words.read(node, self.text)
        return unparse(call)

    def offset(self, node: Any) -> None:
        if len(node.args) != 1 or type(node.args[0]).__name__ == "Assign":
            raise self.error("offset() takes one column, as in offset(log(n))", node)
        inner = node.args[0]
        while type(inner).__name__ == "Grouping":
            inner = inner.expression
        if type(inner).__name__ in ("Binary", "Unary"):
            raise self.error(f"offset() takes one column; arithmetic is written offset(I({unparse(inner)}))", inner)
        if type(inner).__name__ == "Literal":
            raise self.error("offset() takes one column, and this is a constant", inner)
        self.expression(node)
        self.offsets.append(unparse(node.args[0]))

    def mundlak(self, node: Any) -> _Terms:
        """Read mundlak(a + b, by=unit) as within(a) + within(b) + between(a) + between(b)."""
        plain = [argument for argument in node.args if type(argument).__name__ != "Assign"]
        named = [argument for argument in node.args if type(argument).__name__ == "Assign"]
        if len(plain) != 1 or len(named) > 1 or (named and unparse(named[0].name) != "by"):
            raise self.error("mundlak() takes columns, as in mundlak(a + b) or mundlak(a + b, by=school)", node)
        columns = self.sum(plain[0])
        if columns.intercept is not None or not columns.terms:
            raise self.error("mundlak() takes columns, as in mundlak(a + b)", plain[0])
        for inner in syntax.walk(plain[0]):
            if type(inner).__name__ == "Call" and (name := syntax.call_name(inner)) in (
                *words.PARTS,
                words.INITIAL,
                "mundlak",
            ):
                raise self.error(f"{name}() cannot stand inside mundlak(): it is already split up by unit", inner)
        for argument in named:
            if type(argument.value).__name__ not in ("Variable", "QuotedName"):
                raise self.error("by= names the column of units, as in mundlak(x, by=school)", argument.value)
        by = "".join(f", {unparse(argument)}" for argument in named)
        parts = []
        for term in columns:
            if len(term) > 1:
                product = " * ".join(term)
                raise self.error(f"mundlak() splits columns; a product is one column as I({product})", plain[0])
            parts.append(term[0])
        made = [f"{word}({part}{by})" for word in words.PARTS for part in parts]
        return _Terms([(self.expression(syntax.parse_tree(text)),) for text in made])

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
        first = "; make a column of this first" if type(node).__name__ == "Call" else ""
        raise self.error(f"a grouping factor is a column, or columns joined by ':' or '/'{first}", node)

    def add(self, factor: tuple[str, ...], block: Block, node: Any) -> None:
        """Put the block with its factor; `g:h` and `h:g` are one factor."""
        for column in factor:
            if quoted(column) == self.name:
                raise self.error(f"the response {column} cannot be a grouping factor", node)
        name, blocks = self.groups.setdefault(frozenset(factor), (factor, []))
        for other in blocks:
            twice = [":".join(term) for term in block.terms if frozenset(term) in map(frozenset, other.terms)]
            if block.intercept and other.intercept:
                twice.append("the intercept")
            if twice:
                by = ":".join(map(quoted, name))
                without = twice == ["the intercept"] and block.terms
                mend = f"write (0 + ... | {by}) for a block without it" if without else "leave one of them out"
                raise self.error(f"{twice[0]} varies by {by} twice; {mend}", node)
        blocks.append(block)
