"""scenes.lock: the same bytes next year, for whoever simulates or trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import Bundle
from pipeline.errors import BundleError, MissingBundleError
from pipeline.publish.publishing import publish
from pipeline.publish.pulling import pull
from pipeline.scenes.manifest import file_sha256
from pipeline.scenes.resolver import ADDRESS_VARIABLE, LOCK_FILE, find_locked, find_scenes, read_lock, write_pin
from pipeline.scenes.store_registry import StoreRegistry
from sim.scene.opening import open_scene


@pytest.fixture
def place(yard, room_bundles, tmp_path, monkeypatch) -> StoreRegistry:
    """A registry with room 1.0.0, where the environment says, and an empty working folder."""
    publish(Bundle.open(room_bundles["1.0.0"]), yard)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(tmp_path / "bundles"))
    monkeypatch.setenv(ADDRESS_VARIABLE, yard.address)
    return yard


def test_simulations_take_what_is_locked(place, room_bundles):
    """Newer versions don't change what `sim` opens and `train` finds, until it is pinned anew."""
    pin = write_pin("room@^1.0")
    assert (pin.bundle, pin.commit) == (f"{place.address}/room@1.0.0", "")
    assert pin.sha256 == file_sha256(room_bundles["1.0.0"] / "bundle.json")
    publish(Bundle.open(room_bundles["1.0.1"]), place)
    assert Bundle.open("room@^1.0").manifest.version == "1.0.1"
    assert open_scene("room@^1.0").lock.reference == "room@1.0.0"
    assert find_scenes(["room@^1.0"]) == [pin.bundle]
    assert find_scenes(["room@1.0"]) == [f"{place.address}/room@1.0.1"]
    write_pin("room@^1.0")
    assert open_scene("room@^1.0").lock.reference == "room@1.0.1"
    assert len(read_lock().scenes) == 1


def test_a_name_alone_is_its_latest(place):
    """Pinned as hall, found as hall@latest, with and without the address as it was written."""
    write_pin("room")
    assert read_lock().pin("room@latest") is not None
    assert read_lock().pin("room@1") is None
    assert read_lock().pin("Some Folder") is None


def test_local_bytes_are_taken_if_they_are_the_same(place, room_bundles, tmp_path):
    """What was pulled is used without the registry; a local bundle with other bytes isn't."""
    write_pin("room")
    pulled = pull(Bundle.open("room"), tmp_path / "bundles")
    assert find_locked("room").root == pulled
    manifest = pulled / "bundle.json"
    content = manifest.read_text()
    manifest.unlink()
    manifest.write_text(content + "\n")
    assert "cache" in find_locked("room").root.parts


def test_changed_bytes_are_refused(place):
    """Somebody who can write into the registry changes a version: what was locked with other bytes doesn't open."""
    write_pin("room")
    path = Path(place.store.root) / "scenes" / "room" / "1.0.0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "parents": ["evil@1.0.0"]}))
    with pytest.raises(BundleError, match="has the bytes that it was locked with"):
        open_scene("room")


@pytest.mark.parametrize("content", ["", "{", '{"scenes": 1}', '{"format_version": 2}'])
def test_a_damaged_lock_is_told(place, content):
    """And not taken for an empty one."""
    LOCK_FILE.write_text(content)
    for use in (open_scene, write_pin, lambda name: find_scenes([name])):
        with pytest.raises(BundleError, match="--lock"):
            use("room")


def test_scenes_of_a_registry_by_range(place):
    """`train` takes addresses too, exact from then on; what is nowhere is an error."""
    assert find_scenes([f"{place.address}/room@1"]) == [f"{place.address}/room@1.0.0"]
    with pytest.raises(BundleError, match="no 7 of room"):
        find_scenes(["room@7"])
    with pytest.raises(MissingBundleError):
        find_scenes(["kitch*"])
