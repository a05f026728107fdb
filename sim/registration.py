"""Tells gymnasium of the tasks, as soon as it is imported: `sim.registration:splatyard/Navigate-v0` is one's name.

So `gymnasium.make_vec("sim.registration:splatyard/Navigate-v0", num_envs=16, scenes=["hall"])` works, and the name from
`splatyard` on does from then on. `gymnasium.make` of an arm's task is a `sim.maniskill.ManiSkillEnv`.
"""

from __future__ import annotations

import gymnasium

from sim.tasks.catalog import TASKS


def version_name(task: str) -> str:
    """Name of a task in capitals, as gymnasium's own: PutCubeOnPlate of put_cube_on_plate, Climb-joints of others."""
    return "".join(word.capitalize() for word in task.split("_"))


for _name in TASKS:
    gymnasium.register(
        id=f"splatyard/{version_name(_name)}-v0",
        entry_point="sim.maniskill:ManiSkillEnv",
        vector_entry_point="sim:make",
        kwargs={"task": _name},
        disable_env_checker=True,  # which expects NumPy arrays
    )
