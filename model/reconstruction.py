"""A frame made from another by moving its pixels, and what is wrong with it."""

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = {"color": 0.7, "gradient": 0.2, "smoothness": 0.1}  # published


def warp(images: Tensor, displacement: Tensor) -> Tensor:
    """Images sampled at displaced places, bilinear; beyond the border is the border.

    Args:
        images: (N, C, H, W) float.
        displacement: (N, 2, H, W) float, pixels (x, y), at the pixels of the result.

    Returns:
        (N, C, H, W) float.
    """
    height, width = images.shape[-2:]
    x, y = (torch.arange(n, device=displacement.device) for n in (width, height))
    x, y = displacement[:, 0] + x, displacement[:, 1] + y[:, None]
    # Aligned corners: -1 and 1 are the centers of the outermost pixels.
    grid = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], -1)
    return F.grid_sample(images, grid, "bilinear", padding_mode="border", align_corners=True)


def reconstruction_loss(made: Tensor, wanted: Tensor, displacement: Tensor) -> dict[str, Tensor]:
    """What SDCNet2D is trained with: color, differences of neighbors in color, smooth motion.

    Args:
        made: (N, 3, H, W) float in 0..255, the warped frame.
        wanted: (N, 3, H, W) float in 0..255.
        displacement: (N, 2, H, W) float, pixels, that warped it.

    Returns:
        `color` (0..1), `gradient` (0..255), `smoothness` (pixels), each (), a mean; and `total`,
        weighted as published.
    """
    made_steps, wanted_steps = _steps(made), _steps(wanted)
    x, y = _steps(displacement)
    parts = {
        "color": F.l1_loss(made, wanted) / 255,
        "gradient": F.l1_loss(made_steps[0].abs(), wanted_steps[0].abs())
        + F.l1_loss(made_steps[1].abs(), wanted_steps[1].abs()),
        "smoothness": x.abs().mean() + y.abs().mean(),
    }
    total = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
    return parts | {"total": total}


def _steps(values: Tensor) -> tuple[Tensor, Tensor]:
    """From each pixel to the next one in its row, and in its column."""
    return values.diff(dim=-1), values.diff(dim=-2)
