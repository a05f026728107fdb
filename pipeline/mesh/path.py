"""Where the camera went: free space by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PATH_STEP = 0.03  # [m]
LONGEST_STRIDE = 0.6  # [m]; between cameras farther apart the path is not known


def camera_path(track: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Points (M, 3) every 3 cm along the camera centres (N, 3), and the path's length [m].

    Between cameras over 0.6 m apart nothing is known of the path: unordered photos may have a wall between them.
    """
    centres = np.asarray(track, np.float64)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    known = np.flatnonzero(steps <= LONGEST_STRIDE)
    pieces = [centres]
    for index in known:
        count = int(steps[index] / PATH_STEP)
        share = np.arange(1, count + 1)[:, None] / (count + 1)
        pieces.append(centres[index] * (1 - share) + centres[index + 1] * share)
    return np.concatenate(pieces), float(steps[known].sum())
