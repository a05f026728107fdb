"""The tutorials, run as a reader does: their blocks one after the other, in a folder that has the sample scan."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import made_once
from tests.paths import ROOT
from tests.prefect_home import prefect_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

PAGES = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")


def script(page: str) -> str:
    """A shell script of a page's blocks; of Python's, those that name their file are written."""
    lines = ["set -e"]
    for language, content in BLOCK.findall((PAGES / f"{page}.md").read_text()):
        named = FILE.match(content)
        if language == "sh":
            lines.append(content)
        elif named:
            lines.append(f"cat > {named[1]} <<'PYTHON'\n{content}PYTHON\n")
    return "\n".join(lines)


def follow(page: str, folder: Path) -> str:
    """Do what a tutorial says, in a folder; returns what was printed."""
    programs = folder / ".bin"
    programs.mkdir()
    for name, words in (("python", ""), ("splatyard", '-c "import sys; from flows.cli import main; sys.exit(main())"')):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (programs / name).chmod(0o755)
    shutil.copytree(ROOT / "scene_cards" / "samples" / "hall", folder / "scan")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SPLATYARD", "PREFECT"))}
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": prefect_home(folder / ".prefect"),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who followed the first tutorial; what was printed is in `said`."""

    def make(folder: Path) -> Path:
        (folder / "said").write_text(follow("phone-to-policy", folder))
        return folder

    return made_once(tmp_path_factory, "phone", make)


def test_phone_scan_to_policy(phone: Path):
    """A bundle, a robot that drove in it, a run, a film and a network for a robot."""
    said = (phone / "said").read_text()
    assert "68 images of a polycam capture" in said and "marked as failed" in said
    assert (phone / "bundles/hall/1.0.0/bundle.json").is_file()
    assert (phone / "runs/first/evaluation.json").is_file()
    assert (phone / "first.mp4").stat().st_size > 1000
    assert (phone / "first.onnx").stat().st_size > 1000


def test_lab_ingest(phone: Path, tmp_path: Path):
    """The good scan is a bundle, the broken one has a reason; stages of the same recipe aren't computed again here."""
    shutil.copytree(phone / "bundles/.work", tmp_path / "bundles/.work")
    said = follow("lab-ingest", tmp_path)
    assert "all bundles exist" not in said
    assert [path.parent.name for path in tmp_path.glob("bundles/*/1.0.0")] == ["hall"]
    assert re.search(r"broken.*failed", said)


def test_into_simulators(tmp_path: Path):
    """What MuJoCo, Isaac Sim, Blender and web viewers open is there, and MuJoCo's floor carries a ball."""
    said = follow("simulators", tmp_path)
    assert "the ball rests 0.1 m above the floor" in said
    for file in ("room_mjcf/scene.xml", "room_usd/scene.usdc", "room_glb/scene.glb", "room_spz/scene.spz"):
        assert (tmp_path / file).stat().st_size > 1000


def test_a_policy_of_lerobots(tmp_path: Path):
    """The expert does it, its episodes are a dataset, and a hand that keeps still does not succeed."""
    said = follow("lerobot", tmp_path)
    assert "2 of them successful" in said
    assert {path.name for path in (tmp_path / "demos").iterdir()} == {"data", "meta", "videos"}
    assert re.search(r"put_cube_on_plate.* 0\.0 %|│ +0\.0 % \[", said)


def test_publish_and_gallery(tmp_path: Path):
    """Published, pulled, withdrawn, and on a page."""
    said = follow("publish", tmp_path)
    assert "published  room-000000@1.0.0" in said and "is intact" in said
    assert (tmp_path / "elsewhere/room-000000/1.0.0/bundle.json").is_file()
    assert (tmp_path / "scenes.lock").is_file()
    assert "room-000000" in (tmp_path / "site/index.html").read_text()
