"""Optical flow between two frames, and what it carries from one to the other.

Everywhere flow is backward: the vector at a pixel of the `target` frame points to the same thing in
the `source` frame, so target(y, x) = source(y + v, x + u). What is warped needs no scattering then.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from utils.labels import IGNORE

SMALLEST = 16  # pixels a side, for the coarsest level of the search

# A source of motion: target and source, (H, W, 3) uint8 RGB of one size, and what reads a third
# frame, as far before the source as the target is after it -> (H, W, 2) float32 backward flow.
Motion = Callable[[np.ndarray, np.ndarray, Callable[[], np.ndarray] | None], np.ndarray]


def dis_flow(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 backward flow, pixels right and down, without a learned weight.

    Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.

    Args:
        target: (H, W, 3) uint8 RGB; every pixel gets a vector.
        source: (H, W, 3) uint8 RGB, where the vectors point to.

    Raises ValueError: the sizes differ, or are below `SMALLEST`.
    """
    if target.shape != source.shape or min(target.shape[:2]) < SMALLEST:
        sizes = " and ".join(f"{frame.shape[1]}x{frame.shape[0]}" for frame in (source, target))
        raise ValueError(f"frames of {sizes}: optical flow is found between frames of one size, at "
                         f"least {SMALLEST}x{SMALLEST}")
    # Made anew each time: it holds buffers and must not be used by two threads.
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (target, source)]
    return search.calc(*gray, None)


def warp(source: np.ndarray, flow: np.ndarray, nearest: bool = False) -> np.ndarray:
    """What the target frame looks like by the flow: bilinear, border pixels repeated outside.

    Args:
        source: (H, W) or (H, W, K), uint8 or float32.
        flow: (H, W, 2) float32, backward.
        nearest: takes the nearest pixel instead.
    """
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(source, *_places(flow), method, borderMode=cv2.BORDER_REPLICATE)


def warp_labels(source: np.ndarray, flow: np.ndarray, outside: int = IGNORE) -> np.ndarray:
    """(H, W) uint8 labels of the target frame: the nearest ones; `outside` comes from beyond."""
    return cv2.remap(source, *_places(flow), cv2.INTER_NEAREST,
                     borderMode=cv2.BORDER_CONSTANT, borderValue=outside)


def disagreement(backward: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """(H, W) float32 pixels by which the way to the source and back misses where it started.

    Large where the target shows what the source hides, and where one of the flows is wrong:
    (H, W, 2) float32, `backward` from the target into the source, `forward` the other way.
    """
    return np.linalg.norm(backward + warp(forward, backward), axis=2)


def _places(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column and row in the source of each pixel, float32."""
    height, width = flow.shape[:2]
    columns = flow[..., 0] + np.arange(width, dtype=np.float32)
    rows = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return columns, rows
