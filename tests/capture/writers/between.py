"""Truth between two poses."""

from __future__ import annotations

from scipy.spatial.transform import Rotation

from pipeline.geometry import Pose


def between(first: Pose, second: Pose, share: float) -> Pose:
    """Straight from `first` (share 0) to `second` (share 1), turning evenly."""
    turn = Rotation.from_matrix(first.rotation.T @ second.rotation).as_rotvec()
    rotation = first.rotation @ Rotation.from_rotvec(share * turn).as_matrix()
    return Pose(rotation, (1 - share) * first.translation + share * second.translation)
