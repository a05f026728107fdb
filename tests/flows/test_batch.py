"""The command line of `splatyard batch`: dry runs, what is cached, wrong options; and the loop that builds a batch."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.cli.batch import size
from flows.ingest import Orders, work_off
from pipeline.batch import Batch, Reason, SceneOutcome, load_batches
from pipeline.errors import MachineError
from tests.synthetic import Room, walk, write_photos


@pytest.fixture
def cards(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder: a good card and one with a typo."""
    write_photos(tmp_path / "photos", room, walk(3))
    (tmp_path / "good.yaml").write_text("source: {path: photos}")
    (tmp_path / "bad.yaml").write_text("nme: x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_shows_all_and_writes_nothing(cards, capsys):
    """Exit code 1 tells that a card is wrong."""
    assert main(["batch", "*.yaml", "--dry-run"]) == 1
    shown = capsys.readouterr().out
    for part in ("good", "runs", "no key 'nme'", "2 scenes: 1 failed, 1 waiting"):
        assert part in shown
    assert not (cards / "bundles").exists()
    assert main(["batch", "good.yaml", "--dry-run"]) == 0


def test_without_anything_to_build_no_flow_is_started(cards, monkeypatch, capsys):
    """Only what was found is put down, for `splatyard status`."""
    monkeypatch.setattr("flows.ingest.run", lambda *_: pytest.fail("a flow is started"))
    assert main(["batch", "bad.yaml"]) == 1
    (batch,) = load_batches(cards / "bundles")
    assert (batch.counts, batch.ended is not None) == ("1 failed", True)
    assert "no key 'nme'" in capsys.readouterr().out


def test_a_pattern_without_cards_is_an_error(cards, capsys):
    """With what to do about it."""
    assert main(["batch", "nothing/*.yaml"]) == 2
    assert "quote it" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "count"), [("4G", 2**32), ("1.5g", 3 * 2**29), ("500MiB", 500 * 2**20), ("7", 7)])
def test_sizes(text, count):
    """Units are powers of 1024."""
    assert size(text) == count


@pytest.mark.parametrize("text", ["0", "-1G", "4X", "G", ""])
def test_what_is_no_size(text):
    """Is refused."""
    with pytest.raises(ValueError):
        size(text)


class Team:
    """Workers whose work takes no time, and ends as told by a scene's name; sees how many are at work at once."""

    def __init__(self, ends: dict[str, list[str]] | None = None) -> None:
        self.ends, self.most, self.did = ends or {}, 0, []
        self._now, self._lock = 0, threading.Lock()

    def do(self, task: Any, parameters: dict[str, Any]) -> SceneOutcome:
        """End as told."""
        card = parameters["card"]
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.did.append(card.stem)
            end = self.ends.get(card.stem, ["built"]).pop(0)
        time.sleep(0.01)
        with self._lock:
            self._now -= 1
        if end == "lost":
            raise MachineError("a worker lives", found="it died", remedy="give it memory")
        reason = Reason(kind="CaptureError", rule="r", found="f", remedy="d") if end == "failed" else None
        return SceneOutcome(card=card, name=card.stem, state=end, reason=reason)  # pyright: ignore[reportArgumentType]


def work(folder: Path, team: Team, count: int, **orders: Any) -> tuple[dict[str, str], list[str]]:
    """States and told lines of a batch s0, s1, ... under two workers."""
    scenes = [
        SceneOutcome(card=folder / f"s{n}.yaml", name=f"s{n}", state="waiting", capture=folder, bundle=folder / f"s{n}")
        for n in range(count)
    ]
    batch, told = Batch.of(["*"], folder, scenes), []
    work_off(batch, Orders(**orders), team, 2, lambda text, *values: told.append(text % values))
    kept = Batch.load(batch.file)
    assert kept.ended is not None
    return {scene.name: scene.state for scene in kept.scenes.values()}, told


def test_all_scenes_are_built_by_as_many_as_there_are(tmp_path):
    """In order, two at a time, each once, each told."""
    team = Team()
    states, told = work(tmp_path, team, 7)
    assert set(states.values()) == {"built"}
    assert sorted(team.did) == [f"s{n}" for n in range(7)]
    assert team.most == 2
    assert [line.split(" ")[0] for line in told] == [f"{n}/7" for n in range(1, 8)]


def test_failures_stop_nothing_unless_told(tmp_path):
    """A lost worker is a failure too; with a limit the rest is stopped."""
    ends = {"s1": ["failed"], "s2": ["lost"]}
    states, told = work(tmp_path, Team({name: [*end] for name, end in ends.items()}), 6)
    assert sorted(states.values()) == ["built"] * 4 + ["failed"] * 2
    assert any("give it memory" in line for line in told)
    states, _ = work(tmp_path, Team({name: [*end] for name, end in ends.items()}), 40, max_failures=2)
    assert [states["s1"], states["s2"]] == ["failed", "failed"]
    assert states["s39"] == "stopped"


def test_busy_scenes_come_again_at_the_end(tmp_path, monkeypatch):
    """After all others, until the other process is done or gone."""
    monkeypatch.setattr("flows.ingest.BUSY_SECONDS", 0.0)
    team = Team({"s0": ["busy", "busy", "cached"]})
    states, told = work(tmp_path, team, 4)
    assert states == {"s0": "cached", "s1": "built", "s2": "built", "s3": "built"}
    assert team.did[-2:] == ["s0", "s0"]
    assert len(told) == 4
