"""The page of `splatyard demo`: a robot moves in the bundle that comes along, as it was recorded there."""

from __future__ import annotations

import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.demo.recording import Recording, images_in
from flows.markdown import markdown
from flows.server import HOST
from flows.view import begin_at, stop, viser_server
from flows.watching.shapes import FIRST_COLOR, add_mesh, add_robot, bytes_of, surface_of
from pipeline import Bundle
from pipeline.errors import BundleError, SplatyardError
from pipeline.gallery.layers import show_splat
from pipeline.io.files import machine_errors
from pipeline.io.results import partial_result, writing_alone
from pipeline.types import F32
from sim.robots.catalog import load

if TYPE_CHECKING:
    import viser

HERE = Path(__file__).parent
NAME, VERSION, BUNDLE = "demo", "1.0.0", "bundle.tar.xz"
GO2, ROVER = "go2", "rover"
"""Whose runs come along."""
REFRESH = 0.04
"""Time between two looks of the page [s]."""


def demo_bundle(out: Path) -> Bundle:
    """The bundle that comes along, unpacked into a folder of bundles where all commands find it, if it isn't there.

    Raises:
        BundleError: When a bundle of its name and version is another one, in which the recorded runs mean nothing.
    """
    folder = out / NAME / VERSION
    if not folder.is_dir():
        with machine_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with writing_alone(folder, "the demo"), partial_result(folder) as half, tarfile.open(HERE / BUNDLE) as packed:
            packed.extractall(half, filter=_below_the_top)
    bundle = Bundle.open(folder)
    if bundle.manifest.provenance.build_key != recording(ROVER).build_key:
        raise BundleError(
            f"{NAME}@{VERSION} is the bundle that comes along with splatyard",
            found=f"another place, from {bundle.manifest.provenance.source!r}",
            remedy=f"give yours another name: `splatyard bundle rename {NAME}@{VERSION} NEWNAME`; or have the demo "
            f"unpacked elsewhere: SPLATYARD_BUNDLES=DIR splatyard demo",
            file=folder,
        )
    return bundle


def _below_the_top(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """A file of the archive without the archive's one folder, checked as the standard filter does."""
    return tarfile.data_filter(member.replace(name=member.name.partition("/")[2] or "."), folder)


def find_player() -> tuple[str, Recording]:
    """A robot and its run: the Go2 if its model is installed, else the rover, whose shape comes along."""
    try:
        robot = load(GO2)
    except SplatyardError:  # the model, or what reads it, is an extra
        return ROVER, recording(ROVER)
    surface, links = surface_of(robot)
    return GO2, replace(recording(GO2), surface=surface, surface_link=links)


def recording(robot: str) -> Recording:
    """The run of a robot that comes along."""
    return Recording.load(HERE / f"{robot}.npz")


class DemoPage:
    """Plays a robot's recorded run in the bundle's splat, in a loop.

    Attributes:
        server: Its page.
    """

    def __init__(self, bundle: Bundle, robot: str, run: Recording, port: int) -> None:
        self._recording = run
        self._images = [*images_in(HERE / f"{robot}.mp4")]
        self._looks = np.zeros((0, 4))
        self._balls: list[viser.MeshHandle] = []
        self.server = server = viser_server(HOST, port, "splatyard demo")
        server.scene.set_up_direction("+z")
        begin_at(server, self._recording.viewpoint)
        server.gui.add_markdown(
            markdown(
                "### {} looks for the ball\n\nBy its own camera, in a place it was never trained in. Recorded from "
                "`splatyard sim demo --robot {} --driver find`.",
                robot,
                robot,
            )
        )
        self._status = server.gui.add_markdown("")
        self._image = server.gui.add_image(self._images[0], label="what it sees")
        self._playing = server.gui.add_checkbox("play", initial_value=True)
        show_splat(server, bundle.splat("sim"), "/splat")
        self._links = add_robot(server, "/robot", run.links.shape[1], (run.surface, run.surface_link), FIRST_COLOR)
        self.show(0.0)

    def show(self, seconds: float) -> None:
        """Show the run at a time since its start [s]."""
        run = self._recording
        moment = int(seconds * run.rate)
        links, balls = run.links_at(seconds), run.balls[moment]
        with self.server.atomic():
            for frame, pose in zip(self._links, links, strict=True):
                frame.position, frame.wxyz, frame.visible = pose[:3], pose[3:], True
            if not np.array_equal(balls[:, 3:], self._looks):
                self._show_balls(balls)
            for handle, ball in zip(self._balls, balls, strict=True):
                handle.position = ball[:3]
        self._image.image = self._images[moment * len(self._images) // len(run.links)]
        self._status.content = markdown(
            "{} s, balls found: {} of {}", f"{seconds:.0f}", str(run.found[moment]), str(run.over[moment])
        )

    def _show_balls(self, balls: F32) -> None:
        """Replace the balls by others, (B, 7) as those of a recording."""
        import trimesh

        self._looks = balls[:, 3:]
        for handle in self._balls:
            handle.remove()
        self._balls = [
            add_mesh(
                self.server,
                f"/ball/{number}",
                trimesh.creation.icosphere(2, float(ball[3])),
                bytes_of(ball[4:]),
                ball[:3],
            )
            for number, ball in enumerate(balls)
        ]

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
        stop(self.server)
