"""Fine-tuning of the views' poses while the splat is trained on them.

Each view has a small motion of its own, found by gradient descent on the loss. A motion that cameras share would move
the world under the mesh and under the held-out views. Two motions are therefore removed after every round: the rigid
motion and the scaling that fit all cameras best, and what neighbours in time have in common, since a camera between
them would have had it too.

Source of the idea: C.-H. Lin et al., BARF, ICCV 2021, section 3; the gauge is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import F64

if TYPE_CHECKING:  # gsplat's interpreter, which tunes poses too, need not have what `geometry` imports
    from pipeline.geometry import Pose


ROTATION_RATE = 6e-4
"""Learning rate of Adam at the start [rad]; that of the translation is this share of the distance to the scene."""
BETA_1, BETA_2 = 0.8, 0.95
MAX_ROTATION = 0.02
"""Largest correction [rad]; that of the translation is this share of the distance to the scene."""
TREND = 2.0
"""Standard deviation of the window in which motions are common [views]."""


class PoseTuning:
    """Motion of every view, in the order of time: a twist (w, t) in the camera's own axes.

    A rotation by an angle and a translation by that share of `distance`, typical of what the cameras see [world units],
    move the image equally.
    """

    def __init__(self, world_from_cameras: F64, distance: float) -> None:
        count = len(world_from_cameras)
        self._start = world_from_cameras
        self._distance = distance
        self._unit = np.repeat([1.0, distance], 3)
        self.twists = np.zeros((count, 6))
        self.first = np.zeros((count, 6))
        self.second = np.zeros((count, 6))
        self.steps = np.zeros(count, np.int64)

    def world_from_camera(self, index: int) -> Pose:
        """A view's pose as it is now."""
        from pipeline.geometry import Pose, matrix_from_rotvec

        start, twist = Pose.from_matrix(self._start[index]), self.twists[index]
        if not twist.any():
            return start
        return start @ Pose(matrix_from_rotvec(twist[:3]), twist[3:])

    def step(self, index: int, gradient: F64, rate: float) -> None:
        """One step of Adam on a view with the gradient (6,) of `pose_gradient`; the rate is relative to the start's."""
        scaled = gradient * self._unit
        self.steps[index] += 1
        first, second, steps = self.first[index], self.second[index], self.steps[index]
        first += (1 - BETA_1) * (scaled - first)
        second += (1 - BETA_2) * (scaled**2 - second)
        mean, square = first / (1 - BETA_1**steps), second / (1 - BETA_2**steps)
        # one length for the rotation and one for the translation: the step must not depend on the axes
        length = np.sqrt(np.repeat([square[:3].sum(), square[3:].sum()], 3) / 3)
        move = ROTATION_RATE * rate * mean / (length + 1e-30)
        relative = self.twists[index] / self._unit - move
        for part in (relative[:3], relative[3:]):
            part *= min(1.0, MAX_ROTATION / max(float(np.linalg.norm(part)), 1e-12))
        self.twists[index] = relative * self._unit

    def remove_common_motion(self) -> None:
        """Take out the similarity that explains most of all motions, by least squares, then what neighbours share."""
        rotations, centers = self._start[:, :3, :3], self._start[:, :3, 3]
        offsets = centers - centers.mean(0)
        angles = np.einsum("nij,nj->ni", rotations, self.twists[:, :3])
        translations = np.einsum("nij,nj->ni", rotations, self.twists[:, 3:])
        count = len(angles)
        # unknowns: rotation w, shift v, scale s; a camera rotates by w and moves by v + w x r + s r
        cross = np.zeros((count, 3, 3))
        x, y, z = offsets.T
        cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = z, -y, x
        cross -= cross.transpose(0, 2, 1)
        eye = np.broadcast_to(np.eye(3), (count, 3, 3))
        zeros = np.zeros((count, 3, 1))
        rotation_rows = np.concatenate([eye, np.zeros((count, 3, 3)), zeros], 2) * self._distance
        translation_rows = np.concatenate([cross, eye, offsets[:, :, None]], 2)
        matrix = np.concatenate([rotation_rows, translation_rows]).reshape(-1, 7)
        target = np.concatenate([angles * self._distance, translations]).ravel()
        common = np.linalg.lstsq(matrix, target, rcond=1e-6)[0]
        angles = angles - common[:3]
        translations = translations - (translation_rows @ common)
        steps = np.arange(count)
        window = np.exp(-((steps[:, None] - steps) ** 2) / (2 * TREND**2))
        window /= window.sum(1, keepdims=True)
        angles -= window @ angles
        translations -= window @ translations
        self.twists[:, :3] = np.einsum("nji,nj->ni", rotations, angles)
        self.twists[:, 3:] = np.einsum("nji,nj->ni", rotations, translations)

    def describe(self) -> dict[str, float]:
        """Median and largest change of the poses [degrees, mm when the world is metric]."""
        angles = np.degrees(np.linalg.norm(self.twists[:, :3], axis=1))
        distances = 1000 * np.linalg.norm(self.twists[:, 3:], axis=1)
        return {
            "rotation_median_deg": round(float(np.median(angles)), 4),
            "rotation_max_deg": round(float(angles.max()), 4),
            "translation_median_mm": round(float(np.median(distances)), 2),
            "translation_max_mm": round(float(distances.max()), 2),
        }
