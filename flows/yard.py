"""What a Prefect server must know of splatyard: a work pool, limits, automations and the deployments."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Crashed
from prefect.workers.process import ProcessWorker

from flows.stage import CPU_STAGE, GPU_STAGE
from flows.up import POOL, WORKER, processes_with
from flows.verdicts import CACHED, GATES_FAILED
from pipeline.running.batch import default_workers

WORKER_LABEL = "prefect.worker.name"
"""Label of runs that names their worker: runs of other machines' workers are not ended here."""
RUN_CANNOT_CHOOSE = ("command", "env", "working_dir")
"""Job variables of Prefect's process worker that a deployment or run must not set: each can run any program."""
START_SECONDS = 300
"""A server that makes its database on a busy machine takes its time."""
LOST_SECONDS = 300
"""A flow's process without a heartbeat for so long is lost; on a busy machine they come late."""
FAILURES, FAILURES_KINDS = "splatyard-failures", ("slack-webhook", "custom-webhook")
"""Name and kinds of the block that says where failures are reported, if there is one."""
RESOURCE, RUN = "prefect.resource.id", "prefect.flow-run."
LOST = "its process is gone; what its stages finished is kept, so run it again"
SUBJECT = "splatyard: {{ flow_run.name }} {{ flow_run.state.name }}"
MESSAGE = """\
{{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.name }}
{{ flow_run.state.message }}
{{ flow_run|ui_url }}"""


def prepare() -> None:
    """Set up the server named in PREFECT_API_URL; limits that a user has changed stay, and what is switched off.

    Raises:
        TimeoutError: When the server doesn't answer.
        subprocess.CalledProcessError: When a deployment is refused.
    """
    with get_client(sync_client=True) as client:
        end = time.monotonic() + START_SECONDS
        while (problem := client.api_healthcheck()) is not None:
            if time.monotonic() > end:
                raise TimeoutError(f"no answer within {START_SECONDS} s") from problem
            time.sleep(0.2)
        template = job_template(ProcessWorker.get_default_base_job_template())
        try:
            pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
            client.create_work_pool(pool)
        except ObjectAlreadyExists:
            client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        # a limit of 0 would refuse such stages for ever, instead of letting them say what is missing
        for tag, limit in ((GPU_STAGE, max(1, gpu_count())), (CPU_STAGE, default_workers())):
            try:
                client.read_concurrency_limit_by_tag(tag)
            except ObjectNotFound:
                client.create_concurrency_limit(tag, limit)
        for automation in _automations(client):
            there = client.read_automations_by_name(automation.name)
            if not there:
                client.create_automation(automation)
            for one in there:  # of an earlier version; whether it is switched off stays the user's choice
                client.update_automation(one.id, automation.model_copy(update={"enabled": one.enabled}))
        _crash_left_runs(client)
    # the folder in which this was called is the one that the flows run in; see `pull` in prefect.yaml
    command = [
        sys.executable,
        "-P",
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        str(deployments()),
    ]
    subprocess.run(command, check=True, env={**os.environ, "PWD": str(Path.cwd())})
    with get_client(sync_client=True) as client:
        pool = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
        for deployment in client.read_deployments(work_pool_filter=pool):
            client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema=closed(deployment)))


def closed(deployment: DeploymentResponse) -> dict[str, Any]:
    """The schema of a deployment's parameters, by which the server refuses a run with one that the flow hasn't.

    Prefect's own schemas let it pass: its process would end before it could say why.
    """
    return {**(deployment.parameter_openapi_schema or {"type": "object"}), "additionalProperties": False}


def deployments() -> Path:
    """The deployments: prefect.yaml in this folder, or else splatyard's own."""
    own = Path("prefect.yaml").resolve()
    return own if own.is_file() else Path(__file__).with_name("prefect.yaml")


def gpu_count() -> int:
    """NVIDIA GPUs of this machine."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def job_template(default: dict[str, Any]) -> dict[str, Any]:
    """Prefect's template of a process, less all with which a run could choose its program, environment or folder."""
    template = copy.deepcopy(default)
    for part in (template["job_configuration"], template["variables"]["properties"]):
        for name in RUN_CANNOT_CHOOSE:
            part.pop(name, None)
    template["variables"]["additionalProperties"] = False
    return template


def _automations(client: SyncPrefectClient) -> list[AutomationCore]:
    """Runs whose process is gone crash; failures go to the webhook of the block, which keeps its address secret."""
    trigger = partial(EventTrigger, for_each={RESOURCE}, threshold=1)
    runs: dict[str, str | list[str]] = {RESOURCE: f"{RUN}*"}
    ends = {f"{RUN}{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")}
    ends |= {f"{RUN}{name}" for name in (CACHED, GATES_FAILED)}
    beat = f"{RUN}heartbeat"
    lost = trigger(
        match=ResourceSpecification(runs),
        after={beat},
        expect={beat, *ends},
        posture=Posture.Proactive,
        within=timedelta(seconds=LOST_SECONDS),
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=LOST, force=False)
    automations = [AutomationCore(name="splatyard: lost runs", trigger=lost, actions=[crash])]
    for kind in FAILURES_KINDS:
        with suppress(ObjectNotFound):
            block = client.read_block_document_by_name(FAILURES, kind, include_secrets=False)
            ended = ResourceSpecification(runs | {"prefect.state-type": ["FAILED", "CRASHED"]})  # by whatever name
            failed = trigger(match=ended, expect={f"{RUN}*"}, posture=Posture.Reactive)
            send = SendNotification(block_document_id=block.id, subject=SUBJECT, body=MESSAGE)
            automations.append(AutomationCore(name=f"splatyard: failures to {kind}", trigger=failed, actions=[send]))
    return automations


def _crash_left_runs(client: SyncPrefectClient) -> None:
    """Crash the runs that an earlier worker of this machine has left, or they would hold their slots for ever.

    Our worker doesn't run yet. Runs that outlived the earlier one continue, and so do those of other machines' workers;
    if these are lost after all, the server detects it by their heartbeats.
    """
    states = {"type": {"any_": [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]}}
    pool = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
    others = list[UUID]()
    for _, run in processes_with("PREFECT__FLOW_RUN_ID"):
        with suppress(ValueError):
            others.append(UUID(run))
    while runs := client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"state": states, "id": {"not_any_": others}}),
        work_pool_filter=pool,
    ):
        for run in runs:
            if run.labels.get(WORKER_LABEL, WORKER) == WORKER:  # without a label: no worker had begun with it
                client.set_flow_run_state(run.id, Crashed(message=LOST), force=True)
            else:
                others.append(run.id)


if __name__ == "__main__":
    prepare()
