"""Robots written as URDF and read again."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Pose, matrix_from_rotvec
from sim.controlled import find_robot
from sim.robots.model import Link, Robot, Shape
from sim.robots.reading import load_robot
from sim.robots.urdf import urdf_frictions, write_urdf

SKEW = """
<mujoco>
  <compiler autolimits="true" angle="radian"/>
  <worldbody>
    <body name="base">
      <freejoint/>
      <inertial pos="0.05 -0.02 0.03" quat="0.9 0.2 0.3 0.1" mass="5" diaginertia="0.03 0.05 0.06"/>
      <geom type="box" size="0.2 0.15 0.05" pos="0.01 0.02 0.03" quat="0.8 0.1 0.3 0.2" friction="0.8"/>
      <body name="upper" pos="0.1 0.05 0.05" quat="0.96 0.1 0.2 0.1">
        <joint name="shoulder" axis="0 0.6 0.8" pos="0.01 0.02 -0.03" range="-1.2 0.9" armature="0.02" damping="0.3"/>
        <inertial pos="0 0.01 0.1" quat="0.7 0.1 0.5 0.4" mass="0.6" diaginertia="0.004 0.003 0.001"/>
        <geom type="capsule" fromto="0 0 0 0.05 0 0.2" size="0.02" friction="0.3"/>
        <body name="fore" pos="0 0 0.2" quat="0.9 0 0.3 0.1">
          <joint name="elbow" type="slide" axis="0 0.28 0.96" pos="0.04 0 0.01" range="-0.05 0.1"/>
          <inertial pos="0 0 0.05" mass="0.3" diaginertia="0.001 0.001 0.0005"/>
          <geom type="cylinder" size="0.02 0.05" pos="0 0 0.05"/>
        </body>
      </body>
      <body name="wheel" pos="-0.1 0.2 0">
        <joint name="roll" axis="0 1 0"/>
        <geom type="sphere" size="0.08" mass="1"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="shoulder" kp="60" kv="3" forcerange="-25 25"/></actuator>
</mujoco>
"""
"""Anchors off the links' origins, principal axes askew, every kind of shape but a mesh."""


@pytest.fixture
def skew(tmp_path: Path) -> Robot:
    path = tmp_path / "skew.xml"
    path.write_text(SKEW)
    return load_robot(path)


WORLD_FROM_BASE = Pose(matrix_from_rotvec([0.4, -0.7, 0.9]), np.array([0.3, -0.2, 1.1]))


def masses_in_robot(robot: Robot, bent: dict[str, float]) -> dict[str, np.ndarray]:
    """Mass, mass centre and inertia tensor of every link in the world, computed from its numbers."""
    found: dict[str, np.ndarray] = {}
    world_from: list[Pose] = []
    for link in robot.links:
        pose = world_from[link.parent] @ link.parent_from_link if link.parent >= 0 else WORLD_FROM_BASE
        if link.joint:
            way = bent[link.joint.name] * link.joint.axis
            if link.joint.kind == "slide":
                pose = pose @ Pose(np.eye(3), way)
            else:
                turn = matrix_from_rotvec(way)
                pose = pose @ Pose(turn, link.joint.anchor - turn @ link.joint.anchor)
        world_from.append(pose)
        found[link.name] = _mass(link.mass, pose @ link.link_from_inertia, link.inertia)
    return found


def masses_in_file(file: Path, bent: dict[str, float]) -> dict[str, np.ndarray]:
    """The same, computed by MuJoCo."""
    spec = mujoco.MjSpec.from_file(str(file))
    spec.worldbody.first_body().add_freejoint()
    spec.compiler.fusestatic = False
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:7] = np.r_[WORLD_FROM_BASE.translation, WORLD_FROM_BASE.quaternion]
    for name, value in bent.items():
        data.joint(name).qpos[:] = value
    mujoco.mj_forward(model, data)
    places = [Pose(data.ximat[body].reshape(3, 3), data.xipos[body]) for body in range(model.nbody)]
    return {
        model.body(body).name: _mass(model.body_mass[body], places[body], model.body_inertia[body])
        for body in range(1, model.nbody)
    }


def _mass(mass: float, world_from_inertia: Pose, inertia: np.ndarray) -> np.ndarray:
    tensor = world_from_inertia.rotation @ np.diag(inertia) @ world_from_inertia.rotation.T
    return np.r_[mass, world_from_inertia.translation, 100 * tensor.ravel()]


@pytest.mark.parametrize("name", ["skew", "rover", "go2", "bolt"])
def test_masses_move_as_before(name: str, skew: Robot, tmp_path: Path):
    """Mass, mass centre and inertia tensor of every link, with bent joints; what is said of the joints."""
    robot = skew if name == "skew" else find_robot(name)[0]
    rng = np.random.default_rng(5)
    bent = dict(zip(robot.joint_names, rng.uniform(-0.04, 0.09, len(robot.joint_names)), strict=True))
    again = load_robot(write_urdf(robot, tmp_path))
    written = masses_in_file(again.file, bent)
    for link, values in masses_in_robot(robot, bent).items():
        np.testing.assert_allclose(written[link], values, atol=1e-5, err_msg=link)
    joints = {link.joint.name: link.joint for link in again.links if link.joint}
    for joint in (link.joint for link in robot.links if link.joint):
        twin = joints[joint.name]
        assert twin.kind == joint.kind
        assert twin.limits == (None if joint.limits is None else pytest.approx(joint.limits))
        assert twin.damping == pytest.approx(joint.damping)


@pytest.mark.parametrize("name", ["skew", "go2"])
def test_shapes_stay_where_they_are(name: str, skew: Robot, tmp_path: Path):
    """Those of each link reach as far as before; there is one friction for each <collision>."""
    robot = skew if name == "skew" else find_robot(name)[0]
    file = write_urdf(robot, tmp_path)
    again = load_robot(file)
    for link in robot.links:
        twin = next(other for other in again.links if other.name == link.name)
        if link.shapes:
            np.testing.assert_allclose(_extremes(again, twin), _extremes(robot, link), atol=1e-5, err_msg=link.name)
    counts = [len(urdf_frictions(link)) for link in robot.links]
    assert counts == [len(next(o for o in again.links if o.name == link.name).shapes) for link in robot.links]
    if name == "skew":
        assert urdf_frictions(robot.links[1]) == [0.3, 0.3, 0.3]


def _extremes(robot: Robot, link: Link) -> np.ndarray:
    """How far a link's shapes reach along skew axes of the base (2, 5), joints at zero."""
    axes = np.random.default_rng(2).normal(size=(3, 5))
    base_from_link, up = Pose.identity(), link
    while up.parent >= 0:
        base_from_link, up = up.parent_from_link @ base_from_link, robot.links[up.parent]
    low, high = [], []
    for shape in link.shapes:
        place = base_from_link @ shape.link_from_shape
        along = place.rotation.T @ axes
        low.append(place.translation @ axes - _reach(shape, -along))
        high.append(place.translation @ axes + _reach(shape, along))
    return np.stack([np.min(low, axis=0), np.max(high, axis=0)])


def _reach(shape: Shape, along: np.ndarray) -> np.ndarray:
    """How far a shape reaches from its middle along axes (3, 5) of its frame."""
    radius, length = shape.size[0], np.linalg.norm(along, axis=0)
    if shape.kind == "box":
        return shape.size @ np.abs(along)
    if shape.kind == "mesh":
        return (shape.vertices @ along).max(0)
    if shape.kind == "sphere":
        return radius * length
    across = length if shape.kind == "capsule" else np.hypot(along[0], along[1])
    return radius * across + shape.size[1] * np.abs(along[2])


def test_names_are_needed(tmp_path: Path):
    """Two links without names can't be told apart."""
    path = tmp_path / "nameless.xml"
    path.write_text('<mujoco><worldbody><body><freejoint/><geom size="0.1"/></body></worldbody></mujoco>')
    with pytest.raises(SimError, match="unique name"):
        write_urdf(load_robot(path), tmp_path)
