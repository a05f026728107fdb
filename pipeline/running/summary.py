"""What a build makes of a capture, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.align.params import ScaleSources
from pipeline.stage import Traits

POSES_FROM = {
    "refined": "the source's poses, refined on the images",
    "sensor": "the source's poses as they are",
    "colmap": "poses from the images",
}
DEPTH_FROM = {
    "combined": "the sensor's depth combined with stereo",
    "sensor": "the sensor's depth",
    "mvs": "depth by stereo from the images",
}


def summary(traits: Traits, backends: Mapping[str, str], align: ScaleSources | None) -> str:
    """As `Plan.summary`, from the chosen backend by stage; `align` is None where the build ends before that stage."""
    missing = f" ({len(traits.missing)} more are listed, but not there)" if traits.missing else ""
    about = "about " if traits.estimated else ""
    parts = [f"{about}{traits.frames} images of a {traits.kind} capture{missing}"]
    parts += [
        phrases[backends[stage]]
        for stage, phrases in (("poses", POSES_FROM), ("depth", DEPTH_FROM))
        if backends.get(stage) in phrases
    ]
    if align is not None:
        gravity = "the sensor, floor, walls and plumb lines" if traits.has_gravity else "floor, walls and plumb lines"
        parts += [f"gravity from {gravity}", f"scale {_scale(traits, align)}"]
    return "; ".join(["; ASSUMED: ".join([", ".join(parts), *traits.assumed]), *traits.unused])


def _scale(traits: Traits, align: ScaleSources) -> str:
    sources = {
        "the sensor": traits.has_scale or None,
        "the tags' size": align.tag_size,
        "a known length": align.known_length,
        f"{align.sheet} sheets": align.sheet,
        "the camera's height": align.camera_height,
    }
    given = [name for name, value in sources.items() if value is not None]
    if not given:
        return "hinted by GPS or usual sizes, or assumed (its gate may fail: give --known-length or --tag-size)"
    return f"from {given[0]}" if len(given) == 1 else f"from the most certain of {', '.join(given)}"
