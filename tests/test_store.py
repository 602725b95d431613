"""Saved and loaded, or pickled and unpickled, a fit is the same; other files are refused; loading runs nothing."""

import builtins
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hierpanel as hp
from hierpanel.results.fit import Fit

Made = Callable[..., Fit]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    n = 40
    df = pd.DataFrame({"x": rng.normal(size=n), "y": rng.normal(size=n), "hits": rng.integers(0, 5, n)})
    unit = np.repeat(np.arange(5), 8)
    return df.assign(
        w=rng.uniform(0.5, 2, n),
        text=np.array(list("abcde"))[unit],
        whole=unit + 2000,
        real=unit / 4,
        date=pd.Timestamp("2020-01-30") + pd.to_timedelta(unit, unit="D"),
        moment=pd.Timestamp("2020-01-30 12:00") + pd.to_timedelta(unit, unit="h"),
        month=pd.PeriodIndex(pd.Timestamp("2020-01-30") + pd.to_timedelta(unit * 31, unit="D"), freq="M"),
        yes=unit > 2,
        category=pd.Categorical(np.array(list("vwxyz"))[unit], categories=list("zyxwvu")),
        odd=np.array(["a:b", "<b>&\"'", "ü\\x", "", " "])[unit],
        trials=unit,
        weights=unit,
        row_label_0=unit,
    )


def assert_same(fit: Fit, other: Fit) -> None:
    assert list(other.idata.children) == list(fit.idata.children)
    for name, node in fit.idata.children.items():
        xr.testing.assert_identical(other.idata[name].to_dataset(), node.to_dataset())
    assert str(other.summary()) == str(fit.summary())
    assert repr(other) == repr(fit)
    assert other.design.aliased == fit.design.aliased
    assert (other.method, other.timing, other.nobs) == (fit.method, dict(fit.timing), fit.nobs)
    assert other.spec.formula == fit.spec.formula
    assert other.spec.formula.source == fit.spec.formula.source
    assert {key: str(prior) for key, prior in other.spec.priors().items()} == {
        key: str(prior) for key, prior in fit.spec.priors().items()
    }
    for name in ("y", "X", "offset", "weights", "trials"):
        np.testing.assert_array_equal(getattr(other.design, name), getattr(fit.design, name))
    pd.testing.assert_series_equal(other.fittedvalues, fit.fittedvalues, check_freq=False)
    pd.testing.assert_series_equal(other.resid, fit.resid, check_freq=False)
    for group in fit.spec.groups:
        pd.testing.assert_frame_equal(other.ranef(group.name), fit.ranef(group.name))
        pd.testing.assert_frame_equal(other.coef(group.name), fit.coef(group.name))
    if fit.spec.coefs:
        pd.testing.assert_frame_equal(other.fixef(), fit.fixef())


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "correlated slopes": ("y ~ x + (x | text)", {}),
    "diagonal slopes, two factors": ("y ~ x + (x || text) + (1 | whole)", {"center": False}),
    "two blocks": ("y ~ (1 | text) + (0 + x + w | text)", {}),
    "fixed effects": ("y ~ x + fe(text) + fe(real) + (0 + w | whole)", {}),
    "weights": ("y ~ x + (1 | text)", {"weights": "w"}),
    "offset and trials": ("prop(hits, 6) ~ x + offset(log(w)) + (1 | text)", {"family": "binomial(probit)"}),
    "student_t": ("y ~ x", {"family": "student_t"}),
    "negative_binomial": ("hits ~ 1 + (1 | text)", {"family": "negative_binomial"}),
    "no coefficients": ("y ~ 0 + (1 | text)", {"priors": {"sd_text": 0.3}}),
    "no groups": ("y ~ x", {"priors": {"sigma": hp.Prior("HalfNormal", sigma=1)}}),
    "contrasts and transforms": ("y ~ category * x + scale(w) + I(x**2) + (1 | text)", {}),
    "empty cells": ("y ~ text:category + (1 | real)", {}),
    "own priors": ("y ~ x + (x | text)", {"priors": {"beta[x]": hp.Prior("StudentT", nu=4, mu=0.1, sigma=1 / 3)}}),
    "whole numbers": ("y ~ (x | whole)", {}),
    "numbers": ("y ~ (x | real)", {}),
    "dates": ("y ~ (x | date)", {}),
    "moments": ("y ~ (x | moment)", {}),
    "periods": ("y ~ (x | month)", {}),
    "truth values": ("y ~ (x | yes)", {}),
    "categories": ("y ~ (x | category)", {}),
    "odd labels": ("y ~ (x | odd)", {}),
    "combinations": ("y ~ (x | odd:whole) + (1 | text/yes)", {}),
    "factors called as columns of the file": ("y ~ (1 | trials) + (1 | text)", {"weights": "w"}),
    "and more of them": ("prop(hits, 6) ~ (1 | weights) + (1 | row_label_0)", {"family": "binomial"}),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_fit_comes_back_the_same(model: str, made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    formula, options = MODELS[model]
    fit = made(formula, table, draws=12, diverging=2, **options)
    fit.save(tmp_path / "fit.nc")
    assert_same(fit, hp.load(tmp_path / "fit.nc"))
    assert_same(fit, pickle.loads(pickle.dumps(fit)))


INDICES: dict[str, Callable[[int], pd.Index]] = {
    "text": lambda n: pd.Index([f"row {k}" for k in range(n)], name="row"),
    "numbers": lambda n: pd.Index(np.arange(n) / 3),
    "with doubles": lambda n: pd.Index(np.arange(n) // 2, name="half"),
    "a whole number for a name": lambda n: pd.Index(range(n), name=7),
    "truth values": lambda n: pd.Index([k > 3 for k in range(n)]),
    "nanoseconds": lambda n: pd.date_range("2020-01-01", periods=n, freq="h", name="when").as_unit("ns"),
    "seconds": lambda n: pd.date_range("2020-01-01", periods=n, freq="h").as_unit("s"),
    "a time zone with daylight saving": lambda n: pd.date_range("2020-10-24", periods=n, freq="h", tz="Europe/Berlin"),
    "periods": lambda n: pd.period_range("2000Q1", periods=n, freq="Q"),
    "durations": lambda n: pd.to_timedelta(np.arange(n), unit="s"),
    "two levels": lambda n: pd.MultiIndex.from_arrays(
        [np.repeat(list("abcde"), n // 5), np.tile(pd.date_range("2000-01-01", periods=n // 5), 5)], names=["unit", "t"]
    ),
    "two levels, one without a name": lambda n: pd.MultiIndex.from_arrays(
        [np.arange(n) // 8, np.arange(n) % 8], names=["u", None]
    ),
}  # fmt: skip


@pytest.mark.parametrize("index", INDICES)
def test_the_rows_keep_their_labels(index: str, made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    holes = table.assign(x=table["x"].where(table.index != 11)).set_axis(INDICES[index](len(table)))
    fit = made("y ~ x + (1 | text)", holes, draws=12)
    fit.save(tmp_path / "fit.nc")
    assert_same(fit, hp.load(tmp_path / "fit.nc"))
    assert hp.load(tmp_path / "fit.nc").resid.index.equals(holes.index.delete(11))


def test_labels_of_categories_come_back_as_text(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    fit = made("y ~ x", table.set_index("category"), draws=12)
    fit.save(tmp_path / "fit.nc")
    assert hp.load(tmp_path / "fit.nc").resid.index.tolist() == fit.resid.index.astype(str).tolist()


def test_a_sampled_fit_comes_back_the_same(slopes: Fit, herds: Fit, tmp_path: Path) -> None:
    for fit in (slopes, herds):
        fit.save(tmp_path / "fit.nc")
        assert_same(fit, hp.load(tmp_path / "fit.nc"))
        assert_same(fit, pickle.loads(pickle.dumps(fit)))


def test_a_file_can_be_written_over_and_a_loaded_fit_saved_again(
    made: Made, table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "fit.nc"
    made("y ~ x", table, draws=12).save(path)
    fit = made("y ~ (1 | text)", table, draws=12)
    fit.save(str(path))
    hp.load(path).save(path)
    assert_same(fit, hp.load(str(path)))


def test_loading_runs_nothing(made: Made, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formula = "y ~ np.log(w) + clip(x, -1, 1) + I(x**2) + (1 | text)"
    made(formula, table, draws=12).save(tmp_path / "fit.nc")
    hp.load(tmp_path / "fit.nc").summary()  # modules that are imported on the way make named tuples by exec

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("code was run")

    with monkeypatch.context() as patched:
        for owner, name in (
            (builtins, "eval"),
            (builtins, "exec"),
            (builtins, "compile"),
            (pickle, "loads"),
            (pickle, "load"),
        ):
            patched.setattr(owner, name, refuse)
        patched.setattr("hierpanel.formula.columns.evaluate", refuse)
        patched.setattr("hierpanel.formula.evaluate.evaluate", refuse)
        patched.setattr("formulae.resolver.Resolver.resolve", refuse)
        loaded = hp.load(tmp_path / "fit.nc")
    assert str(loaded.spec.formula).startswith("y ~ 1 + np.log(w)")


def test_the_file_holds_numbers_and_text_alone(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    made("y ~ x + (x | text)", table, draws=12).save(tmp_path / "fit.nc")
    found = []

    def look(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind == "O":
            found.append((name, h5py.check_string_dtype(node.dtype)))

    with h5py.File(tmp_path / "fit.nc") as file:
        file.visititems(look)
        assert json.loads(file.attrs["hierpanel"])["format"] == 3
    assert found
    assert all(kind is not None for _, kind in found)


def stored(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the JSON of a saved fit."""
    with h5py.File(path, "a") as file:
        record = json.loads(file.attrs["hierpanel"])
        change(record)
        file.attrs["hierpanel"] = json.dumps(record)


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a later format": (lambda r: r.update(format=99), "has format 99; this version of hierpanel reads format 3"),
    "a missing part": (lambda r: r.pop("spec"), "is damaged: KeyError: 'spec'"),
    "a formula that cannot be read": (lambda r: r["spec"].update(formula="y ~ x +"), "is damaged: FormulaError"),
    "an unknown family": (lambda r: r["spec"].update(family=["gauss", "identity"]), "is damaged: FamilyError"),
    "a bad prior": (
        lambda r: r["spec"]["parameters"].update(sigma=["HalfNormal", {"sigma": -1}]), "is damaged: PriorError"
    ),
    "an unknown factor": (lambda r: r["spec"]["groups"][0].update(name="firm"), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_told(damage: str, made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    change, message = DAMAGES[damage]
    made("y ~ x + (1 | text)", table, draws=12).save(tmp_path / "fit.nc")
    stored(tmp_path / "fit.nc", change)
    with pytest.raises(hp.FileError, match=message):
        hp.load(tmp_path / "fit.nc")


def test_other_files_are_refused(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(hp.FileError, match=r"there is no file .*nothing\.nc"):
        hp.load(tmp_path / "nothing.nc")
    with pytest.raises(hp.FileError, match="there is no file"):
        hp.load(tmp_path)
    table.to_csv(tmp_path / "table.csv")
    with pytest.raises(hp.FileError, match=r"table\.csv is not a netCDF file that can be read"):
        hp.load(tmp_path / "table.csv")
    (tmp_path / "empty.nc").write_bytes(b"")
    with pytest.raises(hp.FileError, match="is not a netCDF file that can be read"):
        hp.load(tmp_path / "empty.nc")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    with pytest.raises(hp.FileError, match="is a netCDF file, but not a fit that hierpanel saved"):
        hp.load(tmp_path / "foreign.nc")
    made("y ~ x + (1 | text)", table).save(tmp_path / "fit.nc")
    content = (tmp_path / "fit.nc").read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.nc").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(hp.FileError, match="is not a netCDF file that can be read"):
            hp.load(tmp_path / "cut.nc")


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.write_text, (tmp_path / "sprung", "")

    (tmp_path / "fit.nc").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(hp.FileError):
        hp.load(tmp_path / "fit.nc")
    assert not (tmp_path / "sprung").exists()


def test_a_folder_that_is_not_there_cannot_be_written_to(made: Made, table: pd.DataFrame, tmp_path: Path) -> None:
    fit = made("y ~ x", table, draws=12)
    for write in (fit.save, fit.report):
        with pytest.raises(hp.FileError, match=r"cannot write .*nowhere.*: the folder .*nowhere does not exist"):
            write(tmp_path / "nowhere" / "fit")
        with pytest.raises(hp.FileError, match="it is a folder; name a file in it"):
            write(tmp_path)


def test_a_file_has_a_name(made: Made, table: pd.DataFrame) -> None:
    fit = made("y ~ x", table, draws=12)
    for work in (fit.save, fit.report, hp.load):
        with pytest.raises(hp.errors.FileError, match="a file is named by a text or a path, not by 3"):
            work(3)
