"""What a bundle must be before it is published: as it was built, free of pickles, passing its gates, with a licence."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from pipeline.errors import BundleError
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.licences import UNSAID, may_be_public, plain_licence

HEAD = 4096
"""Bytes at the start of a file that are searched for a pickle."""
NO_DERIVATIVES = re.compile(r"cc-by(-nc)?-nd\b.*|.*no[ -]?deriv.*")


def check_content(bundle: Bundle) -> None:
    """Check that every file is as in the manifest, without pickles, and that the verdict follows from the metrics.

    Raises:
        BundleError: When one of them isn't so; it names the first ones.
    """
    files = bundle.manifest.files
    problems = bundle.verify() or [f"{name}: holds a pickle" for name in files if _pickled(bundle.path(name))]
    if not problems:
        stated, measured = bundle.manifest.failed_gates, bundle.quality.failed
        if set(stated) != set(measured) or bundle.manifest.quality_passed != (not measured):
            fails = ", but by its metrics ".join(", ".join(gates) or "none" for gates in (stated, measured))
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
    """A BundleError unless all gates pass, or the user accepts failed ones."""
    failed = bundle.manifest.failed_gates
    if failed and not allow_failed:
        raise BundleError(
            "a published bundle passes its gates",
            found=f"{bundle.manifest.reference} fails {', '.join(failed)}",
            remedy="`splatyard bundle check` says why; to publish it anyway, shown in red: --allow-failed",
            file=bundle.root,
        )


def check_licence(text: str, *, public: bool) -> None:
    """A BundleError if a bundle may not be published under its capture's licence, an SPDX id or a sentence."""
    licence = plain_licence(text)
    if licence in UNSAID:
        raise BundleError(
            "what is published says under which licence its capture is",
            found=f"licence {text.strip() or 'unknown'!r}",
            remedy="write source.licence into the scene card, such as CC-BY-4.0, or 'proprietary' for what stays "
            "yours, and build again with --card: only the last stage runs",
        )
    if public and not may_be_public(text):
        reason = "forbids to pass on what was made from it" if NO_DERIVATIVES.fullmatch(licence) else "isn't known to"
        reason += "" if reason.startswith("forbids") else " allow passing on what was made from it"
        raise BundleError(
            "what everybody may get has a licence that allows it",
            found=f"licence {text.strip()!r:.120}, which {reason}",
            remedy="publish it without --public, to a registry that only you and yours read; or ask whose capture it "
            "is for an open licence, such as CC-BY-4.0",
        )


def _pickled(path: Path) -> bool:
    with path.open("rb") as file:
        if _is_pickle(file.read(HEAD)):
            return True
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(_is_pickle(archive.open(member).read(HEAD)) for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError):
        return True  # what can't be looked into isn't passed on


def _is_pickle(head: bytes) -> bool:
    """Whether a file begins as a pickle does, or as a NumPy array of Python objects, which is one."""
    if head.startswith(b"\x93NUMPY"):
        return b"|O" in head[:1024].partition(b"\n")[0]
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
