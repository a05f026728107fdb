"""Publish a bundle to a registry: a local folder, a bucket, or the Hugging Face Hub.

python examples/03_publish.py bundles/hall/1.0.0 registry:./yard
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pipeline import Bundle
from pipeline.publish.publishing import publish
from pipeline.scenes.resolver import open_registry


def main(arguments: Sequence[str] | None = None) -> None:
    """Publish the bundle and list the registry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", help="a folder, or name@version")
    parser.add_argument("registry", help="registry:FOLDER, s3://bucket/path, hf://owner/repository")
    options = parser.parse_args(arguments)

    registry = open_registry(options.registry, create=True)
    done = publish(Bundle.open(options.bundle), registry)  # refused if a gate fails or there is no licence
    print(f"published {done.reference}: {done.sent} of {done.files} files sent, the others already existed")
    for entry in registry.summaries():
        print(f"{entry.name}@{entry.version}  {entry.licence}")


if __name__ == "__main__":
    main()
