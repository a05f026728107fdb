"""The sample hall with the test writers' room interface: exact depth and images from any pose, by ray casting.

The surfaces carry the sample's own painted textures, evenly lit: lamps and shadows of the sample's photos are left out.
"""

from __future__ import annotations

import json

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from benchmarks.truth import truth_mesh, truth_poses
from pipeline.geometry import Camera, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, I32, I64, U8
from scene_cards.samples.hall_model import build_model
from scene_cards.samples.hall_textures import paint

SEED = 20  # of the sample's textures
LAP = 33  # last photo of the walk's first lap
SAMPLES = 2  # rays per pixel in each direction


def hall_walk(count: int) -> list[Pose]:
    """`count` world-from-camera poses, evenly in time, along the first lap of the sample's walk."""
    exact = sorted((int(stamp), pose) for stamp, pose in truth_poses().items())
    times = np.array([stamp for stamp, _ in exact]) / 1e6
    track = CubicSpline(times, [pose.translation for _, pose in exact])
    turn = RotationSpline(times, Rotation.from_matrix([pose.rotation for _, pose in exact]))
    return [Pose(turn(t).as_matrix(), track(t)) for t in np.linspace(times[0], times[LAP], count)]


class HallRoom:
    """Renders like `tests.synthetic.Room`; images are cached.

    Attributes:
        mesh: The exact surfaces.
    """

    def __init__(self) -> None:
        model = build_model()
        textures = paint(model, SEED)
        self.mesh, self._owner = truth_mesh(), model.mesh()[2]
        self._caster = RayCaster(self.mesh)
        self._texels = np.concatenate([image.reshape(-1, 3) for image in textures.values()])
        starts = np.cumsum([0, *(image.shape[0] * image.shape[1] for image in textures.values())])
        first = dict(zip(textures, starts, strict=False))
        self._start = np.array([first[face.texture] for face in model.faces])
        self._size = np.array([textures[face.texture].shape[1::-1] for face in model.faces])
        columns_from_space = []
        for face, (columns, rows) in zip(model.faces, self._size, strict=True):
            width, height = model.texture_size[face.texture]
            places = face.uv / [width, height] * [columns, -rows] + [0, rows]
            corners = np.column_stack([face.vertices, np.ones(len(face.vertices))])
            columns_from_space.append(np.linalg.lstsq(corners, places)[0])
        self._columns_from_space = np.array(columns_from_space)  # (F, 4, 2)
        self._drawn: dict[bytes, U8] = {}

    def cast(self, camera: Camera, world_from_camera: Pose) -> tuple[F64, F32]:
        """Hit points (H, W, 3) [m, world] and planar depth (H, W) of every pixel centre."""
        points, depth, _ = self._hits(camera, world_from_camera)
        return points.reshape(camera.height, camera.width, 3), depth.reshape(camera.height, camera.width)

    def render(self, camera: Camera, world_from_camera: Pose, samples: int = SAMPLES) -> tuple[U8, F32]:
        """Image (H, W, 3) and planar depth (H, W) [m]; with a fixed number of rays per pixel for all formats."""
        key = json.dumps(camera.to_json()).encode() + world_from_camera.matrix.tobytes()
        if key not in self._drawn:
            fine = camera.resized(camera.width * SAMPLES, camera.height * SAMPLES)
            points, _, owner = self._hits(fine, world_from_camera)
            color = self._paint(points, owner)
            color = color.reshape(camera.height, SAMPLES, camera.width, SAMPLES, 3).mean((1, 3))
            self._drawn[key] = color.round().astype(np.uint8)
        return self._drawn[key], self.cast(camera, world_from_camera)[1]

    def colors_at(self, triangle: I64, weights: F64) -> F64:
        """As `Skin.colors_at`, of the mesh."""
        points = np.einsum("nk,nkc->nc", weights, self.mesh.corners()[triangle].astype(np.float64))
        return self._paint(points, self._owner[triangle]) / 255.0

    def _paint(self, points: F64, owner: I32) -> U8:
        """Colours (N, 3) of points (N, 3) on faces (N,)."""
        places = np.einsum(
            "nk,nkc->nc", np.column_stack([points, np.ones(len(points))]), self._columns_from_space[owner]
        )
        column, row = np.clip(places.astype(np.int64), 0, self._size[owner] - 1).T
        return self._texels[self._start[owner] + row * self._size[owner, 0] + column]

    def _hits(self, camera: Camera, world_from_camera: Pose) -> tuple[F64, F32, I32]:
        """Points (N, 3), depth (N,) and face (N,) under all pixel centres; the hall is closed, every ray hits."""
        rays = world_from_camera.rotate(camera.rays()).reshape(-1, 3)  # z = 1 in the camera: the distance is the depth
        hits = self._caster.cast(np.broadcast_to(world_from_camera.translation, rays.shape), rays)
        points = world_from_camera.translation + rays * hits.distance[:, None]
        return points, hits.distance, self._owner[hits.triangle]
