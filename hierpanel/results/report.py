"""A `Fit` comes in, one self-contained HTML page goes out: summary, diagnostics, plots and priors."""

import base64
import html
import io
import os
from pathlib import Path
from typing import Any

from hierpanel.errors import FileError
from hierpanel.results.explain import explain, prior_summary

_STYLE = """
:root { color-scheme: light; }
body { font-family: system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto; max-width: 60em;
       padding: 1em; line-height: 1.45; }
h1 { font-size: 1.4em; overflow-wrap: anywhere; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ccc; }
h3 { display: none; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; } th, td { padding: .15em .6em; }
.scroll { overflow-x: auto; } pre { white-space: pre-wrap; background: #f6f6f4; padding: .8em; }
.dataframe th, .dataframe td { text-align: right; border: 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
.dataframe tbody th { text-align: left; }
"""


def write(fit: Any, path: str | os.PathLike[str]) -> None:
    """Write the report of a fit.

    Raises
    ------
    FileError
        If the folder does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileError(f"cannot write {target}: the folder {target.parent} does not exist")
    target.write_text(page(fit), encoding="utf-8")


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
        f"<pre>{html.escape(explain(fit.spec, fit.design))}</pre>",
        *_shrinkage(fit),
        "<h2>Priors</h2>",
        f'<div class="scroll">{priors.table.to_html()}</div>',
    ]
    if len(priors.implied):
        parts += [
            "<p>What they imply before the data (prior quantiles):</p>",
            f'<div class="scroll">{priors.implied.round(2).to_html()}</div>',
        ]
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
            axes = fit.plot.shrinkage(group.name, coef)
            buffer = io.BytesIO()
            axes.figure.savefig(buffer, format="png", dpi=110)
            plt.close(axes.figure)
            data = base64.b64encode(buffer.getvalue()).decode("ascii")
            alt = html.escape(f"Shrinkage of {coef} by {group.name}")
            parts.append(f'<p><img alt="{alt}" src="data:image/png;base64,{data}"></p>')
    return parts


def _sampling(fit: Any) -> str:
    found = fit.diagnostics()
    return (
        f"Method {fit.method}: {found['chains']} chains of {found['draws']:,} draws, {found['divergences']} divergences, "
        f"largest R̂ {found['max_r_hat']:.3f}, smallest effective sample size {found['min_ess']:,.0f}; "
        + ", ".join(f"{value:.1f} s {name}" for name, value in fit.timing.items())
        + "."
    )
