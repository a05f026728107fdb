"""The hand-held walk through the sample hall, and robot-height views off that walk.

Poses are `world_from_camera` 4x4 with OpenCV camera axes (x right, y down, z forward).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from trimesh import Trimesh
from trimesh.triangles import closest_point

from scene_cards.samples.hall_model import HALF, NICHE_X, NICHE_Y
from scene_cards.samples.hall_sensor import Intrinsics, cast

Array = NDArray[np.float64]

# x, y, height, heading and pitch in degrees (heading 0 looks along +X, 90 along +Y).
# Two laps round the table and the pillar: one across the room, one lower and more ahead.
WAYPOINTS = np.array(
    [
        (-0.30, -1.55, 1.45, 88, -10),
        (0.7, -1.35, 1.50, 114, -14),
        (1.6, -0.85, 1.52, 145, -8),
        (2.45, 0.10, 1.50, 178, -13),
        (2.35, 1.00, 1.46, 208, -8),
        (1.40, 1.60, 1.42, 240, -14),
        (0.20, 1.60, 1.45, 266, -4),
        (-0.60, 0.75, 1.50, 290, -12),
        (-1.80, 0.40, 1.52, 328, -6),
        (-2.45, -0.65, 1.48, 364, -12),
        (-2.05, -1.45, 1.42, 394, -4),
        (-1.20, -1.60, 1.36, 412, -12),
        (-0.20, -1.55, 1.28, 415, -6),
        (0.75, -1.30, 1.22, 430, 2),
        (1.70, -0.80, 1.18, 458, 6),
        (2.40, 0.10, 1.16, 490, 2),
        (2.15, 1.00, 1.22, 522, -6),
        (1.20, 1.50, 1.26, 550, -13),
        (0.15, 1.45, 1.22, 577, 2),
        (-0.55, 0.75, 1.12, 612, 6),
        (-1.80, 0.45, 1.06, 655, -3),
        (-2.40, -0.50, 1.14, 702, 5),
        (-2.15, -1.35, 1.26, 742, -2),
        (-1.30, -1.70, 1.38, 768, -10),
        (-0.40, -1.57, 1.45, 806, -10),
    ],
    dtype=float,
)
# Glances on the way: waypoint and reach (in waypoints), change of heading and pitch in degrees,
# and how much the walker lingers (0 = not at all, below 1).
GLANCES = ((14.4, 2.0, -6.0, -22.0, 0.5),)  # down at the yellow patch
CLEARANCE = 0.4
ROBOT_HEIGHT = 0.3


def camera_pose(position: Array, heading: float, pitch: float, roll: float) -> Array:
    """Return the 4x4 world_from_camera of a view; angles in radians, pitch positive is up."""
    ch, sh, cp, sp = np.cos(heading), np.sin(heading), np.cos(pitch), np.sin(pitch)
    forward = np.array([ch * cp, sh * cp, sp])
    right = np.array([sh, -ch, 0.0])
    down = np.cross(forward, right)
    cr, sr = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, 0] = cr * right + sr * down
    pose[:3, 1] = -sr * right + cr * down
    pose[:3, 2] = forward
    pose[:3, 3] = position
    return pose


def _sway(t: Array, amplitude: float, rng: np.random.Generator) -> Array:
    """Sum a few slow waves into the sway of a hand, of the given rms."""
    waves = [np.sin(2 * np.pi * (f * t + rng.uniform())) for f in (0.09, 0.17, 0.26)]
    total = np.sum(waves, axis=0)
    return amplitude * total / total.std()


def _bump(x: Array) -> Array:
    """Return a smooth bump: 1 at x = 0, 0 from |x| = 1 on."""
    return np.cos(np.pi / 2 * np.clip(x, -1, 1)) ** 2 * (np.abs(x) < 1)


def surface_points(mesh: Trimesh, pose: Array, camera: Intrinsics) -> Array:
    """Return the world point under every pixel."""
    depth = cast(mesh, camera, pose)[0]
    return (camera.rays() * depth[..., None]).reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]


def visible(points: Array, mesh: Trimesh, pose: Array, camera: Intrinsics) -> NDArray[np.bool_]:
    """Return which of the points the view sees: in front, inside the image, not hidden."""
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    z = np.maximum(local[:, 2], 1e-6)
    u = np.floor(camera.fx * local[:, 0] / z + camera.cx)
    v = np.floor(camera.fy * local[:, 1] / z + camera.cy)
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height) & (local[:, 2] > 0.1)
    front = cast(mesh, camera, pose)[0][v[inside].astype(int), u[inside].astype(int)]
    inside[inside] = np.abs(front - z[inside]) < 0.03 + 0.05 * z[inside]
    return inside


def overlap(mesh: Trimesh, first: Array, second: Array, camera: Intrinsics) -> float:
    """Return the share of the first view's pixels whose surface the second view sees too."""
    return float(visible(surface_points(mesh, first, camera), mesh, second, camera).mean())


def walk(frames: int, mesh: Trimesh, camera: Intrinsics, rng: np.random.Generator) -> Array:
    """Return (frames, 4, 4) poses along the walk, spaced by overlap and by distance."""
    knots = WAYPOINTS.copy()
    knots[:, 3:] = np.radians(knots[:, 3:])
    step = np.hypot(
        np.linalg.norm(np.diff(knots[:, :3], axis=0), axis=1) / 0.22,
        np.diff(knots[:, 3]) / np.radians(14),
    )
    spline = CubicSpline(np.r_[0, np.cumsum(step)], knots)
    fine = np.linspace(0, spline.x[-1], 6 * frames)
    views = [camera_pose(s[:3], s[3], s[4], 0.0) for s in spline(fine)]
    eye = camera.resized(80, 60)
    lost = [1 - overlap(mesh, a, b, eye) for a, b in pairwise(views)]
    length = np.r_[0, np.cumsum(gaussian_filter1d(lost, 1.5))]
    length = 0.7 * length / length[-1] + 0.3 * fine / fine[-1]
    # the hand isn't a metronome: irregular steps
    share = 1 + rng.uniform(-0.12, 0.12, frames - 1)
    at = np.interp(np.r_[0, np.cumsum(share)] / share.sum() * length[-1], length, fine)
    passed = np.interp(at, spline.x, np.arange(len(knots)))
    for waypoint, reach, _, _, linger in GLANCES:
        passed -= linger * (passed - waypoint) * _bump((passed - waypoint) / reach)
    states = spline(np.interp(passed, np.arange(len(knots)), spline.x))
    for waypoint, reach, heading, pitch, _ in GLANCES:
        glance = _bump((passed - waypoint) / reach)
        states[:, 3:] += np.radians(glance[:, None] * (heading, pitch))
    t = np.arange(frames, dtype=float)
    states[:, 2] += _sway(t, 0.012, rng)
    states[:, 4] += _sway(t, np.radians(1.2), rng)
    rolls = _sway(t, np.radians(1.6), rng)
    return np.array([camera_pose(s[:3], s[3], s[4], r) for s, r in zip(states, rolls, strict=True)])


def clearance(points: Array, mesh: Trimesh) -> Array:
    """Return every point's distance to the nearest surface."""
    triangles = np.asarray(mesh.triangles)
    near = [closest_point(triangles, np.tile(p, (len(triangles), 1))) for p in points]
    return np.array([np.linalg.norm(n - p, axis=1).min() for n, p in zip(near, points, strict=True)])


def _robot_can_stand(point: Array, mesh: Trimesh, track: Array) -> bool:
    """Return whether the point is in the open: on the bare floor, inside, off the walk."""
    if point[0] > NICHE_X - CLEARANCE and point[1] < NICHE_Y + CLEARANCE:
        return False
    if clearance(point[None], mesh)[0] < ROBOT_HEIGHT - 0.01:
        return False
    if np.linalg.norm(track[:, :2, 3] - point[:2], axis=1).min() < 0.15:
        return False
    below = mesh.ray.intersects_location([point], [[0.0, 0.0, -1.0]])[0]
    above = mesh.ray.intersects_location([point], [[0.0, 0.0, 1.0]])[0]
    bare = len(below) > 0 and abs(below[:, 2].max()) < 1e-4
    return bool(bare and len(above) and above[:, 2].min() > 2.0)


def off_track(
    mesh: Trimesh,
    track: Array,
    eye: Intrinsics,
    track_camera: Intrinsics,
    rng: np.random.Generator,
    count: int = 24,
) -> tuple[Array, list[float]]:
    """Return robot-height poses away from the walk, headings spread over the circle.

    The second value is each view's share of pixels whose surface at least two frames of the walk
    saw; views below 0.9 are drawn again, since nobody can reconstruct what nobody looked at.
    """
    low, high = -HALF[:2] + CLEARANCE, HALF[:2] - CLEARANCE
    small, track_small = eye.resized(40, 30), track_camera.resized(160, 120)
    poses: list[Array] = []
    shares: list[float] = []
    while len(poses) < count:
        point = np.array([*rng.uniform(low, high), ROBOT_HEIGHT])
        heading = 2 * np.pi * (len(poses) + rng.uniform(-0.4, 0.4)) / count
        pitch, roll = np.radians(rng.normal(0, (4.0, 1.5)))
        if not _robot_can_stand(point, mesh, track):
            continue
        pose = camera_pose(point, heading, pitch, roll)
        points = surface_points(mesh, pose, small)
        if np.median(np.linalg.norm(points - point, axis=1)) < 1.2:
            continue
        views = np.sum([visible(points, mesh, p, track_small) for p in track], axis=0)
        share = float((views >= 2).mean())
        if share >= 0.9:
            poses.append(pose)
            shares.append(round(share, 3))
    return np.array(poses), shares
