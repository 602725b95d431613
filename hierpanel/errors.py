"""The errors that hierpanel raises on purpose: each names the thing, shows where, and says what would work."""

import difflib
import numbers
import os
import warnings
from collections import abc


def warn(message: str) -> None:
    """Warn at the caller's own line, however deep in the package this is called."""
    warnings.warn(message, UserWarning, skip_file_prefixes=(os.path.dirname(__file__) + os.sep,))


class HierpanelError(ValueError):
    """Any mistake that hierpanel can name; every other class here derives from it."""


class DataError(HierpanelError):
    """The table does not hold what the formula needs."""


class PriorError(HierpanelError):
    """A prior has an unknown key, an unknown name, or the wrong support."""


class FamilyError(HierpanelError):
    """The family or link is unknown, or the response lies outside the family's support."""


class FitError(HierpanelError):
    """A question that this fit cannot answer, or a request that this route cannot serve."""


class RouteError(FitError):
    """A model that the marginal route cannot fit; ``method="auto"`` then takes NUTS."""


class FileError(HierpanelError):
    """A file that is not a saved fit, or that this version cannot read."""


class FormulaError(HierpanelError):
    """A formula that cannot be read; the message shows the formula with a caret under the place.

    Parameters
    ----------
    message : str
        What is wrong and what would work.
    formula : str
        The formula as the user wrote it.
    start, end : int
        The characters of `formula` that are meant; `end` is exclusive.
    """

    def __init__(self, message: str, formula: str, start: int = 0, end: int | None = None):
        self.problem, self.formula, self.start = message, formula, start
        self.end = end if end is not None else start + 1
        line_start = formula.rfind("\n", 0, start) + 1
        line = formula[line_start:].split("\n", 1)[0]
        carets = "^" * max(1, min(self.end, line_start + len(line)) - start)
        super().__init__(f"{message}\n\n    {line}\n    {' ' * (start - line_start)}{carets}")

    def __reduce__(self) -> tuple[type, tuple[str, str, int, int]]:
        return type(self), (self.problem, self.formula, self.start, self.end)


def check_whole(name: str, value: object, least: int) -> None:
    """Raise `FitError` unless an option is a whole number of at least so much."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise FitError(f"{name} must be a whole number of at least {least}, not {value!r}")


def did_you_mean(name: object, known: abc.Collection[str], show: abc.Callable[[str], str] = str) -> str:
    """Return " (did you mean …?)" with the nearest known name, or nothing where none is near.

    Parameters
    ----------
    show : how the name is written; `repr` puts it in quotes
    """
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {show(near[0])}?)" if near else ""
