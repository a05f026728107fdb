"""A Hugging Face Hub on loopback: what of its protocol the real, unmodified client speaks, without xet.

A client is led here by HF_ENDPOINT. Faults are put in its way by `Hub.faults`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml

if TYPE_CHECKING:
    import pytest

TOKEN, STRANGER, READER, EXPIRED = "hf_ownersSecret", "hf_strangersSecret", "hf_readersSecret", "hf_oldSecret"
"""Of the owner, of somebody else, of one who may only read the owner's, and one that is no longer taken."""
SECRETS = (TOKEN, STRANGER, READER, EXPIRED)
OWNER = "owner"
LARGE = 4096
"""Bytes from which on a file is kept by its hash; the real one's bound is higher."""
PART = 16384
"""Bytes of a part, where a file is sent in parts."""
REPOSITORY = r"(?P<kind>dataset|space)s/(?P<name>[^/]+/[^/]+)"


@dataclass
class Commit:
    """A state of a repository."""

    oid: str
    message: str
    files: dict[str, str]


@dataclass
class Repository:
    """A repository: its commits, from old to new, and tags."""

    private: bool
    gated: bool = False
    sdk: str = ""
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        """The newest."""
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, tag or hash."""
        if revision == "main":
            return self.head
        return next((one for one in self.commits if one.oid == self.tags.get(revision, revision)), None)


@dataclass
class Fault:
    """What goes wrong with requests.

    Attributes:
        match: Pattern of "METHOD path".
        status: Answered instead of what was asked for; 0 drops the connection, -1 does so after the work was done, and
            None is no fault, but only a moment to do something.
        times: How many of them.
        content: Of that answer.
        headers: Of that answer.
        call: Called before that.
    """

    match: str
    status: int | None = 500
    times: int = 1
    content: object = field(default_factory=lambda: {"error": "made up"})
    headers: dict[str, str] = field(default_factory=dict)
    call: Callable[[], object] | None = None


@dataclass
class Hub:
    """What is on the hub, what it was asked, and how long a client would have waited for it [s]."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    parts: dict[str, bytes] = field(default_factory=dict)
    port: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def repository(self, name: str = f"{OWNER}/scenes", kind: str = "dataset") -> Repository:
        """One that is there."""
        return self.repositories[kind, name]

    def make(self, name: str = f"{OWNER}/scenes", kind: str = "dataset", *, private: bool = True) -> Repository:
        """Make one, with a first commit as the hub makes it."""
        made = self.repositories[kind, name] = Repository(private)
        self.commit(made, "initial commit", {".gitattributes": self.keep(b"*.parquet filter=lfs\n")})
        return made

    def keep(self, content: bytes) -> str:
        """Keep a file; its hash."""
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def commit(self, repository: Repository, message: str, files: dict[str, str]) -> Commit:
        """Make one more commit."""
        oid = hashlib.sha1(f"{next(self.numbers)} {message}".encode()).hexdigest()
        repository.commits.append(Commit(oid, message, files))
        return repository.head

    def change(self, name: str, path: str, content: bytes | None) -> None:
        """Change a file by hand, or remove it."""
        repository = self.repository(name)
        files = {one: digest for one, digest in repository.head.files.items() if one != path}
        self.commit(repository, "by hand", files if content is None else files | {path: self.keep(content)})

    def fill(self, folder: Path, name: str = f"{OWNER}/scenes") -> Commit:
        """Put a bundle there by hand, as `name/version`, in one commit."""
        repository = self.repositories.get(("dataset", name)) or self.make(name)
        files = {path.relative_to(folder.parents[1]).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        kept = {path: self.keep(file.read_bytes()) for path, file in files.items()}
        return self.commit(repository, "by hand", repository.head.files | kept)

    def read(self, path: str, name: str = f"{OWNER}/scenes", kind: str = "dataset") -> bytes:
        """A file of the newest commit."""
        return self.blobs[self.repository(name, kind).head.files[path]]

    def asked(self, pattern: str) -> list[str]:
        """Requests that fit."""
        return [one for one in self.requests if re.search(pattern, one)]


class Answer(Exception):  # noqa: N818 - what is answered is often no error
    """An answer to a request."""

    def __init__(self, status: int, content: object = b"", **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the one before

    def handle_one(self) -> None:
        """Answer whatever is asked."""
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.hub.lock:
            self.hub.requests.append(request)
            fault = next((one for one in self.hub.faults if one.times > 0 and re.search(one.match, request)), None)
            if fault:
                fault.times -= 1
        if fault and fault.call:
            fault.call()
        status = fault.status if fault else None
        with self.hub.lock:
            if status is not None and status >= 0:
                answer = Answer(status, fault.content if fault else b"", **(fault.headers if fault else {}))
            else:
                try:
                    answer = self.route(path, body)
                except Answer as told:
                    answer = told
        if status is not None and status <= 0:
            self.close_connection = True
            return
        with suppress(ConnectionError):
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815 - named by http.server

    def route(self, path: str, body: bytes) -> Answer:
        """What is answered to a request."""
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return validated(json.loads(body)["content"])
        if match := re.fullmatch(r"/lfs/(\w+)(?:/(\d+))?", path):
            return self.stored(match[1], match[2], body)
        if match := re.fullmatch(rf"/{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", path):
            return self.resolve(self.allowed(match), match["revision"], match["path"])
        if match := re.fullmatch(rf"/{REPOSITORY}\.git/info/lfs/objects/batch", path):
            self.allowed(match, write=True)
            return Answer(200, {"objects": [self.upload(one) for one in json.loads(body)["objects"]]})
        if match := re.fullmatch(rf"/api/{REPOSITORY}(?:/(?P<what>\w+)(?:/(?P<revision>[^/]+))?)?", path):
            repository = self.allowed(match, write=match["what"] in ("preupload", "commit", "tag"))
            return self.api(repository, match["name"], match["what"] or "revision", match["revision"] or "main", body)
        return Answer(404, {"error": f"the fake hub doesn't know {path}"})

    @property
    def token(self) -> str:
        """Who asks; empty for nobody."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def allowed(self, match: re.Match[str], *, write: bool = False) -> Repository:
        """The repository that is asked for, if one may."""
        if self.token == EXPIRED:
            raise Answer(401, {"error": 'User Access Token "old" is expired'})
        repository = self.hub.repositories.get((match["kind"], match["name"]))
        if repository is None or (repository.private and self.token not in (TOKEN, READER)):
            raise Answer(404 if self.token else 401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        if write and self.token != TOKEN:
            raise Answer(403, {"error": "You don't have write access"}, X_Error_Message="no write access")
        return repository

    def create(self, wanted: dict[str, str]) -> Answer:
        """A repository."""
        if self.token in ("", EXPIRED):
            return Answer(401, {"error": "Invalid username or password."})
        if self.token != TOKEN:
            return Answer(403, {"error": "You don't have the rights to create a repo under this namespace"})
        kind, name = wanted.get("type", "model"), f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        if (kind, name) in self.hub.repositories:
            return Answer(409, {"error": "You already created this repo", "url": f"{self.hub.url}/{kind}s/{name}"})
        self.hub.make(name, kind, private=wanted.get("visibility") != "public").sdk = wanted.get("sdk", "")
        return Answer(200, {"url": f"{self.hub.url}/{kind}s/{name}"})

    def api(self, repository: Repository, name: str, what: str, revision: str, body: bytes) -> Answer:
        """All that is asked below /api/datasets/owner/name."""
        commit = repository.at(revision)
        if commit is None:
            return Answer(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
        if what == "revision":
            told = {"id": name, "sha": commit.oid, "private": repository.private, "gated": repository.gated}
            return Answer(200, told | {"siblings": []})
        if what == "tree":
            return Answer(200, [self.listed(path, digest) for path, digest in commit.files.items()])
        if what == "refs":
            refs = [{"name": one, "ref": one, "targetCommit": oid} for one, oid in repository.tags.items()]
            return Answer(200, {"branches": [], "converts": [], "tags": refs})
        if what == "tag":
            tag = json.loads(body)["tag"]
            if tag in repository.tags:
                return Answer(409, {"error": "Tag reference exists already"})
            repository.tags[tag] = commit.oid
            return Answer(200, {})
        if what == "preupload":
            return Answer(200, {"files": [self.mode(one, commit) for one in json.loads(body)["files"]]})
        assert what == "commit"
        return self.committed(repository, name, [json.loads(line) for line in body.splitlines()])

    def mode(self, wanted: dict[str, object], commit: Commit) -> dict[str, object]:
        """How a file is to be sent."""
        there = commit.files.get(str(wanted["path"]))
        return {
            "path": wanted["path"],
            "uploadMode": "lfs" if int(str(wanted["size"])) >= LARGE else "regular",
            "shouldIgnore": False,
            "oid": self.oid(there) if there else None,
        }

    def oid(self, digest: str) -> str:
        """What the hub calls a file: its hash, or git's of a small one."""
        content = self.hub.blobs[digest]
        small = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return digest if len(content) >= LARGE else small

    def listed(self, path: str, digest: str) -> dict[str, object]:
        """A file in a list."""
        size = len(self.hub.blobs[digest])
        large = {"lfs": {"oid": digest, "size": size, "pointerSize": 134}} if size >= LARGE else {}
        return {"type": "file", "path": path, "size": size, "oid": self.oid(digest), **large}

    def upload(self, wanted: dict[str, object]) -> dict[str, object]:
        """Where a large file is to be put; nowhere, if it is there."""
        digest, size = str(wanted["oid"]), int(str(wanted["size"]))
        told: dict[str, object] = {"oid": digest, "size": size}
        if digest in self.hub.blobs:
            return told
        place = f"{self.hub.url}/lfs/{digest}"
        parts = {str(n + 1): f"{place}/{n + 1}" for n in range(-(-size // PART))} if size > PART else {}
        header = {"chunk_size": str(PART), **parts} if parts else {}
        return told | {"actions": {"upload": {"href": place, "header": header}}}

    def stored(self, digest: str, part: str | None, body: bytes) -> Answer:
        """A large file, a part of one, or the word that all parts are there; or one is asked for."""
        if self.command in ("GET", "HEAD"):
            return Answer(200, self.hub.blobs[digest])
        if part:
            self.hub.parts[f"{digest}/{part}"] = body
            return Answer(200, ETag=f'"{part}"')
        if self.command == "POST":
            told = json.loads(body)["parts"]
            body = b"".join(self.hub.parts[f"{digest}/{one['partNumber']}"] for one in told)
        if self.hub.keep(body) != digest:
            return Answer(400, {"error": "another hash"})
        return Answer(200, {})

    def committed(self, repository: Repository, name: str, lines: list[dict[str, dict[str, str]]]) -> Answer:
        """One commit of all that is listed, or none."""
        header, *rest = lines
        if header["value"].get("parentCommit", repository.head.oid) != repository.head.oid:
            return Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(repository.head.files)
        for line in rest:
            kind, value = str(line["key"]), line["value"]
            if kind == "deletedFile":
                del files[value["path"]]
            elif kind == "file":
                files[value["path"]] = self.hub.keep(base64.b64decode(value["content"]))
            elif value["oid"] not in self.hub.blobs:
                return Answer(400, {"error": f"{value['path']} was never sent"})
            else:
                files[value["path"]] = value["oid"]
        made = self.hub.commit(repository, header["value"]["summary"], files)
        return Answer(200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{made.oid}", "commitOid": made.oid})

    def resolve(self, repository: Repository, revision: str, path: str) -> Answer:
        """A file's head or content; a large one's is elsewhere."""
        commit = repository.at(revision)
        if commit is None:
            return Answer(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
        if repository.gated and self.token != TOKEN:
            return Answer(403, {"error": "Access to it is restricted"}, X_Error_Code="GatedRepo")
        if path not in commit.files:
            return Answer(404, {"error": "no file"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit.oid)
        digest = commit.files[path]
        content, told = self.hub.blobs[digest], {"X_Repo_Commit": commit.oid, "ETag": f'"{self.oid(digest)}"'}
        if len(content) < LARGE:
            return Answer(200, content, **told)
        linked = {"X_Linked_Size": str(len(content)), "X_Linked_ETag": f'"{digest}"'}
        elsewhere = f"http://localhost:{self.hub.port}/lfs/{digest}"  # another host, as the hub's storage is
        return Answer(302, b"", Location=elsewhere, **told, **linked)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def validated(card: str) -> Answer:
    """Whether the hub takes a card's YAML."""
    front = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    told = yaml.safe_load(front[1]) if front else None
    if not isinstance(told, dict) or not re.fullmatch(r"[a-z0-9.-]+", str(told.get("license", "mit"))):
        return Answer(400, {"errors": [{"message": "the metadata is wrong"}], "warnings": []})
    return Answer(200, {"errors": [], "warnings": []})


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub while it answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisHub", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(hub: Hub, home: Path, token: str = TOKEN) -> dict[str, str]:
    """What leads a process to it."""
    switches = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": token, **switches}


def point_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does for a process that starts."""
    from huggingface_hub import constants

    address = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
