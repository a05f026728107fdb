"""A bundle from a registry, by a range of versions, into the bundles folder.

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
    """Pull all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("reference", help="[ADDRESS/]NAME[@VERSION or RANGE]")
    parser.add_argument("--out", type=Path, default=Path("bundles"))
    options = parser.parse_args(arguments)

    bundle = Bundle.open(options.reference)  # only bundle.json has come over
    mesh = bundle.mesh("collision")  # and now the collision mesh, checked against its hash
    print(f"{bundle.manifest.name}@{bundle.manifest.version}: {len(mesh.triangles)} triangles")
    folder = pull(bundle, options.out)  # everything, so that it opens by its name, without the registry
    assert Bundle.open(folder).verify() == []
    print(f"pulled {folder}")


if __name__ == "__main__":
    main()
