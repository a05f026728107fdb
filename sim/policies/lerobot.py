"""A checkpoint of LeRobot's (ACT, diffusion, ...), in an interpreter that has lerobot."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.errors import MachineError, SimError
from pipeline.gpu_backends.session import open_session
from pipeline.io.files import read_plain
from pipeline.types import F32
from sim.env import Observations, SceneEnv
from sim.policies.observed import observed

PYTHON = "SPLATYARD_LEROBOT_PYTHON"
"""Environment variable: the interpreter that has lerobot; this one, if it isn't set."""
CONFIG = "config.json"
STEPS = ("policy_preprocessor.json", "policy_postprocessor.json")
MAX_BYTES = 2**20
"""Of each of these files."""


class LeRobotDriver:
    """Runs a checkpoint's policy; each robot has its own queue of actions.

    Raises:
        SimError: When the folder holds no checkpoint, one that names code, or one for other observations or actions.
        MachineError: When its interpreter has no lerobot, or the worker died.
    """

    def __init__(self, folder: Path, env: SceneEnv, seed: int) -> None:
        self._folder, self._env = folder, env
        config = self._json(CONFIG)
        self._wanted = {name: tuple(of["shape"]) for name, of in _features(config, "input_features").items()}
        given = {name: tuple(of["shape"]) for name, of in _features(config, "output_features").items()}
        if given.get("action") != (env.controller.size,):
            raise self._wrong(f"actions {given.get('action')}; this robot has {(env.controller.size,)}")
        for name in STEPS:
            steps = self._json(name).get("steps")
            if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
                raise self._wrong(f"{name} without steps")
            if foreign := [step for step in steps if not step.get("registry_name") or "class" in step]:
                raise self._wrong(f"{name} names code to run: {str(foreign[0].get('class'))[:100]}")
        settings = {"folder": str(folder.resolve()), "device": env.config.device, "seed": seed, "robots": env.num_envs}
        self._open = ExitStack()
        python = os.environ.get(PYTHON, "")
        try:
            self._session = self._open.enter_context(open_session("sim.policies.lerobot_worker", settings, python))
        except MachineError as error:
            raise MachineError(
                "a checkpoint of LeRobot's is read by lerobot, 0.4 or newer, in its own interpreter",
                found=error.found,
                remedy=f"pip install lerobot into one and set {PYTHON} to it; lerobot-eval says whether it reads the "
                "checkpoint",
                file=folder,
            ) from error

    def __call__(self, seen: Observations) -> F32:
        """Actions (N, A) for the last observations."""
        now = observed(self._env, seen)
        named = now.named()
        found = {
            name: (of.shape[3], *of.shape[1:3]) if of.ndim == 4 else of.shape[1:]
            for name, of in named.items()
            if name in self._wanted
        }
        if found != self._wanted:
            there = {name: of.shape[1:] for name, of in named.items()}
            raise self._wrong(f"inputs {self._wanted}; this robot has {there}")
        request = {name: named[name] for name in self._wanted}
        return self._session.ask({**request, "task": now.text, "begun": now.begun})["actions"]

    def close(self) -> None:
        """End the worker."""
        self._open.close()

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(read_plain(self._folder / name, MAX_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            raise self._wrong(f"{name}: {error}") from error
        if not isinstance(found, dict):
            raise self._wrong(f"{name}, which is no object of JSON")
        return found

    def _wrong(self, found: str) -> SimError:
        return SimError(
            "a checkpoint of LeRobot's (0.4 or newer) fits what this robot observes and does",
            found=found,
            remedy="name the folder pretrained_model of a policy that was trained on what `splatyard policy record` "
            "wrote for this robot and task",
            file=self._folder,
        )


def _features(config: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Named features with a shape; none if it is something else."""
    found = config.get(name)
    good = isinstance(found, dict) and all(
        isinstance(of, dict) and isinstance(of.get("shape"), list) for of in found.values()
    )
    return found if good and found else {}
