"""Checks by the epipolar errors of verified matches.

Given poses: they may be of another convention than declared, which most matches contradict. Recorders often give the
depth camera's poses and intrinsics for both cameras (7-Scenes does). So focal length, radial distortion and a rigid
offset are fitted to the distances of matches from their epipolar lines.

Focal lengths of EXIF or of no source may be of other pixels (resized, cropped, zoomed images); the fundamental matrices
of the matches say which focal length they can have.

Generated videos: a scene that drifts slowly satisfies some epipolar geometry between any two images, but not that of
poses that explain all images.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from pipeline.capture.model import Capture, FocalSource
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.geometry.conventions import hypotheses
from pipeline.poses.keyframes import Keyframe, bearing_rays
from pipeline.poses.matching import MatchedImages
from pipeline.poses.sparse_map import SparseMap
from pipeline.types import F32, F64, Mask

logger = logging.getLogger(__name__)

MIN_BASELINE = 0.05
"""Smallest distance between the views of a pair [m]: with less, their direction of motion is noise."""
MAX_PAIRS, MIN_MATCHES, MATCHES_PER_PAIR = 800, 30, 15
"""Largest number of pairs; least number of matches of each; number of its matches that are used."""
FOCAL_STARTS = (0.75, 0.87, 1.0, 1.15, 1.33)
"""Factors of the focal length from which the fit starts."""
PRIOR = np.array([0.2, 0.05, *np.deg2rad([3.0, 3.0, 3.0]), 0.05, 0.05, 0.05])
"""One sigma of log focal, k1, rotation [rad] and translation [m], for what the pairs don't determine."""
MIN_GAIN = 0.25
"""Least relative reduction of the median error, else nothing is changed."""
NEAR_SHARE = 0.01
"""Largest distance from the epipolar line of a match that fits the given poses [share of the image's longer side]."""
MIN_NAMED, CLEARLY, NONSENSE = 0.5, 0.5, 0.15
"""Least share of matches that fit the convention that is named as the right one; largest ratio to it of the share that
fits what is declared; share below which poses say nothing. Of redkitchen's matches 0.92 fit its poses, and 0.01 to 0.26
those of wrong conventions."""
LOSS_SCALE = 2.0
"""Error above which matches have less weight [px]: wrong matches and drift."""
FOCAL_SIGMA: Mapping[FocalSource, float] = {"exact": 0.0, "given": 0.0, "exif": 0.1, "guessed": 0.3}
"""Relative one sigma of a focal length by where it is from."""
FOCALS = np.geomspace(0.3, 15, 100)
"""Focal lengths that are tried [of the image's longer side]."""
MIN_PAIRS, MATRIX_SIGMA, MAX_UNEQUAL = 5, 0.15, 0.3
"""Least number of fundamental matrices that determine a focal length; relative one sigma of it by them; largest
difference of singular values that counts: those of wrong matches are of no focal length."""
MAX_OFF_SHARE, MAX_OFF = 0.004, 2.0
"""Largest distance from the epipolar line [share of the image's longer side, px]."""
MAX_VIOLATIONS, MIN_CONSISTENT = 0.2, 0.5
"""Largest share of violating matches of a consistent second (rigid scenes have 0.00, flowing ones a third), and least
share of consistent seconds."""


@dataclass(frozen=True, eq=False)
class SensorOffset:
    """Correction of the declared focal lengths (a factor), radial distortion (a change) and the camera's pose.

    The errors are median epipolar errors [px] with everything as declared, and after the correction.
    """

    focal_factor: float
    k1: float
    sensor_from_camera: Pose
    error_before: float
    error_after: float

    def camera(self, declared: Camera) -> Camera:
        """The corrected intrinsics."""
        k1, *others = declared.distortion
        fx, fy = declared.fx * self.focal_factor, declared.fy * self.focal_factor
        return replace(declared, fx=fx, fy=fy, distortion=(k1 + self.k1, *others))


def check_given_poses(images: MatchedImages, capture: Capture) -> None:
    """Check that the capture's poses fit the verified matches as declared.

    A match fits if it is near its epipolar line, with the scene in front of both cameras, for one of the focal lengths
    from which `fit_sensor_offset` starts. Few matched pairs say nothing.

    Raises:
        ReconstructionError: Naming the convention or order that fits, if what is declared doesn't; or when nearly no
            match fits, whatever the convention.
    """
    posed = {f.name: n for n, f in enumerate(f for f in capture.frames if f.world_from_camera)}
    given = [f.world_from_camera for f in capture.frames if f.world_from_camera]
    ids = [k.image_id for k in images.keyframes if k.name in posed]
    rows = [posed[images.keyframes[i - 1].name] for i in ids]
    share = _fitting_share(images, ids)
    declared = 1.0 if share is None else share([given[row] for row in rows])
    if share is None or declared >= CLEARLY:
        return
    scored = ((share(one.poses(given, rows)), one) for one in hypotheses(list(posed)))
    fits, best = max(scored, key=lambda pair: pair[0])
    rule, found = "the given poses must fit the images", f"as declared {declared:.0%} of the matches fit"
    if fits >= MIN_NAMED and declared < CLEARLY * fits:
        found, remedy = f"{found}, as {best.text} {fits:.0%}", best.remedy
        raise ReconstructionError(rule, found=found, remedy=remedy, file=capture.root)
    if declared < NONSENSE:
        raise ReconstructionError(
            rule,
            found=f"{found}, and no other convention or order makes them fit",
            remedy="use the images alone: --set poses.backend=colmap",
            file=capture.root,
        )


def _fitting_share(images: MatchedImages, ids: Sequence[int]) -> Callable[[Sequence[Pose]], float] | None:
    """Share of random matches between the images `ids` that fit, as a function of their poses; None with few pairs."""
    row = {i: n for n, i in enumerate(ids)}
    usable = [m for m in images.matches if m.i + 1 in row and m.j + 1 in row and len(m.features) >= MIN_MATCHES]
    if len(usable) < 3:
        return None
    rng = np.random.default_rng(0)
    chosen = [usable[k] for k in np.sort(rng.permutation(len(usable))[:MAX_PAIRS])]
    picked = [m.features[rng.permutation(len(m.features))[:MATCHES_PER_PAIR]] for m in chosen]
    pair = np.repeat(np.arange(len(chosen)), [len(rows) for rows in picked])

    def rays(side: int) -> F64:
        owners = [m.j if side else m.i for m in chosen]
        found = [
            bearing_rays(images.keyframes[k].camera, images.features[k].pixels[rows[:, side]])
            for k, rows in zip(owners, picked, strict=True)
        ]
        return np.concatenate(found)

    before, after = rays(0), rays(1)
    first, second = (np.array([row[k + 1] for k in side]) for side in zip(*((m.i, m.j) for m in chosen), strict=True))
    cameras = [images.keyframes[m.i].camera for m in chosen]
    tolerance = np.array([NEAR_SHARE * max(camera.width, camera.height) / camera.fx for camera in cameras])[pair]

    def share(poses: Sequence[Pose]) -> float:
        rotations, centres = (np.array([getattr(p, part) for p in poses]) for part in ("rotation", "translation"))
        rotation = np.swapaxes(rotations[second], 1, 2) @ rotations[first]  # second from first
        move = np.einsum("pji,pj->pi", rotations[second], centres[first] - centres[second])
        essential = _essential(rotation, move)[pair]
        best = 0.0
        for factor in FOCAL_STARTS:
            a, b = (own / [factor, factor, 1.0] for own in (before, after))
            fits = factor * np.abs(_sampson_distances(essential, a, b)) < tolerance
            ahead = _in_front(np.einsum("mij,mj->mi", rotation[pair], a), b, move[pair])
            # of a far point the sign is noise: the pair decides
            facing = np.bincount(pair, ahead) > 0.5 * np.bincount(pair)
            best = max(best, float((fits & facing[pair]).mean()))
        return best

    return share


def _in_front(a: F64, b: F64, move: F64) -> Mask:
    """Whether (M,) the points where rays a and b (M, 3) pass each other, y * b = x * a + move, have x > 0 and y > 0."""
    ab = (a * b).sum(1)
    x = ab * (b * move).sum(1) - (b * b).sum(1) * (a * move).sum(1)
    y = (a * a).sum(1) * (b * move).sum(1) - ab * (a * move).sum(1)
    return (x > 0) & (y > 0)


def contradicted_focals(database: Path, keyframes: Sequence[Keyframe]) -> dict[int, Camera]:
    """Cameras by id whose focal length isn't given and contradicts the matches, with the one that fits best.

    An essential matrix has two equal singular values. With each focal length the fundamental matrices of the pairs of
    one camera, planes left out, become essential matrices as well as they can.

    Source: P. Mendonça and R. Cipolla, A simple technique for self-calibration, CVPR 1999.
    """
    import pycolmap

    opened = pycolmap.Database.open(database)
    ids, geometries = opened.read_two_view_geometries()
    opened.close()
    kind = pycolmap.TwoViewGeometryConfiguration
    matrices: dict[int, list[F64]] = {}
    for pair_id, geometry in zip(ids, geometries, strict=True):
        first, second = (keyframes[i - 1] for i in pycolmap.pair_id_to_image_pair(pair_id))
        general = geometry.config in (kind.CALIBRATED, kind.UNCALIBRATED)
        if first.camera_id == second.camera_id and general and len(geometry.inlier_matches) >= MIN_MATCHES:
            matrices.setdefault(first.camera_id, []).append(np.asarray(geometry.F, np.float64))
    cameras = {k.camera_id: (k.camera, FOCAL_SIGMA[k.frame.focal_source]) for k in keyframes}
    result = {}
    for camera_id, found in matrices.items():
        camera, sigma = cameras[camera_id]
        if not sigma or len(found) < MIN_PAIRS:
            continue
        focals = np.r_[camera.fx, FOCALS * max(camera.width, camera.height)]
        declared, *tried = _inequality(np.array(found), focals, camera)
        best = float(focals[1 + np.argmin(tried)])
        off = abs(np.log(best / camera.fx))
        if off > 3 * np.hypot(sigma, MATRIX_SIGMA) and min(tried) < CLEARLY * declared:
            result[camera_id] = replace(camera, fx=best, fy=best * camera.fy / camera.fx)
    return result


def _inequality(fundamental: F64, focals: F64, camera: Camera) -> F64:
    """Mean relative difference (K,) of the two largest singular values of fundamental matrices (M, 3, 3) with each."""
    calibration = np.tile(camera.matrix, (len(focals), 1, 1))
    calibration[:, 0, 0], calibration[:, 1, 1] = focals, focals * camera.fy / camera.fx
    essential = np.swapaxes(calibration, 1, 2)[:, None] @ fundamental @ calibration[:, None]
    singular = np.linalg.svd(essential, compute_uv=False)
    unequal = 1 - singular[..., 1] / np.maximum(singular[..., 0], 1e-30)
    return np.minimum(unequal, MAX_UNEQUAL).mean(1)


def fit_sensor_offset(images: MatchedImages, poses: Mapping[int, Pose], rng: np.random.Generator) -> SensorOffset:
    """Robust least squares on Sampson errors, started from several focal lengths.

    Nothing is changed unless the median error falls by `MIN_GAIN`: eight parameters fit some of the noise of a few
    poses, and with cameras that look inwards a forward offset is equivalent to another scale.

    `poses` are the given world_from_sensor of the images to use, by image id. When no pair has a baseline, the result
    is the identity with infinite errors.
    """
    errors = _sampson_errors(images, poses, rng)
    if errors is None:
        return SensorOffset(1.0, 0.0, Pose.identity(), np.inf, np.inf)
    start = np.zeros(len(PRIOR))
    before = float(np.median(np.abs(errors(start))))
    candidates = [np.r_[np.log(factor), start[1:]] for factor in FOCAL_STARTS]
    best = min(candidates, key=lambda p: float(np.median(np.abs(errors(p)))))
    # The prior adds rows to the robust sum, with the weight of a few pairs.
    fit = least_squares(
        lambda p: np.r_[errors(p), p / PRIOR * LOSS_SCALE], best, loss="soft_l1", f_scale=LOSS_SCALE, x_scale=PRIOR
    )
    after = float(np.median(np.abs(errors(fit.x))))
    if after > (1 - MIN_GAIN) * before:
        return SensorOffset(1.0, 0.0, Pose.identity(), before, before)
    offset = Pose(matrix_from_rotvec(fit.x[2:5]), fit.x[5:8])
    return SensorOffset(float(np.exp(fit.x[0])), float(fit.x[1]), offset, before, after)


def _sampson_errors(
    images: MatchedImages, poses: Mapping[int, Pose], rng: np.random.Generator
) -> Callable[[F64], F64] | None:
    """Signed Sampson distances [px] (M,) of random matches as a function of the fit's parameters; None with few pairs.

    The parameters are log focal factor, k1 change, rotation vector and translation of the offset.
    """
    usable = []
    for m in images.matches:
        a, b = poses.get(m.i + 1), poses.get(m.j + 1)
        if a is None or b is None or len(m.features) < MIN_MATCHES:
            continue
        if np.linalg.norm(a.translation - b.translation) > MIN_BASELINE:
            usable.append(m)
    if len(usable) < 3:
        return None
    chosen = [usable[k] for k in np.sort(rng.permutation(len(usable))[:MAX_PAIRS])]
    rows = [m.features[rng.permutation(len(m.features))[:MATCHES_PER_PAIR]] for m in chosen]
    pair = np.repeat(np.arange(len(chosen)), [len(r) for r in rows])

    def centred_and_focal(side: int) -> tuple[F64, F64]:
        owners = [m.j if side else m.i for m in chosen]
        cameras = [images.keyframes[k].camera for k in owners]
        centred = [
            images.features[k].pixels[r[:, side]] - (c.cx, c.cy) for k, r, c in zip(owners, rows, cameras, strict=True)
        ]
        return np.concatenate(centred).astype(np.float64), np.array([(c.fx, c.fy) for c in cameras])[pair]

    centred_i, focal_i = centred_and_focal(0)
    centred_j, focal_j = centred_and_focal(1)
    k1_declared = np.array([images.keyframes[m.i].camera.distortion[0] for m in chosen])[pair]
    j_from_i = np.array([(poses[m.j + 1].inverse() @ poses[m.i + 1]).matrix for m in chosen])

    def errors(parameters: F64) -> F64:
        factor, k1 = np.exp(parameters[0]), k1_declared + parameters[1]
        offset = np.eye(4)
        offset[:3, :3], offset[:3, 3] = matrix_from_rotvec(parameters[2:5]), parameters[5:8]
        motion = np.linalg.inv(offset) @ j_from_i @ offset
        essential = _essential(motion[:, :3, :3], motion[:, :3, 3])[pair]
        a, b = _bearing(centred_i / focal_i / factor, k1), _bearing(centred_j / focal_j / factor, k1)
        return focal_i[:, 0] * factor * _sampson_distances(essential, a, b)

    return errors


def _essential(rotation: F64, move: F64) -> F64:
    """Essential matrices (M, 3, 3) of relative poses, of rotation (M, 3, 3) and translation (M, 3) of any length."""
    direction = move / np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-12)
    columns = np.cross(direction[:, None], np.swapaxes(rotation, 1, 2))
    return np.swapaxes(columns, 1, 2)


def _sampson_distances(essential: F64, a: F64, b: F64) -> F64:
    """Signed Sampson distances (M,) of rays a and b (M, 3), z = 1, as shares of the focal length.

    Source: R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 11.4.3.
    """
    line_b = np.einsum("mij,mj->mi", essential, a)
    line_a = np.einsum("mji,mj->mi", essential, b)
    norm = np.sqrt((line_b[:, :2] ** 2).sum(1) + (line_a[:, :2] ** 2).sum(1))
    return (b * line_b).sum(1) / np.maximum(norm, 1e-12)


def _bearing(distorted: F64, k1: F64) -> F64:
    """Directions (M, 3), z = 1, of distorted image points (M, 2); the inverse series to fourth order in r."""
    r2 = (distorted**2).sum(1)
    straight = distorted * (1 - k1 * r2 + 3 * (k1 * r2) ** 2)[:, None]
    return np.c_[straight, np.ones(len(straight))]


def temporal_consistency(
    images: MatchedImages, sparse_map: SparseMap, root: Path
) -> tuple[frozenset[int], dict[str, object]]:
    """Compare the verified matches of a video's training keyframes with the map's poses, second by second.

    Returns:
        Image ids of all keyframes in seconds that don't show one rigid scene; and the report: consistent and other
        parts (start, end) [s], and by second the share of matches that violate their epipolar lines.

    Raises:
        ReconstructionError: When less than `MIN_CONSISTENT` of the seconds are consistent.
    """
    total: Counter[int] = Counter()
    wrong: Counter[int] = Counter()
    for m in images.matches:
        first, second = images.keyframes[m.i], images.keyframes[m.j]
        if first.image_id not in sparse_map.poses or second.image_id not in sparse_map.poses:
            continue
        pixels = [images.features[k].pixels[m.features[:, side]] for side, k in enumerate((m.i, m.j))]
        error = _epipolar_error(sparse_map, (first, second), pixels)
        count = int((error > max(MAX_OFF, MAX_OFF_SHARE * max(first.camera.width, first.camera.height))).sum())
        for at in {_second(first), _second(second)}:
            total[at] += len(error)
            wrong[at] += count
    share = {at: wrong[at] / total[at] for at in sorted(total)}
    bad = [at for at, value in share.items() if value > MAX_VIOLATIONS]
    good = [at for at in share if at not in bad]
    consistent, inconsistent = _joined(good), _joined(bad)
    drifting, usable = (", ".join(f"{start}-{end}" for start, end in parts) for parts in (inconsistent, consistent))
    if len(good) < MIN_CONSISTENT * len(share):
        raise ReconstructionError(
            "a generated video must show one consistent scene",
            found=f"the scene drifts in {len(bad)} of {len(share)} seconds: {drifting} s"
            + (f"; usable: {usable} s" if good else ""),
            remedy="choose the usable ones (--set capture.start=... --set capture.end=...), or generate it again",
            file=root,
        )
    if bad:
        logger.warning("the scene drifts at %s s of the video, which is left out; usable: %s s", drifting, usable)
    return frozenset(k.image_id for k in images.keyframes if _second(k) in bad), {
        "consistent_seconds": consistent,
        "inconsistent_seconds": inconsistent,
        "violations": {str(second): value for second, value in share.items()},
    }


def _second(keyframe: Keyframe) -> int:
    return int(keyframe.frame.source_time or 0)


def _epipolar_error(sparse_map: SparseMap, pair: tuple[Keyframe, Keyframe], pixels: Sequence[F32]) -> F64:
    """Sampson distances (M,) [px] of matches under the map's poses."""
    lenses = [sparse_map.cameras[k.camera_id] for k in pair]
    before, after = (bearing_rays(lens, points) for lens, points in zip(lenses, pixels, strict=True))
    move = sparse_map.poses[pair[1].image_id].inverse() @ sparse_map.poses[pair[0].image_id]
    essential = np.broadcast_to(_essential(move.rotation[None], move.translation[None]), (len(before), 3, 3))
    return np.abs(_sampson_distances(essential, before, after)) * lenses[0].fx


def _joined(seconds: Sequence[int]) -> list[list[int]]:
    """Consecutive seconds joined to parts (start, end)."""
    groups = groupby(enumerate(seconds), key=lambda item: item[1] - item[0])
    parts = [[second for _, second in group] for _, group in groups]
    return [[part[0], part[-1] + 1] for part in parts]
