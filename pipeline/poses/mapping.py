"""Mapping from pictures alone: COLMAP's mappers, sub-models joined, and errors when there is nothing to map."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.poses import bridge
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Matches, image_name
from pipeline.poses.sparse_map import SparseMap
from pipeline.poses.submodels import join
from pipeline.progress import bar

logger = logging.getLogger(__name__)

LEAST_SHARE = 0.6
"""The largest sub-model must hold so much of the training keyframes; less means another place or a broken walk."""
GROWTH, REFINEMENTS, TOLERANCE = 1.3, 2, 1e-6
"""The map grows by this factor between global adjustments, their number each time, and where their solver stops.

COLMAP's own 1.1, 5 and 0 take twice as long over 100 photos of a rendered walk for the same track error, and more over
more photos: the last adjustment is ours anyway."""
STILL = 0.02
"""How far the eigenvalues of a rotation's homography may be from modulus 1."""
STILL_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class PictureMap:
    """What mapping from pictures alone gave.

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


def map_pictures(
    database: Path,
    keyframes: Sequence[Keyframe],
    matches: Sequence[Matches],
    *,
    mapper: Literal["incremental", "global"],
    seed: int,
    root: Path,
) -> PictureMap:
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

    bridge.silence()
    training = [k for k in keyframes if not k.held_out]
    names = [image_name(k) for k in training]
    logger.info("mapping %d pictures (%s)", len(training), mapper)
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
    return PictureMap(largest.poses, largest.cameras, submodels, joined)


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
            "the pictures must overlap",
            found="no two pictures show the same place, or they are too blurred, dark or plain to tell",
            remedy="take sharp, well-lit pictures, each overlapping the next by two thirds",
            file=root,
        )
    still = [_is_rotation(g.H) for g in matched if g.config in _homography_kinds()]
    if sum(still) >= STILL_SHARE * len(matched):
        raise ReconstructionError(
            "the camera must move: pictures from one spot hold no depth",
            found=f"{sum(still)} of {len(matched)} matched pairs differ by a turn of the camera at most",
            remedy="walk while taking pictures; turning on the spot is not enough",
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
    if largest >= max(3, LEAST_SHARE * training):
        for other in submodels[1:]:
            logger.warning("left out: %d pictures that fit together, but not with the rest", len(other))
        return
    if len(submodels) > 1:
        parts = "; ".join(f"{len(ids)} pictures ({_names(ids, keyframes)})" for ids in submodels)
        raise ReconstructionError(
            "all pictures must show one connected place",
            found=f"{len(submodels)} places that don't fit together: {parts}",
            remedy="build each place on its own, or add pictures that lead from one to the other",
            file=root,
        )
    raise ReconstructionError(
        f"at least {LEAST_SHARE:.0%} of the pictures must fit together",
        found=f"{largest} of {training}" + (f" ({_names(submodels[0], keyframes)})" if submodels else ""),
        remedy="take more pictures from places in between, each overlapping the next by two thirds",
        file=root,
    )


def _names(ids: Sequence[int], keyframes: Sequence[Keyframe], most: int = 6) -> str:
    names = [keyframes[i - 1].name for i in ids]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
