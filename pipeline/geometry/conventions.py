"""What given poses may be instead of camera-to-world in the axes that their format declares, and how to convert them.

One table for all checks of given poses, whether by depth or by matches: each tries every hypothesis and names the best.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.constants import DECLARED
from pipeline.geometry.pose import CV_FROM_GL, Pose
from pipeline.geometry.rotation import matrix_from_quaternion
from pipeline.types import F64

_MIRROR = np.diag([-1.0, 1, 1])
"""Of a left-handed world: whether it is y up (Unity) or z up (Unreal), up stays up."""


def _turned(pose: Pose, places: int) -> Pose:
    """The pose whose quaternion's numbers were read so many places off."""
    return Pose(matrix_from_quaternion(np.roll(pose.quaternion, places)), pose.translation)


def _inverse_turned(pose: Pose, places: int) -> Pose:
    return _turned(pose.inverse(), places).inverse()


_FORMS: dict[str, tuple[str, Callable[[Pose], Pose]]] = {
    DECLARED: ("camera-to-world poses", lambda pose: pose),
    "world-to-camera": ("world-to-camera poses", Pose.inverse),
    "transposed": ("transposed poses", lambda pose: Pose(pose.rotation.T, pose.translation)),
}
_QUATERNIONS: dict[str, tuple[str, Callable[[Pose], Pose]]] = {
    f"{form}{order}": (f"{text}of {order} quaternions, read as {other}", change)
    for order, other, places in (("wxyz", "xyzw", -1), ("xyzw", "wxyz", 1))
    for form, text, change in (
        ("", "poses ", partial(_turned, places=places)),
        ("world-to-camera-", "world-to-camera poses ", partial(_inverse_turned, places=places)),
    )
}
"""By name: what they are for people, and what makes them camera-to-world. Quaternions are in their format's axes."""
_AXES: dict[str, tuple[str, F64]] = {
    "": ("", np.eye(3)),
    "yz": ("other camera axes: y and z reversed, as between OpenCV and OpenGL", CV_FROM_GL),
    "xy": ("other camera axes: x and y reversed", np.diag([-1.0, -1, 1])),
    "xz": ("other camera axes: x and z reversed", np.diag([-1.0, 1, -1])),
    "body": ("other camera axes: a robot's, x forward and z up", np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
    "left-handed": ("a left-handed world, as Unity's", np.diag([1.0, -1, 1])),
    "left-handed-x": ("a left-handed world and camera axis x reversed", np.diag([-1.0, 1, 1])),
    "left-handed-z": ("a left-handed world and camera axis z reversed", np.diag([1.0, 1, -1])),
    "left-handed-body": ("a left-handed world, as Unreal's", np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])),
}
"""By name: text for people, and the stored camera axes from OpenCV's; determinant -1 where the world is mirrored."""


def convention_names() -> list[str]:
    """All conventions, as `convert` takes them."""
    return [*(f"{form}+{axes}" if axes else form for form in _FORMS for axes in _AXES), *_QUATERNIONS]


def convert(pose: Pose, convention: str) -> Pose:
    """Camera-to-world in OpenCV axes of a pose that was read as that, but is of another convention.

    A left-handed world becomes a right-handed one by reversing its x axis.

    Raises:
        KeyError: When there is no such convention.
    """
    form, _, axes = convention.partition("+")
    pose, camera = (_FORMS | _QUATERNIONS)[form][1](pose), _AXES[axes][1]
    if np.linalg.det(camera) > 0:
        return Pose(pose.rotation @ camera, pose.translation)
    return Pose(_MIRROR @ pose.rotation @ camera, _MIRROR @ pose.translation)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way in which poses may differ from what is declared, in words, and what the user does if they do."""

    text: str
    remedy: str
    order: Sequence[int]
    """Which of the poses belongs to each image."""
    convention: str = DECLARED

    def poses(self, given: Sequence[Pose], rows: Sequence[int]) -> list[Pose]:
        """Camera-to-world of the images `rows` if this holds for all `given` poses."""
        return [convert(given[self.order[row]], self.convention) for row in rows]


def hypotheses(names: Sequence[str]) -> Iterator[Hypothesis]:
    """Every other convention, and every order in which the poses of the images `names` may have been listed."""
    as_listed = range(len(names))
    for convention in convention_names():
        if convention != DECLARED:
            form, _, axes = convention.partition("+")
            text = (_FORMS | _QUATERNIONS)[form][0] + (f" with {_AXES[axes][0]}" if axes else "")
            remedy = f"if that is what they are: --set capture.pose_convention={convention}"
            yield Hypothesis(text, remedy, as_listed, convention)
    for text, order in _orders(names):
        if list(order) != list(as_listed):
            yield Hypothesis(f"poses {text}", "list the poses in the order of the images that they belong to", order)


def _orders(names: Sequence[str]) -> Iterator[tuple[str, Sequence[int]]]:
    everything, last = range(len(names)), len(names) - 1
    yield "in reverse order", everything[::-1]
    yield "each of the image before", [max(k - 1, 0) for k in everything]
    yield "each of the image after", [min(k + 1, last) for k in everything]
    by_text = sorted(everything, key=lambda k: names[k])
    by_number = sorted(everything, key=lambda k: [int(digits) for digits in re.findall(r"\d+", names[k])])
    yield "in the order of the images' names as text (1, 10, 2)", np.argsort(by_text).tolist()
    yield "in the order of the numbers in the images' names (1, 2, 10)", np.argsort(by_number).tolist()
