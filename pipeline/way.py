"""How a build comes to poses, depth, gravity and scale, in one sentence for people."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.align.params import AlignParams
from pipeline.stage import Traits

POSES = {
    "refined": "the source's poses, refined on the pictures",
    "sensor": "the source's poses as they are",
    "colmap": "poses from the pictures",
}
DEPTH = {
    "combined": "the sensor's depth combined with stereo",
    "sensor": "the sensor's depth",
    "mvs": "depth by stereo from the pictures",
}


def way_of(traits: Traits, backends: Mapping[str, str], align: AlignParams) -> str:
    """The sentence.

    Args:
        traits: What is known of the capture.
        backends: Chosen backend by stage.
        align: What the user says of the scale.
    """
    missing = f" ({len(traits.missing)} more are listed, but not there)" if traits.missing else ""
    parts = [f"{traits.frames} pictures of a {traits.kind} capture{missing}"]
    parts += [words[backends[stage]] for stage, words in (("poses", POSES), ("depth", DEPTH)) if stage in backends]
    if "align" in backends:
        gravity = "the sensor, floor, walls and plumb lines" if traits.has_gravity else "floor, walls and plumb lines"
        parts += [f"gravity from {gravity}", f"scale {_scale(traits, align)}"]
    return "; ASSUMED: ".join([", ".join(parts), *traits.assumed])


def _scale(traits: Traits, align: AlignParams) -> str:
    sources = {
        "the sensor": traits.has_scale or None,
        "the tags' size": align.tag_size,
        "a known length": align.known_length,
        f"{align.sheet} sheets": align.sheet,
        "the camera's height": align.camera_height,
    }
    given = [name for name, value in sources.items() if value is not None]
    if not given:
        return "hinted by usual sizes or assumed (its gate will fail: give --known-length or --tag-size)"
    return f"from {given[0]}" if len(given) == 1 else f"from the surest of {', '.join(given)}"
