"""Meshes alone: their colours, whatever holds them, become a splat; nothing else is opened."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import Bundle
from pipeline.errors import BundleError
from pipeline.geometry import SH_C0, Mesh
from pipeline.importing import skin as skin_module
from pipeline.importing.bundle import ImportRequest, import_bundle
from pipeline.importing.meshes import read_skin
from pipeline.importing.skin import names_beside
from pipeline.importing.source import find_source, read_source
from pipeline.types import U8
from tests.synthetic import Room

WALL = np.array([[0, 0, 0], [4.0, 0, 0], [4.0, 0, 2.0], [0, 0, 2.0]])
"""Corners of a wall of 4 m x 2 m over the x axis, which two triangles and the whole texture cover."""


def texture() -> U8:
    """A red, a green, a blue and a white quarter; rows from the top."""
    colors = np.array([[[220, 20, 20], [20, 220, 20]], [[20, 20, 220], [235, 235, 235]]], np.uint8)
    return colors.repeat(32, 0).repeat(32, 1)


def write_obj(folder: Path, *, material: str = "wall.mtl", image: str = "wall.png") -> Path:
    """An OBJ with its material and texture beside it."""
    corners = "".join(f"v {x} {y} {z}\n" for x, y, z in WALL)
    rest = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nusemtl wall\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    (folder / "wall.obj").write_text(f"mtllib {material}\n{corners}{rest}")
    (folder / "wall.mtl").write_text(f"newmtl wall\nKd 0.3 0.3 0.3\nmap_Kd {image}\n")
    Image.fromarray(texture()).save(folder / "wall.png")
    return folder / "wall.obj"


def write_glb(folder: Path) -> Path:
    """The same as one GLB, whose up is y."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    held = io.BytesIO()
    Image.fromarray(texture()).save(held, "PNG")
    material = PBRMaterial(baseColorTexture=Image.open(held))
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    visual = TextureVisuals(uv=uv, material=material)
    wall = trimesh.Trimesh(WALL[:, [0, 2, 1]] * [1, 1, -1], [[0, 1, 2], [0, 2, 3]], process=False, visual=visual)
    wall.export(folder / "wall.glb")
    return folder / "wall.glb"


@pytest.mark.parametrize("write", [write_obj, write_glb])
def test_a_texture_is_on_the_wall(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Red up left, green up right, blue down left, white down right; in the mesh's corners as well."""
    monkeypatch.setattr("pipeline.importing.source.BUDGET", 1500)
    source = read_source(write(tmp_path))
    assert (source.form, source.track.shape) == ("mesh", (0, 3))
    assert (source.up is None) == (write is write_obj)  # a GLB's is y by its specification
    splat = source.gaussians
    assert 1000 < len(splat) < 3000
    shown = 0.5 + SH_C0 * splat.sh[:, 0]
    left, up = splat.means[:, 0] < 1.8, splat.means[:, 2] > 1.1
    right, down = splat.means[:, 0] > 2.2, splat.means[:, 2] < 0.9
    for chosen, color in ((left & up, [220, 20, 20]), (right & up, [20, 220, 20]), (left & down, [20, 20, 220])):
        np.testing.assert_allclose(np.median(shown[chosen], 0), np.array(color) / 255, atol=0.02)
    np.testing.assert_allclose(np.median(shown[right & down], 0), 235 / 255, atol=0.02)
    np.testing.assert_allclose(splat.means[:, 1], 0, atol=1e-5)
    corner = source.mesh.colors[np.linalg.norm(source.mesh.vertices - WALL[0], axis=1).argmin()]
    np.testing.assert_allclose(corner, [20, 20, 220], atol=3)
    assert source.skin is not None


def test_changed_textures_are_other_sources(tmp_path: Path):
    """The hash of an OBJ covers its material and its texture."""
    path = write_obj(tmp_path)
    before = find_source(path).sha256()
    assert [file.name for file in find_source(path).files] == ["wall.obj", "wall.mtl", "wall.png"]
    Image.fromarray(texture()[::-1]).save(tmp_path / "wall.png")
    assert find_source(path).sha256() != before


@pytest.mark.parametrize("named", ["../secret.mtl", "/etc/secret.mtl", "sub/secret.mtl", "missing.mtl"])
def test_nothing_elsewhere_is_opened(named: str, tmp_path: Path):
    """A material out of the folder isn't read: what is left has one plain colour or none."""
    folder = tmp_path / "mesh"
    folder.mkdir()
    (tmp_path / "secret.mtl").write_text("newmtl wall\nKd 1 0 0\n")
    path = write_obj(folder, material=named)
    assert names_beside(path) == ()
    assert "secret" not in str(find_source(path).files)


def test_textures_out_of_the_folder_are_not_read(tmp_path: Path):
    """Nor of an odd format: a GIF is refused by name."""
    (tmp_path / "mesh").mkdir()
    path = write_obj(tmp_path / "mesh", image="../wall.png")
    assert names_beside(path) == ("wall.mtl",)
    assert read_skin(path).mesh.colors.std() < 1
    Image.fromarray(texture()).save(tmp_path / "mesh" / "wall.png", "GIF")
    write_text = (tmp_path / "mesh" / "wall.mtl").write_text
    write_text("newmtl wall\nmap_Kd wall.png\n")
    with pytest.raises(BundleError, match="GIF"):
        read_skin(path)


def test_textures_of_a_glb_are_checked(tmp_path: Path):
    """Of odd formats they are refused; so are those that lie elsewhere."""
    path = write_glb(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x89PNG", b"GIF8"))
    with pytest.raises(BundleError, match="GIF"):
        read_skin(path)
    path.write_bytes(content.replace(b'"images":[{"bufferView":2', b'"images":[{"uri":"f:/abc"'))
    with pytest.raises(BundleError, match=r"wall\.glb"):
        read_skin(path)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the mesh as of textures."""
    path = write_obj(tmp_path)
    monkeypatch.setattr(skin_module, "MAX_TEXTURE_BYTES", 10)
    with pytest.raises(BundleError, match="more than 10"):
        read_skin(path)
    monkeypatch.undo()
    monkeypatch.setattr("pipeline.importing.meshes.MAX_TRIANGLES", 1)
    with pytest.raises(BundleError, match="1 are allowed"):
        read_skin(path)


def test_a_colored_room_alone_is_a_bundle(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a splat that lies on it, a small level of detail, and all gates that can be measured passed."""
    monkeypatch.setattr("pipeline.importing.source.BUDGET", 8000)
    mesh = room.mesh
    colors = (40 + 200 * np.abs(np.sin(mesh.vertices * [1.3, 2.1, 3.7]))).astype(np.uint8)
    Mesh(mesh.vertices, mesh.triangles, colors, mesh.guessed).save(tmp_path / "room.ply")
    request = ImportRequest(tmp_path / "room.ply", out=tmp_path / "out", up="z", scale=1.0, scale_sigma=0.01)
    bundle = Bundle.open(import_bundle(request))
    assert bundle.manifest.failed_gates == ()
    assert bundle.quality.gate("registration").detail["source"] == "the splat is made of the mesh"
    assert 6000 < len(bundle.splat()) < 14_000
    assert len(bundle.splat("sim")) > 10_000
    assert bundle.spawn_poses
