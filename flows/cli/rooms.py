"""Rooms generated in bulk, without a capture; and where to film a real place again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from flows.cli import tables
from flows.cli.command import Arg, AsJson, command
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


@command()
def coach(
    name: Annotated[str, Arg("bundle, or the name of a build that has its mesh", "NAME")],
    *,
    out: Annotated[Path, Arg("folder to write coach.png and coach.html to", "DIR")] = Path("coach"),
    as_json: AsJson = False,
) -> int:
    """Suggest where to film a place again, as a map and a page for the phone.

    Chooses up to 12 places and directions from which most would be seen of what the capture lacks: surfaces that are
    guessed, in no view, or seen only at a grazing angle or from afar, and openings into space nobody looked into.
    What robots see and touch counts most. Writes a map to print (coach.png) and one page with a picture of each view
    (coach.html).

    It needs a mesh only, so half a capture will do: build that with --until mesh, then film what is missing.

    Examples:
        splatyard scene coach hall
        splatyard scene coach hall --out hall_again
        splatyard build half_a_scan/ --name kitchen --until mesh && splatyard scene coach kitchen
    """
    from pipeline.coaching.filmed import filmed_place

    filmed = filmed_place(name)
    from pipeline.coaching.advice import advise
    from pipeline.coaching.page import NOTHING, write_advice
    from pipeline.coaching.words import WHY, main_kind, sentences

    advice = advise(filmed)
    texts = sentences(filmed, advice)
    map_file, page_file = write_advice(filmed, advice, texts, out)
    if as_json:
        suggestions = [
            {
                "number": number,
                "text": text,
                "area_m2": round(one.area, 3),
                "why": WHY[main_kind(one)],
                "stand_m": one.stance.stand.round(3).tolist(),
                "phone_height_m": one.stance.height,
                "yaw_deg": one.stance.yaw,
                "pitch_deg": one.stance.pitch,
            }
            for number, (one, text) in enumerate(zip(advice.suggestions, texts, strict=True), 1)
        ]
        tables.show_json({"place": filmed.name, "suggestions": suggestions, "map": map_file, "page": page_file})
        return 0
    if texts:
        rows = ((str(number), text) for number, text in enumerate(texts, 1))
        tables.table(f"{filmed.name}: where to film again", [">", "suggestion"], rows)
    else:
        tables.say(NOTHING)
    tables.say(f"map        {tables.quoted(map_file)}")
    tables.say(f"page       {tables.quoted(page_file)}")
    return 0
