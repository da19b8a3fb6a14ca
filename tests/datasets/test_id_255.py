"""Id 255 as a class, as masks of 0 and 255 have it: what is outside an image is not of it."""

from pathlib import Path

import numpy as np
import pytest

from datasets import build_dataset
from datasets.base import SampleKey, SegmentationDataset
from datasets.evaluation.scored_set import ScoredSet
from datasets.sampling.epoch_lists import AllImages
from datasets.sampling.mixing import Mosaic
from datasets.transforms import PADDING, EvalTransform, TrainTransform
from utils.images import write_png
from utils.labels import IGNORE

PLAIN = {"flip": 0, "jitter": 0, "hue": 0, "blur": 0}


def masks(root: Path, transform: object) -> SegmentationDataset:
    """One image of 20x30; rows 0 to 3 are of the class with id 255."""
    ids = np.zeros((20, 30), np.uint8)
    ids[:4] = 255
    write_png(root / "images/train/a.png", np.stack([ids] * 3, axis=-1))
    write_png(root / "labels/train/a.png", ids)
    (root / "classes.txt").write_text("0 background 0 0 0\n255 car 255 0 0\n")
    return build_dataset("folder", root, "train", transform)  # type: ignore[arg-type]


@pytest.mark.parametrize("pre_size", [None, 60])
def test_training_crops(tmp_path: Path, pre_size: int | None) -> None:
    """At the image's own size, and at double: larger than the crop from left to right."""
    transform = TrainTransform((48, 40), (1, 1), pre_size=pre_size, **PLAIN)
    dataset = masks(tmp_path, transform)
    for position in range(5):
        image, target = (each.numpy() for each in dataset[SampleKey(0, position, 0)])
        inside = (image != PADDING).any(-1)
        assert inside.sum() == (40 * 40 if pre_size else 20 * 30)
        assert (target[~inside] == IGNORE).all()
        assert np.array_equal(target[inside], image[inside][:, 0] > 127)


def test_mosaics(tmp_path: Path) -> None:
    """Four tiles with a fifth of their pixels in the class."""
    dataset = masks(tmp_path, TrainTransform((96, 80), (1, 1), **PLAIN))
    _, target = Mosaic(dataset, AllImages((1, 1)), 1.0)[SampleKey(0, 0, 0)]
    counts = np.bincount(target.flatten(), minlength=256)
    assert counts[[0, 1, IGNORE]].tolist() == [4 * 480, 4 * 120, 96 * 80 - 4 * 600]


def test_the_center_crop_of_validation(tmp_path: Path) -> None:
    dataset = masks(tmp_path, EvalTransform((20, 30), crop=(40, 40)))
    _, target = dataset[0]
    expected = np.full((40, 40), IGNORE)
    expected[10:14, 5:35], expected[14:30, 5:35] = 1, 0
    assert np.array_equal(target, expected)
    assert np.array_equal(ScoredSet(dataset, "folder")[0][1], expected.clip(max=2))


def test_padding_of_a_scored_crop_at_the_size_of_the_label(tmp_path: Path) -> None:
    """A smaller image in a crop that is as large as the label: the labels are not the whole."""
    dataset = masks(tmp_path, EvalTransform((10, 15), crop=(20, 30)))
    labels = ScoredSet(dataset, "folder")[0][1]
    assert np.bincount(labels.ravel()).tolist() == [15 * 8, 15 * 2, 600 - 150]


def test_unknown_ids_in_a_crop_are_refused(
    data_roots: dict[str, Path]
) -> None:
    dataset = build_dataset("camvid", data_roots["camvid"], "train", TrainTransform((32, 32)))
    dataset.id_to_train_id = np.full(256, 254, np.uint8)
    dataset.id_to_train_id[0] = 0
    with pytest.raises(ValueError, match="are not of this data set"):
        dataset[SampleKey(0, 0, 0)]
