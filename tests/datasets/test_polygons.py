"""Label maps from polygons, as Cityscapes draws them."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from datasets.cityscapes import Cityscapes
from datasets.cityscapes_labels import LABELS
from datasets.polygons import draw_polygons, polygons_size
from utils.images import write_png

FIXTURE = ROOT / "tests" / "fixtures" / "cityscapes_polygons.json"
EXPECTED = np.load(FIXTURE.with_suffix(".npz"))
SQUARE = [[1, 1], [4, 1], [4, 4], [1, 4]]


def content(*objects: dict, size: tuple = (8, 10)) -> dict:
    return {"imgHeight": size[0], "imgWidth": size[1], "objects": list(objects)}


def scribble(rng: np.random.Generator, size: tuple[int, int]) -> dict:
    """Stars of all classes, some groups, some deleted, some partly outside, some with fractions."""
    names = [label.name for label in LABELS] + ["cargroup", "persongroup", "traingroup"]
    objects = []
    for k in range(40):
        count = int(rng.integers(2, 30))
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        reach = rng.lognormal(np.log(min(size) / 5), 0.7) * rng.uniform(0.4, 1.2, count)
        corners = rng.uniform(0, size[::-1]) + np.stack((np.cos(angle), np.sin(angle)), 1) * reach[
            :, None]  # fmt: skip
        polygon = corners.tolist() if k % 10 == 0 else corners.round().astype(int).tolist()
        objects.append({"label": str(rng.choice(names)), "polygon": polygon, "deleted": k % 9 == 8})
    return content(*objects, size=size)


def test_equal_to_what_cityscapes_draws() -> None:
    assert np.array_equal(draw_polygons(FIXTURE), EXPECTED["label_ids"])
    assert draw_polygons(FIXTURE).dtype == np.uint8
    assert polygons_size(FIXTURE) == EXPECTED["label_ids"].shape
    assert np.array_equal(draw_polygons(json.loads(FIXTURE.read_text())), EXPECTED["label_ids"])


def test_equal_to_cityscapes_scripts(tmp_path: Path) -> None:
    annotation = pytest.importorskip("cityscapesscripts.helpers.annotation")
    labels = pytest.importorskip("cityscapesscripts.preparation.json2labelImg")
    rng = np.random.default_rng(0)
    for _ in range(25):
        path = tmp_path / "polygons.json"
        path.write_text(json.dumps(scribble(rng, (90, 130))))
        theirs = annotation.Annotation()
        theirs.fromJsonFile(path)
        expected = np.array(labels.createLabelImage(theirs, "ids"))
        assert len(np.unique(expected)) > 5
        assert np.array_equal(draw_polygons(path), expected)


def test_the_data_set_draws_labels_that_are_only_polygons(tmp_path: Path) -> None:
    for city, width in (("ulm", 64), ("bonn", 63)):
        name = f"{city}_000000_000019"
        image = tmp_path / "leftImg8bit" / "val" / city / f"{name}_leftImg8bit.png"
        write_png(image, np.zeros((48, width, 3), np.uint8))
        label = tmp_path / "gtFine" / "val" / city / f"{name}_gtFine_polygons.json"
        label.parent.mkdir(parents=True)
        label.write_bytes(FIXTURE.read_bytes())
    dataset = Cityscapes(tmp_path, "val")
    assert np.array_equal(dataset.read_ids(1), EXPECTED["label_ids"])
    assert (dataset[1][1] == 13).any(), "no car"
    with pytest.raises(ValueError, match="bonn_000000_000019_gtFine_polygons.json: 64x48"):
        dataset.sizes()


@pytest.mark.parametrize(("damage", "said"), [
    (b"", "truncated or damaged JSON"),
    (FIXTURE.read_bytes()[:-20], "truncated or damaged JSON"),
    (b"\xff\xfe{}", "truncated or damaged JSON"),
    (b"[" * 100_000, "truncated or damaged JSON"),
    (b"[]", "no imgHeight, imgWidth, objects"),
    (b'{"imgHeight": 8, "objects": []}', "no imgWidth"),
    (b'{"imgHeight": "8", "imgWidth": 8, "objects": []}', "size 8x'8'"),
    (b'{"imgHeight": 0, "imgWidth": 8, "objects": []}', "size 8x0"),
    (b'{"imgHeight": 8.5, "imgWidth": 8, "objects": []}', "size 8x8.5"),
    (b'{"imgHeight": 99999, "imgWidth": 99999, "objects": []}', "at most"),
    (b'{"imgHeight": 8, "imgWidth": 8, "objects": {}}', "objects is not a list"),
])  # fmt: skip
def test_damaged_files_are_one_line(tmp_path: Path, damage: bytes, said: str) -> None:
    path = tmp_path / "x_polygons.json"
    path.write_bytes(damage)
    for read in (draw_polygons, polygons_size):
        with pytest.raises(ValueError, match=said) as error:
            read(path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("wrong", "said"), [
    ("road", "without label and polygon"),
    ({"polygon": SQUARE}, "without label and polygon"),
    ({"label": "road"}, "without label and polygon"),
    ({"label": "street", "polygon": SQUARE}, "'street' is no label"),
    ({"label": "group", "polygon": SQUARE}, "'group' is no label"),
    ({"label": "a\nb", "polygon": SQUARE}, r"'a\\nb' is no label"),
    ({"label": "road", "polygon": []}, "two or more"),
    ({"label": "road", "polygon": [[1, 1]]}, "two or more"),
    ({"label": "road", "polygon": [[1, 1], [2]]}, "two or more"),
    ({"label": "road", "polygon": [[1, 1, 1], [2, 2, 2]]}, "two or more"),
    ({"label": "road", "polygon": [["1", "1"], ["2", "2"]]}, "two or more"),
    ({"label": "road", "polygon": [[1, 1], [None, 2]]}, "two or more"),
    ({"label": "road", "polygon": None}, "two or more"),
    ({"label": "road", "polygon": [[1, 1], [float("nan"), 2]]}, "beyond"),
    ({"label": "road", "polygon": [[1, 1], [2**40, 2]]}, "beyond"),
    ({"label": "road", "polygon": [[1, 1], [-(2**63), 2]]}, "beyond"),
])  # fmt: skip
def test_wrong_objects_are_named_by_their_place(wrong: object, said: str) -> None:
    good = {"label": "road", "polygon": SQUARE}
    with pytest.raises(ValueError, match=f"polygons: object 1: .*{said}") as error:
        draw_polygons(content(good, wrong, good))
    assert "\n" not in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        draw_polygons(tmp_path / "none.json")
    with pytest.raises(ValueError, match="directory"):
        draw_polygons(tmp_path)
