"""Polygons into depth buffers: which surface each sample of a picture shows, and how near."""

from dataclasses import dataclass

import numpy as np

from datasets.street.mesh import NAMES, Mesh, View, rotate
from datasets.street.textures import CUTOUTS

NEAR = 0.25  # meters; what is nearer to the camera's plane is cut away
KEEP = 1 - 1e-5  # later polygons win ties in depth: a decal lies on its face
SKY = -1


@dataclass
class Buffers:
    """Per sample the index of the surface and the inverse depth, as labelled and as seen.

    They differ where one sees through a fence or a crown, which are labelled as if they were solid.
    `plane` is (N, 3): the inverse depth of surface k is `plane[k] @ (column, row, 1)`.
    """

    surface: np.ndarray
    inverse: np.ndarray
    shown: np.ndarray
    shown_inverse: np.ndarray
    plane: np.ndarray


@dataclass
class _Polygons:
    """What `_cover` needs of each polygon: its box, its edges' lines, its plane."""

    x0: np.ndarray
    x1: np.ndarray
    y0: np.ndarray
    y1: np.ndarray
    slopes: np.ndarray
    starts: np.ndarray
    plane: np.ndarray
    drawn: np.ndarray


def rasterize(mesh: Mesh, view: View) -> Buffers:
    """Draws the polygons: what hides everything behind it first, then what one sees through."""
    polygons = _prepare(mesh, view)
    surface = np.full(view.shape, SKY, np.int32)
    inverse = np.zeros(view.shape, np.float32)
    through = np.isin(mesh.material, [NAMES.index(name) for name in CUTOUTS])
    for k in np.flatnonzero(polygons.drawn & ~through).tolist():
        block, near, mask = _cover(polygons, k, inverse)
        np.copyto(inverse[block], near, where=mask)
        np.copyto(surface[block], k, where=mask)
    shown, shown_inverse = surface.copy(), inverse.copy()
    for k in np.flatnonzero(polygons.drawn & through).tolist():
        block, near, mask = _cover(polygons, k, shown_inverse)
        if not mask.any():
            continue
        u, v = _place(mesh.frame[k], view, 1 / np.maximum(near, 1e-4), block)
        size, name = float(mesh.radius[k]), NAMES[mesh.material[k]]
        if not size:
            size = float(np.ptp(mesh.corners[k, :, 2])) / (2 if name == "spokes" else 1)
        solid, opaque = CUTOUTS[name](u, v, size, float(mesh.traits[k, 3]))
        opaque &= mask
        solid &= mask & (near >= inverse[block] * KEEP)
        np.copyto(inverse[block], near, where=solid)
        np.copyto(surface[block], k, where=solid)
        np.copyto(shown_inverse[block], near, where=opaque)
        np.copyto(shown[block], k, where=opaque)
    return Buffers(surface, inverse, shown, shown_inverse, polygons.plane)


def clip(polygon: np.ndarray) -> np.ndarray:
    """The corners (M, 3), in camera axes, of what is farther than NEAR."""
    far = polygon[:, 2] >= NEAR
    if far.all():
        return polygon
    kept = []
    for k, (a, b) in enumerate(zip(polygon, np.roll(polygon, -1, 0), strict=True)):
        if (a == b).all():  # padding
            continue
        if far[k]:
            kept.append(a)
        if far[k] != (b[2] >= NEAR):
            kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
    return np.array(kept).reshape(-1, 3)


def project(corners: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Corners (..., 3) in camera axes, all in front -> columns and rows of the grid (...)."""
    scaled = corners[..., :2] / corners[..., 2:] * view.focal + view.center
    return scaled[..., 0], scaled[..., 1]


def _prepare(mesh: Mesh, view: View) -> _Polygons:
    corners = rotate(mesh.corners - view.origin, view.rotation)
    normal = np.cross(corners, np.roll(corners, -1, 1)).sum(1)
    distance = (normal * corners[:, 0]).sum(1)
    behind = (normal * rotate(mesh.inside - view.origin, view.rotation)).sum(1)
    away = distance * (distance - behind) > 0  # the camera looks at the face's back
    plane = normal / np.where(distance == 0, 1, distance)[:, None]
    plane[:, :2] /= view.focal
    plane[:, 2] -= plane[:, 0] * view.center[0] + plane[:, 1] * view.center[1]

    near = corners[..., 2] < NEAR
    lost = near.all(1)
    for k in np.flatnonzero(near.any(1) & ~lost & ~away).tolist():
        clipped = clip(corners[k])
        corners[k] = clipped[np.minimum(np.arange(len(corners[k])), len(clipped) - 1)]
    corners[lost | away] = (0, 0, 1)
    x, y = project(corners, view)
    h, w = view.shape
    low_x, high_x, low_y, high_y = (
        np.clip(np.ceil(f(a, 1)), 0, size).astype(int)
        for a, size in ((x, w), (y, h)) for f in (np.min, np.max)
    )  # fmt: skip

    # A sample is inside when it is right of each left edge's line and left of each right one's.
    dx, dy = np.roll(x, -1, 1) - x, np.roll(y, -1, 1) - y
    area = (x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1)
    slope = np.divide(dx, dy, out=np.zeros_like(dx), where=dy != 0)
    downwards = dy * np.sign(area)[:, None]
    sign = np.stack((downwards < 0, downwards > 0), 1) * np.array((1, -1))[:, None]
    starts = np.where(sign == 0, -np.inf, (x - slope * y)[:, None] * sign)
    drawn = (high_x > low_x) & (high_y > low_y) & (distance != 0) & (area != 0)
    return _Polygons(low_x, high_x, low_y, high_y, slope[:, None] * sign, starts, plane, drawn)


def _cover(p: _Polygons, k: int, buffer: np.ndarray):
    """A polygon's block, its inverse depth there, and where it is inside and nearest."""
    block = slice(p.y0[k], p.y1[k]), slice(p.x0[k], p.x1[k])
    rows, columns = np.arange(p.y0[k], p.y1[k]), np.arange(p.x0[k], p.x1[k])
    ends = (rows[:, None, None] * p.slopes[k] + p.starts[k]).max(2)
    a, b, c = p.plane[k]
    near = np.add.outer((b * rows + c).astype(np.float32), (a * columns).astype(np.float32))
    mask = near >= buffer[block] * KEEP
    mask &= (columns >= ends[:, :1]) & (columns < -ends[:, 1:])
    return block, near, mask


def _place(frame: np.ndarray, view: View, depth: np.ndarray, block) -> tuple:
    """(u, v) of a block of samples on a surface's frame."""
    ray_y, ray_x = ((np.arange(s.start, s.stop) - c) / view.focal
                    for s, c in zip(block, view.center[::-1], strict=True))  # fmt: skip
    shift = rotate(view.origin - frame[0], frame[1:])
    axes = rotate(frame[1:], view.rotation)
    return tuple(
        np.add.outer((axis[1] * ray_y + axis[2]).astype(np.float32),
                     (axis[0] * ray_x).astype(np.float32)) * depth + np.float32(s)
        for axis, s in zip(axes, shift, strict=True)
    )  # fmt: skip
