"""Exact optical flow between two drawings: where the surface points of one are in the other.

Nothing is estimated: the point that a pixel shows has coordinates on its surface, and the surface
has a place in the other drawing. Limbs and crowns face the camera, so their points turn with it,
as their textures do.
"""

import numpy as np

from datasets.render import Drawing
from datasets.street.mesh import rotate
from datasets.street.raster import NEAR

UNKNOWN, HIDDEN, THROUGH, CLEAR = range(4)
TOUCHING = 0.003  # of the depth: a surface that near to a point holds it as well


def flow(start: Drawing, end: Drawing) -> tuple[np.ndarray, np.ndarray]:
    """The way of every pixel's labelled point from `start` to `end`, which show the same things.

    Returns:
        (H, W, 2) float32, pixels right and down; (H, W) uint8: `UNKNOWN`, behind the camera at the
        end, which leaves 0; `HIDDEN`, by something else or outside of the picture at the end;
        `THROUGH`, in both, but seen through at least once: the label moves so, the color is of what
        is behind; `CLEAR`, in both.
    """
    view = start.view
    y, x = (np.arange(1, size, 2, dtype=float) for size in view.shape)
    x, y = np.meshgrid(x, y)
    surface = start.buffers.surface[1::2, 1::2]
    inverse = _inverse_depth(start, surface, x, y)
    column, row, depth = _project(start, end, surface, (x, y, inverse))
    known = depth > np.maximum(NEAR * inverse, 1e-9)
    column, row = (np.where(known, there, here) for there, here in ((column, x), (row, y)))

    h, w = view.shape
    # Between pixel centers, so that what is there can be interpolated.
    inside = known & (column >= 1) & (column <= w - 2) & (row >= 1) & (row <= h - 2)
    at = tuple(np.rint(np.where(inside, place, 0)).astype(int) for place in (row, column))
    seen = end.buffers.surface[at]
    there = np.divide(inverse, depth, out=np.zeros_like(depth), where=known)
    touching = np.abs(_inverse_depth(end, seen, column, row) - there) < TOUCHING * there
    visible = inside & ((seen == surface) | touching) & ~end.hood[at]
    solid = (start.buffers.shown[1::2, 1::2] == surface) & (end.buffers.shown[at] == seen)

    state = np.where(visible, np.where(solid, CLEAR, THROUGH), np.where(known, HIDDEN, UNKNOWN))
    vectors = np.stack((column - x, row - y), -1) / 2
    hood = start.hood[1::2, 1::2]
    vectors[hood], state[hood] = 0, CLEAR
    return vectors.astype(np.float32), state.astype(np.uint8)


def _inverse_depth(drawing: Drawing, surface: np.ndarray, x: np.ndarray, y: np.ndarray):
    """Of surfaces, -1 is the sky, at places of the grid."""
    a, b, c = (np.append(column, 0.0)[surface] for column in drawing.buffers.plane.T)
    return a * x + b * y + c


def _project(start: Drawing, end: Drawing, surface: np.ndarray, place: tuple):
    """Columns and rows of the end's grid, and depths there per depth here.

    Args:
        start, end: the drawings.
        surface: (H, W) which surface, -1 is the sky.
        place: columns, rows and inverse depths (H, W) in the start's grid.
    """
    x, y, inverse = place
    view = start.view
    turn, shift = _transforms(start, end)
    ray = ((x - view.center[0]) / view.focal, (y - view.center[1]) / view.focal, 1.0)
    # Homogeneous, so that the sky is a place like any other: its inverse depth is 0.
    right, down, depth = (
        sum(turn[surface, row, c] * ray[c] for c in range(3)) + shift[surface, row] * inverse
        for row in range(3)
    )
    safe = np.where(depth > 0, depth, 1.0)
    column, row = (end.view.focal * v / safe + c
                   for v, c in zip((right, down), end.view.center, strict=True))  # fmt: skip
    return column, row, depth


def _transforms(start: Drawing, end: Drawing) -> tuple[np.ndarray, np.ndarray]:
    """(N + 1, 3, 3) and (N + 1, 3): a surface's points from camera axes to the end's; last, sky."""
    axes, origins = zip(*(_frames(drawing) for drawing in (start, end)), strict=True)
    # World to world: along the frame's axes, and back out of those that it has at the end.
    motion = np.einsum("nai,naj->nij", axes[1], axes[0])
    shift = rotate_each(motion, start.view.origin - origins[0]) + origins[1] - end.view.origin
    turn = np.einsum("ri,nij,cj->nrc", end.view.rotation, motion, start.view.rotation)
    return turn, rotate(shift, end.view.rotation)


def rotate_each(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", matrices, vectors)


def _frames(drawing: Drawing) -> tuple[np.ndarray, np.ndarray]:
    """Axes (N + 1, 3, 3), the third one upright on the surface, and origins (N + 1, 3)."""
    frame = np.concatenate((drawing.mesh.frame, np.eye(4, 3, -1)[None, :3]))
    axes = np.concatenate((frame[:, 1:], np.cross(frame[:, 1], frame[:, 2])[:, None]), 1)
    return axes, frame[:, 0]
