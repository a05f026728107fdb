"""What the doctor says of a GPU and the backends that need it, on machines that there are stand-ins for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.gpu_backends.catalog import BACKENDS
from pipeline.machine import this_machine
from pipeline.running.doctor import Finding, gpu_findings
from tests.gpu_backends.interpreters import bare_interpreter
from tests.paths import ROOT

FAKES = ROOT / "tests" / "fakes"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Empty caches, nothing remembered of the machine."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    this_machine.cache_clear()
    yield tmp_path
    this_machine.cache_clear()


@pytest.fixture
def driver(tmp_path, monkeypatch) -> Path:
    """A driver of an L4; /usr/bin and /bin alone come after it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034, 22000, 8.9'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory) -> str:
    """One with stand-ins for torch and nksr."""
    return str(bare_interpreter(tmp_path_factory.mktemp("doctor"), FAKES / "packages", FAKES / "gpu"))


def by_name(python: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in gpu_findings(python)}


def test_gpu_with_all_that_nksr_needs(driver, interpreter, monkeypatch, home):
    """Installed, fits, weights there; what is not installed has its commands, in order."""
    monkeypatch.setenv("FAKE_GPU", "8.9:22000000000")
    weights = home / "torch" / "hub" / "checkpoints" / "ks.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    found = by_name(interpreter)
    assert found["CUDA"].detail == "NVIDIA L4, 22 GiB (21 free), compute capability 8.9"
    assert found["torch"].state == "ok" and "for CUDA 12.8, runs on NVIDIA L4" in found["torch"].detail
    assert found["nksr (mesh)"].state == "ok"
    assert (found["nksr weights nksr-checkpoints"].state, found["nksr weights nksr-checkpoints"].detail) == (
        "ok",
        str(weights),
    )
    vggt = next(finding for name, finding in found.items() if name.startswith("vggt ("))
    assert vggt.state == "missing"
    assert vggt.remedy.splitlines() == list(BACKENDS["vggt"].install)
    assert "docker/learned.Dockerfile" in vggt.detail and "vggt@a288dd0" in vggt.detail
    assert found["vggt weights VGGT-1B"].remedy == "hf download facebook/VGGT-1B"


def test_torch_that_was_not_built_for_the_gpu(driver, interpreter, monkeypatch):
    """Spoils every backend, and says which wheel to take."""
    driver.write_text("#!/bin/sh\necho 'NVIDIA B200, 183359, 180000, 10.0'\n")
    monkeypatch.setenv("FAKE_GPU", "10.0:180000000000")
    found = by_name(interpreter)
    assert found["torch"].state == "missing"
    assert "not for NVIDIA B200" in found["torch"].detail
    assert "cu128" in found["torch"].remedy
    assert found["nksr (mesh)"].state == "missing"
    assert "not for NVIDIA B200" in found["nksr (mesh)"].detail


def test_torch_that_sees_no_gpu(driver, interpreter, monkeypatch):
    """Though there is a driver: a torch for CPUs."""
    monkeypatch.setenv("FAKE_GPU", "0")
    found = by_name(interpreter)
    assert "sees no GPU" in found["torch"].detail
    assert "sees no GPU" in found["nksr (mesh)"].detail


def test_torch_that_does_not_import(driver, tmp_path):
    """Is a finding, not the doctor's end."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')"
    )
    found = by_name(str(bare_interpreter(tmp_path / "python", tmp_path / "broken")))
    assert "libcudart.so.12" in found["torch"].detail
    assert found["torch"].remedy


def test_interpreter_that_is_not_there(driver, tmp_path):
    """Said once; the backends say it too."""
    found = by_name(str(tmp_path / "no" / "python"))
    assert "No such file" in found["interpreter"].detail
    assert "No such file" in found["nksr (mesh)"].detail or found["nksr (mesh)"].remedy


def test_without_gpu_torch_is_not_loaded(monkeypatch, interpreter):
    """Its import takes seconds, and there is nothing to ask."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = by_name(interpreter)
    assert "torch" not in found
    assert found["CUDA"].state == "missing"
    assert found["nksr (mesh)"].detail.endswith("but nksr needs a CUDA GPU")


def test_weights_in_the_cache_of_hugging_face(monkeypatch, home):
    """Those that the package would find; each set by itself."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    snapshot = home / "hf" / "models--facebook--VGGT-1B-Commercial" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    found = by_name("")
    assert found["vggt weights VGGT-1B-Commercial"].state == "ok"
    assert found["vggt weights VGGT-1B-Commercial"].detail == str(snapshot / "model.safetensors")
    assert found["vggt weights VGGT-1B"].state == "missing"
