"""Dice, focal and Lovasz loss against definitions, and against segmentation_models_pytorch."""

import math

import pytest
import torch
from test_loss import example

from model.losses import LOSSES, cross_entropy
from model.losses.per_class import dice, focal, lovasz


def two_pixels(first: float, second: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax gives class 0 these probabilities; the pixels are of class 0 and 1."""
    p = torch.tensor([first, second])
    return torch.stack([p.log(), (1 - p).log()])[None, :, None], torch.tensor([[[0, 1]]])


def test_dice_by_hand() -> None:
    logits, target = two_pixels(0.8, 0.3)
    coefficients = 2 * 0.8 / (0.8 + 0.3 + 1), 2 * 0.7 / (0.2 + 0.7 + 1)
    assert dice(logits, target).item() == pytest.approx(1 - sum(coefficients) / 2, rel=1e-6)
    weighted = dice(logits, target, torch.tensor([3.0, 1.0])).item()
    assert weighted == pytest.approx(1 - (3 * coefficients[0] + coefficients[1]) / 4, rel=1e-6)
    # a class without pixels counts as right
    first = 2 * (0.8 + 0.3) / (0.8 + 0.3 + 2)
    assert dice(logits, target * 0).item() == pytest.approx((1 - first) / 2, rel=1e-6)


def test_focal_by_hand() -> None:
    logits = torch.tensor([1.0, -2.0])[None, :, None, None]  # a pixel of class 0
    p, q = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))
    first, second = -(1 - p) ** 2 * math.log(p), -(q**2) * math.log(1 - q)
    target = torch.zeros(1, 1, 1, dtype=torch.int64)
    assert focal(logits, target).item() == pytest.approx((first + second) / 2, rel=1e-6)
    weighted = focal(logits, target, torch.tensor([3.0, 1.0])).item()
    assert weighted == pytest.approx((3 * first + second) / 4, rel=1e-6)
    plain = focal(logits, target, gamma=0).item()
    assert plain == pytest.approx(-(math.log(p) + math.log(1 - q)) / 2, rel=1e-6)


def test_lovasz_of_certain_predictions_is_one_minus_iou() -> None:
    target = torch.tensor([[[0, 0, 0, 1, 1, 255]]])
    said = torch.tensor([[[0, 0, 1, 1, 0, 1]]])
    logits = torch.nn.functional.one_hot(said, 3).permute(0, 3, 1, 2) * 100.0
    losses = 1 - 2 / 4, 1 - 1 / 3  # class 2 has no pixels
    assert lovasz(logits, target).item() == pytest.approx(sum(losses) / 2, rel=1e-6)
    weighted = lovasz(logits, target, torch.tensor([3.0, 1.0, 9.0])).item()
    assert weighted == pytest.approx((3 * losses[0] + losses[1]) / 4, rel=1e-6)


def test_lovasz_is_exact_for_many_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 512, 512, generator=generator)
    target = torch.randint(0, 3, (1, 512, 512), generator=generator)
    assert lovasz(logits, target).item() == pytest.approx(
        lovasz(logits.double(), target).item(), rel=1e-6)


def test_sums() -> None:
    logits, target = example()
    weights = torch.rand(5) + 0.5
    for name, region in (("dice+cross_entropy", dice), ("lovasz+cross_entropy", lovasz)):
        expected = region(logits, target, weights) + cross_entropy(logits, target, weights)
        assert LOSSES[name](logits, target, weights).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), [
    (dice, "DiceLoss"), (focal, "FocalLoss"), (lovasz, "LovaszLoss"),
])
def test_equals_segmentation_models(ours, theirs: str, absent: bool) -> None:
    losses = pytest.importorskip("segmentation_models_pytorch").losses
    logits, target = example()
    if absent:
        target[target == 3] = 255
    expected = getattr(losses, theirs)("multiclass", ignore_index=255)(logits, target)
    gradient, = torch.autograd.grad(expected, logits)
    found = ours(logits, target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], gradient, rtol=1e-4,
                               atol=1e-7)


@pytest.mark.parametrize(("ours", "theirs"), [(dice, "DiceLoss"), (focal, "FocalLoss")])
def test_class_weights_equal_segmentation_models(ours, theirs: str) -> None:
    losses = pytest.importorskip("segmentation_models_pytorch").losses
    logits, target = example()
    weights = torch.rand(5) + 0.1
    expected = getattr(losses, theirs)("multiclass", ignore_index=255, class_weights=weights)
    assert ours(logits, target, weights).item() == pytest.approx(
        expected(logits, target).item(), rel=1e-5)
