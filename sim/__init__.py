"""Bundles as simulators: robots on the mesh, cameras in the splat, as `gymnasium` environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.env import SceneEnv
    from sim.scene.scene import SimScene
    from sim.tasks.settings import TaskSettings

__all__ = ["make"]


def make(
    task: str,
    scenes: Sequence[Path | str | SimScene],
    num_envs: int,
    *,
    robot: str = "",
    gait: str = "",
    allow_failed: bool = False,
    objects: Sequence[str] = (),
    task_settings: TaskSettings | None = None,
    **config: Any,
) -> SceneEnv:
    """Make N robots in published scenes, as one `gymnasium.vector.VectorEnv`.

    Args:
        task: Name of the task.
        scenes: Bundles (folders, name@version, or name for the newest version), or scenes that are open already.
        num_envs: N; the robots are spread over the scenes.
        robot: Name of a robot, or a URDF or MJCF file; by default the task's own, such as a panda at a table.
        gait: Name or file of the gait that carries it; by default the one that comes with splatyard for this robot.
        allow_failed: Accept scenes that failed gates.
        objects: Objects that were cut out of the bundles and are loose, by name, or "all"; and bundles that are objects
            by themselves, such as mug@1.0.0.
        task_settings: Changes of the task, such as its time limit and the weights of its rewards.
        config: Fields of `sim.config.EnvConfig`, such as engine, device, seed and cameras.

    Raises:
        SimError: When the task, robot or device is unknown, or a scene can't be simulated.
        BundleError: When a bundle doesn't exist or is damaged.
    """
    from sim.config import EnvConfig
    from sim.controlled import robot_for
    from sim.env import SceneEnv
    from sim.scene.opening import open_scene
    from sim.scene.scene import SimScene
    from sim.tasks.catalog import find_task

    task_to_do = find_task(task, task_settings)
    opened = [
        scene if isinstance(scene, SimScene) else open_scene(scene, allow_failed=allow_failed, objects=objects)
        for scene in scenes
    ]
    return SceneEnv(task_to_do, opened, *robot_for(task_to_do, robot, gait), num_envs, EnvConfig(**config))
