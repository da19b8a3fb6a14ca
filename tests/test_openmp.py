"""Threads that wait sleep: the setting is there before PyTorch, and not over a user's own."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

ENTRIES = [*sorted(ROOT.glob("*.py")), ROOT / "benchmarks" / "__init__.py"]
OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_is_imported_first(path: Path) -> None:
    imports = [node for node in ast.parse(path.read_text()).body
               if isinstance(node, ast.Import | ast.ImportFrom)]
    assert ast.unparse(imports[0]) == "import utils.openmp"


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP says what it read")
@pytest.mark.parametrize(("own", "spins"), [
    ({}, "0"), ({"OMP_WAIT_POLICY": "active"}, "30000000000"), ({"GOMP_SPINCOUNT": "77"}, "77"),
], ids=str)
def test_what_openmp_read(own: dict[str, str], spins: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    env |= {"OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(ROOT), **own}
    code = f"import os, train; print([os.environ.get(name) for name in {OURS}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
    expected = own or {"OMP_WAIT_POLICY": "passive"}
    assert done.stdout == f"{[expected.get(name) for name in OURS]}\n"
