"""A `Fit` comes in, one self-contained HTML page goes out: summary, diagnostics, plots and priors."""

import base64
import html
import io
import math
import os
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from hierpanel.errors import HierpanelError
from hierpanel.results import plot_grid as grids
from hierpanel.results import store
from hierpanel.results.explain import paragraphs, prior_summary

# Pixels below which an image's smallest letters do not shrink; a narrower page scrolls it.
READABLE = 7.5

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
.scroll, .hierpanel div { overflow-x: auto; background: no-repeat white;
  background-image: linear-gradient(to right, #fff 50%, #fff0), linear-gradient(to left, #fff 50%, #fff0),
                    linear-gradient(to right, #0005, #0000), linear-gradient(to left, #0005, #0000);
  background-position: left, right, left, right; background-size: 2em 100%, 2em 100%, .8em 100%, .8em 100%;
  background-attachment: local, local, scroll, scroll; }
.scroll img { display: block; mix-blend-mode: multiply; }
.hierpanel td:first-child { overflow-wrap: anywhere; min-width: 8em; }
.dataframe th, .dataframe td { text-align: left; vertical-align: top; white-space: nowrap; }
.dataframe tr { border-bottom: 1px solid #ddd; }
.dataframe tbody th { font-weight: 400; }
.priors td, .priors tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 10em; }
@media (max-width: 44em) {
  .priors thead { display: none; }
  .priors tr, .priors td, .priors tbody th { display: block; }
  .priors tbody th { font-weight: 600; }
}
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
        *_section("Coefficients", _coefficients(fit)),
        *_section("Expected responses", _predictions(fit)),
        *_section("Units", _units(fit)),
        *_section("Does the model see such data?", [_figure(lambda: fit.plot.ppc(), "Posterior predictive check")]),
        "<h2>Priors</h2>",
        f'<div class="scroll priors">{priors.table_html()}</div>',
    ]
    if implied := priors.implied_html():
        parts += ["<p>What they imply before the data (prior quantiles):</p>", f'<div class="scroll">{implied}</div>']
    parts += [
        _figure(lambda: fit.plot.prior_posterior(), "Prior and posterior"),
        "<h2>Sampling</h2>",
        f"<p>{html.escape(_sampling(fit))}</p>",
        _figure(lambda: fit.plot.rank(), "Ranks of the chains"),
        "<h2>How to cite</h2>",
        *(f"<p>{html.escape(text)}</p>" for text in _citations(fit)),
        "</body></html>",
    ]
    return "\n".join(parts)


def _section(title: str, parts: list[str]) -> list[str]:
    """A heading and what stands under it; nothing without that. A sentence that repeats is said once."""
    return [f"<h2>{title}</h2>", *dict.fromkeys(parts)] if parts else []


def _coefficients(fit: Any) -> list[str]:
    has_slopes = any(coef != "Intercept" for coef in fit.spec.coefs)
    return [_figure(lambda: fit.plot.coefficients(), "Coefficients")] if has_slopes else []


def _predictions(fit: Any) -> list[str]:
    """Expected responses over the first regressors, where the fit holds its rows and each stands by itself."""
    try:
        if fit.source is None or fit.spec.joined or fit.coding.operators.shifts:
            return []
    except HierpanelError:  # a fit from a file, whose formula names functions of the session that made it
        return []
    names = [name for name in fit.coding.columns() if name in grids.regressors(fit)]
    return [_figure(partial(fit.plot.predictions, name), f"Expected response by {name}") for name in names[:3]]


def _units(fit: Any) -> list[str]:
    """How far units differ, and how far partial pooling moves each."""
    parts = []
    for group in fit.spec.groups:
        for coef in group.coefs[:3]:
            name = group.name
            parts.append(_figure(partial(fit.plot.caterpillar, name, coef), f"{coef} by {name}, sorted"))
            if not group.is_fixed:
                parts.append(_figure(partial(fit.plot.shrinkage, name, coef), f"Shrinkage of {coef} by {name}"))
    return parts


def _figure(draw: Callable[[], Any], alt: str) -> str:
    """Return a plot as an image within the page, or the sentence that says why there is none."""
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    try:
        axes = draw()
    except HierpanelError as reason:
        sentence = str(reason)
        return f"<p>{html.escape(sentence[:1].upper() + sentence[1:])}.</p>"
    figure = np.ravel(np.asarray(axes, dtype=object))[0].figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    smallest = min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible())
    least = 72 * figure.get_size_inches()[0] * READABLE / smallest
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    image = f'<img alt="{html.escape(alt)}" style="min-width:{least:.0f}px" src="data:image/png;base64,{data}">'
    return f'<p class="scroll">{image}</p>'


def _citations(fit: Any) -> list[str]:
    """Name the software, and the methods that this fit rests on."""
    version = metadata.version("hierpanel")
    found = [
        f"hierpanel {version}: Bayesian panel and multilevel regression from one line of formula (Python package). "
        "Formulas in lme4's notation: Bates, Mächler, Bolker and Walker (2015), Journal of Statistical Software 67(1)."
    ]
    if fit.method == "nuts":
        found.append(
            "Sampled by nutpie (NUTS: Hoffman and Gelman, 2014, JMLR 15) on a PyMC model (Abril-Pla et al., 2023)."
        )
    else:
        found.append(
            "Coefficients and group effects integrated out exactly; variance parameters by independence Metropolis "
            "chains, checked by Pareto k̂ (Vehtari et al., 2024, JMLR 25)."
        )
    found.append("R̂ and effective sample sizes: Vehtari et al. (2021), Bayesian Analysis 16(2). R²: Johnson (2014).")
    return found


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
