"""The cameras of an environment's robots."""

from __future__ import annotations

from collections.abc import Sequence

from sim.robots.model import Robot
from sim.scene.scene import SimScene
from sim.sensors.cameras.measured import MeasuredRenderer
from sim.sensors.cameras.objects import ObjectSplats
from sim.sensors.cameras.renderer import Loaded, make_renderer
from sim.sensors.cameras.rig import CameraRig
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.tasks.task import Task
from sim.world import LooseBodies


def make_rigs(
    cameras: Sequence[RobotCamera],
    scenes: Sequence[SimScene],
    robot: Robot,
    loose: LooseBodies,
    num_envs: int,
    settings: CameraSettings,
    task: Task,
    device: str,
) -> tuple[CameraRig, ...]:
    """Cameras with one renderer, which see loose bodies; nothing is loaded for blind robots.

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
    renderers = {"splat": renderer, "mesh": MeasuredRenderer(renderer, [scene.collision for scene in scenes])}
    drawn = ObjectSplats(renderer, len(scenes), loose.splats)
    return tuple(
        CameraRig(
            camera,
            robot,
            renderers[camera.depth_of],
            num_envs,
            settings,
            task.control_period,
            drawn,
            loose.solid_hulls,
        )
        for camera in cameras
    )
