"""All formats at once: what lies beside, and through the command."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.export.catalog import FORMS
from pipeline.export.programs import PROGRAMS
from tests.export.conftest import change

pytestmark = pytest.mark.usefixtures("small_textures", "undrawn")
FILES = {
    "usd": {"scene.usdc", "regions.json", "walkable.npz"},
    "glb": {"scene.glb"},
    "glb_splat": {"scene.glb"},
    "obj": {"scene.obj", "scene.mtl", "scene.png"},
    "sog": {"scene.sog"},
    "streamed_sog": {"0_0", "1_1", "lod-meta.json"},
    "spz": {"scene.spz"},
    "spz4": {"scene.spz"},
    "habitat_gs": {"room.scene_dataset_config.json", "configs", "stages", "meshes", "starts.json"},
    "nav2": {"level_0", "levels.json", "README.md"},
    "nerfstudio": {"transforms.json", "points.ply", "splat.ply", "images"},
    "colmap": {"sparse"},
}
CARRY_IT = {
    "usd": {"scene.usdc"},
    "glb": {"scene.glb"},
    "glb_splat": {"scene.glb"},
    "habitat_gs": {"room.gs.ply"},
    "obj": {"scene.mtl"},
    "sog": {"scene.sog"},
    "streamed_sog": {"lod-meta.json", "meta.json"},
    "nav2": {"README.md"},
    "nerfstudio": {"transforms.json", "splat.ply"},
}
"""Files that say the licence themselves; SPZ and COLMAP's binary files have no room for it."""
UP = {"glb": "y", "glb_splat": "y", "spz": "y", "spz4": "y", "habitat_gs": "y", "sog": "-y", "streamed_sog": "-y"}


@pytest.mark.parametrize("form", FORMS)
def test_command_writes_it_with_licence_and_mark(folder: Path, tmp_path: Path, form: str, capsys):
    """Into a new folder, with where it comes from and where up is; nothing else stays."""
    change(folder, origin="generated", licence="CC-BY-4.0")
    out = tmp_path / "exports" / form
    assert main(["export", str(folder), "--format", form, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES[form] | {"export.json", "origin.json"}
    assert [path.name for path in out.parent.iterdir()] == [form]
    origin = json.loads((out / "origin.json").read_text())
    assert (origin["bundle"], origin["licence"], origin["origin"]) == ("room@1.0.0", "CC-BY-4.0", "generated")
    assert origin["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    up = np.array({"y": [0, 1, 0], "-y": [0, -1, 0], "z": [0, 0, 1]}[origin["up"]])
    assert origin["up"] == UP.get(form, "z")
    np.testing.assert_allclose(origin["gravity"], -9.81 * up)
    inside = [path for path in out.rglob("*.*") if path.name != "origin.json" and b"CC-BY-4.0" in path.read_bytes()]
    assert {path.name for path in inside} == CARRY_IT.get(form, set())
    assert all(b"trainedAlgorithmicMedia" in path.read_bytes() for path in inside)
    told = capsys.readouterr().out
    assert str(out / "origin.json") in told
    assert f"opens in   {PROGRAMS[form].names}\n" in told
    assert any(line.startswith("open       ") and str(out) in line for line in told.splitlines())
    about = json.loads((out / "export.json").read_text())
    assert f"without    {about['lost']}\n" in told
    assert about["format"] == form and str(out) not in about["open"]
    assert about["render_agreement"] == {"not_rendered": "splatyard draws with no program that opens it"}
    assert "agrees     not rendered: " in told


def test_a_captured_place_says_so(folder: Path, tmp_path: Path):
    """In the IPTC's word for images of real life; by the option's older name."""
    assert main(["export", str(folder), "--to", "spz", "--out", str(tmp_path / "out")]) == 0
    origin = json.loads((tmp_path / "out" / "origin.json").read_text())
    assert origin["origin"] == "captured"
    assert origin["digital_source_type"].endswith("/computationalCapture")


def test_what_a_stage_s_licence_forbids_goes_along(folder: Path, tmp_path: Path):
    """Of those that plainly allow all, and of stages that say nothing, no word."""
    record = Bundle.open(folder).manifest.provenance.stages[0]
    texts = {"poses": "Apache-2.0 AND BSD-3-Clause", "mesh": "Research License AND CC-BY-SA-4.0", "points": ""}
    texts |= {"depth": "Apache-2.0 AND CC-BY-NC-4.0"}
    stages = tuple(record.model_copy(update={"name": name, "licence": text}) for name, text in texts.items())
    change(folder, stages=stages)
    assert main(["export", str(folder), "--format", "spz", "--out", str(tmp_path / "out")]) == 0
    origin = json.loads((tmp_path / "out" / "origin.json").read_text())
    assert origin["stage_licences"] == {name: texts[name] for name in ("mesh", "depth")}


@pytest.mark.parametrize(("form", "file"), [("colmap", "points.ply"), ("nerfstudio", "thumbnails/0003.jpg")])
def test_a_damaged_bundle_is_no_bug(folder: Path, tmp_path: Path, form: str, file: str, capsys):
    """The error names the file, and nothing is left."""
    (folder / file).write_bytes(b"ply\nnot one")
    change(folder)
    assert main(["export", str(folder), "--format", form, "--out", str(tmp_path / "new" / "out")]) == 2
    assert file in capsys.readouterr().err
    assert not list((tmp_path / "new").iterdir())


def test_what_a_kill_left_half_is_removed(folder: Path, tmp_path: Path):
    """By the same command again; no lock stays, either."""
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "scene.glb").write_bytes(b"half")
    (tmp_path / ".out.lock").write_text("123456")
    assert main(["export", str(folder), "--format", "spz", "--out", str(tmp_path / "out")]) == 0
    assert not list(tmp_path.glob(".*"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scene.spz", "export.json", "origin.json"}


def test_a_folder_that_is_a_disk_of_its_own_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A container's volume can't be replaced by what was written beside it."""

    def busy(path: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path), None, str(target))

    monkeypatch.setattr(Path, "rename", busy)
    assert main(["export", str(folder), "--format", "spz", "--out", str(tmp_path / "out")]) == 2
    assert f"error: {tmp_path}/out: results need a place of their own" in capsys.readouterr().err
