"""No process imports from the working folder, which may be a capture of others."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.parallel import NOT_FROM_HERE, ray_job
from tests.paths import ROOT

PACKAGES = ("pipeline", "sim", "train", "flows")
INTERPRETERS = {"sys.executable", "python", "self._python", "interpreter()"}
GUARDS = ("import sys; sys.path[:] = ", NOT_FROM_HERE.partition("[:]")[0])
TRAP = "import pathlib; pathlib.Path({mark!r}).touch(); raise ImportError('a module of the working folder')"
SPAWN = """
import multiprocessing, sys
from contextlib import nullcontext
from pipeline.parallel import nothing_from_here
def work():
    import json
if __name__ == "__main__":
    with nothing_from_here() if sys.argv[1] == "guarded" else nullcontext():
        process = multiprocessing.get_context("spawn").Process(target=work)
        process.start()
    process.join()
    sys.exit(process.exitcode)
"""
RAY = """
import sys
from pathlib import Path
from sim.scene.scene import SimScene
from train.actors.chunk import Form
from train.actors.cluster import connected
from train.preset import load_preset

def look():
    import importlib, sys
    for name in ("numpy", "torch", "pipeline", "train", "wandb", "colorsys"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            pass
    return sys.path

if __name__ == "__main__":
    sys.path.append(sys.argv[1])
    preset = load_preset("navigate", {"algorithm": "sac", "policy.rnn_type": "none"})
    with connected(sys.argv[2], 1, Form({}, 1, frozenset(), frozenset(), frozenset()), preset) as ray:
        found = ray.get(ray.remote(num_cpus=1)(look).remote())
    assert str(Path.cwd()) not in found, found
    print("looked")
"""


def trapped(folder: Path) -> Path:
    """A folder full of modules that leave a mark when they are imported; returns the mark's path."""
    mark = folder.parent / "imported"
    folder.mkdir()
    for name in ("multiprocessing", "ray", "numpy", "torch", "pipeline", "train", "sim", "json", "pickle", "colorsys"):
        (folder / f"{name}.py").write_text(TRAP.format(mark=str(mark)))
    return mark


def python(folder: Path, program: str, *arguments: str, timeout: int) -> subprocess.CompletedProcess[str]:
    """Run a program from a file elsewhere, as a console script, in a folder."""
    script = folder.parent / "script" / "program.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_spawned_processes_import_nothing_from_here(tmp_path: Path):
    """`multiprocessing` of the folder would run, if it were not for the guard."""
    mark = trapped(tmp_path / "capture")
    done = python(tmp_path / "capture", SPAWN, "guarded", timeout=120)
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert python(tmp_path / "capture", SPAWN, "bare", timeout=120).returncode
    assert mark.exists(), "the test would see it"


def test_ray_leaves_the_folder_away_for_jobs_like_ours():
    """Its own code asks for the mark that `ray_job` sets, which is private; another version may ask for another."""
    worker = pytest.importorskip("ray", reason="needs pip install 'splatyard[lab]'")._private.worker
    assert ray_job()._client_job
    adds = inspect.getsource(worker.connect).partition("os.path.abspath(os.path.curdir)")[0].splitlines()
    assert adds[-2].strip().startswith("if not job_config._client_job and"), adds[-2:]


@pytest.mark.slow
def test_rays_workers_import_nothing_from_here(tmp_path: Path):
    """Neither those that are started here, nor the process that looks whether a cluster answers."""
    pytest.importorskip("ray", reason="needs pip install 'splatyard[lab]'")
    mark = trapped(tmp_path / "capture")
    done = python(tmp_path / "capture", RAY, "unused", "", timeout=400)
    assert done.stdout == "looked\n", done.stderr[-3000:]
    assert not mark.exists()


@pytest.mark.slow
def test_nobody_answers_without_importing_from_here(tmp_path: Path):
    """Where `--ray-address` leads to nobody, the process that asks has imported Ray's own."""
    pytest.importorskip("ray", reason="needs pip install 'splatyard[lab]'")
    mark = trapped(tmp_path / "capture")
    code = "from pipeline import errors, parallel; parallel.CONNECT_SECONDS = 15; "
    code += "parallel.check_ray('{}', errors.TrainError)"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = python(tmp_path / "capture", code.format(f"127.0.0.1:{silent.getsockname()[1]}"), timeout=400)
    assert "no answer in 15 s" in done.stderr, done.stderr
    assert not mark.exists()


def starts() -> list[tuple[str, ast.List, str]]:
    """Every command of an interpreter in the source: its place, its parts, and its module."""
    found = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found += [
                (f"{file.relative_to(ROOT)}:{node.lineno}", node, module)
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) in INTERPRETERS
            ]
    return found


def test_every_interpreter_is_started_with_the_guard():
    """By -P, by code that takes the folder off the path, or as a script, whose own folder that is."""
    found = starts()
    assert len(found) >= 11
    for place, node, module in found:
        first = node.elts[1]
        if not isinstance(first, ast.Constant):
            assert ast.unparse(node) == "[interpreter(), script, str(folder)]", place  # Isaac Gym's, in its own folder
        elif first.value == "-c":
            code = node.elts[2]
            text = getattr(importlib.import_module(module), code.id) if isinstance(code, ast.Name) else None
            guarded = (
                text.startswith(GUARDS) if text else ast.unparse(code).startswith(("NOT_FROM_HERE", "f'{NOT_FROM"))
            )
            assert guarded, f"{place}: {ast.unparse(code)}"
        else:
            assert str(first.value).startswith("-P"), place


def test_whoever_lets_libraries_start_interpreters_is_guarded():
    """In the same function: multiprocessing, torch's launcher, Ray."""
    seen = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.FunctionDef):
                    continue
                called = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
                if called & {"multiprocessing.get_context", "elastic_launch", "ray.init", "module.RayTaskRunner"}:
                    seen.append(node.name)
                    assert called & {"nothing_from_here", "ray_job"}, f"{file.relative_to(ROOT)}: {node.name}"
    assert len(seen) == 6, seen
