"""What a saved simulation keeps of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pipeline.geometry.grids import Grids

SHAPES = ".shapes"
"""Follows the name of grids in what is saved, for their shapes; after their own name are the cells of all."""


class Saved:
    """Something that changes during episodes, in arrays with a row per environment.

    Attributes:
        ROWS: Names of the attributes that are such arrays. All others stay as they were made, or follow from these.
        GRIDS: Names of the attributes that are `Grids`, one per environment.
        PARTS: Names of the attributes that are `Saved` themselves.
    """

    ROWS: ClassVar[tuple[str, ...]] = ()
    GRIDS: ClassVar[tuple[str, ...]] = ()
    PARTS: ClassVar[tuple[str, ...]] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; those of parts after a dot."""
        own = {name: getattr(self, name) for name in self.ROWS}
        for name in self.GRIDS:
            own |= {name: getattr(self, name).values, name + SHAPES: getattr(self, name).shape}
        return own | arrays_of({name: getattr(self, name) for name in self.PARTS})

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` returned: as new arrays, since others may hold the old ones."""
        for name in self.ROWS:
            setattr(self, name, arrays[name])
        for name in self.GRIDS:
            setattr(self, name, Grids(arrays[name], arrays[name + SHAPES]))
        set_arrays_of({name: getattr(self, name) for name in self.PARTS}, arrays)


def arrays_of(parts: Mapping[str, Saved]) -> dict[str, np.ndarray]:
    """The arrays of parts, each name after that of its part and a dot."""
    return {f"{part}.{name}": array for part, saved in parts.items() for name, array in saved.arrays().items()}


def set_arrays_of(parts: Mapping[str, Saved], arrays: Mapping[str, np.ndarray]) -> None:
    """Let parts take over their arrays, as `arrays_of` names them."""
    for part, saved in parts.items():
        prefix = f"{part}."
        saved.set_arrays({name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)})


def shapes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """What is the same in all states of an environment: grids have as many cells as the scenes of their episodes."""
    return {name: array.shape[1:] if name + SHAPES in arrays else array.shape for name, array in arrays.items()}


def unpadded(arrays: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of a state, of which `own` is another; in states of before, grids (N, X, Y) were padded to one shape.

    Raises:
        ValueError: When grids have not as many cells as their shapes.
    """
    result = dict(arrays)
    for name in own.keys() & arrays.keys():
        if name + SHAPES in own:
            shapes = arrays.get(name + SHAPES)
            grids = Grids.of(arrays[name]) if shapes is None else Grids(arrays[name], shapes)
            result |= {name: grids.values, name + SHAPES: grids.shape}
    return result
