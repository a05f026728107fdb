"""Why keyframes have no pose, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Matches


def why_lost(
    keyframes: Sequence[Keyframe],
    matches: Sequence[Matches],
    known: Collection[int],
    left_out: Sequence[Sequence[str]],
) -> dict[str, str]:
    """A reason by name for every keyframe that is not among the `known` image ids.

    Args:
        keyframes: All keyframes.
        matches: Verified matches.
        known: Image ids that have a pose.
        left_out: Names of the pictures of each sub-model that was left out.
    """
    groups = {name: len(names) for names in left_out for name in names}
    most = {k.image_id: 0 for k in keyframes}
    for m in matches:
        for i, j in ((m.i + 1, m.j + 1), (m.j + 1, m.i + 1)):
            if j in known:
                most[i] = max(most[i], len(m.features))
    result = {}
    for k in keyframes:
        if k.image_id in known:
            continue
        if k.name in groups:
            result[k.name] = f"one of {groups[k.name]} pictures that fit together, but not with the rest"
        elif not most[k.image_id]:
            result[k.name] = "no matches with the other pictures"
        else:
            result[k.name] = f"at most {most[k.image_id]} matches with another picture, and no pose that they agree on"
    return result
