"""The loop round a trainer: what it keeps, how it ends, and that it goes on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.errors import TrainError
from sim.scene.scene import SceneLock, SimScene
from tests.paths import ROOT
from tests.train.runs.test_checkpoint import alike
from tests.train.runs.test_run import room_for
from train import session
from train.preset import change_preset, load_preset
from train.runs import checkpoint
from train.runs.record import Ending
from train.runs.run import Run
from train.session import train_run

LOCK = SceneLock("hall@1.0.0", "a" * 64, ())
SCENE: Any = SimpleNamespace(lock=LOCK)


class FakeTrainer:
    """Each iteration draws a number and adds it up, so that its rows tell of all that went before."""

    fails_at = 10**9
    size = 1
    closed = 0

    def __init__(self, preset: Any, scenes: Sequence[Any], *, seed: int, folder: Path, **_: object) -> None:
        self.iteration = 0
        self._random, self._sum = torch.Generator().manual_seed(seed), 0.0
        self.env = self

    @property
    def steps(self) -> int:
        """As many as there were iterations, times 64."""
        return 64 * self.iteration

    def iterate(self) -> dict[str, float]:
        """A row, or the error of one that diverges."""
        if self.iteration + 1 == self.fails_at:
            raise TrainError("numbers stay finite while training", found="loss/value not finite", remedy="a lower rate")
        self.iteration += 1
        self._sum += float(torch.rand((), generator=self._random))
        return {"iteration": self.iteration, "steps": self.steps, "reward": self._sum}

    def state(self) -> dict[str, Any]:
        """As large as is wanted."""
        state = {"iteration": self.iteration, "random": self._random.get_state(), "sum": self._sum}
        return {**state, "simulation": torch.zeros(self.size), "agent": {}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on."""
        self.iteration, self._sum = state["iteration"], state["sum"]
        self._random.set_state(state["random"])

    def close(self) -> None:
        """Counted."""
        FakeTrainer.closed += 1


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> type[FakeTrainer]:
    """In the place of the real one."""
    monkeypatch.setattr(session, "Trainer", FakeTrainer)
    for name in ("fails_at", "size", "closed"):
        monkeypatch.setattr(FakeTrainer, name, getattr(FakeTrainer, name))
    return FakeTrainer


def make_run(root: Path, locks: Sequence[SceneLock] = (LOCK,), seed: int = 3, **changes: object) -> Run:
    """With a checkpoint each ten iterations."""
    preset = load_preset("navigate", {"save_interval": 10, **changes})
    return Run.create(root, preset, locks, ["hall"] * len(locks), seed)


def rows(run: Run) -> list[dict[str, float]]:
    """The curve without what a clock says."""
    timed = ("seconds", "steps_per_second")
    return [{name: row[name] for name in row if not name.startswith(timed)} for row in run.curve.read()]


def names(run: Run) -> list[str]:
    """Of its checkpoints."""
    return [path.stem for path in checkpoint.files(run.checkpoints)]


def after(iterations: int) -> tuple[Callable[[], bool], list[dict[str, float]]]:
    """Someone who presses Ctrl-C then, and what he has seen until then."""
    seen: list[dict[str, float]] = []
    return lambda: len(seen) >= iterations, seen


def test_a_training_keeps_curve_and_checkpoints(tmp_path: Path, trainer: type[FakeTrainer]):
    """Before the first iteration, at each tenth, at the end; a row for each iteration."""
    run = make_run(tmp_path)
    _, seen = after(0)
    assert train_run(run, [SCENE], iterations=23, watch=seen.append) == 23
    assert names(run) == ["000000", "000010", "000020", "000023"]
    assert [row["iteration"] for row in run.curve.read()] == list(range(1, 24))
    assert seen == run.curve.read()
    seconds = [row["seconds"] for row in seen]
    assert seconds == sorted(seconds)
    assert trainer.closed == 1


def test_it_stops_with_a_checkpoint_when_asked_to(tmp_path: Path, trainer: type[FakeTrainer]):
    """And goes on from there; seconds go on too."""
    run = make_run(tmp_path)
    stop, seen = after(13)
    assert train_run(run, [SCENE], iterations=40, watch=seen.append, stop=stop) == 13
    assert names(run) == ["000000", "000010", "000013"]
    assert train_run(run, [SCENE], iterations=40) == 40
    whole = make_run(tmp_path)
    train_run(whole, [SCENE], iterations=40)
    assert rows(run) == rows(whole)
    seconds = [row["seconds"] for row in run.curve.read()]
    assert seconds == sorted(seconds)


def test_minutes_end_it_too(tmp_path: Path, trainer: type[FakeTrainer]):
    """After the iteration in which they are over."""
    run = make_run(tmp_path)
    assert train_run(run, [SCENE], iterations=40, minutes=1e-9) == 1
    assert names(run) == ["000000", "000001"]


def test_how_it_ended_is_taken_down(tmp_path: Path, trainer: type[FakeTrainer]):
    """How far it came and was to come, by a time limit and a Ctrl-C; nothing while it trains or after a kill."""
    run, (stop, seen) = make_run(tmp_path), after(2)
    train_run(run, [SCENE], iterations=40, minutes=1e-9)
    assert run.ending is not None
    assert run.ending.early == "1 of 40 iterations: the time limit of 1e-09 minutes ended it"
    train_run(run, [SCENE], iterations=40, watch=seen.append, stop=stop, minutes=5)
    assert run.ending.early == "3 of 40 iterations: it was interrupted"
    during: list[object] = []

    def kill(row: dict[str, float]) -> None:
        during.append(run.ending)
        if row["iteration"] == 7:
            raise SystemExit

    with pytest.raises(SystemExit):
        train_run(run, [SCENE], iterations=40, watch=kill)
    assert [*during, run.ending] == [None] * 5
    train_run(run, [SCENE], iterations=40, minutes=5)
    assert (run.ending, run.ending and run.ending.early) == (
        Ending(reached=40, planned=40, by="iterations", minutes=5),
        "",
    )


def test_an_interrupt_of_another_process_is_no_time_limit(
    tmp_path: Path, trainer: type[FakeTrainer], monkeypatch: pytest.MonkeyPatch
):
    """All end by it in the same iteration, and say so, though a time limit was given."""
    calls: list[bool] = []

    def asked_elsewhere(request: bool, _: object) -> bool:
        calls.append(request)
        return request or len(calls) == 1

    monkeypatch.setattr(session, "agreed", asked_elsewhere)
    run = make_run(tmp_path)
    train_run(run, [SCENE], iterations=40, minutes=5)
    assert run.ending
    assert run.ending.early == "1 of 40 iterations: it was interrupted"


def test_a_gait_is_written_by_whoever_reaches_the_end(
    tmp_path: Path, trainer: type[FakeTrainer], monkeypatch: pytest.MonkeyPatch
):
    """By a resume that has nothing to train any more, too, after a kill between the last checkpoint and the gait."""
    written: list[float] = []

    def write(run: Run, env: object, policy: object, metrics: Mapping[str, float]) -> None:
        written.append(metrics["iteration"])
        if len(written) == 1:
            raise SystemExit

    monkeypatch.setattr("train.legs.gait.save_gait", write)
    monkeypatch.setattr(FakeTrainer, "agent", SimpleNamespace(get_policy=lambda: None), raising=False)
    preset = load_preset("walk", {"save_interval": 10})
    run = Run.create(tmp_path, preset, (LOCK,), ["hall"], seed=3)
    with pytest.raises(SystemExit):
        train_run(run, [SCENE], iterations=12)
    assert train_run(run, [SCENE], iterations=12) == 12
    assert written == [12, 12]


@pytest.mark.parametrize(
    ("algorithm", "setting"), [("ppo", "ppo"), ("sac", "sac"), ("rlpd", "sac"), ("dagger", "ppo"), ("iql", "offline")]
)
def test_advice_is_of_the_algorithm_that_learns(tmp_path: Path, algorithm: str, setting: str):
    """Another algorithm's learning rate would change nothing."""
    demos = {"demos": "demos"} if algorithm in ("rlpd", "iql") else {}
    preset = load_preset("navigate", {"algorithm": algorithm, **demos})
    agent: Any = SimpleNamespace(save=dict)
    with pytest.raises(TrainError) as raised:
        checkpoint.check_finite({"loss/value": float("nan")}, agent, preset)
    assert f"--set {setting}.learning_rate=" in raised.value.remedy
    change_preset(preset, {f"{setting}.learning_rate": 1e-5}, "--set")


def test_a_time_limit_changes_nothing_but_the_end(tmp_path: Path, trainer: type[FakeTrainer]):
    """What is learned does not hang on the clock: rows are those of a training without one, as far as it came."""
    limited, whole = make_run(tmp_path), make_run(tmp_path)
    train_run(limited, [SCENE], iterations=30, minutes=1e-9)
    train_run(whole, [SCENE], iterations=30)
    assert rows(limited) == rows(whole)[:1]
    train_run(limited, [SCENE], iterations=30, minutes=60)
    assert rows(limited) == rows(whole)


def test_a_killed_training_goes_on_from_its_last_checkpoint(
    tmp_path: Path, trainer: type[FakeTrainer], monkeypatch: pytest.MonkeyPatch
):
    """The curve is that of one that was never killed, though rows had been written after the checkpoint."""
    run, whole = make_run(tmp_path), make_run(tmp_path)
    train_run(whole, [SCENE], iterations=30)

    def kill(row: dict[str, float]) -> None:
        if row["iteration"] == 17:
            raise SystemExit

    with pytest.raises(SystemExit):
        train_run(run, [SCENE], iterations=30, watch=kill)
    assert names(run) == ["000000", "000010"]
    assert len(run.curve.read()) == 17
    train_run(run, [SCENE], iterations=30)
    assert rows(run) == rows(whole)
    assert trainer.closed == 3


def test_a_diverging_training_names_the_last_good_checkpoint(tmp_path: Path, trainer: type[FakeTrainer]):
    """And keeps nothing of what came after."""
    trainer.fails_at = 15
    run = make_run(tmp_path)
    with pytest.raises(TrainError) as raised:
        train_run(run, [SCENE], iterations=30)
    assert "loss/value not finite" in raised.value.found
    assert str(run.checkpoints / "000010.pt") in raised.value.remedy
    assert "a lower rate" in raised.value.remedy
    assert names(run) == ["000000", "000010"]
    assert run.curve.read()[-1]["iteration"] == 14


def test_a_full_disk_ends_it_and_leaves_what_there_was(tmp_path: Path, trainer: type[FakeTrainer]):
    """Whoever makes room goes on as if nothing had been."""
    run, whole = make_run(tmp_path), make_run(tmp_path)
    train_run(whole, [SCENE], iterations=30)
    train_run(run, [SCENE], iterations=20)
    trainer.size = 100_000
    with room_for(200_000), pytest.raises(TrainError, match="has room"):
        train_run(run, [SCENE], iterations=30)
    assert names(run) == ["000000", "000010", "000020"]
    trainer.size = 1
    train_run(run, [SCENE], iterations=30)
    assert rows(run) == rows(whole)


def test_scenes_with_other_hashes_are_refused(tmp_path: Path, trainer: type[FakeTrainer]):
    """Before anything is changed."""
    run = make_run(tmp_path)
    train_run(run, [SCENE], iterations=3)
    before = rows(run)
    rebuilt: Any = SimpleNamespace(lock=dataclasses.replace(LOCK, sha256="b" * 64))
    with pytest.raises(TrainError, match=r"hall@1\.0\.0 .sha256 bbbbbbbbbbbb"):
        train_run(run, [rebuilt], iterations=9)
    assert rows(run) == before


def test_what_another_number_of_processes_left_is_refused(tmp_path: Path, trainer: type[FakeTrainer]):
    """The environments of the others would be lost."""
    run = make_run(tmp_path)
    trained = {"iteration": 5, "agent": {}, "seconds": 1.0, "processes": [{}, {}]}
    checkpoint.save(run.checkpoints, trained)
    with pytest.raises(TrainError, match=r"(?s)1 alone instead of 2 together.*--num-gpus 2"):
        train_run(run, [SCENE], iterations=9)


def test_machines_continue_with_as_many_as_there_are(tmp_path: Path, trainer: type[FakeTrainer], monkeypatch: Any):
    """Each with its part of the checkpoint; who was not there begins new episodes with what all learned."""
    whole = {"iteration": 5, "agent": {"w": 1}, "seconds": 1.0}
    fresh = {"memories": "fresh", "random": "fresh", "iteration": 0}
    parts = [{"curriculum": n, "memories": n, "random": n, "environment": [n], "episode_stats": [n]} for n in (7, 8)]
    state: Any = {**whole, "processes": parts}
    alone: Any = {**whole, **parts[0]}
    begun: Any = SimpleNamespace(state=lambda: fresh)

    def own(of: Any, rank: int, size: int) -> dict[str, Any]:
        found = session._own_part(of, begun, {"global_rank": rank, "local_rank": 0, "world_size": size})
        return {name: found[name] for name in ("iteration", "agent", *parts[0])}

    later = {"curriculum": 7, "memories": "fresh", "random": "fresh", "environment": [], "episode_stats": []}
    rest = {"iteration": 5, "agent": {"w": 1}}
    assert own(state, 1, 2) == {**rest, **parts[1]}
    assert own(state, 0, 1) == {**rest, **parts[0]}
    assert own(state, 2, 3) == own(alone, 0, 2) == {**rest, **later}
    assert session._own_part(alone, begun, None) is alone


def test_a_checkpoint_that_lacks_something_is_named(tmp_path: Path, trainer: type[FakeTrainer]):
    """It is nobody's bug."""
    run = make_run(tmp_path)
    path = checkpoint.save(run.checkpoints, {"iteration": 5, "seconds": 1.0})
    with pytest.raises(TrainError, match="KeyError: 'sum'") as raised:
        train_run(run, [SCENE], iterations=9)
    assert raised.value.file == str(path)


SMALL = {
    "num_envs": 12,
    "num_steps_per_env": 4,
    "save_interval": 25,
    "scene_sampling": "learning_progress",
    "policy.rnn_type": "none",
    "policy.actor_hidden_dims": [8],
    "policy.critic_hidden_dims": [8],
    "ppo.num_learning_epochs": 1,
    "ppo.num_mini_batches": 2,
}
REMEMBERING = {
    "policy.rnn_type": "gru",
    "policy.rnn_hidden_dim": 8,
    "policy.voxels.weight": 0.5,
    "ppo.desired_kl": 1e-4,  # small steps: networks as small as these would come to remember only -1, 0 and 1
    "ppo.use_mirror_loss": True,
}


def test_torch_keeps_its_one_thread():
    """Where numba starts afterwards, too; in a new process, for here it may have started already."""
    code = (
        "import torch, numba, numpy as np\n"
        "from train.distributed import use_one_thread\n"
        "use_one_thread()\n"
        "torch.get_num_threads()\n"  # later, torch doesn't look again at what it was told
        "@numba.njit(parallel=True)\n"
        "def double(x):\n"
        "    for i in numba.prange(len(x)):\n"
        "        x[i] *= 2\n"
        "double(np.ones(64))\n"
        "print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "half"),
    [({}, 25), ({"scenes_at_a_time": 1}, 25), (REMEMBERING, 5)],
    ids=["scenes by progress", "in turn", "memory, voxels and mirror"],
)
def test_two_halves_are_a_whole(tmp_path: Path, room_scene: SimScene, more: dict[str, Any], half: int):
    """With the real trainer: the same curve and the same networks, to the last bit."""
    other = dataclasses.replace(room_scene, lock=dataclasses.replace(room_scene.lock, sha256="1" * 64))
    scenes = [room_scene, other]
    locks = [scene.lock for scene in scenes]
    # a seed by which some robot succeeds in the first half
    whole, broken = (make_run(tmp_path, locks, seed=1, **{**SMALL, **more, "save_interval": half}) for _ in range(2))
    train_run(whole, scenes, iterations=2 * half)
    assert train_run(broken, scenes, iterations=half) == half
    assert train_run(Run.open(broken.folder), scenes, iterations=2 * half) == 2 * half
    assert len(rows(whole)) == 2 * half
    assert rows(broken) == rows(whole)
    left = checkpoint.load(broken.checkpoints / f"{half:06d}.pt")
    if more is REMEMBERING:  # that what is remembered matters
        assert left["memories"][0].std() > 0.1
    else:  # that it matters what the curriculum knows
        assert torch.tensor(left["curriculum"]).any()
    states = [checkpoint.load(run.checkpoints / f"{2 * half:06d}.pt") for run in (whole, broken)]
    for state in states:
        state.pop("seconds")
    assert alike(*states)


def test_a_training_that_really_diverges_is_ended(tmp_path: Path, room_scene: SimScene):
    """A rate that throws the weights out of all bounds, in the real trainer."""
    run = make_run(tmp_path, [room_scene.lock], **{**SMALL, "ppo.learning_rate": 1e30})
    with pytest.raises(TrainError, match=r"(?s)finite.*000000\.pt"):
        train_run(run, [room_scene], iterations=9)
    assert names(run) == ["000000"]


def test_a_policy_is_that_of_its_newest_checkpoint(tmp_path: Path, room_scene: SimScene):
    """For any number of environments; another preset's network is refused."""
    from train.environment import make_env

    run = make_run(tmp_path, [room_scene.lock], **SMALL)
    train_run(run, [room_scene], iterations=1)
    env = make_env(run.preset, [room_scene], num_envs=3, seed=8, starts="all")
    first, newest = (checkpoint.load_policy(run, env, run.checkpoints / "000000.pt"), checkpoint.load_policy(run, env))
    saved = checkpoint.load(run.checkpoints / "000001.pt")["agent"]["actor_state_dict"]
    assert alike(dict(newest.actor.state_dict()), dict(saved))
    assert not alike(dict(first.actor.state_dict()), dict(saved))
    assert not newest.actor.training
    with torch.inference_mode():
        assert newest.actor(env.get_observations()).shape == (3, 2)
    env.env.close()
    broader = make_run(tmp_path, [room_scene.lock], **{**SMALL, "policy.actor_hidden_dims": [9]})
    with pytest.raises(TrainError, match=r"actor\.mlp\.0\.weight is .*, 9x"):
        checkpoint.load_policy(broader, env, run.checkpoints / "000001.pt")
    with pytest.raises(TrainError, match="a run has a checkpoint"):
        checkpoint.load_policy(broader, env)
