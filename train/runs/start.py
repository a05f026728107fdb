"""Networks that a training begins with, instead of new ones: those of a run, or eyes."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.errors import TrainError
from sim.finding.eyes import Eyes, eyes_named
from train.algorithms.agent import Agent
from train.eyes import weights_of
from train.runs import checkpoint
from train.runs.run import Run


def started_from(name: str, runs: Path) -> str:
    """What a preset says of a run or of eyes: a folder, find, or a file.

    Raises:
        TrainError: When there is no such run.
    """
    eyes = eyes_named(name)
    if eyes is not None:
        return str(eyes.resolve()) if eyes.is_file() and name.endswith(".npz") else name
    return str(Run.open(name, runs).folder.resolve())


def begin_with(agent: Agent, name: str) -> None:
    """Give an agent's policy the weights of another one.

    Raises:
        TrainError: When they are of another network, or there is no such run.
        SimError: When eyes are damaged.
    """
    eyes = eyes_named(name)
    if eyes is not None:
        weights = {f"network.{key}": value for key, value in weights_of(Eyes(eyes).arrays).items()}
    else:
        _, state = checkpoint.chosen(Run.open(name))
        saved = state["agent"].get("actor_state_dict")
        weights = saved if isinstance(saved, dict) else {}
    own = agent.get_policy().state_dict()
    other = [key for key in own | weights if _shape(own.get(key)) != _shape(weights.get(key))]
    if other:
        raise TrainError(
            "a training begins with the networks of a policy like its own",
            found=f"{other[0]} is {_shape(weights.get(other[0]))} there, {_shape(own.get(other[0]))} here"
            + (f", and {len(other) - 1} more differ" if len(other) > 1 else ""),
            remedy="the preset, task and robot that it was trained with; splatyard policy runs shows them",
            file=name,
        )
    agent.begin_with(weights)


def _shape(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"
