"""Tells gymnasium of the tasks; called by it through the entry point `gymnasium.envs`, in the namespace `splatyard`."""

from __future__ import annotations


def register() -> None:
    """`gymnasium.make_vec("splatyard/Navigate-v0", num_envs=16, scenes=["hall"])` works from then on."""
    import gymnasium

    from sim.tasks.catalog import TASKS

    for name in TASKS:
        gymnasium.register(id=f"{version_name(name)}-v0", vector_entry_point="sim:make", kwargs={"task": name})


def version_name(task: str) -> str:
    """Name of a task in capitals, as gymnasium's own: PutCubeOnPlate of put_cube_on_plate, Climb-joints of others."""
    return "".join(word.capitalize() for word in task.split("_"))
