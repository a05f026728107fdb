"""The synthetic room, and the exact hall, to simulate in."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from pipeline.coverage.map import CoverageMap
from pipeline.geometry import Gaussians, Mesh
from pipeline.regions.params import RegionsParams
from pipeline.regions.stage import find_regions
from sim.controlled import find_robot
from sim.robots.model import Robot
from sim.scene.scene import SceneLock, SimScene
from tests.paths import HALL_TRUTH
from tests.synthetic import Room, walk

SH_0 = 0.28209479177387814


def room_gaussians(room: Room, count: int = 4000) -> Gaussians:
    """Round ones on the room's surfaces, in its colours."""
    rng = np.random.default_rng(3)
    area = room.mesh.face_areas()
    triangles = rng.choice(len(room.mesh.triangles), count, p=area / area.sum())
    means = np.einsum("nk,nkc->nc", rng.dirichlet(np.ones(3), count), room.mesh.corners()[triangles])
    colors = room._cell_colors[room._cells.query(means)[1]] / 255
    return Gaussians(
        means.astype(np.float32),
        np.full((count, 3), np.log(0.04), np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 3.0, np.float32),
        ((colors - 0.5) / SH_0).astype(np.float32)[:, None],
    )


@pytest.fixture(scope="session")
def room_scene(room: Room) -> SimScene:
    """Trusted everywhere."""
    trusted = CoverageMap(np.array([[2.0, 1.5, 0.0]], np.float32), np.full((1, 8), 1e-3, np.float32), 5.0, 5.0, np.pi)
    track = np.array([pose.translation for pose in walk(16)])
    regions = find_regions(room.mesh, track, trusted, RegionsParams())
    return SimScene(SceneLock("room@1.0.0", "0" * 64, ()), room.mesh, partial(room_gaussians, room), regions)


@pytest.fixture(scope="session")
def hall_scene(room_scene: SimScene) -> SimScene:
    """The exact sample hall, with stairs, table, pillar and boxes; what its cameras see is of no interest here."""
    with np.load(HALL_TRUTH / "mesh.npz", allow_pickle=False) as data:
        mesh = Mesh.from_arrays(data["vertices"], data["triangles"])
    frames = json.loads((HALL_TRUTH / "poses.json").read_text())["frames"].values()
    track = np.array([np.array(frame["world_from_camera"])[:3, 3] for frame in frames])
    trusted = CoverageMap(np.zeros((1, 3), np.float32), np.full((1, 8), 1e-3, np.float32), 9.0, 9.0, np.pi)
    regions = find_regions(mesh, track, trusted, RegionsParams())
    return SimScene(SceneLock("hall@1.0.0", "0" * 64, ()), mesh, room_scene.splat, regions)


@pytest.fixture(scope="session")
def rover() -> Robot:
    """The differential drive."""
    return find_robot("rover")[0]


@pytest.fixture(scope="session")
def golden_scenes(room_scene: SimScene, hall_scene: SimScene) -> dict[str, SimScene]:
    """Scenes of `tests.sim.golden` by their names."""
    from tests.sim.tasks.handling.test_grasps import L
    from tests.sim.tasks.handling.test_pick_object import with_object

    return {"room": room_scene, "hall": hall_scene, "item": with_object(room_scene, *L)}
