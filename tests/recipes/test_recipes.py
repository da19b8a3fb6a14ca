"""The recipes of published systems: two steps of the real networks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, draw_camvid, draw_cityscapes, draw_kitti, draw_mapillary

from utils import checkpoint

CITIES = ("aachen", "frankfurt", "monchengladbach", "stuttgart")  # of all three validations


def draw_cities(root: Path) -> Path:
    """A miniature with several cities, and coarse labels of another."""
    for number, city in enumerate(CITIES):
        part = draw_cityscapes(root / "parts" / str(number), train=4, val=1)
        split = "val" if city == "frankfurt" else "train"
        for folder in ("leftImg8bit", "gtFine"):
            target = root / folder / split / city
            target.mkdir(parents=True)
            for path in (part / folder / "train" / "aachen").iterdir():
                shutil.copy(path, target / path.name.replace("aachen", city))
    extra = root / "leftImg8bit/train_extra/erlangen"
    coarse = root / "gtCoarse/train_extra/erlangen"
    for folder in (extra, coarse):
        folder.mkdir(parents=True)
    for path in (root / "leftImg8bit/train/aachen").iterdir():
        name = path.name.replace("aachen", "erlangen")
        shutil.copy(path, extra / name)
        label = path.name.replace("leftImg8bit", "gtFine_labelIds")
        shutil.copy(root / "gtFine/train/aachen" / label,
                    coarse / name.replace("leftImg8bit", "gtCoarse_labelIds"))
    shutil.rmtree(root / "parts")
    return root


DRAW = {"mapillary": draw_mapillary, "cityscapes": draw_cities, "kitti": draw_kitti,
        "camvid": draw_camvid}
RECIPES = sorted(path.stem for path in (ROOT / "scripts").glob("train_*_*.sh"))
SMALL = [name for name in RECIPES if "resne" not in name]  # networks that a machine can train twice


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ranks"), [*((name, 2) for name in RECIPES),
                                             *((name, 1) for name in SMALL)])
def test_two_steps(name: str, ranks: int, tmp_path: Path) -> None:
    dataset, network = name.split("_", 2)[1:]
    root, run, script = DRAW[dataset](tmp_path / "data"), tmp_path / "run", f"scripts/{name}.sh"
    done = subprocess.run(
        ["bash", str(ROOT / script), "--data-root", str(root), "--run-dir", str(run),
         "--max-steps", "2", "--crop-size", "48", "48", "--tile", "32", "--batch-size", "4",
         "--accumulate", "1", "--workers", "0", "--threads", "1", "--eval-size", "64", "64",
         "--eval-crop", "48", "48"],
        env={**os.environ, "NPROC": str(ranks), "VIRTUAL_ENV": sys.prefix}, capture_output=True,
        text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-2000:]
    last = checkpoint.read(run / "last.pth")
    assert (last["step"], last["run"]["world"]) == (2, ranks)
    assert network in last["model"]["arch"].replace(":", "_")
    assert ("random weights" in done.stderr) == ("starts_from" in (ROOT / script).read_text())
