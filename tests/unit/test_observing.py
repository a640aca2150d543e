"""The log of requests: a line each, but one for all that a second of overload refuses."""

import asyncio
import importlib
import json
import logging
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("bento_on_path")


def test_what_overload_refuses_has_one_line_and_every_other_request_its_own(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observing = importlib.import_module("observing")
    measures = importlib.import_module("measures").Measures("smoke:1", "linear")
    monkeypatch.setattr(observing, "_SECONDS_OF_SHED", 0.0)
    reasons = iter(["overload", "overload", "key", "", "overload"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["ekiben"].refused = next(reasons)
        await send({"type": "http.response.start", "status": 503})

    ids = []

    async def send(message: Any) -> None:
        ids.append(dict(message["headers"])[b"x-request-id"])

    async def ask(times: int) -> None:
        observed = observing.Observed(app, measures)
        for _ in range(times):
            scope = {"type": "http", "path": "/classify", "method": "POST", "headers": []}
            await observed(scope, None, send)
        await asyncio.sleep(0.01)  # the loop has come round, and told of what was refused

    with caplog.at_level(logging.INFO, "ekiben.serve"):
        asyncio.run(ask(4))
        asyncio.run(ask(1))
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    shed = [line["requests"] for line in lines if line["refused"] == "overload"]
    assert shed == [2, 1]
    assert [line["refused"] for line in lines if line["refused"] != "overload"] == ["key", ""]
    assert len(set(ids)) == 5 and {len(each) for each in ids} == {32}
