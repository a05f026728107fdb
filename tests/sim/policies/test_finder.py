"""The driver that finds balls, with eyes that know."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from pipeline.io.weights import write_weights
from sim.finding.eyes import Eyes, EyesCard
from sim.finding.maps import IS_TAKEN
from sim.policies.catalog import open_driver, task_of
from sim.policies.finder import finder_with
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks.catalog import find_task
from sim.tasks.driving import finding
from train.eyes import EyesNetwork

WIDTHS = (4, 2, 2, 2, 2, 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Eyes that see nothing, for the camera of find."""
    sizes = list(pairwise(WIDTHS))
    arrays = {f"weight{layer}": np.zeros((3, 3, *pair), np.float32) for layer, pair in enumerate(sizes)}
    arrays |= {f"bias{layer}": np.zeros(pair[1], np.float32) for layer, pair in enumerate(sizes)}
    card = EyesCard(width=96, height=48, focal=27.7, sha256="", seed=0, images=0, scenes=(), metrics={})
    write_weights(tmp_path / "own.npz", card, arrays)
    return tmp_path / "own.npz"


def by_colour(_: Eyes, rgb: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sure where a part of the image has much that is magenta."""
    count, height, width = depth.shape
    red, green, blue = rgb.astype(int).transpose(3, 0, 1, 2)
    magenta = (np.minimum(red, blue) > 2 * green + 40).reshape(count, height // 4, 4, width // 4, 4)
    return np.where(magenta.sum((2, 4)) > 3, 4, -4).astype(np.float32), depth


def to_nothing(_: Eyes, rgb: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sure that no part is the ball."""
    return np.full((len(rgb), 12, 24), -4, np.float32), depth


def arrived(room_scene: SimScene, file: Path, steps: int) -> float:
    """Share of the robots whose first episode ends at the ball."""
    env = sim.make("find", [room_scene], 6, seed=4)
    seen, _ = env.reset(seed=4)
    there, over = np.zeros(6, bool), np.zeros(6, bool)
    with open_driver(str(file), env, 0) as policy:
        for _ in range(steps):
            seen, _, terminated, truncated, info = env.step(policy(seen))
            there |= ~over & np.asarray(info.get("ended_by_goal", np.zeros(6, bool)), bool)
            over |= terminated | truncated
            if over.all():
                break
    env.close()
    return float(there.mean())


def test_it_arrives_by_eyes_that_know(room_scene: SimScene, file: Path, monkeypatch: pytest.MonkeyPatch):
    """Balls of a colour that nothing else has; without it hardly by chance."""
    monkeypatch.setattr(finding, "HUE", (0.83, 0.84))
    monkeypatch.setattr(finding, "SATURATION", (0.95, 1.0))
    monkeypatch.setattr(finding, "VALUE", (0.95, 1.0))
    monkeypatch.setattr(Eyes, "look", to_nothing)
    blind = arrived(room_scene, file, 60)
    monkeypatch.setattr(Eyes, "look", by_colour)
    knowing = arrived(room_scene, file, 150)
    assert knowing >= 0.5
    assert knowing > blind + 0.3


@pytest.mark.parametrize(
    ("task", "robot", "found"),
    [("navigate", "rover", "no camera with rgb and depth on rover in navigate"), ("lift", "panda", "on panda in lift")],
)
def test_who_does_not_see_depths_is_refused(room_scene: SimScene, file: Path, task: str, robot: str, found: str):
    """A task without, and an arm."""
    env = sim.make(task, [room_scene], 1, robot=robot, seed=1)
    with pytest.raises(SimError, match=found) as error, open_driver(str(file), env, 0):
        pass
    assert "--task find" in error.value.remedy
    env.close()


def test_eyes_of_colours_alone_need_no_depth(room_scene: SimScene, tmp_path: Path):
    """Those that correct nothing see floor all round, and robots drive on it."""
    arrays = {name: np.zeros_like(array) for name, array in EyesNetwork("rgb").arrays().items()}
    card = EyesCard(modality="rgb", width=96, height=48, focal=27.7, sha256="", seed=0, images=0, scenes=(), metrics={})
    write_weights(tmp_path / "own.npz", card, arrays)
    camera = RobotCamera(find_task("find").camera, outputs=("rgb",))
    env = sim.make("find", [room_scene], 2, seed=4, cameras=[camera])
    seen, _ = env.reset(seed=4)
    driver = finder_with(tmp_path / "own.npz", env)
    for _ in range(23):
        seen, *_ = env.step(driver(seen))
    maps = driver.finder.maps
    assert (maps.floor > 0).sum((1, 2)).min() > 1000
    assert (maps.taken <= IS_TAKEN).all()
    assert (np.linalg.norm(driver.finder.pose[:, :2], axis=1) > 0.15).any()
    env.close()


def test_another_rate_is_refused(room_scene: SimScene, file: Path):
    """Its numbers are of five images a second."""
    env = sim.make("find", [room_scene], 1, seed=1)
    env.task = replace(env.task, control_period=0.1)
    with pytest.raises(SimError, match=r"every 0\.2 s") as error:
        finder_with(file, env)
    assert error.value.found == "find, every 0.1 s"
    env.close()


def test_missing_eyes_are_refused(room_scene: SimScene, tmp_path: Path):
    """With their name, and how some are trained."""
    env = sim.make("find", [room_scene], 1, seed=1)
    with pytest.raises(SimError, match="No such file") as error, open_driver(str(tmp_path / "no.npz"), env, 0):
        pass
    assert error.value.file == str(tmp_path / "no.npz")
    assert "train find" in error.value.remedy
    env.close()


def test_eyes_for_another_camera_are_refused(room_scene: SimScene, file: Path):
    """Before anything moves."""
    eyes = Eyes(file)
    with np.load(file) as arrays:
        write_weights(file, eyes.card.model_copy(update={"width": 64}), dict(arrays))
    env = sim.make("find", [room_scene], 1, seed=1)
    with pytest.raises(SimError, match="96 x 48"):
        finder_with(file, env)
    env.close()


def test_an_episode_that_begins_is_begun_anew(room_scene: SimScene, file: Path):
    """Of the robot whose it is; the others' maps go on."""
    env = sim.make("find", [room_scene], 2, seed=4)
    seen, _ = env.reset(seed=4)
    driver = finder_with(file, env)
    for _ in range(4):
        seen, *_ = env.step(driver(seen))
    assert (np.abs(driver.finder.pose[:, 2]) > 0.2).all()
    action = driver(seen)
    action[1] = np.nan  # ends its episode
    before = driver.finder.pose[0].copy()
    seen, _, terminated, truncated, _ = env.step(action)
    assert (terminated | truncated).tolist() == [False, True]
    driver(seen)
    np.testing.assert_array_equal(driver.finder.pose[1], 0)
    assert driver.finder.pose[0, 2] > before[2] > 0.2
    env.close()


@pytest.mark.parametrize(
    ("driver", "task"), [(None, "navigate"), ("auto", "navigate"), ("find", "find"), ("find.onnx", "navigate")]
)
def test_a_driver_has_a_task(driver: str | None, task: str):
    """That is done if none is named."""
    assert task_of(driver) == task


def test_student_and_teacher_ask_one_driver(room_scene: SimScene, file: Path):
    """Whoever asks second gets the same answer, and nothing is seen twice; the driver ends with its simulation."""
    env = sim.make("find", [room_scene], 2, seed=4)
    seen, _ = env.reset(seed=4)
    driver = finder_with(file, env)
    for _ in range(3):
        action = driver(seen)
        before = driver.finder.turned.copy()
        action_again = finder_with(file, env)(seen)
        np.testing.assert_array_equal(action_again, action)
        np.testing.assert_array_equal(driver.finder.turned, before)
        action_again[:] = 0  # is the caller's own
        np.testing.assert_array_equal(driver(seen), action)
        seen, *_ = env.step(action)
    assert (driver.finder.turned > 0.2).all()
    env.close()
    gone = weakref.ref(driver)
    del env, driver
    gc.collect()
    assert gone() is None
