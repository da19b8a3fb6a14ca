"""The confusion matrix against counting by hand."""

import math

import numpy as np
import pytest
import torch

from utils.scoring.validation import ConfusionMatrix


def test_by_hand() -> None:
    confusion = ConfusionMatrix(["a", "b", "c"])
    target = torch.tensor([[0, 0, 0, 1], [1, 1, 255, 255]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 0, 1, 1], [1, 3, 0, 200]], dtype=torch.uint8)
    confusion.update(target, prediction)
    assert confusion.matrix.tolist() == [[2, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0]]
    iou = confusion.iou().tolist()
    assert iou[:2] == [2 / 3, 2 / 4]  # the void prediction is a miss, not a false positive
    assert math.isnan(iou[2])
    assert confusion.mean_iou() == pytest.approx((2 / 3 + 2 / 4) / 2)
    summary = confusion.summary()
    assert summary["pixel_accuracy"] == pytest.approx(4 / 6)
    assert summary["iou"]["c"] is None
    assert summary["mean_accuracy"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert confusion.images == 1


def test_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    confusion = ConfusionMatrix([str(i) for i in range(19)])
    expected = np.zeros((19, 20), int)
    for _ in range(3):
        target = rng.choice([*range(19), 255], (20, 30)).astype(np.uint8)
        prediction = rng.integers(0, 21, (20, 30)).astype(np.uint8)
        confusion.update(torch.from_numpy(target), torch.from_numpy(prediction))
        for t, p in zip(target.ravel(), prediction.ravel(), strict=True):
            if t != 255:
                expected[t, min(p, 19)] += 1
    assert confusion.matrix.tolist() == expected.tolist()
    assert confusion.matrix.dtype == torch.int64
    for c in range(19):
        union = expected[c].sum() + expected[:, c].sum() - expected[c, c]
        assert confusion.iou()[c] == expected[c, c] / union


def test_absent_class_that_is_predicted_counts_as_zero() -> None:
    confusion = ConfusionMatrix(["a", "b"])
    confusion.update(torch.zeros(2, 2, dtype=torch.uint8), torch.tensor([[0, 0], [0, 1]]))
    assert confusion.iou().tolist() == [3 / 4, 0]
