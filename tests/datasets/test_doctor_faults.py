"""Every kind of fault that the data set doctor knows: a set is broken, and it has to say how."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from breaking import (
    DRAWN,
    USUAL,
    as_palette,
    cut_instances,
    damage,
    dangle,
    deepen,
    deeper,
    disagree,
    files,
    found,
    instances,
    kitti_instances,
    list_files,
    name_of,
    overwrite,
    relabel,
    rename,
    resave,
    same_name,
    save,
    swap,
    to_train_ids,
    turn,
    without,
    without_meaning,
)

from datasets import DATASETS
from datasets.doctor import check
from datasets.doctor.faults import FIXES, KINDS
from datasets.doctor.report import lines

WEB = b"<!DOCTYPE html><title>Log in</title>"
Break = Callable[[Path, list[Path], list[Path]], object]  # root, images and labels of train
CASES: list[tuple[str, str, Break, str]] = [  # kind, drawn set, break, part of the fix
    ("class-table", "folder", lambda r, i, t: without(r / "classes.txt", None), "id name r g b"),
    ("class-table", "folder", lambda r, i, t: overwrite(r / "classes.txt", b"7 road\n") and None,
     "id name r g b"),
    ("class-table", "mapillary",
     lambda r, i, t: overwrite(r / "config_v1.2.json", b"{}") and None, "config_v1.2.json"),
    ("class-table", "mapillary_v2",
     lambda r, i, t: without(r / "config_v2.0.json", None), "config_v2.0.json"),
    ("no-images", "camvid", lambda r, i, t: [shutil.rmtree(r / x) for x in os.listdir(r)][:0],
     "--data-root"),
    ("no-labels", "cityscapes", lambda r, i, t: shutil.rmtree(r / "gtFine/train"), "gtFine_train"),
    ("no-labels", "folder", lambda r, i, t: shutil.rmtree(r / "labels/train"), "put the labels"),
    ("no-label", "cityscapes", lambda r, i, t: without(t[1], i[1]), "gtFine_trainvaltest.zip"),
    ("no-label", "camvid", lambda r, i, t: without(t[0], i[0]), "add its label"),
    ("no-image", "kitti", lambda r, i, t: without(i[7], t[7]), "add its image"),
    ("no-image", "mapillary", lambda r, i, t: without(i[0], t[0]), "add its image"),
    ("same-name", "folder", lambda r, i, t: same_name(i[1]), "rename one"),
    ("listed-only", "camvid", lambda r, i, t: list_files(r, i), "line out of the list"),
    ("unreadable", "folder", lambda r, i, t: dangle(i[1]), "mend the link"),
    ("unreadable", "camvid", lambda r, i, t: dangle(t[1]), "mend the link"),
    ("empty-file", "cityscapes", lambda r, i, t: overwrite(i[3], b""), "copy it again"),
    ("empty-file", "kitti", lambda r, i, t: overwrite(t[3], b""), "copy it again"),
    ("not-an-image", "mapillary", lambda r, i, t: overwrite(i[2], WEB), "download"),
    ("not-an-image", "original", lambda r, i, t: overwrite(t[2], WEB), "download"),
    ("damaged", "cityscapes", lambda r, i, t: damage(i[0], cut=True), "copy it again"),
    ("damaged", "camvid", lambda r, i, t: damage(t[0], cut=False), "copy it again"),
    ("damaged", "mapillary", lambda r, i, t: damage(i[4], cut=True), "copy it again"),
    ("damaged", "mapillary_v2", lambda r, i, t: damage(t[4], cut=True), "copy it again"),
    ("damaged", "original", lambda r, i, t: damage(t[0], cut=True), "copy it again"),
    ("refused", "folder", lambda r, i, t: save(i[0], "I", "TIFF"), "8 bits a channel"),
    ("swapped", "camvid", lambda r, i, t: swap(r), "SPLITannot/"),
    ("swapped", "kitti", lambda r, i, t: [os.rename(i[0], r / "x"), os.rename(t[0], i[0]),
                                          os.rename(r / "x", t[0]), t[0]][3:], "exchange"),
    ("color-label", "cityscapes", lambda r, i, t: save(t[0], "RGB"), "not *_color.png"),
    ("color-label", "mapillary", lambda r, i, t: save(t[0], "RGB"), "with its palette"),
    ("color-label", "kitti", lambda r, i, t: save(t[0], "LA"), "not semantic_rgb/"),
    ("palette-label", "camvid", lambda r, i, t: as_palette(t[4]), "python -c"),
    ("palettes", "folder",
     lambda r, i, t: (without_meaning(t, 0), without_meaning(t[3:4], 1))[1], "gray PNGs of ids"),
    ("deep-label", "cityscapes", lambda r, i, t: save(t[5], "I;16"), "not *_instanceIds.png"),
    ("shallow-label", "folder", lambda r, i, t: save(t[1], "1"), "8-bit PNG"),
    ("lossy-label", "folder", lambda r, i, t: save(t[1], kind="JPEG"), "8-bit PNG"),
    ("other-colors", "original", lambda r, i, t: save(t[1], "L"), "copy it again"),
    ("size", "cityscapes", lambda r, i, t: relabel(t[6], lambda ids: ids[:-1]), "nearest"),
    ("size", "folder", lambda r, i, t: relabel(t[4], np.transpose), "nearest"),
    ("size", "cityscapes", lambda r, i, t: cut_instances(instances(t)[1]), "nearest"),
    ("unknown-ids", "cityscapes", lambda r, i, t: relabel(t[6], lambda ids: ids + 30), "--dataset"),
    ("unknown-ids", "camvid", lambda r, i, t: relabel(t[3], lambda ids: ids + 9), "11 is void"),
    ("train-ids", "cityscapes", lambda r, i, t: to_train_ids(t[2]), "_labelTrainIds.png"),
    ("train-ids", "cityscapes", lambda r, i, t: [to_train_ids(path, 0) for path in t],
     "_labelTrainIds.png"),
    ("train-ids", "kitti", lambda r, i, t: kitti_instances(to_train_ids(t[0])) and t[0],
     "data_semantics.zip"),
    ("train-ids", "folder", lambda r, i, t: [relabel(path, lambda ids: ids % 3) for path in t],
     "classes.txt"),
    ("not-train-ids", "cityscapes", lambda r, i, t: rename(t[1], "labelIds", "labelTrainIds"),
     "_labelIds.png"),
    ("binary", "folder", lambda r, i, t: [
        relabel(path, lambda ids: (ids == 7).astype(np.uint8) * 255) for path in t], "place"),
    ("binary", "camvid", lambda r, i, t: relabel(t[0], lambda ids: (ids % 2) * 255), "place"),
    ("nothing-counts", "folder", lambda r, i, t: [
        relabel(path, lambda ids: ids // 4 * 2 + 50) for path in t] and None, "classes.txt"),
    ("instances", "cityscapes", lambda r, i, t: disagree(instances(t)[2]), "same polygons"),
    ("instances", "kitti", lambda r, i, t: kitti_instances(t[2], 1000), "data_semantics.zip"),
    ("exif", "folder", lambda r, i, t: turn(i[2]), "--exif apply"),
    ("dark-image", "camvid", lambda r, i, t: deepen(i[2], 12), "--bits"),
    ("one-class", "folder", lambda r, i, t: overwrite(r / "classes.txt", b"7 road 1 2 3") and None,
     "classes.txt"),
    ("same-color", "folder", lambda r, i, t: overwrite(
        r / "classes.txt", b"7 road 1 2 3\n3 light 1 2 3\n200 sky 7 8 9") and None, "its own"),
    ("leak", "camvid", lambda r, i, t: resave(r / "val/0016E5_8.png", i[0]), "one of them"),
    ("ignored-label", "camvid", lambda r, i, t: relabel(t[0], lambda ids: ids * 0 + 11), "look"),
    ("absent-class", "camvid", lambda r, i, t: [
        relabel(path, lambda ids: np.where(ids == 8, 1, ids)) for path in t] and None, "IoU"),
    ("same-image", "camvid", lambda r, i, t: resave(i[1], i[0]), "keep one"),
    ("no-instances", "cityscapes", lambda r, i, t: without(instances(t)[1], t[1]), "iIoU"),
    ("no-instances", "kitti", lambda r, i, t: without(kitti_instances(t[1]), t[1]), "iIoU"),
    ("unused-file", "folder", lambda r, i, t: overwrite(i[0].with_name("a.gif"), b"x"), "rename"),
    ("unused-folder", "camvid",
     lambda r, i, t: [deeper(path).parent for path in (i[1], t[1])], "where the others are"),
    ("hidden-file", "camvid", lambda r, i, t: overwrite(t[0].with_name("._a.png"), b"x"), "find"),
]
NOTES = [kind for kind in KINDS if KINDS[kind].level == "note"]


def case_name(case: object) -> str:
    return case if isinstance(case, str) and " " not in case else ""


@pytest.mark.parametrize(("kind", "drawn", "spoil", "fix"), CASES, ids=case_name)
def test_fault(kind: str, drawn: str, spoil: Break, fix: str, tmp_path: Path) -> None:
    root = DRAWN[drawn](tmp_path)
    before = list(files(root, drawn, "images")), list(files(root, drawn, "labels"))
    named = spoil(root, *before)
    paths = named if isinstance(named, list) else [named] if named else []
    expected = {os.path.relpath(path, root) for path in paths} or {""}
    report = check(name_of(drawn), root)
    assert found(report) == {kind: expected}
    finding = next(each for each in report.to_json()["findings"] if each["kind"] == kind)
    assert fix in finding["fix"]
    assert report.to_json()["healthy"] == (kind in NOTES)
    text = "\n".join(lines(report))
    assert f"({kind}" in text
    assert finding["fix"] in text


@pytest.mark.parametrize(("kind", "spoil"), [
    ("palette-label", lambda labels: [as_palette(path) for path in labels[:2]]),
    ("hidden-file", lambda labels: [overwrite(labels[0].with_name("._a.png"), b"x")]),
])
def test_command_mends(kind: str, spoil: Callable, tmp_path: Path) -> None:
    """What is printed as a command does what it says."""
    root = DRAWN["camvid"](tmp_path / "a folder")
    before = check("camvid", root).to_json()
    paths = spoil(files(root, "camvid", "labels"))
    finding, = [each for each in check("camvid", root).findings if each.kind == kind]
    command = finding.fix.replace("FILES", shlex.join(map(str, paths)))
    subprocess.run(command, shell=True, check=True, env={**os.environ, "PATH": os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]])})
    assert check("camvid", root).to_json() == before


def test_every_kind_is_tested() -> None:
    assert {kind for kind, *_ in CASES} | USUAL == set(KINDS)
    assert {kind for kind, _ in FIXES} <= set(KINDS)
    assert {name for _, name in FIXES} <= set(DATASETS)
