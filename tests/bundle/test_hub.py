"""Bundles from the hub, through the real client, against a hub on the loopback."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub
import huggingface_hub.constants
import pytest

from pipeline.bundle.bundle import Bundle
from pipeline.errors import BundleError, MachineError
from sim.scene import open_scene
from tests.bundles import make_bundle
from tests.synthetic import Room

COMMIT = "7d" * 20
HALL = "hf://owner/scenes/room@1.0.0"


@dataclass
class Hub:
    """A dataset repository owner/scenes: what is in it now, what was at earlier commits, and what was downloaded."""

    folder: Path
    commit: str = COMMIT
    earlier: dict[str, Path] = field(default_factory=dict)
    downloaded: list[str] = field(default_factory=list)

    def rewrite_manifest(self, **changes: object) -> None:
        """Change keys of the manifest that it serves."""
        path = self.folder / "room" / "1.0.0" / "bundle.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Handler(BaseHTTPRequestHandler):
    """Answers /datasets/owner/scenes/resolve/<main or commit>/<path>."""

    hub: Hub

    def do_HEAD(self) -> None:
        """Headers only."""
        self.answer(with_body=False)

    def do_GET(self) -> None:
        """Headers and content."""
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        """What the hub's server says of a file: its commit, a tag and its size."""
        start, _, rest = unquote(self.path).partition("/resolve/")
        revision, _, name = rest.partition("/")
        folders = {**self.hub.earlier, "main": self.hub.folder, self.hub.commit: self.hub.folder}
        path = folders.get(revision, self.hub.folder) / name
        missing = "" if path.is_file() else "EntryNotFound"
        if start != "/datasets/owner/scenes" or revision not in folders:
            missing = "RepoNotFound"
        data = b"" if missing else path.read_bytes()
        self.send_response(404 if missing else 200)
        if missing:
            self.send_header("X-Error-Code", missing)
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body and not missing:
            self.hub.downloaded.append(name)
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The tiny bundle on a hub that the client believes to be the real one."""
    served = Hub(tmp_path / "served")
    make_bundle(served.folder, room)
    handler = type("OfThisHub", (Handler,), {"hub": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    point_at(server.server_port, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def point_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does for a process that starts."""
    constants, address = huggingface_hub.constants, f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_only_what_is_simulated_comes_over(hub: Hub):
    """The scene is the local one's, its lock names commit and manifest, and nothing else was downloaded."""
    scene, local = open_scene(HALL), open_scene(hub.folder / "room" / "1.0.0")
    manifest = (hub.folder / "room" / "1.0.0" / "bundle.json").read_bytes()
    assert (scene.lock.reference, scene.lock.commit) == ("room@1.0.0", COMMIT)
    assert scene.lock.sha256 == hashlib.sha256(manifest).hexdigest() == local.lock.sha256
    assert local.lock.commit == ""
    assert (scene.collision.vertices == local.collision.vertices).all()
    assert (scene.gaussians.means == local.gaussians.means).all()
    assert scene.regions.spawn_poses == local.regions.spawn_poses
    names = {"bundle.json", "collision.ply", "sim.ply", "regions.json", "walkable.npz"}
    assert sorted(hub.downloaded) == sorted(f"room/1.0.0/{name}" for name in names)


def test_files_are_fetched_once_and_again_when_they_are_spoilt(hub: Hub):
    """A second run takes what is there; a file that no longer has its hash is brought again."""
    path = Bundle.open(HALL).path("mesh.ply")
    good = path.read_bytes()
    assert COMMIT in path.parts
    hub.downloaded.clear()
    Bundle.open(HALL).path("mesh.ply")
    assert hub.downloaded == ["room/1.0.0/bundle.json"]
    path.write_bytes(good[:-1] + b"?")
    assert Bundle.open(HALL).path("mesh.ply").read_bytes() == good


def test_whole_bundle_is_verified(hub: Hub):
    """`verify` brings everything and finds nothing wrong."""
    assert Bundle.open(HALL).verify() == []
    assert "room/1.0.0/web.sog" in hub.downloaded


def test_commit_is_kept_while_the_branch_moves(hub: Hub, tmp_path: Path):
    """All files of an opened bundle are from one commit; what main points at later is another place."""
    old = Bundle.open(HALL)
    hub.earlier = {COMMIT: Path(shutil.copytree(hub.folder, tmp_path / "earlier"))}
    hub.commit = "ab" * 20
    (hub.folder / "room" / "1.0.0" / "mesh.ply").write_bytes(b"another")
    assert old.mesh().vertices.shape == Bundle.open(tmp_path / "earlier" / "room" / "1.0.0").mesh().vertices.shape
    new = Bundle.open(HALL)
    assert (new.commit, old.commit) == ("ab" * 20, COMMIT)
    assert new.path("sim.ply") != old.path("sim.ply")


def test_file_that_differs_from_the_manifest_is_refused(hub: Hub):
    """Of the same size with another byte, and of another size, which isn't even fetched."""
    path = hub.folder / "room" / "1.0.0" / "collision.ply"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(BundleError, match="differs from its hash"):
        Bundle.open(HALL).mesh("collision")
    path.write_bytes(good + b"more")
    hub.downloaded.clear()
    with pytest.raises(BundleError, match=f"{len(good) + 4} bytes on the hub instead of {len(good)}"):
        Bundle.open(HALL).mesh("collision")
    assert hub.downloaded == ["room/1.0.0/bundle.json"]


def test_manifest_that_names_a_path_outside_is_refused(hub: Hub, tmp_path: Path):
    """Before anything of it is written."""
    (tmp_path / "served" / "outside").write_text("x")
    hub.rewrite_manifest(files={"../../outside": {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}})
    with pytest.raises(BundleError, match=r"docs/bundle\.md"):
        Bundle.open(HALL)
    assert not list((tmp_path / "home").rglob("outside"))


def test_manifest_of_another_bundle_is_refused(hub: Hub):
    """A folder must hold what its name says."""
    shutil.copytree(hub.folder / "room" / "1.0.0", hub.folder / "room" / "1.0.1")
    with pytest.raises(BundleError, match=r"room@1\.0\.0 in room/1\.0\.1"):
        Bundle.open("hf://owner/scenes/room@1.0.1")


@pytest.mark.parametrize(
    "reference",
    ["hf://owner/scenes/room", "hf://owner/room@1.0.0", "hf://owner/../scenes/room@1.0.0", "hf://room@1.0.0"],
)
def test_odd_references_are_refused(hub: Hub, reference: str):
    """Before anybody is asked."""
    with pytest.raises(BundleError, match=r"hf://owner/repository/name@version"):
        Bundle.open(reference)


@pytest.mark.parametrize("reference", ["hf://owner/scenes/room@9.0.0", "hf://nobody/scenes/room@1.0.0"])
def test_missing_is_told(hub: Hub, reference: str):
    """A version or a repository that isn't there."""
    with pytest.raises(BundleError, match="check owner, repository, name and version"):
        Bundle.open(reference)


def test_without_network_the_error_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    """Nobody listens; or the client was told to stay offline."""
    with monkeypatch.context() as closed:
        point_at(1, closed)
        with pytest.raises(MachineError, match="needs the network"):
            Bundle.open(HALL)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="needs the network"):
        Bundle.open(HALL)
    assert hub.downloaded == []
