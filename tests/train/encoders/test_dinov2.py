"""The frozen network, with random weights: those that were learned don't belong into tests."""

from __future__ import annotations

import socket
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from train.encoders import dinov2
from train.encoders.dinov2 import FILE, REPOSITORY, Dinov2, FeatureNetwork
from train.encoders.groups import FrozenFeatures

IMAGE = (48, 64)


@pytest.fixture(scope="module")
def network() -> Dinov2:
    """With 22 million random weights."""
    torch.manual_seed(1)
    return Dinov2(IMAGE, pretrained=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def images(count: int) -> torch.Tensor:
    """Colours (B, 3, 48, 64)."""
    return torch.randint(0, 256, (count, 3, *IMAGE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def put(cache: Path, content: bytes) -> None:
    """Weights, as `hf download` lays them."""
    folder, commit = cache / f"models--{REPOSITORY.replace('/', '--')}", "1" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / FILE).write_bytes(content)


def test_never_learns(network: Dinov2):
    """Whoever trains what it is part of: no mode, no gradient, no weight that an optimiser would take."""
    torch.nn.Sequential(network).train()
    assert not any(module.training for module in network.modules())
    assert not any(weights.requires_grad for weights in network.parameters())
    assert not network(images(1)).requires_grad


def test_each_image_by_itself(network: Dinov2):
    """A grid of features as wide as the image, whatever else is in the batch."""
    together = network(images(3))
    assert together.shape == (3, *network.features) == (3, 384, 6, 8)
    torch.testing.assert_close(together[2:], network(images(3)[2:]), rtol=1e-3, atol=1e-4)


def test_the_grid_lies_as_the_image_does(network: Dinov2):
    """What changes in the upper right corner is told in the grid's upper right corner most."""
    plain = torch.full((1, 3, *IMAGE), 90, dtype=torch.uint8)
    other = plain.clone()
    other[..., :8, -8:] = 250
    change = (network(other) - network(plain)).norm(dim=1)[0]
    assert divmod(int(change.argmax()), 8) == (0, 7)


def test_colours_come_as_it_was_trained(network: Dinov2, monkeypatch: pytest.MonkeyPatch):
    """Red first, ImageNet's mean and deviation, 14 pixels a patch."""
    given = []
    forward = network.network.forward_features
    monkeypatch.setattr(network.network, "forward_features", lambda x: forward(given.append(x) or x))
    network(torch.tensor([200, 100, 50], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, *IMAGE))
    assert given[0].shape == (1, 3, 84, 112)
    expected = [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(given[0].mean((0, 2, 3)), torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert given[0].std((2, 3)).max() < 1e-4


def test_the_sense_reads_images_once_and_keeps_no_gradient(network: Dinov2):
    """Channels last in, features of the network out."""
    sense = FrozenFeatures(network)
    seen = {"rgb": np.ascontiguousarray(images(2).permute(0, 2, 3, 1).numpy())}
    read = sense.read(None, seen)  # type: ignore[arg-type]
    assert (read.dtype, read.requires_grad) == (torch.float32, False)
    torch.testing.assert_close(read, network(images(2)), rtol=1e-3, atol=1e-4)


def test_what_is_learned_on_top_tells_places_apart():
    """The same feature elsewhere gives other numbers; all weights learn."""
    torch.manual_seed(0)
    network = FeatureNetwork((384, 6, 8))
    features = torch.zeros(2, 384, 6, 8)
    features[0, 5, 2, 1] = features[1, 5, 2, 6] = 3
    out = network(features)
    assert out.shape == (2, network.size)
    assert (out[0] - out[1]).abs().max() > 1e-3
    out.square().sum().backward()
    assert all(weights.grad is not None and weights.grad.abs().max() > 0 for weights in network.parameters())


def test_weights_that_are_not_there_are_an_error_with_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """At once: no network is asked."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    with pytest.raises(TrainError, match=f"hf download {REPOSITORY} {FILE}") as error:
        Dinov2(IMAGE)
    assert error.value.file == str(cache)


def test_damaged_weights_are_an_error_with_the_command(cache: Path):
    """A download that was cut off."""
    put(cache, b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(TrainError, match="--force-download"):
        Dinov2(IMAGE)


def test_weights_come_from_the_cache(cache: Path):
    """As they lie there, for images of 518 x 518; places are fitted to the smaller ones."""
    import timm
    from safetensors.torch import save

    torch.manual_seed(9)
    whole = timm.create_model(dinov2.MODEL, num_classes=0)
    put(cache, save(whole.state_dict()))
    loaded = Dinov2(IMAGE).network
    torch.testing.assert_close(loaded.blocks[7].attn.qkv.weight, whole.blocks[7].attn.qkv.weight)
    assert whole.pos_embed.shape == (1, 37 * 37 + 1, 384)
    assert loaded.pos_embed.shape == (1, 6 * 8 + 1, 384)
    torch.testing.assert_close(loaded.pos_embed.mean(1), whole.pos_embed.mean(1), atol=5e-3, rtol=0)
