"""A stand-in for the Hugging Face hub: the part of its HTTP protocol that its clients use here."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from loopback import Request, Server, listening

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/(tree|paths-info|revision)/([^/]+)/?(.*)")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_STORAGE = "/storage/"

Files = Mapping[str, bytes]
Repositories = Mapping[str, Mapping[str, Files]]
"""Files by path, by commit, by `models/OWNER/NAME` or `datasets/OWNER/NAME`."""


@dataclass
class Hub(Server):
    """What the stand-in holds; each repository of `private` answers only to its token."""

    repositories: Repositories = field(default_factory=dict)
    private: Mapping[str, str] = field(default_factory=dict)

    def stored(self, digest: str) -> bytes:
        """Return the file with that SHA-256, from whichever repository."""
        commits = (files for commits in self.repositories.values() for files in commits.values())
        contents = (content for files in commits for content in files.values())
        return next(c for c in contents if hashlib.sha256(c).hexdigest() == digest)


@contextmanager
def serve_hub(
    repositories: Repositories, *, private: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Serve the repositories until the block ends.

    As on the real hub, weights lie in a storage under another host name, to which the client is
    redirected, and which must not be sent the token.
    """
    hub = Hub(repositories=repositories, private=private or {})
    with listening(hub, partial(_Handler, hub)):
        yield hub


class _RefusedError(Exception):
    """The hub's way to say no: a status and, in a header, a code."""

    def __init__(self, status: int, code: str, commit: str | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.headers = {"X-Error-Code": code, **({"X-Repo-Commit": commit} if commit else {})}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *connection: Any) -> None:
        self.hub = hub
        super().__init__(*connection)

    def do_HEAD(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.hub.requests.append(Request.of(self))
        try:
            self._answer(unquote(urlsplit(self.path).path), body)
        except _RefusedError as error:
            self._send(error.status, b"", error.headers)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its base's name)
        pass

    def _answer(self, path: str, body: str) -> None:
        if path.startswith(_STORAGE):
            self._send(200, self.hub.stored(path.removeprefix(_STORAGE)))
        elif resolve := _RESOLVE.fullmatch(path):
            kind = "datasets" if resolve[1] else "models"
            self._send_file(self._files(kind, resolve[2], resolve[3]), resolve[3], resolve[4])
        elif api := _API.fullmatch(path):
            self._send_api(self._files(api[1], api[2], api[4]), api, body)
        else:
            raise _RefusedError(404, "")

    def _files(self, kind: str, name: str, commit: str) -> Files:
        """Return the files of a repository at a commit."""
        repository = f"{kind}/{name}"
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.hub.private.get(repository, given) != given:
            raise _RefusedError(401, "RepoNotFound")
        if repository not in self.hub.repositories:
            raise _RefusedError(404, "RepoNotFound")
        if commit not in self.hub.repositories[repository]:
            raise _RefusedError(404, "RevisionNotFound")
        return self.hub.repositories[repository][commit]

    def _send_file(self, files: Files, commit: str, name: str) -> None:
        if name not in files:
            raise _RefusedError(404, "EntryNotFound", commit)
        content = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_blob_id(content)}"'}
        if not name.endswith(".safetensors"):
            self._send(200, content, headers)
            return
        digest = hashlib.sha256(content).hexdigest()
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")
        linked = {
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{elsewhere}{_STORAGE}{digest}",
        }
        self._send(302, b"", headers | linked)

    def _send_api(self, files: Files, api: re.Match[str], body: str) -> None:
        answer: Any = _entries(files)
        if api[3] == "revision":
            answer = {"id": api[2], "sha": api[4], "siblings": []}
        elif api[3] == "paths-info":
            wanted = parse_qs(body).get("paths", [])
            answer = [entry for entry in answer if entry["path"] in wanted]
        elif api[5]:
            answer = [entry for entry in answer if entry["path"].startswith(f"{api[5]}/")]
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: Files) -> list[dict[str, object]]:
    """Return the tree listing: every folder and every file."""
    parts = [name.split("/") for name in files]
    folders = {"/".join(part[:depth]) for part in parts for depth in range(1, len(part))}
    return [
        *({"type": "directory", "path": name, "oid": "", "size": 0} for name in sorted(folders)),
        *(
            {"type": "file", "path": name, "oid": _blob_id(content), "size": len(content)}
            for name, content in files.items()
        ),
    ]


def _blob_id(content: bytes) -> str:
    """Return git's own name for a file's content."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
