"""A robot as the engines build it: links, joints, shapes and actuators, read from URDF or MJCF by MuJoCo's compiler."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose
from pipeline.types import F64, I64, Floats, Mask
from sim import libraries
from sim.robots.bounds import check_compiled, check_parsed, check_text
from sim.robots.collada import read_collada

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from mujoco._specs import MjsBody, MjsGeom, MjSpec
    from mujoco._structs import MjData, MjModel

ShapeKind = Literal["box", "sphere", "capsule", "cylinder", "mesh"]

PACKAGE = "package:"
CAMERA_SITE = "camera"
"""Site of an MJCF with the pose of the camera; its axes are OpenCV's."""
HOME = "home"
"""Keyframe of an MJCF with the pose at rest."""
MOUNTED = "arm_"
"""What the names of a mounted robot's links, joints and so on begin with."""
FREE = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
"""Coordinates of a free base at the origin."""
UNCOLORED = [0.5, 0.5, 0.5, 1.0]
"""What MuJoCo paints geoms without a colour."""
LAST_SHOWN = 2
"""Groups of geoms beyond this are hidden, by MuJoCo's custom."""
LIGHT, TINY = 0.01, 1e-6
"""Links lighter than this are frames, which get at least this mass [kg]."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A collision shape.

    Attributes:
        kind: Kind of the shape; a mesh stands for its convex hull.
        size: Box: half edges (3,); sphere: radius; capsule and cylinder: radius and half length along its z [m].
        vertices: (V, 3) of a mesh [m], else (0, 3).
    """

    kind: ShapeKind
    size: F64
    link_from_shape: Pose
    friction: float
    vertices: F64


@dataclass(frozen=True, eq=False)
class Joint:
    """A joint between a link and its parent.

    Attributes:
        name: Unique in the robot.
        kind: hinge [rad] or slide [m].
        axis: (3,) unit vector, link axes.
        anchor: (3,) point on the axis, link axes [m].
        limits: Smallest and largest position, or None.
        armature: Inertia of the rotor.
        max_force: Largest force that the file states; inf without.
        max_speed: Largest speed that a URDF states [rad/s, m/s]; inf without.
        follows: What it is coupled to, if anything.
    """

    name: str
    kind: Literal["hinge", "slide"]
    axis: F64
    anchor: F64
    limits: tuple[float, float] | None
    armature: float
    damping: float
    max_force: float = np.inf
    max_speed: float = np.inf
    follows: Coupling | None = None


@dataclass(frozen=True)
class Coupling:
    """A joint's position is offset + factor * that of another joint: a URDF's `mimic`, an MJCF's joint equality."""

    joint: str
    factor: float
    offset: float


@dataclass(frozen=True, eq=False)
class Link:
    """A rigid part.

    Attributes:
        name: Unique in the robot.
        parent: Index of its parent, -1 for the base; parents come first.
        parent_from_link: Pose with its joint at zero.
        mass: [kg].
        link_from_inertia: Centre of mass and principal axes.
        inertia: (3,) moments about the principal axes [kg m^2].
        joint: Joint to its parent; None for the base and fixed links.
    """

    name: str
    parent: int
    parent_from_link: Pose
    mass: float
    link_from_inertia: Pose
    inertia: F64
    joint: Joint | None
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Actuator:
    """An actuator of a joint: force = stiffness * (target - position) - damping * velocity, or for a target velocity.

    Attributes:
        mode: Meaning of its target; position [rad, m] or velocity [rad/s, m/s].
        stiffness: [N m/rad] or [N/m]; 0 for velocity.
        damping: [N m s/rad] or [N s/m].
        max_force: [N m] or [N].
    """

    joint: str
    mode: Literal["position", "velocity"]
    stiffness: float
    damping: float
    max_force: float


@dataclass(frozen=True)
class Servos:
    """Position actuators at every joint of a robot whose file has none.

    Attributes:
        gains: Stiffness [N m/rad], damping [N m s/rad] and largest force [N m], or the same of slides [N, m], by part
            of the joint's name; the first match counts.
        rest: Joint positions at rest [rad, m], likewise; 0 without any.
        armature: Inertia of the rotors [kg m^2, kg], likewise; the file's without any.
    """

    gains: Mapping[str, tuple[float, float, float]]
    rest: Mapping[str, float]
    armature: Mapping[str, float] = field(default_factory=dict)

    def actuator(self, joint: Joint) -> Actuator:
        """The actuator at a joint, no stronger than the file says that it is."""
        stiffness, damping, force = next(gain for part, gain in self.gains.items() if part in joint.name)
        limit = joint.max_force if joint.max_force > 0 else np.inf
        return Actuator(joint.name, "position", stiffness, damping, min(force, limit))

    def position(self, joint: str) -> float:
        """Where a joint is at rest [rad, m]."""
        return next((position for part, position in self.rest.items() if part in joint), 0.0)

    def with_rotors(self, link: Link) -> Link:
        """A link whose joint has the inertia of its rotor."""
        if link.joint is None:
            return link
        inertia = next((one for part, one in self.armature.items() if part in link.joint.name), link.joint.armature)
        return replace(link, joint=replace(link.joint, armature=inertia))


@dataclass(frozen=True, eq=False)
class Gripper:
    """Fingers that one action opens and shuts.

    Attributes:
        joints: Names of the (F,) joints that move its fingers.
        opened: Their positions when open [m, rad].
        closed: Their positions when shut [m, rad].
        widths: Gap between the fingers [m] at positions evenly spaced from shut to open; grows.
        link: Name of the link that carries the hand (after MuJoCo's compiler merged fixed links).
        link_from_hand: Frame of the hand: origin between the fingertips, z the way it approaches, y the way the
            fingers shut.
    """

    joints: tuple[str, ...]
    opened: tuple[float, ...]
    closed: tuple[float, ...]
    widths: tuple[float, ...]
    link: str
    link_from_hand: Pose

    def positions(self, share: Floats) -> F64:
        """Positions (N, F) of the joints for shares (N, 1) of the way from shut to open."""
        return np.asarray(np.array(self.closed) + share * np.subtract(self.opened, self.closed), np.float64)

    def width(self, positions: Floats) -> F64:
        """Gaps (N,) between the fingers [m] at positions (N, F) of the joints."""
        share = ((positions - np.array(self.closed)) / (np.array(self.opened) - np.array(self.closed))).mean(1)
        return np.interp(share, np.linspace(0, 1, len(self.widths)), self.widths)


@dataclass(frozen=True, eq=False)
class Mount:
    """A robot that another one carries, such as an arm; names of its parts begin with `MOUNTED`.

    Attributes:
        file: The carried robot's URDF or MJCF.
        link: Name of the link that carries it.
        link_from_base: Pose of the carried robot's base, which is fixed there.
    """

    file: Path
    link: str
    link_from_base: Pose


@dataclass(frozen=True, eq=False)
class Robot:
    """A robot, with a base that is free or fixed.

    Attributes:
        links: The base first.
        actuators: In the order of the joints they drive.
        default_position: (J,) joint positions at rest, in the order of `joint_names`.
        base_height: Height of the base's origin above the ground at rest [m].
        radius: Radius of the circle around the base's vertical axis that contains it at rest [m].
        height: Height of its highest point above the ground at rest [m].
        base_from_camera: Default mount of a camera.
        reduced: Whether its shapes are those of `sim.robots.legs.reduced` instead of its file's.
        fixed_base: Whether the base stays where a reset puts it.
        gravity_compensation: Whether its links are weightless: its real controller carries them.
        gripper: Its fingers, if it has any.
        mount: What of it is not in its own file.
        self_contacts: Pairs of links, by number, that touch each other (`sim.robots.self_contacts`).
    """

    name: str
    file: Path
    links: tuple[Link, ...]
    actuators: tuple[Actuator, ...]
    default_position: F64
    base_height: float
    radius: float
    height: float
    base_from_camera: Pose
    reduced: bool = False
    fixed_base: bool = False
    gravity_compensation: bool = False
    gripper: Gripper | None = None
    mount: Mount | None = None
    self_contacts: tuple[tuple[int, int], ...] = ()

    @property
    def joints(self) -> tuple[Joint, ...]:
        """The moving joints, in the order of every (N, J) array."""
        return tuple(link.joint for link in self.links if link.joint)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def limits(self) -> F64:
        """Smallest and largest positions (2, J) of the joints [rad, m]; infinite without limits."""
        return np.array([joint.limits or (-np.inf, np.inf) for joint in self.joints]).T

    @property
    def driven(self) -> I64:
        """Columns (A,) of the actuators' joints in joint arrays."""
        names = self.joint_names
        return np.array([names.index(actuator.joint) for actuator in self.actuators], np.int64)

    @property
    def fingers(self) -> tuple[int, ...]:
        """Indices of the links that its gripper's joints move, and of the one that they are at if they move one jaw."""
        if self.gripper is None:
            return ()
        moved = [link.joint is not None and link.joint.name in self.gripper.joints for link in self.links]
        carries = len(self.gripper.joints) == 1
        return tuple(n for n, link in enumerate(self.links) if moved[n] or (carries and link.name == self.gripper.link))

    @property
    def mass(self) -> float:
        """Mass of all links [kg]."""
        return sum(link.mass for link in self.links)


@dataclass(frozen=True, eq=False)
class Visual:
    """Part of what a robot's file shows, which touches nothing.

    Attributes:
        link: Name of its link.
        shape: Where it is; of a mesh, all vertices and not only those of its hull.
        triangles: (T, 3) of a mesh, counter-clockwise from outside, else (0, 3).
        color: Red, green, blue, 0..1; None where the file has none.
    """

    link: str
    shape: Shape
    triangles: I64
    color: tuple[float, float, float] | None


def read_visuals(path: Path, mount: Mount | None = None) -> list[Visual]:
    """What a robot's file shows, and that of what is mounted on it.

    Raises:
        SimError: When it can't be read, such as a mesh in a format that MuJoCo doesn't know.
    """
    model = _compile(read_spec(path, mount, shown=True), path)
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
        _compile(spec, path)  # until then its keyframes can't be attached to anything else
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
        raise _unreadable(error, path) from error
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
            servo.set_to_position(kp=actuator.stiffness, kv=actuator.damping)
            servo.forcelimited, servo.forcerange = True, [-actuator.max_force, actuator.max_force]
    for joint in robot.joints:
        spec.joint(joint.name).armature = joint.armature
    for finger in robot.fingers:
        link = robot.links[finger]
        for geom in link_geoms(spec.body(link.name)) if link.shapes else ():
            geom.friction = [link.shapes[0].friction, *geom.friction[1:]]
    for body in spec.bodies if robot.gravity_compensation else ():
        body.gravcomp = 1
    if robot.fixed_base:
        base = spec.body(robot.links[0].name)
        spec.delete(base.joints[0])
        base.mocap = True
        for key in list(spec.keys):  # they begin with the free base
            spec.delete(key)


def load_robot(path: Path, name: str | None = None, servos: Servos | None = None, mount: Mount | None = None) -> Robot:
    """Load a URDF or MJCF file with one robot; a keyframe named `home`, if any, is its pose at rest.

    With a mount, it carries another one. Meshes are searched relative to the file; servos are for files without
    actuators, such as URDFs.

    Raises:
        SimError: When the file can't be read, a mesh is missing, or it isn't one robot with hinges and slides.
    """
    model = _compile(read_spec(path, mount), path)
    robot = _robot_of(model, path, name or path.stem, servos)
    speeds = _speeds(path) if path.suffix == ".urdf" else {}
    links = [
        replace(link, joint=replace(link.joint, max_speed=speeds.get(link.joint.name, np.inf))) if link.joint else link
        for link in robot.links
    ]
    return replace(robot, links=tuple(links), mount=mount)


def _compile(spec: MjSpec, path: Path) -> MjModel:
    try:
        model = spec.compile()
        check_compiled(model)
        return model
    except (ValueError, OSError, RuntimeError) as error:
        raise _unreadable(error, path) from error


def _speeds(path: Path) -> dict[str, float]:
    """Largest speeds of a URDF's joints [rad/s, m/s], which MuJoCo's compiler drops; none of those that are 0."""
    try:
        limits = {joint.get("name", ""): joint.find("limit") for joint in ElementTree.parse(path).iter("joint")}
        speeds = {name: float(limit.get("velocity", 0)) for name, limit in limits.items() if limit is not None}
    except (ElementTree.ParseError, ValueError) as error:  # of what MuJoCo doesn't read, or takes all the same
        raise _unreadable(error, path) from error
    return {name: speed for name, speed in speeds.items() if speed > 0}


def _unreadable(error: Exception, path: Path) -> SimError:
    lines = str(error).strip().splitlines()
    return SimError(
        "a robot is a URDF or MJCF file that MuJoCo can compile, with all its meshes",
        found=lines[0] if lines else type(error).__name__,
        remedy="correct what it says, or copy the missing files next to it; in a URDF use paths relative to it",
        file=path,
    )


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
        actuators=tuple(servos.actuator(link.joint) for link in links if link.joint)
        if servos
        else _actuators(model, path),
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
