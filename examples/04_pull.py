"""Pull a bundle from a registry, by version range, into the bundles folder.

python examples/04_pull.py 'registry:./yard/hall@^1.0'
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline import Bundle
from pipeline.publish.pulling import pull


def main(arguments: Sequence[str] | None = None) -> None:
    """Open the bundle remotely, then pull it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("reference", help="[ADDRESS/]NAME[@VERSION or RANGE]")
    parser.add_argument("--out", type=Path, default=Path("bundles"))
    options = parser.parse_args(arguments)

    bundle = Bundle.open(options.reference)  # fetches only bundle.json
    mesh = bundle.mesh("collision")  # fetches the collision mesh and checks its hash
    print(f"{bundle.manifest.name}@{bundle.manifest.version}: {len(mesh.triangles)} triangles")
    folder = pull(bundle, options.out)  # all files, to open it by name without the registry
    assert Bundle.open(folder).verify() == []
    print(f"pulled {folder}")


if __name__ == "__main__":
    main()
