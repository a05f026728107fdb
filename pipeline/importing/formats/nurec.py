"""NuRec volumes of Isaac Sim: USDZ with a .nurec, which is a gzip of MessagePack.

All Gaussians are in nre_data / state_dict as rows of half or single floats: logarithms of scales, logits of densities,
rotations wxyz, and view dependence with the three colours of each coefficient beside one another.

Source: github.com/nv-tlabs/3dgrut, threedgrut/export/usdz_exporter.py and usd/nurec/templates.py.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from pipeline.geometry import Gaussians
from pipeline.importing.splat_values import counted
from pipeline.splat.ply import MAX_LOG_SCALE
from pipeline.types import F32

SUFFIX = ".nurec"
PREFIX = ".gaussians_nodes.gaussians."
WIDTHS = {"positions": 3, "rotations": 4, "scales": 3, "densities": 1, "features_albedo": 3}
MAX_PACKED_BYTES, MAX_BYTES = 2**31, 2**32
MAX_MEMBERS = 1000
COEFFICIENTS = (0, 3, 8, 15)
"""Of view dependence beyond degree 0, by degree."""


def has_volume(path: Path) -> bool:
    """Whether a USDZ holds a NuRec volume."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(SUFFIX) for name in archive.namelist()[:MAX_MEMBERS])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def read_nurec(path: Path) -> Gaussians:
    """The Gaussians of a USDZ's volume in the volume's own frame.

    Raises:
        ValueError: When it is damaged, as other errors of decoders.
    """
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist()[:MAX_MEMBERS] if info.filename.endswith(SUFFIX)]
        if len(members) != 1 or members[0].file_size > MAX_PACKED_BYTES:
            raise ValueError(f"{len(members)} volumes, or one of more than {MAX_PACKED_BYTES} bytes")
        packed = archive.read(members[0])
    unpacked = zlib.decompressobj(31)
    limit = min(MAX_BYTES, 2000 * len(packed) + 2**20)  # gzip packs no tighter
    content = unpacked.decompress(packed, limit)
    if not unpacked.eof:
        raise ValueError(f"more than {limit} bytes, or no end")
    longest = len(content)
    document = msgpack.unpackb(
        content, max_bin_len=longest, max_str_len=longest, max_array_len=100_000, max_map_len=100_000, max_ext_len=0
    )
    data = document["nre_data"]
    layer = data.get("config", {}).get("layers", {}).get("gaussians", {})
    for key, activation in (("density_activation", "sigmoid"), ("scale_activation", "exp")):
        if layer.get(key, activation) != activation:
            raise ValueError(f"{key} is {str(layer[key])[:40]}")
    return _gaussians(data["state_dict"], {16: "<f2", 32: "<f4"}[int(layer.get("precision", 16))])


def _gaussians(state: Mapping[str, Any], kind: str) -> Gaussians:
    count = counted(len(state[f"{PREFIX}positions"]) // (3 * np.dtype(kind).itemsize))

    def column(name: str, width: int) -> F32:
        return np.frombuffer(state[PREFIX + name], kind).astype(np.float32).reshape(count, width)

    values = {name: column(name, width) for name, width in WIDTHS.items()}
    rest = np.frombuffer(state.get(f"{PREFIX}features_specular", b""), kind).astype(np.float32)
    coefficients = rest.size // (3 * count)
    if coefficients not in COEFFICIENTS:
        raise ValueError(f"{coefficients} coefficients of view dependence")
    return Gaussians(
        values["positions"],
        values["scales"].clip(-MAX_LOG_SCALE, MAX_LOG_SCALE),
        values["rotations"],
        values["densities"][:, 0],
        np.concatenate([values["features_albedo"][:, None], rest.reshape(count, coefficients, 3)], 1),
    )
