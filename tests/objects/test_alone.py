"""Objects by themselves: found where cameras look, closed, upright, and known as well as they were seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ReconstructionError
from pipeline.geometry import Gaussians, Mesh, Pose, Similarity, matrix_from_rotvec, quaternions_from_z
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.objects.alone import LoneObject, _on_its_foot, _own_splat, _size_gate, _stands, find_alone, looked_at
from pipeline.objects.hulls import hulls_of
from pipeline.objects.listing import SceneObject
from pipeline.poses.scene import View
from pipeline.types import F64
from tests.objects import lone
from tests.objects.furniture import to_box
from tests.synthetic import CAMERA, look_at

CELL, YAW = 0.008, 0.44
PLACE = np.array([0.3, -0.2, lone.STAND])
LOOK = PLACE + np.array([0, 0, 0.12])
HERE = Path("capture")


def scanned(boxes: list[tuple[F64, F64]], yaw: float = YAW) -> Mesh:
    """Boxes (corners) that stand, turned by yaw, on a stand, as a scan that saw everything."""
    low, high = np.array([-0.45, -0.4, -0.12]), np.array([0.45, 0.4, 0.45])
    counts = np.ceil((high - low) / CELL).astype(int)
    places = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1) * CELL + low
    local = places @ matrix_from_rotvec([0, 0, yaw])
    distance = to_box(places, (0, 0, -0.5), (0.7, 0.6, 0.5), 0.0)
    for box in boxes:
        middle, size = (box[0] + box[1]) / 2, box[1] - box[0]
        distance = np.minimum(distance, to_box(local, (*middle[:2], box[0][2]), tuple(size), 0.0))
    field = np.ones((int(counts.max()),) * 3, np.float32)
    field[: counts[2], : counts[1], : counts[0]] = distance.transpose(2, 1, 0)
    vertices, triangles = zero_crossing(np.zeros((1, 3), np.int32), field[None], np.ones((1, *field.shape), bool))
    return Mesh.from_arrays(vertices * CELL + low + PLACE, triangles)


def the_l() -> list[tuple[F64, F64]]:
    """The object of `lone`."""
    return [(np.array(low), np.array(high)) for low, high in lone.BOXES]


def views(share: float = 1.0, target: F64 = LOOK) -> list[View]:
    """Cameras round a point, or round a share of the circle."""
    result = []
    for number in range(24):
        angle = 2 * np.pi * share * number / 24
        eye = target + np.array([0.8 * np.cos(angle), 0.8 * np.sin(angle), 0.25 + 0.2 * (number % 2)])
        result.append(View(str(number), f"{number}.png", CAMERA, look_at(eye, target), held_out=False))
    return result


@pytest.fixture(scope="module")
def found() -> LoneObject:
    """The L on its stand."""
    return find_alone(scanned(the_l()), views(), floor_found=False, file=HERE)


def in_scene(one: LoneObject) -> SceneObject:
    """As the bundle has it."""
    surface, scale = one.surface, one.arm_from_world.scale
    body = replace(one.body, world_from_body=Pose.identity(), size=one.body.size / scale, mesh=surface)
    return SceneObject("mug", one.standing, body, "nothing", "", float(1 - surface.guessed.mean()))


def test_it_has_its_true_volume_and_size(found: LoneObject):
    """Without its stand; x along the longer side, z up, the origin in the middle of its foot."""
    surface = found.surface
    np.testing.assert_allclose(np.ptp(surface.vertices, axis=0), lone.SIZE, atol=0.008)
    volume = in_scene(found).body.volume
    assert volume == pytest.approx(lone.VOLUME, rel=0.1)
    low, high = surface.vertices.min(0), surface.vertices.max(0)
    np.testing.assert_allclose((low + high)[:2], 0, atol=1e-5)
    assert low[2] == pytest.approx(0, abs=1e-5)


def test_its_frame_is_where_it_stands(found: LoneObject):
    """What is there is at the same place in its own frame: not mirrored, and not turned by more than half a turn."""
    truth = lone.truth().transformed(Similarity(1.0, matrix_from_rotvec([0, 0, YAW]), PLACE))
    off = RayCaster(truth.transformed(found.body_from_world)).distances(found.surface.vertices)
    assert np.quantile(off, 0.9) < 0.006


def test_what_stands_on_it_is_part_of_it():
    """A thick foot below a column is not its stand: both stand where the cameras look."""
    trophy = [(np.array([-0.09, -0.08, 0]), np.array([0.09, 0.08, 0.1]))]
    trophy.append((np.array([-0.04, -0.04, 0.1]), np.array([0.04, 0.05, 0.3])))
    one = find_alone(scanned(trophy), views(target=PLACE + np.array([0, 0, 0.05])), floor_found=False, file=HERE)
    assert np.ptp(one.surface.vertices[:, 2]) == pytest.approx(0.3, abs=0.01)


def test_it_stands_by_itself(found: LoneObject):
    """On its hulls, which are level below."""
    hulls = [_on_its_foot(hull) for hull in hulls_of(found.surface)]
    moved, turned = _stands(in_scene(found), hulls)
    assert moved.passed and turned.passed
    leaning = [hull @ matrix_from_rotvec([0.5, 0, 0]) + np.array([0, 0, 0.2]) for hull in hulls]
    assert not all(gate.passed for gate in _stands(in_scene(found), leaning))


def test_its_own_gaussians_end_where_it_does(found: LoneObject):
    """Those of its stand stay there, and large ones that reach out of it, too."""
    mesh = scanned(the_l())
    points, faces = sample_surface(mesh, 4000, np.random.default_rng(0))
    scales = np.tile([0.008, 0.008, 0.001], (4000, 1))
    long = np.array([[0.2, 0.004, 0.004]])
    where = np.concatenate([points.astype(np.float64), (PLACE + np.array([0, 0, 0.05]))[None]])
    quaternions = np.concatenate([quaternions_from_z(mesh.face_normals()[faces]), [[1.0, 0, 0, 0]]])
    colors = np.full((4001, 3), 0.5)
    colors[-1] = 1.0
    splat = Gaussians.from_colors(where, np.concatenate([scales, long]), quaternions, colors, 0.9, 1)
    own = _own_splat(found, splat, "full")
    low, high = found.surface.vertices.min(0) - 0.03, found.surface.vertices.max(0) + 0.03
    assert len(own) > 500
    assert ((own.means > low) & (own.means < high)).all()
    assert own.sh[:, 0].max() < splat.sh[-1, 0].min()


def test_nothing_but_the_object_is_enough(found: LoneObject):
    """A turntable before a plain wall: there is no stand in the mesh, and nothing else."""
    mesh = scanned(the_l())
    alone = find_alone(mesh.with_faces(found.standing.triangles), views(), floor_found=False, file=HERE)
    assert in_scene(alone).body.volume == pytest.approx(lone.VOLUME, rel=0.1)
    points, faces = sample_surface(mesh, 3000, np.random.default_rng(0))
    scales = np.tile([0.008, 0.008, 0.001], (3000, 1))
    quaternions = quaternions_from_z(mesh.face_normals()[faces])
    splat = Gaussians.from_colors(points.astype(np.float64), scales, quaternions, np.full((3000, 3), 0.5), 0.9, 1)
    assert len(_own_splat(alone, splat, "full")) > 300


def test_thin_pieces_keep_their_height():
    """They would have no volume on their foot."""
    signs = np.stack(np.meshgrid([-0.1, 0.1], [-0.1, 0.1], [0.004, 0.4], indexing="ij"), -1).reshape(-1, 3)
    assert _on_its_foot(signs)[:, 2].min() == 0
    thin = signs * [1, 1, 0.02]
    np.testing.assert_array_equal(_on_its_foot(thin), thin)


def test_sides_that_nobody_saw_are_said():
    """Half a walk: what is closed is wide."""
    mesh = scanned([(np.array([-0.1, -0.08, 0]), np.array([0.1, 0.08, 0.2]))], yaw=0.0)
    facing = mesh.face_normals()[:, 0] > -0.5
    one = find_alone(mesh.with_faces(facing), views(0.4), floor_found=False, file=HERE)
    gate = _size_gate(in_scene(one), 0.01)
    assert not gate.passed
    assert "unobserved" in gate.how
    whole = _size_gate(in_scene(find_alone(mesh, views(), floor_found=False, file=HERE)), 0.01)
    assert whole.passed
    assert whole.value == pytest.approx(0.01)
    assert not _size_gate(in_scene(one), None).passed


def test_cameras_look_at_one_point():
    """Nearest to their axes; not those of a walk through a room, and not those that all look the same way."""
    point, away = looked_at(views(), HERE)
    np.testing.assert_allclose(point, LOOK, atol=1e-6)
    assert away == pytest.approx(0.87, abs=0.03)
    outwards = [look_at(PLACE + eye, PLACE + 3 * eye) for eye in np.random.default_rng(0).normal(size=(12, 3))]
    same = [Pose(outwards[0].rotation, PLACE + np.array([0.1 * k, 0, 0])) for k in range(12)]
    for poses in (outwards, same):
        walk = [View(str(n), "", CAMERA, pose, held_out=False) for n, pose in enumerate(poses)]
        with pytest.raises(ReconstructionError, match="look at one thing"):
            looked_at(walk, HERE)


def test_nothing_where_they_look_is_said():
    """A wide table, or nothing at all; glass, of which hardly anything is seen."""
    corners = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) + PLACE
    wide = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    for table in (wide, wide.with_faces(np.zeros(2, bool))):
        with pytest.raises(ReconstructionError, match="stands where"):
            find_alone(table, views(), floor_found=False, file=HERE)
    mesh = scanned(the_l())
    pane = mesh.face_normals() @ matrix_from_rotvec([0, 0, YAW])[:, 1] > 0.9
    high = mesh.vertices[mesh.triangles].min(1)[:, 2] > PLACE[2] + 0.15
    with pytest.raises(ReconstructionError, match="dusted"):
        find_alone(mesh.with_faces(np.asarray(pane & high)), views(), floor_found=False, file=HERE)
