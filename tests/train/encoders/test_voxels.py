"""Voxels around a robot, and the head that predicts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from pipeline.geometry import Gaussians, Mesh, matrix_from_rotvec, quaternion_from_matrix
from pipeline.geometry.rays import RayCaster
from pipeline.types import F64, Mask
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.sensors.cameras.settings import RobotCamera
from sim.sensors.height_scan import HeightScanner
from sim.sensors.scan_grid import ScanGrid
from sim.tasks.driving.driving_tasks import EXPLORE
from tests.sim.floors import floor_scene
from tests.synthetic import box_faces
from train.encoders.voxels import CLIP, EDGE, LOW, PITCH, SHAPE, VoxelHead, VoxelMap, Voxels, voxel_loss

TURN = matrix_from_rotvec(np.array([[0, 0, 0.4]]))[0]
FINE = 0.012
"""Between the rays that tell the truth [m]."""
SHARES = (0.25, 0.5, 0.75, 1)
POSITION = np.array([[0.3, -0.2, 0.12], [1.1, 0.5, 0.3], [-0.6, 0.9, 0.05]])
YAW = np.array([0.7, -2.1, 2.6])


def boxes(*corners: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Mesh:
    """Boxes between a low and a high corner, seen from outside."""
    faces = [box_faces(np.array(low), np.array(high)) for low, high in corners]
    triangles = [triangles + 8 * number for number, (_, triangles) in enumerate(faces)]
    return Mesh.from_arrays(np.concatenate([vertices for vertices, _ in faces]), np.concatenate(triangles))


def place() -> Mesh:
    """A floor with a box, a thin wall, a table top and a step, turned about the vertical; nothing is symmetric.

    What stands there ends just over the floor, so that no ray meets two surfaces at once.
    """
    flat = boxes(
        ((-3, -3, -0.1), (4, 3, 0.0)),
        ((0.9, -0.7, 0.01), (1.3, -0.25, 0.63)),
        ((-0.2, 0.8, 0.01), (2.1, 0.84, 0.9)),
        ((-1.0, -1.2, 0.5), (-0.3, -0.5, 0.55)),
        ((1.9, -1.0, 0.01), (3.0, 1.5, 0.17)),
    )
    return Mesh.from_arrays(flat.vertices @ TURN.T, flat.triangles)


def a_gaussian() -> Gaussians:
    """Scenes aren't drawn here, but there must be something to draw."""
    one = np.zeros((1, 3), np.float32)
    return Gaussians(one, one, np.array([[1, 0, 0, 0]], np.float32), np.zeros(1, np.float32), one[:, None])


def quaternions(yaw: F64, pitch: float = 0.0) -> F64:
    """World from base (N, 4)."""
    tilt = matrix_from_rotvec(np.array([[0, pitch, 0]]))[0]
    turns = matrix_from_rotvec(np.column_stack([0 * yaw, 0 * yaw, yaw]))
    return quaternion_from_matrix(turns @ tilt)


def from_there(mesh: Mesh, position: F64, yaw: float) -> F64:
    """Hits (M, 3) of dense rays along a robot's own level axes, in these axes [m]."""
    world_from_robot = matrix_from_rotvec(np.array([[0, 0, yaw]]))[0]
    caster, found = RayCaster(mesh), []
    for axis in range(3):
        sides = [LOW[k] + np.arange(0.5, SHAPE[k] * EDGE / FINE) * FINE for k in range(3)]
        sides[axis] = np.array([-9.0])
        starts = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
        ray, distance, _ = caster.all_hits(starts @ world_from_robot.T + position, world_from_robot[:, axis])
        found.append(starts[ray] + distance[:, None] * np.eye(3)[axis])
    return np.concatenate(found)


def in_voxels(points: F64, shrink: float = 1.0) -> Mask:
    """Voxels (X, Y, Z) with a point in them, or in the cube round their middles that is smaller by a factor."""
    cells = (points - np.array(LOW)) / EDGE
    index = np.floor(cells).astype(int)
    inside = ((index >= 0) & (index < SHAPE)).all(1) & (np.abs(cells - index - 0.5) <= shrink / 2).all(1)
    voxels = np.zeros(SHAPE, bool)
    voxels[tuple(index[inside].T)] = True
    return voxels


def test_voxels_are_those_that_rays_from_the_robot_meet():
    """Nothing else is occupied, nothing that reaches a voxel's inside is missed; seen from three turned robots."""
    mesh = place()
    occupied = VoxelMap([mesh]).occupied(POSITION, quaternions(YAW), np.zeros(3, np.int64)).astype(bool)
    assert occupied.shape == (3, *SHAPE)
    for robot in range(3):
        hits = from_there(mesh, POSITION[robot], YAW[robot])
        touched, crossed = in_voxels(hits), in_voxels(hits, 0.5)
        assert (occupied[robot] & ~touched).sum() <= 0.01 * occupied[robot].sum()
        assert (crossed & ~occupied[robot]).sum() <= 0.01 * crossed.sum()
        assert (touched & ~occupied[robot]).sum() <= 0.1 * touched.sum()
        assert crossed[:, :, 4:].any()  # walls and tables, not only the floor


def test_a_level_floor_has_no_gap():
    """However a robot is turned: the rays are near enough to each other."""
    floor = Mesh.from_arrays(np.array([[-9.0, -9, 0], [9, -9, 0], [0, 9, 0]]), np.array([[0, 1, 2]]))
    yaw = np.linspace(-3, 3, 25)
    position = np.column_stack([np.sin(yaw), np.cos(2 * yaw) - 4, np.full(25, 0.15)])
    occupied = VoxelMap([floor]).occupied(position, quaternions(yaw), np.zeros(25, np.int64))
    layer = int((0 - 0.15 - LOW[2]) / EDGE)
    assert occupied[..., layer].all()
    assert occupied.sum() == 25 * 16 * 16


def test_a_post_is_where_it_stands():
    """Ahead on the left of a robot that looks along the world's -y, pitched a little."""
    post = boxes(((0.71, -1.04, -1.0), (0.79, -0.96, 0.1)))
    position, turned = np.array([[0.22, 0.1, 0.3]]), quaternions(np.array([-np.pi / 2]), 0.15)
    occupied = VoxelMap([post]).occupied(position, turned, np.zeros(1, np.int64))[0]
    found = np.argwhere(occupied)
    ahead, left = 0.1 + 1.0, 0.75 - 0.22
    assert np.unique(found[:, 0]).tolist() == [int((ahead - LOW[0]) / EDGE)]
    assert np.unique(found[:, 1]).tolist() == [int((left - LOW[1]) / EDGE)]
    assert found[:, 2].tolist() == [0, 1, 2]  # it ends 0.2 m under the base


def test_heights_are_those_of_a_scan_from_there():
    """Of tilted robots too, under a table top and beside a box that is higher than the scan's rays start."""
    mesh = place()
    grid = ScanGrid(
        (LOW[0] + EDGE / 2, LOW[0] + (SHAPE[0] - 0.5) * EDGE),
        (LOW[1] + EDGE / 2, LOW[1] + (SHAPE[1] - 0.5) * EDGE),
        EDGE,
        CLIP,
    )
    turned, scene = quaternions(YAW, 0.2), np.zeros(3, np.int64)
    scanner = HeightScanner([mesh], grid)
    heights = VoxelMap([mesh]).heights(POSITION, turned, scene)
    truth = scanner.read(POSITION, turned, scene)
    assert len(np.unique(np.round(truth, 2))) > 6
    wrong = np.abs(heights.reshape(3, -1) - truth) > 1e-4
    assert 0 < wrong.mean() < 0.06
    angle = np.arange(16) * np.pi / 8
    ring = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle]) * PITCH * 0.75
    beside = [scanner.read(POSITION + share * offset, turned, scene) for offset in ring for share in SHARES]
    near_edge = (np.abs(np.array(beside) - truth) > 1e-4).any(0)
    assert not wrong[~near_edge].any()  # edges of things are found as far away as the next ray


def test_nothing_is_known_off_the_scene():
    """No voxel is occupied, and the ground lies as low as heights go."""
    surroundings = VoxelMap([place()])
    far, turned, scene = np.array([[40.0, -30, 0.1]]), quaternions(np.array([1.0])), np.zeros(1, np.int64)
    assert not surroundings.occupied(far, turned, scene).any()
    assert (surroundings.heights(far, turned, scene) == -CLIP).all()


def test_each_robot_is_in_its_own_scene():
    """And sees of it what it would if there were no other; the one between them is empty."""
    other = boxes(((-1.0, -2.5, -0.2), (3.5, 0.6, 0.1)), ((0.6, -0.9, 0.1), (0.9, -0.3, 0.6)))
    nothing = Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), int))
    scenes = [place(), nothing, other]
    together, position, turned = VoxelMap(scenes), POSITION[[0, 0, 0]], quaternions(YAW[[0, 0, 0]])
    occupied = together.occupied(position, turned, np.arange(3))
    heights = together.heights(position, turned, np.arange(3))
    for number, scene in enumerate(scenes):
        alone, first = VoxelMap([scene]), np.zeros(1, np.int64)
        np.testing.assert_array_equal(occupied[[number]], alone.occupied(position[:1], turned[:1], first))
        np.testing.assert_array_equal(heights[[number]], alone.heights(position[:1], turned[:1], first))
    assert not occupied[1].any()
    assert (occupied[0] != occupied[2]).mean() > 0.05


def test_a_scene_of_kilometres_is_refused():
    """Before memory is spent on it."""
    wide = Mesh.from_arrays(np.array([[0, 0, 0.0], [3000, 0, 5], [0, 3000, 9]]), np.array([[0, 1, 2]]))
    with pytest.raises(TrainError, match="3000 x 3000 x 9 m"):
        VoxelMap([wide])


def test_robots_in_a_simulation_sense_it():
    """Packed in one observation, of where they are after they moved."""
    robot, drive = find_robot("rover")
    drivable = np.ones((60, 50), bool)
    ground = boxes(((-9, -9, 0.0), (9, 9, 0.2)), ((0.0, 2.5, 0.2), (0.4, 2.9, 0.5)))
    cameras: tuple[RobotCamera, ...] = ()
    scene = replace(floor_scene(drivable, mesh=ground), splat=a_gaussian)
    env = SceneEnv(EXPLORE, [scene], robot, drive, 3, EnvConfig(cameras=cameras))
    seen, _ = env.reset(seed=2)
    sense = Voxels(env)
    for _ in range(3):
        seen, *_ = env.step(np.tile(np.array([1, -0.5], np.float32), (3, 1)))
    packed = sense.read(env, seen).numpy()
    state, surroundings = env.engine.read(), VoxelMap([ground])
    assert packed.shape == (3, *SHAPE[:2], SHAPE[2] + 1)
    here = state.position, state.quaternion, env.scene_of
    np.testing.assert_array_equal(packed[..., :-1], surroundings.occupied(*here))
    np.testing.assert_allclose(packed[..., -1], surroundings.heights(*here), atol=1e-3)
    env.close()


def test_the_head_fills_the_grid():
    """Each voxel and each height depends on what is remembered; it is small."""
    torch.manual_seed(0)
    head = VoxelHead(64, SHAPE)
    one, other = torch.randn(2, 3, 64)
    (occupied, heights), (occupied_2, heights_2) = head(one), head(other)
    assert occupied.shape == (3, *SHAPE)
    assert heights.shape == (3, *SHAPE[:2])
    assert ((occupied - occupied_2).abs() > 0).all()
    assert ((heights - heights_2).abs() > 0).all()
    assert sum(weights.numel() for weights in head.parameters()) < 60_000


def test_heights_belong_to_the_columns_of_their_voxels():
    """A change of one layer's weight that touches one column of voxels touches that height only."""
    torch.manual_seed(1)
    head = VoxelHead(8, SHAPE)
    volume = head.network(torch.randn(1, 8)).detach()
    changed = volume.clone()
    changed[0, 1, 3, 12, 5] += 1
    head.network = torch.nn.Identity()  # type: ignore[assignment]
    difference = (head(changed)[1] - head(volume)[1])[0]
    assert torch.nonzero(difference).tolist() == [[3, 12]]


def test_few_occupied_voxels_count_as_much_as_the_many_free_ones():
    """By hand: 2 of 16 voxels are occupied, of which one is found; a height is 0.3 m wrong, the other 0.02 m."""
    truth = torch.zeros(1, 2, 1, 9)
    truth[0, 0, 0, 1] = truth[0, 1, 0, 7] = 1
    truth[..., -1] = torch.tensor([[[0.5], [-0.2]]])
    logits = torch.full((1, 2, 1, 8), -2.0)
    logits[0, 0, 0, 1] = logits[0, 0, 0, 2] = 3.0
    loss, iou = voxel_loss(logits, torch.tensor([[[0.2], [-0.18]]]), truth)
    right, wrong = torch.nn.functional.softplus(torch.tensor([[-3.0, -2.0], [3.0, 2.0]]))
    of_occupied, of_free = (right[0] + wrong[1]) / 2, (wrong[0] + 13 * right[1]) / 14
    of_heights = ((0.3 - 0.05) + 0.5 * 0.02**2 / 0.1) / 2
    torch.testing.assert_close(loss, (of_occupied + of_free) / 2 + of_heights)
    torch.testing.assert_close(iou, torch.tensor(1 / 3))


def test_nothing_occupied_is_no_division_by_zero():
    """Far from everything."""
    logits = torch.full((2, 3, 1, 4), -1.0, requires_grad=True)
    loss, iou = voxel_loss(logits, torch.zeros(2, 3, 1), torch.zeros(2, 3, 1, 5))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert iou == 0
