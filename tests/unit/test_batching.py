"""The batcher: who is computed when, who is refused, and that answers go back to their callers."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.text_classifier.batching import Batcher, Failed, Late, Overloaded

FOREVER = 1e9


@dataclass(frozen=True)
class Row:
    name: str
    n_tokens: int = 10


@dataclass(frozen=True)
class Limits:
    batch_tokens: int = 100
    queue_tokens: int = 1000
    queue_ms: int = 100


@dataclass
class Model:
    """A model that answers a row with its name, and only when it is let."""

    open: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    batches: list[list[str]] = field(default_factory=list)
    poison: str = "poison"
    inside: int = 0

    def __call__(self, rows: list[Row]) -> list[str]:
        self.inside += 1
        assert self.inside == 1, "two threads are in the model"
        self.batches.append([row.name for row in rows])
        self.entered.release()
        self.open.wait()
        self.inside -= 1
        if any(row.name == self.poison for row in rows):
            raise ValueError("cannot compute this")
        return [f"answer to {row.name}" for row in rows]

    async def is_entered(self) -> None:
        """Wait until the next batch is in the model."""
        await asyncio.to_thread(self.entered.acquire)


class Deaf:
    """Measures that keep nothing."""

    def computed(self, rows: int, tokens: int) -> None:
        """Forget it."""


@dataclass
class Bench:
    """A started batcher with its model, its clock, and what its measures were told."""

    model: Model
    limits: Limits
    now: float = 0.0
    computed: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        @dataclass
        class Measures:
            told: list[tuple[int, int]]

            def computed(self, rows: int, tokens: int) -> None:
                self.told.append((rows, tokens))

        self.batcher: Batcher[Row, str] = Batcher(
            self.model, self.limits, Measures(self.computed), lambda: self.now
        )

    def submit(
        self, *names: str, tokens: int = 10, seconds: float = FOREVER
    ) -> asyncio.Task[list[str]]:
        rows = [Row(name, tokens) for name in names]
        return asyncio.create_task(self.batcher.submit(rows, seconds))

    async def busy(self, *names: str, tokens: int = 10) -> asyncio.Task[list[str]]:
        """Submit rows and wait until they are in the model, which is shut."""
        task = self.submit(*names, tokens=tokens)
        await self.model.is_entered()
        return task

    async def know_the_pace(self, seconds_a_token: float) -> None:
        """Have a full batch computed that takes so long."""
        self.model.open.clear()
        task = await self.busy("pace", tokens=self.limits.batch_tokens)
        self.now += seconds_a_token * self.limits.batch_tokens
        self.model.open.set()
        await task
        self.model.open.clear()


def on_a_bench(test: Callable[[Bench], Coroutine[Any, Any, None]], **limits: int) -> Bench:
    """Run the test on a started batcher whose model is shut; open the model and close it after."""
    bench = Bench(Model(), Limits(**limits))

    async def run() -> None:
        await bench.batcher.start()
        try:
            await test(bench)
        finally:
            bench.model.open.set()
            await bench.batcher.close()

    asyncio.run(run())
    return bench


async def settled() -> None:
    """Let every task that can run run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_idle_batcher_computes_a_request_at_once() -> None:
    async def test(bench: Bench) -> None:
        task = await bench.busy("a", "b")
        assert bench.batcher.queued_tokens == 0
        bench.model.open.set()
        assert await task == ["answer to a", "answer to b"]

    bench = on_a_bench(test)
    assert bench.model.batches == [["a", "b"]]
    assert bench.computed == [(2, 20)]


def test_what_comes_while_the_model_computes_is_the_next_batch_in_order() -> None:
    async def test(bench: Bench) -> None:
        tasks = [await bench.busy("first"), *(bench.submit(name) for name in "abc")]
        await settled()
        assert bench.batcher.queued_tokens == 30
        bench.model.open.set()
        assert await asyncio.gather(*tasks) == [
            [f"answer to {name}"] for name in ("first", "a", "b", "c")
        ]

    assert on_a_bench(test).model.batches == [["first"], ["a", "b", "c"]]


def test_a_batch_holds_no_more_tokens_than_its_budget() -> None:
    async def test(bench: Bench) -> None:
        tasks = [await bench.busy("first"), *(bench.submit(name, tokens=40) for name in "abcde")]
        await settled()
        bench.model.open.set()
        await asyncio.gather(*tasks)

    bench = on_a_bench(test)
    assert bench.model.batches == [["first"], ["a", "b"], ["c", "d"], ["e"]]
    assert bench.computed == [(1, 10), (2, 80), (2, 80), (1, 40)]


def test_a_row_larger_than_a_batch_is_a_batch_of_its_own() -> None:
    async def test(bench: Bench) -> None:
        tasks = [
            await bench.busy("first"),
            bench.submit("a"),
            bench.submit("huge", tokens=500),
            bench.submit("b"),
        ]
        await settled()
        bench.model.open.set()
        await asyncio.gather(*tasks)

    assert on_a_bench(test).model.batches == [["first"], ["a"], ["huge"], ["b"]]


def test_a_large_request_delays_a_small_one_by_a_turn() -> None:
    async def test(bench: Bench) -> None:
        large = [f"large {number}" for number in range(12)]
        tasks = [await bench.busy("first"), bench.submit(*large), bench.submit("small")]
        await settled()
        bench.model.open.set()
        answers = await asyncio.gather(*tasks)
        assert answers[1] == [f"answer to {name}" for name in large]

    batches = on_a_bench(test).model.batches
    assert batches[1][:4] == ["large 0", "large 1", "small", "large 2"]
    assert len(batches[1]) == 10  # and what the small one leaves of the batch is the large one's


def test_no_rows_have_no_answers_and_enter_no_model() -> None:
    async def test(bench: Bench) -> None:
        assert await bench.submit() == []

    assert on_a_bench(test).model.batches == []


def test_a_full_queue_refuses_at_once_and_takes_again_what_fits() -> None:
    async def test(bench: Bench) -> None:
        tasks = [await bench.busy("first"), *(bench.submit(name, tokens=25) for name in "ab")]
        await settled()
        with pytest.raises(Overloaded) as refused:  # 60 tokens ahead
            await bench.submit("c")
        assert refused.value.retry_after >= 1
        tasks[2].cancel()
        await settled()
        tasks[2] = bench.submit("d")  # 35 ahead
        await settled()
        bench.model.open.set()
        await asyncio.gather(*tasks)

    bench = on_a_bench(test, queue_tokens=50)
    assert bench.model.batches == [["first"], ["a", "d"]]


def test_a_request_larger_than_the_queue_is_let_in_where_nothing_is_ahead() -> None:
    async def test(bench: Bench) -> None:
        bench.model.open.set()
        assert len(await bench.submit(*"abcdef", tokens=40)) == 6

    assert on_a_bench(test, queue_tokens=50).model.batches == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_a_large_request_in_the_queue_does_not_shut_small_ones_out() -> None:
    async def test(bench: Bench) -> None:
        names = [str(number) for number in range(100)]
        tasks = [await bench.busy("first"), bench.submit(*names)]
        await settled()
        with pytest.raises(Overloaded):
            await bench.submit(*names)
        small = bench.submit("small")
        await settled()
        bench.model.open.set()
        assert await small == ["answer to small"]
        await asyncio.gather(*tasks)

    on_a_bench(test, queue_tokens=50)


def test_what_would_wait_too_long_is_refused_by_the_measured_pace() -> None:
    async def test(bench: Bench) -> None:
        await bench.know_the_pace(0.01)  # so 2 batches take 2 s
        tasks = [await bench.busy("first", tokens=100)]
        tasks += [bench.submit(name, tokens=25) for name in "abcd"]
        await settled()
        tasks.append(bench.submit("e"))  # 2 s to wait
        await settled()
        with pytest.raises(Overloaded) as refused:  # 2.1 s
            await bench.submit("f")
        assert refused.value.retry_after == 3
        bench.model.open.set()
        await asyncio.gather(*tasks)

    on_a_bench(test)


def test_what_would_miss_its_deadline_is_refused_at_once_but_not_where_nothing_is_ahead() -> None:
    async def test(bench: Bench) -> None:
        await bench.know_the_pace(0.01)
        alone = await bench.busy("first", tokens=50)
        with pytest.raises(Overloaded):
            await bench.submit("late", tokens=50, seconds=0.9)
        in_time = bench.submit("in time", tokens=50, seconds=1.1)
        await settled()
        bench.model.open.set()
        await asyncio.gather(alone, in_time)
        assert await bench.submit("slow", tokens=500, seconds=1.0) == ["answer to slow"]

    on_a_bench(test)


def test_a_refusal_can_be_had_by_an_estimate_before_the_rows_are_there() -> None:
    async def test(bench: Bench) -> None:
        task = await bench.busy("first", tokens=60)
        with pytest.raises(Overloaded):
            bench.batcher.admit(1, FOREVER)
        bench.model.open.set()
        await task

    on_a_bench(test, queue_tokens=50)


def test_a_small_batch_raises_no_estimate_and_one_that_was_faster_lowers_it() -> None:
    async def test(bench: Bench) -> None:
        await bench.know_the_pace(0.01)
        small = await bench.busy("small")
        bench.now += 60.0
        bench.model.open.set()
        await small
        bench.model.open.clear()
        first = await bench.busy("first")
        bench.batcher.admit(10, 0.3)  # 0.2 s at the pace of the full batch
        bench.now += 0.01
        bench.model.open.set()
        await first
        bench.model.open.clear()
        last = await bench.busy("last", tokens=50)
        bench.batcher.admit(50, 0.2)  # 0.1 s at 1 ms a token
        bench.model.open.set()
        await last

    on_a_bench(test)


def test_what_came_late_in_the_queue_is_not_computed() -> None:
    async def test(bench: Bench) -> None:
        tasks = [await bench.busy("first"), bench.submit("late", seconds=5.0), bench.submit("a")]
        await settled()
        bench.now = 5.0
        bench.model.open.set()
        with pytest.raises(Late):
            await tasks[1]
        await asyncio.gather(tasks[0], tasks[2])

    assert on_a_bench(test).model.batches == [["first"], ["a"]]


def test_a_large_request_that_comes_late_half_way_is_not_computed_on() -> None:
    async def test(bench: Bench) -> None:
        large = bench.submit(*"abcd", tokens=50, seconds=5.0)
        await bench.model.is_entered()
        bench.now = 5.0
        bench.model.open.set()
        with pytest.raises(Late):
            await large

    assert on_a_bench(test).model.batches == [["a", "b"]]


def test_a_cancelled_request_leaves_the_queue() -> None:
    async def test(bench: Bench) -> None:
        tasks = [await bench.busy("first"), *(bench.submit(name) for name in "ab")]
        await settled()
        tasks[1].cancel()
        await settled()
        assert bench.batcher.queued_tokens == 10
        bench.model.open.set()
        await asyncio.gather(tasks[0], tasks[2])

    assert on_a_bench(test).model.batches == [["first"], ["b"]]


def test_a_request_cancelled_in_the_model_disturbs_nobody() -> None:
    async def test(bench: Bench) -> None:
        large = await bench.busy(*"abcd", tokens=50)
        small = bench.submit("small")
        await settled()
        large.cancel()
        await settled()
        bench.model.open.set()
        assert await small == ["answer to small"]

    assert on_a_bench(test).model.batches == [["a", "b"], ["small"]]


def test_an_error_of_the_model_reaches_its_own_batch_alone_and_says_its_cause() -> None:
    async def test(bench: Bench) -> None:
        tasks = [await bench.busy("first")]
        tasks += [bench.submit("poison", tokens=50), bench.submit("beside", tokens=50)]
        tasks += [bench.submit("after", tokens=50)]
        await settled()
        bench.model.open.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[0] == ["answer to first"]
        assert outcomes[3] == ["answer to after"]
        failed = outcomes[1:3]
        assert [type(error) for error in failed] == [Failed, Failed]
        assert failed[0] is not failed[1]
        assert [repr(error.__cause__) for error in failed if isinstance(error, Failed)] == [
            "ValueError('cannot compute this')"
        ] * 2

    on_a_bench(test)


def test_a_request_that_failed_in_a_part_leaves_the_queue() -> None:
    async def test(bench: Bench) -> None:
        large = await bench.busy("poison", *"bcdef", tokens=50)
        bench.model.open.set()
        with pytest.raises(Failed):
            await large
        assert bench.batcher.queued_tokens == 0

    batches = on_a_bench(test).model.batches
    assert batches[0] == ["poison", "b"]
    assert len(batches) <= 3  # the thread may take one more before the loop hears of the error


def test_a_model_that_leaves_answers_out_fails() -> None:
    async def test(bench: Bench) -> None:
        batcher: Batcher[Row, str] = Batcher(lambda rows: ["one"], Limits(), Deaf())
        await batcher.start()
        with pytest.raises(Failed) as failed:
            await batcher.submit([Row("a"), Row("b")], FOREVER)
        assert str(failed.value.__cause__) == "1 answers to 2 rows"
        await batcher.close()

    on_a_bench(test)


def test_closing_computes_what_waits_and_refuses_what_comes() -> None:
    async def test(bench: Bench) -> None:
        tasks = [await bench.busy("first"), bench.submit("a")]
        await settled()
        closing = asyncio.create_task(bench.batcher.close())
        await settled()
        with pytest.raises(Overloaded):
            await bench.submit("too late")
        assert not closing.done()
        bench.model.open.set()
        await closing
        assert all(task.done() for task in tasks)
        assert [await task for task in tasks] == [["answer to first"], ["answer to a"]]

    assert on_a_bench(test).model.batches == [["first"], ["a"]]


REQUESTS = st.lists(st.lists(st.integers(1, 150), max_size=8), max_size=12)


@given(requests=REQUESTS, cancelled=st.sets(st.integers(0, 11)))
def test_answers_go_back_to_their_own_callers(
    requests: list[list[int]], cancelled: set[int]
) -> None:
    async def test(bench: Bench) -> None:
        first = await bench.busy("first")
        tasks = [
            asyncio.create_task(
                bench.batcher.submit(
                    [Row(f"{number}.{row}", size) for row, size in enumerate(sizes)], FOREVER
                )
            )
            for number, sizes in enumerate(requests)
        ]
        await settled()
        for number in cancelled & set(range(len(tasks))):
            tasks[number].cancel()
        bench.model.open.set()
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
        for number, (sizes, outcome) in enumerate(zip(requests, outcomes[1:], strict=True)):
            if isinstance(outcome, BaseException):
                assert number in cancelled
            else:
                assert outcome == [f"answer to {number}.{row}" for row in range(len(sizes))]

    bench = on_a_bench(test, queue_tokens=1_000_000)
    computed = [name for batch in bench.model.batches for name in batch]
    assert len(computed) == len(set(computed))
    for rows, tokens in bench.computed:
        assert tokens <= bench.limits.batch_tokens or rows == 1


def test_as_many_threads_compute_as_the_model_allows_and_no_more() -> None:
    inside, most, entered = 0, 0, threading.Semaphore(0)
    lock, both = threading.Lock(), threading.Event()

    def answer(rows: list[Row]) -> list[str]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        entered.release()
        assert both.wait(30)
        with lock:
            inside -= 1
        return [row.name for row in rows]

    async def run() -> None:
        batcher = Batcher(answer, Limits(), Deaf(), threads=2)
        await batcher.start()
        names = [f"{number}" for number in range(12)]
        tasks = []
        for name in names[:2]:  # each finds a thread idle
            tasks.append(asyncio.create_task(batcher.submit([Row(name, 100)], FOREVER)))
            await asyncio.to_thread(entered.acquire)
        tasks += [
            asyncio.create_task(batcher.submit([Row(name, 50)], FOREVER)) for name in names[2:]
        ]
        await settled()
        assert batcher.queued_tokens == 500
        both.set()
        assert await asyncio.gather(*tasks) == [[name] for name in names]
        await batcher.close()

    asyncio.run(run())
    assert most == 2


def test_the_thread_that_computes_gives_way_to_the_one_that_answers() -> None:
    def answer(rows: list[Row]) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) for _ in rows]

    async def ask() -> list[int]:
        batcher: Batcher[Row, int] = Batcher(answer, Limits(), Deaf())
        await batcher.start()
        try:
            return await batcher.submit([Row("a")], FOREVER)
        finally:
            await batcher.close()

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert asyncio.run(ask()) == [min(own + 5, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
