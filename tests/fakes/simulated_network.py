"""What a network such as VGGT says of images, from known truth, with errors as real ones have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from pipeline.geometry import Camera, Pose, matrix_from_rotvec


@dataclass
class Errors:
    """How wrong it is.

    Attributes:
        drift: Every run's scale is by so much larger than the one's before.
        outliers: Share of the pixels, in patches, whose depth is anything; two thirds of them with little confidence.
        pixel: One sigma of the depth at a place of the image [share]; neighbours are wrong alike, as with networks.
        image: One sigma of what all depths of an image have in common [share].
        position: One sigma of a camera's position [m].
        rotation_deg: Of its rotation.
        focal: Of a run's focal length [share].
    """

    drift: float = 0.05
    outliers: float = 0.1
    pixel: float = 0.01
    image: float = 0.003
    position: float = 0.005
    rotation_deg: float = 0.1
    focal: float = 0.003


@dataclass
class Truth:
    """Images' poses (metres), depth maps (h, w) and the pinhole camera of these."""

    camera: Camera
    poses: Sequence[Pose]
    depths: Sequence[np.ndarray]


@dataclass
class Simulated:
    """A session that answers by the truth.

    Attributes:
        truth: See there; images are asked for by its indices.
        errors: See there.
        places: Images of one place; those of several in one run get poses that have nothing to do with each other.
        fits: Images that memory holds, though `capacity` promises more.
        nan: Indices of images of which nothing is found.
        rng: Where errors come from.
        asked: Indices of every run.
    """

    truth: Truth
    errors: Errors = field(default_factory=Errors)
    places: Sequence[int] | None = None
    fits: int = 1000
    capacity: int = 40
    nan: Sequence[int] = ()
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    asked: list[list[int]] = field(default_factory=list)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """As `vggt_worker.Worker.ask`; the names of images are indices."""
        from pipeline.gpu_backends.errors import GpuMemoryError

        if "size" in request:
            return {"capacity": self.capacity}
        indices = [int(name) for name in request["images"]]
        if len(indices) > self.fits:
            raise GpuMemoryError(f"{len(indices)} images")
        self.asked.append(indices)
        poses, camera, depths, confidences = self.see(indices)
        result: dict[str, Any] = {
            "cam_from_world": np.array([pose.inverse().matrix[:3] for pose in poses]),
            "intrinsics": np.array([camera.matrix for _ in poses]),
        }
        for n, (depth, confidence) in enumerate(zip(depths, confidences, strict=True)):
            result[f"depth_{n}"], result[f"confidence_{n}"] = depth, confidence
            if indices[n] in self.nan:
                result["cam_from_world"][n] = np.nan
        return result

    def see(self, indices: Sequence[int]) -> tuple[list[Pose], Camera, list[np.ndarray], list[np.ndarray]]:
        """Poses in the frame of the first camera, camera, depth and confidence, in the run's own scale."""
        errors, rng = self.errors, self.rng
        usual = float(np.median([np.median(self.truth.depths[i]) for i in indices]))
        scale = (1 + errors.drift) ** (len(self.asked) - 1) / usual
        moved: dict[int, Pose] = {}
        poses, depths, confidences = [], [], []
        for i in indices:
            true = self.truth.poses[i]
            if self.places is not None:
                turn = Pose(matrix_from_rotvec(rng.normal(0, 1, 3)), rng.normal(0, usual, 3))
                true = moved.setdefault(self.places[i], turn) @ true
            turn = matrix_from_rotvec(np.deg2rad(rng.normal(0, errors.rotation_deg, 3)))
            poses.append(Pose(true.rotation @ turn, true.translation + rng.normal(0, errors.position, 3)))
            depth = self.truth.depths[i] * (1 + rng.normal(0, errors.image))
            depth = depth * (1 + errors.pixel * _smooth_noise(depth.shape, rng))
            confidence = 1 + 20 / (1 + rng.gamma(1.0, 0.5, depth.shape))
            chance, other, doubt = (_patches(depth.shape, rng) for _ in range(3))
            wrong = chance < errors.outliers
            depth = np.where(wrong, usual * (0.3 + 2.7 * other), depth)
            confidence = np.where(wrong & (doubt < 2 / 3), 1.5, confidence)
            depths.append((depth * scale).astype(np.float32))
            confidences.append(confidence.astype(np.float32))
        first = poses[0].inverse()
        own = [first @ pose for pose in poses]
        own = [Pose(pose.rotation, pose.translation * scale) for pose in own]
        zoom, c = 1 + rng.normal(0, errors.focal), self.truth.camera
        return own, Camera(c.width, c.height, c.fx * zoom, c.fy * zoom, c.cx, c.cy), depths, confidences


def _patches(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Numbers in 0..1, alike within a twentieth of the image."""
    return cv2.resize(rng.random((15, 20)), shape[::-1], interpolation=cv2.INTER_NEAREST)


def _smooth_noise(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Of one sigma, alike within some twelfth of the image."""
    coarse = rng.normal(0, 1, (12, 16)).astype(np.float32)
    noise = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise / noise.std()
