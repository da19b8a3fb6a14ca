"""Checkpoints of the projects this one unites, recognized by their keys.

A table of regular expressions per project turns its names into ours; the names decide, `--arch`
is not needed. Names are the public interface of those files; no upstream code is used.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from model.layers import IMAGENET_MEAN, IMAGENET_STD

FREGU856 = (  # github.com/fregu856/deeplabv3
    (r"resnet\.resnet\.0\.", "encoder.conv1."),
    (r"resnet\.resnet\.1\.", "encoder.bn1."),
    (r"resnet\.resnet\.4\.", "encoder.layer1."),
    (r"resnet\.resnet\.5\.", "encoder.layer2."),
    (r"resnet\.resnet\.6\.", "encoder.layer3."),  # output stride 16
    (r"resnet\.layer4\.", "encoder.layer3."),  # output stride 8
    (r"resnet\.layer5\.", "encoder.layer4."),
    (r"aspp\.conv_1x1_1\.", "aspp.branches.0.0."),
    (r"aspp\.bn_conv_1x1_1\.", "aspp.branches.0.1."),
    (r"aspp\.conv_3x3_(\d)\.", r"aspp.branches.\1.0."),
    (r"aspp\.bn_conv_3x3_(\d)\.", r"aspp.branches.\1.1."),
    (r"aspp\.conv_1x1_2\.", "aspp.pooled.0."),
    (r"aspp\.bn_conv_1x1_2\.", "aspp.pooled.1."),
    (r"aspp\.conv_1x1_3\.", "aspp.project.0."),
    (r"aspp\.bn_conv_1x1_3\.", "aspp.project.1."),
    (r"aspp\.conv_1x1_4\.", "classifier."),
)
RESNET_DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}


def rename(weights: dict[str, Tensor], table: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    """Applies to each key the first row whose pattern matches its beginning."""
    renamed = {}
    for key, tensor in weights.items():
        row = next((row for row in table if re.match(row[0], key)), None)
        renamed[re.sub(row[0], row[1], key, count=1) if row else key] = tensor
    return renamed


def fregu856(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a fregu856/deeplabv3 state dict.

    That project reads BGR images and normalizes them with the RGB statistics. Ours reads RGB, so
    the input channels of the first convolution and the statistics are both reversed. The twentieth
    logit is void: it counts as a miss wherever it wins.
    """
    output_stride = 8 if "resnet.layer4.0.conv1.weight" in weights else 16
    weights = rename(weights, FREGU856)
    weights["encoder.conv1.weight"] = weights["encoder.conv1.weight"].flip(1)
    blocks = len({key.split(".")[2] for key in weights if key.startswith("encoder.layer3.")})
    depth = RESNET_DEPTHS[blocks, "encoder.layer3.0.conv3.weight" in weights]
    options = {
        "output_stride": output_stride,
        "mean": IMAGENET_MEAN[::-1],
        "std": IMAGENET_STD[::-1],
    }
    num_classes = len(weights["classifier.bias"])
    return {
        "model": {
            "arch": f"deeplabv3_resnet{depth}", "num_classes": num_classes, "options": options,
        },
        "dataset": {"name": "cityscapes"},
        "weights": weights,
    }


PROJECTS = {  # a key that only this project's files have -> their reader
    "resnet.resnet.0.weight": fregu856,
}


class UnknownNetworkError(ValueError):
    """A state dict of no project known here."""


def recognize(weights: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    """The snapshot of a published state dict.

    Raises:
        UnknownNetworkError: its keys are of no project known here.
    """
    for key, reader in PROJECTS.items():
        if key in weights:
            return reader(weights)
    names = ", ".join(list(weights)[:3])
    raise UnknownNetworkError(
        f"{path}: its {len(weights)} tensors ({names}, ...) are of no network known here; give a "
        "checkpoint written by train.py or a published one that the README lists"
    )
