"""The command: whole bundles, the same bytes however they are made, killed and refused."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.errors import BusyError, CardError
from pipeline.io.results import locked
from pipeline.rooms.many import RoomsParams, make_rooms
from pipeline.scenes.resolver import find_scenes
from sim.scene.opening import open_scene
from tests.paths import ROOT
from tests.refusals import check_refusal

SEED = 38
"""Of two small rooms in a row: the first with a ragged floor and holes, the second with look-alikes."""
LONG = 60
"""Longest that a room may take on a busy machine [s]."""


def digests(folder: Path) -> dict[str, str]:
    """Hash of each file below a folder, by its path there; without locks."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rooms, made by the command."""
    out = tmp_path_factory.mktemp("rooms") / "yard"
    assert main(["rooms", "2", "--seed", str(SEED), "--out", str(out)]) == 0
    return out


def test_rooms_are_bundles_like_others(rooms: Path, capsys: pytest.CaptureFixture):
    """They are whole, generated, passed, exact, found by a pattern, and can be simulated and inspected."""
    found = find_scenes([f"{rooms}/*"])
    assert found == [str(rooms / name / "1.0.0") for name in ("room-000038", "room-000039")]
    for path in found:
        bundle = Bundle.open(path)
        assert bundle.verify() == []
        assert bundle.manifest.provenance.origin == "rendered"
        assert bundle.manifest.failed_gates == ()
        frame = bundle.manifest.frame
        assert (frame.gravity_from.sigma, frame.scale_from.sigma, frame.floor_found) == (0, 0, True)
        assert len(bundle.splat("full")) > 2 * len(bundle.splat("sim")) > 10_000
        assert bundle.mesh("collision").triangles.shape == bundle.mesh().triangles.shape
        scene = open_scene(path)
        assert len(scene.regions.goals) == 40
        assert len(scene.gaussians) == len(bundle.splat("sim"))
        assert main(["check", path]) == 0
        assert main(["inspect", path]) == 0
    assert "all gates passed" in capsys.readouterr().out
    assert [Bundle.open(path).manifest.report["room"]["alike"] for path in found] == [False, True]


def test_bytes_don_t_depend_on_company(rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Alone or with others, here or in processes."""
    monkeypatch.setattr("pipeline.rooms.many.FEW", 1)
    monkeypatch.setattr("pipeline.rooms.many.core_count", lambda: 2)
    made = make_rooms(RoomsParams(count=2, seed=SEED), tmp_path / "processes")
    assert made.kept == 0
    assert digests(tmp_path / "processes") == digests(rooms)
    monkeypatch.undo()
    make_rooms(RoomsParams(count=1, seed=SEED + 1), tmp_path / "alone")
    whole = digests(rooms)
    assert digests(tmp_path / "alone") == {name: value for name, value in whole.items() if "000039" in name}


def test_a_kill_leaves_whole_bundles(tmp_path: Path):
    """And the same command goes on: what is there is kept."""
    out = tmp_path / "yard"
    code = "from flows.cli import main; main()"
    words = [sys.executable, "-c", code, "rooms", "5", "--seed", str(SEED), "--out", str(out)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + LONG
    while not (out / "room-000038").exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.15)  # well within the next
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    whole = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert 1 <= len(whole) < 5
    assert all(Bundle.open(path / "1.0.0").verify() == [] for path in whole)
    before = digests(whole[0])
    made = make_rooms(RoomsParams(count=2, seed=SEED), out)
    assert made.kept >= 1
    assert digests(whole[0]) == before
    assert all(Bundle.open(folder).verify() == [] for folder in made.folders)
    assert not list(out.glob(".*.partial"))


@pytest.mark.parametrize(
    "words",
    [
        ["0"],
        ["10001"],
        ["2", "--scanned", "1.5"],
        ["2", "--scanned", "nan"],
        ["2", "--seed", "-1"],
        ["2", "--seed", "999999"],
        ["2", "--like", "no-such-bundle"],
    ],
)
def test_bad_input_is_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    """With one error and nothing written."""
    out = tmp_path / "yard"
    code = main(["rooms", *words, "--out", str(out)])
    check_refusal(code, capsys.readouterr().err)
    assert not out.exists()


def test_other_rooms_of_the_same_seed_are_not_overwritten(rooms: Path, tmp_path: Path):
    """Nor is anything else of that name; and two commands don't fill one folder at once."""
    before = digests(rooms)
    with pytest.raises(CardError, match="another --scanned"):
        make_rooms(RoomsParams(count=1, seed=SEED, scanned=0.1), rooms)
    with pytest.raises(CardError, match="--with"):
        make_rooms(RoomsParams(count=1, seed=SEED, feature="table"), rooms)
    assert digests(rooms) == before
    (tmp_path / "room-000001").mkdir()
    with pytest.raises(CardError, match="holds no such room"):
        make_rooms(RoomsParams(count=1, seed=1), tmp_path)
    with locked(rooms / ".rooms.lock", "x"), pytest.raises(BusyError, match="is being filled"):
        make_rooms(RoomsParams(count=1, seed=SEED), rooms)


def test_a_file_in_the_way_is_said(tmp_path: Path, capsys: pytest.CaptureFixture):
    """And not a bug."""
    (tmp_path / "yard").write_text("")
    check_refusal(main(["rooms", "1", "--out", str(tmp_path / "yard")]), capsys.readouterr().err)
