"""The driver of stairs on a robot: the map, the way and the gait of simulation, by what the robot itself measures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera, Pose, matrix_from_quaternion
from pipeline.types import F32, U8, Floats, Mask
from sim.climbing.climber import NOTHING, ON, RIM, STAIRS, Climber, Orders
from sim.control.state import Sensed
from sim.controlled import find_robot
from sim.robots.catalog import sdk_joints
from sim.robots.state import RobotState
from sim.sensors.cameras.settings import Output
from sim.sensors.ground.camera import ground_camera, sight_of
from sim.sensors.ground.eyes import FAR, FINE, LENS, NEAR
from sim.sensors.ground.mapping import GroundMap
from sim.sensors.ground.settings import MapSettings
from sim.tasks.walking.walking_tasks import FLIGHTS

GOES_BY = {NOTHING: "nothing", STAIRS: "stairs", ON: "the way beyond stairs", RIM: "the rim of what it knows"}
UNIT = 0.01
"""By how much the length of a quaternion may differ from 1."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What one robot measures at a time.

    Attributes:
        seconds: By any clock that goes on, the same for images.
        position: (3,) of the base, by odometry [m]; z is up.
        quaternion: (4,) wxyz, odometry from base.
        linear_velocity: (3,) of the base, in its axes [m/s].
        angular_velocity: (3,) in the base's axes, as a gyroscope measures it [rad/s].
        joint_position: (J,) in the order of `OnBoard.joints` [rad].
        joint_velocity: (J,) likewise [rad/s].
        feet_down: (F,) whether they stand, in the order of `OnBoard.feet`.
    """

    seconds: float
    position: Floats
    quaternion: Floats
    linear_velocity: Floats
    angular_velocity: Floats
    joint_position: Floats
    joint_velocity: Floats
    feet_down: Mask


@dataclass(frozen=True, eq=False)
class Commanded:
    """What a robot is told.

    Attributes:
        joint_position: (J,) targets of the joints' servos, in the order of `OnBoard.joints` [rad].
        forward: Speed ahead [m/s].
        turn: Yaw rate to the left [rad/s].
        goes_by: What it goes by: nothing, stairs, the way beyond stairs, or the rim of what it knows.
    """

    joint_position: F32
    forward: float
    turn: float
    goes_by: str


class OnBoard:
    """Takes one robot over stairs, up or down, once every `period`.

    Attributes:
        joints: Names of the joints, in the order of the maker's SDK if that is known, else of the robot's file.
        stiffness: (J,) of the joints' servos [N m/rad].
        damping: (J,) [N m s/rad].
        feet: Names of the feet's links.
        period: Time between two steps [s].
        map: What it knows of the ground.

    Args:
        robot: Name of one with a gait, or its file.
        gait: As of `sim.controlled.find_robot`.
        colors: Whether its camera sees colours alone; else it measures depths.
        lens: The camera's pinhole; by default that of the map's.
        base_from_camera: Where the camera is; x of the camera is to the right, y down, z ahead. By default 30 degrees
            down from where the robot's file has it.

    Raises:
        SimError: When the robot doesn't walk by a gait.
    """

    def __init__(
        self,
        robot: str = "go2",
        gait: str = "",
        *,
        colors: bool = False,
        lens: Camera | None = None,
        base_from_camera: Pose | None = None,
    ) -> None:
        body, self._gait = find_robot(robot, gait)
        scan, period, legs = self._gait.height_scan, self._gait.period, self._gait.legs
        if not scan or not period or not legs or not self._gait.velocities:
            raise SimError(
                "robots that walk by a gait are taken over stairs",
                found=f"{robot}, which has none",
                remedy="take go2, or give a gait of your own",
            )
        if lens and not lens.is_pinhole:
            raise SimError(
                "its camera is a pinhole",
                found="a lens with distortion",
                remedy="rectify the images, and give their lens",
            )
        settings = MapSettings(depth_of="colors" if colors else "mesh")
        mount = base_from_camera or ground_camera(body, settings)[0].link_from_camera
        assert mount, "that camera is on the base"
        self._own = FINE if colors else LENS
        self._lens = lens = lens or self._own
        self._output: Output = "rgb" if colors else "depth"
        self.map = GroundMap(body, scan, sight_of(settings, 1), mount, 1)
        self.joints = sdk_joints(body) or body.joint_names
        self._order = np.array([self.joints.index(name) for name in body.joint_names])
        servos = {one.joint: one for one in body.actuators}
        self._driven = np.array([list(servos).index(name) for name in self.joints])
        self.stiffness = np.array([servos[name].stiffness for name in self.joints])
        self.damping = np.array([servos[name].damping for name in self.joints])
        self.feet = tuple(body.links[foot.link].name for foot in legs.feet)
        self.period, self._steers = period, round(FLIGHTS.control_period / period)
        self._climber, self._speeds = Climber(1, FLIGHTS.control_period), np.zeros((1, 3), np.float32)
        self._steps, self._last, self._taken = -1, -np.inf, -np.inf
        self._shape = (lens.height, lens.width, 3)[: 3 if colors else 2]
        self._image = np.zeros(0)

    def begin(self) -> None:
        """Forget everything: the next step is the first one of a robot that stands on level ground."""
        self._steps, self._last, self._taken = -1, -np.inf, -np.inf

    def see(self, image: U8 | F32, seconds: float) -> None:
        """Take an image that was taken at a time [s], by the clock of the steps.

        Colours (H, W, 3), 0..255, or depths along the optical axis (H, W) [m], 0 or NaN where there are none.

        Raises:
            SimError: When it isn't of the camera's size.
        """
        if image.shape != self._shape:
            raise SimError(
                "images are those of the camera that was named",
                found=f"{image.shape}",
                remedy=f"give {self._output} of shape {self._shape}, or the lens of your camera",
            )
        if seconds > self._taken:
            self._image, self._taken = resampled(image, self._lens, self._own), seconds

    def step(self, now: Measured, *, up: bool = True) -> Commanded:
        """What to do until the next step.

        Raises:
            SimError: When a measurement is of the wrong size or no number, or the clock goes back.
        """
        state, down = self._checked(now)
        seconds, place, rotation = np.array([now.seconds]), state.position.astype(np.float64), state.world_from_base
        first = self._steps < 0
        self._steps, self._last = self._steps + 1, now.seconds
        if first:
            self._gait.start(1)
            self._gait.reset(np.zeros(1, np.int64), state.joint_position, np.random.default_rng(0))
            self._climber.reset(np.zeros(1, np.int64))
            self.map.reset(np.zeros(1, np.int64), place, rotation, seconds)
        else:
            self.map.move(place, rotation, seconds)
        self.map.see({self._output: self._image[None]}, np.array([self._taken]))
        self.map.feel(state, down, seconds)
        if self._steps % self._steers == 0:
            forward, turn = self._climber.steer(self.map, Orders.only(np.array([1.0 if up else -1.0])), seconds)
            self._speeds[:, [0, 2]] = np.stack([forward, turn], 1)
        targets = self._gait.following(self._speeds, Sensed(state, self.map.heights(), self._speeds))
        forward, _, turn = self._speeds[0].tolist()
        return Commanded(targets[0, self._driven], forward, turn, GOES_BY[int(self._climber.goes_by[0])])

    def _checked(self, now: Measured) -> tuple[RobotState, Mask]:
        """The state of one robot, and which of its feet stand (1, F)."""
        joints, feet = len(self.joints), len(self.feet)
        sizes = {"position": 3, "quaternion": 4, "linear_velocity": 3, "angular_velocity": 3}
        sizes |= {"joint_position": joints, "joint_velocity": joints, "feet_down": feet}
        rows = {name: np.asarray(getattr(now, name), np.float64)[None] for name in sizes}
        right = {name: rows[name].shape == (1, size) and np.isfinite(rows[name]).all() for name, size in sizes.items()}
        right["quaternion"] &= abs(np.linalg.norm(rows["quaternion"]) - 1) < UNIT
        right["seconds"] = self._last < now.seconds < np.inf
        if wrong := [name for name, fits in right.items() if not fits]:
            raise SimError(
                "a robot measures finite numbers, in time's order",
                found=f"{wrong[0]} = {getattr(now, wrong[0])}",
                remedy=f"give it as class Measured says; sizes are {sizes}; begin() when a clock begins anew",
            )
        rotation = matrix_from_quaternion(rows["quaternion"])
        linear, angular = (
            np.einsum("nij,nj->ni", rotation, rows[f"{kind}_velocity"]) for kind in ("linear", "angular")
        )
        position, velocity = (rows[f"joint_{what}"][:, self._order] for what in ("position", "velocity"))
        measured = rows["position"], rows["quaternion"], linear, angular, position, velocity
        return RobotState(*(values.astype(np.float32) for values in measured)), rows["feet_down"] > 0


def resampled(image: U8 | F32, lens: Camera, to: Camera) -> np.ndarray:
    """Colours (H, W, 3) or depths (H, W) [m] of a pinhole as another one has them; 0 where the image has none."""
    colors = image.ndim == 3
    fine = max(1, round(lens.fx / to.fx)) if colors else 1
    x, y = ((np.arange(fine * size) + 0.5) / fine for size in (to.width, to.height))
    u = lens.cx + lens.fx / to.fx * (x - to.cx) - 0.5
    v = lens.cy + lens.fy / to.fy * (y - to.cy) - 0.5
    places = np.meshgrid(u.astype(np.float32), v.astype(np.float32))
    found = cv2.remap(image, *places, cv2.INTER_LINEAR if colors else cv2.INTER_NEAREST)
    if colors:
        return found.reshape(to.height, fine, to.width, fine, 3).mean((1, 3)).round().astype(np.uint8)
    return np.where((found > NEAR) & (found < FAR), found, 0).astype(np.float32)
