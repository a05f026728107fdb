"""Runs by name or folder, without reading what they are."""

from __future__ import annotations

import difflib
from pathlib import Path

from pipeline.errors import TrainError

RUN_FILE = "run.json"


def run_files(root: Path) -> list[Path]:
    """The file run.json of each run in a folder, by name."""
    return sorted(root.glob(f"*/{RUN_FILE}"))


def run_folder(name_or_path: str | Path, root: Path) -> Path:
    """The folder of a run: a path, or a name in `root`.

    Raises:
        TrainError: When there is none.
    """
    path = Path(name_or_path).expanduser()
    folder = next((folder for folder in (path, root / path) if (folder / RUN_FILE).is_file()), None)
    if folder is None:
        known = [file.parent.name for file in run_files(root)]
        near = difflib.get_close_matches(path.name, known, 3, 0.4) or known[:9]
        raise TrainError(
            f"a run is a folder with a {RUN_FILE}, or the name of one in {str(root)!r}",
            found=f"none is {str(name_or_path)!r}",
            remedy=f"did you mean {', '.join(near)}?" if near else "splatyard train makes runs",
        )
    return folder
