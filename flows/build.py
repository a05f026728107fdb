"""The build as a Prefect flow: the engine's stages as tasks, nothing else."""

from __future__ import annotations

import logging
import os

# Set before Prefect is imported: errors reach the caller as exceptions; Prefect would print their tracebacks first.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")

from prefect import flow

from flows import stage
from flows.server import require_api
from pipeline.batch import noted
from pipeline.building import BuildRequest, BuildResult, check_machine, run_plan
from pipeline.building import plan as make_plan

logger = logging.getLogger(__name__)


run_stage = stage.run_stage.with_options(retries=1, retry_delay_seconds=2)  # somebody waits for it


@flow(name="build", flow_run_name="build-{name}", validate_parameters=False, persist_result=False)
def build_flow(name: str, request: BuildRequest) -> BuildResult:
    """Capture to bundle; see `pipeline.building.build`."""
    # planned anew: Prefect sends a flow's parameters to its server as JSON, which a request can be and a plan can't
    return run_plan(make_plan(request), lambda planned: bool(run_stage(planned.name, planned, None, None)))


def run(request: BuildRequest) -> BuildResult:
    """Build through Prefect; when nothing is left to do, no flow is started.

    Raises:
        SplatyardError: What to do is in its text.
    """
    planned = make_plan(request)
    if not planned.pending:
        return run_plan(planned)
    check_machine(planned)  # before a server is started for it
    require_api()
    with noted(planned, request.card, request.out):
        return build_flow(planned.name, request)
