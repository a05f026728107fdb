"""Meshes with their colours: of vertices, of materials, and of textures in the file or beside it."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry import Mesh
from pipeline.geometry.surfels import ColorsAt, vertex_colors
from pipeline.io.files import read_plain
from pipeline.io.image_files import open_image
from pipeline.types import F64, I64, U8

MAX_MTL_BYTES, MAX_TEXTURE_BYTES = 2**20, 256 * 2**20
MAX_TEXTURES = 256
MAX_SIDE = 4096
"""Longest side that a texture is reduced to [px]."""
GAMMA = 2.2
"""Materials of glTF are linear."""
FORMATS = ("JPEG", "PNG", "WEBP")
GREY = np.full(3, 180 / 255)
PLAIN_NAME = re.compile(r"[\w][\w .()-]{0,199}")
"""Names of files beside a mesh that are opened: in its folder, and nowhere else."""


@dataclass(frozen=True, eq=False)
class Skin:
    """A mesh and what colours it has; `colored` says whether it has any."""

    mesh: Mesh
    colors_at: ColorsAt
    colored: bool

    @staticmethod
    def of_vertices(mesh: Mesh, *, colored: bool) -> Skin:
        """In the colours of its vertices."""
        return Skin(mesh, vertex_colors(mesh), colored)


@dataclass(frozen=True, eq=False)
class _Part:
    """One placed geometry: vertices (V, 3), triangles (F, 3), colours (F, 3, 3) and texture coordinates (F, 3, 2)."""

    vertices: F64
    triangles: I64
    colors: F64
    uv: F64
    texture: U8 | None
    colored: bool


def load_skin(path: Path, largest: int) -> Skin:
    """A GLB or an OBJ with the materials and textures in it or beside it, of at most so many triangles.

    Raises:
        ValueError: When it shows more triangles, or its textures can't be used; others, as of trimesh's parsers.
        BadImageError: When a texture is damaged, too large or of an odd format.
    """
    import trimesh

    content, kind = path.read_bytes(), path.suffix[1:].lower()
    beside = {name: _checked_file(path.parent / name) for name in names_beside(path)} if kind == "obj" else {}
    if kind == "glb":
        _check_textures(content)
    loaded = trimesh.load_scene(io.BytesIO(content), file_type=kind, resolver=_only(beside), process=False)
    placed = [loaded.graph[node] for node in loaded.graph.nodes_geometry]
    meshes = [(loaded.geometry[name], turn) for turn, name in placed if hasattr(loaded.geometry[name], "faces")]
    shown = sum(len(geometry.faces) for geometry, _ in meshes)
    if shown > largest:  # a small file can place one mesh many times
        raise ValueError(f"{shown} triangles, {largest} are allowed")
    textures: dict[int, U8] = {}
    return _merged([_part(geometry, np.asarray(turn, np.float64), textures) for geometry, turn in meshes])


def names_beside(path: Path) -> tuple[str, ...]:
    """The plain names of an OBJ's material files and of their textures, as far as they lie beside it."""
    found: dict[str, None] = {}
    for name in _named(path, rb"^\s*mtllib\s+(.+?)\s*$"):
        found[name] = None
        found |= dict.fromkeys(_named(path.parent / name, rb"^\s*map_Kd\s+(?:-\w+\s+[\d.]+\s+)*(.+?)\s*$"))
    return tuple(found)[:MAX_TEXTURES]


def _named(path: Path, pattern: bytes) -> Iterator[str]:
    for line in re.findall(pattern, path.read_bytes(), re.MULTILINE):
        name = line.decode("utf-8", "replace").removeprefix("./")
        if PLAIN_NAME.fullmatch(name) and (path.parent / name).is_file():
            yield name


def _checked_file(path: Path) -> bytes:
    """The content of a material file, or of a texture of a known format and bounded size."""
    if path.suffix.lower() == ".mtl":
        return read_plain(path, MAX_MTL_BYTES)
    content = read_plain(path, MAX_TEXTURE_BYTES)
    with open_image(content, FORMATS):
        return content


def _check_textures(content: bytes) -> None:
    """Check that all images of a GLB lie in it, are of known formats and of bounded size."""
    (length,) = struct.unpack_from("<I", content, 12)
    header = json.loads(content[20 : 20 + length])
    begin = 20 + length + 8
    images, views = header.get("images", ()), header.get("bufferViews", ())
    if len(images) > MAX_TEXTURES or any("uri" in image for image in images):
        raise ValueError(f"its {len(images)} textures lie elsewhere or are too many: export it with all inside")
    for image in images:
        view = views[int(image["bufferView"])]
        start = begin + int(view.get("byteOffset", 0))
        with open_image(content[start : start + int(view["byteLength"])], FORMATS):
            pass


def _only(files: Mapping[str, bytes]) -> Any:
    """A resolver for trimesh that knows these files and no others."""
    from trimesh.resolvers import Resolver

    class Known(Resolver):
        def __init__(self) -> None:
            pass

        def get(self, key: str) -> bytes:
            return files[key.strip().removeprefix("./")]

        def write(self, name: str, data: bytes) -> None:
            raise NotImplementedError

        def namespaced(self, namespace: str) -> Resolver:
            raise NotImplementedError

        def keys(self) -> list[str]:
            return list(files)

    return Known()


def _part(geometry: Any, turn: F64, textures: dict[int, U8]) -> _Part:
    """A trimesh geometry placed by a matrix (4, 4), its textures decoded once."""
    vertices = np.asarray(geometry.vertices, np.float64) @ turn[:3, :3].T + turn[:3, 3]
    triangles = np.asarray(geometry.faces, np.int64)
    if np.linalg.det(turn[:3, :3]) < 0:  # mirrored: what faced out faces in
        triangles = triangles[:, ::-1]
    visual, count = geometry.visual, len(triangles)
    colors, uv, texture, colored = np.tile(GREY, (count, 3, 1)), np.zeros((count, 3, 2)), None, False
    if visual.kind in ("vertex", "face"):
        colors, colored = np.asarray(visual.vertex_colors)[:, :3][triangles] / 255.0, True
    elif visual.kind == "texture":
        factor, image = _material(visual.material)
        colors, colored = np.tile(factor, (count, 3, 1)), True
        if image is not None and visual.uv is not None:
            if id(image) not in textures:
                image.thumbnail((MAX_SIDE, MAX_SIDE))
                textures[id(image)] = np.asarray(image.convert("RGB"))
            uv, texture = np.asarray(visual.uv, np.float64)[triangles], textures[id(image)]
    return _Part(vertices, triangles, colors, uv, texture, colored)


def _material(material: Any) -> tuple[F64, Any]:
    """Colour (3,) sRGB 0..1 by which a material multiplies its image, and the image or None."""
    if hasattr(material, "baseColorFactor"):
        factor, image = material.baseColorFactor, material.baseColorTexture
        linear = np.ones(3) if factor is None else np.asarray(factor)[:3] / 255.0
        return np.clip(linear, 0, 1) ** (1 / GAMMA), image
    image = getattr(material, "image", None)
    if image is not None:  # many programs leave the diffuse colour of such at whatever it was
        return np.ones(3), image
    return np.asarray(material.main_color)[:3] / 255.0, None


def _merged(parts: list[_Part]) -> Skin:
    """One mesh of all parts, whose vertices have the colours of its corners."""
    if not parts:
        raise ValueError("no triangle")
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    triangles = np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=False)])
    corner, uv = np.concatenate([part.colors for part in parts]), np.concatenate([part.uv for part in parts])
    kinds = list({id(part.texture): part.texture for part in parts if part.texture is not None}.values())
    number = {id(texture): index for index, texture in enumerate(kinds)}
    which = np.concatenate([np.full(len(part.triangles), number.get(id(part.texture), -1)) for part in parts])
    colors_at = _look_up(corner, uv, which, kinds)
    grey = Mesh.from_arrays(np.concatenate([part.vertices for part in parts]), triangles)
    rgb = grey.colors.copy()
    for place in range(3):
        weights = np.broadcast_to(np.eye(3)[place], (len(triangles), 3))
        shown = colors_at(np.arange(len(triangles)), weights)
        rgb[triangles[:, place]] = (255 * np.clip(shown, 0, 1)).round().astype(np.uint8)
    mesh = Mesh(grey.vertices, grey.triangles, rgb, grey.guessed)
    return Skin(mesh, colors_at, any(part.colored for part in parts))


def _look_up(corner: F64, uv: F64, which: I64, textures: list[U8]) -> Callable[[I64, F64], F64]:
    """Colours by triangle and weights of its corners: of the corners, times that of its texture."""

    def at(triangle: I64, weights: F64) -> F64:
        colors = np.einsum("nk,nkc->nc", weights, corner[triangle])
        place = np.einsum("nk,nkc->nc", weights, uv[triangle])
        for number, texture in enumerate(textures):
            own = which[triangle] == number
            colors[own] *= _bilinear(
                texture, np.where((place[own] >= 0) & (place[own] <= 1), place[own], place[own] % 1.0)
            )
        return colors

    return at


def _bilinear(texture: U8, uv: F64) -> F64:
    """Colours (N, 3), 0..1, of an image (H, W, 3) at places (N, 2) in it, 0..1 from its lower left corner."""
    last = np.array(texture.shape[1::-1]) - 1
    place = (np.stack([uv[:, 0], 1 - uv[:, 1]], 1) * (last + 1) - 0.5).clip(0, last)
    first = place.astype(np.int64)
    second, share = np.minimum(first + 1, last), place - first
    (x, y), (u, v) = share.T[..., None], second.T
    upper = texture[first[:, 1], first[:, 0]] * (1 - x) + texture[first[:, 1], u] * x
    lower = texture[v, first[:, 0]] * (1 - x) + texture[v, u] * x
    return (upper * (1 - y) + lower * y) / 255.0
