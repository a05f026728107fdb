"""Weights of the stand-ins, saved as the real ones are."""

from __future__ import annotations

from pathlib import Path

import pytest

PACKAGES = Path(__file__).parent / "networks"


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins where Python finds them, for one test, and let them compute on the CPU."""
    import sys

    import torch

    for name in [n for n in sys.modules if n.split(".")[0] in ("vggt", "depth_anything_3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(PACKAGES))
    for worker in ("vggt_worker", "depth_anything_worker"):
        monkeypatch.setattr(f"pipeline.poses.{worker}.usable_device", lambda *_: torch.device("cpu"))


def save_weights(folder: Path, *, network: str = "vggt") -> Path:
    """A folder with the weights of a stand-in."""
    import torch

    torch.manual_seed(0)
    if network == "vggt":
        from vggt.models.vggt import VGGT

        VGGT().save_pretrained(folder)
    else:
        from depth_anything_3.api import DepthAnything3

        DepthAnything3().save_pretrained(folder)
    return folder
