"""What the doctor says of the GPU and the backends that need it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

from pipeline.findings import Finding
from pipeline.learned.backends import BACKENDS, GIBI, Backend, Weights, lacking
from pipeline.learned.device import runs_on, wheel_for
from pipeline.machine import Gpu, Machine, foreign_environment, this_machine

GROUP = "GPU backends"
ANSWER_SECONDS = 180.0
"""Torch takes its time where it is loaded for the first time."""
LOOK = """
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


@dataclass(frozen=True)
class Installed:
    """What an interpreter has.

    Attributes:
        versions: Of the modules that are there.
        torch: What torch says: `cuda` and `built_for`, whether it `sees` the GPU, or its `problem`; empty if not asked.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    torch: Mapping[str, Any] = field(default_factory=dict)


def gpu_findings(python: str = "") -> Iterator[Finding]:
    """The GPU, torch, and each backend with its weights; nothing of it is needed.

    Args:
        python: The interpreter that has their packages; "" is this one.
    """
    machine = this_machine(python)
    installed = _installed(python or sys.executable, machine)
    yield _gpu(machine.gpu)
    if machine.problem:
        yield Finding(GROUP, "interpreter", "missing", False, machine.problem, "give another --python")
    unfit = ""
    if problem := machine.broken.get("torch"):
        yield Finding(GROUP, "torch", "missing", False, f"torch does not import: {problem}", wheel_for(None))
    elif machine.gpu is not None and "torch" in machine.modules:
        found = _torch(installed, machine.gpu)
        unfit = found.detail if found.state == "missing" else ""
        yield found
    for name, backend in BACKENDS.items():
        lacks = lacking(name, machine) or unfit
        yield _backend(f"{name} ({', '.join(_stages_with(name))})", backend, machine, installed, lacks)
        yield from (_weights(name, weights, backend.licence) for weights in backend.weights)
    if machine.gpu is not None and "gsplat" in machine.modules and not shutil.which("nvcc"):
        detail = "no nvcc on the path: gsplat builds its kernels at first use"
        yield Finding(GROUP, "gsplat compiler", "missing", False, detail, "install the CUDA toolkit of torch's version")


def _stages_with(backend: str) -> list[str]:
    from pipeline.stages import STAGES

    return [stage.name for stage in STAGES if backend in get_args(get_type_hints(stage.params).get("backend"))]


def _installed(python: str, machine: Machine) -> Installed:
    names = {"torch": "torch"} | {backend.module: backend.distribution for backend in BACKENDS.values()}
    there = machine.modules | machine.broken.keys()
    wanted = {module: name for module, name in names.items() if module in there}
    if machine.gpu is None or "torch" in machine.broken:
        wanted.pop("torch", None)  # its import takes seconds, and there is nothing to ask it
    if not wanted:
        return Installed()
    command = [python, "-c", LOOK, json.dumps(wanted)]
    environment = None if python == sys.executable else foreign_environment()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return Installed(torch={"problem": f"it took over {ANSWER_SECONDS:.0f} s"})
    if done.returncode:
        return Installed(torch={"problem": (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]})
    return Installed(**json.loads(done.stdout.splitlines()[-1]))


def _gpu(gpu: Gpu | None) -> Finding:
    if gpu is None:
        detail = "no NVIDIA GPU, or no driver for it; everything runs on the CPU, too"
        return Finding(GROUP, "CUDA", "missing", False, detail, "apt-get install -y nvidia-driver")
    capability = ".".join(map(str, gpu.capability))
    detail = f"{gpu.name}, {gpu.memory / GIBI:.0f} GiB ({gpu.free / GIBI:.0f} free), compute capability {capability}"
    return Finding(GROUP, "CUDA", "ok", False, detail)


def _torch(installed: Installed, gpu: Gpu) -> Finding:
    torch, version = installed.torch, installed.versions.get("torch", "")
    if problem := torch.get("problem"):
        return Finding(GROUP, "torch", "missing", False, f"torch does not import: {problem}", wheel_for(gpu.capability))
    built = f"torch {version} for " + (f"CUDA {torch['cuda']}" if torch["cuda"] else "CPUs")
    if not torch["sees"]:
        return Finding(GROUP, "torch", "missing", False, f"{built} sees no GPU", wheel_for(gpu.capability))
    if not runs_on(gpu.capability, torch["built_for"]):
        detail = f"{built} was built for {', '.join(torch['built_for'])}, not for {gpu.name}"
        return Finding(GROUP, "torch", "missing", False, detail, wheel_for(gpu.capability))
    return Finding(GROUP, "torch", "ok", False, f"{built}, runs on {gpu.name}")


def _backend(name: str, backend: Backend, machine: Machine, installed: Installed, lacks: str) -> Finding:
    is_there = backend.module in machine.modules or backend.module in machine.broken
    has = f"{backend.distribution} {installed.versions.get(backend.module, '')}".strip()
    if is_there and not lacks:
        return Finding(GROUP, name, "ok", False, has)
    if is_there:
        remedy = "\n".join(backend.install) if backend.module in machine.broken else ""
        return Finding(GROUP, name, "missing", False, f"{has}, but {lacks}", remedy)
    why = f"{lacks}; " if machine.gpu is None else ""
    detail = f"{why}{backend.distribution} is not installed; from {backend.source}; in docker/{backend.image}"
    return Finding(GROUP, name, "missing", False, detail, "\n".join(backend.install))


def _weights(name: str, weights: Weights, licence: str) -> Finding:
    title = f"{name} weights {weights.repository.rpartition('/')[2]}"
    if (place := weights.place) is not None:
        return Finding(GROUP, title, "ok", False, str(place))
    return Finding(GROUP, title, "missing", False, f"not here; fetched at first use ({licence})", weights.command)
