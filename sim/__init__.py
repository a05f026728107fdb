"""Bundles as simulators: robots on the mesh, cameras in the splat, as `gymnasium` environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.cameras.mount import RobotCamera
    from sim.cameras.settings import CameraSettings
    from sim.env import SceneEnv
    from sim.places import Split
    from sim.randomisation import Randomisation

__all__ = ["make"]


def make(
    task: str,
    scenes: Sequence[Path | str],
    num_envs: int,
    *,
    robot: str = "rover",
    engine: str = "sapien",
    device: str = "cpu",
    seed: int = 0,
    allow_failed: bool = False,
    cameras: Sequence[RobotCamera] | None = None,
    camera_settings: CameraSettings | None = None,
    randomisation: Randomisation | None = None,
    starts: Split = "all",
) -> SceneEnv:
    """Many robots in published scenes, as one `gymnasium.vector.VectorEnv`.

    Args:
        task: Its name.
        scenes: Bundles: folders, name@version, or name for the newest version.
        num_envs: Robots; they spread over the scenes.
        robot: A name, or a URDF or MJCF file.
        engine: Of the physics, see `sim.physics.catalog`.
        device: That draws the pictures: cpu, cuda, or cuda:1 and so on.
        seed: Of everything random, until `reset` gives another.
        allow_failed: Take scenes that failed gates too.
        cameras: Of each robot; one of the task's lens, which sees colours, by default; () for none.
        camera_settings: Clock, exposure and flaws of the cameras; the task's by default.
        randomisation: Of friction, mass, motors, latency and pushes; none by default.
        starts: Where episodes begin: "all", or only in squares of the floor that are "held_out", or off them ("train").

    Raises:
        SimError: When the task, robot or device is unknown, or a scene can't be simulated.
        BundleError: When a bundle isn't there or is damaged.
    """
    from sim.env import SceneEnv
    from sim.robots.catalog import find_robot
    from sim.scene import open_scene
    from sim.tasks.catalog import find_task

    found = find_task(task)
    opened = [open_scene(scene, allow_failed=allow_failed) for scene in scenes]
    one, drive = find_robot(robot)
    return SceneEnv(
        found,
        opened,
        one,
        drive,
        num_envs,
        engine=engine,
        device=device,
        seed=seed,
        cameras=cameras,
        camera_settings=camera_settings,
        randomisation=randomisation,
        starts=starts,
    )
