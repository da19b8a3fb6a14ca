"""How other projects name their tensors, as tables of regular expressions, and our names for them.

Names are the public interface of checkpoint files; no upstream code is used.
"""

import re

from torch import Tensor

Table = tuple[tuple[str, str], ...]

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
NVIDIA = (  # github.com/NVIDIA/semantic-segmentation, without the "backbone." of branch main
    (r"layer0\.(?:0|conv1)\.", "encoder.conv1."),
    (r"layer0\.(?:1|bn1)\.", "encoder.bn1."),
    (r"(layer\d\.\d+)\.se_module\.", r"encoder.\1.se."),
    (r"(layer\d\.\d+)\.", r"encoder.\1."),
    (r"mod1\.conv1\.", "encoder.stage1."),
    (r"mod(\d)\.(block\d)\.bn1\.0\.", r"encoder.stage\1.\2.norms.0."),
    (r"mod(\d)\.(block\d)\.convs\.bn2\.0\.", r"encoder.stage\1.\2.norms.1."),
    (r"mod(\d)\.(block\d)\.convs\.bn3\.0\.", r"encoder.stage\1.\2.norms.2."),
    (r"mod(\d)\.(block\d)\.convs\.conv1\.", r"encoder.stage\1.\2.convs.0."),
    (r"mod(\d)\.(block\d)\.convs\.conv2\.", r"encoder.stage\1.\2.convs.1."),
    (r"mod(\d)\.(block\d)\.convs\.conv3\.", r"encoder.stage\1.\2.convs.2."),
    (r"mod(\d)\.(block\d)\.proj_conv\.", r"encoder.stage\1.\2.shortcut."),
    (r"aspp\.features\.(\d)\.", r"aspp.branches.\1."),
    (r"aspp\.img_conv\.", "aspp.pooled."),
    (r"bot_aspp\.", "aspp.project."),
    (r"bot_fine\.", "decoder.narrow."),
    (r"final\.0\.", "decoder.fuse.0.0."),
    (r"final\.1\.", "decoder.fuse.0.1."),
    (r"final\.3\.", "decoder.fuse.1.0."),
    (r"final\.4\.", "decoder.fuse.1.1."),
    (r"final\.6\.", "classifier."),
)


def rename(weights: dict[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Applies to each key the first row whose pattern matches its beginning."""
    renamed = {}
    for key, tensor in weights.items():
        row = next((row for row in table if re.match(row[0], key)), None)
        renamed[re.sub(row[0], row[1], key, count=1) if row else key] = tensor
    return renamed
