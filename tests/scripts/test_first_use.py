"""What somebody meets who uses a script for the first time: misspelled words, help, old results."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import test_submission
import torch
from conftest import ROOT

from datasets import build_dataset
from utils import checkpoint, stopping
from utils.images import write_png

snapshots = test_submission.snapshots  # a fixture


@pytest.mark.parametrize(("script", "words", "near"), [
    ("evaluate.py", ["--predicions", "x"], "--predictions"),
    ("evaluate.py", ["--predicions=x"], "--predictions"),
    ("train.py", ["--crop-sise", "3"], "--crop-size"),
    ("train.py", ["--dataset", "citiscapes"], "cityscapes"),
    ("train.py", ["--arch", "deeplabv3_resnet81"], "deeplabv3_resnet18"),
    ("demo.py", ["--demo-image", "x", "--outputs", "id_maks"], "id_mask"),
])
def test_did_you_mean(script: str, words: list[str], near: str, call: Callable) -> None:
    done = call(script, *words)
    assert done.returncode == 2
    assert f"; did you mean {near}?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_is_near(call: Callable) -> None:
    done = call("evaluate.py", "--zzzz")
    assert (done.returncode, "did you mean" in done.stderr) == (2, False)


@pytest.mark.parametrize(("name", "said"), [
    ("train_camvid.sh", ["DeepLabV3-ResNet18 on CamVid", "\n  --crop-size 352 480\n",
                         "python train.py --help"]),
    ("evaluate.sh", ["Scores a checkpoint", "python evaluate.py --help"]),
    ("submit.sh", ["python test.py --help"]),
    ("run_tests.sh", ["Sets up Python and runs the tests"]),
    ("quickstart.sh", ["From nothing to pictures"]),
])
def test_help_of_launchers(name: str, said: list[str]) -> None:
    """The recipe's own options, not the defaults of what it starts; nothing is installed."""
    done = subprocess.run(["bash", ROOT / "scripts" / name, "--help"], capture_output=True,
                          text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert all(words in done.stdout for words in said), done.stdout
    assert "set -euo" not in done.stdout


def test_help_of_a_demo_does_not_wait_for_pytorch() -> None:
    code = ("import runpy, sys; sys.argv = ['demo.py', '--help']\n"
            "try: runpy.run_path('demo.py', run_name='__main__')\n"
            "finally: print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("usage: "), done.stderr
    assert done.stdout.endswith("\nFalse\n")


def test_figures_of_another_network_stay(
    snapshots: dict, data_roots: dict, call: Callable, tmp_path: Path
) -> None:
    """Unless that is asked for; of the same network they are written again."""
    mine, file = tmp_path / "mine.pth", tmp_path / "scores.json"
    shutil.copy(snapshots["camvid"], mine)
    words = ["evaluate.py", "--data-root", data_roots["camvid"], "--workers", 0, "--json", file]
    file.touch()  # holds nothing that could be lost
    for snapshot, more, code in ((mine, [], 0), (mine, [], 0), (snapshots["camvid"], [], 2),
                                 (mine, ["--limit", 1], 0), (snapshots["camvid"], [], 2),
                                 (snapshots["camvid"], ["--overwrite"], 0)):
        before = file.read_bytes() if file.exists() else b""
        done = call(*words, "--snapshot", snapshot, *more)
        assert done.returncode == code, done.stderr
        if code:
            assert "figures, of another run (not the same snapshot); give --overwr" in done.stderr
            assert file.read_bytes() == before
    file.write_text("my notes")
    done = call(*words, "--snapshot", mine)
    assert (done.returncode, file.read_text()) == (2, "my notes")
    assert f"{file}: holds something else than scores; give --overwrite, or ano" in done.stderr


def test_figures_of_another_root_or_other_weights_stay(
    snapshots: dict, data_roots: dict, call: Callable, tmp_path: Path
) -> None:
    roots, file, mine = [], tmp_path / "s.json", tmp_path / "mine.pth"
    for name in "ab":
        roots.append(shutil.copytree(data_roots["camvid"], tmp_path / name))
    content = checkpoint.read(snapshots["camvid"])
    for root, step, fault in ((0, 1, ""), (1, 1, "root"), (0, 2, "weights"), (0, 1, "")):
        torch.save({**content, "step": step}, mine)
        done = call("evaluate.py", "--snapshot", mine, "--data-root", roots[root], "--workers", 0,
                    "--json", file)
        assert done.returncode == 2 * bool(fault), done.stderr
        assert not fault or f"(not the same {fault}); give --overwrite" in done.stderr


def test_figures_of_every_image(
    snapshots: dict, data_roots: dict, call: Callable, tmp_path: Path
) -> None:
    """Those of JSON and table agree; a class that is not in an image has none."""
    paths = tmp_path / "s.json", tmp_path / "s.csv"
    done = call("evaluate.py", "--snapshot", snapshots["camvid"], "--data-root",
                data_roots["camvid"], "--workers", 0, "--json", paths[0], "--csv", paths[1])
    assert done.returncode == 0, done.stderr
    images = json.loads(paths[0].read_text())["imageScores"]
    head, *rows = csv.reader(paths[1].open(newline=""))
    assert [row[0] for row in rows] == list(images) == ["0016E5_7", "0016E5_8"]
    for row in rows:
        figures = images[row[0]]
        assert head[2:] == list(figures)
        assert [float(text) if text else None for text in row[2:]] == list(figures.values())
        known = [iou for iou in figures.values() if iou is not None]
        assert float(row[1]) == pytest.approx(sum(known) / len(known))


def test_images_without_folders_of_splits(tmp_path: Path) -> None:
    write_png(tmp_path / "images/a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "classes.txt").write_text("0 road 0 0 0\n")
    with pytest.raises(FileNotFoundError, match="a folder for each split is missing, as images/tr"):
        build_dataset("folder", tmp_path, "train")


@pytest.mark.parametrize(("words", "message"), [
    (["--threads", 1025], "--threads: '1025' is not a whole number from 1 to 1024;"),
    (["--workers", 100000], "'100000' is not a whole number from 0 to 1024;"),
    (["--crop-size", 64, 65537], "'65537' is not a whole number from 1 to 65536;"),
    (["--epochs", 10**6], "'1000000' is not a whole number from 1 to 65536;"),
    (["--max-steps", 2**63], "is not a whole number from 1, below 2^63;"),
    (["--data-root", ""], "error: --data-root '': empty"),
    (["--run_dir="], "error: --run-dir '': empty"),
])
def test_numbers_without_end_and_empty_words(words: list, message: str, call: Callable) -> None:
    """They end in libraries, start a process each, or are taken for an option not given."""
    done = call("train.py", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


@pytest.mark.parametrize(("words", "message"), [
    (["--snapshot", "z" * 300], f"error: {'z' * 300}: File name too long\n"),
    (["--save-dir", "file"], "not written (Not a directory)"),
    (["--save-dir", "loop"], "loop/x_overlay.png: not written (File exists)\n"),
    (["--eval-size", 65000], "64x32, seen: 65000x32500, over 64,000,000 pixels"),
    (["--eval-size", 10**20], "is not a whole number from 1 to 65536;"),
])
def test_places_and_sizes_that_cannot_be(
    words: list, message: str, call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_png("x.png", np.zeros((32, 64, 3), np.uint8))
    Path("file").touch()
    Path("loop").symlink_to("loop")
    done = call("demo.py", "--demo-image", "x.png", "--outputs", "overlay", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loop_of_links_is_wrong_input(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    done = call("evaluate.py", "--snapshot", "a.pth", "--dataset", "camvid", "--json", "loop/x")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert "loop" in done.stderr


@pytest.mark.parametrize(("name", "said"), [
    ("a\n\x1b[2J", r"a\n\x1b[2J: too long"), (99, "too long")])
def test_names_that_the_system_refuses_are_escaped(
    name: object, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A number is that of an open file."""
    monkeypatch.setattr(stopping, "ROOT", Path(__file__).parent)
    with pytest.raises(OSError, match="too long") as caught:
        raise OSError(36, "too long", name)
    assert stopping.report(caught.value) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
