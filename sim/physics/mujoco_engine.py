"""MuJoCo on the CPU: the mesh as a rigid flex."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from pipeline.errors import SimError
from pipeline.geometry import Mesh, matrix_from_quaternion
from pipeline.types import F32, I64
from sim import libraries
from sim.physics.bodies import BodyState, RigidBody
from sim.physics.mujoco_bodies import SCENE, Coordinates, add_bodies
from sim.physics.state import Dynamics, PhysicsEngine
from sim.robots.collada import is_solid
from sim.robots.model import Robot
from sim.robots.spec import equip, link_geoms, read_spec, replace_shapes
from sim.robots.state import RobotState

if TYPE_CHECKING:
    from mujoco._specs import MjSpec
    from mujoco._structs import MjModel

SKIN = 0.005
"""Radius of the mesh's triangles [m]: without, thin bodies slip through."""
EVEN, MOST_SKINS = 1e-3, 2.0
"""Planes count as one that differ by less than the first, a share of their weight; no vertex moves by more skins."""
STIFF = (0.008, 1.0)
"""solref of contacts: the default lets bodies sink in by centimetres at these time steps."""
MAX_STEP = STIFF[0] / 2
"""Longest step [s]: MuJoCo's contacts soften with two steps' length, and robots jitter on them."""
GRASP_STEP = 0.0025
"""Longest step with a gripper [s]: in longer ones what it holds is squeezed out."""
GRASP_SOLREF, GRASP_SOLIMP, GRASP_IMPRATIO = (2 * GRASP_STEP, 1.0), (0.95, 0.99, 0.001, 0.5, 2.0), 10.0
TWIST, ROLL = 0.02, 0.001
"""Contacts and couplings of fingers: as stiff as that step allows, with friction stiffer than pressure, and that of
turning [m]."""
MAX_WITH_BODIES = 30
"""Bits of contype beside the scenes'; they are the robots' own, for their loose bodies."""


def below_skin(mesh: Mesh) -> Mesh:
    """A mesh whose triangles' skin ends where the mesh was: each vertex is `SKIN` behind the planes that meet there.

    By least squares over the triangles around a vertex, weighted by area; edges and corners come out exact.
    """
    normals, areas, count = mesh.face_normals(), mesh.face_areas()[:, None], len(mesh.vertices)
    rows = mesh.triangles.ravel()
    around = csr_array((np.ones(len(rows)), (rows, np.repeat(np.arange(len(areas)), 3))), (count, len(areas)))
    planes = (around @ (areas * np.einsum("fi,fj->fij", normals, normals).reshape(-1, 9))).reshape(-1, 3, 3)
    size = np.trace(planes, axis1=1, axis2=2)[:, None, None]
    planes += np.where(size > 0, EVEN * size, 1) * np.eye(3)  # along a plane: not at all
    moved = np.linalg.solve(planes, (around @ (-SKIN * areas * normals))[..., None])[..., 0]
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    moved *= np.minimum(1, MOST_SKINS * SKIN / np.maximum(length, SKIN))
    return replace(mesh, vertices=(mesh.vertices + moved).astype(np.float32))


class MujocoEngine(PhysicsEngine):
    """One MuJoCo world that holds all scenes side by side.

    Time steps longer than `MAX_STEP`, or than `GRASP_STEP` with a gripper, are split.
    """

    has_bodies = True
    has_fixed_bases = True
    has_self_contacts = True

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[Mesh],
        num_robots: int,
        time_step: float = 0.004,
        bodies: Sequence[Sequence[RigidBody]] = (),
    ) -> None:
        super().__init__(robot, scenes, num_robots, time_step, bodies)
        if self.bodies and num_robots > MAX_WITH_BODIES:
            raise SimError(
                f"this engine has loose bodies for up to {MAX_WITH_BODIES} robots",
                found=f"{num_robots} robots",
                remedy="engine sapien, or fewer robots",
            )
        self._mujoco = libraries.mujoco()
        self._inner = math.ceil(time_step / (GRASP_STEP if robot.gripper else MAX_STEP) - 1e-6)
        self._forces = np.zeros((num_robots, len(robot.links), 3), np.float32)
        self._model = self._compile()
        self._data = self._mujoco.MjData(self._model)
        self._find_columns()
        nominal = ("geom_friction", "body_mass", "body_inertia", "actuator_gainprm", "actuator_biasprm")
        self._nominal = {name: getattr(self._model, name).copy() for name in (*nominal, "actuator_forcerange")}

    def _compile(self) -> MjModel:
        mujoco, robot = self._mujoco, self._robot
        world = mujoco.MjSpec()
        world.option.timestep = self.time_step / self._inner
        world.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        world.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        if robot.gripper:
            world.option.impratio = GRASP_IMPRATIO
        for mesh, offset in zip(self._scenes, self._offsets, strict=True):
            ground = world.add_flex()
            ground.dim, ground.vertbody, ground.radius = 2, ["world"], SKIN
            ground.vert = (below_skin(mesh).vertices + offset).ravel().tolist()
            ground.elem = mesh.triangles.ravel().tolist()
            ground.selfcollide = mujoco.mjtFlexSelf.mjFLEXSELF_NONE
            ground.contype, ground.conaffinity = 1, 0
            ground.solref = STIFF
            ground.friction = [0, *ground.friction[1:]]  # what touches it has its own
        for number in range(self.num_robots):
            spec = read_spec(robot.file, robot.mount)
            if robot.reduced:
                replace_shapes(spec, robot)
            for geom in spec.geoms:
                geom.contype, geom.conaffinity = 0, (SCENE | _own(number)) * int(is_solid(geom))
                geom.priority, geom.solref = 2, [*STIFF]
            equip(spec, robot)
            self._prepare_hand(spec, number)
            self._pair(spec)
            frame = world.worldbody.add_frame()
            world.attach(spec, prefix=f"{number}/", frame=frame)
        owners = {f"{number}/": _own(number) for number in range(self.num_robots)}
        add_bodies(world, self.bodies, owners, STIFF, self._offsets[self.scene_of_body])
        return world.compile()

    def _prepare_hand(self, spec: MjSpec, number: int) -> None:
        """Let a robot's fingers hold; a fixed base doesn't touch the scene."""
        for coupling in spec.equalities if self._robot.gripper else ():
            coupling.solref, coupling.solimp = [*GRASP_SOLREF], [*GRASP_SOLIMP]
        for finger in self._robot.fingers:
            for geom in link_geoms(spec.body(self.link_names[finger])):
                geom.condim, geom.friction = 4, [geom.friction[0], TWIST, ROLL]
                geom.solref, geom.solimp = [*GRASP_SOLREF], [*GRASP_SOLIMP]
        for geom in link_geoms(spec.body(self.link_names[0])) if self._robot.fixed_base else ():
            geom.conaffinity &= ~SCENE

    def _pair(self, spec: MjSpec) -> None:
        """Let a robot's links touch each other; bits of contype don't tell whose they are."""
        links = {number for pair in self._robot.self_contacts for number in pair}
        geoms = {
            link: [geom for geom in link_geoms(spec.body(self.link_names[link])) if is_solid(geom)] for link in links
        }
        for number, geom in enumerate(geom for own in geoms.values() for geom in own):
            geom.name = geom.name or f"self/{number}"
        for one, two in self._robot.self_contacts:
            for first, second in product(geoms[one], geoms[two]):
                spec.add_pair(geomname1=first.name, geomname2=second.name, solref=[*STIFF])

    def _find_columns(self) -> None:
        """Find the indices of each robot's values in MuJoCo's arrays."""
        model, robots = self._model, range(self.num_robots)
        bodies = np.array([[model.body(f"{n}/{name}").id for name in self.link_names] for n in robots])
        joints = np.array([[model.joint(f"{n}/{name}").id for name in self.joint_names] for n in robots], np.int64)
        joints = joints.reshape(self.num_robots, len(self.joint_names))
        root = model.body_jntadr[bodies[:, 0]]
        self._mocap = model.body_mocapid[bodies[:, 0]]
        across = 0 if self._robot.fixed_base else 1  # a fixed base has no coordinates
        self._pose_at = model.jnt_qposadr[root][:, None] + np.arange(7 * across)
        self._twist_at = model.jnt_dofadr[root][:, None] + np.arange(6 * across)
        self._position_at, self._rate_at = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        driven = {int(model.actuator_trnid[a, 0]): a for a in range(model.nu)}
        self._control_at = np.array([[driven[int(j)] for j in joints[n, self._driven]] for n in robots], np.int64)
        self._control_at = self._control_at.reshape(self.num_robots, len(self._driven))
        self._robot_of_body, self._link_of_body = np.full(model.nbody, -1), np.full(model.nbody, -1)
        self._robot_of_body[bodies] = np.arange(self.num_robots)[:, None]
        self._link_of_body[bodies] = np.arange(len(self.link_names))
        for body in range(1, model.nbody):  # a URDF's fixed links are bodies here, but parts of a link in `Robot`
            if self._robot_of_body[body] < 0:
                parent = model.body_parentid[body]
                self._robot_of_body[body] = self._robot_of_body[parent]
                self._link_of_body[body] = self._link_of_body[parent]
        self._robot_of_geom = self._robot_of_body[model.geom_bodyid]
        self._coordinates = Coordinates(self.bodies, model, [f"{number}/" for number in robots])

    def reset(self, robots: I64, state: RobotState, scenes: I64) -> None:
        """Put robots (M,) into states of length M, in scenes (M,)."""
        data = self._data
        self._scene_of[robots] = scenes
        position = state.position + self._offsets_of(robots, scenes)
        if self._robot.fixed_base:
            data.mocap_pos[self._mocap[robots]], data.mocap_quat[self._mocap[robots]] = position, state.quaternion
        else:
            data.qpos[self._pose_at[robots, :3]] = position
            data.qpos[self._pose_at[robots, 3:]] = state.quaternion
            data.qvel[self._twist_at[robots, :3]] = state.linear_velocity
            turned = np.einsum("nji,nj->ni", state.world_from_base, state.angular_velocity)
            data.qvel[self._twist_at[robots, 3:]] = turned
        data.qpos[self._position_at[robots]] = state.joint_position
        data.qvel[self._rate_at[robots]] = state.joint_velocity
        data.ctrl[self._control_at[robots]] = state.joint_position[:, self._driven] * self._is_position
        data.qacc_warmstart[self._twist_at[robots]] = 0
        data.qacc_warmstart[self._rate_at[robots]] = 0

    def set_targets(self, targets: F32) -> None:
        """Set the actuators' targets (N, A)."""
        self._data.ctrl[self._control_at] = targets

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        self._mujoco.mj_step(self._model, self._data, (substeps - 1) * self._inner)
        self._forces[:] = 0
        for _ in range(self._inner):
            self._mujoco.mj_step(self._model, self._data)
            self._forces += self._forces_now() / np.float32(self._inner)

    def read(self) -> RobotState:
        """Current state of all robots."""
        data = self._data
        if self._robot.fixed_base:
            position, quaternion = data.mocap_pos[self._mocap], data.mocap_quat[self._mocap]
            linear = angular = np.zeros_like(position)
        else:
            position, quaternion = data.qpos[self._pose_at[:, :3]], data.qpos[self._pose_at[:, 3:]]
            linear, angular = data.qvel[self._twist_at[:, :3]], data.qvel[self._twist_at[:, 3:]]
        quaternion = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
        arrays = (
            position - self._offsets_now,
            quaternion * np.where(quaternion[:, :1] < 0, -1, 1),
            linear,
            np.einsum("nij,nj->ni", matrix_from_quaternion(quaternion), angular),
            data.qpos[self._position_at],
            data.qvel[self._rate_at],
        )
        return RobotState(*(array.astype(np.float32) for array in arrays))

    def place_bodies(self, robots: I64, state: BodyState, *, asleep: bool = False) -> None:
        """Put the bodies of robots (M,) into states of length M."""
        data, present, columns = self._data, self._present(robots), self._coordinates
        values, rates = columns.of(state, present, self._offsets_of(robots, self._scene_of[robots]))
        data.qpos[columns.value_at[robots]], data.qvel[columns.rate_at[robots]] = values, rates
        self._model.body_gravcomp[columns.number[robots]] = ~present | state.absent
        data.qacc_warmstart[columns.rate_at[robots]] = 0

    def read_bodies(self) -> BodyState:
        """Current state of all bodies."""
        columns, present = self._coordinates, self._present(np.arange(self.num_robots))
        values, rates = self._data.qpos[columns.value_at], self._data.qvel[columns.rate_at]
        return columns.state(values, rates, present, self._offsets_now)

    def contact_forces(self) -> F32:
        """Mean normal force of the scene on each link in the last substep (N, L, 3), world axes [N]."""
        return self._forces.copy()

    def _forces_now(self) -> F32:
        data, forces = self._data, np.zeros_like(self._forces)
        contact = data.contact
        owner = np.where(contact.geom >= 0, self._robot_of_geom[contact.geom], -1)
        active = (contact.efc_address >= 0) & ~(owner >= 0).all(1)  # not of a robot's links with each other
        # elliptic cones: the normal force, then both frictions
        in_world = contact.frame[active, :3] * data.efc_force[contact.efc_address[active], None]
        for side, sign in ((0, -1.0), (1, 1.0)):  # the normal points from the first to the second
            geom = contact.geom[active, side]
            ours = (geom >= 0) & (self._robot_of_geom[geom] >= 0)  # the mesh is no geom, and a loose body no link
            body = self._model.geom_bodyid[geom[ours]]
            np.add.at(forces, (self._robot_of_body[body], self._link_of_body[body]), sign * in_world[ours])
        return forces

    def push(self, robots: I64, velocity: F32) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]."""
        if not self._robot.fixed_base:
            self._data.qvel[self._twist_at[robots, :3]] += velocity

    def set_dynamics(self, robots: I64, dynamics: Dynamics) -> None:
        """Set friction, mass and motor strength of robots (M,)."""
        self._dynamics[:, robots] = dynamics.friction, dynamics.mass, dynamics.strength
        self._rub(robots)
        model, nominal = self._model, self._nominal
        bases = np.flatnonzero(np.isin(self._robot_of_body, robots) & (self._link_of_body == 0))
        mass = self._dynamics[1, self._robot_of_body[bases]]
        model.body_mass[bases] = nominal["body_mass"][bases] * mass
        model.body_inertia[bases] = nominal["body_inertia"][bases] * mass[:, None]
        for name in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):
            columns = self._control_at[robots]
            getattr(model, name)[columns] = nominal[name][columns] * self._dynamics[2, robots, None, None]

    def _rub(self, robots: I64) -> None:
        geoms = np.flatnonzero(np.isin(self._robot_of_geom, robots))
        links = self._link_of_body[self._model.geom_bodyid[geoms]]
        factor = self._frictions(self._robot_of_geom[geoms])[np.arange(len(geoms)), links]
        self._model.geom_friction[geoms, 0] = self._nominal["geom_friction"][geoms, 0] * factor

    def _arrays(self) -> dict[str, np.ndarray]:
        state = np.empty(self._mujoco.mj_stateSize(self._model, self._mujoco.mjtState.mjSTATE_INTEGRATION))
        self._mujoco.mj_getState(self._model, self._data, state, self._mujoco.mjtState.mjSTATE_INTEGRATION)
        weightless = self._model.body_gravcomp[self._coordinates.number]
        return {"world": state, "scenes": self._scene_of, "dynamics": self._dynamics, "weightless": weightless}

    def _set_arrays(self, saved: Mapping[str, np.ndarray]) -> None:
        self._scene_of[:] = saved["scenes"]
        self.set_dynamics(np.arange(self.num_robots), Dynamics(*saved["dynamics"]))
        self._model.body_gravcomp[self._coordinates.number] = saved["weightless"]
        whole = self._mujoco.mjtState.mjSTATE_INTEGRATION
        self._mujoco.mj_setState(self._model, self._data, saved["world"], whole)


def _own(robot: int) -> int:
    """Bit of a robot and its bodies."""
    return SCENE << 1 + robot % MAX_WITH_BODIES
