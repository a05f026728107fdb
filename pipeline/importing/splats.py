"""Splats of other programs: PLY, PlayCanvas's compressed PLY, .splat, .ksplat, SPZ, SOG in one or many, GLB and USD.

Sources: github.com/antimatter15/splat (README.md, convert.py); github.com/playcanvas/engine
(gsplat-compressed-data.js) and PlayCanvas's pages on SOG.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from plyfile import PlyData

from pipeline.errors import BundleError, MachineError
from pipeline.geometry import Gaussians
from pipeline.geometry.ply import MAX_HEADER_BYTES, check_ply
from pipeline.importing.formats.streamed_sog import LOD_FILE, parts_of, read_streamed_sog
from pipeline.importing.formats.usd import SUFFIXES, read_usd
from pipeline.importing.gltf_splats import has_splats, read_glb_splats
from pipeline.importing.ksplat import read_ksplat
from pipeline.importing.splat_values import (
    CONVERT,
    StatedSplat,
    color_coefficients,
    counted,
    opacity_logits,
    whole_quaternions,
)
from pipeline.importing.spz import read_spz
from pipeline.scenes.manifest import reading
from pipeline.splat.ply import MAX_LOG_SCALE, load_splat
from pipeline.splat.sog import META_FILE, load_sog
from pipeline.types import F64

NOT_READ = {
    ".lcc": "a splat of XGRIDS",
    ".gltf": "glTF in several files",
}
"""What splats in files of these names are that are not read, to be refused by name."""
SPLAT_BYTES = 32
MAX_BYTES = 2**32
"""Largest size of a splat's file."""
JSON_FILES = {META_FILE: b'"means"', LOD_FILE: b'"lodLevels"'}
"""Files that name the others of a splat, and what is in them."""
MAX_META_BYTES, MAX_SOG_BYTES = 2**20, 2**30
CHUNK = 256
"""Number of Gaussians of a compressed PLY that share bounds."""


def is_splat(file: Path) -> bool:
    """Whether a file holds a splat that is read or refused by name; of a SOG in a folder it is its meta.json."""
    suffix = file.suffix.lower()
    if suffix == ".ply":
        header = ply_header(file)
        return b" f_dc_0" in header or b" packed_position" in header
    if file.name in JSON_FILES:
        with file.open("rb") as opened:
            return JSON_FILES[file.name] in opened.read(MAX_META_BYTES)
    if suffix == ".glb":
        return has_splats(file)
    return suffix in (*_READERS, *SUFFIXES, *NOT_READ) and suffix != ".json"


def splat_by_name(name: str) -> bool:
    """Whether a file of this name is a splat that is read, whatever else such files may be."""
    return name.lower().endswith((".splat", ".ksplat", ".spz", ".sog", ".usdz", ".compressed.ply"))


def files_of(splat: Path) -> list[Path]:
    """All files that are read of a splat, the one that names it first."""
    if splat.name == LOD_FILE:
        with reading("lod-meta.json names the parts of a streamed SOG", splat, CONVERT):
            return [splat, *(file for part in parts_of(splat) for file in files_of(part))]
    if splat.name != META_FILE:
        return [splat]
    return [splat, *sorted(file for file in splat.parent.glob("*.webp") if file.is_file())]


def ply_header(file: Path) -> bytes:
    """The beginning of a PLY, up to its data."""
    with file.open("rb") as opened:
        return opened.read(MAX_HEADER_BYTES).partition(b"end_header")[0]


def read_splat(path: Path) -> Gaussians:
    """As `read_stated`, the Gaussians alone."""
    return read_stated(path).gaussians


def read_stated(path: Path) -> StatedSplat:
    """Read a splat in the frame of its file, with what a USD states of that.

    Raises:
        BundleError: When it is of a format that isn't read, too large, damaged, or holds values that no splat can have.
    """
    suffix = path.suffix.lower()
    if suffix in NOT_READ:
        formats = "PLY, compressed PLY, .splat, .ksplat, SPZ, SOG, GLB and USD"
        raise BundleError(f"splats are read as {formats}", found=NOT_READ[suffix], remedy=CONVERT, file=path)
    if suffix == ".ply" and b" packed_position" not in ply_header(path):
        return StatedSplat(load_splat(path))
    if suffix == ".sog":
        return StatedSplat(load_sog(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        with np.errstate(all="ignore"):  # what isn't finite is refused below
            stated = read_usd(path) if suffix in SUFFIXES else StatedSplat(_READERS[suffix](path))
            gaussians = stated.gaussians
        if not all(np.isfinite(values).all() for values in vars(gaussians).values()):
            raise ValueError("values that are not finite")
        if np.abs(gaussians.log_scales).max(initial=0) > MAX_LOG_SCALE:
            raise ValueError(f"log scales beyond {MAX_LOG_SCALE:g}")
        lengths = np.linalg.norm(gaussians.quaternions.astype(np.float64), axis=1)
        if not ((lengths > 1e-6) & (lengths < 1e6)).all():
            raise ValueError("rotations without a length")
    except (BundleError, MachineError):
        raise
    except Exception as error:  # decoders raise many kinds on damaged files
        found = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise BundleError(f"a {suffix} file holds a whole splat", found=found, remedy=CONVERT, file=path) from error
    return stated


def _read_splat(path: Path) -> Gaussians:
    """32 bytes a Gaussian: position, scale, RGBA, and wxyz in steps of 1/128."""
    size = path.stat().st_size
    if size % SPLAT_BYTES:
        raise ValueError(f"{size} bytes, no multiple of {SPLAT_BYTES}")
    counted(size // SPLAT_BYTES)
    rows = np.fromfile(path, [("means", "<f4", 3), ("scales", "<f4", 3), ("color", "u1", 4), ("turn", "u1", 4)])
    return Gaussians(
        rows["means"].astype(np.float32),
        np.log(np.maximum(rows["scales"], math.exp(-MAX_LOG_SCALE))).clip(-MAX_LOG_SCALE).astype(np.float32),
        ((rows["turn"].astype(np.float32) - 128) / 128).astype(np.float32),
        opacity_logits(rows["color"][:, 3]),
        color_coefficients(rows["color"][:, :3] / 255),
    )


def _read_json(path: Path) -> Gaussians:
    return read_streamed_sog(path) if path.name == LOD_FILE else _read_sog_folder(path)


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
    count = counted(len(data))
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
    sh = color_coefficients(within(color[:, :3], "", "rgb"))
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
        whole_quaternions(parts, turn >> np.uint32(30)),
        opacity_logits(np.round(color[:, 3] * 255).astype(np.uint8)),
        sh,
    )


_READERS: dict[str, Callable[[Path], Gaussians]] = {
    ".ply": _read_compressed_ply,
    ".splat": _read_splat,
    ".ksplat": read_ksplat,
    ".spz": read_spz,
    ".glb": read_glb_splats,
    ".sog": load_sog,
    ".json": _read_json,
}
