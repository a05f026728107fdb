"""The viser page of a simulation: robots in the splat, and what each camera sees."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from flows.view import show_splat
from pipeline import Bundle
from pipeline.geometry import Pose
from sim.env import SceneEnv
from sim.film import ENLARGED, SHOWN, tiled
from sim.robots.model import Robot, Shape

logger = logging.getLogger(__name__)

ROBOT_COLOR, BALL_COLOR = (240, 120, 30), (240, 205, 30)


class SimPage:
    """Shows the robots of the first scene, in real time.

    Args:
        env: What is shown.
        bundles: The scenes.
        port: Of the page; the next free one is taken.
    """

    def __init__(self, env: SceneEnv, bundles: Sequence[str], port: int) -> None:
        import viser

        self._env, self._next = env, time.monotonic()
        self._server = viser.ViserServer(host="127.0.0.1", port=port, label="splatyard sim", verbose=False)
        self._server.scene.set_up_direction("+z")
        show_splat(self._server, Bundle.open(bundles[0]).splat("sim"), "/splat")
        self._shown = np.flatnonzero(env.scene_of == 0)[:SHOWN]
        self._robots = [self._add_robot(env.robot, f"/robot_{n}") for n in self._shown]
        self._pictures = self._server.gui.add_image(np.zeros((8, 8, 3), np.uint8), label="cameras")
        start = env.engine.read().position[self._shown[0]]
        self._server.initial_camera.position = tuple(start + np.array([-2.0, -1.0, 2.5]))
        self._server.initial_camera.look_at = tuple(start)
        self._server.initial_camera.up = (0.0, 0.0, 1.0)
        logger.info("http://127.0.0.1:%d shows the robots; Ctrl-C ends it", self._server.get_port())

    def _add_robot(self, robot: Robot, root: str) -> Any:
        frame = self._server.scene.add_frame(root, show_axes=False)
        places = link_places(robot)
        for number, (link, base_from_link) in enumerate(zip(robot.links, places, strict=True)):
            for index, shape in enumerate(link.shapes):
                pose = base_from_link @ shape.link_from_shape
                mesh = shape_mesh(shape)
                self._server.scene.add_mesh_simple(
                    f"{root}/{number}_{index}",
                    np.asarray(mesh.vertices, np.float32),
                    np.asarray(mesh.faces, np.uint32),
                    color=ROBOT_COLOR,
                    wxyz=pose.quaternion,
                    position=pose.translation,
                )
        return frame

    def look(self, seen: dict[str, Any]) -> None:
        """Move the robots and show the pictures, no faster than real time."""
        state = self._env.engine.read()
        for frame, robot in zip(self._robots, self._shown, strict=True):
            frame.position, frame.wxyz = state.position[robot], state.quaternion[robot]
            frame.visible = bool(self._env.scene_of[robot] == 0)
        self._pictures.image = tiled(seen["rgb"][self._shown]).repeat(ENLARGED // 2, 0).repeat(ENLARGED // 2, 1)
        self._next += self._env.task.control_period
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic() - 1)

    def close(self) -> None:
        """End the page."""
        self._server.stop()


def link_places(robot: Robot) -> list[Pose]:
    """Where each link is in the base's axes when all joints are at zero."""
    places: list[Pose] = []
    for link in robot.links:
        places.append(places[link.parent] @ link.parent_from_link if link.parent >= 0 else Pose.identity())
    return places


def shape_mesh(shape: Shape) -> Any:
    """A shape's surface as a trimesh, in its own axes [m]."""
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
    return trimesh.convex.convex_hull(shape.vertices)
