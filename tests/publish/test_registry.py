"""A registry in a folder and in a bucket: what goes in comes out, and nothing else does."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import Bundle
from pipeline.errors import BundleError, MachineError
from pipeline.publish.publishing import publish, yank
from pipeline.publish.pulling import pull
from pipeline.scenes.manifest import file_sha256
from pipeline.scenes.references import Reference
from pipeline.scenes.resolver import ADDRESS_VARIABLE, open_registry
from pipeline.scenes.store_registry import GRACE, StoreRegistry
from tests.publish.variants import PAGE, variant


def put(registry: StoreRegistry, *folders: Path) -> None:
    for folder in folders:
        publish(Bundle.open(folder), registry)


def root_of(registry: StoreRegistry) -> Path:
    return Path(registry.store.root)


def names(registry: StoreRegistry) -> list[str]:
    return [entry.reference for entry in registry.summaries()]


def test_what_is_published_comes_back(registry, room_bundles, tmp_path):
    """By its address through `Bundle.open`, every file; only what is asked for comes over; then whole into a folder."""
    folder = room_bundles["1.0.0"]
    done = publish(Bundle.open(folder), registry)
    assert done.new
    assert done.sent_bytes + done.shared_bytes == sum(
        {entry.sha256: entry.bytes for entry in Bundle.open(folder).manifest.files.values()}.values()
    )
    bundle = Bundle.open(done.reference)
    assert file_sha256(bundle.root / "bundle.json") == file_sha256(folder / "bundle.json") == done.sha256
    assert (bundle.mesh("collision").vertices == Bundle.open(folder).mesh("collision").vertices).all()
    kept = {path.name for path in bundle.root.rglob("*") if path.is_file()}
    assert kept == {"bundle.json", "collision.ply"}
    pulled = pull(bundle, tmp_path / "out")
    assert pulled == tmp_path / "out" / "room" / "1.0.0"
    assert Bundle.open(pulled).verify() == []
    assert pull(bundle, tmp_path / "out") == pulled
    assert not [path for path in (tmp_path / "out" / "room").iterdir() if path.name != "1.0.0"]


def test_versions_share_their_files(registry, room_bundles):
    """Of a version with one changed file that file alone is sent; publishing again sends nothing."""
    first = publish(Bundle.open(room_bundles["1.0.0"]), registry)
    second = publish(Bundle.open(room_bundles["1.0.1"]), registry)
    assert (second.sent, second.sent_bytes, second.change) == (1, len(b"another page"), "patch")
    assert len(registry.store.names("blobs")) == first.sent + 1
    again = publish(Bundle.open(room_bundles["1.0.1"]), registry)
    assert (again.new, again.sent) == (False, 0)
    assert registry.problems() == []


def test_latest_and_ranges(registry, room_bundles):
    """They mean the newest that fits; what there is is told when nothing does."""
    put(registry, *(room_bundles[version] for version in ("1.0.0", "1.0.1", "1.1.0", "2.0.0")))
    for wanted, version in (("latest", "2.0.0"), ("1", "1.1.0"), ("^1.0.1", "1.1.0"), ("1.0", "1.0.1")):
        assert Bundle.open(f"{registry.address}/room@{wanted}").manifest.version == version
    with pytest.raises(BundleError, match=r"no 3 of room; there is 1\.0\.0, 1\.0\.1, 1\.1\.0, 2\.0\.0"):
        Bundle.open(f"{registry.address}/room@3")
    with pytest.raises(BundleError, match=r"no scene 'rom'\n.*did you mean room\?"):
        Bundle.open(f"{registry.address}/rom")


def test_yanked_is_passed_over_but_opens(registry, room_bundles, caplog):
    """By lists and ranges; by its exact version it comes with a warning that says why."""
    put(registry, room_bundles["1.0.0"], room_bundles["1.0.1"])
    yank(registry, Reference.parse("room@1.0.1"), "its page is wrong")
    assert Bundle.open(f"{registry.address}/room").manifest.version == "1.0.0"
    assert {entry.version: entry.yanked for entry in registry.summaries()} == {
        "1.0.0": None,
        "1.0.1": "its page is wrong",
    }
    with caplog.at_level(logging.WARNING):
        assert Bundle.open(f"{registry.address}/room@1.0.1").manifest.version == "1.0.1"
    assert "was yanked: its page is wrong" in caplog.text
    with pytest.raises(BundleError, match="was yanked: its page is wrong"):
        yank(registry, Reference.parse("room@1.0.1"), "another reason")
    with pytest.raises(BundleError, match="a yanked version stays yanked"):
        put(registry, room_bundles["1.0.1"])
    yank(registry, Reference.parse("room@1.0.0"), "this too")
    with pytest.raises(BundleError, match=r"1\.0\.0 \(yanked\), 1\.0\.1 \(yanked\)"):
        Bundle.open(f"{registry.address}/room")


@pytest.mark.parametrize(("text", "why"), [("room", "reason"), ("room@1", "reason"), ("room@1.0.0", "  ")])
def test_a_yank_names_one_version_and_a_reason(yard, room_bundles, text, why):
    """Not a range, and not nothing."""
    put(yard, room_bundles["1.0.0"])
    with pytest.raises(BundleError, match="a yank names one version"):
        yank(yard, Reference.parse(text), why)


def test_a_version_never_changes(registry, room_bundles, tmp_path):
    """Other bytes under the same version are refused, and what was there stays."""
    put(registry, room_bundles["1.0.0"])
    other = variant(room_bundles["1.0.0"], tmp_path, "1.0.0", files={PAGE: b"changed"})
    with pytest.raises(BundleError, match=r"a published version never changes(.|\n)*--version 1\.0\.1"):
        put(registry, other)
    assert Bundle.open(f"{registry.address}/room").path(PAGE).read_bytes() != b"changed"


def test_somebody_was_first(registry, room_bundles, tmp_path, monkeypatch):
    """The other's version shows between looking and writing: the writing itself doesn't replace it."""
    other = variant(room_bundles["1.0.0"], tmp_path, "1.0.0", files={PAGE: b"changed"})
    create = type(registry.store).create

    def late(store, name, content):
        if name.endswith("1.0.0.json"):
            assert create(store, name, (other / "bundle.json").read_bytes())
        return create(store, name, content)

    monkeypatch.setattr(type(registry.store), "create", late)
    with pytest.raises(BundleError, match="a published version never changes"):
        put(registry, room_bundles["1.0.0"])
    assert registry.manifest("room", next(iter(registry.versions("room"))))[1] == (other / "bundle.json").read_bytes()


def test_the_number_is_checked_against_both_neighbours(yard, room_bundles, tmp_path):
    """A new mesh as a minor version is refused; so is an older version whose mesh its newer patch hasn't."""
    put(yard, room_bundles["1.1.0"])
    mesh = (room_bundles["2.0.0"] / "mesh.ply").read_bytes()
    for version in ("1.2.0", "1.0.5"):
        with pytest.raises(BundleError, match=r"mesh\.ply changed"):
            put(yard, variant(room_bundles["1.1.0"], tmp_path, version, files={"mesh.ply": mesh}))
    assert names(yard) == ["room@1.1.0"]


def test_failing_gates_are_refused_unless_allowed(yard, room_bundles):
    """And then every list shows them."""
    bundle = Bundle.open(room_bundles["failing"])
    with pytest.raises(BundleError, match=r"fails scale(.|\n)*--allow-failed"):
        publish(bundle, yard)
    assert names(yard) == []
    publish(bundle, yard, allow_failed=True)
    assert yard.summaries()[0].failed_gates == ("scale",)


def test_a_licence_that_forbids_is_refused(yard, room_bundles, tmp_path):
    """An unknown one everywhere, a closed one where everybody reads."""
    unknown = variant(room_bundles["1.0.0"], tmp_path / "u", "1.0.0", provenance={"licence": "unknown"})
    closed = variant(room_bundles["1.0.0"], tmp_path / "c", "1.0.0", provenance={"licence": "CC-BY-ND-4.0"})
    with pytest.raises(BundleError, match="under which licence"):
        put(yard, unknown)
    with pytest.raises(BundleError, match="forbids to pass on"):
        publish(Bundle.open(closed), yard, public=True)
    assert not yard.store.names("blobs")
    put(yard, closed)
    assert yard.summaries()[0].licence == "CC-BY-ND-4.0"


def spoil(folder: Path, how: str) -> None:
    """Change a bundle after it was built."""
    if how == "another byte":
        content = (folder / "sim.ply").read_bytes()
        (folder / "sim.ply").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "one more file":
        (folder / "extra.txt").write_text("x")
    elif how == "a missing file":
        (folder / "web.sog").unlink()
    else:
        (folder / "mesh.ply").rename(folder.parent / "elsewhere")
        (folder / "mesh.ply").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize("how", ["another byte", "one more file", "a missing file", "a link"])
def test_a_bundle_changed_after_its_build_is_refused(yard, room_bundles, tmp_path, how):
    """Nothing of it is sent."""
    folder = Path(shutil.copytree(room_bundles["1.0.0"], tmp_path / "room"))
    spoil(folder, how)
    with pytest.raises(BundleError, match="as it was built"):
        put(yard, folder)
    assert not yard.store.names("blobs")


def test_a_verdict_that_is_not_the_metrics_is_refused(yard, room_bundles, tmp_path):
    """A failing bundle whose manifest was made to say that all is well, with right hashes."""
    forged = variant(room_bundles["failing"], tmp_path, "1.0.0", quality_passed=True, failed_gates=[])
    with pytest.raises(BundleError, match="fail are none, but by its metrics scale"):
        put(yard, forged)


def a_zip(path: Path, name: str, content: bytes) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["pickle", "in a zip", "array of objects"])
def test_pickles_are_refused(yard, room_bundles, tmp_path, kind):
    """Under whatever name, with right hashes."""
    evil = pickle.dumps({"a": 1})
    if kind == "in a zip":
        evil = a_zip(tmp_path / "z", "data/x", evil)
    if kind == "array of objects":
        np.savez(tmp_path / "a.npz", a=np.array([{"a": 1}], dtype=object))
        evil = (tmp_path / "a.npz").read_bytes()
    folder = variant(room_bundles["1.0.0"], tmp_path, "1.0.0", files={"images/view_0.jpg": evil})
    with pytest.raises(BundleError, match=r"images/view_0\.jpg: holds a pickle"):
        put(yard, folder)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"files": {"../../outside": {"bytes": 1, "sha256": "0" * 64}}}, "docs/bundle.md"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "docs/bundle.md"),
        ({"files": {"mesh.ply": {"bytes": 2**60, "sha256": "0" * 64}}}, "docs/bundle.md"),
        ({"name": "<script>"}, "docs/bundle.md"),
        ({"name": "kitchen"}, "lies under its name and version"),
        ({"version": "9.0.0"}, "lies under its name and version"),
        ({"format_version": 99}, "upgrade"),
    ],
)
def test_hostile_manifests_in_a_registry(yard, room_bundles, tmp_path, caplog, change, found):
    """Opening one is an error, lists leave it out and say so, and `verify` names it; nothing is written outside."""
    put(yard, room_bundles["1.0.0"], room_bundles["1.0.1"])
    path = root_of(yard) / "scenes" / "room" / "1.0.1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    (root_of(yard) / "index.json").unlink()
    with pytest.raises(BundleError, match=found):
        Bundle.open(f"{yard.address}/room@1.0.1")
    assert names(yard) == ["room@1.0.0"]
    assert "room@1.0.1 is left out" in caplog.text
    assert [problem for problem in yard.problems() if "room/1.0.1.json" in problem]
    assert not list(tmp_path.rglob("outside"))
    with pytest.raises(BundleError):
        yard.clear_unused()


@pytest.mark.parametrize("how", ["byte", "size", "gone"])
def test_damaged_blobs_are_never_taken(registry, room_bundles, how):
    """Neither opened nor overlooked; publishing the version again brings them back."""
    put(registry, room_bundles["1.0.0"])
    entry = Bundle.open(room_bundles["1.0.0"]).manifest.files["sim.ply"]
    content = (room_bundles["1.0.0"] / "sim.ply").read_bytes()
    if how == "gone":
        registry.store.remove(f"blobs/{entry.sha256}")
    else:
        bad = content + b"more" if how == "size" else content[:-1] + bytes([content[-1] ^ 1])
        registry.store.write(f"blobs/{entry.sha256}", bad)
    with pytest.raises(BundleError, match=r"differs from its hash|not \d+|missing"):
        Bundle.open(f"{registry.address}/room").path("sim.ply")
    (problem,) = registry.problems()
    assert entry.sha256 in problem
    assert "used by room@1.0.0" in problem
    assert publish(Bundle.open(room_bundles["1.0.0"]), registry).sent == 1
    assert registry.problems() == []
    assert Bundle.open(f"{registry.address}/room").path("sim.ply").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b'{"entries": [{"name": "../x"}]}', b"[]"])
def test_the_index_is_never_the_truth(registry, room_bundles, content):
    """Damaged, it is made anew; without it all is there."""
    put(registry, room_bundles["1.0.0"])
    registry.store.write("index.json", content)
    assert names(registry) == ["room@1.0.0"]
    registry.store.remove("index.json")
    assert names(registry) == ["room@1.0.0"]
    put(registry, room_bundles["1.0.1"])
    assert len(registry.indexed()) == 2


def test_an_index_that_lies_is_found(yard, room_bundles):
    """A red version made green in the list, and one that isn't there."""
    publish(Bundle.open(room_bundles["failing"]), yard, allow_failed=True)
    path = root_of(yard) / "index.json"
    told = json.loads(path.read_text())
    told["entries"][0]["failed_gates"] = []
    told["entries"].append({**told["entries"][0], "version": "7.0.0"})
    path.write_text(json.dumps(told))
    assert names(yard) == ["room@1.0.0"]
    problems = yard.problems()
    assert any("another than its bundle.json says" in problem for problem in problems)
    assert any("room@7.0.0" in problem for problem in problems)


def age(registry: StoreRegistry, seconds: float) -> None:
    """Make all blobs older."""
    for path in (root_of(registry) / "blobs").iterdir():
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def test_gc_takes_only_what_is_old_and_unused(yard, room_bundles):
    """What versions use stays whatever its age; so does what was just written."""
    put(yard, room_bundles["1.0.0"])
    old, torn = f"blobs/{'0' * 64}", f"blobs/{'1' * 64}.abc.partial"
    for name in (old, torn):
        yard.store.write(name, b"left behind")
    age(yard, 2 * GRACE)
    yard.store.write(f"blobs/{'2' * 64}", b"just written")
    assert yard.clear_unused(dry_run=True).files == 2
    assert yard.clear_unused().bytes == 2 * len(b"left behind")
    assert yard.problems() == []
    assert len(yard.store.names("blobs")) == len(set(map(file_sha256, room_bundles["1.0.0"].rglob("*.*")))) - 1 + 1


def test_gc_removes_nothing_when_versions_are_missing(yard, room_bundles):
    """A folder of scenes that was lost, or isn't mounted, must not cost the blobs too."""
    put(yard, room_bundles["1.0.0"])
    age(yard, 2 * GRACE)
    (root_of(yard) / "scenes").rename(root_of(yard) / "lost")
    with pytest.raises(BundleError, match=r"room@1\.0\.0"):
        yard.clear_unused()
    (root_of(yard) / "lost").rename(root_of(yard) / "scenes")
    assert yard.problems() == []


def test_gc_while_somebody_publishes(yard, room_bundles, monkeypatch):
    """Old blobs of an interrupted publish that a new one comes upon are never cleared away under it."""
    with monkeypatch.context() as cut:
        cut.setattr(type(yard.store), "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            put(yard, room_bundles["1.0.0"])
    age(yard, 2 * GRACE)
    create = type(yard.store).create

    def cleared_before(store, name, content):
        yard.clear_unused()
        return create(store, name, content)

    monkeypatch.setattr(type(yard.store), "create", cleared_before)
    put(yard, room_bundles["1.0.0"])
    assert yard.problems() == []


def test_gc_that_looked_before_the_version_showed(yard, room_bundles, monkeypatch):
    """And clears away after it did: the old blobs that it uses were sent again, so they are too young to go."""
    with monkeypatch.context() as cut:
        cut.setattr(type(yard.store), "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            put(yard, room_bundles["1.0.0"])
    age(yard, 2 * GRACE)
    names_in = type(yard.store).names

    def clears(registry):
        with monkeypatch.context() as before:
            before.setattr(
                type(yard.store), "names", lambda store, top: [] if top == "scenes" else names_in(store, top)
            )
            registry.clear_unused()

    monkeypatch.setattr(type(yard), "write_index", clears)
    put(yard, room_bundles["1.0.0"])
    assert yard.problems() == []


def test_a_full_disk_publishes_nothing(yard, room_bundles, monkeypatch):
    """One clear error, no half file, nothing to be seen; with room again the same command ends it."""
    put(yard, room_bundles["1.0.0"])
    before = sorted(path for path in root_of(yard).rglob("*"))
    files = type(yard.store.files)

    def full(_self, _source, target, **_options):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "put_file", full)
        with pytest.raises(MachineError, match=r"must have room(.|\n)*what was sent is not sent again"):
            put(yard, room_bundles["1.0.1"])
    assert sorted(path for path in root_of(yard).rglob("*")) == before
    put(yard, room_bundles["1.0.1"])
    assert yard.problems() == []


def test_no_room_to_pull(yard, room_bundles, tmp_path, monkeypatch):
    """Told before anything comes over."""
    put(yard, room_bundles["1.0.0"])
    bundle = Bundle.open(f"{yard.address}/room")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3))
    with pytest.raises(MachineError, match="must have room"):
        pull(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pull_never_replaces(yard, room_bundles, tmp_path):
    """A folder with other bytes under the same version stays as it is."""
    put(yard, room_bundles["1.0.0"])
    other = variant(room_bundles["1.0.0"], tmp_path / "out", "1.0.0", files={PAGE: b"mine"})
    with pytest.raises(BundleError, match="a version never changes"):
        pull(Bundle.open(f"{yard.address}/room"), tmp_path / "out")
    assert (other / PAGE).read_bytes() == b"mine"


def test_what_is_no_registry(tmp_path, bucket):
    """A folder of other things is not written into; one that isn't there is only made on demand; the hub is not yet."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0001.jpg").write_text("x")
    for address, create, match in (
        (str(tmp_path / "photos"), True, "a folder of other things"),
        (str(tmp_path / "nowhere"), False, "no such folder"),
        (str(tmp_path / "not mounted" / "yard"), True, "mkdir -p .*not mounted$"),
        (str(tmp_path / "photos" / "0001.jpg"), True, "name a folder"),
        ("hf://owner", True, "hf://owner/repository"),
    ):
        with pytest.raises(BundleError, match=rf"(?m){match}") as caught:
            open_registry(address, create=create)
        assert not (create and "splatyard registry publish" in caught.value.remedy), "that is what was tried"
    with pytest.raises(MachineError, match="what was sent is not sent again"):
        open_registry("s3://nobody/yard")
    assert not (tmp_path / "not mounted").exists()


def test_names_alone_are_looked_for_here_then_there(yard, room_bundles, tmp_path, monkeypatch):
    """In the bundles folder first, then in the registry that the environment names."""
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(tmp_path / "bundles"))
    put(yard, room_bundles["1.0.0"], room_bundles["1.0.1"])
    monkeypatch.setenv(ADDRESS_VARIABLE, yard.address)
    assert "cache" in Bundle.open("room@1").root.parts
    local = pull(Bundle.open(f"{yard.address}/room@1.0.0"), tmp_path / "bundles")
    assert Bundle.open("room").root == Bundle.open("room@1").root == local
    assert Bundle.open("room@1.0.1").manifest.version == "1.0.1"


def test_a_bucket_without_the_condition(bucket, room_bundles, tmp_path, monkeypatch):
    """One that answers 501 is looked at before it is written; one that ignores it is read back, and the loser told."""
    registry = open_registry(bucket)
    pipe = type(registry.store.files).pipe_file

    def unknown(self, path, value, mode="overwrite", **options):
        if mode == "create":
            raise OSError(errno.ENOSYS, "not implemented")
        return pipe(self, path, value, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(registry.store.files), "pipe_file", unknown)
        put(registry, room_bundles["1.0.0"])
        assert not registry.store.create("scenes/room/1.0.0.json", b"other")
    other = variant(room_bundles["1.0.1"], tmp_path, "1.0.1", files={PAGE: b"second"})

    def overwritten(_files, path, value):
        pipe(registry.store.files, path, value)
        pipe(registry.store.files, path, (other / "bundle.json").read_bytes())
        return True

    monkeypatch.setattr("pipeline.scenes.store._pipe_new", overwritten)
    with pytest.raises(BundleError, match="a published version never changes"):
        put(registry, room_bundles["1.0.1"])


def test_a_disk_without_hard_links(yard, room_bundles, tmp_path, monkeypatch):
    """Versions are still written once."""

    def no_links(*_args: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", no_links)
    put(yard, room_bundles["1.0.0"])
    assert not yard.store.create("scenes/room/1.0.0.json", b"other")
    assert yard.problems() == []
    with contextlib.suppress(FileNotFoundError):
        assert not list(root_of(yard).rglob("*.partial"))
    assert Bundle.open(pull(Bundle.open(f"{yard.address}/room"), tmp_path / "out")).verify() == []
