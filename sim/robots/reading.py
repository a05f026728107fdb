"""Robots read from URDF or MJCF by MuJoCo's compiler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose
from pipeline.types import F64, Mask
from sim import libraries
from sim.robots.model import MOUNTED, Actuator, Coupling, Joint, Link, Mount, Robot, Servos, Shape, ShapeKind, Visual
from sim.robots.spec import compiled, read_spec, unreadable

if TYPE_CHECKING:
    from mujoco._structs import MjData, MjModel

CAMERA_SITE = "camera"
"""Site of an MJCF with the pose of the camera; its axes are OpenCV's."""
HOME = "home"
"""Keyframe of an MJCF with the pose at rest."""
UNCOLORED = [0.5, 0.5, 0.5, 1.0]
"""What MuJoCo paints geoms without a colour."""
LAST_SHOWN = 2
"""Groups of geoms beyond this are hidden, by MuJoCo's custom."""


def read_visuals(path: Path, mount: Mount | None = None) -> list[Visual]:
    """What a robot's file shows, and that of what is mounted on it.

    Raises:
        SimError: When it can't be read, such as a mesh in a format that MuJoCo doesn't know.
    """
    model = compiled(read_spec(path, mount, shown=True), path)
    found = list[Visual]()
    for geom in range(model.ngeom):
        material = int(model.geom_matid[geom])
        rgba = (model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]).tolist()
        solid = model.geom_contype[geom] or model.geom_conaffinity[geom]
        if solid or model.geom_group[geom] > LAST_SHOWN or rgba[3] <= 0:
            continue
        shape, triangles = _shape(model, geom, path), np.zeros((0, 3), np.int64)
        if shape.kind == "mesh":
            mesh = int(model.geom_dataid[geom])
            first = int(model.mesh_faceadr[mesh])
            triangles = model.mesh_face[first : first + int(model.mesh_facenum[mesh])].astype(np.int64)
        color = None if rgba == UNCOLORED else (rgba[0], rgba[1], rgba[2])
        found.append(Visual(model.body(int(model.geom_bodyid[geom])).name, shape, triangles, color))
    return found


def load_robot(path: Path, name: str | None = None, servos: Servos | None = None, mount: Mount | None = None) -> Robot:
    """Load a URDF or MJCF file with one robot; a keyframe named `home`, if any, is its pose at rest.

    With a mount, it carries another one. Meshes are searched relative to the file; servos are for files without
    actuators, such as URDFs.

    Raises:
        SimError: When the file can't be read, a mesh is missing, or it isn't one robot with hinges and slides.
    """
    model = compiled(read_spec(path, mount), path)
    robot = _robot_of(model, path, name or path.stem, servos)
    speeds = _speeds(path) if path.suffix == ".urdf" else {}
    links = [
        replace(link, joint=replace(link.joint, max_speed=speeds.get(link.joint.name, np.inf))) if link.joint else link
        for link in robot.links
    ]
    return replace(robot, links=tuple(links), mount=mount)


def _speeds(path: Path) -> dict[str, float]:
    """Largest speeds of a URDF's joints [rad/s, m/s], which MuJoCo's compiler drops; none of those that are 0."""
    try:
        limits = {joint.get("name", ""): joint.find("limit") for joint in ElementTree.parse(path).iter("joint")}
        speeds = {name: float(limit.get("velocity", 0)) for name, limit in limits.items() if limit is not None}
    except (ElementTree.ParseError, ValueError) as error:  # of what MuJoCo doesn't read, or takes all the same
        raise unreadable(error, path) from error
    return {name: speed for name, speed in speeds.items() if speed > 0}


def _robot_of(model: MjModel, path: Path, name: str, servos: Servos | None) -> Robot:
    mujoco = libraries.mujoco()
    kinds = mujoco.mjtJoint
    roots = int((model.body_parentid[1:] == 0).sum())
    per_body = model.body_jntnum[1:]
    most = int(per_body.max(initial=0))
    ball = int((model.jnt_type == kinds.mjJNT_BALL).sum())
    if roots != 1 or not model.njnt or model.jnt_type[0] != kinds.mjJNT_FREE or ball or most > 1:
        raise SimError(
            "a robot has one free base and one hinge or slide at most between a link and its parent",
            found=f"{roots} bodies in the world, {ball} ball joints, up to {most} joints at a link",
            remedy="split joints by links of little mass, and keep scenery out of the robot's file",
            file=path,
        )
    data = mujoco.MjData(model)
    keys = {model.key(i).name: model.key(i).qpos for i in range(model.nkey)}
    data.qpos[:] = keys.get(HOME, data.qpos)
    for joint in range(1, model.njnt) if MOUNTED + HOME in keys else ():
        if model.joint(joint).name.startswith(MOUNTED):
            data.qpos[model.jnt_qposadr[joint]] = keys[MOUNTED + HOME][model.jnt_qposadr[joint]]
    for joint in range(1, model.njnt) if servos else ():
        data.qpos[model.jnt_qposadr[joint]] = servos.position(model.joint(joint).name) if servos else 0.0
    links = [_link(model, body, path) for body in range(1, model.nbody)]
    links = [servos.with_rotors(link) for link in links] if servos else links
    rest = [data.qpos[model.jnt_qposadr[model.body_jntadr[body]]] for body, link in enumerate(links, 1) if link.joint]
    data.qpos[:7] = [0, 0, 0, 1, 0, 0, 0]
    mujoco.mj_kinematics(model, data)
    corners = _corners(model, data, np.ones(model.ngeom, bool))
    if not len(corners):
        raise SimError(
            "a robot touches the ground with shapes of its file",
            found="none: no <collision> in a URDF, no geom that collides in an MJCF",
            remedy="give its links <collision> elements, such as the geometry of their <visual>",
            file=path,
        )
    low, high = float(corners[:, 2].min()), float(corners[:, 2].max())
    front = _corners(model, data, model.geom_bodyid == 1)
    camera = next((i for i in range(model.nsite) if model.site(i).name == CAMERA_SITE), None)
    # looks ahead from the upper front edge of the base's own shapes, so that they don't hide the view
    edge = np.array([front[:, 0].max(), 0, front[:, 2].max()]) if len(front) else np.array([0, 0, high])
    base_from_camera = Pose(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), edge)
    if camera is not None and model.site_bodyid[camera] == 1:
        base_from_camera = Pose.from_quaternion(model.site_quat[camera], model.site_pos[camera])
    return Robot(
        name=name,
        file=path,
        links=tuple(links),
        actuators=servos.actuators([link.joint for link in links if link.joint]) if servos else _actuators(model, path),
        default_position=np.array(rest, np.float64),
        base_height=-low,
        radius=float(np.linalg.norm(corners[:, :2], axis=1).max()),
        height=high - low,
        base_from_camera=base_from_camera,
    )


def _link(model: MjModel, body: int, path: Path) -> Link:
    slide = libraries.mujoco().mjtJoint.mjJNT_SLIDE
    joint = None
    if model.body_jntnum[body] and body > 1:
        index = int(model.body_jntadr[body])
        dof = int(model.jnt_dofadr[index])
        limited = bool(model.jnt_limited[index])
        joint = Joint(
            name=model.joint(index).name,
            kind="slide" if model.jnt_type[index] == slide else "hinge",
            axis=model.jnt_axis[index].copy(),
            anchor=model.jnt_pos[index].copy(),
            limits=(float(model.jnt_range[index, 0]), float(model.jnt_range[index, 1])) if limited else None,
            armature=float(model.dof_armature[dof]),
            damping=float(model.dof_damping.reshape(model.nv, -1)[dof, 0]),
            max_force=float(model.jnt_actfrcrange[index, 1]) if model.jnt_actfrclimited[index] else np.inf,
            follows=_coupling(model, index),
        )
    geoms = range(int(model.body_geomadr[body]), int(model.body_geomadr[body] + model.body_geomnum[body]))
    solid = [g for g in geoms if model.geom_contype[g] or model.geom_conaffinity[g]]
    return Link(
        name=model.body(body).name,
        parent=int(model.body_parentid[body]) - 1,
        parent_from_link=Pose.from_quaternion(model.body_quat[body], model.body_pos[body] if body > 1 else np.zeros(3)),
        mass=float(model.body_mass[body]),
        link_from_inertia=Pose.from_quaternion(model.body_iquat[body], model.body_ipos[body]),
        inertia=model.body_inertia[body].copy(),
        joint=joint,
        shapes=tuple(_shape(model, geom, path) for geom in solid),
    )


def _coupling(model: MjModel, joint: int) -> Coupling | None:
    """What a joint is coupled to; positions count from zero, not from the file's initial ones."""
    for number in range(model.neq):
        one, other = int(model.eq_obj1id[number]), int(model.eq_obj2id[number])
        kind = model.eq_type[number] == libraries.mujoco().mjtEq.mjEQ_JOINT
        if kind and one == joint and other >= 0 and not model.eq_data[number, 2:5].any():
            offset, factor = model.eq_data[number, :2].tolist()
            zeros = [float(model.qpos0[model.jnt_qposadr[end]]) for end in (one, other)]
            return Coupling(model.joint(other).name, factor, offset + zeros[0] - factor * zeros[1])
    return None


def _shape(model: MjModel, geom: int, path: Path) -> Shape:
    kinds = libraries.mujoco().mjtGeom
    names: dict[int, ShapeKind] = {int(getattr(kinds, f"mjGEOM_{name.upper()}")): name for name in get_args(ShapeKind)}
    kind = names.get(int(model.geom_type[geom]))
    if kind is None:
        raise SimError(
            "a robot's shapes are boxes, spheres, capsules, cylinders and meshes",
            found=f"geom {model.geom(geom).name or geom} is of another kind",
            remedy="replace it, for instance an ellipsoid by a capsule",
            file=path,
        )
    vertices = np.zeros((0, 3))
    if kind == "mesh":
        mesh = int(model.geom_dataid[geom])
        start = int(model.mesh_vertadr[mesh])
        vertices = model.mesh_vert[start : start + int(model.mesh_vertnum[mesh])].astype(np.float64)
    return Shape(
        kind=kind,
        size=model.geom_size[geom].copy(),
        link_from_shape=Pose.from_quaternion(model.geom_quat[geom], model.geom_pos[geom]),
        friction=float(model.geom_friction[geom, 0]),
        vertices=vertices,
    )


def _actuators(model: MjModel, path: Path) -> tuple[Actuator, ...]:
    found: dict[int, Actuator] = {}
    for index in range(model.nu):
        joint = int(model.actuator_trnid[index, 0])
        gain = float(model.actuator_gainprm[index, 0])
        stiffness, damping = -float(model.actuator_biasprm[index, 1]), -float(model.actuator_biasprm[index, 2])
        force = model.actuator_forcerange[index]
        limit = float(force[1]) if model.actuator_forcelimited[index] else float("inf")
        if not (gain > 0 and stiffness >= 0 and damping >= 0 and (stiffness > 0 or damping > 0)):
            raise SimError(
                "a robot's actuators are of kind position or velocity",
                found=f"actuator {model.actuator(index).name or index} is another",
                remedy="write <position kp= kv=> or <velocity kv=> in the MJCF",
                file=path,
            )
        name = model.joint(joint).name
        mode = "position" if stiffness > 0 else "velocity"
        found[joint] = Actuator(name, mode, stiffness, damping, limit)
    return tuple(found[joint] for joint in sorted(found))


def _corners(model: MjModel, data: MjData, chosen: Mask) -> F64:
    """Corners (P, 3) of the boxes around the chosen geoms that are solid, base axes [m]."""
    solid = chosen & ((model.geom_contype != 0) | (model.geom_conaffinity != 0))
    boxes = model.geom_aabb[solid]  # centre and half size, in the geom's axes
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    corners = boxes[:, None, :3] + signs * boxes[:, None, 3:]
    rotations = data.geom_xmat[solid].reshape(-1, 3, 3)
    return (np.einsum("gij,gkj->gki", rotations, corners) + data.geom_xpos[solid][:, None]).reshape(-1, 3)
