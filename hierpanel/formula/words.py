"""The words of a panel that stand for columns: calls come in; what they mean, and the tree without them, go out.

``lag(x, k)``, ``lead(x, k)``, ``diff(x, k)`` follow time within the unit; ``within(x)`` and ``between(x)`` split a
column into unit means and what is left; ``initial(y)`` is a unit's first outcome. Each is worked out as a column of the
table, under its canonical spelling, before any other function sees it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hierpanel.errors import FormulaError
from hierpanel.formula import syntax

SHIFTS, PARTS, INITIAL = ("lag", "lead", "diff"), ("within", "between"), "initial"
COLUMNS = (*SHIFTS, *PARTS, INITIAL)
# Also known to the formula, as sums of terms.
WORDS = (*COLUMNS, "mundlak")


@dataclass(frozen=True)
class Word:
    """One call of a word.

    text : its canonical spelling; kind : which word; inner : the spelling of its column.
    k : periods of a shift; by : the column of units, where it is not the panel's.
    """

    text: str
    kind: str
    inner: str
    k: int = 1
    by: str | None = None


def is_word(node: Any) -> bool:
    """Whether a node is a call of one of `COLUMNS`."""
    return type(node).__name__ == "Call" and syntax.call_name(node) in COLUMNS


def read(node: Any, text: str) -> Word:
    """Read one call and put its arguments into their canonical form.

    Parameters
    ----------
    node : a node that `is_word`
    text : the formula, for errors

    Raises
    ------
    FormulaError
        For arguments that the word does not take, and words inside it that cannot stand there.
    """
    kind = syntax.call_name(node)
    option = {"k": 1} if kind in SHIFTS else {"by": None} if kind in PARTS else {}
    example = {"k": f"{kind}(x, 2)", "by": f"{kind}(x, by=unit)"}.get(next(iter(option), ""), f"{kind}(y)")
    plain = [argument for argument in node.args if type(argument).__name__ != "Assign"]
    named = {syntax.unparse(a.name): a.value for a in node.args if type(a).__name__ == "Assign"}
    positions = 2 if kind in SHIFTS else 1
    if not plain or len(plain) > positions or set(named) - set(option) or len(node.args) > 1 + len(option):
        raise _error(f"{kind}() takes one column, as in {example}", text, node)
    inner = plain[0]
    if type(inner).__name__ in ("Binary", "Unary", "Literal", "Grouping"):
        several = f"; for both, {kind}(a) + {kind}(b)" if type(inner).__name__ == "Binary" else ""
        raise _error(f"{kind}() takes one column; arithmetic is written {kind}(I(a + b)){several}", text, inner)
    _check_inside(kind, inner, text)
    spelled = syntax.unparse(inner)
    if kind in SHIFTS:
        given = plain[1] if len(plain) == 2 else named.get("k")
        k = _periods(kind, given, text, node)
        node.args = [inner] + ([given] if k != 1 else [])
        return Word(syntax.unparse(node), kind, spelled, k=k)
    by = named.get("by")
    if by is not None and type(by).__name__ not in ("Variable", "QuotedName"):
        raise _error(f"by= names the column of units, as in {kind}(x, by=school)", text, by)
    return Word(syntax.unparse(node), kind, spelled, by=None if by is None else syntax.named(by))


def words_in(expression: str) -> list[Word]:
    """Return every word of a column expression, the inner ones first."""
    tree = syntax.parse_tree(expression)
    return [read(node, expression) for node in reversed(syntax.walk(tree)) if is_word(node)]


def words_of(expressions: Iterable[str]) -> list[Word]:
    """Return every word of some column expressions once, the inner ones first."""
    return list({word.text: word for text in expressions for word in words_in(text)}.values())


def column(word: Word) -> str:
    """Return the name of a word's column; that of `PARTS` is written in backquotes, so that it can hold none."""
    return word.text.replace("`", "") if word.kind in PARTS else word.text


def error_at(word: Word, message: str, source: str) -> FormulaError:
    """An error about a word of a formula, with the caret under it."""
    for node in syntax.walk(syntax.parse_tree(source)):
        if is_word(node) and read(node, source).text == word.text:
            return _error(message, source, node)
    return FormulaError(message, source, 0, len(source))


def columns_of(expression: str) -> tuple[set[str], set[str]]:
    """Return (variables of the row itself, all variables) that an expression names.

    What only a shift looks at belongs to other rows, and may be missing in this one.
    """
    own = {syntax.named(node) for node in _split_at_shifts(expression)[1] if type(node).__name__ != "Call"}
    return {name for name in own if name is not None}, syntax.names_used(syntax.parse_tree(expression))[0]


def moving(expression: str) -> set[str]:
    """Return the variables whose own value in a row moves the expression in that row.

    Lags and leads are of other periods, unit means and first outcomes are those of the fit.
    """
    names, waiting = set(), [syntax.parse_tree(expression)]
    while waiting:
        node = waiting.pop()
        if not (is_word(node) and syntax.call_name(node) in ("lag", "lead", "between", INITIAL)):
            waiting += syntax.children(node)
            if type(node).__name__ != "Call" and (name := syntax.named(node)) is not None:
                names.add(name)
    return names


def needed(expression: str) -> set[str]:
    """Return the shifts whose own value a row needs: those that no other shift looks at."""
    return {read(node, expression).text for node in _split_at_shifts(expression)[0]}


def _split_at_shifts(expression: str) -> tuple[list[Any], list[Any]]:
    """Return the calls of shifts inside no other shift, and the nodes outside of all shifts."""
    outermost, outside, waiting = [], [], [syntax.parse_tree(expression)]
    while waiting:
        node = waiting.pop()
        if is_word(node) and syntax.call_name(node) in SHIFTS:
            outermost.append(node)
        else:
            outside.append(node)
            waiting += syntax.children(node)
    return outermost, outside


def replaced(node: Any) -> Any:
    """Return the tree with every word in it replaced by the column of its spelling."""
    from formulae.expr import QuotedName
    from formulae.token import Token

    if is_word(node):
        return QuotedName(Token("BACKQUOTE", f"`{column(read(node, syntax.unparse(node)))}`"))
    match type(node).__name__:
        case "Grouping":
            node.expression = replaced(node.expression)
        case "Unary":
            node.right = replaced(node.right)
        case "Binary":
            node.left, node.right = replaced(node.left), replaced(node.right)
        case "Assign":
            node.value = replaced(node.value)
        case "Call":
            node.args = [replaced(argument) for argument in node.args]
    return node


def _periods(kind: str, given: Any, text: str, node: Any) -> int:
    if given is None:
        return 1
    k = getattr(given, "value", None)
    if type(given).__name__ == "Literal" and isinstance(k, int) and not isinstance(k, bool) and 1 <= k < 2**31:
        return k
    other = {"lag": "; later periods are lead(x, 1)", "lead": "; earlier periods are lag(x, 1)"}.get(kind, "")
    raise _error(
        f"{kind}() goes by a whole number of periods, 1 or more, as in {kind}(x, 2){other}", text, given or node
    )


def _check_inside(kind: str, inner: Any, text: str) -> None:
    from formulae.transforms import TRANSFORMS

    for node in syntax.walk(inner):
        if type(node).__name__ != "Call":
            continue
        name = syntax.call_name(node)
        if kind in SHIFTS and name in (*PARTS, INITIAL):
            message = f"{name}() is taken on the rows that are used, which depend on {kind}(); write {name}({kind}(x))"
            raise _error(message, text, node)
        if kind in SHIFTS and name in TRANSFORMS and name != "I":
            raise _error(f"{name}() cannot stand inside {kind}(); write {name}({kind}(x))", text, node)
        if kind in PARTS and name in (*PARTS, INITIAL):
            raise _error(f"{name}() cannot stand inside {kind}(): it is already split up by unit", text, node)


def _error(message: str, text: str, node: Any) -> FormulaError:
    return FormulaError(message, text, *syntax.span(node))
