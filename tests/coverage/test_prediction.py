"""The expected error of a picture: near the true one, and large where the splat is wrong or nobody looked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.coverage.evidence import Evidence, gather_evidence
from pipeline.coverage.prediction import expected_error, expected_psnr, picture_terms, predict_error, trust_of
from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.splat.loss import psnr
from pipeline.splat.raster import render
from tests.coverage.scenes import disc_splat, evidence_of
from tests.synthetic import TABLE_HIGH, TABLE_LOW, Room, look_at, posed_scene, walk

CAMERA = Camera(160, 120, 122.0, 121.0, 79.0, 60.8)


@pytest.fixture(scope="module")
def evidence(room: Room, tmp_path_factory) -> Evidence:
    """Seven training photos."""
    return evidence_of(room, tmp_path_factory.mktemp("poses"))


def true_psnr(room: Room, splat: Gaussians, pose: Pose) -> float:
    truth = room.render(CAMERA, pose)[0].astype(np.float32) / 255
    return float(psnr(render(splat, CAMERA, pose).rgb.clip(0, 1), truth))


def test_expected_psnr_is_near_the_true_one(room, evidence):
    """For a splat of discs and for one with wrong colours, from views that are no photos."""
    good = disc_splat(room)
    for splat in (good, replace(good, sh=-good.sh)):
        for pose in (walk(9)[0], walk(18)[5]):
            expected = predict_error(evidence, splat, CAMERA, pose).psnr
            assert expected == pytest.approx(true_psnr(room, splat, pose), abs=2.5)


def test_a_hole_in_the_splat_shows(room, evidence):
    """Without the Gaussians of the wall x = 4 the picture of it is expected to be bad."""
    splat, pose = disc_splat(room), look_at(np.array([1.5, 1.2, 1.2]), np.array([4.0, 1.4, 1.2]))
    whole = predict_error(evidence, splat, CAMERA, pose)
    holed = predict_error(evidence, splat[splat.means[:, 0] < 3.9], CAMERA, pose)
    assert holed.psnr < whole.psnr - 4
    assert holed.trust < whole.trust


def test_what_nobody_saw_may_have_any_colour(room, evidence):
    """Under the table: no photo shows what is there, so the error is at least the colours' variance."""
    middle = np.array([*(TABLE_LOW + TABLE_HIGH) / 2, 0.3])
    narrow = Camera(20, 20, 60.0, 60.0, 10.0, 10.0)
    below = predict_error(evidence, disc_splat(room), narrow, look_at(middle, middle + np.array([0.02, 0.0, 1.0])))
    assert below.unseen == 1
    assert below.error >= evidence.color_variance
    assert below.trust < 0.01


def test_what_the_splat_continues_is_mostly_right(room, tmp_path):
    """With one photo half of a picture is unseen; a splat that is right there must not be expected to be all wrong."""
    one, pose = posed_scene(tmp_path, room, walk(9)).training[:1], walk(9)[2]
    expected = predict_error(
        gather_evidence(one, tmp_path, room.mesh, disc_splat(room)), disc_splat(room), CAMERA, pose
    )
    assert 0.4 < expected.unseen < 0.6
    assert expected.psnr == pytest.approx(true_psnr(room, disc_splat(room), pose), abs=3)


def test_where_nothing_is_the_picture_is_worse_than_where_a_surface_is_unseen(room, tmp_path):
    """The wall x = 4 gone from mesh and splat, against the wall whole, in a picture of it that no photo shows."""
    views = posed_scene(tmp_path, room, walk(9)).training
    away = [view for view in views if view.world_from_camera.rotation[0, 2] < 0]  # look towards -x
    pose = look_at(np.array([1.5, 1.2, 1.2]), np.array([4.0, 1.4, 1.2]))
    splat, wall = disc_splat(room), room.surface_of_triangle == 1
    assert np.allclose(room.mesh.corners()[wall][..., 0], 4)
    closed = picture_terms(gather_evidence(away, tmp_path, room.mesh, splat), splat, CAMERA, pose)
    splat = splat[splat.means[:, 0] < 3.9]
    opened = gather_evidence(away, tmp_path, room.mesh.with_faces(~wall), splat)
    hole = picture_terms(opened, splat, CAMERA, pose)
    assert closed[2] == 0 and hole[2] > 0.01
    assert expected_error(hole) > 2 * expected_error(closed)


def test_little_that_is_unseen_counts_less_than_its_share():
    """Half of the patch costs less than half; all of a picture that no photo shows counts in full."""
    patches = np.array([[0, 0.01 * share, 0, share] for share in (0.05, 0.1, 0.5, 1.0)])
    errors = expected_error(patches)
    assert errors[1] == pytest.approx(2 * errors[0])
    assert errors[2] > 5.5 * errors[1]
    assert errors[3] == pytest.approx(0.01)


def test_trust_falls_with_the_error():
    """From nearly 1 to nearly 0, one half at 23.5 dB."""
    errors = 10 ** (-np.array([30.0, 25.0, 23.5, 21.0, 15.0]) / 10)
    trust = trust_of(errors)
    assert (np.diff(trust) < 0).all()
    assert trust[0] > 0.99 and trust[-1] < 0.01
    assert trust[2] == pytest.approx(0.5)
    assert expected_psnr(errors)[1] == pytest.approx(25)
