"""A `Fit` comes in, one self-contained HTML page goes out: summary, diagnostics, plots and priors."""

import base64
import html
import io
import math
import os
from typing import Any

from hierpanel.errors import FitError
from hierpanel.results import store
from hierpanel.results.explain import paragraphs, prior_summary

_STYLE = """
:root { color-scheme: light; }
body { font-family: system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto; max-width: 60em;
       padding: 1em; line-height: 1.45; }
h1 { font-size: 1.4em; overflow-wrap: anywhere; }
h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ccc; }
h3 { display: none; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; } th, td { padding: .15em .6em; }
p { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.dataframe th, .dataframe td { text-align: left; vertical-align: top; white-space: nowrap; }
.dataframe tr { border-bottom: 1px solid #ddd; }
.dataframe tbody th { font-weight: 400; }
.dataframe td:nth-child(3) { white-space: normal; min-width: 14em; }
"""


def write(fit: Any, path: str | os.PathLike[str]) -> None:
    """Write the report of a fit.

    Raises
    ------
    FileError
        If the folder does not exist, or the path is a folder.
    """
    store.writable(path).write_text(page(fit), encoding="utf-8")


def page(fit: Any) -> str:
    """Return the report as one HTML page without outside references."""
    formula = fit.spec.formula.source or str(fit.spec.formula)
    priors = prior_summary(fit.spec, fit.design)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(formula)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(formula)}</h1>",
        fit.summary().as_html(),
        "<h2>What was estimated</h2>",
        *(f"<p>{html.escape(text)}</p>" for text in paragraphs(fit.spec, fit.design)[1:]),
        *_shrinkage(fit),
        "<h2>Priors</h2>",
        f'<div class="scroll">{priors.table_html()}</div>',
    ]
    if implied := priors.implied_html():
        parts += ["<p>What they imply before the data (prior quantiles):</p>", f'<div class="scroll">{implied}</div>']
    parts += ["<h2>Sampling</h2>", f"<p>{html.escape(_sampling(fit))}</p>", "</body></html>"]
    return "\n".join(parts)


def _shrinkage(fit: Any) -> list[str]:
    groups = [group for group in fit.spec.groups if not group.is_fixed]
    if not groups:
        return []
    import matplotlib.pyplot as plt

    parts = ["<h2>Shrinkage</h2>"]
    for group in groups:
        for coef in group.coefs[:3]:
            try:
                axes = fit.plot.shrinkage(group.name, coef)
            except FitError as reason:
                sentence = str(reason)
                parts.append(f"<p>{html.escape(sentence[:1].upper() + sentence[1:])}.</p>")
                continue
            buffer = io.BytesIO()
            axes.figure.savefig(buffer, format="png", dpi=110)
            plt.close(axes.figure)
            data = base64.b64encode(buffer.getvalue()).decode("ascii")
            alt = html.escape(f"Shrinkage of {coef} by {group.name}")
            parts.append(f'<p><img alt="{alt}" src="data:image/png;base64,{data}"></p>')
    return list(dict.fromkeys(parts))  # what keeps one column of a factor from being shown often keeps them all


def _sampling(fit: Any) -> str:
    found = fit.diagnostics()
    agreement = "" if math.isnan(found["max_r_hat"]) else f", largest R̂ {found['max_r_hat']:.3f}"
    size = "" if math.isnan(found["min_ess"]) else f", smallest effective sample size {found['min_ess']:,.0f}"
    proposals = f", Pareto k̂ of the proposals {found['pareto_k']:.2f}" if "pareto_k" in found else ""
    seconds = ", ".join(f"{value:.2f} s {name}" for name, value in fit.timing.items())
    return (
        f"Method {fit.method}: {found['chains']} chains of {found['draws']:,} draws, "
        f"{found['divergences']} divergences{agreement}{size}{proposals}; {seconds}."
    )
