"""Publishing to the Hugging Face Hub with its real client, against a hub on loopback that has its moods."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import Bundle
from pipeline.errors import BundleError, MachineError
from pipeline.publish.hub_card import TABLE, read_table
from pipeline.publish.publishing import publish, yank
from pipeline.publish.pulling import pull, pull_for_training
from pipeline.scenes.references import Reference
from pipeline.scenes.resolver import find_locked, open_registry, write_pin
from tests.fake_hub import EXPIRED, READER, SECRETS, STRANGER, Fault, Hub, point_at
from tests.paths import ROOT
from tests.publish.variants import PAGE, variant, without_pyarrow

ADDRESS = "hf://owner/scenes"


def put(folder: Path, **options: bool):
    """Publish a bundle there, as it is now."""
    return publish(Bundle.open(folder), open_registry(ADDRESS, create=True), **options)


def versions() -> list[str]:
    """What a list shows."""
    return [entry.reference for entry in open_registry(ADDRESS).summaries()]


def test_from_nothing_to_versions_that_open(hub: Hub, room_bundles):
    """A private repository is made; each version is one commit and one tag, and opens by exact version and range."""
    done = put(room_bundles["1.0.0"])
    assert (done.new, done.change, done.reference) == (True, None, f"{ADDRESS}/room@1.0.0")
    assert hub.repository().private
    assert [commit.message for commit in hub.repository().commits] == ["initial commit", "Publish room@1.0.0"]
    second = put(room_bundles["1.0.1"])
    assert (second.change, second.sent, second.files) == ("patch", 1, 12)
    repository = hub.repository()
    assert repository.tags == {"room-1.0.0": repository.commits[1].oid, "room-1.0.1": repository.commits[2].oid}
    assert versions() == ["room@1.0.0", "room@1.0.1"]
    bundle = Bundle.open(f"{ADDRESS}/room@1")
    assert (bundle.manifest.version, bundle.commit) == ("1.0.1", repository.head.oid)
    assert bundle.verify() == []
    assert bundle.path(PAGE).read_bytes() == b"another page"
    assert Bundle.open(f"{ADDRESS}/room@1.0.0").splat("sim").means.shape == (200, 3)
    assert open_registry(ADDRESS).problems() == []
    assert open_registry(ADDRESS).clear_unused().files == 0


def test_what_is_there_is_not_sent_again(hub: Hub, room_bundles):
    """Of a version with another splat that goes up alone, beside what is small; of one that is there nothing."""
    put(room_bundles["1.0.0"])
    hub.requests.clear()
    done = put(room_bundles["1.1.0"])
    splat = Bundle.open(room_bundles["1.1.0"]).manifest.files["splat.ply"]
    ours = {request.split("/")[2] for request in hub.asked("^PUT /lfs")} - {hub.repository().head.files[TABLE]}
    assert ours == {splat.sha256}
    assert (done.sent, done.sent_bytes) == (1, splat.bytes)
    hub.requests.clear()
    commit = hub.repository().head.oid
    assert not put(room_bundles["1.1.0"]).new
    assert hub.asked("^PUT") == []
    assert hub.repository().head.oid == commit


def test_without_pyarrow_it_is_published_without_a_table(hub: Hub, room_bundles, monkeypatch, caplog):
    """The one that is there goes, as it is no longer true, and comes back when somebody publishes with pyarrow."""
    put(room_bundles["1.0.0"])
    assert TABLE in hub.repository().head.files
    with monkeypatch.context() as without:
        without_pyarrow(without)
        put(room_bundles["1.0.1"])
    assert TABLE not in hub.repository().head.files
    assert versions() == ["room@1.0.0", "room@1.0.1"]
    assert len([line for line in caplog.messages if "without a table" in line]) == 1
    put(room_bundles["1.1.0"])
    assert [row.reference for row in read_table(hub.read(TABLE))] == ["room@1.1.0"]


def test_what_is_damaged_comes_back(hub: Hub, room_bundles):
    """`verify` names it, and publishing the version again brings it back; tags, too."""
    put(room_bundles["1.0.0"])
    good = hub.read("room/1.0.0/mesh.ply")
    hub.change("owner/scenes", "room/1.0.0/mesh.ply", good[:-1] + b"?")
    hub.change("owner/scenes", f"room/1.0.0/{PAGE}", b"?" * len(hub.read(f"room/1.0.0/{PAGE}")))
    hub.change("owner/scenes", "room/1.0.0/regions.json", None)
    hub.change("owner/scenes", "hall/1.0.0/bundle.json", b"{}")
    hub.repository().tags.clear()
    problems = open_registry(ADDRESS).problems()
    for told in ("mesh.ply: content", f"{PAGE}: content", "regions.json: missing", "hall/1.0.0", "has no tag"):
        assert any(told in problem for problem in problems), (told, problems)
    assert len(problems) == 5
    put(room_bundles["1.0.0"])
    assert open_registry(ADDRESS).problems() == ["hall/1.0.0/bundle.json: is not in index.json"]
    hub.change("owner/scenes", "room/1.0.0/bundle.json", (room_bundles["1.0.0"] / "bundle.json").read_bytes() + b" ")
    assert "another than when it was published" in open_registry(ADDRESS).problems()[0]
    with pytest.raises(BundleError, match="another than when it was published"):
        Bundle.open(f"{ADDRESS}/room")


def test_what_was_put_there_by_hand(hub: Hub, room_bundles, tmp_path):
    """Published, it is listed; other bytes don't replace it."""
    hub.fill(room_bundles["1.0.0"])
    other = variant(room_bundles["1.0.0"], tmp_path, "1.0.0", files={PAGE: b"others"})
    with pytest.raises(BundleError, match=r"another room/1\.0\.0 there by hand"):
        put(other)
    assert versions() == []
    put(room_bundles["1.0.0"])
    assert versions() == ["room@1.0.0"]


@pytest.mark.parametrize("status", [429, 500, 503, 0, -1])
def test_trouble_that_passes_is_outlasted(hub: Hub, room_bundles, status):
    """Once at every kind of request: answered wrongly, dropped before, and dropped after the work was done."""
    headers = {"ratelimit": '"api";r=0;t=55'} if status == 429 else {}
    kinds = ("repos/create", "api/datasets/owner/scenes$", "preupload", "objects/batch", "^PUT /lfs", "^POST /lfs")
    kinds += ("validate-yaml", "/commit/", "/tag/", "/resolve/", "^GET /lfs", "/tree/", "/refs")
    hub.faults = [Fault(kind, status, headers=headers) for kind in kinds]
    put(room_bundles["1.0.0"])
    assert [commit.message for commit in hub.repository().commits] == ["initial commit", "Publish room@1.0.0"]
    assert hub.repository().tags.keys() == {"room-1.0.0"}
    assert Bundle.open(f"{ADDRESS}/room").verify() == []
    assert open_registry(ADDRESS).problems() == []
    assert [fault.match for fault in hub.faults if fault.times] == []
    assert hub.slept[0] == (55 if status == 429 else 1)


@pytest.mark.parametrize("kind", ["repos/create", "preupload", "^PUT /lfs", "/commit/"])
@pytest.mark.parametrize("status", [0, 500])
def test_trouble_that_stays_leaves_nothing(hub: Hub, room_bundles, kind, status):
    """One clear error, nothing to be seen; later the same command sends what is missing, and no more."""
    hub.faults = [Fault(kind, status, times=1000)]
    with pytest.raises(MachineError, match="run the same command again"):
        put(room_bundles["1.0.0"])
    seen = hub.repositories.get(("dataset", "owner/scenes"))
    assert seen is None or seen.head.files.keys() == {".gitattributes"}
    hub.faults.clear()
    hub.requests.clear()
    there = set(hub.blobs)
    put(room_bundles["1.0.0"])
    assert not {request.split("/")[2] for request in hub.asked("^PUT /lfs")} & there
    assert open_registry(ADDRESS).problems() == []


def test_a_kill_leaves_all_or_nothing(room_bundles, tmp_path):
    """At every request of a publish that sends something; the next publish completes it."""
    command = [sys.executable, "-m", "tests.publish.hub_killed", str(room_bundles["1.0.0"]), str(room_bundles["1.1.0"])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    shown = [len(seen) for seen in told["seen"]]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (1, 2)
    assert len(shown) >= 8


def test_another_publisher_in_between(hub: Hub, room_bundles, tmp_path):
    """Whose commit comes first stays, and the other is made upon it."""
    put(room_bundles["1.0.0"])
    hall = variant(room_bundles["1.0.0"], tmp_path, "1.0.0", name="hall")
    hub.faults = [Fault("/commit/", None, call=lambda: put(hall))]
    put(room_bundles["1.0.1"])
    assert versions() == ["hall@1.0.0", "room@1.0.0", "room@1.0.1"]
    assert len(hub.asked("/commit/")) == 4
    assert open_registry(ADDRESS).problems() == []
    assert [row.reference for row in read_table(hub.read(TABLE))] == ["hall@1.0.0", "room@1.0.1"]


def test_the_same_version_at_the_same_moment(hub: Hub, room_bundles, tmp_path):
    """With the same bytes it is there once; of other bytes, or a number that is too small by now, only the first."""
    hub.faults = [Fault("/commit/", None, call=lambda: put(room_bundles["1.0.0"]))]
    put(room_bundles["1.0.0"])
    assert versions() == ["room@1.0.0"]
    assert len(hub.repository().commits) == 2
    other = variant(room_bundles["1.0.1"], tmp_path, "1.0.1", files={PAGE: b"others"})
    hub.faults = [Fault("/commit/", None, call=lambda: put(room_bundles["1.0.1"]))]
    with pytest.raises(BundleError, match="there with other bytes"):
        put(other)
    newer = variant(room_bundles["1.0.0"], tmp_path, "1.1.1")
    hub.faults = [Fault("/commit/", None, call=lambda: put(room_bundles["1.1.0"]))]
    with pytest.raises(BundleError, match=r"room@1\.1\.1 is"):
        put(newer)
    assert open_registry(ADDRESS).problems() == []


def test_two_publishers_lose_nothing(hub: Hub, room_bundles, tmp_path):
    """Each four scenes, at once."""
    folders = [variant(room_bundles["1.0.0"], tmp_path, "1.0.0", name=f"hall_{number}") for number in range(8)]
    put(room_bundles["1.0.0"])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, folders))
    assert versions() == [*(f"hall_{number}@1.0.0" for number in range(8)), "room@1.0.0"]
    assert open_registry(ADDRESS).problems() == []


@pytest.mark.parametrize(
    ("token", "told"),
    [("", "needs a token"), (EXPIRED, "takes your token"), (STRANGER, "may do this"), (READER, "may do this")],
)
def test_without_a_token_that_may(hub: Hub, room_bundles, monkeypatch, caplog, token, told):
    """None, expired, somebody else's, and one that may only read; it never shows, and nothing is written."""
    hub.make()
    monkeypatch.setenv("HF_TOKEN", token)
    caplog.set_level(logging.DEBUG)
    if token == STRANGER:
        hub.repositories.clear()
    with pytest.raises(MachineError, match=told) as error:
        put(room_bundles["1.0.0"])
    assert not any(secret in caplog.text + str(error.value) for secret in SECRETS)
    assert all(len(repository.commits) == 1 for repository in hub.repositories.values())


def test_nobody_listens(hub: Hub, room_bundles, monkeypatch):
    """An error, and no traceback."""
    point_at(1, monkeypatch)
    with pytest.raises(MachineError, match="needs the network"):
        put(room_bundles["1.0.0"])
    with pytest.raises(MachineError, match="needs the network"):
        open_registry(ADDRESS)


@pytest.mark.parametrize("content", [b"<html>", {"error": "made up"}, {"id": "owner/scenes", "sha": "../../x"}])
def test_another_server_listens(hub: Hub, content):
    """One that doesn't speak the hub's protocol."""
    hub.faults = [Fault(".", 200, times=99, content=content)]
    with pytest.raises(MachineError, match="check HF_ENDPOINT"):
        open_registry(ADDRESS)


def test_who_may_read_it_decides(hub: Hub, room_bundles, tmp_path):
    """What isn't openly licensed goes only to a private repository; --public makes a public one, and changes none."""
    own = variant(room_bundles["1.0.0"], tmp_path, "1.0.0", provenance={"licence": "proprietary"})
    with pytest.raises(BundleError, match="has a licence that allows it"):
        put(own, public=True)
    assert hub.repositories == {}
    put(room_bundles["1.0.0"], public=True)
    assert not hub.repository().private
    other = variant(room_bundles["1.0.0"], tmp_path, "1.0.0", name="hall", provenance={"licence": "proprietary"})
    with pytest.raises(BundleError, match="has a licence that allows it"):
        put(other)
    hub.repository().private = True
    put(other)
    with pytest.raises(BundleError, match=r"hf://owner/scenes is private"):
        put(room_bundles["1.0.1"], public=True)
    assert versions() == ["hall@1.0.0", "room@1.0.0"]


def test_yanked_is_hidden_and_still_opens(hub: Hub, room_bundles, caplog):
    """One small commit; what was newest before is shown instead."""
    for version in ("1.0.0", "1.0.1"):
        put(room_bundles[version])
    hub.requests.clear()
    registry = open_registry(ADDRESS)
    hub.faults = [Fault("/commit/", -1)]
    yank(registry, Reference.parse("room@1.0.1"), "its <scale> is wrong")
    assert [commit.message for commit in hub.repository().commits][-2:] == ["Publish room@1.0.1", "Yank room@1.0.1"]
    assert Bundle.open(f"{ADDRESS}/room").manifest.version == "1.0.0"
    with caplog.at_level(logging.WARNING):
        assert Bundle.open(f"{ADDRESS}/room@1.0.1").manifest.version == "1.0.1"
    assert "was yanked: its <scale> is wrong" in caplog.text
    assert [row.reference for row in read_table(hub.read(TABLE))] == ["room@1.0.0"]
    for wrong in ("room@1.0.1", "room@9.0.0", "room"):
        with pytest.raises(BundleError):
            yank(open_registry(ADDRESS), Reference.parse(wrong), "again")
    with pytest.raises(BundleError, match="stays yanked"):
        put(room_bundles["1.0.1"])
    assert open_registry(ADDRESS).problems() == []


def test_the_clients_bars_share_the_lock_of_ours():
    """Its threads begin bars while ours are drawn: with two locks the set of all changes under whoever reads it."""
    code = "from pipeline.scenes.hub import client; client(); from huggingface_hub.utils import tqdm as theirs; "
    code += "lock = theirs.get_lock(); from tqdm import tqdm as ours; assert lock is ours.get_lock()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_lock_holds_the_commit(hub: Hub, room_bundles, tmp_path, monkeypatch):
    """What the branch points at later, even with other bytes, isn't taken."""
    monkeypatch.chdir(tmp_path)
    put(room_bundles["1.0.0"])
    pin = write_pin(f"{ADDRESS}/room")
    assert (pin.bundle, pin.commit) == (f"{ADDRESS}/room@1.0.0", hub.repository().head.oid)
    put(room_bundles["1.0.1"])
    hub.change("owner/scenes", "room/1.0.0/bundle.json", b"{}")
    locked = find_locked(f"{ADDRESS}/room")
    assert (locked.manifest.version, locked.commit) == ("1.0.0", pin.commit)
    assert locked.verify() == []


def test_only_what_training_reads(hub: Hub, room_bundles, tmp_path):
    """It is kept, and read from there; the whole bundle is a folder of its own."""
    put(room_bundles["1.0.0"])
    hub.requests.clear()
    bundle = Bundle.open(f"{ADDRESS}/room")
    brought = pull_for_training(bundle)
    assert sorted(path.name for path in brought) == ["collision.ply", "regions.json", "sim.ply", "walkable.npz"]
    assert not (bundle.root / "cameras.json").exists()
    hub.requests.clear()
    assert Bundle.open(f"{ADDRESS}/room").mesh("collision").vertices.shape == (bundle.mesh("collision").vertices.shape)
    assert hub.asked("collision.ply") == []
    folder = pull(Bundle.open(f"{ADDRESS}/room"), tmp_path / "bundles")
    assert Bundle.open(folder).verify() == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"entries": [{"name": "../x"}]}', b"[]"])
def test_a_spoilt_index_is_told(hub: Hub, room_bundles, content):
    """It is the truth here; an exact version with its files opens from the commit before."""
    put(room_bundles["1.0.0"])
    commit = hub.repository().head.oid
    hub.change("owner/scenes", "index.json", content)
    with pytest.raises(BundleError, match=r"index\.json is as"):
        open_registry(ADDRESS).summaries()
    assert open_registry(ADDRESS, commit=commit).open(Reference.parse("room@1.0.0")).verify() == []
