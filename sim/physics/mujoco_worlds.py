"""MuJoCo with a world of its own for each robot: the fastest on a CPU, on ground of boxes and with reduced shapes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh, matrix_from_quaternion
from pipeline.types import F32, I64
from sim import libraries
from sim.physics.bodies import BodyState, RigidBody
from sim.physics.boxes import BoxMesh
from sim.physics.mujoco_bodies import SCENE, Coordinates, add_bodies
from sim.physics.state import Dynamics, PhysicsEngine
from sim.robots.legs import Legs, reduced
from sim.robots.model import Robot
from sim.robots.spec import equip, read_spec, replace_shapes
from sim.robots.state import RobotState

if TYPE_CHECKING:
    from mujoco._specs import MjSpec
    from mujoco._structs import MjModel

STIFF = (0.01, 1.0)
"""solref of contacts."""
MAX_STEP = STIFF[0] / 2
"""Longest step [s]: MuJoCo's contacts soften with two steps' length."""
ITERATIONS = 10
"""Largest number of the solver's iterations; with one or two, robots explode now and then."""
SEARCHED = 50
"""That of its line search where joints have friction: with fewer, doors creep."""
WILD = 100.0
"""Speed of a joint that no robot has [rad/s]: the solver failed."""
FORCE_SENSOR = [1 << 1, 3, 1]
"""A contact sensor's fields (the force), reduction (the sum, in world axes) and number of contacts."""
FAR_BELOW = (0.0, 0.0, -50.0)


class MujocoWorldsEngine(PhysicsEngine):
    """N MuJoCo worlds with one robot each, which `mujoco.rollout` steps.

    A world holds only the boxes of one tile, which a robot is on since its reset. Robots have reduced shapes.

    Raises:
        SimError: When a scene isn't made of boxes, or the robot has no feet.
    """

    has_bodies = True

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[Mesh],
        num_robots: int,
        time_step: float = 0.005,
        bodies: Sequence[Sequence[RigidBody]] = (),
    ) -> None:
        super().__init__(robot if robot.reduced else reduced(robot), scenes, num_robots, time_step, bodies)
        if self.bodies and len(scenes) > 1:
            raise SimError(
                "mujoco-worlds has loose bodies in one scene only",
                found=f"{len(scenes)} scenes",
                remedy="engine sapien, or one scene",
            )
        from mujoco import rollout

        self._mujoco = libraries.mujoco()
        self._inner = math.ceil(time_step / MAX_STEP - 1e-6)
        self._ground = [_of_boxes(scene) for scene in scenes]
        self._slots = max(len(tile) for ground in self._ground for tile in ground.tiles)
        self._spec = self._robot_spec()
        self._models: dict[tuple[int, int], MjModel] = {}
        model = self._model(0, 0)
        self._data, self._rollout = self._mujoco.MjData(model), rollout.Rollout(nthread=0)
        self._find_columns(model)
        self._state = np.zeros(
            (num_robots, self._mujoco.mj_stateSize(model, self._mujoco.mjtState.mjSTATE_FULLPHYSICS))
        )
        self._state[:, self._pose_at[3]] = 1
        self._state[:, self._loose_at] = model.qpos0[self._coordinates.value_at[0]]
        self._tile = np.zeros(num_robots, np.int64)
        self._sensors = np.zeros((num_robots, model.nsensordata))
        self._own = [model] * num_robots

    def reset(self, robots: I64, state: RobotState, scenes: I64) -> None:
        """Put robots (M,) into states of length M, in scenes (M,)."""
        self._scene_of[robots] = scenes
        rows = np.zeros((len(robots), self._state.shape[1]))
        rows[:, self._pose_at] = np.concatenate([state.position, state.quaternion], 1)
        angular = np.einsum("nji,nj->ni", state.world_from_base, state.angular_velocity)
        rows[:, self._twist_at] = np.concatenate([state.linear_velocity, angular], 1)
        rows[:, self._position_at], rows[:, self._rate_at] = state.joint_position, state.joint_velocity
        rows[:, self._loose_at] = self._state[np.ix_(robots, self._loose_at)]
        self._state[robots] = rows
        self._targets[robots] = state.joint_position[:, self._driven] * self._is_position
        self._sensors[robots] = 0
        for scene in np.unique(scenes):
            rows = scenes == scene
            self._tile[robots[rows]] = self._ground[scene].tile_at(state.position[rows])
        self._choose_models(robots)

    def set_targets(self, targets: F32) -> None:
        """Set the actuators' targets (N, A)."""
        self._targets[:] = targets

    def step(self, substeps: int) -> None:
        """Advance all robots; one whose solver fails lies on its back afterwards."""
        if not substeps:
            return
        steps = substeps * self._inner
        control = np.repeat(self._targets[:, None, self._control_of].astype(np.float64), steps, 1)
        count, model = self.num_robots, self._own[0]
        states = np.empty((count, steps, self._state.shape[1]))
        sensors = np.empty((count, steps, model.nsensordata))
        named = {"control": control, "nstep": steps, "state": states, "sensordata": sensors, "skip_checks": True}
        self._rollout.rollout(self._own, [self._data], self._state, **named)
        self._state = states[:, -1].copy()
        self._sensors = -sensors[:, -self._inner :].mean(1)  # MuJoCo has the force that a robot exerts
        wild = ~np.isfinite(self._state).all(1) | (np.abs(self._state[:, self._rate_at]) > WILD).any(1)
        if wild.any():
            rows = np.flatnonzero(wild)
            place = np.nan_to_num(self._state[np.ix_(rows, self._pose_at[:2])], nan=0, posinf=0, neginf=0)
            self._state[rows] = 0
            self._state[np.ix_(rows, self._pose_at[:2])] = place
            self._state[rows, self._pose_at[4]] = 1
            self._state[np.ix_(rows, self._loose_at)] = model.qpos0[self._coordinates.value_at[0]]
            self._sensors[rows] = 0

    def read(self) -> RobotState:
        """Current state of all robots."""
        rows = self._state
        quaternion = rows[:, self._pose_at[3:]]
        quaternion = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
        angular = np.einsum("nij,nj->ni", matrix_from_quaternion(quaternion), rows[:, self._twist_at[3:]])
        arrays = (
            rows[:, self._pose_at[:3]],
            quaternion * np.where(quaternion[:, :1] < 0, -1, 1),
            rows[:, self._twist_at[:3]],
            angular,
            rows[:, self._position_at],
            rows[:, self._rate_at],
        )
        return RobotState(*(array.astype(np.float32) for array in arrays))

    def place_bodies(self, robots: I64, state: BodyState, *, asleep: bool = False) -> None:
        """Put the bodies of robots (M,) into states of length M."""
        where = np.zeros((len(robots), 3))
        values, rates = self._coordinates.of(state, self._present(robots), where)
        self._state[np.ix_(robots, self._loose_at)] = values
        self._state[np.ix_(robots, self._loose_rate_at)] = rates

    def read_bodies(self) -> BodyState:
        """Current state of all bodies."""
        values, rates = self._state[:, self._loose_at], self._state[:, self._loose_rate_at]
        present = self._present(np.arange(self.num_robots))
        return self._coordinates.state(values, rates, present, np.zeros((self.num_robots, 3)))

    def contact_forces(self) -> F32:
        """Mean force of the boxes on each link in the last substep (N, L, 3), friction too, world axes [N]."""
        forces = np.zeros((self.num_robots, len(self.link_names), 3), np.float32)
        forces[:, self._felt] = self._sensors.reshape(self.num_robots, -1, 3)[:, : len(self._felt)]
        return forces

    def foot_forces(self, links: Sequence[int]) -> F32:
        """Mean force of the scene on the spheres of all feet in the last substep (N, F, 3), world axes [N]."""
        forces = self._sensors.reshape(self.num_robots, -1, 3)[:, len(self._felt) :]
        return np.add.reduceat(forces, self._first_sphere, 1).astype(np.float32)

    def push(self, robots: I64, velocity: F32) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]."""
        self._state[np.ix_(robots, self._twist_at[:3])] += velocity

    def set_dynamics(self, robots: I64, dynamics: Dynamics) -> None:
        """Set friction, mass and motor strength of robots (M,)."""
        self._dynamics[:, robots] = dynamics.friction, dynamics.mass, dynamics.strength
        self._choose_models(robots)

    def _choose_models(self, robots: I64) -> None:
        """Give robots (M,) the model of their tile, or a copy of it with their dynamics."""
        for robot in robots:
            model = self._model(int(self._scene_of[robot]), int(self._tile[robot]))
            _, mass, strength = self._dynamics[:, robot].astype(np.float64)
            friction = self._frictions(np.array([robot]))[0].astype(np.float64)
            if (self._dynamics[:, robot] != 1).any() or (friction != 1).any():
                model = copy.copy(model)
                model.geom_friction[:, 0] *= np.append(friction, self._dynamics[0, robot])[self._link_of_geom(model)]
                model.body_mass[self._base] *= mass
                model.body_inertia[self._base] *= mass
                model.actuator_gainprm[:] *= strength
                model.actuator_biasprm[:] *= strength
                model.actuator_forcerange[:] *= strength
            self._own[robot] = model

    def _rub(self, robots: I64) -> None:
        self._choose_models(robots)

    def _link_of_geom(self, model: MjModel) -> I64:
        """Links (G,) that have the shapes of a model, by number; of all else that there is no more."""
        links = np.full(model.nbody, len(self.link_names))
        bodies = [model.body(name).id for name in self.link_names]
        links[bodies] = np.arange(len(bodies))
        for body in range(1, model.nbody):  # a URDF's fixed links are bodies here, but parts of a link in `Robot`
            links[body] = links[body] if body in bodies else links[model.body_parentid[body]]
        return links[model.geom_bodyid]

    def _robot_spec(self) -> MjSpec:
        """The robot without a ground, with its shapes, actuators and sensors."""
        mujoco, robot = self._mujoco, self._robot
        spec = read_spec(robot.file, robot.mount)
        replace_shapes(spec, robot)
        spec.compiler.discardvisual = False
        option = spec.option
        option.timestep, option.iterations, option.ls_iterations = self.time_step / self._inner, ITERATIONS, ITERATIONS
        if any(body.joint for body in self.bodies):
            option.ls_iterations = SEARCHED
        option.integrator, option.cone = mujoco.mjtIntegrator.mjINT_IMPLICITFAST, mujoco.mjtCone.mjCONE_PYRAMIDAL
        option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)  # a seventh slower with it
        for geom in spec.geoms:
            geom.contype, geom.conaffinity, geom.condim, geom.priority, geom.solref = 0, 1, 3, 2, [*STIFF]
        self._felt = np.array([index for index, link in enumerate(robot.links) if link.shapes], np.int64)
        feet = Legs(robot).feet
        spheres = [len(foot.points) for foot in feet]
        self._first_sphere = (np.cumsum(spheres) - spheres).astype(np.int64)
        felt = [(mujoco.mjtObj.mjOBJ_BODY, robot.links[index].name) for index in self._felt]
        for foot in feet:
            name = robot.links[foot.link].name
            felt += [(mujoco.mjtObj.mjOBJ_GEOM, f"{name}/{number}") for number in range(len(foot.points))]
        for kind, name in felt:
            sensor = spec.add_sensor(
                name=f"force/{name}", type=mujoco.mjtSensor.mjSENS_CONTACT, objtype=kind, objname=name
            )
            sensor.intprm = FORCE_SENSOR
        equip(spec, robot)
        add_bodies(spec, self.bodies, {"": SCENE}, STIFF, np.zeros((len(self.bodies), 3)))
        return spec

    def _model(self, scene: int, tile: int) -> MjModel:
        """The robot in the world of a tile; all are of one size, so that they share one `MjData`."""
        if (scene, tile) not in self._models:
            spec, kinds = self._spec.copy(), self._mujoco.mjtGeom
            boxes = self._ground[scene].tiles[tile]
            still = {"contype": 1, "conaffinity": 0, "friction": [0, 0, 0]}
            spec.worldbody.add_geom(type=kinds.mjGEOM_PLANE, size=[100, 100, 1], **still)
            for box in boxes:
                spec.worldbody.add_geom(type=kinds.mjGEOM_BOX, pos=box[:3], size=box[3:6], quat=box[6:], **still)
            for _ in range(self._slots - len(boxes)):
                spec.worldbody.add_geom(
                    type=kinds.mjGEOM_BOX, pos=FAR_BELOW, size=[0.1, 0.1, 0.1], contype=0, conaffinity=0
                )
            self._models[scene, tile] = spec.compile()
        return self._models[scene, tile]

    def _find_columns(self, model: MjModel) -> None:
        """Find the columns of the robot's values in MuJoCo's state, which begins with the time."""
        joints = [model.joint(name).id for name in self.joint_names]
        self._base = int(model.body(self.link_names[0]).id)
        root = model.body_jntadr[self._base]
        first_rate = 1 + model.nq
        self._pose_at = 1 + model.jnt_qposadr[root] + np.arange(7)
        self._twist_at = first_rate + model.jnt_dofadr[root] + np.arange(6)
        self._position_at = 1 + model.jnt_qposadr[joints].astype(np.int64)
        self._rate_at = first_rate + model.jnt_dofadr[joints].astype(np.int64)
        self._coordinates = Coordinates(self.bodies, model, [""])
        self._loose_at = 1 + self._coordinates.value_at[0]
        self._loose_rate_at = first_rate + self._coordinates.rate_at[0]
        driven = {actuator.joint: row for row, actuator in enumerate(self._robot.actuators)}
        self._control_of = np.array(
            [driven[model.joint(int(model.actuator_trnid[a, 0])).name] for a in range(model.nu)]
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "state": self._state,
            "scenes": self._scene_of,
            "tiles": self._tile,
            "dynamics": self._dynamics,
            "targets": self._targets,
            "sensors": self._sensors,
        }

    def _set_arrays(self, saved: Mapping[str, np.ndarray]) -> None:
        self._state, self._sensors = saved["state"].copy(), saved["sensors"].copy()
        self._scene_of[:], self._tile[:] = saved["scenes"], saved["tiles"]
        self._dynamics[:], self._targets[:] = saved["dynamics"], saved["targets"]
        self._choose_models(np.arange(self.num_robots))


def _of_boxes(scene: Mesh) -> BoxMesh:
    if not isinstance(scene, BoxMesh):
        raise SimError(
            "mujoco-worlds steps robots on ground of boxes",
            found="a scene with a mesh",
            remedy="engine sapien; or a procedural scene such as terrain:0",
        )
    return scene
