"""Checkpoints of the projects this one unites, recognized by the names of their tensors.

The names decide, `--arch` is not needed.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from model.layers import IMAGENET_MEAN, IMAGENET_STD
from model.published_encoders import RESNET_DEPTHS, count_blocks, looks_like
from model.published_keys import (
    CSPSG,
    CSPSG_BLOCKS,
    FREGU856,
    NVIDIA,
    SGCPNET,
    SGCPNET_BLOCKS,
    SGCPNET_CONVOLUTIONS,
    rename,
)

CSPSG_NAMES = {16: "cspsg_n", 32: "cspsg_s", 48: "cspsg_m", 64: "cspsg_l", 80: "cspsg_x"}  # width
NVIDIA_DATASETS = {19: "cityscapes", 65: "mapillary", 11: "camvid"}  # KITTI has those of Cityscapes


def fregu856(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a fregu856/deeplabv3 state dict.

    That project reads BGR images and normalizes them with the RGB statistics. Ours reads RGB, so
    the input channels of the first convolution and the statistics are both reversed. The twentieth
    logit is void: it counts as a miss wherever it wins.
    """
    output_stride = 8 if "resnet.layer4.0.conv1.weight" in weights else 16
    weights = rename(weights, FREGU856)
    weights["encoder.conv1.weight"] = weights["encoder.conv1.weight"].flip(1)
    blocks = count_blocks(weights, "encoder.layer3.")
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


def nvidia(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a DeepLabV3+ state dict of NVIDIA/semantic-segmentation.

    Its variants D and D16 have the same tensors; D, output stride 8, is what was published. Branch
    main says "backbone." in front of the encoder's names, and enlarges without aligned corners.

    Raises:
        ValueError: its encoder or number of classes is of no published network.
    """
    main = any(key.startswith("backbone.") for key in weights)
    weights = rename({key.removeprefix("backbone."): weights[key] for key in weights}, NVIDIA)
    num_classes, fine = len(weights["classifier.weight"]), weights["decoder.narrow.weight"].shape[1]
    encoder, skips = _nvidia_encoder(weights)
    if encoder is None or fine not in skips or num_classes not in NVIDIA_DATASETS:
        raise ValueError(
            f"a DeepLabV3+ with {num_classes} classes that joins {fine} channels is none of the "
            "published ones: WideResNet38, SE-ResNeXt-50 and 101, ResNet-50 and 101; 19 "
            "(Cityscapes, KITTI), 65 (Mapillary Vistas) or 11 (CamVid) classes"
        )
    # There the pooled branch comes first, here last.
    project = weights["aspp.project.weight"].roll(-256, dims=1)
    options = {"output_stride": 8, "skip": skips[fine], "align_corners": not main}
    return {
        "model": {
            "arch": f"deeplabv3plus_{encoder}", "num_classes": num_classes, "options": options,
        },
        "dataset": {"name": NVIDIA_DATASETS[num_classes]},
        "weights": weights | {"aspp.project.weight": project},
    }


def _nvidia_encoder(weights: dict[str, Tensor]) -> tuple[str | None, dict[int, int]]:
    """Our name of the encoder, None for an unknown one; channels -> stride of finer features."""
    if "encoder.stage7.block1.norms.0.weight" in weights:
        return "wide_resnet38", {128: 2, 256: 4, 512: 8}
    kind = "se_resnext" if "encoder.layer1.0.se.fc1.weight" in weights else "resnet"
    depth = {6: "50", 23: "101"}.get(count_blocks(weights, "encoder.layer3."))
    return depth and kind + depth, {256: 4, 512: 8}


def sgcpnet(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a zhouyuan888888/SGCPNet state dict.

    Raises:
        ValueError: its number of classes is of no published network.
    """
    num_classes = len(weights["classifier.bias"])
    datasets = {19: "cityscapes", 11: "camvid"}
    if num_classes not in datasets:
        raise ValueError(f"an SGCPNet with {num_classes} classes is none of the published ones: 19 "
                         "(Cityscapes) or 11 (CamVid) classes")
    for table in (SGCPNET, SGCPNET_BLOCKS, SGCPNET_CONVOLUTIONS):
        weights = rename(weights, table)
    return {
        "model": {"arch": "sgcpnet", "num_classes": num_classes, "options": {}},
        "dataset": {"name": datasets[num_classes]},
        "weights": weights,
    }


PROJECTS = {  # keys that together only this project's files have -> their reader
    ("resnet.resnet.0.weight",): fregu856,
    ("model.22.conv.weight", "model.24.m.0.weight"): cspsg,  # not YOLOv5's own detectors
    ("aspp.features.0.0.weight", "bot_fine.weight", "final.6.weight"): nvidia,
    ("l1.0.weight", "sgcp.td.p3_w1", "classifier.bias"): sgcpnet,
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
            try:
                return reader(weights)
            except (KeyError, IndexError) as error:
                raise ValueError(f"{path}: looks like a network of {reader.__name__}, but with "
                                 f"tensors missing or damaged ({error}); fetch it again") from None
    names = ", ".join(list(weights)[:3])
    advice = looks_like(weights) or (
        "are of no network known here; give a checkpoint written by train.py or a published one "
        "that the README lists"
    )
    raise UnknownNetworkError(f"{path}: its {len(weights)} tensors ({names}, ...) {advice}")
