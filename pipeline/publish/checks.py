"""What a bundle must be before anybody else gets it: as it was built, free of pickles, and passing its gates."""

from __future__ import annotations

import zipfile
from pathlib import Path

from pipeline.bundle.bundle import Bundle
from pipeline.errors import BundleError

HEAD = 4096
"""Bytes of a file that are looked at."""


def check_content(bundle: Bundle) -> None:
    """That every file is what the manifest says, holds no pickle, and that the verdict follows from the figures.

    Raises:
        BundleError: When one of them isn't so; it names the first ones.
    """
    files = bundle.manifest.files
    problems = bundle.verify() or [f"{name}: holds a pickle" for name in files if _pickled(bundle, name)]
    if not problems:
        told, measured = bundle.manifest.failed_gates, bundle.quality.failed
        if set(told) != set(measured) or bundle.manifest.quality_passed != (not measured):
            fails = ", but by its figures ".join(", ".join(gates) or "none" for gates in (told, measured))
            problems = [f"bundle.json: gates that fail are {fails}"]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise BundleError(
            "a bundle is published as it was built",
            found="; ".join(problems[:3]) + more,
            remedy="build it again, or get it again from its source: nothing was published",
            file=bundle.root,
        )


def check_gates(bundle: Bundle, *, allow_failed: bool) -> None:
    """That all gates pass, or that the user knows.

    Raises:
        BundleError: Otherwise.
    """
    failed = bundle.manifest.failed_gates
    if failed and not allow_failed:
        raise BundleError(
            "a published bundle passes its gates",
            found=f"{bundle.manifest.name}@{bundle.manifest.version} fails {', '.join(failed)}",
            remedy="`splatyard check` says why; to publish it all the same, shown red everywhere: --allow-failed",
            file=bundle.root,
        )


def _pickled(bundle: Bundle, name: str) -> bool:
    path = bundle.path(name)
    with path.open("rb") as file:
        if _is_pickle(file.read(HEAD)):
            return True
    return zipfile.is_zipfile(path) and _member_pickled(path)


def _member_pickled(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    if _is_pickle(file.read(HEAD)):
                        return True
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError):
        return True  # what can't be looked into isn't passed on
    return False


def _is_pickle(head: bytes) -> bool:
    """Whether a file begins as a pickle does, or as a NumPy array of Python objects, which is one."""
    if head.startswith(b"\x93NUMPY"):
        return b"|O" in head[:1024].partition(b"\n")[0]
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
