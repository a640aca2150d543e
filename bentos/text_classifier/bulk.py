"""JSON Lines in and out: any number of texts in one request, a few at a time."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson
from batching import Failed, Late, Overloaded
from engine import Answer
from lifecycle import Receive
from replies import Refusal
from texts import Texts, parse

if TYPE_CHECKING:
    from front import Classifier
    from observing import Request

_TOO_LONG = b"\0"  # no JSON, and no line of one
Line = tuple[int, bytes]


async def lines_of(receive: Receive, longest: int, most: int) -> AsyncIterator[list[Line]]:
    """Give up to `most` numbered lines at a time, as soon as there are any; blank ones are left out.

    After a line of more than `longest` bytes nothing more is read: it may have no end.
    """
    number, rest, more = 0, b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        *lines, rest = (rest + message.get("body", b"")).split(b"\n")
        if not more:
            lines.append(rest)
        elif len(rest) > longest:
            lines.append(_TOO_LONG)
            more = False
        numbered = list(enumerate(lines, number + 1))
        number += len(lines)
        found = [line for line in numbered if line[1].strip()]
        for start in range(0, len(found), most):
            yield found[start : start + most]


async def answer_lines(
    lines: list[Line], texts: Texts, classifier: "Classifier", request: "Request"
) -> bytes:
    """Return the lines of the answer, one for each line in order."""
    items: list[dict[str, Any]] = []
    good: list[str] = []
    places: list[int] = []
    for number, line in lines:
        item: dict[str, Any] = {"line": number}
        try:
            good.append(texts.clean(_text(line, item)))
            places.append(len(items))
        except ValueError as error:
            item["error"] = str(error)
        except Refusal as refusal:
            item["error"] = refusal.error
        items.append(item)
    if good:
        try:
            answers = await _answered(good, classifier, request)
        except (Late, Failed) as error:
            for place in places:
                items[place]["error"] = str(error)
        else:
            for place, found in zip(places, classifier.items(answers), strict=True):
                items[place] |= found
    return b"".join(orjson.dumps(item) + b"\n" for item in items)


async def _answered(texts: list[str], classifier: "Classifier", request: "Request") -> list[Answer]:
    """Wait for room in the queue: a stream goes on as fast as it can be computed."""
    rows = await classifier.rows(texts)
    request.texts += len(rows)
    request.tokens += sum(row.n_tokens for row in rows)
    while True:
        try:
            return await classifier.batcher.submit(rows, classifier.seconds)
        except Overloaded as overloaded:
            await asyncio.sleep(min(1, overloaded.retry_after))


def _text(line: bytes, item: dict[str, Any]) -> Any:
    """Return the text of a line, and put its id into the item."""
    if line is _TOO_LONG:
        raise ValueError("the line is too long; nothing after it was read")
    asked = parse(line)
    if not isinstance(asked, dict) or "text" not in asked or not asked.keys() <= {"text", "id"}:
        raise ValueError('should be an object; send {"text": "...", "id": "..."}, the id if wanted')
    if not isinstance(asked.get("id", ""), str | int):
        raise ValueError("id should be a string or a whole number")
    if "id" in asked:
        item["id"] = asked["id"]
    return asked["text"]
