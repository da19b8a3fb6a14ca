"""Polygons of a label map: fine ones give it back pixel for pixel, coarse ones most of it."""

import cv2
import numpy as np
import pytest

from datasets.polygons import draw_instances, draw_polygons
from datasets.render import render
from datasets.scene import make_scene
from datasets.street.coarse import coarse_objects
from datasets.street.outlines import trace_objects
from datasets.synthetic import image_seed
from datasets.synthetic_labels import NAMES

CAR, OTHER_CAR, BICYCLE, ROAD, POLE = 26003, 26000, 33005, 7, 17


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """(256, 512) instance ids of drawn streets."""
    scenes = [make_scene(image_seed(1, "train", k)) for k in range(8)]
    return [render(scene, scene.camera, 256, 512)[2] for scene in scenes]


def classes(ids: np.ndarray) -> np.ndarray:
    return np.where(ids >= 1000, ids // 1000, ids)


def trace(ids: np.ndarray) -> tuple[list[dict], np.ndarray]:
    """The objects, and the instances that are drawn from them; checks all that must be exact."""
    objects = trace_objects(ids, NAMES)
    content = {"imgHeight": ids.shape[0], "imgWidth": ids.shape[1], "objects": objects}
    assert np.array_equal(draw_polygons(content), classes(ids))
    drawn = draw_instances(content)
    assert np.array_equal(classes(drawn), classes(ids))
    single = drawn >= 1000
    pairs = np.unique(np.stack((ids[single], drawn[single]), 1), axis=0)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs), "not one to one"
    assert set(pairs[:, 0]) == set(ids[ids >= 1000].tolist()), "an instance is lost"
    for item in objects:
        corners = np.array(item["polygon"])
        assert len(corners) >= 3
        assert corners.min() >= 0
        assert (corners < ids.shape[::-1]).all()
    return objects, drawn


def picture(*rows: str) -> np.ndarray:
    """Instance ids: c, C cars, b a bicycle, | a pole, . road."""
    values = {"c": CAR, "C": OTHER_CAR, "b": BICYCLE, "|": POLE, ".": ROAD}
    return np.array([[values[pixel] for pixel in row] for row in rows], np.uint16)


def test_any_map_is_given_back() -> None:
    """From noise, in which all regions are pixels that touch at corners, to smooth shapes."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = rng.integers(1, 40, 2)
        values = np.array([CAR, OTHER_CAR, ROAD, BICYCLE, 0], np.uint16)[: rng.integers(1, 6)]
        fields = [cv2.GaussianBlur(rng.standard_normal(size), (0, 0), rng.uniform(0.2, 3))
                  for _ in values]  # fmt: skip
        trace(values[np.argmax(fields, 0)])


@pytest.mark.parametrize(("rows", "count"), [
    (["."], 1),
    (["....", ".c..", "...."], 2),
    (["c.c.", ".c.c", "c.c."], 2),  # one road and one car, each touching itself at corners
    (["......", ".cccc.", ".c||c.", ".c..c.", ".cccc.", "......"], 4),  # two regions in a hole
    (["ccccccc", "c.....c", "c.ccc.c", "c.c|c.c", "c.ccc.c", "c.....c", "ccccccc"], 3),
    (["bbbbb", "b.b.b", "b...b", "bbbbb"], 2),
    (["cc|cc", "cc|cc", "..|.."], 4),  # the halves of a car are one instance
    (["cc...", "cc...", ".....", "...cc", "...cc"], 2),  # only a slanted line joins these
    (["...cc", "...cc", ".....", "cc...", "cc..."], 2),
])  # fmt: skip
def test_shapes(rows: list[str], count: int) -> None:
    objects, drawn = trace(picture(*rows))
    assert len(objects) == count
    assert not np.isin(drawn, (26, 33)).any(), "a group"


def test_a_car_is_seen_through_a_bicycle_and_goes_on_behind_it() -> None:
    objects, drawn = trace(picture(
        "..........", ".bbbbb.ccc", ".bcccb.ccc", ".bbbbb....", "..........",
    ))  # fmt: skip
    assert [item["label"] for item in objects] == ["car", "bicycle", "road"]
    assert set(np.unique(drawn)) == {7, 26000, 33000}


def test_what_no_line_can_join_is_a_group() -> None:
    """Each one has a part inside of the other: whoever is drawn first would be drawn over."""
    objects, drawn = trace(picture(
        "...........", ".ccc...bbb.", ".cbc...bcb.", ".ccc...bbb.", "...........",
    ))  # fmt: skip
    names = sorted(item["label"] for item in objects)
    assert names == ["bicycle", "bicyclegroup", "car", "road"]
    assert np.argwhere(drawn == 33).tolist() == [[2, 2]]


def test_hardly_anything_of_a_drawn_street_is_a_group(pictures: list[np.ndarray]) -> None:
    groups = instances = 0
    for ids in pictures:
        objects, drawn = trace(ids)
        groups += (drawn < 1000)[ids >= 1000].sum()
        instances += (ids >= 1000).sum()
        assert len(objects) < 500
    assert instances > 100_000
    assert groups < 0.005 * instances


def draw_coarse(ids: np.ndarray, seed: int) -> tuple[list[dict], dict]:
    objects = coarse_objects(ids, NAMES, np.random.default_rng(seed))
    return objects, {"imgHeight": len(ids), "imgWidth": ids.shape[1], "objects": objects}


def test_coarse_polygons_are_few_and_right(pictures: list[np.ndarray]) -> None:
    right, covered, fewer = [], [], []
    for seed, ids in enumerate(pictures):
        objects, content = draw_coarse(ids, seed)
        label = draw_polygons(content)
        right.append((label == classes(ids))[label > 0].mean())
        covered.append((label > 0).mean())
        assert np.mean([len(item["polygon"]) for item in objects]) < 15
        assert len(objects) < 80
        drawn = draw_instances(content)
        numbers = np.unique(drawn[drawn >= 1000])
        for number in numbers:
            parts = np.bincount(ids[drawn == number])
            assert parts.max() > 0.9 * parts.sum(), "an instance lies on several"
        fewer.append(len(numbers) < len(np.unique(ids[ids >= 1000])))
    assert min(right) > 0.995
    assert max(right) < 1, "too good for people"
    assert min(covered) > 0.6
    assert max(covered) < 0.85
    assert all(fewer), "small things should be missing"


def test_coarse_polygons_depend_on_the_seed_alone(pictures: list[np.ndarray]) -> None:
    first, again, another = (draw_coarse(pictures[0], seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(draw_instances(first), draw_instances(again))
    assert not np.array_equal(draw_polygons(first), draw_polygons(another))


def test_corners_are_off_by_chance() -> None:
    ids = np.full((200, 300), ROAD, np.uint16)
    ids[50:100, 80:180] = POLE
    first, other = (draw_coarse(ids, seed)[0] for seed in (1, 2))
    for a, b in zip(first, other, strict=True):
        assert (a["polygon"] != b["polygon"]).any(1).mean() > 0.5


def test_of_a_hidden_instance_the_largest_region_is_outlined() -> None:
    ids = np.full((200, 300), ROAD, np.uint16)
    ids[50:120, 40:140] = CAR
    ids[40:150, 80:100] = POLE
    cars = [item for item in draw_coarse(ids, 0)[0] if item["label"] == "car"]
    assert len(cars) == 1
    assert np.array(cars[0]["polygon"]).min(0)[0] >= 100


def test_small_things_are_missing() -> None:
    ids = np.full((400, 600), ROAD, np.uint16)
    ids[100:109, 100:109] = ids[200:220, 200:220] = POLE
    label = draw_polygons(draw_coarse(ids, 0)[1])
    assert 17 in label[200:220, 200:220]
    assert not (label[100:109, 100:109] == 17).any()


def test_coarse_polygons_leave_a_seam(pictures: list[np.ndarray]) -> None:
    """Hardly a labelled pixel lies at a border."""
    for seed, ids in enumerate(pictures):
        label = draw_polygons(draw_coarse(ids, seed)[1])
        border = np.zeros(ids.shape, bool)
        border[:, 1:] = ids[:, 1:] != ids[:, :-1]
        border[1:] |= ids[1:] != ids[:-1]
        assert (label[border] > 0).mean() < 0.05


def test_what_lies_within_a_coarse_region_is_cut_out() -> None:
    ids = np.full((200, 300), ROAD, np.uint16)
    ids[60:140, 100:200] = CAR
    ids[90:110, 140:160] = POLE
    objects, content = draw_coarse(ids, 0)
    label = draw_polygons(content)
    assert [item["label"] for item in objects] == [
        "road", "unlabeled", "car", "unlabeled", "pole"]  # fmt: skip
    assert (label[ids == ROAD] == 7).mean() > 0.8
    assert (label[ids == POLE] == 17).mean() > 0.3
    assert (label[ids == CAR] == 7).mean() < 0.01
    assert (label[ids == POLE] == 26).mean() < 0.05


def test_nothing_to_outline() -> None:
    noise = np.random.default_rng(0).choice(np.array((ROAD, POLE), np.uint16), (40, 60))
    assert draw_coarse(noise, 0)[0] == []
    assert draw_coarse(np.zeros((40, 60), np.uint16), 0)[0] == []
