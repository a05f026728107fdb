"""Triangle meshes with colours and a mark on what was guessed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement

from pipeline.geometry.ply import check_ply
from pipeline.geometry.similarity import Similarity
from pipeline.types import F32, F64, I32, U8, Floats, Mask

COLORS = ("red", "green", "blue")
Part = Literal["whole", "open", "closing"]
MANY = 1 << 18
"""Triangles that are worked on at a time."""
CLOSING = 2
"""Mark of vertices in files, instead of 1 for guessed, whose faces close what stands in a scene."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, consistently oriented: counter-clockwise seen from the free side.

    Arrays, also those that methods return, are never changed: corners, normals and areas are computed once.
    """

    vertices: F32  # (V, 3) float32 [m, world frame]
    triangles: I32  # (F, 3) int32, indices of vertices
    colors: U8  # (V, 3) uint8, sRGB
    guessed: Mask  # (V,) bool, filled in (a closed hole) rather than measured

    @staticmethod
    def from_arrays(vertices: Floats, triangles: NDArray[np.integer]) -> Mesh:
        """A grey mesh in which nothing is guessed."""
        count = len(vertices)
        return Mesh(
            np.asarray(vertices, np.float32),
            np.asarray(triangles, np.int32),
            np.full((count, 3), 180, np.uint8),
            np.zeros(count, bool),
        )

    def transformed(self, a_from_b: Similarity) -> Mesh:
        """The mesh of frame b, in frame a."""
        return Mesh(a_from_b.apply(self.vertices).astype(np.float32), self.triangles, self.colors, self.guessed)

    def corners(self) -> F32:
        """The triangles' corners (F, 3, 3) [m]."""
        return self._corners

    def face_normals(self) -> F64:
        """Unit normals (F, 3); zero for a degenerate triangle."""
        return self._normals_and_areas[0]

    def face_areas(self) -> F64:
        """Areas (F,) [m^2]."""
        return self._normals_and_areas[1]

    @cached_property
    def _corners(self) -> F32:
        return self.vertices[self.triangles]

    @cached_property
    def _normals_and_areas(self) -> tuple[F64, F64]:
        normals, areas = np.zeros((len(self.triangles), 3)), np.zeros(len(self.triangles))
        for start in range(0, len(areas), MANY):  # what lies between takes seven times the room
            part = slice(start, start + MANY)
            a, b, c = np.moveaxis(self.corners()[part].astype(np.float64), 1, 0)
            cross = np.cross(b - a, c - a)
            length = np.linalg.norm(cross, axis=1)
            np.divide(cross, length[:, None], out=normals[part], where=length[:, None] > 0)
            areas[part] = length / 2
        return normals, areas

    def faces_of(self, vertices: Mask) -> Mask:
        """Which triangles (F,) have only chosen vertices (V,)."""
        a, b, c = self.triangles.T
        return vertices[a] & vertices[b] & vertices[c]

    def face_guessed(self) -> Mask:
        """Which triangles (F,) have a corner that is guessed."""
        return np.asarray(self.guessed[self.triangles].any(1), bool)

    def with_faces(self, keep: Mask) -> Mesh:
        """The mesh of the chosen triangles (F,), without vertices that nobody uses."""
        triangles = self.triangles[keep]
        used = np.zeros(len(self.vertices), bool)
        used[triangles] = True
        renumbered = np.cumsum(used, dtype=np.int32) - 1
        return Mesh(self.vertices[used], renumbered[triangles].astype(np.int32), self.colors[used], self.guessed[used])

    def joined(self, other: Mesh) -> Mesh:
        """Both meshes in one, vertices not merged."""
        return Mesh(
            np.concatenate([self.vertices, other.vertices]),
            np.concatenate([self.triangles, other.triangles + np.int32(len(self.vertices))]),
            np.concatenate([self.colors, other.colors]),
            np.concatenate([self.guessed, other.guessed]),
        )

    def save(self, path: Path, closing: Mesh | None = None) -> None:
        """Write a binary PLY with the vertex attributes red, green, blue and guessed.

        Guessed faces that close what stands in it may follow, which are marked as such.
        """
        if closing is not None:
            marks = np.append(self.guessed.astype(np.uint8), np.full(len(closing.vertices), CLOSING, np.uint8))
            self.joined(closing)._save(path, marks)
        else:
            self._save(path, self.guessed)

    def _save(self, path: Path, marks: NDArray[np.uint8] | Mask) -> None:
        columns = [*zip("xyz", self.vertices.T, strict=True), *zip(COLORS, self.colors.T, strict=True)]
        columns.append(("guessed", marks))
        kinds = [(name, "<f4" if name in "xyz" else "u1") for name, _ in columns]
        vertex = np.empty(len(self.vertices), kinds)
        for name, values in columns:
            vertex[name] = values
        indices = ("vertex_indices", "<i4", (3,))
        described = PlyElement.describe(np.empty(len(self.triangles), [indices]), "face")
        header = PlyData([PlyElement.describe(vertex, "vertex"), described], byte_order="<").header
        face = np.empty(len(self.triangles), [("count", "u1"), indices])  # plyfile would write one after the other
        face["count"], face["vertex_indices"] = 3, self.triangles
        path.write_bytes(b"".join([header.encode(), b"\n", vertex.tobytes(), face.tobytes()]))

    @staticmethod
    def load(path: Path, part: Part = "whole") -> Mesh:
        """Read a triangle PLY: all, or without the faces that close what stands in it, or these.

        Colours and marks may be missing.

        Raises:
            ValueError: When it is no PLY of triangles, promises more than it holds, or an index points outside.
        """
        try:
            check_ply(path)
            data = PlyData.read(str(path), known_list_len={"face": {"vertex_indices": 3}})
            vertex, face = data["vertex"].data, data["face"].data
            vertices = np.stack([vertex[name] for name in "xyz"], 1).astype(np.float32)
            triangles = np.ascontiguousarray(face["vertex_indices"], np.int32).reshape(-1, 3)
        except Exception as error:  # plyfile raises many kinds on damaged files
            raise ValueError(f"{path} is not a PLY of triangles: {error}") from error
        if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(vertices)):
            raise ValueError(f"{path}: a triangle names a vertex outside 0..{len(vertices) - 1}")
        mesh = Mesh.from_arrays(vertices, triangles)
        names = vertex.dtype.names
        colors = np.stack([vertex[c] for c in COLORS], 1) if "red" in names else mesh.colors
        guessed = vertex["guessed"].astype(bool) if "guessed" in names else mesh.guessed
        result = Mesh(mesh.vertices, mesh.triangles, colors.astype(np.uint8), guessed)
        if part == "whole":
            return result
        closing = guessed & (vertex["guessed"] == CLOSING if "guessed" in names else False)
        faces = np.asarray(closing[triangles].any(1))
        return result.with_faces(faces if part == "closing" else ~faces)
