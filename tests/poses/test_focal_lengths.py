"""Focal lengths that are not given are compared with the matches, and replaced where they are of other pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from pipeline.capture.model import Capture, FocalSource
from pipeline.poses.epipolar import contradicted_focals
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import write_database
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from pipeline.poses.stage import run
from tests.poses.conftest import ExactMap, Rendered, write_capture


def declared(exact: ExactMap, factor: float, source: FocalSource) -> list[Keyframe]:
    """The keyframes with a focal length that is so many times the true one."""
    return [
        replace(
            k,
            camera=replace(k.camera, fx=factor * k.camera.fx, fy=factor * k.camera.fy),
            frame=replace(k.frame, focal_source=source),
        )
        for k in exact.keyframes
    ]


@pytest.fixture(scope="module")
def verified(exact_map: ExactMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the pairs' fundamental matrices, each with a little noise; a third of them are of no camera."""
    path, rng = tmp_path_factory.mktemp("verified") / "features.db", np.random.default_rng(3)
    write_database(path, exact_map.keyframes, exact_map.features)
    database = pycolmap.Database.open(path)
    inverse = np.linalg.inv(exact_map.keyframes[0].camera.matrix)
    for number, m in enumerate(exact_map.matches):
        j_from_i = exact_map.found.poses[m.j + 1].inverse() @ exact_map.found.poses[m.i + 1]
        x, y, z = j_from_i.translation
        fundamental = inverse.T @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ j_from_i.rotation @ inverse
        fundamental *= 1 + rng.normal(0, 0.3 if number % 3 == 0 else 0.002, (3, 3))
        geometry = pycolmap.TwoViewGeometry()
        geometry.config = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
        geometry.F, geometry.inlier_matches = fundamental, m.features.astype(np.uint32)
        database.write_two_view_geometry(m.i + 1, m.j + 1, geometry)
    database.close()
    return path


@pytest.mark.parametrize("factor", [0.45, 2.2, 5.4, 13])
@pytest.mark.parametrize("source", ["exif", "guessed"])
def test_a_focal_length_of_other_pixels_is_replaced(
    factor: float, source: FocalSource, exact_map: ExactMap, verified: Path
):
    """Resized, cropped or zoomed: what the matches say is near the truth. A guess may be twice as long or short."""
    found = contradicted_focals(verified, declared(exact_map, factor, source))
    if source == "guessed" and factor < 3:
        assert found == {}
    else:
        assert found[1].fx == pytest.approx(exact_map.keyframes[0].camera.fx, rel=0.1)
        assert found[1].fy / found[1].fx == pytest.approx(243 / 245)


@pytest.mark.parametrize(("factor", "source"), [(0.8, "exif"), (1.0, "exif"), (1.3, "exif"), (5.0, "given")])
def test_a_plausible_or_given_focal_length_stays(
    factor: float, source: FocalSource, exact_map: ExactMap, verified: Path
):
    """EXIF that is right but for its rounding; and intrinsics that were calibrated are nobody's guess."""
    assert contradicted_focals(verified, declared(exact_map, factor, source)) == {}


def test_images_register_whatever_exif_says(rendered: Rendered, tmp_path: Path):
    """Thirteen times too long: without it all images fit together, and the report says what was dropped."""
    camera = rendered.camera
    inputs = write_capture(tmp_path, rendered.images[:8], replace(camera, fx=13 * camera.fx, fy=13 * camera.fy))
    capture = Capture.load(inputs["capture"])
    replace(capture, frames=tuple(replace(frame, focal_source="exif") for frame in capture.frames)).save()
    run(inputs, PosesParams(backend="colmap", features=500, mask_dynamic=False), tmp_path / "poses")
    scene = PosedScene.load(tmp_path / "poses")
    assert len(scene.views) == 8
    assert scene.views[0].camera.fx == pytest.approx(camera.fx, rel=0.03)
    (note,) = (note for note in scene.report["notes"] if "focal length" in note)
    assert "not 3185 as EXIF says" in note
