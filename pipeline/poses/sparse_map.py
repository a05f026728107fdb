"""The finished map of the training keyframes: poses, cameras, points and who saw what, free of COLMAP's types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose, Similarity
from pipeline.poses import bridge
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.uncertainty import PoseSigma

if TYPE_CHECKING:
    import pycolmap

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class SparseMap:
    """A map; image ids are keyframes' ids, features are indices into their features.

    Attributes:
        poses: world_from_camera of every registered image.
        cameras: Intrinsics of every camera id, at working size.
        xyz: (N, 3) points, map frame.
        image: (M,) image id, one row per observation.
        feature: (M,) feature in that image.
        point: (M,) index into `xyz`.
        sigma: One sigma of the poses, where known.
    """

    poses: Mapping[int, Pose]
    cameras: Mapping[int, Camera]
    xyz: Array
    image: Index
    feature: Index
    point: Index
    sigma: Mapping[int, PoseSigma] = field(default_factory=dict)

    @staticmethod
    def from_colmap(reconstruction: pycolmap.Reconstruction) -> SparseMap:
        """The map of a reconstruction, in an order that depends on image and feature numbers only."""
        ids = sorted(reconstruction.reg_image_ids())
        poses = {i: bridge.from_rigid(reconstruction.image(i).cam_from_world()) for i in ids}
        cameras = {i: bridge.from_colmap(reconstruction.camera(i)) for i in sorted(reconstruction.cameras)}
        tracks = [
            (sorted((e.image_id, e.point2D_idx) for e in point.track.elements), point.xyz)
            for point in reconstruction.points3D.values()
        ]
        tracks.sort(key=lambda t: t[0])
        lengths = [len(elements) for elements, _ in tracks]
        rows = np.array([row for elements, _ in tracks for row in elements], np.intp).reshape(-1, 2)
        xyz = np.array([xyz for _, xyz in tracks], np.float64).reshape(-1, 3)
        return SparseMap(poses, cameras, xyz, rows[:, 0], rows[:, 1], np.repeat(np.arange(len(tracks)), lengths))

    def transformed(self, a_from_b: Similarity) -> SparseMap:
        """The map of frame b, in frame a."""
        sigma = {i: PoseSigma(s.rotation_deg, s.position * a_from_b.scale) for i, s in self.sigma.items()}
        poses = {i: a_from_b.apply_pose(pose) for i, pose in self.poses.items()}
        return replace(self, poses=poses, xyz=a_from_b.apply(self.xyz), sigma=sigma)

    def in_camera(self) -> Array:
        """Every observation's point in its camera's axes (M, 3)."""
        rotations, centres, row = self._stacked()
        return np.einsum("mji,mj->mi", rotations[row], self.xyz[self.point] - centres[row])

    def reprojection(self, keyframes: Sequence[Keyframe], pixels: Sequence[NDArray[np.float32]]) -> Array:
        """Every observation's reprojection error [px], (M,)."""
        local = self.in_camera()
        error = np.full(len(local), np.inf)
        for image_id in np.unique(self.image):
            rows = np.flatnonzero((self.image == image_id) & (local[:, 2] > 1e-9))
            keyframe = keyframes[image_id - 1]
            seen = pixels[image_id - 1][self.feature[rows]]
            error[rows] = np.linalg.norm(self.cameras[keyframe.camera_id].project(local[rows]) - seen, axis=1)
        return error

    def points_of(self, image_id: int, features: int) -> Index:
        """The point of every feature of an image (features,), -1 where there is none."""
        result = np.full(features, -1, np.intp)
        rows = self.image == image_id
        result[self.feature[rows]] = self.point[rows]
        return result

    def centres(self) -> Array:
        """Camera centres (I, 3) in order of image id."""
        return np.array([self.poses[i].translation for i in sorted(self.poses)])

    def _stacked(self) -> tuple[Array, Array, Index]:
        ids = sorted(self.poses)
        rotations = np.array([self.poses[i].rotation for i in ids])
        return rotations, self.centres(), np.searchsorted(ids, self.image)
