"""A policy as one ONNX file: from what a robot measures to what its actuators aim at, checked against torch."""

from __future__ import annotations

import inspect
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import TrainError
from pipeline.geometry import Camera
from sim.env import SceneEnv
from train.controller import Controller
from train.environment import TrainEnv
from train.files import write_atomically
from train.models.encoders import find_encoder
from train.models.policy import SightPolicy
from train.play import open_play
from train.preset import Preset
from train.run import Run

TOLERANCE = 1e-4
"""Between the file's actions and torch's, and between their targets as a share of these targets' range."""
AFTER = 20
"""Steps of the check beyond an episode's longest, so that the memory begins anew at least once."""
RUNS, WARM_UP = 300, 30
"""Of the measurement of the latency, and before it."""
FORMAT, FORMAT_VERSION = "splatyard.policy", "1"
UNITS = {("velocity", "hinge"): "rad/s", ("velocity", "slide"): "m/s", ("position", "hinge"): "rad"}
"""Of a target by what it means and what moves; else m."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """What was written, and how it did.

    Attributes:
        inputs: Shapes by name.
        outputs: Shapes by name.
        steps: That it was checked over.
        episodes: That began anew in them.
        difference: The largest, see `TOLERANCE`.
        median: Time of a step on one thread [s].
        slow: The time that 95 % of the steps stay below [s].
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    steps: int
    episodes: int
    difference: float
    median: float
    slow: float


def export_run(run: Run, path: Path, *, file: Path | None = None, allow_failed: bool = False) -> Exported:
    """Write a run's policy.

    Args:
        run: Whose policy.
        path: The ONNX file.
        file: The run's checkpoint; the newest by default.
        allow_failed: Take a scene that failed gates too.

    Raises:
        TrainError: When there is no checkpoint, or the file would not do what the policy does: then none is written.
        SimError: When the run's scene can't be simulated.
        BundleError: When it isn't there.
    """
    env, policy = open_play(run, starts="all", file=file, allow_failed=allow_failed)
    about = {"run": run.name, "scenes": json.dumps([asdict(lock) for lock in run.locks])}
    try:
        assert isinstance(policy, SightPolicy)  # as every preset's
        return export_policy(policy, env, run.preset, path, about)
    finally:
        env.env.close()


def export_policy(
    policy: SightPolicy, env: TrainEnv, preset: Preset, path: Path, about: Mapping[str, str] | None = None
) -> Exported:
    """Write a policy, if the file does over an episode and more what the policy does.

    Args:
        policy: With nothing to remember.
        env: One robot; the check goes on in it.
        preset: The policy's.
        path: The ONNX file.
        about: More to say in it.

    Raises:
        TrainError: When ONNX isn't installed, or the file would differ: then none is written.
    """
    onnx, runtime = _libraries()
    encoder, simulation = find_encoder(preset.policy.encoder, preset.policy.sees), env.env
    sense = next(iter(encoder.senses(simulation)), None)
    sight = encoder.outputs[0] if encoder.outputs else sense.group if sense else None
    controller = Controller(policy, sight, getattr(sense, "module", None), simulation.drive).eval()
    measured = _measured(env, sight)
    inputs = [torch.from_numpy(values.copy()) for values in measured.values()] + controller.blank()
    names = [*measured, *(f"{state}_in" for state in controller.states)]
    outputs = ["next_action", "targets", *(f"{state}_out" for state in controller.states)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how torch's own memories are made
        program = torch.onnx.export(
            controller, tuple(inputs), input_names=names, output_names=outputs, dynamo=True, verbose=False
        )
    assert program is not None  # without a file to write to
    model = program.model_proto
    onnx.helper.set_model_props(model, {**_about(simulation, sight, measured), **(about or {})})
    content = model.SerializeToString()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    steps, episodes, difference = _compare(session, controller, policy, env, sight)
    if not difference <= TOLERANCE:
        raise TrainError(
            f"an exported policy does what the trained one does, to {TOLERANCE:g}",
            found=f"a difference of {difference:.2g} within {steps} steps",
            remedy="nothing was written; this is a bug of splatyard or of its exporter: please report it",
        )
    median, slow = _latency(session, dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return Exported(
        _shapes(session.get_inputs()), _shapes(session.get_outputs()), steps, episodes, difference, median, slow
    )


def _libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise TrainError(
            "an export needs onnx, onnxscript and onnxruntime",
            found=str(error),
            remedy="pip install 'splatyard[train]'",
        ) from error
    return onnx, onnxruntime


def _measured(env: TrainEnv, sight: str | None) -> Arrays:
    """What a robot gets now, as the file takes it: what it sees, then its vectors as the policy has them."""
    found: Arrays = {}
    if sight is not None:
        found[sight] = env.seen[sight] if sight in env.seen else env.get_observations()[sight].cpu().numpy()
    known = [name for name, term in env.env.task.observations.items() if not term.privileged]
    return found | {name: env.seen[name] for name in known}


def _compare(
    session: Any, controller: Controller, policy: SightPolicy, env: TrainEnv, sight: str | None
) -> tuple[int, int, float]:
    """Steps, new episodes and the largest difference of a drive by the policy, each with its own memory."""
    steps, episodes, difference = int(env.max_episode_length) + AFTER, 0, 0.0
    memory = [tensor.numpy() for tensor in controller.blank()]
    span = 2 * np.abs(controller.gain.numpy()).sum(1)
    with torch.inference_mode():
        for _ in range(steps):
            given = _measured(env, sight)
            names = (f"{state}_in" for state in controller.states)
            action, targets, *memory = session.run(None, given | dict(zip(names, memory, strict=True)))
            wanted = policy(env.get_observations())
            true = wanted.clamp(-1, 1).cpu().numpy()
            aims = (targets - env.env.drive.targets(true)) / span
            difference = max(difference, *(float(np.abs(values).max()) for values in (action - true, aims)))
            if np.isnan(action).any() or np.isnan(targets).any():
                return steps, episodes, float("nan")
            _, _, dones, _ = env.step(wanted)
            policy.reset(dones)
            if dones[0]:
                episodes, memory = episodes + 1, [tensor.numpy() for tensor in controller.blank()]
    return steps, episodes, difference


def _latency(session: Any, given: Arrays) -> tuple[float, float]:
    """Median of the time of a step, and what 95 % stay below [s]."""
    times = np.empty(RUNS)
    for run in range(-WARM_UP, RUNS):
        begun = time.perf_counter()
        session.run(None, given)
        times[run] = time.perf_counter() - begun
    return float(np.median(times)), float(np.quantile(times, 0.95))


def _shapes(values: list[Any]) -> dict[str, tuple[int, ...]]:
    return {value.name: tuple(value.shape) for value in values}


def _about(env: SceneEnv, sight: str | None, measured: Arrays) -> dict[str, str]:
    """What one needs to know to use the file: texts, or JSON."""
    kinds = {link.joint.name: link.joint.kind for link in env.robot.links if link.joint}
    targets = [
        {"joint": one.joint, "mode": one.mode, "unit": UNITS.get((one.mode, kinds[one.joint]), "m")}
        for one in env.robot.actuators
    ]
    observations = {
        name: _first_line(term.function) for name, term in env.task.observations.items() if name in measured
    }
    found = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": env.task.name,
        "robot": env.robot.name,
        "control_period": repr(env.task.control_period),  # [s]
        "observations": json.dumps(observations),
        "targets": json.dumps(targets),
        "memory": "zeros at the beginning of an episode, then the outputs *_out as the next inputs *_in",
    }
    if sight in ("rgb", "depth"):
        found["camera"] = json.dumps(_camera(env))
    return found


def _camera(env: SceneEnv) -> dict[str, Any]:
    """The pinhole, OpenCV, and where it sits on the base [m]."""
    lens: Camera = env.task.camera
    return {**lens.to_json(), "base_from_camera": env.robot.base_from_camera.matrix.tolist()}


def _first_line(function: Callable[..., Any]) -> str:
    """What a term says of itself, with its units."""
    return (inspect.getdoc(function) or "").partition("\n")[0]
