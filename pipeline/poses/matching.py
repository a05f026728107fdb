"""The COLMAP database of one run: cameras, features and verified matches, in an order that repeats."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.poses import bridge
from pipeline.poses.features import Features
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.pairs import Pairs
from pipeline.progress import bar

CHUNK = 256
"""Pairs matched in one call: long enough to share work, short enough for a bar that moves."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Verified matches of one pair of keyframes, i < j by index (image id - 1).

    Attributes:
        i: Index of the first keyframe.
        j: Index of the second.
        features: (M, 2) int, indices of features in i and j.
    """

    i: int
    j: int
    features: NDArray[np.intp]


def image_name(keyframe: Keyframe) -> str:
    """Its name in the database; file names may hold blanks, which COLMAP's lists of pairs can't."""
    return f"{keyframe.image_id:06d}"


def write_database(path: Path, keyframes: Sequence[Keyframe], features: Sequence[Features]) -> None:
    """Write cameras, images and features, with ids in the keyframes' order."""
    import pycolmap

    database = pycolmap.Database.open(path)
    trusted = {k.camera_id: k.frame.focal_source != "guessed" for k in keyframes}
    cameras = {k.camera_id: k.camera for k in keyframes}
    for camera_id in sorted(cameras):
        camera = bridge.to_colmap(cameras[camera_id], camera_id, trusted=trusted[camera_id])
        database.write_camera(camera, use_camera_id=True)
        rig = pycolmap.Rig(rig_id=camera_id)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
    for keyframe, found in zip(keyframes, features, strict=True):
        image = pycolmap.Image(
            name=image_name(keyframe), camera_id=keyframe.camera_id, image_id=keyframe.image_id, keypoints=found.pixels
        )
        database.write_image(image, use_image_id=True)
        frame = pycolmap.Frame(frame_id=keyframe.image_id, rig_id=keyframe.camera_id)
        frame.add_data_id(image.data_id)
        database.write_frame(frame, use_frame_id=True)
        rows = np.c_[found.pixels, found.sizes, found.angles].astype(np.float32)
        database.write_keypoints(keyframe.image_id, rows)
        descriptors = pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, found.descriptors)
        database.write_descriptors(keyframe.image_id, descriptors)
    database.close()


def match(path: Path, keyframes: Sequence[Keyframe], pairs: Pairs, *, seed: int, threads: int) -> None:
    """Match and verify the pairs in the database; pairs of two held-out views are left out.

    Every pair's RANSAC starts from the same seed, so the result depends neither on threads nor on their order.
    """
    import pycolmap

    bridge.silence()
    matching = pycolmap.FeatureMatchingOptions(use_gpu=False, num_threads=threads or -1)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    wanted = [(i, j) for i, j in pairs if not (keyframes[i].held_out and keyframes[j].held_out)]
    with bar(len(wanted), "matching") as shown, tempfile.TemporaryDirectory() as scratch:
        list_file = Path(scratch) / "pairs.txt"
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            lines = [f"{image_name(keyframes[i])} {image_name(keyframes[j])}\n" for i, j in chunk]
            list_file.write_text("".join(lines))
            pairing = pycolmap.ImportedPairingOptions(match_list_path=list_file)
            pycolmap.match_image_pairs(path, matching, pairing, verification, device=pycolmap.Device.cpu)
            shown.update(len(chunk))


def read_matches(path: Path) -> list[Matches]:
    """Every pair's verified matches, in order of the pair."""
    import pycolmap

    database = pycolmap.Database.open(path)
    ids, geometries = database.read_two_view_geometries()
    database.close()
    result = []
    for pair_id, geometry in zip(ids, geometries, strict=True):
        first, second = pycolmap.pair_id_to_image_pair(pair_id)
        found = np.asarray(geometry.inlier_matches, np.intp).reshape(-1, 2)
        if not len(found):
            continue
        if first > second:
            first, second, found = second, first, found[:, ::-1]
        result.append(Matches(first - 1, second - 1, found))
    return sorted(result, key=lambda m: (m.i, m.j))


def forget(path: Path, pairs: Sequence[tuple[int, int]]) -> None:
    """Take the verified matches of pairs of image ids out of the database."""
    import pycolmap

    database = pycolmap.Database.open(path)
    for first, second in pairs:
        database.delete_two_view_geometry(first, second)
    database.close()
