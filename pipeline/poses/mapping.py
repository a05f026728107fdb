"""Mapping from images alone: COLMAP's mappers, sub-models joined, and errors when nothing can be mapped."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, Similarity
from pipeline.poses import colmap_io
from pipeline.poses.colmap_io import robust_similarity
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Matches, image_name
from pipeline.poses.sparse_map import SparseMap
from pipeline.progress import bar

logger = logging.getLogger(__name__)

MIN_SHARE = 0.6
"""The largest sub-model must hold so much of the training keyframes; less means another place or a broken walk."""
GROWTH, REFINEMENTS, TOLERANCE = 1.3, 2, 1e-6
"""The map grows by this factor between global adjustments, their number each time, and where their solver stops.

COLMAP's own 1.1, 5 and 0 take twice as long over 100 photos of a rendered walk for the same track error, and more over
more photos: the last adjustment is ours anyway."""
STILL = 0.02
"""How far the eigenvalues of a rotation's homography may be from modulus 1."""
STILL_SHARE = 0.9

MIN_SHARED, MIN_SHARED_RATIO = 15, 0.3
"""Points that two sub-models must share, and their least share of those that matches say are the same."""
SAME = 0.03
"""How far apart shared points may lie after joining [share of their usual distance from the cameras]."""


@dataclass(frozen=True, eq=False)
class ImageMap:
    """What mapping from images alone gave.

    Attributes:
        poses: world_from_camera of the largest sub-model by image id; arbitrary frame and scale.
        cameras: Refined intrinsics by camera id.
        submodels: Image ids of every sub-model that is left, the largest first.
        joined: How many of the mapper's sub-models the largest was joined from.
    """

    poses: Mapping[int, Pose]
    cameras: Mapping[int, Camera]
    submodels: tuple[tuple[int, ...], ...]
    joined: int


def map_images(
    database: Path,
    keyframes: Sequence[Keyframe],
    matches: Sequence[Matches],
    *,
    mapper: Literal["incremental", "global"],
    seed: int,
    root: Path,
) -> ImageMap:
    """Map the training keyframes, join sub-models and take the largest; one thread, so that results repeat.

    Args:
        database: With verified matches.
        keyframes: All keyframes; held-out ones are left out.
        matches: The database's.
        mapper: COLMAP's incremental or global (GLOMAP) mapper.
        seed: Of every random choice.
        root: The capture, named in errors.

    Raises:
        ReconstructionError: When nothing or only a minor part of the keyframes fits together.
    """
    import pycolmap

    colmap_io.silence()
    training = [k for k in keyframes if not k.held_out]
    names = [image_name(k) for k in training]
    logger.info("mapping %d images (%s)", len(training), mapper)
    with tempfile.TemporaryDirectory() as scratch, bar(len(training), "mapping") as shown:
        if mapper == "global":
            options = pycolmap.GlobalPipelineOptions(num_threads=1, random_seed=seed, image_names=names)
            models = pycolmap.global_mapping(database, scratch, scratch, options)
        else:
            options = pycolmap.IncrementalPipelineOptions(
                num_threads=1, random_seed=seed, image_names=names, extract_colors=False, min_model_size=3
            )
            options.ba_global_frames_ratio = options.ba_global_points_ratio = GROWTH
            options.ba_global_max_refinements = REFINEMENTS
            options.ba_global_function_tolerance = options.ba_local_function_tolerance = TOLERANCE
            models = pycolmap.incremental_mapping(
                database,
                scratch,
                scratch,
                options,
                initial_image_pair_callback=lambda: shown.update(2),  # pyright: ignore[reportArgumentType]
                next_image_callback=lambda: shown.update(1),  # pyright: ignore[reportArgumentType]
            )
    maps = join([SparseMap.from_colmap(m) for m in models.values()], matches, seed)
    if len(models) > 1:
        logger.info("the mapper made %d sub-models; %d are left after joining", len(models), len(maps))
    submodels = _disjoint([found for found, _ in maps])
    _require_most(submodels, keyframes, len(training), root)
    largest, joined = maps[0]
    return ImageMap(largest.poses, largest.cameras, submodels, joined)


def _disjoint(maps: Sequence[SparseMap]) -> tuple[tuple[int, ...], ...]:
    """Image ids of every map that no larger one has, without empty ones."""
    taken: set[int] = set()
    result = []
    for found in maps:
        result.append(tuple(sorted(set(found.poses) - taken)))
        taken |= set(found.poses)
    return tuple(ids for ids in result if ids)


def require_motion(database: Path, root: Path) -> None:
    """Stop when the camera only stood or turned: then nothing can be triangulated.

    A rotation's homography K R K^-1 has eigenvalues of modulus 1 (scaled to determinant 1) whatever K is; that of
    a plane seen from two places has not. When nearly all pairs are explained by such homographies, no pair has a
    baseline.

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
            found="no two images show the same place, or they are too blurred, dark or plain to tell",
            remedy="take sharp, well-lit images, each overlapping the next by two thirds",
            file=root,
        )
    still = [_is_rotation(g.H) for g in matched if g.config in _homography_kinds()]
    if sum(still) >= STILL_SHARE * len(matched):
        raise ReconstructionError(
            "the camera must move: images from one spot hold no depth",
            found=f"{sum(still)} of {len(matched)} matched pairs differ by a turn of the camera at most",
            remedy="walk while taking images; turning on the spot is not enough",
            file=root,
        )


def _homography_kinds() -> set[object]:
    import pycolmap

    kind = pycolmap.TwoViewGeometryConfiguration
    return {kind.PLANAR, kind.PANORAMIC, kind.PLANAR_OR_PANORAMIC}


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
            "all images must show one connected place",
            found=f"{len(submodels)} places that don't fit together: {parts}",
            remedy="build each place on its own, or add images that lead from one to the other",
            file=root,
        )
    raise ReconstructionError(
        f"at least {MIN_SHARE:.0%} of the images must fit together",
        found=f"{largest} of {training}" + (f" ({_names(submodels[0], keyframes)})" if submodels else ""),
        remedy="take more images from places in between, each overlapping the next by two thirds",
        file=root,
    )


def _names(ids: Sequence[int], keyframes: Sequence[Keyframe], most: int = 6) -> str:
    names = [keyframes[i - 1].name for i in ids]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def join(maps: Sequence[SparseMap], matches: Sequence[Matches], seed: int) -> list[tuple[SparseMap, int]]:
    """Join what can be joined, the largest first.

    A point of one sub-model is one of another where they hold the same feature of an image that both have, or
    features of two images that match. The robust similarity between such pairs lays one sub-model over the other.

    Args:
        maps: Sub-models, each in a frame and scale of its own.
        matches: Verified matches.
        seed: Of the RANSAC.

    Returns:
        Maps with the number of sub-models that each was made of, the largest first. Points of joined maps are doubled
        where they shared them; cameras are those of the largest.
    """
    left = sorted(maps, key=_rank)
    result: list[tuple[SparseMap, int]] = []
    while left:
        base, made_of = left.pop(0), 1
        tried = 0
        while tried < len(left):
            fit = _fit(base, left[tried], matches, seed)
            if fit is None:
                tried += 1
                continue
            base = _both(base, left.pop(tried).transformed(fit))
            made_of, tried = made_of + 1, 0  # what did not fit the smaller map may fit the larger one
        result.append((base, made_of))
    return sorted(result, key=lambda r: _rank(r[0]))


def _rank(found: SparseMap) -> tuple[int, int]:
    return -len(found.poses), min(found.poses)


def _fit(base: SparseMap, other: SparseMap, matches: Sequence[Matches], seed: int) -> Similarity | None:
    """The similarity base_from_other, or None where too few points agree on one."""
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
    here, there = _points(base), _points(other)
    rows = [np.zeros((0, 2), np.intp)]
    for image in here.keys() & there.keys():
        count = min(len(here[image]), len(there[image]))
        rows.append(np.stack([here[image][:count], there[image][:count]], 1))
    for m in matches:
        for a, b, pair in ((m.i + 1, m.j + 1, m.features), (m.j + 1, m.i + 1, m.features[:, ::-1])):
            if a in here and b in there:
                known = (pair[:, 0] < len(here[a])) & (pair[:, 1] < len(there[b]))
                rows.append(np.stack([here[a][pair[known, 0]], there[b][pair[known, 1]]], 1))
    both = np.concatenate(rows)
    return np.unique(both[(both >= 0).all(1)], axis=0)


def _points(found: SparseMap) -> dict[int, NDArray[np.intp]]:
    """The point of every feature of every image up to the last one that has any, -1 where there is none."""
    last = {int(i): int(found.feature[found.image == i].max()) for i in np.unique(found.image)}
    return {i: found.points_of(i, count + 1) for i, count in last.items()}


def _both(base: SparseMap, other: SparseMap) -> SparseMap:
    """One map of two in the same frame; images that both have stay where the first has them."""
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
