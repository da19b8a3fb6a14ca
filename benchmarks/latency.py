"""From uint8 pixels to a uint8 label map beside the way networks are published with.

  python -m benchmarks.latency [--arch sgcpnet] [--size 1024 2048] [--no-compile]
  python -m benchmarks.latency --device cuda --size 512 1024
  python -m benchmarks.latency --snapshot runs/NAME/best.pth --image street.jpg

The published way: eager float32, planes of pixels, logits of every class at the image's size,
argmax. Ours: what the demos do, in float32 and bfloat16, as it is and with --compile. Every side
takes turns. The sides' labels are compared first; weights are random, so that classes nearly tie
and bfloat16 agrees less than with a trained network.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.timing import table, take_turns
from model import MODELS, build_model, from_snapshot, read_snapshot
from model.latency import draw
from model.prediction import open_predictor
from utils import distributed
from utils.argument_types import positive
from utils.images import read_image, resize_image
from utils.pipeline import synchronize
from utils.sliding import Inference


def published(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Forward, enlarge all maps, take the largest."""

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        return network(images.contiguous()).argmax(1).to(torch.uint8)

    return predict


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


def build_sides(
    network: nn.Module, device: torch.device, compiled: bool
) -> dict[str, Callable[[Tensor], Tensor]]:
    """(1, 3, H, W) uint8 -> (1, H, W) uint8, by name; the published way first."""
    snapshot = {"model": network.config, "weights": network.state_dict()}
    sides = {"published, fp32": published(network.to(device))}
    for how in (False, True)[: 1 + compiled]:
        for precision in ("fp32", "bf16"):
            predictor = open_predictor(snapshot, device, precision, Inference(),
                                       compiled=how)
            sides[f"ours, {precision}{', compiled' * how}"] = predictor.channels
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sgcpnet", choices=tuple(MODELS), help="network")
    parser.add_argument("--size", type=positive, nargs=2, default=(1024, 2048), metavar=("H", "W"),
                        help="pixels of the image")
    parser.add_argument("--snapshot", metavar="FILE", help="a trained network instead")
    parser.add_argument("--image", metavar="FILE", help="a photo instead of a drawing, resized")
    parser.add_argument("--rounds", type=positive, default=7, help="turns of each side")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--threads", type=positive, help="default: all cores")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True,
                        help="measure compiled networks too, which takes a minute")
    args = parser.parse_args()
    device = distributed.start(args.device, args.threads)
    images = draw(1, tuple(args.size))
    if args.image:
        pixels = resize_image(read_image(args.image), args.size)
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    trained = args.snapshot and from_snapshot(read_snapshot(args.snapshot, weights=True))
    images = images.to(device)
    sides = build_sides(trained or build_random(args.arch), device, args.compile)
    maps = {name: predict(images) for name, predict in sides.items()}
    for name, labels in maps.items():
        agreement = (labels == maps["published, fp32"]).double().mean().item()
        print(f"{name}: {100 * agreement:.3f} % of the labels as published, "
              f"{len(labels.unique())} classes")

    def wait_for(predict: Callable[[Tensor], Tensor]) -> None:
        predict(images)
        synchronize(device)

    times = take_turns({name: lambda _, predict=predict: wait_for(predict)
                        for name, predict in sides.items()}, args.rounds)
    height, width = args.size
    print(f"{args.snapshot or args.arch}, {width}x{height}, {device}, "
          f"{torch.get_num_threads()} threads")
    print(table(times, "images", {"published": "published, fp32"}))


if __name__ == "__main__":
    main()
