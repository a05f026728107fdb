"""The rasteriser as a package of its own: what it stands on, and the example of its page."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.paths import ROOT


def test_example_of_the_page_runs():
    """It renders, renders a batch and differentiates; its assertions hold."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/rasterizer.md").read_text(), re.DOTALL)
    exec(compile(example, "docs/rasterizer.md", "exec"), {})


def test_it_stands_on_geometry_alone():
    """Nothing of splat, capture, depth or any other package of ours is imported with it."""
    code = "import sys, pipeline; before = set(sys.modules); import pipeline.raster; print(*set(sys.modules) - before)"
    imported = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    ours = {name.split(".")[1] for name in imported.stdout.split() if name.startswith("pipeline.")}
    assert ours <= {"raster", "geometry", "types", "errors", "io", "compiling"}
