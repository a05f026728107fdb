"""The page of a build: what it holds as the build goes on, and one look at it in a real browser."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
import viser

from flows.build_page import Page
from pipeline.geometry import Camera, Pose, Similarity
from pipeline.poses.scene import View
from pipeline.preview.coarse import cloud_of, mesh_of, sensor_shots, splat_of
from pipeline.preview.time_left import TimeLeft
from pipeline.preview.watch import Update
from pipeline.previews import Cameras
from tests.flows.test_view import CHROMIUM, FIELD_OF_VIEW, browser, likeness, nodes, switches, wait_for_client
from tests.synthetic import CAMERA, Room, walk

WAIT_SECONDS = 90
LIKE, UNLIKE = 0.5, 0.2
"""Correlations of blurred images: 0.62 for the same view of a coarse splat, -0.1 for its mirror image."""


@pytest.fixture
def server():
    """A viser server on a free port."""
    server = viser.ViserServer(host="127.0.0.1", port=18080, verbose=False)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def update(tmp_path_factory, room: Room) -> Update:
    """What a sensor's capture shows of the room."""
    folder = tmp_path_factory.mktemp("capture")
    views: list[View] = []
    for index, pose in enumerate(walk(9)):
        image, depth = room.render(CAMERA, pose)
        cv2.imwrite(str(folder / f"{index}.jpg"), image[..., ::-1])
        cv2.imwrite(str(folder / f"{index}.png"), (depth * 1000).round().astype(np.uint16))
        views.append(View(str(index), f"{index}.jpg", CAMERA, pose, False, sensor_depth=f"{index}.png"))
    shots = [*sensor_shots(folder, views, folder, 1.0)]
    cloud = cloud_of(shots)
    cameras = Cameras.of((number, view.camera, view.world_from_camera) for number, view in enumerate(views, 1))
    layers = {"cameras": cameras, "cloud": cloud, "mesh": mesh_of(shots, cloud), "splat": splat_of(cloud)}
    return Update(layers, "the capture")


def test_layers_come_and_go(server, update):
    """Each below its switch, one of a kind; what isn't there any more is taken away."""
    page = Page(server, "room", TimeLeft({"poses": 20.0, "depth": None}))
    assert list(switches(server)) == ["points", "mesh", "splat", "cameras"]
    for _ in range(2):
        page.update(update)
    shown = [name for name in nodes(server) if name.endswith("/shown")]
    assert sorted(shown) == ["/cameras/shown", "/mesh/shown", "/points/shown", "/splat/shown"]
    start = np.array(server.initial_camera.position)
    assert np.linalg.norm(start - walk(9)[0].translation) < 1
    page.update(Update({"mesh": None}, "the map so far"))
    assert "/mesh/shown" not in nodes(server)
    assert "/cloud/shown" not in nodes(server)


def test_the_time_left_is_told(server, monkeypatch):
    """One line with one time, that of the whole; as little as is known."""
    now = [0.0]
    monkeypatch.setattr("pipeline.preview.time_left.time.monotonic", lambda: now[0])
    page = Page(server, "room", TimeLeft({"poses": 60.0, "depth": 120.0, "align": None}))
    page.begin("poses")
    now[0] = 20.0
    page.tell()
    assert page._text.content == "**poses (1 of 3)**; at least 2.5 min left"
    now[0] = 80.0
    page.tell()
    assert page._text.content == "**poses (1 of 3)**; longer than expected, then at least 2.5 min"
    page.begin("align")
    assert page._text.content == "**align (3 of 3)**; at least 2.5 min left"
    page.compiling()
    assert page._text.content.endswith("left  \ncompiling kernels, once on this machine")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_browser_sees_the_coarse_splat_where_the_room_is(server, update, room, tmp_path):
    """At a camera's pose, and still there when the frame has changed under the one who looks."""
    page = Page(server, "room", TimeLeft({}))
    page.update(update)
    with browser(f"http://127.0.0.1:{server.get_port()}", tmp_path / "profile"):
        seen = wait_for_client(server).camera
        pose = walk(9)[3]
        truth = truth_at(room, pose, seen)
        image = wait_for_likeness(seen, truth, pose)
        assert likeness(image, truth) > LIKE
        assert likeness(image[:, ::-1], truth) < UNLIKE
        before = np.array(seen.position)
        turned = Similarity(1.5, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([4.0, -2, 1]))
        layers = {name: layer.transformed(turned) for name, layer in update.layers.items() if layer is not None}
        page.update(Update(layers, "the world frame", turned))
        np.testing.assert_allclose(seen.position, turned.apply(before), atol=1e-3)
        assert likeness(wait_for_likeness(seen, truth), truth) > LIKE


def truth_at(room: Room, pose: Pose, seen: viser.CameraHandle) -> np.ndarray:
    """What the page should draw, in its shape."""
    height = 120
    width = round(height * seen.image_width / seen.image_height)
    focal = height / 2 / np.tan(FIELD_OF_VIEW / 2)
    return room.render(Camera(width, height, focal, focal, width / 2, height / 2), pose)[0]


def wait_for_likeness(seen: viser.CameraHandle, truth: np.ndarray, pose: Pose | None = None) -> np.ndarray:
    """What the browser draws, from a pose if one is given, once it is like the truth, or after a while.

    A browser that has just come goes to where the page begins, whenever it is ready for it: it is sent again.
    """
    end = time.monotonic() + WAIT_SECONDS
    while True:
        if pose is not None:
            seen.wxyz, seen.position, seen.fov = pose.quaternion, pose.translation, FIELD_OF_VIEW
        image = seen.get_render(height=truth.shape[0], width=truth.shape[1])[..., :3]
        if likeness(image, truth) > LIKE or time.monotonic() > end:
            return image
        time.sleep(0.5)
