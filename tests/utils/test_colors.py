"""Color labels to ids: exact, whatever the palette."""

import numpy as np
import pytest

from datasets import TABLES
from utils.labels import color_ids
from utils.pictures import colorize


@pytest.mark.parametrize("name", TABLES)
def test_undoes_colorize(name: str) -> None:
    palette = TABLES[name].palette
    ids = np.arange(35 * 21, dtype=np.uint8).reshape(35, 21) % len(palette)
    found = color_ids(colorize(ids, palette), palette)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ids)


def test_neighbors_of_a_color_are_none() -> None:
    """Each channel counts, and none is taken for another."""
    palette = [(1, 2, 3), (0, 0, 0), (255, 255, 255)]
    others = [(1, 2, 4), (1, 3, 3), (2, 2, 3), (3, 2, 1), (2, 1, 3), (0, 0, 1), (255, 255, 254)]
    row = np.array([[*palette, *others]], np.uint8)
    assert color_ids(row, palette).tolist() == [[0, 1, 2] + 7 * [255]]


def test_first_of_equal_colors_wins() -> None:
    palette = [(9, 9, 9), (5, 6, 7), (9, 9, 9), (5, 6, 7)]
    assert color_ids(np.array([palette], np.uint8), palette).tolist() == [[0, 1, 0, 1]]


def test_agrees_with_comparing_every_color() -> None:
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (255, 3))
    rgb = np.where(rng.random((40, 60, 1)) < 0.5, palette[rng.integers(0, 255, (40, 60))],
                   rng.integers(0, 256, (40, 60, 3))).astype(np.uint8)
    equal = (rgb[:, :, None] == palette).all(-1)
    expected = np.where(equal.any(-1), equal.argmax(-1), 255)
    np.testing.assert_array_equal(color_ids(rgb, palette), expected)
    # Views, such as OpenCV's order turned round, are read as they look.
    np.testing.assert_array_equal(color_ids(rgb[::2, ::-1, ::-1], palette[:, ::-1]),
                                  expected[::2, ::-1])


def test_results_are_the_callers_own() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    color_ids(rgb, [(0, 0, 0)])[:] = 77
    assert color_ids(rgb, [(0, 0, 0)]).tolist() == [[0, 0], [0, 0]]
    assert not rgb.any()
    assert color_ids(rgb, np.empty((0, 3))).tolist() == [[255, 255], [255, 255]]


@pytest.mark.parametrize(("rgb", "palette", "message"), [
    (np.zeros((2, 2), np.uint8), [(0, 0, 0)], r"expected uint8 \(H, W, 3\)"),
    (np.zeros((2, 2, 4), np.uint8), [(0, 0, 0)], r"expected uint8 \(H, W, 3\)"),
    (np.zeros((2, 2, 3), np.int64), [(0, 0, 0)], "int64 array"),
    (np.zeros((2, 2, 3), np.uint8), [(0, 0)], "expected .C, 3."),
    (np.zeros((2, 2, 3), np.uint8), [(0, 0, i % 256) for i in range(256)], "at most 255"),
    (np.zeros((2, 2, 3), np.uint8), [(0, 0, 256)], r"expected 0\.\.255"),
    (np.zeros((2, 2, 3), np.uint8), [(-1, 0, 0)], r"expected 0\.\.255"),
])
def test_refusals(rgb: np.ndarray, palette: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        color_ids(rgb, palette)
