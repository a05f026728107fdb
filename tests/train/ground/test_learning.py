"""Eyes for the ground learn: what images show is true, a kill loses nothing, and the command says how good they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline.errors import TrainError
from pipeline.rooms.bundle import write_room
from pipeline.rooms.recipe import Recipe
from sim.robots.catalog import load
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from sim.sensors.ground.eyes import FINE, LENS, GroundEyes
from sim.sensors.ground.parallax import Before
from sim.sensors.networks import rises
from train import fitting
from train.ground import learning
from train.ground.learning import learn, measure
from train.ground.views import GroundViews

SEED = 5002


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with stairs."""
    made = tmp_path_factory.mktemp("stairs") / "room" / "1.0.0"
    made.mkdir(parents=True)
    write_room(made, SEED, Recipe(scanned=0, feature="stairs"))
    return made


@pytest.fixture(scope="session")
def stairs(folder: Path) -> SimScene:
    """It as a scene."""
    return open_scene(folder)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images."""
    for name, value in (("IMAGES", 32), ("AT_ONCE", 16), ("BATCH", 4), ("TESTS", 16)):
        monkeypatch.setattr(learning, name, value)
    monkeypatch.setattr(fitting, "SAVE_INTERVAL", 2)
    monkeypatch.setattr(fitting, "LOG_INTERVAL", 1)


def killed_after(iteration: int) -> Callable[[int, float], None]:
    """Stops a training."""

    def watch(done: int, _: float) -> None:
        if done == iteration:
            raise KeyboardInterrupt

    return watch


def test_level_ground_is_where_it_is_shown(stairs: SimScene):
    """On the floor before the stairs, truth and level ground agree; on stairs truth is higher or lower."""
    images = GroundViews([stairs], load("go2")).draw(64, np.random.default_rng(2))
    height = images.level_from_camera[:, 2, 3, None, None] + images.depth * rises(LENS, images.level_from_camera)[0]
    known = (images.depth > 0) & (images.depth < 2)
    level = known & (np.abs(height) < 0.01)
    assert level.mean() > 0.1
    level &= images.flat > 0
    off = np.abs(images.depth[level] / images.flat[level] - 1)
    assert np.median(off) < 0.06  # robots err in their level by 15 mm
    assert (known & (np.abs(height) > 0.1)).mean() > 0.05
    assert images.colors.std() > 5


def test_what_was_seen_before_is_of_the_same_places(stairs: SimScene):
    """By the true poses, and about so by those that robots believe; some have seen nothing before."""
    images = GroundViews([stairs], load("go2")).draw(64, np.random.default_rng(3))
    before, count = images.before, len(images.depth)
    assert 0.3 < before.known.mean() < 0.95
    apart = np.linalg.norm(before.before_from_camera[:, :3, 3], axis=1)
    assert apart[before.known].min() > 0.02
    points = (FINE.rays() * images.fine_depth[..., None]).reshape(count, -1, 3)
    for pose, most in ((images.before_from_camera, 0.02), (before.before_from_camera, 0.05)):
        x, y, z = np.moveaxis(points @ pose[:, :3, :3].transpose(0, 2, 1) + pose[:, None, :3, 3], -1, 0)
        ahead = np.maximum(z, 0.1)
        column, row = (FINE.fx * x / ahead + FINE.cx).astype(int), (FINE.fy * y / ahead + FINE.cy).astype(int)
        shown = before.known[:, None] & (points[..., 2] > 0) & (z > 0.1)
        shown &= (column >= 0) & (column < FINE.width) & (row >= 0) & (row < FINE.height)
        at = np.arange(count)[:, None], np.clip(row, 0, FINE.height - 1), np.clip(column, 0, FINE.width - 1)
        off = np.abs(images.before_depth[at] - z)[shown]
        assert shown.mean() > 0.2
        assert np.median(off) < most


def test_what_was_killed_goes_on_as_if_it_had_not_been(stairs: SimScene, tmp_path: Path, few: None):
    """To the same weights; nothing is left beside the files."""
    robot = load("go2")
    learn([stairs], robot, tmp_path / "whole.npz", 5)
    file = tmp_path / "killed.npz"
    with pytest.raises(KeyboardInterrupt):
        learn([stairs], robot, file, 5, watch=killed_after(3))
    assert not file.exists()
    done = list[int]()
    learn([stairs], robot, file, 5, watch=lambda iteration, _: done.append(iteration))
    assert done == [3, 4, 5]
    assert file.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{a}.{b}" for a in ("whole", "killed") for b in ("npz", "json")
    }
    assert GroundEyes(file).card.scenes == (stairs.lock.reference,)


def test_errors_are_those_of_what_is_said(stairs: SimScene, tmp_path: Path, few: None):
    """The truth has none; what is 10 cm too near is."""

    class Knowing(GroundEyes):
        def __init__(self, off: float) -> None:
            self.off = off

        def look(self, rgb: np.ndarray, level_from_camera: np.ndarray, before: Before) -> tuple[np.ndarray, np.ndarray]:
            images = GroundViews([stairs], load("go2")).draw(16, np.random.default_rng(1))
            np.testing.assert_array_equal(images.colors, rgb)
            depth = np.where(images.depth > 0, images.depth + self.off, 0).astype(np.float32)
            return depth, np.zeros_like(depth)

    truth, near = (measure(Knowing(off), [stairs], load("go2")) for off in (0.0, -0.1))
    assert (truth.said, truth.depth, truth.height, truth.nearer, truth.farther) == (1, 0, 0, 0, 0)
    assert near.nearer > 0.9
    assert near.farther == 0
    assert 0.01 < near.height < 0.1


def test_places_without_stairs_are_refused(stairs: SimScene):
    """They teach nothing."""
    level = replace(stairs, regions=replace(stairs.regions, height=np.zeros_like(stairs.regions.height)))
    with pytest.raises(TrainError, match="where there are some"):
        GroundViews([level], load("go2"))


def test_the_command(
    folder: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Writes eyes and says how far off they are; another command walks by them."""
    monkeypatch.chdir(tmp_path)
    scene = ("--scenes", str(folder))
    assert main(["pretrain-ground", *scene, "--test", str(folder), "--out", "own.npz", "--iterations", "2"]) == 0
    assert "steps 5 cm too near" in capsys.readouterr().out
    card = GroundEyes(tmp_path / "own.npz").card
    assert card.robot == "go2"
    assert 0 <= card.metrics["said"] <= 1
