"""Training of eyes that find balls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cli import main
from pipeline.errors import TrainError
from sim.finding.eyes import Eyes
from sim.scene.scene import SimScene
from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room
from train import eyes
from train.eyes import EyesNetwork, train_eyes, varied


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Robots and images are few: what is tested is not how well they learn."""
    monkeypatch.setattr(eyes, "ROBOTS", 8)
    monkeypatch.setattr(eyes, "BATCH", 8)


def trained(scene: SimScene, file: Path, seed: int) -> tuple[bytes, bytes]:
    """What two steps write, weights and card."""
    told: list[int] = []
    train_eyes([scene], file, robot="rover", steps=2, seed=seed, watch=told.append)
    assert told == [1, 2]
    return file.read_bytes(), file.with_suffix(".json").read_bytes()


def test_two_steps_write_both_files(room_scene: SimScene, tmp_path: Path):
    """The same for the same seed, others for another; weights are no more what they were at first."""
    first = trained(room_scene, tmp_path / "one.npz", 3)
    assert trained(room_scene, tmp_path / "deeper" / "same.npz", 3) == first
    assert trained(room_scene, tmp_path / "other.npz", 4)[0] != first[0]
    card = Eyes(tmp_path / "one.npz").card
    assert (card.width, card.height, card.focal) == (96, 48, 27.7)
    assert (card.seed, card.images, card.scenes) == (3, 16, ("room@1.0.0",))
    torch.manual_seed(3)
    fresh = EyesNetwork().arrays()
    with np.load(tmp_path / "one.npz") as arrays:
        assert set(arrays) == set(fresh)
        assert all((arrays[name] != fresh[name]).any() for name in fresh)


@pytest.mark.parametrize("name", ["eyes.txt", "eyes", "eyes.npz.json"])
def test_another_kind_of_file_is_refused(room_scene: SimScene, tmp_path: Path, name: str):
    """Before anything is trained."""
    with pytest.raises(TrainError, match=r"FILE\.npz") as error:
        train_eyes([room_scene], tmp_path / name, robot="rover", steps=2, seed=3, watch=pytest.fail)
    assert name in error.value.found
    assert list(tmp_path.iterdir()) == []


def test_what_shows_the_ball_is_known(room_scene: SimScene):
    """Parts are marked where a ball's disc is by projecting its middle and radius, if it is before all else."""
    views = eyes._Views([room_scene], "rover", 5, EyesNetwork())
    found, centers = 0, 0
    for _ in range(6):
        assert views.env.now
        balls, state = views.env.props().balls, views.env.now.state
        rgb, depth, shown = views.draw()
        assert rgb.shape == (8, 48, 96, 3)
        assert depth.shape == (8, 48, 96)
        assert shown.shape == (8, 12, 24)
        for robot in range(8):
            distance = np.linalg.norm(balls.center[robot, 0, :2] - state.position[robot, :2])
            yaw = np.arctan2(*(balls.center[robot, 0, :2] - state.position[robot, :2])[::-1]) - state.planar[robot, 2]
            yaw = (yaw + np.pi) % (2 * np.pi) - np.pi
            rows, columns = np.nonzero(shown[robot])
            if not len(rows):
                continue
            found += 1
            assert abs(yaw) < np.pi / 2
            near = depth[robot].reshape(12, 4, 24, 4).transpose(0, 2, 1, 3)[rows, columns]
            assert near[near > 0].min() < distance + 0.1
            middle = 48 - 27.7 * np.tan(yaw)
            centers += np.abs(columns * 4 + 2 - middle).min() < 4 + 27.7 * 0.5 / max(distance, 0.3)
    views.env.close()
    assert found > 3
    assert centers > 0.8 * found


def test_the_loss_falls_with_the_parts_that_are_right():
    """And images in other light keep their shapes and are about 0."""
    torch.manual_seed(1)
    images, shown = torch.rand(3, 4, 16, 24) - 0.5, (torch.rand(3, 4, 6) < 0.3).float()
    network = EyesNetwork()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = eyes._loss(network, images, shown)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


def test_light_varies_from_image_to_image():
    """Not within one, but for grain; black stays darker than white."""
    torch.manual_seed(2)
    colors = torch.full((40, 8, 10, 3), 0.2)
    colors[:, 4:] = 0.6
    result = varied(colors)
    assert result.shape == colors.shape
    assert -0.5 <= float(result.min()) <= float(result.max()) <= 0.5
    dark, light = result[:, :4].mean((1, 2)), result[:, 4:].mean((1, 2))
    assert (light.mean(1) > dark.mean(1)).all()
    assert float(light.std(0).min()) > 0.05
    assert float(result[:, :4].std((1, 2)).max()) < 0.08


def test_the_command_trains(room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """In a bundle; and says how to look at it."""
    bundle = make_bundle(tmp_path / "yard", room, regions=floor_of(room))
    out = tmp_path / "own.npz"
    assert main(["train-eyes", "--scene", str(bundle), "--out", str(out), "--steps", "1", "--seed", "7"]) == 0
    assert f"--driver {out}" in " ".join(capsys.readouterr().out.split())
    assert Eyes(out).card.seed == 7
    assert main(["train-eyes", "--scene", str(bundle), "--out", str(tmp_path / "own.txt"), "--steps", "1"]) == 2
    assert "FILE.npz" in capsys.readouterr().err
