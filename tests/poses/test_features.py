"""SIFT features and image similarity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.capture.model import Capture, Selection
from pipeline.poses.keyframes import load_keyframes
from pipeline.poses.matching import extract, mutual_nearest, principal_directions, root_sift
from pipeline.poses.pairs import similarity
from tests.poses.conftest import Rendered, write_capture
from tests.synthetic import Room


def test_root_sift_is_the_square_root_of_shares():
    """Unit L1 norm, square root, scaled by 512."""
    raw = np.array([[1.0, 3.0, 0.0, 0.0] + [0.0] * 124, [0.0] * 128], np.float32)
    assert root_sift(raw)[0, :3].tolist() == [255, 255, 0]  # 256 and 443 saturate
    assert root_sift(np.ones((1, 128), np.float32))[0].tolist() == [45] * 128
    assert not root_sift(raw)[1].any()


def test_pixels_lie_where_the_image_is_shifted(rendered: Rendered, tmp_path: Path):
    """An image moved by whole pixels moves its features by exactly that; half-pixel convention included."""
    image = rendered.images[0]
    moved = np.roll(image, (4, 8), (0, 1))
    mirrored = image[:, ::-1]
    inputs = write_capture(tmp_path, [image, moved, mirrored], rendered.camera)
    keyframes = load_keyframes(Capture.load(inputs["capture"]), Selection.load(inputs["select"]), 960)
    a, b, c = (f.pixels for f in extract(inputs["capture"], keyframes, 500))
    nearest = np.abs(a[:, None] + [8, 4] - b[None]).max(-1).min(1)
    assert np.median(nearest) < 0.02
    # x of a feature becomes width - x in the mirror image only if pixel centres are at +0.5
    reflected = np.abs(a[:, None] * [-1, 1] + [320, 0] - c[None]).max(-1).min(1)
    assert np.median(reflected) < 0.2


def test_a_dim_wall_has_features(rendered: Rendered, tmp_path: Path):
    """Texture of a few grey levels under noise: found where it is in two images, whose noise is another's."""
    rng, image = np.random.default_rng(4), rendered.images[0].astype(np.float64)
    dim = [80 + 0.06 * (np.roll(image, shift, (0, 1)) - image.mean()) for shift in ((0, 0), (4, 8), (0, 0))]
    noisy = [np.clip(np.rint(rng.normal(one, 1.0)), 0, 255).astype(np.uint8) for one in dim]
    inputs = write_capture(tmp_path, noisy, rendered.camera)
    keyframes = load_keyframes(Capture.load(inputs["capture"]), Selection.load(inputs["select"]), 960)
    a, b, _ = extract(inputs["capture"], keyframes, 2000)
    rows = np.array(matched(a.descriptors, b.descriptors))
    shift = b.pixels[rows[:, 1]] - a.pixels[rows[:, 0]]
    right = np.abs(shift - [8, 4]).max(1) < 1
    assert right.sum() > 50 and right.mean() > 0.8


def test_matches_are_mutual_and_clearly_the_nearest():
    """As found one by one: the nearest in both directions, nearer than 0.8 of the distance to the second nearest."""
    rng = np.random.default_rng(0)
    shared = rng.gamma(0.5, 1.0, (40, 128))
    first, second = (
        root_sift(
            np.r_[shared, rng.gamma(0.5, 1.0, (n, 128))].astype(np.float32) * rng.uniform(0.6, 1.7, (n + 40, 128))
        )
        for n in (25, 60)
    )
    second[60] = second[7]  # a repeated texture: neither is clearly the nearest
    product = first.astype(int) @ second.astype(int).T
    distance = np.sqrt(512**2 - np.minimum(product, 512**2))

    def clear(i: int, j: int) -> bool:
        along, across = (np.sort(side) for side in (distance[i], distance[:, j]))
        return distance[i, j] < 0.8 * along[1] and distance[i, j] < 0.8 * across[1]

    expected = [[i, j] for i, j in np.ndindex(distance.shape) if clear(i, j) and product[i, j] > 512**2 * np.cos(0.7)]
    assert matched(first, second) == expected
    assert len(expected) > 20
    assert [7, 7] not in expected
    assert [pair[::-1] for pair in matched(second, first)] == sorted(expected, key=lambda pair: pair[1])
    for few in (first[:0], first[:1]):
        assert matched(few, second) == matched(second, few) == []


def test_shortened_descriptors_find_the_same_matches(rendered: Rendered, tmp_path: Path):
    """Half the length misses no match between two views of a room, and adds almost none."""
    inputs = write_capture(tmp_path, rendered.images[:3], rendered.camera)
    keyframes = load_keyframes(Capture.load(inputs["capture"]), Selection.load(inputs["select"]), 960)
    first, second, _ = (f.descriptors for f in extract(inputs["capture"], keyframes, 2048))
    directions = principal_directions([first, second])
    assert np.allclose(directions.T @ directions, np.eye(64), atol=1e-5)
    whole, short = matched(first, second), matched(first, second, directions)
    assert len(whole) > 100
    assert all(pair in short for pair in whole)
    assert len(short) <= 1.02 * len(whole)


def matched(first: np.ndarray, second: np.ndarray, directions: np.ndarray | None = None) -> list[list[int]]:
    """Pairs of rows, by descriptors shortened to their components in these directions."""
    basis = np.eye(128, dtype=np.float32) if directions is None else directions
    one, two = ((side, side.astype(np.float32) @ basis) for side in (first, second))
    return mutual_nearest(one, two).tolist()


def test_images_of_one_place_look_alike(rendered: Rendered, tmp_path: Path):
    """A neighbouring view is more similar than the same view of another room."""
    other = Room.make(seed=9)
    images = [*rendered.images[:3], *(other.render(rendered.camera, p)[0] for p in rendered.poses[:3])]
    inputs = write_capture(tmp_path, images, rendered.camera)
    keyframes = load_keyframes(Capture.load(inputs["capture"]), Selection.load(inputs["select"]), 960)
    likeness = similarity(extract(inputs["capture"], keyframes, 1000), np.random.default_rng(0))
    assert np.allclose(np.diag(likeness), 1)
    assert likeness[0, 1] > likeness[0, 3:].max()
    assert likeness[4, 5] > likeness[4, :3].max()


def test_keyframes_share_a_camera_only_where_it_is_the_same(rendered: Rendered, tmp_path: Path):
    """One camera for one lens, whose focal lengths differ by autofocus; another for another lens or sensor."""
    inputs = write_capture(tmp_path, rendered.images[:5], rendered.camera)
    capture = Capture.load(inputs["capture"])
    factors = [1.0, 1.004, 0.997, 1.5, 1.5]
    frames = tuple(
        replace(f, camera=replace(f.camera, fx=f.camera.fx * k, fy=f.camera.fy * k))
        for f, k in zip(capture.frames, factors, strict=True)
    )
    keyframes = load_keyframes(replace(capture, frames=frames), Selection.load(inputs["select"]), 160)
    assert [k.camera_id for k in keyframes] == [1, 1, 1, 2, 2]
    assert keyframes[0].camera.width == 160
    assert keyframes[0].camera.fx == rendered.camera.fx / 2
    rig = tuple(replace(f, sensor="left" if i < 2 else "right") for i, f in enumerate(frames))
    keyframes = load_keyframes(replace(capture, frames=rig), Selection.load(inputs["select"]), 160)
    assert [k.camera_id for k in keyframes] == [1, 1, 2, 3, 3]
