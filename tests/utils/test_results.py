"""Scores equal the official Cityscapes scorer's, to the last digit."""

import json
import math

import numpy as np
import pytest
from conftest import FIXTURES

from datasets.cityscapes_labels import AVERAGE_SIZES, LABELS
from utils import labels
from utils.labels import to_runs
from utils.scoring.counts import Scores
from utils.scoring.summary import summarize

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




@pytest.mark.parametrize("part", ["all", 0, 1, 2, 3])
def test_equals_the_official_scorer(part: object) -> None:
    expected, arrays = fixture()
    indices = list(range(4)) if part == "all" else [part]
    official = expected["all"] if part == "all" else expected["single_images"][part]
    result = summarize(score(arrays, indices))
    for key, value in official.items():
        assert same(result[key], value), key
