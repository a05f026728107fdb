"""How many scenes fit into memory: by what like captures used, by a guess without, one at least."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import packing
from pipeline.packing import MEMORY_PER_SCENE, Packing, pack

GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 8 cores with 16 GiB free."""
    monkeypatch.setattr(packing, "available_memory", lambda: 16 * GIB)
    monkeypatch.setattr(packing, "core_count", lambda: 8)


def capture(folder: Path, name: str) -> Path:
    """A capture of 1000 bytes."""
    (folder / name).write_bytes(b"x" * 1000)
    return folder / name


def built(out: Path, name: str, source: str, peaks: dict[str, int]) -> None:
    """Run records of a scene whose stages used so much memory."""
    for stage, peak in peaks.items():
        record = {"stage": stage, "result_bytes": 10, "peak_memory": peak, "inputs": {}}
        if stage == "capture":
            record |= {"input_bytes": 1000, "inputs": {"source": source}}
        folder = out / name if stage == "bundle" else out / ".work" / name / stage
        folder.mkdir(parents=True)
        (folder / (".1.0.0.run.json" if stage == "bundle" else f".{'a' * 20}.run.json")).write_text(json.dumps(record))


def test_the_hungriest_stage_of_like_captures_tells(tmp_path):
    """The most that any of them used; where nothing alike was built, a guess."""
    out = tmp_path / "out"
    built(out, "one", "one.zip", {"capture": GIB, "splat": 2 * GIB, "bundle": GIB})
    built(out, "two", "two.zip", {"capture": GIB, "splat": 3 * GIB, "bundle": GIB})
    known, unknown = capture(tmp_path, "new.zip"), capture(tmp_path, "film.mp4")
    packed = pack({Path("known"): known, Path("unknown"): unknown}, out)
    assert packed.needs == {Path("known"): 3 * GIB, Path("unknown"): MEMORY_PER_SCENE}
    assert packed.memory == 16 * GIB


def test_who_asks_for_workers_is_believed_where_nothing_is_known(tmp_path):
    """But not against what was measured."""
    out = tmp_path / "out"
    built(out, "one", "one.zip", {"capture": GIB, "splat": 6 * GIB, "bundle": GIB})
    known, unknown = capture(tmp_path, "new.zip"), capture(tmp_path, "film.mp4")
    assert pack({Path("a"): known, Path("b"): unknown}, out, workers=16).needs == {Path("a"): 6 * GIB, Path("b"): GIB}
    assert pack({Path("b"): unknown}, out, workers=2).needs == {Path("b"): MEMORY_PER_SCENE}


def test_what_fits():
    """All together must fit; one alone always does."""
    small, middling, huge = Path("small"), Path("middling"), Path("huge")
    packed = Packing(10, {small: 2, middling: 5, huge: 20})
    assert packed.fits(small, [middling])
    assert packed.fits(middling, [middling])
    assert not packed.fits(middling, [middling, small])
    assert not packed.fits(small, [huge])
    assert packed.fits(huge, [])


def test_workers_are_as_many_as_fit():
    """Never more than cores or scenes, never none."""
    cards = [Path(str(number)) for number in range(20)]
    needs = {"few": 3 * GIB, "none": 40 * GIB, "all": GIB // 4}
    found = {name: Packing(16 * GIB, dict.fromkeys(cards, need)).workers for name, need in needs.items()}
    assert found == {"few": 5, "none": 1, "all": 8}
    assert Packing(16 * GIB, {Path("one"): GIB}).workers == 1
