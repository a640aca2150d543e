"""A bucket on loopback: as much of S3 as reading and writing take, for the real s3fs to speak to."""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from loopback import Request, Server, listening

ENDPOINT = "AWS_ENDPOINT_URL_S3"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "user",
    "AWS_SECRET_ACCESS_KEY": "password",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
Fault: TypeAlias = Literal["cut", "lost", 500, 503] | None
"""Cut the connection in the middle of the request, say that all is well and keep nothing, or fail."""


def _sound(method: str, key: str) -> Fault:
    return None


@dataclass
class Upload:
    """A multipart upload that was not ended: its key, its parts, and when it began."""

    key: str
    parts: dict[int, bytes] = field(default_factory=dict)
    initiated: str = "2026-01-01T00:00:00.000Z"


@dataclass
class Bucket(Server):
    """A bucket: what it was asked, what is being uploaded to it, and how it fails.

    `fault` is called with method and key before each request is answered.
    """

    uploads: dict[str, Upload] = field(default_factory=dict)
    fault: Callable[[str, str], Fault] = _sound

    @property
    def puts(self) -> list[str]:
        """Return the keys that were put, in order."""
        return [path.removeprefix("/bucket/") for path in self.asked("PUT")]

    def asked(self, method: str) -> list[str]:
        """Return the paths that were asked for by a method."""
        return [each.path for each in self.requests if each.method == method]


class _Handler(BaseHTTPRequestHandler):
    """Answer requests for `s3://bucket`, whose objects are the files below a folder."""

    protocol_version = "HTTP/1.1"  # an earlier one cannot ask for the body of a PUT
    bucket: Bucket
    folder: Path

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, act: Callable[[str, dict[str, list[str]], bytes], bytes | None]) -> None:
        self.bucket.requests.append(Request.of(self))
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        key = unquote(address.path).removeprefix("/bucket").lstrip("/")
        fault = self.bucket.fault(self.command, key)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "cut":
            self.rfile.read(length // 2)
            self.close_connection = True
            return None
        body = self.rfile.read(length)
        if "Credential=user/" not in self.headers.get("Authorization", ""):
            return self.send_error(403)
        if isinstance(fault, int):
            return self.send_error(fault)
        content = b"" if fault == "lost" else act(key, query, body)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", '"one"')
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    def _get(self, key: str, query: dict[str, list[str]], body: bytes) -> bytes | None:
        if "uploads" in query:
            return _uploads(self.bucket.uploads)
        if "list-type" in query:
            prefix, delimiter = (query.get(name, [""])[0] for name in ("prefix", "delimiter"))
            return listing(self.folder, prefix, delimiter)
        file = self.folder / key
        return file.read_bytes() if file.is_file() else None

    def _put(self, key: str, query: dict[str, list[str]], body: bytes) -> bytes | None:
        if "uploadId" in query:
            upload = self.bucket.uploads[query["uploadId"][0]]
            upload.parts[int(query["partNumber"][0])] = body
        else:
            self._keep(key, body)
        return b""

    def _post(self, key: str, query: dict[str, list[str]], body: bytes) -> bytes | None:
        if "delete" in query:
            for name in re.findall(r"<Key>([^<]*)</Key>", body.decode()):
                self._remove(name)
            return b"<DeleteResult></DeleteResult>"
        if "uploads" in query:
            number = uuid.uuid4().hex
            self.bucket.uploads[number] = Upload(key)
            return f"<R><UploadId>{number}</UploadId></R>".encode()
        upload = self.bucket.uploads.pop(query["uploadId"][0])
        self._keep(key, b"".join(part for _, part in sorted(upload.parts.items())))
        return b"<R></R>"

    def _delete(self, key: str, query: dict[str, list[str]], body: bytes) -> bytes | None:
        if "uploadId" in query:
            del self.bucket.uploads[query["uploadId"][0]]
        else:
            self._remove(key)
        return b""

    def _remove(self, key: str) -> None:
        if (self.folder / key).is_file():  # S3 finds nothing wrong with a key that is none
            (self.folder / key).unlink()

    def _keep(self, key: str, content: bytes) -> None:
        file = self.folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        whole.write_bytes(content)
        whole.replace(file)  # a single put is atomic

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its base's name)
        pass


@contextmanager
def serve_bucket(folder: Path) -> Iterator[Bucket]:
    """Serve the files below `folder` as the objects of `s3://bucket`, to who signs the request."""
    served = Bucket()

    class Handler(_Handler):
        bucket = served

    Handler.folder = folder
    with listening(served, Handler):
        yield served


def listing(folder: Path, prefix: str, delimiter: str) -> bytes:
    """Return S3's answer to ListObjectsV2: the keys under the prefix, or its next folders."""
    keys = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    entries = set()
    for key in (key for key in keys if key.startswith(prefix)):
        head, mark, _ = key[len(prefix) :].partition("/")
        if delimiter and mark:
            entries.add(
                f"<CommonPrefixes><Prefix>{escape(prefix + head)}/</Prefix></CommonPrefixes>"
            )
        else:
            entries.add(
                f"<Contents><Key>{escape(key)}</Key><Size>{(folder / key).stat().st_size}</Size>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            )
    body = "".join(sorted(entries))
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{body}</ListBucketResult>".encode()


def _uploads(uploads: dict[str, Upload]) -> bytes:
    """Return S3's answer to ListMultipartUploads."""
    body = "".join(
        f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{number}</UploadId>"
        f"<Initiated>{upload.initiated}</Initiated></Upload>"
        for number, upload in uploads.items()
    )
    return f"<ListMultipartUploadsResult>{body}</ListMultipartUploadsResult>".encode()
