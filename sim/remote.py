"""A `SceneEnv` in a process of its own, which computes while this one does something else.

Threads would not do: while SAPIEN computes, no other thread can run Python.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numba
import numpy as np

import sim
from pipeline.errors import SimError
from pipeline.parallel import nothing_from_here
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.controlled import robot_for
from sim.env import Observations, SceneEnv
from sim.tasks.catalog import find_task

END_SECONDS = 10
"""Time that the process has to end."""

Step = tuple[Observations, F32, Mask, Mask, dict[str, Any]]
"""What `SceneEnv.step` returns."""


class RemoteEnv:
    """What a training uses of a `SceneEnv`.

    Args:
        settings: Arguments of `sim.make` for it, the task, the scenes, their number and the robot among them.
        threads: Number of threads that render there.

    Attributes:
        scene_of: (N,) scene of each robot.
        longest: As that of `SceneEnv`.

    Raises:
        SimError: By all methods, when the simulation fails or its process has ended.
    """

    def __init__(self, settings: Mapping[str, Any], threads: int) -> None:
        task = find_task(settings["task"], settings.get("task_settings"))
        self.num_envs, self.task = int(settings["num_envs"]), task
        self.longest = task.steps_in(settings.get("seconds") or task.seconds)
        if settings.get("expert"):  # who that is, the other process knows
            self.task = task.with_expert(lambda _: np.zeros((0, 0), np.float32))
        _, self.controller = robot_for(self.task, settings["robot"], settings.get("gait", ""))
        self.scene_of: I64 = np.zeros(self.num_envs, np.int64)
        context = multiprocessing.get_context("spawn")  # numba's threads don't survive a fork
        self._pipe, pipe = context.Pipe()
        self._process = context.Process(target=_serve, args=(pipe, settings, threads), daemon=True)
        with nothing_from_here():
            self._process.start()
        pipe.close()
        self._stepping = False

    def reset(self, *, seed: int, options: dict[str, Any] | None = None) -> tuple[Observations, dict[str, object]]:
        """As `SceneEnv.reset`."""
        return self._ask("reset", seed=seed, options=options)

    def begin_step(self, actions: F32) -> None:
        """Let it act (N, A); the next `step` returns the result."""
        self._send("step", actions)
        self._stepping = True

    def step(self, actions: F32) -> Step:
        """As `SceneEnv.step`; the actions are those of `begin_step`, if that was called before."""
        if not self._stepping:
            self.begin_step(actions)
        self._stepping = False
        return self._received()

    @property
    def scene_weights(self) -> F64:
        """As `SceneEnv.scene_weights`."""
        return self._ask("__getattribute__", "scene_weights")

    @scene_weights.setter
    def scene_weights(self, weights: Floats) -> None:
        self._ask("__setattr__", "scene_weights", weights)

    def save(self) -> bytes:
        """As `SceneEnv.save`."""
        return self._ask("save")

    def restore(self, state: bytes) -> None:
        """As `SceneEnv.restore`."""
        self._ask("restore", state)

    def close(self) -> None:
        """Free the simulation; its process ends when nobody can talk to it any more."""
        self._pipe.close()
        self._process.join(END_SECONDS)
        self._process.kill()

    def _ask(self, name: str, *arguments: object, **named: object) -> Any:
        self._send(name, *arguments, **named)
        return self._received()

    def _send(self, name: str, *arguments: object, **named: object) -> None:
        try:
            self._pipe.send_bytes(pickle.dumps((name, arguments, named)))
        except OSError as error:
            raise _lost() from error

    def _received(self) -> Any:
        try:
            answer, scene_of, error = pickle.loads(self._pipe.recv_bytes())
        except (OSError, EOFError) as ended:
            raise _lost() from ended
        if error:
            raise SimError(
                "a simulation runs in a process of its own",
                found=error,
                remedy="start again; if it fails again, with another engine",
            )
        self.scene_of = scene_of
        return answer


def _lost() -> SimError:
    return SimError(
        "a simulation runs in a process of its own",
        found="that process has ended",
        remedy="look whether memory was short, and start again",
    )


def _serve(pipe: Connection, settings: Mapping[str, Any], threads: int) -> None:
    """Call what is named, until the pipe's other end is closed; answers are result, robots' scenes, error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    numba.set_num_threads(min(threads, numba.get_num_threads()))
    env: SceneEnv | None = None
    failed = ""
    try:
        env = sim.make(**settings)
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"
    try:
        while True:
            name, arguments, named = pickle.loads(pipe.recv_bytes())
            answer: tuple[object, I64 | None, str] = None, None, failed
            if env:
                try:
                    answer = getattr(env, name)(*arguments, **named), env.scene_of, ""
                except Exception as error:
                    answer = None, None, f"{type(error).__name__}: {error}"
            pipe.send_bytes(pickle.dumps(answer))
    except (OSError, EOFError):
        if env:
            env.close()
