"""Rows of strings come in; a `JournalTable` goes out, which prints as text, HTML, LaTeX or Markdown."""

import html
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hierpanel.errors import FileError
from hierpanel.results import latex, store

Row = tuple[str, tuple[str, ...]]
# 1.234e-06 and the minus before it, where a number may begin; and a minus alone
_POWER = r"(?<![\w).])(-?)(\d(?:\.\d+)?e[+-]\d+)(?![\w.])"
_MINUS = r"(?<![\w)])-(?=[\d$])"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class JournalTable:
    """Fits side by side; `print` it, or `as_text()`, `as_html()`, `as_latex()`, `as_markdown()`, `save(path)`.

    title : headline, or None.
    names : of the columns; empty where they are only numbered.
    responses : the dependent variable of each column.
    blocks : coefficients, sds and correlations, then the rest; rows are (label, cells), and what stands under a number
        is a row without a label.
    notes : sentences under the table.
    label : by which LaTeX refers to the table, as in ``\\ref{tab:wages}``; or None.
    """

    title: str | None
    names: tuple[str, ...]
    responses: tuple[str, ...]
    blocks: tuple[tuple[Row, ...], ...]
    notes: tuple[str, ...]
    label: str | None = None

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        return self.as_html()

    @property
    def frame(self) -> pd.DataFrame:
        """The cells as a DataFrame of strings."""
        rows = [row for block in self.blocks for row in block]
        index = pd.Index([label for label, _ in rows], dtype=object)
        columns = pd.Index(self.names or self._heads[0], dtype=object)
        return pd.DataFrame([cells for _, cells in rows], index=index, columns=columns, dtype=object)

    def as_text(self) -> str:
        """Return the table as text, numbers aligned at the decimal point."""
        rows = [("", heads) for heads in self._heads] + [row for block in self.blocks for row in block]
        first, at = max(len(label) for label, _ in rows), len(self._heads)
        columns = [_aligned(cells[:at], cells[at:]) for cells in zip(*(cells for _, cells in rows), strict=True)]
        lines = ["   ".join([f"{label:<{first}}", *cells]) for (label, _), *cells in zip(rows, *columns, strict=True)]
        width = len(lines[0])
        parts = [text.center(width) for text in (self.title, self._response) if text]
        parts += ["=" * width, *lines[:at]]
        for block in self.blocks:
            parts += ["-" * width, *lines[at : at + len(block)]]
            at += len(block)
        parts += [
            "=" * width,
            *textwrap.wrap(" ".join(["Notes:", *self.notes]), max(width, 60), break_on_hyphens=False),
        ]
        return "\n".join(line.rstrip() for line in parts)

    def as_html(self) -> str:
        """Return the table as an HTML fragment."""
        e = html.escape

        def line(tag: str, label: str, cells: Iterable[str], style: str = "") -> str:
            inner = "".join(
                f'<{tag} style="text-align:center;padding:.05em .9em">{e(_html_cell(cell))}</{tag}>' for cell in cells
            )
            first = f'<th style="text-align:left;font-weight:400;padding:.05em .9em .05em 0">{e(label)}</th>'
            return f'<tr style="background:none{style}">{first}{inner}</tr>'

        parts = ['<div class="hierpanel" style="font-family:system-ui,sans-serif;overflow-x:auto">']
        parts.append('<table style="border-collapse:collapse;border-top:2px solid;border-bottom:2px solid">')
        parts += [f"<caption>{e(self.title)}</caption>"] if self.title else []
        if self._response:
            span = f'colspan="{len(self.responses)}" style="text-align:center;font-weight:400"'
            parts.append(f'<tr style="background:none"><th></th><th {span}>{e(self._response)}</th></tr>')
        parts += [line("th", "", heads) for heads in self._heads]
        for block in self.blocks:
            parts += [line("td", *row, "" if k else ";border-top:1px solid") for k, row in enumerate(block)]
        notes = f'<p style="font-size:85%"><i>Notes:</i> {e(" ".join(self.notes))}</p>'
        return "\n".join([*parts, "</table>", notes, "</div>"])

    def as_latex(self) -> str:
        """Return the table as a LaTeX float, which needs booktabs."""
        count = len(self.responses)
        lines = [r"\begin{table}[htbp]", r"\centering"]
        lines += [rf"\caption{{{latex.escaped(self.title)}}}"] if self.title else []
        lines += [rf"\label{{{self.label}}}"] if self.label else []
        lines += [rf"\begin{{tabular}}{{l{'c' * count}}}", r"\toprule"]
        if self._response:
            lines.append(rf" & \multicolumn{{{count}}}{{c}}{{{latex.escaped(self._response)}}} \\")
            lines.append(rf"\cmidrule(lr){{2-{count + 1}}}")
        lines += [latex.row("", *map(latex.escaped, heads)) for heads in self._heads]
        for block in self.blocks:
            lines.append(r"\midrule")
            for label, cells in block:
                lines.append(latex.row(latex.escaped(label), *map(_latex_cell, cells)))
        lines += [r"\bottomrule", r"\end{tabular}", "", r"\medskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        return "\n".join(
            [*lines, rf"\textit{{Notes:}} {latex.escaped(' '.join(self.notes))}", r"\end{minipage}", r"\end{table}"]
        )

    def as_markdown(self) -> str:
        """Return the table as Markdown, with pipes."""
        heads = [" ".join(column) for column in zip(*self._heads, strict=True)]
        rows = [["", *heads], [":--", *[":-:"] * len(heads)]]
        rows += [[label, *cells] for block in self.blocks for label, cells in block]
        lines = [f"| {' | '.join(map(_markdown, row))} |" for row in rows]
        top = [f"**{_markdown(self.title)}**"] if self.title else []
        top += [_markdown(self._response)] if self._response else []
        return "\n\n".join([*top, "\n".join(lines), f"*Notes:* {_markdown(' '.join(self.notes))}"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a file, in the format that its name ends with: .txt, .html, .tex or .md.

        Raises
        ------
        FileError
            For another ending, and where no file can be written.
        """
        writers = {".txt": self.as_text, ".html": self.as_html, ".tex": self.as_latex, ".md": self.as_markdown}
        suffix = Path(path).suffix.lower()
        if suffix not in writers:
            raise FileError(f"the ending of a table's file is one of {', '.join(writers)}, which {str(path)!r} has not")
        head = '<!doctype html><meta charset="utf-8">\n' if suffix == ".html" else ""
        store.writable(path).write_text(f"{head}{writers[suffix]()}\n", encoding="utf-8")

    @property
    def _response(self) -> str:
        """The dependent variable that all columns share; "" where they differ."""
        return f"Dependent variable: {self.responses[0]}" if len(set(self.responses)) == 1 else ""

    @property
    def _heads(self) -> list[tuple[str, ...]]:
        """Lines of headings: numbers, names, and dependent variables where they differ."""
        numbers = tuple(f"({k})" for k in range(1, len(self.responses) + 1))
        return [line for line in (numbers, self.names, () if self._response else self.responses) if line]


def _latex_cell(text: str) -> str:
    """A cell whose stars take no room, so that the number stays in the middle, and whose minus is one."""
    plain = text.rstrip("*")
    stars = rf"\rlap{{$^{{{text[len(plain) :]}}}$}}" if plain != text else ""

    def written(found: re.Match[str]) -> str:
        if not found[2]:
            return "$-$"
        mantissa, exponent = _power(found[2])
        return rf"${found[1]}{mantissa}\times10^{{{exponent}}}$"

    return re.sub(f"{_POWER}|{_MINUS}", written, latex.escaped(plain)) + stars


def _html_cell(text: str) -> str:
    def written(found: re.Match[str]) -> str:
        mantissa, exponent = _power(found[2])
        return f"{found[1]}{mantissa} × 10{str(exponent).translate(_SUPERSCRIPTS)}"

    return re.sub(_POWER, written, text)


def _power(text: str) -> tuple[str, int]:
    """Mantissa, of three digits at most, and exponent of a number as text has it, such as "1.234e-06"."""
    decimals = min(text.index("e") - 2, 2) if "." in text else 0
    mantissa, exponent = f"{float(text):.{decimals}e}".split("e")
    return mantissa, int(exponent)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*|<~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)


def _aligned(heads: Sequence[str], cells: Sequence[str]) -> list[str]:
    """Cells of one width: numbers have their decimal points under each other, all else is centred."""
    found = [re.fullmatch(r"([^.]*)(\.\d+[)*]*)", cell) for cell in cells]
    left = max((len(parts[1]) for parts in found if parts), default=0)
    right = max((len(parts[2]) for parts in found if parts), default=0)
    shown = [
        f"{parts[1]:>{left}}{parts[2]:<{right}}" if parts else cell for parts, cell in zip(found, cells, strict=True)
    ]
    width = max(map(len, [*heads, *shown]))
    return [f"{text:^{width}}" for text in [*heads, *shown]]
