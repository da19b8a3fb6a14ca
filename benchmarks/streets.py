"""Street images and labels that cost as much to decode as those of Cityscapes."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets import build_dataset
from datasets.cityscapes_labels import TABLE
from datasets.render import render
from datasets.scene import make_scene
from utils.images import resize_image

BYTES_PER_PIXEL = 1.12  # 2.35 MB of 1024x2048 in Cityscapes


def write_streets(folder: Path, count: int, size: tuple[int, int], camvid: str | None) -> float:
    """Writes pairs in the layout of Cityscapes; gives the mean size of an image in MB.

    Args:
        folder: becomes the root.
        count: of pairs.
        size: (H, W).
        camvid: root of CamVid, whose images are enlarged; None draws streets.
    """
    total = 0
    for index in tqdm(range(count), desc="making images", disable=None):
        image, ids = _enlarge(camvid, index, size) if camvid else _draw(index, size)
        png = _encode_at_size(image)
        _write(folder / f"leftImg8bit/train/city/city_{index:06d}_000019_leftImg8bit.png", png)
        _write(folder / f"gtFine/train/city/city_{index:06d}_000019_gtFine_labelIds.png",
               _encode(ids))
        total += len(png)
    return total / count / 1e6


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _draw(index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    scene = make_scene(index)
    return render(scene, scene.camera, *size)[:2]


def _enlarge(root: str, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    dataset = build_dataset("camvid", root, "train")
    train_ids = dataset.to_train_ids(dataset.read_ids(index), index)
    ids = np.array([*TABLE.train_id_to_id, *[0] * (256 - 19)], np.uint8)[train_ids]
    return (resize_image(dataset.read_image(index), size),
            cv2.resize(ids, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def _encode_at_size(image: np.ndarray) -> bytes:
    """A PNG, blurred until it is no larger than in Cityscapes: drawn images are grainier."""
    png = _encode(image)
    for sigma in np.arange(0.3, 2, 0.1):
        if len(png) <= BYTES_PER_PIXEL * image.shape[0] * image.shape[1]:
            break
        png = _encode(cv2.GaussianBlur(image, (0, 0), sigma))
    return png


def _encode(array: np.ndarray) -> bytes:
    """A PNG as other programs write it: slower to decode than OpenCV's own."""
    file = BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()
