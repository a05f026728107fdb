"""Tells gymnasium of the tasks; called by it through the entry point `gymnasium.envs`, in the namespace `splatyard`."""

from __future__ import annotations


def register() -> None:
    """`gymnasium.make_vec("splatyard/Navigate-v0", num_envs=16, scenes=["hall"])` works from then on."""
    import gymnasium

    from sim.tasks.catalog import TASKS

    for name in TASKS:
        version = f"{name.capitalize()}-v0"
        gymnasium.register(id=version, vector_entry_point="sim:make", kwargs={"task": name})
