"""Files of eyes, and that they see as the network that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import SimError
from pipeline.geometry import Camera
from pipeline.io.weights import write_weights
from sim.finding.eyes import MAX_BYTES, Eyes, EyesCard, Modality, depth_of
from sim.sensors.networks import whitened
from train.eyes import EyesNetwork

CARD = EyesCard(
    width=96, height=48, focal=27.7, sha256="", seed=5, images=640, scenes=("room@1.0.0",), metrics={"recall": 0.5}
)


def network(modality: Modality = "rgbd") -> EyesNetwork:
    """With random weights, biases too."""
    torch.manual_seed(3)
    made = EyesNetwork(modality)
    with torch.no_grad():
        for one in made.parameters():
            one.normal_(0, 0.3)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of such eyes."""
    write_weights(tmp_path / "own.npz", CARD, network().arrays())
    return tmp_path / "own.npz"


def written(file: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Eyes with other arrays, and a card that fits them."""
    arrays = {name: array.copy() for name, array in network().arrays().items()}
    change(arrays)
    write_weights(file, CARD, arrays)


@pytest.mark.parametrize(("height", "width"), [(48, 96), (20, 28)])
def test_they_see_as_the_network_does(file: Path, rng: np.random.Generator, height: int, width: int):
    """By their file, on images with depths that are unknown here and there."""
    rgb = rng.integers(0, 256, (3, height, width, 3)).astype(np.uint8)
    depth = np.where(rng.random((3, height, width)) < 0.2, 0, rng.uniform(0.2, 6, (3, height, width)))
    found, same = Eyes(file).look(rgb, depth.astype(np.float32))
    np.testing.assert_array_equal(same, depth.astype(np.float32))
    near = np.where(depth > 0, 1 / (1 + depth), 0)
    images = np.concatenate([rgb.transpose(0, 3, 1, 2) / 255, near[:, None]], 1) - 0.5
    with torch.no_grad():
        expected = network()(torch.from_numpy(images.astype(np.float32)))[:, 0].numpy()
    assert found.shape == (3, height // 4, width // 4)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(whitened(rgb, depth.astype(np.float32)), images.transpose(0, 2, 3, 1), atol=1e-6)


def test_eyes_of_colours_alone_are_as_their_network(tmp_path: Path, rng: np.random.Generator):
    """In odds and in depths."""
    write_weights(tmp_path / "own.npz", CARD.model_copy(update={"modality": "rgb"}), network("rgb").arrays())
    rgb, depth = rng.integers(0, 256, (2, 48, 96, 3)).astype(np.uint8), np.full((2, 48, 96), 3.0, np.float32)
    depth[:, :24] = 0
    depth[:, 24:] = np.linspace(9, 0.5, 24)[:, None]
    found = Eyes(tmp_path / "own.npz").look(rgb, depth)
    sight = torch.from_numpy(np.concatenate([rgb.transpose(0, 3, 1, 2), depth[:, None]], 1).astype(np.float32))
    for one, other in zip(network("rgb").look(sight), found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    assert 0.1 < (found[1] != depth).mean() < 0.9


def test_an_obstacle_is_where_it_meets_the_floor():
    """As far away as the lowest floor that it covers, up to its top; what is above it is floor again, or nothing."""
    floor = np.zeros((1, 16, 8), np.float32)
    floor[:, 4:] = np.linspace(6, 0.5, 12)[:, None]
    details = np.full((1, 2, 8, 4), -1.0, np.float32)  # obstacles and missing floor, by details of 2 by 2 pixels
    details[0, 0, 3:6, 1] = 1
    details[0, 0, 1, 1] = 1  # another one behind it
    details[0, 0, 5:, 3] = 1  # out of sight below
    details[0, 1, 4, 0] = 1
    said = torch.nn.functional.pixel_unshuffle(torch.from_numpy(details), 2)[0].numpy().transpose(1, 2, 0)[None]
    found = depth_of(floor, said)
    expected = floor[:, 1::2, ::2].copy()
    expected[0, 3:6, 1] = floor[0, 11, 2]
    expected[0, 1, 1] = floor[0, 3, 2]
    expected[0, 5:, 3] = floor[0, 15, 6]
    expected[0, 4, 0] = 0
    np.testing.assert_array_equal(found[:, ::2, 1::2], expected)
    np.testing.assert_array_equal(found[:, 1::2, ::2], expected)
    assert depth_of(floor, said[..., :0]) is floor


def test_each_part_sees_what_is_round_it(file: Path, rng: np.random.Generator):
    """One pixel changes the parts near it, and nothing of other images."""
    rgb, depth = rng.integers(0, 256, (2, 48, 96, 3)).astype(np.uint8), np.ones((2, 48, 96), np.float32)
    eyes = Eyes(file)
    before, _ = eyes.look(rgb, depth)
    rgb[0, 9, 70] ^= 128
    changed = np.argwhere(eyes.look(rgb, depth)[0] != before)
    assert (changed[:, 0] == 0).all()
    assert np.abs(changed[:, 1:] * 4 - [9, 70]).max() <= 24
    assert [0, 2, 17] in changed.tolist()


def test_the_card_comes_back(file: Path):
    """With the hash of the weights."""
    assert Eyes(file).card.model_copy(update={"sha256": ""}) == CARD


def without(name: str) -> Callable[[dict[str, np.ndarray]], object]:
    """An array less."""
    return lambda arrays: arrays.pop(name)


def other(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], object]:
    """An array is another."""
    return lambda arrays: arrays.update({name: change(arrays[name])})


def nan(array: np.ndarray) -> np.ndarray:
    """The last number is none."""
    array.flat[-1] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (other("weight2", nan), "not finite"),
        (other("bias4", lambda bias: bias * np.inf), "not finite"),
        (without("bias3"), "no array bias3"),
        (other("weight0", lambda weight: weight.transpose(3, 2, 0, 1)), "layers"),
        (other("weight1", lambda weight: weight[:, :, :-1]), "layers"),
        (other("bias1", lambda bias: bias[:-1]), "layers"),
        (other("bias1", lambda bias: bias[:, None]), "layers"),
        (other("bias4", lambda bias: bias[0]), "layers"),
        (lambda arrays: arrays.update(weight4=np.ones((3, 3, 24, 2)), bias4=np.ones(2)), "layers"),
        (lambda a: a.update(weight0=a["weight0"][..., :0], bias0=np.ones(0), weight1=a["weight1"][:, :, :0]), "layers"),
        (other("weight1", lambda weight: weight.astype(complex)), "complex"),
        (other("weight1", lambda weight: np.zeros((3, 3, 300_000))), "bytes of arrays"),
    ],
)
def test_other_arrays_are_refused(file: Path, change: Callable[[dict[str, np.ndarray]], object], found: str):
    """With the file's name and what to do."""
    written(file, change)
    with pytest.raises(SimError, match=found) as error:
        Eyes(file)
    assert error.value.file == str(file)
    assert "train find" in error.value.remedy


def test_arrays_of_objects_are_refused(file: Path):
    """Nothing of them is loaded."""
    arrays = network().arrays()
    with file.open("wb") as opened:
        np.savez(opened, **(arrays | {"bias0": np.array([{}], object)}))
    hashed(file)
    with pytest.raises(SimError, match="object"):
        Eyes(file)


def hashed(file: Path) -> None:
    """Let the card fit the file."""
    import hashlib

    card = json.loads(file.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    file.with_suffix(".json").write_text(json.dumps(card))


@pytest.mark.parametrize("size", [0, 1, 30, 2000, -1, -40])
def test_damaged_files_are_refused(file: Path, size: int):
    """Cut anywhere: by their hash, and where the card fits them, too."""
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(SimError, match="hash"):
        Eyes(file)
    hashed(file)
    with pytest.raises(SimError, match=r"npz|bytes"):
        Eyes(file)


def test_a_bit_is_noticed(file: Path):
    """Anywhere."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(SimError, match="hash"):
        Eyes(file)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_huge_and_missing_files_are_refused(file: Path, suffix: str):
    """Before they are read; and a folder in their place."""
    one = file.with_suffix(suffix)
    with one.open("r+b") as opened:
        opened.truncate(MAX_BYTES + 1)
    with pytest.raises(SimError, match="more than"):
        Eyes(file)
    one.unlink()
    with pytest.raises(SimError, match="No such file"):
        Eyes(file)
    one.mkdir()
    with pytest.raises(SimError, match="folder"):
        Eyes(file)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "splatyard.eyes.2"},
        {"width": 0},
        {"focal": -3.0},
        {"focal": "wide"},
        {"scenes": None},
        {"more": 1},
        {"sha256": 3},
    ],
)
def test_other_cards_are_refused(file: Path, change: dict[str, object]):
    """Of another format, with numbers that can't be, or more than there should be."""
    card = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | change))
    with pytest.raises(SimError, match="validation error"):
        Eyes(file)
    file.with_suffix(".json").write_bytes(b"[" * 5000 + b"\xff")
    with pytest.raises(SimError, match="validation error"):
        Eyes(file)


@pytest.mark.parametrize(
    "lens",
    [
        Camera(96, 50, 27.7, 27.7, 48.0, 24.0),
        Camera(64, 48, 27.7, 27.7, 48.0, 24.0),
        Camera(96, 48, 32.0, 32.0, 48.0, 24.0),
        Camera(96, 48, 26.9, 26.9, 48.0, 24.0),
    ],
)
def test_another_lens_is_refused(file: Path, lens: Camera):
    """Of another size or focal length; a hair's breadth is none."""
    eyes = Eyes(file)
    eyes.check_lens(Camera(96, 48, 27.9, 27.9, 47.0, 24.0))
    with pytest.raises(SimError, match=f"{lens.width} x {lens.height} pixels"):
        eyes.check_lens(lens)
