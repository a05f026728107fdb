"""The demo: a bundle that comes along, and runs that were recorded in it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from flows.demo.page import BUNDLE, GO2, HERE, ROVER, DemoPage, demo_bundle, find_player, recording
from flows.demo.recording import Recording, images_in
from flows.view import address_of
from flows.watching.shapes import surface_of
from pipeline.errors import BundleError, MachineError
from sim.robots.catalog import load
from sim.robots.model import Robot
from sim.tasks.catalog import find_task
from tests.paths import ROOT
from tests.publish.variants import variant


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with the demo's."""
    folder = tmp_path_factory.mktemp("demo")
    demo_bundle(folder)
    return folder


def test_the_bundle_is_whole_and_its_gates_hold(out: Path):
    """Copied once, like every other bundle; it is a few megabytes large."""
    bundle = demo_bundle(out)
    assert bundle.verify() == []
    assert bundle.manifest.quality_passed
    assert [file.name for file in (out / "demo").iterdir()] == [bundle.manifest.version]
    assert (HERE / BUNDLE).stat().st_size < 12e6


def test_a_place_of_the_user_is_not_shown_with_runs_of_another(room_bundle: Path, tmp_path: Path, capsys):
    """The demo says so, and works once that bundle has another name."""
    variant(room_bundle, tmp_path, "1.0.0", name="demo")
    with pytest.raises(BundleError, match="another place"):
        demo_bundle(tmp_path)
    assert main(["bundle", "rename", "demo@1.0.0", "mine", "--out", str(tmp_path)]) == 0
    assert demo_bundle(tmp_path).manifest.provenance.build_key == recording(ROVER).build_key


@pytest.mark.parametrize("name", [GO2, ROVER])
def test_runs_are_of_the_bundle_and_the_robot(name: str, out: Path):
    """A minute of each robot on the bundle's floor, with what it saw."""
    bundle, run = demo_bundle(out), recording(name)
    assert run.build_key == bundle.manifest.provenance.build_key
    robot = load(name)
    assert run.links.shape[1:] == (len(robot.links), 7)
    assert run.seconds == pytest.approx(60, abs=1)
    assert (np.abs(run.links[:, 0, 2]) < 1).all()
    assert np.linalg.norm(np.diff(run.links[:, 0, :2], axis=0), axis=1).sum() > 5
    images = [*images_in(HERE / f"{name}.mp4")]
    assert len(images) == pytest.approx(run.seconds / find_task("find").control_period, abs=2)
    assert images[0].std() > 10


def test_between_two_moments_links_move_evenly():
    """But not from one episode to the next."""
    links = np.zeros((3, 1, 7), np.float32)
    links[:, 0, 0] = [0, 1, 5]
    links[:, 0, 3:] = [[1, 0, 0, 0], [-1, 0, 0, 0], [1, 0, 0, 0]]
    none, balls, found = np.zeros(3, np.float32), np.zeros((3, 1, 7), np.float32), np.zeros(3, int)
    surface = np.zeros((0, 3, 3), np.float32), np.zeros(0, int)
    run = Recording("key", 2.0, links, balls, found, np.array([0, 0, 1]), *surface, none, none)
    np.testing.assert_allclose(run.links_at(0.25)[0], [0.5, 0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(run.links_at(0.75)[0], [1, 0, 0, -1, 0, 0, 0])


def without_models(_name: str) -> Robot:
    """No model can be read."""
    raise MachineError("this simulation needs mujoco", found="none", remedy="install it")


def test_without_the_extras_the_rover_is_shown(monkeypatch: pytest.MonkeyPatch):
    """Its shape comes along; nothing reads a model."""
    monkeypatch.setattr("flows.demo.page.load", without_models)
    robot, run = find_player()
    assert robot == ROVER
    surface, links = surface_of(load(ROVER))
    np.testing.assert_allclose(run.surface, surface, atol=1e-6)
    assert run.surface_link.tolist() == links.tolist()


@pytest.mark.parametrize("name", [GO2, ROVER])
def test_the_page_shows_the_run(name: str, out: Path, monkeypatch: pytest.MonkeyPatch):
    """Links and ball move, and the page is served."""
    if name == ROVER:
        monkeypatch.setattr("flows.demo.page.load", without_models)
    robot, run = find_player()
    assert robot == name
    with closing(DemoPage(demo_bundle(out), robot, run, 8765)) as page:
        with urllib.request.urlopen(address_of(page.server)) as answer:
            assert answer.status == 200
        page.show(0.0)
        before = np.array(page._links[0].position)
        page.show(10.0)
        assert np.linalg.norm(page._links[0].position - before) > 0.3
        assert len(page._balls) == len(run.balls[0])


def test_next_to_nothing_is_compiled(out: Path, tmp_path: Path):
    """Neither kernels nor physics are needed to show the run."""
    code = (
        "import sys; from flows.demo.page import DemoPage, demo_bundle, find_player; from pathlib import Path; "
        f"page = DemoPage(demo_bundle(Path({str(out)!r})), *find_player(), 8771); page.show(3.0); page.close(); "
        "print(*sys.modules)"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    assert not {"sapien", "torch", "prefect"} & set(done.stdout.split())
    compiled = {file.name.partition("-")[0] for file in (tmp_path / "kernels").rglob("*.nbi")}
    assert compiled <= {"kinematics._poses"}  # one small kernel, where the model of a robot is read
