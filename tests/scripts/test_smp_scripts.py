"""Networks of segmentation_models_pytorch in the scripts: train, evaluate, convert, export."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_prediction import with_statistics
from test_smp import LIGHT, plain
from torch import nn

import model
from model.onnx_export import AdaptivePool, replace_layers
from model.snapshot import load_model
from utils import checkpoint
from utils.images import write_png

smp = pytest.importorskip("segmentation_models_pytorch")


def train(call, data: str, root: Path, run: Path, *words: object) -> dict:
    done = call("train.py", "--dataset", data, "--data-root", root, "--arch", LIGHT, "--run-dir",
                run, "--crop-size", 48, 48, "--batch-size", 2, "--max-steps", 2, "--workers", 0,
                "--threads", 1, "--precision", "fp32", *words)
    assert done.returncode == 0, done.stderr
    return checkpoint.read(run / "last.pth")


def test_train_evaluate_and_start_again(data_roots: dict[str, Path], tmp_path: Path, call) -> None:
    first = train(call, "camvid", data_roots["camvid"], tmp_path / "a", "--encoder-lr-factor", 0,
                  "--freeze-bn", "--loss", "dice+cross_entropy")
    torch.manual_seed(0)  # the encoder stays as it was made
    start = model.build_model(LIGHT, 11).state_dict()
    unchanged = [torch.equal(first["weights"][key], start[key]) for key in start]
    assert [key for key, same in zip(start, unchanged, strict=True) if key.startswith("encoder.")
            and not same] == []
    assert not all(unchanged)
    snapshot = tmp_path / "a" / "best.pth"
    done = call("evaluate.py", "--snapshot", snapshot, "--data-root", data_roots["camvid"],
                "--workers", 0, "--threads", 1)
    assert done.returncode == 0, done.stderr
    second = train(call, "cityscapes", data_roots["cityscapes"], tmp_path / "b", "--init", snapshot,
                   "--lr", 0, "--freeze-bn")
    assert second["weights"]["classifier.bias"].shape == (19,)
    encoder = "encoder.model.conv_stem.weight"
    assert torch.equal(second["weights"][encoder], first["weights"][encoder])


@pytest.mark.parametrize(("classes", "void"), [(20, ["void"]), (19, [])])
def test_whole_pickled_networks_are_converted(
    classes: int, void: list[str], tmp_path: Path, call
) -> None:
    """With 20 classes, background last: it counts as a miss wherever it wins."""
    name = "smp:deeplabv3plus:mobilenet_v2"
    network = plain(name, classes)
    torch.save(network, tmp_path / "best.pth")
    done = call("convert_checkpoint.py", "--arch", name, tmp_path / "best.pth", tmp_path / "x.pth")
    assert done.returncode == 0, done.stderr
    assert f"{name}, cityscapes" in done.stdout
    assert checkpoint.read(tmp_path / "x.pth")["dataset"]["class_names"][18:] == ["bicycle", *void]
    ours = load_model(tmp_path / "x.pth")
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(ours.normalize(images))
        assert (ours(images) - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_networks_inside_a_lightning_module(tmp_path: Path, call) -> None:
    network = plain(LIGHT, 19)
    inside = {f"model.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save({"state_dict": inside | {"mean": torch.zeros(1, 3, 1, 1)}}, tmp_path / "x.ckpt")
    done = call("convert_checkpoint.py", "--arch", LIGHT, tmp_path / "x.ckpt", tmp_path / "y.pth")
    assert done.returncode == 0, done.stderr
    ours = load_model(tmp_path / "y.pth")
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(ours(images), network(ours.normalize(images)), atol=1e-5)


def test_headless_networks_are_refused(tmp_path: Path, call) -> None:
    """And those that have nothing but a head."""
    weights = plain(LIGHT, 19).state_dict()
    for start, message in (("encoder", "has no segmentation_head"),
                           ("segmentation_head", f"is not {LIGHT}")):
        part = {key: tensor for key, tensor in weights.items() if key.startswith(start)}
        torch.save(part, tmp_path / "x.pth")
        done = call("convert_checkpoint.py", "--arch", LIGHT, tmp_path / "x.pth", tmp_path / "y")
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("words", "message"), [
    ([], "are of no network known here|--arch smp:ARCHITECTURE:ENCODER"),
    (["--arch", "smp:unet:resnet34"], "x.pth: is not smp:unet:resnet34"),
    (["--arch", "smp:unet:resnet18", "--dataset", "mapillary"], "has 19 channels, mapillary 65"),
    (["--arch", "cspsg_n"], "smp:ARCHITECTURE:ENCODER is expected"),
    (["--arch", "smp:unet:resnet"], "unknown encoder 'resnet'; close to it"),
])
def test_conversion_refuses(words: list[str], message: str, tmp_path: Path, call) -> None:
    torch.save(plain("smp:unet:resnet18", 19).state_dict(), tmp_path / "x.pth")
    done = call("convert_checkpoint.py", tmp_path / "x.pth", tmp_path / "y.pth", *words)
    assert done.returncode == 2
    assert any(each in done.stderr for each in message.split("|"))
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "y.pth").exists()


def test_networks_are_listed(call, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call("train.py", "--list-models")
    assert done.returncode == 0
    words = done.stdout.replace(",", " ").split()
    assert {*model.MODELS, *smp.MODEL_ARCHITECTURES_MAPPING, *smp.encoders.encoders} <= set(words)
    assert max(map(len, done.stdout.splitlines())) <= 100
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    done = call("train.py", "--list-models")
    assert done.returncode == 0
    assert "sgcpnet" in done.stdout
    assert "not installed: pip install segmentation-models-pytorch" in done.stdout.splitlines()[-1]


def test_wrong_names_end_before_the_data(call) -> None:
    done = call("train.py", "--arch", "smp:unet:resnet19", "--data-root", "nowhere")
    assert done.returncode == 2
    assert "unknown encoder 'resnet19'; close to it: resnet1" in done.stderr


def test_synchronized_batch_norms_keep_their_activation() -> None:
    network = model.build_model(LIGHT, 3)
    activations = [type(each.act) for each in network.modules()
                   if type(each).__name__ == "BatchNormAct2d"]
    network = network.synchronize_batch_norm()
    synchronized = [each for each in network.modules() if isinstance(each, nn.SyncBatchNorm)]
    assert [type(each.act) for each in synchronized if hasattr(each, "act")] == activations
    assert len(synchronized) > len(activations) > 10
    assert not any(isinstance(each, nn.BatchNorm2d) for each in network.modules())


@pytest.mark.parametrize("size", [(7, 11), (6, 6), (1, 2), (13, 5)])
@pytest.mark.parametrize("bins", [2, 3, (2, 5), 1, (None, 1)])
def test_pools_for_onnx_pool_the_same(size: tuple[int, int], bins: object) -> None:
    layer = nn.Sequential(nn.AdaptiveAvgPool2d(bins))
    images = torch.randn(2, 3, *size)
    expected = layer(images)
    replaced = replace_layers(layer)
    assert isinstance(replaced[0], AdaptivePool) == (bins not in (1, (None, 1)))
    torch.testing.assert_close(replaced(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride", "dilation", "size"), [
    (3, 2, 1, (8, 12)), (5, 2, 1, (16, 8)), (3, 1, 1, (7, 9)), (1, 2, 1, (8, 8)),
    (3, 1, 2, (9, 8)), ((3, 5), 2, 1, (8, 6)),
])
def test_padding_for_onnx_is_the_same(kernel, stride: int, dilation: int, size: tuple) -> None:
    same = pytest.importorskip("timm.layers").Conv2dSame
    layer = nn.Sequential(same(3, 4, kernel, stride=stride, dilation=dilation))
    images = torch.randn(1, 3, *size)
    expected = layer(images)
    replaced = replace_layers(layer)
    assert type(replaced[0][1]) is nn.Conv2d
    assert torch.equal(replaced(images), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    LIGHT, "smp:unet:resnet18", "smp:upernet:tu-convnext_atto", "smp:segformer:mit_b0",
])
def test_export(name: str, tmp_path: Path, call) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    generator = np.random.default_rng(0)
    for i, size in enumerate(((50, 70), (96, 64))):
        write_png(tmp_path / f"{i}.png", generator.integers(0, 256, (*size, 3), np.uint8))
    torch.manual_seed(0)
    network = with_statistics(model.build_model(name, 19))
    checkpoint.write(tmp_path / "x.pth", {
        "format": checkpoint.FORMAT, "model": network.config, "weights": network.state_dict(),
        "dataset": {"name": "cityscapes"}})
    done = call("export.py", "--snapshot", tmp_path / "x.pth", "--images", tmp_path, "--output",
                tmp_path / "x.onnx", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.onnx").is_file()
