"""What robots look like: their files' visual meshes, in their places and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.geometry import Camera, Pose
from sim.robots.reading import load_robot
from sim.robots.surfaces import Surface, seen_from, surfaces_of
from sim.sensors.cameras.body import body_of, draw_body

INERTIAL = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
URDF = f"""
<robot name="r"><material name="red"><color rgba="0.8 0.1 0.2 1"/></material>
<link name="base">{INERTIAL}
<visual><origin xyz="0.1 -0.2 0.3" rpy="0 0 1.5707963"/><geometry><mesh filename="part.stl" scale="1 2 1"/></geometry>
<material name="red"/></visual>
<collision><geometry><sphere radius="0.7"/></geometry></collision></link>
<link name="cap"><visual><geometry><box size="0.2 0.4 0.6"/></geometry></visual></link>
<joint name="fixed" type="fixed"><parent link="base"/><child link="cap"/><origin xyz="0 0 2"/></joint>
<link name="leg">{INERTIAL}<collision><geometry><box size="0.1 0.2 0.3"/></geometry></collision></link>
<joint name="hip" type="revolute"><parent link="base"/><child link="leg"/><origin xyz="0 0 -1"/><axis xyz="0 1 0"/>
<limit lower="-1" upper="1" effort="1" velocity="1"/></joint></robot>
"""
MJCF = """<mujoco><asset><material name="blue" rgba="0.1 0.2 0.9 1"/></asset><worldbody><body name="base"><freejoint/>
<geom type="box" size="0.1 0.2 0.3" group="3" mass="1"/>
<geom type="box" size="0.2 0.3 0.4" pos="0.5 0 0" group="2" contype="0" conaffinity="0" mass="0" material="blue"/>
<geom type="box" size="0.5 0.5 0.5" group="4" contype="0" conaffinity="0" mass="0"/>
<geom type="box" size="0.6 0.5 0.5" group="1" contype="0" conaffinity="0" mass="0" rgba="1 1 1 0"/>
</body></worldbody></mujoco>"""
CAMERA = Camera(64, 48, 40.0, 40.0, 32.0, 24.0)


def extent(surface: Surface) -> list[float]:
    """Least and largest corner (6,)."""
    corners = surface.corners.reshape(-1, 3)
    return [*corners.min(0), *corners.max(0)]


def write_urdf(folder: Path, part: trimesh.Trimesh | None) -> Path:
    """The robot, and the mesh that it names."""
    if part is not None:
        part.export(folder / "part.stl")
    (folder / "robot.urdf").write_text(URDF)
    return folder / "robot.urdf"


def test_a_urdf_shows_its_visuals(tmp_path: Path):
    """Turned, stretched, in their colours; a link that shows nothing has its shape, a fixed one is of its parent."""
    robot = load_robot(write_urdf(tmp_path, trimesh.creation.box([0.2, 0.1, 0.4])))
    mesh, box, leg = surfaces_of(robot, 1000)
    assert (mesh.link, box.link, leg.link) == (0, 0, 1)
    assert extent(mesh) == pytest.approx([0, -0.3, 0.1, 0.2, -0.1, 0.5], abs=1e-6)
    assert mesh.color == pytest.approx((0.8, 0.1, 0.2))
    assert extent(box) == pytest.approx([-0.1, -0.2, 1.7, 0.1, 0.2, 2.3])
    assert extent(leg) == pytest.approx([-0.05, -0.1, -0.15, 0.05, 0.1, 0.15])
    assert box.color is None
    assert [shape.kind for shape in robot.links[0].shapes] == ["sphere"]
    assert robot.mass == pytest.approx(2)


def test_an_mjcf_shows_what_does_not_collide(tmp_path: Path):
    """In the colour of its material; not what is in a hidden group, or transparent."""
    (tmp_path / "robot.xml").write_text(MJCF)
    (box,) = surfaces_of(load_robot(tmp_path / "robot.xml"), 1000)
    assert extent(box) == pytest.approx([0.3, -0.3, -0.4, 0.7, 0.3, 0.4])
    assert box.color == pytest.approx((0.1, 0.2, 0.9))


def test_a_mesh_that_is_missing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The robot is drawn with its shapes all the same."""
    found = surfaces_of(load_robot(write_urdf(tmp_path, None)), 1000)
    assert [surface.link for surface in found] == [0, 1]
    assert "drawn with its collision shapes" in caplog.text
    assert "part.stl" in caplog.text


def test_fine_meshes_get_coarse_and_stay_where_they_are(tmp_path: Path):
    """An ellipsoid of 20 480 triangles in 200: nothing moves by more than 5 % of its size."""
    ball = trimesh.creation.icosphere(5)
    ball.vertices *= [0.1, 0.1, 0.2]
    robot = load_robot(write_urdf(tmp_path, ball))
    coarse = surfaces_of(robot, 200)[0]
    assert len(coarse.corners) <= 200
    middle, axes = np.array([0.1, -0.2, 0.3]), np.array([0.2, 0.1, 0.2])
    assert np.linalg.norm((coarse.corners - middle) / axes, axis=-1) == pytest.approx(1, abs=0.05)


def test_a_camera_in_a_shell_sees_out(tmp_path: Path):
    """A hollow ball whose inside is modelled hides all from a camera in it; one outside sees it."""
    ball, inner = trimesh.creation.icosphere(3, 0.5), trimesh.creation.icosphere(3, 0.4)
    inner.invert()
    robot = load_robot(write_urdf(tmp_path, trimesh.util.concatenate([ball, inner])))
    middle = np.array([0.1, -0.2, 0.3])
    whole = list(surfaces_of(robot, 1000))
    assert len(seen_from(whole, 0, middle)) == len(whole) - 1
    assert len(seen_from(whole, 0, middle + np.array([1.2, 0, 0]))) == len(whole)
    assert len(seen_from(whole, 1, middle)) == len(whole)
    looking = Pose(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), middle)  # ahead, along x
    drawn = []
    for eye in ((0, middle), None):
        rgb, depth = np.zeros((1, 48, 64, 3), np.float32), np.zeros((1, 48, 64), np.float32)
        links = np.tile(looking.inverse().matrix, (1, 2, 1, 1))
        draw_body(rgb, depth, body_of(robot, (), eye), links, looking.matrix[None], CAMERA)
        drawn.append(float((depth > 0).mean()))
    assert drawn == pytest.approx([0, 1])
