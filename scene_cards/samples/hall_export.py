"""Write the sample hall to disk: the Polycam raw export a phone would give, and the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from trimesh import Trimesh

from scene_cards.samples.hall_model import Model, regions
from scene_cards.samples.hall_sensor import (
    DEPTH_SIZE,
    GL_FROM_CV,
    Intrinsics,
    cast,
    noisy_depth,
    noisy_gravity,
    noisy_intrinsics,
    noisy_poses,
    phone_world_from_truth,
)

Array = NDArray[np.float64]


def write_json(path: Path, data: Any) -> None:
    """Write JSON with a line for every value, and end the file with a newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")


def _camera_fields(camera: Intrinsics) -> dict[str, float]:
    return {k: getattr(camera, k) for k in ("fx", "fy", "cx", "cy", "width", "height")}


def _matrix(pose: Array, digits: int = 9) -> list[list[float]]:
    return [[round(float(v), digits) for v in row] for row in pose]


def timestamps(count: int, rng: np.random.Generator) -> list[int]:
    """Return irregular microseconds since boot, as a phone names its keyframes."""
    gaps = rng.integers(310_000, 780_000, count)
    return [int(t) for t in 98_641_237_519 + np.cumsum(gaps)]


def _jpeg(source: Path, target: Path, quality: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(source), cv2.IMREAD_COLOR)
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(image, np.uint8)


def _png(path: Path, image: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def write_capture(
    folder: Path,
    rendered: list[Path],
    poses: Array,
    cameras: list[Intrinsics],
    mesh: Trimesh,
    quality: int,
    seed: int,
) -> tuple[list[int], Array]:
    """Write the phone's export; return its timestamps and its world's pose in the truth world."""
    rng = np.random.default_rng([seed, 2])
    stamps = timestamps(len(poses), rng)
    phone_from_truth = phone_world_from_truth(rng)
    measured = phone_from_truth @ noisy_poses(poses, rng) @ GL_FROM_CV
    for stamp, source, truth, pose, exact in zip(stamps, rendered, poses, measured, cameras, strict=True):
        keyframes = folder / "keyframes"
        image = _jpeg(source, keyframes / "images" / f"{stamp}.jpg", quality)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        depth, cosine, _ = cast(mesh, exact.resized(*DEPTH_SIZE), truth)
        millimetres, confidence = noisy_depth(depth, cosine, rng)
        _png(keyframes / "depth" / f"{stamp}.png", millimetres)
        _png(keyframes / "confidence" / f"{stamp}.png", confidence)
        entry: dict[str, Any] = {f"t_{i}{j}": round(float(pose[i, j]), 9) for i in range(3) for j in range(4)}
        entry |= _camera_fields(noisy_intrinsics(exact, rng))
        entry["blur_score"] = round(float(cv2.Laplacian(grey, cv2.CV_64F).var()), 3)
        entry["gravity"] = [round(float(v), 7) for v in noisy_gravity(truth, rng)]
        entry["timestamp"] = stamp
        write_json(keyframes / "cameras" / f"{stamp}.json", entry)
    # no raw.glb comes with this sample: what the phone would have said of its mesh
    aligned_from_phone = np.linalg.inv(phone_from_truth)
    aligned_from_phone[:3] = aligned_from_phone[[1, 2, 0]]
    extent = np.ptp(np.asarray(mesh.vertices), axis=0)[[1, 2, 0]]
    info = {
        "alignmentTransform": [round(float(v), 7) for v in aligned_from_phone.T.ravel()],
        "bboxSize": [round(float(v), 4) for v in extent],
        "vertexCount": len(mesh.vertices),
        "triangleCount": len(mesh.faces),
    }
    write_json(folder / "mesh_info.json", info)
    return stamps, phone_from_truth


def write_truth(
    folder: Path,
    model: Model,
    stamps: list[int],
    poses: Array,
    cameras: list[Intrinsics],
    phone_from_truth: Array,
) -> None:
    """Write what tests compare with: exact poses, mesh and regions."""
    frames = {
        str(stamp): {"world_from_camera": _matrix(pose), **_camera_fields(camera)}
        for stamp, pose, camera in zip(stamps, poses, cameras, strict=True)
    }
    data = {
        "axes": "camera: OpenCV (x right, y down, z forward); world: Z up, metres, floor at z = 0",
        "phone_world_from_truth_world": _matrix(phone_from_truth),
        "frames": frames,
    }
    write_json(folder / "poses.json", data)
    write_json(folder / "regions.json", regions())
    vertices, triangles, _ = model.mesh()
    np.savez_compressed(folder / "mesh.npz", vertices=vertices, triangles=triangles)


def write_off_track(
    folder: Path,
    rendered: list[Path],
    poses: Array,
    shares: list[float],
    camera: Intrinsics,
    quality: int,
) -> None:
    """Write the robot-height images and their exact poses."""
    frames = {}
    for index, (source, pose, share) in enumerate(zip(rendered, poses, shares, strict=True)):
        name = f"{index:02d}.jpg"
        _jpeg(source, folder / "off_track" / name, quality)
        frames[name] = {
            "world_from_camera": _matrix(pose),
            **_camera_fields(camera),
            "seen_by_two_share": share,
        }
    axes = "camera: OpenCV (x right, y down, z forward); world: as in poses.json"
    write_json(folder / "off_track.json", {"axes": axes, "frames": frames})
