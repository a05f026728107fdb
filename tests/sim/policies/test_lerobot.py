"""Checkpoints of LeRobot's: what is refused of them, and, by an interpreter that has lerobot, how they drive."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import MachineError, SimError
from sim.policies.lerobot import CONFIG, PYTHON, STEPS, LeRobotDriver
from tests.paths import ROOT
from tests.sim.policies.robots import robots

LEROBOT = ROOT / ".venv-policies/bin/python"
STATE = {"type": "STATE", "shape": [3]}
ACTION = {"type": "ACTION", "shape": [2]}


def checkpoint(folder: Path, changes: dict[str, Any]) -> Path:
    """What lies in a checkpoint's folder, without weights."""
    files: dict[str, Any] = {
        CONFIG: {"type": "act", "input_features": {"observation.state": STATE}, "output_features": {"action": ACTION}},
        **{name: {"name": "steps", "steps": [{"registry_name": "to_batch_processor", "config": {}}]} for name in STEPS},
    }
    for name, content in (files | changes).items():
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({CONFIG: None}, "config.json"),
        ({CONFIG: "{" * 100_000}, "config.json"),
        ({CONFIG: "[]"}, "no object"),
        ({CONFIG: " " * 2**21}, "2097152 bytes, more than"),
        ({CONFIG: {"output_features": {"action": {"type": "ACTION", "shape": [7]}}}}, r"actions \(7,\)"),
        ({CONFIG: {"output_features": {"action": 3}}}, "actions None"),
        ({STEPS[0]: None}, "policy_preprocessor"),
        ({STEPS[1]: {"steps": "all"}}, "without steps"),
        ({STEPS[1]: {"steps": [{"class": "os.system", "config": {"command": "ls"}}]}}, "code to run: os.system"),
        ({STEPS[0]: {"steps": [{"registry_name": "a", "class": "os.system"}]}}, "code to run: os.system"),
    ],
)
def test_what_is_no_checkpoint_for_this_robot_is_refused(changes: dict[str, Any], found: str, tmp_path: Path):
    """Or names code; before anything of it is loaded."""
    with pytest.raises(SimError, match=found):
        LeRobotDriver(checkpoint(tmp_path, changes), robots([True]), 0)


def test_an_interpreter_without_lerobot_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the variable that names another."""
    monkeypatch.setenv(PYTHON, "/no/such/python")
    with pytest.raises(MachineError, match=PYTHON):
        LeRobotDriver(checkpoint(tmp_path, {}), robots([True]), 0)


@pytest.mark.slow
@pytest.mark.foreign
@pytest.mark.skipif(not LEROBOT.is_file(), reason="make .venv-policies/.installed brings LeRobot")
def test_lerobot_drives():
    """Real policies of LeRobot's, by its interpreter."""
    command = [str(LEROBOT), "-m", "pytest", "-p", "no:cacheprovider", "tests/sim/policies/test_lerobot_worker.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, PYTHON: ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "5 passed" in done.stdout
