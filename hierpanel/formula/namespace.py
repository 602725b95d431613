"""A `Formula` and the caller's scope come in; the few objects that its expressions name go out.

Functions are looked up among formulae's transforms, then in the caller's scope, then among NumPy's elementwise ones,
so `np.log`, `log`, `bs` and the caller's own functions all work, and only what is used is kept.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from hierpanel.errors import FormulaError, did_you_mean
from hierpanel.formula import syntax, words
from hierpanel.formula.terms import Formula

_ELEMENTWISE = (
    "log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sign", "floor", "ceil", "sin", "cos", "tan",
    "tanh", "arcsinh", "where", "minimum", "maximum", "clip",
)  # fmt: skip
KNOWN: dict[str, Any] = {"np": np, "numpy": np, **{name: getattr(np, name) for name in _ELEMENTWISE}}


@dataclass(frozen=True)
class Names:
    """What a formula's expressions name.

    columns : the table's columns that are used, response and grouping factors included.
    shifted : further columns, of which only other periods are used, by lag(), lead() and diff().
    objects : name → function, module or constant, for every other name; formulae's own transforms are not in it.
    foreign : those of `objects` that came from the caller and are not known here (a saved fit cannot bring them back).
    """

    columns: tuple[str, ...]
    shifted: tuple[str, ...]
    objects: dict[str, Any]
    foreign: tuple[str, ...]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle modules that the formula names (``np``) by their names; a lambda of the caller cannot be pickled."""
        objects = {
            name: _Module(value.__name__) if isinstance(value, ModuleType) else value
            for name, value in self.objects.items()
        }
        return self.__dict__ | {"objects": objects}

    def __setstate__(self, state: dict[str, Any]) -> None:
        objects = {
            name: importlib.import_module(value.name) if isinstance(value, _Module) else value
            for name, value in state["objects"].items()
        }
        self.__dict__.update(state | {"objects": objects})


@dataclass(frozen=True)
class _Module:
    """Stands for a module in a pickle."""

    name: str


def resolve(formula: Formula, available: Iterable[str], scope: Mapping[str, Any]) -> Names:
    """Find every name of the formula among the table's columns, the transforms, the caller's scope and NumPy.

    Raises
    ------
    FormulaError
        For a name that is found nowhere, with a caret and the nearest spelling.
    """
    from formulae.categorical import ENCODINGS
    from formulae.transforms import TRANSFORMS

    available = list(available)
    columns: dict[str, None] = {}
    shifted: dict[str, None] = {}
    objects: dict[str, Any] = {}
    foreign: set[str] = set()
    for expression in formula.column_expressions():
        tree = syntax.parse_tree(expression)
        is_plain = type(tree).__name__ != "Call"
        functions = syntax.names_used(tree)[1]
        own, variables = words.columns_of(expression)
        for function in sorted(functions - set(words.COLUMNS)):
            root = function.split(".")[0]
            if function in TRANSFORMS or function in ENCODINGS or root in objects:
                continue
            if root in scope:
                objects[root] = scope[root]
                if KNOWN.get(root) is not scope[root]:
                    foreign.add(root)
            elif root in KNOWN:
                objects[root] = KNOWN[root]
            else:
                near = did_you_mean(function, [*TRANSFORMS, *words.WORDS, *KNOWN, *scope])
                raise _at(formula, function, f"there is no function {function}{near}; define it, or give it as env=")
        for name in sorted(variables):
            if name in available:
                (columns if name in own else shifted)[name] = None
            elif name in scope and not is_plain:
                objects[name] = scope[name]
                foreign.add(name)
            elif is_plain or name not in ENCODINGS:  # C(h, Sum)
                raise _missing(formula, name, available)
    for group in formula.groups:
        for name in group.factor:
            if name not in available:
                raise _missing(formula, name, available)
            columns[name] = None
    only_shifted = tuple(name for name in shifted if name not in columns)
    return Names(tuple(columns), only_shifted, objects, tuple(sorted(foreign)))


def _missing(formula: Formula, name: str, available: list[str]) -> FormulaError:
    listed = ", ".join(map(str, available[:12])) + (", …" if len(available) > 12 else "")
    return _at(formula, name, f"there is no column {name!r}{did_you_mean(name, available)}; the columns are: {listed}")


def _at(formula: Formula, name: str, message: str) -> FormulaError:
    text = formula.source or str(formula)
    for node in syntax.walk(syntax.parse_tree(text)):
        if syntax.named(node) == name:
            start, end = syntax.span(node)
            return FormulaError(message, text, start, end if text[start] == "`" else start + len(name))
    return FormulaError(message, text, 0, len(text))
