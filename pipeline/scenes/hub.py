"""Dataset repositories on the Hugging Face Hub at one commit, and its client's errors as ours.

The client caches files below HF_HOME, for all programs of this machine. Only the client reads the token.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from json import JSONDecodeError
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pipeline.errors import BundleError, MachineError, MissingBundleError, SplatyardError
from pipeline.scenes import store
from pipeline.scenes.manifest import FileEntry, damaged, file_sha256
from pipeline.scenes.references import HUB
from pipeline.scenes.store import first_line

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"(?!.*(--|\.\.|\.git$))[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
KIND = "dataset"
TOO_MANY_REQUESTS = 429
PASSING = {408, TOO_MANY_REQUESTS, 500, 502, 503, 504}
"""What the hub answers when another try may succeed."""
LONGEST_WAIT = 300.0
"""Seconds over which the hub counts requests; it says how many are left."""


@dataclass(frozen=True)
class Repository:
    """A dataset repository, owner/repository, at one commit, given by its full hash."""

    name: str
    commit: str

    def read(self, path: str, limit: int) -> bytes | None:
        """The content of a small file, or None where there is none.

        Raises:
            BundleError: When it has more than `limit` bytes, or there is no such repository.
            MachineError: When the hub can't be reached.
        """
        hub = client()
        with hub_errors(self._where(path)):
            try:
                size = self._size(path)
            except hub.errors.RemoteEntryNotFoundError:
                return None
            if size is None or size > limit:
                remedy = "the repository is damaged or hostile: get the bundle from elsewhere"
                raise damaged(f"{path.rpartition('/')[2]} is small", f"{size} bytes", self._where(path), remedy)
            return self._download(path).read_bytes()

    def fetch(self, path: str, entry: FileEntry) -> Path:
        """Download a file; returns its path. The caller checks its hash.

        Raises:
            BundleError: When there is no such file, or it is of another size.
            MachineError: When the hub can't be reached.
        """
        with hub_errors(self._where(path)):
            size = self._size(path)
            if size != entry.bytes:
                found = f"{size} bytes on the hub instead of {entry.bytes}"
                remedy = "the bundle on the hub is damaged or was changed: tell who published it"
                raise damaged("a bundle's files are as its manifest says", found, self._where(path), remedy)
            logger.info("fetching %s (%.1f MB)", path, entry.bytes / 1e6)
            kept = self._download(path)
            if file_sha256(kept) != entry.sha256:  # the client's copy may be damaged
                kept = self._download(path, again=True)
        return kept

    def files(self, most: int) -> dict[str, tuple[int, str]]:
        """Size and hash of all files by path.

        Raises:
            BundleError: When there are more than `most`, or there is no such repository.
            MachineError: When the hub can't be reached.
        """
        hub = client()
        with hub_errors(f"{HUB}{self.name}"):
            tree = hub.HfApi().list_repo_tree
            asked = partial(tree, self.name, repo_type=KIND, revision=self.commit, recursive=True)
            listed = retried(lambda: list(islice(asked(), most + 1)))
        if len(listed) > most:
            raise damaged(f"a repository has at most {most} files", "more", f"{HUB}{self.name}", "name another one")
        return {one.path: (one.size, one.blob_id) for one in listed if isinstance(one, hub.hf_api.RepoFile)}

    def bring(self, path: str) -> Path:
        """Download a file, unless the cache has it; returns its path below a folder laid out as the repository.

        Raises:
            BundleError: When there is no such file.
            MachineError: When the hub can't be reached.
        """
        with hub_errors(self._where(path)):
            fetch = partial(client().hf_hub_download, self.name, path, repo_type=KIND, revision=self.commit)
            return Path(retried(fetch))

    def _size(self, path: str) -> int | None:
        """Size of a file [bytes], as the hub says."""
        url = client().hf_hub_url(self.name, path, repo_type=KIND, revision=self.commit)
        return retried(client().get_hf_file_metadata, url).size

    def _download(self, path: str, *, again: bool = False) -> Path:
        download = partial(client().hf_hub_download, self.name, path, force_download=again)
        return Path(retried(download, repo_type=KIND, revision=self.commit)).resolve()

    def _where(self, path: str) -> str:
        return f"{HUB}{self.name}/{path}"


def repository_name(address: str) -> str:
    """owner/repository of an address, hf://owner/repository.

    Raises:
        BundleError: When it is no such address.
    """
    name = address.removeprefix(HUB)
    if not REPOSITORY.fullmatch(name):
        raise BundleError(
            "a repository on the hub is named by hf://owner/repository, a bundle in it by "
            "hf://owner/repository/name@version",
            found=repr(address),
            remedy="such as hf://owner/scenes/hall@1.0.0",
        )
    return name


def hub_page(repository: str) -> str:
    """The web page of a dataset repository, owner/name; "" of none."""
    return f"{client().constants.ENDPOINT}/datasets/{repository}" if repository else ""


def retried(request: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Send a request to the hub, again after an error that passes."""

    def pause(error: Exception) -> float | None:
        # the client decodes an answer before it checks its status
        if not isinstance(error, client().errors.HTTPError | JSONDecodeError):
            return None
        response: httpx.Response | None = getattr(error, "response", None)
        if response is not None and response.status_code not in PASSING:
            return None
        if response is None or response.status_code != TOO_MANY_REQUESTS:
            return 0.0
        text = response.headers.get("retry-after") or response.headers.get("ratelimit") or ""
        seconds = re.search(r"^(\d{1,6})$|\bt=(\d{1,6})", text)
        return min(float(seconds[1] or seconds[2]), LONGEST_WAIT) if seconds else 0.0

    return store.retried("the hub", pause, partial(request, *arguments, **options))


@contextmanager
def hub_errors(where: str) -> Iterator[None]:
    """Turn the client's errors about an address into ours."""
    errors = client().errors
    try:
        yield
    except RuntimeError as error:  # what the client makes of any error in an upload
        raise _ours(error.__cause__ or error, where) from error
    except (
        OSError,
        ValueError,
        KeyError,
        errors.HTTPError,
        errors.EntryNotFoundError,
        errors.XetDownloadError,
    ) as error:
        raise _ours(error, where) from error


def _ours(error: BaseException, where: str) -> SplatyardError:
    if isinstance(error, SplatyardError):
        return error
    hub = client()
    errors, response = hub.errors, getattr(error, "response", None)
    status = response.status_code if response is not None else None
    found = getattr(error, "server_message", None) or first_line(error)
    absent = errors.RepositoryNotFoundError | errors.EntryNotFoundError | errors.RevisionNotFoundError
    offline = isinstance(error, errors.LocalEntryNotFoundError)
    if isinstance(error, errors.GatedRepoError):
        kind, rule = BundleError, "a gated repository is read by those who were let in"
        remedy = f"ask for access on its page, {hub.constants.ENDPOINT}/datasets/..., then `hf auth login`"
    elif status == 401 and hub.get_token() is not None:
        kind, rule = MachineError, "the hub takes your token"
        remedy = "it may have expired or been revoked: `hf auth login` with a new one, or set HF_TOKEN"
    elif status == 401 or (isinstance(error, absent) and not offline):
        kind = MissingBundleError
        rule = "a bundle on the hub is a folder name/version of a dataset repository that you may read"
        remedy = "check owner, repository, name and version; a private one needs `hf auth login`"
    elif status == 403:
        kind, rule = MachineError, "your token may do this on the hub"
        remedy = "make one that may write to that owner's repositories, and `hf auth login` with it"
    elif (
        not offline
        and not isinstance(error, JSONDecodeError | KeyError)
        and (status not in PASSING if status else isinstance(error, ValueError))
    ):
        kind, rule, remedy = MachineError, "the hub takes what is sent", "see what it says"
    else:
        kind, rule = MachineError, "a bundle on the hub needs the network"
        remedy = (
            "connect, unset HF_HUB_OFFLINE, or wait a while; then run the same command again: what was brought or sent "
            "is kept. Without the hub, name a local folder"
        )
        if offline:
            found = first_line(error)
        elif isinstance(error, JSONDecodeError | KeyError):
            found = "an answer that isn't the hub's: check HF_ENDPOINT"
    return kind(rule, found=found, remedy=remedy, file=where)


def require_token(where: str) -> None:
    """A MachineError if there is no token; only the hub knows what it may."""
    if client().get_token() is None:
        raise MachineError(
            "writing to the hub needs a token",
            found="none",
            remedy="make one that may write on the hub's settings page and `hf auth login`, or set HF_TOKEN",
            file=where,
        )


def client() -> ModuleType:
    """The module huggingface_hub.

    Raises:
        MachineError: When it isn't installed.
    """
    from tqdm import tqdm

    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        from huggingface_hub.utils import tqdm as their_bars
    except ImportError as error:
        raise MachineError(
            "bundles on the hub need huggingface_hub", found=str(error), remedy="pip install huggingface_hub"
        ) from error
    their_bars.set_lock(tqdm.get_lock())  # or its threads would begin bars while ours look at the set of all
    return huggingface_hub
