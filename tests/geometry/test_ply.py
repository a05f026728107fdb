"""Heads of PLY files that promise more than there is."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from pipeline.errors import BundleError
from pipeline.geometry import Mesh
from pipeline.geometry.ply import check_ply
from pipeline.splat.ply import load_splat

XYZ = "".join(f"property float {axis}\n" for axis in "xyz")
FACES = "property list uchar int vertex_indices\n"


def ply(path: Path, elements: str, content: bytes = b"", form: str = "binary_little_endian") -> Path:
    path.write_bytes(f"ply\nformat {form} 1.0\n{elements}end_header\n".encode() + content)
    return path


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
@pytest.mark.parametrize(
    "elements",
    [
        f"element vertex 80000000000\n{XYZ}",
        f"element vertex 1\n{XYZ}element face 6000000000\n{FACES}",
        f"element vertex 1\n{XYZ}element other 9000000000\nproperty list uchar float a\n",
        "element vertex 99999999999\n",
        f"element vertex -5\n{XYZ}element face 99999\n{FACES}",
    ],
    ids=["vertices", "faces", "lists", "nothing", "negative"],
)
def test_more_than_the_file_holds_is_refused(tmp_path: Path, elements: str, form: str):
    """By the reader of meshes and that of splats, before room is made."""
    path = ply(tmp_path / "a.ply", elements, bytes(64), form)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"promises|head"):
        Mesh.load(path)
    with pytest.raises(BundleError):
        load_splat(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_what_is_there_is_counted(tmp_path: Path):
    """In text, too, without a last line break."""
    text = ply(
        tmp_path / "a.ply", f"element vertex 3\n{XYZ}element face 1\n{FACES}", b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2", "ascii"
    )
    assert check_ply(text) == {"vertex": 3, "face": 1}


def test_a_head_without_an_end_is_refused(tmp_path: Path):
    """However long it is."""
    with pytest.raises(ValueError, match="head"):
        check_ply(ply(tmp_path / "a.ply", "comment x\n" * 20_000))
