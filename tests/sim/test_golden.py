"""Every task in every engine goes as it was recorded (`tests.sim.golden`)."""

from __future__ import annotations

import json
import os

import pytest

from sim.robots.catalog import PACKAGE
from sim.scene.scene import SimScene
from sim.tasks.catalog import TASKS
from tests.sim.golden import (
    CASES,
    CPU,
    FILE,
    FIRST,
    STEPS,
    Case,
    differences,
    digest,
    recorded,
    starts_of,
    trajectories,
)

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

WRITING = os.environ.get("GOLDEN") == "write"
RUNS = [pytest.param(case, engine, id=f"{case.name} {engine}") for case in CASES for engine in case.engines]


def test_all_tasks_are_recorded():
    """None is forgotten."""
    assert {case.task for case in CASES} == set(TASKS)


@pytest.mark.skipif("GOLDEN" in os.environ, reason="all steps are recorded")
@pytest.mark.parametrize(("case", "engine"), RUNS)
def test_it_begins_as_recorded(golden_scenes: dict[str, SimScene], case: Case, engine: str):
    """The first steps, on any machine."""
    assert differences(trajectories(case, engine, golden_scenes, FIRST), f"{case.name} {engine}", recorded()) == []


@pytest.mark.slow
@pytest.mark.skipif(not WRITING and CPU not in recorded()["hashes"], reason=f"not recorded on a {CPU}")
@pytest.mark.parametrize(("case", "engine"), RUNS)
def test_it_goes_as_recorded(golden_scenes: dict[str, SimScene], case: Case, engine: str):
    """All steps, to the bit on the kind of CPU that recorded them."""
    found, name = trajectories(case, engine, golden_scenes, STEPS), f"{case.name} {engine}"
    if WRITING:
        known = recorded()
        known["starts"][name] = starts_of(found)
        known["hashes"].setdefault(CPU, {})[name] = {key: digest(values) for key, values in found.items()}
        FILE.write_text(json.dumps(known, indent=0, sort_keys=True))
    assert differences(found, name, recorded()) == []
