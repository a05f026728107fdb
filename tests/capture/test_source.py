"""Folders and archives as sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from pipeline.capture import source as source_module
from pipeline.capture.detect import probe
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    """An archive of these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_folder_and_zip_give_the_same_files(tmp_path: Path) -> None:
    """Names are relative with slashes, litter is left out, contents are equal."""
    folder = tmp_path / "a place, größe"
    (folder / "in ner").mkdir(parents=True)
    (folder / "in ner" / "ü.txt").write_bytes(b"1")
    (folder / "b.txt").write_bytes(b"2")
    (folder / ".DS_Store").write_bytes(b"x")
    archive = zipped(tmp_path / "a.zip", {"in ner/ü.txt": b"1", "b.txt": b"2", "__MACOSX/b.txt": b"x", "._b": b"x"})
    for path in (folder, archive):
        with open_source(path) as opened:
            assert opened.names == ("b.txt", "in ner/ü.txt")
            assert opened.read("in ner/ü.txt") == b"1"
            inner = opened.below("in ner")
            assert (inner.names, inner.read("ü.txt")) == (("ü.txt",), b"1")


def test_a_single_file_is_named_in_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the folder that it lies in, which may be "."."""
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("nothing of use")
    with open_source(Path("notes.txt")) as opened:
        error = opened.broken("", "one video at a time", "two", "name one")
        assert error.file == str(opened.folder) == "notes.txt"
    with pytest.raises(CaptureError) as refused:
        probe(Path("notes.txt"))
    assert refused.value.file == "notes.txt"


@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil", "C:/evil", "a\\..\\evil"])
def test_names_that_leave_the_archive_are_refused(name: str, tmp_path: Path) -> None:
    """No member is read and nothing is written."""
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"1", name: b"2"})
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(CaptureError, match="relative names") as error, open_source(archive):
        pass
    assert "evil" in error.value.found
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_links_in_archives_are_refused(tmp_path: Path) -> None:
    """A member that is a symbolic link could point anywhere."""
    link = zipfile.ZipInfo("a.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(CaptureError, match="a link"), open_source(tmp_path / "a.zip"):
        pass


@pytest.mark.parametrize("name", ["../secret.txt", "photos/../../secret.txt", "/etc/hostname"])
def test_no_name_leads_out_of_a_folder(name: str, tmp_path: Path) -> None:
    """Whatever a reader takes from metadata and forgets to check."""
    (tmp_path / "capture" / "photos").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("mine")
    with open_source(tmp_path / "capture") as source:
        for read in (source.read, source.digest, lambda name: source.local(name).__enter__()):
            with pytest.raises(CaptureError, match="lie in its folder"):
                read(name)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members and archives beyond the limits are refused by their declared size, before unpacking."""
    archive = zipped(tmp_path / "a.zip", {"a": b"x" * 1000, "b": b"x"})
    monkeypatch.setattr(source_module, "MAX_FILE_BYTES", 999)
    with open_source(archive) as opened, pytest.raises(CaptureError, match="at most"):
        opened.read("a")
    monkeypatch.setattr(source_module, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(CaptureError, match="GiB"), open_source(archive):
        pass


def test_archive_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive that claims to be very large; small files that pack well are fine."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", b"\0" * 200_000)
    with open_source(archive) as opened:
        assert len(opened.read("a")) == 200_000
    monkeypatch.setattr(source_module, "BOMB_BYTES", 100_000)
    with pytest.raises(CaptureError, match="times its size"), open_source(archive):
        pass


def test_a_file_on_disk_of_a_member(tmp_path: Path) -> None:
    """Of a folder the file itself; of an archive a copy that goes away; the digests are equal."""
    folder = tmp_path / "scan"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a.mp4").write_bytes(b"frames")
    archive = zipped(tmp_path / "scan.zip", {"in/a.mp4": b"frames"})
    with open_source(folder) as opened, opened.local("in/a.mp4") as file:
        assert file == folder / "in" / "a.mp4"
        digest = opened.digest("in/a.mp4")
    with open_source(archive) as opened:
        below = opened.below("in")
        with below.local("a.mp4") as file:
            assert (file.name, file.read_bytes()) == ("a.mp4", b"frames")
        assert not file.exists()
        assert below.digest("a.mp4") == digest == hashlib.sha256(b"frames").digest()


def test_damaged_archives_say_so(tmp_path: Path) -> None:
    """A cut archive and a member with wrong content are both refused."""
    archive = zipped(tmp_path / "a.zip", {"a": b"x" * 1000})
    data = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(CaptureError, match="complete"), open_source(tmp_path / "cut.zip"):
        pass
    (tmp_path / "bad.zip").write_bytes(data.replace(b"x" * 1000, b"y" * 1000))
    with open_source(tmp_path / "bad.zip") as opened, pytest.raises(CaptureError, match="CRC"):
        opened.read("a")


def test_missing_and_forbidden_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both name the file; no permission names the command that helps."""
    with pytest.raises(CaptureError, match="nothing there"), open_source(tmp_path / "nothing"):
        pass
    (tmp_path / "a.jpg").write_bytes(b"1")

    def forbidden(self: Path, mode: str) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", forbidden)  # the tests may run as root, whom no mode stops
    with open_source(tmp_path) as opened, pytest.raises(CaptureError, match="Permission denied") as error:
        opened.read("a.jpg")
    assert "chmod" in error.value.remedy
    assert error.value.file == str(tmp_path / "a.jpg")


def test_forbidden_folders_are_not_taken_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inner folder without read permission is an error, not a capture with fewer files."""
    (tmp_path / "images").mkdir()
    real = source_module.os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith("images"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(source_module.os, "scandir", scandir)
    with pytest.raises(CaptureError, match=r"images.*readable"), open_source(tmp_path):
        pass


def test_summary_counts_kinds(tmp_path: Path) -> None:
    """What was found, most frequent first."""
    for name in ("a.mov", "b.MOV", "c.txt", "README"):
        (tmp_path / name).touch()
    with open_source(tmp_path) as opened:
        assert opened.summary() == "2 *.mov, 1 *.txt, 1 files without suffix"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with open_source(tmp_path) as opened:
        assert opened.summary() == "no files"


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    """Reading a pipe waits for ever, /dev/zero never ends; a link to a plain file is one."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "0.jpg").write_bytes(b"1")
    (tmp_path / "inside/1.jpg").symlink_to("../0.jpg")
    with open_source(tmp_path) as source:
        assert source.read("inside/1.jpg") == b"1"
    os.mkfifo(tmp_path / "inside/2.jpg")
    (tmp_path / "3.jpg").symlink_to("/dev/zero")
    for path, found in ((tmp_path / "inside", "a pipe"), (tmp_path / "inside/2.jpg", "a pipe"), (tmp_path, "a device")):
        with pytest.raises(CaptureError, match=found), open_source(path):
            pass


def test_pipes_that_are_not_listed(tmp_path: Path):
    """Hidden files are read by their names only, as those of zarr arrays."""
    (tmp_path / "image.jpg").write_bytes(b"x")
    os.mkfifo(tmp_path / ".zattrs")
    with open_source(tmp_path) as source, pytest.raises(CaptureError, match="a pipe"):
        source.read(".zattrs")


def test_linked_folders_lie_in_the_capture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A link to a folder of the capture is followed once and never round; one that leads out is named instead."""
    capture = tmp_path / "capture"
    (capture / "photos/by_day").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    for file in ("capture/photos/0.jpg", "private/1.jpg"):
        (tmp_path / file).write_bytes(b"1")
    (capture / "images").symlink_to("photos")
    (capture / "again").symlink_to("photos")
    (capture / "photos/by_day/round").symlink_to("../..")
    (capture / "photos/out").symlink_to("../../private")
    (capture / "mine").symlink_to(tmp_path / "private")
    (tmp_path / "here").symlink_to(capture)
    for path in (capture, tmp_path / "here"):
        with open_source(path) as source:
            assert source.names == ("again/0.jpg", "photos/0.jpg")
            assert source.read("again/0.jpg") == b"1"
    assert f"mine is a link out of the capture, to {tmp_path / 'private'}" in caplog.text
    assert "photos/out is a link" in caplog.text


def test_links_to_nowhere_are_no_files(tmp_path: Path) -> None:
    """Nor is one to itself: what they stood for is missing."""
    (tmp_path / "0.bin").symlink_to("nowhere")
    (tmp_path / "1.bin").symlink_to("1.bin")
    (tmp_path / "2.bin").write_bytes(b"2")
    with open_source(tmp_path) as source:
        assert source.names == ("2.bin",)
        (tmp_path / "2.bin").unlink()
        with pytest.raises(CaptureError, match=r"2\.bin"), source.local("2.bin"):
            pass


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """What is set aside for reading goes by the file and not by the largest that is allowed."""
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    with open_source(tmp_path) as source:
        tracemalloc.start()
        assert len(source.read("a.txt")) == 1000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16 * 2**20
