"""Two writers at once, and publishes that are killed: with real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.paths import ROOT
from tests.publish.variants import PAGE, variant

VERSIONS = 12


def run_writers(*arguments: str) -> dict[str, Any]:
    """What the processes saw."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.publish.writers", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_kill_at_any_moment_leaves_nothing_to_be_seen(yard, room_bundles):
    """Before and amid each write, and at random moments: a version is whole, or it isn't there."""
    found = run_writers("killed", yard.address, str(room_bundles["1.0.0"]))
    assert found["kills"] > 20
    assert set(found["seen"]) == {0, 1}  # some were killed after the version showed
    assert found["problems"] == []


def test_two_writers_at_once(registry, room_bundles, tmp_path):
    """None of what they publish is lost; of the version that both want one is published, and the other is told."""
    first = room_bundles["1.0.0"]
    folders = [
        variant(first, tmp_path, f"1.0.{number}", files={PAGE: f"page {number}".encode()}) for number in range(VERSIONS)
    ]
    folders += [variant(first, tmp_path / who, "1.0.99", files={PAGE: who.encode()}) for who in ("a", "b")]
    found = run_writers("together", registry.address, *map(str, folders))
    assert found["codes"] == [0, 3]
    assert found["versions"] == [f"1.0.{number}" for number in range(VERSIONS)] + ["1.0.99"]
    assert found["problems"] == []
    assert len(registry.summaries()) == VERSIONS + 1
