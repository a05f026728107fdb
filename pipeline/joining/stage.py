"""The capture stage of several sources: their captures become one, or an error says which belong together."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from pipeline.capture.model import Capture, as_named
from pipeline.errors import CardError, ReconstructionError
from pipeline.geometry import Pose
from pipeline.io.results import resume_folder
from pipeline.joining.judge import ONE_UNIT, Judgement
from pipeline.joining.merge import best_source, joined_name, merged
from pipeline.joining.params import PREFIX, JoinParams
from pipeline.joining.readings import draw_readings
from pipeline.joining.submap import Submap, submap_of
from pipeline.joining.together import Pair, Together, together
from pipeline.types import F64

logger = logging.getLogger(__name__)

JOINING_FILE = "joining.json"
SEED = 0


def run(inputs: Mapping[str, Path], params: JoinParams, out_dir: Path) -> None:
    """Read the sources' captures, place them in one frame, and write capture.json, their files and joining.json.

    Where all are photos or videos without poses, nothing is placed: the poses stage maps the images of all together.

    Raises:
        CaptureError: When a capture lacks depth, poses or scale, and another doesn't.
        CardError: When a link names a frame that there isn't.
        ReconstructionError: When the captures don't all hang together; it says which do, and what is missing.
    """
    captures = {name.removeprefix(PREFIX): Capture.load(path) for name, path in sorted(inputs.items())}
    names = [*captures]
    words = _words(params, captures)
    if not any(capture.has_depth or capture.has_poses for capture in captures.values()):
        _pool(captures, out_dir)
        return
    named = {name: [frame for link in words for frame in link if frame[0] == name] for name in names}
    maps = [submap_of(name, captures[name], [frame for _, frame in named[name]]) for name in names]
    found = together(maps, _by_pair(words, maps), np.random.default_rng(SEED))
    lines = [_line(maps, pair, judgement) for pair, judgement in found.judgements.items()]
    for line in lines:
        logger.info("%s", line)
    if len(found.parts) > 1:
        raise _apart(maps, found, resume_folder(out_dir) / "readings")
    best = best_source(captures)
    capture = merged(captures, _places(maps, found, names.index(best)), best, out_dir)
    shown = f"{100 * found.through:.2f} % of what captures see of each other is looked through"
    told = f"the world, its gravity and scale are those of {best}; {shown}"
    capture = replace(capture, notes=(*capture.notes, *lines, told))
    capture.save()
    (out_dir / JOINING_FILE).write_text(json.dumps(_report(maps, found), indent=1))
    logger.info("%d frames of %d captures; %s", len(capture.frames), len(captures), told)


def _pool(captures: Mapping[str, Capture], out_dir: Path) -> None:
    here = Pose(np.eye(3), np.zeros(3))
    capture = merged(captures, dict.fromkeys(captures, here), best_source(captures), out_dir)
    told = "no source has poses or depth: their images are mapped together"
    replace(capture, notes=(*capture.notes, told)).save()
    (out_dir / JOINING_FILE).write_text(json.dumps({"sources": [*captures], "links": []}, indent=1))
    logger.info("%d frames of %d captures; %s", len(capture.frames), len(captures), told)


def _places(maps: Sequence[Submap], found: Together, best: int) -> dict[str, Pose]:
    """World of the best source from that of each."""

    def upright(submap: Submap) -> F64:
        result = np.eye(4)
        result[:3, :3] = submap.upright_from_world
        return result

    back = np.linalg.inv(found.motions[best] @ upright(maps[best]))
    return {m.name: Pose.from_matrix(back @ motion @ upright(m)) for m, motion in zip(maps, found.motions, strict=True)}


Spot = tuple[str, str]
"""A source, and the name of one of its frames."""


def _words(params: JoinParams, captures: Mapping[str, Capture]) -> list[tuple[Spot, Spot]]:
    """The links of a card, each in the order of the sources; frames are named with or without their suffix."""
    frames = {joined_name(name, frame.name): (name, frame.name) for name, c in captures.items() for frame in c.frames}
    named, found = as_named(frames), []
    for link in params.links:
        for text in (link.a, link.b):
            if text not in named:
                raise CardError(
                    "a link names frames of two sources",
                    found=f"{text!r}",
                    remedy=f"the sources are {', '.join(captures)}; a frame is for example {next(iter(frames))}",
                )
        one, other = sorted((named[link.a], named[link.b]))
        if one[0] == other[0]:
            rule, remedy = "a link is between two sources", "name a frame of each"
            raise CardError(rule, found=f"{link.a} and {link.b}", remedy=remedy)
        found.append((one, other))
    return found


def _by_pair(words: Sequence[tuple[Spot, Spot]], maps: Sequence[Submap]) -> dict[Pair, list[tuple[int, int]]]:
    numbers = {m.name: n for n, m in enumerate(maps)}
    found: dict[Pair, list[tuple[int, int]]] = {}
    for (a, one), (b, other) in words:
        rows = maps[numbers[a]].names.index(one), maps[numbers[b]].names.index(other)
        found.setdefault((numbers[a], numbers[b]), []).append(rows)
    return found


def _line(maps: Sequence[Submap], pair: Pair, judgement: Judgement) -> str:
    names = " - ".join(maps[k].name for k in pair)
    measured = ""
    if judgement.places:
        place = judgement.places[0]
        e = place.evidence
        measured = (
            f" ({place.frames} frames, {place.matches} matches; {100 * e.through:.2f} % looked through, "
            f"{100 * e.again:.0f} % of features found again)"
        )
    return f"{names}: {judgement.verdict}, {judgement.reason}{measured}"


def _apart(maps: Sequence[Submap], found: Together, folder: Path) -> ReconstructionError:
    """What belongs together, what doesn't, and what would decide."""
    parts = [[maps[k].name for k in part] for part in found.parts]
    part_of = {k: n for n, part in enumerate(found.parts) for k in part}
    between = {pair: one for pair, one in found.judgements.items() if part_of[pair[0]] != part_of[pair[1]]}
    lines = [_line(maps, pair, judgement) for pair, judgement in between.items()]
    images = [
        file
        for (a, b), judgement in between.items()
        if judgement.verdict == "ambiguous"
        for file in draw_readings(maps[a], maps[b], judgement, folder)
    ]
    together_now = "; ".join(f"part {n}: {', '.join(part)}" for n, part in enumerate(parts, 1))
    remedy = "film one capture that shows both, with a few steps of overlap, or build the parts by themselves"
    if any(ONE_UNIT in judgement.reason for judgement in between.values()):
        remedy = "give depth and poses in metres: write them anew, or correct `depth_scale` beside the intrinsics"
    if images:
        pair = next(pair for pair, one in between.items() if one.verdict == "ambiguous")
        example = ", ".join(f"{key}: {joined_name(maps[k].name, 'FRAME')}" for key, k in zip("ab", pair, strict=True))
        remedy = (
            f"look at {images[0].parent}, then name two frames that see the same spot in a card, "
            f"`links: [{{{example}}}]`, and build with --card; or {remedy}"
        )
    return ReconstructionError(
        "captures of one place hang together: each shows something that another shows",
        found=f"{len(parts)} parts ({together_now}). {'. '.join(lines)}",
        remedy=remedy,
    )


def _report(maps: Sequence[Submap], found: Together) -> dict[str, object]:
    """JSON values: verdicts of the pairs with their places and evidence."""
    return {
        "sources": [m.name for m in maps],
        "looked_through": found.through,
        "links": [
            {
                "a": maps[a].name,
                "b": maps[b].name,
                "verdict": judgement.verdict,
                "reason": judgement.reason,
                "places": [
                    {
                        "upright_a_from_b": place.a_from_b.tolist(),
                        "frames": place.frames,
                        "matches": place.matches,
                        "walls": place.walls,
                        **asdict(place.evidence),
                    }
                    for place in judgement.places
                ],
            }
            for (a, b), judgement in found.judgements.items()
        ],
    }
