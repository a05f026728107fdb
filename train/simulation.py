"""A preset's simulation: the scenes, and in them robots with the senses that the preset's network wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sim.cameras.mount import RobotCamera
from sim.env import SceneEnv
from sim.places import Split
from sim.robots.catalog import find_robot
from sim.scene import SimScene
from sim.tasks.catalog import find_task
from train.environment import Sense, TrainEnv
from train.models.encoders import find_encoder
from train.preset import Preset
from train.voxels import Voxels


def make_env(
    preset: Preset,
    scenes: Sequence[SimScene],
    *,
    count: int | None = None,
    seed: int = 0,
    starts: Split = "train",
    device: str = "cpu",
) -> TrainEnv:
    """Robots in scenes, as a policy meets them in training or, with starts "held_out", in evaluation.

    Cameras have the preset's flaws in training only. Of a task that gets harder with what is learned, episodes to
    evaluate are the hardest.

    Args:
        preset: Task, robot, network.
        scenes: Where.
        count: Robots; as many as the preset has by default.
        seed: Of the episodes.
        starts: Which of the scenes' places episodes begin at.
        device: Of pictures and tensors.

    Raises:
        SimError: When there is no such task or robot, or the scenes have no room for them.
        TrainError: When there is no such encoder.
    """
    task = find_task(preset.task)
    robot, drive = find_robot(preset.robot)
    encoder = find_encoder(preset.policy.encoder, preset.policy.sees)
    training = starts == "train"
    env = SceneEnv(
        task,
        scenes,
        robot,
        drive,
        count or preset.environments,
        engine=preset.engine,
        device=device,
        seed=seed,
        cameras=[RobotCamera(task.camera, outputs=encoder.outputs)] if encoder.outputs else (),
        camera_settings=replace(task.camera_settings, **preset.camera.model_dump()) if training else None,
        starts=starts,
        first_level=0 if training or not task.curriculum else task.curriculum.levels - 1,
    )
    senses: list[Sense] = [*encoder.senses(env, device)]
    if training and preset.policy.voxels:
        senses.append(Voxels(env))
    return TrainEnv(env, senses, device, seed)
