"""A `Fit` comes in, one netCDF file goes out, and back. The file holds numbers and text; reading it runs nothing."""

import json
import numbers
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
from hierpanel.results import stored_table
from hierpanel.spec import GroupSpec, ModelSpec, PanelSpec, Prior, family
from hierpanel.spec.priors import as_prior, is_number

FORMAT = 3
KEY = "hierpanel"
_TIMES = ("datetime64", "timedelta64", "period")  # dtypes that pandas reads back from text


def save(fit: Any, path: str | os.PathLike[str]) -> None:
    """Write the fit's DataTree with the spec as JSON in its attributes.

    Raises
    ------
    FileError
        If the folder does not exist, or the path is a folder.
    """
    import xarray as xr

    target = writable(path)
    groups = {name: node.to_dataset() for name, node in fit.idata.children.items()}
    groups["rows"], index = _index_to_rows(fit.design.index)
    read_from = None
    if fit.source is not None:
        groups["source"], read_from = stored_table.to_dataset(fit.source)
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
            "reason": fit.reason,
            "source": read_from,
            "options": _options_to_json(fit.options),
        }
    )
    tree.to_netcdf(target, engine="h5netcdf")


def writable(path: str | os.PathLike[str]) -> Path:
    """Return the path, or raise `FileError` where no file can be written."""
    target = _path(path)
    if target.is_dir():
        raise FileError(f"cannot write {target}: it is a folder; name a file in it")
    if not target.parent.is_dir():
        raise FileError(f"cannot write {target}: the folder {target.parent} does not exist")
    return target


def _path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise FileError(f"a file is named by a text or a path, not by {path!r}")
    return Path(path)


def load(path: str | os.PathLike[str], env: Mapping[str, Any] | None = None) -> Any:
    """Read a fit that ``Fit.save`` wrote; see `hierpanel.load`."""
    import xarray as xr

    from hierpanel.results.fit import Fit

    source = _path(path)
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
        design = _design(spec, stored, groups["constant_data"], groups["observed_data"], groups.pop("rows"))
        options, read_from = _options_from_json(stored["options"]), stored["source"]
        given = None if read_from is None else stored_table.from_dataset(groups.pop("source"), read_from)
    except FileError:
        raise
    except Exception as error:  # whatever of its numbers and texts does not fit together
        raise FileError(f"{source} is damaged: {type(error).__name__}: {error}") from error
    return Fit(
        spec,
        design,
        xr.DataTree.from_dict(groups),
        stored["method"],
        stored["timing"],
        stored["reason"],
        source=given,
        env=env,
        options=options,
    )


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
        "joined": spec.joined,
        "panel": None if spec.panel is None else asdict(spec.panel),
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
        joined=stored["joined"],
        panel=None if stored["panel"] is None else PanelSpec(**stored["panel"]),
    )


def _options_to_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a fit; not the caller's functions, and an array of weights stands with the table."""
    plain = {name: value for name, value in options.items() if name not in ("family", "priors", "env", "weights")}
    weights, panel = options.get("weights"), options.get("panel")
    if panel is not None:
        plain["panel"] = [int(part) if isinstance(part, numbers.Integral) else part for part in panel]
    found = plain | ({"weights": weights} if isinstance(weights, str) else {})
    if "family" in options:
        found["family"] = [options["family"].name, options["family"].link.name]
    priors = {
        key: as_prior(prior, key) if not is_number(prior) else float(prior)
        for key, prior in (options.get("priors") or {}).items()
    }
    return found | {"priors": {key: _prior_to_json(prior) for key, prior in priors.items()}}


def _options_from_json(stored: Mapping[str, Any]) -> dict[str, Any]:
    priors = {key: _prior_from_json(prior) for key, prior in stored["priors"].items()}
    found = dict(stored) | {"priors": priors or None}
    return found | ({"family": family(*stored["family"])} if "family" in stored else {})


def _prior_to_json(prior: Prior | float) -> Any:
    return prior if isinstance(prior, float) else [prior.name, prior.values]


def _prior_from_json(stored: Any) -> Prior | float:
    return float(stored) if isinstance(stored, (int, float)) else Prior(stored[0], **stored[1])


def _design(spec: ModelSpec, stored: Mapping[str, Any], data: Any, observed: Any, rows: Any) -> Design:
    def column(name: str) -> np.ndarray | None:
        return np.asarray(data[name].values) if name in data.data_vars else None  # a factor may have that name

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
        index=_rows_to_index(stored["index"], rows),
        aliased=tuple(stored["aliased"]),
        units=column("units"),
    )


def _index_to_rows(index: pd.Index) -> tuple[Any, dict[str, Any]]:
    """Store an index as a column for each level: numbers as numbers, the rest as text beside its dtype."""
    import xarray as xr

    levels = [index.get_level_values(k) for k in range(index.nlevels)]
    columns, kinds = {}, []
    for k, level in enumerate(levels):
        is_number = pd.api.types.is_numeric_dtype(level.dtype) and not isinstance(level.dtype, pd.CategoricalDtype)
        kinds.append(str(level.dtype) if str(level.dtype).startswith(_TIMES) else "")
        values = level.to_numpy() if is_number else level.astype(str).to_numpy(dtype=object)
        columns[f"level_{k}"] = ("obs", values)
    names = [name if isinstance(name, (str, int, type(None))) else str(name) for name in index.names]
    return xr.Dataset(columns), {"names": names, "kinds": kinds}


def _rows_to_index(stored: Mapping[str, Any], rows: Any) -> pd.Index:
    levels: list[pd.Index] = [pd.Index(rows[f"level_{k}"].values) for k in range(len(stored["kinds"]))]
    levels = [level.astype(kind) if kind else level for level, kind in zip(levels, stored["kinds"], strict=True)]
    if len(levels) == 1:
        return levels[0].rename(stored["names"][0])
    return pd.MultiIndex.from_arrays(levels, names=stored["names"])
