"""Where the scenes of a collection lie: below a folder, or in a dataset repository on the hub."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import BundleError
from pipeline.importing.layouts.catalog import DEEP, laid_out
from pipeline.importing.meshes import MESH_SUFFIXES
from pipeline.importing.source import find_source
from pipeline.importing.splats import is_splat, splat_by_name
from pipeline.io.files import plain
from pipeline.running.card import name_from
from pipeline.scenes.hub import Repository, repository_name
from pipeline.scenes.hub_registry import open_hub
from pipeline.scenes.references import HUB

CARD = "README.md"
MAX_CARD_BYTES = 2**20
MAX_FILES = 2_000_000
MAX_SCENE_BYTES = 16 * 2**30


@dataclass(frozen=True)
class Found:
    """A scene of a collection: its folder, or its file, by the path from the collection's root, and all its files."""

    place: str
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its bundle: of the whole path, without a file's suffix."""
        path = Path(self.place)
        return name_from("-".join([*path.parent.parts, path.stem if self.place in self.files else path.name]))


class Scenes(ABC):
    """The scenes of a collection."""

    @property
    @abstractmethod
    def about(self) -> str:
        """Where they come from, for people."""

    @cached_property
    def found(self) -> tuple[Found, ...]:
        """All of them, by their paths."""
        return tuple(self._find())

    @abstractmethod
    def card(self) -> str:
        """The text of the collection's card, or ""."""

    @abstractmethod
    def state(self, scene: Found) -> str:
        """What changes whenever a file of it does."""

    @abstractmethod
    def bring(self, scene: Found) -> Path:
        """Its folder or file on this machine."""

    @abstractmethod
    def _find(self) -> Iterator[Found]: ...


@dataclass(frozen=True)
class FolderScenes(Scenes):
    """Of a folder."""

    root: Path

    @property
    def about(self) -> str:
        """Its name."""
        return self.root.resolve().name

    def _find(self) -> Iterator[Found]:
        names = [path.relative_to(self.root).as_posix() for path in _files(self.root)]
        return scenes_in(names, lambda name: _kind(self.root / name))

    def card(self) -> str:
        """See `Scenes`."""
        path = self.root / CARD
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(MAX_CARD_BYTES).decode(errors="replace")

    def state(self, scene: Found) -> str:
        """Sizes and times of its files."""
        there = [self.root / name for name in scene.files if (self.root / name).exists()]
        return json.dumps([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in there])

    def bring(self, scene: Found) -> Path:
        """See `Scenes`."""
        return self.root / scene.place


@dataclass(frozen=True)
class HubScenes(Scenes):
    """Of a dataset repository on the hub, below a folder of it; files are fetched one scene at a time."""

    repository: Repository
    below: str

    @property
    def about(self) -> str:
        """Its address and commit."""
        return f"{HUB}{self.repository.name} at {self.repository.commit[:12]}"

    @cached_property
    def _files(self) -> Mapping[str, tuple[int, str]]:
        return {name: file for name, file in self.repository.files(MAX_FILES).items() if ".." not in name.split("/")}

    def _find(self) -> Iterator[Found]:
        """Without their content, only layouts and names that can be nothing else are known."""
        everything = scenes_in(self._files, lambda name: "splat" if splat_by_name(name) else "")
        return (one for one in everything if not self.below or f"{one.place}/".startswith(f"{self.below}/"))

    def card(self) -> str:
        """See `Scenes`."""
        return (self.repository.read(CARD, MAX_CARD_BYTES) or b"").decode(errors="replace")

    def state(self, scene: Found) -> str:
        """Hashes of its files."""
        return json.dumps([[name, *self._files[name]] for name in scene.files if name in self._files])

    def bring(self, scene: Found) -> Path:
        """Fetch what is not in the cache; see `Scenes`.

        Raises:
            BundleError: When a file is missing, or they are too large together.
        """
        if absent := [name for name in scene.files if name not in self._files]:
            rule, found = "a scene has all files of its layout", f"no {', '.join(absent[:3])}"
            raise BundleError(rule, found=found, remedy="tell who published it", file=scene.place)
        size = sum(self._files[name][0] for name in scene.files)
        if size > MAX_SCENE_BYTES:
            rule = f"a scene on the hub has at most {MAX_SCENE_BYTES} bytes"
            raise BundleError(rule, found=f"{size} bytes", remedy="fetch and import it by itself", file=scene.place)
        paths = [self.repository.bring(name) for name in scene.files]
        return paths[0].parents[len(Path(scene.files[0]).parts) - 1] / scene.place


def open_collection(address: str) -> Scenes | None:
    """The scenes of a folder, or of hf://owner/repository[/folder]; None for what is one scene on this machine.

    Raises:
        BundleError: When there are none.
        MachineError: When the hub can't be reached.
    """
    if address.startswith(HUB):
        owner, name, *below = [*address.removeprefix(HUB).removeprefix("datasets/").rstrip("/").split("/"), ""]
        repository = open_hub(f"{HUB}{repository_name(f'{owner}/{name}')}").repository
        scenes: Scenes = HubScenes(repository, "/".join(below).rstrip("/"))
    else:
        folder = Path(address).expanduser()
        if not folder.is_dir() or _is_one(folder):
            return None
        scenes = FolderScenes(folder)
    if not scenes.found:
        if not address.startswith(HUB):
            return None  # as one scene, what it lacks is said best
        raise BundleError(
            "a collection on the hub has scenes, laid out as docs/import.md says",
            found="none",
            remedy="check the address, hf://owner/repository/folder",
            file=address,
        )
    return scenes


def scenes_in(names: Iterable[str], kind: Callable[[str], str]) -> Iterator[Found]:
    """The scenes among files, by their paths from the root; `kind` says which are a splat or a mesh.

    A folder of a layout is one, as is one with one splat and one mesh, or one splat and nothing else; in other folders
    each splat is one, and where there are none, each mesh.
    """
    below: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        for up in range(1, min(len(parts), DEEP + 1) + 1):
            below.setdefault("/".join(parts[:-up]), set()).add("/".join(parts[-up:]))
    scenes = set[str]()
    for folder in sorted(below):
        parts = folder.split("/")
        if any("/".join(parts[:end]) in scenes for end in range(1, len(parts))):
            continue
        prefix = f"{folder}/" if folder else ""
        laid = laid_out(below[folder])
        if laid is not None and folder:
            scenes.add(folder)
            yield Found(folder, tuple(prefix + name for name in laid[1]))
            continue
        for one in _loose(folder, [prefix + name for name in sorted(below[folder]) if "/" not in name], kind):
            scenes.add(one.place)
            yield one


def _loose(folder: str, files: Collection[str], kind: Callable[[str], str]) -> Iterator[Found]:
    """Scenes of the files of a folder without a layout."""
    kinds = {name: kind(name) for name in files}
    splats = [name for name in files if kinds[name] == "splat"]
    meshes = [name for name in files if kinds[name] == "mesh"]
    if folder and len(splats) == 1 and len(meshes) <= 1:
        yield Found(folder, tuple(files))
    else:
        yield from (Found(name, (name,)) for name in splats or meshes)


def _is_one(folder: Path) -> bool:
    """Whether a folder is one scene by itself."""
    try:
        find_source(folder)
    except BundleError:
        return False
    return True


def _files(folder: Path) -> Iterator[Path]:
    """Plain files below a folder, at most so many."""
    count = 0
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in files:
            count += 1
            if count > MAX_FILES:
                found = f"more than {MAX_FILES} files"
                raise BundleError("a collection is a folder of scenes", found=found, remedy="name a smaller one")
            yield Path(root) / name


def _kind(path: Path) -> str:
    """Whether a file holds a splat or may hold a mesh; what can't be read is neither."""
    try:
        if is_splat(plain(path)):
            return "splat"
    except (OSError, ValueError):
        return ""
    return "mesh" if path.suffix.lower() in MESH_SUFFIXES else ""
