"""export.json: where the views are, and how far a program's own pictures of them agree with ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import MachineError, SimError
from pipeline.export.agreement import SIDE, Drawing, Drawn, agreement, views
from pipeline.export.form import Y_UP, Form, export
from pipeline.geometry import Camera, Pose
from pipeline.scenes.bundle import Bundle
from sim.scene.export.catalog import FORMS
from tests.export.conftest import image


def told(folder: Path) -> dict:
    """What lies beside an export."""
    return json.loads((folder / "export.json").read_text())


def test_views_are_held_out_and_small(bundle: Bundle):
    """Three, spread over the capture; any where none is held out, and none of an object by itself."""
    held_out = [camera.name for camera in bundle.cameras if camera.held_out]
    chosen = views(bundle)
    assert 0 < len(chosen) <= 3
    assert {one.name for one in chosen} <= set(held_out)
    assert max(chosen[0].camera.width, chosen[0].camera.height) <= SIDE
    bundle.cameras = tuple(replace(camera, held_out=False) for camera in bundle.cameras)
    assert [one.name for one in views(bundle)] == [bundle.cameras[at].name for at in (0, 4, 8)]
    bundle.cameras = ()
    assert views(bundle) == []
    assert agreement(bundle, Drawing(lambda _: Drawn("x", np.zeros(0, np.uint8))), Path()) == {
        "not_rendered": "the bundle has no views of a scene"
    }


def test_views_are_in_the_frame_of_the_files(bundle: Bundle, tmp_path: Path):
    """A camera sees from there of the splat in the file's axes what it sees of the bundle's own."""
    form = Form("spz", lambda _, folder: (folder / "scene.spz").touch(), "all", Y_UP)
    export(bundle, form, tmp_path / "out")
    for view, told_view in zip(views(bundle), told(tmp_path / "out")["views"], strict=True):
        lens, pose = Camera.from_json(told_view["camera"]), Pose.from_matrix(told_view["file_from_camera"])
        there = image(bundle.splat().transformed(Y_UP), pose, lens)
        assert np.abs(there - image(bundle.splat(), view.world_from_camera, view.camera)).max() < 1 / 255


def test_pictures_are_compared(bundle: Bundle, tmp_path: Path):
    """With the level of detail that the program got: the same to rounding, or darker by a tenth, which is 20 dB."""
    ours = np.stack([image(bundle.splat("sim"), one.world_from_camera, one.camera) for one in views(bundle)])

    def drawing(shift: float) -> Drawing:
        return Drawing(lambda _: Drawn("viewer 1.0", np.round(255 * np.abs(ours - shift)).astype(np.uint8)), "sim")

    same, shifted = (agreement(bundle, drawing(shift), tmp_path) for shift in (0, 0.1))
    assert (same["program"], same["level"]) == ("viewer 1.0", "sim")
    assert min(same["psnr_db"]) > 50
    assert max(shifted["psnr_db"]) < 25
    height, width = np.asarray(Image.open(tmp_path / same["picture"])).shape[:2]
    assert (height, width) == (2 * ours.shape[1], len(ours) * ours.shape[2])


def test_what_was_not_drawn_is_said(bundle: Bundle, tmp_path: Path):
    """With the reason, and without a picture; the export is complete all the same."""

    def fail(_: Path) -> Drawn:
        raise MachineError("x draws", found="x is not installed", remedy="install it")

    form = Form("spz", lambda _, folder: (folder / "scene.spz").touch(), "all", drawing=Drawing(fail))
    export(bundle, form, tmp_path / "out")
    assert told(tmp_path / "out")["render_agreement"] == {"not_rendered": "x is not installed"}
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("form", ["newton", "habitat_gs", "maniskill"])
def test_an_object_by_itself_is_no_scene(bundle: Bundle, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch):
    """Said by name, and nothing is left."""
    monkeypatch.setattr(type(bundle.manifest), "is_object", property(lambda _: True))
    with pytest.raises(SimError, match="an object by itself"):
        export(bundle, FORMS[form], tmp_path / "new" / "out")
    assert not list((tmp_path / "new").iterdir())
