"""The shape of each kind of thing: `build(thing)`; here what stands, in `vehicles` what moves."""

import math
from collections.abc import Callable

import numpy as np

from datasets.street import vehicles
from datasets.street.solids import (
    AMBER,
    BLUE,
    DARK,
    GREEN,
    RED,
    STEEL,
    WHITE,
    YELLOW,
    Part,
    box,
    limb,
)  # fmt: skip
from datasets.street.world import IDS, Thing, Vector


def _building(thing: Thing, rng: np.random.Generator) -> list[Part]:
    length, depth, height = thing.size
    x, y = depth / 2, length / 2
    parts = box((-x, x), (-y, y), (-0.2, height), "facade", thing.colors[0])
    trim = tuple(0.7 * c for c in thing.colors[0])
    if rng.random() < 0.5:
        roof = ((0.2, 0.06, 0.04), (0.05, 0.05, 0.055), (0.13, 0.07, 0.05))[rng.integers(3)]
        ridge = height + rng.uniform(2.0, 4.0)
        for side in (-x, x):
            eaves = (1.06 * side, -y, height), (1.06 * side, y, height)
            parts.append(Part("tiles", roof, (*eaves, (0, y, ridge), (0, -y, ridge))))
        for end in (-y, y):
            parts.append(Part("wall", thing.colors[0], ((-x, end, height), (x, end, height),
                                                        (0, end, ridge))))  # fmt: skip
        if rng.random() < 0.6:
            a = rng.uniform(-0.7, 0.7) * y
            parts += box((-0.4, 0.4), (a - 0.4, a + 0.4), (ridge - 1, ridge + 0.9), "wall", roof)
    else:
        parts += box((-x - 0.25, x + 0.25), (-y, y), (height - 0.5, height), "wall", trim)
    if rng.random() < 0.4:  # awnings
        for side in (-1, 1):
            out = side * (x + 1.1)
            points = ((side * x, -0.9 * y, 3.1), (side * x, 0.9 * y, 3.1),
                      (out, 0.9 * y, 2.6), (out, -0.9 * y, 2.6))  # fmt: skip
            parts.append(Part("cloth", thing.colors[1], points))
    elif rng.random() < 0.5:  # a shop's board
        for side in (-x - 0.1, x + 0.1):
            points = ((side, -0.9 * y, 2.7), (side, 0.9 * y, 2.7),
                      (side, 0.9 * y, 3.3), (side, -0.9 * y, 3.3))  # fmt: skip
            parts.append(Part("board", thing.colors[1], points))
    return parts


def _wall(thing: Thing, rng: np.random.Generator) -> list[Part]:
    length, _, height = thing.size
    y = length / 2
    parts = box((-0.15, 0.15), (-y, y), (-0.2, height), "wall", thing.colors[0])
    cap = tuple(0.8 * c for c in thing.colors[0])
    parts += box((-0.22, 0.22), (-y, y), (height, height + 0.1), "wall", cap)
    if rng.random() < 0.5:
        for at in np.arange(-y, y, rng.uniform(3, 6)).tolist():
            parts += box((-0.25, 0.25), (at, at + 0.4), (-0.2, height + 0.25), "wall", cap)
    return parts


def _fence(thing: Thing, rng: np.random.Generator) -> list[Part]:
    length, _, height = thing.size
    y = length / 2
    style = ("bars", "mesh", "boards")[rng.integers(3)]
    color = thing.colors[0] if style != "mesh" else STEEL
    parts = [Part(style, color, ((0, -y, 0), (0, y, 0), (0, y, height), (0, -y, height)))]
    for at in np.arange(-y, y, 2.5).tolist():
        parts.append(limb("plastic", color, (0, at, 0), (0, at, height + 0.05), 0.05))
    return parts


def _hedge(thing: Thing, rng: np.random.Generator) -> list[Part]:
    length, _, height = thing.size
    green = _green(rng)
    y = length / 2
    parts = box((-0.5, 0.5), (-y, y), (-0.2, 0.93 * height), "leaves", green)
    for at in np.arange(-y, y, 0.9).tolist():
        low, top = rng.uniform(0.75, 0.85) * height, rng.uniform(0.85, 0.92) * height
        parts.append(limb("crown", green, (-0.2, at, low), (-0.2, at, top), 0.55))
    return parts


def _green(rng: np.random.Generator) -> Vector:
    autumn = rng.random() < 0.12
    base = np.array((0.2, 0.11, 0.02) if autumn else (0.045, 0.085, 0.02))
    return tuple((base * rng.uniform(0.6, 1.5) * rng.uniform(0.8, 1.25, 3)).tolist())


def _tree(thing: Thing, rng: np.random.Generator) -> list[Part]:
    wide, _, height = thing.size
    green, bark = _green(rng), tuple(rng.uniform(0.6, 1.2) * c for c in (0.06, 0.045, 0.035))
    r, fork = 0.022 * height + 0.03, height * rng.uniform(0.3, 0.42)
    lean = rng.uniform(-0.04, 0.04) * height
    parts = [limb("bark", bark, (0, 0, -0.1), (lean, 0, fork + 0.1 * height), (1.15 * r, 0.8 * r))]
    radius = min(wide, height - fork) / 2
    middle = fork + 0.55 * (height - fork)
    for _ in range(5):
        out = rng.normal(0, 0.45, 3) * radius
        tip = (lean + out[0], out[1], middle + 0.3 * abs(out[2]))
        parts.append(limb("bark", bark, (lean, 0, fork), tip, (0.6 * r, 0.2 * r)))
    for _ in range(9):
        x, y, z = rng.normal(0, 0.42, 3) * radius
        size = radius * rng.uniform(0.5, 0.85)
        center = (lean + x, y, max(middle + z, fork + 0.6 * size))
        parts.append(limb("crown", green, center, (*center[:2], center[2] + 0.02), size))
    return parts


def _lamp(thing: Thing, rng: np.random.Generator) -> list[Part]:
    r, arm, height = thing.size
    gray = tuple(rng.uniform(0.2, 1.4) * c for c in STEEL)
    parts = [limb("metal", gray, (0, 0, 0), (0, 0, height), (0.5 * r, 0.35 * r)),
             limb("metal", gray, (0, 0, height - 0.1), (0, arm, height + 0.3), 0.05),
             limb("metal", gray, (0, arm - 0.2, height + 0.28), (0, arm + 0.5, height + 0.3), 0.1)]
    return parts[: 3 if rng.random() < 0.75 else 1]


def _head(at: Vector, rng: np.random.Generator) -> list[Part]:
    """A traffic light's case and its three lamps, of which one shines, towards the camera car."""
    x, y, z = at
    label = IDS["traffic light"]
    case = box((x - 0.18, x + 0.18), (y - 0.1, y + 0.16), (z, z + 1.0), "plastic", DARK)
    parts = [part._replace(label=label) for part in case]
    lit = rng.integers(3)
    for k, color in enumerate((GREEN, AMBER, RED)):
        shade = tuple(1.8 * c for c in color) if k == lit else tuple(0.07 * c + 0.01 for c in color)
        a = (x, y - 0.12, z + 0.2 + 0.3 * k)
        parts.append(Part("lamp", shade, (a, (x, y - 0.12, a[2] + 0.01)), (0.11, 0.11), label))
    return parts


def _traffic_light(thing: Thing, rng: np.random.Generator) -> list[Part]:
    height = thing.size[2]
    gray = tuple(rng.uniform(0.2, 1.2) * c for c in STEEL)
    parts = [limb("metal", gray, (0, 0, 0), (0, 0, height), 0.07)._replace(label=IDS["pole"])]
    return parts + _head((0, -0.2, height - 1.1), rng)


def _gantry(thing: Thing, rng: np.random.Generator) -> list[Part]:
    _, arm, height = thing.size
    steel = (limb("metal", STEEL, (0, 0, 0), (0, 0, height), 0.11),
             limb("metal", STEEL, (0, 0, height - 0.1), (0, arm, height), 0.07))  # fmt: skip
    parts = [part._replace(label=IDS["pole"]) for part in steel]
    # The arm points along the heading; heads hang from it and look back along the street.
    side = math.copysign(1.0, math.sin(thing.heading))
    turned = [p._replace(points=[(side * -(b + 0.2), a + arm, c) for a, b, c in p.points])
              for p in _head((0, 0, height - 0.8), rng)]  # fmt: skip
    return parts + turned


def _traffic_sign(thing: Thing, rng: np.random.Generator) -> list[Part]:
    _, wide, height = thing.size
    label, r, z = IDS["traffic sign"], 0.5 * wide, height - 0.5 * wide
    parts = [limb("metal", STEEL, (0, 0, 0), (0, 0, height), 0.04)._replace(label=IDS["pole"])]

    back = rng.random() < 0.1  # only fronts are labelled as signs

    def plate(corners: int, scale: float, color, material: str = "sign", phase: float = 0.5):
        angles = (np.arange(corners) + phase) * 2 * math.pi / corners + math.pi / 2
        points = [(r * scale * math.cos(a), -0.06, z + r * scale * math.sin(a)) for a in angles]
        parts.append(Part(material, color, points, None, IDS["static"] if back else label))

    style = rng.integers(5)
    if back:
        plate(12, 1.0, STEEL)
    elif style == 0:  # limits
        for scale, color in ((1.0, RED), (0.78, WHITE)):
            plate(12, scale, color)
        plate(4, 0.5, DARK)
    elif style == 1:  # warnings, give way
        phase = float(rng.choice((0.0, 0.5)))
        for scale, color in ((1.15, RED), (0.75, WHITE)):
            plate(3, scale, color, phase=phase)
    elif style == 2:  # squares, right of way
        plate(4, 1.2, WHITE, phase=0.0)
        plate(4, 0.9, YELLOW, phase=0.0)
    elif style == 3:
        plate(int(rng.choice((4, 12))), 1.1, BLUE)
        plate(4, 0.5, WHITE)
    else:  # directions
        color = (YELLOW, BLUE, WHITE)[rng.integers(3)]
        corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        points = [(1.6 * r * a, -0.06, z + 0.8 * r * b) for a, b in corners]
        parts.append(Part("board", color, points, None, label))
    return parts


def _bollard(thing: Thing, rng: np.random.Generator) -> list[Part]:
    return [limb("paint", thing.colors[0], (0, 0, 0), (0, 0, thing.size[2]), thing.size[0] / 2)]


def _crate(thing: Thing, rng: np.random.Generator) -> list[Part]:
    y, x, z = thing.size
    return box((-x / 2, x / 2), (-y / 2, y / 2), (0.1, z), "plastic", thing.colors[0])


SHAPES: dict[str, Callable[[Thing, np.random.Generator], list[Part]]] = {
    "building": _building, "wall": _wall, "fence": _fence, "hedge": _hedge, "tree": _tree,
    "lamp": _lamp, "traffic light": _traffic_light, "gantry": _gantry,
    "traffic sign": _traffic_sign, "bollard": _bollard, "bin": _crate, "cart": _crate,
    "car": vehicles.car, "truck": vehicles.truck, "bus": vehicles.coach, "train": vehicles.coach,
    "motorcycle": vehicles.motorcycle, "bicycle": vehicles.bicycle, "person": vehicles.person,
    "rider": vehicles.rider,
}  # fmt: skip


def build(thing: Thing) -> list[Part]:
    """The parts of a thing; later parts lie on earlier ones where they share a plane."""
    return SHAPES[thing.kind](thing, np.random.default_rng(thing.seed))
