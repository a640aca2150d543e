"""The requests of the hostile benchmark: a corpus that is drawn from, and the ways past a key."""

import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterator

KEYS = {"me": "a-good-key-of-the-benchmark"}
_GOOD = KEYS["me"]
_HOST = b"Host: 127.0.0.1\r\n"
_JSON = b"Content-Type: application/json\r\n"
_TEXTS = b'{"texts": ["hello"]}'


def post(
    body: bytes, path: bytes = b"/classify", media: bytes = b"application/json", more: bytes = b""
) -> bytes:
    """Return a whole request, with further header lines."""
    length = str(len(body)).encode()
    head = b"POST " + path + b" HTTP/1.1\r\n" + _HOST + b"Content-Type: " + media
    return head + b"\r\nContent-Length: " + length + b"\r\n" + more + b"\r\n" + body


def _texts(*texts: str) -> bytes:
    return post(json.dumps({"texts": texts}, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _lines(body: bytes) -> bytes:
    return post(body, b"/bulk", b"application/x-ndjson")


def _chunked(body: bytes) -> bytes:
    head = b"POST /classify HTTP/1.1\r\n" + _HOST + _JSON
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + body


def _get(path: bytes, more: bytes = b"", version: bytes = b" HTTP/1.1") -> bytes:
    return b"GET " + path + version + b"\r\n" + _HOST + more + b"\r\n"


_SMUGGLED = b"\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_DEEP = b'{"texts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
_BOMB = gzip.compress(b" " * (32 << 20))
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
_HARD: dict[str, str] = {
    "text: blank": " ",
    "text: empty": "",
    "text: run without spaces": "x" * 9_999,
    "text: far too long": "word " * 128_000,
    "text: bidi and controls": "\u202e\u2066\x00\x01\x7f\x1b[2J\u2069" * 500,
    "text: combining": "a" + "\u0301" * 100_000,
    "text: combining, of a length allowed": "a" + "\u0301" * 9_000,
    "text: emoji joined": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d" * 1_500,
    "text: a lone surrogate": "\ud800",
    "text: han run": "\u4e2d" * 9_999,
}
_CASES: dict[str, bytes] = {
    **{name: _texts(text) for name, text in _HARD.items()},
    "line: no version": b"GET /model\r\n\r\n",
    "line: of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "line: a version unknown": _get(b"/model", version=b" HTTP/9.9"),
    "line: null bytes": _get(b"/mo\x00del"),
    "line: a method unknown": b"BREW /model HTTP/1.1\r\n" + _HOST + b"\r\n",
    "line: CONNECT": b"CONNECT a:1 HTTP/1.1\r\n" + _HOST + b"\r\n",
    "line: absolute": _get(b"http://127.0.0.1/metrics"),
    "line: latin": _get(b"/\xff\xfe"),
    "line: very long": _get(b"/" + b"a" * 100_000),
    "line: a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 4,
    "head: huge": _get(b"/model", b"A: " + b"a" * (1 << 20) + b"\r\n"),
    "head: many": _get(b"/model", b"A: a\r\n" * 20_000),
    "head: folded": _get(b"/model", b"A: a\r\n b\r\n"),
    "head: null byte": _get(b"/model", b"A: a\x00b\r\n"),
    "head: no colon": _get(b"/model", b"nothing\r\n"),
    "head: space before the colon": _get(b"/model", b"Content-Length : 3\r\n"),
    "head: two hosts": _get(b"/model", _HOST),
    "head: websocket": _get(b"/", _UPGRADE + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
    "head: h2c": _get(b"/model", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "smuggle: length and chunks": post(_SMUGGLED, more=b"Transfer-Encoding: chunked\r\n"),
    "smuggle: two lengths": post(_TEXTS, more=b"Content-Length: 3\r\n"),
    "smuggle: a negative length": post(_TEXTS).replace(b"Length: ", b"Length: -"),
    "smuggle: a signed length": post(_TEXTS).replace(b"Length: ", b"Length: +"),
    "smuggle: a length of many digits": post(_TEXTS).replace(b"Length: ", b"Length: " + b"9" * 30),
    "smuggle: chunked in capitals": post(_SMUGGLED, more=b"Transfer-Encoding: xchunked\r\n"),
    "chunks: a size that is none": _chunked(b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunks: a negative size": _chunked(b"-1\r\nhello\r\n0\r\n\r\n"),
    "chunks: a size too large": _chunked(b"f" * 40 + b"\r\nhello\r\n"),
    "chunks: an extension": _chunked(b"14;a=b\r\n" + _TEXTS + b"\r\n0\r\n\r\n"),
    "chunks: trailers": _chunked(b"14\r\n" + _TEXTS + b"\r\n0\r\nA: b\r\n\r\n"),
    "json: deep": post(_DEEP),
    "json: NaN": post(b'{"texts": [NaN, Infinity, -Infinity]}'),
    "json: a number without end": post(b'{"texts": [1e999, ' + b"9" * 10_000 + b"]}"),
    "json: a key twice": post(b'{"texts": ["a"], "texts": ["b"]}'),
    "json: BOM": post(b"\xef\xbb\xbf" + _TEXTS),
    "json: UTF-16": post(_TEXTS.decode().encode("utf-16")),
    "json: raw surrogates": post(b'{"texts": ["\xed\xa0\x80"]}'),
    "json: cut": post(_TEXTS[:-3]),
    "json: nothing": post(b""),
    "json: 100 000 keys": post(b"{" + b'"a":1,' * 100_000 + b'"texts":["a"]}'),
    "json: far too many texts": post(b'{"texts": [' + b'"a",' * 100_000 + b'"a"]}'),
    "body: gzip bomb": post(_BOMB, more=b"Content-Encoding: gzip\r\n"),
    "body: gzip bomb, not told": post(_BOMB),
    "body: form": post(b"texts=a", media=b"application/x-www-form-urlencoded"),
    "body: parts without end": post(b"--a\r\n" * 1000, media=b"multipart/form-data; boundary=a"),
    "body: too large": post(b" " * ((8 << 20) + 1)),
    "bulk: broken lines": _lines(b'{"text"\n\x00\n[]\n"a"\n{"text": 1}\n{"text": "a", "b": 1}\n'),
    "bulk: a long line": _lines(b'{"text": "' + b"a" * (9 << 20) + b'"}'),
    "bulk: blank lines": _lines(b"\n" * 100_000),
    "bulk: many broken lines": _lines(b"x\n" * 2_000),
    "bulk: a deep line": _lines(b"[" * 100_000 + b"\n"),
    "pipelined": _get(b"/livez") * 50,
    "pipelined posts": post(_TEXTS) * 5,
    "nothing but line ends": b"\r\n" * 1000 + _get(b"/livez"),
}
_HEAVY = {name for name, request in _CASES.items() if len(request) > (1 << 20)}
# These say that more is to come, and the service rightly waits for it: nobody waits with it.
_UNFINISHED = {"smuggle: a length of many digits", "chunks: a size too large"}
_WEIGHTS = [1 if name in _HEAVY else 20 for name in _CASES]


def hostile_request(draw: random.Random) -> tuple[str, bytes, bool]:
    """Return a case, its bytes, and whether an answer is to be waited for.

    A third are as they are written, a third are cut at any byte, a third have bytes changed.
    """
    name = draw.choices(list(_CASES), _WEIGHTS)[0]
    request, way = _CASES[name], draw.randrange(3)
    if way == 0:
        return name, request, name not in _UNFINISHED
    base = draw.choice([request, post(_TEXTS), _lines(b'{"text": "hello"}\n' * 3)])
    if way == 1:
        return "cut anywhere", base[: draw.randrange(len(base))], False
    changed = bytearray(base[: 1 << 16])
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(min(len(changed), 400))] = draw.randrange(256)
    return "bytes changed", bytes(changed), False


_ROUTES = (
    *("/", "/classify", "/bulk", "/model", "/metrics", "/docs.json", "/schema.json", "/healthz"),
    *("/livez", "/readyz", "/static_content/index.html", "/static_content/swagger-ui.css"),
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
_PATHS: tuple[Callable[[str], str], ...] = (
    lambda path: path,
    lambda path: "/" + path,
    lambda path: "/." + path,
    lambda path: "/livez/.." + path,
    lambda path: "/livez/%2e%2e" + path,
    lambda path: "/livez%2f.." + path.replace("/", "%2f"),
    lambda path: path + "/",
    lambda path: path + ";a=/livez",
    lambda path: path + "%00",
    lambda path: path + "%20",
    lambda path: path + "?/livez",
    lambda path: path + "%3f",
    lambda path: path + "#/livez",
    lambda path: path.upper(),
    lambda path: "http://127.0.0.1" + path,
    lambda path: "http://127.0.0.1/livez/.." + path,
    lambda path: "/" + "".join(f"%{ord(letter):02x}" for letter in path[1:]),
    lambda path: path.replace("/", "/%ef%bc%8f"),
    lambda path: path.replace("/", "\\"),
    lambda path: path + f"?key={_GOOD}&api_key={_GOOD}&X-API-Key={_GOOD}",
    lambda path: "/" + "a/../" * 1000 + path,
)
_NO_GOOD_KEYS = (
    "",
    "X-API-Key: bad\r\n",
    "X-API-Key:\r\n",
    f"X-API-Key: {_GOOD[:-1]}\r\n",
    f"X-API-Key: {_GOOD.upper()}\r\n",
    f"X-API-Key: {_GOOD}\r\nX-API-Key: bad\r\n",
    f"X-API-Key: bad\r\nAuthorization: Bearer {_GOOD}\r\n",
    f"X-API-Key: {_GOOD}, bad\r\n",
    "Authorization: Bearer\r\n",
    "Authorization: bEARER bad\r\n",
    f"Authorization: Basic {_GOOD}\r\n",
    f"Authorization: {_GOOD}\r\n",
    f"Authorization: Bearer Bearer {_GOOD}\r\n",
    f"Cookie: X-API-Key={_GOOD}\r\n",
    f"X_API_Key: {_GOOD}\r\n",
    f"Proxy-Authorization: Bearer {_GOOD}\r\n",
    "X-Forwarded-For: 127.0.0.1\r\nX-Original-URL: /livez\r\nX-Rewrite-URL: /livez\r\n",
    "X-HTTP-Method-Override: GET\r\nX-Forwarded-Prefix: /livez\r\n",
)


def bypasses() -> Iterator[tuple[str, bytes]]:
    """Give the requests that have no good key where a key belongs: by route, path, method, key."""
    for route, trick, method, key in itertools.product(_ROUTES, _PATHS, _METHODS, _NO_GOOD_KEYS):
        path = trick(route)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{key}"
        body = _TEXTS.decode() if method not in ("GET", "HEAD", "OPTIONS", "TRACE") else ""
        sent = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        yield f"{method} {path[:80]!r} {key!r}", sent.encode()
