"""Images of rigs: their cameras keep their places in the rig and their lenses, in the map and after the adjustment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.align.gravity import tilt_deg, up_from_readings
from pipeline.capture import select
from pipeline.capture import stage as capture_stage
from pipeline.capture.cameras.panoramas import FACES
from pipeline.capture.model import Capture, Frame, InRig
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.geometry import Camera, Pose, fit_similarity, matrix_from_rotvec
from pipeline.poses import stage as poses_stage
from pipeline.poses.bundle_adjustment import ROUNDS, Adjuster
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.mapping import map_images
from pipeline.poses.matching import Features, MatchedImages, match, read_matches, root_sift, write_database
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from tests.capture.writers.panorama import jpeg, panorama, photo_sphere, upright
from tests.synthetic import Room

SHOTS, POINTS, SIDE = 5, 500, 320
CAMERA = Camera(SIDE, SIDE, SIDE / 2, SIDE / 2, SIDE / 2, SIDE / 2)


def rig_from(face: str) -> Pose:
    """A face's place, shifted so that the rig is none of a panorama: 5 cm to the right of its middle."""
    return Pose(FACES[face].rotation, FACES[face].rotation @ np.array([0.05, 0.0, 0.0]))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[MatchedImages, list[Pose]]:
    """Points all around five rigs, and where they are in each image, with noise.

    The first image shows nothing; the third rig lacks that of its first camera.
    """
    rng, folder = np.random.default_rng(4), tmp_path_factory.mktemp("rigs")
    points = rng.normal(size=(POINTS, 3))
    points = points / np.abs(points).max(1, keepdims=True) * [3.0, 2.5, 1.5] * rng.uniform(0.9, 1.1, (POINTS, 1))
    descriptors = root_sift(rng.random((POINTS, 128), np.float32) ** 4)
    rigs = [Pose(matrix_from_rotvec(rng.normal(0, 0.6, 3)), rng.uniform(-0.6, 0.6, 3)) for _ in range(SHOTS)]
    keyframes, features, truth = [], [], []
    for camera_id, face in enumerate(FACES, 1):
        for shot, rig in enumerate(rigs):
            if (shot, face) == (2, "front"):
                continue  # dropped as blurred
            pose = rig @ rig_from(face)
            local = pose.inverse().apply(points)
            pixels = CAMERA.project(np.where(local[:, 2:] > 0.1, local, 1.0)) + rng.normal(0, 0.2, (POINTS, 2))
            inside = (local[:, 2] > 0.1) & (pixels > 0).all(1) & (pixels < SIDE).all(1) & bool(keyframes)
            rows = np.flatnonzero(inside)
            ones, grey = np.ones(len(rows), np.float32), np.zeros((len(rows), 3), np.uint8)
            features.append(Features(pixels[rows].astype(np.float32), ones, 0 * ones, descriptors[rows], grey))
            in_rig = InRig("rig", f"shot {shot}", rig_from(face))
            frame = Frame(f"{shot}-{face}.jpg", "", CAMERA, "exact", sensor=face, in_rig=in_rig)
            keyframes.append(Keyframe(len(keyframes) + 1, frame, shot == SHOTS - 1, CAMERA, camera_id))
            truth.append(pose)
    database = folder / "features.db"
    write_database(database, keyframes, features)
    pairs = [(i, j) for j in range(len(keyframes)) for i in range(j)]
    match(database, keyframes, features, pairs, seed=0, threads=1)
    return MatchedImages(database, keyframes, features, read_matches(database)), truth


def test_no_image_is_matched_with_others_of_its_moment(seen: tuple[MatchedImages, list[Pose]]) -> None:
    """They show nothing from two places; nor are two held-out ones."""
    images, _ = seen
    assert len(images.matches) > 50
    for pair in images.matches:
        first, second = images.keyframes[pair.i], images.keyframes[pair.j]
        assert first.frame.shot != second.frame.shot
        assert not (first.held_out and second.held_out)


def test_the_rig_holds(seen: tuple[MatchedImages, list[Pose]], tmp_path: Path) -> None:
    """All images of the four shots have poses, also the one that shows nothing; the metres are the rig's."""
    images, truth = seen
    mapped = map_images(images, mapper="incremental", seed=0, root=tmp_path)
    found = Adjuster(images, mapped.poses, mapped.cameras, 0).refine(None, ROUNDS[-1:])
    ids = [k.image_id for k in images.training]
    assert sorted(found.poses) == ids
    assert not found.sigma  # COLMAP computes none of rigs
    assert set(found.cameras.values()) == {CAMERA}
    for i in ids:
        in_rig, first = (
            images.keyframes[i - 1].frame.in_rig,
            next(k for k in images.training if k.frame.shot == images.keyframes[i - 1].frame.shot),
        )
        assert in_rig is not None and first.frame.in_rig is not None
        expected = first.frame.in_rig.rig_from_camera.inverse() @ in_rig.rig_from_camera
        relative = found.poses[first.image_id].inverse() @ found.poses[i]
        np.testing.assert_allclose(relative.rotation, expected.rotation, atol=1e-6)
        np.testing.assert_allclose(relative.translation, expected.translation, atol=1e-6)
    centres = [np.array([poses[i].translation for i in ids]) for poses in (found.poses, dict(enumerate(truth, 1)))]
    fit = fit_similarity(*centres)
    off = np.linalg.norm(fit.apply(centres[0]) - centres[1], axis=1)
    assert np.sqrt(np.mean(off**2)) < 0.004
    assert abs(fit.scale - 1) < 0.03  # 5 cm of rig at three metres


@pytest.mark.slow
def test_from_panoramas_to_up(room: Room, tmp_path: Path) -> None:
    """Six panoramas of the room, turned at random and tilted: every face has its pose, and up is the room's."""
    rng, source, rigs = np.random.default_rng(21), tmp_path / "in", []
    source.mkdir()
    for number in range(6):
        heading, pitch, roll = rng.uniform(0, 360), *rng.normal(0, 3, 2)
        angle = number * np.pi / 3
        eye = np.array([2 + 0.9 * np.cos(angle), 1.4 + 0.6 * np.sin(angle), 1.3]) + rng.normal(0, 0.1, 3)
        rigs.append(Pose(upright(heading, pitch, roll), eye))
        stated = photo_sphere(PosePitchDegrees=pitch + rng.normal(0, 0.5), PoseRollDegrees=roll + rng.normal(0, 0.5))
        (source / f"R{number}.JPG").write_bytes(jpeg(panorama(room, rigs[-1], 768), stated))
    inputs = {"source": source} | {name: tmp_path / name for name in ("capture", "select", "poses")}
    capture_stage.run(inputs, CaptureParams(), inputs["capture"])
    select.run(inputs, SelectParams(), inputs["select"])
    poses_stage.run(inputs, PosesParams(backend="colmap", features=800, mask_dynamic=False), inputs["poses"])
    capture, scene = Capture.load(inputs["capture"]), PosedScene.load(inputs["poses"])
    assert len(scene.views) == len(capture.frames) == 6 * len(FACES)
    truth = [rigs[int(view.name[1])].translation for view in scene.views]
    found = np.array([view.world_from_camera.translation for view in scene.views])
    room_from_scene = fit_similarity(found, np.array(truth))
    assert np.linalg.norm(room_from_scene.apply(found) - truth, axis=1).max() < 0.02
    up = up_from_readings(
        [view for view in scene.views if view.name.endswith("front.jpg")],
        capture.gravity_sigma_deg,
        capture.gravity_sources,
    )
    assert up is not None
    assert up.sources == ("panoramas",)
    assert tilt_deg(up.up, room_from_scene.rotation.T @ [0, 0, 1]) < 0.8
