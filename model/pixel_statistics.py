"""What pixels are normalized by, as files of the model hub beside a network say it."""

import json
import math
from pathlib import Path
from typing import Any

from utils.files import read_file

Statistics = tuple[tuple[float, ...] | None, tuple[float, ...] | None]


def read_statistics(folder: Path) -> Statistics:
    """Mean and standard deviation of the pixels in 0..255, RGB; None where no file says them.

    Raises:
        ValueError: a file that is not as its package writes it, or no such normalization.
    """
    for name, read in FILES.items():
        path = folder / name
        if not path.is_file():
            continue
        try:
            if found := read(read_json(path)):
                return _constants(*found)
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"{path}: not as its package writes it ({error!r})") from None
        except _Unusable as error:
            raise ValueError(f"{path}: {error}") from None
    return None, None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError."""
    try:
        content = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no JSON object")
    return content


class _Unusable(Exception):
    """A normalization that is not of given means and deviations."""


def _of_albumentations(content: dict[str, Any]) -> tuple[Any, Any, float] | None:
    """Mean, std and what both are multiplied by: of the first Normalize, however deep it stands."""
    waiting = [content.get("transform")]
    while waiting:
        part = waiting.pop(0)
        if not isinstance(part, dict):
            continue
        if str(part.get("__class_fullname__")).rpartition(".")[2] == "Normalize":
            if (kind := part.get("normalization", "standard")) != "standard":
                raise _Unusable(f"normalization {kind!r}, of each image by itself; 'standard' is "
                                "expected")
            factor = part.get("max_pixel_value", 255)
            return part["mean"], part["std"], 255 if factor is None else factor
        waiting[:0] = part.get("transforms") or []
    return None


def _of_transformers(content: dict[str, Any]) -> tuple[Any, Any, float] | None:
    """Mean, std and what both are multiplied by."""
    scaled, normalized = (content.get(key, True) for key in ("do_rescale", "do_normalize"))
    if scaled and normalized and not content.keys() & {"image_mean", "image_std"}:
        return None
    factor = 1 / content.get("rescale_factor", 1 / 255) if scaled else 1
    return (content["image_mean"], content["image_std"], factor) if normalized else (0, 1, factor)


def _constants(mean: Any, std: Any, factor: float) -> Statistics:
    """Three numbers each, of one for all channels or of three."""
    means, stds = (tuple(round(factor * value, 4)
                         for value in (each if isinstance(each, list) else [each] * 3))
                   for each in (mean, std))
    if not len(means) == len(stds) == 3 or not all(map(math.isfinite, means + stds)) or (
            min(stds) <= 0):
        raise _Unusable(f"mean {mean} and std {std} of the pixels; one or three finite numbers "
                        "each are expected, std above 0")
    return means, stds


FILES = {  # of segmentation_models_pytorch, of transformers
    "albumentations_config_eval.json": _of_albumentations,
    "preprocessor_config.json": _of_transformers,
}
