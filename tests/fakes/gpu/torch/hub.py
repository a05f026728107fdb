"""A cache of weights: TORCH_HOME, filled from FAKE_WEIGHTS, a file; without that there is no network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.error import URLError


def get_dir() -> str:
    return str(Path(os.environ["TORCH_HOME"]) / "hub")


def download_url_to_file(url: str, dst: str, hash_prefix=None, progress=True) -> None:
    if "FAKE_WEIGHTS" not in os.environ:
        raise URLError("[Errno -3] Temporary failure in name resolution")
    shutil.copy(os.environ["FAKE_WEIGHTS"], dst)
