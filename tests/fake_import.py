"""An import of two quick stages: one reads the files as the real one does, one writes no more than a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.bundle.params import BundleParams
from pipeline.importing.source import read_source
from pipeline.importing.stages import ImportParams
from pipeline.stage import Stage


def read(inputs: Mapping[str, Path], params: ImportParams, out_dir: Path) -> None:
    """Read the files, so that bad ones are found."""
    source = read_source(inputs["source"], inputs["mesh_file"])
    (out_dir / "count.txt").write_text(f"{len(source.gaussians)} {params.scale}")


def write(inputs: Mapping[str, Path], params: BundleParams, out_dir: Path) -> None:
    """Write what is asked about a bundle."""
    (out_dir / "bundle.json").write_text(params.model_dump_json())


QUICK_STAGES = (
    Stage("capture", 1, ("source", "mesh_file"), ImportParams, function=f"{__name__}:read"),
    Stage("bundle", 1, ("capture",), BundleParams, function=f"{__name__}:write"),
)
