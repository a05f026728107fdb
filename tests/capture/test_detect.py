"""Recognising captures and their digest."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.capture.detect import probe, probe_and_digest
from pipeline.errors import CaptureError
from pipeline.stage import Traits
from tests.paths import FOX, REDKITCHEN, needs_real

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
    assert "splatyard formats" in error.value.remedy
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
