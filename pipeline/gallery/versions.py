"""The versions of a scene, and what changed from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bundle.bundle import Bundle
from pipeline.gallery.words import figure, size_of


@dataclass(frozen=True)
class Change:
    """One figure of two versions.

    Attributes:
        title: What it is.
        before: In the version before.
        now: In this version.
        failed: Whether it fails its gate now.
    """

    title: str
    before: str
    now: str
    failed: bool = False

    @property
    def changed(self) -> bool:
        """Whether the two differ."""
        return self.before != self.now


def changes(before: Bundle, now: Bundle) -> list[Change]:
    """Figures of a version beside those of the one before: files, levels of detail, floor and gates."""
    old, new = before.manifest, now.manifest
    rows = [Change("Size", _bytes(before), _bytes(now))]
    for lod in dict.fromkeys((*old.splats, *new.splats)):
        was, is_now = (f"{m.splats[lod].gaussians:,}" if lod in m.splats else "none" for m in (old, new))
        rows.append(Change(f"Gaussians, {lod}", was, is_now))
    for title, name in (("Mesh", "mesh.ply"), ("Collision mesh", "collision.ply"), ("Splat", "splat.ply")):
        was, is_now = (m.files[name].sha256[:12] if name in m.files else "none" for m in (old, new))
        rows.append(Change(f"{title}, SHA-256", was, is_now))
    was, is_now = (figure(bundle.regions.walkable_area, "m2") for bundle in (before, now))
    rows.append(Change("Walkable floor", was, is_now))
    earlier = {gate.name: gate for gate in before.quality.gates}
    for gate in now.quality.gates:
        there = earlier.get(gate.name)
        was = figure(there.value, there.unit) if there else "not measured"
        if gate.name != "walkable":
            rows.append(Change(gate.title, was, figure(gate.value, gate.unit), failed=gate.passed is False))
    return rows


def _bytes(bundle: Bundle) -> str:
    return size_of(sum(entry.bytes for entry in bundle.manifest.files.values()))
