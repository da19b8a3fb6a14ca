"""Contracts of losses, run over LOSSES."""

import json
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from conftest import FIXTURES

from model.losses import CLASS_WEIGHTS, LOSSES, build_loss, class_weights, cross_entropy, ohem
from model.losses.label_relaxation import IMAGE_WEIGHTED
from model.losses.per_class import bce

CHOICES = [(name, False) for name in LOSSES]
CHOICES += [(name, True) for name in LOSSES if name not in IMAGE_WEIGHTED]


def example(classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 9, 11, generator=generator, requires_grad=True)
    target = torch.randint(0, classes, (2, 9, 11), generator=generator)
    target[0, :4] = 255
    return logits, target


def few_lines_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses take an `example` in parts, as large logits."""
    relaxation = import_module("model.losses.label_relaxation")  # the function has its name
    monkeypatch.setattr(relaxation, "CACHED", 5 * 11 * 2)


@pytest.mark.parametrize(("name", "weighted"), CHOICES)
def test_contract(name: str, weighted: bool) -> None:
    logits, target = example()
    weights = torch.rand(5) + 0.5 if weighted else None
    loss_function = build_loss(name, epoch=0, class_weights=weights)
    loss = loss_function(logits, target)
    assert loss.shape == ()
    assert loss > 0
    loss.backward()
    gradient = logits.grad.clone()
    assert gradient.isfinite().all()
    # the last of the four lines is within the window of a labelled one
    ignored = 3 if name == "label_relaxation" else 4
    assert (gradient[0, :, :ignored] == 0).all(), "ignored pixels move nothing"

    # what an ignored pixel says does not matter
    other = logits.detach().clone()
    other[0, :, :ignored] = 100
    assert torch.equal(loss_function(other, target), loss)

    # more confident in the truth is better
    truth = F.one_hot(target.where(target < 255, 5), 6)[..., :5].permute(0, 3, 1, 2) * 3.0
    assert loss_function(logits + truth, target) < loss


@pytest.mark.parametrize(("name", "weighted"), CHOICES)
def test_nothing_counted(name: str, weighted: bool) -> None:
    logits, target = example()
    weights = torch.rand(5) if weighted else None
    loss = build_loss(name, 0, weights)(logits, torch.full_like(target, 255))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits(name: str, dtype: torch.dtype, size: float) -> None:
    logits, target = example()
    extreme = (logits.detach().sign() * size).to(dtype).requires_grad_()
    loss = build_loss(name, 0)(extreme, target)
    loss.backward()
    assert loss.isfinite()
    assert extreme.grad.isfinite().all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torch_s(
    weighted: bool, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, and gradients of what is multiplied and of a graph that is used twice."""
    few_lines_at_a_time(monkeypatch)
    logits, target = example()
    logits = logits.detach().contiguous(memory_format=memory_format).requires_grad_()
    weights = torch.rand(5) + 0.1 if weighted else None
    expected = F.cross_entropy(logits, target, weights, ignore_index=255)
    loss = cross_entropy(logits, target, weights)
    torch.testing.assert_close(loss, expected)
    for factor in (1, 3, 1):
        found, = torch.autograd.grad(factor * loss, logits, retain_graph=True)
        assert found.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(
            found, torch.autograd.grad(factor * expected, logits, retain_graph=True)[0])


def test_small_gradients_of_half_precision_are_not_lost() -> None:
    """They are multiplied to fit, as in training, before they are rounded."""
    logits = torch.zeros(1, 2, 400, 400, dtype=torch.float16, requires_grad=True)
    target = torch.zeros(1, 400, 400, dtype=torch.int64)
    (65_536 * cross_entropy(logits, target)).backward()
    expected = torch.full_like(logits.grad, 65_536 / 320_000)
    torch.testing.assert_close(logits.grad[:, 1], expected[:, 1])


@pytest.mark.parametrize("name", ["cross_entropy", "ohem", "image_weighted"])
@pytest.mark.parametrize("value", [-torch.inf, torch.inf, torch.nan])
def test_logits_that_are_not_finite_are_noticed(name: str, value: float) -> None:
    logits, target = (each.detach().clone() for each in example())
    logits[0, target[0, 5, 5], 5, 5] = value
    assert not build_loss(name, 0)(logits.requires_grad_(), target).isfinite()


def test_logits_of_pixels_that_do_not_count_say_nothing() -> None:
    logits, target = (each.detach().clone() for each in example())
    logits[0, :, 0, 0] = -torch.inf
    assert cross_entropy(logits, target).isfinite()


@pytest.mark.parametrize("name", ["cross_entropy", "image_weighted", "label_relaxation"])
@pytest.mark.parametrize("shape", [(4, 9, 11), (2, 9, 1), (1, 9, 11), (2, 3, 11)])
def test_targets_of_other_sizes_are_an_error(name: str, shape: tuple[int, ...]) -> None:
    logits, _ = example()
    with pytest.raises(ValueError, match="a target of"):
        build_loss(name, 0)(logits, torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("weights", [None, torch.ones(5)])
def test_classes_that_the_network_lacks_are_an_error(weights: torch.Tensor | None) -> None:
    logits, target = example()
    target[0, 0, 0] = 5
    with pytest.raises((IndexError, RuntimeError), match="out of (bounds|range)"):
        cross_entropy(logits, target, weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
def test_bce_is_torch_s_of_one_hot_targets(
    weighted: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the valid pixels, values and gradients; in parts of some lines, as of large logits."""
    few_lines_at_a_time(monkeypatch)
    logits, target = example()
    logits = (8 * logits).detach().to(dtype).requires_grad_()
    weights = torch.rand(5, generator=torch.Generator().manual_seed(1)) + 0.1
    loss = bce(logits, target, weights if weighted else None)
    (gradient,) = torch.autograd.grad(3 * loss, logits)

    exact = logits.detach().double().requires_grad_()
    valid = target < 255
    rows, ids = exact.movedim(1, -1)[valid], target[valid]
    weight = weights.double() / weights.double().mean() if weighted else None
    expected = F.binary_cross_entropy_with_logits(rows, F.one_hot(ids, 5).double(), weight)
    (3 * expected).backward()
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert gradient.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=tolerance, atol=1e-12)


def test_bce_s_gradient_of_a_nearly_sure_class() -> None:
    """sigmoid(20) - 1 would be 0 in 32 bits."""
    logits = torch.full((1, 1, 32, 32), 20.0, requires_grad=True)
    bce(logits, torch.zeros(1, 32, 32, dtype=torch.int64)).backward()
    assert logits.grad[0, 0, 0, 0].item() * 1024 == pytest.approx(-2.0611536e-9, rel=1e-5)


def test_class_of_weight_zero_alone() -> None:
    logits, target = example()
    loss = cross_entropy(logits, torch.zeros_like(target), torch.tensor([0.0, 1, 1, 1, 1]))
    assert loss == 0


def test_ohem_keeps_the_hard_pixels() -> None:
    """Three pixels: two easy (p = 0.99, 0.9), one hard (p = 0.1)."""
    p = torch.tensor([0.99, 0.9, 0.1])
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None]  # (1, 2, 1, 3)
    target = torch.zeros(1, 1, 3, dtype=torch.int64)
    assert ohem(logits, target).item() == pytest.approx(-torch.tensor(0.1).log().item(), rel=1e-5)
    # with none below the threshold, the hardest 2 of 3 are kept
    easy = ohem(logits, target, threshold=0.05, least=0.6)
    expected = -(torch.tensor(0.1).log() + torch.tensor(0.9).log()) / 2
    assert easy.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("threshold", "least", "kept"), [
    (0.7, 1 / 16, [0.6, 0.5, 0.1]),  # all that are below, though one would be enough
    (0.55, 1 / 16, [0.5, 0.1]), (0.55, 0.7, [0.6, 0.5, 0.1]), (0.95, 1 / 16, [0.9, 0.6, 0.5, 0.1]),
])
def test_ohem_by_hand(threshold: float, least: float, kept: list[float]) -> None:
    p = torch.tensor([0.9, 0.6, 0.5, 0.1])
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None]
    target = torch.zeros(1, 1, 4, dtype=torch.int64)
    expected = -torch.tensor(kept).log().mean().item()
    found = ohem(logits, target, threshold=threshold, least=least).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_enet_weights_equal_published() -> None:
    reference = json.loads((FIXTURES / "enet_class_weights.json").read_text())
    weights = class_weights("enet", torch.tensor(reference["histogram"]))
    assert weights.tolist() == pytest.approx(reference["class_weights"], rel=1e-6)


def test_class_weights() -> None:
    pixels = torch.tensor([900, 90, 10])
    assert class_weights("none", pixels) is None
    strong, mild = (class_weights(name, pixels) for name in ("enet", "enet110"))
    assert strong[2] / strong[0] > mild[2] / mild[0] > 1
    assert set(CLASS_WEIGHTS) == {"none", "enet", "enet110"}
