"""Splats for pages: SOG for PlayCanvas's viewers, SPZ for the others."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle.bundle import Bundle
from pipeline.export import axes
from pipeline.export.form import origin
from pipeline.export.spz import save_spz
from pipeline.splat.sog import save_sog


def export_sog(bundle: Bundle, folder: Path) -> None:
    """Write `scene.sog`, the full splat."""
    save_sog(bundle.splat().transformed(axes.Y_DOWN), folder / "scene.sog", origin(bundle))


def export_spz(bundle: Bundle, folder: Path) -> None:
    """Write `scene.spz`, the full splat."""
    save_spz(bundle.splat().transformed(axes.Y_UP), folder / "scene.spz")
