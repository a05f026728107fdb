"""A whole bundle of the small room with exact truth, made by the bundle stage itself."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.align.alignment import Alignment
from pipeline.bundle.params import BundleParams
from pipeline.bundle.stage import run
from pipeline.capture.model import Capture, Selection, Skipped
from pipeline.check.quality import Gate, Quality
from pipeline.coverage.map import CoverageMap
from pipeline.geometry import Gaussians, Mesh, Similarity
from pipeline.geometry.rotation import quaternion_from_matrix
from pipeline.geometry.spherical_harmonics import SH_C0
from pipeline.regions.regions import Regions, RobotPose
from pipeline.splat.ply import save_splat
from pipeline.splat.sog import save_sog
from tests.prefect_home import prefect_home
from tests.synthetic import SIZE, Room, posed_scene, walk

GATES = (
    Gate(name="psnr", title="Held-out PSNR", value=31.5, unit="dB", threshold=25.0, comparison=">=", how="4 photos"),
    Gate(
        name="holes", title="Floor holes", value=0.0, unit="m²", threshold=0.1, comparison="<=", how="seen from above"
    ),
    Gate(
        name="depth",
        title="Depth against sensor",
        value=None,
        unit="m",
        threshold=0.02,
        comparison="<=",
        applies=False,
        how="the capture has no depth",
    ),
)
FAILED_GATE = Gate(
    name="scale", title="Scale sigma", value=None, unit="%", threshold=3.0, comparison="<=", how="the scale is assumed"
)


def surface_gaussians(room: Room, count: int) -> Gaussians:
    """Flat Gaussians (count) on the room's surfaces, in its colours."""
    rng = np.random.default_rng(4)
    area, normals = room.mesh.face_areas(), room.mesh.face_normals()
    chosen = rng.choice(len(area), count, p=area / area.sum())
    means = np.einsum("nk,nkc->nc", rng.dirichlet(np.ones(3), count), room.mesh.corners()[chosen])
    # any rotation whose third column is the normal: flat along it
    helper = np.where(np.abs(normals[chosen, :1]) < 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
    first = np.cross(normals[chosen], helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    rotations = np.stack([first, np.cross(normals[chosen], first), normals[chosen]], -1)
    colors = room._cell_colors[room._cells.query(means)[1]] / 255
    return Gaussians(
        means.astype(np.float32),
        np.tile(np.log([0.028, 0.028, 0.003]), (count, 1)).astype(np.float32),
        quaternion_from_matrix(rotations).astype(np.float32),
        np.full(count, 3.0, np.float32),
        ((colors - 0.5) / SH_C0)[:, None].astype(np.float32),
    )


def floor_regions() -> Regions:
    """A floor of 40 x 20 cells, walkable but for an edge, guessed in one corner; two spawn poses."""
    walkable = np.zeros((40, 20), bool)
    walkable[2:38, 2:18] = True
    guessed = np.zeros((40, 20), bool)
    guessed[30:, 10:] = True
    spawn = (RobotPose((1.0, 0.5, 0.0), 0.0, 0.9), RobotPose((2.0, 1.0, 0.0), np.pi / 2, 0.8))
    goals = (RobotPose((3.0, 1.0, 0.0), 0.0, 0.7),)
    height = np.zeros((40, 20), np.float32)
    return Regions((0.2, 0.3), 0.08, height, walkable, walkable, guessed, 0.0, spawn, goals)


def make_bundle(folder: Path, room: Room, gates: tuple[Gate, ...]) -> Path:
    """Stage folders with exact truth, and the bundle that the bundle stage makes of them."""
    names = ("capture", "select", "poses", "align", "points", "mesh", "splat", "coverage", "regions", "check")
    inputs = {name: folder / name for name in names}
    for path in inputs.values():
        path.mkdir(parents=True)
    skipped = (Skipped("IMG_0007.jpg", "image file is truncated (12 bytes not processed)"),)
    Capture(inputs["capture"], "photos", (), ordered=False, skipped=skipped).save()
    Selection(()).save(inputs["select"])
    posed_scene(inputs["poses"], room, walk(9)).save(inputs["poses"])
    identity = Similarity(1.0, np.eye(3), np.zeros(3))
    Alignment(identity, ("arkit",), 0.2, "sensor", 0.01, floor_found=True, report={}).save(inputs["align"])
    guessed = room.mesh.vertices[:, 2] > SIZE[2] - 0.01
    Mesh(room.mesh.vertices, room.mesh.triangles, room.mesh.colors, guessed).save(inputs["mesh"] / "mesh.ply")
    room.mesh.save(inputs["mesh"] / "collision.ply")
    splat = surface_gaussians(room, 20_000)
    save_splat(splat, inputs["splat"] / "splat.ply")
    save_splat(splat[:2000], inputs["splat"] / "sim.ply")
    save_sog(splat, inputs["splat"] / "web.sog")
    nowhere = np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32)
    CoverageMap(*nowhere, 0.25, 0.3, 1.4).save(inputs["coverage"])
    floor_regions().save(inputs["regions"])
    Quality(gates=gates, metrics={"floor": {"rms_m": 0.00123456, "normal": [0.0, 0.1, 1.0]}, "views": 2}).save(
        inputs["check"]
    )
    (inputs["check"] / "images").mkdir()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(inputs["check"] / "images" / "0000.jpg")
    sizes = {"gaussians": 20_000, "sh_degree": 0, "sim": {"gaussians": 2000}}
    training = sizes | {"antialiasing": "classic"}
    (inputs["splat"] / "training.json").write_text(json.dumps(training))
    (inputs["points"] / "points.ply").touch()
    for stage, name in (("points", "points.json"), ("mesh", "mesh.json")):
        (inputs[stage] / name).write_text("{}")
    bundle = folder / "bundles" / "room" / "1.0.0"
    bundle.mkdir(parents=True)
    about = BundleParams(
        name="room",
        version="1.0.0",
        build_key="k" * 20,
        source="made by the tests",
        licence="CC0-1.0",
        description="a small furnished room",
    )
    run(inputs, about, bundle)
    return bundle


@pytest.fixture(scope="session")
def room_bundle(tmp_path_factory, room) -> Path:
    """A bundle in which no gate fails; don't change it."""
    return make_bundle(tmp_path_factory.mktemp("good"), room, GATES)


@pytest.fixture(scope="session")
def failed_bundle(tmp_path_factory, room) -> Path:
    """A bundle whose scale gate fails; don't change it."""
    return make_bundle(tmp_path_factory.mktemp("failed"), room, (*GATES, FAILED_GATE))


@pytest.fixture
def own_bundle(room_bundle, tmp_path) -> Path:
    """A copy of the good bundle, to be damaged."""
    return Path(shutil.copytree(room_bundle, tmp_path / "room" / "1.0.0"))


def with_own_prefect(home: Path) -> dict[str, str]:
    """The environment of a process with a Prefect of its own: an earlier test may have begun a server here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": prefect_home(home)}
