"""The machine's GPU and packages: true of this one, and of machines that there are stand-ins for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from flows.server import command
from pipeline import machine as module
from pipeline.errors import MachineError, SimError, SplatyardError, memory_errors
from pipeline.gpu_backends.catalog import BACKENDS, GIBI
from pipeline.machine import PACKAGES, Gpu, Machine, PeakMemory, memory_of, parse_gpu, this_machine
from pipeline.running.doctor import import_problem

EATER = "import sys; eaten = b'x' * 200 * 2**20; print(flush=True); sys.stdin.read()"
GPU = Gpu("NVIDIA GeForce RTX 4090", 24 * GIBI, 23 * GIBI, (8, 9))
DRIVER = """#!/bin/sh
case "$*" in *--id=1*) echo 'NVIDIA L4, 23034, 22000, 8.9';; *) echo 'NVIDIA H200, comma, 143771, 143000, 9.0';; esac
"""


@pytest.fixture(autouse=True)
def fresh():
    """Forget what was found before, and what is found here."""
    this_machine.cache_clear()
    yield
    this_machine.cache_clear()


@pytest.fixture
def driver(tmp_path, monkeypatch) -> Path:
    """A driver's program that comes first on the path."""
    program = tmp_path / "nvidia-smi"
    program.write_text(DRIVER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def test_a_driver_names_its_first_gpu(driver):
    """With its memory in bytes and its capability as numbers."""
    gpu = this_machine().gpu
    assert gpu == Gpu("NVIDIA H200, comma", 143771 * 2**20, 143000 * 2**20, (9, 0))


@pytest.mark.parametrize(("visible", "name"), [("1", "NVIDIA L4"), ("1,0", "NVIDIA L4"), ("", None), ("-1", None)])
def test_the_gpu_is_one_that_may_be_used(driver, monkeypatch, visible, name):
    """CUDA_VISIBLE_DEVICES counts, as for CUDA itself; empty is a machine without GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpu = this_machine().gpu
    assert (gpu and gpu.name) == name


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "echo 'A, [N/A], 3, 8.0'", ""])
def test_a_driver_in_trouble_is_no_gpu(driver, script):
    """One that fails, finds none, or says what nobody can use."""
    driver.write_text(f"#!/bin/sh\n{script}\n")
    assert this_machine().gpu is None


def test_no_driver_no_gpu(monkeypatch, tmp_path):
    """Nothing is started."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started something"))
    assert this_machine().gpu is None


def test_looked_at_once(driver, tmp_path):
    """Ten thousand cards are planned with one look."""
    driver.write_text(DRIVER + f"echo again >> {tmp_path}/looks\n")
    for _ in range(5):
        this_machine()
    assert (tmp_path / "looks").read_text() == "again\n"


def test_packages_are_found_without_importing_them(monkeypatch):
    """Also one that says nothing of where it came from."""
    code = (
        "import sys; from pipeline.machine import this_machine as m; m(); "
        "print(sorted(set(sys.modules) & {'torch', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    strange = ModuleType("nksr")
    strange.__spec__ = None
    monkeypatch.setitem(sys.modules, "nksr", strange)
    assert "nksr" in this_machine().modules


def test_another_interpreter_is_asked(tmp_path):
    """It has its own packages; ours don't count."""
    (tmp_path / "vggt.py").touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    assert this_machine(str(python)).modules == {"vggt"}


@pytest.mark.parametrize(
    ("text", "said"), [(None, "No such file"), ("#!/bin/sh\necho bad magic >&2; exit 1\n", "bad magic"), ("", "")]
)
def test_an_interpreter_that_does_not_run_is_a_problem(tmp_path, text, said):
    """No error: plans are made where nothing will be built, too."""
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text)
        python.chmod(0o755)
    machine = this_machine(str(python))
    assert said in machine.problem
    assert str(python) in machine.problem
    assert Machine(GPU, machine.modules, machine.problem).lacks("nksr") == machine.problem


def test_what_does_not_import_is_not_there(driver, tmp_path, monkeypatch):
    """Installed, but it raises or ends the process: no build begins with it, and the others still count."""
    code = {"torch": "", "nksr": "raise ImportError('Open3D not installed')", "gsplat": "import os; os._exit(3)"}
    for name, text in code.items():
        (tmp_path / f"{name}.py").write_text(text)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    machine = this_machine(str(python))
    assert machine.modules == {"torch"}
    assert machine.lacks("nksr") == "nksr is installed but does not import: ImportError: Open3D not installed"
    assert machine.broken["gsplat"] == "its import ended the process with code 3"
    this_machine.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_machine(str(python)).modules == set(code)  # nothing is imported where nothing can run


@pytest.mark.parametrize("name", BACKENDS)
def test_what_a_backend_lacks(name):
    """A GPU, packages, memory: in this order, and nothing where all is there."""
    needed = frozenset({"torch", BACKENDS[name].module})
    assert "needs a CUDA GPU" in (Machine(None, needed).lacks(name) or "")
    assert Machine(GPU).lacks(name) == f"torch and {BACKENDS[name].module} are not installed"
    assert Machine(GPU, frozenset({"torch"})).lacks(name) == f"{BACKENDS[name].module} is not installed"
    small = Gpu("NVIDIA GeForce GT 1030", 2 * GIBI, 2 * GIBI, (6, 1))
    assert "NVIDIA GeForce GT 1030 has 2.0" in (Machine(small, needed).lacks(name) or "")
    assert Machine(GPU, needed).lacks(name) is None


def test_every_backend_is_looked_for():
    """Whatever a backend imports is one of the packages that are looked for."""
    assert {backend.module for backend in BACKENDS.values()} <= set(PACKAGES)


def test_nonsense_is_no_gpu():
    """Of an answer that was cut off."""
    assert parse_gpu("NVIDIA H200, 143771, 14") is None
    assert parse_gpu("") is None


def test_memory_of_a_family():
    """A child's memory counts; a process that is gone has none."""
    before = memory_of(psutil.Process())
    with subprocess.Popen([sys.executable, "-c", EATER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        eater = psutil.Process(child.pid)
        assert memory_of(eater) > 200 * 2**20
        assert memory_of(psutil.Process()) > before + 150 * 2**20
        child.kill()
    assert memory_of(eater) == 0


def test_the_peak_is_kept(monkeypatch):
    """What was resident for a while and is given back counts; what comes afterwards doesn't."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    before = memory_of(psutil.Process())
    with PeakMemory() as memory:
        eaten = bytearray(b"x" * (200 * 2**20))
        while memory.bytes < before + 150 * 2**20:  # until it was looked at
            pass
        del eaten
    assert memory.bytes > before + 150 * 2**20


@pytest.mark.parametrize("module", ["json", "cv2", "importlib"])
def test_nothing_is_imported_from_the_working_folder(tmp_path, monkeypatch, module):
    """It may be a capture of others, and what lies there has the name of a module that our processes import."""
    (tmp_path / f"{module}.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    assert this_machine(str(Path(sys.executable))).problem == ""
    assert import_problem(module) is None
    subprocess.run([*command(0)[:2], "flows.trials", "--help"], check=True, capture_output=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
        ImportError("libtorch.so: failed to map segment from shared object"),
    ],
    ids=repr,
)
def test_out_of_memory_is_no_bug(error):
    """Whoever says it, and in whatever words; what to do is told."""
    with pytest.raises(MachineError, match="there must be enough memory"), memory_errors():
        raise error


def test_out_of_memory_behind_another_error_is_no_bug_either():
    """Where numba's library finds no room, llvmlite says that it isn't there."""
    error = OSError("Could not find/load shared object file 'libllvmlite.so'")
    error.__cause__ = OSError("libllvmlite.so: failed to map segment from shared object")
    with pytest.raises(MachineError, match="there must be enough memory"), memory_errors():
        raise error


@pytest.mark.parametrize(
    ("cause", "is_memory"),
    [
        (ImportError("libsapien.so: failed to map segment from shared object"), True),
        (MemoryError(), True),
        (ImportError("No module named 'sapien'"), False),
        (RuntimeError("can't allocate memory: you tried to allocate 10**15 bytes"), False),  # a checkpoint says so
    ],
)
def test_what_finds_no_room_is_neither_missing_nor_damaged(cause: Exception, is_memory: bool):
    """Where an error of ours was made of it."""
    with pytest.raises(SplatyardError) as caught, memory_errors():
        raise SimError("this simulation needs sapien", found=str(cause), remedy="pip install") from cause
    assert isinstance(caught.value, MachineError) == is_memory


def test_other_errors_are_what_they_are():
    """Ours too, whatever they quote."""
    for error in (RuntimeError("a bug"), SimError("a process lives", found="Cannot allocate memory", remedy="wait")):
        with pytest.raises(type(error)) as caught, memory_errors():
            raise error
        assert caught.value is error
