"""The columns that a model was read from come in, netCDF variables and JSON go out, and back."""

import datetime
import decimal
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpanel.data.reading import Source

_DIM = "source_row"


def to_dataset(source: Source) -> tuple[Any, dict[str, Any]]:
    """Return an xarray Dataset of the columns, and what JSON holds of their types, the panel and the weights."""
    import xarray as xr

    values, kinds = {}, []
    for number, name in enumerate(source.table.columns):
        column, kind = _written(source.table[name])
        values[f"column_{number}"] = (_DIM, column)
        kinds.append({"name": str(name)} | kind)
    weights = source.weights
    if weights is not None and not isinstance(weights, str):
        values["weights"] = (_DIM, np.asarray(weights, dtype=float))
        weights = ["array"]
    return xr.Dataset(values), {"columns": kinds, "panel": source.panel, "weights": weights}


def from_dataset(data: Any, stored: Mapping[str, Any]) -> Source:
    """Return what `to_dataset` wrote."""
    columns = {
        kind["name"]: _read(np.asarray(data[f"column_{number}"].values), kind)
        for number, kind in enumerate(stored["columns"])
    }
    weights = stored["weights"]
    panel = stored["panel"]
    return Source(
        table=pd.DataFrame(columns),
        panel=None if panel is None else (panel[0], panel[1], panel[2]),
        weights=np.asarray(data["weights"].values) if isinstance(weights, list) else weights,
    )


def _written(column: pd.Series) -> tuple[np.ndarray, dict[str, Any]]:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories, kind = _written(pd.Series(dtype.categories))
        return column.cat.codes.to_numpy(), {
            "kind": "category", "ordered": bool(dtype.ordered), "categories": categories.tolist(), "of": kind,
        }  # fmt: skip
    if isinstance(dtype, pd.PeriodDtype):
        periods: Any = pd.PeriodIndex(column)
        return _with_holes(periods.asi8, column), {"kind": "period", "freq": periods.freqstr}
    if pd.api.types.is_datetime64_any_dtype(dtype):
        times: Any = pd.DatetimeIndex(column)
        zone = None if times.tz is None else str(times.tz)
        plain = times if zone is None else times.tz_convert("UTC").tz_localize(None)
        return plain.astype("datetime64[ns]").asi8, {"kind": "time", "zone": zone}
    if pd.api.types.is_timedelta64_dtype(dtype):
        spans: Any = pd.TimedeltaIndex(column)
        return spans.astype("timedelta64[ns]").asi8, {"kind": "span"}
    if pd.api.types.is_bool_dtype(dtype) and not column.isna().any():
        return column.to_numpy(dtype=bool).astype(np.int8), {"kind": "bool"}
    if pd.api.types.is_integer_dtype(dtype) and not column.isna().any():
        return column.to_numpy(dtype=np.int64), {"kind": "number"}
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        if pd.api.types.is_integer_dtype(dtype):
            return _written_whole(column)
        return column.to_numpy(dtype=float, na_value=np.nan), {"kind": "number"}
    known = column.dropna()
    if len(known) and all(
        isinstance(v, (numbers.Number, decimal.Decimal)) and not isinstance(v, (bool, np.bool_)) for v in known
    ):
        if all(isinstance(value, numbers.Integral) for value in known):
            return _written_whole(column)
        found = [np.nan if missing else float(v) for v, missing in zip(column, column.isna(), strict=True)]
        return np.array(found), {"kind": "number"}
    if len(known) and all(isinstance(value, datetime.datetime) for value in known):
        return _written(pd.Series(pd.DatetimeIndex(column)))
    text = ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
    missing = np.flatnonzero(column.isna().to_numpy()).tolist()
    kinds = {type(value).__name__ for value in column.dropna()}
    what = "truth" if kinds <= {"bool", "bool_"} else "day" if kinds == {"date"} else "text"
    return np.array(text, dtype=object), {"kind": what, "missing": missing}


def _read(values: np.ndarray, kind: Mapping[str, Any]) -> Any:
    match kind["kind"]:
        case "category":
            categories = _read(np.array(kind["categories"]), kind["of"])
            return pd.Categorical.from_codes(values.astype(int), categories=categories, ordered=kind["ordered"])
        case "period":
            known = np.where(np.isnan(values), 0, values).astype(np.int64)
            index: Any = pd.PeriodIndex
            periods = index.from_ordinals(known, freq=kind["freq"])
            return periods.where(~np.isnan(values))
        case "time":
            times = pd.DatetimeIndex(values.astype("datetime64[ns]"))
            return times if kind["zone"] is None else times.tz_localize("UTC").tz_convert(kind["zone"])
        case "span":
            return pd.TimedeltaIndex(values.astype("timedelta64[ns]"))
        case "whole":
            found: Any = pd.array(values, dtype="Int64")
            found[kind["missing"]] = pd.NA
            return found
        case "bool":
            return values.astype(bool)
        case "number":
            return values
    found = values.astype(object)
    if kind["kind"] == "truth":
        found = np.array([value == "True" for value in found], dtype=object)
    if kind["kind"] == "day":
        found = np.array([None if value == "" else pd.Timestamp(value).date() for value in found], dtype=object)
    found[kind["missing"]] = None
    return found


def _written_whole(column: pd.Series) -> tuple[np.ndarray, dict[str, Any]]:
    """Whole numbers, some missing; as floats those beyond 2**53 could not be told apart."""
    missing = column.isna().to_numpy()
    values = [0 if hole else int(value) for value, hole in zip(column, missing, strict=True)]
    return np.array(values, dtype=np.int64), {"kind": "whole", "missing": np.flatnonzero(missing).tolist()}


def _with_holes(values: np.ndarray, column: pd.Series) -> np.ndarray:
    return np.where(column.isna().to_numpy(), np.nan, values.astype(float))
