"""Other interpreters for the tests of isolation."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.paths import ROOT


def bare_interpreter(folder: Path, *paths: Path) -> Path:
    """An interpreter that finds numpy, the tests' own modules and what lies in `paths`; no other package."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    site = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (site / name).exists():
            (packages / name).symlink_to(site / name)
    (packages / "tests").symlink_to(ROOT / "tests")
    found = ":".join(map(str, (packages, *paths)))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={found} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return python
