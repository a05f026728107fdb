"""Benchmarks run seldom; what they import must be there all the same."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT


def test_every_benchmark_imports():
    """None names a module or function that was renamed or removed."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")
    assert len(names) > 20
    code = "import " + ", ".join(f"benchmarks.{name}" for name in names)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
