"""Gaussians as tokens, and the set transformer that reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.geometry import (
    SH_C0,
    Camera,
    Gaussians,
    Mesh,
    Pose,
    Similarity,
    matrix_from_quaternion,
    matrix_from_rotvec,
)
from sim.controlled import find_robot
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.props import Balls, Patches, Posts, Props
from tests.sim.floors import floor_scene
from train.encoders.gaussians import (
    AXES,
    CELL,
    COLOR,
    FEATURES,
    OPACITY,
    POSITION,
    SPREAD,
    GaussianTokens,
    SetTransformer,
    smoothed,
)

LENS = Camera(64, 48, 32.0, 32.0, 30.0, 24.0)
BASE_FROM_CAMERA = Pose(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), np.array([0.2, -0.05, 0.3]))
WALL_AT = 2.0


@pytest.fixture
def robot() -> Robot:
    """With a camera off its middle that looks ahead."""
    return replace(find_robot("rover")[0], base_from_camera=BASE_FROM_CAMERA)


def gaussians(rng: np.random.Generator, means: np.ndarray, logit: float = 6.0) -> Gaussians:
    """Flat, long, turned and coloured in any way."""
    count = len(means)
    return Gaussians(
        means.astype(np.float32),
        np.log(rng.uniform(0.02, 0.3, (count, 3))).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32),
        np.full(count, logit, np.float32),
        rng.uniform(-1.2, 1.2, (count, 1, 3)).astype(np.float32),
    )


def scene_of(splat: Gaussians, mesh: Mesh | None = None) -> SimScene:
    """A scene that looks like that."""
    return replace(floor_scene(np.ones((4, 4), bool), mesh=mesh), splat=lambda: splat)


def robots(poses: list[Pose]) -> RobotState:
    """At rest there."""
    joints = np.zeros((len(poses), 2), np.float32)
    place, turn = np.array([pose.translation for pose in poses]), np.array([pose.quaternion for pose in poses])
    return RobotState.at_rest(place, turn, joints)


def leaning(x: float, y: float, yaw: float) -> Pose:
    """A robot on a slope."""
    return Pose(matrix_from_rotvec(np.array([0, 0, yaw])) @ matrix_from_rotvec(np.array([0.1, -0.2, 0])), [x, y, 0.4])


def covariance(numbers: np.ndarray) -> np.ndarray:
    """Covariances (..., 3, 3) that tokens (..., 13) tell of."""
    spread = np.empty((*numbers.shape[:-1], 3, 3))
    spread[..., AXES[0], AXES[1]] = spread[..., AXES[1], AXES[0]] = numbers[..., SPREAD]
    logs, axes = np.linalg.eigh(spread)
    return (axes * np.exp(2 * logs)[..., None, :]) @ axes.swapaxes(-1, -2)


def nearest_first(numbers: np.ndarray) -> np.ndarray:
    """Tokens (T, 13) that are there, by their distance from the camera."""
    there = numbers[numbers[:, 12] > 0]
    return there[np.linalg.norm(there[:, POSITION] - BASE_FROM_CAMERA.translation, axis=1).argsort()]


def test_a_cube_becomes_the_mean_and_spread_of_its_mixture(rng: np.random.Generator):
    """Of samples of its Gaussians, drawn in proportion to opacity times area."""
    splat = replace(
        gaussians(rng, np.array([[1.05, 2.1, 0.3], [1.2, 2.15, 0.45], [1.1, 2.2, 0.4]])),
        opacity_logits=np.array([2.0, -0.5, 0.3], np.float32),
    )
    tokens = smoothed(splat, 0.25)
    scales, axes = np.exp(splat.log_scales), matrix_from_quaternion(splat.quaternions)
    two = np.sort(scales, axis=1)[:, 1:].prod(1)
    weight = two / (1 + np.exp(-splat.opacity_logits))
    which = rng.choice(3, 400_000, p=weight / weight.sum())
    drawn = splat.means[which] + np.einsum("nij,nj->ni", (axes * scales[:, None])[which], rng.normal(size=(400_000, 3)))
    np.testing.assert_allclose(tokens.position, drawn.mean(0)[None], atol=2e-3)
    turned = tokens[None].seen_from(np.zeros((1, 3)), np.eye(3)[None], np.ones((1, 1), bool))
    np.testing.assert_allclose(covariance(turned)[0, 0], np.cov(drawn.T), rtol=0.02, atol=2e-4)
    np.testing.assert_allclose(tokens.color[0], (0.5 + SH_C0 * splat.sh[:, 0])[which].mean(0), atol=2e-3)


def test_opacity_is_the_covered_share_of_a_cubes_face(rng: np.random.Generator):
    """A wall hides all, a veil a part, dust is left out; a Gaussian covers 2 pi times its two larger deviations."""
    splat = Gaussians(
        np.array([[0.1, 0.1, 0.1], [1.1, 0.1, 0.1], [2.1, 0.1, 0.1]], np.float32),
        np.log(np.array([[0.3, 0.01, 0.2], [0.04, 0.03, 0.002], [0.01, 0.02, 0.01]])).astype(np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (3, 1)),
        np.array([5, 0, 0], np.float32),
        np.zeros((3, 1, 3), np.float32),
    )
    tokens = smoothed(splat, 0.25)
    np.testing.assert_allclose(tokens.position[:, 0], [0.1, 1.1], atol=1e-6)
    np.testing.assert_allclose(tokens.opacity, [1, 0.5 * 2 * np.pi * 0.04 * 0.03 / 0.25**2], rtol=1e-5)


def test_tokens_are_in_the_robots_own_frame(robot: Robot, rng: np.random.Generator):
    """As the Gaussians themselves are when they are moved there, place, rotation and scales."""
    ahead = np.array([[0.9, 0.2, 0.2], [1.6, -0.3, 0.5], [2.4, 0.6, 0.1], [3.1, -0.9, 0.4]])
    world_from_base = leaning(1.3, -0.7, 2.2)
    splat = gaussians(rng, world_from_base.apply(ahead))
    sense = GaussianTokens([scene_of(splat)], robot, LENS, 6)
    numbers = nearest_first(sense.tokens(robots([world_from_base]), np.zeros(1, int), Props.none(1))[0])
    base_from_world = world_from_base.inverse()
    expected = splat.transformed(Similarity(1.0, base_from_world.rotation, base_from_world.translation))
    axes = matrix_from_quaternion(expected.quaternions) * np.exp(expected.log_scales)[:, None]
    np.testing.assert_allclose(numbers[:, POSITION], expected.means, atol=1e-5)
    np.testing.assert_allclose(covariance(numbers), axes @ axes.transpose(0, 2, 1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(numbers[:, COLOR], np.clip(0.5 + SH_C0 * expected.sh[:, 0], 0, 1), atol=1e-5)


def test_the_nearest_in_the_image_are_chosen(robot: Robot, rng: np.random.Generator):
    """Of each robot's own scene; by brute force, through the camera's own projection."""
    scenes = [scene_of(gaussians(rng, rng.uniform(-4, 4, (400, 3)))) for _ in range(2)]
    poses = [leaning(0.3, -0.2, 0.7), leaning(-1, 0.5, -2.6), leaning(0.1, 1.4, 4.0)]
    sense, scene = GaussianTokens(scenes, robot, LENS, 20), np.array([1, 0, 1])
    numbers = sense.tokens(robots(poses), scene, Props.none(3))
    assert numbers.shape == (3, 20, 13)
    for row, pose in enumerate(poses):
        places = smoothed(scenes[scene[row]].gaussians).position
        seen = (pose @ BASE_FROM_CAMERA).inverse().apply(places)
        ahead = seen[:, 2] > 0
        u, v = LENS.project(np.where(ahead[:, None], seen, 1)).T
        away = np.linalg.norm(seen, axis=1)[ahead & (u >= 0) & (u <= 64) & (v >= 0) & (v <= 48)]
        assert len(away) > 20
        got = np.linalg.norm(nearest_first(numbers[row])[:, POSITION] - BASE_FROM_CAMERA.translation, axis=1)
        np.testing.assert_allclose(got, np.sort(away)[:20], atol=1e-4)


def test_too_few_leave_places_empty(robot: Robot, rng: np.random.Generator):
    """All numbers of an empty place are 0; so they are all before a robot that looks away, or in an empty scene."""
    splat = gaussians(rng, np.array([[1.0, 0.1, 0.3], [2.0, -0.2, 0.3], [-3.0, 0.2, 0.3]]))
    empty = floor_scene(np.ones((4, 4), bool))
    sense = GaussianTokens([scene_of(splat), empty], robot, LENS, 8)
    poses = [Pose(np.eye(3), [-0.2, 0.1, 0]), Pose(matrix_from_rotvec([0, 0, 1.6]), [0, 0, 0]), Pose.identity()]
    numbers = sense.tokens(robots(poses), np.array([0, 0, 1]), Props.none(3))
    assert ((numbers[..., 12] > 0).sum(1) == [2, 0, 0]).all()
    assert not numbers[numbers[..., 12] == 0].any()


def test_things_come_first_with_their_shape_and_each_robot_has_its_own(robot: Robot):
    """A ball is round, a post stands upright, paint lies flat: their covariances in the robot's frame."""
    props = Props(
        Balls(np.array([[[2, 0.3, 0.3]], [[2.5, -0.4, 0.2]]]), np.array([[0.2], [0.1]]), np.full((2, 1, 3), 0.9)),
        Posts(
            np.array([[[1.5, -0.2, 0.1]]] * 2), np.array([[0.1], [0]]), np.full((2, 1), 0.6), np.full((2, 1, 3), 0.4)
        ),
        Patches(np.array([[[3, 0.1, 0.0]]] * 2), np.full((2, 1), 0.5), np.tile([0.9, 0.7, 0.1], (2, 1, 1))),
    )
    yawed = Pose(matrix_from_rotvec([0, 0, 0.2]), [0.1, -0.3, 0.05])
    sense = GaussianTokens([floor_scene(np.ones((4, 4), bool))], robot, LENS, 2)
    numbers = sense.tokens(robots([yawed, Pose.identity()]), np.zeros(2, int), props)
    assert numbers.shape == (2, 5, 13)
    base_from_world = yawed.inverse()
    expected = base_from_world.apply([[2, 0.3, 0.3], [1.5, -0.2, 0.4], [3, 0.1, 0]])
    np.testing.assert_allclose(numbers[0, :3, POSITION], expected, atol=1e-5)
    np.testing.assert_allclose(numbers[0, 2, COLOR], [0.9, 0.7, 0.1], atol=1e-6)
    variances = np.diagonal(covariance(numbers[0, :3]), axis1=1, axis2=2)
    np.testing.assert_allclose(variances[0], 0.2**2 / 5, rtol=1e-3)
    np.testing.assert_allclose(variances[1], [0.1**2 / 4, 0.1**2 / 4, 0.6**2 / 12], rtol=1e-3)
    np.testing.assert_allclose(variances[2, :2], 0.5**2 / 4, rtol=1e-3)
    assert variances[2, 2] < 1e-4
    np.testing.assert_allclose(numbers[1, 0, POSITION], [2.5, -0.4, 0.2], atol=1e-6)
    np.testing.assert_allclose(numbers[:, :3, OPACITY][..., 0], [[1, 1, 1], [1, 0, 1]])
    assert not numbers[1, 1].any()


def test_things_and_gaussians_behind_a_wall_or_beside_the_image_are_not_seen(robot: Robot, rng: np.random.Generator):
    """What is on the wall, or less than a cell behind it, is."""
    places = np.array([[1.2, 0.1, 0.3], [WALL_AT + 0.1, -0.2, 0.4], [3.0, 0.3, 0.3]])
    side = np.array([[WALL_AT, -3, -1], [WALL_AT, 3, -1], [WALL_AT, 3, 2], [WALL_AT, -3, 2.0]])
    wall = Mesh.from_arrays(side, np.array([[0, 1, 2], [0, 2, 3]]))
    balls = np.array([[[1.0, 0, 0.3], [WALL_AT + CELL + 0.1, 0.5, 0.3], [1.0, 1.4, 0.3]]])
    props = replace(Props.none(1), balls=Balls(balls, np.full((1, 3), 0.1), np.ones((1, 3, 3))))
    sense = GaussianTokens([scene_of(gaussians(rng, places), wall)], robot, LENS, 3)
    numbers = sense.tokens(robots([Pose.identity()]), np.zeros(1, int), props)[0]
    np.testing.assert_allclose(numbers[:3, 12], [1, 0, 0])
    np.testing.assert_allclose(np.sort(numbers[3:, 0]), [0, 1.2, WALL_AT + 0.1], atol=1e-5)


TOKENS = 9


@pytest.fixture
def network() -> SetTransformer:
    """The same weights each time."""
    torch.manual_seed(4)
    return SetTransformer((TOKENS, FEATURES))


@pytest.fixture
def tokens() -> torch.Tensor:
    """Sets (3, 9, 13), all tokens there."""
    made = torch.randn(3, TOKENS, FEATURES, generator=torch.Generator().manual_seed(1))
    made[..., OPACITY] = made[..., OPACITY].sigmoid()
    return made


def test_order_does_not_matter(network: SetTransformer, tokens: torch.Tensor):
    """But which numbers belong to one token does."""
    out = network(tokens)
    assert out.shape == (3, network.size)
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(tokens[:, order]), out, rtol=1e-4, atol=1e-5)
    mixed = tokens.clone()
    mixed[..., :3] = tokens[:, order, :3]
    assert (network(mixed) - out).abs().max() > 0.01


def test_empty_places_do_not_matter(network: SetTransformer, tokens: torch.Tensor):
    """Whatever stands in them, a token of opacity 0 isn't there."""
    few = tokens[:, :5]
    nothing = torch.randn(3, 4, FEATURES)
    nothing[..., OPACITY] = 0
    torch.testing.assert_close(network(torch.cat([nothing, few], 1)), network(few), rtol=1e-4, atol=1e-5)


def test_nothing_at_all_is_seen_without_nan(network: SetTransformer):
    """A robot may stand before nothing."""
    nothing = torch.zeros(2, TOKENS, FEATURES, requires_grad=True)
    out = network(nothing)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(weights.grad.isfinite().all() for weights in network.parameters() if weights.grad is not None)


def test_each_number_of_each_token_counts(network: SetTransformer, tokens: torch.Tensor):
    """In its own set, and in no other; only whether there is a token is yes or no."""
    tokens.requires_grad_()
    network(tokens)[1].square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad[1].abs() > 1e-7).all()
    assert not tokens.grad[[0, 2]].any()


def test_all_weights_learn(network: SetTransformer, tokens: torch.Tensor):
    """None is cut off from the gradient."""
    network(tokens).square().sum().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().max() > 1e-6, name


def test_learns_the_place_of_the_yellow_one(network: SetTransformer):
    """Where one token among many lies, told by its colour: what navigation needs."""
    rng = torch.Generator().manual_seed(0)
    out = torch.nn.Linear(network.size, 2)
    weights = [*network.parameters(), *out.parameters()]
    optimiser = torch.optim.Adam(weights, 3e-3)
    for _ in range(250):
        tokens, place = yellow_among_others(64, rng)
        loss = (out(network(tokens)) - place).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tokens, place = yellow_among_others(256, rng)
    assert (out(network(tokens)) - place).square().mean() < 0.1 * place.square().mean()


def yellow_among_others(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sets with one yellow token and eight bluish ones in random places, and where it is (B, 2)."""
    tokens = torch.rand(count, TOKENS, FEATURES, generator=rng) - 0.5
    tokens[..., :2] *= 6
    tokens[..., 9:12] = torch.tensor([0.3, 0.4, 0.8]) + 0.1 * tokens[..., 9:12]
    tokens[..., OPACITY] = 0.9
    which = torch.randint(0, TOKENS, (count,), generator=rng)
    tokens[torch.arange(count), which, 9:12] = torch.tensor([0.95, 0.8, 0.1])
    return tokens, tokens[torch.arange(count), which, :2].clone()


def test_tokens_of_another_layout_are_refused():
    """Rather than read wrongly."""
    with pytest.raises(ValueError, match="13"):
        SetTransformer((TOKENS, 12))
