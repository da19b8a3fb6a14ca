"""From uint8 pixels to a uint8 label map beside the way networks are published with.

  python -m benchmarks.latency [--arch sgcpnet] [--size 1024 2048] [--no-compile]
  python -m benchmarks.latency --device cuda --size 512 1024
  python -m benchmarks.latency --snapshot runs/NAME/best.pth --image street.jpg
  python -m benchmarks.latency --peers --arch cspsg_s --size 512 1024

The published way: eager float32, planes of pixels, logits of every class at the image's size,
argmax; on a CPU in a process of its own, whose memory is handed out as it is by default. Ours: what
the demos do, in float32 and bfloat16, as it is and with --compile. Every side takes turns. The
sides' labels are compared first; weights are random, so that classes nearly tie and bfloat16 agrees
less than with a trained network. --peers has onnxruntime and OpenVINO instead, as far as installed,
on files of export.py, beside ours in float32 and as demo_folder.py has it with many images.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import engines
from benchmarks.timing import Times, machine, table, take_turns
from latency import draw
from model import MODELS, build_model
from model.snapshot import from_snapshot, open_predictor, read_snapshot
from utils import distributed
from utils.images import read_image, resize_image
from utils.inference.pipeline import synchronize
from utils.inference.predictor import Workload
from utils.inference.settings import Inference
from utils.options.parser import positive

PEER = "published, fp32"
ENGINE, DEFAULT = "onnxruntime, fp32", "ours, as demo_folder.py has it"
MANY = 1_000_000  # images, for which everything pays


def published(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Forward, enlarge all maps, take the largest."""

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        return network(images.contiguous()).argmax(1).to(torch.uint8)

    return predict


@contextmanager
def apart(snapshot: dict[str, Any], threads: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """The published way on the CPU in another process, which knows the weights alone."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _start_published, (snapshot, threads)) as pool:
        yield lambda images: pool.submit(_predict_published, images).result()


_published: list[Callable[[Tensor], Tensor]] = []  # in the process of `apart`


def _start_published(snapshot: dict[str, Any], threads: int) -> None:
    torch.set_num_threads(threads)
    _published.append(published(from_snapshot(snapshot)))


def _predict_published(images: Tensor) -> Tensor:
    return _published[0](images)


def build_random(arch: str) -> nn.Module:
    """A network of 19 classes whose logits look like logits."""
    torch.manual_seed(0)
    network = build_model(arch, 19)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as trained: the signal neither fades nor explodes
            module.momentum = None
    network.train()
    with torch.no_grad():  # else one class would win everywhere
        for _ in range(2):
            network(draw(2, (128, 256)))
    return network.eval()


def build_ours(
    snapshot: dict[str, Any], device: torch.device, compiled: bool
) -> dict[str, Callable[[Tensor], Tensor]]:
    """(1, 3, H, W) uint8 -> (1, H, W) uint8, by name."""
    sides: dict[str, Callable[[Tensor], Tensor]] = {}
    for how in (False, True)[: 1 + compiled]:
        for precision in ("fp32", "bf16"):
            predictor = open_predictor(snapshot, device, precision, Inference(), compiled=how)
            sides[f"ours, {precision}{', compiled' * how}"] = predictor.label_maps
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="sgcpnet", choices=tuple(MODELS), help="network")
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=(1024, 2048),
        metavar=("H", "W"),
        help="pixels of the image",
    )
    parser.add_argument("--snapshot", metavar="FILE", help="a trained network instead")
    parser.add_argument("--image", metavar="FILE", help="a photo instead of a drawing, resized")
    parser.add_argument("--rounds", type=positive, default=7, help="turns of each side")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--threads", type=positive, help="default: all cores")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure compiled networks too, which takes a minute",
    )
    parser.add_argument("--peers", action="store_true", help="beside onnxruntime and OpenVINO")
    args = parser.parse_args()
    device = distributed.start(args.device, args.threads)
    images = draw(1, tuple(args.size))
    if args.image:
        pixels = resize_image(read_image(args.image), args.size)
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    trained = args.snapshot and from_snapshot(read_snapshot(args.snapshot, weights=True))
    network = trained or build_random(args.arch)
    snapshot = {"model": network.config, "weights": network.state_dict()}
    height, width = args.size
    title = f"{args.snapshot or args.arch}, {width}x{height}, {device}; {machine()}"
    if args.peers:
        print(title, table(beside_engines(network, images, args.rounds), "images", {
            "onnxruntime": ENGINE, "default": DEFAULT}), sep="\n")
        return
    with ExitStack() as stack:
        if device.type == "cpu":
            peer = stack.enter_context(apart(snapshot, torch.get_num_threads()))
        else:
            peer = published(network.to(device))
        sides = {PEER: peer} | build_ours(snapshot, device, args.compile)
        compare(sides, images.to(device))
        print(title)
        print(table(race(sides, images.to(device), args.rounds), "images", {"published": PEER}))


def beside_engines(network: nn.Module, images: Tensor, rounds: int) -> Times:
    """Seconds of ours and of the engines on the CPU, whose labels are compared first."""
    if ENGINE not in engines.available():
        raise ValueError("--peers needs pip install onnx onnxscript onnxruntime openvino")
    snapshot = {"model": network.config, "weights": network.state_dict()}
    plain = open_predictor(snapshot, "cpu", "fp32").label_maps
    default = open_predictor(snapshot, "cpu", "auto", compiled=None,
                             workload=Workload(tuple(images.shape[-2:]), MANY)).label_maps
    pixels = np.ascontiguousarray(images.numpy())
    ours = plain(images).numpy()
    works: dict[str, Callable[[int], object]] = {
        DEFAULT: lambda _: default(images), "ours, fp32, not compiled": lambda _: plain(images)}
    with ExitStack() as stack:
        for name in engines.available():
            works[name], labels = stack.enter_context(
                engines.apart(name, network, pixels, torch.get_num_threads()))
            print(f"{name}: {100 * (labels() == ours).mean():.3f} % of the labels as ours")
        return take_turns(works, rounds)


def compare(sides: dict[str, Callable[[Tensor], Tensor]], images: Tensor) -> None:
    """Prints how many labels are as published."""
    maps = {name: predict(images) for name, predict in sides.items()}
    for name, labels in maps.items():
        agreement = (labels == maps[PEER]).double().mean().item()
        print(
            f"{name}: {100 * agreement:.3f} % of the labels as published, "
            f"{len(labels.unique())} classes"
        )


def race(sides: dict[str, Callable[[Tensor], Tensor]], images: Tensor, rounds: int) -> Times:
    """Seconds of each side until its labels are there."""

    def run(predict: Callable[[Tensor], Tensor], _: int) -> None:
        predict(images)
        synchronize(images.device)

    return take_turns({name: partial(run, predict) for name, predict in sides.items()}, rounds)


if __name__ == "__main__":
    main()
