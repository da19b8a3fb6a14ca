"""Steadier labels of a video: logits averaged with those of earlier frames, moved along with it."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.inference.multiscale import Upsample
from utils.video.flow import SMALLEST, dis_flow, warp, warp_labels

SEARCHED = 1024  # pixels of the longer side of the frames that motion is found in
CUT = 0.6  # share of pixels to be trusted; with fewer it is another scene
COLOR = 20.0  # mean over the channels, 0..255: with more difference it is another thing


class Smoother:
    """Exponential averages of logits along the motion, of a stream of frames; causal.

    A frame gets `weight` of the past where the warped last frame looks like it, nothing of it
    elsewhere: what comes into view is not smoothed, and nothing after a cut. A forward-backward
    check beside that doubles the time and lost part of the gain on CamVid.

    Args:
        weight: of the past, 0 to below 1. Averages reach back about 1 / (1 - weight) frames.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.image: np.ndarray | None = None
        self.scores = torch.empty(0)

    def __call__(self, scores: Tensor, upsample: Upsample, images: Tensor) -> Tensor:
        """The averages, (1, C, h, w) as `scores`.

        Args:
            scores: (1, C, h, w) logits or probabilities of a frame, coarse or not.
            upsample: (1, C, h, w) and (H, W) -> (1, C, H, W), each class by itself.
            images: (1, 3, H, W) uint8 RGB, the frame; frames come in order.
        """
        image = np.ascontiguousarray(images[0].permute(1, 2, 0).cpu().numpy())
        before, past = self.image, self.scores
        if before is not None and before.shape == image.shape and past.shape == scores.shape:
            flow, trusted = follow(image, before)
            if trusted.mean() >= CUT:
                places, shares = _to_cells(flow, trusted, upsample, scores)
                past = F.grid_sample(past, places, padding_mode="border", align_corners=True)
                scores = torch.lerp(scores, past, self.weight * shares)
        self.image, self.scores = image, scores
        return scores


def follow(image: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Backward flow into the frame before, (H, W, 2) float32, and where it can be trusted, (H, W).

    Args:
        image: (H, W, 3) uint8 RGB.
        before: of the same size.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        return np.zeros((height, width, 2), np.float32), np.zeros((height, width), bool)
    scale = min(1.0, max(SEARCHED / max(height, width), SMALLEST / min(height, width)))
    size = max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale))
    small, small_before = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                           for frame in (image, before))
    flow = dis_flow(small, small_before)
    looks = cv2.absdiff(warp(small_before, flow), small).mean(2) <= COLOR
    there = warp_labels(np.zeros(size[::-1], np.uint8), flow) == 0
    trusted = (looks & there).astype(np.uint8)
    ratio = np.array([width / size[0], height / size[1]], np.float32)
    flow = np.asarray(cv2.resize(flow, (width, height)) * ratio)
    return flow, cv2.resize(trusted, (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _to_cells(
    flow: np.ndarray, trusted: np.ndarray, upsample: Upsample, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the cells of scores come from, (1, h, w, 2) as grid_sample has it, and (1, 1, h, w)
    shares of their pixels that are trusted.

    Networks differ in where the centers of their cells are, and some have cells beyond the image;
    what they make of numbered cells says it.
    """
    device, size, (h, w) = scores.device, flow.shape[:2], scores.shape[-2:]
    numbers = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy"))
    cells = upsample(numbers[None].float().to(device), size)[0].cpu().numpy()
    columns, rows = cells[0, 0], cells[1, :, 0]  # of every pixel
    x = np.interp(np.arange(w), columns, np.arange(size[1]))  # pixel at the center of every cell
    y = np.interp(np.arange(h), rows, np.arange(size[0]))
    xs, ys = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    side = max(1, round(size[1] / w)), max(1, round(size[0] / h))
    shares = cv2.remap(cv2.blur(trusted.astype(np.float32), side), xs, ys, cv2.INTER_LINEAR)
    vectors = cv2.remap(cv2.blur(flow, side), xs, ys, cv2.INTER_LINEAR)
    places = np.stack([
        2 * np.interp(xs + vectors[..., 0], np.arange(size[1]), columns) / max(1, w - 1),
        2 * np.interp(ys + vectors[..., 1], np.arange(size[0]), rows) / max(1, h - 1),
    ], axis=2) - 1
    return (torch.from_numpy(places.astype(np.float32))[None].to(device),
            torch.from_numpy(shares)[None, None].to(device))
