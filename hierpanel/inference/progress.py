"""Steps of a long computation come in; one line on the screen says how far it is."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

# What is done within so many seconds is not spoken of; then the line is written anew every so many seconds.
SHORT, PACE = 2.0, 0.5
T = TypeVar("T")


class Progress:
    """One line on standard error that is written over and over, and wiped at the end."""

    def __init__(self, wanted: bool):
        self.wanted = wanted
        self.began = time.perf_counter()
        self.next = self.began + SHORT
        self.width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.width:
            self._write(" " * self.width + "\r")

    def steps(self, items: Sequence[T], what: str) -> Iterator[T]:
        """Yield the items, and say which share of them is done."""
        for number, item in enumerate(items):
            yield item
            now = time.perf_counter()
            if self.wanted and now > self.next:
                text = f"{what}: {100 * (number + 1) // len(items)} %, {now - self.began:.0f} s"
                self._write(text.ljust(self.width))
                self.next, self.width = now + PACE, max(self.width, len(text))

    def _write(self, text: str) -> None:
        print("\r" + text, end="", file=sys.stderr, flush=True)
