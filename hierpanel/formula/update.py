"""A formula and a change such as "~ . + union" come in; the changed formula goes out."""

import re
from dataclasses import replace

from hierpanel.errors import FormulaError
from hierpanel.formula.terms import Formula, Group, parse

# A bar, fe() or offset() that is taken away: what terms' own '-' does not know.
_TAKEN = re.compile(r"-\s*(\((?:[^()]|\([^()]*\))*\|[^()]*\)|(?:fe|offset)\((?:[^()]|\([^()]*\))*\))")


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
    kept = [piece for group in formula.groups for piece in _bars(group)]
    kept += [f"offset({offset})" for offset in formula.offsets]
    for taken in _TAKEN.finditer(rest):
        for piece in _pieces(taken.group(1), change):
            if piece not in kept:
                there = ", ".join(kept) or "none"
                raise FormulaError(f"there is no {piece} to take away; there is: {there}", change, 0, len(change))
            kept.remove(piece)
    rest = _TAKEN.sub("", rest)
    terms = [str(int(formula.intercept)), *(":".join(term) for term in formula.terms)]
    found = parse(f"{response} ~ {' + '.join([*terms, *kept])} {rest}".strip())
    return replace(found, source="")  # nobody wrote it: it is shown in its canonical form


def _pieces(text: str, change: str) -> list[str]:
    """The bars, fe() or offset that a text stands for: two bars for (1 | g/h)."""
    try:
        one = parse(f"y ~ 0 + {text}")
    except FormulaError as error:
        raise FormulaError(str(error).split("\n")[0], change, 0, len(change)) from error
    return [piece for group in one.groups for piece in _bars(group)] + [f"offset({offset})" for offset in one.offsets]


def _bars(group: Group) -> list[str]:
    """The bars and fe() of one factor, each by itself."""
    return [str(Group(group.factor, (block,))) for block in group.blocks]
