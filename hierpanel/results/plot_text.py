"""Texts and the room for them come in; texts that fit go out: in lines, shortened, and still apart from one another."""

import re
from collections.abc import Sequence
from itertools import takewhile

# Of a font's size: how much wider hinted letters may come out than they are measured, and the height of a line.
SLACK, LINE_HEIGHT = 1.04, 1.2
# Characters of a name that is not cut, and of one that is cut as far as it may be.
LONGEST, SHORTEST = 28, 9


def width(text: str, size: float) -> float:
    """Return the points on paper that a text is wide, of its longest line."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    measure = text_to_path.get_text_width_height_descent
    return SLACK * max((float(measure(line, font, ismath=False)[0]) for line in text.split("\n") if line), default=0.0)


def wrapped(text: str, room: float, size: float) -> str:
    """Return a text in lines of at most `room` points; words that are wider are broken."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width(longer, size) <= room:
            lines[-1] = longer
            continue
        *full, last = _broken(word, room, size)
        lines += [*full, last]
    return "\n".join(line for line in lines if line)


def fitted(texts: Sequence[str], room: float, size: float, longest: int = LONGEST) -> list[str]:
    """Return texts that are at most `room` points wide, their middles left out where they must be."""
    found = list(texts)
    for most in range(longest, SHORTEST - 1, -1):
        found = shortened(texts, most)
        if max((width(text, size) for text in found), default=0.0) <= room:
            break
    return found


def shortened(texts: Sequence[str], most: int = LONGEST) -> list[str]:
    """Return texts of at most `most` characters or so; those that differ stay different."""
    texts = list(texts)
    found = [_shorten(text, most) for text in texts]
    for short in dict.fromkeys(one for one in found if found.count(one) > 1):
        same = list(dict.fromkeys(text for text, one in zip(texts, found, strict=True) if one == short))
        if len(same) == 1:
            continue
        apart = [_without_start(text, same, most) for text in same]
        if len(set(apart)) < len(apart) or set(apart) & set(found):
            apart = [f"{short} ({k + 1})" for k in range(len(same))]
        names = dict(zip(same, apart, strict=True))
        found = [names.get(text, one) for text, one in zip(texts, found, strict=True)]
    return found


def plain(text: str) -> str:
    """Return a text in which dollar signs are no mathematics to matplotlib."""
    return text.replace("$", r"\$")


def _broken(word: str, room: float, size: float) -> list[str]:
    """Return a word in parts of at most `room` points, broken after a sign where there is one."""
    if width(word, size) <= room:
        return [word]
    parts = [""]
    for piece in re.findall(r"[^\W_]*[\W_]?", word):
        for bit in [piece] if width(piece, size) <= room else piece:
            if parts[-1] and width(parts[-1] + bit, size) > room:
                parts.append("")
            parts[-1] += bit
    return parts


def _shorten(text: str, most: int) -> str:
    """Leave a text's middle out where it is longer than `most`; of an interaction, the middle of each part."""
    if len(text) <= most:
        return text
    parts = text.split(":")
    if len(parts) > 1 and most // len(parts) >= 6:
        room, cut = most - len(parts) + 1, dict.fromkeys(range(len(parts)), "")
        by_length = sorted(cut, key=lambda k: len(parts[k]))
        for left, k in zip(range(len(parts), 0, -1), by_length, strict=True):
            cut[k] = _cut(parts[k], room // left)
            room -= len(cut[k])
        return ":".join(cut.values())
    return _cut(text, most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def _without_start(text: str, others: Sequence[str], most: int) -> str:
    """Return what stands after the words with which all of some texts begin."""
    same = len(list(takewhile(lambda letters: len(set(letters)) == 1, zip(*others, strict=False))))
    rest = f"…{text[text.rfind(' ', 0, same) + 1 or same :]}"
    return rest if len(rest) <= most else f"{rest[: most - 1]}…"
