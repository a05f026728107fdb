"""Points of cloud files (PLY, PCD, LAS, LAZ), read with bounded memory.

Sources: G. Turk, The PLY Polygon File Format; the PCL documentation's "The PCD file format"; LAS and LAZ by laspy.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from plyfile import PlyData

from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry.ply import MAX_HEADER_BYTES
from pipeline.types import F64

CLOUD_SUFFIXES = (".ply", ".pcd", ".las", ".laz")
MAX_POINTS = 4_000_000
"""Larger clouds are thinned evenly to this many points."""
MAX_DECLARED = 2_000_000_000
"""A header that claims more points is not believed."""
MAX_UNPACKED = 2**30
"""Most bytes of a compressed PCD, which is unpacked as a whole; uncompressed ones aren't read at once."""
_CHUNK = 1_000_000
_PCD_KINDS = {"F": "f", "I": "i", "U": "u"}


@dataclass(frozen=True)
class _Layout:
    """How the points lie in a file from the byte `offset` on; "ascii", "binary" or "binary_compressed"."""

    encoding: str
    count: int
    offset: int
    dtype: np.dtype


def read_points(source: CaptureSource, name: str) -> F64:
    """Positions (N, 3) [m] of a cloud file, N at most `MAX_POINTS`; points that aren't finite are left out.

    Raises:
        CaptureError: When the file is no cloud, is damaged, or has no points.
    """
    where = source.where(name)
    if name.lower().endswith((".las", ".laz")):
        with source.local(name) as path:
            points = _las_points(path, where)
    else:
        points = read_fields(source, name, ("x", "y", "z"))
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        raise CaptureError("a cloud must have points", found="none", remedy="export the map again", file=where)
    return points


def read_fields(source: CaptureSource, name: str, fields: Sequence[str]) -> F64:
    """Columns (N, len(fields)) of a PLY or PCD file of at most `MAX_POINTS` points, in the file's order.

    Raises:
        CaptureError: As `read_points`, and when a field is missing.
    """
    where = source.where(name)
    with source.local(name) as path, path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
        layout = _ply_layout(head, where) if head.startswith(b"ply") else _pcd_layout(head, where)
        names, count = layout.dtype.names or (), layout.count
        if missing := [field for field in fields if field not in names]:
            raise _broken(where, f"no field {', '.join(missing)}: there are {', '.join(names)}")
        if count > MAX_DECLARED:
            raise _broken(where, f"{count} points declared, more than {MAX_DECLARED}")
        if not count:
            return np.zeros((0, len(fields)))
        step = max(1, -(-count // MAX_POINTS))
        if layout.encoding == "ascii":
            file.seek(layout.offset)
            try:
                lines, columns = islice(file, 0, count, step), [names.index(field) for field in fields]
                table = np.loadtxt(lines, np.float64, usecols=columns, ndmin=2)
            except ValueError as error:
                raise _broken(where, str(error)) from error
            if len(table) != -(-count // step):
                raise _broken(where, f"{count} points declared, about {len(table) * step} lines")
            return table
        if layout.encoding == "binary_compressed":
            table = _compressed(path, layout, where)
        else:
            size = path.stat().st_size - layout.offset
            if size < count * layout.dtype.itemsize:
                raise _broken(where, f"{count} points declared, bytes for {size // layout.dtype.itemsize}")
            table = np.memmap(path, layout.dtype, "r", layout.offset, (count,))
        return np.stack([np.asarray(table[field][::step], np.float64) for field in fields], 1)


def _ply_layout(head: bytes, where: str) -> _Layout:
    file = io.BytesIO(head)
    try:
        data = PlyData._parse_header(file)
        vertex = data.elements[0]
        dtype = np.dtype(vertex.dtype(data.byte_order))
        if vertex.name != "vertex" or vertex.count < 0 or dtype.hasobject:
            raise ValueError(f"{vertex.count} of {vertex.name} first, expected vertex with plain numbers")
    except Exception as error:  # plyfile raises many kinds on damaged files
        raise _broken(where, f"a header that is no PLY cloud's ({error!r})") from error
    return _Layout("ascii" if data.text else "binary", vertex.count, file.tell(), dtype)


def _pcd_layout(head: bytes, where: str) -> _Layout:
    if not head.startswith((b"# .PCD", b"VERSION")):
        raise _broken(where, f"a file that begins with {head[:16]!r}, neither ply nor # .PCD")
    file, values = io.BytesIO(head), dict[str, list[str]]()
    while "DATA" not in values and (line := file.readline()):
        name, *words = line.decode("ascii", "replace").split() or [""]
        values[name] = words
    try:
        names, sizes, kinds = values["FIELDS"], values["SIZE"], values["TYPE"]
        counts = [int(count) for count in values.get("COUNT", ["1"] * len(names))]
        if min(counts) < 1 or max(counts) > 4096:
            raise ValueError(f"COUNT {counts}")
        columns = []
        for i, (field, size, kind, count) in enumerate(zip(names, sizes, kinds, counts, strict=True)):
            # "_" is padding and occurs more than once; a field of several values is several columns
            for k in range(count):
                unique = field if field != "_" and count == 1 else f"{field}.{i}.{k}"
                columns.append((unique, f"<{_PCD_KINDS[kind]}{int(size)}"))
        encoding, total = values["DATA"][0], int(values["POINTS"][0])
        if encoding not in ("ascii", "binary", "binary_compressed") or total < 0:
            raise ValueError(f"DATA {encoding}, POINTS {total}")
        return _Layout(encoding, total, file.tell(), np.dtype(columns))
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise _broken(where, f"a header that is no PCD cloud's ({error!r})") from error


def _compressed(path: Path, layout: _Layout, where: str) -> dict[str, NDArray[np.generic]]:
    """Columns of PCL's compressed form: LZF over all x, then all y, ...; two sizes before it."""
    from pipeline.capture.slam.kernels import unpack_lzf

    sizes = np.fromfile(path, "<u4", 2, offset=layout.offset).tolist()
    packed_size, size = sizes if len(sizes) == 2 else (0, 0)
    expected = layout.count * layout.dtype.itemsize
    if size != expected or size > MAX_UNPACKED:
        raise _broken(where, f"{layout.count} points declared, {size} bytes instead of {min(expected, MAX_UNPACKED)}")
    packed = np.fromfile(path, np.uint8, packed_size, offset=layout.offset + 8)
    unpacked = np.empty(size, np.uint8)
    if len(packed) != packed_size or unpack_lzf(packed, unpacked) != size:
        raise _broken(where, "compressed points that end too early")
    columns, at = {}, 0
    for field in layout.dtype.names or ():
        kind = layout.dtype[field]
        columns[field] = unpacked[at : at + layout.count * kind.itemsize].view(kind)
        at += layout.count * kind.itemsize
    return columns


def _las_points(path: Path, where: str) -> F64:
    import laspy

    parts: list[F64] = []
    try:
        with laspy.open(path) as reader:
            count = int(reader.header.point_count)
            if count > MAX_DECLARED:
                raise _broken(where, f"{count} points declared, more than {MAX_DECLARED}")
            step, seen = max(1, -(-count // MAX_POINTS)), 0
            for chunk in reader.chunk_iterator(_CHUNK):
                first = -seen % step
                parts.append(np.stack([np.asarray(axis)[first::step] for axis in (chunk.x, chunk.y, chunk.z)], 1))
                seen += len(chunk)
    except (laspy.errors.LaspyException, ValueError, OSError, EOFError, RuntimeError) as error:
        raise _broken(where, str(error) or type(error).__name__) from error
    if seen != count:
        raise _broken(where, f"{count} points declared, {seen} found")
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def _broken(where: str, found: str) -> CaptureError:
    return CaptureError(
        "a map cloud must be a complete PLY, PCD, LAS or LAZ file",
        found=found,
        remedy="export the map again, with x, y and z in metres",
        file=where,
    )
