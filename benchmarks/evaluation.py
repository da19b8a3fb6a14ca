"""Scores one folder of predictions with cityscapesScripts and with ours, in turns.

examples:
  python -m benchmarks.evaluation
  python -m benchmarks.evaluation --images 20 --rounds 7

Of streets at 1024x2048 with instances, and predictions that are wrong in part. Both sides read
the same PNGs and give class, category and instance scores, which are compared too; "cached" is
evaluate.py --cache-truth, which decodes the predictions alone. The floor is OpenCV's PNG decoder.
cityscapesScripts from PyPI comes without the source of its Cython extension, so its Python code is
what is measured.
"""

import contextlib
import copy
import importlib
import io
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.streets import write_streets
from benchmarks.timing import machine, medians
from datasets import build_dataset
from datasets.evaluation.predictions import read_prediction
from datasets.evaluation.scored_set import ScoredSet, open_truth
from utils.images import read_label, write_png
from utils.options.parser import Parser, positive
from utils.processes import count_cores
from utils.scoring.counts import Scores
from utils.scoring.per_image import Scored, evaluate
from utils.scoring.summary import summarize
from utils.stopping import run


def prepare(folder: Path, images: int, size: tuple[int, int]) -> tuple[ScoredSet, list[Path]]:
    """Labels of streets, and predictions that are these moved a little."""
    write_streets(folder, images, size)
    scored = ScoredSet(build_dataset("cityscapes", folder, "train"), "cityscapes", images=False)
    paths = []
    for sample in scored.dataset.samples:
        path = folder / "pred" / f"{sample.name}.png"
        write_png(path, np.roll(read_label(sample.truth), (3, 7), (0, 1)))
        paths.append(path)
    return scored, paths


def ours(scored: ScoredSet, paths: list[Path], threads: int) -> dict[str, Any]:
    """Our scores."""
    def read(index: int) -> Scored:
        image, truth, instances = scored[index]
        return Scored(index, read_prediction(paths[index], "ids", scored), truth, instances, image)

    scores = Scores(scored.labels, scored.sizes)
    evaluate(scores, range(len(scored)), read, None, threads)
    return summarize(scores)


def theirs(official: Any, scored: ScoredSet, paths: list[Path]) -> dict[str, Any]:
    """The official scores."""
    truths = [str(sample.truth) for sample in scored.dataset.samples]
    with contextlib.redirect_stdout(io.StringIO()):
        return official.evaluateImgLists([str(path) for path in paths], truths, official.args)


def decode(scored: ScoredSet, paths: list[Path], threads: int) -> None:
    """The PNG decoder's share: prediction, label and instances."""
    files = [*paths, *(s.truth for s in scored.dataset.samples),
             *(s.instance for s in scored.dataset.samples)]

    def read(path: Path) -> None:
        cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, files))


def equal(first: Any, second: Any) -> bool:
    """Whether all figures are the same, nan being nan."""
    if isinstance(second, dict):
        return all(equal(first[key], value) for key, value in second.items())
    return first == second or (math.isnan(first) and math.isnan(second))


def main() -> None:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.evaluation"
    parser.add_argument("--images", type=positive, default=10, help="pairs to score")
    parser.add_argument("--rounds", type=positive, default=5, help="of which the median is taken")
    parser.add_argument("--size", type=positive, nargs=2, default=(1024, 2048),
                        metavar=("H", "W"), help="pixels of an image")
    args = parser.parse_args()
    setattr(np, "in1d", np.isin)  # noqa: B010  gone in numpy 2.4, used there
    try:
        official = importlib.import_module(
            "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    except ImportError:
        raise RuntimeError("cityscapesscripts: not installed; pip install cityscapesscripts"
                           ) from None
    official.args.JSONOutput, official.args.quiet = False, True
    cv2.setNumThreads(1)
    cores = count_cores()
    with tempfile.TemporaryDirectory() as folder:
        scored, paths = prepare(Path(folder), args.images, tuple(args.size))
        cached = copy.copy(scored)
        cached.truth = open_truth(scored.dataset, cores)
        official_scores = theirs(official, scored, paths)
        same = all(equal(ours(each, paths, 1), official_scores) for each in (scored, cached))
        functions = {"cityscapesScripts": partial(theirs, official, scored, paths)}
        for threads in dict.fromkeys((1, cores)):
            functions[f"ours, {threads} threads"] = partial(ours, scored, paths, threads)
            functions[f"ours, cached, {threads} threads"] = partial(ours, cached, paths, threads)
            functions[f"decoding alone, {threads} threads"] = partial(
                decode, scored, paths, threads)
        seconds = medians(functions, args.rounds)
    print(f"{machine()}, {cores} cores")
    print(f"scores equal: {same}; {args.images} pairs with instances")
    for name, value in seconds.items():
        print(f"{name:28} {1000 * value / args.images:7.1f} ms a pair  "
              f"{seconds['cityscapesScripts'] / value:6.2f}x")


if __name__ == "__main__":
    run(main)
