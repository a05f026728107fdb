"""SIFT features of images, and their verified matches in a COLMAP database."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Pose
from pipeline.parallel import map_in_order
from pipeline.poses import colmap_io
from pipeline.poses.keyframes import Keyframe, read_keyframe, read_keyframe_mask
from pipeline.progress import bar, track
from pipeline.types import F32, U8, Mask

CONTRAST = 0.02
"""Contrast threshold of SIFT: half of OpenCV's default, which gives no features on plain walls."""
WEAK, FEW = 0.005, 1000
"""That of images with fewer features than the second, of which so many are taken then, the strongest: a dim wall."""


LENGTH = 512
"""Length of a RootSIFT descriptor as COLMAP stores it."""
CHUNK = 256
"""Pairs verified in one call."""
RATIO, MAX_ANGLE = 0.8, 0.7
"""Largest ratio of the distances to the nearest and the second nearest descriptor, and largest angle between matching
descriptors [rad], as in COLMAP."""
SHORT, SLACK, KEPT = 64, 0.05, 64
"""Length of shortened descriptors; share of a squared length by which their products may differ from the whole ones';
images whose shortened descriptors are kept."""


@dataclass(frozen=True, eq=False)
class Features:
    """An image's features: pixels (N, 2) in the keyframe's camera, sizes [px], angles [rad], RootSIFT, colours."""

    pixels: F32
    sizes: F32
    angles: F32
    descriptors: U8
    colors: U8

    def __len__(self) -> int:
        return len(self.pixels)


def extract(root: Path, keyframes: Sequence[Keyframe], count: int, threads: int = 0) -> list[Features]:
    """SIFT features of every keyframe's image, at most `count` each; 0 threads are as many as cores."""

    def features(keyframe: Keyframe) -> Features:
        image, mask = read_keyframe(root, keyframe), read_keyframe_mask(root, keyframe)
        valid = None if mask is None else mask.astype(np.uint8) * np.uint8(255)
        few = min(FEW, count)
        for contrast, most in ((CONTRAST, count), (WEAK, few)):
            sift = cv2.SIFT.create(nfeatures=most, contrastThreshold=contrast, enable_precise_upscale=True)
            keypoints, raw = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), valid)
            if len(keypoints) >= few:
                break
        descriptors = root_sift(np.asarray(np.zeros((0, 128)) if raw is None else raw, np.float32))
        values = np.array([(*k.pt, k.size, k.angle) for k in keypoints], np.float32).reshape(-1, 4)
        pixels, sizes, angles = values[:, :2] + np.float32(0.5), values[:, 2] / np.float32(2), np.deg2rad(values[:, 3])
        column = np.clip(pixels[:, 0].astype(int), 0, image.shape[1] - 1)
        row = np.clip(pixels[:, 1].astype(int), 0, image.shape[0] - 1)
        return Features(keyframe.to_camera(pixels), sizes, angles, descriptors, image[row, column])

    return list(track(map_in_order(features, keyframes, threads), "features", len(keyframes)))


def root_sift(raw: F32) -> U8:
    """RootSIFT as COLMAP stores it, (N, 128) uint8 of length `LENGTH`.

    Source: R. Arandjelovic and A. Zisserman, Three things everyone should know to improve object retrieval,
    CVPR 2012, section 2.
    """
    share = raw / np.maximum(raw.sum(1, keepdims=True), 1e-12)
    return np.clip(np.round(np.sqrt(share) * LENGTH), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Matches:
    """Verified matches (M, 2) of the features of two keyframes, i < j by index (image id - 1)."""

    i: int
    j: int
    features: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class MatchedImages:
    """All keyframes with their features and verified matches, and a COLMAP database with the same content."""

    database: Path
    keyframes: Sequence[Keyframe]
    features: Sequence[Features]
    matches: Sequence[Matches]

    @property
    def training(self) -> tuple[Keyframe, ...]:
        """Keyframes that are not held out."""
        return tuple(k for k in self.keyframes if not k.held_out)

    def without(self, pairs: Collection[tuple[int, int]]) -> MatchedImages:
        """Without the matches of pairs of image ids; also removes them from the database."""
        import pycolmap

        database = pycolmap.Database.open(self.database)
        for first, second in pairs:
            database.delete_two_view_geometry(first, second)
        database.close()
        dropped = set(pairs)
        return replace(self, matches=[m for m in self.matches if (m.i + 1, m.j + 1) not in dropped])


def image_name(keyframe: Keyframe) -> str:
    """Its name in the database, without spaces as COLMAP's lists of pairs require."""
    return f"{keyframe.image_id:06d}"


def write_database(path: Path, keyframes: Sequence[Keyframe], features: Sequence[Features]) -> None:
    """Write cameras, rigs, images and features, with ids in the keyframes' order; what no rig holds is one alone."""
    import pycolmap

    database = pycolmap.Database.open(path)
    last = {k.camera_id: k for k in keyframes}
    cameras = {}
    for camera_id in sorted(last):
        trusted = last[camera_id].frame.focal_source != "guessed"
        cameras[camera_id] = colmap_io.to_colmap(last[camera_id].camera, camera_id, trusted=trusted)
        database.write_camera(cameras[camera_id], use_camera_id=True)
    rigs = _by_number({i: k.frame.in_rig.rig if k.frame.in_rig else str(i) for i, k in last.items()})
    for first, members in rigs.items():
        rig = pycolmap.Rig(rig_id=first)
        rig.add_ref_sensor(cameras[first].sensor_id)
        for other in members[1:]:
            rig.add_sensor(cameras[other].sensor_id, colmap_io.to_rigid(_first_from_other(last[first], last[other])))
        database.write_rig(rig, use_rig_id=True)
    rig_of = {camera_id: first for first, members in rigs.items() for camera_id in members}
    for keyframe, own in zip(keyframes, features, strict=True):
        image = pycolmap.Image(
            name=image_name(keyframe), camera_id=keyframe.camera_id, image_id=keyframe.image_id, keypoints=own.pixels
        )
        database.write_image(image, use_image_id=True)
        rows = np.c_[own.pixels, own.sizes, own.angles].astype(np.float32)
        database.write_keypoints(keyframe.image_id, rows)
    by_id = {keyframe.image_id: keyframe for keyframe in keyframes}
    for first, members in shots(keyframes).items():
        frame = pycolmap.Frame(frame_id=first, rig_id=rig_of[by_id[first].camera_id])
        for i in members:
            camera = cameras[by_id[i].camera_id]
            frame.add_data_id(pycolmap.data_t(camera.sensor_id, i))
        database.write_frame(frame, use_frame_id=True)
    database.close()


def shots(keyframes: Sequence[Keyframe]) -> dict[int, list[int]]:
    """Image ids of each moment, by the first of them; COLMAP's frame has that number, too."""
    return _by_number({keyframe.image_id: keyframe.frame.shot for keyframe in keyframes})


def _by_number(names: Mapping[int, str]) -> dict[int, list[int]]:
    """Numbers that have a name in common, by the first of them."""
    groups: dict[str, list[int]] = {}
    for number in sorted(names):
        groups.setdefault(names[number], []).append(number)
    return {members[0]: members for members in groups.values()}


def _first_from_other(first: Keyframe, other: Keyframe) -> Pose:
    """Pose of a rig's camera in the axes of its first one."""
    assert first.frame.in_rig is not None
    assert other.frame.in_rig is not None
    return first.frame.in_rig.rig_from_camera.inverse() @ other.frame.in_rig.rig_from_camera


def match(
    path: Path,
    keyframes: Sequence[Keyframe],
    features: Sequence[Features],
    pairs: Sequence[tuple[int, int]],
    *,
    seed: int,
    threads: int,
) -> None:
    """Match the pairs and verify their matches in the database; pairs of held-out views or of one shot are left out.

    Every pair's RANSAC starts from the same seed, so the result depends neither on threads nor on their order.
    """
    import pycolmap

    colmap_io.silence()
    options = pycolmap.FeatureMatchingOptions(use_gpu=False, num_threads=threads or -1)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    wanted = [
        (i, j)
        for i, j in pairs
        if not (keyframes[i].held_out and keyframes[j].held_out) and keyframes[i].frame.shot != keyframes[j].frame.shot
    ]

    directions = principal_directions([f.descriptors for f in features])

    @lru_cache(maxsize=KEPT)
    def shortened(k: int) -> F32:
        return features[k].descriptors.astype(np.float32) @ directions

    def nearest(pair: tuple[int, int]) -> NDArray[np.uint32]:
        first, second = ((features[k].descriptors, shortened(k)) for k in pair)
        return mutual_nearest(first, second)

    with bar(len(wanted), "matching") as progress, tempfile.TemporaryDirectory() as scratch:
        list_file = Path(scratch) / "pairs.txt"
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            database = pycolmap.Database.open(path)
            for (i, j), found in zip(chunk, map_in_order(nearest, chunk, threads), strict=True):
                database.write_matches(keyframes[i].image_id, keyframes[j].image_id, found)
            database.close()
            lines = [f"{image_name(keyframes[i])} {image_name(keyframes[j])}\n" for i, j in chunk]
            list_file.write_text("".join(lines))
            pairing = pycolmap.ImportedPairingOptions(match_list_path=list_file)
            # Only verifies the pairs, because they have matches.
            pycolmap.match_image_pairs(path, options, pairing, verification, device=pycolmap.Device.cpu)
            progress.update(len(chunk))


def principal_directions(descriptors: Sequence[U8]) -> F32:
    """Orthonormal directions (128, `SHORT`) that hold most of descriptors (N, 128): 98 % of their squared length."""
    some = np.concatenate([own[::8] for own in descriptors]).astype(np.float32)
    return np.ascontiguousarray(np.linalg.eigh(some.T @ some)[1][:, : -SHORT - 1 : -1], np.float32)


def mutual_nearest(first: tuple[U8, F32], second: tuple[U8, F32]) -> NDArray[np.uint32]:
    """Rows (M, 2) of two images' RootSIFT descriptors that are each other's nearest, clearly nearer than the second.

    An image's descriptors are (N, 128), and the same shortened to their components in the principal directions. One
    matrix product of the short ones finds the candidates, in less than half the time of COLMAP's search tree; the
    whole ones decide.
    """
    if min(len(first[0]), len(second[0])) < 2:
        return np.zeros((0, 2), np.uint32)
    rows, there = _clearly_nearest(first, second)
    candidates = np.unique(there)
    found, back = _clearly_nearest((second[0][candidates], second[1][candidates]), first)
    back_from = np.full(len(second[0]), -1, np.intp)
    back_from[candidates[found]] = back
    return np.stack([rows, there], 1)[back_from[there] == rows].astype(np.uint32)


def _clearly_nearest(points: tuple[U8, F32], others: tuple[U8, F32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows (M,) of the points that have a near other descriptor and the second much farther, and its row (M,)."""
    every, product = np.arange(len(points[1])), points[1] @ others[1].T
    nearest = np.argmax(product, axis=1)
    best = product[every, nearest]
    product[every, nearest] = -np.inf
    second = np.argmax(product, axis=1)
    rows = np.flatnonzero(_clear(best, product[every, second], LENGTH**2 * SLACK))
    own = points[0][rows].astype(np.float32)
    candidates = np.stack([nearest[rows], second[rows]])
    exact = np.stack([np.einsum("nk,nk->n", own, others[0][found].astype(np.float32)) for found in candidates])
    swapped = (exact[1] > exact[0]).astype(np.intp)
    found, best, second_best = candidates[swapped, np.arange(len(rows))], exact.max(0), exact.min(0)
    clear = _clear(best, second_best) & (best > LENGTH**2 * np.cos(MAX_ANGLE))
    return rows[clear], found[clear]


def _clear(best: F32, second: F32, slack: float = 0.0) -> Mask:
    """Whether (N,) the nearest descriptor is near enough compared with the second, by the products with them."""
    # Half of a squared distance is the squared length less the product.
    return LENGTH**2 - best < RATIO**2 * (LENGTH**2 - second) + slack


def read_matches(path: Path) -> list[Matches]:
    """Every pair's verified matches, in order of the pair."""
    import pycolmap

    database = pycolmap.Database.open(path)
    ids, geometries = database.read_two_view_geometries()
    database.close()
    result = []
    for pair_id, geometry in zip(ids, geometries, strict=True):
        first, second = pycolmap.pair_id_to_image_pair(pair_id)
        rows = np.asarray(geometry.inlier_matches, np.intp).reshape(-1, 2)
        if not len(rows):
            continue
        if first > second:
            first, second, rows = second, first, rows[:, ::-1]
        result.append(Matches(first - 1, second - 1, rows))
    return sorted(result, key=lambda m: (m.i, m.j))
