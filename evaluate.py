"""Scores a network, or predictions that are there already, on a labelled split.

examples:
  python evaluate.py --snapshot runs/NAME/best.pth --data-root data/cityscapes
  python evaluate.py --predictions results/mine/pred --dataset cityscapes --json scores.json
  python evaluate.py --snapshot best.pth --dataset camvid --split val --save-dir results/camvid
  python evaluate.py --snapshot best.pth --report results/report --compare earlier.json
  python -m torch.distributed.run --standalone --nproc-per-node 8 evaluate.py --snapshot best.pth

IoU and instance IoU per class and category, to the last digit those of cityscapesScripts, at the
labels' own size, from sums over all images: the same for any number of processes.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from datasets import DATASETS, build_as_trained, dataset_of, describe, find_root
from datasets.classes import match_classes
from datasets.doctor import check_ids
from datasets.evaluation.predictions import KINDS, find_predictions, read_prediction, recognize_kind
from datasets.evaluation.scored_set import ScoredSet, open_truth
from datasets.reading import check_exif
from datasets.transforms import EvalTransform
from model import count_parameters
from model.hub import weights_file
from model.snapshot import from_snapshot, read_snapshot
from utils import distributed
from utils.files import settings_of, write_file
from utils.inference.compiled import compile_where_it_pays
from utils.inference.predictor import Predictor, Workload
from utils.options.data import (
    SHIPPED,
    add_class_map,
    add_data,
    add_device,
    add_eval_crop,
    add_snapshot,
    check_output,
    see_as_trained,
)
from utils.options.parser import Parser, share
from utils.options.prediction import add_compile, add_inference, build_inference
from utils.report.page import Report, check_folder, origin, settings, write
from utils.scoring.comparison import Comparison, change_table, read_scores
from utils.scoring.counts import Scores
from utils.scoring.per_image import KINDS as OUTPUTS
from utils.scoring.per_image import Outputs, Scored, evaluate
from utils.scoring.summary import image_ious, image_table, plain, summarize, tables
from utils.stopping import run
from utils.workers import read_shard


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_snapshot(parser)
    group = parser.add_argument_group("predictions, instead of a network")
    group.add_argument("--predictions", metavar="DIR",
                       help="folder of PNGs, searched with its subfolders for NAME*.png")
    group.add_argument("--prediction-kind", default="auto", choices=KINDS,
                       help="what they hold: ids of the data set, train ids, or class colors")
    group = add_data(parser, DATASETS, default=None, split="val")
    group.add_argument("--cache-truth", action="store_true",
                       help="keep labels and instances beside the data set as runs of equal "
                       "pixels: made once, read instead of their PNGs from then on")
    add_eval_crop(parser)
    add_class_map(parser)
    add_inference(parser)
    add_compile(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write all figures there")
    group.add_argument("--csv", metavar="FILE", help="write the IoU of every class in every image "
                       "there, as a table")
    group.add_argument("--overwrite", action="store_true",
                       help="write over figures of another network, data set or split too, and "
                       "over a --csv without its --json")
    group.add_argument("--save-dir", metavar="DIR",
                       help="write pred/ (ids), rgb/ (colors), compose/ (overlay) and diff/ (only "
                       "what is wrong) there")
    group.add_argument("--report", metavar="DIR",
                       help="write DIR/index.html: all figures and the worst and best images, as a "
                       "page that opens without the internet")
    group.add_argument("--compare", metavar="FILE",
                       help="scores of an earlier --json, to show what changed")
    group.add_argument("--boundary", action=argparse.BooleanOptionalAction,
                       help="score boundaries too: boundary IoU and trimap IoU (default: with "
                       "--report)")
    group.add_argument("--boundary-ratio", type=share, metavar="X",
                       help="width of a boundary, as part of the image's diagonal (default: 0.02)")
    add_device(parser)
    args = parser.parse_args()
    if args.boundary is None:
        args.boundary = bool(args.report)
    return args


def open_dataset(args: argparse.Namespace, name: str, known: dict[str, Any]) -> ScoredSet:
    """The labelled split that is scored, with pairs and sizes checked; `known` of the training."""
    dataset = build_as_trained({} if args.class_map else known, name,
                               find_root(name, args.data_root), args.split,
                               EvalTransform(args.eval_size, args.eval_crop),
                               (args.holdout, args.cv_split, args.limit))
    dataset.exif, dataset.bits, args.cv_split = args.exif, args.bits, dataset.cv_split
    dataset.sizes()
    check_exif(dataset)
    check_ids(name, dataset, 0, args.workers)
    scored = ScoredSet(dataset, name, images=bool(args.snapshot or args.save_dir))
    if args.cache_truth:
        scored.truth = open_truth(dataset, torch.get_num_threads())
    return scored


def open_network(
    args: argparse.Namespace, device: torch.device
) -> tuple[ScoredSet, Predictor, dict[str, Any]]:
    """The data set that is scored, the network, and what its snapshot says of it."""
    snapshot = read_snapshot(args.snapshot)
    see_as_trained(args, snapshot)
    name = args.dataset or dataset_of(snapshot)["name"]
    scored = open_dataset(args, name, snapshot["dataset"])
    known = dataset_of(snapshot, describe(scored.dataset, name))
    table = match_classes(known["class_names"], scored.dataset.class_names, args.snapshot,
                          args.class_map)
    network = from_snapshot(snapshot).to(device, memory_format=torch.channels_last)
    about = {key: value for key, value in snapshot.items() if key in ("step", "best", "args")}
    predictor = Predictor(network, table=table, inference=build_inference(args))
    workload = Workload(scored.dataset[0][0].shape[:2], len(scored))
    predictor = compile_where_it_pays(predictor.with_precision(args.precision, workload),
                                      args.compile, workload)
    about |= {"parameters": count_parameters(network), **network.config,
              "precision": predictor.precision,
              "compiled": bool(args.compile or predictor.forward)}
    about |= settings_of({"weights": weights_file(args.snapshot)}, (), ["weights"])
    return scored, predictor, about


def predict_all(predictor: Predictor, scored: ScoredSet, workers: int) -> Iterator[Scored]:
    """This rank's images, predicted one after the other."""
    samples = read_shard(scored, workers, predictor.device)
    for index, item in zip(samples.sampler, samples, strict=True):
        image, truth, instances = (part if part is None else part.numpy() for part in item)
        train_ids = predictor(torch.from_numpy(image), truth.shape).cpu().numpy()
        yield Scored(index, scored.from_train_ids[train_ids], truth, instances, image)


def open_predictions(args: argparse.Namespace) -> tuple[ScoredSet, Callable[[int], Scored]]:
    """The data set, and a function that reads the prediction of a sample of it."""
    scored = open_dataset(args, args.dataset, {})
    found = find_predictions(args.predictions, scored.dataset.names)
    paths = list(found.values())
    kind = args.prediction_kind
    if kind == "auto":
        kind = recognize_kind(paths, scored)
        distributed.say(f"{args.predictions}: {len(paths)} predictions, read as {kind}")

    def read(index: int) -> Scored:
        image, truth, instances = scored[index]
        prediction = read_prediction(paths[index], kind, scored)
        if prediction.shape != truth.shape:
            raise ValueError(f"{paths[index]}: {prediction.shape[1]}x{prediction.shape[0]}, its "
                             f"label {truth.shape[1]}x{truth.shape[0]}")
        return Scored(index, prediction, truth, instances, image)

    return scored, read


def open_outputs(args: argparse.Namespace, scored: ScoredSet) -> Outputs | None:
    """What writes predictions; for a report a network's ids at least, to draw the worst later."""
    if not args.save_dir and not (args.report and args.snapshot):
        return None
    return Outputs(args.save_dir or args.report, scored.labels, scored.dataset.names,
                   OUTPUTS if args.save_dir else ("pred",))


def read_again(scored: ScoredSet, outputs: Outputs, index: int) -> Scored:
    """What was scored of an image, from what was written of it."""
    image, truth, instances = scored[index]
    return Scored(index, outputs.read(index), truth, instances, image)


def check(args: argparse.Namespace) -> None:
    """Refuses what would fail later. Raises ValueError."""
    if bool(args.snapshot) == bool(args.predictions):
        raise ValueError(f"--snapshot FILE, as {SHIPPED}, or --predictions DIR: give one of "
                         "them")
    if args.predictions and not args.dataset:
        raise ValueError("--predictions: give --dataset, files do not say their classes")
    if args.predictions and (args.eval_size or args.eval_crop or args.class_map):
        raise ValueError("--eval-size, --eval-crop and --class-map are for a --snapshot")
    if args.snapshot and args.prediction_kind != "auto":
        raise ValueError("--prediction-kind: is of --predictions")
    if args.boundary_ratio is not None and not (args.boundary and args.boundary_ratio):
        raise ValueError("--boundary-ratio: a number above 0, and only with --boundary or --report")
    check_output(args.json)
    check_output(args.csv)
    if args.csv and args.json and os.path.realpath(args.csv) == os.path.realpath(args.json):
        raise ValueError("--csv and --json: give two files")
    if args.report:
        check_folder(args.report)


def check_overwriting(args: argparse.Namespace, now: dict[str, Any]) -> None:
    """Refuses a --json or --csv that holds something else than figures of `now`.

    Older files say less of what they are of; a --csv says nothing, but may have a --json beside it.
    Raises ValueError.
    """
    def is_there(file: str | None) -> bool:  # not a stream, wherever the shell leads it to
        return bool(file) and not file.startswith(("/dev/std", "/dev/fd/")) and (
            Path(file).is_file() and Path(file).stat().st_size > 0)

    found: dict[str, Any] = {}
    if args.overwrite:
        return
    if is_there(args.json):
        with suppress(ValueError):  # none of ours
            found = read_scores(args.json)
        differ = [key for key in now if found.get(key, now[key]) != now[key]]
        if differ or not found:
            what = (f"other figures, of another run (not the same {', '.join(differ)})" if found
                    else "something else than scores")
            raise ValueError(f"--json {args.json}: holds {what}; give --overwrite, or another file")
    if is_there(args.csv) and not (found and Path(args.csv).read_bytes()[:11] == b"image,mean,"):
        raise ValueError(f"--csv {args.csv}: is there, and may be of another run; give --overwrite,"
                         " or another file")


def main() -> None:
    args = parse_args()
    check(args)
    args.boundary_ratio = args.boundary_ratio or 0.02
    device = distributed.start(args.device, args.threads)
    items: Iterable[Any]
    read, about = None, {}
    if args.snapshot:
        scored, predictor, about = open_network(args, device)
        items = predict_all(predictor, scored, args.workers)
    else:
        scored, read = open_predictions(args)
        items = distributed.shard(len(scored))
    facts = {"snapshot": args.snapshot, "weights": about.get("weights"),
             "predictions": args.predictions, "dataset": scored.name, "split": args.split,
             "root": str(scored.dataset.root)}
    check_overwriting(args, facts)
    before = read_scores(args.compare, scored.labels) if args.compare else {}
    scores = Scores(scored.labels, scored.sizes, args.boundary_ratio * args.boundary)
    outputs = open_outputs(args, scored)
    evaluate(scores, items, read, outputs, torch.get_num_threads(),
             len(distributed.shard(len(scored))))
    if len(scores.images) != len(scored):
        raise RuntimeError(f"{len(scores.images)} of {len(scored)} images were scored")
    if distributed.rank() == 0:
        result = facts | {"settings": settings(args, about)} | summarize(scores)
        comparison = Comparison(args.compare, before, result, scored.labels) if before else None
        lines = [tables(scores, result), *([change_table(comparison)] if comparison else [])]
        lines.append(f"{len(scored)} images of {scored.name} {args.split}, mIoU "
                     f"{100 * result['averageScoreClasses']:.2f} %, "
                     f"{args.snapshot or args.predictions}")
        names = scored.dataset.names
        images = {names[index]: ious for index, ious in image_ious(scores).items()}
        try:  # files before the tables, which may go into a pipe that breaks
            if args.json:
                content = plain(result | {"imageScores": images})
                write_file(Path(args.json), json.dumps(content, indent=1).encode())
            if args.csv:
                write_file(Path(args.csv), image_table(images).encode("utf-8", "surrogateescape"))
            if args.report:
                title = f"{scored.name} {args.split}"
                page = Report(title, args.snapshot or args.predictions, scores, result, names,
                              origin(args, f"{title} in {scored.dataset.root}", about),
                              json.loads(about.get("args", "{}")), comparison)
                scored.images = True
                again = read or partial(read_again, scored, outputs)
                lines.append(f"report: {write(args.report, page, again)}")
        finally:  # and the tables where the disk is full
            print(*lines, sep="\n")
    distributed.stop()


if __name__ == "__main__":
    run(main)
