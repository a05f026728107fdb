"""Metrics and gates in words, and what changed from one version of a scene to the next."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.check.quality import Gate, metric_text
from pipeline.io.files import readable
from pipeline.publish.diff import difference, made_change
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.references import Version

MESHES = {"mesh.ply": "Mesh", "collision.ply": "Collision mesh"}


@dataclass(frozen=True)
class Row:
    """One metric before and now, and whether it fails its gate now."""

    title: str
    before: str
    now: str
    failed: bool = False

    @property
    def changed(self) -> bool:
        """Whether the two differ."""
        return self.before != self.now


@dataclass(frozen=True)
class Changes:
    """What changed: the kind of version, why by the registry's rules, number of differing files, metrics of both."""

    kind: str
    why: str
    files: int
    rows: tuple[Row, ...]


def changes(before: Bundle, now: Bundle) -> Changes:
    """A version compared with the one before: size, levels of detail, meshes, frame and gates.

    Raises:
        BundleError: When one is damaged.
    """
    found = difference(before, now)
    was, is_now = (sum(entry.bytes for entry in bundle.manifest.files.values()) for bundle in (before, now))
    rows = [Row("Size", readable(was), readable(is_now))]
    rows += [Row(f"Gaussians, {level}", _count(a), _count(b)) for level, (a, b) in found.gaussians.items()]
    rows += [Row(MESHES[name], *_meshes(*pair)) for name, pair in found.meshes.items()]
    rows += [Row(f"Frame: {name.replace('_', ' ')}", _frame(a), _frame(b)) for name, (a, b) in found.frame.items()]
    for was, gate in found.gates.values():
        known = gate or was
        assert known is not None
        failed = gate is not None and gate.passed is False
        rows.append(Row(known.title, _gate(was), _gate(gate), failed))
    made = made_change(*(Version.parse(bundle.manifest.version) for bundle in (before, now)))
    return Changes(made, found.why, len(found.files), tuple(rows))


def must_be(gate: Gate) -> str:
    """The threshold in words."""
    return f"at {'most' if gate.comparison == '<=' else 'least'} {metric_text(gate.threshold, gate.unit)}"


def _count(gaussians: int | None) -> str:
    return "none" if gaussians is None else f"{gaussians:,}"


def _gate(gate: Gate | None) -> str:
    return "not measured" if gate is None else metric_text(gate.value, gate.unit)


def _meshes(before: tuple[int, int] | None, now: tuple[int, int] | None) -> tuple[str, str]:
    """Sizes of a mesh that changed."""
    was, is_now = ("none" if size is None else f"{size[1]:,} triangles" for size in (before, now))
    return was, f"{is_now}, elsewhere" if was == is_now else is_now


def _frame(value: object) -> str:
    """A field of the frame; where gravity and scale come from is a source with its sigma."""
    if not isinstance(value, dict):
        return str(value)
    return f"{value['source']}, " + ("a guess" if value["sigma"] is None else f"sigma {value['sigma']:.3g}")
