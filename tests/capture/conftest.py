"""Small captures of the synthetic room, made once and copied for tests that break them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.capture import stage
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.geometry import Pose
from tests.synthetic import CAMERA, Room, look_at, walk, write_photos, write_polycam, write_rgbd

SMALL = CAMERA.resized(160, 120)
POSES = walk(120)[:16]


@pytest.fixture(scope="session")
def made(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the three captures `photos`, `rgbd`, `polycam`; never changed."""
    folder = tmp_path_factory.mktemp("captures")
    write_photos(folder / "photos", room, POSES[:6], SMALL)
    write_rgbd(folder / "rgbd", room, POSES, SMALL)
    write_polycam(folder / "polycam", room, POSES, SMALL, (80, 60))
    return folder


def shaky(time: float) -> Pose:
    """Where a hand that trembles holds the camera while it goes round the room [s]."""
    angle = 0.25 * time
    eye = np.array([2 + np.cos(angle), 1.35 + 0.7 * np.sin(angle), 1.25 + 0.05 * np.sin(7 * time)])
    across = look_at(eye, np.array([2 - 1.5 * np.cos(angle + 0.5), 1.5 - 1.2 * np.sin(angle + 0.5), 0.5]))
    turn = [0.06 * np.sin(2.1 * time), 0.12 * np.sin(1.3 * time + 0.4), 0.05 * np.sin(2.9 * time + 1)]
    return Pose(across.rotation @ Rotation.from_rotvec(turn).as_matrix(), eye)


@pytest.fixture(scope="session")
def shaken(room: Room) -> list[tuple[float, Pose, np.ndarray, np.ndarray]]:
    """Seconds, pose, image and depth [m] of `SMALL` every tenth of a second for four seconds of `shaky`."""
    times = [round(0.1 * i, 6) for i in range(41)]
    return [(time, shaky(time), *room.render(SMALL, shaky(time), 1)) for time in times]


@pytest.fixture
def copy_of(made: Path, tmp_path: Path):
    """A function that gives a private copy of one of the captures."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(made / kind, tmp_path / "source" / kind))

    return copy


@pytest.fixture
def read(tmp_path: Path):
    """A function that runs the capture stage and loads what it wrote."""

    def run(source: Path) -> Capture:
        out = tmp_path / "canonical"
        stage.run({"source": source}, CaptureParams(), out)
        return Capture.load(out)

    return run


def truncate(path: Path) -> None:
    """Cut a file in half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def asymmetric(width: int = 48, height: int = 32) -> Image.Image:
    """An image that no rotation or mirroring maps to itself: red left half, green top right, blue bottom right."""
    image = Image.new("RGB", (width, height), (220, 30, 30))
    image.paste((30, 200, 40), (width // 2, 0, width, height // 2))
    image.paste((30, 40, 220), (width // 2, height // 2, width, height))
    return image


def fill(folder: Path, count: int, size: tuple[int, int] = (96, 64)) -> Path:
    """A folder of `count` JPEGs of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)).save(folder / f"p{i}.jpg")
    return folder
