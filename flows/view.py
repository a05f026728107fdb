"""The viser page of a bundle: splat, mesh, cameras, floor and spawn points, each switchable, and the quality."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from flows.markdown import UNBROKEN, Markdown, markdown, markdown_table
from flows.object_clicks import ObjectClicks
from flows.server import LOOPBACK, own_origins, refused
from pipeline.check.quality import Gate
from pipeline.gallery.layers import SPAWN_COLOR, WIRE_COLOR, colored, show_floor, show_splat, spawn_arrows
from pipeline.geometry.rotation import quaternion_from_matrix
from pipeline.io.image_files import BadImageError, open_image
from pipeline.types import U8

if TYPE_CHECKING:
    import viser

    from pipeline import Bundle

logger = logging.getLogger(__name__)

CAMERA_COLOR, HELD_OUT_COLOR = (40, 40, 40), (220, 40, 40)
FRUSTUM_DEPTH = 0.08
"""Size of a camera's frustum [m]."""


def serve(bundle: Bundle, *, host: str, port: int, out: Path) -> None:
    """Serve the page until interrupted; takes the next free port when this one is taken.

    Objects that are clicked on are cut out into the folder of bundles `out`, if only this machine sees the page.
    """
    server = viser_server(host, port, f"splatyard {bundle.manifest.reference}")
    show(server, bundle)
    ObjectClicks(server, bundle, out if host in LOOPBACK else None)
    logger.info("http://%s:%d shows %s; Ctrl-C ends it", host, server.get_port(), bundle.manifest.reference)
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        server.stop()


def viser_server(host: str, port: int, label: str) -> viser.ViserServer:
    """A server of viser's that answers its own pages only: viser itself shows the scene to any page that asks."""
    import viser
    import websockets.asyncio.server as sockets
    from websockets.http11 import Request, Response

    serve = sockets.serve

    def guarded(handler: Any, host: str, port: int, *, process_request: Callable[..., Any], **options: Any) -> Any:
        def answer(connection: sockets.ServerConnection, request: Request) -> Response | None:
            origins = own_origins(connection.local_address[1]) if host in LOOPBACK else None
            why = refused(request.headers.get("Host"), request.headers.get("Origin"), origins)
            return connection.respond(HTTPStatus.FORBIDDEN, why) if why else process_request(connection, request)

        return serve(handler, host, port, process_request=answer, **options)

    # viser has no setting for it; its server's thread has called this when the constructor returns
    with mock.patch.object(sockets, "serve", guarded):
        return viser.ViserServer(host=host, port=port, label=label, verbose=False)


def show(server: viser.ViserServer, bundle: Bundle) -> None:
    """Fill the page; returns at once."""
    server.scene.set_up_direction("+z")
    manifest = bundle.manifest
    server.gui.add_markdown(markdown("### {}\n\n{}", manifest.reference, manifest.provenance.description))
    with server.gui.add_folder("Show"):
        show_splat(server, bundle.classic_splat(), f"{add_switch(server, 'splat', visible=True)}/gaussians")
        root = add_switch(server, "mesh", visible=False)
        server.scene.add_mesh_trimesh(f"{root}/surface", colored(bundle.mesh()))
        root, mesh = add_switch(server, "collision mesh", visible=False), bundle.mesh("collision")
        server.scene.add_mesh_simple(
            f"{root}/wires", mesh.vertices, mesh.triangles, color=WIRE_COLOR, wireframe=True, side="double"
        )
        show_floor(server, bundle.regions, add_switch(server, "walkable floor", visible=False))
        root = add_switch(server, "spawn points", visible=True)
        if bundle.spawn_poses:
            server.scene.add_arrows(f"{root}/arrows", spawn_arrows(bundle.spawn_poses), SPAWN_COLOR)
        _add_cameras(server, bundle, add_switch(server, "cameras", visible=True))
    with server.gui.add_folder("Quality"):
        server.gui.add_markdown(quality_markdown(bundle.quality.gates))
    # behind and above the first photo's camera, with its heading
    pose = bundle.cameras[0].world_from_camera
    forward = pose.rotation[:, 2]
    server.initial_camera.position = tuple(pose.translation - 0.6 * forward + np.array([0, 0, 0.4]))
    server.initial_camera.look_at = tuple(pose.translation + 1.5 * forward)
    server.initial_camera.up = (0.0, 0.0, 1.0)


def add_switch(server: viser.ViserServer, label: str, *, visible: bool) -> str:
    """A checkbox; returns the scene node whose children it shows and hides."""
    root = f"/{label.replace(' ', '_')}"
    parent = server.scene.add_frame(root, show_axes=False, visible=visible)
    box = server.gui.add_checkbox(label, visible)

    @box.on_update
    def _(_event: object) -> None:
        parent.visible = box.value

    return root


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
        unit = gate.unit.replace("degrees", "°")
        value = "-" if gate.value is None else f"{gate.value:.3g} {unit}"
        limit = f"{'≤' if gate.comparison == '<=' else '≥'} {gate.threshold:.3g} {unit}"
        value, limit = (text.strip().replace(" ", UNBROKEN) for text in (value, limit))
        rows.append((gate.title, value, limit, verdicts[gate.passed]))
    return markdown_table(["gate", ">metric", ">must be", "verdict"], rows)
