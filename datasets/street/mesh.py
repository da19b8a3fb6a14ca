"""The polygons of a scene as seen from a place: `build_mesh(scene, view)`."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datasets.street.shapes import build
from datasets.street.solids import Part
from datasets.street.textures import MATERIALS, TWO_SIDED
from datasets.street.world import HAS_INSTANCES, Camera, Scene, Strip, Thing

CORNERS = 14  # of a polygon at most: 12, and one more for each cut through it
NAMES = tuple(MATERIALS)
INDEX = {name: k for k, name in enumerate(NAMES)}
# A capsule's outline: steps across and along its axis, at its first end and at its second.
OUTLINE = np.array(((-1, 0), (-0.7, -0.7), (0, -1), (0.7, -0.7), (1, 0),
                    (1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0)))  # fmt: skip


@dataclass
class View:
    """A camera on a grid of samples: rotation (world to camera), origin, focal length, center.

    Camera axes: x right, y down, z forward. The focal length is in samples.
    """

    rotation: np.ndarray
    origin: np.ndarray
    focal: float
    center: tuple[float, float]
    shape: tuple[int, int]


@dataclass
class Mesh:
    """N polygons in world coordinates, their corners padded by repeating the last one.

    `frame` is (N, 3, 3): the origin and the two axes of (u, v). `radius` is 0 for flat faces.
    `inside` is a point behind the face; NaN where both sides show.
    """

    corners: np.ndarray
    frame: np.ndarray
    inside: np.ndarray
    radius: np.ndarray
    color: np.ndarray
    traits: np.ndarray
    material: np.ndarray
    label: np.ndarray
    instance: np.ndarray


def make_view(camera: Camera, height: int, width: int) -> View:
    """The view of a camera for a picture of this size, on a grid of half pixels.

    The grid has (2 * height + 1, 2 * width + 1) samples; those of odd index are pixel centers.
    """
    cy, sy = math.cos(camera.yaw), math.sin(camera.yaw)
    cp, sp = math.cos(camera.pitch), math.sin(camera.pitch)
    forward, right = np.array((sy * cp, cy * cp, sp)), np.array((cy, -sy, 0.0))
    rotation = np.stack((right, np.cross(forward, right), forward))
    return View(rotation, np.array(camera.position), 2 * camera.focal * width,
                (float(width), float(height)), (2 * height + 1, 2 * width + 1))  # fmt: skip


def rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) times the transpose of (3, 3); not BLAS, whose last bit varies."""
    return sum(vectors[..., c, None] * rotation[:, c] for c in range(3))


def build_mesh(scene: Scene, view: View) -> Mesh:
    """The polygons of a scene; limbs are turned towards the camera.

    Their order depends on nothing else than the things, so polygon k is the same surface in every
    view and at every time.
    """
    meshes = [_strip_mesh(scene)]
    if scene.things:
        meshes.append(_thing_mesh(scene.things, view.origin))
    columns = zip(*(vars(mesh).values() for mesh in meshes), strict=True)
    return Mesh(*(np.concatenate(column) for column in columns))


def _strip_mesh(scene: Scene) -> Mesh:
    quads = [_strip_quads(strip, scene.curvature) for strip in scene.strips]
    rows = [(strip.color, _traits(strip.seed), INDEX[strip.material], strip.label, strip.label)
            for strip, pieces in zip(scene.strips, quads, strict=True) for _ in pieces]  # fmt: skip
    corners = np.concatenate(quads)[:, np.minimum(np.arange(CORNERS), 3)]
    n = len(corners)
    frame = np.broadcast_to(np.eye(4, 3, -1)[:3], (n, 3, 3))
    return Mesh(corners, frame, np.full((n, 3), np.nan), np.zeros(n), *_columns(rows))


def _thing_mesh(things: Sequence[Thing], origin: np.ndarray) -> Mesh:
    rows, parts, owner, points = [], [], [], []
    for k, thing in enumerate(things):
        built = build(thing)
        traits = _traits(thing.seed)
        for part in built:
            label = thing.label if part.label is None else part.label
            instance = 1000 * label + thing.number if label in HAS_INSTANCES else label
            rows.append((part.color, traits, INDEX[part.material], label, instance))
        parts += built
        owner += [k] * len(built)
        cos, sin = math.cos(thing.heading), math.sin(thing.heading)
        turn = np.array(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)))
        local = np.array([point for part in built for point in part.points])
        points.append(rotate(local, turn.T) + thing.position)
    corners, frame, radius = _outlines(parts, np.concatenate(points), origin)
    base = np.array([thing.position for thing in things])[owner]
    height = np.array([thing.size[2] for thing in things])[owner]
    face = radius == 0
    wheel = np.array([part.material == "spokes" for part in parts])
    frame[face & ~wheel, 0] = base[face & ~wheel]
    # A part with a label of its own may stand apart: the thing's middle is not behind it.
    two_sided = np.array([p.material in TWO_SIDED or p.label is not None for p in parts]) | ~face
    inside = base + np.outer(height / 2, (0, 0, 1))
    inside[two_sided] = np.nan
    return Mesh(corners, frame, inside, radius, *_columns(rows))


def _columns(rows: list[tuple]) -> Iterator[np.ndarray]:
    types = (np.float32, np.float32, np.int8, np.int32, np.int32)
    return (np.array(c, t) for c, t in zip(zip(*rows, strict=True), types, strict=True))


def _traits(seed: int) -> np.ndarray:
    """Four numbers in 0..1: the low digits of multiples of irrational numbers."""
    return np.mod((seed + 1) * np.array((0.75487766, 0.56984029, 0.81917251, 0.67104361)), 1)


def _strip_quads(strip: Strip, curvature: float) -> np.ndarray:
    """(M, 4, 3) corners: pieces along the bend, and steps down to the road."""
    t0, t1, s0, s1 = strip.area
    bends = curvature != 0 and s1 < 300
    s = np.linspace(s0, s1, max(2, math.ceil((s1 - s0) / 10) + 1) if bends else 2)
    bend = curvature / 2 * s * s * bends

    def line(t: float, z: float) -> np.ndarray:
        return np.stack((t + bend, s, np.full_like(s, z)), 1)

    def quads(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.stack((a[:-1], b[:-1], b[1:], a[1:]), 1)

    low, high = line(t0, strip.z), line(t1, strip.z)
    result = [quads(low, high)]
    step = np.array((0, 0, strip.z + 0.02))
    if strip.z > 0:
        result.append(np.stack((low[0] - step, high[0] - step, high[0], low[0]))[None])
    if strip.material == "curb":
        inner = low if abs(t0) < abs(t1) else high
        result.append(quads(inner - step, inner))
    return np.concatenate(result)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt((vectors**2).sum(-1, keepdims=True)), 1e-9)


def _outlines(parts: list[Part], points: np.ndarray, origin: np.ndarray):
    """Padded corners (N, CORNERS, 3), frames (N, 3, 3) and radii (N,) of parts in the world."""
    count = np.array([len(part.points) for part in parts])
    start = np.cumsum(count) - count
    corners = points[start[:, None] + np.minimum(np.arange(CORNERS), count[:, None] - 1)]
    radii = np.array([part.radii or (0.0, 0.0) for part in parts])
    round_ = radii[:, 0] > 0

    # Faces: u level, v upwards; on a level face u is its first edge.
    edge = corners[:, 1] - corners[:, 0]
    normal = _unit(np.cross(edge, corners[:, 2] - corners[:, 0]))
    level = np.stack((-normal[:, 1], normal[:, 0], 0 * normal[:, 0]), 1)
    flat = np.abs(normal[:, 2]) > 0.99
    u = _unit(np.where(flat[:, None], edge, level))
    v = np.cross(normal, u)
    v = np.where(v[:, 2:] < 0, -v, v)
    frame = np.stack((corners[:, :12].mean(1), u, v), 1)

    # Limbs: u across as seen from the origin, v along.
    a, b = corners[round_, 0], corners[round_, 1]
    axis = _unit(b - a)
    side = _unit(np.cross(axis, 0.5 * (a + b) - origin))
    frame[round_] = np.stack((a, side, axis), 1)
    shift = OUTLINE[:, :1, None] * side + OUTLINE[:, 1:, None] * axis  # (10, M, 3)
    ends = np.stack((a,) * 5 + (b,) * 5) + shift * np.repeat(radii[round_].T, 5, 0)[..., None]
    corners[round_] = ends[np.minimum(np.arange(CORNERS), 9)].transpose(1, 0, 2)
    return corners, frame, radii.max(1)
