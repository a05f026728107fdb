"""The process of a build's page: it lives as long as the build, whatever ends that, and harms nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.build_view import Began, BuildView, Done
from flows.server import answers
from pipeline import BuildRequest, plan
from pipeline.preview.files import PUBLISHING
from pipeline.preview.time_left import TimeLeft
from pipeline.stage import preview_folder, resume_folder
from tests.flows.test_end_to_end import FRAMES, TINY, contents, settings
from tests.paths import ROOT
from tests.running_yard import lives
from tests.synthetic import Room, walk, write_photos, write_polycam

WAIT_SECONDS = 120


@pytest.fixture
def planned(tmp_path: Path, room: Room):
    """A plan of which nothing is done."""
    write_photos(tmp_path / "photos", room, walk(3))
    return plan(BuildRequest(tmp_path / "photos", out=tmp_path / "out"))


def wait_until(what, reason: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < end, reason
        time.sleep(0.05)


def address(lines) -> str:
    """The page's address, from what a build prints."""
    for line in lines:
        if found := re.search(r"(http://127\.0\.0\.1:\d+) shows the build", line):
            return found[1]
    raise AssertionError("no address")


def test_folders_for_previews_are_there_while_somebody_looks_on(planned):
    """Those of the stages that publish; what a stage resumes from stays when they go."""
    page = BuildView()
    try:
        page.start(planned, TimeLeft({}))
        folders = {stage.name: preview_folder(stage.folder) for stage in planned.stages}
        assert {name for name, folder in folders.items() if folder.is_dir()} == set(PUBLISHING)
        (folders["splat"] / "splat.npz").touch()
        kept = resume_folder(planned.stages[-5].folder) / "checkpoint.npz"
        assert planned.stages[-5].name == "splat"
        kept.touch()
    finally:
        page.close()
    assert not any(folder.exists() for folder in folders.values())
    assert kept.exists()
    assert not resume_folder(folders["depth"].parent).exists()


def test_a_second_page_leaves_the_first_its_previews(planned):
    """Another build of the same capture that ends at once, because the first one holds the lock."""
    first, second = BuildView(), BuildView()
    try:
        first.start(planned, TimeLeft({}))
        second.start(planned, TimeLeft({}))
        second.close()
        assert preview_folder(next(stage.folder for stage in planned.stages if stage.name == "poses")).is_dir()
    finally:
        first.close()
        second.close()
    assert not list(planned.work.rglob("preview"))


def test_a_page_that_died_is_no_error_of_the_build(planned, capfd):
    """The build goes on telling."""
    page = BuildView()
    page._process.kill()
    page._process.wait()
    page.start(planned, TimeLeft({}))
    for _ in range(3):
        page.tell(Began(stage="poses"))
    page.tell(Done(bundle=None))
    page.wait()
    page.close()


def test_the_page_ends_with_a_build_that_is_killed(tmp_path, planned):
    """Kill -9 leaves no server behind."""
    code = f"""
import time
from pathlib import Path
from flows.build_view import BuildView
from pipeline import BuildRequest, plan
from pipeline.preview.time_left import TimeLeft
planned = plan(BuildRequest(Path({str(tmp_path / "photos")!r}), out=Path({str(tmp_path / "out")!r})))
BuildView().start(planned, TimeLeft.of(planned))
time.sleep(60)
"""
    build = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert build.stderr is not None
    page = address(build.stderr)
    (process,) = psutil.Process(build.pid).children()
    wait_until(lambda: answers(page), "no page")
    build.send_signal(signal.SIGKILL)
    build.wait()
    wait_until(lambda: not lives(process.pid), "the page lives on")
    assert not answers(page)
    build.stderr.close()


@pytest.mark.slow
def test_looking_on_changes_nothing(tmp_path, room):
    """The bundle is that of a build nobody looked at, bit for bit; the page stays until Ctrl-C, which is no error."""
    write_polycam(tmp_path / "scan", room, walk(FRAMES))
    longer = "splat.iterations=120"  # Gaussians are published every 50
    program = [str(Path(sys.executable).with_name("splatyard")), "build", str(tmp_path / "scan"), *settings()]
    program += ["--set", longer]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    alone = subprocess.run(
        [*program, "--out", str(tmp_path / "alone")], env=environment, capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr
    assert alone.stderr.count("no earlier build here tells") == len(plan(BuildRequest(tmp_path / "scan")).stages)
    options = ["--out", str(tmp_path / "seen"), "--view"]
    build = subprocess.Popen(
        [*program, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert build.stdout is not None and build.stderr is not None
    try:
        page = address(build.stderr)
        seen = set[str]()
        request = BuildRequest(tmp_path / "scan", out=tmp_path / "seen", settings=(*TINY, longer))
        previews = [preview_folder(stage.folder) for stage in plan(request).stages if stage.name in PUBLISHING]
        bundle = tmp_path / "seen" / "scan" / "1.0.0"
        end = time.monotonic() + 600
        while not bundle.is_dir():
            assert time.monotonic() < end
            seen |= {file.name for folder in previews for file in folder.glob("*.npz")}
            time.sleep(0.02)
        assert "splat.npz" in seen
        assert any("until Ctrl-C" in line for line in build.stdout)
        assert answers(page)
        build.send_signal(signal.SIGINT)
        assert build.wait(60) == 0
        assert not answers(page)
        assert not any(folder.exists() for folder in previews)
    finally:
        build.kill()  # its page ends with it
        build.wait()
    expected = contents(tmp_path / "alone" / "scan" / "1.0.0")
    built = contents(bundle)
    assert [name for name in sorted(built.keys() | expected) if built.get(name) != expected.get(name)] == []
    build.stdout.close()
    build.stderr.close()
