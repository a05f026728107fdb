"""Splats of other programs by their content: PLY, PlayCanvas's compressed PLY, .splat, SPZ and SOG.

Sources: github.com/antimatter15/splat (README.md, convert.py); github.com/nianticlabs/spz (load-spz.cc, versions 2 and
3); github.com/playcanvas/engine (gsplat-compressed-data.js) and PlayCanvas's pages on SOG.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from plyfile import PlyData

from pipeline.errors import BundleError
from pipeline.export.web import ANTIALIASED, COLOR_RANGE, MAGIC, MIN_LOG_SCALE, OTHERS, SCALE_STEPS, SH_STEPS
from pipeline.geometry import SH_C0, Gaussians, logit
from pipeline.geometry.ply import MAX_HEADER_BYTES, check_ply
from pipeline.splat.ply import MAX_GAUSSIANS, MAX_LOG_SCALE, load_splat
from pipeline.splat.sog import META_FILE, MIN_OPACITY, load_sog
from pipeline.types import F32, F64, U8, U32, Floats

CONVERT = "convert it to PLY: npx @playcanvas/splat-transform IN OUT.ply, or in the editor at superspl.at"
NOT_READ = {
    ".ksplat": "a splat of GaussianSplats3D",
    ".lcc": "a splat of XGRIDS",
    ".gltf": "glTF in several files",
    ".usdz": "USD",
    ".usd": "USD",
}
"""What splats in files of these names are that are not read, to be refused by name."""
SPLAT_BYTES = 32
SPZ_VERSIONS = (2, 3)
MAX_BYTES = 2**32
"""Largest size of a splat's file."""
MAX_META_BYTES, MAX_SOG_BYTES = 2**20, 2**30
CHUNK = 256
"""Number of Gaussians of a compressed PLY that share bounds."""


def is_splat(file: Path) -> bool:
    """Whether a file holds a splat that is read or refused by name; of a SOG in a folder it is its meta.json."""
    suffix = file.suffix.lower()
    if suffix == ".ply":
        header = ply_header(file)
        return b" f_dc_0" in header or b" packed_position" in header
    if file.name == META_FILE:
        with file.open("rb") as opened:
            return b'"means"' in opened.read(MAX_META_BYTES)
    return suffix in (*_READERS, *NOT_READ) and suffix != ".json"


def files_of(splat: Path) -> list[Path]:
    """All files that are read of a splat, the one that names it first."""
    if splat.name != META_FILE:
        return [splat]
    return [splat, *sorted(file for file in splat.parent.glob("*.webp") if file.is_file())]


def ply_header(file: Path) -> bytes:
    """The beginning of a PLY, up to its data."""
    with file.open("rb") as opened:
        return opened.read(MAX_HEADER_BYTES).partition(b"end_header")[0]


def read_splat(path: Path) -> Gaussians:
    """Read a splat in the frame of its file.

    Raises:
        BundleError: When it is of a format that isn't read, too large, damaged, or holds values that no splat can have.
    """
    suffix = path.suffix.lower()
    if suffix in NOT_READ:
        formats = "PLY, compressed PLY, .splat, SPZ of versions 2 and 3, and SOG"
        raise BundleError(f"splats are read as {formats}", found=NOT_READ[suffix], remedy=CONVERT, file=path)
    if suffix == ".ply" and b" packed_position" not in ply_header(path):
        return load_splat(path)
    if suffix == ".sog":
        return load_sog(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        gaussians = _READERS[suffix](path)
        if not all(np.isfinite(values).all() for values in vars(gaussians).values()):
            raise ValueError("values that are not finite")
        if np.abs(gaussians.log_scales).max(initial=0) > MAX_LOG_SCALE:
            raise ValueError(f"log scales beyond {MAX_LOG_SCALE:g}")
        if not (np.linalg.norm(gaussians.quaternions, axis=1) > 1e-6).all():
            raise ValueError("rotations without a length")
    except BundleError:
        raise
    except Exception as error:  # decoders raise many kinds on damaged files
        found = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise BundleError(f"a {suffix} file holds a whole splat", found=found, remedy=CONVERT, file=path) from error
    return gaussians


def _counted(count: int) -> int:
    if not 0 < count <= MAX_GAUSSIANS:
        raise ValueError(f"{count} Gaussians")
    return count


def _opacity(values: U8) -> F32:
    """Logits of opacities in steps of 1/255."""
    return logit(np.clip(values / 255, MIN_OPACITY, 1 - MIN_OPACITY)).astype(np.float32)


def _color(values: Floats) -> F32:
    """Coefficients of degree 0 (N, 1, 3) of colours (N, 3), 0 to 1."""
    return ((values - 0.5) / SH_C0).astype(np.float32)[:, None]


def _whole(parts: F64, largest: U32) -> F32:
    """Quaternions (N, 4) from three components (N, 3) and the number of the fourth, the largest."""
    rows, result = np.arange(len(parts)), np.zeros((len(parts), 4))
    result[rows[:, None], OTHERS[largest]] = parts
    result[rows, largest] = np.sqrt(np.maximum(0, 1 - (parts**2).sum(1)))
    return result.astype(np.float32)


def _read_splat(path: Path) -> Gaussians:
    """32 bytes a Gaussian: position, scale, RGBA, and wxyz in steps of 1/128."""
    size = path.stat().st_size
    if size % SPLAT_BYTES:
        raise ValueError(f"{size} bytes, no multiple of {SPLAT_BYTES}")
    _counted(size // SPLAT_BYTES)
    rows = np.fromfile(path, [("means", "<f4", 3), ("scales", "<f4", 3), ("color", "u1", 4), ("turn", "u1", 4)])
    return Gaussians(
        rows["means"].astype(np.float32),
        np.log(np.maximum(rows["scales"], math.exp(-MAX_LOG_SCALE))).clip(-MAX_LOG_SCALE).astype(np.float32),
        ((rows["turn"].astype(np.float32) - 128) / 128).astype(np.float32),
        _opacity(rows["color"][:, 3]),
        _color(rows["color"][:, :3] / 255),
    )


def _read_spz(path: Path) -> Gaussians:
    """A gzip of a header and columns of bytes, see `export.web`."""
    with path.open("rb") as opened:
        if opened.read(2) != b"\x1f\x8b":
            raise BundleError(
                f"an SPZ is read in versions {SPZ_VERSIONS[0]} and {SPZ_VERSIONS[1]}",
                found="no gzip: version 4, or another file",
                remedy=CONVERT,
                file=path,
            )
        opened.seek(0)
        unpacked, size = zlib.decompressobj(31), struct.calcsize("<IIIBBBB")
        head = unpacked.decompress(opened.read(4096), size)
        magic, version, count, degree, fraction, flags, _ = struct.unpack("<IIIBBBB", head)
        if magic != MAGIC or version not in SPZ_VERSIONS or degree > 3 or fraction > 23:
            raise ValueError(f"version {version}, degree {degree}, {fraction} bits" if magic == MAGIC else "no SPZ")
        coefficients = (degree + 1) ** 2 - 1
        turn = 3 if version == SPZ_VERSIONS[0] else 4
        widths = (9, 1, 3, 3, turn, 3 * coefficients)
        needed = _counted(count) * sum(widths)
        tail = unpacked.unconsumed_tail + opened.read()
        content = unpacked.decompress(tail, needed + 1)  # more where there are extensions
    if len(content) < needed or (len(content) == needed and not unpacked.eof):
        raise ValueError(f"{len(content)} of {needed} bytes, or no end")
    ends = np.cumsum([0, *(count * width for width in widths)])
    columns = [np.frombuffer(content[at:end], np.uint8).reshape(count, -1) for at, end in pairwise(ends.tolist())]
    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[..., 1:] = columns[0].reshape(count, 3, 3)  # above a byte of zeros, for the sign
    if turn == 3:
        xyz = columns[4] / 127.5 - 1
        xyzw = np.column_stack([xyz, np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1)))]).astype(np.float32)
    else:
        packed = columns[4].copy().view("<u4")[:, 0]
        parts = packed[:, None] >> np.array([20, 10, 0], np.uint32)
        sizes = (parts & 511) / 511 / math.sqrt(2)
        xyzw = _whole(np.where(parts & 512, -sizes, sizes), packed >> np.uint32(30))
    return Gaussians(
        ((fixed.view("<i4")[..., 0] >> 8) / 2.0**fraction).astype(np.float32),
        (columns[3] / SCALE_STEPS + MIN_LOG_SCALE).astype(np.float32),
        np.roll(xyzw, 1, 1),
        _opacity(columns[1][:, 0]),
        np.concatenate(
            [
                ((columns[2] / 255 - 0.5) / COLOR_RANGE)[:, None],
                ((columns[5].astype(np.float64) - SH_STEPS) / SH_STEPS).reshape(count, coefficients, 3),
            ],
            1,
        ).astype(np.float32),
        antialiased=bool(flags & ANTIALIASED),
    )


def _read_sog_folder(path: Path) -> Gaussians:
    """A SOG before it is bundled: meta.json and the images beside it."""
    if sum(file.stat().st_size for file in files_of(path)) > MAX_SOG_BYTES:
        raise ValueError(f"more than {MAX_SOG_BYTES} bytes beside it")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for file in files_of(path):
            archive.write(file, file.name)
    return load_sog(path, packed)


def _read_compressed_ply(path: Path) -> Gaussians:
    """Chunks of 256 Gaussians with common bounds, four words each, and view dependence in bytes."""
    check_ply(path)
    content = PlyData.read(str(path))
    if content.text or content.byte_order != "<":
        raise ValueError("another encoding")
    data, chunks = content["vertex"].data, content["chunk"].data
    count = _counted(len(data))
    if len(chunks) != -(-count // CHUNK):
        raise ValueError(f"{len(chunks)} chunks for {count} Gaussians")
    of = np.arange(count) // CHUNK
    names = chunks.dtype.names or ()

    def within(values: F64, kind: str, axes: str) -> F64:
        """Values (N, 3), 0 to 1, between the bounds of their chunks; older files have none for colours."""
        if f"min_{kind}{axes[0]}" not in names:
            return values
        low, high = (
            np.stack([chunks[f"{end}_{kind}{axis}"] for axis in axes], 1).astype(np.float64)[of]
            for end in ("min", "max")
        )
        return low + values * (high - low)

    def unpacked(name: str, shifts: tuple[int, ...], bits: tuple[int, ...]) -> F64:
        sizes = np.array([2**bit - 1 for bit in bits], np.uint32)
        return (data[name][:, None] >> np.array(shifts, np.uint32) & sizes) / sizes

    turn, color = data["packed_rotation"], unpacked("packed_color", (24, 16, 8, 0), (8, 8, 8, 8))
    parts = (unpacked("packed_rotation", (20, 10, 0), (10, 10, 10)) - 0.5) * math.sqrt(2)
    sh = _color(within(color[:, :3], "", "rgb"))
    if "sh" in content:
        rest = content["sh"].data
        per_color = len(rest.dtype.names or ()) // 3
        if len(rest) != count or per_color not in (3, 8, 15):
            raise ValueError(f"{len(rest)} times {3 * per_color} coefficients")
        values = np.stack([rest[f"f_rest_{k}"] for k in range(3 * per_color)], 1) * (8 / 255) - 4
        sh = np.concatenate([sh, values.reshape(count, 3, per_color).transpose(0, 2, 1).astype(np.float32)], 1)
    return Gaussians(
        within(unpacked("packed_position", (21, 11, 0), (11, 10, 11)), "", "xyz").astype(np.float32),
        within(unpacked("packed_scale", (21, 11, 0), (11, 10, 11)), "scale_", "xyz").astype(np.float32),
        _whole(parts, turn >> np.uint32(30)),
        _opacity(np.round(color[:, 3] * 255).astype(np.uint8)),
        sh,
    )


_READERS: dict[str, Callable[[Path], Gaussians]] = {
    ".ply": _read_compressed_ply,
    ".splat": _read_splat,
    ".spz": _read_spz,
    ".sog": load_sog,
    ".json": _read_sog_folder,
}
