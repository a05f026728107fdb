"""What this machine can run, what is missing for each backend, and the exact command that brings it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.findings import Finding, State
from pipeline.learned.examine import gpu_findings

GIBI = 2**30
IMPORT_TIMEOUT_SECONDS = 180
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")

APT_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libICE.so.6": "libice6",
    "libSM.so.6": "libsm6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libgomp.so.1": "libgomp1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libidn2.so.0": "libidn2-0",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libxcb.so.1": "libxcb1",
}
"""Shared libraries that the wheels of Open3D, OpenCV and SAPIEN expect of the system, and Debian's packages."""

MODULES = {
    "backports-zstd": "backports.zstd",
    "opencv-python": "cv2",
    "open3d-cpu": "open3d",
    "openexr": "OpenEXR",
    "pillow": "PIL",
    "pyyaml": "yaml",
}
"""Distributions whose module has another name than they have."""


@dataclass(frozen=True)
class Report:
    """All findings, in the order they are shown."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether everything that the CPU pipeline needs is there."""
        return all(finding.state != "missing" for finding in self.findings if finding.needed)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"ready": self.ready, "findings": [asdict(finding) for finding in self.findings]}


def examine(work: Path, python: str = "") -> Report:
    """Look at this machine; imports run in processes of their own, so that a crash is a finding too.

    Args:
        work: The folder that results would be written to; it need not exist.
        python: The interpreter that has the GPU backends' packages; "" is this one.
    """
    findings = [*_machine(work), *_packages(), *_system_libraries()]
    return Report((*findings, *_backends(findings), *gpu_findings(python)))


def _machine(work: Path) -> Iterator[Finding]:
    version = platform.python_version()
    right = (3, 11) <= sys.version_info[:2] < (3, 14)
    remedy = "" if right else "install Python 3.11, 3.12 or 3.13"
    yield Finding("machine", "Python", "ok" if right else "missing", True, version, remedy)
    cores = available_cores()
    yield _judge("CPU cores", cores > 1, f"{cores}", "use a machine with 2 or more")
    features = cpu_features()
    wide = {"avx2", "fma"} <= features or platform.machine() in ("aarch64", "arm64")
    shown = ", ".join(name for name in ("sse4_2", "avx2", "fma", "avx512f") if name in features)
    detail = f"{platform.machine()} {shown}".strip()
    yield _judge("CPU features", wide, detail, "splats train slower without AVX2")
    memory = available_memory()
    enough = memory is None or memory >= 4 * GIBI
    detail = "unknown" if memory is None else f"{memory / GIBI:.1f} GiB available"
    yield _judge("memory", enough, detail, "4 GiB are wanted; close other programs")
    yield from _disk(work)
    threads = os.environ.get("NUMBA_NUM_THREADS", str(cores))
    yield Finding("machine", "numba threads", "ok", False, threads)
    yield from _numba_cache()


def _disk(work: Path) -> Iterator[Finding]:
    folder = next(parent for parent in (work.absolute(), *work.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    yield _judge(
        "disk",
        free >= 4 * GIBI,
        f"{free / GIBI:.1f} GiB free at {folder}",
        "a build takes up to 4 GiB; choose another disk with --out",
    )
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield Finding("machine", "work folder", "ok", True, f"{folder} is writable")
    except OSError as error:
        remedy = "choose a folder you may write with --out"
        yield Finding("machine", "work folder", "missing", True, f"{folder}: {error.strerror}", remedy)


def _numba_cache() -> Iterator[Finding]:
    named = os.environ.get("NUMBA_CACHE_DIR")
    candidates = [Path(named)] if named else [Path(__file__).parent, Path.home() / ".cache"]
    usable = any(os.access(next(p for p in (c, *c.parents) if p.exists()), os.W_OK) for c in candidates)
    detail = f"{'writable' if usable else 'not writable'}: {' or '.join(map(str, candidates))}"
    state: State = "ok" if usable else "missing"
    yield Finding("machine", "numba cache", state, True, detail, "" if usable else "export NUMBA_CACHE_DIR=/tmp/numba")


def _judge(name: str, good: bool, detail: str, remedy: str) -> Finding:
    """Something of the machine that is good, or slow or tight but usable."""
    return Finding("machine", name, "ok" if good else "warning", False, detail, "" if good else remedy)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes that a new program could use, a container's limit included; None where unknown."""
    information = Path("/proc/meminfo")
    if not information.is_file():
        return None
    lines = dict(line.split(":", 1) for line in information.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    if MEMORY_LIMIT.is_file() and (text := MEMORY_LIMIT.read_text().strip()).isdigit():
        available = min(available, int(text))
    return available


def cpu_features() -> frozenset[str]:
    """The features that Linux names for the first core; empty elsewhere."""
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return frozenset()
    for line in information.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires("splatyard") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "splatyard", "missing", True, "not installed", "pip install -e .")
        return
    parsed = (Requirement(text) for text in texts)
    wanted = [need for need in parsed if need.marker is None or need.marker.evaluate({"extra": ""})]
    with ThreadPoolExecutor(available_cores()) as pool:
        yield from pool.map(lambda need: _package(need.name, str(need.specifier)), wanted)


def _package(name: str, specifier: str) -> Finding:
    from packaging.specifiers import SpecifierSet

    command = f"pip install '{name}{specifier}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", name, "missing", True, "not installed", command)
    if not SpecifierSet(specifier).contains(version, prereleases=True):
        return Finding("packages", name, "missing", True, f"{version}, but {specifier} is needed", command)
    problem = import_problem(MODULES.get(name, name.replace("-", "_")))
    if problem is None:
        return Finding("packages", name, "ok", True, version)
    remedy = _library_remedy(problem) or f"pip install --force-reinstall '{name}'"
    return Finding("packages", name, "missing", True, f"{version} does not import: {problem}", remedy)


def _library_remedy(problem: str) -> str | None:
    found = re.search(r"(lib\S+\.so[.\d]*): cannot open shared object", problem)
    if found is None:
        return None
    package = APT_PACKAGES.get(found[1])
    return f"apt-get install -y {package}" if package else f"install the system library {found[1]}"


def import_problem(module: str) -> str | None:
    """Why a module can't be imported in a process of its own, or None when it can."""
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"took over {IMPORT_TIMEOUT_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process ended with code {done.returncode}"


def _system_libraries() -> Iterator[Finding]:
    if platform.system() != "Linux":
        return
    for soname, package in APT_PACKAGES.items():
        try:
            ctypes.CDLL(soname)
        except OSError as error:
            detail = str(error).partition(":")[2].strip() or str(error)
            yield Finding("system libraries", soname, "missing", True, detail, f"apt-get install -y {package}")
        else:
            yield Finding("system libraries", soname, "ok", True, f"there ({package})")


BACKEND_PACKAGES = {
    "poses sensor": ("numpy",),
    "poses refined": ("pycolmap",),
    "poses colmap": ("pycolmap",),
    "depth sensor": ("opencv-python",),
    "depth mvs": ("numba",),
    "depth combined": ("numba",),
    "mesh tsdf": ("open3d-cpu", "open3d"),
    "mesh poisson": ("open3d-cpu", "open3d"),
    "splat cpu": ("numba",),
    "check drop test": ("sapien",),
    "flow prefect": ("prefect",),
    "viewer viser": ("viser",),
}
"""What each backend of this version stands on; one installed package of the tuple will do."""


def _backends(findings: list[Finding]) -> Iterator[Finding]:
    packages = {finding.name: finding for finding in findings if finding.group == "packages"}
    for name, needs in BACKEND_PACKAGES.items():
        found = [packages[need] for need in needs if need in packages]
        bad = next((finding for finding in found if finding.state == "missing"), None)
        if found and bad is None:
            yield Finding("backends", name, "ok", True, f"{found[0].name} {found[0].detail}")
        else:
            remedy = bad.remedy if bad else f"pip install {needs[0]}"
            yield Finding("backends", name, "missing", True, f"needs {needs[0]}", remedy)
