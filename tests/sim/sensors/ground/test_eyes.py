"""Eyes for the ground: they see as the network that was trained, whatever the light; their files are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import SimError
from pipeline.io.weights import write_weights
from sim.sensors.ground.eyes import (
    FAR,
    FILE,
    FINE,
    LENS,
    MAX_BYTES,
    NEAR,
    GroundEyes,
    GroundEyesCard,
    depths_of,
    given,
    seen,
)
from sim.sensors.ground.parallax import FARTHER, UNSEEN, Before
from sim.sensors.networks import flat_floor
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


def images(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Before]:
    """Colours by cameras that look down, and what they saw a step behind; of the last one that is unknown."""
    count, cameras = 3, np.tile(np.eye(4), (3, 1, 1))
    cameras[:, :3, :3] = np.array([[0, -np.sin(0.5), np.cos(0.5)], [-1, 0, 0], [0, -np.cos(0.5), -np.sin(0.5)]])
    cameras[:, 2, 3] = 0.4
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, 2, 3] = 0.2
    now, then = rng.integers(0, 256, (2, count, FINE.height, FINE.width, 3)).astype(np.uint8)
    return now, cameras, Before(then, pose, np.arange(count) < count - 1)


def test_they_see_as_the_network_does(file: Path, rng: np.random.Generator):
    """By their file: weights with what normalised each layer."""
    colors, cameras, before = images(rng)
    flat, shown = flat_floor(LENS, cameras), seen(colors, cameras, before)
    with torch.no_grad():
        fed = given(shown.colors * np.float32(1 / 255), flat, shown.fits)
        farther, error = network()(torch.from_numpy(fed).permute(0, 3, 1, 2)).unbind(1)
    surer = error.mean().item() + 3
    expected = depths_of(flat, farther.numpy(), error.numpy() - surer)
    eyes = GroundEyes(file)
    eyes.arrays["said_bias"] = eyes.arrays["said_bias"] - np.repeat([0, surer], 4).astype(np.float32)
    found, _ = eyes.look(colors, cameras, before)
    assert found.shape == (3, LENS.height, LENS.width)
    assert 0.05 < (expected > 0).mean() < 1
    assert (np.abs(found - expected) < 1e-3).mean() > 0.999  # some are at the edge of what is said


def test_what_they_are_given_is_the_same_in_any_light(rng: np.random.Generator):
    """Brighter, with more contrast, and tinted, but for what is no contrast at all."""
    colors = rng.random((2, LENS.height, LENS.width, 3)).astype(np.float32)
    flat, fits = np.ones(colors.shape[:3], np.float32), np.zeros((*colors.shape[:3], len(FARTHER)), np.float32)
    other = (0.1 + 0.6 * colors) + np.array([0.1, 0, 0.05], np.float32)
    np.testing.assert_allclose(given(colors, flat, fits), given(other, flat, fits), atol=0.1)
    assert np.abs(given(np.full_like(colors, 0.7), flat, fits)[..., :4]).max() < 1e-2
    assert np.isfinite(given(np.zeros_like(colors), flat, fits)).all()


def test_what_was_seen_before_is_compared_in_any_light(rng: np.random.Generator):
    """The same from the same place, however bright it was; where nothing was seen that is told."""
    colors, cameras, before = images(rng)
    dim = (40 + 0.5 * colors).astype(np.uint8)
    fits = seen(colors, cameras, replace(before, colors=dim, before_from_camera=np.tile(np.eye(4), (3, 1, 1)))).fits
    inner = fits[:, 2:-2, 2:-2]
    assert np.abs(inner[:2]).max() < 0.2
    assert (fits[2] == UNSEEN).all()
    assert seen(colors, cameras, before).fits[:2].max() > 1


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
        lambda arrays: arrays.update(down0_bias=np.full(24, np.nan, np.float32)),
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
