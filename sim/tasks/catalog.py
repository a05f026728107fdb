"""All tasks, as data, by name."""

from __future__ import annotations

from pipeline.errors import SimError
from pipeline.parameters import require_known
from sim.tasks.driving.driving_tasks import AVOID, EXPLORE, FIND, LEVELS, NAVIGATE, SEARCH, STAIRS, WEAVE
from sim.tasks.handling.arm_tasks import ARM_TASKS
from sim.tasks.handling.fetch_tasks import FETCH, LIFT_VSERL
from sim.tasks.settings import TaskSettings
from sim.tasks.task import Task
from sim.tasks.walking.walking_tasks import CLIMB, CLIMB_JOINTS, FLIGHTS, WALK

_ALL = (
    NAVIGATE,
    SEARCH,
    FIND,
    STAIRS,
    LEVELS,
    AVOID,
    CLIMB,
    CLIMB_JOINTS,
    EXPLORE,
    WEAVE,
    WALK,
    FLIGHTS,
    *ARM_TASKS,
    FETCH,
    LIFT_VSERL,
)
TASKS = {task.name: task for task in _ALL}


def find_task(name: str, settings: TaskSettings | None = None) -> Task:
    """Find a task by its name, with what a user has set.

    Raises:
        SimError: When there is none, or it lacks what is set.
    """
    require_known(name, TASKS, "task", SimError, rule="a task has a known name")
    return TASKS[name].changed(settings or TaskSettings())
