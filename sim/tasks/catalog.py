"""Tasks by name."""

from __future__ import annotations

from pipeline.errors import SimError
from sim.tasks.avoid import AVOID
from sim.tasks.climb import CLIMB
from sim.tasks.explore import EXPLORE
from sim.tasks.navigate import NAVIGATE
from sim.tasks.search import SEARCH
from sim.tasks.task import Task
from sim.tasks.weave import WEAVE

TASKS = {task.name: task for task in (NAVIGATE, SEARCH, AVOID, CLIMB, EXPLORE, WEAVE)}


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        SimError: When there is none.
    """
    if name not in TASKS:
        raise SimError("a task has a name", found=repr(name), remedy=f"one of {', '.join(TASKS)}")
    return TASKS[name]
