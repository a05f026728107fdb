"""The same room in every format, one writer for each reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.geometry import Camera, Pose
from tests.capture.depth_cameras.test_redwood import write_redwood
from tests.capture.depth_cameras.test_tum import write_tum
from tests.capture.writers.arkitscenes import write_arkitscenes
from tests.capture.writers.grandtour import write_mission
from tests.capture.writers.posed import intrinsics, write_colmap, write_transforms
from tests.capture.writers.programs import PROGRAMS
from tests.capture.writers.record3d import write_record3d
from tests.capture.writers.rosbag import write_robot
from tests.capture.writers.scanner_app import write_scanner_app
from tests.capture.writers.slam import write_euroc, write_kitti, write_map
from tests.capture.writers.stray_scanner import write_stray_scanner
from tests.capture.writers.video import add_credentials, write_video
from tests.synthetic import Room, walk, write_photos, write_polycam, write_rgbd


@dataclass(frozen=True)
class Format:
    """A format's writer, and what its reader makes of it.

    Attributes:
        write: Writes what a camera sees at some poses of the room into a folder that doesn't exist yet.
        metric: Whether the source has a scale.
        depth: Whether it has depth.
        poses: Enough of them for a bundle.
        frames: How many frames the reader makes of those.
        like: Another format whose captures are the same to all later stages, so that building that one proves this one.
    """

    write: Callable[[Path, Room, list[Pose], Camera], object]
    metric: bool = True
    depth: bool = True
    poses: list[Pose] = field(default_factory=lambda: walk(18))
    frames: int = 18
    like: str = ""


def half(camera: Camera) -> tuple[int, int]:
    """Size of depth images of half the resolution."""
    return camera.width // 2, camera.height // 2


def shots(room: Room, poses: list[Pose], camera: Camera) -> list[tuple[float, Pose, np.ndarray, np.ndarray]]:
    """Time, pose, image and depth of a robot's walk."""
    return [(1_700_000_000 + 0.2 * i, pose, *room.render(camera, pose, 1)) for i, pose in enumerate(poses)]


def bag_in(folder: Path) -> Path:
    """Where the recording goes."""
    folder.mkdir()
    return folder / "walk"


def mission(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """With what a scanner next to the camera sees."""
    eye = camera.resized(*half(camera))
    scans = [room.cast(eye, pose)[0].reshape(-1, 3) for pose in poses]
    write_mission(folder / "mission", shots(room, poses, camera), camera, scans)


def arkit(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """An image a pose."""
    streams = {"vga_wide": camera, "lowres_wide": camera.resized(*half(camera))}
    write_arkitscenes(folder / "41000000", room, poses, streams, half(camera), 1)


def film(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> Path:
    """15 frames a second."""
    folder.mkdir()
    return write_video(folder / "walk.mp4", [room.render(camera, pose, 1)[0] for pose in poses])


def generate(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """The same film, which says that a model made it."""
    add_credentials(film(folder, room, poses, camera), "trainedAlgorithmicMedia")


def model(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """Binary, in a unit of 3.3 m."""
    lens = (camera, "PINHOLE", [camera.fx, camera.fy, camera.cx, camera.cy])
    write_colmap(folder, room, poses, [lens], scale=0.3)


FORMATS = {
    "photos": Format(write_photos, metric=False, depth=False),
    "polycam": Format(lambda folder, room, poses, camera: write_polycam(folder, room, poses, camera, half(camera))),
    "rgbd": Format(write_rgbd),
    "record3d": Format(lambda folder, room, poses, camera: write_record3d(folder, room, poses, camera, half(camera))),
    "stray_scanner": Format(
        lambda folder, room, poses, camera: write_stray_scanner(folder, room, poses, camera, half(camera)),
        frames=17,
        like="polycam",
    ),
    "scanner_app": Format(
        lambda folder, room, poses, camera: write_scanner_app(folder, room, poses, camera, half(camera)), like="polycam"
    ),
    "arkitscenes": Format(arkit, like="polycam"),
    "tum": Format(write_tum, poses=walk(60)[:25], frames=24, like="rgbd"),
    "redwood": Format(write_redwood, poses=walk(60)[:24], frames=24, like="rgbd"),
    "nerfstudio": Format(
        lambda folder, room, poses, camera: write_transforms(
            folder, room, poses, camera, {"camera_model": "OPENCV", **intrinsics(camera)}
        ),
        metric=False,
        depth=False,
        like="colmap",
    ),
    "colmap": Format(model, metric=False, depth=False),
    **{name: Format(write, metric=False, depth=False, like="colmap") for name, write in PROGRAMS.items()},
    "euroc": Format(write_euroc, depth=False, poses=walk(120)[:30], frames=30),
    "kitti": Format(write_kitti),
    "rosbag": Format(
        lambda folder, room, poses, camera: write_robot(bag_in(folder), "mcap", shots(room, poses, camera), camera)
    ),
    "grandtour": Format(mission),
    "video": Format(film, metric=False, depth=False, poses=walk(240)[:120], frames=49, like="generated"),
    "generated": Format(generate, metric=False, depth=False, poses=walk(240)[:120], frames=49),
    "lidar_slam": Format(write_map),
}
