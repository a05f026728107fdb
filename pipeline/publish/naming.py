"""Which version a reference means among those that are there, and what to say where it means none."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping

from pipeline.errors import BundleError
from pipeline.publish.entry import LONGEST
from pipeline.publish.versions import Reference, Version


def choose(
    reference: Reference, there: Mapping[Version, bool], scenes: Callable[[], Iterable[str]], place: str
) -> Version:
    """The version that a reference means: for "latest" and a range the newest that isn't yanked.

    Args:
        reference: What somebody asks for.
        there: All versions of the scene, the oldest first, and whether each is well and not yanked.
        scenes: Gives the names of all scenes, for messages.
        place: Where all that is, for messages.

    Raises:
        BundleError: When there is none.
    """
    well = [version for version, is_well in there.items() if is_well or reference.exact]
    found = reference.newest(well)
    if found is None:
        raise no_version(reference, there, scenes, place)
    return found


def no_version(
    reference: Reference, there: Mapping[Version, bool], scenes: Callable[[], Iterable[str]], place: str
) -> BundleError:
    """That there isn't what a reference means, and what there is instead; arguments as of `choose`."""
    if there:
        told = [f"{version}{'' if well else ' (yanked)'}" for version, well in there.items()]
        found = f"no {reference.wanted} of {reference.name}; there is {', '.join(told[-9:])}"
        remedy = f"such as {reference.name}@{list(there)[-1]}"
    else:
        near = difflib.get_close_matches(reference.name, scenes(), 3, 0.4)
        found = f"no scene {reference.name!r}"
        remedy = f"did you mean {' or '.join(near)}?" if near else "`splatyard list` shows what there is"
    return BundleError("a registry has the version that is asked for", found=found, remedy=remedy, file=place)


def check_reason(reference: Reference, why: str) -> None:
    """That a yank names one version, and says why.

    Raises:
        BundleError: When it doesn't.
    """
    if not reference.exact or not why.strip() or len(why) > LONGEST:
        raise BundleError(
            f"a yank names one version, and why in {LONGEST} characters",
            found=f"{reference.name}@{reference.wanted}, {why.strip()!r:.60}",
            remedy="such as splatyard yank hall@1.0.0 --why 'its scale is wrong, see 1.0.1'",
        )
