"""What was taken, or written over, without a word."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_propagate
import torch
from conftest import draw_cityscapes, draw_folder, run_script
from PIL import Image
from test_propagate import NAME, refused
from trainings import Trainings

from datasets import build_dataset, describe
from datasets.folder import read_classes
from datasets.samples import shared_images
from model import build_model
from utils import checkpoint
from utils.images import read_label, write_png

root, propagate = test_propagate.root, test_propagate.propagate  # fixtures


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "own")


@pytest.fixture
def snapshot(own: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build_model("cspsg_n", 3)
    checkpoint.write(tmp_path / "x.pth", {
        "format": checkpoint.FORMAT, "model": network.config, "weights": network.state_dict(),
        "dataset": describe(build_dataset("folder", own, "val"), "folder")})
    return tmp_path / "x.pth"


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["labels/train", "images/train", "labels/val", "link"])
def test_train_ids_over_the_data_set(place: str, own: Path, call: Callable) -> None:
    (own / "link").symlink_to("labels/train")
    before = contents(own)
    words = ["--dataset", "folder", "--data-root", own, "--train-ids", "--workers", 0]
    done = call("preprocess_data.py", *words, "--save-dir", own / place)
    assert done.returncode == 2
    assert "holds files of the data set, which would be written over" in done.stderr
    assert contents(own) == before
    assert call("preprocess_data.py", *words, "--save-dir", own / "ids").returncode == 0
    assert set(np.unique(read_label(own / "ids/0.png"))) == {0, 1, 2, 255}


@pytest.mark.parametrize(("void", "code"), [(2, 2), (3, 0), (255, 0)])
def test_void_that_is_a_class(void: int, code: int, own: Path, tmp_path: Path, call: Callable
                              ) -> None:
    done = call("preprocess_data.py", "--dataset", "folder", "--data-root", own, "--train-ids",
                "--save-dir", tmp_path / "ids", "--void-id", void, "--workers", 0)
    assert done.returncode == code
    assert ("--void-id 2: is the train id of sky" in done.stderr) == (code == 2)


def test_a_csv_that_is_there(own: Path, snapshot: Path, tmp_path: Path, call: Callable) -> None:
    words = ["--snapshot", snapshot, "--data-root", own, "--workers", 0]
    table, scores, weights = tmp_path / "s.csv", tmp_path / "s.json", snapshot.read_bytes()
    for more in (["--csv", snapshot], ["--csv", table, "--json", table]):
        assert call("evaluate.py", *words, *more).returncode == 2
    assert snapshot.read_bytes() == weights
    for _ in range(2):  # of the same run, as its figures beside it say
        assert call("evaluate.py", *words, "--csv", table, "--json", scores).returncode == 0
    done = call("evaluate.py", *words, "--csv", table)
    assert done.returncode == 2
    assert f"--csv {table}: is there, and may be of another run; give --overwrite" in done.stderr
    assert call("evaluate.py", *words, "--csv", table, "--overwrite").returncode == 0
    table.write_text("somebody's notes\n")
    assert call("evaluate.py", *words, "--csv", table, "--json", scores).returncode == 2
    assert table.read_text() == "somebody's notes\n"


FULL = """
import os, sys
import {script}
from utils.stopping import run
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
run({script}.main)
"""


@pytest.mark.parametrize(("script", "words"), [
    ("preprocess_data", ["--check", "--dataset", "folder", "--data-root", "own", "--json", "out"]),
    ("pixel_percentage", ["--masks", "own/labels", "--classes", "own/classes.txt", "--csv", "out"]),
])
def test_results_are_there_before_they_are_said(script: str, words: list, own: Path,
                                                tmp_path: Path) -> None:
    (tmp_path / "full.py").write_text(FULL.format(script=script))
    done = run_script(tmp_path / "full.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "out").stat().st_size


def test_tables_are_said_where_no_file_can_be_written(own: Path, snapshot: Path, tmp_path: Path,
                                                      call: Callable) -> None:
    done = call("evaluate.py", "--snapshot", snapshot, "--data-root", own, "--workers", 0,
                "--json", "/dev/full")
    assert done.returncode == 1
    assert "/dev/full: not written (No space left on device)" in done.stderr
    assert "2 images of folder val, mIoU " in done.stdout


BOTH = """
import os, sys
import evaluate
from utils.stopping import run
read, write = os.pipe()
os.close(read)
os.dup2(write, 1)
run(evaluate.main)
"""


def test_a_full_disk_and_a_pipe_that_ended(own: Path, snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    done = run_script(tmp_path / "both.py", "--snapshot", snapshot, "--data-root", own,
                      "--workers", 0, "--precision", "fp32", "--no-compile", "--json", "/dev/full")
    assert done.returncode == 1
    assert "error: /dev/full: not written (No space left on device)" in done.stderr


def test_color_labels_of_16_bits(own: Path, call: Callable) -> None:
    """Ids in three channels would lose their low bits."""
    for path in (own / "labels").rglob("*.png"):
        cv2.imwrite(str(path), np.dstack([read_label(path).astype(np.uint16)] * 3))
    with pytest.raises(ValueError, match=r"0\.png: a color label \(RGB\), expected a single"):
        build_dataset("folder", own, "train").read_ids(0)


@pytest.mark.parametrize(("lines", "right"), [
    ("7 road 128 64 128 255\n3 light 250 170 30 255\n", False),
    ("7 class 1 128 64 128\n3 class 2 250 170 30\n", True),
    ("7 zone 1 0 0 255\n", True), ("7 sea 0 0 255\n3 lake 0 9 255\n", True),
])
def test_colors_with_alpha(lines: str, right: bool, tmp_path: Path) -> None:
    """All numbers would move by one: the class "road 128" of the color (64, 128, 255)."""
    (tmp_path / "classes.txt").write_text(lines)
    if right:
        assert len(read_classes(tmp_path / "classes.txt").class_names) == lines.count("\n")
    else:
        with pytest.raises(ValueError, match="four numbers behind each name; expected: id name r"):
            read_classes(tmp_path / "classes.txt")


@pytest.mark.parametrize("name", ["best.pth", "last.prev.pth", "log.jsonl"])
def test_resume_of_a_file(name: str, train: Trainings) -> None:
    run = train.undisturbed()
    done = train("--resume", run / name)
    assert done.returncode == 2
    assert f"--resume {run / name}: give its folder, whose last.pth goes on" in done.stderr
    assert train("--resume", run / "last.pth").returncode == 0


def test_resume_in_another_precision(train: Trainings, tmp_path: Path) -> None:
    """As on a GPU without bf16; there is no state of a scaler yet."""
    shutil.copytree(train.undisturbed(), tmp_path / "run")
    done = train("--resume", tmp_path / "run", "--precision", "fp16", "--extend", "--epochs", 3)
    assert done.returncode == 0, done.stderr
    assert "note: precision was fp32, is fp16: the arithmetic differs" in done.stdout


@pytest.mark.parametrize("name", ["7.gif", "a/1.AVIF", "7.jp2"])
def test_test_images_of_other_kinds(name: str, own: Path, snapshot: Path, tmp_path: Path,
                                    call: Callable) -> None:
    """A label would miss them; where there are none, nothing does."""
    shutil.copytree(own / "images/val", own / "images/test")
    (own / "images/test" / name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48)).save(own / "images/test" / name, "GIF")
    done = call("test.py", "--snapshot", snapshot, "--data-root", own, "--save-dir",
                tmp_path / "out", "--workers", 0)
    assert done.returncode == 2
    assert f"{name}: not an image of a known kind" in done.stderr


def test_predictions_of_images_that_were_replaced(
    own: Path, snapshot: Path, tmp_path: Path, call: Callable
) -> None:
    shutil.copytree(own / "images/val", own / "images/test")
    words = ["--snapshot", snapshot, "--data-root", own, "--save-dir", tmp_path / "out",
             "--workers", 0, "--skip-done"]
    assert "2 of 2 images" in call("test.py", *words).stdout
    assert "0 of 2 images" in call("test.py", *words).stdout
    path = own / "images/test/0.png"
    shutil.copy(own / "images/train/4.png", path)
    os.utime(path, (tmp_path.stat().st_mtime + 9,) * 2)
    assert "1 of 2 images" in call("test.py", *words).stdout


def words_of(script: str, own: Path, tmp_path: Path) -> list:
    """For a script that reads a snapshot, and writes `out` or out.onnx."""
    if script == "export.py":
        pytest.importorskip("onnxscript")
    return {"evaluate.py": ["--data-root", own, "--workers", 0],
            "demo.py": ["--demo-image", own / "images/val/0.png", "--save-dir", tmp_path / "out"],
            "export.py": ["--images", own / "images/val", "--output", tmp_path / "out.onnx"],
            }[script]


@pytest.mark.parametrize(("change", "said"), [
    ({"weights": {"running_var": -1.0}}, "running_var is not finite, or a variance below 0"),
    ({"options": {"std": (1.0, 0.0, 1.0)}}, "model.options in it is not as train.py writes it"),
    ({"options": {"mean": (1.0, float("nan"), 1.0)}}, "model.options in it is not as train.py"),
    ({"options": {"mean": (1.0,)}}, "model.options in it is not as train.py writes it"),
])
@pytest.mark.parametrize("script", ["evaluate.py", "demo.py", "export.py"])
def test_weights_that_give_no_numbers(change: dict, said: str, script: str, own: Path,
                                      snapshot: Path, tmp_path: Path, call: Callable) -> None:
    content = torch.load(snapshot, weights_only=True)
    content["model"]["options"] |= change.get("options", {})
    for end, value in change.get("weights", {}).items():
        name = next(name for name in content["weights"] if name.endswith(end))
        content["weights"][name].fill_(value)
    torch.save(content, snapshot)
    done = call(script, "--snapshot", snapshot, *words_of(script, own, tmp_path))
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.glob("out/*")) + list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("script", [
    "evaluate.py", "demo.py", pytest.param("export.py", marks=pytest.mark.slow)])
def test_logits_of_nan_are_said(script: str, own: Path, snapshot: Path, tmp_path: Path,
                                call: Callable) -> None:
    """Not refused: a network of a few steps may have them, whose statistics lag behind."""
    content = torch.load(snapshot, weights_only=True)
    next(x for name, x in content["weights"].items() if name.endswith("conv.weight")).fill_(3e38)
    torch.save(content, snapshot)
    with pytest.warns(UserWarning, match="the network gives logits that are not finite"):
        done = call(script, "--snapshot", snapshot, *words_of(script, own, tmp_path))
    assert done.returncode == 0, done.stderr


def test_val_that_is_train_by_another_name(own: Path) -> None:
    shutil.rmtree(own / "images/val")
    shutil.rmtree(own / "labels/val")
    for kind in ("images", "labels"):
        (own / kind / "val").symlink_to("train")
    samples = [build_dataset("folder", own, split).samples for split in ("train", "val")]
    assert shared_images(*samples) == 5


def test_classes_that_change_their_names(own: Path, snapshot: Path, tmp_path: Path) -> None:
    lines = (own / "classes.txt").read_text().splitlines()
    (own / "classes.txt").write_text("\n".join(lines[::-1]))
    done = Trainings.__call__(None, "--dataset", "folder", "--data-root", own, "--arch", "cspsg_n",
                              "--init", snapshot, "--crop-size", 32, 32, "--epochs", 1,
                              "--batch-size", 2, "--workers", 0, "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert f"weights: {snapshot}; new: nothing; its class road becomes sky\n" in done.stdout


def test_a_data_set_of_no_known_name(own: Path, snapshot: Path, call: Callable) -> None:
    content = torch.load(snapshot, weights_only=True)
    content["dataset"]["name"] = "nosuch"
    torch.save(content, snapshot)
    done = call("evaluate.py", "--snapshot", snapshot, "--data-root", own, "--workers", 0)
    assert (done.returncode, done.stderr) == (
        2, "error: 'nosuch': no data set that is known; give --dataset NAME\n")


def test_holdout_is_named_where_val_is_missing(own: Path) -> None:
    shutil.rmtree(own / "images/val")
    with pytest.raises(FileNotFoundError, match="train; --holdout-fraction 0.1 takes a part of"):
        build_dataset("folder", own, "val")


def sequence(root: Path, folder: Path) -> tuple[Path, Path, Path]:
    """A copy, its labelled image and its label."""
    shutil.copytree(root, folder)
    image = folder / f"leftImg8bit/train/aachen/{NAME}000019_leftImg8bit.png"
    return folder, image, folder / f"gtFine/train/aachen/{NAME}000019_gtFine_labelIds.png"


@pytest.mark.parametrize("which", ["labelled", "frame"])
@pytest.mark.parametrize("how", ["exif", "bits"])
def test_frames_that_are_not_what_is_seen(
    which: str, how: str, propagate: Callable, root: Path, tmp_path: Path
) -> None:
    data, path, _ = sequence(root, tmp_path / "data")
    if which == "frame":
        path = data / f"leftImg8bit_sequence/train/aachen/{NAME}000020_leftImg8bit.png"
    image = Image.open(path)
    if how == "bits":
        cv2.imwrite(str(path), np.asarray(image).astype(np.uint16) * 16)
    else:
        exif = Image.Exif()
        exif[0x0112] = 3
        image.save(path, exif=exif)
    said = refused(propagate("--data-root", data))
    assert f"{path}: of 16 bits, or EXIF turns it; convert it to 8 bits, upright" in said


def test_frames_of_labels_that_were_corrected(
    propagate: Callable, root: Path, tmp_path: Path
) -> None:
    data, _, label = sequence(root, tmp_path / "data")
    for _ in range(2):
        assert propagate("--data-root", data).returncode == 0
    write_png(label, np.full_like(read_label(label), 26))
    said = refused(propagate("--data-root", data))
    assert f"holds frames made from another label of {NAME}000019; choose another" in said


def test_train_ids_that_are_propagated(propagate: Callable, root: Path, tmp_path: Path,
                                       train: Trainings) -> None:
    data, _, label = sequence(root, tmp_path / "data")
    table = build_dataset("cityscapes", data, "train").id_to_train_id
    write_png(label, table[read_label(label)])
    assert "label has train ids where ids are expected" in refused(propagate("--data-root", data))
    draw_cityscapes(tmp_path / "city", train=4, val=2, size=(48, 80))
    (tmp_path / "city").rename(tmp_path / "more")
    draw_cityscapes(tmp_path / "city", train=4, val=2, size=(48, 80))
    for path in [*(tmp_path / "more").rglob("*_000019_*.png")]:
        if path.name.endswith("labelIds.png"):
            write_png(path, table[read_label(path)])
        path.rename(path.with_name(path.name.replace("_000019_", "_000020_")))
    done = train("--dataset", "cityscapes", "--data-root", tmp_path / "city", "--arch", "tiny",
                 "--crop-size", 32, 48, "--epochs", 1, "--batch-size", 2, "--workers", 0,
                 "--propagated-root", tmp_path / "more", "--propagated-skip", 1,
                 "--run-dir", tmp_path / "run")
    assert done.returncode == 2
    assert "more/gtFine/train" in done.stderr
    assert "label has train ids where ids are expected" in done.stderr


@pytest.mark.parametrize("name", ["command.txt", ".launch", "best.pth"])
def test_pipes_under_the_names_of_our_files(name: str, train: Trainings, tmp_path: Path) -> None:
    """Nobody reads them: to open one for writing would take for ever."""
    shutil.copytree(train.undisturbed(), tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    os.mkfifo(tmp_path / "run" / name)
    done = train("--resume", tmp_path / "run", "--extend", "--epochs", 3)
    if name == "command.txt":
        assert done.returncode == 2
        assert f"{name}: cannot be written" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "run" / name).is_file()


@pytest.mark.parametrize("words", [["--output-stride", 8], ["--skip", 4]])
def test_options_that_only_a_new_network_has(words: list, train: Trainings, tmp_path: Path
                                             ) -> None:
    shutil.copytree(train.undisturbed(), tmp_path / "run")
    done = train("--resume", tmp_path / "run", "--extend", "--epochs", 3, *words)
    assert (done.returncode, done.stderr) == (
        2, f"error: {words[0]}: is fixed by the network of --resume\n")


def test_tensors_without_numbers_are_finite() -> None:
    checkpoint.check_finite({"empty": torch.empty(0), "a.running_var": torch.zeros(2)}, "x.pth")
    with pytest.raises(ValueError, match=r"a\.running_var is not finite, or a variance below 0"):
        checkpoint.check_finite({"a.running_var": torch.tensor([1.0, -1.0])}, "x.pth")
