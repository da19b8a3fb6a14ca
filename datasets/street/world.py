"""What a described street is made of, in meters: things, strips of ground, light, a camera.

World axes: x right, y forward, z up; the car that looks drives along +y. The street itself is
described by (t, s), meters right of its center line and along it; it bends as a parabola.
"""

from dataclasses import dataclass

Vector = tuple[float, ...]  # of three

# Cityscapes ids of what is drawn.
IDS = {
    "ego vehicle": 1, "static": 4, "dynamic": 5, "ground": 6, "road": 7, "sidewalk": 8,
    "parking": 9, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25,
    "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
HAS_INSTANCES = frozenset(range(24, 34))
OTHER_NAMES = {"hedge": "vegetation", "tree": "vegetation", "lamp": "pole", "bollard": "pole",
               "bin": "static", "cart": "dynamic", "gantry": "traffic light"}  # fmt: skip


@dataclass(frozen=True)
class Camera:
    """Where a picture is taken: position in meters, angles in radians (yaw right, pitch up).

    `focal` is the focal length over the image width; `hood` the part of the image height that the
    own vehicle's hood hides.
    """

    position: Vector
    yaw: float = 0.0
    pitch: float = 0.0
    focal: float = 1.1
    hood: float = 0.0


@dataclass(frozen=True)
class Light:
    """Sun and air. Colors are linear RGB; `haze` is the extinction in 1/m."""

    sun: Vector
    direct: float
    ambient: float
    tint: Vector
    exposure: float
    haze: float
    zenith: Vector
    horizon: Vector
    clouds: float


@dataclass(frozen=True)
class Strip:
    """A level piece of ground between t0..t1 and s0..s1, in street coordinates."""

    label: int
    material: str
    area: tuple[float, float, float, float]
    z: float
    color: Vector
    seed: int


@dataclass(frozen=True)
class Thing:
    """An object: where its base's center stands, its heading (0 = along +y, clockwise), its size
    (length along the heading, width, height), velocity in m/s and what its look derives from.

    `walked` is how many meters a person has gone since it was placed: its legs are on that step.
    """

    kind: str
    label: int
    number: int
    position: Vector
    heading: float
    size: Vector
    velocity: Vector
    colors: tuple[Vector, Vector, Vector]
    seed: int
    walked: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything `render` needs but the camera; `camera` is where the describing car stands.

    `frame` counts a video's frames from this scene's moment; it decides about the sensor's grain.
    """

    seed: int
    curvature: float
    strips: tuple[Strip, ...]
    things: tuple[Thing, ...]
    light: Light
    camera: Camera
    frame: int = 0


def linear(color: str) -> Vector:
    """Linear RGB of an sRGB color written as six hexadecimal digits."""
    return tuple((int(color[k : k + 2], 16) / 255) ** 2.2 for k in (0, 2, 4))
