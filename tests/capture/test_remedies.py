"""Every remedy leads out: a broken capture is refused, someone does what the message says, and the capture is read.

Recordings are in test_remedies_recordings. The rest of the remedies (record again, export again) are followed by every
reader's own writer.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.capture.depth_cameras.intrinsics import INTRINSICS
from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from tests.capture.conftest import POSES, SMALL, fill, truncate
from tests.capture.writers.programs import write_bundler
from tests.synthetic import Room

Do = Callable[[Path], object]
MATRIX = f"{SMALL.fx} 0 {SMALL.cx}\n0 {SMALL.fy} {SMALL.cy}\n0 0 1\n"


@dataclass(frozen=True)
class Case:
    """A broken capture and its remedy.

    Attributes:
        of: The capture that is broken: "photos", "rgbd" or "polycam", or "" for an empty folder.
        spoil: Breaks it.
        says: What its remedy says, a part of it.
        follow: Does that; returns the path to read where it is another.
        kind: What is read then.
    """

    of: str
    spoil: Do
    says: str
    follow: Do
    kind: str = ""


def each(folder: Path, pattern: str, change: Do) -> None:
    """Do something with every file of a pattern."""
    for file in sorted(folder.glob(pattern)):
        change(file)


def noise(folder: Path, mode: str = "RGB", suffix: str = "png", count: int = 4, alpha: int | None = None) -> None:
    """Images of noise."""
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        image = Image.fromarray(rng.integers(0, 255, (64, 96, 3)).astype(np.uint8)).convert(mode)
        if alpha is not None:
            mask = np.zeros((64, 96), np.uint8)
            mask[0, 0] = alpha
            image.putalpha(Image.fromarray(mask))
        image.save(folder / f"p{number}.{suffix}")


def own_folder(folder: Path, pattern: str) -> Path:
    """Copy files into a folder of their own, which then is read."""
    target = folder.parent / "own"
    target.mkdir()
    each(folder, pattern, lambda file: shutil.copy(file, target))
    return target


def as_gif(file: Path) -> None:
    """A GIF of that name."""
    Image.open(file).convert("P").save(file, "GIF")


def as_jpeg(file: Path) -> None:
    """A JPEG of that name."""
    Image.open(file).convert("RGB").save(file, "JPEG")


def write_masks(folder: Path, value: int, size: tuple[int, int] = (96, 64)) -> None:
    """Masks of one value but for a corner."""
    (folder / "masks").mkdir(exist_ok=True)
    mask = np.full(size[::-1], value, np.uint8)
    mask[0, 0] = 255 - value
    each(folder, "*.jpg", lambda file: Image.fromarray(mask).save(folder / "masks" / f"{file.stem}.png"))


def rescale(factor: float) -> Do:
    """Multiplies depth by a factor."""

    def change(folder: Path) -> None:
        def one(file: Path) -> None:
            depth = np.asarray(Image.open(file))
            cv2.imwrite(str(file), (depth * factor).round().astype(np.uint16))

        each(folder, "*.depth.png", one)

    return change


def locked(folder: Path) -> None:
    """With a password, as far as its flag says."""
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        each(folder, "*.jpg", lambda file: archive.write(file, file.name))
    data = bytearray((folder / "a.zip").read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + at] |= 1
            start = data.find(mark, start + 4)
    (folder / "a.zip").write_bytes(data)
    each(folder, "*.jpg", Path.unlink)


CASES = {
    "damaged photos": Case(
        "", lambda f: (fill(f, 4), each(f, "p[01].jpg", truncate)), "copy these files again", lambda f: fill(f, 4)
    ),
    "photos in another format": Case(
        "",
        lambda f: (fill(f, 4), each(f, "*.jpg", as_gif)),
        "convert these files to JPEG",
        lambda f: each(f, "*", as_jpeg),
    ),
    "transparent photos": Case(
        "",
        lambda f: noise(f, alpha=255),
        "save the images without transparency",
        lambda f: each(f, "*.png", lambda file: Image.open(file).convert("RGB").save(file)),
    ),
    "inverted masks": Case(
        "", lambda f: (fill(f, 4), write_masks(f, 0)), "Invert the masks", lambda f: write_masks(f, 255)
    ),
    "masks of another size": Case(
        "",
        lambda f: (fill(f, 4), write_masks(f, 255, (48, 32))),
        "masks of the images' size, or take them away",
        lambda f: shutil.rmtree(f / "masks"),
    ),
    "two photos": Case("", lambda f: fill(f, 2), "walk round the scene and take 40", lambda f: fill(f, 12)),
    "two folders of photos": Case(
        "", lambda f: (fill(f / "a", 4), fill(f / "b", 4)), "name one of these folders", lambda f: f / "b"
    ),
    "nothing that can be read": Case(
        "",
        lambda f: (f / "notes.docx").write_bytes(b"x"),
        "`splatyard scene formats` lists the forms",
        lambda f: fill(f, 4),
    ),
    "depth without intrinsics": Case(
        "rgbd",
        lambda f: (f / INTRINSICS).unlink(),
        "write camera-intrinsics.txt as three lines: fx 0 cx / 0 fy cy / 0 0 1",
        lambda f: (f / INTRINSICS).write_text(MATRIX),
    ),
    "depth without intrinsics, images alone": Case(
        "rgbd",
        lambda f: (f / INTRINSICS).unlink(),
        "to use the images alone, copy them into a folder of their own",
        lambda f: own_folder(f, "*.color.jpg"),
        "photos",
    ),
    "a frame without depth": Case(
        "rgbd",
        lambda f: (f / "frame-000003.depth.png").unlink(),
        "or remove the other files of those frames",
        lambda f: each(f, "frame-000003.*", Path.unlink),
    ),
    "depth in metres": Case(
        "rgbd",
        lambda f: (shutil.copytree(f, f.parent / "recorded"), rescale(0.001)(f)),
        "write round(1000 * metres) as 16-bit PNG",
        lambda f: shutil.copytree(f.parent / "recorded", f, dirs_exist_ok=True),
    ),
    "depth in another unit": Case("rgbd", rescale(5), "convert the depth from 1/5000 m", rescale(0.2)),
    "a mirrored pose": Case(
        "rgbd",
        lambda f: np.savetxt(f / "frame-000003.pose.txt", np.diag([1.0, 1, -1, 1])),
        "export in a right-handed frame",
        lambda f: each(f, "frame-000003.*", Path.unlink),
    ),
    "a lost pose": Case(
        "rgbd",
        lambda f: np.savetxt(f / "frame-000003.pose.txt", np.full((4, 4), np.nan)),
        "remove this frame's files",
        lambda f: each(f, "frame-000003.*", Path.unlink),
    ),
    "a frame twice": Case(
        "rgbd",
        lambda f: noise(f, count=1) or shutil.move(f / "p0.png", f / "frame-000003.color.png"),
        "remove one of them",
        lambda f: (f / "frame-000003.color.png").unlink(),
    ),
    "a scan without its cameras": Case(
        "polycam",
        lambda f: shutil.move(f / "keyframes/cameras", f.parent / "cameras"),
        "export raw data",
        lambda f: (f.parent / "cameras").rename(f / "keyframes/cameras").parent.parent,
    ),
    "images of another size than their intrinsics": Case(
        "rgbd",
        lambda f: each(f, "*.color.jpg", lambda file: Image.open(file).resize((320, 240)).save(file)),
        "give the intrinsics of these images (all four numbers scale with the size)",
        lambda f: np.savetxt(f / INTRINSICS, SMALL.resized(320, 240).matrix),
    ),
    "a COLMAP model without images.bin": Case(
        "",
        lambda f: (fill(f / "images", 4), (f / "sparse").mkdir(), (f / "sparse/cameras.bin").write_bytes(b"\0" * 8)),
        "for the images alone, copy them into a folder of their own",
        lambda f: own_folder(f, "images/*.jpg"),
        "photos",
    ),
    "an image listed and missing": Case(
        "",
        lambda f: (
            fill(f, 4),
            each(f, "*.jpg", lambda file: shutil.move(file, f.parent / file.name)),
            (f / "transforms.json").write_text(
                json.dumps(
                    {
                        "camera_angle_x": 0.9,
                        "frames": [
                            {
                                "file_path": f"images/p{i}.jpg",
                                "transform_matrix": [[1, 0, 0, i], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
                            }
                            for i in range(4)
                        ],
                    }
                )
            ),
        ),
        "copy the images into the capture's folder, to where they are listed",
        lambda f: ((f / "images").mkdir(), each(f.parent, "p*.jpg", lambda file: shutil.move(file, f / "images"))),
        "nerfstudio",
    ),
    "an archive with a password": Case(
        "", lambda f: (fill(f, 4), locked(f)), "without a password", lambda f: ((f / "a.zip").unlink(), fill(f, 4))
    ),
}
"""By what is wrong."""


@pytest.mark.parametrize("wrong", CASES)
def test_the_remedy_works(wrong: str, made: Path, tmp_path: Path, read: Callable[[Path], Capture]):
    """Refused with this remedy; once it is followed, read."""
    case, folder = CASES[wrong], tmp_path / "source"
    folder.mkdir()
    if case.of:
        shutil.copytree(made / case.of, folder, dirs_exist_ok=True)
    case.spoil(folder)
    archive = folder / "a.zip"
    with pytest.raises(CaptureError) as error:
        read(archive if archive.exists() else folder)
    assert case.says in error.value.remedy
    there = case.follow(folder)
    assert read(there if isinstance(there, Path) else folder).kind == (case.kind or case.of or "photos")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_command_for_unreadable_files_works(tmp_path: Path, read: Callable[[Path], Capture]):
    """It is run as it stands."""
    folder = fill(tmp_path / "in", 4)
    (folder / "p1.jpg").chmod(0)
    with pytest.raises(CaptureError) as error:
        read(folder)
    assert os.system(error.value.remedy) == 0
    assert read(folder).kind == "photos"


def test_a_program_whose_images_are_elsewhere(room: Room, tmp_path: Path, read: Callable[[Path], Capture]):
    """A Bundler file without its list is named; with the list that the page asks for it is read."""
    folder = tmp_path / "in"
    write_bundler(folder, room, POSES[:5], SMALL)
    text = (folder / "list.txt").read_text()
    (folder / "list.txt").unlink()
    assert read(folder).kind == "photos"
    (folder / "list.txt").write_text(text)
    assert read(folder).kind == "bundler"
