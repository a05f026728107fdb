"""The flow from a bundle to a policy: it waits, does what the commands do, and attaches what came out."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast
from unittest.mock import MagicMock

import pytest
import yaml
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint

from flows import train_policy as module
from flows.ingest import asset_key
from flows.markdown import markdown
from pipeline.errors import MissingBundleError, TrainError
from tests.bundles import floor_of, make_bundle
from tests.fake_hub import Hub
from tests.flows.conftest import with_own_prefect
from tests.paths import ROOT
from tests.synthetic import Room
from train.runs.results import wilson

if TYPE_CHECKING:
    from prefect.tasks import MaterializingTask

PRESET = """
task: navigate
num_envs: 4
num_steps_per_env: 8
iterations: 2
save_interval: 1
policy: {rnn_hidden_dim: 8, actor_hidden_dims: [8], critic_hidden_dims: [8]}
ppo: {num_mini_batches: 2}
"""
RUN = """
import json, sys
from prefect.client.orchestration import get_client
from flows.server import require_api
from flows.train_policy import train_policy
require_api()
folder = train_policy("room@1.0.0", preset="tiny.yaml", iterations=1, episodes=3, wait_minutes=9)
client = get_client(sync_client=True)
artifacts = client.read_artifacts()
(run,) = client.read_flow_runs()
told = [str(folder), {one.key: one.data for one in artifacts}, run.state.name, run.state.message]
print(json.dumps(told), file=sys.stderr)
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(folder))
    return folder


@pytest.mark.slow
def test_from_a_bundle_that_is_to_come_to_metrics_report_and_film(tmp_path: Path, registry: Path, room: Room):
    """The bundle is published when the flow has begun; all is in the run's folder, and its artifacts lead there."""
    made = make_bundle(tmp_path / "work", room, regions=floor_of(room))
    (tmp_path / "tiny.yaml").write_text(PRESET)
    environment = with_own_prefect(tmp_path / "prefect") | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    made.parent.rename(registry / "room")
    told = process.communicate(timeout=600)[1]
    assert process.returncode == 0, told
    name, artifacts, *state = json.loads(told.splitlines()[-1])
    folder = Path(name)
    assert folder.parent == tmp_path / "runs"
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["000000.pt", "000001.pt"]
    results = json.loads((folder / "evaluation.json").read_text())
    assert [len(one["episodes"]) for one in results["evaluations"]] == [3, 3, 3]
    assert set(artifacts) == {"policy"}, "a server without pages shows no files"
    shown = results["evaluations"][0]["metrics"]["room@1.0.0"]["success"]
    share = wilson(shown["successes"], 3)
    assert markdown("| none | {} | {} | 3 |", "room@1.0.0", str(share)) in artifacts["policy"]
    assert state == ["Completed", f"room@1.0.0: success {share}"]
    for text, file in (("report", "report.html"), ("film", "film.mp4")):
        assert (folder / file).stat().st_size > 1000
        assert f"{text}: `{folder / file}`" in artifacts["policy"]
    assert "film.mp4" in (folder / "report.html").read_text()
    with sqlite3.connect(tmp_path / "prefect" / "prefect.db") as database:
        wanted = "select resource_id, event from events where event like 'prefect.asset.%' order by event"
        told = [
            (f"file://{folder}", "prefect.asset.materialization.succeeded"),
            (f"file://{registry}/room/1.0.0", "prefect.asset.referenced"),
        ]
        end = time.monotonic() + 60
        while (events := _rows(database, wanted)) != told:  # the server writes them as it ends
            assert time.monotonic() < end, events
            time.sleep(0.2)


def _rows(database: sqlite3.Connection, query: str) -> list[tuple]:
    """What a query finds; nothing as long as the server has made no tables."""
    try:
        return database.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def test_a_policy_is_made_of_its_bundles(tmp_path: Path, registry: Path, room: Room, monkeypatch: pytest.MonkeyPatch):
    """Each under the name that its build gave it, however it was asked for; one of the hub under its reference."""
    made = make_bundle(tmp_path / "work", room)
    made.parent.rename(registry / "room")
    monkeypatch.chdir(registry)
    run, hub = tmp_path / "runs" / "1", "hf://lab/rooms/hall@1.0.0"
    task = cast("MaterializingTask", module.made_of(["room@1.0.0", "room/1.0.0", hub, "terrain:0"], run))
    bundle = asset_key(registry / "room" / "1.0.0")
    assert [asset.key for asset in task.assets] == [asset_key(run)]
    assert [asset.key for asset in task.asset_deps] == [bundle, bundle, hub]


def test_places_are_kept_apart(tmp_path: Path, registry: Path, room: Room, monkeypatch: pytest.MonkeyPatch):
    """Held out and to test in, as by the command: waited for, measured by each checkpoint and at the end, told."""
    monkeypatch.chdir(tmp_path)
    for name in ("attic", "cellar", "hall"):
        made = make_bundle(tmp_path / name, room, regions=floor_of(room))
        manifest = (made / "bundle.json").read_text()
        (made / "bundle.json").write_text(manifest.replace('"name":"room"', f'"name":"{name}"'))
        made.parent.rename(registry / name)
    (tmp_path / "tiny.yaml").write_text(PRESET + "unseen_episodes: 2\ntask_settings: {seconds: 1}\n")
    for name in ("get_run_logger", "film", "made_of"):
        monkeypatch.setattr(module, name, MagicMock())
    for name in ("wait_for_bundle", "train", "evaluate"):
        task = getattr(module, name).fn
        task.with_options = lambda task=task, **_: task
        monkeypatch.setattr(module, name, task)
    scenes = {"scene": "bundles/*", "hold_out": "1", "test": ["hall@1.0.0"]}
    ended = module.train_policy.fn(**scenes, preset="tiny.yaml", iterations=1, episodes=2, wait_minutes=0)
    (run,) = (tmp_path / "runs").iterdir()
    unseen = json.loads((run / "run.json").read_text())["unseen"]
    assert (unseen["hold_out"], len(unseen["validation"]), len(unseen["test"])) == ("1", 1, 1)
    row = json.loads((run / "curve.jsonl").read_text().splitlines()[-1])
    assert (row["unseen/validation_episodes"], row["unseen/test_episodes"]) == (2, 2)
    assert "validation: success" in ended.message
    assert "test: success" in ended.message


def test_it_looks_again_until_the_bundle_is_there(
    tmp_path: Path, registry: Path, room: Room, monkeypatch: pytest.MonkeyPatch
):
    """It is published while the flow sleeps for the second time."""
    made = make_bundle(tmp_path / "work", room)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            made.parent.rename(registry / "room")

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert module.wait_for_bundle.fn("room", 1.0) == ["room@1.0.0"]
    assert slept == [module.LOOK_SECONDS] * 2


def test_procedural_ground_is_always_there():
    """It is no bundle."""
    assert module.wait_for_bundle.fn("terrain:0", 0) == ["terrain:0"]


def test_it_does_not_wait_for_ever(registry: Path):
    """Then it says how to go on."""
    with pytest.raises(TrainError, match="within 0 minutes") as caught:
        module.wait_for_bundle.fn("hall@1.0.0", 0)
    assert "--name hall" in caught.value.remedy


@pytest.mark.parametrize(
    "scene",
    ["hall@1", "hall@^1.2", "hall@latest", "registry:./yard/hall", "registry:./yard/hall@1.0.0", "hf://lab/yard/hall"],
)
@pytest.mark.parametrize("empty_registry", [False, True], ids=["no registry", "an empty registry"])
def test_it_waits_for_whatever_a_reference_can_mean(
    scene: str, empty_registry: bool, registry: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub
):
    """A version, a range, the newest; with an address or without; whether the registry is there yet or not."""
    monkeypatch.chdir(registry.parent)
    monkeypatch.delenv("SPLATYARD_REGISTRY", raising=False)
    if empty_registry:
        (registry.parent / "yard" / "scenes").mkdir(parents=True)

    def sleep(seconds: float) -> None:
        raise InterruptedError

    monkeypatch.setattr(module.time, "sleep", sleep)
    with pytest.raises(InterruptedError):
        module.wait_for_bundle.fn(scene, 60.0)


@pytest.mark.parametrize("scene", ["no/such/folder", "stairs-*@latest", "Hall@1", "hall@1.x"])
def test_what_can_t_become_a_bundle_is_refused_at_once(scene: str, registry: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing that is built is found under such a name."""
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(MissingBundleError):
        module.wait_for_bundle.fn(scene, 60.0)


def test_the_deployment_is_that_of_the_flow():
    """`train-policy/train` leads to the flow, whose parameters all have a type and a description."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    deployment = next(one for one in deployments if one["name"] == "train")
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    assert flow.name == "train-policy"
    properties = flow.parameters.properties
    assert set(deployment.get("parameters", {})) <= set(properties)
    assert flow.parameters.required == ["scene"]
    for parameter, schema in properties.items():
        assert schema.get("description"), parameter
        assert schema.get("type") or schema.get("anyOf"), parameter
    assert flow.validate_parameters({"scene": "hall@1.0.0", "iterations": "7"})["iterations"] == 7
    with pytest.raises(ParameterTypeError, match="episodes"):
        flow.validate_parameters({"scene": "hall@1.0.0", "episodes": 0})
