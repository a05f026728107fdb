"""F-score of a surface against the true one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.mesh.clean import observe

SAMPLES = 100_000


@dataclass(frozen=True)
class FScore:
    """Agreement of a surface with the truth at one threshold.

    Attributes:
        threshold: [m].
        precision: Share of the surface within the threshold of the truth.
        recall: Share of the seen truth within the threshold of the surface.
    """

    threshold: float
    precision: float
    recall: float

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


def f_scores(
    mesh: Mesh,
    truth: Mesh,
    truth_maps: Iterable[DepthMap],
    thresholds: tuple[float, ...],
    rng: np.random.Generator,
    *,
    least_views: int = 2,
) -> list[FScore]:
    """F-scores of the measured part of a mesh inside the region that the cameras saw.

    Samples of the true surface count when at least `least_views` of the maps see them (to 2 cm): what nobody saw, such
    as the outer side of a wall, can't be asked for. Guessed triangles of the mesh don't count for or against it.

    Args:
        mesh: [m, world frame].
        truth: Same frame.
        truth_maps: Exact depth of the training views.
        thresholds: [m].
        rng: For the samples.
        least_views: See above.
    """
    measured = mesh.with_faces(~mesh.face_guessed())
    points, _ = sample_surface(measured, SAMPLES, rng)
    to_truth = RayCaster(truth).distances(points)
    wanted, owner = sample_surface(truth, SAMPLES, rng)
    seen = observe(wanted, truth.face_normals()[owner], list(truth_maps), 0.02).seen >= least_views
    to_mesh = RayCaster(measured).distances(wanted[seen])
    return [
        FScore(t, float((to_truth < t).mean()) if len(to_truth) else 0.0, float((to_mesh < t).mean()))
        for t in thresholds
    ]
