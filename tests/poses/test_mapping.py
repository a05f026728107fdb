"""Sub-models: joined where they share points, otherwise the largest is taken and the others are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture, Selection
from pipeline.geometry import Similarity, angle_deg, matrix_from_rotvec
from pipeline.poses.keyframes import Keyframe, load_keyframes
from pipeline.poses.mapping import join, map_images
from pipeline.poses.matching import Features, MatchedImages, Matches, extract, match, read_matches, write_database
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from pipeline.poses.sparse_map import SparseMap
from pipeline.poses.stage import run
from pipeline.previews import Cameras, Publisher, read_preview
from tests.poses.conftest import ExactMap, Rendered, write_capture
from tests.poses.test_sensor_path import errors
from tests.synthetic import Room

ELSEWHERE = Similarity(0.37, matrix_from_rotvec([0.3, -1.1, 0.6]), np.array([2.0, -5.0, 1.0]))


def part(found: SparseMap, ids: Sequence[int]) -> SparseMap:
    """The map of some of the images, with the points that two of them see."""
    rows = np.isin(found.image, ids)
    seen = np.bincount(found.point[rows], minlength=len(found.xyz)) >= 2
    rows &= seen[found.point]
    new = np.cumsum(seen) - 1
    return replace(
        found,
        poses={i: found.poses[i] for i in ids},
        xyz=found.xyz[seen],
        image=found.image[rows],
        feature=found.feature[rows],
        point=new[found.point[rows]],
    )


def between(matches: Sequence[Matches], first: Sequence[int], second: Sequence[int]) -> list[Matches]:
    """The matches of images of two groups of image ids."""
    return [m for m in matches if {m.i + 1, m.j + 1} & set(first) and {m.i + 1, m.j + 1} & set(second)]


def check_joined(joined: list[tuple[SparseMap, int]], exact: SparseMap, near: float):
    """One map of all images in the frame of the first, to so many metres and ten times so many degrees."""
    assert [made_of for _, made_of in joined] == [2]
    found = joined[0][0]
    assert sorted(found.poses) == sorted(exact.poses)
    for i, pose in exact.poses.items():
        assert np.linalg.norm(found.poses[i].translation - pose.translation) < near
        assert angle_deg(found.poses[i].rotation, pose.rotation) < 10 * near


def test_sub_models_that_share_a_image_are_joined(exact_map: ExactMap):
    """Image 5 is in both; nothing matches across."""
    maps = [part(exact_map.found, [6, 7, 8, 9, 5]).transformed(ELSEWHERE), part(exact_map.found, [1, 2, 3, 4, 5])]
    joined = join(maps[::-1], [], seed=0)
    check_joined(joined, exact_map.found, 1e-6)


def test_sub_models_are_joined_by_matches_a_third_of_them_wrong(exact_map: ExactMap):
    """No image is in both, but features of theirs match."""
    first, second, rng = [1, 2, 3, 4, 5], [6, 7, 8, 9], np.random.default_rng(6)
    across = []
    for m in between(exact_map.matches, first, second):
        features = m.features.copy()
        wrong = rng.random(len(features)) < 0.33
        features[wrong, 1] = rng.permutation(features[wrong, 1])
        across.append(replace(m, features=features))
    maps = [part(exact_map.found, first), part(exact_map.found, second).transformed(ELSEWHERE)]
    check_joined(join(maps, across, seed=0), exact_map.found, 0.01)


def test_sub_models_that_only_look_alike_stay_apart(exact_map: ExactMap):
    """Matches that no similarity explains join nothing; the larger map comes first."""
    first, second, rng = [1, 2, 3, 4], [5, 6, 7, 8, 9], np.random.default_rng(7)
    across = [
        replace(m, features=np.stack([m.features[:, 0], rng.permutation(m.features[:, 1])], 1))
        for m in between(exact_map.matches, first, second)
    ]
    maps = [part(exact_map.found, first), part(exact_map.found, second).transformed(ELSEWHERE)]
    apart = join(maps, across, seed=0)
    assert [(sorted(found.poses), made_of) for found, made_of in apart] == [(second, 1), (first, 1)]


def test_who_looks_on_sees_the_map_grow_and_changes_nothing(rendered: Rendered, tmp_path: Path):
    """What is published last is a part of the map, in colour; without a folder for it nothing is."""
    database, keyframes, features = matched(rendered, 6, tmp_path)
    images = MatchedImages(database, keyframes, features, read_matches(database))
    folder, shown = tmp_path / "preview", []
    for seen in (False, True):
        if seen:
            folder.mkdir()
        shown.append(map_images(images, mapper="incremental", seed=0, root=tmp_path, previews=Publisher(folder)))
        assert folder.exists() == seen
    alone, watched = (one.sparse_map for one in shown)
    np.testing.assert_array_equal(alone.xyz, watched.xyz)
    for image_id, pose in alone.poses.items():
        np.testing.assert_array_equal(pose.matrix, watched.poses[image_id].matrix)
    arrays = read_preview(folder / "map.npz", ("points", "colors", "ids", "poses", "intrinsics"))
    cameras = None if arrays is None else Cameras.from_arrays(arrays)
    assert arrays is not None and cameras is not None
    assert len(cameras.ids) >= 2 and set(cameras.ids) <= set(alone.poses)
    assert len(arrays["points"]) == len(arrays["colors"]) > 50
    assert arrays["colors"].std() > 10


def test_a_thin_thread_of_matches_joins_what_the_mapper_could_not(rendered: Rendered, tmp_path: Path):
    """Two pairs of 30 matches lead from one half of the walk to the other: too few for the mapper."""
    database, keyframes, features = matched(rendered, 18, tmp_path)
    cut_all_but(database, range(1, 10), range(10, 19), keep=2, matches=30)
    images = MatchedImages(database, keyframes, features, read_matches(database))
    result = map_images(images, mapper="incremental", seed=0, root=tmp_path)
    assert result.joined == 2
    assert result.submodels == (tuple(range(1, 19)),)
    poses = [result.poses[i] for i in range(1, 19)]
    scale = errors(poses, rendered.poses)[2]
    scaled = [Similarity(scale, np.eye(3), np.zeros(3)).apply_pose(pose) for pose in poses]
    assert errors(scaled, rendered.poses)[0] < 0.1


def matched(rendered: Rendered, count: int, folder: Path) -> tuple[Path, list[Keyframe], list[Features]]:
    """The database of the first images, each matched with each, their keyframes and their features."""
    inputs = write_capture(folder, rendered.images[:count], rendered.camera)
    capture = Capture.load(inputs["capture"])
    keyframes = load_keyframes(capture, Selection.load(inputs["select"]), 960)
    database = folder / "features.db"
    features = extract(capture.root, keyframes, 2048)
    write_database(database, keyframes, features)
    match(database, keyframes, features, list(combinations(range(count), 2)), seed=0, threads=1)
    return database, keyframes, features


def cut_all_but(database: Path, first: Sequence[int], second: Sequence[int], keep: int, matches: int) -> None:
    """Leave so many pairs between two groups, the best ones, with so many matches each."""
    import pycolmap

    opened = pycolmap.Database.open(database)
    across = [(a, b) for a in first for b in second if opened.exists_two_view_geometry(a, b)]
    across.sort(key=lambda pair: -len(opened.read_two_view_geometry(*pair).inlier_matches))
    for number, pair in enumerate(across):
        geometry = opened.read_two_view_geometry(*pair)
        opened.delete_two_view_geometry(*pair)
        if number < keep:
            geometry.inlier_matches = geometry.inlier_matches[:: max(1, len(geometry.inlier_matches) // matches)]
            opened.write_two_view_geometry(*pair, geometry)
    opened.close()


def test_images_of_another_place_are_lost_by_name_and_reason(
    rendered: Rendered, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Thirteen images of one room, five of another, and a white one."""
    other = Room.make(seed=9)
    images = rendered.images[:13] + [other.render(rendered.camera, pose)[0] for pose in rendered.poses[13:]]
    white = np.full_like(images[0], 250)
    cv2.circle(white, (160, 120), 9, (20, 30, 40), -1)
    inputs = write_capture(tmp_path, [*images, white], rendered.camera)
    with caplog.at_level("INFO"):
        run(inputs, PosesParams(backend="colmap", mask_dynamic=False), tmp_path)
    report = PosedScene.load(tmp_path).report
    elsewhere = [f"{i:04d}.png" for i in range(13, 18)]
    assert report["submodels"] == [13, 5]
    assert report["left_out"] == [elsewhere]
    assert list(report["unregistered"]) == [*elsewhere, "0018.png"]
    reasons = report["unregistered"]
    assert all("5 images that fit together" in reasons[name] for name in elsewhere)
    assert "matches" in reasons["0018.png"]
    assert "2 sub-models don't fit together; those of 5 images were left out" in caplog.text
