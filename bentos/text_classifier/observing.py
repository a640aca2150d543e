"""Count, time and log each request, whoever answers it; no text and no key is in any of it."""

import asyncio
import logging
import random
import re
import sys
import time
from dataclasses import dataclass

import orjson
from lifecycle import App, Message, Receive, Scope, Send
from measures import Measures
from tracing import span_of

log = logging.getLogger("ekiben.serve")

ROUTES = ("/classify", "/bulk", "/model", "/livez", "/readyz", "/metrics", "/docs.json")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECONDS_OF_SHED = 1.0


@dataclass(slots=True)
class Request:
    """What is known of a request by now."""

    id: str
    route: str
    key: str = ""
    status: int = 0
    texts: int = 0
    tokens: int = 0
    refused: str = ""


class Observed:
    """ASGI middleware around all that answers; the request's notes are `scope["ekiben"]`.

    A request has a line in the log, but those refused for overload have one for all of a second:
    lines by the thousand would take the processor from those that are answered.
    """

    def __init__(self, app: App, measures: Measures) -> None:
        self._app, self._measures = app, measures
        self._shed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and take note of how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        name = given.decode() if _ID.fullmatch(given) else _new_id()
        # A path that is not ours is "other": a label, or a log, takes no words of the caller's.
        route = scope["path"] if scope["path"] in ROUTES else "other"
        scope["ekiben"] = request = Request(name, route)
        started = time.perf_counter()

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", name.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            with span_of(scope, route, name):
                await self._app(scope, receive, send_noted)
        finally:
            self._note(request, time.perf_counter() - started)

    def _note(self, request: Request, seconds: float) -> None:
        # No status: the caller went away, which field terms call 499.
        status = request.status or 499
        self._measures.requests.labels(request.route, status).inc()
        self._measures.seconds.labels(request.route).observe(seconds)
        if request.refused:
            self._measures.refusals.labels(request.refused).inc()
        if request.refused == "overload":
            if not self._shed:
                asyncio.get_running_loop().call_later(_SECONDS_OF_SHED, self._note_shed)
            self._shed += 1
        elif log.isEnabledFor(logging.INFO):
            noted = {
                "id": request.id,
                "route": request.route,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "texts": request.texts,
                "tokens": request.tokens,
                "key": request.key,
                "refused": request.refused,
            }
            log.info(orjson.dumps(noted).decode())

    def _note_shed(self) -> None:
        noted = {"refused": "overload", "requests": self._shed}
        self._shed = 0
        log.info(orjson.dumps(noted).decode())


def _new_id() -> str:
    # Not secret: asking the system for random bytes was a tenth of what a refusal costs.
    return f"{random.getrandbits(128):032x}"


def log_to_stdout() -> None:
    """Write the log of the service as lines on stdout, and nowhere else."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
