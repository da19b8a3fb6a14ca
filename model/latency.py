"""What a network costs, measured in this process."""

import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model import build_model, count_parameters, from_snapshot, read_snapshot
from model.prediction import open_predictor
from utils import distributed
from utils.cuda_graph import SETTLED
from utils.inference import Predictor, Workload
from utils.pipeline import synchronize
from utils.sliding import Inference

CLASSES = 19  # of networks that have no snapshot
WARM_UP = 5  # runs


@dataclass(frozen=True)
class Wanted:
    """What to measure. Exactly one of `arch` and `snapshot` is given."""

    size: tuple[int, int]
    batch_sizes: list[int]
    runs: int
    compile: bool
    device: str
    precision: str
    threads: int | None
    arch: str | None = None
    snapshot: str | None = None


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


def open_wanted(wanted: Wanted) -> tuple[str, Predictor, nn.Module]:
    """Name of the network, itself ready to predict, and as it was built."""
    device = distributed.start(wanted.device, wanted.threads)
    if wanted.snapshot:
        snapshot = read_snapshot(wanted.snapshot)
        network, name = from_snapshot(snapshot), wanted.snapshot
    else:
        torch.manual_seed(0)
        network, name = build_model(str(wanted.arch), CLASSES), str(wanted.arch)
        snapshot = {"model": network.config, "weights": network.state_dict()}
    predictor = open_predictor(snapshot, device, wanted.precision, Inference(),
                               compiled=wanted.compile,
                               workload=Workload(wanted.size, wanted.runs))
    return name, predictor, network


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


def measure(wanted: Wanted) -> Figures:
    """Builds the network and runs it. Raises as `open_wanted`."""
    name, predictor, network = open_wanted(wanted)
    device = predictor.device
    figures = Figures(name, _device_name(device), predictor.precision, torch.get_num_threads(),
                      wanted.size, count_parameters(network), 0)
    warm_up = max(WARM_UP, SETTLED) if predictor.replayed else WARM_UP
    for size in wanted.batch_sizes:
        images = draw(size, wanted.size)
        work = partial(_run, predictor, images)
        seconds = timed(work, device, wanted.runs, warm_up)
        figures.seconds = figures.seconds or seconds
        figures.throughput[size] = size / float(np.median(seconds))
    figures.memory = _peak_memory(device)
    images = draw(wanted.batch_sizes[0], wanted.size)
    labels = torch.zeros(len(images), *wanted.size, dtype=torch.uint8, device=device)
    if device.type != "cpu":
        there, back = (float(np.median(timed(step, device, wanted.runs, WARM_UP)))
                       for step in (partial(images.to, device), labels.cpu))
        figures.copy = there + back
    figures.decode, figures.encode = _files(images[0])
    figures.macs = count_macs(network, wanted.size)
    return figures


def _run(predictor: Predictor, images: Tensor) -> Tensor:
    return predictor.channels(images.to(predictor.device)).cpu()


def _files(image: Tensor) -> tuple[float, float]:
    """Seconds of decoding a PNG of an image, and of encoding a label map of its size."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    data = cv2.imencode(".png", pixels)[1]
    labels = pixels[..., 0] // 16
    device = torch.device("cpu")
    return (float(np.median(timed(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR), device, 5, 1))),
            float(np.median(timed(lambda: cv2.imencode(".png", labels), device, 5, 1))))


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
