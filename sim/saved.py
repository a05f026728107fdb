"""What a saved simulation keeps of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np


class Saved:
    """Something that changes during episodes, in arrays with a row per environment.

    Attributes:
        ROWS: Names of the attributes that are such arrays. All others stay as they were made, or follow from these.
        PARTS: Names of the attributes that are `Saved` themselves.
    """

    ROWS: ClassVar[tuple[str, ...]] = ()
    PARTS: ClassVar[tuple[str, ...]] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; those of parts after a dot."""
        own = {name: getattr(self, name) for name in self.ROWS}
        return own | arrays_of({name: getattr(self, name) for name in self.PARTS})

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` returned: as new arrays, since others may hold the old ones."""
        for name in self.ROWS:
            setattr(self, name, arrays[name])
        set_arrays_of({name: getattr(self, name) for name in self.PARTS}, arrays)


def arrays_of(parts: Mapping[str, Saved]) -> dict[str, np.ndarray]:
    """The arrays of parts, each name after that of its part and a dot."""
    return {f"{part}.{name}": array for part, saved in parts.items() for name, array in saved.arrays().items()}


def set_arrays_of(parts: Mapping[str, Saved], arrays: Mapping[str, np.ndarray]) -> None:
    """Let parts take over their arrays, as `arrays_of` names them."""
    for part, saved in parts.items():
        prefix = f"{part}."
        saved.set_arrays({name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)})
