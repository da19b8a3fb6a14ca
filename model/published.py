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
CSPSG = (  # github.com/zhouliguo/cspsg, numbers are places in its list of layers
    (r"model\.0\.", "encoder.stem."),
    (r"model\.1\.", "encoder.stage1.0."),
    (r"model\.2\.", "encoder.stage1.1."),
    (r"model\.3\.", "encoder.stage2.0."),
    (r"model\.4\.", "encoder.stage2.1."),
    (r"model\.5\.", "encoder.stage3.0."),
    (r"model\.6\.", "encoder.stage3.1."),
    (r"model\.7\.", "encoder.stage4.0."),
    (r"model\.8\.", "encoder.stage4.1."),
    (r"model\.9\.cv1\.", "encoder.pyramid.reduce."),
    (r"model\.9\.cv2\.", "encoder.pyramid.fuse."),
    (r"model\.10\.", "decoder.narrow.0."),
    (r"model\.13\.", "decoder.fuse.0."),
    (r"model\.14\.", "decoder.narrow.1."),
    (r"model\.17\.", "decoder.fuse.1."),
    (r"model\.18\.", "decoder.narrow.2."),
    (r"model\.21\.", "decoder.fuse.2."),
    (r"model\.22\.", "decoder.project."),
    (r"model\.24\.m\.0\.", "classifier."),
)
CSPSG_BLOCKS = (  # names within a block, after the places
    (r"(.*)\.m\.(\d+)\.cv(\d)\.", r"\1.blocks.\2.conv\3."),
    (r"(.*)\.cv1\.", r"\1.deep."),
    (r"(.*)\.cv2\.", r"\1.direct."),
    (r"(.*)\.cv3\.", r"\1.fuse."),
)
CSPSG_NAMES = {16: "cspsg_n", 32: "cspsg_s", 48: "cspsg_m", 64: "cspsg_l", 80: "cspsg_x"}  # width
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


def cspsg(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a zhouliguo/cspsg state dict.

    Raises:
        ValueError: its width or number of classes is of no published network.
    """
    width, num_classes = len(weights["model.0.conv.weight"]), len(weights["model.24.m.0.bias"])
    datasets = {19: "cityscapes", 11: "camvid"}
    if width not in CSPSG_NAMES or num_classes not in datasets:
        raise ValueError(
            f"a CSPSG of width {width} with {num_classes} classes is none of the published ones: "
            f"widths {', '.join(map(str, CSPSG_NAMES))}, 19 (Cityscapes) or 11 (CamVid) classes"
        )
    weights = rename(rename(weights, CSPSG), CSPSG_BLOCKS)
    options = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)}
    return {
        "model": {"arch": CSPSG_NAMES[width], "num_classes": num_classes, "options": options},
        "dataset": {"name": datasets[num_classes]},
        "weights": {key.replace(".bn.", ".norm."): weights[key] for key in weights},
    }


PROJECTS = {  # keys that together only this project's files have -> their reader
    ("resnet.resnet.0.weight",): fregu856,
    ("model.22.conv.weight", "model.24.m.0.weight"): cspsg,  # not YOLOv5's own detectors
}


class UnknownNetworkError(ValueError):
    """A state dict of no project known here."""


def recognize(weights: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    """The snapshot of a published state dict.

    Raises:
        UnknownNetworkError: its keys are of no project known here.
    """
    for keys, reader in PROJECTS.items():
        if weights.keys() >= set(keys):
            return reader(weights)
    names = ", ".join(list(weights)[:3])
    raise UnknownNetworkError(
        f"{path}: its {len(weights)} tensors ({names}, ...) are of no network known here; give a "
        "checkpoint written by train.py or a published one that the README lists"
    )
