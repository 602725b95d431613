"""A `Fit` and names of parameters come in; their draws go out, on the scale of reports or on that of the priors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierpanel.compiler.scales import prior_name
from hierpanel.errors import FitError
from hierpanel.inference.diagnostics import varies
from hierpanel.results import plot_style as style
from hierpanel.spec import Prior

Array = np.ndarray

# Panels that are drawn unless parameters are named.
PANELS = 12


@dataclass(frozen=True)
class Parameter:
    """One number that was estimated.

    key : as it keys priors, such as ``"sd_worker[experience]"``.
    kind : ``"beta"``, ``"sd"``, ``"cor"``, ``"b"``, and ``""`` for the family's.
    draws : (chain, draw); unit : what it is measured in.
    prior : on the scale of its prior, else None; size : columns of a correlation's block.
    """

    key: str
    kind: str
    draws: Array
    unit: str
    prior: Prior | None = None
    size: int = 0


def parameters(fit: Any, names: Sequence[str], scale: str) -> tuple[list[Parameter], int]:
    """Return the parameters that are named, or the first ones, and how many there are in all.

    Parameters
    ----------
    scale : ``"report"``, the original one; ``"prior"``, that of centred columns

    Raises
    ------
    FitError
        For names that the model has not, and parameters that are fixed at a number.
    """
    every = every_parameter(fit, scale)
    if not names:
        varying = [one for one in every if varies(one.draws, None)]
        main = [one for one in varying if one.kind != "cor"] if scale == "prior" else varying
        beta, rest = [one for one in main if one.kind == "beta"], [one for one in main if one.kind != "beta"]
        shown = [*beta[: max(PANELS - len(rest), 1)], *rest][:PANELS]
        if not shown:
            raise FitError("nothing was sampled: every parameter is fixed")
        return shown, len(main)
    found: list[Parameter] = []
    for name in names:
        if not isinstance(name, str):
            raise FitError(f"parameters are named by text, as in 'beta[x]', not by {name!r}")
        found += _named(fit, name, every, scale)
    unique = list({one.key: one for one in found}.values())
    return unique, len(unique)


def every_parameter(fit: Any, scale: str) -> list[Parameter]:
    """Return all parameters but the group effects, fixed ones among them; `scale` as in `parameters`."""
    spec, priors = fit.spec, fit.spec.priors()

    def of(key: str, kind: str, draws: Array, unit: str, size: int = 0) -> Parameter:
        prior = priors.get(key if kind != "cor" else key.split("[")[0]) if scale == "prior" else None
        return Parameter(key, kind, draws, unit, prior if isinstance(prior, Prior) else None, size)

    found = []
    if spec.coefs:
        beta = fit.draws(prior_name("beta", spec) if scale == "prior" else "beta")
        found += [of(f"beta[{c}]", "beta", beta[..., k], style.unit_of(fit, c)) for k, c in enumerate(spec.coefs)]
    for group in spec.groups:
        sd = fit.draws(prior_name("sd", group) if scale == "prior" else f"sd_{group.name}")
        found += [
            of(f"sd_{group.name}[{c}]", "sd", sd[..., k], style.unit_of(fit, c)) for k, c in enumerate(group.coefs)
        ]
    for group in spec.groups:
        if not group.is_correlated:
            continue
        cor = fit.draws(prior_name("cor", group) if scale == "prior" else f"cor_{group.name}")
        for block in group.blocks:
            places = range(block.columns.start, block.columns.stop) if block.correlated else range(0)
            for i in places:
                for j in range(block.columns.start, i):
                    key = f"cor_{group.name}[{group.coefs[j]}, {group.coefs[i]}]"
                    found.append(of(key, "cor", cor[..., i, j], "correlation", block.size))
    units = {"sigma": fit.design.response}
    return found + [of(name, "", fit.draws(name), units.get(name, name)) for name in spec.parameters]


def _named(fit: Any, name: str, every: list[Parameter], scale: str) -> list[Parameter]:
    found = [one for one in every if name in (one.key, one.key.split("[")[0])]
    found = found or [one for one in every if one.key == f"beta[{name}]"]
    effects = next((g for g in fit.spec.groups if name == f"b_{g.name}" or name.startswith(f"b_{g.name}[")), None)
    if effects is not None and scale == "report":
        return _effects(fit, effects, name)
    if not found:
        keys = [one.key for one in every]
        some = ", ".join(keys[:20]) + (", …" if len(keys) > 20 else "")
        also = "" if scale == "prior" or not fit.spec.groups else f"; effects are 'b_{fit.spec.groups[0].name}[…]'"
        raise FitError(f"there is no parameter {name!r}; there are: {some}{also}")
    varying = [one for one in found if varies(one.draws, None)]
    if not varying:
        raise FitError(f"{found[0].key} is fixed at {found[0].draws.flat[0]:.4g}: there is nothing to show")
    return varying


def _effects(fit: Any, group: Any, name: str) -> list[Parameter]:
    """Return the effects of one unit: of all columns, or of the one that is named after a comma."""
    levels = fit.design.group(group.name).levels
    inside = name[len(f"b_{group.name}[") : -1] if name.endswith("]") else ""
    place = [k for k, level in enumerate(levels) if str(level) == inside]
    coefs = list(group.coefs)
    if not place and ", " in inside:
        unit, coef = inside.rsplit(", ", 1)
        place = [k for k, level in enumerate(levels) if str(level) == unit]
        coefs = [c for c in coefs if c == coef]
    if not place or not coefs:
        example = f"'b_{group.name}[{levels[0]}]' or 'b_{group.name}[{levels[0]}, {group.coefs[0]}]'"
        raise FitError(f"{name!r} names no effect of {group.name}; write {example}")
    draws = fit.effects.at(group.name, np.array(place[:1]))[:, :, 0]
    label = f"b_{group.name}[{levels[place[0]]}"
    return [
        Parameter(
            f"{label}, {c}]" if len(group.coefs) > 1 else f"{label}]",
            "b",
            draws[..., group.coefs.index(c)],
            style.unit_of(fit, c),
        )
        for c in coefs
    ]
