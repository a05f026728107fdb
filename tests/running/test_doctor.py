"""The doctor's findings: true on this machine, and true of a machine that lacks something."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pipeline import machine
from pipeline.machine import Machine
from pipeline.running import doctor
from pipeline.running.doctor import APT_PACKAGES, Finding, Report, examine, import_problem
from tests.paths import ROOT


@pytest.fixture
def quick(monkeypatch):
    """Leave out the imports of all packages, which take seconds."""
    monkeypatch.setattr(doctor, "import_problem", lambda module: None)


def by_name(report: Report) -> dict[str, Finding]:
    return {finding.name: finding for finding in report.findings}


def test_this_machine_is_ready(tmp_path):
    """Where the tests run, every package with compiled parts imports and nothing needed is missing."""
    report = examine(tmp_path / "bundles")
    assert report.ready, [finding for finding in report.findings if finding.needed and finding.state == "missing"]
    assert by_name(report)["numpy"].detail == importlib.metadata.version("numpy")


def test_every_dependency_is_looked_at(quick, tmp_path):
    """The packages of the report are those of the installed distribution, extras left out."""
    names = {finding.name for finding in examine(tmp_path).findings if finding.group == "packages"}
    assert {"numpy", "pycolmap", "prefect", "opencv-python", "sapien"} <= names
    assert not names & {"pytest", "torch", "gsplat"}


def test_only_packages_with_compiled_parts_are_imported(monkeypatch, tmp_path):
    """Prefect alone takes a second, and lacks no library of the system."""
    imported: list[str] = []
    monkeypatch.setattr(doctor, "import_problem", lambda modules: imported.extend(modules.split(", ")))
    examine(tmp_path)
    assert {"numpy", "cv2", "pycolmap", "sapien"} <= set(imported)
    assert not {"prefect", "trimesh", "fastapi", "viser"} & set(imported)


def test_missing_package_names_its_command(quick, monkeypatch, tmp_path):
    """A package that is not there is named with the pip command, and so are the backends that need it."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "pycolmap":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    report = examine(tmp_path)
    found = by_name(report)
    assert not report.ready
    assert found["pycolmap"].state == "missing"
    assert found["pycolmap"].remedy.startswith("pip install 'pycolmap>=")
    assert found["poses colmap"].state == "missing"
    assert found["poses colmap"].remedy == found["pycolmap"].remedy
    assert found["splat cpu"].state == "ok"


def test_too_old_package_is_missing(quick, monkeypatch, tmp_path):
    """A version outside the declared bounds counts as missing and says both."""
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.155.0" if name == "fastapi" else real(name))
    finding = by_name(examine(tmp_path))["fastapi"]
    assert finding.state == "missing"
    assert "0.155.0" in finding.detail
    assert "<0.151" in finding.detail


def test_missing_system_library_names_the_debian_package(monkeypatch, tmp_path):
    """A package that misses libGL is mended with apt-get, not by installing it again."""
    problem = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    monkeypatch.setattr(doctor, "import_problem", lambda module: problem if "cv2" in module else None)
    finding = by_name(examine(tmp_path))["opencv-python"]
    assert finding.state == "missing"
    assert finding.remedy == "apt-get install -y libgl1"


def test_unknown_system_library_is_named(monkeypatch, tmp_path):
    """A library that no list knows is named; installing the package again would not bring it."""
    problem = "ImportError: libodd-2.so.9: cannot open shared object file: No such file or directory"
    monkeypatch.setattr(doctor, "import_problem", lambda module: problem if "cv2" in module else None)
    assert by_name(examine(tmp_path))["opencv-python"].remedy == "install the system library libodd-2.so.9"


def test_system_libraries_are_really_loaded(quick, monkeypatch, tmp_path):
    """A library that the loader can't find is reported as missing."""
    monkeypatch.setattr(doctor, "APT_PACKAGES", {"libnobody.so.7": "libnobody7"})
    finding = by_name(examine(tmp_path))["libnobody.so.7"]
    assert finding.state == "missing"
    assert finding.needed
    assert finding.remedy == "apt-get install -y libnobody7"


def test_where_kernels_are_kept(quick, monkeypatch, tmp_path):
    """As `pipeline.geometry.jit` does it; where they don't stay, a warning says what to do."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    assert by_name(examine(tmp_path))["kernel cache"].detail == str(tmp_path / "kernels")
    monkeypatch.setattr(doctor, "may_be_written", lambda folder: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = by_name(examine(tmp_path))["kernel cache"]
    assert found.state == "warning"
    assert "-kernels, until the machine restarts" in found.detail
    assert "NUMBA_CACHE_DIR" in found.remedy
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert "each process compiles" in by_name(examine(tmp_path))["kernel cache"].detail


def test_unwritable_work_folder_is_missing(quick, monkeypatch, tmp_path):
    """A folder that can't be written is found by writing, and the remedy is --out."""

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    finding = by_name(examine(tmp_path / "not" / "there"))["work folder"]
    assert finding.state == "missing"
    assert "--out" in finding.remedy


def test_container_limit_bounds_the_memory(monkeypatch, tmp_path):
    """A container's memory limit counts, not the host's memory."""
    limit = tmp_path / "memory.max"
    limit.write_text("1073741824\n")
    monkeypatch.setattr(machine, "MEMORY_LIMIT", limit)
    available = machine.available_memory()
    assert available is not None
    assert available <= 2**30


def test_import_problem_survives_a_crash():
    """An import that kills its process is a finding, not the doctor's end."""
    assert import_problem("json") is None
    assert "No module named" in (import_problem("no_such_module_anywhere") or "")
    assert "code" in (import_problem("os; os.abort()") or "")


def test_backends_for_gpus_don_t_spoil_the_verdict(quick, monkeypatch, tmp_path):
    """They and CUDA may be missing."""
    monkeypatch.setattr("pipeline.running.doctor.this_machine", lambda _python: Machine())
    report = examine(tmp_path)
    gpu = [finding for finding in report.findings if finding.group == "GPU backends"]
    assert "CUDA" in {finding.name for finding in gpu}
    for finding in gpu:
        assert not finding.needed
        assert finding.remedy or finding.state == "ok"
    assert report.ready


def test_an_optional_package_doesn_t_spoil_the_verdict(quick, monkeypatch, tmp_path):
    """Poisson's meshes need Open3D, which no build needs."""
    monkeypatch.setattr(doctor, "missing_library", lambda stage, backend: "open3d-cpu is not installed")
    report = examine(tmp_path)
    poisson = by_name(report)["mesh poisson"]
    assert poisson.state == "missing" and not poisson.needed and "splatyard[poisson]" in poisson.remedy
    assert report.ready


def test_every_backend_of_the_stages_is_listed(quick, tmp_path):
    """A backend that a stage offers is one the doctor knows."""
    from pipeline.running.stages import STAGES

    listed = set(by_name(examine(tmp_path)))
    for stage in STAGES:
        hints = get_type_hints(stage.params)
        for backend in get_args(hints.get("backend")):
            own = next((name for name in listed if re.match(rf"{backend} \(.*\b{stage.name}\b.*\)", name)), None)
            assert backend == "auto" or own or f"{stage.name} {backend}" in listed


def test_makefile_dockerfile_and_doctor_name_the_same_packages():
    """The Debian packages stand in three files; they agree, and the Makefile says them in one line."""
    done = subprocess.run(["make", "-s", "apt-packages"], cwd=ROOT, capture_output=True, text=True, check=True)
    only_tests = {"gcc", "libc6-dev", "postgresql"}
    assert set(done.stdout.split()) == set(APT_PACKAGES.values()) | {"python3-venv"} | only_tests
    docker = Path(ROOT / "docker" / "cpu.Dockerfile").read_text()
    installed = re.search(r"--no-install-recommends \\\n(.*?)\\", docker, re.DOTALL)
    assert installed is not None
    assert set(installed[1].split()) == set(APT_PACKAGES.values())
