"""The light of every sample: textures under sun, sky and haze, and shadows on the ground."""

import math

import cv2
import numpy as np

from datasets.street.mesh import NAMES, Mesh, View, rotate
from datasets.street.raster import NEAR, SKY, Buffers, clip, project
from datasets.street.textures import GROUND, MATERIALS, Pixels, noise
from datasets.street.world import Light, Scene

WARM, COLD = np.array(((1.05, 1.0, 0.9), (0.93, 1.0, 1.08)), np.float32)  # sun, sky
SLIM = ("lamp", "gantry", "traffic light", "traffic sign")


def shade(scene: Scene, mesh: Mesh, view: View, buffers: Buffers) -> np.ndarray:
    """(2H+1, 2W+1, 3) float32 linear light of every sample."""
    light, (h, w) = scene.light, view.shape
    ray_x = ((np.arange(w) - view.center[0]) / view.focal).astype(np.float32)
    ray_y = ((np.arange(h) - view.center[1]) / view.focal).astype(np.float32)
    axes = view.rotation.astype(np.float32)
    shown, inverse = buffers.shown.ravel(), buffers.shown_inverse.ravel()
    color = np.empty((h * w, 3), np.float32)
    at = np.flatnonzero(shown == SKY)
    color[at] = _sky(rotate(_rays(ray_x, ray_y, at), axes.T), light)

    # u and v are linear in the ray; four numbers each, the last one the camera's own place.
    shift = mesh.frame[:, 1:] * (view.origin - mesh.frame[:, 0])[:, None]
    places = np.concatenate(
        (rotate(mesh.frame[:, 1:], view.rotation), shift.sum(2)[..., None]), axis=2
    ).reshape(-1, 8).astype(np.float32)  # fmt: skip
    facing = _facing(mesh, view, light)
    sun, ambient = _shadows(scene, view)
    material = np.append(mesh.material, -1).astype(np.int8)[shown]
    for m, name in enumerate(NAMES):
        at = np.flatnonzero(material == m)
        if not at.size:
            continue
        k, depth = shown[at], 1 / inverse[at]
        rays = _rays(ray_x, ray_y, at)
        if name in GROUND:
            world = rotate(rays, axes.T[:2]) * depth[:, None]
            u, v = (world[:, c] + np.float32(view.origin[c]) for c in (0, 1))
            u -= np.float32(scene.curvature / 2) * v * v
            lit = (light.direct * facing[k, 0] * sun[at])[:, None] * WARM
            lit += (light.ambient * ambient[at])[:, None] * COLD
        else:
            p = places[k]
            u = depth * (p[:, 0] * rays[:, 0] + p[:, 1] * rays[:, 1] + p[:, 2]) + p[:, 3]
            v = depth * (p[:, 4] * rays[:, 0] + p[:, 5] * rays[:, 1] + p[:, 6]) + p[:, 7]
            direct = _direct(name, u, v, mesh.radius[k].astype(np.float32), facing[k])
            lit = (light.direct * direct)[:, None] * WARM + light.ambient * COLD
        spread = depth * np.float32(2 / view.focal)
        out = MATERIALS[name](Pixels(u, v, spread, mesh.color[k], mesh.traits[k]))
        if name != "lamp":
            out = out * lit
        air = np.exp(np.float32(-light.haze) * depth)[:, None]
        color[at] = out * air + np.array(light.horizon, np.float32) * (1 - air)
    return color.reshape(h, w, 3)


def _rays(ray_x: np.ndarray, ray_y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(M, 3) rays of depth 1 through samples, in camera axes."""
    rays = np.ones((len(at), 3), np.float32)
    y, x = np.divmod(at, len(ray_x))
    rays[:, 0], rays[:, 1] = ray_x[x], ray_y[y]
    return rays


def _direct(name: str, u: np.ndarray, v: np.ndarray, radius: np.ndarray, facing: np.ndarray):
    """The part of the sun's light that a sample takes in; limbs are round across."""
    lit = facing[:, 0]
    if radius.any():
        across = np.clip(u / np.maximum(radius, 1e-3), -1, 1)
        rounded = np.maximum(lit * np.sqrt(1 - 0.9 * across**2) + facing[:, 1] * across, 0)
        lit = np.where(radius > 0, rounded, lit)
    if name == "crown":
        return np.clip(0.45 + 0.5 * v / radius + 0.3 * lit, 0.1, 1)
    return lit


def _facing(mesh: Mesh, view: View, light: Light) -> np.ndarray:
    """(N, 2) cosines of the sun with each surface's normal to the camera, and with its u axis."""
    normal = np.cross(mesh.frame[:, 1], mesh.frame[:, 2])
    back = (normal * (view.origin - mesh.frame[:, 0])).sum(1) < 0
    sun = np.array(light.sun)
    cosine = (normal * sun).sum(1) * np.where(back, -1, 1)
    cosine = np.where(mesh.radius > 0, cosine, np.maximum(cosine, 0))
    return np.stack((cosine, (mesh.frame[:, 1] * sun).sum(1)), 1).astype(np.float32)


def _sky(rays: np.ndarray, light: Light) -> np.ndarray:
    """Color of the sky in directions (M, 3) of the world."""
    length = np.sqrt((rays**2).sum(1))
    up = rays[:, 2] / length
    blend = np.exp(-6 * np.maximum(up, 0))[:, None]
    horizon, zenith, white = np.array((light.horizon, light.zenith, (0.9, 0.91, 0.93)), np.float32)
    color = horizon * blend + zenith * (1 - blend)
    far = np.maximum(rays[:, 2], 0.02)
    cloud = noise(rays[:, 0] / far, rays[:, 1] / far, 14.0, light.clouds)
    cloud = np.clip(0.5 * cloud + 1.4 * light.clouds - 0.6, 0, 0.9) * np.clip(6 * up, 0, 1)
    toward = np.clip((rays * np.array(light.sun, np.float32)).sum(1) / length, 0, 1)
    glow = np.float32(0.5 * light.direct) * toward**40
    return color + cloud[:, None] * (white - color) + glow[:, None]


def _shadows(scene: Scene, view: View) -> tuple[np.ndarray, np.ndarray]:
    """What reaches the ground of the sun's light and of the sky's, 0..1, per sample."""
    sun, sky = np.zeros((2, *view.shape), np.uint8)
    throw = -np.array(scene.light.sun[:2]) / scene.light.sun[2]
    octagon = np.array([(math.cos(a), math.sin(a)) for a in np.arange(8) * math.pi / 4])
    for thing in scene.things:
        length, width, height = thing.size
        middle, z = np.array(thing.position[:2]), thing.position[2]
        if not -40 < middle[1] < 110:
            continue
        cos, sin = math.cos(thing.heading), math.sin(thing.heading)
        across, along = np.array((cos, -sin)) * width / 2, np.array((sin, cos)) * length / 2
        if thing.kind in SLIM:
            across, along = across * 0.1 / width, along * 0.1 / length
        foot = np.array([i * across + j * along for i in (-1, 1) for j in (-1, 1)]) + middle
        if thing.kind == "tree":
            foot, top = middle + 0.02 * height * octagon, 0.6 * height
            _fill(sun, 0.42 * width * octagon + middle + throw * 0.7 * height, z, view)
        else:
            top = height
        _fill(sun, np.concatenate((foot, foot + throw * top)), z, view)
        _fill(sky, foot, z, view)
    size = max(3, view.shape[0] // 120 | 1)
    soft_sun, soft_sky = (
        cv2.blur(m, (size, size)).ravel().astype(np.float32) / 255 for m in (sun, sky)
    )
    return 1 - 0.95 * soft_sun, 1 - 0.7 * soft_sky


def _fill(target: np.ndarray, points: np.ndarray, z: float, view: View) -> None:
    """Fills the hull of points (M, 2) on the ground."""
    hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(float)
    corners = np.column_stack((hull, np.full(len(hull), z))) - view.origin
    corners = rotate(corners, view.rotation)
    depth = corners[:, 2]
    slope = view.center[0] / view.focal * depth
    if (depth < NEAR).all() or (corners[:, 0] > slope).all() or (corners[:, 0] < -slope).all():
        return
    corners = clip(corners)
    pixels = np.clip(np.stack(project(corners, view), 1), -20000, 20000)
    cv2.fillConvexPoly(target, np.round(pixels * 16).astype(np.int32), 255, cv2.LINE_8, 4)
