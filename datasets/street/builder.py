"""A scene under construction: what may stand in it, and the draws that all its parts share."""

import math
from collections import Counter

import numpy as np

from datasets.street.world import IDS, OTHER_NAMES, Strip, Thing, Vector, linear

# One palette for vehicles, walls, fences and clothes, so that a color names no class.
PAINTS = (
    "e8e8e6", "d8d9da", "b0b3b5", "8c9093", "5c6064", "2e3134", "141517", "7a1f1c", "a8322a",
    "1f3a63", "3c6291", "6f8fae", "25452f", "5b7a4e", "c9a227", "d9c9a3", "a3825a", "6b4a33",
    "c46a2b", "8a8f6a", "52364a", "e3dccb", "9aa7ad", "3b2a22",
)  # fmt: skip
FACADES = (
    "d9cdb4", "c8b48c", "b98d6a", "9c5a44", "7d4034", "a69e93", "8a8680", "c9c7c2", "e2dfd6",
    "b7a7a0", "d4a98a", "6f6a66", "c2b280", "96a0a6", "dcc59a", "84735f",
)  # fmt: skip

# Length, width, height in meters: smallest, largest.
SIZES = {
    "car": ((3.7, 1.68, 1.36), (4.9, 1.92, 1.66)),
    "truck": ((6.5, 2.2, 2.7), (12.0, 2.55, 3.8)),
    "bus": ((9.0, 2.45, 2.9), (12.5, 2.55, 3.3)),
    "train": ((18.0, 2.4, 3.3), (32.0, 2.65, 3.7)),
    "motorcycle": ((1.9, 0.7, 1.1), (2.3, 0.9, 1.3)),
    "bicycle": ((1.6, 0.55, 1.0), (1.85, 0.65, 1.1)),
    "person": ((0.5, 0.5, 1.5), (0.6, 0.6, 1.92)),
    "traffic light": ((0.3, 0.3, 3.0), (0.35, 0.35, 4.2)),
    "gantry": ((0.3, 4.0, 5.2), (0.35, 6.0, 5.8)),
    "traffic sign": ((0.1, 0.6, 2.4), (0.1, 0.95, 3.4)),
    "lamp": ((0.15, 1.5, 5.0), (0.2, 2.4, 8.0)),
    "bollard": ((0.12, 0.12, 0.8), (0.2, 0.2, 1.1)),
    "bin": ((0.5, 0.5, 0.9), (1.2, 0.8, 1.4)),
    "cart": ((0.9, 0.5, 0.8), (1.2, 0.7, 1.1)),
    "tree": ((3.0, 3.0, 4.5), (7.0, 7.0, 12.0)),
}
# Rare classes take turns: of the seeds 5n to 5n + 4 at least three cast each of them.
CAST = ("truck", "bus", "train", "motorcycle", "bicycle", "rider", "person", "traffic light",
        "traffic sign", "wall", "fence", "terrain")  # fmt: skip
FAR = 170.0  # meters of street that are built
CURB = 0.13


class Builder:
    """A scene under construction: draws sizes and colors, numbers instances, keeps lanes free."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        order = np.tile(np.arange(5), (len(CAST), 1))
        turn = np.random.default_rng(seed // 5).permuted(order, axis=1)[:, seed % 5]
        chosen = (turn < 3) | (self.rng.random(len(CAST)) < 0.15)
        self.cast = {name for name, yes in zip(CAST, chosen, strict=True) if yes}
        self.curvature = 0.0 if self.chance(0.4) else self.between(-0.0035, 0.0035)
        self.strips: list[Strip] = []
        self.things: list[Thing] = []
        self.numbers: Counter[int] = Counter()
        self.taken: dict[float, list[tuple[float, float]]] = {}
        self.spots: list[tuple[float, float]] = []
        self.camera_t = 0.0
        self.edges = (0.0, 0.0)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def pick(self, options):
        return options[self.rng.integers(len(options))]

    def color(self, palette=PAINTS) -> Vector:
        gain = self.between(0.75, 1.2)
        shift = self.rng.uniform(0.9, 1.1, 3)
        return tuple((np.array(linear(self.pick(palette))) * gain * shift).tolist())

    def size(self, kind: str) -> Vector:
        return tuple(self.rng.uniform(*SIZES[kind]).tolist())

    def strip(self, name: str, material: str, area, z: float = 0.0, color: Vector | None = None):
        """Adds a piece of ground; later strips lie on top of earlier ones of the same height."""
        t0, t1, s0, s1 = area
        area = (min(t0, t1), max(t0, t1), s0, s1)
        color = color or self.color()
        seed = int(self.rng.integers(1 << 30))
        self.strips.append(Strip(IDS[name], material, area, z, color, seed))

    def add(self, kind: str, t: float, s: float, size=None, turn: float = 0.0, speed: float = 0.0):
        """Adds a thing at street coordinates, turned against the street's direction."""
        label = IDS[OTHER_NAMES.get(kind, kind)]
        heading = math.atan(self.curvature * s) + turn
        left, right = self.edges
        z = 0.0 if -left < t < right else CURB
        palette = FACADES if kind == "building" else PAINTS
        number = self.numbers[label]
        self.numbers[label] += 1
        self.things.append(Thing(
            kind, label, number, (t + self.curvature / 2 * s * s, s, z), heading,
            size or self.size(kind), (speed * math.sin(heading), speed * math.cos(heading), 0.0),
            (self.color(palette), self.color(), self.color()), int(self.rng.integers(1 << 30)),
        ))  # fmt: skip

        self.spots.append((t, s))

    def clear(self, t: float, s: float, radius: float = 0.8) -> bool:
        """Whether nothing's middle is that near; vehicles keep `taken` parts of lanes besides."""
        lanes = (spans for lane, spans in self.taken.items() if abs(lane - t) < 1.6)
        driven = any(a < s < b for spans in lanes for a, b in spans)
        return not driven and all(math.hypot(t - a, s - b) > radius for a, b in self.spots)

    def ahead(self, t: float, near: float, far: float) -> float:
        """A place along the street between near and far at which t is inside the picture."""
        near = max(near, abs(t - self.camera_t) / 0.38)
        return self.between(near, max(near + 4.0, far))

    def put(self, kind: str, lanes, near: float, far: float) -> bool:
        """Adds a vehicle in the first free place of some tried in lanes; False if none was."""
        size = self.size(kind)
        for _ in range(16):
            t = self.pick(lanes)
            own = abs(t - self.camera_t) < 1.5
            s = self.between(near + 6.0 * own, far) + size[0] / 2
            span = (s - size[0] / 2 - 1.2, s + size[0] / 2 + 1.2)
            if all(span[1] < a or b < span[0] for a, b in self.taken[t]):
                self.taken[t].append(span)
                turn = (math.pi if t < 0 else 0.0) + self.between(-0.03, 0.03)
                self.add(kind, t, s, size, turn, self.between(0, 12))
                return True
        return False
