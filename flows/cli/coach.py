"""`splatyard scene coach`: where to film a place again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from flows.cli import tables
from flows.cli.command import Arg, AsJson, command


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
