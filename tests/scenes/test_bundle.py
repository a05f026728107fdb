"""Opening bundles: good ones, damaged ones, hostile ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flows.cli.bundles import facts
from pipeline import Bundle
from pipeline.earth import Earth
from pipeline.errors import BundleError
from pipeline.export.form import Y_UP, Form, export
from pipeline.scenes.manifest import Location, Manifest, Origin, file_sha256, manifest_text
from pipeline.scenes.migrations import MINOR
from pipeline.scenes.resolver import BUNDLES_VARIABLE
from tests.bundles import make_bundle
from tests.synthetic import walk


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, room) -> Path:
    """A registry with one bundle; copied before anybody breaks it."""
    root = tmp_path_factory.mktemp("registry")
    make_bundle(root, room)
    return root


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A bundle to break."""
    return Path(shutil.copytree(pristine / "room" / "1.0.0", tmp_path / "1.0.0"))


def edit(folder: Path, change) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


def extend(folder: Path, name: str, change) -> None:
    """Change a JSON file of the bundle, and the manifest with it."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    entry = {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
    edit(folder, lambda manifest: manifest["files"].update({name: entry}))


def test_everything_is_reachable(folder, room):
    """Mesh, splat levels, cameras, quality and spawn poses come out as they went in."""
    bundle = Bundle.open(folder)
    np.testing.assert_array_equal(bundle.mesh().triangles, room.mesh.triangles)
    np.testing.assert_array_equal(bundle.mesh("collision").vertices, room.mesh.vertices)
    assert len(bundle.splat()) == len(bundle.splat(lod="sim")) == len(bundle.splat(lod="web")) == 200
    assert [c.held_out for c in bundle.cameras] == [i % 8 == 0 for i in range(9)]
    np.testing.assert_allclose(bundle.cameras[3].world_from_camera.matrix, walk(9)[3].matrix)
    assert bundle.quality.passed
    np.testing.assert_allclose(bundle.spawn_poses[0].translation, [1.7, 0.8, 0])
    np.testing.assert_array_equal(bundle.coverage.trust([[1.7, 0.8, 0]] * 2, [0, np.pi]) > 0.5, [True, False])
    np.testing.assert_allclose(bundle.spawn_poses[0].rotate([1, 0, 0]), [np.cos(0.4), np.sin(0.4), 0])
    assert bundle.verify() == []


@pytest.mark.parametrize(("mode", "antialiased"), [("classic", False), ("mip", True)])
def test_splats_are_drawn_as_the_manifest_says(folder, mode, antialiased):
    """In every level of detail."""
    edit(folder, lambda content: [level.update(antialiasing=mode) for level in content["splats"].values()])
    bundle = Bundle.open(folder)
    assert [bundle.splat(level).antialiased for level in ("full", "sim", "web")] == [antialiased] * 3
    fainter = bundle.classic_splat().opacity_logits < bundle.splat().opacity_logits
    assert not bundle.classic_splat().antialiased
    assert fainter.mean() > 0.9 if antialiased else not fainter.any()


def test_named_by_version_or_newest(pristine, tmp_path, room, monkeypatch):
    """name@version finds that one, name alone the newest by number, not by text."""
    root = Path(shutil.copytree(pristine, tmp_path / "bundles"))
    for version in ("1.9.0", "1.10.0"):
        make_bundle(root, room, version=version)
    monkeypatch.setenv(BUNDLES_VARIABLE, str(root))
    assert Bundle.open("room@1.9.0").manifest.version == "1.9.0"
    assert Bundle.open("room").manifest.version == "1.10.0"
    with pytest.raises(BundleError, match="no bundle"):
        Bundle.open("room@2.0.0")


def test_changed_content_is_found(folder):
    """One flipped byte of the same size fails the hash."""
    data = bytearray((folder / "mesh.ply").read_bytes())
    data[-1] ^= 1
    (folder / "mesh.ply").write_bytes(bytes(data))
    assert Bundle.open(folder).verify() == ["mesh.ply: content differs from its hash"]


def test_missing_grown_linked_and_unlisted_files_are_found(folder, tmp_path):
    """Each kind of damage is named."""
    (folder / "splat.ply").unlink()
    with (folder / "cameras.json").open("a") as file:
        file.write(" ")
    (folder / "extra.txt").write_text("x")
    (tmp_path / "elsewhere.json").write_bytes((folder / "regions.json").read_bytes())
    (folder / "regions.json").unlink()
    (folder / "regions.json").symlink_to(tmp_path / "elsewhere.json")
    bundle = Bundle.open(folder)
    problems = "\n".join(bundle.verify())
    for expected in ("splat.ply: missing", "cameras.json: ", "extra.txt: not listed", "regions.json: is a link"):
        assert expected in problems
    with pytest.raises(BundleError, match="missing"):
        bundle.splat()
    with pytest.raises(BundleError, match="bytes instead of"):
        _ = bundle.cameras
    with pytest.raises(BundleError, match="is a link"):
        _ = bundle.regions


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.ply", "a/../../b", "C:\\x", "a\x00b", ".hidden", ""])
def test_paths_that_leave_the_folder_are_refused(folder, path):
    """A manifest that names unsafe paths isn't opened at all."""
    edit(folder, lambda c: c["files"].update({path: {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="damaged or hostile"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("frame"),
        lambda c: c.update(surprise=1),
        lambda c: c["files"]["mesh.ply"].update(bytes=-1),
        lambda c: c["files"]["mesh.ply"].update(bytes=10**15),
        lambda c: c["frame"].update(gravity=[0, 0, float("nan")]),
        lambda c: c.update(format="other"),
        lambda c: c["frame"].update(up="y"),
    ],
    ids=["missing", "unknown key", "negative size", "huge size", "nan", "other format", "other up"],
)
def test_manifests_that_break_the_format_are_refused(folder, change):
    """Strict reading: nothing unknown, nothing out of bounds."""
    edit(folder, change)
    with pytest.raises(BundleError, match="damaged or hostile"):
        Bundle.open(folder)


def test_newer_format_says_upgrade(folder):
    """A bundle of the future isn't called damaged."""
    edit(folder, lambda c: c.update(format_version=3))
    with pytest.raises(BundleError, match="upgrade splatyard"):
        Bundle.open(folder)


def later(content: dict) -> None:
    """What a later minor version may add: keys, anywhere."""
    content["format_minor"] = MINOR + 1
    content["weather"] = "rain"
    content["provenance"]["stages"][0]["seconds"] = 3.5


def test_keys_of_a_newer_minor_version_are_ignored_with_a_note(folder, caplog):
    """In the manifest and in every other JSON file: the rest of the bundle is read as it is."""
    before = Bundle.open(folder)
    quality = before.quality
    edit(folder, later)
    extend(folder, "quality.json", lambda content: content["gates"][0].update(budget=1))
    extend(folder, "cameras.json", lambda content: content["cameras"][0].update(shutter="rolling"))
    extend(folder, "regions.json", lambda content: content.update(doors=[]))
    with caplog.at_level("INFO"):
        bundle = Bundle.open(folder)
        assert bundle.quality == quality
        assert "gates.0.budget" in caplog.text
    assert "provenance.stages.0.seconds, weather" in caplog.text
    assert bundle.manifest.provenance == before.manifest.provenance
    assert (len(bundle.cameras), len(bundle.spawn_poses)) == (9, 1)
    assert bundle.verify() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(name="UPPER"),
        lambda content: content["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}),
        lambda content: content["frame"].pop("floor_found"),
        lambda content: content.update(format_minor=-1),
        lambda content: content.update(format_minor="2"),
        lambda content: content.update(format_version=True),
    ],
    ids=["name", "unsafe path", "missing key", "negative minor", "text as minor", "truth as major"],
)
def test_a_newer_minor_version_breaks_no_other_rule(folder, change):
    """Whatever it adds, what is known is checked as ever."""
    edit(folder, later)
    edit(folder, change)
    with pytest.raises(BundleError, match="damaged or hostile"):
        Bundle.open(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":' * 5000])
def test_garbage_manifests_are_refused(folder, text):
    """Whatever is in the file, the answer is one clear error."""
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.open(folder)


def test_unknown_level_of_detail_lists_those_there(folder):
    """The error names the levels that exist."""
    with pytest.raises(BundleError, match="full, sim, web"):
        Bundle.open(folder).splat("tiny")


def fit(text: bytes, size: int) -> bytes:
    """Of the size that the manifest gives."""
    return text[:size].ljust(size)


@pytest.mark.parametrize(
    ("file", "part", "content"),
    [
        ("cameras.json", "cameras", b'{"cameras": [{"name": "a"}]}'),
        ("cameras.json", "cameras", b"[[["),
        ("quality.json", "quality", b"{}"),
        ("regions.json", "regions", b'{"origin": [1, 2, 3]}'),
        ("walkable.npz", "regions", b"PK not a zip"),
        ("coverage.npz", "coverage", b""),
    ],
)
def test_files_that_break_the_format_are_refused(folder, file, part, content):
    """Whoever made the bundle: the file is named, and no error of Python's comes through."""
    path = folder / file
    path.write_bytes(fit(content, path.stat().st_size))
    with pytest.raises(BundleError, match=f"{file if part != 'regions' else 'regions.json'} follows the format"):
        getattr(Bundle.open(folder), part)


@pytest.mark.parametrize(
    ("file", "part", "old", "new"),
    [
        ("cameras.json", "cameras", '"distortion": [0.0', '"distortion": [0.1'),
        ("cameras.json", "cameras", '"fx": ', '"fx": 1e-300, "f": '),
        ("cameras.json", "cameras", '"fy": ', '"fy": 1e300, "f": '),
        ("regions.json", "regions", '"floor_height": ', '"floor_height": NaN, "floor": '),
        ("regions.json", "regions", '"yaw": ', '"yaw": NaN, "y": '),
    ],
)
def test_numbers_that_no_scene_has_are_refused(folder, file, part, old, new):
    """Rays of such cameras end nowhere, or never; NaN passes comparisons with the largest of several."""
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    edit(folder, lambda content: content["files"][file].update(bytes=path.stat().st_size))
    with pytest.raises(BundleError, match=f"{file} follows the format"):
        getattr(Bundle.open(folder), part)


@pytest.mark.parametrize("kind", ["full", "collision"])
def test_a_mesh_of_vertices_that_are_not_there_is_refused(folder, kind):
    """With the hash that the manifest says."""
    path = folder / ("mesh.ply" if kind == "full" else "collision.ply")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BundleError, match=r"(?s)triangle names a vertex.*damaged or hostile"):
        Bundle.open(folder).mesh(kind)


def test_grids_of_the_floor_belong_together(folder):
    """One of another size is refused."""
    path = folder / "walkable.npz"
    with np.load(path) as data:
        grids = dict(data)
    grids["drivable"] = grids["drivable"][:-1]
    np.savez(path, **grids)
    edit(folder, lambda content: content["files"]["walkable.npz"].update(bytes=path.stat().st_size))
    with pytest.raises(BundleError, match="one size"):
        Bundle.open(folder).regions  # noqa: B018 - reads the file


def test_no_bundle_there(tmp_path):
    """A folder without bundle.json says what a bundle is."""
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.open(tmp_path)


def test_the_place_is_told_only_where_it_was_asked_for(folder):
    """A manifest without a location has no such key, one with it keeps it, and impossible ones are refused."""
    manifest = Bundle.open(folder).manifest
    assert "location" not in manifest_text(manifest)
    place = Location(latitude_deg=-33.51, longitude_deg=-70.25, altitude_m=None, spread_m=4.5, images=12)
    told = manifest.model_copy(update={"provenance": manifest.provenance.model_copy(update={"location": place})})
    assert Manifest.model_validate_json(manifest_text(told)).provenance.location == place
    (folder / "bundle.json").write_text(manifest_text(told).replace("-33.51", "-133.51"))
    with pytest.raises(BundleError, match="damaged or hostile"):
        Bundle.open(folder)


def test_the_place_on_the_earth_goes_along(folder, tmp_path):
    """In the manifest, and in exports with the north of their own axes; without one there is no such key."""
    manifest = Bundle.open(folder).manifest
    assert '"earth"' not in manifest_text(manifest)
    earth = Earth(latitude_deg=47.25, longitude_deg=8.5, heading_deg=30.0)
    told = manifest.model_copy(update={"frame": manifest.frame.model_copy(update={"earth": earth})})
    (folder / "bundle.json").write_text(manifest_text(told))
    bundle = Bundle.open(folder)
    assert bundle.manifest.frame.earth == earth
    assert ("on the Earth", "47.250000, 8.500000 (WGS 84); x looks 30.0 degrees from north, clockwise") in facts(bundle)
    export(bundle, Form("spz", lambda _, folder: (folder / "scene.spz").touch(), "all", axes=Y_UP), tmp_path / "out")
    told = json.loads((tmp_path / "out" / "origin.json").read_text())["earth"]
    np.testing.assert_allclose(told["north"], [np.cos(np.pi / 6), 0, -0.5], atol=1e-12)
    assert told["latitude_deg"] == 47.25


def test_the_way_back_to_the_source_s_world(folder, tmp_path):
    """A manifest without an origin has no such key; one with it says where the bundle and its exports lie."""
    manifest = Bundle.open(folder).manifest
    assert Bundle.open(folder).source_from_world is None
    assert '"rotation"' not in manifest_text(manifest)
    origin = Origin(scale=2.0, rotation=((0, -1, 0), (1, 0, 0), (0, 0, 1)), translation=(4.5e5, 5.4e6, 480.0))
    told = manifest.model_copy(update={"frame": manifest.frame.model_copy(update={"origin": origin})})
    (folder / "bundle.json").write_text(manifest_text(told))
    bundle = Bundle.open(folder)
    assert bundle.source_from_world is not None
    np.testing.assert_allclose(bundle.source_from_world.apply([1, 2, 3]), [4.5e5 - 4, 5.4e6 + 2, 486])
    export(bundle, Form("spz", lambda _, folder: (folder / "scene.spz").touch(), "all", axes=Y_UP), tmp_path / "out")
    source_from_file = np.array(json.loads((tmp_path / "out" / "origin.json").read_text())["source_from_file"])
    np.testing.assert_allclose(source_from_file @ [1, 3, -2, 1], [4.5e5 - 4, 5.4e6 + 2, 486, 1])
    (folder / "bundle.json").write_text(manifest_text(told).replace("480.0", '"x"'))
    with pytest.raises(BundleError, match="damaged or hostile"):
        Bundle.open(folder)
    sheared = origin.model_copy(update={"rotation": ((1, 1, 0), (0, 1, 0), (0, 0, 1))})
    bundle.manifest = told.model_copy(update={"frame": told.frame.model_copy(update={"origin": sheared})})
    with pytest.raises(BundleError, match="is a similarity"):
        _ = bundle.source_from_world
