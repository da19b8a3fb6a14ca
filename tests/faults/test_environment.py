"""Clocks, locales, links and names of files as they are on somebody's machine."""

import os
from pathlib import Path

import pytest
import torch
from conftest import draw_folder, forks, start_script
from trainings import SGD, Trainings, assert_same, at

from model import build_model
from utils import checkpoint, distributed
from utils.images import write_png


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


STRANGE = """
import itertools, os, time
import train
from utils.stopping import run
clock = itertools.cycle((4e9, 0.0, -5.0, 2e9))
time.time = lambda: next(clock)
time.tzset()
del os.environ["HOME"]
run(train.main)
"""


def test_a_clock_that_jumps(train: Trainings, tmp_path: Path) -> None:
    """No home, a time zone that is none."""
    (tmp_path / "strange.py").write_text(STRANGE)
    done = forks()(tmp_path / "strange.py", *train.base, "--run-dir", tmp_path / "run", *SGD,
                   env={"TZ": "No/Where", "LC_ALL": "tlh_QO.KOI8"})
    assert (done.returncode, done.stderr) == (0, "")
    assert_same(tmp_path / "run", train.undisturbed(*SGD))


def test_a_locale_without_letters(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "data")
    (root / "classes.txt").write_text("7 Straße 1 2 3\n3 汽车 4 5 6\n200 sky 0 0 255\n", "utf-8")
    for kind in ("images", "labels"):
        (root / kind / "train/0.png").rename(root / kind / "train/ü 日本 #1.png")
    done = start_script("preprocess_data.py", "--dataset", "folder", "--data-root", root, "--check",
                        env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert r"Stra\xdfe" in done.stdout
    assert "healthy" in done.stdout


def test_links(train: Trainings, tmp_path: Path) -> None:
    """A run folder stays where its link leads to; a checkpoint's link does not lose its target."""
    (tmp_path / "disk").mkdir()
    run = tmp_path / "link"
    run.symlink_to(tmp_path / "disk")
    assert train.start(run, *SGD, faults=[at("train.update", 3)]).returncode != 0
    kept = (tmp_path / "disk/last.pth").rename(tmp_path / "kept.pth")
    (tmp_path / "disk/last.pth").symlink_to(kept)
    before = kept.read_bytes()
    done = train("--resume", run)
    assert done.returncode == 0, done.stderr
    assert run.is_symlink()
    assert kept.read_bytes() == before
    assert not (tmp_path / "disk/last.pth").is_symlink()
    assert_same(tmp_path / "disk", train.undisturbed(*SGD))
    assert train("--resume", tmp_path / "disk").stdout.endswith("already complete, step 8 of 8\n")


NAMES = ["ü 日本.png", "a b#c%d?.png", "-n.png", "a\nb\x1b[2J.png", os.fsdecode(b"\xff\xe9.png")]


def test_names_of_photos(call, tmp_path: Path) -> None:
    """Every one is segmented; one of which no picture can be named is said, in one line."""
    network = build_model("sgcpnet", 3)
    checkpoint.write(tmp_path / "a.pth", {
        "format": 1, "model": network.config, "weights": network.state_dict(), "dataset": {
            "name": "folder", "class_names": list("abc"), "palette": [[0, 0, 0]] * 3,
            "train_id_to_id": [0, 1, 2]}})
    long = "x" * 251 + ".png"
    for name in (*NAMES, long):
        write_png(tmp_path / "photos" / name, torch.zeros(32, 32, 3, dtype=torch.uint8).numpy())
    words = ["--snapshot", tmp_path / "a.pth", "--outputs", "overlay", "--precision", "fp32"]
    done = call("demo_folder.py", "--demo-folder", tmp_path / "photos", *words, "--save-dir",
                tmp_path / "out")
    assert done.returncode != 0
    assert f"{'x' * 251}_overlay.png: not written (File name too long)" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "photos" / long).unlink()
    done = call("demo_folder.py", "--demo-folder", tmp_path / "photos", *words, "--save-dir",
                tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name[:-4]}_overlay.png" for name in NAMES}


@pytest.mark.parametrize(("device", "local", "gpus"), [
    ("cuda", (0, 1), 0), ("cuda:2", (0, 1), 2), ("cuda", (1, 2), 1), ("auto", (0, 2), 1),
    ("cuda:0", (0, 3), 2),
])
def test_more_ranks_than_gpus(device: str, local: tuple, gpus: int, monkeypatch: pytest.MonkeyPatch
                              ) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    with pytest.raises(ValueError, match=rf"{gpus} CUDA GPUs visible, {local[1]} processes here; "
                                         "use --device cpu or fewer processes"):
        distributed.find_device(device, *local)
