"""The viser page of a simulation: robots in the splat, what each camera sees, and buttons for time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from flows.markdown import joined, markdown
from flows.server import HOST
from flows.view import start_at, stop, viser_server
from flows.watching.follower import FIELD_OF_VIEW, Follower
from flows.watching.pace import Pace
from flows.watching.shapes import (
    FIRST_COLOR,
    ROBOT_COLOR,
    Color,
    add_mesh,
    add_robot,
    bytes_of,
    hull_mesh,
    solids_of,
    surface_of,
)
from pipeline.gallery.layers import show_splat
from pipeline.gallery.viewpoint import Viewpoint
from pipeline.geometry import quaternion_from_matrix
from pipeline.types import F64
from sim.chase_camera import RAISED, REACH
from sim.drivers import EpisodeResult
from sim.env import SceneEnv
from sim.robots.kinematics import link_poses
from sim.sensors.cameras.props import Props, Solids
from sim.video import SHOWN, images_of, tiled

if TYPE_CHECKING:
    import viser

REFRESH = 0.05
"""Minimum time between two updates of the page [s]; some tasks step more often."""
TELL = 0.25
"""Minimum time between two updates of its text [s]."""
EYE_HEIGHT = 1.7  # [m]
BEFORE = (1.2, -0.6, 0.7)
"""From where the page looks at an arm, in the axes of its base [m]."""


def serve_sim(port: int, what: str) -> viser.ViserServer:
    """The page of a simulation that is still being loaded, which it says; `SimPage` fills it.

    Args:
        port: The first that is tried.
        what: What is loaded.

    Raises:
        MachineError: When no port is free.
    """
    server = viser_server(HOST, port, "splatyard sim")
    server.gui.add_markdown(markdown("### {}\n\nloading ...", what))
    return server


class SimPage:
    """Shows the robots of the first scene, in real time, and props and objects of the first of them, which is blue.

    Robots and images are shown with the first `update`. The page ends with `close`.

    Args:
        env: Environment, which may not have been reset yet.
        server: Its page.
        driven: Whether nobody else says when time goes on and counts episodes, so that the page does.

    Attributes:
        server: Its page.
    """

    def __init__(self, env: SceneEnv, server: viser.ViserServer, *, driven: bool = True) -> None:
        self._env, self.server = env, server
        self._drawn = self._told = -REFRESH
        self._driven, self._ended, self._solved = driven, 0, 0
        robots = "" if env.num_envs == 1 else f", {env.num_envs} robots"
        server.gui.reset()
        with server.atomic():
            server.scene.set_up_direction("+z")
            start_at(server, _first_view(env))
            server.gui.add_markdown(
                markdown("### {}: {}\n\n{}{}", env.robot.name, env.task.name, env.task.text, robots)
            )
            self._text = server.gui.add_markdown("loading ...")
            self._pace = Pace(server.gui, env.task.control_period, shown=driven)
            self._follower = None if env.robot.fixed_base else Follower(server, env)
            self._images = server.gui.add_image(np.zeros((1, 1, 3), np.uint8), format="png", visible=False)
            show_splat(server, env.scenes[0].gaussians, "/splat")
            self._shown = np.flatnonzero(env.scene_of == 0)[:SHOWN]
            surface = surface_of(env.robot)
            self._robots = [
                add_robot(server, f"/robot_{n}", len(env.robot.links), surface, color)
                for n, color in zip(self._shown, [FIRST_COLOR, *[ROBOT_COLOR] * SHOWN], strict=False)
            ]
            self._objects = [
                show_splat(server, splat, f"/object_{number}") for number, splat in enumerate(env.object_splats)
            ]
            self._solids = [
                server.scene.add_frame(f"/solid_{number}", show_axes=False) for number in range(len(env.solid_hulls))
            ]
        self._solid_colors: list[Color] = []
        self._props: list[viser.MeshHandle] = []
        self._prop_positions: list[tuple[float, ...]] = []

    def update(self, seen: dict[str, np.ndarray], ended: Mapping[int, EpisodeResult]) -> bool:
        """Show a step, and wait for the next one; returns whether all episodes are to begin anew instead."""
        self._ended += len(ended)
        self._solved += sum(result.success for result in ended.values())
        if 0 in ended and self._follower:
            self._follower.cut()
        now = time.monotonic()
        if now >= self._drawn + REFRESH:
            with self.server.atomic():
                self._draw(seen, now - self._drawn)
            self._drawn = now
        if now >= self._told + TELL:
            self._tell()
            self._told = now
        anew = self.wait()
        if anew and self._follower:
            self._follower.cut()
        return anew

    def wait(self) -> bool:
        """Wait for the time of the next step; returns whether all episodes are to begin anew instead."""
        return self._pace.wait()

    def _draw(self, seen: dict[str, np.ndarray], passed: float) -> None:
        """Move the robots and what is around them, and show the images; so much time passed [s]."""
        state = self._env.engine.read()[self._shown]
        poses = link_poses(self._env.robot, state)
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
            height, width = images.shape[1:3]
            self._images.image = tiled(images[self._shown])
            cameras = "camera" if len(self._env.cameras) == 1 else "cameras"
            self._images.label, self._images.visible = f"{cameras}, {width} x {height} pixels", True
        if self._follower:
            self._follower.follow(state[:1], 0, passed)

    def _tell(self) -> None:
        """Say how far the first robot's episode is, and how those before went unless somebody else counts them."""
        share = f"{self._solved} of {self._ended} episodes" if self._ended else "no episode has ended yet"
        told = [markdown("time: {} s", f"{self._env.episodes.seconds[self._shown[0]]:.1f}")]
        if self._driven:
            told.append(markdown("success: {}", share))
        self._text.content = joined(told)

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
        colors = [bytes_of(color) for color in solids.color.reshape(-1, 3)]
        if not colors or colors == self._solid_colors:
            return
        self._solid_colors = colors
        for number, color in enumerate(colors):
            for index, corners in enumerate(self._env.solid_hulls[number]):
                add_mesh(self.server, f"/solid_{number}/{index}", hull_mesh(corners), color, np.zeros(3))

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
            add_mesh(self.server, f"/prop_{number}", mesh, color, center)
            for number, (mesh, color, center) in enumerate(solids)
        ]

    def heading(self) -> float:
        """Where the page's newest visitor looks, seen from above, in the world frame [rad]."""
        clients = self.server.get_clients()
        camera = clients[max(clients)].camera if clients else self.server.initial_camera
        ahead = np.subtract(camera.look_at, camera.position)
        return float(np.arctan2(ahead[1], ahead[0]))

    def close(self) -> None:
        """End the page."""
        stop(self.server)


def _first_view(env: SceneEnv) -> Viewpoint:
    """Where the page looks from and to at first: before the first station of arms, else over a robot's shoulder."""
    base = env.scenario.front()
    if base:
        eye, at = base.apply(np.array(BEFORE)), base.apply(np.array([REACH, 0, RAISED]))
    else:
        start = env.scenes[0].regions.spawn_poses[0].world_from_base  # heads towards open space
        eye, at = start.apply(np.array([0, 0, EYE_HEIGHT])), start.apply(np.array([3.0, 0, 0]))
    return Viewpoint((*eye,), (*at,), FIELD_OF_VIEW)
