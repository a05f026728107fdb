"""Programs for several processes; these import them by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from train.distributed import agreed, processes_of_this_run, together

TINY = {
    "num_envs": 4,
    "num_steps_per_env": 6,
    "ppo.num_mini_batches": 2,
    "policy.rnn_hidden_dim": 8,
    "policy.actor_hidden_dims": [8],
    "policy.critic_hidden_dims": [8],
}


def train_two_iterations(arguments: Sequence[str]) -> int:
    """In a bundle; leaves weights from before and after, what was seen first and what was agreed on in a folder."""
    from sim.scene.opening import open_scene
    from train.preset import load_preset
    from train.runs.trainer import Trainer

    bundle, folder = arguments
    processes = processes_of_this_run()
    assert processes is not None
    with together("cpu", processes) as device:
        preset = load_preset("navigate", TINY)
        trainer = Trainer(preset, [open_scene(bundle)], seed=3, folder=Path(folder), device=device, processes=processes)
        seen = trainer.env.get_observations()["state"].numpy().copy()
        before = weights(trainer)
        for _ in range(2):
            trainer.iterate()
        rank = processes["global_rank"]
        wishes = [agreed(rank == 1, processes), agreed(False, processes)]
        np.savez(Path(folder) / f"{rank}.npz", before=before, after=weights(trainer), seen=seen, wishes=wishes)
        trainer.env.close()
    return 0


def wait_together(arguments: Sequence[str]) -> int:
    """Join, and average a number; then wait until the file of that name is there."""
    (file,) = arguments
    processes = processes_of_this_run()
    with together("cpu", processes):
        assert agreed(processes is not None and processes["global_rank"] == 1, processes)
        Path(f"{file}.{os.environ['RANK']}").write_text(str(os.getpid()))
        while not Path(file).is_file():
            time.sleep(0.1)
    return 0


def compile_a_kernel(arguments: Sequence[str]) -> int:
    """With as many threads as this process may have, which a file in a folder then tells."""
    import numba

    from pipeline.geometry.jit import njit

    threads = numba.get_num_threads()  # starts them, as the first kernel with a loop does
    assert njit(lambda x: x / 2)(3) == 1.5
    (Path(arguments[0]) / os.environ["RANK"]).write_text(f"{threads} {torch.get_num_threads()}")
    return 0


def weights(trainer) -> np.ndarray:
    """All of them, and what the critic's normaliser has counted, one after the other."""
    tensors = [*trainer.agent.actor.parameters(), *trainer.agent.critic.state_dict().values()]
    return torch.cat([tensor.detach().flatten().to(torch.float64) for tensor in tensors]).numpy()


def fail_in(arguments: Sequence[str]) -> int:
    """In the process of that number, with exit code 3; the others wait."""
    rank, folder = arguments
    own = os.environ["RANK"]
    (Path(folder) / own).write_text(str(os.getpid()))
    if own == rank:
        while len(list(Path(folder).iterdir())) < 2:
            time.sleep(0.1)
        sys.stderr.write("out of ideas\n")
        return 3
    time.sleep(300)
    return 0


def count_interrupts(arguments: Sequence[str]) -> int:
    """Wait for Ctrl-C, and a moment more; leaves process number and how many came in a folder."""
    own = Path(arguments[0]) / os.environ["RANK"]
    told: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    own.write_text(str(os.getpid()))
    while not told:
        time.sleep(0.05)
    time.sleep(1)
    own.write_text(f"{os.getpid()} {len(told)}")
    return 130
