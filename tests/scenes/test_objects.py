"""Objects of bundles of others: records, meshes and splats are refused in one line, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from pipeline.errors import BundleError
from pipeline.export.form import export
from pipeline.geometry import Gaussians, Mesh
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import list_files
from pipeline.splat.ply import save_splat
from sim.scene.export.catalog import FORMS
from sim.scene.loose import rigid_body
from tests.bundles import make_bundle
from tests.synthetic import Room

BOX = [[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (0.0, 0.2)]
STANDING = np.eye(4).tolist()
HINGE = {"kind": "hinge", "axis": [0, 0, 1], "point": [0, 0, 0], "range": [-1, 1]}
HINGE |= {"sigma_deg": 1, "sigma": 0.01, "sigma_travel": 0.1}
RECORD = {"name": "box", "kind": "box", "on": "floor", "seen": 0.5, "world_from_body": STANDING}
RECORD |= {"size": [0.2, 0.2, 0.2], "hulls": [BOX], "mass": 1.0, "mass_from": "", "friction": 0.5, "friction_from": ""}
RECORD |= {"antialiasing": "classic", "gaussians": {"full": 8, "sim": 8}}
OWN, BODY, SPLAT = "objects/box/object.json", "objects/box/body.ply", "objects/box/splat.ply"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """A room with a box that is an object."""
    folder = make_bundle(tmp_path_factory.mktemp("good"), room)
    (folder / "objects/box").mkdir(parents=True)
    (folder / OWN).write_text(json.dumps(RECORD))
    corners = np.array(BOX, np.float32)
    faces = [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
    ]
    Mesh.from_arrays(corners, np.array([*faces, [1, 5, 7], [1, 7, 3]], np.int32)).save(folder / BODY)
    upright = np.tile(np.float32([1, 0, 0, 0]), (8, 1))
    shape = np.full((8, 3), -3, np.float32), upright, np.zeros(8, np.float32), np.zeros((8, 4, 3), np.float32)
    for name in ("splat.ply", "sim.ply"):
        save_splat(Gaussians(corners, *shape), folder / "objects/box" / name)
    shutil.copyfile(folder / "splat.ply", folder / "rest.ply")
    shutil.copyfile(folder / "collision.ply", folder / "rest_collision.ply")
    _list(folder)
    return folder


def _list(folder: Path) -> None:
    """Let the manifest say what is there, as somebody would who makes it up."""
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["splats"]["rest"] = manifest["splats"]["full"] | {"file": "rest.ply"}
    files = {name: entry.model_dump() for name, entry in list_files(folder).items() if name != "bundle.json"}
    (folder / "bundle.json").write_text(json.dumps(manifest | {"files": files}))


def _record(**changes: object) -> Spoil:
    return lambda folder: (folder / OWN).write_text(json.dumps(RECORD | changes))


def _instead(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def _swap(name: str, old: bytes, new: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes().replace(old, new, 1))


def _numbers(name: str, column: str, value: float) -> Spoil:
    def spoil(folder: Path) -> None:
        content = PlyData.read(str(folder / name), mmap=False)
        content["vertex"].data[column][:] = value
        content.write(str(folder / name))

    return spoil


def _without(name: str, *elements: str) -> Spoil:
    def spoil(folder: Path) -> None:
        content = PlyData.read(str(folder / name), mmap=False)
        kept = [(one.name, one.data[: 0 if one.name in elements else None]) for one in content.elements]
        parts = [PlyElement.describe(data, known) for known, data in kept]
        PlyData(parts, byte_order="<").write(str(folder / name))

    return spoil


def _renamed(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / OWN).write_text(json.dumps(RECORD | {"name": name}))
        (folder / "objects/box").rename(folder / "objects" / name)

    return spoil


def _use(folder: Path) -> None:
    """All that is read of objects by commands, and of the place without them."""
    bundle = Bundle.open(folder)
    bundle.mesh("rest_collision")
    for one in bundle.objects:
        assert one.mesh().vertices.size
        assert len(one.splat("full")) == len(one.splat("sim"))
        rigid_body(one)


def _many(folder: Path) -> None:
    for number in range(500):
        (folder / f"objects/box-{number}").mkdir()
        (folder / f"objects/box-{number}/object.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_many, "501"),
        (_record(mass=float("nan")), "mass: Input should be a finite number"),
        (_record(mass=-1.0), "mass: Input should be greater than"),
        (_record(mass=1e-300), "mass: Input should be greater than"),
        (_record(mass=1e308), "mass: Input should be less than"),
        (_record(friction=float("inf")), "friction: Input should be a finite number"),
        (_record(size=[1e9, 1, 1]), "size.0: Input should be less than"),
        (_record(size=[0, 1, 1]), "size.0: Input should be greater than 0"),
        (_record(seen=[1]), "seen: Input should be a valid number"),
        (_record(kind="sphere"), "kind: Input should be"),
        (_record(on="x" * 101), "on: String should have at most"),
        (_record(__reduce__="os.system"), "__reduce__: Extra inputs are not permitted"),
        (_record(hulls=[BOX] * 33), "hulls: Tuple should have at most 32 items"),
        (_record(hulls=[[[0, 0, 0]] * 100_000]), "hulls.0: Tuple should have at most 64 items"),
        (_record(hulls=[[[float("nan")] * 3] * 8]), "hulls.0.0.0: Input should be a finite number"),
        (_record(hulls=[[[0, 0]] * 8]), "hulls.0.0.2: Field required"),
        (_record(hulls=[BOX[:3]]), "hulls.0: Tuple should have at least 4 items"),
        (_record(hulls=[]), "hulls: Tuple should have at least 1 item"),
        (_record(hulls="abc"), "hulls: Input should be a valid tuple"),
        (_record(hulls=[[[1e-4 * x for x in corner] for corner in BOX]]), "without volume"),
        (_record(hulls=[[[1, 1, 1]] * 8]), "without volume"),
        (_record(world_from_body=(2 * np.eye(4)).tolist()), "world_from_body: .*0 0 0 1"),
        (_record(world_from_body=np.diag([-1.0, 1, 1, 1]).tolist()), "orthonormal"),
        (_record(world_from_body=STANDING[:3]), "world_from_body.3: Field required"),
        (_record(world_from_body=[*STANDING[:3], [5, 5, 5, 5]]), "world_from_body: .*0 0 0 1"),
        (_record(world_from_body=[[1, 0, 0, 1e5], *STANDING[1:]]), "world_from_body.0.3: Input should be less"),
        (_record(gaussians={"full": 10**12}), "8 Gaussians, and object.json says 1000000000000"),
        (_record(gaussians={}), "8 Gaussians, and object.json says None"),
        (_record(gaussians={str(number): 1 for number in range(9999)}), "gaussians: Dictionary should have at most 2"),
        (_record(joint=HINGE | {"axis": [0, 0, 0]}), "joint.axis: Value error, an axis has length 1"),
        (_record(joint=HINGE | {"range": [1, -1]}), "joint.range"),
        (_record(joint=HINGE | {"sigma": float("inf")}), "joint.sigma: Input should be a finite number"),
        (_record(joint="hinge"), "joint: Input should be a valid dictionary"),
        (_record(name="../../box"), "name: String should match"),
        (_record(name="box\n"), "name: String should match"),
        (_record(name="\x1b[31mbox"), "name: String should match"),
        (_record(name="other"), "object 'other' in the folder 'box'"),
        (_renamed("Box"), "name: String should match"),
        (_renamed("a..b"), "name: String should match"),
        (_renamed("a\n"), "plain and relative"),
        (_renamed("\x1b[31m"), "plain and relative"),
        (_instead(OWN, b"[]"), "object.json"),
        (_instead(OWN, b"["), "JSONDecodeError"),
        (_instead(OWN, b"[" * 100_000), "RecursionError"),
        (_instead(OWN, b"\xff\xfe\0"), "UnicodeDecodeError"),
        (_instead(OWN, b" " * (2**25)), "33554432"),
        (_without(BODY, "face"), "no triangle"),
        (_without(BODY, "face", "vertex"), "no triangle|PLY"),
        (_without(BODY, "vertex"), "outside"),
        (_numbers(BODY, "x", np.nan), "nowhere"),
        (_numbers(BODY, "y", 3e38), "farther than"),
        (_swap(BODY, b"element vertex 8", b"element vertex 99999999"), "promises"),
        (_swap(BODY, b"element face 12", b"element face 99999999"), "promises"),
        (_without("rest_collision.ply", "face"), "no triangle"),
        (_numbers("rest_collision.ply", "z", np.nan), "nowhere"),
        (_instead(BODY, b"\x89PNG"), "head"),
        (_instead(BODY, b""), "head"),
        (_numbers(SPLAT, "x", np.nan), "not"),
        (_numbers(SPLAT, "x", 1e30), "farther than"),
        (_numbers(SPLAT, "scale_0", 1e9), "scale"),
        (_without(SPLAT, "vertex"), "Gaussian"),
        (_swap(SPLAT, b"element vertex 8", b"element vertex 99999999"), "promises"),
        (_instead(SPLAT, b""), "head"),
    ],
)
def test_hostile_objects_are_refused(good: Path, spoil: Spoil, found: str, tmp_path: Path):
    """Wrong types, NaN, sizes of planets, hulls and tables without end, names that are paths or colour a terminal."""
    folder = shutil.copytree(good, tmp_path / "room/1.1.0")
    spoil(folder)
    _list(folder)
    with pytest.raises(BundleError, match=found) as raised:
        _use(folder)
    assert len(raised.value.found.splitlines()) == 1


def _pipe(folder: Path) -> None:
    (folder / BODY).unlink()
    os.mkfifo(folder / BODY)


def _link(folder: Path) -> None:
    (folder / BODY).unlink()
    (folder / BODY).symlink_to("/etc/passwd")


def _linked_folder(folder: Path) -> None:
    (folder / "objects/box").rename(folder / "elsewhere")
    (folder / "objects/box").symlink_to(folder / "elsewhere")


@pytest.mark.usefixtures("small_textures")
@pytest.mark.parametrize(
    ("spoil", "found"),
    [(_pipe, "missing"), (_link, "link"), (_linked_folder, "link"), (lambda of: (of / BODY).unlink(), "missing")],
)
def test_what_is_no_file_of_the_bundle_is_refused(good: Path, spoil: Spoil, found: str, tmp_path: Path):
    """Pipes, links out of it, files and folders that are missing; an export leaves nothing behind."""
    folder = shutil.copytree(good, tmp_path / "room/1.1.0")
    spoil(folder)
    with pytest.raises(BundleError, match=found):
        export(Bundle.open(folder), FORMS["urdf"], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["room"]


@pytest.mark.parametrize("hull", [[[0.1 * x, 0.1 * y, 0] for x in (0, 1) for y in (0, 1)], [[1, 1, 1]] * 8])
def test_pieces_that_are_no_solids_are_not_exported(good: Path, hull: list[list[float]], tmp_path: Path):
    """Also to USD, which asks no physics engine."""
    folder = shutil.copytree(good, tmp_path / "room/1.1.0")
    _record(hulls=[BOX, hull])(folder)
    _list(folder)
    with pytest.raises(BundleError, match="without volume"):
        export(Bundle.open(folder), FORMS["usd"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_usd_writes_alike_are_told_apart(good: Path, tmp_path: Path):
    """Its names have no "-" and no "."."""
    from pxr import Usd

    folder = shutil.copytree(good, tmp_path / "room/1.1.0")
    for name in ("a-1", "a.1", "a_1"):
        shutil.copytree(folder / "objects/box", folder / "objects" / name)
        (folder / "objects" / name / "object.json").write_text(json.dumps(RECORD | {"name": name, "joint": HINGE}))
    shutil.rmtree(folder / "objects/box")
    _list(folder)
    export(Bundle.open(folder), FORMS["usd"], tmp_path / "out")
    stage = Usd.Stage.Open(str(tmp_path / "out/scene.usdc"))
    names = [str(prim.GetName()) for prim in stage.GetDefaultPrim().GetChildren()]
    ends = ("a_1", "a_1_", "a_1__")
    assert [name for name in names if name.startswith("object")] == [f"object_{end}" for end in ends]
    assert [name for name in names if name.startswith("joint")] == [f"joint_{end}" for end in ends]


@pytest.mark.usefixtures("small_textures")
def test_the_good_one_is_taken(good: Path, tmp_path: Path):
    """And exported, under its own name."""
    _use(good)
    export(Bundle.open(good), FORMS["mjcf"], tmp_path / "out")
    assert (tmp_path / "out/object_box.obj").exists()
