"""Reading of map clouds: every format gives the same points, hostile files end in a message."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.slam import clouds
from pipeline.capture.slam.clouds import read_fields, read_points
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from tests.capture.writers.slam import write_cloud, write_pcd

FORMS = ["binary.pcd", "ascii.pcd", "compressed.pcd", "binary.ply", "big.ply", "ascii.ply", "map.las", "map.laz"]


def _points(count: int = 1000) -> np.ndarray:
    return np.random.default_rng(5).uniform([-20, -5, -1], [30, 8, 3], (count, 3))


def _read(path: Path) -> np.ndarray:
    with open_source(path.parent) as source:
        return read_points(source, path.name)


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_points(form: str, tmp_path: Path) -> None:
    """In their order, to the format's precision."""
    points = _points()
    write_cloud(tmp_path / form, points)
    assert np.allclose(_read(tmp_path / form), points, atol=6e-4 if "map" in form else 2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_large_clouds_are_thinned_evenly(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth of 1000 points where at most 300 are wanted, over chunks, too."""
    monkeypatch.setattr(clouds, "MAX_POINTS", 300)
    monkeypatch.setattr(clouds, "_CHUNK", 70)
    points = _points()
    write_cloud(tmp_path / form, points)
    assert np.allclose(_read(tmp_path / form), points[::4], atol=6e-4 if "map" in form else 2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_truncated_clouds_are_refused(form: str, tmp_path: Path) -> None:
    """Fewer points than the header declares."""
    path = tmp_path / form
    write_cloud(path, _points())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(CaptureError, match="complete PLY, PCD, LAS or LAZ") as error:
        _read(path)
    assert str(error.value.file).endswith(form)


def test_coordinates_far_from_the_origin_keep_their_millimetres(tmp_path: Path) -> None:
    """Maps in a national grid: 32-bit floats would be off by decimetres."""
    points = _points() + np.array([512_345.0, 5_403_210.0, 400.0])
    write_cloud(tmp_path / "map.laz", points)
    assert np.abs(_read(tmp_path / "map.laz") - points).max() < 1e-3


def test_points_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """Organised clouds hold NaN where nothing was measured."""
    points = _points(50)
    points[10:20, 1] = np.nan
    write_cloud(tmp_path / "binary.pcd", points)
    assert len(_read(tmp_path / "binary.pcd")) == 40
    write_cloud(tmp_path / "binary.pcd", points[10:20])
    with pytest.raises(CaptureError, match="must have points"):
        _read(tmp_path / "binary.pcd")


def test_padding_and_fields_of_several_values(tmp_path: Path) -> None:
    """PCL writes padding as fields named "_", and descriptors as one field with a count."""
    table = np.zeros(7, [("x", "<f4"), ("_", "u1", 4), ("d", "<f4", 3), ("y", "<f4"), ("pad", "u1", 4), ("z", "<f4")])
    table["x"], table["y"], table["z"] = np.arange(21).reshape(7, 3).T
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x _ d y _ z\nSIZE 4 1 4 4 1 4\n"
        "TYPE F U F F U F\nCOUNT 1 4 3 1 4 1\nWIDTH 7\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 7\nDATA binary\n"
    )
    (tmp_path / "a.pcd").write_bytes(head.encode() + table.tobytes())
    assert np.array_equal(_read(tmp_path / "a.pcd"), np.arange(21).reshape(7, 3))


def test_compressed_repetitions_are_unpacked(tmp_path: Path) -> None:
    """References back into what was unpacked, overlapping it, short and long."""
    columns = {axis: np.full(300, k + 1, np.float32) for k, axis in enumerate("xyz")}
    write_pcd(tmp_path / "a.pcd", columns, "binary_compressed")
    head = (tmp_path / "a.pcd").read_bytes().partition(b"binary_compressed\n")[0] + b"binary_compressed\n"
    packed = b""
    for axis in "xyz":
        packed += b"\x03" + columns[axis][:1].tobytes()  # four bytes as they are
        packed += bytes([(4 << 5), 3])  # six from four back
        left = 1200 - 4 - 6
        while left:
            length = min(left, 264) if min(left, 264) > 8 else left
            packed += bytes([7 << 5, length - 9, 3])
            left -= length
    (tmp_path / "a.pcd").write_bytes(head + struct.pack("<II", len(packed), 3600) + packed)
    assert np.array_equal(np.unique(_read(tmp_path / "a.pcd"), axis=0), [[1, 2, 3]])


@pytest.mark.parametrize("body", [b"\xff" * 30, b"\x20\x10" * 20, b"\x1f", b"", bytes([7 << 5])])
def test_damaged_compression_is_refused(body: bytes, tmp_path: Path) -> None:
    """References before the beginning, beyond the end, and none."""
    write_pcd(tmp_path / "a.pcd", {axis: np.ones(10, np.float32) for axis in "xyz"}, "binary_compressed")
    head = (tmp_path / "a.pcd").read_bytes().partition(b"binary_compressed\n")[0] + b"binary_compressed\n"
    (tmp_path / "a.pcd").write_bytes(head + struct.pack("<II", len(body), 120) + body)
    with pytest.raises(CaptureError, match="end too early"):
        _read(tmp_path / "a.pcd")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 999999999999\nproperty float x\nproperty float y\n"
         "property float z\nend_header\n1 2 3\n", "999999999999 points declared"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex -3\nproperty float x\nend_header\n", "no PLY cloud"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int x\nend_header\n", "no PLY cloud"),
        ("a.ply", "ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int x\nend_header\n", "expected vertex"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "no field y, z"),
        ("a.ply", "ply\nformat ascii 1.0\n" + "comment x\n" * 1000, "no PLY cloud"),
        ("a.ply", "<?xml version='1.0'?><Error>", "neither ply nor"),
        ("a.pcd", "# .PCD v0.7\nFIELDS x y z\nSIZE 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n", "no PCD cloud"),
        ("a.pcd", "# .PCD v0.7\nFIELDS x y z\nSIZE 3 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n", "no PCD cloud"),
        ("a.pcd", "# .PCD v0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 9000000000\nDATA ascii\n", "declared"),
        ("a.pcd", "# .PCD v0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA zip\n", "DATA zip"),
        ("a.pcd", "# .PCD v0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2\nDATA ascii\n1 2 3\n1 b 3\n", "b"),
        ("a.las", "LASF but not really", "a"),
        ("a.laz", "", ""),
    ],
)  # fmt: skip
def test_hostile_headers_end_in_a_message(name: str, text: str, found: str, tmp_path: Path) -> None:
    """Counts that can't be, other elements, other formats: refused before memory is taken."""
    (tmp_path / name).write_text(text)
    with pytest.raises(CaptureError) as error:
        _read(tmp_path / name)
    assert found in error.value.found
    assert str(error.value.file).endswith(name)


def test_other_fields_can_be_read(tmp_path: Path) -> None:
    """Columns by name, doubles whole."""
    times = 1_700_000_000.123456 + np.arange(4)
    write_pcd(tmp_path / "a.pcd", {"x": np.arange(4, dtype=np.float32), "time": times})
    with open_source(tmp_path) as source:
        assert np.array_equal(read_fields(source, "a.pcd", ("time", "x")), np.column_stack([times, np.arange(4)]))
