"""The command line: what it prints, what it writes, and that mistakes go to stderr with exit code 2."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import hierpanel as hp
from hierpanel.cli import main
from hierpanel.results.fit import Fit

Made = Callable[..., Fit]
FORMULA = "yield_ ~ (1 | batch)"


@pytest.fixture
def csv(tmp_path: Path) -> str:
    hp.datasets.load("dyestuff").to_csv(tmp_path / "dyestuff.csv", index=False)
    return str(tmp_path / "dyestuff.csv")


@pytest.fixture
def asked(made: Made, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Model.fit was asked for, by a command that samples nothing."""
    calls: list[dict[str, Any]] = []

    def fit(self: hp.Model, method: str = "auto", **options: Any) -> Fit:
        calls.append({"method": method, "model": self, **options})
        return made(str(self.spec.formula), hp.datasets.load("dyestuff"), draws=20)

    monkeypatch.setattr(hp.Model, "fit", fit)
    return calls


def test_fit_prints_the_summary(csv: str, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", FORMULA, csv]) == 0
    printed = capsys.readouterr()
    assert "Bayesian multilevel regression" in printed.out
    assert "6 batch, rows 5–5" in printed.out
    assert "wrote" not in printed.out
    assert printed.err == ""
    (call,) = asked
    assert call.pop("model").spec.n == 30
    assert call == {
        "method": "auto", "draws": 1000, "tune": 1000, "chains": 4, "cores": None, "seed": None, "target_accept": None,
        "progress": True,
    }  # fmt: skip


def test_fit_hands_its_options_on(csv: str, asked: list[dict[str, Any]]) -> None:
    table = hp.datasets.load("dyestuff").assign(w=2.0)
    table.to_csv(csv, index=False)
    options = "--method nuts --draws 5 --tune 6 --chains 2 --cores 1 --seed 7 --target-accept 0.95 --weights w --quiet"
    assert main(["fit", FORMULA, csv, "--family", "student_t", *options.split()]) == 0
    (call,) = asked
    model = call.pop("model")
    assert model.spec.family.name == "student_t"
    assert model.spec.weighted
    assert call == {
        "method": "nuts", "draws": 5, "tune": 6, "chains": 2, "cores": 1, "seed": 7, "target_accept": 0.95,
        "progress": False,
    }  # fmt: skip


def test_fit_writes_a_report_and_a_fit_that_summary_prints(
    csv: str, asked: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "folder"
    assert main(["fit", FORMULA, csv, "--out", str(out)]) == 0
    assert len(asked) == 1
    printed = capsys.readouterr().out
    assert f"wrote {out / 'report.html'} and {out / 'fit.nc'}" in printed
    assert sorted(path.name for path in out.iterdir()) == ["fit.nc", "report.html"]
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["summary", str(out / "fit.nc")]) == 0
    summary = capsys.readouterr().out
    assert summary.strip() == str(hp.load(out / "fit.nc").summary()).strip()
    assert summary.strip() in printed


def test_explain_prints_the_model_and_its_priors(csv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "yield_ ~ np.log(yield_) + (1 | batch)", csv]) == 0
    out = capsys.readouterr().out
    for said in (
        "of 30 rows: 30 used",
        "6 batch: a varying intercept for each",
        "sd_batch[Intercept]",
        "Implied before the data",
    ):
        assert said in out


@pytest.mark.parametrize("kind", ["csv.gz", "parquet"])
def test_other_kinds_of_tables(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, table = tmp_path / f"data.{kind}", hp.datasets.load("dyestuff")
    if kind == "parquet":
        table.to_parquet(path)
    else:
        path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    assert main(["explain", FORMULA, str(path)]) == 0
    assert "of 30 rows: 30 used" in capsys.readouterr().out


def _csv(folder: Path) -> str:
    return str(folder / "dyestuff.csv")


def broken(content: bytes, name: str = "broken.csv") -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return ["fit", "y ~ x", str(folder / name)]

    return arguments


MISTAKES: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "no such table": (lambda folder: ["fit", "y ~ x", str(folder / "no.csv")], ["there is no file", "no.csv"]),
    "no such parquet": (
        lambda folder: ["fit", "y ~ x", str(folder / "no.parquet")], ["there is no file", "no.parquet"]
    ),
    "a folder": (lambda folder: ["explain", "y ~ x", str(folder)], ["there is no file"]),
    "no such fit": (lambda folder: ["summary", str(folder / "no.nc")], ["there is no file", "no.nc"]),
    "an empty table": (broken(b""), ["broken.csv cannot be read as a table", "No columns"]),
    "a table without rows": (broken(b"y,x\n"), ["the table has no rows"]),
    "not text": (broken(b"\xff\xfe\x00\x81"), ["broken.csv cannot be read as a table"]),
    "ragged rows": (broken(b"y,x\n1,2\n1,2,3,4\n"), ["broken.csv cannot be read as a table", "line 3"]),
    "not parquet": (broken(b"y,x\n1,2\n", "broken.parquet"), ["broken.parquet cannot be read as a table"]),
    "a bad formula": (lambda folder: ["fit", "yield_ ~ (1 | batch", _csv(folder)], ["is not closed", "^"]),
    "a missing column": (lambda folder: ["fit", "yield_ ~ age", _csv(folder)], ["no column 'age'", "batch"]),
    "an unknown family": (
        lambda folder: ["fit", "yield_ ~ 1", _csv(folder), "--family", "gausian"], ["did you mean 'gaussian'"]
    ),
    "an unknown method": (
        lambda folder: ["fit", "yield_ ~ 1", _csv(folder), "--method", "mle"], ["'auto'", "not 'mle'"]
    ),
    "no draws": (
        lambda folder: ["fit", "yield_ ~ 1", _csv(folder), "--draws", "0"], ["draws must be", "not 0"]
    ),
    "an unknown weight": (
        lambda folder: ["explain", "yield_ ~ 1", _csv(folder), "--weights", "w"], ["column 'w'", "batch"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_on_stderr(
    mistake: str, csv: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, fragments = MISTAKES[mistake]
    assert main(arguments(tmp_path)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("hierpanel: ")
    assert "Traceback" not in printed.err
    for fragment in fragments:
        assert fragment in printed.err


def test_functions_of_the_command_line_itself_cannot_be_named(csv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "yield_ ~ main(yield_)", csv]) == 2
    assert "no function main" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["fit"], ["guess"], ["fit", "y ~ x", "a.csv", "--draws", "many"]])
def test_a_wrong_call_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: hierpanel" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == f"hierpanel {hp.__version__}"
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert "such as" in capsys.readouterr().out


def test_the_command_line_runs_as_a_program(csv: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hierpanel.cli", "explain", FORMULA, csv], capture_output=True, text=True, check=True
    )
    assert "6 batch" in done.stdout
    assert pd.read_csv(csv).shape == (30, 2)
