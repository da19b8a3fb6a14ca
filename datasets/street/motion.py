"""A street in motion: `plan(scene)` gives a `Motion`, and that the scene at each frame of a clip.

The described moment is frame 19 of 30, as in Cityscapes; frames before it look back in time.
Vehicles keep to their lane and follow its bend, the own car as well; people and two-wheelers go
straight on. A motion that would collide is tried slower, and at last not at all.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from datasets.street.builder import CURB
from datasets.street.collisions import Crowd, footprint
from datasets.street.world import IDS, Camera, Scene, Thing

FRAMES, LABELLED, RATE = 30, 19, 17.0  # of a clip: frames, the described one, frames per second
FIRST, LAST = -LABELLED / RATE, (FRAMES - 1 - LABELLED) / RATE  # seconds
CHECKED = (0, 4, 8, 12, 16, LABELLED, 23, 26, FRAMES - 1)  # frames in which nothing may collide
SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)  # of the wished speed
IN_LANE = frozenset(("car", "truck", "bus", "train"))
OWN_CAR = (4.6, 1.9)  # length and width
STEP = 0.3  # meters before the curb on which people rise
Pose = tuple[float, float, float]  # x, y, heading


@dataclass(frozen=True)
class Pace:
    """Speed in m/s at the described moment, and acceleration in m/s^2."""

    speed: float = 0.0
    gain: float = 0.0

    def way(self, time: float) -> float:
        """Meters since the described moment."""
        return self.speed * time + self.gain / 2 * time * time

    def times(self, share: float) -> "Pace":
        return Pace(share * self.speed, share * self.gain)


STILL = Pace()


@dataclass(frozen=True)
class Ego:
    """How the own car drives: `bend` in 1/m is steering beyond the street's own bend.

    `sway` are rows of amplitude, radians per second and phase: two of yaw, two of pitch (radians),
    two of height (meters).
    """

    pace: Pace
    bend: float
    sway: tuple[tuple[float, float, float], ...]

    def pose(self, scene: Scene, time: float) -> Pose:
        way = self.pace.way(time)
        t = scene.camera.position[0] + self.bend / 2 * way * way
        heading = math.atan(scene.curvature * way) + self.bend * way
        return t + scene.curvature / 2 * way * way, way, heading

    def camera(self, scene: Scene, time: float) -> Camera:
        x, y, heading = self.pose(scene, time)
        moves = [a * (math.sin(w * time + p) - math.sin(p)) for a, w, p in self.sway]
        yaw, pitch, rise = (sum(moves[k : k + 2]) for k in (0, 2, 4))
        camera = scene.camera
        return replace(camera, position=(x, y, camera.position[2] + rise),
                       yaw=camera.yaw + heading + yaw, pitch=camera.pitch + pitch)  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """What moves in a scene and how; `paces` are of its things."""

    scene: Scene
    ego: Ego
    paces: tuple[Pace, ...]

    def at(self, frame: int) -> Scene:
        """The scene and its camera at a frame, 0..29; at frame 19 it is the described scene."""
        if frame == LABELLED:
            return self.scene
        time = (frame - LABELLED) / RATE
        things = tuple(thing if pace == STILL else _moved(self.scene, thing, pace.way(time))
                       for thing, pace in zip(self.scene.things, self.paces, strict=True))
        return replace(self.scene, things=things, camera=self.ego.camera(self.scene, time),
                       frame=frame - LABELLED)  # fmt: skip


def plan(scene: Scene) -> Motion:
    """The motion of a scene: one for each, without collisions that the scene does not have."""
    rng = np.random.default_rng((scene.seed, 17))
    things, own_car = scene.things, len(scene.things)
    ego = _draw_ego(rng)
    crowd = Crowd([*map(footprint, things), OWN_CAR],
                  [*(_track(scene, thing, STILL) for thing in things), _ride(scene, ego, STILL)],
                  CHECKED.index(LABELLED))  # fmt: skip
    paces = [STILL] * (own_car + 1)
    for members in _groups(scene):
        wish = ego.pace if own_car in members else _wish([things[k] for k in members], rng)
        for pace in (wish.times(share) for share in SHARES):
            tracks = [_ride(scene, ego, pace) if k == own_car else _track(scene, things[k], pace)
                      for k in members]  # fmt: skip
            if crowd.move(members, tracks):
                for k in members:
                    paces[k] = pace
                break
    ego = replace(ego, pace=paces[own_car], sway=_sway(paces[own_car].speed, rng))
    return Motion(scene, ego, tuple(paces[:own_car]))


def _groups(scene: Scene) -> list[list[int]]:
    """Who moves together, as indices of things: people, two-wheelers with their riders, the own
    lane with the own car, whose index is the number of things, the other lanes."""
    free: dict[object, list[int]] = defaultdict(list)
    lanes: dict[object, list[int]] = defaultdict(list)
    own = [len(scene.things)]
    for k, thing in enumerate(scene.things):
        if not any(thing.velocity):
            continue
        t = _street_t(scene, thing)
        if thing.kind not in IN_LANE:
            free[thing.position].append(k)
        elif abs(t - scene.camera.position[0]) < 1.5:
            own.append(k)
        else:
            lanes[round(t, 1)].append(k)
    return [*free.values(), own, *lanes.values()]


def _wish(things: Sequence[Thing], rng: np.random.Generator) -> Pace:
    """What these would like to drive or walk; one lane has one pace, so that its gaps stay."""
    speed = sum(math.hypot(*thing.velocity) for thing in things) / len(things)
    if things[0].kind in IN_LANE:
        return _possible(speed, rng.uniform(-1.2, 1.2))
    return Pace(speed * rng.uniform(0.75, 1.3))


def _draw_ego(rng: np.random.Generator) -> Ego:
    """One car in eight waits; of the others, two in five steer out of the street's direction."""
    waits, speed = rng.random() < 0.125, rng.uniform(4.0, 13.0)
    pace = _possible(speed, rng.uniform(-1.5, 1.5))
    # At most 1.5 m/s^2 to the side, and no tighter than a car turns in traffic.
    tightest = min(0.07, 1.5 / speed**2)
    strength = rng.uniform(0.3, 1.0) if rng.random() < 0.4 else rng.uniform(0.0, 0.1)
    bend = float(tightest * strength * rng.choice((-1.0, 1.0)))
    return Ego(STILL if waits else pace, bend, ())


def _possible(speed: float, gain: float) -> Pace:
    """The pace, with an acceleration that turns nobody around within the clip."""
    return Pace(float(speed), float(np.clip(gain, -0.9 * speed / LAST, 0.9 * speed / -FIRST)))


def _sway(speed: float, rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """The body's small movements, more at speed: yaw, pitch and height, two waves each."""
    rough = min(1.0, speed / 6) * rng.uniform(0.3, 1.0)
    sizes = (0.004, 0.001, 0.003, 0.0015, 0.012, 0.004)
    hertz = ((0.3, 0.8), (1.5, 3.0), (0.9, 1.6), (2.0, 3.5), (0.9, 1.6), (2.0, 3.5))
    return tuple((float(rough * size), float(2 * math.pi * rng.uniform(*band)),
                  float(rng.uniform(0, 2 * math.pi)))
                 for size, band in zip(sizes, hertz, strict=True))  # fmt: skip


def _street_t(scene: Scene, thing: Thing) -> float:
    x, y, _ = thing.position
    return x - scene.curvature / 2 * y * y


def _pose(scene: Scene, thing: Thing, way: float) -> Pose:
    """Where a thing is that has gone `way` meters ahead."""
    x, y, _ = thing.position
    if thing.kind not in IN_LANE:
        return (x + way * math.sin(thing.heading), y + way * math.cos(thing.heading),
                thing.heading)  # fmt: skip
    turn = thing.heading - math.atan(scene.curvature * y)
    s = y + math.copysign(way, way * math.cos(turn))
    return (x + scene.curvature / 2 * (s * s - y * y), s,
            math.atan(scene.curvature * s) + turn)  # fmt: skip


def _moved(scene: Scene, thing: Thing, way: float) -> Thing:
    x, y, heading = _pose(scene, thing, way)
    moved = replace(thing, position=(x, y, thing.position[2]), heading=heading)
    if thing.kind in IN_LANE:
        return moved
    z = _height(scene, _street_t(scene, thing), _street_t(scene, moved), thing.position[2])
    walked = way if thing.kind == "person" else 0.0
    return replace(moved, position=(x, y, z), walked=walked)


def _height(scene: Scene, drawn: float, t: float, z: float) -> float:
    """Of the ground below who goes from `drawn` to `t` across the street, and stood at `z`."""
    road = next(strip for strip in scene.strips if strip.label == IDS["road"])

    def beyond(t: float) -> float:  # the curb, in meters
        return max(road.area[0] - t, t - road.area[1])

    if -STEP < beyond(drawn) < 0:  # as drawn, it does not stand on the slope below
        return z
    return CURB * min(max(1 + beyond(t) / STEP, 0.0), 1.0)


def _track(scene: Scene, thing: Thing, pace: Pace) -> list[Pose]:
    return [_pose(scene, thing, pace.way((k - LABELLED) / RATE)) for k in CHECKED]


def _ride(scene: Scene, ego: Ego, pace: Pace) -> list[Pose]:
    paced = replace(ego, pace=pace)
    return [paced.pose(scene, (k - LABELLED) / RATE) for k in CHECKED]
