"""Fits come in, hierpanel's and those of statsmodels, linearmodels and pyfixest; a `JournalTable` goes out.

The functions ``maketables_…`` return what the plug-in format of the package maketables asks of a result.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from hierpanel.errors import FitError
from hierpanel.results import tables
from hierpanel.results.coefficient_names import CONSTANT, alike, canonical
from hierpanel.results.fit import Fit
from hierpanel.results.journal_columns import (
    FACTS,
    PARAMETERS,
    STATS,
    Cells,
    Column,
    Entry,
    read,
)
from hierpanel.results.journal_table import JournalTable, Row
from hierpanel.results.loo import FEWEST
from hierpanel.results.summary import number

MOST_ROWS = 5_000  # for which leave-one-out, some milliseconds each, is taken without being asked for


def table(
    fits: Any,
    *,
    names: Sequence[str] | None = None,
    keep: str | Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    statistic: Literal["sd", "interval"] = "sd",
    stars: bool = False,
    prob: float = 0.95,
    digits: int | None = None,
    stats: Sequence[str] | None = None,
    title: str | None = None,
    notes: str | Sequence[str] = (),
    label: str | None = None,
) -> JournalTable:
    """Put fits side by side, as economics journals do.

    Parameters
    ----------
    fits : list, or mapping of name → fit
        Fits of hierpanel and fitted results of statsmodels, linearmodels and pyfixest, in any mixture.
    names : of the columns, beside their numbers
    keep : coefficients to show, in that order: names, or regular expressions; all unless given, the constant last
    rename : row → what to print; rows that get one name become one, such as ``union`` and ``within(union)``
    statistic : ``"sd"``: posterior sds and standard errors, or ``"interval"``: intervals of probability `prob`
    stars : whether coefficients get stars; the notes say what they stand for
    digits : decimals; unless given, as many as show three digits of the smallest sd in the row, of the columns of one
        dependent variable
    stats : what follows the coefficients, in that order: ``"sd"`` (sds and correlations; always first), ``"icc"``,
        ``"r2"``, ``"r2_panel"``, ``"effects"``, ``"n"``, ``"units"``, ``"method"``, ``"elpd"`` (leave-one-out); all
        unless given, but for ``"elpd"`` where a fit has more than 5,000 rows, or fewer than 25 draws in all
    title, notes : headline, and further sentences under the table
    label : by which LaTeX refers to the table, such as ``"tab:wages"``

    Returns
    -------
    JournalTable

    Raises
    ------
    FitError
        For a column that is no fitted result, and an option that does not suit.

    Examples
    --------
    >>> import hierpanel as hp
    >>> df = hp.datasets.load("dyestuff")
    >>> fits = [hp.fit(formula, df, draws=200, seed=1) for formula in ("yield_ ~ 1", "yield_ ~ fe(batch)")]
    >>> table(fits, names=["Pooled", "Fixed"], digits=0, stats=["effects", "n"]).frame.iloc[[0, 2, 3]]
                        Pooled  Fixed
    Constant             1,...  1,...
    batch fixed effects           yes
    Observations            30     30
    """
    tables.check_prob(prob)
    if isinstance(fits, Mapping):
        names, fits = list(fits) if names is None else names, list(fits.values())
    fits = list(fits) if isinstance(fits, (list, tuple)) else [fits]
    if not fits or not (names is None or (_is_list(names) and len(names) == len(fits))):
        raise FitError(f"a table needs one fit or more, and as many names as fits: {len(fits)} fits, names={names!r}")
    stats, left_out = (stats, []) if stats is not None else _default_stats(fits)
    rename, notes = {} if rename is None else rename, [notes] if isinstance(notes, str) else notes
    _check_options(keep, rename, statistic, stars, digits, stats, title, notes, label)
    columns = [read(fit, prob, stats) for fit in fits]
    style = _Style(statistic, stars, digits, [column.response for column in columns])
    coefs, labels_of = _lined_up(columns)
    kept = _kept(_union(coefs), labels_of, keep)
    rows = _union([*coefs, *(cells for column in columns for cells in column.facts.values())])
    said = {*rows, *(column.response for column in columns)}
    if unknown := [name for name in rename if _label(name, labels_of) not in said]:
        raise FitError(f"rename names {unknown[0]!r}, which no row is called; the rows are: {', '.join(rows)}")
    say = {_label(name, labels_of): label for name, label in rename.items()}
    blocks = [style.rows(coefs, kept, say)]
    for keys in (["sd"] if "sd" in stats else [], [key for key in stats if key != "sd"]):
        parts = [[column.facts.get(key, {}) for column in columns] for key in keys]
        labels = [label for part in parts for label in _union(part)]
        labels.sort(key=lambda label: keys == ["sd"] and label in PARAMETERS)
        facts = [{label: cell for part in parts for label, cell in part[k].items()} for k in range(len(columns))]
        blocks.append(style.rows(facts, labels, say))
    return JournalTable(
        title=title,
        names=tuple(map(str, names or ())),
        responses=tuple(say.get(column.response, column.response) for column in columns),
        blocks=tuple(tuple(block) for block in blocks if block),
        notes=(*_notes(columns, style, prob, {*kept, *stats}, [*left_out, *_on_elpd(fits, stats)]), *notes),
        label=label,
    )


def _check_options(
    keep: Any,
    rename: Any,
    statistic: Any,
    stars: Any,
    digits: Any,
    stats: Any,
    title: Any,
    notes: Any,
    label: Any,
) -> None:
    """Raise a FitError for an option that is of another kind than `table` takes."""
    unknown = [key for key in stats if key not in FACTS] if _is_list(stats) else [stats]
    if unknown:
        raise FitError(f"stats is a list of names out of {', '.join(FACTS)}; not {unknown[0]!r}")
    if statistic not in ("sd", "interval"):
        raise FitError(f"statistic is 'sd' or 'interval', not {statistic!r}")
    if digits is not None and (not isinstance(digits, int) or isinstance(digits, bool) or digits < 0):
        raise FitError(f"digits is a number of decimals, 0 or more, not {digits!r}")
    if not isinstance(stars, bool):
        raise FitError(f"stars is True or False, not {stars!r}")
    if not (keep is None or isinstance(keep, str) or _are_texts(keep)):
        raise FitError(f"keep is a coefficient, a regular expression, or a list of these, not {keep!r}")
    if not isinstance(rename, Mapping) or not _are_texts([*rename, *rename.values()]):
        raise FitError(f"rename is a mapping, as in rename={{'union': 'Union member'}}, not {rename!r}")
    if title is not None and not isinstance(title, str):
        raise FitError(f"title is a text, not {title!r}")
    if not _are_texts(notes):
        raise FitError(f"notes is a sentence, or a list of sentences, not {notes!r}")
    if label is not None and not (isinstance(label, str) and re.fullmatch(r"[^\\{}%#~]+", label)):
        raise FitError(f"label is what \\ref refers to, such as 'tab:wages', without \\ {{ }} % # ~; not {label!r}")


def _is_list(values: Any) -> bool:
    return isinstance(values, Collection) and not isinstance(values, str)


def _are_texts(values: Any) -> bool:
    return _is_list(values) and all(isinstance(value, str) for value in values)


def _default_stats(fits: Iterable[Any]) -> tuple[tuple[str, ...], list[str]]:
    """Keys of the rows that a table has unless told, and what is said of the ELPD where it is none of them."""
    own = [fit for fit in fits if isinstance(fit, Fit)]
    reason = ""
    if any(fit.nobs > MOST_ROWS for fit in own):
        reason = f"more than {MOST_ROWS:,} rows; stats=[…, 'elpd'] adds it"
    elif any(fit.idata["posterior"].sizes["chain"] * fit.idata["posterior"].sizes["draw"] < FEWEST for fit in own):
        reason = f"fewer than {FEWEST} draws"
    return (STATS, [f"ELPD left out: {reason}."]) if reason else ((*STATS, "elpd"), [])


def _on_elpd(fits: Iterable[Any], stats: Sequence[str]) -> list[str]:
    """Say what ELPDs are, and which of them can be compared."""
    own = [fit.design for fit in fits if isinstance(fit, Fit)]
    if "elpd" not in stats or not own:
        return []
    differ = any(
        one.response != own[0].response or not one.index.equals(own[0].index) or not np.array_equal(one.y, own[0].y)
        for one in own
    )
    apart = "; comparable only between columns of the same rows and response" * differ
    return [f"ELPD: log density of a new row of a known unit, by leave-one-out, higher is better{apart}."]


class _Style(NamedTuple):
    """How numbers are written, given the dependent variable of each column."""

    statistic: str
    stars: bool
    digits: int | None
    responses: Sequence[str]

    def rows(self, columns: list[Cells], order: Iterable[str], say: Mapping[str, str]) -> list[Row]:
        """Return a row for each label, two where numbers have something under them."""
        found: dict[str, list[Any]] = {}
        for name in order:
            cells = found.setdefault(say.get(name, name), [None] * len(columns))
            for k, column in enumerate(columns):
                if name in column and cells[k] is not None:
                    raise FitError(f"rename gives two rows of column ({k + 1}) the name {say.get(name, name)!r}")
                cells[k] = column.get(name, cells[k])
        rows: list[Row] = []
        for label, cells in found.items():
            pairs = list(zip(cells, self.scales(cells), strict=True))
            below = tuple(self.below(cell, scale) for cell, scale in pairs)
            rows.append((label, tuple(self.cell(cell, scale) for cell, scale in pairs)))
            rows += [("", below)] if any(below) else []
        return rows

    def scales(self, cells: Sequence[Any]) -> list[float]:
        """For each cell the smallest sd of those with its dependent variable; NaN where there is none."""
        smallest: dict[str, float] = {}
        for response, cell in zip(self.responses, cells, strict=True):
            if isinstance(cell, Entry) and cell.sd > 0:
                smallest[response] = min(cell.sd, smallest.get(response, math.inf))
        return [smallest.get(response, math.nan) for response in self.responses]

    def cell(self, cell: Any, scale: float) -> str:
        if isinstance(cell, Entry):
            marks = "*" * sum(cell.p < level for level in (0.1, 0.05, 0.01))
            return self.number(cell.mean, scale) + (marks if self.stars else "")
        if isinstance(cell, float):
            return _fixed(cell, 3 if self.digits is None else self.digits)
        return "" if cell is None else cell if isinstance(cell, str) else f"{cell:,}"

    def below(self, cell: Any, scale: float) -> str:
        if not isinstance(cell, Entry):
            return ""
        if cell.sd == 0:
            return "(fixed)"
        if self.statistic == "sd":
            return "" if math.isnan(cell.sd) else f"({self.number(cell.sd, scale)})"
        return "" if math.isnan(cell.lower) else f"[{self.number(cell.lower, scale)}, {self.number(cell.upper, scale)}]"

    def number(self, value: float, scale: float) -> str:
        return number(value, scale) if self.digits is None else _fixed(value, self.digits)


def _fixed(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text if text.strip("-0.,") else text.lstrip("-")  # no minus before 0


def _union(columns: Iterable[Cells]) -> list[str]:
    """Every label once, in order of first appearance."""
    return list(dict.fromkeys(label for column in columns for label in column))


def _lined_up(columns: Iterable[Column]) -> tuple[list[Cells], dict[str, str]]:
    """Coefficients of each column by the name that the first with them has for them, and those names by `alike`."""
    labels: dict[str, str] = {}
    found = []
    for column in columns:
        keys = alike(column.coefs)
        found.append({labels.setdefault(keys[name], name): cell for name, cell in column.coefs.items()})
    return found, labels


def _label(name: str, labels: Mapping[str, str]) -> str:
    """The label of a row, whichever way it is spelled."""
    own = canonical(name)
    return own if own in labels.values() else labels.get(alike([name])[name], own)


def _kept(coefs: list[str], labels: Mapping[str, str], keep: str | Sequence[str] | None) -> list[str]:
    if keep is None:
        return sorted(coefs, key=lambda name: name == CONSTANT)
    found = []
    for wanted in [keep] if isinstance(keep, str) else keep:
        try:
            label = _label(wanted, labels)
            hits = [label] if label in coefs else [coef for coef in coefs if re.search(wanted, coef)]
        except re.error as error:
            raise FitError(f"keep={wanted!r} is neither a coefficient nor a regular expression: {error}") from error
        if not hits:
            raise FitError(f"no coefficient is called, or matches, keep={wanted!r}; there are: {', '.join(coefs)}")
        found += hits
    return list(dict.fromkeys(found))


def _notes(columns: Sequence[Column], style: _Style, prob: float, shown: set[str], of_elpd: Iterable[str]) -> list[str]:
    """Say what stands in the cells, and in which columns; `shown` are coefficients and keys of `FACTS`."""
    percent, notes = f"{100 * prob:g} %", []
    for errors in dict.fromkeys(column.errors for column in columns):
        own = ", ".join(f"({k})" for k, column in enumerate(columns, 1) if column.errors == errors)
        kind = "Posterior means" if errors is None else "Estimates"
        if style.statistic == "sd":
            under = f"{'posterior sds' if errors is None else f'{errors} standard errors'.strip()} in parentheses"
        else:
            by = f" from {errors} standard errors" if errors else ""
            name = "equal-tailed posterior" if errors is None else "confidence"
            under = f"{percent} {name} intervals{by} in brackets"
        everywhere = all(column.errors == errors for column in columns)
        notes.append(f"{kind}, with {under}." if everywhere else f"{own}: {kind.lower()}, with {under}.")
    bayes = [column for column in columns if column.errors is None]
    shares = {key for key in ("icc", "r2", "r2_panel") for column in bayes if column.facts.get(key)}
    notes += [f"({k}): {' '.join(column.problems)}" for k, column in enumerate(columns, 1) if column.problems]
    johnson = "; R² marginal and conditional as in Johnson (2014)" * ("r2" in shares)
    alone = "; R² within, between and overall of the coefficients alone" * ("r2_panel" in shares)
    notes += [f"Shares of variance are posterior means too{johnson}{alone}."] if shares else []
    notes += of_elpd
    if style.stars and len(bayes) < len(columns):
        notes.append("Estimates: * p < 0.1, ** p < 0.05, *** p < 0.01.")
    if style.stars and bayes:
        levels = "0.95 (*), 0.975 (**), 0.995 (***)"
        notes.append(f"Posterior means: P(> 0), or P(< 0), is above {levels}: two-sided 0.9, 0.95, 0.99; no test.")
    return notes + list(dict.fromkeys(said for column in columns for what, said in column.notes if what in shown))


def maketables_coef_table(fit: Fit) -> pd.DataFrame:
    """Return what ``__maketables_coef_table__`` is: a row for each coefficient; p is NaN, for it would be no p-value.

    Columns ``b``, ``se``, ``p``, equal-tailed intervals ``ci95l``, ``ci95u``, ``ci90l``, ``ci90u``, and ``p_pos``.

    Examples
    --------
    >>> import hierpanel as hp
    >>> fit = hp.fit("yield_ ~ (1 | batch)", hp.datasets.load("dyestuff"), draws=100, seed=1)
    >>> maketables_coef_table(fit)[["b", "se"]].round(-1)
                      b    se
    Coefficient
    Intercept    1530.0  20.0
    """
    wide, narrow = fit.fixef(0.95), fit.fixef(0.9)
    found = {"b": wide["mean"], "se": wide["sd"], "p": np.nan, "ci95l": wide["lower"], "ci95u": wide["upper"]}
    found |= {"ci90l": narrow["lower"], "ci90u": narrow["upper"], "p_pos": wide["p_pos"]}
    return pd.DataFrame(found, index=pd.Index(list(wide.index), name="Coefficient"))


def maketables_stat(fit: Fit, key: str) -> Any:
    """Return a statistic of the fit for ``__maketables_stat__``; None where it has none under that key.

    Keys are those of `maketables_stat_labels`, ``"se_type"``, and without groups ``"r2"``.
    """
    if key == "se_type":
        return "posterior sd"
    block, label = (_keys(fit) | ({} if fit.spec.groups else {"r2": ("r2", "R² marginal")})).get(key, ("n", ""))
    return FACTS[block](fit, 0.95).get(label)


def maketables_stat_labels(fit: Fit) -> dict[str, str]:
    """Return key → label of the statistics that a fit may have, for ``__maketables_stat_labels__``."""
    return {key: label for key, (_, label) in _keys(fit).items()}


def maketables_default_stat_keys(fit: Fit) -> list[str]:
    """Return the keys of the statistics that the fit has, for ``__maketables_default_stat_keys__``."""
    return [key for key in _keys(fit) if maketables_stat(fit, key) is not None]


def maketables_depvar(fit: Fit) -> str:
    """Return the name of the dependent variable, for ``__maketables_depvar__``."""
    return fit.spec.formula.response


def maketables_fixef_string(fit: Fit) -> str | None:
    """Return the factors of ``fe()``, as in "worker+year", or None, for ``__maketables_fixef_string__``."""
    return "+".join(group.name for group in fit.spec.groups if group.is_fixed) or None


def maketables_vcov_info(fit: Fit) -> dict[str, str | None]:
    """Return what the column ``se`` is, for ``__maketables_vcov_info__``."""
    return {"vcov_type": "posterior sd", "clustervar": None}


def _keys(fit: Fit) -> dict[str, tuple[str, str]]:
    """Key of a statistic in maketables → its key in `FACTS` and its row there.

    Rows that other packages do not have are their own keys: maketables asks only the first of its models for labels.
    """
    groups, panel = [group.name for group in fit.spec.groups], fit.spec.panel
    units = dict.fromkeys([*([] if panel is None else [panel.unit]), *groups])
    rows = [("units", f"Units ({name})") for name in units] + [("icc", f"ICC {name}") for name in groups]
    rows += [("r2", "R² marginal"), ("r2", "R² conditional")]
    found = {"N": ("n", "Observations")} | {label: (block, label) for block, label in rows}
    found |= {f"r2_{name}": ("r2_panel", f"R² {name}") for name in ("within", "between", "overall")}
    return found | {"Method": ("method", "Method")}
