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
_HINTS = {
    "^": "write powers of terms with '**', as in (a + b)**2, and powers of numbers as I(x**2)",
    "%": "nesting is written g/h, and a remainder needs I(...)",
    "|": "a bar needs parentheses, as in (x | g)",
    ",": "terms are joined by '+'",
    ")": "there is no '(' that it closes",
    ".": "'.' is not a column; name the columns",
    "==": "a comparison is a column when it is written I(x == 0)",
    "=": "'=' belongs inside a function call; the response and the terms are separated by '~'",
    ">": "a comparison is a column when it is written I(x > 0)",
    "<": "a comparison is a column when it is written I(x < 0)",
    "!": "a comparison is a column when it is written I(x != 0)",
}


def parse_tree(text: str) -> Any:
    """Return formulae's syntax tree of the whole string.

    Raises
    ------
    FormulaError
        At the first character or token that does not belong.
    """
    from formulae.parser import ParseError, Parser
    from formulae.scanner import ScanError

    class PlacedParser(Parser):  # type: ignore[misc]
        """formulae's parser; a literal knows the token that it came from."""

        def primary(self) -> Any:
            node = super().primary()
            if type(node).__name__ == "Literal":
                node.token = self.previous()
            return node

    if not text.strip():
        raise FormulaError("the formula is empty; write for example 'y ~ x + (1 | g)'", text or " ")
    scanner = _scanner(text)
    try:
        tokens = scanner.scan(add_intercept=False)
    except ScanError as error:
        if "more than one '~'" in str(error):
            second = text.index("~", text.index("~") + 1)
            raise FormulaError("a formula has one '~'", text, second) from None
        at = max(min(scanner.current, len(text)) - 1, scanner.start)
        if "Unterminated" in str(error):
            raise FormulaError("this string is not closed", text, scanner.start) from None
        raise FormulaError(_unexpected(text[at]), text, at) from None
    tokens = _join_double_bars(tokens)
    parser = PlacedParser(tokens)
    try:
        tree = parser.parse()
    except ParseError as error:
        start, end = token_span(parser.peek(), text)
        raise FormulaError(_explain(error, parser.peek(), text), text, start, end) from None
    except RecursionError:
        raise FormulaError("the formula is nested too deeply", text) from None
    if not parser.at_end():
        start, end = token_span(parser.peek(), text)
        raise FormulaError(_unexpected(parser.peek().lexeme), text, start, end)
    return tree


def token_span(token: Any, text: str) -> Span:
    """Return where a token stands; the end of the string for the token that marks the end."""
    start = getattr(token, "start", None)
    if start is None:
        return max(len(text.rstrip()), 1) - 1, len(text.rstrip())
    return start, start + len(token.lexeme)


def span(node: Any) -> Span | None:
    """Return the smallest place that covers every token below `node`, or None without tokens (a bare literal)."""
    found = [(token.start, token.start + len(token.lexeme)) for token in _tokens(node) if hasattr(token, "start")]
    return (min(s for s, _ in found), max(e for _, e in found)) if found else None


def unparse(node: Any) -> str:
    """Write a column expression in its one canonical spelling; equal trees give equal strings."""
    match type(node).__name__:
        case "Variable":
            name = quoted(node.name.lexeme)
            return name if node.level is None else f"{name}[{node.level.value!r}]"
        case "QuotedName":
            return quoted(node.expression.lexeme[1:-1])
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
        match type(child).__name__:
            case "Call":
                functions.add(call_name(child))
            case "Variable":
                variables.add(child.name.lexeme)
            case "QuotedName":
                variables.add(child.expression.lexeme[1:-1])
    return variables, functions


def walk(node: Any) -> list[Any]:
    """Return `node` and every node below it, parents first; callees and argument names are not visited."""
    match type(node).__name__:
        case "Grouping":
            below = [node.expression]
        case "Unary":
            below = [node.right]
        case "Binary":
            below = [node.left, node.right]
        case "Assign":
            below = [node.value]
        case "Call":
            below = list(node.args)
        case _:
            below = []
    return [node, *(found for child in below for found in walk(child))]


def _scanner(text: str) -> Any:
    from formulae.scanner import Scanner

    class PlacedScanner(Scanner):  # type: ignore[misc]
        """formulae's scanner; each token knows where it stands, names may start with '_', numbers may be 1e-3."""

        def add_token(self, kind: str, literal: Any = None) -> None:
            super().add_token(kind, literal)
            self.tokens[-1].start = self.start

        def scan_token(self) -> None:
            if self.peek() == "_":
                self.advance()
                self.identifier()
            else:
                super().scan_token()

        def backquote(self) -> None:
            if "`" not in self.code[self.current :]:
                raise FormulaError("this backquote is not closed", self.code, self.start)
            super().backquote()

        def number(self) -> None:
            found = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?").match(self.code, self.start)
            assert found is not None
            self.current = found.end()
            whole = found.group(1) is None and found.group(2) is None
            self.add_token("NUMBER", int(found.group()) if whole else float(found.group()))

    return PlacedScanner(text)


def _join_double_bars(tokens: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if token.kind == "PIPE" and last is not None and last.lexeme == "|" and last.start + 1 == token.start:
            last.lexeme = "||"
        else:
            joined.append(token)
    return joined


def _tokens(node: Any) -> list[Any]:
    found = []
    for child in walk(node):
        for name in ("name", "operator", "expression", "token"):
            token = getattr(child, name, None)
            if hasattr(token, "lexeme"):
                found.append(token)
        if type(child).__name__ == "Call":
            found.append(child.callee.name)
    return found


def _unexpected(lexeme: str) -> str:
    hint = _HINTS.get(lexeme, _HINTS.get(lexeme[:1], "terms are joined by '+'"))
    return f"unexpected {lexeme!r}: {hint}"


def _explain(error: Exception, token: Any, text: str) -> str:
    if "assignment" in str(error):
        return _HINTS["="]
    if token.kind == "EOF":
        return "the formula ends too early" + (": a '(' is not closed" if text.count("(") > text.count(")") else "")
    if "Don't know how" in str(error):
        hint = _HINTS.get(token.lexeme[:1])
        return f"a column or function is missing before {token.lexeme!r}" + (f" ({hint})" if hint and token.lexeme not in ",)|" else "")
    message = str(error).rstrip(".")
    return f"{message[:1].lower()}{message[1:]}, found {token.lexeme!r}"
