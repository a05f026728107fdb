"""A small map of a few photos in some seconds, to look at while the poses stage reads all of them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from pipeline.capture.model import Capture, Selection
from pipeline.errors import ReconstructionError
from pipeline.geometry import PointCloud
from pipeline.poses import matching
from pipeline.poses.keyframes import load_keyframes
from pipeline.poses.mapping import map_images
from pipeline.poses.matching import MatchedImages
from pipeline.poses.pairs import image_pairs
from pipeline.preview.coarse import sparse_cloud
from pipeline.previews import Cameras

PHOTOS, NEIGHBOURS = 12, 4
"""Number of keyframes that are mapped, and the largest step between them in the capture: neighbours must overlap."""
IMAGE_SIZE, FEATURES = 640, 1024
"""Longer side of their images [px], and features of each."""


def quick_map(capture: Capture, selection: Selection) -> tuple[Cameras, PointCloud] | None:
    """Cameras and sparse cloud of a few neighbouring keyframes, in their own frame; None where they don't match."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            keyframes = [k for k in load_keyframes(capture, selection, IMAGE_SIZE) if not k.held_out]
            step = min(NEIGHBOURS, max(1, len(keyframes) // PHOTOS))
            chosen = keyframes[: step * PHOTOS : step]
            numbered = [replace(k, image_id=n) for n, k in enumerate(chosen, 1)]
            features = matching.extract(capture.root, numbered, FEATURES)
            database = Path(scratch) / "features.db"
            matching.write_database(database, numbered, features)
            pairs = image_pairs(len(numbered), None)
            matching.match(database, numbered, features, pairs, seed=0, threads=1)
            images = MatchedImages(database, numbered, features, matching.read_matches(database))
            found = map_images(images, mapper="incremental", seed=0, root=capture.root)
        except ReconstructionError:
            return None
    rows = [(chosen[i - 1].image_id, found.cameras[numbered[i - 1].camera_id], pose) for i, pose in found.poses.items()]
    return Cameras.of(rows), sparse_cloud(found.sparse_map.xyz, found.sparse_map.colors(images))
