"""Writers of SLAM layouts: EuRoC, KITTI odometry, and map clouds with trajectory and images."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.geometry import Camera, Pose
from tests.synthetic import Room

WORLD = Pose(Rotation.from_euler("xyz", [4, -3, 35], degrees=True).as_matrix(), np.array([1.5, -2.0, 0.7]))
"""The recording's world from the room's: turned and shifted, tilted by 5 degrees."""
BODY_FROM_CAMERA = Pose(
    np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]) @ Rotation.from_euler("xyz", [2, -4, 3], degrees=True).as_matrix(),
    np.array([0.12, -0.05, 0.08]),
)
"""A body with x forward, y left, z up."""


def write_image(path: Path, room: Room, pose: Pose, camera: Camera, *, grey: bool = False) -> None:
    """What the camera sees, its lens distortion included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    if camera.is_pinhole:
        rgb = room.render(plain, pose)[0]
    else:  # render wider and finer, then look up where each distorted pixel comes from
        wide = Camera(320, 240, 1.4 * camera.fx, 1.4 * camera.fy, 160.0, 120.0)
        grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1) + 0.5
        flat = cv2.undistortPoints(grid.reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion)).reshape(-1, 2)
        source = (flat * [wide.fx, wide.fy] + [wide.cx - 0.5, wide.cy - 0.5]).astype(np.float32)
        source = source.reshape(camera.height, camera.width, 2)
        rgb = cv2.remap(room.render(wide, pose, samples=1)[0], source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    image = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) if grey else rgb[..., ::-1]
    assert cv2.imwrite(str(path), image)


def write_euroc(
    folder: Path, room: Room, poses: list[Pose], camera: Camera, *, start: int = 1_403_636_579_763_555_584
) -> None:
    """As the ASL archive: 20 Hz grey images, poses and IMU of the body at 200 Hz on one spline through the poses."""
    mav = folder / "mav0"
    times = np.arange(len(poses)) * 0.05
    bodies = [WORLD @ pose @ BODY_FROM_CAMERA.inverse() for pose in poses]
    for i, pose in enumerate(poses):
        write_image(mav / f"cam0/data/{start + i * 50_000_000}.png", room, pose, camera, grey=True)
    lines = [f"{start + i * 50_000_000},{start + i * 50_000_000}.png\r" for i in range(len(poses))]
    (mav / "cam0/data.csv").write_text("\n".join(["#timestamp [ns],filename\r", *lines, ""]))
    write_euroc_sensor(mav / "cam0/sensor.yaml", BODY_FROM_CAMERA, camera)
    at, position, rotation, force, rates, velocity = moving(times, bodies)
    rows, imu = [], []
    for i, t in enumerate(at):
        stamp = start + round(t * 1e9)
        x, y, z, w = rotation[i].as_quat()
        values = [*position[i], w, x, y, z, *velocity[i], *np.zeros(3), *IMU_BIAS]
        rows.append(f"{stamp}," + ",".join(f"{v:.7f}" for v in values))
        imu.append(f"{stamp}," + ",".join(f"{v:.7f}" for v in [*rates[i], *(force[i] + IMU_BIAS)]))
    for sensor, head, content in (
        ("state_groundtruth_estimate0", "#timestamp, p_RS_R_x [m], ...", rows),
        ("imu0", "#timestamp [ns],w_RS_S_x [rad s^-1],...", imu),
    ):
        (mav / sensor).mkdir(parents=True)
        (mav / sensor / "data.csv").write_text("\n".join([head, *content, ""]))
    write_euroc_sensor(mav / "imu0/sensor.yaml", Pose.identity())


IMU_BIAS = np.array([0.05, -0.12, 0.2])


def moving(times: np.ndarray, bodies: list[Pose]) -> tuple[Any, ...]:
    """Times, positions, rotations, specific force (+9.81 up at rest) and rates of a body through poses, at 200 Hz."""
    from scipy.interpolate import CubicSpline
    from scipy.spatial.transform import RotationSpline

    track = CubicSpline(times, np.array([body.translation for body in bodies]))
    turn = RotationSpline(times, Rotation.from_matrix(np.array([body.rotation for body in bodies])))
    at = np.round(np.arange(0, times[-1] + 1e-9, 0.005), 9)
    up = WORLD.rotate([0, 0, 1.0])
    rotation = turn(at)
    force = rotation.inv().apply(track(at, 2) + 9.80665 * up)
    return at, track(at), rotation, force, turn(at, 1), track(at, 1)


BODY_FROM_RIGHT = BODY_FROM_CAMERA @ Pose(
    Rotation.from_euler("xyz", [1.5, 3, -2], degrees=True).as_matrix(), np.array([0.11, -0.004, 0.013])
)
"""A second camera, to the right of the first."""


def add_euroc_camera(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> list[Pose]:
    """cam1 next to what `write_euroc` wrote, of the same moments; gives where it was in the room."""
    right = [pose @ BODY_FROM_CAMERA.inverse() @ BODY_FROM_RIGHT for pose in poses]
    first = folder / "mav0/cam0/data.csv"
    stamps = [line.split(",")[0] for line in first.read_text().splitlines()[1:]]
    for stamp, pose in zip(stamps, right, strict=True):
        write_image(folder / f"mav0/cam1/data/{stamp}.png", room, pose, camera, grey=True)
    shutil.copy(first, folder / "mav0/cam1/data.csv")
    write_euroc_sensor(folder / "mav0/cam1/sensor.yaml", BODY_FROM_RIGHT, camera)
    return right


def write_euroc_sensor(path: Path, body_from_sensor: Pose, camera: Camera | None = None) -> None:
    """A sensor.yaml in the words of the data set."""
    data = ", ".join(f"{v:.12g}" for v in body_from_sensor.matrix.ravel())
    text = f"%YAML:1.0\n# General sensor definitions.\nT_BS:\n  cols: 4\n  rows: 4\n  data: [{data}]\n"
    if camera:
        text += (
            f"rate_hz: 20\nresolution: [{camera.width}, {camera.height}]\ncamera_model: pinhole\n"
            f"intrinsics: [{camera.fx}, {camera.fy}, {camera.cx - 0.5}, {camera.cy - 0.5}] #fu, fv, cu, cv\n"
            "distortion_model: radial-tangential\n"
            f"distortion_coefficients: [{', '.join(map(str, camera.distortion))}]\n"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


KITTI_BASELINE = np.array([0.06, -0.0003, 0.0027])
"""Where the left grey camera lies in the left colour camera's axes [m]."""
KITTI_RIGHT = np.array([-0.47, 0.0021, 0.0049])
"""The same of the right colour camera."""
CAMERA_FROM_SCAN = Pose(
    np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    @ Rotation.from_euler("xyz", [0.5, -0.8, 0.4], degrees=True).as_matrix(),
    np.array([-0.004, -0.076, -0.27]) * 0.3,
)
"""The left grey camera from the scanner (x forward, y left, z up): Tr."""


def write_kitti(
    folder: Path, room: Room, poses: list[Pose], camera: Camera, *, scans: bool = True, right: bool = False
) -> None:
    """A dataset folder with one sequence, 04; `poses` are the left colour camera's (2), in the room."""
    sequence = folder / "sequences/04"
    grey = [pose @ Pose(np.eye(3), KITTI_BASELINE) for pose in poses]
    matrix = np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1.0]])
    projection = np.column_stack([matrix, matrix @ KITTI_BASELINE])
    rows = {"P0": np.column_stack([matrix, np.zeros(3)]), "P1": np.column_stack([matrix, matrix @ [-0.54, 0, 0]])}
    other = np.column_stack([matrix, matrix @ KITTI_RIGHT])
    rows |= {"P2": projection, "P3": other, "Tr": CAMERA_FROM_SCAN.matrix[:3]}
    sequence.mkdir(parents=True)
    lines = [f"{name}: {' '.join(f'{v:.12e}' for v in np.ravel(row))}" for name, row in rows.items()]
    (sequence / "calib.txt").write_text("\n".join(lines) + "\n")
    (sequence / "times.txt").write_text("".join(f"{0.1037 * i:.6e}\n" for i in range(len(poses))))
    lines = [" ".join(f"{v:.9e}" for v in (grey[0].inverse() @ pose).matrix[:3].ravel()) for pose in grey]
    (folder / "poses").mkdir()
    (folder / "poses/04.txt").write_text("\n".join(lines) + "\n")
    for i, pose in enumerate(poses):
        write_image(sequence / f"image_2/{i:06d}.png", room, pose, camera)
        write_image(sequence / f"image_0/{i:06d}.png", room, grey[i], camera, grey=True)
        if right:
            third = grey[i] @ Pose(np.eye(3), -KITTI_RIGHT)
            write_image(sequence / f"image_3/{i:06d}.png", room, third, camera)
        if scans:
            (sequence / "velodyne").mkdir(exist_ok=True)
            points = scan(room, grey[i] @ CAMERA_FROM_SCAN)
            data = np.column_stack([points, np.full(len(points), 0.3)]).astype("<f4")
            (sequence / f"velodyne/{i:06d}.bin").write_bytes(data.tobytes())


def scan(room: Room, room_from_scanner: Pose, lines: int = 64) -> np.ndarray:
    """Points (N, 3) in the scanner's axes: lines over 27 degrees and more, a full turn."""
    import open3d as o3d

    elevation, azimuth = np.deg2rad(np.linspace(-24.8, 12, lines)), np.deg2rad(np.arange(-180, 180, 0.5))
    e, a = (v.ravel() for v in np.meshgrid(elevation, azimuth))
    rays = np.column_stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(room.mesh.vertices, room.mesh.triangles.astype(np.uint32))
    origin = np.broadcast_to(room_from_scanner.translation, rays.shape)
    both = np.column_stack([origin, room_from_scanner.rotate(rays)]).astype(np.float32)
    distance = scene.cast_rays(o3d.core.Tensor(both))["t_hit"].numpy()
    return rays * distance[:, None]


def room_points(room: Room, count: int, seed: int = 3) -> np.ndarray:
    """Points (N, 3) strewn evenly over the room's surfaces."""
    rng = np.random.default_rng(seed)
    area = room.mesh.face_areas()
    chosen = rng.choice(len(area), count, p=area / area.sum())
    return np.einsum("nk,nkc->nc", rng.dirichlet(np.ones(3), count), room.mesh.corners()[chosen])


def ros_calibration(camera: Camera, *, body_from_camera: Pose | None = None, model: str = "plumb_bob") -> str:
    """As camera_calibration writes it; with the one key that says where the camera is."""
    k = [camera.fx, 0, camera.cx - 0.5, 0, camera.fy, camera.cy - 0.5, 0, 0, 1]
    text = (
        f"image_width: {camera.width}\nimage_height: {camera.height}\ncamera_name: left\n"
        f"camera_matrix:\n  rows: 3\n  cols: 3\n  data: {k}\ndistortion_model: {model}\n"
        f"distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: {[*camera.distortion, 0.0]}\n"
    )
    if body_from_camera:
        text += f"body_from_camera: {body_from_camera.matrix.tolist()}\n"
    return text


def write_pcd(path: Path, columns: dict[str, np.ndarray], encoding: str = "binary") -> None:
    """A PCD file as PCL writes it; "binary_compressed" without actual compression, as LZF allows."""
    table = np.rec.fromarrays(list(columns.values()), names=list(columns))
    kinds = [table.dtype[name] for name in columns]
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n"
        f"FIELDS {' '.join(columns)}\nSIZE {' '.join(str(k.itemsize) for k in kinds)}\n"
        f"TYPE {' '.join({'f': 'F', 'u': 'U'}[k.kind] for k in kinds)}\nCOUNT {' '.join('1' for _ in kinds)}\n"
        f"WIDTH {len(table)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(table)}\nDATA {encoding}\n"
    )
    if encoding == "ascii":
        body = "\n".join(" ".join(f"{v:.9g}" for v in row) for row in table).encode() + b"\n"
    elif encoding == "binary":
        body = table.tobytes()
    else:
        raw = b"".join(np.ascontiguousarray(column).tobytes() for column in columns.values())
        packed = b"".join(bytes([len(raw[i : i + 32]) - 1]) + raw[i : i + 32] for i in range(0, len(raw), 32))
        body = struct.pack("<II", len(packed), len(raw)) + packed
    path.write_bytes(head.encode() + body)


def write_cloud(path: Path, points: np.ndarray) -> None:
    """Points (N, 3) in the format that the name says."""
    columns = {axis: points[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
    kind = path.stem
    if path.suffix == ".pcd":
        write_pcd(path, columns, {"ascii": "ascii", "compressed": "binary_compressed"}.get(kind, "binary"))
    elif path.suffix == ".ply":
        encoding, order = {"binary": ("binary_little_endian", "<"), "big": ("binary_big_endian", ">")}.get(
            kind, ("ascii", "<")
        )
        table = np.zeros(len(points), [("red", "u1"), ("x", f"{order}f8"), ("y", f"{order}f8"), ("z", f"{order}f8")])
        table["x"], table["y"], table["z"] = points.T
        head = f"ply\nformat {encoding} 1.0\ncomment by a test\nelement vertex {len(points)}\nproperty uchar red\n"
        head += "".join(f"property double {axis}\n" for axis in "xyz")
        head += "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
        text = "\n".join(" ".join(map(str, row)) for row in table.tolist()).encode()
        path.write_bytes(head.encode() + (text if encoding == "ascii" else table.tobytes()))
    else:
        import laspy

        header = laspy.LasHeader(point_format=3, version="1.2")
        header.scales, header.offsets = [0.001] * 3, points.mean(0)
        las = laspy.LasData(header)
        las.x, las.y, las.z = points.T
        las.write(str(path))


def write_map(
    folder: Path,
    room: Room,
    poses: list[Pose],
    camera: Camera,
    *,
    points: int = 60_000,
    start: float = 1_700_000_000.25,
) -> np.ndarray:
    """A FAST-LIO run with what its user adds: scans.pcd, the body's trajectory at 10 Hz, images, camera.yaml.

    Returns:
        The map's points (N, 3) in its world.
    """
    (folder / "images").mkdir(parents=True)
    cloud = WORLD.apply(room_points(room, points))
    columns = {axis: cloud[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
    write_pcd(folder / "scans.pcd", {**columns, "intensity": np.ones(points, np.float32)})
    (folder / "camera.yaml").write_text(ros_calibration(camera, body_from_camera=BODY_FROM_CAMERA))
    lines = []
    for i, pose in enumerate(poses):
        body = WORLD @ pose @ BODY_FROM_CAMERA.inverse()
        w, x, y, z = body.quaternion
        px, py, pz = body.translation
        lines.append(f"{start + 0.1 * i:.6f} {px:.9f} {py:.9f} {pz:.9f} {x:.9f} {y:.9f} {z:.9f} {w:.9f}")
        write_image(folder / f"images/{start + 0.1 * i:.6f}.jpg", room, pose, camera)
    (folder / "trajectory.txt").write_text("# t x y z qx qy qz qw\n" + "\n".join(lines) + "\n")
    return cloud
