"""scenes.lock: which exact version, with which bytes, stands for "latest" and for ranges, today and next year."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.bundle.bundle import HUB, REGISTRY_VARIABLE, Bundle, file_sha256
from pipeline.bundle.manifest import MANIFEST_FILE
from pipeline.engine import machine_errors
from pipeline.errors import BundleError
from pipeline.publish.registry import open_registry
from pipeline.publish.versions import Reference

logger = logging.getLogger(__name__)

LOCK_FILE = Path("scenes.lock")
MAX_LOCK_BYTES = 4 * 2**20


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pin(_Strict):
    """What a reference stands for.

    Attributes:
        reference: As it is written in commands, such as "hall@^1.2" or "s3://bucket/yard/hall@latest".
        bundle: The exact version, with its registry's address.
        sha256: Of its manifest, which holds the hash of every other file.
        commit: Of the hub's repository; empty for a registry.
    """

    reference: str
    bundle: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    commit: str = ""


class Lock(_Strict):
    """The whole of scenes.lock."""

    format: Literal["splatyard.lock"] = "splatyard.lock"
    format_version: Literal[1] = 1
    scenes: tuple[Pin, ...] = ()

    def pin(self, reference: str) -> Pin | None:
        """What a reference stands for, by itself or by the exact version that it led to; None if nothing."""
        asked = _plain(reference)
        return next((pin for pin in self.scenes if asked in (_plain(pin.reference), pin.bundle)), None)


def read_lock(path: Path = LOCK_FILE) -> Lock:
    """What a lock file says; an empty lock where there is none.

    Raises:
        BundleError: When it is damaged.
    """
    if not path.is_file():
        return Lock()
    try:
        with path.open("rb") as file:
            return Lock.model_validate_json(file.read(MAX_LOCK_BYTES))
    except ValidationError as error:
        raise BundleError(
            "a lock file is as `splatyard pull --lock` writes it",
            found=str(error).splitlines()[0],
            remedy="delete it and pull with --lock again, or get the one that was checked in",
            file=path,
        ) from error


def write_pin(reference: str, path: Path = LOCK_FILE) -> Pin:
    """Resolve a reference and keep in the lock file what it stands for now, in place of what it stood for.

    Raises:
        BundleError: When it means nothing, or the lock file is damaged.
        MachineError: When the registry can't be reached.
    """
    before = read_lock(path)
    exact = resolve(reference)
    bundle = Bundle.open(exact)
    pin = Pin(reference=reference, bundle=exact, sha256=_sha256(bundle), commit=bundle.commit)
    others = [one for one in before.scenes if _plain(one.reference) != _plain(reference)]
    text = Lock(scenes=tuple(sorted([*others, pin], key=lambda one: one.reference))).model_dump_json(indent=1)
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    with machine_errors(path):
        try:
            partial.write_text(text + "\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return pin


def resolve(reference: str) -> str:
    """The one version that a reference to a registry means now, with its address.

    Raises:
        BundleError: When it means nothing.
        MachineError: When the registry can't be reached.
    """
    asked = Reference.parse(reference)
    if asked.exact and asked.address.startswith(HUB):
        return reference  # whether it is there shows when it is opened
    registry = open_registry(asked.address)
    return f"{registry.address}/{asked.name}@{registry.resolve(asked)}"


def open_locked(reference: Path | str, path: Path = LOCK_FILE) -> Bundle:
    """As `Bundle.open`, but what the lock file names is that version, with those bytes, wherever they lie.

    Raises:
        BundleError: Also when the bytes are others.
    """
    pin = None if isinstance(reference, Path) else read_lock(path).pin(reference)
    if pin is None:
        return Bundle.open(reference)
    bundle = _in_bundles(pin) or _elsewhere(pin)
    if _sha256(bundle) != pin.sha256:
        raise BundleError(
            "a locked scene has the bytes that it was locked with",
            found=f"{pin.bundle} has manifest {_sha256(bundle)[:12]}, locked was {pin.sha256[:12]}",
            remedy="somebody changed what was published: get the right one, or lock it anew with "
            f"`splatyard pull --lock {pin.reference}`",
            file=path,
        )
    logger.info("%s: %s is %s", path, reference, pin.bundle)
    return bundle


def _in_bundles(pin: Pin) -> Bundle | None:
    """The same bytes in the local bundles folder, if they are there."""
    exact = Reference.parse(pin.bundle)
    folder = Path(os.environ.get(REGISTRY_VARIABLE, "bundles")) / exact.name / exact.wanted
    manifest = folder / MANIFEST_FILE
    return Bundle.open(folder) if manifest.is_file() and file_sha256(manifest) == pin.sha256 else None


def _elsewhere(pin: Pin) -> Bundle:
    exact = Reference.parse(pin.bundle)
    return open_registry(exact.address, commit=pin.commit).open(exact)


def _plain(reference: str) -> str:
    """With what is wanted of it said: hall@latest for hall; what is no reference as it is."""
    try:
        return str(Reference.parse(reference))
    except BundleError:
        return reference


def _sha256(bundle: Bundle) -> str:
    return file_sha256(bundle.root / MANIFEST_FILE)
