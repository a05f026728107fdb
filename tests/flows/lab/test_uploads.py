"""Uploads into an inbox: whole or not at all, resumed after breaks, and nothing written outside, by whoever sends."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest

from flows.lab import uploads as module
from flows.lab.inbox import Inbox
from flows.lab.uploads import MAX_BYTES, MAX_PIECE, Refused, Uploads

KEY = "0123456789abcdef" * 2


def order(*files: tuple[str, int], name: str = "kitchen", key: str = KEY) -> bytes:
    listed = [{"path": path, "size": size} for path, size in files]
    return json.dumps({"name": name, "key": key, "files": listed}).encode()


def send(uploads: Uploads, upload: str, number: int, offset: int, content: bytes, announced: int | None = None) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 3):
            yield content[at : at + 3]

    asyncio.run(uploads.put(upload, number, offset, len(content) if announced is None else announced, parts()))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "lab" / "inbox"


def scans(inbox: Path) -> list[str]:
    """What an ingest would find."""
    return sorted(Inbox(inbox, inbox.parent / "bundles").fresh())


def test_a_scan_appears_once_it_is_whole(inbox: Path):
    """A folder with folders and an empty file; no ingest sees it before, and then all of it."""
    uploads = Uploads(inbox)
    state = uploads.begin(order(("rgb/1.jpg", 5), ("poses.txt", 4), ("empty", 0)))
    assert state.offsets == [0, 0, 0]
    send(uploads, state.id, 0, 0, b"first")
    send(uploads, state.id, 1, 0, b"po")
    assert scans(inbox) == []
    with pytest.raises(Refused, match="missing"):
        uploads.finish(state.id)
    send(uploads, state.id, 1, 2, b"se")
    assert uploads.finish(state.id).done == "kitchen"
    assert scans(inbox) == ["kitchen"]
    found = {str(path.relative_to(inbox)): path.read_bytes() for path in inbox.rglob("kitchen/**/*") if path.is_file()}
    assert found == {"kitchen/rgb/1.jpg": b"first", "kitchen/poses.txt": b"pose", "kitchen/empty": b""}


def test_a_break_costs_only_the_piece(inbox: Path):
    """A connection that ends in a piece, a server that starts anew, and a sender who asks how far it was."""
    first = Uploads(inbox)
    state = first.begin(order(("scan.zip", 9)))

    async def broken() -> AsyncIterator[bytes]:
        yield b"abcd"
        raise ConnectionError("out of the house")

    with pytest.raises(ConnectionError):
        asyncio.run(first.put(state.id, 0, 0, 9, broken()))
    again = Uploads(inbox)
    assert again.begin(order(("scan.zip", 9))) == again.state(state.id)
    assert again.state(state.id).offsets == [4]
    with pytest.raises(Refused, match="4 of 9"):
        send(again, state.id, 0, 0, b"abcdefghi")
    send(again, state.id, 0, 4, b"efghi")
    assert again.finish(state.id).done == "kitchen.zip"
    assert (inbox / "kitchen.zip").read_bytes() == b"abcdefghi"
    assert again.begin(order(("scan.zip", 9))).done == "kitchen.zip", "who didn't hear of the end doesn't send it again"


@pytest.mark.parametrize("files", [[("a.zip", 2)], [("a", 2), ("b", 0)]], ids=["a file", "a folder"])
def test_killed_as_it_is_moved_it_is_moved_later(inbox: Path, files: list[tuple[str, int]], monkeypatch):
    """Nothing is lost, and nothing said to be there that isn't."""
    uploads = Uploads(inbox)
    state = uploads.begin(order(*files))
    send(uploads, state.id, 0, 0, b"ab")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed)
        uploads.finish(state.id)
    again = Uploads(inbox)
    assert again.state(state.id).done is None
    assert scans(inbox) == []
    assert again.finish(state.id).done in ("kitchen.zip", "kitchen")
    assert len(scans(inbox)) == 1


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "..",
        ".",
        "a//b",
        "a/",
        ".ssh/authorized_keys",
        "a/.hidden",
        "a\\..\\b",
        "nul\0",
        "line\nbreak",
        "a/" * 8 + "b",
        "x" * 121,
        "\u202egpj.exe",
        "\ud800",
        "",
    ],
)
def test_no_path_leads_out(inbox: Path, path: str):
    """Refused before anything is written."""
    with pytest.raises(Refused) as refused:
        Uploads(inbox).begin(order((path, 1), ("b", 1)))
    assert refused.value.status == HTTPStatus.BAD_REQUEST
    assert list((inbox / module.FOLDER).iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        order(("a", MAX_BYTES + 1)),
        order(("a", MAX_BYTES), ("b", 1)),
        order(("a", -1)),
        order(),
        order(("a", 1), ("a", 1)),
        order(("a", 1), ("a/b", 1)),
        order(("a", 1), key="../" * 10 + "ab"),
        order(*((str(n), 1) for n in range(module.MAX_FILES + 1))),
        b'{"name": "a", "key": "' + KEY.encode() + b'", "files": [{"path": "a", "size": 1, "mode": 511}]}',
        b"[" * 100_000,
        b"",
    ],
)
def test_what_is_too_large_or_no_order_is_refused_before_it_is_sent(inbox: Path, content: bytes):
    """By its list alone."""
    with pytest.raises(Refused) as refused:
        Uploads(inbox).begin(content)
    assert refused.value.status == HTTPStatus.BAD_REQUEST
    assert list((inbox / module.FOLDER).iterdir()) == []


def test_a_disk_without_room_is_seen_before_anything_is_sent(inbox: Path, monkeypatch: pytest.MonkeyPatch):
    """What other uploads have announced counts as used; builds keep their room."""
    monkeypatch.setattr(module, "free_bytes", lambda _: module.ROOM + 100)
    uploads = Uploads(inbox)
    first = uploads.begin(order(("a", 60)))
    with pytest.raises(Refused) as refused:
        uploads.begin(order(("b", 60)))
    assert refused.value.status == HTTPStatus.INSUFFICIENT_STORAGE
    send(uploads, first.id, 0, 0, b"x" * 60)
    uploads.finish(first.id)
    assert uploads.begin(order(("b", 60))).offsets == [0]


def test_pieces_beyond_what_was_announced_are_refused(inbox: Path):
    """Of the file, of the piece, of all pieces; the file keeps what was right."""
    uploads = Uploads(inbox)
    state = uploads.begin(order(("a.zip", 6)))
    with pytest.raises(Refused, match="0 of 6"):
        send(uploads, state.id, 0, 0, b"1234567")
    with pytest.raises(Refused, match="more bytes"):
        send(uploads, state.id, 0, 0, b"123456", announced=4)
    with pytest.raises(Refused, match="pieces"):
        send(uploads, state.id, 0, 3, b"", announced=MAX_PIECE + 1)
    for number in (-1, 1):
        with pytest.raises(Refused, match="no such file"):
            send(uploads, state.id, number, 0, b"1")
    assert uploads.state(state.id).offsets == [3]


@pytest.mark.parametrize("upload", ["../../etc", "..", "0" * 32, "A" * 32, "", "0" * 31 + "/"])
def test_another_s_upload_can_t_be_guessed_or_reached(inbox: Path, upload: str):
    """Ids are what the server made of an order and its key."""
    uploads = Uploads(inbox)
    uploads.begin(order(("a", 1)))
    with pytest.raises(Refused, match="no such upload"):
        uploads.state(upload)


def test_two_scans_of_one_name_get_two_names(inbox: Path):
    """Neither replaces the other, one that was dropped there, nor one whose card is left; none becomes a card."""
    uploads = Uploads(inbox)
    (inbox / "kitchen-2.zip.yaml").write_text("name: other")
    for key, expected in ((KEY, "kitchen.zip"), (KEY[::-1], "kitchen-3.zip")):
        state = uploads.begin(order(("a.ZIP", 2), key=key))
        send(uploads, state.id, 0, 0, b"ab")
        assert uploads.finish(state.id).done == expected
    for name, path, expected in (
        ("kitchen.zip.yaml", "a.yaml", "kitchen-zip"),
        ("../../evil", "b", "evil"),
        (".hidden.", "c.zip", "hidden.zip"),
        ("Küche 3", "d.mov", "kuche-3.mov"),
    ):
        state = uploads.begin(order((path, 0), name=name))
        assert uploads.finish(state.id).done == expected
    assert "kitchen-zip" in scans(inbox)
    assert all(path.parent == inbox for path in inbox.glob("*"))


def test_two_pieces_at_once_do_not_mix(inbox: Path):
    """The second is refused while the first arrives."""
    uploads = Uploads(inbox)
    state = uploads.begin(order(("a", 4)))

    async def both() -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"ab"
            arrived.set()
            await go.wait()
            yield b"cd"

        async def other() -> AsyncIterator[bytes]:
            yield b"XY"

        first = asyncio.create_task(uploads.put(state.id, 0, 0, 4, slow()))
        await arrived.wait()
        with pytest.raises(Refused, match="another piece"):
            await uploads.put(state.id, 0, 0, 2, other())
        go.set()
        await first

    asyncio.run(both())
    uploads.finish(state.id)
    assert (inbox / "kitchen").read_bytes() == b"abcd"


def test_who_falls_silent_is_cut_off(inbox: Path, monkeypatch: pytest.MonkeyPatch):
    """Another piece can come then."""
    monkeypatch.setattr(module, "PIECE_SECONDS", 0.05)
    uploads = Uploads(inbox)
    state = uploads.begin(order(("a.zip", 4)))

    async def silent() -> AsyncIterator[bytes]:
        yield b"ab"
        await asyncio.sleep(60)

    with pytest.raises(Refused, match="a minute"):
        asyncio.run(uploads.put(state.id, 0, 0, 4, silent()))
    send(uploads, state.id, 0, 2, b"cd")
    assert uploads.state(state.id).offsets == [4]


def test_what_nobody_goes_on_with_is_removed(inbox: Path):
    """After days, as another begins."""
    uploads = Uploads(inbox)
    old = uploads.begin(order(("a", 4)))
    folder = inbox / module.FOLDER / old.id
    past = folder.stat().st_mtime - module.KEEP_SECONDS - 60
    os.utime(folder, (past, past))
    uploads.begin(order(("b", 4)))
    assert not folder.exists()
    with pytest.raises(Refused, match="no such upload"):
        uploads.state(old.id)
