"""What this machine can run, what is missing for each backend, and the exact command that installs it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_type_hints

from pydantic import BaseModel

from pipeline.errors import MachineError, install
from pipeline.gpu_backends.catalog import BACKENDS, GIBI, Backend, foreign_environment, licence_of
from pipeline.gpu_backends.device import runs_on, wheel_for
from pipeline.io.files import may_be_written, private_folder
from pipeline.machine import IMPORT_SECONDS, Gpu, Machine, available_memory, this_machine
from pipeline.parallel import NOT_FROM_HERE, core_count
from pipeline.running.engine import missing_library
from pipeline.running.stages import STAGES

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "warning", "missing"]
GPU_GROUP = "GPU backends"

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
"""Shared libraries that the wheels of OpenCV and SAPIEN need from the system, and their Debian packages."""

MODULES = {
    "backports-zstd": "backports.zstd",
    "opencv-python": "cv2",
    "openexr": "OpenEXR",
    "pillow": "PIL",
    "pyyaml": "yaml",
}
"""Distributions whose module has another name."""


GPU_QUERY = """
import importlib.metadata, json, sys
versions, torch = {}, {}
for module, name in json.loads(sys.argv[1]).items():
    try:
        versions[module] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        versions[module] = "of unknown version"
if "torch" in versions:
    try:
        import torch as t
        torch = {"cuda": t.version.cuda, "sees": t.cuda.is_available(), "built_for": t.cuda.get_arch_list()}
    except Exception as error:
        torch = {"problem": str(error)}
print(json.dumps({"versions": versions, "torch": torch}))
"""
"""Prints the versions of modules, and what torch knows of CUDA, as JSON (see `Installed`)."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: "warning" works, but slowly or barely.
        needed: Whether the CPU pipeline can't run without it.
        remedy: Commands or a step that repair it, one per line; empty when nothing is wrong.
    """

    group: str
    name: str
    state: State
    needed: bool
    detail: str
    remedy: str = ""


def _needed(group: str, name: str, detail: str, remedy: str | None = None) -> Finding:
    """A finding that the CPU pipeline depends on; without a remedy nothing is wrong."""
    return Finding(group, name, "ok" if remedy is None else "missing", True, detail, remedy or "")


def _on_gpu(name: str, detail: str, remedy: str | None = None) -> Finding:
    """A finding about GPU backends, which nothing depends on; without a remedy nothing is wrong."""
    return Finding(GPU_GROUP, name, "ok" if remedy is None else "missing", False, detail, remedy or "")


def _judge(name: str, good: bool, detail: str, remedy: str) -> Finding:
    """A finding about the machine that is good, or slow or tight but usable."""
    return Finding("machine", name, "ok" if good else "warning", False, detail, "" if good else remedy)


@dataclass(frozen=True)
class Report:
    """All findings, in the order they are shown."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether everything that the CPU pipeline needs is present."""
        return all(finding.state != "missing" for finding in self.findings if finding.needed)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return {"ready": self.ready, "findings": [asdict(finding) for finding in self.findings]}


def examine(work: Path, python: str = "") -> Report:
    """Check this machine, and the interpreter with the GPU backends' packages ("" is this one).

    Packages with compiled parts are imported, in separate processes, so that a crash is a finding too. Of those in
    plain Python only the version is looked at: `flows.trials` runs all.
    """
    findings = [*_machine(work), *_packages(), *_system_libraries()]
    return Report((*findings, *_backends(findings), *gpu_findings(python)))


def _machine(work: Path) -> Iterator[Finding]:
    right = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield _needed(
        "machine", "Python", platform.python_version(), None if right else "install Python 3.11, 3.12 or 3.13"
    )
    cores = core_count()
    yield _judge("CPU cores", cores > 1, f"{cores}", "use a machine with 2 or more")
    features = cpu_features()
    wide = {"avx2", "fma"} <= features or platform.machine() in ("aarch64", "arm64")
    shown = ", ".join(name for name in ("sse4_2", "avx2", "fma", "avx512f") if name in features)
    yield _judge("CPU features", wide, f"{platform.machine()} {shown}".strip(), "splats train slower without AVX2")
    memory = available_memory()
    detail = "unknown" if memory is None else f"{memory / GIBI:.1f} GiB available"
    enough = memory is None or memory >= 4 * GIBI
    yield _judge("memory", enough, detail, "4 GiB are needed; close other programs")
    folder = next(parent for parent in (work.absolute(), *work.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    remedy = "a build takes up to 4 GiB; choose another disk with --out"
    yield _judge("disk", free >= 4 * GIBI, f"{free / GIBI:.1f} GiB free at {folder}", remedy)
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield _needed("machine", "work folder", f"{folder} is writable")
    except OSError as error:
        remedy = "choose a folder you may write with --out"
        yield _needed("machine", "work folder", f"{folder}: {error.strerror}", remedy)
    threads = os.environ.get("NUMBA_NUM_THREADS", str(cores))
    yield Finding("machine", "numba threads", "ok", False, threads)
    yield _kernel_cache()


def _kernel_cache() -> Finding:
    """Where numba keeps compiled kernels: beside the package, or at home, or where `pipeline.geometry.jit` lets it."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    candidates = [*([Path(named)] if named else []), Path(__file__).parent, Path("~/.cache")]
    for folder in candidates:
        if may_be_written(folder):
            return _judge("kernel cache", True, str(folder), "")
    try:
        detail = f"{private_folder('kernels')}, until the machine restarts"
    except MachineError as error:
        detail = f"none, so each process compiles for minutes: {error.found}"
    return _judge("kernel cache", False, detail, "export NUMBA_CACHE_DIR=FOLDER, one of your own that stays")


def cpu_features() -> frozenset[str]:
    """The features that Linux lists for the first core; empty elsewhere."""
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
        yield _needed("packages", "splatyard", "not installed", "pip install -e .")
        return
    parsed = (Requirement(text) for text in texts)
    requirements = [need for need in parsed if need.marker is None or need.marker.evaluate({"extra": ""})]
    # only what is compiled can lack a library of the system; in one process, alone only where one of them is at fault
    compiled = [need for need in requirements if _is_compiled(need)]
    fine = import_problem(", ".join(map(_module, compiled))) is None
    suspects = () if fine else {need.name for need in compiled}
    with ThreadPoolExecutor(core_count()) as pool:
        yield from pool.map(partial(_package, suspects=suspects), requirements)


def _is_compiled(need: Requirement) -> bool:
    """Whether a package is here and has more than Python's files, as its wheel says."""
    try:
        return "Root-Is-Purelib: true" not in (importlib.metadata.distribution(need.name).read_text("WHEEL") or "")
    except importlib.metadata.PackageNotFoundError:
        return False


def _module(need: Requirement) -> str:
    return MODULES.get(need.name, need.name.replace("-", "_"))


def _package(need: Requirement, *, suspects: Collection[str]) -> Finding:
    name, command = need.name, f"pip install '{need.name}{need.specifier}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _needed("packages", name, "not installed", command)
    if not need.specifier.contains(version, prereleases=True):
        return _needed("packages", name, f"{version}, but {need.specifier} is needed", command)
    problem = import_problem(_module(need)) if name in suspects else None
    if problem is None:
        return _needed("packages", name, version)
    remedy = f"pip install --force-reinstall '{name}'"
    if match := re.search(r"(lib\S+\.so[.\d]*): cannot open shared object", problem):
        package = APT_PACKAGES.get(match[1])
        remedy = f"apt-get install -y {package}" if package else f"install the system library {match[1]}"
    return _needed("packages", name, f"{version} does not import: {problem}", remedy)


def import_problem(module: str) -> str | None:
    """Why a module, or one of several ("a, b"), can't be imported in a separate process, or None when it can."""
    command = [sys.executable, "-c", f"{NOT_FROM_HERE}import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"took over {IMPORT_SECONDS:.0f} s"
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
            yield _needed("system libraries", soname, detail, f"apt-get install -y {package}")
        else:
            yield _needed("system libraries", soname, f"present ({package})")


BACKEND_PACKAGES = {
    "poses sensor": "numpy",
    "poses refined": "pycolmap",
    "poses colmap": "pycolmap",
    "depth sensor": "opencv-python",
    "depth mvs": "numba",
    "depth combined": "numba",
    "mesh tsdf": "numba",
    "splat cpu": "numba",
    "check drop test": "sapien",
    "flow prefect": "prefect",
    "viewer viser": "viser",
}
"""The package that each backend needs."""


def _backends(findings: list[Finding]) -> Iterator[Finding]:
    packages = {finding.name: finding for finding in findings if finding.group == "packages"}
    for name, need in BACKEND_PACKAGES.items():
        package = packages.get(need)
        if package is not None and package.state != "missing":
            yield _needed("backends", name, f"{need} {package.detail}")
        else:
            yield _needed("backends", name, f"needs {need}", package.remedy if package else f"pip install {need}")
    lacks = missing_library(next(stage for stage in STAGES if stage.name == "mesh"), "poisson")
    remedy = install("poisson") if lacks else ""
    yield Finding("backends", "mesh poisson", "missing" if lacks else "ok", False, lacks or "Open3D is there", remedy)


class Torch(BaseModel):
    """CUDA version and architectures that torch was built for, whether it sees the GPU, or why it can't be imported."""

    cuda: str | None = None
    sees: bool = False
    built_for: list[str] = []
    problem: str = ""


class Installed(BaseModel):
    """GPU packages of an interpreter: their versions by module, and torch's state if it was imported."""

    versions: dict[str, str] = {}
    torch: Torch = Torch()


def gpu_findings(python: str = "") -> Iterator[Finding]:
    """The GPU, torch, and each GPU backend with its weights; none of them is needed."""
    machine = this_machine(python)
    gpu, installed = machine.gpu, _installed(python or sys.executable, machine)
    if gpu is None:
        detail = "no NVIDIA GPU, or no driver for it; everything runs on the CPU too"
        yield _on_gpu("CUDA", detail, "apt-get install -y nvidia-driver")
    else:
        memory = f"{gpu.memory / GIBI:.0f} GiB ({gpu.free / GIBI:.0f} free)"
        yield _on_gpu("CUDA", f"{gpu.name}, {memory}, compute capability {'.'.join(map(str, gpu.capability))}")
    if machine.problem:
        yield _on_gpu("interpreter", machine.problem, "give another --python")
    unfit = ""
    if problem := machine.broken.get("torch"):
        yield _on_gpu("torch", f"torch does not import: {problem}", wheel_for(None))
    elif gpu is not None and "torch" in machine.modules:
        finding = _torch(installed, gpu)
        unfit = finding.detail if finding.state == "missing" else ""
        yield finding
    for name, backend in BACKENDS.items():
        stages = [stage.name for stage in STAGES if name in get_args(get_type_hints(stage.params).get("backend"))]
        yield _backend(f"{name} ({', '.join(stages)})", backend, machine, installed, machine.lacks(name) or unfit)
        for weights in backend.weights:
            title, path = f"{name} weights {weights.repository.rpartition('/')[2]}", weights.path
            if path is not None:
                yield _on_gpu(title, str(path))
            else:
                licence = licence_of(name, weights.repository).text
                yield _on_gpu(title, f"not here; downloaded at first use ({licence})", weights.command)
    if gpu is not None and "gsplat" in machine.modules and not shutil.which("nvcc"):
        detail = "no nvcc on the path: gsplat builds its kernels at first use"
        yield _on_gpu("gsplat compiler", detail, "install the CUDA toolkit of torch's version")


def _installed(python: str, machine: Machine) -> Installed:
    names = {"torch": "torch"} | {backend.module: backend.distribution for backend in BACKENDS.values()}
    present = machine.modules | machine.broken.keys()
    queried = {module: name for module, name in names.items() if module in present}
    if machine.gpu is None or "torch" in machine.broken:
        queried.pop("torch", None)  # its import takes seconds, for nothing
    if not queried:
        return Installed()
    command = [python, "-c", NOT_FROM_HERE + GPU_QUERY, json.dumps(queried)]
    environment = None if python == sys.executable else foreign_environment()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return Installed(torch=Torch(problem=f"it took over {IMPORT_SECONDS:.0f} s"))
    if done.returncode:
        return Installed(torch=Torch(problem=(done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]))
    return Installed.model_validate_json(done.stdout.splitlines()[-1])


def _torch(installed: Installed, gpu: Gpu) -> Finding:
    torch, remedy = installed.torch, wheel_for(gpu.capability)
    if torch.problem:
        return _on_gpu("torch", f"torch does not import: {torch.problem}", remedy)
    built = f"torch {installed.versions.get('torch', '')} for " + (f"CUDA {torch.cuda}" if torch.cuda else "CPUs")
    if not torch.sees:
        return _on_gpu("torch", f"{built} sees no GPU", remedy)
    if not runs_on(gpu.capability, torch.built_for):
        return _on_gpu("torch", f"{built} was built for {', '.join(torch.built_for)}, not for {gpu.name}", remedy)
    return _on_gpu("torch", f"{built}, runs on {gpu.name}")


def _backend(name: str, backend: Backend, machine: Machine, installed: Installed, lacks: str) -> Finding:
    has = f"{backend.distribution} {installed.versions.get(backend.module, '')}".strip()
    install, broken = "\n".join(backend.install), backend.module in machine.broken
    if broken or backend.module in machine.modules:
        return _on_gpu(name, f"{has}, but {lacks}", install if broken else "") if lacks else _on_gpu(name, has)
    why = f"{lacks}; " if machine.gpu is None else ""
    source = f"from {backend.source}; in docker/{backend.dockerfile}"
    return _on_gpu(name, f"{why}{backend.distribution} is not installed; {source}", install)
