"""The service over HTTP, as BentoML serves it: its guard, its routes and its refusals."""

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from served_bentos import Served, serving
from toy_bentos import toy_bento

KEY = "a-key-of-the-test"
XYZZY = "xyzzy"


def write_keys(file: Path, **keys: str) -> None:
    """Replace a keys file by another."""
    lines = [f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n" for name, key in keys.items()]
    partial = file.with_suffix(".partial")
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(file)


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bento(tmp_path_factory.mktemp("bento"), "v1")


@pytest.fixture(scope="module")
def served(bento: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(bento, tmp_path_factory.mktemp("plain")) as found:
        yield found


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    write_keys(file, me=KEY)
    return file


@pytest.fixture(scope="module")
def locked(bento: Path, keys_file: Path) -> Iterator[Served]:
    with serving(
        bento,
        keys_file.parent,
        EKIBEN_SERVE_KEYS_FILE=str(keys_file),
        EKIBEN_SERVE_BODY_BYTES="20000",
        EKIBEN_SERVE_READ_SECONDS="1",
    ) as found:
        yield found


def test_bentomls_own_client_is_answered(served: Served) -> None:
    # In a process of its own: BentoML warns while it is imported.
    script = (
        "import bentoml, json, sys\n"
        "with bentoml.SyncHTTPClient(sys.argv[1]) as client:\n"
        "    print(json.dumps(client.classify(texts=['good', 'bad'])))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, served.url], check=True, capture_output=True, text=True
    )
    assert [answer["label"] for answer in json.loads(told.stdout)] == ["one", "two"]


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "a lone surrogate": (b'{"texts": ["\\ud800"]}', "body"),
    "raw surrogates": (b'{"texts": ["\xed\xa0\x80"]}', "body"),
    "NaN": (b'{"texts": NaN}', "body"),
    "deep nesting": (b'{"texts": ' + b"[" * 5000 + b"]" * 5000 + b"}", "body"),
    "a huge number": (b'{"texts": [' + b"9" * 5000 + b"]}", ""),
    "an infinite number": (b'{"texts": [1e999]}', ""),
    "a blank text": (b'{"texts": ["xyzzy", " "]}', "texts[1]"),
    "a long text": (b'{"texts": ["' + b"xyzzy" * 2001 + b'"]}', "texts[0]"),
    "another key beside": (b'{"texts": ["xyzzy"], "more": 1}', "body"),
    "no texts": (b'{"texts": []}', "texts"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_a_422_that_says_where(served: Served, case: str) -> None:
    body, place = UNUSABLE[case]
    answer = served.post("/classify", body)
    assert answer.status_code == 422
    assert answer.json()["details"][0]["at"].startswith(place)
    assert XYZZY not in answer.text
    assert XYZZY not in served.log.read_text(encoding="utf-8")


def test_of_a_key_that_is_there_twice_the_last_counts(served: Served) -> None:
    answers = served.post("/classify", b'{"texts": ["good"], "texts": ["bad"]}').json()
    assert [answer["label"] for answer in answers] == ["two"]


def test_a_bad_line_of_bulk_is_answered_and_the_next_go_on(served: Served) -> None:
    lines = [b'{"text": "good", "id": "a"}', b"nope", b"", b'{"text": 1}', b'{"text": "bad"}']
    answer = served.post("/bulk", b"\n".join(lines), Content_Type="application/x-ndjson")
    items = [json.loads(line) for line in answer.text.splitlines()]
    assert [item["line"] for item in items] == [1, 2, 4, 5]
    assert [item.get("label") for item in items] == ["one", None, None, "two"]
    assert items[0]["id"] == "a"
    assert "error" in items[1] and "error" in items[2]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Host": "localhost:1"}, 200),
    ],
)
def test_a_head_that_is_not_allowed_is_refused(
    served: Served, headers: dict[str, str], status: int
) -> None:
    answer = served.post("/classify", {"texts": ["good"]}, **headers)
    assert answer.status_code == status


PATHS = (
    *("/", "/classify", "/bulk", "/model", "/metrics", "/docs.json", "/schema.json", "/healthz"),
    *("//livez", "/livez/", "/livez/../metrics", "/livez/..%2fmetrics", "/%2e%2e/livez", "/LIVEZ"),
    *("/livez;x", "/livez%00", "/livez%3f", "/livez%20", "/./livez", "http://a/metrics"),
)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_without_a_good_key_no_path_is_answered(locked: Served, path: str, method: str) -> None:
    head = f"{method} {path} HTTP/1.1\nHost: localhost\nConnection: close\n"
    bad = (
        "",
        "X-API-Key: bad\n",
        "Authorization: Bearer \n",
        f"Authorization: Basic {KEY}\n",
        f"X-API-Key: {KEY}\nX-API-Key: bad\n",
    )
    assert {locked.raw(head + key) for key in bad} == {401}
    assert locked.raw(f"{head}X-API-Key: {KEY}\n") != 401


def test_probes_are_answered_to_anyone_with_a_word(locked: Served) -> None:
    head = "GET {} HTTP/1.1\nHost: 10.0.0.1:3000\nConnection: close\n"
    assert locked.raw(head.format("/livez")) == locked.raw(head.format("/readyz")) == 200
    assert httpx.get(f"{locked.url}/readyz").text == "ready\n"


def test_bodies_that_are_too_large_or_too_slow_are_refused(locked: Served) -> None:
    head = (
        "POST /classify HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        f"Authorization: Bearer {KEY}\n"
    )
    assert locked.raw(f"{head}Content-Length: 20001\n") == 413
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    assert locked.raw(f"{head}Transfer-Encoding: chunked\n", chunk * 2) == 413
    assert locked.raw(f"{head}Content-Length: 10\n", b"{") == 408


def test_who_sends_many_requests_at_once_and_leaves_causes_no_error(served: Served) -> None:
    body = b'{"texts": ["good"]}'
    head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            connection.sendall(request * 5)
    assert served.post("/classify", {"texts": ["good"]}).status_code == 200
    assert "Traceback" not in served.log.read_text(encoding="utf-8")


def test_no_key_is_in_the_log_or_the_metrics(locked: Served) -> None:
    assert httpx.get(f"{locked.url}/metrics").status_code == 401
    metrics = httpx.get(f"{locked.url}/metrics", headers={"X-API-Key": KEY}).text
    assert 'ekiben_refusals_total{reason="key"}' in metrics
    log = locked.log.read_text(encoding="utf-8")
    assert '"key":"me"' in log
    assert KEY not in log + metrics


def test_the_page_keeps_its_policy(served: Served) -> None:
    page = httpx.get(served.url)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_keys_are_rotated_without_a_restart_and_a_broken_file_keeps_the_last(
    locked: Served, keys_file: Path
) -> None:
    def status(key: str) -> int:
        return httpx.get(f"{locked.url}/model", headers={"X-API-Key": key}).status_code

    def comes(key: str, expected: int) -> bool:
        deadline = time.monotonic() + 30
        while status(key) != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        return status(key) == expected

    write_keys(keys_file, me=KEY, other="another")
    assert comes("another", 200)
    assert status(KEY) == 200
    keys_file.write_text("broken", encoding="utf-8")
    deadline = time.monotonic() + 30
    while "stay in force" not in locked.log.read_text() and time.monotonic() < deadline:
        assert status(KEY) == 200
        time.sleep(0.1)
    assert "stay in force" in locked.log.read_text()
    assert status("another") == 200
    write_keys(keys_file, me=KEY)
    assert comes("another", 401)
