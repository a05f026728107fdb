"""Isaac Gym's side, run by its own interpreter: `PYTHON worker.py FOLDER`.

Python 3.6 has to read this file (no walrus, no `X | Y`, no `from __future__ import annotations`), and nothing here
imports the rest of splatyard. The parent writes setup.json, robot.urdf, meshes and `memory` into the folder; commands
come as lines of JSON on stdin, one answer a line goes back on stdout, numbers are in the memory. Everything in it is as
Isaac Gym has it: sim frame, quaternions xyzw, its own order of DOFs and bodies.

Isaac Gym's tensors are views: what is written into them counts from the next simulate() on, if set_..._indexed() is
called, once, before it; refresh_...() before that would bring the old values back.
"""
# ruff: noqa: B905 (zip has no `strict` there)

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np

MAGIC = 0x5350595D
MEMORY_VERSION = 2
HEADER = 8
"""int32 numbers ahead of the arrays: magic, version, robots, DOFs and bodies of each; the rest is spare."""
MISSING = 3
"""Exit status when Isaac Gym can't be imported."""
NO_SELF = 1
"""Collision filter of a robot's shapes: two meet when they have no bit in common; the ground has none."""


def map_memory(path: str, robots: int, dofs: int, bodies: int, create: bool = False) -> dict:
    """The arrays that both sides see, by name.

    Returns:
        root (N, 13): position, quaternion xyzw, linear and angular velocity; dof (N, D, 2): position, velocity;
        contact (N, B, 3) [N]; ground (N, B): friction under each body; body (N, B, 13) as root;
        target (2, N, D): positions, velocities; dynamics (3, N): friction, mass, strength; all float32;
        moved (N,) int32: whose root and dof the parent changed.

    Raises:
        ValueError: When the file is of another layout.
    """
    shapes = {
        "root": (robots, 13),
        "dof": (robots, dofs, 2),
        "contact": (robots, bodies, 3),
        "body": (robots, bodies, 13),
        "target": (2, robots, dofs),
        "dynamics": (3, robots),
        "ground": (robots, bodies),
        "moved": (robots,),
    }
    head = np.array([MAGIC, MEMORY_VERSION, robots, dofs, bodies, 0, 0, 0], np.int32)
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    block = np.memmap(path, np.int32, "w+" if create else "r+", shape=(HEADER + sum(sizes),))
    if create:
        block[:HEADER] = head
    elif not (block[:HEADER] == head).all():
        raise ValueError(f"memory of layout {block[:HEADER].tolist()}, expected {head.tolist()}")
    arrays, start = {}, HEADER
    for (name, shape), size in zip(shapes.items(), sizes):
        part = np.asarray(block[start : start + size])
        arrays[name] = part.view(np.int32 if name == "moved" else np.float32).reshape(shape)
        start += size
    return arrays


class World:
    """The simulation: scenes as triangle meshes, one environment a robot, in collision groups of their own.

    Robots begin spread out, and with their masses: on a GPU, pairs that overlap at the beginning count against PhysX's
    buffers, and a mass that is changed later is not that of the simulation.
    """

    def __init__(self, folder: Path) -> None:
        self.gymapi = importlib.import_module("isaacgym.gymapi")  # before torch, or it refuses
        self.gymtorch = importlib.import_module("isaacgym.gymtorch")
        self.torch = importlib.import_module("torch")
        self.setup = json.loads((folder / "setup.json").read_text())
        self.robots = self.setup["robots"]
        self.device = self.setup["device"]
        self.gym = self.gymapi.acquire_gym()
        self.sim = self.make_sim()
        for number in range(self.setup["scenes"]):
            self.add_ground(folder, number)
        self.asset = self.gym.load_asset(self.sim, str(folder), "robot.urdf", self.asset_options())
        ensure(self.asset is not None, "load_asset")
        self.dofs = list(self.gym.get_asset_dof_names(self.asset))
        self.bodies = list(self.gym.get_asset_rigid_body_names(self.asset))
        self.memory = map_memory(str(folder / "memory"), self.robots, len(self.dofs), len(self.bodies))
        self.frictions = self.shape_frictions()
        self.actors = [self.add_robot(number) for number in range(self.robots)]
        base = self.gym.get_actor_rigid_body_properties(*self.actors[0])[0]
        rows = (base.inertia.x, base.inertia.y, base.inertia.z)
        self.mass, self.inertia = base.mass, np.array([(row.x, row.y, row.z) for row in rows])
        self.masses = np.ones(self.robots)
        self.change(list(range(self.robots)))
        ensure(self.gym.prepare_sim(self.sim), "prepare_sim")
        self.acquire()

    def make_sim(self) -> object:
        """PhysX with z up."""
        on_gpu = self.device.startswith("cuda")
        params = self.gymapi.SimParams()
        params.dt, params.substeps = self.setup["time_step"], 1
        params.up_axis = self.gymapi.UP_AXIS_Z
        params.gravity = self.gymapi.Vec3(0.0, 0.0, -9.81)
        params.use_gpu_pipeline = on_gpu
        physx = params.physx
        physx.use_gpu = on_gpu
        physx.solver_type = 1
        physx.num_position_iterations, physx.num_velocity_iterations = 8, 1
        physx.contact_offset, physx.rest_offset = 0.01, 0.0
        physx.bounce_threshold_velocity, physx.max_depenetration_velocity = 0.2, 1.0
        physx.contact_collection = self.gymapi.CC_LAST_SUBSTEP
        physx.max_gpu_contact_pairs = 2**23
        physx.default_buffer_size_multiplier = 5.0
        index = int(self.device.split(":")[1]) if ":" in self.device else 0
        sim = self.gym.create_sim(index, -1, self.gymapi.SIM_PHYSX, params)
        ensure(sim is not None, "create_sim")
        return sim

    def asset_options(self) -> object:
        """What the URDF says, and nothing besides: no damping, no fused links, no guessed inertia."""
        options = self.gymapi.AssetOptions()
        options.fix_base_link = False
        options.collapse_fixed_joints = False
        options.flip_visual_attachments = False
        options.override_com = options.override_inertia = False
        options.linear_damping = options.angular_damping = 0.0
        options.max_angular_velocity = options.max_linear_velocity = 1000.0
        options.armature, options.use_physx_armature = 0.0, True
        options.thickness = 0.0
        options.default_dof_drive_mode = int(self.gymapi.DOF_MODE_NONE)
        return options

    def add_ground(self, folder: Path, number: int) -> None:
        """A scene's mesh, already translated; without friction, since PhysX takes the mean of both."""
        vertices = np.load(str(folder / f"vertices_{number}.npy"), allow_pickle=False)
        triangles = np.load(str(folder / f"triangles_{number}.npy"), allow_pickle=False)
        params = self.gymapi.TriangleMeshParams()
        params.nb_vertices, params.nb_triangles = len(vertices), len(triangles)
        params.static_friction = params.dynamic_friction = params.restitution = 0.0
        self.gym.add_triangle_mesh(self.sim, vertices.ravel(), triangles.ravel(), params)

    def shape_frictions(self) -> list:
        """Friction of each collision shape, and the number of the body that has it, in Isaac Gym's order."""
        found = []
        for body, (name, span) in enumerate(zip(self.bodies, self.gym.get_asset_rigid_body_shape_indices(self.asset))):
            expected = self.setup["frictions"].get(name, [])
            ensure(span.count == len(expected), f"shapes of {name}: {span.count} of {len(expected)}")
            found.extend((span.start + number, friction, body) for number, friction in enumerate(expected))
        return [(friction, body) for _, friction, body in sorted(found)]

    def add_robot(self, number: int) -> tuple:
        """An environment with its actor; gives the handles of both."""
        corner = self.gymapi.Vec3(0.0, 0.0, 0.0)
        env = self.gym.create_env(self.sim, corner, corner, 1)
        pose = self.gymapi.Transform()
        pose.p = self.gymapi.Vec3(*self.setup["start"][number])
        actor = self.gym.create_actor(env, self.asset, pose, "robot", number, NO_SELF)
        return env, actor

    def change(self, robots: list) -> None:
        """Friction, mass and strength of robots as the memory says."""
        for robot in robots:
            friction, mass, strength = self.memory["dynamics"][:, robot].tolist()
            env, actor = self.actors[robot]
            shapes = self.gym.get_actor_rigid_shape_properties(env, actor)
            for shape, (nominal, body) in zip(shapes, self.frictions):
                factor = friction * float(self.memory["ground"][robot, body])
                shape.friction = 2 * nominal * factor  # the ground has none, PhysX takes the mean
                shape.restitution = 0.0
            ensure(self.gym.set_actor_rigid_shape_properties(env, actor, shapes), "set_actor_rigid_shape_properties")
            if mass != self.masses[robot]:
                self.change_mass(env, actor, mass)
                self.masses[robot] = mass
            if self.dofs:
                props = self.driven(self.gym.get_actor_dof_properties(env, actor), strength)
                ensure(self.gym.set_actor_dof_properties(env, actor, props), "set_actor_dof_properties")

    def change_mass(self, env: object, actor: int, factor: float) -> None:
        """The base's mass and inertia."""
        bodies = self.gym.get_actor_rigid_body_properties(env, actor)
        base = bodies[0]
        base.mass = self.mass * factor
        inertia = self.gymapi.Mat33()
        inertia.x, inertia.y, inertia.z = (self.gymapi.Vec3(*row) for row in self.inertia * factor)
        base.inertia = inertia
        done = self.gym.set_actor_rigid_body_properties(env, actor, bodies, recomputeInertia=False)
        ensure(done, "set_actor_rigid_body_properties")

    def driven(self, props: "np.ndarray", strength: float) -> "np.ndarray":
        """Properties of one robot's DOFs with its motors' strength."""
        modes = {
            "position": int(self.gymapi.DOF_MODE_POS),
            "velocity": int(self.gymapi.DOF_MODE_VEL),
        }
        for row, name in enumerate(self.dofs):
            drive = self.setup["drives"][name]
            props["driveMode"][row] = modes[drive["mode"]]
            props["stiffness"][row] = drive["stiffness"] * strength
            props["damping"][row] = drive["damping"] * strength + drive["own_damping"]
            props["effort"][row] = min(drive["max_force"] * strength, 1e9)
            props["armature"][row] = drive["armature"]
            props["friction"][row] = 0.0
            props["velocity"][row] = 1e4
        return props

    def acquire(self) -> None:
        """The tensors; what they have now goes into the memory."""
        gym, sim, wrap = self.gym, self.sim, self.gymtorch.wrap_tensor
        self.root = wrap(gym.acquire_actor_root_state_tensor(sim))
        self.contact = wrap(gym.acquire_net_contact_force_tensor(sim)).view(self.robots, -1, 3)
        self.body = wrap(gym.acquire_rigid_body_state_tensor(sim)).view(self.robots, -1, 13)
        if self.dofs:
            self.dof = wrap(gym.acquire_dof_state_tensor(sim)).view(self.robots, -1, 2)
            self.target = self.torch.zeros((2, self.robots, len(self.dofs)), device=self.device)
        self.read()

    def read(self) -> None:
        """Isaac Gym's state, into the memory."""
        gym, sim = self.gym, self.sim
        ensure(gym.refresh_actor_root_state_tensor(sim), "refresh_actor_root_state_tensor")
        ensure(gym.refresh_net_contact_force_tensor(sim), "refresh_net_contact_force_tensor")
        ensure(gym.refresh_rigid_body_state_tensor(sim), "refresh_rigid_body_state_tensor")
        self.memory["root"][:] = self.root.cpu().numpy()
        self.memory["contact"][:] = self.contact.cpu().numpy()
        self.memory["body"][:] = self.body.cpu().numpy()
        if self.dofs:
            ensure(gym.refresh_dof_state_tensor(sim), "refresh_dof_state_tensor")
            self.memory["dof"][:] = self.dof.cpu().numpy()

    def write(self) -> None:
        """What the parent changed, from the memory."""
        gym, sim, unwrap = self.gym, self.sim, self.gymtorch.unwrap_tensor
        moved = np.flatnonzero(self.memory["moved"])
        if len(moved):
            rows = self.torch.from_numpy(moved).to(self.device)
            # kept: the engine reads it later, and takes no other type
            self.indices = self.torch.from_numpy(moved.astype(np.int32)).to(self.device)
            self.root[rows] = self.torch.from_numpy(self.memory["root"][moved]).to(self.device)
            done = gym.set_actor_root_state_tensor_indexed(sim, unwrap(self.root), unwrap(self.indices), len(moved))
            ensure(done, "set_actor_root_state_tensor_indexed")
            if self.dofs:
                self.dof[rows] = self.torch.from_numpy(self.memory["dof"][moved]).to(self.device)
                done = gym.set_dof_state_tensor_indexed(sim, unwrap(self.dof), unwrap(self.indices), len(moved))
                ensure(done, "set_dof_state_tensor_indexed")
            self.memory["moved"][:] = 0
        if self.dofs:
            self.target.copy_(self.torch.from_numpy(self.memory["target"]))
            ensure(gym.set_dof_position_target_tensor(sim, unwrap(self.target[0])), "set_dof_position_target_tensor")
            ensure(gym.set_dof_velocity_target_tensor(sim, unwrap(self.target[1])), "set_dof_velocity_target_tensor")

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        self.write()
        for _ in range(substeps):
            self.gym.simulate(self.sim)
            if not self.device.startswith("cuda"):
                self.gym.fetch_results(self.sim, True)
        self.read()


def ensure(done: bool, call: str) -> None:
    """Raises RuntimeError when Isaac Gym says that a call failed."""
    if not done:
        raise RuntimeError(f"Isaac Gym failed in {call}")


def main() -> int:
    """Answer the parent until it closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Isaac Gym writes to stdout, from C++ too

    def answer(**values: object) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        world = World(Path(sys.argv[1]))
    except ImportError as error:
        traceback.print_exc()
        answer(error=str(error), missing=True)
        return MISSING
    except Exception as error:
        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {error}")
        return 1
    answer(dofs=world.dofs, bodies=world.bodies)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "step":
                world.step(command["substeps"])
            else:
                world.change(command["robots"])
        except Exception as error:
            traceback.print_exc()
            answer(error=f"{type(error).__name__}: {error}")
        else:
            answer()
    return 0


if __name__ == "__main__":
    sys.exit(main())
