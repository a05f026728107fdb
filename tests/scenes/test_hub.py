"""Bundles from the hub, through the real client, against a hub on the loopback."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import huggingface_hub.constants
import pytest

from pipeline.errors import BundleError, MachineError
from pipeline.scenes.bundle import Bundle
from sim.scene.opening import open_scene
from tests.bundles import make_bundle
from tests.fake_hub import SECRETS, STRANGER, Hub, point_at
from tests.synthetic import Room

HALL = "hf://owner/scenes/room@1.0.0"
MANIFEST = "room/1.0.0/bundle.json"


@pytest.fixture
def local(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle, and an empty cache."""
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    return make_bundle(tmp_path / "local", room)


@pytest.fixture
def served(hub: Hub, local: Path) -> Hub:
    """A hub that has it, put there by hand."""
    hub.fill(local)
    return hub


def downloaded(hub: Hub) -> set[str]:
    """Files of the bundle whose content was asked for; that of large ones is asked for elsewhere, by its hash."""
    names = {one.rpartition("/room/1.0.0/")[2] for one in hub.asked("^GET .*/resolve/.*/room/")}
    hashes = {one.rpartition("/")[2] for one in hub.asked("^GET /lfs/")}
    files = hub.repository().head.files.items()
    return names | {path.removeprefix("room/1.0.0/") for path, digest in files if digest in hashes}


def rewrite_manifest(hub: Hub, **changes: object) -> None:
    """Change keys of the manifest on the hub."""
    content = json.loads(hub.read(MANIFEST)) | changes
    hub.change("owner/scenes", MANIFEST, json.dumps(content).encode())


def test_only_what_is_simulated_comes_over(served: Hub, local: Path):
    """The scene is the local one's, its lock names commit and manifest, and nothing else was downloaded."""
    scene, here = open_scene(HALL), open_scene(local)
    manifest = (local / "bundle.json").read_bytes()
    assert (scene.lock.reference, scene.lock.commit) == ("room@1.0.0", served.repository().head.oid)
    assert scene.lock.sha256 == hashlib.sha256(manifest).hexdigest() == here.lock.sha256
    assert here.lock.commit == ""
    assert (scene.collision.vertices == here.collision.vertices).all()
    assert (scene.gaussians.means == here.gaussians.means).all()
    assert scene.regions.spawn_poses == here.regions.spawn_poses
    same = {"mesh.ply", "splat.ply"}  # as collision.ply and sim.ply
    assert downloaded(served) - same == {"bundle.json", "collision.ply", "sim.ply", "regions.json", "walkable.npz"}


def test_files_are_fetched_once_and_again_when_they_are_spoilt(served: Hub):
    """A second run takes what is there; a file that no longer has its hash is brought again."""
    path = Bundle.open(HALL).path("mesh.ply")
    good = path.read_bytes()
    served.requests.clear()
    Bundle.open(HALL).path("mesh.ply")
    assert downloaded(served) == set()
    path.write_bytes(good[:-1] + b"?")
    assert Bundle.open(HALL).path("mesh.ply").read_bytes() == good


def test_whole_bundle_is_verified(served: Hub):
    """`verify` brings everything and finds nothing wrong."""
    assert Bundle.open(HALL).verify() == []
    assert "web.sog" in downloaded(served)


def test_what_does_not_change_is_fetched_once(served: Hub, local: Path):
    """At another commit, the same version's files are those that are kept; what the hub has changed isn't taken."""
    old = Bundle.open(HALL)
    mesh = old.path("mesh.ply")
    served.change("owner/scenes", "room/1.0.0/mesh.ply", b"another")
    new = Bundle.open(HALL)
    assert new.commit == served.repository().head.oid != old.commit
    assert new.path("mesh.ply") == mesh
    assert old.path("splat.ply").read_bytes() == (local / "splat.ply").read_bytes()


def test_commit_is_kept_while_the_branch_moves(served: Hub, local: Path):
    """All files of an opened bundle are from one commit."""
    old = Bundle.open(HALL)
    served.change("owner/scenes", "room/1.0.0/mesh.ply", b"another")
    assert old.path("mesh.ply").read_bytes() == (local / "mesh.ply").read_bytes()


def test_file_that_differs_from_the_manifest_is_refused(served: Hub, local: Path):
    """Of the same size with another byte, and of another size, which isn't even fetched."""
    good = (local / "collision.ply").read_bytes()
    served.change("owner/scenes", "room/1.0.0/collision.ply", good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(BundleError, match="differs from its hash"):
        Bundle.open(HALL).mesh("collision")
    served.change("owner/scenes", "room/1.0.0/collision.ply", good + b"more")
    served.requests.clear()
    with pytest.raises(BundleError, match=f"{len(good) + 4} bytes on the hub instead of {len(good)}"):
        Bundle.open(HALL).mesh("collision")
    assert "collision.ply" not in downloaded(served)


def test_huge_manifest_is_not_fetched(served: Hub):
    """Its size is told before."""
    served.change("owner/scenes", MANIFEST, b" " * (16 * 2**20 + 1))
    with pytest.raises(BundleError, match=r"bundle\.json is small"):
        Bundle.open(HALL)
    assert "bundle.json" not in downloaded(served)


def test_manifest_that_names_a_path_outside_is_refused(served: Hub, tmp_path: Path):
    """Before anything of it is written."""
    rewrite_manifest(served, files={"../../outside": {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}})
    served.change("owner/scenes", "outside", b"x")
    with pytest.raises(BundleError, match=r"docs/bundle\.md"):
        Bundle.open(HALL)
    assert not list(tmp_path.rglob("outside"))


def test_manifest_of_another_bundle_is_refused(served: Hub):
    """A folder must hold what its name says."""
    served.change("owner/scenes", "room/1.0.1/bundle.json", served.read(MANIFEST))
    with pytest.raises(BundleError, match=r"room@1\.0\.0 in room/1\.0\.1"):
        Bundle.open("hf://owner/scenes/room@1.0.1")


@pytest.mark.parametrize(
    "reference",
    ["hf://owner/room@1.0.0", "hf://owner/../scenes/room@1.0.0", "hf://room@1.0.0", "hf://owner/a--b/room@1.0.0"],
)
def test_odd_references_are_refused(served: Hub, reference: str):
    """Before anybody is asked."""
    with pytest.raises(BundleError, match=r"hf://owner/repository"):
        Bundle.open(reference)
    assert served.requests == []


@pytest.mark.parametrize("reference", ["hf://owner/scenes/room@9.0.0", "hf://nobody/scenes/room@1.0.0"])
def test_missing_is_told(served: Hub, reference: str):
    """A version or a repository that isn't there."""
    with pytest.raises(BundleError, match=r"no scene 'room'|check owner, repository, name and version"):
        Bundle.open(reference)


@pytest.mark.parametrize("token", [STRANGER, ""])
def test_what_is_private_isnt_there_for_strangers(served: Hub, monkeypatch: pytest.MonkeyPatch, token: str):
    """With a token of somebody else, and with none; none of them shows."""
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(BundleError, match="a private one needs `hf auth login`") as told:
        Bundle.open(HALL)
    assert not any(secret in str(told.value) for secret in SECRETS)


def test_gated_is_told(served: Hub, monkeypatch: pytest.MonkeyPatch):
    """Everybody sees that it is there, and only who was let in gets its files."""
    served.repository().private, served.repository().gated = False, True
    assert Bundle.open(HALL).manifest.name == "room"
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    with pytest.raises(BundleError, match="ask for access on its page"):
        Bundle.open(HALL)


def test_without_network_the_error_says_so(served: Hub, monkeypatch: pytest.MonkeyPatch):
    """Nobody listens; or the client was told to stay offline."""
    with monkeypatch.context() as closed:
        point_at(1, closed)
        with pytest.raises(MachineError, match="needs the network"):
            Bundle.open(HALL)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="needs the network"):
        Bundle.open(HALL)
    assert served.requests == []
