"""The process of a build's page: it lives as long as the build, whatever ends that, and harms nothing."""

from __future__ import annotations

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
from pipeline.io.results import preview_folder, resume_folder
from pipeline.preview.time_left import TimeLeft
from pipeline.previews import PUBLISHING
from tests.paths import ROOT
from tests.running_yard import lives
from tests.synthetic import Room, walk, write_photos

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
