"""A policy in an ONNX file: one that splatyard exported, or one of others."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from pipeline.errors import SimError
from pipeline.io.files import read_plain
from pipeline.types import F32
from sim.env import Observations, SceneEnv
from sim.libraries import load
from sim.policies.observed import observed

MAX_BYTES = 2**31
START_SECONDS, ACTION_SECONDS = 120.0, 60.0
"""The second is for each robot's."""
MEMORY = 2**33
"""Bytes of weights and of what is computed."""
MAX_MEMORY = 2**24
"""Numbers in a hidden state."""
ACTIONS = ("next_action", "action", "actions")
"""Names of the output that is done, the first that there is: the first one is that of splatyard's own files."""
INTO, OUT = "_in", "_out"
"""Ends of the names of hidden states: the output memory_out is the next step's input memory_in, zeros at first."""
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}


class Input(Protocol):
    """An input as onnxruntime describes it; axes that are free have names, or none."""

    name: str
    shape: list[int | str | None]
    type: str


Arrays = dict[str, np.ndarray]


class OnnxDriver:
    """Runs a file for one robot after the other.

    Its inputs (1, ...) are named after the simulator's observations, or as LeRobot's datasets name them: then images
    are (1, 3, H, W), 0..1. Everything is in the file: what it would read from others is refused.

    Raises:
        SimError: When it is no such file, or asks for what this robot doesn't observe.
        MachineError: When onnxruntime is not installed.
    """

    def __init__(self, file: Path, env: SceneEnv) -> None:
        runtime = load("onnxruntime", "an ONNX file is run by onnxruntime", "pip install onnxruntime")
        self._file, self._env = file, env
        try:
            content = read_plain(file, MAX_BYTES)
        except (OSError, ValueError) as error:
            raise self._wrong(getattr(error, "strerror", None) or str(error)) from error
        _bound_memory(runtime)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.use_env_allocators", "1")
        self._run_options = runtime.RunOptions
        self._session: Any = self._within(
            START_SECONDS,
            # what is constant is computed by the first action: here nothing could end it
            lambda: runtime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
            ),
            lambda: options.set_load_cancellation_flag(True),
        )
        self._inputs: list[Input] = self._session.get_inputs()
        self._outputs = [one.name for one in self._session.get_outputs()]
        self._action = next((name for name in ACTIONS if name in self._outputs), self._outputs[0])
        self._next = {
            one.name: name
            for one in self._inputs
            if one.name.endswith(INTO) and (name := one.name.removesuffix(INTO) + OUT) in self._outputs
        }
        self._blank = {one.name: self._zeros(one) for one in self._inputs if one.name in self._next}
        self._memories = [self._blank] * env.num_envs

    def __call__(self, seen: Observations) -> F32:
        """Actions (N, A) for the last observations."""
        now = observed(self._env, seen)
        given = {one.name: self._given(one, seen, now.named()) for one in self._inputs if one.name not in self._next}
        actions = []
        for row in range(self._env.num_envs):
            memory = self._blank if now.begun[row] else self._memories[row]
            inputs, options = {name: of[row][None] for name, of in given.items()} | memory, self._run_options()
            answers = self._within(
                ACTION_SECONDS,
                partial(self._session.run, None, inputs, options),
                partial(setattr, options, "terminate", True),
            )
            done: Arrays = dict(zip(self._outputs, map(np.asarray, answers), strict=True))
            self._memories[row] = {into: done[out] for into, out in self._next.items()}
            actions.append(done[self._action].reshape(-1))
        if len({len(one) for one in actions}) > 1:
            raise self._wrong(f"actions of different length: {sorted({len(one) for one in actions})}")
        return np.array(actions)

    def _given(self, one: Input, seen: Observations, named: Arrays) -> np.ndarray:
        """An input for all robots (N, ...)."""
        values = seen[one.name] if one.name in seen else named.get(one.name)
        if values is None:
            raise self._wrong(f"the input {one.name!r}; there are {', '.join(sorted([*seen, *named]))}")
        if one.name in named and values.dtype == np.uint8:
            values = values.transpose(0, 3, 1, 2) / np.float32(255)
        shape = tuple(one.shape[1:])
        fits = len(shape) == values.ndim - 1 and all(
            not isinstance(size, int) or size == found for size, found in zip(shape, values.shape[1:], strict=True)
        )
        if not fits:
            raise self._wrong(f"{one.name} {shape}; this robot has {values.shape[1:]}")
        return values.astype(self._type(one))

    def _zeros(self, one: Input) -> np.ndarray:
        """A hidden state at the beginning of an episode."""
        sizes = [size if isinstance(size, int) else 1 for size in one.shape]
        if min(sizes, default=1) < 1 or math.prod(sizes) > MAX_MEMORY:
            raise self._wrong(f"{one.name} {tuple(sizes)}, more than {MAX_MEMORY} numbers or none")
        return np.zeros(sizes, self._type(one))

    def _type(self, one: Input) -> type[np.generic]:
        if one.type not in TYPES:
            raise self._wrong(f"{one.name} of type {one.type}")
        return TYPES[one.type]

    def _within(self, seconds: float, work: Callable[[], Any], end: Callable[[], None]) -> Any:
        """What work in a thread of its own returns; it is asked to end when it takes longer, but not waited for."""
        future = Future[Any]()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # onnxruntime's classes have no other base in common
                future.set_exception(error)

        Thread(target=run, daemon=True).start()
        try:
            return future.result(seconds)
        except TimeoutError as error:
            end()
            raise self._wrong(f"no answer within {seconds:g} s") from error
        except Exception as error:
            raise self._wrong(_line(error)) from error

    def _wrong(self, found: str) -> SimError:
        return SimError(
            "an ONNX file's inputs are what this robot observes, its output an action",
            found=found,
            remedy="docs/policies.md says what inputs and outputs are named; `splatyard bundle export RUN` writes one",
            file=self._file,
        )


@cache
def _bound_memory(runtime: ModuleType) -> None:
    """Bound what all files' numbers take together in this process."""
    about = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    runtime.create_and_register_allocator(about, runtime.OrtArenaCfg(MEMORY, 0, -1, -1))


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
