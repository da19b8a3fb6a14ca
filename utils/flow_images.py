"""Optical flow as images: 16-bit RGB PNG files with the encoding of KITTI."""

from pathlib import Path

import cv2
import numpy as np

from utils.disk import write_file
from utils.images import open_image, shown, stored_as

STEPS, ZERO, MOST = 64.0, 1 << 15, (1 << 16) - 1  # a pixel, no motion, the largest value
END = b"IEND\xaeB\x60\x82"


def write_flow(path: Path, vectors: np.ndarray, state: np.ndarray) -> None:
    """Writes R = 64 u + 2^15, G = 64 v + 2^15, B = state; whole or not at all.

    Args:
        path: a PNG.
        vectors: (H, W, 2) float, pixels right and down, kept to 1/64 pixel.
        state: (H, W) uint8, 0 is unknown. Vectors beyond 511 pixels become unknown.
    """
    steps = np.rint(vectors * STEPS) + ZERO
    fits = ((steps >= 0) & (steps <= MOST)).all(2) & (state > 0)
    pixels = np.dstack((np.where(fits[..., None], steps, 0), np.where(fits, state, 0)))
    bgr = np.ascontiguousarray(pixels[..., ::-1].astype(np.uint16))
    write_file(path, cv2.imencode(".png", bgr)[1].tobytes())


def read_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 2) float32, pixels right and down, 0 where unknown; (H, W) uint8 state.

    The state is 0 where the flow is unknown; of KITTI's own files, else 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a 16-bit RGB PNG, or damaged.
    """
    with open_image(path) as file:
        data = file.read()
    if (kind := stored_as(data[:26])) != "16-bit RGB PNG":
        raise ValueError(f"{shown(path)}: {kind or 'no image'}, expected flow (16-bit RGB PNG)")
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if bgr is None or not data.endswith(END):  # cv2 fills what is missing
        raise ValueError(f"{shown(path)}: truncated or damaged PNG; restore the file")
    state = bgr[..., 0].astype(np.uint8)
    vectors = (bgr[..., :0:-1].astype(np.float32) - ZERO) / np.float32(STEPS)
    vectors[state == 0] = 0
    return vectors, state
