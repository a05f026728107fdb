"""Robots that policies from elsewhere are tested with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


def robots(begun: list[bool], size: int = 2) -> Any:
    """Robots that were told something, with a state; episodes have begun where it says."""
    now = SimpleNamespace(seconds=np.where(begun, 0, 1.0))
    terms = {"pose": SimpleNamespace(privileged=False), "secret": SimpleNamespace(privileged=True)}
    task = SimpleNamespace(observations=terms, vectors=["pose"], text="go there")
    config = SimpleNamespace(device="cpu")
    return SimpleNamespace(
        num_envs=len(begun), controller=SimpleNamespace(size=size), now=now, task=task, config=config
    )


def seen(count: int) -> dict[str, np.ndarray]:
    """What they see, different for each."""
    rows = np.arange(count, dtype=np.float32)[:, None]
    images = np.arange(count * 2 * 3 * 3, dtype=np.uint8).reshape(count, 2, 3, 3)
    return {
        "pose": rows + np.array([0.25, 0.5, 0.75], np.float32),
        "secret": rows,
        "third_rgb": images,
        "wrist_rgb": images + 100,
    }
