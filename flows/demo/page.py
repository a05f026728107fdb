"""The page of `splatyard demo`: a robot moves in the bundle that comes along, as it was recorded there."""

from __future__ import annotations

import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from flows.demo.recording import Recording, images_in
from flows.markdown import markdown
from flows.server import HOST
from flows.sim_view import FIRST_COLOR, PANEL, shape_mesh
from flows.view import viser_server
from pipeline import Bundle
from pipeline.errors import SimError
from pipeline.gallery.layers import show_splat
from sim.robots.model import Robot

HERE = Path(__file__).parent
NAME, VERSION, BUNDLE = "demo", "1.0.0", "bundle.tar.xz"
ROBOTS = ("go2", "rover")
"""Whose runs come along; the first whose model is here is shown."""


def demo_bundle(out: Path) -> Bundle:
    """The bundle that comes along, unpacked into a folder of bundles where all commands find it, if it isn't there."""
    folder = out / NAME / VERSION
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as half:
            with tarfile.open(HERE / BUNDLE) as packed:
                packed.extractall(half, filter="data")
            (Path(half) / VERSION).rename(folder)
    return Bundle.open(folder)


def find_player() -> Robot:
    """The first of `ROBOTS` whose model is installed."""
    from sim.robots.catalog import find_robot

    for name in ROBOTS[:-1]:
        try:
            return find_robot(name)[0]
        except SimError:
            continue
    return find_robot(ROBOTS[-1])[0]


class DemoPage:
    """Plays a robot's recorded run in the bundle's splat, in a loop; `address` is the page's."""

    def __init__(self, bundle: Bundle, robot: Robot, port: int) -> None:
        self._recording = Recording.load(HERE / f"{robot.name}.npz")
        self._images = [*images_in(HERE / f"{robot.name}.mp4")]
        self._server = server = viser_server(HOST, port, "splatyard demo")
        server.scene.set_up_direction("+z")
        server.initial_camera.position = tuple(self._recording.eye)
        server.initial_camera.look_at = tuple(self._recording.at)
        server.initial_camera.up = (0.0, 0.0, 1.0)
        show_splat(server, bundle.classic_splat("sim"), "/splat")
        self._links = [
            server.scene.add_frame(f"/robot/{number}", show_axes=False) for number in range(len(robot.links))
        ]
        for number, link in enumerate(robot.links):
            for index, shape in enumerate(link.shapes):
                mesh, pose = shape_mesh(shape), shape.link_from_shape
                server.scene.add_mesh_simple(
                    f"/robot/{number}/{index}",
                    np.asarray(mesh.vertices, np.float32),
                    np.asarray(mesh.faces, np.uint32),
                    color=FIRST_COLOR,
                    wxyz=pose.quaternion,
                    position=pose.translation,
                )
        self._balls = []
        self._looks: list[tuple[float, ...]] = []
        server.gui.add_markdown(
            markdown(
                "**{} looks for the ball** by its own camera, in a place it was never trained in. A recorded run of "
                "`splatyard sim demo --robot {} --driver find`.",
                robot.name,
                robot.name,
            )
        )
        self._status = server.gui.add_markdown("")
        self._image = server.gui.add_image(self._images[0], label="what the robot sees")
        self._playing = server.gui.add_checkbox("play", True)
        self.show(0.0)
        self.address = f"http://{HOST}:{server.get_port()}"

    def show(self, seconds: float) -> None:
        """Show the run at a time since its start [s]."""
        run = self._recording
        moment = int(seconds * run.rate)
        links, balls = run.links_at(seconds), run.balls[moment]
        with self._server.atomic():
            for frame, pose in zip(self._links, links, strict=True):
                frame.position, frame.wxyz = pose[:3], pose[3:]
            if not np.array_equal(balls[:, 3:], self._looks):
                self._looks = balls[:, 3:]
                self._balls = [self._add_ball(number, *look) for number, look in enumerate(self._looks)]
            for handle, ball in zip(self._balls, balls, strict=True):
                handle.position = ball[:3]
        self._image.image = self._images[moment * len(self._images) // len(run.links)]
        self._status.content = f"{seconds:.0f} s, balls found: {run.found[moment]} of {run.over[moment]}"

    def play(self) -> None:
        """Play in a loop, in real time, until interrupted."""
        seconds, last = 0.0, time.monotonic()
        while True:
            time.sleep(REFRESH)
            now = time.monotonic()
            if self._playing.value:
                seconds = (seconds + now - last) % self._recording.seconds
                self.show(seconds)
            last = now

    def close(self) -> None:
        """End the page."""
        self._server.stop()


def _arrays(mesh):
    return np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32)
