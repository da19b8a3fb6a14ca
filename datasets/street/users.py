"""Who uses a street: vehicles in its lanes and at its curbs, two-wheelers, people."""

import math

from datasets.street.builder import Builder


def place_vehicles(b: Builder, lanes: list[float], parking, crossing: float | None) -> None:
    """Rare vehicles first, as they need the long gaps; cars fill what is left.

    Args:
        b: the scene.
        lanes: their middles, meters right of the center line; the left ones are oncoming.
        parking: width of the parking lane by side, -1 or 1.
        crossing: where a zebra crossing begins along the street.
    """
    for t in lanes:
        b.taken[t] = [(-30.0, 9.0 if abs(t - b.camera_t) < 1.5 else -4.0)]
        if crossing:
            b.taken[t].append((crossing - 2.5, crossing + 3.5))
    inner = sorted((t for t in lanes if abs(t - b.camera_t) > 1.5), key=abs)[:1]
    for kind, where in (("train", inner), ("bus", lanes), ("truck", lanes)):
        if kind in b.cast:
            b.put(kind, where, 9, 45)
    _place_two_wheelers(b, lanes)
    for side in (-1, 1):
        if parking[side]:
            _park_cars(b, side)
    for _ in range(int(b.rng.integers(0, 4 + 3 * len(lanes)))):
        b.put("car", lanes, 6, b.between(20, 120))


def _place_two_wheelers(b: Builder, lanes: list[float]) -> None:
    for kind in ("motorcycle", "bicycle"):
        for side in (-1, 1):
            if kind in b.cast and b.chance(0.75):
                _park_bikes(b, kind, side)
    for _ in range(int(b.rng.integers(1, 4)) if "rider" in b.cast else 0):
        _place_rider(b, lanes)


def _park_bikes(b: Builder, kind: str, side: int) -> None:
    """A row beside the curb, across the street's direction."""
    t = side * (b.edges[side > 0] + b.between(0.6, 2.2))
    s = b.ahead(t, 8, 20)
    for _ in range(int(b.rng.integers(1, 6))):
        s += b.between(0.6, 1.1)
        if b.clear(t, s, 0.5):
            b.add(kind, t, s, turn=side * b.between(1.1, 1.9))


def _park_cars(b: Builder, side: int) -> None:
    density, s = b.between(0.3, 0.95), b.between(-6, 8)
    while s < 110:
        if b.chance(density):
            kind = "truck" if b.chance(0.02) else "car"
            size = b.size(kind)
            turn = math.pi * (side < 0) + b.between(-0.04, 0.04)
            b.add(kind, side * (b.edges[side > 0] - 1.1), s + size[0] / 2, size, turn)
            s += size[0] - 5.5
        s += b.between(5.8, 7.5)


def _place_rider(b: Builder, lanes) -> None:
    """A rider and the two-wheeler below, at the edge of a lane or crossing the road."""
    kind = "bicycle" if b.chance(0.65) else "motorcycle"
    for _ in range(10):
        lane = b.pick(lanes)
        t = lane + math.copysign(b.between(0.6, 1.2), lane)
        s = b.ahead(t, 8, 30)
        if b.clear(t, s, 1.5):
            break
    else:
        return
    b.taken[lane].append((s - 1.5, s + 1.5))
    crosses = b.chance(0.3)
    turn = b.pick((-1.5, 1.5)) if crosses else math.pi * (t < 0)
    turn += b.between(-0.35, 0.35)
    b.add(kind, t, s, turn=turn, speed=4.0)
    b.add("rider", t, s, (b.things[-1].size[0], 0.5, 1.7), turn, 4.0)


def place_people(b: Builder, crossing: float | None) -> None:
    """Walkers on the sidewalks and, above all on a zebra crossing, on the road."""
    if "person" not in b.cast:
        return
    for _ in range(int(b.rng.integers(3, 15))):
        side = b.pick((-1, 1))
        t = side * (b.edges[side > 0] + b.between(0.3, 3.2))
        s = b.ahead(t, 8, b.pick((20, 40, 70)))
        turn = b.pick((0.0, math.pi, b.between(-math.pi, math.pi)))
        if b.clear(t, s, 0.45):
            b.add("person", t, s, turn=turn, speed=1.2)
    for _ in range(int(b.rng.integers(1, 5)) if crossing else b.chance(0.3)):
        t = b.between(-b.edges[0], b.edges[1])
        s = crossing + b.between(0.2, 3) if crossing else b.between(12, 40)
        if crossing or b.clear(t, s):
            b.add("person", t, s, turn=b.pick((-1.57, 1.57)), speed=1.2)
