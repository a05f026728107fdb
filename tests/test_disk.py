"""Room on the disk: known from like captures, guessed without, refused when it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import disk
from pipeline.disk import GUESSED_RATIO, check_room, room_for
from pipeline.errors import MachineError


def capture(folder: Path, name: str, size: int) -> Path:
    """A capture of one file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def built(out: Path, name: str, source: str, size: int, results: dict[str, int]) -> None:
    """Run records of a scene, as the engine leaves them; the results themselves are gone."""
    for stage, count in results.items():
        record = {"stage": stage, "result_bytes": count, "inputs": {}}
        if stage == "capture":
            record |= {"input_bytes": size, "inputs": {"source": source}}
        folder = out / name if stage == "bundle" else out / ".work" / name / stage
        folder.mkdir(parents=True)
        (folder / (".1.0.0.run.json" if stage == "bundle" else f".{'a' * 20}.run.json")).write_text(json.dumps(record))


def test_guessed_without_history(tmp_path):
    """Where nothing was built, the capture's size tells."""
    room = room_for([(capture(tmp_path, "a.zip", 1000), tmp_path / "out/.work/a")], tmp_path / "out")
    assert (room.needed, room.measured, room.guessed) == (1000 * GUESSED_RATIO, 0, 1)
    assert "1 guessed at 30 times" in room.basis
    assert room.free > 0


def test_like_captures_tell(tmp_path):
    """The mean of like captures (same kind of file, about as large) is taken; others and failed ones don't count."""
    out = tmp_path / "out"
    built(out, "one", "one.zip", 1000, {"capture": 2000, "mesh": 1000, "bundle": 1000})
    built(out, "two", "two.ZIP", 3000, {"capture": 6000, "bundle": 2000})
    built(out, "other", "film.mp4", 1000, {"capture": 10**6, "bundle": 10})
    built(out, "tiny", "tiny.zip", 100, {"capture": 10**6, "bundle": 10})
    built(out, "failed", "failed.zip", 1000, {"capture": 10})
    room = room_for([(capture(tmp_path, "new.zip", 2000), out / ".work" / "new")], out)
    assert (room.needed, room.measured, room.guessed) == (2000 * 12_000 // 4000, 1, 0)


def test_what_is_there_is_not_needed_again(tmp_path):
    """Results of an earlier run that still lie there are taken off; those that were removed are not."""
    out = tmp_path / "out"
    built(out, "new", "new.zip", 1000, {"capture": 2000, "mesh": 500})
    (out / ".work" / "new" / "capture" / ("a" * 20)).mkdir()
    room = room_for([(capture(tmp_path, "new.zip", 1000), out / ".work" / "new")], out)
    assert room.needed == 1000 * GUESSED_RATIO - 2000


def test_a_damaged_record_is_passed_over(tmp_path):
    """A kill may leave half a record; the rest still counts."""
    out = tmp_path / "out"
    built(out, "one", "one.zip", 1000, {"capture": 2000, "bundle": 1000})
    (out / ".work" / "one" / "capture" / f".{'b' * 20}.run.json").write_text('{"stage": "cap')
    assert room_for([(capture(tmp_path, "new.zip", 1000), out / ".work" / "new")], out).needed == 3000


def test_too_little_room_is_told(tmp_path, monkeypatch):
    """A batch that can't fit is refused with what it needs, what there is, and what to do."""
    scenes = [(capture(tmp_path, "a.zip", 2**20), tmp_path / "out/.work/a")]
    assert check_room(scenes, tmp_path / "out").needed == 30 * 2**20
    monkeypatch.setattr(disk, "GUESSED_RATIO", 2.0**40)
    with pytest.raises(MachineError, match=r"GiB needed \(0 of 1 scenes .*GiB free\n.*splatyard gc"):
        check_room(scenes, tmp_path / "out")
