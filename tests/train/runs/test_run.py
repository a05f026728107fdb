"""Folders of runs: what they were, how they went, and who may go on with them."""

from __future__ import annotations

import dataclasses
import json
import logging
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import TrainError
from sim.scene.scene import SceneLock
from train.files import write_atomically
from train.preset import Preset, change_preset, load_preset
from train.runs.record import Curve, SceneRecord, Unseen, commit_of
from train.runs.run import Run, list_runs

HALL = SceneLock("hall@1.0.0", "a" * 64, ("scale",), "failed", "c0ffee")
STAIRS = SceneLock("stairs@2.1.0", "b" * 64, ())
PRESET = load_preset(
    "navigate", {"ppo.learning_rate": 3e-4, "policy.voxels.epochs": 2, "policy.actor_hidden_dims": [32, 16]}
)


def make_run(root: Path, **settings: object) -> Run:
    """In two scenes."""
    sources = (root, "stairs@2.1.0")
    return Run.create(root, PRESET, [HALL, STAIRS], sources, 5, **settings)  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path):
    """Preset, scenes, seed; what it runs on and with; where scenes were, wherever a command runs later."""
    run = make_run(tmp_path, device="cpu", processes=3)
    read = Run.open(run.folder)
    assert read.record == run.record
    assert read.preset == PRESET
    assert read.locks == (HALL, STAIRS)
    assert read.sources == (str(tmp_path), "stairs@2.1.0")
    assert (read.record.seed, read.record.processes) == (5, 3)
    assert read.record.packages["rsl-rl-lib"].startswith("5.")
    assert int(read.record.machine["cores"]) >= 1
    assert read.checkpoints.is_dir()


def test_scenes_kept_apart_are_checked_like_its_own(tmp_path: Path):
    """Those that validate and those that are tested in; a record of before has none."""
    unseen = Unseen(hold_out="1", validation=(SceneRecord.of(STAIRS, "stairs"),), test=(SceneRecord.of(HALL, "hall"),))
    run = Run.open(Run.create(tmp_path, PRESET, [HALL], ["hall"], 0, unseen=unseen).folder)
    assert (run.unseen_sources("validation"), run.unseen_sources("test")) == (("stairs",), ("hall",))
    run.check_scenes([HALL], {"validation": [STAIRS], "test": [HALL]})
    with pytest.raises(TrainError, match=r"no scene instead of stairs@2\.1\.0 .*for validation"):
        run.check_scenes([HALL])
    with pytest.raises(TrainError, match=r"stairs@2\.1\.0 .* instead of hall@1\.0\.0 .*for test"):
        run.check_scenes([HALL], {"validation": [STAIRS], "test": [STAIRS]})
    before = json.loads((run.folder / "run.json").read_text())
    del before["unseen"]
    (run.folder / "run.json").write_text(json.dumps(before))
    assert Run.read(run.folder).unseen_sources("test") == ()


def test_folders_are_numbered_and_nothing_is_overwritten(tmp_path: Path):
    """By task and scene; a number that is taken is left out, a name that is taken is an error."""
    names = [Run.create(tmp_path, PRESET, [HALL], ["hall"], 0).name for _ in range(2)]
    (tmp_path / "navigate-2-scenes-1").mkdir()
    assert [*names, make_run(tmp_path).name] == ["navigate-hall-1", "navigate-hall-2", "navigate-2-scenes-2"]
    make_run(tmp_path, name="mine")
    before = (tmp_path / "mine/run.json").read_bytes()
    with pytest.raises(TrainError, match=r"(?s)overwrites nothing.*--resume"):
        make_run(tmp_path, name="mine")
    assert (tmp_path / "mine/run.json").read_bytes() == before


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden", "x" * 200, "a b"])
def test_a_name_is_no_path(tmp_path: Path, name: str):
    """Nothing is made outside of the folder of runs."""
    with pytest.raises(TrainError, match="another --name"):
        make_run(tmp_path / "runs", name=name)
    assert list(tmp_path.rglob("run.json")) == []


def test_a_run_is_opened_by_name_and_by_folder(tmp_path: Path):
    """And an unknown one offers the nearest."""
    run = make_run(tmp_path, name="blind-seed-1")
    assert Run.open("blind-seed-1", tmp_path).folder == run.folder
    assert Run.open(str(run.folder), tmp_path / "elsewhere").name == "blind-seed-1"
    with pytest.raises(TrainError, match="did you mean blind-seed-1"):
        Run.open("blind-sed-1", tmp_path)
    with pytest.raises(TrainError, match="splatyard train makes runs"):
        Run.open("anything", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "Invalid JSON"),
        ('{"format": "splatyard.bundle"}', "format"),
        ("[" * 100_000, "JSON"),
        (" " * (2**20 + 1), "1048577 bytes"),
    ],
    ids=["broken", "other", "deep", "long"],
)
def test_a_damaged_record_is_an_error_and_left_out_of_lists(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, found: str
):
    """It names the file; the other runs are listed, the newest first."""
    old, damaged = make_run(tmp_path, name="b-old"), make_run(tmp_path, name="c-damaged")
    record = json.loads((old.folder / "run.json").read_text())
    new = make_run(tmp_path, name="a-new")
    (old.folder / "run.json").write_text(json.dumps(record | {"started": "2020-01-02T03:04:05Z"}))
    (damaged.folder / "run.json").write_text(text)
    with pytest.raises(TrainError) as raised:
        Run.open(damaged.folder)
    assert found in raised.value.found
    assert raised.value.file == str(damaged.folder / "run.json")
    with caplog.at_level(logging.WARNING):
        assert [run.name for run in list_runs(tmp_path)] == [new.name, old.name]
    assert "c-damaged" in caplog.text


def test_a_key_that_is_not_known_is_named(tmp_path: Path):
    """Runs of a newer splatyard aren't taken for what they are not."""
    run = make_run(tmp_path)
    record = json.loads((run.folder / "run.json").read_text())
    record["preset"]["ppo"]["warmth"] = 3
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(TrainError, match=r"preset\.ppo\.warmth"):
        Run.open(run.folder)


@pytest.mark.parametrize(
    ("scenes", "found"),
    [
        ([HALL, dataclasses.replace(STAIRS, sha256="d" * 64)], "stairs@2.1.0 (sha256 dddddddddddd…) instead of"),
        ([STAIRS, HALL], "stairs@2.1.0 (sha256 bbbbbbbbbbbb…) instead of hall@1.0.0 (sha256 aaaaaaaaaaaa…)"),
        ([HALL], "no scene instead of stairs@2.1.0"),
        ([HALL, STAIRS, HALL], "hall@1.0.0 (sha256 aaaaaaaaaaaa…) instead of no scene"),
    ],
)
def test_other_scenes_are_refused(tmp_path: Path, scenes: list[SceneLock], found: str):
    """It is the content that counts, and the order."""
    run = make_run(tmp_path)
    run.check_scenes([dataclasses.replace(HALL, reference="moved"), STAIRS])
    with pytest.raises(TrainError, match="the scenes in which it began") as raised:
        run.check_scenes(scenes)
    assert found in raised.value.found


def test_another_preset_is_refused(tmp_path: Path):
    """What differs is named; how long it is trained may differ."""
    run = make_run(tmp_path)
    run.check_preset(change_preset(PRESET, {"iterations": 7}, "test"))
    with pytest.raises(TrainError) as raised:
        run.check_preset(change_preset(PRESET, {"ppo.clip_param": 0.3, "task": "avoid"}, "test"))
    assert raised.value.found == "task: avoid instead of navigate, ppo.clip_param: 0.3 instead of 0.2"
    with pytest.raises(TrainError, match=r"policy\.voxels: None instead of None|policy\.voxels\.epochs"):
        run.check_preset(Preset.model_validate({**PRESET.model_dump(), "policy": {"actor_hidden_dims": [32, 16]}}))


def test_one_process_trains_a_run_at_a_time(tmp_path: Path):
    """The other is told who does."""
    run = make_run(tmp_path)
    with (
        run.busy(),
        pytest.raises(TrainError, match=r"(?s)one process trains a run.*run .* is being trained by"),
        Run.open(run.folder).busy(),
    ):
        pass
    with run.busy():
        pass


def test_a_full_disk_leaves_no_half_written_record(tmp_path: Path):
    """What comes after finds no run there."""
    with room_for(100), pytest.raises(TrainError, match="has room"):
        make_run(tmp_path, name="mine")
    assert list_runs(tmp_path) == []


def test_a_curve_is_cut_where_training_goes_on(tmp_path: Path):
    """Rows after that iteration go, and a row that was torn by a kill."""
    curve = Curve(tmp_path / "curve.jsonl")
    assert curve.read() == []
    rows = [{"iteration": i, "steps": 64 * i, "success": i / 7} for i in range(1, 6)]
    for row in rows:
        curve.append(row)
    with (tmp_path / "curve.jsonl").open("a") as file:
        file.write('{"iteration": 6, "st')
    assert curve.read() == rows
    curve.cut(3)
    curve.append(rows[3])
    assert curve.read() == rows[:4]


def test_a_curve_takes_finite_numbers_only(tmp_path: Path):
    """No reader of JSON knows NaN."""
    curve = Curve(tmp_path / "curve.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        curve.append({"iteration": 1, "loss": float("nan")})
    assert curve.read() == []


@pytest.mark.parametrize(
    "line", ["nothing", "[1, 2]", '{"iteration": 1, "x": "text"}', '{"steps": 1}', "[" * 50_000, "\xff"]
)
def test_a_damaged_curve_names_its_line(tmp_path: Path, line: str):
    """Of a run that someone else made, too."""
    (tmp_path / "curve.jsonl").write_bytes(b'{"iteration": 1}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(TrainError, match="line 2"):
        Curve(tmp_path / "curve.jsonl").read()


def test_the_commit_is_that_of_the_files_own_checkout(tmp_path: Path):
    """With a mark where they differ; none where the files only lie inside somebody else's checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    package, other = tmp_path / "package", tmp_path / "other"
    for folder in (package, other):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    assert commit_of(package) == ""
    git("init")
    git("add", "package")
    git("commit", "-m", "first")
    assert commit_of(package) == git("rev-parse", "HEAD")
    assert commit_of(other) == ""
    (package / "__init__.py").write_text("changed")
    assert commit_of(package) == git("rev-parse", "HEAD") + "-dirty"


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """While it lasts, no file of this process may become larger [bytes]: the system's own way of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    """The new content, and nothing else in the folder."""
    path = tmp_path / "state"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_without_room_the_old_file_stays(tmp_path: Path):
    """The error names what is missing and how to go on; nothing half-written is left."""
    path = tmp_path / "state"
    write_atomically(path, b"old")
    with room_for(1000), pytest.raises(TrainError, match=r"(?s)File too large.*MiB free.*--resume") as raised:
        write_atomically(path, bytes(5000))
    assert raised.value.file == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
