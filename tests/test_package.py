"""The architecture holds: lower layers never import higher ones, imports stay light, public names have docstrings."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hierpanel as hp
from hierpanel.results.explain import PriorSummary
from hierpanel.results.plots import Plots
from hierpanel.results.summary import Summary

ROOT = Path(hp.__file__).parent
LAYERS = ("errors", "formula", "data", "spec", "compiler", "inference", "results", "top")
HEAVY = (
    "pymc", "pytensor", "arviz", "arviz_stats", "arviz_base", "arviz_plots", "bambi", "numba", "nutpie", "matplotlib",
    "xarray", "formulae",
)  # fmt: skip
MODULES = sorted(ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(("hierpanel", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "top"


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere below a node, names that are modules themselves included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if (ROOT.parent / name.replace(".", "/")).with_suffix(".py").exists())


def at_import(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported when the module itself is: outside of functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imported(node)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_lower_layer_never_imports_a_higher_one(path: Path) -> None:
    module = module_name(path)
    own = LAYERS.index(layer(module))
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        if name.split(".")[0] == "hierpanel" and not (name == "hierpanel" and layer(module) == "top"):
            assert LAYERS.index(layer(name)) <= own, f"{module} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    for name in at_import(ast.parse(path.read_text(encoding="utf-8"))):
        assert name.split(".")[0] not in HEAVY, f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nobody_imports_anothers_private_names(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hierpanel"):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            assert not private, f"{module_name(path)} imports {private} of {node.module}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import hierpanel, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "hierpanel.model" in loaded
    assert loaded.isdisjoint(
        {*HEAVY, "scipy.stats", "pandas.plotting._matplotlib", "polars", "pyarrow.dataset", "IPython"}
    )


def test_a_model_is_read_without_a_sampler_or_plots() -> None:
    code = (
        "import hierpanel as hp, sys\n"
        "model = hp.Model('reaction ~ days + (days | subject)', hp.datasets.load('sleepstudy'))\n"
        "model.explain(), model.prior_summary()\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint(set(HEAVY) - {"formulae"})


def public_members() -> Iterator[tuple[str, object]]:
    for name in hp.__all__:
        yield f"hierpanel.{name}", getattr(hp, name)
    for owner in (hp.Model, hp.Fit, Plots, hp.Prior, hp.FormulaError, Summary, PriorSummary):
        for name, value in vars(owner).items():
            if not name.startswith("_") and (
                callable(value) or isinstance(value, (property, classmethod, staticmethod))
            ):
                yield f"{owner.__name__}.{name}", value


@pytest.mark.parametrize(("name", "value"), list(public_members()), ids=[name for name, _ in public_members()])
def test_every_public_name_has_a_docstring(name: str, value: object) -> None:
    text = inspect.getdoc(value) or ""
    assert len(text) >= 10, name
    first = text.split("\n\n")[0].split("\n")
    assert " ".join(first).rstrip().endswith((".", ":")), f"{name}: {first}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_every_module_says_what_comes_in_and_out(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or (ast.get_docstring(tree) or "").split("\n")[0].endswith((".", ";", ",", ":")), path


def test_every_option_of_the_front_door_is_described() -> None:
    for described, function in ((hp.Model, hp.Model.__init__), (hp.Model.fit, hp.Model.fit)):
        text = inspect.getdoc(described) or ""
        for name in list(inspect.signature(function).parameters)[1:]:
            assert re.search(rf"^\s*([\w, ]+, )?{name}(, [\w, ]+)? :", text, re.MULTILINE), name


def test_fit_takes_the_options_of_model_and_of_model_fit() -> None:
    options = {*inspect.signature(hp.Model.__init__).parameters, *inspect.signature(hp.Model.fit).parameters}
    with pytest.raises(hp.FitError) as raised:
        hp.fit("y ~ x", {"y": [1, 2], "x": [1, 3]}, no_such_option=1)
    listed = str(raised.value).split("its options are: ")[1].split(", ")
    assert set(listed) == options - {"self", "formula", "data"}


def test_all_is_sorted_and_complete() -> None:
    assert list(hp.__all__) == sorted(hp.__all__)
    assert all(hasattr(hp, name) for name in hp.__all__)
    errors = [value for value in vars(sys.modules["hierpanel.errors"]).values() if isinstance(value, type)]
    assert {error.__name__ for error in errors} <= set(hp.__all__)
    assert all(issubclass(error, hp.HierpanelError) for error in errors)
    assert issubclass(hp.HierpanelError, ValueError)


def tracked() -> list[Path]:
    repository = ROOT.parent
    if not (repository / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(["git", "-C", str(repository), "ls-files", "-z"], capture_output=True, text=True, check=True)
    return [repository / name for name in done.stdout.split("\0") if name and (repository / name).is_file()]


def test_no_file_holds_a_note_to_self_or_a_path_of_somebodys_machine() -> None:
    marks = re.compile(
        "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X:", "/ho" + r"me/\w", "/Us" + r"ers/\w", "/wo" + "rk/"])
    )
    for path in tracked():
        if path.suffix in (".gz", ".png", ".nc", ".parquet"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not marks.search(line), f"{path}:{number}: {line.strip()[:100]}"


def test_the_package_is_typed_and_its_data_are_shipped() -> None:
    assert (ROOT / "py.typed").exists()
    files = {path.name.removesuffix(".csv.gz") for path in (ROOT / "data_files").iterdir()}
    assert files == set(hp.datasets.DATASETS) - {"wage_sim"}
