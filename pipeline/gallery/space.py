"""A gallery as a static Space on the Hugging Face Hub: what visitors see changes by one commit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import yaml

from pipeline.errors import BundleError, MachineError
from pipeline.gallery.drawing import SCENE_FILE, SceneFile
from pipeline.gallery.site import MARK
from pipeline.scenes.hub import client, hub_errors, repository_name, require_token, retried
from pipeline.scenes.licences import may_be_public

KIND = "space"
CARD = "README.md"
OWN = {".gitattributes", CARD}
"""Files of the Space itself."""
TEMPLATE = OWN | {"index.html", "style.css"}
"""What the hub puts into a new one."""
FRONT = {"title": "", "emoji": "🧭", "colorFrom": "indigo", "colorTo": "green", "sdk": "static", "pinned": False}


def push(site: Path, address: str, *, public: bool = False) -> str:
    """Make a Space show a gallery, and nothing else; files that it has already are not sent again.

    The Space at hf://owner/name is created where there is none, if need be `public`. Returns its URL.

    Raises:
        BundleError: When a scene's licence doesn't allow to show it to everybody; then nothing was sent.
        MachineError: When the Space holds something else, there is no token, or the hub can't be reached.
    """
    name, hub = repository_name(address), client()
    require_token(address)
    if public:
        _check_licences(site)
    api = hub.HfApi()
    with hub_errors(address):
        retried(api.create_repo, name, repo_type=KIND, space_sdk="static", private=not public, exist_ok=True)
        info = retried(api.repo_info, name, repo_type=KIND)
        there = set(retried(api.list_repo_files, name, repo_type=KIND, revision=info.sha))
    if not info.private and not public:
        _check_licences(site)
    if MARK not in there and not there <= TEMPLATE:
        raise MachineError(
            "a gallery goes into a new Space, or into one that holds a gallery",
            found=f"something else is there: {', '.join(sorted(there - TEMPLATE)[:3])}",
            remedy="name another one",
            file=address,
        )
    found = {path.relative_to(site): path for path in sorted(site.rglob("*")) if path.is_file()}
    files = {name.as_posix(): path for name, path in found.items() if not any(one[0] == "." for one in name.parts)}
    front = yaml.safe_dump(FRONT | {"title": name.partition("/")[2]}, sort_keys=False, allow_unicode=True)
    operations = [hub.CommitOperationAdd(path, file) for path, file in files.items()]
    operations.append(hub.CommitOperationAdd(CARD, f"---\n{front}---\n\nA gallery made by splatyard.\n".encode()))
    operations += [hub.CommitOperationDelete(path) for path in sorted(there - OWN - files.keys())]
    with hub_errors(address):
        commit = partial(api.create_commit, name, operations, commit_message="Update the gallery")
        retried(commit, repo_type=KIND, parent_commit=info.sha)
    return f"{hub.constants.ENDPOINT}/spaces/{name}"


def _check_licences(site: Path) -> None:
    for path in sorted(site.glob(f"scenes/*/*/{SCENE_FILE}")):
        scene = SceneFile.model_validate_json(path.read_bytes()).summary
        if not may_be_public(scene.licence):
            raise BundleError(
                "what everybody may see has a licence that allows it",
                found=f"{scene.reference}, licence {scene.licence!r:.120}",
                remedy="leave it out of the gallery, or push to a private Space",
            )
