"""Shared results: what one machine made another one takes, whole or not at all, whatever happens to the store."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from pipeline.errors import BusyError, MachineError
from pipeline.io.results import lock_file, locked, run_record
from pipeline.running.building import Plan, run_plan
from pipeline.running.engine import PlannedStage, execute
from pipeline.running.shared import COMPLETE, MAX_RESULT_BYTES, execute_shared, fetch_plan
from pipeline.scenes import store as store_module
from pipeline.scenes.store import open_store
from pipeline.stage import Traits
from tests.fake_stages import FakeParams, plan_chain
from tests.s3 import BUCKET, connect

LARGE = "0123456789abcdef" * 200_000


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path) -> str:
    """The address of an empty store: a folder, then a bucket."""
    if request.param == "bucket":
        return request.getfixturevalue("bucket")
    (tmp_path / "store").mkdir()
    return str(tmp_path / "store")


def chain(work: Path, *texts: str) -> list[PlannedStage]:
    return plan_chain(work, [FakeParams(text=text) for text in texts])


def share(work: Path, store: str, *texts: str) -> list[str]:
    """Names of the stages that ran on the machine with this work folder."""
    return [stage.name for stage in chain(work, *texts) if execute_shared(stage, store)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lies_at(store: str, stage: PlannedStage, name: str = "") -> tuple[fsspec.AbstractFileSystem, str]:
    files, root = fsspec.url_to_fs(store, use_listings_cache=False)
    return files, f"{root}/{stage.name}/{stage.key}/{name}"


def names_in(store: str, stage: PlannedStage) -> set[str]:
    files, path = lies_at(store, stage)
    return {name.rpartition("/")[2] for name in files.find(path)}


def object_of(store: str, stage: PlannedStage, name: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The object that holds one file of a shared result."""
    files, path = lies_at(store, stage, COMPLETE)
    return lies_at(store, stage, json.loads(files.cat_file(path))["files"][name]["sha256"])


def test_second_machine_runs_nothing(tmp_path, store):
    """What one machine made another one has without running a stage: same bytes, same run record."""
    assert share(tmp_path / "a", store, "x", "y", "z") == ["one", "two", "three"]
    assert share(tmp_path / "b", store, "x", "y", "z") == []
    for mine, other in zip(chain(tmp_path / "a", "x", "y", "z"), chain(tmp_path / "b", "x", "y", "z"), strict=True):
        assert content(mine.folder) == content(other.folder)
        assert json.loads(run_record(mine.folder).read_text()) == json.loads(run_record(other.folder).read_text())
    assert share(tmp_path / "c", store, "x", "other", "z") == ["two", "three"]


def test_any_name_and_empty_folders_come_over(tmp_path, store):
    """Names are those of people's photos; an empty folder and an empty file are part of a result too."""

    def run(planned: PlannedStage) -> bool:
        execute(planned)
        (planned.folder / "images").mkdir()
        (planned.folder / "images" / "Küche & Flur #1 %20.jpg").write_bytes(b"photo")
        (planned.folder / "masks" / "none").mkdir(parents=True)
        (planned.folder / "empty.txt").touch()
        return True

    mine, other = chain(tmp_path / "a", "x")[0], chain(tmp_path / "b", "x")[0]
    assert execute_shared(mine, store, run)
    assert not execute_shared(other, store)
    assert content(mine.folder) == content(other.folder)
    assert (other.folder / "masks" / "none").is_dir()


def plan_of(work: Path, *texts: str) -> Plan:
    return Plan("room", Traits("photos", 1, False, False, False, False), tuple(chain(work, *texts)), work, work)


def test_plan_runs_with_a_store(tmp_path, store):
    """`run_plan` takes `execute_shared` with a store."""
    assert run_plan(plan_of(tmp_path / "a", "x", "y"), partial(execute_shared, store=store)).executed == ("one", "two")
    result = run_plan(plan_of(tmp_path / "b", "x", "y"), partial(execute_shared, store=store))
    assert result.executed == ()
    assert set(result.seconds) == {"one", "two"}


def test_only_what_is_needed_of_a_plan_is_fetched(tmp_path, store):
    """Of a plan that is done elsewhere the last result comes over, of one that is half done what the rest needs."""
    share(tmp_path / "a", store, "x", "y", "z")
    done = plan_of(tmp_path / "b", "x", "y", "z")
    fetch_plan(done, store)
    assert [stage.cached for stage in done.stages] == [False, False, True]
    assert run_plan(done, partial(execute_shared, store=store)).executed == ()
    half_done = plan_of(tmp_path / "c", "x", "y", "other")
    fetch_plan(half_done, store)
    assert [stage.cached for stage in half_done.stages] == [False, True, False]
    assert run_plan(half_done, partial(execute_shared, store=store)).executed == ("three",)


def test_result_counts_only_when_complete(tmp_path, store):
    """Files without complete.json are no result; who puts it anew completes them."""
    share(tmp_path / "a", store, "x")
    stage = chain(tmp_path / "a", "x")[0]
    files, path = lies_at(store, stage, COMPLETE)
    files.rm(path)
    assert share(tmp_path / "b", store, "x") == ["one"]
    assert share(tmp_path / "c", store, "x") == []


@pytest.mark.parametrize("damage", [b"", b"half", b"othertxt"])
def test_damaged_file_is_made_anew(tmp_path, store, damage, caplog):
    """A truncated or changed object is noticed and told; the stage runs, and the store is whole again."""
    share(tmp_path / "a", store, "longtxt")
    files, path = object_of(store, chain(tmp_path / "a", "longtxt")[0], "result.txt")
    assert files.cat_file(path) == b"longtxt;"
    files.pipe_file(path, damage)
    assert share(tmp_path / "b", store, "longtxt") == ["one"]
    assert "result.txt" in caplog.text
    assert share(tmp_path / "c", store, "longtxt") == []
    assert (chain(tmp_path / "c", "longtxt")[0].folder / "result.txt").read_text() == "longtxt;"


def under(name: str, size: int | None = None):
    """A change of complete.json: result.txt goes by another name."""

    def change(complete: dict) -> None:
        complete["files"][name] = complete["files"].pop("result.txt")
        if size is not None:
            complete["files"][name]["bytes"] = size

    return change


HOSTILE = {
    "parent": under("../../../escaped.txt"),
    "parent inside": under("images/../../../../escaped.txt"),
    "absolute": under("/tmp/splatyard-escaped.txt"),
    "no name": under(""),
    "folder": lambda complete: complete.update(folders=["../../../escaped.txt"]),
    "control letters": under("a\0b"),
    "long name": under("a" * 300),
    "file and folder": under("half.txt/result.txt"),
    "same twice": lambda complete: complete["files"].update({"./half.txt": complete["files"]["half.txt"]}),
    "larger than it is": under("result.txt", 10**6),
    "impossibly large": under("result.txt", MAX_RESULT_BYTES + 1),
    "other key's": lambda complete: complete["run"].update(key="0" * 20),
    "other inputs": lambda complete: complete["run"].update(inputs={}),
    "no record": lambda complete: complete.pop("run"),
    "odd time": lambda complete: complete["run"].update(seconds="soon"),
    "unknown field": lambda complete: complete.update(command="rm"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_complete_json(tmp_path, change, caplog):
    """Paths that leave the result, sizes that are wrong, records of others: not taken, told, repaired."""
    store = tmp_path / "store"
    store.mkdir()
    share(tmp_path / "a", str(store), "x")
    path = next(store.rglob(COMPLETE))
    complete = json.loads(path.read_text())
    change(complete)
    path.write_text(json.dumps(complete))
    assert share(tmp_path / "b", str(store), "x") == ["one"]
    assert "damaged or hostile" in caplog.text
    assert not list(tmp_path.rglob("*escaped*"))
    assert not Path("/tmp/splatyard-escaped.txt").exists()
    assert sorted(content(chain(tmp_path / "b", "x")[0].folder)) == ["half.txt", "result.txt"]
    assert share(tmp_path / "c", str(store), "x") == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {}}', "x" * 17 * 2**20], ids=len)
def test_torn_complete_json(tmp_path, text):
    """A complete.json that is cut off, empty, something else or huge is none, and is replaced."""
    store = tmp_path / "store"
    store.mkdir()
    share(tmp_path / "a", str(store), "x")
    next(store.rglob(COMPLETE)).write_text(text)
    assert share(tmp_path / "b", str(store), "x") == ["one"]
    assert share(tmp_path / "c", str(store), "x") == []


def test_two_machines_at_once(tmp_path, store):
    """Machines that make different bytes of one stage at the same time: what the store has is one machine's, whole."""
    barrier = threading.Barrier(4)

    def build(machine: int) -> dict[str, bytes]:
        def run(planned: PlannedStage) -> bool:
            execute(planned)
            for i in range(20):
                (planned.folder / f"{i}.bin").write_bytes(f"{machine} {i}".encode() * 10_000)
            barrier.wait()
            return True

        stage = chain(tmp_path / str(machine), "x")[0]
        assert execute_shared(stage, store, run)
        return content(stage.folder)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(build, range(4)))
    assert share(tmp_path / "fifth", store, "x") == []
    assert content(chain(tmp_path / "fifth", "x")[0].folder) in made


class DroppingProxy:
    """Passes bytes between clients and a server, and resets a connection in the middle of a large transfer."""

    def __init__(self, port: int, times: int) -> None:
        self.times, self.dropped, self._server = times, 0, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> DroppingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                target.sendall(data)
                passed += len(data)
                if passed > len(LARGE) // 2 and self.dropped < self.times:
                    self.dropped += 1
                    for end in (source, target):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_upload_goes_on_after_a_dropped_connection(tmp_path, bucket, s3_port, monkeypatch):
    """A connection reset in the middle of an upload is one more request, and the result is whole."""
    with DroppingProxy(s3_port, times=1) as proxy:
        connect(monkeypatch, proxy.port)
        assert share(tmp_path / "a", bucket, LARGE) == ["one"]
        assert proxy.dropped == 1
    connect(monkeypatch, s3_port)
    assert share(tmp_path / "b", bucket, LARGE) == []


def test_upload_that_never_ends_shares_nothing(tmp_path, bucket, s3_port, monkeypatch):
    """When every upload is cut off: one clear error, the local result stays, and nobody takes the half one."""
    stage = chain(tmp_path / "a", LARGE)[0]
    with DroppingProxy(s3_port, times=1000) as proxy:
        connect(monkeypatch, proxy.port)
        with pytest.raises(MachineError, match="s3://yard/results: a shared store"):
            execute_shared(stage, bucket)
        assert proxy.dropped > 2
    connect(monkeypatch, s3_port)
    assert stage.cached
    assert COMPLETE not in names_in(bucket, stage)
    assert share(tmp_path / "b", bucket, LARGE) == ["one"]


def test_download_goes_on_after_a_dropped_connection(tmp_path, bucket, s3_port, monkeypatch):
    """A connection reset in the middle of a download is one more request, and the bytes are the right ones."""
    share(tmp_path / "a", bucket, LARGE)
    with DroppingProxy(s3_port, times=1) as proxy:
        connect(monkeypatch, proxy.port)
        assert share(tmp_path / "b", bucket, LARGE) == []
        assert proxy.dropped == 1
    assert content(chain(tmp_path / "b", LARGE)[0].folder) == content(chain(tmp_path / "a", LARGE)[0].folder)


def test_download_that_never_ends_leaves_no_result(tmp_path, bucket, s3_port, monkeypatch):
    """When every download is cut off: one clear error and no half result; a later run fetches it all."""
    share(tmp_path / "a", bucket, LARGE)
    stage = chain(tmp_path / "b", LARGE)[0]
    with DroppingProxy(s3_port, times=1000) as proxy:
        connect(monkeypatch, proxy.port)
        with pytest.raises(MachineError, match="then run the same command again"):
            execute_shared(stage, bucket)
        assert proxy.dropped > 2
    assert not stage.cached
    connect(monkeypatch, s3_port)
    assert not execute_shared(stage, bucket)
    assert content(stage.folder) == content(chain(tmp_path / "a", LARGE)[0].folder)


def test_store_that_is_gone(tmp_path, bucket, monkeypatch):
    """No such folder, bucket, client or server: one clear error, before the stage has run."""
    stage = chain(tmp_path / "a", "x")[0]
    for missing in (str(tmp_path / "not mounted"), "s3://nobody/results", "nosuch://place"):
        with pytest.raises(MachineError, match="a folder or bucket that exists"):
            execute_shared(stage, missing)
    assert not (tmp_path / "not mounted").exists()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    connect(monkeypatch, port)
    with pytest.raises(MachineError, match=r"Could not connect(.|\n)*check address, network and credentials"):
        execute_shared(stage, bucket)
    assert not stage.folder.parent.exists()


def test_store_that_goes_away_while_a_stage_runs(tmp_path, store):
    """The work isn't lost: it stays where the next run finds it."""
    stage = chain(tmp_path / "a", "x")[0]

    def run(planned: PlannedStage) -> bool:
        files, root = fsspec.url_to_fs(store)
        files.rm(root.partition("/")[0] or root, recursive=True)
        if root.startswith("/"):
            Path(root).write_text("not a folder any more")
        return execute(planned)

    with pytest.raises(MachineError, match="finished stages are kept"):
        execute_shared(stage, store, run)
    assert stage.cached
    if not store.startswith("/"):
        fsspec.filesystem("s3", use_listings_cache=False).mkdir(BUCKET)


@pytest.mark.parametrize(
    ("error", "requests"),
    [
        (ConnectionResetError(104, "reset"), 3),
        (TimeoutError("slow"), 3),
        (OSError(116, "stale file handle"), 3),
        (PermissionError(13, "denied"), 1),
        (FileNotFoundError(2, "no bucket"), 1),
        (ValueError("a bug of the client"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_network_faults_are_tried_again(tmp_path, monkeypatch, error, requests):
    """What the network did is tried again with growing waits; what will be so again is told at once."""
    waited, sent = [], []
    monkeypatch.setattr(store_module, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(store_module, "WAITS", (1.0, 2.0))
    store = open_store(str(tmp_path))

    def fail(*_: object, **__: object) -> None:
        sent.append(1)
        raise error

    monkeypatch.setattr(type(store.files), "cat_file", fail)
    with pytest.raises(MachineError, match=type(error).__name__):
        store.read("file", 0, 1)
    assert len(sent) == requests
    assert waited == [1.0, 2.0][: requests - 1]


def test_file_shows_only_when_whole(tmp_path, monkeypatch):
    """On a disk a copy that is cut off never lies under its name."""
    (tmp_path / "store").mkdir()
    store = open_store(str(tmp_path / "store"))
    source = tmp_path / "source"
    source.write_text("whole")

    def half(_files: object, _source: str, target: str) -> None:
        Path(target).write_text("ha")
        raise PermissionError(13, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.files), "put_file", half)
        with pytest.raises(MachineError):
            store.write("folder/file", source)
    assert "file" not in store.sizes("folder")
    store.write("folder/file", source)
    assert store.sizes("folder")["file"] == 5


def test_no_room_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    """A result that doesn't fit is one clear error, and doesn't fill the disk."""
    store = tmp_path / "store"
    store.mkdir()
    share(tmp_path / "a", str(store), "x")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3))
    with pytest.raises(MachineError, match="must have room"):
        share(tmp_path / "b", str(store), "x")
    assert not [path for path in (tmp_path / "b").rglob("*") if path.suffix != ".lock" and path.is_file()]
    assert not list((tmp_path / "b").rglob("*.partial"))


def test_fetching_holds_the_stage(tmp_path):
    """While another process of this machine is at the key, nothing is fetched over it."""
    store = tmp_path / "store"
    store.mkdir()
    share(tmp_path / "a", str(store), "x")
    stage = chain(tmp_path / "b", "x")[0]
    with locked(lock_file(stage.folder), "it"), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        execute_shared(stage, str(store))
    assert not execute_shared(stage, str(store))


def test_errors_and_logs_show_no_password(tmp_path, caplog):
    """Of an address with a password only the place is shown."""
    caplog.set_level(logging.INFO)
    with pytest.raises(MachineError) as failed:
        execute_shared(chain(tmp_path, "x")[0], "ftp://user:hunter2@127.0.0.1:1/results")
    assert "hunter2" not in str(failed.value) + caplog.text
