"""A `Fit` comes in, one netCDF file goes out, and back. The file holds numbers and text; reading it runs nothing."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.design import BlockDesign, Design, GroupDesign
from hierpanel.errors import FileError
from hierpanel.formula import parse
from hierpanel.spec import GroupSpec, ModelSpec, Prior, family

FORMAT = 1
KEY = "hierpanel"


def save(fit: Any, path: str | os.PathLike[str]) -> None:
    """Write the fit's DataTree with the spec as JSON in its attributes."""
    import xarray as xr

    target = Path(path)
    if not target.parent.is_dir():
        raise FileError(f"cannot write {target}: the folder {target.parent} does not exist")
    groups = {name: node.to_dataset() for name, node in fit.idata.children.items()}
    rows, index = _index_to_rows(fit.design.index)
    groups["constant_data"] = groups["constant_data"].assign({name: ("obs", values) for name, values in rows.items()})
    tree = xr.DataTree.from_dict(groups)
    tree.attrs[KEY] = json.dumps(
        {
            "format": FORMAT,
            "spec": _spec_to_json(fit.spec),
            "response": fit.design.response,
            "aliased": list(fit.design.aliased),
            "index": index,
            "method": fit.method,
            "timing": dict(fit.timing),
        }
    )
    tree.to_netcdf(target, engine="h5netcdf")


def load(path: str | os.PathLike[str]) -> Any:
    """Read a fit that ``Fit.save`` wrote.

    Raises
    ------
    FileError
        If there is no such file, or it is not a hierpanel fit.
    """
    import xarray as xr

    from hierpanel.results.fit import Fit

    source = Path(path)
    if not source.is_file():
        raise FileError(f"there is no file {source}")
    try:
        with xr.open_datatree(source, engine="h5netcdf") as opened:
            tree = opened.load()
    except Exception as error:
        raise FileError(f"{source} is not a netCDF file that can be read: {error}") from error
    text = tree.attrs.pop(KEY, None)
    if text is None:
        raise FileError(f"{source} is a netCDF file, but not a fit that hierpanel saved")
    try:
        stored = json.loads(text)
        if stored["format"] != FORMAT:
            raise FileError(f"{source} has format {stored['format']}; this version of hierpanel reads format {FORMAT}")
        spec = _spec_from_json(stored["spec"])
        groups = {name: node.to_dataset() for name, node in tree.children.items()}
        design = _design(spec, stored, groups["constant_data"], groups["observed_data"])
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise FileError(f"{source} is damaged: {type(error).__name__}: {error}") from error
    groups["constant_data"] = groups["constant_data"].drop_vars(stored["index"]["variables"])
    return Fit(spec, design, xr.DataTree.from_dict(groups), stored["method"], stored["timing"])


def _spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    return {
        "formula": spec.formula.source or str(spec.formula),
        "family": [spec.family.name, spec.family.link.name],
        "coefs": list(spec.coefs),
        "beta": [_prior_to_json(prior) for prior in spec.beta],
        "center": spec.center.tolist(),
        "groups": [
            {
                "name": group.name,
                "coefs": list(group.coefs),
                "blocks": [
                    asdict(block) | {"columns": [block.columns.start, block.columns.stop]} for block in group.blocks
                ],
                "sd": [_prior_to_json(prior) for prior in group.sd],
                "eta": group.eta,
                "center": group.center.tolist(),
                "levels": group.levels,
            }
            for group in spec.groups
        ],
        "parameters": {name: _prior_to_json(prior) for name, prior in spec.parameters.items()},
        "scale": spec.scale,
        "n": spec.n,
        "n_total": spec.n_total,
        "dropped": [list(pair) for pair in spec.dropped],
        "weighted": spec.weighted,
        "notes": list(spec.notes),
    }


def _spec_from_json(stored: Mapping[str, Any]) -> ModelSpec:
    groups = tuple(
        GroupSpec(
            name=group["name"],
            coefs=tuple(group["coefs"]),
            blocks=tuple(
                BlockDesign(slice(*block["columns"]), block["correlated"], block["fixed"]) for block in group["blocks"]
            ),
            sd=tuple(_prior_from_json(prior) for prior in group["sd"]),
            eta=group["eta"],
            center=np.array(group["center"], dtype=float),
            levels=group["levels"],
        )
        for group in stored["groups"]
    )
    beta = [_prior_from_json(prior) for prior in stored["beta"]]
    parameters = {name: _prior_from_json(prior) for name, prior in stored["parameters"].items()}
    return ModelSpec(
        formula=parse(stored["formula"]),
        family=family(*stored["family"]),
        coefs=tuple(stored["coefs"]),
        beta=tuple(prior for prior in beta if isinstance(prior, Prior)),
        center=np.array(stored["center"], dtype=float),
        groups=groups,
        parameters={name: prior for name, prior in parameters.items() if isinstance(prior, Prior)},
        scale=stored["scale"],
        n=stored["n"],
        n_total=stored["n_total"],
        dropped=tuple((name, count) for name, count in stored["dropped"]),
        weighted=stored["weighted"],
        notes=tuple(stored["notes"]),
    )


def _prior_to_json(prior: Prior | float) -> Any:
    return prior if isinstance(prior, float) else [prior.name, prior.values]


def _prior_from_json(stored: Any) -> Prior | float:
    return float(stored) if isinstance(stored, (int, float)) else Prior(stored[0], **stored[1])


def _design(spec: ModelSpec, stored: Mapping[str, Any], data: Any, observed: Any) -> Design:
    def column(name: str) -> np.ndarray | None:
        return np.asarray(data[name].values) if name in data else None

    offset = column("offset")
    assert offset is not None
    n = len(offset)
    groups = tuple(
        GroupDesign(
            name=group.name,
            levels=pd.Index(data[group.name].values),
            codes=np.asarray(data[f"codes_{group.name}"].values),
            Z=np.asarray(data[f"Z_{group.name}"].values),
            coefs=group.coefs,
            blocks=group.blocks,
        )
        for group in spec.groups
    )
    X = column("X")
    return Design(
        response=stored["response"],
        y=np.asarray(observed["y"].values),
        trials=column("trials"),
        X=np.empty((n, 0)) if X is None else X,
        coefs=spec.coefs,
        offset=offset,
        weights=column("weights"),
        groups=groups,
        index=_rows_to_index(stored["index"], data),
        aliased=tuple(stored["aliased"]),
    )


def _index_to_rows(index: pd.Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """Store an index as a column for each level, numbers as numbers and the rest as text."""
    levels = [index.get_level_values(k) for k in range(index.nlevels)]
    rows: dict[str, Any] = {}
    for k, level in enumerate(levels):
        is_number = pd.api.types.is_numeric_dtype(level.dtype) and not isinstance(level.dtype, pd.CategoricalDtype)
        rows[f"row_label_{k}"] = level.to_numpy() if is_number else level.astype(str).to_numpy(dtype=object)
    names = [None if name is None else str(name) for name in index.names]
    kinds = ["datetime" if pd.api.types.is_datetime64_any_dtype(level.dtype) else "" for level in levels]
    return rows, {"variables": list(rows), "names": names, "kinds": kinds}


def _rows_to_index(stored: Mapping[str, Any], data: Any) -> pd.Index:
    levels = [pd.Index(data[name].values) for name in stored["variables"]]
    levels = [pd.DatetimeIndex(level) if kind else level for level, kind in zip(levels, stored["kinds"], strict=True)]
    if len(levels) == 1:
        return levels[0].rename(stored["names"][0])
    return pd.MultiIndex.from_arrays(levels, names=stored["names"])
