"""Fits by the marginal route come in; log evidences and posterior probabilities of the models go out."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hierpanel.errors import FitError
from hierpanel.results.tables import Table
from hierpanel.spec import ModelSpec, Prior

FLAT = ("Flat", "HalfFlat")


def log_evidence(fit: Any) -> tuple[float, float]:
    """Return log p(y) and its standard error; see `Fit.log_evidence`."""
    if reason := refuses(fit.spec):
        raise FitError(f"no evidence: {reason}")
    attributes = fit.idata["sample_stats"].attrs
    if "log_evidence" not in attributes:
        why = "the marginal route gives it, and this fit is by NUTS"
        if fit.method == "marginal":
            why = f"Pareto k̂ is {attributes['pareto_k']:.2f}, so the weights that it is the mean of cannot be trusted"
        raise FitError(f"no evidence: {why}; fit.loo() compares models without it")
    return float(attributes["log_evidence"]), float(attributes["log_evidence_se"])


def refuses(spec: ModelSpec) -> str | None:
    """Return why a model has no evidence, or None."""
    for group in spec.groups:
        if group.is_fixed:
            return (
                f"fe({group.name}) has a prior so wide (sd {group.sd[0]:.3g}) that it would decide the comparison; use "
                f"(1 | {group.name}), or compare by='loo'"
            )
    for key, prior in spec.priors().items():
        if isinstance(prior, Prior) and prior.name in FLAT:
            return f"the prior of {key} is {prior.name}, which has no normalising constant; give it a proper one"
    return None


def compare(fits: Mapping[str, Any]) -> Table:
    """Return log evidences, differences from the best, and posterior probabilities at equal prior ones, best first."""
    found = {name: log_evidence(fit) for name, fit in fits.items()}
    order = sorted(found, key=lambda name: -found[name][0])
    best, best_error = found[order[0]]
    total = math.log(sum(math.exp(value - best) for value, _ in found.values()))
    table = Table(
        {
            "log_evidence": [found[name][0] for name in order],
            "se": [found[name][1] for name in order],
            "log_bayes_factor": [found[name][0] - best for name in order],
            "se_diff": [0.0 if name == order[0] else math.hypot(found[name][1], best_error) for name in order],
            "probability": [math.exp(found[name][0] - best - total) for name in order],
        },
        index=np.array(order, dtype=object),
    )
    table.columns.name = "evidence: depends on the priors, and default priors on the response"
    return table
