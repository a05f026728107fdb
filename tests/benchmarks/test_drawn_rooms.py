"""Places drawn by a seed can be walked through."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.drawn_rooms import CLEARANCE, draw
from benchmarks.places import METRICS, RMS, summary, with_history
from benchmarks.room_capture import walk, write_sensors
from benchmarks.room_renderer import RenderedRoom, surfaces
from pipeline.geometry.rays import RayCaster
from scene_cards.samples.hall_sensor import GL_FROM_CV


@pytest.mark.parametrize("seed", range(71, 83))
def test_the_walk_is_on_the_floor_and_clear_of_everything(seed: int):
    """Nothing is near the walker's hips; the floor is where the walk says; there are enough photos; it comes again."""
    room = draw(seed)
    caster, walk = RayCaster(surfaces(room)), np.array(room.walk)
    hips = walk + np.array([0, 0, 0.9])
    down = caster.cast(hips, np.tile([0, 0, -1.0], (len(hips), 1)))
    off = np.abs(down.distance - 0.9)
    assert np.median(off) < 1e-4
    assert off.max() < (0.2 if len(room.levels) > 1 else 1e-4), "a cell at the edge of a step is a step off"
    assert caster.distances(hips).min() > CLEARANCE - 0.1
    steps = np.linalg.norm(np.diff(walk, axis=0), axis=1)
    assert steps.max() < 0.8
    assert 50 <= room.photos <= 160
    np.testing.assert_array_equal(draw(seed).walk, room.walk)


def test_what_is_drawn_differs():
    """White walls and papered ones, one floor and two, mirrors, one room and more."""
    rooms = [draw(seed) for seed in range(71, 101)]
    assert {len(room.levels) for room in rooms} == {1, 2}
    assert {any(face.kind == "mirror" for face in room.faces) for room in rooms} == {True, False}
    assert len({round(room.high[0] / 4) for room in rooms}) >= 3


def test_the_phone_feels_gravity_and_not_the_walls(tmp_path: Path):
    """A room that leans by 3 and -2 degrees: readings and the phone's own world say so."""
    room, rng = replace(draw(71), lean=(3.0, -2.0), photos=4), np.random.default_rng(0)
    poses, level = walk(room, rng), room.level_from_room
    up = level.rotation[2]
    assert np.rad2deg(np.arccos(up[2])) == pytest.approx(np.hypot(3, 2), abs=0.01)
    stamps = [str(number) for number in range(len(poses))]
    write_sensors(RenderedRoom(room), tmp_path, stamps, poses, rng, level=level)
    for stamp, pose in zip(stamps, poses, strict=True):
        said = json.loads((tmp_path / "keyframes" / "cameras" / f"{stamp}.json").read_text())
        down = pose.rotation @ (GL_FROM_CV[:3, :3].T @ said["gravity"])
        assert np.rad2deg(np.arccos(-(down @ up))) < 1.5
        phone_from_camera = np.array([[said[f"t_{i}{j}"] for j in range(3)] for i in range(3)]) @ GL_FROM_CV[:3, :3]
        assert np.rad2deg(np.arccos((pose.rotation @ phone_from_camera.T)[:, 1] @ up)) < 2


def test_mean_and_worst_and_history():
    """The worst is the largest error or the least agreement; a day's line of the history replaces the same day's."""
    assert summary("ate", [1.0, 3.0, np.nan]) == (2.0, 3.0)
    assert summary("f2", [0.9, 0.8]) == (pytest.approx(0.85), 0.8)
    assert summary("scale_sigma", [3.0, 4.0])[0] == pytest.approx(np.sqrt(12.5))
    assert set(RMS) <= METRICS.keys()
    page = "## x\n| 2026-01-01 | a |\n| 2026-01-02 | b |\n"
    assert with_history("t\n| 2026-01-02 | c |\n", page) == "t\n| 2026-01-01 | a |\n| 2026-01-02 | c |\n"
