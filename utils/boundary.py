"""How well boundaries are found: boundary IoU and trimap IoU.

Cheng et al., "Boundary IoU", CVPR 2021, https://arxiv.org/abs/2103.16562; Kohli et al., "Robust
higher order potentials", CVPR 2008 (trimaps).
"""

import math

import cv2
import numpy as np


def near_boundary(labels: np.ndarray, width: int, frame: bool) -> np.ndarray:
    """(H, W) bool: another label lies within a square of `width` pixels around.

    One erosion and one dilation of the whole map do for all labels: where they agree, a pixel's
    neighborhood has one label. Equal to eroding each label's mask `width` times by 3x3.

    Args:
        labels: (H, W) uint8, below 255.
        width: pixels.
        frame: whether the image's edge is a boundary, as in boundary IoU.
    """
    kernel = np.ones((2 * width + 1,) * 2, np.uint8)
    kind = cv2.BORDER_CONSTANT if frame else cv2.BORDER_REPLICATE
    least = cv2.erode(labels, kernel, borderType=kind, borderValue=255)
    return least != cv2.dilate(labels, kernel, borderType=kind, borderValue=255)


def boundary_counts(
    truth: np.ndarray,
    prediction: np.ndarray,
    scored: np.ndarray,
    ratio: float,
    trimaps: tuple[int, ...],
) -> np.ndarray:
    """(1 + T, 2, L) int64: intersection and union per label, of boundaries and in each trimap.

    Pixels whose true label is not scored do not count.

    Args:
        truth: (H, W) uint8 labels.
        prediction: likewise.
        scored: (L,) bool.
        ratio: width of the boundary, as part of the image's diagonal.
        trimaps: T widths in pixels.
    """
    width = max(1, round(ratio * math.hypot(*truth.shape)))
    counted = scored[truth]
    own = counted & near_boundary(truth, width, frame=True)
    said = counted & near_boundary(prediction, width, frame=True)
    same = truth == prediction
    rows = [_iou_counts(truth, prediction, own, said, same)]
    for pixels in trimaps:
        band = counted & near_boundary(truth, pixels, frame=False)
        rows.append(_iou_counts(truth, prediction, band, band, same))
    return np.stack([row[:, : len(scored)] for row in rows])


def _iou_counts(
    truth: np.ndarray, prediction: np.ndarray, own: np.ndarray, said: np.ndarray, same: np.ndarray
) -> np.ndarray:
    """(2, 256) intersection and union of `own` pixels of the truth and `said` ones predicted."""
    true, predicted, both = (
        np.bincount(labels[mask], minlength=256)
        for labels, mask in ((truth, own), (prediction, said), (truth, own & said & same))
    )
    return np.stack([both, true + predicted - both])
