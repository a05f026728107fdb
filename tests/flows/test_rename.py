"""`splatyard bundle rename`: a new bundle of the same files, nothing lost at a kill, nothing replaced."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.io.results import locked
from pipeline.running.records import build_lock
from pipeline.scenes.resolver import write_pin
from tests.paths import ROOT
from tests.publish.variants import PAGE, variant

PAST = ROOT / "tests/data/past_bundles/format_1/room/1.0.0"


@pytest.fixture
def out(tmp_path: Path, room_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a room, in the present folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("SPLATYARD_REGISTRY", "SPLATYARD_BUNDLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    shutil.copytree(room_bundle, tmp_path / "bundles/room/1.0.0")
    return tmp_path / "bundles"


def bundles(out: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(out)) for path in out.glob("[!.]*/[!.]*/bundle.json"))


def test_the_renamed_bundle_is_a_new_one_of_the_same_files(out: Path, capsys: pytest.CaptureFixture[str]):
    """Found by its new name only, checked as any other; large files are not copied, and its page shows the name."""
    old = Bundle.open("room")
    sha256, inode, code = old.files.sha256, old.path("splat.ply").stat().st_ino, main(["bundle", "check", "room"])
    assert main(["bundle", "rename", "room@1.0.0", "kitchen-2"]) == 0
    assert "renamed room@1.0.0 to kitchen-2@1.0.0" in " ".join(capsys.readouterr().out.split())
    assert bundles(out) == ["kitchen-2/1.0.0"]
    new = Bundle.open("kitchen-2@1.0.0")
    assert new.manifest.parents == (*old.manifest.parents, "room@1.0.0")
    assert new.files.sha256 != sha256
    assert new.path("splat.ply").stat().st_ino == inode
    assert "kitchen-2 1.0.0" in new.path(PAGE).read_text() and "room 1.0.0" not in new.path(PAGE).read_text()
    assert {*new.manifest.files} == {*old.manifest.files}
    assert main(["bundle", "check", "kitchen-2"]) == code
    assert new.verify() == []
    assert main(["bundle", "rename", "kitchen-2", "room"]) == 0
    assert Bundle.open("room").manifest.parents == (*old.manifest.parents, "kitchen-2@1.0.0")


def test_one_version_of_several_is_renamed(out: Path, capsys: pytest.CaptureFixture[str]):
    """The newest unless one is named; what was made from it, and what pins it, is said."""
    variant(out / "room/1.0.0", out, "1.0.1", files={PAGE: b"another page"}, parents=("room@1.0.0",))
    assert main(["publish", "room@1.0.0", "--to", "registry:./yard"]) == 0
    write_pin("registry:./yard/room@1.0.0")
    capsys.readouterr()
    assert main(["bundle", "rename", "room@1.0.0", "first"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: room@1.0.1 was made from room@1.0.0" in shown
    assert bundles(out) == ["first/1.0.0", "room/1.0.1"]
    assert main(["bundle", "rename", "room", "second"]) == 0
    assert bundles(out) == ["first/1.0.0", "second/1.0.1"]
    assert Bundle.open("registry:./yard/room@1.0.0").manifest.name == "room"


@pytest.mark.parametrize("name", ["room", "../out", "Kitchen", "a" * 65, "kitchen@2.0.0", ""])
def test_a_name_that_is_taken_or_none_is_refused(name: str, out: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing changes."""
    assert main(["bundle", "rename", "room@1.0.0", name]) == 2
    assert "remedy:" in capsys.readouterr().err
    assert bundles(out) == ["room/1.0.0"]


def test_a_damaged_a_linked_or_an_older_bundle_is_refused(out: Path, capsys: pytest.CaptureFixture[str]):
    """A new manifest would vouch for what the old one doesn't."""
    (out / "room/1.0.0" / PAGE).write_text("another page")
    shutil.copytree(PAST, out / "past/1.0.0")
    (out / "link").mkdir()
    (out / "link/1.0.0").symlink_to(out / "room/1.0.0")
    for name, said in (("room", PAGE), ("past", "format 1.0"), ("link", "no bundle"), ("nothing", "no bundle")):
        assert main(["bundle", "rename", name, "kitchen"]) == 2
        assert said in capsys.readouterr().err
    assert not (out / "kitchen/1.0.0").exists()


@pytest.mark.parametrize("used", ["room", "kitchen"])
def test_what_a_build_uses_stays(used: str, out: Path, capsys: pytest.CaptureFixture[str]):
    """Of the old name or the new one."""
    with locked(build_lock(out / ".work" / used), used):
        assert main(["bundle", "rename", "room", "kitchen"]) == 2
    assert f"process {os.getpid()}" in capsys.readouterr().err
    assert bundles(out) == ["room/1.0.0"]


KILLED = """
import os, shutil, signal, sys, types
from flows.cli import main
from pipeline.running import renaming

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def killed_at_the_end(folder, ignore_errors=False):
    shutil.rmtree(folder, ignore_errors) if ignore_errors else killed()

if sys.argv[1] == "rmtree":
    renaming.shutil = types.SimpleNamespace(rmtree=killed_at_the_end)
else:
    setattr(renaming, sys.argv[1], killed)
main(["bundle", "rename", "room", "kitchen"])
"""


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("link_or_copy", ["room/1.0.0"]),
        ("seal", ["room/1.0.0"]),
        ("partial_folder", ["kitchen/1.0.0", "room/1.0.0"]),
        ("rmtree", ["kitchen/1.0.0"]),
    ],
    ids=["before its files", "before its manifest", "before the old one goes", "while the old one goes"],
)
def test_a_kill_loses_nothing(step: str, left: list[str], out: Path):
    """Whatever step it comes at, each bundle that is left is whole; unless it is done, it can be done again."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED, step], capture_output=True, cwd=out.parent, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert bundles(out) == left
    assert [Bundle.open(out / name).verify() for name in left] == [[]] * len(left)
    assert main(["bundle", "rename", "room", "kitchen"]) == (0 if left == ["room/1.0.0"] else 2)
    assert main(["scene", "gc"]) == 0
    assert [path.name for path in out.glob("*/.*.partial")] == []
