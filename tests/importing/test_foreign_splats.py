"""Splats that writers of another hand made of one PLY: .ksplat, SPZ 4 and GLB.

`tests/data/splats` is of GaussianSplats3D 0.4.7 (.ksplat, levels of compression 0 to 2) and splat-transform 2.7.1,
which takes a PLY's y for down and turns it.
"""

from __future__ import annotations

import json
import shutil
import struct
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import BundleError
from pipeline.export.web import save_spz
from pipeline.geometry import Gaussians, Similarity, matrix_from_quaternion
from pipeline.importing import gltf_splats, splat_values
from pipeline.importing.source import find_source, read_source
from pipeline.importing.splats import is_splat, read_splat
from pipeline.types import F64
from tests.synthetic import Room

FOLDER = Path(__file__).parents[1] / "data" / "splats"
AS_IT_IS, ABOUT_X, ABOUT_Z = (
    Similarity(1.0, np.diag(signs), np.zeros(3)) for signs in ((1, 1, 1), (1, -1, -1), (-1, -1, 1))
)
FILES = {
    "few0.ksplat": (AS_IT_IS, 0.001),
    "few1.ksplat": (AS_IT_IS, 0.002),
    "few2.ksplat": (AS_IT_IS, 0.006),
    "few.spz": (ABOUT_X, 0.07),
    "few.glb": (ABOUT_Z, 0.001),
}
"""How each was turned, and the error of its view-dependent coefficients."""
MUTATIONS = 500


def few() -> Gaussians:
    """The Gaussians of the files, of degree 2."""
    rng = np.random.default_rng(7)
    turns = rng.normal(size=(40, 4))
    return Gaussians(
        rng.uniform([-1, 0, 2], [3, 1, 9], (40, 3)).astype(np.float32),
        rng.uniform(-5, -1, (40, 3)).astype(np.float32),
        (turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(np.float32),
        rng.uniform(-3, 3, 40).astype(np.float32),
        rng.normal(scale=0.2, size=(40, 9, 3)).astype(np.float32),
    )


def covariances(gaussians: Gaussians) -> F64:
    """(N, 3, 3), which an axis turned round doesn't change."""
    unit = gaussians.quaternions / np.linalg.norm(gaussians.quaternions, axis=1, keepdims=True)
    axes = matrix_from_quaternion(unit) * np.exp(gaussians.log_scales.astype(np.float64))[:, None]
    return axes @ axes.swapaxes(1, 2)


@pytest.mark.parametrize("name", FILES)
def test_others_files_are_read(name: str) -> None:
    """Positions, ellipsoids, opacities and colours, in any order."""
    turn, off = FILES[name]
    found, truth = read_splat(FOLDER / name), few().transformed(turn)
    distance = np.linalg.norm(found.means[:, None] - truth.means[None], axis=2)
    truth = truth[distance.argmin(1)]
    assert len(found) == 40
    assert distance.min(1).max() < 0.001
    size = np.exp(2 * truth.log_scales.astype(np.float64).max(1))[:, None, None]
    assert (np.abs(covariances(found) - covariances(truth)) / size).max() < 0.07  # scales of SPZ in steps of 6 %
    assert np.abs(found.opacities - truth.opacities).max() < 0.005
    assert np.abs(found.sh[:, 0] - truth.sh[:, 0]).max() < 0.015
    assert np.abs(found.sh[:, 1:] - truth.sh[:, 1:]).max() < off


@pytest.mark.parametrize("name", FILES)
def test_mutated_files_end_in_one_error(name: str, tmp_path: Path) -> None:
    """Or in a splat of finite numbers that is no larger than the file allows."""
    data, rng, path = (FOLDER / name).read_bytes(), np.random.default_rng(3), tmp_path / name
    for number in range(MUTATIONS):
        changed = bytearray(data)
        for at in rng.integers(0, len(data) if number % 2 else min(len(data), 200), 1 + number % 4):
            changed[at] = rng.integers(256)
        path.write_bytes(changed[: rng.integers(len(data))] if number % 10 == 0 else changed)
        try:
            found = read_splat(path)
        except BundleError:
            continue
        assert len(found) <= len(data)
        assert all(np.isfinite(getattr(found, item.name)).all() for item in fields(found))


@pytest.mark.parametrize("name", ["few1.ksplat", "few.spz", "few.glb"])
def test_sizes_are_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before memory is set aside."""
    monkeypatch.setattr(splat_values, "MAX_GAUSSIANS", 39)
    with pytest.raises(BundleError, match="40 Gaussians"):
        read_splat(FOLDER / name)


def test_a_glb_is_a_splat_by_its_extension(room: Room, tmp_path: Path) -> None:
    """Beside a mesh it is the splat, with z up; without the extension it is a mesh."""
    shutil.copy(FOLDER / "few.glb", tmp_path / "a.glb")
    room.mesh.save(tmp_path / "mesh.ply")
    found = find_source(tmp_path)
    assert (found.files[0].name, found.mesh.name) == ("a.glb", "mesh.ply")
    up = read_source(tmp_path).gaussians.means[:, 2]
    np.testing.assert_allclose(np.sort(up), np.sort(read_splat(FOLDER / "few.glb").means[:, 1]), atol=1e-5)
    (tmp_path / "a.glb").write_bytes((FOLDER / "few.glb").read_bytes().replace(b"KHR_gaussian", b"KHR_gaussien"))
    assert not is_splat(tmp_path / "a.glb")


def rewritten(folder: Path, change: str, to: str) -> Path:
    """The GLB with other JSON of equal length."""
    content = (FOLDER / "few.glb").read_bytes()
    assert change.encode() in content
    path = folder / "a.glb"
    path.write_bytes(content.replace(change.encode(), to.ljust(len(change)).encode()))
    return path


@pytest.mark.parametrize(
    ("change", "to", "found"),
    [('"ellipse"', '"spheres"', "spheres"), ("srgb_rec709_display", "lin_rec709_display", "lin_rec709")],
)
def test_what_a_glb_may_not_be(change: str, to: str, found: str, tmp_path: Path) -> None:
    """Of other kernels and colours."""
    with pytest.raises(BundleError, match=found):
        read_splat(rewritten(tmp_path, change, to))


def test_nodes_place_splats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger, turned and moved; mirrored, in a ring or too many they are refused."""
    content = (FOLDER / "few.glb").read_bytes()
    size = struct.unpack_from("<I", content, 12)[0]
    header = json.loads(content[20 : 20 + size])

    def with_nodes(nodes: list[dict]) -> Path:
        text = json.dumps({**header, "nodes": nodes}).encode()
        text += b" " * (-len(text) % 4)
        head = content[:12] + struct.pack("<I", len(text)) + b"JSON"
        (tmp_path / "b.glb").write_bytes(head + text + content[20 + size :])
        return tmp_path / "b.glb"

    half = np.sqrt(0.5)
    nodes = [
        {"children": [1], "scale": [2, 2, 2]},
        {"mesh": 0, "rotation": [0, 0, half, half], "translation": [0, 3, 0]},
    ]
    pose = Similarity(2.0, np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]), np.array([0, 6.0, 0]))
    truth = read_splat(FOLDER / "few.glb").transformed(pose)
    np.testing.assert_allclose(read_splat(with_nodes(nodes)).means, truth.means, atol=1e-5)
    np.testing.assert_allclose(read_splat(with_nodes(nodes)).sh, truth.sh, atol=1e-5)
    for wrong in ({"mesh": 0, "scale": [1, 1, -1]}, {"mesh": 0, "scale": [1, 2, 1]}, {"children": [0, 0]}):
        with pytest.raises(BundleError):
            read_splat(with_nodes([wrong]))
    monkeypatch.setattr(splat_values, "MAX_GAUSSIANS", 100)
    monkeypatch.setattr(gltf_splats, "_splat", lambda *_: pytest.fail("is made before all are counted"))
    with pytest.raises(BundleError, match="120 Gaussians"):
        read_splat(with_nodes([{"children": [1, 1, 1]}, {"mesh": 0}]))


def test_buckets_of_a_ksplat_are_bounded(tmp_path: Path) -> None:
    """Full ones that hold nothing take no memory for their number."""
    content = bytearray((FOLDER / "few1.ksplat").read_bytes())
    struct.pack_into("<I", content, 4096 + 8, 0)  # Gaussians of a full bucket
    struct.pack_into("<I", content, 4096 + 32, 2**32 - 1)  # full buckets
    (tmp_path / "a.ksplat").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BundleError):
        read_splat(tmp_path / "a.ksplat")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_extensions_of_spz(tmp_path: Path) -> None:
    """A limit of the camera is passed over; what may change axes is refused by name."""
    content = (FOLDER / "few.spz").read_bytes()
    for kind in (0xADBE0002, 0xADBE0003):
        record = struct.pack("<IIfff", kind, 12, 0, 1, 2)
        changed = bytearray(content[:32] + record + content[32:])
        changed[14] |= 2
        changed[16:20] = struct.pack("<I", 32 + len(record))
        path = tmp_path / "a.spz"
        path.write_bytes(changed)
        if kind == 0xADBE0002:
            assert len(read_splat(path)) == 40
        else:
            with pytest.raises(BundleError, match="0xadbe0003"):
                read_splat(path)


def test_plain_colours_in_spz(tmp_path: Path) -> None:
    """Of degree 0: a column is empty."""
    save_spz(replace(few(), sh=few().sh[:, :1]), tmp_path / "a.spz")
    assert read_splat(tmp_path / "a.spz").sh.shape == (40, 1, 3)
