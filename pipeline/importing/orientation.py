"""Faces that look at where robots are: physics and rays count triangles from their front only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh
from pipeline.mesh.canonical import canonical
from pipeline.mesh.clean import facing_cameras
from pipeline.mesh.rays import RayCaster

EYES, RAYS = 60, 3000
SEED = 0


def facing(mesh: Mesh, eyes: NDArray[np.float64]) -> tuple[Mesh, int]:
    """The mesh in canonical order, each patch turned towards the eyes (N, 3) that see it; also how many triangles were.

    Patches that no eye sees stay as they are.
    """
    rng = np.random.default_rng(SEED)
    merged = canonical(mesh)
    if not len(eyes):
        return merged, 0
    chosen = eyes[rng.permutation(len(eyes))[:EYES]]
    directions = rng.normal(size=(len(chosen), RAYS, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    origins = np.broadcast_to(chosen[:, None], directions.shape).reshape(-1, 3)
    hits = RayCaster(merged).cast(origins, directions.reshape(-1, 3))
    seen = hits.triangle[hits.hit]
    towards = -np.einsum("nc,nc->n", merged.face_normals()[seen], directions.reshape(-1, 3)[hits.hit])
    votes = np.bincount(seen, np.sign(towards), len(merged.triangles))
    turned, count = facing_cameras(merged, votes.astype(np.int32))
    return canonical(turned), count
