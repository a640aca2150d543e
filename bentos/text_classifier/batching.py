"""Gather the rows of waiting requests into batches for the threads that enter the model.

A thread takes the next batch by itself, as soon as it has computed one. Handed each batch by the
event loop, it waits for the loop's other work while the processor is wanted most: 64 clients of a
MiniLM in int8 on two cores were answered 5 % less often. So they were, by 2 % and more, where the
thread encoded the texts too: the loop does that while the model computes.
"""

import asyncio
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

_WEIGHT_OF_THE_LAST = 0.2  # of the batches behind the moving average of the pace
_TURNS_A_BATCH = 4  # a request gives at most this part of a batch before the others have their turn
_NICENESS = 5  # of the threads that compute, above that of the process


class Overloaded(Exception):  # noqa: N818 - the state of a request
    """The queue is full, or the deadline would pass in it; nothing was computed."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many texts wait; try again in {retry_after} s")
        self.retry_after = retry_after


class Late(Exception):  # noqa: N818 - the state of a request
    """The deadline passed in the queue; what was left of the request is not computed."""

    def __init__(self) -> None:
        super().__init__("the deadline passed while the texts waited; send fewer, or later")


class Failed(Exception):  # noqa: N818 - the state of a request
    """The model failed on the batch that the request was part of; the cause says how."""

    def __init__(self) -> None:
        super().__init__("the model failed on the batch that these texts were in")


class Row(Protocol):
    """What is known here of an encoded text."""

    @property
    def n_tokens(self) -> int:
        """How many tokens of it are computed."""


class Limits(Protocol):
    """What the settings say of the queue."""

    @property
    def batch_tokens(self) -> int:
        """Tokens that are computed together."""

    @property
    def queue_tokens(self) -> int:
        """Tokens that a new request may find ahead of it."""

    @property
    def queue_ms(self) -> int:
        """Milliseconds that a new request may have to wait, if two batches take no longer."""


class Measures(Protocol):
    """Who is told of each batch."""

    def computed(self, rows: int, tokens: int) -> None:
        """Take note of a batch; called by the thread that computes."""


R = TypeVar("R", bound=Row)
A = TypeVar("A")


@dataclass(eq=False, slots=True)
class _Request(Generic[R, A]):
    """The rows of one caller, and the answers so far, which come in the rows' order."""

    rows: list[R]
    tokens: int  # of the rows that wait
    deadline: float
    future: asyncio.Future[list[A]]
    taken: int = 0
    answers: list[A] = field(default_factory=list)

    @property
    def next_tokens(self) -> int:
        return self.rows[self.taken].n_tokens

    def take(self, turn: int, room: int) -> list[R]:
        """Return the next rows that have room: as many as a turn holds, but at least one."""
        start, tokens = self.taken, 0
        while self.taken < len(self.rows):
            after = tokens + self.next_tokens
            if after > room or (tokens and after > turn):
                break
            tokens, self.taken = after, self.taken + 1
        self.tokens -= tokens
        return self.rows[start : self.taken]


class Batcher(Generic[R, A]):
    """One queue, bounded in tokens, and the threads that compute what waits in it.

    A request that finds a thread idle is computed at once. While all compute, the next batch
    gathers: rows of up to `batch_tokens` together, in turns, so that a large request delays a small
    one by a turn and not by its length. A row larger than a batch is a batch of its own.

    `answer` gives an answer for each row, in order; at most `threads` threads are in it at once.
    """

    def __init__(
        self,
        answer: Callable[[list[R]], list[A]],
        limits: Limits,
        measures: Measures,
        clock: Callable[[], float] = time.monotonic,
        threads: int = 1,
    ) -> None:
        self._answer, self._limits, self._measures, self._clock = answer, limits, measures, clock
        self._turn = limits.batch_tokens // _TURNS_A_BATCH
        self._waiting: deque[_Request[R, A]] = deque()
        self._changed = threading.Condition()  # guards all that follows
        self._computing = 0  # tokens of the batches in the model
        self._pace = 0.0  # seconds a token of a full batch takes; 0 until one is measured
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"compute-{number}", daemon=True)
            for number in range(threads)
        ]

    async def start(self) -> None:
        """Start the threads that compute."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Refuse what comes from now on, compute what waits, and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                await asyncio.to_thread(thread.join)

    @property
    def queued_tokens(self) -> int:
        """How many tokens wait, without those in the model."""
        with self._changed:
            return sum(request.tokens for request in self._waiting)

    def admit(self, tokens: int, seconds: float) -> None:
        """Refuse a request of so many tokens that could not be answered within so many seconds.

        The tokens may be estimated: what is refused before its texts are encoded costs nearly
        nothing. Where nothing is ahead of it, a request is always let in.

        Raises:
            Overloaded: if it would find more than `queue_tokens` ahead of it, would wait longer than
                `queue_ms`, or would not be done in time; or if the batcher is closing.
        """
        with self._changed:
            self._admit(tokens, seconds)

    async def submit(self, rows: list[R], seconds: float) -> list[A]:
        """Return the answers to the rows, in order; the caller's cancellation takes them back.

        Raises:
            Overloaded: at once, for the reasons of `admit`.
            Late: if so many seconds passed before all rows were in the model.
            Failed: if the model failed on a batch with one of the rows.
        """
        if not rows:
            return []
        tokens = sum(row.n_tokens for row in rows)
        future: asyncio.Future[list[A]] = asyncio.get_running_loop().create_future()
        request = _Request(rows, tokens, self._clock() + seconds, future)
        with self._changed:
            self._admit(tokens, seconds)
            self._waiting.append(request)
            self._changed.notify()
        try:
            return await future
        except BaseException:
            self._forget(request)
            raise

    def _admit(self, tokens: int, seconds: float) -> None:
        turn = max(tokens, self._turn)
        ahead = self._computing + sum(min(request.tokens, turn) for request in self._waiting)
        pace = self._pace / len(self._threads)
        # A slow model's batches alone take longer than `queue_ms`; without this none would gather.
        longest = max(self._limits.queue_ms / 1000, 2 * self._limits.batch_tokens * self._pace)
        if self._closing or (
            ahead
            and (
                ahead > self._limits.queue_tokens
                or ahead * pace > longest
                or (ahead + tokens) * pace > seconds
            )
        ):
            raise Overloaded(max(1, math.ceil(ahead * pace)))

    def _forget(self, request: _Request[R, A]) -> None:
        """Take a request that was cancelled, or failed in a part, out of the queue."""
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)

    def _work(self) -> None:
        assert self._loop is not None
        _yield_to_the_loop()
        while batch := self._gather():
            rows = [row for _, part in batch for row in part]
            tokens = sum(row.n_tokens for row in rows)
            started = self._clock()
            try:
                answers = self._answer(rows)
                if len(answers) != len(rows):
                    raise ValueError(f"{len(answers)} answers to {len(rows)} rows")
            except Exception as error:  # noqa: BLE001 - whatever a model raises is its caller's
                self._learn(tokens, 0.0)
                self._loop.call_soon_threadsafe(_fail, batch, error)
                continue
            self._learn(tokens, self._clock() - started)
            self._measures.computed(len(rows), tokens)
            self._loop.call_soon_threadsafe(_deliver, batch, answers)

    def _gather(self) -> list[tuple[_Request[R, A], list[R]]]:
        """Wait for work; return the next batch, or nothing when closing and all is computed."""
        batch: list[tuple[_Request[R, A], list[R]]] = []
        room = self._limits.batch_tokens
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    break
                self._drop_late()
                while self._waiting:
                    request = self._waiting[0]
                    rows = request.take(
                        self._turn, room if batch else max(room, request.next_tokens)
                    )
                    if not rows:
                        break
                    self._waiting.popleft()
                    batch.append((request, rows))
                    room -= sum(row.n_tokens for row in rows)
                    if request.taken < len(request.rows):
                        self._waiting.append(request)
            self._computing += self._limits.batch_tokens - room
        return batch

    def _drop_late(self) -> None:
        assert self._loop is not None
        now = self._clock()
        for request in [each for each in self._waiting if each.deadline <= now]:
            self._waiting.remove(request)
            self._loop.call_soon_threadsafe(_refuse, request, Late())

    def _learn(self, tokens: int, seconds: float) -> None:
        """Follow the pace of full batches; a smaller one costs more a token, so only lowers it.

        A batch that failed, in no time, teaches nothing.
        """
        pace = seconds / max(tokens, 1)
        with self._changed:
            self._computing -= tokens
            if not seconds:
                return
            if not self._pace:
                self._pace = pace if 2 * tokens >= self._limits.batch_tokens else 0.0
            elif 2 * tokens >= self._limits.batch_tokens:
                self._pace += _WEIGHT_OF_THE_LAST * (pace - self._pace)
            else:
                self._pace = min(self._pace, pace)


def _yield_to_the_loop() -> None:
    """Let this thread be the one that waits for the processor, and not the one that answers.

    Under more load than can be computed, a refusal is then sent at once. Only Linux gives each
    thread a niceness of its own.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _deliver(batch: list[tuple[_Request[R, A], list[R]]], answers: list[A]) -> None:
    start = 0
    for request, rows in batch:
        request.answers += answers[start : start + len(rows)]
        start += len(rows)
        if len(request.answers) == len(request.rows) and not request.future.done():
            request.future.set_result(request.answers)


def _fail(batch: list[tuple[_Request[R, A], list[R]]], cause: Exception) -> None:
    for request, _ in batch:
        failed = Failed()
        failed.__cause__ = cause
        _refuse(request, failed)


def _refuse(request: _Request[R, A], error: Exception) -> None:
    if not request.future.done():
        request.future.set_exception(error)
