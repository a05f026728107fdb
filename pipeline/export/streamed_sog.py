"""Streamed SOG: each level of detail in tiles, of which a viewer takes near ones fine and far ones coarse.

Source: PlayCanvas, The Streamed SOG Format, version 1 (developer.playcanvas.com).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.export.form import Y_DOWN, origin
from pipeline.geometry import Gaussians
from pipeline.scenes.bundle import Bundle
from pipeline.splat.sog import sog_files
from pipeline.types import F32, I64

LEVELS = ("full", "sim")
"""A bundle's levels of detail, the finest first."""
LONGEST, FEWEST, MOST = 8.0, 4096, 65_536
"""Tiles of more than so few Gaussians of all levels, which a sky has, are no longer [m]; none has more than so many."""


def export_streamed_sog(bundle: Bundle, folder: Path) -> None:
    """Write `lod-meta.json`, and a folder with a SOG for each tile of each level of detail."""
    levels = [bundle.splat(name).transformed(Y_DOWN) for name in LEVELS if name in bundle.manifest.splats]
    about, files = origin(bundle), list[str]()

    def write(level: int, tile: Gaussians) -> dict[str, int]:
        files.append(f"{level}_{len(files)}/meta.json")
        part = (folder / files[-1]).parent
        part.mkdir(parents=True)
        for name, data in sog_files(tile, about).items():
            (part / name).write_bytes(data)
        return {"file": len(files) - 1, "offset": 0, "count": len(tile)}

    means = np.concatenate([splat.means for splat in levels])
    owner = np.repeat(np.arange(len(levels)), [len(splat) for splat in levels])
    first = np.cumsum([0, *map(len, levels)])

    def node(chosen: I64) -> dict[str, Any]:
        low, high = means[chosen].min(0), means[chosen].max(0)
        if len(chosen) > MOST or (len(chosen) > FEWEST and (high - low).max() > LONGEST):
            children = [node(half) for half in halves(means[chosen], chosen)]
            bounds = [child["bound"] for child in children]
            low, high = (f([bound[side] for bound in bounds], 0) for f, side in ((np.min, "min"), (np.max, "max")))
            return {"bound": {"min": low.tolist(), "max": high.tolist()}, "children": children}
        lods, lowest, highest = dict[str, Any](), list[F32](), list[F32]()
        for level, splat in enumerate(levels):
            tile = splat[chosen[owner[chosen] == level] - first[level]]
            if len(tile):
                lods[str(level)] = write(level, tile)
                reach = np.exp(tile.log_scales.max(1, keepdims=True))
                lowest.append((tile.means - reach).min(0))
                highest.append((tile.means + reach).max(0))
        return {"bound": {"min": np.min(lowest, 0).tolist(), "max": np.max(highest, 0).tolist()}, "lods": lods}

    tree = node(np.arange(len(means)))
    counts = [len(splat) for splat in levels]
    content = {
        "version": 1,
        "asset": {"generator": "splatyard", "copyright": about["licence"], "extras": about},
        "count": sum(counts),
        "counts": counts,
        "lodLevels": len(levels),
        "filenames": files,
        "tree": tree,
    }
    (folder / "lod-meta.json").write_text(json.dumps(content, separators=(",", ":")))


def halves(points: F32, chosen: I64) -> tuple[I64, I64]:
    """What was chosen (N,) in two, with as many of the points (N, 3) on each side of the longest edge's middle one."""
    along = np.argsort(points[:, np.argmax(np.ptp(points, 0))], kind="stable")
    return chosen[along[: len(along) // 2]], chosen[along[len(along) // 2 :]]
