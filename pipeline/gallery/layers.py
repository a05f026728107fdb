"""What the 3-D view of a scene shows: a viser recording with layers to switch, and what is streamed into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.gallery.client import quiet
from pipeline.geometry import Camera, Gaussians, Mesh, Pose, sigmoid
from pipeline.geometry.rotation import matrix_from_quaternion
from pipeline.geometry.spherical_harmonics import SH_C0
from pipeline.regions.regions import Regions
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.types import F32, U32, Mask

if TYPE_CHECKING:
    import trimesh
    import viser

LAYERS = {
    "splat": "Splat",
    "mesh": "Mesh",
    "wires": "Collision mesh",
    "floor": "Walkable floor",
    "cameras": "Cameras",
    "spawn": "Spawn points",
}
"""Scene nodes and what the page calls them; the first is shown at first."""
GAUSSIAN = np.dtype([("center", "<f4", 3), ("group", "<u4"), ("covariance", "<f2", 6), ("rgba", "u1", 4)])
"""As viser's client holds one: the upper triangle of its covariance, and a group that the client fills in."""
FLOOR_COLOR, GUESSED_COLOR, SPAWN_COLOR = (40, 190, 90), (255, 140, 0), (230, 60, 200)
WIRE_COLOR, CAMERA_COLOR, HELD_OUT_COLOR = (70, 130, 255), (90, 150, 255), (240, 70, 70)
FLOOR_LIFT = 0.01
"""The walkable floor is drawn so far above itself [m], or it would flicker with the mesh."""
SPAWN_ARROW = 0.35
"""Length of the arrow along a spawn pose's x [m]."""
FRUSTUM_DEPTH = 0.12
"""Size of a camera's frustum [m]."""


def record(bundle: Bundle, lod: str, start: tuple[float, float, float]) -> bytes:
    """The scene as a file that viser's static client plays: all layers, with the collision mesh as the mesh.

    Splat (at a level of detail) and mesh have a node `light` each; the page adds the results of `full_splat` and
    `full_mesh` as `full`. No camera is drawn at `start`, where the view begins [m].
    """
    with _server() as server:
        server.scene.set_up_direction("+z")
        for name in LAYERS:
            server.scene.add_frame(f"/{name}", show_axes=False, visible=name == "splat")
        for name in ("splat", "mesh"):
            server.scene.add_frame(f"/{name}/full", show_axes=False, visible=False)
        show_splat(server, bundle.classic_splat(lod), "/splat/light")
        collision = bundle.mesh("collision")
        server.scene.add_mesh_trimesh("/mesh/light", colored(collision))
        server.scene.add_mesh_simple(
            "/wires/all", collision.vertices, collision.triangles, color=WIRE_COLOR, wireframe=True, side="double"
        )
        show_floor(server, bundle.regions, "/floor")
        if bundle.spawn_poses:
            server.scene.add_arrows("/spawn/arrows", spawn_arrows(bundle.spawn_poses), SPAWN_COLOR)
        around = [np.linalg.norm(shot.world_from_camera.translation - start) for shot in bundle.cameras]
        _add_cameras(server, [shot for shot, far in zip(bundle.cameras, around, strict=True) if far > FRUSTUM_DEPTH])
        return server.get_scene_serializer().serialize()


def full_splat(bundle: Bundle) -> bytes:
    """All Gaussians as viser's client holds them, 32 bytes each: any first part shows the largest ones."""
    splat = bundle.classic_splat()
    colors, opacities = _look(splat)
    size = opacities[:, 0] * np.exp(np.sort(splat.log_scales, 1)[:, 1:].sum(1, dtype=np.float64))
    packed = np.zeros(len(splat.means), GAUSSIAN)
    packed["center"] = splat.means
    packed["covariance"] = covariances(splat).reshape(-1, 9)[:, [0, 1, 2, 4, 5, 8]]
    packed["rgba"] = 255 * np.hstack([colors, opacities])
    return packed[np.argsort(-size, kind="stable")].tobytes()


def full_mesh(bundle: Bundle) -> bytes:
    """The mesh as a GLB file."""
    exported = colored(bundle.mesh()).export(file_type="glb")
    assert isinstance(exported, bytes)
    return exported


@contextlib.contextmanager
def _server() -> Iterator[viser.ViserServer]:
    """A viser server on a free port of this machine: recordings are made of what one would show."""
    import viser

    with quiet():
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
        try:
            yield server
        finally:
            server.stop()


def show_splat(server: viser.ViserServer, splat: Gaussians, name: str) -> viser.GaussianSplatHandle:
    """Classic Gaussians in their mean colours: viser knows neither others nor view-dependent colours."""
    colors, opacities = _look(splat)
    return server.scene.add_gaussian_splats(
        name, centers=splat.means, covariances=covariances(splat), rgbs=colors, opacities=opacities
    )


def _look(splat: Gaussians) -> tuple[F32, F32]:
    """Mean colours (N, 3) and opacities (N, 1), all 0 to 1."""
    colors = np.clip(0.5 + SH_C0 * splat.sh[:, 0], 0, 1).astype(np.float32)
    return colors, sigmoid(splat.opacity_logits)[:, None].astype(np.float32)


def covariances(splat: Gaussians) -> F32:
    """Covariances (N, 3, 3) [m^2]: R diag(s^2) R^T."""
    rotations = matrix_from_quaternion(splat.quaternions)
    spread = rotations * np.exp(splat.log_scales.astype(np.float64))[:, None, :]
    return (spread @ np.swapaxes(spread, 1, 2)).astype(np.float32)


def colored(mesh: Mesh) -> trimesh.Trimesh:
    """With its own colours; what is guessed in orange."""
    import trimesh

    colors = np.where(mesh.guessed[:, None], np.array(GUESSED_COLOR, np.uint8), mesh.colors)
    return trimesh.Trimesh(mesh.vertices, mesh.triangles, vertex_colors=colors, process=False)


def show_floor(server: viser.ViserServer, regions: Regions, root: str) -> None:
    """The walkable floor below the node `root`; what is guessed in orange."""
    for name, cells, color in (
        ("measured", regions.walkable & ~regions.guessed, FLOOR_COLOR),
        ("guessed", regions.walkable & regions.guessed, GUESSED_COLOR),
    ):
        if cells.any():
            vertices, triangles = floor_cells(regions, cells)
            server.scene.add_mesh_simple(f"{root}/{name}", vertices, triangles, color=color, opacity=0.7, side="double")


def floor_cells(regions: Regions, cells: Mask) -> tuple[F32, U32]:
    """Two triangles for each chosen cell (X, Y), a little above the floor: vertices (4N, 3) [m], triangles (2N, 3)."""
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * regions.cell
    flat = regions.centres()[cells][:, None, :] + corners
    height = np.broadcast_to(regions.height[cells][:, None, None] + FLOOR_LIFT, (*flat.shape[:2], 1))
    first = 4 * np.arange(len(flat), dtype=np.uint32)[:, None, None]
    triangles = first + np.array([(0, 1, 2), (0, 2, 3)], np.uint32)
    return np.concatenate([flat, height], -1).reshape(-1, 3).astype(np.float32), triangles.reshape(-1, 3)


def spawn_arrows(poses: tuple[Pose, ...]) -> F32:
    """Start and end (N, 2, 3) [m] of an arrow along each pose's x axis, just above the floor."""
    starts = np.array([pose.translation for pose in poses]) + np.array([0, 0, 2 * FLOOR_LIFT])
    ahead = np.array([pose.rotation[:, 0] for pose in poses])
    return np.stack([starts, starts + SPAWN_ARROW * ahead], 1).astype(np.float32)


def _add_cameras(server: viser.ViserServer, cameras: Sequence[BundleCamera]) -> None:
    """All frustums as lines of one node: hundreds of nodes would make a page slow."""
    if not cameras:
        return
    lines = np.concatenate([frustum(shot.camera, shot.world_from_camera) for shot in cameras])
    colors = np.array([HELD_OUT_COLOR if shot.held_out else CAMERA_COLOR for shot in cameras], np.uint8)
    each = len(lines) // len(cameras)
    both_ends = np.repeat(np.repeat(colors, each, 0)[:, None], 2, 1)
    server.scene.add_line_segments("/cameras/frustums", lines, both_ends, thickness=0.004)


def frustum(camera: Camera, pose: Pose) -> F32:
    """Edges (8, 2, 3) [m] of a small pyramid from a camera's centre to its image."""
    pixels = np.array([(0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height)])
    rays = np.column_stack([(pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy], np.ones(4)])
    corners = pose.apply(FRUSTUM_DEPTH * rays)
    tip = np.broadcast_to(pose.translation, corners.shape)
    return np.concatenate([np.stack([tip, corners], 1), np.stack([corners, np.roll(corners, -1, 0)], 1)]).astype(
        np.float32
    )
