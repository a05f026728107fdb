"""A run's folder: run.json (what it is), curve.jsonl (how it went), ending.json (why it ended), checkpoints/.

Nothing here needs torch, so that runs can be listed and compared quickly.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import logging
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from pipeline.config import REGISTRY, chosen
from pipeline.errors import BusyError, TrainError
from pipeline.io.results import is_locked, locked
from pipeline.scenes.files import cache_folder
from pipeline.scenes.references import is_address
from pipeline.scenes.resolver import Pin, bundles_folder, pulled, read_lock
from sim.scene.scene import SceneLock, SimScene
from sim.scene.sources import TERRAIN
from train.files import read_model, write_atomically, writing
from train.preset import Preset, flat_values, pinned
from train.runs.folders import RUN_FILE, run_files, run_folder
from train.runs.record import Curve, Ending, Record, SceneRecord, Unseen

logger = logging.getLogger(__name__)

CURVE_FILE, ENDING_FILE, CHECKPOINTS = "curve.jsonl", "ending.json", "checkpoints"
BEGUN = "runs"
"""Folder of the cache that knows runs which began here."""
LOCK_FILE = ".lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Run:
    """The folder of a training, with the record in its run.json and its learning curve.

    Attributes:
        locks: Identities of its scenes.
    """

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder, self.record, self.preset = folder, record, record.preset
        self.name, self.checkpoints = folder.resolve().name, folder / CHECKPOINTS
        self.locks = tuple(scene.lock for scene in record.scenes)
        self.curve = Curve(folder / CURVE_FILE)

    @staticmethod
    def create(
        root: Path,
        preset: Preset,
        scenes: Sequence[SceneLock],
        sources: Sequence[Path | str],
        seed: int,
        *,
        device: str = "cpu",
        processes: int = 1,
        name: str | None = None,
        unseen: Unseen | None = None,
    ) -> Run:
        """Make a new folder with its run.json; nothing that exists is overwritten.

        `sources` say how each scene was opened, `unseen` which others are kept apart. The name is
        <task>-<scene>-<number> by default.

        Raises:
            TrainError: When the name is taken or invalid, or the folder can't be written.
        """
        preset = pinned(preset)
        record = Record.beginning(
            preset, scenes, sources, seed, device=device, processes=processes, unseen=unseen or Unseen()
        )
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            folder = _new_folder(root, preset, scenes, name)
            (folder / CHECKPOINTS).mkdir()
        content = (record.model_dump_json(indent=1) + "\n").encode()
        write_atomically(folder / RUN_FILE, content)
        with suppress(OSError):  # then it is taken for one from elsewhere
            mark = _mark(content)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        return Run(folder, record)

    @staticmethod
    def open(
        name_or_path: str | Path, root: Path = Path("runs"), said: Collection[str] = ("demos", "start_from")
    ) -> Run:
        """Open a run by its folder, or by its name below `root`, to make its policy act or learn.

        Args:
            name_or_path: Its name or folder.
            root: Folder of runs.
            said: Values of its preset, by dotted name, that the command line gives, too, or that nobody opens:
                demonstrations and what it began with where it doesn't learn.

        Raises:
            TrainError: When there is none, its run.json is damaged or of another version of splatyard, or it is from
                elsewhere and names files that aren't here.
        """
        run = Run.read(name_or_path, root)
        preset = run.preset
        named = {
            "robot": [preset.robot],
            "gait": [preset.gait],
            "policy.encoder_file": [preset.policy.encoder_file],
            "demos": [preset.demos],
            "start_from": [preset.start_from],
            "objects": preset.objects,
        }
        for key, names in named.items():
            for name in names if key not in said else ():
                run._check_here(key, name, "if you know it, put it below the folder in which you run this")
        return run

    @staticmethod
    def read(name_or_path: str | Path, root: Path = Path("runs")) -> Run:
        """As `open`, to look at what it is; nothing that it names may be opened.

        Raises:
            TrainError: When there is none, or its run.json is damaged or of another version of splatyard.
        """
        folder = run_folder(name_or_path, root)
        return Run(folder, _read_record(folder / RUN_FILE))

    @property
    def sources(self) -> tuple[str, ...]:
        """How its scenes are opened where nobody names others.

        Raises:
            TrainError: When it is from elsewhere and names one that isn't here.
        """
        return tuple(self._source(scene) for scene in self.record.scenes)

    def unseen_sources(self, kind: str) -> tuple[str, ...]:
        """The same of scenes that it never trains in: for "validation", or for "test"; raises as `sources`."""
        return tuple(map(self._source, self.record.unseen.kinds.get(kind, ())))

    def open_scene(self, source: Path | str, *, allow_failed: bool = False) -> SimScene:
        """Open a scene as the run opened its own: with its objects, and failed gates accepted if they were there.

        Raises:
            SimError: When the scene can't be simulated.
            BundleError: When there is no such scene.
        """
        from sim.scene.opening import open_scene  # with all that simulates

        allowed = allow_failed or any(lock.failed_gates for lock in self.locks)
        return open_scene(source, allow_failed=allowed, objects=self.preset.objects)

    def _source(self, scene: SceneRecord) -> str:
        name, way = scene.source, "run this in a folder above it"
        if is_address(name) and not self._began_here:
            if folder := pulled(Pin(reference=name, bundle=scene.lock.reference, sha256=scene.lock.sha256)):
                return str(folder)
            way = f"splatyard registry pull {name}"
        if not name.startswith(TERRAIN):
            self._check_here("scene", name, f"if you know it: --scene {name}, or {way}")
        return name

    def _check_here(self, key: str, name: str, remedy: str) -> None:
        """Check a name in its record, which may be a stranger's: with it he would choose what this machine opens.

        Runs that began here open what they name. Others open names of bundles, robots and gaits that this machine has,
        versions of the registry that the user has set, and files below the run's folder, the working folder and the
        folder of bundles.
        """
        if not name or self._began_here:
            return
        pin = read_lock().pin(name) if key in ("scene", "objects") else None
        if pin and not pulled(pin):
            name = pin.bundle  # the lock may be a stranger's, too
        if not (_is_own_registry(name) if is_address(name) else self._is_below(name)):
            raise TrainError(
                f"a run from elsewhere names what is here: by a name, or below {self.folder}, {Path.cwd()} or the "
                "folder of bundles",
                found=f"{key}: {name}",
                remedy=remedy,
                file=self.folder / RUN_FILE,
            )

    def _is_below(self, name: str) -> bool:
        """Whether a path, or a name, leads into folders that a run from elsewhere may open, and to no pipe."""
        roots = [root.resolve() for root in (self.folder, Path(), bundles_folder())]
        try:
            paths = {Path(name).resolve(), Path(name).expanduser().resolve()}  # not all who open it know of ~
            return all(
                any(path.is_relative_to(root) for root in roots)
                and (path.is_file() or path.is_dir() or not path.exists())
                for path in paths
            )
        except (OSError, ValueError, RuntimeError):  # too long, with a zero byte, a ring of links, nobody's home
            return False

    @cached_property
    def _began_here(self) -> bool:
        """Whether this user made it on this machine, with this very record."""
        try:
            return _mark((self.folder / RUN_FILE).read_bytes()).is_file()
        except OSError:
            return False

    @property
    def ending(self) -> Ending | None:
        """How its training ended; None in training and after a kill.

        Raises:
            TrainError: When the file is damaged.
        """
        path = self.folder / ENDING_FILE
        rule, remedy = f"an {ENDING_FILE} is as splatyard writes it", "delete it; training doesn't need it"
        return read_model(Ending, path, rule, remedy) if path.exists() else None

    def end(self, ending: Ending | None) -> None:
        """Record how training ended, or with None that it continues.

        Raises:
            TrainError: When there is no room.
        """
        path = self.folder / ENDING_FILE
        if ending is not None:
            write_atomically(path, (ending.model_dump_json(indent=1) + "\n").encode())
            return
        with writing(path):
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove a run that never began, for want of anything that it needs."""
        if not any(self.checkpoints.glob("*")):
            shutil.rmtree(self.folder)

    def check_scenes(
        self, scenes: Sequence[SceneLock], unseen: Mapping[str, Sequence[SceneLock]] = MappingProxyType({})
    ) -> None:
        """Check that these are the scenes with which it began: the same content in the same order.

        Raises:
            TrainError: Otherwise; it names the first that differs.
        """
        expected = {kind: [scene.lock for scene in apart] for kind, apart in self.record.unseen.kinds.items()}
        pairs = [("", then, now) for then, now in itertools.zip_longest(self.locks, scenes)]
        for kind in {**expected, **unseen}:
            both = itertools.zip_longest(expected.get(kind, ()), unseen.get(kind, ()))
            pairs += [(f" for {kind}", then, now) for then, now in both]
        for use, then, now in pairs:
            if then is None or now is None or then.sha256 != now.sha256:
                raise TrainError(
                    "a run continues in the scenes in which it began",
                    found=f"{_described(now)} instead of {_described(then)}{use}",
                    remedy="give the same bundles, or start a new run without --resume",
                    file=self.folder,
                )

    def check_preset(self, preset: Preset) -> None:
        """Check that a preset is the one with which it began, except for the number of iterations.

        Raises:
            TrainError: Otherwise; it names what differs.
        """
        then, now = flat_values(self.preset), flat_values(pinned(preset))
        other = [key for key in then | now if key != "iterations" and then.get(key) != now.get(key)]
        if other:
            raise TrainError(
                "a run continues with the preset with which it began",
                found=", ".join(f"{key}: {now.get(key)} instead of {then.get(key)}" for key in other),
                remedy="omit these, or start a new run without --resume",
                file=self.folder,
            )

    @property
    def changed(self) -> datetime.datetime | None:
        """When its last iteration ended; None before the first."""
        path = self.folder / CURVE_FILE
        return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC) if path.exists() else None

    @property
    def training(self) -> bool:
        """Whether a process trains it now."""
        return is_locked(self.folder / LOCK_FILE)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Lock the run while it trains.

        Raises:
            TrainError: When another process trains it.
        """
        try:
            with locked(self.folder / LOCK_FILE, f"run {self.name}", "is being trained by"):
                yield
        except BusyError as error:
            raise TrainError(
                "one process trains a run at a time",
                found=error.found,
                remedy="wait until it is done, or end it",
                file=self.folder,
            ) from error


def list_runs(root: Path) -> list[Run]:
    """All runs in a folder, the newest first; damaged ones are left out with a warning."""
    runs = []
    for path in run_files(root):
        try:
            runs.append(Run(path.parent, _read_record(path)))
        except TrainError as error:
            logger.warning("%s", error)
    return sorted(runs, key=lambda run: run.record.started, reverse=True)


def _is_own_registry(reference: str) -> bool:
    """Whether a reference leads to the registry that the user has set."""
    address = reference.rpartition("/")[0]
    return address != "" and address == chosen(REGISTRY).rstrip("/")


def _mark(record: bytes) -> Path:
    """The empty file that says that a run with this record began here."""
    return cache_folder() / BEGUN / hashlib.sha256(record).hexdigest()


def _read_record(path: Path) -> Record:
    rule = f"a {RUN_FILE} is as this version of splatyard writes it"
    return read_model(Record, path, rule, "use the version of splatyard that wrote it, or train again")


def _new_folder(root: Path, preset: Preset, scenes: Sequence[SceneLock], name: str | None) -> Path:
    """Make a folder of that name; by default <task>-<scene>-<number>, or with the robot for procedural ground."""
    if name is None:
        references = {scene.place for scene in scenes}
        where = min(references) if len(references) == 1 else f"{len(references)}-scenes"
        if where.startswith(TERRAIN):
            where = Path(preset.robot).stem
        prefix = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{preset.task}-{where}")
        names = (f"{prefix}-{number}" for number in itertools.count(1))
    elif NAME.fullmatch(name):
        names = [name]
    else:
        rule = "a run's name consists of letters, digits, dots, dashes and underscores"
        raise TrainError(rule, found=repr(name), remedy="give another --name")
    for folder in (root / one for one in names):
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise TrainError(
        "a run overwrites nothing",
        found="one exists with that name",
        remedy="give another --name, continue with --resume, or delete it",
        file=root / str(name),
    )


def _described(scene: SceneLock | None) -> str:
    return f"{scene.reference} (sha256 {scene.sha256[:12]}…)" if scene else "no scene"
