"""Scans dropped in a folder: ingested once they have stopped growing, once, and what is bad stops nothing."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger

from flows import watch_folder as module
from flows.ingest import Options
from flows.lab.inbox import MAX_TRIES, Inbox, Seen
from flows.watch_folder import watch_folder
from pipeline.errors import CaptureError, CardError, MachineError
from pipeline.running.cards import find_cards
from pipeline.running.records import Reason, Scene
from pipeline.stage import Traits

NOTHING = "nothing new"


class Yard:
    """A folder for scans, and what the flow had ingested."""

    def __init__(self, root: Path) -> None:
        self.folder, self.out = root / "inbox", root / "bundles"
        self.folder.mkdir()
        self.cards: list[dict] = []
        self.slept: list[float] = []
        self.tables: list[list[dict]] = []
        self.told: list[dict] = []
        self.error: BaseException | None = None
        self.breaks = False
        self.while_asleep: Callable[[], object] = lambda: None

    def build(self, cards: list[str], out: Path, options: Options) -> list[Scene]:
        """In place of what builds: notes the cards."""
        assert (out, options) == (self.out, Options(store="s3://bucket/yard"))
        if isinstance(self.error, KeyboardInterrupt):
            raise self.error
        scenes = []
        for card in find_cards(cards):
            self.cards.append({"file": card.name} | yaml.safe_load(card.read_text()))
            reason = Reason.of(self.error) if self.error else None
            state = "failed" if reason else "built"
            scenes.append(Scene(card=card, name=card.stem, state=state, stage="poses", reason=reason))
        if self.breaks:
            raise OSError("the server is away")
        return scenes

    def sleep(self, seconds: float) -> None:
        """In place of waiting."""
        self.slept.append(seconds)
        self.while_asleep()

    def look(self) -> tuple[str, list[str]]:
        """What a run of the flow does: its message, and what was ingested."""
        state = self.state()
        return state.message, [row["scan"] for row in self.told if row["state"] == "ingested"]

    def state(self) -> State[None]:
        """How a run of the flow ends."""
        before = len(self.tables)
        with disable_run_logger():
            state = watch_folder.fn(self.folder, self.out, 7.0, "s3://bucket/yard")
        self.told = [row for table in self.tables[before:] for row in table]
        return state

    def seen(self, name: str):
        """The record of a scan, as another process would read it."""
        return Inbox(self.folder, self.out).record.scans[name]

    def drop(self, name: str) -> Path:
        """A folder of photos."""
        scan = self.folder / name
        scan.mkdir()
        (scan / "0001.jpg").write_bytes(b"an image")
        return scan


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """An empty one, in which everything that is dropped passes for photos."""
    made = Yard(tmp_path)
    traits = Traits("photos", 12, has_poses=False, has_depth=False, has_gravity=False, ordered=True)
    monkeypatch.setattr("pipeline.capture.detect.probe", lambda path: traits)
    monkeypatch.setattr(module, "build_cards", made.build)
    monkeypatch.setattr(module, "create_table_artifact", lambda rows, key, description: made.tables.append(rows))
    monkeypatch.setattr(module.time, "sleep", made.sleep)
    return made


def test_a_scan_is_ingested_once_under_its_name(yard: Yard):
    """A folder and an archive, each with a card that leads to it; the next look finds nothing to wait for."""
    yard.drop("Big Hall")
    with zipfile.ZipFile(yard.folder / "kitchen.zip", "w") as archive:
        archive.writestr("0001.jpg", b"an image")
    assert yard.look() == ("2 ingested, 0 failed, 0 still changing", ["Big Hall", "kitchen.zip"])
    assert [(card["file"], card["name"], card["source"]["path"]) for card in yard.cards] == [
        ("Big Hall.yaml", "big-hall", "Big Hall"),
        ("kitchen.zip.yaml", "kitchen", "kitchen.zip"),
    ]
    assert yard.slept == [7.0]
    assert yard.look() == (NOTHING, [])
    assert yard.slept == [7.0]
    assert yard.seen("kitchen.zip").state == "ingested"


def test_a_scan_that_grows_is_left_for_the_next_look(yard: Yard):
    """Whatever grows: a file of it, or the number of its files; the others don't wait for it."""
    growing, more = yard.drop("growing"), yard.drop("more")
    yard.drop("whole")

    def copy() -> None:
        with (growing / "0001.jpg").open("ab") as file:
            file.write(b"more of it")
        (more / "0002.jpg").touch()

    yard.while_asleep = copy
    assert yard.look() == ("1 ingested, 0 failed, 2 still changing", ["whole"])
    yard.while_asleep = lambda: None
    assert yard.look()[1] == ["growing", "more"]
    assert yard.look()[0] == NOTHING


def test_a_change_of_time_alone_is_a_change(yard: Yard):
    """A scan that is written anew with the same size is a new one."""
    scan = yard.drop("hall")
    yard.look()
    about = (scan / "0001.jpg").stat()
    os.utime(scan / "0001.jpg", ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert yard.look()[1] == ["hall"]


def test_bad_input_is_left_alone_until_it_changes(yard: Yard):
    """Why is kept; a corrected card is a change, and the others are ingested all the same."""
    yard.error = CaptureError("images overlap", found="none", remedy="walk slower")
    yard.drop("bad")
    assert yard.look() == ("0 ingested, 1 failed, 0 still changing", [])
    assert yard.seen("bad").state == "failed"
    assert [(row["scan"], row["state"]) for row in yard.tables[0]] == [("bad", "failed")]
    assert "walk slower" in yard.seen("bad").why
    yard.error = None
    yard.drop("good")
    assert yard.look()[1] == ["good"]
    with (yard.folder / "bad.yaml").open("a") as card:
        card.write("\n# corrected\n")
    assert yard.look()[1] == ["bad"]


def test_what_is_no_capture_gets_no_card(yard: Yard, monkeypatch: pytest.MonkeyPatch):
    """And is looked at once."""

    def probe(_: Path) -> Traits:
        raise CaptureError("a capture has images", found="notes.txt", remedy="drop a scan")

    monkeypatch.setattr("pipeline.capture.detect.probe", probe)
    (yard.folder / "notes.txt").write_text("buy milk")
    assert yard.look()[0] == "0 ingested, 1 failed, 0 still changing"
    assert [path.name for path in yard.folder.iterdir()] == ["notes.txt"]
    assert not yard.cards
    assert yard.look()[0] == NOTHING


@pytest.mark.parametrize("error", [MachineError("room", found="none", remedy="free some"), RuntimeError("a bug")])
def test_trouble_with_the_machine_is_tried_again(yard: Yard, error: Exception):
    """But not for ever."""
    yard.error = error
    yard.drop("hall")
    for _ in range(MAX_TRIES):
        assert yard.look()[0] == "0 ingested, 1 failed, 0 still changing"
    assert yard.look()[0] == NOTHING
    assert len(yard.cards) == MAX_TRIES
    assert str(Reason.of(error)) in yard.seen("hall").why


def test_a_batch_that_breaks_is_tried_again(yard: Yard):
    """A server that is away, say: why is kept."""
    scan = yard.drop("hall [east]")
    yard.look()
    (scan / "0002.jpg").touch()
    yard.breaks = True
    assert yard.look()[0] == "0 ingested, 1 failed, 0 still changing"
    assert yard.seen("hall [east]").why == "the server is away"
    yard.breaks = False
    assert yard.look()[1] == ["hall [east]"]


def test_a_killed_look_is_made_up_for(yard: Yard):
    """What it had begun is begun again; a scan that takes its process along every time is given up."""
    yard.drop("hall")
    yard.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        yard.look()
    assert yard.seen("hall").state == "begun"
    yard.error = None
    assert yard.look()[1] == ["hall"]


def test_two_looks_at_once_do_not_ingest_twice(yard: Yard):
    """The second one says so and goes."""
    yard.drop("hall")
    with Inbox(yard.folder, yard.out).locked():
        assert yard.look() == ("another run for this folder is not done yet", [])
    assert not yard.cards


def test_strangers_reach_nothing_outside(yard: Yard, tmp_path: Path):
    """Links, hidden files and cards alone are no scans."""
    (tmp_path / "secret").mkdir()
    (yard.folder / "link").symlink_to(tmp_path / "secret")
    (yard.folder / ".hidden").write_text("half an upload")
    (yard.folder / "lonely.yaml").write_text("name: lonely")
    (yard.folder / "two\nlines").write_text("x")
    assert yard.look() == (NOTHING, [])


def test_the_folder_is_made(yard: Yard):
    """A scheduled look in a new lab is no failure."""
    yard.folder.rmdir()
    assert yard.look() == (NOTHING, [])
    assert yard.folder.is_dir()


def test_a_damaged_record_says_so(yard: Yard):
    """And is not taken for an empty one."""
    yard.drop("hall")
    yard.look()
    record = next((yard.out / ".inbox").glob("*.json"))
    record.write_text("{")
    with pytest.raises(MachineError, match="remove the file"):
        yard.look()


def test_nothing_is_read_or_written_through_a_dropped_link(yard: Yard, tmp_path: Path):
    """A scan with a link is not looked at, nor a card that is one; one in the place of our own file gives way."""
    secret = tmp_path / "secret.yaml"
    secret.write_text("description: mine\n")
    scans = Inbox(yard.folder, yard.out)
    (yard.folder / "linked").mkdir()
    (yard.folder / "linked" / "0001.jpg").symlink_to(secret)
    with pytest.raises(CardError, match="is a link to"):
        scans.begin("linked")
    (yard.folder / "carded").mkdir()
    (yard.folder / "carded.yaml").symlink_to(secret)
    with pytest.raises(CardError, match="file of its own"):
        scans.begin("carded")
    (yard.folder / "planted").mkdir()
    (yard.folder / ".planted.yaml.partial").symlink_to(secret)
    scans.begin("planted")
    assert secret.read_text() == "description: mine\n"
    assert not (yard.folder / "planted.yaml").is_symlink()
    assert "planted" in (yard.folder / "planted.yaml").read_text()


def test_times_have_their_zone():
    """Who looks at the table may be in another one than the machine."""
    assert datetime.fromisoformat(Seen(stamp="a", state="begun", tries=1).when).tzinfo
