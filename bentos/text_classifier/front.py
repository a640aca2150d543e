"""The routes of the service; what is none of them goes on to BentoML's own application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from batching import Batcher, Failed, Late, Overloaded
from bulk import answer_lines, lines_of
from engine import Answer, Row
from lifecycle import App, Lifecycle, Receive, Scope, Send
from measures import Measures
from openapi import document
from replies import Refusal, reply
from settings import Settings
from texts import Texts

log = logging.getLogger("ekiben.serve")

_LETTERS_A_TOKEN = 5
_LONG = 20_000  # characters; cutting more into tokens takes milliseconds, so a thread does it


class Classifier:
    """Texts to the items of an answer, by way of the queue."""

    def __init__(
        self,
        card: Mapping[str, Any],
        encode: Callable[[list[str]], list[Row]],
        batcher: Batcher[Row, Answer],
        measures: Measures,
        seconds: float,
    ) -> None:
        self.card, self.batcher, self.seconds = card, batcher, seconds
        self._encode, self._measures = encode, measures

    async def rows(self, texts: list[str]) -> list[Row]:
        """Return what the model reads of cleaned texts."""
        if sum(map(len, texts)) > _LONG:
            return await asyncio.to_thread(self._encode, texts)
        return self._encode(texts)

    async def answers(self, texts: list[str]) -> list[Answer]:
        """Return the model's answer to each cleaned text, in order."""
        return await self.batcher.submit(await self.rows(texts), self.seconds)

    def items(self, answers: list[Answer]) -> list[dict[str, Any]]:
        """Return what is sent for each answer, and count it."""
        items = []
        for answer in answers:
            probabilities = dict(zip(self.card["labels"], answer.probabilities, strict=True))
            label = max(probabilities, key=probabilities.__getitem__)
            self._measures.predictions.labels(label).inc()
            if answer.unsure:
                self._measures.unsure.inc()
            items.append(
                {
                    "label": label,
                    "probabilities": probabilities,
                    "unsure": answer.unsure,
                    "truncated": answer.truncated,
                    "model": self.card["tag"],
                    "forced": self.card["forced"],
                }
            )
        return items


class Front:
    """ASGI application of our routes, around BentoML's."""

    def __init__(
        self,
        app: App,
        classifier: Callable[[], Classifier],
        card: Mapping[str, Any],
        settings: Settings,
        measures: Measures,
        lifecycle: Lifecycle,
    ) -> None:
        self._app, self._classifier, self._card = app, classifier, card
        self._settings, self._measures, self._lifecycle = settings, measures, lifecycle
        self._texts = Texts(card)
        self._document = document(card)
        self._posts = {"/classify": self._classify, "/bulk": self._bulk}
        self._gets = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/model": self._model,
            "/metrics": self._metrics,
            "/docs.json": self._docs,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one of our routes, or pass the request on."""
        path = scope["path"] if scope["type"] == "http" else None
        if path in self._posts:
            _check_method(scope, "POST")
            with _failures():
                await self._posts[path](scope, receive, send)
        elif path in self._gets:
            _check_method(scope, "GET", "HEAD")
            await self._gets[path](send)
        else:
            await self._app(scope, receive, send)

    async def _classify(self, scope: Scope, receive: Receive, send: Send) -> None:
        classifier = self._classifier()
        body = await _whole(receive)
        # What the queue has no room for costs nearly nothing, unread.
        classifier.batcher.admit(len(body) // _LETTERS_A_TOKEN, classifier.seconds)
        texts = self._texts.read(body)
        rows = await classifier.rows(texts)
        request = scope["ekiben"]
        request.texts, request.tokens = len(rows), sum(row.n_tokens for row in rows)
        answers = await _unless_gone(classifier.batcher.submit(rows, classifier.seconds), receive)
        if answers is not None:
            await reply(send, 200, classifier.items(answers))

    async def _bulk(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer line by line; the next lines are read once these are answered and sent."""
        headers = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]
        started = False
        async for lines in lines_of(receive, self._settings.body_bytes, self._texts.most):
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                started = True
            body = await answer_lines(lines, self._texts, self._classifier(), scope["ekiben"])
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if not started:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _livez(self, send: Send) -> None:
        await reply(send, 200, b"alive\n", media_type=b"text/plain")

    async def _readyz(self, send: Send) -> None:
        ready = self._lifecycle.state == "ready"
        word = self._lifecycle.state.encode() + b"\n"
        await reply(send, 200 if ready else 503, word, media_type=b"text/plain")

    async def _model(self, send: Send) -> None:
        await reply(send, 200, self._card)

    async def _metrics(self, send: Send) -> None:
        media_type = b"text/plain; version=0.0.4; charset=utf-8"
        await reply(send, 200, self._measures.text(), media_type=media_type)

    async def _docs(self, send: Send) -> None:
        await reply(send, 200, self._document)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what the queue raises into refusals."""
    try:
        yield
    except Overloaded as error:
        after = [(b"retry-after", str(error.retry_after).encode())]
        raise Refusal(503, "overload", str(error), headers=after) from None
    except Late as error:
        raise Refusal(503, "deadline", str(error), headers=[(b"retry-after", b"1")]) from None
    except Failed as error:
        log.error("the model failed: %s", type(error.__cause__).__name__)
        raise Refusal(500, "failure", "the model failed on these texts; tell its keeper") from None


def _check_method(scope: Scope, *allowed: str) -> None:
    if scope["method"] not in allowed:
        headers = [(b"allow", ", ".join(allowed).encode())]
        raise Refusal(405, "method", f"use {' or '.join(allowed)} here", headers=headers)


async def parts_of(receive: Receive) -> AsyncIterator[bytes]:
    """Give the body as it comes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "gone", "the body did not come whole")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _whole(receive: Receive) -> bytes:
    return b"".join([part async for part in parts_of(receive)])


async def _unless_gone(work: Awaitable[list[Answer]], receive: Receive) -> list[Answer] | None:
    """Return the answers, or nothing where the caller goes away before: the queue forgets it."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()
