"""Removing from work folders: only what the rules say, never what is in use or a bundle's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import BundleError
from pipeline.io.results import lock_file, locked, partial_folder, resume_folder
from pipeline.running.cleaning import Piece, Rules, needed_keys, pieces, remove, unwanted
from pipeline.running.records import build_lock

NOW = 1_000_000.0
NEW, OLD, OLDER = NOW - 100, NOW - 1000, NOW - 2000


def key(letter: str) -> str:
    return letter * 20


def folder(path: Path, size: int, made: float) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"x" * size)
    os.utime(path, (made, made))
    return path


@pytest.fixture
def out(tmp_path) -> Path:
    """Two scenes with results of different age, one kept and one half result, and things that are nobody's business."""
    out = tmp_path / "bundles"
    hall, yard = out / ".work" / "hall", out / ".work" / "yard"
    folder(hall / "mesh" / key("a"), 1000, OLDER)
    folder(hall / "mesh" / key("b"), 2000, NEW)
    folder(yard / "splat" / key("c"), 3000, OLD)
    folder(resume_folder(partial_folder(yard / "splat" / key("d"))), 400, OLD)
    folder(partial_folder(yard / "splat" / key("d")), 50, NEW)
    folder(partial_folder(out / "hall" / "1.1.0"), 60, NEW)
    folder(out / "hall" / "1.0.0", 10**6, OLDER)
    folder(hall / "mesh" / "notes", 10**6, OLDER)
    (hall / "mesh" / key("e")).symlink_to(tmp_path)
    (hall / "build.log").write_text("log")
    return out


def names(chosen: list[Piece]) -> list[str]:
    return [f"{piece.kind} {piece.result.name[:1]}" for piece in chosen]


def chosen(out: Path, rules: Rules) -> list[str]:
    return names(unwanted(pieces(out), rules, out, NOW))


def test_what_is_there(out):
    """All results and leftovers of stages are found, the oldest first, with their sizes; bundles and links are not."""
    found = pieces(out)
    assert sorted(names(found)) == ["partial 1", "partial d", "result a", "result b", "result c", "resume d"]
    assert [piece.made for piece in found] == sorted(piece.made for piece in found)
    assert {piece.result.name[0]: piece.bytes for piece in found if piece.kind == "result"} == {
        "a": 1000,
        "b": 2000,
        "c": 3000,
    }
    assert pieces(out / "nowhere") == []


def test_without_a_rule_only_halves(out):
    """Half results are of no use to anybody."""
    assert sorted(chosen(out, Rules())) == ["partial 1", "partial d"]


def test_by_age(out):
    """What is older goes, and what was kept with it."""
    assert chosen(out, Rules(older_than=500))[:3] == ["result a", "result c", "resume d"]
    assert "result b" not in chosen(out, Rules(older_than=500))


def test_by_size(out):
    """The oldest go until the rest fits, and no more."""
    assert chosen(out, Rules(keep_below=5500))[0] == "result a"
    assert len(chosen(out, Rules(keep_below=5500))) == 1 + 2
    assert len(chosen(out, Rules(keep_below=6400))) == 2
    assert len(chosen(out, Rules(keep_below=0))) == 6


def test_by_reach(out, monkeypatch):
    """What a bundle was made from stays, and rules narrow one another."""
    monkeypatch.setattr("pipeline.running.cleaning.needed_keys", lambda _: {key("a"), key("b")})
    assert [name for name in chosen(out, Rules(unreachable=True)) if "partial" not in name] == ["result c", "resume d"]
    assert "result c" not in chosen(out, Rules(older_than=1500, unreachable=True))
    assert "result a" not in chosen(out, Rules(keep_below=0, unreachable=True))


def test_needed_by_bundles(tmp_path, room):
    """The keys come from the bundles' manifests; with one that can't be read nothing is given up."""
    from tests.bundles import make_bundle

    manifest = make_bundle(tmp_path, room) / "bundle.json"
    assert needed_keys(tmp_path) == {key("0")}
    manifest.write_text("{")
    with pytest.raises(BundleError):
        unwanted([], Rules(unreachable=True), tmp_path, NOW)


def test_remove(out, tmp_path):
    """They go, and nothing else; a second time there is nothing to do."""
    everything = unwanted(pieces(out), Rules(keep_below=0), out, NOW)
    assert len(remove(everything)) == 6
    assert pieces(out) == []
    left = {path.name for path in out.rglob("*") if not path.name.endswith(".lock")}
    assert {"notes", "1.0.0", "build.log", key("e")} < left
    assert tmp_path.is_dir()
    assert not left & {key("a"), f".{key('d')}.resume", f".{key('d')}.partial"}
    assert remove(everything) == []


def test_what_is_built_is_left_alone(out):
    """A scene that is being built is not looked at, and not touched when the build began after the look."""
    before = unwanted(pieces(out), Rules(keep_below=0), out, NOW)
    with locked(build_lock(out / ".work" / "hall"), "hall"):
        assert {piece.scene for piece in pieces(out)} == {"yard"}
        assert {piece.scene for piece in remove(before)} == {"yard"}
    assert (out / ".work" / "hall" / "mesh" / key("a") / "file").exists()


def test_a_stage_that_runs_is_left_alone(out):
    """Also where a stage runs outside a build."""
    before = pieces(out)
    with locked(lock_file(out / ".work" / "yard" / "splat" / key("d")), "d"):
        assert not {"partial d", "resume d"} & set(names(pieces(out)))
        assert not {"partial d", "resume d"} & set(names(remove(before)))
    assert partial_folder(out / ".work" / "yard" / "splat" / key("d")).exists()


def test_a_kill_leaves_no_half_result(out, monkeypatch):
    """A result loses its name before it loses its files."""
    piece = next(piece for piece in pieces(out) if piece.result.name == key("a"))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.running.cleaning.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove([piece])
    assert not piece.result.exists()
    assert replace(piece, kind="partial").folder.exists()
