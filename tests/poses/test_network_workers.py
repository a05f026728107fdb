"""VGGT's and Depth Anything 3's published interfaces, with stand-ins behind them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.geometry import Camera, Pose
from pipeline.gpu_backends.errors import (
    BadOutputError,
    GpuMemoryError,
    MissingWeightsError,
    NoDeviceError,
    WrongWeightsError,
)
from pipeline.gpu_backends.session import open_session
from pipeline.poses.depth_anything_worker import Worker as DepthAnything
from pipeline.poses.depth_anything_worker import resized
from pipeline.poses.vggt_worker import Worker, fit
from tests.fakes import scene
from tests.fakes.simulated_network import Errors, Simulated, Truth
from tests.fakes.weights import install, save_weights
from tests.paths import ROOT
from tests.test_imports import loaded_after

NETWORKS = ROOT / ".venv-networks" / "bin" / "python"
EXACT = Errors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def fakes(monkeypatch) -> None:
    """The stand-ins in place of the packages."""
    install(monkeypatch)


@pytest.fixture
def images(tmp_path) -> list[str]:
    """Four images of noise that a stand-in can tell apart, with poses and depth of its own making."""
    return _show(tmp_path, (300, 200), Camera(518, 350, 400, 398, 259, 175))


def _show(folder: Path, size: tuple[int, int], camera: Camera, **values) -> list[str]:
    rng = np.random.default_rng(4)
    made = [cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), size) for _ in range(4)]
    poses = [Pose(np.eye(3), np.array([0.3 * n, 0, 0])) for n in range(4)]
    depths = [np.full((camera.height, camera.width), 2.0 + n) for n in range(4)]
    scene.show(scene.SeenPlace(Simulated(Truth(camera, poses, depths), EXACT, **values), made))
    paths = []
    for n, image in enumerate(made):
        paths.append(str(folder / f"{n}.png"))
        cv2.imwrite(paths[-1], image[..., ::-1])
    return paths


@pytest.mark.parametrize("name", ["vggt_worker", "depth_anything_worker"])
def test_workers_need_no_package_of_ours_but_numpy(name):
    """They may run in an interpreter that has the network's packages and not ours."""
    loaded = loaded_after(f"import pipeline.poses.{name}")
    assert "numpy" in loaded and not loaded & {"torch", "scipy", "cv2", "numba", "pycolmap", "pydantic", "open3d"}


@pytest.mark.parametrize("sizes", [[(300, 200)], [(201, 333)], [(640, 480), (480, 640)], [(500, 500), (1000, 320)]])
def test_images_lie_where_the_loader_puts_them(fakes, tmp_path, sizes):
    """Nothing is cut off, and each image's own part of the padded one is found, whatever its shape."""
    from vggt.utils.load_fn import load_and_preprocess_images

    paths = []
    for n, (width, height) in enumerate(sizes):
        ramp = np.stack(np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height)), -1)
        paths.append(str(tmp_path / f"{n}.png"))
        cv2.imwrite(paths[-1], np.dstack([ramp, np.zeros((height, width))]).astype(np.uint8))  # red is nought
    fitted = fit(sizes)
    loaded = load_and_preprocess_images(paths, mode=fitted.mode).numpy()
    assert loaded.shape[2:] == (fitted.height, fitted.width)
    for n, image in enumerate(loaded):
        rows, columns = fitted.inside(n)
        shown = np.zeros((fitted.height, fitted.width), bool)
        shown[rows, columns] = True
        assert np.array_equal(image[0] < 0.5, shown)
        down, right = image[1][rows, columns], image[2][rows, columns]
        assert max(down[0].max(), right[:, 0].max()) < 0.01 and min(down[-1].min(), right[:, -1].min()) > 0.77


def test_cameras_depth_and_confidence_come_out(fakes, images, tmp_path):
    """Poses are camera-from-world in the first one's frame; depth and intrinsics are of the whole image."""
    worker = Worker({"weights": str(save_weights(tmp_path / "weights"))})
    answer = worker.ask({"images": images})
    unit = 1 / 3.5  # the stand-in's scale: one over the usual depth
    assert np.allclose(answer["cam_from_world"][:, :, 3], [[-0.3 * n * unit, 0, 0] for n in range(4)], atol=1e-6)
    assert answer["depth_2"].shape == answer["confidence_2"].shape == (350, 518)
    assert np.allclose(answer["depth_2"], 4 * unit) and answer["confidence_2"].min() > 1
    assert np.allclose(answer["intrinsics"][1], [[400, 0, 259], [0, 398, 175], [0, 0, 1]], atol=1e-2)
    assert worker.ask({"size": [300, 200]}) == {"capacity": None, "peak": 0}


def test_upright_images_lose_nothing(fakes, tmp_path):
    """The loader pads images that are higher than wide; what it added is gone again, principal point included."""
    paths = _show(tmp_path, (200, 300), Camera(518, 518, 400, 400, 259, 259))
    answer = Worker({"weights": str(save_weights(tmp_path / "weights"))}).ask({"images": paths})
    height, width = answer["depth_0"].shape
    assert (width, height) == (350, 518)
    assert np.allclose(answer["intrinsics"][0][:2, 2], [175, 259])


def test_what_is_not_finite_is_marked(fakes, tmp_path):
    """An image with NaN has no pose; nothing but NaN is an error."""
    weights = str(save_weights(tmp_path / "weights"))
    paths = _show(tmp_path, (300, 200), Camera(518, 350, 400, 398, 259, 175), nan=(1,))
    poses = Worker({"weights": weights}).ask({"images": paths})["cam_from_world"]
    assert np.isfinite(poses).all((1, 2)).tolist() == [True, False, True, True]
    paths = _show(tmp_path, (300, 200), Camera(518, 350, 400, 398, 259, 175), nan=range(4))
    with pytest.raises(BadOutputError, match="every one of 4"):
        Worker({"weights": weights}).ask({"images": paths})


def test_out_of_memory_is_said(fakes, tmp_path):
    """Torch's error comes out as ours, with what was asked for."""
    paths = _show(tmp_path, (300, 200), Camera(518, 350, 400, 398, 259, 175), fits=3)
    with pytest.raises(GpuMemoryError, match="4 images of 518x350"):
        Worker({"weights": str(save_weights(tmp_path / "weights"))}).ask({"images": paths})


def test_weights_from_files(fakes, images, tmp_path):
    """One file of the commercial checkpoint's kind does as well as a folder."""
    import torch
    from vggt.models.vggt import VGGT

    torch.save(VGGT().state_dict(), tmp_path / "vggt_1B_commercial.pt")
    worker = Worker({"weights": str(tmp_path / "vggt_1B_commercial.pt")})
    assert worker.ask({"images": images})["depth_0"].shape == (350, 518)


def test_weights_of_another_network_are_refused(fakes, tmp_path):
    """Its loader would take them in silence and infer with chance."""
    import torch

    with pytest.raises(WrongWeightsError, match="parameters are missing"):
        Worker({"weights": str(save_weights(tmp_path / "other", network="depth_anything_3"))})
    torch.save({"camera_head.weight": torch.zeros(3, 3)}, tmp_path / "shapes.pt")
    with pytest.raises(WrongWeightsError, match=r"shapes\.pt"):
        Worker({"weights": str(tmp_path / "shapes.pt")})
    for name in ("damaged.pt", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(WrongWeightsError, match=r"damaged\."):
            Worker({"weights": str(tmp_path / name)})


def test_no_weights_and_no_network(fakes, tmp_path, monkeypatch):
    """The error names the command that fetches them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="not in the cache") as caught:
        Worker({"weights": "facebook/VGGT-1B"})
    assert "hf download facebook/VGGT-1B" in caught.value.remedy
    with pytest.raises(MissingWeightsError, match="neither a file"):
        Worker({"weights": "no such: place"})


def test_no_gpu_is_said(monkeypatch, tmp_path):
    """Without a GPU that torch can use nothing is loaded."""
    import torch

    install(monkeypatch)
    monkeypatch.undo()
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fakes" / "networks"))
    with pytest.raises(NoDeviceError, match="sees no GPU"):
        Worker({"weights": str(tmp_path)})


def test_depth_anything_answers_alike(fakes, tmp_path):
    """The second network behind the same questions; images cut to one size are whole again, the rest unknown."""
    weights = {"weights": str(save_weights(tmp_path / "weights", network="depth_anything_3"))}
    paths = _show(tmp_path, (300, 200), Camera(504, 336, 390, 390, 252, 168))
    answer = DepthAnything(weights).ask({"images": paths})
    assert answer["depth_3"].shape == (336, 504) and np.isfinite(answer["cam_from_world"]).all()
    assert np.allclose(answer["intrinsics"][0], [[390, 0, 252], [0, 390, 168], [0, 0, 1]])
    high = str(tmp_path / "high.png")
    cv2.imwrite(high, cv2.resize(cv2.imread(paths[1]), (200, 300)))
    paths = [*_show(tmp_path, (300, 200), Camera(336, 336, 390, 390, 168, 168))[:1], high]
    answer = DepthAnything(weights).ask({"images": paths})
    assert answer["depth_0"].shape == (336, 504) and answer["depth_1"].shape == (504, 336)
    assert (answer["confidence_0"][:, :84] == 0).all() and (answer["confidence_0"][:, 84:420] > 0).all()
    assert np.allclose(answer["intrinsics"][:, :2, 2], [[252, 168], [168, 252]])


@pytest.mark.slow
@pytest.mark.foreign
@pytest.mark.skipif(not NETWORKS.is_file(), reason="make .venv-networks/.installed brings the real network")
def test_the_real_depth_anything_gives_these_shapes(tmp_path):
    """Its smallest network with weights of chance, in its own interpreter: calls, shapes and conventions are right."""
    weights, make = str(tmp_path / "weights"), "from depth_anything_3.api import DepthAnything3 as Network; "
    make += "import sys; Network('da3-small').save_pretrained(sys.argv[1])"
    subprocess.run([str(NETWORKS), "-c", make, weights], check=True, capture_output=True)
    rng = np.random.default_rng(0)
    paths = []
    for n in range(2):
        paths.append(str(tmp_path / f"{n}.png"))
        cv2.imwrite(paths[-1], rng.integers(0, 255, (200, 300, 3), np.uint8))
    settings = {"weights": weights, "device": "cpu"}
    with open_session("pipeline.poses.depth_anything_worker", settings, str(NETWORKS)) as session:
        answer = session.ask({"images": paths})
    width, height = resized(300, 200)
    assert answer["depth_1"].shape == answer["confidence_1"].shape == (height, width)
    assert answer["cam_from_world"].shape == (2, 3, 4) and answer["intrinsics"].shape == (2, 3, 3)
    assert abs(np.linalg.det(answer["cam_from_world"][0, :, :3]) - 1) < 1e-3


def test_a_network_can_be_taken_without_weights(fakes):
    """To see whether it runs; nothing is looked for or fetched."""
    made = Worker({"weights": "", "random_weights": True, "device": "cpu"})
    assert made.ask({"size": [640, 480]}) == {"capacity": None, "peak": 0}
    with pytest.raises(MissingWeightsError):
        Worker({"weights": "", "device": "cpu"})
