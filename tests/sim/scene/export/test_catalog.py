"""Exports as a whole: what lies in the folder, and what happens when it can't be written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import gsply
import mujoco
import numpy as np
import pytest

from flows.cli import main
from flows.cli.exchange import export as export_command
from pipeline.errors import BundleError, SimError
from pipeline.export.form import export
from pipeline.export.programs import PROGRAMS
from pipeline.geometry import Mesh
from pipeline.regions.regions import Regions
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import file_sha256
from sim.scene.export.catalog import FORMS
from sim.scene.opening import open_scene
from tests.bundles import make_bundle
from tests.paths import ROOT
from tests.synthetic import Room

pytestmark = pytest.mark.usefixtures("small_textures", "undrawn")
BESIDE = {"export.json", "origin.json", "regions.json", "walkable.npz"}
MESHES = {"collision.obj", "visual.obj", "visual.mtl", "visual.png"}


@pytest.fixture
def bundle(tmp_path: Path, room: Room) -> Path:
    """The furnished room; two of its floor cells are far enough apart for a way."""
    return make_bundle(tmp_path / "bundles", room)


def test_command_offers_what_there_is(capsys: pytest.CaptureFixture[str]):
    """Its help and the docs name every form with what opens it, and an unknown one the nearest."""
    words = re.findall(r"\w+", export_command.description)
    assert set(FORMS) == set(PROGRAMS)
    assert set(FORMS) <= set(words)
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{form} ({programs.names})" in told for form, programs in PROGRAMS.items())
    rows = [line.split(" | ") for line in (ROOT / "docs" / "exports.md").read_text().splitlines()]
    listed = {row[0].strip("| `"): row[1] for row in rows if len(row) == 4 and row[0].startswith("| `")}
    assert listed == {form: programs.names for form, programs in PROGRAMS.items()}
    with pytest.raises(BundleError, match="did you mean 'gaussgym'"):
        export_command.function("nowhere", form="gausgym")


@pytest.mark.parametrize(
    ("form", "files"),
    [("mjcf", {"scene.xml", "splat.ply"}), ("urdf", {"scene.urdf"})],
)
def test_command_writes_a_model(bundle: Path, tmp_path: Path, form: str, files: set[str], capsys):
    """With origin and floor beside; nothing else stays."""
    out = tmp_path / "deep" / form
    assert main(["export", str(bundle), "--format", form, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == files | MESHES | BESIDE
    assert [path.name for path in out.parent.iterdir()] == [form]
    assert str(out / "origin.json") in capsys.readouterr().out
    origin = json.loads((out / "origin.json").read_text())
    assert (origin["bundle"], origin["licence"], origin["gravity"]) == ("room@1.0.0", "CC0-1.0", [0, 0, -9.81])
    assert origin["manifest_sha256"] == file_sha256(bundle / "bundle.json")
    assert Regions.load(out).spawn_poses == Bundle.open(bundle).regions.spawn_poses


@pytest.mark.parametrize(("form", "file"), [("mjcf", "scene.xml"), ("urdf", "scene.urdf")])
def test_models_say_whose_they_are(bundle: Path, tmp_path: Path, form: str, file: str):
    """Also when the licence is hostile: it can't end a comment, and the file stays XML."""
    content = json.loads((bundle / "bundle.json").read_text())
    content["provenance"] |= {"licence": 'CC-BY-4.0 --> <x y="', "source": "\0", "origin": "generated"}
    (bundle / "bundle.json").write_text(json.dumps(content))
    assert main(["export", str(bundle), "--format", form, "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / file).read_text()
    assert "CC-BY-4.0" in text
    assert "trainedAlgorithmicMedia" in text
    assert ElementTree.fromstring(text).tag in ("mujoco", "robot")
    assert len(list(ElementTree.fromstring(text).iter("x"))) == 0
    if form == "mjcf":
        model = mujoco.MjModel.from_xml_path(str(tmp_path / "out" / file))
        assert model.ntext == 6


def test_gaussgym_export_opens_again(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As the same mesh and the same Gaussians; by NumPy and gsply with the names and types that GaussGym takes."""
    monkeypatch.setattr("sim.scene.export.gaussgym.MIN_LENGTH", 0.4)  # the tiny bundle's floor is tiny
    out = tmp_path / "out"
    assert main(["export", str(bundle), "--format", "gaussgym", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"meshes", "splatfacto"} | BESIDE
    assert b"\ncomment licence: CC0-1.0\n" in (out / "splatfacto" / "splat.ply").read_bytes()
    scene, mesh = open_scene(out), Mesh.load(bundle / "collision.ply")
    np.testing.assert_array_equal(scene.collision.vertices, mesh.vertices)
    np.testing.assert_array_equal(scene.collision.triangles, mesh.triangles)
    splat = Bundle.open(bundle).classic_splat()
    assert len(scene.gaussians) == len(splat)
    np.testing.assert_array_equal(gsply.plyread(out / "splatfacto" / "splat.ply").means, splat.means)
    for path in (out / "meshes").glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            shapes = {name: arrays[name].shape for name in ("vertices", "triangles", "offset", "from_ig_rotation")}
            assert arrays["cam_trans"].shape[0] > 11  # the length of its smoothing
        assert shapes == {
            "vertices": mesh.vertices.shape,
            "triangles": mesh.triangles.shape,
            "offset": (1, 3),
            "from_ig_rotation": (3, 3),
        }


def test_nothing_is_left_when_it_fails(bundle: Path, tmp_path: Path):
    """No way is long enough on the tiny bundle's floor."""
    with pytest.raises(SimError, match="no path of at least"):
        export(Bundle.open(bundle), FORMS["gaussgym"], tmp_path / "new" / "out")
    assert list((tmp_path / "new").iterdir()) == []


def test_nothing_is_overwritten(bundle: Path, tmp_path: Path):
    """Neither files nor folders with something in them."""
    (tmp_path / "mine").write_text("precious")
    for folder in (tmp_path / "mine", bundle):
        with pytest.raises(SimError, match="into a new folder"):
            export(Bundle.open(bundle), FORMS["urdf"], folder)
    assert (tmp_path / "mine").read_text() == "precious"
