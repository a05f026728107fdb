"""Goals on other levels: where they lie and where robots begin; when they are reached."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import SimError
from sim.climbing.levels import Levels
from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.scene.scene import SimScene
from sim.tasks.driving.levels import ROOM, LevelScenario
from tests.sim.climbing.test_levels import house

YELLOW = (1.0, 1.0, 0.0)


def scenario(scene: SimScene, robot: Robot, count: int) -> LevelScenario:
    """Of robots in one scene."""
    return LevelScenario(Floors([scene], robot), count, 0.1, min_length=0.8, ball_color=YELLOW)


def test_starts_and_goals_are_on_different_levels(room_scene: SimScene, rover: Robot):
    """Each level is where robots begin and where they go, up and down; the height says which."""
    scene = replace(room_scene, regions=house())
    levels = Levels(scene.regions)
    episodes = scenario(scene, rover, 200)
    poses = episodes.reset(np.arange(200), np.zeros(200, int), np.zeros(200, int), np.random.default_rng(3))
    goals = episodes._paths.goal
    ends = [
        (int(levels.label[tuple(levels.cell(start))]), int(levels.label[tuple(levels.cell(goal))]))
        for start, goal in zip(poses.position, goals, strict=True)
    ]
    known = {level for passage in levels.passages for level in passage.levels}
    assert set(ends) == {(a, b) for a in known for b in known if a != b}
    climb = goals[:, 2] - poses.position[:, 2] + rover.base_height
    assert list(episodes.kinds()) == ["up" if height > 0 else "down" for height in climb]
    np.testing.assert_allclose(episodes.state().above, -climb, atol=1e-5)
    off = np.argwhere(levels.label == 0)
    away = [np.linalg.norm(levels.place(off) - start[:2], axis=1).min() for start in poses.position]
    assert min(away) > ROOM


def test_no_other_level(room_scene: SimScene, rover: Robot):
    """A place without stairs is refused, by its name."""
    with pytest.raises(SimError, match=r"no way in room@1\.0\.0; ways there are: none"):
        scenario(room_scene, rover, 1)
