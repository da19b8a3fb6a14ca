"""Label relaxation and image weights: published numbers, brute force, gradients, extremes."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import astuple, replace
from importlib import import_module

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from make_weights import normals
from torch import Tensor

from model.losses import build_loss
from model.losses.label_relaxation import (
    LossOptions,
    class_sets,
    image_weighted,
    label_relaxation,
    thick_borders,
)

STRICT = (5, 6, 7, 11, 12, 17, 18)
BATCHES = {"m0": [0], "m1": [1], "m2": [2], "b01": [0, 1], "b12": [1, 2]}
TEXT = json.loads((FIXTURES / "label_relaxation.json").read_text())
CASES = [case for case in TEXT["cases"] if not case.startswith("plain")]


@pytest.fixture(scope="module")
def published() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / "label_relaxation.npz"))


def inputs_of(published: dict, batch: str) -> tuple[Tensor, Tensor]:
    labels = torch.from_numpy(published["labels"]).long()
    values = 3 * normals("logits", (3, 19, *labels.shape[1:]), int(published["logit_seed"]))
    picked = BATCHES[batch]
    return torch.from_numpy(values)[picked].double().requires_grad_(), labels[picked]


def loss_of(case: str, upstream: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """That of a name as relaxed_off_strict_bw1_b01, in an epoch in which "off" is off."""
    options = LossOptions(
        strict=STRICT if "strict" in case else (), relax_until=0 if "off" in case else None,
        batch_weighting="bw1" in case, upstream_batch_scale=upstream,
    )
    name = "image_weighted" if case.startswith("imgwt") else "label_relaxation"
    return build_loss(name, epoch=1, options=options)


@pytest.mark.parametrize("case", CASES)
def test_published_values_and_gradients(case: str, published: dict) -> None:
    reference = TEXT["cases"][case]
    logits, target = inputs_of(published, case.split("_")[-1])
    loss = loss_of(case, upstream=True)(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(reference["loss"], rel=1e-5)
    grad = logits.grad
    assert grad.abs().sum().item() == pytest.approx(reference["grad_abs_sum"], rel=1e-5)
    assert grad.abs().max().item() == pytest.approx(reference["grad_abs_max"], rel=1e-5)
    if f"grad_{case}" in published:
        torch.testing.assert_close(
            grad[:, :, ::4, ::4], torch.from_numpy(published[f"grad_{case}"]).double(),
            rtol=0, atol=1e-5 * reference["grad_abs_max"])


@pytest.mark.parametrize("case", [case for case in CASES if "bw0" in case])
def test_ours_is_the_mean_of_single_images(case: str, published: dict) -> None:
    """Whatever the size of the batch; published single images have no mistake to correct."""
    name, batch = case.rsplit("_", 1)
    logits, target = inputs_of(published, batch)
    singles = [TEXT["cases"][f"{name}_m{index}"]["loss"] for index in BATCHES[batch]]
    loss = loss_of(case, upstream=False)(logits, target)
    assert loss.item() == pytest.approx(np.mean(singles), rel=1e-5)


@pytest.mark.parametrize(("name", "window", "strict"), [
    ("default", 3, ()), ("strict", 3, STRICT), ("window2", 5, ()), ("off", 1, ()),
    ("off_strict", 1, STRICT),
])
def test_published_targets(name: str, window: int, strict: tuple, published: dict) -> None:
    labels = torch.from_numpy(published["labels"]).long()
    sets = class_sets(labels, 19, window, strict)
    masks = torch.nn.functional.one_hot(sets.only.clamp(max=19).long(), 20)[..., :19]
    masks.view(-1, 19)[sets.places] = sets.members.long()
    masks = torch.cat([masks, sets.void[..., None].long()], dim=-1)
    if "off" in name:
        masks = masks * (1 + thick_borders(labels).long())[..., None]
    assert np.array_equal(masks.permute(0, 3, 1, 2).numpy(), published[f"target_{name}"])


def look_around(target: Tensor, options: LossOptions) -> tuple[dict, dict]:
    """Of each (y, x) of an (H, W) target: the values that are near, and 2 beside a border."""
    reach, sets, doubled = options.window // 2, {}, {}
    values = torch.nn.functional.pad(target, [reach] * 4, value=255).tolist()
    height, width = target.shape
    for y, x in itertools.product(range(height), range(width)):
        own = target[y, x].item()
        near = {values[y + i][x + j] for i in range(options.window) for j in range(options.window)}
        sets[y, x] = {own} if own in options.strict else near
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        doubled[y, x] = 1 + (options.double_borders and any(
            target[i, j].item() != own for i, j in around if 0 <= i < height and 0 <= j < width))
    return sets, doubled


def plain(logits: Tensor, target: Tensor, options: LossOptions) -> Tensor:
    """The same from its definition, a pixel at a time."""
    classes, total, p = logits.shape[1], logits.new_zeros(()), logits.softmax(1)
    seen = [look_around(image, options) for image in target]
    counts = np.zeros((len(target), classes + 1))
    for image, (sets, doubled) in enumerate(seen):
        for place, near in sets.items():
            for c in near:
                counts[image, min(c, classes)] += doubled[place]
    if options.batch_weighting:
        counts[:] = counts.sum(0)
    share = counts / counts.sum(1, keepdims=True)
    weight = 1 + options.class_weight_bound * (1 - share) * (share > 0)
    for image, (sets, doubled) in enumerate(seen):
        losses = []
        for (y, x), near in sets.items():
            if own := [c for c in near if c != 255]:
                factor = weight[image, own].mean() * doubled[y, x]
                losses.append(-factor * p[image, own, y, x].sum().log())
        if losses:
            total = total + torch.stack(losses).sum() / (len(losses) + 1)
    return total / len(target)


def random_example(classes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    target = torch.randint(0, classes, (2, 4, 5), generator=generator)
    target = target.repeat_interleave(2, 1).repeat_interleave(2, 2)
    target[0, :4] = 255  # deeper than a window reaches
    target[1, 3, 3] = target[1, 6, 0] = 255
    target[1, 5, 5] = classes - 1
    logits = torch.randn(2, classes, *target.shape[1:], generator=generator, dtype=dtype)
    return logits.requires_grad_(), target


@pytest.mark.parametrize("options", [
    LossOptions(), LossOptions(window=5), LossOptions(window=7, strict=(0, 3)),
    LossOptions(strict=(1,), class_weight_bound=4.0), LossOptions(class_weight_bound=0.0),
    LossOptions(window=5, relax_until=1).at(2), LossOptions(relax_until=1).at(2),
    LossOptions(batch_weighting=True),
], ids=lambda options: ",".join(map(str, astuple(options))))
@pytest.mark.parametrize("classes", [2, 5, 65, 254])
def test_equals_its_definition(classes: int, options: LossOptions) -> None:
    logits, target = random_example(classes)
    loss, expected = label_relaxation(logits, target, options), plain(logits, target, options)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    grad, = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, logits)[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("epoch", [0, 3, 4, 100])
@pytest.mark.parametrize(("window", "after"), [(1, 1), (3, 1), (5, 3), (7, 3), (9, 5)])
def test_epochs(epoch: int, window: int, after: int) -> None:
    options = LossOptions(window=window, relax_until=3)
    assert options.at(epoch) == (options if epoch <= 3 else replace(
        options, window=after, double_borders=True))
    assert LossOptions(window=window).at(epoch) == LossOptions(window=window)


@pytest.mark.parametrize("options", [
    LossOptions(), LossOptions(window=5, relax_until=0).at(1),
    *(pytest.param(options, marks=pytest.mark.slow) for options in (
        LossOptions(upstream_batch_scale=True, batch_weighting=True),
        LossOptions(relax_until=0).at(1))),
], ids=lambda options: ",".join(map(str, astuple(options))))
@pytest.mark.parametrize("loss", [label_relaxation, image_weighted])
def test_gradient_by_differences(loss: Callable, options: LossOptions) -> None:
    logits, target = random_example(5)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, options), logits, fast_mode=True)


def test_parts_and_memory_formats_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = random_example(19, torch.float32)
    expected, = torch.autograd.grad(3 * label_relaxation(logits, target), logits)
    relaxation = import_module("model.losses.label_relaxation")  # the function has its name
    monkeypatch.setattr(relaxation, "CACHED", 3 * 19 * target.shape[2])
    assert len(list(relaxation.parts(logits))) == 2 * math.ceil(target.shape[1] / 3)
    for form in (torch.contiguous_format, torch.channels_last):
        other = logits.detach().contiguous(memory_format=form).requires_grad_()
        grad, = torch.autograd.grad(3 * label_relaxation(other, target), other)
        assert grad.stride() == other.stride()
        torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-8)


def test_a_graph_can_be_used_twice() -> None:
    logits, target = random_example(5)
    loss = label_relaxation(logits, target)
    first, = torch.autograd.grad(loss, logits, retain_graph=True)
    assert torch.equal(first, torch.autograd.grad(loss, logits)[0])


@pytest.mark.parametrize("name", ["image_weighted", "label_relaxation"])
def test_a_gap_at_which_softmax_underflows(name: str) -> None:
    """Where the published form, the log of a sum of probabilities, is not a number."""
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = 120
    target = torch.full((1, 4, 4), 1)
    target[:, :, 2:] = 2
    logits.requires_grad_()
    loss = build_loss(name, 0, options=LossOptions(class_weight_bound=0))(logits, target)
    # 8 pixels of one class, 8 of two, over 16 + 1 pixels; image_weighted has no + 1
    relaxed = (8 * 120 + 8 * (120 - math.log(2))) / 17
    assert loss.item() == pytest.approx(relaxed if name == "label_relaxation" else 120, rel=1e-6)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 0] > 0).all()


@pytest.mark.parametrize("name", ["image_weighted", "label_relaxation"])
def test_opposite_largest_numbers_are_not_nan(name: str) -> None:
    logits, target = random_example(5, torch.float32)
    extreme = (logits.detach().sign() * torch.finfo(torch.float32).max).requires_grad_()
    loss = build_loss(name, 0)(extreme, target)
    loss.backward()
    assert not loss.isnan()
    assert extreme.grad.isfinite().all()


@pytest.mark.parametrize("name", ["image_weighted", "label_relaxation"])
def test_bfloat16_is_rounded_only_at_the_ends(name: str) -> None:
    logits, target = random_example(19)
    rough = logits.detach().bfloat16().requires_grad_()
    exact = rough.detach().double().requires_grad_()
    losses = [build_loss(name, 0)(values, target) for values in (rough, exact)]
    assert losses[0].dtype == torch.float32
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    for loss in losses:
        loss.backward()
    assert rough.grad.dtype == torch.bfloat16
    torch.testing.assert_close(rough.grad.double(), exact.grad, rtol=2**-7, atol=1e-7)


def test_void_as_the_last_class() -> None:
    """3 of 4 pixels are class 0, 1 is class 1; 4 more of void."""
    logits, target = torch.randn(1, 2, 1, 8), torch.tensor([[[0, 0, 0, 1, 255, 255, 255, 255]]])
    nll = torch.nn.functional.cross_entropy(logits, target, ignore_index=255, reduction="none")
    for last_bin, shares in ((False, (3 / 4, 1 / 4)), (True, (3 / 8, 5 / 8))):
        weights = torch.tensor([2 - shares[0]] * 3 + [2 - shares[1]] + [0.0] * 4)
        loss = image_weighted(logits, target, LossOptions(upstream_last_bin=last_bin))
        torch.testing.assert_close(loss, (weights * nll).sum() / weights.sum())
