"""From a reference to a bundle: local folders, registries by their address, scenes.lock, and patterns of names.

scenes.lock says which exact version, with which bytes, stands for "latest" and for ranges, today and next year.
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from pipeline.config import BUNDLES, REGISTRY, SETTINGS, setting
from pipeline.errors import BundleError, MissingBundleError
from pipeline.io.files import machine_errors, write_whole
from pipeline.scenes.files import BundleFiles
from pipeline.scenes.manifest import MANIFEST_FILE, Strict, file_sha256
from pipeline.scenes.references import HUB, LATEST, PREFIX, RANGE, REFERENCE, Reference, Version, is_address
from pipeline.scenes.registry import INDEX, BundlesFolder
from pipeline.scenes.registry import resolve as newest_version
from pipeline.scenes.store import open_store
from pipeline.scenes.store_registry import BLOBS, SCENES, StoreRegistry

if TYPE_CHECKING:
    from pipeline.scenes.hub_registry import HubRegistry

logger = logging.getLogger(__name__)

BUNDLES_VARIABLE, ADDRESS_VARIABLE = (SETTINGS[name].variable for name in (BUNDLES, REGISTRY))
LOCK_FILE = Path("scenes.lock")
MAX_LOCK_BYTES = 4 * 2**20
MAX_SCENES = 1000
"""A simulation keeps the collision meshes and floors of all its scenes, 1.5 MiB for a small room, in one world side by
side: a thousand rooms reach 400 m from its origin, where float32 still tells 0.03 mm apart. Far more would not."""


class Pin(Strict):
    """The exact bundle, with its address, that a reference stands for; its manifest's hash, and the hub's commit."""

    reference: str
    bundle: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    commit: str = ""


class Lock(Strict):
    """The content of scenes.lock."""

    format: Literal["splatyard.lock"] = "splatyard.lock"
    format_version: Literal[1] = 1
    scenes: tuple[Pin, ...] = ()

    def pin(self, reference: str) -> Pin | None:
        """The pin of a reference, as it was written or as the exact version that it led to; None if there is none."""
        requested = _with_range(reference)
        return next((pin for pin in self.scenes if requested in (_with_range(pin.reference), pin.bundle)), None)


def bundles_folder() -> Path:
    """The local folder of bundles: `bundles/`, or the one that SPLATYARD_BUNDLES or the config file names."""
    return Path(setting(BUNDLES)).expanduser()


def default_address() -> str:
    """The address of the registry that is meant where none is named."""
    return setting(REGISTRY)


def is_registry(address: str) -> bool:
    """Whether there is a registry, as far as known without asking a server."""
    path = address.removeprefix(PREFIX)
    return "://" in path or bool(_names(Path(path).expanduser()) & {BLOBS, SCENES, INDEX})


def open_registry(address: str = "", *, create: bool = False, commit: str = "") -> StoreRegistry | HubRegistry:
    """The registry at an address.

    Args:
        address: A folder, registry:FOLDER, s3://bucket/path, or whatever else fsspec knows; hf://owner/repository on
            the hub; the default one if empty.
        create: Make the folder if its parent exists; on the hub, publishing makes the repository.
        commit: Commit of the hub's repository; its newest if empty.

    Raises:
        BundleError: When there is none, or the folder is something else.
        MachineError: When it can't be reached.
    """
    address = (address or default_address()).rstrip("/")
    path = address.removeprefix(PREFIX)
    if path.startswith(HUB):
        from pipeline.scenes.hub_registry import open_hub

        return open_hub(path, create=create, commit=commit)
    if "://" not in path:
        folder = Path(path).expanduser()
        _check_folder(folder, create=create)
        path = str(folder)
        address = address if address.startswith(PREFIX) else PREFIX + address
    return StoreRegistry(address, open_store(path, kept="what was sent is not sent again"))


def find_bundle(reference: Path | str) -> BundleFiles:
    """The files of a bundle by its folder, or by a reference; see `Bundle.open`.

    Raises:
        BundleError: When there is none, or bundle.json is damaged, too new or names unsafe paths.
        MachineError: When the hub or registry can't be reached.
    """
    text, folder = str(reference), Path(reference).expanduser()
    if is_address(text):
        requested = Reference.parse(text)
        return open_registry(requested.address).open(requested)
    if folder.is_dir():
        return BundleFiles.open(folder)
    match = REFERENCE.fullmatch(text)
    if match and not match["address"]:
        requested, local = Reference.parse(text), BundlesFolder(bundles_folder())
        if requested.newest(local.versions(requested.name)):
            return local.open(requested)
        if is_registry(default_address()):
            return open_registry().open(requested)
    raise _no_bundle(text)


def resolve(reference: str) -> str:
    """The one version that a reference to a registry means now, with its address.

    Raises:
        BundleError: When it means none.
        MachineError: When the registry can't be reached.
    """
    requested = Reference.parse(reference)
    if requested.exact and requested.address.startswith(HUB):
        return reference  # whether it exists shows when it is opened
    registry = open_registry(requested.address)
    return f"{registry.address}/{requested.name}@{newest_version(registry, requested)}"


def find_scenes(patterns: Sequence[str]) -> list[str]:
    """Scenes as `open_scene` takes them, each once, in the order of the patterns and then of their names.

    Args:
        patterns: Folders, taken as they are; references that scenes.lock names; versions and ranges of registries and
            on the hub, exact from now on; and NAME or NAME@VERSION of the local bundles folder, with * and ? in
            either, or a range; FOLDER/ before it names another folder of bundles. Without a version, or with
            "latest", it is the newest of each name.

    Raises:
        MissingBundleError: When a pattern matches none.
        BundleError: When all match too many.
    """
    lock = read_lock()
    found: dict[str, None] = {}
    for pattern in patterns:
        if pin := lock.pin(pattern):
            found[pin.bundle] = None
        elif is_address(pattern):
            found[resolve(pattern)] = None
        elif elsewhere := _in_folder(pattern):
            found |= dict.fromkeys(elsewhere)
        elif Path(pattern).expanduser().is_dir():
            found[pattern] = None
        else:
            found |= dict.fromkeys(_matching(pattern))
    if len(found) > MAX_SCENES:
        raise BundleError(f"{MAX_SCENES} scenes at most", found=str(len(found)), remedy="give a narrower pattern")
    return list(found)


def read_lock(path: Path = LOCK_FILE) -> Lock:
    """The content of a lock file; an empty lock if there is none.

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
            "a lock file is as `splatyard registry pull --lock` writes it",
            found=str(error).splitlines()[0],
            remedy="delete it and pull with --lock again, or get the one that was checked in",
            file=path,
        ) from error


def write_pin(reference: str, path: Path = LOCK_FILE) -> Pin:
    """Resolve a reference and pin what it stands for now in the lock file, in place of its older pin.

    Raises:
        BundleError: When it means nothing, or the lock file is damaged.
        MachineError: When the registry can't be reached.
    """
    before = read_lock(path)
    exact = resolve(reference)
    files = find_bundle(exact)
    pin = Pin(reference=reference, bundle=exact, sha256=files.sha256, commit=files.commit)
    others = [one for one in before.scenes if _with_range(one.reference) != _with_range(reference)]
    text = Lock(scenes=tuple(sorted([*others, pin], key=lambda one: one.reference))).model_dump_json(indent=1)
    with machine_errors(path):
        write_whole(path, f"{text}\n")
    return pin


def find_locked(reference: Path | str, path: Path = LOCK_FILE) -> BundleFiles:
    """As `find_bundle`, but a reference in the lock file is that version, with those bytes, wherever they lie.

    Raises:
        BundleError: Also when the bytes are others.
    """
    pin = None if isinstance(reference, Path) else read_lock(path).pin(reference)
    if pin is None:
        return find_bundle(reference)
    if local := pulled(pin):
        files = BundleFiles.open(local)
    else:
        exact = Reference.parse(pin.bundle)
        files = open_registry(exact.address, commit=pin.commit).open(exact)
    if files.sha256 != pin.sha256:
        raise BundleError(
            "a locked scene has the bytes that it was locked with",
            found=f"{pin.bundle} has manifest {files.sha256[:12]}, locked was {pin.sha256[:12]}",
            remedy="somebody changed what was published: get the right one, or lock it again with "
            f"`splatyard registry pull --lock {pin.reference}`",
            file=path,
        )
    logger.info("%s: %s is %s", path, reference, pin.bundle)
    return files


def pulled(pin: Pin) -> Path | None:
    """Where the folder of bundles has what a pin stands for, with those bytes; None if it hasn't.

    Raises:
        BundleError: When the pin's bundle is no reference.
    """
    exact = Reference.parse(pin.bundle)
    local = bundles_folder() / exact.name / exact.range
    file = local / MANIFEST_FILE
    return local if file.is_file() and file_sha256(file) == pin.sha256 else None


def _with_range(reference: str) -> str:
    """With its range written out: hall@latest for hall; a text that is no reference as it is."""
    try:
        return str(Reference.parse(reference))
    except BundleError:
        return reference


def _matching(pattern: str) -> list[str]:
    """Bundles in the local folder, or one in the default registry, that a pattern matches."""
    local = BundlesFolder(bundles_folder())
    existing = {scene: list(local.versions(scene)) for scene in sorted(local.names())}
    found = [f"{scene}@{one}" for scene, one in _chosen(existing, pattern)]
    if not found and is_registry(default_address()) and REFERENCE.fullmatch(pattern):
        found = [resolve(pattern)]
    if not found:
        raise _no_bundle(pattern)
    return found


def _no_bundle(text: str) -> MissingBundleError:
    """The error that neither a folder nor a local bundle has that name, with the nearest of those that there are."""
    local = BundlesFolder(bundles_folder())
    known = [f"{scene}@{one}" for scene in sorted(local.names()) for one in local.versions(scene)]
    near = [scene for scene in known if scene.partition("@")[0] == text.partition("@")[0]]
    near = near or difflib.get_close_matches(text, known, 3, 0.4) or known[:9]
    return MissingBundleError(
        f'no bundle "{text}"',
        found=f"searched the folders {text} and {local.folder}",
        remedy=f"did you mean {', '.join(near)}?"
        if near
        else f"make one with `splatyard build`, or set {BUNDLES_VARIABLE} to your bundles folder; docs/registry.md",
    )


def _chosen(existing: Mapping[str, Sequence[Version]], pattern: str) -> Iterator[tuple[str, Version]]:
    """Those of the scenes' versions that NAME or NAME@VERSION stands for; without a version the newest of each."""
    name, _, version = pattern.partition("@")
    for scene in fnmatch.filter(existing, name):
        if version == "" or RANGE.fullmatch(version):
            newest = Reference("", scene, version or LATEST).newest(existing[scene])
            yield from [(scene, newest)] if newest else []
        else:
            yield from ((scene, one) for one in existing[scene] if fnmatch.fnmatch(str(one), version))


def _in_folder(pattern: str) -> list[str]:
    """Folders of the bundles that FOLDER/NAME stands for, another folder of bundles; none where it isn't one."""
    folder, _, name = pattern.rpartition("/")
    local = BundlesFolder(Path(folder).expanduser())
    if not folder or not name:
        return []
    existing = {scene: list(local.versions(scene)) for scene in sorted(local.names())}
    return [str(local.folder / scene / str(one)) for scene, one in _chosen(existing, name)]


def _check_folder(folder: Path, *, create: bool) -> None:
    if create and not folder.exists() and folder.absolute().parent.is_dir():
        with machine_errors(folder):
            folder.mkdir(exist_ok=True)
    names = _names(folder)
    if folder.is_dir() and (not names or names & {BLOBS, SCENES, INDEX}):
        return
    if names:
        found, remedy = f"a folder of other things: {', '.join(sorted(names)[:3])}", "name another folder"
    elif folder.exists():
        found, remedy = "a file", "name a folder"
    elif create:  # its parent is missing, too: a disk that isn't mounted, or a typing error
        parent = folder.absolute().parent
        found, remedy = f"no folder {parent}", f"check the address; if it is right, make that folder: mkdir -p {parent}"
    else:
        found = "no such folder"
        remedy = f"check the address; `splatyard registry publish hall@1.0.0 --to {PREFIX}{folder}` makes it"
    raise (BundleError if folder.exists() else MissingBundleError)(
        "a registry is a folder made by `splatyard registry publish`, or an address such as s3://bucket/path",
        found=found,
        remedy=remedy,
        file=folder,
    )


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
