"""The guard without a server: networks, rates, settings and keys."""

import asyncio
import hashlib
import importlib
import stat
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from flows.keys import make_key

KEY = "a-key-of-the-test"


pytestmark = pytest.mark.usefixtures("bento_on_path")


def module(name: str) -> Any:
    """Import a module as the Bento does."""
    return importlib.import_module(name)


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def status_of(guard: Any, server: str, scheme: str = "http", key: str = KEY) -> int:
    """Ask for the card of the model at an address of this machine."""
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    scope = {
        "type": "http",
        "path": "/model",
        "method": "GET",
        "scheme": scheme,
        "server": (server, 3000),
        "headers": [(b"host", f"{server}:3000".encode()), (b"x-api-key", key.encode())],
        "ekiben": module("observing").Request("an-id", "/model"),
    }
    asyncio.run(guard(scope, receive, send))
    status: int = said[0]["status"]
    return status


def guard_with(keys: Any = None, clock: Any = None, **settings: Any) -> Any:
    """Return a guard before an application that answers 200."""

    async def app(_: Any, __: Any, send: Any) -> None:
        await module("replies").reply(send, 200, {})

    return module("guard").Guard(
        app, module("settings").Settings(**settings), keys, clock or Clock()
    )


def keys_of(file: Path) -> Any:
    """Return the keys of a file with one key."""
    file.write_text(f"me {hashlib.sha256(KEY.encode()).hexdigest()}\n", encoding="utf-8")
    return module("keys").Keys(file, lambda: None)


def test_another_address_needs_keys_and_tls_or_a_word(tmp_path: Path) -> None:
    keys = keys_of(tmp_path / "keys")
    assert status_of(guard_with(), "127.0.0.1") == 200
    assert status_of(guard_with(), "10.0.0.1", "https") == 403
    assert status_of(guard_with(keys), "10.0.0.1") == 403
    assert status_of(guard_with(keys), "10.0.0.1", "https") == 200
    assert status_of(guard_with(keys, allow_plaintext=True), "10.0.0.1") == 200
    assert status_of(guard_with(keys), "10.0.0.1", "https", key="bad") == 401


@pytest.mark.parametrize("reads", [True, False])
def test_a_refusal_waits_for_the_body_and_for_nothing_after_it(reads: bool) -> None:
    parts = [{"type": "http.request", "body": b"{}", "more_body": False}]
    calls = 0

    async def receive() -> Any:
        nonlocal calls
        calls += 1
        if parts:
            return parts.pop()
        raise AssertionError("the caller has not gone, so this would wait")

    async def app(_: Any, receive: Any, __: Any) -> None:
        if reads:
            await receive()
        raise module("replies").Refusal(503, "overload", "too much waits")

    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    guard = module("guard").Guard(app, module("settings").Settings(), None, Clock())
    scope = {
        "type": "http", "path": "/classify", "method": "POST", "scheme": "http",
        "server": ("127.0.0.1", 3000),
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "ekiben": module("observing").Request("an-id", "/classify"),
    }  # fmt: skip
    asyncio.run(guard(scope, receive, send))
    assert [each.get("status") for each in said] == [503, None]
    assert calls == 1


def test_a_key_that_asks_too_often_waits(tmp_path: Path) -> None:
    clock = Clock()
    guard = guard_with(keys_of(tmp_path / "keys"), clock, rate_per_minute=6)
    assert [status_of(guard, "127.0.0.1") for _ in range(2)] == [200, 429]
    clock.now = 9.0
    assert status_of(guard, "127.0.0.1") == 429
    clock.now = 10.0
    assert status_of(guard, "127.0.0.1") == 200


def test_all_settings_that_cannot_be_used_are_told_together() -> None:
    settings = module("settings")
    asked = {
        "EKIBEN_SERVE_BODY_BYTES": "-1",
        "EKIBEN_SERVE_NOTHING": "1",
        "EKIBEN_SERVE_ALLOW_PLAINTEXT": "perhaps",
    }
    with pytest.raises(settings.SettingsError) as told:
        settings.read_settings(asked)
    assert all(name in str(told.value) for name in asked)
    read = settings.read_settings({"EKIBEN_SERVE_ALLOWED_HOSTS": "A.example, b.example"})
    assert read.allowed_hosts == ("a.example", "b.example")


def test_a_made_key_opens_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = make_key(file, "one", replace=False)
    second = make_key(file, "two", replace=False)
    keys = module("keys").Keys(file, lambda: None)
    assert (keys.name_of(first.encode()), keys.name_of(second.encode())) == ("one", "two")
    assert keys.name_of(b"") is None
    assert first not in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="--replace"):
        make_key(file, "one", replace=False)
    make_key(file, "one", replace=True)
    assert module("keys").Keys(file, lambda: None).name_of(first.encode()) is None
