"""bundle.json: what a bundle says of itself, checked when read because bundles come from others."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.errors import BundleError

FORMAT_VERSION = 1
MANIFEST_FILE = "bundle.json"
MAX_FILE_BYTES = 8 * 2**30
MAX_MANIFEST_BYTES = 16 * 2**20

NAME = r"[a-z0-9](?:\.?[a-z0-9_-]){0,63}"
"""Of a scene: also a folder, and part of a git tag, which has no two dots in a row."""
MAX_NAME = 64
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Strict):
    """Size and hash of one file.

    Attributes:
        bytes: Its exact size.
        sha256: Its hash, lower-case hex.
    """

    bytes: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Measured(_Strict):
    """Something estimated: where it comes from and how sure it is.

    Attributes:
        source: What gave it.
        sigma: One sigma (degrees for gravity, relative for scale); None when it is a guess.
    """

    source: str
    sigma: float | None


class Frame(_Strict):
    """The frame of everything in the bundle.

    Attributes:
        up: Always "z".
        unit: Always "metre".
        camera_axes: Always "opencv" (x right, y down, z forward).
        gravity: Acceleration in that frame [m/s^2].
        gravity_from: Source and sigma [deg].
        scale_from: Source and relative sigma.
        floor_found: Whether z = 0 is a measured floor.
    """

    up: Literal["z"] = "z"
    unit: Literal["metre"] = "metre"
    camera_axes: Literal["opencv"] = "opencv"
    gravity: tuple[float, float, float] = (0.0, 0.0, -9.81)
    gravity_from: Measured
    scale_from: Measured
    floor_found: bool


class StageRecord(_Strict):
    """How one stage was run.

    Attributes:
        name: The stage.
        key: Its content key.
        backend: What did it.
        reason: Why that backend.
        params: Its parameters.
    """

    name: str
    key: str
    backend: str
    reason: str
    params: dict[str, Any]


class Location(_Strict):
    """Where the capture was made (WGS 84): the median of its pictures.

    Attributes:
        latitude_deg: North is positive.
        longitude_deg: East is positive.
        altitude_m: Above sea level, or None.
        spread_m: Median horizontal distance of the pictures from it.
        pictures: How many said where they were taken.
    """

    latitude_deg: Annotated[float, Field(ge=-90, le=90)]
    longitude_deg: Annotated[float, Field(ge=-180, le=180)]
    altitude_m: float | None
    spread_m: float
    pictures: int


class Provenance(_Strict):
    """Where a bundle comes from.

    Attributes:
        build_key: Hash of everything the content depends on.
        source: The capture, for people.
        licence: Of the capture and so of the bundle.
        description: One line on the place.
        origin: Whether cameras saw the place, or a video model made it up.
        location: Where it is, when the build was asked to tell.
        stages: How every stage was run.
        packages: Versions of the libraries that computed something.
        machine: Platform it was built on.
    """

    build_key: str
    source: str
    licence: str
    description: str
    origin: Literal["captured", "generated"] = "captured"
    location: Location | None = None
    stages: tuple[StageRecord, ...]
    packages: dict[str, str]
    machine: dict[str, str]


class Splats(_Strict):
    """The levels of detail: file and number of Gaussians of each.

    Attributes:
        file: Path in the bundle.
        gaussians: How many.
        sh_degree: Degree of the spherical harmonics.
        antialiasing: How to draw them, see `Gaussians.antialiased`. "classic": as the 3DGS reference renders; "mip":
            pixels are areas.
    """

    file: str
    gaussians: int
    sh_degree: int
    antialiasing: Literal["classic", "mip"]


class Manifest(_Strict):
    """The whole of bundle.json.

    Attributes:
        format: Always "splatyard.bundle".
        format_version: Of this file's layout.
        name: The scene's name.
        version: major.minor.patch; a version never changes.
        parents: Bundles this one was made from, "name@version".
        frame: Its frame.
        splats: Levels of detail by name: full, sim, web.
        files: Every file but this one.
        quality_passed: Whether all gates pass; the figures are in quality.json.
        failed_gates: Names of those that don't.
        provenance: Where it comes from.
        report: What the stages say of themselves: poses, depth, alignment, points, mesh, splat.
    """

    format: Literal["splatyard.bundle"] = "splatyard.bundle"
    format_version: Literal[1] = FORMAT_VERSION
    name: Annotated[str, Field(pattern=f"^{NAME}$", max_length=MAX_NAME)]
    version: Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")]
    parents: tuple[str, ...] = ()
    frame: Frame
    splats: dict[str, Splats]
    files: dict[str, FileEntry]
    quality_passed: bool
    failed_gates: tuple[str, ...]
    provenance: Provenance
    report: dict[str, Any]

    @field_validator("files")
    @classmethod
    def _safe_paths(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for path in files:
            check_relative_path(path)
        return files


def check_relative_path(text: str) -> str:
    """The path itself, when it stays inside the bundle.

    Raises:
        ValueError: When it is absolute, leaves the folder or has odd characters.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or not path.parts or not all(_SAFE_PART.fullmatch(part) for part in path.parts):
        raise ValueError(f"a bundle's paths are plain and relative, got {text!r}")
    return text


def parse_manifest(content: bytes, file: Path | str) -> Manifest:
    """What a bundle.json says, checked.

    Args:
        content: Of the file.
        file: Where it lies, for messages.

    Raises:
        BundleError: When it is damaged, too large, too new or names unsafe paths.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(
            "bundle.json is small",
            found=f"{len(content)} bytes",
            remedy="the bundle is damaged or hostile: get it again from its source",
            file=file,
        )
    try:
        told = json.loads(content)
        version = told.get("format_version") if isinstance(told, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise BundleError(
                f"this splatyard reads bundles up to format version {FORMAT_VERSION}",
                found=f"format version {version}",
                remedy="upgrade splatyard",
                file=file,
            )
        return Manifest.model_validate(told)
    except (ValidationError, ValueError, RecursionError) as error:
        raise BundleError(
            "bundle.json follows the format in docs/bundle.md",
            found=str(error).splitlines()[0] + " ...",
            remedy="the bundle is damaged or hostile: get it again from its source",
            file=file,
        ) from error
