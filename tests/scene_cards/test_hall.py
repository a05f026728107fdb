"""The sample capture `hall` is complete, small, and as wrong as a phone would be, not more."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh

from pipeline.types import F64

ROOT = Path(__file__).resolve().parents[2]
HALL = ROOT / "scene_cards" / "samples" / "hall"
TRUTH = ROOT / "tests" / "data" / "hall_truth"
GL_FROM_CV = np.diag([1.0, -1.0, -1.0, 1.0])
FRAMES = 68


def load(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


@lru_cache
def stamps() -> tuple[str, ...]:
    """Return the capture's timestamps in order."""
    return tuple(sorted((p.stem for p in (HALL / "keyframes/images").iterdir()), key=int))


def phone_pose(camera: dict[str, float]) -> F64:
    """Return the phone's camera-to-world as 4x4, still with OpenGL camera axes."""
    top = [[camera[f"t_{i}{j}"] for j in range(4)] for i in range(3)]
    return np.array([*top, [0, 0, 0, 1]])


@lru_cache
def phone_poses() -> F64:
    """Return every pose of the phone, OpenCV camera axes, the phone's own world."""
    cameras = [load(HALL / "keyframes/cameras" / f"{s}.json") for s in stamps()]
    return np.array([phone_pose(c) @ GL_FROM_CV for c in cameras])


@lru_cache
def truth_frames() -> dict[str, Any]:
    """Return the exact poses and intrinsics by timestamp."""
    return dict(load(TRUTH / "poses.json")["frames"])


def truth_poses() -> F64:
    """Return the exact poses in the order of time."""
    return np.array([truth_frames()[s]["world_from_camera"] for s in stamps()])


@lru_cache
def truth_mesh() -> trimesh.Trimesh:
    """Return the hall as a mesh."""
    with np.load(TRUTH / "mesh.npz") as data:
        return trimesh.Trimesh(data["vertices"], data["triangles"], process=False)


def cast_depth(camera: dict[str, float], pose: F64, scale: float, stride: int) -> F64:
    """Return exact planar depth at every `stride`-th pixel of the scaled image.

    Moeller-Trumbore against every triangle: slow, simple and independent of any ray caster.
    """
    u = (np.arange(0, camera["width"] * scale, stride) + 0.5) / scale
    v = (np.arange(0, camera["height"] * scale, stride) + 0.5) / scale
    x, y = (u - camera["cx"]) / camera["fx"], (v - camera["cy"]) / camera["fy"]
    grid = np.stack([*np.meshgrid(x, y), np.ones((len(v), len(u)))], axis=-1)
    rays = grid.reshape(-1, 3) @ pose[:3, :3].T
    best = np.full(len(rays), np.inf)
    for a, b, c in np.asarray(truth_mesh().triangles, float):
        e1, e2, s = b - a, c - a, pose[:3, 3] - a
        p, q = np.cross(rays, e2), np.cross(s, e1)
        det = p @ e1
        det[np.abs(det) < 1e-12] = np.nan
        w1, w2, t = (p @ s) / det, (rays @ q) / det, (e2 @ q) / det
        hit = (w1 >= -1e-9) & (w2 >= -1e-9) & (w1 + w2 <= 1 + 1e-9) & (t > 1e-6)
        best = np.where(hit & (t < best), t, best)
    return best.reshape(grid.shape[:2])


def align(source: F64, target: F64) -> tuple[F64, F64]:
    """Return the rotation and translation that best carry points onto points (Kabsch)."""
    ms, mt = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((target - mt).T @ (source - ms))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return rotation, mt - rotation @ ms


def angle_deg(rotation: F64) -> F64:
    """Return the angle of rotation matrices in degrees."""
    trace = np.trace(rotation, axis1=-2, axis2=-1)
    return np.asarray(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


def test_files_pair_by_timestamp() -> None:
    """Every keyframe has exactly one image, camera, depth and confidence."""
    kinds = {"images": ".jpg", "cameras": ".json", "depth": ".png", "confidence": ".png"}
    for kind, suffix in kinds.items():
        files = sorted((HALL / "keyframes" / kind).iterdir())
        assert {p.suffix for p in files} == {suffix}
        assert {p.stem for p in files} == set(stamps())
    assert len(stamps()) == FRAMES
    assert list(truth_frames()) == list(stamps())


def test_timestamps_are_irregular_microseconds() -> None:
    """Time goes forward by 0.3 to 0.8 s, never evenly."""
    gaps = np.diff([int(s) for s in stamps()]) / 1e6
    assert gaps.min() > 0.3
    assert gaps.max() < 0.8
    assert gaps.std() > 0.05


def test_sizes_stay_bounded() -> None:
    """The repository carries at most 7.5 MB of capture and 0.4 MB of off-track images."""
    assert sum(p.stat().st_size for p in HALL.rglob("*") if p.is_file()) <= 7.5e6
    assert sum(p.stat().st_size for p in (TRUTH / "off_track").iterdir()) <= 0.4e6


def test_camera_files_have_polycams_keys() -> None:
    """A camera file has Polycam's keys, a rigid pose, and a gravity of unit length."""
    for stamp in stamps():
        camera = load(HALL / "keyframes/cameras" / f"{stamp}.json")
        pose = phone_pose(camera)
        assert np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() < 1e-6
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0, abs=1e-6)
        assert (camera["width"], camera["height"]) == (640, 480)
        assert camera["blur_score"] > 0
        assert np.linalg.norm(camera["gravity"]) == pytest.approx(1.0, abs=1e-6)
        exact = truth_frames()[stamp]
        assert all(abs(camera[k] - exact[k]) < 0.6 for k in ("fx", "fy", "cx", "cy"))


def test_intrinsics_vary_by_less_than_a_pixel() -> None:
    """The phone's intrinsics differ from frame to frame, by one pixel at most."""
    cameras = [load(HALL / "keyframes/cameras" / f"{s}.json") for s in stamps()]
    spread = np.ptp([[c[k] for k in ("fx", "fy", "cx", "cy")] for c in cameras], axis=0)
    assert (spread > 0.05).all()
    assert (spread <= 1.2).all()


def test_images_have_the_declared_kinds_and_sizes() -> None:
    """JPEGs are 640x480 colour; depth is 16 bit, confidence one of three values."""
    for stamp in stamps():
        keyframes = HALL / "keyframes"
        image = cv2.imread(str(keyframes / "images" / f"{stamp}.jpg"), cv2.IMREAD_UNCHANGED)
        depth = cv2.imread(str(keyframes / "depth" / f"{stamp}.png"), cv2.IMREAD_UNCHANGED)
        trust = cv2.imread(str(keyframes / "confidence" / f"{stamp}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (480, 640, 3)
        assert 60 < image.mean() < 200
        assert (depth.dtype, depth.shape) == (np.uint16, (192, 256))
        assert (trust.dtype, trust.shape) == (np.uint8, (192, 256))
        assert set(np.unique(trust)) <= {0, 127, 255}
        assert (depth == 0).mean() < 0.15
        assert (trust == 255).mean() > 0.4


def test_mesh_info_holds_a_rigid_column_major_transform() -> None:
    """The alignment of `mesh_info.json` is rigid, and lays the mesh's box round its origin."""
    info = load(HALL / "mesh_info.json")
    matrix = np.array(info["alignmentTransform"]).reshape(4, 4).T
    assert matrix[3] == pytest.approx([0, 0, 0, 1])
    assert np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() < 1e-6
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0, abs=1e-6)
    assert info["triangleCount"] == len(truth_mesh().faces)
    assert sorted(info["bboxSize"]) == pytest.approx([2.8, 5.0, 7.0], abs=1e-3)


def test_truth_poses_are_rigid_and_clear_of_everything() -> None:
    """Exact poses are rigid, at hand height, 0.4 m from everything, and the loop closes."""
    poses = truth_poses()
    identity = poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1)
    assert np.abs(identity - np.eye(3)).max() < 1e-7
    assert np.abs(np.linalg.det(poses[:, :3, :3]) - 1).max() < 1e-7
    positions = poses[:, :3, 3]
    assert positions[:, 2].min() > 1.0
    assert positions[:, 2].max() < 1.6
    triangles = np.asarray(truth_mesh().triangles)
    for position in positions:
        near = trimesh.triangles.closest_point(triangles, np.tile(position, (len(triangles), 1)))
        assert np.linalg.norm(near - position, axis=1).min() > 0.4
    assert angle_deg(poses[0, :3, :3].T @ poses[-1, :3, :3]) < 15
    assert np.linalg.norm(positions[0] - positions[-1]) < 0.5


def test_phone_poses_are_off_as_a_phone_is() -> None:
    """After a rigid alignment poses are 0.3 to 2 cm and 0.1 to 0.6 degrees off (rms)."""
    phone, truth = phone_poses(), truth_poses()
    rotation, translation = align(phone[:, :3, 3], truth[:, :3, 3])
    off = np.linalg.norm(phone[:, :3, 3] @ rotation.T + translation - truth[:, :3, 3], axis=1)
    turn = angle_deg(rotation @ phone[:, :3, :3] @ truth[:, :3, :3].transpose(0, 2, 1))
    assert 0.003 < np.sqrt((off**2).mean()) < 0.02
    assert 0.1 < np.sqrt((turn**2).mean()) < 0.6
    # the stated transform between the worlds says the same
    stated = np.array(load(TRUTH / "poses.json")["phone_world_from_truth_world"])
    assert angle_deg(rotation @ stated[:3, :3]) < 0.5
    assert stated[1, :3] == pytest.approx([0, 0, 1])


def test_gravity_is_measured_in_the_cameras_axes() -> None:
    """Measured gravity is about 0.3 degrees off the truth, the phone's own Y axis about 0.2."""
    errors, tilts = [], []
    for stamp, pose in zip(stamps(), truth_poses(), strict=True):
        camera = load(HALL / "keyframes/cameras" / f"{stamp}.json")
        exact = (pose @ GL_FROM_CV)[:3, :3].T @ [0, 0, -1]
        tilted = phone_pose(camera)[:3, :3].T @ [0, -1, 0]
        errors.append(np.degrees(np.arccos(min(1.0, exact @ camera["gravity"]))))
        tilts.append(np.degrees(np.arccos(min(1.0, exact @ tilted))))
    assert 0.15 < np.sqrt(np.mean(np.square(errors))) < 0.5
    assert 0.05 < np.sqrt(np.mean(np.square(tilts))) < 0.35


@pytest.mark.parametrize("index", [0, 23, 50])
def test_depth_follows_the_truth(index: int) -> None:
    """Trusted depth is within the sensor's noise of the exact depth, and without a bias."""
    stamp = stamps()[index]
    path = HALL / "keyframes/depth" / f"{stamp}.png"
    measured = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::4, ::4] / 1000
    path = HALL / "keyframes/confidence" / f"{stamp}.png"
    trust = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::4, ::4]
    exact = cast_depth(truth_frames()[stamp], truth_poses()[index], 0.4, 4)
    good = (trust == 255) & (measured > 0)
    assert good.sum() > 800
    error = (measured - exact)[good] / (0.004 + 0.003 * exact[good])
    assert abs(np.median(error)) < 0.35
    assert 0.6 < np.sqrt((error**2).mean()) < 1.4
    low = (trust == 0) & (measured > 0)
    assert np.abs(measured - exact)[low].mean() > np.abs(measured - exact)[good].mean()


def test_images_agree_with_the_truth_mesh() -> None:
    """The yellow patch is seen where exact poses and intrinsics put it, within a pixel."""
    patch = load(TRUTH / "regions.json")["yellow_patch"]
    x, y = patch["size"]
    local = np.array([(-x, -y), (x, -y), (x, y), (-x, y)]) / 2
    corners = np.array(patch["centre"]) + np.c_[local, np.zeros(4)]
    checked = 0
    for stamp, pose in zip(stamps(), truth_poses(), strict=True):
        camera = truth_frames()[stamp]
        seen = (corners - pose[:3, 3]) @ pose[:3, :3]
        if (seen[:, 2] < 0.5).any() or (seen[:, 2] > 3).any():
            continue
        u = camera["fx"] * seen[:, 0] / seen[:, 2] + camera["cx"]
        v = camera["fy"] * seen[:, 1] / seen[:, 2] + camera["cy"]
        if min(u.min(), v.min()) < 5 or u.max() > 635 or v.max() > 475:
            continue
        image = cv2.imread(str(HALL / "keyframes/images" / f"{stamp}.jpg"))
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        yellow = cv2.inRange(hsv, (18, 140, 60), (32, 255, 255))
        polygon = np.zeros((480, 640), np.uint8)
        # fillPoly counts from pixel centres, in 1/16 px
        points = np.round((np.stack([u, v], axis=1) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(polygon, [points], 255, shift=4)
        shared = ((yellow > 0) & (polygon > 0)).sum() / (polygon > 0).sum()
        if shared < 0.9:  # something stands in front of it
            continue
        near = cv2.dilate(polygon, np.ones((15, 15), np.uint8)) > 0
        rows, cols = np.nonzero((yellow > 0) & near)
        expected_rows, expected_cols = np.nonzero(polygon)
        assert abs(rows.mean() - expected_rows.mean()) < 1.0
        assert abs(cols.mean() - expected_cols.mean()) < 1.0
        checked += 1
    assert checked >= 2


def test_regions_lie_on_the_mesh() -> None:
    """A ray straight down meets every tread, the platform, the table and the floor at its z."""
    regions = load(TRUTH / "regions.json")
    flat = [*regions["stairs"]["treads"], regions["platform"]]
    places = [(np.mean(r["x"]), r["y"][0] + 0.2, r["z"]) for r in flat]
    table = regions["table"]
    places.append((table["x"][0] + 0.2, table["y"][0] + 0.2, table["top_z"]))
    places.append((*regions["yellow_patch"]["centre"][:2], 0.0))
    for x, y, z in places:
        down = np.eye(4)
        down[:3, :3] = np.diag([1, -1, -1])
        down[:3, 3] = (x, y, z + 0.5)
        eye = {"width": 1, "height": 1, "fx": 1.0, "fy": 1.0, "cx": 0.5, "cy": 0.5}
        assert cast_depth(eye, down, 1.0, 1)[0, 0] == pytest.approx(0.5, abs=1e-5)


def test_off_track_views_look_everywhere_at_robot_height() -> None:
    """There are 24 small images, 0.3 m above the floor, spread over all directions."""
    frames = load(TRUTH / "off_track.json")["frames"]
    assert len(frames) == 24
    assert {p.name for p in (TRUTH / "off_track").iterdir()} == set(frames)
    headings = []
    for name, frame in frames.items():
        assert cv2.imread(str(TRUTH / "off_track" / name)).shape == (120, 160, 3)
        pose = np.array(frame["world_from_camera"])
        assert np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() < 1e-6
        assert pose[2, 3] == pytest.approx(0.3)
        assert frame["seen_by_two_share"] >= 0.9
        headings.append(np.arctan2(pose[1, 2], pose[0, 2]))
    gaps = np.diff(np.sort(headings), append=np.min(headings) + 2 * np.pi)
    assert np.degrees(gaps.max()) < 40
