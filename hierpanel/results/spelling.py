"""A name that is not known and those that are come in; a suggestion for an error message goes out."""

import difflib
from collections.abc import Callable, Collection
from typing import Any


def did_you_mean(name: Any, known: Collection[str], show: Callable[[str], str] = str) -> str:
    """Return " (did you mean …?)" with the nearest known name, or nothing where none is near.

    Parameters
    ----------
    show : how the name is written; `repr` puts it in quotes
    """
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {show(near[0])}?)" if near else ""
