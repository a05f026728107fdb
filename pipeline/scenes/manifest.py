"""bundle.json: the content of a bundle, checked when it is read because bundles come from others."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from pipeline.constants import GRAVITY
from pipeline.earth import Earth
from pipeline.errors import BundleError
from pipeline.scenes.migrations import MAJOR, MINOR, FormatVersion, read

if TYPE_CHECKING:
    from pipeline.types import Floats

MANIFEST_FILE = "bundle.json"
MAX_FILE_BYTES = 8 * 2**30
MAX_MANIFEST_BYTES = 16 * 2**20

NAME = r"[a-z0-9](?:\.?[a-z0-9_-]){0,63}"
"""Pattern of a scene's name: also a folder, and part of a git tag, which has no two dots in a row."""
MAX_NAME = 64
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Strict(BaseModel):
    """Base of what is read from others: frozen, no unknown keys, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Row = tuple[float, float, float]


class FileEntry(Strict):
    """Exact size and hash (lower-case hex) of one file."""

    bytes: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Measured(Strict):
    """Where an estimate comes from, and one sigma (degrees for gravity, relative for scale); None for a guess."""

    source: str
    sigma: float | None


class Origin(Strict):
    """Where the bundle lies in the world of its source's poses: x_source = scale * rotation @ x + translation.

    That is a map's or a tracker's; a source with poses has one, and the rotation is given by its three rows.
    """

    scale: Annotated[float, Field(gt=0)]
    rotation: tuple[_Row, _Row, _Row]
    translation: _Row


class Frame(Strict):
    """The frame of everything in the bundle; `floor_found` says whether z = 0 is a measured floor."""

    up: Literal["z"] = "z"
    unit: Literal["metre"] = "metre"
    camera_axes: Literal["opencv"] = "opencv"
    gravity: tuple[float, float, float] = (0.0, 0.0, -GRAVITY)  # acceleration [m/s^2]
    gravity_from: Measured
    scale_from: Measured
    floor_found: bool
    origin: Origin | None = None
    earth: Earth | None = None


class StageRecord(Strict):
    """How one stage was run, with its parameters as named by the splatyard that built the bundle.

    `licence` is that of its program, library and weights; "" where an earlier version or an import didn't say it.
    """

    name: str
    key: str
    backend: str
    reason: str
    params: dict[str, Any]
    licence: str = ""


class Location(Strict):
    """Where the capture was made (WGS 84): the median of its images, and their median horizontal distance from it."""

    latitude_deg: Annotated[float, Field(ge=-90, le=90)]
    longitude_deg: Annotated[float, Field(ge=-180, le=180)]
    altitude_m: float | None
    spread_m: float
    images: int


SceneOrigin = Literal["captured", "rendered", "generated"]
ORIGINS: Mapping[SceneOrigin, str] = MappingProxyType(
    {
        "captured": "cameras saw the place",
        "rendered": "a program drew the place, and no camera has seen it",
        "generated": "a model made the place up, and no camera has seen it",
    }
)
"""What the origins of a scene mean, for people."""


class Provenance(Strict):
    """Where a bundle comes from: `build_key` is a hash of all that the content depends on, `licence` the capture's."""

    build_key: str
    source: str
    licence: str
    description: str
    origin: SceneOrigin = "captured"
    location: Location | None = None
    stages: tuple[StageRecord, ...]
    packages: dict[str, str]
    machine: dict[str, str]


class Splats(Strict):
    """A level of detail: its file, number of Gaussians and degree of the spherical harmonics.

    Attributes:
        antialiasing: How to draw them, see `Gaussians.antialiased`. "classic": as the 3DGS reference renders; "mip":
            pixels are areas.
    """

    file: str
    gaussians: int
    sh_degree: int
    antialiasing: Literal["classic", "mip"]


class Manifest(Strict):
    """The whole of bundle.json.

    Attributes:
        version: major.minor.patch; a version never changes.
        parents: Bundles this one was made from, "name@version".
        splats: Levels of detail by name: full, sim, web.
        files: Every file but this one.
        report: Reports of the stages: poses, align, capture, points, mesh, splat.
    """

    format: Literal["splatyard.bundle"] = "splatyard.bundle"
    format_version: Literal[2] = MAJOR
    format_minor: Annotated[int, Field(ge=0)] = MINOR
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
    _written_in: FormatVersion = PrivateAttr(FormatVersion())

    @property
    def reference(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def is_object(self) -> bool:
        """Whether it is an object by itself: it has one, and no place without it."""
        folders = {name.split("/")[1] for name in self.files if name.startswith("objects/")}
        return len(folders) == 1 and "rest" not in self.splats

    @property
    def written_in(self) -> FormatVersion:
        """The version of the format that the bundle's files have."""
        return self._written_in

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


HOSTILE = "the bundle is damaged or hostile: get it again from its source"


def damaged(rule: str, found: str, file: Path | str, remedy: str = HOSTILE) -> BundleError:
    """The error of a file that breaks a rule."""
    return BundleError(rule, found=found, remedy=remedy, file=file)


@contextmanager
def reading(rule: str, file: Path, remedy: str = HOSTILE) -> Iterator[None]:
    """Turn what is raised while a file of others is read into the error that it breaks a rule."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
        raise damaged(rule, _said(error), file, remedy) from error


def _said(error: Exception) -> str:
    """An error in one line; of many in a file's values, the first with its place."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".splitlines()[0][:200]
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def check_near(points: Floats, what: str) -> None:
    """Check that points (N, 3) are finite and no farther than anything in a scene can be [m].

    Raises:
        ValueError: Otherwise.
    """
    import numpy as np

    from pipeline.geometry import FARTHEST

    if not (np.abs(points) <= FARTHEST).all():  # NaN isn't, either
        raise ValueError(f"{what} farther than {FARTHEST:.0f} m, or nowhere")


def parse_manifest(content: bytes, file: Path | str) -> Manifest:
    """The content of a bundle.json, checked and migrated to today's format; the file's path is for messages.

    Raises:
        BundleError: When it is damaged, too large, too new or names unsafe paths.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise damaged("bundle.json is small", f"{len(content)} bytes", file)
    try:
        parsed = json.loads(content)
        version = FormatVersion.parse(parsed)
        if version.major > MAJOR:
            rule = f"this splatyard reads bundles up to format version {MAJOR}"
            raise damaged(rule, f"format version {version.major}", file, "upgrade splatyard")
        manifest = read(Manifest, parsed, MANIFEST_FILE, version)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        rule = "bundle.json follows the format in docs/bundle.md"
        raise damaged(rule, _said(error), file) from error
    manifest._written_in = version
    return manifest


def read_manifest(path: Path) -> Manifest:
    """The content of a bundle.json, checked.

    Raises:
        BundleError: When there is none, or it is damaged, too new or names unsafe paths.
    """
    if path.is_symlink() or not path.is_file():
        remedy = "check the path; `splatyard build` makes bundles"
        raise damaged("a bundle is a folder with a bundle.json", "no such file", path, remedy)
    with path.open("rb") as file:
        return parse_manifest(file.read(MAX_MANIFEST_BYTES + 1), path)


def manifest_text(manifest: Manifest) -> str:
    """bundle.json; location, origin and the place on the Earth are written only where they are known."""
    frame = manifest.frame
    unknown = {
        "provenance": set() if manifest.provenance.location else {"location"},
        "frame": {name for name in ("origin", "earth") if getattr(frame, name) is None},
    }
    return manifest.model_dump_json(indent=1, exclude=unknown)


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file below `folder`, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in paths
    }


def file_sha256(path: Path) -> str:
    """Lower-case hex hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
