"""Splats in USD, USDA, USDC and USDZ: ParticleField3DGaussianSplat, and the NuRec volumes of older Isaac Sims.

They are read in a process of its own, which has bounded memory and may end: see `usd_worker`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipeline import errors
from pipeline.geometry import Gaussians
from pipeline.importing.formats.usd_worker import REFUSED
from pipeline.importing.splat_values import StatedSplat
from pipeline.io.arrays import arrays_of_npz

SUFFIXES = (".usd", ".usda", ".usdc", ".usdz")
VALUES = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
STATED = ("up", "metres")
MAX_BYTES, MAX_SECONDS = 2**33, 1800.0
METRES = 1e-6, 1e6
"""Of a unit."""


def read_usd(path: Path) -> StatedSplat:
    """Read all splats of a stage.

    Raises:
        BundleError: When it names other files.
        MachineError: When usd-core isn't installed.
        ValueError: When it holds no splat or is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "splat.npz"
        command = [sys.executable, "-P", "-m", f"{__package__}.usd_worker", str(path.absolute()), str(out)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=MAX_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"OpenUSD reads for more than {MAX_SECONDS:.0f} s") from error
        if done.returncode == REFUSED:
            said = json.loads(done.stdout.splitlines()[-1])
            if not said["kind"]:
                raise ValueError(said["found"])
            raise getattr(errors, said["kind"])(said["rule"], found=said["found"], remedy=said["remedy"], file=path)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            raise ValueError(f"OpenUSD ended with {done.returncode}: {last[:100]}")
        arrays = arrays_of_npz(out, VALUES, STATED, limit=MAX_BYTES)
    up, metres = arrays.pop("up", None), arrays.pop("metres", None)
    if metres is not None and not METRES[0] < metres[0] < METRES[1]:
        raise ValueError(f"units of {metres[0]} m")
    means, log_scales, quaternions, logits, sh = (np.ascontiguousarray(arrays[name], np.float32) for name in VALUES)
    gaussians = Gaussians(means, log_scales, quaternions, logits, sh)
    return StatedSplat(gaussians, up, None if metres is None else float(metres[0]))
