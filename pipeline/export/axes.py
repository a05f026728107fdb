"""Frames of other formats. The bundle's is right-handed, Z up; a turn is made here and nowhere else."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Similarity

Z_UP = Similarity.identity()
"""As in the bundle: USD, COLMAP, nerfstudio."""
Y_UP = Similarity(1.0, np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.zeros(3))
"""x right, y up, z back: glTF, and SPZ ("RUB" in its specification)."""
Y_DOWN = Similarity(1.0, np.diag([-1.0, -1, 1]), np.zeros(3)) @ Y_UP
"""`Y_UP` after half a turn about z. PlayCanvas's viewers give every SOG that half turn, as with PLY files, which
mostly have y down; there the scene then stands as in `Y_UP`."""
