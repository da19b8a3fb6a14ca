"""What test.py leaves: names, ids and package of every data set, going on after interruptions."""

import errno
import importlib
import json
import resource
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, run_script
from test_locks import held_by_another
from test_package_check import ids_of, package_of, split_of

from datasets import DATASETS, build_dataset, describe
from model import build_model
from utils import checkpoint
from utils.files import replacing
from utils.images import read_image, read_label, write_png
from utils.options.data import SHIPPED
from utils.submission.folder import ResultsFolder

FAST = ["--workers", 0, "--threads", 1, "--precision", "fp32"]


@pytest.fixture(scope="module")
def snapshots(data_roots: dict[str, Path], tmp_path_factory) -> dict[str, Path]:
    """An untrained network for the classes of every data set."""
    folder, paths = tmp_path_factory.mktemp("snapshots"), {}
    for name in DATASETS:
        known = describe(build_dataset(name, data_roots[name], "val"), name)
        classes = len(known["class_names"])
        network = build_model("cspsg_n", classes)
        paths[name] = folder / f"{name}.pth"
        checkpoint.write(paths[name], {
            "format": checkpoint.FORMAT, "dataset": known, "weights": network.state_dict(),
            "model": {"arch": "cspsg_n", "num_classes": classes, "options": {}},
        })
    return paths


def predict(name: str, snapshots, data_roots, folder: Path, split: str = "") -> list[object]:
    return ["test.py", "--snapshot", snapshots[name], "--data-root", data_roots[name], "--split",
            split or split_of(name), "--save-dir", folder, *FAST]


NAMES = {
    "cityscapes": ["bonn_000000_000019.png", "bonn_000001_000019.png"],
    "kitti": ["semantic/000000_10.png", "semantic/000001_10.png"],
    "camvid": ["Seq05VD_1.png"],
    "mapillary": ["te0.png"],
    "mapillary_v2": ["te0.png"],
    "folder": ["0.png", "1.png"],
}


@pytest.mark.parametrize("name", DATASETS)
def test_prediction_is_packed(name: str, snapshots, data_roots, call, tmp_path: Path) -> None:
    done = call(*predict(name, snapshots, data_roots, tmp_path / "out"), "--pictures")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    title = f"{name}_{split_of(name)}.zip"
    assert {path.name for path in out.iterdir()} == {
        ".lock", "pred", "rgb", "compose", title, "settings.json", "test.json"}
    assert json.loads((out / "test.json").read_text())["package"] == title
    dataset = build_dataset(name, data_roots[name], split_of(name))
    with zipfile.ZipFile(out / title) as archive:
        assert archive.namelist() == NAMES[name]
        for path, sample, size in zip(NAMES[name], dataset.samples, dataset.sizes(), strict=True):
            ids = ids_of(archive.read(path))
            assert ids.shape == size
            assert set(np.unique(ids)) <= set(dataset.train_id_to_id)
            assert (ids == read_label(out / "pred" / path)).all()
            colors = read_image(out / "rgb" / f"{sample.name}.png")
            train_id = dataset.id_to_train_id[ids[0, 0]]
            assert tuple(colors[0, 0]) == tuple(dataset.palette[train_id])
            assert read_image(out / "compose" / f"{sample.name}.png").shape == colors.shape


def test_logits_beyond_the_classes_are_no_class(data_roots: dict[str, Path], tmp_path) -> None:
    """In CamVid id 0 would be sky."""
    results = ResultsFolder(tmp_path, package_of("camvid", data_roots["camvid"]), "x")
    results.write("a.png", np.uint8([[0, 10, 11, 255]]))
    assert read_label(tmp_path / "pred/a.png").tolist() == [[0, 10, 11, 11]]


def test_skip_done_predicts_what_is_damaged(snapshots, data_roots, call, tmp_path: Path) -> None:
    """Two of three on two processes; then nothing differs from what one process made."""
    words = predict("cityscapes", snapshots, data_roots, tmp_path / "one", split="val")
    done = call(*words)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "two"
    shutil.copytree(tmp_path / "one", out)
    cut, whole, wrong = sorted((out / "pred").iterdir())
    cut.write_bytes(cut.read_bytes()[:-20])
    write_png(wrong, np.full((64, 128), 34, np.uint8))
    (out / "pred/.a.png-0123456789abcdef.part").write_bytes(b"left by a process that was killed")
    stamp = whole.stat().st_mtime_ns
    words = [out if word == tmp_path / "one" else word for word in words]
    done = run_script(*words, "--skip-done", ranks=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 of 3 images of cityscapes val predicted now") == 1
    assert whole.stat().st_mtime_ns == stamp
    title = "cityscapes_val.zip"
    assert (out / title).read_bytes() == (tmp_path / "one" / title).read_bytes()
    assert sorted((out / "pred").iterdir()) == [cut, whole, wrong]
    done = call(*words, "--skip-done")
    assert "0 of 3" in done.stdout


@pytest.mark.parametrize("script", ["test.py", "evaluate.py"])
def test_two_do_not_collect_in_one_folder(
    script: str, snapshots, data_roots, call, tmp_path: Path
) -> None:
    """The second is refused while the first is at work, and writes nothing."""
    words = [script, *predict("kitti", snapshots, data_roots, tmp_path, split="val")[1:]]
    with held_by_another(tmp_path / ".lock") as pid:
        done = call(*words)
        assert done.returncode == 2, done.stdout
        assert f"{tmp_path}: in use by process {pid} on " in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert call(*words).returncode == 0


def test_pictures_can_be_added(snapshots, data_roots, call, tmp_path: Path) -> None:
    words = [*predict("kitti", snapshots, data_roots, tmp_path), "--skip-done"]
    assert "2 of 2" in call(*words).stdout
    assert "2 of 2" in call(*words, "--pictures").stdout
    assert "0 of 2" in call(*words, "--pictures").stdout
    (tmp_path / "rgb/000000_10.png").unlink()
    assert "1 of 2" in call(*words, "--pictures").stdout


def test_two_networks_do_not_mix(snapshots, data_roots, call, tmp_path: Path) -> None:
    snapshot = shutil.copy(snapshots["kitti"], tmp_path / "best.pth")
    words = predict("kitti", {"kitti": snapshot}, data_roots, tmp_path / "out")
    assert call(*words).returncode == 0

    def refused(*options: object) -> str:
        done = call(*words, *options)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "holds predictions; --skip-done goes on" in refused()
    assert "made with another eval_size;" in refused("--skip-done", "--eval-size", 64)
    assert "another scales, flip_average;" in refused("--skip-done", "--scales", 1, 2, "--flip")
    network = build_model("cspsg_n", 19)
    content = {**checkpoint.read(snapshot), "weights": network.state_dict()}
    checkpoint.write(snapshot, content)
    assert "made with another snapshot;" in refused("--skip-done")
    (tmp_path / "out/settings.json").unlink()
    assert "nobody knows what made the predictions" in refused("--skip-done")
    assert (tmp_path / "out/kitti_test.zip").exists(), "a refusal changes nothing"


ANOTHER = {  # of every option that decides about a prediction
    "dataset": [], "cv_split": [],  # other data, which are not in this folder
    "split": ["--split", "train"], "holdout": ["--holdout", "0001TP"],
    "class_map": ["--class-map", "MAP"],
    "eval_size": ["--eval-size", 64], "scales": ["--scales", 2], "flip_average": ["--flip"],
    "window": ["--window", 64], "overlap": ["--overlap", 0.5],
    "average": ["--average", "probabilities"],
    "precision": ["--precision", "bf16"], "compile": ["--compile"],
    "bits": ["--bits", 12], "exif": ["--exif", "apply"],
}
# Whatever they are, predictions are the same; --limit and --split say which there are.
HARMLESS = {"snapshot", "data_root", "limit", "workers", "device", "threads", "window_batch",
            "save_dir", "skip_done", "pictures", "check_zip", "debug"}


def test_options_are_in_one_of_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["test.py", "--snapshot", "x", "--save-dir", "y"])
    script = importlib.import_module("test")
    assert set(vars(script.parse_args())) == {*ANOTHER, *HARMLESS}
    assert script.PASSING.isdisjoint({*ANOTHER, "snapshot"})


def test_another_setting_is_refused(snapshots, data_roots, call, tmp_path: Path) -> None:
    """Each by its name, beside predictions that are there."""
    words = [*predict("camvid", snapshots, data_roots, tmp_path / "out", "val"), "--skip-done"]
    assert call(*words).returncode == 0
    (tmp_path / "map").write_text("".join(
        f"{name} = {name}\n" for name in CLASSES["camvid"].class_names))
    given = [word for option in ANOTHER.values() for word in option]
    done = call(*words, *(tmp_path / "map" if word == "MAP" else word for word in given))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    named = done.stderr.partition("made with another ")[2].partition(";")[0]
    assert sorted(named.split(", ")) == sorted(name for name, option in ANOTHER.items() if option)
    done = call(*words, "--limit", 1, "--device", "cpu")
    assert (done.returncode, "0 of 1" in done.stdout) == (0, True), done.stderr


def test_half_a_run_leaves_no_package(
    snapshots, data_roots, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*predict("kitti", snapshots, data_roots, tmp_path), "--skip-done"]
    assert call(*words).returncode == 0
    (tmp_path / "pred/semantic/000001_10.png").unlink()
    write = ResultsFolder.write

    def full(self: ResultsFolder, path: str, train_ids: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResultsFolder, "write", full)
    assert call(*words).returncode == 130
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "pred", "settings.json"}
    # A prediction that gets lost before it is packed.
    monkeypatch.setattr(ResultsFolder, "write", lambda *_: None)
    done = call(*words)
    assert done.returncode == 2
    assert "kitti_test.zip: no server would score this rightly; faults: 1" in done.stderr
    assert "semantic/000001_10.png: missing" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "pred", "settings.json"}
    monkeypatch.setattr(ResultsFolder, "write", write)
    assert "1 of 2" in call(*words).stdout
    assert (tmp_path / "test.json").exists()


def test_a_disk_that_fills_up(
    snapshots, data_roots, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No package of what could not be written, and nothing to do again where there is room."""
    words = [*predict("kitti", snapshots, data_roots, tmp_path), "--skip-done"]
    write, limits = ResultsFolder.write, resource.getrlimit(resource.RLIMIT_FSIZE)

    def second_is_full(self: ResultsFolder, path: str, train_ids: np.ndarray) -> None:
        if path.endswith("000001_10.png"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
        write(self, path, train_ids)

    monkeypatch.setattr(ResultsFolder, "write", second_is_full)
    try:
        done = call(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "000001_10.png: not written (File too large)" in last
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "pred", "settings.json"}
    assert [path.name for path in tmp_path.rglob("*.p*")] == ["000000_10.png"]
    monkeypatch.setattr(ResultsFolder, "write", write)
    assert "1 of 2" in call(*words).stdout
    assert (tmp_path / "test.json").exists()


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    def fill() -> None:
        with replacing(tmp_path / "x.zip") as part:
            part.write_bytes(b"new")
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x.zip").write_bytes(b"old")
    with pytest.raises(OSError, match="x.zip: not written"):
        fill()
    assert (tmp_path / "x.zip").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_wrong_inference_writes_nothing(snapshots, data_roots, call, tmp_path: Path) -> None:
    done = call(*predict("kitti", snapshots, data_roots, tmp_path / "out"), "--overlap", 0.5)
    assert done.returncode == 2
    assert "--overlap: has no effect without --window" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "said"), [
    ([], f"give --snapshot FILE, as {SHIPPED}, and --save-dir DIR, or --check-zip FILE"),
    (["--snapshot", "x.pth"], "and --save-dir DIR, or --check-zip FILE"),
    (["--check-zip", "x.zip"], "--check-zip: give --dataset NAME"),
])
def test_what_must_be_given(words: list[str], said: str, call) -> None:
    done = call("test.py", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
