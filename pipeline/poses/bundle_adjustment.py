"""Triangulation and bundle adjustment from known poses, with the sensor's positions as a robust prior."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.geometry import Camera, Pose
from pipeline.poses import colmap_io
from pipeline.poses.keyframes import exact_cameras
from pipeline.poses.matching import MatchedImages, shots
from pipeline.poses.sparse_map import RADIUS_MEDIAN, PoseSigma, SparseMap, pose_sigmas
from pipeline.progress import bar
from pipeline.types import F64

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """One round of at most `steps` solver steps: the errors up to which tracks are created, then kept [px].

    `loss` is the scale of the Cauchy loss [px].
    """

    track_error: float
    loss: float
    kept_error: float
    steps: int


ROUNDS = (Round(12, 2.0, 6, 6), Round(6, 1.5, 4, 5), Round(4, 1.0, 4, 6))
"""Rounds from poses with errors of some pixels to the final points; only the last adjustment after them converges."""
LAST_STEPS, TOLERANCE = 30, 1e-5
"""Steps of the last adjustment at most; relative fall of the cost below which an adjustment ends. With 1e-6 it takes
twice as long and moves the cameras of a rendered hall by 0.01 mm; their sigma is 0.19 mm."""
DENSE_IMAGES = 200
"""Images up to which the dense solver takes less time than the sparse one."""
MIN_OBSERVATIONS = 20
"""Least number of map points of a registered view: with fewer, its pose would be the sensor's alone."""
MIN_VIEWS_CENTRE, LARGEST_SHIFT = 12, 0.05
"""Least number of views that determine a principal point; its largest plausible shift [share of the width]."""
ALIGN_ERROR = 0.25
"""Outlier threshold of the alignment to the sensor's path [m]."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The sensor's positions of some or all cameras by image id [m], and their one sigma [m]."""

    centres: Mapping[int, F64]
    sigma: float


class Adjuster:
    """A reconstruction of given poses on a database's matches; one thread, so that results are bit-identical."""

    def __init__(
        self, images: MatchedImages, poses: Mapping[int, Pose], cameras: Mapping[int, Camera], seed: int
    ) -> None:
        import pycolmap

        colmap_io.silence()
        self._ids = sorted(poses)
        options = pycolmap.DatabaseCacheOptions(min_num_matches=15)
        options.image_names = {f"{i:06d}" for i in self._ids}
        opened = pycolmap.Database.open(images.database)
        self._cache = pycolmap.DatabaseCache.create(opened, options)  # must outlive the mapper
        opened.close()
        self.reconstruction = pycolmap.Reconstruction()
        self.reconstruction.load(self._cache)
        self._exact = exact_cameras(images.keyframes)
        for camera_id in set(self.reconstruction.cameras) & cameras.keys() - self._exact:  # those stay as declared
            target = self.reconstruction.camera(camera_id)
            target.params = colmap_io.parameters(cameras[camera_id], target.model_name)
        self._ids = [i for i in self._ids if self.reconstruction.exists_image(i)]
        self._mapper = pycolmap.IncrementalMapper(self._cache)
        self._mapper.begin_reconstruction(self.reconstruction)
        self._shots = shots([k for k in images.keyframes if k.image_id in set(self._ids)])
        for first in self._shots:
            image = self.reconstruction.image(first)
            self.reconstruction.frame(image.frame_id).set_cam_from_world(
                image.camera_id, colmap_io.to_rigid(poses[first])
            )
            self.reconstruction.register_frame(image.frame_id)
        self._seed = seed

    def triangulate(self, max_error: float, *, again: bool = False) -> None:
        """Create feature tracks from the matches under the current poses, with errors up to `max_error` [px]."""
        import pycolmap

        focal = float(np.median([c.mean_focal_length() for c in self.reconstruction.cameras.values()]))
        angle = float(np.rad2deg(np.arctan(max_error / focal)))
        options = pycolmap.IncrementalTriangulatorOptions(random_seed=self._seed)
        options.complete_max_reproj_error = options.merge_max_reproj_error = max_error
        options.create_max_angle_error = options.continue_max_angle_error = max(angle, 0.5)
        for i in self._ids:
            self._mapper.triangulate_image(options, i)
        if again:
            self._mapper.retriangulate(options)
        self._mapper.complete_and_merge_tracks(options)

    def adjust(
        self,
        loss: float,
        steps: int,
        prior: Prior | None,
        free: Literal["points", "poses", "centres"] = "poses",
        held: Sequence[int] = (),
    ) -> pycolmap.CeresBundleAdjuster:
        """Bundle adjustment with a Cauchy loss of this scale [px]; 0 steps only set up the problem.

        `free` are the points only; also poses, focal lengths and distortion, except those of the cameras `held`; or
        also principal points.
        """
        import pycolmap

        options = pycolmap.BundleAdjustmentOptions(print_summary=False)
        options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        options.ceres.loss_function_scale = loss
        options.ceres.solver_options.num_threads = 1
        options.ceres.solver_options.max_num_iterations = steps
        options.ceres.solver_options.function_tolerance = TOLERANCE
        options.ceres.max_num_images_direct_dense_cpu_solver = DENSE_IMAGES
        config = pycolmap.BundleAdjustmentConfig()
        for i in self._ids:
            config.add_image(i)
        options.refine_sensor_from_rig = False
        for camera_id in {*held, *self._exact}.intersection(self.reconstruction.cameras):
            config.set_constant_cam_intrinsics(camera_id)
        if free == "points":
            options.refine_rig_from_world = options.refine_focal_length = options.refine_extra_params = False
        options.refine_principal_point = free == "centres"
        if prior is None and free != "points":
            # Two cameras fix the frame without bending the map. For a covariance three points do, so that every
            # camera has one.
            gauge = pycolmap.BundleAdjustmentGauge
            config.fix_gauge(gauge.TWO_CAMS_FROM_WORLD if steps else gauge.THREE_POINTS)
        if prior is None or free == "points":
            adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, self.reconstruction)
        else:
            prior_options = pycolmap.PosePriorBundleAdjustmentOptions(prior_position_fallback_stddev=prior.sigma)
            prior_options.alignment_ransac.random_seed = self._seed
            prior_options.alignment_ransac.max_error = ALIGN_ERROR
            prior_options.ceres.prior_position_loss_function_type = pycolmap.LossFunctionType.CAUCHY
            adjuster = pycolmap.create_pose_prior_ceres_bundle_adjuster(
                options, prior_options, config, self._priors(prior), self.reconstruction
            )
        summary = adjuster.solve()
        logger.debug("bundle adjustment: %s", summary.brief_report())
        return adjuster

    def _adjust_centres(self, loss: float, prior: Prior | None) -> pycolmap.CeresBundleAdjuster:
        """The last adjustment, including principal points that enough views determine.

        A principal point 1.6 px off caused 7 mm of a rendered hall's 8 mm track error. One that diverges was not
        determined (flat scene, straight track) and is restored.
        """
        cameras = self.reconstruction.cameras
        views = np.bincount([self.reconstruction.image(i).camera_id for i in self._ids], minlength=max(cameras) + 1)
        # Tangential distortion shifts images like a principal point: with both free neither is determined.
        tangential = any(camera.model_name == "OPENCV" for camera in cameras.values())
        few = [i for i in cameras if views[i] < MIN_VIEWS_CENTRE or i in self._exact]
        if tangential or len(few) == len(cameras):
            return self.adjust(loss, LAST_STEPS, prior)
        before = {i: list(cameras[i].params) for i in cameras}
        adjuster = self.adjust(loss, LAST_STEPS, prior, "centres", held=few)
        moved = [
            abs(cameras[i].params[k] - before[i][k]) / cameras[i].width
            for i in cameras
            for k in cameras[i].principal_point_idxs()
        ]
        if max(moved) <= LARGEST_SHIFT:
            return self.adjust(loss, LAST_STEPS, prior) if few else adjuster  # now with the held cameras
        for i in cameras:
            cameras[i].params = before[i]
        return self.adjust(loss, LAST_STEPS, prior)

    def filter(self, max_error: float) -> None:
        """Drop observations with a larger error than `max_error` [px], and points with too little parallax."""
        import pycolmap

        self._mapper.filter_points(pycolmap.IncrementalMapperOptions(filter_max_reproj_error=max_error))

    def refine(self, prior: Prior | None, rounds: Sequence[Round] = ROUNDS) -> SparseMap:
        """All rounds, a last adjustment, and the sigmas of its poses."""
        with bar(len(rounds) + 1, "bundle adjustment") as progress:
            for number, stage in enumerate(rounds):
                self.triangulate(stage.track_error, again=number > 0)
                self.adjust(stage.loss, stage.steps, prior)
                self.filter(stage.kept_error)
                progress.update(1)
            self._adjust_centres(rounds[-1].loss, prior)
            self.filter(rounds[-1].kept_error)
        result = SparseMap.from_colmap(self.reconstruction)
        counts = np.bincount(result.image, minlength=max(self._ids, default=0) + 1)
        kept = {i for shot in self._shots.values() if counts[shot].sum() >= MIN_OBSERVATIONS for i in shot}
        rows = np.isin(result.image, sorted(kept))
        poses = {i: pose for i, pose in result.poses.items() if i in kept}
        sigma = self._sigmas(poses)
        image, feature, point = result.image[rows], result.feature[rows], result.point[rows]
        return replace(result, poses=poses, image=image, feature=feature, point=point, sigma=sigma)

    def _sigmas(self, poses: Mapping[int, Pose]) -> dict[int, PoseSigma]:
        """One sigma of the poses by the images' covariance; empty if that can't be computed, as of rigs.

        Without the sensor's prior: it fixes the frame, which is removed again, so weakly that the result would be
        rounding errors.
        """
        import pycolmap

        if not poses or any(len(shot) > 1 for shot in self._shots.values()):  # COLMAP's covariance knows no rigs
            return {}
        adjuster = self.adjust(ROUNDS[-1].loss, 0, None)
        options = pycolmap.BACovarianceOptions(params=pycolmap.BACovarianceOptionsParams.POSES)
        covariance = pycolmap.estimate_ba_covariance(options, self.reconstruction, adjuster)
        if covariance is None:
            logger.warning("the bundle adjustment's covariance is singular: poses have no sigma")
            return {}
        self.reconstruction.update_point_3d_errors()
        errors = [point.error for point in self.reconstruction.points3D.values()]
        return pose_sigmas(covariance, poses, float(np.median(errors)) / RADIUS_MEDIAN)

    def _priors(self, prior: Prior) -> list[pycolmap.PosePrior]:
        import pycolmap

        result = []
        for i in (i for i in self._ids if i in prior.centres):
            one = pycolmap.PosePrior(pose_prior_id=i)
            one.corr_data_id = self.reconstruction.image(i).data_id
            one.coordinate_system = pycolmap.PosePriorCoordinateSystem.CARTESIAN
            one.position = prior.centres[i]
            one.position_covariance = np.eye(3) * prior.sigma**2
            result.append(one)
        return result
