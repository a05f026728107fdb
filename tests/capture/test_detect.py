"""Recognising captures and their digest."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import BuildRequest, plan
from pipeline.capture.detect import probe, probe_and_digest
from pipeline.errors import CaptureError
from pipeline.stage import Traits
from tests.capture.conftest import POSES, SMALL
from tests.capture.writers.posed import intrinsics, write_colmap, write_transforms
from tests.paths import FOX, REDKITCHEN, needs_real
from tests.synthetic import Room

Copy = Callable[[str], Path]


@pytest.mark.parametrize(
    ("kind", "traits"),
    [
        ("photos", Traits("photos", 6, False, False, False, False)),
        ("rgbd", Traits("rgbd", 16, True, True, False, True, has_scale=True, fine_depth=True)),
        ("polycam", Traits("polycam", 16, True, True, True, True, has_scale=True)),
    ],
)
def test_forms_are_recognised_by_content(kind: str, traits: Traits, copy_of: Copy) -> None:
    """Whatever the folder is called, and one folder further up as well."""
    folder = copy_of(kind)
    misleading = folder.rename(folder.with_name("keyframes" if kind != "polycam" else "photos"))
    assert probe(misleading) == traits
    assert probe(misleading.parent) == traits
    assert probe(misleading).kind == kind


def test_empty_folder_is_told_in_three_lines(tmp_path: Path) -> None:
    """Nothing found, and the command that lists the forms: all of them would hide what happened."""
    with pytest.raises(CaptureError, match="no files") as error:
        probe(tmp_path)
    assert "splatyard scene formats" in error.value.remedy
    assert len(str(error.value).splitlines()) == 3
    assert all(len(line) < 120 + len(str(tmp_path)) for line in str(error.value).splitlines())
    assert error.value.file == str(tmp_path)


def test_unknown_files_are_listed(tmp_path: Path) -> None:
    """A folder of documents, and a document alone."""
    (tmp_path / "walk.docx").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "walk.docx"):
        with pytest.raises(CaptureError, match=r"1 \*\.docx"):
            probe(path)


def test_a_name_alone_makes_no_video(tmp_path: Path) -> None:
    """The message says what a video is, and what the file begins with."""
    (tmp_path / "walk.mov").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "walk.mov"):
        with pytest.raises(CaptureError, match=r"(?s)must be an MP4.*begins with b'x'"):
            probe(path)


def test_two_captures_in_one_folder_must_be_named(copy_of: Copy) -> None:
    """Which one is meant is for the user to say."""
    folder = copy_of("photos")
    shutil.copytree(folder, folder.with_name("other"))
    with pytest.raises(CaptureError, match="one capture at a time") as error:
        probe(folder.parent)
    assert "other/" in error.value.found


def test_digest_follows_used_files_only(copy_of: Copy) -> None:
    """A changed pose changes it; a file that the reader ignores, the place and a wrapping folder don't."""
    folder = copy_of("rgbd")
    before = probe_and_digest(folder)[1]
    (folder / "notes.txt").write_text("nice kitchen")
    assert probe_and_digest(folder)[1] == before
    assert probe_and_digest(folder.parent)[1] == before
    moved = folder.rename(folder.with_name("elsewhere"))
    assert probe_and_digest(moved)[1] == before
    pose = moved / "frame-000003.pose.txt"
    pose.write_text(pose.read_text().replace("1", "2", 1))
    assert probe_and_digest(moved)[1] != before


def test_digest_follows_names(copy_of: Copy) -> None:
    """The same images in another order are another capture."""
    folder = copy_of("photos")
    before = probe_and_digest(folder)[1]
    (folder / "0000.jpg").rename(folder / "x.jpg")
    (folder / "0001.jpg").rename(folder / "0000.jpg")
    (folder / "x.jpg").rename(folder / "0001.jpg")
    assert probe_and_digest(folder)[1] != before


def test_digest_of_a_zip_is_that_of_its_folder(made: Path, tmp_path: Path) -> None:
    """Packing does not change a capture."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (made / "polycam").rglob("*.*"):
            archive.write(file, file.relative_to(made / "polycam"))
    assert probe_and_digest(tmp_path / "a.zip")[1] == probe_and_digest(made / "polycam")[1]


@needs_real
@pytest.mark.real
def test_real_captures_are_recognised() -> None:
    """Fox is 50 photos, redkitchen 200 RGB-D frames."""
    assert probe(FOX) == Traits("photos", 50, False, False, False, False)
    assert probe(REDKITCHEN) == Traits("rgbd", 200, True, True, False, True, has_scale=True, fine_depth=True)


def test_a_capture_lies_as_deep_as_cameras_put_it(copy_of: Copy, tmp_path: Path) -> None:
    """DCIM/100GOPRO of a card; what lies higher up goes first, and a link to it is no second capture."""
    card = tmp_path / "card"
    (card / "DCIM").mkdir(parents=True)
    shutil.copytree(copy_of("photos"), card / "DCIM/100GOPRO")
    (card / "DCIM/latest").symlink_to("100GOPRO")
    for path in (card, card / "DCIM", card / "DCIM/latest"):
        assert (probe(path).kind, probe(path).frames) == ("photos", 6)
    shutil.copytree(copy_of("rgbd"), card / "scan")
    assert probe(card).kind == "rgbd"


def test_a_picture_beside_the_photos(copy_of: Copy) -> None:
    """preview.jpg next to images/, as repositories have it; with three photos the folder itself is meant."""
    images = copy_of("photos")
    scene = images.parent
    images = images.rename(scene / "images")
    for number in range(3):
        shutil.copy(images / "0000.jpg", scene / f"preview{number}.jpg")
        assert probe(scene).frames == (6 if number < 2 else 3)


@pytest.mark.parametrize("depth", [0, 3])
def test_an_index_stands_for_its_folder(depth: int, room: Room, tmp_path: Path) -> None:
    """transforms.json itself, and a file of COLMAP's in its own folders; the bundle is named after the capture."""
    if depth:
        write_colmap(tmp_path / "kitchen", room, POSES[:3], [(SMALL, "SIMPLE_PINHOLE", [SMALL.fx, 80, 60])])
        index = tmp_path / "kitchen/sparse/0/cameras.bin"
    else:
        write_transforms(tmp_path / "kitchen", room, POSES[:3], SMALL, intrinsics(SMALL))
        index = tmp_path / "kitchen/transforms.json"
    traits = probe(index)
    assert (traits.frames, traits.missing, traits.has_poses) == (3, (), True)
    assert plan(BuildRequest(index, out=tmp_path / "out")).name == "kitchen"


@pytest.mark.parametrize(("suffix", "remedy"), [("insv", "Insta360 Studio"), ("360", "GoPro Player"), ("dng", "JPEG")])
def test_what_must_be_exported_first(suffix: str, remedy: str, tmp_path: Path) -> None:
    """The message names the program, not the list of all forms."""
    (tmp_path / f"a.{suffix.upper()}").write_bytes(b"x")
    with pytest.raises(CaptureError, match=rf"\(a\.{suffix.upper()}\)") as error:
        probe(tmp_path)
    assert remedy in error.value.remedy
