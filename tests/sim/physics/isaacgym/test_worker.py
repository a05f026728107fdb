"""The worker's file, and the memory that both sides map."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from sim.physics.isaacgym import worker

SOURCE = Path(worker.__file__).read_text()


def test_python_3_6_can_read_it():
    """Syntax of Isaac Gym's oldest interpreter; a walrus would fail this."""
    ast.parse(SOURCE, feature_version=(3, 6))
    with pytest.raises(SyntaxError):
        ast.parse(SOURCE + "\nif (late := 1): pass\n", feature_version=(3, 6))


def test_annotations_are_evaluated_there():
    """Python 3.6 has no `from __future__ import annotations`, and knows neither list[int] nor X | Y."""
    tree = ast.parse(SOURCE)
    imports = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imports |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imports == {"importlib", "json", "os", "sys", "traceback", "pathlib", "numpy"}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    annotations = [a.annotation for f in functions for a in f.args.args if a.annotation]
    annotations += [function.returns for function in functions if function.returns]
    kinds = {type(annotation) for annotation in annotations}
    assert kinds <= {ast.Name, ast.Constant}


def test_both_sides_see_the_same_numbers(tmp_path: Path):
    """Arrays lie one after the other, none over another; what one side writes the other reads."""
    path = str(tmp_path / "memory")
    ours = worker.map_memory(path, 3, 5, 4, create=True)
    theirs = worker.map_memory(path, 3, 5, 4)
    rng = np.random.default_rng(0)
    wrote = {name: rng.integers(1, 99, array.shape) for name, array in ours.items()}
    for name, values in wrote.items():
        ours[name][:] = values
    assert {name: array.shape for name, array in theirs.items()} == {
        "root": (3, 13),
        "dof": (3, 5, 2),
        "contact": (3, 4, 3),
        "ground": (3, 4),
        "body": (3, 4, 13),
        "target": (2, 3, 5),
        "dynamics": (3, 3),
        "moved": (3,),
    }
    for name, values in wrote.items():
        np.testing.assert_array_equal(theirs[name], values, err_msg=name)
    assert theirs["moved"].dtype == np.int32


def test_robots_without_joints_have_room(tmp_path: Path):
    """An array of no numbers is one as well."""
    assert worker.map_memory(str(tmp_path / "memory"), 2, 0, 1, create=True)["dof"].shape == (2, 0, 2)


def test_another_layout_is_refused(tmp_path: Path):
    """As many numbers, but of another robot: 2 x 3 DOFs are not 3 x 2."""
    path = str(tmp_path / "memory")
    worker.map_memory(path, 2, 2, 3, create=True)
    with pytest.raises(ValueError, match="layout"):
        worker.map_memory(path, 2, 18, 1)
