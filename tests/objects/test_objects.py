"""Objects in a room whose truth is known: found, closed, listed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from flows.cli import main
from pipeline import Bundle
from pipeline.errors import BundleError
from pipeline.geometry import Camera, Mesh, Pose, matrix_from_rotvec
from pipeline.geometry.winding import winding
from pipeline.objects.close import Body, close_body, foot_of
from pipeline.objects.find import Standing, find_objects
from pipeline.objects.listing import objects_of
from pipeline.objects.shapes import box_mesh
from pipeline.objects.views import Views
from tests.bundles import make_bundle
from tests.objects.furniture import BOXES, CELL
from tests.synthetic import Room


@pytest.fixture(scope="module")
def found(room_mesh: Mesh) -> list[Standing]:
    """What is found in it."""
    return find_objects(room_mesh, 0.0)


def nearest(found: list[Standing], middle: tuple[float, ...]) -> int:
    """Index of the object whose middle is the nearest to that of a box's foot."""
    return int(np.argmin([np.linalg.norm(((one.low + one.high) / 2 - middle)[:2]) for one in found]))


def test_everything_is_found_and_nothing_else(found: list[Standing]):
    """A table, a mug and three boxes; each knows what it stands on, and whether it could be moved."""
    assert len(found) == 5
    crate, parcel = nearest(found, BOXES["crate"][0]), nearest(found, BOXES["parcel on the table"][0])
    small = next(number for number, one in enumerate(found) if one.on == crate)
    table = found[parcel].on
    mug = nearest(found, BOXES["mug on the table"][0])
    assert {crate, parcel, small, table, mug} == {0, 1, 2, 3, 4}
    assert found[mug].on == table
    assert (found[crate].on, found[table].on) == (-1, -1)
    assert found[parcel].support == pytest.approx(0.7, abs=0.03)
    assert found[small].support == pytest.approx(0.35, abs=0.03)
    assert [bool(found[number].fixed) for number in (crate, parcel, small, table)] == [False, False, False, True]


def test_boxes_get_their_size_and_pose(room_mesh: Mesh, found: list[Standing]):
    """To the size of the scan's cells, although nobody sees what they stand on."""
    views = Views(room_mesh, [])
    for middle, size, yaw in BOXES.values():
        chosen = min(
            (one for one in found if not one.fixed),
            key=lambda one: np.linalg.norm((one.low + one.high) / 2 - middle - np.array([0, 0, size[2] / 2])),
        )
        body = close_body(room_mesh, chosen, views)
        assert body is not None
        assert body.kind == "box"
        np.testing.assert_allclose(np.sort(body.size[:2]), np.sort(size[:2]), atol=CELL)
        assert body.size[2] == pytest.approx(size[2], abs=CELL)
        assert body.volume == pytest.approx(np.prod(size), rel=0.2)
        turned = np.arctan2(body.world_from_body.rotation[1, 0], body.world_from_body.rotation[0, 0])
        assert np.sin(2 * (turned - yaw)) == pytest.approx(0, abs=0.15)


def test_a_table_is_closed_under_what_stands_on_it(room_mesh: Mesh, found: list[Standing]):
    """Watertight, with legs and with a top that has no hole; the space between the legs stays free."""
    table = next(one for one in found if one.fixed)
    views = Views(room_mesh, [])
    parcel = next(one for one in found if one.on >= 0 and found[one.on] is table)
    above = close_body(room_mesh, parcel, views)
    assert above
    body = close_body(room_mesh, table, views, [above])
    assert body
    assert body.kind == "carved"
    surface = trimesh.Trimesh(body.mesh.vertices, body.mesh.triangles, process=False)
    assert surface.is_watertight
    truth = 1.1 * 0.7 * 0.08 + 4 * 0.1 * 0.1 * 0.62
    assert body.volume == pytest.approx(truth, rel=0.2)
    under = np.array([BOXES["parcel on the table"][0]]) - [0, 0, 0.04]
    between = np.array([[1.5, 0.9, 0.3]])
    corners = body.mesh.corners().astype(np.float64)
    assert winding(corners, under) > 0.5 > winding(corners, between)
    assert 0.01 < body.mesh.guessed.mean() < 0.1


def test_what_a_view_looks_through_is_empty(room_mesh: Mesh):
    """A view from the side sees under the table, none looks through the crate."""
    camera = Camera(160, 120, 130.0, 130.0, 80.0, 60.0)
    looking = Pose(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([1.5, 0.05, 0.4]))  # along +y
    views = Views(room_mesh, [(camera, looking)])
    points = np.array([[1.5, 0.9, 0.3], [1.5, 0.9, 0.66], [0.8, 1.7, 0.2]])
    assert views.look_through(points).tolist() == [1, 0, 0]


def test_winding_numbers_tell_inside_from_outside():
    """Of a turned box, with far clusters as dipoles."""
    frame = Pose(matrix_from_rotvec([0.3, -0.8, 0.5]), np.array([0.3, 0.2, 0.1]))
    size = np.array([0.5, 0.8, 0.3])
    points = np.random.default_rng(0).uniform(-1, 1.5, (4000, 3))
    local = frame.inverse().apply(points)
    inside = ((np.abs(local[:, :2]) < size[:2] / 2) & (local[:, 2:] > 0) & (local[:, 2:] < size[2])).all(1)
    assert inside.any()
    found = winding(box_mesh(frame, size).corners().astype(np.float64), points)
    np.testing.assert_allclose(found, inside, atol=0.03)


def test_nothing_is_no_body(room_mesh: Mesh, found: list[Standing]):
    """A single sheet has no inside."""
    floor = np.asarray(room_mesh.corners()[..., 2].max(1) < 0.01)
    sheet = Standing(floor, np.zeros(3), np.array([3.2, 2.4, 0.0]), 0.0, -1, "")
    assert close_body(room_mesh, sheet, Views(room_mesh, [])) is None


def test_the_command_lists_and_shows_them(tmp_path: Path, room: Room, capsys: pytest.CaptureFixture[str]):
    """A bundle's objects, and the page: first a table of all, then each in captioned pictures."""
    bundle, page = make_bundle(tmp_path / "bundle", room), tmp_path / "objects.html"
    assert main(["objects", str(bundle), "--page", str(page)]) == 0
    assert "movable" in capsys.readouterr().out
    text = page.read_text()
    assert "<h1>Objects of" in text
    table, _, rest = text.partition("</table>")
    rows = re.findall(r'<a href="#(.*?)">', table)
    assert rows
    assert rows == re.findall(r'<h2 id="(.*?)">', rest)
    assert re.findall(r"[\d.e+-]+ kg</td>", table)
    assert rest.count("<figcaption>closed mesh") == len(rows)


@pytest.fixture()
def body() -> Body:
    """A box that is turned."""
    frame = Pose(matrix_from_rotvec([0, 0, 0.4]), np.array([1.0, -2.0, 0.5]))
    return Body("box", frame, np.array([0.3, 0.4, 0.6]), box_mesh(frame, np.array([0.3, 0.4, 0.6])))


def test_volume(body: Body):
    """That of a box."""
    assert body.volume == pytest.approx(0.3 * 0.4 * 0.6)


def test_below_a_body_is_level_ground_of_its_size(body: Body):
    """Facing up; nothing below a body that has no foot."""
    foot = foot_of(body)
    assert foot.face_areas().sum() == pytest.approx(0.3 * 0.4, rel=1e-4)
    np.testing.assert_allclose(foot.face_normals(), [[0, 0, 1.0]] * len(foot.triangles), atol=1e-6)
    np.testing.assert_allclose(foot.vertices[:, 2], 0.5)
    high = replace(body, world_from_body=Pose(np.eye(3), np.zeros(3)))
    assert not len(foot_of(high).triangles)


def test_nothing_stands_in_an_empty_mesh():
    """As a bundle of others may have."""
    assert find_objects(Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32)), 0.0) == []


def test_sizes_are_bounded():
    """A railing of 40 m, a camera of a million pixels a side, a box as large as a street."""
    frame = Pose(matrix_from_rotvec([0, 0, 0.3]), np.array([0.0, 0, 0]))
    railing = box_mesh(frame, np.array([40.0, 0.3, 0.3]))
    bent = railing.joined(box_mesh(Pose(np.eye(3), np.zeros(3)), np.array([0.3, 30.0, 0.3])))
    standing = Standing(np.ones(len(bent.triangles), bool), np.zeros(3), np.zeros(3), 0.0, -1, "")
    body = close_body(bent, standing, Views(bent, []))
    assert body is not None
    assert body.kind == "carved"
    assert Camera(20, 60_000, 100.0, 100.0, 10.0, 100.0).within(160).height == 160
    assert len(box_mesh(frame, np.array([5000.0, 3000, 2000])).vertices) < 70_000


def test_an_object_by_itself_has_none(parcel: Path):
    """It isn't cut once more."""
    with pytest.raises(BundleError, match="object by itself"):
        objects_of(Bundle.open(parcel))
