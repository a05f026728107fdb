"""Writing to a registry on the hub: what anybody sees changes by one commit, or not at all.

Large files go up before that, and the hub keeps them by their hash: a repeated publish sends what is missing. Where
somebody else's commit was faster, everything is checked again.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pipeline.errors import BundleError, MachineError, SplatyardError
from pipeline.publish.hub_card import CARD, MAX_TABLE_BYTES, TABLE, Row, card, read_table, row_of, table
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.hub import KIND, client, hub_errors, require_token, retried
from pipeline.scenes.hub_registry import HubRegistry, open_hub, tag_of
from pipeline.scenes.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES
from pipeline.scenes.references import Reference, Version
from pipeline.scenes.registry import INDEX
from pipeline.scenes.summary import Index, SceneSummary

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

logger = logging.getLogger(__name__)

MOVED = {409, 412}
"""What the hub answers to a commit upon one that is no longer the newest."""
TRIES = 100
"""Each that fails is a success of another publisher."""
LONGEST_NAP = 0.5
"""Most seconds to wait before the next, at random: so that publishers fall out of step."""


@dataclass(frozen=True)
class Change:
    """A commit: its title, files to add, the index after it, and opened bundles by name@version."""

    message: str
    operations: list[CommitOperationAdd]
    entries: list[SceneSummary]
    bundles: dict[str, Bundle]


def put(
    bundle: Bundle, registry: HubRegistry, content: bytes, *, check: Callable[[HubRegistry], object], public: bool
) -> bool:
    """Put a checked bundle into a repository, which is created where there is none; returns whether it is new there.

    `content` is its manifest's; `check` raises BundleError where it may not be published to a registry as it is now;
    everybody may read a `public` repository.

    Raises:
        BundleError: When it may not be published; then nothing of it is visible.
        MachineError: When there is no token, or the hub can't be reached; what was sent is not sent again.
    """
    require_token(registry.address)
    manifest, hub = bundle.manifest, client()
    name, reference = registry.repository.name, manifest.reference
    if not registry.repository.commit:
        with hub_errors(registry.address):
            retried(hub.HfApi().create_repo, name, repo_type=KIND, private=not public, exist_ok=True)
        registry = open_hub(registry.address)
    elif public and not registry.public:
        raise BundleError(
            "--public publishes to a repository that everybody may read",
            found=f"{registry.address} is private",
            remedy="publish without --public; or make it public on its page, and then publish with it",
        )
    new = Version.parse(manifest.version) not in registry.versions(manifest.name)
    folder = f"{manifest.name}/{manifest.version}"
    files = [hub.CommitOperationAdd(f"{folder}/{path}", bundle.path(path)) for path in manifest.files]
    files.append(hub.CommitOperationAdd(f"{folder}/{MANIFEST_FILE}", content))
    with hub_errors(registry.address):
        hub.HfApi().preupload_lfs_files(name, files, repo_type=KIND, free_memory=False)
    first = registry.repository.commit

    def step(now: HubRegistry) -> Change | None:
        check(now)
        there = {entry.reference: entry for entry in now.summaries()}
        if reference in there and now.repository.commit != first:
            return None  # ours, whose answer was lost, or another's with the same bytes
        if now.repository.read(f"{folder}/{MANIFEST_FILE}", MAX_MANIFEST_BYTES) not in (None, content):
            raise BundleError(
                "a published version never changes",
                found=f"somebody put another {folder} there by hand",
                remedy="build it as a later --version, or move that folder away",
                file=now.address,
            )
        entry = there.get(reference) or SceneSummary.of(manifest, hashlib.sha256(content).hexdigest(), time.time())
        return Change(f"Publish {reference}", files, list((there | {reference: entry}).values()), {reference: bundle})

    done = _commit(registry, step)
    with hub_errors(registry.address):
        tag = tag_of(manifest.name, manifest.version)
        retried(hub.HfApi().create_tag, name, tag=tag, revision=done.repository.commit, repo_type=KIND, exist_ok=True)
    return new


def yank(registry: HubRegistry, reference: Reference, why: str) -> None:
    """Hide a version; see `pipeline.publish.publishing.yank`."""
    require_token(registry.address)
    reason, first = " ".join(why.split()), registry.repository.commit

    def step(now: HubRegistry) -> Change | None:
        version = Version.parse(reference.range)
        now.manifest(reference.name, version)
        there = {entry.reference: entry for entry in now.summaries()}
        plain = f"{reference.name}@{version}"
        if plain in there and there[plain].yanked == reason and now.repository.commit != first:
            return None  # ours, whose answer was lost
        if plain not in there or there[plain].yanked is not None:
            found = f"was yanked: {there[plain].yanked}" if plain in there else "isn't in the index"
            raise BundleError(
                "a version that was published is yanked once",
                found=f"{plain} {found}",
                remedy="nothing is left to do",
                file=now.address,
            )
        hidden = there[plain].model_copy(update={"yanked": reason})
        return Change(f"Yank {plain}", [], list((there | {plain: hidden}).values()), {})

    _commit(registry, step)


def _commit(registry: HubRegistry, step: Callable[[HubRegistry], Change | None]) -> HubRegistry:
    """Commit what `step` makes of a registry as it is now, and its index; the registry after that."""
    hub, name = client(), registry.repository.name
    for _ in range(TRIES):
        change = step(registry)
        if change is None:
            return registry
        operations = change.operations + _index_files(registry, change)
        with hub_errors(registry.address):
            try:
                commit = partial(hub.HfApi().create_commit, name, operations, commit_message=change.message)
                retried(commit, repo_type=KIND, parent_commit=registry.repository.commit)
                return open_hub(registry.address)
            except hub.errors.HfHubHTTPError as error:
                if error.response.status_code not in MOVED:
                    raise
        logger.info("%s changed meanwhile: looking again", registry.address)
        time.sleep(random.uniform(0, LONGEST_NAP))
        registry = open_hub(registry.address)
    raise MachineError(
        "a commit comes through between those of others",
        found=f"{TRIES} tries",
        remedy="run the same command again later: what was sent is not sent again",
        file=registry.address,
    )


def _index_files(registry: HubRegistry, change: Change) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Index, table and card that go with a change; a table that can't be brought up to date is removed."""
    entries = sorted(change.entries, key=lambda entry: entry.order)
    newest = {entry.name: entry for entry in entries if entry.yanked is None}
    before = registry.repository.read(TABLE, MAX_TABLE_BYTES)
    known = {(row.reference, row.sha256): row for row in read_table(before)} if before else {}
    rows = [known.get((entry.reference, entry.sha256)) or _row(registry, entry, change) for entry in newest.values()]
    shown = table(rows)
    text = card(registry.repository.name, rows, versions=len(entries), has_table=shown is not None)
    contents = {INDEX: Index(entries=tuple(entries)).model_dump_json().encode(), CARD: text.encode()}
    contents |= {TABLE: shown} if shown is not None else {}
    gone = [client().CommitOperationDelete(TABLE)] if before and shown is None else []
    return [*gone, *(client().CommitOperationAdd(path, content) for path, content in contents.items())]


def _row(registry: HubRegistry, entry: SceneSummary, change: Change) -> Row:
    try:
        reference = Reference(registry.address, entry.name, entry.version)
        return row_of(entry, change.bundles.get(entry.reference) or Bundle(registry.open(reference)))
    except SplatyardError as error:
        logger.warning("%s is shown without image and metrics: %s", entry.reference, error)
        return row_of(entry, None)
