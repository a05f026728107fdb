"""The build as a Prefect flow: the engine's stages as tasks, nothing else."""

from __future__ import annotations

import logging
import os
from typing import Any

# Set before Prefect is imported: a laptop without network must not log telemetry errors, and errors reach the caller as
# exceptions; Prefect would print their tracebacks first.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from prefect.tasks import Task

from flows.server import api_url
from pipeline.building import BuildRequest, BuildResult, run_plan
from pipeline.building import plan as make_plan
from pipeline.engine import PlannedStage, execute
from pipeline.errors import SplatyardError

logger = logging.getLogger(__name__)


def _worth_a_retry(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
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
    retries=1,
    retry_delay_seconds=2,
    retry_condition_fn=_worth_a_retry,
    persist_result=False,
)
def run_stage(name: str, planned: PlannedStage) -> State[bool]:
    """Run one stage; a result that was there already shows as Cached."""
    if execute(planned):
        return Completed(message=f"{name} done: {planned.folder}", data=True)
    return Completed(name="Cached", message=f"{name} was there: {planned.folder}", data=False)


@flow(name="build", flow_run_name="build-{name}", validate_parameters=False, persist_result=False)
def build_flow(name: str, request: BuildRequest) -> BuildResult:
    """Capture to bundle; see `pipeline.building.build`."""
    # planned anew: Prefect sends a flow's parameters to its server as JSON, which a request can be and a plan can't
    return run_plan(make_plan(request), lambda planned: bool(run_stage(planned.name, planned)))


def run(request: BuildRequest) -> BuildResult:
    """Build through Prefect; when nothing is left to do, no flow is started.

    Raises:
        SplatyardError: What to do is in its text.
    """
    planned = make_plan(request)
    if not planned.pending:
        return run_plan(planned)
    with temporary_settings({PREFECT_API_URL: PREFECT_API_URL.value() or api_url()}):
        return build_flow(planned.name, request)
