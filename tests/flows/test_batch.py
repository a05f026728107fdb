"""The command line of `splatyard scene batch`: dry runs, caching, wrong options; the loop that builds a batch."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State as PrefectState
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.states import Completed
from prefect.utilities.annotations import quote

from flows.cli import main
from flows.ingest import Options, SceneFailedError, _run_stage, build_all
from pipeline.errors import CaptureError, MachineError
from pipeline.running.engine import PlannedStage
from pipeline.running.records import Scene, State, counts, load_scenes
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
    for part in ("good", "runs", "no key 'nme'", "2 scenes: 1 failed, 1 waiting", "disk: ", "captures to build have"):
        assert part in shown
    assert not (cards / "bundles").exists()
    assert main(["batch", "good.yaml", "--dry-run"]) == 0


def test_without_anything_to_build_no_flow_is_started(cards, monkeypatch, capsys):
    """Only what was found is put down, for `splatyard scene status`."""
    monkeypatch.setattr("flows.ingest.run", lambda *_: pytest.fail("a flow is started"))
    assert main(["batch", "bad.yaml"]) == 1
    assert counts(load_scenes(cards / "bundles")) == "1 failed"
    assert "no key 'nme'" in capsys.readouterr().out


def test_a_pattern_without_cards_is_an_error(cards, capsys):
    """With what to do about it."""
    assert main(["batch", "nothing/*.yaml"]) == 2
    assert "quote it" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "what"), [("--stage-seconds", "seconds"), ("--stage-memory", "size")])
def test_a_wrong_limit_is_told_in_words(capsys, option, what):
    """What the option takes, as people call it."""
    with pytest.raises(SystemExit):
        main(["batch", "a.yaml", option, "4X"])
    assert f"argument {option}: invalid {what} value: '4X'" in capsys.readouterr().err


def test_a_store_s_address_with_a_password_is_refused(cards, capsys):
    """Nothing is started, the message says where it belongs, and doesn't show it."""
    assert main(["batch", "good.yaml", "--store", "s3://KEY:TOP/SECRET@yard/results"]) == 2
    shown = capsys.readouterr()
    assert "AWS_SECRET_ACCESS_KEY" in shown.err
    assert "s3://...@yard/results" in shown.err
    assert "SECRET@" not in shown.out + shown.err
    assert not (cards / "bundles").exists()


def test_a_store_that_is_not_there_is_one_error(cards, capsys):
    """Before anything is started."""
    assert main(["batch", "good.yaml", "--store", str(cards / "not mounted")]) == 2
    assert "a folder or bucket that exists" in capsys.readouterr().err
    assert not (cards / "bundles").exists()


class Team:
    """Builds scenes in no time, each as told by its name; sees how many are built at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: dict[str, list[str]] | None = None) -> None:
        self.ends, self.most, self.did = ends or {}, 0, []
        self._now, self._lock = 0, threading.Lock()
        monkeypatch.setattr("flows.ingest.named_for", lambda _: self.build)

    def build(self, quoted: quote[Scene], *_: object) -> PrefectState[Scene]:
        """End as told."""
        scene = quoted.unquote()
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.did.append(scene.name)
            end = self.ends.get(scene.name, ["built"]).pop(0)
        time.sleep(0.01)
        with self._lock:
            self._now -= 1
        if end == "refused":
            raise ConcurrencySlotAcquisitionError("the server is away")
        if end == "lost":
            raise MachineError("a worker lives", found="it died", remedy="give it memory")
        if end == "failed":
            raise SceneFailedError(scene.failed("mesh", CaptureError("r", found="f", remedy="d")))
        return Completed(data=scene.become(cast("State", end)))


def work(folder: Path, count: int, **options: Any) -> tuple[dict[str, str], list[str]]:
    """States and told lines of a batch s0, s1, ... under two workers."""
    scenes = [
        Scene(card=folder / f"s{n}.yaml", name=f"s{n}", state="waiting", captures=(folder,), bundle=folder / f"s{n}")
        for n in range(count)
    ]
    told: list[str] = []
    done = build_all(scenes, Options(workers=2, **options), lambda text, *values: told.append(text % values))
    return {scene.name: scene.state for scene in done}, told


def test_all_scenes_are_built_by_as_many_as_there_are(tmp_path, monkeypatch):
    """In order, two at a time, each once, each told."""
    team = Team(monkeypatch)
    states, told = work(tmp_path, 7)
    assert set(states.values()) == {"built"}
    assert sorted(team.did) == [f"s{n}" for n in range(7)]
    assert team.most == 2
    assert [line.split(" ")[0] for line in told] == [f"{n}/7" for n in range(1, 8)]


def test_failures_stop_nothing_unless_told(tmp_path, monkeypatch):
    """A lost worker is a failure too, and a slot that the server doesn't give; with a limit the rest is stopped."""
    ends = {"s1": ["failed"], "s2": ["lost"], "s3": ["refused"]}
    Team(monkeypatch, {name: [*end] for name, end in ends.items()})
    states, told = work(tmp_path, 6)
    assert sorted(states.values()) == ["built"] * 3 + ["failed"] * 3
    assert any("see that the server runs" in line for line in told)
    assert any("give it memory" in line for line in told)
    Team(monkeypatch, {name: [*end] for name, end in ends.items()})
    states, told = work(tmp_path, 40, max_failures=2)
    assert [states["s1"], states["s2"]] == ["failed", "failed"]
    assert states["s39"] == "stopped"


def test_busy_scenes_come_again_at_the_end(tmp_path, monkeypatch):
    """After all others, until the other process is done or gone."""
    monkeypatch.setattr("flows.ingest.BUSY_SECONDS", 0.0)
    team = Team(monkeypatch, {"s0": ["busy", "busy", "cached"]})
    states, told = work(tmp_path, 4)
    assert states == {"s0": "cached", "s1": "built", "s2": "built", "s3": "built"}
    assert team.did[-2:] == ["s0", "s0"]
    assert len(told) == 4


def test_an_interrupt_ends_stages_and_stops_scenes(tmp_path, monkeypatch):
    """The scene at work ends as by Ctrl-C, is not tried again, and nothing else begins."""
    begun, ended, seen = threading.Event(), threading.Event(), list[type]()

    def stage(_: object) -> bool:
        begun.set()
        assert ended.wait(60)
        raise MachineError("the process must live", found="it ended", remedy="run again")

    def build(scene: Scene, *_: object) -> PrefectState[Scene]:
        try:
            _run_stage.get()(cast("PlannedStage", None))
        except BaseException as error:
            seen.append(type(error))
            raise
        return Completed(data=scene)

    def interrupt(*_: object) -> Any:
        assert begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.ingest.named_for", lambda _: build)
    monkeypatch.setattr("flows.ingest.wait", interrupt)
    monkeypatch.setattr("flows.ingest.end_all", ended.set)
    monkeypatch.setattr("flows.ingest.open_runner", lambda *_: nullcontext(stage))
    with pytest.raises(KeyboardInterrupt):
        work(tmp_path, 2)
    assert set(seen) == {KeyboardInterrupt}
