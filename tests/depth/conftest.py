"""One room for all tests of this folder: seven views of one corner, rendered once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.depth.maps import DepthMap
from pipeline.poses.scene import PosedScene
from tests.synthetic import Room, depth_maps, look_at, posed_scene


@dataclass(frozen=True, eq=False)
class RoomViews:
    """The posed scene, its folder, and each view's exact map by name."""

    room: Room
    folder: Path
    scene: PosedScene
    truth: dict[str, DepthMap]


@pytest.fixture(scope="session")
def views(tmp_path_factory) -> RoomViews:
    """Seven views, the first of them held out, from a short walk that looks at table and crate."""
    folder = tmp_path_factory.mktemp("room")
    room = Room.make()
    poses = [
        look_at(
            np.array([0.7 + 0.22 * i, 0.6 + 0.1 * (i % 3), 1.3 + 0.1 * (i % 2)]), np.array([2.4, 2.2, 0.5]), i - 3.0
        )
        for i in range(7)
    ]
    scene = posed_scene(folder, room, poses)
    return RoomViews(room, folder, scene, {m.name: m for m in depth_maps(room, poses)})


def distance_to_room(room: Room, points: np.ndarray) -> np.ndarray:
    """Distance (N,) [m] of points (N, 3) to the room's true surfaces."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(room.mesh.vertices, room.mesh.triangles.astype(np.uint32))
    return scene.compute_distance(o3d.core.Tensor(points.astype(np.float32)), nthreads=1).numpy()
