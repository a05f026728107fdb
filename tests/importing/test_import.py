"""Whole imports: the same geometry, measured gates, and what nobody knows is not passed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.check.gates import GATES
from pipeline.errors import BundleError, CardError, ReconstructionError
from pipeline.export.form import export
from pipeline.geometry import Gaussians, Mesh, Similarity, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.importing.bundle import ImportRequest, import_bundle, plan_import
from pipeline.importing.source import find_source
from pipeline.running.building import run_plan
from pipeline.splat.ply import save_splat
from sim.scene.export.catalog import FORMS
from sim.scene.opening import open_scene
from tests.bundles import floor_of, make_bundle
from tests.export.conftest import change
from tests.importing.conftest import other_room, splat_on
from tests.importing.test_source import nerfstudio
from tests.synthetic import Room, box_faces

SURE: dict[str, Any] = {"scale": 1.0, "scale_sigma": 0.01}
UPRIGHT = Similarity(1.0, matrix_from_rotvec([0.2, 0.1, 1.9]).T, np.zeros(3))
"""Undoes the turn of the test's normalisation, as nerfstudio puts its z up."""


@pytest.fixture
def gaussgym(room: Room, splat: Gaussians, tmp_path: Path) -> Path:
    """A bundle of the room, generated, exported for GaussGym."""
    folder = make_bundle(tmp_path / "yard", room, regions=floor_of(room))
    save_splat(splat, folder / "splat.ply")
    bundle = change(folder, licence="CC-BY-NC-4.0", origin="generated", source="a test's room")
    export(bundle, FORMS["gaussgym"], tmp_path / "gym")
    return tmp_path / "gym"


@pytest.mark.parametrize(("stated", "origin"), [("rendered", "rendered"), ("captured", "captured"), ("filmed", "")])
def test_an_export_keeps_its_origin(gaussgym: Path, stated: str, origin: str):
    """One of those there are, as its file says."""
    file = gaussgym / "origin.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "origin": stated}))
    if origin:
        assert find_source(gaussgym).origin["origin"] == origin
        return
    with pytest.raises(BundleError, match="captured, rendered or generated"):
        find_source(gaussgym)


def test_round_trip_through_gaussgym(gaussgym: Path, room: Room, splat: Gaussians, tmp_path: Path):
    """Mesh and splat lie where they lay, gates are measured, and licence, source and mark have come along."""
    out = import_bundle(ImportRequest(gaussgym, name="room", out=tmp_path / "bundles", **SURE))
    bundle = Bundle.open(out)
    assert bundle.verify() == []
    mesh = bundle.mesh()
    points, _ = sample_surface(room.mesh, 3000, np.random.default_rng(0))
    assert RayCaster(mesh).distances(points).max() < 0.005
    np.testing.assert_allclose(mesh.face_areas().sum(), room.mesh.face_areas().sum(), rtol=1e-3)
    np.testing.assert_allclose(np.sort(bundle.splat().means, 0), np.sort(splat.means, 0), atol=0.005)
    about, quality = bundle.manifest.provenance, bundle.quality
    assert (about.licence, about.origin, about.source) == ("CC-BY-NC-4.0", "generated", "a test's room")
    assert bundle.manifest.parents == ("room@1.0.0",)
    assert quality.gate("registration").detail["source"] == "dataparser_transforms.json"
    unknown = {name for name, kind in GATES.items() if kind.scenes == "with photos"} | {"splat_mesh_depth_p90"}
    assert {gate.name: gate.passed for gate in quality.gates if gate.name not in unknown} == dict.fromkeys(
        GATES.keys() - unknown, True
    )
    for name in unknown:
        assert (quality.gate(name).passed, quality.gate(name).value) == (None, None)
        assert "imported" in quality.gate(name).how
    assert bundle.regions.walkable_area == pytest.approx(floor_of(room).walkable_area, rel=0.1)
    assert bundle.spawn_poses
    assert bundle.cameras
    assert 0 < len(bundle.splat("sim")) <= 30_000
    scene = open_scene(out, allow_failed=True)
    assert scene.regions.spawn_poses
    assert import_bundle(ImportRequest(gaussgym, name="room", out=tmp_path / "bundles", **SURE)) == out


def test_a_moved_splat_is_registered(room: Room, splat: Gaussians, tmp_path: Path, capsys: pytest.CaptureFixture):
    """By the command; the mesh's own frame, scaled and on its side, becomes metres with z up and the floor at 0."""
    on_side = Similarity(100.0, matrix_from_rotvec([np.deg2rad(-91), 0, 0]), np.array([0, 0, 40.0]))
    room.mesh.transformed(on_side).save(tmp_path / "mesh.ply")
    moved = Similarity(0.37, matrix_from_rotvec([0.4, -1.3, 0.8]), np.array([3.0, -2.0, 0.7]))
    save_splat(splat.transformed(moved), tmp_path / "splat.ply")
    words = ["--mesh", str(tmp_path / "mesh.ply"), "--out", str(tmp_path / "out"), "--name", "room"]
    given = ["--up", "y", "--scale", "0.01+-0.01", "--licence", "CC0-1.0"]
    assert main(["import", str(tmp_path / "splat.ply"), *words, *given]) == 0
    bundle = Bundle.open(tmp_path / "out" / "room" / "1.0.0")
    assert "splatyard view" in capsys.readouterr().out
    assert bundle.quality.gate("registration").passed
    assert bundle.quality.gate("registration").detail["source"] == "estimated"
    low, high = bundle.mesh().vertices.min(0), bundle.mesh().vertices.max(0)
    assert low[2] == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(np.sort(high - low), [2.5, 3, 4], atol=0.02)
    assert RayCaster(bundle.mesh()).distances(bundle.splat().means).max() < 0.06
    assert bundle.quality.gate("floaters").passed is None
    assert (bundle.quality.gate("gravity").value or 9) < 0.5  # the mesh's y is a degree off: the floor tells


def test_nerfstudios_export(room: Room, splat: Gaussians, tmp_path: Path):
    """Metres by the normalisation; its cameras are the bundle's."""
    folder = nerfstudio(tmp_path, splat, room.mesh, UPRIGHT)
    bundle = Bundle.open(import_bundle(ImportRequest(folder, out=tmp_path / "out", name="room", up="z")))
    size = np.ptp(bundle.mesh().vertices, axis=0)
    assert size[2] == pytest.approx(2.5, abs=0.02)
    assert [camera.camera.fy for camera in bundle.cameras] == [251.0] * 8
    assert bundle.quality.gate("floaters").passed
    assert bundle.quality.gate("splat_mesh_depth_p90").passed is not None
    assert bundle.quality.gate("registration").passed
    assert bundle.quality.gate("scale").passed is False
    assert "nobody says how sure" in bundle.quality.gate("scale").how


def test_a_wrong_pair_is_marked_as_failed(room: Room, tmp_path: Path):
    """It is made, and red."""
    room.mesh.save(tmp_path / "mesh.ply")
    save_splat(splat_on(other_room()), tmp_path / "splat.ply")
    bundle = Bundle.open(import_bundle(ImportRequest(tmp_path, out=tmp_path / "out", up="z", **SURE)))
    assert {"registration", "overlap"} & set(bundle.manifest.failed_gates)
    assert not bundle.manifest.quality_passed


def test_faces_are_turned_to_where_robots_are(pair: Path, room: Room, tmp_path: Path):
    """A mesh inside out is no reason to fall through the floor."""
    replace(room.mesh, triangles=np.ascontiguousarray(room.mesh.triangles[:, ::-1])).save(pair / "mesh.ply")
    bundle = Bundle.open(import_bundle(ImportRequest(pair, out=tmp_path / "out", up="z", **SURE)))
    assert bundle.manifest.report["import"]["turned_triangles"] >= 12
    assert bundle.quality.gate("drop_test").passed
    assert (bundle.quality.gate("walkable").value or 0) > 4


def test_without_a_floor(pair: Path, tmp_path: Path):
    """A mesh of one wall is no scene."""
    vertices, triangles = box_faces(np.zeros(3), np.array([4.0, 0.1, 2.5]))
    wall = Mesh.from_arrays(vertices, triangles)
    wall.with_faces(np.abs(wall.face_normals()[:, 2]) < 0.5).save(pair / "mesh.ply")
    with pytest.raises(ReconstructionError, match="has a floor"):
        import_bundle(ImportRequest(pair, out=tmp_path / "out", up="z"))
    assert not list((tmp_path / "out").rglob("*.json"))


def test_only_what_depends_on_a_change_runs_again(pair: Path, tmp_path: Path):
    """A stage's result is kept: a new description costs no registration, and a lost level of detail is made again."""
    request = ImportRequest(pair, out=tmp_path / "out", name="room", up="z", **SURE)
    first = run_plan(plan_import(request))
    assert first.executed == ("capture", "mesh", "regions", "splat", "bundle")
    assert run_plan(plan_import(request)).executed == ()
    described = run_plan(plan_import(replace(request, description="a room")))
    assert described.executed == ("bundle",)
    assert (first.bundle, described.bundle) == tuple(
        tmp_path / "out" / "room" / version for version in ("1.0.0", "1.1.0")
    )
    shutil.rmtree(tmp_path / "out" / ".work" / "room" / "splat")
    assert run_plan(plan_import(replace(request, description="a hall"))).executed == ("splat", "bundle")
    (pair / "mesh.ply").write_bytes((pair / "mesh.ply").read_bytes() + b"\n")
    assert len(plan_import(request).pending) == 5


def test_up_must_be_said(pair: Path, tmp_path: Path):
    """Nobody guesses it."""
    with pytest.raises(CardError, match="--up z"):
        import_bundle(ImportRequest(pair, out=tmp_path / "out"))


def test_a_licence_is_kept(pair: Path, tmp_path: Path):
    """An export's can't be changed by importing it; the same again is no contradiction."""
    about = {"bundle": "a@1.0.0", "source": "s", "origin": "captured", "licence": "CC-BY-ND-4.0"}
    (pair / "origin.json").write_text(json.dumps(about))
    with pytest.raises(CardError, match="CC-BY-ND"):
        import_bundle(ImportRequest(pair, out=tmp_path / "out", up="z", licence="CC0-1.0"))


@pytest.mark.parametrize("words", [["--scale", "-1"], ["--scale", "nan"], ["--scale", "1+-0"], ["--up", "z+--1"]])
def test_impossible_options(words: list[str], pair: Path, tmp_path: Path):
    """End with a message and not with a bundle."""
    try:
        code = main(["import", str(pair), "--out", str(tmp_path / "out"), "--up", "z", *words])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_refused(tmp_path: Path):
    """Naming what can be read."""
    with pytest.raises(BundleError, match="GaussGym scene folder"):
        import_bundle(ImportRequest(tmp_path))
