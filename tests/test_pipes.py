"""Whatever file a command is given: pipes, sockets and devices in its place are refused, and none is waited for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.capture.source import open_source
from pipeline.capture.videos.movie import describe
from pipeline.errors import SplatyardError
from pipeline.io.files import NotPlainError, plain, read_plain
from pipeline.running.card import load_card
from sim.gaits import Gait
from sim.robots.reading import load_robot
from train.encoders.gaussian_regressor import load_regressor
from train.preset import load_preset
from train.runs import checkpoint
from train.runs.record import Curve
from train.runs.run import Run


def _source(path: Path) -> None:
    with open_source(path):
        pass


READERS: dict[str, Callable[[Path], object]] = {
    "run.json": lambda path: Run.open(path.parent),
    "curve.jsonl": lambda path: Curve(path).read(),
    "000001.pt": checkpoint.load,
    "gait.npz": Gait,
    "encoder.safetensors": load_regressor,
    "preset.yaml": lambda path: load_preset(str(path)),
    "card.yaml": load_card,
    "film.mp4": describe,
    "capture.mp4": _source,
    "robot.urdf": load_robot,
}


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """What waits is interrupted."""

    def interrupt(*_: object) -> None:
        pytest.fail("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_no_file(name: str, tmp_path: Path):
    """Nor is the card or the curve beside a good one; each says so in its own words."""
    os.mkfifo(tmp_path / name)
    if name == "gait.npz":
        os.mkfifo(tmp_path / "gait.json")
    with pytest.raises(SplatyardError, match=r"a pipe|none is|no preset"):
        READERS[name](tmp_path / name)


@pytest.mark.usefixtures("no_waiting")
def test_other_kinds_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A link to a plain file is one; what is not there is the system's own error."""
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_plain(tmp_path / "link", 5) == b"12345"
    with pytest.raises(ValueError, match="5 bytes, more than 4"):
        read_plain(tmp_path / "file", 4)
    with pytest.raises(FileNotFoundError):
        plain(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # whose path may be too long for a socket
        listening.bind("socket")
    for name, kind in (("pipe", "a pipe"), ("zero", "a device"), ("socket", "a socket"), (".", "a folder")):
        with pytest.raises(NotPlainError, match=f"{kind} instead of a file"):
            read_plain(tmp_path / name, 5)
