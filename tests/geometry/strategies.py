"""Hypothesis strategies for transforms; nothing symmetric, nothing near identity by chance alone."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.geometry import Pose, Similarity, matrix_from_rotvec

unit = st.floats(-3.0, 3.0, allow_nan=False, width=64)
vectors = hnp.arrays(np.float64, 3, elements=unit)
rotations = vectors.map(matrix_from_rotvec)
poses = st.builds(Pose, rotations, vectors)
similarities = st.builds(Similarity, st.floats(0.1, 10.0), rotations, vectors)
point_sets = hnp.arrays(np.float64, (7, 3), elements=unit)
