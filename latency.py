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
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from model import MODELS, check_name, read_snapshot
from model.latency import Figures, Wanted, measure
from utils import options
from utils.argument_types import checked, positive
from utils.disk import write_file
from utils.exit_codes import run
from utils.parser import Parser

COLUMNS = ("network", "M params", "GMACs", "ms p50", "p90", "p99", "copy ms", "MB")


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    group = parser.add_argument_group("networks")
    group.add_argument("--arch", nargs="+", default=[], type=checked(check_name),
                       metavar="NAME",
                       help="with random weights and 19 classes; several are measured one after "
                       f"the other, each in a process of its own: {', '.join(MODELS)}, "
                       "smp:ARCHITECTURE:ENCODER")
    group.add_argument("--snapshot", nargs="+", default=[], metavar="FILE", help="checkpoints")
    group = parser.add_argument_group("measurement")
    group.add_argument("--size", type=positive, nargs=2, default=(1024, 2048), metavar=("H", "W"),
                       help="pixels of an image")
    group.add_argument("--batch-sizes", type=positive, nargs="+", default=[1], metavar="N",
                       help="images per forward; latency is that of the first")
    group.add_argument("--runs", type=positive, default=30, metavar="N",
                       help="of which percentiles are taken")
    group.add_argument("--json", metavar="FILE", help="write all figures there")
    options.add_compile(parser)
    options.add_device(parser)
    return parser.parse_args()


def row(figures: Figures) -> list[str]:
    """The cells of a network."""
    p50, p90, p99 = (f"{1000 * figures.percentile(q):.1f}" for q in (50, 90, 99))
    return [figures.name, f"{figures.parameters / 1e6:.2f}", f"{figures.macs / 1e9:.1f}",
            p50, p90, p99, f"{1000 * figures.copy:.2f}", f"{figures.memory / 1e6:.0f}"]


def table(rows: list[list[str]]) -> str:
    """Columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    return "\n".join(lines)


def main() -> None:
    args = parse_args()
    options.check_output(args.json)
    if not args.arch and not args.snapshot:
        raise ValueError("give --arch NAME ... or --snapshot FILE ...")
    for path in args.snapshot:  # in this process, where what is wrong with it is one line
        read_snapshot(path, weights=True)
    wanted = [Wanted(arch=name, **_common(args)) for name in args.arch]
    wanted += [Wanted(snapshot=path, **_common(args)) for path in args.snapshot]
    results = []
    for each in wanted:  # a fresh process: its memory and its caches are the network's own
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            results.append(pool.submit(measure, each).result())
    print(results[0].about())
    print(table([list(COLUMNS), *map(row, results)]))
    for figures in results:
        rates = ", ".join(f"{rate:.1f} at {size}" for size, rate in figures.throughput.items())
        print(f"{figures.name}: images/s by batch size: {rates}")
    if args.json:
        text = json.dumps([figures.to_json() for figures in results], indent=1)
        write_file(Path(args.json), text.encode())


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {"size": tuple(args.size), "batch_sizes": args.batch_sizes, "runs": args.runs,
            "compile": args.compile, "device": args.device, "precision": args.precision,
            "threads": args.threads}


if __name__ == "__main__":
    run(main)
