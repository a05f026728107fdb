"""`splatyard export`: a bundle in the form that another simulator takes."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a bundle in the form that another simulator takes"
DESCRIPTION = """\
Writes a bundle for GaussGym (mesh slices and a nerfstudio splat), or its meshes with an MJCF or URDF file for a
simulator of your own. Spawn poses, goals and the floor lie beside."""
EXAMPLES = """\
  splatyard export gaussgym bundles/hall/1.0.0 --out gaussgym/hall
  splatyard export mjcf hall@1.0.0 --out hall_mjcf
  splatyard export urdf hall --out hall_urdf"""

FORMS = ("gaussgym", "mjcf", "urdf")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    command.add_argument("form", choices=FORMS, metavar="FORM", help=f"one of {', '.join(FORMS)}")
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, name@version, or hf://...")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline import Bundle
    from sim.export.catalog import export

    export(Bundle.open(options.bundle), options.form, options.out)
    for path in sorted(options.out.rglob("*")):
        if path.is_file():
            print(path)
    return 0
