"""Things that touch: told apart where each is a shape, and one object where faces go on flush."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Mesh, Pose, matrix_from_rotvec
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.objects.close import close_body
from pipeline.objects.find import Standing, find_objects
from pipeline.objects.shapes import box_mesh
from pipeline.objects.views import Views
from pipeline.types import F64
from tests.objects.furniture import to_box

CELL = 0.02
YAW = 0.35
TURN = matrix_from_rotvec([0, 0, YAW])
Box = tuple[tuple[float, float, float], tuple[float, float, float], float]


def scanned(boxes: list[Box]) -> Mesh:
    """Boxes (middle of the foot, size, yaw) on a floor, as a scan that saw all sides."""
    low, high = np.array([-1.2, -1.2, -0.06]), np.array([1.2, 1.2, 1.2])
    counts = np.ceil((high - low) / CELL).astype(int)
    places = (np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1) + 0.5) * CELL + low
    field = places[..., 2]
    for foot, size, yaw in boxes:
        field = np.minimum(field, to_box(places, foot, size, yaw))
    values = field.astype(np.float32).transpose(2, 1, 0)
    count = -(-np.array(values.shape) // 32)
    padded = np.ones(count * 32, np.float32)
    padded[: values.shape[0], : values.shape[1], : values.shape[2]] = values
    blocks = (
        padded.reshape(count[0], 32, count[1], 32, count[2], 32).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 32, 32, 32)
    )
    index = np.stack(np.meshgrid(*map(np.arange, count), indexing="ij"), -1).reshape(-1, 3)[:, ::-1]
    blocks = np.ascontiguousarray(blocks)
    vertices, triangles = zero_crossing(np.ascontiguousarray(index, np.int32), blocks, np.ones(blocks.shape, bool))
    mesh = Mesh.from_arrays((vertices + 0.5) * CELL + low, triangles)
    inside = (np.abs(mesh.corners()[..., :2]) < 1.15).all((1, 2))
    return mesh.with_faces(inside & (mesh.corners()[..., 2].max(1) < 1.1))


def beside(along: float, across: float) -> tuple[float, float, float]:
    """A place on the floor along the turned axes."""
    x, y, _ = TURN @ [along, across, 0.0]
    return x, y, 0.0


def sizes(mesh: Mesh, found: list[Standing]) -> list[F64]:
    """Sizes of closed bodies, the larger side first, then the height."""
    bodies = [close_body(mesh, one, Views(mesh, [])) for one in found]
    return [np.array([*sorted(body.size[:2], reverse=True), body.size[2]]) for body in bodies if body]


def test_two_crates_that_touch_are_two():
    """Along the groove between them; both say so."""
    mesh = scanned([(beside(-0.2, 0.0), (0.4, 0.5, 0.35), YAW), (beside(0.18, 0.05), (0.36, 0.3, 0.6), YAW)])
    found = find_objects(mesh, 0.0)
    assert len(found) == 2
    assert found[0].cluster == found[1].cluster >= 0
    low, high = sorted(sizes(mesh, found), key=lambda size: size[2])
    np.testing.assert_allclose(low, [0.5, 0.4, 0.35], atol=0.02)
    np.testing.assert_allclose(high, [0.36, 0.3, 0.6], atol=0.02)


def test_a_stack_whose_sides_are_nearly_flush_is_two():
    """The upper one is turned, and stands on the ledge of the lower one."""
    mesh = scanned(
        [(beside(0, 0), (0.5, 0.4, 0.4), YAW), ((*beside(-0.09, 0.02)[:2], 0.4), (0.3, 0.34, 0.25), YAW + 0.2)]
    )
    found = find_objects(mesh, 0.0)
    assert len(found) == 2
    lower = next(number for number, one in enumerate(found) if one.on < 0)
    (upper,) = (one for one in found if one.on == lower)
    assert upper.support == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    "second",
    [
        ((0.3, 0.25, 0.4), 0.1, 0.375),  # level with the first: an L
        ((0.3, 0.5, 0.7), 0.4, 0.0),  # flush with its sides: a step
    ],
)
def test_parts_of_one_object_are_one(second: tuple[tuple[float, float, float], float, float]):
    """Their faces go on in each other."""
    size, along, across = second
    mesh = scanned([(beside(0, 0), (0.5, 0.5, 0.4), YAW), (beside(along, across), size, YAW)])
    (one,) = find_objects(mesh, 0.0)
    assert one.cluster == -1


def sheet(size: tuple[float, float, float], depth: float) -> tuple[Mesh, Standing]:
    """A box before a wall, of which a scan saw the front and a little of its sides; and what was found of it."""
    place = np.array([0.2, 0.1, 0.0])
    box = box_mesh(Pose(TURN, place), np.array(size))
    local = (box.corners().mean(1) - place) @ TURN
    box = box.with_faces((local[:, 1] < depth - size[1] / 2) & (local[:, 2] < size[2] - 0.001) & (local[:, 2] > 0.001))
    back = box_mesh(Pose(TURN, place + TURN @ [0.0, 0.3, 0.0]), np.array([1.6, 0.05, 1.0]))
    mesh = box.joined(back)
    own = np.arange(len(mesh.triangles)) < len(box.triangles)
    points = mesh.corners()[own].reshape(-1, 3)
    return mesh, Standing(own, points.min(0), points.max(0), 0.0, -1, "")


@pytest.mark.parametrize(("width", "depth"), [(0.3, 0.3), (0.6, 0.4)])
def test_a_box_of_which_one_side_was_seen_is_as_deep_as_wide(width: float, depth: float):
    """Unless a wall is behind, that is seen beside it; its depth is known to a third."""
    mesh, found = sheet((width, 0.25, 0.4), 0.06)
    body = close_body(mesh, found, Views(mesh, []))
    assert body is not None
    assert body.kind == "box"
    axis = int(np.argmax(np.abs(body.world_from_body.rotation.T @ TURN[:, 1])))
    assert body.size[1 - axis] == pytest.approx(width, abs=0.01)
    assert body.size[axis] == pytest.approx(depth, abs=0.03)
    assert body.sigma[axis] == pytest.approx(0.3 * body.size[axis])
    assert body.sigma[[1 - axis, 2]].tolist() == [0, 0]
