"""Versions of the bundle format: what older ones wrote is migrated as it is read, what newer ones added is ignored.

A major version may change or remove keys: `MIGRATIONS` brings the JSON of each older one to the next one, in memory. A
minor version only adds keys; readers of an older one ignore them, with a note in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

logger = logging.getLogger(__name__)

MAJOR, MINOR = 2, 4
"""The version that is written."""

Json = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

IMAGE_FOLDERS = ("images", "pictures")
"""Where the check's images lie: since version 2, and in version 1."""


def _manifest_from_1(content: Json) -> Json:
    """`pictures` became `images` in the location and the capture stage's report."""
    for holder in (content["provenance"].get("location"), content["report"].get("capture")):
        if holder and "pictures" in holder:
            holder["images"] = holder.pop("pictures")
    return content | {"format_version": 2}


MIGRATIONS: Mapping[int, Mapping[str, Callable[[Json], Json]]] = {
    1: {
        "bundle.json": _manifest_from_1,
        "quality.json": lambda content: {{"figures": "metrics"}.get(key, key): content[key] for key in content},
    }
}
"""By the major version that they start from and by file name; a file without a migration stays as it is."""


@dataclass(frozen=True, order=True)
class FormatVersion:
    """The version that a bundle was written in."""

    major: int = MAJOR
    minor: int = MINOR

    @staticmethod
    def parse(manifest: Json) -> FormatVersion:
        """The version that a manifest states.

        Raises:
            ValueError: When it states none.
        """
        major, minor = manifest.get("format_version"), manifest.get("format_minor", 0)
        if type(major) is not int or type(minor) is not int or major < 1 or minor < 0:
            raise ValueError(f"format_version {major!r}, format_minor {minor!r}")
        return FormatVersion(major, minor)


def read(model: type[Model], content: Json, file: str, version: FormatVersion) -> Model:
    """The content of one of a bundle's JSON files, migrated from the version it was written in and validated.

    Raises:
        ValueError: When the content doesn't follow the format.
    """
    for major in range(version.major, MAJOR):
        if migrate := MIGRATIONS[major].get(file):
            content = migrate(content)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        unknown = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
        if version <= FormatVersion() or len(unknown) < error.error_count():
            raise
    for *path, key in unknown:
        holder: Any = content
        for step in path:
            holder = holder[step]
        del holder[key]
    names = ", ".join(sorted({".".join(map(str, loc)) for loc in unknown}))
    logger.info("%s has keys of a newer splatyard, which are ignored: %.300s", file, names)
    return model.model_validate(content)
