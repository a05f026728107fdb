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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pipeline.gpu_backends.catalog import BACKENDS, GIBI, Backend, Weights
from pipeline.gpu_backends.device import runs_on, wheel_for
from pipeline.machine import IMPORT_SECONDS, Gpu, Machine, available_memory, foreign_environment, this_machine
from pipeline.parallel import core_count
from pipeline.stages import STAGES

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
"""Shared libraries that the wheels of Open3D, OpenCV and SAPIEN need from the system, and their Debian packages."""

MODULES = {
    "backports-zstd": "backports.zstd",
    "opencv-python": "cv2",
    "open3d-cpu": "open3d",
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
"""Prints the versions of modules, and what torch knows of CUDA, as JSON."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        group: machine, packages, system libraries, backends, GPU backends or physics engines.
        name: What was checked.
        state: "warning" works, but slowly or barely.
        needed: Whether the CPU pipeline can't run without it.
        detail: What was found.
        remedy: The commands or the step that repair it, one per line; empty when nothing is wrong.
    """

    group: str
    name: str
    state: State
    needed: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, in the order they are shown."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether everything that the CPU pipeline needs is present."""
        return all(finding.state != "missing" for finding in self.findings if finding.needed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"ready": self.ready, "findings": [asdict(finding) for finding in self.findings]}


def examine(work: Path, python: str = "") -> Report:
    """Check this machine; imports run in separate processes, so that a crash is a finding too.

    Args:
        work: The folder for results; it need not exist.
        python: The interpreter with the GPU backends' packages; "" is this one.
    """
    findings = [*_machine(work), *_packages(), *_system_libraries()]
    return Report((*findings, *_backends(findings), *gpu_findings(python)))


def _machine(work: Path) -> Iterator[Finding]:
    version = platform.python_version()
    right = (3, 11) <= sys.version_info[:2] < (3, 14)
    remedy = "" if right else "install Python 3.11, 3.12 or 3.13"
    yield Finding("machine", "Python", "ok" if right else "missing", True, version, remedy)
    cores = core_count()
    yield _judge("CPU cores", cores > 1, f"{cores}", "use a machine with 2 or more")
    features = cpu_features()
    wide = {"avx2", "fma"} <= features or platform.machine() in ("aarch64", "arm64")
    shown = ", ".join(name for name in ("sse4_2", "avx2", "fma", "avx512f") if name in features)
    detail = f"{platform.machine()} {shown}".strip()
    yield _judge("CPU features", wide, detail, "splats train slower without AVX2")
    memory = available_memory()
    enough = memory is None or memory >= 4 * GIBI
    detail = "unknown" if memory is None else f"{memory / GIBI:.1f} GiB available"
    yield _judge("memory", enough, detail, "4 GiB are needed; close other programs")
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
    """A finding about the machine that is good, or slow or tight but usable."""
    return Finding("machine", name, "ok" if good else "warning", False, detail, "" if good else remedy)


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
        yield Finding("packages", "splatyard", "missing", True, "not installed", "pip install -e .")
        return
    parsed = (Requirement(text) for text in texts)
    requirements = [need for need in parsed if need.marker is None or need.marker.evaluate({"extra": ""})]
    with ThreadPoolExecutor(core_count()) as pool:
        yield from pool.map(lambda need: _package(need.name, str(need.specifier)), requirements)


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
    match = re.search(r"(lib\S+\.so[.\d]*): cannot open shared object", problem)
    if match is None:
        return None
    package = APT_PACKAGES.get(match[1])
    return f"apt-get install -y {package}" if package else f"install the system library {match[1]}"


def import_problem(module: str) -> str | None:
    """Why a module can't be imported in a separate process, or None when it can."""
    command = [sys.executable, "-c", f"import {module}"]
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
            yield Finding("system libraries", soname, "missing", True, detail, f"apt-get install -y {package}")
        else:
            yield Finding("system libraries", soname, "ok", True, f"present ({package})")


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
"""Packages that each backend needs; one of the tuple is enough."""


def _backends(findings: list[Finding]) -> Iterator[Finding]:
    packages = {finding.name: finding for finding in findings if finding.group == "packages"}
    for name, needs in BACKEND_PACKAGES.items():
        known = [packages[need] for need in needs if need in packages]
        bad = next((finding for finding in known if finding.state == "missing"), None)
        if known and bad is None:
            yield Finding("backends", name, "ok", True, f"{known[0].name} {known[0].detail}")
        else:
            remedy = bad.remedy if bad else f"pip install {needs[0]}"
            yield Finding("backends", name, "missing", True, f"needs {needs[0]}", remedy)


@dataclass(frozen=True)
class Installed:
    """GPU packages of an interpreter.

    Attributes:
        versions: Versions by module.
        torch: `cuda` and `built_for`, whether torch `sees` the GPU, or its `problem`; empty if it was not imported.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    torch: Mapping[str, Any] = field(default_factory=dict)


def gpu_findings(python: str = "") -> Iterator[Finding]:
    """The GPU, torch, and each GPU backend with its weights; none of them is needed.

    Args:
        python: The interpreter with their packages; "" is this one.
    """
    machine = this_machine(python)
    installed = _installed(python or sys.executable, machine)
    yield _gpu(machine.gpu)
    if machine.problem:
        yield Finding(GPU_GROUP, "interpreter", "missing", False, machine.problem, "give another --python")
    unfit = ""
    if problem := machine.broken.get("torch"):
        yield Finding(GPU_GROUP, "torch", "missing", False, f"torch does not import: {problem}", wheel_for(None))
    elif machine.gpu is not None and "torch" in machine.modules:
        finding = _torch(installed, machine.gpu)
        unfit = finding.detail if finding.state == "missing" else ""
        yield finding
    for name, backend in BACKENDS.items():
        lacks = machine.lacks(name) or unfit
        yield _backend(f"{name} ({', '.join(_stages_with(name))})", backend, machine, installed, lacks)
        yield from (_weights(name, weights, backend.licence) for weights in backend.weights)
    if machine.gpu is not None and "gsplat" in machine.modules and not shutil.which("nvcc"):
        detail = "no nvcc on the path: gsplat builds its kernels at first use"
        yield Finding(
            GPU_GROUP, "gsplat compiler", "missing", False, detail, "install the CUDA toolkit of torch's version"
        )


def _stages_with(backend: str) -> list[str]:
    return [stage.name for stage in STAGES if backend in get_args(get_type_hints(stage.params).get("backend"))]


def _installed(python: str, machine: Machine) -> Installed:
    names = {"torch": "torch"} | {backend.module: backend.distribution for backend in BACKENDS.values()}
    present = machine.modules | machine.broken.keys()
    queried = {module: name for module, name in names.items() if module in present}
    if machine.gpu is None or "torch" in machine.broken:
        queried.pop("torch", None)  # its import takes seconds, for nothing
    if not queried:
        return Installed()
    command = [python, "-c", GPU_QUERY, json.dumps(queried)]
    environment = None if python == sys.executable else foreign_environment()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return Installed(torch={"problem": f"it took over {IMPORT_SECONDS:.0f} s"})
    if done.returncode:
        return Installed(torch={"problem": (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]})
    return Installed(**json.loads(done.stdout.splitlines()[-1]))


def _gpu(gpu: Gpu | None) -> Finding:
    if gpu is None:
        detail = "no NVIDIA GPU, or no driver for it; everything runs on the CPU too"
        return Finding(GPU_GROUP, "CUDA", "missing", False, detail, "apt-get install -y nvidia-driver")
    capability = ".".join(map(str, gpu.capability))
    detail = f"{gpu.name}, {gpu.memory / GIBI:.0f} GiB ({gpu.free / GIBI:.0f} free), compute capability {capability}"
    return Finding(GPU_GROUP, "CUDA", "ok", False, detail)


def _torch(installed: Installed, gpu: Gpu) -> Finding:
    torch, version = installed.torch, installed.versions.get("torch", "")
    if problem := torch.get("problem"):
        return Finding(
            GPU_GROUP, "torch", "missing", False, f"torch does not import: {problem}", wheel_for(gpu.capability)
        )
    built = f"torch {version} for " + (f"CUDA {torch['cuda']}" if torch["cuda"] else "CPUs")
    if not torch["sees"]:
        return Finding(GPU_GROUP, "torch", "missing", False, f"{built} sees no GPU", wheel_for(gpu.capability))
    if not runs_on(gpu.capability, torch["built_for"]):
        detail = f"{built} was built for {', '.join(torch['built_for'])}, not for {gpu.name}"
        return Finding(GPU_GROUP, "torch", "missing", False, detail, wheel_for(gpu.capability))
    return Finding(GPU_GROUP, "torch", "ok", False, f"{built}, runs on {gpu.name}")


def _backend(name: str, backend: Backend, machine: Machine, installed: Installed, lacks: str) -> Finding:
    is_installed = backend.module in machine.modules or backend.module in machine.broken
    has = f"{backend.distribution} {installed.versions.get(backend.module, '')}".strip()
    if is_installed and not lacks:
        return Finding(GPU_GROUP, name, "ok", False, has)
    if is_installed:
        remedy = "\n".join(backend.install) if backend.module in machine.broken else ""
        return Finding(GPU_GROUP, name, "missing", False, f"{has}, but {lacks}", remedy)
    why = f"{lacks}; " if machine.gpu is None else ""
    detail = f"{why}{backend.distribution} is not installed; from {backend.source}; in docker/{backend.dockerfile}"
    return Finding(GPU_GROUP, name, "missing", False, detail, "\n".join(backend.install))


def _weights(name: str, weights: Weights, licence: str) -> Finding:
    title = f"{name} weights {weights.repository.rpartition('/')[2]}"
    if (path := weights.path) is not None:
        return Finding(GPU_GROUP, title, "ok", False, str(path))
    return Finding(
        GPU_GROUP, title, "missing", False, f"not here; downloaded at first use ({licence})", weights.command
    )
