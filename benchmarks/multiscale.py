"""Multi-scale sliding inference beside the published way of doing it, the network not counted.

  python -m benchmarks.multiscale [--runs N] [--size H W]

One 1024x2048 image, 19 classes, scales 0.5, 1 and 2 with mirror images, windows of its height with
an overlap of a third: 14 forwards. A stand-in network, whose time is taken off, answers both sides,
each in fresh processes and in turn. The published way is rewritten from its description, with the
right counts: float64 sums and counts of every class, one resize of each class in a thread of its
own, means over lists.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import machine, resident
from utils.images import resize_image
from utils.inference.multiscale import starts
from utils.inference.predictor import Predictor
from utils.inference.settings import Inference

CLASSES, OVERLAP, SCALES = 19, 1 / 3, (0.5, 1.0, 2.0)


class StandIn(nn.Module):
    """Logits at stride 8 of the mean color; counts its own seconds, wall and CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(3, CLASSES, kernel_size=1)
        self.seconds, self.forwards = np.zeros(2), 0

    def forward(self, images: Tensor, full_size: bool = True) -> Tensor:
        start = now()
        coarse = self.classifier(F.avg_pool2d(images.float() / 255, 8))
        self.seconds += now() - start
        self.forwards += 1
        return self.upsample(coarse, images.shape[-2:]) if full_size else coarse

    def upsample(
        self, coarse: Tensor, size: Sequence[int], rows: slice | None = None
    ) -> Tensor:
        start = now()
        logits = F.interpolate(coarse, tuple(size), mode="bilinear")
        self.seconds += now() - start
        return logits if rows is None else logits[:, :, rows]


def now() -> np.ndarray:
    """Seconds on the wall and of CPU time, which ignores other programs."""
    return np.array([time.perf_counter(), time.process_time()])


def published(network: StandIn, image: np.ndarray) -> np.ndarray:
    """(H, W) label map."""
    height, width = image.shape[:2]
    means = []
    for scale in SCALES:
        resized = resize_image(image, (int(height * scale), int(width * scale)))
        answers = []
        for mirrored in (False, True):
            pixels = np.ascontiguousarray(resized[:, ::-1] if mirrored else resized)
            logits = tile_by_tile(network, torch.from_numpy(pixels), int(height * max(1, scale)))
            logits = logits[..., ::-1] if mirrored else logits
            answers.append(resize_classes(logits, (width, height)))
        means.append(np.mean(answers, axis=0))
    return np.mean(means, axis=0).argmax(0)


def tile_by_tile(network: StandIn, pixels: Tensor, side: int) -> np.ndarray:
    """(C, h, w) float64."""
    images = pixels.permute(2, 0, 1)[None]
    height, width = images.shape[-2:]
    total, count = np.zeros((2, CLASSES, height, width))
    for x, y in product(starts(width, side, OVERLAP), starts(height, side, OVERLAP)):
        tile = (..., slice(y, y + side), slice(x, x + side))
        total[tile] += network(images[tile])[0].numpy()
        count[tile] += 1
    total /= count
    return total


def resize_classes(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = np.empty((CLASSES, *size[::-1]))

    def resize(c: int) -> None:
        channel = np.ascontiguousarray(logits[c])
        resized[c] = cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR)

    with ThreadPoolExecutor(CLASSES) as pool:
        list(pool.map(resize, range(CLASSES)))
    return resized


def ours(network: StandIn, image: np.ndarray) -> np.ndarray:
    """(H, W) label map."""
    how = Inference(SCALES, True, image.shape[0], OVERLAP)
    return Predictor(network, inference=how)(torch.from_numpy(image)).numpy()


SIDES: dict[str, Callable[[StandIn, np.ndarray], np.ndarray]] = {
    "published": published, "ours": ours
}


def measure(side: str, size: Sequence[int]) -> dict[str, object]:
    """Seconds beside the network and bytes above the start of one label map, and a part of it."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (size[0] // 32, size[1] // 32, 3), dtype=np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    network = StandIn().eval()
    with torch.inference_mode():
        SIDES[side](network, image[:64, :64])
        network.seconds[:], network.forwards = 0, 0
        memory, start = resident("VmRSS"), now()
        labels = SIDES[side](network, image)
        seconds = now() - start - network.seconds
    return {"seconds": seconds.tolist(), "network": network.seconds.tolist(),
            "bytes": resident("VmHWM") - memory, "forwards": network.forwards,
            "labels": labels[::8, ::8].tolist()}


def run_alone(side: str, size: Sequence[int]) -> dict[str, object]:
    """What `measure` finds in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.multiscale", "--side", side, "--size",
               *map(str, size)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="processes per side; the fastest count")
    parser.add_argument("--side", choices=SIDES, help="measure this one here and print JSON")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"),
                        help="pixels of the image")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args.size)))
        return
    print(machine())
    runs = [{side: run_alone(side, args.size) for side in SIDES} for _ in range(args.runs)]
    best = {side: np.min([run[side]["seconds"] for run in runs], axis=0) for side in SIDES}
    peak = {side: max(run[side]["bytes"] for run in runs) for side in SIDES}
    for side in SIDES:
        wall, cpu = best[side]
        network = runs[0][side]["network"]
        print(f"{side:10} {wall:.2f} s wall, {cpu:.2f} s CPU, +{peak[side] / 2**30:.2f} GiB; taken "
              f"off: {runs[0][side]['forwards']} forwards, {network[1]:.2f} s CPU")
    wall, cpu = best["published"] / best["ours"]
    print(f"ratio      {wall:.1f}x wall, {cpu:.1f}x CPU, "
          f"{peak['published'] / peak['ours']:.1f}x memory")
    labels = [np.array(runs[0][side]["labels"]) for side in SIDES]
    print(f"label maps agree on {100 * np.mean(labels[0] == labels[1]):.2f} % of the pixels")


if __name__ == "__main__":
    main()
