"""A bucket on loopback: as much of S3 as reading takes, for the real s3fs to speak to."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
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


@contextmanager
def serve_bucket(folder: Path) -> Iterator[Server]:
    """Serve the files below `folder` as the objects of `s3://bucket`, to who signs the request."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            server.requests.append(Request.of(self))
            if "Credential=user/" not in self.headers.get("Authorization", ""):
                return self.send_error(403)
            address = urlsplit(self.path)
            query = parse_qs(address.query)
            file = folder / unquote(address.path).removeprefix("/bucket").lstrip("/")
            if "list-type" in query:
                content = listing(folder, query.get("prefix", [""])[0], query.get("delimiter"))
            elif file.is_file():
                content = file.read_bytes()
            else:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", '"one"')
            self.end_headers()
            if with_body:
                self.wfile.write(content)
            return None

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its base's name)
            pass

    with listening(server, Handler) as started:
        yield started


def listing(folder: Path, prefix: str, delimiter: list[str] | None) -> bytes:
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
