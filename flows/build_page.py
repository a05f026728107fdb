"""The page of a build that runs: what there is of cloud, mesh and splat, ever finer, and how long it still takes.

A process of its own, which `flows.build_view.BuildView` starts and tells how far the build is.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.build_view import Began, Compiling, Done, Line, Stages
from flows.markdown import markdown
from flows.server import HOST
from flows.view import add_switch, begin_at, show, start_at, viser_server
from pipeline import Bundle
from pipeline.gallery.layers import CAMERA_COLOR, colored, frustum, show_splat
from pipeline.gallery.viewpoint import View, best_view
from pipeline.geometry import Gaussians, Mesh, PointCloud, Similarity
from pipeline.io.files import counted
from pipeline.preview.coarse import diagonal
from pipeline.preview.time_left import TimeLeft
from pipeline.preview.watch import Layer, Update, Watcher
from pipeline.previews import Cameras

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)

PORT = 8080
LOOK_SECONDS, TELL_SECONDS = 0.5, 1.0
"""Time between two looks at the build's folders, and between two texts of the time left."""
NICENESS = 10
SHOWN = {"cloud": False, "mesh": False, "splat": True, "cameras": False}
"""Layers, and whether they are switched on at first: points hide the splat, cameras the view of the one beside them."""
LABELS = {"cloud": "points"}
MIN_ACROSS, MAX_ACROSS = 120, 1000
"""The scene's diagonal over the size of a point, with few points and with so many that they would hide the splat."""


class Page:
    """The page while the build runs."""

    def __init__(self, server: viser.ViserServer, name: str, left: TimeLeft) -> None:
        self._server, self._left, self._stage = server, left, ""
        self._nodes: dict[str, viser.SceneNodeHandle] = {}
        self._started = False
        server.scene.set_up_direction("+z")
        server.gui.add_markdown(markdown("### {}", name))
        self._share = server.gui.add_progress_bar(0.0)
        self._text = server.gui.add_markdown("starting")
        self._source = server.gui.add_markdown("nothing to see yet")
        with server.gui.add_folder("Show"):
            self._roots = {
                layer: add_switch(server, LABELS.get(layer, layer), visible=on) for layer, on in SHOWN.items()
            }

    def begin(self, stage: str) -> None:
        """A stage began."""
        self._stage = stage
        self._left.begin(stage)
        self.tell()

    def tell(self) -> None:
        """Say at which stage it is and how long the whole still takes."""
        if not self._stage:
            return
        compiling = "  \ncompiling kernels, once on this machine" if self._left.compiling else ""
        self._text.content = markdown(f"**{{}}**; {{}}{compiling}", self._left.place(self._stage), self._left.told())
        self._share.value = 100 * self._left.share()

    def compiling(self) -> None:
        """Kernels are compiled, as by the first build on a machine."""
        self._left.compiling = True
        self.tell()

    def update(self, update: Update) -> None:
        """Show what changed."""
        for name, layer in update.layers.items():
            if layer is not None:
                self._nodes[name] = self._add(f"{self._roots[name]}/shown", layer)  # in the place of the one before
            elif (node := self._nodes.pop(name, None)) is not None:
                node.remove()
        self._look_on(update)
        parts = {name: _count(layer) for name, layer in update.layers.items() if layer is not None}
        self._source.content = markdown("from {}: {}", update.source, ", ".join(parts.values()))
        logger.debug("%s", self._source.content)

    def _add(self, name: str, layer: Layer) -> viser.SceneNodeHandle:
        scene = self._server.scene
        if isinstance(layer, PointCloud):
            size = diagonal(layer.points) / min(max(3 * len(layer) ** 0.5, MIN_ACROSS), MAX_ACROSS)
            return scene.add_point_cloud(name, layer.points, layer.colors, point_size=size, point_shape="circle")
        if isinstance(layer, Gaussians):
            return show_splat(self._server, layer, name)
        if isinstance(layer, Mesh):
            return scene.add_mesh_trimesh(name, colored(layer))
        lines = np.concatenate([frustum(c, p) for c, p in zip(layer.cameras, layer.poses, strict=True)])
        return scene.add_line_segments(name, lines, CAMERA_COLOR, thickness=0.004)

    def _look_on(self, update: Update) -> None:
        """Keep what people look at where it is; at first as the first camera saw it."""
        clients = self._server.get_clients().values()
        if update.moved is not None:
            for client in clients:
                _move(client, update.moved)
        cameras = update.layers.get("cameras")
        if not isinstance(cameras, Cameras):
            return
        viewpoint = View.of(cameras.cameras[0], cameras.poses[0]).viewpoint
        (begin_at if self._started else start_at)(self._server, viewpoint)
        self._started = True


def _move(client: viser.ClientHandle, new_from_old: Similarity) -> None:
    """Let a person see the same as before in a frame that changed, upright."""
    camera = client.camera
    position, target = new_from_old.apply(camera.position), new_from_old.apply(camera.look_at)
    with client.atomic():
        camera.up_direction = (0.0, 0.0, 1.0)
        camera.position, camera.look_at = tuple(position), tuple(target)


def _count(layer: Layer) -> str:
    """Such as "5,000 points"."""
    if isinstance(layer, Mesh):
        return counted(len(layer.triangles), "triangle")
    if isinstance(layer, PointCloud):
        return counted(len(layer), "point")
    return counted(len(layer), "Gaussian") if isinstance(layer, Gaussians) else counted(len(layer.ids), "camera")


def main() -> None:
    """Serve the page of the build that writes to the standard input, until that ends."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    server = viser_server(HOST, PORT, "splatyard build")  # while the build is planned
    line = sys.stdin.readline()
    if not line:  # the build ended before it began
        return
    first = Line.validate_json(line)
    assert isinstance(first, Stages)
    logger.info("http://%s:%d shows the build", HOST, server.get_port())
    os.nice(NICENESS)  # the build goes first
    server.gui.set_panel_label(f"splatyard build: {first.name}")
    page = Page(server, first.name, TimeLeft(first.expected))
    bundle = queue.SimpleQueue[Path | None]()
    threading.Thread(target=_listen, args=(page, bundle), daemon=True).start()
    watcher = Watcher(first.folders)
    while bundle.empty():
        update = watcher.poll()
        if update is None:
            time.sleep(LOOK_SECONDS)
        else:
            page.update(update)
    made = bundle.get()
    if made is None:
        while (update := watcher.poll()) is not None:
            page.update(update)
    else:
        opened = Bundle.open(made)
        begin_at(server, best_view(opened).viewpoint)
        server.scene.reset()
        server.gui.reset()
        show(server, opened)
    threading.Event().wait()


def _listen(page: Page, bundle: queue.SimpleQueue[Path | None]) -> None:
    """Follow the build's lines; the process ends with them."""
    lines = queue.SimpleQueue[str]()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    done = False
    while True:
        try:
            line = Line.validate_json(lines.get(timeout=TELL_SECONDS))
        except queue.Empty:
            if not done:
                page.tell()
            continue
        if isinstance(line, Began):
            page.begin(line.stage)
        elif isinstance(line, Compiling):
            page.compiling()
        elif isinstance(line, Done):
            done = True
            bundle.put(line.bundle)


if __name__ == "__main__":
    main()
