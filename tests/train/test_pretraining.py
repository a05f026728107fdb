"""Pretraining on views of bundles: what pairs are, gradients through the rasteriser, kill and resume, the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cli import main
from pipeline.errors import TrainError
from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_rotvec
from pipeline.scenes.bundle import Bundle
from tests.bundles import floor_of, make_bundle
from tests.sim.conftest import room_gaussians
from tests.synthetic import Room
from train import fitting, pretraining
from train.encoders.gaussian_regressor import GaussianRegressor, PixelGaussians, load_regressor, rays_of
from train.pretraining import Pairs, Views, measure, pretrain, render, seen_from_first
from train.runs.run import Run

LENS = Camera(20, 16, 15.0, 17.0, 9.0, 8.5)


@pytest.fixture
def bundle(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The room with Gaussians all over, so that there is something to see."""
    monkeypatch.setattr(Bundle, "splat", lambda *_: room_gaussians(room))
    return make_bundle(tmp_path / "bundles", room, regions=floor_of(room))


def gaussians(count: int) -> PixelGaussians:
    """As of an image of one row, in front of the camera."""
    rng = torch.Generator().manual_seed(5)

    def numbers(channels: int) -> torch.Tensor:
        return torch.rand(1, channels, 1, count, generator=rng)

    depth = torch.linspace(1, 2, count).expand(1, 1, 1, -1)  # far enough from each other to stay in order
    position = torch.cat([numbers(2) - 0.5, depth], 1)
    return PixelGaussians(position, numbers(3) - 3, numbers(4) + 0.1, numbers(3), numbers(1))


POSES = [Pose.identity(), Pose(matrix_from_rotvec(np.array([0.1, -0.2, 0.05])), np.array([0.1, 0.05, -0.2]))]


def test_gradients_are_those_of_the_images():
    """Of both views together, by each parameter, against finite differences."""
    parts = gaussians(12)
    ramps = torch.arange(2.0)[:, None] + torch.arange(4.0), torch.arange(16) / 9, torch.arange(20) / 7
    weight = torch.sin(ramps[0][..., None, None] + ramps[1][:, None] + ramps[2])  # smooth: Gaussians end at pixels

    def loss(of: PixelGaussians) -> torch.Tensor:
        return (render(of, 0, LENS, POSES).double() * weight).sum()

    leaves = PixelGaussians(*(part.clone().requires_grad_() for part in parts))
    loss(leaves).backward()
    step = 2e-2  # over the edges of Gaussians, where pixels jump
    for number, (part, leaf) in enumerate(zip(parts, leaves, strict=True)):
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0
        for channel in range(part.shape[1]):
            moved = []
            for sign in (1, -1):
                other = part.clone()
                other[0, channel, 0, 4] += sign * step
                moved.append(loss(parts._replace(**{parts._fields[number]: other})))
            slope = float(moved[0] - moved[1]) / (2 * step)
            assert float(leaf.grad[0, channel, 0, 4]) == pytest.approx(slope, rel=0.05, abs=0.1)


def test_what_the_first_view_hides_does_not_count():
    """A wall, and a screen before it in the first view only; the second camera stands to the right."""
    depths = np.full((1, 2, 16, 20), 3.0, np.float32)
    depths[0, 0, :, 12:14] = 1.0
    moved = np.eye(4)[None].copy()
    moved[0, 0, 3] = 0.6  # three pixels at the wall
    pairs = Pairs(LENS, np.zeros((1, 2, 16, 20, 3), np.float32), depths, moved)
    seen = seen_from_first(pairs)[0]
    assert seen[:, :9].all()  # wall, in both
    assert not seen[:, 9:11].any()  # behind the screen
    assert seen[:, 11:17].all()
    assert not seen[:, 17:].any()  # beyond the first view's edge
    depths[0, 1, 3, 4] = 0
    assert not seen_from_first(Pairs(LENS, pairs.colors, depths, moved))[0, 3, 4]


def test_views_of_a_pair_are_of_one_place(bundle: Path):
    """What the second view shows is at the depth at which the first one shows it; other pairs for other seeds."""
    views = Views([Bundle.open(bundle)])
    pairs = views.draw(8, np.random.default_rng(3))
    assert pairs.colors.shape == (8, 2, 64, 64, 3)
    assert (pairs.colors.min(), pairs.colors.max() <= 1) == (0, True)
    rays = rays_of(pairs.camera).numpy()
    errors = []
    for depth, pose, shared in zip(pairs.depths, pairs.first_from_second, seen_from_first(pairs), strict=True):
        points = np.stack([rays[0] * depth[1], rays[1] * depth[1], depth[1]], -1) @ pose[:3, :3].T + pose[:3, 3]
        column = points[..., 0] / points[..., 2] * pairs.camera.fx + pairs.camera.cx
        row = points[..., 1] / points[..., 2] * pairs.camera.fy + pairs.camera.cy
        inside = (depth[1] > 0) & (column >= 0) & (column < 64) & (row >= 0) & (row < 64) & (points[..., 2] > 0)
        there = depth[0, row[inside].astype(int), column[inside].astype(int)]
        errors.append(np.median(np.abs(there / points[..., 2][inside] - 1)))
        assert shared.mean() > 0.1
    assert np.median(errors) < 0.05
    same = views.draw(8, np.random.default_rng(3))
    assert np.array_equal(same.colors, pairs.colors)
    assert not np.array_equal(views.draw(8, np.random.default_rng(4)).colors, pairs.colors)


def test_a_bundle_that_shows_nothing_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """Its Gaussians are elsewhere."""
    far = Gaussians.from_colors(np.full((5, 3), 90.0), np.ones((5, 3)), np.ones((5, 4)), np.ones((5, 3)), 0.9, 1)
    monkeypatch.setattr(Bundle, "splat", lambda *_: far)
    with pytest.raises(TrainError, match="something is everywhere") as error:
        Views([Bundle.open(bundle)]).draw(2, np.random.default_rng(0))
    assert str(bundle) in str(error.value)


def test_a_bundle_without_cameras_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """By one error, before anything is drawn."""
    monkeypatch.setattr(Bundle, "cameras", ())
    with pytest.raises(TrainError, match="a bundle without cameras"):
        Views([Bundle.open(bundle)])


def killed_after(iteration: int) -> Callable[[int, float], None]:
    """A report at which the process ends."""

    def watch(done: int, _: float) -> None:
        if done == iteration:
            raise KeyboardInterrupt

    return watch


def test_what_was_killed_goes_on_as_if_it_had_not_been(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """To the same weights; nothing is left beside the file. Another seed begins anew."""
    monkeypatch.setattr(pretraining, "BATCH", 2)
    monkeypatch.setattr(fitting, "SAVE_INTERVAL", 2)
    monkeypatch.setattr(fitting, "LOG_INTERVAL", 1)
    place = [Bundle.open(bundle)]
    whole = pretrain(place, tmp_path / "whole.safetensors", 6)
    file = tmp_path / "killed.safetensors"
    for iteration in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            pretrain(place, file, 6, watch=killed_after(iteration))
    assert not file.exists()
    done = list[int]()
    pretrain(place, file, 6, watch=lambda iteration, _: done.append(iteration))
    assert done == [5, 6]
    assert file.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if "resume" in path.name] == []
    other = pretrain(place, tmp_path / "other.safetensors", 6, seed=1)
    assert not torch.equal(other.head.weight, whole.head.weight)


def test_it_learns_what_a_room_looks_like(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Depths are less wrong than of one that knows none, and so are views from elsewhere."""
    monkeypatch.setattr(pretraining, "BATCH", 4)
    monkeypatch.setattr(pretraining, "TEST_PAIRS", 16)
    place = Bundle.open(bundle)
    before = measure(GaussianRegressor(), place)
    after = measure(pretrain([place], tmp_path / "weights.safetensors", 60), place, tmp_path / "room.png")
    assert after.depth < 0.9 * before.depth
    assert after.shared > before.shared + 1
    assert (tmp_path / "room.png").read_bytes().startswith(b"\x89PNG")


def test_the_commands_a_user_types(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Pretrain, train, evaluate; a run refuses weights that were changed meanwhile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretraining, "BATCH", 2)
    monkeypatch.setattr(pretraining, "TEST_PAIRS", 4)
    command = ["pretrain-encoder", "--scenes", str(bundle), "--out", "gaussians.safetensors", "--iterations", "2"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "room@1.0.0" in printed
    assert "gaussians-room-1.0.0.png" in printed
    load_regressor("gaussians.safetensors")
    small = ["num_envs=4", "num_steps_per_env=4", "policy.rnn_hidden_dim=8", "ppo.num_mini_batches=2"]
    encoder = ["policy.encoder=gaussian_regressor", "policy.encoder_file=gaussians.safetensors"]
    settings = [text for pair in (*small, *encoder) for text in ("--set", pair)]
    assert main(["train", "navigate", "--scene", str(bundle), "--iterations", "1", "--name", "new", *settings]) == 0
    record = Run.open("new").preset.policy
    assert (Path(record.encoder_file), len(record.encoder_sha256)) == (tmp_path / "gaussians.safetensors", 64)
    assert main(["eval", "new", "--episodes", "4", "--ablations", "none"]) == 0
    assert main(["train", "--resume", "new", "--iterations", "2"]) == 0
    assert main([*command, "--seed", "1"]) == 0
    capsys.readouterr()
    assert main(["eval", "new", "--episodes", "4", "--ablations", "none"]) == 2
    assert "another file than the one with which the run began" in " ".join(capsys.readouterr().err.split())
