"""Writes a checkpoint of this project from one that pickles a whole network.

examples:
  python convert_checkpoint.py best.pt cspsg_s.pth
  python convert_checkpoint.py checkpoint.pth ema.pth --key ema
  python convert_checkpoint.py theirs.pt weights.pth --state-dict
  python convert_checkpoint.py --arch smp:unet:efficientnet-b4 best_model.pth ours.pth
  python convert_checkpoint.py --half --results scores.json runs/NAME/best.pth weights/mine.pth

Reads the tensors alone and runs nothing that is in the file: no class of its author has to be
installed, and none is trusted. State dicts of published networks are converted too, and
--half makes a checkpoint of train.py half as large.
"""

import argparse
import json
from pathlib import Path, PureWindowsPath
from typing import Any

from torch import Tensor

from datasets import TABLES, dataset_of
from model import build_model, check_name
from model.hub import BEST, find
from model.published import UnknownNetworkError, recognize
from model.smp.names import is_smp
from model.smp.weights import bare, count_classes, to_ours
from model.snapshot import from_snapshot, load_weights
from utils import checkpoint
from utils.files import shown
from utils.options.data import check_output
from utils.options.parser import Parser, checked
from utils.scoring.comparison import read_scores
from utils.stopping import run
from utils.training.run_folder import BEST_KEYS
from utils.untrusted import check_file, is_network, load_inert, tensors_of

# Of the scores of evaluate.py, what a checkpoint says of itself.
RESULTS = ("dataset", "split", "settings", "images", "averageScoreClasses", "classScores",
           "pixelAccuracy")
PLACES = ("data_root", "run_dir", "resume", "propagated_root")  # options that only say where


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("source", metavar="IN", help="checkpoint to read")
    parser.add_argument("target", metavar="OUT", help="checkpoint to write (.pth)")
    parser.add_argument("--key", metavar="NAME",
                        help="which network of several in the file, for example ema (default: the "
                        "first of " + ", ".join(checkpoint.WRAPPERS) + ")")
    parser.add_argument("--state-dict", action="store_true",
                        help="write the named tensors alone, whatever network they are of")
    parser.add_argument("--arch", type=checked(check_smp), metavar="NAME",
                        help="smp:ARCHITECTURE:ENCODER of a network of segmentation_models_pytorch,"
                        " which its tensors do not tell")
    parser.add_argument("--half", action="store_true",
                        help="weights in half precision, the statistics of batch norms not: of a "
                        "checkpoint of train.py, without what only a training needs")
    parser.add_argument("--results", metavar="FILE",
                        help="with --half, scores of evaluate.py --json that it gets to say of "
                        "itself")
    parser.add_argument("--dataset", choices=tuple(TABLES),
                        help="with --arch, whose train ids the channels of its logits are; more "
                        "are void (default: cityscapes)")
    args = parser.parse_args()
    if args.half and (args.key or args.state_dict or args.arch or args.dataset):
        parser.error("--half: leave out --key, --state-dict, --arch and --dataset; a checkpoint of "
                     "train.py says all that")
    return args


def check_smp(name: str) -> str:
    """The name, if it is of segmentation_models_pytorch; else ValueError."""
    if not is_smp(name):
        raise ValueError(f"{name}: smp:ARCHITECTURE:ENCODER is expected; other networks are known "
                         "by their tensors")
    return check_name(name)


def read_tensors(source: Path, key: str | None) -> tuple[str, dict[str, Tensor]]:
    """What was taken, in words, and the named tensors.

    Raises FileNotFoundError or ValueError: missing, damaged, malicious, no network (under `key`).
    """
    check_file(source)
    content = load_inert(source)
    if isinstance(content, dict) and "format" in content:
        raise ValueError(f"{source}: is one of train.py's already; nothing to convert but by "
                         "--half")

    def is_wanted(value: Any) -> bool:
        return is_network(value) or checkpoint.is_state_dict(value)

    found: dict[str, Any] = {}
    if key is None and is_wanted(content):
        found = {type(content).__name__ if is_network(content) else "a state dict": content}
    elif isinstance(content, dict):
        found = {name: value for name, value in content.items() if is_wanted(value)}
    name = key or next((name for name in (*checkpoint.WRAPPERS, *found) if name in found), "")
    if name not in found:
        raise ValueError(f"{source}: no network{f' {key}' if key else ''}, it has: "
                         f"{shown(', '.join(found)[:200]) or 'none'}")
    taken = found.pop(name)
    others = shown(", ".join(found)[:200])
    words = shown(name) + (f" (also there: {others}; --key NAME takes it)" if others else "")
    weights = dict(tensors_of(taken, source)) if is_network(taken) else taken
    return words, checkpoint.state_dict(weights, source)


def to_snapshot(
    weights: dict[str, Tensor], source: Path, arch: str | None, dataset: str
) -> dict[str, Any]:
    """Model, data set and weights, checked.

    Raises:
        ValueError: they are of no network known here; with an `arch` of
            segmentation_models_pytorch, not of that, or of fewer channels than the data set's.
    """
    if not arch:
        try:
            snapshot = recognize(weights, source)
        except UnknownNetworkError as error:
            raise ValueError(f"{error}; --state-dict writes its tensors as they are") from None
        from_snapshot(snapshot)  # every name and shape fits
        return snapshot
    weights = bare(weights)
    channels, classes = count_classes(weights, source), len(TABLES[dataset].class_names)
    if channels < classes:
        raise ValueError(f"{source}: has {channels} channels, {dataset} {classes} classes; give "
                         "another --dataset")
    network = build_model(arch, channels)
    try:
        load_weights(network, to_ours(weights, network.encoder))
    except ValueError as error:
        raise ValueError(f"{source}: is not {arch}: {error}") from None
    return {"model": network.config, "dataset": {"name": dataset}, "weights": network.state_dict()}


def _halve(tensor: Tensor, name: str) -> Tensor:
    """In float16, if it is of floats. Raises ValueError for what is too large."""
    if not tensor.is_floating_point():
        return tensor
    if not (half := tensor.half()).isfinite().all():
        raise ValueError(f"{name} reaches {tensor.abs().max():.3g}, half precision only 65504; "
                         "leave out --half and give the checkpoint as it is")
    return half


def without_places(options: dict[str, Any]) -> dict[str, Any]:
    """Options without the folders of a machine: of a file its name alone."""
    return {key: PureWindowsPath(value).name if isinstance(value, str) else value
            for key, value in options.items() if key not in PLACES}


def check_scores(scores: dict[str, Any], path: str, source: Path, dataset: str | None) -> None:
    """Refuses scores of another network, or on another data set than its own. Raises ValueError."""
    if scores["dataset"] != dataset:
        raise ValueError(f"{path}: scores on {scores['dataset']}, {source} is of {dataset}; give "
                         "those on its own data set")
    scored = str(scores.get("snapshot"))
    there = Path(scored) / BEST if Path(scored).is_dir() else Path(scored)
    same = there.samefile(source) if there.exists() else (
        PureWindowsPath(scored).name in (source.name, source.resolve().parent.name))
    if not same:
        raise ValueError(f"{path}: scores of {scored}, not of {source}; evaluate this one")


def write_half(source: Path, target: str, results: str | None) -> None:
    """Writes a checkpoint of train.py in half precision, with scores in it.

    Raises FileNotFoundError or ValueError: no such checkpoint or scores, or too large for float16.
    """
    content = checkpoint.read(source)
    checkpoint.check_format(content, source)
    checkpoint.check_finite(content["weights"], source)
    kept = {key: content[key] for key in BEST_KEYS if key in content}
    kept["weights"] = {name: _halve(tensor, f"{source}: {name}") if "running_" not in name else
                       tensor for name, tensor in content["weights"].items()}
    if "args" in kept:
        kept["args"] = json.dumps(without_places(json.loads(kept["args"])))
    if results:
        scores = read_scores(results)
        check_scores(scores, results, source, kept["dataset"]["name"])
        scores["settings"] = without_places(scores.get("settings") or {})
        kept["results"] = json.dumps({key: scores[key] for key in RESULTS if key in scores})
    from_snapshot(kept)  # every name and shape fits
    checkpoint.write(target, kept)
    print(f"{target}: {kept['model']['arch']}, {kept['dataset']['name']}, "
          f"{Path(target).stat().st_size / 1e6:.1f} MB")


def main() -> None:
    args = parse_args()
    check_output(args.target)
    if Path(args.target).exists():
        raise ValueError(f"{args.target}: exists; delete it or give another name")
    source = Path(args.source)
    if source.is_dir():
        source = find(source)
    if args.half:
        write_half(source, args.target, args.results)
        return
    words, weights = read_tensors(source, args.key)
    what = f"{len(weights)} tensors"
    if args.state_dict:
        checkpoint.save(args.target, weights)
    else:
        snapshot = to_snapshot(weights, source, args.arch, args.dataset or "cityscapes")
        snapshot = {"format": checkpoint.FORMAT, **snapshot, "dataset": dataset_of(snapshot)}
        checkpoint.write(args.target, snapshot)
        what = f"{snapshot['model']['arch']}, {snapshot['dataset']['name']}, {what}"
    print(f"{args.target}: {what} of {args.source}, {words}")


if __name__ == "__main__":
    run(main)
