"""How scores came about, for those who read them later."""

import argparse
from typing import Any

from utils import distributed

DATA = ("holdout", "cv_split", "limit")
NETWORK = ("eval_size", "eval_crop", "class_map", "scales", "flip_average", "window", "overlap",
           "average")


def settings(args: argparse.Namespace, about: dict[str, Any]) -> dict[str, Any]:
    """The options of an evaluation that decide its scores.

    Args:
        args: those of evaluate.py.
        about: what is known of the network, empty for given predictions.
    """
    chosen = {name: getattr(args, name) for name in DATA + (NETWORK if about else ())}
    if args.boundary:
        chosen["boundary_ratio"] = args.boundary_ratio
    return chosen | ({"precision": about["precision"]} if about else {})


def origin(args: argparse.Namespace, data: str, about: dict[str, Any]) -> dict[str, Any]:
    """What the report says: rows of a name and a text, or None where there is nothing to say.

    Args:
        args: those of evaluate.py.
        data: the data set in words.
        about: as in `settings`.
    """
    builder = about.get("options", {}).items()
    chosen = {key: value for key, value in settings(args, about).items()
              if value is not None and value is not False and value != [1.0]}
    return {
        "snapshot": args.snapshot,
        "network": about.get("arch"),
        "options of the network": ", ".join(f"{key} {value}" for key, value in builder) or None,
        "parameters": f"{about['parameters']:,}" if about else None,
        "trained for": f"{about['step']:,} steps" if "step" in about else None,
        "best in training": f"{100 * about['best']:.2f} % val mIoU" if "best" in about else None,
        "predictions": args.predictions,
        "data set": data,
        "evaluated with": ", ".join(f"{key.replace('_', ' ')} {_text(value)}"
                                    for key, value in chosen.items()) or None,
        "processes": distributed.world(),
    }


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
