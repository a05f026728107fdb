"""`splatyard scene status`: what became of each scene, and why it failed."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from pipeline.running.records import Reason, Scene, State
from sim.scene.scene import SceneLock
from train.preset import load_preset
from train.runs.record import Ending
from train.runs.run import Run


def made(out: Path, name: str, state: State, hours_ago: float = 1, **known: Any) -> Scene:
    """A scene on file."""
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours_ago)
    known = {"work": out / ".work" / name, "began": began} | known
    return Scene(card=out / f"{name}.yaml", name=name, state=state, **known).save(out)


def test_the_table_says_why_and_where(tmp_path, monkeypatch, capsys):
    """Reason with remedy, failed gates, the report's place, and nothing that rich would take for markup."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "bundles"
    reason = Reason(kind="CaptureError", rule="photos [red]overlap[/]", found="none", remedy="take more")
    made(out, "a", "failed", stage="poses", reason=reason, seconds=62.0)
    made(out, "b", "built", gates=9, failed_gates=("scale",), bundle=out / "b" / "1.0.0")
    made(out, "c", "cached", gates=9, bundle=out / "c" / "1.0.0")
    made(out, "d", "running")
    made(out, "e", "built", gates=9, bundle=out / "e" / "1.0.0")
    for name in ("b", "c"):
        (out / name / "1.0.0").mkdir(parents=True)
        (out / name / "1.0.0" / "quality.html").touch()
    assert main(["status"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "photos [red]overlap[/]; found: none; remedy: take more",
        "0:01:02",
        "│ poses │",
        "│ scale │ bundles/b/1.0.0/quality.html",
        "│ passed │ bundles/c/1.0.0/quality.html",
        "│ d │ lost │",
        "│ passed │ deleted",
    ):
        assert part in shown


def test_a_scene_s_stages_show_what_they_took(tmp_path, capsys):
    """In the order of the stages, of each the newest run; a name that isn't there is an error."""
    made(tmp_path, "hall", "built", bundle=tmp_path / "hall" / "1.0.0")
    made(tmp_path, "flat", "built")
    record = {
        "seconds": 9.0,
        "cpu_seconds": 2.54,
        "peak_memory": 3 * 2**29,
        "input_bytes": 2**20,
        "result_bytes": 2**21,
    }
    files = {
        "bundle": tmp_path / "hall" / ".1.0.0.run.json",
        "mesh": tmp_path / ".work" / "hall" / "mesh" / ".bb.run.json",
        "gone": tmp_path / ".work" / "hall" / "gone" / ".aa.run.json",
    }
    for stage, file in files.items():
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(record | {"stage": stage}))
    older = files["mesh"].with_name(".cc.run.json")
    older.write_text(json.dumps(record | {"stage": "mesh", "seconds": 1234}))
    os.utime(older, (1, 1))
    assert main(["status", "--out", str(tmp_path), "hall"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "GiB" in line]
    assert [line.split()[1] for line in lines] == ["mesh", "bundle"]
    assert " ".join(lines[0].split()) == "│ mesh │ 9.0 │ 2.5 │ 1.5 GiB │ 1.0 MiB │ 2.0 MiB │"
    assert main(["status", "--out", str(tmp_path), "hal"]) == 2
    assert "no hal" in capsys.readouterr().err


@pytest.mark.parametrize(("days", "shown"), [("1", False), ("3", True)])
def test_days_say_how_far_back(tmp_path, capsys, days, shown):
    """Older attempts are not shown."""
    made(tmp_path, "hall", "built", 48)
    assert main(["status", "--out", str(tmp_path), "--days", days]) == 0
    assert ("hall" in capsys.readouterr().out) == shown


def test_trainings_with_actors_are_shown(tmp_path, capsys):
    """How many send steps, how fast, how old policies are, what was dropped; no others, and none that is older."""
    runs = tmp_path / "runs"
    now = datetime.datetime.now().timestamp()
    for name, changes, hours in (("a", {}, 0), ("b", {"actors/count": 8, "actors/alive": 7}, 0), ("old", {}, 48)):
        numbers = {"actors/count": 2, "actors/alive": 1, "actors/staleness": 3.4, "actors/stale": 5}
        numbers |= {"actors/refused": 6, "actors/replaced": 9} | changes
        _run(runs, name, numbers, now - 3600 * hours)
    _run(runs, "alone", {}, now)
    with Run.open("b", runs).busy():
        assert main(["status", "--runs", str(runs), "--out", str(tmp_path / "none"), "--days", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "│ a │ killed │ 1 of 2 │ 250 │ 3 │ 5 │ 6 │ 9 │" in shown
    assert "│ b │ training │ 7 of 8 │ 250 │" in shown
    assert "old" not in shown and "alone" not in shown and "splatyard scene batch" not in shown
    (runs / "a/curve.jsonl").write_text("damaged\n")
    Run.open("b", runs).end(Ending(reached=2, planned=2, by="iterations"))
    assert main(["status", "--runs", str(runs), "--out", str(tmp_path / "none")]) == 0
    shown = capsys.readouterr().out
    assert "line 1" in shown and "ended" in shown


def _run(runs: Path, name: str, numbers: dict[str, float], changed: float) -> None:
    """A run of two iterations of 1000 steps, the second of which took four seconds."""
    run = Run.create(runs, load_preset("navigate"), [SceneLock("hall@1.0.0", "a" * 64, ())], ["hall"], 0, name=name)
    for row in (1, 2):
        known = {"iteration": row, "steps": 1000 * row, "seconds": 4.0 * row, "steps_per_second": 9e9}
        run.curve.append(known | numbers)
    os.utime(run.folder / "curve.jsonl", (changed, changed))


def test_nothing_yet(tmp_path, capsys):
    """It says what makes batches, and makes no folder."""
    assert main(["status", "--out", str(tmp_path / "none")]) == 0
    assert "splatyard scene batch" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
