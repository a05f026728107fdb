"""Batches: cards planned one by one, and a file for each scene that says what became of it and survives a kill."""

from __future__ import annotations

import errno
import pickle
import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.capture.detect import probe_and_digest
from pipeline.errors import CaptureError, CardError, MachineError
from pipeline.io.results import locked
from pipeline.running import batch as module
from pipeline.running import building, needs, records
from pipeline.running.batch import attempt, build_scene, check_room, plan_batch, plan_card, plan_scene
from pipeline.running.building import BuildRequest, plan
from pipeline.running.cards import find_cards
from pipeline.running.engine import PlannedStage, execute
from pipeline.running.records import Reason, Scene, State, counts, load_scenes
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


def build_card(card: Path, out: Path, **options) -> Scene:
    return build_scene(plan_scene(card, out), **options)


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
    assert [scene.state for scene in planned] == ["failed", "waiting", "failed", "failed"]
    reasons = [scene.reason.rule for scene in planned if scene.reason]
    assert "no key 'nme'" in reasons[0]
    assert "needs a capture" in reasons[1]
    assert "where its captures lie" in reasons[2]
    assert counts(planned) == "3 failed, 1 waiting"
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


def test_a_card_of_several_captures(lab: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory, room: Room):
    """They are read from the card's folder and the operator's, and joined; each of them is a capture of the scene."""
    write_photos(lab / "more" / "stairs", room, walk(4))
    (lab / "link").symlink_to(photos)
    text = "sources: [photos, more/stairs]\nlinks: [{a: photos--1, b: stairs--1}]"
    planned = plan_card(card(lab, "house", text), lab / "out")
    assert planned.name == "house"
    assert [stage.name for stage in planned.stages][:3] == ["capture-photos", "capture-stairs", "capture"]
    assert planned.sources == (lab / "photos", lab / "more" / "stairs")
    assert dict(planned.stages[2].params)["links"][0].a == "photos--1"
    scene = plan_scene(card(lab, "house", text), lab / "out")
    assert (scene.state, scene.captures) == ("waiting", planned.sources)
    elsewhere = card(lab, "elsewhere", f"sources: [more/stairs, {photos.name}/../{photos.name}]")
    assert plan_card(elsewhere, lab / "out", photos.parent).sources[0] == lab / "more" / "stairs"
    for outside in ("/etc", "../x", "link"):
        with pytest.raises(CardError, match="only what lies in its folder"):
            plan_card(card(lab, "out", f"sources: [photos, {outside}]"), lab / "out")
    for wrong, found in (
        ("sources: [photos, photos]", "named once"),
        ('sources: [photos, ""]', "where its captures lie"),
        ("{sources: [photos], source: {path: photos}}", "source.path and sources"),
        ("{sources: [photos], links: [{a: photos--1, b: stairs--1}]}", "1 links, and one capture"),
        (f"sources: {[f'x{k}' for k in range(101)]}", "sources"),
    ):
        with pytest.raises((CardError, CaptureError), match=found):
            plan_card(card(lab, "wrong", wrong), lab / "out")


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
    first, second = plan_batch([f"{lab}/*.yaml"], lab / "out")
    assert (first.state, second.state) == ("waiting", "failed")
    assert second.reason is not None
    assert "a.yaml makes 'hall' too" in second.reason.found


def test_built_then_cached(lab):
    """A scene without a name has its card's; the second time nothing runs, and its gates are known from the bundle."""
    made = build_card(card(lab, "hall", "{source: {path: photos}, gates: {scale: 0.01}}"), lab / "out")
    assert (made.state, made.name, made.gates, made.failed_gates) == ("built", "hall", 1, ("scale",))
    assert made.bundle == lab / "out" / "hall" / "1.0.0"
    assert list(made.stages) == [name for _, name, _ in ran(lab)]
    again = plan_scene(made.card, lab / "out")
    assert (again.state, again.bundle, again.failed_gates) == ("cached", made.bundle, ("scale",))
    assert build_card(made.card, lab / "out").state == "cached"
    assert len(ran(lab)) == len(made.stages)


@pytest.fixture
def hashed(monkeypatch) -> list[Path]:
    """The captures that were hashed, each time they were."""
    done: list[Path] = []

    def probe(source: Path):
        done.append(source)
        return probe_and_digest(source)

    monkeypatch.setattr("pipeline.capture.detect.probe_and_digest", probe)
    return done


def test_a_capture_is_hashed_once(lab, hashed):
    """The plan that a batch shows is the one that it builds."""
    scene = plan_scene(card(lab, "hall"), lab / "out")
    assert build_scene(scene).state == "built"
    assert len(hashed) == 1


def test_what_came_about_meanwhile_is_planned_again(lab):
    """A bundle of the version that was planned: with the same content it is taken, else it stays."""
    first = plan_scene(card(lab, "hall"), lab / "out")
    other = plan_scene(card(lab, "hall", "{source: {path: photos}, gates: {scale: 0.01}}"), lab / "out")
    assert build_scene(first).bundle == lab / "out" / "hall" / "1.0.0"
    assert build_scene(other).bundle == lab / "out" / "hall" / "1.1.0"
    assert build_scene(other).state == "cached"


def test_a_failed_scene_names_stage_and_reason_and_goes_on_there(lab):
    """The next try does only what is missing."""
    asked = card(lab, "hall")
    (lab / "hall.mesh").write_text("raise")
    failed = build_card(asked, lab / "out")
    assert (failed.state, failed.stage) == ("failed", "mesh")
    assert failed.reason == Reason(
        kind="ReconstructionError",
        rule="the images overlap",
        found="none do",
        remedy="take more",
        file=str(lab / "image.jpg"),
    )
    before = [name for _, name, _ in ran(lab)]
    (lab / "hall.mesh").unlink()
    assert list(build_card(asked, lab / "out").stages) == [
        "mesh",
        *[stage.name for stage in building.STAGES][len(before) :],
    ]


def test_what_another_process_builds_is_busy(lab):
    """Neither failed nor built, and nothing of it is touched."""
    asked = card(lab, "hall")
    work = plan_scene(asked, lab / "out").work
    assert work is not None
    with locked(work / ".build.lock", "hall"):
        assert build_card(asked, lab / "out").state == "busy"
    assert ran(lab) == []
    assert build_card(asked, lab / "out").state == "built"


def build(lab: Path, run: Any = execute, **options) -> Scene:
    """A single build, and the file that it leaves for `splatyard scene status`."""
    planned = plan(BuildRequest(lab / "photos", name="hall", out=lab / "out", **options))
    with suppress(KeyboardInterrupt):
        attempt((lab / "photos").resolve(), planned, run)
    (scene,) = load_scenes(lab / "out")
    assert (scene.name, scene.card, scene.work) == ("hall", (lab / "photos").resolve(), planned.work)
    return scene


def test_a_single_build_is_kept_on_file_as_a_batch_is(lab):
    """Running, then built with its stages, or stopped where --until asked for it."""

    def look(planned: PlannedStage) -> bool:
        (scene,) = load_scenes(lab / "out")
        assert scene.state == "running"
        return execute(planned)

    until = build(lab, look, until="mesh")
    assert (until.state, until.stage) == ("partial", "mesh")
    done = build(lab)
    assert (done.state, done.stage, list(done.stages)[-1]) == ("built", "", "bundle")
    assert "capture" not in done.stages, "it was there"
    assert build(lab).state == "cached"


def test_a_batch_can_stop_after_a_stage(lab):
    """And goes on from there; a bundle that came meanwhile changes nothing about where it stops."""
    (lab / "photos.yaml").write_text("source: {path: photos}")
    (scene,) = plan_batch([str(lab / "photos.yaml")], lab / "out", until="poses")
    assert scene.bundle is not None
    scene.bundle.mkdir(parents=True)
    half = build_scene(scene)
    assert (half.state, half.stage, list(half.stages)) == ("partial", "poses", ["capture", "select", "poses"])
    assert [one.state for one in plan_batch([str(lab / "photos.yaml")], lab / "out", until="poses")] == ["cached"]
    (wrong,) = plan_batch([str(lab / "photos.yaml")], lab / "out", until="posse")
    assert wrong.reason is not None
    assert "--until names a stage" in wrong.reason.rule


@pytest.mark.parametrize(
    ("error", "state"),
    [(CardError("r", found="f", remedy="d"), "failed"), (OSError(5, "x"), "failed"), (KeyboardInterrupt(), "stopped")],
)
def test_a_build_that_fails_is_kept_on_file(lab, error, state):
    """With the stage and the reason."""

    def stumble(planned: PlannedStage) -> bool:
        if planned.name == "poses":
            raise error
        return execute(planned)

    scene = build(lab, stumble)
    assert (scene.state, scene.stage) == (state, "poses")
    assert (scene.reason is None) == (state == "stopped")


def test_a_full_disk_costs_the_file_and_not_the_work(lab, monkeypatch, caplog):
    """It is told in the log."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "write_whole", refuse)
    assert build_card(card(lab, "hall"), lab / "out").state == "built"
    assert "No space left" in caplog.text


def test_bugs_and_file_trouble_are_reasons_too(lab):
    """A batch outlives whatever a stage raises."""

    def stumble(planned):
        if planned.name == "poses":
            raise ZeroDivisionError("division by zero")
        return execute(planned)

    scene = build_card(card(lab, "hall"), lab / "out", run=stumble)
    assert (scene.state, scene.stage) == ("failed", "poses")
    assert scene.reason is not None
    assert scene.reason.kind == "ZeroDivisionError"
    assert "report it" in scene.reason.remedy
    trouble = Reason.of(OSError(errno.ESTALE, "Stale file handle", "/nfs/x"))
    assert (trouble.found, trouble.file) == ("Stale file handle", "/nfs/x")


def made(out: Path, name: str, state: State, hours_ago: float = 1, **known: Any) -> Scene:
    """A scene on file."""
    began = datetime.now(UTC) - timedelta(hours=hours_ago)
    known = {"work": out / ".work" / name, "began": began} | known
    return Scene(card=out / f"{name}.yaml", name=name, state=state, **known).save(out)


def test_a_killed_build_is_told_from_one_that_runs(tmp_path):
    """By its lock, which the system gives back; one that runs shows its stage."""
    scene = made(tmp_path, "a", "running")
    assert [one.state for one in load_scenes(tmp_path)] == ["lost"]
    assert scene.work is not None
    with locked(building.build_lock(scene.work), "it"):
        assert [(one.state, one.stage) for one in load_scenes(tmp_path)] == [("running", "")]
        (scene.work / "mesh" / ".0123.partial").mkdir(parents=True)
        assert [(one.state, one.stage) for one in load_scenes(tmp_path)] == [("running", "mesh")]


def test_the_last_attempt_counts(tmp_path):
    """A build with its card and one without are the same scene: the work folder tells, it goes by the bundle's name."""
    made(tmp_path, "a", "built", 3)
    made(tmp_path, "a", "failed", 2)
    made(tmp_path, "b", "built", 2)
    made(tmp_path, "other", "cached", 1, work=tmp_path / ".work" / "b")
    assert [(one.card.stem, one.state) for one in load_scenes(tmp_path)] == [("a", "failed"), ("other", "cached")]


def test_damaged_files_are_left_out(tmp_path, caplog):
    """One is told, and hides no other."""
    made(tmp_path, "a", "built")
    (tmp_path / ".scenes" / "b-00000000.json").write_text("{")
    assert [one.name for one in load_scenes(tmp_path)] == ["a"]
    assert "b-00000000.json is no scene's file" in caplog.text


def test_counts_leave_out_what_there_is_none_of(tmp_path):
    """In the order of interest."""
    states: tuple[State, ...] = ("failed", "built", "waiting", "built")
    assert counts(Scene(card=tmp_path, name="a", state=state) for state in states) == "2 built, 1 failed, 1 waiting"


def test_without_room_for_the_captures_nothing_begins(lab, monkeypatch):
    """A disk with less room than the captures have bytes is too small in any case."""
    scenes = plan_batch([str(card(lab, "hall"))], lab / "out")
    check_room(scenes, lab / "out")
    monkeypatch.setattr(module, "free_bytes", lambda _: 100)
    with pytest.raises(MachineError, match=r"the captures alone have .* KiB, .*free\n.*splatyard scene gc"):
        check_room(scenes, lab / "out")


def test_what_does_not_fit_into_memory_fails_before_it_begins(lab, monkeypatch):
    """Its first stage says why, as a single build does."""
    monkeypatch.setattr(needs, "available_memory", lambda: 1)
    failed = build_card(card(lab, "hall"), lab / "out")
    assert (failed.state, failed.stage) == ("failed", "capture")
    assert failed.reason is not None
    assert failed.reason.rule == "the build must fit into memory"
    assert ran(lab) == []


def test_many_cards_are_planned_in_processes_alike(lab, monkeypatch):
    """The outcomes are those of planning one by one, in the same order."""
    for number in range(6):
        card(lab, f"s{number}", "nme: x" if number == 3 else "source: {path: photos}")

    def planned() -> list[tuple[Scene, Any]]:
        scenes = plan_batch([f"{lab}/*.yaml"], lab / "out")
        return [(one.become(one.state, began=datetime.max), one.plan and pickle.loads(one.plan)) for one in scenes]

    alone = planned()
    monkeypatch.setattr(module, "PROCESSES_FROM", 1)
    # their stages are the real ones: the fakes are this process's alone
    assert [(scene, plan and plan.bundle_folder) for scene, plan in planned()] == [
        (scene, plan and plan.bundle_folder) for scene, plan in alone
    ]
