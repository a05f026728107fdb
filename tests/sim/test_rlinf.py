"""RLinf's own ManiSkill environment runs on arms at our tables: run by its interpreter, see `test_maniskill.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sim.drivers import find_driver
from sim.scene.scene import SimScene

omegaconf = pytest.importorskip("omegaconf")
maniskill_env = pytest.importorskip("rlinf.envs.maniskill.maniskill_env")

DOCS = Path(__file__).resolve().parents[2] / "docs/manipulate.md"


@pytest.fixture(params=[False, True], ids=["goes on", "auto_reset"])
def wrapped(hall_scene: SimScene, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """RLinf's environment of three arms, as the YAML of docs/manipulate.md makes it."""
    monkeypatch.setattr("sim.scene.opening.open_scene", lambda *_, **__: hall_scene)
    settings = omegaconf.OmegaConf.create(DOCS.read_text().split("```yaml\n", 1)[1].split("```", 1)[0])
    settings.auto_reset = request.param
    env = maniskill_env.ManiskillEnv(settings, 3, 0, 1, None)
    yield env
    env.env.close()


def test_it_runs_to_success(wrapped: Any):
    """Images, positions, instruction, the reward of entering success, metrics, and resets of those that are done."""
    seen, _ = wrapped.reset()
    assert seen["main_images"].shape == (3, 64, 64, 3)
    assert seen["main_images"].dtype == torch.uint8
    assert seen["states"].shape == (3, 9)
    assert seen["task_descriptions"] == ["pick up the cube and put it on the plate"] * 3
    act = find_driver("auto", wrapped.env.unwrapped.env, 0)
    rewarded, finished, before = np.zeros(3), np.zeros(3, bool), seen["main_images"].clone()
    for step in range(40):
        seen, reward, terminated, truncated, info = wrapped.step(torch.from_numpy(act()))
        if not step:
            assert (seen["main_images"] != before).any()
        assert not truncated.any()
        rewarded += np.where(finished, 0, reward.numpy())
        new = terminated.numpy() & ~finished
        finished |= new
        if wrapped.auto_reset:
            assert (wrapped.elapsed_steps.numpy()[terminated.numpy()] == 0).all()
            if terminated.any():
                assert torch.equal(info["_final_info"], terminated)
                assert info["final_info"]["episode"]["success_once"][terminated].all()
                assert info["final_observation"]["states"].shape == (3, 9)
        else:
            assert torch.equal(info["success"], terminated)
            assert wrapped.elapsed_steps.tolist() == [step + 1] * 3
    assert finished.all()
    np.testing.assert_array_equal(rewarded, 1)


def test_chunks_of_actions(wrapped: Any):
    """As RLinf's rollouts send them; after a hundred steps all are over."""
    wrapped.reset()
    chunks = torch.zeros(3, 25, 7)
    for last in (False, False, False, True):
        seen, rewards, terminated, truncated, _ = wrapped.chunk_step(chunks)
        assert len(seen) == 25
        assert rewards.shape == terminated.shape == truncated.shape == (3, 25)
        assert truncated[:, -1].all() == last
