"""Homes of Prefect that have a database: to make one takes eight CPU-seconds, and copies of the first are as good."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.paths import ROOT

MAKE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def prefect_home(folder: Path) -> str:
    """A folder for `PREFECT_HOME`, with an empty database as the server makes it on its first start."""
    kept = ROOT / ".cache" / f"prefect-{version('prefect')}.db"
    kept.parent.mkdir(exist_ok=True)
    with kept.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=kept.parent) as made:
                environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
                subprocess.run([sys.executable, "-c", MAKE], env=environment | {"PREFECT_HOME": made}, check=True)
                (Path(made) / "prefect.db").replace(kept)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "prefect.db").exists():
        shutil.copyfile(kept, folder / "prefect.db")
    return str(folder)
