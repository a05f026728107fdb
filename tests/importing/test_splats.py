"""Splats of other programs: equal to what those programs wrote, and refused by name where they are damaged."""

from __future__ import annotations

import gzip
import struct
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import gsply
import numpy as np
import pytest

from pipeline.errors import BundleError
from pipeline.export.web import save_spz
from pipeline.geometry import SH_C0, Gaussians
from pipeline.importing import splat_values
from pipeline.importing.source import find_source, read_source
from pipeline.importing.splats import read_splat
from pipeline.splat.ply import save_splat
from pipeline.splat.sog import save_sog
from tests.synthetic import Room


@pytest.fixture(scope="module")
def some() -> Gaussians:
    """600 asymmetric Gaussians of degree 2, in three chunks."""
    rng = np.random.default_rng(0)
    turns = rng.normal(size=(600, 4))
    return Gaussians(
        rng.uniform([-1, 0, 2], [3, 1, 9], (600, 3)).astype(np.float32),
        rng.uniform(-5, -1, (600, 3)).astype(np.float32),
        (turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(np.float32),
        rng.uniform(-3, 3, 600).astype(np.float32),
        rng.normal(scale=0.2, size=(600, 9, 3)).astype(np.float32),
    )


def assert_close(found: Gaussians, truth: Gaussians, turns: float, degree0: bool = False) -> None:
    """All but for the format's steps; quaternions up to sign."""
    assert np.abs(found.means - truth.means).max() < 0.01
    assert np.abs(found.log_scales - truth.log_scales).max() < 0.04
    agree = np.abs((found.quaternions * truth.quaternions).sum(1)) / np.linalg.norm(found.quaternions, axis=1)
    assert agree.min() > 1 - turns
    assert np.abs(found.opacities - truth.opacities).max() < 0.004
    assert np.abs(found.sh[:, 0] - truth.sh[:, 0]).max() < 0.02
    assert found.sh.shape[1] == (1 if degree0 else truth.sh.shape[1])
    if not degree0:
        assert np.abs(found.sh[:, 1:] - truth.sh[:, 1:]).max() < 0.02


def write(name: str, splat: Gaussians, folder: Path) -> tuple[Path, Gaussians]:
    """A splat's file in some format, and the splat in the order of the file."""
    path = folder / name
    rest = splat.sh[:, 1:]
    data = gsply.GSData(
        means=splat.means,
        scales=splat.log_scales,
        quats=splat.quaternions,
        opacities=splat.opacity_logits,
        sh0=splat.sh[:, 0].copy(),
        shN=rest.copy(),
    )
    if name == "a.compressed.ply":
        gsply.plywrite(str(path), data, compressed=True)
        return path, gsply_gaussians(gsply.plyread(str(path)), splat)
    if name == "a.splat":
        color = np.clip(np.column_stack([splat.sh[:, 0] * SH_C0 + 0.5, splat.opacities]) * 255, 0, 255).round()
        turn = np.clip(splat.quaternions * 128 + 128, 0, 255).round()
        rows = zip(splat.means, np.exp(splat.log_scales), color.astype(np.uint8), turn.astype(np.uint8), strict=True)
        path.write_bytes(b"".join(struct.pack("<6f8B", *mean, *scale, *c, *q) for mean, scale, c, q in rows))
    if name == "a.spz":
        save_spz(splat, path)
    if name in ("a.sog", "meta.json"):
        save_sog(splat, folder / "a.sog")
        if name == "meta.json":
            with zipfile.ZipFile(folder / "a.sog") as archive:
                archive.extractall(folder)
            (folder / "a.sog").unlink()
    return path, splat


def gsply_gaussians(data: gsply.GSData, like: Gaussians) -> Gaussians:
    """What another program reads from the file."""
    sh = np.concatenate([data.sh0[:, None], data.shN.reshape(len(like), -1, 3)], 1)
    return Gaussians(data.means, data.scales, data.quats, data.opacities.reshape(-1), sh)


@pytest.mark.parametrize("name", ["a.compressed.ply", "a.splat", "a.spz"])
def test_formats_come_back(name: str, some: Gaussians, tmp_path: Path) -> None:
    """Positions, sizes, rotations and colours as they were, to the format's steps."""
    path, truth = write(name, some, tmp_path)
    assert_close(read_splat(path), truth, 3e-4 if name == "a.splat" else 1e-5, degree0=name == "a.splat")


@pytest.mark.parametrize("name", ["a.sog", "meta.json"])
def test_sog_in_a_file_and_in_a_folder(name: str, some: Gaussians, tmp_path: Path) -> None:
    """Both hold the same, in an order of their own."""
    found = read_splat(write(name, some, tmp_path)[0])
    for axis in range(3):
        np.testing.assert_allclose(np.sort(found.means[:, axis]), np.sort(some.means[:, axis]), atol=2e-3)


def test_spz_of_version_2(some: Gaussians, tmp_path: Path) -> None:
    """Rotations in three bytes, w left out."""
    path, _ = write("a.spz", some, tmp_path)
    content = gzip.decompress(path.read_bytes())
    at = 16 + len(some) * 16
    positive = some.quaternions * np.sign(some.quaternions[:, :1])
    turns = np.round((positive[:, 1:] + 1) * 127.5).astype(np.uint8).tobytes()
    head = content[:4] + struct.pack("<I", 2) + content[8:at]
    path.write_bytes(gzip.compress(head + turns + content[at + 4 * len(some) :]))
    assert_close(read_splat(path), some, 2e-2)


@pytest.mark.parametrize("name", ["a.splat", "a.spz", "a.sog", "meta.json", "a.compressed.ply"])
def test_a_splat_is_found_beside_its_mesh(name: str, some: Gaussians, room: Room, tmp_path: Path) -> None:
    """By the folder; what is read of it is part of its hash."""
    path, _ = write(name, some, tmp_path)
    room.mesh.save(tmp_path / "mesh.ply")
    found = find_source(tmp_path)
    assert (found.files[0], found.mesh.name) == (path, "mesh.ply")
    assert (len(found.files) > 2) == (name == "meta.json")
    assert len(read_source(tmp_path).gaussians) == len(some)


@pytest.mark.parametrize("name", ["a.splat", "a.spz", "a.sog", "a.compressed.ply"])
def test_damaged_files_are_refused(name: str, some: Gaussians, tmp_path: Path) -> None:
    """Cut at any place, or with changed bytes: an error that says how to convert it, or a splat of finite numbers."""
    path, _ = write(name, some, tmp_path)
    data, rng = path.read_bytes(), np.random.default_rng(1)
    for cut in (0, 3, 17, len(data) // 3 + 1, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(BundleError):
            read_splat(path)
    for _ in range(20):
        changed = bytearray(data)
        for at in rng.integers(0, min(len(data), 2000), 3):
            changed[at] = rng.integers(256)
        path.write_bytes(changed)
        try:
            found = read_splat(path)
        except BundleError:
            continue
        assert all(np.isfinite(getattr(found, item.name)).all() for item in fields(found))


def test_sizes_are_bounded(some: Gaussians, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is claimed, before memory is set aside; a gzip unpacks no more than its header says."""
    path, _ = write("a.spz", some, tmp_path)
    head = gzip.decompress(path.read_bytes())[:16]
    path.write_bytes(gzip.compress(head[:8] + struct.pack("<I", 2**31 - 1) + head[12:]))
    with pytest.raises(BundleError, match="2147483647 Gaussians"):
        read_splat(path)
    monkeypatch.setattr(splat_values, "MAX_GAUSSIANS", 599)
    for name in ("a.splat", "a.compressed.ply"):
        with pytest.raises(BundleError, match="600 Gaussians"):
            read_splat(write(name, some, tmp_path)[0])


@pytest.mark.parametrize("name", ["a.lcc", "a.gltf"])
def test_what_is_not_read_is_named(name: str, some: Gaussians, room: Room, tmp_path: Path) -> None:
    """With the command that converts it."""
    (tmp_path / name).write_bytes(bytes(100))
    room.mesh.save(tmp_path / "mesh.ply")
    with pytest.raises(BundleError) as error:
        read_source(tmp_path)
    assert "splat-transform" in error.value.remedy
    save_splat(replace(some, sh=some.sh[:, :1]), tmp_path / "a.ply")
    (tmp_path / name).unlink()
    assert len(read_source(tmp_path).gaussians) == len(some)
