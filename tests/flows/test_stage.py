"""Where a stage runs: plans that travel as JSON, what clusters are asked for, and how a job's end is understood."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
from dask.base import get_annotations
from prefect.states import Completed, Crashed, Failed

from flows import stage as module
from flows.stage import Job, _own_params, _resources, _run_in_pool, _to_json, open_runner, run_stage_job
from pipeline.errors import CaptureError, MachineError
from pipeline.running.building import BuildRequest, Plan, plan
from pipeline.running.engine import PlannedStage
from pipeline.running.isolation import NO_LIMITS, Limits, LostError
from pipeline.running.records import Reason
from tests.fake_stages import FakeParams, plan_chain
from tests.synthetic import Room, walk, write_photos

GIB = 2**30


@pytest.fixture
def planned(tmp_path: Path, room: Room) -> Plan:
    """All stages of a scene, with parameters of every kind."""
    write_photos(tmp_path / "photos", room, walk(3))
    settings = ("splat.seconds=60", "poses.seed=3", "mesh.python=/here/python", "align.tag_size=0.16")
    return plan(BuildRequest(tmp_path / "photos", out=tmp_path / "out", settings=settings))


def sent(stage: PlannedStage) -> PlannedStage:
    """A planned stage as it arrives where it runs."""
    text = json.loads(json.dumps(_to_json(stage)))
    text["inputs"] = {name: Path(folder) for name, folder in text["inputs"].items()}
    text["folder"], text["log"] = Path(text["folder"]), Path(text["log"])
    with mock.patch.object(Job, "run", return_value=True) as run:
        run_stage_job.fn(**text)
    return run.call_args.args[0]


def test_stages_of_one_object_arrive_as_such(tmp_path: Path, room: Room):
    """With the functions that such a build has."""
    write_photos(tmp_path / "photos", room, walk(3))
    one = plan(BuildRequest(tmp_path / "photos", out=tmp_path / "out", settings=("capture.one_object=true",)))
    for stage in one.stages:
        assert sent(stage).stage == stage.stage


def test_a_plan_travels_as_json(planned: Plan, monkeypatch: pytest.MonkeyPatch):
    """Every parameter of every stage arrives as it was, but for interpreters: those are of the machine there."""
    monkeypatch.setenv("SPLATYARD_MESH_PYTHON", "/there/python")
    for stage in planned.stages:
        text = json.dumps(_to_json(stage))
        assert "/here/python" not in text
        there = sent(stage)
        expected = stage.params if stage.name != "mesh" else stage.params.changed(python="/there/python")
        assert _to_json(there) == _to_json(replace(stage, params=expected)), stage.name
        if stage.name != "bundle":  # whose records of the others hold anything, and become JSON in the end
            assert there == replace(stage, params=expected), stage.name


def test_no_run_chooses_an_interpreter(planned: Plan):
    """Even if its parameters name one."""
    mesh = next(stage for stage in planned.stages if stage.name == "mesh")
    assert _own_params(mesh.stage, {**_to_json(mesh)["params"], "python": "/bin/evil"}).python == ""


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a stage as a job that ends in a state; gives what was asked of Prefect."""

    def run(stage: PlannedStage, state: Any, **options: Any) -> tuple[bool, dict[str, Any]]:
        asked: dict[str, Any] = {}

        def run_deployment(name: str, **how: Any) -> Any:
            asked.update(how, name=name)
            return SimpleNamespace(state=state, name="one-k")

        monkeypatch.setattr("prefect.deployments.run_deployment", run_deployment)
        how = Job(deployment="run-stage/stage", **options)
        return _run_in_pool(stage, how), asked

    return run


def test_a_job_has_what_its_stage_needs(tmp_path: Path, job: Callable[..., Any]):
    """Memory and GPU as job variables of pools that have them; the stage's time is limited where it runs."""
    stage = plan_chain(tmp_path, [FakeParams()])[0]
    pool = frozenset({"gpus", "memory", "cpu"})
    ran, asked = job(stage, Completed(), variables=pool, limits=Limits(60, 3 * GIB))
    assert ran
    assert (asked["name"], asked["job_variables"]) == ("run-stage/stage", {"memory": "3072Mi"})
    assert (asked["parameters"]["stage_seconds"], asked["parameters"]["stage_memory"]) == (60, 3 * GIB)
    on_gpu = replace(stage, backend="nksr")
    assert job(on_gpu, Completed(), variables=pool)[1]["job_variables"] == {"gpus": 1}
    assert job(on_gpu, Completed(), variables=frozenset())[1]["job_variables"] == {}


def test_a_job_s_end_is_its_stage_s(tmp_path: Path, job: Callable[..., Any]):
    """Cached, the stage's own error as itself, or lost: that alone is worth another try."""
    stage = plan_chain(tmp_path, [FakeParams()])[0]
    assert not job(stage, Completed(name="Cached"))[0]
    reason = Reason.of(CaptureError("photos overlap", found="none do", remedy="walk slower", file=tmp_path))
    with pytest.raises(CaptureError, match="walk slower") as caught:
        job(stage, Failed(message=reason.model_dump_json()))
    assert caught.value.file == str(tmp_path)
    with pytest.raises(MachineError, match="this is a bug"):
        job(stage, Failed(message=Reason.of(ZeroDivisionError("by nought")).model_dump_json()))
    for state in (Crashed(message="evicted"), Failed(message="no such image"), None):
        with pytest.raises(LostError, match="one-k"):
            job(stage, state)


def test_the_job_itself(planned: Plan, monkeypatch: pytest.MonkeyPatch):
    """It runs the stage that was sent, within its limits, and its error fits on the state."""
    seen: list[tuple[PlannedStage, Limits]] = []

    def run(self: Job, stage: PlannedStage) -> bool:
        seen.append((stage, self.limits))
        if stage.name == "poses":
            raise CaptureError("photos overlap", found="none do", remedy="walk slower")
        return stage.name == "capture"

    monkeypatch.setattr(Job, "run", run)
    states = {stage.name: run_stage_job.fn(**_to_json(stage), stage_seconds=5.0) for stage in planned.stages[:3]}
    assert [(name, state.name) for name, state in states.items()] == [
        ("capture", "Completed"),
        ("select", "Cached"),
        ("poses", "Failed"),
    ]
    assert Reason.model_validate_json(states["poses"].message or "").kind == "CaptureError"
    assert [(stage.name, limits) for stage, limits in seen] == [(name, Limits(5.0)) for name in states]


def test_dask_is_asked_for_what_its_workers_have(tmp_path: Path):
    """A resource that no worker declares would be waited for without end."""
    stage = replace(plan_chain(tmp_path, [FakeParams()])[0], backend="gsplat")

    def asked(resources: dict[str, float], limits: Limits = NO_LIMITS) -> Any:
        info = {"workers": {"a": {"resources": {}}, "b": {"resources": resources}}}
        cluster = SimpleNamespace(client=SimpleNamespace(scheduler_info=lambda n_workers: info))
        with _resources("dask", cluster, stage, limits):
            return get_annotations().get("resources")

    assert asked({"GPU": 2.0}) == {"GPU": 1}
    assert asked({}) == {}
    assert asked({"GPU": 2.0, "MEMORY": 64 * GIB}, Limits(memory=GIB)) == {"GPU": 1, "MEMORY": GIB}


def test_processes_of_this_machine_share_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each stage has a process of its own; this one, where other threads may compile kernels, keeps its environment."""
    seen: list[tuple[Job, dict[str, str]]] = []

    def run(_name: str, _planned: PlannedStage, job: Job) -> Any:
        seen.append((job, dict(os.environ)))
        return Completed(data=True)

    monkeypatch.setattr(module, "run_stage", run)
    before = dict(os.environ)
    with open_runner("processes", 4, None, Job()) as run_one:
        assert run_one(plan_chain(tmp_path, [FakeParams()])[0])
    assert seen == [(Job(isolated=True, at_once=4), before)]


@pytest.mark.parametrize(
    ("module_of", "told"), [("distributed.client", True), ("ray.exceptions", True), ("pipeline.errors", False)]
)
def test_a_cluster_that_is_gone_is_named(module_of: str, told: bool, monkeypatch: pytest.MonkeyPatch):
    """Its library's errors become one that says what to do; a stage's own stays what it is."""
    error = type("GoneError", (OSError,), {"__module__": module_of})

    def submit(*_: object) -> None:
        raise error("scheduler-connection-lost")

    cluster = nullcontext(SimpleNamespace(submit=submit))
    monkeypatch.setattr(module, "_cluster", lambda *_: cluster)
    monkeypatch.setattr(module, "_resources", lambda *_: nullcontext())
    runner, gone = open_runner("dask", 2, "tcp://head:8786", Job()), pytest.raises(MachineError if told else error)
    with runner as run_one, gone as caught:
        run_one(cast("PlannedStage", SimpleNamespace(name="mesh")))
    shown = str(caught.value)
    assert "scheduler-connection-lost" in shown
    if told:
        for words in ("dask cluster at tcp://head:8786", "its scheduler", "run the same again"):
            assert words in shown
