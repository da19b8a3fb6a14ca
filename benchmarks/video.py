"""A whole video from MP4 to MP4 by demo_folder.py, beside what its decoder and encoder alone take.

  python -m benchmarks.video [--size 720 1280] [--frames 300] [--arch sgcpnet]

Frames are drawn streets that move by two pixels; the network has random weights. Each rate is the
median of rounds, by turns; that of demo_folder.py is its own `end to end`, without its start. Peak
memory is that of the process, whatever it is made of; evaluate.py and train.py stand beside it.
"""

import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.latency import build_random
from benchmarks.streets import CITY, make_street
from benchmarks.timing import machine
from datasets import build_dataset, describe
from model import MODELS
from utils import checkpoint
from utils.options.parser import Parser, positive
from utils.stopping import run
from utils.video.reader import open_file
from utils.video.writer import VideoFile

ROOT = Path(__file__).resolve().parent.parent
FPS = 30
STEP = 2  # pixels between two frames
# In between, because the peak of a process begins with the memory of the one that starts it.
MEASURED = """import os, subprocess, sys
process = subprocess.Popen([sys.executable, *sys.argv[1:]])
_, status, usage = os.wait4(process.pid, 0)
print("\\n", usage.ru_maxrss, sep="")
sys.exit(bool(status))"""


def draw(size: tuple[int, int], frames: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 each."""
    street = make_street(0, (size[0], size[1] + STEP * frames)).image
    return [np.ascontiguousarray(street[:, STEP * i : STEP * i + size[1]]) for i in range(frames)]


def encode(frames: list[np.ndarray], path: Path) -> float:
    """Seconds."""
    start = time.perf_counter()
    with VideoFile(path.with_suffix(""), FPS) as file:
        for frame in frames:
            file.write(frame)
    return time.perf_counter() - start


def decode(path: Path) -> float:
    """Seconds to RGB arrays."""
    video, start = open_file(path), time.perf_counter()
    for item in video.items:
        video.read(item)
    return time.perf_counter() - start


def run_script(*words: object) -> tuple[str, int]:
    """What a script prints, and the most bytes that it takes.

    Raises:
        RuntimeError: it fails.
    """
    done = subprocess.run([sys.executable, "-c", MEASURED, *map(str, words)], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stdout[-500:]}")
    said, _, peak = done.stdout.rstrip().rpartition("\n")
    return said, int(peak) * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.video"
    parser.add_argument("--arch", default="sgcpnet", choices=tuple(MODELS), help="network")
    parser.add_argument("--size", type=positive, nargs=2, default=(720, 1280), metavar=("H", "W"),
                        help="pixels of a frame")
    parser.add_argument("--frames", type=positive, default=300, help="of the video")
    parser.add_argument("--rounds", type=positive, default=3, help="turns of each")
    args = parser.parse_args()
    frames = draw(tuple(args.size), args.frames)
    network = build_random(args.arch)
    about = describe(build_dataset("cityscapes", CITY, "val"), "cityscapes")
    with TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint.save(folder / "network.pth", {
            "format": checkpoint.FORMAT, "model": network.config, "dataset": about,
            "weights": network.state_dict()})
        rates: dict[str, list[float]] = {"decoding": [], "encoding": [], "demo_folder.py": []}
        for _ in range(args.rounds):
            rates["encoding"].append(args.frames / encode(frames, folder / "street.mp4"))
            rates["decoding"].append(args.frames / decode(folder / "street.mp4"))
            said, memory = run_script(
                "demo_folder.py", "--video", folder / "street.mp4", "--snapshot",
                folder / "network.pth", "--save-dir", folder)
            found = re.search(r"end to end ([\d.]+) frames/s", said)
            rates["demo_folder.py"].append(float(found[1]) if found else float("nan"))
        print(f"{args.arch}, {args.size[1]}x{args.size[0]}, {args.frames} frames; {machine()}")
        for what, each in rates.items():
            print(f"{what:16s}{median(each):8.1f} frames/s")
        both = sum(1 / median(rates[what]) for what in ("decoding", "encoding"))
        print(f"decoding and encoding, one after the other: {1 / both:.1f} frames/s")
        peaks = {"demo_folder.py": memory}
        _, peaks["evaluate.py"] = run_script(
            "evaluate.py", "--snapshot", folder / "network.pth", "--data-root", CITY, "--limit", 40)
        _, peaks["train.py"] = run_script(
            "train.py", "--arch", args.arch, "--data-root", CITY, "--crop-size", 160, 320,
            "--max-steps", 20, "--batch-size", 8, "--run-dir", folder / "run")
        print("peak memory, without that of workers: " + ", ".join(
            f"{name} {bytes_ / 1e6:.0f} MB" for name, bytes_ in peaks.items()))


if __name__ == "__main__":
    run(main)
