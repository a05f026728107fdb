"""Frames and the poses between them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.capture.bags.transforms import PoseSamples, TransformTree
from pipeline.errors import CaptureError
from pipeline.geometry import Pose


def pose(seed: int) -> Pose:
    """Some pose."""
    rng = np.random.default_rng(seed)
    return Pose(Rotation.from_rotvec(rng.normal(size=3)).as_matrix(), rng.normal(size=3))


def put(tree: TransformTree, parent: str, child: str, time: float, place: Pose, *, static: bool = False) -> None:
    """As a message says it."""
    x, y, z = place.translation
    qx, qy, qz, qw = Rotation.from_matrix(place.rotation).as_quat()
    tree.add(parent, child, time, (x, y, z), (qx, qy, qz, qw), static=static)


def test_chain_goes_up_and_down() -> None:
    """From one leaf over the common parent to another, with and without a leading slash."""
    tree = TransformTree()
    put(tree, "/base", "/mast", 0, pose(1), static=True)
    put(tree, "mast", "camera", 0, pose(2), static=True)
    put(tree, "base", "imu", 0, pose(3), static=True)
    chain = tree.chain("camera", "imu")
    assert chain is not None
    assert not chain.moves
    found = chain.at(77.0, 0.1)
    assert found is not None
    assert np.allclose(found.matrix, ((pose(1) @ pose(2)).inverse() @ pose(3)).matrix)
    assert tree.chain("camera", "lidar") is None
    assert tree.root("camera") == "base"


def test_moving_step_is_interpolated_and_never_extrapolated() -> None:
    """Half-way between two samples; nothing outside, nor in a gap."""
    tree = TransformTree()
    end = Pose(Rotation.from_euler("z", 0.2).as_matrix(), np.array([0.0, 2, 0]))
    for time, place in ((1.0, Pose.identity()), (1.2, end), (9.0, end)):
        put(tree, "odom", "base", time, place)
    chain = tree.chain("odom", "base")
    assert chain is not None
    assert chain.moves
    half = chain.at(1.1, 0.5)
    assert half is not None
    assert np.allclose(half.matrix[:3, 3], [0, 1, 0])
    assert np.allclose(half.rotation, Rotation.from_euler("z", 0.1).as_matrix())
    assert [chain.at(time, 0.5) for time in (0.9, 5.0, 9.1)] == [None, None, None]


def test_the_last_static_transform_counts() -> None:
    """A calibration that was published anew, and a stray one on tf."""
    tree = TransformTree()
    put(tree, "base", "camera", 5, pose(1), static=True)
    put(tree, "base", "camera", 6, pose(2), static=True)
    put(tree, "base", "camera", 7, pose(3))
    chain = tree.chain("base", "camera")
    assert chain is not None
    found = chain.at(0.0, 0.1)
    assert found is not None
    assert np.allclose(found.matrix, pose(2).matrix)


def test_circle_ends() -> None:
    """Two parents for each other: a broken robot description must not hang the build."""
    tree = TransformTree()
    put(tree, "a", "b", 0, pose(1), static=True)
    put(tree, "b", "a", 0, pose(2), static=True)
    assert tree.root("a") in ("a", "b")
    assert tree.chain("a", "c") is None


def test_unused_frames_may_be_broken() -> None:
    """Zero quaternions of something that nobody asks for don't stop anything; of what is asked for, they do."""
    tree = TransformTree()
    tree.add("base", "arm", 1.0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), static=True)
    put(tree, "base", "camera", 0, pose(1), static=True)
    chain = tree.chain("base", "camera")
    assert chain is not None
    assert chain.at(0, 0.1) is not None
    broken = tree.chain("base", "arm")
    assert broken is not None
    with pytest.raises(CaptureError, match="base from arm"):
        broken.at(0, 0.1)


def test_samples_at_a_kilohertz_are_thinned() -> None:
    """What is kept suffices for the pose of any image."""
    samples = PoseSamples("x")
    for i in range(2000):
        samples.add(0.001 * i, (0.001 * i, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    assert len(samples) <= 501
    found = samples.at(1.2345, 0.1)
    assert found is not None
    assert found.translation[0] == pytest.approx(1.2345)
