"""`splatyard registry publish`, `pull`, `list`, `diff`, `yank` and `verify`, as a user calls them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.scenes.store_registry import GRACE
from tests.bundles import make_bundle
from tests.publish.variants import PAGE, variant


@pytest.fixture(scope="module")
def made(tmp_path_factory, room) -> dict[str, Path]:
    """Bundles of one scene, and a failing one of another whose texts are markup and worse."""
    root = tmp_path_factory.mktemp("made")
    first = make_bundle(root, room)
    failing = make_bundle(root / "failing", room, failing=True)
    odd = {"description": "[red]<script>alert(1)</script>\x1b[2J", "licence": "CC-BY-4.0"}
    return {
        "1.0.0": first,
        "1.0.1": variant(first, root, "1.0.1", files={PAGE: b"another page"}),
        "failing": variant(failing, root, "3.0.0", name="kitchen", provenance=odd),
    }


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """An empty working folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    for name in ("SPLATYARD_REGISTRY", "SPLATYARD_BUNDLES"):
        monkeypatch.delenv(name, raising=False)


def said(capsys, *arguments: str, code: int = 0) -> str:
    """What a command prints; it ends with `code`."""
    assert main(list(arguments)) == code
    told = capsys.readouterr()
    return told.out + told.err


def test_from_a_bundle_to_somebody_else(made, capsys, tmp_path):
    """Published to the default registry, listed, compared, pulled with a lock, yanked and verified."""
    assert "room@1.0.0, the first of its scene" in said(capsys, "publish", str(made["1.0.0"]))
    second = said(capsys, "publish", str(made["1.0.1"]))
    assert "room@1.0.1, a patch version" in second
    assert "1 of 12 files, 12 B" in second
    assert " already, with identical files" in said(capsys, "publish", str(made["1.0.1"]))
    listed = said(capsys, "list")
    assert "registry:./yard: 1 scene, 2 versions" in listed
    assert "room@1.0.1" in listed
    assert "room@1.0.0" not in listed
    compared = said(capsys, "diff", "room@1.0.0", "room")
    assert "quality.html" in compared
    assert "at least a patch version" in compared
    assert "scenes.lock room@1 is registry:./yard/room@1.0.1" in said(capsys, "pull", "room@1", "--lock")
    assert Bundle.open(tmp_path / "bundles" / "room" / "1.0.1").verify() == []
    assert json.loads((tmp_path / "scenes.lock").read_text())["scenes"][0]["reference"] == "room@1"
    assert "latest     room@1.0.0" in said(capsys, "yank", "room@1.0.1", "--why", "a [bold]reason[/]")
    assert "yanked: a [bold]reason[/]" in said(capsys, "list", "--all")
    assert "room@1.0.1" not in said(capsys, "list")
    assert "2 versions, every file matches its hash" in said(capsys, "verify", "yard/")


def test_a_long_list_is_cut_and_says_so(made, capsys, monkeypatch):
    """For people; machines get it all."""
    monkeypatch.setattr("flows.cli.registry.MAX_ROWS", 1)
    said(capsys, "publish", str(made["1.0.0"]))
    said(capsys, "publish", str(made["failing"]), "--allow-failed")
    listed = said(capsys, "list")
    assert "2 scenes, 2 versions" in listed and "kitchen@3.0.0" in listed and "room@1.0.0" not in listed
    assert "... and 1 more" in listed
    assert len(json.loads(said(capsys, "list", "--json"))) == 2


def test_a_failing_bundle_is_refused_and_then_red(made, capsys):
    """The exit code is 2, and the registry that was made is empty; what it says of itself shows as text."""
    refused = said(capsys, "publish", str(made["failing"]), code=2)
    assert "kitchen@3.0.0 fails scale" in refused
    assert "no scenes in registry:./yard" in said(capsys, "list")
    assert "FAILED: scale" in said(capsys, "publish", str(made["failing"]), "--allow-failed")
    listed = said(capsys, "list")
    assert "FAILED: scale" in listed
    assert "[red]<script>" in listed
    assert "\x1b[2J" not in listed
    assert "FAILED: scale" in said(capsys, "pull", "kitchen")


def test_lists_for_machines_and_by_pattern(made, capsys):
    """Every version as JSON; a pattern that fits nothing is told."""
    said(capsys, "publish", str(made["1.0.0"]))
    said(capsys, "publish", str(made["failing"]), "--allow-failed")
    entries = json.loads(said(capsys, "list", "--json"))
    assert [(entry["name"], entry["failed_gates"]) for entry in entries] == [("kitchen", ["scale"]), ("room", [])]
    assert [entry["name"] for entry in json.loads(said(capsys, "list", "--json", "--scene", "r*"))] == ["room"]
    assert "no scenes like x*" in said(capsys, "list", "--scene", "x*")


def test_verify_says_what_is_wrong_and_clears_away(made, capsys, tmp_path):
    """It ends with 1; --gc frees what no version uses once it is a day old."""
    said(capsys, "publish", str(made["1.0.0"]))
    left = tmp_path / "yard" / "blobs" / ("0" * 64)
    left.write_bytes(b"x" * 100)
    os.utime(left, (left.stat().st_mtime - 2 * GRACE,) * 2)
    assert "would free 100 B in 1 files" in said(capsys, "verify", "yard", "--gc", "--dry-run")
    assert "freed 100 B" in said(capsys, "verify", "yard", "--gc")
    assert not left.exists()
    blob = max((tmp_path / "yard" / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"another")
    wrong = said(capsys, "verify", "yard", "--gc", code=1)
    assert f"blobs/{blob.name}: 7 bytes instead of" in wrong
    assert "used by room@1.0.0" in wrong


@pytest.mark.parametrize(
    ("command", "teaches"),
    [
        (["list", "nowhere"], "splatyard registry publish hall@1.0.0 --to registry:nowhere"),
        (["pull", "Hall"], "hall@^1.2"),
        (["pull", "registry:./nowhere/hall"], "splatyard registry publish"),
        (["yank", "hall@1.0.0", "--why", "x"], "splatyard registry publish"),
        (["publish", "nothing@1.0.0"], "docs/registry.md"),
        (["list", "hf://owner"], "hf://owner/repository"),
    ],
)
def test_wrong_input_is_answered_by_what_to_do(capsys, command, teaches):
    """With exit code 2 and no traceback."""
    assert teaches in " ".join(said(capsys, *command, code=2).split())
