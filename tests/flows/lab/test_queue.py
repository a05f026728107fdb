"""The queue of a lab's inbox: what each scan is at, and how long it takes by the scenes built before."""

from __future__ import annotations

import fcntl
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.lab import queue as module
from flows.lab.inbox import Inbox, Seen
from flows.lab.queue import queue
from flows.lab.uploads import Uploads
from pipeline.errors import CaptureError
from pipeline.running.building import build_lock
from pipeline.running.records import Scene


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def shown(inbox: Path) -> list[tuple[str, str, str]]:
    return [(row.scan, row.state, row.more) for row in queue(inbox, inbox.parent / "bundles", Uploads(inbox))]


def seen(inbox: Path, name: str, state, why: str = "") -> None:
    """A scan there, and what became of it."""
    (inbox / name).write_bytes(b"x")
    watched = Inbox(inbox, inbox.parent / "bundles")
    watched._write(name, Seen(stamp=watched.stamp(name), state=state, tries=3, why=why))


def scene(inbox: Path, name: str, state, seconds: float = 0.0, ago: float = 0.0, **more) -> Scene:
    began, work = datetime.now(UTC) - timedelta(seconds=ago), inbox.parent / "bundles" / ".work" / name
    stages = {"mesh": seconds} if state == "built" else {}
    made = Scene(
        card=inbox / f"{name}.yaml",
        name=name,
        state=state,
        began=began,
        seconds=seconds,
        stages=stages,
        work=work,
        **more,
    )
    return made.save(inbox.parent / "bundles")


def test_without_a_build_no_time_is_made_up(inbox: Path):
    """Scans wait, and arrive."""
    (inbox / "hall.zip").write_bytes(b"x")
    order = {"name": "lab", "key": "0" * 32, "files": [{"path": "a.mov", "size": 10}]}
    Uploads(inbox).begin(json.dumps(order).encode())
    assert shown(inbox) == [("lab.mov", "uploading", "0 %"), ("hall.zip", "waiting", "")]


def test_times_are_those_of_the_last_scenes(inbox: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the running one what is left, with its stage; of waiting ones what is ahead of them, two at a time."""
    monkeypatch.setattr(module, "default_workers", lambda: 2)
    for number, seconds in enumerate((590, 600, 4000)):
        scene(inbox, f"old-{number}", "built", seconds)
    seen(inbox, "now.zip", "begun")
    running = scene(inbox, "now.zip", "running", ago=300)
    for name in ("a.zip", "b.zip", "c.zip"):
        (inbox / name).write_bytes(b"x")
    assert running.work is not None
    (running.work / "mesh" / ".key.partial").mkdir(parents=True)
    watched = Inbox(inbox, inbox.parent / "bundles")
    with build_lock(running.work).open("w") as lock, watched.locked():
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert shown(inbox) == [
            ("now.zip", "building: mesh", "about 5 min left"),
            ("a.zip", "waiting", "done in about 10 min"),
            ("b.zip", "waiting", "done in about 20 min"),
            ("c.zip", "waiting", "done in about 20 min"),
        ]


def test_what_is_done_says_how_it_ended(inbox: Path):
    """Its gates, or why it failed; a scan that was taken away is gone."""
    seen(inbox, "good.zip", "ingested")
    scene(inbox, "good.zip", "built", 60)
    seen(inbox, "bad.zip", "ingested")
    scene(inbox, "bad.zip", "built", 60, failed_gates=("scale",))
    seen(inbox, "text.zip", "failed", str(CaptureError("a capture has images", found="none", remedy="film it")))
    seen(inbox, "gone.zip", "ingested")
    (inbox / "gone.zip").unlink()
    rows = {scan: (state, more) for scan, state, more in shown(inbox)}
    assert rows.pop("text.zip")[0] == "failed"
    assert rows == {"good.zip": ("built", "all gates pass"), "bad.zip": ("built", "failed gates: scale")}
