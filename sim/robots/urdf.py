"""Robots written as URDF, for simulators that read nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import SimError
from pipeline.geometry import Pose
from sim.robots.model import Link, Robot, Shape

UNLIMITED = 1e9
"""Force, speed or slide [SI units] where URDF wants a number and there is no limit."""


def write_urdf(robot: Robot, folder: Path) -> Path:
    """Write a robot as `robot.urdf`, with its meshes' convex hulls next to it.

    URDF puts a joint's axis through the origin of its child, so a link's frame moves to its joint's anchor; a capsule
    becomes a cylinder and two spheres. Friction, armature and motors are left out: URDF has no elements for them.

    Raises:
        SimError: When two links have the same name or one has none.
    """
    names = [link.name for link in robot.links]
    if not all(names) or len(set(names)) < len(names):
        raise SimError(
            "in a URDF every link has a unique name",
            found=f"{names}",
            remedy='give each <body> of the MJCF its own name="..."',
            file=robot.file,
        )
    root = ElementTree.Element("robot", name=robot.name)
    efforts = {actuator.joint: min(actuator.max_force, UNLIMITED) for actuator in robot.actuators}
    for link in robot.links:
        _add_link(root, link, folder)
    for link in robot.links:
        if link.parent >= 0:
            _add_joint(root, link, robot.links[link.parent], efforts)
    ElementTree.indent(root)
    path = folder / "robot.urdf"
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    return path


def urdf_frictions(link: Link) -> list[float]:
    """Coefficients of the link's <collision> elements, in the order in which `write_urdf` writes them."""
    return [shape.friction for shape in link.shapes for _ in range(3 if shape.kind == "capsule" else 1)]


def _link_from_urdf(link: Link) -> Pose:
    """Pose of the link's URDF frame."""
    return Pose(np.eye(3), link.joint.anchor if link.joint else np.zeros(3))


def _add_link(root: ElementTree.Element, link: Link, folder: Path) -> None:
    from trimesh import PointCloud

    made = ElementTree.SubElement(root, "link", name=link.name)
    urdf_from_link = _link_from_urdf(link).inverse()
    urdf_from_inertia = urdf_from_link @ link.link_from_inertia
    rotation = urdf_from_inertia.rotation
    tensor = rotation @ np.diag(link.inertia) @ rotation.T  # in the link's axes: some readers ignore the origin's rpy
    inertial = ElementTree.SubElement(made, "inertial")
    ElementTree.SubElement(inertial, "origin", xyz=_numbers(urdf_from_inertia.translation), rpy="0 0 0")
    ElementTree.SubElement(inertial, "mass", value=_number(link.mass))
    axes = "xyz"
    entries = {f"i{axes[i]}{axes[j]}": _number(tensor[i, j]) for i in range(3) for j in range(i, 3)}
    ElementTree.SubElement(inertial, "inertia", entries)
    for number, shape in enumerate(link.shapes):
        pose = urdf_from_link @ shape.link_from_shape
        if shape.kind == "mesh":
            file = folder / f"hull_{len(root)}_{number}.stl"
            PointCloud(shape.vertices).convex_hull.export(file)
            _add_collision(made, pose, "mesh", filename=file.name)
        else:
            _add_primitive(made, pose, shape)


def _add_primitive(link: ElementTree.Element, pose: Pose, shape: Shape) -> None:
    size = shape.size
    if shape.kind == "box":
        _add_collision(link, pose, "box", size=_numbers(2 * size))
    elif shape.kind == "sphere":
        _add_collision(link, pose, "sphere", radius=_number(size[0]))
    else:
        _add_collision(link, pose, "cylinder", radius=_number(size[0]), length=_number(2 * size[1]))
    if shape.kind == "capsule":
        for end in (-size[1], size[1]):
            _add_collision(link, pose @ Pose(np.eye(3), np.array([0, 0, end])), "sphere", radius=_number(size[0]))


def _add_collision(link: ElementTree.Element, pose: Pose, kind: str, **size: str) -> None:
    collision = ElementTree.SubElement(link, "collision")
    _add_origin(collision, pose)
    ElementTree.SubElement(ElementTree.SubElement(collision, "geometry"), kind, size)


def _add_joint(root: ElementTree.Element, link: Link, parent: Link, efforts: dict[str, float]) -> None:
    joint = link.joint
    kind = "fixed" if joint is None else "prismatic" if joint.kind == "slide" else "continuous"
    if joint and joint.kind == "hinge" and joint.limits:
        kind = "revolute"
    made = ElementTree.SubElement(root, "joint", name=joint.name if joint else f"{link.name}_fixed", type=kind)
    ElementTree.SubElement(made, "parent", link=parent.name)
    ElementTree.SubElement(made, "child", link=link.name)
    _add_origin(made, _link_from_urdf(parent).inverse() @ link.parent_from_link @ _link_from_urdf(link))
    if joint is None:
        return
    ElementTree.SubElement(made, "axis", xyz=_numbers(joint.axis))
    ElementTree.SubElement(made, "dynamics", damping=_number(joint.damping))
    low, high = joint.limits or (-UNLIMITED, UNLIMITED)
    limit = {"effort": _number(efforts.get(joint.name, UNLIMITED)), "velocity": _number(UNLIMITED)}
    if joint.limits or joint.kind == "slide":
        limit |= {"lower": _number(low), "upper": _number(high)}
    ElementTree.SubElement(made, "limit", limit)


def _add_origin(element: ElementTree.Element, pose: Pose) -> None:
    """URDF's rpy are rotations about the fixed axes x, y, z in this order; any of those that give the same pose."""
    from scipy.spatial.transform import Rotation

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")
        rpy = Rotation.from_matrix(pose.rotation).as_euler("xyz")
    ElementTree.SubElement(element, "origin", xyz=_numbers(pose.translation), rpy=_numbers(rpy))


def _number(value: float) -> str:
    return repr(float(value))


def _numbers(values: ArrayLike) -> str:
    return " ".join(_number(value) for value in np.asarray(values))
