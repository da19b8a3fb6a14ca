"""Convolutions with fewer multiplications compute what the definition says."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import model
from model import winograd
from model.snapshot import open_predictor
from model.winograd import Winograd, use_winograd


def layer(before: int = 256, after: int = 256, dilation: int = 1, **options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, **options)


@pytest.mark.parametrize("part", [1, 1 << 17, 1 << 30])
@pytest.mark.parametrize(("shape", "dilation", "bias"), [
    ((1, 32, 64), 1, True), ((2, 33, 47), 1, False), ((1, 40, 44), 2, True),
    ((1, 31, 63), 4, False),
])
@torch.inference_mode()
def test_outputs(
    shape: tuple, dilation: int, bias: bool, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "PART", part)
    monkeypatch.setattr(winograd, "_gains", lambda _: True)
    plain = layer(8, 12, dilation, bias=bias)
    count, *size = shape
    x = torch.randn(count, 8, *size).contiguous(memory_format=torch.channels_last)
    given = x.clone()
    fast = use_winograd(nn.Sequential(plain))[0]
    monkeypatch.setattr(nn.Conv2d, "forward", None)  # not by the definition
    found = fast(x)
    expected = F.conv2d(*(each if each is None else each.double()
                          for each in (x, plain.weight, plain.bias)), padding=dilation,
                        dilation=dilation)
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()
    assert torch.equal(x, given)


@pytest.mark.parametrize(("shape", "dilation", "dtype"), [
    ((1, 20, 20), 1, torch.float32),  # few tiles
    ((1, 32, 64), 12, torch.float32),  # most of a tile outside the image
    ((1, 32, 64), 1, torch.bfloat16),
])
@torch.inference_mode()
def test_where_it_does_not_pay(shape: tuple, dilation: int, dtype: torch.dtype) -> None:
    plain = layer(8, 8, dilation)
    fast, plain = Winograd(plain).to(dtype), plain.to(dtype)
    x = torch.randn(shape[0], 8, *shape[1:], dtype=dtype)
    assert torch.equal(fast(x), plain(x))


@torch.inference_mode()
def test_autocast_has_the_definition() -> None:
    plain, x = layer(8, 8), torch.randn(1, 8, 32, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Winograd(plain)(x), plain(x))


@pytest.mark.parametrize("other", [
    layer(255), layer(after=128), layer(groups=2), layer(padding_mode="reflect"), layer().double(),
    nn.Conv2d(256, 256, 1), nn.Conv2d(256, 256, 3, stride=2, padding=1), nn.Conv2d(256, 256, 3),
    nn.Conv2d(256, 256, 3, padding=(1, 2), dilation=(1, 2)), nn.Conv2d(256, 256, 3, padding="same"),
    nn.Conv2d(2048, 1024, 3, padding=1, device="meta"),
], ids=str)
def test_others_stay(other: nn.Conv2d) -> None:
    assert use_winograd(nn.Sequential(other))[0] is other


@torch.inference_mode()
def test_networks_predict_with_it() -> None:
    torch.manual_seed(0)
    network = model.build_model("deeplabv3_resnet18", 5).eval()
    predictor = open_predictor({"model": network.config, "weights": network.state_dict()}, "cpu",
                               "fp32")
    assert sum(isinstance(each, Winograd) for each in predictor.network.modules()) == 10
    images = torch.randint(0, 256, (1, 3, 256, 512), dtype=torch.uint8)
    expected = network(images, full_size=False)
    found = predictor.network(images, full_size=False)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
