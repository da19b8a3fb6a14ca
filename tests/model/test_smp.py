"""Networks of segmentation_models_pytorch compute what that package computes, at any size."""

import json
import socket
import sys
from pathlib import Path

import pytest
import torch
from conftest import FIXTURES
from test_prediction import with_statistics
from torch import nn

import model
from model.fusion import fuse
from model.layers import IMAGENET_MEAN, IMAGENET_STD
from model.published import rename
from model.smp import names
from model.smp.weights import HEAD, count_classes, fit_encoder, to_ours
from model.snapshot import build_with_weights, load_weights

smp = pytest.importorskip("segmentation_models_pytorch")
LIGHT = "smp:unet:timm-mobilenetv3_small_minimal_100"
VIT = "tu-vit_tiny_patch16_224"
ENCODERS = {"dpt": VIT, "segformer": "mit_b0"}  # of an architecture; resnet18 otherwise
ARCHITECTURES = list(smp.MODEL_ARCHITECTURES_MAPPING)
# All go through the same code of ours; these have every stride and both kinds of encoder.
USUAL = ("unet", "fpn", "pspnet", "deeplabv3plus", "segformer", "dpt")
NAMES = [pytest.param(f"smp:{each}:{ENCODERS.get(each, 'resnet18')}",
                      marks=[pytest.mark.slow] * (each not in USUAL)) for each in ARCHITECTURES]
ANY_SIZE = ((32, 32), (33, 129))


def plain(name: str, num_classes: int) -> nn.Module:
    """The package's own network, with batch norms that do something."""
    torch.manual_seed(0)
    _, architecture, encoder = name.split(":")
    options = {"dynamic_img_size": True} if architecture == "dpt" else {}
    return with_statistics(smp.create_model(architecture, encoder, None, classes=num_classes,
                                            **options))


def pixels(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("reference", ["DeepLabV3Plus", "Unet"])
def test_parameters_are_those_of_a_published_pipeline(reference: str) -> None:
    told = json.loads((FIXTURES / f"smp_{reference}_efficientnet-b4.json").read_text())
    with torch.device("meta"):
        network = model.build_model(f"smp:{reference.lower()}:efficientnet-b4", 20)
        theirs = rename({key: torch.empty(shape) for key, shape, _ in told["keys"]}, HEAD)
    ours = network.state_dict()
    assert model.count_parameters(network) == told["param_count"]
    assert {key: each.shape for key, each in theirs.items()} == {
        key: each.shape for key, each in ours.items()}


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_logits_are_the_package_s(name: str) -> None:
    theirs, images = plain(name, 5), pixels(128, 160)
    network = model.build_model(name, 5).eval()
    load_weights(network, to_ours(theirs.state_dict(), network.encoder))
    expected = theirs(network.normalize(images))
    coarse = network(images, full_size=False)
    full = network.upsample(coarse, (128, 160))
    for found in (network(images), full):
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert coarse.shape[-2:] == (128 // network.stride, 160 // network.stride)
    for rows in (slice(0, 5), slice(61, 128)):
        found = network.upsample(coarse, (128, 160), rows)
        torch.testing.assert_close(found, full[:, :, rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_any_size(name: str) -> None:
    network = model.build_model(name, 5).eval()
    for size in ANY_SIZE:
        images = pixels(*size)
        coarse = network(images, full_size=False)
        assert network(images).shape == network.upsample(coarse, size).shape == (2, 5, *size)


@torch.no_grad()
def test_mirrors_at_the_right_and_the_bottom() -> None:
    network = with_statistics(model.build_model("smp:fpn:resnet18", 4))
    images = pixels(70, 50)
    rows, columns = (last - (torch.arange(side) - last).abs()
                     for side, last in ((96, 69), (64, 49)))
    padded = images[:, :, rows][..., columns]
    torch.testing.assert_close(network(images), network(padded)[:, :, :70, :50])


@pytest.mark.parametrize("name", [
    LIGHT, "smp:pspnet:resnet18", "smp:unet:efficientnet-b0", "smp:dpt:tu-vit_tiny_patch16_224",
])
def test_what_wants_a_gradient_gets_one(name: str) -> None:
    """Else data-parallel training would wait for ever."""
    with torch.device("meta"):
        network = model.build_model(name, 3)
        assert network.training
        network(torch.empty(2, 3, 64, 64, dtype=torch.uint8)).square().mean().backward()
    wanted = [n for n, p in network.named_parameters() if p.requires_grad]
    assert [n for n, p in network.named_parameters() if p.grad is not None] == wanted
    assert len(wanted) > 20


@pytest.mark.parametrize("encoder", [
    "resnet18", "densenet121", "dpn68", "efficientnet-b0", "mobileone_s0", "tu-ghostnet_050",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg11_bn", "tu-resnetv2_50")),
])
@torch.no_grad()
def test_fused_networks_compute_the_same(encoder: str) -> None:
    torch.manual_seed(0)
    network = with_statistics(model.build_model(f"smp:unet:{encoder}", 5)).double()
    images = pixels(64, 96)[:1].double()
    expected = network(images, full_size=False)
    found = fuse(network)(images, full_size=False)
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize(("encoder", "mean", "std"), [
    ("resnet18", IMAGENET_MEAN, IMAGENET_STD), ("efficientnet-b4", IMAGENET_MEAN, IMAGENET_STD),
    ("dpn68", (124, 117, 104), (1 / 0.0167,) * 3), ("xception", (127.5,) * 3, (127.5,) * 3),
    ("inceptionv4", (127.5,) * 3, (127.5,) * 3),
    ("timm-tf_efficientnet_lite0", (127.5,) * 3, (127.5,) * 3),
    ("tu-convnext_tiny", IMAGENET_MEAN, IMAGENET_STD), (VIT, (127.5,) * 3, (127.5,) * 3),
    ("timm-mobilenetv3_small_minimal_100", (127.5,) * 3, (127.5,) * 3),
    ("timm-regnetx_002", IMAGENET_MEAN, IMAGENET_STD),
])
def test_statistics(encoder: str, mean: tuple, std: tuple) -> None:
    assert names.statistics(encoder)[0] == pytest.approx(mean)
    assert names.statistics(encoder)[1] == pytest.approx(std)


def test_options_are_recorded() -> None:
    with torch.device("meta"):
        network = model.build_model("smp:deeplabv3plus:resnet18", 7, output_stride=8)
        assert model.build_model(LIGHT, 7).config["options"].keys() == {
            "mean", "std", "package_options"}
    assert network.multiple == 8
    assert network.config == {
        "arch": "smp:deeplabv3plus:resnet18", "num_classes": 7,
        "options": {"output_stride": 8, "mean": IMAGENET_MEAN, "std": IMAGENET_STD,
                    "package_options": None},
    }


@pytest.mark.parametrize(("name", "message"), [
    ("smp:unett:resnet18", "architectures: unet, unetplusplus"),
    ("smp:unet", "smp:ARCHITECTURE:ENCODER is expected"),
    ("smp:unet:convnext_tiny", "unknown encoder 'convnext_tiny'; close to it: tu-convnext_tiny"),
    ("smp:unet:resnet19", "close to it: resnet1"),
    ("smp:unet:tu-resnet18.nobody", "unknown encoder"),
    ("smp:unet:" + VIT, "does not go with this architecture .Unsupported model downsampling"),
    ("smp:dpt:resnet18", "Only Timm encoders are supported"),
    ("smp:unet:tu-maxvit_tiny_tf_224", "cannot take images of any size"),
])
def test_refusals(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        model.build_model(name, 5)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("package", ["segmentation_models_pytorch", "timm"])
def test_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "segmentation_models_pytorch":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"needs {package}, .*pip install segmentation-models"):
        model.check_name("smp:unet:resnet18")
    assert model.check_name("cspsg_n") == "cspsg_n"


def test_nothing_is_downloaded_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **words: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    model.build_model(LIGHT, 5)
    monkeypatch.setattr(smp.encoders, "hf_hub_download", refuse)
    with pytest.raises(ValueError, match="downloading the weights of resnet18 .no network here"):
        build_with_weights("smp:unet:resnet18", 5, encoder="imagenet")


def test_which_weights_are_of_imagenet() -> None:
    assert names.pretrained_tag("resnet18") == "imagenet"
    assert names.pretrained_tag("dpn92") == "imagenet+5k"
    with pytest.raises(ValueError, match="timm has no weights for resnetv2_152"):
        names.pretrained_tag("tu-resnetv2_152")


def test_asked_for_weights_arrive_in_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    from segmentation_models_pytorch.decoders.unet import model as unet

    get, asked = unet.get_encoder, []

    def downloading(name: str, weights: str | None, **options: object) -> nn.Module:
        asked.append(weights)
        encoder = get(name, weights=None, **options)
        if weights:
            nn.init.constant_(encoder.conv1.weight, 7)
        return encoder

    monkeypatch.setattr(unet, "get_encoder", downloading)
    network, notes = build_with_weights("smp:unet:resnet18", 5, encoder="imagenet")
    assert asked == [None, "imagenet"]
    assert (network.encoder.conv1.weight == 7).all()
    assert notes == ["encoder: imagenet, 120 tensors; the rest is new"]


@pytest.mark.parametrize(("encoder", "source"), [
    ("resnet18", "package"), ("resnet18", "network"), ("tu-convnext_atto", "timm"),
    ("timm-mobilenetv3_small_minimal_100", "timm"),
])
def test_encoder_is_filled_from_files(encoder: str, source: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    name = f"smp:unet:{encoder}"
    if source == "timm":
        weights = timm.create_model(names.timm_name(encoder)).state_dict()
    elif source == "network":
        weights = plain(name, 3).state_dict()
    else:
        weights = smp.encoders.get_encoder(encoder).state_dict() | {"fc.bias": torch.zeros(1000)}
    torch.save(weights, tmp_path / "x.pth")
    network, notes = build_with_weights(name, 5, encoder=str(tmp_path / "x.pth"))
    ours, left = fit_encoder(network.encoder, weights)
    for key, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, ours[key])
    assert f"{len(ours)} tensors" in notes[0]
    assert ("left out" in notes[0]) == bool(left) == (source != "network")
    with pytest.raises(ValueError, match="not this encoder"):
        build_with_weights("smp:unet:resnet34", 5, encoder=str(tmp_path / "x.pth"))


def test_what_is_no_network_of_the_package() -> None:
    with pytest.raises(ValueError, match="x.pth: has no segmentation_head"):
        count_classes({"conv1.weight": torch.zeros(1)}, "x.pth")
    network = model.build_model(LIGHT, 5)
    extra = {f"encoder.{key}": torch.zeros(1) for key in ("strange", "other")}
    with pytest.raises(ValueError, match="encoder.strange unknown"):
        load_weights(network, to_ours(plain(LIGHT, 5).state_dict() | extra, network.encoder))


def test_old_names_of_deeplabv3() -> None:
    network = model.build_model("smp:deeplabv3:resnet18", 5)
    weights = plain("smp:deeplabv3:resnet18", 5).state_dict()
    numbers = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.",
               "decoder.bn.": "decoder.2."}
    for new, old in numbers.items():
        weights = {key.replace(new, old): tensor for key, tensor in weights.items()}
    assert not any("aspp" in key for key in weights)
    load_weights(network, to_ours(weights, network.encoder))
    assert torch.equal(network.decoder.conv.weight, weights["decoder.1.weight"])
