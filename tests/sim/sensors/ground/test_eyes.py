"""Eyes for the ground: they see as the network that was trained, whatever the light; their files are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import SimError
from pipeline.io.weights import write_weights
from sim.sensors.ground.eyes import FAR, FILE, MAX_BYTES, NEAR, GroundEyes, GroundEyesCard, depths_of, given
from train.ground.network import GroundEyesNetwork

CARD = GroundEyesCard(sha256="", seed=5, scenes=("room@1.0.0",), metrics={}, images=64, robot="go2")


def network() -> GroundEyesNetwork:
    """With random weights and statistics."""
    torch.manual_seed(3)
    made = GroundEyesNetwork().eval()
    with torch.no_grad():
        for norm in made.norms.values():
            assert isinstance(norm, torch.nn.BatchNorm2d)
            for part in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                assert part is not None
                part.copy_(torch.rand_like(part) + 0.5)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of such eyes."""
    write_weights(tmp_path / "own.npz", CARD, network().arrays())
    return tmp_path / "own.npz"


def images(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours and depths of level ground, above which is sky."""
    flat = np.repeat(np.linspace(-3, 2, 48)[:, None], 64, 1).clip(0)[None].repeat(3, 0)
    return rng.integers(0, 256, (3, 48, 64, 3)).astype(np.uint8), flat.astype(np.float32)


def test_they_see_as_the_network_does(file: Path, rng: np.random.Generator):
    """By their file: weights with what normalised each layer."""
    colors, flat = images(rng)
    with torch.no_grad():
        farther, error = network()(torch.from_numpy(given(colors / 255, flat)).float().permute(0, 3, 1, 2)).unbind(1)
    surer = error.mean().item() + 3
    expected = depths_of(flat, farther.numpy(), error.numpy() - surer)
    eyes = GroundEyes(file)
    eyes.arrays["said_bias"] = eyes.arrays["said_bias"] - np.repeat([0, surer], 4).astype(np.float32)
    found, _ = eyes.look(colors, flat)
    assert found.shape == (3, 48, 64)
    assert 0.05 < (expected > 0).mean() < 1
    assert (np.abs(found - expected) < 1e-3).mean() > 0.999  # some are at the edge of what is said


def test_what_they_are_given_is_the_same_in_any_light(rng: np.random.Generator):
    """Brighter, with more contrast, and tinted, but for what is no contrast at all."""
    colors, flat = rng.random((2, 48, 64, 3)).astype(np.float32), np.ones((2, 48, 64), np.float32)
    other = (0.1 + 0.6 * colors) + np.array([0.1, 0, 0.05], np.float32)
    np.testing.assert_allclose(given(colors, flat), given(other, flat), atol=0.1)
    assert np.abs(given(np.full_like(colors, 0.7), flat)[..., :4]).max() < 1e-2
    assert np.isfinite(given(np.zeros_like(colors), flat)).all()


def test_what_is_unsure_near_or_far_is_not_said():
    """Level ground is the measure, where there is none a fixed depth."""
    flat = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    farther = np.log([1.2, 1.2, 0.9 * NEAR, 1.1 * FAR, 0.5])
    error = np.log([0.01, 0.5, 0.01, 0.01, 0.01])
    np.testing.assert_allclose(depths_of(flat, farther, error), [1.2, 0, 0, 0, 0.5 * FAR], rtol=1e-6)


def test_those_that_come_along_fit_their_card():
    """Small, made of places of no owner, and tested where they were not trained."""
    eyes = GroundEyes(FILE)
    assert FILE.stat().st_size < 2**20
    assert eyes.card.licence == "CC0-1.0"
    assert len(eyes.card.scenes) >= 64
    assert 0.5 < eyes.card.metrics["said"] <= 1
    assert eyes.card.metrics["height"] < 0.05


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("up0_bias"),
        lambda arrays: arrays.update(said_weight=np.zeros((3, 3, 24, 9), np.float32)),
        lambda arrays: arrays.update(down0_bias=np.full(16, np.nan, np.float32)),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object]):
    """With a layer less, of other sizes, or of no numbers."""
    arrays = network().arrays()
    change(arrays)
    write_weights(tmp_path / "own.npz", CARD, arrays)
    with pytest.raises(SimError, match="eyes for the ground"):
        GroundEyes(tmp_path / "own.npz")


def test_damaged_files_are_refused(file: Path, tmp_path: Path):
    """No card, one of other weights, weights that are too large."""
    card = json.loads(file.with_suffix(".json").read_text())
    for content in (None, json.dumps(card | {"sha256": "0" * 64}), "{}", "["):
        if content is None:
            file.with_suffix(".json").unlink()
        else:
            file.with_suffix(".json").write_text(content)
        with pytest.raises(SimError, match="pretrain-ground"):
            GroundEyes(file)
    (tmp_path / "large.npz").write_bytes(b"0" * (MAX_BYTES + 1))
    file.with_suffix(".json").write_text(json.dumps(card))
    (tmp_path / "large.json").write_text(json.dumps(card))
    with pytest.raises(SimError):
        GroundEyes(tmp_path / "large.npz")
