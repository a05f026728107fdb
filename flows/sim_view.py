"""The viser page of a simulation: robots in the splat, and what each camera sees."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from flows.server import HOST
from flows.view import viser_server
from pipeline.gallery.layers import show_splat
from pipeline.geometry import quaternion_from_matrix
from pipeline.types import F64, Floats
from sim.chase_camera import RAISED, REACH
from sim.drivers import EpisodeResult
from sim.env import SceneEnv
from sim.robots.kinematics import link_poses
from sim.robots.model import Robot, Shape
from sim.sensors.cameras.props import Props, Solids
from sim.video import SHOWN, images_of, tiled

if TYPE_CHECKING:
    import trimesh
    import viser

Color = tuple[int, int, int]

ROBOT_COLOR, FIRST_COLOR = (240, 120, 30), (60, 120, 240)
REFRESH = 0.05
"""Minimum time between two updates of the page [s]; some tasks step more often."""
UPRIGHT = np.array([1.0, 0, 0, 0])
EYE_HEIGHT = 1.7  # [m]
BEFORE = (1.2, -0.6, 0.7)
"""From where the page looks at an arm, in the axes of its base [m]."""
PANEL = 300
"""Width of images in the page [px]."""
PAINT = 0.01
"""Thickness of patches on the floor [m]."""


class SimPage:
    """Shows the robots of the first scene, in real time, and props and objects of the first of them, which is blue.

    Attributes:
        address: Of the page.
    """

    def __init__(self, env: SceneEnv, port: int) -> None:
        self._env, self._next = env, time.monotonic()
        self._server = viser_server(HOST, port, "splatyard sim")
        self._server.scene.set_up_direction("+z")
        show_splat(self._server, env.scenes[0].gaussians, "/splat")
        self._shown = np.flatnonzero(env.scene_of == 0)[:SHOWN]
        colors = [FIRST_COLOR, *[ROBOT_COLOR] * (len(self._shown) - 1)]
        self._robots = [
            self._add_robot(env.robot, f"/robot_{n}", color) for n, color in zip(self._shown, colors, strict=True)
        ]
        self._objects = [
            show_splat(self._server, splat, f"/object_{number}") for number, splat in enumerate(env.object_splats)
        ]
        self._solids = [
            self._server.scene.add_frame(f"/solid_{number}", show_axes=False) for number in range(len(env.solid_hulls))
        ]
        self._solid_colors: list[Color] = []
        self._props: list[viser.MeshHandle] = []
        self._prop_positions: list[tuple[float, ...]] = []
        self._drawn = -REFRESH
        self._images = self._server.gui.add_image(np.zeros((8, 8, 3), np.uint8), label="cameras")
        eye, at = _first_view(env)
        self._server.initial_camera.position, self._server.initial_camera.look_at = tuple(eye), tuple(at)
        self._server.initial_camera.up = (0.0, 0.0, 1.0)
        self.address = f"http://{HOST}:{self._server.get_port()}"

    def _add_robot(self, robot: Robot, root: str, color: Color) -> list[viser.FrameHandle]:
        """A frame for each of its links, with the link's shapes."""
        frames = []
        for number, link in enumerate(robot.links):
            frames.append(self._server.scene.add_frame(f"{root}/{number}", show_axes=False))
            for index, shape in enumerate(link.shapes):
                pose = shape.link_from_shape
                self._add_mesh(f"{root}/{number}/{index}", shape_mesh(shape), color, pose.translation, pose.quaternion)
        return frames

    def _add_mesh(
        self, name: str, mesh: trimesh.Trimesh, color: Color, position: Floats, wxyz: Floats = UPRIGHT
    ) -> viser.MeshHandle:
        vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32)
        return self._server.scene.add_mesh_simple(name, vertices, faces, color=color, wxyz=wxyz, position=position)

    def update(self, seen: dict[str, np.ndarray], ended: Mapping[int, EpisodeResult]) -> None:
        """Move the robots and show the images, no faster than real time."""
        if time.monotonic() >= self._drawn + REFRESH:
            self._drawn = time.monotonic()
            poses = link_poses(self._env.robot, self._env.engine.read()[self._shown])
            wxyz, visible = quaternion_from_matrix(poses[..., :3, :3]), self._env.scene_of[self._shown] == 0
            for row, frames in enumerate(self._robots):
                for link, frame in enumerate(frames):
                    frame.position, frame.wxyz = poses[row, link, :3, 3], wxyz[row, link]
                    frame.visible = bool(visible[row])
            everyones = self._env.props()
            props = everyones[self._shown[: int(visible[0])]]
            self._show_props(props)
            self._show_solids(props.solids)
            if self._objects:
                self._move_objects(everyones.objects[self._shown[0]])
            images = images_of(seen)
            if images is not None:
                tiles = tiled(images[self._shown])
                times = max(1, PANEL // tiles.shape[1])
                self._images.image = tiles.repeat(times, 0).repeat(times, 1)
        self.wait()

    def wait(self) -> None:
        """Wait for the time of the next step."""
        self._next += self._env.task.control_period
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic() - 1)

    def _move_objects(self, poses: F64) -> None:
        """Put the objects where a robot's are, world from object (K, 4, 4)."""
        for handle, pose in zip(self._objects, poses, strict=True):
            handle.position, handle.wxyz = pose[:3, 3], quaternion_from_matrix(pose[:3, :3])

    def _show_solids(self, solids: Solids) -> None:
        """Move the bodies of a robot, or hide them if there is none; with other colours they are made again."""
        for frame in self._solids:
            frame.visible = len(solids.pose) > 0
        for pose, frame in zip(solids.pose.reshape(-1, 4, 4), self._solids, strict=False):
            frame.position, frame.wxyz = pose[:3, 3], quaternion_from_matrix(pose[:3, :3])
        colors = [_bytes(color) for color in solids.color.reshape(-1, 3)]
        if not colors or colors == self._solid_colors:
            return
        self._solid_colors = colors
        for number, color in enumerate(colors):
            for index, corners in enumerate(self._env.solid_hulls[number]):
                self._add_mesh(f"/solid_{number}/{index}", hull_mesh(corners), color, np.zeros(3))

    def _show_props(self, props: Props) -> None:
        """Replace the props where they have moved."""
        solids = solids_of(props)
        positions = [tuple(np.round(center, 4)) for _, _, center in solids]
        if positions == self._prop_positions:
            return
        self._prop_positions = positions
        for handle in self._props:
            handle.remove()
        self._props = [
            self._add_mesh(f"/prop_{number}", mesh, color, center)
            for number, (mesh, color, center) in enumerate(solids)
        ]

    def heading(self) -> float:
        """Where the page's newest visitor looks, seen from above, in the world frame [rad]."""
        clients = self._server.get_clients()
        camera = clients[max(clients)].camera if clients else self._server.initial_camera
        ahead = np.subtract(camera.look_at, camera.position)
        return float(np.arctan2(ahead[1], ahead[0]))

    def close(self) -> None:
        """End the page."""
        self._server.stop()


def _first_view(env: SceneEnv) -> tuple[Floats, Floats]:
    """Where the page looks from and to at first: before the first station of arms, else over a robot's shoulder."""
    base = env.scenario.front()
    if base:
        return base.apply(np.array(BEFORE)), base.apply(np.array([REACH, 0, RAISED]))
    start = env.scenes[0].regions.spawn_poses[0].world_from_base  # heads towards open space
    return start.apply(np.array([0, 0, EYE_HEIGHT])), start.apply(np.array([3.0, 0, 0]))


def solids_of(props: Props) -> list[tuple[trimesh.Trimesh, Color, Floats]]:
    """A robot's props: each as a mesh around its own centre [m], its colour and that centre; none for no robot."""
    import trimesh

    balls, posts, patches = props.balls, props.posts, props.patches
    flat = np.full(patches.radius.shape, PAINT)
    solids = []
    for radii, heights, centers, colors in (
        (balls.radius, np.zeros(balls.radius.shape), balls.center, balls.color),
        (posts.radius, posts.height, posts.foot + posts.height[..., None] * [0, 0, 0.5], posts.color),
        (patches.radius, flat, patches.center, patches.color),
    ):
        for radius, height, center, color in zip(
            radii.ravel(), heights.ravel(), centers.reshape(-1, 3), colors.reshape(-1, 3), strict=True
        ):
            if radius > 0:
                creation = trimesh.creation
                mesh = creation.cylinder(radius, height) if height else creation.icosphere(2, radius)
                solids.append((mesh, _bytes(color), center))
    return solids


def _bytes(color: Floats) -> Color:
    """A colour (3,), 0..1, as viser wants it."""
    red, green, blue = (int(255 * value) for value in color)
    return red, green, blue


def shape_mesh(shape: Shape) -> trimesh.Trimesh:
    """A shape's surface, in its own axes [m]."""
    import trimesh

    size = shape.size
    if shape.kind == "box":
        return trimesh.creation.box(extents=2 * size)
    if shape.kind == "sphere":
        return trimesh.creation.icosphere(2, float(size[0]))
    if shape.kind == "capsule":
        return trimesh.creation.capsule(2 * float(size[1]), float(size[0]))
    if shape.kind == "cylinder":
        return trimesh.creation.cylinder(float(size[0]), 2 * float(size[1]))
    return hull_mesh(shape.vertices)


def hull_mesh(corners: Floats) -> trimesh.Trimesh:
    """The surface around corners (V, 3)."""
    import trimesh

    return trimesh.convex.convex_hull(corners)
