"""From a run that learned to walk to a gait's files, which need no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rsl_rl.modules import EmpiricalNormalization
from torch import nn

from pipeline.io.weights import write_weights
from sim.env import SceneEnv
from sim.gaits import SEEN, GaitCard
from sim.robots.gait_files import GAIT_FILE
from train.algorithms.policy import VisionPolicy
from train.files import writing
from train.runs.run import Run


def save_gait(run: Run, env: SceneEnv, actor: VisionPolicy, metrics: Mapping[str, float]) -> Path:
    """Write the gait into a run's folder; returns its file. The metrics are a row of its curve."""
    legs, trot = env.controller.legs, env.controller.trot
    assert legs and trot, "the task's controller has legs"
    layers = [layer for layer in actor.mlp if isinstance(layer, nn.Linear)]
    arrays = {f"weight{i}": layer.weight for i, layer in enumerate(layers)}
    arrays |= {f"bias{i}": layer.bias for i, layer in enumerate(layers)}
    spaces = env.single_observation_space
    sizes = {name: int(spaces[name].shape[0]) for name in SEEN}  # type: ignore[index]
    if isinstance(normaliser := actor.obs_normalizer, EmpiricalNormalization):
        arrays |= {"mean": normaliser.mean, "scale": 1 / (normaliser.std + float(normaliser.eps))}
    else:
        count = sum(sizes.values())
        arrays |= {"mean": layers[0].weight.new_zeros(count), "scale": layers[0].weight.new_ones(count)}
    card = GaitCard(
        robot=env.robot.name,
        joints=tuple(env.robot.joint_names[column] for column in legs.joints),
        observations=sizes,
        trot=trot,
        sha256="",
        seed=run.record.seed,
        steps=round(metrics["steps"]),
        scenes=tuple(lock.reference for lock in run.locks),
        metrics={name: value for name, value in metrics.items() if name in ("success", "length", "seconds")},
    )
    file = run.folder / GAIT_FILE
    with writing(file):
        write_weights(file, card, {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()})
    return file
