"""Rooms drawn by seeds: scenes in bulk to train and test in, without a capture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from flows.cli import tables
from flows.cli.command import Arg, command
from pipeline.errors import CardError

NEXT = {
    None: "train      splatyard train find --scene {}",
    "table": "train      splatyard train put_cube_on_plate_tables --scene {}",
    "stairs": "walk       splatyard eval --driver stairs --scene {}",
}
"""What rooms are for, by what each has."""


@command()
def rooms(
    count: Annotated[int, Arg("how many, at most 10 000", "COUNT")],
    *,
    out: Annotated[Path, Arg("folder of the rooms", "DIR")] = Path("rooms"),
    seed: Annotated[int, Arg("of the first room; the others have those that follow")] = 0,
    like: Annotated[str | None, Arg("a real place whose colours and brightness they take over", "BUNDLE")] = None,
    feature: Annotated[
        str | None, Arg("what each has: table, with room for an arm, or stairs", "WHAT", flag="--with")
    ] = None,
    scanned: Annotated[float, Arg("how much they look like scans at most, 0 to 1; 0 is clean", "SHARE")] = 0.5,
) -> int:
    """Draw rooms, as bundles with exact truth, about a second each.

    Each room is a bundle `room-SEED` with mesh, splat, floor and goals, marked as rendered. Furniture stands
    about on thin legs; a quarter of the rooms hold things of the colour of the ball that robots look for, and in a
    third the floor ends without a wall as in scans, has holes, or ends in a cliff.

    Equal seeds give equal rooms. Those that exist are kept, so that a command that was stopped goes on when it is given
    again.

    Examples:
        splatyard rooms 64
        splatyard rooms 1000 --out yard --seed 5000
        splatyard rooms 64 --out like_hall --like bundles/hall/1.0.0
        splatyard rooms 8 --out clean --scanned 0
        splatyard rooms 20 --out tables --with table
        splatyard rooms 20 --out stairs --with stairs
    """
    from pipeline.parameters import checked
    from pipeline.rooms.many import RoomsParams, make_rooms

    asked = {"count": count, "seed": seed, "scanned": scanned, "feature": feature}
    params = checked(RoomsParams, asked, "rooms", CardError)
    made = make_rooms(params, out, like)
    kept = f", {made.kept} of them from before" if made.kept else ""
    tables.say(f"rooms      {len(made.folders)} in {tables.quoted(out)}{kept}")
    tables.say(f"look       splatyard view {tables.quoted(tables.shown(made.folders[0]))}")
    tables.say(NEXT[params.feature].format(tables.quoted(out / "*")))
    return 0
