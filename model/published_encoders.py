"""Published encoders: weights of ImageNet classifiers, with our names for their tensors."""

from torch import Tensor

from model.published_keys import MOBILENET, NVIDIA, SGCPNET_BLOCKS, rename

CLASSIFIERS: tuple[str, ...] = ("fc.", "last_linear.", "bn_out.", "classifier.")
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


def encoder_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a classifier under our encoder's names, without its last layers.

    Knows torchvision's ResNets, SE-ResNeXts of pretrained-models.pytorch (Cadene), the
    WideResNet38 of NVIDIA/semantic-segmentation and SGCPNet's MobileNet; other names stay.
    """
    mobilenet = "bneck.0.conv1.weight" in weights
    classifiers = MOBILENET_CLASSIFIERS if mobilenet else CLASSIFIERS
    weights = {key: weights[key] for key in weights if not key.startswith(classifiers)}
    for table in (MOBILENET, SGCPNET_BLOCKS) if mobilenet else (NVIDIA,):
        weights = rename(weights, table)
    return {key.removeprefix("encoder."): tensor for key, tensor in weights.items()}


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
    depth = RESNET_DEPTHS.get(
        (count_blocks(weights, "layer3."), "layer3.0.conv3.weight" in weights)
    )
    convolution = weights.get("layer1.0.conv2.weight")
    plain = convolution is not None and tuple(convolution.shape) == (64, 64, 3, 3)  # not ResNeXt
    grouped = convolution is not None and tuple(convolution.shape) == (128, 4, 3, 3)  # ResNeXt
    squeezed = "layer0.conv1.weight" in weights and "layer1.0.se_module.fc1.weight" in weights
    if depth in (50, 101) and grouped and squeezed:
        return f"SE-ResNeXt-{depth}"
    if depth and plain and "conv1.weight" in weights:
        return f"torchvision's ResNet-{depth}"
    return ""
