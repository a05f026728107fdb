"""A policy as an ONNX file does what it does in torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from flows.cli import main
from pipeline.errors import TrainError
from sim.control.wheels import DifferentialDrive
from sim.controlled import find_robot, robot_for
from sim.policies.catalog import open_driver
from sim.robots.catalog import sdk_joints
from sim.robots.model import Wheels
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from sim.tasks.catalog import find_task
from tests.bundles import make_bundle
from tests.synthetic import Room
from train import onnx_export
from train.algorithms.agent import make_agent
from train.algorithms.policy import VisionPolicy
from train.encoders import dinov2
from train.encoders.dinov2 import Dinov2
from train.encoders.gaussian_regressor import GaussianRegressor, file_of
from train.environment import TrainEnv, make_env
from train.onnx_export import TOLERANCE, ExportedPolicy, export_policy, linear
from train.preset import Preset, load_preset
from train.runs import checkpoint
from train.runs.run import Run

SMALL = {"policy.rnn_hidden_dim": 8, "policy.actor_hidden_dims": [16]}
BLIND = {"policy.encoder": "none", "policy.rnn_type": "gru"}


def lively(scene: SimScene, changes: dict[str, Any], seed: int = 1) -> tuple[Preset, TrainEnv, VisionPolicy]:
    """A policy whose untrained actions go far to both sides of its first one, which is 0, and a robot for it."""
    preset = load_preset("navigate", SMALL | changes)
    env = make_env(preset, [scene], num_envs=1, starts="all", seed=seed)
    torch.manual_seed(seed)
    agent = make_agent(preset, env)
    agent.eval_mode()
    policy = agent.get_policy()
    assert isinstance(policy, VisionPolicy)
    with torch.no_grad():
        *_, weight, bias = policy.mlp.parameters()
        weight.mul_(40)
        bias.sub_(policy(env.get_observations())[0])
    policy.reset(torch.ones(1))
    return preset, env, policy


@pytest.fixture
def blind(room_scene: SimScene) -> Iterator[tuple[Preset, TrainEnv, VisionPolicy]]:
    """One with a memory, without sight: quick to export."""
    made = lively(room_scene, BLIND)
    yield made
    made[1].env.close()


def session_of(path: Path) -> Any:
    """The file, ready to run."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def drive_beside(env: TrainEnv, policy: VisionPolicy, session: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions (T, A) of the policy that drives, and of the file that gets what the simulation gives, from a reset."""
    names = [one.name for one in session.get_inputs()]
    memory = {one.name: np.zeros(one.shape, np.float32) for one in session.get_inputs() if one.name.endswith("_in")}
    observations, state = env.reset(9), dict(memory)
    policy.reset()
    both: list[tuple[np.ndarray, np.ndarray]] = []
    with torch.inference_mode():
        for _ in range(steps):
            given = {name: env.seen[name] for name in names if name not in memory}
            found = dict(
                zip((one.name for one in session.get_outputs()), session.run(None, given | state), strict=True)
            )
            action = policy(observations)
            both.append((action.clamp(-1, 1).numpy(), found["next_action"]))
            wheels = env.env.controller.command(found["next_action"])
            np.testing.assert_allclose(found["targets"], wheels, rtol=1e-4, atol=1e-4)
            observations, _, dones, _ = env.step(action)
            policy.reset(dones)
            after = {name: found[name.replace("_in", "_out")] for name in memory}
            state = dict(memory) if dones[0] else after
    torch_actions, file_actions = (np.concatenate(one) for one in zip(*both, strict=True))
    return torch_actions, file_actions


@pytest.mark.parametrize(
    ("changes", "inputs"),
    [
        ({"policy.rnn_type": "gru"}, {"rgb": (1, 48, 64, 3), "h_in": (1, 1, 8)}),
        (
            {"policy.rnn_type": "lstm", "policy.modality": "depth"},
            {"depth": (1, 48, 64), "h_in": (1, 1, 8), "c_in": (1, 1, 8)},
        ),
        (
            {"policy.rnn_type": "gru", "policy.modality": "rgbd"},
            {"rgb": (1, 48, 64, 3), "depth": (1, 48, 64), "h_in": (1, 1, 8)},
        ),
    ],
    ids=["colours and gru", "depth and lstm", "both"],
)
def test_the_file_drives_as_the_policy_does(
    room_scene: SimScene, tmp_path: Path, changes: dict[str, Any], inputs: dict[str, tuple[int, ...]]
):
    """From raw observations to clipped actions and wheel speeds, over episodes, each with its own memory."""
    preset, env, policy = lively(room_scene, changes)
    done = export_policy(policy, env, preset, tmp_path / "new" / "policy.onnx")
    assert done.inputs == {"velocity": (1, 3), "action": (1, 2), **inputs}
    assert done.difference <= TOLERANCE
    assert done.steps == 100
    assert done.episodes >= 1
    assert 0 < done.median <= done.slow
    torch_actions, file_actions = drive_beside(env, policy, session_of(tmp_path / "new" / "policy.onnx"), 60)
    env.env.close()
    np.testing.assert_allclose(file_actions, torch_actions, atol=TOLERANCE)
    assert (np.abs(torch_actions) == 1).any()
    assert np.ptp(torch_actions, axis=0).max() > 0.2


def test_the_simulator_drives_by_it(room_scene: SimScene, tmp_path: Path):
    """As a policy from elsewhere: the same actions as torch's, over episodes."""
    preset, env, policy = lively(room_scene, {"policy.rnn_type": "gru"})
    export_policy(policy, env, preset, tmp_path / "policy.onnx")
    observations, ended = env.reset(9), 0
    policy.reset()
    with open_driver(str(tmp_path / "policy.onnx"), env.env, 0) as drive, torch.inference_mode():
        for _ in range(110):
            action = policy(observations)
            np.testing.assert_allclose(drive(env.seen), action.clamp(-1, 1).numpy(), atol=TOLERANCE)
            observations, _, dones, _ = env.step(action)
            policy.reset(dones)
            ended += int(dones[0])
    env.env.close()
    assert ended


class Forgetful(ExportedPolicy):
    """Gives back the memory that it got."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One step, without a trace."""
        action, targets, *_ = super().forward(*inputs)
        return action, targets, inputs[-1] + 0


class Beside(ExportedPolicy):
    """Its wheels aim a little beside what its action says."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One step."""
        action, targets, *memory = super().forward(*inputs)
        return action, targets * 1.001, *memory


@pytest.mark.parametrize("wrong", [Forgetful, Beside])
def test_a_file_that_would_differ_is_not_written(blind, tmp_path: Path, monkeypatch, wrong: type[ExportedPolicy]):
    """In its memory, or in its targets; what was there before stays."""
    preset, env, policy = blind
    monkeypatch.setattr(onnx_export, "ExportedPolicy", wrong)
    (tmp_path / "policy.onnx").write_bytes(b"old")
    with pytest.raises(TrainError, match="a difference of"):
        export_policy(policy, env, preset, tmp_path / "policy.onnx")
    assert (tmp_path / "policy.onnx").read_bytes() == b"old"


@pytest.mark.slow
def test_a_frozen_network_goes_into_the_file(room_scene: SimScene, tmp_path: Path, monkeypatch):
    """DINOv2, here with random weights: the file takes images, as the camera gives them."""
    pytest.importorskip("timm")
    frozen = Dinov2((48, 64), pretrained=False)
    monkeypatch.setattr(dinov2, "Dinov2", lambda _: frozen)
    preset, env, policy = lively(room_scene, {"policy.encoder": "dinov2"})
    done = export_policy(policy, env, preset, tmp_path / "policy.onnx")
    env.env.close()
    assert done.inputs["rgb"] == (1, 48, 64, 3)
    assert done.difference <= TOLERANCE
    assert (tmp_path / "policy.onnx").stat().st_size > 2**26


@pytest.mark.slow
def test_so_does_the_regressor(room_scene: SimScene, tmp_path: Path):
    """From images to Gaussians to tokens to actions, in one file."""
    torch.manual_seed(3)
    (tmp_path / "weights.safetensors").write_bytes(file_of(GaussianRegressor()))
    file = {"policy.encoder_file": str(tmp_path / "weights.safetensors")}
    preset, env, policy = lively(room_scene, {"policy.encoder": "gaussian_regressor"} | file)
    done = export_policy(policy, env, preset, tmp_path / "policy.onnx")
    env.env.close()
    assert done.inputs["rgb"] == (1, 48, 64, 3)
    assert done.difference <= TOLERANCE


def test_the_command_exports_a_run(tmp_path: Path, room: Room, capsys: pytest.CaptureFixture[str]):
    """The file knows its task, robot, scenes and period, and of each observation and target the unit."""
    bundle = make_bundle(tmp_path, room)
    preset, scene = (
        load_preset("navigate", SMALL | {"policy.encoder": "none", "policy.rnn_type": "none"}),
        open_scene(bundle),
    )
    run = Run.create(tmp_path / "runs", preset, [scene.lock], [str(bundle)], 0, name="new")
    env = make_env(preset, [scene], num_envs=1, starts="all")
    checkpoint.save(run.checkpoints, {"iteration": 0, "agent": make_agent(preset, env).save()})
    env.env.close()
    file = tmp_path / "policy.onnx"
    assert main(["export", "new", "--runs", str(tmp_path / "runs"), "--onnx", str(file)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "100 steps" in printed
    assert "ms a step" in printed
    model = onnx.load(file)
    assert [one.name for one in model.graph.input] == ["velocity", "action"]
    assert [one.name for one in model.graph.output] == ["next_action", "targets"]
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert (about["task"], about["robot"], about["run"]) == ("navigate", "rover", "new")
    assert json.loads(about["scenes"])[0]["reference"] == "room@1.0.0"
    assert float(about["control_period"]) == 0.2
    assert "rad/s" in json.loads(about["observations"])["velocity"]
    assert list(json.loads(about["observations"])) == ["velocity", "action"]
    assert json.loads(about["targets"]) == [
        {"joint": "left_wheel", "mode": "velocity", "unit": "rad/s"},
        {"joint": "right_wheel", "mode": "velocity", "unit": "rad/s"},
    ]
    assert "camera" not in about


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hall"], "one of the arguments --format --onnx is required"),
        (["hall", "--format", "mjcf", "--onnx", "a.onnx"], "not allowed with argument"),
        (["hall", "--format", "dae"], "known: mjcf"),
    ],
)
def test_a_bundle_takes_a_form_and_a_run_a_file(words: list[str], told: str, capsys):
    """One of them, and a form that there is."""
    try:
        code = main(["export", *words])
    except SystemExit as ended:  # argparse's own
        code = ended.code
    assert code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "first", "count"),
    [
        ("navigate", {"command": "forward speed", "unit": "m/s"}, 2),
        ("climb", {"ground_above_base_at": [-0.4, -0.3], "unit": "m"}, 91),
        ("walk", {"joint": "FL_hip_joint", "mode": "offset from the clock's position", "unit": "rad"}, 12),
        ("lift", {"end_effector": "ahead", "unit": "m"}, 5),
        ("fetch", {"joint": "left_wheel", "mode": "velocity", "unit": "rad/s"}, 7),
        ("lift_vserl", {"joint": "arm_waist", "mode": "step", "unit": "rad"}, 7),
    ],
)
def test_the_targets_of_robots_are_told(task: str, first: dict[str, object], count: int):
    """As many as the controller commands: speeds, ground, offsets of joints, moves of end effectors."""
    robot, drive = robot_for(
        find_task(task), {"lift": "panda", "fetch": "fetcher", "lift_vserl": "fetcher"}.get(task, "go2")
    )
    told = drive.outputs(robot)
    assert told[0] == first
    assert len(told) == count == drive.command(np.zeros((1, drive.size), np.float32)).shape[1]


def test_joints_in_the_order_of_the_sdk():
    """The right front leg first; the same joints as in the file."""
    robot, _ = find_robot("go2")
    assert sdk_joints(robot)[:4] == ("FR_hip_joint", "FR_thigh_joint", "FR_calf_joint", "FL_hip_joint")
    assert sorted(sdk_joints(robot)) == sorted(robot.joint_names)
    assert sdk_joints(find_robot("rover")[0]) == ()


def test_a_controller_is_a_gain_and_a_rest():
    """For action (0.5, 1) of wheels of 10 cm, 40 cm apart, the right one reversed: 0.54 m/s ahead, 1.5 rad/s left."""
    wheels = Wheels(("left_wheel",), ("right_wheel",), {"left_wheel": 1, "right_wheel": -1}, 0.1, 0.4, 10.0)
    gain, rest = linear(DifferentialDrive(replace(find_robot("rover")[0], wheels=wheels)))
    np.testing.assert_allclose(gain @ [0.5, 1.0] + rest, [2.4, -8.4], atol=1e-4)
    np.testing.assert_allclose(rest, [2.8, -2.8], atol=1e-5)


def test_the_rovers_drive_is_one():
    """As it drives in the simulation."""
    _, drive = find_robot("rover")
    gain, rest = linear(drive)
    actions = np.array([[0.3, -0.9], [-1.0, 0.2]], np.float32)
    np.testing.assert_allclose(actions @ gain.T + rest, drive.command(actions), rtol=1e-5)


def test_another_drive_is_refused():
    """Squares are no gain."""

    class Squared:
        size = 2

        def command(self, actions: np.ndarray) -> np.ndarray:
            return actions**2

    with pytest.raises(TrainError, match="Squared"):
        linear(Squared())
