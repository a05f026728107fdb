"""What a running stage has so far, in small files that who looks on reads.

One format: .npz files of the arrays in `FIELDS`, each written whole or not at all. A stage publishes only where
somebody looks on, and spends at most a fiftieth of its time on it; its result never depends on a preview.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose, Similarity
from pipeline.io.arrays import BadArrayError, arrays_of_npz
from pipeline.io.files import write_whole
from pipeline.types import I64

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

PUBLISHING = ("poses", "depth", "splat")
"""Stages that publish previews."""
FIELDS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "points": ("f4", (None, 3)),  # [scene units]
    "colors": ("u1", (None, 3)),  # of the points
    "ids": ("i8", (None,)),  # numbers of keyframes or views
    "poses": ("f8", (None, 4, 4)),  # their world_from_camera
    "intrinsics": ("f8", (None, 6)),  # their width, height, fx, fy, cx, cy [px]
    "depth": ("f4", (None, None)),  # of one keyframe, 0 = unknown [scene units]
    **{
        name: ("f4", (None, *shape))
        for name, shape in zip(Gaussians.ARRAYS, ((3,), (3,), (4,), (), (1, 3)), strict=True)
    },
}
"""Type and shape of every array that a preview may hold; None is any number."""
MAX_BYTES = 8 * 2**20
"""Largest preview; a reader looks into no larger one."""
MAX_ROWS = 60_000
"""Most points and Gaussians of a preview."""
SECONDS, SHARE = 2.0, 0.02
"""Least time between two previews of one name, and the largest share of the time that is spent on them."""


class Publisher:
    """Publishes the previews of one stage in `folder` (`pipeline.io.results.preview_folder`), if that is there."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._due = folder, 0.0

    def offer(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Publish what `make` returns if somebody looks on and the last time was long enough ago."""
        start = time.monotonic()
        if start < self._due or not self._folder.is_dir():
            return
        self.publish(name, make())
        end = time.monotonic()
        self._due = end + max(SECONDS, (end - start) / SHARE)

    def publish(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Publish arrays of `FIELDS` if somebody looks on; where the disk refuses, nothing is published."""
        if not self._folder.is_dir():
            return
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **{key: np.asarray(v, FIELDS[key][0]) for key, v in arrays.items()})
        if content.tell() > MAX_BYTES:
            logger.debug("the preview %s has %d bytes, too many", name, content.tell())
            return
        try:
            write_whole(self._folder / f"{name}.npz", content.getbuffer(), alone=True)
        except OSError as error:
            logger.debug("no preview: %s", error)


def read_preview(file: Path, needed: Sequence[str]) -> Arrays | None:
    """The arrays `needed` of a preview; None where it isn't there, or isn't one."""
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_BYTES:
            return None
        arrays = arrays_of_npz(file, needed, limit=MAX_BYTES)
    except (OSError, BadArrayError):
        return None
    return arrays if all(_as_declared(name, values) for name, values in arrays.items()) else None


def _as_declared(name: str, values: np.ndarray) -> bool:
    kind, shape = FIELDS[name]
    if values.dtype != kind or len(values.shape) != len(shape) or not np.isfinite(values).all():
        return False
    return all(wanted in (None, size) for size, wanted in zip(values.shape, shape, strict=True))


def spread(count: int, most: int = MAX_ROWS) -> I64:
    """Indices of at most `most` of so many rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Cameras:
    """Keyframes by number with their pinhole cameras and world_from_camera poses."""

    ids: tuple[int, ...]
    cameras: tuple[Camera, ...]
    poses: tuple[Pose, ...]

    @staticmethod
    def of(rows: Iterable[tuple[int, Camera, Pose]]) -> Cameras:
        """Of rows of number, camera and pose."""
        ids, cameras, poses = zip(*rows, strict=True)
        return Cameras(ids, cameras, poses)

    def transformed(self, a_from_b: Similarity) -> Cameras:
        """The cameras of frame b, in frame a."""
        return Cameras(self.ids, self.cameras, tuple(a_from_b.apply_pose(pose) for pose in self.poses))

    def to_arrays(self) -> Arrays:
        """As arrays of a preview; lens distortion is left away."""
        return {
            "ids": np.array(self.ids, np.int64),
            "poses": np.array([pose.matrix for pose in self.poses]),
            "intrinsics": np.array([(c.width, c.height, c.fx, c.fy, c.cx, c.cy) for c in self.cameras], np.float64),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> Cameras | None:
        """The inverse of `to_arrays`; None where the arrays are none."""
        ids, poses, intrinsics = arrays["ids"], arrays["poses"], arrays["intrinsics"]
        if not len(ids) or not len(ids) == len(poses) == len(intrinsics):
            return None
        try:
            cameras = [Camera(int(w), int(h), fx, fy, cx, cy) for w, h, fx, fy, cx, cy in intrinsics.tolist()]
            return Cameras(tuple(ids.tolist()), tuple(cameras), tuple(Pose.from_matrix(pose) for pose in poses))
        except ValueError:
            return None
