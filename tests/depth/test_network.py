"""A network's depth at the poses' scale, with a stand-in of VGGT that errs as real ones do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.depth.maps import load_depth_map, load_report, map_names
from pipeline.depth.params import DepthParams
from pipeline.depth.stage import run
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.poses.keyframes import pinhole_for
from pipeline.poses.network import KeptMaps, NetworkDepth
from pipeline.poses.scene import PosedScene, View, read_image
from tests.depth.conftest import RoomViews
from tests.fakes import scene
from tests.fakes.simulated_network import Simulated, Truth
from tests.fakes.weights import install, save_weights


@pytest.fixture
def network(monkeypatch, views: RoomViews) -> Simulated:
    """The stand-in, which sees the room's views."""
    install(monkeypatch)
    posed = views.scene.views
    camera = posed[0].camera.resized(518, 392)
    poses = [view.world_from_camera for view in posed]
    simulated = Simulated(Truth(camera, poses, [views.room.cast(camera, pose)[1] for pose in poses]), fits=4)
    scene.show(scene.SeenPlace(simulated, [read_image(views.folder, view) for view in posed]))
    return simulated


def params(tmp_path: Path, **values) -> DepthParams:
    """Of a run with the stand-in's weights."""
    return DepthParams(backend="vggt", weights=str(save_weights(tmp_path / "weights")), **values)


def errors(views: RoomViews, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of all kept pixels, and the errors in sigmas."""
    relative, in_sigmas = [], []
    for name in map_names(folder):
        found = load_depth_map(folder, name)
        truth = views.room.cast(found.camera, found.world_from_camera)[1]
        known = found.depth > 0
        error = np.abs(found.depth - truth)[known]
        relative.append(error / truth[known])
        in_sigmas.append(error / found.sigma[known])
    return np.concatenate(relative), np.concatenate(in_sigmas)


def test_poses_from_elsewhere_get_the_network_s_depth(network, views, tmp_path):
    """A run of its own comes out at the poses' scale: outliers gone, sigmas honest, held-out views not shown."""
    out = tmp_path / "depth"
    out.mkdir()
    run({"capture": tmp_path, "poses": views.folder}, params(tmp_path), out)
    relative, in_sigmas = errors(views, out)
    assert map_names(out) == [view.name for view in views.scene.training]
    assert np.median(relative) < 0.006 and np.percentile(relative, 99) < 0.05
    assert 0.4 < np.percentile(in_sigmas, 68) < 1.6
    report = load_report(out)
    assert report["kept_share"] > 0.6 and report["source"] == "a run of its own" and report["licence"]
    assert len(network.asked) >= 2 and not any(0 in asked for asked in network.asked)
    assert sorted(path.suffix for path in out.iterdir()) == [".json", *[".npz"] * 6]
    normals = load_depth_map(out, "0003").normals
    known = load_depth_map(out, "0003").depth > 0
    agree = np.einsum(
        "nc,nc->n", normals[known], _true_normals(views, "0003", load_depth_map(out, "0003").camera)[known]
    )
    assert np.median(agree) > 0.95


def _true_normals(views: RoomViews, name: str, camera: Camera) -> np.ndarray:
    normals = views.truth[name].normals
    return cv2.resize(normals, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)


def test_depth_that_came_with_the_poses_is_taken(network, views, tmp_path):
    """The network is not asked again; views it gave no depth are reported."""
    folder = tmp_path / "poses"
    shutil.copytree(views.folder, folder)
    kept = NetworkDepth(folder)
    _, _, depths, confidences = network.see(range(7))
    for i in range(1, 6):
        kept.keep(i + 1, 0, depths[i], confidences[i])
    names = {i + 1: (view.name, None) for i, view in enumerate(views.scene.views)}
    kept.finish("vggt", {(0, i): 1.0 for i in range(2, 7)}, names)
    out = tmp_path / "depth"
    out.mkdir()
    run({"capture": tmp_path, "poses": folder}, params(tmp_path), out)
    assert map_names(out) == [view.name for view in views.scene.training[:5]] and not network.asked
    assert load_report(out)["empty_views"] == [views.scene.training[5].name]
    assert np.median(errors(views, out)[0]) < 0.006


def test_masked_pixels_have_no_depth(network, views, tmp_path):
    """What a mask hides is unknown."""
    folder = tmp_path / "poses"
    shutil.copytree(views.folder, folder)
    mask = np.full((240, 320), 255, np.uint8)
    mask[:, :100] = 0
    cv2.imwrite(str(folder / "mask.png"), mask)
    posed = PosedScene.load(folder)
    replace(posed, views=tuple(replace(v, mask="mask.png" if v.name == "0002" else None) for v in posed.views)).save(
        folder
    )
    out = tmp_path / "depth"
    out.mkdir()
    run({"capture": tmp_path, "poses": folder}, params(tmp_path), out)
    depth = load_depth_map(out, "0002").depth
    assert (depth[:, :160] == 0).all() and (depth[:, 170:] > 0).mean() > 0.5


def test_no_sparse_points_is_an_error(network, views, tmp_path):
    """Without points nothing says how large the depth is."""
    folder = tmp_path / "poses"
    shutil.copytree(views.folder, folder)
    posed = PosedScene.load(folder)
    few = replace(posed.points, view_index=posed.points.view_index[:9], point_index=posed.points.point_index[:9])
    replace(posed, points=few).save(folder)
    with pytest.raises(ReconstructionError, match="determine the scale of a network"):
        run({"capture": tmp_path, "poses": folder}, params(tmp_path), tmp_path)


def test_the_surest_of_several_runs_is_kept(tmp_path):
    """Runs overlap; an image's depth is that of the run with the most confidence, and images without scale go."""
    kept = NetworkDepth(tmp_path)
    for run_, sure in ((0, 2.0), (1, 5.0), (2, 3.0)):
        kept.keep(4, run_, np.full((3, 4), 1.0 + run_, np.float32), np.full((3, 4), sure, np.float32))
    kept.keep(5, 2, np.ones((3, 4), np.float32), np.ones((3, 4), np.float32))
    kept.finish("vggt", {(1, 4): 2.0}, {4: ("four", None), 5: ("five", None)})
    maps = KeptMaps(tmp_path)
    view = View("four", "", Camera(4, 3, 4, 4, 2, 1.5), Pose.identity(), held_out=False)
    assert "four" in maps and "five" not in maps and maps.load(view).run == 1
    assert (maps.load(view).depth == 4.0).all()
    assert sorted(p.name for p in (tmp_path / "network").iterdir()) == ["000004.npz", "network.json"]
    assert json.loads((tmp_path / "network" / "network.json").read_text())["backend"] == "vggt"


def test_a_lens_that_was_found_later_moves_the_depth(tmp_path):
    """The network saw the image before the lens's distortion was known; its depth follows the final pinhole."""
    lens = Camera(320, 240, 250, 250, 160, 120, (-0.15, 0.02, 0, 0))
    pinhole, slope = pinhole_for(lens), np.array([0.3, 0.1, 0.4])  # a plane: slope . ray = 1 / depth
    pixels = np.stack(np.meshgrid(np.arange(320) + 0.5, np.arange(240) + 0.5), -1).reshape(-1, 1, 2)
    seen = cv2.undistortPoints(pixels, lens.matrix, np.array(lens.distortion)).reshape(240, 320, 2)
    depth = 1 / (np.dstack([seen, np.ones((240, 320))]) @ slope)
    kept = NetworkDepth(tmp_path)
    kept.keep(1, 0, depth.astype(np.float32), np.ones((240, 320), np.float32))
    kept.finish("vggt", {(0, 1): 1.0}, {1: ("a", Camera(320, 240, 250, 250, 160, 120))})
    view = View("a", "", pinhole, Pose.identity(), held_out=False, source_camera=lens)
    found = KeptMaps(tmp_path).load(view).depth
    expected = 1 / (pinhole.rays() @ slope)
    assert np.abs(found / expected - 1)[3:-3, 3:-3].max() < 0.01
    assert np.abs(depth / expected - 1).max() > 0.03
