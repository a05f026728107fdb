"""The build as a Prefect flow: the engine's stages as tasks, nothing else."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# Set before Prefect is imported: errors reach the caller as exceptions; Prefect would print their tracebacks first.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")

from flows.build_view import Began, BuildView, Compiling
from pipeline.preview.build_bar import BuildBar, build_bar
from pipeline.preview.time_left import TimeLeft
from pipeline.running.batch import Attempt, attempt
from pipeline.running.building import BuildRequest, BuildResult, Plan, check_machine, run_plan
from pipeline.running.building import plan as make_plan
from pipeline.running.engine import PlannedStage, logged
from pipeline.running.needs import check_needs

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def run(request: BuildRequest, page: BuildView | None = None) -> BuildResult:
    """Build through Prefect; when nothing is left to do, no flow is started.

    How far it is and how long it still takes is shown all the time, and told to the page, if there is one.

    Raises:
        SplatyardError: What to do is in its text.
    """
    planned = make_plan(request)
    return run_planned(planned, request.card.absolute() if request.card else planned.stages[0].inputs["source"], page)


def run_planned(planned: Plan, card: Path, page: BuildView | None = None) -> BuildResult:
    """Run a plan as `run` does; the card, or the capture, names it in the record of what became of it."""
    left = TimeLeft.of(planned)
    if page is not None:
        page.start(planned, left)
    if not planned.pending:
        return run_plan(planned)
    check_machine(planned)  # before a server is started for it
    with logged(planned.log):
        check_needs(planned.pending, planned.traits, planned.work)
    return _run_flow(card, planned, left, page)


def _run_flow(card: Path, planned: Plan, left: TimeLeft, page: BuildView | None) -> BuildResult:
    """Run the stages that are left as tasks; Prefect is imported here, once nothing of the request is refused."""
    from prefect import flow

    from flows.server import require_api
    from flows.stage import result_of, run_stage
    from flows.verdicts import of_scenes

    run_one = run_stage.with_options(retries=1, retry_delay_seconds=2)  # the user waits for it
    require_api()

    tell = page.tell if page is not None else lambda _line: None
    attempts: list[Attempt] = []

    def run_task(shown: BuildBar, stage: PlannedStage) -> bool:
        shown.begin(stage)
        tell(Began(stage=stage.name))
        return result_of(run_one(stage.name, stage))

    # without parameters: Prefect would send them to its server as JSON, and a plan is made once and handed on
    @flow(name="build", flow_run_name=f"build-{planned.name}", persist_result=False)
    def build_planned() -> State[None]:
        with build_bar(left, lambda: tell(Compiling())) as shown:
            attempts.append(done := attempt(card, planned, partial(run_task, shown)))
        if done.error is not None:
            raise done.error
        return of_scenes([done.scene])

    state = build_planned(return_state=True)
    if not attempts or attempts[0].result is None:
        state.result()  # raises what went wrong
        raise AssertionError("an attempt has a result or an error")
    return attempts[0].result
