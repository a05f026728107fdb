"""A robot's file as MuJoCo's editable model: read, mended, mounted, given what it lacks."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import SimError
from sim import libraries
from sim.robots.bounds import check_compiled, check_parsed, check_text
from sim.robots.collada import read_collada
from sim.robots.model import MOUNTED, Mount, Robot

if TYPE_CHECKING:
    from mujoco._specs import MjsBody, MjsGeom, MjSpec
    from mujoco._structs import MjModel

logger = logging.getLogger(__name__)

PACKAGE = "package:"
FREE = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
"""Coordinates of a free base at the origin."""
LIGHT, TINY = 0.01, 1e-6
"""Links lighter than this are frames, which get at least this mass [kg]."""


def read_spec(path: Path, mount: Mount | None = None, *, shown: bool = False) -> MjSpec:
    """Read a file as MuJoCo's editable model, with a free base, and with what is mounted on it.

    It has what a URDF shows if that is asked for; it is less right about masses then.

    Raises:
        SimError: When a file can't be read, or the link that carries the mount doesn't exist.
    """
    mujoco, spec = libraries.mujoco(), _read_file(path, shown=shown)
    roots = list(spec.worldbody.bodies)
    if len(roots) == 1 and not any(joint.type == mujoco.mjtJoint.mjJNT_FREE for joint in spec.joints):
        roots[0].add_freejoint()  # a URDF has none
        for key in spec.keys:
            key.qpos = [*FREE, *key.qpos] if len(key.qpos) else []
            key.qvel = [*np.zeros(6), *key.qvel] if len(key.qvel) else []
    if mount:
        carrier = spec.body(mount.link)
        if carrier is None:
            raise SimError(
                "a mount is on a link of the robot",
                found=f"no link {mount.link!r} in {path.name}",
                remedy=f"one of {', '.join(body.name for body in spec.bodies[1:])}",
                file=path,
            )
        pose = mount.link_from_base
        frame = carrier.add_frame(pos=pose.translation, quat=pose.quaternion)
        spec.attach(_read_file(mount.file, shown=shown), prefix=MOUNTED, frame=frame)
        compiled(spec, path)  # until then its keyframes can't be attached to anything else
    return spec


def _read_file(path: Path, *, shown: bool) -> MjSpec:
    """Read a file with one robot: meshes found, fingers alike, inertia possible."""
    mujoco = libraries.mujoco()
    try:
        check_text(path)
        spec = _showing(path) if shown and path.suffix == ".urdf" else mujoco.MjSpec.from_file(str(path))
        for mesh in spec.meshes:
            if mesh.file.startswith(PACKAGE):  # of ROS: a folder of that name above the URDF
                inside = Path(mesh.file.removeprefix(PACKAGE).lstrip("/"))
                above = [folder / inside for folder in path.resolve().parents]
                mesh.file = str(next((file for file in above if file.is_file()), inside))
        check_parsed(spec, path)
        read_collada(spec, path.parent)
    except (ValueError, OSError, RuntimeError) as error:
        raise unreadable(error, path) from error
    _untie(spec)
    _turn_fingers(spec)
    for mesh in spec.meshes if shown else ():
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # what is open has no volume
    if path.suffix == ".urdf":
        if not shown:
            _weigh(spec)
        spec.compiler.boundmass, spec.compiler.boundinertia = TINY, TINY**2  # of frames between joints
    for body in spec.bodies:
        _correct_inertia(body)
    return spec


def _showing(path: Path) -> MjSpec:
    """Read a URDF with its <visual> elements, which MuJoCo leaves out unless the file itself says otherwise."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    options = root.find("mujoco")
    options = ElementTree.SubElement(root, "mujoco") if options is None else options
    compiler = options.find("compiler")
    compiler = ElementTree.SubElement(options, "compiler") if compiler is None else compiler
    compiler.set("discardvisual", "false")
    spec = libraries.mujoco().MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    spec.modelfiledir = str(path.parent)
    return spec


def _weigh(spec: MjSpec) -> None:
    """Links of a URDF without `<inertial>` weigh nothing, as it says, where others are fixed to them that weigh.

    MuJoCo gives all such links the weight of water. Where nothing else weighs they keep that: no moving body is
    without a mass.
    """
    weighed: set[str] = set()
    open_: list[tuple[str, MjsBody]] = []
    for body in spec.bodies[1:]:
        moving = body
        while not moving.joints and moving.parent.name != spec.worldbody.name:
            moving = moving.parent
        if body.explicitinertial:
            weighed.add(moving.name)
        elif body.geoms:
            open_.append((moving.name, body))
    for moving, body in open_:
        if moving in weighed:
            for geom in body.geoms:
                geom.density, geom.mass = 0, 0
        else:
            logger.warning("link %s has no <inertial> in the URDF: it weighs what its shapes would of water", body.name)


def _untie(spec: MjSpec) -> None:
    """Replace servos that pull at several joints by a cord, as Menagerie's grippers have, by one at each joint.

    Where the joints move alike, forces are the same.
    """
    mujoco = libraries.mujoco()
    tied = [servo for servo in spec.actuators if servo.trntype == mujoco.mjtTrn.mjTRN_TENDON]
    for servo in tied:
        cord = spec.tendon(servo.target)
        shares = {wrap.target.name: float(wrap.coef) for wrap in cord.path if wrap.type == mujoco.mjtWrap.mjWRAP_JOINT}
        whole = sum(shares.values())
        for joint, share in shares.items():
            own = spec.add_actuator()
            own.name, own.target, own.trntype = f"{servo.name}/{joint}", joint, mujoco.mjtTrn.mjTRN_JOINT
            own.set_to_position(kp=-servo.biasprm[1] * share * whole, kv=-servo.biasprm[2] * share * whole)
            own.forcelimited, own.forcerange = servo.forcelimited, abs(share) * servo.forcerange
        spec.delete(servo)
    for key in spec.keys if tied else ():
        key.ctrl = []


def _turn_fingers(spec: MjSpec) -> None:
    """Reverse fingers that slide through the negatives of their neighbour's positions, so that both move alike."""
    mujoco, joints = libraries.mujoco(), list(spec.joints)
    widths = {mujoco.mjtJoint.mjJNT_FREE: 7, mujoco.mjtJoint.mjJNT_BALL: 4}
    starts = np.cumsum([0, *(widths.get(joint.type, 1) for joint in joints)])
    slides = [joint for joint in joints if joint.type == mujoco.mjtJoint.mjJNT_SLIDE]
    for one, two in itertools.permutations(slides, 2):
        mirrored = two.range[1] <= 0 < one.range[1] and np.allclose(one.range, -two.range[::-1])
        if not mirrored or one.parent.parent != two.parent.parent:
            continue
        two.axis, two.range, two.ref = -two.axis, -two.range[::-1], -two.ref
        for equality in spec.equalities:  # a polynomial of the second joint's position
            if equality.type == mujoco.mjtEq.mjEQ_JOINT and equality.name1 == two.name:
                equality.data[:5] *= -1
            if equality.type == mujoco.mjtEq.mjEQ_JOINT and equality.name2 == two.name:
                equality.data[1:5:2] *= -1
        for servo in spec.actuators:
            if servo.target == two.name:
                servo.ctrlrange, servo.forcerange = -servo.ctrlrange[::-1], -servo.forcerange[::-1]
        for key in spec.keys:
            if len(key.qpos):
                key.qpos[int(starts[joints.index(two)])] *= -1


def _correct_inertia(body: MjsBody) -> None:
    """Make impossible inertia, such as that of a frame without mass, that of a ball; it is the same from all sides."""
    xx, yy, zz, xy, xz, yz = body.fullinertia.tolist()
    if body.explicitinertial and np.isfinite(body.fullinertia).all():
        smallest, middle, largest = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if smallest <= 0 or smallest + middle < largest:
            if body.mass > LIGHT:
                logger.warning("link %s has impossible inertia, that of a ball is taken instead", body.name)
            body.mass = max(body.mass, TINY)
            body.fullinertia = [max(abs(largest), TINY**2)] * 3 + [0, 0, 0]


def replace_shapes(spec: MjSpec, robot: Robot) -> None:
    """Replace the shapes of a robot's file, in its editable model, by those of the robot; masses stay as they are."""
    mujoco = libraries.mujoco()
    for geom in list(spec.geoms):
        spec.delete(geom)
    for mesh in list(spec.meshes):
        spec.delete(mesh)
    for link in robot.links:
        body = spec.body(link.name)
        for number, shape in enumerate(link.shapes):
            body.add_geom(
                name=f"{link.name}/{number}",
                type=getattr(mujoco.mjtGeom, f"mjGEOM_{shape.kind.upper()}"),
                size=shape.size,
                pos=shape.link_from_shape.translation,
                quat=shape.link_from_shape.quaternion,
                friction=[shape.friction, 0.005, 0.0001],
                mass=0,
            )


def link_geoms(body: MjsBody) -> list[MjsGeom]:
    """Geoms of a link in its robot's editable model: of its body, and of those that are fixed to it."""
    fixed = [below for below in body.bodies if not below.joints]
    return [*body.geoms, *(geom for below in fixed for geom in link_geoms(below))]


def equip(spec: MjSpec, robot: Robot) -> None:
    """Give a robot's editable model what its file lacks: servos, rotors, grip, weightlessness, a fixed base."""
    driven = {actuator.target for actuator in spec.actuators}
    for actuator in robot.actuators:
        if actuator.joint not in driven:
            servo = spec.add_actuator()
            servo.name = servo.target = actuator.joint
            servo.trntype = libraries.mujoco().mjtTrn.mjTRN_JOINT
            if actuator.mode == "velocity":
                servo.set_to_velocity(kv=actuator.damping)
            else:
                servo.set_to_position(kp=actuator.stiffness, kv=actuator.damping)
            servo.forcelimited, servo.forcerange = True, [-actuator.max_force, actuator.max_force]
    for joint in robot.joints:
        spec.joint(joint.name).armature = joint.armature
    for link in robot.links:
        frictions = {shape.friction for shape in link.shapes}
        for geom in link_geoms(spec.body(link.name)) if len(frictions) == 1 else ():
            geom.friction = [*frictions, *geom.friction[1:]]
    for body in spec.bodies if robot.gravity_compensation else ():
        body.gravcomp = 1
    if robot.fixed_base:
        base = spec.body(robot.links[0].name)
        spec.delete(base.joints[0])
        base.mocap = True
        for key in list(spec.keys):  # they begin with the free base
            spec.delete(key)


def compiled(spec: MjSpec, path: Path) -> MjModel:
    """MuJoCo's model of a file's editable one.

    Raises:
        SimError: When MuJoCo refuses it, or it is too large.
    """
    try:
        model = spec.compile()
        check_compiled(model)
        return model
    except (ValueError, OSError, RuntimeError) as error:
        raise unreadable(error, path) from error


def unreadable(error: Exception, path: Path) -> SimError:
    """The error for a file that can't be read, by what MuJoCo says."""
    lines = str(error).strip().splitlines()
    return SimError(
        "a robot is a URDF or MJCF file that MuJoCo can compile, with all its meshes",
        found=lines[0] if lines else type(error).__name__,
        remedy="correct what it says, or copy the missing files next to it; in a URDF use paths relative to it",
        file=path,
    )
