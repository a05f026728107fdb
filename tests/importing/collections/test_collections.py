"""Collections: each good scene becomes a bundle, each bad one is named, and what is done is not done again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline.errors import BundleError, CardError, MachineError
from pipeline.geometry import Gaussians
from pipeline.importing import bundle as importing
from pipeline.importing.bundle import ImportRequest
from pipeline.importing.collections import run
from pipeline.importing.collections.places import FolderScenes, open_collection, scenes_in
from pipeline.importing.collections.run import import_collection
from pipeline.running.records import Scene
from pipeline.splat.ply import save_splat
from tests.fake_hub import Hub
from tests.fake_import import QUICK_STAGES
from tests.importing.conftest import splat_on
from tests.importing.layouts.test_layouts import write_arkit, write_habitat, write_interior
from tests.synthetic import Room

SAGE = "---\nlicense: other\nlicense_name: interior-terms\ntags: [x]\n---\n# Title\nlicense: mit\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "IMPORT_STAGES", QUICK_STAGES)


@pytest.fixture
def few(room: Room) -> Gaussians:
    """A small splat."""
    return splat_on(room.mesh, 60)


@pytest.fixture
def collection(room: Room, few: Gaussians, tmp_path: Path) -> Path:
    """Scenes of several layouts, a bad one of each kind, and files that are none."""
    root = tmp_path / "scenes"
    write_interior(root / "0001_839920", room, few)
    write_interior(root / "0002_839921", room, few)
    (root / "0002_839921" / "3dgs_compressed.ply").write_bytes(b"ply\nformat")
    write_habitat(root / "train" / "scene01", room, few)
    write_habitat(root / "train" / "scene02", room, few)
    (root / "train" / "scene02" / "scene01.mesh.ply").write_bytes(b"")
    write_arkit(root / "Validation" / "47331606", room, few)
    (root / "loose").mkdir()
    save_splat(few, root / "loose" / "a.ply")
    save_splat(few, root / "loose" / "b.ply")
    (root / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Scenes\n")
    (root / ".cache").mkdir()
    save_splat(few, root / ".cache" / "c.ply")
    return root


NAMES = {
    "0001_839920": "cached",
    "0002_839921": "failed",
    "validation-47331606": "cached",
    "loose-a": "cached",
    "loose-b": "cached",
    "train-scene01": "cached",
    "train-scene02": "failed",
}


def imported(root: Path, out: Path, **options: object) -> dict[str, Scene]:
    """How each scene ended."""
    scenes = open_collection(str(root))
    assert scenes is not None
    return {one.name: one for one in import_collection(scenes, ImportRequest(Path(), out=out, **options))}  # type: ignore[arg-type]


def test_good_ones_are_made_and_bad_ones_named(collection: Path, tmp_path: Path) -> None:
    """With the licence of the collection's card, and what is wrong with the others."""
    ended = imported(collection, tmp_path / "out", scale=1.0)
    assert {name: one.state for name, one in ended.items()} == {
        name: "built" if state == "cached" else state for name, state in NAMES.items()
    }
    about = json.loads((tmp_path / "out" / "train-scene01" / "1.0.0" / "bundle.json").read_text())
    assert (about["licence"], about["source"]) == ("cc-by-nc-4.0", "scenes: train/scene01")
    assert "scene01.mesh.ply" in str(ended["train-scene02"].reason)
    assert "3dgs_compressed.ply" in str(ended["0002_839921"].reason)


def test_a_second_run_makes_what_is_missing(collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without reading what is done; again where files or options changed, or a bundle is gone."""
    out = tmp_path / "out"
    imported(collection, out, scale=1.0)
    planned = list[str]()
    plan = run.plan_import
    monkeypatch.setattr(run, "plan_import", lambda request: planned.append(request.name) or plan(request))
    assert {name: one.state for name, one in imported(collection, out, scale=1.0).items()} == NAMES
    assert planned == ["0002_839921", "train-scene02"]
    planned.clear()
    os.utime(collection / "loose" / "a.ply", ns=(1, 1))
    shutil.rmtree(out / "loose-b" / "1.0.0")
    imported(collection, out, scale=1.0)
    assert set(planned) == {"0002_839921", "train-scene02", "loose-a", "loose-b"}
    assert {one.state for one in imported(collection, out, scale=2.0).values()} == {"built", "failed"}


def test_licences_of_cards() -> None:
    """What a card's front matter states is kept; another can't be asked for."""
    assert run._licence_of(SAGE, None) == "interior-terms"
    assert run._licence_of("---\nlicense: 'mit'\n---\n", "MIT") == "mit"
    assert run._licence_of("# no matter\nlicense: mit\n", "CC0-1.0") == "CC0-1.0"
    assert run._licence_of("", None) is None
    with pytest.raises(CardError, match=r"--licence MIT, but its README\.md says interior-terms"):
        run._licence_of(SAGE, "MIT")


def test_what_is_a_scene() -> None:
    """A folder of a layout, of one splat with a mesh or without, or each file; nothing within another scene."""
    names = ["a/x.spz", "a/m.ply", "b/x.spz", "b/y.spz", "b/m.ply", "c/x.spz", "c/deep/y.spz", "d/m.glb", "d/n.glb"]
    names += ["e/f/dense_mesh.glb", "e/f/transforms.json", "e/f/splatfacto/splat.ply", "x.spz"]
    kinds = {".spz": "splat", ".glb": "mesh", ".ply": "mesh"}
    found = [one.place for one in scenes_in(names, lambda name: kinds.get(Path(name).suffix, ""))]
    assert found == ["x.spz", "a", "b/x.spz", "b/y.spz", "c", "d/m.glb", "d/n.glb", "e/f"]


def test_one_scene_is_no_collection(collection: Path, tmp_path: Path) -> None:
    """Nor is an empty folder."""
    assert open_collection(str(collection / "0001_839920")) is None
    assert open_collection(str(collection / "loose" / "a.ply")) is None
    (tmp_path / "empty").mkdir()
    assert open_collection(str(tmp_path / "empty")) is None


def test_two_of_one_name(few: Gaussians, tmp_path: Path) -> None:
    """The second is named."""
    for folder in ("a-b", "a"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    save_splat(few, tmp_path / "in" / "a-b" / "c.ply")
    save_splat(few, tmp_path / "in" / "a-b" / "d.ply")
    (tmp_path / "in" / "a" / "b").mkdir()
    save_splat(few, tmp_path / "in" / "a" / "b" / "c.ply")
    save_splat(few, tmp_path / "in" / "a" / "b" / "d.ply")
    scenes = FolderScenes(tmp_path / "in")
    ended = import_collection(scenes, ImportRequest(Path(), out=tmp_path / "out"))
    assert [(str(one.card), one.state) for one in ended] == [
        ("a-b/c.ply", "built"),
        ("a-b/d.ply", "built"),
        ("a/b/c.ply", "failed"),
        ("a/b/d.ply", "failed"),
    ]


def test_a_full_disk_stops_it(collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or every scene would fail for it."""

    def full(_: object) -> None:
        raise MachineError("a disk has room", found="none", remedy="make some")

    monkeypatch.setattr(run, "plan_import", full)
    with pytest.raises(MachineError):
        imported(collection, tmp_path / "out")


def test_of_the_hub(hub: Hub, collection: Path, tmp_path: Path) -> None:
    """Scene by scene, also below one folder; a second run asks for the list alone."""
    made = hub.make("owner/rooms")
    files = {path.relative_to(collection).as_posix(): path for path in collection.rglob("*") if path.is_file()}
    kept = {path: hub.keep(file.read_bytes()) for path, file in files.items() if "loose" not in path}
    hub.commit(made, "all", made.head.files | kept)
    out = tmp_path / "out"
    expected = {name: "built" if state == "cached" else state for name, state in NAMES.items() if "loose" not in name}
    ended = {one.name: one for one in import_hub("hf://owner/rooms", out)}
    assert {name: one.state for name, one in ended.items()} == expected
    about = json.loads((out / "train-scene01" / "1.0.0" / "bundle.json").read_text())
    assert about["licence"] == "cc-by-nc-4.0"
    assert about["source"].startswith("hf://owner/rooms at ")
    asked = len(hub.requests)
    (again,) = [one for one in import_hub("hf://datasets/owner/rooms/0001_839920", out) if one.name == "0001_839920"]
    assert again.state == "cached"
    assert not [one for one in hub.requests[asked:] if "resolve" in one and "README" not in one]
    with pytest.raises(BundleError, match="none"):
        open_collection("hf://owner/rooms/nothing")


def import_hub(address: str, out: Path) -> list[Scene]:
    """Import from the hub."""
    scenes = open_collection(address)
    assert scenes is not None
    return import_collection(scenes, ImportRequest(Path(), out=out))


def test_the_command(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tells of each scene, lists the bad ones and says how long a scene takes."""
    words = ["bundle", "import", str(collection), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert "not imported" in printed
    assert "train/scene02" in printed
    assert "s each; there already 0; not imported 2" in printed
    assert main(words) == 1
    assert "imported   0; there already 5; not imported 2" in capsys.readouterr().out
    assert main([*words, "--name", "x"]) == 2


def test_many(few: Gaussians, tmp_path: Path) -> None:
    """One in ten bad."""
    root, rng = tmp_path / "in", np.random.default_rng(0)
    root.mkdir()
    save_splat(few, root / "000.ply")
    content = (root / "000.ply").read_bytes()
    for number in range(1, 60):
        cut = int(rng.integers(400, len(content)))
        (root / f"{number:03d}.ply").write_bytes(content[:cut] if number % 10 == 9 else content)
    ended = imported(root, tmp_path / "out")
    assert sorted(name for name, one in ended.items() if one.state == "failed") == [f"0{n}9" for n in range(6)]
    assert sum(one.state == "built" for one in ended.values()) == 54
