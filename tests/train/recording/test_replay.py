"""Replay in files: what is drawn, how much is kept, and that it goes on after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

from pipeline.errors import TrainError
from tests.train.runs.test_run import room_for
from train.recording.replay import Replay

ENVS = 3


def seen(time: int) -> TensorDict:
    """Names time and robot, in a vector and in an image."""
    number = torch.arange(ENVS)
    vector = torch.stack([torch.full((ENVS,), float(time)), number.float()], 1)
    image = ((7 * time + number) % 256).to(torch.uint8)[:, None, None, None].expand(ENVS, 3, 4, 5).contiguous()
    return TensorDict({"state": vector, "rgb": image}, batch_size=[ENVS])


def opened(folder: Path, size: int = 10, slack: int = 4) -> Replay:
    """Of three robots, whose actions are a number."""
    return Replay(folder, seen(0), 1, size, slack)


def fill(replay: Replay, count: int, *, every: int = 5) -> None:
    """Write times from the one it is at; robot 0 ends for good, robot 1 by its time limit, every so many steps."""
    for time in range(replay.written, replay.written + count):
        ends = time % every == every - 1
        terminal, time_out = (torch.tensor([ends and number == row for number in range(ENVS)]) for row in (0, 1))
        action = torch.full((ENVS, 1), float(time))
        replay.add(seen(time), action, torch.full((ENVS,), -float(time)), terminal, time_out)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 12), st.integers(0, 5))
def test_what_is_drawn_belongs_together(tmp_path_factory: pytest.TempPathFactory, count: int, size: int, slack: int):
    """Only of the newest steps; what follows is the next step of the same robot, or itself after an end for good.

    What follows a step at which the time ran out isn't there: it is not drawn, unless nothing is to follow.
    """
    replay = opened(tmp_path_factory.mktemp("replay"), size, slack)
    fill(replay, count)
    drawn = replay.sample(200)
    time, robot = drawn.seen["state"].long().unbind(1)
    assert int(time.min()) >= count - size and int(time.max()) < count
    assert torch.equal(drawn.action[:, 0].long(), time) and torch.equal(-drawn.reward.long(), time)
    assert torch.equal(drawn.seen["rgb"][:, 0, 0, 0].long(), (7 * time + robot) % 256)
    ends = time % 5 == 4
    assert torch.equal(drawn.terminal.bool(), ends & (robot == 0))
    assert not (ends & (robot == 1)).any()
    over = ends & (robot == 0)
    assert torch.equal(drawn.next_seen["state"].long()[:, 0], torch.where(over, time, time + 1))
    assert torch.equal(drawn.next_seen["state"][:, 1].long(), robot)


def chunk(first: int, steps: int) -> dict[str, np.ndarray]:
    """Steps of three robots from a time on, none of which ends an episode, and what is seen after them."""
    times = [seen(first + step) for step in range(steps + 1)]
    fields = {f"observed.{name}": np.stack([one[name].numpy() for one in times]) for name in ("state", "rgb")}
    number = np.arange(first, first + steps, dtype=np.float32)
    action, reward = np.tile(number[:, None, None], (1, ENVS, 1)), -np.tile(number[:, None], (1, ENVS))
    return (
        fields | {"action": action, "reward": reward} | dict.fromkeys(("terminal", "time_out"), np.zeros_like(reward))
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 4))
def test_chunks_of_different_robots_are_not_joined(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], alone: int
):
    """What follows the last step of a chunk is what was seen after it; every step is drawn, and nothing else."""
    replay = opened(tmp_path_factory.mktemp("replay"), 20, 6)
    fill(replay, alone, every=100)
    replay.cut()  # what follows is of other robots
    known = [list(range(alone - 1))] if alone else []
    rows = alone
    for number, length in enumerate(lengths):
        replay.add_chunk(chunk(1000 * (number + 1), length))
        known.append([1000 * (number + 1) + step for step in range(length)])
        rows += length + 1
    kept = rows - 20  # older rows are not drawn
    times = [time for of in known for time in [*of, None]]
    drawable = {time for time in times[max(0, kept) :] if time is not None}
    drawn = replay.sample(500)
    time = drawn.seen["state"].long()[:, 0]
    assert set(time.tolist()) == drawable
    assert torch.equal(drawn.next_seen["state"].long()[:, 0], time + 1)
    assert torch.equal(
        drawn.next_seen["rgb"][:, 0, 0, 0].long() - drawn.seen["state"].long()[:, 1], 7 * (time + 1) % 256
    )
    assert torch.equal(drawn.action[:, 0].long(), time) and torch.equal(-drawn.reward.long(), time)


def test_steps_of_robots_here_go_on_after_chunks(tmp_path: Path):
    """Rows that were cut are written over as a whole."""
    replay = opened(tmp_path)
    for number in range(5):
        replay.add_chunk(chunk(100 * number, 3))
    fill(replay, 20, every=100)
    drawn = replay.sample(2000).seen["state"].long()[:, 0]
    assert set(drawn.tolist()) == set(range(30, 39))


def test_every_step_is_drawn_as_often(tmp_path: Path):
    """All robots and times but the newest, which nothing follows yet, and those at which the time ran out."""
    replay = opened(tmp_path)
    fill(replay, 23)
    drawn = replay.sample(18_000).seen["state"].long()
    counts = np.bincount((drawn[:, 0] - 13) * ENVS + drawn[:, 1], minlength=10 * ENVS)
    out_of_time = [1 * ENVS + 1, 6 * ENVS + 1]
    assert (counts[[*out_of_time, *range(27, 30)]] == 0).all()
    np.testing.assert_allclose(np.delete(counts[:27], out_of_time), 18_000 / 25, rtol=0.2)
    drawn = replay.sample(3000, ahead=False).seen["state"].long()
    assert set(((drawn[:, 0] - 13) * ENVS + drawn[:, 1]).tolist()) == set(range(27))


def test_files_are_as_large_as_told_and_images_are_bytes(tmp_path: Path):
    """However long it goes on."""
    replay = opened(tmp_path)
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    fill(replay, 50)
    assert before["observed.rgb"] == 14 * ENVS * 3 * 4 * 5
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before
    assert replay.steps == 10 * ENVS


def test_it_goes_on_where_a_checkpoint_was(tmp_path: Path):
    """What was written since then doesn't change what is drawn, up to the slack."""
    replay = opened(tmp_path)
    fill(replay, 26)
    torch.manual_seed(5)
    before = replay.sample(100)
    fill(replay, 4)
    replay.flush()
    again = opened(tmp_path)
    again.resume(26)
    torch.manual_seed(5)
    after = again.sample(100)
    for one, other in ((before.seen, after.seen), (before.next_seen, after.next_seen)):
        assert all(torch.equal(one[name], other[name]) for name in ("state", "rgb"))
    assert torch.equal(before.action, after.action) and torch.equal(before.terminal, after.terminal)


def test_what_a_checkpoint_learned_from_may_be_gone(tmp_path: Path):
    """Overwritten, since the checkpoint is too old; or never there."""
    replay = opened(tmp_path)
    fill(replay, 31)
    with pytest.raises(TrainError, match=r"(?s)31 rows written, 14 kept.*row 20"):
        opened(tmp_path).resume(20)
    with pytest.raises(TrainError, match=r"(?s)resumed with its replay.*31 of 40 rows"):
        opened(tmp_path).resume(40)


@pytest.mark.parametrize("name", ["observed.state", "newest"])
def test_a_file_that_was_cut_is_not_taken_for_zeros(tmp_path: Path, name: str):
    """It says what is missing."""
    replay = opened(tmp_path)
    fill(replay, 12)
    del replay
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(TrainError, match=r"(?s)resumed with its replay.*0 of 12 rows"):
        opened(tmp_path).resume(12)


def test_nan_is_named(tmp_path: Path):
    """What comes in, and what was in a file."""
    replay = opened(tmp_path)
    fill(replay, 12)
    wrong = seen(12)
    wrong["state"][1, 0] = float("nan")
    nothing = torch.zeros(ENVS)
    with pytest.raises(TrainError, match=r"(?s)finite.*state with NaN or infinity at step 12"):
        replay.add(wrong, torch.zeros(ENVS, 1), nothing, nothing, nothing)
    reward = np.memmap(tmp_path / "reward", np.float32, "r+", shape=(14, ENVS))
    reward[7, 1] = np.inf
    with pytest.raises(TrainError, match=r"(?s)NaN or infinity in .*reward"):
        opened(tmp_path).resume(12)
    reward[7, 1] = 0
    reward[12:] = np.nan  # nobody draws from there
    opened(tmp_path).resume(12)


def test_without_room_there_is_an_error(tmp_path: Path):
    """At once, and not when it is full."""
    with room_for(1000), pytest.raises(TrainError, match="has room"):
        opened(tmp_path, size=500)
