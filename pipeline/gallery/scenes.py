"""Which scenes a gallery shows: those of a registry, or of a folder of bundles."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle.bundle import Bundle, file_sha256
from pipeline.bundle.manifest import MANIFEST_FILE
from pipeline.errors import BundleError
from pipeline.publish.registry import PREFIX, is_registry, open_registry
from pipeline.publish.versions import Reference

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """A version of a scene.

    Attributes:
        name: Of the scene.
        number: major.minor.patch.
        sha256: Of its manifest, which names the hash of every other file.
        yanked: Why nobody should begin with it any more; None where it is well.
        loaded_by: The reference that opens it, for a visitor.
        open: Opens it; BundleError or MachineError when that fails.
    """

    name: str
    number: str
    sha256: str
    yanked: str | None
    loaded_by: str
    open: Callable[[], Bundle]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


def scenes(address: str) -> dict[str, list[Version]]:
    """The versions of every scene, oldest first, by the scene's name.

    Args:
        address: Of a registry, or a folder of bundles (`name/version/bundle.json`). What can't be opened in a folder is
            left out with a warning.

    Raises:
        BundleError: When there is no scene.
        MachineError: When the registry can't be reached.
    """
    found: dict[str, list[Version]] = {}
    for version in _of_registry(address) if is_registry(address) else _of_folder(Path(address.removeprefix(PREFIX))):
        found.setdefault(version.name, []).append(version)
    if not found:
        raise BundleError(
            "a gallery shows the scenes of a registry, or of a folder of bundles",
            found="there is none",
            remedy="name the registry that `splatyard publish` writes to, or the folder of `splatyard build`",
            file=address,
        )
    return {
        name: sorted(found[name], key=lambda version: tuple(map(int, version.number.split("."))))
        for name in sorted(found)
    }


def _of_registry(address: str) -> Iterator[Version]:
    registry = open_registry(address)
    public = f"{registry.address}/" if "://" in registry.address else ""
    for entry in registry.entries():
        reference = Reference(registry.address, entry.name, entry.version)
        opened = functools.cache(functools.partial(registry.open, reference))
        yield Version(entry.name, entry.version, entry.sha256, entry.yanked, public + entry.reference, opened)


def _of_folder(folder: Path) -> Iterator[Version]:
    for path in sorted(folder.expanduser().glob(f"*/*/{MANIFEST_FILE}")):
        if path.relative_to(folder.expanduser()).as_posix().startswith(".") or path.parent.name.startswith("."):
            continue  # half a bundle of a killed pull
        try:
            bundle = Bundle.open(path.parent)
        except BundleError as error:
            logger.warning("left out %s", error)
            continue
        name, number = bundle.manifest.name, bundle.manifest.version
        yield Version(name, number, file_sha256(path), None, f"{name}@{number}", functools.partial(_given, bundle))


def _given(bundle: Bundle) -> Bundle:
    return bundle
