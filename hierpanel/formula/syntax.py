"""A formula string comes in, formulae's syntax tree goes out, with every token's place remembered.

formulae's own entry point stops at the first complete expression and forgets the rest of the string, so its
scanner and parser are driven from here and the end of the string is required.
"""

import re
from typing import Any

from hierpanel.errors import FormulaError

# A place in the string: (start, end), end exclusive.
Span = tuple[int, int]

_IDENTIFIER = re.compile(r"[^\W\d][\w.]*\Z")
_COMPARISONS = ("==", "!=", "<=", "<", ">=", ">")
_HINTS = {
    "^": "write powers of terms with '**', as in (a + b)**2, and powers of numbers as I(x**2)",
    "%": "nesting is written g/h, and a remainder is np.mod(x, 2)",
    "|": "a bar needs parentheses, as in (x | g)",
    ",": "terms are joined by '+'",
    "(": "a function's name or '+' is missing before it",
    ")": "there is no '(' that it closes",
    ".": "'.' is not a column; name the columns",
    "=": "'=' belongs inside a function call; the response and the terms are separated by '~'",
    "//": "division without remainder is np.floor_divide(x, 2)",
    "!": "'not' is written I(x == 0)",
    **dict.fromkeys(("&", "and"), "conditions are joined as numbers: I((x > 0) * (z > 0))"),
    "[": "a list cannot be written in a formula; give it a name before, and use the name",
    "$": "name the column by itself, without the table",
    "#": "a formula has no comments",
    **dict.fromkeys("∼˜～", "this is not the '~' of the keyboard"),
    **dict.fromkeys("–—−", "this is not the '-' of the keyboard"),
    **dict.fromkeys("“”‘’´", "a string stands between ' or \" of the keyboard"),
    **{sign: f"a comparison is a column when it is written I(x {sign} 0)" for sign in _COMPARISONS},
}
_CLOSES = {"LEFT_PAREN": "RIGHT_PAREN", "LEFT_BRACKET": "RIGHT_BRACKET", "LEFT_BRACE": "RIGHT_BRACE"}


def parse_tree(text: str) -> Any:
    """Return formulae's syntax tree of the whole string; every node is an expression that formulae can evaluate.

    Raises
    ------
    FormulaError
        At the first character or token that does not belong.
    """
    from formulae.parser import ParseError
    from formulae.scanner import ScanError

    if not text.strip():
        raise FormulaError("the formula is empty; write for example 'y ~ x + (1 | g)'", text or " ")
    scanner = _scanner(text)
    try:
        tokens = scanner.scan(add_intercept=False)
    except ScanError as error:
        if "more than one '~'" in str(error):
            second = [token for token in scanner.tokens if token.kind == "TILDE"][1]
            raise FormulaError("a formula has one '~'", text, second.start) from None
        raise FormulaError(_unexpected(text[scanner.start]), text, scanner.start) from None
    tokens = _join_double_bars(tokens)
    parser = _parser(tokens, text)
    try:
        tree = parser.parse()
    except ParseError as error:
        raise _explain(error, parser, text) from None
    except RecursionError:
        raise FormulaError("the formula is nested too deeply", text) from None
    if not parser.at_end():
        raise FormulaError(_unexpected(parser.peek().lexeme), text, *token_span(parser.peek(), text))
    _check_arguments(tree, text)
    return tree


def token_span(token: Any, text: str) -> Span:
    """Return where a token stands; the end of the string for the token that marks the end."""
    start = getattr(token, "start", None)
    if start is None:
        return max(len(text.rstrip()), 1) - 1, len(text.rstrip())
    return start, start + len(token.lexeme)


def span(node: Any) -> Span:
    """Return the place of everything that belongs to `node`, its own parentheses included."""
    first = last = node
    while (left := getattr(first, "left", None)) is not None:
        first = left
    while (right := getattr(last, "right", None)) is not None:
        last = right
    start = first.operator.start if type(first).__name__ == "Unary" else first.place[0]
    return start, last.place[1]


def unparse(node: Any) -> str:
    """Write a column expression in its one canonical spelling; equal trees give equal strings."""
    match type(node).__name__:
        case "Variable":
            name = quoted(node.name.lexeme)
            return name if node.level is None else f"{name}[{unparse(node.level)}]"
        case "QuotedName":
            return quoted(node.expression.lexeme[1:-1])
        case "Literal" if isinstance(node.value, str):
            quote = '"' if "'" in node.value else "'"
            return f"{quote}{node.value}{quote}"
        case "Literal":
            return repr(node.value)
        case "Grouping":
            return f"({unparse(node.expression)})"
        case "Unary":
            return f"{node.operator.lexeme}{unparse(node.right)}"
        case "Binary":
            return f"{unparse(node.left)} {node.operator.lexeme} {unparse(node.right)}"
        case "Assign":
            return f"{unparse(node.name)}={unparse(node.value)}"
        case "Call":
            return f"{call_name(node)}({', '.join(unparse(arg) for arg in node.args)})"
    raise TypeError(f"no spelling for {type(node).__name__}")


def call_name(node: Any) -> str:
    """Return the dotted name of the function that a call node calls."""
    return str(node.callee.name.lexeme)


def quoted(name: str) -> str:
    """Return a column name as it is written in a formula: bare, or in backquotes where it must be."""
    bare = _IDENTIFIER.match(name) and name not in ("True", "False", "None")
    return name if bare else f"`{name}`"


def names_used(node: Any) -> tuple[set[str], set[str]]:
    """Return (variables, functions) named anywhere below `node`."""
    variables: set[str] = set()
    functions: set[str] = set()
    for child in walk(node):
        if (name := named(child)) is not None:
            (functions if type(child).__name__ == "Call" else variables).add(name)
    return variables, functions


def named(node: Any) -> str | None:
    """Return the name of the column or function that this node itself stands for, if any."""
    match type(node).__name__:
        case "Call":
            return call_name(node)
        case "Variable":
            return str(node.name.lexeme)
        case "QuotedName":
            return str(node.expression.lexeme[1:-1])
    return None


def walk(node: Any) -> list[Any]:
    """Return `node` and every node below it, parents first; callees and argument names are not visited."""
    found, waiting = [], [node]
    while waiting:  # a sum of a thousand terms is a thousand levels deep
        node = waiting.pop()
        found.append(node)
        waiting += reversed(children(node))
    return found


def children(node: Any) -> list[Any]:
    """Return the nodes right below a node, from left to right."""
    match type(node).__name__:
        case "Grouping":
            return [node.expression]
        case "Unary":
            return [node.right]
        case "Binary":
            return [node.left, node.right]
        case "Assign":
            return [node.value]
        case "Call":
            return list(node.args)
    return []


def _scanner(text: str) -> Any:
    from formulae.scanner import ScanError, Scanner

    number: Any = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

    class PlacedScanner(Scanner):  # type: ignore[misc]
        """formulae's scanner with places.

        Names may start with '_', numbers may be 1e-3, strings may hold the other quotation mark, any space is a space.
        """

        current: int

        def add_token(self, kind: str, literal: Any = None) -> None:
            super().add_token(kind, literal)
            self.tokens[-1].start = self.start

        def scan_token(self) -> None:
            if self.peek() == "_":
                self.advance()
                self.identifier()
            elif number.match(self.code, self.start):
                self.number()
            elif self.peek().isdigit():
                raise ScanError("a digit that is not decimal")
            elif self.peek().isspace():
                self.advance()
            else:
                super().scan_token()

        def char(self) -> None:
            end = self.code.find(self.code[self.start], self.current)
            if end < 0:
                raise FormulaError("this string is not closed", self.code, self.start)
            self.current = end + 1
            self.add_token("STRING", self.code[self.start + 1 : end])

        def backquote(self) -> None:
            if "`" not in self.code[self.current :]:
                raise FormulaError("this backquote is not closed", self.code, self.start)
            super().backquote()

        def number(self) -> None:
            found = number.match(self.code, self.start)
            self.current = found.end()
            self.add_token("NUMBER", int(found.group()) if found.group().isdecimal() else float(found.group()))

    return PlacedScanner(text)


def _parser(tokens: list[Any], text: str) -> Any:
    from formulae.expr import Assign, Binary, Unary
    from formulae.parser import Parser

    class PlacedParser(Parser):  # type: ignore[misc]
        """formulae's parser with places; -x**2 and 2**3**2 mean what they mean in Python, a < b < c is refused."""

        def placed(self, node: Any, start: int) -> Any:
            node.place = start, token_span(self.previous(), text)[1]
            return node

        def assignment(self) -> Any:
            node = self.tilde()
            if not self.match("EQUAL"):
                return node
            if type(node).__name__ != "Variable" or node.level is not None:
                raise FormulaError(_HINTS["="], text, *token_span(self.previous(), text))
            return self.placed(Assign(node, self.comparison()), span(node)[0])

        def comparison(self) -> Any:
            node = super().comparison()
            if _is_comparison(node) and _is_comparison(node.left):
                message = "comparisons cannot be chained: write (a < x) * (x < b)"
                raise FormulaError(message, text, *token_span(node.operator, text))
            return node

        def multiple_interaction(self) -> Any:
            return self.unary()

        def unary(self) -> Any:
            if self.match(["PLUS", "MINUS"]):
                return Unary(self.previous(), self.unary())
            base = self.call()
            return Binary(base, self.previous(), self.unary()) if self.match("STAR_STAR") else base

        def finishcall(self, callee: Any) -> Any:
            if type(callee).__name__ != "Variable" or callee.level is not None:
                raise FormulaError(_unexpected("("), text, *token_span(self.previous(), text))
            return self.placed(super().finishcall(callee), callee.place[0])

        def primary(self) -> Any:
            first = self.peek()
            return self.placed(super().primary(), token_span(first, text)[0])

    return PlacedParser(tokens)


def _is_comparison(node: Any) -> bool:
    return type(node).__name__ == "Binary" and node.operator.lexeme in _COMPARISONS


def _check_arguments(tree: Any, text: str) -> None:
    """Refuse what formulae would drop or fail on later: '=' outside of a call, and bars, ':' and levels inside one."""
    calls = [node for node in walk(tree) if type(node).__name__ == "Call"]
    keywords = {id(argument) for call in calls for argument in call.args if type(argument).__name__ == "Assign"}
    for node in walk(tree)[1:]:
        if type(node).__name__ == "Assign" and id(node) not in keywords:
            raise FormulaError(_HINTS["="], text, *span(node))
    for call in reversed(calls):  # the inner ones first
        for node in walk(call)[1:]:
            name = call_name(call)
            if type(node).__name__ == "Variable" and node.level is not None:
                level = f"{node.name.lexeme} == {unparse(node.level)}"
                raise FormulaError(f"name[level] cannot stand inside {name}(); write {level}", text, *span(node))
            kind = node.operator.kind if type(node).__name__ == "Binary" else None
            if kind == "TILDE" or (kind in ("COLON", "PIPE") and name != "fe"):
                message = f"{node.operator.lexeme!r} has no meaning inside {name}(), where operators are arithmetic"
                raise FormulaError(message, text, *token_span(node.operator, text))


def _join_double_bars(tokens: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if token.kind == "PIPE" and last is not None and last.lexeme == "|" and last.start + 1 == token.start:
            last.lexeme = "||"
        else:
            joined.append(token)
    return joined


def _unexpected(lexeme: str) -> str:
    hint = _HINTS.get(lexeme, _HINTS.get(lexeme[:1], "terms are joined by '+'"))
    return f"unexpected {lexeme!r}: {hint}"


def _explain(error: Exception, parser: Any, text: str) -> FormulaError:
    token = parser.peek()
    place = token_span(token, text)
    if token.kind == "EOF":
        opened: list[Any] = []
        for other in parser.tokens:
            if other.kind in _CLOSES:
                opened.append(other)
            elif opened and other.kind == _CLOSES[opened[-1].kind]:
                opened.pop()
        if opened:
            return FormulaError(f"this {opened[0].lexeme!r} is not closed", text, opened[0].start)
        return FormulaError(f"a column is missing after {parser.previous().lexeme!r}", text, *place)
    if "Subset" in str(error) or "nested brackets" in str(error):
        return FormulaError("a level is text or a name, as in y['yes']", text, *token_span(parser.previous(), text))
    if "Don't know how" in str(error):
        if token.kind == "TILDE":
            return FormulaError("the response is missing: write 'response ~ terms'", text, *place)
        if token.lexeme in ("*", "**", "/", ":", ",", ")", "}", "]", "|", "||"):
            return FormulaError(f"a column is missing before {token.lexeme!r}", text, *place)
        return FormulaError(_unexpected(token.lexeme), text, *place)
    hint = _HINTS.get(token.lexeme)
    closing = str(error).split()[1]  # "Expect ')' after arguments."
    message = f"{closing} or an operator is missing before {token.lexeme!r}" + (f": {hint}" if hint else "")
    return FormulaError(message, text, *place)


def bar_inside(node: Any) -> Any:
    """Return the bar that a pair (or several pairs) of parentheses holds, or None."""
    while type(node).__name__ == "Grouping":
        node = node.expression
    return node if type(node).__name__ == "Binary" and node.operator.kind == "PIPE" else None
