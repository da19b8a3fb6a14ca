"""The house rules: who imports whom, how long files are, which options exist."""

import argparse
import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from utils.options.parser import Parser

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
PACKAGES = ("model", "datasets", "utils")
FILES = [ROOT / name for name in SCRIPTS]
FILES += [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
FILES += BENCHMARKS
ALLOWED = {"model": {"model", "utils"}, "datasets": {"datasets", "utils"}, "utils": {"utils"}}


def imported(path: Path) -> set[str]:
    """Top-level names of this project that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names & {*PACKAGES, *(name.removesuffix(".py") for name in SCRIPTS)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_direction(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT).parts[0], set(PACKAGES))
    assert imported(path) <= allowed or path in BENCHMARKS  # which also time what scripts do


def length(path: Path) -> int:
    return len(path.read_text().splitlines())


def is_note(path: Path) -> bool:
    """An `__init__.py` of one line, which says what a folder is for."""
    return path.name == "__init__.py" and length(path) <= 1


def test_reading_path_is_short() -> None:
    path = ("train.py", "datasets/base.py", "datasets/cityscapes.py", "model/deeplabv3.py",
            "model/losses/__init__.py")
    assert sum(length(ROOT / name) for name in path) <= 800


def test_product_is_small() -> None:
    product = [path for path in FILES if path not in BENCHMARKS and not is_note(path)]
    assert len(product) <= 115
    assert sum(map(length, product)) <= 18_634


def test_files_are_short() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert {str(path): n for path in FILES + tests if (n := length(path)) > 400} == {}


def test_folders_are_narrow() -> None:
    tops = [*PACKAGES, "benchmarks", "tests"]
    folders = [ROOT / top for top in tops]
    folders += [path for top in tops for path in (ROOT / top).rglob("*") if path.is_dir()]
    wide = {}
    for folder in folders:
        if "__pycache__" in folder.parts or (ROOT / "tests/fixtures") in (folder, *folder.parents):
            continue
        entries = [path for path in folder.iterdir()
                   if path.name != "__pycache__" and not is_note(path)]
        if len(entries) > 20:
            wide[str(folder)] = len(entries)
    assert not wide


def project_files(path: Path) -> set[Path]:
    """The project's files that a file imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            for i in range(1, len(parts) + 1):
                place = ROOT.joinpath(*parts[:i])
                found |= {place.with_suffix(".py"), place / "__init__.py"} & set(FILES)
    return found


def test_demo_reaches_few_files() -> None:
    reached: set[Path] = set()
    left = [ROOT / "demo.py"]
    while left:
        new = project_files(left.pop()) - reached
        reached |= new
        left += new
    assert ROOT / "utils/images.py" in reached
    assert len([path for path in reached if not is_note(path)]) <= 45


def test_options_are_imported_from_where_they_are() -> None:
    assert not project_files(ROOT / "utils/options/__init__.py")
    readers = [path for path in FILES if path.relative_to(ROOT).parts[0] in ("model", "datasets")]
    readers += [path for path in FILES if path.is_relative_to(ROOT / "utils")
                and not path.is_relative_to(ROOT / "utils/options")]
    options = set((ROOT / "utils/options").glob("*.py"))
    assert {str(path) for path in readers if project_files(path) & options} == set()


def test_large_files_are_where_they_belong() -> None:
    """Of the files that git has: caches lie beside data."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.splitlines()
             if (ROOT / name).is_file()}
    homes = {"weights/": 25e6, "data/city/": 4e6, "tests/fixtures/": 5e6}
    assert {name: size for name, size in sizes.items()
            if size > 250_000 and not name.startswith(tuple(homes))} == {}
    for home, most in homes.items():
        assert sum(size for name, size in sizes.items() if name.startswith(home)) <= most


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 150
    assert max(map(len, text.splitlines())) <= 120
    assert len(text.split()) <= 1000


def options_of(script: str, monkeypatch: pytest.MonkeyPatch) -> list[argparse.Action]:
    """What the parser of a script was given, argparse's own --help apart."""
    parsers = []

    class Built(Exception):
        pass

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        parsers.append(parser)
        raise Built

    monkeypatch.setattr(Parser, "parse_known_args", stop)
    with pytest.raises(Built):
        importlib.import_module(script.removesuffix(".py")).parse_args()
    return [action for action in parsers[0]._actions if action.dest != "help"]


def test_every_option_is_explained_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(path.read_text() for path in FILES)
    elsewhere = {
        "debug",  # straight from sys.argv, since it must work before parsing
        "list_models",  # acts while it is parsed
        # by name, in loss_settings
        "batch_weighting", "class_weight_bound", "upstream_batch_scale", "upstream_last_bin",
    }
    seen = set()
    for script in SCRIPTS:
        for action in options_of(script, monkeypatch):
            names = action.option_strings or [action.dest]
            assert action.help, f"{script}: {names} has no help"
            assert action.type is not bool, f"{script}: {names}"
            seen.add(action.dest)
    unread = {dest for dest in seen - elsewhere if not re.search(rf"\bargs\.{dest}\b", code)}
    assert not unread
    assert len(seen) > 120
    assert '"--debug" in sys.argv' in code


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    done = call(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
    assert done.stdout.count("\n") > 10
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_and_abbreviated_options(script: str, call) -> None:
    for word in ("--nonsense", "--hel"):
        done = call(script, word)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("files", [
    [path for path in FILES if path not in BENCHMARKS],
    pytest.param(BENCHMARKS, marks=pytest.mark.slow),  # other packages are imported for seconds
], ids=["product", "benchmarks"])
def test_importing_does_nothing(files: list[Path], tmp_path: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in files
    ]
    code = f"""
import sys, threading, random, torch, numpy
sys.path.insert(0, {str(ROOT)!r})
before = torch.get_rng_state(), numpy.random.get_state()[1].copy(), threading.active_count()
for name in {modules!r}:
    __import__(name)
assert torch.equal(before[0], torch.get_rng_state())
assert (before[1] == numpy.random.get_state()[1]).all()
assert before[2] == threading.active_count()
assert not torch.cuda.is_initialized()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_ruff() -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", "check", str(ROOT)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_mypy() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
