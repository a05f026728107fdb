"""A policy as one ONNX file: from what a robot measures to what its actuators aim at, checked against torch."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pipeline.errors import TrainError, install
from pipeline.types import F64
from sim.control.controller import Controller
from sim.env import SceneEnv
from sim.libraries import load
from sim.robots.catalog import sdk_joints
from sim.tasks.task import about
from train.algorithms.policy import VisionPolicy
from train.encoders.groups import IMAGES, with_nearness
from train.environment import TrainEnv, seen_groups
from train.files import write_atomically
from train.preset import Preset
from train.runs.play import open_play
from train.runs.run import Run
from train.settings.parts import MODALITIES, find_encoder

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STATES = {"GRU": ("h",), "LSTM": ("h", "c")}
"""Hidden states of each kind of RNN."""
TRIES = 64


class ExportedPolicy(nn.Module):
    """A policy for one robot and one step.

    Inputs are the robot's images, if any, its vectors and hidden states. Outputs are its action (1, A) in [-1, 1], its
    actuators' targets (1, T), and the next hidden states.

    Args:
        policy: Policy in evaluation mode.
        images: The first inputs: "rgb" (1, H, W, 3) uint8; "depth" (1, H, W) [m], 0 unknown; both; another group of
            the policy's observations; or none for a blind one.
        frozen: A network between colours (1, 3, H, W) and the policy.
        controller: From actions to commands.

    Raises:
        TrainError: When the controller's commands are not affine.
    """

    gain: torch.Tensor
    rest: torch.Tensor

    def __init__(
        self, policy: VisionPolicy, images: Sequence[str], frozen: nn.Module | None, controller: Controller
    ) -> None:
        super().__init__()
        self.policy, self.frozen, self._images = policy, frozen, images
        rnn = policy.memory.rnn if policy.memory else None
        self.states = STATES[type(rnn).__name__] if rnn else ()
        self._size = rnn.hidden_size if rnn else 0
        gain, rest = linear(controller)
        self.register_buffer("gain", torch.from_numpy(gain))
        self.register_buffer("rest", torch.from_numpy(rest))

    def blank(self) -> list[torch.Tensor]:
        """Hidden states (1, 1, M) at the beginning of an episode."""
        return [torch.zeros(1, 1, self._size) for _ in self.states]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One step."""
        measured = list(inputs[: len(inputs) - len(self.states)])
        before = inputs[len(measured) :]
        images, vectors = measured[: len(self._images)], measured[len(self._images) :]
        code = [self._encode(images)] if images else []
        latent = torch.cat([self.policy.obs_normalizer(torch.cat(vectors, -1)), *code], -1)
        after: Sequence[torch.Tensor] = ()
        if self.policy.memory:
            out, held = self.policy.memory.rnn(latent[None], before[0] if len(before) == 1 else tuple(before))
            latent, after = out[0], held if isinstance(held, tuple) else (held,)
        action = self.policy.means(latent).clamp(-1, 1)
        return action, action @ self.gain.T + self.rest, *after

    def _encode(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        change = {"rgb": lambda image: image.permute(0, 3, 1, 2), "depth": lambda image: image[:, None]}
        first, *second = (
            change.get(name, lambda image: image)(image) for name, image in zip(self._images, images, strict=True)
        )
        seen = with_nearness(first, second[0]) if second else first
        if self.frozen is not None:
            seen = self.frozen(seen)
        assert self.policy.encoder is not None  # it sees
        return self.policy.encoder(seen)


def linear(controller: Controller) -> tuple[np.ndarray, np.ndarray]:
    """Gain (T, A) and rest (T,) of an affine controller: its commands are gain @ action + rest.

    Raises:
        TrainError: When it is not affine.
    """
    rest = controller.command(np.zeros((1, controller.size), np.float32))[0]
    gain = (controller.command(np.eye(controller.size, dtype=np.float32)) - rest).T
    tries = np.random.default_rng(0).uniform(-1, 1, (TRIES, controller.size)).astype(np.float32)
    if not np.allclose(tries @ gain.T + rest, controller.command(tries), rtol=1e-4, atol=1e-5):
        raise TrainError(
            "an exported controller is affine: targets = gain @ action + rest",
            found=type(controller).__name__,
            remedy="write your own file with the policy's actions",
        )
    return np.ascontiguousarray(gain, np.float32), np.ascontiguousarray(rest, np.float32)


TOLERANCE = 1e-4
"""Largest difference between the file's actions and torch's, and between their targets relative to the range."""
EXTRA_STEPS = 20
"""Steps of the check beyond an episode's time limit, so that hidden states are reset at least once."""
RUNS, WARM_UP = 300, 30
"""Runs of the latency measurement, and before it."""
FORMAT, FORMAT_VERSION = "splatyard.policy", "1"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Exported:
    """Properties of an exported file.

    Attributes:
        episodes: Episodes that ended in the steps of the check.
        difference: Largest difference, see `TOLERANCE`.
        median: Median time of a step on one thread [s].
        slow: 95th percentile of the time of a step [s].
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    steps: int
    episodes: int
    difference: float
    median: float
    slow: float


def export_run(run: Run, path: Path, *, file: Path | None = None, allow_failed: bool = False) -> Exported:
    """Export a run's policy.

    The checkpoint is the newest by default.

    Raises:
        TrainError: When there is no checkpoint, or the file would act differently: then none is written.
        SimError: When the run's scene can't be simulated.
        BundleError: When the scene doesn't exist.
    """
    env, policy = open_play(run, starts="all", file=file, allow_failed=allow_failed)
    about = {"run": run.name, "scenes": json.dumps([asdict(lock) for lock in run.locks])}
    with closing(env.env):
        assert isinstance(policy, VisionPolicy)  # as every preset's
        return export_policy(policy, env, run.preset, path, about)


def export_policy(
    policy: VisionPolicy, env: TrainEnv, preset: Preset, path: Path, about: Mapping[str, str] | None = None
) -> Exported:
    """Export a policy, if the file acts like the policy for more than an episode.

    The policy has empty hidden states, the environment one robot; `about` is further metadata.

    Raises:
        TrainError: When ONNX isn't installed, or the file would act differently: then none is written.
    """
    rule, remedy = "an export needs onnx, onnxscript and onnxruntime", install("train")
    libraries = ("onnx", "onnxruntime", "onnxscript")  # the last one for torch's exporter
    onnx, runtime, _ = (load(name, rule, remedy, TrainError) for name in libraries)
    simulation, images = env.env, _images_of(env, preset)
    exported = ExportedPolicy(policy, images, env.frozen, simulation.controller).eval()
    measured = _measured(env, images)
    inputs = [torch.from_numpy(values.copy()) for values in measured.values()] + exported.blank()
    names = [*measured, *(f"{state}_in" for state in exported.states)]
    outputs = ["next_action", "targets", *(f"{state}_out" for state in exported.states)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how torch's own memories are made
        program = torch.onnx.export(
            exported, tuple(inputs), input_names=names, output_names=outputs, dynamo=True, verbose=False
        )
    assert program is not None  # without a file to write to
    model = program.model_proto
    onnx.helper.set_model_props(model, {**_about(simulation, images, measured), **(about or {})})
    content = model.SerializeToString()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    steps, episodes, difference = _compare(session, exported, policy, env, images)
    if not difference <= TOLERANCE:
        raise TrainError(
            f"an exported policy acts like the trained one, to {TOLERANCE:g}",
            found=f"a difference of {difference:.2g} within {steps} steps",
            remedy="nothing was written; this is a bug of splatyard or of its exporter: please report it",
        )
    times = _seconds(session, dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return Exported(
        {value.name: tuple(value.shape) for value in session.get_inputs()},
        {value.name: tuple(value.shape) for value in session.get_outputs()},
        steps,
        episodes,
        difference,
        float(np.median(times)),
        float(np.quantile(times, 0.95)),
    )


def _images_of(env: TrainEnv, preset: Preset) -> tuple[str, ...]:
    """What of the robot's camera are the policy's first inputs, see `ExportedPolicy`.

    Raises:
        TrainError: When it sees what a file can't be given.
    """
    cameras = [rig.camera.name for rig in env.env.cameras]
    if not find_encoder(preset.policy).exported or cameras not in ([], [""]):
        raise TrainError(
            "an exported policy is blind, or sees colours or depths of the camera in its robot's file",
            found=f"encoder {preset.policy.encoder!r}, cameras {cameras}",
            remedy="run the policy from its checkpoint",
        )
    groups = seen_groups(env.get_observations())
    measured = MODALITIES["rgb"] if env.frozen else MODALITIES.get(groups[0]) if groups else None
    return measured or tuple(groups)


def _measured(env: TrainEnv, images: Sequence[str]) -> Arrays:
    """Current inputs of the file: the images, then the vectors in the policy's order."""
    groups = env.get_observations()
    found = {name: env.seen[name] if name in env.seen else groups[name].cpu().numpy() for name in images}
    return found | {name: env.seen[name] for name in env.vectors}


def _compare(
    session: InferenceSession, exported: ExportedPolicy, policy: VisionPolicy, env: TrainEnv, images: Sequence[str]
) -> tuple[int, int, float]:
    """Steps, ended episodes and the largest difference while the policy drives, each with its own hidden state."""
    steps, episodes, difference = int(env.max_episode_length) + EXTRA_STEPS, 0, 0.0
    memory = [tensor.numpy() for tensor in exported.blank()]
    span = 2 * np.abs(exported.gain.numpy()).sum(1)
    with torch.inference_mode():
        for _ in range(steps):
            given = _measured(env, images)
            names = (f"{state}_in" for state in exported.states)
            outputs = session.run(None, given | dict(zip(names, memory, strict=True)))
            action, targets, *memory = (np.asarray(output, np.float32) for output in outputs)
            expected = policy(env.get_observations())
            true = expected.clamp(-1, 1).cpu().numpy()
            aims = (targets - env.env.controller.command(true)) / span
            difference = max(difference, *(float(np.abs(values).max()) for values in (action - true, aims)))
            if np.isnan(action).any() or np.isnan(targets).any():
                return steps, episodes, float("nan")
            _, _, dones, _ = env.step(expected)
            policy.reset(dones)
            if dones[0]:
                episodes, memory = episodes + 1, [tensor.numpy() for tensor in exported.blank()]
    return steps, episodes, difference


def _seconds(session: InferenceSession, given: Arrays) -> F64:
    """How long each of `RUNS` steps takes [s]."""
    times = np.empty(RUNS)
    for number in range(-WARM_UP, RUNS):
        start = time.perf_counter()
        session.run(None, given)
        times[number] = time.perf_counter() - start
    return times


def _about(env: SceneEnv, images: Sequence[str], measured: Arrays) -> dict[str, str]:
    """Metadata for users of the file: texts, or JSON."""
    observations = {
        name: about(term.function)  # with its units
        for name, term in env.task.observations.items()
        if name in measured
    }
    found = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": env.task.name,
        "robot": env.robot.name,
        "control_period": repr(env.task.control_period),  # [s]
        "observations": json.dumps(observations),
        "targets": json.dumps(env.controller.outputs(env.robot)),
        "memory": "zeros at the beginning of an episode, then the outputs *_out as the next inputs *_in",
    }
    if order := sdk_joints(env.robot):
        found["sdk_joints"] = json.dumps(order)
    if set(images) & set(IMAGES):
        mount = {"base_from_camera": env.robot.base_from_camera.matrix.tolist()}  # [m]
        found["camera"] = json.dumps({**env.task.camera.to_json(), **mount})
    return found
