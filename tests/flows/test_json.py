"""`--json` of every command that has it: stdout is one JSON value, whatever else is said."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.cli import main, tables
from flows.cli.commands import COMMANDS
from pipeline.running.building import BuildResult, RunRecord
from pipeline.running.records import Scene
from sim.scene.scene import SceneLock
from tests.bundles import floor_of, make_bundle
from tests.publish.variants import PAGE, variant
from tests.synthetic import CAMERA, Room, walk, write_photos
from train.preset import load_preset
from train.runs.results import wilson
from train.runs.run import Run

HAVE = {"build", "eval", "doctor", "scene formats", "scene status", "bundle inspect", "bundle check", "bundle diff"}
HAVE |= {"bundle audit", "bundle objects", "bundle update"}
HAVE |= {"scene coach", "registry list", "registry publish", "policy runs", "policy evaluate"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    for name in ("SPLATYARD_REGISTRY", "SPLATYARD_BUNDLES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]):
    """What a command prints as JSON, where nothing else may be."""

    def run(*words: str | Path, code: int = 0) -> Any:
        assert main([*map(str, words), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_what_scripts_read_has_json():
    """By one option."""
    assert {name for name, one in COMMANDS.items() if any(found[0] == "as_json" for found in one._parameters())} == HAVE


def test_what_is_said_on_the_way_goes_to_stderr(capsys: pytest.CaptureFixture[str]):
    """Also by libraries; values of ours become texts, and what is no number null."""
    with tables.only_json():
        sys.stdout.write("a library's box\n")
        tables.say("a line")
        tables.show_json({"file": Path("a b"), "share": wilson(1, 2), "none": float("nan")})
    shown = capsys.readouterr()
    assert json.loads(shown.out)["file"] == "a b" and json.loads(shown.out)["none"] is None
    assert json.loads(shown.out)["share"]["successes"] == 1
    assert shown.err == "a library's box\na line\n"


def test_an_error_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]):
    """It is on stderr, and the exit code tells."""
    assert main(["check", "nowhere", "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "nowhere" in shown.err


def test_build(printed: Any, tmp_path: Path, room: Room, failed_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """The plan, and what was built with its verdicts."""
    import flows.build

    write_photos(tmp_path / "scan", room, walk(3), CAMERA.resized(80, 60))
    planned = printed("build", "scan", "--dry-run", "--until", "poses")
    assert [stage["name"] for stage in planned["stages"]] == ["capture", "select", "poses"]
    assert planned["bundle"].endswith("bundles/scan/1.0.0") and not planned["stages"][0]["cached"]
    done = BuildResult(failed_bundle, ("mesh",), {"mesh": 2.0}, Path("w/build.log"))
    monkeypatch.setattr(flows.build, "run", lambda _: done)
    built = printed("build", "scan")
    assert (built["bundle"], built["executed"], built["log"]) == (str(failed_bundle), ["mesh"], "w/build.log")
    assert not built["quality"]["passed"]
    monkeypatch.setattr(flows.build, "run", lambda _: BuildResult(None, (), {}, Path("w/build.log")))
    assert printed("build", "scan")["bundle"] is None


def test_check(printed: Any, own_bundle: Path, failed_bundle: Path):
    """What is wrong, with exit code 1."""
    good = printed("check", own_bundle)
    assert good["passed"] and good["problems"] == [] and good["bundle"] == "room@1.0.0"
    assert [gate["passed"] for gate in good["gates"]] == [True, True, None]
    assert "1 of 1" in good["left_out"]["images left out"]
    assert printed("check", failed_bundle, code=1)["problems"] == ["gate scale"]
    (own_bundle / "collision.ply").write_bytes(b"")
    damaged = printed("check", own_bundle, code=1)
    assert damaged["gates"] == [] and "collision.ply" in damaged["problems"][0]


def test_from_publish_to_diff(printed: Any, tmp_path: Path, room: Room):
    """Two versions: what was sent, what is listed, what differs."""
    first = make_bundle(tmp_path / "made", room)
    second = variant(first, tmp_path / "made", "1.0.1", files={PAGE: b"another page"})
    assert printed("publish", first)["change"] is None
    sent = printed("publish", second)
    assert (sent["change"], sent["new"], sent["sent"], sent["failed_gates"]) == ("patch", True, 1, [])
    assert [entry["version"] for entry in printed("list")] == ["1.0.0", "1.0.1"]
    found = printed("diff", first, second)
    assert (found["before"], found["after"], found["change"]) == ("room@1.0.0", "room@1.0.1", "patch")
    assert [*found["files"]] == [PAGE] and found["files"][PAGE][1]["bytes"] == 12
    assert all(gate["passed"] in (True, False, None) for pair in found["gates"].values() for gate in pair)


def test_objects(printed: Any, room_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """By name, with size, support, and why one stays."""
    import pipeline.objects.listing

    body = SimpleNamespace(size=np.array([1.0, 2.0, 0.5]), sigma=np.zeros(3))
    box = SimpleNamespace(
        name="box-1", lengths="", remarks="", body=body, on="floor", seen=0.5, fixed="a wall", touches=()
    )
    monkeypatch.setattr(pipeline.objects.listing, "objects_of", lambda _: [box])
    found = printed("objects", room_bundle)
    assert found["bundle"] == "room@1.0.0" and found["new_bundle"] is None
    assert found["objects"][0]["size_m"] == [1, 2, 0.5] and found["objects"][0]["fixed"] == "a wall"


def test_status(printed: Any, tmp_path: Path):
    """Scenes with what their stages used, and trainings with actors."""
    assert printed("status") == {"scenes": [], "trainings": []}
    work = tmp_path / "bundles/.work/hall"
    (work / "mesh").mkdir(parents=True)
    used = RunRecord(stage="mesh", seconds=2.5, cpu_seconds=5, peak_memory=7, input_bytes=1, result_bytes=2)
    (work / "mesh/.k.run.json").write_text(used.model_dump_json())
    bundle = tmp_path / "bundles/hall/1.0.0"
    Scene(card=Path("hall.yaml"), name="hall", state="built", work=work, bundle=bundle).save(tmp_path / "bundles")
    run = new_run("far")
    for row in (1, 2):
        run.curve.append({"iteration": row, "steps": 1000 * row, "seconds": 4.0 * row, "actors/count": 2})
    found = printed("status")
    assert (found["scenes"][0]["state"], found["scenes"][0]["used"][0]["cpu_seconds"]) == ("built", 5)
    assert (found["trainings"][0]["steps_per_second"], found["trainings"][0]["state"]) == (250, "killed")
    assert len(printed("status", "hall")["scenes"]) == 1
    (run.folder / "curve.jsonl").write_text("damaged\n")
    assert "line 1" in printed("status")["trainings"][0]["error"]


def test_runs(printed: Any):
    """How far each came, in numbers; a damaged one says so."""
    assert printed("runs") == []
    run = new_run("one")
    run.curve.append({"iteration": 7, "steps": 700, "seconds": 1.0, "success": 0.25})
    (found,) = printed("runs")
    assert (found["name"], found["scenes"], found["iteration"]) == ("one", ["hall@1.0.0"], 7)
    assert (found["training_success"], found["held_out_success"], found["evaluated"]) == (0.25, None, {})
    (run.folder / "curve.jsonl").write_text("damaged\n")
    os.utime(run.folder / "curve.jsonl")
    assert "line 1" in printed("runs")[0]["error"]


def new_run(name: str) -> Run:
    """A run that has not begun."""
    return Run.create(
        Path("runs"), load_preset("navigate"), [SceneLock("hall@1.0.0", "a" * 64, ())], ["hall"], 0, name=name
    )


def test_eval_of_a_driver(printed: Any, tmp_path: Path, room: Room):
    """Shares as numbers with their intervals."""
    bundle = make_bundle(tmp_path / "made", room, regions=floor_of(room))
    found = printed("eval", "--driver", "still", "--scene", bundle, "--episodes", "2")
    assert (found["driver"], found["task"]) == ("still", "navigate")
    assert found["results"][0]["shares"]["success"]["count"] == 2
