"""Build a static site of all scenes in a registry, or in a folder of bundles.

python examples/06_gallery.py registry:./yard site
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline.gallery.scenes import scenes
from pipeline.gallery.site import build_site


def main(arguments: Sequence[str] | None = None) -> None:
    """Build pages that are new or changed, and print how many."""
    parser = argparse.ArgumentParser()
    parser.add_argument("registry", help="registry:FOLDER, s3://bucket/path, or a folder of bundles")
    parser.add_argument("site", type=Path)
    options = parser.parse_args(arguments)

    built = build_site(scenes(options.registry), options.site)
    print(f"{len(built.made)} pages built, {len(built.kept)} up to date")
    print(f"python -m http.server --directory {options.site} shows it")


if __name__ == "__main__":
    main()
