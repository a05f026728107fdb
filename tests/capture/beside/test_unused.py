"""What lies beside photos and is none: depth, masks, confidence, thumbnails; and the line on what is not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.detect import probe
from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from pipeline.running.summary import summary
from tests.capture.conftest import fill

Read = Callable[[Path], Capture]
RNG = np.random.default_rng(7)


def noise(width: int = 96, height: int = 64) -> Image.Image:
    """What a camera might see."""
    return Image.fromarray(RNG.integers(0, 255, (height, width, 3)).astype(np.uint8))


def depth(width: int = 96, height: int = 64) -> Image.Image:
    """Millimetres."""
    return Image.fromarray(RNG.integers(500, 4000, (height, width)).astype(np.uint16))


def levels(*values: int) -> Image.Image:
    """A grey image of few values, each a stripe."""
    return Image.fromarray(np.repeat(np.array(values, np.uint8), 96 // len(values))[None].repeat(64, 0))


def write(folder: Path, **images: Image.Image) -> Path:
    """Images of four shots by the form of their names, in which "N" is the shot and "__" a slash."""
    for form, image in images.items():
        name, _, suffix = form.replace("__", "/").rpartition("_")
        for shot in range(4):
            path = folder / f"{name.replace('N', f'{shot:04d}')}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            own = image if suffix == "png" and image.mode != "RGB" else noise(*image.size)
            own.save(path)
    return folder


@pytest.mark.parametrize(
    ("photo", "other", "image", "kind"),
    [
        ("N_color_jpg", "N_depth_jpg", noise(), "depth images"),
        ("img_N_jpg", "z_N_png", depth(), "depth images"),
        ("photo_N_png", "disparity_N_png", depth(), "depth images"),
        ("frame_N_jpg", "conf_N_png", levels(0, 1, 2), "confidence images"),
        ("frame_N_jpg", "thumb_N_jpg", noise(24, 16), "thumbnails"),
        ("IMG_N_jpg", "small_IMG_N_jpg", noise(), None),
        ("img_N_jpg", "N_jpg", noise(24, 16), "other images"),
        ("IMG_N_jpg", "x_N_png", levels(0, 255), "masks"),
        ("images__N_jpg", "disp__N_png", depth(), "depth images"),
        ("images__N_jpg", "normals__N_png", noise(), "normal maps"),
        ("images__N_jpg", "mask__other_N_jpg", noise(), "masks"),
        ("rgb__N_jpg", "z__N_png", depth(), "depth images"),
    ],
)
def test_what_is_no_photo_is_not_read_as_one(
    photo: str, other: str, image: Image.Image, kind: str | None, tmp_path: Path
):
    """It is named in the plan instead; two photos of one number are two photos."""
    traits = probe(write(tmp_path, **{photo: noise(), other: image}))
    assert traits.frames == (4 if kind else 8)
    assert [line.partition(" (")[0] for line in traits.unused] == ([f"not used: 4 {kind}"] if kind else [])


def test_masks_beside_their_photos_are_used(tmp_path: Path, read: Read):
    """They are neither photos nor left over."""
    capture = read(write(tmp_path, N_jpg=noise(), N_mask_png=levels(0, 255)))
    assert len([frame.mask for frame in capture.frames if frame.mask]) == len(capture.frames) == 4
    assert capture.notes[-1:] == ("the focal length of 4 of 4 photos is guessed (none in EXIF)",)


def test_a_photo_is_a_photo_whatever_it_shows(tmp_path: Path):
    """Plain, black, of few colours, in grey; and in a folder of a telling name that is given itself."""
    fill(tmp_path / "masks", 3)
    Image.new("RGB", (96, 64)).save(tmp_path / "masks" / "black.png")
    Image.new("RGB", (96, 64), (200, 30, 30)).save(tmp_path / "masks" / "red.png")
    noise().convert("L").save(tmp_path / "masks" / "grey.png")
    assert probe(tmp_path / "masks").frames == probe(tmp_path).frames == 6


def test_depth_alone_is_no_capture(tmp_path: Path):
    """The message says what the files are."""
    with pytest.raises(CaptureError, match=r"4 depth images \(a0000.png ...\)"):
        probe(write(tmp_path, aN_png=depth()))


def test_what_is_not_used_is_named_in_one_line(tmp_path: Path, read: Read):
    """In the plan and in the build's notes; what helps nobody (README, licence, hidden files) isn't."""
    folder = tmp_path / "in"
    fill(folder / "photos", 3)
    for name in ("README.md", "LICENSE", "licence.txt", ".DS_Store", "Thumbs.db"):
        (folder / name).write_text("x")
    assert probe(folder).unused == ()
    for name in ("walk.insv", "poses.json", "intrinsics.json", "photos/cloud.ply"):
        (folder / name).write_text(json.dumps({"poses": []}))
    line = "not used: 1 point clouds or meshes (photos/cloud.ply), 1 videos (walk.insv), 2 *.json (intrinsics.json ...)"
    traits = probe(folder)
    assert traits.unused == (line,)
    assert read(folder).notes[-1] == line
    assert summary(traits, {}, None).endswith(f"; {line}")
    (folder / "photos/walk.m2ts").write_text("")
    assert "2 videos (walk.insv ...)" in probe(folder).unused[0]
    (folder / "photos/walk.m2ts").unlink()
    for number in range(9):
        (folder / f"x.{number}").write_text("")
    assert probe(folder).unused[0].endswith(" and 6 more files")
