"""Steps of a long computation come in; one line on the screen says how far it is."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

# What is done within this many seconds is not spoken of.
SHORT = 2.0
T = TypeVar("T")


class Progress:
    """One line on standard error that is written over and over, and wiped at the end."""

    def __init__(self, wanted: bool):
        self.wanted = wanted
        self.began = time.perf_counter()
        self.width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.width:
            self._write("")

    def steps(self, items: Sequence[T], what: str) -> Iterator[T]:
        """Yield the items, and say which share of them is done."""
        for number, item in enumerate(items):
            yield item
            self.say(f"{what}: {100 * (number + 1) / len(items):.0f} %")

    def say(self, text: str) -> None:
        """Show a text and the seconds that have passed, once the computation is long."""
        seconds = time.perf_counter() - self.began
        if self.wanted and seconds > SHORT:
            self._write(f"{text}, {seconds:.0f} s")

    def _write(self, text: str) -> None:
        print("\r" + text.ljust(self.width), end="" if text else "\r", file=sys.stderr, flush=True)
        self.width = len(text)
