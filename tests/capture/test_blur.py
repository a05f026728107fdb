"""Faces and plates are gone from a capture's images before anything else sees them, or nothing is built."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from flows.cli import main
from pipeline import BuildRequest, plan
from pipeline.capture import blur as module
from pipeline.capture import stage
from pipeline.capture.blur import Detector, detectors_for, find_in, hide
from pipeline.capture.model import CAPTURE_FILE, Blurred, Capture
from pipeline.capture.params import CaptureParams
from pipeline.errors import MachineError
from tests.capture.writers.yunet import write_green_yunet

FACES = CaptureParams(blur_faces=True)


def green_square(turns: int = 0) -> np.ndarray:
    """An image (240, 352, 3), turned: noise, and in it a square of 64 px of noise in green."""
    rng = np.random.default_rng(1)
    image = rng.integers(60, 120, (240, 352, 3), dtype=np.uint8)
    image[64:128, 160:224] = 0
    image[64:128, 160:224, 1] = 200 + 55 * rng.integers(0, 2, (64, 64))
    return np.ascontiguousarray(np.rot90(image, turns))


def detail(path: Path, turns: int = 0) -> float:
    """How much neighbouring pixels of the square differ, in an image that was turned."""
    square = np.rot90(np.array(Image.open(path)), -turns)[64:128, 160:224].astype(float)
    return float(np.abs(np.diff(square, axis=0)).mean())


@pytest.fixture
def yunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A YuNet that takes green for a face, named by the environment."""
    path = write_green_yunet(tmp_path / "green.onnx")
    monkeypatch.setenv("SPLATYARD_FACE_MODEL", str(path))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photos, two of them with a green square, one of these a PNG that lies on its side."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(2)
    for name, image in (
        ("a.jpg", green_square()),
        ("b.png", green_square(1)),
        ("c.jpg", rng.integers(0, 99, (240, 352, 3), dtype=np.uint8)),
        ("d.jpg", rng.integers(99, 199, (240, 352, 3), dtype=np.uint8)),
    ):
        Image.fromarray(image).save(folder / name, **({"quality": 95} if name.endswith("jpg") else {}))
    return folder


def test_all_stages_see_blurred_images(photos: Path, yunet: Path, tmp_path: Path) -> None:
    """The canonical capture has no face, its other images keep their bytes, and it says how many there were."""
    plain, out = tmp_path / "plain", tmp_path / "blurred"
    stage.run({"source": photos}, CaptureParams(), plain)
    stage.run({"source": photos}, FACES, out)
    for name, turns in (("a.jpg", 0), ("b.png", 1)):
        assert detail(plain / "images" / name, turns) > 5
        assert detail(out / "images" / name, turns) < 2
    for name in ("c.jpg", "d.jpg"):
        assert (out / "images" / name).read_bytes() == (plain / "images" / name).read_bytes()
    blurred = Capture.load(out).blurred
    assert blurred is not None
    assert blurred.faces
    assert (blurred.plates, blurred.images) == (None, 2)
    assert blurred.detectors[0].startswith("green ")
    assert Capture.load(plain).blurred is None
    assert not list(out.rglob("*.partial"))


def test_captures_of_older_versions_are_read(photos: Path, tmp_path: Path) -> None:
    """They say nothing of blurring."""
    out = tmp_path / "out"
    stage.run({"source": photos}, CaptureParams(), out)
    content = json.loads((out / CAPTURE_FILE).read_text())
    del content["blurred"], content["credentials"]
    (out / CAPTURE_FILE).write_text(json.dumps(content))
    assert Capture.load(out).blurred is None


@pytest.mark.parametrize("turns", range(4))
def test_boxes_lie_on_the_image_whichever_way_it_was_turned(turns: int) -> None:
    """A detector that only sees upright things finds one in any turn, and its box lies where that is."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[40:100, 50:90] = 255  # taller than wide
    image[45:60, 60:80] = 128  # its mark near the upper edge says which way is up
    asked = np.ascontiguousarray(np.rot90(image, -turns))

    def upright_only(seen: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(seen[..., 0])
        marks = np.nonzero(seen[..., 0] == 128)[0]
        if np.ptp(rows) < np.ptp(columns) or marks.mean() > rows.mean():
            return np.zeros((0, 4))
        return np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float)

    (found,) = find_in(asked, Detector("face", "test", upright_only))
    left, top, right, bottom = found.astype(int)
    assert (asked[top:bottom, left:right] > 0).all()
    assert (right - left) * (bottom - top) == 60 * 40


def test_large_images_are_looked_at_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The box comes out in the image's own pixels."""
    monkeypatch.setattr(module, "LOOKED_AT", 100)
    box = np.array([[10.0, 20.0, 30.0, 40.0]])
    detector = Detector("face", "test", lambda seen: box if seen.shape[:2] == (50, 100) else np.zeros((0, 4)))
    found = find_in(np.zeros((200, 400, 3), np.uint8), detector)
    np.testing.assert_allclose(found[0], 4 * box[0])


def test_little_is_left_and_nothing_beside_it_is_touched() -> None:
    """Of noise in the box, the scatter of a few pixels; what lies farther off than the margin stays."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)
    before = image.copy()
    hide(image, np.array([50.0, 60.0, 110.0, 120.0]))
    assert image[60:120, 50:110].std() < before.std() / 5
    outside = np.ones((200, 200), bool)
    outside[45:135, 35:125] = False
    np.testing.assert_array_equal(image[outside], before[outside])
    hide(image, np.array([-50.0, -50.0, -20.0, -20.0]))  # wholly outside
    hide(image, np.array([180.0, 180.0, 260.0, 260.0]))  # cut off by the border


def test_one_face_counts_once(photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Detectors that agree, and the four turns, don't multiply it; plates are counted by themselves."""
    here = np.array([[100.0, 100.0, 140.0, 140.0]])
    finds = [Detector("face", name, lambda seen: here[: seen.shape[0] == 240]) for name in ("one", "two")]
    finds.append(Detector("plate", "three", lambda seen: here[:0]))
    monkeypatch.setattr(module, "detectors_for", lambda params: finds)
    out = tmp_path / "out"
    stage.run({"source": photos}, FACES.changed(blur_plates=True), out)
    blurred = Capture.load(out).blurred
    assert blurred is not None
    assert blurred.faces in range(4, 9)  # at most two an image: half a turn shows it elsewhere
    assert blurred == Blurred(blurred.faces, 0, 4, ("one", "two", "three"))


def test_another_model_blurs_anew(photos: Path, yunet: Path) -> None:
    """The capture's key depends on the model's content, and on whether faces are blurred at all."""
    request = BuildRequest(photos, settings=("capture.blur_faces=true",))
    keys = [plan(BuildRequest(photos)).stages[0].key, plan(request).stages[0].key]
    yunet.write_bytes(yunet.read_bytes() + b"\x72\x00")  # an empty field more
    keys.append(plan(request).stages[0].key)
    assert len(set(keys)) == 3


def test_the_command_asks_for_it(photos: Path, yunet: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """With an option for each; a detector that is missing ends it before anything is built."""
    monkeypatch.chdir(photos.parent)
    keys = []
    for words in ([], ["--blur-faces"]):
        assert main(["build", str(photos), "--dry-run", *words]) == 0
        keys.append([line.split()[-2] for line in capsys.readouterr().out.splitlines() if "│ capture" in line])
    assert len(keys[0]) == 1
    assert keys[0] != keys[1]
    monkeypatch.setattr(module, "CASCADES", {"face": (), "plate": ()})
    assert main(["build", str(photos), "--dry-run", "--blur-plates"]) == 2
    assert "SPLATYARD_PLATE_MODEL" in capsys.readouterr().err


@pytest.mark.parametrize("thing", ["face", "plate"])
def test_without_a_detector_nothing_is_built(
    thing: str, photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The plan says so before anything runs: nobody believes faces are gone that nobody looked for."""
    monkeypatch.delenv("SPLATYARD_FACE_MODEL", raising=False)
    monkeypatch.setattr(module, "CASCADES", {"face": (), "plate": ()})
    with pytest.raises(MachineError, match=f"SPLATYARD_{thing.upper()}_MODEL"):
        plan(BuildRequest(photos, settings=(f"capture.blur_{thing}s=true",)))


@pytest.mark.parametrize(
    ("thing", "name", "content"),
    [
        ("face", "model.onnx", b"no model"),
        ("face", "model.xml", b"<no/>"),
        ("face", "model.pt", b"\x80\x04"),
        ("plate", "model.onnx", b""),
        ("face", "missing.onnx", None),
    ],
)
def test_bad_models_are_refused(
    thing: str, name: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Damaged, of another kind, or missing."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv(f"SPLATYARD_{thing.upper()}_MODEL", str(tmp_path / name))
    with pytest.raises(MachineError, match=f"correct SPLATYARD_{thing.upper()}_MODEL") as error:
        detectors_for(CaptureParams(blur_faces=thing == "face", blur_plates=thing == "plate"))
    assert name in str(error.value)


def test_plates_are_found_by_the_wheels_cascades() -> None:
    """A drawn white plate on grey."""
    image = np.full((300, 500, 3), 90, np.uint8)
    cv2.rectangle(image, (150, 120), (350, 165), (255, 255, 255), -1)
    cv2.rectangle(image, (150, 120), (350, 165), (0, 0, 0), 3)
    cv2.putText(image, "A 123 BC 77", (158, 153), cv2.FONT_HERSHEY_SIMPLEX, 0.95, (0, 0, 0), 3)
    found = np.concatenate([find_in(image, one) for one in detectors_for(CaptureParams(blur_plates=True))])
    middles = (found[:, :2] + found[:, 2:]) / 2
    assert (np.abs(middles - [250, 142]) < [40, 20]).all(1).any()
