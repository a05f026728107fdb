"""What moved between two scans of a room: exact meshes in frames of their own, a door off the axes, a drawer, a box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline.changes.compare import Changes, Motion, find_changes
from pipeline.changes.joints import _axis, joint_of
from pipeline.changes.objects import compare_scans
from pipeline.changes.register import Registration, Scan, register_scans
from pipeline.changes.surfaces import LEVEL, Surface, fit, settle
from pipeline.errors import BundleError
from pipeline.geometry import Mesh, Pose, Similarity, angle_deg, matrix_from_rotvec
from pipeline.objects.views import Views
from pipeline.scenes.bundle import Bundle
from tests.changes.two_scans import (
    CAMERA,
    FIRST_FROM_ROOM,
    HINGE,
    OPEN,
    PULLED,
    SECOND_FROM_ROOM,
    cameras,
    room,
    scan,
    sheet,
    true_motion,
)
from tests.objects.furniture import JOINT, before_the_cut, with_joint

FIRST_FROM_SECOND = FIRST_FROM_ROOM @ SECOND_FROM_ROOM.inverse()


@pytest.fixture(scope="module")
def scans() -> tuple[Scan, Scan]:
    """Before and after."""
    return scan(room(later=False), FIRST_FROM_ROOM), scan(room(later=True), SECOND_FROM_ROOM)


@pytest.fixture(scope="module")
def registration(scans: tuple[Scan, Scan]) -> Registration:
    """The second on the first."""
    return register_scans(*scans)


@pytest.fixture(scope="module")
def changes(scans: tuple[Scan, Scan], registration: Registration) -> Changes:
    """What moved."""
    return find_changes(*scans, registration)


def nearest(changes: Changes, place: np.ndarray) -> Motion:
    """The thing that was at a place of the room."""
    middle = FIRST_FROM_ROOM.apply(place)
    return min(changes.moved, key=lambda one: float(np.linalg.norm((one.gone.low + one.gone.high) / 2 - middle)))


def test_the_second_lies_on_the_first(registration: Registration):
    """Turned by 37 degrees, a little tilted and shifted, although a door, a drawer and a box moved."""
    found = registration.first_from_second
    assert np.linalg.norm(found.translation - FIRST_FROM_SECOND.translation) < 0.002
    assert angle_deg(found.rotation, FIRST_FROM_SECOND.rotation) < 0.05
    assert registration.residual < 0.005
    assert registration.agreement > 0.85


def test_three_things_moved_and_nothing_else(changes: Changes):
    """But for what the first scan saw through the gap beside the door."""
    assert len(changes.moved) == 3
    assert not changes.gone
    assert sum(piece.area for piece in changes.new) < 0.15


def test_the_door_turned_about_its_hinge(scans: tuple[Scan, Scan], registration: Registration, changes: Changes):
    """Although it hangs together with the wall, in whose plane it was."""
    motion = nearest(changes, HINGE + np.array([0.4, 0, 0.9]))
    joint = joint_of(scans[0], registration, motion)
    assert joint is not None
    assert joint.kind == "hinge"
    up = FIRST_FROM_ROOM.rotate([0, 0, -1.0])
    assert np.rad2deg(np.arccos(joint.direction @ up)) < 0.3
    assert np.linalg.norm(np.cross(joint.point - FIRST_FROM_ROOM.apply(HINGE), up)) < 0.005
    assert joint.travel == pytest.approx(-OPEN, abs=np.deg2rad(0.3))
    # the leaf, to its hinge, and nothing of the wall
    leaf = scans[0].mesh.with_faces(motion.gone.triangles)
    local = FIRST_FROM_ROOM.inverse().apply(leaf.corners().mean(1)) - HINGE
    assert local[:, 0].min() < 0.1
    assert (np.abs(local[:, 0] - 0.4) < 0.42).mean() > 0.99
    assert (np.abs(local[:, 1]) < 0.06).mean() > 0.99


def test_the_drawer_slid(scans: tuple[Scan, Scan], registration: Registration, changes: Changes):
    """Most of its front hides where it was; of its inside only the second scan saw anything."""
    motion = nearest(changes, np.array([3.1, 1.15, 0.55]))
    joint = joint_of(scans[0], registration, motion)
    assert joint is not None
    assert joint.kind == "slide"
    way = FIRST_FROM_ROOM.rotate(PULLED)
    assert joint.direction @ way / np.linalg.norm(way) > np.cos(np.deg2rad(1))
    assert joint.travel == pytest.approx(np.linalg.norm(way), abs=0.005)


def test_the_box_is_loose(scans: tuple[Scan, Scan], registration: Registration, changes: Changes):
    """Any motion on a floor is a turn about some axis, but nothing is there to hold it."""
    motion = nearest(changes, np.array([2.4, 2.1, 0.2]))
    assert joint_of(scans[0], registration, motion) is None
    place = FIRST_FROM_ROOM.apply([2.4, 2.1, 0.2])
    true = true_motion("box")
    assert np.linalg.norm(motion.second_from_first.apply(place) - true.apply(place)) < 0.01
    assert angle_deg(motion.second_from_first.rotation, true.rotation) < 1


def test_nothing_moved_is_found_to_have_moved(scans: tuple[Scan, Scan]):
    """In a second scan of the first's state."""
    again = Scan(*(getattr(scans[0], name) for name in ("mesh", "views", "floor")))
    found = find_changes(scans[0], again, Registration(Pose.identity(), 0.001, 0, 0, 1))
    assert (len(found.moved), len(found.gone), len(found.new)) == (0, 0, 0)


def test_what_is_in_one_scan_only_has_no_motion(scans: tuple[Scan, Scan]):
    """A box that nobody finds again."""
    low = FIRST_FROM_ROOM.inverse().apply(scans[0].mesh.corners().mean(1))
    box = (np.abs(low - [2.4, 2.1, 0.19]) < [0.33, 0.33, 0.18]).all(1)
    mesh = scans[0].mesh.with_faces(~box)
    without = Scan(mesh, Views(mesh, [(CAMERA, FIRST_FROM_ROOM @ pose) for pose in cameras()]), scans[0].floor)
    # nobody saw the floor below it: nothing is behind
    floor = sheet((1.9, 1.6, 0), (1, 0, 0), (0, 1, 0)).transformed(Similarity.from_pose(FIRST_FROM_ROOM))
    mesh = mesh.joined(floor)
    without = Scan(mesh, Views(mesh, [(CAMERA, FIRST_FROM_ROOM @ pose) for pose in cameras()]), scans[0].floor)
    found = find_changes(scans[0], without, Registration(Pose.identity(), 0.001, 0, 0, 1))
    assert not found.moved
    assert len(found.gone) == 1
    assert not found.new


def test_two_places_are_refused(scans: tuple[Scan, Scan]):
    """A room of another shape with other things in it."""
    squeezed = room(later=True).vertices * np.array([1.6, 0.75, 1.2], np.float32) + np.array([0.3, 0, 0], np.float32)
    other = room(later=True)
    mesh = Mesh(squeezed, other.triangles, other.colors, other.guessed)
    views = Views(mesh, [(CAMERA, pose) for pose in cameras()])
    with pytest.raises(BundleError, match="two scans of one place"):
        register_scans(scans[0], Scan(mesh, views, 0.0))


def test_two_scales_are_refused(scans: tuple[Scan, Scan]):
    """The second is 4 % larger."""
    larger = Similarity(1.04, np.eye(3), np.zeros(3))
    mesh = scans[1].mesh.transformed(larger)
    poses = [larger.apply_pose(SECOND_FROM_ROOM @ pose) for pose in cameras()]
    with pytest.raises(BundleError, match=r"metric|one place"):
        register_scans(scans[0], Scan(mesh, Views(mesh, [(CAMERA, pose) for pose in poses]), scans[1].floor))


def test_a_flat_thing_is_laid_on_its_like_edge_to_edge():
    """Distances along normals alone don't say how far it is off aside; what one of them lacks inside doesn't pull."""
    rng = np.random.default_rng(0)
    motion = Pose(matrix_from_rotvec([0, 0, 0.4]), np.array([0.5, -0.2, 0.0]))
    leaf = sheet((0, 0, 0), (0.8, 0, 0), (0, 0, 1.9))
    source = Surface.of_mesh(leaf.with_faces(leaf.corners().mean(1)[:, 2] > 0.5), 3000, rng)
    target = Surface.of_mesh(leaf, 4000, rng).moved(motion)
    wrong = Pose(np.eye(3), np.array([0.03, 0.01, 0.0])) @ motion
    middle = np.array([0.4, 0, 1.2])
    along = motion.rotate([1.0, 0, 0])
    flat = fit(source, target, wrong, np.geomspace(0.05, 0.02, 10), LEVEL).target_from_source
    assert abs((flat.apply(middle) - motion.apply(middle)) @ along) > 0.01
    found = settle(source, target, wrong, (0.05, 0.04, 0.03, 0.03, 0.02, 0.02, 0.02), LEVEL)
    assert np.linalg.norm(found.target_from_source.apply(middle) - motion.apply(middle)) < 0.004


def test_the_axis_of_a_screw():
    """Off the origin, along no axis; none of a motion along its axis as well."""
    direction, point = np.array([0.36, 0.48, 0.8]), np.array([0.7, -1.2, 0.4])
    turn = matrix_from_rotvec(0.6 * direction)
    pose = Pose(turn, point - turn @ point)
    middle = np.array([1.1, -0.9, 0.2])
    found = _axis(pose, middle)
    assert found is not None
    assert found[0] == "hinge"
    np.testing.assert_allclose(found[1], direction, atol=1e-9)
    assert np.linalg.norm(np.cross(found[2] - point, direction)) < 1e-9
    assert found[3] == pytest.approx(0.6)
    assert _axis(Pose(turn, pose.translation + 0.2 * direction), middle) is None
    slide = _axis(Pose(np.eye(3), 0.3 * direction), middle)
    assert slide is not None
    assert slide[0] == "slide"
    assert slide[3] == pytest.approx(0.3)


@pytest.fixture()
def jointed(cut_room: Path, tmp_path: Path) -> Path:
    """The cut room, whose first object is said to be on a hinge."""
    return with_joint(cut_room, tmp_path / "room" / "1.1.0", JOINT)


def test_a_joint_in_the_bodys_frame(jointed: Path):
    """The axis goes through the same points."""
    one = next(one for one in Bundle.open(jointed).objects if one.record.joint)
    assert one.record.joint is not None
    axis, point = one.joint_in_body(one.record.joint)
    np.testing.assert_allclose(one.world_from_body.apply(point), JOINT["point"], atol=1e-9)
    np.testing.assert_allclose(one.world_from_body.rotate(axis), JOINT["axis"], atol=1e-9)


@pytest.mark.parametrize(
    "damage", [{"axis": [0, 0, 2.0]}, {"range": [0.7, 0.0]}, {"kind": "ball"}, {"point": [1e9, 0, 0]}, {"sigma": -1}]
)
def test_a_hostile_joint_is_refused(cut_room: Path, damage: dict[str, object], tmp_path: Path):
    """An axis that isn't one, a range that is none, another kind, the end of the world, a negative sigma."""
    folder = with_joint(cut_room, tmp_path / "room" / "1.1.0", JOINT | damage)
    with pytest.raises(BundleError, match=r"object\.json"):
        _ = Bundle.open(folder).objects


def test_one_scan_twice_is_refused(cut_room: Path, capsys: pytest.CaptureFixture[str]):
    """By the command; and what would cut other objects as well."""
    bundle = before_the_cut(cut_room)
    assert main(["objects", str(bundle), "--moved", str(bundle)]) == 2
    assert "room@1.0.0 twice" in capsys.readouterr().err
    assert main(["objects", str(bundle), "--moved", str(bundle), "--all-movable"]) == 2
    assert "use one or the other" in capsys.readouterr().err


@pytest.mark.soak
def test_a_door_a_drawer_and_a_carton_of_a_generated_room(tmp_path: Path):
    """Two captures are built; the command cuts out what moved, with joints as true as the target."""
    from benchmarks.moved import built, rows_of

    (first, first_from_room, _), (second, *_) = (built(tmp_path, later=later) for later in (False, True))
    page = tmp_path / "moved.html"
    command = ["objects", str(first.root), "--moved", str(second.root), "--page", str(page), "--out", str(tmp_path)]
    assert main(command) == 0
    cut = Bundle.open(tmp_path / "before" / "1.1.0")
    assert cut.verify() == []
    assert sorted(one.record.name for one in cut.objects) == ["hinge-1", "loose-1", "slide-1"]
    assert [row.metric for row in rows_of(cut, first_from_room) if row.verdict == "**not reached**"] == []
    assert page.read_text().count("<h2>") == 3
    with pytest.raises(BundleError, match="objects are cut out of a bundle that is whole"):
        from pipeline.changes.objects import cut_moved

        cut_moved(compare_scans(cut, second), tmp_path)
