"""`splatyard status`: the newest attempt at each scene, what it is at, and why it failed."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest

from flows.cli import main
from flows.cli.status import newest_attempts, stage_at_work
from pipeline.batch import Batch, Reason, SceneOutcome, State
from pipeline.engine import locked

NOW = datetime.datetime.now(datetime.UTC)


def made(out: Path, hours_ago: float, *, ended: bool = True, **states: State) -> Batch:
    """A saved batch of scenes in these states."""
    scenes = {
        name: SceneOutcome(card=out / f"{name}.yaml", name=name, state=state, work=out / ".work" / name)
        for name, state in states.items()
    }
    started = NOW - datetime.timedelta(hours=hours_ago)
    batch = Batch(
        id=f"{started:%Y%m%d-%H%M%S}-aaaaaa",
        out=out,
        cards=("*.yaml",),
        started=started,
        ended=started if ended else None,
        scenes={str(scene.card): scene for scene in scenes.values()},
    )
    batch.save()
    return batch


def attempts(*batches: Batch) -> dict[str, str]:
    return {scene.name: scene.state for scene in newest_attempts(batches)}


def test_the_newest_attempt_counts(tmp_path):
    """What a batch did not come to leaves the earlier attempt standing; without one it is shown as stopped."""
    new = made(tmp_path, 1, a="built", b="stopped", c="stopped")
    old = made(tmp_path, 2, a="failed", b="failed", d="cached")
    assert attempts(new, old) == {"a": "built", "b": "failed", "c": "stopped", "d": "cached"}


def test_a_killed_batch_is_told_from_one_that_runs(tmp_path):
    """By its lock, which the system gives back: its scene is lost, and what it had not begun stopped."""
    batch = made(tmp_path, 1, ended=False, a="running", b="waiting")
    assert attempts(batch) == {"a": "lost", "b": "stopped"}
    with locked(batch.lock, "the batch"):
        (tmp_path / ".work" / "a" / "mesh" / ".0123.partial").mkdir(parents=True)
        assert attempts(batch) == {"a": "running", "b": "waiting"}
        assert newest_attempts([batch])[0].stage == "mesh"
    assert stage_at_work(tmp_path / "nowhere") == ""


def test_a_build_with_and_without_its_card_is_one_scene(tmp_path):
    """The work folder tells: it goes by the bundle's name."""
    new, old = made(tmp_path, 1, a="failed"), made(tmp_path, 2, a="built", b="built")
    (scene,) = new.scenes.values()
    new.scenes = {"capture": scene.model_copy(update={"card": tmp_path / "capture"})}
    assert attempts(new, old) == {"a": "failed", "b": "built"}


def test_the_table_says_why_and_where(tmp_path, monkeypatch, capsys):
    """Reason with remedy, failed gates, the report's place, and nothing that rich would take for markup."""
    monkeypatch.chdir(tmp_path)
    batch = made(tmp_path / "bundles", 1, a="failed", b="built", c="cached")
    folder = tmp_path / "bundles"
    reason = Reason(kind="CaptureError", rule="photos [red]overlap[/]", found="none", remedy="take more")
    of = {scene.name: scene for scene in batch.scenes.values()}
    batch.note(of["a"].model_copy(update={"stage": "poses", "reason": reason, "seconds": 62.0}))
    batch.note(of["b"].model_copy(update={"gates": 9, "failed_gates": ("scale",), "bundle": folder / "b" / "1.0.0"}))
    batch.note(of["c"].model_copy(update={"gates": 9, "bundle": folder / "c" / "1.0.0"}))
    batch.save()
    assert main(["status"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "photos [red]overlap[/]; found: none; remedy: take more",
        "0:01:02",
        "│ poses │",
        "│ scale │ bundles/b/1.0.0/quality.html",
        "│ passed │ bundles/c/1.0.0/quality.html",
    ):
        assert part in shown


def test_a_scene_s_stages_show_what_they_took(tmp_path, capsys):
    """In the order of the stages, of each the newest run; a name that isn't there is an error."""
    batch = made(tmp_path, 1, hall="built", flat="built")
    (scene,) = (one for one in batch.scenes.values() if one.name == "hall")
    batch.note(scene.model_copy(update={"bundle": tmp_path / "hall" / "1.0.0"}))
    batch.save()
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
    assert " ".join(lines[0].split()) == "│ mesh │ 9.0 │ 2.5 │ 1.5 GiB │ 1 MiB │ 2 MiB │"
    assert main(["status", "--out", str(tmp_path), "hal"]) == 2
    assert "no hal" in capsys.readouterr().err


@pytest.mark.parametrize(("days", "shown"), [("1", False), ("3", True)])
def test_days_say_how_far_back(tmp_path, capsys, days, shown):
    """Older batches are not read."""
    made(tmp_path, 48, hall="built")
    assert main(["status", "--out", str(tmp_path), "--days", days]) == 0
    assert ("hall" in capsys.readouterr().out) == shown


def test_nothing_yet(tmp_path, capsys):
    """It says what makes batches, and makes no folder."""
    assert main(["status", "--out", str(tmp_path / "none")]) == 0
    assert "splatyard batch" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
