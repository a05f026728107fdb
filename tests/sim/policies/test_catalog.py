"""Drivers by name, the user's own functions, and what is checked of all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.env import SceneEnv
from sim.policies.catalog import open_driver
from sim.policies.observed import checked
from sim.scene.scene import SimScene
from tests.sim.policies.robots import robots, seen

MODULE = """
import numpy as np

def half(observed):
    assert observed["task"] == "go there"
    return np.full((len(observed["begun"]), 2), 0.5) * observed["observation.state"][:, :1]

class Counting:
    def __init__(self):
        self.steps = 0

    def __call__(self, observed):
        self.steps = np.where(observed["begun"], 1, self.steps + 1)
        return np.stack([self.steps, observed["observation.images.wrist"][:, 0, 0, 0]], 1) / 1000

def wrong(observed):
    return "left"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current folder."""
    (tmp_path / "their_policies.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "their_policies"
    sys.modules.pop("their_policies", None)


def test_a_function_and_a_class_drive(module: str):
    """The function is called with each observation; of the class one object is made."""
    env = robots([True, True])
    with open_driver(f"{module}:half", env, 0) as policy:
        np.testing.assert_allclose(policy(seen(2)), [[0.125, 0.125], [0.625, 0.625]])
    with open_driver(f"{module}:Counting", env, 0) as policy:
        policy(seen(2))
        env.now.seconds[1] = 0.2
        wrist = seen(2)["wrist_rgb"][:, 0, 0, 0] / 1000
        np.testing.assert_allclose(policy(seen(2)), np.stack([[0.001, 0.002], wrist], 1), rtol=1e-6)
    assert "" not in sys.path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("their_policies:missing", "missing"),
        ("no_such_module:act", "no_such_module"),
        ("somewhere", "'somewhere'"),
        ("os.system('ls')", "os.system"),
        ("missing.onnx", "No such file"),
        ("http://127.0.0.1:8000", "http"),
    ],
)
def test_what_is_no_driver_is_refused(name: str, found: str, module: str):
    """With the kinds that there are, or what is wrong with this one."""
    with pytest.raises(SimError, match=found), open_driver(name, robots([True]), 0):
        pass


def test_a_function_that_answers_no_actions_is_refused(module: str):
    """When it is asked."""
    with open_driver(f"{module}:wrong", robots([True]), 0) as policy, pytest.raises(SimError, match="no numbers: str"):
        policy(seen(1))


@pytest.mark.parametrize(
    ("actions", "found"),
    [
        ([[0.1, np.nan]], "NaN"),
        ([[0.1, np.inf]], "NaN or infinity"),
        ([0.1, 0.2], r"shape \(2,\)"),
        ([[0.1, 0.2]] * 2, r"shape \(2, 2\)"),
        ({"actions": 1}, "dict"),
        (None, "NaN|shape"),
        ([[0.1], [0.2, 0.3]], "list"),
    ],
)
def test_wrong_actions_are_refused(actions: object, found: str):
    """Other shapes, no numbers, NaN."""
    with pytest.raises(SimError, match=found):
        checked(actions, robots([True]), "theirs")


def test_large_actions_are_clipped():
    """To what drives take."""
    np.testing.assert_array_equal(checked([[3, -0.25]], robots([True]), "theirs"), [[1, -0.25]])


@pytest.fixture
def rovers(room_scene: SimScene) -> Iterator[SceneEnv]:
    """Two."""
    env = sim.make("navigate", [room_scene], 2, seed=4)
    yield env
    env.close()


def test_scripts_have_names(rovers: SceneEnv):
    """They are drivers, too; the same seed is chance alike."""
    given, _ = rovers.reset(seed=4)
    with open_driver("still", rovers, 0) as still:
        assert (still(given)[:, 1] == 0).all()
    drawn = []
    for seed in (1, 1, 2):
        with open_driver("random", rovers, seed) as policy:
            drawn.append(policy(given))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
