"""Contracts of networks, run over MODELS."""

import json
import re
from pathlib import Path

import make_weights
import numpy as np
import pytest
import torch
from conftest import FIXTURES, NETWORKS
from torch import nn

import model
from model.cspsg import Encoder, form
from model.encoders.resnet import ResNetEncoder
from model.layers import IMAGENET_MEAN, IMAGENET_STD, Normalize
from model.published import recognize
from model.snapshot import build_with_weights, from_snapshot, load_model, load_weights
from utils.inference.predictor import Predictor

SLOW = ("nvidia_DeepSRNX101V3PlusD", "nvidia_DeepV3Plus_resnet101", "cspsg_yolov5-2",
        "cspsg_yolov56-4", "cspsg_yolov8-4")
REFERENCES = [
    pytest.param(path.stem, marks=[pytest.mark.slow] * path.stem.startswith(SLOW))
    for path in sorted(FIXTURES.glob("*.npz"))
    if "keys" in json.loads(path.with_suffix(".json").read_text())
    and not re.search("SDCNet|segformer", path.stem)
]
OPTIONS = {"nvidia_DeepV3Plus_resnet50_D16_m2": {"output_stride": 16}}  # in no name, in no shape
PARAMETERS = {  # classes, parameters
    "deeplabv3_resnet18": (20, 15_315_028),
    "deeplabv3_resnet34": (20, 25_423_188),
    "deeplabv3_resnet50": (20, 39_049_812),
    "deeplabv3_resnet101": (20, 58_041_940),
    "deeplabv3_resnet152": (20, 73_685_588),
    "deeplabv3plus_wide_resnet38": (19, 137_103_936),
    "deeplabv3plus_se_resnext50": (19, 42_353_904),
    "deeplabv3plus_se_resnext101": (19, 63_749_424),
    "deeplabv3plus_resnet50": (19, 40_351_040),
    "deeplabv3plus_resnet101": (19, 59_343_168),
    "cspsg_n": (19, 1_211_155),
    "cspsg_s": (19, 4_825_619),
    "cspsg_m": (19, 14_121_235),
    "cspsg_l": (19, 30_913_555),
    "cspsg_x": (19, 57_383_699),
    "cspsg_x_stride2": (19, 57_453_539),
    "cspsg_x_stride64": (19, 90_690_579),
    "cspsg_x_c2f": (19, 68_829_379),
    "deeplabv3plus_efficientnet_lite0": (11, 3_439_803),
    "deeplabv3plus_efficientnet_lite2": (11, 4_866_459),
    "segformer": (19, 13_682_131),
    "segformer_b0": (19, 3_719_027),
    "segformer_b1": (19, 13_682_131),
    "segformer_b2": (19, 27_361_235),
    "segformer_b3": (19, 47_237_075),
    "segformer_b4": (19, 64_007_635),
    "segformer_b5": (19, 84_607_955),
    "sgcpnet": (19, 607_826),
}
LIGHT = [name for name, (_, parameters) in PARAMETERS.items() if parameters < 16e6]
LIGHT += ["deeplabv3plus_resnet50"]
SIZES = ((32, 32), (33, 129))  # 33: mirrored as far as can be


def with_statistics(network: nn.Module) -> nn.Module:
    """As after a training: batch norms that do something."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def upstream_weights(name: str) -> dict[str, torch.Tensor]:
    reference = json.loads((FIXTURES / f"{name}.json").read_text())
    return make_weights.fill([tuple(row) for row in reference["keys"]], reference["fill_seed"])


def cspsg_weights(width: int = 16, num_classes: int = 19) -> dict[str, torch.Tensor]:
    """The tensors of a CSPSG that decide which one it is."""
    return {
        "model.0.conv.weight": torch.zeros(width, 3, 6, 6),
        "model.22.conv.weight": torch.zeros(1),
        "model.24.m.0.weight": torch.zeros(1),
        "model.24.m.0.bias": torch.zeros(num_classes),
    }


def yolov5_detector() -> dict[str, torch.Tensor]:
    """Some tensors of the detector with whose encoder and numbering CSPSG began."""
    weights = cspsg_weights()
    del weights["model.22.conv.weight"]  # layer 22 is without weights there
    return weights | {"model.24.m.1.weight": torch.zeros(1)}


def unfilled(name: str, num_classes: int, **options: int) -> nn.Module:
    """Without initial values, which take long; the largest without memory, as it computes long."""
    with torch.device("meta"):
        network = model.build_model(name, num_classes, **options)
    return network if "wide" in name else network.to_empty(device="cpu")


def blank(network: nn.Module, *size: int) -> torch.Tensor:
    """(2, 3, H, W) uint8 on its device."""
    return torch.zeros(2, 3, *size, dtype=torch.uint8, device=next(network.parameters()).device)


@pytest.mark.parametrize("name", model.MODELS)
def test_parameters(name: str) -> None:
    num_classes, parameters = PARAMETERS[name]
    with torch.device("meta"):
        network = model.build_model(name, num_classes)
    assert model.count_parameters(network) == parameters


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_shapes(name: str) -> None:
    network = unfilled(name, 5).eval()
    for size in SIZES:
        images = blank(network, *size)
        coarse = network(images, full_size=False)
        assert coarse.shape[-1] < size[1]
        assert network(images).shape == network.upsample(coarse, size).shape == (2, 5, *size)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", [name for name in model.MODELS if name.startswith("deeplabv3_")])
@torch.no_grad()
def test_output_stride(name: str, output_stride: int) -> None:
    network = unfilled(name, 5, output_stride=output_stride).eval()
    for size in SIZES:
        coarse = network(blank(network, *size), full_size=False)
        assert coarse.shape == (2, 5, *(-(-n // output_stride) for n in size))


@pytest.mark.parametrize("name", REFERENCES)
def test_parity_with_published_outputs(name: str) -> None:
    reference, outputs = (
        json.loads((FIXTURES / f"{name}.json").read_text()), np.load(FIXTURES / f"{name}.npz")
    )
    snapshot = recognize(upstream_weights(name), name)
    network = from_snapshot(snapshot, **OPTIONS.get(name, {})).double()
    assert model.count_parameters(network) == reference["param_count"]
    for i in (0, 1)[: 1 if "WV3" in name else 2]:  # the widest takes as long as all others
        height, width, seed = (int(n) for n in outputs[f"in{i}"])
        normalized = make_weights.image(height, width, seed).double()
        if name.startswith("fregu856"):
            normalized = normalized.flip(1)  # that project reads BGR
        with torch.no_grad():
            images = normalized * network.normalize.std + network.normalize.mean
            logits = network(images, full_size=not name.startswith("sgcpnet"))
        assert logits.shape == tuple(outputs[f"out{i}_shape"])
        stride = int(outputs[f"out{i}_stride"])
        difference = logits[:, :, ::stride, ::stride].numpy() - outputs[f"out{i}"]
        assert np.abs(difference).max() <= 1e-6 * outputs[f"out{i}_stats"][2]
        assert (logits.argmax(1)[0].numpy() == outputs[f"out{i}_argmax"]).mean() >= 0.9999


def test_published_checkpoint_sees_what_upstream_saw(tmp_path: Path) -> None:
    """uint8 RGB into ours = BGR normalized with RGB statistics into theirs."""
    name = "fregu856_deeplabv3_ResNet18_OS8"
    weights = upstream_weights(name)
    torch.save({f"module.{key}": tensor for key, tensor in weights.items()}, tmp_path / "x.pth")
    network = load_model(tmp_path / "x.pth")
    assert network.config["arch"] == "deeplabv3_resnet18"
    assert network.config["options"]["output_stride"] == 8
    rgb = torch.from_numpy(make_weights.photo(64, 96)).permute(2, 0, 1)[None]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    theirs = nn.functional.conv2d(
        (rgb.flip(1) - mean) / std, weights["resnet.resnet.0.weight"], stride=2, padding=3
    )
    ours = network.encoder.conv1(network.normalize(rgb))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [
    "deeplabv3_resnet18", "cspsg_n", "sgcpnet", "deeplabv3plus_wide_resnet38",
    "deeplabv3plus_se_resnext50",
])
def test_names_are_frozen(name: str) -> None:
    """Checkpoints in the world carry these names."""
    with torch.device("meta"):
        names = list(model.build_model(name, 19).state_dict())
    assert names == (FIXTURES / f"names_{name}.txt").read_text().split()


def test_published_camvid_weights_have_its_classes() -> None:
    weights = upstream_weights("cspsg_yolov5n-4")
    for key in ("model.24.m.0.weight", "model.24.m.0.bias"):
        weights[key] = weights[key][:11]
    snapshot = recognize(weights, "x.pth")
    assert snapshot["dataset"] == {"name": "camvid"}
    assert from_snapshot(snapshot).classifier.out_channels == 11


def test_encoder_has_torchvision_names() -> None:
    from torchvision.models import resnet50

    with torch.device("meta"):
        theirs = {k: v.shape for k, v in resnet50().state_dict().items() if not k.startswith("fc.")}
        ours = {k: v.shape for k, v in ResNetEncoder(50, 16).state_dict().items()}
    assert ours == theirs


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_full_size_is_upsampled_coarse(name: str) -> None:
    network = model.build_model(name, 4).eval()
    images = torch.randint(0, 256, (1, 3, 70, 50), dtype=torch.uint8)
    coarse = network(images, full_size=False)
    torch.testing.assert_close(network(images), network.upsample(coarse, (70, 50)))


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_prediction_at_another_size_is_of_the_whole_image(name: str) -> None:
    network = model.build_model(name, 4).eval()
    image = torch.randint(0, 256, (70, 50, 3), dtype=torch.uint8)
    logits = network(image.permute(2, 0, 1)[None])
    resized = nn.functional.interpolate(logits, size=(105, 80), mode="bilinear")
    agree = Predictor(network)(image, (105, 80)) == resized.argmax(1)[0]
    assert agree.double().mean() > 0.999


@torch.no_grad()
@pytest.mark.parametrize(("name", "multiple"), [
    ("cspsg_n", 32), ("deeplabv3plus_efficientnet_lite0", 32), ("segformer_b0", 32),
    pytest.param("cspsg_x_stride64", 64, marks=pytest.mark.slow),
])
def test_sides_are_filled_up(name: str, multiple: int) -> None:
    torch.manual_seed(0)
    network = with_statistics(model.build_model(name, 4))  # else little of the edge is to be seen
    images = torch.randint(0, 256, (1, 3, 70, 50), dtype=torch.uint8)
    height, width = (-(-side // multiple) * multiple for side in (70, 50))
    rows, columns = (last - (torch.arange(side) - last).abs() if multiple == 32 else
                     torch.arange(side).clamp(max=last)
                     for side, last in ((height, 69), (width, 49)))
    padded = images[:, :, rows][..., columns]
    torch.testing.assert_close(network(images), network(padded)[:, :, :70, :50])


def test_csp_encoder_has_five_strides() -> None:
    with torch.device("meta"):
        encoder = Encoder(form(8, 1))
        shapes = [tuple(features.shape) for features in encoder(torch.empty(1, 3, 64, 96))]
    assert shapes == [(1, 8, 32, 48), (1, 16, 16, 24), (1, 32, 8, 12), (1, 64, 4, 6),
                      (1, 128, 2, 3)]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = unfilled(name, 3).train()
    network(blank(network, 64, 64)).square().mean().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None]


def test_normalize_keeps_its_constants() -> None:
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    expected = (images.double() - torch.tensor(IMAGENET_MEAN).double().view(3, 1, 1)) / (
        torch.tensor(IMAGENET_STD).double().view(3, 1, 1)
    )
    for convert in (nn.Module.float, nn.Module.half, nn.Module.bfloat16):
        normalize = convert(Normalize(IMAGENET_MEAN, IMAGENET_STD))
        assert normalize(images).dtype == torch.float32
        torch.testing.assert_close(normalize(images).double(), expected, rtol=1e-6, atol=1e-6)
    doubled = Normalize(IMAGENET_MEAN, IMAGENET_STD).double()
    assert torch.equal(doubled(images.double()), doubled(images))
    empty = Normalize(IMAGENET_MEAN, IMAGENET_STD).to("meta").to_empty(device="cpu")
    assert empty.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    assert not doubled.state_dict()


def test_options_are_recorded() -> None:
    with torch.device("meta"):
        network = model.build_model("deeplabv3_resnet18", 7, mean=(1.0, 2.0, 3.0))
    assert network.config == {
        "arch": "deeplabv3_resnet18",
        "num_classes": 7,
        "options": {"output_stride": 16, "mean": (1.0, 2.0, 3.0), "std": IMAGENET_STD},
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model.build_model("resnet19", 19), "deeplabv3_resnet18"),
        (lambda: model.build_model("deeplabv3_resnet18", 19, stride=8), "output_stride"),
        (lambda: model.build_model("deeplabv3_resnet18", 19, output_stride=4), "8 or 16"),
        (lambda: model.build_model("cspsg_n", 19, output_stride=8), "output_stride"),
        (lambda: build_with_weights("cspsg_n", 19, encoder="imagenet"), "give a FILE"),
        (lambda: recognize({"conv.weight": torch.zeros(1)}, "x.pth"), "conv.weight"),
        (lambda: recognize(cspsg_weights(width=24), "x.pth"), "widths 16, 32"),
        (lambda: recognize(cspsg_weights(num_classes=5), "x.pth"), "11 .CamVid. classes"),
        (lambda: recognize(yolov5_detector(), "x.pth"), "look like a YOLOv5 detector"),
    ],
)
def test_refusals_name_what_is_allowed(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_load_weights_is_strict() -> None:
    network = model.build_model("deeplabv3_resnet18", 19)
    weights = network.state_dict()
    missing = {k: v for k, v in weights.items() if k != "encoder.conv1.weight"}
    with pytest.raises(ValueError, match=r"encoder\.conv1\.weight missing"):
        load_weights(network, missing)
    with pytest.raises(ValueError, match="extra unknown"):
        load_weights(network, weights | {"extra": torch.zeros(1)})
    other = model.build_model("deeplabv3_resnet18", 11).state_dict()
    with pytest.raises(ValueError, match=r"classifier\.weight is"):
        load_weights(network, other)
    before = network.classifier.weight.clone()
    assert load_weights(network, other, except_="classifier.") == [
        "classifier.weight", "classifier.bias",
    ]
    assert torch.equal(network.classifier.weight, before)
    assert torch.equal(network.encoder.conv1.weight, other["encoder.conv1.weight"])


def test_encoder_alone_is_filled(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    path = str(tmp_path / "resnet18.pth")
    network, notes = build_with_weights("deeplabv3_resnet18", 19, encoder=path)
    assert "120 tensors" in notes[0]
    expected = torch.load(tmp_path / "resnet18.pth")
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, expected[name])
    with pytest.raises(ValueError, match="not this encoder"):
        build_with_weights("deeplabv3_resnet34", 19, encoder=path)


@pytest.mark.parametrize("part", ["init", "encoder"])
def test_published_weights_bring_their_statistics(part: str, tmp_path: Path) -> None:
    path = str(tmp_path / "fregu856.pth")
    torch.save(upstream_weights("fregu856_deeplabv3_ResNet18_OS16"), path)
    theirs = load_model(path)
    network, _ = build_with_weights("deeplabv3_resnet18", 20, **{part: path})
    assert network.config["options"]["mean"] == IMAGENET_MEAN[::-1]
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        ours = network.eval().encoder(network.normalize(images))
        assert torch.equal(ours, theirs.encoder(theirs.normalize(images)))
        assert torch.equal(network(images), theirs(images)) == (part == "init")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.float64])
def test_pixels_are_normalized_alike_in_any_memory_format(dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8).to(dtype)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    expected = (images.to(torch.promote_types(dtype, torch.float32))
                - normalize.mean) / normalize.std
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given = images.clone(memory_format=memory_format)
        assert torch.equal(normalize(given), expected)
        assert torch.equal(given, images)  # which are left as they were
