"""The engine over the real worker process; what all engines do alike is in test_conformance."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from pipeline.errors import SimError
from pipeline.geometry import Mesh, matrix_from_quaternion
from sim.physics.catalog import find_engine
from sim.physics.isaacgym import process
from sim.physics.isaacgym.engine import IsaacGymEngine
from sim.physics.state import Dynamics
from sim.robots.model import Robot
from sim.robots.reading import load_robot
from sim.robots.state import RobotState
from sim.robots.urdf import write_urdf
from tests.sim.engines import engines_here
from tests.sim.physics.isaacgym.fake_interpreter import use_fake_isaacgym

pytestmark = pytest.mark.slow

FLOOR = Mesh.from_arrays(
    np.array([[-4, -4, 0], [4, -4, 0], [4, 4, 0], [-4, 4, 0]], np.float64), np.array([[0, 1, 2], [0, 2, 3]])
)
BRANCHED = """
<mujoco>
  <compiler autolimits="true" angle="radian"/>
  <worldbody>
    <body name="base">
      <freejoint/>
      <inertial pos="0.06 -0.03 0.02" mass="4" diaginertia="0.03 0.05 0.06"/>
      <geom type="box" size="0.2 0.15 0.05"/>
      <body name="zebra" pos="0.1 0.1 0"><joint name="z" axis="0 1 0" damping="0.5"/>
        <geom size="0.04" mass="0.4"/>
        <body name="yak" pos="0 0.1 0"><joint name="y" axis="1 0 0"/><geom size="0.03" mass="0.2"/></body>
      </body>
      <body name="ant" pos="0.1 -0.1 0"><joint name="a" axis="0 1 0" pos="0.01 0 0.02" armature="0.05" damping="1"/>
        <geom type="capsule" size="0.03 0.05" mass="0.3"/>
        <body name="bee" pos="0 -0.1 0"><geom size="0.02" mass="0.1"/></body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="z" kv="2" forcerange="-9 9"/><position joint="y" kp="9" kv="1" forcerange="-9 9"/>
    <position joint="a" kp="30" kv="3" forcerange="-9 9"/>
  </actuator>
</mujoco>
"""
"""Branches that Isaac Gym sorts by name, each with a motor of another kind, one link fixed."""

Make = Callable[..., IsaacGymEngine]


@pytest.fixture
def branched(tmp_path: Path) -> Robot:
    path = tmp_path / "branched.xml"
    path.write_text(BRANCHED)
    return load_robot(path)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Make]:
    """Makes engines over the fake, with temporary files below `tmp_path`, and closes them."""
    use_fake_isaacgym(monkeypatch)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    made: list[IsaacGymEngine] = []

    def build(robot: Robot, count: int = 1) -> IsaacGymEngine:
        made.append(IsaacGymEngine(robot, [FLOOR], count))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


def high_up(robot: Robot, count: int = 1) -> RobotState:
    joints = np.tile(np.linspace(0.1, 0.3, len(robot.joint_names)), (count, 1))
    place, turn = np.tile([0.4, -0.2, 2.0], (count, 1)), np.tile([0.8, 0.0, 0.0, 0.6], (count, 1))
    return RobotState.at_rest(place, turn, joints.astype(np.float32))


def put(engine: IsaacGymEngine, state: RobotState) -> None:
    engine.reset(np.arange(len(state)), state, np.zeros(len(state), np.int64))


def test_joints_and_links_go_by_name(make: Make, branched: Robot):
    """Isaac Gym's order is another; targets, angles and contact forces come back in ours."""
    engine = make(branched)
    assert engine.joint_names == ("z", "y", "a")
    assert engine._worker.dofs == ["a", "z", "y"]
    assert engine._worker.bodies == ["base", "ant", "bee", "zebra", "yak"]
    put(engine, high_up(branched))
    engine.set_targets(np.array([[1.5, -0.4, 0.6]], np.float32))
    engine.step(120)
    state = engine.read()
    np.testing.assert_allclose(state.joint_position[0, 1:], [-0.4, 0.6], atol=0.03)
    # the joint's own damping of 0.5 slows a motor of 2, as in the other engines: 1.5 * 2 / 2.5
    np.testing.assert_allclose(state.joint_velocity[0, 0], 1.2, atol=0.06)


def test_strength_is_stiffness_damping_and_force(make: Make, branched: Robot):
    """A motor's first step from rest: h k d / (I + h (c + 1)), or h f / I at its largest force.

    A weak one has k, c and f by its factor; the 1 is the joint's own damping and stays.
    """
    engine = make(branched, 2)
    engine.set_dynamics(np.array([1]), Dynamics(*np.array([[1], [1], [0.25]], np.float32)))
    rates = []
    for further in (0.2, 5.0):
        begun = high_up(branched, 2)
        put(engine, begun)
        engine.set_targets(begun.joint_position + np.array([0, 0, further], np.float32))
        engine.step(1)
        rates.append(engine.read().joint_velocity[:, 2])
    h, inertia = 0.004, 0.05
    expected = [h * 30 * 0.2 / (inertia + h * 4), h * 30 / 4 * 0.2 / (inertia + h * (3 / 4 + 1))]
    np.testing.assert_allclose(rates[0], expected, rtol=0.05)
    np.testing.assert_allclose(rates[1], [h * 9 / inertia, h * 9 / 4 / inertia], rtol=0.05)


def test_touch_is_felt_by_the_link_that_touches(make: Make, branched: Robot):
    """A robot that comes down on its right side touches with the link that reaches out furthest."""
    engine = make(branched)
    on_its_side = np.array([[np.sqrt(0.5), np.sqrt(0.5), 0, 0]])
    put(engine, RobotState.at_rest(np.array([[0, 0, 0.2199]]), on_its_side, np.zeros((1, 3), np.float32)))
    engine.step(5)
    touching = dict(zip(engine.link_names, engine.contact_forces()[0, :, 2] > 1, strict=True))
    assert touching == {"base": False, "zebra": False, "yak": False, "ant": False, "bee": True}


@pytest.mark.parametrize("point", ["origin", "mass_centre"])
def test_whose_velocity_it_is_is_found_out(make: Make, branched: Robot, monkeypatch: pytest.MonkeyPatch, point: str):
    """NVIDIA doesn't say; either way the base's origin stays where it is when the base turns about it."""
    monkeypatch.setenv("FAKE_ISAACGYM_VELOCITY", point)
    engine = make(branched)
    assert engine._of_mass_centre == (point == "mass_centre")
    begun = high_up(branched)
    spin = np.array([[0.0, 0, 3.0]], np.float32)
    put(engine, RobotState(**{**vars(begun), "angular_velocity": spin}))
    engine.step(2)
    state = engine.read()
    assert np.linalg.norm(state.linear_velocity[0, :2]) < 0.02  # the mass centre's is 0.2
    turned = matrix_from_quaternion(state.quaternion)[0, :, 0]
    assert np.arctan2(turned[1], turned[0]) == pytest.approx(2 * np.arctan2(0.6, 0.8) + 0.024, abs=2e-3)


def test_masses_on_a_gpu_are_set_where_the_world_is_made(make: Make, branched: Robot, monkeypatch: pytest.MonkeyPatch):
    """Its pipeline takes none later: a new world has them, and all robots go on where they were."""
    monkeypatch.setenv("FAKE_ISAACGYM_PIPELINE", "gpu")
    engine = make(branched, count=2)
    engine.mass_requires_rebuild = True  # as with SPLATYARD_ISAACGYM_DEVICE=cuda
    put(engine, high_up(branched, 2))
    engine.step(3)
    before, worker = engine.read(), engine._worker
    engine.set_dynamics(np.array([1]), Dynamics(*np.array([[0.5], [1.7], [1.0]], np.float32)))
    assert engine._worker is not worker
    assert np.array_equal(engine.read().position, before.position)
    assert np.array_equal(engine.read().joint_velocity, before.joint_velocity)
    second = engine._worker
    engine.set_dynamics(np.array([1]), Dynamics(*np.array([[0.9], [1.7], [0.8]], np.float32)))  # friction, strength
    assert engine._worker is second
    engine.step(3)
    assert np.isfinite(engine.read().position).all()
    saved = engine.save()
    engine.set_dynamics(np.array([0]), Dynamics(*np.ones((3, 1), np.float32)))
    engine.restore(saved)
    assert engine._worker is second


def test_robots_begin_apart(make: Make, branched: Robot):
    """Pairs of shapes in one place count against PhysX's buffers on a GPU."""
    places = make(branched, count=5).read().position
    assert pdist(places).min() > 2 * max(branched.radius, branched.height)


def test_a_link_elsewhere_is_noticed(make: Make, branched: Robot, monkeypatch: pytest.MonkeyPatch):
    """When Isaac Gym and our kinematics disagree, nothing starts."""
    monkeypatch.setattr("sim.physics.isaacgym.engine.write_urdf", write_with_longer_arm)
    with pytest.raises(SimError, match=r"yak is 5\.0 mm off"):
        make(branched)


def write_with_longer_arm(robot: Robot, folder: Path) -> Path:
    path = write_urdf(robot, folder)
    path.write_text(path.read_text().replace("0.0 0.1 0.0", "0.0 0.105 0.0"))
    return path


def test_nothing_is_left_behind(make: Make, branched: Robot, tmp_path: Path):
    """No file while it runs, no process after."""
    engine = make(branched)
    assert list((tmp_path / "temporary").iterdir()) == []
    worker = engine._worker._process
    assert worker.poll() is None
    engine.close()
    assert worker.returncode == 0
    with pytest.raises(SimError, match="closed engine"):
        engine.step(1)


def test_a_worker_ends_with_its_parent(branched: Robot, monkeypatch: pytest.MonkeyPatch):
    """Killed, the parent can't say goodbye; the pipe does."""
    use_fake_isaacgym(monkeypatch)
    lines = (
        "import sys, time\nimport numpy as np\nfrom pathlib import Path\n"
        "from pipeline.geometry import Mesh\nfrom sim.physics.isaacgym.engine import IsaacGymEngine\n"
        "from sim.robots.reading import load_robot\n"
        "floor = Mesh.from_arrays(np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0.0]]), np.array([[0, 1, 2]]))\n"
        f"engine = IsaacGymEngine(load_robot(Path({str(branched.file)!r})), [floor], 1)\n"
        "print(engine._worker._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    root = Path(process.__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ["PYTHONPATH"]])}
    parent = subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    ended = os.pidfd_open(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)
    parent.stdout.close()


@pytest.mark.parametrize(
    ("failure", "found"),
    [("raise", "ValueError: PhysX is out of luck"), ("die", "a segment at fault"), ("hang", "no answer for 2 s")],
)
def test_failures_are_told(make: Make, branched: Robot, monkeypatch: pytest.MonkeyPatch, failure: str, found: str):
    """An error, a crash with what it wrote last, and silence; each ends the worker."""
    monkeypatch.setenv("FAKE_ISAACGYM_FAILURE", failure)
    monkeypatch.setattr(process, "ANSWER_SECONDS", 2.0 if failure == "hang" else 60.0)
    with pytest.raises(SimError, match=found) as error:
        make(branched)
    assert process.PYTHON in error.value.remedy


def test_without_an_interpreter(branched: Robot, monkeypatch: pytest.MonkeyPatch):
    """What to download, and which variable to set."""
    monkeypatch.delenv(process.PYTHON, raising=False)
    assert "isaacgym" not in engines_here()
    with pytest.raises(SimError, match=f"(?s){process.ARCHIVE}.*{process.PYTHON}"):
        find_engine("isaacgym")(branched, [FLOOR], 1)


@pytest.mark.parametrize("python", ["/nonexistent/python3.8", sys.executable])
def test_an_interpreter_without_isaac_gym(branched: Robot, monkeypatch: pytest.MonkeyPatch, python: str):
    """The same help, with the reason."""
    monkeypatch.setenv(process.PYTHON, python)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    reason = "No such file" if python.startswith("/none") else "No module named 'isaacgym'"
    with pytest.raises(SimError, match=f"(?s){reason}.*{process.ARCHIVE}"):
        IsaacGymEngine(branched, [FLOOR], 1)


def test_an_interpreter_that_is_none(branched: Robot, monkeypatch: pytest.MonkeyPatch):
    """It answers, but not as the worker would."""
    monkeypatch.setenv(process.PYTHON, str(shutil.which("echo")))
    with pytest.raises(SimError, match=r"(?s)worker\.py.*name a Python interpreter"):
        IsaacGymEngine(branched, [FLOOR], 1)


def test_a_device_has_a_name(make: Make, branched: Robot, monkeypatch: pytest.MonkeyPatch):
    """As torch calls them."""
    monkeypatch.setenv("SPLATYARD_ISAACGYM_DEVICE", "gpu")
    with pytest.raises(SimError, match="'gpu'"):
        make(branched)


def test_inertia_grows_with_mass(make: Make, tmp_path: Path):
    """A brick of four times the mass falls and tips over as the light one does."""
    path = tmp_path / "brick.xml"
    geom = '<geom type="box" size="0.2 0.1 0.05" mass="1"/>'
    path.write_text(f'<mujoco><worldbody><body name="b"><freejoint/>{geom}</body></worldbody></mujoco>')
    engine = make(load_robot(path), 2)
    engine.set_dynamics(np.array([1]), Dynamics(*np.array([[1], [4], [1]], np.float32)))
    tilted = np.tile([[0.8, 0.3, 0.5, 0.1]], (2, 1)) / np.linalg.norm([0.8, 0.3, 0.5, 0.1])
    put(engine, RobotState.at_rest(np.tile([0, 0, 0.3], (2, 1)), tilted, np.zeros((2, 0), np.float32)))
    engine.step(100)
    light, heavy = engine.read().quaternion
    assert abs(light @ tilted[0]) < 0.98
    np.testing.assert_allclose(heavy, light, atol=0.05)  # MuJoCo's contacts stay as soft as they were; 0.6 without


def test_a_robot_without_joints(make: Make, tmp_path: Path):
    """A ball falls and lies."""
    path = tmp_path / "ball.xml"
    path.write_text('<mujoco><worldbody><body name="b"><freejoint/><geom size="0.1"/></body></worldbody></mujoco>')
    ball = load_robot(path)
    engine = make(ball, 2)
    upright, none = np.tile([1.0, 0, 0, 0], (2, 1)), np.zeros((2, 0), np.float32)
    put(engine, RobotState.at_rest(np.array([[0, 0, 0.5], [1, 1, 0.3]]), upright, none))
    engine.step(200)
    assert engine.read().position[:, 2] == pytest.approx(0.1, abs=0.005)
    np.testing.assert_allclose(engine.contact_forces()[:, 0, 2], ball.mass * 9.81, rtol=0.1)
