"""A formula and a change such as "~ . + union" come in; the changed formula goes out."""

import re
from dataclasses import replace
from typing import Any

from hierpanel.errors import FormulaError
from hierpanel.formula import syntax
from hierpanel.formula.terms import Formula, Group, parse


def changed(formula: Formula, change: str) -> Formula:
    """Change a formula; '.' stands for what was there on its side of '~'.

    Parameters
    ----------
    change : str
        ``"~ . + union"``, ``"~ . - hours"``, ``"~ . - (1 | worker) + fe(worker)"``, ``"log(wage) ~ ."``

    Raises
    ------
    FormulaError
        For a change that cannot be read, or takes away what is not there.

    Examples
    --------
    >>> print(changed(parse("y ~ x + (1 | g)"), "~ . + z - (1 | g)"))
    y ~ 1 + x + z
    """
    if not isinstance(change, str) or change.count("~") != 1:
        shown = change if isinstance(change, str) else repr(change)
        raise FormulaError("a change has one '~', as in '~ . + union'", shown, 0, len(shown))
    left, right = (side.strip() for side in change.split("~"))
    response = formula.response if left in ("", ".") else left
    dots = [found.start() for found in re.finditer(r"(?<![\w.`)])\.(?![\w.`(])", right)]
    if not dots:
        return parse(f"{response} ~ {right}")
    if len(dots) > 1 or dots[0] != 0:
        raise FormulaError("'.' stands once, first on the right of '~', as in '~ . + union'", change, 0, len(change))
    rest = right[1:].strip()
    if rest and rest[0] not in "+-":
        raise FormulaError("after '.' come terms with '+' or '-', as in '~ . + union - hours'", change, 0, len(change))
    terms = " + ".join([str(int(formula.intercept)), *(":".join(term) for term in formula.terms)])
    kept = _pieces(formula)
    rest, taken = _cut(f"{response} ~ {terms}", rest)
    for text in taken:
        for piece in _pieces(_read(text, change)):
            if piece not in kept:
                there = ", ".join(kept) or "none"
                raise FormulaError(f"there is no {piece} to take away; there is: {there}", change, 0, len(change))
            kept.remove(piece)
    found = parse(f"{response} ~ {' + '.join([terms, *kept])} {rest}".strip())
    return replace(found, source="")  # nobody wrote it: it is shown in its canonical form


def _pieces(formula: Formula) -> list[str]:
    """The bars, fe() and offset() of a formula, one by one."""
    bars = [str(Group(group.factor, (block,))) for group in formula.groups for block in group.blocks]
    return [*bars, *(f"offset({offset})" for offset in formula.offsets)]


def _cut(before: str, rest: str) -> tuple[str, list[str]]:
    """Cut what terms' own '-' does not know, bars, fe() and offset(), out of the terms that follow a formula."""
    text = f"{before} {rest}"
    left, taken, node = text, [], syntax.parse_tree(text).right
    while type(node).__name__ == "Binary" and node.operator.kind in ("PLUS", "MINUS"):  # from the last one on
        if node.operator.kind == "MINUS" and _is_piece(node.right):
            start, end = syntax.span(node.right)
            taken.append(text[start:end])
            left = left[: node.operator.start] + left[end:]
        node = node.left
    return left[len(before) :].strip(), taken[::-1]


def _is_piece(node: Any) -> bool:
    is_call = type(node).__name__ == "Call" and syntax.call_name(node) in ("fe", "offset")
    return is_call or syntax.bar_inside(node) is not None


def _read(text: str, change: str) -> Formula:
    try:
        return parse(f"y ~ 0 + {text}")
    except FormulaError as error:
        raise FormulaError(str(error).split("\n")[0], change, 0, len(change)) from error
