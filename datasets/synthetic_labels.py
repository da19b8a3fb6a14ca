"""The label files of a drawn picture, with the names and contents of those of Cityscapes."""

import json
from pathlib import Path

import numpy as np

from datasets.cityscapes_labels import LABELS
from datasets.polygons import draw_instances, draw_polygons
from datasets.street.coarse import coarse_objects
from datasets.street.outlines import trace_objects
from utils.disk import write_file
from utils.images import write_png
from utils.visualize import colorize

KINDS = {"train": ("gtFine", "gtCoarse"), "val": ("gtFine", "gtCoarse"), "test": (),
         "train_extra": ("gtCoarse",)}  # fmt: skip
PALETTE = [label.color for label in LABELS if label.id >= 0]  # already in that order
NAMES = {label.id: label.name for label in LABELS}


def write_labels(stem: Path, instance_ids: np.ndarray, seed: int) -> None:
    """Writes STEM_polygons.json and what is drawn from it: labelIds, instanceIds, color.

    Instances are numbered in the order of their polygons. Fine polygons give exactly the classes
    of `instance_ids`, and its instances but for what `datasets.street.outlines` calls a group;
    coarse ones are described in `datasets.street.coarse`.

    Args:
        stem: ends in gtFine or gtCoarse.
        instance_ids: (H, W) uint16, 1000 * id + n with any n, or a bare id.
        seed: of the coarse polygons.
    """
    height, width = instance_ids.shape
    if stem.name.endswith("gtFine"):
        objects = trace_objects(instance_ids, NAMES)
    else:
        objects = coarse_objects(instance_ids, NAMES, np.random.default_rng(seed))
    content = {"imgHeight": height, "imgWidth": width, "objects": objects}
    ids = draw_polygons(content)
    write_png(stem.with_name(f"{stem.name}_labelIds.png"), ids)
    write_png(stem.with_name(f"{stem.name}_instanceIds.png"), draw_instances(content))
    write_png(stem.with_name(f"{stem.name}_color.png"), colorize(ids, PALETTE))
    text = json.dumps(content, separators=(",", ":"), default=np.ndarray.tolist)
    write_file(stem.with_name(f"{stem.name}_polygons.json"), text.encode())
