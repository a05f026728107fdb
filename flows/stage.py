"""One stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task

from pipeline.engine import PlannedStage, execute
from pipeline.errors import SplatyardError


def worth_a_retry(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """A stage repeats exactly, so only trouble from outside (a network folder) deserves another try."""
    try:
        state.result()
    except SplatyardError:
        return False
    except OSError:
        return True
    except Exception:
        return False
    return False


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,  # the engine's keys decide: results live in the work folder, which a user may delete
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=worth_a_retry,
    persist_result=False,
)
def run_stage(name: str, planned: PlannedStage, seconds: float | None, memory: int | None) -> State[bool]:
    """Run one stage, within limits if there are any; a result that was there already shows as Cached."""
    if seconds is None and memory is None:
        ran = execute(planned)
    else:
        from pipeline.isolation import Limits, execute_isolated

        ran = execute_isolated(planned, Limits(seconds, memory))
    if ran:
        return Completed(message=f"{name} done: {planned.folder}", data=True)
    return Completed(name="Cached", message=f"{name} was there: {planned.folder}", data=False)
