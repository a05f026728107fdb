"""The stage from folders to folder."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.depth.maps import save_depth_map, write_index
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, PointCloud, Similarity, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster
from pipeline.io.results import resume_folder
from pipeline.place import ROOM
from pipeline.points.completion import Completion
from pipeline.points.levels import Levels
from pipeline.points.mirrors import Mirrors
from pipeline.splat import stage
from pipeline.splat.params import SplatParams
from pipeline.splat.ply import load_splat
from pipeline.splat.stage import run
from tests.synthetic import CAMERA, depth_maps, posed_scene, walk

WORLD_FROM_SCENE = Similarity(1.5, matrix_from_rotvec([0.1, 0.4, -0.3]), np.array([1.0, -2.0, 0.5]))
PARAMS = SplatParams(gaussians=3000, iterations=200, sim_gaussians=1000, sim_iterations=30, image_size=160)


@pytest.fixture(scope="module")
def inputs(room, tmp_path_factory):
    """Folders of all stages before; the world is not the frame of the poses."""
    root = tmp_path_factory.mktemp("build")
    folders = {name: root / name for name in ("poses", "depth", "align", "points", "mesh")}
    for folder in folders.values():
        folder.mkdir()
    camera, poses = CAMERA.resized(160, 120), walk(9)
    posed_scene(folders["poses"], room, poses, camera)
    maps = depth_maps(room, poses, camera)
    for depth_map in maps:
        save_depth_map(folders["depth"], depth_map)
    write_index(folders["depth"], [m.name for m in maps], "truth", {})
    Alignment(WORLD_FROM_SCENE, ("truth",), 0.1, "sensor", 0.01, True, {}).save(folders["align"])
    points = np.concatenate([m.points()[::4, ::4].reshape(-1, 3) for m in maps])
    count = len(points)
    cloud = PointCloud(
        points.astype(np.float32),
        np.zeros((count, 3), np.float32),
        np.full((count, 3), 128, np.uint8),
        np.full(count, 0.01, np.float32),
        np.full(count, 2, np.int32),
        np.zeros(count, bool),
    )
    cloud.transformed(WORLD_FROM_SCENE).save(folders["points"] / "cloud.npz")
    Completion(Mirrors.none(), Levels.none(np.zeros(2), 0.02, (1, 1))).save(folders["points"])
    open_mesh = Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), int))
    open_mesh.save(folders["mesh"] / "mesh.ply", hidden_sheet())
    return folders


def hidden_sheet() -> Mesh:
    """A guessed face below the floor of the world's room, where no view reaches."""
    corners = WORLD_FROM_SCENE.apply([[1, 1, -0.5], [2.5, 1, -0.5], [2.5, 2, -0.5], [1, 2, -0.5]])
    return Mesh.from_arrays(corners, np.array([[0, 2, 1], [0, 3, 2]]))


def test_stage_writes_both_splats_in_the_world_frame(inputs, tmp_path):
    """Splat and sim level open again, lie where the world's room is, and the report tells how they were trained."""
    run(inputs, PARAMS, tmp_path)
    splat, sim = load_splat(tmp_path / "splat.ply"), load_splat(tmp_path / "sim.ply")
    report = json.loads((tmp_path / "training.json").read_text())
    lined = RayCaster(hidden_sheet()).distances(splat.means[:5]) < 0.1
    assert lined.all(), "guessed faces, first of all"
    assert report["guessed"] >= 5
    assert len(splat) == 3000
    assert len(sim) == 1000
    assert sim.sh.shape[1] == 1
    corners = WORLD_FROM_SCENE.apply([[x, y, z] for x in (0, 4) for y in (0, 3) for z in (0, 2.5)])
    inside = ((splat.means > corners.min(0) - 0.3) & (splat.means < corners.max(0) + 0.3)).all(1)
    assert inside.mean() > 0.97
    assert report["iterations"] == 200
    assert report["antialiasing"] == "mip"
    assert splat.antialiased
    assert sim.antialiased
    assert report["views"] == 7  # nine, two of them held out
    assert report["train"]["psnr"] > 15
    assert report["train"]["depth_difference_median"] < 0.2
    assert cv2.imread(str(tmp_path / "preview.png")) is not None


def test_interrupted_run_writes_the_same_bytes(inputs, tmp_path, monkeypatch, caplog):
    """A build that was stopped resumes from its checkpoint and gives what one that ran through gives."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    run(inputs, PARAMS, tmp_path / "a")

    def stop(_preview, iteration: int, _gaussians) -> None:
        if iteration == 100:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.splat.stage.LivePreview.observe", stop)
        patch.setattr("pipeline.splat.state.CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, PARAMS, tmp_path / "b")
    assert list(resume_folder(tmp_path / "b").iterdir())
    caplog.set_level("INFO")
    run(inputs, PARAMS, tmp_path / "b")
    assert "resumes from the checkpoint after 99 steps" in caplog.text
    for file in ("splat.ply", "sim.ply", "preview.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.usefixtures("gsplat_on_cpu")
def test_gsplat_trains_whole_images_and_the_rest_follows(inputs, tmp_path):
    """All that the CPU's stage writes, from the same inputs; the report says what was trained and how."""
    params = SplatParams(backend="gsplat", gaussians=400, iterations=20, sim_gaussians=150, sim_iterations=5)
    run(inputs, params, tmp_path)
    report = json.loads((tmp_path / "training.json").read_text())
    assert (report["backend"], report["strategy"], report["iterations"]) == ("gsplat", "default", 20)
    assert report["image_size"] == [160, 120]
    assert report["largest_gaussians"] == 400
    assert len(load_splat(tmp_path / "splat.ply")) == report["gaussians"] <= 400
    assert len(load_splat(tmp_path / "sim.ply")) == 150
    assert {path.name for path in tmp_path.iterdir()} == {
        *("splat.ply", "sim.ply", "web.sog", "training.json", "exposures.json", "preview.png")
    }
    assert cv2.imread(str(resume_folder(tmp_path) / "preview.png")) is not None


def test_empty_cloud_is_an_error_with_a_remedy(inputs, tmp_path):
    """Not a crash deep inside."""
    cloud = PointCloud.load(inputs["points"] / "cloud.npz")
    (tmp_path / "points").mkdir()
    cloud[:2].save(tmp_path / "points" / "cloud.npz")
    Completion(Mirrors.none(), Levels.none(np.zeros(2), 0.02, (1, 1))).save(tmp_path / "points")
    with pytest.raises(ReconstructionError, match="point cloud"):
        run({**inputs, "points": tmp_path / "points"}, PARAMS, tmp_path)


def test_a_larger_place_gets_more_gaussians(inputs, tmp_path, monkeypatch, caplog):
    """Of twice a room's surface: twice the sim level's, and a training as for two rooms."""
    monkeypatch.setattr(stage, "seen_surface", lambda _mesh: 2 * ROOM)
    monkeypatch.setattr(stage, "SIM_GAUSSIANS", 300)
    with caplog.at_level("INFO"):
        run(inputs, PARAMS.changed(sim_gaussians=0, iterations=10, sim_iterations=0), tmp_path)
    assert len(load_splat(tmp_path / "sim.ply")) == 600
    assert "as for 2.0 rooms" in caplog.text
