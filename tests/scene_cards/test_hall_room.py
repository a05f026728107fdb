"""The room of the benchmark of capture formats is the sample hall."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.hall_room import HallRoom, hall_walk
from benchmarks.truth import truth_cameras, truth_poses
from tests.scene_cards.test_hall import HALL


def fine_structure(image: np.ndarray) -> np.ndarray:
    """What is left without light and shadow."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), 6.0)


@pytest.mark.slow
def test_images_lie_on_the_photos() -> None:
    """From a photo's place the painted hall looks like the photo, to a twentieth of a pixel."""
    stamp, pose = sorted(truth_poses().items())[8]
    photo = cv2.imread(str(HALL / "keyframes" / "images" / f"{stamp}.jpg"))
    drawn, depth = HallRoom().render(truth_cameras()[stamp], pose)
    assert np.isfinite(depth).all()
    a, b = fine_structure(photo), fine_structure(drawn[..., ::-1])
    window = cv2.createHanningWindow((a.shape[1], a.shape[0]), cv2.CV_32F)
    (right, down), peak = cv2.phaseCorrelate(a, b, window)
    assert max(abs(right), abs(down)) < 0.05
    assert peak > 0.3


def test_walk_goes_through_the_photos_places() -> None:
    """It starts at the first photo and passes near the others of its lap."""
    exact = [pose for _, pose in sorted(truth_poses().items())]
    walk = np.array([pose.translation for pose in hall_walk(3000)])
    assert np.allclose(walk[0], exact[0].translation)
    gaps = [np.linalg.norm(walk - pose.translation, axis=1).min() for pose in exact[:34]]
    assert max(gaps) < 0.01
