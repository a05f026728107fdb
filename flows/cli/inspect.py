"""`splatyard inspect`: what a bundle holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline import Bundle

HELP = "show what a bundle holds: figures, gates, sources, sizes"
DESCRIPTION = """\
Shows what a bundle holds: its figures and gates, where frame and scale come from, how every stage was run, its files
and their sizes."""
EXAMPLES = """\
  splatyard inspect bundles/hall/1.0.0
  splatyard inspect hall@1.0.0 --json"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `inspect`."""
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, name@version, or name for its newest")
    command.add_argument("--json", action="store_true", help="manifest and quality as JSON, for machines")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline import Bundle

    bundle = Bundle.open(options.bundle)
    if options.json:
        print(json.dumps(to_json(bundle), indent=1))
    else:
        _show(bundle)
    return 0


def to_json(bundle: Bundle) -> dict[str, Any]:
    """The manifest and the quality with its verdicts, as plain JSON values."""
    gates = [{**gate.model_dump(mode="json"), "passed": gate.passed} for gate in bundle.quality.gates]
    quality = {**bundle.quality.model_dump(mode="json"), "gates": gates, "passed": bundle.quality.passed}
    return {"manifest": bundle.manifest.model_dump(mode="json"), "quality": quality}


def _show(bundle: Bundle) -> None:
    from rich.markup import escape

    from flows.cli import tables

    manifest = bundle.manifest
    title = f"{manifest.name}@{manifest.version}"
    tables.show(tables.plain_table(title, ["what", "is"], ((name, escape(text)) for name, text in facts(bundle))))
    tables.show(tables.gates_table(bundle.quality.gates))
    figures = ((escape(name), escape(text)) for name, text in flat(bundle.quality.figures))
    tables.show(tables.plain_table("further figures", ["figure", "value"], figures))
    stages = ((s.name, s.backend, escape(s.reason), s.key) for s in manifest.provenance.stages)
    tables.show(tables.plain_table("stages", ["stage", "backend", "why", "key"], stages))
    files = ((escape(name), tables.size(entry.bytes), entry.sha256[:12]) for name, entry in manifest.files.items())
    tables.show(tables.plain_table("files", ["file", ">size", "sha256"], files))


def facts(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Name and text of what can be said in a line."""
    from flows.cli import tables

    manifest, frame, provenance = bundle.manifest, bundle.manifest.frame, bundle.manifest.provenance
    yield "folder", str(bundle.root)
    yield "description", provenance.description or "-"
    yield "source", provenance.source
    yield "licence", provenance.licence
    yield "parents", ", ".join(manifest.parents) or "-"
    yield "quality", "no gate fails" if manifest.quality_passed else f"FAILED: {', '.join(manifest.failed_gates)}"
    yield "frame", f"z up, metres; floor {'found' if frame.floor_found else 'guessed'}"
    yield "gravity from", _measured(frame.gravity_from.source, frame.gravity_from.sigma, "degrees", 1)
    yield "scale from", _measured(frame.scale_from.source, frame.scale_from.sigma, "%", 100)
    cameras = bundle.cameras
    yield "cameras", f"{len(cameras)}, {sum(camera.held_out for camera in cameras)} of them held out"
    yield "spawn poses", str(len(bundle.spawn_poses))
    for level, splat in manifest.splats.items():
        yield f"splat {level}", f"{splat.gaussians} Gaussians, SH degree {splat.sh_degree}"
    yield "size", tables.size(sum(entry.bytes for entry in manifest.files.values()))
    yield "packages", ", ".join(f"{name} {version}" for name, version in provenance.packages.items())
    yield "machine", ", ".join(provenance.machine.values())


def _measured(source: str, sigma: float | None, unit: str, factor: float) -> str:
    return f"{source}, a guess" if sigma is None else f"{source} ± {sigma * factor:.3g} {unit}"


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and text of every value of nested figures."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
