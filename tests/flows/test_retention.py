"""Old results removed by a flow, as `splatyard scene gc` does."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flows.retention import clean_up


def test_old_results_go_and_bundles_stay(tmp_path: Path):
    """By default those of a month ago; with a size, no more than exceeds it."""
    mesh = tmp_path / ".work" / "hall" / "mesh"
    bundle = tmp_path / "hall" / "1.0.0"
    ages = {mesh / ("a" * 20): 40, mesh / ("b" * 20): 20, mesh / f".{'c' * 20}.partial": 0, bundle: 400}
    for folder, age in ages.items():
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 2048)
        os.utime(folder, (time.time() - age * 86400,) * 2)
    assert clean_up.fn(tmp_path).message == "freed 4.0 KiB of 6.0 KiB: 2 results removed"
    assert [folder.exists() for folder in ages] == [False, True, False, True]
    assert clean_up.fn(tmp_path, None, 1.0).message == "freed 0 B of 2.0 KiB: 0 results removed"
    assert clean_up.fn(tmp_path, 10.0).message == "freed 2.0 KiB of 2.0 KiB: 1 result removed"
    assert bundle.exists()
