"""What imports what: heavy libraries only inside the functions that need them, packages only downwards."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import flows
import pipeline
from tests.paths import ROOT

HEAVY = {"torch", "prefect", "open3d", "pycolmap", "sapien", "viser", "trimesh", "pillow_heif"}
HEAVY |= {"gsplat", "vggt", "depth_anything_3", "nksr"}
"""Modules that take a second each, or that only one backend needs."""


WITH_PREFECT = [
    f"flows.{name}"
    for name in (
        "ingest",
        "publish",
        "retention",
        "stage",
        "train_policy",
        "verdicts",
        "watch_folder",
        "yard",
    )
]


def loaded_after(statement: str) -> set[str]:
    """Top-level modules of a fresh interpreter that ran the statement."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def modules_of(package) -> list[str]:
    """All modules below a package."""
    return [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


@pytest.mark.parametrize(
    "statement", ["import splatyard", "import pipeline", "from pipeline import errors, stage", "import flows.cli"]
)
def test_light_imports_load_nothing(statement):
    """`import pipeline` and the command line load not even numpy."""
    assert not loaded_after(statement) & (HEAVY | {"numpy", "scipy", "numba", "cv2", "PIL", "pydantic", "yaml"})


def test_the_public_names_load_no_backend():
    """`from pipeline import build, Bundle` gives both without loading any backend."""
    assert not loaded_after("from pipeline import build, Bundle") & HEAVY


def test_splatyard_has_the_names_of_the_packages():
    """Each is what its package has, loaded on first use; others are no names of it."""
    import sim
    import splatyard

    assert splatyard.make is sim.make
    assert splatyard.Bundle is pipeline.Bundle
    assert all(getattr(splatyard, name) for name in splatyard.__all__) and dir(splatyard) == sorted(splatyard.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        splatyard.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    assert not loaded_after("from splatyard import make, Bundle, SplatyardError") & HEAVY


def test_no_module_of_the_pipeline_loads_a_heavy_library():
    """Each module of `pipeline`, all in one interpreter, imports without any heavy library."""
    names = modules_of(pipeline)
    assert len(names) > 30
    assert not loaded_after("import " + ", ".join(names)) & HEAVY


def test_only_the_flows_load_prefect():
    """Of `flows`, only those that hold flows and tasks import Prefect, and they nothing else that is heavy."""
    names = [name for name in modules_of(flows) if name not in WITH_PREFECT]
    assert not loaded_after("import " + ", ".join(names)) & HEAVY
    assert loaded_after("import " + ", ".join(WITH_PREFECT)) & HEAVY == {"prefect"}


def test_packages_point_down_only():
    """import-linter holds section 3 of the design; see [tool.importlinter] in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_docker_folder_is_no_package():
    """A package named `docker` would hide the Docker SDK that Prefect imports."""
    assert not (ROOT / "docker" / "__init__.py").exists()
    found = importlib.util.find_spec("docker")
    assert found is not None
    assert ROOT / "docker" not in map(type(ROOT), found.submodule_search_locations or [])


def test_no_flow_hides_a_package():
    """Prefect puts the folder of a flow that it loads by path before all others that modules are looked for in."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {"pipeline", "sim", "train"} <= packages
    assert not packages & {path.stem for path in (ROOT / "flows").glob("*.py")}


def test_readers_are_quick_to_load():
    """What a capture is, and the plan of its build, take neither compiled kernels nor SciPy."""
    assert not loaded_after("import pipeline.running.building, pipeline.capture.detect") & {"numba", "scipy"}
