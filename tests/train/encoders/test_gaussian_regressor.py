"""Gaussians from images: geometry of pixels, tokens and mounts; files that others wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.linalg import logm, sqrtm

from pipeline.errors import TrainError
from pipeline.geometry import Camera, Pose, matrix_from_quaternion, matrix_from_rotvec
from sim.sensors.cameras.settings import RobotCamera
from train.encoders import gaussian_regressor
from train.encoders.gaussian_regressor import (
    BLOCK,
    FORMAT,
    GaussianRegressor,
    ImageTokens,
    PixelGaussians,
    file_of,
    image_tokens,
    load_regressor,
    merged,
    rays_of,
)
from train.encoders.gaussians import AXES
from train.preset import load_preset, pinned

LENS = Camera(24, 16, 21.0, 19.0, 10.0, 7.0)
MOUNT = Pose(matrix_from_rotvec(np.array([0.3, -0.8, 0.5])), np.array([0.4, -0.2, 0.7]))


@pytest.fixture
def regressor() -> GaussianRegressor:
    """With random weights that say something."""
    torch.manual_seed(2)
    network = GaussianRegressor()
    for last in (network.head, network.refine):
        torch.nn.init.normal_(last.weight, std=0.1)
    return network


def images(count: int, channels: int = 3) -> torch.Tensor:
    """Colours (B, C, 16, 24)."""
    rng = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, channels, LENS.height, LENS.width), dtype=torch.uint8, generator=rng)


def test_gaussians_lie_on_the_rays_of_their_pixels(regressor: GaussianRegressor):
    """Of a lens whose centre is not the image's, before and after they are refined."""
    for found in regressor(images(2), rays_of(LENS).expand(2, -1, -1, -1)):
        x, y, z = found.position.unbind(1)
        column, row = np.meshgrid(np.arange(LENS.width) + 0.5, np.arange(LENS.height) + 0.5)
        np.testing.assert_allclose((x / z).detach() * LENS.fx + LENS.cx, np.tile(column, (2, 1, 1)), atol=1e-4)
        np.testing.assert_allclose((y / z).detach() * LENS.fy + LENS.cy, np.tile(row, (2, 1, 1)), atol=1e-4)
        assert (z > 0).all()
        torch.testing.assert_close(found.quaternion.norm(dim=1), torch.ones(2, 16, 24))


def test_it_begins_with_what_it_sees():
    """Before it learns: colours of the image, one usual depth, Gaussians as large as pixels."""
    torch.manual_seed(0)
    seen = images(1)
    _, found = GaussianRegressor()(seen, rays_of(LENS)[None])
    assert (found.color - seen / 255).abs().max() < 0.3
    np.testing.assert_allclose(found.position[:, 2].detach(), 1.5, rtol=0.3)
    np.testing.assert_allclose(found.log_scale.exp().detach(), 1.5 * 0.7 / LENS.fx, rtol=0.6)


def test_a_token_is_the_mean_of_its_square():
    """By opacity; the spread as the matrix logarithm of the covariance's root says, for Gaussians that are alike."""
    rng = np.random.default_rng(3)
    quaternion = rng.normal(size=4)
    quaternion /= np.linalg.norm(quaternion)
    scale = np.array([0.02, 0.3, 0.1])
    shape = 1, 3, BLOCK, 2 * BLOCK
    position, color = (torch.from_numpy(rng.random(shape)).float() for _ in range(2))
    opacity = torch.from_numpy(rng.normal(size=(1, 1, *shape[2:]))).float()
    each = PixelGaussians(
        position,
        torch.from_numpy(np.log(scale)).float()[None, :, None, None].expand(shape),
        torch.from_numpy(quaternion).float()[None, :, None, None].expand(1, 4, *shape[2:]),
        color,
        opacity,
    )
    tokens = merged(each)
    assert tokens.shape == (1, 2, 13)
    rotation = matrix_from_quaternion(quaternion)
    true = np.real(logm(sqrtm(rotation @ np.diag(scale**2) @ rotation.T)))
    weight = torch.sigmoid(opacity)[..., BLOCK:]
    for token in tokens[0]:
        np.testing.assert_allclose(token[3:9], true[AXES[0], AXES[1]], atol=1e-4)
    means = [((weight * of[..., BLOCK:]).sum((2, 3)) / weight.sum((2, 3)))[0] for of in (position, color)]
    torch.testing.assert_close(tokens[0, 1, :3], means[0])
    torch.testing.assert_close(tokens[0, 1, 9:12], means[1])
    torch.testing.assert_close(tokens[0, 1, 12], weight.mean())


def test_tokens_are_in_the_frame_of_the_link_that_carries_the_camera(regressor: GaussianRegressor):
    """Positions move, spreads turn, colours and opacities stay; each camera by its own lens and mount."""
    other = replace(LENS, fx=33.0, cx=13.0)
    plain = ImageTokens(regressor, [(LENS, Pose.identity()), (other, Pose.identity())])
    mounted = ImageTokens(regressor, [(LENS, MOUNT), (other, Pose.identity())])
    seen = images(2, 6)
    at_camera, at_link = plain(seen), mounted(seen)
    assert at_link.shape == (2, 2, (16 // BLOCK) * (24 // BLOCK), 13)
    torch.testing.assert_close(at_link[:, 1], at_camera[:, 1])
    torch.testing.assert_close(at_camera[:, 1], ImageTokens(regressor, [(other, Pose.identity())])(seen[:, 3:])[:, 0])
    assert (at_camera[:, 0] - ImageTokens(regressor, [(other, Pose.identity())])(seen[:, :3])[:, 0]).abs().max() > 0.01
    before, after = (of[:, 0].reshape(-1, 13).double().numpy() for of in (at_camera, at_link))
    np.testing.assert_allclose(after[:, :3], before[:, :3] @ MOUNT.rotation.T + MOUNT.translation, atol=1e-5)
    np.testing.assert_allclose(after[:, 9:], before[:, 9:], atol=1e-6)
    for one, moved in zip(before[:5], after[:5], strict=True):
        spread = np.zeros((3, 3))
        spread[AXES[0], AXES[1]] = spread[AXES[1], AXES[0]] = one[3:9]
        np.testing.assert_allclose(moved[3:9], (MOUNT.rotation @ spread @ MOUNT.rotation.T)[AXES], atol=1e-5)


def test_it_never_learns_with_the_policy(regressor: GaussianRegressor):
    """No mode, no gradient, no weight that an optimiser would take."""
    module = ImageTokens(regressor, [(LENS, MOUNT)])
    assert not any(weights.requires_grad for weights in module.parameters())
    assert not module(images(1)).requires_grad


def test_a_file_keeps_all(regressor: GaussianRegressor, tmp_path: Path):
    """What was written is what is read; the preset of a run has its hash."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(file_of(regressor))
    changes = {"policy.encoder": "gaussian_regressor", "policy.encoder_file": str(file)}
    policy = pinned(load_preset("navigate", changes)).policy
    read = load_regressor(policy.encoder_file, policy.encoder_sha256)
    rays = rays_of(LENS)[None]
    for one, other in zip(regressor(images(1), rays)[1], read(images(1), rays)[1], strict=True):
        torch.testing.assert_close(one, other)
    file.write_bytes(file_of(GaussianRegressor()))
    with pytest.raises(TrainError, match="another file than the one with which the run began"):
        load_regressor(policy.encoder_file, policy.encoder_sha256)


def test_files_that_are_none_are_refused(regressor: GaussianRegressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By one error that says what was found and how to get one."""
    file, weights = tmp_path / "weights.safetensors", regressor.state_dict()
    safetensors.torch.save_file(weights, file, {"format": FORMAT})
    whole = file.read_bytes()

    def other(name: str, value: torch.Tensor | None, about: str = FORMAT) -> bytes:
        changed = {key: of for key, of in weights.items() if key != name or value is not None}
        return safetensors.torch.save(changed | ({} if value is None else {name: value}), {"format": about})

    nothing = torch.full_like(weights["head.bias"], torch.nan)
    for content, found in (
        (whole[:-9], "SafetensorError|incomplete|invalid|Metadata"),
        (b"PK\x03\x04 a checkpoint", "header|invalid|large|Header"),
        (other("head.bias", weights["head.bias"], "another"), f"not marked as {FORMAT}"),
        (other("head.bias", nothing), "not finite"),
        (other("head.bias", torch.zeros(3)), "size mismatch|loading state_dict"),
        (other("head.bias", None), "loading state_dict|Missing"),
        ((2**62).to_bytes(8, "little") + whole[8:], "header|Header"),
    ):
        file.write_bytes(content)
        with pytest.raises(TrainError, match="has a file of its weights") as error:
            load_regressor(file)
        assert error.value.found
        assert "pretrain-encoder" in (error.value.remedy or "")
        assert any(word in f"{error.value.found} {type(error.value.__cause__).__name__}" for word in found.split("|"))
    monkeypatch.setattr(gaussian_regressor, "MAX_BYTES", 1000)
    file.write_bytes(whole)
    with pytest.raises(TrainError, match="bytes, more than"):
        load_regressor(file)
    for missing, found in ((tmp_path / "no.safetensors", "No such file"), ("", "none is named")):
        with pytest.raises(TrainError, match=found):
            load_regressor(missing)


def test_cameras_that_it_cannot_see_by_are_refused(regressor: GaussianRegressor, tmp_path: Path):
    """Distorted ones, and several of different sizes."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(file_of(regressor))
    bent = replace(LENS, distortion=(0.1, 0.0, 0.0, 0.0))

    def rig(lens: Camera, name: str) -> SimpleNamespace:
        return SimpleNamespace(camera=RobotCamera(lens, name), mount=MOUNT)

    with pytest.raises(TrainError, match="'bent' is distorted"):
        image_tokens([rig(bent, "bent")], str(file))  # type: ignore[list-item]
    with pytest.raises(TrainError, match="12 x 8, 24 x 16"):
        image_tokens([rig(LENS, "a"), rig(LENS.resized(12, 8), "b")], str(file))  # type: ignore[list-item]
    for changes in ({"policy.encoder_file": str(file)}, {"policy.encoder": "cnn", "policy.encoder_sha256": "0"}):
        with pytest.raises(TrainError, match="encoder_file is for policy"):
            load_preset("navigate", changes)
