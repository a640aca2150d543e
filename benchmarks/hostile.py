"""Try the service with what no honest client sends, and see that it stays up, shut and right.

`python -m benchmarks.hostile [fuzz] [bypass]` serves a released pipeline's champion (`--pipeline
sms_spam`) by `ekiben serve`. Fuzz: `--requests` raw requests of a hostile corpus, drawn by a seed.
Bypass: every route, method, key and path trick on a service with keys. `--quick` does few.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from benchmarks.endurance import Served, served, show
from benchmarks.hostile_requests import KEYS, bypasses, hostile_request
from benchmarks.line import RESULTS, surroundings
from benchmarks.load import family_of

PARTS = ("fuzz", "bypass")
OPEN = ("/livez", "/readyz")
_AT_ONCE = 8
_SECONDS_TO_ANSWER = 15.0
_SHARE_TO_WARM_UP = 0.1
_WORDS_TO_ANYONE = (b"alive\n", b"ready\n", b"")


async def send_raw(port: int, request: bytes, *, wait: bool) -> tuple[str, bytes]:
    """Return the status of the first answer, or what came instead, and the answer as it came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    try:
        with suppress(ConnectionError):
            writer.write(request)
            await writer.drain()
        if not wait:
            return "left", b""
        async with asyncio.timeout(_SECONDS_TO_ANSWER):
            while part := await reader.read(65536):
                came += part
                if _is_whole(came):
                    break
    except TimeoutError:
        return "silent", came
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    words = came.split(b" ", 2)
    return (words[1].decode() if len(words) > 2 else "closed"), came


def _is_whole(came: bytes) -> bool:
    head, blank, body = came.lower().partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    _, said, length = head.partition(b"content-length:")
    return bool(blank and said) and len(body) >= int(length.split(b"\r\n", 1)[0])


def fuzz(service: Served, requests: int) -> dict[str, Any]:
    """Return what came of so many hostile requests, and of the service by them."""
    answer, processes = _answer(service), _processes(service)
    draw = random.Random(0)  # noqa: S311 - what is drawn has to be the same every time
    statuses: Counter[str] = Counter()
    by_case: dict[str, Counter[str]] = {}

    async def some(count: int) -> None:
        async def client(own: int) -> None:
            for _ in range(own):
                case, request, wait = hostile_request(draw)
                status, _ = await send_raw(service.port, request, wait=wait)
                statuses[status] += 1
                by_case.setdefault(case, Counter())[status] += 1

        await asyncio.gather(*(client(count // _AT_ONCE) for _ in range(_AT_ONCE)))

    asyncio.run(some(int(requests * _SHARE_TO_WARM_UP)))
    before = _memory(service)
    asyncio.run(some(int(requests * (1 - _SHARE_TO_WARM_UP))))
    return {
        "requests": statuses.total(),
        "statuses": dict(sorted(statuses.items())),
        "status_500": statuses["500"],
        "crashes": len(processes - _processes(service)),
        "tracebacks": service.log.read_text(encoding="utf-8").count("Traceback"),
        "memory_growth_mib": round(_memory(service) - before, 1),
        "same_answer_after": _answer(service) == answer,
        "by_case": {case: dict(sorted(found.items())) for case, found in sorted(by_case.items())},
    }


def bypass(service: Served, most: int | None) -> dict[str, Any]:
    """Return how many requests without a good key got more than the words allowed."""
    tricks = list(bypasses())
    if most is not None:
        tricks = random.Random(0).sample(tricks, most)  # noqa: S311 - as above
    statuses: Counter[str] = Counter()
    through: list[str] = []

    async def all_of_them() -> None:
        async def client(own: list[tuple[str, bytes]]) -> None:
            for name, request in own:
                status, came = await send_raw(service.port, request, wait=True)
                statuses[status] += 1
                if not _is_shut(status, came):
                    through.append(f"{name}: {status}")

        await asyncio.gather(*(client(tricks[start::_AT_ONCE]) for start in range(_AT_ONCE)))

    asyncio.run(all_of_them())
    return {
        "requests": statuses.total(),
        "statuses": dict(sorted(statuses.items())),
        "bypasses": len(through),
        "through": through[:20],
    }


def _is_shut(status: str, came: bytes) -> bool:
    """Return whether it is a refusal, or a word of a probe, which anyone is told."""
    if status in ("400", "401", "closed"):
        return True
    allowed = (*_WORDS_TO_ANYONE, b'{"error":"use GET or HEAD here","details":[]}')
    return status in ("200", "405") and came.partition(b"\r\n\r\n")[2] in allowed


def _answer(service: Served) -> list[Any]:
    url = f"http://127.0.0.1:{service.port}/classify"
    asked = {"texts": service.texts[:1]}
    found: list[Any] = httpx.post(url, json=asked, headers=service.headers, timeout=60).json()
    return found


def _processes(service: Served) -> set[tuple[int, float]]:
    return {(process.pid, process.create_time()) for process in family_of(service.process)}


def _memory(service: Served) -> float:
    return sum(process.memory_info().rss for process in family_of(service.process)) / 2**20


def main(arguments: list[str]) -> None:
    """Try the parts named, or all, and write `benchmarks/results/hostile.json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.hostile")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--pipeline", default="sms_spam")
    parser.add_argument("--requests", type=int, default=100_000, help="of the fuzz")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is named {min(unknown)!r}; expected some of {', '.join(PARTS)}")
    if options.quick:
        options.requests = min(options.requests, 1000)
    file = RESULTS / f"hostile{'_quick' if options.quick else ''}.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    command = " ".join(["python", "-m", "benchmarks.hostile", *arguments])
    for part in options.parts or PARTS:
        with (
            tempfile.TemporaryDirectory(prefix="ekiben-hostile-") as folder,
            served(options.pipeline, Path(folder), KEYS if part == "bypass" else None) as service,
        ):
            if part == "fuzz":
                found = fuzz(service, options.requests)
            else:
                found = bypass(service, 1000 if options.quick else None)
        known = {**known, **surroundings(), "command": command, part: {"command": command, **found}}
        file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        show(part, {name: value for name, value in found.items() if name != "by_case"})


if __name__ == "__main__":
    main(sys.argv[1:])
