"""Freed memory stays in the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ITERATIONS = """
import resource
import numpy as np
from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.raster import rasterize, rasterize_backward

rng = np.random.default_rng(0)
n = 20_000
means = rng.normal(0, 1, (n, 3)) + [0, 0, 5]
values = means, np.full((n, 3), -4), rng.normal(size=(n, 4)), np.zeros(n), np.zeros((n, 1, 3))
scene = Gaussians(*(v.astype(np.float32) for v in values))
for turn in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    raster = rasterize(scene, Camera(400, 300, 300, 300, 200, 150), Pose.identity())
    rasterize_backward(raster, scene, np.ones_like(raster.planes), np.ones_like(raster.transmittance))
    del raster
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries stay as they are")
def test_iterations_take_no_new_pages():
    """After the first few, an iteration works in memory that the process has."""
    done = subprocess.run([sys.executable, "-c", ITERATIONS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100
