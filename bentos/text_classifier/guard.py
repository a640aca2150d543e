"""Refuse what may not come in, before its body is read and before any other code sees it."""

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable

from keys import Keys
from lifecycle import App, Message, Receive, Scope, Send, discard
from replies import Headers, Refusal, reply
from settings import Settings

OPEN = ("/livez", "/readyz")
"""Answered to anyone: a kubelet has no key, and calls by address. No other path is."""
BULK = "/bulk"
_NAMES_OF_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_READS = ("GET", "HEAD", "OPTIONS")
_JSON, _LINES = b"application/json", (b"application/x-ndjson", b"application/jsonl")


class Guard:
    """ASGI middleware: host, then network, key, rate, media type and body, in this order.

    Everything is decided on `scope["path"]`, the very string by which the routes are found.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        keys: Keys | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._settings, self._keys = app, settings, keys
        self._rates = Rates(settings.rate_per_minute, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it in words."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        body = Body(receive, self._settings, whole=scope["path"] != BULK)
        try:
            if scope["path"] not in OPEN:
                self._admit(scope)
            body.check_length(scope["headers"])
            await self._app(scope, body.receive, send_on)
        except Refusal as refusal:
            scope["ekiben"].refused = refusal.reason
            if started:
                raise
            if not body.ended:  # after it, nothing comes but the news that the caller has gone
                await discard(receive)
            await reply(send, refusal.status, refusal.body, refusal.headers)

    def _admit(self, scope: Scope) -> None:
        """Refuse by what the head of the request says."""
        address = (scope.get("server") or ("",))[0]
        self._check_host(scope["headers"], address)
        if not _is_loopback(address):
            self._check_network(scope["scheme"])
        if self._keys is not None:
            name = self._keys.name_of(_key(scope["headers"]))
            if name is None:
                raise Refusal(
                    401,
                    "key",
                    "a key is needed; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                    headers=[(b"www-authenticate", b'Bearer realm="ekiben"')],
                )
            scope["ekiben"].key = name
            self._rates.take(name)
        if scope["method"] not in _READS:
            _check_media_type(scope["headers"], scope["path"])

    def _check_host(self, headers: Headers, address: str) -> None:
        """Refuse a name that is not ours: a page of another site may have been pointed here."""
        hosts = _all(headers, b"host")
        name = _without_port(hosts[0].decode("latin-1").lower()) if len(hosts) == 1 else ""
        bound = f"[{address}]" if ":" in address else address
        allowed = self._settings.allowed_hosts or (*_NAMES_OF_LOOPBACK, bound)
        if not name or name not in allowed:
            raise Refusal(
                421,
                "host",
                "the service is not known by the name in Host; set EKIBEN_SERVE_ALLOWED_HOSTS to "
                "the names by which it may be called",
            )

    def _check_network(self, scheme: str) -> None:
        if self._keys is None:
            raise Refusal(
                403,
                "network",
                "without keys the service answers on loopback alone; set EKIBEN_SERVE_KEYS_FILE",
            )
        if scheme != "https" and not self._settings.allow_plaintext:
            raise Refusal(
                403,
                "network",
                "without TLS the service answers on loopback alone; serve with a certificate, or "
                "set EKIBEN_SERVE_ALLOW_PLAINTEXT=true where something in front of it ends TLS",
            )


class Rates:
    """A bucket for each key, which holds ten seconds of its rate and fills at that rate."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_second, self._most = per_minute / 60, max(1.0, per_minute / 6)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> None:
        """Take one request from the key's bucket; refuse it where there is none."""
        now = self._clock()
        left, then = self._buckets.get(name, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_second)
        self._buckets[name] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            seconds = max(1, math.ceil((1 - left) / self._per_second))
            raise Refusal(
                429,
                "rate",
                f"this key has made too many requests; try again in {seconds} s",
                headers=[(b"retry-after", str(seconds).encode())],
            )


class Body:
    """The body of a request, counted and timed while it comes.

    A whole one is bounded in bytes and in the time until its end; a stream in the time of each part.
    """

    def __init__(self, receive: Receive, settings: Settings, *, whole: bool) -> None:
        self._receive, self._most, self._seconds = (
            receive,
            settings.body_bytes,
            settings.read_seconds,
        )
        self._whole, self._came, self.ended = whole, 0, False
        self._until = asyncio.get_running_loop().time() + self._seconds

    def check_length(self, headers: Headers) -> None:
        """Refuse at once a body that says that it is too large."""
        for length in _all(headers, b"content-length"):
            if self._whole and length.isdigit() and int(length) > self._most:
                raise self._too_large()

    async def receive(self) -> Message:
        """Return the next message; after the body's end, wait for the caller to go away."""
        if self.ended:
            return await self._receive()
        if not self._whole:
            self._until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(
                408, "slow", f"the body did not come within {self._seconds} s; send it at once"
            ) from None
        self._came += len(message.get("body", b""))
        if self._whole and self._came > self._most:
            raise self._too_large()
        self.ended = not message.get("more_body", False)
        return message

    def _too_large(self) -> Refusal:
        return Refusal(
            413, "large", f"the body is larger than {self._most} bytes; send fewer texts at once"
        )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _all(headers: Headers, name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _key(headers: Headers) -> bytes:
    """Return the only key of a request, or nothing."""
    found = _all(headers, b"x-api-key")
    for value in _all(headers, b"authorization"):
        scheme, _, key = value.partition(b" ")
        found.append(key.strip() if scheme.lower() == b"bearer" else b"")
    return found[0] if len(found) == 1 else b""


def _check_media_type(headers: Headers, path: str) -> None:
    expected = (_JSON, *_LINES) if path == BULK else (_JSON,)
    found = [value.partition(b";")[0].strip().lower() for value in _all(headers, b"content-type")]
    if len(found) != 1 or found[0] not in expected or _all(headers, b"content-encoding"):
        named = "application/x-ndjson" if path == BULK else "application/json"
        raise Refusal(415, "media type", f"send the body as Content-Type: {named}, not compressed")
