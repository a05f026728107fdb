"""A hall larger than a phone's depth reaches, taken by two cameras and a scanner, from files to a mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipeline import BuildRequest, build, plan
from pipeline.align.alignment import load_world_scene
from pipeline.geometry import Mesh, Pose, angle_deg, fit_similarity
from tests.capture.writers.slam import KITTI_BASELINE, KITTI_RIGHT, write_kitti
from tests.flows.test_end_to_end import TINY
from tests.synthetic import CAMERA, Room, walk

TIMES = 4
MOMENTS = 9


@pytest.fixture(scope="module")
def hall(room: Room) -> Room:
    """The room, four times as large: 16 x 12 x 10 m."""
    mesh = Mesh.from_arrays(TIMES * room.mesh.vertices, room.mesh.triangles)
    cells = cKDTree(TIMES * np.asarray(room._cells.data))
    return Room(mesh, room.surface_of_triangle, cells, room._cell_colors)


@pytest.mark.slow
def test_both_cameras_and_far_walls_are_in_the_mesh(hall: Room, tmp_path: Path):
    """All images of both are registered where they were, and what the scanner measured beyond 5 m is in the mesh."""
    left = [Pose(pose.rotation, TIMES * pose.translation) for pose in walk(MOMENTS)]
    right = [pose @ Pose(np.eye(3), KITTI_BASELINE - KITTI_RIGHT) for pose in left]
    write_kitti(tmp_path / "source", hall, left, CAMERA, right=True)
    settings = (*TINY, "mesh.voxel_size=0.15", "capture.cameras=image_2,image_3", "depth.backend=sensor")
    request = BuildRequest(tmp_path / "source", name="hall", out=tmp_path / "out", settings=settings, until="mesh")
    build(request)
    folders = {stage.name: stage.folder for stage in plan(request).stages}
    truth = {f"image_2_{i:06d}.png": pose for i, pose in enumerate(left)}
    truth |= {f"image_3_{i:06d}.png": pose for i, pose in enumerate(right)}
    views = load_world_scene(folders["poses"], folders["align"]).views
    found = {view.name: view.world_from_camera for view in views}
    assert set(found) == set(truth)
    there = np.array([truth[name].translation for name in found])
    fitted = fit_similarity(np.array([pose.translation for pose in found.values()]), there)
    assert fitted.scale == pytest.approx(1, abs=0.01)
    off = [np.linalg.norm(fitted.apply(found[name].translation) - truth[name].translation) for name in truth]
    assert np.median(off) < 0.05
    between = [found[f"image_2_{i:06d}.png"].inverse() @ found[f"image_3_{i:06d}.png"] for i in range(MOMENTS)]
    exact = KITTI_BASELINE - KITTI_RIGHT
    assert np.median([np.linalg.norm(pose.translation - exact) for pose in between]) < 0.05
    assert np.median([angle_deg(pose.rotation, np.eye(3)) for pose in between]) < 0.5
    surface = fitted.apply(Mesh.load(folders["mesh"] / "mesh.ply").vertices)
    size = np.ptp(np.percentile(surface, [1, 99], axis=0), axis=0)
    assert (size[:2] > [15, 11]).all()
