"""Objects cut out of a bundle: the new version, as written by the command and read by everybody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.errors import BundleError
from pipeline.geometry import Mesh, Similarity, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster
from pipeline.objects import cutting, version
from pipeline.objects.closing import close_objects
from pipeline.objects.listing import SceneObject, objects_of
from pipeline.objects.version import chosen_objects, cut_out, loosen
from pipeline.raster import render_batch
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import file_sha256
from tests.bundles import make_bundle
from tests.objects.furniture import BOXES, COLORS, before_the_cut, furnished_bundle
from tests.synthetic import Room


@pytest.fixture(scope="module")
def cut(cut_room: Path) -> Bundle:
    """All that could be moved, as by the command."""
    return Bundle.open(cut_room)


@pytest.fixture(scope="module")
def whole(cut_room: Path) -> Bundle:
    """The room before anything was cut."""
    return Bundle.open(before_the_cut(cut_room))


@pytest.fixture(scope="module")
def objects(whole: Bundle) -> list[SceneObject]:
    """What stands in it."""
    return objects_of(whole)


def at(box: str) -> np.ndarray:
    """Middle of a box."""
    foot, size, _ = BOXES[box]
    return np.array(foot) + np.array([0, 0, size[2] / 2])


def named(cut: Bundle, box: str) -> str:
    """Name of the object where a box stands."""
    distances = {
        one.record.name: np.linalg.norm(one.world_from_body.translation - BOXES[box][0]) for one in cut.objects
    }
    return min(distances, key=lambda name: distances[name])


def test_the_version_holds_everything(whole: Bundle, cut: Bundle):
    """All files of the parent, unchanged but for the quality and its page; its gates and three more; no wrong link."""
    manifest = cut.manifest
    assert cut.verify() == []
    assert manifest.parents == ("room@1.0.0",)
    same = set(whole.manifest.files) - {"quality.json", "quality.html"}
    assert "<h1>room 1.1.0</h1>" in cut.path("quality.html").read_text()
    assert all(manifest.files[name] == whole.manifest.files[name] for name in same)
    assert whole.verify() == [], "the parent is untouched"
    assert [gate.name for gate in cut.quality.gates][-3:] == ["objects_put_back", "objects_move", "objects_tilt"]
    assert len(cut.objects) == len(BOXES)
    assert manifest.splats["rest"].gaussians == len(cut.splat("rest"))


def test_gates_hold(cut: Bundle):
    """Put back it looks as before, and nothing moves."""
    assert cut.quality.gate("objects_put_back").passed
    assert cut.quality.gate("objects_move").passed
    assert cut.quality.gate("objects_tilt").passed


@pytest.mark.parametrize("box", BOXES)
def test_objects_are_where_and_what_they_were(cut: Bundle, box: str):
    """Pose, size, hull, mass, splat in its own frame, of its own colour."""
    one = next(one for one in cut.objects if one.record.name == named(cut, box))
    foot, size, _ = BOXES[box]
    np.testing.assert_allclose(one.world_from_body.translation, foot, atol=0.02)
    assert len(one.record.hulls) == 1
    assert one.record.mass == pytest.approx(version.DENSITY * np.prod(size), rel=0.35)
    corners = np.array(one.record.hulls[0])
    np.testing.assert_allclose(corners.min(0)[2], 0, atol=1e-3)
    np.testing.assert_allclose(np.ptp(corners, axis=0), one.record.size, atol=1e-3)
    for level in ("full", "sim"):
        own = one.splat(level)
        assert (np.abs(own.means[:, :2]) < np.array(one.record.size[:2]) / 2 + 0.04).all()
        color = np.median(0.5 + 0.2820948 * own.sh[:, 0], axis=0)
        np.testing.assert_allclose(color, COLORS[box], atol=0.05)
    assert one.mesh().vertices[:, 2].min() == pytest.approx(0, abs=1e-3)


def test_the_rest_is_empty_and_whole(cut: Bundle):
    """No colour of a box is left, and the ground goes through below them, in the mesh and in images."""
    rest, ground = cut.splat("rest"), RayCaster(cut.mesh("rest_collision"))
    color = 0.5 + 0.2820948 * rest.sh[:, 0]
    for box, (foot, size, _) in BOXES.items():
        near = np.linalg.norm(rest.means - at(box), axis=1) < 0.5 * min(size)
        assert not (np.abs(color[near] - COLORS[box]).max(1) < 0.05).any()
        above = np.array([[foot[0], foot[1], 2.0]])
        height = 2.0 - ground.cast(above, np.array([0, 0, -1.0])).distance[0]
        support = 0.0 if "crate" in box else 0.7
        assert height == pytest.approx(support, abs=0.02), box
    view = cut.cameras[3]
    image = render_batch(rest, view.camera, [view.world_from_camera])
    assert (image.alpha > 0.5).mean() > 0.99


def test_what_closes_an_object_goes_with_it_and_is_never_taken_for_measured(tmp_path: Path, room_mesh: Mesh):
    """Nobody saw two sides of the crate and one of a parcel: found and cut as if nothing closed them."""
    gone = np.zeros(len(room_mesh.triangles), bool)
    for box, sides in (("crate", ((0, 1), (1, 1))), ("parcel on the table", ((0, -1),))):
        middles, (foot, size, yaw) = room_mesh.corners().mean(1), BOXES[box]
        turn = matrix_from_rotvec([0, 0, yaw])
        local, normals = (middles - np.array(foot)) @ turn, room_mesh.face_normals() @ turn
        near = (np.abs(local[:, :2]) < np.array(size[:2]) / 2 + 0.02).all(1) & (np.abs(local[:, 2] - 0.12) < 0.3)
        for axis, sign in sides:
            gone |= near & (sign * normals[:, axis] > 0.9)
    mesh = room_mesh.with_faces(~gone)
    _, closing, _ = close_objects(mesh, (), (), 0.08)
    assert len(closing.triangles) > 500
    few = (2_000, 500)  # it's about the meshes
    closed = Bundle.open(furnished_bundle(tmp_path / "closed", Room.make(), mesh, closing=closing, gaussians=few))
    assert len(closed.mesh().triangles) == len(mesh.triangles) + len(closing.triangles)
    crate = chosen_objects(objects_of(closed), near=[tuple(at("crate"))])
    assert [len(one.standing.triangles) for one in crate] == 2 * [len(mesh.triangles)]
    assert crate[0].seen < 0.75
    rest = Bundle.open(cut_out(closed, crate, tmp_path / "cut")).mesh("rest_collision")
    foot, size, _ = BOXES["crate"]
    low, high = np.array(foot) - [0.12, 0.12, -0.02], np.array(foot) + np.array([0.12, 0.12, size[2] + 0.2])
    corners = rest.corners()
    assert not ((corners > low) & (corners < high)).all(2).any()
    others = np.linalg.norm(closing.corners().mean(1)[:, :2] - np.array(foot[:2]), axis=1) > 0.5
    kept = RayCaster(rest).distances(closing.corners()[others].mean(1).astype(np.float64))
    assert others.sum() > 50
    assert kept.max() < 1e-5, "what closes the parcel on the table stays"


def test_objects_put_back_are_the_scene(whole: Bundle, cut: Bundle):
    """In the world frame, together with the rest: as many Gaussians of each box as before, or more."""
    crate = next(one for one in cut.objects if one.record.name == named(cut, "crate"))
    back = crate.splat().transformed(Similarity.from_pose(crate.world_from_body))
    before = whole.splat().means
    distance = np.linalg.norm(before[None, ::50] - back.means[:, None], axis=2)
    assert len(back) > 500
    assert distance.min(0).min() < 1e-4, "the same places"


def test_the_same_cut_is_the_same_version(whole: Bundle, cut: Bundle, objects: list[SceneObject]):
    """And another one the next."""
    chosen = chosen_objects(objects, all_movable=True)
    before = file_sha256(cut.root / "bundle.json")
    assert cut_out(whole, chosen, cut.root.parent.parent) == cut.root
    assert file_sha256(cut.root / "bundle.json") == before


def test_a_cut_is_found_again_below_another_ones_version(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch):
    """The next minor version has other objects: it is not what was asked for. Nothing is really cut here."""

    def cut(bundle: Bundle, objects: Sequence[SceneObject], behind: object) -> tuple[Any, None]:
        return SimpleNamespace(objects=objects), None

    def write(bundle: Bundle, solid: Any, shown: None, folder: Path, **changes: Any) -> None:
        manifest = {"provenance": {"build_key": changes["provenance"].build_key}}
        (folder / "bundle.json").write_text(json.dumps(manifest))

    monkeypatch.setattr(version, "cut_together", cut)
    monkeypatch.setattr(version, "_write", write)
    whole = Bundle.open(make_bundle(tmp_path / "whole", room))
    one, other = ([cast(SceneObject, SimpleNamespace(name=name))] for name in ("table", "chair"))
    first, second = cut_out(whole, one, tmp_path, "1.0.5"), cut_out(whole, other, tmp_path)
    assert (first.name, second.name) == ("1.0.5", "1.1.0")
    assert cut_out(whole, one, tmp_path) == first
    assert cut_out(whole, other, tmp_path) == second


def test_what_stands_on_it_comes_along(whole: Bundle, objects: list[SceneObject], tmp_path: Path):
    """By a click on the crate's side."""
    foot, size, _ = BOXES["crate"]
    chosen = chosen_objects(objects, near=[(foot[0], foot[1] - size[1] / 2 - 0.03, 0.2)])
    assert len(chosen) == 2
    assert {one.on for one in chosen} == {"floor", chosen[0].name}


def test_what_is_proposed_and_unfit_stays(
    whole: Bundle, objects: list[SceneObject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What would look otherwise stays in place where nobody asked for it by name."""
    chosen = [one for one in chosen_objects(objects, all_movable=True) if one.on != "floor"][:1]
    monkeypatch.setattr(cutting, "DIFFERENCE", 0.0)
    with pytest.raises(BundleError, match=r"looks as before[\s\S]*none of \S+ would"):
        cut_out(whole, chosen, tmp_path, proposed=True)
    asked = Bundle.open(cut_out(whole, chosen, tmp_path))
    assert len(asked.objects) == len(chosen)
    assert not asked.quality.gate("objects_put_back").passed


def test_the_worst_stay_first(monkeypatch: pytest.MonkeyPatch):
    """What moves by itself at once, of what looks otherwise only the worst: others may stand in its images."""
    off = {"a": 1.5, "b": 0.5, "c": 2.5, "d": 0.5}
    asked = list[str]()

    def solid(bundle: object, mesh: object, objects: Sequence[Any], *_: object) -> Any:
        asked.append("".join(one.name for one in objects))
        moved = [0.01 * (one.name == "d") for one in objects]
        return SimpleNamespace(objects=objects, moved=moved, turned=[0.0] * len(objects))

    def shown(bundle: object, mesh: object, solid: Any, *_: object) -> Any:
        alone = len(solid.objects) == 2  # the others stood in the images of "a"
        found = {one.name: {"image": off[one.name] - alone} for one in solid.objects}
        return SimpleNamespace(put_back=found)

    monkeypatch.setattr(cutting, "_solid", solid)
    monkeypatch.setattr(cutting, "_shown", shown)
    monkeypatch.setattr(cutting, "views_of", lambda *_: None)
    bundle = cast(Bundle, SimpleNamespace(mesh=lambda _: None))
    objects = [cast(SceneObject, SimpleNamespace(name=name, on="floor")) for name in off]
    cut, _ = cutting.cut_together(bundle, objects, proposed=True)
    assert asked == ["abcd", "abc", "ab"]
    assert [one.name for one in cut.objects] == ["a", "b"]


def test_nothing_is_left_without_what_it_stands_on(objects: list[SceneObject]):
    """The crate stays where the parcel on it must; the parcel may be cut out where the crate stays."""
    chosen = chosen_objects(objects, all_movable=True)
    parcel = next(one for one in chosen if one.on in {other.name for other in chosen})
    left = {one.name for one in cutting._without(chosen, [parcel.name])}
    assert left == {one.name for one in chosen} - {parcel.name, parcel.on}
    assert parcel in cutting._without(chosen, [parcel.on])


def test_a_card_has_them_cut_out_of_the_bundle_itself(whole: Bundle, tmp_path: Path):
    """By a point on the mug: in the same version, with its parents, the rest of it as it was."""
    folder = tmp_path / "1.0.0"
    shutil.copytree(whole.root, folder)
    foot, size, _ = BOXES["mug on the table"]
    loosen(folder, [(foot[0], foot[1], foot[2] + size[2] / 2)])
    made = Bundle.open(folder)
    assert made.verify() == []
    assert (made.manifest.reference, made.manifest.parents) == ("room@1.0.0", ())
    assert [one.record.on for one in made.objects] == [made.objects[0].record.on]
    np.testing.assert_allclose(made.objects[0].world_from_body.translation[:2], foot[:2], atol=0.03)
    assert made.quality.gate("objects_put_back").applies
    assert set(made.manifest.files) > set(whole.manifest.files)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ({"names": ["sofa"]}, "an object has a name from the list"),
        ({"near": [(3.0, 0.3, 1.5)]}, "a point lies on an object"),
    ],
)
def test_nothing_there_is_said(objects: list[SceneObject], ask: dict[str, object], words: str):
    """A name that isn't there, a click on nothing."""
    with pytest.raises(BundleError, match=words):
        chosen_objects(objects, **ask)  # type: ignore[arg-type]


def test_part_of_the_building_is_said(objects: list[SceneObject]):
    """The table is longer than a metre."""
    table = next(one for one in objects if one.fixed)
    with pytest.raises(BundleError, match="could be moved"):
        chosen_objects(objects, [table.name])


def test_a_cut_bundle_is_not_cut_again(cut: Bundle, objects: list[SceneObject], tmp_path: Path):
    """All are cut at once."""
    with pytest.raises(BundleError, match=r"room@1\.0\.0"):
        cut_out(cut, chosen_objects(objects, all_movable=True), tmp_path)


def test_a_kill_leaves_nothing(
    whole: Bundle, objects: list[SceneObject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While the last file is written."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(version, "seal", killed)
    with pytest.raises(KeyboardInterrupt):
        cut_out(whole, chosen_objects(objects, all_movable=True)[:1], tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_nothing_is_written_into_the_parent(whole: Bundle, objects: list[SceneObject], tmp_path: Path):
    """Although it has files of the names that a cut writes, and shares the others."""
    folder = tmp_path / "room" / "1.0.0"
    shutil.copytree(whole.root, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    for name in ("rest.ply", "objects.html"):
        (folder / name).write_text("mine")
        manifest["files"][name] = {"bytes": 4, "sha256": file_sha256(folder / name)}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    parent = Bundle.open(folder)
    made = Bundle.open(cut_out(parent, chosen_objects(objects, all_movable=True)[:1], tmp_path))
    assert parent.verify() == []
    assert made.verify() == []
    assert (made.root / "mesh.ply").samefile(parent.root / "mesh.ply")
