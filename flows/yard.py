"""What a Prefect server must know of splatyard: a work pool, limits, who watches over the runs, and the deployments."""

from __future__ import annotations

import copy
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

POOL = "yard"
WORKER, WORKER_LABEL = socket.gethostname(), "prefect.worker.name"
"""Name of this machine's worker, and the label of runs that has it: other machines' are not ours to end."""
RUN_CANNOT_CHOOSE = ("command", "env", "working_dir")
"""Of what Prefect's process worker lets a deployment or a run set in `job_variables`; each can run any program."""
CPU_STAGE, GPU_STAGE = "cpu-stage", "gpu-stage"
"""Tags of scenes that are built and of trainings on CUDA: of each so many run at the same time in the whole yard."""
START_SECONDS = 300
"""A server that makes its database on a busy machine takes its time."""
LOST_SECONDS = 300
"""A flow's process that gives no sign for so long is gone; on a busy machine they come late."""
FAILURES = "splatyard-failures"
"""Name of the block that says where failures are told, if there is one."""
FAILURES_KINDS = ("slack-webhook", "custom-webhook")
RUN_EVENTS = "prefect.flow-run."
LOST = "its process is gone; what its stages finished is kept, so run it again"
MESSAGE = """\
{{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.name }}
{{ flow_run.state.message }}
{{ flow_run|ui_url }}"""


def prepare() -> None:
    """Tell the server named in PREFECT_API_URL all this; what a user has changed of it stays.

    Raises:
        TimeoutError: When the server doesn't answer.
        subprocess.CalledProcessError: When a deployment is refused.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        _wait_for(client)
        _make_pool(client)
        _set_limits(client)
        _tell_failures(client)
        _end_left_runs(client)
        _end_lost_runs(client)
    # the folder in which this was called is the one that the flows run in; see `pull` in prefect.yaml
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(deployments())]
    subprocess.run(command, check=True, env={**os.environ, "PWD": str(Path.cwd())})


def deployments() -> Path:
    """The deployments: prefect.yaml in this folder, or else splatyard's own."""
    own = Path("prefect.yaml").resolve()
    return own if own.is_file() else Path(__file__).with_name("prefect.yaml")


def gpu_count() -> int:
    """NVIDIA GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _wait_for(client: SyncPrefectClient) -> None:
    end = time.monotonic() + START_SECONDS
    while (problem := client.api_healthcheck()) is not None:
        if time.monotonic() > end:
            raise TimeoutError(f"no answer within {START_SECONDS} s") from problem
        time.sleep(0.2)


def _make_pool(client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = job_template(ProcessWorker.get_default_base_job_template())
    about = "Processes on this machine."
    try:
        client.create_work_pool(
            WorkPoolCreate(name=POOL, description=about, type=ProcessWorker.type, base_job_template=template)
        )
    except ObjectAlreadyExists:
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))


def job_template(default: dict[str, Any]) -> dict[str, Any]:
    """Prefect's template of a process, less all with which a run could choose its program, environment or folder."""
    template = copy.deepcopy(default)
    for part in (template["job_configuration"], template["variables"]["properties"]):
        for name in RUN_CANNOT_CHOOSE:
            part.pop(name, None)
    template["variables"]["additionalProperties"] = False
    return template


def _set_limits(client: SyncPrefectClient) -> None:
    from prefect.exceptions import ObjectNotFound

    from flows.stage import default_workers

    # a limit of 0 would refuse such stages for ever, instead of letting them say what is missing
    for tag, limit in ((GPU_STAGE, max(1, gpu_count())), (CPU_STAGE, default_workers())):
        try:
            client.read_concurrency_limit_by_tag(tag)
        except ObjectNotFound:
            client.create_concurrency_limit(tag, limit)


def _end_left_runs(client: SyncPrefectClient) -> None:
    """Runs that an earlier worker of this machine has left crash, or they would hold their places for ever.

    Our worker doesn't run yet. What outlived the earlier one goes on, and so do the runs of other machines' workers; if
    these are lost after all, the server sees it by their heartbeats.
    """
    from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    states = {"type": {"any_": [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]}}
    pool = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
    others = list(_living_runs())
    while runs := client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"state": states, "id": {"not_any_": others}}),
        work_pool_filter=pool,
    ):
        for run in runs:
            if run.labels.get(WORKER_LABEL, WORKER) == WORKER:  # without a label: no worker had begun with it
                client.set_flow_run_state(run.id, Crashed(message=LOST), force=True)
            else:
                others.append(run.id)


def _living_runs() -> set[UUID]:
    """The runs that processes of this machine and user execute."""
    import psutil

    ids: set[UUID] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, ValueError):
            ids.add(UUID(process.environ().get("PREFECT__FLOW_RUN_ID", "")))
    return ids


def _end_lost_runs(client: SyncPrefectClient) -> None:
    """Runs whose process is gone without a word become crashed ones."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    ends = {f"{RUN_EVENTS}{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")}
    beat = f"{RUN_EVENTS}heartbeat"
    trigger = EventTrigger(
        after={beat},
        expect={beat, *ends},
        match=ResourceSpecification({"prefect.resource.id": [f"{RUN_EVENTS}*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=LOST_SECONDS),
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=LOST, force=False)
    _automate(client, AutomationCore(name="splatyard: lost runs", trigger=trigger, actions=[crash]))


def _tell_failures(client: SyncPrefectClient) -> None:
    """Failures go to the webhook that the block names; its address is a secret of the block."""
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification
    from prefect.exceptions import ObjectNotFound

    for kind in FAILURES_KINDS:
        try:
            block = client.read_block_document_by_name(FAILURES, kind, include_secrets=False)
        except ObjectNotFound:
            continue
        trigger = EventTrigger(
            expect={f"{RUN_EVENTS}Failed", f"{RUN_EVENTS}Crashed"},
            match=ResourceSpecification({"prefect.resource.id": [f"{RUN_EVENTS}*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        )
        subject = "splatyard: {{ flow_run.name }} {{ flow_run.state.name }}"
        send = SendNotification(block_document_id=block.id, subject=subject, body=MESSAGE)
        _automate(client, AutomationCore(name=f"splatyard: failures to {kind}", trigger=trigger, actions=[send]))


def _automate(client: SyncPrefectClient, automation: AutomationCore) -> None:
    if not client.read_automations_by_name(automation.name):
        client.create_automation(automation)


if __name__ == "__main__":
    prepare()
