"""PPO with images and memory: mini-batches, the lesson on voxels, and mirrored scenes."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rsl_rl.algorithms import PPO
from tensordict import TensorDict
from torch import multiprocessing, nn

from sim.controlled import find_robot
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks.driving.driving_tasks import NAVIGATE
from train.algorithms.mirror import Mirror, make_mirror
from train.algorithms.ppo import VisionPPO
from train.distributed import Processes
from train.encoders.voxels import SHAPE
from train.environment import FINAL
from train.preset import Preset
from train.settings.schedule import LAST

STEPS, ROBOTS = 7, 6
ENDS = ((1, 0), (4, 0), (3, 2), (6, 3), (0, 4), (1, 4), (2, 4))
"""Steps and environments in which an episode ends: some at once, one with the rollout, others not at all."""
PARITY = torch.tensor([1.0, -1, -1, 1, -1])
"""Of a rover's vector: velocity forward, sideways and turning; action forward and turning."""


class Dice:
    """Stands for a `TrainEnv`: random observations, ends of episodes as planned."""

    def __init__(self, seed: int = 0) -> None:
        self.num_envs, self.num_actions = ROBOTS, 2
        self.random = torch.Generator().manual_seed(seed)
        robot, drive = find_robot("rover")
        rigs = (SimpleNamespace(camera=RobotCamera(NAVIGATE.camera)),)
        self.env = SimpleNamespace(task=NAVIGATE, robot=robot, controller=drive, cameras=rigs)
        self._now = self._draw()

    def get_observations(self) -> TensorDict:
        """The newest."""
        return self._now

    def step(self) -> TensorDict:
        """Others."""
        self._now = self._draw()
        return self._now

    def _draw(self) -> TensorDict:
        """Images are brighter on one side, which decides which half of the voxels is occupied."""
        side = torch.rand(ROBOTS, generator=self.random) < 0.5
        rgb = torch.randint(0, 120, (ROBOTS, 3, 48, 64), generator=self.random, dtype=torch.uint8)
        rgb[side, :, :, :32] += 120
        rgb[~side, :, :, 32:] += 120
        voxels = torch.zeros(ROBOTS, *SHAPE[:2], SHAPE[2] + 1, dtype=torch.float16)
        voxels[side, :8, :, :-1] = voxels[~side, 8:, :, :-1] = 1
        voxels[side, ..., -1] = 0.5
        vector = torch.randn(ROBOTS, 5, generator=self.random)
        groups = {"vector": vector, "state": vector.repeat(1, 2), "rgb": rgb, "voxels": voxels}
        return TensorDict(groups, batch_size=[ROBOTS])


def agent_for(env: Any, *, memory: str = "gru", processes: Processes | None = None, **changes: Any) -> VisionPPO:
    """A small one, always the same."""
    values: dict[str, Any] = {
        "task": "navigate",
        "num_steps_per_env": STEPS,
        "policy": {
            "encoder": "cnn",
            "rnn_type": memory,
            "rnn_hidden_dim": 16,
            "actor_hidden_dims": [16],
            "critic_hidden_dims": [16],
        },
        "ppo": {"num_learning_epochs": 1, "num_mini_batches": 3},
    }
    for name, value in changes.items():
        section, _, key = name.partition("_")
        values[section] = values[section] | {key: value} if key else value
    torch.manual_seed(3)
    agent = VisionPPO.of(Preset.model_validate(values), env, processes=processes)
    agent.train_mode()
    return agent


def roll_out(agent: PPO, env: Dice, ends: tuple[tuple[int, int], ...] = ENDS) -> None:
    """One rollout with random rewards; one of the episodes that end runs out of time."""
    with torch.inference_mode():
        for step in range(STEPS):
            agent.act(env.get_observations())
            dones = torch.tensor([int((step, robot) in ends) for robot in range(ROBOTS)])
            outs = dones * torch.tensor([0.0, 0, 1, 0, 0, 0])
            size = env.get_observations()["state"].shape[1]
            extras = {"time_outs": outs, FINAL: torch.randn(int(outs.sum()), size, generator=env.random)}
            agent.process_env_step(env.step(), torch.randn(ROBOTS, generator=env.random), dones, extras)
        agent.compute_returns(env.get_observations())


def batches(agent: VisionPPO) -> list[Any]:
    """As an update gets them."""
    storage = agent.storage
    make = storage.recurrent_mini_batch_generator if agent.actor.is_recurrent else storage.mini_batch_generator
    return list(make(3, 1))


@pytest.mark.parametrize("memory", ["gru", "lstm", "none"])
def test_mini_batches_repeat_the_rollout(memory: str):
    """Before anything is learned, actions have the means and the likelihoods that they had when they were drawn.

    With episodes that end in mid-rollout, memories from the rollout before, and ones that were emptied in between.
    """
    env = Dice()
    agent = agent_for(env, memory=memory)
    for rollout in range(3):
        if rollout == 2:
            agent.actor.reset()
        roll_out(agent, env)
        count = 0
        for batch in batches(agent):
            agent.actor(
                batch.observations, masks=batch.masks, hidden_state=batch.hidden_states[0], stochastic_output=True
            )
            assert batch.observations["rgb"].dtype == torch.uint8
            torch.testing.assert_close(agent.actor.output_mean, batch.old_distribution_params[0])
            likelihood = agent.actor.get_output_log_prob(batch.actions)
            torch.testing.assert_close(likelihood, batch.old_actions_log_prob.squeeze(-1))
            count += likelihood.numel()
        assert count == STEPS * ROBOTS
        assert agent.storage.distribution_params
        assert agent.storage.distribution_params[0].std() > 1e-3
        agent.storage.clear()


@pytest.mark.parametrize(("divergence", "rates"), [(1e3, (7e-4, 7e-4)), (1e-6, (1e-5, 6e-4))])
def test_the_rate_is_never_above_the_first_one(divergence: float, rates: tuple[float, float]):
    """Where policies hardly diverge it stays; where they do it falls."""
    env = Dice()
    agent = agent_for(env, ppo_learning_rate=7e-4, ppo_desired_kl=divergence)
    for _ in range(2):
        roll_out(agent, env)
        agent.update()
        assert rates[0] <= agent.learning_rate <= rates[1]
        assert agent.optimizer.param_groups[0]["lr"] == agent.learning_rate


def test_the_rate_stays_where_nothing_was_learned(monkeypatch: pytest.MonkeyPatch):
    """A policy that didn't move doesn't ask for longer steps."""
    env = Dice()
    agent = agent_for(env, memory="none")
    roll_out(agent, env)
    agent._set_rate(1e-4)
    monkeypatch.setattr(agent.actor, "get_kl_divergence", lambda *_: torch.zeros(3))
    assert agent._adapt_rate() == 0
    assert agent.learning_rate == 1e-4


def test_without_a_lesson_it_is_rsl_rls_own():
    """The same weights after the same rollouts, bit for bit, where the first rate is the highest that rsl-rl takes.

    But for episodes that run out of time: rsl-rl takes their last value from before the last step.
    """
    learned, rate = [], 1e-2
    ends = tuple(end for end in ENDS if end[1] != 2)
    for kind in (VisionPPO, PPO):
        env = Dice()
        agent = agent_for(env, ppo_learning_rate=rate)
        if kind is PPO:
            agent.__class__ = PPO  # type: ignore[assignment]
            agent.learning_rate = rate
        torch.manual_seed(0)
        for _ in range(2):
            roll_out(agent, env, ends)
            assert set(agent.update()) == {"value", "surrogate", "entropy"}
        learned.append([value.clone() for value in agent.actor.parameters()])
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_an_episode_that_ran_out_of_time_would_have_gone_on_from_its_end():
    """Its last reward has the value of the end: not of the state before, nor of the next episode's first one."""
    env = Dice()
    agent = agent_for(env, memory="none")
    final, outs = torch.randn(2, 10), torch.tensor([0.0, 1, 0, 0, 1, 0])
    with torch.inference_mode():
        agent.act(env.get_observations())
        agent.process_env_step(env.step(), torch.ones(ROBOTS), outs.long(), {"time_outs": outs, FINAL: final})
        values = agent.critic(TensorDict({"state": final}, batch_size=[2]))[:, 0]
    expected = torch.ones(ROBOTS)
    expected[[1, 4]] += agent.gamma * values
    torch.testing.assert_close(agent.storage.rewards[0, :, 0], expected)


@pytest.mark.parametrize("memory", ["gru", "none"])
def test_a_teacher_is_learned_by_sight(memory: str):
    """The right action is the brighter side, which only images show; no value is learned."""
    env = Dice()

    def drawn() -> TensorDict:
        seen = Dice._draw(env)
        bright = seen["rgb"].float().mean((1, 2)).unflatten(1, (2, 32)).mean(2)
        seen["teacher"] = bright.diff(dim=1).sign() * torch.tensor([0.6, -0.3])
        return seen

    env._draw = drawn  # type: ignore[method-assign]
    env.step()
    agent = agent_for(env, memory=memory, teacher="side", ppo_learning_rate=1e-2)
    before = [value.clone() for value in agent.critic.parameters()]
    losses = []
    for number in range(25):
        roll_out(agent, env)
        agent.progress = number / 60
        losses.append(agent.update())
    assert set(losses[0]) == {"teacher"}
    assert agent.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * LAST ** (24 / 60))
    assert losses[0]["teacher"] > 0.1
    assert losses[-1]["teacher"] < 0.02
    assert all(torch.equal(one, other) for one, other in zip(before, agent.critic.parameters(), strict=True))


@pytest.mark.parametrize("memory", ["gru", "lstm", "none"])
def test_what_is_remembered_is_compared_with_its_own_step(memory: str, monkeypatch: pytest.MonkeyPatch):
    """Heights number steps and robots: the lesson sees each number beside what was remembered there, each once."""
    env = Dice()
    agent = agent_for(env, memory=memory, policy_voxels={})
    remembered, judged = [], []
    original = agent.actor.get_latent

    def remembering(*arguments: Any, **named: Any) -> torch.Tensor:
        remembered.append(original(*arguments, **named).clone())
        return remembered[-1]

    monkeypatch.setattr(agent.actor, "get_latent", remembering)
    roll_out(agent, env)
    monkeypatch.undo()
    numbers = torch.arange(STEPS * ROBOTS).reshape(STEPS, ROBOTS)
    agent.storage.observations["voxels"][...] = numbers[..., None, None, None].to(torch.float16)
    monkeypatch.setattr(agent.actor.voxel_head, "forward", lambda latent: (latent, latent))

    def judging(logits: torch.Tensor, heights: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        judged.extend(zip(truth[:, 0, 0, -1].long().tolist(), heights.detach(), strict=True))
        return logits.sum() * 0, logits.sum() * 0

    monkeypatch.setattr("train.algorithms.ppo.voxel_loss", judging)
    for batch in batches(agent):
        agent._loss(batch)
    assert sorted(number for number, _ in judged) == list(range(STEPS * ROBOTS))
    for number, latent in judged:
        torch.testing.assert_close(latent, remembered[number // ROBOTS][number % ROBOTS])


@pytest.mark.parametrize("memory", ["gru", "none"])
def test_voxels_teach_eyes_and_memory(memory: str):
    """And the head, but not the layers that act."""
    env = Dice()
    agent = agent_for(env, memory=memory, policy_voxels={})
    roll_out(agent, env)
    agent._loss(batches(agent)[0])[0].backward()
    learning = [name for name, value in agent.actor.named_parameters() if value.grad is not None and value.grad.any()]
    parts = {"encoder", "voxel_head"} if memory == "none" else {"encoder", "memory", "voxel_head"}
    assert {name.partition(".")[0] for name in learning} == parts


def test_voxels_are_learned():
    """Better than by always giving the same answer, which has an intersection of one half at best."""
    env = Dice()
    agent = agent_for(env, policy_voxels={"weight": 2.0, "epochs": 4}, ppo_learning_rate=3e-3)
    agent.schedule = "fixed"
    roll_out(agent, env, ())
    losses = [agent.update() for _ in range(10)]
    assert losses[0]["voxel_iou"] < 0.55
    assert losses[-1]["voxel_iou"] > 0.8
    assert losses[-1]["voxels"] < 0.4 * losses[0]["voxels"]


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_mirrored_memories_are_those_of_a_policy_that_saw_all_mirrored(memory: str):
    """From the first image on, over two rollouts, with ends of episodes; the policy's own are as without a mirror."""
    env = Dice()
    agent = agent_for(env, memory=memory, ppo_use_mirror_loss=True)
    mirror = make_mirror(env.env, ["rgb"])  # type: ignore[arg-type]
    plain, mirrored = copy.deepcopy(agent.actor), copy.deepcopy(agent.actor)
    for _ in range(2):
        roll_out(agent, env)
        for step in range(STEPS):
            seen = agent.storage.observations[step]
            dones = agent.storage.dones[step, :, 0]
            for actor, look, stored in (
                (plain, seen, agent.storage.saved_hidden_state_a),
                (mirrored, mirror.observations(seen), agent.storage.saved_hidden_state_c),
            ):
                before = actor.get_hidden_state()
                if before is not None:
                    for one, there in zip(before if isinstance(before, tuple) else (before,), stored, strict=True):
                        torch.testing.assert_close(one, there[step])
                else:
                    assert not any(there[step].any() for there in stored)
                with torch.no_grad():
                    actor.get_latent(look)
                    actor.reset(dones)
        agent.storage.clear()
    own, other = agent.memories
    assert not torch.allclose(*(memory[0] if isinstance(memory, tuple) else memory for memory in (own, other)))


def test_memories_go_into_a_checkpoint_and_back():
    """A second agent with the weights and the memories of the first acts and remembers as it does."""
    env = Dice()
    one, two = (agent_for(env, ppo_use_mirror_loss=True) for _ in range(2))
    roll_out(one, env)
    two.memories = copy.deepcopy(one.memories)
    with torch.inference_mode():
        for agent in (one, two):
            torch.manual_seed(1)
            agent.act(env.get_observations())
    for own, other in zip(one.memories, two.memories, strict=True):
        torch.testing.assert_close(own, other)
    assert one.memories[1] is not None


class Sides(nn.Module):
    """How bright an image is, and by how much more on the left: the one stays, the other changes its sign."""

    size = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Both (B, 2)."""
        left, right = (half.to(torch.float32).mean((1, 2, 3)) / 255 for half in images.chunk(2, 3))
        return torch.stack([left + right, left - right], 1)


def symmetric(agent: VisionPPO) -> VisionPPO:
    """The agent with a policy whose numbers stay or change their sign in a mirror: half of those in each layer.

    Those that change get no bias and nothing of those that stay, and no gate depends on them.
    """
    actor = agent.actor
    actor.encoder = Sides()
    actor.memory.rnn = nn.GRU(7, 16)
    actor.mlp = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))  # type: ignore[assignment]
    into, inner, out = torch.cat([PARITY, torch.tensor([1.0, -1])]), torch.ones(16), torch.tensor([1.0, -1])
    inner[8:] = -1
    with torch.no_grad():
        rnn = actor.memory.rnn
        gates = torch.cat([torch.ones(32), inner])  # reset, update; new
        rnn.weight_ih_l0 *= gates[:, None] == into
        rnn.weight_hh_l0 *= gates[:, None] == inner
        for bias in (rnn.bias_ih_l0, rnn.bias_hh_l0):
            bias *= gates > 0
        for layer, before, after in ((actor.mlp[0], inner, inner), (actor.mlp[2], inner, out)):
            layer.weight *= after[:, None] == before
            layer.bias *= after > 0
    return agent


def mirror_loss(agent: VisionPPO) -> float:
    """Over the rollout."""
    with torch.no_grad():
        return sum(float(agent._loss(batch)[1]["mirror"]) for batch in batches(agent))


def test_a_symmetric_policy_has_nothing_to_learn_from_mirrors():
    """Its loss is 0 over episodes that end and begin; with one weight across, it isn't."""
    env = Dice()
    agent = symmetric(agent_for(env, ppo_use_mirror_loss=True))
    for _ in range(2):
        roll_out(agent, env)
        assert agent.storage.distribution_params
        assert (agent.storage.distribution_params[0].std((0, 1)) > 1e-3).all()  # it does turn, now here, now there
        assert mirror_loss(agent) < 1e-12
        agent.storage.clear()
    with torch.no_grad():
        agent.actor.memory.rnn.weight_hh_l0[40, 2] += 0.5
    roll_out(agent, env)
    assert mirror_loss(agent) > 1e-7


@pytest.mark.parametrize("memory", ["gru", "none"])
def test_policies_become_symmetric(memory: str):
    """A policy like any other learns to, where nothing else is to be learned."""
    env = Dice()
    agent = agent_for(env, memory=memory, ppo_use_mirror_loss=True, ppo_learning_rate=1e-3, ppo_entropy_coef=0)
    agent.schedule = "fixed"
    roll_out(agent, env)
    agent.storage.advantages = torch.zeros(STEPS, ROBOTS, 1)
    losses = [agent.update()["mirror"] for _ in range(12)]
    assert losses[0] > 1e-5
    assert losses[-1] < 0.3 * losses[0]


def test_a_mirror_comes_into_the_agent_from_the_preset():
    """Only when it is asked for."""
    env = Dice()
    assert isinstance(agent_for(env, ppo_use_mirror_loss=True)._mirror, Mirror)
    assert agent_for(env)._mirror is None


def _learn(rank: int, folder: str) -> None:
    """One process of two: its own observations, the same weights; what it has learned goes into a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    env = Dice(seed=rank)
    processes = Processes(global_rank=rank, local_rank=rank, world_size=2)
    agent = agent_for(env, policy_voxels={}, ppo_use_mirror_loss=True, processes=processes)
    roll_out(agent, env)
    agent.update()
    torch.save(agent.get_policy().state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _adapt(rank: int, folder: str) -> None:
    """One process of two, whose policy has moved farther in the second; its rate goes into a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    env = Dice(seed=rank)
    processes = Processes(global_rank=rank, local_rank=rank, world_size=2)
    agent = agent_for(env, memory="none", processes=processes)
    roll_out(agent, env)
    with torch.no_grad():
        agent.actor.mlp[-1].bias += 0.3 * rank
    agent.desired_kl = 0.005  # between those of the two
    kl = agent._adapt_rate()
    torch.save((kl, agent.learning_rate), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_learn_at_the_same_rate(tmp_path: Path):
    """Networks would differ for good after the first update where only one of them has moved too far."""
    multiprocessing.spawn(_adapt, (str(tmp_path),), 2)
    (kl, rate), other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert other == (kl, rate)
    assert kl > 0
    assert rate < 1e-3


@pytest.mark.slow
def test_processes_learn_the_same_from_different_lessons(tmp_path: Path):
    """Gradients of the lesson are averaged too."""
    multiprocessing.spawn(_learn, (str(tmp_path),), 2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert any(name.startswith("voxel_head") for name in one)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name])
