"""What the fake's `Gym` does: Isaac Gym's rules and conventions over a MuJoCo model of all actors.

Its rules: structures are copies until set; all actors before prepare_sim; what is written into a tensor counts at the
next simulate if set_..._indexed was called, once, with int32 indices; fetch_results before refresh_... on the CPU; no
refresh between set and simulate. Its conventions: quaternions xyzw, DOFs and bodies depth first by name, friction the
mean of both sides', the root's linear velocity that of the mass centre, unless the environment variable
FAKE_ISAACGYM_VELOCITY says `origin`, for the documentation leaves it open; FAKE_ISAACGYM_PIPELINE=gpu makes it strict
about masses, as the pipeline on a GPU is.
"""
# ruff: noqa: D101, D102 (they are Isaac Gym's)

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from isaacgym import gymapi, gymtorch

DOF = np.dtype(
    [
        ("hasLimits", "?"),
        ("lower", "f4"),
        ("upper", "f4"),
        ("driveMode", "i4"),
        ("velocity", "f4"),
        ("effort", "f4"),
        ("stiffness", "f4"),
        ("damping", "f4"),
        ("friction", "f4"),
        ("armature", "f4"),
    ]
)
"""After the documentation of GymDofProperties; not in the stubs."""
SKIN = 0.005
"""Radius of the flex that stands for a triangle mesh [m]."""


@dataclass
class Ground:
    vertices: np.ndarray
    triangles: np.ndarray
    friction: float


@dataclass
class Robot:
    """An asset: a URDF, and the order that Isaac Gym gives its parts."""

    file: Path
    bodies: list[str]
    dofs: list[str]
    shapes: list[int]


@dataclass
class Actor:
    robot: Robot
    pose: Any
    group: int
    dof: np.ndarray
    friction: np.ndarray
    mass: np.ndarray
    inertia: np.ndarray
    centre: np.ndarray


@dataclass
class World:
    params: Any
    grounds: list[Ground] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    model: Any = None
    data: Any = None
    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    pending: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    fetched: bool = True


class Physics:
    """One method for each that the worker calls, with the stub's arguments."""

    def create_sim(self, compute: int, graphics: int, kind: Any, params: Any) -> Any:
        assert kind is gymapi.SIM_PHYSX and params.up_axis is gymapi.UP_AXIS_Z and params.substeps == 1
        assert not params.use_gpu_pipeline and not params.physx.use_gpu, "the fake has no GPU"
        return _handle(gymapi.Sim, World(params))

    def add_triangle_mesh(self, sim: Any, vertices: np.ndarray, triangles: np.ndarray, params: Any) -> None:
        assert vertices.shape == (3 * params.nb_vertices,) and triangles.shape == (3 * params.nb_triangles,)
        at, friction = params.transform.p, params.static_friction
        moved = vertices.reshape(-1, 3) + np.array([at.x, at.y, at.z])
        sim.own.grounds.append(Ground(moved, triangles.reshape(-1, 3).astype(np.int64), friction))

    def load_asset(self, sim: Any, folder: str, name: str, options: Any) -> Any:
        assert not (options.fix_base_link or options.collapse_fixed_joints or options.override_com)
        assert not (options.override_inertia or options.linear_damping or options.angular_damping or options.armature)
        file = Path(folder) / name
        model = _spec(file).compile()
        order = _by_name(model, 1)
        joints = [int(model.body_jntadr[body]) for body in order[1:] if model.body_jntnum[body]]
        robot = Robot(
            file,
            [model.body(body).name for body in order],
            [model.joint(joint).name for joint in joints],
            [int(model.body_geomnum[body]) for body in order],
        )
        return _handle(gymapi.Asset, robot)

    def get_asset_dof_names(self, asset: Any) -> list[str]:
        return list(asset.own.dofs)

    def get_asset_rigid_body_names(self, asset: Any) -> list[str]:
        return list(asset.own.bodies)

    def get_asset_rigid_body_shape_indices(self, asset: Any) -> list[Any]:
        spans, start = [], 0
        for count in asset.own.shapes:
            span = gymapi.IndexRange()
            span.start, span.count = start, count
            spans.append(span)
            start += count
        return spans

    def create_env(self, sim: Any, low: Any, high: Any, per_row: int) -> Any:
        assert sim.own.model is None, "environments come before prepare_sim"
        assert (low.x, low.y, high.x, high.y) == (0, 0, 0, 0), "environments are moved apart by their size"
        return _handle(gymapi.Env, [sim.own])

    def create_actor(self, env: Any, asset: Any, pose: Any, name: str, group: int, mask: int, label: int = 0) -> int:
        (world,) = env.own
        robot = asset.own
        assert mask != 0, "links of the actor would touch each other"
        assert group not in [actor.group for actor in world.actors], "actors of a group touch each other"
        model = _spec(robot.file).compile()
        bodies = [model.body(name).id for name in robot.bodies]
        turns = np.zeros((len(bodies), 9))
        for row, body in enumerate(bodies):
            mujoco.mju_quat2Mat(turns[row], model.body_iquat[body])
        turns = turns.reshape(-1, 3, 3)
        dof = np.zeros(len(robot.dofs), DOF)
        dof["effort"], dof["damping"] = 1e-3, 50.0  # of no use, so that the worker has to set them
        world.actors.append(
            Actor(
                robot,
                pose,
                group,
                dof,
                np.ones(sum(robot.shapes)),
                model.body_mass[bodies].copy(),
                np.einsum("bij,bj,bkj->bik", turns, model.body_inertia[bodies], turns),
                model.body_ipos[bodies].copy(),
            )
        )
        env.own.append(world.actors[-1])
        return 0

    def get_actor_rigid_shape_properties(self, env: Any, actor: int) -> list[Any]:
        found = []
        for friction in env.own[1 + actor].friction:
            shape = gymapi.RigidShapeProperties()
            shape.friction = float(friction)
            found.append(shape)
        return found

    def set_actor_rigid_shape_properties(self, env: Any, actor: int, shapes: list[Any]) -> bool:
        assert len(shapes) == len(env.own[1 + actor].friction) and not any(shape.restitution for shape in shapes)
        env.own[1 + actor].friction[:] = [shape.friction for shape in shapes]
        return True

    def get_actor_rigid_body_properties(self, env: Any, actor: int) -> list[Any]:
        own, found = env.own[1 + actor], []
        for mass, inertia, centre in zip(own.mass, own.inertia, own.centre, strict=True):
            body = gymapi.RigidBodyProperties()
            body.mass, body.com = float(mass), gymapi.Vec3(*centre)
            body.inertia.x, body.inertia.y, body.inertia.z = (gymapi.Vec3(*row) for row in inertia)
            found.append(body)
        return found

    def set_actor_rigid_body_properties(self, env: Any, actor: int, bodies: list[Any], recompute: bool) -> bool:
        assert not recompute
        own = env.own[1 + actor]
        if os.environ.get("FAKE_ISAACGYM_PIPELINE") == "gpu" and env.own[0].model is not None:
            return False  # masses are those of prepare_sim
        own.mass[:] = [body.mass for body in bodies]
        for row, body in enumerate(bodies):
            own.inertia[row] = [[axis.x, axis.y, axis.z] for axis in (body.inertia.x, body.inertia.y, body.inertia.z)]
        return True

    def get_actor_dof_properties(self, env: Any, actor: int) -> np.ndarray:
        return env.own[1 + actor].dof.copy()

    def set_actor_dof_properties(self, env: Any, actor: int, dof: np.ndarray) -> bool:
        assert dof.dtype == DOF and dof.shape == env.own[1 + actor].dof.shape
        env.own[1 + actor].dof[:] = dof
        return True

    def prepare_sim(self, sim: Any) -> bool:
        world = sim.own
        spec = _empty(world.params)
        for ground in world.grounds:
            _add_ground(spec, ground)
        for number, actor in enumerate(world.actors):
            spec.attach(_spec(actor.robot.file), prefix=f"{number}/", frame=spec.worldbody.add_frame())
        world.model = spec.compile()
        world.data = mujoco.MjData(world.model)
        _find_columns(world)
        for number, actor in enumerate(world.actors):
            place = [actor.pose.p.x, actor.pose.p.y, actor.pose.p.z]
            world.data.qpos[world.pose_at[number]] = [*place, 1, 0, 0, 0]
        mujoco.mj_kinematics(world.model, world.data)
        return True

    def acquire_actor_root_state_tensor(self, sim: Any) -> Any:
        return _buffer(sim.own, "root", (len(sim.own.actors), 13))

    def acquire_dof_state_tensor(self, sim: Any) -> Any:
        return _buffer(sim.own, "dof", (sim.own.position_at.size, 2))

    def acquire_net_contact_force_tensor(self, sim: Any) -> Any:
        return _buffer(sim.own, "contact", (sim.own.body_at.size, 3))

    def acquire_rigid_body_state_tensor(self, sim: Any) -> Any:
        return _buffer(sim.own, "body", (sim.own.body_at.size, 13))

    def refresh_actor_root_state_tensor(self, sim: Any) -> bool:
        world = _readable(sim.own)
        pose, twist = world.data.qpos[world.pose_at], world.data.qvel[world.twist_at]
        turns = _turns(pose[:, 3:])
        angular = np.einsum("nij,nj->ni", turns, twist[:, 3:])
        linear = twist[:, :3] + _arm_velocity(world, turns, angular)
        world.buffers["root"][:] = np.c_[pose[:, :3], np.roll(pose[:, 3:], -1, 1), linear, angular]
        return True

    def refresh_dof_state_tensor(self, sim: Any) -> bool:
        world = _readable(sim.own)
        position, rate = world.data.qpos[world.position_at], world.data.qvel[world.rate_at]
        world.buffers["dof"][:] = np.stack([position, rate], -1).reshape(-1, 2)
        return True

    def refresh_net_contact_force_tensor(self, sim: Any) -> bool:
        world = _readable(sim.own)
        data, forces = world.data, np.zeros((world.model.nbody, 3))
        active = data.contact.efc_address >= 0
        # PhysX tells no friction
        in_world = data.contact.frame[active, :3] * data.efc_force[data.contact.efc_address[active], None]
        for side, sign in ((0, -1.0), (1, 1.0)):
            geom = data.contact.geom[active, side]
            np.add.at(forces, world.model.geom_bodyid[geom[geom >= 0]], sign * in_world[geom >= 0])
        world.buffers["contact"][:] = forces[world.body_at.ravel()]
        return True

    def refresh_rigid_body_state_tensor(self, sim: Any) -> bool:
        """Velocities are left out: nothing reads them, and NaN would show it."""
        world, bodies = _readable(sim.own), sim.own.body_at.ravel()
        turns = np.roll(world.data.xquat[bodies], -1, 1)
        world.buffers["body"][:] = np.c_[world.data.xpos[bodies], turns, np.full((len(bodies), 6), np.nan)]
        return True

    def set_actor_root_state_tensor_indexed(self, sim: Any, state: Any, indices: Any, count: int) -> bool:
        return _hold(sim.own, "root", state, indices, count)

    def set_dof_state_tensor_indexed(self, sim: Any, state: Any, indices: Any, count: int) -> bool:
        return _hold(sim.own, "dof", state, indices, count)

    def set_dof_position_target_tensor(self, sim: Any, target: Any) -> bool:
        return _aim(sim.own, gymapi.DOF_MODE_POS, target)

    def set_dof_velocity_target_tensor(self, sim: Any, target: Any) -> bool:
        return _aim(sim.own, gymapi.DOF_MODE_VEL, target)

    def simulate(self, sim: Any) -> None:
        world = sim.own
        _misbehave()
        _apply_pending(world)
        for number, actor in enumerate(world.actors):
            _apply_properties(world, number, actor)
        mujoco.mj_step(world.model, world.data)
        mujoco.mj_kinematics(world.model, world.data)
        world.fetched = False

    def fetch_results(self, sim: Any, wait: bool) -> None:
        assert wait
        sim.own.fetched = True


def _misbehave() -> None:
    """As the environment variable FAKE_ISAACGYM_FAILURE asks: raise, die or hang."""
    asked = os.environ.get("FAKE_ISAACGYM_FAILURE", "")
    if asked == "raise":
        raise ValueError("PhysX is out of luck")
    if asked == "die":
        print("PhysX says: a segment at fault", file=sys.stderr, flush=True)  # noqa: T201
        os.kill(os.getpid(), 11)
    if asked == "hang":
        time.sleep(600)


def _handle(kind: Any, own: Any) -> Any:
    made = kind.__new__(kind)
    object.__setattr__(made, "own", own)
    return made


def _spec(file: Path) -> Any:
    """The URDF with a free base and all its links; robots collide with the ground only."""
    spec = mujoco.MjSpec.from_file(str(file))
    spec.compiler.fusestatic = False
    spec.worldbody.first_body().add_freejoint()
    for mesh in spec.meshes:
        mesh.file = str(file.parent / mesh.file)
    for geom in spec.geoms:
        geom.contype, geom.conaffinity, geom.priority, geom.solref = 0, 1, 1, [0.008, 1.0]
    for joint in spec.joints:
        joint.damping[:], joint.actfrclimited = 0, mujoco.mjtLimited.mjLIMITED_FALSE  # both are DOF properties
        if joint.type != mujoco.mjtJoint.mjJNT_FREE:
            drive = spec.add_actuator()
            drive.name = drive.target = joint.name
            drive.trntype, drive.biastype = mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtBias.mjBIAS_AFFINE
            drive.forcelimited, drive.forcerange = True, [-1, 1]
    return spec


def _empty(params: Any) -> Any:
    spec = mujoco.MjSpec()
    spec.option.timestep = params.dt
    spec.option.gravity = [params.gravity.x, params.gravity.y, params.gravity.z]
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    return spec


def _add_ground(spec: Any, ground: Ground) -> None:
    made = spec.add_flex()
    made.dim, made.vertbody, made.radius = 2, ["world"], SKIN
    made.vert = (ground.vertices - [0, 0, SKIN]).ravel().tolist()
    made.elem = ground.triangles.ravel().tolist()
    made.selfcollide = mujoco.mjtFlexSelf.mjFLEXSELF_NONE
    made.contype, made.conaffinity, made.solref = 1, 0, [0.008, 1.0]


def _by_name(model: Any, body: int) -> list[int]:
    """The body and all below it, depth first, children by name."""
    children = [b for b in range(body + 1, model.nbody) if model.body_parentid[b] == body]
    below = [_by_name(model, child) for child in sorted(children, key=lambda b: model.body(b).name)]
    return [body, *(b for branch in below for b in branch)]


def _find_columns(world: World) -> None:
    """Where each actor's numbers are in MuJoCo's arrays, in Isaac Gym's order."""
    model, actors = world.model, world.actors
    world.body_at = np.array([[model.body(f"{n}/{b}").id for b in a.robot.bodies] for n, a in enumerate(actors)])
    joints = [[model.joint(f"{n}/{d}").id for d in a.robot.dofs] for n, a in enumerate(actors)]
    at = np.array(joints, np.int64).reshape(len(actors), -1)
    world.position_at, world.rate_at = model.jnt_qposadr[at], model.jnt_dofadr[at]
    drives = [[model.actuator(f"{n}/{d}").id for d in a.robot.dofs] for n, a in enumerate(actors)]
    world.drive_at = np.array(drives, np.int64).reshape(len(actors), -1)
    root = model.body_jntadr[world.body_at[:, 0]]
    world.pose_at = model.jnt_qposadr[root][:, None] + np.arange(7)
    world.twist_at = model.jnt_dofadr[root][:, None] + np.arange(6)
    starts, counts = model.body_geomadr[world.body_at], model.body_geomnum[world.body_at]
    world.shape_at = [
        np.concatenate([np.arange(s, s + c) for s, c in zip(starts[n], counts[n], strict=True)])
        for n in range(len(actors))
    ]


def _apply_properties(world: World, number: int, actor: Actor) -> None:
    model, bodies, drives = world.model, world.body_at[number], world.drive_at[number]
    ground = world.grounds[0].friction
    model.geom_friction[world.shape_at[number], 0] = (actor.friction + ground) / 2
    model.body_mass[bodies] = actor.mass
    turns = _turns(model.body_iquat[bodies])
    model.body_inertia[bodies] = np.einsum("bji,bjk,bki->bi", turns, actor.inertia, turns)
    dof = actor.dof
    held = dof["driveMode"] == int(gymapi.DOF_MODE_POS)
    driven = held | (dof["driveMode"] == int(gymapi.DOF_MODE_VEL))
    model.dof_armature[world.rate_at[number]] = dof["armature"]
    model.actuator_gainprm[drives, 0] = np.where(held, dof["stiffness"], dof["damping"] * driven)
    model.actuator_biasprm[drives, 1] = -dof["stiffness"] * held
    model.actuator_biasprm[drives, 2] = -dof["damping"] * driven
    model.actuator_forcerange[drives] = np.stack([-dof["effort"], dof["effort"]], -1)


def _buffer(world: World, name: str, shape: tuple[int, ...]) -> Any:
    assert world.model is not None, "tensors come after prepare_sim"
    world.buffers[name] = np.full(shape, np.nan, np.float32)
    return gymtorch.describe(world.buffers[name])


def _readable(world: World) -> World:
    assert world.fetched, "on the CPU, fetch_results comes first"
    assert not world.pending, "what was set would be lost: simulate comes first"
    return world


def _hold(world: World, name: str, state: Any, indices: Any, count: int) -> bool:
    assert name not in world.pending, "the second call before simulate undoes the first"
    assert indices.array.dtype == np.int32 and indices.array.shape == (count,), "indices are int32"
    assert state.array.dtype == np.float32 and state.array.size == world.buffers[name].size
    world.pending[name] = state.array.reshape(len(world.actors), -1), indices.array.copy()
    return True


def _aim(world: World, mode: Any, target: Any) -> bool:
    assert target.array.dtype == np.float32 and target.array.size == world.drive_at.size
    values = target.array.reshape(world.drive_at.shape)
    for number, actor in enumerate(world.actors):
        mine = actor.dof["driveMode"] == int(mode)
        world.data.ctrl[world.drive_at[number][mine]] = values[number][mine]
    return True


def _apply_pending(world: World) -> None:
    data = world.data
    if "root" in world.pending:
        state, rows = world.pending.pop("root")
        state = state[rows].astype(np.float64)
        turns = _turns(np.roll(state[:, 3:7], 1, 1))
        linear = state[:, 7:10] - _arm_velocity(world, turns, state[:, 10:])
        data.qpos[world.pose_at[rows]] = np.c_[state[:, :3], np.roll(state[:, 3:7], 1, 1)]
        data.qvel[world.twist_at[rows]] = np.c_[linear, np.einsum("nji,nj->ni", turns, state[:, 10:])]
        data.qacc_warmstart[world.twist_at[rows]] = 0
    if "dof" in world.pending:
        state, rows = world.pending.pop("dof")
        state = state.reshape(len(world.actors), -1, 2)[rows]
        data.qpos[world.position_at[rows]], data.qvel[world.rate_at[rows]] = state[..., 0], state[..., 1]
        data.qacc_warmstart[world.rate_at[rows]] = 0


def _arm_velocity(world: World, turns: np.ndarray, angular: np.ndarray) -> np.ndarray:
    """What a mass centre's velocity has more than its origin's."""
    if os.environ.get("FAKE_ISAACGYM_VELOCITY") == "origin":
        return np.zeros_like(angular)
    return np.cross(angular, turns @ world.actors[0].centre[0])


def _turns(wxyz: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3)."""
    found = np.zeros((len(wxyz), 9))
    for row, quaternion in enumerate(wxyz):
        mujoco.mju_quat2Mat(found[row], quaternion / np.linalg.norm(quaternion))
    return found.reshape(-1, 3, 3)
