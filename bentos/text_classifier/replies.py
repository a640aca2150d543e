"""What the service says by itself: JSON answers, and refusals in words."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from lifecycle import Send

Headers = Iterable[tuple[bytes, bytes]]


class Refusal(Exception):  # noqa: N818 - an answer
    """A request that is refused: its status, a reason to count by, and words that say why."""

    def __init__(
        self,
        status: int,
        reason: str,
        error: str,
        details: Sequence[dict[str, str]] = (),
        headers: Headers = (),
    ) -> None:
        super().__init__(error)
        self.status, self.reason, self.error = status, reason, error
        self.details, self.headers = list(details), tuple(headers)

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        return {"error": self.error, "details": self.details}


async def reply(
    send: Send,
    status: int,
    content: Any,
    headers: Headers = (),
    media_type: bytes = b"application/json",
) -> None:
    """Send an answer: bytes as they are, all else as JSON."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    sent = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
