"""The viser page of a bundle: splat, mesh, cameras, floor and spawn points, each switchable, and the quality."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

import numpy as np

from flows.markdown import UNBROKEN, Markdown, markdown, markdown_table
from flows.object_clicks import ObjectClicks
from flows.server import HOST, LOOPBACK, own_origins, refused
from pipeline.check.quality import Gate, metric_text
from pipeline.errors import BundleError
from pipeline.gallery.client import client_page, quiet
from pipeline.gallery.layers import SPAWN_COLOR, WIRE_COLOR, colored, show_floor, show_splat, spawn_arrows
from pipeline.gallery.viewpoint import Viewpoint, best_view
from pipeline.geometry.rotation import quaternion_from_matrix
from pipeline.io.image_files import BadImageError, open_image
from pipeline.types import U8

if TYPE_CHECKING:
    import viser

    from pipeline import Bundle

logger = logging.getLogger(__name__)

CAMERA_COLOR, HELD_OUT_COLOR = (40, 40, 40), (220, 40, 40)
UP = (0.0, 0.0, 1.0)
BETWEEN = 2 * UNBROKEN
"""What keeps columns apart in viser's tables, which have no padding."""
FRUSTUM_DEPTH = 0.08
"""Size of a camera's frustum [m]."""


def serve(bundle: Bundle, *, host: str, port: int, out: Path) -> None:
    """Serve the page until interrupted; takes the next free port when this one is taken.

    Objects that are clicked on are cut out into the folder of bundles `out`, if only this machine sees the page.
    """
    server = viser_server(host, port, f"splatyard {bundle.manifest.reference}")
    logger.info("http://%s:%d shows %s; Ctrl-C ends it", host, server.get_port(), bundle.manifest.reference)
    try:
        start_at(server, best_view(bundle).viewpoint)
        show(server, bundle)
        ObjectClicks(server, bundle, out if host in LOOPBACK else None)
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        pass
    finally:
        stop(server)


def viser_server(host: str, port: int, label: str) -> viser.ViserServer:
    """A server of viser's that answers its own page only: viser itself shows the scene to any page that asks."""
    import viser
    import websockets.asyncio.server as sockets
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response

    serve, html = sockets.serve, client_page().encode()
    about = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(html))}

    def guarded(handler: Any, host: str, port: int, *, process_request: Callable[..., Any], **options: Any) -> Any:
        def answer(connection: sockets.ServerConnection, request: Request) -> Response | None:
            origins = own_origins(connection.local_address[1]) if host in LOOPBACK else None
            why = refused(request.headers.get("Host"), request.headers.get("Origin"), origins)
            if why:
                return connection.respond(HTTPStatus.FORBIDDEN, why)
            answer = process_request(connection, request)
            if answer is None or urlsplit(request.path).path != "/":
                return answer
            return Response(HTTPStatus.OK, "OK", Headers(about), html)

        return serve(handler, host, port, process_request=answer, **options)

    # viser has no setting for it; its server's thread has called this when the constructor returns
    with mock.patch.object(sockets, "serve", guarded), quiet():
        return viser.ViserServer(host=host, port=port, label=label, verbose=False)


def address_of(server: viser.ViserServer) -> str:
    """Where a page of this machine is."""
    return f"http://{HOST}:{server.get_port()}"


def stop(server: viser.ViserServer) -> None:
    """End a server; it may have ended before."""
    with quiet():
        server.stop()


def show(server: viser.ViserServer, bundle: Bundle) -> None:
    """Fill the page: the splat at once, and what else there is once it is asked for."""
    server.scene.set_up_direction("+z")
    manifest = bundle.manifest
    server.gui.add_markdown(markdown("### {}\n\n{}", manifest.reference, manifest.provenance.description))
    with server.gui.add_folder("Show"):
        for label, fill in LAYERS.items():
            add_switch(server, label, visible=label == "splat", fill=partial(fill, server, bundle))
    with server.gui.add_folder("Quality"):
        server.gui.add_markdown(quality_markdown(bundle.quality.gates))


def start_at(server: viser.ViserServer, viewpoint: Viewpoint) -> None:
    """Let visitors begin there, upright, and those go there who came before."""
    begin_at(server, viewpoint)
    for client in server.get_clients().values():
        with client.atomic():
            client.camera.up_direction, client.camera.fov = UP, viewpoint.field_of_view
            client.camera.position, client.camera.look_at = viewpoint.position, viewpoint.look_at


def begin_at(server: viser.ViserServer, viewpoint: Viewpoint) -> None:
    """Let visitors begin there who are still to come, upright."""
    start = server.initial_camera
    start.up, start.fov = UP, viewpoint.field_of_view
    start.position, start.look_at = viewpoint.position, viewpoint.look_at


def add_switch(
    server: viser.ViserServer, label: str, *, visible: bool, fill: Callable[[str], None] = lambda root: None
) -> str:
    """A checkbox; returns the scene node whose children it shows and hides: those that `fill` adds at the first."""
    root = f"/{label.replace(' ', '_')}"
    parent = server.scene.add_frame(root, show_axes=False, visible=visible)
    box = server.gui.add_checkbox(label, visible)
    waiting = [fill]

    def switch() -> None:
        if box.value and waiting:
            waiting.pop()(root)
        parent.visible = box.value

    def switched(_event: object) -> None:
        try:
            switch()
        except BundleError as error:  # this thread is viser's
            server.gui.add_markdown(markdown("{}", str(error)))

    switch()
    box.on_update(switched)
    return root


def _add_splat(server: viser.ViserServer, bundle: Bundle, root: str) -> None:
    show_splat(server, bundle.classic_splat(), f"{root}/gaussians")


def _add_mesh(server: viser.ViserServer, bundle: Bundle, root: str) -> None:
    server.scene.add_mesh_trimesh(f"{root}/surface", colored(bundle.mesh()))


def _add_collision_mesh(server: viser.ViserServer, bundle: Bundle, root: str) -> None:
    mesh = bundle.mesh("collision")
    server.scene.add_mesh_simple(
        f"{root}/wires", mesh.vertices, mesh.triangles, color=WIRE_COLOR, wireframe=True, side="double"
    )


def _add_floor(server: viser.ViserServer, bundle: Bundle, root: str) -> None:
    show_floor(server, bundle.regions, root)


def _add_spawn_points(server: viser.ViserServer, bundle: Bundle, root: str) -> None:
    if bundle.spawn_poses:
        server.scene.add_arrows(f"{root}/arrows", spawn_arrows(bundle.spawn_poses), SPAWN_COLOR)


def _add_cameras(server: viser.ViserServer, bundle: Bundle, root: str) -> None:
    for index, shot in enumerate(bundle.cameras):
        server.scene.add_camera_frustum(
            f"{root}/{index:04d}",
            fov=2 * np.arctan2(shot.camera.height / 2, shot.camera.fy),
            aspect=shot.camera.width / shot.camera.height,
            scale=FRUSTUM_DEPTH,
            thickness=0.002,
            color=HELD_OUT_COLOR if shot.held_out else CAMERA_COLOR,
            image=_image(bundle.path(shot.thumbnail)) if shot.thumbnail else None,
            wxyz=quaternion_from_matrix(shot.world_from_camera.rotation),
            position=shot.world_from_camera.translation,
        )


LAYERS: dict[str, Callable[[viser.ViserServer, Bundle, str], None]] = {
    "splat": _add_splat,
    "mesh": _add_mesh,
    "collision mesh": _add_collision_mesh,
    "walkable floor": _add_floor,
    "spawn points": _add_spawn_points,
    "cameras": _add_cameras,
}
"""What can be shown, by the label of its switch; the splat is shown at first."""


def _image(file: Path) -> U8 | None:
    """RGB (H, W, 3), or None where the file is no image."""
    try:
        with open_image(file, ("JPEG",)) as image:
            return np.asarray(image.convert("RGB"))
    except BadImageError:
        return None


def quality_markdown(gates: tuple[Gate, ...]) -> Markdown:
    """The gates as a Markdown table."""
    verdicts = {True: "ok", False: markdown("**FAILED**"), None: "n/a"}
    rows: list[tuple[str, str, str, str]] = []
    for gate in gates:
        value = "-" if gate.value is None else metric_text(gate.value, gate.unit)
        limit = f"{'≤' if gate.comparison == '<=' else '≥'} {metric_text(gate.threshold, gate.unit)}"
        value, limit = (text.replace(" ", UNBROKEN) for text in (value, BETWEEN + limit))
        rows.append((gate.title, value, limit, markdown(BETWEEN + "{}", verdicts[gate.passed])))
    return markdown_table(["gate", ">metric", ">must be", "verdict"], rows)
