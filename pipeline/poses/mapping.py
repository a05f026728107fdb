"""Mapping from images alone: COLMAP's mappers, sub-models joined, and errors when nothing can be mapped."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, Similarity
from pipeline.poses import colmap_io
from pipeline.poses.colmap_io import robust_similarity
from pipeline.poses.keyframes import Keyframe, exact_cameras
from pipeline.poses.matching import MatchedImages, Matches, image_name
from pipeline.poses.sparse_map import SparseMap
from pipeline.previews import Arrays, Cameras, Publisher, spread
from pipeline.progress import Part, bar

if TYPE_CHECKING:
    import pycolmap
    from tqdm import tqdm

logger = logging.getLogger(__name__)

MIN_SHARE = 0.6
"""Least share of the training keyframes in the largest sub-model; less means other scenes or a broken track."""
GROWTH, REFINEMENTS, TOLERANCE = 1.3, 1, 1e-4
"""Growth of the map between global adjustments; number of adjustments each time, global and local; their solver's
tolerance.

COLMAP's own are 1.1, 5 and 2, and 0. The last adjustment is ours anyway: with 2 and 1e-6 the cameras of a rendered walk
of 500 photos have the same error after it, 0.55 mm."""
STILL = 0.02
"""Largest difference of the moduli of the eigenvalues of a rotation's homography from 1."""
STILL_SHARE = 0.9

MIN_SHARED, MIN_SHARED_RATIO = 15, 0.3
"""Least number of points that two sub-models share, and its least share of the points that should be the same."""
SAME = 0.03
"""Largest distance of shared points after joining [share of their median depth]."""


@dataclass(frozen=True, eq=False)
class ImageMap:
    """A map from images alone: poses and refined intrinsics of the largest sub-model, in an arbitrary frame and scale.

    `submodels` are the image ids of all sub-models, the largest first, which was joined from `joined` of the mapper's;
    `sparse_map` has its points.
    """

    sparse_map: SparseMap
    submodels: tuple[tuple[int, ...], ...]
    joined: int

    @property
    def poses(self) -> Mapping[int, Pose]:
        """World-from-camera by image id."""
        return self.sparse_map.poses

    @property
    def cameras(self) -> Mapping[int, Camera]:
        """Refined intrinsics by camera id."""
        return self.sparse_map.cameras


def map_images(
    images: MatchedImages,
    *,
    mapper: Literal["incremental", "global"],
    seed: int,
    root: Path,
    previews: Publisher | None = None,
) -> ImageMap:
    """Map the training keyframes by COLMAP's incremental or global mapper, and join sub-models.

    One thread, so that results are reproducible. `root` is the capture, named in errors. The incremental mapper
    publishes its map as it grows.

    Raises:
        ReconstructionError: When nothing or only a minor part of the keyframes fits together.
    """
    import pycolmap

    colmap_io.silence()
    names = [image_name(k) for k in images.training]
    logger.info("mapping %d images (%s)", len(names), mapper)
    with tempfile.TemporaryDirectory() as scratch, bar(len(names), "mapping") as progress:
        if mapper == "global":
            options = pycolmap.GlobalPipelineOptions(num_threads=1, random_seed=seed, image_names=names)
            models = pycolmap.global_mapping(images.database, scratch, scratch, options)
        else:
            options = pycolmap.IncrementalPipelineOptions(
                num_threads=1, random_seed=seed, image_names=names, extract_colors=False, min_model_size=3
            )
            options.ba_global_frames_ratio = options.ba_global_points_ratio = GROWTH
            options.ba_global_max_refinements = options.ba_local_max_refinements = REFINEMENTS
            options.ba_global_function_tolerance = options.ba_local_function_tolerance = TOLERANCE
            options.ba_refine_sensor_from_rig = False
            options.constant_cameras = exact_cameras(images.keyframes)
            models = _incremental(images, options, progress, previews)
    maps = join([SparseMap.from_colmap(m) for m in models.values()], images.matches, seed)
    if len(models) > 1:
        logger.info("the mapper made %d sub-models, %d after joining", len(models), len(maps))
    mapped: set[int] = set()
    submodels = []  # without images of larger ones
    for sparse_map, _ in maps:
        if own := tuple(sorted(sparse_map.poses.keys() - mapped)):
            submodels.append(own)
        mapped |= sparse_map.poses.keys()
    _require_most(submodels, images.keyframes, len(names), root)
    largest, joined = maps[0]
    return ImageMap(largest, tuple(submodels), joined)


def _incremental(
    images: MatchedImages,
    options: pycolmap.IncrementalPipelineOptions,
    progress: tqdm | Part,
    previews: Publisher | None,
) -> dict[int, pycolmap.Reconstruction]:
    """The sub-models by number; as `pycolmap.incremental_mapping`, which doesn't show them while they grow."""
    import pycolmap

    manager = pycolmap.ReconstructionManager()
    database = pycolmap.Database.open(images.database)
    pipeline = pycolmap.IncrementalPipeline(options, database, manager)

    def registered(count: int) -> None:
        progress.update(count)
        if previews is not None:
            previews.offer("map", lambda: _preview(images, manager.get(manager.size() - 1)))

    kind = pycolmap.IncrementalPipelineCallback
    pipeline.add_callback(kind.INITIAL_IMAGE_PAIR_REG_CALLBACK, lambda: registered(2))
    pipeline.add_callback(kind.NEXT_IMAGE_REG_CALLBACK, lambda: registered(1))
    pipeline.run()
    database.close()
    return {number: manager.get(number) for number in range(manager.size())}


def _preview(images: MatchedImages, reconstruction: pycolmap.Reconstruction) -> Arrays:
    sparse_map = SparseMap.from_colmap(reconstruction)
    shown = spread(len(sparse_map.xyz))
    cameras = {k.image_id: sparse_map.cameras[k.camera_id] for k in images.keyframes if k.image_id in sparse_map.poses}
    known = Cameras.of((i, cameras[i], pose) for i, pose in sparse_map.poses.items())
    return {"points": sparse_map.xyz[shown], "colors": sparse_map.colors(images)[shown], **known.to_arrays()}


def require_motion(database: Path, root: Path) -> None:
    """Stop when the camera only stood or rotated: then nothing can be triangulated.

    A rotation's homography K R K^-1 has eigenvalues of modulus 1 (scaled to determinant 1) whatever K is; that of a
    plane seen from two positions has not. When such homographies explain nearly all pairs, no pair has a baseline.

    Source: R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 13.2 and appendix A7.

    Raises:
        ReconstructionError: When nine of ten matched pairs are like that, or no pair matches at all.
    """
    import pycolmap

    opened = pycolmap.Database.open(database)
    _, geometries = opened.read_two_view_geometries()
    opened.close()
    matched = [g for g in geometries if len(g.inlier_matches)]
    if not matched:
        raise ReconstructionError(
            "the images must overlap",
            found="no two images match; they show different places, or are too blurred, dark or plain",
            remedy="take sharp, well-lit images, each overlapping the next by two thirds",
            file=root,
        )
    kind = pycolmap.TwoViewGeometryConfiguration
    homographies = kind.PLANAR, kind.PANORAMIC, kind.PLANAR_OR_PANORAMIC
    still = [_is_rotation(g.H) for g in matched if g.config in homographies]
    if sum(still) >= STILL_SHARE * len(matched):
        raise ReconstructionError(
            "the camera must move: images from one position don't determine depth",
            found=f"{sum(still)} of {len(matched)} matched pairs differ by a rotation of the camera at most",
            remedy="walk while taking images; turning on the spot is not enough",
            file=root,
        )


def _is_rotation(homography: object) -> bool:
    matrix = np.asarray(homography, np.float64)
    if matrix.shape != (3, 3) or abs(np.linalg.det(matrix)) < 1e-12:
        return False
    modulus = np.abs(np.linalg.eigvals(matrix / np.cbrt(np.linalg.det(matrix))))
    return bool(np.abs(modulus - 1).max() < STILL)


def _require_most(submodels: Sequence[Sequence[int]], keyframes: Sequence[Keyframe], training: int, root: Path) -> None:
    largest = len(submodels[0]) if submodels else 0
    if largest >= max(3, MIN_SHARE * training):
        for other in submodels[1:]:
            logger.warning("left out: %d images that fit together, but not with the rest", len(other))
        return
    if len(submodels) > 1:
        parts = "; ".join(f"{len(ids)} images ({_names(ids, keyframes)})" for ids in submodels)
        raise ReconstructionError(
            "all images must show one connected scene",
            found=f"{len(submodels)} scenes that don't fit together: {parts}",
            remedy="build each scene on its own, or add images that connect them",
            file=root,
        )
    raise ReconstructionError(
        f"at least {MIN_SHARE:.0%} of the images must fit together",
        found=f"{largest} of {training}" + (f" ({_names(submodels[0], keyframes)})" if submodels else ""),
        remedy="take more images from positions in between, each overlapping the next by two thirds",
        file=root,
    )


def _names(ids: Sequence[int], keyframes: Sequence[Keyframe], most: int = 6) -> str:
    names = [keyframes[i - 1].name for i in ids]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def join(maps: Sequence[SparseMap], matches: Sequence[Matches], seed: int) -> list[tuple[SparseMap, int]]:
    """Join sub-models, each in its own frame and scale, that share enough points.

    Points of two sub-models are the same where they observe the same feature of an image in both, or features of two
    images that match. A robust similarity is fitted to such pairs.

    Returns:
        Maps with the number of their sub-models, the largest first. Points that joined maps share are doubled; cameras
        are those of the largest.
    """
    left = sorted(maps, key=_rank)
    result: list[tuple[SparseMap, int]] = []
    while left:
        base, count = left.pop(0), 1
        tried = 0
        while tried < len(left):
            fit = _base_from_other(base, left[tried], matches, seed)
            if fit is None:
                tried += 1
                continue
            base = _union(base, left.pop(tried).transformed(fit))
            count, tried = count + 1, 0  # maps that did not fit the smaller one may fit the larger one
        result.append((base, count))
    return sorted(result, key=lambda r: _rank(r[0]))


def _rank(sparse_map: SparseMap) -> tuple[int, int]:
    return -len(sparse_map.poses), min(sparse_map.poses)


def _base_from_other(base: SparseMap, other: SparseMap, matches: Sequence[Matches], seed: int) -> Similarity | None:
    """The similarity, or None where too few points agree on one."""
    shared = _shared_points(base, other, matches)
    if len(shared) < MIN_SHARED:
        return None
    near = SAME * float(np.median(base.in_camera()[:, 2]))
    answer = robust_similarity(other.xyz[shared[:, 1]], base.xyz[shared[:, 0]], near, seed)
    if answer is None:
        return None
    fit, inliers = answer
    return fit if inliers.sum() >= max(MIN_SHARED, MIN_SHARED_RATIO * len(shared)) else None


def _shared_points(base: SparseMap, other: SparseMap, matches: Sequence[Matches]) -> NDArray[np.intp]:
    """Distinct pairs (K, 2) of points of both maps that should be the same."""
    firsts, seconds = _points(base), _points(other)
    rows = [np.zeros((0, 2), np.intp)]
    for image in firsts.keys() & seconds.keys():
        count = min(len(firsts[image]), len(seconds[image]))
        rows.append(np.stack([firsts[image][:count], seconds[image][:count]], 1))
    for m in matches:
        for a, b, pair in ((m.i + 1, m.j + 1, m.features), (m.j + 1, m.i + 1, m.features[:, ::-1])):
            if a in firsts and b in seconds:
                known = (pair[:, 0] < len(firsts[a])) & (pair[:, 1] < len(seconds[b]))
                rows.append(np.stack([firsts[a][pair[known, 0]], seconds[b][pair[known, 1]]], 1))
    both = np.concatenate(rows)
    return np.unique(both[(both >= 0).all(1)], axis=0)


def _points(sparse_map: SparseMap) -> dict[int, NDArray[np.intp]]:
    """The point of every feature of every image up to the last feature with a point; -1 without one."""
    last = {int(i): int(sparse_map.feature[sparse_map.image == i].max()) for i in np.unique(sparse_map.image)}
    return {i: sparse_map.points_of(i, count + 1) for i, count in last.items()}


def _union(base: SparseMap, other: SparseMap) -> SparseMap:
    """One map of two in the same frame; images in both have the poses of the first."""
    new = ~np.isin(other.image, sorted(base.poses))
    return replace(
        base,
        poses={**other.poses, **base.poses},
        cameras={**other.cameras, **base.cameras},
        xyz=np.concatenate([base.xyz, other.xyz]),
        image=np.concatenate([base.image, other.image[new]]),
        feature=np.concatenate([base.feature, other.feature[new]]),
        point=np.concatenate([base.point, other.point[new] + len(base.xyz)]),
    )


def why_unregistered(
    keyframes: Sequence[Keyframe],
    matches: Sequence[Matches],
    registered: Collection[int],
    left_out: Sequence[Sequence[str]],
) -> dict[str, str]:
    """The reason, by name, for every keyframe that is not among the `registered` image ids.

    `left_out` are the names of the images in each sub-model that was left out.
    """
    groups = {name: len(names) for names in left_out for name in names}
    max_matches = {k.image_id: 0 for k in keyframes}
    for m in matches:
        for i, j in ((m.i + 1, m.j + 1), (m.j + 1, m.i + 1)):
            if j in registered:
                max_matches[i] = max(max_matches[i], len(m.features))
    result = {}
    for k in (k for k in keyframes if k.image_id not in registered):
        if k.name in groups:
            result[k.name] = f"one of {groups[k.name]} images that fit together, but not with the rest"
        elif count := max_matches[k.image_id]:
            result[k.name] = f"at most {count} matches with another image, and no pose that they agree on"
        else:
            result[k.name] = "no matches with the other images"
    return result
