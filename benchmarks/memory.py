"""Memory and time of a training step, with and without --checkpoint-activations.

examples:
  python -m benchmarks.memory
  python -m benchmarks.memory --arch deeplabv3plus_resnet101 --crop-size 512 512 --batch-size 4

Both take turns, each in a fresh process: forward, cross entropy, backward, SGD with momentum on
random images. "peak" is the most the process held on a CPU, or its tensors on a GPU; "kept" are the
activations that forward leaves for backward. Gradients are compared bit for bit.
"""

import argparse
import hashlib
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from model import build_model, check_name, checkpoint_activations
from model.loss import cross_entropy
from utils import distributed, options
from utils.argument_types import checked
from utils.exit_codes import run
from utils.precision import autocast, choose_for_training

CLASSES = 19
STEPS = 2  # the first makes gradients and momentum


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    parser.prog = "python -m benchmarks.memory"
    parser.add_argument("--arch", type=checked(check_name), default="deeplabv3plus_wide_resnet38",
                        help="a network of the README's table with a residual encoder")
    parser.add_argument("--crop-size", type=options.positive, nargs=2, default=(256, 256),
                        metavar=("H", "W"), help="pixels")
    parser.add_argument("--batch-size", type=options.positive, default=2, metavar="N",
                        help="images of a step")
    parser.add_argument("--rounds", type=options.positive, default=3, metavar="N",
                        help="turns of each, of which the median counts")
    options.add_device(parser)
    return parser.parse_args()


@dataclass(frozen=True)
class Figures:
    """Of one process; sizes in MB."""

    peak: float
    kept: float
    seconds: float  # of the last step
    gradients: str  # their digest
    device: str  # its kind


def measure(args: argparse.Namespace, recompute: bool) -> Figures:
    """Trains some steps."""
    device = distributed.start(args.device, args.threads)
    torch.manual_seed(0)
    network = build_model(args.arch, CLASSES).to(device, memory_format=torch.channels_last).train()
    if recompute:
        checkpoint_activations(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images, target = draw(args.batch_size, args.crop_size, device)
    precision = choose_for_training(device, args.precision, network, (images,), STEPS)
    kept: dict[int, int] = {}
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=False)
        torch.manual_seed(step)
        start = time.perf_counter()
        with autocast(device, precision), noting(kept, network):
            loss = cross_entropy(network(images), target)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
        seconds = time.perf_counter() - start
    peak = peak_memory(device)
    digest = hashlib.sha256()
    for parameter in network.parameters():
        digest.update(parameter.grad.cpu().contiguous().numpy().data)
    return Figures(peak, sum(kept.values()) / 1e6, seconds, digest.hexdigest(),
                   device.type)


def draw(count: int, size: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Random images as the loader gives them to the network, and train ids."""
    images = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, device=device)
    target = torch.randint(0, CLASSES, (count, *size), device=device)
    return images.permute(0, 3, 1, 2), target


def noting(kept: dict[int, int], network: nn.Module) -> Any:
    """Within it, `kept` gets address and bytes of what autograd keeps, parameters not counted."""
    own = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    kept.clear()

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    return torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)


def peak_memory(device: torch.device) -> float:
    """MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    args = parse_args()
    names = {"plain": False, "checkpointed": True}
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as alone:
        for _ in range(args.rounds):
            for name, recompute in names.items():
                figures[name].append(alone.submit(measure, args, recompute).result())
    equal = len({found.gradients for rows in figures.values() for found in rows}) == 1
    if not equal and figures["plain"][0].device == "cpu":  # a GPU adds in an order of the moment
        raise RuntimeError(f"{args.arch}: gradients differ with --checkpoint-activations")
    height, width = args.crop_size
    print(f"{args.arch}, {args.batch_size} crops of {height}x{width}; medians of {args.rounds} "
          f"rounds; {'equal' if equal else 'other'} gradients, to the bit")
    print(f"{'':14}{'peak MB':>10}{'kept MB':>10}{'s/step':>10}")
    for name, rows in figures.items():
        values = (median(getattr(found, key) for found in rows)
                  for key in ("peak", "kept", "seconds"))
        print(name.ljust(14) + "".join(f"{value:10.{digits}f}" for value, digits in
                                       zip(values, (0, 0, 2), strict=True)))


if __name__ == "__main__":
    run(main)
