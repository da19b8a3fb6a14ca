"""Class-uniform sampling: equal to the published one in centroids and composition."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, draw_camvid
from make_weights import label_map

from datasets import build_dataset
from datasets.classes import lookup_table
from datasets.sampling.epoch_lists import ClassUniformLists, find_centroids, tile_centroids
from utils.images import write_png
from utils.labels import IGNORE

FIXTURE = json.loads((ROOT / "tests/fixtures/class_uniform.json").read_text())
CLASSES = FIXTURE["num_classes"]


@pytest.fixture(scope="module")
def labels() -> list[np.ndarray]:
    """The train ids of the fixture's label maps."""
    maps = FIXTURE["label_maps"]
    table = lookup_table({int(i): train_id for i, train_id in FIXTURE["id_to_train_id"].items()})
    return [table[label_map(maps["h"], maps["w"], maps["ids"], seed, maps["blobs"])]
            for seed in maps["seeds"]]


@pytest.mark.parametrize("images", ["image0", "all"])
@pytest.mark.parametrize("tile", [1024, 512])
def test_centroids_are_the_published_ones(
    tile: int, images: str, labels: list[np.ndarray]
) -> None:
    found: dict[str, list] = {}
    for index, label in enumerate(labels[:1] if images == "image0" else labels):
        for train_id, x, y in tile_centroids(label, tile).tolist():
            found.setdefault(str(train_id), []).append((index, [x, y], train_id))
    expected = {train_id: [(number(row[0]), *row[2:]) for row in rows]
                for train_id, rows in FIXTURE[f"tile{tile}"][images].items() if rows}
    assert found == expected


def number(image: str) -> int:
    """Index of an image in the fixture, from its name."""
    return int("".join(filter(str.isdigit, Path(image).stem)))


def test_centroids_by_hand() -> None:
    label = np.full((25, 45), IGNORE, np.uint8)  # a row and a column of tiles are not whole
    label[2:4, 5:8] = 3
    label[12, 20] = 3
    label[24, 44] = 7
    label[0:2, 39:41] = 9  # on a border, and its right half in no whole tile
    assert tile_centroids(label, 20).tolist() == [[3, 6, 2], [3, 20, 12], [9, 39, 0]]
    assert tile_centroids(label, 26).tolist() == []
    assert tile_centroids(label, 1).shape == (6 + 1 + 1 + 4, 3)


def test_found_once_then_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build_dataset("camvid", draw_camvid(tmp_path), "train")
    found = find_centroids(dataset, 20, threads=2)
    assert found.dtype == np.int32
    assert sorted(set(found[:, 0])) == list(range(5))
    for index, train_id, x, y in found:
        assert 0 <= x < 80
        assert 0 <= y < 60
        ids = dataset.to_train_ids(dataset.read_ids(index), index)
        assert train_id in ids[y // 20 * 20 : y // 20 * 20 + 20, x // 20 * 20 : x // 20 * 20 + 20]
    monkeypatch.setattr("datasets.base.read_label", None)  # not read again
    assert np.array_equal(find_centroids(dataset, 20), found)
    monkeypatch.undo()
    assert len(find_centroids(dataset, 30)) != len(found)  # another tile, another cache
    write_png(dataset.samples[0].truth, np.full((60, 80), 11, np.uint8))
    assert 0 not in find_centroids(dataset, 20)[:, 0]  # another label too


def test_labels_rewritten_at_equal_size_are_read_again(tmp_path: Path) -> None:
    dataset = build_dataset("camvid", draw_camvid(tmp_path), "train")
    label, sizes = dataset.samples[0].truth, set()
    for train_id in (5, 6):
        write_png(label, np.full((60, 80), train_id, np.uint8))
        os.utime(label, ns=(0, train_id))  # the clock of files may be coarse
        found = find_centroids(dataset, 20)
        assert set(found[found[:, 0] == 0, 1]) == {train_id}
        sizes.add(label.stat().st_size)
    assert len(sizes) == 1


def centroids_of(counts: list[int], images: int) -> np.ndarray:
    """So many centroids of each class, on any image; no two at one place."""
    rng = np.random.default_rng(5)
    classes = np.repeat(np.arange(len(counts)), counts)
    return np.column_stack([rng.integers(0, images, len(classes)), classes,
                            np.arange(len(classes)), np.arange(len(classes))]).astype(np.int32)


def class_of(center: tuple[int, int], centroids: np.ndarray) -> int:
    return int(centroids[center[0], 1])  # its x is its place in the list


@pytest.mark.parametrize("case", FIXTURE["build_epoch"],
                         ids=lambda case: f"{case['images']}-{case['class_uniform_pct']}")
def test_composition_is_the_published_one(case: dict) -> None:
    total = case["images"]
    centroids = centroids_of(case["centroids_per_class"], total)
    lists = ClassUniformLists((total, total), CLASSES, centroids, case["class_uniform_pct"])
    items = lists.build(0)
    assert len(items) == lists.length(0) == case["epoch_length"]
    plain = [index for index, center in items if center is None]
    assert len(plain) == case["plain_images"]
    assert len(set(plain)) == case["distinct_plain_images"]
    assert case["plain_come_first"]
    assert all(center is None for _, center in items[: len(plain)])
    classes = [class_of(center, centroids) for _, center in items[len(plain):]]
    assert classes == sorted(classes)
    assert [classes.count(train_id) for train_id in range(CLASSES)] == case["per_class"]


@pytest.fixture
def lists() -> ClassUniformLists:
    """90 images, 60 of them fine, and 20 coarse ones behind them; class 4 has no centroid."""
    centroids = centroids_of([7, 1, 30, 2, 0], 110)
    return ClassUniformLists((60, 90), 5, centroids, 0.5, until=3, seed=4)


def test_a_function_of_seed_and_epoch(lists: ClassUniformLists) -> None:
    later = lists.build(2)
    assert lists.build(0) != later
    again = ClassUniformLists((60, 90), 5, lists.centroids, 0.5, until=3, seed=4)
    assert again.build(2) == later  # whatever was built before
    other = ClassUniformLists((60, 90), 5, lists.centroids, 0.5, until=3, seed=5)
    assert other.build(2) != later
    assert len(other.build(2)) == len(later)


def test_every_centroid_equally_often(lists: ClassUniformLists) -> None:
    """Floor or ceil of crops / centroids, in every epoch, and not the same ones in each."""
    often = set()
    for epoch in range(3):
        crops = Counter(center[0] for _, center in lists.build(epoch) if center)
        for train_id, count in enumerate([7, 1, 30, 2]):
            own = [crops[int(row[2])] for row in lists.centroids if row[1] == train_id]
            assert sum(own) == 9
            assert set(own) <= {9 // count, -(-9 // count)}
            often.add(tuple(own))
    assert len(often) > 6


def test_crops_are_those_of_their_image(lists: ClassUniformLists) -> None:
    rows = {(int(i), (int(x), int(y))) for i, _, x, y in lists.centroids}
    assert {item for item in lists.build(0) if item[1]} <= rows


def test_absent_classes_make_an_epoch_shorter(lists: ClassUniformLists) -> None:
    assert len(lists.build(0)) == lists.length(0) == 90 - 9
    assert not any(class_of(center, lists.centroids) == 4 for _, center in lists.build(0) if center)


def test_until_leaves_the_fine_images_alone(lists: ClassUniformLists) -> None:
    """Before, propagated and coarse images are drawn; then neither, not even their centroids."""
    before, after = lists.build(2), lists.build(3)
    assert any(60 <= index < 90 for index, center in before if center is None)
    assert not any(index >= 90 for index, center in before if center is None)
    assert any(60 <= index < 90 for index, center in before if center)
    assert any(index >= 90 for index, center in before if center)
    assert all(index < 60 for index, _ in after)
    assert any(center for _, center in after)
    assert len(after) == lists.length(3)
    endless = ClassUniformLists((60, 90), 5, lists.centroids, 0.5, seed=4)
    assert endless.build(2) == before
    assert any(index >= 60 for index, _ in endless.build(3))


def test_until_skips_classes_that_only_coarse_labels_have() -> None:
    centroids = np.array([[0, 0, 5, 5], [9, 1, 6, 6]], np.int32)  # class 1 is on image 9
    lists = ClassUniformLists((8, 8), 2, centroids, 0.5, until=1)
    assert Counter(center for _, center in lists.build(0)) == {None: 4, (5, 5): 2, (6, 6): 2}
    assert Counter(center for _, center in lists.build(1)) == {None: 4, (5, 5): 2}
    assert lists.length(1) == 6
