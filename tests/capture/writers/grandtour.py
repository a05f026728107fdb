"""Writes a GrandTour mission as Hugging Face has it, unpacked: zarr version 2 groups in data/, JPEGs in images/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import Blosc
from scipy.spatial.transform import Rotation

from pipeline.geometry import Camera, Pose
from tests.capture.writers.rosbag import around, jpeg
from tests.capture.writers.walking import Motion

BOX_FROM_CAMERA = Pose(Rotation.from_euler("xyz", [1.5, 0.1, 1.6]).as_matrix(), np.array([0.37, 0.02, -0.05]))
BOX_FROM_HESAI = Pose(Rotation.from_euler("xyz", [3.1, 0.05, 0.7]).as_matrix(), np.array([0.0, 0.01, -0.2]))
BOX_FROM_IMU = Pose(Rotation.from_euler("xyz", [0.4, -1.0, 0.3]).as_matrix(), np.array([0.05, 0.0, 0.03]))
BASE_FROM_BOX = Pose(Rotation.from_euler("xyz", [3.14, 0.0, 0.1]).as_matrix(), np.array([0.1, 0.0, 0.3]))


def write_array(path: Path, values: np.ndarray, chunks: tuple[int, ...], **changes: Any) -> None:
    """A zarr version 2 array; `changes` to its `.zarray`."""
    path.mkdir(parents=True)
    codec = Blosc(cname="lz4")
    meta = {"zarr_format": 2, "shape": values.shape, "chunks": chunks, "dtype": values.dtype.str, "order": "C"}
    meta |= {"fill_value": 0, "filters": None, "compressor": codec.get_config(), **changes}
    (path / ".zarray").write_text(json.dumps(meta))
    counts = [-(-size // chunk) for size, chunk in zip(values.shape, chunks, strict=True)]
    padded = np.zeros([count * chunk for count, chunk in zip(counts, chunks, strict=True)], values.dtype)
    padded[tuple(slice(size) for size in values.shape)] = values
    for index in np.ndindex(*counts):
        part = padded[tuple(slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(index, chunks, strict=True))]
        if part.any():
            (path / ".".join(map(str, index))).write_bytes(codec.encode(np.ascontiguousarray(part)))


def write_group(path: Path, attributes: dict[str, Any], **arrays: np.ndarray) -> None:
    """A group of arrays, three rows a chunk."""
    path.mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps(attributes))
    for name, values in arrays.items():
        write_array(path / name, values, (3, *values.shape[1:]))


def transform(base: str, child: str, base_from_child: Pose) -> dict[str, Any]:
    """Takes points of the base to the child: the inverse of ROS."""
    inverse = base_from_child.inverse()
    x, y, z, w = Rotation.from_matrix(inverse.rotation).as_quat()
    place = dict(zip("xyz", map(float, inverse.translation), strict=True))
    turn = {"w": float(w), "x": float(x), "y": float(y), "z": float(z)}
    return {"base_frame_id": base, "child_frame_id": child, "translation": place, "rotation": turn}


def write_camera(
    folder: Path,
    name: str,
    box_from_camera: Pose,
    camera: Camera,
    times: np.ndarray,
    images: list[np.ndarray],
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
) -> None:
    """A camera's group and its images."""
    k = camera.matrix
    k[:2, 2] -= 0.5
    info = {"K": k.ravel().tolist(), "D": list(distortion), "width": camera.width, "height": camera.height}
    about = {"camera_info": {**info, "distortion_model": "equidistant"}, "frame_id": name}
    place = transform("box_base", name, box_from_camera)
    numbers = 900 + np.arange(len(times))
    write_group(folder / "data" / name, {**about, "transform": place}, timestamp=times, sequence_id=numbers)
    (folder / "images" / name).mkdir(parents=True)
    for i, rgb in enumerate(images):
        (folder / "images" / name / f"{i:06d}.jpeg").write_bytes(jpeg(rgb))


def write_mission(
    folder: Path,
    shots: list[tuple[float, Pose, np.ndarray, np.ndarray]],
    camera: Camera,
    scans: list[np.ndarray],
    *,
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    late: float = 0.0,
) -> None:
    """Hdr_front, dlio_map_odometry, hesai_undistorted, adis_imu and tf; world is dlio_map.

    Args:
        folder: The mission's.
        shots: Time, world from camera, image and depth.
        camera: Of the images.
        scans: Points (N, 3) [m] of each shot's moment, in world axes.
        distortion: Equidistant, k1 to k4.
        late: How much earlier the camera's clock is than that of LiDAR and IMU [s].
    """
    data = folder / "data"
    times = np.array([time for time, _, _, _ in shots])
    images = [rgb for _, _, rgb, _ in shots]
    write_camera(folder, "hdr_front", BOX_FROM_CAMERA, camera, times - late, images, distortion)
    camera_from_hesai = BOX_FROM_CAMERA.inverse() @ BOX_FROM_HESAI
    lidar = [around(time, pose @ camera_from_hesai) for time, pose, _, _ in shots]
    odometry = [item for pair in lidar for item in pair]
    write_group(
        data / "dlio_map_odometry",
        {"frame_id": "dlio_map"},
        timestamp=np.array([time for time, _ in odometry]),
        pose_pos=np.array([pose.translation for _, pose in odometry]),
        pose_orien=np.array([Rotation.from_matrix(pose.rotation).as_quat() for _, pose in odometry]),
    )
    size = max(map(len, scans)) + 1500
    anything = np.random.default_rng(5).uniform([-0.4, -0.3, 0.6], [0.4, 0.3, 0.7], (size, 3))
    rest = camera_from_hesai.inverse().apply(anything)  # behind the valid points: in front of the camera
    points = np.tile(rest.astype(np.float32), (len(scans), 1, 1))
    for i, ((_, pose, _, _), scan) in enumerate(zip(shots, scans, strict=True)):
        points[i, : len(scan)] = (pose @ camera_from_hesai).inverse().apply(scan)
    valid = np.array([[len(scan)] for scan in scans], np.uint64)
    about = {"frame_id": "hesai_lidar", "transform": transform("box_base", "hesai_lidar", BOX_FROM_HESAI)}
    write_group(data / "hesai_undistorted", about, timestamp=times, points=points, valid=valid)
    moments, force = [], []
    for time, pose, _, _ in shots:
        imu = pose @ BOX_FROM_CAMERA.inverse() @ BASE_FROM_BOX.inverse() @ BASE_FROM_BOX @ BOX_FROM_IMU
        for step in range(-6, 7):
            moments.append(time + 0.01 * step)
            force.append(imu.inverse().rotate([0, 0, 9.81]))
    about = {"frame_id": "adis", "transform": transform("base", "adis", BASE_FROM_BOX @ BOX_FROM_IMU)}
    columns = {"lin_acc": np.array(force), "ang_vel": np.full((len(force), 3), 0.01)}
    write_group(data / "adis_imu", about, timestamp=np.array(moments), **columns)
    write_group(data / "tf", {"tf": {"box_base": transform("base", "box_base", BASE_FROM_BOX)}})


def write_track(folder: Path, motion: Motion, map_from_room: Rotation, times: np.ndarray, start: float) -> None:
    """Only anymal_state_odometry, of the base, and adis_imu of a walk.

    Args:
        folder: The mission's.
        motion: Of the camera, from 3 s before `start` on.
        map_from_room: How the map is tilted.
        times: Of the poses [s] after `start`; the IMU has 200 readings a second in that time.
        start: By the clock [s].
    """
    camera_from_base = (BASE_FROM_BOX @ BOX_FROM_CAMERA).inverse()
    poses = [pose @ camera_from_base for pose in motion.poses(times + 3)]
    write_group(
        folder / "data/anymal_state_odometry",
        {"frame_id": "odom"},
        timestamp=start + times,
        pose_pos=np.array([map_from_room.apply(pose.translation) for pose in poses]),
        pose_orien=np.array([(map_from_room * Rotation.from_matrix(pose.rotation)).as_quat() for pose in poses]),
    )
    at = np.arange(times[0], times[-1], 0.005)
    force, rate = motion.imu(at + 3, BOX_FROM_CAMERA.inverse() @ BOX_FROM_IMU)
    about = {"frame_id": "adis", "transform": transform("base", "adis", BASE_FROM_BOX @ BOX_FROM_IMU)}
    write_group(folder / "data/adis_imu", about, timestamp=start + at, lin_acc=force, ang_vel=rate)
