"""Canonical draws and a `Design` come in; arviz's DataTree goes out, with named dims and coords."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.design import Design


def to_datatree(
    draws: Mapping[str, np.ndarray],
    dims: Mapping[str, tuple[str, ...]],
    coords: Mapping[str, Any],
    sample_stats: Any,
    design: Design,
) -> Any:
    """Return a DataTree with the groups ``posterior``, ``sample_stats``, ``observed_data`` and ``constant_data``.

    Parameters
    ----------
    draws : name → (chain, draw, …)
    dims : name → its dims after chain and draw
    coords : dim → labels, ``obs`` for the rows
    sample_stats : xarray Dataset
    """
    import xarray as xr

    chains, length = next(iter(draws.values())).shape[:2]
    sample = _index({"chain": np.arange(chains), "draw": np.arange(length)})
    coords = _index(coords)
    posterior = xr.Dataset(
        {name: (("chain", "draw", *dims[name]), values) for name, values in draws.items()},
        coords={**sample, **{dim: coords[dim] for name in draws for dim in dims[name]}},
        attrs={"inference_library": "hierpanel"},
    )
    rows = _index({"obs": coords["obs"]})
    observed = xr.Dataset({"y": ("obs", design.y)}, coords=rows)
    return xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": sample_stats,
            "observed_data": observed,
            "constant_data": xr.Dataset(_constant_data(design), coords={**rows, **_row_coords(design)}),
        }
    )


def statistics(stats: Mapping[str, np.ndarray], names: Sequence[str], attributes: Mapping[str, Any]) -> Any:
    """Return an xarray Dataset of a sampler's statistics (chain, draw); ψ, if it is there, has coordinates `names`."""
    import xarray as xr

    lead = ("chain", "draw")
    chains, draws = next(iter(stats.values())).shape[:2]
    return xr.Dataset(
        {name: ((*lead, "psi_dim") if name == "psi" else lead, values) for name, values in stats.items()},
        coords=_index({"chain": np.arange(chains), "draw": np.arange(draws), "psi_dim": list(names)}),
        attrs=dict(attributes),
    )


def _index(coords: Mapping[str, Any]) -> dict[str, Any]:
    """Make labels pandas Indexes: for anything else xarray looks for the sparse package, which imports numba."""
    return {
        name: labels
        if isinstance(labels, pd.Index)
        else pd.Index(labels, dtype=object if isinstance(labels, list) else None)
        for name, labels in coords.items()
    }


def _constant_data(design: Design) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if design.coefs:
        found["X"] = (("obs", "coef"), design.X)
    for group in design.groups:
        found[f"Z_{group.name}"] = (("obs", f"coef_{group.name}"), group.Z)
        found[f"codes_{group.name}"] = ("obs", group.codes)
    found["offset"] = ("obs", design.offset)
    for name in ("weights", "trials", "units"):
        if getattr(design, name) is not None:
            found[name] = ("obs", getattr(design, name))
    return found


def _row_coords(design: Design) -> dict[str, Any]:
    coords: dict[str, Any] = {"coef": list(design.coefs)} if design.coefs else {}
    for group in design.groups:
        coords[group.name] = group.levels.to_numpy()
        coords[f"coef_{group.name}"] = list(group.coefs)
    return _index(coords)
