"""evaluate.py on given predictions: the official figures, and what is said of bad files."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import cut_city, draw_folder, draw_kitti, draw_mapillary, run_script
from PIL import Image

from datasets import build_dataset
from datasets.cityscapes_labels import LABELS, TABLE
from datasets.evaluation.predictions import find_predictions
from datasets.evaluation.scored_set import ScoredSet
from utils.images import read_instances, read_label, write_png

COLORS = np.zeros((256, 3), np.uint8)
COLORS[: len(TABLE.palette)] = TABLE.palette


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five drawn streets with instances."""
    return cut_city(tmp_path_factory.mktemp("city"), 5)


@pytest.fixture
def predictions(city: Path, tmp_path: Path) -> Path:
    """Ids that are wrong in part: truth moved by a few pixels, and a stripe of caravans."""
    for sample in build_dataset("cityscapes", city, "val").samples:
        ids = np.roll(read_label(sample.label), (2, 5), (0, 1))
        ids[ids == 26] = 29 if sample.name.endswith("1_000019") else 26
        ids[40:44] = 10
        write_png(tmp_path / "pred" / f"{sample.name}_mine.png", ids)
    return tmp_path / "pred"


def scored(call, city: Path, predictions: Path, *words: object) -> dict:
    path = predictions.parent / "scores.json"
    done = call("evaluate.py", "--predictions", predictions, "--dataset", "cityscapes",
                "--data-root", city, "--json", path, "--overwrite", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()) | {"said": done.stdout}


def same(ours: object, theirs: object) -> bool:
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], v) for k, v in theirs.items())
    if isinstance(theirs, float) and math.isnan(theirs):
        return ours is None
    return ours == theirs


def test_equals_cityscapesscripts(
    city: Path, predictions: Path, call, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The official module itself, on drawn data with instances: figures and printed tables."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # gone in numpy 2.4, used there
    official = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", exc_type=ImportError)
    ours = scored(call, city, predictions)
    truths = sorted(map(str, city.glob("gtFine/val/*/*_gtFine_labelIds.png")))
    args = official.args
    args.JSONOutput, args.quiet, args.colorized, args.bold, args.nocol = False, False, False, "", ""
    args.predictionPath, args.predictionWalk = str(predictions), None
    files = [official.getPrediction(args, truth) for truth in truths]
    theirs = official.evaluateImgLists(files, truths, args)
    for key, value in theirs.items():
        assert same(ours[key], value), key
    assert ours["averageScoreInstClasses"] > 0.05
    said = capsys.readouterr().out
    tables = said[said.index("classes          IoU"):].strip()
    assert tables in ours["said"]


def test_train_ids_and_colors_score_the_same(city: Path, predictions: Path, call) -> None:
    expected = scored(call, city, predictions)
    assert "read as ids" in expected["said"]
    for kind in ("train-ids", "colors"):
        folder = predictions.parent / kind / "deep" / "folder"
        for path in predictions.glob("*.png"):
            train_ids = TABLE.id_to_train_id[read_label(path)]
            if kind == "colors":  # void has none: it becomes road
                train_ids = COLORS[np.where(train_ids < 19, train_ids, 0)]
            write_png(folder / path.name, train_ids)
        result = scored(call, city, predictions.parent / kind)
        assert f"read as {kind}" in result["said"]
        if kind == "train-ids":  # void is not scored, whatever its id
            assert result["classScores"] == expected["classScores"]
        else:
            assert result["classScores"]["sky"] == expected["classScores"]["sky"]


def test_palette_predictions(city: Path, predictions: Path, call) -> None:
    """Index = id, as other tools write them and the official scorer takes them."""
    expected = scored(call, city, predictions)
    for path in predictions.glob("*.png"):
        image = Image.fromarray(read_label(path))
        image.putpalette([value for i in range(256) for value in (i, 255 - i, 9)])
        image.save(path)
    assert scored(call, city, predictions)["confMatrix"] == expected["confMatrix"]


def test_figures_by_hand(city: Path, predictions: Path, call) -> None:
    result = scored(call, city, predictions, "--boundary")
    matrix = np.array(result["confMatrix"])
    ids = [label.id for label in LABELS if label.id >= 0 and not label.ignored]
    rows, hits = matrix[ids].sum(1), matrix.diagonal()[ids]
    iou = hits / (rows + matrix[ids][:, ids].sum(0) - hits)
    there = rows > 0
    assert result["pixelAccuracy"] == pytest.approx(hits.sum() / rows.sum())
    assert result["averageAccuracyClasses"] == pytest.approx((hits[there] / rows[there]).mean())
    assert result["frequencyWeightedIoU"] == pytest.approx(
        (iou[there] * rows[there]).sum() / rows.sum())
    assert result["averageBoundaryScore"] < result["averageScoreClasses"]
    bands = list(result["trimapScores"].values())
    assert bands == sorted(bands)  # the farther from boundaries, the better
    assert result["images"] == 5
    assert result["settings"]["boundary_ratio"] == 0.02


def test_any_number_of_processes(city: Path, predictions: Path, tmp_path: Path) -> None:
    results = []
    for ranks in (0, 3):
        path = tmp_path / f"{ranks}.json"
        done = run_script("evaluate.py", "--predictions", predictions, "--dataset", "cityscapes",
                          "--data-root", city, "--json", path, "--boundary", ranks=ranks)
        assert done.returncode == 0, done.stderr
        results.append(path.read_text())
    assert results[0] == results[1]


def test_output_folders(city: Path, predictions: Path, tmp_path: Path, call) -> None:
    out = tmp_path / "out"
    scored(call, city, predictions, "--save-dir", out)
    sample = build_dataset("cityscapes", city, "val").samples[0]
    files = {kind: out / kind / f"{sample.name}.png" for kind in ("pred", "rgb", "compose", "diff")}
    assert all(path.exists() for path in files.values())
    ids = read_label(predictions / f"{sample.name}_mine.png")
    assert (read_label(files["pred"]) == ids).all()
    truth, difference = read_label(sample.label), np.array(Image.open(files["diff"]))
    counted = TABLE.id_to_train_id[truth] != 255
    assert (difference[counted & (ids == truth)] == 255).all()
    assert (difference[~counted] == 0).all()
    wrong = counted & (ids != truth) & (TABLE.id_to_train_id[ids] < 19)
    assert (difference[wrong] == COLORS[TABLE.id_to_train_id[ids]][wrong]).all()
    # what was written is scored the same
    assert scored(call, city, out / "pred")["classScores"] == scored(
        call, city, predictions)["classScores"]
    done = call("evaluate.py", "--predictions", predictions, "--dataset", "cityscapes",
                "--data-root", city, "--save-dir", out)
    assert done.returncode == 2
    assert "holds predictions" in done.stderr


def test_no_instances_no_instance_scores(
    city: Path, predictions: Path, tmp_path: Path, call
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(city, bare)
    for path in bare.glob("gtFine/val/*/*instanceIds.png"):
        path.unlink()
    result = scored(call, bare, predictions)
    assert result["averageScoreInstClasses"] is None
    assert set(result["classInstScores"].values()) == {None}
    assert "nIoU" not in result["said"]
    assert result["classScores"] == scored(call, city, predictions)["classScores"]


def spoil(kind: str, path: Path) -> None:
    ids = read_label(path)
    if kind == "missing":
        path.unlink()
    elif kind == "twice":
        shutil.copy(path, path.with_name(path.name.replace("_mine", "_other")))
    elif kind == "size":
        write_png(path, ids[:-1])
    elif kind in ("id 34", "id 255"):
        ids[5, 6] = int(kind[3:])
        write_png(path, ids)
    elif kind == "color":
        write_png(path, COLORS[ids])
    elif kind == "16 bit":
        write_png(path, ids.astype(np.uint16))
    elif kind == "half":
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(("kind", "message"), [
    ("missing", "no prediction for dornfels_000002_000019; 1 of 5 images"),
    ("twice", "dornfels_000002_000019: 2 predictions"),
    ("size", "192x95, its label 192x96"),
    ("id 34", r"ids [34] are not of this data set"),
    ("id 255", "ids [255] are no labels of the data set; 0 is unlabeled"),
    ("color", "a color label"),
    ("16 bit", "16-bit gray PNG, expected"),
    ("half", "truncated or damaged PNG"),
])
def test_bad_predictions(kind: str, message: str, city: Path, predictions: Path, call) -> None:
    spoil(kind, predictions / "dornfels_000002_000019_mine.png")
    out = predictions.parent / "scores.json"
    done = call("evaluate.py", "--predictions", predictions, "--dataset", "cityscapes",
                "--data-root", city, "--json", out, "--prediction-kind", "ids")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert "dornfels_000002_000019" in done.stderr
    assert not out.exists()


def test_extra_files_do_no_harm(city: Path, predictions: Path, call) -> None:
    before = scored(call, city, predictions)
    (predictions / "notes.txt").write_text("x")
    (predictions / "._dornfels_000000_000019.png").write_bytes(b"x")
    write_png(predictions / "elsewhere_000000_000019.png", np.zeros((4, 4), np.uint8))
    assert scored(call, city, predictions)["confMatrix"] == before["confMatrix"]


@pytest.mark.parametrize(("words", "message"), [
    ([], "give one of them"),
    (["--predictions", "x", "--snapshot", "y"], "give one of them"),
    (["--predictions", "x"], "give --dataset"),
    (["--snapshot", "x", "--prediction-kind", "ids"], "is of --predictions"),
    (["--snapshot", "x", "--boundary-ratio", 0.1], "only with --boundary or --report"),
    (["--snapshot", "x", "--report", "y", "--no-boundary", "--boundary-ratio", 0.1], "only with"),
    (["--snapshot", "x", "--boundary", "--boundary-ratio", 0], "a number above 0"),
])
def test_refusals(words: list[str], message: str, call) -> None:
    done = call("evaluate.py", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_names_that_begin_alike(tmp_path: Path) -> None:
    for name in ("1.png", "10.png", "1_b/2_pred.png", "3x.png", "3.png"):
        write_png(tmp_path / name, np.zeros((1, 1), np.uint8))
    found = find_predictions(tmp_path, ["1", "10", "2", "3"])
    assert [path.name for path in found.values()] == ["1.png", "10.png", "2_pred.png", "3.png"]


def test_the_longest_name_takes_a_file(tmp_path: Path) -> None:
    write_png(tmp_path / "street_2.png", np.zeros((1, 1), np.uint8))
    with pytest.raises(FileNotFoundError, match="no prediction for street; 1 of 2"):
        find_predictions(tmp_path, ["street", "street_2"])
    write_png(tmp_path / "street.png", np.zeros((1, 1), np.uint8))
    found = find_predictions(tmp_path, ["street", "street_2"])
    assert [path.name for path in found.values()] == ["street.png", "street_2.png"]


@pytest.mark.parametrize("value", [7001, 40000, 65535])
def test_instances_of_what_has_none(
    value: int, city: Path, predictions: Path, tmp_path: Path, call
) -> None:
    shutil.copytree(city, tmp_path / "copy")
    path = sorted((tmp_path / "copy").glob("gtFine/val/*/*instanceIds.png"))[1]
    instances = read_instances(path)
    instances[:3, :3] = value
    write_png(path, instances)
    done = call("evaluate.py", "--predictions", predictions, "--dataset", "cityscapes",
                "--data-root", tmp_path / "copy", "--json", tmp_path / "x.json")
    assert done.returncode == 2
    assert f"{path.name}: [{value}] are no instances" in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_own_colors_with_void_are_read_again(city: Path, predictions: Path, call) -> None:
    """What is void in a prediction is black in rgb/, and as wrong there."""
    path = next(predictions.glob("*.png"))
    ids = read_label(path)
    ids[:9] = 0
    write_png(path, ids)
    out = predictions.parent / "out"
    expected = scored(call, city, predictions, "--save-dir", out)
    result = scored(call, city, out / "rgb")
    assert "read as colors" in result["said"]
    assert result["classScores"] == expected["classScores"]


def test_ids_or_train_ids_is_asked_where_it_cannot_be_told(tmp_path: Path, call) -> None:
    root = draw_folder(tmp_path / "data")
    (root / "classes.txt").write_text("1 road 128 64 128\n2 sky 0 0 255\n7 tree 0 255 0\n")
    for sample in build_dataset("folder", root, "val").samples:
        write_png(tmp_path / "pred" / f"{sample.name}.png",
                  np.ones_like(read_label(sample.truth)))
    words = ["--predictions", tmp_path / "pred", "--dataset", "folder", "--data-root", root]
    done = call("evaluate.py", *words)
    assert done.returncode == 2
    assert "[1] may be ids or train ids; say which with --prediction-kind" in done.stderr
    assert call("evaluate.py", *words, "--prediction-kind", "train-ids").returncode == 0


def test_instances_of_kitti(tmp_path: Path) -> None:
    """id * 256 + number there, id * 1000 + number in scores."""
    root = draw_kitti(tmp_path)
    sample = build_dataset("kitti", root, "val", cv_split=0).samples[0]
    stored = np.full(read_label(sample.truth).shape, 7 * 256, np.uint16)
    stored[2:5, 3:9] = 26 * 256 + 4
    write_png(sample.instance, stored)
    runs = ScoredSet(build_dataset("kitti", root, "val", cv_split=0), "kitti")[0][2]
    found = np.repeat(runs[1], runs[0]).reshape(stored.shape)
    assert (found[2:5, 3:9] == 26004).all()
    assert (np.delete(found.ravel(), np.flatnonzero(stored == stored[2, 3])) == 7).all()


def test_settings_that_differ_are_said(city: Path, predictions: Path, call) -> None:
    scored(call, city, predictions, "--boundary")
    before = predictions.parent / "before.json"
    shutil.move(predictions.parent / "scores.json", before)
    result = scored(call, city, predictions, "--boundary", "--boundary-ratio", 0.1, "--compare",
                    before)
    assert "boundary ratio 0.02, now 0.1" in result["said"]


@pytest.mark.parametrize(("name", "draw", "split"), [
    ("mapillary", draw_mapillary, "val"), ("folder", draw_folder, "val"),
])
def test_other_data_sets(name: str, draw, split: str, tmp_path: Path, call) -> None:
    """Their own ids as predictions; classes alone, no categories."""
    root = draw(tmp_path / "data")
    dataset = build_dataset(name, root, split)
    for index, sample in enumerate(dataset.samples):
        write_png(tmp_path / "pred" / f"{sample.name}.png", dataset.read_ids(index))
    path = tmp_path / "scores.json"
    done = call("evaluate.py", "--predictions", tmp_path / "pred", "--dataset", name,
                "--data-root", root, "--json", path, "--save-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())
    assert result["averageScoreClasses"] == 1
    written = read_label(tmp_path / "out/pred" / f"{dataset.samples[0].name}.png")
    assert set(np.unique(written)) >= set(dataset.train_id_to_id)  # its own ids, not train ids
    assert result["categoryScores"] == {}
    assert "categories" not in done.stdout
    assert "nIoU" not in done.stdout
    assert f"2 images of {name} val, mIoU 100.00 %, " in done.stdout
    assert list(result["classScores"]) == [*dataset.class_names, "void"]


def test_classes_that_are_nowhere_have_no_line(tmp_path: Path, call) -> None:
    """Of one's own data; the figures have null for them."""
    root = draw_folder(tmp_path / "data")
    with (root / "classes.txt").open("a") as file:
        file.write("50 moon 9 9 9\n")
    result = scored(call, root, root / "labels/val", "--dataset", "folder")
    assert result["classScores"]["moon"] is None
    assert "moon" not in result["said"]
    assert "sky           : 1.000\n" in result["said"]


def test_ids_of_ones_own_under_the_names_of_cityscapes(tmp_path: Path) -> None:
    """Id 0 is the road there, which is void in Cityscapes."""
    ids = np.arange(19, dtype=np.uint8).repeat(4).reshape(4, 19)
    write_png(tmp_path / "images/val/a.png", np.stack([ids] * 3, axis=-1))
    write_png(tmp_path / "labels/val/a.png", ids)
    rows = zip(range(19), TABLE.class_names, TABLE.palette, strict=True)
    (tmp_path / "classes.txt").write_text("\n".join(
        f"{i} {name} {r} {g} {b}" for i, name, (r, g, b) in rows))
    own = ScoredSet(build_dataset("folder", tmp_path, "val"), "folder")
    assert np.array_equal(own[0][1], ids)
    assert own.from_train_ids[:19].tolist() == list(range(19))
    assert [label.name for label in own.labels] == [*TABLE.class_names, "void"]


def test_parts_with_equal_names(tmp_path: Path, call) -> None:
    """Every image has its figures and its files; predictions are found by their part."""
    root, file = draw_folder(tmp_path / "data"), tmp_path / "s.json"
    dataset = build_dataset("folder", root, "train+val")
    assert len({*dataset.names}) == len(dataset) > len({each.name for each in dataset.samples})
    for index, sample in enumerate(dataset.samples):
        part = sample.truth.relative_to(root.resolve() / "labels")
        write_png(tmp_path / "pred" / part, dataset.read_ids(index))
    done = call("evaluate.py", "--predictions", tmp_path / "pred", "--dataset", "folder",
                "--data-root", root, "--split", "train+val", "--json", file,
                "--save-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["averageScoreClasses"] == 1
    assert list(result["imageScores"]) == dataset.names
    assert {"train/0", "val/0"} <= {*dataset.names}
    assert len([*(tmp_path / "out/pred").rglob("*.png")]) == len(dataset)
