"""Legs of URDFs get motors and a pose at rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.controlled import find_robot
from sim.robots import stance
from sim.robots.catalog import PACKAGE, ROBOTS
from sim.robots.legs import Legs
from sim.robots.reading import load_robot
from sim.robots.stance import own_servos, sag_at_rest

pytest.importorskip("mujoco")
A1, SOLO = PACKAGE / "a1_description/urdf/a1.urdf", PACKAGE / "solo_description/robots/solo12.urdf"
G1 = PACKAGE / "g1_description/urdf/g1_29dof_rev_1_0.urdf"


@pytest.mark.parametrize(("file", "feet", "knee"), [(A1, 4, -1), (SOLO, 4, 1), (G1, 2, 1)])
def test_legs_are_bent_over_their_feet(file: Path, feet: int, knee: int):
    """Both sides alike, within the joints' limits, all feet at one height; knees bend as the file allows."""
    robot, _ = find_robot(str(file))
    legs = Legs(robot)
    assert len(legs.feet) == feet
    assert legs.overhang < -0.05
    rest, (partner, sign) = robot.default_position, legs.mirror
    np.testing.assert_allclose(rest[partner], sign * rest, atol=1e-6)
    joints = [link.joint for link in robot.links if link.joint]
    for joint, angle in zip(joints, rest, strict=True):
        low, high = joint.limits or (-np.inf, np.inf)
        assert low <= angle <= high, joint.name
    lowest = np.array([foot.at_rest[2] for foot in legs.feet])
    assert np.ptp(lowest) < 0.01
    bent = rest[legs.feet[0].joints]
    assert np.abs(bent).max() > 0.5
    assert np.sign(bent[np.abs(bent).argmax()]) == knee


def test_a_robot_of_a_file_trots_on_the_spot():
    """Its motors hold it, before anything was learned."""
    env = sim.make("walk", ["terrain:0:flat"], 16, robot=str(A1), engine="mujoco-worlds", cameras=())
    env.reset(seed=0)
    fell = [env.step(np.zeros((16, env.controller.size), np.float32))[2] for _ in range(100)]
    env.close()
    assert not np.any(fell)


def test_motors_are_no_stronger_than_needed(tmp_path: Path):
    """Solo's file says 1000 N m, for a robot of 2.5 kg; another says nothing."""
    robot, _ = find_robot(str(SOLO))
    weight = 9.81 * sum(link.mass for link in robot.links)
    assert robot.actuators[0].max_force < 0.4 * weight
    silent = tmp_path / "solo12.urdf"
    silent.write_text(
        SOLO.read_text().replace('effort="1000"', 'effort="0"').replace("package://", f"{PACKAGE}/../../")
    )
    other, _ = find_robot(str(silent))
    assert [motor.max_force for motor in other.actuators] == [motor.max_force for motor in robot.actuators]


def test_legs_that_sink_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """By the weight on a foot, the thigh's lever and the motor's stiffness; strong motors hold, and nothing is said."""
    find_robot(str(A1))
    assert not caplog.records
    text = A1.read_text().replace("package://", f"{PACKAGE}/../../").replace('effort="33.5"', 'effort="9"')
    (tmp_path / "weak.urdf").write_text(text)
    weak, _ = find_robot(str(tmp_path / "weak.urdf"))
    (told,) = (record.getMessage() for record in caplog.records if "sinks" in record.getMessage())
    knee = Legs(weak).feet[0].joints[-1]
    sag = sag_at_rest(Legs(weak), weak.default_position, np.full(12, 1e5), np.full(12, np.inf))
    thigh, calf = weak.default_position[Legs(weak).feet[0].joints[1:]]
    lever = 0.2 * np.sin(thigh + calf)  # the shank is 0.2 m long
    assert abs(sag[knee]) == pytest.approx(abs(lever) * 9.81 * weak.mass / 4 / 1e5, rel=0.02)
    assert "calf_joint by" in told and "<limit effort>" in told


def test_a_pose_is_checked_as_it_is_returned(monkeypatch: pytest.MonkeyPatch):
    """After the last step, not before it: without any, no foot is where it belongs."""
    monkeypatch.setattr(stance, "ROUNDS", 0)
    with pytest.raises(SimError, match="legs can be bent below their hips"):
        own_servos(load_robot(ROBOTS["bolt"].file))


def test_wheels_on_one_side_do_not_walk(tmp_path: Path):
    """The error is about wheels, and names a robot that has some."""
    wheel = """<link name="{0}"><inertial><mass value="1"/><inertia ixx="0.01" ixy="0" ixz="0" iyy="0.01" iyz="0"
        izz="0.01"/></inertial><collision><geometry><sphere radius="0.1"/></geometry></collision></link><joint
        name="{0}_joint" type="continuous"><parent link="base"/><child link="{0}"/><origin xyz="0 {1} 0"/><axis
        xyz="0 1 0"/></joint>"""
    base = """<link name="base"><inertial><mass value="5"/><inertia ixx="0.1" ixy="0" ixz="0" iyy="0.1" iyz="0"
        izz="0.1"/></inertial><collision><geometry><box size="0.3 0.2 0.1"/></geometry></collision></link>"""
    urdf = tmp_path / "cart.urdf"
    urdf.write_text(f'<robot name="cart">{base}{wheel.format("front", 0.2)}{wheel.format("rear", 0.3)}</robot>')
    with pytest.raises(SimError, match=r"(?s)legs, wheels that.*wheels in cart: front, rear.*--robot rover"):
        find_robot(str(urdf))


def test_arms_do_not_walk():
    """Nothing of an arm is a foot."""
    with pytest.raises(SimError, match="walks on two feet at least"):
        find_robot(str(PACKAGE / "ur_description/urdf/ur5_robot.urdf"))


def test_impossible_inertia_becomes_that_of_a_ball():
    """Go1's base is a frame of 1 mg; its trunk counts."""
    robot, _ = find_robot(str(PACKAGE / "go1_description/urdf/go1.urdf"))
    assert robot.links[0].mass > 4
    assert (robot.links[0].inertia > 0.01).all()
