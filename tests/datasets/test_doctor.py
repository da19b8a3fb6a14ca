"""The data set doctor: healthy sets are found healthy, faults do not hide each other, JSON."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from breaking import (
    DRAWN,
    damage,
    files,
    found,
    kitti_instances,
    name_of,
    overwrite,
    relabel,
    save,
    to_train_ids,
    without,
)
from conftest import CITY, DRAW

from datasets import DATASETS, cityscapes_labels
from datasets.classes import UNKNOWN, ClassTable, lookup_table
from datasets.doctor import check
from datasets.doctor.judge import same_images, unlisted
from datasets.doctor.measure import ImageFacts, LabelFacts
from datasets.doctor.report import lines
from datasets.polygons import draw_polygons
from utils.images import read_label, write_png


@pytest.mark.parametrize("drawn", DRAWN)
def test_healthy(drawn: str, tmp_path: Path, call) -> None:
    root = DRAWN[drawn](tmp_path)
    done = call("preprocess_data.py", "--check", "--dataset", name_of(drawn), "--data-root",
                root, "--workers", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "healthy: 0 errors" in done.stdout
    assert found(check(name_of(drawn), root)) == {}
    assert max(len(line.replace(str(root), "")) for line in done.stdout.splitlines()) <= 100


def test_other_layouts_are_healthy(tmp_path: Path) -> None:
    root = DRAW["cityscapes"](tmp_path / "data")
    flat = check("cityscapes", root)
    for kind, archive in (("leftImg8bit", "leftImg8bit_trainvaltest"),
                          ("gtFine", "gtFine_trainvaltest")):
        shutil.copytree(root / kind, tmp_path / "nested" / archive / kind)
    nested = check("cityscapes", tmp_path / "nested")
    assert found(nested) == {}
    assert (flat.layout, nested.layout) == ("flat", "nested")
    assert nested.to_json()["splits"] == flat.to_json()["splits"]
    dataset = DATASETS["cityscapes"](root, "train")  # train ids beside, then instead of ids
    for index, sample in enumerate(dataset.samples):
        train_ids = dataset.to_train_ids(dataset.read_ids(index), index)
        write_png(str(sample.label).replace("_labelIds", "_labelTrainIds"), train_ids)
    assert found(check("cityscapes", root)) == {}
    for sample in dataset.samples:
        sample.label.unlink()
    report = check("cityscapes", root)
    assert found(report) == {}
    assert report.parts["train"].classes == flat.parts["train"].classes


def test_the_shipped_city_is_healthy() -> None:
    report = check("cityscapes", CITY)
    assert found(report) == {}
    train, val = report.parts["train"], report.parts["val"]
    assert (train.labels, val.labels) == (192, 64)
    assert len(list(CITY.rglob("*_instanceIds.png"))) == 256
    assert sum(path.stat().st_size for path in CITY.glob("[!.]*/**/*.*")) < 4_000_000


def test_polygons_alone_are_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, name in (("train", "a_0"), ("train", "a_1"), ("val", "b_0")):
        image = tmp_path / f"leftImg8bit/{split}/c/{name}_leftImg8bit.png"
        write_png(image, rng.integers(0, 256, (32, 64, 3), dtype=np.uint8))
        content = {"imgHeight": 32, "imgWidth": 64, "objects": [
            {"label": label.name, "polygon": rng.integers(0, 32, (4, 2)).tolist()}
            for label in cityscapes_labels.LABELS]}
        stem = tmp_path / f"gtFine/{split}/c/{name}_gtFine"
        write_png(f"{stem}_labelIds.png", draw_polygons(content))
        Path(f"{stem}_polygons.json").write_text(json.dumps(content))
    before = check("cityscapes", tmp_path)
    for label in tmp_path.glob("gtFine/*/*/*_labelIds.png"):
        label.unlink()
    report = check("cityscapes", tmp_path)
    assert set(found(report)) <= {"absent-class"}
    assert report.parts["train"].classes == before.parts["train"].classes
    polygons = sorted(tmp_path.glob("gtFine/train/*/*_polygons.json"))
    polygons[1].write_text("{")
    damaged = found(check("cityscapes", tmp_path))["damaged"]
    assert damaged == {str(polygons[1].relative_to(tmp_path))}


def test_numbered_instances_of_kitti(tmp_path: Path) -> None:
    root = DRAW["kitti"](tmp_path)
    for label in files(root, "kitti", "labels"):
        kitti_instances(label)
    assert found(check("kitti", root)) == {}


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    """Read in one's own data, where two of one name clash; named where they are not read."""
    root = DRAW["folder"](tmp_path / "mine")
    before = check("folder", root).to_json()["splits"]
    labels = [path.rename(path.with_suffix(".PNG")) for path in files(root, "folder", "labels")]
    report = check("folder", root)
    assert found(report) == {}
    assert report.to_json()["splits"] == before
    shutil.copy(labels[0], labels[0].with_suffix(".png"))
    assert found(check("folder", root)) == {"same-name": {"labels/train/0.png"}}
    root = DRAW["cityscapes"](tmp_path / "city")
    paths = [path.rename(path.with_suffix(".PNG")) for path in files(root, "cityscapes", "labels")]
    notes = overwrite(paths[0].with_name("notes.txt"), b"x")
    findings = check("cityscapes", root, "train").to_json()["findings"]
    assert [each["kind"] for each in findings] == ["no-labels", "unused-file"]
    assert findings[1]["files"] == [
        *({"file": str(path.relative_to(root)), "detail": ".PNG, not .png"} for path in paths),
        {"file": str(notes.relative_to(root)), "detail": ""}]


def test_sequences_are_read_when_asked_for(tmp_path: Path) -> None:
    root = DRAW["cityscapes"](tmp_path)
    shutil.copytree(root / "leftImg8bit", root / "leftImg8bit_sequence")
    damage(next(root.glob("leftImg8bit_sequence/train/*/*")), cut=True)
    assert found(check("cityscapes", root)) == {}
    assert set(found(check("cityscapes", root, "train_sequence"))) == {"damaged"}


def test_coarse_labels_are_a_part(tmp_path: Path) -> None:
    root = DRAW["cityscapes"](tmp_path / "data")
    assert "train_coarse" not in check("cityscapes", root).parts
    for label in files(root, "cityscapes", "labels"):
        name = label.name.replace("gtFine", "gtCoarse")
        write_png(root / "gtCoarse/train/aachen" / name, read_label(label))
    report = check("cityscapes", root)
    assert found(report) == {}  # the images are those of train, not equal ones
    assert report.parts["train_coarse"].labels == 8


def test_faults_do_not_hide_each_other(tmp_path: Path) -> None:
    root = DRAW["cityscapes"](tmp_path / "data")
    images, labels = files(root, "cityscapes", "images"), files(root, "cityscapes", "labels")
    val = files(root, "cityscapes", "labels", "val")[0]
    broken = {
        "empty-file": overwrite(images[0], b""),
        "size": relabel(labels[1], lambda ids: ids[1:]),
        "color-label": save(labels[2], "RGB"),
        "no-label": without(labels[3], images[3]),
        "unknown-ids": relabel(labels[4], lambda ids: ids + 200),
        "train-ids": to_train_ids(labels[5]),
        "same-name": images[6],
        "damaged": damage(val, cut=True),
    }
    again = images[6].parents[1] / "zurich" / images[6].name
    again.parent.mkdir()
    shutil.copy(images[6], again)
    broken["same-name"] = again
    expected = {kind: {str(path.relative_to(root))} for kind, path in broken.items()}
    one, many = (check("cityscapes", root, threads=threads) for threads in (1, 4))
    assert found(one) == expected
    assert lines(one) == lines(many)
    assert one.count("error") == len(expected)


@pytest.mark.parametrize("name", DATASETS)
def test_right_root_is_found(name: str, tmp_path: Path) -> None:
    root = DRAW[name](tmp_path / "data" / name)
    (root.parent / "other").mkdir()
    inner = next(path for path in sorted(root.iterdir()) if path.is_dir())
    for folder in (root.parent, root.parent.parent, inner):
        report = check(name, folder)
        assert {finding.fix for finding in report.findings} == {f"give --data-root {root}"}
        assert report.count("error") == 1
    other = "camvid" if name != "camvid" else "kitti"
    report = check(other, root)
    assert {finding.fix for finding in report.findings} == {f"give --dataset {name}"}


def test_json_and_exit_code(call, tmp_path: Path) -> None:
    root, path = DRAW["camvid"](tmp_path / "data"), tmp_path / "report.json"
    words = ["--check", "--dataset", "camvid", "--data-root", root, "--json", path]
    assert call("preprocess_data.py", *words).returncode == 0
    report = json.loads(path.read_text())
    assert report["healthy"] is True
    assert report["files_read"] == 15
    train = report["splits"]["train"]
    assert {key: train[key] for key in ("images", "labels", "published", "sizes")} == {
        "images": 5, "labels": 5, "published": 367, "sizes": {"80x60": 5}}
    assert report["splits"]["test"]["labels"] is None
    ids = np.stack([read_label(label) for label in files(root, "camvid", "labels")])
    assert [(row["id"], row["pixels"], row["images"]) for row in train["ids"]] == [
        (i, (ids == i).sum(), 5) for i in range(12)]
    assert [train["ids"][3][key] for key in ("name", "train_id")] == ["road", 3]
    assert [train["ids"][11][key] for key in ("name", "train_id")] == ["ignored", 255]

    for label in files(root, "camvid", "labels")[:4]:
        relabel(label, lambda ids: ids + 100)
    done = call("preprocess_data.py", *words)
    assert done.returncode == 2
    assert done.stderr == f"error: {root}: not healthy: 1 error, 1 note; 15 files were read\n"
    assert "and 1 more" in done.stdout
    finding = json.loads(path.read_text())["findings"][0]
    assert finding["count"] == len(finding["files"]) == 4
    assert finding["files"][0] == {"file": "trainannot/0001TP_1.png",
                                   "detail": "ids 100-111"}
    assert {path.name for path in tmp_path.iterdir()} == {"data", "report.json"}
    assert not (root / ".streetseg").exists()


@pytest.mark.parametrize(("words", "message"), [
    (["--check", "--json", "{tmp}/no/x.json"], "its folder does not exist"),
    (["--check", "--train-ids"], "--check: not with"),
    (["--check", "--holdout", "0006R0"], "--check: not with"),
    (["--check", "--data-root", "{tmp}/no"], "no such folder"),
    (["--check", "--dataset", "kitti", "--split", "x"], "KITTI has train"),
    (["--json", "{tmp}/x.json"], "only with --check"),
])
def test_options_are_refused(
    words: list[str], message: str, data_roots: dict[str, Path], call, tmp_path: Path
) -> None:
    words = [word.format(tmp=tmp_path) for word in words]
    done = call("preprocess_data.py", "--dataset", "camvid", "--data-root", data_roots["camvid"],
                *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_split_and_limit(tmp_path: Path) -> None:
    root = DRAW["camvid"](tmp_path / "data")
    damage(files(root, "camvid", "images")[4], cut=True)
    damage(files(root, "camvid", "labels", "val")[1], cut=True)
    assert found(check("camvid", root, "val")) == {"damaged": {"valannot/0016E5_8.png"}}
    assert list(check("camvid", root, "trainval").parts) == ["train", "val"]
    assert found(check("camvid", root, "train", limit=4)) == {}
    assert check("camvid", root, "train", limit=4).files_read == 8
    report = check("camvid", root, "later")
    assert found(report) == {"no-images": {""}}
    assert report.findings[0].fix.endswith("as --split: train, val, test")


@pytest.mark.parametrize(("places", "expected"), [
    ("train train", ["same-image 1"]), ("train val", ["leak 1"]),
    ("train train val", ["same-image 1", "leak 2"]), ("train val val", ["leak 1", "leak 2"]),
    ("val train train", ["leak 1", "leak 2"]), ("test train val", ["same-image 1", "leak 2"]),
    ("test test test", ["same-image 1"]), ("train_extra val", ["leak 1"]),
])
def test_every_leak_among_equal_images_and_one_note(places: str, expected: list[str]) -> None:
    parts: dict[str, list[ImageFacts]] = {}
    for number, part in enumerate(places.split()):
        picture = ImageFacts(Path(str(number)), (4, 4), b"equal")
        parts.setdefault(part, []).append(picture)
    parts["train"] = [*parts.get("train", []), ImageFacts(Path("9"), (4, 4), b"another")]
    faults = same_images(parts)
    assert [f"{fault.kind} {fault.path}" for fault in faults] == expected


def test_ids_that_nobody_listed() -> None:
    """Of 200 pixels, 31 have an id without a class; 255 is ignored by agreement."""
    table = ClassTable(["a", "b"], [(0, 0, 0)] * 2, [7, 3], lookup_table({7: 0, 3: 1}))
    table.id_to_train_id[table.id_to_train_id == UNKNOWN] = 255  # as of data without a full table
    counts = {7: 60, 9: 10, 255: 30}, {3: 79, 10: 20, 40: 1}
    labels = [LabelFacts(Path(f"{i}"), Path(f"{i}"), (10, 10), count, table.id_to_train_id)
              for i, count in enumerate(counts)]
    fault = unlisted(labels, table)
    assert (fault.kind, fault.detail) == ("unlisted-ids", "ids 9-10, 40: 15.5 % of the pixels")
    assert unlisted([replace(labels[0], counts={7: 1, 255: 9})], table) is None
    assert unlisted([replace(labels[0], counts={9: 1})], table) is None


def test_notes_that_the_miniatures_deserve(tmp_path: Path) -> None:
    """Which every other test leaves out."""
    root = DRAW["folder"](tmp_path / "mine")
    ids = np.stack([read_label(label) for label in files(root, "folder", "labels")])
    report = check("folder", root, "train")
    assert [(each.kind, each.faults[0].detail) for each in report.findings] == [
        ("unlisted-ids", f"id 9: {100 * (ids == 9).mean():.1f} % of the pixels")]
    details = [fault.detail for each in check("kitti", DRAW["kitti"](tmp_path / "kitti")).findings
               for fault in each.faults]
    assert details == ["trainval: 8 of 200", "test: 2 of 200"]
