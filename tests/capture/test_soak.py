"""Strange inputs: mutated captures of every layout end in a capture or in one message, in bounded time and memory."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pipeline import BuildRequest, build
from pipeline.errors import SplatyardError
from tests.capture.conftest import SMALL
from tests.capture.writers.every_format import FORMATS
from tests.capture.writers.mutating import Change, apply, changes
from tests.capture.writers.watched import Watched
from tests.synthetic import Room, walk

WHOLE, CAMERA = SMALL.resized(320, 240), SMALL.resized(80, 60)
"""For the whole build, and for reading alone."""
SAMPLE, SOAK, BUILDS = 10, 500, 4
"""Mutated captures for each format: in the usual tests, in the soak, through the whole build."""
COARSE = ("splat.gaussians=1500", "splat.iterations=40", "splat.sim_gaussians=800", "mesh.voxel_size=0.05")
BASE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def whole(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for small captures, written when they are first asked for."""
    return tmp_path_factory.mktemp("whole")


def capture_of(kind: str, whole: Path, room: Room) -> Path:
    """The unchanged capture of a format."""
    if not (whole / kind).exists():
        poses = walk(240)[:45] if kind in ("video", "generated") else walk(120)[:9]
        FORMATS[kind].write(whole / kind, room, poses, CAMERA)
    return whole / kind


@pytest.fixture(scope="module")
def watched(whole: Path, room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One process for all formats: importing all that they need takes longer than a capture."""
    with Watched(capture_of("photos", whole, room), tmp_path_factory.mktemp("out")) as process:
        yield process


def mutated(capture: Path, source: Path, done: list[Change]) -> Path:
    """A changed copy; what isn't changed are hard links."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(capture, source, copy_function=os.link)
    apply(source, done)
    return source


def soak(count: int, capture: Path, folder: Path, watched: Watched) -> list[str]:
    """What went wrong with so many mutated captures of a format: the changes that were made, and what came of them."""
    wrong: list[str] = []

    @settings(BASE, max_examples=count)
    @given(changes(capture))
    def one(done: list[Change]) -> None:
        if told := watched.read(mutated(capture, folder / "source", done)):
            wrong.append(f"{capture.name}: {done}\n{told}")

    one()
    return wrong


@pytest.mark.parametrize("kind", FORMATS)
def test_a_few_mutated_captures(kind: str, whole: Path, room: Room, tmp_path: Path, watched: Watched) -> None:
    """No traceback, no hang, no memory beyond bounds; the message prints the changes."""
    wrong = soak(SAMPLE, capture_of(kind, whole, room), tmp_path, watched)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.soak
@pytest.mark.parametrize("kind", FORMATS)
def test_many_mutated_captures(kind: str, whole: Path, room: Room, tmp_path: Path, watched: Watched) -> None:
    """The same, as often as it takes to find what a few don't."""
    wrong = soak(SOAK, capture_of(kind, whole, room), tmp_path, watched)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["photos", "rgbd", "polycam"])
def test_some_through_the_whole_build(kind: str, room: Room, tmp_path: Path) -> None:
    """Full captures, coarsely built: each ends in a bundle or in one error."""
    FORMATS[kind].write(tmp_path / kind, room, FORMATS[kind].poses, WHOLE)
    wrong: list[str] = []

    @settings(BASE, max_examples=BUILDS)
    @given(changes(tmp_path / kind))
    def one(done: list[Change]) -> None:
        source = mutated(tmp_path / kind, tmp_path / "source", done)
        try:
            build(BuildRequest(source, name="mutated", out=tmp_path / "out", settings=COARSE))
        except SplatyardError:
            pass
        except Exception:
            wrong.append(f"{kind}: {done}\n{traceback.format_exc()}")

    one()
    assert not wrong, "\n\n".join(wrong)
