"""Previews: published only for who looks on, whole, small, and read with suspicion."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline import previews as files
from pipeline.geometry import Camera, Pose
from pipeline.previews import MAX_BYTES, Cameras, Publisher, read_preview, spread

POINTS = {"points": np.ones((5, 3)), "colors": np.full((5, 3), 7)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that somebody looks into."""
    (tmp_path / "preview").mkdir()
    return tmp_path / "preview"


def test_what_is_published_is_read(folder):
    """In the types that the format states."""
    Publisher(folder).publish("map", POINTS)
    read = read_preview(folder / "map.npz", ("points", "colors"))
    assert read is not None
    assert (read["points"].dtype, read["colors"].dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(read["points"], POINTS["points"])
    assert read_preview(folder / "map.npz", ("points", "depth")) is None


def test_nothing_is_published_for_nobody(tmp_path):
    """Without the folder nothing is made, and nothing is computed for it."""

    def make() -> dict[str, np.ndarray]:
        raise AssertionError("nobody looks on")

    publisher = Publisher(tmp_path / "preview")
    publisher.offer("map", make)
    publisher.publish("map", POINTS)
    assert list(tmp_path.iterdir()) == []


def test_previews_take_a_fiftieth_of_the_time(folder, monkeypatch):
    """A minute of a stage that offers one each tenth of a second, with previews that take 0.2 s each."""
    now, made = [0.0], []
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])

    def make() -> dict[str, np.ndarray]:
        made.append(now[0])
        now[0] += 0.2
        return POINTS

    publisher = Publisher(folder)
    while now[0] < 60:
        publisher.offer("map", make)
        now[0] += 0.1
    assert 0.2 * len(made) <= 0.02 * 60 + 0.2
    assert len(made) >= 5


def test_a_reader_never_sees_half_a_preview(folder):
    """One thread replaces a preview again and again; whatever another reads is one of them, whole."""
    publisher, stop = Publisher(folder), threading.Event()

    def write() -> None:
        value = 0
        while not stop.is_set():
            value = (value + 1) % 200
            publisher.publish("map", {"points": np.full((20_000, 3), value)})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = 0
        while seen < 50:
            read = read_preview(folder / "map.npz", ("points",))
            if read is not None:
                assert len(np.unique(read["points"])) == 1
                seen += 1
    finally:
        stop.set()
        writer.join()


def test_a_preview_is_bounded(folder):
    """One that is too large is not written, and the one before stays."""
    publisher = Publisher(folder)
    publisher.publish("map", POINTS)
    publisher.publish("map", {"points": np.zeros((MAX_BYTES // 12 + 1, 3))})
    read = read_preview(folder / "map.npz", ("points",))
    assert read is not None and len(read["points"]) == 5
    assert len(spread(10**6)) == files.MAX_ROWS
    np.testing.assert_array_equal(spread(4), np.arange(4))


def test_a_disk_that_refuses_is_no_error(folder):
    """The stage goes on."""
    (folder / "map.npz").mkdir()
    Publisher(folder).publish("map", POINTS)
    assert list(folder.iterdir()) == [folder / "map.npz"]


def write(file: Path, **arrays: np.ndarray) -> None:
    with file.open("wb") as opened:
        np.savez(opened, **arrays)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((4, 2), np.float32),
        np.zeros(12, np.float32),
        np.zeros((4, 3), np.float64),
        np.full((4, 3), np.nan, np.float32),
        np.array([["a", "b", "c"]]),
        np.zeros((MAX_BYTES // 12 + 1, 3), np.float32),
    ],
    ids=["shape", "flat", "type", "not finite", "text", "too large"],
)
def test_what_is_no_preview_is_ignored(folder, points):
    """Other arrays than declared, and more than a preview may hold."""
    write(folder / "map.npz", points=points)
    assert read_preview(folder / "map.npz", ("points",)) is None


def test_a_packed_bomb_is_ignored(folder):
    """A small file of a huge array."""
    np.savez_compressed(folder / "map.npz", points=np.zeros((MAX_BYTES, 3), np.float32))
    assert (folder / "map.npz").stat().st_size < MAX_BYTES
    assert read_preview(folder / "map.npz", ("points",)) is None


def test_what_is_no_file_is_ignored(folder):
    """No file, half a file, a pipe that nobody writes into, a link to elsewhere, a folder, pickled objects."""
    Publisher(folder).publish("map", POINTS)
    (folder / "half.npz").write_bytes((folder / "map.npz").read_bytes()[:100])
    os.mkfifo(folder / "pipe.npz")
    (folder / "link.npz").symlink_to(folder / "map.npz")
    (folder / "folder.npz").mkdir()
    write(folder / "objects.npz", points=np.array([{}], object))
    for name in ("none", "half", "pipe", "link", "folder", "objects"):
        assert read_preview(folder / f"{name}.npz", ("points",)) is None, name


def test_cameras_come_back():
    """Without the distortion of their lenses; what are no cameras are none."""
    known = Cameras((3, 5), (Camera(8, 6, 7.0, 7.5, 4.0, 3.0),) * 2, (Pose.identity(), Pose(np.eye(3), np.ones(3))))
    arrays = known.to_arrays()
    back = Cameras.from_arrays(arrays)
    assert back is not None
    assert (back.ids, back.cameras) == (known.ids, known.cameras)
    np.testing.assert_array_equal(back.poses[1].matrix, known.poses[1].matrix)
    assert Cameras.from_arrays(arrays | {"ids": arrays["ids"][:1]}) is None
    assert Cameras.from_arrays({name: values[:0] for name, values in arrays.items()}) is None
    assert Cameras.from_arrays(arrays | {"poses": 2 * arrays["poses"]}) is None
    assert Cameras.from_arrays(arrays | {"intrinsics": 0 * arrays["intrinsics"]}) is None
