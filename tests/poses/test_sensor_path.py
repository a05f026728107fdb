"""Sensor poses that drift, see nothing, or see the wrong wall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from pipeline.capture.model import Capture
from pipeline.geometry import Pose, angle_deg, fit_similarity, matrix_from_rotvec
from pipeline.poses.params import PosesParams
from pipeline.poses.pose_graph import Edge, optimise
from pipeline.poses.scene import PosedScene
from pipeline.poses.stage import run
from tests.poses.conftest import write_capture
from tests.synthetic import CAMERA, Room, look_at

LOOP, VIEWS = 36, 42
"""Views of one round, and of the whole walk: the last six see the start again."""


def round_walk() -> list[Pose]:
    """A round along the walls, looking outwards and a little down."""
    poses = []
    for i in range(VIEWS):
        angle = 2 * np.pi * i / LOOP
        eye = np.array([2.0 + 1.0 * np.cos(angle), 1.5 + 0.6 * np.sin(angle), 1.3 + 0.05 * np.sin(3 * angle)])
        out = eye + np.array([np.cos(angle + 0.6), np.sin(angle + 0.6), -0.3])
        poses.append(look_at(eye, out, roll_deg=2 * np.sin(2 * angle)))
    return poses


def drifted(poses: Sequence[Pose], turn_deg: float, share: float) -> list[Pose]:
    """The poses as a sensor gives them that turns by so much over the walk and slips by a share of every step."""
    result = [poses[0]]
    for i in range(1, len(poses)):
        turn = matrix_from_rotvec([0, 0, np.deg2rad(turn_deg) * i / len(poses)])
        step = turn @ (poses[i].translation - poses[i - 1].translation)
        slip = share * np.linalg.norm(step) * np.array([0.6, 0.8, 0.0])
        result.append(Pose(turn @ poses[i].rotation, result[-1].translation + step + slip))
    return result


def errors(poses: Sequence[Pose], truth: Sequence[Pose]) -> tuple[float, float, float]:
    """Root-mean-square position error after the best rigid motion [m], largest turn after it [deg], best scale."""
    a, b = (np.array([p.translation for p in side]) for side in (poses, truth))
    fit = fit_similarity(a, b, with_scale=False)
    turned = np.array([fit.rotation @ p.rotation for p in poses])
    turn = angle_deg(turned, np.array([p.rotation for p in truth]))
    return float(np.sqrt(((fit.apply(a) - b) ** 2).sum(1).mean())), float(turn.max()), fit_similarity(a, b).scale


@pytest.fixture(scope="module")
def images(room: Room) -> list[np.ndarray]:
    """The walk through the furnished room."""
    return [room.render(CAMERA, pose, samples=1)[0] for pose in round_walk()]


def refined(folder: Path, images: Sequence[np.ndarray], given: Sequence[Pose]) -> PosedScene:
    """The walk with such images and such poses, of a sensor that knows up to 0.3 degrees."""
    inputs = write_capture(folder, images, CAMERA, poses=given, held_out=(5, 20))
    replace(Capture.load(inputs["capture"]), up_in_world=np.array([0, 0, 1.0]), up_sigma_deg=0.3).save()
    run(inputs, PosesParams(backend="refined", mask_dynamic=False), folder)
    return PosedScene.load(folder)


def test_a_drifting_sensor_is_bent_until_its_loop_closes(images: list[np.ndarray], tmp_path: Path):
    """Two degrees and 1.5 % of drift get five times less; scale and gravity stay, and the report says what was done."""
    truth = round_walk()
    given = drifted(truth, 2.0, 0.015)
    scene = refined(tmp_path, images, given)
    found = [view.world_from_camera for view in scene.views]
    before, after = errors(given, truth), errors(found, truth)
    assert len(found) == VIEWS
    assert before[0] > 0.03
    assert after[0] < before[0] / 5
    assert scene.scale_sigma is not None
    assert abs(after[2] - 1) < scene.scale_sigma < 0.03
    tilt = [
        angle_deg(np.eye(3), matrix_from_rotvec(np.cross(f.rotation[2], t.rotation[2])))
        for f, t in zip(found, truth, strict=True)
    ]
    assert np.median(tilt) < 0.5
    # What the sensor says between the visits is what was put in: 2 degrees and 1.5 % of 5 m.
    loops, moved = scene.report["loops"], scene.report["moved"]
    assert loops["path_corrected"]
    assert loops["pairs"] >= 10
    assert loops["drift_median_deg"] == pytest.approx(2.0 * LOOP / VIEWS, abs=0.3)
    assert 0.06 < loops["drift_median_m"] < 0.13
    assert 0.01 < moved["position_median_m"] < moved["position_max_m"] < 0.12
    assert any(f"{loops['pairs']} loop closures" in note for note in scene.report["notes"])
    assert 0.2 < moved["rotation_median_deg"] < moved["rotation_max_deg"] < 2.0


def test_a_true_sensor_is_left_alone(images: list[np.ndarray], tmp_path: Path):
    """Loops that close already bend nothing, and the report says that nothing moved."""
    truth = round_walk()
    scene = refined(tmp_path, images, truth)
    assert not scene.report["loops"]["path_corrected"]
    assert scene.report["loops"]["pairs"] >= 10
    assert scene.report["loops"]["drift_median_m"] < 0.02
    assert scene.report["moved"]["position_median_m"] < 0.01


def test_blank_walls_keep_the_sensors_poses(images: list[np.ndarray], tmp_path: Path):
    """Eight views in a row show nothing, one of them held out: they move along with their neighbours."""
    truth, rng = round_walk(), np.random.default_rng(3)
    blank = list(range(16, 24))
    seen = list(images)
    for i in blank:
        seen[i] = np.clip(rng.normal([182, 180, 176], 1.5, images[i].shape), 0, 255).astype(np.uint8)
    given = drifted(truth, 2.0, 0.015)
    scene = refined(tmp_path, seen, given)
    found = [view.world_from_camera for view in scene.views]
    assert scene.report["unregistered"] == {}
    assert scene.report["kept_sensor_poses"] == [f"{i:04d}.png" for i in blank]
    assert [view.sigma_position for view in scene.views if int(view.name[:4]) in blank] == [0.03] * len(blank)
    assert errors(found, truth)[0] < errors(given, truth)[0] / 4


def test_two_walls_that_look_alike_are_told_apart_by_the_sensor(room: Room, tmp_path: Path):
    """In a room that half a turn leaves as it is, views of opposite walls match; the sensor knows better."""
    truth = round_walk()
    twin = half_turn_symmetric(room)
    given = drifted(truth, 2.0, 0.015)
    scene = refined(tmp_path, [twin.render(CAMERA, pose, samples=1)[0] for pose in truth], given)
    found = [view.world_from_camera for view in scene.views]
    assert scene.report["loops"]["contradicting_pairs"] >= 10
    assert scene.report["matches_explained"] > 0.8
    assert len(found) == VIEWS
    assert errors(found, truth)[0] < errors(given, truth)[0] / 5
    assert errors(found, truth)[1] < 3


def half_turn_symmetric(room: Room) -> Room:
    """An empty room whose texture at (x, y, z) is that at (4 - x, 3 - y, z)."""
    seeds = np.asarray(room._cells.data)
    half = seeds[:, 0] < 2
    both = np.concatenate([seeds[half], [4, 3, 0] + seeds[half] * [-1, -1, 1]])
    walls = room.surface_of_triangle < 6
    colors = np.tile(room._cell_colors[half], (2, 1))
    return Room(room.mesh.with_faces(walls), room.surface_of_triangle[walls], KDTree(both), colors)


def test_a_wrong_loop_does_not_bend_the_track():
    """A square of steps with drift, three right closings and a wrong one: the right ones win, the tilt is kept."""
    up = np.array([0.1, -0.2, 1.0]) / np.linalg.norm([0.1, -0.2, 1.0])
    truth = {i + 1: pose for i, pose in enumerate(round_walk()[:LOOP])}
    given = {i + 1: pose for i, pose in enumerate(drifted(list(truth.values()), 4.0, 0.03))}

    def edge(poses: dict[int, Pose], a: int, b: int, sigma: float) -> Edge:
        return Edge(a, b, poses[a].inverse() @ poses[b], sigma, sigma)

    steps = [edge(given, i, i + 1, 0.03) for i in range(1, LOOP)]
    closings = [edge(truth, a, b, 0.01) for a, b in ((1, 36), (2, 35), (3, 36))]
    away = Pose(matrix_from_rotvec([0.0, 0.3, 0.9]), np.array([0.5, -1.0, 0.2]))
    wrong = Edge(4, 20, truth[4].inverse() @ truth[20] @ away, 0.01, 0.01)
    bent = optimise(given, [*steps, *closings, wrong], up, np.deg2rad(0.1))
    before, after = (errors([poses[i] for i in truth], list(truth.values())) for poses in (given, bent))
    assert after[0] < before[0] / 4
    for i, pose in bent.items():
        assert pose.inverse().rotate(up) @ given[i].inverse().rotate(up) > np.cos(np.deg2rad(0.5))
