"""How other projects name their tensors, as tables of regular expressions, and our names for them.

Names are the public interface of checkpoint files; no upstream code is used.
"""

import re
from collections.abc import Callable

from torch import Tensor

Table = tuple[tuple[str, str | Callable[[re.Match], str]], ...]

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
NVIDIA: Table = (  # github.com/NVIDIA/semantic-segmentation, without the "backbone." of branch main
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
SGCPNET: Table = (  # github.com/zhouyuan888888/SGCPNet
    (r"l1\.", "encoder.stem."),
    (r"l2\.", "encoder.stage1.0."),
    (r"l([345])\.(\d)\.", lambda m: f"encoder.stage{int(m[1]) - 1}.{m[2]}."),
    (r"conv([345])\.", lambda m: f"lateral.{int(m[1]) - 3}."),
    (r"sgcp\.td\.", "context.down_again."),
    (r"sgcp\.td_bu\.unit\.0\.(p\d_w1|conv\d_up)", r"context.down.\1"),
    (r"sgcp\.td_bu\.unit\.0\.(p\d_w2|conv\d_down)", r"context.up.\1"),
    (r"sgcp\.td_bu\.unit\.0\.p5_to_p6\.", "context.coarser."),
    (r"sgcp\.td_bu\.unit\.0\.p(\d)_down_channel\.",
     lambda m: f"context.narrow.{int(m[1]) - 3}."),
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
    (r"(encoder\..*)\.conv1\.", r"\1.expand.0."),
    (r"(encoder\..*)\.bn1\.", r"\1.expand.1."),
    (r"(encoder\..*)\.conv2\.", r"\1.depthwise.0."),
    (r"(encoder\..*)\.bn2\.", r"\1.depthwise.1."),
    (r"(encoder\..*)\.conv3\.", r"\1.project.0."),
    (r"(encoder\..*)\.bn3\.", r"\1.project.1."),
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


def rename(weights: dict[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Applies to each key the first row whose pattern matches its beginning."""
    renamed = {}
    for key, tensor in weights.items():
        row = next((row for row in table if re.match(row[0], key)), None)
        renamed[re.sub(row[0], row[1], key, count=1) if row else key] = tensor
    return renamed
