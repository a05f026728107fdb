"""Another name for a bundle on this machine: the same files under a new manifest, whole or not at all."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from pathlib import Path

from pipeline.bundle.quality_page import PAGE_FILE
from pipeline.bundle.stage import seal
from pipeline.errors import BundleError, BusyError
from pipeline.io.files import machine_errors
from pipeline.io.results import lock_file, locked, partial_folder, partial_result
from pipeline.running.cleaning import WORK
from pipeline.running.records import build_lock
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.files import link_or_copy
from pipeline.scenes.manifest import MAJOR, MAX_NAME, NAME, damaged
from pipeline.scenes.migrations import FormatVersion
from pipeline.scenes.references import Version


def rename(out: Path, name: str, version: Version, new_name: str) -> Path:
    """Give a version of a bundle in a folder of bundles another name; returns its new folder.

    Name and version are part of the manifest, so this is a new bundle with a hash of its own: its parents are those of
    the old one, and the old one. Its files are links to the same content. The old one goes last, after the new one is
    complete: a kill leaves the old one, or both.

    Raises:
        BundleError: When the new name is none, its version exists, or the old one is damaged or of another format.
        BusyError: When a build uses one of the two.
        MachineError: When the folder can't be written.
    """
    if len(new_name) > MAX_NAME or not re.fullmatch(NAME, new_name):
        raise BundleError(
            f"a bundle's name is 1 to {MAX_NAME} lower-case letters, digits, dots, dashes and underscores",
            found=repr(new_name),
            remedy="such as kitchen or kitchen-2",
        )
    source, target = (out.resolve() / one / str(version) for one in (name, new_name))
    if target.exists():
        raise BundleError(
            "a renamed bundle replaces no other",
            found=f"{new_name}@{version} exists",
            remedy="choose another name, or delete that one first with `splatyard bundle delete`",
            file=target,
        )
    with ExitStack() as held:
        try:
            for folder in (source, target):
                held.enter_context(
                    locked(build_lock(out / WORK / folder.parent.name), f"the bundle {folder.parent.name}")
                )
                held.enter_context(locked(lock_file(folder), f"the bundle {folder.parent.name}@{version}"))
        except BusyError as error:
            rule, remedy = "a bundle is renamed while no build uses it", "wait until it is done"
            raise BusyError(rule, found=error.found, remedy=remedy, file=source) from error
        _write(_checked(source), target, new_name)
        half = partial_folder(source)
        with machine_errors(source):
            shutil.rmtree(half, ignore_errors=True)
            shutil.rmtree(source.rename(half))
    return target


def _checked(source: Path) -> Bundle:
    """The bundle in a folder, if all of it can be sealed anew."""
    bundle = Bundle.open(source)
    if problems := bundle.verify():
        raise damaged("a bundle that is renamed is undamaged", problems[0], source)
    written = bundle.manifest.written_in
    if written.major != MAJOR or written > FormatVersion():
        raise BundleError(
            f"a bundle that is renamed has today's format, {MAJOR}",
            found=f"format {written.major}.{written.minor}",
            remedy="build it again under the new name" if written.major < MAJOR else "upgrade splatyard",
            file=source,
        )
    return bundle


def _write(bundle: Bundle, target: Path, name: str) -> None:
    """The bundle under its new name; the quality page, which shows the name, is written again."""
    old = bundle.manifest
    renamed = f"{name}@{old.version}"
    parents = tuple(one for one in (*old.parents, old.reference) if one != renamed)  # the name may have been its own
    with partial_result(target) as partial:
        for file in old.files.keys() - {PAGE_FILE}:
            copied = partial / file
            copied.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(bundle.path(file), copied)
        seal(partial, old.model_copy(update={"name": name, "parents": parents}))
