"""What the mesh is made from: training depth maps in the world frame, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from pipeline.depth.maps import DepthMap, load_depth_map, map_names
from pipeline.geometry import Similarity


class StoredMaps(Sequence[DepthMap]):
    """Depth maps of a folder, in the world frame, loaded when asked for: 200 of them would fill memory.

    Args:
        folder: The depth stage's folder.
        world_from_scene: Of the align stage.
        held_out: Which maps: False = those that may build, True = those that only check.
    """

    def __init__(self, folder: Path, world_from_scene: Similarity, *, held_out: bool = False) -> None:
        self._folder, self._world_from_scene = folder, world_from_scene
        self.names = [name for name in map_names(folder) if _is_held_out(folder, name) == held_out]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> DepthMap: ...
    @overload
    def __getitem__(self, index: slice) -> list[DepthMap]: ...
    def __getitem__(self, index: int | slice) -> DepthMap | list[DepthMap]:
        """Load one map, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return load_depth_map(self._folder, self.names[index], self._world_from_scene)


def _is_held_out(folder: Path, name: str) -> bool:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as data:
        return bool(data["held_out"])
