"""NKSR's adapter in full, against a stand-in for the package; torch is one too, so that there is a GPU."""

from __future__ import annotations

import json
import logging
import math
import shutil
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pipeline.mesh.nksr as adapter
from benchmarks.f_score import f_scores
from pipeline.errors import MachineError, ReconstructionError
from pipeline.geometry import Mesh
from pipeline.gpu_backends.errors import GpuMemoryError
from pipeline.mesh.nksr import (
    BASE_BYTES,
    KEEP_BYTES,
    SOLVE_BYTES,
    detail_voxel_size,
    oriented_points,
    plan_chunks,
    reconstruct,
)
from pipeline.mesh.stage import build_mesh
from tests.gpu_backends.interpreters import bare_interpreter
from tests.mesh.scenes import PARAMS, box, cloud, maps, room, track
from tests.paths import ROOT

FAKES = ROOT / "tests" / "fakes"
ENOUGH = 40_000_000_000


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory) -> str:
    """One of its own with the stand-ins and numpy."""
    return str(bare_interpreter(tmp_path_factory.mktemp("nksr"), FAKES / "packages", FAKES / "gpu"))


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch) -> Path:
    """A GPU with enough memory, and weights to be fetched; returns the file that the weights come to."""
    good = tmp_path / "good.pth"
    good.write_text("weights of ks\n")
    monkeypatch.setenv("FAKE_GPU", f"9.0:{ENOUGH}")
    monkeypatch.setenv("FAKE_WEIGHTS", str(good))
    monkeypatch.setenv("FAKE_NKSR_LOG", str(tmp_path / "calls"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints" / "ks.pth"


@pytest.fixture
def params(interpreter):
    """Of the mesh stage."""
    return PARAMS.changed(backend="nksr", voxel_size=0.05, python=interpreter)


def calls(folder: Path) -> list[dict[str, float]]:
    """What the stand-in was asked for."""
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


@cache
def occupied(voxel: float = 0.05) -> int:
    """Voxels with points of the cloud in them."""
    points, _ = oriented_points(cloud())
    return len(np.unique(np.floor((points - points.mean(0, dtype=float)) / voxel), axis=0))


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks that suit a room of 80 voxels."""
    monkeypatch.setattr(adapter, "SMALLEST_CHUNK", 16)
    monkeypatch.setattr(adapter, "OVERLAP", 2)


def score(mesh: Mesh) -> float:
    """How much of the room is there, and how much of the mesh is the room, within 5 cm."""
    return f_scores(mesh, room().mesh, maps(), (0.05,), np.random.default_rng(0))[0].f


@pytest.mark.slow
def test_room_through_the_same_steps(params, tmp_path):
    """In metres and in place, cleaned, coloured and decimated as every mesh; nothing was cut up."""
    built = build_mesh(maps(), cloud(), track(), params)
    assert score(built.mesh) > 0.93
    assert built.report["backend"] == "nksr"
    assert built.report["voxel_size"] == 0.05
    assert len(built.collision.triangles) <= params.collision_triangles
    middle = built.mesh.vertices[(built.mesh.vertices[:, 2] > 1.2)]
    red = built.mesh.colors[built.mesh.vertices[:, 2] > 1.2][:, 0]
    assert len(middle) > 100 and np.median(red) > 150
    assert calls(tmp_path) == [{"chunk_size": -1, "chunks": 1}]


def test_chunks_that_fit(small_chunks, params, tmp_path, monkeypatch, caplog):
    """Too little memory for all at once gives chunks, said with the memory before it starts, and the same surface."""
    whole, _ = reconstruct([], cloud(), params)
    caplog.clear()
    free = int((BASE_BYTES + occupied() * (SOLVE_BYTES / 2 + KEEP_BYTES)) / 0.9)
    monkeypatch.setenv("FAKE_GPU", f"9.0:{free}")
    with caplog.at_level(logging.INFO, "pipeline.mesh.nksr"):
        cut, _ = reconstruct([], cloud(), params)
    call = calls(tmp_path)[1]
    assert call["chunk_size"] > 0 and call["chunks"] > 1
    assert f"of {free / 2**30:.1f} GiB of GPU memory" in caplog.text
    assert len(cut.triangles) == len(whole.triangles)


def test_memory_that_did_not_do_is_asked_for_again(small_chunks, params, tmp_path, monkeypatch, caplog):
    """Where the estimate was too low, chunks get smaller until they fit."""
    monkeypatch.setattr(adapter, "SOLVE_BYTES", 1)
    monkeypatch.setattr(adapter, "BASE_BYTES", 0)
    monkeypatch.setenv("FAKE_GPU", f"9.0:{int(0.3 * occupied() * SOLVE_BYTES)}")
    reconstruct([], cloud(), params)
    sizes = [call["chunk_size"] for call in calls(tmp_path)]
    assert sizes[0] == -1 and len(sizes) > 1
    assert all(later < earlier for earlier, later in pairwise(sizes[1:]))
    assert "once more in smaller chunks" in caplog.text


def test_memory_that_never_does(small_chunks, params, tmp_path, monkeypatch):
    """Ends, with what torch said of the smallest chunks."""
    monkeypatch.setattr(adapter, "SOLVE_BYTES", 0)
    monkeypatch.setattr(adapter, "KEEP_BYTES", 0)
    monkeypatch.setattr(adapter, "BASE_BYTES", 0)
    monkeypatch.setenv("FAKE_GPU", "9.0:1000000")
    with pytest.raises(MachineError, match=r"in chunks of .*CUDA out of memory") as caught:
        reconstruct([], cloud()[::4], params)
    assert "mesh.voxel_size" in caught.value.remedy
    assert len(calls(tmp_path)) == 3


def test_memory_for_not_even_one_chunk(params, tmp_path, monkeypatch):
    """Refused before it starts, with both numbers and what to do."""
    monkeypatch.setenv("FAKE_GPU", "9.0:1000000000")
    with pytest.raises(MachineError, match=r"need about .* GiB in the smallest chunks, 0.8 GiB can be had") as caught:
        reconstruct([], cloud(), params)
    assert "mesh.voxel_size" in caught.value.remedy
    assert not (tmp_path / "calls").exists()


def test_normals_are_turned_to_the_cameras(params):
    """Whatever side a plane's normal comes out on: those of a cloud are only believed for the side."""
    noisy = cloud()
    tilt = np.random.default_rng(0).normal(0, 0.4, noisy.normals.shape)
    tilted = noisy.normals + tilt
    tilted = (tilted / np.linalg.norm(tilted, axis=1, keepdims=True)).astype(np.float32)
    points, normals = oriented_points(replace(noisy, normals=tilted))
    assert len(points) > 0.95 * len(noisy)
    kept = np.isin(noisy.points.view("f4,f4,f4").ravel(), points.view("f4,f4,f4").ravel())
    cosine = np.einsum("nc,nc->n", normals, noisy.normals[kept]) if kept.sum() == len(points) else np.zeros(1)
    assert (cosine > 0.9).mean() > 0.9
    assert (cosine < 0).mean() < 0.02


def test_detail_is_nksrs_own_rule():
    """Voxels that hold 20 points at level 0 and 1 at level 1, for points on a plane 1 cm apart."""
    x, y = np.meshgrid(np.arange(300), np.arange(300))
    plane = np.stack([x, y, np.full(x.shape, 5.5)], -1).reshape(-1, 3).astype(np.float32) / 100 + 0.005
    for detail, points in ((0.0, 20), (1.0, 1), (0.8, 4.8)):
        assert detail_voxel_size(plane, detail) == pytest.approx(0.01 * math.sqrt(points), rel=0.02)


def test_detail_sets_the_voxels(params, tmp_path):
    """Where no voxel size is given; the surface stays in place."""
    mesh, voxel_size = reconstruct([], cloud(), params.changed(voxel_size=0.0, nksr_detail=0.2))
    points, _ = oriented_points(cloud())
    assert voxel_size == detail_voxel_size(points, 0.2)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0)[:2], np.ptp(cloud().points, axis=0)[:2], atol=0.1)


@pytest.mark.parametrize(("free", "count"), [(1e12, 1), (6e9, 8), (3.2e9, 40)])
def test_chunks_of_large_scenes(free, count):
    """A hall of 60 m in voxels of 5 cm; less memory gives smaller chunks, and what is said to be needed fits."""
    x, y = np.meshgrid(np.arange(1200), np.arange(600))
    voxels = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    chunks = plan_chunks(voxels, free)
    assert chunks.count >= count
    assert chunks.memory <= 0.9 * free
    assert bool(chunks.edge) == (count > 1)


def test_no_chunk_is_only_overlap():
    """Rather than that the memory does not do."""
    with pytest.raises(GpuMemoryError, match="smallest chunks"):
        plan_chunks(np.stack([np.arange(1000)] * 3, 1), BASE_BYTES)


@pytest.mark.parametrize(
    ("spoil", "found"), [("nan", "NaN in"), ("empty", "without triangles"), ("none", "no field for these points")]
)
def test_bad_output(params, monkeypatch, spoil, found):
    """Is no mesh; the message says what came out."""
    monkeypatch.setenv("FAKE_NKSR", spoil)
    with pytest.raises(MachineError, match=found):
        reconstruct([], cloud()[::4], params)


def test_no_weights_and_no_network(params, monkeypatch, machine):
    """The command that brings them is named."""
    monkeypatch.delenv("FAKE_WEIGHTS")
    with pytest.raises(MachineError, match=r"can't be fetched.*name resolution") as caught:
        reconstruct([], cloud()[::4], params)
    assert f"-o {machine} https://huggingface.co/heiwang1997/nksr-checkpoints" in caught.value.remedy


def test_weights_from_the_cache(params, monkeypatch, machine, tmp_path):
    """Weights that are there are not fetched."""
    monkeypatch.delenv("FAKE_WEIGHTS")
    machine.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "good.pth", machine)
    assert len(reconstruct([], cloud()[::4], params)[0].triangles)


@pytest.mark.parametrize(
    ("content", "found"),
    [("weights of snet", "these are of snet"), ("<html>", "Weights only load failed"), ("", "load")],
)
def test_wrong_weights(params, machine, content, found):
    """Of another network, a page in place of a file, nothing: named, with what to do."""
    machine.parent.mkdir(parents=True)
    machine.write_text(content)
    with pytest.raises(MachineError, match=found) as caught:
        reconstruct([], cloud()[::4], params)
    assert caught.value.remedy == f"rm {machine}, and run again"


def test_gpu_that_torch_was_not_built_for(params, monkeypatch):
    """A Blackwell for which there is no code: which wheel to take."""
    monkeypatch.setenv("FAKE_GPU", f"12.0:{ENOUGH}")
    with pytest.raises(MachineError, match=r"has sm_120, torch 2\.7\.0 was built for sm_75") as caught:
        reconstruct([], cloud()[::4], params)
    assert "cu128" in caught.value.remedy


def test_no_gpu(params, monkeypatch):
    """Said by torch, should the driver say otherwise."""
    monkeypatch.setenv("FAKE_GPU", "0")
    with pytest.raises(MachineError, match="sees no GPU"):
        reconstruct([], cloud()[::4], params)


def test_few_points(params):
    """Are refused before anything is loaded."""
    with pytest.raises(ReconstructionError, match="at least 100"):
        reconstruct([], cloud()[:50], params)


def test_missing_package_names_the_doctor(tmp_path_factory, params):
    """An interpreter without nksr."""
    python = bare_interpreter(tmp_path_factory.mktemp("empty"), FAKES / "gpu")
    with pytest.raises(MachineError, match=r"No module named 'nksr'") as caught:
        reconstruct([], cloud()[::4], params.changed(python=str(python)))
    assert "doctor" in caught.value.remedy


def test_stand_in_draws_a_box():
    """The stand-in itself: closed, and facing outwards."""
    import importlib.util

    found = importlib.util.spec_from_file_location("stand_in_surface", FAKES / "packages" / "nksr" / "surface.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    truth = box((0, 0, 0), (1, 1, 1))
    rng = np.random.default_rng(0)
    corners = truth.corners()[rng.integers(0, len(truth.triangles), 60_000)]
    u, v = rng.random((2, 60_000, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    points = corners[:, 0] + u * (corners[:, 1] - corners[:, 0]) + v * (corners[:, 2] - corners[:, 0])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    mesh = Mesh.from_arrays(*module.surface(points, normals / np.linalg.norm(normals, axis=1, keepdims=True), 0.05))
    outwards = np.einsum("fc,fc->f", mesh.face_normals(), mesh.corners().mean(1) - 0.5)
    assert (outwards > 0).all()
    assert mesh.face_areas().sum() == pytest.approx(6, rel=0.05)
