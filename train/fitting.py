"""Networks that are fitted to batches: what a kill interrupted goes on as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import TrainError
from train.files import writing
from train.runs import checkpoint

logger = logging.getLogger(__name__)

SAVE_INTERVAL, LOG_INTERVAL = 100, 20
"""Iterations between two checkpoints, and between two reports."""

Watch = Callable[[int, float], None]
"""Called with an iteration and its loss."""


def fit(
    network: nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    iterations: int,
    learning_rate: float,
    file: Path,
    depends_on: Sequence[object],
    write: Callable[[], None],
    watch: Watch,
) -> None:
    """Fit a network by Adam, slower and slower, and write its file.

    Args:
        network: Of which the weights are drawn already.
        loss_of: Loss of a batch that depends on the number of the iteration alone.
        iterations: Number of batches.
        learning_rate: In the beginning.
        file: Where the weights will be; checkpoints are in a folder beside it.
        depends_on: What the batches depend on, for JSON: with another, checkpoints are others.
        write: Writes the file.
        watch: Called every `LOG_INTERVAL` iterations.

    Raises:
        TrainError: When a loss isn't finite, or checkpoints can't be written.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    key = hashlib.sha256(json.dumps([iterations, *depends_on]).encode()).hexdigest()[:12]
    folder = file.with_name(f".{file.name}.{key}.resume")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    done = 0
    if found := checkpoint.newest(folder):
        state: dict[str, Any] = dict(found[1])
        for name, part in (("network", network), ("optimizer", optimizer), ("schedule", schedule)):
            part.load_state_dict(state[name])
        done = state["iteration"]
        logger.info("training continues after iteration %d", done)
    for iteration in range(done, iterations):
        loss = loss_of(iteration)
        if not torch.isfinite(loss):
            raise TrainError("losses stay finite", found=f"{loss}", remedy="another --seed", file=file)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (iteration + 1) % LOG_INTERVAL == 0:
            watch(iteration + 1, float(loss.detach()))
        if (iteration + 1) % SAVE_INTERVAL == 0:
            parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
            checkpoint.save(
                folder, {"iteration": iteration + 1} | {name: part.state_dict() for name, part in parts.items()}
            )
    write()
    shutil.rmtree(folder)
