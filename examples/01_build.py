"""Build a bundle from a capture and print its gates.

python examples/01_build.py scene_cards/samples/hall --name hall
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline import BuildRequest, Bundle, build


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the bundle and print its gates."""
    parser = argparse.ArgumentParser()
    parser.add_argument("capture", type=Path, help="photos, a video, a phone scan, a robot's log ...")
    parser.add_argument("--name")
    parser.add_argument("--out", type=Path, default=Path("bundles"))
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.PARAM=VALUE")
    options = parser.parse_args(arguments)

    request = BuildRequest(options.capture, name=options.name, out=options.out, settings=tuple(options.set))
    result = build(request)  # reuses the results of earlier and killed runs
    assert result.bundle is not None  # None only with `until`

    for gate in Bundle.open(result.bundle).quality.gates:
        verdict = {True: "passed", False: "FAILED", None: "does not apply"}[gate.passed]
        print(f"{verdict:<15} {gate.title}: {gate.value} {gate.unit}")
    print(f"bundle          {result.bundle}")


if __name__ == "__main__":
    main()
