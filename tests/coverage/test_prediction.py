"""The expected error of a picture: near the true one, and large where the splat is wrong or nobody looked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.coverage.evidence import Evidence
from pipeline.coverage.prediction import expected_psnr, predict_error, trust_of
from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.splat.loss import psnr
from pipeline.splat.raster import render
from tests.coverage.scenes import disc_splat, evidence_of
from tests.synthetic import TABLE_HIGH, TABLE_LOW, Room, look_at, walk

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


def test_trust_falls_with_the_error():
    """From nearly 1 to nearly 0, one half at 23 dB."""
    errors = 10 ** (-np.array([30.0, 25.0, 23.0, 21.0, 15.0]) / 10)
    trust = trust_of(errors)
    assert (np.diff(trust) < 0).all()
    assert trust[0] > 0.99 and trust[-1] < 0.01
    assert trust[2] == pytest.approx(0.5)
    assert expected_psnr(errors)[1] == pytest.approx(25)
