"""Batches: cards planned one by one, outcomes that say what happened, and a file that survives a kill."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import batch as module
from pipeline import building
from pipeline.batch import (
    Batch,
    Reason,
    SceneOutcome,
    build_scene,
    find_cards,
    load_batches,
    plan_batch,
    plan_card,
    plan_scene,
)
from pipeline.building import BuildRequest, plan, run_plan
from pipeline.engine import execute, locked
from pipeline.errors import CardError
from tests.fake_scene import ran
from tests.synthetic import Room, walk, write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory, room: Room) -> Path:
    """Three photos; don't change them."""
    folder = tmp_path_factory.mktemp("captures") / "photos"
    write_photos(folder, room, walk(3))
    return folder


@pytest.fixture
def lab(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a capture and no card, whose stages are fakes."""
    fakes = tuple(replace(stage, function="tests.fake_scene:run") for stage in building.STAGES)
    monkeypatch.setattr(building, "STAGES", fakes)
    monkeypatch.setenv("FAKE_LAB", str(tmp_path))
    (tmp_path / "photos").mkdir()
    for photo in photos.iterdir():
        (tmp_path / "photos" / photo.name).hardlink_to(photo)
    return tmp_path


def card(lab: Path, name: str, text: str = "source: {path: photos}") -> Path:
    path = lab / f"{name}.yaml"
    path.write_text(text)
    return path


def test_patterns_give_each_card_once_in_order(tmp_path):
    """Overlapping patterns, files by name and folders of any depth; what stands for nothing is an error."""
    for name in ("b.yaml", "a.yaml", "deep/er/c.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_cards([f"{tmp_path}/**/*.yaml", f"{tmp_path}/a.yaml", f"{tmp_path}/./*.yaml"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.yaml", "b.yaml", "deep/er/c.yaml"]
    with pytest.raises(CardError, match="no-such"):
        find_cards([f"{tmp_path}/a.yaml", f"{tmp_path}/no-such*.yaml"])


def test_wrong_cards_are_outcomes_and_stop_no_other(lab):
    """A typo, a missing capture and none at all fail with their own reason; the good card between them waits."""
    card(lab, "a", "nme: a")
    card(lab, "b")
    card(lab, "c", "source: {path: nowhere}")
    card(lab, "d", "name: d")
    planned = plan_batch([f"{lab}/*.yaml"], lab / "out")
    assert [scene.state for scene in planned.scenes.values()] == ["failed", "waiting", "failed", "failed"]
    reasons = [scene.reason.rule for scene in planned.those("failed") if scene.reason]
    assert "no key 'nme'" in reasons[0]
    assert "needs a capture" in reasons[1]
    assert "where its capture lies" in reasons[2]
    assert planned.counts == "3 failed, 1 waiting"
    assert not (lab / "out").exists(), "planning writes nothing"


@pytest.mark.parametrize("path", ["../outside", "/etc", "link"])
def test_a_card_reads_only_below_its_folder(lab, tmp_path_factory, photos, path):
    """Upwards, absolute or through a link; a folder of captures that the operator names is allowed too."""
    cards = lab / "cards"
    cards.mkdir()
    (lab / "outside").mkdir()
    (cards / "link").symlink_to(photos)
    asked = card(cards, "x", f"source: {{path: {path}}}")
    scene = plan_scene(asked, lab / "out")
    assert scene.state == "failed"
    assert scene.reason is not None
    assert "--captures" in scene.reason.remedy
    asked = card(cards, "x", "source: {path: link}")
    assert plan_scene(asked, lab / "out", photos.parent).state == "waiting"
    asked = card(cards, "x", f"source: {{path: {photos.name}}}")
    assert plan_scene(asked, lab / "out", photos.parent).state == "waiting"  # its path may begin there
    asked = card(cards, "x", f"source: {{path: ../{photos.parent.name}/{photos.name}/../../outside}}")
    assert plan_scene(asked, lab / "out", photos.parent).state == "failed"


@pytest.mark.parametrize(("capture", "name"), [("kitchen", "kitchen"), ("Hall 2.zip", "hall-2")])
def test_a_card_beside_its_capture_needs_neither_path_nor_name(lab, capture, name):
    """The capture is what the card is named after, and the scene too; a card that stands alone says so."""
    if capture.endswith(".zip"):
        shutil.make_archive(str(lab / "Hall 2"), "zip", lab / "photos")
    else:
        shutil.copytree(lab / "photos", lab / capture)
    planned = plan_card(card(lab, capture, "description: mine"), lab / "out")
    assert planned.name == name
    assert planned.stages[0].inputs["source"] == (lab / capture).resolve()
    with pytest.raises(CardError, match="nor alone beside the card"):
        plan_card(card(lab, "alone", "description: mine"), lab / "out")


@pytest.mark.parametrize("path", ['"pho\\0tos"', "a" * 300, "a/" * 3000, "~/photos", "$HOME/photos", "file:///etc"])
def test_a_path_that_is_none_is_the_cards_fault(lab, path):
    """A zero byte, too long a name, and what a shell or a browser would make something else of."""
    scene = plan_scene(card(lab, "x", f"source: {{path: {path}}}"), lab / "out")
    assert scene.reason is not None
    assert scene.reason.kind in ("CardError", "CaptureError")


def test_a_capture_with_a_link_to_elsewhere_is_refused(lab, tmp_path_factory):
    """Or a stranger's capture would show what lies on this machine; links within the folder are fine."""
    (lab / "photos" / "again.jpg").symlink_to("0000.jpg")
    assert plan_scene(card(lab, "x"), lab / "out").state == "waiting"
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    secret.write_bytes(b"")
    (lab / "photos" / "z.jpg").symlink_to(secret)
    scene = plan_scene(card(lab, "x"), lab / "out")
    assert scene.reason is not None
    assert "z.jpg is a link to" in scene.reason.found


def test_two_cards_of_one_name_are_refused(lab):
    """Both would become version 1.0.0 of one bundle; the second is told which the first is."""
    card(lab, "a", "{name: hall, source: {path: photos}}")
    card(lab, "b", "{name: hall, source: {path: photos}, description: another}")
    first, second = plan_batch([f"{lab}/*.yaml"], lab / "out").scenes.values()
    assert (first.state, second.state) == ("waiting", "failed")
    assert second.reason is not None
    assert "a.yaml makes 'hall' too" in second.reason.found


def test_built_then_cached(lab):
    """A scene without a name has its card's; the second time nothing runs, and its gates are known from the bundle."""
    made = build_scene(card(lab, "hall", "{source: {path: photos}, gates: {scale: 0.01}}"), lab / "out")
    assert (made.state, made.name, made.gates, made.failed_gates) == ("built", "hall", 1, ("scale",))
    assert made.bundle == lab / "out" / "hall" / "1.0.0"
    assert list(made.stages) == [name for _, name, _ in ran(lab)]
    again = plan_scene(made.card, lab / "out")
    assert (again.state, again.bundle, again.failed_gates) == ("cached", made.bundle, ("scale",))
    assert build_scene(made.card, lab / "out").state == "cached"
    assert len(ran(lab)) == len(made.stages)


def test_a_failed_scene_names_stage_and_reason_and_goes_on_there(lab):
    """The next try does only what is missing."""
    asked = card(lab, "hall")
    (lab / "hall.mesh").write_text("raise")
    failed = build_scene(asked, lab / "out")
    assert (failed.state, failed.stage) == ("failed", "mesh")
    assert failed.reason == Reason(
        kind="ReconstructionError",
        rule="the pictures overlap",
        found="none do",
        remedy="take more",
        file=str(lab / "picture.jpg"),
    )
    before = [name for _, name, _ in ran(lab)]
    (lab / "hall.mesh").unlink()
    assert list(build_scene(asked, lab / "out").stages) == ["mesh", *list(building.PARAMS)[len(before) :]]


def test_what_another_process_builds_is_busy(lab):
    """Neither failed nor built, and nothing of it is touched."""
    asked = card(lab, "hall")
    work = plan_scene(asked, lab / "out").work
    assert work is not None
    with locked(work / ".build.lock", "hall"):
        assert build_scene(asked, lab / "out").state == "busy"
    assert ran(lab) == []
    assert build_scene(asked, lab / "out").state == "built"


def build(lab: Path, **options) -> SceneOutcome:
    """A single build, and what it leaves for `splatyard status`."""
    planned = plan(BuildRequest(lab / "photos", name="hall", out=lab / "out", **options))
    try:
        with module.noted(planned, None, lab / "out"):
            (running,) = next(load_batches(lab / "out")).scenes.values()
            assert running.state == "running"
            run_plan(planned)
    finally:
        batch = next(load_batches(lab / "out"))
        (scene,) = batch.scenes.values()
        assert batch.ended is not None
        assert (scene.name, scene.card, scene.work) == ("hall", (lab / "photos").resolve(), planned.work)
    return scene


def test_a_single_build_is_noted_as_a_batch_is(lab):
    """Built with its stages; stopped where --until wanted it, or where Ctrl-C came."""
    until = build(lab, until="mesh")
    assert (until.state, until.stage) == ("stopped", "mesh")
    done = build(lab)
    assert (done.state, done.stage, list(done.stages)[-1]) == ("built", "", "bundle")
    assert "capture" not in done.stages, "it was there"


@pytest.mark.parametrize(
    ("error", "state"),
    [(CardError("r", found="f", remedy="d"), "failed"), (OSError(5, "x"), "failed"), (KeyboardInterrupt(), "stopped")],
)
def test_a_single_build_that_fails_is_noted(lab, monkeypatch, error, state):
    """With the stage and the reason, and the error goes on its way."""
    planned = plan(BuildRequest(lab / "photos", name="hall", out=lab / "out"))
    with pytest.raises(type(error)), module.noted(planned, None, lab / "out"):
        raise error
    (scene,) = next(load_batches(lab / "out")).scenes.values()
    assert (scene.state, scene.stage) == (state, "capture")
    assert (scene.reason is None) == (state == "stopped")


def test_bugs_and_file_trouble_are_reasons_too(lab):
    """A batch outlives whatever a stage raises."""

    def stumble(planned):
        if planned.name == "poses":
            raise ZeroDivisionError("division by zero")
        return execute(planned)

    scene = build_scene(card(lab, "hall"), lab / "out", run=stumble)
    assert (scene.state, scene.stage) == ("failed", "poses")
    assert scene.reason is not None
    assert scene.reason.kind == "ZeroDivisionError"
    assert "report it" in scene.reason.remedy
    trouble = Reason.of(OSError(errno.ESTALE, "Stale file handle", "/nfs/x"))
    assert (trouble.found, trouble.file) == ("Stale file handle", "/nfs/x")


def test_the_file_is_whole_at_any_time(tmp_path, monkeypatch):
    """A reader beside the writer never finds half of it, and what was noted arrives."""
    monkeypatch.setattr(module, "SAVE_SECONDS", 0)
    scenes = [SceneOutcome(card=tmp_path / f"{n}.yaml", name=f"s{n}", state="waiting") for n in range(300)]
    batch = Batch.of(["*.yaml"], tmp_path, scenes)
    batch.save()
    ended = threading.Event()

    def write() -> None:
        for scene in scenes[:30]:
            batch.note(scene.become("built"))
            batch.keep()
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not ended.is_set() or not reads:
        assert len(Batch.load(batch.file).scenes) == 300
        reads += 1
        time.sleep(0.001)
    writer.join()
    assert Batch.load(batch.file).counts == "30 built, 270 waiting"
    assert [path.name for path in batch.file.parent.iterdir()] == [batch.file.name]


def test_an_ended_batch_leaves_nothing_open(tmp_path):
    """What it did not come to is stopped."""
    states = ("built", "running", "waiting", "busy", "failed")
    scenes = [SceneOutcome(card=tmp_path / state, name=state, state=state) for state in states]
    batch = Batch.of(["*"], tmp_path, scenes)
    batch.end()
    kept = Batch.load(batch.file)
    assert [scene.state for scene in kept.scenes.values()] == ["built", "stopped", "stopped", "stopped", "failed"]
    assert kept.ended is not None


def test_batches_come_newest_first_and_damaged_ones_are_left_out(tmp_path, caplog):
    """A damaged file is told, and hides no other."""
    for identity in ("20260101-000000-aaaaaa", "20260102-000000-aaaaaa"):
        Batch.of([], tmp_path, []).model_copy(update={"id": identity}).save()
    (tmp_path / ".batches" / "20260103-000000-aaaaaa.json").write_text("{")
    assert [batch.id[:8] for batch in load_batches(tmp_path)] == ["20260102", "20260101"]
    assert "20260103-000000-aaaaaa.json is no batch" in caplog.text


def test_the_newest_batch_is_the_newest_though_the_clock_went_back(tmp_path):
    """Ids sort in the order in which batches began."""
    ahead = Batch.of([], tmp_path, []).model_copy(update={"id": "29991231-235959-ffffff"})
    ahead.save()
    for _ in range(3):
        batch = Batch.of([], tmp_path, [])
        batch.save()
        assert next(load_batches(tmp_path)).id == batch.id


def test_many_cards_are_planned_in_processes_alike(lab, monkeypatch):
    """The outcomes are those of planning one by one, in the same order."""
    for number in range(6):
        card(lab, f"s{number}", "nme: x" if number == 3 else "source: {path: photos}")
    alone = plan_batch([f"{lab}/*.yaml"], lab / "out").scenes
    monkeypatch.setattr(module, "PROCESSES_FROM", 1)
    assert plan_batch([f"{lab}/*.yaml"], lab / "out").scenes == alone
