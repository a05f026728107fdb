"""Texts of others on the terminal, and words that are nearly an option."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from flows.cli import main
from flows.cli.command import plain
from pipeline import Bundle
from pipeline.gallery.scenes import scenes
from pipeline.publish.pulling import pull
from tests.bundles import make_bundle
from tests.synthetic import Room

HOSTILE = "\x1b]0;taken\x07\x1b[2J\x9b31m\u202egpj.exe\u2066\x08\x00 fine"
OBEYED = "\x1b\x07\x9b\u202e\u2066\x08\x00"


def test_plain_text():
    """What is printable stays; the rest is written out."""
    assert plain("Küche ± 3 m²\n\tfine") == "Küche ± 3 m²\n\tfine"
    assert not set(plain(HOSTILE)) & set(OBEYED)
    assert (
        plain("\x1b[2J") == "\\x1b[2J" and plain("\u202e") == "\\u202e" and plain("a\xa0b\r\udc80") == "a b\\r\\udc80"
    )


def test_commands_print_text_only(room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What a bundle says of itself, what a log says of it, and errors that quote it."""
    folder = make_bundle(tmp_path, room)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["provenance"].update(description=HOSTILE, licence=HOSTILE, source=HOSTILE)
    manifest["provenance"]["stages"][0].update(name=HOSTILE, backend=HOSTILE, reason=HOSTILE)
    manifest["failed_gates"] = [HOSTILE]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert main(["inspect", str(folder)]) == 0
    assert main(["check", str(folder)]) == 1
    assert main(["inspect", str(tmp_path / HOSTILE.replace("\x00", "").replace("/", ""))]) == 2
    logging.getLogger("pipeline.x").warning("read %s", HOSTILE)
    said = capsys.readouterr()
    assert "gpj.exe" in said.out and "gpj.exe" in said.err
    assert not set(said.out + said.err) & set(OBEYED)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["inspct", "x"], "did you mean bundle inspect?"),
        (["build", "x", "--dryrun"], "did you mean --dry-run?"),
        (["pull", "hall", "--onyl=sim"], "did you mean --only?"),
        (["batch", "x", "--runner", "dsk"], "did you mean dask?"),
    ],
)
def test_unknown_words_name_the_nearest(words: list[str], meant: str, capsys: pytest.CaptureFixture[str]):
    """Commands, options and choices."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and meant in capsys.readouterr().err


def test_what_a_killed_pull_left_goes_with_the_next(room: Room, tmp_path: Path):
    """It is no bundle; what another process is bringing over stays."""
    from pipeline.publish.pulling import _lock

    bundle = Bundle.open(make_bundle(tmp_path / "made", room))
    left = [make_bundle(tmp_path / f"k{i}", room).rename(tmp_path / f"left{i}") for i in (0, 1)]
    scene = tmp_path / "out" / "room"
    scene.mkdir(parents=True)
    gone, used = (one.rename(scene / f".1.0.0.{i}.partial") for i, one in enumerate(left))
    in_use = _lock(used)
    assert in_use is not None
    whole = pull(bundle, tmp_path / "out")
    assert whole.is_dir() and not gone.exists() and used.exists()
    assert [str(version) for version in scenes(str(tmp_path / "out"))["room"]] == ["room@1.0.0"]
