"""What no reader may take: one small capture of every format, spoiled in every way that applies to it.

Each must end in a message that names the file, says what must hold, what was found and what to do.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline.capture import stage
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.errors import CaptureError
from tests.capture.conftest import SMALL
from tests.capture.writers.bad_inputs import LEFT_OUT, REFUSED
from tests.capture.writers.every_format import FORMATS
from tests.capture.writers.spoiling import Spoil
from tests.refusals import build_here, check_refusal
from tests.synthetic import Room, walk


@pytest.fixture(scope="module")
def written(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a capture of each format and an archive of it next to it; never changed."""
    folder = tmp_path_factory.mktemp("formats")
    seen = replace(room)
    for name in ("render", "cast"):  # all formats show the same
        object.__setattr__(seen, name, once(getattr(room, name)))
    poses, film = walk(120)[:12], walk(240)[:45]
    for kind, made in FORMATS.items():
        made.write(folder / kind, seen, film if kind in ("video", "generated") else poses, SMALL)
        with zipfile.ZipFile(folder / f"{kind}.zip", "w") as archive:
            for path in sorted((folder / kind).rglob("*")):
                archive.write(path, path.relative_to(folder / kind))
    return folder


def once(function: Callable[..., tuple[np.ndarray, ...]]) -> Callable[..., tuple[np.ndarray, ...]]:
    """The same function, which computes only what it has not computed before."""
    kept = cache(function)
    return lambda *args, **named: tuple(part.copy() for part in kept(*args, **named))


def read(source: Path, out: Path) -> Capture:
    """As the capture stage does."""
    stage.run({"source": source}, CaptureParams(), out)
    return Capture.load(out)


@pytest.mark.parametrize(("case", "kind"), [(case, kind) for case, kinds in REFUSED.items() for kind in kinds])
def test_bad_input_ends_in_a_message(case: str, kind: str, written: Path, tmp_path: Path) -> None:
    """It names the file, and has all of: what must hold, what was found, what to do."""
    spoil, file, words = REFUSED[case][kind]
    folder = Path(shutil.copytree(written / kind, tmp_path / "source"))
    spoil(folder)
    with pytest.raises(CaptureError) as error:
        read(folder, tmp_path / "out")
    refused = error.value
    assert file in f"{refused.file} {refused.found}"
    assert words in str(refused)
    assert min(len(refused.rule), len(refused.found), len(refused.remedy)) > 3


@pytest.mark.parametrize("kind", FORMATS)
def test_the_command_says_no_more(
    kind: str, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One case of each reader, as `splatyard build` shows it."""
    spoil, file, words = next(kinds[kind] for kinds in REFUSED.values() if kind in kinds)
    folder = Path(shutil.copytree(written / kind, tmp_path / "source"))
    spoil(folder)
    build_here(monkeypatch)
    code = main(["build", str(folder), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().err
    check_refusal(code, shown)
    assert file in shown
    assert words in shown


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_is_left_out_is_said(kind: str, written: Path, tmp_path: Path) -> None:
    """A damaged image or missing depth: the others are read, and the capture names it with the reason."""
    spoil, words = LEFT_OUT[kind]
    folder = Path(shutil.copytree(written / kind, tmp_path / "source"))
    spoil(folder)
    capture = read(folder, tmp_path / "out")
    assert 9 <= len(capture.frames) < 12
    assert words in "\n".join([*capture.notes, *(f"{left.file}: {left.reason}" for left in capture.skipped)])


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_captures_are_read_from_an_archive(kind: str, written: Path, tmp_path: Path) -> None:
    """The same captures unspoiled; an archive can't be read around the guards of `CaptureSource`."""
    assert read(written / f"{kind}.zip", tmp_path / "out").kind == kind


def outside(archive: Path) -> None:
    """A member that would be unpacked elsewhere."""
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("../../outside.jpg", b"1")


def linked(archive: Path) -> None:
    """A member that is a link."""
    link = zipfile.ZipInfo("shadow.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(link, "/etc/shadow")


def encrypted(archive: Path) -> None:
    """All members' headers say that they are."""
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        places = [info.header_offset + 6 for info in packed.infolist()]
        at = packed.start_dir
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        places.append(at + 8)
        at += 46
    for place in places:
        data[place] |= 1
    archive.write_bytes(data)


def cut_off(archive: Path) -> None:
    """Half of a download."""
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


ARCHIVES: dict[Spoil, str] = {
    outside: r"the name '\.\./\.\./outside\.jpg'",
    linked: "a link 'shadow.jpg'",
    encrypted: "without a password",
    cut_off: "must be complete",
}


@pytest.mark.parametrize("spoil", ARCHIVES)
@pytest.mark.parametrize("kind", FORMATS)
def test_bad_archives_are_refused(spoil: Spoil, kind: str, written: Path, tmp_path: Path) -> None:
    """Whatever else lies in them."""
    archive = Path(shutil.copy(written / f"{kind}.zip", tmp_path))
    spoil(archive)
    with pytest.raises(CaptureError, match=ARCHIVES[spoil]) as error:
        read(archive, tmp_path / "out")
    assert str(archive) in str(error.value.file)


def test_every_format_is_spoiled() -> None:
    """A new reader needs its cases."""
    assert {kind for kinds in REFUSED.values() for kind in kinds} == set(FORMATS)
