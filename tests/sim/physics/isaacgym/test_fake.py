"""The fake is as strict as the stubs that it is made of."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.physics.isaacgym.fake_interpreter import FAKE

BEGIN = """
from isaacgym import gymapi, gymtorch
import numpy as np, torch
gym = gymapi.acquire_gym()
params = gymapi.SimParams()
"""

WRONG = {
    "unknown function": ("gym.create_simulation()", "AttributeError"),
    "argument missing": ("gym.create_env(None, gymapi.Vec3(), gymapi.Vec3())", "TypeError: missing"),
    "argument too much": ("gymapi.Vec3(1, 2, 3, 4)", "TypeError: too many"),
    "unknown keyword": ("gym.create_sim(device=0)", "TypeError: got an unexpected keyword"),
    "of another type": ("gym.create_sim(0, 0, 'physx', params)", "TypeError: create_sim"),
    "signature in the docstring": ("gym.get_actor_dof_properties(1, 2, 3)", "TypeError: too many"),
    "unknown parameter": ("params.step = 0.1", "AttributeError: SimParams has no step"),
    "parameter of another type": ("params.up_axis = 1", "TypeError: SimParams.up_axis"),
    "unknown constant": ("gymapi.DOF_MODE_TORQUE", "AttributeError"),
    "a default is not guessed": ("params.dt", "AttributeError"),
    "vertices in double": (
        "gym.add_triangle_mesh(gymapi.Sim(), np.zeros(9), np.zeros(3, np.uint32), gymapi.TriangleMeshParams())",
        "TypeError: add_triangle_mesh",
    ),
    "not contiguous": ("gymtorch.unwrap_tensor(torch.zeros(4, 2)[:, 0])", "RuntimeError: Input tensor"),
}


def run(lines: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(FAKE)}
    return subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True, text=True, check=False)


def test_a_wrong_call_raises():
    """Each in one interpreter, for it takes long to start."""
    tries = "".join(
        f"try:\n    {line}\n    print('{name}: nothing')\n"
        f"except Exception as error:\n    print(f'{name}: {{type(error).__name__}}: {{error}}')\n"
        for name, (line, _) in WRONG.items()
    )
    told = run(BEGIN + tries).stdout
    for name, (_, error) in WRONG.items():
        assert f"{name}: {error}" in told, told


def test_torch_comes_second():
    """As in the real one."""
    ended = run("import torch\nimport isaacgym")
    assert ended.returncode != 0
    assert "imported before isaacgym" in ended.stderr


@pytest.mark.parametrize("name", ["DOF_MODE_POS", "CC_LAST_SUBSTEP", "UP_AXIS_Z"])
def test_enums_are_numbered_as_documented(name: str):
    """All three are the second of their kind."""
    assert run(f"from isaacgym import gymapi\nprint(int(gymapi.{name}))").stdout.split()[-1] == "1"
