"""When kernels are captured, and that they are replayed with the images at hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import model
from model.snapshot import open_predictor
from utils.inference import cuda_graph
from utils.inference.cuda_graph import AGAIN, Replayed
from utils.inference.predictor import Predictor
from utils.inference.settings import Inference

CPU = torch.device("cpu")


def double(images: Tensor) -> Tensor:
    return 2 * images


def test_a_size_that_comes_again_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the GPU, whose replay computes from the captured memory."""
    captured = []

    class Graph:
        def __init__(self, images: Tensor) -> None:
            self.input, self.output = images, torch.empty_like(images)

        def replay(self) -> None:
            self.output.copy_(double(self.input))

    def capture(work: object, images: Tensor) -> tuple[Graph, Tensor]:
        captured.append(tuple(images.shape))
        graph = Graph(images)
        return graph, graph.output

    monkeypatch.setattr(cuda_graph, "capture", capture)
    replayed = Replayed(double, CPU)
    kept = []
    for number, size in enumerate([3] * 6 + [4, 4, 3, 3, 3, 3, 4] + [5] * 7):
        images = torch.full((1, size), float(number))
        kept.append(replayed(images))
        assert torch.equal(images, torch.full((1, size), float(number))), "left as it was"
    for number, result in enumerate(kept):  # a later call does not change an earlier result
        assert torch.equal(result, torch.full_like(result, 2.0 * number))
    assert captured == [(1, 3), (1, 5)]


@pytest.mark.parametrize(("name", "compiled"), [
    ("sgcpnet", False), ("sgcpnet", True), ("smp:unet:resnet18", False)])
def test_which_networks_are_replayed(
    name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU none; on a GPU those of this project that are not compiled."""
    if name.startswith("smp"):
        pytest.importorskip("segmentation_models_pytorch")
    network = model.build_model(name, 3)
    snapshot = {"model": network.config, "weights": network.state_dict()}
    monkeypatch.setattr(nn.Module, "compile", lambda *args, **options: None)
    assert not open_predictor(snapshot, CPU, "fp32", Inference(), compiled=compiled).replayed
    monkeypatch.setattr(nn.Module, "to", lambda self, *args, **options: self)
    device = torch.device("cuda", 0)
    found = open_predictor(snapshot, device, "fp32", Inference(), compiled=compiled)
    assert found.replayed == (name == "sgcpnet" and not compiled)


def test_what_remembers_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoother's answer depends on the frames before."""
    monkeypatch.setattr(cuda_graph, "capture", lambda *_: pytest.fail("captured"))
    plain = Predictor(model.build_model("cspsg_n", 3).eval(), replayed=True)
    smooth = replace(plain, smoother=lambda scores, *_: scores)
    images = torch.zeros(1, 3, 32, 64, dtype=torch.uint8)
    for _ in range(AGAIN + 2):
        smooth.label_maps(images)
    for _ in range(AGAIN):
        plain.label_maps(images)
    with pytest.raises(pytest.fail.Exception, match="captured"):
        plain.label_maps(images)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sgcpnet", "cspsg_n", "deeplabv3_resnet18"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_replayed_labels(name: str, precision: str) -> None:
    """Equal to those of the first calls, which are not captured, for images of three sizes."""
    torch.manual_seed(0)
    network = model.build_model(name, 6)
    snapshot = {"model": network.config, "weights": network.state_dict()}
    cuda = torch.device("cuda", 0)
    predictor = open_predictor(snapshot, cuda, precision, Inference())
    assert predictor.replayed
    for size in ((64, 96), (96, 64), (64, 64)):
        images = torch.randint(0, 256, (AGAIN, 1, 3, *size), dtype=torch.uint8)
        first = [predictor.label_maps(image) for image in images]
        for image, found in zip(images, first, strict=True):
            assert torch.equal(predictor.label_maps(image), found)
            assert torch.equal(predictor.label_maps(image.to(cuda)), found)
