"""The sparse map, the sigmas of its poses, and the localisation of further images against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose, Similarity
from pipeline.poses import colmap_io
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Features, MatchedImages
from pipeline.progress import track
from pipeline.types import F64, U8, Floats

if TYPE_CHECKING:
    import pycolmap

HALF_ANGLE = 2.0
"""Ceres perturbs a quaternion by half the rotation vector, so the rotation is twice the perturbation."""
RADIUS_MEDIAN = 1.1774
"""Median length of a 2D Gaussian vector of unit sigma per axis."""

Index = NDArray[np.intp]

MIN_INLIERS = 20
"""Least number of map points that a localised image agrees with."""
RANSAC_ERROR, INLIER_ERROR = 8.0, 4.0
"""Largest reprojection error of an inlier in the RANSAC, and afterwards, as for the map's own observations [px]."""


@dataclass(frozen=True)
class PoseSigma:
    """One sigma of a pose, per axis: of its rotation [deg] and of its position [scene units]."""

    rotation_deg: float
    position: float


def pose_sigmas(
    covariance: pycolmap.BACovariance, poses: Mapping[int, Pose], pixel_sigma: float
) -> dict[int, PoseSigma]:
    """Sigmas of all poses against their common frame; `pixel_sigma` is that of the residuals per axis [px].

    The covariance is that of an adjustment with unit pixel sigma; its fixed images get no sigma.
    """
    ids = [i for i in sorted(poses) if _block(covariance, i, i) is not None]
    joint = np.zeros((6 * len(ids), 6 * len(ids)))
    for row, i in enumerate(ids):
        for column, j in enumerate(ids[row:], row):
            block = _block(covariance, i, j)
            if block is not None:
                joint[6 * row : 6 * row + 6, 6 * column : 6 * column + 6] = block
                joint[6 * column : 6 * column + 6, 6 * row : 6 * row + 6] = block.T
    chosen = [poses[i] for i in ids]
    jacobian = np.array([_world_from_tangent(pose) for pose in chosen])
    for n in range(len(ids)):
        joint[6 * n : 6 * n + 6] = jacobian[n] @ joint[6 * n : 6 * n + 6]
    for n in range(len(ids)):
        joint[:, 6 * n : 6 * n + 6] = joint[:, 6 * n : 6 * n + 6] @ jacobian[n].T
    variance = np.maximum(np.diagonal(without_gauge(joint, chosen)).reshape(-1, 2, 3).mean(2), 0) * pixel_sigma**2
    return {i: _pose_sigma(of_pose) for i, of_pose in zip(ids, variance, strict=True)}


def tangent_sigma(covariance: F64, pose: Pose, pixel_sigma: float) -> PoseSigma:
    """Sigma of one pose from its (6, 6) covariance in COLMAP's tangent space, everything else being exact."""
    jacobian = _world_from_tangent(pose)
    return _pose_sigma(np.diagonal(jacobian @ covariance @ jacobian.T).reshape(2, 3).mean(1) * pixel_sigma**2)


def _pose_sigma(variance: F64) -> PoseSigma:
    rotation, position = np.sqrt(variance)
    return PoseSigma(float(np.rad2deg(rotation)), float(position))


def without_gauge(joint: F64, poses: Sequence[Pose]) -> F64:
    """The joint covariance (6N, 6N) of world rotations [rad] and centres, without that of a common similarity.

    Frame and scale of a reconstruction are a convention; their uncertainty would dominate that of the relative poses.

    Source: W. Baarda, S-transformations and criterion matrices, Netherlands Geodetic Commission 1973.
    """
    centres = np.array([pose.translation for pose in poses])
    centres = centres - centres.mean(0)
    extent2 = max(float((centres**2).sum(1).mean()), 1e-12)
    generator = np.zeros((len(poses), 6, 7))
    generator[:, :3, :3] = np.eye(3)
    generator[:, 3:, :3] = -_cross(centres)
    generator[:, 3:, 3:6] = np.eye(3)
    generator[:, 3:, 6] = centres
    generator = generator.reshape(-1, 7)
    weight = np.tile(np.repeat([extent2, 1.0], 3), len(poses))
    inverse = np.linalg.pinv((generator.T * weight) @ generator) @ (generator.T * weight)
    left = joint - generator @ (inverse @ joint)
    return left - (left @ inverse.T) @ generator.T


def _block(covariance: pycolmap.BACovariance, i: int, j: int) -> F64 | None:
    block = covariance.get_cam_cov_from_world(i) if i == j else covariance.get_cam_cross_cov_from_world(i, j)
    if block is None:
        return None
    values = np.asarray(block, np.float64)
    return values if values.shape == (6, 6) else None


def _world_from_tangent(pose: Pose) -> F64:
    """(6, 6): small world rotation and centre shift from COLMAP's tangent space (half rotation, translation).

    Camera-from-world is perturbed on the left, R <- exp(w) R; with c = -R^T t: dc = -R^T (dt + [t]x w).
    """
    translation = pose.inverse().translation
    result = np.zeros((6, 6))
    result[:3, :3] = -HALF_ANGLE * pose.rotation
    result[3:, :3] = -HALF_ANGLE * pose.rotation @ _cross(translation[None])[0]
    result[3:, 3:] = -pose.rotation
    return result


def _cross(vectors: F64) -> F64:
    """Matrices (N, 3, 3) with [v]x y = v x y."""
    result = np.zeros((len(vectors), 3, 3))
    x, y, z = vectors.T
    result[:, 0, 1], result[:, 0, 2], result[:, 1, 2] = -z, y, -x
    result[:, 1, 0], result[:, 2, 0], result[:, 2, 1] = z, -y, x
    return result


@dataclass(frozen=True, eq=False)
class SparseMap:
    """Registered images and the points (N, 3) that they observe, in the map's frame.

    Poses, world_from_camera, and their sigmas, where known, are by image id, intrinsics at working size by camera id.
    Of each of M observations there are the image id and the indices into its features and into the points.
    """

    poses: Mapping[int, Pose]
    cameras: Mapping[int, Camera]
    xyz: F64
    image: Index
    feature: Index
    point: Index
    sigma: Mapping[int, PoseSigma] = field(default_factory=dict)

    @staticmethod
    def from_colmap(reconstruction: pycolmap.Reconstruction) -> SparseMap:
        """The map of a reconstruction, sorted by image and feature numbers."""
        ids = sorted(reconstruction.reg_image_ids())
        poses = {i: colmap_io.from_rigid(reconstruction.image(i).cam_from_world()) for i in ids}
        cameras = {i: colmap_io.from_colmap(reconstruction.camera(i)) for i in sorted(reconstruction.cameras)}
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

    def of_images(self, ids: Iterable[int]) -> SparseMap:
        """The map of some images: their poses and observations, and all points."""
        kept = set(ids)
        rows = np.isin(self.image, sorted(kept))
        return replace(
            self,
            poses={i: pose for i, pose in self.poses.items() if i in kept},
            image=self.image[rows],
            feature=self.feature[rows],
            point=self.point[rows],
            sigma={i: sigma for i, sigma in self.sigma.items() if i in kept},
        )

    def in_camera(self) -> F64:
        """Every observation's point in its camera's axes (M, 3)."""
        ids = sorted(self.poses)
        rotations, row = np.array([self.poses[i].rotation for i in ids]), np.searchsorted(ids, self.image)
        centres = np.array([self.poses[i].translation for i in ids])
        return np.einsum("mji,mj->mi", rotations[row], self.xyz[self.point] - centres[row])

    def colors(self, images: MatchedImages) -> U8:
        """The points' mean colours (N, 3) in the images that observe them."""
        views = np.maximum(np.bincount(self.point, minlength=len(self.xyz)), 1)
        colors = np.zeros((len(self.xyz), 3))
        for image_id in np.unique(self.image):
            rows = self.image == image_id
            np.add.at(colors, self.point[rows], images.features[image_id - 1].colors[self.feature[rows]])
        return np.round(colors / views[:, None]).astype(np.uint8)

    def reprojection(self, images: MatchedImages) -> F64:
        """Every observation's reprojection error [px], (M,)."""
        local = self.in_camera()
        error = np.full(len(local), np.inf)
        for image_id in np.unique(self.image):
            rows = np.flatnonzero(self.image == image_id)
            camera = self.cameras[images.keyframes[image_id - 1].camera_id]
            pixels = images.features[image_id - 1].pixels[self.feature[rows]]
            error[rows] = reprojection_errors(local[rows], camera, pixels)
        return error

    def points_of(self, image_id: int, features: int) -> Index:
        """The point of every feature of an image (features,), -1 without one."""
        result = np.full(features, -1, np.intp)
        rows = self.image == image_id
        result[self.feature[rows]] = self.point[rows]
        return result


@dataclass(frozen=True, eq=False)
class Localised:
    """world_from_camera of a localised image, its sigma against an exact map, and its inliers' mean error [px]."""

    pose: Pose
    sigma: PoseSigma
    inliers: int
    error: float


def localise(image_ids: Sequence[int], images: MatchedImages, sparse_map: SparseMap, seed: int) -> dict[int, Localised]:
    """Localise images outside the map, by PnP with RANSAC on 2D-3D matches through the registered images.

    The poses are refined, intrinsics are fixed. `seed` is the RANSAC's.
    """
    points_of = {i: sparse_map.points_of(i, len(images.features[i - 1])) for i in sparse_map.poses}
    pairs: dict[int, list[Index]] = {i: [np.zeros((0, 2), np.intp)] for i in image_ids}  # of features and points
    for m in images.matches:
        for own, other, matched in ((m.i + 1, m.j + 1, m.features), (m.j + 1, m.i + 1, m.features[:, ::-1])):
            if own in pairs and other in points_of:
                points = points_of[other][matched[:, 1]]
                pairs[own].append(np.stack([matched[:, 0], points], 1)[points >= 0])
    result = {}
    for i in track(sorted(pairs), "held-out views"):
        distinct = np.unique(np.concatenate(pairs[i]), axis=0)
        localised = localise_one(images.keyframes[i - 1], images.features[i - 1], distinct, sparse_map, seed)
        if localised is not None:
            result[i] = localised
    return result


def localise_one(
    keyframe: Keyframe, features: Features, pairs: Index, sparse_map: SparseMap, seed: int
) -> Localised | None:
    """As `localise` for one image, by (feature, point) pairs (K, 2); None with fewer than `MIN_INLIERS` inliers."""
    import pycolmap

    if len(pairs) < MIN_INLIERS:
        return None
    camera = sparse_map.cameras[keyframe.camera_id]
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.random_seed, options.ransac.max_error = seed, RANSAC_ERROR
    pixels, points = features.pixels[pairs[:, 0]].astype(np.float64), sparse_map.xyz[pairs[:, 1]]
    colmap_camera = colmap_io.to_colmap(camera, keyframe.camera_id, trusted=True)
    answer = pycolmap.estimate_and_refine_absolute_pose(pixels, points, colmap_camera, options)
    if answer is None:
        return None
    refinement = pycolmap.AbsolutePoseRefinementOptions(gradient_tolerance=1e-3)
    pose = colmap_io.from_rigid(answer["cam_from_world"])
    mask = reprojection_errors(pose.inverse().apply(points), camera, pixels) < INLIER_ERROR
    if mask.sum() < MIN_INLIERS:
        return None
    answer = pycolmap.refine_absolute_pose(
        answer["cam_from_world"], pixels, points, mask, colmap_camera, refinement, return_covariance=True
    )
    if answer is None:
        return None
    pose = colmap_io.from_rigid(answer["cam_from_world"])
    error = reprojection_errors(pose.inverse().apply(points), camera, pixels)
    good = error < INLIER_ERROR
    if good.sum() < MIN_INLIERS:
        return None
    sigma = tangent_sigma(np.asarray(answer["covariance"]), pose, float(np.median(error[good])) / RADIUS_MEDIAN)
    return Localised(pose, sigma, int(good.sum()), float(error[good].mean()))


def reprojection_errors(local: F64, camera: Camera, pixels: Floats, nearest: float = 1e-9) -> F64:
    """Distances (N,) [px] of camera-frame points (N, 3) from pixels (N, 2); infinite up to the depth `nearest`."""
    ahead = local[:, 2] > nearest
    error = np.full(len(local), np.inf)
    error[ahead] = np.linalg.norm(camera.project(local[ahead]) - pixels[ahead], axis=1)
    return error
