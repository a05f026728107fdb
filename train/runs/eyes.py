"""The eyes that a run learned, as files that need no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.io.weights import write_weights
from sim.env import SceneEnv
from sim.finding.eyes import EyesCard
from train.algorithms.eyes import EyesPolicy
from train.files import writing
from train.runs.run import Run
from train.runs.scores import PREFIX

EYES_FILE = "eyes.npz"
"""Their name in the run's folder; the card lies beside it."""


def save_eyes(run: Run, env: SceneEnv, policy: EyesPolicy, metrics: Mapping[str, float]) -> Path:
    """Write the eyes that a run learned into its folder; returns their file. The metrics are a row of its curve."""
    lens = policy.body.lens
    card = EyesCard(
        modality=policy.modality,
        width=lens.width,
        height=lens.height,
        focal=float(lens.fx),
        sha256="",
        seed=run.record.seed,
        images=round(metrics["steps"]),
        scenes=tuple(lock.reference for lock in run.locks),
        metrics={name: value for name, value in metrics.items() if name.startswith(PREFIX)},
    )
    file = run.folder / EYES_FILE
    with writing(file):
        write_weights(file, card, policy.network.arrays())
    return file
