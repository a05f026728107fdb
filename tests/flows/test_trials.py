"""`splatyard doctor --try`: what is run, and what is said of what fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest

from flows import trials
from flows.cli import main
from pipeline.gpu_backends.catalog import BACKENDS
from pipeline.running.stages import STAGES
from sim.physics.catalog import ENGINES
from sim.physics.isaacgym.process import PYTHON


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv(PYTHON, raising=False)


def test_every_backend_has_a_trial() -> None:
    """Of every stage and every engine; those for GPUs say why they can't be tried."""
    found = trials.trials()
    for stage in STAGES:
        for backend in set(get_args(get_type_hints(stage.params).get("backend"))) - {"auto"}:
            name = f"network {backend}" if backend in trials.NETWORKS else f"{stage.name} {backend}"
            assert ("CUDA GPU" in found[name]) == (backend in BACKENDS)
    assert {f"physics {name}" for name in ENGINES} <= found.keys()
    assert PYTHON in found["physics isaacgym"] and "GPU" in found["physics sapien-gpu"]


def test_the_tiny_capture_is_true(tmp_path: Path) -> None:
    """Points of one image, moved by the poses, show the same colours in the next."""
    trials.write_capture(tmp_path / "tiny")
    images, depths, poses = [], [], []
    for view in (4, 6):
        base = tmp_path / "tiny" / f"frame-{view:06d}"
        images.append(cv2.imread(f"{base}.color.png").astype(float))
        depths.append(cv2.imread(f"{base}.depth.png", cv2.IMREAD_UNCHANGED) / 1000)
        poses.append(np.loadtxt(f"{base}.pose.txt"))
    camera = np.loadtxt(tmp_path / "tiny" / "camera-intrinsics.txt")
    rows, columns = np.mgrid[20 : trials.HEIGHT - 20 : 7, 20 : trials.WIDTH - 20 : 7]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)], -1) @ np.linalg.inv(camera).T
    points = (pixels * depths[0][rows, columns, None]) @ poses[0][:3, :3].T + poses[0][:3, 3]
    seen = (points - poses[1][:3, 3]) @ poses[1][:3, :3] @ camera.T
    at = seen[..., :2] / seen[..., 2:]
    inside = (at > 1).all(-1) & (at < [trials.WIDTH - 1, trials.HEIGHT - 1]).all(-1)
    there = cv2.remap(images[1].astype(np.float32), (at - 0.5).astype(np.float32), None, cv2.INTER_LINEAR)
    apart = np.abs(there - images[0][rows, columns])[inside]
    assert inside.mean() > 0.5 and np.median(apart) < 12
    assert np.median(np.abs(there[:, ::-1] - images[0][rows, columns])[inside]) > 30  # the check above can fail


def test_what_works_and_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it took; a failure in one line, a hang by its time limit, a killed process by its signal."""
    works = trials.run_trial("physics mujoco", tmp_path)
    assert works.state == "works" and works.seconds > 0 and works.memory > 20 * 2**20
    fails = trials.run_trial("physics isaacgym", tmp_path)
    assert fails.state == "fails" and PYTHON in fails.detail and "\n" not in fails.detail
    hangs = trials.run_trial("physics mujoco", tmp_path, limit=0.2)
    assert hangs.state == "fails" and hangs.detail == "took over 0 s"
    (tmp_path / "mujoco.py").write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.syspath_prepend(str(tmp_path))
    dies = trials.run_trial("physics mujoco", tmp_path)
    assert (dies.state, dies.detail) == ("fails", "signal 11")


@pytest.mark.slow
def test_doctor_tries_all_that_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    """On this machine everything for CPUs works."""
    code = main(["doctor", "--try", "--json"])
    tried = {result["name"]: result for result in json.loads(capsys.readouterr().out)["trials"]}
    assert {result["detail"] for result in tried.values() if result["state"] == "fails"} == set()
    assert code == 0
    works = {name for name, result in tried.items() if result["state"] == "works"}
    assert works >= {"poses colmap", "depth mvs", "mesh poisson", "splat cpu", "physics sapien", "whole build"}
