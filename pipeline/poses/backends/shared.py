"""What the backends share: their inputs and results, and maps triangulated and adjusted from some poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.capture.model import Capture
from pipeline.geometry import Camera, Pose
from pipeline.io.results import preview_folder
from pipeline.poses.bundle_adjustment import ROUNDS, Adjuster, Prior
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.mapping import ImageMap, map_images
from pipeline.poses.matching import MatchedImages, Matches
from pipeline.poses.params import PosesParams
from pipeline.poses.report import BackendReport
from pipeline.poses.sensor_path import SensorPath
from pipeline.poses.sparse_map import PoseSigma, SparseMap
from pipeline.previews import Publisher


@dataclass(frozen=True, eq=False)
class Inputs:
    """The input of all backends; a network's depth is written to the stage's folder `out_dir`."""

    capture: Capture
    images: MatchedImages
    params: PosesParams
    out_dir: Path

    @property
    def metric(self) -> bool:
        """Whether given poses are in metres."""
        return self.capture.scale_sigma is not None

    @property
    def sensor_sigma(self) -> PoseSigma:
        """One sigma of a given pose."""
        return PoseSigma(self.params.sensor_sigma_rotation_deg, self.params.sensor_sigma_position)


@dataclass(frozen=True, eq=False)
class Result:
    """A backend's map, metric if the sensor gave poses, and the matches that were used.

    Attributes:
        scale_sigma: Relative one sigma of the map's scale by the sensor's path; None without one.
        sensor_from_camera: Fixed offset of the colour camera in the given poses' frame.
        path: The sensor's path that the map started from; None if it is unused or the result.
        path_sigmas: One sigma of its poses, by image id.
        keeps_path: Whether all views that the images don't determine stay where the path has them.
        settled: Poses of all keyframes, held-out ones too, and their sigmas, where the images have no say in them.
    """

    sparse_map: SparseMap
    scale_sigma: float | None
    sensor_from_camera: Pose
    report: BackendReport
    matches: Sequence[Matches]
    path: SensorPath | None = None
    path_sigmas: Mapping[int, PoseSigma] = field(default_factory=dict)
    keeps_path: bool = False
    settled: tuple[Mapping[int, Pose], Mapping[int, PoseSigma]] | None = None


def given_poses(keyframes: Sequence[Keyframe]) -> dict[int, Pose]:
    """Poses of the capture by image id."""
    return {k.image_id: k.frame.world_from_camera for k in keyframes if k.frame.world_from_camera}


def settled_result(
    inputs: Inputs,
    poses: Mapping[int, Pose],
    sigmas: Mapping[int, PoseSigma],
    report: BackendReport,
    scale_sigma: float = 0.0,
) -> Result:
    """Poses of all keyframes as they are, and the points that the images give under them."""
    cameras = {k.camera_id: k.camera for k in inputs.images.keyframes}
    training = {k.image_id: poses[k.image_id] for k in inputs.images.training}
    found = points_only(inputs, training, cameras)
    sparse_map = replace(found, poses=training, cameras={**cameras, **found.cameras})
    images = inputs.images
    return Result(sparse_map, scale_sigma, Pose.identity(), report, images.matches, settled=(poses, sigmas))


def points_only(inputs: Inputs, poses: Mapping[int, Pose], cameras: Mapping[int, Camera]) -> SparseMap:
    """A map whose poses and intrinsics are as given."""
    adjuster = Adjuster(inputs.images, poses, cameras, inputs.params.seed)
    first = ROUNDS[0]
    adjuster.triangulate(first.track_error)
    adjuster.adjust(first.loss, first.steps, None, "points")
    adjuster.filter(first.kept_error)
    return SparseMap.from_colmap(adjuster.reconstruction)


def adjusted(
    inputs: Inputs, poses: Mapping[int, Pose], cameras: Mapping[int, Camera], known: Mapping[int, Pose]
) -> SparseMap:
    """The map adjusted from `poses`, with the positions of the known ones, if any, as a prior."""
    centres = {i: pose.translation for i, pose in known.items()}
    prior = Prior(centres, inputs.params.sensor_sigma_position) if known else None
    return Adjuster(inputs.images, poses, cameras, inputs.params.seed).refine(prior)


def explained_share(images: MatchedImages, sparse_map: SparseMap) -> float:
    """Share of the verified matches between training views whose two features belong to one point of the map."""
    points = {
        k.image_id: sparse_map.points_of(k.image_id, len(images.features[k.image_id - 1])) for k in images.training
    }
    same = total = 0
    for m in images.matches:
        a, b = points.get(m.i + 1), points.get(m.j + 1)
        if a is not None and b is not None:
            first, second = a[m.features[:, 0]], b[m.features[:, 1]]
            same += int(((first == second) & (first >= 0)).sum())
            total += len(m.features)
    return same / max(total, 1)


def map_alone(inputs: Inputs) -> ImageMap:
    """The map of the images without any given poses."""
    params, previews = inputs.params, Publisher(preview_folder(inputs.out_dir))
    return map_images(
        inputs.images, mapper=params.mapper, seed=params.seed, root=inputs.capture.root, previews=previews
    )


def submodel_report(images: MatchedImages, mapped: ImageMap) -> BackendReport:
    """The report on the parts that the images alone came out in."""
    names = [names_of(images, ids) for ids in mapped.submodels]
    return {"submodels": [len(ids) for ids in mapped.submodels], "joined": mapped.joined, "left_out": names[1:]}


def names_of(images: MatchedImages, ids: Sequence[int]) -> list[str]:
    """Names of images by their ids."""
    return [images.keyframes[i - 1].name for i in ids]
