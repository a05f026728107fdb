"""`splatyard bundle delete`: what it lists, what it asks, what is gone, also after a kill."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.io.results import locked
from pipeline.running import cleaning
from pipeline.running.building import build_lock
from pipeline.scenes.resolver import write_pin
from tests.publish.variants import PAGE, variant


@pytest.fixture
def out(tmp_path: Path, room_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two versions of a room, in the present folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("SPLATYARD_REGISTRY", "SPLATYARD_BUNDLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    first = Path(shutil.copytree(room_bundle, tmp_path / "bundles/room/1.0.0"))
    variant(first, tmp_path / "bundles", "1.0.1", files={PAGE: b"another page"}, parents=("room@1.0.0",))
    return tmp_path / "bundles"


def versions(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "room").iterdir() if path.is_dir())


def test_without_a_yes_nothing_goes(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Without a terminal it is an error after the list; on one it asks."""
    assert main(["bundle", "delete", "room"]) == 2
    shown = capsys.readouterr()
    assert "room@1.0.0" in shown.out and "room@1.0.1" in shown.out and "--yes" in shown.err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "")
    assert main(["delete", "room@1.0.1"]) == 0
    assert "nothing was deleted" in capsys.readouterr().out
    assert versions(out) == ["1.0.0", "1.0.1"]
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main(["delete", "room@1.0.1"]) == 0
    assert versions(out) == ["1.0.0"]


def test_one_version_goes_and_the_newest_is_another(out: Path, capsys: pytest.CaptureFixture[str]):
    """A note says what was made from it; without a version all go."""
    assert main(["delete", "room@1.0.0", "--yes"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: room@1.0.1 was made from room@1.0.0" in shown and "deleted 1 bundle" in shown
    assert versions(out) == ["1.0.1"] and Bundle.open("room").manifest.version == "1.0.1"
    assert main(["delete", "room@^1", "--yes"]) == 0
    assert versions(out) == [] and main(["delete", "room", "--yes"]) == 2


def test_what_a_lock_file_pins_is_said(out: Path, capsys: pytest.CaptureFixture[str]):
    """A published version can be downloaded again; the registry is never touched."""
    assert main(["publish", "room@1.0.0", "--to", "registry:./yard"]) == 0
    write_pin("registry:./yard/room@1.0.0")
    before = sorted(path.name for path in Path("yard").rglob("*"))
    assert main(["delete", "room@1.0.0", "--yes"]) == 0
    assert "scenes.lock pins" in capsys.readouterr().out
    assert sorted(path.name for path in Path("yard").rglob("*")) == before
    assert main(["delete", "registry:./yard/room@1.0.0", "--yes"]) == 2
    assert "yank" in capsys.readouterr().err


def test_a_kill_leaves_no_half_bundle(out: Path, monkeypatch: pytest.MonkeyPatch):
    """What is left has no bundle's name, and `gc` removes it."""

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cleaning.shutil, "rmtree", killed)
        assert main(["delete", "room@1.0.1", "--yes"]) == 130
    assert versions(out) == [".1.0.1.partial", "1.0.0"] and Bundle.open("room").manifest.version == "1.0.0"
    assert main(["gc"]) == 0
    assert versions(out) == ["1.0.0"]


def test_what_a_build_uses_stays(out: Path, capsys: pytest.CaptureFixture[str]):
    """With exit code 1; so does a link."""
    with locked(build_lock(out / ".work/room"), "room"):
        assert main(["delete", "room@1.0.1", "--yes"]) == 1
    assert "a build uses it" in capsys.readouterr().out
    assert versions(out) == ["1.0.0", "1.0.1"]
    (out / "room/2.0.0").symlink_to(out / "room/1.0.0")
    assert main(["delete", "room@2.0.0", "--yes"]) == 2
    assert (out / "room/2.0.0").is_symlink()
