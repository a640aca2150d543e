"""What a run shows in Prefect: the progress of a stage, which no run depends on."""

import logging
from uuid import uuid4

import httpx
import pytest
from tables import config_of

from flows import artifacts
from flows.artifacts import ProgressArtifacts


def test_progress_goes_on_without_the_server_of_prefect_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    here = False

    def ask(what: str) -> object:
        asked.append(what)
        if not here:
            raise httpx.ConnectError("All connection attempts failed")
        return uuid4()

    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: ask("create"))
    monkeypatch.setattr(artifacts, "update_progress_artifact", lambda *_, **__: ask("update"))
    monkeypatch.setattr(artifacts, "_SECONDS_BETWEEN_UPDATES", 0.0)
    show = ProgressArtifacts(config_of())
    with caplog.at_level(logging.WARNING, logger="ekiben"):
        for done in range(3):
            show("finetune", done, 10, "updates")
    assert asked == ["create"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "progress is not shown: Prefect's server does not answer (ConnectError)"
    ]
    here = True
    for done in (4, 5):
        show("finetune", done, 10, "updates")
    assert asked[3:] == ["create", "update"]
