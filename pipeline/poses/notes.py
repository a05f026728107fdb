"""The poses report in sentences, for the log and for `splatyard inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def notes(report: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know of the poses; figures come from the stage's report."""
    yield f"{report['registered']} of {report['keyframes']} keyframes have poses"
    moved = report.get("moved")
    if moved:
        yield (
            f"the given poses moved by {moved['position_median_m']:.3f} m and {moved['rotation_median_deg']:.2f} "
            f"degrees (median), by {moved['position_max_m']:.3f} m and {moved['rotation_max_deg']:.2f} degrees at most"
        )
    loops = report.get("loops")
    if loops and loops["pairs"]:
        yield (
            f"{_count(loops['pairs'], 'loop closure')}: the sensor had drifted {loops['drift_median_m']:.3f} m and "
            f"{loops['drift_median_deg']:.2f} degrees (median), {loops['drift_max_m']:.3f} m and "
            f"{loops['drift_max_deg']:.2f} degrees at most"
        )
    if loops and loops["contradicting_pairs"]:
        yield f"dropped, for the given poses contradict them: matches of {_count(loops['contradicting_pairs'], 'pair')}"
    if loops and loops["jumps"]:
        yield f"the given poses have {_count(loops['jumps'], 'jump')}"
    if report["held_by_sensor"]:
        yield f"kept as given, for next to nothing is seen: {_count(len(report['held_by_sensor']), 'keyframe')}"
    chunks = report.get("chunks")
    if chunks:
        yield f"{_count(chunks['runs'], 'run')} of {report['backend']}, {_count(chunks['loops'], 'loop')} closed"
    if chunks and chunks["memory_halved"]:
        yield f"the GPU's memory held {chunks['pictures_at_once']} pictures at once, fewer than it promised"
    if report.get("not_finite"):
        yield f"{report['backend']} found nothing finite in {_count(len(report['not_finite']), 'keyframe')}"
    if report.get("held_by_network"):
        held = _count(len(report["held_by_network"]), "keyframe")
        yield f"kept as {report['backend']} gave them, for next to nothing matches there: {held}"
    if report.get("joined", 1) > 1:
        yield f"{report['joined']} sub-models were joined"
    if report.get("left_out"):
        sizes = ", ".join(str(len(names)) for names in report["left_out"])
        yield f"{1 + len(report['left_out'])} sub-models don't fit together; those of {sizes} pictures were left out"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
