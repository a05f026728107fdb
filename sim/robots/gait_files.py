"""Where gaits lie, by name or folder; nothing of them is read, see `sim.gaits`."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import SimError

GAITS = Path(__file__).parent / "gaits"
"""Gaits that come with splatyard."""
GAIT_FILE = "gait.npz"
"""In the folder of a run that learned one."""
HOW_TO_GET = "train one: splatyard train walk --robot ROBOT"


def gait_file(name: str) -> Path:
    """File of a gait by its path, by the folder of its run, or by the name of one that comes with splatyard.

    Raises:
        SimError: When there is none.
    """
    path = Path(name)
    file = path if path.suffix == ".npz" else path / GAIT_FILE if path.is_dir() else GAITS / f"{name}.npz"
    if not file.is_file():
        own = ", ".join(sorted(one.stem for one in GAITS.glob("*.npz")))
        raise SimError(
            f"a gait is a run that learned one, a file NAME.npz, or one of {own}",
            found=f"none is {name!r}",
            remedy=HOW_TO_GET,
        )
    return file
