"""Names of segmentation_models_pytorch: its architectures, its encoders, those of timm.

`smp:ARCHITECTURE:ENCODER` is a network of that package, which is optional: nothing here imports it
before such a name is given. github.com/qubvel-org/segmentation_models.pytorch, MIT license.
"""

import difflib
import importlib
import textwrap
from collections.abc import Iterable
from typing import Any

from model.layers import IMAGENET_MEAN, IMAGENET_STD

PREFIX = "smp:"
PACKAGE = "segmentation_models_pytorch"
EXAMPLE = "smp:unet:resnet34"
TIMM = "tu-"  # in front of an encoder of timm
OUTPUT_STRIDES = {"deeplabv3": 8, "deeplabv3plus": 16, "pan": 16}  # the package's own choice
GRAY = ((127.5,) * 3, (127.5,) * 3)
STATISTICS = {  # of encoders that were not trained with those of ImageNet; all are RGB
    "dpn": ((124.0, 117.0, 104.0), (1 / 0.0167,) * 3),
    "inception": GRAY,
    "xception": GRAY,
    "timm-tf_efficientnet_lite": GRAY,
}


def is_smp(name: str) -> bool:
    """Whether a network's name is one of these."""
    return name.startswith(PREFIX)


def load_package(purpose: str) -> Any:
    """The package. Raises ValueError without it."""
    try:
        return importlib.import_module(PACKAGE)
    except ImportError as error:
        raise ValueError(f"{purpose} needs {error.name or PACKAGE}, which is not installed: pip "
                         "install segmentation-models-pytorch") from None


def split(name: str) -> tuple[str, str]:
    """Architecture and encoder of a name; ValueError if the package is missing or lacks them."""
    package = load_package(name)
    architecture, _, encoder = name.removeprefix(PREFIX).partition(":")
    known = list(package.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in known or not encoder:
        raise ValueError(f"{name}: smp:ARCHITECTURE:ENCODER is expected, for example {EXAMPLE}; "
                         f"architectures: {', '.join(known)}")
    if not _is_encoder(package, encoder):
        names = [*package.encoders.encoders, *(TIMM + each for each in _timm().list_models())]
        close = difflib.get_close_matches(encoder, names, n=5, cutoff=0.5)
        advice = f"close to it: {', '.join(close)}; " if close else ""
        raise ValueError(f"{name}: unknown encoder {encoder!r}; {advice}train.py --list-models "
                         "lists them")
    return architecture, encoder


def _timm() -> Any:
    return importlib.import_module("timm")  # the package itself needs it


def timm_name(encoder: str) -> str | None:
    """timm's own name of an encoder that the package takes from there as it is; None for others."""
    package = load_package(encoder)
    if package.encoders.is_equivalent_to_timm_universal(encoder):  # older spelling
        return encoder.replace("timm-", "tf_" if "mobilenetv3" in encoder else "")
    return encoder.removeprefix(TIMM) if encoder.startswith(TIMM) else None


def _is_encoder(package: Any, encoder: str) -> bool:
    name = timm_name(encoder)
    if name is None:
        return encoder in package.encoders.encoders
    timm = _timm()
    base, _, tag = name.partition(".")
    return base in timm.list_models() and (not tag or name in timm.list_pretrained(f"{base}.*"))


def statistics(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the pixels that an encoder expects, in 0..255, RGB; nothing is downloaded.

    The package keeps those of its own encoders beside the weights on a server; `STATISTICS` has
    them. timm's are part of timm.
    """
    name = timm_name(encoder)
    if name is None:
        found = (values for start, values in STATISTICS.items() if encoder.startswith(start))
        return next(found, (IMAGENET_MEAN, IMAGENET_STD))
    settings = _timm().models.get_pretrained_cfg(name)
    if settings is None:
        return IMAGENET_MEAN, IMAGENET_STD
    mean, std = (tuple(round(255 * value, 4) for value in values)
                 for values in (settings.mean, settings.std))
    return mean, std


def pretrained_tag(encoder: str) -> str:
    """Which of an encoder's weights are of ImageNet, or next to them; ValueError if it has none."""
    package = load_package(encoder)
    if (name := timm_name(encoder)) is not None:
        if not _timm().models.is_model_pretrained(name):
            raise ValueError(f"imagenet: timm has no weights for {name}; give a FILE of weights")
        return "imagenet"
    tags = list(package.encoders.encoders[encoder]["pretrained_settings"])
    return "imagenet" if "imagenet" in tags else tags[0]


def describe() -> str:
    """The names that the package can build, for people; one line if it is not installed."""
    what = "smp:ARCHITECTURE:ENCODER"
    try:
        package, timm = load_package(what), _timm()
    except ValueError as error:
        return str(error)
    groups: dict[str, list[str]] = {}
    for name, settings in package.encoders.encoders.items():
        groups.setdefault(settings["encoder"].__name__, []).append(name)
    sizes = {family: len(timm.list_models(module=family)) for family in timm.list_modules()}
    parts = [
        f"{what} is a network of segmentation_models_pytorch {package.__version__}, as {EXAMPLE}",
        "architectures\n" + wrap(package.MODEL_ARCHITECTURES_MAPPING),
        "encoders\n" + "\n".join(map(wrap, groups.values())),
        f"encoders of timm {timm.__version__}, {TIMM} in front, as {TIMM}convnext_tiny: families, "
        "and how many each\n" + wrap(f"{name} {size}" for name, size in sizes.items() if size),
        "names in a family: python -c "
        "\"import timm; print(*timm.list_models(module='convnext'))\"\n"
        "What does not go together, or takes images of one size only, is refused when it is built.",
    ]
    return "\n\n".join(parts)


def wrap(names: Iterable[str]) -> str:
    """Names in lines that a terminal shows."""
    return textwrap.fill(", ".join(names), 98, initial_indent="  ", subsequent_indent="  ",
                         break_long_words=False, break_on_hyphens=False)
