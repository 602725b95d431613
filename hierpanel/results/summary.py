"""A fit's tables come in; a `Summary` goes out, which prints as text, HTML or LaTeX."""

import html
import math
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierpanel.results import latex

WIDTH = 90
DIGITS = 9  # characters of a number; every cell is wider, so that neighbours never touch


@dataclass(frozen=True)
class Section:
    """A titled part of the table: rows of (label, cells); a row without cells is a heading."""

    title: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Summary:
    """A printed fit; `print(summary)`, or `as_text()`, `as_html()`, `as_latex()`.

    title : headline.
    warnings : sentences on the sampler's health, shown first.
    facts : (name, value) pairs about the model and the data.
    columns : headings of the cells.
    sections : coefficients, then sds and correlations, then shares of variance (ICC and R²).
    footnotes : what the columns mean.
    """

    title: str
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    footnotes: tuple[str, ...]

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        return self.as_html()

    def as_text(self) -> str:
        """Return the summary as text of at most 90 columns."""
        double, single = "=" * WIDTH, "-" * WIDTH
        lines = [self.title.center(WIDTH).rstrip(), double]
        for warning in self.warnings:
            lines += textwrap.wrap(f"! {warning}", WIDTH, subsequent_indent="  ")
        lines += [single] if self.warnings else []
        lines += _text_facts(self.facts)
        for number, section in enumerate(self.sections):
            lines.append(double if number == 0 else single)
            lines.append(_text_row(section.title, self.columns if number == 0 else ("",) * len(self.columns)))
            lines += [single] if number == 0 else []
            lines += [line for label, cells in section.rows for line in _text_rows(label, cells)]
        lines.append(double)
        for note in self.footnotes:
            lines += textwrap.wrap(note, WIDTH)
        return "\n".join(line.rstrip() for line in lines)

    def as_html(self) -> str:
        """Return the summary as an HTML fragment."""
        e = html.escape
        parts = [
            f'<div class="hierpanel" style="font-family:system-ui,sans-serif;max-width:60em"><h3>{e(self.title)}</h3>'
        ]
        parts += [
            f'<p style="border-left:4px solid #c60;padding:.3em .8em;margin:.4em 0">{e(warning)}</p>'
            for warning in self.warnings
        ]
        parts.append('<table style="border-collapse:collapse;margin:.5em 0">')
        parts += [
            f'<tr><th style="text-align:left;vertical-align:top;padding:.1em 1em .1em 0;font-weight:600">{e(name)}</th>'
            f'<td style="text-align:left;overflow-wrap:anywhere">{e(value)}</td></tr>'
            for name, value in self.facts
        ]
        parts.append('</table><div style="overflow-x:auto"><table style="border-collapse:collapse">')
        cell = 'style="text-align:right;padding:.1em .7em;font-variant-numeric:tabular-nums;white-space:nowrap"'
        for number, section in enumerate(self.sections):
            heads = "".join(f"<th {cell}>{e(name)}</th>" for name in self.columns) if number == 0 else ""
            span = "" if number == 0 else f' colspan="{len(self.columns) + 1}"'
            parts.append(
                '<tr style="border-top:1px solid #888;border-bottom:1px solid #888">'
                f'<th style="text-align:left;padding:.1em 0"{span}>{e(section.title)}</th>{heads}</tr>'
            )
            for label, cells in section.rows:
                values = "".join(f"<td {cell}>{e(value)}</td>" for value in cells)
                indent = "1em" if label.startswith(" ") else "0"
                parts.append(
                    f'<tr><td style="text-align:left;padding-left:{indent}">{e(label.strip())}</td>{values}</tr>'
                )
        parts.append("</table></div>")
        parts += [f'<p style="font-size:85%;margin:.3em 0">{e(note)}</p>' for note in self.footnotes]
        return "\n".join([*parts, "</div>"])

    def as_latex(self) -> str:
        """Return the summary as a LaTeX tabular (booktabs)."""
        columns = "l" + "r" * len(self.columns)
        lines = [f"% {name}: {value}" for name, value in self.facts]
        lines += [f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
        for number, section in enumerate(self.sections):
            heads = self.columns if number == 0 else ("",) * len(self.columns)
            lines += [latex.row(*map(latex.escaped, (section.title, *heads))), "\\midrule"]
            for label, cells in section.rows:
                name = ("\\quad " if label.startswith(" ") else "") + latex.escaped(label.strip())
                lines.append(latex.row(name, *map(latex.escaped, cells or ("",) * len(self.columns))))
            lines.append("\\midrule" if number + 1 < len(self.sections) else "\\bottomrule")
        lines.append("\\end{tabular}")
        return "\n".join([*lines, *(f"% {note}" for note in (*self.warnings, *self.footnotes))])


def cells(row: pd.Series) -> tuple[str, ...]:
    """Format one row of a table: numbers to the sd's third digit, ESS whole, R̂ to two decimals."""
    if row["sd"] == 0:
        return (f"{row['mean']:.4g}", "fixed", "", "", "", "", "")
    figures = [number(row[name], row["sd"]) for name in ("mean", "sd", "lower", "upper")]
    p = row["p_pos"]
    share = "1" if p == 1 else "0" if p == 0 else f"{min(max(p, 0.001), 0.999):.3f}"
    size = min(row["ess_bulk"], row["ess_tail"])
    ess = "" if math.isnan(size) else f"{size:,.0f}" if size < 99_999.5 else f"{size / 1000:,.0f}k"
    r_hat = "" if math.isnan(row["r_hat"]) else f"{row['r_hat']:.2f}"
    return (*figures, share, ess, r_hat)


def number(value: float, scale: float) -> str:
    """Format a number in at most 9 characters, so that `scale` (its sd) keeps three digits where there is room."""
    if not np.isfinite(value):
        return "∞" if value > 0 else "-∞" if value < 0 else "NaN"
    if value == 0:
        return "0"
    texts = [f"{value:.{places}e}" for places in (3, 2, 1)]
    if not (np.isfinite(scale) and scale != 0):
        texts = [f"{value:.4g}", *texts]
    elif (decimals := 2 - math.floor(math.log10(abs(scale)))) <= 6 or abs(value) >= 1e-3:
        texts = [f"{value:,.{places}f}" for places in range(min(max(decimals, 0), 6), -1, -1)] + texts
    text = next((text for text in texts if len(text) <= DIGITS), texts[-1])
    return text.replace("-", "", 1) if text.strip("-0.,") == "" else text


def _text_facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Short facts two to a line, long ones each on lines of their own."""
    half = WIDTH // 2
    lines: list[str] = []
    waiting = ""
    for name, value in facts:
        entry = f"{name + ':':<11} {value}"
        if len(entry) < half - 1:
            if waiting:
                lines.append(f"{waiting:<{half}}{entry}")
                waiting = ""
            else:
                waiting = entry
            continue
        lines += [waiting] if waiting else []
        waiting = ""
        lines += textwrap.wrap(entry, WIDTH, subsequent_indent=" " * 12)
    return lines + ([waiting] if waiting else [])


# Width of each cell: mean, sd, lower, upper, P(> 0), ESS, R̂.
_CELLS = (10, 10, 10, 10, 7, 7, 6)
_LABEL = WIDTH - sum(_CELLS)


def _text_row(label: str, values: Sequence[str]) -> str:
    return f"{label:<{_LABEL}}" + "".join(
        f"{value:>{w + marks(value)}}" for value, w in zip(values, _CELLS, strict=True)
    )


def marks(text: str) -> int:
    """Characters that take no room of their own, such as the hat of R̂."""
    return sum(unicodedata.combining(character) > 0 for character in text)


def _text_rows(label: str, values: Sequence[str]) -> list[str]:
    """A row; a label that is too long stands on a line of its own."""
    if not values:
        return textwrap.wrap(label, WIDTH, subsequent_indent="    ")
    if len(label) < _LABEL:
        return [_text_row(label, values)]
    return [*textwrap.wrap(label, WIDTH, initial_indent="", subsequent_indent="    "), _text_row("", values)]
