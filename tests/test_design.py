"""The house rules: who imports whom, how long files are, which options exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
PACKAGES = ("model", "datasets", "utils")
FILES = [ROOT / name for name in SCRIPTS]
FILES += [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FILES += sorted((ROOT / "benchmarks").glob("*.py"))
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
    assert imported(path) <= allowed


def lines(*names: str) -> int:
    return sum(len((ROOT / name).read_text().splitlines()) for name in names)


def test_reading_path_is_short() -> None:
    names = ("train.py", "datasets/base.py", "datasets/cityscapes.py", "model/deeplabv3.py",
             "model/losses/__init__.py")
    assert lines(*names) <= 800


def test_files_are_short() -> None:
    assert {str(path): n for path in FILES if (n := lines(str(path))) > 400} == {}


def declared_options() -> dict[str, str]:
    """Option -> dest of every add_argument in the tree."""
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                names = [a.value for a in node.args if isinstance(a, ast.Constant)]
                if not names:  # argparse's own
                    continue
                keywords = {keyword.arg: keyword.value for keyword in node.keywords}
                assert "help" in keywords, f"{path.name}: {names} has no help"
                assert getattr(keywords.get("type"), "id", "") != "bool", names
                if names[0].startswith("--"):
                    found[names[0]] = names[0][2:].replace("-", "_")
    return found


def test_every_option_is_read() -> None:
    code = "\n".join(path.read_text() for path in FILES)
    read_elsewhere = {
        "debug",  # straight from sys.argv, since it must work before parsing
        "list_models",  # acts while it is parsed
    }
    unread = [
        option for option, dest in declared_options().items()
        if dest not in read_elsewhere and not re.search(rf"\bargs\.{dest}\b", code)
    ]
    assert not unread
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


def test_importing_does_nothing(tmp_path: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
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
