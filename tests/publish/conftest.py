"""Registries in a folder and in a bucket, and bundles to put there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.scenes.files import CACHE_VARIABLE
from pipeline.scenes.resolver import ADDRESS_VARIABLE, open_registry
from pipeline.scenes.store_registry import StoreRegistry
from tests.bundles import make_bundle
from tests.publish.variants import PAGE, variant


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    """A cache of its own, and no registry of the machine's."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)


@pytest.fixture(scope="session")
def room_bundles(tmp_path_factory, room) -> dict[str, Path]:
    """One place: as it is (1.0.0), with another page (1.0.1), splat (1.1.0) and mesh (2.0.0), and failing (1.0.0)."""
    root = tmp_path_factory.mktemp("bundles")
    first = make_bundle(root, room)
    splat = (first / "splat.ply").read_bytes()
    mesh = (first / "mesh.ply").read_bytes()
    return {
        "1.0.0": first,
        "1.0.1": variant(first, root, "1.0.1", files={PAGE: b"another page"}),
        "1.1.0": variant(first, root, "1.1.0", files={"splat.ply": splat[:-1] + bytes([splat[-1] ^ 1])}),
        "2.0.0": variant(first, root, "2.0.0", files={"mesh.ply": mesh[:-1] + bytes([mesh[-1] ^ 1])}),
        "failing": make_bundle(root / "failing", room, failing=True),
    }


@pytest.fixture
def yard(tmp_path) -> StoreRegistry:
    """An empty registry in a folder."""
    return open_registry(str(tmp_path / "yard"), create=True)


@pytest.fixture(params=["folder", "bucket"])
def registry(request) -> StoreRegistry:
    """An empty registry: in a folder, then in a bucket."""
    if request.param == "bucket":
        return open_registry(request.getfixturevalue("bucket"))
    return request.getfixturevalue("yard")
