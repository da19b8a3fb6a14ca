"""`make_scene(seed)`: a street as far as one sees, described; a pure function of the seed.

Nothing here knows pixels: `datasets.render` draws a scene as a camera sees it.
"""

import math

from datasets.street.builder import Builder
from datasets.street.layout import build_side, lay_road, place_furniture
from datasets.street.users import place_people, place_vehicles
from datasets.street.world import Camera, Light, Scene


def make_scene(seed: int) -> Scene:
    """A random street, its users and its light; the same for the same non-negative seed."""
    b = Builder(seed)
    lane = b.between(3.0, 3.6)
    right, left = (int(b.pick((1, 1, 2))) for _ in range(2))
    own = int(b.rng.integers(right))
    parking = {side: 2.2 if b.chance(0.45) else 0.0 for side in (-1, 1)}
    b.camera_t = (own + 0.5) * lane
    b.edges = (left * lane + parking[-1], right * lane + parking[1])
    lanes = [(k + 0.5) * lane for k in range(-left, right)]
    crossing = b.between(10.0, 26.0) if b.chance(0.4) else None

    lay_road(b, lane, (left, right), parking, crossing)
    barriers: list[str] = [kind for kind in ("wall", "fence") if kind in b.cast]
    b.rng.shuffle(barriers)
    for side in b.rng.permutation((-1, 1)).tolist():
        queue = [barriers.pop() for _ in barriers[: 1 if side > 0 or b.chance(0.6) else 2]]
        build_side(b, side, b.edges[side > 0], queue)
    for _ in range(14):  # what ends the view
        b.add("building" if b.chance(0.5) else "tree", b.between(-110, 110), b.between(175, 215),
              (b.between(8, 14), b.between(12, 30), b.between(7, 20)))  # fmt: skip
    place_furniture(b, crossing)
    place_vehicles(b, lanes, parking, crossing)
    place_people(b, crossing)

    camera_t = b.camera_t + b.between(-0.3, 0.3)
    camera = Camera((camera_t, 0.0, b.between(1.2, 1.6)), b.between(-0.06, 0.06),
                    b.between(-0.06, 0.01), b.between(0.9, 1.15),
                    b.between(0.03, 0.1) if b.chance(0.5) else 0.0)  # fmt: skip
    return Scene(seed, b.curvature, tuple(b.strips), tuple(b.things), _light(b), camera)


def _light(b: Builder) -> Light:
    """Four skies in ten are overcast: gray, without shadows."""
    overcast = b.chance(0.4)
    elevation, azimuth = b.between(0.3, 1.1), b.between(-math.pi, math.pi)
    level = math.cos(elevation)
    gray, warm = b.between(0.75, 1.0), b.between(-0.12, 0.12)
    blue = (b.between(0.15, 0.3), 0.42, b.between(0.7, 0.95))
    return Light(
        sun=(level * math.sin(azimuth), level * math.cos(azimuth), math.sin(elevation)),
        direct=b.between(0.0, 0.12) if overcast else b.between(0.9, 2.0),
        ambient=b.between(0.7, 0.95) if overcast else b.between(0.45, 0.7),
        tint=(1 + warm, 1 + b.between(-0.03, 0.06), 1 - warm),
        exposure=b.between(0.65, 1.25),
        haze=b.between(0.0005, 0.0045),
        zenith=(0.8 * gray, 0.85 * gray, 0.9 * gray) if overcast else blue,
        horizon=(gray, gray, gray) if overcast else (0.78, 0.88, 1.0),
        clouds=b.between(0.0, 1.0),
    )
