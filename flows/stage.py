"""One stage as a Prefect task, and where it runs: a process of this machine, Dask, Ray, or a job of a work pool."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.states import Completed, Failed
from prefect.tasks import Task
from pydantic import Field

from flows.verdicts import CACHED
from pipeline.errors import MachineError, install
from pipeline.parallel import check_ray, inherited, ray_job, ray_variables, unreachable
from pipeline.parameters import Settings, meanings, variable
from pipeline.running.engine import PlannedStage, execute
from pipeline.running.isolation import NO_LIMITS, Limits, LostError, execute_isolated
from pipeline.running.records import Reason
from pipeline.running.shared import execute_shared
from pipeline.running.stages import LONE_STAGES, STAGES
from pipeline.scenes.store import SECRET
from pipeline.stage import Stage

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner
    from prefect_ray import RayTaskRunner

R = TypeVar("R")
RunnerName = Literal["processes", "dask", "ray", "pool"]
RunStage = Callable[[PlannedStage], bool]
"""Runs a stage wherever it runs; returns whether there was anything to do."""

DEPLOYMENT = "run-stage/stage"
"""Runs a stage as a job of its work pool."""
CPU_STAGE, GPU_STAGE = "cpu-stage", "gpu-stage"
"""Tags of scenes that are built and of trainings on CUDA; each has a concurrency limit in the whole yard."""
LIBRARIES = ("distributed", "ray")
"""Packages that raise the errors of clusters."""
LOOK_SECONDS = 2.0

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
Address = Annotated[str, Field(json_schema_extra={"not": {"pattern": SECRET.pattern}})]
"""Refused by Prefect's server when it holds a password, which would be shown from then on."""


@dataclass(frozen=True)
class Job:
    """How a stage is run, wherever its task runs.

    Attributes:
        isolated: Whether in a process of its own, even without limits.
        at_once: How many such processes this machine has; each takes its share of the cores.
        store: Address of a store that results are shared through.
        deployment: Runs it as a job of this deployment's work pool, which has `variables`; None runs it here.
    """

    limits: Limits = NO_LIMITS
    isolated: bool = False
    at_once: int = 1
    store: str | None = None
    deployment: str | None = None
    variables: frozenset[str] = frozenset()

    def run(self, planned: PlannedStage) -> bool:
        """Run a stage; returns whether there was anything to do."""
        if self.deployment is not None:
            return _run_in_pool(planned, self)
        alone = partial(execute_isolated, limits=self.limits, at_once=self.at_once)
        run = alone if self.isolated or self.limits != NO_LIMITS else execute
        return execute_shared(planned, self.store, run) if self.store else run(planned)


HERE = Job()


def worth_a_retry(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """A stage repeats exactly: only failures from outside (a network folder, a killed process) deserve another try."""
    try:
        state.result()
    except (LostError, OSError):
        return True
    except Exception:
        return False
    return False


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,  # the engine's keys decide: results are in the work folder, which a user may delete
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=worth_a_retry,
    persist_result=False,
)
def run_stage(name: str, planned: PlannedStage, job: Job = HERE) -> State[bool]:
    """Run one stage; a result that existed already shows as Cached."""
    if job.run(planned):
        return Completed(message=f"{name} done: {planned.folder}", data=True)
    return Completed(name=CACHED, message=f"{name} was there: {planned.folder}", data=False)


def result_of(returned: State[R]) -> R:
    """The result of a task of ours: called here, Prefect hands back the state that it returned."""
    return returned.result()


@contextmanager
def open_runner(runner: RunnerName, workers: int, address: str | None, job: Job) -> Iterator[RunStage]:
    """A function that runs stages, from any thread; what was started for it ends with the context.

    For runner, workers and address see `flows.ingest.ingest_batch`.

    Raises:
        MachineError: When the runner isn't installed, or its cluster doesn't start or answer.
    """
    if runner in ("dask", "ray"):
        with _cluster(runner, workers, address) as cluster:

            def submit(planned: PlannedStage) -> bool:
                with _losses_told(runner, address):
                    with _resources(runner, cluster, planned, job.limits):
                        future = cluster.submit(run_stage, {"name": planned.name, "planned": planned, "job": job})
                    return bool(future.result())

            yield submit
        return
    if runner == "pool":
        name = address or DEPLOYMENT
        job = replace(job, deployment=name, variables=_job_variables(name))
    else:
        job = replace(job, isolated=True, at_once=workers)
    yield lambda planned: result_of(run_stage(planned.name, planned, job))


@contextmanager
def _cluster(runner: str, workers: int, address: str | None) -> Iterator[DaskTaskRunner | RayTaskRunner]:
    """Prefect's task runner of a cluster."""
    with ExitStack() as stack:
        if runner == "ray":
            stack.enter_context(inherited(ray_variables(address or "")))
        cluster = _new_cluster(runner, workers, address)
        try:
            stack.enter_context(cluster)
            getattr(cluster, "client", None)  # Dask's would be made, and may fail, with the first stage
        except Exception as error:
            raise _no_cluster(runner, address, " ".join(str(error).split())[:300] or type(error).__name__) from error
        yield cluster


def _no_cluster(runner: str, address: str | None, found: str) -> MachineError:
    return MachineError(
        f"the {runner} cluster at {address} answers" if address else f"a {runner} cluster starts here",
        found=found,
        remedy="check the address and that its versions are those of this machine" if address else "run again",
    )


@contextmanager
def _losses_told(runner: str, address: str | None) -> Iterator[None]:
    """A MachineError in place of what a cluster's own library raises when its scheduler, head or workers are gone."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in LIBRARIES:
            raise
        raise MachineError(
            f"the {runner} cluster{f' at {address}' if address else ''} lives until the batch is done",
            found=" ".join(str(error).split())[:300] or type(error).__name__,
            remedy="see that its scheduler (Ray's head) and its workers run, then run the same again: finished stages "
            "are kept",
        ) from error


def _new_cluster(runner: str, workers: int, address: str | None) -> DaskTaskRunner | RayTaskRunner:
    try:
        module = importlib.import_module(f"prefect_{runner}")
    except ImportError as error:
        raise MachineError(
            f"the {runner} runner needs its package",
            found=str(error),
            remedy=f"{install('lab')}, here and on the workers",
        ) from error
    if runner == "ray":
        if address:
            check_ray(address, MachineError)
        quiet = {"include_dashboard": False, "log_to_driver": False}
        local = {"address": "local", "num_cpus": workers, **quiet}  # or Ray would join one that runs here already
        by_proxy = address is not None and address.startswith("ray://")  # which adds no folder
        job = {} if by_proxy else {"job_config": ray_job()}
        return module.RayTaskRunner(address=address, init_kwargs=job if address else job | local)
    for name in ("distributed", "distributed.client"):  # what they log as errors they raise, too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if address:
        if refused := unreachable(address):
            raise _no_cluster(runner, address, refused)
        return module.DaskTaskRunner(address=address)
    from dask import config

    config.set({"distributed.worker.daemon": False})  # a stage with limits is a process of its own
    kwargs = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    return module.DaskTaskRunner(cluster_kwargs={**kwargs, "host": "127.0.0.1"})


def _resources(
    runner: str, cluster: DaskTaskRunner | RayTaskRunner, planned: PlannedStage, limits: Limits
) -> AbstractContextManager[object]:
    """While a stage is submitted: the resources that it needs of a cluster's machines."""
    if runner == "ray":
        from prefect_ray.context import remote_options

        memory = {"memory": limits.memory} if limits.memory else {}
        return remote_options(num_gpus=int(planned.on_gpu), **memory)
    needs = {name: need for name, need in (("GPU", int(planned.on_gpu)), ("MEMORY", limits.memory)) if need}
    if not needs:
        return nullcontext()
    from dask.base import annotate

    # a resource that no worker has would be waited for without end
    workers = cast("DaskTaskRunner", cluster).client.scheduler_info(n_workers=-1)["workers"].values()
    offered = {name for worker in workers for name in worker["resources"]}
    return annotate(resources={name: need for name, need in needs.items() if name in offered})


def _job_variables(deployment: str) -> frozenset[str]:
    """The job variables of a deployment's work pool."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            pool = client.read_deployment_by_name(deployment).work_pool_name
            assert pool is not None
            return frozenset(client.read_work_pool(pool).base_job_template["variables"]["properties"])
        except (ObjectNotFound, ValueError) as error:
            raise MachineError(
                "the runner `pool` needs a deployment that runs stages",
                found=f"no {deployment} on the server that PREFECT_API_URL names",
                remedy="`splatyard up` makes it, so does `prefect deploy --all`; --address names another one",
            ) from error


def _run_in_pool(planned: PlannedStage, job: Job) -> bool:
    """Run a stage as a job of a work pool, and wait for it."""
    from prefect.deployments import run_deployment

    if planned.cached:
        return False
    assert job.deployment is not None
    memory = job.limits.memory
    needs = {"gpus": int(planned.on_gpu) or None, "memory": f"{memory // 2**20}Mi" if memory else None}
    limits = {"stage_seconds": job.limits.seconds, "stage_memory": memory, "store": job.store}
    started = run_deployment(
        job.deployment,
        parameters={**_to_json(planned), **limits},
        job_variables={name: need for name, need in needs.items() if need and name in job.variables},
        poll_interval=LOOK_SECONDS,
    )
    run = cast("FlowRun", started)  # no coroutine: this thread has no event loop
    state = run.state
    if state is not None and state.is_completed():
        return state.name != CACHED
    if state is not None and state.is_failed():
        try:
            raise Reason.model_validate_json(state.message or "").error()
        except ValueError:  # the job failed, not the stage
            pass
    raise LostError(
        "a stage's job must live until the stage is done",
        found=f"{run.name}: {state.name if state else 'no state'}: {state.message if state else ''}",
        remedy="look at its page and its pool's worker, then run the same again: finished stages are kept",
    )


@flow(name="run-stage", flow_run_name="{stage}-{key}", persist_result=False)
def run_stage_job(
    stage: str,
    backend: str,
    reason: str,
    params: dict[str, object],
    key: str,
    folder: Path,
    inputs: dict[str, Path],
    log: Path | None = None,
    images: int = 0,
    stage_seconds: Seconds | None = None,
    stage_memory: Bytes | None = None,
    store: Address | None = None,
    one_object: bool = False,
) -> State[bool]:
    """Run one stage of a batch, which starts this itself; see `splatyard scene batch --runner pool`.

    Args:
        stage: Its name.
        backend: The chosen backend.
        reason: Why it was chosen.
        params: Its parameters.
        key: Hash of all that the result depends on.
        folder: Folder of the result.
        inputs: Folders of the stages that it needs, by name.
        log: The build's log file.
        images: How many images it works on, 0 if unknown; its time grows with them.
        stage_seconds: Most wall time in seconds.
        stage_memory: Most memory in bytes.
        store: Folder or bucket (s3://bucket/path) that machines share results through; without any password.
        one_object: Whether it is the stage of a build of one object.
    """
    found = next(one for one in (LONE_STAGES if one_object else STAGES) if one.name == stage)
    planned = PlannedStage(found, _own_params(found, params), backend, reason, key, folder, inputs, log, images)
    try:
        ran = Job(Limits(stage_seconds, stage_memory), store=store).run(planned)
    except Exception as error:
        return Failed(message=Reason.of(error).model_dump_json())
    where = str(planned.folder)
    return Completed(message=where, data=True) if ran else Completed(name=CACHED, message=where, data=False)


def _to_json(planned: PlannedStage) -> dict[str, object]:
    """A planned stage as parameters of `run_stage_job`, without interpreters: each machine has its own."""
    return {
        "stage": planned.name,
        "one_object": planned.stage in LONE_STAGES and planned.stage not in STAGES,
        "backend": planned.backend,
        "reason": planned.reason,
        "params": planned.params.model_dump(mode="json", include=set(planned.params.content())),
        "key": planned.key,
        "folder": str(planned.folder),
        "inputs": {name: str(folder) for name, folder in planned.inputs.items()},
        "log": None if planned.log is None else str(planned.log),
        "images": planned.images,
    }


def _own_params(stage: Stage, params: Mapping[str, object]) -> Settings:
    """A stage's parameters from JSON, with this machine's interpreters and no others."""
    own = {
        field: variable(stage.name, field) for field, means in meanings(stage.params).items() if means == "interpreter"
    }
    programs = {field: os.environ[name] for field, name in own.items() if os.environ.get(name)}
    return stage.params.model_validate({name: value for name, value in params.items() if name not in own} | programs)
