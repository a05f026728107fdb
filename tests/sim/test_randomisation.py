"""What differs from episode to episode, on a level floor with an icy area."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from pipeline.geometry import Mesh
from pipeline.regions.params import Area
from pipeline.regions.regions import Regions
from pipeline.regions.stage import paint_areas
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.physics.catalog import ENGINES
from sim.physics.state import Dynamics, PhysicsEngine
from sim.randomisation import Randomisation, Randomiser
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.tasks.driving.driving_tasks import NAVIGATE
from tests.sim.engines import engines_here
from tests.sim.physics.test_conformance import at_rest, floor

SUBSTEPS = 10


@dataclass
class Recorder:
    """An engine that moves nothing and writes down what it is told."""

    num_robots: int
    time_step: float = 0.004
    mass_requires_rebuild: bool = False
    targets: list[np.ndarray] = field(default_factory=list)
    """In effect at each substep, (N, A)."""
    pushes: list[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=list)
    """Substep, robots, changes of velocity."""
    dynamics: list[tuple[np.ndarray, Dynamics]] = field(default_factory=list)
    ground: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    state: RobotState | None = None

    def __post_init__(self) -> None:
        self.scene_of = np.zeros(self.num_robots, np.int64)

    def read(self) -> RobotState | None:
        """Where they stand."""
        return self.state

    def set_ground(self, robots: np.ndarray, friction: np.ndarray) -> None:
        """In the order of the calls."""
        self.ground.append((robots, friction))

    def set_targets(self, targets: np.ndarray) -> None:
        """Held from now on."""
        self._now = targets.copy()

    def step(self, substeps: int) -> None:
        """Time goes by."""
        self.targets += [self._now] * substeps

    def push(self, robots: np.ndarray, velocity: np.ndarray) -> None:
        """At the present substep."""
        self.pushes.append((len(self.targets), robots, velocity))

    def set_dynamics(self, robots: np.ndarray, dynamics: Dynamics) -> None:
        """In the order of the calls."""
        self.dynamics.append((robots, dynamics))


def plain(*areas: Area) -> Regions:
    """A floor of 12 m by 12 m around the origin."""
    shape = (120, 120)
    free = np.ones(shape, bool)
    regions = Regions((-6.0, -6.0), 0.1, np.zeros(shape, np.float32), free, free, ~free, 0.0, (), ())
    nothing = Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), int))
    return replace(regions, areas=areas, area=paint_areas(areas, regions.centres(), regions.height, 0.1, nothing))


def start(randomiser: Randomiser, count: int, seed: int = 0) -> np.random.Generator:
    """All robots begin; gives what the randomiser draws from."""
    rng = np.random.default_rng(seed)
    randomiser.reset(np.arange(count), rng)
    return rng


def test_off_it_draws_nothing_and_changes_nothing(rover: Robot) -> None:
    """The generator stays as it was; the engine hears of targets only, whose number of calls is as without."""
    engine = Recorder(3)
    randomiser = Randomiser(Randomisation(), engine, rover, [plain()], SUBSTEPS)  # type: ignore[arg-type]
    rng = start(randomiser, 3)
    targets = np.arange(6, dtype=np.float32).reshape(3, 2)
    randomiser.step(targets, rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
    assert not engine.pushes and not engine.dynamics
    assert len(engine.targets) == SUBSTEPS
    assert (np.array(engine.targets) == targets).all()


def test_actions_arrive_late_to_the_substep(rover: Robot) -> None:
    """Against the definition: at each substep the newest targets that were given at least the latency ago."""
    engine = Recorder(40)
    settings = Randomisation(latency=(0.01, 0.11))
    randomiser = Randomiser(settings, engine, rover, [plain()], SUBSTEPS)  # type: ignore[arg-type]
    rng = start(randomiser, 40, seed=5)
    given = np.random.default_rng(1).normal(size=(8, 40, 2)).astype(np.float32)
    for targets in given:
        randomiser.step(targets, rng)
    drawn = np.random.default_rng(5).uniform(0.01, 0.11, 40)
    late = np.round(drawn / 0.004).astype(int)
    assert len(np.unique(late % SUBSTEPS)) > 5 and late.max() > 2 * SUBSTEPS
    assert len(engine.targets) == 8 * SUBSTEPS
    for substep, found in enumerate(engine.targets):
        for robot in range(40):
            index = (substep - late[robot]) // SUBSTEPS
            expected = given[index, robot] if index >= 0 else np.zeros(2)
            np.testing.assert_array_equal(found[robot], expected, err_msg=f"{substep}, {robot}")


def test_a_new_episode_forgets_old_actions(rover: Robot) -> None:
    """What was under way never arrives; the other robot's does."""
    engine = Recorder(2)
    randomiser = Randomiser(Randomisation(latency=(0.04, 0.04)), engine, rover, [plain()], SUBSTEPS)  # type: ignore[arg-type]
    rng = start(randomiser, 2)
    randomiser.step(np.ones((2, 2), np.float32), rng)
    randomiser.reset(np.array([1]), rng)
    randomiser.step(np.full((2, 2), 5, np.float32), rng)
    assert engine.targets[-1].tolist() == [[1, 1], [0, 0]]


def test_factors_are_drawn_for_each_episode(rover: Robot) -> None:
    """Within their ranges, apart for each robot; others keep theirs when one begins anew."""
    engine = Recorder(500)
    settings = Randomisation(friction=(0.4, 1.2), mass=(0.8, 1.5), strength=(0.7, 0.9))
    randomiser = Randomiser(settings, engine, rover, [plain()], SUBSTEPS)  # type: ignore[arg-type]
    rng = start(randomiser, 500)
    [(robots, drawn)] = engine.dynamics
    assert robots.tolist() == list(range(500))
    for values, (low, high) in ((drawn.friction, (0.4, 1.2)), (drawn.mass, (0.8, 1.5)), (drawn.strength, (0.7, 0.9))):
        assert low <= values.min() < low + 0.02 and high - 0.02 < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.05)
    assert abs(np.corrcoef(drawn.friction, drawn.mass)[0, 1]) < 0.15
    randomiser.reset(np.array([7]), rng)
    robots, again = engine.dynamics[-1]
    assert robots.tolist() == [7]
    assert again.mass[0] != drawn.mass[7]
    engine.mass_requires_rebuild = True
    randomiser.reset(np.array([7]), rng)
    _, third = engine.dynamics[-1]
    assert third.mass[0] == again.mass[0] and third.friction[0] != again.friction[0]


def test_pushes_come_in_their_intervals(rover: Robot) -> None:
    """Each robot's gaps lie in the range, to a control step; level, of any direction, no harder than was set."""
    engine = Recorder(60)
    settings = Randomisation(push_interval=(0.5, 1.3), push_speed=0.8)
    randomiser = Randomiser(settings, engine, rover, [plain()], SUBSTEPS)  # type: ignore[arg-type]
    rng = start(randomiser, 60)
    for _ in range(250):
        randomiser.step(np.zeros((60, 2), np.float32), rng)
    seconds = np.concatenate([np.full(len(robots), substep * 0.004) for substep, robots, _ in engine.pushes])
    robots = np.concatenate([robots for _, robots, _ in engine.pushes])
    gaps = np.concatenate([np.diff(seconds[robots == robot], prepend=0) for robot in range(60)])
    assert 0.5 - 0.041 <= gaps.min() < 0.6 and 1.2 < gaps.max() <= 1.3 + 0.041
    velocity = np.concatenate([velocity for *_, velocity in engine.pushes])
    speed = np.linalg.norm(velocity, axis=1)
    assert (velocity[:, 2] == 0).all()
    assert 0.75 < speed.max() <= 0.8 and speed.mean() == pytest.approx(0.4, abs=0.05)
    assert np.abs(velocity.mean(0)).max() < 0.06


def test_each_link_has_its_own_ground(rover: Robot) -> None:
    """Only who has a wheel on the area is told; each scene has its own areas."""
    ice = Area(name="ice", polygon=((-3.0, 0), (3, 0), (3, 3), (-3, 3)), friction=0.1)
    engine = Recorder(3, state=at_rest(rover, [[0.0, 0, 0], [0, -1.5, 0], [0, 0, 0]], yaw=0.0))
    engine.scene_of[2] = 1
    randomiser = Randomiser(Randomisation(friction=(0.5, 0.5)), engine, rover, [plain(ice), plain()], 5)  # type: ignore[arg-type]
    randomiser.step(np.zeros((3, 2), np.float32), start(randomiser, 3))
    [(robots, friction)] = engine.ground
    assert robots.tolist() == [0]
    found = dict(zip((link.name for link in rover.links), friction[0].tolist(), strict=True))
    assert found["left_wheel"] == pytest.approx(0.1) and found["right_wheel"] == 1
    [(_, drawn)] = engine.dynamics
    assert (drawn.friction == 0.5).all()


@pytest.mark.parametrize(
    "values",
    [
        {"friction": (0.8, 0.5)},
        {"mass": (0.0, 1.0)},
        {"strength": (-0.1, 1.0)},
        {"latency": (0.0, 60.0)},
        {"push_interval": (1.0, 2.0)},
        {"push_speed": 0.5},
        {"friction": (0.5, float("nan"))},
        {"base_height": 0.06},
        {"base_height": -0.01},
        {"distractors": 5},
        {"distractors": -1},
    ],
)
def test_refuses_impossible_ranges(values: dict) -> None:
    """With the name."""
    with pytest.raises(ValueError, match=next(iter(values))):
        Randomisation(**values)


Make = Callable[[Robot, int], PhysicsEngine]


@pytest.fixture(params=engines_here())
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes engines of one kind over a level floor, and closes them."""
    made: list[PhysicsEngine] = []

    def build(robot: Robot, count: int) -> PhysicsEngine:
        made.append(ENGINES[request.param].make(robot, [floor()], count))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


def test_ice_is_slippery(make: Make, rover: Robot) -> None:
    """Two robots arrive at 0.9 m/s with their wheels held: over the area of a tenth of the friction ten times as far.

    A bit less than that, for the one that grips slides on while it pitches.
    """
    engine = make(rover, 2)
    ice = Area(name="ice", polygon=((-6.0, 0.5), (6, 0.5), (6, 3), (-6, 3)), friction=0.1)
    randomiser = Randomiser(Randomisation(), engine, rover, [plain(ice)], SUBSTEPS)
    rest = at_rest(rover, [[-2.0, -1.0, 0.003], [-2.0, 1.0, 0.003]], yaw=0.0)
    speed = np.array([[0.9, 0, 0]] * 2, np.float32)
    state = RobotState(rest.position, rest.quaternion, speed, *(getattr(rest, n) for n in list(vars(rest))[3:]))
    scenes, rng = np.zeros(2, np.int64), np.random.default_rng(0)
    engine.reset(np.arange(2), state, scenes)
    randomiser.reset(np.arange(2), rng)
    for _ in range(30):
        randomiser.step(np.zeros((2, 2), np.float32), rng)
    way = engine.read().position[:, 0] + 2
    assert 0.04 < way[0] < 0.07  # v^2 / 2 g = 4 cm if the wheels carried all the weight
    assert 6 < way[1] / way[0] < 11


def test_two_patches_under_two_wheels(make: Make, rover: Robot) -> None:
    """Sliding with held wheels along the edge of ice, the wheel that grips brakes: the robot turns towards its side.

    As much weight is on each wheel, so the force that brakes is the mean of both grounds': v^2 / (2 a) to its stop, and
    the torque turns it at once. On even ground it goes straight.
    """
    engine = make(rover, 3)
    left = Area(name="ice", polygon=((-6.0, 0.0), (6, 0), (6, 1), (-6, 1)), friction=0.05)
    right = Area(name="ice too", polygon=((-6.0, -3), (6, -3), (6, -2), (-6, -2)), friction=0.05)
    randomiser = Randomiser(Randomisation(), engine, rover, [plain(left, right)], SUBSTEPS)
    rest = at_rest(rover, [[-2.0, 0.0, 0.003], [-2.0, -2.0, 0.003], [-2.0, -1.0, 0.003]], yaw=0.0)
    speed = np.array([[0.9, 0, 0]] * 3, np.float32)
    state = RobotState(rest.position, rest.quaternion, speed, *(getattr(rest, n) for n in list(vars(rest))[3:]))
    engine.reset(np.arange(3), state, np.zeros(3, np.int64))
    rng = np.random.default_rng(0)
    randomiser.reset(np.arange(3), rng)
    for _ in range(5):
        randomiser.step(np.zeros((3, 2), np.float32), rng)
    yaw = engine.read().planar[:, 2]
    assert yaw[0] < -0.05 and yaw[1] > 0.05 and abs(yaw[2]) < 0.01
    assert yaw[0] == pytest.approx(-yaw[1], abs=0.02)


def test_a_push_moves_a_standing_robot(make: Make, rover: Robot) -> None:
    """By the draw of the generator."""
    engine = make(rover, 2)
    randomiser = Randomiser(
        Randomisation(push_interval=(0.08, 0.08), push_speed=1.0), engine, rover, [plain()], SUBSTEPS
    )
    scenes, rng = np.zeros(2, np.int64), np.random.default_rng(3)
    rest = at_rest(rover, [[-1.0, 0, 0.003], [1.0, 0, 0.003]])
    engine.reset(np.arange(2), rest, scenes)
    randomiser.reset(np.arange(2), rng)
    for _ in range(2):
        randomiser.step(np.zeros((2, 2), np.float32), rng)
    before = np.linalg.norm(engine.read().position[:, :2] - rest.position[:, :2], axis=1)
    assert before.max() < 0.002
    randomiser.step(np.zeros((2, 2), np.float32), rng)
    after = np.linalg.norm(engine.read().position[:, :2] - rest.position[:, :2], axis=1)
    assert after.max() > 0.004


def drive(scene: SimScene, settings: Randomisation | None) -> list[np.ndarray]:
    """Where four robots are at each of 25 steps of the same random actions, a few episodes long."""
    env = SceneEnv(NAVIGATE, [scene], *find_robot("rover"), 4, EnvConfig(randomisation=settings))
    env.reset(seed=6)
    rng, places = np.random.default_rng(0), []
    for _ in range(25):
        env.step(rng.uniform(-1, 1, (4, 2)).astype(np.float32))
        places.append(env.engine.read().position)
    env.close()
    return places


def test_environments_repeat_what_was_drawn(room_scene: SimScene) -> None:
    """Bit for bit for the same seed; otherwise than without randomisation."""
    settings = Randomisation((0.3, 1.2), (0.8, 1.6), (0.5, 1.0), (0.0, 0.3), (0.5, 1.5), 0.5)
    first, second, none = (drive(room_scene, s) for s in (settings, settings, None))
    np.testing.assert_array_equal(first, second)
    assert np.abs(np.array(first) - none).max() > 0.05


def test_environments_look_at_the_floors_areas(room_scene: SimScene) -> None:
    """On a floor without grip robots stay where they began."""
    regions = room_scene.regions
    ice = replace(
        regions, areas=(Area(name="ice", color="#ffffff", friction=0.0),), area=np.zeros(regions.height.shape, np.int16)
    )
    places = drive(replace(room_scene, regions=ice), None)
    gripping = drive(room_scene, None)
    way, usual = (np.linalg.norm(np.array(p)[8] - p[0], axis=1).max() for p in (places, gripping))
    assert way < 0.2 * usual
