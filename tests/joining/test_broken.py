"""Of captures that are built together, the one that is broken or of other units is the one that the error names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import BuildRequest, build
from pipeline.errors import CaptureError
from tests.synthetic import Room, walk, write_polycam

FRAMES = 12


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """Two scans of different walks; don't change them."""
    folder = tmp_path_factory.mktemp("scans")
    write_polycam(folder / "hall", room, walk(FRAMES + 4)[:FRAMES])
    write_polycam(folder / "stairs", room, walk(FRAMES))
    return folder


def metres(keyframes: Path) -> None:
    """Depth in metres as integers."""
    for file in (keyframes / "depth").iterdir():
        depth = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        cv2.imwrite(str(file), (depth / 1000).round().astype(np.uint16))


def millimetres(keyframes: Path) -> None:
    """Poses in millimetres."""
    change_cameras(keyframes, lambda camera: camera | {f"t_{i}3": 1000 * camera[f"t_{i}3"] for i in range(3)})


def nan(keyframes: Path) -> None:
    """A pose that is no number."""
    change_cameras(keyframes, lambda camera: camera | {"t_03": float("nan")})


def clock(keyframes: Path) -> None:
    """Each pose is that of the frame some seconds later."""
    files = sorted((keyframes / "cameras").iterdir())
    poses = [json.loads(file.read_text()) for file in files]
    for number, file in enumerate(files):
        later = {key: value for key, value in poses[(number + 4) % len(files)].items() if key.startswith("t_")}
        file.write_text(json.dumps(poses[number] | later))


def cut(keyframes: Path) -> None:
    """Images that end after a few bytes."""
    for file in (keyframes / "images").iterdir():
        file.write_bytes(file.read_bytes()[:200])


def junk(keyframes: Path) -> None:
    """No JSON."""
    for file in (keyframes / "cameras").iterdir():
        file.write_bytes(b"\x00\xff" * 100)


def change_cameras(keyframes: Path, changed: Callable[[dict[str, float]], dict[str, float]]) -> None:
    for file in (keyframes / "cameras").iterdir():
        file.write_text(json.dumps(changed(json.loads(file.read_text()))))


@pytest.mark.parametrize(
    ("which", "broken"),
    [("stairs", metres), ("hall", millimetres), ("stairs", nan), ("stairs", clock), ("hall", cut), ("stairs", junk)],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_the_broken_capture_is_named(scans: Path, tmp_path: Path, broken: Callable[[Path], None], which: str):
    """Before anything is joined, whichever place it has on the command line."""
    shutil.copytree(scans / which, tmp_path / which)
    broken(tmp_path / which / "keyframes")
    hall, stairs = ((tmp_path if name == which else scans) / name for name in ("hall", "stairs"))
    with pytest.raises(CaptureError) as error:
        build(BuildRequest(hall, others=(stairs,), name="house", out=tmp_path / "out", until="capture"))
    assert str(error.value.file).startswith(str(tmp_path / which))
    assert error.value.found
    assert error.value.remedy
