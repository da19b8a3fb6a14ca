"""The confusion matrix against counting by hand, and what else a validation gives."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model import build_model
from utils.inference import predictor as predictors
from utils.inference.predictor import Predictor
from utils.scoring.validation import ConfusionMatrix, compare, validate


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


class Images(list):
    """Some of three sizes; of one, no pixel counts."""

    class_names, palette = ["a", "b", "c"], [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    samples = [SimpleNamespace(name=name) for name in "xyz"]

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for size in ((40, 56), (64, 33), (32, 32)):
            image = torch.randint(256, (*size, 3), dtype=torch.uint8, generator=generator)
            target = torch.randint(3, size, dtype=torch.uint8, generator=generator)
            target[:, ::3 if size[0] > 32 else 1] = 255
            self.append((image, target))


@pytest.mark.parametrize("rows", [1, 1 << 20])
def test_the_loss_is_that_of_the_logits(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all counted pixels alike, though it is added up by rows; and nothing else changes."""
    monkeypatch.setitem(predictors.BLOCK, "cpu", rows)
    torch.manual_seed(0)
    network, images, said = build_model("sgcpnet", 3).eval(), Images(), []
    predictor = Predictor(network)
    confusion = validate(predictor, images, say=lambda *numbers: said.append(numbers))
    alone = ConfusionMatrix(images.class_names)
    total, count = 0.0, 0
    for image, target in images:
        alone.update(target, predictor(image))
        with torch.inference_mode():
            logits = network(image.permute(2, 0, 1)[None], full_size=False)
        height, width = logits.shape[-2:]  # the label in the middle of each cell
        rows, columns = (((torch.arange(n) + 0.5) * side / n).long()
                         for n, side in zip((height, width), target.shape, strict=True))
        cells = target[rows][:, columns]
        total += F.cross_entropy(logits, cells[None].long(), reduction="sum", ignore_index=255)
        count += (cells != 255).sum()
    assert torch.equal(alone.matrix, confusion.matrix)
    assert confusion.summary()["loss"] == pytest.approx(float(total / count), rel=1e-4)
    assert said == [(0, 3), (1, 3), (2, 3)]
    assert "loss" not in alone.summary()


def test_pictures_begin_with_what_the_network_saw() -> None:
    images = Images()
    images[1] = images[1][0][::2], images[1][1]  # half as high, as by --eval-size
    pictures = dict(compare(Predictor(build_model("sgcpnet", 3).eval()), images, range(2)))
    assert [picture.shape for picture in pictures.values()] == [
        (40, 3 * 56 + 8, 3), (64, 3 * 33 + 8, 3)]
    np.testing.assert_array_equal(pictures["x"][:, :56], images[0][0])
