"""Training samples as they are commonly made, rebuilt from their description.

Zhu et al., CVPR 2019, https://arxiv.org/abs/1812.01593: relaxed labels.
"""

import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.relaxation import relax
from datasets.cityscapes_labels import LABELS
from datasets.samples import Sample
from datasets.transforms import PADDING, SIGMA
from utils.labels import IGNORE

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = 0.25
MAPPING = {label.id: label.train_id % 256 for label in LABELS}  # of all 35


def load_gaussian() -> Callable:
    """skimage.filters.gaussian. Raises ValueError without the package."""
    try:
        from skimage.filters import gaussian
    except ImportError:
        raise ValueError("this benchmark compares with scikit-image: pip install scikit-image"
                         ) from None
    return gaussian


def map_one_by_one(ids: np.ndarray) -> np.ndarray:
    """(H, W) train ids: a mask for each of the ids."""
    train_ids = ids.copy()
    for i, train_id in MAPPING.items():
        train_ids[ids == i] = train_id
    return train_ids


def pillow_sample(sample: Sample, crop: int, relaxed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized (3, H, W) and target: PIL, then scikit-image, then scipy."""
    image = Image.open(sample.image).convert("RGB")
    label = Image.fromarray(map_one_by_one(np.array(Image.open(sample.truth))))
    scale = random.uniform(0.5, 2.0)
    size = int(image.width * scale), int(image.height * scale)
    image = image.resize(size, Image.Resampling.BICUBIC)
    label = label.resize(size, Image.Resampling.NEAREST)
    borders = tuple(max(0, (crop - side) // 2 + 1) if side < crop else 0 for side in size)
    image = ImageOps.expand(image, borders, fill=0)
    label = ImageOps.expand(label, borders, fill=IGNORE)
    left, top = (random.randint(0, side - crop) for side in image.size)
    image, label = (part.crop((left, top, left + crop, top + crop)) for part in (image, label))
    if random.random() < 0.5:
        image, label = (part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in (image, label))
    image = v1.ColorJitter(JITTER, JITTER, JITTER, JITTER)(image)
    blurred = load_gaussian()(np.array(image), sigma=random.uniform(*SIGMA), channel_axis=-1)
    image = Image.fromarray((blurred * 255).astype(np.uint8))
    pixels = v1.Normalize(MEAN, STD)(v1.ToTensor()(image))
    target = np.array(label)
    return pixels, torch.from_numpy(relax(target) if relaxed else target)


class TorchvisionSample:
    """Normalized (3, H, W) and target: torchvision.transforms.v2, as its guide composes them."""

    def __init__(self, crop: int, height: int) -> None:
        fill = {tv_tensors.Image: PADDING, tv_tensors.Mask: IGNORE}
        self.table = np.array([MAPPING.get(i, IGNORE) for i in range(256)], np.uint8)
        self.transform = v2.Compose([
            v2.RandomResize(height // 2, 2 * height, antialias=True),
            v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(JITTER, JITTER, JITTER, JITTER),
            v2.GaussianBlur(9, SIGMA),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(MEAN, STD),
        ])

    def __call__(self, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
        image = v2.functional.to_image(Image.open(sample.image).convert("RGB"))
        label = self.table[np.array(Image.open(sample.truth))]
        return self.transform(image, tv_tensors.Mask(label))
