"""Scores equal the official Cityscapes scorer's, to the last digit."""

import json
import math

import numpy as np
import pytest
from conftest import FIXTURES

from datasets.cityscapes_labels import AVERAGE_SIZES, LABELS
from utils import labels
from utils.labels import to_runs
from utils.scoring.counts import Scores, instance_table
from utils.scoring.summary import image_ious, summarize

BY_ID = [label for label in LABELS if label.id >= 0]


def fixture() -> tuple[dict, dict]:
    arrays = np.load(FIXTURES / "cityscapes_eval.npz")
    return json.loads((FIXTURES / "cityscapes_eval.json").read_text()), dict(arrays)


def score(arrays: dict, indices: list[int], **options: object) -> Scores:
    scores = Scores(BY_ID, AVERAGE_SIZES, **options)
    for i in indices:
        scores.add(i, scores.measure(arrays["gt"][i], arrays["pred"][i],
                                     to_runs(arrays["instance"][i])))
    return scores


def same(ours: object, theirs: object) -> bool:
    if isinstance(theirs, dict):
        return all(same(ours[key], value) for key, value in theirs.items())
    if isinstance(theirs, float) and math.isnan(theirs):
        return math.isnan(ours)
    return ours == theirs


def test_large_images_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of float32 histograms are exact up to 2^24 only."""
    _, arrays = fixture()
    expected = score(arrays, [0]).matrix
    monkeypatch.setattr(labels, "EXACT", 5 * arrays["gt"].shape[2])
    assert (score(arrays, [0]).matrix == expected).all()


def test_instances_by_hand() -> None:
    """Label, size, hits and hits of the category; bare labels are no instances."""
    instances = np.array([[0, 0, 2001, 2001, 2001], [2002, 2002, 3, 1004, 7]], np.int32)
    prediction = np.array([[0, 0, 2, 1, 0], [1, 3, 2, 1, 0]], np.uint8)
    categories = np.eye(8, dtype=bool)
    categories[1, 2] = categories[2, 1] = True
    table = instance_table(to_runs(instances), prediction, categories)
    assert table.tolist() == [[1, 1, 1, 1], [2, 3, 1, 2], [2, 2, 0, 1]]


def test_counts_of_each_image_by_hand() -> None:
    """What is said where the truth is void is nobody's fault; void that is said is a miss."""
    void, road, walk = 0, 7, 8
    first = [[road, road, road, walk], [walk, walk, void, void]]
    said = [[road, walk, void, walk], [walk, road, road, walk]]
    other = [[road, void, walk, walk]], [[road, road, road, walk]]
    scores = Scores(BY_ID)
    for i, pair in enumerate([(first, said), other]):
        scores.add(i, scores.measure(*(np.array(rows, np.uint8) for rows in pair)))
    counts = [scores.images[i].classes[:, [road, walk]].T.tolist() for i in (0, 1)]
    assert counts == [[[1, 3, 1], [2, 3, 1]], [[1, 1, 1], [1, 2, 0]]]  # hits, pixels, false
    total = sum(scores.images[i].classes for i in (0, 1))
    iou = summarize(scores)["classScores"]
    ious = image_ious(scores)
    for name, number, both in (("road", road, [1 / 4, 1 / 2]), ("sidewalk", walk, [2 / 4, 1 / 2])):
        hits, pixels, false = total[:, number].tolist()
        assert iou[name] == hits / (pixels + false)
        assert [ious[i][name] for i in (0, 1)] == both
    assert "unlabeled" not in ious[0]


@pytest.mark.parametrize("part", ["all", 0, 1, 2, 3])
def test_equals_the_official_scorer(part: object) -> None:
    expected, arrays = fixture()
    indices = list(range(4)) if part == "all" else [part]
    official = expected["all"] if part == "all" else expected["single_images"][part]
    result = summarize(score(arrays, indices))
    for key, value in official.items():
        assert same(result[key], value), key
