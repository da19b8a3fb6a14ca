"""Class shares of masks: counted exactly, from ids, train ids, colors and palettes."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixel_percentage
from datasets import TABLES, cityscapes_labels
from utils.images import write_png
from utils.pictures import Painter, colorize

TABLE = TABLES["cityscapes"]
ROAD, CAR, VOID = 0, 13, 255
MAP = np.full((10, 20), ROAD, np.uint8)  # 50 % road, 30 % car, 20 % of no class
MAP[5:8], MAP[8:] = CAR, VOID
DATASET = {"class_names": TABLE.class_names, "palette": TABLE.palette,
           "train_id_to_id": TABLE.train_id_to_id}


def read_csv(path: Path) -> dict[str, dict[str, float]]:
    """Image -> column -> number, without the zeros."""
    with path.open(newline="") as file:
        return {row.pop("image"): {k: float(v) for k, v in row.items() if float(v)}
                for row in csv.DictReader(file)}


@pytest.fixture
def shares(call, tmp_path: Path):
    """Runs the script; gives the rows of its CSV and what it said."""
    def run(masks: Path, *words: object) -> tuple[dict, str]:
        done = call("pixel_percentage.py", "--masks", masks, "--csv", tmp_path / "x.csv", *words)
        assert done.returncode == 0, done.stderr
        return read_csv(tmp_path / "x.csv"), done.stdout

    return run


def ids_of(train_ids: np.ndarray) -> np.ndarray:
    return np.array(TABLE.train_id_to_id + [0] * 237, np.uint8)[train_ids]


@pytest.mark.parametrize("kind", ["ids", "train ids", "colors", "palette", "transparent"])
def test_every_kind_of_mask(kind: str, shares, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    if kind == "palette":  # whose colors mean nothing
        image = Image.fromarray(ids_of(MAP))
        image.putpalette(list(range(256)) * 3)
        image.save(path)
    elif kind == "transparent":
        Image.fromarray(colorize(MAP, TABLE.palette)).convert("RGBA").save(path)
    else:
        write_png(path, {"ids": ids_of(MAP), "train ids": MAP,
                         "colors": colorize(MAP, TABLE.palette)}[kind])
    rows, said = shares(path, *["--train-ids"] * (kind == "train ids"))
    expected = {"pixels": 200, "road": 50, "car": 30, "other": 20}
    assert rows == {"mask.png": expected, "total": expected}
    lines = [line.split() for line in said.splitlines()]
    assert lines[1] == ["road", "car", "other"]
    assert lines[2] == ["mask.png", "50.00", "30.00", "20.00"]
    assert lines[3] == ["total", "50.00", "30.00", "20.00"]
    held = {"train ids": "id 255", "colors": "color 0 0 0", "transparent": "color 0 0 0"}
    assert f"20.00 % of the pixels are of no class: {held.get(kind, 'id 0')}\n" in said


def test_the_total_weighs_pixels_and_not_images(shares, tmp_path: Path) -> None:
    write_png(tmp_path / "a/large.png", np.full((30, 100), 7, np.uint8))
    write_png(tmp_path / "b/small.png", np.full((10, 100), 26, np.uint8))
    rows, _ = shares(tmp_path)
    assert rows == {"a/large.png": {"pixels": 3000, "road": 100},
                    "b/small.png": {"pixels": 1000, "car": 100},
                    "total": {"pixels": 4000, "road": 75, "car": 25}}


def test_what_the_demos_write(shares, tmp_path: Path) -> None:
    """One kind of picture is taken, and overlays are never counted."""
    image, out = np.full((10, 20, 3), 200, np.uint8), tmp_path / "out"
    for name in ("one", "two"):
        Painter(DATASET, 0.5, True).write(out, name, image, torch.from_numpy(MAP))
    rows, said = shares(out)
    assert "2 *_id_mask.png taken, 4 other PNGs not" in said
    expected = {"pixels": 200, "road": 50, "car": 30, "other": 20}
    assert rows["one_id_mask.png"] == expected
    assert list(rows) == ["one_id_mask.png", "two_id_mask.png", "total"]
    for path in out.glob("*_id_mask.png"):
        path.unlink()
    rows, said = shares(out)
    assert "2 *_color_mask.png taken, 2 other PNGs not" in said
    assert rows["two_color_mask.png"] == expected


@pytest.mark.parametrize(("words", "suffix"), [
    ([], "labelIds"), (["--train-ids"], "labelTrainIds"),
])
def test_labels_of_cityscapes(words: list, suffix: str, shares, data_roots, tmp_path: Path) -> None:
    folder = tmp_path / "gtFine"
    shutil.copytree(data_roots["cityscapes"] / "gtFine/val", folder)
    for path in folder.rglob("*_labelIds.png"):
        ids = np.asarray(Image.open(path))
        train_ids = TABLE.id_to_train_id[ids]
        write_png(path.with_name(path.name.replace("labelIds", "labelTrainIds")), train_ids)
        write_png(path.with_name(path.name.replace("labelIds", "color")), np.dstack([ids] * 3))
    rows, _ = shares(folder, *words)
    assert list(rows)[0] == f"ulm/ulm_000000_000019_gtFine_{suffix}.png"
    labels = [np.asarray(Image.open(path)) for path in sorted(folder.rglob("*_labelIds.png"))]
    pixels = np.concatenate([ids.ravel() for ids in labels])
    for label in cityscapes_labels.CLASSES:
        expected = 100 * (pixels == label.id).mean()
        assert rows["total"].get(label.name, 0) == pytest.approx(expected, abs=5.1e-5)


def test_own_classes(shares, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("7 road 1 2 3\n200 traffic light 4 5 6\n3 sky 1 2 3\n")
    write_png(tmp_path / "ids.png", np.array([[7, 200, 200, 3, 9]], np.uint8))
    colors = np.array([[[1, 2, 3], [4, 5, 6], [4, 5, 7], [1, 2, 3], [3, 2, 1]]], np.uint8)
    write_png(tmp_path / "colors.png", colors)
    rows, said = shares(tmp_path, "--classes", tmp_path / "classes.txt")
    assert rows["ids.png"] == {"pixels": 5, "road": 20, "traffic light": 40, "sky": 20, "other": 20}
    assert rows["colors.png"] == {"pixels": 5, "road": 40, "traffic light": 20, "other": 40}
    assert "other: 30.00 % of the pixels are of no class: color 4 5 7, id 9\n" in said


def test_wrong_table_is_suspected(shares, tmp_path: Path) -> None:
    write_png(tmp_path / "x.png", np.arange(40, 60, dtype=np.uint8)[None])
    _, said = shares(tmp_path, "--dataset", "camvid")
    assert "100.00 %" in said
    assert "id 47, ...; another --dataset, or --train-ids?" in said


@pytest.mark.parametrize(("width", "titles"), [
    (None, ["road", "traffic light", "car", "other"]),
    (44, ["road", "traffic light", "car", "other"]),
    (43, ["road", "traffic light", "rest"]), (30, ["road", "rest"]), (5, ["rest"]),
])
def test_table_fits_the_terminal(width: int | None, titles: list, capsys) -> None:
    names = ["sky", "road", "traffic light", "car"]
    pixels = np.array([0, 5, 3, 1, 1])
    masks = [pixel_percentage.Mask(name, pixels, set()) for name in ("a", "total")]
    pixel_percentage.print_table(masks, names, width)
    lines = capsys.readouterr().out.splitlines()
    assert len(set(map(len, lines))) == 1
    assert width is None or width < 10 or len(lines[0]) <= width
    assert lines[0].split() == " ".join(titles).split()
    values = [float(text) for text in lines[2].split()[1:]]
    assert sum(values) == pytest.approx(100)
    assert lines[2].split()[0] == "total"


@pytest.mark.parametrize(("words", "message"), [
    (["--masks", "nowhere.png"], "nowhere.png: no such file"),
    (["--masks", "empty"], "empty: no PNGs in it"),
    (["--masks", "text.png"], "not an image"),
    (["--masks", "deep.png"], "16-bit gray PNG, expected"),
    (["--masks", "good.png", "--csv", "no/x.csv"], "its folder does not exist"),
    (["--masks", "good.png", "--classes", "no.txt"], "no.txt: missing"),
    (["--masks", "good.png", "--classes", "no.txt", "--dataset", "camvid"], "not allowed with"),
    ([], "--masks"),
])
def test_bad_input(words: list, message: str, call, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello")
    write_png(tmp_path / "deep.png", np.zeros((2, 2), np.uint16))
    write_png(tmp_path / "good.png", np.zeros((2, 2), np.uint8))
    done = call("pixel_percentage.py", *words, *([] if "--csv" in words else ["--csv", "x.csv"]))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "x.csv").exists()


def test_names_are_safe_to_print(call, tmp_path: Path) -> None:
    write_png(tmp_path / "a\x1b[2J,\n.png", np.zeros((2, 2), np.uint8))
    done = call("pixel_percentage.py", "--masks", tmp_path, "--csv", tmp_path / "x.csv")
    assert "\x1b" not in done.stdout
    assert list(read_csv(tmp_path / "x.csv")) == [r"a\x1b[2J,\n.png", "total"]
