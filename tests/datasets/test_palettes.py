"""Palette PNGs: the index is the id, unless the palette says by its colors that it is not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from breaking import found, without_meaning
from conftest import draw_folder
from PIL import Image

from datasets import build_dataset
from datasets.base import SegmentationDataset
from datasets.classes import read_indexed, voc_color
from datasets.doctor import check
from datasets.evaluation.predictions import read_prediction
from datasets.evaluation.scored_set import ScoredSet

ROAD, LIGHT, SKY, VOID, PINK = (128, 64, 128), (250, 170, 30), (0, 0, 255), (0, 0, 0), (255, 0, 99)
Colors = Sequence[tuple[int, int, int]]


def save(path: Path, indices: list[int], colors: Colors) -> Path:
    """A palette PNG of one row, in which each index is as often as it is listed."""
    image = Image.fromarray(np.array([indices], np.uint8), "P")
    image.putpalette([value for color in colors for value in color])
    image.save(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> SegmentationDataset:
    """Ids 7 road, 3 traffic light, 200 sky."""
    return build_dataset("folder", draw_folder(tmp_path), "train")


@pytest.mark.parametrize(("indices", "colors", "ids"), [
    ([0, 1, 2, 1], (SKY, ROAD, LIGHT), [200, 7, 3, 7]),  # each file has a palette of its own
    ([0, 1], (ROAD, SKY), [7, 200]),
    ([0, 1, 2], (VOID, LIGHT, SKY), [255, 3, 200]),  # black is not listed, thus ignored
    ([0, 3, 7], [(i, i, i) for i in range(8)], [0, 3, 7]),  # says nothing
    ([0, 3, 7], [voc_color(i) for i in range(8)], [0, 3, 7]),
    ([0, 3, 7], [PINK] * 8, [0, 3, 7]),
    ([3, 7, 5], [VOID, VOID, VOID, LIGHT, VOID, PINK, VOID, ROAD], [3, 7, 5]),  # at their ids
])
def test_ids(
    indices: list[int], colors: Colors, ids: list[int], data: SegmentationDataset
) -> None:
    label = save(data.samples[0].truth, indices, colors)
    assert data.read_label(label).tolist() == [ids]


@pytest.mark.parametrize(("indices", "colors", "ids"), [
    ([0, 1], (ROAD, VOID), [0, 2]),
    ([1, 1], (ROAD, VOID), [2, 2]),
    ([0, 0], (VOID,), [2, 2]),
    ([0, 0], (VOID, SKY), [2, 2]),
    ([0, 1, 2, 255], (ROAD, SKY, *[VOID] * 254), [0, 1, 2, 255]),  # filled up with black
    ([0, 0], [voc_color(i) for i in range(8)], [0, 0]),
])
def test_black_of_a_class(
    indices: list[int], colors: Colors, ids: list[int], tmp_path: Path
) -> None:
    label = save(tmp_path / "a.png", indices, colors)
    assert read_indexed(label, {0: ROAD, 1: SKY, 2: VOID}).tolist() == [ids]


def test_colors_that_are_half_known_are_refused(data: SegmentationDataset) -> None:
    label = save(data.samples[0].truth, [0, 1], (ROAD, PINK))
    with pytest.raises(ValueError, match=r"0\.png: its palette .*\(255, 0, 99\) at 1"):
        data.read_label(label)
    assert found(check("folder", data.root))["other-colors"] == {"labels/train/0.png"}


def test_predictions_go_by_color(data: SegmentationDataset, tmp_path: Path) -> None:
    """As ids or train ids, whichever the indices look like; another palette is no obstacle."""
    scored = ScoredSet(data, "folder")
    own = save(tmp_path / "own.png", [0, 1, 2], (SKY, ROAD, LIGHT))
    train_ids = save(tmp_path / "t.png", [0, 1, 2], (ROAD, LIGHT, SKY))
    for kind in ("ids", "train-ids"):
        assert read_prediction(own, kind, scored).tolist() == [[2, 0, 1]]
        assert read_prediction(train_ids, kind, scored).tolist() == [[0, 1, 2]]


def test_palettes_that_differ_are_found(data: SegmentationDataset) -> None:
    """No color is a class's, and index 7 has two of them."""
    labels = [sample.truth for sample in data.samples]
    assert without_meaning(labels, 0)
    assert "palettes" not in found(check("folder", data.root))
    without_meaning(labels[2:3], 1)
    assert found(check("folder", data.root))["palettes"] == {"labels/train/2.png"}
