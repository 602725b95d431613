"""A table and the names of its unit and time come in; a `PanelDescription` goes out, which prints as text and HTML."""

import html
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.panel import as_table, panel_of
from hierpanel.errors import DataError, did_you_mean
from hierpanel.results.summary import WIDTH, number

Array = np.ndarray

# Values of a unit, or means of units, that differ by no more than this share of the column's largest absolute value
# are equal: what sums leave in the last digits is no variation.
ROUNDING = 1e-12
# Longer axes have no patterns: a sign for each period must fit on a line, and a bit for each into an int64.
LONGEST_PATTERN = 60
# Patterns with a row of their own; periods that are printed at each end of a long axis.
PATTERNS, ENDS = 9, 6

_QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}
_VARIATION = ("mean", "sd", "sd_between", "sd_within", "min", "max", "n", "N", "T_bar", "varies")
_SHARES = ("share", "cumulative", "of_first")
_STYLE = """<div class="hierpanel hierpanel-panel" style="font-family:system-ui,sans-serif;overflow-x:auto"><style>
.hierpanel-panel :is(th, td) {text-align:right; padding:.1em .7em}
.hierpanel-panel th:first-child {text-align:left} .hierpanel-panel tbody th {font:1em monospace,monospace}</style>"""
_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")  # kinds of objects that are numbers


@dataclass(frozen=True, eq=False)
class PanelDescription:
    """A described panel, to print or to read field by field; shares lie between 0 and 1.

    unit, time, frequency : the columns that name unit and period; steps of the time axis, in words.
    n_units, n_periods, span : N units; T periods that occur, of all from the first to the last.
    n_rows, n_left_out : rows of the table; those without unit or time, which count nowhere else.
    rows_per_unit : (7,) min, 5 %, 25 %, median, 75 %, 95 %, max.
    balanced : whether every unit is there in every period that occurs.
    gaps : units that miss periods between their first and last, and how many; those of the axis without rows too.
    patterns : units, share, cumulative, pattern ("11.1" misses the third period) of the `PATTERNS` most frequent, then
        "(other)"; None where the axis has more than `LONGEST_PATTERN` periods.
    attrition : for each period that occurs, present, entering (units whose first it is), leaving (units whose last it
        is although the axis goes on), of_first (share of the first period's units that are present).
    variation : for each numeric or boolean column, mean, sd, sd_between, sd_within, min, max, n (rows with a value), N
        (units with one), T_bar = n / N, and varies: "within and between", "only between" (constant within every unit),
        "only within" (the same mean in every unit), "nowhere" or "no values".
    categories : for each other column, levels, changes (units whose value changes) and their share, n, N.
    notes : sentences on what the numbers do not say.
    """

    unit: str
    time: str
    frequency: str
    span: int
    n_units: int
    n_periods: int
    n_rows: int
    n_left_out: int
    rows_per_unit: pd.Series
    balanced: bool
    gaps: tuple[int, int]
    patterns: pd.DataFrame | None
    attrition: pd.DataFrame
    variation: pd.DataFrame
    categories: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"Panel: {self.unit} × {self.time}".center(WIDTH).rstrip(), "=" * WIDTH]
        for name, value in _facts(self).items():
            lines += textwrap.wrap(f"{name + ':':<11} {value}", WIDTH, subsequent_indent=" " * 12)
        for k, table in enumerate(_tables(self)):
            lines += [("-" if k else "=") * WIDTH, *_lines(table)]
        lines.append("=" * WIDTH)
        return "\n".join([*lines, *(line for note in self.notes for line in textwrap.wrap(note, WIDTH))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = "<br>".join(f"<b>{name}</b>: {html.escape(value)}" for name, value in _facts(self).items())
        tables = [table.to_html(border=0) for table in _tables(self)]
        notes = [f'<p style="font-size:85%">{html.escape(note)}</p>' for note in self.notes]
        title = f"<h3>{html.escape(f'Panel: {self.unit} × {self.time}')}</h3>"
        return "\n".join([_STYLE, title, facts, *tables, *notes, "</div>"])


def describe_panel(data: Any, panel: Any = None, columns: str | Iterable[str] | None = None) -> PanelDescription:
    """Describe who is in a panel and when, and how its columns vary between and within units.

    Parameters
    ----------
    data : table
        Anything that `hp.fit` takes.
    panel : (unit, time) or (unit, time, step), optional
        The columns of units and periods, and the step between periods; or leave it to an index of two named levels.
    columns : names, optional
        The columns to describe, all but unit and time unless given; each without its missing and infinite values.

    Returns
    -------
    PanelDescription
        To print, or to read: its fields are numbers and DataFrames. The sd between is that of the units' means (divisor
        N - 1), the sd within that of the values less their unit's mean (divisor n - 1), as in StataCorp,
        Longitudinal-Data/Panel-Data Reference Manual, xtsum; percentiles are those of xtdescribe.

    Raises
    ------
    DataError
        For a column that is not there, and a panel that cannot be read: two rows of a unit in one period, say.

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("wage_panel")
    >>> found = hp.describe_panel(df, ("worker", "year"), columns=["log_wage", "education"])
    >>> found.n_units, found.n_periods, found.balanced
    (545, 8, True)
    >>> found.variation[["mean", "sd", "sd_between", "sd_within", "varies"]].round(3)
                 mean     sd  sd_between  sd_within              varies
    log_wage    1.649  0.533       0.391      0.362  within and between
    education  11.767  1.746       1.748      0.000        only between
    """
    table = as_table(data, panel)
    who = panel_of(table, panel)
    kept = who.codes >= 0
    asked = {name: table.loc[kept, name] for name in _asked(table, columns, (who.unit, who.time))}
    codes, N = who.codes[kept], len(who.levels)
    period, places = pd.factorize(who.periods[kept], sort=True)
    T, span = len(places), int(places[-1] - places[0]) + 1
    rows, first, last = np.bincount(codes, minlength=N), np.full(N, T), np.zeros(N, dtype=np.int64)
    np.minimum.at(first, codes, period)
    np.maximum.at(last, codes, period)
    missed = places[last] - places[first] + 1 - rows
    at = {"present": period, "entering": first, "leaving": last, "of_first": period[first[codes] == 0]}
    attrition = pd.DataFrame({name: np.bincount(where, minlength=T) for name, where in at.items()})
    attrition.index = pd.Index(who.labels(places), name=who.time)
    attrition["of_first"] /= attrition["present"].iloc[0]
    attrition.iloc[-1, 2] = 0  # the axis ends here, nobody leaves
    quantiles = np.quantile(rows, list(_QUANTILES.values()), method="averaged_inverted_cdf")
    numbers = {name: x for name, column in asked.items() if (x := _numbers(column)) is not None}
    others = {name: _levels(column, codes, N) for name, column in asked.items() if name not in numbers}
    parts = {name: _components(x, codes, N) for name, x in numbers.items()}
    varies = {name: part[-1] for name, part in parts.items()}
    varies |= {name: "only between" for name, (levels, changes, *_) in others.items() if levels > 1 and not changes}
    return PanelDescription(
        unit=who.unit,
        time=who.time,
        frequency=who.frequency,
        span=span,
        n_units=N,
        n_periods=T,
        n_rows=len(table),
        n_left_out=len(table) - len(codes),
        rows_per_unit=pd.Series(quantiles, index=list(_QUANTILES)),
        balanced=len(codes) == N * T,
        gaps=(int((missed > 0).sum()), int(missed.sum())),
        patterns=_patterns(codes, places[-1] - places[period], N, span) if span <= LONGEST_PATTERN else None,
        attrition=attrition,
        variation=pd.DataFrame.from_dict(parts, orient="index", columns=list(_VARIATION)),
        categories=pd.DataFrame.from_dict(others, orient="index", columns=["levels", "changes", "share", "n", "N"]),
        notes=tuple(_notes(who.unit, who.time, places, varies, numbers)),
    )


def _asked(table: pd.DataFrame, columns: str | Iterable[str] | None, panel: tuple[str, str]) -> list[str]:
    known = [str(name) for name in table.columns]
    if columns is None:
        return [name for name in known if name not in panel]
    names = [columns] if isinstance(columns, str) else list(dict.fromkeys(map(str, columns)))
    for name in names:
        if name not in known:
            listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
            raise DataError(f"there is no column {name!r}{did_you_mean(name, known)}; the columns are: {listed}")
    return names


def _patterns(codes: Array, to_go: Array, N: int, span: int) -> pd.DataFrame:
    """Count the patterns of units whose rows (n,) are `to_go` periods before the last; the first is the highest bit."""
    bits = np.zeros(N, dtype=np.int64)
    np.add.at(bits, codes, np.int64(1) << to_go)
    found, units = np.unique(bits, return_counts=True)
    order = np.lexsort((-found, -units))[:PATTERNS]
    text, units = [format(k, f"0{span}b").replace("0", ".") for k in found[order].tolist()], units[order]
    if len(found) > PATTERNS:
        text, units = [*text, "(other)"], np.append(units, N - units.sum())
    return pd.DataFrame({"units": units, "share": units / N, "cumulative": units.cumsum() / N, "pattern": text})


def _numbers(column: pd.Series) -> Array | None:
    """Return a numeric or boolean column as floats, NaN where it is missing; None for any other."""
    if column.dtype.kind in "biuf" or pd.api.types.infer_dtype(column, skipna=True) in _NUMBERS:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return None


def _components(x: Array, codes: Array, n_units: int) -> tuple[Any, ...]:
    """Decompose x (n,), with units `codes` (n,), as xtsum does: a row of `variation`."""
    has = np.isfinite(x)
    x, codes = x[has], codes[has]
    if not len(x):
        return (*[np.nan] * 6, 0, 0, np.nan, "no values")
    # About one value of each unit, so that a constant leaves exactly 0.
    pivot, rows = np.zeros(n_units), np.bincount(codes, minlength=n_units)
    pivot[codes] = x
    away = x - pivot[codes]
    mean = np.bincount(codes, away, n_units) / np.maximum(rows, 1)
    means = (pivot + mean)[rows > 0]
    noise = ROUNDING * np.abs(x).max()
    within, between = bool(np.abs(away).max() > noise), bool(np.ptp(means) > noise)
    varies = ("nowhere", "only within", "only between", "within and between")[within + 2 * between]
    parts = x, means if between else 0 * means, away - mean[codes] if within else 0 * away
    sds = [part.std(ddof=1) if len(part) > 1 else np.nan for part in parts]
    return (x.mean(), *sds, x.min(), x.max(), len(x), len(means), len(x) / len(means), varies)


def _levels(column: pd.Series, codes: Array, n_units: int) -> tuple[Any, ...]:
    """Count the levels of a column (n,) and the units that change: a row of `categories`."""
    level, labels = pd.factorize(column.astype(str) if pd.api.types.is_object_dtype(column) else column)
    level, codes = level[level >= 0], codes[level >= 0]
    one = np.full(n_units, -1)
    one[codes] = level
    changes, N = len(np.unique(codes[level != one[codes]])), int((one >= 0).sum())
    return len(labels), changes, changes / max(N, 1), len(level), N


def _notes(unit: str, time: str, places: Array, varies: dict[str, str], numbers: dict[str, Array]) -> Iterator[str]:
    steps = int(np.gcd.reduce(np.diff(places)))  # 0 for a single period
    if steps > 1:
        state = f"a third entry states the step, as in panel=({unit!r}, {time!r}, step)"
        yield f"The periods that occur are {steps} steps of the axis apart, so nobody has two in a row: {state}."
    if places[-1] - places[0] >= LONGEST_PATTERN:
        yield f"Patterns of participation are shown where the axis has at most {LONGEST_PATTERN} periods."
    for name, x in numbers.items():
        if infinite := int(np.isinf(x).sum()):
            yield f"{name} is infinite in {infinite:,} rows, which its line leaves out."
    meanings = {"only between": f"Constant within every {unit}, so fe({unit}) leaves nothing of it"}
    for how, meaning in {**meanings, "only within": f"The same mean in every {unit}"}.items():
        if names := [name for name in varies if varies[name] == how]:
            yield f"{meaning}: {', '.join(names)}."


def _facts(found: PanelDescription) -> dict[str, str]:
    axis = " … ".join(dict.fromkeys(str(found.attrition.index[k]) for k in (0, -1)))
    some = "" if found.n_periods == found.span else f" of {found.span:,}"
    without = f", of which {found.n_left_out:,} without {found.unit} or {found.time} are left out"
    used, cells, (gapped, missed) = found.n_rows - found.n_left_out, found.n_units * found.n_periods, found.gaps
    gaps = f"{missed:,} periods inside the spans of {gapped:,} units ({100 * gapped / found.n_units:.1f} %)"
    return {
        "Units": f"{found.n_units:,}",
        "Periods": f"{found.n_periods:,}{some} ({axis}, {found.frequency})",
        "Rows": f"{found.n_rows:,}{without if found.n_left_out else ''}",
        "Balanced": "yes" if found.balanced else f"no, {100 * used / cells:.1f} % of {cells:,} units × periods",
        "Gaps": gaps if gapped else "none",
    }


def _tables(found: PanelDescription) -> Iterator[pd.DataFrame]:
    """Yield what is printed: tables of text with a title in the corner."""
    yield _written(found.rows_per_unit.to_frame("Rows per unit").T, "")
    if found.patterns is not None:
        yield _written(found.patterns.set_index("pattern"), "Participation")
    if not found.balanced:
        shown = _written(found.attrition, found.time)
        dots = pd.DataFrame("…", index=["…"], columns=shown.columns)
        yield shown if len(shown) <= 2 * ENDS else pd.concat([shown[:ENDS], dots, shown[-ENDS:]])
    for title, table in (("Variation", found.variation[list(_VARIATION[:8])]), ("Categories", found.categories)):
        if len(table):
            yield _written(table, title)


def _written(table: pd.DataFrame, title: str) -> pd.DataFrame:
    sds = table.get("sd", pd.Series(10.0, table.index))
    cells = {
        name: [
            f"{100 * x:.1f} %" if name in _SHARES else f"{x:,.0f}" if x % 1 == 0 and abs(x) < 1e9 else number(x, sd)
            for x, sd in zip(table[name], sds, strict=True)
        ]
        for name in table
    }
    return pd.DataFrame(cells, index=[*map(str, table.index)]).rename_axis(columns=title)


def _lines(table: pd.DataFrame) -> Iterator[str]:
    """Yield lines of at most 90 columns; a label too long for its row stands on lines of its own."""
    rows = [(table.columns.name, *table.columns), *table.itertuples(name=None)]
    label, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    gap = min(5, max(2, (WIDTH - label - sum(widths)) // len(widths)))
    label = min(label, WIDTH - sum(widths) - gap * len(widths))
    for name, *cells in rows:
        yield from textwrap.wrap(name, WIDTH) if len(name) > label else ()
        numbers = "".join(f"{cell:>{width + gap}}" for cell, width in zip(cells, widths, strict=True))
        yield f"{name if len(name) <= label else '':<{label}}{numbers}".rstrip()
