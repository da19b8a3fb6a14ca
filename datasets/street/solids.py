"""What shapes are made of: convex faces, round limbs, boxes, and the colors of materials.

Local axes: x right, y along the heading, z up, meters, origin at the middle of the base.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets.street.world import Vector


class Part(NamedTuple):
    """A flat convex face (`points`, at most 12) or, with `radii`, a limb between two points.

    A limb is drawn as a capsule that faces the camera. `label` None is the thing's own; labels
    other than the thing's belong to no instance.
    """

    material: str
    color: Vector
    points: Sequence[Vector]
    radii: tuple[float, float] | None = None
    label: int | None = None


DARK, TIRE, GLASS = (0.012, 0.012, 0.013), (0.008, 0.008, 0.008), (0.02, 0.024, 0.028)
WHITE, STEEL, SKIN = (0.75, 0.75, 0.73), (0.2, 0.2, 0.21), ((0.5, 0.3, 0.2), (0.12, 0.06, 0.035))
RED, AMBER, GREEN, BLUE, YELLOW = ((0.5, 0.01, 0.01), (0.8, 0.3, 0.01), (0.01, 0.5, 0.1),
                                   (0.01, 0.06, 0.4), (0.75, 0.45, 0.01))  # fmt: skip


def limb(material: str, color: Vector, a: Vector, b: Vector, radii) -> Part:
    """A capsule from a to b; `radii` is one radius or that at a and that at b."""
    pair = radii if isinstance(radii, tuple) else (radii, radii)
    return Part(material, color, (a, b), pair)


def frustum(low: tuple, high: tuple, material: str, color: Vector) -> list[Part]:
    """Five faces (left, right, back, front, top) between two level rectangles x0 x1 y0 y1 z."""
    (a0, a1, b0, b1, z0), (c0, c1, d0, d1, z1) = low, high
    p = ((a0, b0, z0), (a1, b0, z0), (a1, b1, z0), (a0, b1, z0))
    q = ((c0, d0, z1), (c1, d0, z1), (c1, d1, z1), (c0, d1, z1))
    corners = (p[3], p[0], q[0], q[3]), (p[1], p[2], q[2], q[1]), (p[0], p[1], q[1], q[0]), (
        p[2], p[3], q[3], q[2]), q  # fmt: skip
    return [Part(material, color, face) for face in corners]


def box(x, y, z, material: str, color: Vector) -> list[Part]:
    """The five upper faces of a cuboid given by its three intervals."""
    return frustum((*x, *y, z[0]), (*x, *y, z[1]), material, color)


def inset(face: Part, area: tuple, material: str, color: Vector) -> Part:
    """A patch on a four-sided face, its area u0 u1 v0 v1 in fractions from the first corner."""
    p = np.array(face.points)

    def at(u: float, v: float) -> Vector:
        return tuple((p[0] * (1 - u) + p[1] * u) * (1 - v) + (p[3] * (1 - u) + p[2] * u) * v)

    u0, u1, v0, v1 = area
    return Part(material, color, (at(u0, v0), at(u1, v0), at(u1, v1), at(u0, v1)))


def wheels(x: float, places, radius: float) -> list[Part]:
    """Discs on both flanks, with hubs."""
    parts = []
    for side in (-x, x):
        for y in places:
            for r, color in ((radius, TIRE), (0.62 * radius, STEEL)):
                ring = [(side, y + r * math.cos(a), radius + r * math.sin(a))
                        for a in np.linspace(0, 2 * math.pi, 10, endpoint=False)]  # fmt: skip
                parts.append(Part("rubber" if color is TIRE else "metal", color, ring))
    return parts
