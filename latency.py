"""Measures networks: latency, throughput, memory, parameters, multiply-adds.

examples:
  python latency.py --arch sgcpnet cspsg_n --size 1024 2048
  python latency.py --snapshot runs/NAME/best.pth --batch-sizes 1 4 16 --json latency.json

A run is what a demo does with an image in memory: uint8 pixels to the device (copy), forward with
batch norms fused, enlargement, uint8 label map (network), and back (copy). Clocks start after the
warm-up and stop when the device is done. Decoding and writing a PNG stand beside it; neither is
part of latency or throughput.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model import MODELS, build_model, check_name, count_parameters
from model.snapshot import from_snapshot, open_predictor, read_snapshot
from utils import distributed
from utils.files import write_json
from utils.inference.cuda_graph import SETTLED
from utils.inference.pipeline import synchronize
from utils.inference.predictor import Predictor, Workload
from utils.inference.settings import Inference
from utils.options.data import SHIPPED, add_device, check_output
from utils.options.parser import Parser, checked, positive, side
from utils.options.prediction import add_compile
from utils.stopping import run

COLUMNS = ("network", "M params", "GMACs", "ms p50", "p90", "p99", "copy ms", "MB")
CLASSES = 19  # of networks that have no snapshot
WARM_UP = 5  # runs


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    group = parser.add_argument_group("networks")
    group.add_argument("--arch", nargs="+", default=[], type=checked(check_name),
                       metavar="NAME",
                       help="with random weights and 19 classes; several are measured one after "
                       f"the other, each in a process of its own: {', '.join(MODELS)}, "
                       "smp:ARCHITECTURE:ENCODER")
    group.add_argument("--snapshot", nargs="+", default=[], metavar="FILE|DIR|NAME",
                       help="checkpoints, folders of trainings or of the model hub, or the hub's "
                       "OWNER/NAME")
    group = parser.add_argument_group("measurement")
    group.add_argument("--size", type=side, nargs=2, default=(1024, 2048), metavar=("H", "W"),
                       help="pixels of an image")
    group.add_argument("--batch-sizes", type=positive, nargs="+", default=[1], metavar="N",
                       help="images per forward; latency is that of the first")
    group.add_argument("--runs", type=positive, default=30, metavar="N",
                       help="of which percentiles are taken")
    group.add_argument("--json", metavar="FILE", help="write all figures there")
    add_compile(parser)
    add_device(parser)
    return parser.parse_args()


@dataclass
class Figures:
    """Seconds, bytes, and numbers of a network."""

    name: str
    device: str
    precision: str
    threads: int
    size: tuple[int, int]
    parameters: int
    macs: int  # multiply-adds of convolutions and matrix products of one image
    seconds: list[float] = field(default_factory=list)  # of each run at the first batch size
    copy: float = 0.0  # of a run, to the device and back
    memory: int = 0  # at the most: of the tensors on a GPU, of the process on a CPU
    decode: float = 0.0  # an image of this size, PNG
    encode: float = 0.0  # its label map
    throughput: dict[int, float] = field(default_factory=dict)  # images per second by batch size

    def percentile(self, q: float) -> float:
        """Seconds that q % of the runs stay below."""
        return float(np.percentile(self.seconds, q))

    def about(self) -> str:
        """What was measured, in words."""
        height, width = self.size
        return (f"{width}x{height}, {self.precision}, {self.device}, {self.threads} threads, "
                f"batch {next(iter(self.throughput))}; beside it decoding a PNG "
                f"{1000 * self.decode:.1f} ms, writing labels {1000 * self.encode:.1f} ms")

    def to_json(self) -> dict[str, Any]:
        """All of it, with percentiles."""
        return asdict(self) | {f"p{q}": self.percentile(q) for q in (50, 90, 99)}


def row(figures: Figures) -> list[str]:
    """The cells of a network."""
    p50, p90, p99 = (f"{1000 * figures.percentile(q):.1f}" for q in (50, 90, 99))
    return [figures.name, f"{figures.parameters / 1e6:.2f}", f"{figures.macs / 1e9:.1f}",
            p50, p90, p99, f"{1000 * figures.copy:.2f}", f"{figures.memory / 1e6:.0f}"]


def table(rows: list[list[str]]) -> str:
    """Columns, the first to the left."""
    width, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join([first.ljust(width), *map(str.rjust, cells, widths)])
                     for first, *cells in rows)


def main() -> None:
    args = parse_args()
    check_output(args.json)
    args.size = tuple(args.size)
    if not args.arch and not args.snapshot:
        raise ValueError(f"give --arch NAME ... or --snapshot FILE ..., as {SHIPPED}")
    for path in args.snapshot:  # in this process, where what is wrong with it is one line
        read_snapshot(path, weights=True)
    wanted = [(name, False) for name in args.arch] + [(path, True) for path in args.snapshot]
    results = []
    for each in wanted:  # a fresh process: its memory and its caches are the network's own
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            results.append(pool.submit(measure, args, *each).result())
    if args.json:  # first: the output may go into a pipe that ends
        write_json(args.json, [figures.to_json() for figures in results])
    print(results[0].about())
    print(table([list(COLUMNS), *map(row, results)]))
    for figures in results:
        rates = ", ".join(f"{rate:.1f} at {size}" for size, rate in figures.throughput.items())
        print(f"{figures.name}: images/s by batch size: {rates}")


def open_network(args: argparse.Namespace, name: str, stored: bool) -> tuple[Predictor, nn.Module]:
    """The network of that name, or `stored` in that file: ready to predict, and as it was built."""
    device = distributed.start(args.device, args.threads)
    if stored:
        snapshot = read_snapshot(name)
        network = from_snapshot(snapshot)
    else:
        torch.manual_seed(0)
        network = build_model(name, CLASSES)
        snapshot = {"model": network.config, "weights": network.state_dict()}
    workload = Workload(args.size, args.runs)
    return open_predictor(snapshot, device, args.precision, Inference(),
                          compiled=bool(args.compile), workload=workload), network


def draw(count: int, size: tuple[int, int]) -> Tensor:
    """(count, 3, H, W) uint8, smooth with noise, as photographs are."""
    generator = np.random.default_rng(0)
    images = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (8, 16, 3), np.uint8)
        image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        images.append(cv2.add(image, generator.integers(0, 12, image.shape, np.uint8)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def timed(work: Callable[[], Any], device: torch.device, runs: int, warm_up: int) -> list[float]:
    """Seconds of each of `runs`."""
    seconds = []
    for number in range(warm_up + runs):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        if number >= warm_up:
            seconds.append(time.perf_counter() - start)
    return seconds


def count_macs(network: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds of one image, from shapes alone."""
    with torch.device("meta"):
        images = torch.empty(1, 3, *size, dtype=torch.uint8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval().to("meta")(images, full_size=False)
    return counter.get_total_flops() // 2


def measure(args: argparse.Namespace, name: str, stored: bool) -> Figures:
    """Builds the network and runs it, all as of `open_network`."""
    predictor, network = open_network(args, name, stored)
    device = predictor.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    figures = Figures(name, gpu or platform.processor() or platform.machine(), predictor.precision,
                      torch.get_num_threads(), args.size, count_parameters(network), 0)
    warm_up = max(WARM_UP, SETTLED) if predictor.replayed else WARM_UP
    for size in args.batch_sizes:
        images = draw(size, args.size)
        work = partial(_run, predictor, images)
        seconds = timed(work, device, args.runs, warm_up)
        figures.seconds = figures.seconds or seconds
        figures.throughput[size] = size / median(seconds)
    figures.memory = _peak_memory(device)
    images = draw(args.batch_sizes[0], args.size)
    labels = torch.zeros(len(images), *args.size, dtype=torch.uint8, device=device)
    if device.type != "cpu":
        figures.copy = sum(median(timed(step, device, args.runs, WARM_UP))
                           for step in (partial(images.to, device), labels.cpu))
    figures.decode, figures.encode = _files(images[0])
    figures.macs = count_macs(network, args.size)
    return figures


def _run(predictor: Predictor, images: Tensor) -> Tensor:
    return predictor.label_maps(images.to(predictor.device)).cpu()


def _files(image: Tensor) -> tuple[float, float]:
    """Seconds of decoding a PNG of an image, and of encoding a label map of its size."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    data = cv2.imencode(".png", pixels)[1]
    labels = pixels[..., 0] // 16
    device = torch.device("cpu")
    return (median(timed(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR), device, 5, 1)),
            median(timed(lambda: cv2.imencode(".png", labels), device, 5, 1)))


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # which Windows does not have

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    run(main)
