"""Fixtures shared by all tests."""

from __future__ import annotations

import fcntl
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pipeline  # before numpy, whose threads it sets # noqa: F401 # isort: skip
import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `tests.synthetic` imports in importlib mode
os.environ["XDG_CONFIG_HOME"] = str(ROOT / ".cache" / "config")  # not that of who runs the tests
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))  # before numba is imported

if TYPE_CHECKING:
    from tests.synthetic import Room

# No clock decides over a test, and a run that passed passes again.
settings.register_profile("splatyard", deadline=None, derandomize=True)
settings.load_profile("splatyard")


from tests.hub import hub  # noqa: E402, F401
from tests.s3 import bucket, s3_port  # noqa: E402, F401 - needs the path above


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """One worker compiles tests and libraries, a minute in a clean checkout; the others wait, and load what it left.

    All at once, each would compile everything.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    folder = ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    with (folder / "collecting").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Nothing is garbage while modules are imported; see below."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What was imported and collected is never garbage: to look through it takes a second each time."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one of them would keep a single worker busy for minutes."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """What the first of this run's workers makes in a folder of that name, for all of them."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (base / f"{name}.path").open("a+") as told:
        fcntl.flock(told, fcntl.LOCK_EX)
        told.seek(0)
        made = told.read()
        if not made:
            made = str(make(Path(tempfile.mkdtemp(prefix=name, dir=base))))
            told.write(made)
    return Path(made)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, fresh for each test."""
    return np.random.default_rng(12345)


@pytest.fixture(scope="session")
def room() -> Room:
    """The small furnished room with exact truth."""
    from tests.synthetic import Room

    return Room.make(seed=0)


@pytest.fixture
def small_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports' images of a million texels instead of eight, which take four seconds each."""
    from pipeline.export import atlas

    monkeypatch.setattr(atlas, "MAX_TEXELS", 1_000_000)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports that no program draws: each takes seconds."""
    from pipeline.errors import MachineError
    from sim.scene.export import drawing

    def refuse(program: str, *_: object) -> None:
        raise MachineError(f"{program} draws", found="not in this test", remedy="ask for it")

    monkeypatch.setattr(drawing, "in_own_process", refuse)


@pytest.fixture(scope="session")
def cut_room(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """A bundle of a room with four boxes that are loose; don't change it."""
    from tests.objects.furniture import cut_bundle

    return made_once(tmp_path_factory, "cut_room", lambda folder: cut_bundle(folder, room))


@pytest.fixture(scope="session")
def parcel(tmp_path_factory: pytest.TempPathFactory, room: Room, cut_room: Path) -> Path:
    """A bundle of a parcel by itself."""
    from tests.objects.furniture import lone_bundle

    return lone_bundle(tmp_path_factory.mktemp("lone"), room, cut_room)
