"""Captures of synthetic rooms as recorded by a phone, and their ground truth."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from benchmarks.room_renderer import RenderedRoom, to_srgb
from benchmarks.rooms import Room
from benchmarks.truth import TrueView, Truth
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.types import F64
from scene_cards.samples.hall_export import timestamps, write_json
from scene_cards.samples.hall_sensor import (
    DEPTH_SIZE,
    GL_FROM_CV,
    Intrinsics,
    noisy_depth,
    noisy_gravity,
    noisy_intrinsics,
    noisy_poses,
    phone_world_from_truth,
)
from scene_cards.samples.hall_walk import camera_pose
from tests.synthetic import as_arkit_counts

PHONE = Camera(640, 480, 484.0, 484.0, 321.6, 238.7)
ROBOT = Camera(160, 120, 96.0, 96.0, 80.0, 60.0)
ROBOT_HEIGHT, ROBOT_VIEWS = 0.3, 24
PHOTO_NOISE = 2.0  # [grey levels]
QUALITY = 90
ROBOT_SAMPLES = 6  # rays per pixel in each direction
OFF_WALK = 0.15  # [m], distance of robots from the walk
MIN_VIEW = 1.0  # [m], median viewing distance of a robot


def write_room(room: Room, folder: Path, drawn: RenderedRoom | None = None) -> Truth:
    """Write the capture into a new folder, photos only or a Polycam export; a finished one is kept.

    Captures of one place may share what it looks like, `drawn`.
    """
    seed = room.seed + 1000 * room.take
    rng = np.random.default_rng([seed, 1])
    poses, drawn = walk(room, rng), drawn or RenderedRoom(room)
    stamps = [str(stamp) for stamp in timestamps(len(poses), rng)]
    done = folder.with_name(folder.name + ".json")
    if not done.exists():
        photos = folder if not room.sensor else folder / "keyframes" / "images"
        photos.mkdir(parents=True, exist_ok=True)
        for stamp, pose in zip(stamps, poses, strict=True):
            light = to_srgb(drawn.image(PHONE, pose))
            noisy = light + PHOTO_NOISE * rng.standard_normal(light.shape, np.float32)
            image = np.clip(noisy, 0, 255).round().astype(np.uint8)[..., ::-1]
            cv2.imwrite(str(photos / f"{stamp}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if room.sensor:
            sensors = np.random.default_rng([seed, 2])
            write_sensors(drawn, folder, stamps, poses, sensors, drift=room.drift, level=room.level_from_room)
        done.write_text(json.dumps({"photos": len(stamps)}))
    views = []
    for index, pose in enumerate(robot_views(room, drawn.mesh, poses, np.random.default_rng([seed, 3]))):
        image = to_srgb(drawn.image(ROBOT, pose, ROBOT_SAMPLES)).clip(0, 255).round().astype(np.uint8)
        views.append(TrueView(f"{index:02d}.png", ROBOT, pose, image))
    up = room.level_from_room.rotation[2].tolist()
    return Truth(drawn.mesh, dict(zip(stamps, poses, strict=True)), dict.fromkeys(stamps, PHONE), views, up)


def walk(room: Room, rng: np.random.Generator) -> list[Pose]:
    """World-from-camera poses of a hand-held walk, one lap per entry of `room.asides`."""
    corners = np.array(room.walk, np.float64)
    lap = _rounded(np.concatenate([corners, corners[:1]]))
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(lap, axis=0), axis=1))]
    per_lap = -(-room.photos // len(room.asides))
    poses = []
    for number, aside in enumerate(room.asides):
        share = (np.arange(per_lap) + rng.uniform(-0.2, 0.2, per_lap)) / per_lap * along[-1]
        place = np.stack([np.interp(share % along[-1], along, lap[:, k]) for k in range(3)], 1)
        ahead = np.stack([np.interp((share + 0.25) % along[-1], along, lap[:, k]) for k in range(3)], 1) - place
        heading = np.arctan2(ahead[:, 1], ahead[:, 0]) + np.deg2rad(aside)
        wave = np.sin(2.3 * share + number)
        eye = room.eye - 0.22 * (number % 2) + 0.05 * np.sin(1.1 * share)
        for p, h, e, w in zip(place, heading, eye, wave, strict=True):
            sway = rng.normal(0, [0.02, 0.02, 0.015])
            pitch = np.deg2rad(-9 + 9 * w + rng.normal(0, 1.5))
            pose = camera_pose(
                p + np.array([0, 0, e]) + sway, h + rng.normal(0, 0.03), pitch, np.deg2rad(rng.normal(0, 1.8))
            )
            poses.append(Pose.from_matrix(pose))
    return poses[: room.photos]


def robot_views(room: Room, mesh: Mesh, track: list[Pose], rng: np.random.Generator) -> list[Pose]:
    """Robot poses off the walk: on free floor next to the walk, with headings spread over the circle."""
    caster = RayCaster(mesh)
    walked = np.array([pose.translation for pose in track])
    small = ROBOT.resized(40, 30)
    poses: list[Pose] = []
    for _ in range(20_000):
        if len(poses) == ROBOT_VIEWS:
            return poses
        place = np.array([*rng.uniform(room.low, room.high), rng.choice(room.levels) + ROBOT_HEIGHT])
        heading = 2 * np.pi * (len(poses) + rng.uniform(-0.4, 0.4)) / ROBOT_VIEWS
        pitch, roll = np.deg2rad(rng.normal(0, (4.0, 1.5)))
        below = caster.cast(place[None], np.array([[0, 0, -1.0]]))
        front = mesh.face_normals()[below.triangle[0], 2] > 0.9
        if not front or abs(below.distance[0] - ROBOT_HEIGHT) > 1e-3 or caster.distances(place[None])[0] < 0.24:
            continue
        away = np.linalg.norm(walked[:, :2] - place[:2], axis=1).min()
        if not OFF_WALK < away < 1.5:
            continue
        pose = Pose.from_matrix(camera_pose(place, heading, float(pitch), float(roll)))
        rays = pose.rotate(small.rays()).reshape(-1, 3)
        hits = caster.cast(np.broadcast_to(place, rays.shape), rays)
        facing = (mesh.face_normals()[hits.triangle] * rays).sum(1) < 0
        if not (hits.hit & facing).all():  # outside, or inside something
            continue
        if np.median(hits.distance * np.linalg.norm(rays, axis=1)) > MIN_VIEW:
            poses.append(pose)
    raise ValueError(f"{room.name}: found only {len(poses)} places for robots")


def _rounded(corners: F64) -> F64:
    """A closed path with rounded corners in 2 cm steps (N, 3)."""
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))]
    fine = np.linspace(0, length[-1], max(2, round(length[-1] / 0.02)))
    way = np.stack([np.interp(fine, length, corners[:, k]) for k in range(3)], 1)
    width = 15
    padded = np.concatenate([way[-width - 1 : -1], way, way[1 : width + 1]])
    kernel = np.hanning(2 * width + 1)
    kernel /= kernel.sum()
    return np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in range(3)], 1)


def write_sensors(
    drawn: RenderedRoom,
    folder: Path,
    stamps: list[str],
    poses: list[Pose],
    rng: np.random.Generator,
    phone: Camera = PHONE,
    drift: float = 1.0,
    level: Pose | None = None,
) -> None:
    """Depth, confidence and camera of every photo, as noisy as the sample's; poses `drift` times as much.

    The poses are in a room from which `level` leads into a frame with z up against gravity, if that leans.
    """
    keyframes = folder / "keyframes"
    for part in ("cameras", "depth", "confidence"):
        (keyframes / part).mkdir(parents=True, exist_ok=True)
    phone_from_truth = phone_world_from_truth(rng)
    true = np.array([(level @ pose if level else pose).matrix for pose in poses])
    measured = phone_from_truth @ noisy_poses(true, rng, drift) @ GL_FROM_CV
    exact = Intrinsics(phone.width, phone.height, phone.fx, phone.fy, phone.cx, phone.cy)
    for stamp, pose, upright, given in zip(stamps, poses, true, measured, strict=True):
        millimetres, confidence = noisy_depth(*drawn.depth(phone.resized(*DEPTH_SIZE), pose), rng)
        cv2.imwrite(str(keyframes / "depth" / f"{stamp}.png"), millimetres)
        cv2.imwrite(str(keyframes / "confidence" / f"{stamp}.png"), confidence)
        said = noisy_intrinsics(exact, rng)
        entry: dict[str, object] = {f"t_{i}{j}": round(float(given[i, j]), 9) for i in range(3) for j in range(4)}
        cx, cy = as_arkit_counts(Camera(said.width, said.height, said.fx, said.fy, said.cx, said.cy))
        entry |= {"fx": said.fx, "fy": said.fy, "cx": cx, "cy": cy, "width": said.width, "height": said.height}
        entry |= {"blur_score": 100.0, "timestamp": int(stamp)}
        entry["gravity"] = [round(float(value), 7) for value in noisy_gravity(upright, rng)]
        write_json(keyframes / "cameras" / f"{stamp}.json", entry)
