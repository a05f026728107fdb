"""The viewer page: what it holds, what the switches do, and one look at it in a real browser."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import viser

from flows.view import FRUSTUM_DEPTH, quality_markdown, serve, show, stop, viser_server
from pipeline import Bundle
from pipeline.gallery.client import ADDED, client_page
from pipeline.gallery.layers import FLOOR_LIFT, SPAWN_ARROW, covariances, floor_cells, spawn_arrows
from pipeline.geometry import Camera, Gaussians, Pose
from tests.flows.conftest import FAILED_GATE, GATES, floor_regions

CHROMIUM = shutil.which("chromium")
LAYERS = ["splat", "mesh", "collision mesh", "walkable floor", "spawn points", "cameras"]
GL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
WAIT_SECONDS = 90
FIELD_OF_VIEW = np.deg2rad(55)
LIKE, UNLIKE = 0.7, 0.2
"""Correlations of blurred images: 0.80 for the same view, -0.06 for its mirror image."""


@pytest.fixture
def server():
    """A viser server on a free port."""
    server = viser.ViserServer(host="127.0.0.1", port=18080, verbose=False)
    yield server
    server.stop()


@pytest.fixture
def server_of_ours():
    """As the commands start one."""
    server = viser_server("127.0.0.1", 0, "test page")
    yield server
    stop(server)


def nodes(server: viser.ViserServer) -> dict[str, viser.SceneNodeHandle]:
    """All scene nodes by name."""
    return dict(server.scene._handle_from_node_name)


def switch_on(server: viser.ViserServer) -> None:
    """Tick every checkbox."""
    for box in switches(server).values():
        box.value = True


def switches(server: viser.ViserServer) -> dict[str, viser.GuiCheckboxHandle]:
    """All checkboxes by label."""
    handles = server.gui._gui_input_handle_from_uuid.values()
    return {handle.label: handle for handle in handles if isinstance(handle, viser.GuiCheckboxHandle)}


def test_layers_are_added_when_they_are_first_asked_for(server, room_bundle):
    """At first there is the splat; then both meshes, floor, spawn points and one frustum a camera, and only once."""
    show(server, Bundle.open(room_bundle))
    empty = {f"/{name.replace(' ', '_')}" for name in LAYERS}
    filled = {name for name in nodes(server) if name.startswith(tuple(empty))} - empty
    assert filled == {"/splat/gaussians"}
    switch_on(server)
    there = nodes(server)
    for name in ("/mesh/surface", "/collision_mesh/wires", "/spawn_points/arrows"):
        assert name in there
    assert {"/walkable_floor/measured", "/walkable_floor/guessed"} <= set(there)
    assert sum(name.startswith("/cameras/") for name in there) == len(Bundle.open(room_bundle).cameras) == 9
    assert list(switches(server)) == LAYERS
    switches(server)["mesh"].value = False
    switches(server)["mesh"].value = True
    assert nodes(server)["/mesh/surface"] is there["/mesh/surface"]


def test_a_layer_that_is_damaged_is_told_on_the_page(server, room_bundle, tmp_path):
    """Nobody looks at the terminal when a switch is pressed; the other layers go on."""
    damaged = shutil.copytree(room_bundle, tmp_path / "room")
    bundle = Bundle.open(damaged)
    bundle.path("collision.ply").write_bytes(b"ply")
    show(server, bundle)
    switches(server)["collision mesh"].value = True
    handles = server.gui._container_handle_from_uuid["root"]._children.values()
    texts = [handle.content for handle in handles if isinstance(handle, viser.GuiMarkdownHandle)]
    assert any("collision.ply" in text.replace("\\", "") for text in texts)


@pytest.mark.parametrize("label", LAYERS)
def test_switch_shows_and_hides_its_layer_only(server, room_bundle, label):
    """Each checkbox moves the visibility of its own layer, both ways, and of no other."""
    show(server, Bundle.open(room_bundle))
    roots = {name: nodes(server)[f"/{name.replace(' ', '_')}"] for name in LAYERS}
    before = {name: root.visible for name, root in roots.items()}
    assert before[label] == switches(server)[label].value
    for value in (not before[label], before[label]):
        switches(server)[label].value = value
        assert roots[label].visible is value
        assert {n: r.visible for n, r in roots.items() if n != label} == {n: v for n, v in before.items() if n != label}


def test_cameras_stand_where_the_bundle_says(server, room_bundle):
    """A frustum has its camera's pose, field of view and photo; held-out ones have another colour."""
    bundle = Bundle.open(room_bundle)
    show(server, bundle)
    switch_on(server)
    there = nodes(server)
    for index in (0, 3):
        frustum, shot = there[f"/cameras/{index:04d}"], bundle.cameras[index]
        assert isinstance(frustum, viser.CameraFrustumHandle)
        np.testing.assert_allclose(frustum.position, shot.world_from_camera.translation, atol=1e-6)
        pose = Pose.from_quaternion(frustum.wxyz, frustum.position)
        np.testing.assert_allclose(pose.rotation, shot.world_from_camera.rotation, atol=1e-6)
        half_height = FRUSTUM_DEPTH * np.tan(frustum.fov / 2)
        assert half_height == pytest.approx(FRUSTUM_DEPTH * shot.camera.height / 2 / shot.camera.fy)
        assert frustum.image is not None
    assert there["/cameras/0000"].color != there["/cameras/0003"].color


def test_covariances_are_those_of_the_gaussians():
    """R diag(s^2) R^T, for a Gaussian turned by 90 degrees about z: its long axis x becomes y."""
    half = np.sqrt(0.5)
    splat = Gaussians(
        np.zeros((1, 3), np.float32),
        np.log([[3.0, 2.0, 1.0]]).astype(np.float32),
        np.array([[half, 0, 0, half]], np.float32),
        np.zeros(1, np.float32),
        np.zeros((1, 1, 3), np.float32),
    )
    np.testing.assert_allclose(covariances(splat)[0], np.diag([4.0, 9.0, 1.0]), atol=1e-5)


def test_floor_cells_cover_the_chosen_cells():
    """Area and place of the drawn cells are those of the grid; they face up, a little above the floor."""
    regions = floor_regions()
    vertices, triangles = floor_cells(regions, regions.walkable)
    a, b, c = np.moveaxis(vertices[triangles].astype(float), 1, 0)
    cross = np.cross(b - a, c - a) / 2
    assert cross[:, 2].sum() == pytest.approx(regions.walkable_area, rel=1e-4)
    assert (cross[:, 2] > 0).all()
    low, high = vertices.min(0), vertices.max(0)
    np.testing.assert_allclose(low, [0.2 + 2 * 0.08, 0.3 + 2 * 0.08, FLOOR_LIFT], atol=1e-5)
    np.testing.assert_allclose(high, [0.2 + 38 * 0.08, 0.3 + 18 * 0.08, FLOOR_LIFT], atol=1e-5)


def test_spawn_arrows_point_along_x_of_the_pose():
    """The second spawn pose looks along +y."""
    arrows = spawn_arrows(tuple(pose.world_from_base for pose in floor_regions().spawn_poses))
    np.testing.assert_allclose(arrows[1, 1] - arrows[1, 0], [0, SPAWN_ARROW, 0], atol=1e-6)
    np.testing.assert_allclose(arrows[1, 0, :2], [2.0, 1.0], atol=1e-6)


def test_quality_names_what_failed():
    """Every gate has a row with metric, threshold and verdict."""
    text = quality_markdown((*GATES, FAILED_GATE)).replace("\N{NO-BREAK SPACE}", " ")
    assert "| Held-out PSNR | 31.5 dB |   ≥ 25 dB |   ok |" in text
    assert "| Scale sigma | \\- |   ≤ 3 % |   **FAILED** |" in text
    assert text.count("\n") == 1 + 4


def test_serve_begins_inside_and_ends_with_ctrl_c(room_bundle, tmp_path, monkeypatch, capfd):
    """Visitors begin at a camera of the capture, upright; Ctrl-C is no error, and viser says nothing."""

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    stopped, stop = [], viser.ViserServer.stop
    monkeypatch.setattr("flows.view.time.sleep", interrupt)
    monkeypatch.setattr(viser.ViserServer, "stop", lambda self: (stopped.append(self), stop(self)))
    bundle = Bundle.open(room_bundle)
    serve(bundle, host="127.0.0.1", port=18090, out=tmp_path)
    (server,) = stopped
    start, cameras = server.initial_camera, [shot.world_from_camera for shot in bundle.cameras]
    nearest = min(cameras, key=lambda pose: np.linalg.norm(pose.translation - start.position))
    np.testing.assert_allclose(nearest.translation, start.position, atol=1e-3)
    ahead = np.subtract(start.look_at, start.position)
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), nearest.rotation[:, 2], atol=1e-3)
    assert list(start.up) == [0, 0, 1]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:{port}"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"}, False),
    ],
)
def test_the_scene_is_for_its_own_page(headers, answered):
    """Any page may open a websocket to this machine; viser alone would show it the scene."""
    server = viser_server("127.0.0.1", 0, "test")
    own = {"Host": "127.0.0.1:{port}", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    own |= {"Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==", "Sec-WebSocket-Protocol": f"viser-v{viser.__version__}"}
    lines = [f"{name}: {value.replace('{port}', str(server.get_port()))}" for name, value in (own | headers).items()]
    try:
        with socket.create_connection(("127.0.0.1", server.get_port()), timeout=30) as asking:
            asking.sendall("\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode())
            status = asking.recv(4096).split(b" ")[1]
    finally:
        server.stop()
    assert status == (b"101" if answered else b"403")


def test_the_page_is_visers_with_what_it_lacks():
    """Whole, in plain HTML, at the server's address and at no other."""
    server = viser_server("127.0.0.1", 0, "test")
    address = f"http://127.0.0.1:{server.get_port()}"
    try:
        with urllib.request.urlopen(f"{address}/?fixedDpr=1") as answer:
            assert answer.read().decode() == client_page()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/nothing")
    finally:
        stop(server)
    assert ADDED in client_page()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_on_a_phone_the_panel_is_folded_and_nothing_goes_wrong(server_of_ours, room_bundle):
    """A tap on its bar unfolds it; the console has no error while splats are drawn."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install 'splatyard[dev]'")
    show(server_of_ours, Bundle.open(room_bundle))
    errors: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *GL])
        page = browser.new_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
        page.set_default_timeout(1000 * WAIT_SECONDS)
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.goto(f"http://127.0.0.1:{server_of_ours.get_port()}")
        height = "document.querySelector('[style*=\"position: fixed\"]')?.getBoundingClientRect().height"
        page.wait_for_function("() => window.__viserMutable?.nodeRefFromName['/splat/gaussians']")
        page.wait_for_function(f"() => {height} < 100")
        page.get_by_text("test page").click()
        page.wait_for_function(f"() => {height} > 300")
        page.wait_for_timeout(2000)
        browser.close()
    assert errors == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_browser_sees_the_splat_as_the_camera_saw_the_room(server, room_bundle, room, tmp_path):
    """A real browser at a camera's pose draws the truth's colours at the truth's pixels, and not mirrored."""
    bundle = Bundle.open(room_bundle)
    show(server, bundle)
    with browser(f"http://127.0.0.1:{server.get_port()}", tmp_path / "profile"):
        seen = wait_for_client(server).camera
        pose = bundle.cameras[3].world_from_camera
        seen.wxyz, seen.position, seen.fov = pose.quaternion, pose.translation, FIELD_OF_VIEW
        # viser draws splats with the page's own camera: the image must have the page's shape
        height = 120
        width = round(height * seen.image_width / seen.image_height)
        focal = height / 2 / np.tan(FIELD_OF_VIEW / 2)
        truth, _ = room.render(Camera(width, height, focal, focal, width / 2, height / 2), pose)
        image = wait_for_image(seen, truth)
    assert likeness(image, truth) > LIKE
    assert likeness(image[:, ::-1], truth) < UNLIKE


@contextmanager
def browser(page: str, profile: Path) -> Iterator[None]:
    """Chromium on a page, drawing in software."""
    assert CHROMIUM is not None
    place = ["--headless=new", "--no-sandbox", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    process = subprocess.Popen([CHROMIUM, *GL, *place, page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for_client(server: viser.ViserServer) -> viser.ClientHandle:
    """The first browser that connects."""
    end = time.monotonic() + WAIT_SECONDS
    while not server.get_clients():
        assert time.monotonic() < end, "no browser connected"
        time.sleep(0.2)
    return next(iter(server.get_clients().values()))


def wait_for_image(seen: viser.CameraHandle, truth: np.ndarray) -> np.ndarray:
    """What the browser draws, once everything that was sent to it has arrived."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        image = seen.get_render(height=truth.shape[0], width=truth.shape[1])[..., :3]
        if likeness(image, truth) > LIKE or time.monotonic() > end:
            return image
        time.sleep(0.5)


def likeness(image: np.ndarray, truth: np.ndarray) -> float:
    """Correlation of two images, blurred by some pixels: 1 is equal, 0 unrelated."""
    soft = [cv2.GaussianBlur(p.astype(np.float64), (0, 0), 2).reshape(-1, 3) for p in (image, truth)]
    return float(np.corrcoef(soft[0].ravel() - soft[0].mean(), soft[1].ravel() - soft[1].mean())[0, 1])
