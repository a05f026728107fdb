"""prefect.yaml: every deployment leads to its flow, and the form that Prefect makes of it can be filled in."""

from __future__ import annotations

import tomllib
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows import yard
from tests.paths import ROOT

FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())
FLOWS = {
    "scene": "ingest-scene",
    "batch": "ingest-batch",
    "stage": "run-stage",
    "watch": "watch-folder",
    "gc": "clean-up",
    "train": "train-policy",
    "hub": "publish-scene",
    "gallery": "make-gallery",
}
REQUIRED = {
    "scene": {"card": "cards/hall.yaml"},
    "batch": {},
    "stage": {
        **dict.fromkeys(("stage", "backend", "reason", "key"), "x"),
        "params": {},
        "folder": "work/mesh/k",
        "inputs": {},
    },
    "watch": {},
    "gc": {},
    "train": {"scene": "hall"},
    "hub": {"bundle": "hall@1.0.0"},
    "gallery": {},
}
"""What has to be filled in."""
WRONG = {
    "scene": {"stage_seconds": 0},
    "batch": {"workers": 0},
    "stage": {"stage_memory": 0},
    "watch": {"settle_seconds": -1},
    "gc": {"older_than_days": -1},
    "train": {"episodes": 0},
    "hub": {"public": "maybe"},
    "gallery": {"public": "maybe"},
}


@pytest.fixture(params=FILE["deployments"], ids=lambda one: one["name"])
def deployment(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each of them."""
    return request.param


def test_all_are_there():
    """And no other."""
    assert {one["name"] for one in FILE["deployments"]} == set(FLOWS)


def test_it_leads_to_its_flow(deployment: dict[str, Any]):
    """By the module's name, which is found wherever splatyard is installed."""
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.name == FLOWS[deployment["name"]]
    assert deployment["description"].endswith(".")
    assert deployment["tags"]
    assert deployment["work_pool"] == {"name": yard.POOL}


def test_the_form_is_typed_and_described(deployment: dict[str, Any]):
    """What the deployment doesn't set must be filled in; wrong values are refused before anything runs."""
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    given, wanted = deployment.get("parameters", {}), REQUIRED[deployment["name"]]
    for name, schema in flow.parameters.properties.items():
        assert schema.get("description"), name
        assert schema.keys() & {"type", "anyOf", "enum"}, name
    assert set(flow.parameters.required) == set(given) | set(wanted)
    flow.validate_parameters(given | wanted)
    with pytest.raises(ParameterTypeError):
        flow.validate_parameters(given | wanted | WRONG[deployment["name"]])


def test_an_unknown_parameter_is_refused(deployment: dict[str, Any]):
    """By the server, with its name, before anything runs."""
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    schema = flow.parameters.model_dump_for_openapi()
    stored = cast("DeploymentResponse", SimpleNamespace(parameter_openapi_schema=schema))
    given = deployment.get("parameters", {}) | REQUIRED[deployment["name"]]
    validate(given, yard.closed(stored), raise_on_error=True)
    validate(given | {"evil": 1}, schema, raise_on_error=True)  # as Prefect makes it
    with pytest.raises(ValidationError, match="'evil' was unexpected"):
        validate(given | {"evil": 1}, yard.closed(stored), raise_on_error=True)


def test_schedules_and_limits_are_prefects(deployment: dict[str, Any]):
    """Prefect would only say so when it deploys."""
    if deployment["name"] == "stage":  # the batch has its own
        assert "concurrency_limit" not in deployment
        return
    limit = ConcurrencyLimitConfig.model_validate(deployment["concurrency_limit"])
    assert limit.limit >= 1
    assert limit.collision_strategy == ("CANCEL_NEW" if deployment["name"] in ("watch", "gc") else "ENQUEUE")
    for schedule in deployment.get("schedules", []):
        kind = {name: schedule[name] for name in ("cron", "interval") if name in schedule}
        assert DeploymentScheduleCreate(schedule=kind, active=schedule.get("active", True), slug=schedule["slug"])


def test_nothing_runs_every_few_minutes():
    """What `splatyard up` runs by itself is once a day; scans start their run when they are there."""
    active = [one for each in FILE["deployments"] for one in each.get("schedules", []) if one.get("active", True)]
    assert [(one["slug"], one["cron"]) for one in active] == [("nightly", "0 4 * * *")]


def test_what_is_installed_is_the_checkouts(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The package holds the file; one in the folder where the yard is started wins over it."""
    monkeypatch.chdir(tmp_path)
    installed = yard.deployments()
    assert installed.samefile(ROOT / "prefect.yaml")
    assert installed.parent == ROOT / "flows"
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert installed.name in packaged["flows"]
    (tmp_path / "prefect.yaml").write_text("deployments: []")
    assert yard.deployments() == tmp_path / "prefect.yaml"
