"""The core of scenes stays light: few modules open a bundle, and nothing below imports what stands above."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from tests.paths import ROOT

PAST = "tests/data/past_bundles/format_1/room/1.0.0"
ORDER = ("scenes", "export", "importing", "publish", "gallery")
"""Packages, each of which may import only itself and those before it."""


def ours_after(statement: str) -> set[str]:
    """Our modules in a fresh interpreter that ran the statement."""
    code = f"import sys\n{statement}\nprint(*(name for name in sys.modules if name.partition('.')[0] in {{}}))".format(
        {"pipeline", "sim", "train", "flows"}
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def imports_of(path: Path) -> set[str]:
    """Modules of the pipeline that a file imports, also inside functions."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pipeline"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def modules() -> dict[str, set[str]]:
    """Imports by module, of the packages about scenes."""
    paths = [path for package in ORDER for path in (ROOT / "pipeline" / package).glob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): imports_of(path) for path in paths}


def test_opening_a_bundle_imports_few_modules():
    """Manifest and files, and no reader of a part before that part is asked for."""
    assert len(ours_after(f"from pipeline import Bundle; Bundle.open({PAST!r})")) < 15


def test_the_simulators_scenes_import_no_trainer():
    """Nor anything else of splats: what a scene needs of them is imported with its splat."""
    loaded = ours_after("import sim.scene.scene")
    assert len(loaded) < 45
    assert not {
        name for name in loaded if name.startswith(("pipeline.splat", "pipeline.raster", "pipeline.running.engine"))
    }


def test_no_package_about_scenes_imports_one_above_it():
    """Not even inside a function."""
    for name, imported in modules().items():
        package = name.split(".")[1]
        above = {f"pipeline.{other}" for other in ORDER[ORDER.index(package) + 1 :]}
        wrong = {one for one in imported if ".".join(one.split(".")[:2]) in above}
        assert not wrong, f"{name} imports {wrong}"


def test_no_modules_about_scenes_import_each_other():
    """In no circle, also through imports inside functions."""
    graph = modules()
    order = TopologicalSorter({name: imported & graph.keys() for name, imported in graph.items()}).static_order()
    assert set(order) == graph.keys()
