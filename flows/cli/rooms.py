"""Generated rooms: scenes in bulk to train and test in, without a capture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from flows.cli import tables
from flows.cli.command import Arg, command
from pipeline.errors import CardError

NEXT = {
    None: "train      splatyard train find --scene {}",
    "table": "train      splatyard train put_cube_on_plate_tables --scene {}",
    "stairs": "walk       splatyard eval --driver stairs --scene {}",
}
"""The next command, by the feature of the rooms."""


@command(resumes=True)
def rooms(
    count: Annotated[int, Arg("number of rooms, at most 10 000", "COUNT")],
    *,
    out: Annotated[Path, Arg("folder of bundles to write the rooms to", "DIR")] = Path("rooms"),
    seed: Annotated[int, Arg("seed of the first room; each next room has the next seed")] = 0,
    like: Annotated[str | None, Arg("take colours and brightness from this real scene", "BUNDLE")] = None,
    feature: Annotated[
        Literal["table", "stairs"] | None,
        Arg("feature of each room; table has space for an arm", flag="--with"),
    ] = None,
    scanned: Annotated[float, Arg("largest amount of scan artifacts, 0 (clean) to 1", "SHARE")] = 0.5,
) -> int:
    """Generate rooms as bundles with ground truth, about a second each.

    Each room is a bundle `room-SEED` with mesh, splat, floor and goals, marked as rendered. Furniture has thin legs. A
    quarter of the rooms contain distractors in the colour of the ball that robots search for. In a third, the floor has
    holes, a cliff, or an open edge as in scans.

    Equal seeds give equal rooms. Existing rooms are kept, so an interrupted command resumes when you run it again.

    Examples:
        splatyard scene rooms 64
        splatyard scene rooms 1000 --out yard --seed 5000
        splatyard scene rooms 64 --out like_hall --like bundles/hall/1.0.0
        splatyard scene rooms 8 --out clean --scanned 0
        splatyard scene rooms 20 --out tables --with table
        splatyard scene rooms 20 --out stairs --with stairs
    """
    from pipeline.parameters import checked
    from pipeline.rooms.many import RoomsParams, make_rooms

    asked = {"count": count, "seed": seed, "scanned": scanned, "feature": feature}
    params = checked(RoomsParams, asked, "rooms", CardError)
    made = make_rooms(params, out, like)
    kept = f", {made.kept} of them existed" if made.kept else ""
    tables.say(f"rooms      {len(made.folders)} in {tables.quoted(out)}{kept}")
    tables.say(f"look       splatyard view {tables.quoted(tables.shown(made.folders[0]))}")
    tables.say(NEXT[params.feature].format(tables.quoted(out / "*")))
    return 0
