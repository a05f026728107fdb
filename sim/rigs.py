"""The cameras of an environment's robots, and how they know the ground."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import SimError
from sim.config import EnvConfig
from sim.control.controller import Controller
from sim.robots.model import Robot
from sim.scene.scene import SimScene
from sim.sensors.cameras.measured import MeasuredRenderer
from sim.sensors.cameras.objects import ObjectSplats
from sim.sensors.cameras.renderer import Loaded, SceneRenderer, make_renderer
from sim.sensors.cameras.rig import CameraRig
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.sensors.ground.camera import ground_camera
from sim.sensors.ground.ground import Ground, MappedGround, WrongGround
from sim.sensors.height_scan import HeightScan
from sim.tasks.task import Task
from sim.world import LooseBodies, World


def make_rigs(
    cameras: Sequence[RobotCamera],
    scenes: Sequence[SimScene],
    robot: Robot,
    loose: LooseBodies,
    num_envs: int,
    settings: CameraSettings,
    period: float,
    device: str,
) -> tuple[CameraRig, ...]:
    """Cameras with one renderer, which see loose bodies, read each period [s]; nothing is loaded for blind robots.

    Raises:
        ValueError: When two have one name.
        SimError: When a robot lacks the link of one.
    """
    keys = [camera.key(output) for camera in cameras for output in camera.outputs]
    if len(set(keys)) < len(keys):
        raise ValueError("a robot's cameras need different names")
    if not cameras:
        return ()
    renderer = make_renderer(Loaded([*(scene.splat for scene in scenes), *loose.loads]), device)
    meshes = [scene.collision for scene in scenes]

    def renderer_of(camera: RobotCamera) -> SceneRenderer:
        if camera.depth_of == "splat":
            return renderer
        return MeasuredRenderer(renderer, meshes, colors="rgb" in camera.outputs)

    drawn = ObjectSplats(renderer, len(scenes), loose.splats)
    return tuple(
        CameraRig(
            camera,
            robot,
            renderer_of(camera),
            num_envs,
            settings,
            period,
            drawn,
            loose.solid_hulls,
        )
        for camera in cameras
    )


def make_ground(
    task: Task,
    scenes: Sequence[SimScene],
    robot: Robot,
    controller: Controller,
    world: World,
    num_envs: int,
    config: EnvConfig,
) -> Ground:
    """What a controller knows of the ground: a map if that is asked for, in training the task's errors, else the truth.

    Raises:
        SimError: When a map is asked for a robot whose controller doesn't look at the ground.
    """
    scan = HeightScan(scenes, controller.height_scan or task.height_scan)
    if config.ground is not None:
        if not controller.height_scan or not controller.legs:
            raise SimError(
                "maps of the ground are for robots that walk by a gait",
                found=f"{robot.name}, which doesn't look at the ground",
                remedy="take a robot with a gait, such as go2, or leave ground out",
            )
        camera, settings = ground_camera(robot, config.ground)
        (rig,) = make_rigs((camera,), scenes, robot, world.loose, num_envs, settings, world.period, config.device)
        return MappedGround(scan, robot, world.engine, rig, controller.height_scan, config.ground, num_envs)
    if config.observation_noise and task.scan_errors:
        return WrongGround(scan, task.scan_errors, num_envs, world.period)
    return Ground(scan)
