"""Canonical draws and a `Design` come in; arviz's DataTree goes out, with named dims and coords."""

from collections.abc import Mapping
from typing import Any

import numpy as np

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
    sample = {"chain": np.arange(chains), "draw": np.arange(length)}
    posterior = xr.Dataset(
        {name: (("chain", "draw", *dims[name]), values) for name, values in draws.items()},
        coords={**sample, **{dim: coords[dim] for names in dims.values() for dim in names}},
        attrs={"inference_library": "hierpanel"},
    )
    rows = {"obs": coords["obs"]}
    observed = xr.Dataset({"y": ("obs", design.y)}, coords=rows)
    return xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": sample_stats,
            "observed_data": observed,
            "constant_data": xr.Dataset(_constant_data(design), coords={**rows, **_row_coords(design)}),
        }
    )


def _constant_data(design: Design) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if design.coefs:
        found["X"] = (("obs", "coef"), design.X)
    for group in design.groups:
        found[f"Z_{group.name}"] = (("obs", f"coef_{group.name}"), group.Z)
        found[f"codes_{group.name}"] = ("obs", group.codes)
    found["offset"] = ("obs", design.offset)
    for name in ("weights", "trials"):
        if getattr(design, name) is not None:
            found[name] = ("obs", getattr(design, name))
    return found


def _row_coords(design: Design) -> dict[str, Any]:
    coords: dict[str, Any] = {"coef": list(design.coefs)} if design.coefs else {}
    for group in design.groups:
        coords[group.name] = group.levels.to_numpy()
        coords[f"coef_{group.name}"] = list(group.coefs)
    return coords
